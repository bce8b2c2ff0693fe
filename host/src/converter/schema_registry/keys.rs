//! The keys that all converters with a registry have.

use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Type};

use super::subject::PACKAGE;
use crate::converter::config::with_type;

/// The definition, under Confluent's names.
pub fn common_def() -> ConfigDef {
    use Importance::{High, Low, Medium};
    let key = |name: &str, kind, default: &str, importance, documentation: &str| {
        ConfigKey::optional(name, kind, default, importance, documentation)
    };
    let unset = ConfigKey::nullable;
    let flag = |name: &str, default: &str, importance, documentation: &str| {
        ConfigKey::optional(name, Type::Boolean, default, importance, documentation)
    };
    let strategy = |name: &str| {
        let default = format!("{PACKAGE}TopicNameStrategy");
        ConfigKey::optional(
            name,
            Type::Class,
            &default,
            Medium,
            "The subject of schemas: TopicNameStrategy, RecordNameStrategy or TopicRecordNameStrategy, with or without its package.",
        )
    };
    with_type()
        .define(ConfigKey::required("schema.registry.url", Type::List, High,
            "Addresses of the registry, http:// or https://, separated by commas; the next is tried when one does not answer."))
        .define(key("basic.auth.credentials.source", Type::String, "URL", Medium,
            "Where user and password are: URL (in schema.registry.url), USER_INFO (basic.auth.user.info) or SASL_INHERIT (sasl.jaas.config among the converter's keys).")
            .validator(Validator::one_of(&["URL", "USER_INFO", "SASL_INHERIT"])))
        .define(unset("basic.auth.user.info", Type::Password, Medium, "user:password, with USER_INFO."))
        .define(unset("schema.registry.basic.auth.user.info", Type::Password, Medium, "The same, by its older name."))
        .define(unset("sasl.jaas.config", Type::Password, Low, "User and password in Kafka's form, with SASL_INHERIT."))
        .define(unset("bearer.auth.credentials.source", Type::String, Medium, "STATIC_TOKEN: bearer.auth.token is sent.")
            .validator(Validator::one_of(&["STATIC_TOKEN"])))
        .define(unset("bearer.auth.token", Type::Password, Medium, "The token."))
        .define(flag("auto.register.schemas", "true", Medium, "Whether schemas that the registry does not have are registered. If not, they are looked up, and have to be there."))
        .define(flag("use.latest.version", "false", Low, "With auto.register.schemas=false: whether values are written by the subject's newest schema."))
        .define(key("use.schema.id", Type::Int, "-1", Low, "With auto.register.schemas=false: the id of the schema by which values are written."))
        .define(flag("latest.compatibility.strict", "true", Low, "With use.latest.version or use.schema.id: whether a field that the schema does not have fails its record; otherwise it is left out."))
        .define(key("latest.cache.ttl.sec", Type::Long, "-1", Low, "How many seconds the newest schema of a subject is kept before it is asked for again; -1: for ever."))
        .define(key("missing.id.cache.ttl.sec", Type::Long, "30", Low, "How many seconds an id that the registry does not know is not asked for again."))
        .define(flag("normalize.schemas", "false", Medium, "Whether the registry compares schemas in a normal form."))
        .define(strategy("key.subject.name.strategy"))
        .define(strategy("value.subject.name.strategy"))
        .define(key("max.schemas.per.subject", Type::Int, "1000", Low, "How many of the registry's answers are kept; when there are more, all are asked for again.").validator(Validator::at_least(1)))
        .define(key("http.connect.timeout.ms", Type::Int, "10000", Low, "How long connecting to an address may take.").validator(Validator::at_least(1)))
        .define(key("http.read.timeout.ms", Type::Int, "10000", Low, "How long an answer may take.").validator(Validator::at_least(1)))
        .define(unset("proxy.host", Type::String, Low, "An HTTP proxy on the way to the registry."))
        .define(key("proxy.port", Type::Int, "8080", Low, "Its port."))
        .define(unset("schema.registry.ssl.truststore.location", Type::String, Medium, "Certificates by which the registry is checked, a PEM file, or a PKCS12 or JKS store; Mozilla's roots if it is not set. All ssl.* keys are also read without schema.registry. in front."))
        .define(unset("schema.registry.ssl.truststore.password", Type::Password, Medium, "Its password."))
        .define(unset("schema.registry.ssl.truststore.type", Type::String, Low, "Accepted; the file itself tells what it is."))
        .define(unset("schema.registry.ssl.truststore.certificates", Type::Password, Medium, "The certificates themselves, as PEM."))
        .define(unset("schema.registry.ssl.keystore.location", Type::String, Medium, "Certificate and private key that are shown to the registry, a PEM file, or a PKCS12 or JKS store."))
        .define(unset("schema.registry.ssl.keystore.password", Type::Password, Medium, "Its password."))
        .define(unset("schema.registry.ssl.keystore.type", Type::String, Low, "Accepted; the file itself tells what it is."))
        .define(unset("schema.registry.ssl.key.password", Type::Password, Medium, "Password of the store, where keystore.password is not set."))
        .define(unset("schema.registry.ssl.keystore.certificate.chain", Type::Password, Medium, "The certificate itself, as PEM."))
        .define(unset("schema.registry.ssl.keystore.key", Type::Password, Medium, "Its private key, as PEM."))
        .define(key("schema.registry.ssl.endpoint.identification.algorithm", Type::String, "https", Low, "https: the registry's certificate has to name its host. Set to nothing, any name will do, with a warning."))
}
