-- trigger idem_state: what each verdict does, options, column types, null, tables that change, wrong use

\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\pset null NULL
SET client_min_messages = warning;
CREATE SCHEMA state_test;
SET search_path = state_test, public;

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

SELECT idem_machine('state order', 'created -> paid -> shipped -> done; created -> cancelled; paid -> refunded');

--
-- verdicts
--
CREATE TABLE orders (id int PRIMARY KEY, status text, note text);
CREATE TRIGGER orders_state BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
INSERT INTO orders VALUES (1, 'created'), (2, 'done'), (3, NULL);
SELECT pg_temp.changed($$INSERT INTO orders VALUES (4, 'lost')$$);
SELECT pg_temp.changed($$INSERT INTO orders VALUES (4, '')$$);
-- apply, same
UPDATE orders SET status = 'paid' WHERE id = 1 RETURNING *;
UPDATE orders SET status = 'paid', note = 'again' WHERE id = 1 RETURNING *;
UPDATE orders SET note = 'no move' WHERE id = 1 RETURNING *;
-- late: the row is as it was, all of it
UPDATE orders SET status = 'created', note = 'stale' WHERE id = 1 RETURNING *;
SELECT pg_temp.changed($$UPDATE orders SET status = 'created', note = 'stale' WHERE id = 1$$);
SELECT * FROM orders WHERE id = 1;
-- ahead, illegal, unknown
SELECT pg_temp.changed($$UPDATE orders SET status = 'done' WHERE id = 1$$);
SELECT pg_temp.changed($$UPDATE orders SET status = 'cancelled' WHERE id = 1$$);
SELECT pg_temp.changed($$UPDATE orders SET status = 'lost' WHERE id = 1$$);
-- of many rows only the late ones are skipped
UPDATE orders SET status = 'paid' WHERE id < 3 RETURNING id, status;
-- null: no state yet; none leads back
SELECT pg_temp.changed($$UPDATE orders SET note = 'x' WHERE id = 3$$);
SELECT pg_temp.changed($$UPDATE orders SET status = 'paid' WHERE id = 3$$);
SELECT pg_temp.changed($$UPDATE orders SET status = 'created' WHERE id = 3$$);
SELECT pg_temp.changed($$UPDATE orders SET status = NULL WHERE id = 3$$);
-- a state that the machine has no more stays where it is until it is moved
SELECT idem_machine('state order', 'created -> paid -> sent');
SELECT pg_temp.changed($$UPDATE orders SET note = 'old' WHERE id = 2$$);
SELECT pg_temp.changed($$UPDATE orders SET status = 'sent' WHERE id = 2$$);
-- the next call of this trigger follows the new machine
SELECT pg_temp.changed($$UPDATE orders SET status = 'sent' WHERE id = 1$$);
SELECT idem_machine('state order', 'created -> paid -> shipped -> done; created -> cancelled; paid -> refunded');
TABLE orders ORDER BY id;

--
-- INSERT ... ON CONFLICT DO UPDATE, MERGE
--
TRUNCATE orders;
INSERT INTO orders VALUES (1, 'paid') ON CONFLICT (id) DO UPDATE SET status = excluded.status RETURNING *;
INSERT INTO orders VALUES (1, 'created') ON CONFLICT (id) DO UPDATE SET status = excluded.status RETURNING *;
INSERT INTO orders VALUES (1, 'shipped') ON CONFLICT (id) DO UPDATE SET status = excluded.status RETURNING *;
INSERT INTO orders VALUES (1, 'paid') ON CONFLICT (id) DO UPDATE SET status = excluded.status RETURNING *;
SELECT pg_temp.changed($$INSERT INTO orders VALUES (1, 'cancelled') ON CONFLICT (id) DO UPDATE SET status = excluded.status$$);
MERGE INTO orders USING (VALUES (1, 'paid'), (2, 'paid')) AS m (id, status) ON orders.id = m.id
WHEN MATCHED THEN UPDATE SET status = m.status WHEN NOT MATCHED THEN INSERT VALUES (m.id, m.status);
TABLE orders ORDER BY id;
COPY orders (id, status) FROM STDIN;
3	done
\.

--
-- options
--
CREATE TABLE strict (id int PRIMARY KEY, status text);
CREATE TRIGGER strict_state BEFORE INSERT OR UPDATE ON strict FOR EACH ROW
	EXECUTE FUNCTION idem_state('state order', 'status', 'insert=initial', 'late=error', 'ahead=allow');
