-- pins idem_deduct and idem_lock_row: amounts, column types, what is written, triggers, no row
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_deduct;
SET search_path = row_deduct, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

CREATE DOMAIN stock AS int CHECK (VALUE >= 2);
CREATE TABLE product (id int PRIMARY KEY, i2 smallint, i4 int, i8 bigint, n numeric, n2 numeric(8,2), n3 numeric(6,-2),
	d stock, f float8, m money, t text, g int GENERATED ALWAYS AS (i4 * 2) STORED, touched text);
INSERT INTO product VALUES (1, 10, 10, 10, 10.5, 10.5, 1000, 10, 10, 10, '10');
INSERT INTO product (id) VALUES (2);

-- enough, just enough, not enough
SELECT idem_deduct('product', 'i4', 4, 1), idem_deduct('product', 'i4', 7, 1), idem_deduct('product', 'i4', 6, 1),
	idem_deduct('product', 'i4', 1, 1);
SELECT i4, g FROM product WHERE id = 1;
UPDATE product SET i4 = 10 WHERE id = 1;

-- every type that one can deduct from
SELECT idem_deduct('product', 'i2', 4, 1), idem_deduct('product', 'i8', 4, 1), idem_deduct('product', 'n', 0.25, 1),
	idem_deduct('product', 'n2', 0.25, 1), idem_deduct('product', 'n3', 200, 1), idem_deduct('product', 'd', 4, 1),
	idem_deduct('product', 'i4', 4.000, 1), idem_deduct('product', 'i4', 2::smallint, 1);
SELECT i2, i4, i8, n, n2, n3, d FROM product WHERE id = 1;
-- and the others
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'f', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'm', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 't', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'g', 1, 1)$$);

-- amounts that are none
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 0, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', -1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', -0.5, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', -1e30, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'n', 'NaN', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 'NaN', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 'infinity', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'n', '-infinity', 1)$$);
-- that the column would round
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 0.5, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1e30 + 0.5, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'n2', 0.001, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'n3', 250, 1)$$);
-- larger than the column can be: not enough, if there is a row
SELECT idem_deduct('product', 'i2', 32767, 1), idem_deduct('product', 'i2', 32768, 1), idem_deduct('product', 'i4', 2147483648, 1),
	idem_deduct('product', 'i8', 9223372036854775808, 1), idem_deduct('product', 'i4', 1e100, 1),
	idem_deduct('product', 'n2', 1e100, 1);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1e100, 99)$$);
INSERT INTO product (id, i8) VALUES (3, 9223372036854775807);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i8', 9223372036854775806.5, 3)$$);
SELECT idem_deduct('product', 'i8', 9223372036854775808, 3), idem_deduct('product', 'i8', 9223372036854775807.0, 3);
DELETE FROM product WHERE id = 3 RETURNING i8;
-- the amount that was used last is not taken for another, nor for another type
SELECT idem_deduct('product', 'i4', 1, 1), idem_deduct('product', 'i4', 1.0, 1), idem_deduct('product', 'i8', 1, 1),
	idem_deduct('product', 'i4', 3, 1), idem_deduct('product', 'i4', 1, 1);
SELECT idem_deduct('product', 'i8', 40000, 1), idem_deduct('product', 'i2', 40000, 1);
SELECT i4, i8 FROM product WHERE id = 1;

-- no row; a null is not enough
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 99)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 2)$$);
SELECT idem_lock_row('product', 1), idem_lock_row('product', 99);
-- a domain's check, and a table's
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'd', 5, 1)$$);
ALTER TABLE product ADD CONSTRAINT product_reserve CHECK (i8 >= 3);
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i8', 3, 1)$$);
SELECT idem_deduct('product', 'i8', 1, 1);
-- infinite stock stays infinite
UPDATE product SET n = 'infinity' WHERE id = 1;
SELECT idem_deduct('product', 'n', 1e10, 1), n FROM product WHERE id = 1;

