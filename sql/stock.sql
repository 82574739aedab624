-- pins the contract of stock: reserve, confirm, release, expire, add, roles, arguments, and that the books balance
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA stock;
SET search_path = stock, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- the books of an item: available, held, confirmed, and whether they add up to what was added
CREATE FUNCTION books(which text, added numeric) RETURNS text LANGUAGE sql AS $$
	WITH s AS (SELECT coalesce(sum(quantity), 0) AS q, coalesce(min(quantity), 0) AS low
		FROM idem.stock WHERE item = which),
	h AS (SELECT coalesce(sum(t.q) FILTER (WHERE status = 'h'), 0) AS held,
		coalesce(sum(t.q) FILTER (WHERE status = 'c'), 0) AS sold
		FROM idem.hold, unnest(items, quantities) AS t (i, q) WHERE t.i = which)
	SELECT format('%s available, %s held, %s confirmed: %s', trim_scale(q), trim_scale(held), trim_scale(sold),
		CASE WHEN q + held + sold = added AND low >= 0 AND q = idem_stock_available(which) THEN 'balance' ELSE 'WRONG' END)
	FROM s, h $$;

\echo == one item
SELECT idem_stock_add('apple', 10);
SELECT idem_stock_reserve('stock', '1', 'apple', 3), idem_stock_reserve('stock', '1', 'apple', 3.0), idem_stock_available('apple');
SELECT idem_stock_reserve('stock', '2', 'apple', 8), idem_stock_reserve('stock', '2', 'apple', 7), idem_stock_available('apple');
\echo -- the retry of the sale of the last piece is true, another order is refused
SELECT idem_stock_reserve('stock', '2', 'apple', 7), idem_stock_reserve('stock', '3', 'apple', 1);
SELECT pg_temp.outcome($$SELECT idem_stock_reserve('stock', '1', 'apple', 4)$$);
SELECT books('apple', 10);
SELECT idem_stock_confirm('stock', '1'), idem_stock_confirm('stock', '1'), idem_stock_reserve('stock', '1', 'apple', 3);
SELECT pg_temp.outcome($$SELECT idem_stock_release('stock', '1')$$);
SELECT idem_stock_release('stock', '2'), idem_stock_release('stock', '2'), idem_stock_reserve('stock', '2', 'apple', 7);
SELECT pg_temp.outcome($$SELECT idem_stock_confirm('stock', '2')$$);
SELECT pg_temp.outcome($$SELECT idem_stock_reserve('stock', '2', 'apple', 5)$$);
SELECT books('apple', 10);
\echo -- what was refused left nothing, and may be asked for again
SELECT count(*) FROM idem.hold WHERE source = 'stock' AND seq = '3';
SELECT idem_stock_reserve('stock', '3', 'apple', 1);

\echo == released before it was reserved
SELECT idem_stock_release('stock', '4'), idem_stock_release('stock', '4'), idem_stock_reserve('stock', '4', 'apple', 1);
SELECT pg_temp.outcome($$SELECT idem_stock_confirm('stock', '4')$$);
SELECT pg_temp.outcome($$SELECT idem_stock_confirm('stock', '5')$$);
SELECT books('apple', 10);

\echo == several items: all or nothing
SELECT idem_stock_add('pear', 5.5, 4), idem_stock_add('plum', 2);
SELECT idem_stock_reserve_items('stock', '6', ARRAY['plum', 'pear', 'apple'], ARRAY[1, 5.25, 7]), books('pear', 5.5), books('plum', 2);
SELECT idem_stock_reserve_items('stock', '6', ARRAY['plum', 'pear'], ARRAY[1, 5.25]), books('pear', 5.5), books('plum', 2);
\echo -- a part of the order is there, in any order; the rest is added, or refused
SELECT idem_stock_reserve('stock', '6', 'pear', 5.25), idem_stock_reserve_items('stock', '6', ARRAY['pear', 'plum'], ARRAY[5.25, 1]);
SELECT idem_stock_reserve_items('stock', '6', ARRAY['apple', 'pear'], ARRAY[7, 5.25]), idem_stock_reserve_items('stock', '6', ARRAY['apple', 'pear'], ARRAY[6, 5.25]);
SELECT items, quantities FROM (SELECT array_agg(DISTINCT i) AS items, sum(q) AS quantities FROM idem.hold, unnest(items, quantities) AS t (i, q)
	WHERE seq = '6') AS h;
