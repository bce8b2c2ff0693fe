//! Puts the secrets of its config into everything that it says: log lines of every level, validation, task configs, errors,
//! panics and the reasons why a record is refused. `leak.in` says where it fails, `leak.by` how: `error`, `panic`, `retry`.

use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::sink::{Failures, TopicPartitionOffset};
use tributary_sdk::*;

/// Keys with secrets; `plain` is one whose definition does not say so.
fn definition() -> ConfigDef {
    let key = |name, kind| ConfigKey::nullable(name, kind, Importance::High, "Something that nobody may read.");
    ConfigDef::new()
        .define(key("secret", Type::Password))
        .define(key("plain", Type::String))
        .define(key("leak.in", Type::String))
        .define(key("leak.by", Type::String))
}

#[derive(Default, Clone)]
struct Leak {
    config: Config,
    context: Option<Context>,
}

impl Leak {
    fn new(context: &Context, config: &Config) -> Self {
        Self { config: config.clone(), context: Some(context.clone()) }
    }

    /// Everything that there is to tell, in several forms.
    fn told(&self) -> String {
        let of = |key| self.config.get(key).unwrap_or_default().to_owned();
        let (secret, plain, url) = (of("secret"), of("plain"), of("url"));
        let json = serde_json::json!({ "password": secret, "plain": plain });
        format!("login with {secret} and {plain} at {url} failed; {secret:?} {plain:?} {json}")
    }

    fn tell(&self, call: &str) -> Result<()> {
        if let Some(context) = &self.context {
            for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
                let fields = serde_json::json!({ "told": self.told() }).to_string();
                context.log(level, &format!("{call}: {}", self.told()), &fields);
            }
        }
        if self.config.get("leak.in") != Some(call) {
            return Ok(());
        }
        match self.config.get("leak.by") {
            Some("panic") => panic!("{}", self.told()),
            Some("retry") => Err(Error::retriable(self.told())),
            _ => Err(Error::failed(self.told())),
        }
    }
}

macro_rules! connector {
    ($trait:ident, $name:ident, $task:ident) => {
        #[derive(Default)]
        struct $name(Leak);

        impl $trait for $name {
            type Task = $task;

            fn config_def() -> ConfigDef {
                definition()
            }

            fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
                let leak = Leak { config: config.clone(), context: None };
                let wrong = config.get("leak.in") == Some("validate");
                if wrong { vec![("plain".to_owned(), leak.told())] } else { Vec::new() }
            }

            fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
                self.0 = Leak::new(context, config);
                self.0.tell("connector.start")
            }

            fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
                self.0.tell("task_configs")?;
                // What a connector gives its tasks is stored and shown.
                let mut config = self.0.config.clone();
                let of = |key| self.0.config.get(key).unwrap_or_default().to_owned();
                config.set("url", format!("db://user:{}@host/{}", of("secret"), of("plain")));
                Ok(vec![config])
            }

            fn stop(&mut self) -> Result<()> {
                self.0.tell("connector.stop")
            }
        }
    };
}

connector!(SourceConnector, Source, LeakySource);
connector!(SinkConnector, Sink, LeakySink);

#[derive(Default)]
struct LeakySource(Leak);

impl SourceTask for LeakySource {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.0 = Leak::new(context, config);
        // What was written under `url` has to arrive as the connector made it.
        let of = |key| config.get(key).unwrap_or_default().to_owned();
        let expected = format!("db://user:{}@host/{}", of("secret"), of("plain"));
        if of("url") != expected {
            return Err(Error::failed("the task's config is not what the connector made"));
        }
        self.0.tell("start")
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        if let Some(context) = &self.0.context {
            context.wait(std::time::Duration::from_millis(100));
        }
        output.emit(Batch::new("leaky", Column::text(StringArray::from(vec!["a line"]))))?;
        self.0.tell("poll")
    }
}

#[derive(Default)]
struct LeakySink(Leak);

impl SinkTask for LeakySink {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.0 = Leak::new(context, config);
        self.0.tell("start")
    }

    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()> {
        if self.0.config.get("leak.in") == Some("record") {
            (0..batch.len()).for_each(|row| failures.fail(row, self.0.told()));
        }
        self.0.tell("put")
    }

    fn flush(&mut self, _: &[TopicPartitionOffset]) -> Result<()> {
        self.0.tell("flush")
    }
}

export_plugin!(
    Plugin::new("leaky", "0.1.0").source::<Source>("com.example.LeakySource").sink::<Sink>("com.example.LeakySink")
);
