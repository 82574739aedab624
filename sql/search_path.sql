-- Pins that no search_path, and nobody's objects in it, changes what idem does: a canary stays silent.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_search_path;
CREATE SCHEMA regress_search_path_evil;
GRANT USAGE, CREATE ON SCHEMA regress_search_path_evil TO regress_search_path;
CREATE TABLE public.regress_search_path_canary (sang text, by name DEFAULT current_user);
GRANT SELECT, INSERT ON public.regress_search_path_canary TO PUBLIC;
SELECT extnamespace::regnamespace::text AS ours FROM pg_extension WHERE extname = 'idem' \gset

CREATE FUNCTION public.regress_search_path_trim(json) RETURNS json LANGUAGE internal STRICT AS 'btrim1';

-- what everything answers, called by the names that its owner meant
CREATE FUNCTION public.regress_search_path_work(tag pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql AS $$
DECLARE
	said pg_catalog.text := '';
BEGIN
	said := said OPERATOR(pg_catalog.||) public.idem_claim('search_path'::pg_catalog.text, tag, '{"a": 1, "b": 2}'::pg_catalog.jsonb, true)::pg_catalog.text OPERATOR(pg_catalog.||) public.idem_claim('search_path'::pg_catalog.text, tag, '{"b": 2, "a": 1}'::pg_catalog.jsonb, false)::pg_catalog.text
		OPERATOR(pg_catalog.||) public.idem_respond('search_path'::pg_catalog.text, tag, '[1]'::pg_catalog.json)::pg_catalog.text OPERATOR(pg_catalog.||) public.idem_respond('search_path'::pg_catalog.text, tag, '[1]'::pg_catalog.json)::pg_catalog.text
		OPERATOR(pg_catalog.||) public.idem_response('search_path'::pg_catalog.text, tag)::pg_catalog.text OPERATOR(pg_catalog.||) (public.idem_lookup('search_path'::pg_catalog.text, tag)).status;
	said := said OPERATOR(pg_catalog.||) public.idem_call('search_path'::pg_catalog.text, pg_catalog.concat(tag, 'c'), 'public.regress_search_path_trim'::pg_catalog.regproc, '{}'::pg_catalog.jsonb)::pg_catalog.text
		OPERATOR(pg_catalog.||) public.idem_call('search_path'::pg_catalog.text, pg_catalog.concat(tag, 'c'), 'public.regress_search_path_trim'::pg_catalog.regproc, '{}'::pg_catalog.jsonb)::pg_catalog.text
		OPERATOR(pg_catalog.||) (SELECT pg_catalog.string_agg(claimed::pg_catalog.text, ''::pg_catalog.text) FROM public.idem_claim_batch('search_path'::pg_catalog.text, ARRAY[tag, pg_catalog.concat(tag, 'b'), pg_catalog.concat(tag, 'b')]))
		OPERATOR(pg_catalog.||) public.idem_cancel('search_path'::pg_catalog.text, pg_catalog.concat(tag, 'x')) OPERATOR(pg_catalog.||) public.idem_cancel('search_path'::pg_catalog.text, tag);
	RETURN said;
END $$;
SELECT public.regress_search_path_work('plain');

--
-- A schema full of traps, made by the role itself
--
SET ROLE regress_search_path;
SET search_path = regress_search_path_evil;
CREATE FUNCTION sing(what text) RETURNS void LANGUAGE sql AS $$INSERT INTO public.regress_search_path_canary (sang) VALUES (what)$$;
DO $do$
DECLARE
	t text; op text; n int := 0;
BEGIN
	-- operators on every type that is compared or joined, answering the wrong way round
	FOREACH t IN ARRAY ARRAY['text', '"char"', 'bytea', 'bigint', 'integer', 'timestamptz', 'json', 'oid', 'regrole', 'boolean', 'interval', 'char', 'name', 'jsonb', 'varchar'] LOOP
		FOREACH op IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '~'] LOOP
			n := n + 1;
			EXECUTE format('CREATE FUNCTION op_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$BEGIN PERFORM regress_search_path_evil.sing(%L); RETURN %s; END$f$', n, t, t,
				CASE WHEN op IN ('||', '+', '-') THEN t ELSE 'boolean' END, 'operator ' || op || ' ' || t, CASE WHEN op IN ('||', '+', '-') THEN '$1' ELSE 'false' END);
			EXECUTE format('CREATE OPERATOR %s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = op_%s)', op, t, t, n);
		END LOOP;
	END LOOP;
	FOR t, op IN VALUES ('now()', 'timestamptz'), ('clock_timestamp()', 'timestamptz'), ('transaction_timestamp()', 'timestamptz'), ('current_setting(text)', 'text'), ('sha256(bytea)', 'bytea'), ('length(text)', 'int'),
			('octet_length(text)', 'int'), ('unnest(text[])', 'text'), ('count(text)', 'bigint'), ('pg_has_role(oid, oid, text)', 'boolean'), ('json_strip_nulls(json)', 'json'), ('array_length(text[], int)', 'int'),
			('encode(bytea, text)', 'text'), ('convert_to(text, name)', 'bytea'), ('hashtext(text)', 'int'), ('jsonb_hash(jsonb)', 'int') LOOP
		EXECUTE format('CREATE FUNCTION %s RETURNS %s LANGUAGE plpgsql AS $f$BEGIN PERFORM regress_search_path_evil.sing(%L); RETURN NULL; END$f$', t, op, t);
	END LOOP;
	-- overloads of idem's own functions whose arguments match a literal better
	FOR t, op IN VALUES ('idem_claim(varchar, varchar)', 'boolean'), ('idem_claim(text, text)', 'boolean'), ('idem_respond(text, text, text)', 'boolean'), ('idem_response(varchar, varchar)', 'json'),
			('idem_lookup(text, varchar)', 'text'), ('idem_cancel(text, varchar)', 'text'), ('idem_claim_batch(text, varchar[])', 'text') LOOP
		EXECUTE format('CREATE FUNCTION %s RETURNS %s LANGUAGE plpgsql AS $f$BEGIN PERFORM regress_search_path_evil.sing(%L); RETURN NULL; END$f$', t, op, t);
	END LOOP;