SELECT pg_temp.outcome($$SELECT idem_stock_reserve_items('stock', '6', ARRAY['apple', 'pear'], ARRAY[6, 5.5])$$);
SELECT idem_stock_confirm('stock', '6');
SELECT pg_temp.outcome($$SELECT idem_stock_reserve_items('stock', '6', ARRAY['fig', 'pear'], ARRAY[1, 5.25])$$);
SELECT pg_temp.outcome($$SELECT idem_stock_reserve_items('stock', '6', ARRAY['plum', 'pear'], ARRAY[1, 5.25])$$);
SELECT books('apple', 10), books('pear', 5.5), books('plum', 2);

\echo == time to live
SELECT idem_stock_add('apple', 5), idem_stock_add('pear', 5), idem_stock_add('plum', 5);
SELECT idem_stock_reserve_items('stock', '7', ARRAY['pear', 'plum'], ARRAY[0.25, 1], '1 hour'), idem_stock_reserve('stock', '8', 'apple', 0.5, '1 millisecond');
CREATE FUNCTION overdue() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	-- a retry does not hold longer
	PERFORM pg_sleep(0.01), idem_stock_reserve('stock', '8', 'apple', 0.5, '1 hour');
	RETURN (SELECT expires_at < clock_timestamp() FROM idem.hold WHERE seq = '8');
END $$;
SELECT overdue();
\echo -- as long as it is not given back it is held
SELECT books('apple', 15);
SET client_min_messages = notice;
CALL idem_stock_expire();
CALL idem_stock_expire();
SET client_min_messages = warning;
SELECT books('apple', 15), idem_stock_reserve('stock', '8', 'apple', 0.5), idem_stock_release('stock', '8');
SELECT pg_temp.outcome($$SELECT idem_stock_confirm('stock', '8')$$);
\echo -- one that is confirmed in time does not expire; an order has the earliest of its times
SELECT idem_stock_reserve('stock', '9', 'apple', 0.25, '1 hour'), idem_stock_reserve('stock', '9', 'plum', 0.25, '2 hours'),
	idem_stock_reserve('stock', '9', 'pear', 0.25);
SELECT expires_at - reserved_at BETWEEN '59 minutes' AND '61 minutes' FROM idem.hold WHERE seq = '9';
SELECT idem_stock_release('stock', '7');
SELECT idem_stock_reserve('stock', '10', 'plum', 0.5, '1 millisecond'), pg_sleep(0.01), idem_stock_confirm('stock', '10');
CALL idem_stock_expire();
SELECT idem_stock_confirm('stock', '10'), count(*) FILTER (WHERE expires_at IS NOT NULL) FROM idem.hold;
\echo -- in batches
SELECT count(*) FILTER (WHERE idem_stock_reserve_items('many', n::text, ARRAY['pear', 'plum'], ARRAY[0.01, 0.01], '1 millisecond')) FROM generate_series(1, 25) AS n;
SELECT pg_sleep(0.01);
SET client_min_messages = notice;
CALL idem_stock_expire(10);
SET client_min_messages = warning;
SELECT books('pear', 10.5), books('plum', 7);

\echo == buckets
SELECT idem_stock_add('seat', 10, 16);
SELECT count(*), min(quantity), max(quantity) FROM idem.stock WHERE item = 'seat';
SELECT idem_stock_reserve('seat', '1', 'seat', 11), idem_stock_reserve('seat', '1', 'seat', 10), idem_stock_reserve('seat', '2', 'seat', 1), books('seat', 10);
\echo -- goes back to any of them
SELECT idem_stock_release('seat', '1');
SELECT count(*), min(quantity), max(quantity) FROM idem.stock WHERE item = 'seat';
\echo -- evenly over those that are there, and more of them
SELECT idem_stock_add('seat', 32), idem_stock_add('seat', 4, 20);
SELECT count(*), min(quantity) >= 2, min(bucket), max(bucket) FROM idem.stock WHERE item = 'seat' AND bucket < 16;
SELECT count(*), sum(quantity), min(bucket), max(bucket) FROM idem.stock WHERE item = 'seat';
\echo -- a minimum: fewer changes nothing
SELECT idem_stock_add('seat', 4, 19), count(*) FROM idem.stock WHERE item = 'seat';
SELECT books('seat', 50);
\echo -- fractions, large and many digits
SELECT idem_stock_add('share', 0.7, 4), idem_stock_add('share', 0.000000000000000001, 4);
SELECT idem_stock_add('sand', 1e18, 3), idem_stock_reserve('sand', '1', 'sand', 1000000000000000000), idem_stock_reserve('sand', '2', 'sand', 1e18), idem_stock_available('sand');
SELECT idem_stock_add('gold', 999999999999999999.999999999, 7), idem_stock_reserve('gold', '1', 'gold', 999999999999999999.999999998), idem_stock_available('gold');
SELECT books('sand', 1e18), books('share', 0.700000000000000001), books('gold', 999999999999999999.999999999);

