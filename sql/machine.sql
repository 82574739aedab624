-- idem_machine, idem_machine_graph, idem_verdict: grammar, verdicts against an independent model, redefinition

\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\pset null NULL

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

--
-- definition
--
SELECT idem_machine('m order', 'created -> paid -> shipped -> done; created -> cancelled; paid -> refunded');
SELECT idem_machine_graph('m order');
SELECT machine, position, from_state, to_state FROM idem.transition WHERE machine = 'm order' ORDER BY position;

-- space, line breaks between chains, a semicolon at the end, a transition given twice
SELECT idem_machine('m space', E'\n\ta->b ;  b  ->  in transit->c;\n\nb -> in transit;\n');
SELECT machine, position, from_state, to_state FROM idem.transition WHERE machine = 'm space' ORDER BY position;
-- a chain ends at the end of a line, of any kind; the other arrow
SELECT idem_machine('m lines', E'a -> b\nb --> c -> d\r\n\r\nc-->a\rd; e -> a\n');
SELECT machine, position, from_state, to_state FROM idem.transition WHERE machine = 'm lines' ORDER BY position;
-- the transitions that idem_machine_graph prints can be pasted
SELECT idem_machine('m pasted', (SELECT string_agg(line, E'\n') FROM regexp_split_to_table(idem_machine_graph('m order'), '\n') line WHERE line ~ '-->' AND line !~ '\*'));
SELECT idem_machine_graph('m pasted') = idem_machine_graph('m order');
-- states that stand alone; one that is also elsewhere is kept only where it is first
SELECT idem_machine('m alone', 'x; a -> b; a; y');
SELECT machine, position, from_state, to_state FROM idem.transition WHERE machine = 'm alone' ORDER BY position;
SELECT idem_machine('m one', 'only');
-- names of bytes that mean nothing to the grammar; long ones
SELECT idem_machine('m names', 'it''s "x" -y= 1 a-b =- a -> #%{}\n:|*_ -> Überprüft -> 状态 -> ' || repeat('z', 255));
SELECT from_state, left(to_state, 10), octet_length(to_state) FROM idem.transition WHERE machine = 'm names' ORDER BY position;
SELECT idem_verdict('m names', 'Überprüft', '状态'), idem_verdict('m names', '#%{}\n:|*_', '状态');
SELECT idem_machine(repeat('m', 255), 'a -> b');

-- what is no definition: the place, and what was expected there
SELECT definition, pg_temp.try(format('SELECT idem_machine(%L, %L)', 'm bad', definition))
FROM (VALUES (1, ' '), (2, ';'), (3, 'a -> '), (4, '-> a'), (5, 'a -> -> b'), (6, 'a -> b;; c'),
	(7, 'a ---> b'), (8, 'a => b'), (9, 'a <- b'), (10, 'a -> b > c'), (11, E'a ->\nb'),
	(12, 'a-'), (13, '-a'), (14, 'a -> ü -> 状态 - > c'), (15, E'a -> b\x01'), (16, 'a -- b -> > and a long rest of the text'),
	(17, 'a -> b, c'), (18, 'a → b'), (19, 'a - b -> c'), (20, 'a-- -> b'), (21, E'a -> b\n-> c'), (22, 'a--b'), (23, 'a - -> b'))
	AS v (n, definition) ORDER BY n;
SELECT pg_temp.try(format('SELECT idem_machine(%L, %L)', 'm bad', 'ä -> b' || repeat('x', 255)));
SELECT pg_temp.try(format('SELECT idem_machine(%L, %L)', 'm bad', (SELECT string_agg('s' || i, ' -> ') FROM generate_series(1, 4097) i)));
SELECT pg_temp.try($$SELECT idem_machine(NULL, 'a -> b')$$);
SELECT pg_temp.try($$SELECT idem_machine('m bad', NULL)$$);
SELECT pg_temp.try($$SELECT idem_machine('', 'a -> b')$$);
SELECT pg_temp.try($$SELECT idem_machine('m bad', '')$$);
SELECT pg_temp.try($$SELECT idem_machine(repeat('m', 256), 'a -> b')$$);
SELECT pg_temp.try($$SELECT idem_machine('m bad', repeat('x', 16777217))$$);
-- none of it left anything
SELECT count(*) FROM idem.transition WHERE machine = 'm bad';
SELECT pg_temp.try(format('SELECT idem_machine(%L, %L)', 'm bad', (SELECT string_agg(format('s%s->s%s', i % 256, i / 256), ';') FROM generate_series(0, 65536) i)));
-- the limit itself, with transitions given twice
SELECT idem_machine('m many', (SELECT string_agg('s' || i, ' -> ') FROM generate_series(1, 4096) i));
SELECT idem_verdict('m many', 's1', 's4096'), idem_verdict('m many', 's4096', 's1'), idem_verdict('m many', 's63', 's64');