END $do$;
-- types and tables by the names of ours and the server's
CREATE DOMAIN text AS pg_catalog.text CHECK (false);
CREATE DOMAIN bool AS pg_catalog.bool CHECK (false);
CREATE TYPE json AS (a int);
CREATE TABLE claim (source pg_catalog.text, seq pg_catalog.text);
CREATE TABLE pg_class (LIKE pg_catalog.pg_class);
CREATE TABLE pg_authid (oid oid);
CREATE TEMP TABLE claim (LIKE claim);
CREATE TEMP TABLE idem (i int);
CREATE TEMP TABLE pg_namespace (i int);
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN PERFORM regress_search_path_evil.sing('temp now'); RETURN NULL; END$$;
-- (the schema idem cannot be faked: it is there)
RESET ROLE;
RESET search_path;
SELECT count(*) FROM public.regress_search_path_canary;

SET ROLE regress_search_path;
SET search_path = regress_search_path_evil, pg_temp, pg_catalog;
SELECT public.regress_search_path_work('evil');
SET idem.force_sql = on;
SELECT public.regress_search_path_work('evil sql');
SET search_path = pg_temp, regress_search_path_evil, public, pg_catalog;
SELECT public.regress_search_path_work('temp sql');
SET idem.force_sql = off;
SELECT public.regress_search_path_work('temp');
SET search_path = '';
SELECT public.regress_search_path_work('empty');
SET idem.force_sql = on;
SELECT public.regress_search_path_work('empty sql');
SET search_path = no_such_schema, "$user";
SELECT public.regress_search_path_work('none sql');
RESET idem.force_sql;
RESET search_path;
-- the traps do work: who calls without care is trapped
SET search_path = regress_search_path_evil, public, pg_catalog;
SELECT idem_claim('search_path', 'trapped'), pg_catalog.count(*) FROM public.regress_search_path_canary;
SELECT pg_catalog.now() IS NOT NULL AS a, now() IS NULL AS b;
RESET search_path;
RESET ROLE;
SELECT sang FROM public.regress_search_path_canary ORDER BY sang COLLATE "C";
TRUNCATE public.regress_search_path_canary;