\echo == never added
SELECT idem_stock_available('nothing'), idem_stock_reserve('stock', '11', 'nothing', 1), idem_stock_reserve_items('stock', '11', ARRAY['apple', 'nothing'], ARRAY[1, 1]);

\echo == amend: the order holds exactly so much
SELECT idem_stock_add('nut', 10), idem_stock_add('bolt', 4), idem_stock_reserve('amend', '1', 'nut', 3, '1 hour');
SELECT idem_stock_amend('amend', '1', 'nut', 5), idem_stock_amend('amend', '1', 'nut', 5), idem_stock_available('nut');
SELECT idem_stock_amend('amend', '1', 'nut', 4, was => 5), idem_stock_amend('amend', '1', 'nut', 4, was => 5), idem_stock_available('nut');
\echo -- a late retry of an earlier one; not enough
SELECT pg_temp.outcome($$SELECT idem_stock_amend('amend', '1', 'nut', 5, was => 3)$$);
SELECT idem_stock_amend('amend', '1', 'nut', 11), idem_stock_amend('amend', '1', 'nut', 10.5, was => 4), idem_stock_available('nut');
\echo -- retries of the reserve are judged by what was first reserved
SELECT idem_stock_reserve('amend', '1', 'nut', 3), idem_stock_available('nut');
SELECT pg_temp.outcome($$SELECT idem_stock_reserve('amend', '1', 'nut', 4)$$);
\echo -- a new item, and none of it again
SELECT idem_stock_amend('amend', '1', 'bolt', 2, was => 0), idem_stock_amend('amend', '1', 'bolt', 2, was => 0), books('bolt', 4);
SELECT pg_temp.outcome($$SELECT idem_stock_amend('amend', '1', 'bolt', 3, was => 0)$$);
SELECT idem_stock_amend('amend', '1', 'bolt', 0), idem_stock_amend('amend', '1', 'bolt', 0), idem_stock_amend('amend', '1', 'fig', 0), books('bolt', 4);
SELECT idem_stock_reserve('amend', '1', 'bolt', 2), pg_temp.outcome($$SELECT idem_stock_reserve('amend', '1', 'bolt', 3)$$), books('bolt', 4);
SELECT items, quantities, firsts FROM idem.hold WHERE source = 'amend';
SELECT item, quantity, status, expires_at > now() AS expires, reserved_at IS NOT NULL AS reserved, decided_at FROM idem_stock_lookup('amend', '1');
\echo -- released, it gives back what it has; what was decided cannot be amended, nor what is not there
SELECT idem_stock_confirm('amend', '1'), books('nut', 10), idem_stock_reserve('amend', '2', 'nut', 2), idem_stock_amend('amend', '2', 'nut', 6), idem_stock_release('amend', '2'), books('nut', 10);
SELECT pg_temp.outcome($$SELECT idem_stock_amend('amend', '1', 'nut', 4)$$);
SELECT pg_temp.outcome($$SELECT idem_stock_amend('amend', '2', 'nut', 4)$$);
SELECT pg_temp.outcome($$SELECT idem_stock_amend('amend', '3', 'nut', 4)$$);
SELECT idem_stock_reserve('amend', '4', 'nut', 1, '1 millisecond'), pg_sleep(0.01), idem_stock_amend('amend', '4', 'nut', 2);
CALL idem_stock_expire();
SELECT pg_temp.outcome($$SELECT idem_stock_amend('amend', '4', 'nut', 3)$$), books('nut', 10);

