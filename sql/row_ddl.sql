-- pins that DDL between two calls in one session never meets a stale plan, and that what is kept is bounded
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_ddl;
CREATE SCHEMA row_ddl_2;
SET search_path = row_ddl, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

CREATE TABLE stock (id int PRIMARY KEY, pad text, qty int, code text UNIQUE);
INSERT INTO stock VALUES (1, 'x', 100, 'one');
-- one call of each kind; the functions keep their plans, and the OID of the table, across all that follows
CREATE PROCEDURE calls() LANGUAGE plpgsql AS $$
DECLARE
	d text; l text; i text; c text;
BEGIN
	d := pg_temp.outcome($q$SELECT idem_deduct('row_ddl.stock', 'qty', 1, 1)$q$);
	l := pg_temp.outcome($q$SELECT idem_lock_row('row_ddl.stock', 1)$q$);
	c := pg_temp.outcome($q$SELECT idem_deduct('row_ddl.stock_code_key', 'qty', 1, 'one')$q$);
	i := pg_temp.outcome($q$SELECT inserted || ' ' || stored::text FROM idem_insert(jsonb_populate_record(NULL::row_ddl.stock, '{"id":1,"qty":5}'))$q$);
	RAISE INFO E'deduct %\nlock %\nby code %\ninsert %', d, l, c, i;
