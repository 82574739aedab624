-- pins idem_insert: which key, what is filled in, what is found, what nothing is burned for
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_insert;
SET search_path = row_insert, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

CREATE TABLE account (id bigserial PRIMARY KEY, email text UNIQUE, name text DEFAULT 'anonymous', gone int,
	n int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (length(name) * 2) STORED, ref uuid UNIQUE);
ALTER TABLE account DROP COLUMN gone;

-- inserted with its defaults, its identity, its generated column; then found as it is
SELECT * FROM idem_insert(ROW(NULL, 'a@x', NULL, NULL, NULL, NULL)::account);
SELECT * FROM idem_insert(ROW(NULL, 'a@x', 'other', NULL, NULL, NULL)::account);
SELECT inserted, (stored).id, (stored).name FROM idem_insert(jsonb_populate_record(NULL::account, '{"email":"b@x","name":"bob"}'));
SELECT inserted, (stored).id, (stored).name FROM idem_insert(jsonb_populate_record(NULL::account, '{"email":"b@x"}'));
-- nothing is burned for a row that is there already, and nothing written
SELECT count(*) FROM generate_series(1, 100), LATERAL idem_insert(ROW(NULL, 'a@x', NULL, NULL, NULL, NULL)::account) WHERE inserted;
BEGIN;
SELECT inserted, pg_current_xact_id_if_assigned() IS NULL FROM idem_insert(ROW(NULL, 'b@x', NULL, NULL, NULL, NULL)::account);
COMMIT;
SELECT last_value FROM account_id_seq;
SELECT * FROM idem_insert(ROW(NULL, 'c@x', NULL, NULL, NULL, NULL)::account);
-- twice in one statement, and one's own row of before
SELECT i.inserted, (i.stored).id, (i.stored).email FROM (VALUES ('d@x'), ('e@x'), ('d@x')) AS e (email),
	LATERAL idem_insert(ROW(NULL, e.email, NULL, NULL, NULL, NULL)::account) AS i;
-- after a rollback to a savepoint it is free again
BEGIN;
SAVEPOINT s;
SELECT inserted FROM idem_insert(ROW(NULL, 'f@x', NULL, NULL, NULL, NULL)::account);
ROLLBACK TO s;
SELECT inserted FROM idem_insert(ROW(NULL, 'f@x', NULL, NULL, NULL, NULL)::account);
ROLLBACK;

-- which key: the primary key if given, else the only unique index that is given
SELECT inserted, (stored).email FROM idem_insert(ROW(1, 'z@x', NULL, NULL, NULL, NULL)::account);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, 'z@x', NULL, NULL, NULL, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')::account)$$);
SELECT inserted, (stored).email FROM idem_insert(ROW(NULL, 'z@x', NULL, NULL, NULL, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')::account, 'account_ref_key');
SELECT inserted, (stored).ref FROM idem_insert(ROW(NULL, 'z@x', NULL, NULL, NULL, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12')::account, 'account_email_key');
SELECT inserted, (stored).email FROM idem_insert(ROW(1, 'y@x', NULL, NULL, NULL, NULL)::account, key => 'account');
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, NULL, 'x', NULL, NULL, NULL)::account)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(NULL::account)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, NULL, NULL, NULL, NULL, NULL)::account)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, NULL, 'x', NULL, NULL, NULL)::account, 'account_email_key')$$);
-- a row that another unique index does not allow is the server's error
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, 'a@x', NULL, NULL, NULL, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13')::account, 'account_ref_key')$$);
-- a value where the table makes its own
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, 'n@x', NULL, 5, NULL, NULL)::account)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, 'n@x', NULL, NULL, 5, NULL)::account)$$);
-- keys that will not do
CREATE TABLE other (id int PRIMARY KEY);
CREATE INDEX account_name ON account (name);
CREATE UNIQUE INDEX account_partial ON account (name) WHERE id < 0;
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, 'q@x', NULL, NULL, NULL, NULL)::account, 'other_pkey')$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, 'q@x', NULL, NULL, NULL, NULL)::account, 'account_name')$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, NULL, 'q', NULL, NULL, NULL)::account, 'account_partial')$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(NULL, NULL, 'q', NULL, NULL, NULL)::account)$$);
-- candidates that will not do
CREATE VIEW seen AS SELECT * FROM other;
CREATE MATERIALIZED VIEW made AS SELECT * FROM other;
CREATE TYPE loose AS (id int);
CREATE DOMAIN tame AS other CHECK ((VALUE).id > 0);
SELECT pg_temp.outcome($$SELECT idem_insert(42)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(1))$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(1)::loose)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(1)::tame)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(1)::seen)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(1)::made)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(NULL)$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1)::other, NULL)$$);

-- several columns; nulls in the others; composites, arrays, toasted values
CREATE TYPE pair AS (a int, b text);
CREATE TABLE wide (a int, b text, p pair, xs text[], big text, CONSTRAINT wide_key PRIMARY KEY (b, a));
SELECT inserted, (stored).p, (stored).xs, length((stored).big)
FROM idem_insert(ROW(1, 'one', ROW(7, 'seven'), '{x,NULL}', repeat('0123456789', 20000))::wide);
SELECT inserted, (stored).p, (stored).xs, length((stored).big), (stored).big = repeat('0123456789', 20000)
FROM idem_insert(ROW(1, 'one', NULL, NULL, NULL)::wide);
SELECT inserted FROM idem_insert(ROW(2, 'one', NULL, NULL, NULL)::wide);
-- a candidate read from a table
SELECT inserted, (stored).big IS NOT NULL FROM wide, LATERAL idem_insert(wide) ORDER BY 1, 2;
-- with NULLS NOT DISTINCT a null in the key still is no key
CREATE TABLE nulls (a int, b int, UNIQUE NULLS NOT DISTINCT (a, b));
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(1, NULL)::nulls)$$);