\echo == renew
SELECT idem_stock_reserve('renew', '1', 'nut', 1, '1 millisecond'), pg_sleep(0.01), idem_stock_renew('renew', '1', '1 day') - clock_timestamp() BETWEEN '23:59:00' AND '24:00:00';
CALL idem_stock_expire();
SELECT status, expires_at > now() FROM idem_stock_lookup('renew', '1');
SELECT idem_stock_renew('renew', '1', '1 millisecond') < clock_timestamp() + interval '1 second', idem_stock_renew('renew', '1', NULL) IS NULL;
SELECT status, expires_at FROM idem_stock_lookup('renew', '1');
SELECT idem_stock_confirm('renew', '1');
SELECT pg_temp.outcome($$SELECT idem_stock_renew('renew', '1', '1 day')$$);
SELECT pg_temp.outcome($$SELECT idem_stock_renew('renew', '2', '1 day')$$);
SELECT pg_temp.outcome($$SELECT idem_stock_renew('renew', '1', '-1 day')$$);

\echo == lookup: each status, released before it was made, unknown
SELECT idem_stock_release('look', '2'), idem_stock_reserve('look', '1', 'nut', 1), idem_stock_release('look', '1');
SELECT item, quantity, status, expires_at, reserved_at IS NULL AS never_reserved, decided_at IS NULL AS undecided FROM idem_stock_lookup('look', '1');
SELECT item, quantity, status, expires_at, reserved_at IS NULL AS never_reserved, decided_at IS NULL AS undecided FROM idem_stock_lookup('look', '2');
SELECT * FROM idem_stock_lookup('look', '3');
SELECT item, quantity, status FROM idem_stock_lookup('stock', '6');
SELECT item, quantity, status FROM idem_stock_lookup('amend', '4');

\echo == remove
SELECT idem_stock_remove('nut', 1.5), books('nut', 8.5), idem_stock_remove('nut', 8.5), idem_stock_remove('nothing', 1);
SELECT idem_stock_remove('nut', 3.5), idem_stock_available('nut'), idem_stock_remove('nut', 0.5), idem_stock_available('nut'), idem_stock_remove('nut', 1);

\echo == keys of other types
SELECT idem_stock_add('washer', 100), idem_stock_reserve('type', 42, 'washer', 1), idem_stock_reserve('type', '42', 'washer', 1), idem_stock_confirm('type', 42::bigint);
SELECT idem_stock_reserve_items('type', '6f2d0d5e-5c5a-4b0e-9d0c-0a8f6a1f1c11'::uuid, ARRAY['washer'], ARRAY[2]), idem_stock_amend('type', '6f2d0d5e-5c5a-4b0e-9d0c-0a8f6a1f1c11', 'washer', 3);
SELECT idem_stock_renew('type', '6f2d0d5e-5c5a-4b0e-9d0c-0a8f6a1f1c11'::uuid, NULL), idem_stock_release('type', '6f2d0d5e-5c5a-4b0e-9d0c-0a8f6a1f1c11'::uuid);
SELECT item, status FROM idem_stock_lookup('type', 42);
SELECT pg_temp.outcome($$SELECT idem_stock_reserve('type', now(), 'washer', 1)$$);
PREPARE untyped AS SELECT idem_stock_reserve('type', $1, 'washer', $2);
EXECUTE untyped('p', 5);

