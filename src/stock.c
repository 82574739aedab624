/*-------------------------------------------------------------------------
 *
 * stock.c
 *	  Stock: shares of an item that are held, confirmed, given back.
 *
 * The contract.  An order, (source, seq), holds quantities of items.  Holding
 * is idempotent: a retry that finds what it wants held is told so, and takes
 * nothing more.  An order is confirmed, released or expires as a whole, once;
 * what it has goes back to its items unless it was confirmed.  As long as it is
 * held it may be amended and renewed.  An order that is released before it was
 * made is refused when it comes.  It belongs to the role that made it.
 *
 * Why exactly one wins.  Whoever inserts the row of an order makes it.  Its key
 * is reserved for that, so a second call sees the first one's row, waits for
 * that transaction and looks again (store.c); through SQL the insertion itself
 * decides, and waits.  What is known of the order is judged before anything
 * else: "not enough" is only answered if the order is unknown, or lacks what
 * was wanted, as of the moment at which the stock was found short, or later;
 * what has come to it meanwhile is a reason to look again.  Otherwise a retry of
 * the order that took the last unit would be refused.  (A rival that is making
 * the same order at this moment is not waited for here: until it commits, what
 * it takes still counts as available, so the stock would not have been found
 * short.)
 *
 * A call that holds inserts or locks the order's row first, then takes from the
 * buckets, and writes the row last if something in it changes.  No call waits
 * for an order once it has written a bucket, so single calls do not deadlock
 * (bucket.c).  Confirm, release and expire change the row first.  The store
 * refuses an update of a version that is not the current one, so only one call
 * changes it, and that call gives the stock back, in the same transaction.
 *
 * Why the books balance.  What leaves a bucket is in the row of a hold that
 * the same transaction inserts or changes, and what comes back was in one that
 * it changed.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"
#include "claim.h"
#include "policy.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* What is to be held for an order. */
typedef struct Order
{
	Datum		key[HOLD_KEYS];
	Interval   *ttl;			/* NULL: for good */
	bool		wait;
	int			n;
	IdemPart   *parts;			/* by item, bytewise, each once */
} Order;

static bool reserve(Order *order);
static bool take_for_new(IdemStore *holds, IdemStore *stock, Order *order,
						 IdemLines *lines);
static bool add_to_order(IdemStore *holds, IdemStore *stock, Order *order,
						 IdemRow *row, bool *held);
static int	judge(const Order *order, const IdemRow *row, IdemPart **missing);
static bool take(IdemStore *stock, const Order *order, IdemLines *lines,
				 bool *waited);
static bool move_one(IdemStore *stock, Datum item, Datum quantity);
static ArrayType *arg_array(FunctionCallInfo fcinfo, int argno,
							const char *name);
static void arg_parts(FunctionCallInfo fcinfo, Order *order);

PG_FUNCTION_INFO_V1(idem_stock_add);
PG_FUNCTION_INFO_V1(idem_stock_remove);
PG_FUNCTION_INFO_V1(idem_stock_available);
PG_FUNCTION_INFO_V1(idem_stock_reserve);
PG_FUNCTION_INFO_V1(idem_stock_reserve_items);


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
	Datum		quantity = idem_quantity_arg(fcinfo, 1, "quantity", false);
	int			nbuckets = 1;
	IdemStore	stock;
	Datum		total;

	if (!PG_ARGISNULL(2))
		nbuckets = idem_arg_count(fcinfo, 2, "buckets", IDEM_BUCKETS_MAX);

	idem_bucket_open(&stock, IDEM_WRITE);
	idem_bucket_add(&stock, item, quantity, nbuckets);
	total = idem_bucket_total(&stock, item);
	idem_store_close(&stock);

	PG_RETURN_DATUM(total);
}

/*
 * idem_stock_remove(item, quantity numeric) -> boolean
 *
 * Takes from an item what nobody holds, for administrators.  False: there is
 * less.
 */
