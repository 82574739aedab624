-- Pins that a batch looks up its keys rightly whatever lies between them: new ones, rows of others, its own, several
-- versions of a row, keys that are prefixes of each other; judged by a model that knows no order. What is overlooked would
-- still be refused by the index, but at the price of rows that are written and deleted again: so none may be.
CREATE TEMP TABLE known (source text, seq text COLLATE "C", PRIMARY KEY (source, seq));

-- claims a batch and compares with what is known; answers how many were new
CREATE FUNCTION pg_temp.batch(given_source text, seqs text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	deleted bigint := pg_stat_get_xact_tuples_deleted('idem.claim'::regclass);
	wrong text;
BEGIN
	WITH answer AS (
		SELECT b.seq, b.claimed, b.n FROM idem_claim_batch(given_source, seqs) WITH ORDINALITY AS b (seq, claimed, status, n)
	), expected AS (
		SELECT s.seq, s.n, NOT EXISTS (SELECT FROM known AS k WHERE k.source = given_source AND k.seq = s.seq)
			AND row_number() OVER (PARTITION BY s.seq COLLATE "C" ORDER BY s.n) = 1 AS claimed
		FROM unnest(seqs) WITH ORDINALITY AS s (seq, n)
	)
	SELECT string_agg(format('%s: %s for %s', e.n, a, e), E'\n' ORDER BY e.n) INTO wrong
	FROM expected AS e LEFT JOIN answer AS a USING (n) WHERE (a.seq, a.claimed) IS DISTINCT FROM (e.seq, e.claimed);
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION 'wrong answers: %', wrong;
	END IF;
	IF pg_stat_get_xact_tuples_deleted('idem.claim'::regclass) <> deleted THEN
		RAISE EXCEPTION 'rows were inserted in vain: %', pg_stat_get_xact_tuples_deleted('idem.claim'::regclass) - deleted;
	END IF;
	WITH new AS (INSERT INTO known SELECT given_source, s FROM unnest(seqs) AS s ON CONFLICT DO NOTHING RETURNING 1)
	SELECT count(*) INTO STRICT wrong FROM new;
	RETURN wrong;
END $$;

-- gaps of every width around the point where a walk descends again
DO $$
BEGIN
	FOR gap IN 0..20 LOOP
		-- rows that lie between, and then every gap-th key, which is new
		PERFORM pg_temp.batch('gap ' || gap, array_agg(to_char(i, 'FM0000') ORDER BY i))
		FROM generate_series(1, 300) AS i WHERE i % (gap + 1) <> 0;
		ASSERT (SELECT pg_temp.batch('gap ' || gap, array_agg(to_char(i, 'FM0000') ORDER BY i)) = count(*)
			FROM generate_series(1, 300) AS i WHERE i % (gap + 1) = 0);
		-- all of them once more, backwards: none is new
		ASSERT (SELECT pg_temp.batch('gap ' || gap, array_agg(to_char(i, 'FM0000') ORDER BY i DESC)) = 0
			FROM generate_series(1, 300) AS i);
	END LOOP;
END $$;
SELECT count(*), count(DISTINCT (source, seq)) FROM idem.claim WHERE source LIKE 'gap %';

-- close together here, far apart there, in one batch; near the first and behind the last key of the source; prefixes
SELECT pg_temp.batch('mixed', array_agg(to_char(i, 'FM0000'))) FROM generate_series(1, 2000) AS i WHERE i % 3 = 0;
SELECT pg_temp.batch('mixed', array_agg(to_char(i, 'FM0000') ORDER BY i))
FROM (SELECT generate_series(1, 40) UNION SELECT generate_series(100, 1900, 100) UNION SELECT generate_series(1980, 2100)) AS s (i);
SELECT pg_temp.batch('mixed', '{0, 00, 000, 0003, 00030, 0003000, 9999, 99999, 9, 1999, 19990, 199}');
SELECT pg_temp.batch('mixe', '{0003, 0006}'), pg_temp.batch('mixed', '{0003, 0006}'), pg_temp.batch('mixed0', '{0003, 0006}');

-- random sets, some of their keys there already, from dense to sparse
SELECT setseed(0.25);
DO $$
DECLARE
	seqs text[];
BEGIN
	FOR round IN 1..60 LOOP
		SELECT array_agg(to_char((random() * 30 * round)::integer, 'FM00000')) INTO seqs
		FROM generate_series(1, 1 + (random() * 300)::integer);
		PERFORM pg_temp.batch('random', seqs);
	END LOOP;
END $$;
SELECT (SELECT array_agg(c.seq ORDER BY c.seq) FROM idem.claim AS c WHERE c.source = 'random') =
	(SELECT array_agg(k.seq ORDER BY k.seq) FROM known AS k WHERE k.source = 'random') AS same;

-- what has versions: answered and forgotten in this transaction, claimed and rolled back, attempts between
BEGIN;
SELECT pg_temp.batch('versions', array_agg(to_char(i, 'FM000'))) FROM generate_series(1, 100) AS i;
SELECT bool_and(idem_respond('versions', to_char(i, 'FM000'), '{"n": 1}')) FROM generate_series(1, 100, 3) AS i;
SELECT bool_and(idem_forget('versions', to_char(i, 'FM000'))) FROM generate_series(2, 100, 3) AS i;
DELETE FROM known AS k WHERE k.source = 'versions' AND k.seq::integer % 3 = 2;
SAVEPOINT before;
SELECT count(*) FILTER (WHERE claimed) FROM idem_claim_batch('versions', (SELECT array_agg(to_char(i, 'FM000')) FROM generate_series(1, 150) AS i));
ROLLBACK TO before;
SELECT idem_complete('versions', '120', fence, '{"n": 2}') FROM idem_begin('versions', '120', '1 min');
SELECT idem_fail('versions', '110', fence, '"later"', true) FROM idem_begin('versions', '110', '1 min');
INSERT INTO known VALUES ('versions', '120');
SELECT pg_temp.batch('versions', array_agg(to_char(i, 'FM000'))) FROM generate_series(1, 150) AS i;
SELECT pg_temp.batch('versions', array_agg(to_char(i, 'FM000'))) FROM generate_series(1, 160) AS i;
COMMIT;
SELECT count(*), count(response), string_agg(seq, ',') FILTER (WHERE status <> 'd') AS not_done FROM idem.claim WHERE source = 'versions';

DELETE FROM idem.claim WHERE source IN ('mixe', 'mixed', 'mixed0', 'random', 'versions') OR source LIKE 'gap %';
