-- Pins policies: what idem_policy, idem_policy_drop and idem_retention take and answer, what each function says of a key that is not
-- on record, the mark that only rises, and what idem_purge removes by policies, walking over blocks and over keys.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
CREATE ROLE regress_policy;
TRUNCATE idem.policy, idem.claim, idem.hold;
\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
-- what a statement answers or how it fails, without what changes from run to run
CREATE FUNCTION pg_temp.tried(statement text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(pg_temp.outcome($1), '\d{4,}-\d\d-\d\d[ \d:.]+\+00', '<time>', 'g'), '\d{13}', '<key>', 'g')
$$;
-- a key of that age, in milliseconds
CREATE FUNCTION pg_temp.aged(age interval, what text DEFAULT '') RETURNS text LANGUAGE sql AS $$
SELECT (extract(epoch FROM clock_timestamp() - age) * 1000)::bigint || what
$$;
-- puts a finished claim there: key and end of these ages
CREATE FUNCTION pg_temp.put(source text, key interval, ended interval, what text DEFAULT '', status "char" DEFAULT 'd') RETURNS text LANGUAGE sql AS $$
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, lease_until)
VALUES (source, pg_temp.aged(key, what), current_user, status, 0, now() - ended, CASE status WHEN 'r' THEN now() - ended END) RETURNING seq
$$;
CREATE FUNCTION pg_temp.left() RETURNS text LANGUAGE sql AS $$
SELECT string_agg(source || regexp_replace(seq, '^\d+', ''), ', ' ORDER BY source, regexp_replace(seq, '^\d+', '')) FROM idem.claim
$$;

--
-- Making, changing and ending one
--
SELECT idem_retention('p');
SELECT idem_policy('p', '30 days');
SELECT idem_retention('p');
SELECT idem_policy('p', key_time => 'uuidv7');
SELECT idem_policy('p', '1 month 2 days 3 hours');
SELECT idem_policy('p', not_before => '2020-01-01');
SELECT idem_policy('p', not_before => '2019-01-01');
SELECT idem_policy('p');
SELECT * FROM idem.policy;
SELECT idem_policy('p', key_time => 'none');
SELECT idem_policy('p', key_time => 'snowflake:1420070400000'), idem_policy('p', key_time => 'snowflake'), idem_policy('p', key_time => 'uuidv7');
SELECT * FROM idem.policy;
SELECT idem_policy_drop('p'), idem_policy_drop('p'), idem_policy_drop('unknown'), idem_retention('p');
SELECT * FROM idem.policy;
SELECT idem_policy('p', '1 hour');
SELECT * FROM idem.policy;
-- the same again writes nothing
SELECT xmin AS before FROM idem.policy WHERE source = 'p' \gset
SELECT idem_policy('p', '1 hour'), idem_policy('p', not_before => '2018-01-01'), idem_policy('p', key_time => 'none');
SELECT xmin = :'before' AS untouched FROM idem.policy WHERE source = 'p';
-- what is refused
SELECT pg_temp.tried($$SELECT idem_policy(NULL, '1 day')$$);
SELECT pg_temp.tried($$SELECT idem_policy('', '1 day')$$);
SELECT pg_temp.tried($$SELECT idem_policy(repeat('x', 256), '1 day')$$);
SELECT pg_temp.tried($$SELECT idem_policy('new')$$);
SELECT pg_temp.tried($$SELECT idem_policy('new', key_time => 'ulid')$$);
SELECT pg_temp.tried($$SELECT idem_policy('new', '0')$$);
SELECT pg_temp.tried($$SELECT idem_policy('new', '1 month -30 days')$$);
SELECT pg_temp.tried($$SELECT idem_policy('new', '2000 years')$$);
SELECT left(pg_temp.tried(format('SELECT idem_policy(''new'', ''1 day'', %L)', k)), 5), k FROM unnest(ARRAY['', 'UUIDV7', 'uuid', ' ulid', 'unix ', 'snowflake:', 'snowflake:-1', 'snowflake:1x', 'snowflake:253402300800000', 'snowflake:99999999999999999999', 'date:1', 'None', repeat('x', 33)]) k;
SELECT pg_temp.tried($$SELECT idem_policy('new', '1 day', 'x')$$);
SELECT pg_temp.tried($$SELECT idem_policy('new', '1 day', not_before => 'infinity')$$);
SELECT left(pg_temp.tried($$SELECT idem_policy('new', '1 day', not_before => '-infinity')$$), 5), left(pg_temp.tried($$SELECT idem_policy_drop(NULL)$$), 5), left(pg_temp.tried($$SELECT idem_retention('')$$), 5);
SELECT count(*) FROM idem.policy WHERE source = 'new';
BEGIN READ ONLY;
SELECT left(pg_temp.tried($$SELECT idem_policy('p', '1 day')$$), 5), left(pg_temp.tried($$SELECT idem_policy_drop('p')$$), 5), idem_retention('p');
COMMIT;
SET ROLE regress_policy;
SELECT left(pg_temp.tried($$SELECT idem_policy('p', '1 day')$$), 5), left(pg_temp.tried($$SELECT idem_policy_drop('p')$$), 5), idem_retention('p');
RESET ROLE;
-- a day has 24 hours, a month 30 days, whatever the clocks do
SELECT idem_policy('p', '1 month', 'unix', '2019-01-01');
SELECT pg_temp.tried(format('SELECT idem_claim(''p'', %L)', pg_temp.aged('30 days -1 minute'))), left(pg_temp.tried(format('SELECT idem_claim(''p'', %L)', pg_temp.aged('30 days 1 minute'))), 5);