-- triggers
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE TG_ARGV[0]
		WHEN 'suppress' THEN RETURN NULL;
		WHEN 'fill' THEN NEW.b := coalesce(NEW.b, 0) + 100;
		WHEN 'key' THEN NEW.a := 1;
		WHEN 'twin' THEN IF NEW.b <> 5 THEN PERFORM idem_insert(ROW(NEW.a, 5)::hooked); END IF;
	END CASE;
	RETURN NEW;
END $$;
CREATE TABLE hooked (a int PRIMARY KEY, b int);
CREATE TRIGGER meddle BEFORE INSERT ON hooked FOR EACH ROW EXECUTE FUNCTION meddle('fill');
SELECT * FROM idem_insert(ROW(1, 2)::hooked);
SELECT * FROM idem_insert(ROW(1, 2)::hooked);
CREATE OR REPLACE TRIGGER meddle BEFORE INSERT ON hooked FOR EACH ROW EXECUTE FUNCTION meddle('suppress');
SELECT * FROM idem_insert(ROW(1, 2)::hooked);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(2, 2)::hooked)$$);
CREATE OR REPLACE TRIGGER meddle BEFORE INSERT ON hooked FOR EACH ROW EXECUTE FUNCTION meddle('key');
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(2, 2)::hooked)$$);
-- the trigger inserts the very key through us
CREATE OR REPLACE TRIGGER meddle BEFORE INSERT ON hooked FOR EACH ROW EXECUTE FUNCTION meddle('twin');
SELECT * FROM idem_insert(ROW(3, 6)::hooked);
-- rules do not go with ON CONFLICT
CREATE RULE hooked_rule AS ON INSERT TO hooked DO INSTEAD NOTHING;
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(9, 9)::hooked)$$);
CREATE OR REPLACE RULE hooked_rule AS ON INSERT TO hooked DO INSTEAD INSERT INTO other VALUES (NEW.a) RETURNING id, id;
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(9, 9)::hooked)$$);
CREATE OR REPLACE RULE hooked_rule AS ON INSERT TO hooked WHERE NEW.a > 5 DO INSTEAD INSERT INTO other VALUES (NEW.a);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(9, 9)::hooked)$$);
-- nor do rules for UPDATE
DROP RULE hooked_rule ON hooked;
CREATE RULE hooked_rule AS ON UPDATE TO hooked DO INSTEAD INSERT INTO other VALUES (NEW.a);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(9, 9)::hooked)$$);

-- nor does a deferrable constraint on the columns of the key, whatever the index beside it; on other columns it does no harm
CREATE TABLE deferred (a int CONSTRAINT deferred_pkey PRIMARY KEY DEFERRABLE, b int CONSTRAINT deferred_b UNIQUE);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1, 1)::deferred)$$), pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1, 1)::deferred)$$);
CREATE UNIQUE INDEX deferred_a ON deferred (a);
SELECT left(pg_temp.outcome($$SELECT idem_insert(ROW(2, 2)::deferred, 'deferred_a')$$), 5), pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1, 1)::deferred, 'deferred_a')$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('deferred_a', 'b', 1, 1)$$);

-- an exclusion constraint, and a column that the caller may not read: the server's own errors
CREATE TABLE booked (id int PRIMARY KEY, seats int4range, note text, EXCLUDE USING gist (seats WITH &&));
INSERT INTO booked VALUES (1, '[1,5)');
SELECT left(pg_temp.outcome($$SELECT idem_insert(ROW(2, '[3,9)', NULL)::booked)$$), 5), pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1, '[3,9)', NULL)::booked)$$);
CREATE ROLE regress_row_insert;
GRANT USAGE ON SCHEMA row_insert TO regress_row_insert;
GRANT INSERT, SELECT (id, seats) ON booked TO regress_row_insert;
SET ROLE regress_row_insert;
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(3, '[10,11)', NULL)::booked)$$);
RESET ROLE;
GRANT SELECT (note) ON booked TO regress_row_insert;
SET ROLE regress_row_insert;
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(3, '[10,11)', NULL)::booked)$$);
RESET ROLE;
-- the row as it is stored: columns dropped, added, generated, of domains, out of line
CREATE DOMAIN short AS varchar(3);
ALTER TABLE booked DROP note, ADD size int GENERATED ALWAYS AS (upper(seats) - lower(seats)) STORED, ADD tag short DEFAULT 'abc', ADD long text;
ALTER TABLE booked ALTER long SET STORAGE EXTERNAL;
SELECT inserted, (stored).id, (stored).size, (stored).tag, length((stored).long) FROM idem_insert(ROW(4, '[20,22)', NULL, NULL, repeat('x', 9000))::booked);
SELECT inserted, (stored).id, (stored).size, (stored).tag, length((stored).long) FROM idem_insert(ROW(4, '[30,32)', NULL, NULL, NULL)::booked);
CREATE TABLE copied AS SELECT (stored).* FROM idem_insert(ROW(4, '[30,32)', NULL, NULL, NULL)::booked);
SELECT id, seats, size, tag, length(long) FROM copied;

-- the same at every level
DO $$ BEGIN EXECUTE 'TRUNCATE other'; END $$;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT inserted FROM idem_insert(ROW(1)::other);
SELECT inserted FROM idem_insert(ROW(1)::other);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT inserted FROM idem_insert(ROW(1)::other);
SELECT inserted FROM idem_insert(ROW(2)::other);
COMMIT;
TABLE other;

DROP SCHEMA row_insert CASCADE;
DROP ROLE regress_row_insert;