\echo == arguments
SELECT pg_temp.outcome(format('SELECT %s', call)) FROM unnest(ARRAY[
	$$idem_stock_add(NULL, 1)$$, $$idem_stock_add('', 1)$$, $$idem_stock_add(repeat('x', 256), 1)$$,
	$$idem_stock_add('apple', NULL)$$, $$idem_stock_add('apple', 0)$$, $$idem_stock_add('apple', -1)$$,
	$$idem_stock_add('apple', 'NaN')$$, $$idem_stock_add('apple', 'Infinity')$$, $$idem_stock_add('apple', '-Infinity')$$,
	$$idem_stock_add('apple', 1, 0)$$, $$idem_stock_add('apple', 1, 1025)$$,
	$$idem_stock_reserve(NULL, '1', 'apple', 1)$$, $$idem_stock_reserve('', '1', 'apple', 1)$$,
	$$idem_stock_reserve(repeat('x', 256), '1', 'apple', 1)$$, $$idem_stock_reserve('s', NULL, 'apple', 1)$$,
	$$idem_stock_reserve('s', '', 'apple', 1)$$, $$idem_stock_reserve('s', repeat('x', 1025), 'apple', 1)$$,
	$$idem_stock_reserve('s', '1', NULL::text, 1)$$, $$idem_stock_reserve('s', '1', '', 1)$$,
	$$idem_stock_reserve('s', '1', 'apple', NULL::numeric)$$, $$idem_stock_reserve('s', '1', 'apple', 0)$$,
	$$idem_stock_reserve('s', '1', 'apple', -0.01)$$, $$idem_stock_reserve('s', '1', 'apple', 'NaN'::numeric)$$,
	$$idem_stock_reserve('s', '1', 'apple', 'Infinity'::numeric)$$, $$idem_stock_reserve('s', '1', 'apple', 1, '0 s')$$,
	$$idem_stock_reserve('s', '1', 'apple', 1, '-1 s')$$,
	$$idem_stock_reserve_items('s', '1', NULL::text[], '{1}')$$, $$idem_stock_reserve_items('s', '1', '{apple}', NULL::numeric[])$$,
	$$idem_stock_reserve_items('s', '1', '{}'::text[], '{}')$$, $$idem_stock_reserve_items('s', '1', '{{apple}}'::text[], '{1}')$$,
	$$idem_stock_reserve_items('s', '1', '{apple,NULL}'::text[], '{1,1}')$$, $$idem_stock_reserve_items('s', '1', '{apple}'::text[], '{NULL}')$$,
	$$idem_stock_reserve_items('s', '1', '{apple,pear}'::text[], '{1}')$$, $$idem_stock_reserve_items('s', '1', '{apple,""}'::text[], '{1,1}')$$,
	$$idem_stock_reserve_items('s', '1', '{apple,pear}'::text[], '{1,0}')$$, $$idem_stock_reserve_items('s', '1', '{apple,pear,apple}'::text[], '{1,1,1}')$$,
	$$idem_stock_reserve('s', '1', 'apple', 1, wait => NULL)$$, $$idem_stock_reserve_items('s', '1', '{apple}', '{1}', wait => NULL)$$,
	$$idem_stock_remove(NULL, 1)$$, $$idem_stock_remove('', 1)$$, $$idem_stock_remove('apple', NULL)$$, $$idem_stock_remove('apple', 0)$$,
	$$idem_stock_amend(NULL, '1', 'apple', 1)$$, $$idem_stock_amend('s', NULL, 'apple', 1)$$, $$idem_stock_amend('s', '1', NULL, 1)$$,
	$$idem_stock_amend('s', '1', 'apple', NULL)$$, $$idem_stock_amend('s', '1', 'apple', -1)$$, $$idem_stock_amend('s', '1', 'apple', 1, -1)$$,
	$$idem_stock_amend('s', '1', 'apple', 'NaN')$$, $$idem_stock_amend('s', '1', 'apple', 1e38)$$, $$idem_stock_amend('s', '1', 'apple', 1, 1e-19)$$,
	$$idem_stock_renew('s', NULL, '1 day')$$, $$idem_stock_renew('s', '1', '0 s')$$, $$idem_stock_lookup('s', NULL)$$, $$idem_stock_lookup('', '1')$$,
	$$idem_stock_add('apple', 1e38)$$, $$idem_stock_add('apple', 1e-19)$$, $$idem_stock_add('apple', 123456789012345678901.123456789012345678)$$,
	$$idem_stock_reserve('s', '1', 'apple', ('0.' || repeat('7', 16383))::numeric)$$, $$idem_stock_reserve_items('s', '1', '{apple}', '{1e38}')$$,
	$$idem_stock_remove('apple', 1e38)$$,
	$$idem_stock_confirm(NULL, '1')$$, $$idem_stock_confirm('s', NULL)$$, $$idem_stock_release(NULL, '1')$$, $$idem_stock_release('s', '')$$,
	$$idem_stock_available(NULL)$$, $$idem_stock_available('')$$]) AS call;
