-- pins how a target and the values of its key are understood: types, casts, names, kinds of relations, refusals
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA row_key;
SET search_path = row_key, public;
\a \t

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

--
-- Every common type: given as that type, as a literal without a type, as text,
-- as the types listed; each must find the row and no other value may
--
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN code AS text CHECK (VALUE ~ '^[a-z]+$');
CREATE DOMAIN codes AS varchar(3)[] CHECK (cardinality(VALUE) < 3);
CREATE DOMAIN temper AS mood CHECK (VALUE <> 'happy');
CREATE DOMAIN small AS int CHECK (VALUE < 1000);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE kinds (kind text, literal text, other text, casts text[]);
INSERT INTO kinds VALUES
	('int2', '7', '8', '{smallint,integer,bigint,numeric,real,float8}'),
	('int4', '7', '8', '{smallint,integer,bigint,numeric,real,float8,small}'),
	('int8', '7', '8', '{smallint,integer,bigint,numeric,real,float8}'),
	('numeric', '7.5', '7.6', '{numeric,real,float8,"numeric(5,1)"}'),
	('numeric(6,2)', '7.5', '7.6', '{numeric,real,float8,"numeric(5,1)"}'),
	('float8', '7.5', '7.25', '{numeric,real,float8}'),
	('text', 'a b', 'ab', '{text,varchar,name}'),
	('varchar(20)', 'a b', 'ab', '{text,varchar,varchar(3),name}'),
	('char(5)', 'ab', 'b', '{text,varchar,char(9)}'),
	('name', 'ab', 'b', '{text,varchar,name}'),
	('"char"', 'a', 'b', '{text}'),
	('bool', 't', 'f', '{bool}'),
	('uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '{uuid}'),
	('date', '2026-03-01', '2026-03-02', '{date,timestamp,timestamptz}'),
	('timestamp', '2026-03-01 10:00:00.5', '2026-03-01 10:00', '{timestamp,timestamptz}'),
	('timestamptz', '2026-03-01 10:00:00.5+02', '2026-03-01 10:00:00.5+01', '{timestamptz}'),
	('time', '10:00', '10:01', '{time,interval}'),
	('interval', '1 day', '1 hour', '{interval}'),
	('mood', 'ok', 'sad', '{mood}'),
	('code', 'abc', 'abd', '{text,varchar,code}'),
	('small', '7', '8', '{smallint,integer,bigint,numeric,small}'),
	('bytea', '\x00ff', '\x00', '{bytea}'),
	('oid', '7', '8', '{oid,integer,bigint}'),
	('regclass', 'pg_class', 'pg_proc', '{regclass}'),
	('inet', '10.0.0.1', '10.0.0.2', '{inet}'),
	('int4[]', '{1,2}', '{1}', '{int4[],bigint[]}'),
	('text[]', '{a,b}', '{a}', '{text[],varchar[]}'),
	('varchar(3)[]', '{a,bcd}', '{a}', '{text[],varchar[]}'),
	('numeric(5,2)[]', '{1.25,2}', '{1}', '{numeric[]}'),
	('codes', '{abc,abd}', '{abc}', '{text[],varchar[],codes}'),
	('mood[]', '{ok,sad}', '{ok}', '{mood[]}'),
	('temper', 'ok', 'sad', '{mood,temper}'),
	('int4range', '[1,5)', '[1,6)', '{int4range}'),
	('pair', '(1,a)', '(1,b)', '{pair}'),
	('jsonb', '{"a":1}', '{"a":2}', '{jsonb}');

SET timezone = 'UTC';
CREATE PROCEDURE try_kind(k kinds) LANGUAGE plpgsql AS $$
DECLARE
	given text; finds bool; misses bool; qty int;
BEGIN
	EXECUTE format('CREATE TABLE one (id %s PRIMARY KEY, qty int)', k.kind);
	EXECUTE format('INSERT INTO one VALUES (%L, 100), (%L, 1)', k.literal, k.other);
	EXECUTE format('CREATE TABLE two (a int, id %s, qty int, UNIQUE (id, a))', k.kind);
	EXECUTE format('INSERT INTO two VALUES (1, %L, 100), (2, %L, 1)', k.literal, k.literal);

	FOREACH given IN ARRAY ARRAY[format('%L', k.literal), format('%L::text', k.literal)] ||
		ARRAY(SELECT format('%L::%s', k.literal, c) FROM unnest(k.casts) c)
	LOOP
		EXECUTE format('SELECT idem_lock_row(''one'', %s), idem_deduct(''one'', ''qty'', 2, %1$s)', given)
			INTO finds, misses;
		IF NOT finds OR NOT misses THEN
			RAISE WARNING '% given as %: not found', k.kind, given;
		END IF;
		EXECUTE format('SELECT idem_deduct(''two_id_a_key'', ''qty'', 2, %s, 1)', given) INTO finds;
		IF NOT finds THEN
			RAISE WARNING '% given as %: not found by two columns', k.kind, given;
		END IF;
	END LOOP;
	EXECUTE format('SELECT idem_lock_row(''one'', VARIADIC ARRAY[%L::%s])', k.literal,
				   CASE WHEN k.kind LIKE '%[]' OR k.kind ~ 'char|^name|^code$' THEN 'text' ELSE k.kind END) INTO finds;
	IF NOT finds THEN
		RAISE WARNING '% in an array: not found', k.kind;
	END IF;

	EXECUTE 'DELETE FROM one WHERE qty = 1';
	EXECUTE format('SELECT idem_lock_row(''one'', %L)', k.other) INTO misses;
	IF misses THEN
		RAISE WARNING '%: % found', k.kind, k.other;
	END IF;
	EXECUTE 'SELECT o.qty + t.qty FROM one o, two t WHERE t.a = 1' INTO qty;
	RAISE INFO '% %: %', k.kind, k.casts, 200 - qty = 4 * (2 + cardinality(k.casts));
	DROP TABLE one, two;
END $$;
DO $$ DECLARE k kinds; BEGIN FOR k IN SELECT * FROM kinds LOOP CALL try_kind(k); END LOOP; END $$;

-- a value that does not fit its column: the type's own error
CREATE TABLE narrow (i int PRIMARY KEY, s smallint UNIQUE, v varchar(3) UNIQUE, n numeric(4,1) UNIQUE,
	d date UNIQUE, u uuid UNIQUE, e mood UNIQUE, c code UNIQUE, ts timestamp(0) UNIQUE, nm name UNIQUE);
INSERT INTO narrow VALUES (2, 2, 'abc', 1.1, '2026-03-01', NULL, 'ok', 'abc', '2026-03-01 10:00:01', repeat('x', 63));
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', 'two')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', 'two'::text)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', 3000000000)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_s_key', 70000)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_v_key', 'abcd')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_n_key', 1000)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_u_key', '42')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_e_key', 'glad')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_c_key', 'ABC')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_d_key', '2026-02-30')$$);
-- a value that would silently be another one
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', 1.5)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', 1.5::float8)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', 2.0)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_v_key', 'abc   ')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_n_key', 1.06)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_d_key', timestamp '2026-03-01 13:00')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_ts_key', timestamp '2026-03-01 10:00:00.6')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_nm_key', repeat('x', 64))$$);
-- the same for values that are given as text or literals, by every type that takes a part of a text only
CREATE TYPE spot AS (d date, f real, at timestamp(0), label text);
CREATE TYPE shorter AS (label text, gone int, d date);
ALTER TYPE shorter DROP ATTRIBUTE gone;
CREATE TYPE daily AS RANGE (subtype = date);
CREATE DOMAIN workday AS date CHECK (extract(isodow FROM VALUE) < 6);
CREATE TABLE lossy (kind text, whole text[], part text[]);
INSERT INTO lossy VALUES
	('date', '{2026-03-02,"2026-03-02 00:00","2026-03-02 00:00 UTC",J2461102,infinity,epoch,"02 Mar 2026",today,9999-12-31,5874897-12-31,"0044-03-15 BC"}',
		'{"2026-03-02 10:00","2026-03-02 00:00:00.5","2026-03-02 00:00+05","2026-03-02 UTC+3","2026-03-02 24:00",now,"2026-03-02 00:00:00.0000001"}'),
	('workday', '{2026-03-02}', '{"2026-03-02 10:00"}'),
	('timestamp', '{"2026-03-02 10:00",2026-03-02,"2026-03-02 10:00:00.123456","2026-03-02T10:00Z","2026-03-02 10:00:00.1000000",-infinity}',
		'{"2026-03-02 10:00+05","2026-03-02 10:00 America/New_York","2026-03-02 10:00:00.1234567"}'),
	('timestamp(0)', '{"2026-03-02 10:00:01.0"}', '{"2026-03-02 10:00:01.4"}'),
	('timestamptz', '{"2026-03-02 10:00+05","2026-03-02 10:00 America/New_York",2026-03-02}', '{"2026-03-02 10:00:00.1234567+05"}'),
	('time', '{10:00,"10:00 PM",24:00,10:00:00.123456,T10:00,101112,10:00+00}', '{"2026-03-02 10:00",10:00+05,10:00:00.1234567,now,"2026-03-02 10:00 America/New_York"}'),
	('timetz', '{10:00+05,10:00}', '{"2026-03-02 10:00+05",10:00:00.1234567+05}'),
	('interval', '{"1 day 2 hours","1.5 hours",P1Y2M,"00:00:00.123456"}', '{"00:00:00.1234567"}'),
	('real', '{0.1,0.10,-1e10,7,16777216,1e-45,NaN,-inf,0,0e5,0.100000001,3.4028235e38}', '{0.1000000001,16777217,0.123456789,2e-45}'),
	('float8', '{0.1,0.10000000000000001,1e308,5e-324,9007199254740992,123456789.125,NaN}', '{0.1000000000000000001,9007199254740993,3e-324}'),
	('money', '{1.50,$1.5,"-$1,234.5",1.500,"(2.25)",7}', '{1.504,1.509,$0.001}'),
	('"char"', '{a}', '{abc,"a "}'),
	('name', '{a,""}', ARRAY[repeat('x', 64)]),
	('xid8', '{42}', '{-42}'),
	('oid', '{42}', '{-42}'),
	('date[]', '{"{2026-03-02,NULL}","[0:1]={2026-03-02,2026-03-03}"}', '{"{2026-03-02,2026-03-03 10:00}"}'),
	('real[]', '{"{{0.1,2},{3,4}}"}', '{"{{0.1,2},{3,0.1000000001}}"}'),
	('spot', '{"(2026-03-02,0.1,2026-03-02 10:00,\"a],b\")","(,,,)"}', '{"(2026-03-02 10:00,0.1,,)","(2026-03-02,0.1000000001,,)","(,,2026-03-02 10:00:00.4,)","(\"2026-03-02 10:00\",,,)"}'),
	('shorter', ARRAY['("a\",""b",2026-03-02)', '(a\,b,)'], ARRAY['("a\",""b",2026-03-02 10:00)', '(a\,b,2026-03-02 10:00)']),
	('daily', '{"[2026-03-02,2026-03-04)",empty,"(,2026-03-04)"}', '{"[2026-03-02 10:00,2026-03-04)","(,\"2026-03-04 10:00\")"}'),
	('datemultirange', '{"{}","{empty}","{[2026-03-02,2026-03-04),(2026-04-01,2026-04-04]}","{[2026-03-02,2026-03-04),[2026-03-03,2026-03-05)}"}',
		'{"{[2026-03-02 10:00,2026-03-04)}","{[2026-03-02,2026-03-04),(2026-04-01,\"2026-04-04 10:00\"]}"}');
