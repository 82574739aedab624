-- Pins bugs that were found and cured: a block for each, which failed before.
\set VERBOSITY terse

-- CALL idem_purge passed the last key of a window on as a toast pointer, whose row it had just deleted
CREATE FUNCTION pg_temp.long_key(i int) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(md5(i || '.' || j), '' ORDER BY j) FROM generate_series(1, 32) j
$$;
DO $$
BEGIN
	FOR i IN 1..40 LOOP
		PERFORM idem_claim('issues', pg_temp.long_key(i)),
			idem_respond('issues', pg_temp.long_key(i), to_json(left(reverse(pg_temp.long_key(i)), 1020)));
	END LOOP;
END
$$;
VACUUM ANALYZE idem.claim;
SELECT pg_sleep(0.01);
SET client_min_messages = warning;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SET enable_bitmapscan = off;
CALL idem_purge('1 microsecond', 20);
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;
RESET client_min_messages;
SELECT count(*) FROM idem.claim WHERE source = 'issues';

-- a function that idem_call runs may put a trigger on our table: the answer is then recorded through SQL, and fires it
CREATE SCHEMA regress_issues;
CREATE TABLE regress_issues.seen (status "char");
CREATE FUNCTION regress_issues.see() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN INSERT INTO regress_issues.seen VALUES (NEW.status); RETURN NEW; END$$;
CREATE FUNCTION regress_issues.watch(json) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	CREATE TRIGGER regress AFTER UPDATE ON idem.claim FOR EACH ROW EXECUTE FUNCTION regress_issues.see();
	RETURN $1;
END
$$;
BEGIN;
SELECT idem_call('issues', 'watched', 'regress_issues.watch', '1');
SELECT status FROM regress_issues.seen;
ROLLBACK;
DROP SCHEMA regress_issues CASCADE;

-- a column that may not be null any more was written null by the direct route
BEGIN;
DELETE FROM idem.claim;
ALTER TABLE idem.claim ALTER COLUMN request SET NOT NULL;
SELECT idem_claim('issues', 'without a request');
ROLLBACK;
