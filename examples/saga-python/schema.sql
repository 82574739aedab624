-- Three services. In a real system each has a database of its own; here each has a schema, and calls the others over a network
-- that loses things.
SELECT idem_stock_add('tea', 100000);

CREATE TABLE account (
	name	text PRIMARY KEY,
	balance	integer NOT NULL CHECK (balance >= 0)
);

-- What the order service knows: it drives the saga.
CREATE TABLE orders (
	id		text PRIMARY KEY,
	customer text NOT NULL,
	quantity integer NOT NULL,
	price	integer NOT NULL,
	status	text NOT NULL DEFAULT 'created'
);

SELECT idem_machine('saga', 'created -> reserved -> paid -> done; created -> cancelled; reserved -> cancelled');

CREATE TRIGGER orders_state BEFORE INSERT OR UPDATE ON orders
	FOR EACH ROW EXECUTE FUNCTION idem_state('saga', 'status');