--
-- What is said of a key that is not on record
--
TRUNCATE idem.policy, idem.claim;
SELECT idem_policy('p', '1 hour', 'unix');
SELECT idem_stock_add('regress policy', 100);
SELECT pg_temp.aged('2 hours') AS old, pg_temp.aged('1 minute') AS new, pg_temp.aged('-25 hours') AS ahead, pg_temp.aged('-23 hours') AS soon \gset
CREATE FUNCTION pg_temp.echo(r json) RETURNS json LANGUAGE sql AS 'SELECT r';
CREATE TEMP TABLE call (id int GENERATED ALWAYS AS IDENTITY, stmt text);
INSERT INTO call (stmt) VALUES ('idem_claim(''p'', %L)'), ('idem_call(''p'', %L, ''pg_temp.echo'', ''1'')'), ('idem_handle(''p'', %L, ''pg_temp.echo'', ''1'')'),
	('idem_begin(''p'', %L)'), ('idem_cancel(''p'', %L)'), ('idem_respond(''p'', %L, ''1'')'), ('idem_renew(''p'', %L, 1)'), ('idem_complete(''p'', %L, 1)'), ('idem_fail(''p'', %L, 1)'),
	('idem_claim_batch(''p'', ARRAY[%L])'), ('idem_begin_batch(''p'', ARRAY[%L])'), ('idem_lookup(''p'', %L)'), ('idem_response(''p'', %L)'),
	('idem_stock_reserve(''p'', %L, ''regress policy'', 1)'), ('idem_stock_reserve_items(''p'', %L, ''{regress policy}'', ''{1}'')'), ('idem_stock_release(''p'', %L)'),
	('idem_stock_confirm(''p'', %L)'), ('idem_stock_amend(''p'', %L, ''regress policy'', 1)'), ('idem_stock_renew(''p'', %L, ''1 day'')'), ('idem_stock_lookup(''p'', %L)'), ('idem_forget(''p'', %L)');
SELECT pg_temp.tried(format('SELECT idem_claim(''p'', %L)', :'old'));
SELECT pg_temp.tried(format('SELECT idem_claim(''p'', %L)', :'ahead'));
SELECT pg_temp.tried('SELECT idem_claim(''p'', ''an order'')');
SELECT stmt, split_part(regexp_replace(pg_temp.tried('SELECT ' || format(stmt, :'old')), '<key>|\d{13}', '<key>'), ':', 1) AS old,
	split_part(regexp_replace(pg_temp.tried('SELECT ' || format(stmt, 'an order')), '<key>|\d{13}', '<key>'), ':', 1) AS unreadable,
	split_part(regexp_replace(pg_temp.tried('SELECT ' || format(stmt, :'ahead')), '<key>|\d{13}', '<key>'), ':', 1) AS ahead FROM call ORDER BY id;
