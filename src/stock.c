/*-------------------------------------------------------------------------
 *
 * stock.c
 *	  Stock: shares of an item that are held, confirmed, given back.
 *
 * The contract.  An order, (source, seq), holds quantities of items.  Holding
 * is idempotent: a retry that finds what it wants held is told so, and takes
 * nothing more.  An order is confirmed, released or expires as a whole, once;
 * what it took goes back to its items unless it was confirmed.  An
 * order that is released before it was made is refused when it comes.  It
 * belongs to the role that made it.
 *
 * The record is one row of idem.hold for each order, with what was taken from
 * which bucket.  Its status is
 *
 *		held		may still go either way
 *		confirmed	final
 *		released	given back, or never to be made
 *		expired		given back because its time had passed
 *
 * Only held is ever left.  Time decides nothing but whether idem_stock_expire
 * may take an order: as long as it has not, the stock is still there, and the
 * order can be confirmed.
 *
 * Why exactly one wins.  Whoever inserts the row of an order makes it.  Its key
 * is reserved for that, so a second call sees the first one's row, waits for
 * that transaction and looks again (store.c); through SQL the insertion itself
 * decides, and waits.  What is known of the order is judged before anything
 * else: "not enough" is only answered if the order is unknown, or lacks the
 * item, after the stock was found short.  Otherwise the retry of the sale of
 * the last unit would be refused.  (A rival that is just making the same order
 * needs no wait here: what it takes still counts as long as it is not
 * committed, so the stock would not have been short.)
 *
 * The row is inserted with the buckets that the order will probably take from,
 * as far as that is seen without locking any.  If it comes to others, or had
 * to wait, the row is written once more; if there is not enough after all, it
 * is deleted.
 *
 * Confirm, release and expire change the row of the order first: the store
 * refuses an update of a version that is not the current one, and whoever
 * changed it gives back, in the same transaction.
 *
 * Why the books balance.  What leaves a bucket is in the row of a hold that
 * the same transaction inserts or changes, and what comes back was in one that
 * it changed from held.
 *
 * Why there are no deadlocks.  The row of an order comes before buckets, and
 * buckets have an order of their own (bucket.c).  Nobody who has locked a bucket
 * waits for an order: those who make one insert its row first, the others have
 * locked it, or changed it, before they are at buckets.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"
#include "claim.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* Columns of idem.hold, from 0. */
typedef enum HoldColumn
{
	HOLD_SOURCE,
	HOLD_SEQ,
	HOLD_OWNER,
	HOLD_STATUS,
	HOLD_EXPIRES_AT,
	HOLD_RESERVED_AT,
	HOLD_DECIDED_AT,
	HOLD_ITEMS,
	HOLD_BUCKETS,
	HOLD_QUANTITIES,
	HOLD_COLUMNS
} HoldColumn;

#define HOLD_KEYS		2

/* Column status, as stored. */
typedef enum HoldStatus
{
	HOLD_HELD = 'h',
	HOLD_CONFIRMED = 'c',
	HOLD_RELEASED = 'r',
	HOLD_EXPIRED = 'x'
} HoldStatus;

IdemTable	idem_hold_table = {
	.relname = "hold",
	.keyname = "source, seq",
	.nkeys = HOLD_KEYS,
	.natts = HOLD_COLUMNS,
	.columns = {
		{"source", TEXTOID},
		{"seq", TEXTOID},
		{"owner", TEXTOID},
		{"status", CHAROID},
		{"expires_at", TIMESTAMPTZOID},
		{"reserved_at", TIMESTAMPTZOID},
		{"decided_at", TIMESTAMPTZOID},
		{"items", TEXTARRAYOID},
		{"buckets", INT4ARRAYOID},
		{"quantities", NUMERICARRAYOID}
	},
	.required = HOLD_STATUS + 1,
	.secondary = HOLD_EXPIRES_AT + 1,
	.stat = IDEM_STAT_STOCK,
	.has_source = true
};

