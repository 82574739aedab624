-- Pins idem_cancel, idem_forget and idem_purge: which keys they end or remove, and which never.
\set SHOW_CONTEXT never
CREATE ROLE regress_claim_cancel_a;
CREATE ROLE regress_claim_cancel_b;
DELETE FROM idem.claim;

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- a key in any state, of any age
CREATE FUNCTION pg_temp.put(seq text, status "char", age interval DEFAULT '0', lease interval DEFAULT NULL, owner text DEFAULT current_user) RETURNS text LANGUAGE sql AS $$
	INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at, lease_until, response)
	VALUES ('claim_cancel', $1, $5, $2, 3, clock_timestamp() - $3, CASE WHEN $2 IN ('d', 'f', 'c') THEN clock_timestamp() - $3 END,
			clock_timestamp() + $4, CASE WHEN $2 IN ('d', 'f', 'o') THEN to_json($1) END)
	RETURNING seq
$$;
CREATE FUNCTION pg_temp.same(r json) RETURNS json LANGUAGE sql AS 'SELECT r';
CREATE FUNCTION pg_temp.keys() RETURNS text LANGUAGE sql AS $$SELECT string_agg(seq, ', ' ORDER BY seq) FROM idem.claim$$;

--
-- Cancel: unseen, open and expired will never run; done and failed stay; running is in progress
--
SELECT idem_cancel('claim_cancel', 'unseen'), idem_cancel('claim_cancel', 'unseen');
SELECT status, fence, response, completed_at IS NOT NULL AS completed, lease_until FROM idem_lookup('claim_cancel', 'unseen');
SELECT idem_response('claim_cancel', 'unseen') IS NULL AS no_response;
-- the late original is refused
SELECT idem_claim('claim_cancel', 'unseen'), idem_claim('claim_cancel', 'unseen', '{"a": 1}'), idem_claim('claim_cancel', 'unseen', wait => false);
SELECT * FROM idem_claim_batch('claim_cancel', '{unseen}');
SELECT pg_temp.try($$SELECT idem_call('claim_cancel', 'unseen', 'pg_temp.same', '1')$$);
SELECT pg_temp.try($$SELECT idem_respond('claim_cancel', 'unseen', '1')$$);
SELECT status FROM idem_lookup('claim_cancel', 'unseen');

SELECT pg_temp.put('open', 'o'), pg_temp.put('expired', 'r', '1 hour', '-1 second'), pg_temp.put('running', 'r', '1 hour', '1 hour'),
	   pg_temp.put('failed', 'f', '1 hour'), pg_temp.put('done', 'd', '1 hour'), pg_temp.put('cancelled', 'c', '1 hour');
SELECT k, idem_cancel('claim_cancel', k), idem_cancel('claim_cancel', k) FROM unnest('{open, expired, failed, done, cancelled}'::text[]) k;
SELECT pg_temp.try($$SELECT idem_cancel('claim_cancel', 'running')$$);
SELECT k, status, fence, response, completed_at > now() - interval '30 minutes' AS completed_now, lease_until IS NOT NULL AS lease
FROM unnest('{open, expired, failed, done, cancelled, running}'::text[]) k, idem_lookup('claim_cancel', k);
SELECT k, idem_claim('claim_cancel', k) FROM unnest('{open, expired, failed, done, cancelled}'::text[]) k;
-- a claim is done as soon as it is made, with or without an answer
SELECT idem_claim('claim_cancel', 'claimed'), idem_cancel('claim_cancel', 'claimed');
-- undone with its transaction
BEGIN;
SELECT idem_cancel('claim_cancel', 'rb');
SAVEPOINT a;
SELECT idem_cancel('claim_cancel', 'rb 2'), idem_claim('claim_cancel', 'rb 2');
ROLLBACK TO a;
SELECT idem_claim('claim_cancel', 'rb 2'), idem_claim('claim_cancel', 'rb');
ROLLBACK;
SELECT idem_claim('claim_cancel', 'rb'), idem_claim('claim_cancel', 'rb 2');
-- in one statement
SELECT idem_cancel('claim_cancel', 'order'), idem_claim('claim_cancel', 'order'), idem_forget('claim_cancel', 'order'), idem_claim('claim_cancel', 'order'), idem_cancel('claim_cancel', 'order');
-- above read committed
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT idem_cancel('claim_cancel', 'rr'), idem_cancel('claim_cancel', 'rr'), idem_claim('claim_cancel', 'rr'), idem_cancel('claim_cancel', 'claimed');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT idem_cancel('claim_cancel', 'ser'), idem_cancel('claim_cancel', 'ser'), idem_claim('claim_cancel', 'ser'), idem_cancel('claim_cancel', 'claimed');
COMMIT;

