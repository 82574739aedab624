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
 * meanwhile waits, and finds it expired.  A batch gives back at its end, bucket
 * by bucket in their order, so that those who buy find buckets locked no longer
 * than a commit takes.  They share the disk and the processors with it, too:
 * between two batches it rests as long as it has worked, so half of both is
 * theirs.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* A batch that had to wait for somebody is not made up for beyond this. */
#define LONGEST_REST	1000.0	/* milliseconds */

static uint64 expire_batch(int32 batch, TimestampTz now, TimestampTz *from);
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
	instr_time	began;

	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("holds cannot expire inside a transaction block"),
				 errdetail("There is a commit after each batch."),
				 errhint("Run CALL idem_stock_expire outside of BEGIN and of functions.")));

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	work = AllocSetContextCreate(CurrentMemoryContext, "idem expire",
								 ALLOCSET_DEFAULT_SIZES);
	INSTR_TIME_SET_CURRENT(began);
	do
	{
		/*
		 * Each batch has a transaction of its own, the first one too, and it
		 * is read committed whatever the session's default: SKIP LOCKED over
		 * an older snapshot would be 40001 at the first order that somebody
		 * decides on meanwhile.
		 */
		SPI_commit();
		if (expired_in_batch == (uint64) batch)
			rest(began);
		INSTR_TIME_SET_CURRENT(began);
		(void) set_config_option("transaction_isolation", "read committed",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);

		MemoryContextReset(work);
		MemoryContextSwitchTo(work);
		expired_in_batch = expire_batch(batch, now, &from);
		expired += expired_in_batch;
		if (expired_in_batch > 0)
			ereport(NOTICE,
					(errmsg("expired %llu holds, %llu so far",
							(unsigned long long) expired_in_batch,
							(unsigned long long) expired)));
		CHECK_FOR_INTERRUPTS();
	} while (expired_in_batch > 0);
	SPI_commit();
	SPI_finish();

	PG_RETURN_VOID();
}


/*
 * Ends a batch of orders that were due at now, beginning with those due at
 * from, which moves on; answers how many.
 */
static uint64
expire_batch(int32 batch, TimestampTz now, TimestampTz *from)
{
	IdemStore	store;
	Datum		values[3] = {TimestampTzGetDatum(now), TimestampTzGetDatum(*from),
	Int32GetDatum(batch)};
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
	{
		*from = DatumGetTimestampTz(result[1]);
		idem_stock_give_back(result[2], result[3], result[4]);
	}
	return expired;
}

/* Rests as long as it has been since then, by a clock that nobody sets. */
static void
rest(instr_time began)
{
	instr_time	worked;

	INSTR_TIME_SET_CURRENT(worked);
	INSTR_TIME_SUBTRACT(worked, began);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (long) Min(INSTR_TIME_GET_MILLISEC(worked), LONGEST_REST),
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
