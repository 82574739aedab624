/*-------------------------------------------------------------------------
 *
 * bucket.c
 *	  The quantity of an item, in one row or many.
 *
 * The contract.  What is available of an item is the sum of its buckets, the
 * rows of idem.stock.  Lines say what is to be taken of items, or given back;
 * all of them happen, or none.  A taker waits only if what open transactions
 * leave alone does not suffice, and then for no one of them in particular.
 * An item is short only if all its buckets together hold too little.
 *
 * There is one way to move quantities, and it has three steps:
 *
 * 1. Look: read an item's buckets by one snapshot, and see which of them other
 *	  transactions hold.  If all of them together have less than is wanted, the
 *	  item is short.
 * 2. Try: lock buckets that are free, without ever waiting for one, and write
 *	  them.  A bucket that has enough alone comes first; if there is none,
 *	  several are taken together.  If they cannot give all that is wanted, the
 *	  subtransaction in which this was tried is rolled back.  (A single line
 *	  that is served by a single bucket needs no subtransaction: an attempt that
 *	  fails has locked nothing.)
 * 3. If that does not suffice, wait, and begin again (bucket_wait.c).
 *
 * Why "short" is exact.  It is judged by the sum of what is committed.  What an
 * open transaction takes still counts; what it gives back does not count yet,
 * just as with a single row.  A bucket that another transaction holds is passed
 * by, but what is in it counts.  Before a bucket is written it is locked in the
 * very version that was read; through SQL it is read again under the lock.
 *
 * Why single calls do not deadlock.  A call that waits has no bucket locked,
 * because what it tried was rolled back.  A call that has locked a bucket writes
 * only rows of its own from then on, and waits for nobody.  (To make a bucket
 * through SQL it may wait for milliseconds; that ends by itself, see nowait.c.)
 * A call that waits for a bucket may hold the row of its order, and others may
 * wait for that row; but the calls that it waits for do not wait themselves.  So
 * no circle closes, whatever the order of items and buckets.  A transaction that
 * makes several calls keeps the buckets of the earlier ones.  This argument does
 * not cover it; the server's deadlock detector does (bucket_wait.c).
 *
 * Buckets come and go.  A buyer who had to wait leaves half of what remains in
 * its bucket in a new one, up to 64 of them, so an item has as many as buyers
 * meet at it.  A call that gives back and finds every bucket held by others
 * makes a new one, too.  The numbers of these buckets begin at 1024, and one that
 * becomes empty is deleted.  So an item that is sold out is one row again, or as
 * many as idem_stock_add was told to make, whose numbers are lower.  It does not
 * matter to which bucket a quantity goes back: only the sum means anything.
 *
 * A session returns to the bucket that served it last; sessions that meet go
 * elsewhere, at random.
 *
 * Under serializable the reads take the transaction's snapshot, for the
 * server's conflict detection, and a bucket that changed after it is 40001 if
 * no other serves.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"
#include "store_many.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

/* Columns of idem.stock, from 0. */
typedef enum StockColumn
{
	STOCK_ITEM,
	STOCK_BUCKET,
	STOCK_QUANTITY,
	STOCK_COLUMNS
} StockColumn;

#define STOCK_KEYS		2

/* Buckets from this number on come and go by themselves. */
#define OWN_NUMBERS		IDEM_BUCKETS_MAX

typedef struct Bucket
{
	int32		number;
	Datum		quantity;		/* numeric */
	bool		taken;			/* another transaction is at it */
	bool		changed;		/* since it was read */
	ItemPointerData tid;		/* direct route */
} Bucket;

typedef struct Line
{
	Datum		item;
	Datum		quantity;		/* numeric: to be taken; below 0: given back */
	bool		seen;			/* idem_bucket_short saw that one has enough */
	Bucket		one;			/* that one; direct route */
} Line;

struct IdemLines
{
	Datum		source;			/* that waits are counted for */
	IdemStore  *store;			/* while idem_bucket_move is at it */
	int			n;
	Line	   *lines;
	IdemMoved	moved;			/* what try_lines came to */
	bool		crowded;		/* it had to wait */
	Datum		item;			/* of IDEM_TAKEN: a bucket that was in the way */
	int32		number;
};

