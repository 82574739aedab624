-- Pins who may do what: every function with its privileges, no way to the tables, and what one role recorded another never gets.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

--
-- The members of the extension.  A new one must be added here, with a thought about who may use it.
--
CREATE TEMP VIEW member AS
	SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'idem');
SELECT p.oid::regprocedure AS function, CASE WHEN has_function_privilege('public', p.oid, 'EXECUTE') THEN 'everyone' ELSE 'administrator' END AS execute
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";
-- nobody else was granted anything; C, the caller's rights, no settings, volatile, never in a parallel worker, called on null
SELECT p.oid::regprocedure AS odd, proacl, lanname, prosecdef, proconfig, provolatile, proparallel, proisstrict, proleakproof
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid JOIN pg_language l ON l.oid = prolang
WHERE lanname <> 'c' OR prosecdef OR proconfig IS NOT NULL OR provolatile <> 'v' OR proparallel <> 'u' OR proisstrict OR proleakproof
   OR EXISTS (SELECT FROM aclexplode(proacl) a WHERE a.grantee NOT IN (0, proowner, 'pg_monitor'::regrole)) ORDER BY 1;
-- who watches the server may read the counters
SELECT p.oid::regprocedure AS watched, a.privilege_type FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid, aclexplode(proacl) a WHERE a.grantee = 'pg_monitor'::regrole ORDER BY p.proname COLLATE "C";
SELECT c.oid::regclass AS watched, a.grantee::regrole, a.privilege_type FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid, aclexplode(relacl) a WHERE relkind = 'v' AND a.grantee <> relowner ORDER BY c.relname COLLATE "C";
-- verbs cost much, so that the planner tests other conditions first; what only reads, defines or is a trigger need not
SELECT p.proname AS cheap FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
WHERE procost <> 1000 AND prokind = 'f' AND prorettype <> 'trigger'::regtype
ORDER BY p.proname COLLATE "C";
-- each says what it is for
SELECT p.oid::regprocedure AS without_comment FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid WHERE obj_description(p.oid, 'pg_proc') IS NULL;
-- the others, but the tables' row types, which are members from PostgreSQL 16 on: no privileges but the owner's
SELECT pg_describe_object(classid, objid, 0) AS member FROM member WHERE classid <> 'pg_proc'::regclass
	AND NOT EXISTS (SELECT FROM pg_type t JOIN pg_class ON reltype IN (t.oid, t.typelem) WHERE classid = 'pg_type'::regclass AND t.oid = objid) ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";
SELECT n.nspname, a.grantee::regrole, a.privilege_type FROM pg_namespace n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a WHERE nspname = 'idem' AND a.grantee <> nspowner;
SELECT c.oid::regclass, a.grantee::regrole, a.privilege_type FROM pg_class c, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) a
WHERE relnamespace = 'idem'::regnamespace AND relkind <> 'i' AND a.grantee <> relowner;
SELECT attrelid::regclass, attname, attacl FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'idem'::regnamespace) AND attacl IS NOT NULL;
-- every relation in the schema is a member, an index or toast of one; its rows are dumped; it is a plain heap table of the extension's owner without policy, trigger, rule
SELECT c.oid::regclass AS stranger FROM pg_class c WHERE relnamespace = 'idem'::regnamespace AND relkind NOT IN ('i') AND NOT EXISTS (SELECT FROM member WHERE objid = c.oid);
SELECT c.oid::regclass AS not_dumped FROM pg_class c JOIN member m ON m.objid = c.oid WHERE relkind IN ('r', 'S') AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'idem');
SELECT c.oid::regclass AS odd FROM pg_class c LEFT JOIN pg_am a ON a.oid = relam WHERE relnamespace = 'idem'::regnamespace AND relkind = 'r' AND (amname <> 'heap' OR relrowsecurity OR relpersistence <> 'p' OR relispartition
	OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid) OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid) OR EXISTS (SELECT FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)));

--
-- Another role's tables: nothing
--
CREATE ROLE regress_acl_a;
CREATE ROLE regress_acl_b;
CREATE ROLE regress_acl_noinherit NOINHERIT;
CREATE ROLE regress_acl_super SUPERUSER;
CREATE ROLE regress_acl_member;
CREATE ROLE regress_acl_indirect;
GRANT regress_acl_a TO regress_acl_member, regress_acl_noinherit;
GRANT regress_acl_member TO regress_acl_indirect;
CREATE FUNCTION pg_temp.echo(r json) RETURNS json LANGUAGE plpgsql AS $$BEGIN RAISE NOTICE 'runs as %', current_user; RETURN r; END$$;

