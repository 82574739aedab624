-- Pins the truth table of idem_claim, idem_respond, idem_response and idem_lookup in one session.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- a status without its times, which differ from run to run
CREATE FUNCTION pg_temp.look(source text, seq text, OUT status text, OUT fence bigint, OUT response text,
							 OUT claimed boolean, OUT completed boolean, OUT leased boolean) LANGUAGE sql AS $$
	SELECT l.status, l.fence, l.response::text, l.claimed_at IS NOT NULL, l.completed_at IS NOT NULL, l.lease_until IS NOT NULL
	FROM idem_lookup($1, $2) l
$$;

-- a row in a state that only an attempt, or a cancellation, leaves
CREATE FUNCTION pg_temp.put(seq text, status "char", lease interval DEFAULT NULL, fence bigint DEFAULT 1,
							response json DEFAULT NULL, request bytea DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at, lease_until, request, response)
	VALUES ('claim', $1, current_user::regrole, $2, $4, clock_timestamp() - interval '1 hour',
			CASE WHEN $2 IN ('d', 'f', 'c') THEN clock_timestamp() END, clock_timestamp() + $3, $6, $5)
$$;

--
-- A key nobody has claimed
--
SELECT idem_response('claim', 'new') IS NULL AS no_response;
SELECT * FROM idem_lookup('claim', 'new');
SELECT idem_lookup('claim', 'new');
SELECT pg_temp.try($$SELECT idem_respond('claim', 'new', '{}')$$);

--
-- Claimed, then answered
--
SELECT idem_claim('claim', '1');
SELECT idem_claim('claim', '1');
SELECT idem_claim('claim', '1', NULL, false);
SELECT idem_claim('claim', '1', wait => false);
SELECT idem_response('claim', '1') IS NULL AS no_response;
SELECT * FROM pg_temp.look('claim', '1');
SELECT idem_respond('claim', '1', '{"order": 1}');
SELECT idem_respond('claim', '1', '{"order": 1}');
SELECT pg_temp.try($$SELECT idem_respond('claim', '1', '{"order": 2}')$$);
SELECT idem_response('claim', '1');
SELECT idem_claim('claim', '1');
SELECT * FROM pg_temp.look('claim', '1');
SELECT claimed_at BETWEEN now() - interval '1 hour' AND clock_timestamp() AS claimed_at,
	   completed_at BETWEEN claimed_at AND clock_timestamp() AS completed_at
FROM idem_lookup('claim', '1');
-- an answer may be the JSON null, which is an answer all the same
SELECT idem_claim('claim', 'null'), idem_respond('claim', 'null', 'null'), idem_respond('claim', 'null', 'null');
SELECT idem_response('claim', 'null');
SELECT * FROM pg_temp.look('claim', 'null');
SELECT pg_temp.try($$SELECT idem_respond('claim', 'null', '{}')$$);

--
-- Time is the clock's, not the transaction's
--
BEGIN;
SELECT pg_sleep(0.01);
SELECT idem_claim('claim', 'clock'), idem_respond('claim', 'clock', '{}');
SELECT claimed_at > now() AS claimed_later, completed_at > now() AS completed_later FROM idem_lookup('claim', 'clock');
COMMIT;

--
-- A key is source and seq, byte by byte
--
SELECT idem_claim('claim', 'ab'), idem_claim('claim', 'aB'), idem_claim('claim', 'ab '), idem_claim('claim', ' ab'),
	   idem_claim('claim', 'a'), idem_claim('claim', 'abc'), idem_claim('claim ', 'ab'), idem_claim('Claim', 'ab'),
	   idem_claim('claima', 'b');
