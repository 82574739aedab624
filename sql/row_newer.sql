-- pins the trigger idem_newer: which updates are stale, types, null, what nothing could follow, how it must be set up
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_newer;
SET search_path = row_newer, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- a feed in which a state comes back
CREATE TABLE shop (id int PRIMARY KEY, status text, at timestamp, hits int DEFAULT 0);
CREATE TRIGGER newer BEFORE UPDATE ON shop FOR EACH ROW EXECUTE FUNCTION idem_newer('at');
INSERT INTO shop VALUES (1, 'open', '2026-03-01 10:00'), (2, 'open', NULL);
UPDATE shop SET status = 'closed', at = '2026-03-01 12:00' WHERE id = 1 RETURNING status;
-- overtaken: the row is as it was, all of it
UPDATE shop SET status = 'open', at = '2026-03-01 11:00', hits = 9 WHERE id = 1 RETURNING status;
SELECT pg_temp.changed($$UPDATE shop SET status = 'open', at = '2026-03-01 11:59:59.999999' WHERE id = 1$$);
UPDATE shop SET status = 'open', at = '2026-03-01 13:00' WHERE id = 1 RETURNING status;
-- equal, and left alone: passes
UPDATE shop SET status = 'open', at = '2026-03-01 13:00' WHERE id = 1 RETURNING status;
UPDATE shop SET hits = hits + 1 WHERE id = 1 RETURNING hits;
-- upsert, MERGE, many rows, COPY is an insert
INSERT INTO shop VALUES (1, 'late', '2026-03-01 12:30') ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status, at = EXCLUDED.at RETURNING *;
INSERT INTO shop VALUES (1, 'next', '2026-03-01 13:30') ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status, at = EXCLUDED.at RETURNING *;
MERGE INTO shop USING (VALUES (1, timestamp '2026-03-01 13:29')) AS s (id, at) ON shop.id = s.id WHEN MATCHED THEN UPDATE SET status = 'merged', at = s.at;
SELECT pg_temp.changed($$UPDATE shop SET at = '2026-03-01 13:00'$$);
-- null: older than anything, equal to null
UPDATE shop SET status = 'a', at = NULL WHERE id = 1 RETURNING status;
UPDATE shop SET status = 'b', at = '2026-03-01' WHERE id = 2 RETURNING status;
UPDATE shop SET status = 'c', at = NULL WHERE id = 2 RETURNING status;
INSERT INTO shop VALUES (3, 'n', NULL);
UPDATE shop SET status = 'm', at = NULL WHERE id = 3 RETURNING status;
SELECT * FROM shop ORDER BY id;
-- a savepoint takes the newest back
BEGIN;
SAVEPOINT s;
UPDATE shop SET status = 'x', at = '2026-04-01' WHERE id = 1 RETURNING status;
ROLLBACK TO s;
UPDATE shop SET status = 'y', at = '2026-03-15' WHERE id = 1 RETURNING status;
ROLLBACK;
-- a stale update makes no new version of the row; it locks the row, as every UPDATE with a row trigger does
CREATE TEMP TABLE version AS SELECT ctid AS tid FROM shop WHERE id = 1;
UPDATE shop SET at = '2026-01-01' WHERE id = 1;
SELECT count(*) FROM shop, version WHERE ctid = tid;

-- equal=skip, for a trigger that looks at updates of the column only
CREATE TABLE sensor (id int PRIMARY KEY, value int, seq bigint, hits int DEFAULT 0);
CREATE TRIGGER newer BEFORE UPDATE OF seq ON sensor FOR EACH ROW EXECUTE FUNCTION idem_newer('seq', 'equal=skip');
INSERT INTO sensor VALUES (1, 10, 5), (2, 10, NULL);
SELECT pg_temp.changed($$UPDATE sensor SET value = 11, seq = 5 WHERE id = 1$$), pg_temp.changed($$UPDATE sensor SET value = 11, seq = 4 WHERE id = 1$$),
	pg_temp.changed($$UPDATE sensor SET value = 12, seq = 6 WHERE id = 1$$), pg_temp.changed($$UPDATE sensor SET hits = hits + 1 WHERE id = 1$$),
	pg_temp.changed($$UPDATE sensor SET value = 11, seq = NULL WHERE id = 2$$), pg_temp.changed($$UPDATE sensor SET value = 13, seq = 1 WHERE id = 2$$);
