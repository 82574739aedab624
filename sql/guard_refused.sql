-- Pins what idem refuses of its own tables: where SQL could not be right either, no route is taken.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE ROLE regress_refused_owner;
\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all
-- Runs a statement by both routes while something is done to our tables, which is then undone.
CREATE FUNCTION pg_temp.under(ddl text, VARIADIC stmts text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	stmt text; direct text; sql text; said text[] := '{}';
BEGIN
	BEGIN
		EXECUTE ddl;
		FOREACH stmt IN ARRAY stmts LOOP
			BEGIN
				SET LOCAL idem.force_sql = off;
				direct := pg_temp.outcome(stmt);
				RAISE EXCEPTION 'undo';
			EXCEPTION WHEN raise_exception THEN NULL;
			END;
			SET LOCAL idem.force_sql = on;
			sql := pg_temp.outcome(stmt);
			said := said || CASE WHEN direct = sql THEN direct ELSE format('directly %s, through SQL %s', direct, sql) END;
		END LOOP;
		RAISE EXCEPTION 'undo';
	EXCEPTION WHEN raise_exception THEN NULL;
	END;
	RETURN QUERY SELECT unnest(said);
END $$;
SELECT idem_claim('refused', '1'), (idem_begin('refused', '2', '1 hour')).status, idem_lock('refused');
SELECT idem_machine('refused', 'a -> b');
SELECT idem_stock_add('refused', 10);
SELECT idem_token_issue('refused') AS token \gset

--
-- Each of our tables without a unique index on exactly its key
--
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim DROP CONSTRAINT claim_pkey', 'SELECT idem_claim(''refused'', ''1'')', 'SELECT idem_response(''refused'', ''1'')', 'SELECT idem_forget(''refused'', ''1'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.lock DROP CONSTRAINT lock_pkey', 'SELECT idem_lock(''refused'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.token_key DROP CONSTRAINT token_key_pkey', 'SELECT idem_token_issue(''refused'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.token_spent DROP CONSTRAINT token_spent_pkey', format('SELECT idem_token_consume(%L, ''refused'')', :'token'));
SELECT * FROM pg_temp.under('ALTER TABLE idem.token_rate DROP CONSTRAINT token_rate_pkey', 'SELECT idem_token_issue(''refused'', max_issues => 3)');
SELECT * FROM pg_temp.under('ALTER TABLE idem.transition DROP CONSTRAINT transition_pkey', 'SELECT idem_machine(''refused'', ''a -> c'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.policy DROP CONSTRAINT policy_pkey', 'SELECT idem_policy(''refused'', ''1 day'')', 'SELECT idem_retention(''refused'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.stock DROP CONSTRAINT stock_pkey', 'SELECT idem_stock_available(''refused'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.hold DROP CONSTRAINT hold_pkey', 'SELECT idem_stock_confirm(''refused'', ''1'')');
-- not unique, on more columns, on one of them twice, on some rows, on an expression, deferrable, under a collation that takes two keys for one
SELECT split_part(said, E'\n', 1) AS said FROM unnest(ARRAY['INDEX ON idem.claim (seq, source)', 'UNIQUE INDEX ON idem.claim (seq, source, owner)', 'UNIQUE INDEX ON idem.claim (seq, seq)',
	'UNIQUE INDEX ON idem.claim (seq, source) WHERE status = ''d''', 'UNIQUE INDEX ON idem.claim (seq, lower(source))']) i, pg_temp.under('ALTER TABLE idem.claim DROP CONSTRAINT claim_pkey; CREATE ' || i, 'SELECT idem_claim(''refused'', ''1'')') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.claim DROP CONSTRAINT claim_pkey, ADD UNIQUE (source, seq) DEFERRABLE', 'SELECT idem_claim(''refused'', ''1'')') said;
-- in another order, and with a column to include, it is one
SELECT said FROM unnest(ARRAY['(source, seq)', '(seq, source)', '(seq, source) INCLUDE (status)']) i, pg_temp.under('ALTER TABLE idem.claim DROP CONSTRAINT claim_pkey; CREATE UNIQUE INDEX ON idem.claim ' || i, 'SELECT idem_claim(''refused'', ''1'')') said;
-- partitioned by time: the time is in the key
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim RENAME TO shell; CREATE TABLE idem.claim (LIKE idem.shell INCLUDING DEFAULTS, PRIMARY KEY (source, seq, claimed_at)) PARTITION BY RANGE (claimed_at); CREATE TABLE idem.part PARTITION OF idem.claim DEFAULT',
	'SELECT idem_claim(''refused'', ''new'')', 'SELECT idem_cancel(''refused'', ''new'')', 'SELECT status FROM idem_begin(''refused'', ''new'')', 'SELECT claimed FROM idem_claim_batch(''refused'', ARRAY[''new''])');

--
-- A column of another type, or none
--
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim ALTER response TYPE jsonb', 'SELECT idem_response(''refused'', ''1'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim ALTER response TYPE int USING 5', 'SELECT idem_response(''refused'', ''1'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim ALTER lease_until TYPE date', 'SELECT status FROM idem_begin(''refused'', ''2'')');
SELECT split_part(said, E'\n', 1) AS said FROM unnest(ARRAY['claim ALTER lease_until TYPE timestamp', 'claim ALTER status TYPE text', 'claim ALTER owner TYPE bytea USING ''\x''', 'claim ALTER fence TYPE numeric', 'claim ALTER fence TYPE int', 'claim ALTER request TYPE text']) d,
	pg_temp.under('ALTER TABLE idem.' || d, 'SELECT idem_claim(''refused'', ''1'')') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.lock ALTER fence TYPE numeric', 'SELECT idem_lock(''refused'')') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.token_key ALTER secret TYPE text USING ''x''', 'SELECT idem_token_issue(''refused'')') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.token_spent ALTER expires_at TYPE date', format('SELECT idem_token_consume(%L, ''refused'')', :'token')) said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.token_rate ALTER issued TYPE bigint', 'SELECT idem_token_issue(''refused'', max_issues => 3)') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.transition ALTER to_state TYPE int USING 1', 'SELECT idem_machine(''refused'', ''a -> c'')') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.stock ALTER quantity TYPE bigint', 'SELECT idem_stock_available(''refused'')') said;
SELECT split_part(said, E'\n', 1) AS said FROM pg_temp.under('ALTER TABLE idem.hold ALTER items TYPE text USING items::text', 'SELECT idem_stock_confirm(''refused'', ''1'')') said;
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim RENAME response TO answer', 'SELECT idem_claim(''refused'', ''1'')');
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim DROP response', 'SELECT idem_claim(''refused'', ''1'')');
-- a type with the same representation will do
CREATE DOMAIN public.regress_refused_json AS json;
SELECT said FROM unnest(ARRAY['response TYPE public.regress_refused_json', 'seq TYPE varchar', 'owner TYPE varchar(63)']) c, pg_temp.under('ALTER TABLE idem.claim ALTER ' || c, 'SELECT idem_respond(''refused'', ''1'', ''{"a":  1}'')', 'SELECT idem_response(''refused'', ''1'')') said;
DROP DOMAIN public.regress_refused_json;

--
-- Columns in other places are found by name
--
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim RENAME TO shell; CREATE TABLE idem.claim AS SELECT unsettled_since, response, request, lease_until, completed_at, claimed_at, fence, status, owner, seq, source FROM idem.shell; ALTER TABLE idem.claim ADD PRIMARY KEY (source, seq)',
	'SELECT idem_claim(''refused'', ''1'')', 'SELECT status FROM idem_lookup(''refused'', ''2'')');
