//! Which values of a connector's config are passwords although they stand in it in plain text.

use tributary_sdk::Config;
use tributary_sdk::config_def::{ConfigDef, Type};

use crate::config::{ClientKind, client_config_def};

/// The ends of keys that hold secrets, whoever defines them.
const ENDS: [&str; 9] =
    ["password", "passphrase", "secret", "token", "credentials", "jaas.config", "user.info", "api.key", "private.key"];

/// The values under keys of type PASSWORD, of the connector's class or a client's, and under keys that sound like one.
pub fn passwords(config: &Config, def: &ConfigDef) -> Vec<String> {
    let secret = |(key, value): (&String, &String)| is_password(key, def).then(|| value.clone());
    config.0.iter().filter_map(secret).collect()
}

fn is_password(key: &str, def: &ConfigDef) -> bool {
    let hidden = |def: &ConfigDef, key: &str| def.get(key).is_some_and(|key| key.kind == Type::Password);
    let of_client = |client: ClientKind| {
        let setting = key.strip_prefix(client.override_prefix()).or_else(|| key.strip_prefix(client.prefix()));
        hidden(client_config_def(client), setting.unwrap_or(key))
    };
    let key_end = key.to_lowercase().replace(['_', '-'], ".");
    hidden(def, key) || ClientKind::ALL.into_iter().any(of_client) || ENDS.iter().any(|end| key_end.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_sdk::config_def::{ConfigKey, Importance};

    #[test]
    fn by_type_by_client_and_by_name() {
        let def = ConfigDef::new().define(ConfigKey::nullable("key.of.mine", Type::Password, Importance::Low, ""));
        for (key, expected) in [
            ("key.of.mine", true),
            ("producer.override.sasl.jaas.config", true),
            ("consumer.override.ssl.keystore.key", true),
            ("connection_password", true),
            ("value.converter.basic.auth.user.info", true),
            ("topic", false),
            ("token.file", false),
        ] {
            assert_eq!(is_password(key, &def), expected, "{key}");
        }
    }
}
