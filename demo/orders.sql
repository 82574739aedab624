/*
 * The shop that the demo's clients order from: products with a stock, orders, and the function that makes one.
 *
 * Nothing here knows about idempotency, and that is the point. demo.orders has an index on the client's key but no
 * unique one, so whoever runs the same order twice gets two orders, two lines on the bill, and two products gone from
 * the stock. What keeps that from happening is idem_call or idem_claim around it, or nothing at all in the controls.
 */
CREATE SCHEMA demo;

CREATE TABLE demo.product (
	id      integer PRIMARY KEY,
	name    text NOT NULL,
	stock   bigint NOT NULL CHECK (stock >= 0)
);
COMMENT ON TABLE demo.product IS 'what the shop sells, and how many of each are left';

CREATE TABLE demo.orders (
	id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	client_key  text NOT NULL,
	product     integer NOT NULL REFERENCES demo.product,
	answer      text NOT NULL
);
CREATE INDEX orders_client_key ON demo.orders (client_key, id);
COMMENT ON TABLE demo.orders IS 'orders made; the same client_key twice is a double';
COMMENT ON COLUMN demo.orders.answer IS 'what the client was told about this order, to the byte';

INSERT INTO demo.product (id, name, stock)
SELECT p, 'product ' || p, 1000000
FROM pg_catalog.generate_series(1, 50) AS p;

/*
 * The answer names the order and holds a random number, so running an order twice never gives the same answer twice.
 * Blanks, a repeated field and an escape are there to be lost: a replay out of a jsonb column would not be the same
 * bytes.
 */
CREATE FUNCTION demo.write_answer() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	NEW.answer := pg_catalog.format('{"order": %s,  "lottery":%s, "text":"merci \u00e0 vous", "order" : %s }',
									NEW.id, pg_catalog.random(), NEW.id);
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION demo.write_answer() IS 'gives a new order the answer that its client will get';

CREATE TRIGGER write_answer BEFORE INSERT ON demo.orders
FOR EACH ROW EXECUTE FUNCTION demo.write_answer();

/*
 * A commit takes time, where it matters: a disk is flushed, a standby confirms. Until then nobody else sees the order.
 * The private server of the demo has neither, so that time is spent here, at the commit, in every variant alike: it is
 * the window in which a client gives up, comes back, and meets its own first request still at work.
 */
CREATE FUNCTION demo.commit_takes_time() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_sleep(pg_catalog.random() * 0.030);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION demo.commit_takes_time() IS 'makes the commit of an order take up to 30 ms';

CREATE CONSTRAINT TRIGGER commit_takes_time AFTER INSERT ON demo.orders
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION demo.commit_takes_time();

/* The operation for idem_call: request is {"key": text, "product": integer}. */
CREATE FUNCTION demo.create_order(request json) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
	made text;
BEGIN
	INSERT INTO demo.orders (client_key, product)
	VALUES (request ->> 'key', (request ->> 'product')::integer)
	RETURNING answer INTO made;

	UPDATE demo.product SET stock = stock - 1
	WHERE id = (request ->> 'product')::integer;

	RETURN made::json;
END
$$;
COMMENT ON FUNCTION demo.create_order(json) IS 'makes an order, takes its product from the stock, returns the answer';
