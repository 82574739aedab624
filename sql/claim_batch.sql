-- Pins idem_claim_batch: one answer for each element, in input order, equal to what a loop of idem_claim gives.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- input order, duplicates in the input, and once more
SELECT * FROM idem_claim_batch('claim_batch', '{c, a, b, a, c, aa, A}');
SELECT * FROM idem_claim_batch('claim_batch', '{x, c, a, y, x, b}');
SELECT * FROM idem_claim_batch('claim_batch', ARRAY[]::text[]);
SELECT count(*) FROM idem_claim_batch('claim_batch', '{}');
SELECT * FROM idem_claim_batch('claim_batch', '{one}');
SELECT * FROM idem_claim_batch('claim_batch', '{one}');
SELECT * FROM idem_claim_batch('claim_batch', '{same, same, same}');
-- another array's bounds; a slice; an array of varchar
SELECT * FROM idem_claim_batch('claim_batch', '[5:7]={p, q, p}');
SELECT * FROM idem_claim_batch('claim_batch', (ARRAY['r', 's', 't'])[2:3]);
SELECT * FROM idem_claim_batch('claim_batch', ARRAY['v1', 'v1']::varchar[]);
-- another source is another key space
SELECT * FROM idem_claim_batch('claim_batch 2', '{a, b}');
-- what it claims, idem_claim finds, and the other way round
SELECT idem_claim('claim_batch', 'a'), idem_claim('claim_batch', 'x'), idem_claim('claim_batch', 'single'), idem_respond('claim_batch', 'a', '1');
SELECT * FROM idem_claim_batch('claim_batch', '{single, double}');
SELECT k, status, fence, response, claimed_at IS NOT NULL AS claimed, lease_until FROM unnest('{a, single, double}'::text[]) k, idem_lookup('claim_batch', k);
SELECT count(*), count(DISTINCT seq), count(DISTINCT owner), count(request) FROM idem.claim WHERE source = 'claim_batch';

-- keys of other lengths, other alphabets, with bytes above 127: compared as bytes, in any order
SELECT seq = k AS same, claimed FROM idem_claim_batch('claim_batch', ARRAY[U&'\00e9', U&'e\0301', repeat(U&'\20ac', 341), U&'\+01F600', 'e', 'E', repeat('k', 1024), repeat('k', 1023), ' ', '  ', U&'\00e9']) WITH ORDINALITY b (seq, claimed, status, n)
JOIN unnest(ARRAY[U&'\00e9', U&'e\0301', repeat(U&'\20ac', 341), U&'\+01F600', 'e', 'E', repeat('k', 1024), repeat('k', 1023), ' ', '  ', U&'\00e9']) WITH ORDINALITY i (k, n) USING (n) ORDER BY n;

-- columns and use in other places
SELECT (idem_claim_batch('claim_batch', '{sl 1, sl 2, sl 1}')).*;
SELECT idem_claim_batch('claim_batch', '{sl 3, sl 1}');
SELECT seq FROM idem_claim_batch('claim_batch', '{w 1, w 2, a}') WHERE claimed;
-- a LIMIT does not stop it: all are claimed
SELECT seq, claimed FROM idem_claim_batch('claim_batch', '{l 1, l 2, l 3}') LIMIT 1;
SELECT idem_claim('claim_batch', 'l 3');
-- for each row of a query
SELECT i, b.* FROM generate_series(1, 3) i, idem_claim_batch('claim_batch', ARRAY['lat ' || i, 'lat ' || i + 1]) b ORDER BY i;
-- two in one statement
SELECT * FROM idem_claim_batch('claim_batch', '{u 1, u 2}') UNION ALL SELECT * FROM idem_claim_batch('claim_batch', '{u 2, u 3}');

