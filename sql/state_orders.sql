-- messages in every order: what the trigger, idem_advance and INSERT ... ON CONFLICT DO UPDATE make of them is what a plain model does

\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
CREATE SCHEMA state_orders_test;
SET search_path = state_orders_test, public;

SELECT idem_machine('orders', 'created -> paid -> shipped -> done; created -> cancelled');

-- The model: the transitions once more, by hand, and what follows from them.
CREATE TABLE edge (f text, t text);
INSERT INTO edge VALUES ('created', 'paid'), ('paid', 'shipped'), ('shipped', 'done'), ('created', 'cancelled');
CREATE TABLE reach AS
	WITH RECURSIVE r (f, t) AS (SELECT f, t FROM edge UNION SELECT r.f, e.t FROM r JOIN edge e ON e.f = r.t) SELECT * FROM r;
CREATE FUNCTION judge(f text, t text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF f IS NULL THEN
		RETURN CASE WHEN t IN (SELECT edge.t FROM edge) THEN 'ahead' ELSE 'apply' END;
	ELSIF f = t THEN RETURN 'same';
	ELSIF (f, t) IN (SELECT * FROM edge) THEN RETURN 'apply';
	ELSIF (f, t) IN (SELECT * FROM reach) THEN RETURN 'ahead';
	ELSIF (t, f) IN (SELECT * FROM reach) THEN RETURN 'late';
	ELSE RETURN 'illegal';
	END IF;
END $$;
-- what becomes of each message, then the state at the end
CREATE FUNCTION model(way text, messages text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	state text; message text; verdict text; outcomes text[] := '{}';
BEGIN
	FOREACH message IN ARRAY messages LOOP
		verdict := judge(state, message);
		IF way = 'upsert' AND state IS NULL
			OR way = 'upsert' AND verdict = 'same'	-- writes, though nothing moves
			OR way LIKE 'update%' AND verdict = 'same'
			OR verdict = 'apply' OR verdict = 'ahead' AND way = 'update, ahead=allow' THEN
			state := message;
			outcomes := outcomes || 'written'::text;
		ELSIF verdict IN ('same', 'late') THEN
			outcomes := outcomes || 'nothing'::text;
		ELSE
			outcomes := outcomes || 'ID460'::text;
		END IF;
	END LOOP;
	RETURN outcomes || state;
END $$;

-- the same with idem
CREATE TABLE plain (id int PRIMARY KEY, status text);
CREATE TABLE guarded (id int PRIMARY KEY, status text);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'status');
CREATE TABLE lenient (id int PRIMARY KEY, status text);
CREATE TRIGGER s BEFORE INSERT OR UPDATE ON lenient FOR EACH ROW EXECUTE FUNCTION idem_state('orders', 'status', 'ahead=allow');
-- every state a row ever had, to see that none was moved back
CREATE TABLE history (tab text, n serial, id int, status text);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO history (tab, id, status) VALUES (tg_table_name, new.id, new.status);
	RETURN NULL;
END $$;
CREATE TRIGGER r AFTER INSERT OR UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION remember();
CREATE TRIGGER r AFTER INSERT OR UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION remember();
CREATE TRIGGER r AFTER INSERT OR UPDATE ON lenient FOR EACH ROW EXECUTE FUNCTION remember();

CREATE FUNCTION deliver(way text, order_id int, messages text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	message text; n bigint; state text; outcomes text[] := '{}';
BEGIN
	IF way <> 'upsert' THEN
		INSERT INTO plain SELECT order_id, NULL WHERE way = 'advance';
		INSERT INTO guarded SELECT order_id, NULL WHERE way IN ('update', 'advance, trigger');
		INSERT INTO lenient SELECT order_id, NULL WHERE way = 'update, ahead=allow';
	END IF;
	FOREACH message IN ARRAY messages LOOP
		BEGIN
			CASE way
			WHEN 'update' THEN
				UPDATE guarded SET status = message WHERE id = order_id;
				GET DIAGNOSTICS n = ROW_COUNT;
			WHEN 'update, ahead=allow' THEN
				UPDATE lenient SET status = message WHERE id = order_id;
				GET DIAGNOSTICS n = ROW_COUNT;
			WHEN 'upsert' THEN
				INSERT INTO guarded VALUES (order_id, message) ON CONFLICT (id) DO UPDATE SET status = excluded.status;
				GET DIAGNOSTICS n = ROW_COUNT;
			WHEN 'advance' THEN
				n := idem_advance('orders', 'plain', 'status', message, order_id)::int;
			WHEN 'advance, trigger' THEN
				n := idem_advance('orders', 'guarded', 'status', message, order_id)::int;
			END CASE;
			outcomes := outcomes || CASE n WHEN 1 THEN 'written' WHEN 0 THEN 'nothing' END;
		EXCEPTION WHEN SQLSTATE 'ID460' THEN
			outcomes := outcomes || 'ID460'::text;
		END;
	END LOOP;
	SELECT status INTO state FROM (TABLE plain UNION ALL TABLE guarded UNION ALL TABLE lenient) x WHERE id = order_id;
	RETURN outcomes || state;
END $$;

CREATE FUNCTION compare(way text, series text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	messages text; wrong int := 0; back int; finals text; n int := 0;
BEGIN
	TRUNCATE plain, guarded, lenient, history;
	FOREACH messages IN ARRAY series LOOP
		n := n + 1;
		IF deliver(way, n, messages::text[]) IS DISTINCT FROM model(way, messages::text[]) THEN
			wrong := wrong + 1;
			RAISE WARNING '% %: %, model %', way, messages, (SELECT array_agg(status ORDER BY h.n) FROM history h WHERE id = n), model(way, messages::text[]);
		END IF;
	END LOOP;
	SELECT count(*) INTO back FROM (SELECT lag(status) OVER (PARTITION BY tab, id ORDER BY h.n) AS f, status AS t FROM history h) x
		WHERE f <> t AND (f, t) NOT IN (SELECT * FROM reach);
	RETURN format('%s: %s series, %s unlike the model, %s moves back', way, n, wrong, back);
END $$;

-- each of five messages once, in all 120 orders
CREATE TABLE series AS
	WITH RECURSIVE p (messages) AS (
		SELECT '{}'::text[]
		UNION ALL
		SELECT messages || s FROM p, unnest(ARRAY['created', 'paid', 'shipped', 'done', 'cancelled']) s WHERE s <> ALL (messages))
	SELECT messages::text, false AS random FROM p WHERE cardinality(messages) = 5;
-- each twice, in 500 random orders
SELECT setseed(0.25) IS NULL;
INSERT INTO series
	SELECT (SELECT array_agg(s ORDER BY random() + i * 0) FROM unnest(ARRAY['created', 'paid', 'shipped', 'done', 'cancelled']) s, generate_series(1, 2) twice)::text, true
	FROM generate_series(1, 500) i;
SELECT random, count(*), count(DISTINCT messages) > 490 OR NOT random FROM series GROUP BY random ORDER BY random;

SELECT random, compare(way, array_agg(messages))
FROM series, unnest(ARRAY['update', 'update, ahead=allow', 'upsert', 'advance', 'advance, trigger']) WITH ORDINALITY AS w (way, i)
GROUP BY random, way, i ORDER BY random, i;

-- created and paid in either order (S4): both end at paid
SELECT compare('upsert', ARRAY['{created,paid}', '{paid,created}']);
SELECT id, status FROM guarded ORDER BY id;

DROP SCHEMA state_orders_test CASCADE;
DELETE FROM idem.transition WHERE machine = 'orders';
