//! Where the REST API listens, and the rule that an open listener has to be asked for.

use std::net::IpAddr;

/// A listener of the REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The protocol.
    pub scheme: Scheme,
    /// Host name or address; empty: all interfaces.
    pub host: String,
    /// The port; 0: a free one.
    pub port: u16,
}

/// Protocols of listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme {
    Http,
    Https,
}

impl Listener {
    /// The listener of a worker whose properties name none.
    pub fn loopback() -> Self {
        Self { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port: 8083 }
    }

    /// Reads `http://host:port`, as in Kafka Connect's `listeners`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "invalid value {text} for configuration listeners: write protocol://host:port, for example http://127.0.0.1:8083"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(wrong()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self { scheme, host: host.to_owned(), port })
    }

    /// Whether only programs on this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().map_or(self.host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
    }

    /// What to bind: host (all interfaces if empty) and port.
    pub fn address(&self) -> (&str, u16) {
        let host = if self.host.is_empty() || self.host == "*" { "0.0.0.0" } else { &self.host };
        (host, self.port)
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.scheme == Scheme::Https { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_listeners_and_tells_loopback() {
        for (text, host, port, loopback) in [
            ("http://127.0.0.1:8083", "127.0.0.1", 8083, true),
            ("HTTP://localhost:0", "localhost", 0, true),
            ("http://[::1]:1", "::1", 1, true),
            ("https://:8443", "", 8443, false),
            ("http://0.0.0.0:8083", "0.0.0.0", 8083, false),
            ("http://connect.example.com:80", "connect.example.com", 80, false),
        ] {
            let listener = Listener::parse(text).unwrap();
            assert_eq!(
                (listener.host.as_str(), listener.port, listener.is_loopback()),
                (host, port, loopback),
                "{text}"
            );
        }
        for text in ["8083", "127.0.0.1:8083", "ftp://a:1", "http://a", "http://a:70000"] {
            assert!(Listener::parse(text).unwrap_err().contains(text));
        }
    }
}
