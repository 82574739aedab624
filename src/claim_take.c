/*-------------------------------------------------------------------------
 *
 * claim_take.c
 *	  A key is taken: claimed, granted to an attempt, or cancelled.
 *
 * The contract.  A key that nobody knows is inserted, one that is free (open,
 * or expired for those who may have it) is written anew, and of any other the
 * caller is told what it is.  The request is compared first, except with that of
 * an open key: its work was given back undone, so the next request replaces it.
 * Another role's key, and another request, raise.
 *
 * Why exactly one has it.  Two calls for one key meet in the store: the first
 * one's row is there, uncommitted, before the second one looks (store.c says
 * why under each isolation level).  The second then waits for the first one's
 * transaction and looks again, so it decides on what was committed.  A key that
 * is free is written as the very row version that was judged; if another
 * transaction has changed it, the store refuses and the loop judges anew.  No
 * answer rests on a row that may still change: done, failed and cancelled are
 * final but for idem_forget and idem_purge, and the others are only left by an
 * update.
 *
 * A key that is not on record may also be one that was forgotten: the policy of
 * its source is asked before it is inserted, and after (policy.c says why).
 *
 * An attempt locks the row before it reads the clock, since its lease counts
 * from when it is granted, not from before a wait.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "access/xact.h"
#include "utils/timestamp.h"

static IdemClaimStatus insert_new(IdemStore *store, const Datum *key,
								  const IdemTake *take, IdemRow *row);
static IdemClaimStatus take_free(IdemStore *store, const Datum *key,
								 const IdemTake *take, IdemRow *row);
static void set_request(IdemRow *row, Jsonb *request);
static void check_request(const Datum *key, const IdemRow *row,
						  Jsonb *request);
static void write_grant(IdemRow *row, int64 fence, const Interval *ttl);


/*
 * Takes a key if it may be taken.  CLAIM_TAKEN: it was taken, and row is as this
 * call has written it.  Otherwise the answer is the status of the key, and row
 * is as it was found.  CLAIM_BUSY comes only from a store that is open with
 * IDEM_NO_WAIT_ANSWER, CLAIM_GONE and CLAIM_INVALID come only where
 * gone_is_answer is set; with these three, row is not set.
 */
IdemClaimStatus
idem_claim_take(IdemStore *store, const Datum *key, const IdemTake *take,
				IdemRow *row)
{
	IdemClaimStatus status;

	idem_store_next_key(store);
	do
	{
		idem_store_seek(store, key, row);
		if (row->presence == IDEM_BUSY)
			status = CLAIM_BUSY;
		else if (row->presence == IDEM_ABSENT)
		{
			status = insert_new(store, key, take, row);
			if (status == CLAIM_TAKEN)
				idem_claim_count(take, key[CLAIM_SOURCE], status, 1);
		}
		else if (idem_claim_is_free(key, take, row, &status))
			status = take_free(store, key, take, row);
		/* its lease may have been renewed before it ended */
		else if (status == CLAIM_EXPIRED && !idem_store_still(store, key, row))
			status = CLAIM_OPEN;
	} while (status == CLAIM_OPEN);
	idem_store_release(store);
	return status;
}

/*
 * Asks the policy of its source whether a key that is not on record may be
 * taken.  CLAIM_TAKEN: it may; CLAIM_OPEN: it is on record by now, look again;
 * otherwise CLAIM_GONE or CLAIM_INVALID, or an error unless that is an answer.
 */
IdemClaimStatus
idem_claim_admit(IdemStore *store, const Datum *key, const IdemTake *take,
				 IdemKeyMoment moment)
{
	IdemKeyAge	age = idem_policy_judge(store, key, moment);

	if (age != IDEM_KEY_NEW && moment != IDEM_KEY_IS_INSERTED &&
		!idem_store_still(store, key, &idem_no_row))
		return CLAIM_OPEN;
	switch (age)
	{
		case IDEM_KEY_NEW:
			return CLAIM_TAKEN;
		case IDEM_KEY_GONE:
			if (take->gone_is_answer)
				return CLAIM_GONE;
			break;
		case IDEM_KEY_INVALID:
			if (take->gone_is_answer)
				return CLAIM_INVALID;
			break;
	}
	idem_policy_refuse(store, key);
	return CLAIM_TAKEN;			/* the clock was set back meanwhile */
}

