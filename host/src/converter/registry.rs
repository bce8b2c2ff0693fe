//! The built-in converters by class name.

use tributary_sdk::{Config, ConfigDef, Error, Result};

use super::header::{HeaderConverter, PassThrough};
use super::{ByteArrayConverter, ClassInfo, ClassKind, Converter, JsonConverter, StringConverter};
use super::{json, string};

/// Makes the converter that `class` names (Java name or alias) and configures it (keys without prefix).
pub fn converter(class: &str, config: &Config, is_key: bool) -> Result<Box<dyn Converter>> {
    let info = find(class, ClassKind::Converter)?;
    let mut converter: Box<dyn Converter> = match info.class {
        "org.apache.kafka.connect.json.JsonConverter" => Box::new(JsonConverter::default()),
        "org.apache.kafka.connect.storage.StringConverter" => Box::new(StringConverter::default()),
        _ => Box::new(ByteArrayConverter),
    };
    converter.configure(config, is_key)?;
    Ok(converter)
}

/// Makes the header converter that `class` names (Java name or alias) and configures it (keys without prefix).
pub fn header_converter(class: &str, config: &Config) -> Result<Box<dyn HeaderConverter>> {
    let info = find(class, ClassKind::HeaderConverter)?;
    let schema = match info.class {
        "org.apache.kafka.connect.storage.StringConverter" => Some("string"),
        "org.apache.kafka.connect.converters.ByteArrayConverter" => Some("bytes"),
        _ => None,
    };
    let mut converter: Box<dyn HeaderConverter> = Box::new(PassThrough { schema });
    converter.configure(config)?;
    Ok(converter)
}

/// Every built-in converter and header converter.
pub fn class_infos() -> &'static [ClassInfo] {
    const fn info(
        kind: ClassKind,
        class: &'static str,
        aliases: &'static [&'static str],
        config_def: fn() -> ConfigDef,
    ) -> ClassInfo {
        ClassInfo { class, aliases, kind, config_def }
    }
    use ClassKind::{Converter, HeaderConverter};
    const JSON: (&str, &[&str]) = ("org.apache.kafka.connect.json.JsonConverter", &["JsonConverter", "Json"]);
    const STRING: (&str, &[&str]) =
        ("org.apache.kafka.connect.storage.StringConverter", &["StringConverter", "String"]);
    const BYTES: (&str, &[&str]) =
        ("org.apache.kafka.connect.converters.ByteArrayConverter", &["ByteArrayConverter", "ByteArray"]);
    const SIMPLE: (&str, &[&str]) =
        ("org.apache.kafka.connect.storage.SimpleHeaderConverter", &["SimpleHeaderConverter", "Simple"]);
    static INFOS: [ClassInfo; 7] = [
        info(Converter, JSON.0, JSON.1, json::config_def),
        info(Converter, STRING.0, STRING.1, string::config_def),
        info(Converter, BYTES.0, BYTES.1, ConfigDef::new),
        info(HeaderConverter, SIMPLE.0, SIMPLE.1, ConfigDef::new),
        info(HeaderConverter, JSON.0, JSON.1, json::config_def),
        info(HeaderConverter, STRING.0, STRING.1, string::config_def),
        info(HeaderConverter, BYTES.0, BYTES.1, ConfigDef::new),
    ];
    &INFOS
}

fn find(class: &str, kind: ClassKind) -> Result<&'static ClassInfo> {
    let of_kind = || class_infos().iter().filter(|info| info.kind == kind);
    of_kind().find(|info| info.answers_to(class)).ok_or_else(|| {
        let names: Vec<_> = of_kind().map(|info| info.aliases[0]).collect();
        Error::failed(format!("converter class {class} is not known; there are {}", names.join(", ")))
    })
}