SELECT * FROM sensor ORDER BY id;

-- the verbs say what became of it: nothing was taken, nothing applied
SELECT idem_machine('row_newer', 'open -> closed');
CREATE FUNCTION an_hour_before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := OLD.at - interval '1 hour'; RETURN NEW; END $$;
CREATE TRIGGER a BEFORE UPDATE ON shop FOR EACH ROW EXECUTE FUNCTION an_hour_before();
INSERT INTO shop VALUES (4, 'open', '2026-03-01', 10);
SELECT idem_deduct('shop', 'hits', 1, 4), idem_advance('row_newer', 'shop', 'status', 'closed', 4);
DROP TRIGGER a ON shop;
SELECT idem_deduct('shop', 'hits', 1, 4), idem_advance('row_newer', 'shop', 'status', 'closed', 4);
DELETE FROM idem.transition WHERE machine = 'row_newer';

-- every type with a btree order: older is skipped, newer passes; what nothing could follow is refused, but where it is already
CREATE TYPE level AS ENUM ('low', 'high');
CREATE DOMAIN amount AS numeric CHECK (VALUE > 0);
CREATE DOMAIN grown AS amount;
CREATE TYPE edition AS (major int, minor int);
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE kinds (kind text, older text, newer text, ends text[]);
INSERT INTO kinds VALUES
	('smallint', '1', '2', '{}'), ('bigint', '-1', '9223372036854775807', '{}'),
	('numeric', '-infinity', '1e10', '{NaN,infinity}'), ('grown', '1', '1.5', '{NaN,infinity}'),
	('real', '-infinity', '1', '{NaN,infinity}'), ('float8', '0', '1e300', '{NaN,infinity}'),
	('date', '-infinity', '2026-03-01', '{infinity}'), ('timestamp', '-infinity', '2026-03-01', '{infinity}'),
	('timestamptz', '2026-03-01 10:00+00', '2026-03-01 10:00-01', '{infinity}'), ('interval', '1 day', '25 hours', '{}'),
	('time', '10:00', '10:01', '{}'), ('text', 'a', 'b', '{}'), ('text COLLATE "C"', 'B', 'a', '{}'), ('text COLLATE nocase', 'A', 'b', '{}'),
	('char(5)', 'a', 'b', '{}'), ('bytea', '\x00', '\x01', '{}'), ('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '{}'),
	('bool', 'f', 't', '{}'), ('level', 'low', 'high', '{}'), ('int[]', '{1,2}', '{1,3}', '{}'), ('edition', '(1,9)', '(2,0)', '{}'),
	('pg_lsn', '0/1', '1/0', '{}'), ('xid8', '1', '18446744073709551615', '{}'), ('jsonb', '1', '2', '{}'), ('int4range', '[1,2)', '[1,3)', '{}');
DO $$
DECLARE
	k kinds; v text; answers text[]; refused text[];
BEGIN
	FOR k IN SELECT * FROM kinds LOOP
		EXECUTE format('CREATE TABLE one (id int PRIMARY KEY, v %s)', k.kind);
		EXECUTE format('INSERT INTO one VALUES (1, %L), (2, NULL)', k.older);
		CREATE TRIGGER newer BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION idem_newer('v');
		answers := ARRAY(SELECT pg_temp.changed(format('UPDATE one SET v = %L WHERE id = 1', w)) FROM unnest(ARRAY[k.newer, k.older, k.newer]) w);
		IF answers <> '{1 rows,0 rows,1 rows}' THEN
			RAISE WARNING '%: %', k.kind, answers;
		END IF;
		FOREACH v IN ARRAY k.ends LOOP
			refused := ARRAY(SELECT left(pg_temp.changed(format('UPDATE one SET v = %L WHERE id = %s', v, i)), 5) FROM generate_series(1, 2) i);
			IF refused <> '{22023,22023}' THEN
				RAISE WARNING '% %: %', k.kind, v, refused;
			END IF;
			EXECUTE format('INSERT INTO one VALUES (3, %L)', v);
			IF pg_temp.changed('UPDATE one SET v = v WHERE id = 3') <> '1 rows' THEN
				RAISE WARNING '% % left alone: %', k.kind, v, pg_temp.changed('UPDATE one SET v = v WHERE id = 3');
			END IF;
			DELETE FROM one WHERE id = 3;
		END LOOP;
		RAISE INFO '%: %', k.kind, cardinality(k.ends);
		DROP TABLE one;
	END LOOP;
END $$;
SELECT pg_temp.changed($$UPDATE shop SET at = 'infinity' WHERE id = 1$$);
SELECT pg_temp.changed($$UPDATE shop SET at = '-infinity' WHERE id = 1$$), pg_temp.changed($$UPDATE shop SET at = '-infinity' WHERE id = 3$$);
CREATE TABLE reading (id int PRIMARY KEY, n numeric);
CREATE TRIGGER newer BEFORE UPDATE ON reading FOR EACH ROW EXECUTE FUNCTION idem_newer('n');
INSERT INTO reading VALUES (1, 1);
SELECT pg_temp.changed($$UPDATE reading SET n = 'NaN'$$);

-- the replication role decides as for every trigger
SET session_replication_role = replica;
UPDATE shop SET status = 'old', at = '2020-01-01' WHERE id = 1 RETURNING status;
RESET session_replication_role;

-- wrong use: arguments, columns, events
CREATE TABLE wrong (id int, at timestamptz, j json, p point, js json[], made int GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO wrong VALUES (1, '2026-03-01', '1', '(1,1)', NULL);
CREATE FUNCTION wrong_trigger(event text, arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('CREATE TRIGGER t %s EXECUTE FUNCTION idem_newer(%s)', event, arguments);
	answer := pg_temp.changed(CASE WHEN event ~ 'INSERT' THEN 'INSERT INTO wrong (id) VALUES (2)' WHEN event ~ 'DELETE' THEN 'DELETE FROM wrong' ELSE 'UPDATE wrong SET id = 1' END);
	DROP TRIGGER t ON wrong;
	RETURN answer;
END $$;
SELECT arguments, wrong_trigger('BEFORE UPDATE ON wrong FOR EACH ROW', arguments)
FROM (VALUES (1, ''), (2, $$'at', 'equal=skip', 'x'$$), (3, $$'at', 'equal=pass'$$), (4, $$'At'$$), (5, $$'ctid'$$), (6, $$'j'$$), (7, $$'p'$$), (8, $$'js'$$), (9, $$'made'$$), (10, $$''$$))
	AS v (n, arguments) ORDER BY n;
SELECT event, wrong_trigger(event, $$'at'$$)
FROM (VALUES (1, 'AFTER UPDATE ON wrong FOR EACH ROW'), (2, 'BEFORE UPDATE ON wrong'), (3, 'BEFORE INSERT ON wrong FOR EACH ROW'), (4, 'BEFORE DELETE ON wrong FOR EACH ROW'))
	AS v (n, event) ORDER BY n;
SELECT pg_temp.changed('SELECT idem_newer()');
-- a column that is renamed, and one of another type
CREATE TRIGGER t BEFORE UPDATE ON wrong FOR EACH ROW EXECUTE FUNCTION idem_newer('at');
ALTER TABLE wrong RENAME at TO seen;
SELECT pg_temp.changed('UPDATE wrong SET id = 1');
ALTER TABLE wrong RENAME seen TO at;
ALTER TABLE wrong ALTER at TYPE date;
SELECT pg_temp.changed($$UPDATE wrong SET at = '2026-03-02'$$), pg_temp.changed($$UPDATE wrong SET at = '2026-03-01'$$);
SELECT at FROM wrong;

DROP SCHEMA row_newer CASCADE;
