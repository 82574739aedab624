/*-------------------------------------------------------------------------
 *
 * bucket.c
 *	  The quantity of an item, in one row or many.
 *
 * The contract.  What is available of an item is the sum of its buckets, the
 * rows of idem.stock.  A taker who finds a bucket that nobody is at, with as
 * much as he wants, takes it there and meets nobody; that is what makes one
 * hot item as fast as many.  He begins looking anywhere, and reads no further
 * than he must.  An item is short only if all its buckets together hold too
 * little, and that answer is exact.
 *
 * Why it is exact.  "Short" is only ever said of the sum of what is committed,
 * read by one snapshot: what an open transaction takes still counts, what one
 * gives back does not yet, just as for a single row.  A bucket that somebody
 * is at is passed by, but never counted as empty: if nothing can be had without
 * it, it is waited for, and everything is read again.  A taken bucket is
 * locked in the very version that was read, so what was planned is there.
 *
 * Why it does not deadlock.  Buckets have an order: by item, bytewise, then by
 * number.  A transaction waits in one of two ways:
 *
 * a) Some bucket has enough, but somebody is at it.  It waits for that one to
 *	  end, locks nothing, and looks again.  Of this item it holds nothing then;
 *	  of others, only of those that sort before.
 * b) No single bucket has enough (or there is only one).  It locks the item's
 *	  buckets from the first one on, the empty ones too, without leaving any
 *	  out, until it has enough, and waits for each.  It never goes back to a).
 *
 * So whoever waits holds only buckets that sort before the one it waits for.
 * All buckets are locked before any is written, so none is to be put back when a
 * later item turns out to be short.  An order gives back by the same
 * order; many at once wait for a bucket only while they have none of its item.
 * A transaction that makes several calls is outside of this, and may meet the
 * server's deadlock detection.
 *
 * Which of the busy buckets to wait for: the one whose holder began last.  A
 * session that idles in its transaction, or a prepared one, then only stops
 * those for whom nothing else is left.
 *
 * Under serializable the reads take the transaction's snapshot, for the
 * server's conflict detection, and a bucket that changed after it is 40001 if
 * no other serves.
 *
 * Through SQL the same is done by FOR NO KEY UPDATE, with SKIP LOCKED for a
 * bucket that is only tried; a) is not possible there, and b) takes its place.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/multixact.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* Columns of idem.stock, from 0. */
typedef enum StockColumn
{
	STOCK_ITEM,
	STOCK_BUCKET,
	STOCK_QUANTITY,
	STOCK_COLUMNS
} StockColumn;

#define STOCK_KEYS		2

/* What became of trying to lock a bucket. */
typedef enum Locked
{
	LOCKED,						/* ours, as it was read */
	BUSY,						/* another transaction is at it */
	CHANGED						/* read it again */
} Locked;

IdemTable	idem_stock_table = {
	.relname = "stock",
	.keyname = "item, bucket",
	.nkeys = STOCK_KEYS,
	.natts = STOCK_COLUMNS,
	.columns = {
		{"item", TEXTOID},
		{"bucket", INT4OID},
		{"quantity", NUMERICOID}
	},
	.required = STOCK_COLUMNS,
	.stat = IDEM_STAT_STOCK
};

static int	read_from(IdemStore *store, Datum item, int32 first,
					  Datum enough, IdemBucket **buckets);
static bool glimpse(IdemStore *store, IdemLine *line);
static int16 *guess(Datum item);
static void read_bucket(IdemStore *store, Datum item, int32 number,
						IdemRow *row);
static bool read_line(IdemStore *store, IdemLine *line);
static bool choose_bucket(IdemLine *line);
static IdemPlanned plan_line(IdemStore *store, IdemLine *line);
static IdemPlanned plan_one(IdemStore *store, IdemLine *line,
							IdemBucket *buckets, int n);
