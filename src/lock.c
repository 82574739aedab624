/*-------------------------------------------------------------------------
 *
 * lock.c
 *	  Locks around a flow of many transactions: one winner, the others told at
 *	  once.
 *
 * The contract.  A lock is a name, held for a time by whoever has its present
 * fence.  It is held as long as it was not released and its lease is not over;
 * then anybody, of the role that first took the name, takes it with the next
 * fence.  Its row stays when it is released, for fences only ever grow.
 *
 *		idem_lock		the fence, or null at once
 *		idem_lock_renew	more time; false if it is no longer held
 *		idem_unlock		gives it back; false if it is no longer held
 *		idem_lock_check	raises ID412 if it is no longer held, and otherwise
 *						keeps it so until the transaction ends
 *		idem_lock_lookup	what is known of it
 *		idem_lock_break	takes it away from its holder
 *
 * Why one holder.  Taking a lock inserts the row of a new name, which one
 * wins, or updates the very row version that was judged free, locked before
 * (store.c).  A row that another transaction is inserting, changing or
 * checking is answered by null: that transaction is about to hold the lock, or
 * still does.  A row that is inserted in vain leaves no trace.  If it did, a
 * renewal through SQL would wait for it, and the lease could run out meanwhile.
 *
 * Why a holder that stalls does no harm.  A lease is a promise about time, and
 * a process that is stopped does not see it pass.  So the write that the lock
 * protects calls idem_lock_check in its own transaction.  That locks the row
 * FOR SHARE, and judges name, fence and clock after it has that lock.  Taking
 * the lock over needs a conflicting row lock; if that came first, the check
 * waits for it and finds another fence, and if the check came first, nobody
 * takes the lock over before the write is committed.  Nothing is left to how
 * long either of them sleeps in between.
 *
 * Breaking a lock ends its lease, as releasing does, so its holder finds it lost
 * at the next check, and whoever takes it next has a greater fence.
 *
 * Renewing, releasing and breaking conflict with the check as well: they wait for the
 * checking transaction to end, and read the clock after that.
 *
 * A grant is flushed at commit, whatever synchronous_commit says: its fence
 * may be known outside, and after a crash must not be granted again.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "lock.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Columns of idem.lock, from 0. */
typedef enum LockColumn
{
	LOCK_NAME,
	LOCK_OWNER,
	LOCK_FENCE,
	LOCK_LOCKED_AT,
	LOCK_LEASE_UNTIL,			/* null: released */
	LOCK_COLUMNS
} LockColumn;

#define LOCK_NAME_MAX		255

IdemTable	idem_lock_table = {
	.relname = "lock",
	.keyname = "name",
	.nkeys = 1,
	.natts = LOCK_COLUMNS,
	.required = LOCK_LOCKED_AT + 1,
	.columns = {
		{"name", TEXTOID},
		{"owner", TEXTOID},
		{"fence", INT8OID},
		{"locked_at", TIMESTAMPTZOID},
		{"lease_until", TIMESTAMPTZOID}
	},
	.speculative = true,
	.stat = IDEM_STAT_LOCK
};

static bool take(IdemStore *store, Datum name, const Interval *ttl,
				 IdemRow *row);
static void write_grant(IdemRow *row, int64 fence, const Interval *ttl);
static bool change_held(FunctionCallInfo fcinfo, const Interval *ttl);
static bool is_live(const IdemRow *row);
static bool is_granted(const IdemRow *row, int64 fence);
static void lost_error(Datum name, const IdemRow *row, int64 fence);
static Datum get_name(FunctionCallInfo fcinfo);

PG_FUNCTION_INFO_V1(idem_lock);
PG_FUNCTION_INFO_V1(idem_lock_renew);
PG_FUNCTION_INFO_V1(idem_lock_check);
PG_FUNCTION_INFO_V1(idem_unlock);
PG_FUNCTION_INFO_V1(idem_lock_lookup);
PG_FUNCTION_INFO_V1(idem_lock_break);


/*
 * idem_lock(name, ttl interval) -> bigint
 *
 * The fence; null: somebody holds the lock, or is at it.
 */
Datum
idem_lock(PG_FUNCTION_ARGS)
{
	Datum		name = get_name(fcinfo);
	Interval   *ttl = idem_arg_interval(fcinfo, 1, "ttl");
	IdemStore	store;
	IdemRow		row;
	bool		taken;

	idem_store_open(&store, &idem_lock_table, IDEM_WRITE, IDEM_NO_WAIT_ANSWER);
	taken = take(&store, name, ttl, &row);
	idem_store_close(&store);
	idem_stat_count(taken ? IDEM_STAT_LOCK_GRANTED : IDEM_STAT_LOCK_REFUSED,
					IDEM_STAT_NO_SOURCE, 1);

	if (!taken)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(row.values[LOCK_FENCE]);
}

/*
 * idem_lock_renew(name, fence bigint, ttl interval) -> boolean
 *
 * Gives a lock that is held more time, counted from now.
 */
Datum
idem_lock_renew(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_held(fcinfo, idem_arg_interval(fcinfo, 2, "ttl")));
}

