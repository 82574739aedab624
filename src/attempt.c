/*-------------------------------------------------------------------------
 *
 * attempt.c
 *	  Attempts: work that leaves the database, such as a payment or a message.
 *
 * The contract.  Such work cannot roll back, so it cannot be done inside the
 * transaction that records it.  idem_begin grants the key for a time, and
 * that grant is committed before the work is done; idem_complete or idem_fail
 * records what came of it, in a transaction of its own.  In between the key
 * is running; when its lease is over without a word it is expired, and what
 * came of it nobody here can know: the next idem_begin takes it over, or with
 * takeover => false leaves it to somebody who finds out.
 *
 * What the fence is for.  Every grant of a key has the next number.  Renewing,
 * completing and failing name it, and are refused with ID412 when it is no
 * longer the key's, so a worker that was stopped and goes on after another
 * one was granted the key cannot overwrite what that one records.  The lease
 * alone takes nothing away from a worker: as long as nobody else was granted
 * the key it may renew late, and complete late, for the work was done once.
 *
 * Why exactly one is granted: claim_take.c, by which a key is granted.
 *
 * Why the fence decides.  Renew, complete and fail compare it with the row
 * version that they then update; a grant in between changes the row, and the
 * update is refused by the store and judged anew.  So of a completion and a
 * take-over at the same moment either the completion stands and the other is
 * told so, or the take-over does and the completion raises ID412.
 *
 * What waits.  idem_begin waits for a transaction that is inserting the key,
 * as idem_claim does, and for one that changes a key that it would take.  A
 * running key is answered at once, also while it is being completed.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static bool finish(FunctionCallInfo fcinfo, IdemClaimStatus outcome);
static void find_attempt(IdemStore *store, const Datum *key, IdemRow *row);
static bool is_held(const IdemRow *row, int64 fence);
static bool is_answer(const IdemRow *row, bool isnull, Datum response);
static void stale_error(const Datum *key, const IdemRow *row, int64 fence);

PG_FUNCTION_INFO_V1(idem_begin);
PG_FUNCTION_INFO_V1(idem_renew);
PG_FUNCTION_INFO_V1(idem_complete);
PG_FUNCTION_INFO_V1(idem_fail);


/*
 * idem_begin(source, seq, ttl interval, request jsonb, takeover boolean,
 *			  wait boolean) -> (status, fence, response, lease_until)
 *
 * Status granted: the caller does the work, once this is committed.
 */
Datum
idem_begin(PG_FUNCTION_ARGS)
{
	static IdemResultType type = {
		.ncolumns = 4,
		.columns = {
			{"status", TEXTOID},
			{"fence", INT8OID},
			{"response", JSONOID},
			{"lease_until", TIMESTAMPTZOID}
		}
	};
	Datum		key[CLAIM_KEYS];
	IdemTake	take = {.status = CLAIM_RUNNING};
	bool		wait;
	IdemStore	store;
	IdemRow		row;
	IdemClaimStatus status;
	Datum		values[4];
	bool		nulls[4];

	idem_claim_key(fcinfo, key);
	take.ttl = idem_arg_interval(fcinfo, 2, "ttl");
	take.takeover = idem_arg_bool(fcinfo, 4, "takeover");
	wait = idem_arg_bool(fcinfo, 5, "wait");
	take.request = idem_arg_request(fcinfo, 3);
	idem_store_open(&store, &idem_claim_table, IDEM_WRITE,
					wait ? IDEM_WAIT : IDEM_NO_WAIT);
	status = idem_claim_take(&store, key, &take, &row);
	if (status != CLAIM_TAKEN)
		idem_claim_count(&take, key[CLAIM_SOURCE], status, 1);
	idem_store_close(&store);

	values[0] = CStringGetTextDatum(status == CLAIM_TAKEN ? "granted" :
									idem_claim_status_name(status));
	nulls[0] = false;
	values[1] = row.values[CLAIM_FENCE];
	nulls[1] = false;
	nulls[2] = row.nulls[CLAIM_RESPONSE];
	if (!nulls[2])
		values[2] = PointerGetDatum(PG_DETOAST_DATUM(row.values[CLAIM_RESPONSE]));
	values[3] = row.values[CLAIM_LEASE_UNTIL];
	nulls[3] = row.nulls[CLAIM_LEASE_UNTIL];

	PG_RETURN_DATUM(idem_result_row(&type, values, nulls));
}

/*
 * idem_renew(source, seq, fence bigint, ttl interval) -> timestamptz
 *
 * Gives an attempt more time, counted from now; answers until when.
 */
Datum
idem_renew(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	int64		fence;
	Interval   *ttl;
	IdemStore	store;
	IdemRow		row;
	bool		renewed = false;

	idem_claim_key(fcinfo, key);
	idem_arg_not_null(fcinfo, 2, "fence");
	fence = PG_GETARG_INT64(2);
	ttl = idem_arg_interval(fcinfo, 3, "ttl");

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, IDEM_WAIT);
	while (!renewed)
	{
		find_attempt(&store, key, &row);
		if (!is_held(&row, fence))
			stale_error(key, &row, fence);
		if (!idem_store_lock(&store, &row, IDEM_LOCK_UPDATE))
			continue;

		idem_claim_set(&row, CLAIM_LEASE_UNTIL, false,
					   TimestampTzGetDatum(idem_time_after(GetCurrentTimestamp(), ttl)));
		renewed = idem_store_update(&store, &row, row.values, row.nulls);
	}
	idem_store_close(&store);
	idem_stat_no_outcome();

	PG_RETURN_DATUM(row.values[CLAIM_LEASE_UNTIL]);
}