-- transactions and savepoints
BEGIN;
SELECT idem_claim('claim_batch', 't 1');
SELECT * FROM idem_claim_batch('claim_batch', '{t 1, t 2, t 3}');
SAVEPOINT a;
SELECT * FROM idem_claim_batch('claim_batch', '{t 4, t 3, t 5}');
ROLLBACK TO a;
SELECT * FROM idem_claim_batch('claim_batch', '{t 5, t 2, t 4, t 4}');
SELECT idem_claim('claim_batch', 't 5');
ROLLBACK;
SELECT * FROM idem_claim_batch('claim_batch', '{t 1, t 2, t 3, t 4, t 5}');
DO $$
BEGIN
	BEGIN
		PERFORM idem_claim_batch('claim_batch', '{e 1, e 2}');
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN
	END;
	ASSERT (SELECT bool_and(claimed) FROM idem_claim_batch('claim_batch', '{e 2, e 1}'));
END $$;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM idem_claim_batch('claim_batch', '{rr 1, t 1, rr 1}');
SELECT * FROM idem_claim_batch('claim_batch', '{rr 1, rr 2}');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM idem_claim_batch('claim_batch', '{ser 1, t 1, ser 1}');
SELECT * FROM idem_claim_batch('claim_batch', '{ser 1, ser 2}');
COMMIT;

-- keys in every state: none stops the others
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, lease_until, response, request)
VALUES ('claim_batch', 'running', current_user::regrole, 'r', 2, now(), now() + interval '1 hour', NULL, NULL),
	   ('claim_batch', 'expired', current_user::regrole, 'r', 2, now(), now() - interval '1 hour', NULL, NULL),
	   ('claim_batch', 'open', current_user::regrole, 'o', 2, now(), NULL, '"again"', '\x00'),
	   ('claim_batch', 'failed', current_user::regrole, 'f', 2, now(), NULL, '"no"', NULL),
	   ('claim_batch', 'cancelled', current_user::regrole, 'c', 0, now(), NULL, NULL, NULL),
	   ('claim_batch', 'done', current_user::regrole, 'd', 2, now(), NULL, '"yes"', NULL);
SELECT * FROM idem_claim_batch('claim_batch', '{s 1, done, open, cancelled, open, failed, s 2}');
SELECT status, fence, response FROM idem_lookup('claim_batch', 'open');
SELECT * FROM idem_claim_batch('claim_batch', '{s 3, running, expired, s 4, running}');
SELECT * FROM idem_claim_batch('claim_batch', '{s 3, s 5}', false);
SELECT * FROM idem_claim_batch(source => 'claim_batch', seqs => '{s 5, s 6}', wait => false);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_batch', '{s 7}', NULL)$$);

-- sizes around powers of two, first, again, and half of them new
SELECT n, count(*) FILTER (WHERE claimed) AS claimed, count(*) AS answers, bool_and(b.seq = 'n' || n || ' ' || o) AS in_order
FROM unnest('{1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1001, 2049}'::int[]) n,
	 idem_claim_batch('claim_batch', (SELECT array_agg('n' || n || ' ' || i ORDER BY i) FROM generate_series(1, n) i)) WITH ORDINALITY b (seq, claimed, status, o)
GROUP BY n ORDER BY n;
SELECT n, count(*) FILTER (WHERE claimed) AS claimed, count(*) AS answers, bool_and(b.seq = 'n' || n || ' ' || 2 * n + 1 - o) AS in_order, bool_and(claimed = (o <= n)) AS new_half
FROM unnest('{1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1001, 2049}'::int[]) n,
	 idem_claim_batch('claim_batch', (SELECT array_agg('n' || n || ' ' || i ORDER BY i DESC) FROM generate_series(1, 2 * n) i)) WITH ORDINALITY b (seq, claimed, status, o)
