//! JDBC URLs of PostgreSQL: `jdbc:postgresql://host:port,host:port/database?parameter=value&…`.
//!
//! Messages never show what stands behind the question mark: there may be a password.

use std::collections::BTreeMap;

use tributary_sdk::{Error, Result};

/// A URL's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JdbcUrl {
    /// Host and port, in the order in which they are tried.
    pub hosts: Vec<(String, u16)>,
    /// `None`: that of the same name as the user.
    pub database: Option<String>,
    pub parameters: BTreeMap<String, String>,
}

const FORM: &str = "write jdbc:postgresql://host:port/database?parameter=value";

impl JdbcUrl {
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::failed(format!("connection.url: {why}; {FORM}"));
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(wrong("there are control characters in it"));
        }
        let rest = text.strip_prefix("jdbc:postgresql:").ok_or_else(|| {
            let scheme = text.split("//").next().unwrap_or_default();
            let scheme = scheme.split('?').next().unwrap_or_default();
            match scheme.strip_prefix("jdbc:") {
                Some(other) => wrong(&format!("{other} is another database, and this sink writes to PostgreSQL")),
                None => wrong("it is no JDBC URL of PostgreSQL"),
            }
        })?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, database) = match place.strip_prefix("//") {
            Some(place) => place.split_once('/').unwrap_or((place, "")),
            None => ("", place.trim_start_matches('/')),
        };
        let hosts = if hosts.is_empty() {
            vec![("localhost".to_owned(), 5432)]
        } else {
            hosts
                .split(',')
                .map(|host| host_and_port(host).ok_or_else(|| wrong("a host or port is not valid")))
                .collect::<Result<_>>()?
        };
        let database =
            decoded(database).ok_or_else(|| wrong("the database's name is not percent-encoded as it should be"))?;
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)
                .ok_or_else(|| wrong(&format!("the parameter {name} is not percent-encoded as it should be")))?;
            parameters.insert(name.to_owned(), value);
        }
        Ok(Self { hosts, database: Some(database).filter(|name| !name.is_empty()), parameters })
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(5432), |port| port.parse().ok())?;
    let legal = !host.is_empty() && !host.contains(['@', '/', ' ']);
    legal.then(|| (host.to_owned(), port))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_the_driver_takes_them() {
        let url =
            JdbcUrl::parse("jdbc:postgresql://db-1:5433,[::1],db-3/sh%20op?sslmode=require&password=a%26b").unwrap();
        let hosts = [("db-1".to_owned(), 5433), ("::1".to_owned(), 5432), ("db-3".to_owned(), 5432)];
        assert_eq!((url.hosts, url.database.as_deref()), (hosts.to_vec(), Some("sh op")));
        assert_eq!((&*url.parameters["sslmode"], &*url.parameters["password"]), ("require", "a&b"));
        let url = JdbcUrl::parse("jdbc:postgresql:shop").unwrap();
        assert_eq!((&*url.hosts[0].0, url.database.as_deref()), ("localhost", Some("shop")));
        assert_eq!(JdbcUrl::parse("jdbc:postgresql://db/").unwrap().database, None);
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for url in [
            "jdbc:mysql://db/shop?password=s3cret",
            "postgres://u:s3cret@db/shop",
            "jdbc:postgresql://u:s3cret@db/x",
            "jdbc:postgresql://db:x/shop?password=s3cret",
            "jdbc:postgresql://db/shop?password=s3cret%",
        ] {
            let error = JdbcUrl::parse(url).unwrap_err().to_string();
            assert!(error.starts_with("connection.url") && !error.contains("s3cret"), "{error}");
        }
        assert!(JdbcUrl::parse("jdbc:mysql://db/shop").unwrap_err().to_string().contains("mysql: is another"));
    }
}
