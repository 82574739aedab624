/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Claims: work that is done in the caller's own transaction, once.
 *
 * The contract.  A key is (source, seq).  The first to claim it does the work,
 * and the commit of that work is the record that it was done; whoever comes
 * later is told so, and what the answer was.  Rolling back, also to a
 * savepoint, gives the key back at once.  A key belongs to the role that
 * claimed it: a role that may not act as that one is refused.
 *
 * The record is one row of idem.claim, which claim_row.c describes; claim_take.c
 * says why exactly one call has the key.
 *
 * An answer is recorded by an update that names the row version it judged, and
 * is refused by the store if that is no longer the current one; the loop then
 * judges anew.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(idem_claim);
PG_FUNCTION_INFO_V1(idem_respond);
PG_FUNCTION_INFO_V1(idem_response);
PG_FUNCTION_INFO_V1(idem_lookup);
PG_FUNCTION_INFO_V1(idem_cancel);
PG_FUNCTION_INFO_V1(idem_forget);


/*
 * idem_claim(source, seq, request jsonb, wait boolean) -> boolean
 *
 * True: this transaction is the first and does the work.
 */
Datum
idem_claim(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	IdemTake	take = {.status = CLAIM_DONE};
	bool		wait;
	IdemStore	store;
	IdemRow		row;
	IdemClaimStatus status;

	idem_claim_key(fcinfo, key);
	wait = idem_arg_bool(fcinfo, 3, "wait");
	take.request = idem_arg_request(fcinfo, 2);

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE,
					wait ? IDEM_WAIT : IDEM_NO_WAIT);
	status = idem_claim_take(&store, key, &take, &row);

	/* what the idem_call above us runs without a lease is taken, as our own */
	if ((status == CLAIM_RUNNING || status == CLAIM_EXPIRED) &&
		!row.nulls[CLAIM_LEASE_UNTIL])
		idem_claim_in_progress(&store, key, &row, NULL);
	if (status != CLAIM_TAKEN)
		idem_claim_count(&take, key[CLAIM_SOURCE], CLAIM_DONE, 1);
	idem_store_close(&store);

	PG_RETURN_BOOL(status == CLAIM_TAKEN);
}

/*
 * idem_respond(source, seq, response json) -> boolean
 *
 * Records the answer of a claim, once.
 */
Datum
idem_respond(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	Datum		response;
	IdemStore	store;
	IdemRow		row;
	bool		recorded = false;

	idem_claim_key(fcinfo, key);
	idem_arg_not_null(fcinfo, 2, "response");
	response = PointerGetDatum(PG_GETARG_TEXT_PP(2));

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, IDEM_WAIT);
	do
	{
		IdemClaimStatus status;

		idem_store_find(&store, key, &row);
		if (row.presence == IDEM_PRESENT)
			idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
		status = row.presence == IDEM_PRESENT ? idem_claim_status(&row) : CLAIM_OPEN;

		if (row.presence == IDEM_ABSENT)
			idem_policy_check_gone(&store, key);
		if (status == CLAIM_OPEN)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_NOT_FOUND),
					 errmsg("there is no such claim"),
					 errdetail("Key %s is not claimed.",
							   idem_store_key(&idem_claim_table, key)),
					 errhint("Call idem_claim first, in the transaction that does the work.")));
		if (status == CLAIM_RUNNING || status == CLAIM_EXPIRED)
			idem_claim_in_progress(&store, key, &row,
								   row.nulls[CLAIM_LEASE_UNTIL] ?
								   "The answer is what the function that idem_call runs returns." :
								   "Only the holder of the attempt can complete it.");
		if (status == CLAIM_CANCELLED)
			idem_claim_cancelled(key);

		if (status == CLAIM_DONE && !row.nulls[CLAIM_RESPONSE] &&
			idem_same_bytes(row.values[CLAIM_RESPONSE], response))
			break;
		if (status != CLAIM_DONE || !row.nulls[CLAIM_RESPONSE] ||
			DatumGetInt64(row.values[CLAIM_FENCE]) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_STALE),
					 errmsg("another answer is recorded"),
					 errdetail("Key %s is %s, and its answer is not the one given.",
							   idem_store_key(&idem_claim_table, key),
							   idem_claim_status_name(status)),
					 errhint("Read the recorded answer with idem_response.")));

		idem_claim_set(&row, CLAIM_RESPONSE, false, response);
		idem_claim_set(&row, CLAIM_COMPLETED_AT, false,
					   TimestampTzGetDatum(GetCurrentTimestamp()));
		recorded = idem_store_update(&store, &row, row.values, row.nulls);
	} while (!recorded);
	idem_store_close(&store);
	idem_stat_no_outcome();

	PG_RETURN_BOOL(recorded);
}

/*
 * idem_response(source, seq) -> json
 *
 * The recorded answer; null if there is none.
 */
Datum
idem_response(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	IdemStore	store;
	IdemRow		row;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_claim_table, IDEM_READ, IDEM_NO_WAIT);
	idem_store_read(&store, key, &row);
	idem_store_close(&store);

	if (row.presence == IDEM_ABSENT)
		PG_RETURN_NULL();
	idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
	/* the failure of an attempt that may be tried again is no answer */
	if (row.nulls[CLAIM_RESPONSE] ||
		(idem_claim_status(&row) != CLAIM_DONE &&
		 idem_claim_status(&row) != CLAIM_FAILED))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PointerGetDatum(PG_DETOAST_DATUM(row.values[CLAIM_RESPONSE])));
}

