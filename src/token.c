/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Tokens: issued at will, consumed once.
 *
 * The contract.  A token is a text that is good once, for one purpose and one
 * subject, until it expires.  It says all this itself and is signed with a
 * secret of this installation, so issuing writes nothing, and a million forms
 * that nobody submits cost nothing.  What is written is that a token was
 * consumed: one row of idem.token_spent, in the caller's transaction, so that
 * a token is spent exactly if the work that it protects is committed.
 *
 * A token is a bearer credential: who has it, and knows purpose and subject,
 * may consume it, whatever the role; the record says nothing about anybody and
 * belongs to nobody.
 *
 * What is signed.  The token's first part (version, key, expiry, nonce; see
 * tokentext.c), then purpose and subject, each preceded by its length, so that
 * no two pairs read alike.  The first part has a fixed length.  The signature
 * is HMAC-SHA-256 and is compared in a time that does not depend on where it
 * differs.
 *
 * Why exactly one consumes.  The row's key is the token's name.  Two consumers
 * of one token meet in the store as two claims of one key do (store.c): the
 * second one finds the first one's row, waits for its transaction, looks
 * again, and inserts only if the row is gone.  A spent row never changes, and
 * is removed only once the token has expired, when its expiry alone makes it
 * worthless.  The clock is read after the last wait.
 *
 * Keys.  idem.token_key has one row for each secret, under a random number: a
 * dump that is loaded into a database where CREATE EXTENSION has made a key of
 * its own adds to it and collides with nothing.  The newest key that has no
 * verify_until signs; all verify.  Rekeying gives those that could sign until
 * now KEY_VERIFIES more, so a token stays good until it expires however often
 * the key is changed, and a secret that leaked long ago is worth nothing.  Keys
 * are read from the table at each call, as they are committed then, so every
 * session follows at once.  Only the number of the key that signed last is
 * kept, as the place to look first; the row decides whether it still may.
 *
 * Limits.  idem.token_rate has one row for each (purpose, subject): how many
 * tokens were issued in the present window, and when that ends.  A window
 * begins with the first token after the one before has ended.  The row is
 * locked as it was found, counted on, and kept locked until the issuing
 * transaction ends: only so is the count exact.  Who is refused is refused on
 * a committed count, without waiting: a full window only ends with time.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "token.h"

#include "catalog/pg_type.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* Columns of idem.token_key, from 0. */
typedef enum KeyColumn
{
	KEY_ID,
	KEY_SECRET,
	KEY_CREATED_AT,
	KEY_VERIFY_UNTIL,
	KEY_COLUMNS
} KeyColumn;

/* Columns of idem.token_spent, from 0. */
typedef enum SpentColumn
{
	SPENT_NONCE,
	SPENT_EXPIRES_AT,
	SPENT_CONSUMED_AT,
	SPENT_COLUMNS
} SpentColumn;

/* Columns of idem.token_rate, from 0. */
typedef enum RateColumn
{
	RATE_PURPOSE,
	RATE_SUBJECT,
	RATE_WINDOW_END,
	RATE_ISSUED,
	RATE_COLUMNS
} RateColumn;

/* What a token is good for: purpose and subject. */
#define BINDING_KEYS	2

/* Bytes of a secret: those of the hash, which more would be hashed to. */
#define SECRET_BYTES	32

/* How long a key verifies after it has signed its last. */
#define KEY_VERIFIES	(INT64CONST(366) * USECS_PER_DAY)

IdemTable	idem_token_key_table = {
	.relname = "token_key",
	.keyname = "id",
	.nkeys = 1,
	.natts = KEY_COLUMNS,
	.required = KEY_CREATED_AT + 1,
	.columns = {
		{"id", TEXTOID},
		{"secret", BYTEAOID},
		{"created_at", TIMESTAMPTZOID},
		{"verify_until", TIMESTAMPTZOID}
	},
	.metadata = true,
	.stat = IDEM_STAT_TOKEN
};

IdemTable	idem_token_spent_table = {
	.relname = "token_spent",
	.keyname = "nonce",
	.nkeys = 1,
	.natts = SPENT_COLUMNS,
	.required = SPENT_COLUMNS,
	.columns = {
		{"nonce", TEXTOID},
		{"expires_at", TIMESTAMPTZOID},
		{"consumed_at", TIMESTAMPTZOID}
	},
	.stat = IDEM_STAT_TOKEN
};

