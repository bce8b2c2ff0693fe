-- Changes while both stream, on rows of the snapshot and on new ones. Between two steps both have caught up: the catalogue is as new as the log.
UPDATE types SET whole = 1 WHERE id IN (1, 101);
UPDATE types SET id = 51 WHERE id = 1;
DELETE FROM types WHERE id IN (2, 102);
UPDATE arrays SET wholes = '{7}' WHERE id = 1;
DELETE FROM arrays WHERE id = 1;
UPDATE required SET note = 'other' WHERE id = 1;
UPDATE required SET id = 51 WHERE id = 1;
DELETE FROM required WHERE id = 101;
UPDATE defaults SET note = 'n' WHERE id = 1;
UPDATE defaults SET id = 51 WHERE id = 1;
DELETE FROM defaults WHERE id = 2;
UPDATE generated SET a = 4 WHERE id = 1;
BEGIN;
UPDATE composite SET v = 'w' WHERE a = 'x';
UPDATE composite SET a = 'z' WHERE a = 'x';
DELETE FROM composite WHERE a = 'y';
COMMIT;
UPDATE reversed SET b = 7 WHERE b = 1;
DELETE FROM reversed WHERE b = 2;
UPDATE whole SET v = 'w' WHERE id = 1;
UPDATE whole SET id = 51 WHERE id = 1;
UPDATE whole SET id = id WHERE id = 2;
DELETE FROM whole WHERE id IN (2, 51);
UPDATE by_index SET c = 'x' WHERE b = 1;
UPDATE by_index SET b = 51 WHERE b = 1;
DELETE FROM by_index WHERE b = 2;
UPDATE no_key_full SET v = 'w' WHERE n = 1;
UPDATE no_key_full SET n = 5 WHERE n = 1;
DELETE FROM no_key_full WHERE n = 5;
UPDATE large SET n = 2;
UPDATE large SET id = 51 WHERE id = 1;
UPDATE large SET big = 'short' WHERE id = 101;
DELETE FROM large WHERE id = 101;
UPDATE large_full SET n = 2;
UPDATE large_full SET id = 51 WHERE id = 1;
DELETE FROM large_full;
TRUNCATE truncated;
INSERT INTO truncated VALUES (7);
BEGIN;
TRUNCATE truncated, "Other Schema"."Mixed Case";
INSERT INTO truncated VALUES (8);
COMMIT;
INSERT INTO changing VALUES (1, 'a');
-- step
ALTER TABLE changing ADD COLUMN n int DEFAULT 5;
INSERT INTO changing VALUES (2, 'b', 6);
UPDATE changing SET v = 'c' WHERE id = 1;
-- step
ALTER TABLE changing DROP COLUMN v;
INSERT INTO changing VALUES (3, 7);
-- step
ALTER TABLE changing RENAME COLUMN n TO m;
INSERT INTO changing VALUES (4, 8);
-- step
ALTER TABLE changing ALTER COLUMN m TYPE bigint;
INSERT INTO changing VALUES (5, 9);
-- step
UPDATE "Other Schema"."Mixed Case" SET "a.b" = 'w';
INSERT INTO "Other Schema"."Mixed Case" VALUES (7, 'v');
UPDATE "Other Schema"."Mixed Case" SET "The Id" = 8;
UPDATE parts SET v = 'other';
UPDATE parts SET day = '2026-07-07' WHERE id = 1;
DELETE FROM parts WHERE id = 2;
UPDATE unknown SET v = 'w';
BEGIN;
INSERT INTO no_key VALUES ('rolled back', 0);
ROLLBACK;
CREATE TABLE later (id int PRIMARY KEY, v text DEFAULT 'd');
INSERT INTO later VALUES (1, 'v');
DELETE FROM later;
-- step
INSERT INTO signals VALUES ('one', 'execute-snapshot', '{"data-collections": ["public.composite"], "type": "incremental"}');
-- step
INSERT INTO composite VALUES (77, 'after', 'v');
SELECT pg_sleep(3);
INSERT INTO signals VALUES ('two', 'execute-snapshot', '{"data-collections": ["public.by_index"], "type": "blocking"}');
-- step
SELECT pg_sleep(3);
INSERT INTO by_index VALUES (7, 77, 'after', 'v');
