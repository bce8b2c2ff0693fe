//! What the configs of all converters share.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{Config, ConfigDef, ConfigKey, Error, Importance, Result, Type};

/// A definition that begins with `converter.type`, which the worker sets.
pub fn with_type() -> ConfigDef {
    let kinds = ["key", "value", "header"].map(str::to_owned).to_vec();
    ConfigDef::new().define(
        ConfigKey::required("converter.type", Type::String, Importance::Low, "What is converted. Set by the worker.")
            .validator(Validator::OneOf(kinds)),
    )
}

/// `true` or `false`, in any case.
pub fn boolean(config: &Config, key: &str, default: bool) -> Result<bool> {
    match config.get(key).map(str::trim) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(Error::failed(format!(
            "Invalid value {text} for configuration {key}: Expected value to be either true or false"
        ))),
    }
}