Datum
idem_stock_remove(PG_FUNCTION_ARGS)
{
	Datum		item = PointerGetDatum(idem_arg_text(fcinfo, 0, "item",
													 IDEM_ITEM_MAX));
	Datum		quantity = idem_quantity_arg(fcinfo, 1, "quantity", false);
	IdemStore	stock;
	bool		removed;

	idem_bucket_open(&stock, IDEM_WRITE);
	removed = move_one(&stock, item, quantity);
	idem_store_close(&stock);

	PG_RETURN_BOOL(removed);
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
	IdemStore	stock;
	Datum		total;

	idem_bucket_open(&stock, IDEM_READ);
	total = idem_bucket_total(&stock, item);
	idem_store_close(&stock);

	PG_RETURN_DATUM(total);
}

/*
 * idem_stock_reserve(source, seq, item, quantity numeric, ttl interval,
 *					  wait boolean) -> boolean
 *
 * Holds a quantity of one item for an order.
 */
Datum
idem_stock_reserve(PG_FUNCTION_ARGS)
{
	IdemPart	part;
	Order		order = {
		.n = 1,
		.parts = &part
	};

	idem_claim_key(fcinfo, order.key);
	part.item = PointerGetDatum(idem_arg_text(fcinfo, 2, "item",
											  IDEM_ITEM_MAX));
	part.first = part.quantity = idem_quantity_arg(fcinfo, 3, "quantity", false);
	if (!PG_ARGISNULL(4))
		order.ttl = idem_arg_interval(fcinfo, 4, "ttl");
	order.wait = idem_arg_bool(fcinfo, 5, "wait");

	PG_RETURN_BOOL(reserve(&order));
}

/*
 * idem_stock_reserve_items(source, seq, items text[], quantities numeric[],
 *							ttl interval, wait boolean) -> boolean
 *
 * The same for several items, all or nothing.
 */
Datum
idem_stock_reserve_items(PG_FUNCTION_ARGS)
{
	Order		order = {0};

	idem_claim_key(fcinfo, order.key);
	arg_parts(fcinfo, &order);
	if (!PG_ARGISNULL(4))
		order.ttl = idem_arg_interval(fcinfo, 4, "ttl");
	order.wait = idem_arg_bool(fcinfo, 5, "wait");

	PG_RETURN_BOOL(reserve(&order));
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

	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE,
					order->wait ? IDEM_WAIT : IDEM_NO_WAIT);
	idem_bucket_open(&stock, IDEM_WRITE);
	while (!decided)
	{
		IdemLines  *lines = idem_hold_lines(order->key, order->parts, order->n, false);

		if (idem_hold_short(&holds, &stock, order->key, lines, &row))
		{
			if (row.presence == IDEM_ABSENT)
			{
				decided = idem_policy_admit(&holds, order->key, IDEM_KEY_IS_READ);
				if (decided)
					idem_stat_count(IDEM_STAT_STOCK_SHORT, order->key[HOLD_SOURCE], 1);
			}
			else
				decided = add_to_order(&holds, &stock, order, &row, &held);
			continue;
		}

		idem_store_seek(&holds, order->key, &row);
		if (row.presence == IDEM_PRESENT)
			decided = add_to_order(&holds, &stock, order, &row, &held);
		else
		{
			if (!idem_policy_admit(&holds, order->key, IDEM_KEY_IS_ABSENT))
			{
				idem_store_release(&holds);
				continue;
			}
			idem_hold_new(order->key, HOLD_HELD, &row);
			idem_hold_set_parts(&row, order->parts, order->n);
			if (order->ttl != NULL)
				idem_hold_set_due(&row, order->ttl);
			decided = idem_store_insert(&holds, row.values, row.nulls);
			if (decided)
			{
				(void) idem_policy_admit(&holds, order->key, IDEM_KEY_IS_INSERTED);
				held = take_for_new(&holds, &stock, order, lines);
			}
		}
	}
	idem_store_close(&stock);
	idem_store_close(&holds);

	return held;
}

/*
 * Takes what is wanted for an order whose row this call has inserted.  False:
 * there is not enough after all, and the row is deleted again.
 */