/* One part that was taken: an element of each of the three arrays. */
typedef struct Part
{
	Datum		item;
	int32		bucket;
	Datum		quantity;		/* numeric */
} Part;

/* What is to be held for an order. */
typedef struct Order
{
	Datum		key[HOLD_KEYS];
	Interval   *ttl;			/* NULL: for good */
	int			nlines;
	IdemLine   *lines;			/* by item, bytewise */
} Order;

/* What is known of an order that wants to be held. */
typedef enum Judged
{
	ALREADY_HELD,
	GIVEN_BACK,
	MORE_WANTED					/* lines say of which items */
} Judged;

static bool reserve(Order *order);
static bool take_for_new(IdemStore *holds, IdemStore *stock, Order *order,
						 IdemRow *row);
static bool lock_buckets(IdemStore *stock, Order *order, bool *waited);
static bool add_to_order(IdemStore *holds, IdemStore *stock, Order *order,
						 IdemRow *row, bool *held);
static Judged judge(const Order *order, const IdemRow *row);
static void new_hold(const Order *order, IdemRow *row);
static void fill_hold(const Order *order, IdemRow *row);
static bool mark_released(IdemStore *store, const Datum *key);
static int	get_parts(const IdemRow *row, Part **parts);
static int	parts_of_arrays(Datum items, Datum buckets, Datum quantities,
							Part **parts);
static void give_parts(const IdemRow *row);
static void set_parts(IdemRow *row, const Part *parts, int n);
static void decide(IdemRow *row, HoldStatus status);
static void stale_error(const Datum *key, HoldStatus status,
						const char *hint);
static const char *status_name(HoldStatus status);
static ArrayType *get_array(FunctionCallInfo fcinfo, int argno,
							const char *name);
static void get_lines(FunctionCallInfo fcinfo, Order *order);
static int	compare_lines(const void *a, const void *b);
static int	compare_parts(const void *a, const void *b);
static int	compare_cells(const ListCell *a, const ListCell *b);
static int	compare_items(Datum a, Datum b);

PG_FUNCTION_INFO_V1(idem_stock_add);
PG_FUNCTION_INFO_V1(idem_stock_reserve);
PG_FUNCTION_INFO_V1(idem_stock_reserve_many);
PG_FUNCTION_INFO_V1(idem_stock_confirm);
PG_FUNCTION_INFO_V1(idem_stock_release);
PG_FUNCTION_INFO_V1(idem_stock_available);


/*
 * idem_stock_add(item, quantity numeric, buckets integer) -> numeric
 *
 * Adds to an item, for administrators; answers what is available then.
 */
Datum
idem_stock_add(PG_FUNCTION_ARGS)
{
	Datum		item = PointerGetDatum(idem_arg_text(fcinfo, 0, "item",
													 IDEM_ITEM_MAX));
	Datum		quantity;
	int			nbuckets = 0;
	int			nthere;
	IdemBucket *there;
	IdemStore	store;
	Datum		total;

	idem_arg_not_null(fcinfo, 1, "quantity");
	quantity = PG_GETARG_DATUM(1);
	idem_check_quantity(quantity, "quantity");
	if (!PG_ARGISNULL(2))
		nbuckets = idem_arg_count(fcinfo, 2, "buckets", IDEM_BUCKETS_MAX);

	idem_store_open(&store, &idem_stock_table, IDEM_WRITE, true);
	nthere = idem_bucket_read(&store, item, &there);

	/* orders may have to give back to any bucket, so none ever goes */
	if (nbuckets > 0 && nbuckets < nthere)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("item has more buckets"),
				 errdetail("Item \"%s\" has %d buckets; %d were asked for.",
						   TextDatumGetCString(item), nthere, nbuckets),
				 errhint("Leave \"buckets\" out to keep those that are there, or pass a larger number.")));
	if (nbuckets == 0)
		nbuckets = Max(nthere, 1);

	idem_bucket_add(&store, item, quantity, nbuckets);
	total = idem_bucket_total(&store, item);
	idem_store_close(&store);

	PG_RETURN_DATUM(total);
}