DO $$
DECLARE
	k lossy; given text; form text; finds text;
BEGIN
	FOR k IN SELECT * FROM lossy LOOP
		EXECUTE format('CREATE TABLE part (id %s PRIMARY KEY)', k.kind);
		FOREACH given IN ARRAY k.whole || k.part LOOP
			BEGIN
				EXECUTE format('INSERT INTO part VALUES (%L)', given);
			EXCEPTION WHEN unique_violation THEN
				NULL;	-- another text of one value
			END;
			FOREACH form IN ARRAY '{"%L","%L::text","VARIADIC ARRAY[%L]"}'::text[] LOOP
				finds := pg_temp.outcome(format('SELECT idem_lock_row(''part'', ' || form || ')', given));
				IF given = ANY (k.whole) <> (finds = 'true') OR given = ANY (k.part) <> (left(finds, 5) = '22023') THEN
					RAISE WARNING '% from %: %', k.kind, format(form, given), finds;
				END IF;
			END LOOP;
		END LOOP;
		RAISE INFO '%: % of % refused', k.kind, cardinality(k.part), cardinality(k.whole || k.part);
		DROP TABLE part;
	END LOOP;
END $$;
CREATE TABLE times (t time PRIMARY KEY, d date UNIQUE, n name UNIQUE, o oid UNIQUE, c "char" UNIQUE, r regclass UNIQUE);
INSERT INTO times VALUES ('10:00', '2026-03-02', repeat('x', 63), 4294967295, 'a', 'pg_class');
SELECT pg_temp.outcome($$SELECT idem_lock_row('times_d_key', '2026-03-02 10:00')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('times_n_key', repeat('x', 64)::varchar)$$);
-- an untyped literal beside a typed value
CREATE UNIQUE INDEX times_two ON times (o, d);
SELECT pg_temp.outcome($$SELECT idem_lock_row('times_two', 4294967295, '2026-03-02')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('times_two', 4294967295, '2026-03-02 10:00')$$);
-- a cast of the server's that has no way back; a number that is none
SELECT pg_temp.outcome($$SELECT idem_lock_row('times', timestamp '2026-03-02 10:00')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('times', timestamptz '2026-03-02 10:00')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('times_o_key', -1)$$);
-- names of one table
SELECT pg_temp.outcome($$SELECT idem_lock_row('times_r_key', 'pg_catalog.pg_class')$$), pg_temp.outcome($$SELECT idem_lock_row('times_r_key', '1259'::text)$$);

