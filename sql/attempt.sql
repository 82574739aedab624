-- Pins the attempts: what begin, renew, complete and fail answer in every state of a key, whose the fence is, and every error with
-- DETAIL and HINT.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- what begin answers, and how long its lease is
CREATE FUNCTION pg_temp.start(seq text, ttl interval DEFAULT '30 seconds', request jsonb DEFAULT NULL, takeover boolean DEFAULT true,
	OUT status text, OUT fence bigint, OUT response json, OUT lease text) LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz := clock_timestamp();
	b record;
BEGIN
	SELECT * INTO b FROM idem_begin('attempt', seq, ttl, request, takeover);
	status := b.status; fence := b.fence; response := b.response;
	lease := CASE WHEN b.lease_until IS NULL THEN 'none' WHEN b.lease_until <= t THEN 'over'
		WHEN b.lease_until >= t + ttl THEN 'from now' ELSE 'shorter' END;
END $$;

-- lets a lease run out
CREATE FUNCTION pg_temp.expire(k text) RETURNS void LANGUAGE sql AS $$
	UPDATE idem.claim SET lease_until = clock_timestamp() - interval '1 second' WHERE source = 'attempt' AND seq = k AND status = 'r';
$$;

--
-- Granted, running, done
--
SELECT * FROM pg_temp.start('1');
SELECT * FROM pg_temp.start('1', '1 hour');
SELECT status, fence, response, completed_at IS NULL AS open_end, lease_until > claimed_at + interval '29 seconds' AS leased FROM idem_lookup('attempt', '1');
SELECT idem_response('attempt', '1');
SELECT idem_renew('attempt', '1', 1, '1 hour') BETWEEN clock_timestamp() + interval '59 minutes' AND clock_timestamp() + interval '1 hour' AS renewed;
-- less time is a renewal, too
SELECT idem_renew('attempt', '1', 1) < clock_timestamp() + interval '31 seconds' AS renewed;
SELECT idem_complete('attempt', '1', 1, '{ "paid":  7 }');
SELECT idem_complete('attempt', '1', 1, '{ "paid":  7 }') AS same_again;
SELECT * FROM pg_temp.start('1');
SELECT idem_response('attempt', '1');
SELECT status, fence, response, completed_at >= claimed_at AS ended, lease_until FROM idem_lookup('attempt', '1');
-- another answer, also only in spelling; no answer; the other ending; more time: all too late
SELECT pg_temp.try($$SELECT idem_complete('attempt', '1', 1, '{"paid": 7}')$$);
SELECT pg_temp.try($$SELECT idem_complete('attempt', '1', 1)$$);
SELECT pg_temp.try($$SELECT idem_fail('attempt', '1', 1, '{ "paid":  7 }')$$);
SELECT pg_temp.try($$SELECT idem_fail('attempt', '1', 1, '{ "paid":  7 }', false)$$);
SELECT pg_temp.try($$SELECT idem_renew('attempt', '1', 1)$$);
-- without an answer
SELECT * FROM pg_temp.start('2');
SELECT idem_complete('attempt', '2', 1), idem_complete('attempt', '2', 1) AS same_again;
SELECT * FROM pg_temp.start('2');

--
-- Expired: taken over, or reported
--
SELECT * FROM pg_temp.start('3');
SELECT pg_temp.expire('3');
SELECT * FROM pg_temp.start('3', takeover => false);
SELECT status, fence FROM idem_lookup('attempt', '3');
-- nobody else was granted it: its worker may renew late
SELECT idem_renew('attempt', '3', 1) > clock_timestamp() AS renewed;
SELECT * FROM pg_temp.start('3');
SELECT pg_temp.expire('3');
SELECT * FROM pg_temp.start('3');
-- the stalled worker goes on
SELECT pg_temp.try($$SELECT idem_renew('attempt', '3', 1)$$);
SELECT pg_temp.try($$SELECT idem_complete('attempt', '3', 1, '"late"')$$);
SELECT pg_temp.try($$SELECT idem_fail('attempt', '3', 1, '"late"', false)$$);
SELECT idem_complete('attempt', '3', 2, '"in time"');
SELECT pg_temp.try($$SELECT idem_complete('attempt', '3', 1, '"in time"')$$);
SELECT status, fence, response FROM idem_lookup('attempt', '3');
-- or completes late, and nobody was in between: the work was done once
SELECT * FROM pg_temp.start('4');
SELECT pg_temp.expire('4');
SELECT idem_complete('attempt', '4', 1, '"late"');
SELECT * FROM pg_temp.start('4');
-- a lease that really runs out
SELECT * FROM pg_temp.start('5', '1 millisecond');
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.start('5', takeover => false);
SELECT * FROM pg_temp.start('5');