GROUP BY n ORDER BY n;
-- ten thousand, each given twice, far apart
SELECT count(*), count(*) FILTER (WHERE claimed) AS claimed, bool_and(claimed = (o <= 10000)) AS the_first, bool_and(b.seq = 'big ' || (o - 1) % 10000 * 7919 % 10007) AS in_order
FROM idem_claim_batch('claim_batch', (SELECT array_agg('big ' || (i - 1) % 10000 * 7919 % 10007 ORDER BY i) FROM generate_series(1, 20000) i)) WITH ORDINALITY b (seq, claimed, status, o);
SELECT count(*), count(*) FILTER (WHERE claimed) AS claimed FROM idem_claim_batch('claim_batch', (SELECT array_agg('big ' || i ORDER BY i DESC) FROM generate_series(1, 10006) i));
SELECT count(*), count(DISTINCT seq) FROM idem.claim WHERE source = 'claim_batch' AND seq LIKE 'big %';
-- ten thousand, rolled back
BEGIN;
SELECT count(*) FILTER (WHERE claimed) FROM idem_claim_batch('claim_batch', (SELECT array_agg('rb ' || i) FROM generate_series(1, 10000) i));
ROLLBACK;
SELECT count(*) FROM idem.claim WHERE source = 'claim_batch' AND seq LIKE 'rb %';
-- an element that is wrong, anywhere: none is claimed
SELECT n, left(pg_temp.try(format('SELECT * FROM idem_claim_batch(%L, %L::text[])', 'claim_batch', (SELECT array_agg(CASE WHEN i <> n THEN 'wrong ' || i END) FROM generate_series(1, 300) i))), 5) FROM unnest('{1, 150, 300}'::int[]) n;
SELECT count(*) FROM idem.claim WHERE source = 'claim_batch' AND seq LIKE 'wrong %';

-- Property: on random input, with keys taken before, a batch answers as a loop does, and leaves the same keys.
SELECT setseed(0.42);
DO $$
DECLARE
	keys text[]; before text[]; batch boolean[]; looped boolean[]; names text[]; wrong int := 0; elements int := 0; fresh int := 0; k text;
	alphabet text[] := ARRAY['a', 'b', 'A', '-', ' ', U&'\00e9', U&'\20ac', 'zz', '9'];
BEGIN
	FOR round IN 1 .. 300 LOOP
		-- short keys of a small alphabet, so that many meet
		keys := ARRAY(SELECT string_agg(alphabet[1 + floor(random() * 9)], '') FROM generate_series(1, (random() * 400)::int) i,
					  generate_series(1, 1 + i % 3) j GROUP BY i ORDER BY i);
		before := ARRAY(SELECT u FROM unnest(keys) u WHERE random() < 0.2);
		FOREACH k IN ARRAY before LOOP
			PERFORM idem_claim('claim_batch b' || round, k), idem_claim('claim_batch l' || round, k);
		END LOOP;
		SELECT array_agg(claimed ORDER BY n), array_agg(seq ORDER BY n) INTO batch, names
		FROM idem_claim_batch('claim_batch b' || round, keys) WITH ORDINALITY b (seq, claimed, status, n);
		looped := NULL;
		FOREACH k IN ARRAY keys LOOP
			looped := looped || idem_claim('claim_batch l' || round, k);
		END LOOP;
		IF batch IS DISTINCT FROM looped OR names IS DISTINCT FROM nullif(keys, '{}') THEN
			wrong := wrong + 1;
		END IF;
		elements := elements + cardinality(keys);
		fresh := fresh + (SELECT count(*) FROM unnest(batch) c WHERE c);
	END LOOP;
	RAISE NOTICE '% wrong; enough elements: %; of both kinds: %', wrong, elements > 30000, fresh > 10000 AND fresh < elements - 10000;
END $$;
SELECT count(*) FROM (
	SELECT replace(source, 'claim_batch b', ''), seq FROM idem.claim WHERE source LIKE 'claim\_batch b%'
	EXCEPT SELECT replace(source, 'claim_batch l', ''), seq FROM idem.claim WHERE source LIKE 'claim\_batch l%') d;
SELECT count(*) FROM (
	SELECT replace(source, 'claim_batch l', ''), seq FROM idem.claim WHERE source LIKE 'claim\_batch l%'
	EXCEPT SELECT replace(source, 'claim_batch b', ''), seq FROM idem.claim WHERE source LIKE 'claim\_batch b%') d;

DELETE FROM idem.claim WHERE source LIKE 'claim\_batch%';
