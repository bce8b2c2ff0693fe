//! Java client settings as librdkafka's.
//!
//! Connect's users write the Java client's names. Those that librdkafka spells alike pass through; the
//! rest are renamed, converted, or (when nothing here corresponds) left out and named in one log line.
//! A value that librdkafka refuses is an error that names the setting and never shows a secret.

use std::collections::BTreeMap;

use super::super::{ClientSettings, LogError};
use crate::group::wire::security::jaas::Jaas;
use crate::group::wire::security::oauth::Tokens;
use crate::tls;
use crate::tls::stores::{self, Format, certificates_pem};

/// Which client the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    Producer,
    Consumer,
}

/// Settings as librdkafka takes them, and the names of those it has no equivalent for.
#[derive(Debug, Default)]
pub(super) struct NativeSettings {
    pub(super) values: BTreeMap<String, String>,
    pub(super) left_out: Vec<String>,
    /// What is left out was told before.
    pub(super) told: bool,
    /// For OAUTHBEARER.
    pub(super) tokens: Option<Tokens>,
}

/// Ours, where neither librdkafka's nor Java's default suits batches at full rate.
const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    // While a request of a partition is on its way, librdkafka sends no other one: under load batches grow without waiting for anything.
    ("linger.ms", "1"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.kbytes", "16384"),
    // A queued message costs about 200 bytes beside its payload.
    ("queue.buffering.max.messages", "200000"),
    // Connect's own: a record is retried until the broker is back.
    ("message.timeout.ms", "2147483647"),
    ("max.in.flight", "5"),
];

const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "range"),
    // 1000 by default: a full queue would idle for a second, and consuming runs eight times slower.
    ("fetch.queue.backoff.ms", "10"),
    ("queued.max.messages.kbytes", "32768"),
    // A prefetched message costs about 400 bytes beside its payload.
    ("queued.min.messages", "50000"),
    ("topic.metadata.refresh.interval.ms", "60000"),
    // How long a broker holds back the answer that there is nothing: the first byte ends that at once. 500 by default, which
    // is most of what an idle consumer costs. A partition that is added or resumed while all others are idle waits for it.
    ("fetch.wait.max.ms", "2000"),
];

const COMMON_DEFAULTS: &[(&str, &str)] = &[
    ("socket.nagle.disable", "true"),
    ("log.connection.close", "false"),
    // Histograms of a hundred kilobytes a client, for brokers that collect their clients' metrics.
    ("enable.metrics.push", "false"),
];

/// Known to Java clients and without meaning here: left out without a word.
const SILENT: &[&str] = &[
    "key.serializer",
    "value.serializer",
    "key.deserializer",
    "value.deserializer",
    "max.poll.records",
    "max.block.ms",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "auto.include.jmx.reporter",
    "internal.auto.downgrade.txn.commit",
    "ssl.truststore.password",
    "ssl.truststore.type",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.enabled.protocols",
    "sasl.client.callback.handler.class",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
];