/*
 * idem_stock_reserve(source, seq, item, quantity numeric, ttl interval)
 *	-> boolean
 *
 * Holds a quantity of one item for an order.
 */
Datum
idem_stock_reserve(PG_FUNCTION_ARGS)
{
	IdemLine	line = {0};
	Order		order = {
		.nlines = 1,
		.lines = &line
	};

	idem_claim_key(fcinfo, order.key);
	line.item = PointerGetDatum(idem_arg_text(fcinfo, 2, "item",
											  IDEM_ITEM_MAX));
	idem_arg_not_null(fcinfo, 3, "quantity");
	line.quantity = PG_GETARG_DATUM(3);
	idem_check_quantity(line.quantity, "quantity");
	if (!PG_ARGISNULL(4))
		order.ttl = idem_arg_interval(fcinfo, 4, "ttl");

	PG_RETURN_BOOL(reserve(&order));
}

/*
 * idem_stock_reserve(source, seq, items text[], quantities numeric[],
 *					  ttl interval) -> boolean
 *
 * The same for several items, all or nothing.
 */
Datum
idem_stock_reserve_many(PG_FUNCTION_ARGS)
{
	Order		order = {0};

	idem_claim_key(fcinfo, order.key);
	get_lines(fcinfo, &order);
	if (!PG_ARGISNULL(4))
		order.ttl = idem_arg_interval(fcinfo, 4, "ttl");

	PG_RETURN_BOOL(reserve(&order));
}

/*
 * idem_stock_confirm(source, seq) -> boolean
 *
 * Makes what an order holds final.
 */
Datum
idem_stock_confirm(PG_FUNCTION_ARGS)
{
	Datum		key[HOLD_KEYS];
	IdemStore	store;
	IdemRow		row;
	bool		confirmed = false;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_hold_table, IDEM_WRITE, true);
	while (!confirmed)
	{
		HoldStatus	status;

		CHECK_FOR_INTERRUPTS();
		idem_store_find(&store, key, &row);
		if (row.presence != IDEM_PRESENT)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_NOT_FOUND),
					 errmsg("there is no such hold"),
					 errdetail("Key %s holds nothing.",
							   idem_store_key(&idem_hold_table, key)),
					 errhint("Call idem_stock_reserve first.")));
		idem_check_owner(&idem_hold_table, key, row.values[HOLD_OWNER]);

		status = DatumGetChar(row.values[HOLD_STATUS]);
		if (status == HOLD_CONFIRMED)
			break;
		if (status != HOLD_HELD)
			stale_error(key, status,
						"Reserve again under a new key if the stock is still wanted.");

		decide(&row, HOLD_CONFIRMED);
		confirmed = idem_store_update(&store, &row, row.values, row.nulls);
	}
	idem_store_close(&store);

	PG_RETURN_BOOL(confirmed);
}

/*
 * idem_stock_release(source, seq) -> boolean
 *
 * Gives back what an order holds, or makes sure that it never will.
 */
