-- pins which route stock takes: direct as long as its tables are as made, through SQL once they are not, with the same answers
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA stock_route;
-- only SQL keeps plans, and only a fresh session has none yet
CREATE FUNCTION stock_route.plans() RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(DISTINCT substring(ident FROM 'idem\.(?:stock|hold)'), ', ' ORDER BY substring(ident FROM 'idem\.(?:stock|hold)')), 'direct')
	FROM pg_backend_memory_contexts WHERE name ~ '^CachedPlan' AND ident ~ '(FROM|INTO|UPDATE) idem\.(stock|hold)' $$;
CREATE FUNCTION stock_route.work(key text, OUT took boolean, OUT again boolean, OUT too_much boolean, OUT timed boolean, OUT released boolean,
	OUT confirmed boolean, OUT "left" numeric) LANGUAGE plpgsql AS $$
BEGIN
	took := idem_stock_reserve_items('route', key, ARRAY['a', 'b'], ARRAY[3, 1]);
	again := idem_stock_reserve('route', key, 'a', 3);
	too_much := idem_stock_reserve('route', key || ' 2', 'a', 100);
	timed := idem_stock_reserve('route', key || ' 3', 'a', 1, '1 hour');
	released := idem_stock_release('route', key || ' 3');
	confirmed := idem_stock_confirm('route', key);
	"left" := idem_stock_available('a') + idem_stock_available('b');
END $$;
SELECT idem_stock_add('a', 50, 3), idem_stock_add('b', 50);
\c
SET idem.force_sql = off;
SELECT * FROM stock_route.work('1');
SELECT stock_route.plans();
\c
SET idem.force_sql = on;
SELECT * FROM stock_route.work('2');
SELECT stock_route.plans();
-- a further index, a missing one, a trigger
CREATE INDEX further ON idem.stock (quantity);
\c
SET idem.force_sql = off;
SELECT * FROM stock_route.work('3');
SELECT stock_route.plans();
DROP INDEX idem.further;
DROP INDEX idem.hold_expires_at;
\c
SET idem.force_sql = off;
SELECT * FROM stock_route.work('4');
SELECT stock_route.plans();
CREATE INDEX hold_expires_at ON idem.hold (expires_at) WHERE expires_at > '2000-01-01';
\c
SET idem.force_sql = off;
SELECT * FROM stock_route.work('5');
SELECT stock_route.plans();
DROP INDEX idem.hold_expires_at;
CREATE INDEX hold_expires_at ON idem.hold (expires_at) WHERE expires_at IS NOT NULL;
CREATE FUNCTION stock_route.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON idem.hold FOR EACH ROW EXECUTE FUNCTION stock_route.nothing();
\c
SET idem.force_sql = off;
SELECT * FROM stock_route.work('6');
SELECT stock_route.plans();
DROP TRIGGER nothing ON idem.hold;
\c
SET idem.force_sql = off;
SELECT * FROM stock_route.work('7');
SELECT stock_route.plans();
-- the index by time has an entry of each hold that has a time, whichever way it came
SELECT idem_stock_reserve('route', 'd' || n, 'a', 0.1, '1 hour') AND n > 0 AS held FROM generate_series(1, 2) AS n;
SET idem.force_sql = on;
SELECT idem_stock_reserve('route', 's', 'a', 0.1, '1 hour');
SET enable_seqscan = off;
SELECT seq FROM idem.hold WHERE expires_at > now() ORDER BY seq COLLATE "C";
RESET enable_seqscan;
-- a trigger that keeps a bucket from being written: an error, and nothing is done
CREATE FUNCTION stock_route.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT idem_stock_add('kept', 1);
CREATE TRIGGER keep BEFORE UPDATE ON idem.stock FOR EACH ROW EXECUTE FUNCTION stock_route.keep();
SELECT idem_stock_reserve('route', 'kept', 'kept', 1);
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER keep ON idem.stock;
SELECT count(*) FROM idem.hold WHERE seq = 'kept';
DELETE FROM idem.hold;
DELETE FROM idem.stock;
SET client_min_messages = warning;
DROP SCHEMA stock_route CASCADE;
