//! Where a source's transactions end: `transaction.boundary`.

use std::time::Duration;

use tributary_sdk::Config;

/// Where transactions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// After each poll.
    Poll,
    /// After so long.
    Interval(Duration),
    /// Where the connector says.
    Connector,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Records and positions are committed.
    Commit,
    /// The records are dropped, and the positions are committed, so that they are not read again.
    Discard,
}

impl Boundary {
    /// A connector's choice; `default` is the worker's `offset.flush.interval.ms`.
    pub fn new(config: &Config, default: Duration) -> Result<Self, String> {
        let key = "transaction.boundary";
        match config.get(key).map_or("poll", str::trim).to_ascii_lowercase().as_str() {
            "poll" => Ok(Self::Poll),
            "connector" => Ok(Self::Connector),
            "interval" => {
                let key = "transaction.boundary.interval.ms";
                let interval = match config.get(key).map(str::trim) {
                    None => default,
                    Some(text) => Duration::from_millis(
                        text.parse().map_err(|_| format!("{key}={text}: a number of milliseconds is wanted"))?,
                    ),
                };
                Ok(Self::Interval(interval))
            }
            other => Err(format!("{key}={other}: write poll, interval or connector")),
        }
    }

    /// How long a transaction may be open before the cluster aborts it: Kafka's default, and more where it is meant to be open
    /// for long.
    pub fn transaction_timeout(self) -> Duration {
        let kafka = Duration::from_secs(60);
        match self {
            Self::Interval(interval) => kafka + interval,
            Self::Poll | Self::Connector => kafka,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_connects() {
        let boundary = |pairs: &[(&str, &str)]| Boundary::new(&pairs.iter().copied().collect(), Duration::from_secs(7));
        assert_eq!(boundary(&[]), Ok(Boundary::Poll));
        assert_eq!(boundary(&[("transaction.boundary", "CONNECTOR")]), Ok(Boundary::Connector));
        assert_eq!(boundary(&[("transaction.boundary", "Interval")]), Ok(Boundary::Interval(Duration::from_secs(7))));
        let set = [("transaction.boundary", "interval"), ("transaction.boundary.interval.ms", "50")];
        assert_eq!(boundary(&set), Ok(Boundary::Interval(Duration::from_millis(50))));
        assert!(boundary(&[("transaction.boundary", "hour")]).unwrap_err().contains("poll, interval or connector"));
        assert_eq!(boundary(&set).unwrap().transaction_timeout(), Duration::from_millis(60_050));
    }
}
