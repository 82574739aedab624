-- idem_advance: what each verdict does, column types, keys, as the caller, on a table with the trigger, errors

\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\pset null NULL
SET client_min_messages = warning;
CREATE SCHEMA advance_test;
SET search_path = advance_test, public;

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

SELECT idem_machine('advance order', 'created -> paid -> shipped -> done; created -> cancelled');
CREATE TABLE orders (id int PRIMARY KEY, status text, code text, note text);
CREATE UNIQUE INDEX orders_code ON orders (code);
INSERT INTO orders VALUES (1, 'created', 'A-1'), (2, NULL, 'A-2'), (3, 'gone', 'A-3');

--
-- verdicts
--
SELECT idem_advance('advance order', 'orders', 'status', 'paid', 1);
SELECT idem_advance('advance order', 'orders', 'status', 'paid', 1);
CREATE TEMP TABLE before AS SELECT ctid AS tid, xmin::text AS xid FROM orders WHERE id = 1;
SELECT idem_advance('advance order', 'orders', 'status', 'created', 1);
-- same and late write nothing, and take no transaction id
BEGIN;
SELECT idem_advance('advance order', 'orders', 'status', 'paid', 1), idem_advance('advance order', 'orders', 'status', 'created', 1);
SELECT pg_current_xact_id_if_assigned() IS NULL;
COMMIT;
SELECT count(*) FROM orders o JOIN before b ON (o.ctid, o.xmin::text) = (b.tid, b.xid);
-- in a cycle what is the same now may be a move after a rival's: the row is locked
SELECT idem_machine('advance cycle', 'on -> off -> on; on -> broken');
CREATE TABLE switch (id int PRIMARY KEY, status text);
INSERT INTO switch VALUES (1, 'on');
BEGIN;
SELECT idem_advance('advance cycle', 'switch', 'status', 'on', 1);
SELECT pg_current_xact_id_if_assigned() IS NULL;
COMMIT;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'done', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'cancelled', 1)$$);
-- null
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'paid', 2)$$);
SELECT idem_advance('advance order', 'orders', 'status', 'created', 2);
-- calls in one statement see each other in order
SELECT idem_advance('advance order', 'orders', 'status', 'paid', 2), idem_advance('advance order', 'orders', 'status', 'shipped', 2),
	idem_advance('advance order', 'orders', 'status', 'paid', 2), idem_advance('advance order', 'orders', 'status', 'done', 2);
-- a state that is not in the machine: asked for, or in the row
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'lost', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'paid', 3)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance none', 'orders', 'status', 'paid', 1)$$);
-- no row
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'paid', 4)$$);
-- a unique index; its own values
SELECT idem_advance('advance order', 'orders_code', 'status', 'shipped', 'A-1');
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders_code', 'status', 'done', 'A-1', 1)$$);
TABLE orders ORDER BY id;

--
-- column types
--
CREATE TYPE status_enum AS ENUM ('done', 'cancelled', 'created', 'paid', 'shipped');
CREATE DOMAIN status_domain AS varchar(20) CHECK (value <> 'shipped');
CREATE DOMAIN enum_domain AS status_enum;
CREATE FUNCTION pg_temp.try_type(type text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE typed (id int PRIMARY KEY, status %s)', type);
	INSERT INTO typed VALUES (1, 'created');
	RETURN NEXT type;
	RETURN NEXT pg_temp.outcome($x$SELECT idem_advance('advance order', 'typed', 'status', 'paid', 1)$x$);
	RETURN NEXT pg_temp.outcome($x$SELECT idem_advance('advance order', 'typed', 'status', 'paid', 1)$x$);
	RETURN NEXT pg_temp.outcome($x$SELECT idem_advance('advance order', 'typed', 'status', 'created', 1)$x$);
	RETURN NEXT pg_temp.outcome($x$SELECT idem_advance('advance order', 'typed', 'status', 'shipped', 1)$x$);
	RETURN NEXT (SELECT string_agg(format('%s %s', id, status), ', ' ORDER BY id) FROM typed);
	DROP TABLE typed;
END $$;
SELECT pg_temp.try_type(t) FROM unnest(ARRAY['text', 'varchar(9)', 'char(12)', 'name', 'status_enum', 'enum_domain']) AS t;
-- what the column itself refuses
SELECT pg_temp.try_type(t) FROM unnest(ARRAY['status_domain', 'varchar(7) CHECK (status <> ''shipped'')']) AS t;
CREATE TABLE narrow (id int PRIMARY KEY, status varchar(7));
INSERT INTO narrow VALUES (1, 'created');
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'narrow', 'status', 'cancelled', 1)$$);
-- nothing is cut off: by a domain over such a type, or by type name
CREATE DOMAIN narrow_domain AS varchar(7);
CREATE DOMAIN narrow_char AS char(7);
CREATE DOMAIN narrower AS narrow_domain CHECK (value <> '');
CREATE DOMAIN name_domain AS name;
SELECT idem_machine('advance long', format('created -> cancelled; created -> %1$s; created -> %1$sx', repeat('y', 63)));
CREATE TABLE long (id int PRIMARY KEY, a narrow_domain, b narrow_char, c narrower, d name, e name_domain, f text, g varchar(63));
INSERT INTO long VALUES (1, 'created', 'created', 'created', 'created', 'created', 'created', 'created');
SELECT pg_temp.outcome(format($$SELECT idem_advance('advance long', 'long', %L, 'cancelled', 1)$$, c)) FROM unnest(ARRAY['a', 'b', 'c']) c;
SELECT pg_temp.outcome(format($$SELECT idem_advance('advance long', 'long', %L, repeat('y', 63) || 'x', 1)$$, c)) FROM unnest(ARRAY['d', 'e', 'f', 'g']) c;
SELECT pg_temp.outcome(format($$SELECT idem_advance('advance long', 'long', %L, repeat('y', 63), 1)$$, c)) FROM unnest(ARRAY['d', 'e']) c;
-- before anything is looked at: there is no such row
SELECT pg_temp.outcome($$SELECT idem_advance('advance long', 'long', 'd', repeat('y', 63) || 'x', 2)$$);
SELECT a, b, c, length(d), length(e), length(f), g FROM long;
CREATE TABLE other_types (id int PRIMARY KEY, n int, a text[], g text GENERATED ALWAYS AS ('paid') STORED);
INSERT INTO other_types VALUES (1);
SELECT pg_temp.outcome(format($$SELECT idem_advance('advance order', 'other_types', %L, 'paid', 1)$$, c)) FROM unnest(ARRAY['n', 'a', 'g']) c;

