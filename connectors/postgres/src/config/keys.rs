//! What definitions of keys have in common.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigKey, Error, Importance, Parsed, Result, Type};

use crate::client::{Settings, SslMode, Tls};

pub(crate) fn text(name: &str, default: &str, importance: Importance, documentation: &str) -> ConfigKey {
    ConfigKey::optional(name, Type::String, default, importance, documentation)
}

pub(crate) fn flag(name: &str, default: bool, documentation: &str) -> ConfigKey {
    ConfigKey::optional(name, Type::Boolean, &default.to_string(), Importance::Medium, documentation)
}

/// A key with a closed set of values, in any case; the first of them is the default.
pub(crate) fn choice(name: &str, values: &[&str], documentation: &str) -> ConfigKey {
    let allowed = values.iter().map(|&value| value.to_owned()).collect();
    ConfigKey::optional(name, Type::String, values[0], Importance::Medium, documentation)
        .validator(Validator::OneOfIgnoreCase(allowed))
        .recommended(values)
}

/// The server and the login of a source, by Debezium's keys.
pub(crate) fn connection_settings(values: &Parsed, application_name: String) -> Result<Settings> {
    let mode: String = values.get("database.sslmode")?;
    let given = |key: &str| Ok::<_, Error>(values.get::<Option<String>>(key)?.filter(|text| !text.is_empty()));
    Ok(Settings {
        host: values.get("database.hostname")?,
        port: values.get("database.port")?,
        user: values.get("database.user")?,
        password: given("database.password")?.unwrap_or_default(),
        database: values.get("database.dbname")?,
        tls: Tls {
            mode: SslMode::parse(&mode.to_ascii_lowercase())
                .ok_or_else(|| Error::failed(format!("database.sslmode={mode} is not known")))?,
            root_cert: given("database.sslrootcert")?,
            cert: given("database.sslcert")?,
            key: given("database.sslkey")?,
        },
        application_name,
    })
}
