-- Three services. In a real system each has a database of its own; they share nothing here but the order's number.

-- stock
SELECT idem_stock_add('tea', 100000);

-- payment
CREATE TABLE account (
	name	text PRIMARY KEY,
	balance	integer NOT NULL CHECK (balance >= 0)
);

CREATE TABLE ledger (
	order_id	text NOT NULL,
	amount		integer NOT NULL		-- charged: positive, refunded: negative
);

-- order: drives the saga. That it is being cancelled is written before anything is undone.
CREATE TABLE orders (
	id			text PRIMARY KEY,
	customer	text NOT NULL,
	quantity	integer NOT NULL,
	price		integer NOT NULL,
	status		text NOT NULL DEFAULT 'created'
);

SELECT idem_machine('saga', 'created -> reserved -> paid -> done; created -> cancelling; reserved -> cancelling -> cancelled');
