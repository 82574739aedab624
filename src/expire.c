/*-------------------------------------------------------------------------
 *
 * expire.c
 *	  The stock that overdue orders hold is given back.
 *
 * The contract.  What was due when the call began is given back, a batch of
 * orders in a transaction of its own; a call that is cut short has done what it
 * reported.  It never waits for an open transaction: an order that somebody is
 * deciding on, or that cannot be given back at once, is left for the next
 * call, and the others go on.
 *
 * Concurrency.  The orders that are due are read without locking any.  Then
 * each is locked by its key, unless another transaction holds it; it is judged
 * again under the lock, and ended.  A call that would decide on it meanwhile
 * waits, and finds it expired.  A batch gives back at its end, once for each
 * item, so buckets stay locked no longer than a commit takes.  All of it is
 * tried in one subtransaction.  If other transactions hold all buckets of some
 * item, it is rolled back, and the orders are tried one by one.
 *
 * Buyers share the processors with this procedure, too, and each needs them only
 * for an instant.  So after each commit the procedure rests for as long as it
 * has worked, with nothing locked.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* Orders that are ended without a rest, even if the batch is larger. */
#define AT_ONCE			100

/* A slow disk is not made up for beyond this. */
#define LONGEST_REST	50000	/* microseconds */

/* Orders that are due, by time and key. */
typedef struct Due
{
	IdemStore	holds;
	IdemStore	stock;
	TimestampTz now;			/* when the call began */
	TimestampTz *times;
	Datum	   *sources;
	Datum	   *seqs;
	int			n;
	int			first;			/* those to be tried: from this one */
	int			last;			/* up to before this one */
	int			ended;			/* of these */
} Due;

/* Where the call is: behind this order. */
typedef struct Place
{
	TimestampTz time;
	Datum		source;
	Datum		seq;
} Place;

static void expire_batch(int32 batch, TimestampTz now, Place *place,
						 MemoryContext keep, IdemStatRunState *run,
						 bool *more);
static void read_due(Due *due, const Place *place, int32 limit);
static bool end_orders(void *arg);
static bool end_order(Due *due, const Datum *key, IdemPart **parts, int *n);
static IdemLines *lines_of(IdemPart *parts, int n);
static uint64 usecs_since(instr_time began);

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
	Place		place = {DT_NOBEGIN, CStringGetTextDatum(""), CStringGetTextDatum("")};
	MemoryContext call;
	MemoryContext work;
	IdemStatRunState run = {.started = now};
	uint64		reported = 0;
	instr_time	start;
	bool		more = true;

	idem_check_nonatomic(fcinfo, "idem_stock_expire");

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	call = CurrentMemoryContext;
	work = AllocSetContextCreate(call, "idem expire", ALLOCSET_DEFAULT_SIZES);
	SPI_commit();
	INSTR_TIME_SET_CURRENT(start);
	idem_stat_run(IDEM_STAT_RUN_EXPIRE, &run);
	while (more)
	{
		instr_time	began;

		INSTR_TIME_SET_CURRENT(began);

		/*
		 * Each batch has a transaction of its own, the first one too, and it
		 * is read committed whatever the session's default: above that an
		 * order that is decided meanwhile would raise 40001.
		 */
		(void) set_config_option("transaction_isolation", "read committed",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);

		/*
		 * Without a snapshot of ours the server may remove a version of a row
		 * between our reading it and our locking it, and put another one in
		 * its place.
		 */
		EnsurePortalSnapshotExists();

		MemoryContextReset(work);
		MemoryContextSwitchTo(work);
		expire_batch(Min(batch - (int32) (run.removed - reported), AT_ONCE),
					 now, &place, call, &run, &more);
		SPI_commit();

		/* what is reported is done */
		run.usecs = usecs_since(start);
		if (!more)
			run.ended = GetCurrentTimestamp();
		idem_stat_run(IDEM_STAT_RUN_EXPIRE, &run);
		if (run.removed - reported == (uint64) batch ||
			(!more && run.removed > reported))
		{
			ereport(NOTICE,
					(errmsg("expired %llu holds, %llu so far",
							(unsigned long long) (run.removed - reported),
							(unsigned long long) run.removed)));
			reported = run.removed;
		}

		/* rest as long as it has worked, with nothing locked */
		if (more)
		{
			pgstat_report_wait_start(PG_WAIT_EXTENSION);
			pg_usleep(Min(usecs_since(began), LONGEST_REST));
			pgstat_report_wait_end();
		}
		CHECK_FOR_INTERRUPTS();
	}
	SPI_finish();

	PG_RETURN_VOID();
}


/*
 * Ends up to batch orders that were due at now and lie behind place.  Place is
 * moved behind them; its values are allocated in keep.  Adds what was done to
 * run, and sets more if there may be more orders.
 */
