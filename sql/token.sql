-- Tokens: what each function answers, its errors, limits, and what it writes.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- live, used
SELECT idem_token_issue('form', 'alice') AS t \gset
SELECT length(:'t'), :'t' ~ '^[A-Za-z0-9_-]+$' AS urlsafe,
	idem_token_status(:'t', 'form', 'alice'),
	idem_token_status(:'t', 'form', 'alice') AS again;
SELECT idem_token_consume(:'t', 'form', 'alice') AS first,
	idem_token_consume(:'t', 'form', 'alice') AS second,
	idem_token_status(:'t', 'form', 'alice');
SELECT idem_token_consume(:'t', 'form', 'alice') AS third, idem_token_status(:'t', 'form', 'alice');

-- two tokens for the same have nothing to do with each other
SELECT idem_token_issue('form', 'alice') AS a, idem_token_issue('form', 'alice') AS b \gset
SELECT :'a' <> :'b' AS differ, idem_token_consume(:'a', 'form', 'alice'), idem_token_status(:'b', 'form', 'alice');

-- bound to purpose and subject, which are framed; a wrong one leaves it live
SELECT idem_token_issue('ab', 'c') AS t \gset
SELECT p, s, idem_token_status(:'t', p, s), idem_token_consume(:'t', p, s), idem_token_rotate(:'t', p, s) IS NULL AS kept
FROM (VALUES ('a', 'bc'), ('abc', ''), ('ab', ''), ('ab', 'C'), ('AB', 'c'), ('ab', 'c '), ('c', 'ab')) AS v (p, s);
SELECT idem_token_consume(:'t', 'ab', 'c');

-- the subject may be left out, which is the empty one
SELECT idem_token_issue('form') AS t \gset
SELECT idem_token_status(:'t', 'form'), idem_token_status(:'t', 'form', ''), idem_token_consume(:'t', 'form', '');

-- 255 bytes are not too long, whatever they are
SELECT idem_token_issue(repeat('é', 127) || 'x', repeat('ü', 127) || 'y') AS t \gset
SELECT idem_token_consume(:'t', repeat('é', 127) || 'x', repeat('ü', 127) || 'y');

-- expired by the clock, also within a transaction; from then on used or not makes no difference
CREATE FUNCTION pg_temp.outlive(OUT t text, OUT u text) LANGUAGE plpgsql AS $$
DECLARE
	ttl interval := '50 milliseconds';
BEGIN
	-- a busy machine may be too late for the first ones
	LOOP
		ttl := 2 * ttl;
		t := idem_token_issue('form', '', ttl);
		u := idem_token_issue('form', '', ttl);
		EXIT WHEN idem_token_status(t, 'form') = 'live' AND idem_token_consume(u, 'form') AND idem_token_status(u, 'form') = 'used' OR ttl > '1 minute';
	END LOOP;
	PERFORM pg_sleep(extract(epoch FROM ttl));
END $$;
BEGIN;
SELECT * FROM pg_temp.outlive() \gset
SELECT idem_token_status(:'t', 'form'), idem_token_consume(:'t', 'form'),
	idem_token_rotate(:'t', 'form') IS NULL AS kept, idem_token_status(:'u', 'form') AS used;
SELECT count(*) AS recorded FROM idem.token_spent WHERE nonce = substr(:'t', 14, 32);
COMMIT;

-- rotate: the old one is used, the new one is live
SELECT idem_token_issue('form', 'bob') AS t \gset
SELECT idem_token_rotate(:'t', 'form', 'bob') AS r \gset
SELECT :'r' <> :'t' AS differ, idem_token_status(:'t', 'form', 'bob') AS old, idem_token_status(:'r', 'form', 'bob') AS new;
SELECT idem_token_rotate(:'t', 'form', 'bob') IS NULL AS again, idem_token_rotate('no token', 'form', 'bob') IS NULL AS none;
SELECT idem_token_rotate(:'r', 'form', 'bob', '100 milliseconds') AS s \gset
DO 'BEGIN PERFORM pg_sleep(0.15); END';
SELECT idem_token_status(:'s', 'form', 'bob') AS by_its_ttl;

