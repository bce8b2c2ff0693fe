//! The webhook source's config.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderName;
use ring::hmac;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Importance, Type};

use super::{Wrong, keys, needed, present};
use crate::client::{get, parse, server_tls};
use crate::webhook::body::{Form, Reading, Split};
use crate::webhook::signature::{Gate, Secret, Signature, basic};

pub(crate) const TOPIC: &str = "topic";
const LISTEN: &str = "listen";
const PATH: &str = "path";
const VALUE_FORMAT: &str = "value.format";
const RECORDS: &str = "records";
const KEY_POINTER: &str = "key.pointer";
const KEY_HEADER: &str = "key.header";
const FORWARD: &str = "headers.forward";
const SIGNATURE_TYPE: &str = "signature.type";
const SIGNATURE_SECRET: &str = "signature.secret";
const SIGNATURE_HEADER: &str = "signature.header";
const SIGNATURE_PREFIX: &str = "signature.prefix";
const SIGNATURE_ENCODING: &str = "signature.encoding";
const SIGNATURE_ALGORITHM: &str = "signature.algorithm";
const SIGNATURE_TOLERANCE: &str = "signature.tolerance.ms";
const OPEN: &str = "allow.unauthenticated";
const MAX_BODY: &str = "max.body.bytes";
const MAX_RECORDS: &str = "max.body.records";
const RATE: &str = "rate.limit";
const MAX_CONNECTIONS: &str = "max.connections";
const BUFFER: &str = "buffer.bytes";
const REQUEST_TIMEOUT: &str = "request.timeout.ms";
const ANSWER_TIMEOUT: &str = "answer.timeout.ms";

/// The webhook source's config, parsed.
pub(crate) struct WebhookConfig {
    pub topic: Arc<str>,
    pub listen: SocketAddr,
    pub path: String,
    pub reading: Reading,
    pub gate: Gate,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub max_body: usize,
    /// Requests a second.
    pub rate: Option<f64>,
    pub max_connections: usize,
    pub buffer: usize,
    pub request_timeout: Duration,
    pub answer_timeout: Duration,
}

