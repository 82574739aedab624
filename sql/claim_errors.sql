-- Pins every error of the claim functions, with SQLSTATE, message, DETAIL and HINT, and that none leaves anything behind.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- is every rule of errors kept? a message that starts in lower case, without period or function name; detail and hint are sentences
CREATE FUNCTION pg_temp.styled(stmt text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; detail text; hint text;
BEGIN
	EXECUTE stmt;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN state || CASE WHEN message ~ '^[a-z"]' AND message !~ 'idem_|\.$' AND detail ~ '^[A-Z"].*\.$' AND hint ~ '^[A-Z].*\.$' THEN ' ok' ELSE ' BAD ' || message || '|' || detail || '|' || hint END;
END $$;

-- every function, with %1$s for the key's arguments, and a statement to count what there is
CREATE TEMP TABLE calls (n serial, call text, reads boolean, admin boolean);
INSERT INTO calls (call, reads, admin) VALUES
	('SELECT idem_claim(%1$s)', false, false),
	('SELECT idem_claim(%1$s, NULL, false)', false, false),
	('SELECT idem_respond(%1$s, ''{}'')', false, false),
	('SELECT idem_response(%1$s)', true, false),
	('SELECT idem_lookup(%1$s)', true, false),
	('SELECT idem_call(%1$s, ''pg_temp.echo'', ''{}'')', false, false),
	('SELECT idem_cancel(%1$s)', false, false),
	('SELECT idem_forget(%1$s)', false, true);
CREATE FUNCTION pg_temp.echo(j json) RETURNS json LANGUAGE sql AS 'SELECT j';
SELECT count(*) AS rows FROM idem.claim \gset

--
-- The key: NULL, empty, too long
--
SELECT format(call, 'NULL, ''1''') || E'\n' || pg_temp.try(format(call, 'NULL, ''1''')) FROM calls ORDER BY n;
SELECT format(call, '''s'', NULL') || E'\n' || pg_temp.try(format(call, '''s'', NULL')) FROM calls ORDER BY n;
SELECT format(call, ''''', ''1''') || E'\n' || pg_temp.try(format(call, ''''', ''1''')) FROM calls ORDER BY n;
SELECT format(call, '''s'', ''''') || E'\n' || pg_temp.try(format(call, '''s'', ''''')) FROM calls ORDER BY n;
SELECT format(call, 'repeat(''s'', 256), ''1''') || E'\n' || pg_temp.try(format(call, 'repeat(''s'', 256), ''1''')) FROM calls ORDER BY n;
SELECT format(call, '''s'', repeat(''k'', 1025)') || E'\n' || pg_temp.try(format(call, '''s'', repeat(''k'', 1025)')) FROM calls ORDER BY n;
-- both wrong: the first one is named
SELECT pg_temp.try('SELECT idem_claim(NULL, NULL)');
SELECT pg_temp.try('SELECT idem_claim('''', '''')');
-- the limit counts bytes, not characters: 128 of two bytes are 256, 342 of three are 1026, 64 of four are 256
SELECT pg_temp.try($$SELECT idem_claim(repeat(U&'\00e9', 128), '1')$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', repeat(U&'\20ac', 342))$$);
SELECT pg_temp.try($$SELECT idem_claim(repeat(U&'\+01F600', 64), '1')$$);
-- far too long, stored elsewhere, compressed: only the length is told
CREATE TEMP TABLE long AS SELECT repeat('x', 3000000) AS k;
SELECT length(e) < 400, left(e, 5) FROM (SELECT pg_temp.try('SELECT idem_claim(k, ''1'') FROM long') e) t;
SELECT length(e) < 400, left(e, 5) FROM (SELECT pg_temp.try('SELECT idem_claim(''s'', k) FROM long') e) t;
SELECT count(*) - :rows AS left_behind FROM idem.claim;
-- exactly as long is fine, in every function
BEGIN;
SELECT idem_claim(s, k), idem_claim(s, k), idem_respond(s, k, '{}'), idem_response(s, k), (idem_lookup(s, k)).status, idem_call(s, k, 'pg_temp.echo', '{}'),
	   idem_cancel(s, k), idem_forget(s, k), idem_call(s, k, 'pg_temp.echo', '[]'), (SELECT claimed FROM idem_claim_batch(s, ARRAY[k]))
FROM (VALUES (repeat('s', 255), repeat('k', 1024)), (repeat(U&'\00e9', 127) || 'e', repeat(U&'\00e9', 512)), (repeat(U&'\20ac', 85), repeat(U&'\20ac', 341) || 'e')) v (s, k);
ROLLBACK;
-- a blank is a key
BEGIN;
SELECT idem_claim(' ', ' '), idem_claim(' ', ' '), idem_claim(' ', '  ');
ROLLBACK;

--
-- The other arguments
--
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', '1', NULL, NULL)$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', '1', wait => NULL)$$);
SELECT idem_claim('claim_errors', 'claimed'), idem_claim('claim_errors', 'claimed', '{"a": 1}');
-- for a key that is taken, too
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', 'claimed', NULL, NULL)$$);
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'claimed', NULL)$$);
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'unknown', NULL)$$);
SELECT pg_temp.try($$SELECT idem_call('claim_errors', '1', NULL, '{}')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_errors', '1', 'pg_temp.echo', NULL)$$);
-- malformed text of a type: that type's own error
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', '1', '{"a":')$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', '1', '"\u0000"')$$);
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'claimed', '{a: 1}')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_errors', '1', 'pg_temp.echo', '{"a"')$$);

-- batches
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch(NULL, '{1}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('', '{1}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch(repeat('s', 256), '{1}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch(repeat(U&'\00e9', 128), '{1}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', NULL)$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{1, NULL, 2}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{1, "", 2}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', ARRAY['1', repeat('k', 1025)])$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', ARRAY[repeat(U&'\20ac', 342), '1'])$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{{1, 2}, {3, 4}}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{{1}}')$$);
-- an error in the last of many claims none
SELECT left(pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', (SELECT array_agg('k' || i) || ''::text FROM generate_series(1, 1000) i))$$), 5);
-- an empty batch of a source that is wrong is an error all the same
SELECT left(pg_temp.try($$SELECT * FROM idem_claim_batch(NULL, '{}')$$), 5), left(pg_temp.try($$SELECT * FROM idem_claim_batch('', '{}')$$), 5);
-- where no set can be returned
SELECT left(pg_temp.try($$SELECT 1 WHERE (SELECT claimed FROM idem_claim_batch('claim_errors', '{b1, b2}'))$$), 5);
SELECT count(*) - :rows AS left_behind FROM idem.claim WHERE seq <> 'claimed';

-- purge: the procedure looks at its arguments before anything else; CALL in psql is a transaction of its own
\pset tuples_only off
-- without an age only what has a policy goes, and tokens that have expired
CALL idem_purge(NULL);
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('1 day', NULL);
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('-1 second');
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('0');
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('-1 month 1 day');
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('1 day', 0);
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('1 day', -1);
\echo :LAST_ERROR_SQLSTATE
BEGIN;
CALL idem_purge('1000 years');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
\pset tuples_only on

--
-- Nobody claimed, someone answers
--
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'unknown', '{}')$$);
BEGIN;
SAVEPOINT a;
SELECT idem_claim('claim_errors', 'unknown');
ROLLBACK TO a;
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'unknown', '{}')$$);
COMMIT;
SELECT idem_claim('claim_errors', 'gone'), idem_forget('claim_errors', 'gone');
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'gone', '{}')$$);

