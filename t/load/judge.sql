-- The oracle: a line for each promise that was broken, and nothing else. The journals of the load (psql variable
-- journals, a shell pattern) say what the clients were told, the tables what has happened.

\set QUIET 1
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
CREATE TEMP TABLE journal (client int, ticket bigint, kind text, number bigint, key text, event text, name text, fence bigint,
	asked numeric, told numeric, body text);
\set copy '\\copy journal FROM PROGRAM ''cat ' :journals ' /dev/null'''
:copy

-- each request, and how often it was told that it was done, and that it was the one that did it
CREATE TEMP TABLE request AS
	SELECT kind, number, key, count(*) FILTER (WHERE event IN ('done', 'again')) AS done,
		count(*) FILTER (WHERE event IN ('done', 'again') AND name = 'first') AS first,
		count(DISTINCT body) FILTER (WHERE event IN ('done', 'again')) AS answers,
		min(body) FILTER (WHERE event IN ('done', 'again')) AS answer
	FROM journal GROUP BY kind, number, key;
CREATE TEMP TABLE done_key AS
	SELECT kind, key FROM request WHERE done > 0 AND kind NOT IN ('batch', 'unsorted')
	UNION SELECT kind, n::text FROM request, generate_series(number, number + 9) n WHERE done > 0 AND kind IN ('batch', 'unsorted');
CREATE TEMP TABLE effect AS
	SELECT kind, key, count(*) AS times, min(body) AS body, sum(amount) AS amount FROM load.effect GROUP BY kind, key;
CREATE INDEX ON effect (kind, key);
ANALYZE request, done_key, effect;