SELECT idem_machine('m full', (SELECT string_agg(format('s%s->s%s', i % 256, i / 256), ';') FROM generate_series(0, 65535) i) || ';s1->s2;s2->s1');
SELECT idem_verdict('m full', 's1', 's255'), idem_verdict('m full', NULL, 's255');
-- the largest closures: one cycle, a long chain with a step over each state
SELECT idem_machine('m ring', (SELECT string_agg('s' || i, ' -> ') FROM generate_series(1, 4096) i) || ' -> s1');
SELECT idem_verdict('m ring', 's1', 's4096'), idem_verdict('m ring', 's4096', 's1'), idem_verdict('m ring', 's2', 's1');
SELECT idem_machine('m steps', (SELECT string_agg(format('s%s -> s%s -> s%s; s%1$s -> s%3$s', i, i + 1, i + 2), ';') FROM generate_series(1, 4094) i));
SELECT idem_verdict('m steps', 's1', 's4096'), idem_verdict('m steps', 's1', 's3'), idem_verdict('m steps', 's4096', 's1');

-- a thousand states: the limit catches only what would not end, for the machine may be busy
SET statement_timeout = '10min';
SELECT idem_machine('m thousand', (SELECT string_agg(format('s%s -> s%s', i, i * 7 % 1000), '; ') FROM generate_series(0, 999) i)
	|| (SELECT ';' || string_agg(format('s%s -> s%s', i, i * 11 % 1000), '; ') FROM generate_series(0, 999) i)) > 0 AS defined;
SELECT idem_verdict('m thousand', 's1', 's2');
RESET statement_timeout;

--
-- verdicts
--
SELECT f, t, idem_verdict('m order', f, t)
FROM unnest(ARRAY[NULL, 'created', 'paid', 'shipped', 'done', 'cancelled', 'refunded']) WITH ORDINALITY AS a (f, i),
	unnest(ARRAY['created', 'paid', 'shipped', 'done', 'cancelled', 'refunded']) WITH ORDINALITY AS b (t, j) ORDER BY i, j;
-- in a cycle nothing is late; a transition to itself changes no verdict
SELECT idem_machine('m cycle', 'a -> b -> c -> a; c -> d -> d; e -> e');
SELECT f, string_agg(t || ' ' || idem_verdict('m cycle', f, t), ', ' ORDER BY t)
FROM unnest(ARRAY[NULL, 'a', 'b', 'c', 'd', 'e']) WITH ORDINALITY AS a (f, i), unnest(ARRAY['a', 'b', 'c', 'd', 'e']) AS b (t)
GROUP BY f, i ORDER BY i;
-- bytes decide
SELECT pg_temp.try($$SELECT idem_verdict('m order', 'created', 'Paid')$$);
SELECT pg_temp.try($$SELECT idem_verdict('m order', 'create', 'paid')$$);
SELECT pg_temp.try($$SELECT idem_verdict('m Order', 'created', 'paid')$$);
SELECT pg_temp.try($$SELECT idem_verdict(NULL, 'created', 'paid')$$);
SELECT pg_temp.try($$SELECT idem_verdict('m order', 'created', NULL)$$);
SELECT pg_temp.try($$SELECT idem_verdict('m order', '', 'paid')$$);
SELECT pg_temp.try($$SELECT idem_verdict('m order', 'created', '')$$);
SELECT pg_temp.try($$SELECT idem_verdict('m order', 'created', repeat('x', 256))$$);
SELECT pg_temp.try($$SELECT idem_machine_graph('m none')$$);
SELECT pg_temp.try($$SELECT idem_machine_graph(NULL)$$);

-- The model: reachability by a recursive query.
CREATE TEMP TABLE state (name text);
CREATE TEMP TABLE edge (f text, t text);
CREATE FUNCTION pg_temp.wrong_verdicts(OUT wrong bigint, OUT pairs bigint, OUT kinds text[]) LANGUAGE sql SET enable_nestloop = off SET jit = off AS $$
	WITH RECURSIVE reach (f, t) AS (
		SELECT f, t FROM edge
		UNION
		SELECT r.f, e.t FROM reach r JOIN edge e ON e.f = r.t),
	pair (f, t) AS (
		SELECT a.name, b.name FROM (SELECT name FROM state UNION ALL SELECT NULL) a, state b),
	model (f, t, verdict) AS (
		SELECT p.f, p.t,
			CASE WHEN p.f IS NULL THEN
				CASE WHEN entered.t IS NOT NULL THEN 'ahead' ELSE 'apply' END
			WHEN p.f = p.t THEN 'same'
			WHEN e.f IS NOT NULL THEN 'apply'
			WHEN forth.f IS NOT NULL THEN 'ahead'
			WHEN back.f IS NOT NULL THEN 'late'
			ELSE 'illegal' END
		FROM pair p
		LEFT JOIN (SELECT DISTINCT f, t FROM edge) e ON (e.f, e.t) = (p.f, p.t)
		LEFT JOIN (SELECT DISTINCT t FROM edge WHERE f <> t) entered ON entered.t = p.t
		LEFT JOIN reach forth ON (forth.f, forth.t) = (p.f, p.t)
		LEFT JOIN reach back ON (back.f, back.t) = (p.t, p.f))
	SELECT count(*) FILTER (WHERE verdict IS DISTINCT FROM idem_verdict('m random', f, t)), count(*),
		array_agg(DISTINCT verdict) FROM model