Datum
idem_stock_release(PG_FUNCTION_ARGS)
{
	Datum		key[HOLD_KEYS];
	IdemStore	store;
	IdemRow		row;
	bool		released = false;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_hold_table, IDEM_WRITE, true);
	while (!released)
	{
		HoldStatus	status;

		CHECK_FOR_INTERRUPTS();
		idem_store_reserve(&store, key, 1);
		idem_store_find(&store, key, &row);
		if (row.presence == IDEM_ABSENT)
			released = mark_released(&store, key);
		idem_store_release(&store);

		if (row.presence == IDEM_BUSY)
			idem_store_wait(&store, key, &row);
		if (row.presence != IDEM_PRESENT)
			continue;
		idem_check_owner(&idem_hold_table, key, row.values[HOLD_OWNER]);

		status = DatumGetChar(row.values[HOLD_STATUS]);
		if (status == HOLD_RELEASED || status == HOLD_EXPIRED)
			break;
		if (status == HOLD_CONFIRMED)
			stale_error(key, status,
						"What was sold comes back by idem_stock_add.");

		decide(&row, HOLD_RELEASED);
		released = idem_store_update(&store, &row, row.values, row.nulls);
		if (released)
			give_parts(&row);
	}
	idem_store_close(&store);

	PG_RETURN_BOOL(released);
}

/*
 * idem_stock_available(item) -> numeric
 *
 * What is available of an item in all its buckets.
 */
Datum
idem_stock_available(PG_FUNCTION_ARGS)
{
	Datum		item = PointerGetDatum(idem_arg_text(fcinfo, 0, "item",
													 IDEM_ITEM_MAX));
	IdemStore	store;
	Datum		total;

	idem_store_open(&store, &idem_stock_table, IDEM_READ, false);
	total = idem_bucket_total(&store, item);
	idem_store_close(&store);

	PG_RETURN_DATUM(total);
}

/* Adds what orders have taken, the arrays of a hold, to a list. */
List *
idem_stock_collect(List *parts, Datum items, Datum buckets, Datum quantities)
{
	Part	   *more;
	int			n = parts_of_arrays(items, buckets, quantities, &more);

	for (int i = 0; i < n; i++)
		parts = lappend(parts, &more[i]);
	return parts;
}

/* Gives back what is in such a list. */
void
idem_stock_give_back(List *parts)
{
	int			nparts = list_length(parts);
	int32	   *buckets = palloc_array(int32, nparts);
	Datum	   *quantities = palloc_array(Datum, nparts);
	IdemStore	store;

	list_sort(parts, compare_cells);
	idem_store_open(&store, &idem_stock_table, IDEM_WRITE, true);
	for (int i = 0; i < nparts;)
	{
		Datum		item = ((Part *) list_nth(parts, i))->item;
		int			n = 0;

		for (; i < nparts; i++)
		{
			Part	   *part = list_nth(parts, i);

			if (compare_items(part->item, item) != 0)
				break;
			if (n > 0 && part->bucket == buckets[n - 1])
				quantities[n - 1] = DirectFunctionCall2(numeric_add,
														quantities[n - 1],
														part->quantity);
			else
			{
				buckets[n] = part->bucket;
				quantities[n++] = part->quantity;
			}
		}
		idem_bucket_give_many(&store, item, buckets, quantities, n);
	}
	idem_store_close(&store);
}


/* Holds what an order wants.  True: it is held, now or already. */
static bool
reserve(Order *order)
{
	IdemStore	holds;
	IdemStore	stock;
	IdemRow		row;
	bool		decided = false;
	bool		held = false;

	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE, true);
	idem_store_open(&stock, &idem_stock_table, IDEM_WRITE, true);
	while (!decided)
	{
		IdemPlanned planned = IDEM_PLANNED;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < order->nlines; i++)
			order->lines[i].wanted = true;

		if (idem_bucket_short(&stock, order->lines, order->nlines))
		{
			idem_store_read(&holds, order->key, &row);
			decided = row.presence == IDEM_ABSENT ||
				add_to_order(&holds, &stock, order, &row, &held);
			continue;
		}

		idem_store_reserve(&holds, order->key, 1);
		idem_store_find(&holds, order->key, &row);
		if (row.presence == IDEM_ABSENT)
			planned = idem_bucket_choose(order->lines, order->nlines);
		if (row.presence == IDEM_ABSENT && planned == IDEM_PLANNED)
		{
			new_hold(order, &row);
			fill_hold(order, &row);
			decided = idem_store_insert(&holds, row.values, row.nulls);
		}
		idem_store_release(&holds);

		if (decided)
			held = take_for_new(&holds, &stock, order, &row);
		else if (row.presence == IDEM_BUSY)
			idem_store_wait(&holds, order->key, &row);
		else if (row.presence == IDEM_PRESENT)
			decided = add_to_order(&holds, &stock, order, &row, &held);
		else if (planned == IDEM_MUST_WAIT)
			idem_bucket_wait(&stock, order->lines, order->nlines);
	}
	idem_store_close(&stock);
	idem_store_close(&holds);

	return held;
}