IdemTable	idem_token_rate_table = {
	.relname = "token_rate",
	.keyname = "purpose, subject",
	.nkeys = BINDING_KEYS,
	.natts = RATE_COLUMNS,
	.required = RATE_COLUMNS,
	.columns = {
		{"purpose", TEXTOID},
		{"subject", TEXTOID},
		{"window_end", TIMESTAMPTZOID},
		{"issued", INT4OID}
	},
	.speculative = true,
	.stat = IDEM_STAT_TOKEN
};

static text *issue(const Datum *binding, Interval *ttl);
static bool verify(text *given, const Datum *binding, IdemToken *token);
static bool spend(IdemStore *store, const IdemToken *token);
static bool expired(const IdemToken *token);
static void count_issue(const Datum *binding, int32 max_issues, Interval *per);
static void refuse_issue(const Datum *binding, const IdemRow *row,
						 int32 max_issues);
static void count_in_window(const IdemRow *row, Interval *per, Datum *values);
static bytea *signing_secret(char *id);
static bytea *verifying_secret(const char *id);
static void sign(const char *head, const Datum *binding, bytea *secret,
				 uint8 *mac);
static void strong_random(uint8 *bytes, int nbytes);
static bool same_mac(const uint8 *a, const uint8 *b);
static Datum name_datum(const IdemToken *token);
static text *get_token(FunctionCallInfo fcinfo, int argno);
static void get_binding(FunctionCallInfo fcinfo, int argno, Datum *binding);

PG_FUNCTION_INFO_V1(idem_token_issue);
PG_FUNCTION_INFO_V1(idem_token_consume);
PG_FUNCTION_INFO_V1(idem_token_rotate);
PG_FUNCTION_INFO_V1(idem_token_status);
PG_FUNCTION_INFO_V1(idem_token_rekey);


/*
 * idem_token_issue(purpose, subject, ttl interval, max_issues integer,
 *					per interval) -> text
 *
 * A fresh token.  Writes only if there is a limit.
 */
Datum
idem_token_issue(PG_FUNCTION_ARGS)
{
	Datum		binding[BINDING_KEYS];
	Interval   *ttl;
	Interval   *per;

	get_binding(fcinfo, 0, binding);
	ttl = idem_arg_interval(fcinfo, 2, "ttl");
	per = idem_arg_interval(fcinfo, 4, "per");
	if (!PG_ARGISNULL(3))
	{
		int32		max_issues = PG_GETARG_INT32(3);

		if (max_issues <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"max_issues\" must be positive"),
					 errdetail("\"max_issues\" is %d.", max_issues),
					 errhint("Pass a number of tokens, or null for no limit.")));
		count_issue(binding, max_issues, per);
	}
	idem_stat_count(IDEM_STAT_TOKEN_ISSUED, IDEM_STAT_NO_SOURCE, 1);
	PG_RETURN_TEXT_P(issue(binding, ttl));
}

/*
 * idem_token_consume(token, purpose, subject) -> boolean
 *
 * True: the token was live, and is spent if this transaction commits.
 */
Datum
idem_token_consume(PG_FUNCTION_ARGS)
{
	text	   *given = get_token(fcinfo, 0);
	Datum		binding[BINDING_KEYS];
	IdemStore	store;
	IdemToken	token;
	bool		consumed;

	get_binding(fcinfo, 1, binding);
	idem_store_open(&store, &idem_token_spent_table, IDEM_WRITE, IDEM_WAIT);
	consumed = verify(given, binding, &token) && spend(&store, &token);
	idem_store_close(&store);
	idem_stat_count(consumed ? IDEM_STAT_TOKEN_CONSUMED : IDEM_STAT_TOKEN_REFUSED,
					IDEM_STAT_NO_SOURCE, 1);

	PG_RETURN_BOOL(consumed);
}

/*
 * idem_token_rotate(token, purpose, subject, ttl interval) -> text
 *
 * Consumes a token and answers a fresh one; null if it was not live.
 */
Datum
idem_token_rotate(PG_FUNCTION_ARGS)
{
	text	   *given = get_token(fcinfo, 0);
	Datum		binding[BINDING_KEYS];
	Interval   *ttl;
	IdemStore	store;
	IdemToken	token;
	bool		consumed;

	get_binding(fcinfo, 1, binding);
	ttl = idem_arg_interval(fcinfo, 3, "ttl");
	idem_store_open(&store, &idem_token_spent_table, IDEM_WRITE, IDEM_WAIT);
	consumed = verify(given, binding, &token) && spend(&store, &token);
	idem_store_close(&store);
	idem_stat_count(consumed ? IDEM_STAT_TOKEN_CONSUMED : IDEM_STAT_TOKEN_REFUSED,
					IDEM_STAT_NO_SOURCE, 1);

	if (!consumed)
		PG_RETURN_NULL();
	idem_stat_count(IDEM_STAT_TOKEN_ISSUED, IDEM_STAT_NO_SOURCE, 1);
	PG_RETURN_TEXT_P(issue(binding, ttl));
}