/// Java's name → librdkafka's, where only the name differs.
const RENAMED: &[(&str, &str)] = &[
    ("max.request.size", "message.max.bytes"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.in.flight.requests.per.connection", "max.in.flight"),
    ("compression.type", "compression.codec"),
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("metadata.recovery.rebootstrap.trigger.ms", "metadata.recovery.rebootstrap.trigger.ms"),
    ("ssl.cipher.suites", "ssl.cipher.suites"),
    ("ssl.key.password", "ssl.key.password"),
];

impl NativeSettings {
    /// Translates `settings` for a client of this kind, over our defaults.
    pub(super) fn translate(kind: ClientKind, settings: &ClientSettings) -> Result<Self, LogError> {
        let mut native = Self::default();
        let defaults = if kind == ClientKind::Producer { PRODUCER_DEFAULTS } else { CONSUMER_DEFAULTS };
        for (name, value) in COMMON_DEFAULTS.iter().chain(defaults) {
            native.set(name, value);
        }
        for (name, value) in settings {
            native.setting(name, value.trim(), settings)?;
        }
        native.settle_tokens(settings)?;
        match kind {
            ClientKind::Producer => {
                native.settle_buffer(settings);
                native.settle_idempotence(settings);
                native.settle_transactions(settings);
            }
            ClientKind::Consumer => native.settle_consumer(),
        }
        Ok(native)
    }

    fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    fn setting(&mut self, name: &str, value: &str, all: &ClientSettings) -> Result<(), LogError> {
        if SILENT.contains(&name) {
            return Ok(());
        }
        if let Some((_, to)) = RENAMED.iter().find(|(from, _)| *from == name) {
            self.set(to, value);
            return Ok(());
        }
        match name {
            "buffer.memory" => {
                let bytes: u64 = value.parse().map_err(|_| refused(name, "a number of bytes is wanted"))?;
                self.set("queue.buffering.max.kbytes", &(bytes / 1024).max(1).to_string());
            }
            // Java's `none` fails on a missing offset, which librdkafka calls `error`.
            "auto.offset.reset" => self.set(name, if value == "none" { "error" } else { value }),
            "partition.assignment.strategy" => self.set(name, &assignment_strategy(value)),
            "partitioner.class" => self.partitioner(value),
            // Java adds a lookup of the names; librdkafka has the same two values.
            "client.dns.lookup" if value == "default" => {}
            "ssl.endpoint.identification.algorithm" => self.set(name, if value.is_empty() { "none" } else { value }),
            "ssl.truststore.location" | "ssl.truststore.certificates" => self.trust(name, value, all)?,
            "ssl.keystore.location" => match stores::format(name, value).map_err(wrong)? {
                Format::Pem => {
                    self.set("ssl.certificate.location", value);
                    self.set("ssl.key.location", value);
                    if let Some(password) =
                        all.get("ssl.keystore.password").filter(|_| !all.contains_key("ssl.key.password"))
                    {
                        self.set("ssl.key.password", password);
                    }
                }
                // What is neither is told with its reason by the same function.
                Format::Jks | Format::Pkcs12 | Format::Unknown => self.identity(all)?,
            },
            "ssl.keystore.certificate.chain" => self.identity(all)?,
            "ssl.keystore.key" | "ssl.keystore.password" => {}
            "sasl.jaas.config" => self.jaas(value)?,
            // Ours, whose tokens librdkafka asks for.
            _ if name.starts_with("sasl.oauthbearer.") && !librdkafkas_own_tokens(all) => {}
            _ => self.set(name, value),
        }
        Ok(())
    }

    /// A record that is larger than the buffer would wait for room for ever: where only the size of records was raised, the buffer grows with it.
    fn settle_buffer(&mut self, all: &ClientSettings) {
        let given = ["buffer.memory", "queue.buffering.max.kbytes"].iter().any(|name| all.contains_key(*name));
        let number = |name: &str| self.values.get(name).and_then(|value| value.parse::<u64>().ok());
        if let (false, Some(largest), Some(buffer)) =
            (given, number("message.max.bytes"), number("queue.buffering.max.kbytes"))
        {
            self.set("queue.buffering.max.kbytes", &buffer.max(2 * largest / 1024).to_string());
        }
    }

    fn partitioner(&mut self, class: &str) {
        match class.rsplit('.').next().unwrap_or_default() {
            "RoundRobinPartitioner" => self.set("partitioner", "random"),
            // Java's default, which ours already is.
            "DefaultPartitioner" | "UniformStickyPartitioner" | "" => {}
            _ => self.left_out.push("partitioner.class".into()),
        }
    }

    fn trust(&mut self, name: &str, value: &str, all: &ClientSettings) -> Result<(), LogError> {
        // A file of PEM is read by librdkafka itself, when it connects.
        if name == "ssl.truststore.location"
            && matches!(stores::format(name, value).map_err(wrong)?, Format::Pem)
            && !all.contains_key("ssl.truststore.certificates")
        {
            self.set("ssl.ca.location", value);
        } else if let Some(trusted) = tls::trusted(&|name| all.get(name).cloned()).map_err(wrong)? {
            self.set("ssl.ca.pem", &certificates_pem(&trusted));
        }
        Ok(())
    }

    fn identity(&mut self, all: &ClientSettings) -> Result<(), LogError> {
        if let Some(identity) = tls::identity(&|name| all.get(name).cloned()).map_err(wrong)? {
            self.set("ssl.certificate.pem", &identity.chain_pem());
            self.set("ssl.key.pem", &identity.key_pem());
        }
        Ok(())
    }

    /// User and password of Plain- and ScramLoginModule; the options of others are looked at where tokens are made.
    fn jaas(&mut self, text: &str) -> Result<(), LogError> {
        let jaas = Jaas::parse(text).map_err(|reason| refused("sasl.jaas.config", &reason))?;
        match jaas.module.as_str() {
            "PlainLoginModule" | "ScramLoginModule" => {
                let (Some(user), Some(password)) = (jaas.option("username"), jaas.option("password")) else {
                    return Err(refused("sasl.jaas.config", "username=\"…\" and password=\"…\" are wanted"));
                };
                self.set("sasl.username", user);
                self.set("sasl.password", password);
                Ok(())
            }
            "OAuthBearerLoginModule" => Ok(()),
            other => Err(refused(
                "sasl.jaas.config",
                &format!("{other} is not available: PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule are"),
            )),
        }
    }

    fn settle_tokens(&mut self, all: &ClientSettings) -> Result<(), LogError> {
        let bearer = self.values.get("sasl.mechanisms").is_some_and(|name| name.eq_ignore_ascii_case("OAUTHBEARER"));
        if bearer && !librdkafkas_own_tokens(all) {
            let jaas = all.get("sasl.jaas.config").map(|text| Jaas::parse(text)).transpose();
            let jaas = jaas.map_err(|reason| refused("sasl.jaas.config", &reason))?;
            self.tokens = Some(Tokens::new(all, jaas.as_ref()).map_err(wrong)?);
        }
        Ok(())
    }

    /// Java turns idempotence off by itself where other settings exclude it, unless it was asked for.
    fn settle_idempotence(&mut self, given: &ClientSettings) {
        let asked = given.get("enable.idempotence").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let acks_all = matches!(self.values.get("acks").map(String::as_str), Some("all" | "-1"));
        let in_flight = self.values.get("max.in.flight").and_then(|v| v.parse::<u32>().ok()).unwrap_or(5);
        let retries = self.values.get("retries").and_then(|v| v.parse::<u32>().ok()).unwrap_or(1);
        if !asked && (!acks_all || in_flight > 5 || retries == 0) {
            self.set("enable.idempotence", "false");
        }
    }

    /// A record of a transaction is not tried for longer than the transaction lasts; librdkafka refuses anything else.
    fn settle_transactions(&mut self, given: &ClientSettings) {
        if !self.values.contains_key("transactional.id") || given.contains_key("delivery.timeout.ms") {
            return;
        }
        let timeout = self.values.get("transaction.timeout.ms").cloned().unwrap_or_else(|| "60000".to_owned());
        self.set("message.timeout.ms", &timeout);
    }

    /// Offsets are committed by the task and by nothing else, and revocation is eager.
    fn settle_consumer(&mut self) {
        self.set("enable.auto.commit", "false");
        self.set("enable.auto.offset.store", "false");
        self.set("enable.partition.eof", "false");
    }
}

/// librdkafka's own way to unsecured tokens.
fn librdkafkas_own_tokens(all: &ClientSettings) -> bool {
    all.get("enable.sasl.oauthbearer.unsecure.jwt").is_some_and(|on| on.trim() == "true")
}

fn wrong(reason: String) -> LogError {
    LogError::fatal(format!("client setting {reason}"))
}

/// Java's class names as librdkafka's; what revokes step by step falls back to `range`.
fn assignment_strategy(value: &str) -> String {
    let mut names: Vec<&str> = value
        .split(',')
        .map(|class| match class.trim().rsplit('.').next().unwrap_or_default() {
            "RoundRobinAssignor" | "roundrobin" => "roundrobin",
            _ => "range",
        })
        .collect();
    names.dedup();
    names.join(",")
}

fn refused(name: &str, why: &str) -> LogError {
    LogError::fatal(format!("client setting {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(kind: ClientKind, pairs: &[(&str, &str)]) -> NativeSettings {
        let settings = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        NativeSettings::translate(kind, &settings).unwrap()
    }

    #[test]
    fn java_names_become_librdkafka_names() {
        let native = translate(
            ClientKind::Producer,
            &[
                ("max.request.size", "5000000"),
                ("buffer.memory", "33554432"),
                ("delivery.timeout.ms", "120000"),
                ("max.in.flight.requests.per.connection", "1"),
                ("key.serializer", "x"),
                ("max.block.ms", "9223372036854775807"),
            ],
        );
        assert_eq!(native.values["message.max.bytes"], "5000000");
        assert_eq!(native.values["queue.buffering.max.kbytes"], "32768");
        assert_eq!(native.values["message.timeout.ms"], "120000");
        assert_eq!(native.values["max.in.flight"], "1");
        assert!(!native.values.contains_key("key.serializer") && !native.values.contains_key("max.block.ms"));
        assert_eq!(native.values["enable.idempotence"], "true");
    }

    #[test]
    fn the_buffer_has_room_for_the_largest_record() {
        let buffer = |settings: &[(&str, &str)]| {
            translate(ClientKind::Producer, settings).values["queue.buffering.max.kbytes"].clone()
        };
        assert_eq!(buffer(&[]), "16384");
        assert_eq!(buffer(&[("max.request.size", "67108864")]), "131072");
        assert_eq!(
            buffer(&[("max.request.size", "67108864"), ("buffer.memory", "1048576")]),
            "1024",
            "as it was asked for"
        );
    }

    #[test]
    fn idempotence_gives_way_as_in_java() {
        assert_eq!(translate(ClientKind::Producer, &[("acks", "1")]).values["enable.idempotence"], "false");
        let asked = translate(ClientKind::Producer, &[("acks", "1"), ("enable.idempotence", "true")]);
        assert_eq!(asked.values["enable.idempotence"], "true");
    }

    #[test]
    fn consumers_never_commit_by_themselves() {
        let native = translate(
            ClientKind::Consumer,
            &[
                ("enable.auto.commit", "true"),
                ("auto.offset.reset", "none"),
                ("fetch.max.wait.ms", "100"),
                ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
            ],
        );
        assert_eq!(native.values["enable.auto.commit"], "false");
        assert_eq!(native.values["auto.offset.reset"], "error");
        assert_eq!(native.values["fetch.wait.max.ms"], "100");
        assert_eq!(native.values["partition.assignment.strategy"], "range");
    }

    #[test]
    fn jaas_gives_user_and_password() {
        let native = translate(
            ClientKind::Producer,
            &[(
                "sasl.jaas.config",
                r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="a\"b" password='p w';"#,
            )],
        );
        assert_eq!(native.values["sasl.username"], "a\"b");
        assert_eq!(native.values["sasl.password"], "p w");
        let bad: ClientSettings =
            [("sasl.jaas.config".to_string(), "com.x.Krb5LoginModule required secret=\"s3\";".to_string())].into();
        let error = NativeSettings::translate(ClientKind::Producer, &bad).unwrap_err().to_string();
        assert!(error.contains("sasl.jaas.config") && !error.contains("s3"), "{error}");
    }
}
