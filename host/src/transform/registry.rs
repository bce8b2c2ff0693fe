//! The built-in transforms and predicates by class name.

use tributary_sdk::{Config, ConfigDef, Error, Result};

use super::config::Settings;
use super::part::Target;
use super::predicate::{HasHeaderKey, Predicate, RecordIsTombstone, TopicNameMatches};
use super::single_message::{
    Cast, ConditionFilter, DropHeaders, ExtractField, ExtractNewRecordState, Filter, Flatten, HeaderFrom, HoistField,
    InsertField, InsertHeader, Map, MaskField, ParseJson, RegexReplace, RegexRouter, ReplaceField, SetSchemaMetadata,
    SingleMessage, Split, TimestampConverter, TimestampRouter, Validate, ValueToKey,
};
use super::stateful::{Aggregate, Deduplicate, Stateful};
use crate::converter::{ClassInfo, ClassKind};

/// One class as users name it: `InsertField$Value` and `InsertField$Key` are two.
struct Class {
    info: ClassInfo,
    make: Make,
}

enum Make {
    Transform(Target, fn(Target, &Settings<'_>) -> Result<Box<dyn SingleMessage>>),
    Predicate(fn(&Settings<'_>) -> Result<Box<dyn Predicate>>),
    Stateful(fn(&str, &Settings<'_>) -> Result<Box<dyn Stateful>>),
}

macro_rules! transform {
    ($name:literal, Key, Value, $class:ty) => {
        transform!("org.apache.kafka.connect.transforms", $name, Key, Value, $class)
    };
    ($package:literal, $name:literal, Key, Value, $class:ty) => {
        [
            transform!($package, $name, "$Key", Target::Key, $class),
            transform!($package, $name, "$Value", Target::Value, $class),
        ]
    };
    ($name:literal, $suffix:literal, $target:expr, $class:ty) => {
        transform!("org.apache.kafka.connect.transforms", $name, $suffix, $target, $class)
    };
    ($package:literal, $name:literal, $suffix:literal, $target:expr, $class:ty) => {
        Class {
            info: ClassInfo {
                class: concat!($package, ".", $name, $suffix),
                aliases: &[concat!($name, $suffix)],
                kind: ClassKind::Transformation,
                config_def: <$class>::config_def,
            },
            make: Make::Transform($target, <$class>::build),
        }
    };
}

macro_rules! predicate {
    ($name:literal, $config_def:expr, $class:ty) => {
        Class {
            info: ClassInfo {
                class: concat!("org.apache.kafka.connect.transforms.predicates.", $name),
                aliases: &[$name],
                kind: ClassKind::Predicate,
                config_def: $config_def,
            },
            make: Make::Predicate(<$class>::build),
        }
    };
}

macro_rules! stateful {
    ($name:literal, $class:ty) => {
        Class {
            info: ClassInfo {
                class: concat!("tributary.transforms.", $name),
                aliases: &[$name],
                kind: ClassKind::Transformation,
                config_def: <$class>::config_def,
            },
            make: Make::Stateful(<$class>::build),
        }
    };
}

static KEY_AND_VALUE: [[Class; 2]; 13] = [
    transform!("Cast", Key, Value, Cast),
    transform!("ExtractField", Key, Value, ExtractField),
    transform!("Flatten", Key, Value, Flatten),
    transform!("HeaderFrom", Key, Value, HeaderFrom),
    transform!("HoistField", Key, Value, HoistField),
    transform!("InsertField", Key, Value, InsertField),
    transform!("MaskField", Key, Value, MaskField),
    transform!("tributary.transforms", "ParseJson", Key, Value, ParseJson),
    transform!("tributary.transforms", "RegexReplace", Key, Value, RegexReplace),
    transform!("ReplaceField", Key, Value, ReplaceField),
    transform!("SetSchemaMetadata", Key, Value, SetSchemaMetadata),
    transform!("TimestampConverter", Key, Value, TimestampConverter),
    transform!("tributary.transforms", "Validate", Key, Value, Validate),
];
static PLAIN: [Class; 10] = [
    transform!("io.debezium.transforms", "ExtractNewRecordState", "", Target::Value, ExtractNewRecordState),
    transform!("DropHeaders", "", Target::Value, DropHeaders),
    transform!("Filter", "", Target::Value, Filter),
    // Not `Filter`, which is Kafka Connect's.
    Class {
        info: ClassInfo {
            class: "tributary.transforms.Filter",
            aliases: &[],
            kind: ClassKind::Transformation,
            config_def: ConditionFilter::config_def,
        },
        make: Make::Transform(Target::Value, ConditionFilter::build),
    },
    transform!("InsertHeader", "", Target::Value, InsertHeader),
    transform!("tributary.transforms", "Map", "", Target::Value, Map),
    transform!("RegexRouter", "", Target::Value, RegexRouter),
    transform!("tributary.transforms", "Split", "", Target::Value, Split),
    transform!("TimestampRouter", "", Target::Value, TimestampRouter),
    transform!("ValueToKey", "", Target::Value, ValueToKey),
];
static PREDICATES: [Class; 3] = [
    predicate!("HasHeaderKey", HasHeaderKey::config_def, HasHeaderKey),
    predicate!("RecordIsTombstone", ConfigDef::new, RecordIsTombstone),
    predicate!("TopicNameMatches", TopicNameMatches::config_def, TopicNameMatches),
];

static STATEFUL: [Class; 2] = [stateful!("Aggregate", Aggregate), stateful!("Deduplicate", Deduplicate)];

fn classes() -> impl Iterator<Item = &'static Class> {
    KEY_AND_VALUE.iter().flatten().chain(&PLAIN).chain(&STATEFUL).chain(&PREDICATES)
}

/// Every built-in transform and predicate.
pub fn class_infos() -> Vec<ClassInfo> {
    classes().map(|class| class.info.clone()).collect()
}

fn find(name: &str, kind: ClassKind) -> Option<&'static Class> {
    classes().find(|class| class.info.kind == kind && class.info.answers_to(name))
}

/// The transform that `name` means, with its full class name; `None`: not a built-in one.
pub fn transform(name: &str, config: &Config) -> Option<Result<(&'static str, Box<dyn SingleMessage>)>> {
    let class = find(name, ClassKind::Transformation)?;
    let Make::Transform(target, make) = &class.make else { return None };
    let settings = Settings::new((class.info.config_def)(), config);
    Some(settings.and_then(|settings| Ok((class.info.class, make(*target, &settings)?))))
}

/// The transform with state that `name` means, with its full class name; `None`: not a built-in one. Its state is known by `alias`.
pub fn stateful(name: &str, alias: &str, config: &Config) -> Option<Result<(&'static str, Box<dyn Stateful>)>> {
    let class = find(name, ClassKind::Transformation)?;
    let Make::Stateful(make) = &class.make else { return None };
    let settings = Settings::new((class.info.config_def)(), config);
    Some(settings.and_then(|settings| {
        if alias.len() > 255 {
            return Err(Error::failed("the alias is longer than 255 bytes"));
        }
        Ok((class.info.class, make(alias, &settings)?))
    }))
}

/// Whether a class keeps state.
pub fn is_stateful(name: &str) -> bool {
    find(name, ClassKind::Transformation).is_some_and(|class| matches!(class.make, Make::Stateful(_)))
}

/// The predicate that `name` means; `None`: not a built-in one.
pub fn predicate(name: &str, config: &Config) -> Option<Result<Box<dyn Predicate>>> {
    let class = find(name, ClassKind::Predicate)?;
    let Make::Predicate(make) = &class.make else { return None };
    Some(Settings::new((class.info.config_def)(), config).and_then(|settings| make(&settings)))
}

fn stateful_aliases(config: &Config) -> impl Iterator<Item = &str> {
    let is =
        |alias: &&str| config.get(&format!("transforms.{alias}.type")).is_some_and(|name| is_stateful(name.trim()));
    config.list("transforms").into_iter().filter(is)
}

/// Whether a transform of a connector's config keeps state.
pub fn keeps_state(config: &Config) -> bool {
    stateful_aliases(config).next().is_some()
}

/// The topics of a connector's late records.
pub fn late_topics(config: &Config) -> Vec<String> {
    let topic =
        |alias: &str| config.get(&format!("transforms.{alias}.late.topic")).map(|topic| topic.trim().to_owned());
    stateful_aliases(config).filter_map(topic).filter(|topic| !topic.is_empty()).collect()
}
