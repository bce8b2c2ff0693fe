//! Who does the work.

/// One row of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// librdkafka alone, without a file: what no worker can exceed.
    Raw,
    /// The plain one-task loop.
    Plain,
    /// Kafka Connect 4.3.1, warm.
    Connect,
    /// Tributary.
    Tributary,
}

impl Contender {
    /// All, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Plain, Self::Connect, Self::Tributary];

    /// For the command line.
    pub fn key(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Plain => "plain",
            Self::Connect => "connect",
            Self::Tributary => "tributary",
        }
    }

    /// For the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Raw => "raw librdkafka",
            Self::Plain => "plain loop",
            Self::Connect => "Kafka Connect 4.3.1, warm",
            Self::Tributary => "Tributary",
        }
    }
}
