-- Measures, in loops inside the server, idem_deduct against the plain conditional UPDATE from PL/pgSQL, and idem_version against the same
-- trigger in PL/pgSQL. A and B are run in turn, and the medians of their ratios printed. For a database with idem in it: psql -Xq -f bench/row.sql
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
CREATE SCHEMA row_bench;
SET search_path = row_bench, public;

CREATE TABLE a (id bigint PRIMARY KEY, stock int, pad text) WITH (fillfactor = 50);
INSERT INTO a SELECT i, 1000000000, 'x' FROM generate_series(1, 5000) i;
CREATE TABLE b (LIKE a INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO b TABLE a;
VACUUM ANALYZE a;
VACUUM ANALYZE b;
-- microseconds for each call
CREATE FUNCTION by_idem(n int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE began timestamptz := clock_timestamp(); k bigint; ok bool;
BEGIN
	FOR i IN 1 .. n LOOP
		k := i % 5000 + 1;
		ok := idem_deduct('row_bench.a', 'stock', 1, k);
		IF NOT ok THEN RAISE EXCEPTION 'sold out'; END IF;
	END LOOP;
	RETURN extract(epoch FROM clock_timestamp() - began) * 1e6 / n;
END $$;
CREATE FUNCTION by_update(n int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE began timestamptz := clock_timestamp(); k bigint;
BEGIN
	FOR i IN 1 .. n LOOP
		k := i % 5000 + 1;
		UPDATE row_bench.b SET stock = stock - 1 WHERE id = k AND stock >= 1;
		IF NOT FOUND THEN RAISE EXCEPTION 'sold out'; END IF;
	END LOOP;
	RETURN extract(epoch FROM clock_timestamp() - began) * 1e6 / n;
END $$;
CREATE TABLE deduct (idem float8, plain float8);
DO $$ BEGIN FOR i IN 1 .. 40 LOOP INSERT INTO row_bench.deduct VALUES (row_bench.by_idem(5000), row_bench.by_update(5000)); COMMIT; END LOOP; END $$;
SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY idem)::numeric, 2) AS deduct_us, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY plain)::numeric, 2) AS update_us,
	round(percentile_cont(0.5) WITHIN GROUP (ORDER BY idem / plain)::numeric, 3) AS median_ratio, round((min(idem) / min(plain))::numeric, 3) AS ratio_of_minima FROM deduct;

CREATE TABLE va (id int PRIMARY KEY, version int NOT NULL DEFAULT 1, pad text) WITH (fillfactor = 40);
INSERT INTO va SELECT i FROM generate_series(1, 20000) i;
CREATE TABLE vb (LIKE va INCLUDING ALL) WITH (fillfactor = 40);
INSERT INTO vb TABLE va;
CREATE FUNCTION version_in_plpgsql() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.version = OLD.version THEN
		NEW.version := OLD.version + 1;
	ELSIF NEW.version IS DISTINCT FROM OLD.version + 1 THEN
		RAISE EXCEPTION 'stale' USING DETAIL = format('version is %s', OLD.version);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER version BEFORE UPDATE ON va FOR EACH ROW EXECUTE FUNCTION idem_version('version');
CREATE TRIGGER version BEFORE UPDATE ON vb FOR EACH ROW EXECUTE FUNCTION version_in_plpgsql();
-- milliseconds in the trigger, as EXPLAIN ANALYZE counts them
CREATE FUNCTION in_trigger(t regclass) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
	EXECUTE format('EXPLAIN (ANALYZE, FORMAT json) UPDATE %s SET pad = ''y''', t) INTO plan;
	RETURN plan -> 0 -> 'Triggers' -> 0 ->> 'Time';
END $$;
CREATE TABLE version (idem float8, plpgsql float8);
DO $$ BEGIN FOR i IN 1 .. 20 LOOP INSERT INTO row_bench.version VALUES (row_bench.in_trigger('row_bench.va'), row_bench.in_trigger('row_bench.vb')); COMMIT; END LOOP; END $$;
SELECT round((percentile_cont(0.5) WITHIN GROUP (ORDER BY idem) / 20)::numeric, 3) AS idem_version_us, round((percentile_cont(0.5) WITHIN GROUP (ORDER BY plpgsql) / 20)::numeric, 3) AS plpgsql_us,
	round(percentile_cont(0.5) WITHIN GROUP (ORDER BY plpgsql / idem)::numeric, 2) AS median_ratio, round((min(plpgsql) / min(idem))::numeric, 2) AS ratio_of_minima FROM version;

DROP SCHEMA row_bench CASCADE;
