/* idem--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION idem" to load this file. \quit

--
-- Tables.  Nobody but the owner may touch them: the functions below are the
-- only way in.  A schema of this name that is already there makes CREATE
-- EXTENSION fail, so nobody can have prepared objects in it.  The exception is
-- CREATE EXTENSION idem SCHEMA idem, into a schema that is empty and belongs to
-- whoever creates the extension.
--

DO LANGUAGE plpgsql $$
DECLARE
	objects pg_catalog.int8;
	owner pg_catalog.name;
BEGIN
	IF '@extschema@' OPERATOR(pg_catalog.<>) 'idem' THEN
		CREATE SCHEMA idem;
		RETURN;
	END IF;

	SELECT pg_catalog.count(d.objid), pg_catalog.max(r.rolname::pg_catalog.text)
	INTO objects, owner
	FROM pg_catalog.pg_namespace AS n
		JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
		LEFT JOIN pg_catalog.pg_depend AS d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
			AND d.refobjid OPERATOR(pg_catalog.=) n.oid
			AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass
	WHERE n.nspname OPERATOR(pg_catalog.=) 'idem';
	IF owner OPERATOR(pg_catalog.<>) CURRENT_USER THEN
		RAISE EXCEPTION 'schema "idem" belongs to another role'
			USING ERRCODE = 'insufficient_privilege',
				DETAIL = pg_catalog.format('It belongs to "%s", who could change what idem keeps in it.', owner),
				HINT = pg_catalog.format('Run ALTER SCHEMA idem OWNER TO %I, or choose another schema.', CURRENT_USER);
	ELSIF objects OPERATOR(pg_catalog.>) 0 THEN
		RAISE EXCEPTION 'schema "idem" is not empty'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = pg_catalog.format('It holds %s objects.', objects),
				HINT = 'Drop them, or choose another schema.';
	END IF;
END
$$;

-- Claims and attempts: one row for each key (source, seq).  In the index seq
-- comes first: sources are few, and to compare them in each step of a descent
-- would cost a tenth of a claim.  The fillfactor
-- leaves room for the answer, which then needs no index entry of its own.
-- The owner is stored by name: an OID means another role after dump and restore,
-- in a binary subscription, and on another node of a cluster.
CREATE TABLE idem.claim (
	source pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	seq pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	owner pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	status pg_catalog."char" NOT NULL,
	fence pg_catalog.int8 NOT NULL,
	claimed_at pg_catalog.timestamptz,
	completed_at pg_catalog.timestamptz,
	lease_until pg_catalog.timestamptz,
	request pg_catalog.bytea,
	response pg_catalog.json,
	unsettled_since pg_catalog.timestamptz,
	CONSTRAINT claim_pkey PRIMARY KEY (seq, source)
) USING heap WITH (fillfactor = 80);

-- a long key stays in its row, where the index and the purge read it
ALTER TABLE idem.claim ALTER COLUMN source SET STORAGE MAIN, ALTER COLUMN seq SET STORAGE MAIN;

-- idem_unsettled looks for what runs, has expired or is open; a settled key is
-- not in it, so claims never touch it, and attempts do only when they begin, are
-- given back and granted again, or are settled
CREATE INDEX claim_unsettled_since ON idem.claim USING btree (unsettled_since) WHERE unsettled_since IS NOT NULL;

COMMENT ON TABLE idem.claim IS 'claims and attempts, one row for each key';
COMMENT ON COLUMN idem.claim.owner IS 'name of the role that the key belongs to';
COMMENT ON COLUMN idem.claim.status IS 'd done, r running, o open, f failed, c cancelled';
COMMENT ON COLUMN idem.claim.fence IS 'number of the latest attempt; 0 if claimed';
COMMENT ON COLUMN idem.claim.claimed_at IS 'when the key was claimed, or the latest attempt granted';
COMMENT ON COLUMN idem.claim.completed_at IS 'when it was answered, failed or cancelled';
COMMENT ON COLUMN idem.claim.lease_until IS 'status r: when the attempt expires';
COMMENT ON COLUMN idem.claim.request IS 'of the request: 8 bytes of a SHA-256 over its value, and a hash of its bytes, 8';
COMMENT ON COLUMN idem.claim.response IS 'the recorded answer, byte for byte';
COMMENT ON COLUMN idem.claim.unsettled_since IS 'claimed_at while an attempt runs, has expired or gave the key back; otherwise null';

SELECT pg_catalog.pg_extension_config_dump('idem.claim', '');

-- Policies: how long a source is remembered.  A row stays when its policy is
-- dropped, for the mark must never go back, nor after pg_dump; the source ''
-- has the mark of all sources that never had a policy, and is made by the first
-- purge: a row of this script would be in the way of that of a dump.  Sessions
-- learn of a change by the message that idem_policy and idem_purge send.
CREATE TABLE idem.policy (
	source pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	retention pg_catalog.interval,
	key_time pg_catalog.text COLLATE pg_catalog."C",
	key_times pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	mark pg_catalog.timestamptz NOT NULL,
	CONSTRAINT policy_pkey PRIMARY KEY (source)
) USING heap;

COMMENT ON TABLE idem.policy IS 'how long sources are remembered, and what was purged of them';
COMMENT ON COLUMN idem.policy.source IS 'empty: sources without a policy';
COMMENT ON COLUMN idem.policy.retention IS 'null: there is no policy, or no longer';
COMMENT ON COLUMN idem.policy.key_time IS 'how the time of a key is read; null: keys are not judged';
COMMENT ON COLUMN idem.policy.key_times IS 'every key_time that the source has had, each followed by a space';
COMMENT ON COLUMN idem.policy.mark IS 'keys from up to this time may have been purged; it only rises';

SELECT pg_catalog.pg_extension_config_dump('idem.policy', '');

-- Locks: one row for each name, which stays when the lock is released, for its
-- fence must never go back, nor after pg_dump.  A row is changed with each
-- grant and release; half of each page is left for that, so that no change
-- needs an index entry.
CREATE TABLE idem.lock (
	name pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	owner pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	fence pg_catalog.int8 NOT NULL,
	locked_at pg_catalog.timestamptz NOT NULL,
	lease_until pg_catalog.timestamptz,
	CONSTRAINT lock_pkey PRIMARY KEY (name)
) USING heap WITH (fillfactor = 50);

COMMENT ON TABLE idem.lock IS 'locks, one row for each name that was ever locked';
COMMENT ON COLUMN idem.lock.owner IS 'name of the role that the lock belongs to';
COMMENT ON COLUMN idem.lock.fence IS 'number of the latest grant';
COMMENT ON COLUMN idem.lock.locked_at IS 'when it was granted';
COMMENT ON COLUMN idem.lock.lease_until IS 'when it expires; null: released';

SELECT pg_catalog.pg_extension_config_dump('idem.lock', '');

-- State machines: one row for each transition, in the order of the definition;
-- a row without a target is a state that stands alone.  Sessions learn of a
-- change by the message that idem_machine sends: to write here by other means
-- leaves them with what they know.
CREATE TABLE idem.transition (
	machine pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	position pg_catalog.int8 NOT NULL,
	from_state pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	to_state pg_catalog.text COLLATE pg_catalog."C",
	CONSTRAINT transition_pkey PRIMARY KEY (machine, position)
) USING heap;

COMMENT ON TABLE idem.transition IS 'state machines, one row for each transition';
COMMENT ON COLUMN idem.transition.position IS 'place in the definition, from 1';
COMMENT ON COLUMN idem.transition.to_state IS 'null: from_state stands alone';

SELECT pg_catalog.pg_extension_config_dump('idem.transition', '');

-- Tokens: the secrets that sign them, those that were consumed, and how many
-- were issued where that is limited.  A key's number is random, so that those
-- of a dump never collide with the one that is made below.
CREATE TABLE idem.token_key (
	id pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	secret pg_catalog.bytea NOT NULL,
	created_at pg_catalog.timestamptz NOT NULL,
	verify_until pg_catalog.timestamptz,
	CONSTRAINT token_key_pkey PRIMARY KEY (id)
) USING heap;

COMMENT ON TABLE idem.token_key IS 'secrets that sign and verify tokens';
COMMENT ON COLUMN idem.token_key.id IS 'number of the key: characters 2 to 13 of its tokens';
COMMENT ON COLUMN idem.token_key.secret IS 'key of the HMAC';
COMMENT ON COLUMN idem.token_key.created_at IS 'when it was made; of those without verify_until the newest signs';
COMMENT ON COLUMN idem.token_key.verify_until IS 'null: may sign; otherwise it only verifies, until then';

CREATE TABLE idem.token_spent (
	nonce pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	expires_at pg_catalog.timestamptz NOT NULL,
	consumed_at pg_catalog.timestamptz NOT NULL,
	CONSTRAINT token_spent_pkey PRIMARY KEY (nonce)
) USING heap;

COMMENT ON TABLE idem.token_spent IS 'tokens that were consumed';
COMMENT ON COLUMN idem.token_spent.nonce IS 'expiry and nonce: characters 14 to 45 of the token';
COMMENT ON COLUMN idem.token_spent.expires_at IS 'from then on the row is of no use';
COMMENT ON COLUMN idem.token_spent.consumed_at IS 'when it was consumed';

CREATE TABLE idem.token_rate (
	purpose pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	subject pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	window_end pg_catalog.timestamptz NOT NULL,
	issued pg_catalog.int4 NOT NULL,
	CONSTRAINT token_rate_pkey PRIMARY KEY (purpose, subject)
) USING heap WITH (fillfactor = 50);

COMMENT ON TABLE idem.token_rate IS 'tokens issued under a limit, one row for each purpose and subject';
COMMENT ON COLUMN idem.token_rate.window_end IS 'end of the window that is counted in';
COMMENT ON COLUMN idem.token_rate.issued IS 'tokens issued in it';

SELECT pg_catalog.pg_extension_config_dump('idem.token_key', '');
SELECT pg_catalog.pg_extension_config_dump('idem.token_spent', '');
SELECT pg_catalog.pg_extension_config_dump('idem.token_rate', '');

-- Stock: an item's quantity is the sum of its buckets.  The quantity is in no
-- index and half of a page stays free, so that a change needs no index entry
-- and finds room beside the version before it.
CREATE TABLE idem.stock (
	item pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	bucket pg_catalog.int4 NOT NULL,
	quantity pg_catalog.numeric NOT NULL,
	CONSTRAINT stock_pkey PRIMARY KEY (item, bucket)
) USING heap WITH (fillfactor = 50);

COMMENT ON TABLE idem.stock IS 'what is available of each item';
COMMENT ON COLUMN idem.stock.bucket IS 'several let several transactions take of one item at once; from 0: as many as idem_stock_add was told to make; from 1024: made where transactions met, gone when empty';

-- Holds: one row for each order (source, seq), with what it has of which item.
-- One row, not one for each item, so that the order is confirmed, released or
-- refused as a whole and its key decides who was first.
CREATE TABLE idem.hold (
	source pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	seq pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	owner pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	status pg_catalog."char" NOT NULL,
	expires_at pg_catalog.timestamptz,
	reserved_at pg_catalog.timestamptz,
	decided_at pg_catalog.timestamptz,
	items pg_catalog._text COLLATE pg_catalog."C",
	quantities pg_catalog._numeric,
	firsts pg_catalog._numeric,
	CONSTRAINT hold_pkey PRIMARY KEY (source, seq)
) USING heap WITH (fillfactor = 80);

-- idem_stock_expire looks for what is due; holds without a time to live, and
-- those that are decided, are not in it
CREATE INDEX hold_expires_at ON idem.hold USING btree (expires_at) WHERE expires_at IS NOT NULL;

COMMENT ON TABLE idem.hold IS 'what orders hold of the stock, one row for each order';
COMMENT ON COLUMN idem.hold.owner IS 'name of the role that the order belongs to';
COMMENT ON COLUMN idem.hold.status IS 'h held, c confirmed, r released, x expired';
COMMENT ON COLUMN idem.hold.expires_at IS 'status h: when it may be given back; null: never by itself';
COMMENT ON COLUMN idem.hold.reserved_at IS 'when it was made; null if it was released before';
COMMENT ON COLUMN idem.hold.decided_at IS 'when it was confirmed, released or expired';
COMMENT ON COLUMN idem.hold.items IS 'sorted, each once; null if it was released before it was made';
COMMENT ON COLUMN idem.hold.quantities IS 'of each item: how much is held, or was when it was decided';
COMMENT ON COLUMN idem.hold.firsts IS 'of each item: how much was held of it first, by which retries are judged; null: as much as in quantities';

SELECT pg_catalog.pg_extension_config_dump('idem.stock', '');
SELECT pg_catalog.pg_extension_config_dump('idem.hold', '');

--
-- Claims: the work is in this transaction
--

CREATE FUNCTION @extschema@.idem_claim(source pg_catalog.text, seq pg_catalog.anycompatible, request pg_catalog.jsonb DEFAULT NULL, wait pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_claim';

COMMENT ON FUNCTION @extschema@.idem_claim(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.jsonb, pg_catalog.bool) IS
'claims a key (source: 1 to 255 bytes; seq: text, varchar, smallint, integer, bigint or uuid, 1 to 1024 bytes as text) for this transaction; true: the caller is the first and does the work, false: the key is done, failed or cancelled, or this transaction has claimed it; request: compared with the one recorded, null is not compared, and that of an open key is replaced; wait: wait for a transaction that holds the key, or raise ID409 at once; errors: 22004, 22023, 25006, 40001, 42501, 42804 for another type of seq, ID409 if an attempt holds the key, or without wait a transaction does, ID410 if the key is older than what is remembered, ID422';

CREATE FUNCTION @extschema@.idem_claim_batch(source pg_catalog.text, seqs pg_catalog.anycompatiblearray, wait pg_catalog.bool DEFAULT true, OUT seq pg_catalog.text, OUT claimed pg_catalog.bool, OUT status pg_catalog.text)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000 ROWS 1000
AS 'MODULE_PATHNAME', 'idem_claim_batch';

COMMENT ON FUNCTION @extschema@.idem_claim_batch(pg_catalog.text, pg_catalog.anycompatiblearray, pg_catalog.bool) IS
'claims the keys (source, each of seqs: 1 to 1024 bytes) and answers for each, in the order given; a key that is given twice is claimed once; claimed: as idem_claim answers; status: claimed, or what the key is: done, running, expired, failed, cancelled, or with wait off busy if another transaction is at it; gone if it is older than what is remembered, invalid if its time cannot be read; two batches never deadlock over the order of their keys; errors: 22004, 22023, 25006, 40001, 42501, 42804';

CREATE FUNCTION @extschema@.idem_respond(source pg_catalog.text, seq pg_catalog.anycompatible, response pg_catalog.json)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_respond';

COMMENT ON FUNCTION @extschema@.idem_respond(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.json) IS
'records the answer of a claim, byte for byte; true: recorded now, false: the same answer was recorded before; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID404 if the key is not claimed, ID409 if an attempt holds it, ID410 in place of ID404 if the key is older than what is remembered, ID412 if another answer is recorded or the key was cancelled';

CREATE FUNCTION @extschema@.idem_response(source pg_catalog.text, seq pg_catalog.anycompatible)
RETURNS pg_catalog.json
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_response';

COMMENT ON FUNCTION @extschema@.idem_response(pg_catalog.text, pg_catalog.anycompatible) IS
'the recorded answer of a key, null if there is none; writes nothing, waits for nobody, works on a standby; errors: 22004, 22023, 42501, 42804';

CREATE FUNCTION @extschema@.idem_lookup(source pg_catalog.text, seq pg_catalog.anycompatible, OUT status pg_catalog.text, OUT fence pg_catalog.int8, OUT response pg_catalog.json, OUT claimed_at pg_catalog.timestamptz, OUT completed_at pg_catalog.timestamptz, OUT lease_until pg_catalog.timestamptz, OUT owner pg_catalog.name)
RETURNS pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_lookup';

COMMENT ON FUNCTION @extschema@.idem_lookup(pg_catalog.text, pg_catalog.anycompatible) IS
'all that is known of a key, all null if nothing is; status: done, running, expired (its lease ran out, outcome unknown), open (given back), failed, cancelled, gone (not on record, and older than what is remembered); owner: the role that it belongs to; writes nothing, waits for nobody, works on a standby; errors: 22004, 22023, 42501, 42804';

CREATE FUNCTION @extschema@.idem_call(source pg_catalog.text, seq pg_catalog.anycompatible, function pg_catalog.regproc, request pg_catalog.jsonb, wait pg_catalog.bool DEFAULT true, compare pg_catalog.jsonb DEFAULT NULL)
RETURNS pg_catalog.json
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_call';

COMMENT ON FUNCTION @extschema@.idem_call(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.regproc, pg_catalog.jsonb, pg_catalog.bool, pg_catalog.jsonb) IS
'claims the key, runs function(request) as the caller, records its answer and returns it; for a duplicate returns the recorded answer, null if there is none because another transaction only claimed the key, and runs nothing; function takes one json or jsonb, further arguments taking their defaults, and returns json or jsonb, null being recorded as JSON null; an overloaded one is named by ''name(jsonb)''::regprocedure; wait: wait for a transaction that holds the key, or raise ID409 at once; compare: compared with the one recorded, in place of request; errors: 22004, 22023, 25006, 40001, 42501, 42804, 42809, 42883, ID409 also if this transaction has claimed the key and not answered it, ID410 if the key is older than what is remembered, ID412 if the key was cancelled, ID422, and whatever the function raises';

CREATE FUNCTION @extschema@.idem_handle(source pg_catalog.text, seq pg_catalog.anycompatible, function pg_catalog.regproc, request pg_catalog.jsonb, wait pg_catalog.bool DEFAULT true, compare pg_catalog.jsonb DEFAULT NULL, OUT replayed pg_catalog.bool, OUT response pg_catalog.json)
RETURNS pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_handle';

COMMENT ON FUNCTION @extschema@.idem_handle(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.regproc, pg_catalog.jsonb, pg_catalog.bool, pg_catalog.jsonb) IS
'as idem_call, and says what it was; replayed: false if the function ran now, true for a duplicate; response: the answer, null if another transaction claimed the key and gave none; errors: 22004, 22023, 25006, 40001, 42501, 42804, 42809, 42883, ID409 also if this transaction has claimed the key and not answered it, ID410 if the key is older than what is remembered, ID412 if the key was cancelled, ID422, and whatever the function raises';

CREATE FUNCTION @extschema@.idem_cancel(source pg_catalog.text, seq pg_catalog.anycompatible)
RETURNS pg_catalog.text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_cancel';

COMMENT ON FUNCTION @extschema@.idem_cancel(pg_catalog.text, pg_catalog.anycompatible) IS
'makes sure that a key will never run and returns its status after: cancelled, or done or failed, which the caller has to compensate; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID409 while it runs, ID410 if the key is older than what is remembered';

CREATE FUNCTION @extschema@.idem_forget(source pg_catalog.text, seq pg_catalog.anycompatible)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_forget';

COMMENT ON FUNCTION @extschema@.idem_forget(pg_catalog.text, pg_catalog.anycompatible) IS
'for administrators: removes what is known of a key, so that it may be used afresh; superusers and the extension''s owner reach all keys, others those of roles that they may act as; true: removed now, false: there was nothing; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID409 while it runs';

CREATE PROCEDURE @extschema@.idem_purge(older_than pg_catalog.interval DEFAULT NULL, batch pg_catalog.int4 DEFAULT 10000, source pg_catalog.text DEFAULT NULL)
LANGUAGE C
AS 'MODULE_PATHNAME', 'idem_purge';

COMMENT ON PROCEDURE @extschema@.idem_purge(pg_catalog.interval, pg_catalog.int4, pg_catalog.text) IS
'for administrators: removes the keys that were done, failed or cancelled and the holds that were confirmed, released or expired for longer than the retention of their source, or without a policy for longer than older_than (null: not at all), and whose key is as old; also tokens that were consumed and have expired and counts whose window is over, both longer than older_than ago if it is given; source: only of this one, and no tokens; batch: commit after so many rows at the latest, with a notice of what went; never a running, expired or open key; errors: 22004, 22023, 25001 inside a transaction block, 25006';

--
-- Policies: how long a source is remembered
--

CREATE FUNCTION @extschema@.idem_policy(source pg_catalog.text, retention pg_catalog.interval DEFAULT NULL, key_time pg_catalog.text DEFAULT NULL, not_before pg_catalog.timestamptz DEFAULT NULL)
RETURNS pg_catalog.void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_policy';

COMMENT ON FUNCTION @extschema@.idem_policy(pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.timestamptz) IS
'for administrators: makes or changes the policy of a source; null leaves what was set; retention: how long its keys are remembered, needed for a new policy; key_time: how the time of a key is read from it: uuidv7, ulid, unix, snowflake, snowflake:EPOCH_MS, date, or none; a key that is not on record is then refused, with 22023 if it has no such time, and with ID410 unless its time is later than both the mark and now less the retention; not_before: raises the mark, which never falls; waits for the batch of a purge; errors: 22004, 22023, 25006';

CREATE FUNCTION @extschema@.idem_policy_drop(source pg_catalog.text)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_policy_drop';

COMMENT ON FUNCTION @extschema@.idem_policy_drop(pg_catalog.text) IS
'for administrators: ends the policy of a source, whose mark stays for a later one; true: dropped now, false: there was none; waits for the batch of a purge; errors: 22004, 22023, 25006';

CREATE FUNCTION @extschema@.idem_retention(source pg_catalog.text)
RETURNS pg_catalog.interval
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_retention';

COMMENT ON FUNCTION @extschema@.idem_retention(pg_catalog.text) IS
'for how long the keys of a source are remembered, by its policy; null: nothing is promised; writes nothing, works on a standby; errors: 22004, 22023';

--
-- Tokens: issued at will, consumed once
--

CREATE FUNCTION @extschema@.idem_token_issue(purpose pg_catalog.text, subject pg_catalog.text DEFAULT '', ttl pg_catalog.interval DEFAULT '15 minutes', max_issues pg_catalog.int4 DEFAULT NULL, per pg_catalog.interval DEFAULT '1 minute')
RETURNS pg_catalog.text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_token_issue';

COMMENT ON FUNCTION @extschema@.idem_token_issue(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.int4, pg_catalog.interval) IS
'a token, 88 characters that are safe in a URL, good once for purpose (1 to 255 bytes) and subject (0 to 255 bytes) until ttl has passed; max_issues: how many may be issued for (purpose, subject) in a window of per, null for no limit; without a limit writes nothing and works on a standby; errors: 22004, 22023, 25006 and 40001 with a limit, 55000 if there is no secret to sign with, ID429 if there were too many';

CREATE FUNCTION @extschema@.idem_token_consume(token pg_catalog.text, purpose pg_catalog.text, subject pg_catalog.text DEFAULT '')
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_token_consume';

COMMENT ON FUNCTION @extschema@.idem_token_consume(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
'consumes a token in this transaction; true: it was live, false: it is used, expired, forged, or of another purpose or subject; waits for a transaction that is consuming it; errors: 22004, 22023, 25006, 40001';

CREATE FUNCTION @extschema@.idem_token_rotate(token pg_catalog.text, purpose pg_catalog.text, subject pg_catalog.text DEFAULT '', ttl pg_catalog.interval DEFAULT '15 minutes')
RETURNS pg_catalog.text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_token_rotate';

COMMENT ON FUNCTION @extschema@.idem_token_rotate(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.interval) IS
'consumes a token as idem_token_consume does and returns a fresh one for the same purpose and subject, good until ttl has passed; null if it was not live; errors: 22004, 22023, 25006, 40001, 55000';

CREATE FUNCTION @extschema@.idem_token_status(token pg_catalog.text, purpose pg_catalog.text, subject pg_catalog.text DEFAULT '')
RETURNS pg_catalog.text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_token_status';

COMMENT ON FUNCTION @extschema@.idem_token_status(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
'what is committed of a token, or done by this transaction: live; used (consumed and not yet expired); expired; invalid (forged, or of another purpose, subject or installation); writes nothing, waits for nobody, works on a standby; errors: 22004, 22023';

CREATE FUNCTION @extschema@.idem_token_rekey()
RETURNS pg_catalog.void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_token_rekey';

COMMENT ON FUNCTION @extschema@.idem_token_rekey() IS
'for administrators: makes a new secret, which signs from now on; the ones before verify what they signed for 366 days more; errors: 25006, 40001';

-- the first secret; pg_upgrade makes the objects without running this script
SELECT @extschema@.idem_token_rekey();

--
-- Attempts: the work leaves the database
--

CREATE FUNCTION @extschema@.idem_begin(source pg_catalog.text, seq pg_catalog.anycompatible, ttl pg_catalog.interval DEFAULT '30 seconds', request pg_catalog.jsonb DEFAULT NULL, takeover pg_catalog.bool DEFAULT true, wait pg_catalog.bool DEFAULT true, OUT status pg_catalog.text, OUT fence pg_catalog.int8, OUT response pg_catalog.json, OUT lease_until pg_catalog.timestamptz)
RETURNS pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_begin';

COMMENT ON FUNCTION @extschema@.idem_begin(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.interval, pg_catalog.jsonb, pg_catalog.bool, pg_catalog.bool) IS
'begins an attempt at a key (source: 1 to 255 bytes; seq: text, varchar, smallint, integer, bigint or uuid, 1 to 1024 bytes as text); status granted: commit, then do the work within ttl, and name the fence when it is done; otherwise what the key is: running, done, failed, cancelled, or with takeover off expired; request: compared with the one recorded, null is not compared, and that of an open key is replaced; wait: wait for a transaction that is at the key, or raise ID409 at once; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID409 with wait off, ID410 if the key is older than what is remembered, ID422';

CREATE FUNCTION @extschema@.idem_begin_batch(source pg_catalog.text, seqs pg_catalog.anycompatiblearray, ttl pg_catalog.interval DEFAULT '30 seconds', takeover pg_catalog.bool DEFAULT true, wait pg_catalog.bool DEFAULT true, OUT seq pg_catalog.text, OUT status pg_catalog.text, OUT fence pg_catalog.int8, OUT response pg_catalog.json, OUT lease_until pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000 ROWS 1000
AS 'MODULE_PATHNAME', 'idem_begin_batch';

COMMENT ON FUNCTION @extschema@.idem_begin_batch(pg_catalog.text, pg_catalog.anycompatiblearray, pg_catalog.interval, pg_catalog.bool, pg_catalog.bool) IS
'begins an attempt at each of the keys (source, each of seqs: 1 to 1024 bytes) and answers for each, in the order given, as idem_begin does; a key that is given twice is granted once; status busy, with the rest null: with wait off another transaction is at the key; status gone if the key is older than what is remembered, invalid if its time cannot be read; two batches, of claims or of attempts, never deadlock over the order of their keys; errors: 22004, 22023, 25006, 40001, 42501, 42804';

CREATE FUNCTION @extschema@.idem_renew(source pg_catalog.text, seq pg_catalog.anycompatible, fence pg_catalog.int8, ttl pg_catalog.interval DEFAULT '30 seconds')
RETURNS pg_catalog.timestamptz
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_renew';

COMMENT ON FUNCTION @extschema@.idem_renew(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.int8, pg_catalog.interval) IS
'gives an attempt ttl more time, counted from now, and returns until when; possible as long as nobody else was granted the key; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID404 if the key was never begun, ID410 in place of ID404 if the key is older than what is remembered, ID412 if the fence is no longer the current one or the attempt is over';

CREATE FUNCTION @extschema@.idem_complete(source pg_catalog.text, seq pg_catalog.anycompatible, fence pg_catalog.int8, response pg_catalog.json DEFAULT NULL)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_complete';

COMMENT ON FUNCTION @extschema@.idem_complete(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.int8, pg_catalog.json) IS
'records that the work of an attempt is done, and its answer, byte for byte; true: recorded now, false: the same was recorded before; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID404 if the key was never begun, ID410 in place of ID404 if the key is older than what is remembered, ID412 if the fence is no longer the current one or the attempt ended otherwise';

CREATE FUNCTION @extschema@.idem_fail(source pg_catalog.text, seq pg_catalog.anycompatible, fence pg_catalog.int8, response pg_catalog.json DEFAULT NULL, retry pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_fail';

COMMENT ON FUNCTION @extschema@.idem_fail(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.int8, pg_catalog.json, pg_catalog.bool) IS
'records that the work of an attempt was not done, and why; retry: the key is open for the next attempt, otherwise it has failed for good and this is its answer; true: recorded now, false: the same was recorded before; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID404 if the key was never begun, ID410 in place of ID404 if the key is older than what is remembered, ID412 if the fence is no longer the current one or the attempt ended otherwise';

CREATE FUNCTION @extschema@.idem_unsettled(source pg_catalog.text DEFAULT NULL, max_rows pg_catalog.int4 DEFAULT 1000, OUT source pg_catalog.text, OUT seq pg_catalog.text, OUT status pg_catalog.text, OUT fence pg_catalog.int8, OUT claimed_at pg_catalog.timestamptz, OUT lease_until pg_catalog.timestamptz, OUT owner pg_catalog.name)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
AS 'MODULE_PATHNAME', 'idem_unsettled';

COMMENT ON FUNCTION @extschema@.idem_unsettled(pg_catalog.text, pg_catalog.int4) IS
'the keys of attempts that run, have expired or gave them back (open), of the roles that the caller may act as, the oldest first; source: only of this one (1 to 255 bytes), null: of all; max_rows: at most so many, from 1, null: all; reads no settled key, writes nothing, waits for nobody, works on a standby; errors: 22023';

--
-- Locks: one holder of a name
--

CREATE FUNCTION @extschema@.idem_lock(name pg_catalog.text, ttl pg_catalog.interval DEFAULT '30 seconds')
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock';

COMMENT ON FUNCTION @extschema@.idem_lock(pg_catalog.text, pg_catalog.interval) IS
'takes a lock (name: 1 to 255 bytes) for ttl, without waiting, and returns its fence, which is greater than any before; null: it is held, also by the caller, or another open transaction is at it; errors: 22004, 22023, 25006, 40001, 42501';

CREATE FUNCTION @extschema@.idem_lock_renew(name pg_catalog.text, fence pg_catalog.int8, ttl pg_catalog.interval DEFAULT '30 seconds')
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock_renew';

COMMENT ON FUNCTION @extschema@.idem_lock_renew(pg_catalog.text, pg_catalog.int8, pg_catalog.interval) IS
'gives a lock that is held with this fence ttl more time, counted from now; false: it is no longer held (expired, released, broken, taken over); errors: 22004, 22023, 25006, 40001, 42501';

CREATE FUNCTION @extschema@.idem_lock_check(name pg_catalog.text, fence pg_catalog.int8)
RETURNS pg_catalog.void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock_check';

COMMENT ON FUNCTION @extschema@.idem_lock_check(pg_catalog.text, pg_catalog.int8) IS
'for the transaction that writes what the lock protects: raises ID412 if the lock is no longer held with this fence; otherwise nobody can take it over until the transaction ends; errors: 22004, 22023, 25006, 40001, 42501, ID412';

CREATE FUNCTION @extschema@.idem_unlock(name pg_catalog.text, fence pg_catalog.int8)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_unlock';

COMMENT ON FUNCTION @extschema@.idem_unlock(pg_catalog.text, pg_catalog.int8) IS
'gives a lock that is held with this fence back; false: it is no longer held (expired, released, broken, taken over); errors: 22004, 22023, 25006, 40001, 42501';

CREATE FUNCTION @extschema@.idem_lock_lookup(name pg_catalog.text, OUT held pg_catalog.bool, OUT fence pg_catalog.int8, OUT locked_at pg_catalog.timestamptz, OUT lease_until pg_catalog.timestamptz, OUT owner pg_catalog.name)
RETURNS pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock_lookup';

COMMENT ON FUNCTION @extschema@.idem_lock_lookup(pg_catalog.text) IS
'what is known of a lock (name: 1 to 255 bytes): held: somebody holds it at this moment; fence: of the latest grant; locked_at: when that was; lease_until: null once it was released or broken; owner: role that it belongs to; held is false and the rest null for a name that was never locked; writes nothing, waits for nobody, works on a standby; errors: 22004, 22023, 42501';

CREATE FUNCTION @extschema@.idem_lock_break(name pg_catalog.text)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock_break';

COMMENT ON FUNCTION @extschema@.idem_lock_break(pg_catalog.text) IS
'for administrators: takes a lock (name: 1 to 255 bytes) away from its holder, whose next check, renewal or release finds it lost; waits for a transaction that has checked the lock; true: it was held and is no longer, false: nobody held it; errors: 22004, 22023, 25006, 40001, 42501';

--
-- Owners: whose the records are
--

CREATE FUNCTION @extschema@.idem_reassign(old_owner pg_catalog.name, new_owner pg_catalog.name)
RETURNS pg_catalog.int8
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_reassign';

COMMENT ON FUNCTION @extschema@.idem_reassign(pg_catalog.name, pg_catalog.name) IS
'for administrators: gives all claims, holds and locks of old_owner, which need not exist any more, to the role new_owner, and returns how many; call it before DROP ROLE, and in the transaction of ALTER ROLE RENAME; waits for all transactions that have written to idem''s tables, and keeps others from writing until it commits; errors: 22004, 22023, 25006, 40P01, 42501, 42704 if new_owner does not exist';

--
-- Rows of the caller's own tables: reached as the caller, found by a primary
-- key or a unique index
--

CREATE FUNCTION @extschema@.idem_deduct(target pg_catalog.regclass, col pg_catalog.name, amount pg_catalog.numeric, VARIADIC key pg_catalog."any")
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_deduct';

COMMENT ON FUNCTION @extschema@.idem_deduct(pg_catalog.regclass, pg_catalog.name, pg_catalog.numeric, pg_catalog."any") IS
'takes amount (greater than 0) from column col, of an integer type or numeric, of the row of target (a table: key is its primary key; or a unique index) if it has that much, of which null and NaN are not enough; true: taken, false: not enough, or a trigger suppressed the update, nothing written; errors: 0A000 if a rule replaces the update, 22003 for a value out of the range of its key column, 22004, 22023 also for a key value that its column would change, 25006, 39P01 if a trigger changes what was taken, 40001, 42501, 42703, 42804, 42809, 42P10, ID404 if there is no such row, and what the table''s own checks and triggers raise';

CREATE FUNCTION @extschema@.idem_deduct(target pg_catalog.regclass, col pg_catalog.name, amount pg_catalog.numeric, VARIADIC key pg_catalog._text)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_deduct';

COMMENT ON FUNCTION @extschema@.idem_deduct(pg_catalog.regclass, pg_catalog.name, pg_catalog.numeric, pg_catalog._text) IS
'as idem_deduct with a key of any types, where all values of the key are text or untyped, as the parameters of drivers are; beside a value of another type an untyped parameter needs a cast; errors: the same';

CREATE FUNCTION @extschema@.idem_lock_row(target pg_catalog.regclass, VARIADIC key pg_catalog."any")
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock_row';

COMMENT ON FUNCTION @extschema@.idem_lock_row(pg_catalog.regclass, pg_catalog."any") IS
'locks the row of target (a table: key is its primary key; or a unique index) until the end of the transaction, so that nobody else changes it, while foreign key checks pass; true: locked, false: there is no such row; errors: 22003 for a value out of the range of its key column, 22004, 22023 also for a key value that its column would change, 25006, 40001, 42501, 42804, 42809, 42P10';

CREATE FUNCTION @extschema@.idem_lock_row(target pg_catalog.regclass, VARIADIC key pg_catalog._text)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_lock_row';

COMMENT ON FUNCTION @extschema@.idem_lock_row(pg_catalog.regclass, pg_catalog._text) IS
'as idem_lock_row with a key of any types, where all values of the key are text or untyped, as the parameters of drivers are; beside a value of another type an untyped parameter needs a cast; errors: the same';

CREATE FUNCTION @extschema@.idem_insert(candidate pg_catalog.anyelement, key pg_catalog.regclass DEFAULT NULL, OUT inserted pg_catalog.bool, OUT stored pg_catalog.anyelement)
RETURNS pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_insert';

COMMENT ON FUNCTION @extschema@.idem_insert(pg_catalog.anyelement, pg_catalog.regclass) IS
'inserts candidate, a row of a table, its null fields taking their defaults, or finds the row that has the same key; key: a unique index, by default the primary key if its fields are given, else the only unique index whose fields are; inserted: now, by this call; stored: the row as it is in the table; errors: 0A000 if the table has a rule, 22004, 23505 if another unique index or a hidden row is in the way, 23P01 if an exclusion constraint is, 23502, 23503 and 23514 as the table''s constraints say, 25006, 39P01 if a trigger suppresses the row, 40001, 42501 unless the caller may SELECT and INSERT all its columns that are given or answered, 42804, 42809, 42P10';

CREATE FUNCTION @extschema@.idem_version()
RETURNS pg_catalog.trigger
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_version';

COMMENT ON FUNCTION @extschema@.idem_version() IS
'trigger BEFORE UPDATE FOR EACH ROW; argument: the name of a column of an integer type; each update makes it the old one + 1, whether it leaves it alone or sets it so; errors: 22003 at the end of the type, 22023, 39P01, 42703, 42804, 42809 if the column is generated, ID412 if the update sets it to anything else';

CREATE FUNCTION @extschema@.idem_newer()
RETURNS pg_catalog.trigger
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_newer';

COMMENT ON FUNCTION @extschema@.idem_newer() IS
'trigger BEFORE UPDATE FOR EACH ROW; arguments: the name of a column of a type with a btree order, and the option equal=skip; an update that sets the column to a smaller value than the one stored skips the row (equal=skip: to an equal one too); null is older than anything; errors: 22023 for NaN or infinity as a new value, for other arguments, 39P01, 42703, 42804, 42809 if the column is generated';

--
-- State machines: late messages change nothing, illegal ones are refused
--

CREATE FUNCTION @extschema@.idem_machine(machine pg_catalog.text, definition pg_catalog.text)
RETURNS pg_catalog.int4
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_machine';

COMMENT ON FUNCTION @extschema@.idem_machine(pg_catalog.text, pg_catalog.text) IS
'for administrators: defines a machine (1 to 255 bytes), or replaces it for every session from its next call on; definition: chains of states such as ''created -> paid -> shipped; created -> cancelled'', each ended by ; or the end of a line, with --> as another way to write ->; a name has 1 to 255 bytes, and neither ; , < > nor --, => or an arrow character, nor - between spaces; at most 4096 states and 65536 transitions; returns the number of transitions; errors: 22004, 22023, 25006';

CREATE FUNCTION @extschema@.idem_machine_graph(machine pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_machine_graph';

COMMENT ON FUNCTION @extschema@.idem_machine_graph(pg_catalog.text) IS
'a machine as a Mermaid stateDiagram-v2; writes nothing, works on a standby; errors: 22004, 22023 if there is no such machine';

CREATE FUNCTION @extschema@.idem_verdict(machine pg_catalog.text, from_state pg_catalog.text, to_state pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_verdict';

COMMENT ON FUNCTION @extschema@.idem_verdict(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
'what a machine says of a move from from_state (null: from no state) to to_state: same, apply (a transition leads there), late (it lies behind), ahead (it can be reached, but not in one step), illegal; writes nothing, works on a standby; errors: 22004, 22023 if there is no such machine or state';

CREATE FUNCTION @extschema@.idem_state()
RETURNS pg_catalog.trigger
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_state';

COMMENT ON FUNCTION @extschema@.idem_state() IS
'trigger BEFORE INSERT OR UPDATE FOR EACH ROW, arguments: machine, column (text, varchar, char, name, enum or a domain over one), options; an insert takes any state of the machine (insert=initial: only one with no way in); an update that is late skips the row (late=error: raises ID460; late=keep: keeps the state and takes the other columns), one that is ahead raises ID460 (ahead=allow: passes), one that is illegal raises ID460; errors: 22023, 39P01, 42703, 42804, 42809 if the column is generated, ID460';

CREATE FUNCTION @extschema@.idem_advance(machine pg_catalog.text, target pg_catalog.regclass, col pg_catalog.name, to_state pg_catalog.text, VARIADIC key pg_catalog."any")
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_advance';

COMMENT ON FUNCTION @extschema@.idem_advance(pg_catalog.text, pg_catalog.regclass, pg_catalog.name, pg_catalog.text, pg_catalog."any") IS
'moves column col (text, varchar, char, name, enum or a domain over one) of the row of target (a table: key is its primary key; or a unique index) to to_state; true: applied, false: same or late, or a trigger suppressed the update, nothing written; errors: 0A000 if a rule replaces the update, 22001 if the column does not hold the state whole, 22003 for a value out of the range of its key column, 22004, 22023 also for a key value that its column would change, 25006, 39P01 if a trigger makes the column something else, 40001, 42501, 42703, 42804, 42809, 42P10, ID404 if there is no such row, ID460 if the move is ahead or illegal';

CREATE FUNCTION @extschema@.idem_advance(machine pg_catalog.text, target pg_catalog.regclass, col pg_catalog.name, to_state pg_catalog.text, VARIADIC key pg_catalog._text)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_advance';

COMMENT ON FUNCTION @extschema@.idem_advance(pg_catalog.text, pg_catalog.regclass, pg_catalog.name, pg_catalog.text, pg_catalog._text) IS
'as idem_advance with a key of any types, where all values of the key are text or untyped, as the parameters of drivers are; beside a value of another type an untyped parameter needs a cast; errors: the same';

--
-- Stock: shares that can be held, confirmed, given back
--

CREATE FUNCTION @extschema@.idem_stock_add(item pg_catalog.text, quantity pg_catalog.numeric, buckets pg_catalog.int4 DEFAULT NULL)
RETURNS pg_catalog.numeric
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_add';

COMMENT ON FUNCTION @extschema@.idem_stock_add(pg_catalog.text, pg_catalog.numeric, pg_catalog.int4) IS
'for administrators: adds quantity, above 0, of at most 38 digits and 18 of them behind the point, to an item (1 to 255 bytes); buckets (1 to 1024): spreads the item over at least so many rows, so that as many transactions can take of it at once, null: as many as there are, and more come by themselves where buyers meet; returns what is available then; not idempotent: make it inside a claim; errors: 22004, 22023, 25006, 40001, 55P03';

CREATE FUNCTION @extschema@.idem_stock_remove(item pg_catalog.text, quantity pg_catalog.numeric)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_remove';

COMMENT ON FUNCTION @extschema@.idem_stock_remove(pg_catalog.text, pg_catalog.numeric) IS
'for administrators: removes quantity, above 0, of at most 38 digits and 18 of them behind the point, from what is available of an item (1 to 255 bytes); true: removed, false: less is available, nothing was written; not idempotent: make it inside a claim; errors: 22004, 22023, 25006, 40001, 55P03';

CREATE FUNCTION @extschema@.idem_stock_reserve(source pg_catalog.text, seq pg_catalog.anycompatible, item pg_catalog.text, quantity pg_catalog.numeric, ttl pg_catalog.interval DEFAULT NULL, wait pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_reserve';

COMMENT ON FUNCTION @extschema@.idem_stock_reserve(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.text, pg_catalog.numeric, pg_catalog.interval, pg_catalog.bool) IS
'holds quantity, above 0, of at most 38 digits and 18 of them behind the point, of an item (1 to 255 bytes) for the order (source: 1 to 255 bytes, seq: 1 to 1024 bytes); true: it is held, or was already, false: there is not enough, or the order was released or has expired, and nothing was written; ttl: idem_stock_expire gives it back after that time unless it is confirmed, null: never; an order has one such time, the earliest of its calls; wait: wait for other transactions if what they leave alone does not suffice, or raise ID409 at once; errors: 22004, 22023, 25006, 40001, 42501, 42804, 55P03, ID409, ID410 if the key is older than what is remembered, ID412 for a further item of a confirmed order, ID422 for another quantity than was first reserved';

CREATE FUNCTION @extschema@.idem_stock_reserve_items(source pg_catalog.text, seq pg_catalog.anycompatible, items pg_catalog._text, quantities pg_catalog._numeric, ttl pg_catalog.interval DEFAULT NULL, wait pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_reserve_items';

COMMENT ON FUNCTION @extschema@.idem_stock_reserve_items(pg_catalog.text, pg_catalog.anycompatible, pg_catalog._text, pg_catalog._numeric, pg_catalog.interval, pg_catalog.bool) IS
'as idem_stock_reserve, for several items, all or nothing; items and quantities have the same length, at least 1, and an item is in it once; two calls never deadlock; errors: 22004, 22023, 25006, 40001, 42501, 42804, 55P03, ID409, ID410 if the key is older than what is remembered, ID412, ID422';

CREATE FUNCTION @extschema@.idem_stock_amend(source pg_catalog.text, seq pg_catalog.anycompatible, item pg_catalog.text, quantity pg_catalog.numeric, was pg_catalog.numeric DEFAULT NULL)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_amend';

COMMENT ON FUNCTION @extschema@.idem_stock_amend(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.text, pg_catalog.numeric, pg_catalog.numeric) IS
'makes a held order hold exactly quantity, 0 or more, of an item: takes more, gives back, or takes up a new item; true: so it is, also if it was so before, false: there is not enough, nothing has changed; was: what the order is thought to hold, by which a late retry does no harm, null is not compared; errors: 22004, 22023, 25006, 40001, 42501, 42804, 55P03, ID404 if nothing is known of the order, ID410 in place of ID404 if the key is older than what is remembered, ID412 if it is no longer held, or holds neither was nor quantity';

CREATE FUNCTION @extschema@.idem_stock_renew(source pg_catalog.text, seq pg_catalog.anycompatible, ttl pg_catalog.interval)
RETURNS pg_catalog.timestamptz
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_renew';

COMMENT ON FUNCTION @extschema@.idem_stock_renew(pg_catalog.text, pg_catalog.anycompatible, pg_catalog.interval) IS
'sets when a held order may be given back, ttl from now, and returns that time; ttl null: never, and returns null; errors: 22023, 22004 for the key, 25006, 40001, 42501, 42804, ID404 if nothing is known of the order, ID410 in place of ID404 if the key is older than what is remembered, ID412 if it is no longer held';

CREATE FUNCTION @extschema@.idem_stock_confirm(source pg_catalog.text, seq pg_catalog.anycompatible)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_confirm';

COMMENT ON FUNCTION @extschema@.idem_stock_confirm(pg_catalog.text, pg_catalog.anycompatible) IS
'makes what the order holds final; true: now, false: it was so already; errors: 22004, 22023, 25006, 40001, 42501, 42804, ID404 if nothing is known of the order, ID410 in place of ID404 if the key is older than what is remembered, ID412 if it was released or has expired';

CREATE FUNCTION @extschema@.idem_stock_release(source pg_catalog.text, seq pg_catalog.anycompatible)
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_release';

COMMENT ON FUNCTION @extschema@.idem_stock_release(pg_catalog.text, pg_catalog.anycompatible) IS
'gives back what the order holds; true: now, also if nothing was known of the order, which is then refused for good; false: it was given back already, or has expired; errors: 22004, 22023, 25006, 40001, 42501, 42804, 55P03, ID410 if the key is older than what is remembered, ID412 if it was confirmed';

CREATE FUNCTION @extschema@.idem_stock_lookup(source pg_catalog.text, seq pg_catalog.anycompatible, OUT item pg_catalog.text, OUT quantity pg_catalog.numeric, OUT status pg_catalog.text, OUT expires_at pg_catalog.timestamptz, OUT reserved_at pg_catalog.timestamptz, OUT decided_at pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000 ROWS 3
AS 'MODULE_PATHNAME', 'idem_stock_lookup';

COMMENT ON FUNCTION @extschema@.idem_stock_lookup(pg_catalog.text, pg_catalog.anycompatible) IS
'what is known of an order, no row if nothing is: a row for each item, with what it holds, or held when it was decided; item is null if it was released before it was made; status: held (also when overdue and not yet given back), confirmed, released, expired; writes nothing, waits for nobody, works on a standby; errors: 22004, 22023, 42501, 42804';

CREATE FUNCTION @extschema@.idem_stock_available(item pg_catalog.text)
RETURNS pg_catalog.numeric
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 1000
AS 'MODULE_PATHNAME', 'idem_stock_available';

COMMENT ON FUNCTION @extschema@.idem_stock_available(pg_catalog.text) IS
'what is available of an item (1 to 255 bytes) in all its buckets, 0 if it was never added; writes nothing, waits for nobody, works on a standby; errors: 22004, 22023';

CREATE PROCEDURE @extschema@.idem_stock_expire(batch pg_catalog.int4 DEFAULT 1000)
LANGUAGE C
AS 'MODULE_PATHNAME', 'idem_stock_expire';

COMMENT ON PROCEDURE @extschema@.idem_stock_expire(pg_catalog.int4) IS
'gives back what orders hold beyond their time to live, with a commit after each batch (above 0) orders at the latest, and a notice of what went; never waits for an open transaction: what cannot be given back at once is left for the next call; errors: 22004, 22023, 25001 inside a transaction block, 25006';

--
-- Counters: what idem did, for those who watch the server
--

CREATE FUNCTION @extschema@.idem_stat_counters(OUT kind pg_catalog.text, OUT source pg_catalog.text, OUT outcome pg_catalog.text, OUT count pg_catalog.int8, OUT waits pg_catalog.int8, OUT wait_seconds pg_catalog.float8, OUT stats_since pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_stat_counters';

COMMENT ON FUNCTION @extschema@.idem_stat_counters() IS
'the rows of view idem_stat; none, and a notice, on a server before PostgreSQL 17 that does not have idem in shared_preload_libraries, or where there was no room for the counters';

CREATE VIEW @extschema@.idem_stat AS
	SELECT s.kind, s.source, s.outcome, s.count, s.waits, s.wait_seconds, s.stats_since FROM @extschema@.idem_stat_counters() AS s;

COMMENT ON VIEW @extschema@.idem_stat IS 'what the calls in this database came to, one row for each kind, source and outcome that occurred';
COMMENT ON COLUMN @extschema@.idem_stat.kind IS 'claim, attempt, lock, token, stock or purge';
COMMENT ON COLUMN @extschema@.idem_stat.source IS 'null: locks and tokens, and all sources but the 200 busiest';
COMMENT ON COLUMN @extschema@.idem_stat.outcome IS 'null: waits of calls that came to nothing that is counted';
COMMENT ON COLUMN @extschema@.idem_stat.count IS 'how often; answers when they are committed or prepared, errors at once';
COMMENT ON COLUMN @extschema@.idem_stat.waits IS 'how often such a call waited for another transaction';
COMMENT ON COLUMN @extschema@.idem_stat.wait_seconds IS 'how long, in all';
COMMENT ON COLUMN @extschema@.idem_stat.stats_since IS 'start of the server, idem_stat_reset or CREATE EXTENSION, whichever was last';

CREATE FUNCTION @extschema@.idem_stat_runs(OUT run pg_catalog.text, OUT started_at pg_catalog.timestamptz, OUT ended_at pg_catalog.timestamptz, OUT keys_read pg_catalog.int8, OUT removed pg_catalog.int8, OUT seconds pg_catalog.float8)
RETURNS SETOF pg_catalog.record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_stat_runs';

COMMENT ON FUNCTION @extschema@.idem_stat_runs() IS
'the rows of view idem_stat_run; none, and a notice, where idem_stat_counters has none';

CREATE VIEW @extschema@.idem_stat_run AS
	SELECT r.run, r.started_at, r.ended_at, r.keys_read, r.removed, r.seconds FROM @extschema@.idem_stat_runs() AS r;

COMMENT ON VIEW @extschema@.idem_stat_run IS 'the last run of idem_purge and of idem_stock_expire in this database';
COMMENT ON COLUMN @extschema@.idem_stat_run.run IS 'purge or expire';
COMMENT ON COLUMN @extschema@.idem_stat_run.started_at IS 'when it was called';
COMMENT ON COLUMN @extschema@.idem_stat_run.ended_at IS 'null: it runs, or was cut short';
COMMENT ON COLUMN @extschema@.idem_stat_run.keys_read IS 'keys that were looked at; expire looks at those that are due only';
COMMENT ON COLUMN @extschema@.idem_stat_run.removed IS 'rows that were removed, or orders that were ended, and committed';
COMMENT ON COLUMN @extschema@.idem_stat_run.seconds IS 'how long it took, until its last commit';

CREATE FUNCTION @extschema@.idem_stat_reset()
RETURNS pg_catalog.void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_stat_reset';

COMMENT ON FUNCTION @extschema@.idem_stat_reset() IS
'for administrators: all counters of this database begin again at 0, at once and whatever becomes of the transaction';

-- those of an extension that was dropped are not this one's
SELECT @extschema@.idem_stat_reset();

--
-- More than one machine
--

CREATE FUNCTION @extschema@.idem_distribute()
RETURNS pg_catalog.bool
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'idem_distribute';

COMMENT ON FUNCTION @extschema@.idem_distribute() IS
'for administrators, on the coordinator of a Citus cluster: distributes the tables of idem over its nodes, after which every function works on every node; true: distributed now, false: they were already; errors: 0A000 without Citus, 25006, 55000 if a table is distributed in another way, or a worker has rows of its own in it, or cannot be asked';

--
-- Privileges
--

-- what is recorded says who did what, and a forged row would be believed
REVOKE ALL ON SCHEMA idem FROM PUBLIC;
REVOKE ALL ON TABLE idem.claim FROM PUBLIC;
REVOKE ALL ON TABLE idem.policy FROM PUBLIC;
REVOKE ALL ON TABLE idem.lock FROM PUBLIC;
REVOKE ALL ON TABLE idem.stock FROM PUBLIC;
REVOKE ALL ON TABLE idem.hold FROM PUBLIC;
REVOKE ALL ON TABLE idem.transition FROM PUBLIC;

-- who reads a secret can sign, and who writes can have a token again
REVOKE ALL ON TABLE idem.token_key FROM PUBLIC;
REVOKE ALL ON TABLE idem.token_spent FROM PUBLIC;
REVOKE ALL ON TABLE idem.token_rate FROM PUBLIC;

-- these reach every role's keys
REVOKE ALL ON FUNCTION @extschema@.idem_forget(pg_catalog.text, pg_catalog.anycompatible) FROM PUBLIC;
REVOKE ALL ON PROCEDURE @extschema@.idem_purge(pg_catalog.interval, pg_catalog.int4, pg_catalog.text) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.idem_policy(pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.idem_policy_drop(pg_catalog.text) FROM PUBLIC;

REVOKE ALL ON FUNCTION @extschema@.idem_lock_break(pg_catalog.text) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.idem_reassign(pg_catalog.name, pg_catalog.name) FROM PUBLIC;

-- a machine decides for every role's rows
REVOKE ALL ON FUNCTION @extschema@.idem_machine(pg_catalog.text, pg_catalog.text) FROM PUBLIC;

-- makes the secret that all tokens depend on
REVOKE ALL ON FUNCTION @extschema@.idem_token_rekey() FROM PUBLIC;


-- these make stock out of nothing, and nothing out of stock
REVOKE ALL ON FUNCTION @extschema@.idem_stock_add(pg_catalog.text, pg_catalog.numeric, pg_catalog.int4) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.idem_stock_remove(pg_catalog.text, pg_catalog.numeric) FROM PUBLIC;

-- counters name the sources of all roles
REVOKE ALL ON FUNCTION @extschema@.idem_stat_counters() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.idem_stat_runs() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.idem_stat_reset() FROM PUBLIC;
REVOKE ALL ON TABLE @extschema@.idem_stat FROM PUBLIC;
REVOKE ALL ON TABLE @extschema@.idem_stat_run FROM PUBLIC;

-- this moves all tables to other machines
REVOKE ALL ON FUNCTION @extschema@.idem_distribute() FROM PUBLIC;

-- ALTER DEFAULT PRIVILEGES may have granted all of this to others than PUBLIC
DO LANGUAGE plpgsql $$
DECLARE
	command pg_catalog.text;
BEGIN
	FOR command IN
		SELECT pg_catalog.format('REVOKE ALL ON SCHEMA idem FROM %s CASCADE', a.grantee::pg_catalog.regrole)
		FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS a
		WHERE n.nspname OPERATOR(pg_catalog.=) 'idem'
			AND a.grantee OPERATOR(pg_catalog.<>) 0 AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
		UNION
		SELECT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s CASCADE', c.oid::pg_catalog.regclass, a.grantee::pg_catalog.regrole)
		FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
		WHERE c.relnamespace OPERATOR(pg_catalog.=) 'idem'::pg_catalog.regnamespace
			AND a.grantee OPERATOR(pg_catalog.<>) 0 AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
		UNION
		SELECT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s CASCADE', c.oid::pg_catalog.regclass, a.grantee::pg_catalog.regrole)
		FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
		WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY['@extschema@.idem_stat'::pg_catalog.regclass, '@extschema@.idem_stat_run'::pg_catalog.regclass])
			AND a.grantee OPERATOR(pg_catalog.<>) 0 AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
		UNION
		SELECT pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM %s CASCADE', p.oid::pg_catalog.regprocedure, a.grantee::pg_catalog.regrole)
		FROM pg_catalog.pg_extension AS e, pg_catalog.pg_depend AS d,
			pg_catalog.pg_proc AS p, pg_catalog.aclexplode(p.proacl) AS a
		WHERE e.extname OPERATOR(pg_catalog.=) 'idem'
			AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
			AND d.refobjid OPERATOR(pg_catalog.=) e.oid
			AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
			AND d.objid OPERATOR(pg_catalog.=) p.oid
			AND p.proname OPERATOR(pg_catalog.=) ANY (ARRAY['idem_distribute', 'idem_forget', 'idem_lock_break', 'idem_machine', 'idem_policy', 'idem_policy_drop', 'idem_purge', 'idem_reassign', 'idem_stat_counters', 'idem_stat_reset', 'idem_stat_runs', 'idem_stock_add', 'idem_stock_remove', 'idem_token_rekey'])
			AND a.grantee OPERATOR(pg_catalog.<>) 0 AND a.grantee OPERATOR(pg_catalog.<>) p.proowner
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;

-- who watches the server watches this, too; a view's functions are called by who reads it
GRANT SELECT ON TABLE @extschema@.idem_stat, @extschema@.idem_stat_run TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.idem_stat_counters(), @extschema@.idem_stat_runs() TO pg_monitor;
