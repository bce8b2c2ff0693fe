-- What the snapshot finds.
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE PUBLICATION dbz_publication FOR ALL TABLES;
CREATE TYPE mood AS ENUM ('sad', 'it''s, ok', 'a"b');
CREATE DOMAIN amount AS numeric(8,3) CHECK (VALUE > 0);
CREATE DOMAIN code AS varchar(5) NOT NULL;

CREATE TABLE types (
    id int PRIMARY KEY,
    flag boolean, small smallint, whole integer, big bigint, object oid,
    single real, wide double precision,
    price numeric(10,2), count numeric(9), exact numeric, dom amount,
    note text, short varchar(5), padded char(5), letter "char", label name, ci citext,
    raw bytea, key uuid, doc json, docb jsonb, markup xml, feeling mood, path ltree,
    day date, tm time, tm0 time(0), tm3 time(3), tm6 time(6), tmz timetz,
    ts timestamp, ts0 timestamp(0), ts3 timestamp(3), ts5 timestamp(5), tsz timestamptz, tsz3 timestamptz(3),
    span interval, span_days interval day to hour,
    one_bit bit(1), bits bit(12), bits_var bit varying(20), bits_any bit varying,
    net inet, net_range cidr, mac macaddr, mac8 macaddr8,
    r4 int4range, r8 int8range, rn numrange, rd daterange, rt tsrange, rz tstzrange,
    place point, words tsvector, bag hstore
);
CREATE TABLE arrays (
    id int PRIMARY KEY,
    flags boolean[], smalls smallint[], wholes integer[], bigs bigint[], singles real[], wides double precision[],
    prices numeric(6,1)[], notes text[], shorts varchar(5)[], paddeds char(3)[],
    keys uuid[], docs jsonb[], feelings mood[], days date[], tss timestamp[], tszs timestamptz[], nested integer[][]
);
CREATE TABLE required (
    id bigint PRIMARY KEY,
    flag boolean NOT NULL, small smallint NOT NULL, wide double precision NOT NULL, price numeric(10,2) NOT NULL,
    note text NOT NULL, raw bytea NOT NULL, key uuid NOT NULL, docb jsonb NOT NULL, day date NOT NULL, tm time NOT NULL,
    ts timestamp NOT NULL, tsz timestamptz NOT NULL, span interval NOT NULL, bits bit(9) NOT NULL, tags text[] NOT NULL,
    feeling mood NOT NULL, dom code, place point NOT NULL, bag hstore NOT NULL, exact numeric NOT NULL
);
CREATE TABLE defaults (
    id serial PRIMARY KEY,
    flag boolean DEFAULT true, yes boolean NOT NULL DEFAULT false,
    small smallint DEFAULT 7, whole integer NOT NULL DEFAULT -42, big bigint DEFAULT 9223372036854775807,
    single real DEFAULT 1.5, wide double precision DEFAULT 2.25, price numeric(10,2) NOT NULL DEFAULT 12.5, exact numeric DEFAULT 3.14,
    note text NOT NULL DEFAULT 'it''s', short varchar(9) DEFAULT 'abc', padded char(4) DEFAULT 'x',
    docb jsonb DEFAULT '{}', day date DEFAULT '2026-11-30', tm time DEFAULT '10:00:00', ts timestamp DEFAULT '2026-11-30 10:00:00.5',
    made timestamptz NOT NULL DEFAULT now(), made_ts timestamp DEFAULT CURRENT_TIMESTAMP, sum integer DEFAULT (1 + 2),
    key uuid DEFAULT gen_random_uuid(), feeling mood DEFAULT 'sad', raw bytea DEFAULT '\x01', one_bit bit(1) DEFAULT B'1',
    bits bit(4) DEFAULT B'1010', span interval DEFAULT '1 day', nothing text DEFAULT NULL
);
CREATE TABLE generated (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);
CREATE TABLE composite (b int, a text, v text, PRIMARY KEY (b, a));
CREATE TABLE reversed (a int, b int, v text, PRIMARY KEY (b, a));
CREATE TABLE whole (id int PRIMARY KEY, v text NOT NULL, n int);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE by_index (a int NOT NULL, b int NOT NULL, c text, d text);
CREATE UNIQUE INDEX by_index_b ON by_index (b);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_b;
CREATE TABLE no_key (v text, n int);
CREATE TABLE no_key_full (v text, n int);
ALTER TABLE no_key_full REPLICA IDENTITY FULL;
CREATE TABLE nothing (id int PRIMARY KEY, v text);
ALTER TABLE nothing REPLICA IDENTITY NOTHING;
CREATE TABLE large (id int PRIMARY KEY, big text, raw bytea, list text[], doc jsonb, bag hstore, n int, required text NOT NULL);
ALTER TABLE large ALTER big SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL,
    ALTER doc SET STORAGE EXTERNAL, ALTER bag SET STORAGE EXTERNAL, ALTER required SET STORAGE EXTERNAL;
CREATE TABLE large_full (id int PRIMARY KEY, big text, n int);
ALTER TABLE large_full ALTER big SET STORAGE EXTERNAL;
ALTER TABLE large_full REPLICA IDENTITY FULL;
CREATE TABLE truncated (id int PRIMARY KEY);
CREATE TABLE changing (id int PRIMARY KEY, v text);
CREATE SCHEMA "Other Schema";
CREATE TABLE "Other Schema"."Mixed Case" ("The Id" int PRIMARY KEY, "a.b" text);
CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE parts_new PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
CREATE TABLE unknown (id int PRIMARY KEY, area polygon, v text, q tsquery);
CREATE TABLE signals (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
CREATE TABLE zz_done (id int PRIMARY KEY);