/*
 * idem_token_status(token, purpose, subject) -> text
 *
 * Expired comes before used: from then on the answer needs no record.
 */
Datum
idem_token_status(PG_FUNCTION_ARGS)
{
	text	   *given = get_token(fcinfo, 0);
	Datum		binding[BINDING_KEYS];
	IdemToken	token;
	const char *status;

	get_binding(fcinfo, 1, binding);
	if (!verify(given, binding, &token))
		status = "invalid";
	else if (expired(&token))
		status = "expired";
	else
	{
		Datum		name = name_datum(&token);
		IdemStore	store;
		IdemRow		row;

		idem_store_open(&store, &idem_token_spent_table, IDEM_READ, IDEM_NO_WAIT);
		idem_store_read(&store, &name, &row);
		idem_store_close(&store);
		/* once it has expired, its record may be purged */
		status = row.presence == IDEM_PRESENT ? "used" :
			expired(&token) ? "expired" : "live";
	}
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

/*
 * idem_token_rekey() -> void
 *
 * A new secret signs from now on: for administrators, and for the script.
 * Two of these at once leave two keys without an end, of which the newer one
 * signs and which the next one ends both.
 */
Datum
idem_token_rekey(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[KEY_COLUMNS];
	bool		nulls[KEY_COLUMNS] = {false};
	bytea	   *secret = palloc(VARHDRSZ + SECRET_BYTES);
	IdemStore	store;
	Oid			owner;

	idem_store_open(&store, &idem_token_key_table, IDEM_WRITE, IDEM_WAIT);
	owner = idem_store_owner(&store);

	values[0] = TimestampTzGetDatum(now);
	(void) idem_plan_execute(IDEM_PLAN_TOKEN_KEY_DROP, owner, false, values,
							 NULL, NULL, NULL, 0);
	values[0] = TimestampTzGetDatum(now + KEY_VERIFIES);
	(void) idem_plan_execute(IDEM_PLAN_TOKEN_KEY_RETIRE, owner, false, values,
							 NULL, NULL, NULL, 0);

	SET_VARSIZE(secret, VARHDRSZ + SECRET_BYTES);
	strong_random((uint8 *) VARDATA(secret), SECRET_BYTES);
	values[KEY_SECRET] = PointerGetDatum(secret);
	values[KEY_CREATED_AT] = TimestampTzGetDatum(now);
	nulls[KEY_VERIFY_UNTIL] = true;
	do
	{
		uint8		number[IDEM_TOKEN_KEY_BYTES];
		char		id[IDEM_TOKEN_KEY_LEN];

		strong_random(number, IDEM_TOKEN_KEY_BYTES);
		idem_token_key_text(id, number);
		values[KEY_ID] = PointerGetDatum(cstring_to_text_with_len(id, IDEM_TOKEN_KEY_LEN));
	} while (!idem_store_insert(&store, values, nulls));
	idem_store_close(&store);

	PG_RETURN_VOID();
}


/* Makes a token. */
static text *
issue(const Datum *binding, Interval *ttl)
{
	text	   *result = palloc(VARHDRSZ + IDEM_TOKEN_LEN);
	char	   *token = VARDATA(result);
	char		key[IDEM_TOKEN_KEY_LEN];
	uint8		nonce[IDEM_TOKEN_NONCE_BYTES];
	uint8		mac[IDEM_TOKEN_MAC_BYTES];
	bytea	   *secret = signing_secret(key);

	strong_random(nonce, IDEM_TOKEN_NONCE_BYTES);
	idem_token_head(token, key, idem_time_after(GetCurrentTimestamp(), ttl), nonce);
	sign(token, binding, secret, mac);
	idem_token_seal(token, mac);
	SET_VARSIZE(result, VARHDRSZ + IDEM_TOKEN_LEN);
	return result;
}

/* Was this token issued here, for this purpose and subject? */
static bool
verify(text *given, const Datum *binding, IdemToken *token)
{
	const char *bytes = VARDATA_ANY(given);
	uint8		mac[IDEM_TOKEN_MAC_BYTES];
	bytea	   *secret;

	if (!idem_token_parse(bytes, VARSIZE_ANY_EXHDR(given), token) ||
		(secret = verifying_secret(token->key)) == NULL)
		return false;

	sign(bytes, binding, secret, mac);
	return same_mac(mac, token->mac);
}

/* Records that a verified token is consumed.  False: it was, or has expired. */
static bool
spend(IdemStore *store, const IdemToken *token)
{
	Datum		values[SPENT_COLUMNS];
	bool		nulls[SPENT_COLUMNS] = {false};

	values[SPENT_NONCE] = name_datum(token);
	values[SPENT_EXPIRES_AT] = TimestampTzGetDatum(token->expires);

	while (!expired(token))
	{
		IdemRow		row;

		idem_store_seek(store, values, &row);
		if (row.presence == IDEM_PRESENT)
			return false;

		/* either may have waited, beyond the expiry even */
		if (expired(token))
			break;
		values[SPENT_CONSUMED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
		if (idem_store_insert(store, values, nulls))
			return !expired(token);
	}
	return false;
}

/* Is a token's time over at this moment? */
static bool
expired(const IdemToken *token)
{
	return token->expires <= GetCurrentTimestamp();
}

/* Counts one more token for a binding, or raises if there are too many. */
static void
count_issue(const Datum *binding, int32 max_issues, Interval *per)
{
	IdemStore	store;
	bool		counted = false;

	idem_store_open(&store, &idem_token_rate_table, IDEM_WRITE, IDEM_WAIT);
	while (!counted)
	{
		Datum		values[RATE_COLUMNS] = {binding[0], binding[1]};
		bool		nulls[RATE_COLUMNS] = {false};
		IdemRow		row;

		idem_store_seek(&store, binding, &row);
		if (row.presence == IDEM_ABSENT)
		{
			count_in_window(NULL, per, values);
			counted = idem_store_insert(&store, values, nulls);
			continue;
		}

		/* refused at once; the clock is read again once the row is locked */
		refuse_issue(binding, &row, max_issues);
		if (!idem_store_lock(&store, &row, IDEM_LOCK_UPDATE))
			continue;
		count_in_window(&row, per, values);
		counted = idem_store_update(&store, &row, values, nulls);
	}
	idem_store_close(&store);
}

/* Raises if a binding has used up its window, and that is not over. */
static void
refuse_issue(const Datum *binding, const IdemRow *row, int32 max_issues)
{
	int64		remaining = DatumGetTimestampTz(row->values[RATE_WINDOW_END]) -
		GetCurrentTimestamp();
	int32		issued = DatumGetInt32(row->values[RATE_ISSUED]);

	if (remaining <= 0 || issued < max_issues)
		return;
	idem_stat_count_now(IDEM_STAT_TOKEN_LIMITED, IDEM_STAT_NO_SOURCE);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_TOO_MANY),
			 errmsg("too many tokens were asked for"),
			 errdetail("For %s %d tokens were issued in this window; the limit is %d.",
					   idem_store_key(&idem_token_rate_table, binding),
					   issued, max_issues),
			 errhint("Try again in %lld s.",
					 (long long) ((remaining - 1) / USECS_PER_SEC + 1))));
}

