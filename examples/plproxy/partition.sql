-- For each of the four databases: the orders that belong here, and the function that makes one.
--
--   psql -d shop0 -f partition.sql		and shop1, shop2, shop3

CREATE EXTENSION idem;

CREATE TABLE orders (
	source text NOT NULL,
	seq text NOT NULL,
	item text NOT NULL,
	quantity integer NOT NULL,
	PRIMARY KEY (source, seq)
);

-- Claim, work and answer are in one function. PL/Proxy sends it as one statement, so it is one transaction of this
-- database: all of it happens, or nothing.
CREATE FUNCTION place_order(source text, seq text, request json, OUT placed boolean, OUT answer json)
LANGUAGE plpgsql
AS $$
BEGIN
	placed := idem_claim(source, seq, request::jsonb);
	IF placed THEN
		INSERT INTO orders VALUES (source, seq, request ->> 'item', (request ->> 'quantity')::integer);
		answer := json_build_object('order', seq, 'shard', current_database());
		PERFORM idem_respond(source, seq, answer);
	ELSE
		answer := idem_response(source, seq);
	END IF;
END
$$;

-- The part of a batch that belongs here. "places" says where each order stands in the whole batch. The keys are taken
-- in one order by everybody, so two batches never wait for each other in a circle.
CREATE FUNCTION place_orders(source text, seqs text[], requests json[], places integer[],
	OUT place integer, OUT placed boolean, OUT answer json)
RETURNS SETOF record
LANGUAGE plpgsql
AS $$
DECLARE
	one record;
BEGIN
	FOR one IN
		SELECT * FROM unnest(seqs, requests, places) AS b (seq, request, place) ORDER BY b.seq COLLATE "C", b.place
	LOOP
		SELECT o.placed, o.answer INTO placed, answer FROM place_order(source, one.seq, one.request) AS o;
		place := one.place;
		RETURN NEXT;
	END LOOP;
END
$$;