-- a refusal, and a row that is not there, write nothing and take no transaction id
UPDATE product SET i4 = 5 WHERE id = 1;
BEGIN;
SELECT idem_deduct('product', 'i4', 6, 1), pg_current_xact_id_if_assigned() IS NULL;
SELECT idem_deduct('product', 'i4', 1e30, 1), pg_current_xact_id_if_assigned() IS NULL;
SELECT idem_lock_row('product', 99), pg_current_xact_id_if_assigned() IS NULL;
SELECT idem_deduct('product', 'i4', 5, 1), pg_current_xact_id_if_assigned() IS NULL;
ROLLBACK;
SELECT i4 FROM product WHERE id = 1;
-- calls of one statement see each other; a savepoint gives back
BEGIN;
SELECT idem_deduct('product', 'i4', 2, 1) FROM generate_series(1, 4);
SAVEPOINT s;
SELECT idem_deduct('product', 'i4', 1, 1), idem_deduct('product', 'i4', 1, 1);
ROLLBACK TO s;
SELECT idem_deduct('product', 'i4', 1, 1), idem_deduct('product', 'i4', 1, 1);
ROLLBACK;
-- not in a read-only transaction
BEGIN READ ONLY;
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 2, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('product', 1)$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW(1,1,1,1,1,1,1,5,1,1,'1',NULL,NULL)::product)$$);
COMMIT;

--
-- Triggers
--
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE TG_ARGV[0]
		WHEN 'another' THEN NEW.touched := 'touched';
		WHEN 'undo' THEN NEW.i4 := OLD.i4;
		WHEN 'more' THEN NEW.i4 := NEW.i4 - 1;
		WHEN 'null' THEN NEW.i4 := NULL;
		WHEN 'suppress' THEN RETURN NULL;
		WHEN 'raise' THEN RAISE EXCEPTION 'not today' USING ERRCODE = 'P0042';
		WHEN 'nested' THEN PERFORM idem_deduct('product', 'i8', 1, 2);
	END CASE;
	RETURN NEW;
