//! The guide names every key.

use crate::converter::registry::class_infos;

#[test]
fn the_guide_has_every_key_of_every_converter_with_a_registry() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/converters.md")).unwrap();
    let mut classes = 0;
    for info in class_infos().iter().filter(|info| info.class.starts_with("io.confluent.")) {
        classes += 1;
        assert!(guide.contains(info.class), "{} is not in the guide", info.class);
        for key in (info.config_def)().keys.iter().filter(|key| key.name != "converter.type") {
            assert!(
                guide.contains(&format!("| `{}` |", key.name)),
                "{} of {} is not in the guide",
                key.name,
                info.class
            );
        }
    }
    assert_eq!(classes, 3);
}

/// Against a real registry: Apicurio, started by the harness.
mod real {
    use std::sync::Arc;

    use arrow_array::{Array, ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, StructArray};
    use arrow_schema::{DataType, Field, Fields};
    use serde_json::json;
    use tributary_harness::schema_registry::STORE_PASSWORD;
    use tributary_harness::{Certificates, SchemaRegistry};
    use tributary_sdk::batch::SCHEMA_NAME;
    use tributary_sdk::{Column, Config};

    use crate::converter::{Converter, FromConnect, converter};

    const AVRO: &str = "io.confluent.connect.avro.AvroConverter";
    const PROTOBUF: &str = "io.confluent.connect.protobuf.ProtobufConverter";
    const JSON: &str = "io.confluent.connect.json.JsonSchemaConverter";

    fn made(class: &str, url: &str, pairs: &[(&str, &str)]) -> Box<dyn Converter> {
        let mut config = Config::default();
        config.set("schema.registry.url", url);
        pairs.iter().for_each(|(key, value)| config.set(*key, *value));
        converter(class, &config, false).unwrap()
    }