/*
 * Takes what an order wants whose row we have just inserted, with what it was
 * thought to take.  False: there is not enough after all, and the row is gone.
 */
static bool
take_for_new(IdemStore *holds, IdemStore *stock, Order *order, IdemRow *row)
{
	bool		waited = false;
	bool		as_filled;

	row->presence = IDEM_PRESENT;
	row->tid = holds->inserted;
	holds->row_locked = true;
	if (!lock_buckets(stock, order, &waited))
	{
		idem_store_remove(holds, row);
		return false;
	}

	/* its time does not run while it waits */
	as_filled = !waited || order->ttl == NULL;
	for (int i = 0; i < order->nlines; i++)
		if (order->lines[i].ntakes != 1 ||
			order->lines[i].takes[0].number != order->lines[i].chosen)
			as_filled = false;
	if (!as_filled)
	{
		new_hold(order, row);
		fill_hold(order, row);
		/* only a trigger can keep it from being written: the store gives up */
		while (!idem_store_update(holds, row, row->values, row->nulls))
			CHECK_FOR_INTERRUPTS();
	}
	idem_bucket_take(stock, order->lines, order->nlines);
	return true;
}

/* Locks buckets that hold what an order wants.  False: there is not enough. */
static bool
lock_buckets(IdemStore *stock, Order *order, bool *waited)
{
	IdemPlanned planned;

	while ((planned = idem_bucket_plan(stock, order->lines,
									   order->nlines)) != IDEM_PLANNED)
	{
		if (planned == IDEM_MUST_WAIT)
		{
			idem_bucket_wait(stock, order->lines, order->nlines);
			*waited = true;
		}
		if (idem_bucket_short(stock, order->lines, order->nlines))
			return false;
	}
	return true;
}

/*
 * Answers for an order that is there, and adds to it what it does not hold
 * yet.  False: look again.
 */
static bool
add_to_order(IdemStore *holds, IdemStore *stock, Order *order, IdemRow *row,
			 bool *held)
{
	bool		waited = false;
	bool		added;

	switch (judge(order, row))
	{
		case ALREADY_HELD:
			*held = true;
			return true;
		case GIVEN_BACK:
			*held = false;
			return true;
		case MORE_WANTED:
			break;
	}

	/*
	 * A refusal writes nothing, so look before locking.  It may be short
	 * because the same call elsewhere has taken what is missing: then the
	 * order, read after that, has it.
	 */
	*held = false;
	if (idem_bucket_short(stock, order->lines, order->nlines))
	{
		idem_store_read(holds, order->key, row);
		*held = row->presence == IDEM_PRESENT &&
			judge(order, row) == ALREADY_HELD;
		return true;
	}

	/* the row of the order comes before buckets */
	if (!idem_store_lock(holds, row, IDEM_LOCK_UPDATE))
		return false;
	if (!lock_buckets(stock, order, &waited))
		return true;

	fill_hold(order, row);
	added = idem_store_update(holds, row, row->values, row->nulls);
	if (added)
		idem_bucket_take(stock, order->lines, order->nlines);
	*held = added;
	return added;
}

/*
 * Judges an order that is there against what is wanted, and leaves wanted in
 * the lines that it does not have.
 */
