//! The broker itself and its life.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;

use super::image::{Image, random_id};
use super::options::{BrokerOptions, Ports, Proxied, properties};
use super::secured::Secured;
use crate::process::{ScratchDir, Server};
use crate::{Proxy, Result, Usage, ports, wait};

/// A Kafka 4.3.1 broker that lives as long as this value.
#[derive(Debug)]
pub struct KafkaBroker {
    // Fields drop in this order: the process must be gone before its directory is.
    server: Server,
    ports: Ports,
    proxy: Option<Proxy>,
    dir: ScratchDir,
}

impl KafkaBroker {
    /// Starts one with the default options.
    pub fn start() -> Result<Self> {
        Self::start_with(BrokerOptions::default())
    }

    /// Starts one.
    pub fn start_with(options: BrokerOptions) -> Result<Self> {
        let ports = Ports { client: ports::free()?, controller: ports::free()?, ..Ports::default() };
        let mut broker = Self::prepare(&options, ports, &random_id())?;
        broker.restart()?;
        if options.secured {
            for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                broker.add_scram_user(mechanism, "bob", "bob-secret")?;
            }
        }
        Ok(broker)
    }

    /// Makes one that is not started.
    pub(super) fn prepare(options: &BrokerOptions, mut ports: Ports, cluster: &str) -> Result<Self> {
        let image = Image::get()?;
        let dir = ScratchDir::new("kafka")?;
        let mut proxy = None;
        if options.proxied {
            let listens = ports::free()?;
            let through = Proxy::start(listens)?;
            ports.proxied = Some(Proxied { listens, advertises: through.port() });
            proxy = Some(through);
        }
        if options.secured {
            ports.secured = Some(Secured::make(&image.java, dir.path())?);
        }
        let data = dir.path().join("data");
        image.format(&data, cluster, ports.node.as_ref().map_or(1, |(node, _)| *node))?;
        let file = dir.path().join("server.properties");
        fs::write(&file, properties(options, &ports, &data))?;
        fs::write(dir.path().join("log4j2.properties"), LOG4J)?;
        Ok(Self { server: image.server(options, &file), ports, proxy, dir })
    }

    fn add_scram_user(&self, mechanism: &str, user: &str, password: &str) -> Result<()> {
        let config = format!("{mechanism}=[iterations=4096,password={password}]");
        let bootstrap = self.bootstrap();
        let args = ["--bootstrap-server", &bootstrap, "--alter", "--add-config", &config];
        let args = [&args[..], &["--entity-type", "users", "--entity-name", user]].concat();
        Image::get()?.run_tool("kafka.admin.ConfigCommand", &args).map(drop)
    }

    /// The listeners with TLS and SASL.
    ///
    /// Panics if the broker was started without [`BrokerOptions::secured`].
    pub fn secured(&self) -> &Secured {
        self.ports.secured.as_ref().expect("the broker was started without BrokerOptions::secured")
    }

    /// The one broker that the tests of this process share. It must not be killed or frozen by them.
    ///
    /// It ends with the process. A start that failed is tried again by the next caller.
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Option<Arc<KafkaBroker>>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(broker) = &*shared {
            return Ok(Arc::clone(broker));
        }
        let broker = Arc::new(Self::start()?);
        *shared = Some(Arc::clone(&broker));
        Ok(broker)
    }

    /// The value for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// The value for `bootstrap.servers` of a client whose every connection leads through the proxy.
    ///
    /// Panics if the broker was started without [`BrokerOptions::proxied`].
    pub fn proxied_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.proxy().port())
    }

    /// The network between the broker and the clients of [`proxied_bootstrap`](Self::proxied_bootstrap).
    ///
    /// Panics if the broker was started without [`BrokerOptions::proxied`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the broker was started without BrokerOptions::proxied")
    }

    /// Kills it with SIGKILL, as a power failure of the process would.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Shuts it down in order with SIGTERM and waits.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop(Duration::from_secs(60)).map(drop)
    }

    /// Starts it again on the same ports and data after [`kill`](Self::kill) or [`stop`](Self::stop).
    pub fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_until_ready()
    }

    pub(super) fn launch(&mut self) -> Result<()> {
        self.server.start()
    }

    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        wait_until_ready(&mut self.server, self.ports.client)
    }

    /// Freezes it with SIGSTOP: connections stay open, nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.server.signal(Signal::STOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.server.signal(Signal::CONT)
    }

    /// What it costs.
    pub fn usage(&self) -> Result<Usage> {
        self.server.usage()
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid()
    }

    /// Where its properties, log and data are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// A client that talks to this port until the broker behind it says that it is in service.
pub(super) fn wait_until_ready(server: &mut Server, port: u16) -> Result<()> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("log_level", "0")
        .create()?;
    // A broker that the controller has not unfenced yet answers with an empty list of brokers.
    server.wait_until("ready", wait::PATIENCE, || {
        let metadata = client.fetch_metadata(None, Duration::from_secs(5))?;
        Ok((!metadata.brokers().is_empty()).then_some(()))
    })
}

/// Warnings only, but for what marks the life of a broker.
pub(super) const LOG4J: &str = "\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
";