--
-- Forget: whatever it was, the key may be used afresh; running is in progress
--
SELECT idem_forget('claim_cancel', 'never seen');
SELECT k, idem_forget('claim_cancel', k), idem_forget('claim_cancel', k), idem_claim('claim_cancel', k, '{"a": 1}') FROM unnest('{unseen, open, failed, done, cancelled, claimed}'::text[]) k;
SELECT pg_temp.put('expired 2', 'r', '1 hour', '-1 second'), pg_temp.put('open 2', 'o');
SELECT k, idem_forget('claim_cancel', k), idem_claim('claim_cancel', k) FROM unnest('{expired 2, open 2}'::text[]) k;
SELECT pg_temp.try($$SELECT idem_forget('claim_cancel', 'running')$$);
SELECT status FROM idem_lookup('claim_cancel', 'running');
-- nothing of the old one is left: another request, another answer
SELECT idem_claim('claim_cancel', 'afresh', '{"a": 1}'), idem_respond('claim_cancel', 'afresh', '1'), idem_forget('claim_cancel', 'afresh'), idem_claim('claim_cancel', 'afresh', '{"a": 2}'),
	   idem_response('claim_cancel', 'afresh') IS NULL AS no_response, idem_respond('claim_cancel', 'afresh', '2');
-- undone with its transaction
BEGIN;
SELECT idem_forget('claim_cancel', 'afresh'), idem_claim('claim_cancel', 'afresh', '{"a": 3}');
ROLLBACK;
SELECT idem_response('claim_cancel', 'afresh'), idem_claim('claim_cancel', 'afresh', '{"a": 2}');
BEGIN;
SAVEPOINT a;
SELECT idem_forget('claim_cancel', 'afresh');
ROLLBACK TO a;
SELECT idem_claim('claim_cancel', 'afresh'), idem_forget('claim_cancel', 'afresh'), idem_claim('claim_cancel', 'afresh');
COMMIT;
-- of another role: that is what it is for
SET ROLE regress_claim_cancel_a;
SELECT idem_claim('claim_cancel', 'of a'), idem_respond('claim_cancel', 'of a', '"a"');
RESET ROLE;
GRANT EXECUTE ON FUNCTION idem_forget TO regress_claim_cancel_b;
SET ROLE regress_claim_cancel_a;
SELECT pg_temp.try($$SELECT idem_forget('claim_cancel', 'of a')$$);
SET ROLE regress_claim_cancel_b;
SELECT left(pg_temp.try($$SELECT idem_claim('claim_cancel', 'of a')$$), 5), left(pg_temp.try($$SELECT idem_forget('claim_cancel', 'of a')$$), 5);
SELECT idem_claim('claim_cancel', 'of b'), idem_forget('claim_cancel', 'of b'), idem_forget('claim_cancel', 'of b');
-- as one of a it reaches a's
RESET ROLE;
GRANT regress_claim_cancel_a TO regress_claim_cancel_b;
SET ROLE regress_claim_cancel_b;
SELECT idem_forget('claim_cancel', 'of a'), idem_claim('claim_cancel', 'of a');
RESET ROLE;
REVOKE regress_claim_cancel_a FROM regress_claim_cancel_b;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION idem_forget FROM regress_claim_cancel_b;
SELECT owner FROM idem.claim WHERE seq = 'of a';

--
-- Purge
--
DELETE FROM idem.claim;
CALL idem_purge('1 day');
SELECT idem_claim('claim_cancel', 'new');
SELECT pg_temp.put('done 2 days', 'd', '2 days'), pg_temp.put('failed 2 days', 'f', '2 days'), pg_temp.put('cancelled 2 days', 'c', '2 days'),
	   pg_temp.put('open 2 days', 'o', '2 days'), pg_temp.put('running 2 days', 'r', '2 days', '1 hour'), pg_temp.put('expired 2 days', 'r', '2 days', '-47 hours'),
	   pg_temp.put('done 25 hours', 'd', '25 hours'), pg_temp.put('done 23 hours', 'd', '23 hours'), pg_temp.put('failed 23 hours', 'f', '23 hours'), pg_temp.put('cancelled 23 hours', 'c', '23 hours'),
	   pg_temp.put('a 2 days', 'd', '2 days', NULL, 'regress_claim_cancel_a');
-- what counts is when it was completed: claimed long ago, answered lately
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at) VALUES ('claim_cancel', 'late answer', current_user::regrole, 'd', 0, now() - interval '2 days', now());
SELECT pg_temp.keys();
CALL idem_purge('1 week');
SELECT pg_temp.keys();
CALL idem_purge('24 hours');
SELECT pg_temp.keys();
CALL idem_purge(older_than => '1 microsecond');
SELECT pg_temp.keys();
CALL idem_purge('1 microsecond', 1);
SELECT pg_temp.keys();
-- the purged key is unseen
SELECT idem_claim('claim_cancel', 'done 2 days'), idem_response('claim_cancel', 'done 2 days') IS NULL AS no_response;
TRUNCATE idem.claim;
ALTER TABLE idem.claim SET (autovacuum_enabled = off); -- dead rows count for a batch

