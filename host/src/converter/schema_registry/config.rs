//! The keys of the registry's client and of all its converters, parsed.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::{Config, Error, Result};

use super::subject::SubjectStrategy;
use crate::converter::config::boolean;
use crate::group::wire::security::jaas::Jaas;

/// How the registry is reached, and what is registered there.
#[derive(Clone)]
pub struct RegistryConfig {
    /// Without a slash at the end, tried in this order.
    pub urls: Vec<String>,
    /// The value of the header `Authorization`.
    pub authorization: Option<String>,
    /// Further headers (`request.header.<name>`).
    pub headers: Vec<(String, String)>,
    /// `proxy.host` and `proxy.port`, as a URL.
    pub proxy: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub read_timeout: Duration,
    /// Schemas that are not known are registered.
    pub auto_register: bool,
    /// Values are written by the subject's newest schema.
    pub use_latest: bool,
    /// Values are written by the schema with this id.
    pub use_id: Option<u32>,
    /// With either: a field that the schema does not have is an error, not left out.
    pub strict: bool,
    /// The registry brings schemas into a normal form.
    pub normalize: bool,
    /// The subject of schemas.
    pub subject: SubjectStrategy,
    /// How many schemas are kept.
    pub cache_size: usize,
    /// How long a subject's newest schema is believed to be that.
    pub latest_ttl: Option<Duration>,
    /// How long an id that is not known is not asked for again.
    pub missing_ttl: Duration,
}

impl RegistryConfig {
    /// Of a converter's own config.
    pub fn parse(config: &Config, is_key: bool) -> Result<Self> {
        let mut urls = Vec::new();
        let mut in_url = None;
        for url in config.list("schema.registry.url") {
            let (url, user_info) = split_user_info(url)?;
            in_url = in_url.or(user_info);
            urls.push(url);
        }
        if urls.is_empty() {
            return Err(Error::failed(
                "Missing required configuration \"schema.registry.url\" which has no default value.",
            ));
        }
        let strategy = if is_key { "key.subject.name.strategy" } else { "value.subject.name.strategy" };
        let use_id = config.parsed("use.schema.id", -1_i64)?;
        let seconds = |key, default: i64| -> Result<Option<Duration>> {
            Ok(u64::try_from(config.parsed(key, default)?).ok().map(Duration::from_secs))
        };
        let proxy = config.get("proxy.host").map(str::trim).filter(|host| !host.is_empty());
        let parsed = Self {
            authorization: authorization(config, in_url)?,
            headers: config.with_prefix("request.header.").0.into_iter().collect(),
            proxy: match proxy {
                None => None,
                Some(host) => Some(format!("http://{host}:{}", config.parsed("proxy.port", 8080_u16)?)),
            },
            connect_timeout: Duration::from_millis(config.parsed("http.connect.timeout.ms", 10_000)?),
            read_timeout: Duration::from_millis(config.parsed("http.read.timeout.ms", 10_000)?),
            auto_register: boolean(config, "auto.register.schemas", true)?,
            use_latest: boolean(config, "use.latest.version", false)?,
            use_id: u32::try_from(use_id).ok(),
            strict: boolean(config, "latest.compatibility.strict", true)?,
            normalize: boolean(config, "normalize.schemas", false)?,
            subject: config
                .get(strategy)
                .map_or(Ok(SubjectStrategy::default()), |class| SubjectStrategy::parse(class, strategy))?,
            cache_size: config.parsed("max.schemas.per.subject", 1000_usize)?.max(1),
            latest_ttl: seconds("latest.cache.ttl.sec", -1)?,
            missing_ttl: seconds("missing.id.cache.ttl.sec", 30)?.unwrap_or(Duration::from_secs(30)),
            urls,
        };
        if parsed.auto_register && (parsed.use_latest || parsed.use_id.is_some()) {
            let key = if parsed.use_latest { "use.latest.version" } else { "use.schema.id" };
            tracing::warn!("{key} has no effect while auto.register.schemas=true; set that to false");
        }
        Ok(parsed)
    }
}

