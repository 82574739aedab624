-- Pins that an interval is elapsed time, whatever the session's TimeZone: a day is 24 hours, a month 30 days, a year 365.25 days.
\set SHOW_CONTEXT never
\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
-- each lease, counted by the server's own clock: months and days, which are of several lengths in a calendar, across all changes of the clock
CREATE FUNCTION pg_temp.lease(ttl interval) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	l record;
BEGIN
	PERFORM idem_lock_break('interval'), idem_lock('interval', ttl);
	SELECT * INTO l FROM idem_lock_lookup('interval');
	RETURN round(extract(epoch FROM l.lease_until) - extract(epoch FROM l.locked_at), 3);
END $$;
SELECT z AS zone, ttl, set_config('TimeZone', z, false) = z AS set, pg_temp.lease(ttl) = round(extract(epoch FROM ttl), 3) AS elapsed
FROM unnest('{UTC, America/New_York, Australia/Lord_Howe, Africa/Casablanca}'::text[]) z, unnest('{1 day, 200 days, 1 month, 7 months, 13 months, 2 years, 1 month -29 days, 1.5 seconds, 999 years}'::interval[]) WITH ORDINALITY t (ttl, n) ORDER BY z, n;
RESET TimeZone;
-- so '1 day' is 24 hours also on the night when the clock changes, and what sums up to nothing is no interval
SELECT pg_temp.try($$SELECT idem_lock('interval', '1 month -30 days')$$);
SELECT pg_temp.try($$SELECT idem_lock('interval', '1 day -24:00:00.000001')$$);
SELECT pg_temp.lease('1 day -23:59:59.999');
SELECT pg_temp.try($$SELECT idem_lock('interval', '-1 month 29 days')$$);
SELECT pg_temp.try($$SELECT idem_lock('interval', '1001 years')$$);
SELECT pg_temp.try($$SELECT idem_lock('interval', '366000 days')$$);
SELECT pg_temp.try($$SELECT idem_lock('interval', '-1001 years')$$);
-- the same wherever an interval is taken
SELECT call, left(pg_temp.try('SELECT ' || call), 50) AS said FROM unnest(ARRAY[$$idem_begin('interval', '1', '1 month -30 days')$$, $$idem_begin_batch('interval', ARRAY['1'], '1 month -30 days')$$, $$idem_renew('interval', '1', 1, '1 month -30 days')$$,
	$$idem_lock_renew('interval', 1, '1 month -30 days')$$, $$idem_token_issue('interval', ttl => '1 month -30 days')$$, $$idem_token_issue('interval', max_issues => 1, per => '1 month -30 days')$$,
	$$idem_stock_reserve('interval', '1', 'interval', 1, '1 month -30 days')$$, $$idem_policy('interval', '1 month -30 days')$$]) call;
CALL idem_purge('1 month -30 days');
DELETE FROM idem.lock WHERE name = 'interval';
