-- Pins idem_call: claim, run as the caller, record, answer; a duplicate runs nothing; any error leaves the key free.
\set SHOW_CONTEXT never
CREATE ROLE regress_claim_call_user;
CREATE ROLE regress_claim_call_poor;
CREATE SCHEMA regress_claim_call;
GRANT USAGE ON SCHEMA regress_claim_call TO PUBLIC;
SET search_path = regress_claim_call, public;

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- the effects: one row for each run
CREATE TABLE effect (n serial, what text, arg text, by name DEFAULT current_user);
GRANT INSERT, SELECT ON effect TO regress_claim_call_user;
GRANT USAGE ON SEQUENCE effect_n_seq TO regress_claim_call_user;
CREATE FUNCTION jj(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what, arg) VALUES ('jj', r::text);
	RETURN '{ "order":  1,"order":2 }';
END $$;
CREATE FUNCTION jb(r json) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what, arg) VALUES ('jb', r::text);
	RETURN r::jsonb || '{"b": 1}';
END $$;
CREATE FUNCTION bj(r jsonb) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what, arg) VALUES ('bj', r::text);
	RETURN '[ ]';
END $$;
CREATE FUNCTION bb(r jsonb) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO regress_claim_call.effect (what, arg) VALUES ('bb', r::text) RETURNING jsonb_build_object('got', r)
$$;

--
-- json and jsonb, in and out: run once, answered ever after
--
SELECT f, idem_call('claim_call', f, f::regproc, '{"z" : 1,  "a": [1.0]}') AS first, idem_call('claim_call', f, f::regproc, '{"z" : 1,  "a": [1.0]}') AS again
FROM unnest('{jj, jb, bj, bb}'::text[]) f;
SELECT f, idem_call('claim_call', f, f::regproc, '{"a": [1.0], "z": 1}') AS again, idem_response('claim_call', f)::text AS recorded,
	   idem_claim('claim_call', f) AS claimed, (idem_lookup('claim_call', f)).status
FROM unnest('{jj, jb, bj, bb}'::text[]) f;
SELECT what, arg, by = current_user AS caller FROM effect ORDER BY n;
-- a duplicate does not care which function it names
SELECT idem_call('claim_call', 'jj', 'bb', '{"a": [1.0], "z": 1}');
SELECT count(*) FROM effect;
TRUNCATE effect;
-- fence, answer and times as by idem_claim and idem_respond
SELECT status, fence, response, completed_at >= claimed_at AS times, lease_until IS NULL AS no_lease FROM idem_lookup('claim_call', 'jj');
-- another request
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'jj', 'jj', '{"z": 2}')$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_call', 'jj', '{"z": 2}')$$);
SELECT idem_claim('claim_call', 'jj', '{"a": [1], "z": 1}');
SELECT count(*) FROM effect;
-- functions written in C: of core's own, which one takes a single json or jsonb depends on the version
CREATE FUNCTION trim_json(json) RETURNS json LANGUAGE internal STRICT AS 'btrim1';
CREATE FUNCTION same_jsonb(jsonb) RETURNS jsonb LANGUAGE internal STRICT AS 'xmltotext';
SELECT idem_call('claim_call', 'c json', 'trim_json', ' {"a": null, "b": 1} '), idem_call('claim_call', 'c jsonb', 'same_jsonb', ' {"a": null, "b": 1} ');
SELECT idem_call('claim_call', 'c json', 'trim_json', ' {"a": null, "b": 1} '), idem_call('claim_call', 'c jsonb', 'same_jsonb', ' {"a": null, "b": 1} ');
-- by OID, by qualified name, by a named argument
SELECT idem_call('claim_call', 'oid', to_regproc('regress_claim_call.jj'), '1'), idem_call('claim_call', 'oid 2', 'regress_claim_call.jj'::regproc::oid, '1'),
	   idem_call(source => 'claim_call', seq => 'oid 3', function => 'regress_claim_call.jj', request => '1');