\set VERBOSITY terse
CALL idem_stock_expire(0);
CALL idem_stock_expire(NULL);
BEGIN;
CALL idem_stock_expire();
ROLLBACK;
BEGIN READ ONLY;
SELECT idem_stock_available('apple');
SELECT idem_stock_reserve('stock', '1', 'apple', 3);
ROLLBACK;
\set VERBOSITY default
\echo -- the largest, and zeros at the end, which do not count
SELECT idem_stock_add('most', 99999999999999999999999999999999999999), idem_stock_add('finest', 12345678901234567890.123456789012345678), idem_stock_add('zeros', ('1.5' || repeat('0', 1000))::numeric);
SELECT idem_stock_reserve(repeat('s', 255), repeat('x', 1024), 'apple', 0.01), idem_stock_add(repeat('i', 255), 1, 1024);

\echo == cost follows input: a retry of many items beside many more, within its time
SELECT sum(idem_stock_add('part ' || n, 10)) FROM generate_series(1, 3000) AS n;
SET statement_timeout = '120s';
SELECT idem_stock_reserve_items('big', '1', array_agg('part ' || n), array_agg(1)) FROM generate_series(1, 3000) AS n;
SELECT idem_stock_reserve_items('big', '1', array_agg('part ' || n), array_agg(1)) FROM generate_series(1, 3000) AS n;
SELECT idem_stock_reserve_items('big', '1', array_agg('part ' || n), array_agg(1)) FROM generate_series(1, 50000) AS n;
SELECT count(*), sum(quantity) FROM idem_stock_lookup('big', '1');
SELECT idem_stock_release('big', '1'), sum(idem_stock_available('part ' || n)) FROM generate_series(1, 3000) AS n;
RESET statement_timeout;

\echo == roles
CREATE ROLE regress_stock_a;
CREATE ROLE regress_stock_b;
CREATE ROLE regress_stock_c IN ROLE regress_stock_a;
GRANT USAGE ON SCHEMA stock TO PUBLIC;
SET ROLE regress_stock_a;
SELECT idem_stock_reserve('role', '1', 'apple', 0.01), idem_stock_release('role', '2');
SELECT pg_temp.outcome($$SELECT idem_stock_add('apple', 1)$$), pg_temp.outcome($$SELECT idem_stock_remove('apple', 1)$$);
SET ROLE regress_stock_b;
SELECT pg_temp.outcome(format('SELECT %s', call)) FROM unnest(ARRAY[
	$$idem_stock_reserve('role', '1', 'apple', 0.01)$$, $$idem_stock_reserve('role', '1', 'apple', 0.02)$$, $$idem_stock_reserve('role', '1', 'apple', 1e9)$$,
	$$idem_stock_confirm('role', '1')$$, $$idem_stock_release('role', '1')$$, $$idem_stock_amend('role', '1', 'apple', 1)$$, $$idem_stock_renew('role', '1', '1 day')$$,
	$$(SELECT status FROM idem_stock_lookup('role', '1'))$$, $$(SELECT status FROM idem_stock_lookup('role', '2'))$$,
	$$idem_stock_reserve('role', '2', 'apple', 0.01)$$, $$idem_stock_release('role', '2')$$,
	$$(SELECT quantity FROM idem.stock LIMIT 1)$$, $$(SELECT seq FROM idem.hold LIMIT 1)$$]) AS call;
CALL idem_stock_expire();
SET ROLE regress_stock_c;
SELECT idem_stock_reserve('role', '1', 'apple', 0.01), idem_stock_confirm('role', '1'), idem_stock_reserve('role', '2', 'apple', 0.01);
RESET ROLE;

\echo == purge: what is decided goes, what is held stays
SELECT status, count(*) FROM idem.hold GROUP BY 1 ORDER BY 1;
UPDATE idem.hold SET decided_at = decided_at - interval '1 day', reserved_at = reserved_at - interval '1 day';
SELECT idem_stock_release('fresh', '1');
SET client_min_messages = notice;
CALL idem_purge('1 hour');
SET client_min_messages = warning;
SELECT status, count(*) FROM idem.hold GROUP BY 1 ORDER BY 1;
SELECT idem_stock_release('stock', '9'), idem_stock_reserve('stock', '8', 'apple', 0.5);

DELETE FROM idem.hold;
DELETE FROM idem.stock;
DROP SCHEMA stock CASCADE;
DROP ROLE regress_stock_a, regress_stock_b, regress_stock_c;