-- rolled back, or to a savepoint: live again
SELECT idem_token_issue('form') AS t \gset
BEGIN;
SELECT idem_token_consume(:'t', 'form');
ROLLBACK;
BEGIN;
SAVEPOINT one;
SELECT idem_token_consume(:'t', 'form'), idem_token_status(:'t', 'form');
ROLLBACK TO one;
SELECT idem_token_status(:'t', 'form'), idem_token_consume(:'t', 'form'), idem_token_consume(:'t', 'form') AS again;
COMMIT;
SELECT idem_token_status(:'t', 'form');

-- at every level one's own counts, and what was committed before
SELECT idem_token_issue('form') AS t \gset
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT idem_token_consume(:'t', 'form'), idem_token_consume(:'t', 'form') AS again, idem_token_status(:'t', 'form');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT idem_token_consume(:'t', 'form'), idem_token_status(:'t', 'form');
COMMIT;

-- what writes nothing takes no transaction id
SELECT idem_token_issue('form') AS t \gset
BEGIN;
SELECT idem_token_consume(:'t', 'form');
COMMIT;
BEGIN;
SELECT idem_token_issue('form') IS NOT NULL AS issued, idem_token_status(:'t', 'form'),
	idem_token_consume(:'t', 'form'), idem_token_consume('no token', 'form') AS forged,
	idem_token_rotate(:'t', 'form') IS NULL AS kept;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
COMMIT;

-- read only: issuing and the status work
SELECT idem_token_issue('form') AS t \gset
BEGIN READ ONLY;
SELECT idem_token_status(idem_token_issue('form'), 'form'), idem_token_status(:'t', 'form');
SELECT pg_temp.outcome(format('SELECT idem_token_consume(%L, %L)', :'t', 'form'));
SELECT pg_temp.outcome('SELECT idem_token_consume(''no token'', ''form'')');
SELECT pg_temp.outcome(format('SELECT idem_token_rotate(%L, %L)', :'t', 'form'));
SELECT pg_temp.outcome('SELECT idem_token_issue(''form'', max_issues => 1)');
SELECT pg_temp.outcome('SELECT idem_token_rekey()');
COMMIT;

-- a limit: per purpose and subject, and whoever is refused counts nothing
CREATE VIEW token_counts AS
	SELECT purpose, subject, issued, window_end > clock_timestamp() AS open FROM idem.token_rate
	WHERE purpose LIKE 'limit%' ORDER BY purpose, subject;
SELECT idem_token_issue('limit', 'alice', max_issues => 3) IS NOT NULL AS ok FROM generate_series(1, 3);
SELECT regexp_replace(pg_temp.outcome('SELECT idem_token_issue(''limit'', ''alice'', max_issues => 3)'), 'in \d+ s', 'in … s');
SELECT idem_token_issue('limit', 'bob', max_issues => 3) IS NOT NULL AS ok;
SELECT idem_token_issue('limit 2', 'alice', max_issues => 3) IS NOT NULL AS ok;
SELECT idem_token_issue('limit', 'alice') IS NOT NULL AS unlimited_is_not_counted;
SELECT * FROM token_counts;

-- the limit is the caller's, the window that of the call that began it
SELECT idem_token_issue('limit', 'alice', max_issues => 4) IS NOT NULL AS ok;
SELECT regexp_replace(pg_temp.outcome('SELECT idem_token_issue(''limit'', ''alice'', max_issues => 1, per => ''1 microsecond'')'), 'in \d+ s', 'in … s');

-- it can be used
SELECT idem_token_issue('limit', 'eve', max_issues => 1) AS t \gset
SELECT idem_token_consume(:'t', 'limit', 'eve');

