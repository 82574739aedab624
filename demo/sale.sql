/*
 * A flash sale: one hot item, and four ways to take a piece of it. Each way has its shelf and writes down what it sold.
 *
 * What makes one hot row slow is that its lock is held until the commit is on disk. The private server of the demo does
 * not flush at other times, so that is switched on here.
 */
ALTER SYSTEM SET fsync = on;
SELECT pg_catalog.pg_reload_conf() \g /dev/null

CREATE SCHEMA sale;

CREATE TABLE sale.shelf (
	way     text,
	bucket  integer,
	pieces  integer NOT NULL,
	PRIMARY KEY (way, bucket)
) WITH (fillfactor = 50);
COMMENT ON TABLE sale.shelf IS 'what the ways without idem believe is left; idem has its own stock';

CREATE TABLE sale.sold (
	way     text,
	seq     text,
	pieces  integer NOT NULL,
	PRIMARY KEY (way, seq)
);
COMMENT ON TABLE sale.sold IS 'what the ways without idem have sold; idem has its own holds';

CREATE TABLE sale.refused (
	way     text,
	pieces  integer NOT NULL,
	at      timestamptz NOT NULL
);
COMMENT ON TABLE sale.refused IS 'buyers who were turned away, what they wanted, and the clock right after the decision';

/* With idem. */
CREATE FUNCTION sale.buy_idem(seq text, wanted integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	RETURN idem_stock_reserve('sale', seq, 'hot', wanted);
END
$$;

/* The plain way, and it is right: one row, one conditional UPDATE. */
CREATE FUNCTION sale.buy_row(seq text, wanted integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE sale.shelf SET pieces = pieces - wanted WHERE way = 'row' AND bucket = 1 AND pieces >= wanted;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	INSERT INTO sale.sold VALUES ('row', seq, wanted);
	RETURN true;
END
$$;

/* The clever way: sixteen rows, take one that nobody has locked. */
CREATE FUNCTION sale.buy_skip(seq text, wanted integer) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	free integer;
BEGIN
	SELECT bucket INTO free FROM sale.shelf WHERE way = 'skip' AND pieces >= wanted LIMIT 1 FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE sale.shelf SET pieces = pieces - wanted WHERE way = 'skip' AND bucket = free;
	INSERT INTO sale.sold VALUES ('skip', seq, wanted);
	RETURN true;
END
$$;

/* The naive way: read, compare, write what is left. */
CREATE FUNCTION sale.buy_naive(seq text, wanted integer) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	there integer := (SELECT pieces FROM sale.shelf WHERE way = 'naive' AND bucket = 1);
BEGIN
	IF there < wanted THEN
		RETURN false;
	END IF;
	UPDATE sale.shelf SET pieces = there - wanted WHERE way = 'naive' AND bucket = 1;
	INSERT INTO sale.sold VALUES ('naive', seq, wanted);
	RETURN true;
END
$$;

/* One purchase: true if it was sold, otherwise the refusal is written down. */
CREATE FUNCTION sale.buy(way text, seq text, wanted integer) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	bought boolean;
BEGIN
	IF way = 'idem' THEN
		bought := sale.buy_idem(seq, wanted);
	ELSIF way = 'row' THEN
		bought := sale.buy_row(seq, wanted);
	ELSIF way = 'skip' THEN
		bought := sale.buy_skip(seq, wanted);
	ELSE
		bought := sale.buy_naive(seq, wanted);
	END IF;
	IF NOT bought THEN
		INSERT INTO sale.refused VALUES (way, wanted, pg_catalog.clock_timestamp());
	END IF;
	RETURN bought;
END
$$;
COMMENT ON FUNCTION sale.buy(text, text, integer) IS 'buys so many pieces in this way; false: turned away';

/*
 * What was sold and when. A commit takes its time stamp before anybody can see it, so what was sold up to a refusal is
 * never counted too low.
 */
CREATE VIEW sale.sales AS
SELECT way, pieces::numeric, pg_catalog.pg_xact_commit_timestamp(xmin) AS at FROM sale.sold
UNION ALL
SELECT 'idem', q, pg_catalog.pg_xact_commit_timestamp(h.xmin)
FROM idem.hold AS h, pg_catalog.unnest(h.quantities) AS q WHERE h.source = 'sale';

/* How many were turned away although enough was there: pieces only ever go, so it is enough to look at what was sold by then. */
CREATE FUNCTION sale.wrongly_refused(which text, offered numeric) RETURNS bigint
LANGUAGE sql AS $$
	WITH s AS MATERIALIZED (SELECT pieces, at FROM sale.sales WHERE way = which)
	SELECT pg_catalog.count(*) FROM sale.refused AS r
	WHERE r.way = which AND r.pieces <= offered - (SELECT coalesce(pg_catalog.sum(s.pieces), 0) FROM s WHERE s.at < r.at)
$$;
COMMENT ON FUNCTION sale.wrongly_refused(text, numeric) IS 'refusals of a way that were wrong, if so many pieces were offered';
