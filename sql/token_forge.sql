-- Tokens: only what a key of this database has signed is accepted, and nothing that is given as a token raises.
\set SHOW_CONTEXT never

-- an HMAC-SHA-256 and a token made by other means than the extension's own
CREATE FUNCTION forge_hmac(message bytea, secret bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	inner_pad bytea := '';
	outer_pad bytea := '';
	b int;
BEGIN
	FOR i IN 0..63 LOOP
		b := CASE WHEN i < length(secret) THEN get_byte(secret, i) ELSE 0 END;
		inner_pad := inner_pad || set_byte('\x00'::bytea, 0, b # 54);
		outer_pad := outer_pad || set_byte('\x00'::bytea, 0, b # 92);
	END LOOP;
	RETURN sha256(outer_pad || sha256(inner_pad || message));
END $$;

CREATE FUNCTION forge_base64url(bytes bytea) RETURNS text LANGUAGE sql AS
	$$ SELECT translate(encode(bytes, 'base64'), E'+/=\n', '-_') $$;

CREATE FUNCTION forge(purpose text, subject text, expires timestamptz, key text, secret bytea,
	nonce bytea DEFAULT '\x000102030405060708090a0b0c0d0e0f', version text DEFAULT '1') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	head text := version || key || forge_base64url(
		int8send((extract(epoch FROM expires - '2000-01-01 00:00:00+00') * 1000000)::int8) || nonce);
BEGIN
	RETURN head || forge_base64url(forge_hmac(convert_to(head, 'UTF8') ||
		int4send(octet_length(purpose)) || convert_to(purpose, 'UTF8') ||
		int4send(octet_length(subject)) || convert_to(subject, 'UTF8'), secret));
END $$;

-- the published test vector, so that the helper can be believed
SELECT encode(forge_hmac('what do ya want for nothing?', 'Jefe'), 'hex');

-- who has the secret can sign: the format is as documented
SELECT id, secret FROM idem.token_key WHERE verify_until IS NULL ORDER BY created_at DESC, id DESC LIMIT 1 \gset
SELECT substr(idem_token_issue('p'), 2, 12) = :'id' AS names_the_key;
SELECT forge('p', 's', now() + interval '1 hour', :'id', :'secret') AS good \gset
SELECT idem_token_status(:'good', 'p', 's');

-- one thing wrong at a time, signed with the right secret
SELECT what, idem_token_status(t, 'p', 's'), idem_token_consume(t, 'p', 's'), idem_token_rotate(t, 'p', 's') IS NULL AS kept
FROM (VALUES
	('expired', forge('p', 's', clock_timestamp() - interval '1 microsecond', :'id', :'secret')),
	('expired long ago', forge('p', 's', '1970-01-01 00:00:00+00', :'id', :'secret')),
	('another version', forge('p', 's', now() + interval '1 hour', :'id', :'secret', version => '2')),
	('another purpose', forge('q', 's', now() + interval '1 hour', :'id', :'secret')),
	('another subject', forge('p', 't', now() + interval '1 hour', :'id', :'secret')),
	('framed otherwise', forge('', 'ps', now() + interval '1 hour', :'id', :'secret')),
	('another secret', forge('p', 's', now() + interval '1 hour', :'id', sha256(:'secret'))),
	('no secret', forge('p', 's', now() + interval '1 hour', :'id', '')),
	('another key', forge('p', 's', now() + interval '1 hour', 'AAAAAAAAAAAA', :'secret')),
	('another nonce', overlay(:'good' PLACING 'AAAA' FROM 40))
) AS v (what, t);
SELECT idem_token_status(:'good', 'p', 's');

-- every character replaced by every other one
SELECT count(*), count(*) FILTER (WHERE status = 'invalid') AS invalid, count(*) FILTER (WHERE consumed) AS consumed
FROM generate_series(1, 88) AS i, generate_series(1, 127) AS c,
	LATERAL overlay(:'good' PLACING chr(c) FROM i) AS t,
	LATERAL idem_token_status(t, 'p', 's') AS status, LATERAL idem_token_consume(t, 'p', 's') AS consumed
WHERE t <> :'good';

-- every bit of what it says flipped: decoded, flipped, encoded again
SELECT count(*), count(*) FILTER (WHERE status = 'invalid') AS invalid, count(*) FILTER (WHERE consumed) AS consumed
FROM decode(translate(substr(:'good', 2), '-_', '+/') || '=', 'base64') AS bytes, generate_series(0, 65 * 8 - 1) AS bit,
	LATERAL (SELECT '1' || forge_base64url(set_bit(bytes, bit, 1 - get_bit(bytes, bit)))) AS v (t),
	LATERAL idem_token_status(t, 'p', 's') AS status, LATERAL idem_token_consume(t, 'p', 's') AS consumed;

-- cut, extended, blanks around it, padded, doubled
SELECT count(*), count(*) FILTER (WHERE status = 'invalid') AS invalid, count(*) FILTER (WHERE consumed) AS consumed
FROM (SELECT left(:'good', n) FROM generate_series(0, 87) AS n
	UNION ALL SELECT right(:'good', n) FROM generate_series(0, 87) AS n
	UNION ALL SELECT :'good' || x FROM (VALUES ('A'), ('='), (' '), (E'\n'), ('.'), ('é'), (:'good')) AS v (x)
	UNION ALL SELECT x || :'good' FROM (VALUES ('A'), ('='), (' '), (E'\n'), ('1')) AS v (x)
	UNION ALL SELECT overlay(:'good' PLACING x FROM 20) FROM (VALUES ('+'), ('/'), ('='), ('é'), ('€'), ('😀'), (''), ('AA')) AS v (x)
	WHERE overlay(:'good' PLACING x FROM 20) <> :'good') AS v (t),
	LATERAL idem_token_status(t, 'p', 's') AS status, LATERAL idem_token_consume(t, 'p', 's') AS consumed;
SELECT idem_token_status(t, 'p', 's') FROM (VALUES (''), (' '), ('no token'), (repeat('A', 88)), ('1' || repeat('A', 87)),
	(repeat('é', 44)), (repeat('A', 1000000)), ('{"a": 1}')) AS v (t);

-- 100,000 random and mutated ones: none is accepted, none raises, nothing is written, nothing leaks
SELECT setseed(0.5);
CREATE TEMPORARY TABLE forged AS
SELECT CASE i % 6
	WHEN 0 THEN '1' || left(noise, 87)
	WHEN 1 THEN overlay(:'good' PLACING left(noise, 1) FROM 1 + (random() * 87)::int)
	WHEN 2 THEN left(:'good', 45) || left(noise, 43)
	WHEN 3 THEN overlay(:'good' PLACING left(noise, 4) FROM 1 + (random() * 84)::int)
	WHEN 4 THEN left(noise, (random() * 130)::int)
	ELSE overlay(:'good' PLACING chr(1 + (random() * 53248)::int) FROM 1 + (random() * 87)::int)
	END AS t
FROM (SELECT i, forge_base64url(decode(md5(random()::text) || md5(random()::text) || md5(random()::text)
	|| md5(random()::text) || md5(random()::text) || md5(random()::text), 'hex')) AS noise
	FROM generate_series(1, 103000) AS i OFFSET 0) AS n;
DELETE FROM forged WHERE t = :'good';
DELETE FROM forged WHERE ctid NOT IN (SELECT ctid FROM forged LIMIT 100000);
SELECT count(*), count(*) FILTER (WHERE length(t) = 88) > 60000 AS most_have_the_length FROM forged;
-- once, so that what is kept for the session is there
SELECT idem_token_status(t, 'p', 's'), idem_token_consume(t, 'p', 's') FROM forged LIMIT 1;
SELECT sum(total_bytes) AS before FROM pg_backend_memory_contexts \gset
BEGIN;
SELECT count(*) FILTER (WHERE idem_token_status(t, 'p', 's') = 'invalid') AS invalid,
	count(*) FILTER (WHERE idem_token_consume(t, 'p', 's')) AS consumed FROM forged;
SELECT pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing;
SELECT sum(total_bytes) - :before < 500000 AS no_leak FROM pg_backend_memory_contexts;
COMMIT;

-- after all this the true one is as good as ever
SELECT idem_token_consume(:'good', 'p', 's');

DELETE FROM idem.token_spent;
DROP FUNCTION forge, forge_base64url, forge_hmac;
