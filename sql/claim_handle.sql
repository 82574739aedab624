-- Pins idem_handle and what it has in common with idem_call: the marker, compare, wait, functions with further arguments, and
-- that the function is judged after any wait.
\set SHOW_CONTEXT never
CREATE ROLE regress_claim_handle;
CREATE SCHEMA regress_claim_handle;
GRANT USAGE ON SCHEMA regress_claim_handle TO PUBLIC;
SET search_path = regress_claim_handle, public;

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

CREATE TABLE effect (n serial, arg jsonb);
CREATE FUNCTION work(r jsonb) RETURNS jsonb LANGUAGE sql AS $$
	INSERT INTO regress_claim_handle.effect (arg) VALUES (r) RETURNING jsonb_build_object('order', n)
$$;

--
-- First, and again; the request compared; by every type of key
--
SELECT * FROM idem_handle('claim_handle', '1', 'work', '{"a": 1, "b": [2.0]}');
SELECT * FROM idem_handle('claim_handle', '1', 'work', '{"b": [2], "a": 1e0}');
SELECT * FROM idem_handle('claim_handle', 1, 'work', '{"a": 1, "b": [2]}', false);
SELECT (idem_handle('claim_handle', 1::bigint, 'work', '{"a": 1, "b": [2]}')).*;
SELECT idem_call('claim_handle', 1, 'work', '{"a": 1, "b": [2]}'), idem_response('claim_handle', 1), idem_claim('claim_handle', 1);
SELECT pg_temp.try($$SELECT * FROM idem_handle('claim_handle', '1', 'work', '{"a": 2}')$$);
SELECT * FROM idem_handle(source => 'claim_handle', seq => gen_random_uuid(), function => 'work', request => '1');
SELECT count(*) FROM effect;

--
-- A function that returns null answers JSON null, which is an answer
--
CREATE FUNCTION nothing(r jsonb) RETURNS json LANGUAGE sql AS 'SELECT NULL::json';
SELECT * FROM idem_handle('claim_handle', 'null', 'nothing', '1');
SELECT * FROM idem_handle('claim_handle', 'null', 'nothing', '1');
SELECT response, response IS NULL AS none FROM idem_lookup('claim_handle', 'null');
-- claimed by another transaction, and never answered: a replay of nothing
SELECT idem_claim('claim_handle', 'silent');
SELECT replayed, response IS NULL AS none FROM idem_handle('claim_handle', 'silent', 'work', '1');

--
-- An error of the function leaves the key free
--
CREATE FUNCTION raises(r jsonb) RETURNS json LANGUAGE plpgsql AS $$BEGIN RAISE 'no' USING ERRCODE = 'ZZ001'; END$$;
SELECT left(pg_temp.try($$SELECT idem_handle('claim_handle', 'raises', 'raises', '1')$$), 5);
SELECT * FROM idem_handle('claim_handle', 'raises', 'work', '"after"');

--
-- Compare: what the digest is made of, in place of the request
--
SELECT * FROM idem_handle('claim_handle', 'c', 'work', '{"sum": 7, "trace": "x1"}', compare => '{"sum": 7}');
SELECT * FROM idem_handle('claim_handle', 'c', 'work', '{"sum": 7, "trace": "x2"}', compare => '{"sum": 7.00}');
SELECT idem_call('claim_handle', 'c', 'work', '{"trace": "x3"}', true, '{"sum": 7}');
SELECT pg_temp.try($$SELECT idem_call('claim_handle', 'c', 'work', '{"sum": 7, "trace": "x1"}', compare => '{"sum": 8}')$$);
-- the request is another one than what was compared
SELECT left(pg_temp.try($$SELECT idem_call('claim_handle', 'c', 'work', '{"sum": 7, "trace": "x1"}')$$), 5);
-- idem_claim and idem_begin compare with the same digest
SELECT idem_claim('claim_handle', 'c', '{"sum": 7}'), left(pg_temp.try($$SELECT idem_claim('claim_handle', 'c', '{"sum": 9}')$$), 5);
SELECT status FROM idem_begin('claim_handle', 'c', request => '{"sum": 7}');
-- the function gets the request
SELECT arg FROM effect WHERE arg ? 'trace';
-- JSON null is compared, null is not given
SELECT * FROM idem_handle('claim_handle', 'cnull', 'work', '1', compare => 'null');
SELECT left(pg_temp.try($$SELECT idem_call('claim_handle', 'cnull', 'work', '1', compare => '1')$$), 5), left(pg_temp.try($$SELECT idem_call('claim_handle', 'cnull', 'work', '1', compare => NULL)$$), 5);

