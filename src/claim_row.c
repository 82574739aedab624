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
 * Unsettled_since is claimed_at while the key is an attempt's that runs, has
 * expired or is open, and null otherwise.  It has an index of its own, without
 * nulls, by which idem_unsettled reads those rows and no settled ones.  It is a
 * column of its own because a change to an indexed column needs new entries in
 * every index: lease_until changes with each renewal, and status while
 * idem_call runs, but this one only when an attempt begins or is settled.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

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
		{"response", JSONOID},
		{"unsettled_since", TIMESTAMPTZOID}
	},
	.secondary = CLAIM_UNSETTLED_SINCE + 1,
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

/* The status of a row at this moment. */
IdemClaimStatus
idem_claim_status(const IdemRow *row)
{
	return idem_claim_status_at(row, GetCurrentTimestamp());
}

/* The status at a time. */
IdemClaimStatus
idem_claim_status_at(const IdemRow *row, TimestampTz now)
{
	IdemClaimStatus status = DatumGetChar(row->values[CLAIM_STATUS]);

	if (status == CLAIM_RUNNING && !row->nulls[CLAIM_LEASE_UNTIL] &&
		DatumGetTimestampTz(row->values[CLAIM_LEASE_UNTIL]) <= now)
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
		case CLAIM_TAKEN:
			return "claimed";
		case CLAIM_BUSY:
			return "busy";
		case CLAIM_GONE:
			return "gone";
		case CLAIM_INVALID:
			return "invalid";
	}
	elog(ERROR, "unknown status %d", (int) status);
	return NULL;				/* keep the compiler quiet */
}

/* Sets a column of a row in memory. */
void
idem_claim_set(IdemRow *row, IdemClaimColumn column, bool isnull, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = isnull;
}

/*
 * Is the row of a key, as it is now, this transaction's own work?  Asked only
 * where the answer decides between two errors or between an error and a null.
 */
bool
idem_claim_is_own(const IdemStore *store, const Datum *key)
{
	Datum		xmin;
	bool		isnull;

	return idem_plan_execute(IDEM_PLAN_CLAIM_XMIN,
							 idem_store_owner(store), false, key, NULL,
							 &xmin, &isnull, 1) > 0 &&
		TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
}

/*
 * The key runs, or ran until its lease was over: it is an attempt's, or of the
 * idem_call that is at work further up in this transaction.  Hint is the next
 * step, if not that of its status.
 */
void
idem_claim_in_progress(const IdemStore *store, const Datum *key,
					   const IdemRow *row, const char *hint)
{
	IdemClaimStatus status = idem_claim_status(row);
	bool		call = row->nulls[CLAIM_LEASE_UNTIL];
	bool		own = call || idem_claim_is_own(store, key);

	if (hint == NULL)
		hint = call ? "The function that idem_call runs in this transaction must end first." :
			own ? "Record its end with idem_complete, or give the key back with idem_fail." :
			status == CLAIM_EXPIRED ?
			"Find out what became of it, then take it over with idem_begin or cancel it." :
			"Try again when its lease has run out.";
	idem_stat_count_now(IDEM_STAT_CLAIM_BUSY, key[CLAIM_SOURCE]);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_IN_PROGRESS),
			 own ? errmsg("claim is in progress in this transaction") :
			 errmsg("claim is in progress elsewhere"),
			 call ?
			 errdetail("Key %s is running: an idem_call of this transaction holds it.",
					   idem_store_key(&idem_claim_table, key)) :
			 errdetail("Key %s is %s, with fence %lld: an attempt%s holds it.",
					   idem_store_key(&idem_claim_table, key),
					   idem_claim_status_name(status),
					   (long long) DatumGetInt64(row->values[CLAIM_FENCE]),
					   own ? " of this transaction" : ""),
			 errhint("%s", hint)));
}

/* What was cancelled is neither run nor answered. */
void
idem_claim_cancelled(const Datum *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 errmsg("claim is cancelled"),
			 errdetail("Key %s was cancelled and will never run.",
					   idem_store_key(&idem_claim_table, key)),
			 errhint("Use another key if the work is wanted after all.")));
}
