/*-------------------------------------------------------------------------
 *
 * bucket_wait.c
 *	  Waiting for whoever of several transactions ends first.
 *
 * The server has no such wait.  So a buyer takes short naps, 1 to 20 ms, and
 * looks again after each.  The length of a nap is random, so those who wait for
 * the same bucket do not all wake up after one commit.  They are not served in
 * the order in which they came.
 *
 * The deadlock detector does not see a nap.  So after deadlock_timeout
 * milliseconds of naps the buyer waits for a lock on one of the buckets in the
 * way, chosen at random, for a little longer than deadlock_timeout; then it naps
 * again.  If two transactions of several calls wait for each other, the second
 * one's wait lasts until the first one's detector has run, which finds them.
 * The wait also ends if the transaction at that bucket only idles; if enough has
 * become free elsewhere meanwhile, the buyer takes it then.
 *
 * That wait is a lock on the bucket in a subtransaction, which is rolled back
 * whatever comes of it: nothing that was waited for stays locked.
 *
 * All of it can be cancelled, and lasts no longer than lock_timeout says.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"

#include <float.h>

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

/* Milliseconds. */
#define LONGEST_NAP		20

/* A wait for a lock. */
typedef struct LockWait
{
	IdemStore  *store;
	Datum		key[2];
	int			ms;
} LockWait;

static void nap(IdemPatience *patience, double longest);
static void wait_for_lock(LockWait *lock);
static bool lock_within(void *arg);
static bool is_end_of_wait(const ErrorData *edata);
static void timeout_error(const Datum *key);


/*
 * Waits a while for others, among them the one at a bucket, and no longer in
 * all than lock_timeout.  The wait is counted for a source.
 */
void
idem_bucket_wait(IdemPatience *patience, IdemStore *store, Datum source,
				 Datum item, int32 number)
{
	LockWait	lock = {store, {item, Int32GetDatum(number)}, 0};
	instr_time	began;
	instr_time	now;
	double		left;

	INSTR_TIME_SET_CURRENT(began);
	if (INSTR_TIME_IS_ZERO(patience->began))
	{
		patience->began = began;
		patience->naps = 0;
		patience->napped = 0;
		idem_stat_waited(IDEM_STAT_STOCK, source, 1, 0);
	}
	now = began;
	INSTR_TIME_SUBTRACT(now, patience->began);
	left = LockTimeout > 0 ? LockTimeout - INSTR_TIME_GET_MILLISEC(now) : DBL_MAX;
	if (left <= 0)
		timeout_error(lock.key);

	if (patience->napped < DeadlockTimeout)
		nap(patience, Min(left, LONGEST_NAP));
	else
	{
		patience->napped = 0;
		lock.ms = Max(1, (int) Min(DeadlockTimeout * 1.1 + 2, left));
		wait_for_lock(&lock);
	}

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, began);
	idem_stat_waited(IDEM_STAT_STOCK, source, 0, INSTR_TIME_GET_MICROSEC(now));
}


/* Sleeps for 1 to 20 ms: longer each time, and for a random part of that. */
static void
nap(IdemPatience *patience, double longest)
{
	double		ms = Min(1 << Min(patience->naps, 10), longest);
	int			timeout;

	ms *= 0.5 + pg_prng_double(&pg_global_prng_state) / 2;
	timeout = Max(1, (int) (ms + 0.5));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	patience->naps++;
	patience->napped += timeout;
}

/*
 * Waits for a lock, lock->ms milliseconds at most, and does not keep it.  If the
 * caller's statement_timeout runs out at the same instant, the server reports
 * the lock's timeout alone; then it is reported here.
 */
static void
wait_for_lock(LockWait *lock)
{
	bool		timed = get_timeout_active(STATEMENT_TIMEOUT);

	(void) idem_subxact(lock_within, lock, is_end_of_wait);
	if (timed && !get_timeout_active(STATEMENT_TIMEOUT))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("canceling statement due to statement timeout"),
				 errdetail("Time was up while the call waited for stock."),
				 errhint("Run the transaction again.")));
}

/* Locks the bucket, within lock->ms: an IdemStep that leaves nothing. */
static bool
lock_within(void *arg)
{
	LockWait   *lock = arg;
	char		timeout[12];
	Datum		quantity;
	bool		isnull;

	snprintf(timeout, sizeof(timeout), "%d", lock->ms);
	(void) set_config_option("lock_timeout", timeout, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) idem_plan_execute(IDEM_PLAN_STOCK_LOCK,
							 idem_store_owner(lock->store), false,
							 lock->key, NULL, &quantity, &isnull, 1);
	/* if time was up at the last moment, it is raised here */
	CHECK_FOR_INTERRUPTS();
	return false;
}

/* The bucket is still held, or changed: an IdemExpected. */
static bool
is_end_of_wait(const ErrorData *edata)
{
	return edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

static void
timeout_error(const Datum *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("canceling statement due to lock timeout"),
			 errdetail("Item \"%s\" has enough, but other open transactions were at it for %d ms.",
					   TextDatumGetCString(key[0]), LockTimeout),
			 errhint("Run the transaction again, or look in pg_stat_activity for a session that idles in its transaction.")));
}