impl WebhookConfig {
    pub fn definition() -> ConfigDef {
        use Importance::{High, Low, Medium};
        let text = |name, documentation| ConfigKey::nullable(name, Type::String, Medium, documentation);
        let password = |name, documentation| ConfigKey::nullable(name, Type::Password, Medium, documentation);
        let choice = |name, default, documentation, values: &[&str]| {
            ConfigKey::optional(name, Type::String, default, Medium, documentation)
                .validator(Validator::one_of(values))
                .recommended(values)
        };
        let number = |name, kind, default, documentation, least: f64, most: f64| {
            ConfigKey::optional(name, kind, default, Low, documentation).validator(Validator::between(least, most))
        };
        ConfigDef::new()
            .define(
                ConfigKey::required(TOPIC, Type::String, High, "The topic that what comes in goes to.")
                    .validator(Validator::NonEmpty),
            )
            .define(ConfigKey::optional(
                LISTEN,
                Type::String,
                "127.0.0.1:8088",
                High,
                "Address and port to listen on, such as 0.0.0.0:8088. All tasks on a machine share it, and each machine that runs one listens on it.",
            ))
            .define(ConfigKey::optional(PATH, Type::String, "/", Medium, "The path that requests have to name. Others are answered with 404."))
            .define(choice(
                VALUE_FORMAT,
                "json",
                "What the values are: 'json' (schemaless, checked: what is no JSON is answered with 400), 'text', or 'bytes' as they come.",
                &["json", "text", "bytes"],
            ))
            .define(choice(
                RECORDS,
                "auto",
                "What of a body is a record: 'body' is all of it, 'json-array' the items of an array, 'ndjson' each line; 'auto' takes lines where the Content-Type says so, and the items of an array where the body is one.",
                &["auto", "body", "json-array", "ndjson"],
            ))
            .define(text(KEY_POINTER, "JSON pointer into the record (/user/id) to what becomes its key. A record without it is answered with 400."))
            .define(text(KEY_HEADER, "The request's header that becomes the key, such as X-GitHub-Delivery."))
            .define(ConfigKey::optional(FORWARD, Type::List, "", Low, "The request's headers that become headers of its records."))
            .define(choice(
                keys::AUTH_TYPE,
                "none",
                "How senders sign in: 'basic' with auth.user and auth.password, 'bearer' with auth.token.",
                &["none", "basic", "bearer"],
            ))
            .define(text(keys::AUTH_USER, "User name of basic authentication."))
            .define(password(keys::AUTH_PASSWORD, "Password of basic authentication."))
            .define(password(keys::AUTH_TOKEN, "Bearer token."))
            .define(choice(
                SIGNATURE_TYPE,
                "none",
                "How bodies are signed with signature.secret: as 'github' does (X-Hub-Signature-256), as 'stripe' does (Stripe-Signature, with a time), or 'generic': an HMAC of the body in signature.header.",
                &["none", "github", "stripe", "generic"],
            ))
            .define(password(SIGNATURE_SECRET, "The secret that bodies are signed with; several, separated by commas, while it is being changed."))
            .define(ConfigKey::optional(SIGNATURE_HEADER, Type::String, "X-Signature", Low, "The header of a generic signature."))
            .define(text(SIGNATURE_PREFIX, "What stands before a generic signature in its header, such as sha256=."))
            .define(choice(SIGNATURE_ENCODING, "hex", "How a generic signature is written.", &["hex", "base64"]))
            .define(choice(SIGNATURE_ALGORITHM, "sha256", "The hash of a generic signature.", &["sha256", "sha512", "sha1"]))
            .define(number(
                SIGNATURE_TOLERANCE,
                Type::Long,
                "300000",
                "How old or how far in the future a signature with a time may be.",
                1000.0,
                86_400_000.0,
            ))
            .define(ConfigKey::optional(
                OPEN,
                Type::Boolean,
                "false",
                Low,
                "Whether everybody who reaches the address may send, without authentication or signature. On the loopback address that is so anyway.",
            ))
            .define(text(keys::KEYSTORE, "PEM file with the certificate chain and its private key, not encrypted: with it, the listener speaks TLS."))
            .define(text(keys::KEYSTORE_CHAIN, "The certificate chain itself, PEM, instead of a file."))
            .define(password(keys::KEYSTORE_KEY, "The private key of that chain, PEM, not encrypted."))
            .define(number(MAX_BODY, Type::Int, "1048576", "The largest body; a larger one is answered with 413.", 1.0, 268_435_456.0))
            .define(number(MAX_RECORDS, Type::Int, "10000", "The most records in a body; more are answered with 413.", 1.0, 100_000.0))
            .define(number(
                RATE,
                Type::Double,
                "0",
                "Requests a second that each task takes, with a second's worth at once; more are answered with 429 and Retry-After. 0: no limit.",
                0.0,
                1_000_000.0,
            ))
            .define(number(MAX_CONNECTIONS, Type::Int, "1024", "Connections at a time; further ones wait to be accepted.", 1.0, 65_535.0))
            .define(number(
                BUFFER,
                Type::Int,
                "67108864",
                "The most bytes of bodies that wait until they are durable; beyond that, requests are answered with 503 and Retry-After.",
                1024.0,
                2_147_483_647.0,
            ))
            .define(number(REQUEST_TIMEOUT, Type::Long, "30000", "How long a request may take to come in, and a connection may be idle.", 1.0, 3_600_000.0))
            .define(number(
                ANSWER_TIMEOUT,
                Type::Long,
                "30000",
                "How long a request may wait until its records are durable; then it is answered with 503, and the sender has to send it again.",
                1.0,
                3_600_000.0,
            ))
    }

