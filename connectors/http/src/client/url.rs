//! URLs: checked once, shown without what may be secret, and joined with where a redirect leads.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

/// Scheme, host and port: what a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub https: bool,
    /// Lower case; IPv6 addresses without brackets.
    pub host: String,
    pub port: u16,
}

impl Origin {
    /// Of an absolute `http` or `https` URL without user and password.
    pub fn of(uri: &Uri) -> Result<Self, String> {
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("it has to begin with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("it has no host")?;
        if authority.as_str().contains('@') {
            return Err("it must not hold a user or password; set auth.type=basic".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("it has no host".to_owned());
        }
        // By hand: what is no port is none to the library, and would be the scheme's.
        let port = match authority.as_str().get(authority.host().len()..).unwrap_or_default() {
            "" if https => 443,
            "" => 80,
            text => {
                let number = text.strip_prefix(':').and_then(|port| port.parse().ok());
                number.ok_or_else(|| "its port is no number up to 65535".to_owned())?
            }
        };
        Ok(Self { https, host, port })
    }

    /// `host:port`, as CONNECT wants it.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What a request needs to know of where it goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub origin: Arc<Origin>,
    /// As the request's `Host`.
    pub host: HeaderValue,
}

/// The last target: most requests go to the same one as the request before.
#[derive(Debug, Default)]
pub(crate) struct LastTarget(Mutex<Option<(Scheme, Authority, Target)>>);

impl LastTarget {
    /// The target of a URL, or what is wrong with it.
    pub fn of(&self, uri: &Uri) -> Result<Target, String> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(scheme), Some(authority), Some((last_scheme, last_authority, target))) =
            (uri.scheme(), uri.authority(), &*last)
            && (scheme, authority.as_str()) == (last_scheme, last_authority.as_str())
        {
            return Ok(target.clone());
        }
        let origin = Arc::new(Origin::of(uri)?);
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or("it has no host")?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
        let target = Target { origin, host };
        *last = Some((scheme.clone(), authority.clone(), target.clone()));
        Ok(target)
    }
}

/// Reads an absolute URL; the error says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("it is no URL: {error}"))?;
    Origin::of(&uri)?;
    Ok(uri)
}

/// The URL without its query, which may hold what is not for logs.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", Authority::as_str);
    let query = if uri.query().is_some() { "?…" } else { "" };
    format!("{scheme}://{authority}{}{query}", uri.path())
}

/// Where a `Location` leads, seen from `base`.
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.split('#').next().unwrap_or_default().trim();
    // In a query, it is part of a value.
    let scheme = location.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| !scheme.contains(['/', '?'])) {
        return parse(location);
    }
    let scheme = base.scheme_str().unwrap_or("http");
    if let Some(rest) = location.strip_prefix("//") {
        return parse(&format!("{scheme}://{rest}"));
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') {
        format!("{}{location}", base.path())
    } else if location.is_empty() {
        base.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{directory}/{location}")
    };
    let authority = base.authority().map_or("", Authority::as_str);
    parse(&format!("{scheme}://{authority}{path}"))
}

/// The URL without its query: what source partitions are named by.
pub(crate) fn without_query(uri: &Uri) -> String {
    uri.to_string().split('?').next().unwrap_or_default().to_owned()
}

/// Whether both lead to the same server.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    matches!((Origin::of(a), Origin::of(b)), (Ok(a), Ok(b)) if a == b)
}

/// Percent-encoded but for letters, digits and `-._~`.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                encoded.extend(['%', DIGITS[usize::from(byte >> 4)].into(), DIGITS[usize::from(byte & 15)].into()]);
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        let origin = |text: &str| parse(text).map(|uri| Origin::of(&uri).unwrap().authority());
        assert_eq!(origin("http://Example.org/a?b").unwrap(), "example.org:80");
        assert_eq!(origin("https://[::1]/").unwrap(), "[::1]:443");
        assert_eq!(origin("https://h:8443").unwrap(), "h:8443");
        for wrong in
            ["ftp://h/", "/path", "h", "http://u:p@h/", "http://h:99999/", "http://h:/", "http:///x", "http://h/\n"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(encoded("a b/ä~"), "a%20b%2F%C3%A4~");
        assert_eq!(shown(&parse("https://h/a/b?token=1").unwrap()), "https://h/a/b?…");
    }

    #[test]
    fn locations_are_joined() {
        let base = parse("https://h:1/a/b?c=d").unwrap();
        for (location, expected) in [
            ("/x?y", "https://h:1/x?y"),
            ("x", "https://h:1/a/x"),
            ("?page=2", "https://h:1/a/b?page=2"),
            ("//other/z#f", "https://other/z"),
            ("http://other:2/z", "http://other:2/z"),
            ("", "https://h:1/a/b?c=d"),
            ("/x?to=http://other/", "https://h:1/x?to=http://other/"),
            ("?to=http://other/", "https://h:1/a/b?to=http://other/"),
            ("x/http://other/", "https://h:1/a/x/http://other/"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expected, "{location}");
        }
        assert!(join(&base, "ftp://x/").is_err());
    }

    #[test]
    fn the_last_target_is_never_taken_for_another_one() {
        let last = LastTarget::default();
        let urls =
            ["http://a/x", "http://a/y", "https://a/x", "http://a:81/x", "http://b/x", "http://A/x", "http://a/x"];
        for url in urls {
            let uri: Uri = url.parse().unwrap();
            // Twice: once as another one than the last, once as the same.
            for _ in 0..2 {
                let target = last.of(&uri).unwrap();
                assert_eq!(*target.origin, Origin::of(&uri).unwrap(), "{url}");
                assert_eq!(target.host, uri.authority().unwrap().as_str(), "{url}");
            }
        }
        assert!(last.of(&"ftp://a/x".parse().unwrap()).is_err());
        assert!(last.of(&"http://user@a/x".parse().unwrap()).is_err());
    }
}