-- a column that the server computes takes no value
SELECT left(said, 5) AS said FROM pg_temp.under('ALTER TABLE idem.claim DROP request; ALTER TABLE idem.claim ADD request bytea GENERATED ALWAYS AS (NULL) STORED', 'SELECT idem_claim(''refused'', ''new'')') said;

--
-- Publications: what core refuses is refused directly, too
--
SET client_min_messages = error; -- the server's wal_level is not for subscribers
SELECT left(said, 5) AS said FROM pg_temp.under('CREATE PUBLICATION regress_refused FOR TABLE idem.claim WHERE (status = ''d'')', 'SELECT idem_claim(''refused'', ''new'')', 'SELECT idem_respond(''refused'', ''1'', ''1'')') said;
SELECT left(said, 5) AS said FROM pg_temp.under('CREATE PUBLICATION regress_refused FOR TABLE idem.claim (source)', 'SELECT idem_respond(''refused'', ''1'', ''1'')') said;
SELECT left(said, 5) AS said FROM pg_temp.under('ALTER TABLE idem.claim REPLICA IDENTITY NOTHING; CREATE PUBLICATION regress_refused FOR ALL TABLES', 'SELECT idem_claim(''refused'', ''new'')', 'SELECT idem_respond(''refused'', ''1'', ''1'')') said;
SELECT left(said, 5) AS said FROM pg_temp.under('CREATE PUBLICATION regress_refused FOR TABLES IN SCHEMA idem; ALTER TABLE idem.lock REPLICA IDENTITY NOTHING', 'SELECT idem_lock_renew(''refused'', 1)') said;
-- and what core allows is done
SELECT said FROM unnest(ARRAY['CREATE PUBLICATION regress_refused FOR ALL TABLES', 'CREATE PUBLICATION regress_refused FOR TABLE idem.claim WHERE (source = ''refused'')', 'ALTER TABLE idem.claim REPLICA IDENTITY FULL; CREATE PUBLICATION regress_refused FOR TABLE idem.claim WHERE (status = ''d'')',
	'ALTER TABLE idem.claim REPLICA IDENTITY NOTHING; CREATE PUBLICATION regress_refused FOR ALL TABLES WITH (publish = ''insert'')']) p, pg_temp.under(p, 'SELECT idem_claim(''refused'', ''new'')', 'SELECT idem_respond(''refused'', ''1'', ''1'')') said;