--
-- Failed: open for the next one, or for good
--
SELECT * FROM pg_temp.start('6');
SELECT idem_fail('attempt', '6', 1, '"no route"'), idem_fail('attempt', '6', 1, '"no route"') AS same_again;
SELECT pg_temp.try($$SELECT idem_fail('attempt', '6', 1, '"busy"')$$);
SELECT pg_temp.try($$SELECT idem_fail('attempt', '6', 1, '"no route"', false)$$);
SELECT pg_temp.try($$SELECT idem_complete('attempt', '6', 1, '"no route"')$$);
-- what it failed with is there to be seen, but is no answer
SELECT status, fence, response, completed_at, lease_until FROM idem_lookup('attempt', '6');
SELECT idem_response('attempt', '6');
SELECT * FROM pg_temp.start('6', takeover => false);
SELECT pg_temp.try($$SELECT idem_fail('attempt', '6', 1, '"no route"')$$);
SELECT idem_fail('attempt', '6', 2, '"card refused"', false), idem_fail('attempt', '6', 2, '"card refused"', false) AS same_again;
SELECT * FROM pg_temp.start('6');
SELECT idem_response('attempt', '6');
SELECT status, fence, response, completed_at IS NOT NULL AS ended FROM idem_lookup('attempt', '6');
SELECT pg_temp.try($$SELECT idem_fail('attempt', '6', 2, '"card refused"')$$);

--
-- The request: compared before anything else is judged, whatever the state but open, where the next one replaces it, null too
--
SELECT * FROM pg_temp.start('7', request => '{"amount": 7, "to": "x"}');
SELECT * FROM pg_temp.start('7', request => '{"to": "x", "amount": 7.0}');
SELECT pg_temp.try($$SELECT * FROM pg_temp.start('7', request => '{"amount": 8, "to": "x"}')$$);
SELECT * FROM pg_temp.start('7');
SELECT pg_temp.expire('7');
SELECT left(pg_temp.try($$SELECT * FROM pg_temp.start('7', request => '8')$$), 5) AS expired;
SELECT idem_fail('attempt', '7', 1);
SELECT * FROM pg_temp.start('7', request => '9');
SELECT left(pg_temp.try($$SELECT * FROM pg_temp.start('7', request => '8')$$), 5) AS running;
SELECT idem_complete('attempt', '7', 2);
SELECT left(pg_temp.try($$SELECT * FROM pg_temp.start('7', request => '8')$$), 5) AS done;
SELECT left(pg_temp.try($$SELECT idem_claim('attempt', '7', '8')$$), 5) AS done;
SELECT * FROM pg_temp.start('8');
SELECT idem_fail('attempt', '8', 1);
SELECT * FROM pg_temp.start('8', request => '1');
SELECT left(pg_temp.try($$SELECT * FROM pg_temp.start('8', request => '2')$$), 5) AS kept;
SELECT idem_fail('attempt', '8', 2);
SELECT * FROM pg_temp.start('8');
SELECT * FROM pg_temp.start('8', request => '2');
-- a take-over keeps what was recorded, and records what was not
SELECT * FROM pg_temp.start('8a');
SELECT pg_temp.expire('8a');
SELECT * FROM pg_temp.start('8a', request => '1');
SELECT pg_temp.expire('8a');
SELECT * FROM pg_temp.start('8a');
SELECT left(pg_temp.try($$SELECT * FROM pg_temp.start('8a', request => '2')$$), 5) AS kept;

--
-- Unknown keys, and fences that never were
--
SELECT pg_temp.try($$SELECT idem_renew('attempt', 'x', 1)$$);
SELECT pg_temp.try($$SELECT idem_complete('attempt', 'x', 1)$$);
SELECT pg_temp.try($$SELECT idem_fail('attempt', 'x', 1)$$);
SELECT left(pg_temp.try(format('SELECT idem_renew(''attempt'', ''8'', %s)', f)), 5) AS renew,
	left(pg_temp.try(format('SELECT idem_complete(''attempt'', ''8'', %s)', f)), 5) AS complete,
	left(pg_temp.try(format('SELECT idem_fail(''attempt'', ''8'', %s)', f)), 5) AS fail
FROM unnest('{0, 1, 3, -1, 9223372036854775807, -9223372036854775808}'::bigint[]) f;

--
-- In one transaction, and one statement
--
BEGIN;
SELECT (idem_begin('attempt', '9')).status, (idem_begin('attempt', '9')).status, idem_complete('attempt', '9', 1, '1'), idem_complete('attempt', '9', 1, '1'), (idem_begin('attempt', '9')).status;
SAVEPOINT a;
SELECT (idem_begin('attempt', '10')).fence;
ROLLBACK TO a;
SELECT (idem_begin('attempt', '10')).fence, idem_fail('attempt', '10', 1), (idem_begin('attempt', '10')).fence, idem_fail('attempt', '10', 2), (idem_begin('attempt', '10')).fence;
SAVEPOINT b;
SELECT idem_complete('attempt', '10', 3, '1'), (idem_begin('attempt', '10')).status;
ROLLBACK TO b;
SELECT (idem_begin('attempt', '10')).status, idem_renew('attempt', '10', 3) > now() AS renewed, idem_complete('attempt', '10', 3, '2');
COMMIT;
SELECT * FROM pg_temp.start('10');
-- rolled back, it never was
BEGIN;
SELECT (idem_begin('attempt', '11')).fence;
ROLLBACK;
SELECT status FROM idem_lookup('attempt', '11');