SELECT pg_temp.changed($$INSERT INTO strict VALUES (1, 'paid')$$);
SELECT pg_temp.changed($$INSERT INTO strict VALUES (1, NULL)$$);
SELECT pg_temp.changed($$INSERT INTO strict VALUES (1, 'lost')$$);
SELECT pg_temp.changed($$INSERT INTO strict VALUES (1, 'created')$$);
SELECT pg_temp.changed($$UPDATE strict SET status = 'done'$$);
SELECT pg_temp.changed($$UPDATE strict SET status = 'paid'$$);
SELECT pg_temp.changed($$UPDATE strict SET status = 'cancelled'$$);
SELECT pg_temp.changed($$UPDATE strict SET status = NULL$$);
TABLE strict;
-- each alone
-- late=keep: the state stays, the message's other columns are taken, and the update counts
CREATE DOMAIN status_kept AS varchar(10) CHECK (VALUE <> 'lost');
CREATE TABLE kept (id int PRIMARY KEY, status status_kept, note text, twice text GENERATED ALWAYS AS (note || note) STORED);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON kept FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status', 'late=keep', 'insert=initial');
INSERT INTO kept VALUES (1, 'created', 'a');
UPDATE kept SET status = 'paid', note = 'b' WHERE id = 1 RETURNING *;
UPDATE kept SET status = 'created', note = 'c' WHERE id = 1 RETURNING *;
SELECT pg_temp.changed($$UPDATE kept SET status = 'created', note = 'd'$$);
INSERT INTO kept VALUES (1, 'created', 'e') ON CONFLICT (id) DO UPDATE SET status = EXCLUDED.status, note = EXCLUDED.note RETURNING *;
SELECT pg_temp.changed($$UPDATE kept SET status = 'done'$$);
SELECT pg_temp.changed($$UPDATE kept SET status = NULL$$);
SELECT idem_advance('state order', 'kept', 'status', 'created', 1);
TABLE kept;

CREATE TABLE each_option (id int, status text);
INSERT INTO each_option VALUES (1, 'paid');
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON each_option FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status', 'late=error');
SELECT pg_temp.changed($$UPDATE each_option SET status = 'created'$$);
SELECT pg_temp.changed($$UPDATE each_option SET status = 'done'$$);
SELECT pg_temp.changed($$INSERT INTO each_option VALUES (2, 'paid')$$);
DROP TRIGGER s ON each_option;
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON each_option FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status', 'ahead=allow');
SELECT pg_temp.changed($$UPDATE each_option SET status = 'created'$$);
SELECT pg_temp.changed($$UPDATE each_option SET status = 'done'$$);
SELECT pg_temp.changed($$INSERT INTO each_option VALUES (2, 'paid')$$);
-- UPDATE OF, WHEN
DROP TRIGGER s ON each_option;
CREATE TRIGGER s BEFORE UPDATE OF status ON each_option FOR EACH ROW WHEN (new.id = 1) EXECUTE FUNCTION idem_state('state order', 'status');
SELECT pg_temp.changed($$UPDATE each_option SET status = 'cancelled'$$);
UPDATE each_option SET status = 'created' RETURNING *;