--
-- Conflicts
--
SELECT idem_respond('claim_errors', 'claimed', '{"a": 1}');
SELECT pg_temp.try($$SELECT idem_respond('claim_errors', 'claimed', '{"a": 2}')$$);
SELECT idem_claim('claim_errors', 'requested', '{"a": 1}');
SELECT pg_temp.try($$SELECT idem_claim('claim_errors', 'requested', '{"a": 2}')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_errors', 'requested', 'pg_temp.echo', '{"a": 2}')$$);
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, lease_until)
VALUES ('claim_errors', 'running', current_user::regrole, 'r', 3, now(), now() + interval '1 hour'),
	   ('claim_errors', 'expired', current_user::regrole, 'r', 4, now(), now() - interval '1 hour'),
	   ('claim_errors', 'open', current_user::regrole, 'o', 4, now(), NULL),
	   ('claim_errors', 'cancelled', current_user::regrole, 'c', 4, now(), NULL),
	   ('claim_errors', 'failed', current_user::regrole, 'f', 4, now(), NULL);
SELECT format(call, format('%L, %L', 'claim_errors', k)) || E'\n' || pg_temp.try(format(call, format('%L, %L', 'claim_errors', k)))
FROM calls, unnest('{running, expired}'::text[]) k WHERE call ~ 'claim\(|respond\(|call\(' ORDER BY n, k;
SELECT pg_temp.try($$SELECT idem_cancel('claim_errors', 'running')$$);
SELECT pg_temp.try($$SELECT idem_forget('claim_errors', 'running')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{b1, running, b2}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{b1, expired, b2}')$$);
SELECT pg_temp.try($$SELECT idem_call('claim_errors', 'cancelled', 'pg_temp.echo', '{}')$$);
SELECT k || E'\n' || pg_temp.try(format('SELECT idem_respond(%L, %L, %L)', 'claim_errors', k, '{}')) FROM unnest('{cancelled, failed, open}'::text[]) k;

--
-- The form of all of them
--
SELECT n, a, pg_temp.styled(format(call, a)) FROM calls,
	unnest(ARRAY['NULL, ''1''', ''''', ''1''', 'repeat(''s'', 256), ''1''', '''s'', NULL', '''s'', ''''', '''s'', repeat(''k'', 1025)',
				 '''claim_errors'', ''running''']) a
WHERE NOT (reads AND a ~ 'running') ORDER BY n, a;

--
-- A read-only transaction
--
SELECT idem_claim('claim_errors', 'ro 1'), idem_claim('claim_errors', 'ro 2'), idem_respond('claim_errors', 'ro 2', '{"a": 1}');
BEGIN READ ONLY;
SELECT format(call, format('%L, %L', 'claim_errors', 'ro')) || E'\n' || pg_temp.try(format(call, format('%L, %L', 'claim_errors', 'ro'))) FROM calls WHERE NOT reads ORDER BY n;
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{ro}')$$);
-- so it is for a key that is taken: who writes says so before it looks
SELECT format(call, format('%L, %L', 'claim_errors', 'ro 2')) || E'\n' || left(pg_temp.try(format(call, format('%L, %L', 'claim_errors', 'ro 2'))), 5) FROM calls WHERE NOT reads ORDER BY n;
SELECT left(pg_temp.try($$SELECT * FROM idem_claim_batch('claim_errors', '{ro 2}')$$), 5);
-- the reading ones answer
SELECT idem_response('claim_errors', 'ro'), idem_response('claim_errors', 'ro 1'), idem_response('claim_errors', 'ro 2');
SELECT (idem_lookup('claim_errors', 'ro')).status, (idem_lookup('claim_errors', 'ro 1')).status, (idem_lookup('claim_errors', 'ro 2')).response;
COMMIT;
\pset tuples_only off
SET default_transaction_read_only = on;
CALL idem_purge('1000 years');
\echo :LAST_ERROR_SQLSTATE
RESET default_transaction_read_only;
\pset tuples_only on
-- a transaction that became read-only after a claim of its own
BEGIN;
SELECT idem_claim('claim_errors', 'ro 3');
SET TRANSACTION READ ONLY;
SELECT left(pg_temp.try($$SELECT idem_claim('claim_errors', 'ro 3')$$), 5), left(pg_temp.try($$SELECT idem_respond('claim_errors', 'ro 3', '1')$$), 5);
SELECT (idem_lookup('claim_errors', 'ro 3')).status;
COMMIT;

--
-- In all of this nothing was left behind but what was claimed on purpose
--
SELECT string_agg(seq, ', ' ORDER BY seq) FROM idem.claim WHERE source = 'claim_errors';
DELETE FROM idem.claim WHERE source = 'claim_errors';
SELECT count(*) - :rows AS left_behind FROM idem.claim;