$$;
-- 1,000 random graphs, with cycles, transitions to itself, islands; the definitions as pairs and as chains
DO $$
DECLARE
	states int; edges int; number int; result record;
	wrong bigint := 0; wrong_numbers int := 0; kinds text[] := '{}'; largest int := 0;
BEGIN
	PERFORM setseed(0.5);
	FOR i IN 1..1000 LOOP
		states := CASE WHEN i % 50 = 0 THEN 64 ELSE 1 + floor(64 * power(random(), 3))::int END;
		edges := floor(states * power(random(), 2) * 3)::int;
		TRUNCATE state, edge;
		INSERT INTO state SELECT 's' || n FROM generate_series(1, states) n;
		INSERT INTO edge SELECT 's' || 1 + floor(random() * states)::int, 's' || 1 + floor(random() * states)::int
			FROM generate_series(1, edges);
		IF i % 2 = 0 AND states > 1 THEN	-- a chain through some of them
			INSERT INTO edge SELECT 's' || n, 's' || n + 1 FROM generate_series(1, states / 2) n;
		END IF;
		number := idem_machine('m random', (SELECT string_agg(part, CASE i % 3 WHEN 0 THEN ';' ELSE ' ; ' END ORDER BY random()) FROM (
			SELECT name FROM state
			UNION ALL
			SELECT string_agg(format('%s -> %s', f, t), ';') FROM edge WHERE i % 5 = 0
			UNION ALL
			SELECT format('%s->%s', f, t) FROM edge WHERE i % 5 <> 0) AS part (part)));
		wrong_numbers := wrong_numbers + (number <> (SELECT count(DISTINCT (f, t)) FROM edge))::int;
		SELECT * INTO result FROM pg_temp.wrong_verdicts();
		wrong := wrong + result.wrong;
		kinds := ARRAY(SELECT unnest(kinds) UNION SELECT unnest(result.kinds) ORDER BY 1);
		largest := greatest(largest, states);
		COMMIT;	-- or every definition would read the rows of all those before
	END LOOP;
	RAISE NOTICE 'largest %, verdicts %, wrong verdicts %, wrong numbers of transitions %', largest, kinds, wrong, wrong_numbers;
END $$;

--
-- graph
--
SELECT idem_machine_graph('m names');
SELECT idem_machine_graph('m alone');
SELECT idem_machine_graph('m cycle');
-- words of Mermaid's own, and what looks like an alias
SELECT idem_machine('m words', 'state -> End -> note -> s1 -> s12x -> Statement -> _x -> 1a -> DEFAULT -> root_start');
SELECT idem_machine_graph('m words');

--
-- redefinition
--
CREATE FUNCTION pg_temp.version() RETURNS text LANGUAGE sql AS $$ SELECT idem_verdict('m order', 'created', 'paid') $$;
SELECT pg_temp.version();
SELECT idem_machine('m order', 'paid -> created');
SELECT pg_temp.version();
-- rolled back: compiled before, inside and after
BEGIN;
SELECT pg_temp.version();
SELECT idem_machine('m order', 'created -> x -> paid');
SELECT pg_temp.version();
ROLLBACK;
SELECT pg_temp.version();
BEGIN;
SAVEPOINT s;
SELECT idem_machine('m order', 'created -> x -> paid');
SELECT pg_temp.version();
ROLLBACK TO s;
SELECT pg_temp.version();
SAVEPOINT s;
SELECT idem_machine('m order', 'created -> paid');
RELEASE s;
SELECT pg_temp.version();
COMMIT;
SELECT pg_temp.version();
-- an error rolls back as well, in one statement with its use
DO $$
BEGIN
	PERFORM idem_machine('m order', 'created; paid');
	RAISE NOTICE '%', pg_temp.version();
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	RAISE NOTICE '%', pg_temp.version();
END $$;
-- calls in one statement see each other in order
SELECT pg_temp.version(), idem_machine('m order', 'created -> x -> paid'), pg_temp.version(), idem_machine('m order', 'created -> paid'), pg_temp.version();
-- prepared: nobody has it until it commits
BEGIN;
SELECT idem_machine('m order', 'paid -> created');
SELECT pg_temp.version();
PREPARE TRANSACTION 'idem machine';
SELECT pg_temp.version();
COMMIT PREPARED 'idem machine';
SELECT pg_temp.version();
-- the same definition again, also with other spacing, writes nothing
CREATE TEMP TABLE before AS SELECT ctid AS tid, xmin::text AS xid FROM idem.transition WHERE machine = 'm order';
SELECT idem_machine('m order', ' paid->created; ');
SELECT count(*) FROM (SELECT ctid, xmin::text FROM idem.transition WHERE machine = 'm order' EXCEPT SELECT tid, xid FROM before) x;
-- an order that differs is another definition, for the graph
SELECT idem_machine('m order', 'a -> b; c -> d'), idem_machine('m order', 'c -> d; a -> b');
SELECT idem_machine_graph('m order');

