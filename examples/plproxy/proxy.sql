-- For the database that clients connect to: it holds no orders, it knows where they are.
--
--   psql -d shop -v p0='dbname=shop0' -v p1='dbname=shop1' -v p2='dbname=shop2' -v p3='dbname=shop3' -f proxy.sql

CREATE EXTENSION plproxy;

-- The number of partitions is a power of two. A shard that does not answer is given up after "query_timeout" seconds;
-- the order may have been placed then, and the retry under the same key will tell.
CREATE SERVER shop FOREIGN DATA WRAPPER plproxy
OPTIONS (query_timeout '60', p0 :'p0', p1 :'p1', p2 :'p2', p3 :'p3');

CREATE USER MAPPING FOR PUBLIC SERVER shop;
GRANT USAGE ON FOREIGN SERVER shop TO PUBLIC;

-- Where a key lives. It must not change as long as keys are remembered.
CREATE FUNCTION shard_of(source text, seq text) RETURNS integer
LANGUAGE sql IMMUTABLE
AS $$ SELECT hashtext(source || '/' || seq) $$;

CREATE FUNCTION place_order(source text, seq text, request json, OUT placed boolean, OUT answer json)
LANGUAGE plproxy
AS $$
	CLUSTER 'shop';
	RUN ON shard_of(source, seq);
$$;

-- PL/Proxy splits the arrays by shard and asks all shards at once; the answers come back in any order.
CREATE FUNCTION place_orders_split(source text, seqs text[], requests json[], places integer[],
	OUT place integer, OUT placed boolean, OUT answer json)
RETURNS SETOF record
LANGUAGE plproxy
AS $$
	CLUSTER 'shop';
	SPLIT seqs, requests, places;
	RUN ON shard_of(source, seqs);
	TARGET place_orders;
$$;

-- So each order carries its place in the batch, by which the answers are put in order.
CREATE FUNCTION place_orders(source text, seqs text[], requests json[], OUT seq text, OUT placed boolean, OUT answer json)
RETURNS SETOF record
LANGUAGE sql
AS $$
	SELECT seqs[s.place], s.placed, s.answer
	FROM place_orders_split(source, seqs, requests, ARRAY(SELECT generate_subscripts(seqs, 1))) AS s
	ORDER BY s.place
$$;
