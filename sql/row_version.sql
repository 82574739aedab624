-- pins the trigger idem_version: what it accepts, refuses, how it must be set up, every way in which rows are updated
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_version;
SET search_path = row_version, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

CREATE TABLE doc (id int PRIMARY KEY, body text, version int NOT NULL DEFAULT 1);
CREATE TRIGGER version BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
INSERT INTO doc VALUES (1, 'one'), (2, 'two');

-- left alone, set to itself, set to the next: the next
UPDATE doc SET body = 'a' WHERE id = 1 RETURNING version;
UPDATE doc SET body = 'a' WHERE id = 1 RETURNING version;
UPDATE doc SET body = 'b', version = 3 WHERE id = 1 RETURNING version;
UPDATE doc SET body = 'c', version = 5 WHERE id = 1 RETURNING version;
-- the classic statement, fresh and stale
UPDATE doc SET body = 'd', version = version + 1 WHERE id = 1 AND version = 5 RETURNING version;
UPDATE doc SET body = 'e', version = version + 1 WHERE id = 1 AND version = 5 RETURNING version;
-- a writer that sends back the version it read, and is late
SELECT pg_temp.outcome($$UPDATE doc SET body = 'f', version = 5 WHERE id = 1 RETURNING version$$);
SELECT pg_temp.outcome($$UPDATE doc SET body = 'f', version = 4 WHERE id = 1 RETURNING version$$);
SELECT pg_temp.outcome($$UPDATE doc SET body = 'f', version = 8 WHERE id = 1 RETURNING version$$);
SELECT pg_temp.outcome($$UPDATE doc SET body = 'f', version = 0 WHERE id = 1 RETURNING version$$);
SELECT pg_temp.outcome($$UPDATE doc SET body = 'f', version = NULL WHERE id = 1 RETURNING version$$);
SELECT * FROM doc ORDER BY id;

-- bulk UPDATE, ON CONFLICT DO UPDATE, MERGE, COPY, UPDATE FROM, a cursor, a key that changes
UPDATE doc SET body = body || '!';
INSERT INTO doc VALUES (1, 'g'), (3, 'three') ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body;
SELECT pg_temp.outcome($$INSERT INTO doc VALUES (1, 'h') ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body, version = EXCLUDED.version RETURNING version$$);
MERGE INTO doc USING (VALUES (1, 'm'), (4, 'four')) AS s (id, body) ON doc.id = s.id
	WHEN MATCHED THEN UPDATE SET body = s.body WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.body);
SELECT pg_temp.outcome($$MERGE INTO doc USING (VALUES (1)) AS s (id) ON doc.id = s.id WHEN MATCHED THEN UPDATE SET version = 1$$);
COPY doc (id, body, version) FROM stdin;
5	five	42
\.
UPDATE doc SET body = s.body FROM (VALUES (5, 'cinq')) AS s (id, body) WHERE doc.id = s.id;
UPDATE doc SET id = 50 WHERE id = 5;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM doc WHERE id = 2 FOR UPDATE;
MOVE c;
UPDATE doc SET body = 'cursor' WHERE CURRENT OF c;
COMMIT;
SELECT * FROM doc ORDER BY id;
-- a savepoint takes the version back
BEGIN;
SAVEPOINT s;
UPDATE doc SET body = 'x' WHERE id = 2 RETURNING version;
ROLLBACK TO s;
UPDATE doc SET body = 'x' WHERE id = 2 RETURNING version;
ROLLBACK;

-- the replication role decides as for every trigger
SET session_replication_role = replica;
UPDATE doc SET version = 7 WHERE id = 50 RETURNING version;
ALTER TABLE doc ENABLE ALWAYS TRIGGER version;
UPDATE doc SET body = 'always' WHERE id = 50 RETURNING version;
RESET session_replication_role;
ALTER TABLE doc DISABLE TRIGGER version;
UPDATE doc SET version = 1 WHERE id = 50 RETURNING version;
ALTER TABLE doc ENABLE TRIGGER version;

