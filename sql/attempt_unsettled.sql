-- Pins idem_unsettled: what runs, has expired or is open, of whom the caller may act as, in order, and by an index that no settled
-- key is in.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
SELECT count(*) AS there FROM idem_unsettled(NULL, NULL) \gset

-- a key on each of its ways
SELECT * FROM idem_unsettled('unsettled');
SELECT idem_claim('unsettled', 'claimed'), idem_claim('unsettled', 'answered'), idem_respond('unsettled', 'answered', '1'), idem_cancel('unsettled', 'cancelled');
SELECT status, fence FROM unnest('{running, renewed, expired, taken over, open, granted again, done, failed, cancelled late, claimed late, forgotten}'::text[]) k, idem_begin('unsettled', k);
UPDATE idem.claim SET lease_until = clock_timestamp() - interval '1 second' WHERE source = 'unsettled' AND seq IN ('expired', 'taken over', 'cancelled late', 'forgotten');
SELECT idem_renew('unsettled', 'renewed', 1, '2 hours') > now() AS renewed, (idem_begin('unsettled', 'taken over')).fence, idem_fail('unsettled', 'open', 1, '"why"'), idem_fail('unsettled', 'granted again', 1);
SELECT (idem_begin('unsettled', 'granted again')).fence, idem_complete('unsettled', 'done', 1, '2'), idem_fail('unsettled', 'failed', 1, NULL, false), idem_cancel('unsettled', 'cancelled late'), idem_forget('unsettled', 'forgotten');
SELECT idem_fail('unsettled', 'claimed late', 1), idem_claim('unsettled', 'claimed late');
SELECT source, seq, status, fence, claimed_at > now() - interval '1 hour' AS recent, CASE WHEN lease_until > clock_timestamp() THEN 'later' WHEN lease_until IS NOT NULL THEN 'before' END AS lease, owner = current_user AS mine FROM idem_unsettled('unsettled') ORDER BY seq;
-- it agrees with idem_lookup
SELECT count(*), bool_and(ROW(u.status, u.fence, u.claimed_at, u.lease_until, u.owner) = ROW(l.status, l.fence, l.claimed_at, l.lease_until, l.owner) OR u.lease_until IS NULL AND l.lease_until IS NULL AND u.status = l.status AND u.claimed_at = l.claimed_at) AS same
FROM idem_unsettled('unsettled') u, idem_lookup(u.source, u.seq) l;
-- in the index is what is unsettled, and nothing else
SELECT seq, status FROM idem.claim WHERE source = 'unsettled' AND (unsettled_since IS NOT NULL) <> (status = 'o' OR status = 'r' AND lease_until IS NOT NULL);
SELECT count(*) FROM idem.claim WHERE source = 'unsettled' AND unsettled_since IS NOT NULL AND unsettled_since <> claimed_at;
SELECT pg_get_indexdef('idem.claim_unsettled_since'::regclass);

--
-- Order, sources, and how many
--
SELECT count(*) FROM generate_series(1, 250) i, idem_begin('unsettled ' || i % 2, i);
UPDATE idem.claim SET claimed_at = '2020-01-01'::timestamptz + seq::int / 10 * interval '1 minute', unsettled_since = '2020-01-01'::timestamptz + seq::int / 10 * interval '1 minute' WHERE source IN ('unsettled 0', 'unsettled 1');
SELECT bool_and((claimed_at, source COLLATE "C", seq COLLATE "C") >= (before_at, before_source COLLATE "C", before_seq COLLATE "C")) AS ordered, count(*) - :there AS rows
FROM (SELECT *, lag(claimed_at) OVER () AS before_at, lag(source) OVER () AS before_source, lag(seq) OVER () AS before_seq FROM idem_unsettled(max_rows => NULL)) u WHERE true;
SELECT source, seq FROM idem_unsettled(max_rows => 12);
SELECT source, seq FROM idem_unsettled('unsettled 1', 3);
SELECT count(*) FROM idem_unsettled('unsettled 1');
SELECT count(*) FROM idem_unsettled('unsettled 0', 2147483647);
SELECT count(*) FROM idem_unsettled('nobody');
-- with what this transaction did, and without what it undid
BEGIN;
SELECT idem_complete('unsettled 1', seq, 1) FROM idem_unsettled('unsettled 1', 1);
SELECT seq FROM idem_unsettled('unsettled 1', 1);
ROLLBACK;
SELECT seq FROM idem_unsettled('unsettled 1', 1);
-- in a read-only transaction
BEGIN READ ONLY;
SELECT seq FROM idem_unsettled('unsettled 1', 1);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT seq FROM idem_unsettled('unsettled 1', 1);
COMMIT;

--
-- Without statistics, and whatever the planner is told: by the index, not by the table
--
CREATE FUNCTION pg_temp.reads(OUT table_scans bigint, OUT key_scans bigint) LANGUAGE sql AS $$
	SELECT pg_stat_get_xact_numscans('idem.claim'::regclass), pg_stat_get_xact_numscans('idem.claim_pkey'::regclass) $$;
BEGIN;
SET LOCAL enable_indexscan = on; SET LOCAL random_page_cost = 1000;
SELECT * FROM pg_temp.reads() \gset before_
SELECT count(*) > 0 AS some FROM idem_unsettled('unsettled 1');
SELECT table_scans - :before_table_scans AS table_scans, key_scans - :before_key_scans AS key_scans FROM pg_temp.reads();
SHOW enable_seqscan;
COMMIT;

--
-- Errors, and roles
--
SELECT pg_temp.try($$SELECT * FROM idem_unsettled('')$$);
SELECT pg_temp.try($$SELECT * FROM idem_unsettled(repeat('s', 256))$$);
SELECT pg_temp.try($$SELECT * FROM idem_unsettled(NULL, 0)$$);
SELECT pg_temp.try($$SELECT * FROM idem_unsettled(NULL, -1)$$);
CREATE ROLE regress_unsettled_a;
CREATE ROLE regress_unsettled_b;
CREATE ROLE regress_unsettled_member;
GRANT regress_unsettled_a TO regress_unsettled_member;
SET ROLE regress_unsettled_a;
SELECT status FROM idem_begin('unsettled roles', 'a');
SET ROLE regress_unsettled_b;
SELECT status FROM idem_begin('unsettled roles', 'b');
SELECT source, seq, owner FROM idem_unsettled();
SET ROLE regress_unsettled_member;
SELECT source, seq, owner FROM idem_unsettled();
SELECT count(*) FROM idem_unsettled('unsettled');
RESET ROLE;
SELECT seq, owner FROM idem_unsettled('unsettled roles');
-- who may see none of the first ones gets the next: the rows that are passed over do not count
SET ROLE regress_unsettled_b;
SELECT source, seq FROM idem_unsettled(max_rows => 1);
RESET ROLE;

DELETE FROM idem.claim WHERE source LIKE 'unsettled%';
DROP ROLE regress_unsettled_a, regress_unsettled_b, regress_unsettled_member;