-- many in one statement
SELECT count(idem_call('claim_call', 'many ' || i % 50, 'bb', to_jsonb(i % 50))) FROM generate_series(1, 1000) i;
SELECT count(*), count(DISTINCT arg) FROM effect WHERE what = 'bb';
TRUNCATE effect;
-- long requests and answers
SELECT length(idem_call('claim_call', 'long', 'trim_json', r)::text), idem_call('claim_call', 'long', 'trim_json', r)::text = r::text AS same
FROM (SELECT jsonb_agg(md5(i::text)) r FROM generate_series(1, 30000) i) l;
-- the call sees what is there, and what it did is seen after it
BEGIN;
SELECT idem_call('claim_call', 'seen', 'jj', '{}'), (SELECT count(*) FROM effect) AS before;
SELECT count(*) AS after FROM effect;
ROLLBACK;
SELECT idem_claim('claim_call', 'seen');
-- the function sees its own claim
CREATE FUNCTION sees(r json) RETURNS json LANGUAGE sql AS $$
	SELECT json_build_object('status', status, 'fence', fence, 'response', idem_response('claim_call', r ->> 0)) FROM idem_lookup('claim_call', r ->> 0)
$$;
SELECT idem_call('claim_call', 'sees', 'sees', '["sees"]');
-- a replaced function is the one that runs
CREATE FUNCTION changing(r json) RETURNS json LANGUAGE sql AS $$SELECT '1'::json$$;
SELECT idem_call('claim_call', 'v 1', 'regress_claim_call.changing', '{}');
CREATE OR REPLACE FUNCTION changing(r json) RETURNS json LANGUAGE plpgsql AS $$BEGIN RETURN '2'; END$$;
SELECT idem_call('claim_call', 'v 2', 'regress_claim_call.changing', '{}');
DROP FUNCTION changing;
CREATE FUNCTION changing(r jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT '3'::jsonb$$;
SELECT idem_call('claim_call', 'v 3', 'regress_claim_call.changing', '{}'), idem_call('claim_call', 'v 1', 'regress_claim_call.changing', '{}');

--
-- Null is recorded and answered as JSON null
--
CREATE FUNCTION nothing(r json) RETURNS json LANGUAGE plpgsql AS $$BEGIN INSERT INTO regress_claim_call.effect (what) VALUES ('nothing'); RETURN NULL; END$$;
CREATE FUNCTION noneb(r json) RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN INSERT INTO regress_claim_call.effect (what) VALUES ('noneb'); RETURN NULL; END$$;
CREATE FUNCTION json_null(r json) RETURNS json LANGUAGE plpgsql AS $$BEGIN INSERT INTO regress_claim_call.effect (what) VALUES ('json_null'); RETURN 'null'; END$$;
SELECT f, idem_call('claim_call', f, f::regproc, '1') AS first, idem_call('claim_call', f, f::regproc, '1') AS again, (idem_lookup('claim_call', f)).status, idem_claim('claim_call', f)
FROM unnest('{nothing, noneb, json_null}'::text[]) f;
SELECT what FROM effect ORDER BY n;
TRUNCATE effect;

--
-- Keys in every state
--
SELECT idem_claim('claim_call', 'claimed'), idem_claim('claim_call', 'answered'), idem_respond('claim_call', 'answered', '"by hand"');
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at, lease_until, response)
VALUES ('claim_call', 'running', current_user::regrole, 'r', 1, now(), NULL, now() + interval '1 hour', NULL),
	   ('claim_call', 'expired', current_user::regrole, 'r', 1, now(), NULL, now() - interval '1 second', NULL),
	   ('claim_call', 'open', current_user::regrole, 'o', 7, now(), NULL, NULL, '"try again"'),
	   ('claim_call', 'failed', current_user::regrole, 'f', 1, now(), now(), NULL, '{"no": "card"}'),
	   ('claim_call', 'failed 2', current_user::regrole, 'f', 1, now(), now(), NULL, NULL),
	   ('claim_call', 'cancelled', current_user::regrole, 'c', 0, now(), now(), NULL, NULL),
	   ('claim_call', 'done', current_user::regrole, 'd', 2, now(), now(), NULL, '{"yes": 1}');