/*
 * idem_lock_check(name, fence bigint) -> void
 *
 * Raises if the lock is lost; otherwise nobody takes it over before the
 * transaction ends.
 */
Datum
idem_lock_check(PG_FUNCTION_ARGS)
{
	Datum		name = get_name(fcinfo);
	int64		fence;
	IdemStore	store;
	IdemRow		row;
	bool		locked = false;

	idem_arg_not_null(fcinfo, 1, "fence");
	fence = PG_GETARG_INT64(1);

	idem_store_open(&store, &idem_lock_table, IDEM_WRITE, IDEM_WAIT);
	do
	{
		idem_store_find(&store, &name, &row);
		if (row.presence == IDEM_PRESENT)
			idem_check_owner(&idem_lock_table, &name, row.values[LOCK_OWNER]);
		if (!is_granted(&row, fence))
			lost_error(name, &row, fence);
		locked = idem_store_lock(&store, &row, IDEM_LOCK_SHARE);
	} while (!locked);
	if (!is_live(&row))
		lost_error(name, &row, fence);
	idem_store_close(&store);
	idem_stat_no_outcome();

	PG_RETURN_VOID();
}

/*
 * idem_unlock(name, fence bigint) -> boolean
 *
 * Gives a lock that is held back.
 */
Datum
idem_unlock(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_held(fcinfo, NULL));
}


/*
 * idem_lock_lookup(name) -> (held, fence, locked_at, lease_until, owner)
 *
 * What is known of a lock at this moment.
 */
Datum
idem_lock_lookup(PG_FUNCTION_ARGS)
{
	static IdemResultType type = {
		.ncolumns = 5,
		.columns = {
			{"held", BOOLOID},
			{"fence", INT8OID},
			{"locked_at", TIMESTAMPTZOID},
			{"lease_until", TIMESTAMPTZOID},
			{"owner", NAMEOID}
		}
	};
	Datum		name = get_name(fcinfo);
	IdemStore	store;
	IdemRow		row;
	bool		live;
	Datum		values[5] = {BoolGetDatum(false)};
	bool		nulls[5] = {false, true, true, true, true};

	/* a lease may be renewed after it was read, and before it ends */
	idem_store_open(&store, &idem_lock_table, IDEM_READ, IDEM_NO_WAIT);
	do
	{
		CHECK_FOR_INTERRUPTS();
		idem_store_read(&store, &name, &row);
		if (row.presence == IDEM_PRESENT)
			idem_check_owner(&idem_lock_table, &name, row.values[LOCK_OWNER]);
		live = row.presence == IDEM_PRESENT && is_live(&row);
	} while (row.presence == IDEM_PRESENT && !live &&
			 !row.nulls[LOCK_LEASE_UNTIL] &&
			 !IsolationIsSerializable() &&
			 !idem_store_still(&store, &name, &row));
	idem_store_close(&store);

	if (row.presence == IDEM_PRESENT)
	{
		const LockColumn columns[3] = {LOCK_FENCE, LOCK_LOCKED_AT, LOCK_LEASE_UNTIL};

		values[0] = BoolGetDatum(live);
		for (int i = 0; i < 3; i++)
		{
			values[i + 1] = row.values[columns[i]];
			nulls[i + 1] = row.nulls[columns[i]];
		}
		values[4] = DirectFunctionCall1(text_name, row.values[LOCK_OWNER]);
		nulls[4] = false;
	}
	PG_RETURN_DATUM(idem_result_row(&type, values, nulls));
}

/*
 * idem_lock_break(name) -> boolean
 *
 * Takes a lock away from its holder, who finds it lost: for administrators.
 */
Datum
idem_lock_break(PG_FUNCTION_ARGS)
{
	Datum		name = get_name(fcinfo);
	IdemStore	store;
	IdemRow		row;
	bool		broken = false;

	idem_store_open(&store, &idem_lock_table, IDEM_WRITE, IDEM_WAIT);
	while (!broken)
	{
		idem_store_find(&store, &name, &row);
		if (row.presence == IDEM_ABSENT)
			break;
		if (!idem_is_administrator())
			idem_check_owner(&idem_lock_table, &name, row.values[LOCK_OWNER]);
		if (!is_live(&row))
		{
			if (!row.nulls[LOCK_LEASE_UNTIL] &&
				!idem_store_still(&store, &name, &row))
				continue;
			break;
		}
		if (!idem_store_lock(&store, &row, IDEM_LOCK_UPDATE))
			continue;

		/* the wait for whoever has checked it may have outlived the lease */
		if (!is_live(&row))
			break;
		row.nulls[LOCK_LEASE_UNTIL] = true;
		broken = idem_store_update(&store, &row, row.values, row.nulls);
	}
	idem_store_close(&store);

	PG_RETURN_BOOL(broken);
}