--
-- An owner who may not use the schema
--
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim OWNER TO regress_refused_owner', 'SELECT idem_claim(''refused'', ''1'')', 'SELECT idem_forget(''refused'', ''1'')');
SELECT split_part(said, E'\n', 1) AS said FROM unnest('{lock, token_spent, transition, stock, hold}'::text[]) t, pg_temp.under(format('ALTER TABLE idem.%s OWNER TO regress_refused_owner', t),
	CASE t WHEN 'lock' THEN 'SELECT idem_lock(''refused'')' WHEN 'token_spent' THEN format('SELECT idem_token_consume(%L, ''refused'')', :'token') WHEN 'transition' THEN 'SELECT idem_machine(''refused'', ''a -> c'')' WHEN 'stock' THEN 'SELECT idem_stock_available(''refused'')' ELSE 'SELECT idem_stock_confirm(''refused'', ''1'')' END) said;
SELECT * FROM pg_temp.under('ALTER TABLE idem.claim OWNER TO regress_refused_owner; GRANT USAGE ON SCHEMA idem TO regress_refused_owner', 'SELECT idem_claim(''refused'', ''1'')', 'SELECT idem_forget(''refused'', ''2 unknown'')');
-- a grant counts at the next call of a session that knows the table, and so does its end
BEGIN;
ALTER TABLE idem.claim OWNER TO regress_refused_owner;
GRANT USAGE ON SCHEMA idem TO regress_refused_owner;
SELECT idem_claim('refused', '1');
REVOKE USAGE ON SCHEMA idem FROM regress_refused_owner;
SELECT split_part(pg_temp.outcome('SELECT idem_claim(''refused'', ''1'')'), E'\n', 1);
ROLLBACK;

-- all is undone
SELECT idem_claim('refused', '1'), (idem_lookup('refused', '2')).status, idem_verdict('refused', 'a', 'b'), idem_stock_available('refused');
DELETE FROM idem.claim WHERE source = 'refused';
DELETE FROM idem.lock WHERE name = 'refused';
DELETE FROM idem.transition WHERE machine = 'refused';
DELETE FROM idem.stock WHERE item = 'refused';
DROP ROLE regress_refused_owner;
