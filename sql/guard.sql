-- Pins that idem goes to its table directly only while that is as the script made it; otherwise through SQL, with the same results.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_guard_user;
CREATE ROLE regress_guard_owner;
CREATE SCHEMA regress_guard;
GRANT USAGE ON SCHEMA regress_guard TO PUBLIC;
GRANT EXECUTE ON FUNCTION idem_forget TO regress_guard_user;
SELECT 'CREATE EXTENSION amcheck SCHEMA regress_guard' FROM pg_available_extensions WHERE name = 'amcheck' AND installed_version IS NULL \gexec

-- The route this session took: SQL keeps a plan of the INSERT. Only a fresh session, which has none yet, can tell direct.
CREATE FUNCTION regress_guard.route() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
	SELECT CASE WHEN count(*) > 0 THEN 'sql' ELSE 'direct' END FROM pg_backend_memory_contexts WHERE name ~ '^CachedPlan' AND ident ~ 'INSERT INTO idem\.claim .* ON CONFLICT'
$$;

-- an open key, which only an attempt leaves
CREATE FUNCTION regress_guard.put(key text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
	INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at) VALUES ('guard', $1, 'regress_guard_user', 'o', 3, now())
$$;
CREATE FUNCTION regress_guard.echo(r json) RETURNS json LANGUAGE sql AS 'SELECT r';
CREATE FUNCTION regress_guard.state(stmt text) RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE stmt; RETURN 'none'; EXCEPTION WHEN OTHERS OR query_canceled THEN RETURN SQLSTATE; END$$;

-- Everything that idem does with a key, on new keys each time, as a role without rights on the table.
CREATE FUNCTION regress_guard.work(tag text) RETURNS text LANGUAGE plpgsql SET role = regress_guard_user AS $$
DECLARE
	a text := tag || ' a'; b text := tag || ' b'; c text := tag || ' c'; d text := tag || ' d'; e text := tag || ' e'; o text := tag || ' o'; said text[]; got text;
	expected CONSTANT text := '{claim,true,false,false,true,false,"[1, 2]",done,ID412,request,true,false,ID422,call,"{\"x\": 1}","{\"x\": 1}",batch,"(b,f)(c,t)(d,t)(c,f)",cancel,cancelled,cancelled,false,done,open,true,false,0,undone,true,forget,true,false,true,unseen,true,true}';
BEGIN
	said := ARRAY['claim', idem_claim('guard', a)::text, idem_claim('guard', a)::text, idem_claim('guard', a, NULL, false)::text, idem_respond('guard', a, '[1, 2]')::text,
		idem_respond('guard', a, '[1, 2]')::text, idem_response('guard', a)::text, (idem_lookup('guard', a)).status, regress_guard.state(format('SELECT idem_respond(%L, %L, %L)', 'guard', a, '[1,2]'))];
	said := said || ARRAY['request', idem_claim('guard', b, '{"a": 1, "b": 2}')::text, idem_claim('guard', b, '{"b": 2, "a": 1}')::text, regress_guard.state(format('SELECT idem_claim(%L, %L, %L)', 'guard', b, '{"a": 2}'))];
	said := said || ARRAY['call', idem_call('guard', tag || ' call', 'regress_guard.echo', '{"x":  1}')::text, idem_call('guard', tag || ' call', 'regress_guard.echo', '{"x":  1}')::text];
	said := said || ARRAY['batch', (SELECT string_agg(format('(%s,%s)', right(seq, 1), left(claimed::text, 1)), '' ORDER BY n) FROM idem_claim_batch('guard', ARRAY[b, c, d, c]) WITH ORDINALITY r (seq, claimed, status, n))];
	said := said || ARRAY['cancel', idem_cancel('guard', e), idem_cancel('guard', e), idem_claim('guard', e)::text, idem_cancel('guard', a)];
	PERFORM regress_guard.put(o);
	said := said || ARRAY['open', idem_claim('guard', o)::text, idem_claim('guard', o)::text, (idem_lookup('guard', o)).fence::text];
	BEGIN
		PERFORM idem_claim('guard', tag || ' undone');
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
		said := said || ARRAY['undone', idem_claim('guard', tag || ' undone')::text];
	END;
	said := said || ARRAY['forget', idem_forget('guard', d)::text, idem_forget('guard', d)::text, idem_claim('guard', d)::text];
	said := said || ARRAY['unseen', (idem_response('guard', tag || ' unseen') IS NULL)::text, ((idem_lookup('guard', tag || ' unseen')).status IS NULL)::text];
	RETURN CASE WHEN said::text = expected THEN 'as ever' ELSE said::text END;