static Judged
judge(const Order *order, const IdemRow *row)
{
	HoldStatus	status = DatumGetChar(row->values[HOLD_STATUS]);
	Part	   *parts;
	int			n = get_parts(row, &parts);
	bool		more = false;

	idem_check_owner(&idem_hold_table, order->key, row->values[HOLD_OWNER]);

	for (int i = 0; i < order->nlines; i++)
	{
		IdemLine   *line = &order->lines[i];
		Datum		has = idem_zero();

		line->wanted = true;
		for (int j = 0; j < n; j++)
			if (compare_items(parts[j].item, line->item) == 0)
			{
				line->wanted = false;
				has = DirectFunctionCall2(numeric_add, has, parts[j].quantity);
			}
		if (line->wanted)
			more = true;
		else if (DatumGetBool(DirectFunctionCall2(numeric_ne, has, line->quantity)))
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_OTHER_REQUEST),
					 errmsg("key was used for another quantity"),
					 errdetail("Key %s is recorded with %s of item \"%s\"; %s were asked for.",
							   idem_store_key(&idem_hold_table, order->key),
							   DatumGetCString(DirectFunctionCall1(numeric_out, has)),
							   TextDatumGetCString(line->item),
							   DatumGetCString(DirectFunctionCall1(numeric_out, line->quantity))),
					 errhint("Use a new key for a new order; a retry sends the same quantity.")));
	}

	if (status == HOLD_RELEASED || status == HOLD_EXPIRED)
		return GIVEN_BACK;
	if (more && status == HOLD_CONFIRMED)
		stale_error(order->key, status,
					"Use a new key for what comes on top of it.");
	return more ? MORE_WANTED : ALREADY_HELD;
}