/*
 * idem_complete(source, seq, fence bigint, response json) -> boolean
 *
 * Records that the work was done, and its answer, once.
 */
Datum
idem_complete(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(finish(fcinfo, CLAIM_DONE));
}

/*
 * idem_fail(source, seq, fence bigint, response json, retry boolean)
 *		-> boolean
 *
 * Records that the work was not done: the key is open for the next attempt,
 * or without retry failed for good.
 */
Datum
idem_fail(PG_FUNCTION_ARGS)
{
	bool		retry = idem_arg_bool(fcinfo, 4, "retry");

	PG_RETURN_BOOL(finish(fcinfo, retry ? CLAIM_OPEN : CLAIM_FAILED));
}


/*
 * Ends an attempt: idem_complete and idem_fail, whose first four arguments are
 * the same.  False: it was ended so before.
 */
static bool
finish(FunctionCallInfo fcinfo, IdemClaimStatus outcome)
{
	Datum		key[CLAIM_KEYS];
	int64		fence;
	bool		isnull = PG_ARGISNULL(3);
	Datum		response = isnull ? (Datum) 0 : PG_GETARG_DATUM(3);
	IdemStore	store;
	IdemRow		row;
	bool		finished = false;

	idem_claim_key(fcinfo, key);
	idem_arg_not_null(fcinfo, 2, "fence");
	fence = PG_GETARG_INT64(2);

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, IDEM_WAIT);
	while (!finished)
	{
		find_attempt(&store, key, &row);
		if (!is_held(&row, fence))
		{
			if (fence > 0 && fence == DatumGetInt64(row.values[CLAIM_FENCE]) &&
				idem_claim_status(&row) == outcome &&
				is_answer(&row, isnull, response))
				break;
			stale_error(key, &row, fence);
		}

		idem_claim_set(&row, CLAIM_STATUS, false, CharGetDatum(outcome));
		idem_claim_set(&row, CLAIM_LEASE_UNTIL, true, (Datum) 0);
		if (outcome != CLAIM_OPEN)
			idem_claim_set(&row, CLAIM_UNSETTLED_SINCE, true, (Datum) 0);
		idem_claim_set(&row, CLAIM_RESPONSE, isnull, response);
		idem_claim_set(&row, CLAIM_COMPLETED_AT, outcome == CLAIM_OPEN,
					   TimestampTzGetDatum(GetCurrentTimestamp()));
		finished = idem_store_update(&store, &row, row.values, row.nulls);
	}
	idem_store_close(&store);
	if (finished)
		idem_stat_count(outcome == CLAIM_DONE ? IDEM_STAT_ATTEMPT_COMPLETED :
						IDEM_STAT_ATTEMPT_FAILED, key[CLAIM_SOURCE], 1);
	else
		idem_stat_no_outcome();

	return finished;
}

/*
 * The row of a key that the caller says to hold.  One that another transaction
 * is inserting is nobody's yet who could know its fence.
 */
static void
find_attempt(IdemStore *store, const Datum *key, IdemRow *row)
{
	idem_store_find(store, key, row);
	if (row->presence == IDEM_ABSENT)
		idem_policy_check_gone(store, key);
	if (row->presence != IDEM_PRESENT)
		ereport(ERROR,
				(errcode(ERRCODE_IDEM_NOT_FOUND),
				 errmsg("there is no such attempt"),
				 errdetail("Key %s was never begun.",
						   idem_store_key(&idem_claim_table, key)),
				 errhint("Call idem_begin and commit, before the work is done.")));
	idem_check_owner(&idem_claim_table, key, row->values[CLAIM_OWNER]);
}

/*
 * Is this the row of the attempt that has the fence, not yet ended?  Its lease
 * may be over.  What idem_call runs has no lease and no fence.
 */
static bool
is_held(const IdemRow *row, int64 fence)
{
	return DatumGetChar(row->values[CLAIM_STATUS]) == CLAIM_RUNNING &&
		!row->nulls[CLAIM_LEASE_UNTIL] &&
		DatumGetInt64(row->values[CLAIM_FENCE]) == fence;
}

/* Is this the answer that the row has? */
static bool
is_answer(const IdemRow *row, bool isnull, Datum response)
{
	if (isnull || row->nulls[CLAIM_RESPONSE])
		return isnull && row->nulls[CLAIM_RESPONSE];
	return idem_same_bytes(row->values[CLAIM_RESPONSE], response);
}

/* The attempt of this fence is not the caller's to go on with. */
static void
stale_error(const Datum *key, const IdemRow *row, int64 fence)
{
	int64		current = DatumGetInt64(row->values[CLAIM_FENCE]);

	idem_stat_count_now(IDEM_STAT_ATTEMPT_STALE, key[CLAIM_SOURCE]);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 current == fence ?
			 errmsg("attempt is over") :
			 errmsg("attempt is no longer the current one"),
			 current == fence ?
			 errdetail("Key %s is %s; the attempt with fence %lld has ended.",
					   idem_store_key(&idem_claim_table, key),
					   idem_claim_status_name(idem_claim_status(row)),
					   (long long) fence) :
			 errdetail("Key %s is %s, with fence %lld; fence %lld was given.",
					   idem_store_key(&idem_claim_table, key),
					   idem_claim_status_name(idem_claim_status(row)),
					   (long long) current, (long long) fence),
			 errhint("Record nothing more for this attempt, and read what became of the key with idem_lookup.")));
}
