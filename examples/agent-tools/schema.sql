CREATE TABLE account (
	name	text PRIMARY KEY,
	balance	integer NOT NULL CHECK (balance >= 0)
);

CREATE TABLE transfer (
	id		bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	invoice	text NOT NULL,
	payer	text NOT NULL REFERENCES account,
	payee	text NOT NULL REFERENCES account,
	amount	integer NOT NULL CHECK (amount > 0)
);