SET ROLE regress_acl_a;
SELECT left(pg_temp.try(s), 5) || ' ' || s FROM unnest(ARRAY['SELECT * FROM idem.claim', 'SELECT count(*) FROM idem.claim', 'TABLE idem.claim', 'UPDATE idem.claim SET response = NULL',
	'INSERT INTO idem.claim (source, seq, owner, status, fence) VALUES (''acl'', ''forged'', ''regress_acl_b'', ''d'', 0)', 'DELETE FROM idem.claim', 'TRUNCATE idem.claim', 'LOCK idem.claim',
	'CREATE TABLE idem.mine (i int)', 'CREATE TABLE mine () INHERITS (idem.claim)', 'CREATE TRIGGER t BEFORE INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE TABLE pg_temp.ref (s text, k text, FOREIGN KEY (s, k) REFERENCES idem.claim)', 'SELECT pg_relation_size(''idem.claim'')']) s;
RESET ROLE;

--
-- A's key
--
SET ROLE regress_acl_a;
SELECT idem_claim('acl', '1', '{"a": 1}'), idem_respond('acl', '1', '{"secret": true}'), idem_claim('acl', '2');
RESET ROLE;
SELECT seq, owner FROM idem.claim WHERE source = 'acl' ORDER BY seq;

-- what each function answers another role
CREATE TEMP TABLE calls (n serial, call text);
INSERT INTO calls (call) VALUES ('SELECT idem_claim(''acl'', %L)'), ('SELECT idem_claim(''acl'', %L, NULL, false)'), ('SELECT idem_claim(''acl'', %L, ''{"a": 1}'')'), ('SELECT idem_claim(''acl'', %L, ''{"a": 2}'')'),
	('SELECT * FROM idem_claim_batch(''acl'', ARRAY[''b 1'', %L, ''b 2''])'), ('SELECT idem_respond(''acl'', %L, ''{"secret": true}'')'), ('SELECT idem_respond(''acl'', %L, ''1'')'),
	('SELECT idem_response(''acl'', %L)'), ('SELECT * FROM idem_lookup(''acl'', %L)'), ('SELECT idem_call(''acl'', %L, ''pg_temp.echo'', ''{"a": 1}'')'),
	('SELECT idem_call(''acl'', %L, ''pg_temp.echo'', ''{"a": 2}'')'), ('SELECT idem_cancel(''acl'', %L)');
GRANT SELECT ON calls TO PUBLIC;
SET ROLE regress_acl_b;
\pset format unaligned
\pset tuples_only on
SELECT call || E'\n' || pg_temp.try(format(call, '1')) FROM calls ORDER BY n;
\pset format aligned
\pset tuples_only off
SELECT count(*), left(pg_temp.try(format(call, '2')), 5) AS state FROM calls GROUP BY 2;
-- none of the batch was claimed: they are free
SELECT * FROM idem_claim_batch('acl', '{b 1, b 2}');
-- B's own keys are none of A's
SET ROLE regress_acl_a;
SELECT count(*), left(pg_temp.try(format(call, 'b 1')), 5) AS state FROM calls GROUP BY 2;
-- nor are those of a member's: membership goes one way
SET ROLE regress_acl_member;
SELECT idem_claim('acl', 'm'), idem_respond('acl', 'm', '1');
SET ROLE regress_acl_a;
SELECT count(*), left(pg_temp.try(format(call, 'm')), 5) AS state FROM calls GROUP BY 2;
RESET ROLE;
SELECT seq, status, response FROM idem.claim WHERE source = 'acl' ORDER BY seq;

-- whatever the status of A's key
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, lease_until)
SELECT 'acl', k, 'regress_acl_a', s, 1, now(), now() + l FROM (VALUES ('running', 'r'::"char", '1 hour'::interval), ('expired', 'r', '-1 hour'), ('open', 'o', NULL), ('failed', 'f', NULL), ('cancelled', 'c', NULL)) v (k, s, l);
SET ROLE regress_acl_b;
SELECT k, count(*), left(pg_temp.try(format(call, k)), 5) AS state FROM calls, unnest('{running, expired, open, failed, cancelled}'::text[]) k GROUP BY 1, 3 ORDER BY 1, 3;
RESET ROLE;
SELECT seq, status, owner FROM idem.claim WHERE source = 'acl' AND fence = 1 ORDER BY seq;

--
-- Who is a member of A is served; a superuser is
--
SELECT r AS role, set_config('role', r, false) = r AS now, idem_claim('acl', '1'), (SELECT claimed FROM idem_claim_batch('acl', '{1}')), idem_respond('acl', '1', '{"secret": true}'), idem_response('acl', '1'),
	   (idem_lookup('acl', '1')).status, idem_call('acl', '1', 'pg_temp.echo', '{"a": 1}'), idem_cancel('acl', '1'), left(pg_temp.try($$SELECT idem_claim('acl', '1', '{"a": 2}')$$), 5) AS other
FROM unnest('{regress_acl_a, regress_acl_member, regress_acl_indirect, regress_acl_noinherit, regress_acl_super}'::text[]) r;
RESET ROLE;
-- a member may answer A's claim and take A's open key, which then is the member's
SET ROLE regress_acl_member;
SELECT idem_respond('acl', '2', '"by a member"'), idem_claim('acl', 'open');
RESET ROLE;
SELECT seq, owner, response FROM idem.claim WHERE source = 'acl' AND seq IN ('2', 'open') ORDER BY seq;
-- no longer one
REVOKE regress_acl_a FROM regress_acl_member;
SET ROLE regress_acl_indirect;
SELECT left(pg_temp.try($$SELECT idem_response('acl', '1')$$), 5);
SET ROLE regress_acl_member;
SELECT left(pg_temp.try($$SELECT idem_response('acl', '1')$$), 5);
RESET ROLE;

