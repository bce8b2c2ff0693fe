//! What can be chosen about a broker, and the settings that make it quick.

use std::fmt::Write as _;
use std::path::Path;

use super::secured::Secured;

/// How a broker is set up. The default suits tests: small, quick to start and to notice things.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    pub(super) auto_create_topics: bool,
    pub(super) proxied: bool,
    pub(super) secured: bool,
    pub(super) heap: String,
    pub(super) full_compiler: bool,
    pub(super) settings: Vec<(String, String)>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            auto_create_topics: true,
            proxied: false,
            secured: false,
            heap: "512m".into(),
            full_compiler: false,
            settings: Vec::new(),
        }
    }
}

impl BrokerOptions {
    /// For measuring: twice the heap, and the JVM's optimising compiler, which pays only in long runs.
    pub fn for_benchmark() -> Self {
        let options = Self { heap: "1g".into(), full_compiler: true, ..Self::default() };
        // Kafka's own: a broker that is late with its heartbeat under full load is no dead broker.
        options.set("broker.session.timeout.ms", "9000").set("broker.heartbeat.interval.ms", "2000")
    }

    /// Whether a topic comes into being when it is first used (as it does by default).
    pub fn auto_create_topics(mut self, on: bool) -> Self {
        self.auto_create_topics = on;
        self
    }

    /// Adds a listener behind a [`Proxy`](crate::Proxy); see [`KafkaBroker::proxy`](super::KafkaBroker::proxy).
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Adds listeners with TLS and SASL; see [`Secured`] and [`KafkaBroker::secured`](super::KafkaBroker::secured).
    pub fn secured(mut self) -> Self {
        self.secured = true;
        self
    }

    /// Any other setting of the broker; the last one wins.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    pub(super) fn jvm_args(&self) -> Vec<String> {
        let mut args = vec![format!("-Xmx{}", self.heap), "-XX:+UseSerialGC".into()];
        if !self.full_compiler {
            args.push("-XX:TieredStopAtLevel=1".into());
        }
        args
    }
}

/// The ports a broker listens on, and the one it is told to advertise for its proxied listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports {
    pub client: u16,
    pub controller: u16,
    pub proxied: Option<Proxied>,
    pub secured: Option<Secured>,
    /// The number of the node, from 1, and all controllers, where it is one of several.
    pub node: Option<(u32, String)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Proxied {
    pub listens: u16,
    pub advertises: u16,
}

/// The broker's properties file.
pub(super) fn properties(options: &BrokerOptions, ports: &Ports, data: &Path) -> String {
    let Ports { client, controller, .. } = ports;
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}");
    let mut advertised = format!("PLAINTEXT://127.0.0.1:{client}");
    if let Some(Proxied { listens, advertises }) = ports.proxied {
        let _ = write!(listeners, ",PROXIED://127.0.0.1:{listens}");
        let _ = write!(advertised, ",PROXIED://127.0.0.1:{advertises}");
    }
    let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT".to_owned();
    if let Some(secured) = &ports.secured {
        secured.listeners(&mut listeners, &mut advertised, &mut protocols);
    }
    let (node, voters) = ports.node.clone().unwrap_or_else(|| (1, format!("1@127.0.0.1:{controller}")));
    let mut text = format!(
        "\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
inter.broker.listener.name=PLAINTEXT
log.dirs={}
auto.create.topics.enable={}
",
        data.display(),
        options.auto_create_topics
    );
    text.push_str(QUICK);
    if let Some(secured) = &ports.secured {
        text.push_str(&secured.properties());
    }
    for (key, value) in &options.settings {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// One node has nobody to replicate to; the rest makes it start, recover and balance sooner. The session
/// time-out is what a start after a kill waits for, and what a busy machine must not make the broker miss.
const QUICK: &str = "\
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
log.cleaner.backoff.ms=1000
log.cleaner.dedupe.buffer.size=16777216
log.retention.ms=-1
num.network.threads=2
num.io.threads=4
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_setting_wins_and_the_proxy_is_advertised() {
        let proxied = Some(Proxied { listens: 3, advertises: 4 });
        let ports = Ports { client: 1, controller: 2, proxied, ..Ports::default() };
        let options = BrokerOptions::default().auto_create_topics(false).set("num.io.threads", "8");
        let text = properties(&options, &ports, Path::new("/data"));
        assert!(text.contains("\nlisteners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2,PROXIED://127.0.0.1:3\n"));
        assert!(text.contains("\nadvertised.listeners=PLAINTEXT://127.0.0.1:1,PROXIED://127.0.0.1:4\n"));
        assert!(text.contains("\nauto.create.topics.enable=false\n"));
        assert!(text.ends_with("num.io.threads=8\n"));
    }
}