    /// Reads a config; the error names the key to blame.
    pub fn parse(config: &Config) -> Result<Self, Wrong> {
        let values = parse(&Self::definition(), config)?;
        let text = |key: &str| get::<String>(&values, key);
        let wrong = |key: &str, why: &str| (key.to_owned(), why.to_owned());
        let header = |key: &str, name: &str| {
            name.parse::<HeaderName>().map_err(|_| wrong(key, &format!("{name:?} is no name of a header")))
        };
        let listen: SocketAddr = text(LISTEN)?
            .parse()
            .map_err(|_| wrong(LISTEN, "it is no address with a port, such as 0.0.0.0:8088 or [::]:8088"))?;
        let path = text(PATH)?;
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(wrong(PATH, "it has to begin with / and to have no query"));
        }
        let gate = gate(config, &values)?;
        let open = get::<bool>(&values, OPEN)?;
        if gate.is_open() && !open && !is_loopback(listen.ip()) {
            return Err(wrong(
                LISTEN,
                "everybody who reaches this address could write to the topic: set signature.type or auth.type, or allow.unauthenticated=true",
            ));
        }
        let key_pointer = present(config, KEY_POINTER).map(str::to_owned);
        if key_pointer.as_ref().is_some_and(|pointer| !pointer.starts_with('/')) {
            return Err(wrong(KEY_POINTER, "a JSON pointer begins with /"));
        }
        let forwarded: Vec<String> = get(&values, FORWARD)?;
        let reading = Reading {
            split: match text(RECORDS)?.as_str() {
                "body" => Split::None,
                "json-array" => Split::JsonArray,
                "ndjson" => Split::NdJson,
                _ => Split::Auto,
            },
            form: match text(VALUE_FORMAT)?.as_str() {
                "text" => Form::Text,
                "bytes" => Form::Bytes,
                _ => Form::Json,
            },
            key_pointer,
            key_header: present(config, KEY_HEADER).map(|name| header(KEY_HEADER, name)).transpose()?,
            headers: forwarded.iter().map(|name| header(FORWARD, name)).collect::<Result<_, _>>()?,
            most: get(&values, MAX_RECORDS)?,
        };
        Ok(Self {
            topic: text(TOPIC)?.into(),
            listen,
            path,
            reading,
            gate,
            tls: server_tls(config)?,
            max_body: get(&values, MAX_BODY)?,
            rate: Some(get::<f64>(&values, RATE)?).filter(|rate| *rate > 0.0),
            max_connections: get(&values, MAX_CONNECTIONS)?,
            buffer: get(&values, BUFFER)?,
            request_timeout: get(&values, REQUEST_TIMEOUT)?,
            answer_timeout: get(&values, ANSWER_TIMEOUT)?,
        })
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn gate(config: &Config, values: &tributary_sdk::Parsed) -> Result<Gate, Wrong> {
    let text = |key: &str| get::<String>(values, key);
    let (auth, signature) = (text(keys::AUTH_TYPE)?, text(SIGNATURE_TYPE)?);
    let auth_because = format!("auth.type={auth}");
    let authorization = match auth.as_str() {
        "basic" => {
            let password = needed(config, keys::AUTH_PASSWORD, &auth_because)?;
            Some(Secret::new(&basic(needed(config, keys::AUTH_USER, &auth_because)?, password)))
        }
        "bearer" => Some(Secret::new(&format!("Bearer {}", needed(config, keys::AUTH_TOKEN, &auth_because)?))),
        _ => None,
    };
    let scheme = match signature.as_str() {
        "github" => Signature::GitHub,
        "stripe" => Signature::Stripe { tolerance: get::<i64>(values, SIGNATURE_TOLERANCE)? / 1000 },
        "generic" => {
            let name = text(SIGNATURE_HEADER)?;
            let header =
                name.parse().map_err(|_| (SIGNATURE_HEADER.to_owned(), format!("{name:?} is no name of a header")))?;
            let prefix = present(config, SIGNATURE_PREFIX).unwrap_or_default().to_owned();
            Signature::Generic { header, prefix, base64: text(SIGNATURE_ENCODING)? == "base64" }
        }
        _ => return Ok(Gate { authorization, signature: None }),
    };
    let algorithm = match text(SIGNATURE_ALGORITHM)?.as_str() {
        "sha512" if signature == "generic" => hmac::HMAC_SHA512,
        "sha1" if signature == "generic" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        _ => hmac::HMAC_SHA256,
    };
    let secrets = needed(config, SIGNATURE_SECRET, &format!("signature.type={signature}"))?;
    let secrets = secrets.split(',').map(str::trim).filter(|secret| !secret.is_empty());
    let hmac_keys: Vec<hmac::Key> = secrets.map(|secret| hmac::Key::new(algorithm, secret.as_bytes())).collect();
    if hmac_keys.is_empty() {
        return Err((SIGNATURE_SECRET.to_owned(), "there is no secret in it".to_owned()));
    }
    Ok(Gate { authorization, signature: Some((scheme, hmac_keys)) })
}