/* One more in the row's window, or the first in one that begins now. */
static void
count_in_window(const IdemRow *row, Interval *per, Datum *values)
{
	if (row != NULL &&
		DatumGetTimestampTz(row->values[RATE_WINDOW_END]) > GetCurrentTimestamp())
	{
		values[RATE_WINDOW_END] = row->values[RATE_WINDOW_END];
		values[RATE_ISSUED] =
			Int32GetDatum(DatumGetInt32(row->values[RATE_ISSUED]) + 1);
	}
	else
	{
		values[RATE_WINDOW_END] = TimestampTzGetDatum(idem_time_after(GetCurrentTimestamp(), per));
		values[RATE_ISSUED] = Int32GetDatum(1);
	}
}

/* The secret that signs, and in id the number of its key. */
static bytea *
signing_secret(char *id)
{
	static char last_id[IDEM_TOKEN_KEY_LEN];
	Datum		key;
	IdemStore	store;
	IdemRow		row;

	idem_store_open(&store, &idem_token_key_table, IDEM_READ, IDEM_NO_WAIT);
	key = PointerGetDatum(cstring_to_text_with_len(last_id, IDEM_TOKEN_KEY_LEN));
	row.presence = IDEM_ABSENT;
	if (last_id[0] != '\0')
		idem_store_read(&store, &key, &row);
	if (row.presence == IDEM_ABSENT || !row.nulls[KEY_VERIFY_UNTIL])
	{
		if (idem_plan_execute(IDEM_PLAN_TOKEN_KEY_SIGNING,
							  idem_store_owner(&store), true, NULL, NULL,
							  row.values, row.nulls, KEY_COLUMNS) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("there is no secret to sign tokens with"),
					 errdetail("Table \"idem.token_key\" has no row without \"verify_until\"."),
					 errhint("Have an administrator call idem_token_rekey.")));
		key = row.values[KEY_ID];
		if (VARSIZE_ANY_EXHDR(DatumGetPointer(key)) != IDEM_TOKEN_KEY_LEN)
			elog(ERROR, "key of tokens has a number of the wrong length");
		memcpy(last_id, VARDATA_ANY(DatumGetPointer(key)), IDEM_TOKEN_KEY_LEN);
	}
	idem_store_close(&store);

	memcpy(id, last_id, IDEM_TOKEN_KEY_LEN);
	return DatumGetByteaPP(row.values[KEY_SECRET]);
}