typedef enum Tried
{
	DONE,
	SHORT,
	IN_PARTS,					/* no single bucket, but several may serve */
	TAKEN,
	CHANGED						/* look again at once */
} Tried;

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
	.speculative = true,
	.stat = IDEM_STAT_STOCK
};

static bool look(IdemStore *store, Line *line, Snapshot snapshot);
static bool try_lines(void *arg);
static Tried try_line(IdemStore *store, IdemLines *lines, Line *line,
					  bool in_parts);
static Tried try_alone(IdemStore *store, IdemLines *lines, Line *line,
					   Bucket *buckets, int n);
static Tried try_in_parts(IdemStore *store, Line *line, Bucket *buckets, int n);
static void note_taken(IdemLines *lines, const Line *line,
					   const Bucket *buckets, int n);
static int	read_buckets(IdemStore *store, Snapshot snapshot, Datum item,
						 int32 first, Datum enough, Bucket **buckets);
static int	sql_read(IdemStore *store, Datum item, Bucket **buckets);
static bool lock_bucket(IdemStore *store, Datum item, Bucket *bucket,
						Datum part);
static bool take_from(IdemStore *store, Datum item, Bucket *bucket, Datum part);
static bool spread(IdemStore *store, const Line *line, Bucket *bucket,
				   Bucket *buckets, int n);
static bool fill_another(IdemStore *store, Datum item, Datum quantity,
						 Bucket *buckets, int n);
static bool insert_bucket(IdemStore *store, Datum item, int32 number,
						  Datum quantity);
static void write_bucket(IdemStore *store, Datum item, const Bucket *bucket,
						 Datum quantity);
static int16 *last_served(Datum item);
static void changed_error(Datum item);
static Datum sum(const Bucket *buckets, int n);


/* Opens idem.stock.  Nothing here waits but bucket_wait.c. */
void
idem_bucket_open(IdemStore *store, IdemAccess access)
{
	idem_store_open(store, &idem_stock_table, access, IDEM_NO_WAIT_ANSWER);
}

/* What is available of an item, as committed. */
Datum
idem_bucket_total(IdemStore *store, Datum item)
{
	Bucket	   *buckets;
	int			n = read_buckets(store, InvalidSnapshot, item, 0, (Datum) 0, &buckets);

	return sum(buckets, n);
}

/*
 * Room for n lines, for an order of a source or IDEM_STAT_NO_SOURCE; and a
 * further line, whose quantity is taken, or given back if it is below 0.
 */
IdemLines *
idem_bucket_lines(Datum source, int n)
{
	IdemLines  *lines = palloc0_object(IdemLines);

	lines->source = source;
	lines->lines = MemoryContextAllocExtended(CurrentMemoryContext,
											  (Size) n * sizeof(Line),
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	return lines;
}

void
idem_bucket_line(IdemLines *lines, Datum item, Datum quantity)
{
	Line	   *line = &lines->lines[lines->n++];

	line->item = item;
	line->quantity = quantity;
}

/*
 * Is there less of some item than a line wants of it?  A pure read, for a
 * refusal that writes nothing; as of the snapshot's moment, directly.
 */
bool
idem_bucket_short(IdemStore *store, IdemLines *lines, Snapshot snapshot)
{
	for (int i = 0; i < lines->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (look(store, &lines->lines[i], snapshot))
			return true;
	}
	return false;
}

/*
 * Does what the lines say, all of it or nothing.  Without wait others who are
 * in the way are an answer, otherwise waited is set if it had to wait.
 */
IdemMoved
idem_bucket_move(IdemStore *store, IdemLines *lines, bool wait, bool *waited)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work = NULL;
	IdemPatience patience;

	lines->store = store;
	lines->crowded = false;
	*waited = false;
	if (lines->n == 0)
		return IDEM_MOVED;
	if (lines->n == 1 && idem_store_is_direct(store))
	{
		Tried		tried;

		if (!lines->lines[0].seen)
			(void) look(store, &lines->lines[0], InvalidSnapshot);
		tried = try_line(store, lines, &lines->lines[0], false);
		if (tried == DONE || tried == SHORT)
			return tried == DONE ? IDEM_MOVED : IDEM_SHORT;
	}

	/* it may take long: what each attempt needs is freed after it */
	work = AllocSetContextCreate(caller, "idem stock", ALLOCSET_DEFAULT_SIZES);
	INSTR_TIME_SET_ZERO(patience.began);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(work);
		MemoryContextSwitchTo(work);
		lines->item = (Datum) 0;
		(void) idem_subxact(try_lines, lines, NULL);
		if (lines->moved != IDEM_TAKEN)
			break;
		if (lines->item == (Datum) 0)
			continue;			/* changed, so somebody has got on */
		if (!wait)
			break;
		*waited = lines->crowded = true;
		idem_bucket_wait(&patience, store, lines->source, lines->item,
						 lines->number);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	return lines->moved;
}