static IdemPlanned plan_in_order(IdemStore *store, IdemLine *line,
								 IdemBucket *buckets, int n);
static void note_busy(IdemLine *line, const IdemBucket *bucket,
					  TransactionId holder);
static void keep_take(IdemLine *line, const IdemBucket *bucket, Datum part);
static Locked lock_bucket(IdemStore *store, Datum item, IdemBucket *bucket,
						  bool wait, TransactionId *holder);
static Locked sql_lock_bucket(IdemStore *store, Datum item,
							  IdemBucket *bucket, bool wait);
static Locked sql_try_bucket(IdemStore *store, const IdemLine *line,
							 IdemBucket *bucket);
static TransactionId holder_of(Buffer buffer, HeapTuple tuple);
static TransactionId holder_at_a_glance(HeapTupleHeader tuple,
										Snapshot snapshot);
static int	sql_read(IdemStore *store, Datum item, IdemBucket **buckets);
static void write_bucket(IdemStore *store, Datum item,
						 const IdemBucket *bucket, Datum quantity);
static void changed_error(Datum item);
static Datum add(Datum a, Datum b);
static Datum subtract(Datum a, Datum b);
static int	compare(Datum a, Datum b);


/* What is available of an item, as committed. */
Datum
idem_bucket_total(IdemStore *store, Datum item)
{
	IdemBucket *buckets;
	int			n = idem_bucket_read(store, item, &buckets);
	Datum		total = idem_zero();

	for (int i = 0; i < n; i++)
		total = add(total, buckets[i].quantity);
	return total;
}

/* The buckets of an item by number, as they were at one moment. */
int
idem_bucket_read(IdemStore *store, Datum item, IdemBucket **buckets)
{
	if (!idem_store_is_direct(store))
		return sql_read(store, item, buckets);
	return read_from(store, item, 0, (Datum) 0, buckets);
}

/*
 * Is there less of some item than a line wants of it?  A pure read, and the
 * one by which idem_bucket_plan begins.
 */
bool
idem_bucket_short(IdemStore *store, IdemLine *lines, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!lines[i].wanted || lines[i].ready)
			continue;
		if (!glimpse(store, &lines[i]) && read_line(store, &lines[i]))
			return true;
	}
	return false;
}

/*
 * Says where what the lines want, all of them, will probably come from, as far
 * as was seen when idem_bucket_short said no.  Locks nothing.  IDEM_MUST_WAIT: some item
 * has enough in one bucket, but somebody is at each such.
 */
IdemPlanned
idem_bucket_choose(IdemLine *lines, int n)
{
	for (int i = 0; i < n; i++)
	{
		lines[i].waits = !choose_bucket(&lines[i]);
		if (lines[i].waits)
			return IDEM_MUST_WAIT;
	}
	return IDEM_PLANNED;
}

/*
 * Locks buckets that hold what the lines want; the lines are sorted by item,
 * each item once, and idem_bucket_short has said no.  Waits for nobody.  After
 * IDEM_MUST_WAIT the caller calls idem_bucket_wait; after that, and after
 * IDEM_SHORT, it begins again with the same lines.
 */
IdemPlanned
idem_bucket_plan(IdemStore *store, IdemLine *lines, int n)
{
	for (int i = 0; i < n; i++)
	{
		IdemPlanned planned;

		if (!lines[i].wanted || lines[i].ready)
			continue;
		planned = plan_line(store, &lines[i]);
		lines[i].ready = planned == IDEM_PLANNED;
		lines[i].waits = planned == IDEM_MUST_WAIT;
		if (planned != IDEM_PLANNED)
			return planned;
	}
	return IDEM_PLANNED;
}

/* Waits for what a line could not have. */
void
idem_bucket_wait(IdemStore *store, IdemLine *lines, int n)
{
	IdemLine   *line = lines;

	while (!line->waits)
		line++;
	Assert(line < lines + n);

	line->waits = false;
	if (TransactionIdIsValid(line->holder))
		XactLockTableWait(line->holder, store->heap, &line->busy.tid, XLTW_Lock);
	else
		(void) lock_bucket(store, line->item, &line->busy, true, NULL);
}