-- composed and decomposed
SELECT idem_claim('claim', U&'\00e9'), idem_claim('claim', U&'e\0301'), idem_claim('claim', U&'\00e9');
-- characters that other formats give a meaning
SELECT idem_claim('claim', k), idem_claim('claim', k)
FROM unnest(ARRAY['''', '"', '\', '%', '_', ';--', '{}', '$1', E'\n', E'\t', E'\x01', 'NULL', '0', '00']) k;
-- the longest
SELECT idem_claim(rpad('claim', 255, 'x'), repeat('y', 1024)), idem_claim(rpad('claim', 255, 'x'), repeat('y', 1024)),
	   idem_claim(rpad('claim', 255, 'x'), repeat('y', 1023)), idem_claim(rpad('claim', 254, 'x'), repeat('y', 1024));
-- of random letters, which no index entry can compress
SELECT idem_claim(s, k), idem_claim(s, k), idem_respond(s, k, '1'), idem_response(s, k)
FROM (SELECT left('claim' || string_agg(md5('s' || i), ''), 255) s, left(string_agg(md5('k' || i), ''), 1024) k
	  FROM generate_series(1, 40) i OFFSET 0) r;

--
-- Calls in one statement see each other in order
--
SELECT idem_claim('claim', 'order'), idem_claim('claim', 'order'), idem_respond('claim', 'order', '{}');
SELECT idem_claim('claim', 'order 2'), idem_respond('claim', 'order 2', '{"a": 1}'), idem_response('claim', 'order 2'),
	   (idem_lookup('claim', 'order 2')).status, idem_respond('claim', 'order 2', '{"a": 1}'), idem_cancel('claim', 'order 2');
SELECT idem_claim('claim', 'order 3'), idem_forget('claim', 'order 3'), idem_forget('claim', 'order 3'),
	   idem_response('claim', 'order 3') IS NULL AS none, idem_claim('claim', 'order 3'), idem_claim('claim', 'order 3');
SELECT i, idem_claim('claim', 'order 4 ' || i % 3) FROM generate_series(1, 7) i;
WITH c AS MATERIALIZED (SELECT idem_claim('claim', 'order 5') AS first)
SELECT first, idem_claim('claim', 'order 5') AS second FROM c;
-- as a condition of the work: one row of two
CREATE TEMP TABLE work (i int);
INSERT INTO work SELECT i FROM generate_series(1, 2) i WHERE idem_claim('claim', 'order 6');
INSERT INTO work SELECT 3 WHERE idem_claim('claim', 'order 6');
SELECT * FROM work;

--
-- This very transaction: its own claims are taken, what it rolls back is free
--
BEGIN;
SELECT idem_claim('claim', 'own');
SELECT idem_claim('claim', 'own'), idem_claim('claim', 'own', wait => false);
SELECT * FROM pg_temp.look('claim', 'own');
SELECT idem_respond('claim', 'own', '1'), idem_response('claim', 'own');
ROLLBACK;
SELECT * FROM pg_temp.look('claim', 'own');
SELECT pg_temp.try($$SELECT idem_respond('claim', 'own', '1')$$);
SELECT idem_claim('claim', 'own');
SELECT * FROM pg_temp.look('claim', 'own');

-- an error takes the claim along
BEGIN;
SELECT idem_claim('claim', 'own 2');
SELECT 1 / 0;
SELECT idem_claim('claim', 'own 2');
COMMIT;
SELECT idem_claim('claim', 'own 2'), idem_claim('claim', 'own 2');
-- and so in one statement
SELECT idem_claim('claim', 'own 3'), 1 / (i - 1) FROM generate_series(1, 1) i;
SELECT idem_claim('claim', 'own 3');

-- savepoints
BEGIN;
SELECT idem_claim('claim', 'sp 1');
SAVEPOINT a;
SELECT idem_claim('claim', 'sp 1'), idem_claim('claim', 'sp 2'), idem_claim('claim', 'sp 2');
SAVEPOINT b;
SELECT idem_claim('claim', 'sp 2'), idem_claim('claim', 'sp 3'), idem_claim('claim', 'sp 3');
ROLLBACK TO b;
SELECT idem_claim('claim', 'sp 1'), idem_claim('claim', 'sp 2'), idem_claim('claim', 'sp 3'), idem_claim('claim', 'sp 3');
RELEASE b;
SELECT idem_claim('claim', 'sp 3');
ROLLBACK TO a;
SELECT idem_claim('claim', 'sp 1'), idem_claim('claim', 'sp 2'), idem_claim('claim', 'sp 3');
ROLLBACK TO a;
RELEASE a;
SELECT idem_claim('claim', 'sp 3');
COMMIT;
SELECT idem_claim('claim', 'sp 1'), idem_claim('claim', 'sp 2'), idem_claim('claim', 'sp 3');

-- an answer in a savepoint
SELECT idem_claim('claim', 'sp 4');
BEGIN;
SAVEPOINT a;
SELECT idem_respond('claim', 'sp 4', '"first"');
ROLLBACK TO a;
SELECT * FROM pg_temp.look('claim', 'sp 4');
SELECT idem_respond('claim', 'sp 4', '"second"');
SAVEPOINT b;
SELECT idem_respond('claim', 'sp 4', '"second"');
ROLLBACK TO b;
COMMIT;
SELECT idem_response('claim', 'sp 4');
BEGIN;
SAVEPOINT a;
SELECT idem_forget('claim', 'sp 4'), idem_claim('claim', 'sp 4'), idem_respond('claim', 'sp 4', '"third"'), idem_response('claim', 'sp 4');
ROLLBACK TO a;
SELECT idem_response('claim', 'sp 4'), idem_claim('claim', 'sp 4');
ROLLBACK;
SELECT idem_response('claim', 'sp 4');

-- PL/pgSQL's blocks, 100 deep and then in a row: more than the 64 that a backend advertises
CREATE FUNCTION pg_temp.nest(depth int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	fresh int := 0;
BEGIN
	IF depth = 0 THEN RETURN 0; END IF;
	BEGIN
		IF idem_claim('claim', 'deep ' || depth) THEN fresh := 1; END IF;
		fresh := fresh + pg_temp.nest(depth - 1);
		IF depth % 10 = 0 THEN RAISE EXCEPTION 'undo %', fresh; END IF;
	EXCEPTION WHEN raise_exception THEN
		-- this and all below is undone
		RETURN 0;
	END;
	RETURN fresh;
END $$;
SELECT pg_temp.nest(100);
SELECT count(*) FROM generate_series(1, 100) i WHERE idem_response('claim', 'deep ' || i) IS NULL AND (idem_lookup('claim', 'deep ' || i)).status IS NOT NULL;
SELECT pg_temp.nest(99);
SELECT count(*) FROM generate_series(1, 100) i WHERE (idem_lookup('claim', 'deep ' || i)).status = 'done';
SELECT pg_temp.nest(9), pg_temp.nest(9);
SELECT count(*) FROM generate_series(1, 100) i WHERE (idem_lookup('claim', 'deep ' || i)).status = 'done';

DO $$
DECLARE
	kept int := 0;
BEGIN
	FOR i IN 1 .. 300 LOOP
		BEGIN
			ASSERT idem_claim('claim', 'row ' || i), 'a new key';
			ASSERT NOT idem_claim('claim', 'row ' || i), 'taken by this block';
			IF i % 3 = 0 THEN RAISE EXCEPTION 'undo'; END IF;
		EXCEPTION WHEN raise_exception THEN
			ASSERT idem_claim('claim', 'row ' || i), 'free after the block failed';
			kept := kept + 1;
		END;
		ASSERT NOT idem_claim('claim', 'row ' || i), 'taken';
	END LOOP;
	RAISE NOTICE '% claimed again', kept;
END $$;
SELECT count(*) FROM idem.claim WHERE source = 'claim' AND seq LIKE 'row %';

--
-- The request is compared, whatever the order of its keys
--
SELECT idem_claim('claim', 'req', '{"a": 1, "b": {"c": [1, 2], "d": null}}');
SELECT idem_claim('claim', 'req', '{ "b":{"d":null,"c":[1,2]} , "a":1 }');
SELECT idem_claim('claim', 'req', '{"a": 7, "b": {"c": [1, 2], "d": null}, "a": 1}');
SELECT idem_claim('claim', 'req', NULL), idem_claim('claim', 'req');
SELECT pg_temp.try($$SELECT idem_claim('claim', 'req', '{"a": 2, "b": {"c": [1, 2], "d": null}}')$$);
SELECT pg_temp.try($$SELECT idem_claim('claim', 'req', '{"a": 1, "b": {"c": [2, 1], "d": null}}', false)$$);
SELECT pg_temp.try($$SELECT idem_claim('claim', 'req', 'null')$$);
SELECT idem_respond('claim', 'req', '{"ok": true}');
SELECT pg_temp.try($$SELECT idem_claim('claim', 'req', '{}')$$);
SELECT * FROM pg_temp.look('claim', 'req');

-- claimed without one: a duplicate writes nothing, so any request is as good
SELECT idem_claim('claim', 'noreq'), idem_claim('claim', 'noreq', '{"a": 1}'), idem_claim('claim', 'noreq', '{"a": 2}'), idem_claim('claim', 'noreq');

-- numbers that are equal, strings that are equal
SELECT n, a = b AS equal, idem_claim('claim', 'eq ' || n, a) AS first, pg_temp.try(format('SELECT idem_claim(%L, %L, %L)', 'claim', 'eq ' || n, b)) AS again
FROM (VALUES (1, '1'::jsonb, '1.0'::jsonb), (2, '{"a": 100}', '{"a": 1e2}'), (3, '[0]', '[-0]'), (4, '"\u00e9"', to_jsonb(U&'\00e9'::text)),
			 (5, '1', '1.0000000000000000000001'), (6, '"a"', '"A"'), (7, '{"a": [1.50, {"b": 0.0}]}', '{"a": [15e-1, {"b": 0}]}'),
			 (8, '[true]', '["true"]')) v (n, a, b);

-- each of these is another request than each other one
DO $$
DECLARE
	v jsonb[] := ARRAY['null', 'true', 'false', '0', '1', '-1', '10', '"1"', '"true"', '"null"', '""', '" "', '"{}"', '[]', '{}', '[[]]', '[{}]', '{"a": {}}',
		'[null]', '[true]', '[1]', '["1"]', '[1, 1]', '[[1], 1]', '[1, [1]]', '[[1, 1]]', '["a", "b"]', '["ab"]', '["b", "a"]', '["a", "b", ""]', '["", "a", "b"]',
		'{"a": 1}', '{"a": "1"}', '{"a": null}', '{"": 1}', '{"a": [1]}', '{"b": 1}', '{"aa": 1}', '{"a": 1, "b": 1}', '{"a": 1, "b": 2}', '{"a": 2, "b": 1}',
		'{"a": {"b": 1}}', '{"a": {"b": 1}, "c": 2}', '{"a": {"b": 1, "c": 2}}', '{"ab": 1}', '["a", 1]', '{"a": "b"}', '{"a": ["b"]}', '["a", ["b"]]',
		'123456789012345678901234567890', '123456789012345678901234567891', '0.1', '0.10000000000000000001', '1e300', '"\u0001"', '"\n"', '"\\n"',
		'"\u00e9"', '"e\u0301"'];
	wrong int := 0;
	answer text;
BEGIN
	v := v || to_jsonb(repeat('x', 100000)) || to_jsonb(repeat('x', 99999) || 'y') || to_jsonb(array_fill('{"a": 1}'::jsonb, ARRAY[5000]));
	FOR i IN 1 .. array_length(v, 1) LOOP
		ASSERT idem_claim('claim', 'pair ' || i, v[i]);
		FOR j IN 1 .. array_length(v, 1) LOOP
			BEGIN
				answer := idem_claim('claim', 'pair ' || i, v[j]);
			EXCEPTION WHEN SQLSTATE 'ID422' THEN
				answer := 'another';
			END;
			IF (answer = 'false') <> (i = j) THEN
				wrong := wrong + 1;
				RAISE WARNING '% and %: %', left(v[i]::text, 30), left(v[j]::text, 30), answer;
			END IF;
		END LOOP;
	END LOOP;
	RAISE NOTICE '% requests, % wrong', array_length(v, 1), wrong;
END $$;

--
-- Answers come back byte for byte
--
SELECT a, idem_claim('claim', 'byte ' || n), idem_respond('claim', 'byte ' || n, a::json), idem_response('claim', 'byte ' || n)::text = a AS same,
	   idem_respond('claim', 'byte ' || n, a::json) AS again, (idem_lookup('claim', 'byte ' || n)).response::text = a AS looked
FROM (VALUES (1, '{"b":1,"a" : 2 , "b": 3}'), (2, E' \t\n{ }\n '), (3, '1.50e+02'), (4, '"\u00e9\/"'), (5, '[ 1,2 ,  3]'), (6, '""'), (7, 'false'),
			 (8, '{"a":1}'), (9, '"\u0000"')) v (n, a);
-- the same value in other bytes is another answer
SELECT pg_temp.try($$SELECT idem_respond('claim', 'byte 8', '{"a": 1}')$$);
SELECT pg_temp.try($$SELECT idem_respond('claim', 'byte 7', 'false ')$$);
-- long ones: one that compresses, one that does not
CREATE TEMP TABLE long (n int, a json);
INSERT INTO long SELECT 1, to_json(repeat('0123456789', 104858));
INSERT INTO long SELECT 2, json_agg(md5(i::text)) FROM generate_series(1, 30000) i;
INSERT INTO long SELECT 3, to_json(repeat('x', 2100));
SELECT n, length(a::text) > 1048576 AS mb, idem_claim('claim', 'long ' || n), idem_respond('claim', 'long ' || n, a), idem_respond('claim', 'long ' || n, a) FROM long;
SELECT n, length(r::text) = length(a::text) AS length, md5(r::text) = md5(a::text) AS same
FROM (SELECT *, idem_response('claim', 'long ' || n) r FROM long) l;
SELECT n, (SELECT md5(response::text) FROM idem_lookup('claim', 'long ' || n)) = md5(a::text) AS same, idem_respond('claim', 'long ' || n, a) AS again FROM long;
-- a long other one: neither message nor detail holds all of it
SELECT left(e, 5) AS state, length(e) < 1000 AS short
FROM (SELECT pg_temp.try(format('SELECT idem_respond(%L, %L, to_json(repeat(%L, 2000000)))', 'claim', 'long 1', 'x')) e) t;

-- malformed: nothing is recorded
SELECT idem_claim('claim', 'malformed');
SELECT pg_temp.try($$SELECT idem_respond('claim', 'malformed', '{"a": ')$$);
SELECT left(pg_temp.try($$SELECT idem_claim('claim', 'malformed 2', '{"a"}')$$), 5) AS state;
SELECT left(pg_temp.try($$SELECT idem_respond('claim', 'malformed', '')$$), 5) AS state;
SELECT * FROM pg_temp.look('claim', 'malformed');
SELECT * FROM pg_temp.look('claim', 'malformed 2');
SELECT idem_respond('claim', 'malformed', '{}');

--
-- Keys that attempts hold, or that were cancelled
--
SELECT pg_temp.put('running', 'r', '1 hour'), pg_temp.put('expired', 'r', '-1 second', 4, NULL), pg_temp.put('open', 'o', NULL, 3, '"retry"'),
	   pg_temp.put('failed', 'f', NULL, 2, '{"no": "card"}'), pg_temp.put('failed 2', 'f', NULL, 2), pg_temp.put('cancelled', 'c', NULL, 0),
	   pg_temp.put('done', 'd', NULL, 5, '{"yes": 1}');
SELECT k, l.* FROM unnest('{running, expired, open, failed, failed 2, cancelled, done}'::text[]) k, pg_temp.look('claim', k) l;
SELECT k, idem_response('claim', k) FROM unnest('{running, expired, failed, failed 2, cancelled, done}'::text[]) k;
SELECT k, pg_temp.try(format('SELECT idem_claim(%L, %L)', 'claim', k)) FROM unnest('{running, expired}'::text[]) k;
SELECT k, pg_temp.try(format('SELECT idem_claim(%L, %L, wait => false)', 'claim', k)) FROM unnest('{running, expired}'::text[]) k;
SELECT k, idem_claim('claim', k), idem_claim('claim', k, '{"any": "request"}'), idem_claim('claim', k, wait => false)
FROM unnest('{failed, failed 2, cancelled, done}'::text[]) k;
SELECT k, pg_temp.try(format('SELECT idem_respond(%L, %L, %L)', 'claim', k, '{"late": 1}'))
FROM unnest('{running, expired, open, failed, failed 2, cancelled, done}'::text[]) k;
SELECT k, l.* FROM unnest('{running, expired, open, failed, failed 2, cancelled, done}'::text[]) k, pg_temp.look('claim', k) l;

-- open is claimed: fence 0, nothing of the attempt's answer left, the next one is a duplicate
SELECT idem_claim('claim', 'open', wait => false), idem_claim('claim', 'open');
SELECT * FROM pg_temp.look('claim', 'open');
SELECT claimed_at > now() - interval '30 minutes' AS anew FROM idem_lookup('claim', 'open');
SELECT idem_respond('claim', 'open', '"claimed"'), idem_response('claim', 'open');
-- rolled back, it is open again
SELECT pg_temp.put('open 2', 'o', NULL, 3);
BEGIN;
SELECT idem_claim('claim', 'open 2'), idem_claim('claim', 'open 2');
ROLLBACK;
SELECT * FROM pg_temp.look('claim', 'open 2');
BEGIN;
SAVEPOINT a;
SELECT idem_claim('claim', 'open 2');
ROLLBACK TO a;
SELECT idem_claim('claim', 'open 2'), idem_claim('claim', 'open 2');
COMMIT;
SELECT * FROM pg_temp.look('claim', 'open 2');

-- another request is ID422 whatever the status, and before anything else is judged; an open key takes the next one
SELECT idem_claim('claim', 'same', '{"a": 1}');
SELECT pg_temp.put(s.k || ' req', s.s, s.lease, 1, NULL, (SELECT request FROM idem.claim WHERE source = 'claim' AND seq = 'same'))
FROM (VALUES ('running', 'r'::"char", '1 hour'::interval), ('expired', 'r', '-1 hour'), ('open', 'o', NULL), ('failed', 'f', NULL), ('cancelled', 'c', NULL), ('done', 'd', NULL)) s (k, s, lease);
SELECT k, pg_temp.try(format('SELECT idem_claim(%L, %L, %L)', 'claim', k || ' req', '{"a": 2}')) FROM unnest('{running, expired, failed, cancelled, done}'::text[]) k;
SELECT k, left(pg_temp.try(format('SELECT idem_claim(%L, %L, %L, false)', 'claim', k || ' req', '{"a": 2}')), 5) FROM unnest('{running, expired, failed, cancelled, done}'::text[]) k;
SELECT k, left(pg_temp.try(format('SELECT idem_claim(%L, %L, %L)', 'claim', k || ' req', '{"a": 1}')), 5) FROM unnest('{running, expired}'::text[]) k;
SELECT k, idem_claim('claim', k || ' req', '{"a": 1}') FROM unnest('{failed, cancelled, done}'::text[]) k;
-- the work of an open key was given back undone: the next request replaces the recorded one
SELECT idem_claim('claim', 'open req', '{"a": 2}');
SELECT left(pg_temp.try($$SELECT idem_claim('claim', 'open req', '{"a": 1}')$$), 5), idem_claim('claim', 'open req', '{"a": 2}');
-- also by null, with which anything goes
SELECT pg_temp.put('open 4', 'o', NULL, 1, NULL, (SELECT request FROM idem.claim WHERE source = 'claim' AND seq = 'same'));
SELECT idem_claim('claim', 'open 4'), idem_claim('claim', 'open 4', '1'), idem_claim('claim', 'open 4', '2');
-- and one that had none gets that of the claim
SELECT pg_temp.put('open 3', 'o');
SELECT idem_claim('claim', 'open 3', '{"a": 1}');
SELECT left(pg_temp.try($$SELECT idem_claim('claim', 'open 3', '{"a": 2}')$$), 5), idem_claim('claim', 'open 3', '{"a": 1}');

--
-- Above read committed, alone: the same answers
--
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT idem_claim('claim', '1'), idem_response('claim', '1'), idem_claim('claim', 'rr'), idem_claim('claim', 'rr'), idem_respond('claim', 'rr', '1'), idem_response('claim', 'rr');
SAVEPOINT a;
SELECT idem_claim('claim', 'rr 2');
ROLLBACK TO a;
SELECT idem_claim('claim', 'rr 2'), idem_claim('claim', 'rr 2');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT idem_claim('claim', '1'), idem_response('claim', '1'), idem_claim('claim', 'ser'), idem_claim('claim', 'ser'), idem_respond('claim', 'ser', '1'), idem_response('claim', 'ser');
SAVEPOINT a;
SELECT idem_claim('claim', 'ser 2');
ROLLBACK TO a;
SELECT idem_claim('claim', 'ser 2'), idem_claim('claim', 'ser 2');
COMMIT;
SELECT idem_claim('claim', k) FROM unnest('{rr, rr 2, ser, ser 2}'::text[]) k;

-- a prepared transaction carries its claims: they are its own until it ends
SELECT current_setting('max_prepared_transactions')::int > 0 AS prepared \gset
\if :prepared
BEGIN;
SELECT idem_claim('claim', 'prepared 1') AS c \gset
PREPARE TRANSACTION 'regress_claim_1';
SELECT left(pg_temp.try($$SELECT idem_claim('claim', 'prepared 1', wait => false)$$), 5) = 'ID409' AS held \gset
COMMIT PREPARED 'regress_claim_1';
BEGIN;
SELECT idem_claim('claim', 'prepared 2') AS c \gset
PREPARE TRANSACTION 'regress_claim_2';
ROLLBACK PREPARED 'regress_claim_2';
\else
SELECT idem_claim('claim', 'prepared 1') AS c, true AS held \gset
\endif
SELECT :'held' AS held, idem_claim('claim', 'prepared 1'), idem_claim('claim', 'prepared 2');

DELETE FROM idem.claim WHERE source ~* '^claim';