/*
 * Adds a quantity to an item, spread evenly over at least nbuckets buckets,
 * whose numbers begin at 0: in whole units if it is whole, otherwise in units of
 * its last digit.  The share of a bucket that others hold goes to the next.
 */
void
idem_bucket_add(IdemStore *store, Datum item, Datum quantity, int nbuckets)
{
	Datum		scale = DirectFunctionCall1(numeric_min_scale, quantity);
	Bucket	   *buckets;
	int			n = read_buckets(store, InvalidSnapshot, item, 0, (Datum) 0, &buckets);
	int			there = 0;
	Datum		rest = quantity;
	IdemLines  *lines;
	bool		waited;

	for (; there < n && buckets[there].number < OWN_NUMBERS; there++)
		nbuckets = Max(nbuckets, buckets[there].number + 1);
	for (int i = 0, next = 0; i < nbuckets; i++)
	{
		Datum		left = NumericGetDatum(int64_to_numeric(nbuckets - i));
		Datum		share = DirectFunctionCall2(numeric_trunc,
												DirectFunctionCall2(numeric_div, rest, left),
												scale);
		bool		given;

		CHECK_FOR_INTERRUPTS();
		if (idem_quantity_compare(share, idem_zero()) == 0)
			share = idem_zero();
		if (next < there && buckets[next].number == i)
		{
			given = share != idem_zero() &&
				take_from(store, item, &buckets[next], idem_quantity_subtract(idem_zero(), share));
			next++;
		}
		else
			given = insert_bucket(store, item, i, share);
		if (given)
			rest = idem_quantity_subtract(rest, share);
	}

	/* it waits only if this transaction holds no bucket of the item */
	if (idem_quantity_compare(rest, idem_zero()) == 0)
		return;
	lines = idem_bucket_lines(IDEM_STAT_NO_SOURCE, 1);
	idem_bucket_line(lines, item, idem_quantity_subtract(idem_zero(), rest));
	(void) idem_bucket_move(store, lines, true, &waited);
}


/*
 * Is there less than a line wants?  If a single bucket is found to have enough,
 * the others are not read, and the line remembers that bucket.
 */
static bool
look(IdemStore *store, Line *line, Snapshot snapshot)
{
	int16	   *served = last_served(line->item);
	bool		direct = idem_store_is_direct(store);
	Bucket	   *buckets;
	Datum		total;
	bool		is_short;
	int			n;

	n = read_buckets(store, snapshot, line->item, Max(*served, 0),
					 line->quantity, &buckets);
	line->seen = direct && n > 0 && (n == 1 || *served >= 0) &&
		!buckets[n - 1].taken &&
		idem_quantity_compare(buckets[n - 1].quantity, line->quantity) >= 0;
	if (line->seen)
	{
		line->one = buckets[n - 1];
		pfree(buckets);
		return false;
	}

	if (direct && *served > 0)
	{
		pfree(buckets);
		n = read_buckets(store, snapshot, line->item, 0, (Datum) 0, &buckets);
	}
	total = sum(buckets, n);
	is_short = idem_quantity_compare(total, line->quantity) < 0;
	/* sold out: the next call most likely finds that again, and reads it once */
	if (is_short && idem_same_bytes(total, idem_zero()))
		*served = -1;
	pfree(buckets);
	return is_short;
}

/* All lines, in a subtransaction: an IdemStep. */
static bool
try_lines(void *arg)
{
	IdemLines  *lines = arg;
	IdemStore  *store = lines->store;

	for (int i = 0; i < lines->n; i++)
	{
		Tried		tried;

		CHECK_FOR_INTERRUPTS();
		tried = try_line(store, lines, &lines->lines[i], true);
		if (tried != DONE)
		{
			lines->moved = tried == SHORT ? IDEM_SHORT : IDEM_TAKEN;
			return false;
		}
	}
	lines->moved = IDEM_MOVED;
	return true;
}

