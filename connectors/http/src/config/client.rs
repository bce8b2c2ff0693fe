//! The keys of everything that calls a server.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Type};

use super::keys::*;

fn text(name: &str, importance: Importance, documentation: &str) -> ConfigKey {
    ConfigKey::nullable(name, Type::String, importance, documentation)
}

fn password(name: &str, documentation: &str) -> ConfigKey {
    ConfigKey::nullable(name, Type::Password, Importance::Medium, documentation)
}

fn milliseconds(name: &str, default: &str, documentation: &str) -> ConfigKey {
    ConfigKey::optional(name, Type::Long, default, Importance::Medium, documentation)
        .validator(Validator::between(1.0, 3_600_000.0))
}

/// Authentication, TLS, proxy, addresses, times.
pub(crate) fn definition() -> ConfigDef {
    use Importance::{Low, Medium};
    ConfigDef::new()
        .define(
            ConfigKey::optional(
                AUTH_TYPE,
                Type::String,
                "none",
                Medium,
                "How requests are signed in: 'basic' with auth.user and auth.password, 'bearer' with auth.token, 'header' with auth.header.name and auth.header.value, 'oauth2' with a token that oauth2.token.url gives for client credentials.",
            )
            .validator(Validator::one_of(&["none", "basic", "bearer", "header", "oauth2"]))
            .recommended(&["none", "basic", "bearer", "header", "oauth2"]),
        )
        .define(text(AUTH_USER, Medium, "User name of basic authentication."))
        .define(password(AUTH_PASSWORD, "Password of basic authentication."))
        .define(password(AUTH_TOKEN, "Bearer token."))
        .define(text(AUTH_HEADER, Medium, "Name of the header that signs in, such as X-Api-Key."))
        .define(password(AUTH_HEADER_VALUE, "Value of that header."))
        .define(text(TOKEN_URL, Medium, "Where a token is to be had for client credentials (OAuth 2)."))
        .define(text(CLIENT_ID, Medium, "Client id of OAuth 2."))
        .define(password(CLIENT_SECRET, "Client secret of OAuth 2."))
        .define(text(SCOPE, Low, "Scopes to ask for, separated by blanks."))
        .define(text(AUDIENCE, Low, "Audience to ask for, where the token endpoint wants one."))
        .define(
            ConfigKey::optional(
                CLIENT_AUTH,
                Type::String,
                "basic",
                Low,
                "How client id and secret are given to the token endpoint: by 'basic' authentication, or in the 'body'.",
            )
            .validator(Validator::one_of(&["basic", "body"]))
            .recommended(&["basic", "body"]),
        )
        .define(text(
            TRUSTSTORE,
            Low,
            "PEM file with the certificates to trust. Without it, those of the system are trusted.",
        ))
        .define(text(TRUSTSTORE_CERTIFICATES, Low, "The certificates to trust themselves, PEM, instead of a file."))
        .define(text(
            KEYSTORE,
            Low,
            "PEM file with the certificate chain to show and its private key, not encrypted.",
        ))
        .define(text(KEYSTORE_CHAIN, Low, "The certificate chain to show itself, PEM, instead of a file."))
        .define(password(KEYSTORE_KEY, "The private key of that chain, PEM, not encrypted."))
        .define(text(
            PROXY_URL,
            Low,
            "The proxy that all requests go through, http://host:port. The proxy looks names up, so that only addresses and local names that stand in the URL itself are checked against addresses.allowed, and the address of the proxy.",
        ))
        .define(text(PROXY_USER, Low, "User name for the proxy."))
        .define(password(PROXY_PASSWORD, "Password for the proxy."))
        .define(
            ConfigKey::optional(
                ADDRESSES,
                Type::List,
                "",
                Low,
                "Addresses that are refused unless they stand here: 'loopback' is the worker's own machine, 'link-local' are 169.254.0.0/16, fe80::/10 and the other addresses at which clouds give credentials away. The address that a name leads to is what counts.",
            )
            .validator(Validator::one_of(&["loopback", "link-local"]))
            .recommended(&["loopback", "link-local"]),
        )
        .define(milliseconds(
            CONNECT_TIMEOUT,
            "10000",
            "How long looking a name up, connecting, the proxy's answer and the TLS handshake may take together.",
        ))
        .define(milliseconds(
            REQUEST_TIMEOUT,
            "30000",
            "How long a request and its whole answer may take once there is a connection.",
        ))
}

/// When to try again.
pub(crate) fn retries(retried: &str, failing: &str) -> ConfigDef {
    use Importance::{Low, Medium};
    let list = |name, default, documentation| ConfigKey::optional(name, Type::List, default, Medium, documentation);
    ConfigDef::new()
        .define(list(RETRY_STATUS, "408,425,429,5xx", retried))
        .define(list(FAIL_STATUS, "401,403,407", failing))
        .define(milliseconds(
            RETRY_BACKOFF,
            "200",
            "The pause before the second try; it doubles with each further one, and up to a half of it is taken off at random. A Retry-After of the server comes before it.",
        ))
        .define(
            ConfigKey::optional(RETRY_BACKOFF_MAX, Type::Long, "30000", Low, "The longest of these pauses.")
                .validator(Validator::between(1.0, 3_600_000.0)),
        )
        .define(milliseconds(
            RETRY_AFTER_MAX,
            "300000",
            "The longest Retry-After that is followed; a longer one is cut to this.",
        ))
}