/* Makes the row of a key that nobody knows, which the caller then inserts. */
void
idem_claim_new_row(const Datum *key, const IdemTake *take, IdemRow *row)
{
	Datum		now = TimestampTzGetDatum(GetCurrentTimestamp());

	for (int i = 0; i < CLAIM_COLUMNS; i++)
		idem_claim_set(row, i, true, (Datum) 0);

	idem_claim_set(row, CLAIM_SOURCE, false, key[CLAIM_SOURCE]);
	idem_claim_set(row, CLAIM_SEQ, false, key[CLAIM_SEQ]);
	idem_claim_set(row, CLAIM_OWNER, false, idem_current_owner());
	idem_claim_set(row, CLAIM_STATUS, false, CharGetDatum(take->status));
	idem_claim_set(row, CLAIM_FENCE, false, Int64GetDatum(0));
	idem_claim_set(row, take->status == CLAIM_CANCELLED ?
				   CLAIM_COMPLETED_AT : CLAIM_CLAIMED_AT, false, now);
	set_request(row, take->request);
	if (take->ttl != NULL)
		write_grant(row, 1, take->ttl);
}

/*
 * Judges a row that is there: may this call have the key?  If not, status says
 * what it is.
 */
bool
idem_claim_is_free(const Datum *key, const IdemTake *take, const IdemRow *row,
				   IdemClaimStatus *status)
{
	idem_check_owner(&idem_claim_table, key, row->values[CLAIM_OWNER]);
	*status = idem_claim_status(row);
	if (*status == CLAIM_OPEN)
		return true;
	check_request(key, row, take->request);
	return *status == CLAIM_EXPIRED &&
		(take->takeover || take->status == CLAIM_CANCELLED);
}

/*
 * Counts an answer for n keys.  A key that is taken is counted where it is taken.
 * Any other answer is counted by the function that gives it, because that
 * function may raise an error instead.
 */
void
idem_claim_count(const IdemTake *take, Datum source, IdemClaimStatus status,
				 uint64 n)
{
	bool		attempt = take->ttl != NULL;
	IdemStatOutcome outcome = IDEM_STAT_CLAIM_DUPLICATE;

	if (take->status == CLAIM_CANCELLED)
	{
		idem_stat_no_outcome();
		return;
	}
	switch (status)
	{
		case CLAIM_TAKEN:
			outcome = attempt ? IDEM_STAT_ATTEMPT_GRANTED : IDEM_STAT_CLAIM_FIRST;
			break;
		case CLAIM_EXPIRED:
			outcome = attempt ? IDEM_STAT_ATTEMPT_EXPIRED : IDEM_STAT_CLAIM_BUSY;
			break;
		case CLAIM_RUNNING:
			if (!attempt)
				outcome = IDEM_STAT_CLAIM_BUSY;
			break;
		case CLAIM_BUSY:
			outcome = IDEM_STAT_CLAIM_BUSY;
			break;
		case CLAIM_GONE:
			outcome = IDEM_STAT_CLAIM_GONE;
			break;
		case CLAIM_INVALID:
			return;
		default:
			break;
	}
	idem_stat_count(outcome, source, n);
}


/*
 * Inserts a key that was found absent, if it may run.  CLAIM_OPEN: it is on
 * record after all; look again.  The policy is asked once more after the
 * insert.  If the key is too old by then, and that is an answer and not an
 * error, the row is deleted again.
 */
static IdemClaimStatus
insert_new(IdemStore *store, const Datum *key, const IdemTake *take,
		   IdemRow *row)
{
	IdemClaimStatus status = idem_claim_admit(store, key, take,
											  IDEM_KEY_IS_ABSENT);

	if (status != CLAIM_TAKEN)
	{
		idem_store_release(store);
		return status;
	}
	idem_claim_new_row(key, take, row);
	if (!idem_store_insert(store, row->values, row->nulls))
		return CLAIM_OPEN;
	status = idem_claim_admit(store, key, take, IDEM_KEY_IS_INSERTED);
	if (status != CLAIM_TAKEN)
		idem_store_remove_new(store, row);
	return status;
}

