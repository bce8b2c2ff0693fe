//! The two workers under one name: a REST API and a process.

use tributary_harness::{ConnectWorker, KafkaBroker, Rest, Result, TributaryWorker};

use crate::contender::Contender;

/// A worker that runs.
pub enum Worker {
    Connect(ConnectWorker),
    Tributary(TributaryWorker),
}

impl Worker {
    /// Starts the worker of a contender and waits for its REST API.
    ///
    /// Panics if the contender has none.
    pub fn start(contender: Contender, broker: &KafkaBroker) -> Result<Self> {
        let mut worker = Self::prepare(contender, broker)?;
        match &mut worker {
            Self::Connect(worker) => worker.restart()?,
            Self::Tributary(worker) => worker.restart()?,
        }
        Ok(worker)
    }

    /// Sets the worker up without starting it.
    pub fn prepare(contender: Contender, broker: &KafkaBroker) -> Result<Self> {
        match contender {
            Contender::Connect => ConnectWorker::prepare(broker, Default::default()).map(Self::Connect),
            Contender::Tributary => {
                TributaryWorker::prepare(&broker.bootstrap(), Default::default()).map(Self::Tributary)
            }
            Contender::Raw | Contender::Plain => panic!("a loop is no worker"),
        }
    }

    /// Starts the process without waiting.
    pub fn spawn(&mut self) -> Result<()> {
        match self {
            Self::Connect(worker) => worker.spawn(),
            Self::Tributary(worker) => worker.spawn(),
        }
    }

    pub fn rest(&self) -> &Rest {
        match self {
            Self::Connect(worker) => worker.rest(),
            Self::Tributary(worker) => worker.rest(),
        }
    }

    pub fn pid(&self) -> Result<u32> {
        match self {
            Self::Connect(worker) => worker.pid(),
            Self::Tributary(worker) => worker.pid(),
        }
    }
}