/// `https://user:password@host/path` without what is before the `@`.
fn split_user_info(url: &str) -> Result<(String, Option<String>)> {
    let plain = url.trim().trim_end_matches('/');
    let wrong = |what: &str| Error::failed(format!("Invalid value for configuration schema.registry.url: {what}"));
    let (scheme, rest) = plain.split_once("://").ok_or_else(|| wrong("a URL begins with http:// or https://"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(wrong(&format!("{scheme}:// is not supported; use http:// or https://")));
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, user_info) = match rest[..end].rsplit_once('@') {
        Some((user_info, host)) => (host, Some(percent_decoded(user_info))),
        None => (&rest[..end], None),
    };
    if host.is_empty() {
        return Err(wrong("a URL has no host"));
    }
    Ok((format!("{scheme}://{host}{}", &rest[end..]), user_info))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match escape.filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn authorization(config: &Config, in_url: Option<String>) -> Result<Option<String>> {
    let set = |key: &str| config.get(key).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned);
    let basic = |user_info: String| Some(format!("Basic {}", STANDARD.encode(user_info)));
    if let Some(source) = set("bearer.auth.credentials.source") {
        if source != "STATIC_TOKEN" {
            return Err(Error::failed(format!(
                "Invalid value {source} for configuration bearer.auth.credentials.source: only STATIC_TOKEN is supported, with bearer.auth.token"
            )));
        }
        let token = set("bearer.auth.token").ok_or_else(|| {
            Error::failed("bearer.auth.credentials.source=STATIC_TOKEN needs bearer.auth.token, which is not set")
        })?;
        return Ok(Some(format!("Bearer {token}")));
    }
    match set("basic.auth.credentials.source").as_deref() {
        None | Some("URL") => Ok(in_url.and_then(basic)),
        Some("USER_INFO") => {
            let user_info = set("schema.registry.basic.auth.user.info").or_else(|| set("basic.auth.user.info"));
            user_info.map(basic).ok_or_else(|| {
                Error::failed("basic.auth.credentials.source=USER_INFO needs basic.auth.user.info, which is not set")
            })
        }
        Some("SASL_INHERIT") => {
            let jaas = set("sasl.jaas.config").map(|text| Jaas::parse(&text)).transpose();
            let jaas = jaas.map_err(|reason| {
                Error::failed(format!("Invalid value for configuration sasl.jaas.config: {reason}"))
            })?;
            let option = |name: &str| jaas.as_ref().and_then(|jaas| jaas.option(name));
            match option("username").zip(option("password")) {
                Some((user, password)) => Ok(basic(format!("{user}:{password}"))),
                None => Err(Error::failed(
                    "basic.auth.credentials.source=SASL_INHERIT needs sasl.jaas.config with username and password among the converter's own keys",
                )),
            }
        }
        Some(other) => Err(Error::failed(format!(
            "Invalid value {other} for configuration basic.auth.credentials.source: use URL, USER_INFO or SASL_INHERIT"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<RegistryConfig> {
        let pairs = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        RegistryConfig::parse(&Config(pairs.collect()), false)
    }

    #[test]
    fn credentials_come_from_where_the_config_says() {
        let basic = |user_info: &str| Some(format!("Basic {}", STANDARD.encode(user_info)));
        let url = ("schema.registry.url", "https://u:p%40@a:1/x/, http://b");
        let parsed = parse(&[url]).unwrap();
        assert_eq!(parsed.urls, ["https://a:1/x", "http://b"]);
        assert_eq!(parsed.authorization, basic("u:p@"));
        let source = |source| ("basic.auth.credentials.source", source);
        let parsed = parse(&[url, source("USER_INFO"), ("basic.auth.user.info", "x:y")]).unwrap();
        assert_eq!(parsed.authorization, basic("x:y"));
        let jaas =
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"me\" password='pass word';";
        let parsed = parse(&[url, source("SASL_INHERIT"), ("sasl.jaas.config", jaas)]).unwrap();
        assert_eq!(parsed.authorization, basic("me:pass word"));
        let bearer = [url, ("bearer.auth.credentials.source", "STATIC_TOKEN"), ("bearer.auth.token", "t")];
        assert_eq!(parse(&bearer).unwrap().authorization.as_deref(), Some("Bearer t"));
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        for (pairs, part) in [
            (&[][..], "schema.registry.url"),
            (&[("schema.registry.url", "mock://x")], "use http:// or https://"),
            (&[("schema.registry.url", "localhost:8081")], "begins with http://"),
            (
                &[("schema.registry.url", "http://a"), ("basic.auth.credentials.source", "USER_INFO")],
                "basic.auth.user.info",
            ),
            (&[("schema.registry.url", "http://a"), ("value.subject.name.strategy", "Mine")], "RecordNameStrategy"),
        ] {
            let message = parse(pairs).err().expect("refused").to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