/* The row of an order that holds nothing yet. */
static void
new_hold(const Order *order, IdemRow *row)
{
	for (int i = 0; i < HOLD_COLUMNS; i++)
		row->nulls[i] = i > HOLD_STATUS;
	row->values[HOLD_SOURCE] = order->key[HOLD_SOURCE];
	row->values[HOLD_SEQ] = order->key[HOLD_SEQ];
	row->values[HOLD_OWNER] = idem_current_owner();
	row->values[HOLD_STATUS] = CharGetDatum(HOLD_HELD);
	row->values[HOLD_RESERVED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	row->nulls[HOLD_RESERVED_AT] = false;
}

/* Enters what is taken for an order into its row, beside what it holds. */
static void
fill_hold(const Order *order, IdemRow *row)
{
	Part	   *parts;
	int			n = get_parts(row, &parts);

	for (int i = 0; i < order->nlines; i++)
	{
		IdemLine   *line = &order->lines[i];

		if (!line->wanted)
			continue;
		parts = repalloc(parts, (n + line->ntakes) * sizeof(Part));
		for (int j = 0; j < line->ntakes; j++)
		{
			parts[n].item = line->item;
			parts[n].bucket = line->takes[j].number;
			parts[n++].quantity = line->parts[j];
		}
	}
	qsort(parts, n, sizeof(Part), compare_parts);
	set_parts(row, parts, n);

	if (order->ttl != NULL)
	{
		TimestampTz due = idem_time_after(GetCurrentTimestamp(), order->ttl);

		if (row->nulls[HOLD_EXPIRES_AT] ||
			DatumGetTimestampTz(row->values[HOLD_EXPIRES_AT]) > due)
			row->values[HOLD_EXPIRES_AT] = TimestampTzGetDatum(due);
		row->nulls[HOLD_EXPIRES_AT] = false;
	}
}

/*
 * Leaves a mark for an order that is not there, and was reserved.  False:
 * somebody made it after all.
 */
static bool
mark_released(IdemStore *store, const Datum *key)
{
	IdemRow		row;

	for (int i = 0; i < HOLD_COLUMNS; i++)
		row.nulls[i] = i > HOLD_STATUS;
	row.values[HOLD_SOURCE] = key[HOLD_SOURCE];
	row.values[HOLD_SEQ] = key[HOLD_SEQ];
	row.values[HOLD_OWNER] = idem_current_owner();
	decide(&row, HOLD_RELEASED);
	return idem_store_insert(store, row.values, row.nulls);
}

/* What an order has taken. */
static int
get_parts(const IdemRow *row, Part **parts)
{
	if (row->nulls[HOLD_ITEMS])
	{
		*parts = palloc_array(Part, 1);
		return 0;
	}
	return parts_of_arrays(row->values[HOLD_ITEMS], row->values[HOLD_BUCKETS],
						   row->values[HOLD_QUANTITIES], parts);
}

/* Three arrays of the same length as parts. */
static int
parts_of_arrays(Datum items, Datum buckets, Datum quantities, Part **parts)
{
	Datum	   *elements[3];
	int			n[3];

	deconstruct_array(DatumGetArrayTypeP(items), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements[0], NULL, &n[0]);
	deconstruct_array(DatumGetArrayTypeP(buckets), INT4OID, 4, true,
					  TYPALIGN_INT, &elements[1], NULL, &n[1]);
	deconstruct_array(DatumGetArrayTypeP(quantities), NUMERICOID, -1, false,
					  TYPALIGN_INT, &elements[2], NULL, &n[2]);
	if (n[0] != n[1] || n[0] != n[2])
		elog(ERROR, "a row of \"idem.hold\" is damaged");

	*parts = palloc_array(Part, n[0]);
	for (int i = 0; i < n[0]; i++)
	{
		(*parts)[i].item = elements[0][i];
		(*parts)[i].bucket = DatumGetInt32(elements[1][i]);
		(*parts)[i].quantity = elements[2][i];
	}
	return n[0];
}

/* Gives the parts of a row back to where they came from. */
static void
give_parts(const IdemRow *row)
{
	IdemStore	store;
	Part	   *parts;
	int			n = get_parts(row, &parts);

	idem_store_open(&store, &idem_stock_table, IDEM_WRITE, true);
	for (int i = 0; i < n; i++)
		idem_bucket_give(&store, parts[i].item, parts[i].bucket,
						 parts[i].quantity);
	idem_store_close(&store);
}

/* Enters parts into a row. */
static void
set_parts(IdemRow *row, const Part *parts, int n)
{
	Datum	   *items = palloc_array(Datum, n);
	Datum	   *buckets = palloc_array(Datum, n);
	Datum	   *quantities = palloc_array(Datum, n);

	for (int i = 0; i < n; i++)
	{
		items[i] = parts[i].item;
		buckets[i] = Int32GetDatum(parts[i].bucket);
		quantities[i] = parts[i].quantity;
	}
	row->values[HOLD_ITEMS] = PointerGetDatum(construct_array(items, n, TEXTOID, -1,
															  false, TYPALIGN_INT));
	row->values[HOLD_BUCKETS] = PointerGetDatum(construct_array(buckets, n, INT4OID, 4,
																true, TYPALIGN_INT));
	row->values[HOLD_QUANTITIES] = PointerGetDatum(construct_array(quantities, n, NUMERICOID,
																   -1, false, TYPALIGN_INT));
	row->nulls[HOLD_ITEMS] = row->nulls[HOLD_BUCKETS] =
		row->nulls[HOLD_QUANTITIES] = false;
}

/* Gives a row its final status. */
static void
decide(IdemRow *row, HoldStatus status)
{
	row->values[HOLD_STATUS] = CharGetDatum(status);
	row->values[HOLD_DECIDED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	row->nulls[HOLD_DECIDED_AT] = false;
	row->nulls[HOLD_EXPIRES_AT] = true;
}

static void
stale_error(const Datum *key, HoldStatus status, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 errmsg("hold is %s", status_name(status)),
			 errdetail("Key %s is %s.", idem_store_key(&idem_hold_table, key),
					   status_name(status)),
			 errhint("%s", hint)));
}