/*
 * Does what one line says.  Without in_parts, a bucket stays locked only if the
 * answer is DONE.  After TAKEN, lines say which bucket to wait for.
 */
static Tried
try_line(IdemStore *store, IdemLines *lines, Line *line, bool in_parts)
{
	Bucket	   *buckets;
	Tried		tried;
	int			n;

	if (line->seen)
	{
		line->seen = false;
		if (take_from(store, line->item, &line->one, line->quantity))
		{
			*last_served(line->item) = line->one.number;
			return DONE;
		}
	}

	n = read_buckets(store, InvalidSnapshot, line->item, 0, (Datum) 0, &buckets);
	if (idem_quantity_compare(sum(buckets, n), line->quantity) < 0)
		tried = SHORT;
	else
	{
		tried = try_alone(store, lines, line, buckets, n);
		if (tried == IN_PARTS && in_parts)
			tried = try_in_parts(store, line, buckets, n);
	}
	if (tried == CHANGED && IsolationIsSerializable())
		changed_error(line->item);
	if (tried == TAKEN)
		note_taken(lines, line, buckets, n);
	pfree(buckets);
	return tried;
}

/*
 * Takes all from one bucket that nobody is at, beginning anywhere; gives back
 * to one, if need be a new one.
 */
static Tried
try_alone(IdemStore *store, IdemLines *lines, Line *line, Bucket *buckets, int n)
{
	bool		giving = idem_quantity_compare(line->quantity, idem_zero()) < 0;
	bool		changed = false;
	Datum		rest = idem_zero();
	int			first = n > 1 ? pg_prng_uint64_range(&pg_global_prng_state, 0, n - 1) : 0;

	for (int i = 0; i < n; i++)
	{
		Bucket	   *bucket = &buckets[(first + i) % n];

		if (bucket->taken)
			continue;
		if (idem_quantity_compare(bucket->quantity, line->quantity) >= 0)
		{
			if (lines->crowded && !giving ?
				spread(store, line, bucket, buckets, n) :
				take_from(store, line->item, bucket, line->quantity))
			{
				*last_served(line->item) = bucket->number;
				return DONE;
			}
			changed |= bucket->changed;
		}
		if (!bucket->taken && !bucket->changed)
			rest = idem_quantity_add(rest, bucket->quantity);
	}

	if (giving && fill_another(store, line->item,
							   idem_quantity_subtract(idem_zero(), line->quantity),
							   buckets, n))
		return DONE;
	if (!giving && idem_quantity_compare(rest, line->quantity) >= 0)
		return IN_PARTS;
	return changed ? CHANGED : TAKEN;
}

/* Takes what is wanted from several buckets that nobody is at. */
static Tried
try_in_parts(IdemStore *store, Line *line, Bucket *buckets, int n)
{
	Datum		missing = line->quantity;
	bool		changed = false;

	for (int i = 0; i < n; i++)
	{
		Bucket	   *bucket = &buckets[i];
		Datum		part = bucket->quantity;

		CHECK_FOR_INTERRUPTS();
		if (bucket->taken || bucket->changed || idem_quantity_compare(part, idem_zero()) <= 0)
			continue;
		if (idem_quantity_compare(part, missing) > 0)
			part = missing;
		if (take_from(store, line->item, bucket, part))
			missing = idem_quantity_subtract(missing, part);
		changed |= bucket->changed;
		if (idem_quantity_compare(missing, idem_zero()) == 0)
			return DONE;
	}
	return changed ? CHANGED : TAKEN;
}

/* Chooses one of the buckets that others are at, to wait for. */
static void
note_taken(IdemLines *lines, const Line *line, const Bucket *buckets, int n)
{
	int			taken = 0;

	lines->item = line->item;
	lines->number = OWN_NUMBERS;
	for (int i = 0; i < n; i++)
		if (buckets[i].taken &&
			pg_prng_uint64_range(&pg_global_prng_state, 0, taken++) == 0)
			lines->number = buckets[i].number;
}

/*
 * Reads the buckets of an item, beginning at a number, and not beyond one that
 * is free and has enough, unless enough is 0.  Through SQL it reads all, as of
 * now.
 */