-- every integer type, a domain, up to the end
CREATE DOMAIN revision AS int CHECK (VALUE < 10);
CREATE TABLE ends (id int PRIMARY KEY, a smallint, b int, c bigint, d revision, e int);
INSERT INTO ends VALUES (1, 32766, 2147483646, 9223372036854775806, 8);
INSERT INTO ends VALUES (2, -5, -5, -5, -5);
CREATE TRIGGER va BEFORE UPDATE ON ends FOR EACH ROW EXECUTE FUNCTION idem_version('a');
CREATE TRIGGER vb BEFORE UPDATE ON ends FOR EACH ROW EXECUTE FUNCTION idem_version('b');
CREATE TRIGGER vc BEFORE UPDATE ON ends FOR EACH ROW EXECUTE FUNCTION idem_version('c');
CREATE TRIGGER vd BEFORE UPDATE ON ends FOR EACH ROW EXECUTE FUNCTION idem_version('d');
UPDATE ends SET id = id RETURNING *;
SELECT pg_temp.outcome($$UPDATE ends SET id = id WHERE id = 1$$);
DROP TRIGGER va ON ends;
SELECT pg_temp.outcome($$UPDATE ends SET id = id WHERE id = 1$$);
DROP TRIGGER vb ON ends;
SELECT pg_temp.outcome($$UPDATE ends SET id = id WHERE id = 1$$);
DROP TRIGGER vc ON ends;
SELECT pg_temp.outcome($$UPDATE ends SET id = id WHERE id = 1$$);
DROP TRIGGER vd ON ends;
-- a null, as ADD COLUMN leaves it, counts as 0
CREATE TRIGGER ve BEFORE UPDATE ON ends FOR EACH ROW EXECUTE FUNCTION idem_version('e');
SELECT pg_temp.outcome($$UPDATE ends SET e = 5 WHERE id = 1$$);
UPDATE ends SET id = id WHERE id = 1 RETURNING e;
UPDATE ends SET e = 0 WHERE id = 2 RETURNING e;
UPDATE ends SET e = 2 WHERE id = 2 RETURNING e;
SELECT pg_temp.outcome($$UPDATE ends SET e = NULL WHERE id = 2$$);

-- dropped and wide columns, toasted values, generated columns, partitions that a row moves between
CREATE TABLE wide (a int, gone text, big text, n numeric, version bigint DEFAULT 0, g int GENERATED ALWAYS AS (a + 1) STORED, k int)
	PARTITION BY RANGE (k);
ALTER TABLE wide DROP COLUMN gone;
CREATE TABLE wide_1 PARTITION OF wide FOR VALUES FROM (0) TO (10);
CREATE TABLE wide_2 (k int, version bigint, n numeric, big text, g int GENERATED ALWAYS AS (a + 1) STORED, a int);
ALTER TABLE wide ATTACH PARTITION wide_2 FOR VALUES FROM (10) TO (20);
CREATE TRIGGER version BEFORE UPDATE ON wide FOR EACH ROW EXECUTE FUNCTION idem_version('version');
INSERT INTO wide (a, big, n, k) SELECT 1, string_agg(md5(i::text), ''), 1.5, 1 FROM generate_series(1, 1000) i;
UPDATE wide SET a = 2;
UPDATE wide SET k = 11;
UPDATE wide SET n = NULL;
UPDATE wide SET k = 2;
SELECT tableoid::regclass, a, length(big), n, version, g, k FROM wide;

-- names: capitals, quotes, a column that is renamed, dropped, retyped, added again
CREATE TABLE names (id int PRIMARY KEY, "Ver""sion; --" int DEFAULT 1);
CREATE TRIGGER version BEFORE UPDATE ON names FOR EACH ROW EXECUTE FUNCTION idem_version('Ver"sion; --');
INSERT INTO names VALUES (1);
UPDATE names SET id = id RETURNING *;
SELECT pg_temp.outcome($$UPDATE names SET "Ver""sion; --" = 7$$);
ALTER TABLE names RENAME COLUMN "Ver""sion; --" TO v;
SELECT pg_temp.outcome($$UPDATE names SET id = id$$);
ALTER TABLE names RENAME COLUMN v TO "Ver""sion; --";
ALTER TABLE names ADD COLUMN x text;
ALTER TABLE names ALTER COLUMN "Ver""sion; --" TYPE bigint;
UPDATE names SET id = id RETURNING *;
ALTER TABLE names ALTER COLUMN "Ver""sion; --" TYPE numeric;
SELECT pg_temp.outcome($$UPDATE names SET id = id$$);
ALTER TABLE names DROP COLUMN "Ver""sion; --";
SELECT pg_temp.outcome($$UPDATE names SET id = id$$);
ALTER TABLE names ADD COLUMN "Ver""sion; --" smallint DEFAULT 3;
UPDATE names SET id = id RETURNING *;

-- set up wrongly
CREATE TABLE wrong (id int, version int, t text);
INSERT INTO wrong VALUES (1, 1, 'x');
SELECT pg_temp.outcome('SELECT idem_version()');
CREATE TRIGGER t AFTER UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('version');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH STATEMENT EXECUTE FUNCTION idem_version('version');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE INSERT OR UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('version');
SELECT pg_temp.outcome('INSERT INTO wrong VALUES (2, 2)');
CREATE OR REPLACE TRIGGER t BEFORE DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('version');
SELECT pg_temp.outcome('DELETE FROM wrong');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version();
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('version', 'id');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('revision');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('xmin');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('t');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
ALTER TABLE wrong ADD COLUMN made int GENERATED ALWAYS AS (id * 10) STORED;
CREATE OR REPLACE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_version('made');
SELECT pg_temp.outcome('UPDATE wrong SET id = 1');
DROP TRIGGER t ON wrong;
CREATE VIEW seen AS SELECT * FROM wrong;
CREATE TRIGGER t INSTEAD OF UPDATE ON seen FOR EACH ROW EXECUTE FUNCTION idem_version('version');
SELECT pg_temp.outcome('UPDATE seen SET id = 1');

DROP SCHEMA row_version CASCADE;
