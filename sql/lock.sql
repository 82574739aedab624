-- Pins the locks: null for one that is held, fences that only grow, what renewing, checking and releasing answer, and every error with
-- DETAIL and HINT.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

-- did it fail, and how? What a lease was is not for an expected file.
CREATE FUNCTION pg_temp.tried(statement text) RETURNS text LANGUAGE sql AS $$SELECT regexp_replace(pg_temp.try($1), '\d{4}-[^;\n]*', 'TIME')$$;

-- lets a lease run out
CREATE FUNCTION pg_temp.expire(n text) RETURNS void LANGUAGE sql AS $$
	UPDATE idem.lock SET lease_until = clock_timestamp() - interval '1 second' WHERE name = n AND lease_until IS NOT NULL;
$$;

--
-- Held: null for anybody, also its holder
--
SELECT idem_lock('lock 1');
SELECT idem_lock('lock 1'), idem_lock('lock 1', '1 second');
SELECT fence, owner = current_user AS mine, locked_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS locked,
	lease_until - locked_at AS ttl FROM idem.lock WHERE name = 'lock 1';
SELECT idem_lock_check('lock 1', 1);
SELECT idem_lock_renew('lock 1', 1, '1 hour');
SELECT lease_until BETWEEN clock_timestamp() + interval '59 minutes' AND clock_timestamp() + interval '1 hour' AS renewed FROM idem.lock WHERE name = 'lock 1';
-- less time is a renewal, too
SELECT idem_lock_renew('lock 1', 1);
SELECT lease_until < clock_timestamp() + interval '31 seconds' AS renewed FROM idem.lock WHERE name = 'lock 1';
-- another fence is not the holder's
SELECT f, idem_lock_renew('lock 1', f), idem_unlock('lock 1', f), left(pg_temp.tried(format('SELECT idem_lock_check(''lock 1'', %s)', f)), 5) AS check
FROM unnest('{0, 2, -1, 9223372036854775807, -9223372036854775808}'::bigint[]) f;
SELECT pg_temp.tried($$SELECT idem_lock_check('lock 1', 2)$$);
SELECT idem_lock_check('lock 1', 1);

--
-- Released
--
SELECT idem_unlock('lock 1', 1);
SELECT idem_unlock('lock 1', 1), idem_lock_renew('lock 1', 1);
SELECT pg_temp.tried($$SELECT idem_lock_check('lock 1', 1)$$);
SELECT fence, lease_until FROM idem.lock WHERE name = 'lock 1';
SELECT idem_lock('lock 1');
SELECT idem_unlock('lock 1', 1), idem_lock_renew('lock 1', 1), idem_lock('lock 1');
SELECT pg_temp.tried($$SELECT idem_lock_check('lock 1', 1)$$);

--
-- Expired: nobody's, also before it is taken over
--
SELECT pg_temp.expire('lock 1');
SELECT idem_lock_renew('lock 1', 2), idem_unlock('lock 1', 2);
SELECT pg_temp.tried($$SELECT idem_lock_check('lock 1', 2)$$);
SELECT idem_lock('lock 1'), idem_lock('lock 1');
SELECT idem_lock_renew('lock 1', 2), idem_unlock('lock 1', 2);
SELECT idem_lock_check('lock 1', 3);
-- a lease that really runs out
SELECT idem_lock('lock 2', '1 millisecond');
SELECT pg_sleep(0.01);
SELECT idem_lock_renew('lock 2', 1), idem_lock('lock 2');

--
-- Never locked
--
SELECT idem_lock_renew('lock x', 1), idem_unlock('lock x', 1);
SELECT pg_temp.tried($$SELECT idem_lock_check('lock x', 1)$$);
SELECT count(*) FROM idem.lock WHERE name = 'lock x';

