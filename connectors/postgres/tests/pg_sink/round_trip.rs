//! What the CDC source reads, the sink writes: every type, and changes as they come.

use std::time::Instant;

use tributary_connector_postgres::PostgresSource;
use tributary_sdk::Offsets;
use tributary_testkit::SourceRun;

use crate::common::{Database, PATIENCE};
use crate::{Run, put, start};

const TYPES: [(&str, &str); 50] = [
    ("boolean", "true"),
    ("smallint", "-32768"),
    ("integer", "2147483647"),
    ("bigint", "-9223372036854775808"),
    ("oid", "4294967295"),
    ("real", "0.1"),
    ("double precision", "1e300"),
    ("double precision", "'-Infinity'"),
    ("numeric(10,2)", "-12345678.9"),
    ("numeric(60,20)", "-1234567890123456789012345678901234567890.01234567890123456789"),
    ("numeric", "123.45"),
    ("numeric", "0.00012"),
    ("text", "'a\tb\\c\nÄ€😀'"),
    ("varchar(5)", "'abc'"),
    ("char(5)", "'abc'"),
    ("name", "'abc'"),
    ("bytea", "'\\x00ff5c'"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    ("json", "'{\"a\": [1, null]}'"),
    ("jsonb", "'{\"b\":1,\"a\":\"x\"}'"),
    ("xml", "'<a>1</a>'"),
    ("mood", "'it''s, ok'"),
    ("amount", "5.5"),
    ("date", "'2026-11-30'"),
    ("date", "'0044-03-15 BC'"),
    ("date", "'infinity'"),
    ("timestamp", "'infinity'"),
    ("timestamp", "'-infinity'"),
    ("timestamp(3)", "'-infinity'"),
    ("time", "'13:51:30.123456'"),
    ("time(3)", "'13:51:30.123'"),
    ("timetz", "'13:51:30.123456+00'"),
    ("timestamp", "'2026-11-30 13:51:30.123456'"),
    ("timestamp(3)", "'1969-12-31 23:59:59.999'"),
    ("timestamptz", "'2026-11-30 13:51:30.120+02'"),
    ("interval", "'-3 hours 5 seconds'"),
    ("bit(1)", "B'1'"),
    ("bit(9)", "B'000000011'"),
    ("bit varying(12)", "B'100000001'"),
    ("inet", "'10.0.0.1/8'"),
    ("macaddr", "'08:00:2B:01:02:03'"),
    ("int4range", "'[1,5)'"),
    ("tstzrange", "'[2026-01-01 00:00+00,)'"),
    ("point", "'(1.5,-2)'"),
    ("integer[]", "'{1,NULL,-3}'"),
    ("text[]", "ARRAY['a,b', NULL, 'c\"d\\', '']"),
    ("numeric(6,1)[]", "'{1.5,-2}'"),
    ("uuid[]", "'{}'"),
    ("date[]", "'{2026-11-30}'"),
    ("tsvector", "'a b'"),
];

fn schema() -> String {
    let mut sql = String::from(
        "CREATE TYPE mood AS ENUM ('it''s, ok', 'bad'); CREATE DOMAIN amount AS numeric(8, 3) CHECK (value < 100);",
    );
    let columns: Vec<String> = TYPES.iter().enumerate().map(|(n, (ty, _))| format!("c{n} {ty}")).collect();
    sql += &format!(
        "CREATE TABLE types (id int PRIMARY KEY, {}, computed int GENERATED ALWAYS AS (id * 2) STORED);",
        columns.join(", ")
    );
    sql
}

/// Moves what comes until the sink's table is as the source's.
fn follow(from: &mut SourceRun<PostgresSource>, run: &mut Run, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        let batches = from.poll().unwrap();
        for batch in &batches {
            let mut batch = batch.clone();
            batch.offsets = Offsets::None;
            batch.partition = None;
            put(run, batch);
        }
        from.deliver(&batches).unwrap();
        assert!(Instant::now() < deadline, "the changes do not come: {:#?}", from.services().logs());
    }
}