-- the hint says how long
SELECT idem_token_issue('limit hint', max_issues => 1, per => '1 hour') IS NOT NULL AS ok;
SELECT substring(pg_temp.outcome('SELECT idem_token_issue(''limit hint'', max_issues => 1)') FROM 'in (\d+) s')::int BETWEEN 3500 AND 3600 AS an_hour;

-- a rolled-back issue is not counted
BEGIN;
SELECT idem_token_issue('limit back', max_issues => 1) IS NOT NULL AS ok;
ROLLBACK;
SELECT idem_token_issue('limit back', max_issues => 1) IS NOT NULL AS ok;

-- a window that is over is forgotten, in the same row
DO $$
DECLARE
	per interval := '50 milliseconds';
	second text;
BEGIN
	-- a busy machine may ask for the second one when the window is over
	LOOP
		per := 2 * per;
		PERFORM idem_token_issue('limit over', max_issues => 1, per => per);
		second := left(pg_temp.outcome(format('SELECT idem_token_issue(''limit over'', max_issues => 1, per => %L)', per)), 5);
		PERFORM pg_sleep(extract(epoch FROM per));
		EXIT WHEN second = 'ID429' OR per > '1 minute';
	END LOOP;
	RAISE NOTICE '%', second;
END $$;
SELECT idem_token_issue('limit over', max_issues => 2) IS NOT NULL AS ok FROM generate_series(1, 2);
SELECT left(pg_temp.outcome('SELECT idem_token_issue(''limit over'', max_issues => 2)'), 5);
SELECT * FROM token_counts WHERE purpose = 'limit over';

-- arguments
SELECT call, pg_temp.outcome('SELECT ' || call) AS answer FROM (VALUES
	('idem_token_issue(NULL)'),
	('idem_token_issue(''p'', NULL)'),
	('idem_token_issue(''p'', ''s'', NULL)'),
	('idem_token_issue(''p'', ''s'', ''1 s'', 1, NULL)'),
	('idem_token_issue(''p'', ''s'', ''1 s'', NULL, NULL)'),
	('idem_token_consume(NULL, ''p'')'),
	('idem_token_consume(''t'', NULL)'),
	('idem_token_consume(''t'', ''p'', NULL)'),
	('idem_token_rotate(NULL, ''p'')'),
	('idem_token_rotate(''t'', NULL)'),
	('idem_token_rotate(''t'', ''p'', NULL)'),
	('idem_token_rotate(''t'', ''p'', ''s'', NULL)'),
	('idem_token_status(NULL, ''p'')'),
	('idem_token_status(''t'', NULL)'),
	('idem_token_status(''t'', ''p'', NULL)'),
	('idem_token_issue('''')'),
	('idem_token_consume(''t'', '''')'),
	('idem_token_rotate(''t'', '''')'),
	('idem_token_status(''t'', '''')'),
	('idem_token_issue(repeat(''p'', 256))'),
	('idem_token_issue(''p'', repeat(''s'', 256))'),
	('idem_token_consume(''t'', repeat(''p'', 256))'),
	('idem_token_status(''t'', ''p'', repeat(''s'', 256))'),
	('idem_token_issue(''p'', ttl => ''0'')'),
	('idem_token_issue(''p'', ttl => ''-1 s'')'),
	('idem_token_rotate(''t'', ''p'', ttl => ''-1 s'')'),
	('idem_token_issue(''p'', max_issues => 0)'),
	('idem_token_issue(''p'', max_issues => -1)'),
	('idem_token_issue(''p'', max_issues => 1, per => ''0'')')
) AS v (call);

-- all three tables are reached directly, unless idem.force_sql says otherwise
SELECT t, EXISTS (SELECT FROM pg_backend_memory_contexts WHERE ident LIKE format('%%FROM idem.%s WHERE%%$1%%', t) AND ident NOT LIKE '%>%')
	= current_setting('idem.force_sql')::boolean AS as_set
FROM unnest(ARRAY['token_key', 'token_spent', 'token_rate']) AS t;

DELETE FROM idem.token_spent;
DELETE FROM idem.token_rate;
DROP VIEW token_counts;