--
-- column types
--
CREATE TYPE status_enum AS ENUM ('done', 'cancelled', 'created', 'paid', 'shipped', 'lost');
CREATE DOMAIN status_domain AS varchar(20) CHECK (value <> 'shipped');
CREATE DOMAIN enum_domain AS status_enum;
CREATE TYPE status_row AS (a text);
CREATE FUNCTION pg_temp.try_type(type text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE typed (id int, status %s)', type);
	CREATE TRIGGER s BEFORE INSERT OR UPDATE ON typed FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
	RETURN NEXT type || ' ' || pg_temp.changed($x$INSERT INTO typed VALUES (1, 'created'), (2, 'done'), (3, NULL)$x$);
	RETURN NEXT pg_temp.changed($x$UPDATE typed SET status = 'paid' WHERE id = 1$x$);
	RETURN NEXT pg_temp.changed($x$UPDATE typed SET status = 'created' WHERE id < 3$x$);
	RETURN NEXT pg_temp.changed($x$UPDATE typed SET status = status, id = id$x$);
	RETURN NEXT pg_temp.changed($x$UPDATE typed SET status = 'done' WHERE id = 1$x$);
	RETURN NEXT pg_temp.changed($x$UPDATE typed SET status = 'lost' WHERE id = 1$x$);
	RETURN NEXT (SELECT string_agg(format('%s %s', id, status), ', ' ORDER BY id) FROM typed);
	DROP TABLE typed;
END $$;
SELECT pg_temp.try_type(t) FROM unnest(ARRAY['text', 'varchar', 'varchar(9)', 'char(12)', 'name', 'text COLLATE "C"',
	'status_enum', 'status_domain', 'enum_domain']) AS t;
CREATE FUNCTION pg_temp.refused_type(type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('CREATE TABLE typed (id int, status %s)', type);
	CREATE TRIGGER s BEFORE INSERT OR UPDATE ON typed FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
	result := pg_temp.changed($x$INSERT INTO typed (id) VALUES (1)$x$);
	DROP TABLE typed;
	RETURN result;
END $$;
SELECT pg_temp.refused_type(t) FROM unnest(ARRAY['int', 'text[]', '"char"', 'json', 'status_row',
	'text GENERATED ALWAYS AS (''paid'') STORED']) AS t;
-- values out of line
CREATE TABLE toasted (id int, status text, filler text);
ALTER TABLE toasted ALTER status SET STORAGE EXTERNAL;
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON toasted FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
ALTER TABLE toasted DISABLE TRIGGER s;
INSERT INTO toasted VALUES (1, repeat('x', 100000));
ALTER TABLE toasted ENABLE TRIGGER s;
SELECT pg_temp.changed($$UPDATE toasted SET filler = 'y'$$);
SELECT pg_temp.changed($$UPDATE toasted SET status = 'paid'$$);
SELECT pg_temp.changed($$UPDATE toasted SET status = repeat('y', 100000)$$);

--
-- a table that changes
--
CREATE TABLE changing (id int, gone int, status text);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON changing FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
INSERT INTO changing VALUES (1, 1, 'paid');
PREPARE move (text) AS UPDATE changing SET status = $1;
EXECUTE move('created');
ALTER TABLE changing DROP gone;
EXECUTE move('created');
TABLE changing;
ALTER TABLE changing ADD filler int DEFAULT 7;
ALTER TABLE changing ALTER status TYPE varchar(30);
EXECUTE move('created');
TABLE changing;
ALTER TABLE changing RENAME status TO state;
DEALLOCATE move;
SELECT pg_temp.changed($$UPDATE changing SET state = 'created'$$);
ALTER TABLE changing RENAME state TO status;
SELECT pg_temp.changed($$UPDATE changing SET status = 'created'$$);
-- a column that was added with a default has no value in the old rows
ALTER TABLE changing DROP status;
SELECT pg_temp.changed($$UPDATE changing SET filler = 1$$);
ALTER TABLE changing ADD status text DEFAULT 'paid';
SELECT pg_temp.changed($$UPDATE changing SET status = 'created'$$);
SELECT pg_temp.changed($$UPDATE changing SET status = 'shipped'$$);
TABLE changing;
-- the table itself is renamed, the trigger too
ALTER TABLE changing RENAME TO changed;
ALTER TRIGGER s ON changed RENAME TO t;
SELECT pg_temp.changed($$UPDATE changed SET status = 'cancelled'$$);

-- partitions with their columns in another order; several tables and machines in one statement
SELECT idem_machine('state other', 'x -> y');
CREATE TABLE parted (id int, status text) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 (filler int, status text, id int);
ALTER TABLE parted_2 DROP filler;
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES IN (2);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON parted FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON parted_2 FOR EACH ROW EXECUTE FUNCTION idem_state('state other', 'status');
SELECT pg_temp.changed($$INSERT INTO parted VALUES (1, 'paid'), (2, 'paid')$$);
DROP TRIGGER t ON parted_2;
SELECT pg_temp.changed($$INSERT INTO parted VALUES (1, 'paid'), (2, 'done')$$);
SELECT pg_temp.changed($$UPDATE parted SET status = 'created'$$);
SELECT pg_temp.changed($$UPDATE parted SET status = 'shipped'$$);
SELECT pg_temp.changed($$UPDATE parted SET id = 2, status = 'refunded' WHERE id = 1$$);
SELECT pg_temp.changed($$UPDATE parted SET id = 2, status = 'done' WHERE id = 1$$);
SELECT tableoid::regclass, * FROM parted ORDER BY 1, 2;

-- a trigger of an earlier name may choose the state, ours judges it
CREATE FUNCTION choose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.status := 'cancelled'; RETURN new; END $$;
CREATE TRIGGER a BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION choose();
SELECT pg_temp.changed($$UPDATE orders SET note = 'x' WHERE id = 1$$);
DROP TRIGGER a ON orders;

--
-- wrong use
--
CREATE TABLE wrong (id int, status text);
INSERT INTO wrong VALUES (1, 'paid');
CREATE FUNCTION pg_temp.wrong_trigger(kind text, arguments text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('CREATE TRIGGER w %s EXECUTE FUNCTION idem_state(%s)', kind, arguments);
	result := pg_temp.changed(statement);
	DROP TRIGGER w ON wrong;
	RETURN result;
END $$;
SELECT pg_temp.wrong_trigger('AFTER UPDATE ON wrong FOR EACH ROW', $$'state order', 'status'$$, 'UPDATE wrong SET id = 2');
SELECT pg_temp.wrong_trigger('BEFORE UPDATE ON wrong', $$'state order', 'status'$$, 'UPDATE wrong SET id = 2');
SELECT pg_temp.wrong_trigger('BEFORE DELETE ON wrong FOR EACH ROW', $$'state order', 'status'$$, 'DELETE FROM wrong');
SELECT pg_temp.wrong_trigger('BEFORE TRUNCATE ON wrong', $$'state order', 'status'$$, 'TRUNCATE wrong');
SELECT pg_temp.changed('SELECT idem_state()');
SELECT arguments, pg_temp.wrong_trigger('BEFORE INSERT OR UPDATE ON wrong FOR EACH ROW', arguments, 'UPDATE wrong SET id = 2')
FROM (VALUES (1, ''), (2, $$'state order'$$), (3, $$'', 'status'$$), (4, $$'state order', ''$$), (5, $$'state order', 'Status'$$),
	(6, $$'state order', 'ctid'$$), (7, $$'state order', 'id'$$), (8, $$'state order', 'status', 'late'$$),
	(9, $$'state order', 'status', 'late=error', 'ahead=error'$$), (10, $$'state order', 'status', 'late=keep', 'late=error'$$)) AS v (n, arguments) ORDER BY n;
SELECT pg_temp.wrong_trigger('BEFORE UPDATE ON wrong FOR EACH ROW', format('%L, %L', repeat('m', 256), 'status'), 'UPDATE wrong SET id = 2');
SELECT pg_temp.wrong_trigger('BEFORE UPDATE ON wrong FOR EACH ROW', $$'state none', 'status'$$, $$UPDATE wrong SET status = 'x'$$);
CREATE VIEW wrong_view AS SELECT * FROM wrong;
CREATE TRIGGER w INSTEAD OF UPDATE ON wrong_view FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
SELECT pg_temp.changed('UPDATE wrong_view SET id = 2');
TABLE wrong;

-- a role that may only update the table needs nothing of ours
CREATE ROLE regress_state_user;
GRANT USAGE ON SCHEMA state_test TO regress_state_user;
GRANT SELECT, UPDATE ON orders TO regress_state_user;
SET ROLE regress_state_user;
UPDATE orders SET status = 'done' WHERE id = 1 RETURNING *;
UPDATE orders SET status = 'paid' WHERE id = 1 RETURNING *;
RESET ROLE;

-- 100,000 rows in one statement: right, and nothing leaks
CREATE TABLE bulk (id int, status status_enum);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON bulk FOR EACH ROW EXECUTE FUNCTION idem_state('state order', 'status');
INSERT INTO bulk SELECT i, CASE i % 4 WHEN 0 THEN 'created' WHEN 1 THEN 'paid' WHEN 2 THEN 'shipped' ELSE 'done' END::status_enum FROM generate_series(1, 100000) i;
DO $$
DECLARE
	before bigint; n bigint;
BEGIN
	UPDATE bulk SET status = 'created' WHERE id < 4;
	SELECT sum(total_bytes) INTO before FROM pg_backend_memory_contexts;
	UPDATE bulk SET status = 'paid';
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE WARNING 'rows %, growth below 1 MB: %', n, (SELECT sum(total_bytes) - before < 1000000 FROM pg_backend_memory_contexts);
END $$;
SELECT status, count(*) FROM bulk GROUP BY status ORDER BY status;

DROP SCHEMA state_test CASCADE;
DROP ROLE regress_state_user;
DELETE FROM idem.transition WHERE machine LIKE 'state %';
