-- Pins the digest of a request: its format, which must not change with idem's or the server's version, what is equal, and that its
-- cost follows the length of the input. (idem.claim.request is for its owner to read.)
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.digest(request jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
BEGIN
	PERFORM idem_claim('claim_digest', 'k', request);
	SELECT encode(substring(c.request FOR 8), 'hex') INTO d FROM idem.claim c WHERE source = 'claim_digest' AND seq = 'k';
	DELETE FROM idem.claim WHERE source = 'claim_digest';
	RETURN d;
END $$;

--
-- Ten digests, as literals: a change to any of them would refuse the retries of every request recorded before.
-- (They were computed by another program, too, from the description in src/digest.c.)
--
SELECT n, left(request::text, 30) AS request, pg_temp.digest(request) = wanted AS as_ever, CASE WHEN pg_temp.digest(request) <> wanted THEN pg_temp.digest(request) END AS changed_to
FROM (VALUES
	(1, 'null'::jsonb, '1b16b1df538ba12d'),
	(2, 'true', 'e3b98a4da31a127d'),
	(3, '""', '9d1ad79533ff47fc'),
	(4, '0', '5cad79a2335e1341'),
	(5, '-12345.678', '7a35faa77d2ac36b'),
	(6, '1e131071', '1bd50a8d8abc0ede'),
	(7, '[]', '4f53cda18c2baa0c'),
	(8, '{}', '44136fa355b3678a'),
	(9, '{"order": 42, "items": ["tea", {"qty": 2, "price": 9.90}], "gift": false, "note": null}', 'a75080814f046e55'),
	(10, '["\u00e9", [[1, 20000.0001], []]]', 'ff4e981555f5d99c')) v (n, request, wanted) ORDER BY n;

--
-- The same number, however it is written
--
SELECT count(*) AS requests, count(DISTINCT pg_temp.digest(n)) AS digests FROM unnest(ARRAY['1', '1.0', '1e0', '10e-1', '0.1e1', '1.000000000000000000000', '0.0000000001e10']::jsonb[]) n;
SELECT count(DISTINCT pg_temp.digest(n)) FROM unnest(ARRAY['0', '-0', '0.0', '0e100', '-0.000']::jsonb[]) n;
SELECT count(DISTINCT pg_temp.digest(n)) FROM unnest(ARRAY['12000', '1.2e4', '12e3', '12000.00', '0.00012e8']::jsonb[]) n;
SELECT count(DISTINCT pg_temp.digest(n)) FROM unnest(ARRAY['0.00012', '1.2e-4', '12e-5', '0.000120']::jsonb[]) n;
SELECT count(DISTINCT pg_temp.digest(n)) FROM unnest(ARRAY['-1e131071', '-10e131070', '-0.1e131072']::jsonb[]) n;
-- and others are others
SELECT count(*) AS numbers, count(DISTINCT pg_temp.digest(n)) AS digests FROM unnest(ARRAY['0', '1', '-1', '10', '100', '1000', '10000', '1e8', '1e12', '0.1', '0.01', '0.001', '0.0001', '1e-8', '10001', '1.0001', '1e131071', '1e131070',
	'1e-16383', '99999999', '-99999999', '9999', '0.9999', '12345678901234567890', '1234567890123456789', '12345678901234567890.1', '65536', '100010001', '10001.0001']::jsonb[]) n;

--
-- The order of an object's keys, and what separates pieces
--
SELECT count(DISTINCT pg_temp.digest(n)) FROM unnest(ARRAY['{"a": 1, "bb": {"c": 2, "d": [3]}}', '{ "bb":{"d":[3.0],"c":2},"a":1}', '{"a": 7, "bb": {"c": 2, "d": [3]}, "a": 1}']::jsonb[]) n;
SELECT count(*) AS requests, count(DISTINCT pg_temp.digest(n)) AS digests FROM unnest(ARRAY['[]', '[[]]', '[[], []]', '[[[]]]', '{}', '[{}]', '[{}, {}]', '{"": {}}', '["ab"]', '["a", "b"]', '["b", "a"]', '"ab"', '["", "ab"]', '["ab", ""]',
	'{"a": "b"}', '{"ab": ""}', '["a", ["b"]]', '[["a"], "b"]', '[["a", "b"]]', '[1, 2]', '[12]', '[1, [2]]', '[[1], 2]', '["1"]', '[true]', '["true"]', '["t"]', '[null]', '["n"]', '["null"]', '[false]', 'false', 'true', 'null',
	'"k"', '["+"]', '[1, 1]', '[1, 1, 1]', '{"a": 1, "b": 2}', '{"a": 2, "b": 1}', '{"a": {"b": 1}}', '{"a": [1]}', '{"a": 1}']::jsonb[]) n;
-- long strings: at the bounds of what is gathered before it is hashed
SELECT count(*) AS requests, count(DISTINCT pg_temp.digest(n)) AS digests FROM (
	SELECT to_jsonb(repeat('x', i)) AS n FROM generate_series(1000, 1040) i
	UNION ALL SELECT jsonb_build_array(repeat('x', 500), repeat('x', i)) FROM generate_series(490, 530) i
	UNION ALL SELECT to_jsonb(repeat('x', 3000000)) UNION ALL SELECT to_jsonb(repeat('x', 2999999) || 'y') UNION ALL SELECT to_jsonb('y' || repeat('x', 2999999))) v;

--
-- What costs little to send costs little to compare: this took 14 s and 2 GB, and with 9,000 numbers 54000
--
SET statement_timeout = '10s';
SELECT idem_claim('claim_digest', 'large', ('[' || repeat('1e131071,', 8000) || '1]')::jsonb), idem_claim('claim_digest', 'large', ('[' || repeat('10e131070,', 8000) || '1.0]')::jsonb);
SELECT idem_claim('claim_digest', 'larger', ('[' || repeat('-1e-16383,', 100000) || '1]')::jsonb);
SELECT idem_claim('claim_digest', 'deep', (repeat('[', 5000) || repeat(']', 5000))::jsonb), idem_claim('claim_digest', 'deep', (repeat('[', 5000) || repeat(']', 5000))::jsonb);
RESET statement_timeout;

--
-- What is kept: eight bytes of that and a hash of the bytes, which is compared first, and only believed if it says "the same"
--
SELECT idem_claim('claim_digest', 'hash', '{"a": 10}'), idem_claim('claim_digest', 'hash', '{"a": 10.0}');
SELECT length(request) FROM idem.claim WHERE source = 'claim_digest' AND seq = 'hash';
-- kept on a machine of another byte order: the digest decides
BEGIN;
UPDATE idem.claim SET request = substring(request FOR 8) || '\x0102030405060708' WHERE source = 'claim_digest' AND seq = 'hash';
SELECT idem_claim('claim_digest', 'hash', '{"a": 10}');
SELECT idem_claim('claim_digest', 'hash', '{"a": 11}');
ROLLBACK;
-- the same bytes: the digest is not asked
BEGIN;
UPDATE idem.claim SET request = '\x0102030405060708' || substring(request FROM 9) WHERE source = 'claim_digest' AND seq = 'hash';
SELECT idem_claim('claim_digest', 'hash', '{"a": 10}');
SELECT idem_claim('claim_digest', 'hash', '{"a": 10.0}');
ROLLBACK;
-- neither: no request is that one
BEGIN;
UPDATE idem.claim SET request = substring(request FOR 8) WHERE source = 'claim_digest' AND seq = 'hash';
SELECT idem_claim('claim_digest', 'hash', '{"a": 10}');
ROLLBACK;

DELETE FROM idem.claim WHERE source = 'claim_digest';
