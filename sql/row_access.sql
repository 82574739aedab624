-- pins that a caller's table is reached as the caller: privileges on tables and columns, row security, hostile names and values
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_access;
GRANT USAGE ON SCHEMA row_access TO PUBLIC;
SET search_path = row_access, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

CREATE ROLE regress_row_access;
CREATE ROLE regress_row_access_owner;
CREATE TABLE item (id int PRIMARY KEY, code text UNIQUE, qty int, secret text DEFAULT 'secret', tenant name DEFAULT current_user);
CREATE SEQUENCE item_seq;
INSERT INTO item VALUES (1, 'one', 10), (2, 'two', 10);

-- each privilege alone lets through what the plain statement lets through
CREATE FUNCTION all_three() RETURNS TABLE (verb text, answer text) LANGUAGE sql VOLATILE AS $$
	SELECT 'deduct', pg_temp.outcome($q$SELECT idem_deduct('item', 'qty', 1, 1)$q$)
	UNION ALL SELECT 'refuse', pg_temp.outcome($q$SELECT idem_deduct('item', 'qty', 1000, 1)$q$)
	UNION ALL SELECT 'lock', pg_temp.outcome($q$SELECT idem_lock_row('item', 1)$q$)
	UNION ALL SELECT 'find', pg_temp.outcome($q$SELECT inserted FROM idem_insert(ROW(1, NULL, NULL, NULL, NULL)::item)$q$)
	UNION ALL SELECT 'insert', pg_temp.outcome($q$SELECT inserted FROM idem_insert(ROW(9, NULL, 1, NULL, NULL)::item)$q$)
$$;
SET ROLE regress_row_access;
SELECT * FROM all_three();
RESET ROLE;
GRANT SELECT ON item TO regress_row_access;
SET ROLE regress_row_access;
SELECT * FROM all_three();
RESET ROLE;
GRANT INSERT ON item TO regress_row_access;
SET ROLE regress_row_access;
SELECT * FROM all_three();
RESET ROLE;
DELETE FROM item WHERE id = 9;
REVOKE ALL ON item FROM regress_row_access;
GRANT UPDATE ON item TO regress_row_access;
SET ROLE regress_row_access;
SELECT * FROM all_three();
RESET ROLE;
-- columns
REVOKE ALL ON item FROM regress_row_access;
GRANT SELECT (id, qty), UPDATE (qty), INSERT (id, qty) ON item TO regress_row_access;
SET ROLE regress_row_access;
SELECT * FROM all_three();
SELECT pg_temp.outcome($$SELECT idem_deduct('item_code_key', 'qty', 1, 'one')$$);
RESET ROLE;
GRANT SELECT ON item TO regress_row_access;
SET ROLE regress_row_access;
SELECT * FROM all_three();
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(10, 'ten', 1, NULL, NULL)::item)$$);
RESET ROLE;
DELETE FROM item WHERE id = 9;
-- a schema that is closed is no hindrance to an OID, as everywhere in SQL, but a table is
REVOKE ALL ON item FROM regress_row_access;
-- a default that the caller may not compute
GRANT SELECT, INSERT, UPDATE ON item TO regress_row_access;
ALTER TABLE item ALTER COLUMN qty SET DEFAULT nextval('row_access.item_seq');
SET ROLE regress_row_access;
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(11, NULL, NULL, NULL, NULL)::item)$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1, NULL, NULL, NULL, NULL)::item)$$);
RESET ROLE;
-- our own tables are nobody's
SET ROLE regress_row_access;
SELECT pg_temp.outcome($$SELECT idem_lock_row('idem.claim', 'web', '42')$$);
RESET ROLE;
-- a SECURITY DEFINER function acts as its owner, and what it kept is not used for another
CREATE FUNCTION take() RETURNS bool LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = public
	AS $$SELECT idem_deduct('row_access.item', 'qty', 1, 2)$$;
REVOKE ALL ON item FROM regress_row_access;
SELECT idem_deduct('item', 'qty', 1, 2);
SET ROLE regress_row_access;
SELECT take();
SELECT pg_temp.outcome($$SELECT idem_deduct('item', 'qty', 1, 2)$$);
SELECT take();
RESET ROLE;
SELECT qty FROM item WHERE id = 2;

--
-- Row security: a hidden row is no row
--
UPDATE item SET tenant = 'regress_row_access' WHERE id = 1;
GRANT SELECT, INSERT, UPDATE ON item TO regress_row_access;
ALTER TABLE item ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON item USING (tenant = current_user);
SET ROLE regress_row_access;
SELECT idem_deduct('item', 'qty', 1, 1), idem_deduct('item', 'qty', 1000, 1), idem_lock_row('item', 1), idem_lock_row('item', 2);
SELECT pg_temp.outcome($$SELECT idem_deduct('item', 'qty', 1, 2)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('item', 'qty', 1000, 2)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(2, NULL, 1, NULL, NULL)::item)$$);
SELECT pg_temp.outcome($$SELECT idem_insert(ROW(12, NULL, 1, NULL, 'postgres')::item)$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(12, NULL, 1, NULL, NULL)::item)$$);
RESET ROLE;
-- seen, but not to be changed
DROP POLICY mine ON item;
CREATE POLICY see ON item FOR SELECT USING (true);
CREATE POLICY change ON item FOR UPDATE USING (tenant = current_user) WITH CHECK (qty > 3);
SET ROLE regress_row_access;
SELECT idem_lock_row('item', 1), idem_lock_row('item', 2);
SELECT pg_temp.outcome($$SELECT idem_deduct('item', 'qty', 1, 2)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('item', 'qty', 1000, 2)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('item', 'qty', 6, 1)$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(2, NULL, 1, NULL, NULL)::item)$$);
SET row_security = off;
SELECT pg_temp.outcome($$SELECT idem_lock_row('item', 1)$$);
RESET row_security;
RESET ROLE;
SELECT id, qty FROM item ORDER BY id;
-- the owner is not held to it until FORCE
ALTER TABLE item OWNER TO regress_row_access_owner;
SET ROLE regress_row_access_owner;
SELECT idem_lock_row('item', 2);
ALTER TABLE item FORCE ROW LEVEL SECURITY;
SELECT idem_lock_row('item', 2);
RESET ROLE;

