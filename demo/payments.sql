/*
 * What the workers without idem know about a payment: a column that says whether it was made.
 * With idem the record of the attempt is all they need.
 */
CREATE SCHEMA payments;

CREATE TABLE payments.payment (
	id      integer PRIMARY KEY,
	state   text NOT NULL DEFAULT 'new'
);
COMMENT ON TABLE payments.payment IS 'payments to be made; state is new or paid';
