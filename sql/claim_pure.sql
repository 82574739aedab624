-- Pins that a duplicate is a read: 0 bytes of WAL, no transaction id, no row written, locked or dead, on every path that answers "already".
\set SHOW_CONTEXT never
CREATE SCHEMA regress_claim_pure;
SET search_path = regress_claim_pure, public;

-- Runs a statement 20 times, each alone in a subtransaction if it raises, and says what it cost: WAL, the transaction id, rows.
-- Others write WAL too, an autovacuum for seconds.  So: "none" if most runs of one of up to 50 rounds had not a byte; what a
-- statement writes itself shows in each of its runs.
CREATE FUNCTION cost(stmt text, raises text DEFAULT NULL, OUT wal text, OUT xid boolean, OUT ins bigint, OUT upd bigint, OUT del bigint) LANGUAGE plpgsql AS $$
DECLARE
	lsn pg_lsn; zeros int; runs int := CASE WHEN stmt ~ 'first' THEN 1 ELSE 20 END;
	claim oid := 'idem.claim'::regclass;
BEGIN
	ins := - pg_stat_get_xact_tuples_inserted(claim);
	upd := - pg_stat_get_xact_tuples_updated(claim);
	del := - pg_stat_get_xact_tuples_deleted(claim);
	FOR round IN 1 .. CASE runs WHEN 1 THEN 1 ELSE 50 END LOOP
		zeros := 0;
		FOR i IN 1 .. runs LOOP
			lsn := pg_current_wal_insert_lsn();
			IF raises IS NULL THEN
				EXECUTE stmt;
			ELSE
				BEGIN
					EXECUTE stmt;
					RAISE EXCEPTION 'no error';
				EXCEPTION WHEN OTHERS THEN
					IF SQLSTATE <> raises THEN RAISE; END IF;
				END;
			END IF;
			zeros := zeros + (pg_current_wal_insert_lsn() = lsn)::int;
		END LOOP;
		EXIT WHEN zeros * 2 > runs;
		PERFORM pg_sleep(0.1);
	END LOOP;
	wal := CASE WHEN zeros * 2 > runs THEN 'none' ELSE 'some' END;
	xid := pg_current_xact_id_if_assigned() IS NOT NULL;
	ins := ins + pg_stat_get_xact_tuples_inserted(claim);
	upd := upd + pg_stat_get_xact_tuples_updated(claim);
	del := del + pg_stat_get_xact_tuples_deleted(claim);
END $$;
CREATE FUNCTION echo(r json) RETURNS json LANGUAGE sql AS 'SELECT r';

-- what there is: each row's place, maker and locker
SELECT idem_claim('claim_pure', 'plain'), idem_claim('claim_pure', 'asked', '{"a": 1}'), idem_claim('claim_pure', 'answered'), idem_respond('claim_pure', 'answered', '{"b":  2}'),
	   idem_call('claim_pure', 'called', 'echo', '{"c": 3}'), idem_cancel('claim_pure', 'cancelled'), idem_claim('claim_pure', 'long'),
	   idem_respond('claim_pure', 'long', (SELECT json_agg(md5(i::text)) FROM generate_series(1, 5000) i));
SELECT count(*) FROM idem_claim_batch('claim_pure', (SELECT array_agg('b' || i) FROM generate_series(1, 1000) i)) WHERE claimed;
INSERT INTO idem.claim (source, seq, owner, status, fence, claimed_at, completed_at, lease_until, response)
VALUES ('claim_pure', 'running', current_user::regrole, 'r', 1, now(), NULL, now() + interval '1 hour', NULL),
	   ('claim_pure', 'expired', current_user::regrole, 'r', 1, now(), NULL, now() - interval '1 hour', NULL),
	   ('claim_pure', 'open', current_user::regrole, 'o', 1, now(), NULL, NULL, NULL),
	   ('claim_pure', 'failed', current_user::regrole, 'f', 1, now(), now(), NULL, '1');
-- leaves nothing to prune, and settles hint bits, which a page's first reader sets; with data checksums that is WAL of its own
VACUUM idem.claim;
SELECT count(response::text) FROM idem.claim WHERE source = 'claim_pure';
CREATE TEMP TABLE rows AS SELECT ctid AS place, xmin AS maker, xmax AS locker, c.* FROM idem.claim c WHERE source = 'claim_pure';

-- control: what this measures can be seen in a first claim, an answer, a cancellation
SELECT * FROM cost($$SELECT idem_claim('claim_pure', 'first 1')$$);
SELECT * FROM cost($$SELECT idem_respond('claim_pure', 'first 1', '1')$$);
SELECT * FROM cost($$SELECT idem_cancel('claim_pure', 'first 2')$$);
SELECT * FROM cost($$SELECT idem_forget('claim_pure', 'first 2')$$);
SELECT * FROM cost($$SELECT count(*) FROM idem_claim_batch('claim_pure', '{first 3, first 4}')$$);

