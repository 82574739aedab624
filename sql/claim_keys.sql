-- Pins what types a key may have: text, varchar, smallint, integer, bigint, uuid, and what is not typed; it is named by its text.
\set SHOW_CONTEXT never

\set ECHO none
\getenv inputdir PG_ABS_SRCDIR
\set outcome :inputdir '/sql/include/outcome.sql'
\i :outcome
\set ECHO all

--
-- Each type is the same key as its text
--
SELECT idem_claim('claim_keys', 42), idem_claim('claim_keys', '42'), idem_claim('claim_keys', 42::smallint),
	   idem_claim('claim_keys', 42::bigint), idem_claim('claim_keys', '42'::text), idem_claim('claim_keys', '42'::varchar(3));
SELECT idem_claim('claim_keys', '-32768'::smallint), idem_claim('claim_keys', '-2147483648'::integer),
	   idem_claim('claim_keys', '-9223372036854775808'::bigint), idem_claim('claim_keys', '00000000-0000-0000-0000-00000000000A'::uuid);
SELECT seq FROM idem.claim WHERE source = 'claim_keys' ORDER BY seq;
SELECT idem_claim('claim_keys', gen_random_uuid());
-- a domain is its base type, also a domain of a domain
CREATE DOMAIN order_no AS integer CHECK (VALUE > 0);
CREATE DOMAIN special_no AS order_no;
CREATE DOMAIN order_name AS varchar(10);
SELECT idem_claim('claim_keys', 43::order_no), idem_claim('claim_keys', 43::special_no), idem_claim('claim_keys', '43'::order_name);

--
-- Without a type: a literal, a parameter, a parameter of PREPARE, NULL
--
PREPARE untyped AS SELECT idem_claim('claim_keys', $1);
EXECUTE untyped('44');
EXECUTE untyped(44);
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped';
PREPARE typed(bigint) AS SELECT idem_claim($2, $1);
EXECUTE typed(45, 'claim_keys');
EXECUTE typed(45, 'claim_keys');
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', NULL)$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', NULL::bigint)$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', '')$$);
DO $$
DECLARE
	n integer := 46; u uuid := '46464646-4646-4646-4646-464646464646'; first boolean;
BEGIN
	EXECUTE 'SELECT idem_claim($1, $2)' INTO first USING 'claim_keys', n;
	ASSERT first AND NOT idem_claim('claim_keys', n), 'an integer variable';
	ASSERT idem_claim('claim_keys', u) AND NOT idem_claim('claim_keys', u::text), 'a uuid variable';
END $$;
-- one call site that sees the same type again and again, and a named argument
SELECT count(*) FILTER (WHERE idem_claim('claim_keys', seq => i)) FROM generate_series(1, 300) i;
SELECT count(*) FILTER (WHERE idem_claim(seq => i::text, source => 'claim_keys')) FROM generate_series(1, 301) i;

--
-- Every function takes them
--
SELECT idem_respond('claim_keys', 42, '1'), idem_response('claim_keys', 42::bigint), (idem_lookup('claim_keys', 42::smallint)).status;
CREATE FUNCTION pg_temp.echo(r json) RETURNS json LANGUAGE sql AS 'SELECT r';
SELECT idem_call('claim_keys', 1001, 'pg_temp.echo', '1'), idem_call('claim_keys', '1001', 'pg_temp.echo', '1');
SELECT idem_cancel('claim_keys', 1002), idem_forget('claim_keys', 1002);
SELECT status, fence FROM idem_begin('claim_keys', 1003);
SELECT idem_renew('claim_keys', 1003, 1) > now() AS renewed, idem_complete('claim_keys', 1003, 1);
SELECT status, fence FROM idem_begin('claim_keys', 1004);
SELECT idem_fail('claim_keys', 1004, 1);

--
-- Batches: arrays of each type, and an array without one
--
SELECT seq, claimed FROM idem_claim_batch('claim_keys', '{2001,2002,2001}');
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY[2001, 2003]);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY[2001, 2004]::smallint[]);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY[2001, 2005]::bigint[]);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY['2001', '2006']);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY['2001', '2007']::varchar[]);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY['20012001-2001-2001-2001-200120012001', '20022002-2002-2002-2002-200220022002']::uuid[]);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY[2001, 2008]::order_no[]);
CREATE DOMAIN order_nos AS integer[];
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY[2001, 2009]::order_nos);
SELECT seq, claimed FROM idem_claim_batch('claim_keys', '[5:6]={2001,2010}'::integer[]);
SELECT count(*) FROM idem_claim_batch('claim_keys', '{}') a, idem_claim_batch('claim_keys', ARRAY[]::integer[]) b;
PREPARE untyped_batch AS SELECT seq, claimed FROM idem_claim_batch('claim_keys', $1);
EXECUTE untyped_batch('{2001,2011}');
SELECT parameter_types FROM pg_prepared_statements WHERE name = 'untyped_batch';
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_keys', NULL)$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_keys', ARRAY[1, NULL])$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_keys', ARRAY[[1, 2], [3, 4]])$$);

--
-- Any other type is refused, and told what to write: the text of many depends on settings
--
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', now())$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', 1.0)$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', 'a'::char(3))$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', ARRAY['a'])$$);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', NULL::date)$$);
CREATE DOMAIN price AS numeric(10, 2);
SELECT pg_temp.try($$SELECT idem_claim('claim_keys', 1::price)$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_keys', ARRAY[now()])$$);
SELECT pg_temp.try($$SELECT * FROM idem_claim_batch('claim_keys', ARRAY[1.5, 2])$$);
-- and with the cast it is taken
SELECT idem_claim('claim_keys', 1.50::text), idem_claim('claim_keys', '1.50');
SELECT seq, claimed FROM idem_claim_batch('claim_keys', ARRAY[1.5, 1.50]::text[]);

DELETE FROM idem.claim WHERE source = 'claim_keys';
DROP DOMAIN order_nos, special_no, order_no, order_name, price;