static bool
take_for_new(IdemStore *holds, IdemStore *stock, Order *order,
			 IdemLines *lines)
{
	IdemRow		row;
	bool		waited;

	if (!take(stock, order, lines, &waited))
	{
		idem_store_find(holds, order->key, &row);
		idem_store_remove(holds, &row);
		return false;
	}

	/* the time to live counts from the end of the wait */
	if (waited && order->ttl != NULL)
		do
		{
			idem_store_find(holds, order->key, &row);
			idem_hold_set_due(&row, order->ttl);
		} while (!idem_store_update(holds, &row, row.values, row.nulls));
	return true;
}

/*
 * Answers for an order that is there, and adds to it what it does not have
 * yet.  False: look again.
 */
static bool
add_to_order(IdemStore *holds, IdemStore *stock, Order *order, IdemRow *row,
			 bool *held)
{
	IdemPart   *missing;
	int			nmissing = judge(order, row, &missing);
	IdemPart   *still;
	IdemLines  *lines;
	IdemPart   *parts;
	int			n;
	bool		waited;

	*held = nmissing == 0;
	if (nmissing <= 0)
		return true;

	/* a refusal writes nothing, so look before locking */
	lines = idem_hold_lines(order->key, missing, nmissing, false);
	if (idem_hold_short(holds, stock, order->key, lines, row))
	{
		/* what made it short may be what another call took for the order */
		if (row->presence != IDEM_PRESENT ||
			judge(order, row, &still) != nmissing)
			return false;
		for (int i = 0; i < nmissing; i++)
			if (idem_hold_compare(&still[i], &missing[i]) != 0)
				return false;
		idem_stat_count(IDEM_STAT_STOCK_SHORT, order->key[HOLD_SOURCE], 1);
		return true;
	}
	if (!idem_store_lock(holds, row, IDEM_LOCK_UPDATE))
		return false;
	if (!take(stock, order, lines, &waited))
		return true;

	n = idem_hold_parts(row, &parts);
	parts = repalloc_huge(parts, ((Size) n + nmissing) * sizeof(IdemPart));
	memcpy(parts + n, missing, nmissing * sizeof(IdemPart));
	idem_sort(parts, n + nmissing, sizeof(IdemPart), idem_hold_compare);
	idem_hold_set_parts(row, parts, n + nmissing);
	if (order->ttl != NULL)
	{
		TimestampTz due = row->nulls[HOLD_EXPIRES_AT] ? DT_NOEND :
			DatumGetTimestampTz(row->values[HOLD_EXPIRES_AT]);

		/* an order has one time at which it ends: the earliest of its calls */
		idem_hold_set_due(row, order->ttl);
		if (due < DatumGetTimestampTz(row->values[HOLD_EXPIRES_AT]))
			row->values[HOLD_EXPIRES_AT] = TimestampTzGetDatum(due);
	}
	idem_hold_write(holds, row);
	*held = true;
	return true;
}

/*
 * Compares an order that is there with what is wanted.  Answers how many items
 * the order lacks, and puts these into missing; below 0: it was given back.  Both
 * lists are sorted.
 */
static int
judge(const Order *order, const IdemRow *row, IdemPart **missing)
{
	IdemHoldStatus status = idem_hold_status(row);
	IdemPart   *parts;
	int			n;
	int			at = 0;
	int			nmissing = 0;

	idem_check_owner(&idem_hold_table, order->key, row->values[HOLD_OWNER]);

	n = idem_hold_parts(row, &parts);
	*missing = MemoryContextAllocHuge(CurrentMemoryContext,
									  (Size) order->n * sizeof(IdemPart));
	for (int i = 0; i < order->n; i++)
	{
		const IdemPart *part = &order->parts[i];

		CHECK_FOR_INTERRUPTS();
		while (at < n && idem_hold_compare(&parts[at], part) < 0)
			at++;
		if (at == n || idem_hold_compare(&parts[at], part) > 0)
			(*missing)[nmissing++] = *part;
		else if (idem_quantity_compare(parts[at].first, part->quantity) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_OTHER_REQUEST),
					 errmsg("key was used for another quantity"),
					 errdetail("Key %s is recorded with %s of item \"%s\"; %s were asked for.",
							   idem_store_key(&idem_hold_table, order->key),
							   idem_quantity_text(parts[at].first),
							   TextDatumGetCString(part->item),
							   idem_quantity_text(part->quantity)),
					 errhint("Use a new key for a new order; a retry sends the same quantity.")));
	}

	if (status == HOLD_RELEASED || status == HOLD_EXPIRED)
		return -1;
	if (nmissing > 0 && status == HOLD_CONFIRMED)
		idem_hold_stale(order->key, status,
						"Use a new key for what comes on top of it.");
	return nmissing;
}