--
-- In one transaction, and one statement
--
SELECT idem_lock('lock 3'), idem_lock('lock 3'), idem_unlock('lock 3', 1), idem_lock('lock 3'), idem_lock_check('lock 3', 2), idem_lock_renew('lock 3', 2), idem_unlock('lock 3', 2), idem_unlock('lock 3', 2);
BEGIN;
SELECT idem_lock('lock 3'), idem_lock('lock 4');
SAVEPOINT a;
SELECT idem_unlock('lock 3', 3), idem_lock('lock 3'), idem_lock('lock 5'), idem_unlock('lock 4', 1);
SELECT idem_lock_check('lock 3', 4), idem_lock_check('lock 5', 1);
ROLLBACK TO a;
SELECT idem_lock_check('lock 3', 3), idem_lock_check('lock 4', 1), idem_lock('lock 4');
SELECT pg_temp.tried($$SELECT idem_lock_check('lock 5', 1)$$);
SELECT idem_lock('lock 5');
-- checked, renewed and released by the transaction that checks
SELECT idem_lock_check('lock 5', 1), idem_lock_check('lock 5', 1), idem_lock_renew('lock 5', 1), idem_lock_check('lock 5', 1), idem_unlock('lock 5', 1);
COMMIT;
SELECT name, fence, lease_until IS NOT NULL AS held FROM idem.lock WHERE name LIKE 'lock %' ORDER BY name;
BEGIN;
SELECT idem_lock('lock 5'), idem_lock('lock 6');
ROLLBACK;
SELECT idem_lock('lock 5'), count(*) FROM idem.lock WHERE name = 'lock 6';
-- other isolation levels
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT idem_lock('lock 7'), idem_lock('lock 7'), idem_lock_check('lock 7', 1), idem_unlock('lock 7', 1), idem_lock('lock 7');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT idem_lock('lock 7'), idem_lock_check('lock 7', 2), idem_unlock('lock 7', 2), idem_lock('lock 7'), idem_lock('lock 8'), idem_unlock('lock 8', 1);
COMMIT;

--
-- Names are bytes: case, spaces and accents make another lock; the longest there is
--
SELECT octet_length(n) AS bytes, idem_lock(n) FROM unnest(ARRAY['lock a', 'lock A', 'lock a ', U&'lock \00e9', U&'lock e\0301', rpad('lock ', 255, 'x')]) WITH ORDINALITY AS u (n, o) ORDER BY o;

--
-- Arguments
--
SELECT call || E'\n' || pg_temp.tried('SELECT ' || call) FROM unnest(ARRAY[
	$$idem_lock(NULL)$$, $$idem_lock('')$$, $$idem_lock(repeat('n', 256))$$, $$idem_lock('lock y', NULL)$$, $$idem_lock('lock y', '0')$$, $$idem_lock('lock y', '-1 day')$$,
	$$idem_lock_renew(NULL, 1)$$, $$idem_lock_renew('lock y', NULL)$$, $$idem_lock_renew('lock y', 1, NULL)$$, $$idem_lock_renew('lock y', 1, '0')$$,
	$$idem_lock_check(NULL, 1)$$, $$idem_lock_check('lock y', NULL)$$, $$idem_unlock('', 1)$$, $$idem_unlock('lock y', NULL)$$]) WITH ORDINALITY AS c (call, n) ORDER BY n;
SELECT count(*) FROM idem.lock WHERE name = 'lock y';
BEGIN READ ONLY;
SELECT left(pg_temp.tried(c), 5) AS state, c AS call FROM unnest(ARRAY[$$SELECT idem_lock('lock y')$$, $$SELECT idem_lock_renew('lock 1', 3)$$, $$SELECT idem_lock_check('lock 1', 3)$$, $$SELECT idem_unlock('lock 1', 3)$$]) c;
COMMIT;

--
-- Another role: the name belongs to the role that first took it, held or not
--
CREATE ROLE regress_lock_a;
CREATE ROLE regress_lock_b;
CREATE ROLE regress_lock_m IN ROLE regress_lock_a;
SET ROLE regress_lock_a;
SELECT idem_lock('lock role');
SET ROLE regress_lock_b;
SELECT pg_temp.tried($$SELECT idem_lock('lock role')$$);
SELECT left(pg_temp.tried(c), 5) AS held, c AS call FROM unnest(ARRAY[$$SELECT idem_lock('lock role')$$, $$SELECT idem_lock_renew('lock role', 1)$$, $$SELECT idem_lock_renew('lock role', 2)$$,
	$$SELECT idem_lock_check('lock role', 1)$$, $$SELECT idem_lock_check('lock role', 2)$$, $$SELECT idem_unlock('lock role', 1)$$]) c;
