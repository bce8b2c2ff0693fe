//! Kafka client settings of a connector's clients, and which of them a connector may set.
//!
//! From the least to the most particular: the worker's own client settings, its `producer.`/`consumer.`/`admin.` ones, the
//! connector's `producer.override.` ones as far as the policy allows. Settings that make a client load code, run a program
//! or call a URL are never taken from a connector, whatever the policy.

use tributary_sdk::Config;

use super::worker_keys::is_client_setting;
use super::{ConfigError, WorkerConfig};
use crate::log::ClientSettings;
use crate::worker::TaskId;

/// The clients of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ClientKind {
    Producer,
    Consumer,
    Admin,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Producer, Self::Consumer, Self::Admin];

    /// The worker's prefix.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Producer => "producer.",
            Self::Consumer => "consumer.",
            Self::Admin => "admin.",
        }
    }

    /// The connector's prefix.
    pub fn override_prefix(self) -> &'static str {
        match self {
            Self::Producer => "producer.override.",
            Self::Consumer => "consumer.override.",
            Self::Admin => "admin.override.",
        }
    }

    fn client_id(self, id: &TaskId) -> String {
        let kind = match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Admin => "adminclient",
        };
        format!("connector-{kind}-{id}")
    }
}

/// Which settings connectors may override: `connector.client.config.override.policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverridePolicy {
    /// All of them, except those that no connector may set.
    All,
    /// None.
    None,
    /// Who the client is.
    Principal,
    /// Those in `connector.client.config.override.allowlist`.
    Allowlist(Vec<String>),
}

/// Never taken from a connector: they load code into the worker, run programs, or make it call addresses of the connector's choice.
const FORBIDDEN: &[&str] = &[
    "plugin.library.paths",
    "ssl.engine.location",
    "ssl.engine.id",
    "ssl.engine.factory.class",
    "ssl.providers",
    "sasl.kerberos.kinit.cmd",
    "interceptor.classes",
    "metric.reporters",
    "config.providers",
];

impl OverridePolicy {
    /// The policy of a worker's properties; Java class names and their short forms mean the same.
    pub fn of(properties: &Config) -> Result<Self, String> {
        let key = "connector.client.config.override.policy";
        let name = properties.get(key).unwrap_or("All").trim();
        let short = name.rsplit('.').next().unwrap_or(name);
        match short.strip_suffix("ConnectorClientConfigOverridePolicy").unwrap_or(short) {
            "All" => Ok(Self::All),
            "None" => Ok(Self::None),
            "Principal" => Ok(Self::Principal),
            "Allowlist" => {
                let allowed = properties.list("connector.client.config.override.allowlist");
                Ok(Self::Allowlist(allowed.into_iter().map(str::to_owned).collect()))
            }
            _ => Err(format!("invalid value {name} for configuration {key}: write All, None, Principal or Allowlist")),
        }
    }

    /// Why a connector may not set this client setting to this value; `None` if it may.
    pub fn refusal(&self, setting: &str, value: &str) -> Option<String> {
        let url =
            setting.starts_with("sasl.oauthbearer.") && setting.ends_with(".url") || value_names_url(setting, value);
        if FORBIDDEN.contains(&setting) || url {
            return Some(format!(
                "'{setting}' cannot be overridden in the connector configuration: it would make the worker load code, run a program or call an address; set it in the worker's properties."
            ));
        }
        let (name, allowed) = match self {
            Self::All => return None,
            Self::None => ("None", false),
            Self::Principal => {
                ("Principal", ["sasl.jaas.config", "sasl.mechanism", "security.protocol"].contains(&setting))
            }
            Self::Allowlist(allowed) => ("Allowlist", allowed.iter().any(|allowed| allowed == setting)),
        };
        // Connect's own words.
        (!allowed).then(|| {
            format!("The '{name}' policy does not allow '{setting}' to be overridden in the connector configuration.")
        })
    }
}

/// OAuth settings of the Java client and of librdkafka that hold URLs under other names.
fn value_names_url(setting: &str, value: &str) -> bool {
    setting.starts_with("sasl.") && setting.contains("oauthbearer") && value.contains("://")
}