/* Takes what idem_bucket_plan has planned. */
void
idem_bucket_take(IdemStore *store, IdemLine *lines, int n)
{
	for (int i = 0; i < n; i++)
	{
		IdemLine   *line = &lines[i];

		for (int j = 0; line->wanted && j < line->ntakes; j++)
			write_bucket(store, line->item, &line->takes[j],
						 subtract(line->takes[j].quantity, line->parts[j]));
	}
}

/* Gives a quantity back to the bucket that it came from. */
void
idem_bucket_give(IdemStore *store, Datum item, int32 number, Datum quantity)
{
	IdemRow		row;

	idem_store_next_key(store);
	do
	{
		CHECK_FOR_INTERRUPTS();
		read_bucket(store, item, number, &row);
		row.values[STOCK_QUANTITY] = add(row.values[STOCK_QUANTITY], quantity);
	} while (!idem_store_update(store, &row, row.values, row.nulls));
}

/*
 * Gives back to several buckets of an item what came from each, but from one
 * that somebody is at to another one.  To wait for one after the other would
 * keep those that were had first from all who buy, until they all wait for us.
 */
void
idem_bucket_give_many(IdemStore *store, Datum item, const int32 *numbers,
					  const Datum *quantities, int n)
{
	IdemBucket *locked = palloc0_array(IdemBucket, n);
	Datum	   *parts = palloc_array(Datum, n);
	Datum		rest = idem_zero();
	int			first = pg_prng_uint64_range(&pg_global_prng_state, 0, n - 1);
	int			nlocked = 0;

	for (int i = 0; i < n; i++)
	{
		int			which = (first + i) % n;
		IdemBucket *bucket = &locked[nlocked];
		IdemRow		row;

		CHECK_FOR_INTERRUPTS();
		rest = add(rest, quantities[which]);
		read_bucket(store, item, numbers[which], &row);
		bucket->number = numbers[which];
		bucket->quantity = row.values[STOCK_QUANTITY];
		bucket->tid = row.tid;
		if (lock_bucket(store, item, bucket, false, NULL) == LOCKED)
			parts[nlocked++] = quantities[which];
	}

	if (nlocked == 0)
		idem_bucket_give(store, item, numbers[first], rest);
	for (int i = 0; i < nlocked; i++)
	{
		Datum		part = i + 1 < nlocked ? parts[i] : rest;

		write_bucket(store, item, &locked[i], add(locked[i].quantity, part));
		rest = subtract(rest, part);
	}
}

/*
 * Adds a quantity to an item, spread over nbuckets, those that are there and
 * new ones.  It is spread in whole units if it is whole, otherwise in units
 * of its last digit; what does not divide goes to buckets in a row, beginning
 * anywhere.
 */