SELECT k, idem_call('claim_call', k, 'jj', '{}') FROM unnest('{claimed, answered, failed, failed 2, done}'::text[]) k;
SELECT k, pg_temp.try(format('SELECT idem_call(%L, %L, %L, %L)', 'claim_call', k, 'jj', '{}')) FROM unnest('{running, expired, cancelled}'::text[]) k;
SELECT count(*) FROM effect;
SELECT idem_call('claim_call', 'open', 'jj', '{}'), idem_call('claim_call', 'open', 'jj', '{}');
SELECT count(*) FROM effect;
SELECT status, fence, response FROM idem_lookup('claim_call', 'open');
TRUNCATE effect;
-- a key that this very transaction has claimed and not answered is a mistake: nothing would run, and nothing is there to replay
BEGIN;
SELECT idem_claim('claim_call', 'own'), pg_temp.try($$SELECT idem_call('claim_call', 'own', 'jj', '{}')$$);
SELECT pg_temp.try($$SELECT idem_handle('claim_call', 'own', 'jj', '{}')$$);
-- also if it was claimed in a savepoint, by a batch, or when it was open
SAVEPOINT a;
SELECT idem_claim('claim_call', 'own 3'), (SELECT claimed FROM idem_claim_batch('claim_call', '{own 4}')), idem_claim('claim_call', 'own 5');
RELEASE a;
SELECT k, left(pg_temp.try(format('SELECT idem_call(%L, %L, %L, %L)', 'claim_call', k, 'jj', '{}')), 5) FROM unnest('{own 3, own 4, own 5}'::text[]) k;
-- answered, called, or given back by a rollback it is none
SELECT idem_respond('claim_call', 'own', '"by hand"'), idem_call('claim_call', 'own', 'jj', '{}');
SELECT idem_call('claim_call', 'own 2', 'jj', '{}'), idem_call('claim_call', 'own 2', 'jj', '{}');
-- nor is an attempt that ended without an answer
SELECT fence FROM idem_begin('claim_call', 'own 6');
SELECT idem_complete('claim_call', 'own 6', 1), idem_call('claim_call', 'own 6', 'jj', '{}') IS NULL AS none;
COMMIT;
SELECT idem_call('claim_call', 'own 3', 'jj', '{}') IS NULL AS none, (h).replayed, (h).response FROM idem_handle('claim_call', 'own 4', 'jj', '{}') h;
SELECT count(*) FROM effect;
TRUNCATE effect;

--
-- Rolled back, it may run again
--
BEGIN;
SELECT idem_call('claim_call', 'rb', 'jj', '{}');
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT idem_call('claim_call', 'rb', 'jj', '{}');
ROLLBACK TO a;
SELECT idem_call('claim_call', 'rb', 'jj', '{}'), idem_call('claim_call', 'rb', 'jj', '{}');
COMMIT;
SELECT idem_call('claim_call', 'rb', 'jj', '{}');
SELECT count(*) FROM effect;
TRUNCATE effect;