-- more machines than a session keeps, and as many bytes
DO $$
DECLARE
	wrong int := 0;
BEGIN
	FOR i IN 1..200 LOOP
		PERFORM idem_machine('m small ' || i, format('a -> b%s -> c', i));
	END LOOP;
	FOR i IN 1..400 LOOP
		wrong := wrong + (idem_verdict('m small ' || 1 + i % 200, 'a', format('b%s', 1 + i % 200)) <> 'apply')::int;
	END LOOP;
	RAISE NOTICE 'wrong verdicts: %', wrong;
	FOR i IN 1..6 LOOP
		PERFORM idem_machine('m large ' || i, 's1 -> s2; ' || (SELECT string_agg('s' || n, ';') FROM generate_series(3, 4096) n));
	END LOOP;
	FOR i IN 1..6 LOOP
		wrong := wrong + (idem_verdict('m large ' || i, 's1', 's2') <> 'apply')::int;
	END LOOP;
	RAISE NOTICE 'wrong verdicts: %', wrong;
END $$;
SELECT count(*) > 0, sum(total_bytes) < 20000000 FROM pg_backend_memory_contexts WHERE name IN ('idem machines', 'idem machine');

-- nothing leaks over many calls in one transaction
DO $$
DECLARE
	before bigint; growth bigint;
BEGIN
	PERFORM idem_verdict('m small 1', 'a', 'c');
	SELECT sum(total_bytes) INTO before FROM pg_backend_memory_contexts;
	FOR i IN 1..100000 LOOP
		PERFORM idem_verdict('m small 1', 'a', 'c');
	END LOOP;
	FOR i IN 1..200 LOOP
		PERFORM idem_machine('m small 1', format('a -> c; d -> e%s', i % 2));
		PERFORM idem_verdict('m small 1', 'a', 'c');
	END LOOP;
	SELECT sum(total_bytes) - before INTO growth FROM pg_backend_memory_contexts;
	RAISE NOTICE 'growth below 1 MB: %', growth < 1000000;
END $$;

--
-- who, where
--
CREATE ROLE regress_machine_user;
SET ROLE regress_machine_user;
SELECT idem_verdict('m cycle', 'a', 'b');
SELECT length(idem_machine_graph('m cycle')) > 0;
SELECT idem_machine('m cycle', 'a -> b');
SELECT from_state FROM idem.transition;
RESET ROLE;
GRANT EXECUTE ON FUNCTION idem_machine(text, text) TO regress_machine_user;
SET ROLE regress_machine_user;
SELECT idem_machine('m granted', 'a -> b');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION idem_machine(text, text) FROM regress_machine_user;
DROP ROLE regress_machine_user;

BEGIN READ ONLY;
SELECT idem_verdict('m cycle', 'a', 'c');
SELECT pg_temp.try($$SELECT idem_machine('m cycle', 'a -> b')$$);
COMMIT;

-- a table made anew: what was compiled before is gone with it
BEGIN;
SELECT idem_verdict('m cycle', 'a', 'c');
TRUNCATE idem.transition;
SELECT pg_temp.try($$SELECT idem_verdict('m cycle', 'a', 'c')$$);
ROLLBACK;
SELECT idem_verdict('m cycle', 'a', 'c');

-- a search_path with other meanings, in a session that has no plans yet
\c
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA machine_evil;
CREATE FUNCTION machine_evil.evil(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
CREATE OPERATOR machine_evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = machine_evil.evil);
CREATE FUNCTION machine_evil.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
CREATE TABLE machine_evil.transition (machine text);
BEGIN;
SET LOCAL search_path = machine_evil, pg_catalog, public;
SELECT public.idem_machine('m evil', 'a -> b'), public.idem_verdict('m evil', 'a', 'b');
COMMIT;
DROP SCHEMA machine_evil CASCADE;

DELETE FROM idem.transition WHERE machine LIKE 'm%';