--
-- An answer that is kept outside of the row is compared and returned whole
--
SELECT (idem_begin('attempt', 'long')).fence;
SELECT string_agg(md5(i::text), '') AS long FROM generate_series(1, 3000) i \gset
SELECT idem_complete('attempt', 'long', 1, to_json(:'long'::text)), idem_complete('attempt', 'long', 1, to_json(:'long'::text)) AS same_again;
SELECT left(pg_temp.try(format('SELECT idem_complete(''attempt'', ''long'', 1, to_json(%L::text))', :'long' || '1')), 5) AS longer;
SELECT response::text = to_json(:'long'::text)::text AS whole FROM pg_temp.start('long');

--
-- Arguments
--
SELECT call || E'\n' || pg_temp.try('SELECT ' || call) FROM unnest(ARRAY[
	$$idem_begin(NULL, '1')$$, $$idem_begin('attempt', '')$$, $$idem_begin('attempt', 'a', NULL)$$, $$idem_begin('attempt', 'a', '0')$$,
	$$idem_begin('attempt', 'a', '-1 second')$$, $$idem_begin('attempt', 'a', '1 second', NULL, NULL)$$, $$idem_begin(repeat('s', 256), 'a')$$,
	$$idem_renew('attempt', '10', NULL)$$, $$idem_renew('attempt', '10', 3, NULL)$$, $$idem_renew('attempt', '10', 3, '-1 month')$$,
	$$idem_complete('attempt', '10', NULL)$$, $$idem_complete('attempt', repeat('s', 1025), 1)$$,
	$$idem_fail('attempt', '10', NULL)$$, $$idem_fail('attempt', '10', 3, NULL, NULL)$$, $$idem_fail('', '10', 3)$$]) WITH ORDINALITY AS c (call, n) ORDER BY n;
-- nothing of that is there
SELECT count(*) FROM idem.claim WHERE source = 'attempt' AND seq = 'a';
BEGIN READ ONLY;
SELECT left(pg_temp.try($$SELECT idem_begin('attempt', 'a')$$), 5) AS begin, left(pg_temp.try($$SELECT idem_renew('attempt', '10', 3)$$), 5) AS renew,
	left(pg_temp.try($$SELECT idem_complete('attempt', '10', 3)$$), 5) AS complete, left(pg_temp.try($$SELECT idem_fail('attempt', '10', 3)$$), 5) AS fail;
COMMIT;

--
-- Another role
--
CREATE ROLE regress_attempt_a;
CREATE ROLE regress_attempt_b;
CREATE ROLE regress_attempt_m IN ROLE regress_attempt_a;
SET ROLE regress_attempt_a;
SELECT status, fence FROM idem_begin('attempt', 'role', request => '1');
SELECT idem_fail('attempt', 'role', 1);
SELECT (idem_begin('attempt', 'role 2')).fence;
SELECT status FROM idem_begin('attempt', 'role');
SET ROLE regress_attempt_b;
SELECT pg_temp.try($$SELECT idem_begin('attempt', 'role')$$);
SELECT left(pg_temp.try(c), 5) AS state, c AS call FROM unnest(ARRAY[$$SELECT idem_begin('attempt', 'role', request => '2')$$, $$SELECT idem_renew('attempt', 'role', 2)$$, $$SELECT idem_renew('attempt', 'role', 1)$$,
	$$SELECT idem_complete('attempt', 'role', 2)$$, $$SELECT idem_fail('attempt', 'role', 2)$$, $$SELECT idem_claim('attempt', 'role')$$, $$SELECT idem_cancel('attempt', 'role')$$]) c;
-- a member of the role is served, and the key stays that role's
SET ROLE regress_attempt_m;
SELECT status, fence FROM idem_begin('attempt', 'role');
SELECT idem_fail('attempt', 'role', 2);
SELECT status, fence FROM idem_begin('attempt', 'role');
SELECT idem_fail('attempt', 'role', 3), idem_fail('attempt', 'role 2', 1), idem_claim('attempt', 'role 2');
SET ROLE regress_attempt_a;
SELECT status, fence FROM idem_begin('attempt', 'role');
SELECT idem_respond('attempt', 'role 2', '"by a"');
RESET ROLE;
SELECT seq, owner, status, fence FROM idem.claim WHERE source = 'attempt' AND seq LIKE 'role%' ORDER BY seq;

DELETE FROM idem.claim WHERE source = 'attempt';
DROP ROLE regress_attempt_m, regress_attempt_b, regress_attempt_a;
