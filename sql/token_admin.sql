-- Tokens: keys and rekeying, who may do what, what the purge removes.
\set SHOW_CONTEXT never

-- a key is there from CREATE EXTENSION on: 9 random bytes for a number, a secret of 32
SELECT count(*) > 0 AS there, bool_and(length(id) = 12 AND length(secret) = 32) AS well_formed,
	count(*) FILTER (WHERE verify_until IS NULL) AS may_sign FROM idem.token_key;

-- rekeying: a new key signs at once, tokens of those before stay good until they expire
SELECT idem_token_issue('p', 'one') AS one, idem_token_issue('p', 'short', '100 milliseconds') AS short \gset
SELECT idem_token_rekey();
SELECT idem_token_issue('p', 'two') AS two \gset
SELECT substr(:'one', 2, 12) <> substr(:'two', 2, 12) AS another_key,
	idem_token_status(:'one', 'p', 'one') AS one, idem_token_status(:'two', 'p', 'two') AS two;
DO 'BEGIN PERFORM pg_sleep(0.15); END';
SELECT idem_token_status(:'short', 'p', 'short') AS short, idem_token_consume(:'short', 'p', 'short');
SELECT idem_token_rekey();
SELECT idem_token_issue('p', 'three') AS three \gset
SELECT idem_token_consume(:'one', 'p', 'one') AS one, idem_token_consume(:'two', 'p', 'two') AS two, idem_token_consume(:'three', 'p', 'three') AS three;
SELECT idem_token_consume(:'one', 'p', 'one') AS one, idem_token_consume(:'two', 'p', 'two') AS two, idem_token_consume(:'three', 'p', 'three') AS three;
SELECT count(DISTINCT secret) = count(*) AS all_differ, count(*) FILTER (WHERE verify_until IS NULL) AS may_sign,
	bool_and(verify_until BETWEEN now() + interval '365 days' AND now() + interval '367 days') AS others_for_a_year
FROM idem.token_key;

-- a key whose year is over verifies nothing, though a token of it has not expired; the next rekeying removes it
SELECT idem_token_issue('p', 'old', '2 years') AS old, substr(idem_token_issue('p'), 2, 12) AS id \gset
SELECT idem_token_rekey();
SELECT idem_token_status(:'old', 'p', 'old');
UPDATE idem.token_key SET verify_until = clock_timestamp() WHERE id = :'id';
SELECT idem_token_status(:'old', 'p', 'old'), idem_token_consume(:'old', 'p', 'old');
SELECT count(*) FROM idem.token_key WHERE id = :'id';
SELECT idem_token_rekey();
SELECT count(*) FROM idem.token_key WHERE id = :'id';

-- rolled back: the key before goes on signing
SELECT substr(idem_token_issue('p'), 2, 12) AS id \gset
BEGIN;
SELECT idem_token_rekey();
SELECT substr(idem_token_issue('p'), 2, 12) <> :'id' AS new_key;
ROLLBACK;
SELECT substr(idem_token_issue('p'), 2, 12) = :'id' AS key_before;

-- a key taken away in an emergency: its tokens are worth nothing at once
SELECT idem_token_issue('p') AS t \gset
DELETE FROM idem.token_key;
SELECT idem_token_status(:'t', 'p'), idem_token_consume(:'t', 'p');
\set VERBOSITY sqlstate
SELECT idem_token_issue('p');
\set VERBOSITY default
SELECT idem_token_issue('p');
SELECT idem_token_rekey();
SELECT idem_token_status(idem_token_issue('p'), 'p'), idem_token_status(:'t', 'p') AS before;

-- two keys that may sign, as after a restore: the newer one does, both verify, rekeying ends both
INSERT INTO idem.token_key VALUES ('abcdefghijkl', sha256('dumped'), '2020-01-01', NULL);
\c -
SELECT substr(idem_token_issue('p'), 2, 12) <> 'abcdefghijkl' AS newer_signs;
UPDATE idem.token_key SET created_at = 'infinity' WHERE id = 'abcdefghijkl';
\c -
SELECT idem_token_issue('p') AS t \gset
SELECT substr(:'t', 2, 12) = 'abcdefghijkl' AS newer_signs, idem_token_status(:'t', 'p');
SELECT idem_token_rekey();
SELECT substr(idem_token_issue('p'), 2, 12) <> 'abcdefghijkl' AS rekeyed, idem_token_status(:'t', 'p'),
	(SELECT count(*) FROM idem.token_key WHERE verify_until IS NULL) AS may_sign;