SELECT count(*) AS claims FROM idem.claim;
SELECT count(*) AS holds FROM idem.hold WHERE source = 'p';
SELECT idem_claim('p', :'new'), idem_claim('p', :'soon'), idem_claim('p', :'new' || '-2'), idem_claim('other', 'an order');
-- other forms
SELECT idem_policy('u', '1 hour', 'uuidv7'), idem_policy('l', '1 hour', 'ulid'), idem_policy('s', '1 hour', 'snowflake'), idem_policy('d', '1 day', 'date');
SELECT pg_temp.tried($$SELECT idem_claim('u', '018BCFE5-6800-7000-8000-000000000000')$$);
SELECT pg_temp.tried($$SELECT idem_claim('l', '01HF7YAT00AAAAAAAAAAAAAAAA')$$);
SELECT pg_temp.tried($$SELECT idem_claim('s', 1541815603606036480)$$);
SELECT pg_temp.tried($$SELECT idem_claim('d', '20240101')$$);
SELECT pg_temp.tried($$SELECT idem_claim('u', 'x')$$);
SELECT pg_temp.tried($$SELECT idem_claim('l', 'x')$$);
SELECT pg_temp.tried($$SELECT idem_claim('s', 'x')$$);
SELECT pg_temp.tried($$SELECT idem_claim('d', 'x')$$);
-- a day is as old as its end, and as new as its beginning
SELECT idem_claim('d', to_char(now() AT TIME ZONE 'UTC' - interval '1 day', 'YYYYMMDD')), idem_claim('d', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')),
	idem_claim('d', to_char(now() AT TIME ZONE 'UTC' + interval '1 day', 'YYYYMMDD')), left(pg_temp.tried(format('SELECT idem_claim(''d'', %L)', to_char(now() AT TIME ZONE 'UTC' - interval '2 days', 'YYYYMMDD'))), 5) AS gone,
	left(pg_temp.tried(format('SELECT idem_claim(''d'', %L)', to_char(now() AT TIME ZONE 'UTC' + interval '2 days', 'YYYYMMDD'))), 5) AS ahead;
-- on record: answered as ever, whatever its form and age; the request is compared first
SELECT pg_temp.put('p', '9 days', '0') AS kept, pg_temp.put('p', '8 days', '9 days', '', 'r') AS expired, pg_temp.put('p', '7 days', '9 days', '', 'o') AS open \gset
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at) VALUES ('p', 'of old', current_user, 'd', 0, now());
SELECT idem_claim('p', :'kept'), idem_respond('p', :'kept', '1'), idem_cancel('p', :'kept'), idem_claim('p', 'of old'), (idem_begin('p', :'expired')).status, idem_claim('p', :'open');
SELECT idem_claim('p', :'new' || '-3', '1'), left(pg_temp.tried(format('SELECT idem_claim(''p'', %L, ''2'')', :'new' || '-3')), 5);
-- what is forgotten is not lifted
SELECT idem_forget('p', :'kept'), left(pg_temp.tried(format('SELECT idem_claim(''p'', %L)', :'kept')), 5), idem_forget('p', :'new'), idem_claim('p', :'new');
-- in a transaction that changes it, and one that takes the change back
SELECT pg_temp.aged('90 minutes') AS aged \gset
BEGIN;
SAVEPOINT s;
SELECT idem_policy('p', '2 hours');
SELECT idem_claim('p', :'aged');
ROLLBACK TO s;
SELECT left(pg_temp.tried(format('SELECT idem_claim(''p'', %L)', :'aged')), 5);
SELECT idem_policy_drop('p'), idem_claim('p', :'aged'), idem_claim('p', 'an order');
ROLLBACK;
SELECT left(pg_temp.tried(format('SELECT idem_claim(''p'', %L)', :'aged')), 5);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT idem_claim('p', :'new');
SELECT idem_policy('p', '2 hours'), idem_claim('p', :'aged');
ROLLBACK;

--
-- The mark
--
TRUNCATE idem.policy, idem.claim;
SELECT idem_policy('m', '1 hour', 'unix');
SELECT pg_temp.put('m', '3 hours', '3 hours') AS three, pg_temp.aged('2 hours') AS two, pg_temp.aged('10 minutes') AS ten \gset
CREATE FUNCTION pg_temp.each() RETURNS text LANGUAGE sql AS $$
SELECT string_agg(left(pg_temp.tried('SELECT idem_claim(''m'', ' || quote_literal(k) || ')'), 5), ' ') FROM unnest(ARRAY[current_setting('regress.three'), current_setting('regress.two'), current_setting('regress.ten')]) k
$$;
SELECT set_config('regress.three', :'three', false) <> '' AS three, set_config('regress.two', :'two', false) <> '' AS two, set_config('regress.ten', :'ten', false) <> '' AS ten;
CREATE FUNCTION pg_temp.undone() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	BEGIN
		said := pg_temp.each();
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN NULL;
	END;
	RETURN said;
