CREATE TABLE account (
	name	text PRIMARY KEY,
	balance	integer NOT NULL
);

CREATE TABLE entry (
	message	text NOT NULL,
	account	text NOT NULL REFERENCES account,
	amount	integer NOT NULL CHECK (amount > 0)
);

-- Messages that cannot be worked on, for a human.
CREATE TABLE set_aside (
	message	text PRIMARY KEY,
	body	bytea NOT NULL,
	why		text NOT NULL
);

-- A message id is a UUID of version 7. One that is not, or is older than a week and unknown, is set aside.
SELECT idem_policy('orders', retention => '7 days', key_time => 'uuidv7');