END $$;
UPDATE product SET i4 = 100, i8 = 100 WHERE id IN (1, 2);
CREATE TRIGGER touch BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION touch('another');
SELECT idem_deduct('product', 'i4', 1, 1), idem_deduct('product', 'i4', 1000, 1);
SELECT i4, touched FROM product WHERE id = 1;
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION touch('undo');
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 1)$$);
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION touch('more');
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 1)$$);
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION touch('null');
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 1)$$);
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION touch('raise');
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 1)$$);
-- suppressed: nothing was taken
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION touch('suppress');
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 1)$$);
SELECT i4, touched FROM product WHERE id = 1;
ALTER TABLE product DISABLE TRIGGER touch;
SELECT pg_temp.outcome($$SELECT idem_deduct('product', 'i4', 1, 1)$$);
ALTER TABLE product ENABLE TRIGGER touch;
-- the trigger calls us for the same table
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE OF i4 ON product FOR EACH ROW EXECUTE FUNCTION touch('nested');
SELECT idem_deduct('product', 'i4', 1, 1), idem_deduct('product', 'i4', 1, 1);
SELECT id, i4, i8 FROM product ORDER BY id;
DROP TRIGGER touch ON product;
-- of a partition
CREATE TABLE parted (id int PRIMARY KEY, i4 int, touched text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
INSERT INTO parted VALUES (1, 10);
CREATE TRIGGER touch BEFORE UPDATE ON parted_1 FOR EACH ROW EXECUTE FUNCTION touch('more');
SELECT pg_temp.outcome($$SELECT idem_deduct('parted', 'i4', 1, 1)$$);
CREATE OR REPLACE TRIGGER touch BEFORE UPDATE ON parted_1 FOR EACH ROW EXECUTE FUNCTION touch('suppress');
SELECT pg_temp.outcome($$SELECT idem_deduct('parted', 'i4', 1, 1)$$);
-- with a version
CREATE TRIGGER version BEFORE UPDATE ON product FOR EACH ROW EXECUTE FUNCTION idem_version('i2');
UPDATE product SET i2 = NULL WHERE id = 2;
SELECT idem_deduct('product', 'i4', 10, 2), idem_deduct('product', 'i4', 10, 2);
SELECT i2, i4 FROM product WHERE id = 2;
DROP TRIGGER version ON product;

-- a trigger that comes while a key value is cast is looked for; a column that goes is refused
CREATE TYPE lure AS (id int, command text);
CREATE FUNCTION lure_id(lure) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE $1.command; RETURN $1.id; END $$;
CREATE CAST (lure AS int) WITH FUNCTION lure_id(lure) AS ASSIGNMENT;
CREATE FUNCTION all_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.i4 := 0; RETURN NEW; END $$;
CREATE TABLE lured (id int PRIMARY KEY, i4 int, i8 int);
INSERT INTO lured VALUES (1, 10, 20);
SELECT idem_deduct('lured', 'i4', 1, ROW(1, 'SELECT 1')::lure);
SELECT pg_temp.outcome($$SELECT idem_deduct('lured', 'i4', 1, ROW(1, 'CREATE TRIGGER gone BEFORE UPDATE ON lured FOR EACH ROW EXECUTE FUNCTION all_gone()')::lure)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('lured', 'i4', 1, ROW(1, 'ALTER TABLE lured RENAME i4 TO i2; ALTER TABLE lured RENAME i8 TO i4')::lure)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('lured', 'i4', 1, ROW(1, 'ALTER TABLE lured ADD i9 int')::lure)$$);
TABLE lured;

-- null and NaN are not enough of anything, infinity is of everything
CREATE TABLE odd (id int PRIMARY KEY, n numeric);
INSERT INTO odd VALUES (1, 'NaN'), (2, NULL), (3, 'infinity'), (4, '-infinity');
SELECT id, idem_deduct('odd', 'n', 1, id) FROM odd ORDER BY id;
CREATE TRIGGER nothing BEFORE UPDATE ON odd FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT id, idem_deduct('odd', 'n', 1, id) FROM odd WHERE id <> 3 ORDER BY id;
TABLE odd;

-- rules: a statement that the rule replaces is not believed
CREATE TABLE ruled (id int PRIMARY KEY, i4 int);
INSERT INTO ruled VALUES (1, 10);
CREATE RULE ruled_update AS ON UPDATE TO ruled DO INSTEAD NOTHING;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('ruled', 1)$$);
-- nor one that becomes another UPDATE, for all rows or some; a rule that does something besides is none of our business
CREATE TABLE ruled_log (n int);
INSERT INTO ruled_log VALUES (0);
CREATE OR REPLACE RULE ruled_update AS ON UPDATE TO ruled DO INSTEAD UPDATE ruled_log SET n = n + 1;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 100, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('ruled', 1)$$);
CREATE OR REPLACE RULE ruled_update AS ON UPDATE TO ruled WHERE OLD.id < 10 DO INSTEAD UPDATE ruled_log SET n = n + 1;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
-- as the rule is enabled
ALTER TABLE ruled DISABLE RULE ruled_update;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
ALTER TABLE ruled ENABLE REPLICA RULE ruled_update;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
SET session_replication_role = replica;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
ALTER TABLE ruled ENABLE RULE ruled_update;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
RESET session_replication_role;
ALTER TABLE ruled ENABLE ALWAYS RULE ruled_update;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$);
DROP RULE ruled_update ON ruled;
CREATE RULE ruled_also AS ON UPDATE TO ruled DO ALSO UPDATE ruled_log SET n = n + 1;
SELECT pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 1, 1)$$), pg_temp.outcome($$SELECT idem_deduct('ruled', 'i4', 100, 1)$$);
SELECT i4, n FROM ruled, ruled_log;

-- foreign keys: a lock lets their checks pass, and what they forbid is refused
CREATE TABLE entry (product int REFERENCES product);
BEGIN;
SELECT idem_lock_row('product', 1);
INSERT INTO entry VALUES (1);
COMMIT;
CREATE TABLE referrer (n int PRIMARY KEY, i4 int REFERENCES product (id));
INSERT INTO referrer VALUES (1, 2);
SELECT pg_temp.outcome($$SELECT idem_deduct('referrer', 'i4', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('referrer', 'i4', 1, 1)$$);

DROP SCHEMA row_deduct CASCADE;