/* The secret of a key by its number; NULL if nothing verifies by it any more. */
static bytea *
verifying_secret(const char *id)
{
	Datum		key = PointerGetDatum(cstring_to_text_with_len(id, IDEM_TOKEN_KEY_LEN));
	IdemStore	store;
	IdemRow		row;

	idem_store_open(&store, &idem_token_key_table, IDEM_READ, IDEM_NO_WAIT);
	idem_store_read(&store, &key, &row);
	idem_store_close(&store);

	if (row.presence == IDEM_ABSENT ||
		(!row.nulls[KEY_VERIFY_UNTIL] &&
		 DatumGetTimestampTz(row.values[KEY_VERIFY_UNTIL]) <= GetCurrentTimestamp()))
		return NULL;
	return DatumGetByteaPP(row.values[KEY_SECRET]);
}

/* Signs the head of a token together with what it is good for. */
static void
sign(const char *head, const Datum *binding, bytea *secret, uint8 *mac)
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool		ok;

	StaticAssertStmt(IDEM_TOKEN_MAC_BYTES == PG_SHA256_DIGEST_LENGTH,
					 "a signature is a whole HMAC-SHA-256");

	ok = ctx != NULL &&
		pg_hmac_init(ctx, (uint8 *) VARDATA_ANY(secret),
					 VARSIZE_ANY_EXHDR(secret)) >= 0 &&
		pg_hmac_update(ctx, (const uint8 *) head, IDEM_TOKEN_HEAD_LEN) >= 0;
	for (int i = 0; ok && i < BINDING_KEYS; i++)
	{
		struct varlena *value = (struct varlena *) DatumGetPointer(binding[i]);
		uint32		len = VARSIZE_ANY_EXHDR(value);
		uint32		be = pg_hton32(len);

		ok = pg_hmac_update(ctx, (uint8 *) &be, sizeof(be)) >= 0 &&
			pg_hmac_update(ctx, (uint8 *) VARDATA_ANY(value), len) >= 0;
	}
	ok = ok && pg_hmac_final(ctx, mac, IDEM_TOKEN_MAC_BYTES) >= 0;
	if (!ok)
		elog(ERROR, "could not sign a token: %s", pg_hmac_error(ctx));
	pg_hmac_free(ctx);
}

/* Fills bytes from the server's cryptographic random source. */
static void
strong_random(uint8 *bytes, int nbytes)
{
	if (!pg_strong_random(bytes, nbytes))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values"),
				 errdetail("The server's source of strong random numbers did not answer."),
				 errhint("Try again; if it stays so, look after the random numbers of the operating system.")));
}

/* Compares in constant time: how long it takes must not tell how much is right. */
static bool
same_mac(const uint8 *a, const uint8 *b)
{
	volatile uint8 difference = 0;

	for (int i = 0; i < IDEM_TOKEN_MAC_BYTES; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* A token's name, as the key of its row. */
static Datum
name_datum(const IdemToken *token)
{
	return PointerGetDatum(cstring_to_text_with_len(token->name,
													IDEM_TOKEN_NAME_LEN));
}

/* The token given: not null, but it may be anything else. */
static text *
get_token(FunctionCallInfo fcinfo, int argno)
{
	idem_arg_not_null(fcinfo, argno, "token");
	return PG_GETARG_TEXT_PP(argno);
}

/* Arguments purpose and subject; the subject may be empty. */
static void
get_binding(FunctionCallInfo fcinfo, int argno, Datum *binding)
{
	text	   *subject;

	binding[0] = PointerGetDatum(idem_arg_text(fcinfo, argno, "purpose",
											   IDEM_PURPOSE_MAX));
	idem_arg_not_null(fcinfo, argno + 1, "subject");
	subject = PG_GETARG_TEXT_PP(argno + 1);
	binding[1] = PointerGetDatum(subject);
	if (VARSIZE_ANY_EXHDR(subject) > 0)
		idem_check_text(binding[1], "subject", IDEM_SUBJECT_MAX);
}