-- roles: a token is a bearer credential; the tables and the rekeying are the administrator's
CREATE ROLE regress_token_admin_a;
CREATE ROLE regress_token_admin_b;
SET ROLE regress_token_admin_a;
SELECT idem_token_issue('p', 'a') AS t, idem_token_issue('p', 'a') AS u, idem_token_issue('p', 'a', max_issues => 2) IS NOT NULL AS limited \gset
SET ROLE regress_token_admin_b;
SELECT idem_token_status(:'t', 'p', 'a'), idem_token_consume(:'t', 'p', 'a'), idem_token_status(:'t', 'p', 'a') AS used,
	idem_token_rotate(:'u', 'p', 'a') IS NOT NULL AS rotated, idem_token_issue('p', 'a', max_issues => 2) IS NOT NULL AS counted_together;
\set VERBOSITY sqlstate
SELECT idem_token_issue('p', 'a', max_issues => 2);
SELECT idem_token_rekey();
SELECT secret FROM idem.token_key;
SELECT * FROM idem.token_spent;
SELECT * FROM idem.token_rate;
INSERT INTO idem.token_key VALUES ('abcdefghijkm', 'x', now(), NULL);
DELETE FROM idem.token_spent;
UPDATE idem.token_rate SET issued = 0;
CALL idem_purge('1 year');
\set VERBOSITY default
RESET ROLE;
-- USAGE on the schema is not enough either
GRANT USAGE ON SCHEMA idem TO regress_token_admin_b;
SET ROLE regress_token_admin_b;
SELECT secret FROM idem.token_key;
DELETE FROM idem.token_spent;
UPDATE idem.token_rate SET issued = 0;
RESET ROLE;
REVOKE USAGE ON SCHEMA idem FROM regress_token_admin_b;
-- who is given the rekeying can do it, and nothing more
GRANT EXECUTE ON FUNCTION idem_token_rekey() TO regress_token_admin_b;
SET ROLE regress_token_admin_b;
SELECT idem_token_rekey();
SELECT idem_token_status(idem_token_issue('p'), 'p');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION idem_token_rekey() FROM regress_token_admin_b;
DROP ROLE regress_token_admin_a, regress_token_admin_b;
SELECT has_function_privilege('public', p.oid, 'EXECUTE') AS public, p.oid::regprocedure
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
WHERE p.proname LIKE 'idem\_token%' ORDER BY p.proname COLLATE "C";

-- the purge: spent tokens that have expired and counts whose window is over, both older than the interval
DELETE FROM idem.token_spent;
DELETE FROM idem.token_rate;
INSERT INTO idem.token_spent SELECT 'purge ' || what, now() + expires, now() - consumed FROM (VALUES
	('expired and old', interval '-1 day', interval '11 years'),
	('expired just now', '-1 millisecond', '11 years'),
	('expired, not old enough', '-1 day', '9 years'),
	('old, not expired', '1 day', '11 years'),
	('neither', '1 day', '1 day')) AS v (what, expires, consumed);
INSERT INTO idem.token_rate SELECT 'purge', what, now() + over, 1 FROM (VALUES
	('over and old', interval '-11 years'), ('not old enough', '-9 years'), ('open', '1 minute')) AS v (what, over);
CALL idem_purge('10 years');
SELECT nonce FROM idem.token_spent ORDER BY nonce;
SELECT subject FROM idem.token_rate ORDER BY subject;
-- in batches
TRUNCATE idem.token_spent, idem.token_rate;
INSERT INTO idem.token_spent SELECT 'purge ' || to_char(i, '00'), now() - interval '1 day', now() - interval '11 years' FROM generate_series(1, 5) AS i;
INSERT INTO idem.token_rate SELECT 'purge', to_char(i, '00'), now() - interval '11 years', 1 FROM generate_series(1, 5) AS i;
CALL idem_purge('10 years', 3);
SELECT count(*) FROM idem.token_spent;
SELECT count(*) FROM idem.token_rate;
-- a token that is spent and was purged has expired, and stays so
CREATE FUNCTION pg_temp.spent(OUT t text, OUT seconds double precision) LANGUAGE plpgsql AS $$
BEGIN
	-- a busy machine may be too late for the first ones
	FOREACH seconds IN ARRAY ARRAY[0.1, 1, 10, 60] LOOP
		t := idem_token_issue('p', '', make_interval(secs => seconds));
		EXIT WHEN idem_token_consume(t, 'p');
	END LOOP;
END $$;
SELECT * FROM pg_temp.spent() \gset
UPDATE idem.token_spent SET consumed_at = now() - interval '11 years' WHERE nonce = substr(:'t', 14, 32);
SELECT FROM pg_sleep(:seconds);
CALL idem_purge('10 years');
SELECT idem_token_status(:'t', 'p'), idem_token_consume(:'t', 'p');

DELETE FROM idem.token_spent;
DELETE FROM idem.token_rate;
DELETE FROM idem.token_key WHERE id = 'abcdefghijkl';