--
-- a table with the trigger: both ask the same machine
--
CREATE TABLE guarded (id int PRIMARY KEY, status text);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION idem_state('advance order', 'status', 'late=error', 'ahead=allow');
INSERT INTO guarded VALUES (1, 'created');
SELECT pg_temp.outcome(format($$SELECT idem_advance('advance order', 'guarded', 'status', %L, 1)$$, s)) FROM unnest(ARRAY['created', 'done', 'paid', 'created', 'cancelled']) s;
SELECT status FROM guarded;
-- another machine on the same column has its own say
SELECT idem_machine('advance back', 'done -> shipped -> paid -> created; paid -> cancelled');
SELECT pg_temp.outcome($$SELECT idem_advance('advance back', 'guarded', 'status', 'created', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance back', 'guarded', 'status', 'cancelled', 1)$$);
DROP TRIGGER s ON guarded;
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION idem_state('advance order', 'status');
SELECT pg_temp.outcome($$SELECT idem_advance('advance back', 'guarded', 'status', 'created', 1)$$);
SELECT status FROM guarded;

-- a rule that makes another UPDATE of ours
CREATE TABLE ruled (id int PRIMARY KEY, status text);
CREATE TABLE ruled_log (n int);
INSERT INTO ruled VALUES (1, 'created');
INSERT INTO ruled_log VALUES (0);
CREATE RULE ruled_update AS ON UPDATE TO ruled DO INSTEAD UPDATE ruled_log SET n = n + 1;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'ruled', 'status', 'paid', 1)$$);
SELECT status, n FROM ruled, ruled_log;

--
-- as the caller
--
CREATE ROLE regress_advance_user;
GRANT USAGE ON SCHEMA advance_test TO regress_advance_user;
SET ROLE regress_advance_user;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'done', 1)$$);
RESET ROLE;
GRANT SELECT ON orders TO regress_advance_user;
SET ROLE regress_advance_user;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'done', 1)$$);
-- it may read that the message is late
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'created', 1)$$);
RESET ROLE;
GRANT UPDATE (status) ON orders TO regress_advance_user;
SET ROLE regress_advance_user;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'done', 1)$$);
RESET ROLE;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON orders TO regress_advance_user USING (id <> 2);
SET ROLE regress_advance_user;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'done', 2)$$);
RESET ROLE;

BEGIN READ ONLY;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'paid', 1)$$);
COMMIT;

--
-- arguments
--
SELECT pg_temp.outcome($$SELECT idem_advance(NULL, 'orders', 'status', 'paid', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', NULL, 'status', 'paid', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', NULL, 'paid', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', NULL, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', 'paid', NULL::int)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('', 'orders', 'status', 'paid', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', '', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'status', repeat('x', 256), 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'state', 'paid', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'orders', 'ctid', 'paid', 1)$$);
CREATE TABLE keyless (id int, status text);
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'keyless', 'status', 'paid', 1)$$);

-- a trigger that makes the column something else
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status := OLD.status; RETURN NEW; END $$;
CREATE TABLE lied (id int PRIMARY KEY, status char(10), note text);
INSERT INTO lied VALUES (1, 'created'), (2, 'created');
SELECT idem_advance('advance order', 'lied', 'status', 'paid', 1);
CREATE TRIGGER put_back BEFORE UPDATE ON lied FOR EACH ROW EXECUTE FUNCTION put_back();
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'lied', 'status', 'paid', 2)$$);
CREATE OR REPLACE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status := NULL; RETURN NEW; END $$;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'lied', 'status', 'paid', 2)$$);
TABLE lied;

-- a column that is renamed or dropped between two calls of a session
SELECT idem_advance('advance order', 'guarded', 'status', 'paid', 1);
ALTER TABLE guarded RENAME status TO state;
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'guarded', 'status', 'done', 1)$$);
DROP TRIGGER s ON guarded;
ALTER TABLE guarded DROP state, ADD status status_enum DEFAULT 'paid';
SELECT pg_temp.outcome($$SELECT idem_advance('advance order', 'guarded', 'status', 'shipped', 1)$$);
TABLE guarded;

DROP SCHEMA advance_test CASCADE;
DROP ROLE regress_advance_user;
DELETE FROM idem.transition WHERE machine LIKE 'advance %';
