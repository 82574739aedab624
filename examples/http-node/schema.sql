CREATE TABLE account (
	name	text PRIMARY KEY,
	balance	integer NOT NULL CHECK (balance >= 0)
);

CREATE TABLE payment (
	id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account	text NOT NULL REFERENCES account,
	amount	integer NOT NULL CHECK (amount > 0),
	note	text,
	paid_at	timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Keys are UUIDs of version 7 and are remembered for a day: a retry that is older gets 410, and is never run again.
SELECT idem_policy('POST /payments', retention => '24 hours', key_time => 'uuidv7');
