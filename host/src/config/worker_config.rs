//! The worker's properties, typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, ConfigKey, DefaultValue, Type, Validator};

use super::connect_worker_keys;
use super::response_headers::{self, HeaderRule};
use super::worker_keys::{ACCEPTED, is_unknown, worker_config_def};
use super::{ConfigError, Listener, OverridePolicy, Providers, Scheme, nearest, properties};
use crate::rest::{AuthenticationSettings, BearerSettings};

/// Where the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// In the data directory.
    Embedded,
    /// On Kafka brokers, `host:port,…`.
    Kafka(String),
}

/// The worker's properties.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct WorkerConfig {
    pub bootstrap: Bootstrap,
    pub group_id: Option<String>,
    pub key_converter: String,
    pub value_converter: String,
    pub header_converter: String,
    pub plugin_path: Vec<PathBuf>,
    pub data_dir: PathBuf,
    pub offset_flush_interval: Duration,
    pub offset_flush_timeout: Duration,
    pub task_shutdown_timeout: Duration,
    pub plugin_call_timeout: Duration,
    /// `sink.parking.delay.ms`; zero: sink tasks keep their clients.
    pub sink_parking_delay: Duration,
    pub listeners: Vec<Listener>,
    pub authentication: AuthenticationSettings,
    pub rest_max_body: usize,
    pub rest_request_timeout: Duration,
    pub rest_advertised_host: Option<String>,
    pub rest_advertised_port: Option<u16>,
    /// Where the admin endpoints are alone; `None`: on `listeners`, too. Empty: nowhere.
    pub admin_listeners: Option<Vec<Listener>>,
    /// Headers of every answer.
    pub response_headers: Vec<HeaderRule>,
    pub access_control_allow_origin: String,
    pub access_control_allow_methods: String,
    pub topic_creation: bool,
    pub topic_tracking: bool,
    pub topic_tracking_reset: bool,
    pub log_level: String,
    pub log_json: bool,
    pub override_policy: OverridePolicy,
    pub providers: Providers,
    /// Every property as written, for converters, clients and providers.
    pub properties: Config,
    /// What is odd about them, for the log.
    pub warnings: Vec<String>,
}

