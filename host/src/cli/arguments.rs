//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A native connector host: Kafka Connect's REST, configs and topics, without the JVM.
#[derive(Debug, Parser)]
#[command(name = "tributary", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a standalone worker until SIGTERM or Ctrl-C.
    Standalone {
        /// The worker's properties, with Kafka Connect's names.
        properties: PathBuf,
        /// Connectors to create or update at start: JSON as REST takes it, or properties.
        connectors: Vec<PathBuf>,
    },
    /// Run a worker of a group until SIGTERM or Ctrl-C: configs, offsets and statuses are in Kafka topics.
    Distributed {
        /// The worker's properties, with Kafka Connect's names.
        properties: PathBuf,
    },
    /// List the classes that a worker knows, and what is wrong with plugins that it cannot use.
    Plugins(PluginsCommand),
    /// Check connector files without running anything; the exit code is 1 if one is wrong.
    Validate {
        /// The worker's properties: plugin.path and the default converters come from there.
        #[arg(long, value_name = "FILE")]
        properties: Option<PathBuf>,
        /// Connector files.
        #[arg(required = true)]
        connectors: Vec<PathBuf>,
    },
    /// Show the whole path: generated payments and a real file through topics of the embedded log into files.
    Demo(DemoCommand),
    /// List topics, or describe one.
    Topics {
        #[command(flatten)]
        cluster: Cluster,
        /// Describe this topic.
        topic: Option<String>,
        /// Print JSON.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Write lines of standard input, or of a file, to a topic.
    Produce {
        #[command(flatten)]
        cluster: Cluster,
        /// The topic.
        topic: String,
        /// The file; standard input if there is none.
        file: Option<PathBuf>,
        /// What stands between key and value in a line.
        #[arg(short = 'k', long, value_name = "TEXT")]
        key_separator: Option<String>,
        /// A header of every record, `name=value`; may be repeated.
        #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
        headers: Vec<String>,
        /// Write to this partition.
        #[arg(short, long)]
        partition: Option<i32>,
        /// An empty value is a tombstone.
        #[arg(short = 'Z', long)]
        empty_is_null: bool,
    },
    /// Print the records of a topic.
    Consume {
        #[command(flatten)]
        cluster: Cluster,
        /// The topic.
        topic: String,
        /// Read this partition only.
        #[arg(short, long)]
        partition: Option<i32>,
        /// Begin at this offset; negative: so many records before the end.
        #[arg(short, long, allow_negative_numbers = true, conflicts_with = "since")]
        offset: Option<i64>,
        /// Begin at the first record of this time, in ms since the epoch.
        #[arg(long, value_name = "MS")]
        since: Option<i64>,
        /// Stop after so many records.
        #[arg(short, long)]
        count: Option<u64>,
        /// Stop at the end of the topic.
        #[arg(short, long)]
        exit_at_end: bool,
        /// How to print a record: %t %p %o %k %v %T %h, and \\n \\t.
        #[arg(short, long, conflicts_with = "json")]
        format: Option<String>,
        /// Print JSON, one record a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Dead letters: list their topics, show them, send them on again.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
pub(super) enum DlqCommand {
    /// Count the letters of each topic by reason.
    List {
        #[command(flatten)]
        cluster: Cluster,
        /// These topics; without any, those in the configs of a worker's connectors.
        topics: Vec<String>,
        /// The REST address of the worker to ask.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8083")]
        worker: String,
        /// Print JSON.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Print letters: the record, its headers, and what went wrong.
    Show {
        #[command(flatten)]
        cluster: Cluster,
        /// The dead-letter topic.
        topic: String,
        /// Begin at this offset.
        #[arg(long, value_name = "OFFSET")]
        from: Option<i64>,
        /// At most so many letters.
        #[arg(short, long)]
        count: Option<u64>,
        #[command(flatten)]
        filter: LetterFilter,
        /// Print JSON, one letter a line.
        #[arg(short = 'J', long, conflicts_with = "traces")]
        json: bool,
        /// Print stack traces as well.
        #[arg(long)]
        traces: bool,
    },
    /// Write the letters' records to the topics that they came from, or to another, and remember how far.
    Replay {
        #[command(flatten)]
        cluster: Cluster,
        /// The dead-letter topic.
        topic: String,
        /// Write to this topic instead of each letter's own.
        #[arg(long, value_name = "TOPIC")]
        to: Option<String>,
        #[command(flatten)]
        filter: LetterFilter,
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// At most so many records a second.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        rate: Option<u64>,
        /// At most so many letters.
        #[arg(short, long)]
        count: Option<u64>,
        /// Begin at this offset, whatever was replayed before.
        #[arg(long, value_name = "OFFSET")]
        from: Option<i64>,
        /// Remember the position in this consumer group.
        #[arg(long)]
        group: Option<String>,
        /// Write to the partition that the record was read from.
        #[arg(long)]
        keep_partition: bool,
        /// Print the report as JSON.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

/// Which letters; all conditions have to hold.
#[derive(Debug, Args)]
pub(super) struct LetterFilter {
    /// Of this connector.
    #[arg(long, value_name = "NAME")]
    pub connector: Option<String>,
    /// That failed in this stage, such as VALUE_CONVERTER or TASK_PUT.
    #[arg(long)]
    pub stage: Option<String>,
    /// Whose exception's class or message contains this text, in any case.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// That came from this topic, or were to go to it.
    #[arg(long, value_name = "TOPIC")]
    pub origin: Option<String>,
    /// Of this time or later, in ms since the epoch.
    #[arg(long, value_name = "MS")]
    pub since: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct DemoCommand {
    /// Payments to generate, and lines of the file.
    #[arg(long, default_value_t = 500_000)]
    pub records: u64,
    /// Where to put the worker's data and the files; replaced if an earlier demo made it.
    #[arg(long, value_name = "DIR", default_value = "tributary-demo")]
    pub dir: PathBuf,
    /// Stop after the summary instead of keeping the worker running.
    #[arg(long)]
    pub exit: bool,
}

/// Where a log is.
#[derive(Debug, Args)]
pub(super) struct Cluster {
    /// Kafka's servers, or `embedded`.
    #[arg(short, long, value_name = "SERVERS", default_value = "embedded")]
    pub bootstrap_server: String,
    /// The worker's data directory, where the embedded log is.
    #[arg(short, long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// A client setting, `name=value`; may be repeated.
    #[arg(short = 'X', long = "setting", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PluginsCommand {
    /// Directories of plugins, as in the worker's plugin.path.
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub plugin_path: Vec<PathBuf>,
    /// Take plugin.path from these worker properties.
    #[arg(long, value_name = "FILE")]
    pub properties: Option<PathBuf>,
    #[command(subcommand)]
    pub action: Option<PluginsAction>,
}

#[derive(Debug, Subcommand)]
pub(super) enum PluginsAction {
    /// Write the plugin.toml of a library beside it. Executes the library: for its author.
    Manifest {
        /// The library file.
        library: PathBuf,
    },
}