-- duplicates
CREATE TEMP TABLE pure (n serial, stmt text, raises text);
INSERT INTO pure (stmt, raises) VALUES
	($$SELECT idem_claim('claim_pure', 'plain')$$, NULL),
	($$SELECT idem_claim('claim_pure', 'plain', '{"new": "request"}')$$, NULL),
	($$SELECT idem_claim('claim_pure', 'plain', NULL, false)$$, NULL),
	($$SELECT idem_claim('claim_pure', 'asked', '{"a": 1}')$$, NULL),
	($$SELECT idem_claim('claim_pure', 'answered')$$, NULL),
	($$SELECT idem_claim('claim_pure', 'cancelled')$$, NULL),
	($$SELECT idem_claim('claim_pure', 'failed')$$, NULL),
	($$SELECT idem_claim('claim_pure', 'plain') FROM generate_series(1, 100)$$, NULL),
	($$SELECT idem_claim_batch('claim_pure', '{plain}')$$, NULL),
	($$SELECT idem_claim_batch('claim_pure', '{plain, failed, asked, plain, cancelled}')$$, NULL),
	($$SELECT count(*) FROM idem_claim_batch('claim_pure', (SELECT array_agg('b' || i) FROM generate_series(1, 1000) i))$$, NULL),
	($$SELECT idem_claim_batch('claim_pure', '{}')$$, NULL),
	($$SELECT idem_respond('claim_pure', 'answered', '{"b":  2}')$$, NULL),
	($$SELECT idem_respond('claim_pure', 'long', (SELECT json_agg(md5(i::text)) FROM generate_series(1, 5000) i))$$, NULL),
	($$SELECT idem_call('claim_pure', 'called', 'regress_claim_pure.echo', '{"c": 3}')$$, NULL),
	($$SELECT idem_call('claim_pure', 'failed', 'regress_claim_pure.echo', '{"c": 3}')$$, NULL),
	($$SELECT idem_call('claim_pure', 'plain', 'regress_claim_pure.echo', '{"c": 3}')$$, NULL),
	($$SELECT idem_cancel('claim_pure', 'plain')$$, NULL),
	($$SELECT idem_cancel('claim_pure', 'failed')$$, NULL),
	($$SELECT idem_cancel('claim_pure', 'cancelled')$$, NULL),
	($$SELECT idem_forget('claim_pure', 'unseen')$$, NULL),
	-- reading
	($$SELECT idem_response('claim_pure', 'answered'), idem_response('claim_pure', 'unseen'), idem_response('claim_pure', 'long')$$, NULL),
	($$SELECT * FROM idem_lookup('claim_pure', 'answered') a, idem_lookup('claim_pure', 'unseen') u, idem_lookup('claim_pure', 'open') o$$, NULL),
	-- refused
	($$SELECT idem_claim('claim_pure', 'asked', '{"a": 2}')$$, 'ID422'),
	($$SELECT idem_claim('claim_pure', 'running')$$, 'ID409'),
	($$SELECT idem_claim('claim_pure', 'expired', NULL, false)$$, 'ID409'),
	($$SELECT idem_respond('claim_pure', 'answered', '{"b": 2}')$$, 'ID412'),
	($$SELECT idem_respond('claim_pure', 'unseen', '{"b": 2}')$$, 'ID404'),
	($$SELECT idem_call('claim_pure', 'called', 'regress_claim_pure.echo', '{"c": 4}')$$, 'ID422'),
	($$SELECT idem_call('claim_pure', 'cancelled', 'regress_claim_pure.echo', '{"c": 4}')$$, 'ID412'),
	($$SELECT idem_cancel('claim_pure', 'running')$$, 'ID409'),
	($$SELECT idem_forget('claim_pure', 'running')$$, 'ID409'),
	($$SELECT idem_claim('', 'plain')$$, '22023');
SELECT stmt, raises, c.* FROM pure, cost(stmt, raises) c ORDER BY n;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*), wal, xid, ins, upd, del FROM pure, cost(stmt, raises) c GROUP BY wal, xid, ins, upd, del;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*), wal, xid, ins, upd, del FROM pure, cost(stmt, raises) c GROUP BY wal, xid, ins, upd, del;
COMMIT;

-- in a transaction that writes: what it has claimed itself costs nothing again
BEGIN;
SELECT idem_claim('claim_pure', 'own'), idem_respond('claim_pure', 'own', '1');
SELECT c.* FROM cost($$SELECT idem_claim('claim_pure', 'own'), idem_respond('claim_pure', 'own', '1'), idem_cancel('claim_pure', 'own')$$) c;
SAVEPOINT a;
SELECT c.* FROM cost($$SELECT idem_claim('claim_pure', 'own'), idem_respond('claim_pure', 'own', '1'), idem_cancel('claim_pure', 'own'), idem_claim('claim_pure', 'plain')$$) c;
COMMIT;

-- each statement alone, as a client sends it
SELECT idem_claim('claim_pure', 'plain') AS claimed, idem_claim('claim_pure', 'answered') AS again, idem_response('claim_pure', 'answered') AS response,
	   pg_current_xact_id_if_assigned() IS NULL AS no_xid;

-- no row was moved, changed or locked
SELECT count(*) FROM (SELECT ctid, xmin, xmax, c.* FROM idem.claim c WHERE source = 'claim_pure' AND seq <> 'own' AND seq NOT LIKE 'first %') now
FULL JOIN rows USING (seq) WHERE place IS DISTINCT FROM now.ctid OR maker IS DISTINCT FROM now.xmin OR locker IS DISTINCT FROM now.xmax;
SELECT count(*) FROM rows;

DELETE FROM idem.claim WHERE source = 'claim_pure';
SET client_min_messages = warning;
DROP SCHEMA regress_claim_pure CASCADE;