impl WorkerConfig {
    /// Reads a `.properties` file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let pairs = properties::parse(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            line: error.line,
            message: error.message,
        })?;
        Self::new(pairs.into_iter().collect())
    }

    /// Checks and types properties; the error lists everything that is wrong.
    pub fn new(properties: Config) -> Result<Self, ConfigError> {
        let def = worker_config_def();
        let mut values = Values { def: &def, properties: &properties, errors: Vec::new(), warnings: Vec::new() };
        values.check();
        values.errors.extend(connect_worker_keys::problems(&properties));
        let bootstrap = values.text("bootstrap.servers");
        let authentication = values.authentication();
        let listeners = values.listeners(&authentication);
        let admin_listeners = properties.get("admin.listeners").map(|_| values.admin_listeners(&authentication));
        let response_headers = response_headers::parse(
            properties.get("response.http.headers.config").unwrap_or_default(),
        )
        .unwrap_or_else(|error| {
            values.errors.push(format!("response.http.headers.config: {error}"));
            Vec::new()
        });
        values.no_extensions();
        let override_policy = OverridePolicy::of(&properties).unwrap_or_else(|error| {
            values.errors.push(error);
            OverridePolicy::None
        });
        let providers = Providers::new(&properties).unwrap_or_else(|error| {
            values.errors.push(error.to_string());
            Providers::default()
        });
        let data_dir = match (properties.get("data.dir"), properties.get("offset.storage.file.filename")) {
            (Some(directory), _) => PathBuf::from(directory.trim()),
            (None, Some(file)) => PathBuf::from(format!("{}.d", file.trim())),
            (None, None) => PathBuf::from("data"),
        };
        let config = Self {
            bootstrap: if bootstrap == "embedded" { Bootstrap::Embedded } else { Bootstrap::Kafka(bootstrap) },
            group_id: properties.get("group.id").map(str::to_owned),
            key_converter: values.text("key.converter"),
            value_converter: values.text("value.converter"),
            header_converter: values.text("header.converter"),
            plugin_path: properties.list("plugin.path").into_iter().map(PathBuf::from).collect(),
            data_dir,
            offset_flush_interval: values.millis("offset.flush.interval.ms"),
            offset_flush_timeout: values.millis("offset.flush.timeout.ms"),
            task_shutdown_timeout: values.millis("task.shutdown.graceful.timeout.ms"),
            plugin_call_timeout: values.millis("plugin.call.timeout.ms"),
            sink_parking_delay: values.millis("sink.parking.delay.ms"),
            listeners,
            authentication,
            rest_max_body: values.parsed("rest.max.body.bytes"),
            rest_request_timeout: values.millis("rest.request.timeout.ms"),
            rest_advertised_host: properties.get("rest.advertised.host.name").map(str::to_owned),
            rest_advertised_port: properties.get("rest.advertised.port").and_then(|port| port.trim().parse().ok()),
            admin_listeners,
            response_headers,
            access_control_allow_origin: values.text("access.control.allow.origin"),
            access_control_allow_methods: values.text("access.control.allow.methods"),
            topic_creation: values.boolean("topic.creation.enable"),
            topic_tracking: values.boolean("topic.tracking.enable"),
            topic_tracking_reset: values.boolean("topic.tracking.allow.reset"),
            log_level: values.text("log.level"),
            log_json: values.text("log.format") == "json",
            override_policy,
            providers,
            warnings: [values.warnings.clone(), unknown_keys(&def, &properties)].concat(),
            properties: Config::default(),
        };
        if values.errors.is_empty() {
            Ok(Self { properties, ..config })
        } else {
            Err(ConfigError::Invalid(values.errors))
        }
    }

    /// Whether sources deliver exactly once: `exactly.once.source.support`.
    pub fn exactly_once_source(&self) -> bool {
        let support = self.properties.get("exactly.once.source.support");
        support.is_some_and(|support| support.trim().eq_ignore_ascii_case("enabled"))
    }

    /// `host:port` of this worker in statuses; `port` is the one that was bound.
    pub fn worker_id(&self, port: u16) -> String {
        let listener = &self.listeners[0];
        let host = match (&self.rest_advertised_host, listener.host.as_str()) {
            (Some(host), _) => host.clone(),
            (None, "" | "*" | "0.0.0.0" | "::") => host_name(),
            (None, host) => host.to_owned(),
        };
        format!("{host}:{}", self.rest_advertised_port.unwrap_or(port))
    }
}

/// This machine's name, as Linux tells it; `localhost` elsewhere.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "localhost".to_owned() } else { name.trim().to_owned() }
}

