-- Pins idem_begin_batch: each key answered as idem_begin would, in the order of the input, one key not stopping the others.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
CREATE FUNCTION pg_temp.grants(seqs text[], takeover boolean DEFAULT true, wait boolean DEFAULT true,
	OUT seq text, OUT status text, OUT fence bigint, OUT response text, OUT lease text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT b.seq, b.status, b.fence, b.response::text, CASE WHEN b.lease_until IS NULL THEN 'none' WHEN b.lease_until > clock_timestamp() + interval '50 minutes' THEN 'whole' WHEN b.lease_until > clock_timestamp() THEN 'some' ELSE 'over' END
	FROM idem_begin_batch('attempt_batch', $1, '1 hour', $2, $3) b
$$;

-- input order, keys given twice, and once more
SELECT * FROM pg_temp.grants('{c, a, b, a, c, aa}');
SELECT * FROM pg_temp.grants('{x, c, a, y, x}');
SELECT count(*) FROM idem_begin_batch('attempt_batch', '{}');
SELECT idem_complete('attempt_batch', 'a', 1, '"done"'), idem_fail('attempt_batch', 'b', 1, '"again"'), idem_fail('attempt_batch', 'c', 1, '{"no": 1}', false);
SELECT * FROM pg_temp.grants('{a, b, c, aa}');
-- the other functions see them
SELECT status, fence, (idem_begin('attempt_batch', 'x')).status, idem_renew('attempt_batch', 'x', 1) > now() AS renewed, idem_complete('attempt_batch', 'x', 1) FROM idem_lookup('attempt_batch', 'x');
SELECT seq, claimed, status FROM idem_claim_batch('attempt_batch', '{x, y, z, c}');

-- keys in every state, with and without take-over
CREATE FUNCTION pg_temp.states(prefix text) RETURNS void LANGUAGE sql AS $$
	SELECT idem_begin('attempt_batch', prefix || s) FROM unnest('{running, expired, open, done, failed}'::text[]) s;
	UPDATE idem.claim SET lease_until = clock_timestamp() - interval '1 second' WHERE seq = prefix || 'expired';
	SELECT idem_fail('attempt_batch', prefix || 'open', 1), idem_complete('attempt_batch', prefix || 'done', 1, '"yes"'), idem_fail('attempt_batch', prefix || 'failed', 1, '"no"', false),
		idem_cancel('attempt_batch', prefix || 'cancelled'), idem_claim('attempt_batch', prefix || 'claimed');
$$;
SELECT pg_temp.states('s '), pg_temp.states('t ');
SELECT * FROM pg_temp.grants('{s new, s running, s expired, s open, s done, s failed, s cancelled, s claimed, s expired}');
SELECT * FROM pg_temp.grants('{t new, t running, t expired, t open, t done, t failed, t cancelled, t claimed, t expired}', takeover => false, wait => false);
-- an open key's request is replaced, by none
SELECT status FROM idem_begin('attempt_batch', 'r', request => '1');
SELECT idem_fail('attempt_batch', 'r', 1);
SELECT * FROM pg_temp.grants('{r}');
SELECT request IS NULL AS none FROM idem.claim WHERE source = 'attempt_batch' AND seq = 'r';

-- rolled back, they are free
BEGIN;
SELECT count(*) FILTER (WHERE status = 'granted') FROM idem_begin_batch('attempt_batch', ARRAY['rb 1', 'rb 2']);
ROLLBACK;
SELECT * FROM pg_temp.grants('{rb 2, rb 1}');
-- long answers come whole, in their places
SELECT idem_complete('attempt_batch', 'rb 1', 1, to_json(repeat('0123456789', 100000))), idem_complete('attempt_batch', 'rb 2', 1, (SELECT json_agg(md5(i::text)) FROM generate_series(1, 3000) i));
SELECT seq, status, length(response::text), md5(response::text) = md5(idem_response('attempt_batch', seq)::text) AS whole FROM idem_begin_batch('attempt_batch', ARRAY['rb 2', 'rb 1', 'rb 2']);

-- more than are reserved at once; types of keys; a LIMIT does not stop it
SELECT count(*), count(*) FILTER (WHERE status = 'granted') AS granted, bool_and(seq::int = n) AS in_order, count(DISTINCT fence)
FROM idem_begin_batch('attempt_batch many', (SELECT array_agg(i) FROM generate_series(1, 1000) i)) WITH ORDINALITY b (seq, status, fence, response, lease_until, n);
SELECT count(*), count(*) FILTER (WHERE status = 'granted') AS granted, count(*) FILTER (WHERE status = 'running') AS running
FROM idem_begin_batch('attempt_batch many', (SELECT array_agg(i ORDER BY i % 7, i) FROM generate_series(501, 1500) i));
SELECT status FROM idem_begin_batch('attempt_batch', ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT seq FROM idem_begin_batch('attempt_batch', '{l 1, l 2, l 3}') LIMIT 1;
SELECT status FROM idem_begin('attempt_batch', 'l 3');

-- property: as a loop of idem_begin answers
SELECT setseed(0.7);
DO $$
DECLARE
	keys text[]; batch text[]; looped text[]; k text; r record; wrong int := 0; kinds text[] := '{}';
BEGIN
	FOR round IN 1 .. 100 LOOP
		keys := ARRAY(SELECT chr(97 + floor(random() * 8)::int) || floor(random() * 30) FROM generate_series(1, (random() * 200)::int));
		FOR side IN 1 .. 2 LOOP
			PERFORM setseed(round / 1000.0);
			FOREACH k IN ARRAY ARRAY(SELECT DISTINCT u FROM unnest(keys) u ORDER BY u) LOOP
				CASE floor(random() * 6)::int
					WHEN 0 THEN PERFORM idem_begin('ab' || side || round, k, '1 hour');
					WHEN 1 THEN PERFORM idem_begin('ab' || side || round, k), idem_fail('ab' || side || round, k, 1);
					WHEN 2 THEN PERFORM idem_begin('ab' || side || round, k), idem_complete('ab' || side || round, k, 1, to_json(k));
					WHEN 3 THEN PERFORM idem_claim('ab' || side || round, k);
					ELSE NULL;
				END CASE;
			END LOOP;
		END LOOP;
		SELECT coalesce(array_agg(concat_ws(' ', seq, status, fence, response) ORDER BY n), '{}') INTO batch FROM idem_begin_batch('ab1' || round, keys) WITH ORDINALITY b (seq, status, fence, response, lease_until, n);
		looped := '{}';
		FOREACH k IN ARRAY keys LOOP
			looped := looped || (SELECT concat_ws(' ', k, status, fence, response) FROM idem_begin('ab2' || round, k));
		END LOOP;
		IF batch <> looped THEN wrong := wrong + 1; END IF;
		kinds := ARRAY(SELECT DISTINCT split_part(u, ' ', 2) FROM unnest(batch) u UNION SELECT unnest(kinds) ORDER BY 1);
	END LOOP;
	RAISE NOTICE '% wrong, of the kinds %', wrong, kinds;
END $$;

--
-- Errors
--
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch(NULL, '{1}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('', '{1}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', NULL)$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{1, NULL}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{1, ""}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', ARRAY['1', repeat('k', 1025)])$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{{1}, {2}}')$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{e 1}', '-1 second')$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{e 1}', NULL)$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{e 1}', takeover => NULL)$$);
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{e 1}', wait => NULL)$$);
SELECT left(pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', ARRAY[now()])$$), 5);
BEGIN READ ONLY;
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{e 1}')$$);
COMMIT;
-- another role's key: the whole batch, for it may not even learn that
CREATE ROLE regress_attempt_batch;
SET ROLE regress_attempt_batch;
SELECT pg_temp.try($$SELECT * FROM idem_begin_batch('attempt_batch', '{e 1, a, e 2}')$$);
RESET ROLE;
DROP ROLE regress_attempt_batch;
SELECT (idem_lookup('attempt_batch', 'e 1')).status IS NULL AS nothing_left;

DELETE FROM idem.claim WHERE source LIKE 'attempt\_batch%' OR source LIKE 'ab%';