/* Takes a lock if it is free; row is its row after. */
static bool
take(IdemStore *store, Datum name, const Interval *ttl, IdemRow *row)
{
	for (;;)
	{
		idem_store_seek(store, &name, row);
		if (row->presence == IDEM_BUSY)
			return false;
		if (row->presence == IDEM_ABSENT)
		{
			row->values[LOCK_NAME] = name;
			row->values[LOCK_OWNER] = idem_current_owner();
			row->nulls[LOCK_NAME] = row->nulls[LOCK_OWNER] = false;
			write_grant(row, 1, ttl);
			if (idem_store_insert(store, row->values, row->nulls))
				return true;
			continue;
		}

		idem_check_owner(&idem_lock_table, &name, row->values[LOCK_OWNER]);
		if (is_live(row))
			return false;
		if (!idem_store_lock(store, row, IDEM_LOCK_UPDATE))
			continue;

		write_grant(row, DatumGetInt64(row->values[LOCK_FENCE]) + 1, ttl);
		if (idem_store_update(store, row, row->values, row->nulls))
			return true;
	}
}

/* Makes a row that of a grant as of now.  Its owner stays. */
static void
write_grant(IdemRow *row, int64 fence, const Interval *ttl)
{
	TimestampTz now = GetCurrentTimestamp();

	ForceSyncCommit();
	row->values[LOCK_FENCE] = Int64GetDatum(fence);
	row->values[LOCK_LOCKED_AT] = TimestampTzGetDatum(now);
	row->values[LOCK_LEASE_UNTIL] = TimestampTzGetDatum(idem_time_after(now, ttl));
	for (int i = LOCK_FENCE; i < LOCK_COLUMNS; i++)
		row->nulls[i] = false;
}

/*
 * Gives a lock that is held ttl more time, or, if that is NULL, gives it back;
 * the first two arguments of both verbs are the same.  False: it is no longer
 * held.
 */
static bool
change_held(FunctionCallInfo fcinfo, const Interval *ttl)
{
	Datum		name = get_name(fcinfo);
	int64		fence;
	IdemStore	store;
	IdemRow		row;
	bool		changed = false;

	idem_arg_not_null(fcinfo, 1, "fence");
	fence = PG_GETARG_INT64(1);

	idem_store_open(&store, &idem_lock_table, IDEM_WRITE, IDEM_WAIT);
	while (!changed)
	{
		idem_store_find(&store, &name, &row);
		if (row.presence == IDEM_PRESENT)
			idem_check_owner(&idem_lock_table, &name, row.values[LOCK_OWNER]);
		if (!is_granted(&row, fence))
			break;
		if (!idem_store_lock(&store, &row, IDEM_LOCK_UPDATE))
			continue;

		if (!is_live(&row))
			break;
		row.nulls[LOCK_LEASE_UNTIL] = ttl == NULL;
		if (ttl != NULL)
			row.values[LOCK_LEASE_UNTIL] =
				TimestampTzGetDatum(idem_time_after(GetCurrentTimestamp(), ttl));
		changed = idem_store_update(&store, &row, row.values, row.nulls);
	}
	idem_store_close(&store);
	if (changed)
		idem_stat_no_outcome();
	else
		idem_stat_count(IDEM_STAT_LOCK_LOST, IDEM_STAT_NO_SOURCE, 1);

	return changed;
}

/* Does anybody hold the lock at this moment? */
static bool
is_live(const IdemRow *row)
{
	return !row->nulls[LOCK_LEASE_UNTIL] &&
		DatumGetTimestampTz(row->values[LOCK_LEASE_UNTIL]) > GetCurrentTimestamp();
}

/*
 * Was the lock granted with this fence, and neither granted again nor given
 * back since?  Then only its lease decides, once the row is locked.
 */
static bool
is_granted(const IdemRow *row, int64 fence)
{
	return row->presence == IDEM_PRESENT &&
		DatumGetInt64(row->values[LOCK_FENCE]) == fence &&
		!row->nulls[LOCK_LEASE_UNTIL];
}

/* The lock is not the caller's any more, or never was. */
static void
lost_error(Datum name, const IdemRow *row, int64 fence)
{
	char	   *key = idem_store_key(&idem_lock_table, &name);
	bool		known = row->presence == IDEM_PRESENT;
	int64		current = known ? DatumGetInt64(row->values[LOCK_FENCE]) : 0;

	idem_stat_count_now(IDEM_STAT_LOCK_LOST, IDEM_STAT_NO_SOURCE);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 errmsg("lock is lost"),
			 !known ?
			 errdetail("Key %s was never locked; fence %lld was given.",
					   key, (long long) fence) :
			 current != fence ?
			 errdetail("Key %s has fence %lld; fence %lld was given.",
					   key, (long long) current, (long long) fence) :
			 row->nulls[LOCK_LEASE_UNTIL] ?
			 errdetail("Key %s was released, or broken; fence %lld was given.",
					   key, (long long) fence) :
			 errdetail("Key %s expired at %s; fence %lld was given.", key,
					   timestamptz_to_str(DatumGetTimestampTz(row->values[LOCK_LEASE_UNTIL])),
					   (long long) fence),
			 errhint("Roll back, and begin again with idem_lock.")));
}

/* The lock given: argument name. */
static Datum
get_name(FunctionCallInfo fcinfo)
{
	return PointerGetDatum(idem_arg_text(fcinfo, 0, "name", LOCK_NAME_MAX));
}