-- two forms of each function: of all values text or untyped, and of any; a parameter without a type is text
PREPARE untyped_deduct AS SELECT idem_deduct($1, $2, $3, $4);
PREPARE untyped_lock AS SELECT idem_lock_row($1, $2);
PREPARE untyped_two AS SELECT idem_lock_row($1, $2, $3);
PREPARE untyped_advance AS SELECT idem_advance($1, $2, $3, $4, $5);
SELECT name, parameter_types FROM pg_prepared_statements WHERE name LIKE 'untyped%' ORDER BY name;
CREATE TABLE accounts (id int PRIMARY KEY, qty int, day date);
INSERT INTO accounts VALUES (1, 10, '2026-03-02');
CREATE UNIQUE INDEX accounts_two ON accounts (id, day);
EXECUTE untyped_deduct('accounts', 'qty', 3, 1);
EXECUTE untyped_lock('accounts', '1');
EXECUTE untyped_two('accounts_two', '1', '2026-03-02');
EXECUTE untyped_two('accounts_two', '1', '2026-03-02 10:00');
-- beside a typed value a parameter needs a type
PREPARE untyped_mixed AS SELECT idem_lock_row('accounts_two', 1, $1);
SELECT pg_temp.outcome($$SELECT idem_lock_row('accounts_two', VARIADIC '{1,2026-03-02}'::text[])$$), pg_temp.outcome($$SELECT idem_lock_row('accounts_two', VARIADIC '{1,NULL}'::text[])$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('accounts', 'qty', 1, VARIADIC NULL::text[])$$);
-- of the types that are text to the server, two need a cast: arrays other than text[] of them, and "char"
SELECT split_part(pg_temp.outcome($$SELECT idem_lock_row('times_c_key', 'a'::"char")$$), E'\n', 1), pg_temp.outcome($$SELECT idem_lock_row('times_c_key', 'a'::"char"::text)$$);
SELECT split_part(pg_temp.outcome($$SELECT idem_lock_row('times_n_key', VARIADIC ARRAY['a'::varchar])$$), E'\n', 1), pg_temp.outcome($$SELECT idem_lock_row('times_n_key', VARIADIC ARRAY['a'::varchar]::text[])$$);