void
idem_bucket_add(IdemStore *store, Datum item, Datum quantity, int nbuckets)
{
	Datum		scale = DirectFunctionCall1(numeric_min_scale, quantity);
	Datum		power = DirectFunctionCall3(numeric_in,
											CStringGetDatum(psprintf("1e%d", DatumGetInt32(scale))),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	Datum		unit = DirectFunctionCall3(numeric_in,
										   CStringGetDatum(psprintf("1e-%d", DatumGetInt32(scale))),
										   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	Datum		units = DirectFunctionCall2(numeric_mul, quantity, power);
	Datum		count = NumericGetDatum(int64_to_numeric(nbuckets));
	Datum		share = DirectFunctionCall2(numeric_div_trunc, units, count);
	int			rest = DatumGetInt32(DirectFunctionCall1(numeric_int4,
														 DirectFunctionCall2(numeric_mod, units, count)));
	int			first = pg_prng_uint64_range(&pg_global_prng_state, 0,
											 nbuckets - 1);

	for (int i = 0; i < nbuckets; i++)
	{
		Datum		values[STOCK_COLUMNS];

		CHECK_FOR_INTERRUPTS();
		values[STOCK_ITEM] = item;
		values[STOCK_BUCKET] = Int32GetDatum(i);
		values[STOCK_QUANTITY] = share;
		if ((i - first + nbuckets) % nbuckets < rest)
			values[STOCK_QUANTITY] = add(share, NumericGetDatum(int64_to_numeric(1)));
		values[STOCK_QUANTITY] = DirectFunctionCall2(numeric_mul,
													 values[STOCK_QUANTITY], unit);
		(void) idem_plan_execute(IDEM_PLAN_STOCK_ADD,
								 store->heap->rd_rel->relowner, false, values,
								 NULL, NULL, NULL, 0);
	}
}


/*
 * Reads the buckets of an item, beginning at a number, and not beyond one that
 * is free and has enough, unless enough is 0.
 */
static int
read_from(IdemStore *store, Datum item, int32 first, Datum enough,
		  IdemBucket **buckets)
{
	Datum		zero = idem_zero();
	bool		found = false;
	int			n = 0;
	int			room = 16;
	Snapshot	snapshot;
	ScanKeyData scankeys[STOCK_KEYS];
	SysScanDesc scandesc;
	HeapTuple	tuple;

	*buckets = palloc_array(IdemBucket, room);
	idem_store_scankey(&scankeys[STOCK_ITEM], store->table, STOCK_ITEM, item);
	if (first > 0)
		ScanKeyEntryInitialize(&scankeys[STOCK_BUCKET], 0, STOCK_BUCKET + 1,
							   BTGreaterEqualStrategyNumber, INT4OID,
							   InvalidOid, F_INT4GE, Int32GetDatum(first));
	snapshot = RegisterSnapshot(IsolationIsSerializable() ?
								GetTransactionSnapshot() : GetLatestSnapshot());
	scandesc = systable_beginscan_ordered(store->heap, store->index, snapshot,
										  first > 0 ? 2 : 1, scankeys);
	while (!found &&
		   (tuple = systable_getnext_ordered(scandesc,
											 ForwardScanDirection)) != NULL)
	{
		Datum		values[STOCK_COLUMNS];
		bool		nulls[STOCK_COLUMNS];
		IdemBucket *bucket;

		if (n == room)
			*buckets = repalloc(*buckets, (room *= 2) * sizeof(IdemBucket));
		bucket = &(*buckets)[n++];
		heap_deform_tuple(tuple, RelationGetDescr(store->heap), values, nulls);
		bucket->number = DatumGetInt32(values[STOCK_BUCKET]);
		bucket->empty = idem_same_bytes(values[STOCK_QUANTITY], zero);
		bucket->quantity = bucket->empty ? zero :
			NumericGetDatum(DatumGetNumericCopy(values[STOCK_QUANTITY]));
		bucket->holder = holder_at_a_glance(tuple->t_data, snapshot);
		bucket->tid = tuple->t_self;
		found = enough != (Datum) 0 && !bucket->empty &&
			!TransactionIdIsValid(bucket->holder) &&
			compare(bucket->quantity, enough) >= 0;
	}
	systable_endscan_ordered(scandesc);
	UnregisterSnapshot(snapshot);
	return n;
}

/*
 * Looks for a free bucket with enough for a line, beginning anywhere, without
 * reading all of them.  False: there may be one all the same.
 */
static bool
glimpse(IdemStore *store, IdemLine *line)
{
	int			nbuckets = *guess(line->item);

	/* whoever locks in order must not begin anywhere else any more */
	if (nbuckets < 2 || line->in_order || !idem_store_is_direct(store) ||
		IsolationIsSerializable())
		return false;
	line->nbuckets = read_from(store, line->item,
							   pg_prng_uint64_range(&pg_global_prng_state, 0,
													nbuckets - 1),
							   line->quantity, &line->buckets);
	line->glimpsed = line->nbuckets > 0 &&
		!TransactionIdIsValid(line->buckets[line->nbuckets - 1].holder) &&
		compare(line->buckets[line->nbuckets - 1].quantity,
				line->quantity) >= 0;
	if (!line->glimpsed)
		pfree(line->buckets);
	return line->glimpsed;
}

/*
 * Where the number of an item's buckets is kept as long as one of them served,
 * else 0.  It is a guess: items share places, and nobody says when buckets are
 * added.  It only decides where looking begins, and that it need not begin by
 * reading them all.
 */
static int16 *
guess(Datum item)
{
	static int16 guesses[64];
	struct varlena *value = (struct varlena *) DatumGetPointer(item);

	return &guesses[hash_bytes((unsigned char *) VARDATA_ANY(value),
							   VARSIZE_ANY_EXHDR(value)) % lengthof(guesses)];
}

/* Reads one bucket, which must be there. */
static void
read_bucket(IdemStore *store, Datum item, int32 number, IdemRow *row)
{
	Datum		key[STOCK_KEYS] = {item, Int32GetDatum(number)};

	idem_store_read(store, key, row);
	if (row->presence != IDEM_PRESENT)
		ereport(ERROR,
				(errcode(ERRCODE_IDEM_NOT_FOUND),
				 errmsg("there is no such bucket"),
				 errdetail("Key %s is not in \"idem.stock\".",
						   idem_store_key(&idem_stock_table, key)),
				 errhint("Look for who removed it; idem never does.")));
}

/* Reads the buckets of a line's item.  True: they hold too little. */
static bool
read_line(IdemStore *store, IdemLine *line)
{
	Datum		total = idem_zero();

	*guess(line->item) = 0;
	line->glimpsed = false;
	line->nbuckets = idem_bucket_read(store, line->item, &line->buckets);
	if (line->nbuckets > 1)
		line->first = pg_prng_uint64_range(&pg_global_prng_state, 0,
										   line->nbuckets - 1);
	for (int i = 0; i < line->nbuckets; i++)
	{
		if (line->buckets[i].empty)
			continue;
		total = add(total, line->buckets[i].quantity);
		if (compare(total, line->quantity) >= 0)
			return false;
	}
	return true;
}

/*
 * Chooses a bucket for a line among those that were read: the one that
 * plan_line will try first.  False: it will have to wait for one.
 */
static bool
choose_bucket(IdemLine *line)
{
	IdemBucket *chosen = &line->buckets[0];

	line->ntakes = 0;
	line->holder = InvalidTransactionId;
	if (line->glimpsed)
		chosen = &line->buckets[line->nbuckets - 1];
	else if (line->nbuckets > 1)
	{
		for (int i = 0; i < line->nbuckets; i++)
		{
			IdemBucket *bucket = &line->buckets[(line->first + i) % line->nbuckets];

			if (bucket->empty || compare(bucket->quantity, line->quantity) < 0)
				continue;
			if (!TransactionIdIsValid(bucket->holder))
			{
				chosen = bucket;
				line->holder = InvalidTransactionId;
				break;
			}
			note_busy(line, bucket, bucket->holder);
		}
		if (TransactionIdIsValid(line->holder))
			return false;
	}
	line->chosen = chosen->number;
	keep_take(line, chosen, line->quantity);
	return true;
}

/*
 * Locks buckets that hold what one line wants, as they were read last; reads
 * them again as often as they have changed since.
 */
static IdemPlanned
plan_line(IdemStore *store, IdemLine *line)
{
	if (line->glimpsed)
	{
		IdemBucket *bucket = &line->buckets[line->nbuckets - 1];

		line->ntakes = 0;
		if (lock_bucket(store, line->item, bucket, false, NULL) == LOCKED)
		{
			keep_take(line, bucket, line->quantity);
			return IDEM_PLANNED;
		}
		pfree(line->buckets);
		if (read_line(store, line))
			return IDEM_SHORT;
	}

	for (;;)
	{
		IdemPlanned planned = IDEM_SHORT;

		CHECK_FOR_INTERRUPTS();
		line->ntakes = 0;
		line->holder = InvalidTransactionId;
		if (!line->in_order && line->nbuckets > 1)
			planned = plan_one(store, line, line->buckets, line->nbuckets);
		else
			line->in_order = true;
		if (planned == IDEM_SHORT && line->in_order)
			planned = plan_in_order(store, line, line->buckets, line->nbuckets);
		if (planned != IDEM_SHORT)
			return planned;

		pfree(line->buckets);
		if (read_line(store, line))
			return IDEM_SHORT;
	}
}

/*
 * Finds one bucket with enough that nobody is at, beginning anywhere.
 * IDEM_SHORT: look again, in order if the line says so.
 */
static IdemPlanned
plan_one(IdemStore *store, IdemLine *line, IdemBucket *buckets, int n)
{
	bool		changed = false;

	for (int i = 0; i < n; i++)
	{
		IdemBucket *bucket = &buckets[(line->first + i) % n];
		TransactionId holder = bucket->holder;
		Locked		locked;

		if (bucket->empty || compare(bucket->quantity, line->quantity) < 0)
			continue;
		if (TransactionIdIsValid(holder))
			locked = BUSY;
		else if (idem_store_is_direct(store))
			locked = lock_bucket(store, line->item, bucket, false, &holder);
		else
			locked = sql_try_bucket(store, line, bucket);
		switch (locked)
		{
			case LOCKED:
				*guess(line->item) = n;
				keep_take(line, bucket, line->quantity);
				return IDEM_PLANNED;
			case BUSY:
				note_busy(line, bucket, holder);
				break;
			case CHANGED:
				changed = true;
				break;
		}
	}

	if (TransactionIdIsValid(line->holder))
		return IDEM_MUST_WAIT;
	if (changed && IsolationIsSerializable())
		changed_error(line->item);
	line->in_order = !changed;
	return IDEM_SHORT;
}

/*
 * Locks buckets from the first one on until they hold enough.  IDEM_SHORT:
 * look again.
 */
static IdemPlanned
plan_in_order(IdemStore *store, IdemLine *line, IdemBucket *buckets, int n)
{
	Datum		missing = line->quantity;

	for (int i = 0; i < n; i++)
	{
		switch (lock_bucket(store, line->item, &buckets[i], false, NULL))
		{
			case LOCKED:
				break;
			case BUSY:
				line->busy = buckets[i];
				return IDEM_MUST_WAIT;
			case CHANGED:
				if (IsolationIsSerializable())
					changed_error(line->item);
				return IDEM_SHORT;
		}

		if (compare(buckets[i].quantity, missing) >= 0)
		{
			keep_take(line, &buckets[i], missing);
			return IDEM_PLANNED;
		}
		if (compare(buckets[i].quantity, idem_zero()) > 0)
		{
			keep_take(line, &buckets[i], buckets[i].quantity);
			missing = subtract(missing, buckets[i].quantity);
		}
	}
	return IDEM_SHORT;
}

/* Notes who is at a bucket that has enough, if he began last of those seen. */
static void
note_busy(IdemLine *line, const IdemBucket *bucket, TransactionId holder)
{
	if (TransactionIdIsValid(line->holder) &&
		!TransactionIdFollows(holder, line->holder))
		return;
	line->holder = holder;
	line->busy = *bucket;
}

/* Notes that a part of the line comes from a bucket. */
static void
keep_take(IdemLine *line, const IdemBucket *bucket, Datum part)
{
	if (line->takes == NULL)
	{
		line->takes = palloc_array(IdemBucket, 1);
		line->parts = palloc_array(Datum, 1);
	}
	else
	{
		line->takes = repalloc(line->takes, (line->ntakes + 1) * sizeof(IdemBucket));
		line->parts = repalloc(line->parts, (line->ntakes + 1) * sizeof(Datum));
	}
	line->takes[line->ntakes] = *bucket;
	line->parts[line->ntakes++] = part;
}

/*
 * Locks a bucket as it was read, to the end of the transaction.  Without wait
 * BUSY is an answer, and holder says whom to wait for, if it is asked for.
 */
static Locked
lock_bucket(IdemStore *store, Datum item, IdemBucket *bucket, bool wait,
			TransactionId *holder)
{
	if (!idem_store_is_direct(store))
		return sql_lock_bucket(store, item, bucket, wait);

	for (;;)
	{
		HeapTupleData tuple;
		TM_FailureData tmfd;
		Buffer		buffer;
		TM_Result	result;

		CHECK_FOR_INTERRUPTS();
		tuple.t_self = bucket->tid;
		result = heap_lock_tuple(store->heap, &tuple,
								 GetCurrentCommandId(false),
								 LockTupleNoKeyExclusive,
								 wait ? LockWaitBlock : LockWaitSkip,
								 false, &buffer, &tmfd);
		if (result == TM_WouldBlock && holder != NULL)
			*holder = holder_of(buffer, &tuple);
		ReleaseBuffer(buffer);

		switch (result)
		{
			case TM_Ok:
				return LOCKED;
			case TM_WouldBlock:
				if (holder == NULL || TransactionIdIsValid(*holder))
					return BUSY;
				break;			/* whoever it was has ended */
			case TM_Updated:
			case TM_Deleted:
				return CHANGED;
			default:
				elog(ERROR, "row of \"idem.stock\" could not be locked");
		}
	}
}

/*
 * The same through SQL, where BUSY cannot say who it is, and where a bucket
 * that has changed since it was read is locked all the same: its quantity is
 * then put right.
 */
static Locked
sql_lock_bucket(IdemStore *store, Datum item, IdemBucket *bucket, bool wait)
{
	Datum		key[STOCK_KEYS] = {item, Int32GetDatum(bucket->number)};
	bool		isnull;

	if (idem_plan_execute(wait ? IDEM_PLAN_STOCK_LOCK : IDEM_PLAN_STOCK_LOCK_FREE,
						  store->heap->rd_rel->relowner, false, key, NULL,
						  &bucket->quantity, &isnull, 1) == 0)
		return BUSY;
	bucket->empty = false;
	return LOCKED;
}

/*
 * Locks a bucket through SQL if it is free and has enough.  If it turns out to
 * have too little by now, a subtransaction gives the lock up again: kept, it
 * would be one out of order.
 */
static Locked
sql_try_bucket(IdemStore *store, const IdemLine *line, IdemBucket *bucket)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile Locked locked = BUSY;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		locked = sql_lock_bucket(store, line->item, bucket, false);
		if (locked == LOCKED && compare(bucket->quantity, line->quantity) < 0)
			locked = CHANGED;
		if (locked == LOCKED)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

/*
 * Who is at a row that could not be locked: of several the last one that still
 * runs; InvalidTransactionId if there is none any more.
 */
static TransactionId
holder_of(Buffer buffer, HeapTuple tuple)
{
	TransactionId xmax;
	uint16		infomask;
	MultiXactMember *members;
	TransactionId result = InvalidTransactionId;
	int			n;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	xmax = HeapTupleHeaderGetRawXmax(tuple->t_data);
	infomask = tuple->t_data->t_infomask;
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);

	if ((infomask & HEAP_XMAX_INVALID) || !TransactionIdIsValid(xmax))
		return InvalidTransactionId;
	if (!(infomask & HEAP_XMAX_IS_MULTI))
		return TransactionIdIsCurrentTransactionId(xmax) ?
			InvalidTransactionId : xmax;

	n = GetMultiXactIdMembers(xmax, &members, false,
							  HEAP_XMAX_IS_LOCKED_ONLY(infomask));
	for (int i = 0; i < n; i++)
		if (!TransactionIdIsCurrentTransactionId(members[i].xid) &&
			TransactionIdIsInProgress(members[i].xid) &&
			(!TransactionIdIsValid(result) ||
			 TransactionIdFollows(members[i].xid, result)))
			result = members[i].xid;
	return result;
}

/*
 * Who is at a row that a scan has just found, as far as that is seen without
 * locking anything: InvalidTransactionId does not say that there is nobody.
 * Trying to lock costs ten times as much, and in a rush on one item nearly
 * all that is tried is in vain.  The snapshot is asked first, as it is there;
 * but it may be as old as a serializable transaction, and takes a savepoint
 * that was rolled back for one that runs if its transaction has very many.
 * The row is read without its buffer's lock.  What is torn names nobody who
 * runs, or at worst somebody else: then we wait for him, and look again.
 */
static TransactionId
holder_at_a_glance(HeapTupleHeader tuple, Snapshot snapshot)
{
	uint16		infomask = tuple->t_infomask;
	TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple);

	if ((infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) != 0 ||
		HEAP_XMAX_IS_KEYSHR_LOCKED(infomask) ||
		!TransactionIdIsNormal(xmax) ||
		!XidInMVCCSnapshot(xmax, snapshot) ||
		TransactionIdIsCurrentTransactionId(xmax) ||
		!TransactionIdIsInProgress(xmax))
		return InvalidTransactionId;
	return xmax;
}

