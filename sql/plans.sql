-- Pins what the statements on idem's own tables are; that kept plans are few and stay so, and survive what happens to the objects under them.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE FUNCTION public.regress_plans_echo(r json) RETURNS json LANGUAGE sql AS 'SELECT r';

-- Every statement that idem runs on its own tables, whether a text or put together from a table's columns: a change is to be seen here.
CREATE FUNCTION pg_temp.statements() RETURNS SETOF text LANGUAGE c AS '$libdir/idem', 'idem_statements';
\pset format unaligned
\pset tuples_only on
SELECT * FROM pg_temp.statements();
\pset tuples_only off
\pset format aligned
-- all names are qualified, down to the operators: none is left for a search_path to find
SELECT s FROM pg_temp.statements() s WHERE s NOT LIKE 'LOCK TABLE %' AND regexp_replace(s, 'OPERATOR\(pg_catalog\.[^)]+\)|colocate_with =>|shard_count =>| SET .* WHERE | SET .* = excluded[.]mark', ' ', 'g') ~ '[^-]=|<|>|\|\||\yIN\y|\yLIKE\y|\yBETWEEN\y|CASE +[a-z]';

-- Everything, on keys of its own, and back to nothing.
CREATE FUNCTION public.regress_plans_round(n int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	k text := 'k' || n; said text := '';
BEGIN
	said := said || idem_claim('plans', k, '{"a": 1}') || idem_claim('plans', k, '{"a": 1}', false) || idem_respond('plans', k, '1') || idem_respond('plans', k, '1');
	said := said || idem_response('plans', k) || (idem_lookup('plans', k)).status || idem_call('plans', k || 'c', 'public.regress_plans_echo', '[]') || idem_call('plans', k || 'c', 'public.regress_plans_echo', '[]');
	said := said || (SELECT string_agg(claimed::text, '') FROM idem_claim_batch('plans', ARRAY[k, k || 'b', k || 'c']));
	said := said || idem_cancel('plans', k || 'x') || idem_cancel('plans', k) || idem_forget('plans', k) || idem_forget('plans', k);
	BEGIN
		PERFORM idem_respond('plans', k || 'c', '2');
	EXCEPTION WHEN SQLSTATE 'ID412' THEN said := said || SQLSTATE;
	END;
	BEGIN
		PERFORM idem_claim('plans', k || 'r'), 1 / (n - n);
	EXCEPTION WHEN division_by_zero THEN said := said || (idem_lookup('plans', k || 'r') IS NULL);
	END;
	PERFORM idem_forget('plans', k || s) FROM unnest('{c, b, x}'::text[]) s;
	RETURN said;
END $$;

-- kept plans: a source and the plan made of it
CREATE VIEW public.regress_plans_kept AS
	SELECT name, ident, count(*) AS copies, sum(total_bytes) AS bytes FROM pg_backend_memory_contexts WHERE name ~ '^CachedPlan' AND ident ~ 'idem\.' AND ident !~ 'regress_plans' GROUP BY name, ident;

--
-- Through SQL
--
\c -
SET client_min_messages = warning;
SET idem.force_sql = on;
SELECT DISTINCT public.regress_plans_round(n) FROM generate_series(1, 10) n;
CREATE TEMP TABLE after_10 AS SELECT * FROM public.regress_plans_kept;
SELECT DISTINCT public.regress_plans_round(n) FROM generate_series(1, 1000) n;
CREATE TEMP TABLE after_1000 AS SELECT * FROM public.regress_plans_kept;
-- some are kept, none of them twice, and after a thousand rounds they are the same ones
SELECT count(*) > 0 AS some, bool_and(copies = 1) AS once, count(DISTINCT ident) < 20 AS few FROM after_10;
SELECT name, ident FROM (TABLE after_10 EXCEPT ALL TABLE after_1000) d UNION ALL SELECT name, ident FROM (TABLE after_1000 EXCEPT ALL TABLE after_10) d;
-- each text is that of one plan: no value stands in it
SELECT ident FROM after_1000 WHERE ident ~ 'plans|k1';
-- memory neither grows by rounds in one transaction nor by rounds in many
SELECT sum(total_bytes) AS before FROM pg_backend_memory_contexts WHERE name <> 'TopMemoryContext' \gset
SELECT count(public.regress_plans_round(n)) FROM generate_series(1, 2000) n;
SELECT sum(total_bytes) - :before < 1024 * 1024 AS steady FROM pg_backend_memory_contexts WHERE name <> 'TopMemoryContext';

--
-- Directly: what is reached so keeps no plan at all
--
\c -
SET client_min_messages = warning;
SET idem.force_sql = off;
SELECT DISTINCT public.regress_plans_round(n) FROM generate_series(1, 10) n;
CREATE TEMP TABLE after_10 AS SELECT * FROM public.regress_plans_kept;
SELECT count(public.regress_plans_round(n)) FROM generate_series(1, 1000) n;
SELECT sum(total_bytes) AS before FROM pg_backend_memory_contexts WHERE name <> 'TopMemoryContext' \gset
SELECT count(public.regress_plans_round(n)) FROM generate_series(1, 1000) n;
SELECT sum(total_bytes) - :before < 1024 * 1024 AS steady FROM pg_backend_memory_contexts WHERE name <> 'TopMemoryContext';
SELECT count(*) FROM (TABLE after_10 EXCEPT ALL TABLE public.regress_plans_kept) d;
SELECT count(*) FROM (TABLE public.regress_plans_kept EXCEPT ALL TABLE after_10) d;
SELECT count(*) FROM public.regress_plans_kept WHERE ident ~ 'INSERT';

--
-- One session, both routes, while what is under it changes
--
\c -
SET client_min_messages = warning;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(1) FROM unnest('{off, on}'::text[]) r;
SELECT idem_claim('plans', 'lives on'), idem_respond('plans', 'lives on', '{"yes": 1}');
ALTER TABLE idem.claim SET (fillfactor = 50, autovacuum_enabled = off);
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(2) FROM unnest('{off, on}'::text[]) r;
ALTER TABLE idem.claim SET (fillfactor = 80);
ALTER TABLE idem.claim RESET (autovacuum_enabled);
ALTER TABLE idem.claim ALTER COLUMN response SET STORAGE EXTERNAL;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(3) FROM unnest('{off, on}'::text[]) r;
ALTER TABLE idem.claim ALTER COLUMN response SET STORAGE EXTENDED;
REINDEX TABLE CONCURRENTLY idem.claim;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(4) FROM unnest('{off, on}'::text[]) r;
ANALYZE idem.claim;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(5) FROM unnest('{off, on}'::text[]) r;
VACUUM FULL idem.claim;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(6) FROM unnest('{off, on}'::text[]) r;
DISCARD PLANS;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(7) FROM unnest('{off, on}'::text[]) r;
ALTER INDEX idem.claim_pkey RENAME TO claim_other;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(8) FROM unnest('{off, on}'::text[]) r;
ALTER INDEX idem.claim_other RENAME TO claim_pkey;
-- caches thrown away at every chance, where the server is built for that
DO $$ BEGIN PERFORM set_config(name, '1', false) FROM pg_settings WHERE name = 'debug_discard_caches' AND max_val <> '0'; END $$;
SELECT set_config('idem.force_sql', r, false) AS sql, idem_claim('plans', 'discard ' || r), idem_claim('plans', 'discard ' || r), idem_respond('plans', 'discard ' || r, '1'), (SELECT count(*) FROM idem_claim_batch('plans', ARRAY['discard ' || r, 'd 2 ' || r]) WHERE claimed)
FROM unnest('{off, on}'::text[]) r;
RESET debug_discard_caches;
RESET idem.force_sql;
SELECT idem_claim('plans', 'lives on'), idem_response('plans', 'lives on');
-- plan modes of the server
SET plan_cache_mode = force_custom_plan;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(9) FROM unnest('{off, on}'::text[]) r;
SET plan_cache_mode = force_generic_plan;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(10) FROM unnest('{off, on}'::text[]) r;
RESET plan_cache_mode;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET enable_indexonlyscan = off;
DISCARD PLANS;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(11) FROM unnest('{off, on}'::text[]) r;
RESET ALL;
SET client_min_messages = warning;
-- parallel query forced: these functions run in the leader
DO $$ BEGIN PERFORM set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query'); END $$;
SELECT set_config('idem.force_sql', r, false) AS sql, public.regress_plans_round(12) FROM unnest('{off, on}'::text[]) r;
RESET ALL;
SET client_min_messages = warning;

--
-- The extension dropped and made again in one session: in a database of its own
--
SELECT current_database() AS db \gset
CREATE DATABASE regress_idem_plans;
\c regress_idem_plans
SET client_min_messages = warning;
CREATE EXTENSION idem;
SELECT set_config('idem.force_sql', r, false) AS sql, idem_claim('plans', '1 ' || r), idem_claim('plans', '1 ' || r), idem_respond('plans', '1 ' || r, '1'), idem_cancel('plans', '2 ' || r), idem_forget('plans', '2 ' || r) FROM unnest('{off, on}'::text[]) r;
DROP EXTENSION idem;
\set VERBOSITY terse
SELECT idem_claim('plans', '1');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
CREATE EXTENSION idem;
SELECT set_config('idem.force_sql', r, false) AS sql, idem_claim('plans', '1 ' || r), idem_claim('plans', '1 ' || r), idem_respond('plans', '1 ' || r, '2'), idem_response('plans', '1 ' || r), idem_cancel('plans', '2 ' || r), idem_forget('plans', '2 ' || r) FROM unnest('{on, off}'::text[]) r;
SELECT seq, response FROM idem.claim ORDER BY seq;
-- within a transaction, and rolled back
BEGIN;
DROP EXTENSION idem;
CREATE EXTENSION idem;
SELECT set_config('idem.force_sql', r, false) AS sql, idem_claim('plans', '1 ' || r), idem_claim('plans', '1 ' || r), idem_respond('plans', '1 ' || r, '3'), (SELECT count(*) FROM idem_claim_batch('plans', ARRAY['1 ' || r, '3 ' || r]) WHERE claimed) FROM unnest('{on, off}'::text[]) r;
ROLLBACK;
SELECT set_config('idem.force_sql', r, false) AS sql, idem_claim('plans', '1 ' || r), idem_response('plans', '1 ' || r), (idem_lookup('plans', '3 ' || r)).status FROM unnest('{off, on}'::text[]) r;
-- a function that has called it goes on
CREATE FUNCTION once(k text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RETURN idem_claim('plans', k); END$$;
SELECT once('4'), once('4');
DROP EXTENSION idem;
CREATE EXTENSION idem;
SELECT once('4'), once('4'), once('5');
SET idem.force_sql = on;
DROP EXTENSION idem;
CREATE SCHEMA elsewhere;
CREATE EXTENSION idem SCHEMA elsewhere;
SET search_path = elsewhere;
SELECT public.once('4'), public.once('4'), elsewhere.idem_claim('plans', '5');
RESET search_path;
-- What finds a row by its key never reads the whole table, also if the statistics say that it is tiny: the plan is kept while it grows.
SELECT elsewhere.idem_claim('plans', 'tiny'), elsewhere.idem_stock_add('plans', 1);
ANALYZE idem.claim, idem.stock;
\c
SET idem.force_sql = on;
BEGIN;
SELECT elsewhere.idem_claim('plans', '6'), elsewhere.idem_respond('plans', '6', '1'), elsewhere.idem_stock_add('plans', 1), elsewhere.idem_stock_reserve('plans', '1', 'plans', 1), elsewhere.idem_stock_available('plans');
SELECT relname, pg_stat_get_xact_numscans(oid) AS whole_reads FROM pg_class WHERE oid IN ('idem.claim'::regclass, 'idem.stock'::regclass) ORDER BY 1;
COMMIT;
\c :db
DROP DATABASE regress_idem_plans;
DELETE FROM idem.claim WHERE source = 'plans';
DROP VIEW public.regress_plans_kept;
DROP FUNCTION public.regress_plans_round, public.regress_plans_echo;