--
-- As an administrator with the hostile path: the functions that only an administrator may call
--
SET search_path = regress_search_path_evil, pg_temp, pg_catalog;
SELECT pg_catalog.set_config('idem.force_sql', r, false) AS sql, public.idem_forget('search_path', 'evil'), public.idem_forget('search_path', 'evil'), public.idem_claim('search_path', 'evil', NULL, true) FROM (VALUES ('off'), ('on')) v (r);
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at)
SELECT 'search_path', 'old', 10, 'd', 0, pg_catalog.now() OPERATOR(pg_catalog.-) '3 years'::interval, pg_catalog.now() OPERATOR(pg_catalog.-) '3 years'::interval;
CALL public.idem_purge('2 years', 1);
RESET idem.force_sql;
RESET search_path;
SELECT count(*) FROM idem.claim WHERE source = 'search_path' AND seq = 'old';
SELECT sang FROM public.regress_search_path_canary;
-- plans made under one path are used under another
SET search_path = regress_search_path_evil, pg_temp, pg_catalog;
SET idem.force_sql = on;
SELECT public.idem_claim('search_path', 'plan', NULL, true);
RESET search_path;
SELECT public.idem_claim('search_path', 'plan', NULL, true), idem_claim('search_path', 'plan 2');
RESET idem.force_sql;
SELECT sang FROM public.regress_search_path_canary;

--
-- The extension made while the path is hostile: nothing of the script is caught
--
SELECT current_database() AS db \gset
CREATE DATABASE regress_idem_search_path;
\c regress_idem_search_path
SET client_min_messages = warning;
CREATE SCHEMA evil;
CREATE TABLE public.canary (sang text);
SET search_path = evil;
CREATE FUNCTION sing(what text) RETURNS void LANGUAGE sql AS $$INSERT INTO public.canary VALUES (what)$$;
CREATE FUNCTION eq(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM evil.sing('eq'); RETURN true; END$$;
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = oid, FUNCTION = eq);
CREATE FUNCTION pg_extension_config_dump(regclass, text) RETURNS void LANGUAGE plpgsql AS $$BEGIN PERFORM evil.sing('dump'); END$$;
CREATE TYPE text AS (i int);
CREATE DOMAIN json AS pg_catalog.json CHECK (false);
CREATE DOMAIN bool AS pg_catalog.bool CHECK (false);
CREATE DOMAIN int8 AS pg_catalog.int8 CHECK (false);
CREATE DOMAIN bytea AS pg_catalog.bytea CHECK (false);
CREATE COLLATION "C" FROM pg_catalog."C";
CREATE ACCESS METHOD regress_heap TYPE TABLE HANDLER heap_tableam_handler;
SET search_path = evil, pg_catalog;
SET default_table_access_method = regress_heap;
CREATE EXTENSION idem;
RESET default_table_access_method;
RESET search_path;
SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'idem';
SELECT format_type(atttypid, atttypmod), collname, collnamespace::regnamespace FROM pg_attribute LEFT JOIN pg_collation c ON c.oid = attcollation WHERE attrelid = 'idem.claim'::regclass AND attnum > 0 ORDER BY attnum;
SELECT amname FROM pg_class JOIN pg_am a ON a.oid = relam WHERE pg_class.oid = 'idem.claim'::regclass;
SELECT evil.idem_claim('a', '1', NULL, true), evil.idem_claim('a', '1', NULL, true), evil.idem_respond('a', '1', '1'), evil.idem_response('a', '1');
SELECT * FROM canary;
\c :db
DROP DATABASE regress_idem_search_path;

DELETE FROM idem.claim WHERE source = 'search_path';
SET client_min_messages = warning;
DROP SCHEMA regress_search_path_evil CASCADE;
DROP TABLE public.regress_search_path_canary;
DROP FUNCTION public.regress_search_path_work, public.regress_search_path_trim;
DROP ROLE regress_search_path;
