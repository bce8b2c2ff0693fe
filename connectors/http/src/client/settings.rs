//! A client by its config.

use std::sync::Mutex;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderName};
use tributary_sdk::config_def::FromConfig;
use tributary_sdk::{Config, ConfigDef, Parsed};

use super::address::Allowed;
use super::auth::{self, Auth, OAuth2};
use super::connection::{Dialer, Proxy};
use super::pool::Pool;
use super::{Backoff, Hidden, HttpClient, Statuses, secret_value, tls, url};
use crate::config::{self, Wrong, keys, needed, present};

impl HttpClient {
    /// Reads the keys of [`config::client`]; the error names the key to blame. Nothing is connected to.
    pub fn from_config(config: &Config, redirects: usize, confidential: bool) -> Result<Self, Wrong> {
        let values = parse(&config::client::definition(), config)?;
        let hidden = Hidden::default();
        let auth = auth(config, &values, &hidden)?;
        let proxy = proxy(config, &hidden)?;
        let allowed: Vec<String> = get(&values, keys::ADDRESSES)?;
        let allowed = Allowed {
            loopback: allowed.iter().any(|class| class == "loopback"),
            link_local: allowed.iter().any(|class| class == "link-local"),
        };
        for key in [keys::KEYSTORE_KEY].iter().filter_map(|key| present(config, key)) {
            hidden.add(key);
        }
        let connect_timeout = get(&values, keys::CONNECT_TIMEOUT)?;
        let confidential = confidential || auth.is_some() || tls::has_identity(config);
        Ok(Self {
            dialer: Dialer { allowed, tls: tls::client_config(config)?, proxy, timeout: connect_timeout },
            pool: Pool::default(),
            last_target: url::LastTarget::default(),
            auth,
            confidential,
            connect_timeout,
            request_timeout: get(&values, keys::REQUEST_TIMEOUT)?,
            redirects,
            hidden,
        })
    }

    /// Whether credentials are sent where everybody on the way can read them.
    pub fn shows_credentials(&self, https: bool) -> bool {
        self.auth.is_some() && !https
    }
}

/// A typed value, or the key to blame.
pub(crate) fn get<T: FromConfig>(values: &Parsed, key: &str) -> Result<T, Wrong> {
    values.get(key).map_err(|error| (key.to_owned(), error.to_string()))
}

/// A config's typed values, or the first key that is wrong.
pub(crate) fn parse(definition: &ConfigDef, config: &Config) -> Result<Parsed, Wrong> {
    let wrong =
        definition.validate(config).into_iter().find_map(|value| Some((value.name, value.errors.into_iter().next()?)));
    match wrong {
        Some(wrong) => Err(wrong),
        None => definition.parse(config).map_err(|error| (String::new(), error.to_string())),
    }
}

fn auth(config: &Config, values: &Parsed, hidden: &Hidden) -> Result<Auth, Wrong> {
    let kind: String = get(values, keys::AUTH_TYPE)?;
    let because = format!("auth.type={kind}");
    let need = |key| needed(config, key, &because);
    let secret = |key: &str, text: &str| {
        hidden.add(text);
        secret_value(text).map_err(|why| (key.to_owned(), why))
    };
    Ok(match kind.as_str() {
        "basic" => {
            let password = config.get(keys::AUTH_PASSWORD).unwrap_or_default().trim();
            Auth::Header(AUTHORIZATION, auth::basic(need(keys::AUTH_USER)?, password, hidden))
        }
        "bearer" => {
            let token = need(keys::AUTH_TOKEN)?;
            hidden.add(token);
            Auth::Header(AUTHORIZATION, secret(keys::AUTH_TOKEN, &format!("Bearer {token}"))?)
        }
        "header" => {
            let name: HeaderName = need(keys::AUTH_HEADER)?
                .parse()
                .map_err(|_| (keys::AUTH_HEADER.to_owned(), "it is no name of a header".to_owned()))?;
            Auth::Header(name, secret(keys::AUTH_HEADER_VALUE, need(keys::AUTH_HEADER_VALUE)?)?)
        }
        "oauth2" => {
            let token_url = url::parse(need(keys::TOKEN_URL)?).map_err(|why| (keys::TOKEN_URL.to_owned(), why))?;
            let client_secret = need(keys::CLIENT_SECRET)?.to_owned();
            hidden.add(&client_secret);
            Auth::OAuth2(Box::new(OAuth2 {
                token_url,
                client_id: need(keys::CLIENT_ID)?.to_owned(),
                client_secret,
                scope: present(config, keys::SCOPE).map(str::to_owned),
                audience: present(config, keys::AUDIENCE).map(str::to_owned),
                in_body: present(config, keys::CLIENT_AUTH) == Some("body"),
                token: Mutex::new(None),
            }))
        }
        _ => Auth::None,
    })
}

fn proxy(config: &Config, hidden: &Hidden) -> Result<Option<Proxy>, Wrong> {
    let Some(text) = present(config, keys::PROXY_URL) else { return Ok(None) };
    let wrong = |why: String| (keys::PROXY_URL.to_owned(), why);
    let origin = url::parse(text).and_then(|uri| url::Origin::of(&uri)).map_err(wrong)?;
    if origin.https {
        return Err(wrong("proxies are spoken to without TLS: write http://host:port".to_owned()));
    }
    let authorization = present(config, keys::PROXY_USER)
        .map(|user| auth::basic(user, config.get(keys::PROXY_PASSWORD).unwrap_or_default().trim(), hidden));
    Ok(Some(Proxy { host: origin.host, port: origin.port, authorization }))
}

/// What to do with statuses, and how long to wait between tries.
#[derive(Debug, Clone)]
pub(crate) struct RetryPolicy {
    pub retried: Statuses,
    pub failing: Statuses,
    pub backoff: Backoff,
    pub longest_wait: Duration,
}

impl RetryPolicy {
    /// Reads the keys of [`config::client::retries`].
    pub fn from_values(values: &Parsed) -> Result<Self, Wrong> {
        let statuses = |key: &str| {
            let items: Vec<String> = get(values, key)?;
            Statuses::parse(items.iter().map(String::as_str)).map_err(|why| (key.to_owned(), why))
        };
        let wait = |key: &str| get::<Duration>(values, key);
        Ok(Self {
            retried: statuses(keys::RETRY_STATUS)?,
            failing: statuses(keys::FAIL_STATUS)?,
            backoff: Backoff { first: wait(keys::RETRY_BACKOFF)?, longest: wait(keys::RETRY_BACKOFF_MAX)? },
            longest_wait: wait(keys::RETRY_AFTER_MAX)?,
        })
    }
}
