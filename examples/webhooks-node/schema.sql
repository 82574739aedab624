-- An order goes one way: a message of an earlier state comes too late, and changes nothing.
SELECT idem_machine('order', 'created -> paid -> shipped -> delivered; created -> cancelled; paid -> refunded');

CREATE TABLE orders (
	id		text PRIMARY KEY,
	status	text NOT NULL
);

CREATE TRIGGER orders_state BEFORE INSERT OR UPDATE ON orders
	FOR EACH ROW EXECUTE FUNCTION idem_state('order', 'status', 'ahead=allow');

-- A subscription may be active, paused and active again: only the sender's number of the change tells late from new.
CREATE TABLE subscription (
	id			text PRIMARY KEY,
	status		text NOT NULL,
	changed_at	bigint NOT NULL
);

CREATE TRIGGER subscription_newer BEFORE UPDATE OF changed_at ON subscription
	FOR EACH ROW EXECUTE FUNCTION idem_newer('changed_at', 'equal=skip');

-- What is done once for each delivery: here the points that a paid order brings.
CREATE TABLE points (
	order_id	text NOT NULL,
	points		integer NOT NULL
);

-- The sender tries for three days; the time of a delivery stands at the beginning of its id.
SELECT idem_policy('webhook', retention => '7 days', key_time => 'unix');