--
-- Further arguments take their defaults, evaluated by each call that runs
--
CREATE SEQUENCE ticket;
CREATE FUNCTION more(r jsonb, at timestamptz DEFAULT clock_timestamp(), n bigint DEFAULT nextval('regress_claim_handle.ticket'), who name DEFAULT current_user, tags text[] DEFAULT '{a,b}')
RETURNS jsonb LANGUAGE sql AS $$SELECT jsonb_build_object('r', r, 'recent', at > now() - interval '1 hour', 'n', n, 'who', who = current_user, 'tags', cardinality(tags))$$;
SELECT k, idem_call('claim_handle', 'more ' || k, 'more', to_jsonb(k)) FROM generate_series(1, 3) k;
SELECT k, idem_call('claim_handle', 'more ' || k, 'more', to_jsonb(k)) FROM generate_series(1, 4) k;
CREATE FUNCTION poly(r json, extra anyelement DEFAULT 1) RETURNS json LANGUAGE sql AS $$SELECT json_build_array(r, pg_typeof(extra), extra)$$;
SELECT idem_call('claim_handle', 'poly', 'poly', '{"x": 1}');
CREATE FUNCTION variadic_more(r json, VARIADIC rest int[] DEFAULT '{7,8}') RETURNS json LANGUAGE sql AS $$SELECT to_json(rest)$$;
SELECT idem_call('claim_handle', 'variadic', 'variadic_more', '1');
CREATE FUNCTION strict_more(r json, extra int DEFAULT NULL) RETURNS json LANGUAGE sql STRICT AS $$SELECT r$$;
SELECT idem_call('claim_handle', 'strict', 'strict_more', '1');
-- a default that fails is an error of the call
CREATE FUNCTION bad_default(r json, n int DEFAULT 1 / length('')) RETURNS json LANGUAGE sql AS $$SELECT r$$;
SELECT pg_temp.try($$SELECT idem_call('claim_handle', 'bad default', 'bad_default', '1')$$);
-- the function itself is run once, by the executor, also if it is immutable or could be inlined
CREATE FUNCTION counted(r jsonb, n int DEFAULT 0) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE NOTICE 'run'; RETURN r; END$$;
SELECT idem_call('claim_handle', 'counted', 'counted', '1');
-- one of them without a default
CREATE FUNCTION needs_two(r json, a int, b int DEFAULT 1) RETURNS json LANGUAGE sql AS $$SELECT r$$;
SELECT pg_temp.try($$SELECT idem_call('claim_handle', 'two', 'needs_two', '1')$$);

--
-- An overloaded function is named by its arguments
--
CREATE FUNCTION twice(r json) RETURNS json LANGUAGE sql AS $$SELECT '"json"'::json$$;
CREATE FUNCTION twice(r jsonb) RETURNS json LANGUAGE sql AS $$SELECT '"jsonb"'::json$$;
SELECT left(pg_temp.try($$SELECT idem_call('claim_handle', 'twice', 'twice', '1')$$), 5);
SELECT idem_call('claim_handle', 'twice 1', 'twice(json)'::regprocedure, '1'), idem_call('claim_handle', 'twice 2', 'twice(jsonb)'::regprocedure, '1');
SELECT idem_call('claim_handle', 'twice 3', 'regress_claim_handle.twice(jsonb)'::regprocedure, '1'), idem_call('claim_handle', 'twice 4', to_regprocedure('twice(json)'), '1');
PREPARE by_name AS SELECT idem_call('claim_handle', $1, $2::regprocedure, $3);
EXECUTE by_name('twice 5', 'twice(jsonb)', '1');

--
-- Errors of the arguments
--
SELECT pg_temp.try($$SELECT idem_handle('claim_handle', '1', NULL, '1')$$);
SELECT pg_temp.try($$SELECT idem_handle('claim_handle', '1', 'work', NULL)$$);
SELECT pg_temp.try($$SELECT idem_handle('claim_handle', '1', 'work', '1', NULL)$$);
SELECT pg_temp.try($$SELECT idem_handle(NULL, '1', 'work', '1')$$);
SELECT left(pg_temp.try($$SELECT idem_handle('claim_handle', now(), 'work', '1')$$), 5);
BEGIN READ ONLY;
SELECT left(pg_temp.try($$SELECT idem_handle('claim_handle', '1', 'work', '1')$$), 5);
COMMIT;
SELECT idem_cancel('claim_handle', 'cancelled');
SELECT pg_temp.try($$SELECT idem_handle('claim_handle', 'cancelled', 'work', '1')$$);
SELECT status FROM idem_begin('claim_handle', 'running');
SELECT left(pg_temp.try($$SELECT idem_handle('claim_handle', 'running', 'work', '1')$$), 5);
SELECT idem_fail('claim_handle', 'running', 1, '{"no": "card"}', false);
SELECT * FROM idem_handle('claim_handle', 'running', 'work', '1');
-- another role's key, before anything is told
SET ROLE regress_claim_handle;
SELECT left(pg_temp.try($$SELECT idem_handle('claim_handle', '1', 'work', '{"a": 2}')$$), 5), left(pg_temp.try($$SELECT idem_handle('claim_handle', '1', 'work', '{"a": 1, "b": [2]}')$$), 5);
RESET ROLE;

DELETE FROM idem.claim WHERE source = 'claim_handle';
SET client_min_messages = warning;
DROP SCHEMA regress_claim_handle CASCADE;
DROP ROLE regress_claim_handle;