END $$;

-- Are all rows in the index and all index entries in the table, each key once, each answer whole?
CREATE FUNCTION regress_guard.intact() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	by_scan bigint; by_index bigint; keys bigint; leaf regclass;
BEGIN
	SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = on;
	EXECUTE 'SELECT count(*), count(DISTINCT (source, seq)) FROM idem.claim WHERE source >= '''' AND length(coalesce(response::text, '''')) >= 0' INTO by_scan, keys;
	SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = on; SET LOCAL enable_indexonlyscan = on;
	EXECUTE 'SELECT count(*) FROM idem.claim WHERE source >= ''''' INTO by_index;
	IF by_scan <> by_index OR keys <> by_scan THEN
		RETURN format('%s rows, %s by index, %s keys', by_scan, by_index, keys);
	END IF;
	IF to_regproc('regress_guard.bt_index_check') IS NOT NULL THEN
		FOR leaf IN SELECT indexrelid FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE indisvalid AND relkind = 'i' AND relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
			AND indrelid IN (SELECT relid FROM pg_partition_tree('idem.claim') UNION SELECT 'idem.claim'::regclass) LOOP
			PERFORM regress_guard.bt_index_check(leaf, true);
		END LOOP;
	END IF;
	RETURN 'intact';
END $$;

CREATE TABLE regress_guard.log (n serial, op text, seq text);
CREATE FUNCTION regress_guard.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO regress_guard.log (op, seq) VALUES (TG_OP || ' ' || TG_WHEN || ' ' || TG_LEVEL, NULL);
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE FUNCTION regress_guard.swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;

--
-- The control: each route, chosen by the setting, is told apart
--
\c -
SET idem.force_sql = on;
SELECT regress_guard.work('forced'), regress_guard.route(), regress_guard.intact();
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('free'), regress_guard.route(), regress_guard.intact();
-- and by the setting within one session
SET idem.force_sql = on;
SELECT regress_guard.work('forced now'), regress_guard.route(), regress_guard.intact();

-- Each step: a session that begins directly, sees the table change under it, and change back.

--
-- Triggers of every kind
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('t1'), regress_guard.route();
CREATE TRIGGER regress BEFORE INSERT OR UPDATE OR DELETE ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.note();
SELECT regress_guard.work('t2'), regress_guard.route(), regress_guard.intact();
SELECT op, count(*) > 0 AS fired FROM regress_guard.log GROUP BY op ORDER BY op;
DROP TRIGGER regress ON idem.claim;
TRUNCATE regress_guard.log;
SELECT regress_guard.work('t3'), regress_guard.intact();
SELECT count(*) FROM regress_guard.log;

\c -
SET idem.force_sql = off;
SELECT regress_guard.work('t4'), regress_guard.route();
CREATE TRIGGER regress AFTER INSERT OR UPDATE OR DELETE ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.note();
SELECT regress_guard.work('t5'), regress_guard.route(), regress_guard.intact();
SELECT op, count(*) > 0 AS fired FROM regress_guard.log GROUP BY op ORDER BY op;
-- disabled, and enabled only for replicas: it does not fire, and that is all
ALTER TABLE idem.claim DISABLE TRIGGER regress;
TRUNCATE regress_guard.log;
SELECT regress_guard.work('t6');
ALTER TABLE idem.claim ENABLE REPLICA TRIGGER regress;
SELECT regress_guard.work('t7');
SELECT count(*) FROM regress_guard.log;
SET session_replication_role = replica;
SELECT regress_guard.work('t8');
RESET session_replication_role;
SELECT count(*) > 0 AS fired FROM regress_guard.log;
DROP TRIGGER regress ON idem.claim;
TRUNCATE regress_guard.log;

\c -
SET idem.force_sql = off;
SELECT regress_guard.work('t9'), regress_guard.route();
CREATE TRIGGER regress AFTER INSERT OR UPDATE OR DELETE ON idem.claim EXECUTE FUNCTION regress_guard.note();
SELECT regress_guard.work('t10'), regress_guard.route(), regress_guard.intact();
SELECT op, count(*) > 0 AS fired FROM regress_guard.log GROUP BY op ORDER BY op;
DROP TRIGGER regress ON idem.claim;
TRUNCATE regress_guard.log;

-- such as a distributed engine puts on the shell of a table whose rows are elsewhere
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('t11'), regress_guard.route();
CREATE TRIGGER regress AFTER TRUNCATE ON idem.claim EXECUTE FUNCTION regress_guard.note();
SELECT regress_guard.work('t12'), regress_guard.route(), regress_guard.intact();
DROP TRIGGER regress ON idem.claim;

-- a trigger within a transaction that is rolled back
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('t13'), regress_guard.route();
BEGIN;
CREATE TRIGGER regress BEFORE INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.note();
SELECT regress_guard.work('t14'), regress_guard.route();
SELECT count(*) > 0 AS fired FROM regress_guard.log;
ROLLBACK;
SELECT regress_guard.work('t14'), regress_guard.intact();
SELECT count(*) FROM regress_guard.log;

-- between two calls of one session, and in the middle of a batch
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('t15'), regress_guard.route();
CREATE TRIGGER regress BEFORE INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.note();
DO $$ BEGIN PERFORM idem_claim('guard', 't16 ' || i) FROM generate_series(1, 3) i; END $$;
SELECT count(*) FROM regress_guard.log;
SELECT count(*) FROM idem_claim_batch('guard', (SELECT array_agg('t17 ' || i) FROM generate_series(1, 300) i)) WHERE claimed;
SELECT count(*) FROM regress_guard.log;
DROP TRIGGER regress ON idem.claim;
TRUNCATE regress_guard.log;

--
-- A trigger that swallows the row breaks the promise: said so, at once, and nothing is claimed
--
\c -
SET idem.force_sql = off;
SET statement_timeout = '60s'; -- what would never end, ends here
\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
SELECT idem_claim('guard', 's 1'), regress_guard.put('s open');
CREATE TRIGGER regress BEFORE INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.swallow();
SELECT pg_temp.try($$SELECT idem_claim('guard', 's 2')$$);
SELECT pg_temp.try($$SELECT idem_claim('guard', 's 2', NULL, false)$$);
SELECT pg_temp.try($$SELECT count(*) FROM idem_claim_batch('guard', '{s 3, s 4}')$$);
SELECT pg_temp.try($$SELECT idem_call('guard', 's 5', 'regress_guard.echo', '1')$$);
SELECT pg_temp.try($$SELECT idem_cancel('guard', 's 6')$$);
-- what is there already is answered
SELECT idem_claim('guard', 's 1'), idem_cancel('guard', 's 1'), idem_respond('guard', 's 1', '1'), idem_respond('guard', 's 1', '1');
DROP TRIGGER regress ON idem.claim;
CREATE TRIGGER regress BEFORE UPDATE ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.swallow();
SELECT idem_claim('guard', 's 7');
SELECT regress_guard.state($$SELECT idem_respond('guard', 's 7', '1')$$) AS respond;
SELECT regress_guard.state($$SELECT idem_claim('guard', 's open')$$) AS claim;
SELECT regress_guard.state($$SELECT idem_claim_batch('guard', '{s open}')$$) AS batch;
SELECT regress_guard.state($$SELECT idem_cancel('guard', 's open')$$) AS cancel;
SELECT regress_guard.state($$SELECT idem_call('guard', 's 8', 'regress_guard.echo', '1')$$) AS call;
DROP TRIGGER regress ON idem.claim;
CREATE TRIGGER regress BEFORE DELETE ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.swallow();
SELECT regress_guard.state($$DO 'BEGIN ASSERT NOT idem_forget(''guard'', ''s 7''), ''it is there still''; END'$$) AS forget;
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at) SELECT 'guard', 's old ' || i, current_user::regrole, 'd', 0, now() - interval '3 years', now() - interval '3 years' FROM generate_series(1, 5) i;
-- a purge ends: it cannot remove them, and either says so or leaves them
DO $$ BEGIN CALL idem_purge('2 years', 2); END $$;
\echo :SQLSTATE
SELECT count(*) FROM idem.claim WHERE seq LIKE 's old %';
DROP TRIGGER regress ON idem.claim;
DELETE FROM idem.claim WHERE seq LIKE 's old %';
SELECT seq, status, response FROM idem.claim WHERE source = 'guard' AND seq LIKE 's %' ORDER BY seq;
-- one that raises: its error, and the key is free
CREATE FUNCTION regress_guard.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'ZZ002'; END$$;
CREATE TRIGGER regress AFTER INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.refuse();
SELECT regress_guard.state($$SELECT idem_claim('guard', 's 9')$$), regress_guard.state($$SELECT * FROM idem_claim_batch('guard', '{s 9}')$$);
DROP TRIGGER regress ON idem.claim;
SELECT idem_claim('guard', 's 9');

-- Stand-in for a distributed table, one: a shell whose rows are sent elsewhere. The shell's trigger is obeyed, and the empty shell not believed.
CREATE TABLE regress_guard.shard (LIKE idem.claim);
CREATE FUNCTION regress_guard.redirect() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO regress_guard.shard SELECT NEW.*; RETURN NULL; END$$;
CREATE TRIGGER regress BEFORE INSERT ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_guard.redirect();
SELECT pg_temp.try($$SELECT idem_claim('guard', 'r 1')$$);
SELECT count(*) AS shard, (SELECT count(*) FROM idem.claim WHERE seq LIKE 'r %') AS shell FROM regress_guard.shard;
DROP TRIGGER regress ON idem.claim;
RESET statement_timeout;

--
-- Row security
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('p1'), regress_guard.route();
ALTER TABLE idem.claim ENABLE ROW LEVEL SECURITY;
SELECT regress_guard.work('p2'), regress_guard.route(), regress_guard.intact();
CREATE POLICY regress ON idem.claim USING (false) WITH CHECK (false);
ALTER TABLE idem.claim FORCE ROW LEVEL SECURITY;
SELECT regress_guard.work('p3'), regress_guard.route(), regress_guard.intact();
SET row_security = off;
SELECT regress_guard.work('p4');
RESET row_security;
-- with an owner whom policies would bind
GRANT USAGE ON SCHEMA idem TO regress_guard_owner;
SELECT relowner::regrole AS owner FROM pg_class WHERE oid = 'idem.claim'::regclass \gset
ALTER TABLE idem.claim OWNER TO regress_guard_owner;
SELECT regress_guard.work('p5'), regress_guard.intact();
SET row_security = off;
SELECT regress_guard.work('p6');
RESET row_security;
ALTER TABLE idem.claim OWNER TO :"owner";
REVOKE USAGE ON SCHEMA idem FROM regress_guard_owner;
DROP POLICY regress ON idem.claim;
ALTER TABLE idem.claim NO FORCE ROW LEVEL SECURITY;
ALTER TABLE idem.claim DISABLE ROW LEVEL SECURITY;
SELECT regress_guard.work('p7'), regress_guard.intact();

--
-- A rule
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('l1'), regress_guard.route();
CREATE RULE regress AS ON DELETE TO idem.claim DO ALSO INSERT INTO regress_guard.log (op) VALUES ('rule');
SELECT regress_guard.work('l2'), regress_guard.route(), regress_guard.intact();
SELECT count(*) > 0 AS fired FROM regress_guard.log;
DROP RULE regress ON idem.claim;
TRUNCATE regress_guard.log;
CREATE RULE regress AS ON INSERT TO idem.claim DO ALSO INSERT INTO regress_guard.log (op) VALUES ('rule');
-- which the server refuses to combine with ON CONFLICT: said so, and nothing is claimed past the rule
SELECT regress_guard.state($$SELECT idem_claim('guard', 'l3')$$), regress_guard.state($$SELECT * FROM idem_claim_batch('guard', '{l3}')$$), (idem_lookup('guard', 'l3')).status;
DROP RULE regress ON idem.claim;
TRUNCATE regress_guard.log;
-- only a vacuum clears pg_class.relhasrules
VACUUM idem.claim;
SELECT regress_guard.work('l4'), regress_guard.intact();

--
-- Indexes: more of them are kept up to date; new ones of ours are found
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('i1'), regress_guard.route();
CREATE INDEX regress ON idem.claim (owner, claimed_at);
SELECT regress_guard.work('i2'), regress_guard.route(), regress_guard.intact();
DROP INDEX idem.regress;
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('i3'), regress_guard.route();
CREATE UNIQUE INDEX regress ON idem.claim (seq, source);
SELECT regress_guard.work('i4'), regress_guard.route(), regress_guard.intact();
DROP INDEX idem.regress;
CREATE INDEX regress ON idem.claim (lower(seq)) WHERE status <> 'd';
SELECT regress_guard.work('i5'), regress_guard.intact();
DROP INDEX idem.regress;
CREATE INDEX regress ON idem.claim USING hash (seq);
SELECT regress_guard.work('i6'), regress_guard.intact(), (SELECT count(*) FROM (SELECT seq FROM idem.claim WHERE source = 'guard') k WHERE NOT EXISTS (SELECT FROM idem.claim c WHERE c.seq = k.seq)) AS unfound;
DROP INDEX idem.regress;
CREATE INDEX CONCURRENTLY regress ON idem.claim (status);
SELECT regress_guard.work('i7'), regress_guard.intact();
DROP INDEX CONCURRENTLY idem.regress;
SELECT regress_guard.work('i8'), regress_guard.intact();
-- the table is ours still: direct all along
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('i9'), regress_guard.route();
REINDEX INDEX idem.claim_pkey;
SELECT regress_guard.work('i10'), regress_guard.route(), regress_guard.intact();
REINDEX TABLE CONCURRENTLY idem.claim;
SELECT regress_guard.work('i11'), regress_guard.route(), regress_guard.intact();
REINDEX INDEX CONCURRENTLY idem.claim_pkey;
SELECT regress_guard.work('i12'), regress_guard.route(), regress_guard.intact();
VACUUM FULL idem.claim;
SELECT regress_guard.work('i13'), regress_guard.route(), regress_guard.intact();
CLUSTER idem.claim USING claim_pkey;
ALTER TABLE idem.claim SET WITHOUT CLUSTER;
SELECT regress_guard.work('i14'), regress_guard.route(), regress_guard.intact();
VACUUM (FREEZE, ANALYZE) idem.claim;
SELECT regress_guard.work('i15'), regress_guard.route(), regress_guard.intact();
-- emptied, and rolled back
BEGIN;
TRUNCATE idem.claim;
SELECT regress_guard.work('i15'), regress_guard.route(), regress_guard.intact();
ROLLBACK;
SELECT regress_guard.work('i16'), regress_guard.route(), regress_guard.intact(), idem_claim('guard', 'i15 a');

--
-- Columns and constraints
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('c1'), regress_guard.route();
ALTER TABLE idem.claim ADD CONSTRAINT regress CHECK (seq <> 'c checked');
SELECT regress_guard.work('c2'), regress_guard.route(), regress_guard.intact(), regress_guard.state($$SELECT idem_claim('guard', 'c checked')$$),
	   regress_guard.state($$SELECT * FROM idem_claim_batch('guard', '{c 2, c checked}')$$);
ALTER TABLE idem.claim DROP CONSTRAINT regress;
SELECT regress_guard.work('c3'), regress_guard.intact(), idem_claim('guard', 'c checked');
-- a column of somebody else's, with a default; rolled back, for a dropped one would leave its hole
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('c4'), regress_guard.route();
BEGIN;
ALTER TABLE idem.claim ADD COLUMN regress text DEFAULT 'by default';
SELECT regress_guard.work('c5'), regress_guard.route(), regress_guard.intact();
SELECT DISTINCT regress FROM idem.claim;
ALTER TABLE idem.claim DROP COLUMN regress;
SELECT regress_guard.work('c6'), regress_guard.intact();
ROLLBACK;
SELECT regress_guard.work('c5'), regress_guard.intact();
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('c7'), regress_guard.route();
BEGIN;
ALTER TABLE idem.claim ADD COLUMN regress int GENERATED ALWAYS AS (length(seq)) STORED;
SELECT regress_guard.work('c8'), regress_guard.route(), regress_guard.intact();
SELECT count(*) FROM idem.claim WHERE regress IS DISTINCT FROM length(seq);
ROLLBACK;
-- a type, as an upgrade might
BEGIN;
ALTER TABLE idem.claim ALTER COLUMN source TYPE varchar(300);
SELECT regress_guard.work('c9'), regress_guard.intact();
ROLLBACK;
SELECT regress_guard.work('c9'), regress_guard.intact();
-- NOT NULL where ours has none: the server's word, not ours
BEGIN;
DELETE FROM idem.claim;
ALTER TABLE idem.claim ALTER COLUMN request SET NOT NULL;
SELECT idem_claim('guard', 'c with', '{}'), regress_guard.state($$SELECT idem_claim('guard', 'c without')$$), regress_guard.state($$SELECT * FROM idem_claim_batch('guard', '{c without}')$$);
ROLLBACK;
-- a foreign key to it, which puts triggers on it
BEGIN;
CREATE TABLE regress_guard.ref (s text COLLATE "C", k text COLLATE "C", FOREIGN KEY (s, k) REFERENCES idem.claim (source, seq));
SELECT regress_guard.work('c10'), regress_guard.route(), regress_guard.intact();
INSERT INTO regress_guard.ref VALUES ('guard', 'c10 a');
SELECT regress_guard.state($$SELECT idem_forget('guard', 'c10 a')$$);
ROLLBACK;

--
-- Inheritance
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('h1'), regress_guard.route();
BEGIN;
CREATE TABLE regress_guard.child () INHERITS (idem.claim);
SELECT regress_guard.work('h2'), regress_guard.route(), regress_guard.intact();
SELECT count(*) FROM regress_guard.child;
ROLLBACK;
SELECT regress_guard.work('h2'), regress_guard.intact();
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('h3'), regress_guard.route();
BEGIN;
CREATE TABLE regress_guard.parent (source text COLLATE "C" NOT NULL, seq text COLLATE "C" NOT NULL);
ALTER TABLE idem.claim INHERIT regress_guard.parent;
SELECT regress_guard.work('h4'), regress_guard.intact();
ROLLBACK;

--
-- Unlogged, and logged again
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('u1'), regress_guard.route();
ALTER TABLE idem.claim SET UNLOGGED;
SELECT regress_guard.work('u2'), regress_guard.intact();
ALTER TABLE idem.claim SET LOGGED;
SELECT regress_guard.work('u3'), regress_guard.intact();

--
-- Stand-in for a distributed table, two: the name now belongs to a table whose rows are in partitions
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('d1'), regress_guard.route();
ALTER TABLE idem.claim RENAME TO claim_shell;
CREATE TABLE idem.claim (LIKE idem.claim_shell INCLUDING DEFAULTS, PRIMARY KEY (source, seq)) PARTITION BY HASH (source);
CREATE TABLE regress_guard.part_0 PARTITION OF idem.claim FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE regress_guard.part_1 PARTITION OF idem.claim FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT regress_guard.work('d2'), regress_guard.route(), regress_guard.intact();
SELECT count(*) FILTER (WHERE idem_claim('guard ' || i, 'd')) AS claimed FROM generate_series(1, 50) i;
SELECT count(DISTINCT tableoid) AS partitions, count(*) FROM idem.claim WHERE source LIKE 'guard %';
SELECT count(*) FROM generate_series(1, 50) i WHERE NOT idem_claim('guard ' || i, 'd');
SELECT bool_and(idem_respond('guard ' || i, 'd', to_json(i))) AS responded, bool_and(idem_response('guard ' || i, 'd')::text = i::text) AS right FROM generate_series(1, 50) i;
SELECT count(*) AS in_the_shell FROM idem.claim_shell WHERE seq LIKE 'd2%';
DROP TABLE idem.claim;
ALTER TABLE idem.claim_shell RENAME TO claim;
SELECT regress_guard.work('d2'), regress_guard.intact();
SELECT idem_claim('guard', 'd1 a'), idem_response('guard', 'd1 a');

-- and three: it is a view of one, of which nobody can say that a key is there once only
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('v1'), regress_guard.route();
BEGIN;
ALTER TABLE idem.claim RENAME TO claim_shell;
CREATE VIEW idem.claim AS SELECT * FROM idem.claim_shell;
SELECT regress_guard.work('v2');
ROLLBACK;
SELECT regress_guard.work('v2'), regress_guard.intact();

--
-- After all of this: the table is as it was, and reached directly
--
\c -
SET idem.force_sql = off;
SELECT regress_guard.work('z'), regress_guard.route(), regress_guard.intact();
SELECT bool_and(NOT idem_claim('guard', seq)) AS all_taken, count(*) > 100 AS many FROM idem.claim WHERE source = 'guard' AND status NOT IN ('o', 'r');
SELECT attname, format_type(atttypid, atttypmod), attnotnull, atthasdef FROM pg_attribute WHERE attrelid = 'idem.claim'::regclass AND attnum > 0 ORDER BY attnum;
SELECT relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions, relacl IS NOT DISTINCT FROM acldefault('r', relowner) AS privileges FROM pg_class WHERE oid = 'idem.claim'::regclass;
SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid) AS triggers, (SELECT count(*) FROM pg_rewrite WHERE ev_class = c.oid) AS rules, (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid) AS policies,
	   (SELECT count(*) FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent)) AS relatives, (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype NOT IN ('p', 'n')) AS constraints
FROM pg_class c WHERE oid = 'idem.claim'::regclass;
SELECT indexrelid::regclass, indisclustered, indisvalid FROM pg_index WHERE indrelid = 'idem.claim'::regclass ORDER BY indisprimary DESC;
SELECT count(*) AS dumped FROM pg_extension WHERE extname = 'idem' AND 'idem.claim'::regclass = ANY (extconfig);

DELETE FROM idem.claim WHERE source LIKE 'guard%';
SET client_min_messages = warning;
DROP SCHEMA regress_guard CASCADE;
REVOKE EXECUTE ON FUNCTION idem_forget FROM regress_guard_user;
DROP ROLE regress_guard_user, regress_guard_owner;