static const char *
status_name(HoldStatus status)
{
	switch (status)
	{
		case HOLD_HELD:
			return "held";
		case HOLD_CONFIRMED:
			return "confirmed";
		case HOLD_RELEASED:
			return "released";
		case HOLD_EXPIRED:
			return "expired";
	}
	elog(ERROR, "unknown status %d", (int) status);
	return NULL;				/* keep the compiler quiet */
}

/* The array given: not null, of one dimension, without nulls, not empty. */
static ArrayType *
get_array(FunctionCallInfo fcinfo, int argno, const char *name)
{
	ArrayType  *array;

	idem_arg_not_null(fcinfo, argno, name);
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must have one dimension", name),
				 errdetail("\"%s\" has %d dimensions.", name, ARR_NDIM(array)),
				 errhint("Pass an array of at least one element.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not contain nulls", name),
				 errdetail("An element of \"%s\" is null.", name),
				 errhint("Pass a value for each element.")));
	return array;
}

/* The lines given: arguments items and quantities. */
static void
get_lines(FunctionCallInfo fcinfo, Order *order)
{
	Datum	   *items;
	Datum	   *quantities;
	int			nquantities;

	deconstruct_array(get_array(fcinfo, 2, "items"), TEXTOID, -1, false,
					  TYPALIGN_INT, &items, NULL, &order->nlines);
	deconstruct_array(get_array(fcinfo, 3, "quantities"), NUMERICOID, -1, false,
					  TYPALIGN_INT, &quantities, NULL, &nquantities);
	if (order->nlines != nquantities)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"items\" and \"quantities\" must have the same length"),
				 errdetail("\"items\" has %d elements, \"quantities\" has %d.",
						   order->nlines, nquantities),
				 errhint("Pass a quantity for each item.")));

	order->lines = palloc0_array(IdemLine, order->nlines);
	for (int i = 0; i < order->nlines; i++)
	{
		idem_check_text(items[i], "items", IDEM_ITEM_MAX);
		idem_check_quantity(quantities[i], "quantities");
		order->lines[i].item = items[i];
		order->lines[i].quantity = quantities[i];
	}
	qsort(order->lines, order->nlines, sizeof(IdemLine), compare_lines);
	for (int i = 1; i < order->nlines; i++)
		if (compare_lines(&order->lines[i - 1], &order->lines[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"items\" must name each item once"),
					 errdetail("\"items\" names \"%s\" more than once.",
							   TextDatumGetCString(order->lines[i].item)),
					 errhint("Add up the quantities of the same item.")));
}

/* qsort comparator: the order in which items are locked. */
static int
compare_lines(const void *a, const void *b)
{
	return compare_items(((const IdemLine *) a)->item,
						 ((const IdemLine *) b)->item);
}

/* qsort comparator: the order in which buckets are locked. */
static int
compare_parts(const void *a, const void *b)
{
	const Part *pa = a;
	const Part *pb = b;
	int			result = compare_items(pa->item, pb->item);

	if (result == 0)
		result = pa->bucket < pb->bucket ? -1 : pa->bucket > pb->bucket;
	return result;
}

/* The same for a list of them. */
static int
compare_cells(const ListCell *a, const ListCell *b)
{
	return compare_parts(lfirst(a), lfirst(b));
}

/* Compares two items bytewise, as COLLATE "C" does. */
static int
compare_items(Datum a, Datum b)
{
	struct varlena *va = (struct varlena *) DatumGetPointer(a);
	struct varlena *vb = (struct varlena *) DatumGetPointer(b);
	int			la = VARSIZE_ANY_EXHDR(va);
	int			lb = VARSIZE_ANY_EXHDR(vb);
	int			result = memcmp(VARDATA_ANY(va), VARDATA_ANY(vb), Min(la, lb));

	return result != 0 ? result : la - lb;
}