--
-- A function that raises: its error as it is, the key free, no effect
--
CREATE FUNCTION raises(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('raises');
	IF r ->> 0 = 'raise' THEN
		RAISE EXCEPTION 'out of stock' USING ERRCODE = 'ZZ001', DETAIL = 'None left.', HINT = 'Wait.';
	END IF;
	RETURN '"sold"';
END $$;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'raises', 'raises', '["raise"]')$$);
SELECT status IS NULL AS free FROM idem_lookup('claim_call', 'raises');
SELECT idem_call('claim_call', 'raises', 'raises', '["raise"]');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM effect;
SELECT idem_call('claim_call', 'raises', 'raises', '["another request"]');
SELECT count(*) FROM effect;
-- raising after it has caught an error of its own
CREATE FUNCTION catches(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO regress_claim_call.effect (what) VALUES ('undone');
		PERFORM idem_claim('claim_call', 'inner');
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN
		RETURN '"caught"';
	END;
END $$;
SELECT idem_call('claim_call', 'catches', 'catches', '1'), idem_claim('claim_call', 'inner'), idem_call('claim_call', 'catches', 'catches', '1');
SELECT count(*) FROM effect;
TRUNCATE effect;

--
-- Functions that do not fit, and none at all: nothing is claimed
--
CREATE FUNCTION takes_text(r text) RETURNS json LANGUAGE sql AS $$SELECT '1'::json$$;
CREATE FUNCTION takes_any(r anyelement) RETURNS anyelement LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION takes_none() RETURNS json LANGUAGE sql AS $$SELECT '1'::json$$;
CREATE FUNCTION takes_two(r json, s json) RETURNS json LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION takes_default(r json, s int DEFAULT 1) RETURNS json LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION takes_many(VARIADIC r json[]) RETURNS json LANGUAGE sql AS $$SELECT r[1]$$;
CREATE FUNCTION gives_text(r json) RETURNS text LANGUAGE sql AS $$SELECT '1'::text$$;
CREATE FUNCTION gives_void(r json) RETURNS void LANGUAGE sql AS $$SELECT$$;
CREATE FUNCTION gives_set(r json) RETURNS SETOF json LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION gives_table(r json) RETURNS TABLE (a json) LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION gives_two(r json, OUT a json, OUT b json) LANGUAGE sql AS $$SELECT r, r$$;
CREATE FUNCTION gives_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE PROCEDURE is_procedure(r json) LANGUAGE sql AS $$SELECT$$;
CREATE PROCEDURE is_procedure_out(r json, OUT a json) LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION state(s json, r json) RETURNS json LANGUAGE sql AS $$SELECT r$$;
CREATE AGGREGATE is_aggregate(json) (sfunc = state, stype = json);
CREATE FUNCTION twice(r json) RETURNS json LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION twice(r jsonb) RETURNS jsonb LANGUAGE sql AS $$SELECT r$$;
SELECT f, pg_temp.try(format('SELECT idem_call(%L, %L, %L, %L)', 'claim_call', 'bad ' || f, f, '{}'))
FROM unnest('{takes_text, takes_any, takes_none, takes_two, takes_default, takes_many, gives_text, gives_void, gives_set, gives_table, gives_two, gives_trigger,
	is_procedure, is_procedure_out, is_aggregate, twice, no_such, "", -, 0, 4294967295, row_number, json_in}'::text[]) f;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'bad', NULL, '{}')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'bad', 4294967295::oid::regproc, '{}')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'bad', 'jj(json)', '{}')$$);
-- a request that cannot be compared
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'bad', 'jj', '"\u0000"')$$);
-- one that gives a single OUT argument is as good as RETURNS
CREATE FUNCTION gives_out(r json, OUT a json) LANGUAGE sql AS $$SELECT r$$;
CREATE FUNCTION gives_inout(INOUT r jsonb) LANGUAGE sql AS $$SELECT r$$;
SELECT idem_call('claim_call', 'out', 'gives_out', '[1]'), idem_call('claim_call', 'inout', 'gives_inout', '[1]');
-- dropped since
SELECT 'takes_two'::regproc::oid AS gone \gset
DROP FUNCTION takes_two;
SELECT left(pg_temp.try(format('SELECT idem_call(%L, %L, %s::oid, %L)', 'claim_call', 'bad', :gone, '{}')), 5);
-- of a duplicate the function is not even looked at: none runs
SELECT f, idem_call('claim_call', 'out', f::regproc, '[1]') FROM unnest('{takes_text, gives_set}'::text[]) f;
SELECT seq FROM idem.claim WHERE source = 'claim_call' AND seq LIKE 'bad%' ORDER BY seq;

