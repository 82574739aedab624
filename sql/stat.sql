-- Pins the counters: what is counted under which name and when, who may look, and that a server that counts nothing says so.
\set SHOW_CONTEXT never

-- everybody may do, who watches may look
CREATE ROLE regress_stat_user;
CREATE ROLE regress_stat_watch IN ROLE pg_monitor;
SET ROLE regress_stat_user;
SELECT count(*) FROM idem_stat;
SELECT count(*) FROM idem_stat_run;
SELECT count(*) FROM idem_stat_counters();
SELECT count(*) FROM idem_stat_runs();
SELECT idem_stat_reset();
SET ROLE regress_stat_watch;
SELECT idem_stat_reset();

\o /dev/null
SELECT count(*) FROM idem_stat, idem_stat_run;
\o
RESET ROLE;
SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid IN ('idem_stat'::regclass, 'idem_stat_run'::regclass) AND attnum > 0 ORDER BY attrelid, attnum;

-- before PostgreSQL 17 without preload: nothing, and it says so (expected/stat_1.out)
SELECT idem_stat_reset();
TABLE idem_stat;
TABLE idem_stat_run;
SELECT current_setting('server_version_num')::integer < 170000 AND current_setting('shared_preload_libraries') !~ '\midem\M' AS nothing \gset
\if :nothing
DROP ROLE regress_stat_user, regress_stat_watch;
\quit
\endif

-- what is counted in this file; no other test runs in this database meanwhile
CREATE VIEW pg_temp.counted AS SELECT kind, source, outcome, count, waits FROM idem_stat WHERE stats_since > now() - interval '1 hour' AND wait_seconds = 0 ORDER BY kind COLLATE "C", source COLLATE "C", outcome COLLATE "C";
SELECT idem_stat_reset();
TABLE pg_temp.counted;

-- locks
SELECT idem_lock('stat 1') AS granted, idem_lock('stat 1') AS refused \gset
SELECT idem_lock_renew('stat 1', :granted), idem_lock_renew('stat 1', :granted + 1) AS lost, idem_unlock('stat 1', :granted), idem_unlock('stat 1', :granted) AS lost;
SELECT idem_lock_check('stat 1', :granted);
TABLE pg_temp.counted;

-- tokens
SELECT idem_token_issue('stat') AS token \gset
SELECT idem_token_consume(:'token', 'stat') AS consumed, idem_token_consume(:'token', 'stat') AS refused, idem_token_consume('no token', 'stat') AS refused;
SELECT idem_token_rotate(:'token', 'stat') AS refused;
SELECT length(idem_token_rotate(idem_token_issue('stat'), 'stat')) AS two_issued_one_consumed;
SELECT length(idem_token_issue('stat', 'limit', max_issues => 1)) AS issued;
SELECT idem_token_issue('stat', 'limit', max_issues => 1) AS limited;
TABLE pg_temp.counted;

-- what is rolled back does not count; what raises does
SELECT idem_stat_reset();
BEGIN;
SELECT idem_lock('stat 2') IS NOT NULL AS granted;
TABLE pg_temp.counted;
SAVEPOINT a;
SELECT idem_lock('stat 3') IS NOT NULL AS rolled_back;
SAVEPOINT b;
SELECT idem_lock('stat 4') IS NOT NULL AS rolled_back;
RELEASE b;
ROLLBACK TO a;
SELECT idem_lock_check('stat 4', 1);
ROLLBACK TO a;
SELECT idem_lock('stat 5') IS NOT NULL AS granted;
RELEASE a;
TABLE pg_temp.counted;
COMMIT;
TABLE pg_temp.counted;
BEGIN;
SELECT idem_lock('stat 6') IS NOT NULL AS rolled_back;
ROLLBACK;
TABLE pg_temp.counted;
-- many savepoints, one in another, and each with its own
DO $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		BEGIN
			PERFORM idem_lock('stat loop ' || i);
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
		END;
	END LOOP;
