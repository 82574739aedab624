/*
 * What the workers without idem know about a text message: a column that says whether it was sent.
 * With idem the record of the attempt is all they need.
 */
CREATE SCHEMA sms;

CREATE TABLE sms.message (
	id      integer PRIMARY KEY,
	state   text NOT NULL DEFAULT 'new'
);
COMMENT ON TABLE sms.message IS 'text messages to be sent; state is new or sent';
