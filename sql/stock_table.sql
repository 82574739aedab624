-- pins the truth table of stock: every sequence of four calls, doubled and in rolled-back savepoints, against a model
\set SHOW_CONTEXT never
\set QUIET on
SET client_min_messages = warning;
CREATE SCHEMA stock_table;
SET search_path = stock_table, public;

-- the model: what a call answers, and what becomes of the order
CREATE TABLE model (state text, call text, answer text, next text, PRIMARY KEY (state, call));
INSERT INTO model VALUES
	('unknown', 'reserve', 'true', 'held'), ('unknown', 'another', 'true', 'held by another'),
	('unknown', 'confirm', 'ID404', 'unknown'), ('unknown', 'release', 'true', 'released'), ('unknown', 'expire', '', 'unknown'),
	('held', 'reserve', 'true', 'held'), ('held', 'another', 'ID422', 'held'),
	('held', 'confirm', 'true', 'confirmed'), ('held', 'release', 'true', 'given back'), ('held', 'expire', '', 'expired'),
	('held by another', 'reserve', 'ID422', 'held by another'), ('held by another', 'another', 'true', 'held by another'),
	('held by another', 'confirm', 'true', 'confirmed by another'), ('held by another', 'release', 'true', 'given back by another'),
	('held by another', 'expire', '', 'expired by another'),
	('confirmed', 'reserve', 'true', 'confirmed'), ('confirmed', 'another', 'ID422', 'confirmed'),
	('confirmed', 'confirm', 'false', 'confirmed'), ('confirmed', 'release', 'ID412', 'confirmed'), ('confirmed', 'expire', '', 'confirmed'),
	('released', 'reserve', 'false', 'released'), ('released', 'another', 'false', 'released'),
	('released', 'confirm', 'ID412', 'released'), ('released', 'release', 'false', 'released'), ('released', 'expire', '', 'released'),
	('given back', 'reserve', 'false', 'given back'), ('given back', 'another', 'ID422', 'given back'),
	('given back', 'confirm', 'ID412', 'given back'), ('given back', 'release', 'false', 'given back'), ('given back', 'expire', '', 'given back'),
	('expired', 'reserve', 'false', 'expired'), ('expired', 'another', 'ID422', 'expired'),
	('expired', 'confirm', 'ID412', 'expired'), ('expired', 'release', 'false', 'expired'), ('expired', 'expire', '', 'expired');
INSERT INTO model
	SELECT replace(state, state, state || ' by another'), CASE call WHEN 'reserve' THEN 'another' WHEN 'another' THEN 'reserve' ELSE call END,
		answer, next || ' by another'
	FROM model WHERE state IN ('confirmed', 'given back', 'expired');

CREATE TABLE run (id int PRIMARY KEY, calls text[], state text DEFAULT 'unknown', wrong int DEFAULT 0);
INSERT INTO run SELECT row_number() OVER (), ARRAY[a, b, c, d]
	FROM unnest('{reserve,another,confirm,release,expire}'::text[]) a, unnest('{reserve,another,confirm,release,expire}'::text[]) b,
		unnest('{reserve,another,confirm,release,expire}'::text[]) c, unnest('{reserve,another,confirm,release,expire}'::text[]) d;

CREATE FUNCTION call(call text, id int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer boolean;
BEGIN
	CASE call
		WHEN 'reserve' THEN answer := idem_stock_reserve('table', id::text, 'thing', 2, '1 hour');
		WHEN 'another' THEN answer := idem_stock_reserve('table', id::text, 'thing', 3, '1 hour');
		WHEN 'confirm' THEN answer := idem_stock_confirm('table', id::text);
		WHEN 'release' THEN answer := idem_stock_release('table', id::text);
	END CASE;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- the same in a savepoint that is rolled back
CREATE FUNCTION call_in_vain(call text, id int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	BEGIN
		answer := call(call, id);
		RAISE EXCEPTION SQLSTATE 'XYZZY';
	EXCEPTION WHEN SQLSTATE 'XYZZY' THEN
		RETURN answer;
	END;
END $$;

CREATE PROCEDURE step(k int) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	m model;
BEGIN
	FOR r IN SELECT * FROM run WHERE calls[k] <> 'expire' ORDER BY id LOOP
		SELECT * INTO m FROM model WHERE state = r.state AND call = r.calls[k];
		UPDATE run SET state = m.next, wrong = wrong
			+ (call_in_vain(r.calls[k], r.id) IS DISTINCT FROM m.answer)::int
			+ (call(r.calls[k], r.id) IS DISTINCT FROM m.answer)::int
			-- again: what was true before a change is answered by what the model says of the next state
			+ (call_in_vain(r.calls[k], r.id) IS DISTINCT FROM (SELECT answer FROM model WHERE state = m.next AND call = r.calls[k]))::int
		WHERE id = r.id;
	END LOOP;
	UPDATE idem.hold SET expires_at = clock_timestamp() - interval '1 second'
		FROM run WHERE source = 'table' AND seq = id::text AND calls[k] = 'expire' AND status = 'h';
	UPDATE run SET state = (SELECT next FROM model WHERE model.state = run.state AND call = 'expire') WHERE calls[k] = 'expire';
END $$;

-- the status that the table has for what the model says
CREATE VIEW differing AS
	SELECT id, calls, state, status FROM run LEFT JOIN idem.hold ON source = 'table' AND seq = id::text
	WHERE coalesce(status::text, '-') <> CASE WHEN state = 'unknown' THEN '-' WHEN state LIKE 'given back%' THEN 'r' WHEN state LIKE 'expired%' THEN 'x'
		ELSE left(state, 1) END;
CREATE VIEW books AS
	SELECT 1500 - idem_stock_available('thing') - coalesce(sum(q), 0) AS missing,
		idem_stock_available('thing') - 1500 + sum(CASE WHEN state IN ('held', 'confirmed') THEN 2
			WHEN state IN ('held by another', 'confirmed by another') THEN 3 ELSE 0 END) AS differs
	FROM run LEFT JOIN (SELECT seq, sum(q) AS q FROM idem.hold, unnest(quantities) AS q WHERE source = 'table' AND status IN ('h', 'c') GROUP BY seq) AS h
		ON seq = id::text;

SELECT idem_stock_add('thing', 1500, 3);
CALL step(1);
CALL idem_stock_expire(100);
SELECT * FROM books;
CALL step(2);
CALL idem_stock_expire(100);
SELECT * FROM books;
CALL step(3);
CALL idem_stock_expire(100);
SELECT * FROM books;
CALL step(4);
CALL idem_stock_expire(100);
SELECT * FROM books;

SELECT count(*) AS sequences, sum(wrong) AS wrong, (SELECT count(*) FROM differing) AS differing, count(DISTINCT state) AS states FROM run;
SELECT * FROM run WHERE wrong > 0 ORDER BY id LIMIT 5;
SELECT * FROM differing ORDER BY id LIMIT 5;

DELETE FROM idem.hold;
DELETE FROM idem.stock;
DROP SCHEMA stock_table CASCADE;
