-- Pins that CREATE EXTENSION idem, its use and DROP EXTENSION leave an application as it was, wherever it is installed.
\set SHOW_CONTEXT never
SELECT current_database() AS db \gset
CREATE ROLE regress_bystander;
CREATE ROLE regress_bystander_app;
CREATE DATABASE regress_idem_bystander;
\c regress_idem_bystander
SET client_min_messages = warning;

--
-- An application with a table, a trigger, functions of names like ours, privileges, an error of its own
--
CREATE SCHEMA app;
CREATE TABLE app.orders (id serial PRIMARY KEY, what text NOT NULL UNIQUE, stock int CHECK (stock >= 0), seen text);
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.seen := coalesce(NEW.seen, '') || TG_OP; RETURN NEW; END$$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.stamp();
CREATE TABLE public.claim (source text, seq text);
INSERT INTO public.claim VALUES ('mine', '1');
CREATE FUNCTION public.idem_mine(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION public.idem_claim(int) RETURNS text LANGUAGE sql AS $$SELECT 'an overload of the application'$$;
CREATE VIEW app.v AS SELECT id, what FROM app.orders;
INSERT INTO app.orders (what, stock) VALUES ('a', 1), ('b', 2);
-- privileges that it grants on all that will be made: not on ours
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_bystander_app;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_bystander_app;

-- what the application does, and what it gets
CREATE FUNCTION app.use() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text := '';
BEGIN
	BEGIN INSERT INTO app.orders (what) VALUES ('a'); EXCEPTION WHEN OTHERS THEN said := said || SQLSTATE || ' ' || SQLERRM || '; '; END;
	BEGIN UPDATE app.orders SET stock = -1 WHERE what = 'a'; EXCEPTION WHEN OTHERS THEN said := said || SQLSTATE || '; '; END;
	BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'ID409'; EXCEPTION WHEN SQLSTATE 'ID409' THEN said := said || SQLERRM || '; '; END;
	UPDATE app.orders SET stock = stock WHERE what = 'b';
	RETURN said || (SELECT seen FROM app.orders WHERE what = 'b') || '; ' || public.idem_mine(1) || '; ' || public.idem_claim(1) || '; ' || (SELECT count(*) FROM public.claim) || '; ' || (SELECT count(*) FROM app.v);
END $$;
-- everything in the catalogs but idem's own: names, definitions, privileges, comments, dependencies
CREATE FUNCTION app.fingerprint() RETURNS text LANGUAGE sql AS $$
	SELECT md5(string_agg(line, E'\n' ORDER BY line COLLATE "C")) FROM (
		SELECT concat_ws(' ', 'class', c.oid::regclass, relkind, relacl, relhastriggers, relhasrules, relrowsecurity, pg_get_viewdef(CASE relkind WHEN 'v' THEN c.oid END)) FROM pg_class c WHERE relnamespace NOT IN ('pg_toast'::regnamespace, 'pg_catalog'::regnamespace)
		UNION ALL SELECT concat_ws(' ', 'column', attrelid::regclass, attname, atttypid::regtype, attnotnull) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace NOT IN ('pg_toast'::regnamespace, 'pg_catalog'::regnamespace) AND attnum > 0
		UNION ALL SELECT concat_ws(' ', 'proc', p.oid::regprocedure, md5(prosrc), proacl) FROM pg_proc p
		UNION ALL SELECT concat_ws(' ', 'trigger', tgrelid::regclass, tgname, tgenabled) FROM pg_trigger
		UNION ALL SELECT concat_ws(' ', 'constraint', conname, pg_get_constraintdef(oid)) FROM pg_constraint
		UNION ALL SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
		UNION ALL SELECT concat_ws(' ', 'type', oid::regtype) FROM pg_type WHERE typnamespace NOT IN ('pg_toast'::regnamespace, 'pg_catalog'::regnamespace)
		UNION ALL SELECT concat_ws(' ', 'operator', oid::regoperator) FROM pg_operator
		UNION ALL SELECT concat_ws(' ', 'cast', castsource::regtype, casttarget::regtype) FROM pg_cast
		UNION ALL SELECT concat_ws(' ', 'event', evtname) FROM pg_event_trigger
		UNION ALL SELECT concat_ws(' ', 'extension', extname) FROM pg_extension
		UNION ALL SELECT concat_ws(' ', 'depends', count(*)) FROM pg_depend
		UNION ALL SELECT concat_ws(' ', 'shdepends', count(*)) FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		UNION ALL SELECT concat_ws(' ', 'comment', count(*)) FROM pg_description
		UNION ALL SELECT concat_ws(' ', 'default', defaclobjtype, defaclacl) FROM pg_default_acl
		UNION ALL SELECT concat_ws(' ', 'initial', count(*)) FROM pg_init_privs) l (line)
$$;
SELECT app.use();
SELECT app.fingerprint() AS before \gset
SELECT app.fingerprint() = :'before' AS stable;

--
-- It comes, is used, and goes
--
CREATE EXTENSION idem;
SELECT app.use();
SELECT app.fingerprint() = :'before' AS without_idem;
SELECT tgname, tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal;
SELECT idem_claim('bystander', '1'), idem_claim('bystander', '1'), idem_respond('bystander', '1', '{}'), idem_claim(1);
SELECT source, seq FROM public.claim;
SELECT app.use();
-- not even what the application grants by default reaches our tables
SELECT c.oid::regclass AS relation, a.grantee::regrole, string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges FROM pg_class c, aclexplode(relacl) a WHERE relnamespace = 'idem'::regnamespace AND a.grantee <> relowner GROUP BY 1, 2 ORDER BY 1, 2;
SELECT has_table_privilege('regress_bystander_app', 'idem.claim', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') AS touches, has_schema_privilege('regress_bystander_app', 'idem', 'USAGE, CREATE') AS enters;
SET SESSION AUTHORIZATION regress_bystander_app;
SELECT count(*) FROM idem.claim;
\echo :LAST_ERROR_SQLSTATE
SELECT idem_claim('bystander', '2');
RESET SESSION AUTHORIZATION;
-- a view of the application that calls it stands in the way of dropping it: the application is told, not bereft
CREATE VIEW app.lookup AS SELECT status FROM idem_lookup('bystander', '1');
DROP EXTENSION idem;
\echo :LAST_ERROR_SQLSTATE
SELECT status FROM app.lookup;
DROP VIEW app.lookup;
-- its parts cannot be dropped one by one
DROP TABLE idem.claim;
DROP FUNCTION idem_claim(text, anycompatible, jsonb, boolean);
DROP SCHEMA idem CASCADE;
ALTER EXTENSION idem SET SCHEMA app;
DROP EXTENSION idem;
SELECT app.fingerprint() = :'before' AS as_it_was;
SELECT app.use();
SELECT count(*) FROM pg_namespace WHERE nspname = 'idem';
\set VERBOSITY terse
SELECT idem_claim('bystander', '1');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
-- the same in one transaction that fails
BEGIN;
CREATE EXTENSION idem;
SELECT idem_claim('bystander', '1');
ROLLBACK;
SELECT app.fingerprint() = :'before' AS as_it_was;

--
-- A schema of its name is there: it fails, and touches nothing
--
CREATE SCHEMA idem AUTHORIZATION regress_bystander;
CREATE TABLE idem.claim (mine int);
SELECT app.fingerprint() AS taken \gset
CREATE EXTENSION idem;
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
CREATE EXTENSION idem SCHEMA idem;
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT app.fingerprint() = :'taken' AS untouched;
DROP SCHEMA idem CASCADE;
-- a function of ours is there already
CREATE FUNCTION public.idem_forget(text, anycompatible) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE EXTENSION idem;
\echo :LAST_ERROR_SQLSTATE
DROP FUNCTION public.idem_forget(text, anycompatible);
-- it is no type of role's to install
SET ROLE regress_bystander;
CREATE EXTENSION idem;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
SELECT app.fingerprint() = :'before' AS as_it_was;

--
-- In other schemas, with names that need care
--
CREATE SCHEMA "odd Name";
CREATE FUNCTION pg_temp.same(r json) RETURNS json LANGUAGE sql AS 'SELECT r';
CREATE EXTENSION idem SCHEMA "odd Name";
SELECT "odd Name".idem_claim('bystander', '1'), "odd Name".idem_claim('bystander', '1'), "odd Name".idem_respond('bystander', '1', '1'), (SELECT count(*) FROM "odd Name".idem_claim_batch('bystander', '{1, 2}') WHERE claimed);
CALL "odd Name".idem_purge('1 day');
SET search_path = "odd Name";
SELECT idem_claim('bystander', '1'), idem_call('bystander', '3', 'pg_temp.same', '{}');
RESET search_path;
DROP FUNCTION pg_temp.same;
DROP EXTENSION idem;
SELECT count(*) FROM pg_proc WHERE pronamespace = '"odd Name"'::regnamespace;
DROP SCHEMA "odd Name";
\set VERBOSITY sqlstate
CREATE SCHEMA "it's; DROP SCHEMA app CASCADE; --";
CREATE EXTENSION idem SCHEMA "it's; DROP SCHEMA app CASCADE; --";
\echo :LAST_ERROR_SQLSTATE
SELECT app.use();
DROP EXTENSION IF EXISTS idem;
DROP SCHEMA "it's; DROP SCHEMA app CASCADE; --";
CREATE SCHEMA "$extschema$";
CREATE EXTENSION idem SCHEMA "$extschema$";
\echo :LAST_ERROR_SQLSTATE
DROP EXTENSION IF EXISTS idem;
DROP SCHEMA "$extschema$";
\set VERBOSITY default
-- one that is not there is not made
CREATE EXTENSION idem SCHEMA no_such_schema;
\echo :LAST_ERROR_SQLSTATE
CREATE EXTENSION idem VERSION '0.9';
\echo :LAST_ERROR_SQLSTATE
SELECT app.fingerprint() = :'before' AS as_it_was;
-- twice
CREATE EXTENSION idem;
CREATE EXTENSION idem;
\echo :LAST_ERROR_SQLSTATE
CREATE EXTENSION IF NOT EXISTS idem;
SELECT idem_claim('bystander', '1');
-- what a dump would hold is the rows, all of them
SELECT unnest(extconfig)::regclass AS dumped, unnest(extcondition) AS condition FROM pg_extension WHERE extname = 'idem' ORDER BY 1;
SELECT path FROM pg_extension_update_paths('idem') WHERE path IS NOT NULL ORDER BY 1;

\c :db
DROP DATABASE regress_idem_bystander;
DROP ROLE regress_bystander, regress_bystander_app;