END $$;
CALL calls();
-- columns: added, dropped before the others, renamed, retyped
ALTER TABLE stock ADD COLUMN note text DEFAULT 'note';
CALL calls();
ALTER TABLE stock DROP COLUMN pad;
CALL calls();
ALTER TABLE stock ALTER COLUMN qty TYPE numeric(10,2);
CALL calls();
SELECT pg_temp.outcome($$SELECT idem_deduct('stock', 'qty', 0.25, 1)$$);
ALTER TABLE stock ALTER COLUMN qty TYPE bigint;
CALL calls();
ALTER TABLE stock ALTER COLUMN id TYPE text;
CALL calls();
ALTER TABLE stock ALTER COLUMN id TYPE int USING id::int;
ALTER TABLE stock RENAME COLUMN qty TO pieces;
ALTER TABLE stock ADD COLUMN qty int DEFAULT 7;
CALL calls();
SELECT qty, pieces FROM stock;
ALTER TABLE stock RENAME COLUMN id TO code2;
ALTER TABLE stock RENAME COLUMN code TO id;
CALL calls();
ALTER TABLE stock RENAME COLUMN id TO code;
ALTER TABLE stock RENAME COLUMN code2 TO id;
ALTER TABLE stock ALTER COLUMN qty TYPE text;
CALL calls();
ALTER TABLE stock DROP COLUMN qty;
CALL calls();
ALTER TABLE stock RENAME COLUMN pieces TO qty;
CALL calls();
-- the index: dropped, made anew otherwise, deferrable, rebuilt
ALTER TABLE stock DROP CONSTRAINT stock_pkey;
CALL calls();
ALTER TABLE stock ADD PRIMARY KEY (id, code);
CALL calls();
ALTER TABLE stock DROP CONSTRAINT stock_pkey, ADD PRIMARY KEY (id) DEFERRABLE;
CALL calls();
ALTER TABLE stock DROP CONSTRAINT stock_pkey, ADD PRIMARY KEY (id);
REINDEX INDEX CONCURRENTLY stock_pkey;
VACUUM FULL stock;
ANALYZE stock;
CALL calls();
-- in a transaction, rolled back
BEGIN;
ALTER TABLE stock RENAME COLUMN qty TO quantity;
CALL calls();
SELECT pg_temp.outcome($$SELECT idem_deduct('stock', 'quantity', 1, 1)$$);
ROLLBACK;
CALL calls();
SELECT pg_temp.outcome($$SELECT idem_deduct('stock', 'quantity', 1, 1)$$);
BEGIN;
SAVEPOINT s;
DROP TABLE stock;
CREATE TABLE stock (id text PRIMARY KEY, qty int);
INSERT INTO stock VALUES ('1', 50);
SELECT pg_temp.outcome($$SELECT idem_deduct('row_ddl.stock', 'qty', 1, 1::text)$$);
ROLLBACK TO s;
SELECT pg_temp.outcome($$SELECT idem_deduct('row_ddl.stock', 'qty', 1, 1)$$);
COMMIT;
-- the table: renamed and another one under its name; dropped and made again; another schema
ALTER TABLE stock RENAME TO stock_old;
CREATE TABLE stock (LIKE stock_old INCLUDING ALL);
INSERT INTO stock SELECT * FROM stock_old;
UPDATE stock SET qty = 1000;
CALL calls();
SELECT o.qty < 1000, s.qty FROM stock_old o, stock s;
SELECT pg_temp.outcome($$SELECT idem_deduct('stock_old', 'qty', 1, 1)$$);
DROP TABLE stock;
CALL calls();
CREATE TABLE stock (id int, qty smallint, code text UNIQUE, extra int PRIMARY KEY);
INSERT INTO stock VALUES (0, 30, 'one', 1);
CALL calls();
ALTER SCHEMA row_ddl_2 RENAME TO row_ddl_3;
CREATE TABLE row_ddl_3.stock (id int PRIMARY KEY, qty int);
INSERT INTO row_ddl_3.stock VALUES (1, 10);
CREATE FUNCTION by_oid(target oid) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN idem_deduct(target, 'qty', 1, 1); END $$;
SELECT 'row_ddl_3.stock'::regclass::oid AS target \gset
SELECT by_oid(:target), by_oid(:target);
-- the schema's name goes to a stranger, with a table of the same name
ALTER SCHEMA row_ddl_3 RENAME TO row_ddl_2;
CREATE SCHEMA row_ddl_3;
CREATE TABLE row_ddl_3.stock (id int PRIMARY KEY, qty int);
INSERT INTO row_ddl_3.stock VALUES (1, 1000);
SELECT by_oid(:target), by_oid(:target);
SELECT a.qty, b.qty FROM row_ddl_2.stock a, row_ddl_3.stock b;
-- renamed while a plan is kept for inserting
SELECT inserted FROM idem_insert(ROW(2, 1)::row_ddl_2.stock);
ALTER TABLE row_ddl_2.stock RENAME TO goods;
CREATE TABLE row_ddl_2.stock (LIKE row_ddl_2.goods INCLUDING ALL);
SELECT inserted FROM idem_insert(ROW(3, 1)::row_ddl_2.goods);
SELECT (SELECT count(*) FROM row_ddl_2.goods), (SELECT count(*) FROM row_ddl_2.stock);
-- a trigger that comes and goes
CREATE FUNCTION half() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.qty := NEW.qty + 1; RETURN NEW; END $$;
SELECT by_oid(:target);
CREATE TRIGGER half BEFORE UPDATE ON row_ddl_2.goods FOR EACH ROW EXECUTE FUNCTION half();
SELECT pg_temp.outcome(format('SELECT by_oid(%s)', :target));
DROP TRIGGER half ON row_ddl_2.goods;
SELECT by_oid(:target);
DROP TABLE row_ddl_2.goods;
SELECT pg_temp.outcome(format('SELECT idem_deduct(%s::oid::regclass, ''qty'', 1, 1)', :target)) LIKE '42P01: relation with OID % does not exist%';
-- a domain that becomes stricter
CREATE DOMAIN key AS int;
CREATE TABLE domained (id key PRIMARY KEY, qty int);
INSERT INTO domained VALUES (1, 10);
SELECT idem_deduct('domained', 'qty', 1, 1), idem_lock_row('domained', 500);
ALTER DOMAIN key ADD CONSTRAINT small CHECK (VALUE < 100);
SELECT pg_temp.outcome($$SELECT idem_lock_row('domained', 500)$$);
-- the extension itself
CREATE FUNCTION kept() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN idem_deduct('row_ddl.domained', 'qty', 1, 1); END $$;
SELECT kept();