/* idem_bucket_read through SQL. */
static int
sql_read(IdemStore *store, Datum item, IdemBucket **buckets)
{
	Datum		arrays[2];
	bool		nulls[2];
	Datum	   *numbers;
	Datum	   *quantities;
	int			n;

	if (idem_plan_execute(IDEM_PLAN_STOCK_READ, store->heap->rd_rel->relowner,
						  true, &item, NULL, arrays, nulls, 2) == 0 || nulls[0])
	{
		*buckets = palloc_array(IdemBucket, 1);
		return 0;
	}

	deconstruct_array(DatumGetArrayTypeP(arrays[0]), INT4OID, 4, true,
					  TYPALIGN_INT, &numbers, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(arrays[1]), NUMERICOID, -1, false,
					  TYPALIGN_INT, &quantities, NULL, &n);
	*buckets = palloc0_array(IdemBucket, n);
	for (int i = 0; i < n; i++)
	{
		(*buckets)[i].number = DatumGetInt32(numbers[i]);
		(*buckets)[i].quantity = quantities[i];
	}
	return n;
}

/* Writes the quantity of a bucket that we have locked. */
static void
write_bucket(IdemStore *store, Datum item, const IdemBucket *bucket,
			 Datum quantity)
{
	IdemRow		row = {
		.presence = IDEM_PRESENT,
		.tid = bucket->tid
	};

	row.values[STOCK_ITEM] = item;
	row.values[STOCK_BUCKET] = Int32GetDatum(bucket->number);
	row.values[STOCK_QUANTITY] = quantity;
	store->row_locked = true;
	/* only a trigger can keep it from being written: the store gives up */
	while (!idem_store_update(store, &row, row.values, row.nulls))
		CHECK_FOR_INTERRUPTS();
}

/* Under serializable: no bucket serves that our snapshot could vouch for. */
static void
changed_error(Datum item)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("Item \"%s\" was changed by a transaction that this one must not see.",
					   TextDatumGetCString(item)),
			 errhint("Run the transaction again.")));
}

static Datum
add(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_add, a, b);
}

static Datum
subtract(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_sub, a, b);
}

static int
compare(Datum a, Datum b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
}