SET ROLE regress_lock_a;
SELECT idem_unlock('lock role', 1);
SET ROLE regress_lock_b;
SELECT left(pg_temp.tried(c), 5) AS released, c AS call FROM unnest(ARRAY[$$SELECT idem_lock('lock role')$$, $$SELECT idem_lock_check('lock role', 1)$$, $$SELECT idem_unlock('lock role', 1)$$]) c;
-- a member of the role is served, and the name stays that role's
SET ROLE regress_lock_m;
SELECT idem_lock('lock role'), idem_lock_check('lock role', 2);
SET ROLE regress_lock_a;
SELECT idem_lock_renew('lock role', 2), idem_unlock('lock role', 2), idem_lock('lock role');
RESET ROLE;
SELECT owner, fence FROM idem.lock WHERE name = 'lock role';

DELETE FROM idem.lock WHERE name LIKE 'lock %';
DROP ROLE regress_lock_m, regress_lock_b, regress_lock_a;

--
-- Looking at a lock, and breaking it
--
SELECT * FROM idem_lock_lookup('lock unknown');
SELECT idem_lock('lock look', '1 hour'), idem_lock('lock look', '1 hour');
SELECT held, fence, locked_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS locked, lease_until - locked_at AS lease, owner = current_user AS mine FROM idem_lock_lookup('lock look');
SELECT idem_lock_break('lock look'), idem_lock_break('lock look'), idem_lock_break('lock unknown');
SELECT held, fence, lease_until FROM idem_lock_lookup('lock look');
-- its holder finds it lost, and the next one has a greater fence
SELECT idem_lock_renew('lock look', 1), idem_unlock('lock look', 1);
SELECT pg_temp.tried($$SELECT idem_lock_check('lock look', 1)$$);
SELECT idem_lock('lock look', '10 milliseconds'), pg_sleep(0.02);
-- an expired one is nobody's to take away
SELECT held, fence, lease_until IS NULL AS released FROM idem_lock_lookup('lock look');
SELECT idem_lock_break('lock look');
-- undone
BEGIN;
SELECT idem_lock('lock look', '1 hour');
SAVEPOINT s;
SELECT idem_lock_break('lock look');
ROLLBACK TO s;
SELECT held, fence FROM idem_lock_lookup('lock look');
COMMIT;
-- only reading where that is all there is
BEGIN READ ONLY;
SELECT held FROM idem_lock_lookup('lock look');
SELECT idem_lock_break('lock look');
ROLLBACK;
SELECT pg_temp.tried('SELECT idem_lock_lookup(NULL)');
SELECT pg_temp.tried($$SELECT idem_lock_lookup('')$$);
SELECT pg_temp.tried($$SELECT idem_lock_lookup(repeat('x', 256))$$);
SELECT pg_temp.tried('SELECT idem_lock_break(NULL)');
SELECT pg_temp.tried($$SELECT idem_lock_break('')$$);
-- of another role: nothing; granted to a role, breaking reaches what is its own
CREATE ROLE regress_lock_breaker;
SET ROLE regress_lock_breaker;
SELECT pg_temp.tried($$SELECT idem_lock_lookup('lock look')$$);
SELECT pg_temp.tried($$SELECT idem_lock_break('lock look')$$);
RESET ROLE;
GRANT EXECUTE ON FUNCTION idem_lock_break TO regress_lock_breaker;
SET ROLE regress_lock_breaker;
SELECT pg_temp.tried($$SELECT idem_lock_break('lock look')$$);
SELECT idem_lock('lock own', '1 hour'), idem_lock_break('lock own');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION idem_lock_break FROM regress_lock_breaker;
DROP ROLE regress_lock_breaker;
SELECT idem_lock_break('lock look');
DELETE FROM idem.lock WHERE name IN ('lock look', 'lock own');