-- a type that does not cast
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow', true)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_u_key', 42)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('narrow_d_key', 20260301)$$);

--
-- Number of values, nulls
--
CREATE TABLE line (shop int, bill int, pos int, qty int, PRIMARY KEY (shop, bill, pos) INCLUDE (qty));
INSERT INTO line VALUES (1, 2, 3, 10);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', 1, 2, 3)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', 3, 2, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', VARIADIC ARRAY[1, 2, 3])$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', VARIADIC ARRAY['1', '2', '3'])$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', VARIADIC ARRAY[[1, 2, 3]])$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', 1, 2)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', 1, 2, 3, 10)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', VARIADIC '{}'::int[])$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', VARIADIC NULL::int[])$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('line', 1, NULL, 3)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('line', 'qty', 1, 1, 2, NULL::int)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row(NULL, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('line', NULL, 1, 1, 2, 3)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('line', 'qty', NULL, 1, 2, 3)$$);

--
-- What is no key
--
CREATE TABLE no_key (id int NOT NULL, qty int);
CREATE UNIQUE INDEX no_key_partial ON no_key (id) WHERE qty > 0;
CREATE UNIQUE INDEX no_key_expression ON no_key ((id + 0));
CREATE INDEX no_key_plain ON no_key (id);
CREATE INDEX no_key_hash ON no_key USING hash (id);
ALTER TABLE no_key ADD CONSTRAINT no_key_deferrable UNIQUE (id) DEFERRABLE;
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
SELECT pg_temp.outcome($$SELECT idem_lock_row('no_key', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('no_key', 'qty', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('no_key_partial', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('no_key_expression', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('no_key_plain', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('no_key_hash', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('no_key_deferrable', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('deferred', 1)$$);
-- an index that failed to build, and one that is not on every partition
CREATE TABLE twice (id int);
INSERT INTO twice VALUES (1), (1);
CREATE UNIQUE INDEX CONCURRENTLY twice_id ON twice (id);
SELECT pg_temp.outcome($$SELECT idem_lock_row('twice_id', 1)$$);
DELETE FROM twice WHERE ctid = '(0,1)';
REINDEX INDEX twice_id;
SELECT pg_temp.outcome($$SELECT idem_lock_row('twice_id', 1)$$);
CREATE TABLE parted (id int, day date, qty int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
CREATE UNIQUE INDEX parted_id ON ONLY parted (id);
SELECT pg_temp.outcome($$SELECT idem_lock_row('parted_id', 1)$$);
CREATE UNIQUE INDEX parted_1_id ON parted_1 (id);
CREATE UNIQUE INDEX parted_2_id ON parted_2 (id);
ALTER INDEX parted_id ATTACH PARTITION parted_1_id;
ALTER INDEX parted_id ATTACH PARTITION parted_2_id;
INSERT INTO parted VALUES (1, '2026-01-01', 10), (11, '2026-01-01', 10);
SELECT pg_temp.outcome($$SELECT idem_lock_row('parted_id', 1)$$);

--
-- Kinds of relations
--
-- partitioned: by the parent, by a partition
SELECT pg_temp.outcome($$SELECT idem_deduct('parted_id', 'qty', 4, 11)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('parted_2_id', 'qty', 4, 11)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('parted_id', 'qty', 4, 11)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('parted_id', 'qty', 4, 5)$$);
SELECT pg_temp.outcome($$SELECT inserted || ' ' || stored::text FROM idem_insert(ROW(12, NULL, 1)::parted)$$);
SELECT pg_temp.outcome($$SELECT inserted || ' ' || stored::text FROM idem_insert(ROW(12, NULL, 2)::parted)$$);
-- inherited: a key says nothing about the rows of a child
CREATE TABLE parent (id int PRIMARY KEY, qty int);
CREATE TABLE child () INHERITS (parent);
ALTER TABLE child ADD PRIMARY KEY (id);
INSERT INTO parent VALUES (1, 10);
INSERT INTO child VALUES (1, 10), (2, 10);
SELECT pg_temp.outcome($$SELECT idem_deduct('parent', 'qty', 4, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('parent', 2)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('child', 'qty', 1, 2)$$);
SELECT tableoid::regclass, * FROM parent ORDER BY 1, 2;
-- temporary, unlogged
CREATE TEMP TABLE temporary (id int PRIMARY KEY, qty int);
INSERT INTO temporary VALUES (1, 10);
SELECT pg_temp.outcome($$SELECT idem_deduct('temporary', 'qty', 4, 1)$$);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, qty int);
INSERT INTO unlogged VALUES (1, 10);
SELECT pg_temp.outcome($$SELECT idem_deduct('unlogged', 'qty', 4, 1)$$);
-- a system catalog: privilege decides
SELECT pg_temp.outcome($$SELECT idem_lock_row('pg_namespace', 'row_key'::regnamespace)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('pg_class_relname_nsp_index', 'parent', 'row_key'::regnamespace)$$);
CREATE ROLE regress_row_key;
GRANT USAGE ON SCHEMA row_key TO regress_row_key;
SET ROLE regress_row_key;
SELECT pg_temp.outcome($$SELECT idem_lock_row('pg_catalog.pg_authid', 10)$$);
RESET ROLE;
-- not tables
CREATE VIEW a_view AS SELECT * FROM parent;
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM parent;
CREATE UNIQUE INDEX a_matview_id ON a_matview (id, qty);
CREATE SEQUENCE a_sequence;
CREATE TYPE a_type AS (id int);
CREATE FOREIGN DATA WRAPPER regress_row_key_fdw;
CREATE SERVER regress_row_key_server FOREIGN DATA WRAPPER regress_row_key_fdw;
CREATE FOREIGN TABLE a_foreign (id int) SERVER regress_row_key_server;
SELECT pg_temp.outcome($$SELECT idem_lock_row('a_view', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('a_view', 'qty', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('a_matview', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('a_matview_id', 1, 10)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('a_sequence', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('a_type', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('a_foreign', 1)$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row(4294967295::oid::regclass, 1)$$);
DROP FOREIGN DATA WRAPPER regress_row_key_fdw CASCADE;

--
-- Names: capitals, spaces, quotes, Unicode, 63 bytes, words of SQL; another schema; no schema in the path
--
CREATE SCHEMA "row key ""2""; --";
DO $$
DECLARE
	n text; t text; ok bool;
BEGIN
	FOREACH n IN ARRAY ARRAY['MixedCase', 'with space', 'quo"te', 'sem;i', E'new\nline', 'naïve', '数量',
		repeat('x', 63), 'select', 'table', 't', '$1', '--', '/*', '''']
	LOOP
		t := format('%I.%I', 'row key "2"; --', n);
		EXECUTE format('CREATE TABLE %s (%I int, %I int, %I text, PRIMARY KEY (%2$I), UNIQUE (%4$I))', t, n,
					   left(n, 60) || '_q', left(n, 60) || '_n');
		EXECUTE format('INSERT INTO %s VALUES (1, 10, %L)', t, n);
		ok := idem_deduct(t::regclass, (left(n, 60) || '_q')::name, 4, 1) AND idem_lock_row(t::regclass, 1);
		IF NOT ok THEN
			RAISE WARNING '% not found', n;
		END IF;
		EXECUTE format('SELECT inserted FROM idem_insert(ROW(2, 10, %L)::%s)', n || n, t) INTO ok;
		IF NOT ok THEN
			RAISE WARNING '% not inserted', n;
		END IF;
		EXECUTE format('SELECT inserted FROM idem_insert(ROW(NULL, 10, %L)::%s)', n, t) INTO ok;
		IF ok THEN
			RAISE WARNING '% inserted again', n;
		END IF;
	END LOOP;
END $$;
DROP SCHEMA "row key ""2""; --" CASCADE;
SET search_path = '';
SELECT public.idem_lock_row('row_key.parent', 1), public.idem_deduct('row_key.parent', 'qty', 1, 1);
SET search_path = row_key, public;

-- columns
SELECT pg_temp.outcome($$SELECT idem_deduct('parent', 'quantity', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('parent', 'QTY', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('parent', '', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('parent', 'xmin', 1, 1)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('narrow', 'v', 1, 2)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('narrow', 'd', 1, 2)$$);

--
-- The index's own comparison: another collation, another operator class
--
CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE words (word text, qty int);
CREATE UNIQUE INDEX words_nocase ON words (word COLLATE nocase);
CREATE TABLE patterns (word text, qty int);
CREATE UNIQUE INDEX patterns_pattern ON patterns (word text_pattern_ops);
INSERT INTO words VALUES ('Apple', 10);
INSERT INTO patterns VALUES ('Apple', 10);
SELECT pg_temp.outcome($$SELECT idem_deduct('words_nocase', 'qty', 4, 'aPPLE')$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW('APPLE', 1)::words)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('patterns_pattern', 'qty', 4, 'Apple')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('patterns_pattern', 'apple')$$);
SELECT pg_temp.outcome($$SELECT inserted FROM idem_insert(ROW('Apple', 1)::patterns)$$);

-- a type of one's own, and a cast to it that comes, is closed to some, and goes
CREATE SCHEMA row_key_types;
CREATE TYPE row_key_types.weekday AS ENUM ('mo', 'tu');
CREATE TABLE shifts (day row_key_types.weekday PRIMARY KEY, qty int);
INSERT INTO shifts VALUES ('mo', 10);
SELECT pg_temp.outcome($$SELECT idem_deduct('shifts', 'qty', 4, 'mo')$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('shifts', 'qty', 4, 'tu')$$);
CREATE FUNCTION row_key_types.weekday_of(int) RETURNS row_key_types.weekday LANGUAGE sql IMMUTABLE
	AS $$SELECT CASE $1 WHEN 1 THEN 'mo' ELSE 'tu' END::row_key_types.weekday$$;
SELECT pg_temp.outcome($$SELECT idem_lock_row('shifts', 1)$$);
CREATE CAST (int AS row_key_types.weekday) WITH FUNCTION row_key_types.weekday_of(int) AS ASSIGNMENT;
SELECT pg_temp.outcome($$SELECT idem_lock_row('shifts', 1)$$);
REVOKE EXECUTE ON FUNCTION row_key_types.weekday_of(int) FROM PUBLIC;
GRANT USAGE ON SCHEMA row_key_types TO regress_row_key;
GRANT SELECT, UPDATE ON shifts TO regress_row_key;
SET ROLE regress_row_key;
SELECT pg_temp.outcome($$SELECT idem_lock_row('shifts', 'mo')$$);
SELECT pg_temp.outcome($$SELECT idem_lock_row('shifts', 1)$$);
RESET ROLE;
DROP CAST (int AS row_key_types.weekday);
SELECT pg_temp.outcome($$SELECT idem_lock_row('shifts', 1)$$);

-- a cast whose function is dropped by the cast of another column of the key, after it was found
CREATE TYPE row_key_types.lure AS (n int, statement text);
CREATE FUNCTION row_key_types.lured(row_key_types.lure) RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE $1.statement; RETURN $1.n; END$$;
CREATE CAST (row_key_types.lure AS int) WITH FUNCTION row_key_types.lured(row_key_types.lure) AS ASSIGNMENT;
CREATE TYPE row_key_types.plain AS (n int);
CREATE FUNCTION row_key_types.plain_int(row_key_types.plain) RETURNS int LANGUAGE sql AS 'SELECT $1.n';
CREATE CAST (row_key_types.plain AS int) WITH FUNCTION row_key_types.plain_int(row_key_types.plain) AS ASSIGNMENT;
CREATE TABLE two_lures (a int, b int, PRIMARY KEY (a, b));
INSERT INTO two_lures VALUES (1, 2);
SELECT pg_temp.outcome($$SELECT idem_lock_row('two_lures', ROW(1, 'SELECT')::row_key_types.lure, ROW(2)::row_key_types.plain)$$);
SELECT regexp_replace(pg_temp.outcome($$SELECT idem_lock_row('two_lures', ROW(1, 'DROP FUNCTION row_key_types.plain_int(row_key_types.plain) CASCADE')::row_key_types.lure, ROW(2)::row_key_types.plain)$$),
	'OID [0-9]+', 'OID …');

-- a cast that loses something, and needs no function for the way back
CREATE TABLE nets (net cidr PRIMARY KEY, qty int);
INSERT INTO nets VALUES ('10.0.0.0/24', 10);
SELECT pg_temp.outcome($$SELECT idem_deduct('nets', 'qty', 4, '10.0.0.77/24'::inet)$$);
SELECT pg_temp.outcome($$SELECT idem_deduct('nets', 'qty', 4, '10.0.0.0/24'::inet)$$);
-- a cast that makes null of a value, or on the way back
CREATE OR REPLACE FUNCTION row_key_types.weekday_of(int) RETURNS row_key_types.weekday LANGUAGE sql IMMUTABLE
	AS $$SELECT CASE $1 WHEN 1 THEN 'mo' WHEN 2 THEN 'tu' END::row_key_types.weekday$$;
CREATE FUNCTION row_key_types.number_of(row_key_types.weekday) RETURNS int LANGUAGE sql IMMUTABLE
	AS $$SELECT CASE $1 WHEN 'mo' THEN 1 END$$;
CREATE CAST (int AS row_key_types.weekday) WITH FUNCTION row_key_types.weekday_of(int) AS ASSIGNMENT;
CREATE CAST (row_key_types.weekday AS int) WITH FUNCTION row_key_types.number_of(row_key_types.weekday);
SELECT pg_temp.outcome(format($$SELECT idem_lock_row('shifts', %s)$$, n)) FROM generate_series(1, 3) n;

DROP SCHEMA row_key, row_key_types CASCADE;
DROP ROLE regress_row_key;
