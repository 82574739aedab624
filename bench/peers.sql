-- What script/bench measures idem against: the tables and functions that people would write, each as well as an expert would,
-- and the functions that both sides' work is made of. bench/measures.pl has the statements that use them.
\set ON_ERROR_STOP 1
CREATE SCHEMA bench;
SET search_path = bench, public;

-- the least that can be written for claims: fewer columns than idem's own, so less to write
CREATE TABLE bare (
	source text COLLATE "C" NOT NULL,
	seq text COLLATE "C" NOT NULL,
	claimed_at timestamptz NOT NULL,
	PRIMARY KEY (source, seq)
);
-- the same with room for an answer
CREATE TABLE answered (
	source text COLLATE "C" NOT NULL,
	seq text COLLATE "C" NOT NULL,
	claimed_at timestamptz NOT NULL,
	response json,
	PRIMARY KEY (source, seq)
) WITH (fillfactor = 80);
-- the columns of idem's own table
CREATE TABLE same (LIKE idem.claim INCLUDING ALL) WITH (fillfactor = 80);

-- the work that a request asks for
CREATE TABLE work (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	subject text COLLATE "C" NOT NULL,
	at timestamptz NOT NULL
);
CREATE FUNCTION do_work(request json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	answer json;
BEGIN
	INSERT INTO bench.work (subject, at) VALUES (request ->> 'subject', clock_timestamp())
	RETURNING json_build_object('id', id) INTO answer;
	RETURN answer;
END $$;

-- a claim in a PL/pgSQL function: was it now?
CREATE FUNCTION claim_plpgsql(source text, seq text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO bench.bare VALUES (source, seq, clock_timestamp()) ON CONFLICT DO NOTHING;
	RETURN FOUND;
END $$;
-- … with an exception block
CREATE FUNCTION claim_exception(source text, seq text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO bench.bare VALUES (source, seq, clock_timestamp());
	RETURN true;
EXCEPTION WHEN unique_violation THEN
	RETURN false;
END $$;
-- the whole pattern in one function and one round trip
CREATE FUNCTION call_plpgsql(the_source text, the_seq text, request json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	answer json;
BEGIN
	INSERT INTO bench.answered (source, seq, claimed_at) VALUES (the_source, the_seq, clock_timestamp()) ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		SELECT response INTO answer FROM bench.answered WHERE source = the_source AND seq = the_seq;
		RETURN answer;
	END IF;
	INSERT INTO bench.work (subject, at) VALUES (request ->> 'subject', clock_timestamp())
	RETURNING json_build_object('id', id) INTO answer;
	UPDATE bench.answered SET response = answer WHERE source = the_source AND seq = the_seq;
	RETURN answer;
END $$;

-- brandur.org/idempotency-keys, as the article has it
CREATE TABLE idempotency_keys (
	id bigserial PRIMARY KEY,
	created_at timestamptz NOT NULL DEFAULT now(),
	idempotency_key text COLLATE "C" NOT NULL CHECK (char_length(idempotency_key) <= 100),
	last_run_at timestamptz NOT NULL DEFAULT now(),
	locked_at timestamptz DEFAULT now(),
	request_method text NOT NULL CHECK (char_length(request_method) <= 10),
	request_params jsonb NOT NULL,
	request_path text NOT NULL CHECK (char_length(request_path) <= 100),
	response_code int NULL,
	response_body jsonb NULL,
	recovery_point text NOT NULL CHECK (char_length(recovery_point) <= 50),
	user_id bigint NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX idempotency_keys_user_id_idempotency_key ON idempotency_keys (user_id, idempotency_key);

-- tokens in a table
CREATE TABLE form_token (
	token uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	purpose text COLLATE "C" NOT NULL,
	subject text COLLATE "C" NOT NULL,
	expires_at timestamptz NOT NULL
);

-- locks in a table
CREATE TABLE lock_by_hand (
	name text COLLATE "C" PRIMARY KEY,
	fence bigint NOT NULL,
	lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE SEQUENCE lock_fence;

-- stock in one row, with the same journal of who took what
CREATE TABLE plain_stock (
	item text COLLATE "C" PRIMARY KEY,
	quantity numeric NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE journal (
	source text COLLATE "C" NOT NULL,
	seq text COLLATE "C" NOT NULL,
	item text COLLATE "C" NOT NULL,
	quantity numeric NOT NULL,
	at timestamptz NOT NULL,
	PRIMARY KEY (source, seq, item)
);
INSERT INTO plain_stock VALUES ('hot', 1e15), ('none', 0);
-- idem's items: 16 buckets, or as many as come by themselves
SELECT idem_stock_add('hot', 1e15, 16), idem_stock_add('none', 1, 16);
SELECT idem_stock_add(item, 1e15) FROM unnest('{for 32, for 16, for one}'::text[]) AS item;
SELECT idem_stock_add('none of one', 1);
SELECT idem_stock_reserve('bench', 'last', 'none', 1), idem_stock_reserve('bench', 'last of one', 'none of one', 1);

-- rows that are deducted from
CREATE TABLE deduct_idem (id bigint PRIMARY KEY, stock int NOT NULL) WITH (fillfactor = 50);
INSERT INTO deduct_idem SELECT i, 1000000000 FROM generate_series(1, 5000) AS i;
CREATE TABLE deduct_plain (LIKE deduct_idem INCLUDING ALL) WITH (fillfactor = 50);
INSERT INTO deduct_plain TABLE deduct_idem;

-- triggers: the same table for each, with room for a new version of each row
CREATE TABLE version_none (id int PRIMARY KEY, version int NOT NULL DEFAULT 1, pad text) WITH (fillfactor = 40);
CREATE TABLE version_idem (LIKE version_none INCLUDING ALL) WITH (fillfactor = 40);
CREATE TABLE version_plpgsql (LIKE version_none INCLUDING ALL) WITH (fillfactor = 40);
CREATE TRIGGER version BEFORE UPDATE ON version_idem FOR EACH ROW EXECUTE FUNCTION idem_version('version');
CREATE FUNCTION version_in_plpgsql() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.version = OLD.version THEN
		NEW.version := OLD.version + 1;
	ELSIF NEW.version IS DISTINCT FROM OLD.version + 1 THEN
		RAISE EXCEPTION 'stale' USING DETAIL = format('version is %s', OLD.version);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER version BEFORE UPDATE ON version_plpgsql FOR EACH ROW EXECUTE FUNCTION version_in_plpgsql();

SELECT idem_machine('order', 'created -> paid -> shipped -> done; created -> cancelled; paid -> refunded');
CREATE TABLE transition (from_state text COLLATE "C", to_state text COLLATE "C", PRIMARY KEY (from_state, to_state));
INSERT INTO transition VALUES ('created', 'paid'), ('paid', 'shipped'), ('shipped', 'done'), ('created', 'cancelled'), ('paid', 'refunded');
CREATE TABLE state_idem (id int PRIMARY KEY, status text COLLATE "C" NOT NULL) WITH (fillfactor = 40);
CREATE TABLE state_code (LIKE state_idem INCLUDING ALL) WITH (fillfactor = 40);
CREATE TABLE state_table (LIKE state_idem INCLUDING ALL) WITH (fillfactor = 40);
CREATE TRIGGER state BEFORE UPDATE ON state_idem FOR EACH ROW EXECUTE FUNCTION idem_state('order', 'status');
-- the transitions in the code: allowed or not, without telling a late message from a wrong one
CREATE FUNCTION state_in_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.status = OLD.status
		OR OLD.status = 'created' AND NEW.status IN ('paid', 'cancelled')
		OR OLD.status = 'paid' AND NEW.status IN ('shipped', 'refunded')
		OR OLD.status = 'shipped' AND NEW.status = 'done' THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'transition from % to % is not allowed', OLD.status, NEW.status;
END $$;
CREATE TRIGGER state BEFORE UPDATE ON state_code FOR EACH ROW EXECUTE FUNCTION state_in_code();
-- the transitions in a table, as idem has them
CREATE FUNCTION state_in_table() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.status = OLD.status
		OR EXISTS (SELECT FROM bench.transition WHERE from_state = OLD.status AND to_state = NEW.status) THEN
		RETURN NEW;
	END IF;
	RAISE EXCEPTION 'transition from % to % is not allowed', OLD.status, NEW.status;
END $$;
CREATE TRIGGER state BEFORE UPDATE ON state_table FOR EACH ROW EXECUTE FUNCTION state_in_table();

-- what an expert writes to remove what is old: ranges of blocks, as many as have about batch rows, in the order of the table; of the
-- very table that idem_purge has a copy of
CREATE PROCEDURE purge_blocks(older_than interval, batch bigint) LANGUAGE plpgsql AS $$
DECLARE
	cutoff timestamptz := now() - older_than;
	blocks bigint := pg_relation_size('idem.claim') / 8192;
	step bigint := greatest(1, batch * blocks / greatest(1, (SELECT reltuples FROM pg_class WHERE oid = 'idem.claim'::regclass)::bigint));
	block bigint := 0;
BEGIN
	WHILE block < blocks LOOP
		DELETE FROM idem.claim WHERE ctid >= format('(%s,0)', block)::tid AND ctid < format('(%s,0)', block + step)::tid
			AND status IN ('d', 'f', 'c') AND coalesce(completed_at, claimed_at) < cutoff;
		COMMIT;
		block := block + step;
	END LOOP;
END $$;

--
-- What the measuring itself needs
--

-- N keys, ascending as numbers of messages are, or at random
CREATE FUNCTION keys(first bigint, n bigint) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(lpad(i::text, 12, '0') ORDER BY i) FROM generate_series(first, first + n - 1) AS i
$$;
CREATE FUNCTION random_keys(first bigint, n bigint) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(gen_random_uuid()::text) FROM generate_series(first, first + n - 1)
$$;
-- … or as UUIDs of version 7, with their milliseconds, which are later than those of the keys that are there; or as numbers above those
CREATE FUNCTION uuid_v7(ms bigint) RETURNS text LANGUAGE sql AS $$
	SELECT overlay(overlay(gen_random_uuid()::text PLACING overlay(lpad(to_hex(ms), 12, '0') PLACING '-' FROM 9 FOR 0) FROM 1 FOR 13) PLACING '7' FROM 15)
$$;
CREATE FUNCTION v7_keys(first bigint, n bigint) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(bench.uuid_v7(1800000000000 + i) ORDER BY i) FROM generate_series(first, first + n - 1) AS i
$$;
CREATE FUNCTION ascending_keys(first bigint, n bigint) RETURNS text[] LANGUAGE sql AS $$
	SELECT bench.keys(500000000000 + first, n)
$$;
-- … or of milliseconds, from now on
CREATE FUNCTION time_keys(first bigint, n bigint) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg((extract(epoch FROM clock_timestamp()) * 1000)::bigint || '-' || i ORDER BY i) FROM generate_series(first, first + n - 1) AS i
$$;
-- seconds, of the processor if clock.c could be compiled
SELECT :'clock' = 'processor' AS by_processor \gset
\if :by_processor
	CREATE FUNCTION seconds() RETURNS float8 LANGUAGE C AS :'library', 'bench_seconds';
\else
	CREATE FUNCTION seconds() RETURNS float8 LANGUAGE sql AS 'SELECT extract(epoch FROM clock_timestamp())';
\endif
-- seconds in the triggers of a statement, as EXPLAIN ANALYZE counts them
CREATE FUNCTION seconds_in_trigger(statement text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT json) ' || statement INTO plan;
	RETURN (plan -> 0 -> 'Triggers' -> 0 ->> 'Time')::float8 / 1000;
END $$;
-- private memory of this backend in bytes, as the operating system sees it
CREATE FUNCTION private_bytes() RETURNS bigint LANGUAGE sql AS $$
	SELECT substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+)')::bigint * 1024
$$;
-- the keys that are there already, each with its answer
CREATE PROCEDURE old_keys(n bigint) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE idem.claim, bench.bare, bench.answered, bench.same;
	PERFORM idem_call('bench', k, 'bench.do_work', jsonb_build_object('subject', k)) FROM unnest(bench.keys(1, n)) AS k;
	INSERT INTO bench.bare SELECT source, seq, claimed_at FROM idem.claim;
	INSERT INTO bench.answered SELECT source, seq, claimed_at, response FROM idem.claim;
	INSERT INTO bench.same TABLE idem.claim;
END $$;