--
-- Hostile names and values: nothing of them is ever executed
--
CREATE TABLE canary (alive bool);
INSERT INTO canary VALUES (true);
CREATE FUNCTION boom() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM row_access.canary; RETURN 1; END $$;
CREATE TABLE hostile (n int, s text);
INSERT INTO hostile SELECT row_number() OVER (), left(format(p, x), 60) FROM
	unnest(ARRAY['%s', '"%s', '''%s', '";%s;--', ''';%s;--', '$1;%s', ')%s--', '") %s --', E'\\%s', E'\n%s\n', '$$%s$$', '/*%s*/',
		'%%s%s', '%s"."', '"%s"', '''%s''', E'\t;%s', '|| %s ||', ' %s', '(%s)']) p,
	unnest(ARRAY['DELETE FROM row_access.canary', 'row_access.boom()', 'SELECT row_access.boom()']) x;
DO $$
DECLARE
	h hostile; t text; ok bool; n int := 0;
BEGIN
	FOR h IN SELECT * FROM hostile ORDER BY hostile.n LOOP
		t := format('row_access.%I', h.s);
		EXECUTE format('CREATE TABLE %s (%I text CONSTRAINT %I PRIMARY KEY, %I int)', t, h.s, 'k' || h.s, 'q' || h.s);
		EXECUTE format('INSERT INTO %s VALUES (%L, 10)', t, h.s);
		EXECUTE format('CREATE TRIGGER v BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION idem_version(%L)', t, 'v' || h.s);
		EXECUTE format('ALTER TABLE %s ADD COLUMN %I int DEFAULT 1', t, 'v' || h.s);
		ok := idem_deduct(t::regclass, ('q' || h.s)::name, 3, h.s)
			AND idem_lock_row(format('row_access.%I', 'k' || h.s)::regclass, h.s)
			AND NOT idem_lock_row(t::regclass, h.s || 'x');
		EXECUTE format('SELECT $1 AND NOT inserted FROM idem_insert(ROW(%L, 1, 1)::%s)', h.s, t) INTO ok USING ok;
		EXECUTE format('SELECT $1 AND inserted FROM idem_insert(ROW(%L, 1, 1)::%s)', h.s || 'y', t) INTO ok USING ok;
		EXECUTE format('SELECT $1 AND (array_agg(%I ORDER BY 1))[1] = 7 AND max(%I) = 2 FROM %s', 'q' || h.s, 'v' || h.s, t)
			INTO ok USING ok;
		IF ok THEN
			n := n + 1;
		ELSE
			RAISE WARNING '%: wrong', h.s;
		END IF;
		BEGIN
			PERFORM idem_deduct(t::regclass, h.s::name, 3, h.s);
			RAISE WARNING '%: deducted from text', h.s;
		EXCEPTION WHEN datatype_mismatch THEN
		END;
		BEGIN
			PERFORM idem_deduct(t::regclass, ('n' || h.s)::name, 3, h.s);
			RAISE WARNING '%: no such column', h.s;
		EXCEPTION WHEN undefined_column THEN
		END;
		BEGIN
			PERFORM idem_deduct('item', 'qty', 1, h.s);
			RAISE WARNING '%: no number', h.s;
		EXCEPTION WHEN invalid_text_representation THEN
		END;
	END LOOP;
	RAISE INFO '% of % names and values, canary alive: %', n, (SELECT count(*) FROM hostile), (SELECT alive FROM canary);
END $$;

-- a search_path with operators, functions and tables of a stranger
CREATE SCHEMA row_access_evil;
CREATE FUNCTION row_access_evil.evil(int, int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN DELETE FROM row_access.canary; RETURN true; END $$;
CREATE FUNCTION row_access_evil.evil_minus(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM row_access.canary; RETURN 1; END $$;
CREATE OPERATOR row_access_evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = row_access_evil.evil);
CREATE OPERATOR row_access_evil.>= (LEFTARG = int, RIGHTARG = int, FUNCTION = row_access_evil.evil);
CREATE OPERATOR row_access_evil.- (LEFTARG = int, RIGHTARG = int, FUNCTION = row_access_evil.evil_minus);
CREATE TABLE row_access_evil.plain (id int PRIMARY KEY, qty int);
CREATE TABLE plain (id int PRIMARY KEY, qty int);
INSERT INTO plain VALUES (1, 10);
SET search_path = row_access_evil, row_access, pg_catalog, public;
SELECT idem_deduct('row_access.plain', 'qty', 3, 1), idem_lock_row('row_access.plain', 1),
	(SELECT inserted FROM idem_insert(ROW(1, 1)::row_access.plain)), idem_deduct('row_access.plain', 'qty', 30, 1);
SET search_path = row_access, public;
SELECT * FROM plain, canary;

DROP SCHEMA row_access, row_access_evil CASCADE;
DROP ROLE regress_row_access, regress_row_access_owner;
