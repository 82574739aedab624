-- What the load works on: the tables of an application that uses all primitives of idem. Nothing but idem keeps an
-- effect from being there twice.

CREATE EXTENSION idem;
CREATE EXTENSION amcheck;
CREATE SCHEMA load;

-- what a request has done
CREATE TABLE load.effect (id bigint GENERATED ALWAYS AS IDENTITY, kind text NOT NULL, key text NOT NULL, client integer NOT NULL, amount numeric, body text);
CREATE INDEX effect_key ON load.effect (kind, key);

-- keys of those who do without idem
CREATE TABLE load.bare (kind text, key text, PRIMARY KEY (kind, key));

-- the work of idem_call
CREATE FUNCTION load.work(request json) RETURNS json LANGUAGE sql AS $$
	INSERT INTO load.effect (kind, key, client, body)
	VALUES ('call', request->>'key', pg_backend_pid(), format('{"by": %s,   "n":%s}', pg_backend_pid(), random()))
	RETURNING body::json
$$;

-- product 8 is soon sold out
CREATE TABLE load.product (id integer PRIMARY KEY, stock bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO load.product SELECT n, CASE n WHEN 8 THEN 50 ELSE 1000000000 END FROM generate_series(1, 8) n;

CREATE TABLE load.thing (id bigint NOT NULL DEFAULT 0, key text PRIMARY KEY, body text);
CREATE SEQUENCE load.thing_id OWNED BY load.thing.id;
ALTER TABLE load.thing ALTER COLUMN id SET DEFAULT nextval('load.thing_id');

CREATE TABLE load.doc (id integer PRIMARY KEY, n bigint NOT NULL DEFAULT 0, version bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
CREATE TRIGGER version BEFORE UPDATE ON load.doc FOR EACH ROW EXECUTE FUNCTION idem_version('version');
INSERT INTO load.doc SELECT n FROM generate_series(1, 16) n;

-- documents with a state, and everything that ever happened to it
CREATE TABLE load.document (key text PRIMARY KEY, status text);
CREATE TABLE load.history (id bigint GENERATED ALWAYS AS IDENTITY, key text, was text, became text);
CREATE INDEX history_key ON load.history (key);
SELECT idem_machine('load', 'created -> paid -> shipped -> done; created -> cancelled');
CREATE TRIGGER state BEFORE INSERT OR UPDATE ON load.document FOR EACH ROW EXECUTE FUNCTION idem_state('load', 'status', 'insert=initial');
CREATE FUNCTION load.remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO load.history (key, became) VALUES (NEW.key, NEW.status);
	ELSIF NEW.status <> OLD.status THEN
		INSERT INTO load.history (key, was, became) VALUES (NEW.key, OLD.status, NEW.status);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER remember AFTER INSERT OR UPDATE ON load.document FOR EACH ROW EXECUTE FUNCTION load.remember();

-- written by whoever holds the lock, with its fence
CREATE TABLE load.guarded (id bigint GENERATED ALWAYS AS IDENTITY, name text, fence bigint, key text, client integer);

SELECT idem_stock_add('item ' || n, 1000000000, CASE WHEN n % 2 = 0 THEN 1 ELSE 8 END) FROM generate_series(0, 4) n;

-- one line for each table: all that must not move when everything is sent again (fences of locks do)
CREATE FUNCTION load.digest() RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
DECLARE
	what text;
BEGIN
	FOREACH what IN ARRAY ARRAY['idem.claim', 'idem.hold', 'idem.stock', 'idem.token_spent', 'idem.transition',
		'load.effect', 'load.product', 'load.thing', 'load.doc', 'load.document', 'load.history', 'load.guarded']
	LOOP
		RETURN QUERY EXECUTE format('SELECT format(''%s %%s %%s'', count(*), sum(hashtextextended(t::text, 0)::numeric)) FROM %1$s t', what);
	END LOOP;
END $$;
