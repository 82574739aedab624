/*
 * Orders whose state is set by messages, three tables of them, and the machine that knows the order of the states.
 * The first two get the very same statement; only the second has the trigger.
 */
CREATE SCHEMA messages;

SELECT idem_machine('order', 'created -> paid -> shipped -> delivered; created -> cancelled; paid -> cancelled')
\g /dev/null

CREATE TABLE messages.naive (id integer PRIMARY KEY, state text NOT NULL);
CREATE TABLE messages.trigger (LIKE messages.naive INCLUDING ALL);
CREATE TABLE messages.advance (LIKE messages.naive INCLUDING ALL);

COMMENT ON TABLE messages.naive IS 'orders that believe each message';
COMMENT ON TABLE messages.trigger IS 'orders guarded by idem_state, which may skip states';
COMMENT ON TABLE messages.advance IS 'orders that idem_advance moves, one state after the other';

CREATE TRIGGER state BEFORE INSERT OR UPDATE ON messages.trigger
FOR EACH ROW EXECUTE FUNCTION idem_state('order', 'state', 'ahead=allow');