/// The settings of a client of a connector's task, by Kafka's names. `config` is the connector's, resolved. Fails when it sets what it may not.
pub fn client_settings(
    worker: &WorkerConfig,
    kind: ClientKind,
    config: &Config,
    id: &TaskId,
) -> Result<ClientSettings, ConfigError> {
    let mut settings = worker.cluster_settings()?;
    let mut own = worker.properties.with_prefix(kind.prefix());
    // `admin.listeners` and its TLS are of the REST API.
    own.0.retain(|setting, _| kind != ClientKind::Admin || !setting.starts_with("listeners"));
    settings.extend(worker.providers.resolve(&own)?.0);
    settings.entry("client.id".to_owned()).or_insert_with(|| kind.client_id(id));
    let overrides = config.with_prefix(kind.override_prefix());
    let refused: Vec<String> =
        overrides.0.iter().filter_map(|(setting, value)| worker.override_policy.refusal(setting, value)).collect();
    if !refused.is_empty() {
        return Err(ConfigError::Invalid(refused));
    }
    settings.extend(overrides.0);
    Ok(settings)
}

impl WorkerConfig {
    /// The client settings that hold for all clients of the worker's cluster: security, addresses, time-outs. Secrets are resolved.
    pub fn cluster_settings(&self) -> Result<ClientSettings, ConfigError> {
        let pairs = self.properties.0.iter().filter(|(key, _)| is_client_setting(key));
        let own: Config = pairs.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(self.providers.resolve(&own)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(more: &str) -> WorkerConfig {
        let text = format!("bootstrap.servers=k:1\nkey.converter=x\nvalue.converter=x\n{more}");
        WorkerConfig::new(super::super::properties::parse(&text).unwrap().into_iter().collect()).unwrap()
    }

    fn settings(worker: &WorkerConfig, config: &[(&str, &str)]) -> Result<ClientSettings, String> {
        let id = TaskId { connector: "c".to_owned(), task: 3 };
        let config = config.iter().copied().collect();
        client_settings(worker, ClientKind::Producer, &config, &id).map_err(|error| error.to_string())
    }

    #[test]
    fn the_particular_wins() {
        let worker = worker(
            "security.protocol=SSL\nproducer.linger.ms=5\nproducer.acks=1\nconsumer.linger.ms=7\nkey.converter.x=1\noffset.flush.interval.ms=1\n",
        );
        let settings =
            settings(&worker, &[("producer.override.acks", "all"), ("consumer.override.acks", "0"), ("acks", "2")])
                .unwrap();
        let expected = [
            ("acks", "all"),
            ("bootstrap.servers", "k:1"),
            ("client.id", "connector-producer-c-3"),
            ("linger.ms", "5"),
            ("security.protocol", "SSL"),
        ];
        assert_eq!(settings, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn policies_and_what_no_policy_allows() {
        let java = "org.apache.kafka.connect.connector.policy.NoneConnectorClientConfigOverridePolicy";
        for (policy, setting, allowed) in [
            ("All", "acks", true),
            ("None", "acks", false),
            (java, "acks", false),
            ("Principal", "acks", false),
            ("Principal", "sasl.jaas.config", true),
            ("Allowlist\nconnector.client.config.override.allowlist=acks, linger.ms", "acks", true),
            ("Allowlist\nconnector.client.config.override.allowlist=linger.ms", "acks", false),
            ("All", "plugin.library.paths", false),
            ("All", "ssl.engine.location", false),
            ("All", "sasl.kerberos.kinit.cmd", false),
            ("All", "sasl.oauthbearer.token.endpoint.url", false),
            ("All", "sasl.oauthbearer.jwks.endpoint.url", false),
        ] {
            let worker = worker(&format!("connector.client.config.override.policy={policy}\n"));
            let answer = settings(&worker, &[(&format!("producer.override.{setting}"), "x")]);
            assert_eq!(answer.is_ok(), allowed, "{policy}: {answer:?}");
        }
        let error = OverridePolicy::None.refusal("acks", "1").unwrap();
        assert_eq!(error, "The 'None' policy does not allow 'acks' to be overridden in the connector configuration.");
        assert!(
            OverridePolicy::of(&[("connector.client.config.override.policy", "Nobody")].into_iter().collect()).is_err()
        );
    }
}