static int
read_buckets(IdemStore *store, Snapshot snapshot, Datum item, int32 first,
			 Datum enough, Bucket **buckets)
{
	IdemRange	range;
	IdemRow		row;
	Datum		zero = idem_zero();
	Size		zero_size = VARSIZE_ANY_EXHDR(DatumGetPointer(zero));
	bool		found = false;
	bool		held;
	int			n = 0;
	int			room = 16;

	if (!idem_store_is_direct(store))
		return sql_read(store, item, buckets);

	*buckets = palloc_array(Bucket, room);
	idem_range_begin(&range, store, snapshot, item, first);
	while (!found && idem_range_next(&range, &row, &held))
	{
		Datum		quantity = row.values[STOCK_QUANTITY];
		Bucket	   *bucket;

		if (n == room)
			*buckets = repalloc(*buckets, (room *= 2) * sizeof(Bucket));
		bucket = &(*buckets)[n++];
		bucket->number = DatumGetInt32(row.values[STOCK_BUCKET]);
		if (VARSIZE_ANY_EXHDR(DatumGetPointer(quantity)) == zero_size &&
			idem_same_bytes(quantity, zero))
			bucket->quantity = zero;
		else
			bucket->quantity = NumericGetDatum(DatumGetNumericCopy(quantity));
		bucket->taken = held;
		bucket->changed = false;
		bucket->tid = row.tid;
		found = enough != (Datum) 0 && !held &&
			idem_quantity_compare(bucket->quantity, enough) >= 0;
	}
	idem_range_end(&range);
	return n;
}

/* The same through SQL, which does not tell who is at a row. */
static int
sql_read(IdemStore *store, Datum item, Bucket **buckets)
{
	Datum		arrays[2];
	bool		nulls[2];
	Datum	   *numbers;
	Datum	   *quantities;
	int			n;

	if (idem_plan_execute(IDEM_PLAN_STOCK_READ, idem_store_owner(store), true,
						  &item, NULL, arrays, nulls, 2) == 0 || nulls[0])
	{
		*buckets = palloc_array(Bucket, 1);
		return 0;
	}

	deconstruct_array(DatumGetArrayTypeP(arrays[0]), INT4OID, 4, true,
					  TYPALIGN_INT, &numbers, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(arrays[1]), NUMERICOID, -1, false,
					  TYPALIGN_INT, &quantities, NULL, &n);
	*buckets = palloc0_array(Bucket, n);
	for (int i = 0; i < n; i++)
	{
		(*buckets)[i].number = DatumGetInt32(numbers[i]);
		(*buckets)[i].quantity = quantities[i];
	}
	return n;
}

/*
 * Locks a bucket that has a part, to the end of the subtransaction, unless
 * another transaction holds it.  False: taken or changed in it says why not.
 * The direct route locks the version that was read.  Through SQL the current
 * version is locked, its quantity is read again, and if that is too little the
 * bucket counts as changed.
 */
static bool
lock_bucket(IdemStore *store, Datum item, Bucket *bucket, Datum part)
{
	Datum		key[STOCK_KEYS] = {item, Int32GetDatum(bucket->number)};
	IdemTryLock locked;

	if (!idem_store_is_direct(store))
	{
		bool		isnull;

		bucket->taken = idem_store_execute(store, IDEM_PLAN_STOCK_LOCK_FREE,
										   key, &bucket->quantity, &isnull,
										   1) == 0;
		bucket->changed = !bucket->taken &&
			idem_quantity_compare(bucket->quantity, part) < 0;
		return !bucket->taken && !bucket->changed;
	}

	locked = idem_range_lock(store, &bucket->tid);
	bucket->taken = locked == IDEM_ROW_HELD;
	bucket->changed = locked == IDEM_ROW_CHANGED;
	return locked == IDEM_ROW_LOCKED;
}

/* Takes a part from a bucket, or gives it back, unless somebody is at it. */
static bool
take_from(IdemStore *store, Datum item, Bucket *bucket, Datum part)
{
	if (!lock_bucket(store, item, bucket, part))
		return false;
	write_bucket(store, item, bucket, idem_quantity_subtract(bucket->quantity, part));
	return true;
}

/*
 * The same for a buyer who had to wait: half of what remains goes to another
 * bucket, as long as it is enough for others like this one.
 */