/// Typed access to checked properties; collects what is wrong.
struct Values<'a> {
    def: &'a ConfigDef,
    properties: &'a Config,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Values<'_> {
    fn check(&mut self) {
        for key in &self.def.keys {
            match (self.properties.get(&key.name), &key.default) {
                (None, DefaultValue::Required) => {
                    let hint = if key.name == "bootstrap.servers" {
                        "; bootstrap.servers=embedded needs no Kafka"
                    } else {
                        ""
                    };
                    self.errors.push(format!(
                        "Missing required configuration \"{}\" which has no default value{hint}",
                        key.name
                    ));
                }
                (Some(text), _) => self.errors.extend(problem(key, text)),
                (None, _) => {}
            }
        }
    }

    fn text(&self, name: &str) -> String {
        let default = match self.def.get(name).map(|key| &key.default) {
            Some(DefaultValue::Value(default)) => default,
            _ => "",
        };
        self.properties.get(name).unwrap_or(default).trim().to_owned()
    }

    /// The value, or zero where `check` has found it wrong.
    fn parsed<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        self.text(name).parse().unwrap_or_default()
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.parsed(name))
    }

    fn boolean(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    /// `rest.authentication.methods` with what each method needs.
    fn authentication(&mut self) -> AuthenticationSettings {
        let mut settings = AuthenticationSettings { access: self.optional("rest.access.file"), ..Default::default() };
        for method in self.properties.list("rest.authentication.methods") {
            match method {
                "basic" => match self.optional("rest.basic.users.file") {
                    Some(file) => settings.basic = Some(file),
                    None => self.errors.push("rest.authentication.methods=basic needs rest.basic.users.file: a file of htpasswd -B".to_owned()),
                },
                "bearer" => match self.optional("rest.bearer.jwks") {
                    Some(jwks) => {
                        settings.bearer = Some(BearerSettings {
                            jwks,
                            issuer: self.optional("rest.bearer.issuer"),
                            audience: self.optional("rest.bearer.audience"),
                            subject_claim: self.text("rest.bearer.subject.claim"),
                            roles_claim: self.optional("rest.bearer.roles.claim"),
                        });
                    }
                    None => self.errors.push("rest.authentication.methods=bearer needs rest.bearer.jwks: a file or an https URL with the issuer's keys".to_owned()),
                },
                "mtls" => {
                    settings.certificates = true;
                    let auth = ["listeners.https.ssl.client.auth", "ssl.client.auth"].iter().find_map(|name| self.properties.get(name));
                    if !matches!(auth.map(str::trim), Some("required" | "requested")) {
                        self.errors.push("rest.authentication.methods=mtls needs listeners.https.ssl.client.auth=required, or requested".to_owned());
                    }
                }
                other => self.errors.push(format!(
                    "invalid value {other} for configuration rest.authentication.methods: write basic, bearer or mtls"
                )),
            }
        }
        if settings.access.is_some() && !settings.required() {
            self.errors.push("rest.access.file gives roles to users, but nobody has to say who they are: set rest.authentication.methods".to_owned());
        }
        settings
    }

    fn optional(&self, name: &str) -> Option<String> {
        self.properties.get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn listeners(&mut self, authentication: &AuthenticationSettings) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for text in self.properties.list("listeners") {
            match Listener::parse(text) {
                Ok(listener)
                    if !listener.is_loopback()
                        && !authentication.required()
                        && !self.boolean("rest.allow.unauthenticated") =>
                {
                    self.errors.push(format!(
                        "listeners={text} can be reached from other machines without authentication: whoever reaches it can read and change every connector. \
                         Set rest.authentication.methods, or, if that is intended, add this line to the worker's properties:\nrest.allow.unauthenticated=true"
                    ));
                }
                Ok(listener) => listeners.push(listener),
                Err(error) => self.errors.push(error),
            }
        }
        let plain = |listener: &&Listener| listener.scheme == Scheme::Http && !listener.is_loopback();
        if let Some(listener) =
            listeners.iter().find(plain).filter(|_| authentication.basic.is_some() || authentication.bearer.is_some())
        {
            self.warnings.push(format!(
                "{listener} is not encrypted, so passwords and tokens can be read on their way; use https there"
            ));
        }
        if listeners.is_empty() {
            listeners.push(Listener::loopback());
        }
        listeners
    }
}