--
-- What is kept is bounded: 1,000 targets, and many shapes of rows; nothing grows with the calls of one transaction
--
CREATE PROCEDURE many(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		EXECUTE format('CREATE TABLE row_ddl_3.t%s (id int PRIMARY KEY, qty int, a int, b int, c int, d int)', i);
		EXECUTE format('INSERT INTO row_ddl_3.t%s VALUES (1, 10)', i);
	END LOOP;
END $$;
CREATE FUNCTION use_all(n int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	done bigint := 0; t regclass;
BEGIN
	FOR i IN 1 .. n LOOP
		t := format('row_ddl_3.t%s', i);
		done := done + idem_deduct(t, 'qty', 1, 1)::int + idem_deduct(t, 'qty', 100, 1)::int + idem_lock_row(t, 1)::int;
	END LOOP;
	RETURN done;
END $$;
-- plans that are kept for these tables, and bytes of all that we keep
CREATE FUNCTION kept_plans() RETURNS bigint LANGUAGE sql AS
	$$SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource' AND ident LIKE '%row_ddl_3.t%'$$;
CREATE FUNCTION kept_bytes() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts
	WHERE name IN ('idem target', 'idem targets')
		OR name IN ('CachedPlanSource', 'CachedPlan', 'CachedPlanQuery', 'SPI Plan')
$$;
CALL many(1000);
SELECT use_all(1000);
SELECT kept_plans() AS plans, kept_bytes() AS bytes \gset before_
SELECT use_all(1000);
SELECT :before_plans BETWEEN 100 AND 512 AS "bounded", kept_plans() = :before_plans AS "does not grow",
	kept_bytes() <= :before_bytes * 1.1 AS "bytes neither", kept_bytes() < 16 * 1024 * 1024 AS "below 16 MB";
-- shapes: each set of given fields is an insert of its own
SELECT count(*) FILTER (WHERE inserted) FROM generate_series(0, 15) m, LATERAL
	idem_insert(ROW(m + 10, NULLIF(m & 1, 0), NULLIF(m & 2, 0), NULLIF(m & 4, 0), NULLIF(m & 8, 0), NULL)::row_ddl_3.t1);
SELECT count(*) <= 8 FROM pg_backend_memory_contexts WHERE name = 'CachedPlanSource' AND ident LIKE 'INSERT INTO row_ddl_3.t1 %';
-- many calls in one transaction
CREATE TABLE loop_table (id int PRIMARY KEY, qty int, seen int);
INSERT INTO loop_table VALUES (1, 1000000);
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS $$SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts$$;
BEGIN;
SELECT count(*) FILTER (WHERE idem_deduct('loop_table', 'qty', 5000000, 1)) FROM generate_series(1, 1000);
SELECT total() AS bytes \gset loop_
SELECT count(*) FILTER (WHERE idem_deduct('loop_table', 'qty', 5000000, 1)), count(*) FILTER (WHERE idem_lock_row('loop_table', 2)) FROM generate_series(1, 20000);
SELECT count(*) FILTER (WHERE (SELECT i.inserted FROM idem_insert(ROW(1, g, NULL)::loop_table) i)) FROM generate_series(1, 20000) g;
SELECT total() - :loop_bytes < 200000;
COMMIT;
-- an error in the middle frees the use: the entry can be replaced and its plans go
DO $$ BEGIN PERFORM idem_deduct('row_ddl_3.t1', 'qty', 1, 'x'); EXCEPTION WHEN OTHERS THEN NULL; END $$;
DO $$ BEGIN FOR i IN 1 .. 1000 LOOP BEGIN PERFORM idem_lock_row('row_ddl_3.t2', 'x'); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$;
SELECT use_all(1000);
SELECT kept_plans() <= :before_plans + 8;
-- a trigger that calls us for more targets than are kept, while its own is in use
CREATE FUNCTION fan_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM use_all(300); RETURN NEW; END $$;
CREATE TRIGGER fan_out BEFORE UPDATE ON loop_table FOR EACH ROW EXECUTE FUNCTION fan_out();
SELECT idem_deduct('loop_table', 'qty', 1, 1), idem_deduct('loop_table', 'qty', 1, 1);
SELECT qty FROM loop_table;
-- and one that changes the very table by DDL is refused by the server
CREATE OR REPLACE FUNCTION fan_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ALTER TABLE row_ddl.loop_table DROP COLUMN seen; RETURN NEW; END $$;
SELECT pg_temp.outcome($$SELECT idem_deduct('loop_table', 'qty', 1, 1)$$);

-- nor may a check of the key's domain, or a cast: the call works with what it knows of the table
CREATE FUNCTION armed() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN EXECUTE coalesce(current_setting('row_ddl.armed', true), ''); RETURN true; END $$;
CREATE DOMAIN armed_id AS int CHECK (armed());
CREATE TABLE victim (id armed_id PRIMARY KEY, qty bigint, status text);
INSERT INTO victim VALUES (1, 100, 'on');
SELECT idem_machine('row_ddl', 'on -> off');
SET row_ddl.armed = 'ALTER TABLE row_ddl.victim ALTER qty TYPE int';
SELECT pg_temp.outcome($$SELECT idem_deduct('victim', 'qty', 1, 1)$$);
SET row_ddl.armed = 'DROP TABLE row_ddl.victim';
SELECT pg_temp.outcome($$SELECT idem_lock_row('victim', 1)$$);
SET row_ddl.armed = 'ALTER TABLE row_ddl.victim ALTER status TYPE name';
SELECT pg_temp.outcome($$SELECT idem_advance('row_ddl', 'victim', 'status', 'off', 1)$$);
SET row_ddl.armed = 'ALTER TABLE row_ddl.victim ADD COLUMN more int';
SELECT pg_temp.outcome($$SELECT idem_deduct('victim_pkey', 'qty', 1, '1')$$);
RESET row_ddl.armed;
SELECT pg_temp.outcome($$SELECT idem_deduct('victim', 'qty', 1, 1)$$), pg_temp.outcome($$SELECT idem_lock_row('victim', 1)$$),
	pg_temp.outcome($$SELECT idem_advance('row_ddl', 'victim', 'status', 'off', 1)$$);
TABLE victim;
-- an error closes the table
ALTER TABLE victim ALTER qty TYPE int;
SELECT pg_temp.outcome($$SELECT idem_deduct('victim', 'qty', 1, 1)$$);
-- a plan that was made while the table was tiny goes by the index, and the caller's settings are left as they were
CREATE TABLE tiny (id int PRIMARY KEY, qty int, status text);
INSERT INTO tiny VALUES (1, 100, 'on');
CREATE FUNCTION full_scans() RETURNS bigint LANGUAGE sql AS $$SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'row_ddl.tiny'::regclass$$;
CREATE PROCEDURE tiny_calls() LANGUAGE plpgsql AS $$
DECLARE
	before bigint := row_ddl.full_scans();
BEGIN
	PERFORM idem_deduct('row_ddl.tiny', 'qty', 1, 1), idem_deduct('row_ddl.tiny', 'qty', 1000, 1), idem_lock_row('row_ddl.tiny', 1),
		idem_lock_row('row_ddl.tiny', 2), idem_advance('row_ddl', 'row_ddl.tiny', 'status', 'on', 1);
	PERFORM count(*) FROM generate_series(1, 3) g, LATERAL idem_insert(ROW(g, NULL, NULL)::row_ddl.tiny);
	RAISE INFO 'full scans %, enable_seqscan %, jit %', row_ddl.full_scans() - before, current_setting('enable_seqscan'), current_setting('jit');
END $$;
SET jit = on;
ANALYZE tiny;
BEGIN; CALL tiny_calls(); ROLLBACK;
-- the server plans anew under another search_path
BEGIN; SET LOCAL search_path = public; CALL row_ddl.tiny_calls(); ROLLBACK;
-- and where a trigger may have its own mind; and what row security makes of it for one role and another
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER nothing BEFORE UPDATE ON tiny FOR EACH ROW EXECUTE FUNCTION nothing();
BEGIN; CALL tiny_calls(); ROLLBACK;
CREATE ROLE regress_row_ddl_1;
CREATE ROLE regress_row_ddl_2;
GRANT USAGE ON SCHEMA row_ddl TO regress_row_ddl_1, regress_row_ddl_2;
GRANT ALL ON tiny TO regress_row_ddl_1, regress_row_ddl_2;
ALTER TABLE tiny ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON tiny USING (id < 100);
ANALYZE tiny;
BEGIN;
SET LOCAL ROLE regress_row_ddl_1; CALL tiny_calls();
SET LOCAL ROLE regress_row_ddl_2; CALL tiny_calls();
RESET ROLE; CALL tiny_calls();
ROLLBACK;
-- an error of the planner, which looks at constants
CREATE FUNCTION boom() RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE 'boom'; END $$;
CREATE POLICY boom ON tiny AS RESTRICTIVE USING (boom());
BEGIN;
SET LOCAL ROLE regress_row_ddl_1;
SELECT pg_temp.outcome($q$SELECT idem_deduct('row_ddl.tiny', 'qty', 1, 1)$q$);
SHOW enable_seqscan;
SHOW jit;
RESET ROLE;
DROP POLICY boom ON tiny;
SET LOCAL ROLE regress_row_ddl_1; CALL tiny_calls();
ROLLBACK;
RESET jit;

DELETE FROM idem.transition WHERE machine = 'row_ddl';

DO $$ BEGIN FOR i IN 1 .. 1000 LOOP EXECUTE format('DROP TABLE row_ddl_3.t%s', i); IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END $$;
DROP SCHEMA row_ddl, row_ddl_2, row_ddl_3 CASCADE;
DROP ROLE regress_row_ddl_1, regress_row_ddl_2;