END $$;
SELECT pg_temp.undone() AS before;
CALL idem_purge();
SELECT now() - mark BETWEEN '1 hour' AND '1 hour 1 minute' AS mark FROM idem.policy;
SELECT pg_temp.undone() AS purged;
SELECT idem_policy('m', '10 hours');
SELECT pg_temp.undone() AS longer;
SELECT idem_policy('m', key_time => 'none');
SELECT idem_policy('m', key_time => 'unix');
SELECT pg_temp.undone() AS other_key_time;
SELECT idem_policy_drop('m');
SELECT pg_temp.undone() AS dropped;
SELECT idem_policy('m', '10 hours', 'unix');
SELECT pg_temp.undone() AS made_again;
SELECT idem_policy('m', not_before => now() - interval '5 minutes');
SELECT pg_temp.undone() AS not_before;
-- sources without a policy share one
CALL idem_purge('5 hours');
CALL idem_purge('6 hours', source => 'another');
SELECT source, round(extract(epoch FROM now() - mark) / 60) AS minutes FROM idem.policy ORDER BY source;
SELECT idem_policy('n', '10 hours', 'unix');
CALL idem_purge('4 hours', source => 'n');
SELECT source, round(extract(epoch FROM now() - mark) / 60) AS minutes FROM idem.policy ORDER BY source;
CALL idem_purge('2 hours', source => 'another');
SELECT source, round(extract(epoch FROM now() - mark) / 60) AS minutes FROM idem.policy ORDER BY source;

--
-- What a purge removes: by blocks, and by keys where rows have no place that means anything
--
CREATE PROCEDURE regress_policy_purge() LANGUAGE plpgsql AS $$
DECLARE
	walk text;
BEGIN
	FOREACH walk IN ARRAY ARRAY['blocks', 'keys'] LOOP
		IF walk = 'keys' THEN
			CREATE TABLE regress_policy_child () INHERITS (idem.claim);
			CREATE TABLE regress_policy_child_hold () INHERITS (idem.hold);
			CREATE TABLE regress_policy_child_spent () INHERITS (idem.token_spent);
			CREATE TABLE regress_policy_child_rate () INHERITS (idem.token_rate);
		END IF;
		FOR i IN 1..6 LOOP
			TRUNCATE idem.policy, idem.claim, idem.hold, idem.token_spent, idem.token_rate;
			PERFORM idem_policy('a', '1 day', 'unix'), idem_policy('b', '3 days'), idem_policy('c', '1 day', 'unix'), idem_policy('d', '1 day', 'unix');
			PERFORM idem_policy('c', key_time => 'ulid'), idem_policy_drop('d');
			PERFORM pg_temp.put(s, '2 days', '2 days', ' old'), pg_temp.put(s, '5 days', '5 days', ' older'), pg_temp.put(s, '-1 hour', '5 days', ' key ahead'), pg_temp.put(s, '5 days', '1 hour', ' ended late'),
				pg_temp.put(s, '5 days', '5 days', ' open', 'o'), pg_temp.put(s, '5 days', '5 days', ' expired', 'r'), pg_temp.put(s, '5 days', '5 days', ' failed', 'f') FROM unnest('{a, b, c, d, e}'::text[]) s;
			INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at) VALUES ('a', 'without a time', current_user, 'c', 0, now() - interval '5 days');
			INSERT INTO idem.hold (source, seq, owner, status, decided_at) SELECT s, pg_temp.aged(k, what), current_user, st, now() - e FROM unnest('{a, b, e}'::text[]) s,
				(VALUES (interval '5 days', interval '5 days', ' confirmed', 'c'::"char"), ('2 days', '2 days', ' old', 'r'), ('-1 hour', '5 days', ' ahead', 'x'), ('5 days', '5 days', ' held', 'h')) v (k, e, what, st);
			INSERT INTO idem.token_spent SELECT 'n' || e || c, now() - e, now() - c FROM unnest(ARRAY[interval '-1 hour', '1 hour', '5 days']) e, unnest(ARRAY[interval '1 hour', '5 days']) c;
			INSERT INTO idem.token_rate SELECT 'regress', e::text, now() - e, 1 FROM unnest(ARRAY[interval '-1 hour', '1 hour', '5 days']) e;
			COMMIT;
			CASE i WHEN 1 THEN CALL idem_purge(); WHEN 2 THEN CALL idem_purge('4 days'); WHEN 3 THEN CALL idem_purge(batch => 2);
				WHEN 4 THEN CALL idem_purge('1 hour', source => 'b'); WHEN 5 THEN CALL idem_purge('4 days', source => 'e'); ELSE CALL idem_purge('4 days', 3, 'd'); END CASE;
			RAISE WARNING '% %: %', walk, i, pg_temp.left();
			RAISE WARNING '    holds: %', (SELECT string_agg(source || regexp_replace(seq, '^\d+', ''), ', ' ORDER BY source, regexp_replace(seq, '^\d+', '')) FROM idem.hold);
			RAISE WARNING '    % spent, % counts', (SELECT count(*) FROM idem.token_spent), (SELECT count(*) FROM idem.token_rate);
		END LOOP;
	END LOOP;