static bool
spread(IdemStore *store, const Line *line, Bucket *bucket,
	   Bucket *buckets, int n)
{
	Datum		rest;
	Datum		two;
	Datum		half;

	if (!lock_bucket(store, line->item, bucket, line->quantity))
		return false;
	rest = idem_quantity_subtract(bucket->quantity, line->quantity);
	two = idem_quantity_add(line->quantity, line->quantity);
	half = DirectFunctionCall2(numeric_mul, line->quantity,
							   DirectFunctionCall2(numeric_div_trunc, rest, two));
	if (idem_quantity_compare(half, idem_zero()) > 0 &&
		fill_another(store, line->item, half, buckets, n))
		rest = idem_quantity_subtract(rest, half);
	write_bucket(store, line->item, bucket, rest);
	return true;
}

/*
 * Puts a quantity into a bucket that is empty, or else into a new one, unless
 * there are many already; false: it could not.
 */
static bool
fill_another(IdemStore *store, Datum item, Datum quantity, Bucket *buckets,
			 int n)
{
	uint64		used = 0;		/* a bit for each that comes by itself */
	int			first = pg_prng_uint64_range(&pg_global_prng_state, 0,
											 IDEM_BUCKETS_SPREAD - 1);

	for (int i = 0; i < n; i++)
	{
		if (!buckets[i].taken && !buckets[i].changed &&
			idem_quantity_compare(buckets[i].quantity, idem_zero()) == 0 &&
			take_from(store, item, &buckets[i], idem_quantity_subtract(idem_zero(), quantity)))
			return true;
		if (buckets[i].number >= OWN_NUMBERS)
			used |= UINT64CONST(1) << (buckets[i].number % IDEM_BUCKETS_SPREAD);
	}

	/* a number that another transaction has just taken is not waited for */
	for (int i = 0, tries = 0; n < IDEM_BUCKETS_SPREAD && tries < 4; i++)
	{
		int			number = (first + i) % IDEM_BUCKETS_SPREAD;

		if ((used & (UINT64CONST(1) << number)) != 0)
			continue;
		if (insert_bucket(store, item, OWN_NUMBERS + number, quantity))
			return true;
		tries++;
	}
	return false;
}

/* Makes a bucket, unless there is one of that number, or will be. */
static bool
insert_bucket(IdemStore *store, Datum item, int32 number, Datum quantity)
{
	Datum		values[STOCK_COLUMNS] = {item, Int32GetDatum(number), quantity};
	bool		nulls[STOCK_COLUMNS] = {false};

	idem_store_next_key(store);
	return idem_store_insert(store, values, nulls);
}

/* Writes the quantity of a bucket that we have locked; an empty one may go. */
static void
write_bucket(IdemStore *store, Datum item, const Bucket *bucket,
			 Datum quantity)
{
	IdemRow		row = {
		.presence = IDEM_PRESENT,
		.tid = bucket->tid
	};

	row.values[STOCK_ITEM] = item;
	row.values[STOCK_BUCKET] = Int32GetDatum(bucket->number);
	row.values[STOCK_QUANTITY] = quantity;
	idem_store_next_key(store);
	if (bucket->number >= OWN_NUMBERS && idem_quantity_compare(quantity, idem_zero()) == 0)
		idem_store_remove(store, &row);
	else
		idem_store_overwrite(store, &row);
}

/*
 * The place where this session keeps the number of the bucket that served an
 * item last; below 0: it knows none.  The number is a hint, as items share
 * places and buckets are deleted.  It only decides where reading begins.
 */
static int16 *
last_served(Datum item)
{
	static int16 numbers[64];
	static bool filled = false;
	struct varlena *value = (struct varlena *) DatumGetPointer(item);

	if (!filled)
		for (int i = 0; i < (int) lengthof(numbers); i++)
			numbers[i] = -1;
	filled = true;
	return &numbers[hash_bytes((unsigned char *) VARDATA_ANY(value),
							   VARSIZE_ANY_EXHDR(value)) % lengthof(numbers)];
}

/* Under serializable: what would serve has changed since our snapshot. */
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

/* The sum of all; what read_buckets found empty is not added up. */
static Datum
sum(const Bucket *buckets, int n)
{
	Datum		zero = idem_zero();
	Datum		total = zero;

	for (int i = 0; i < n; i++)
	{
		if (total == zero)
			total = buckets[i].quantity;
		else if (buckets[i].quantity != zero)
			total = idem_quantity_add(total, buckets[i].quantity);
	}
	return total;
}
