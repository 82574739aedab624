-- Pins what claims and attempts do with each other's keys: claim, batch, call, respond, cancel, forget and purge of keys that an
-- attempt holds, gave back or ended, and attempts at keys that were claimed or cancelled.
\set SHOW_CONTEXT never

-- the answer of a call, or how it failed
CREATE FUNCTION pg_temp.say(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r text;
BEGIN
	EXECUTE 'SELECT ' || call INTO r;
	RETURN coalesce(r, 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate || ' ' || sqlerrm;
END $$;
CREATE FUNCTION public.regress_attempt_claim_echo(r json) RETURNS json LANGUAGE sql AS $$SELECT '"ran"'::json$$;

-- a key in each state an attempt can leave it in
CREATE FUNCTION pg_temp.make(k text, state text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM idem_begin('attempt_claim', k);
	IF state = 'expired' THEN
		UPDATE idem.claim SET lease_until = clock_timestamp() - interval '1 second' WHERE source = 'attempt_claim' AND seq = k;
	ELSIF state = 'open' THEN
		PERFORM idem_fail('attempt_claim', k, 1, '"why"');
	ELSIF state = 'done' THEN
		PERFORM idem_complete('attempt_claim', k, 1, '"answer"');
	ELSIF state = 'failed' THEN
		PERFORM idem_fail('attempt_claim', k, 1, '"failure"', false);
	ELSIF state = 'cancelled' THEN
		PERFORM idem_fail('attempt_claim', k, 1), idem_cancel('attempt_claim', k);
	END IF;
END $$;

-- every function on every state: the answer, and the key after
CREATE TEMP TABLE state (n serial, name text);
INSERT INTO state (name) VALUES ('running'), ('expired'), ('open'), ('done'), ('failed'), ('cancelled');
CREATE TEMP TABLE call (n serial, name text, text text);
INSERT INTO call (name, text) VALUES
	('claim', $$idem_claim('attempt_claim', %L)$$),
	('claim at once', $$idem_claim('attempt_claim', %L, wait => false)$$),
	('batch', $$(claimed, b.status) FROM idem_claim_batch('attempt_claim', ARRAY[%L]) b$$),
	('respond', $$idem_respond('attempt_claim', %L, '"other"')$$),
	('respond the same', $$idem_respond('attempt_claim', %L, '"answer"')$$),
	('response', $$idem_response('attempt_claim', %L)$$),
	('call', $$idem_call('attempt_claim', %L, 'public.regress_attempt_claim_echo', '1')$$),
	('cancel', $$idem_cancel('attempt_claim', %L)$$),
	('forget', $$idem_forget('attempt_claim', %L)$$),
	('complete', $$idem_complete('attempt_claim', %L, 1, '"answer"')$$),
	('fail', $$idem_fail('attempt_claim', %L, 1, '"why"')$$),
	('renew', $$idem_renew('attempt_claim', %L, 1) > now()$$),
	('begin', $$(b.status, b.fence, b.response) FROM idem_begin('attempt_claim', %L) b$$),
	('begin, no take-over', $$(b.status, b.fence, b.response) FROM idem_begin('attempt_claim', %L, takeover => false) b$$);
CREATE FUNCTION pg_temp.one(state text, call text, OUT answer text, OUT after text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.make(state, state);
	answer := pg_temp.say(format(call, state));
	SELECT (l.status, l.fence, l.response) INTO after FROM idem_lookup('attempt_claim', state) l;
	DELETE FROM idem.claim WHERE source = 'attempt_claim';
END $$;
SELECT c.name AS call, s.name AS state, o.* FROM call c, state s, pg_temp.one(s.name, c.text) o ORDER BY c.n, s.n;

-- keys that were claimed, or cancelled before anybody ran them, are no attempt's, whatever fence is given
SELECT idem_claim('attempt_claim', '1'), idem_respond('attempt_claim', '1', '"answer"'), idem_claim('attempt_claim', '2'), idem_cancel('attempt_claim', '3');
SELECT k, f, pg_temp.say(format($$idem_complete('attempt_claim', '%s', %s, '"answer"')$$, k, f)) AS complete,
	pg_temp.say(format($$idem_fail('attempt_claim', '%s', %s)$$, k, f)) AS fail, pg_temp.say(format($$idem_renew('attempt_claim', '%s', %s)$$, k, f)) AS renew
FROM generate_series(1, 3) k, generate_series(0, 1) f ORDER BY k, f;
SELECT b.status, b.fence, b.response, b.lease_until FROM generate_series(1, 3) k, idem_begin('attempt_claim', k::text) b;

-- the attempt that gave a key back cannot end the claim of it
SELECT pg_temp.make('4', 'open');
SELECT idem_claim('attempt_claim', '4'), pg_temp.say($$idem_complete('attempt_claim', '4', 1, '"answer"')$$);
SELECT status, fence, response FROM idem_lookup('attempt_claim', '4');

-- an attempt at the key that idem_call is running, from inside: running, and not to be ended
CREATE FUNCTION public.regress_attempt_claim_inside(r json) RETURNS json LANGUAGE sql AS $$
	SELECT json_build_array(b.status, b.fence, b.lease_until) FROM idem_begin('attempt_claim', '5') b $$;
SELECT idem_call('attempt_claim', '5', 'public.regress_attempt_claim_inside', '1');

-- a batch goes on from a key that was given back, and past one that runs
SELECT pg_temp.make('6', 'open'), pg_temp.make('8', 'open'), pg_temp.make('7', 'done'), pg_temp.make('9', 'running');
SELECT * FROM idem_claim_batch('attempt_claim', ARRAY['8', '7', '6', '8', '5']);
SELECT * FROM idem_claim_batch('attempt_claim', ARRAY['10', '9']);

-- an attempt of this very transaction: waiting for its lease would not help
BEGIN;
SELECT status FROM idem_begin('attempt_claim', 'own');
SAVEPOINT here;
SELECT idem_claim('attempt_claim', 'own');
ROLLBACK TO here;
SELECT idem_cancel('attempt_claim', 'own');
ROLLBACK TO here;
SELECT idem_fail('attempt_claim', 'own', 1), idem_claim('attempt_claim', 'own');
ROLLBACK;

-- purge: what has ended, and never what runs, expired or is open
DELETE FROM idem.claim WHERE source = 'attempt_claim';
SELECT FROM state s, pg_temp.make(s.name, s.name);
UPDATE idem.claim SET claimed_at = claimed_at - interval '1 year', completed_at = completed_at - interval '1 year' WHERE source = 'attempt_claim';
SET client_min_messages = warning;
CALL idem_purge('100 days');
RESET client_min_messages;
SELECT seq FROM idem.claim WHERE source = 'attempt_claim' ORDER BY seq COLLATE "C";

DELETE FROM idem.claim WHERE source = 'attempt_claim';
DROP FUNCTION public.regress_attempt_claim_echo(json), public.regress_attempt_claim_inside(json);