/* Takes what lines say for an order.  False: some item is short. */
static bool
take(IdemStore *stock, const Order *order, IdemLines *lines, bool *waited)
{
	IdemMoved	moved = idem_bucket_move(stock, lines, order->wait, waited);

	if (moved == IDEM_TAKEN)
		ereport(ERROR,
				(errcode(ERRCODE_IDEM_IN_PROGRESS),
				 errmsg("stock is in progress elsewhere"),
				 errdetail("There is enough for key %s, but it would have to wait for other open transactions.",
						   idem_store_key(&idem_hold_table, order->key)),
				 errhint("Try again later, or let the call wait.")));
	idem_stat_count(moved == IDEM_MOVED ? IDEM_STAT_STOCK_RESERVED :
					IDEM_STAT_STOCK_SHORT, order->key[HOLD_SOURCE], 1);
	return moved == IDEM_MOVED;
}

/* Takes from an item what is there.  False: it is less, nothing was written. */
static bool
move_one(IdemStore *stock, Datum item, Datum quantity)
{
	IdemLines  *lines = idem_bucket_lines(IDEM_STAT_NO_SOURCE, 1);
	bool		waited;

	idem_bucket_line(lines, item, quantity);
	return !idem_bucket_short(stock, lines, InvalidSnapshot) &&
		idem_bucket_move(stock, lines, true, &waited) == IDEM_MOVED;
}

/* The array given: not null, of one dimension, without nulls, not empty. */
static ArrayType *
arg_array(FunctionCallInfo fcinfo, int argno, const char *name)
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

/* What is wanted: arguments items and quantities. */
static void
arg_parts(FunctionCallInfo fcinfo, Order *order)
{
	Datum	   *items;
	Datum	   *quantities;
	int			nquantities;

	deconstruct_array(arg_array(fcinfo, 2, "items"), TEXTOID, -1, false,
					  TYPALIGN_INT, &items, NULL, &order->n);
	deconstruct_array(arg_array(fcinfo, 3, "quantities"), NUMERICOID, -1, false,
					  TYPALIGN_INT, &quantities, NULL, &nquantities);
	if (order->n != nquantities)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"items\" and \"quantities\" must have the same length"),
				 errdetail("\"items\" has %d elements, \"quantities\" has %d.",
						   order->n, nquantities),
				 errhint("Pass a quantity for each item.")));

	order->parts = MemoryContextAllocHuge(CurrentMemoryContext,
										  (Size) order->n * sizeof(IdemPart));
	for (int i = 0; i < order->n; i++)
	{
		IdemPart   *part = &order->parts[i];

		CHECK_FOR_INTERRUPTS();
		idem_check_text(items[i], "items", IDEM_ITEM_MAX);
		part->item = items[i];
		part->first = part->quantity = idem_quantity_check(quantities[i],
														   "quantities", false);
	}
	idem_sort(order->parts, order->n, sizeof(IdemPart), idem_hold_compare);
	for (int i = 1; i < order->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (idem_hold_compare(&order->parts[i - 1], &order->parts[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"items\" must name each item once"),
					 errdetail("\"items\" names \"%s\" more than once.",
							   TextDatumGetCString(order->parts[i].item)),
					 errhint("Add up the quantities of the same item.")));
	}
}