impl Values<'_> {
    /// `admin.listeners`, where it is set. They have to be as closed as the others.
    fn admin_listeners(&mut self, authentication: &AuthenticationSettings) -> Vec<Listener> {
        let mut listeners = Vec::new();
        for text in self.properties.list("admin.listeners") {
            match Listener::parse(text) {
                Ok(listener)
                    if !listener.is_loopback()
                        && !authentication.required()
                        && !self.boolean("rest.allow.unauthenticated") =>
                {
                    self.errors.push(format!(
                        "admin.listeners={text} can be reached from other machines: whoever reaches it can change log levels. \
                         If that is intended, add this line to the worker's properties:\nrest.allow.unauthenticated=true"
                    ));
                }
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    self.errors.push(error.replace("configuration listeners", "configuration admin.listeners"))
                }
            }
        }
        listeners
    }

    /// What a REST extension does (often: who may do what) must not be left out silently.
    fn no_extensions(&mut self) {
        let classes = self.properties.list("rest.extension.classes");
        if !classes.is_empty() {
            self.errors.push(format!(
                "rest.extension.classes={}: REST extensions are Java classes, and this worker cannot run them; if one guards the API, \
                 use what the worker has itself (see the guide to the REST API), and take the key out",
                classes.join(",")
            ));
        }
    }
}

/// What is wrong with a value.
fn problem(key: &ConfigKey, text: &str) -> Option<String> {
    let text = text.trim();
    // A reference is resolved where the value is used.
    if text.contains("${") {
        return None;
    }
    let wrong = |reason: &str| Some(format!("invalid value {text} for configuration {}: {reason}", key.name));
    match key.kind {
        Type::Boolean if !["true", "false"].contains(&text.to_ascii_lowercase().as_str()) => {
            wrong("write true or false")
        }
        Type::Int | Type::Long => match (text.parse::<i64>(), &key.validator) {
            (Err(_), _) => wrong("write a whole number"),
            (Ok(number), Some(Validator::Range { min: Some(min), .. })) if (number as f64) < *min => {
                wrong(&format!("it has to be at least {min}"))
            }
            (Ok(number), _) if key.kind == Type::Int && i32::try_from(number).is_err() => {
                wrong("the number is too large")
            }
            _ => None,
        },
        _ => match &key.validator {
            Some(Validator::OneOf(values)) if !values.iter().any(|value| value == text) => {
                wrong(&format!("write {}", values.join(" or ")))
            }
            _ => None,
        },
    }
}