CREATE TEMP VIEW violation AS
	-- each key's effect at most once
	SELECT 'effect' AS promise, format('%s %s was done %s times', kind, key, times) AS what FROM effect WHERE times > 1
	UNION ALL
	SELECT 'effect', format('state %s: from %s to %s %s times', key, was, became, count(*)) FROM load.history
	GROUP BY key, was, became HAVING count(*) > 1

	-- each acknowledged success exactly once
	UNION ALL
	SELECT 'lost', format('%s %s was acknowledged, and is not there', kind, key) FROM done_key d
	WHERE kind NOT IN ('insert', 'state', 'stock') AND NOT EXISTS (SELECT FROM effect e WHERE e.kind = d.kind AND e.key = d.key)
	UNION ALL
	SELECT 'lost', format('insert %s was acknowledged, and is not there', key) FROM done_key d
	WHERE kind = 'insert' AND NOT EXISTS (SELECT FROM load.thing t WHERE t.key = d.key)
	UNION ALL
	SELECT 'lost', format('state %s was acknowledged, and is %s', r.key, coalesce(d.status, 'not there'))
	FROM request r LEFT JOIN load.document d USING (key)
	WHERE r.kind = 'state' AND r.done > 0 AND d.status IS DISTINCT FROM CASE WHEN number % 4 = 0 THEN 'cancelled' ELSE 'shipped' END
	UNION ALL
	SELECT 'lost', format('stock %s was acknowledged, and is %s', r.key, coalesce(h.status::text, 'not there'))
	FROM request r LEFT JOIN idem.hold h ON h.source = 'stock' AND h.seq = r.key
	WHERE r.kind = 'stock' AND r.done > 0
		AND h.status::text IS DISTINCT FROM CASE number % 4 WHEN 0 THEN 'h' WHEN 1 THEN 'r' ELSE 'c' END
	UNION ALL
	SELECT 'twice', format('%s %s was acknowledged as done just now %s times', kind, key, first) FROM request
	WHERE first > 1 AND kind NOT IN ('batch', 'unsorted')
	UNION ALL
	SELECT 'twice', format('state %s was moved to %s just now %s times', key, name, count(*)) FROM journal
	WHERE event = 'won' GROUP BY key, name HAVING count(*) > 1

	-- a claim exists if and only if its effect does
	UNION ALL
	SELECT 'claim', format('%s %s: %s', coalesce(e.kind, c.source), coalesce(e.key, c.seq),
		CASE WHEN e.kind IS NULL THEN 'claimed without an effect' ELSE 'an effect without a claim' END)
	FROM (SELECT * FROM effect WHERE kind IN ('claim', 'batch', 'call', 'attempt', 'lock', 'deduct', 'version')) e
	FULL JOIN (SELECT * FROM idem.claim WHERE status = 'd' AND source IN ('claim', 'batch', 'call', 'attempt', 'lock', 'deduct', 'version')) c ON c.source = e.kind AND c.seq = e.key
	WHERE e.kind IS NULL OR c.source IS NULL
	UNION ALL
	SELECT 'claim', format('%s %s is recorded %s times', source, seq, count(*)) FROM idem.claim GROUP BY source, seq HAVING count(*) > 1
	UNION ALL
	SELECT 'claim', format('order %s %s is recorded %s times', source, seq, count(*)) FROM idem.hold GROUP BY source, seq HAVING count(*) > 1
	UNION ALL
	SELECT 'claim', format('%s spent tokens, %s effects of tokens', spent, effects)
	FROM (SELECT count(*) AS spent FROM idem.token_spent) s, (SELECT count(*) AS effects FROM effect WHERE kind = 'token') e
	WHERE spent <> effects
	UNION ALL
	SELECT 'claim', format('lock %s: %s guarded rows', e.key, count(g.key)) FROM effect e LEFT JOIN load.guarded g USING (key)
	WHERE e.kind = 'lock' GROUP BY e.key HAVING count(g.key) <> 1

	-- answers byte for byte what the winner computed
	UNION ALL
	SELECT 'answer', format('%s %s has %s answers, one of them %s', kind, key, answers, answer) FROM request WHERE answers > 1
	UNION ALL
	SELECT 'answer', format('%s %s was answered %s, and it is %s', kind, key, answer, body) FROM request JOIN effect USING (kind, key)
	WHERE done > 0 AND kind IN ('claim', 'call', 'attempt', 'deduct', 'version') AND answer IS DISTINCT FROM body
	UNION ALL
	SELECT 'answer', format('%s %s: %s is recorded, and it is %s', kind, key, response, body)
	FROM effect JOIN idem.claim c ON c.source = kind AND c.seq = key
	WHERE kind IN ('claim', 'call', 'attempt', 'deduct', 'version') AND response::text IS DISTINCT FROM body
	UNION ALL
	SELECT 'answer', format('insert %s was answered %s, and it is %s', key, answer, t) FROM request JOIN load.thing t USING (key)
	WHERE kind = 'insert' AND done > 0 AND answer IS DISTINCT FROM t::text

	-- books balance
	UNION ALL
	SELECT 'books', format('product %s: %s left, %s deducted', p.id, stock, sum(amount))
	FROM load.product p LEFT JOIN effect e ON e.kind = 'deduct' AND e.key::bigint % 8 + 1 = p.id
	GROUP BY p.id HAVING stock < 0 OR stock + coalesce(sum(amount), 0) <> CASE p.id WHEN 8 THEN 50 ELSE 1000000000 END
	UNION ALL
	SELECT 'books', format('deduct %s: %s deducted', key, amount) FROM effect
	WHERE kind = 'deduct' AND amount <> 0 AND amount <> key::bigint % 3 + 1
	UNION ALL
	SELECT 'books', format('doc %s: n %s, version %s, %s changes, the last makes %s', d.id, n, version, count(e), max(amount))
	FROM load.doc d LEFT JOIN effect e ON e.kind = 'version' AND e.key::bigint % 16 + 1 = d.id
	GROUP BY d.id HAVING n <> count(e) OR version <> n OR count(DISTINCT amount) <> n OR coalesce(max(amount), 0) <> n
	UNION ALL
	SELECT 'books', format('%s: %s in stock, %s taken', item, q, taken)
	FROM (SELECT item, sum(quantity) AS q, min(quantity) AS low FROM idem.stock GROUP BY item) s
	LEFT JOIN (SELECT i AS item, sum(q) AS taken FROM idem.hold, unnest(items, quantities) AS t (i, q) WHERE status IN ('h', 'c') GROUP BY i) h
	USING (item)
	WHERE item LIKE 'item %' AND (low < 0 OR q + coalesce(taken, 0) <> 1000000000)
	UNION ALL
	SELECT 'books', format('stock %s holds %s of %s', seq, quantities, items) FROM idem.hold
	WHERE status IN ('h', 'c') AND source = 'stock'
		AND (SELECT sum(q) FROM unnest(quantities) q) <> seq::bigint % 3 + 1 + CASE WHEN seq::bigint % 4 = 3 THEN 1 ELSE 0 END

	-- fences grow: from one grant to the next, and in what was written
	UNION ALL
	SELECT 'fence', format('%s %s: fence %s was granted %s times', kind, name, fence, count(*)) FROM journal
	WHERE event = 'grant' GROUP BY kind, name, fence HAVING count(*) > 1
	UNION ALL
	SELECT 'fence', format('%s %s: fence %s was asked for when %s was granted', kind, name, fence, highest)
	FROM (SELECT *, max(fence) FILTER (WHERE told_event) OVER (PARTITION BY kind, name ORDER BY at, told_event DESC ROWS UNBOUNDED PRECEDING) AS highest
		FROM journal, LATERAL (VALUES (asked, false), (told, true)) AS v (at, told_event) WHERE event = 'grant') g
	WHERE NOT told_event AND fence <= highest
	UNION ALL
	SELECT 'fence', format('%s: row %s has fence %s, a row before it %s', name, id, fence, before)
	FROM (SELECT *, max(fence) OVER (PARTITION BY name ORDER BY id) AS before FROM load.guarded) g WHERE fence < before
	UNION ALL
	SELECT 'fence', format('%s is at %s, and %s was granted', name, l.fence, max(j.fence)) FROM journal j JOIN idem.lock l USING (name)
	WHERE event = 'grant' AND kind = 'lock' GROUP BY name, l.fence HAVING max(j.fence) > l.fence
	UNION ALL
	SELECT 'fence', format('attempt %s is at %s, and %s has completed it', key, fence, amount)
	FROM effect JOIN idem.claim c ON c.source = kind AND c.seq = key WHERE kind = 'attempt' AND amount <> fence
	UNION ALL
	SELECT 'fence', format('attempt %s is at %s, and %s was granted', j.key, coalesce(c.fence, 0), max(j.fence))
	FROM journal j LEFT JOIN idem.claim c ON c.source = 'attempt' AND c.seq = j.key
	WHERE event = 'grant' AND kind = 'attempt' GROUP BY j.key, c.fence HAVING max(j.fence) > coalesce(c.fence, 0)

	-- no illegal state in the history
	UNION ALL
	SELECT 'state', format('%s went from %s to %s', key, was, became) FROM load.history
	WHERE (coalesce(was, ''), became) NOT IN (('', 'created'), ('created', 'paid'), ('paid', 'shipped'), ('shipped', 'done'), ('created', 'cancelled'))
	UNION ALL
	SELECT 'state', format('%s is %s, and its history ends with %s', key, status, last)
	FROM load.document JOIN (SELECT DISTINCT ON (key) key, became AS last FROM load.history ORDER BY key, id DESC) h USING (key)
	WHERE status <> last

	-- what the clients could not make sense of
	UNION ALL
	SELECT 'bug', format('%s %s: %s', kind, key, body) FROM journal WHERE event = 'bug';