/*
 * Writes a key that was judged free.  Its owner stays: a role that may act as
 * the owner must not take the key from it.  CLAIM_OPEN: it has changed; look
 * again.
 */
static IdemClaimStatus
take_free(IdemStore *store, const Datum *key, const IdemTake *take,
		  IdemRow *row)
{
	bool		open = idem_claim_status(row) == CLAIM_OPEN;
	Datum		owner = row->values[CLAIM_OWNER];

	if (take->ttl != NULL)
	{
		if (!idem_store_lock(store, row, IDEM_LOCK_UPDATE))
			return CLAIM_OPEN;
		if (open || row->nulls[CLAIM_REQUEST])
			set_request(row, take->request);
		write_grant(row, DatumGetInt64(row->values[CLAIM_FENCE]) + 1,
					take->ttl);
	}
	else if (take->status == CLAIM_CANCELLED)
	{
		idem_claim_set(row, CLAIM_STATUS, false, CharGetDatum(CLAIM_CANCELLED));
		idem_claim_set(row, CLAIM_COMPLETED_AT, false,
					   TimestampTzGetDatum(GetCurrentTimestamp()));
		idem_claim_set(row, CLAIM_LEASE_UNTIL, true, (Datum) 0);
		idem_claim_set(row, CLAIM_UNSETTLED_SINCE, true, (Datum) 0);
	}
	else
	{
		/* a claim, with a fence that no attempt has */
		idem_claim_new_row(key, take, row);
		idem_claim_set(row, CLAIM_OWNER, false, owner);
	}
	if (!idem_store_update(store, row, row->values, row->nulls))
		return CLAIM_OPEN;
	if (take->ttl != NULL && !open)
		idem_stat_count(IDEM_STAT_ATTEMPT_TAKEN_OVER, key[CLAIM_SOURCE], 1);
	else
		idem_claim_count(take, key[CLAIM_SOURCE], CLAIM_TAKEN, 1);
	return CLAIM_TAKEN;
}

/* Keeps of the request what another one is compared with. */
static void
set_request(IdemRow *row, Jsonb *request)
{
	idem_claim_set(row, CLAIM_REQUEST, request == NULL,
				   request == NULL ? (Datum) 0 : idem_digest(request));
}

/*
 * Refuses another request than the one that was recorded.  A null request, the
 * given or the recorded one, is not compared.
 */
static void
check_request(const Datum *key, const IdemRow *row, Jsonb *request)
{
	if (request == NULL || row->nulls[CLAIM_REQUEST] ||
		idem_digest_is_of(row->values[CLAIM_REQUEST], request))
		return;
	idem_stat_count_now(IDEM_STAT_CLAIM_OTHER_REQUEST, key[CLAIM_SOURCE]);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_OTHER_REQUEST),
			 errmsg("key was used for another request"),
			 errdetail("Key %s was recorded with a request that differs from the one given.",
					   idem_store_key(&idem_claim_table, key)),
			 errhint("Use a new key for a new request; a retry sends the same one.")));
}

/*
 * Makes a row that of a grant as of now.  The grant is flushed at commit,
 * whatever synchronous_commit says.  If a crash could lose it, the same fence
 * would be granted a second time, and the work of the first grant may have been
 * seen outside of the database.
 */
static void
write_grant(IdemRow *row, int64 fence, const Interval *ttl)
{
	TimestampTz now = GetCurrentTimestamp();

	ForceSyncCommit();
	idem_claim_set(row, CLAIM_STATUS, false, CharGetDatum(CLAIM_RUNNING));
	idem_claim_set(row, CLAIM_FENCE, false, Int64GetDatum(fence));
	idem_claim_set(row, CLAIM_CLAIMED_AT, false, TimestampTzGetDatum(now));
	idem_claim_set(row, CLAIM_UNSETTLED_SINCE, false, TimestampTzGetDatum(now));
	idem_claim_set(row, CLAIM_LEASE_UNTIL, false,
				   TimestampTzGetDatum(idem_time_after(now, ttl)));
	idem_claim_set(row, CLAIM_COMPLETED_AT, true, (Datum) 0);
	idem_claim_set(row, CLAIM_RESPONSE, true, (Datum) 0);
}
