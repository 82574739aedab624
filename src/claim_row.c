/*-------------------------------------------------------------------------
 *
 * claim_row.c
 *	  A row of idem.claim: what it says, for claims and attempts alike.
 *
 * One row for each key (source, seq), which claims and attempts share, so that
 * a key is done once whichever way it is asked for.  Its status is
 *
 *		done		claimed, or completed by an attempt
 *		running		an attempt holds it until lease_until; without a lease:
 *					idem_call is running its function, which only the
 *					transaction that does so can ever see
 *		open		an attempt gave it back
 *		failed		an attempt failed for good; its answer is the failure
 *		cancelled	nobody may ever run it
 *
 * Fence counts the grants of the key to attempts; a key that was claimed has
 * 0.  A running row whose lease is over is expired: that is not written, the
 * clock says so, and it may be read before and after that moment.  So whoever
 * writes because of it asks after the row is locked.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* Bytes of a request's digest that are kept. */
#define DIGEST_LEN		16

IdemTable	idem_claim_table = {
	.relname = "claim",
	.keyname = "source, seq",
	.nkeys = CLAIM_KEYS,
	.reversed = true,
	.natts = CLAIM_COLUMNS,
	.required = CLAIM_FENCE + 1,
	.columns = {
		{"source", TEXTOID},
		{"seq", TEXTOID},
		{"owner", TEXTOID},
		{"status", CHAROID},
		{"fence", INT8OID},
		{"claimed_at", TIMESTAMPTZOID},
		{"completed_at", TIMESTAMPTZOID},
		{"lease_until", TIMESTAMPTZOID},
		{"request", BYTEAOID},
		{"response", JSONOID}
	},
	.stat = IDEM_STAT_CLAIM,
	.has_source = true
};


/* The key given: arguments source and seq. */
void
idem_claim_key(FunctionCallInfo fcinfo, Datum *key)
{
	key[CLAIM_SOURCE] = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
													  IDEM_SOURCE_MAX));
	key[CLAIM_SEQ] = idem_arg_seq(fcinfo, 1);
}

/* A row for a key as it is taken, or cancelled before anybody took it. */
void
idem_claim_new_row(const Datum *key, IdemClaimStatus status, Datum request,
				   Datum *values, bool *nulls)
{
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());

	for (int i = 0; i < CLAIM_COLUMNS; i++)
		nulls[i] = true;

	values[CLAIM_SOURCE] = key[CLAIM_SOURCE];
	values[CLAIM_SEQ] = key[CLAIM_SEQ];
	values[CLAIM_OWNER] = idem_current_owner();
	values[CLAIM_STATUS] = CharGetDatum(status);
	values[CLAIM_FENCE] = Int64GetDatum(0);
	for (int i = 0; i <= CLAIM_FENCE; i++)
		nulls[i] = false;

	if (status == CLAIM_CANCELLED)
	{
		values[CLAIM_COMPLETED_AT] = now;
		nulls[CLAIM_COMPLETED_AT] = false;
	}
	else
	{
		values[CLAIM_CLAIMED_AT] = now;
		nulls[CLAIM_CLAIMED_AT] = false;
	}
	if (request != (Datum) 0)
	{
		values[CLAIM_REQUEST] = request;
		nulls[CLAIM_REQUEST] = false;
	}
}

/* The status of a row at this moment. */
IdemClaimStatus
idem_claim_status(const IdemRow *row)
{
	IdemClaimStatus status = DatumGetChar(row->values[CLAIM_STATUS]);

	if (status == CLAIM_RUNNING && !row->nulls[CLAIM_LEASE_UNTIL] &&
		DatumGetTimestampTz(row->values[CLAIM_LEASE_UNTIL]) <= GetCurrentTimestamp())
		return CLAIM_EXPIRED;
	return status;
}

/* The status as the API names it. */
const char *
idem_claim_status_name(IdemClaimStatus status)
{
	switch (status)
	{
		case CLAIM_DONE:
			return "done";
		case CLAIM_RUNNING:
			return "running";
		case CLAIM_EXPIRED:
			return "expired";
		case CLAIM_OPEN:
			return "open";
		case CLAIM_FAILED:
			return "failed";
		case CLAIM_CANCELLED:
			return "cancelled";
	}
	elog(ERROR, "unknown status %d", (int) status);
	return NULL;				/* keep the compiler quiet */
}

/*
 * Refuses another request than the one that was recorded.  Null, which is 0
 * here, is not compared, on either side.
 */
void
idem_check_request(const Datum *key, const IdemRow *row, Datum request)
{
	if (request == (Datum) 0 || row->nulls[CLAIM_REQUEST] ||
		idem_same_bytes(request, row->values[CLAIM_REQUEST]))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_OTHER_REQUEST),
			 errmsg("key was used for another request"),
			 errdetail("Key %s was recorded with a request that differs from the one given.",
					   idem_store_key(&idem_claim_table, key)),
			 errhint("Use a new key for a new request; a retry sends the same one.")));
}

/*
 * A digest that is equal for equal jsonb values: jsonb has sorted the keys
 * already, and numbers are taken without the zeros that do not change them.
 * Every piece is preceded by its kind and length, so that no two values read
 * alike.
 */
Datum
idem_request_digest(Jsonb *request)
{
	JsonbIterator *it = JsonbIteratorInit(&request->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	StringInfoData buf;
	bytea	   *sha256;
	bytea	   *digest;

	initStringInfo(&buf);
	enlargeStringInfo(&buf, VARHDRSZ);
	buf.len = VARHDRSZ;
	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		const char *bytes = NULL;
		int			len = 0;
		uint32		be;

		appendStringInfoChar(&buf, (char) token);
		if (token == WJB_BEGIN_ARRAY)
			appendStringInfoChar(&buf, value.val.array.rawScalar ? 's' : 'a');
		if (token != WJB_KEY && token != WJB_VALUE && token != WJB_ELEM)
			continue;

		appendStringInfoChar(&buf, (char) value.type);
		switch (value.type)
		{
			case jbvString:
				bytes = value.val.string.val;
				len = value.val.string.len;
				break;
			case jbvNumeric:
				bytes = numeric_normalize(value.val.numeric);
				len = strlen(bytes);
				break;
			case jbvBool:
				bytes = value.val.boolean ? "t" : "f";
				len = 1;
				break;
			default:
				break;
		}
		be = pg_hton32((uint32) len);
		appendBinaryStringInfo(&buf, (char *) &be, sizeof(be));
		if (len > 0)
			appendBinaryStringInfo(&buf, bytes, len);
	}
	SET_VARSIZE(buf.data, buf.len);
	sha256 = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
												 PointerGetDatum(buf.data)));

	digest = palloc(VARHDRSZ + DIGEST_LEN);
	SET_VARSIZE(digest, VARHDRSZ + DIGEST_LEN);
	memcpy(VARDATA(digest), VARDATA_ANY(sha256), DIGEST_LEN);
	return PointerGetDatum(digest);
}