--
-- Functions that use their own key
--
CREATE FUNCTION claims(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('claims');
	RETURN json_build_array(idem_claim('claim_call', r ->> 0), idem_claim('claim_call', r ->> 0, NULL, false),
							(SELECT claimed FROM idem_claim_batch('claim_call', ARRAY[r ->> 0])));
END $$;
SELECT idem_call('claim_call', 'self claim', 'claims', '["self claim"]'), idem_call('claim_call', 'self claim', 'claims', '["self claim"]');
CREATE FUNCTION calls(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('calls');
	RETURN idem_call('claim_call', r ->> 0, 'regress_claim_call.calls', r::jsonb);
END $$;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self call', 'calls', '["self call"]')$$);
-- caught by the function: it is told, and its own answer counts
CREATE FUNCTION calls_caught(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('calls_caught');
	PERFORM idem_call('claim_call', r ->> 0, 'regress_claim_call.calls_caught', r::jsonb);
	RETURN '"not told"';
EXCEPTION WHEN SQLSTATE 'ID409' THEN
	RETURN '"told"';
END $$;
SELECT idem_call('claim_call', 'self caught', 'calls_caught', '["self caught"]'), idem_call('claim_call', 'self caught', 'calls_caught', '["self caught"]');
CREATE FUNCTION responds(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('responds');
	PERFORM idem_respond('claim_call', r ->> 0, (r ->> 1)::json);
	RETURN r ->> 2;
END $$;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self same', 'responds', '["self same", "1", "1"]')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self other', 'responds', '["self other", "1", "2"]')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self null', 'responds', '["self null", "1", null]')$$);
CREATE FUNCTION cancels(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('cancels');
	RETURN to_json(idem_cancel('claim_call', r ->> 0));
END $$;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self cancel', 'cancels', '["self cancel"]')$$);
CREATE FUNCTION forgets(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('forgets');
	RETURN to_json(idem_forget('claim_call', r ->> 0));
END $$;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self forget', 'forgets', '["self forget"]')$$);
CREATE FUNCTION forgets_and_claims(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('forgets_and_claims');
	PERFORM idem_forget('claim_call', r ->> 0), idem_claim('claim_call', r ->> 0);
	RETURN '"anew"';
END $$;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'self anew', 'forgets_and_claims', '["self anew"]')$$);
-- whatever they did: an effect is there exactly if its key is
SELECT what FROM effect WHERE what <> 'calls' ORDER BY n;
SELECT k, status, response FROM unnest('{self claim, self call, self caught, self same, self other, self null, self cancel, self forget, self anew}'::text[]) k, idem_lookup('claim_call', k);
TRUNCATE effect;

--
-- Calls within calls, with keys of their own
--
CREATE FUNCTION descend(r json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	depth int := (r ->> 0)::int;
BEGIN
	INSERT INTO regress_claim_call.effect (what, arg) VALUES ('descend', depth);
	IF depth = 0 THEN RETURN '[]'; END IF;
	RETURN jsonb_build_array(idem_call('claim_call', 'depth ' || depth - 1, 'regress_claim_call.descend', jsonb_build_array(depth - 1)));
END $$;
SELECT idem_call('claim_call', 'depth 3', 'descend', '[3]'), idem_call('claim_call', 'depth 2', 'descend', '[2]'), idem_call('claim_call', 'depth 20', 'descend', '[20]');
SELECT count(*), count(DISTINCT arg) FROM effect;
TRUNCATE effect;
-- the inner one fails: so does the outer, and both keys are free
CREATE FUNCTION outer_raises(r json) RETURNS json LANGUAGE plpgsql AS $$BEGIN RETURN idem_call('claim_call', 'inner raises', 'regress_claim_call.raises', '["raise"]'); END$$;
SELECT left(pg_temp.try($$SELECT idem_call('claim_call', 'outer raises', 'outer_raises', '1')$$), 5), (idem_lookup('claim_call', 'outer raises')).status, (idem_lookup('claim_call', 'inner raises')).status;

--
-- As the caller
--
CREATE FUNCTION effect_only(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO regress_claim_call.effect (what) VALUES ('effect_only');
	RETURN json_build_array(current_user, session_user = current_user);
END $$;
SET ROLE regress_claim_call_user;
SELECT idem_call('claim_call', 'as user', 'effect_only', '1'), current_user;
SET ROLE regress_claim_call_poor;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'as poor', 'effect_only', '1')$$), current_user;
SELECT status IS NULL AS free FROM idem_lookup('claim_call', 'as poor');
SELECT idem_call('claim_call', 'as poor', 'regress_claim_call.trim_json', '2');
-- nor does the function get at idem's own table
CREATE FUNCTION pg_temp.steals(r json) RETURNS json LANGUAGE sql AS $$SELECT json_agg(c) FROM idem.claim c$$;
RESET ROLE;
CREATE FUNCTION steals_later(r json) RETURNS json LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT json_agg(c) FROM idem.claim c); END$$;
SET ROLE regress_claim_call_poor;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'steals', 'steals_later', '1')$$);
RESET ROLE;
SELECT what, by FROM effect ORDER BY n;
SELECT seq, owner FROM idem.claim WHERE source = 'claim_call' AND seq LIKE 'as %' ORDER BY seq;
-- may not execute it
REVOKE EXECUTE ON FUNCTION jj FROM PUBLIC;
SET ROLE regress_claim_call_user;
SELECT pg_temp.try($$SELECT idem_call('claim_call', 'not granted', 'jj', '{}')$$);
SELECT status IS NULL AS free FROM idem_lookup('claim_call', 'not granted');
RESET ROLE;
GRANT EXECUTE ON FUNCTION jj TO regress_claim_call_user;
SET ROLE regress_claim_call_user;
SELECT idem_call('claim_call', 'not granted', 'jj', '{}');
RESET ROLE;
-- a function of another's rights runs with those, the key is the caller's
CREATE FUNCTION definer(r json) RETURNS json LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$SELECT to_json(current_user = r ->> 0)$$;
SET ROLE regress_claim_call_poor;
SELECT idem_call('claim_call', 'definer', 'definer', '["regress_claim_call_poor"]'), current_user;
RESET ROLE;
SELECT owner FROM idem.claim WHERE source = 'claim_call' AND seq = 'definer';
-- settings of the function end with it
CREATE FUNCTION sets(r json) RETURNS json LANGUAGE sql SET statement_timeout = '1h' AS $$SELECT to_json(current_setting('statement_timeout'))$$;
SELECT idem_call('claim_call', 'sets', 'sets', '1'), current_setting('statement_timeout') = '1h' AS kept;

-- and it is counted like any function that a statement calls: once, and not if it is strict and not called
CREATE FUNCTION is_counted(r json, n int DEFAULT 1) RETURNS json LANGUAGE plpgsql AS 'BEGIN RETURN r; END';
CREATE FUNCTION not_called(r json, n int DEFAULT NULL) RETURNS json LANGUAGE plpgsql STRICT AS 'BEGIN RETURN r; END';
BEGIN;
SET LOCAL track_functions = 'all';
SELECT idem_call('claim_call', 'counted sets', 'sets', '1'), pg_stat_get_xact_function_calls('sets'::regproc);
SELECT idem_call('claim_call', 'counted', 'is_counted', '1'), pg_stat_get_xact_function_calls('is_counted'::regproc);
SELECT idem_call('claim_call', 'not counted', 'not_called', '1'), pg_stat_get_xact_function_calls('not_called'::regproc);
ROLLBACK;

--
-- A strict one, and one that is in no schema of the path
--
CREATE FUNCTION is_strict(r json) RETURNS json LANGUAGE sql STRICT AS $$SELECT r$$;
SET search_path = pg_catalog;
SELECT public.idem_call('claim_call', 'strict', 'regress_claim_call.is_strict', ' null '), public.idem_call('claim_call', 'strict', 'regress_claim_call.is_strict', 'null');
RESET search_path;

--
-- An administrator's function moves the row of the call that runs it, in its file or into another one, puts another row in its
-- place, switches the route, or removes it
--
CREATE FUNCTION admin(r json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE r ->> 0;
	RETURN to_json(r ->> 1);
END $$;
SELECT idem_claim('claim_call', 'a row before it');
SELECT idem_call('claim_call', 'moved', 'admin', $$["UPDATE idem.claim SET request = request WHERE source = 'claim_call'", "moved"]$$);
-- so that the row lies behind the end of the file that CLUSTER makes
SELECT count(idem_claim('claim_call', 'dead ' || i)) FROM generate_series(1, 500) AS i;
DELETE FROM idem.claim WHERE seq LIKE 'dead %';
SELECT idem_call('claim_call', 'rewritten', 'admin', '["CLUSTER idem.claim USING claim_pkey", "rewritten"]');
SELECT idem_call('claim_call', 'in another place', 'admin',
	$$["CREATE TEMP TABLE t AS SELECT * FROM idem.claim; TRUNCATE idem.claim; INSERT INTO idem.claim SELECT * FROM t ORDER BY seq DESC; DROP TABLE t", "in another place"]$$);
-- a second TRUNCATE of a transaction keeps the file, and another row takes the place
BEGIN;
TRUNCATE idem.claim;
SELECT idem_call('claim_call', 'in its place', 'admin',
	$$["CREATE TEMP TABLE t AS SELECT * FROM idem.claim; TRUNCATE idem.claim; INSERT INTO idem.claim (source, seq, owner, status, fence) SELECT source, 'another', owner, 'd', 0 FROM t; INSERT INTO idem.claim SELECT * FROM t; DROP TABLE t", "in its place"]$$);
SELECT seq, status, response FROM idem.claim ORDER BY seq;
ROLLBACK;
BEGIN;
TRUNCATE idem.claim;
SELECT idem_call('claim_call', 'truncated', 'admin', '["TRUNCATE idem.claim", "truncated"]');
ROLLBACK;
SELECT idem_call('claim_call', 'other route', 'admin',
	$$["SELECT set_config('idem.force_sql', (NOT current_setting('idem.force_sql')::bool)::text, false)", "other route"]$$);
RESET idem.force_sql;
ALTER TABLE idem.claim SET WITHOUT CLUSTER;
SELECT idem_call('claim_call', 'removed', 'admin', $$["DELETE FROM idem.claim WHERE seq = 'removed'", "removed"]$$);
SELECT seq, status, response FROM idem.claim WHERE source = 'claim_call' AND response::text = to_json(seq)::text ORDER BY seq;

DELETE FROM idem.claim WHERE source = 'claim_call';
SET client_min_messages = warning;
DROP SCHEMA regress_claim_call CASCADE;
DROP ROLE regress_claim_call_user, regress_claim_call_poor;