-- not all of a thousand
SELECT promise || ': ' || what FROM (SELECT *, row_number() OVER (PARTITION BY promise, regexp_replace(left(what, 40), '\d+', '', 'g') ORDER BY what) AS n
	FROM violation) v
WHERE n <= 5 ORDER BY promise, what;

-- every index has every row, and nothing else
CREATE FUNCTION pg_temp.amcheck(which regclass) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM bt_index_check(which, true);
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN format('amcheck: %s: %s', which, SQLERRM);
END $$;
SELECT broken FROM (SELECT pg_temp.amcheck(i.indexrelid) AS broken
	FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree'
	WHERE c.relnamespace IN ('idem'::regnamespace, 'load'::regnamespace)
	UNION ALL
	SELECT format('amcheck: %s, block %s: %s', t, blkno, msg)
	FROM pg_class t, LATERAL verify_heapam(t.oid::regclass, check_toast => true)
	WHERE t.relkind = 'r' AND t.relnamespace IN ('idem'::regnamespace, 'load'::regnamespace)) b WHERE broken IS NOT NULL;

-- no lock left, and nothing prepared
SELECT format('lock: %s of %s on %s', mode, coalesce(a.application_name, 'prepared transaction'), coalesce(relation::regclass::text, locktype))
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.pid IS NULL OR (l.pid <> pg_backend_pid() AND a.backend_type = 'client backend');
SELECT format('prepared: %s', gid) FROM pg_prepared_xacts;