static void
expire_batch(int32 batch, TimestampTz now, Place *place, MemoryContext keep,
			 IdemStatRunState *run, bool *more)
{
	Due			due = {.now = now};

	idem_store_open(&due.holds, &idem_hold_table, IDEM_WRITE,
					IDEM_NO_WAIT_ANSWER);
	idem_bucket_open(&due.stock, IDEM_WRITE);

	read_due(&due, place, batch);
	*more = due.n == batch;
	run->keys_read += due.n;
	due.last = due.n;
	if (due.n > 0 && idem_subxact(end_orders, &due, NULL))
		run->removed += due.ended;
	else
		for (int i = 0; i < due.n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			due.first = i;
			due.last = i + 1;
			if (idem_subxact(end_orders, &due, NULL))
				run->removed += due.ended;
		}

	if (due.n > 0)
	{
		MemoryContext work = MemoryContextSwitchTo(keep);

		pfree(DatumGetPointer(place->source));
		pfree(DatumGetPointer(place->seq));
		place->time = due.times[due.n - 1];
		place->source = PointerGetDatum(PG_DETOAST_DATUM_COPY(due.sources[due.n - 1]));
		place->seq = PointerGetDatum(PG_DETOAST_DATUM_COPY(due.seqs[due.n - 1]));
		MemoryContextSwitchTo(work);
	}
	idem_store_close(&due.stock);
	idem_store_close(&due.holds);
}

/* Reads which orders are due, at most so many. */
static void
read_due(Due *due, const Place *place, int32 limit)
{
	Datum		values[5] = {TimestampTzGetDatum(due->now),
		TimestampTzGetDatum(place->time), place->source, place->seq,
	Int32GetDatum(limit)};
	Datum		result[3];
	bool		nulls[3];
	Datum	   *times;

	(void) idem_plan_execute(IDEM_PLAN_HOLD_OVERDUE,
							 due->holds.heap->rd_rel->relowner, true, values,
							 NULL, result, nulls, lengthof(result));
	if (nulls[0])
		return;
	deconstruct_array(DatumGetArrayTypeP(result[0]), TIMESTAMPTZOID, 8,
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &times, NULL, &due->n);
	deconstruct_array(DatumGetArrayTypeP(result[1]), TEXTOID, -1, false,
					  TYPALIGN_INT, &due->sources, NULL, &due->n);
	deconstruct_array(DatumGetArrayTypeP(result[2]), TEXTOID, -1, false,
					  TYPALIGN_INT, &due->seqs, NULL, &due->n);
	due->times = palloc_array(TimestampTz, due->n);
	for (int i = 0; i < due->n; i++)
		due->times[i] = DatumGetTimestampTz(times[i]);
}

/*
 * Ends those of the orders that no other transaction holds, and gives back what
 * they hold: an IdemStep.
 */
static bool
end_orders(void *arg)
{
	Due		   *due = arg;
	IdemPart   *parts = palloc_array(IdemPart, 1);
	int			n = 0;
	bool		waited;

	due->ended = 0;
	for (int i = due->first; i < due->last; i++)
	{
		Datum		key[HOLD_KEYS] = {due->sources[i], due->seqs[i]};

		if (end_order(due, key, &parts, &n))
			due->ended++;
	}
	return n == 0 ||
		idem_bucket_move(&due->stock, lines_of(parts, n), false,
						 &waited) == IDEM_MOVED;
}

/*
 * Ends one order, unless another transaction holds it or it is no longer due,
 * and appends what it holds to parts.
 */
static bool
end_order(Due *due, const Datum *key, IdemPart **parts, int *n)
{
	IdemStore  *holds = &due->holds;
	IdemRow		row;
	IdemPart   *more;
	int			nmore;

	idem_store_next_key(holds);
	do
	{
		idem_store_seek(holds, key, &row);
		idem_store_release(holds);
		if (row.presence != IDEM_PRESENT ||
			idem_hold_status(&row) != HOLD_HELD ||
			row.nulls[HOLD_EXPIRES_AT] ||
			DatumGetTimestampTz(row.values[HOLD_EXPIRES_AT]) > due->now)
			return false;
	} while (!idem_store_lock(holds, &row, IDEM_LOCK_UPDATE));

	idem_hold_decide(&row, HOLD_EXPIRED);
	while (!idem_store_update(holds, &row, row.values, row.nulls))
		CHECK_FOR_INTERRUPTS();
	idem_stat_count(IDEM_STAT_STOCK_EXPIRED, key[HOLD_SOURCE], 1);

	nmore = idem_hold_parts(&row, &more);
	*parts = repalloc_huge(*parts, ((Size) *n + nmore + 1) * sizeof(IdemPart));
	memcpy(*parts + *n, more, nmore * sizeof(IdemPart));
	*n += nmore;
	return true;
}

/* The lines that give parts back, one for each item. */
static IdemLines *
lines_of(IdemPart *parts, int n)
{
	IdemLines  *lines = idem_bucket_lines(IDEM_STAT_NO_SOURCE, n);

	idem_sort(parts, n, sizeof(IdemPart), idem_hold_compare);
	for (int i = 0; i < n;)
	{
		Datum		item = parts[i].item;
		Datum		quantity = idem_zero();

		for (; i < n && idem_same_bytes(parts[i].item, item); i++)
			quantity = idem_quantity_subtract(quantity, parts[i].quantity);
		if (!idem_same_bytes(quantity, idem_zero()))
			idem_bucket_line(lines, item, quantity);
	}
	return lines;
}

/* Microseconds since then, by a clock that nobody sets. */
static uint64
usecs_since(instr_time began)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, began);
	return INSTR_TIME_GET_MICROSEC(now);
}