#[test]
fn all_types_come_back_as_they_were() {
    let source = Database::new();
    let values: Vec<&str> = TYPES.iter().map(|(_, value)| *value).collect();
    source.sql(&format!(
        "SET TimeZone = 'UTC'; {} INSERT INTO types VALUES (1, {}); INSERT INTO types (id) VALUES (2)",
        schema(),
        values.join(", ")
    ));
    let to = Database::new();
    to.sql(&schema());
    let upsert = [("insert.mode", "upsert"), ("primary.key.mode", "record_key"), ("delete.enabled", "true")];
    let mut run = start(
        &to.sink_config(&[&upsert[..], &[("collection.name.format", "${source.schema}.${source.table}")]].concat()),
        "server.public.types",
    );
    let shown = |database: &Database, row: i32| {
        let columns: Vec<String> = (0..TYPES.len()).map(|n| format!("c{n}::text")).collect();
        database.sql(&format!(
            "SET TimeZone = 'UTC'; SELECT id, computed, {} FROM types WHERE id = {row}",
            columns.join(", ")
        ))
    };
    let mut from = source.start(&[]);
    follow(&mut from, &mut run, || to.sql("SELECT count(*) FROM types") == "2");
    for (n, (ty, _)) in TYPES.iter().enumerate() {
        let one = |database: &Database| {
            database.sql(&format!("SET TimeZone = 'UTC'; SELECT c{n}::text FROM types WHERE id = 1"))
        };
        assert_eq!(one(&to), one(&source), "{ty}");
    }
    assert_eq!(shown(&to, 2), shown(&source, 2));
    // The log: changes, deletes, a changed key.
    source.sql("UPDATE types SET c2 = 5, c12 = NULL WHERE id = 1; UPDATE types SET id = 3 WHERE id = 2; DELETE FROM types WHERE id = 1; INSERT INTO types (id, c12) VALUES (4, 'last')");
    follow(&mut from, &mut run, || to.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM types") == "3,4");
    assert_eq!(shown(&to, 4), shown(&source, 4));
    run.stop().unwrap();
}

#[test]
fn tables_that_are_made_hold_all_types() {
    let source = Database::new();
    let values: Vec<&str> = TYPES.iter().map(|(_, value)| *value).collect();
    source.sql(&format!("{} INSERT INTO types VALUES (1, {})", schema(), values.join(", ")));
    let to = Database::new();
    let upsert = [("insert.mode", "upsert"), ("primary.key.mode", "record_key"), ("schema.evolution", "basic")];
    let mut run = start(&to.sink_config(&upsert), "server.public.types");
    let mut from = source.start(&[]);
    follow(&mut from, &mut run, || {
        to.sql("SELECT count(*) FROM pg_class WHERE relname = 'server_public_types'") == "1"
            && to.sql("SELECT count(*) FROM server_public_types") == "1"
    });
    for (n, (ty, _)) in TYPES.iter().enumerate() {
        let one = |database: &Database, table: &str| {
            database.sql(&format!("SET TimeZone = 'UTC'; SELECT rtrim(c{n}::text) FROM {table}"))
        };
        match *ty {
            // One bit is a boolean, and of others it is not told whether their number varies.
            "bit(1)" => assert_eq!(one(&to, "server_public_types"), "true"),
            "bit(9)" => assert_eq!(one(&to, "server_public_types"), "11"),
            _ => assert_eq!(one(&to, "server_public_types"), one(&source, "types"), "{ty}"),
        }
    }
}

/// Large values that an update leaves alone are not in the log, and stay in the sink's table as they are.
#[test]
fn large_values_that_have_not_changed() {
    let schema = "CREATE EXTENSION hstore; CREATE TABLE large (id int PRIMARY KEY, n int, a text, b bytea, c text[], d hstore, e jsonb)";
    let large = "(SELECT string_agg(md5(i::text || 'x'), '') FROM generate_series(1, 2000) i)";
    let row = format!("(1, 1, {large}, {large}::bytea, ARRAY[{large}], hstore('k', {large}), to_jsonb({large}))");
    for more in [
        &[][..],
        &[("hstore.handling.mode", "map")],
        &[("binary.handling.mode", "base64")],
        &[("binary.handling.mode", "hex")],
    ] {
        let (source, to) = (Database::new(), Database::new());
        source.sql(&format!("{schema}; INSERT INTO large VALUES {row}"));
        to.sql(schema);
        // Texts of bytes are not what bytea columns read.
        let texts = more.iter().any(|(key, _)| *key == "binary.handling.mode");
        if texts {
            to.sql("ALTER TABLE large ALTER b TYPE text USING b::text");
        }
        let upsert =
            [("insert.mode", "upsert"), ("primary.key.mode", "record_key"), ("collection.name.format", "large")];
        let mut run = start(&to.sink_config(&upsert), "server.public.large");
        let mut from = source.start(more);
        follow(&mut from, &mut run, || to.sql("SELECT count(*) FROM large") == "1");
        let hash = |database: &Database, bytes: &str| {
            database.sql(&format!("SELECT md5(concat(a, {bytes}, c, d, e)) FROM large"))
        };
        let bytes = if texts { "''" } else { "b" };
        let before = to.sql("SELECT md5(b::text) FROM large");
        assert_eq!(hash(&to, bytes), hash(&source, bytes), "{more:?}");
        source.sql("UPDATE large SET n = 2");
        follow(&mut from, &mut run, || to.sql("SELECT n FROM large") == "2");
        assert_eq!(hash(&to, bytes), hash(&source, bytes), "{more:?}");
        assert_eq!(to.sql("SELECT md5(b::text) FROM large"), before, "{more:?}");
    }
}
