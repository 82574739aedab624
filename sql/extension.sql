-- Pins how the extension is created: its own schema, the schema of its functions, and both in one.
\set SHOW_CONTEXT never
SELECT current_database() AS db \gset
CREATE DATABASE regress_idem_extension;
\c regress_idem_extension
\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
CREATE ROLE regress_extension_owner;

-- into a schema of the user's choice
CREATE SCHEMA elsewhere;
CREATE EXTENSION idem SCHEMA elsewhere;
SELECT elsewhere.idem_claim('e', '1'), elsewhere.idem_claim('e', '1');
DROP EXTENSION idem;
SELECT nspname FROM pg_namespace WHERE nspname IN ('idem', 'elsewhere');
-- beside a schema idem that is there already
CREATE SCHEMA idem;
SELECT pg_temp.try('CREATE EXTENSION idem');
SELECT pg_temp.try('CREATE EXTENSION idem SCHEMA elsewhere');
-- into it, functions and tables in one
CREATE EXTENSION idem SCHEMA idem;
SELECT idem.idem_claim('e', '1'), idem.idem_claim('e', '1'), count(*) FROM idem.claim;
SELECT idem.idem_lock('e'), idem.idem_token_status(idem.idem_token_issue('e'), 'e');
SET idem.force_sql = on;
SELECT idem.idem_claim('e', '1'), idem.idem_claim('e', '2');
RESET idem.force_sql;
SELECT count(*) > 40 AS functions FROM pg_proc WHERE pronamespace = 'idem'::regnamespace;
DROP EXTENSION idem;
SELECT count(*) AS left_behind FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = 'idem'::regnamespace;
-- not where something is prepared, of whatever kind
CREATE TABLE idem.claim (source text);
SELECT replace(pg_temp.try('CREATE EXTENSION idem SCHEMA idem'), format('TO %I,', CURRENT_USER), 'TO CURRENT_USER,') AS try;
DROP TABLE idem.claim;
CREATE FUNCTION idem.idem_claim(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT split_part(pg_temp.try('CREATE EXTENSION idem SCHEMA idem'), E'\n', 1);
DROP FUNCTION idem.idem_claim;
CREATE OPERATOR idem.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.textne);
SELECT split_part(pg_temp.try('CREATE EXTENSION idem SCHEMA idem'), E'\n', 1);
DROP OPERATOR idem.= (text, text);
CREATE DOMAIN idem.text AS pg_catalog.text;
SELECT split_part(pg_temp.try('CREATE EXTENSION idem SCHEMA idem'), E'\n', 1);
DROP DOMAIN idem.text;
-- nor where it belongs to somebody else
ALTER SCHEMA idem OWNER TO regress_extension_owner;
SELECT replace(pg_temp.try('CREATE EXTENSION idem SCHEMA idem'), format('TO %I,', CURRENT_USER), 'TO CURRENT_USER,') AS try;
ALTER SCHEMA idem OWNER TO CURRENT_USER;
-- what was granted on it is taken back
GRANT ALL ON SCHEMA idem TO regress_extension_owner, PUBLIC;
CREATE EXTENSION idem SCHEMA idem;
SELECT a.grantee FROM pg_namespace n, aclexplode(nspacl) a WHERE nspname = 'idem' AND a.grantee <> nspowner;
SELECT idem.idem_claim('e', '1');
\c :db
DROP DATABASE regress_idem_extension;
DROP ROLE regress_extension_owner;
