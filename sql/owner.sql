-- Pins whose a record is: owners are names; what becomes of them when a role is renamed, dropped or made again; idem_reassign.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
CREATE ROLE regress_owner_a;
CREATE ROLE regress_owner_b;
CREATE ROLE regress_owner_c;
CREATE ROLE "Regress owner ""d""";
SELECT idem_stock_add('owner', 10);

CREATE FUNCTION pg_temp.record(tag text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM idem_claim('owner', tag), idem_respond('owner', tag, '"mine"'), idem_begin('owner', tag || ' attempt', '1 hour'), idem_lock('owner ' || tag, '1 hour'), idem_stock_reserve('owner', tag, 'owner', 1);
END $$;
-- what a role gets of what another recorded
CREATE FUNCTION pg_temp.gets(tag text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT left(pg_temp.outcome(format(s, tag)), 7) FROM unnest(ARRAY['SELECT idem_response(''owner'', ''%s'')', 'SELECT idem_renew(''owner'', ''%s attempt'', 1) IS NOT NULL', 'SELECT idem_lock_renew(''owner %s'', 1, ''1 hour'')', 'SELECT idem_stock_confirm(''owner'', ''%s'')']) s;
END $$;

--
-- The name is the current user's, however it is written
--
SET ROLE "Regress owner ""d""";
SELECT pg_temp.record('d');
SELECT (idem_lookup('owner', 'd')).status, owner FROM idem_lock_lookup('owner d');
RESET ROLE;
SELECT owner FROM idem.claim WHERE source = 'owner' UNION SELECT owner FROM idem.lock WHERE name LIKE 'owner%' UNION SELECT owner FROM idem.hold WHERE source = 'owner';
-- in a SECURITY DEFINER function it is the function's owner
CREATE FUNCTION public.regress_owner_definer() RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$SELECT idem_claim('owner', 'definer')$$;
ALTER FUNCTION public.regress_owner_definer() OWNER TO regress_owner_c;
SET ROLE regress_owner_a;
SELECT public.regress_owner_definer();
RESET ROLE;
SELECT owner FROM idem.claim WHERE seq = 'definer';
DROP FUNCTION public.regress_owner_definer();

--
-- Renamed: the records stay behind, for superusers alone
--
SET ROLE regress_owner_a;
SELECT pg_temp.record('a');
SELECT * FROM pg_temp.gets('a');
RESET ROLE;
ALTER ROLE regress_owner_a RENAME TO regress_owner_aa;
SET ROLE regress_owner_aa;
SELECT * FROM pg_temp.gets('a');
SET ROLE regress_owner_b;
SELECT * FROM pg_temp.gets('a');
RESET ROLE;
SELECT idem_response('owner', 'a');
-- moved to the new name
SELECT idem_reassign('regress_owner_a', 'regress_owner_aa'), idem_reassign('regress_owner_a', 'regress_owner_aa');
SET ROLE regress_owner_aa;
SELECT * FROM pg_temp.gets('a');
-- both in one transaction
RESET ROLE;
BEGIN;
ALTER ROLE regress_owner_aa RENAME TO regress_owner_a;
SELECT idem_reassign('regress_owner_aa', 'regress_owner_a');
SET LOCAL ROLE regress_owner_a;
SELECT idem_response('owner', 'a');
COMMIT;
-- rolled back, it did not happen
BEGIN;
SELECT idem_reassign('regress_owner_a', 'regress_owner_b');
SAVEPOINT s;
SELECT idem_reassign('regress_owner_b', 'regress_owner_c');
ROLLBACK TO s;
SET LOCAL ROLE regress_owner_b;
SELECT idem_response('owner', 'a');
ROLLBACK;
SET ROLE regress_owner_a;
SELECT idem_response('owner', 'a');

--
-- Dropped, and made again: another role by the same name has them, as it has what a dump grants
--
RESET ROLE;
DROP ROLE regress_owner_a;
SET ROLE regress_owner_b;
SELECT * FROM pg_temp.gets('a');
RESET ROLE;
CREATE ROLE regress_owner_a;
SET ROLE regress_owner_a;
SELECT idem_response('owner', 'a');
RESET ROLE;

--
-- Who may move what
--
SET ROLE regress_owner_b;
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_a', 'regress_owner_b')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION idem_reassign TO regress_owner_b;
SET ROLE regress_owner_b;
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_a', 'regress_owner_b')$$);
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_b', 'regress_owner_a')$$);
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_gone', 'regress_owner_b')$$);
RESET ROLE;
GRANT regress_owner_a TO regress_owner_b;
SET ROLE regress_owner_b;
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_a', 'regress_owner_b')$$);
SELECT * FROM pg_temp.gets('a');
RESET ROLE;
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_a', 'regress_owner_gone')$$);
SELECT pg_temp.outcome($$SELECT idem_reassign(NULL, 'regress_owner_a')$$);
SELECT pg_temp.outcome($$SELECT idem_reassign('regress_owner_a', NULL)$$);
SELECT pg_temp.outcome($$SELECT idem_reassign('', 'regress_owner_a')$$);
BEGIN READ ONLY;
SELECT idem_reassign('regress_owner_a', 'regress_owner_b');
ROLLBACK;

--
-- Whoever owns the extension reaches what nobody owns
--
RESET ROLE;
BEGIN;
UPDATE idem.claim SET owner = 'regress_owner_gone' WHERE source = 'owner' AND seq = 'a';
SET LOCAL ROLE regress_owner_c;
SELECT left(pg_temp.outcome($$SELECT idem_response('owner', 'a')$$), 5);
RESET ROLE;
UPDATE pg_catalog.pg_extension SET extowner = 'regress_owner_c'::regrole WHERE extname = 'idem';
SET LOCAL ROLE regress_owner_c;
SELECT idem_response('owner', 'a');
ROLLBACK;

SET client_min_messages = error;
DELETE FROM idem.claim WHERE source = 'owner';
DELETE FROM idem.hold WHERE source = 'owner';
DELETE FROM idem.lock WHERE name LIKE 'owner%';
DELETE FROM idem.stock WHERE item = 'owner';
REVOKE EXECUTE ON FUNCTION idem_reassign FROM regress_owner_b;
DROP ROLE regress_owner_a, regress_owner_b, regress_owner_c, "Regress owner ""d""";
