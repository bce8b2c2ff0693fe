//! The settings of Kafka's Java clients, as far as validation shows them: names, types, importance and defaults.
//!
//! librdkafka's own settings are not among them; a connector may set those, too.

use std::sync::LazyLock;

use tributary_sdk::config_def::{ConfigDef, ConfigKey, Importance};

use super::ClientKind;

const TABLE: &str = include_str!("client_keys.tsv");

static DEFINITIONS: LazyLock<[ConfigDef; 3]> = LazyLock::new(|| ClientKind::ALL.map(read));

/// The settings of a kind of client.
pub fn client_config_def(kind: ClientKind) -> &'static ConfigDef {
    match kind {
        ClientKind::Producer => &DEFINITIONS[0],
        ClientKind::Consumer => &DEFINITIONS[1],
        ClientKind::Admin => &DEFINITIONS[2],
    }
}

fn read(kind: ClientKind) -> ConfigDef {
    let (letter, client) = match kind {
        ClientKind::Producer => ('P', "producer"),
        ClientKind::Consumer => ('C', "consumer"),
        ClientKind::Admin => ('A', "admin client"),
    };
    let documentation = format!("Setting of Kafka's {client}; its documentation says what it means.");
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let keys = lines.filter_map(|line| {
        let [name, clients, kind, importance, default] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
        clients.contains(letter).then(|| key(name, kind, importance, default, &documentation))
    });
    ConfigDef { keys: keys.collect() }
}

fn key(name: &str, kind: &str, importance: &str, default: &str, documentation: &str) -> ConfigKey {
    let kind = kind.parse().expect("a type of the table");
    let importance = match importance {
        "HIGH" => Importance::High,
        "MEDIUM" => Importance::Medium,
        _ => Importance::Low,
    };
    match default.strip_prefix('=') {
        Some(default) => ConfigKey::optional(name, kind, default, importance, documentation),
        None if default == "!" => ConfigKey::required(name, kind, importance, documentation),
        None => ConfigKey::nullable(name, kind, importance, documentation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tributary_sdk::config_def::{DefaultValue, Type};

    #[test]
    fn every_line_is_read() {
        let counts = ClientKind::ALL.map(|kind| client_config_def(kind).keys.len());
        assert_eq!(counts, [113, 116, 91]);
        let linger = client_config_def(ClientKind::Producer).get("linger.ms").unwrap();
        assert_eq!((linger.kind, &linger.default), (Type::Long, &DefaultValue::Value("5".to_owned())));
        let servers = client_config_def(ClientKind::Admin).get("sasl.jaas.config").unwrap();
        assert_eq!(servers.kind, Type::Password);
    }
}
