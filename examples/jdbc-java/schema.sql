CREATE TABLE account (
	name	text PRIMARY KEY,
	balance	integer NOT NULL
);

CREATE TABLE entry (
	id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	message	text NOT NULL,
	account	text NOT NULL REFERENCES account,
	amount	integer NOT NULL CHECK (amount > 0)
);