/*
 * idem_lookup(source, seq) -> (status, fence, response, claimed_at,
 *							   completed_at, lease_until, owner)
 *
 * All that is known of a key; all null if nothing is.
 */
Datum
idem_lookup(PG_FUNCTION_ARGS)
{
	static IdemResultType type = {
		.ncolumns = 7,
		.columns = {
			{"status", TEXTOID},
			{"fence", INT8OID},
			{"response", JSONOID},
			{"claimed_at", TIMESTAMPTZOID},
			{"completed_at", TIMESTAMPTZOID},
			{"lease_until", TIMESTAMPTZOID},
			{"owner", NAMEOID}
		}
	};
	static const IdemClaimColumn columns[] = {
		CLAIM_STATUS, CLAIM_FENCE, CLAIM_RESPONSE, CLAIM_CLAIMED_AT,
		CLAIM_COMPLETED_AT, CLAIM_LEASE_UNTIL, CLAIM_OWNER
	};
	Datum		key[CLAIM_KEYS];
	IdemStore	store;
	IdemRow		row;
	Datum		values[lengthof(columns)];
	bool		nulls[lengthof(columns)];
	const IdemTake take = {.gone_is_answer = true};
	IdemClaimStatus status;
	bool		again;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_claim_table, IDEM_READ, IDEM_NO_WAIT);
	do
	{
		CHECK_FOR_INTERRUPTS();
		idem_store_read(&store, key, &row);
		if (row.presence == IDEM_ABSENT)
		{
			status = idem_claim_admit(&store, key, &take, IDEM_KEY_IS_READ);
			again = status == CLAIM_OPEN;
		}
		else
		{
			idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
			status = idem_claim_status(&row);
			again = status == CLAIM_EXPIRED && !IsolationIsSerializable() &&
				!idem_store_still(&store, key, &row);
		}
	} while (again);
	idem_store_close(&store);

	memset(nulls, true, sizeof(nulls));
	/* of a key whose time cannot be read nothing is known */
	if (row.presence == IDEM_ABSENT && status == CLAIM_GONE)
	{
		values[0] = CStringGetTextDatum(idem_claim_status_name(status));
		nulls[0] = false;
	}
	if (row.presence == IDEM_PRESENT)
	{
		/* a claim without an answer was complete when it was made */
		if (status == CLAIM_DONE && row.nulls[CLAIM_COMPLETED_AT])
			idem_claim_set(&row, CLAIM_COMPLETED_AT,
						   row.nulls[CLAIM_CLAIMED_AT],
						   row.values[CLAIM_CLAIMED_AT]);
		idem_claim_set(&row, CLAIM_STATUS, false,
					   CStringGetTextDatum(idem_claim_status_name(status)));
		if (!row.nulls[CLAIM_RESPONSE])
			idem_claim_set(&row, CLAIM_RESPONSE, false,
						   PointerGetDatum(PG_DETOAST_DATUM(row.values[CLAIM_RESPONSE])));
		idem_claim_set(&row, CLAIM_OWNER, false,
					   DirectFunctionCall1(text_name, row.values[CLAIM_OWNER]));
		for (int i = 0; i < (int) lengthof(columns); i++)
		{
			values[i] = row.values[columns[i]];
			nulls[i] = row.nulls[columns[i]];
		}
	}
	PG_RETURN_DATUM(idem_result_row(&type, values, nulls));
}

/*
 * idem_cancel(source, seq) -> text
 *
 * Makes sure that a key will never run; answers its status after.
 */
Datum
idem_cancel(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	const IdemTake take = {.status = CLAIM_CANCELLED};
	IdemStore	store;
	IdemRow		row;
	IdemClaimStatus status;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, IDEM_WAIT);
	status = idem_claim_take(&store, key, &take, &row);
	if (status == CLAIM_RUNNING)
		idem_claim_in_progress(&store, key, &row, NULL);
	idem_claim_count(&take, key[CLAIM_SOURCE], status, 1);
	idem_store_close(&store);

	if (status == CLAIM_TAKEN)
		status = CLAIM_CANCELLED;
	PG_RETURN_TEXT_P(cstring_to_text(idem_claim_status_name(status)));
}

/*
 * idem_forget(source, seq) -> boolean
 *
 * Removes what is known of a key.  For administrators; a role that was granted
 * the function reaches the keys of roles that it may act as.
 */
Datum
idem_forget(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	IdemStore	store;
	IdemRow		row;
	bool		forgotten = false;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, IDEM_WAIT);
	while (!forgotten)
	{
		CHECK_FOR_INTERRUPTS();
		idem_store_read(&store, key, &row);
		if (row.presence == IDEM_ABSENT)
			break;
		if (!idem_is_administrator())
			idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
		if (idem_claim_status(&row) == CLAIM_RUNNING)
			idem_claim_in_progress(&store, key, &row, NULL);
		if (!idem_store_lock(&store, &row, IDEM_LOCK_UPDATE))
			continue;
		idem_store_remove(&store, &row);
		forgotten = true;
	}
	idem_store_close(&store);

	PG_RETURN_BOOL(forgotten);
}