-- batches: of 1, of 3, of more than there are, with keys between that stay
SELECT count(pg_temp.put('k' || i, CASE i % 4 WHEN 0 THEN 'o' WHEN 1 THEN 'f' ELSE 'd' END::"char", '2 days')) FROM generate_series(1, 10) i;
CALL idem_purge('1 day', 3);
SELECT pg_temp.keys();
SELECT count(pg_temp.put('m' || i, 'd', '2 days')) FROM generate_series(1, 4) i;
CALL idem_purge('1 day', 1);
SELECT pg_temp.keys();
SELECT count(pg_temp.put('n' || i, 'd', '2 days')) FROM generate_series(1, 6) i;
CALL idem_purge('1 day', 3);
CALL idem_purge('1 day', 3);
SELECT pg_temp.keys();
SELECT count(pg_temp.put('l' || i, 'd', '2 days')) FROM generate_series(1, 25000) i;
SET client_min_messages = warning;
CALL idem_purge('1 day');
RESET client_min_messages;
SELECT pg_temp.keys();
SELECT count(pg_temp.put('l' || i, 'd', '2 days')) FROM generate_series(1, 2000) i;
CALL idem_purge('1 day', 2147483647);
SELECT pg_temp.keys();
DELETE FROM idem.claim;
ALTER TABLE idem.claim RESET (autovacuum_enabled);

-- each batch is a commit of its own: so many transactions
SELECT count(pg_temp.put('t' || i, 'd', '2 days')) FROM generate_series(1, 5) i;
SET client_min_messages = warning;
CREATE TABLE regress_claim_cancel_xid (xid xid8, seq text);
CREATE FUNCTION regress_claim_cancel_note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.regress_claim_cancel_xid VALUES (pg_current_xact_id(), OLD.seq); RETURN OLD; END$$;
CREATE TRIGGER regress_note BEFORE DELETE ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_claim_cancel_note();
CALL idem_purge('1 day', 2);
DROP TRIGGER regress_note ON idem.claim;
SELECT count(*) AS keys, count(DISTINCT xid) >= 3 AS transactions FROM regress_claim_cancel_xid;
SELECT max(c) <= 2 AS at_most_2 FROM (SELECT count(*) c FROM regress_claim_cancel_xid GROUP BY xid) x;
DROP TABLE regress_claim_cancel_xid;
DROP FUNCTION regress_claim_cancel_note;
RESET client_min_messages;

-- where it may run: on its own, and in a block of code that may commit; not in a transaction block, a function, or with a setting that forbids it
BEGIN;
CALL idem_purge('1 day');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT pg_temp.put('old', 'd', '2 days');
DO $$ BEGIN CALL idem_purge('1 day'); END $$;
SELECT pg_temp.keys();
SELECT pg_temp.put('old', 'd', '2 days');
BEGIN;
DO $$ BEGIN CALL idem_purge('1 day'); END $$;
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
CREATE FUNCTION pg_temp.purge() RETURNS void LANGUAGE plpgsql AS $$BEGIN CALL idem_purge('1 day'); END$$;
SELECT pg_temp.try('SELECT pg_temp.purge()');
DO $$ BEGIN CALL idem_purge('1 day'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLSTATE; END $$;
CREATE PROCEDURE pg_temp.purges() LANGUAGE plpgsql AS $$BEGIN CALL idem_purge('1 week'); CALL idem_purge('1 week', 1); END$$;
CALL pg_temp.purges();
CREATE PROCEDURE pg_temp.purges_set() LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$BEGIN CALL idem_purge('1 week'); END$$;
CALL pg_temp.purges_set();
\echo :LAST_ERROR_SQLSTATE
SELECT pg_temp.keys();
-- while a cursor is open that outlives its transaction
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT seq FROM idem.claim;
COMMIT;
CALL idem_purge('1 day');
FETCH c;
CLOSE c;
SELECT pg_temp.keys();
-- above read committed
SET default_transaction_isolation = 'repeatable read';
SELECT pg_temp.put('old ' || i, 'd', '2 days') FROM generate_series(1, 3) i;
CALL idem_purge('1 day', 1);
SET default_transaction_isolation = 'serializable';
SELECT pg_temp.put('old ' || i, 'd', '2 days') FROM generate_series(1, 3) i;
CALL idem_purge('1 day', 1);
RESET default_transaction_isolation;
SELECT pg_temp.keys();
-- by other roles: only who was granted it
SET ROLE regress_claim_cancel_a;
CALL idem_purge('1 day');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT EXECUTE ON PROCEDURE idem_purge TO regress_claim_cancel_b;
SELECT pg_temp.put('old', 'd', '2 days'), pg_temp.put('old a', 'd', '2 days', NULL, 'regress_claim_cancel_a');
SET ROLE regress_claim_cancel_b;
CALL idem_purge('1 day', 1);
SELECT current_user;
RESET ROLE;
REVOKE EXECUTE ON PROCEDURE idem_purge FROM regress_claim_cancel_b;
SELECT pg_temp.keys();
-- ages of months and years, and one before the calendar begins
SELECT pg_temp.put('old', 'd', '13 months');
CALL idem_purge('2 years');
CALL idem_purge('1 year');
CALL idem_purge('7000 years');
\echo :LAST_ERROR_SQLSTATE
CALL idem_purge('178000000 years');
\echo :LAST_ERROR_SQLSTATE

DELETE FROM idem.claim;
DROP ROLE regress_claim_cancel_a, regress_claim_cancel_b;
