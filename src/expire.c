/*-------------------------------------------------------------------------
 *
 * expire.c
 *	  The stock that overdue orders hold is given back.
 *
 * The contract.  What was due when the call began is given back, a batch of
 * orders in a transaction of its own; a call that is cut short has done what it
 * reported.  An order that somebody is deciding on is left to him.
 *
 * Concurrency.  The statement that ends orders locks them, skips those that
 * are locked, and changes what is still held and due; whoever decides on one
 * meanwhile waits, and finds it expired.  A batch gives back at its end, to
 * buckets that nobody is at if there are any, so that those who buy find
 * buckets locked no longer than a commit takes.
 *
 * They share the processors with it, too.  Somebody who works for long is in
 * the way of those who only need an instant each: they wait until the scheduler
 * takes the processor from him, and whoever waits for them does, too.  So after
 * a few orders it rests as long as it has worked.  It has nothing locked then
 * but orders whose time has passed.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "tcop/pquery.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* Orders that are ended without a rest. */
#define AT_ONCE			20

/* A slow disk is not made up for beyond this. */
#define LONGEST_REST	10000.0 /* microseconds */

static uint64 expire_batch(int32 batch, TimestampTz now, TimestampTz *from);
static uint64 expire_some(int32 limit, TimestampTz now, TimestampTz *from,
						  List **parts);
static void rest(instr_time began);

PG_FUNCTION_INFO_V1(idem_stock_expire);


/*
 * CALL idem_stock_expire(batch integer)
 *
 * Gives back what orders hold that were due when the call began, a commit for
 * each batch of orders.
 */
Datum
idem_stock_expire(PG_FUNCTION_ARGS)
{
	int32		batch = idem_arg_count(fcinfo, 0, "batch", PG_INT32_MAX);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz from = DT_NOBEGIN;
	MemoryContext work;
	uint64		expired = 0;
	uint64		expired_in_batch = 0;

	idem_check_nonatomic(fcinfo, "idem_stock_expire");

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	work = AllocSetContextCreate(CurrentMemoryContext, "idem expire",
								 ALLOCSET_DEFAULT_SIZES);
	SPI_commit();
	do
	{
		/*
		 * Each batch has a transaction of its own, the first one too, and it
		 * is read committed whatever the session's default: SKIP LOCKED over
		 * an older snapshot would be 40001 at the first order that somebody
		 * decides on meanwhile.
		 */
		(void) set_config_option("transaction_isolation", "read committed",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);

		/*
		 * Without a snapshot of ours the server may remove a version of a
		 * bucket between our reading it and our locking it, and put another
		 * one in its place.
		 */
		EnsurePortalSnapshotExists();

		MemoryContextReset(work);
		MemoryContextSwitchTo(work);
		expired_in_batch = expire_batch(batch, now, &from);
		SPI_commit();

		/* what is reported is done */
		expired += expired_in_batch;
		if (expired_in_batch > 0)
			ereport(NOTICE,
					(errmsg("expired %llu holds, %llu so far",
							(unsigned long long) expired_in_batch,
							(unsigned long long) expired)));
		CHECK_FOR_INTERRUPTS();
	} while (expired_in_batch == (uint64) batch);
	SPI_finish();

	PG_RETURN_VOID();
}


/*
 * Ends a batch of orders that were due at now, beginning with those due at
 * from, which moves on; answers how many, less than batch if no more are due.
 */
static uint64
expire_batch(int32 batch, TimestampTz now, TimestampTz *from)
{
	List	   *parts = NIL;
	uint64		expired = 0;
	uint64		some;

	do
	{
		instr_time	began;

		INSTR_TIME_SET_CURRENT(began);
		some = expire_some(Min(batch - expired, AT_ONCE), now, from, &parts);
		expired += some;
		rest(began);
	} while (some > 0 && expired < (uint64) batch);

	if (parts != NIL)
		idem_stock_give_back(parts);
	return expired;
}

/* The same for a few orders, whose parts are added to what is given back. */
static uint64
expire_some(int32 limit, TimestampTz now, TimestampTz *from, List **parts)
{
	IdemStore	store;
	Datum		values[3] = {TimestampTzGetDatum(now), TimestampTzGetDatum(*from),
	Int32GetDatum(limit)};
	Datum		result[5];
	bool		nulls[5];
	int64		expired;

	idem_store_open(&store, &idem_hold_table, IDEM_WRITE, true);
	(void) idem_plan_execute(IDEM_PLAN_HOLD_EXPIRE,
							 store.heap->rd_rel->relowner, false, values, NULL,
							 result, nulls, lengthof(result));
	idem_store_close(&store);

	expired = DatumGetInt64(result[0]);
	if (expired > 0)
		*from = DatumGetTimestampTz(result[1]);
	if (!nulls[2])
		*parts = idem_stock_collect(*parts, result[2], result[3], result[4]);
	return expired;
}

/* Rests as long as it has been since then, by a clock that nobody sets. */
static void
rest(instr_time began)
{
	instr_time	worked;

	INSTR_TIME_SET_CURRENT(worked);
	INSTR_TIME_SUBTRACT(worked, began);
	pgstat_report_wait_start(PG_WAIT_EXTENSION);
	pg_usleep((long) Min(INSTR_TIME_GET_MICROSEC(worked), LONGEST_REST));
	pgstat_report_wait_end();
	CHECK_FOR_INTERRUPTS();
}