END $$;
CALL regress_policy_purge();
DROP PROCEDURE regress_policy_purge;
DROP TABLE regress_policy_child, regress_policy_child_hold, regress_policy_child_spent, regress_policy_child_rate;
ANALYZE idem.claim, idem.hold, idem.token_spent, idem.token_rate;
SELECT relname FROM pg_class WHERE relnamespace = 'idem'::regnamespace AND relhassubclass;
-- a few sources, none of whose keys are looked at
TRUNCATE idem.policy, idem.claim, idem.hold;
SELECT idem_policy('b', '3 days'), idem_policy('f', '1 day');
SELECT count(pg_temp.put(s, a, a, ' ' || extract(day FROM a))) FROM unnest('{b, e, f}'::text[]) s, unnest('{2 days, 5 days, 9 days}'::interval[]) a;
CALL idem_purge();
SELECT pg_temp.left();
CALL idem_purge('6 days', 2);
SELECT pg_temp.left();
-- many sources in one window, each by its own retention
TRUNCATE idem.policy, idem.claim, idem.hold;
SELECT count(idem_policy('s' || i, i * interval '1 hour', CASE i % 3 WHEN 0 THEN 'unix' END)) FROM generate_series(1, 300) i;
SELECT count(pg_temp.put('s' || i, h * interval '1 hour', h * interval '1 hour')) FROM generate_series(1, 300) i, unnest('{10.5, 100.5, 200.5}'::float[]) h;
CALL idem_purge(batch => 100);
SELECT count(*), bool_and(now() - claimed_at < substr(source, 2)::int * interval '1 hour') AS all_remembered FROM idem.claim;
-- a trigger that keeps the mark from rising ends it
CREATE FUNCTION pg_temp.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER regress BEFORE INSERT OR UPDATE ON idem.policy FOR EACH ROW EXECUTE FUNCTION pg_temp.swallow();
CALL idem_purge();
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER regress ON idem.policy;

-- what the statement around a call has written just now is seen: no endless look at it
SET statement_timeout = '60s';
SELECT idem_policy('p', '1 day', 'unix', not_before => now());
SELECT pg_temp.put('p', '5 days', '5 days') IS NOT NULL AS there;
SELECT pg_temp.tried($$DELETE FROM idem.claim WHERE source = 'p' RETURNING idem_claim(source, seq)$$);
SELECT pg_temp.tried($$WITH gone AS (DELETE FROM idem.claim WHERE source = 'p' RETURNING source, seq) SELECT (idem_lookup(source, seq)).status FROM gone$$);
INSERT INTO idem.hold (source, seq, owner, status, reserved_at) VALUES ('p', pg_temp.aged('5 days'), current_user, 'r', now());
SELECT pg_temp.tried($$DELETE FROM idem.hold WHERE source = 'p' RETURNING idem_stock_release(source, seq)$$);
SELECT status, fence FROM idem_begin('a', '1', '1 hour');
SELECT pg_temp.tried($$UPDATE idem.claim SET lease_until = now() - interval '1 minute' WHERE source = 'a' RETURNING (idem_begin(source, seq, takeover => false)).status$$);
SELECT pg_temp.tried($$UPDATE idem.claim SET lease_until = now() - interval '1 minute' WHERE source = 'a' RETURNING (SELECT status FROM idem_begin_batch(source, ARRAY[seq], takeover => false))$$);
RESET statement_timeout;

TRUNCATE idem.policy, idem.claim, idem.hold, idem.token_spent, idem.token_rate;
DELETE FROM idem.stock WHERE item = 'regress policy';
DROP ROLE regress_policy;