--
-- In one transaction: roles change, keys do not
--
BEGIN;
SET ROLE regress_acl_a;
SELECT idem_claim('acl', 'tx'), idem_claim('acl', 'tx');
SET ROLE regress_acl_b;
SELECT count(*), left(pg_temp.try(format(call, 'tx')), 5) AS state FROM calls GROUP BY 2;
SAVEPOINT a;
SET LOCAL ROLE regress_acl_a;
SELECT idem_claim('acl', 'tx 2'), idem_respond('acl', 'tx', '1');
ROLLBACK TO a;
SELECT current_user, left(pg_temp.try($$SELECT idem_claim('acl', 'tx')$$), 5), idem_claim('acl', 'tx 2');
SET ROLE regress_acl_a;
SELECT left(pg_temp.try($$SELECT idem_claim('acl', 'tx 2')$$), 5);
COMMIT;
RESET ROLE;
SELECT seq, owner FROM idem.claim WHERE source = 'acl' AND seq LIKE 'tx%' ORDER BY seq;
-- the same statement, executed by one role and then by another
PREPARE claim AS SELECT idem_claim('acl', 'prepared'), (idem_lookup('acl', 'prepared')).status;
SET ROLE regress_acl_a;
EXECUTE claim;
EXECUTE claim;
SET ROLE regress_acl_b;
EXECUTE claim;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
DEALLOCATE claim;
-- another session user
SET SESSION AUTHORIZATION regress_acl_b;
SELECT left(pg_temp.try($$SELECT idem_claim('acl', '1')$$), 5), idem_claim('acl', 'session');
RESET SESSION AUTHORIZATION;
SELECT owner FROM idem.claim WHERE source = 'acl' AND seq = 'session';

--
-- A wrapper with A's rights: what it records is A's, whoever calls it
--
CREATE FUNCTION public.regress_acl_once(key text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
	SELECT idem_claim('acl', key)::text || ' ' || current_user || ' ' || coalesce(idem_response('acl', key)::text, '-')
$$;
ALTER FUNCTION public.regress_acl_once OWNER TO regress_acl_a;
SET ROLE regress_acl_b;
SELECT regress_acl_once('wrapped'), regress_acl_once('wrapped'), regress_acl_once('1'), current_user;
SELECT left(pg_temp.try($$SELECT idem_response('acl', 'wrapped')$$), 5), left(pg_temp.try($$SELECT regress_acl_once('b 1')$$), 5);
RESET ROLE;
SELECT owner FROM idem.claim WHERE source = 'acl' AND seq = 'wrapped';
DROP FUNCTION public.regress_acl_once;

--
-- Administrator functions
--
SET ROLE regress_acl_b;
SELECT pg_temp.try($$SELECT idem_forget('acl', 'b 1')$$);
CALL idem_purge('1 day');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION idem_forget TO regress_acl_b;
SET ROLE regress_acl_b;
SELECT left(pg_temp.try($$SELECT idem_forget('acl', '2')$$), 5) AS of_a, idem_forget('acl', 'b 1'), left(pg_temp.try('SELECT * FROM idem.claim'), 5) AS still_no_table;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION idem_forget FROM regress_acl_b;

--
-- A key follows its role's name, and belongs to nobody when the role is dropped
--
ALTER ROLE regress_acl_a RENAME TO regress_acl_renamed;
SET ROLE regress_acl_renamed;
SELECT idem_response('acl', '1');
RESET ROLE;
CREATE ROLE regress_acl_a;
SET ROLE regress_acl_a;
SELECT left(pg_temp.try($$SELECT idem_response('acl', '1')$$), 5);
RESET ROLE;
DROP ROLE regress_acl_renamed;
SELECT r AS role, set_config('role', r, false) = r AS now, left(pg_temp.try($$SELECT idem_response('acl', '1')$$), 5), left(pg_temp.try($$SELECT idem_claim('acl', '1')$$), 5), left(pg_temp.try($$SELECT idem_lookup('acl', '1')$$), 5)
FROM unnest('{regress_acl_a, regress_acl_b, regress_acl_noinherit, regress_acl_super}'::text[]) r;
RESET ROLE;
SELECT idem_claim('acl', '1'), idem_response('acl', '1'), idem_forget('acl', '1');
SET ROLE regress_acl_a;
SELECT idem_claim('acl', '1');
RESET ROLE;

DELETE FROM idem.claim WHERE source = 'acl';
DROP ROLE regress_acl_a, regress_acl_b, regress_acl_member, regress_acl_indirect, regress_acl_noinherit, regress_acl_super;