END $$;
SELECT outcome, count FROM pg_temp.counted;

-- claims
SELECT idem_stat_reset();
CREATE FUNCTION pg_temp.work(request jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT request';
SELECT idem_claim('stat a', '1', '{"n": 1}') AS first, idem_claim('stat a', '1', '{"n": 1}') AS duplicate;
SELECT idem_claim('stat a', '1', '{"n": 2}');
SELECT idem_respond('stat a', '1', '{}'), idem_respond('stat a', '1', '{}'), idem_response('stat a', '1');
SELECT * FROM idem_claim_batch('stat b', '{c, a, b, a}');
SELECT * FROM idem_claim_batch('stat b', '{a, d}');
SELECT idem_call('stat c', '1', 'pg_temp.work', '1') AS first, idem_call('stat c', '1', 'pg_temp.work', '1') AS duplicate;
SELECT * FROM idem_handle('stat c', '1', 'pg_temp.work', '1');
SELECT idem_handle('stat c', '1', 'pg_temp.work', '2');
SELECT idem_cancel('stat d', '1') AS not_counted, idem_claim('stat d', '1') AS duplicate;
SELECT idem_policy('stat e', '1 day', 'date');
\set VERBOSITY sqlstate
SELECT idem_claim('stat e', '20200101');
\set VERBOSITY default
SELECT * FROM idem_claim_batch('stat e', '{20200101-1, 20200101-2, no date}');
SELECT idem_policy_drop('stat e');
TABLE pg_temp.counted;

-- attempts
SELECT idem_stat_reset();
SELECT status, fence FROM idem_begin('stat f', '1');
SELECT status, fence FROM idem_begin('stat f', '1');
SELECT idem_claim('stat f', '1');
SELECT idem_renew('stat f', '1', 1) > now() AS not_counted, idem_complete('stat f', '1', 1), idem_complete('stat f', '1', 1) AS not_counted;
SELECT idem_complete('stat f', '1', 2);
SELECT status, fence FROM idem_begin('stat f', '1');
SELECT status, fence FROM idem_begin('stat f', '2', '1 millisecond');
SELECT pg_sleep(0.01) \gset
SELECT status, fence FROM idem_begin('stat f', '2', takeover => false);
SELECT status, fence FROM idem_begin('stat f', '2');
SELECT idem_fail('stat f', '2', 2);
SELECT status, fence FROM idem_begin('stat f', '2');
SELECT idem_fail('stat f', '2', 3, retry => false);
SELECT seq, status, fence FROM idem_begin_batch('stat g', '{1, 2, 1}');
SELECT seq, status, fence FROM idem_begin_batch('stat g', '{2, 3}');
TABLE pg_temp.counted;

-- purges: how often, how much, and what the last one did
SELECT idem_stat_reset();
SELECT count(idem_claim('stat purge', s::text)) FROM generate_series(1, 1000) s;
SELECT idem_stat_reset();
TABLE idem_stat_run;
SET client_min_messages = warning;
CALL idem_purge('1 hour', 300, 'stat purge');
SELECT run, started_at > now() - interval '1 minute' AS started, ended_at >= started_at AS ended, keys_read >= 1000 AS keys_read, removed, seconds BETWEEN 0 AND 60 AS seconds FROM idem_stat_run;
SELECT pg_sleep(0.01) \gset
CALL idem_purge('1 microsecond', 300, 'stat purge');
SELECT run, ended_at >= started_at AS ended, keys_read >= 1000 AS keys_read, removed, seconds BETWEEN 0 AND 60 AS seconds FROM idem_stat_run;
TABLE pg_temp.counted;
CALL idem_purge(source => 'stat purge');
SELECT run, ended_at >= started_at AS ended, keys_read, removed FROM idem_stat_run;
RESET client_min_messages;

DROP ROLE regress_stat_user, regress_stat_watch;
