//! The built-in converters by class name.

use std::sync::LazyLock;

use tributary_sdk::{Config, ConfigDef, Error, Result};

use super::avro::AvroFormat;
use super::header::{ColumnHeaders, HeaderConverter, Outgoing, TypedForm};
use super::json_schema::JsonSchemaFormat;
use super::protobuf::ProtobufFormat;
use super::schema_registry::RegistryConverter;
use super::{
    ByteArrayConverter, ClassInfo, ClassKind, Converter, JsonConverter, Number, NumberConverter, StringConverter,
};
use super::{config, json, schema_registry, string};

/// A class that converts values, and mostly headers too.
struct Class {
    name: &'static str,
    aliases: &'static [&'static str],
    headers: bool,
    config_def: fn() -> ConfigDef,
    make: fn() -> Box<dyn Converter>,
}

/// In the order of the listing. The aliases are Kafka Connect's: the simple name, with and without its suffix.
static CLASSES: &[Class] = &[
    Class {
        name: "org.apache.kafka.connect.json.JsonConverter",
        aliases: &["JsonConverter", "Json"],
        headers: true,
        config_def: json::config_def,
        make: || Box::new(JsonConverter::default()),
    },
    Class {
        name: "org.apache.kafka.connect.storage.StringConverter",
        aliases: &["StringConverter", "String"],
        headers: true,
        config_def: string::config_def,
        make: || Box::new(StringConverter::default()),
    },
    Class {
        name: "org.apache.kafka.connect.converters.ByteArrayConverter",
        aliases: &["ByteArrayConverter", "ByteArray"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(ByteArrayConverter),
    },
    Class {
        name: "org.apache.kafka.connect.converters.BooleanConverter",
        aliases: &["BooleanConverter", "Boolean"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(NumberConverter::new(Number::Boolean)),
    },
    Class {
        name: "org.apache.kafka.connect.converters.ShortConverter",
        aliases: &["ShortConverter", "Short"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(NumberConverter::new(Number::Short)),
    },
    Class {
        name: "org.apache.kafka.connect.converters.IntegerConverter",
        aliases: &["IntegerConverter", "Integer"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(NumberConverter::new(Number::Integer)),
    },
    Class {
        name: "org.apache.kafka.connect.converters.LongConverter",
        aliases: &["LongConverter", "Long"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(NumberConverter::new(Number::Long)),
    },
    Class {
        name: "org.apache.kafka.connect.converters.FloatConverter",
        aliases: &["FloatConverter", "Float"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(NumberConverter::new(Number::Float)),
    },
    Class {
        name: "org.apache.kafka.connect.converters.DoubleConverter",
        aliases: &["DoubleConverter", "Double"],
        headers: true,
        config_def: config::with_type,
        make: || Box::new(NumberConverter::new(Number::Double)),
    },
    Class {
        name: "io.confluent.connect.avro.AvroConverter",
        aliases: &["AvroConverter", "Avro"],
        headers: false,
        config_def: schema_registry::config_def::<AvroFormat>,
        make: || Box::new(RegistryConverter::<AvroFormat>::default()),
    },
    Class {
        name: "io.confluent.connect.protobuf.ProtobufConverter",
        aliases: &["ProtobufConverter", "Protobuf"],
        headers: false,
        config_def: schema_registry::config_def::<ProtobufFormat>,
        make: || Box::new(RegistryConverter::<ProtobufFormat>::default()),
    },
    Class {
        name: "io.confluent.connect.json.JsonSchemaConverter",
        aliases: &["JsonSchemaConverter", "JsonSchema"],
        headers: false,
        config_def: schema_registry::config_def::<JsonSchemaFormat>,
        make: || Box::new(RegistryConverter::<JsonSchemaFormat>::default()),
    },
];

/// What passes headers through, and has no value converter.
const SIMPLE: &str = "org.apache.kafka.connect.storage.SimpleHeaderConverter";
const SIMPLE_ALIASES: &[&str] = &["SimpleHeaderConverter", "Simple"];

/// Makes the converter that `class` names (Java name or alias) and configures it (keys without prefix).
pub fn converter(class: &str, config: &Config, is_key: bool) -> Result<Box<dyn Converter>> {
    let mut converter = (find(class, &[])?.make)();
    converter.configure(config, is_key)?;
    Ok(converter)
}

/// Makes the header converter that `class` names (Java name or alias) and configures it (keys without prefix).
pub fn header_converter(class: &str, config: &Config) -> Result<Box<dyn HeaderConverter>> {
    let mut converter = if class == SIMPLE || SIMPLE_ALIASES.contains(&class) {
        ColumnHeaders::new(None, Outgoing::Text)
    } else {
        let class = find(class, SIMPLE_ALIASES)?;
        if !class.headers {
            return Err(Error::failed(format!("{} converts keys and values, not headers", class.name)));
        }
        let outgoing = match class.aliases[0] {
            "JsonConverter" => Outgoing::Typed(TypedForm::Json),
            "StringConverter" => Outgoing::Text,
            "ByteArrayConverter" => Outgoing::Bytes,
            _ => Outgoing::Typed(TypedForm::Number),
        };
        ColumnHeaders::new(Some((class.make)()), outgoing)
    };
    converter.configure(config)?;
    Ok(Box::new(converter))
}

/// Every built-in converter and header converter.
pub fn class_infos() -> &'static [ClassInfo] {
    static INFOS: LazyLock<Vec<ClassInfo>> = LazyLock::new(all_infos);
    &INFOS
}

fn all_infos() -> Vec<ClassInfo> {
    let of_kind = |kind| {
        let info = move |class: &Class| ClassInfo {
            class: class.name,
            aliases: class.aliases,
            kind,
            config_def: class.config_def,
        };
        CLASSES.iter().filter(move |class| class.headers || kind == ClassKind::Converter).map(info)
    };
    let simple = ClassInfo {
        class: SIMPLE,
        aliases: SIMPLE_ALIASES,
        kind: ClassKind::HeaderConverter,
        config_def: ConfigDef::new,
    };
    of_kind(ClassKind::Converter).chain([simple]).chain(of_kind(ClassKind::HeaderConverter)).collect()
}

fn find(name: &str, others: &[&'static str]) -> Result<&'static Class> {
    CLASSES.iter().find(|class| class.name == name || class.aliases.contains(&name)).ok_or_else(|| {
        let known: Vec<_> =
            others.iter().take(1).copied().chain(CLASSES.iter().map(|class| class.aliases[0])).collect();
        Error::failed(format!("converter class {name} is not known; there are {}", known.join(", ")))
    })
}