/// A warning for each key that nobody knows.
fn unknown_keys(def: &ConfigDef, properties: &Config) -> Vec<String> {
    let mut names: Vec<&str> = connect_worker_keys::names().chain(ACCEPTED.iter().copied()).collect();
    names.extend(def.keys.iter().map(|key| key.name.as_str()));
    let warning = |name: &String| match nearest(name, names.iter().copied()) {
        Some(near) => format!("the worker's property {name} is not known and has no effect; did you mean {near}?"),
        None => format!("the worker's property {name} is not known and has no effect"),
    };
    properties.0.keys().filter(|name| is_unknown(def, name)).map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WorkerConfig, String> {
        let pairs = properties::parse(text).unwrap();
        WorkerConfig::new(pairs.into_iter().collect()).map_err(|error| error.to_string())
    }

    const LEAST: &str = "bootstrap.servers=embedded\nkey.converter=StringConverter\nvalue.converter=StringConverter\n";

    #[test]
    fn defaults_are_connects() {
        let config = parse(LEAST).unwrap();
        assert_eq!(config.bootstrap, Bootstrap::Embedded);
        assert_eq!(config.offset_flush_interval, Duration::from_secs(60));
        assert_eq!(config.task_shutdown_timeout, Duration::from_secs(5));
        assert_eq!(config.listeners, [Listener::loopback()]);
        assert_eq!(config.data_dir, PathBuf::from("data"));
        assert_eq!(config.worker_id(8083), "127.0.0.1:8083");
        assert!(config.topic_tracking && config.topic_tracking_reset && config.topic_creation);
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn a_connect_standalone_file_is_read() {
        let config = parse(
            "bootstrap.servers=a:9092,b:9092\nkey.converter=org.apache.kafka.connect.json.JsonConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\nkey.converter.schemas.enable=true\n\
             value.converter.schemas.enable=true\noffset.storage.file.filename=/tmp/connect.offsets\n\
             offset.flush.interval.ms=10000\nplugin.path=/usr/share/java, /opt/x\nproducer.linger.ms=5\n",
        )
        .unwrap();
        assert_eq!(config.bootstrap, Bootstrap::Kafka("a:9092,b:9092".to_owned()));
        assert_eq!(config.data_dir, PathBuf::from("/tmp/connect.offsets.d"));
        assert_eq!(config.plugin_path.len(), 2);
        assert_eq!(config.warnings, [""; 0]);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let error = parse("key.converter=x\noffset.flush.interval.ms=soon\ntopic.tracking.enable=1\nlisteners=http://:8083,ftp://x:1\nrest.max.body.bytes=0\n")
            .unwrap_err();
        for part in [
            "\"bootstrap.servers\"",
            "embedded needs no Kafka",
            "\"value.converter\"",
            "offset.flush.interval.ms: write a whole number",
            "topic.tracking.enable: write true or false",
            "\nrest.allow.unauthenticated=true\n",
            "ftp://x:1",
            "at least 1",
        ] {
            assert!(error.contains(part), "{part} is not in:\n{error}");
        }
    }

    #[test]
    fn an_open_listener_has_to_be_asked_for() {
        let open = format!("{LEAST}listeners=http://0.0.0.0:8083\n");
        assert!(parse(&open).is_err());
        assert!(parse(&format!("{open}rest.allow.unauthenticated=true\n")).is_ok());
        assert!(parse(&format!("{LEAST}listeners=http://localhost:1\n")).is_ok());
    }

    /// Every key of Connect's own example for clusters, and the others that its definitions have.
    #[test]
    fn every_key_of_connect_is_known() {
        let table = include_str!("connect_worker_keys.tsv");
        let mut text = LEAST.to_owned();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            if let Some(default) = fields[2].strip_prefix('=') {
                text.push_str(&format!("{}={default}\n", fields[0]));
            }
        }
        assert_eq!(parse(&text).unwrap().warnings, [""; 0]);
        let more = "inter.worker.key.tl.ms=1\nsesion.timeout.ms=1\ntopic.creation.enabled=true\n";
        assert_eq!(
            parse(&format!("{LEAST}{more}")).unwrap().warnings,
            [
                "the worker's property inter.worker.key.tl.ms is not known and has no effect; did you mean inter.worker.key.ttl.ms?",
                "the worker's property sesion.timeout.ms is not known and has no effect; did you mean session.timeout.ms?",
                "the worker's property topic.creation.enabled is not known and has no effect; did you mean topic.creation.enable?",
            ]
        );
        assert!(parse(&format!("{LEAST}heartbeat.interval.ms=3s\n")).unwrap_err().contains("Not a number of type INT"));
    }

    #[test]
    fn settings_of_the_api_are_checked() {
        assert_eq!(parse(LEAST).unwrap().admin_listeners, None);
        assert_eq!(parse(&format!("{LEAST}admin.listeners=\n")).unwrap().admin_listeners, Some(vec![]));
        let config = parse(&format!("{LEAST}admin.listeners=http://127.0.0.1:1,http://[::1]:2\n")).unwrap();
        assert_eq!(config.admin_listeners.unwrap().len(), 2);
        for (line, part) in [
            ("admin.listeners=http://:1", "whoever reaches it can change log levels"),
            ("admin.listeners=8083", "configuration admin.listeners"),
            ("rest.extension.classes=com.example.Guard", "cannot run them"),
            (
                "response.http.headers.config=put A:b",
                "response.http.headers.config: Invalid header config action: 'put'",
            ),
        ] {
            let error = parse(&format!("{LEAST}{line}\n")).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn unknown_keys_warn_with_the_nearest() {
        let config = parse(&format!("{LEAST}offset.flush.intervall.ms=1\ncolour=red\n")).unwrap();
        assert_eq!(
            config.warnings,
            [
                "the worker's property colour is not known and has no effect",
                "the worker's property offset.flush.intervall.ms is not known and has no effect; did you mean offset.flush.interval.ms?",
            ]
        );
    }
}