    /// Structs `shop.Order` with the members `a` and, if wanted, `b`.
    fn orders(numbers: &[i32], with_text: bool) -> Column {
        let mut fields = vec![Field::new("a", DataType::Int32, true)];
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(numbers.to_vec()))];
        if with_text {
            fields.push(Field::new("b", DataType::Utf8, true));
            columns.push(Arc::new(numbers.iter().map(|n| Some(format!("é{n}"))).collect::<StringArray>()));
        }
        let array = StructArray::new(Fields::from(fields), columns, None);
        let name = [(SCHEMA_NAME.to_owned(), "shop.Order".to_owned())];
        Column::new(
            Field::new("", array.data_type().clone(), true).with_metadata(std::collections::HashMap::from(name)),
            Arc::new(array),
        )
    }

    fn good(answer: FromConnect) -> BinaryArray {
        assert_eq!(answer.failures, []);
        answer.data
    }

    #[test]
    fn values_of_all_formats_are_written_and_read_while_schemas_change_and_the_registry_comes_and_goes() {
        let mut registry = SchemaRegistry::start().unwrap();
        // The first address answers nothing.
        let urls = format!("http://127.0.0.1:9,{}", registry.url());
        for (class, topic) in [(AVRO, "evolving-avro"), (PROTOBUF, "evolving-protobuf"), (JSON, "evolving-json")] {
            let mut writer = made(class, &urls, &[]);
            let old = good(writer.from_connect(topic, &orders(&[1, 2], false)));
            let new = good(writer.from_connect(topic, &orders(&[3], true)));
            let ids: Vec<_> = [&old, &new].map(|data| data.value(0)[1..5].to_vec()).to_vec();
            assert_ne!(ids[0], ids[1]);
            // Old and new mixed, with a tombstone and something else in between.
            let rows =
                [Some(old.value(0)), None, Some(old.value(1)), Some(new.value(0)), Some(b"text"), Some(new.value(0))];
            let data = BinaryArray::from(rows.to_vec());
            let mut reader = made(class, &urls, &[]);
            let answer = reader.to_connect(topic, &data);
            let ranges: Vec<_> = answer.runs.iter().map(|run| run.rows.clone()).collect();
            assert_eq!(ranges, [0..3, 3..4, 5..6], "{:?}", answer.failures);
            assert!(answer.failures[0].message.contains("Unknown magic byte"), "{:?}", answer.failures);
            assert!(!reader.retriable());
            assert!(answer.runs[0].column.array().is_null(1));
            let again = good(made(class, &urls, &[]).from_connect(topic, &answer.runs[1].column));
            assert_eq!(again.value(0)[5..], new.value(0)[5..]);
        }

        // Away: nothing fails for good, and what is known goes on.
        let mut writer = made(AVRO, &registry.url(), &[]);
        let known = good(writer.from_connect("away", &orders(&[1], false)));
        registry.kill9().unwrap();
        good(writer.from_connect("away", &orders(&[2], false)));
        let answer = writer.from_connect("away", &orders(&[2], true));
        assert!(writer.retriable() && answer.failures.len() == 1);
        assert!(answer.failures[0].message.contains("cannot be reached"), "{:?}", answer.failures);
        let mut reader = made(AVRO, &registry.url(), &[]);
        assert_eq!(reader.to_connect("away", &known).failures.len(), 1);
        assert!(reader.retriable());
        registry.restart().unwrap();
        assert!(reader.to_connect("away", &known).failures.is_empty());
        assert!(!reader.retriable());
        good(writer.from_connect("away", &orders(&[2], true)));

        // What the registry refuses is told with its own words.
        let rest = registry.rest();
        rest.put("/config/away-value", &json!({"compatibility": "BACKWARD"})).unwrap().ok().unwrap();
        let array: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let other = StructArray::new(Fields::from(vec![Field::new("c", DataType::Int64, false)]), vec![array], None);
        let column = Column::new(Field::new("", other.data_type().clone(), true), Arc::new(other));
        let answer = writer.from_connect("away", &column);
        let message = &answer.failures[0].message;
        assert!(!writer.retriable());
        for part in ["away-value", "409", "Incompatible", "compatibility level"] {
            assert!(message.contains(part), "{message}");
        }
        let absent = BinaryArray::from(vec![&[0, 0, 0, 0x7f, 0, 1][..]]);
        let answer = reader.to_connect("away", &absent);
        for part in ["id 32512", "404", "another registry"] {
            assert!(answer.failures[0].message.contains(part), "{:?}", answer.failures);
        }
        let mut lookup = made(AVRO, &registry.url(), &[("auto.register.schemas", "false")]);
        let answer = lookup.from_connect("nobody", &orders(&[1], false));
        assert!(answer.failures[0].message.contains("auto.register.schemas=true"), "{:?}", answer.failures);

        references(&registry);
    }

    /// Schemas that refer to others, registered by someone else; values are written by the newest.
    fn references(registry: &SchemaRegistry) {
        let rest = registry.rest();
        let register = |subject: &str, body: serde_json::Value| {
            rest.post(&format!("/subjects/{subject}/versions"), &body).unwrap().ok().unwrap();
        };
        let enumeration = json!({"type": "enum", "name": "shop.Colour", "symbols": ["RED", "BLUE"]});
        register("colour", json!({"schema": enumeration.to_string()}));
        let record = json!({"type": "record", "name": "shop.Order", "fields": [
            {"name": "a", "type": ["null", "int"], "default": null},
            {"name": "colour", "type": "shop.Colour", "default": "BLUE"}]});
        register(
            "referring-avro-value",
            json!({"schema": record.to_string(),
            "references": [{"name": "shop.Colour", "subject": "colour", "version": 1}]}),
        );
        let newest = [("auto.register.schemas", "false"), ("use.latest.version", "true")];
        let mut avro = made(AVRO, &registry.url(), &newest);
        let data = good(avro.from_connect("referring-avro", &orders(&[7], false)));
        assert_eq!(data.value(0)[5..], [2, 14, 2]);
        let answer = avro.to_connect("referring-avro", &data);
        assert!(answer.failures.is_empty(), "{:?}", answer.failures);
        let structs = answer.runs[0].column.array().clone();
        let structs = structs.as_any().downcast_ref::<StructArray>().unwrap();
        assert_eq!(structs.column(1).as_any().downcast_ref::<StringArray>().unwrap().value(0), "BLUE");

        register(
            "other",
            json!({"schemaType": "PROTOBUF", "schema": "syntax = \"proto3\"; package o; message Other { int64 n = 1; }"}),
        );
        register(
            "referring-protobuf-value",
            json!({"schemaType": "PROTOBUF",
            "schema": "syntax = \"proto3\"; import \"other.proto\"; message Order { o.Other x = 1; int32 a = 2; }",
            "references": [{"name": "other.proto", "subject": "other", "version": 1}]}),
        );
        let mut protobuf = made(PROTOBUF, &registry.url(), &newest);
        let data = good(protobuf.from_connect("referring-protobuf", &orders(&[7], false)));
        assert_eq!(data.value(0)[5..], [0, 0x10, 7]);
        assert!(protobuf.to_connect("referring-protobuf", &data).failures.is_empty());
    }

    #[test]
    fn tls_and_client_certificates() {
        let certificates = Certificates::make().unwrap();
        let registry = SchemaRegistry::start_with_tls(&certificates).unwrap();
        let url = registry.tls_url().unwrap();
        let path = |name: &str| certificates.path(name).display().to_string();
        let write = |pairs: &[(&str, &str)]| {
            let mut converter = made(AVRO, &url, pairs);
            (converter.from_connect("tls", &orders(&[1], false)), converter.retriable())
        };
        let (answer, retriable) = write(&[]);
        assert!(!retriable && answer.failures[0].message.contains("truststore"), "{:?}", answer.failures);
        let (stores, pem, key) = (path("servers.p12"), path("server.pem"), path("client.p12"));
        let (password, trusted) = (STORE_PASSWORD, "schema.registry.ssl.truststore.location");
        good(write(&[(trusted, &stores), ("schema.registry.ssl.truststore.password", password)]).0);
        good(
            write(&[
                (trusted, &pem),
                ("schema.registry.ssl.keystore.location", &key),
                ("schema.registry.ssl.keystore.password", password),
            ])
            .0,
        );
        let (stores, key) = (path("servers.jks"), path("client.jks"));
        good(
            write(&[
                (trusted, &stores),
                ("schema.registry.ssl.truststore.password", password),
                ("schema.registry.ssl.keystore.location", &key),
                ("schema.registry.ssl.keystore.password", password),
            ])
            .0,
        );
        // The same server by an address that its certificate does not name.
        let elsewhere = url.replace("localhost", "[::ffff:127.0.0.1]");
        let write = |pairs: &[(&str, &str)]| made(AVRO, &elsewhere, pairs).from_connect("tls", &orders(&[1], false));
        let refused = write(&[(trusted, &pem)]);
        assert!(refused.failures[0].message.contains("name"), "{:?}", refused.failures);
        let unnamed = ("schema.registry.ssl.endpoint.identification.algorithm", "");
        good(write(&[(trusted, &pem), unnamed]));
        good(write(&[(trusted, &pem), ("ssl.endpoint.identification.algorithm", " ")]));
        let refused = write(&[unnamed]);
        assert!(refused.failures[0].message.contains("truststore"), "{:?}", refused.failures);
        let mut config = Config::default();
        for (key, value) in [
            ("schema.registry.url", url.as_str()),
            (trusted, &stores),
            ("schema.registry.ssl.truststore.password", "wrong"),
        ] {
            config.set(key, value);
        }
        let refused = converter(AVRO, &config, false).err().unwrap().to_string();
        assert!(refused.contains("schema.registry.ssl.truststore.password"), "{refused}");
    }
}
