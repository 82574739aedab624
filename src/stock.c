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
 * else: "not enough" is only answered if the order is unknown, or lacks the
 * item, after the stock was found short.  Otherwise the retry of the sale of
 * the last unit would be refused.  (A rival that is just making the same order
 * needs no wait here: what it takes still counts as long as it is not
 * committed, so the stock would not have been short.)
 *
 * The order's row comes first, inserted or locked, then the buckets, and at
 * last the row is written if it is not as it should be.  Nobody who has written
 * a bucket waits for an order, so single calls do not deadlock (bucket.c).
 * Confirm, release and expire change the row first: the store refuses an update
 * of a version that is not the current one, and whoever changed it gives back,
 * in the same transaction.
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
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
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
static IdemLines *lines_of(const Order *order, const IdemPart *parts, int n);
static bool take(IdemStore *stock, const Order *order, IdemLines *lines,
				 bool *waited);
static void find_held(IdemStore *holds, const Datum *key, IdemRow *row,
					  const char *hint);
static void write_locked(IdemStore *holds, IdemRow *row);
pg_noreturn static void unknown(const IdemStore *holds, const Datum *key,
								const IdemRow *row);
static IdemPart *find_part(IdemPart *parts, int n, Datum item);
static bool has_now(IdemStore *holds, const Datum *key, Datum item,
					Datum quantity);
static bool move_one(IdemStore *stock, Datum item, Datum quantity);
static void put_rows(ReturnSetInfo *rsinfo, const IdemRow *row);
static Datum arg_quantity(FunctionCallInfo fcinfo, int argno,
						  const char *name, bool may_be_zero);
static Datum check_quantity(Datum value, const char *name, bool may_be_zero);
static ArrayType *arg_array(FunctionCallInfo fcinfo, int argno,
							const char *name);
static void arg_parts(FunctionCallInfo fcinfo, Order *order);
static int	compare_parts(const void *a, const void *b);
static bool same(Datum a, Datum b);

PG_FUNCTION_INFO_V1(idem_stock_add);
PG_FUNCTION_INFO_V1(idem_stock_remove);
PG_FUNCTION_INFO_V1(idem_stock_available);
PG_FUNCTION_INFO_V1(idem_stock_reserve);
PG_FUNCTION_INFO_V1(idem_stock_reserve_items);
PG_FUNCTION_INFO_V1(idem_stock_amend);
PG_FUNCTION_INFO_V1(idem_stock_renew);
PG_FUNCTION_INFO_V1(idem_stock_confirm);
PG_FUNCTION_INFO_V1(idem_stock_release);
PG_FUNCTION_INFO_V1(idem_stock_lookup);


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
	Datum		quantity = arg_quantity(fcinfo, 1, "quantity", false);
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
	Datum		quantity = arg_quantity(fcinfo, 1, "quantity", false);
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
	part.first = part.quantity = arg_quantity(fcinfo, 3, "quantity", false);
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

/*
 * idem_stock_amend(source, seq, item, quantity numeric, was numeric) -> boolean
 *
 * Makes what a held order has of an item exactly so much.  False: not enough,
 * and nothing has changed.
 */
Datum
idem_stock_amend(PG_FUNCTION_ARGS)
{
	Datum		key[HOLD_KEYS];
	Datum		item;
	Datum		quantity;
	Datum		was = (Datum) 0;
	IdemStore	holds;
	IdemStore	stock;
	bool		amended = false;

	idem_claim_key(fcinfo, key);
	item = PointerGetDatum(idem_arg_text(fcinfo, 2, "item", IDEM_ITEM_MAX));
	quantity = arg_quantity(fcinfo, 3, "quantity", true);
	if (!PG_ARGISNULL(4))
		was = arg_quantity(fcinfo, 4, "was", true);

	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE, IDEM_WAIT);
	idem_bucket_open(&stock, IDEM_WRITE);
	for (;;)
	{
		IdemRow		row;
		IdemPart   *parts;
		IdemPart   *part;
		IdemLines  *lines;
		Datum		more;
		int			n;
		bool		waited;

		find_held(&holds, key, &row, "Make a new order, under a new key.");
		n = idem_hold_parts(&row, &parts);
		part = find_part(parts, n, item);
		if (part == NULL)
		{
			part = &parts[n++];
			part->item = item;
			part->quantity = idem_zero();
			part->first = quantity;
		}
		amended = same(part->quantity, quantity);
		if (amended)
			break;
		if (was != (Datum) 0 && !same(part->quantity, was))
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_STALE),
					 errmsg("hold has another quantity"),
					 errdetail("Key %s has %s of item \"%s\", neither %s nor %s.",
							   idem_store_key(&idem_hold_table, key),
							   DatumGetCString(DirectFunctionCall1(numeric_out, part->quantity)),
							   TextDatumGetCString(item),
							   DatumGetCString(DirectFunctionCall1(numeric_out, was)),
							   DatumGetCString(DirectFunctionCall1(numeric_out, quantity))),
					 errhint("Read it again with idem_stock_lookup, and decide anew.")));

		/* a refusal writes nothing, so look before locking */
		more = DirectFunctionCall2(numeric_sub, quantity, part->quantity);
		lines = idem_bucket_lines(key[HOLD_SOURCE], 1);
		idem_bucket_line(lines, item, more);
		if (idem_bucket_short(&stock, lines))
		{
			/* or did the same call elsewhere take what is missing? */
			amended = has_now(&holds, key, item, quantity);
			break;
		}
		if (!idem_store_lock(&holds, &row, IDEM_LOCK_UPDATE))
			continue;
		if (idem_bucket_move(&stock, lines, true, &waited) == IDEM_MOVED)
		{
			part->quantity = quantity;
			qsort(parts, n, sizeof(IdemPart), compare_parts);
			idem_hold_set_parts(&row, parts, n);
			write_locked(&holds, &row);
			amended = true;
		}
		break;
	}
	idem_store_close(&stock);
	idem_store_close(&holds);

	PG_RETURN_BOOL(amended);
}

/*
 * idem_stock_renew(source, seq, ttl interval) -> timestamptz
 *
 * Sets when a held order may be given back, counted from now; null: never.
 */
Datum
idem_stock_renew(PG_FUNCTION_ARGS)
{
	Datum		key[HOLD_KEYS];
	Interval   *ttl = NULL;
	IdemStore	holds;
	IdemRow		row;

	idem_claim_key(fcinfo, key);
	if (!PG_ARGISNULL(2))
		ttl = idem_arg_interval(fcinfo, 2, "ttl");

	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE, IDEM_WAIT);
	do
	{
		find_held(&holds, key, &row, "Make a new order, under a new key.");
	} while (!idem_store_lock(&holds, &row, IDEM_LOCK_UPDATE));

	/* the wait is over: the clock is read now */
	idem_hold_set_due(&row, ttl);
	write_locked(&holds, &row);
	idem_store_close(&holds);

	if (ttl == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(row.values[HOLD_EXPIRES_AT]);
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
	IdemStore	holds;
	IdemRow		row;
	bool		confirmed = false;

	idem_claim_key(fcinfo, key);
	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE, IDEM_WAIT);
	while (!confirmed)
	{
		IdemHoldStatus status;

		idem_store_find(&holds, key, &row);
		if (row.presence != IDEM_PRESENT)
			unknown(&holds, key, &row);
		idem_check_owner(&idem_hold_table, key, row.values[HOLD_OWNER]);

		status = idem_hold_status(&row);
		if (status == HOLD_CONFIRMED)
			break;
		if (status != HOLD_HELD)
			idem_hold_stale(key, status,
							"Reserve again under a new key if the stock is still wanted.");

		idem_hold_decide(&row, HOLD_CONFIRMED);
		confirmed = idem_store_update(&holds, &row, row.values, row.nulls);
	}
	idem_store_close(&holds);

	if (confirmed)
		idem_stat_count(IDEM_STAT_STOCK_CONFIRMED, key[HOLD_SOURCE], 1);
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
	Order		order = {.wait = true};
	IdemStore	holds;
	IdemStore	stock;
	IdemRow		row;
	bool		released = false;

	idem_claim_key(fcinfo, order.key);
	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE, IDEM_WAIT);
	while (!released)
	{
		IdemHoldStatus status;

		idem_store_seek(&holds, order.key, &row);
		if (row.presence == IDEM_ABSENT)
		{
			/* a mark; or else somebody made the order after all */
			idem_policy_admit(&holds, order.key, IDEM_KEY_IS_ABSENT);
			idem_hold_new(order.key, HOLD_RELEASED, &row);
			released = idem_store_insert(&holds, row.values, row.nulls);
			if (released)
				idem_policy_admit(&holds, order.key, IDEM_KEY_IS_INSERTED);
			continue;
		}
		idem_check_owner(&idem_hold_table, order.key, row.values[HOLD_OWNER]);

		status = idem_hold_status(&row);
		if (status == HOLD_RELEASED || status == HOLD_EXPIRED)
			break;
		if (status == HOLD_CONFIRMED)
			idem_hold_stale(order.key, status,
							"What was sold comes back by idem_stock_add.");

		idem_hold_decide(&row, HOLD_RELEASED);
		released = idem_store_update(&holds, &row, row.values, row.nulls);
		if (released)
		{
			bool		waited;

			order.n = idem_hold_parts(&row, &order.parts);
			for (int i = 0; i < order.n; i++)
				order.parts[i].quantity =
					DirectFunctionCall1(numeric_uminus, order.parts[i].quantity);
			idem_bucket_open(&stock, IDEM_WRITE);
			(void) idem_bucket_move(&stock, lines_of(&order, order.parts, order.n),
									true, &waited);
			idem_store_close(&stock);
		}
	}
	idem_store_close(&holds);

	if (released)
		idem_stat_count(IDEM_STAT_STOCK_RELEASED, order.key[HOLD_SOURCE], 1);
	PG_RETURN_BOOL(released);
}

/*
 * idem_stock_lookup(source, seq) -> setof (item, quantity numeric, status text,
 *		expires_at, reserved_at, decided_at timestamptz)
 *
 * What is known of an order: a row for each item that it has, or had when it
 * was decided; one without an item if it was released before it was made.
 */
Datum
idem_stock_lookup(PG_FUNCTION_ARGS)
{
	Datum		key[HOLD_KEYS];
	IdemStore	holds;
	IdemRow		row;

	idem_claim_key(fcinfo, key);
	idem_store_open(&holds, &idem_hold_table, IDEM_READ, IDEM_NO_WAIT);
	idem_store_read(&holds, key, &row);
	if (row.presence == IDEM_PRESENT)
		idem_check_owner(&idem_hold_table, key, row.values[HOLD_OWNER]);
	idem_store_close(&holds);

	InitMaterializedSRF(fcinfo, 0);
	if (row.presence == IDEM_PRESENT)
		put_rows((ReturnSetInfo *) fcinfo->resultinfo, &row);
	return (Datum) 0;
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
		IdemLines  *lines = lines_of(order, order->parts, order->n);

		if (idem_bucket_short(&stock, lines))
		{
			idem_store_read(&holds, order->key, &row);
			decided = row.presence == IDEM_ABSENT;
			if (decided)
			{
				idem_policy_admit(&holds, order->key, IDEM_KEY_IS_READ);
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
			idem_policy_admit(&holds, order->key, IDEM_KEY_IS_ABSENT);
			idem_hold_new(order->key, HOLD_HELD, &row);
			idem_hold_set_parts(&row, order->parts, order->n);
			if (order->ttl != NULL)
				idem_hold_set_due(&row, order->ttl);
			decided = idem_store_insert(&holds, row.values, row.nulls);
			if (decided)
			{
				idem_policy_admit(&holds, order->key, IDEM_KEY_IS_INSERTED);
				held = take_for_new(&holds, &stock, order, lines);
			}
		}
	}
	idem_store_close(&stock);
	idem_store_close(&holds);

	return held;
}

/*
 * Takes what an order wants whose row we have just inserted.  False: there is
 * not enough after all, and the row is gone.
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

	/* its time does not run while it waits */
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
	IdemLines  *lines;
	IdemPart   *parts;
	int			n;
	bool		waited;

	*held = nmissing == 0;
	if (nmissing <= 0)
		return true;

	/*
	 * A refusal writes nothing, so look before locking.  It may be short
	 * because the same call elsewhere has taken what is missing: then the
	 * order, read after that, has it.
	 */
	lines = lines_of(order, missing, nmissing);
	if (idem_bucket_short(stock, lines))
	{
		idem_store_read(holds, order->key, row);
		*held = row->presence == IDEM_PRESENT &&
			judge(order, row, &missing) == 0;
		if (!*held)
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
	qsort(parts, n + nmissing, sizeof(IdemPart), compare_parts);
	idem_hold_set_parts(row, parts, n + nmissing);
	if (order->ttl != NULL)
	{
		TimestampTz due = row->nulls[HOLD_EXPIRES_AT] ? DT_NOEND :
			DatumGetTimestampTz(row->values[HOLD_EXPIRES_AT]);

		/* it has one such time, the earliest of its calls */
		idem_hold_set_due(row, order->ttl);
		if (due < DatumGetTimestampTz(row->values[HOLD_EXPIRES_AT]))
			row->values[HOLD_EXPIRES_AT] = TimestampTzGetDatum(due);
	}
	write_locked(holds, row);
	*held = true;
	return true;
}

/*
 * Judges an order that is there against what is wanted: how many items it does
 * not have, which are in missing; below 0 if it was given back.  Both lists
 * are sorted.
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
		while (at < n && compare_parts(&parts[at], part) < 0)
			at++;
		if (at == n || compare_parts(&parts[at], part) > 0)
			(*missing)[nmissing++] = *part;
		else if (!same(parts[at].first, part->quantity))
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_OTHER_REQUEST),
					 errmsg("key was used for another quantity"),
					 errdetail("Key %s is recorded with %s of item \"%s\"; %s were asked for.",
							   idem_store_key(&idem_hold_table, order->key),
							   DatumGetCString(DirectFunctionCall1(numeric_out, parts[at].first)),
							   TextDatumGetCString(part->item),
							   DatumGetCString(DirectFunctionCall1(numeric_out, part->quantity))),
					 errhint("Use a new key for a new order; a retry sends the same quantity.")));
	}

	if (status == HOLD_RELEASED || status == HOLD_EXPIRED)
		return -1;
	if (nmissing > 0 && status == HOLD_CONFIRMED)
		idem_hold_stale(order->key, status,
						"Use a new key for what comes on top of it.");
	return nmissing;
}

/* The lines that take parts of an order, but those of nothing. */
static IdemLines *
lines_of(const Order *order, const IdemPart *parts, int n)
{
	IdemLines  *lines = idem_bucket_lines(order->key[HOLD_SOURCE], n);

	for (int i = 0; i < n; i++)
		if (!same(parts[i].quantity, idem_zero()))
			idem_bucket_line(lines, parts[i].item, parts[i].quantity);
	return lines;
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

/* The row of an order that is held; anything else is an error. */
static void
find_held(IdemStore *holds, const Datum *key, IdemRow *row, const char *hint)
{
	idem_store_find(holds, key, row);
	if (row->presence != IDEM_PRESENT)
		unknown(holds, key, row);
	idem_check_owner(&idem_hold_table, key, row->values[HOLD_OWNER]);
	if (idem_hold_status(row) != HOLD_HELD)
		idem_hold_stale(key, idem_hold_status(row), hint);
}

/* Writes a row that we have locked. */
static void
write_locked(IdemStore *holds, IdemRow *row)
{
	/* only a trigger can keep it from being written: the store gives up */
	while (!idem_store_update(holds, row, row->values, row->nulls))
		CHECK_FOR_INTERRUPTS();
}

/* Nothing is known of an order, or no longer. */
static void
unknown(const IdemStore *holds, const Datum *key, const IdemRow *row)
{
	if (row->presence == IDEM_ABSENT)
		idem_policy_check_gone(holds, key);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_NOT_FOUND),
			 errmsg("there is no such hold"),
			 errdetail("Key %s holds nothing.",
					   idem_store_key(&idem_hold_table, key)),
			 errhint("Call idem_stock_reserve first.")));
}

/* What an order has of an item; NULL if it never took it up. */
static IdemPart *
find_part(IdemPart *parts, int n, Datum item)
{
	IdemPart	wanted = {.item = item};

	return bsearch(&wanted, parts, n, sizeof(IdemPart), compare_parts);
}

/* Has a held order so much of an item, as committed? */
static bool
has_now(IdemStore *holds, const Datum *key, Datum item, Datum quantity)
{
	IdemRow		row;
	IdemPart   *parts;
	IdemPart   *part;
	int			n;

	idem_store_read(holds, key, &row);
	if (row.presence != IDEM_PRESENT || idem_hold_status(&row) != HOLD_HELD)
		return false;
	n = idem_hold_parts(&row, &parts);
	part = find_part(parts, n, item);
	return part != NULL && same(part->quantity, quantity);
}

/* Takes from an item what is there.  False: it is less, nothing was written. */
static bool
move_one(IdemStore *stock, Datum item, Datum quantity)
{
	IdemLines  *lines = idem_bucket_lines(IDEM_STAT_NO_SOURCE, 1);
	bool		waited;

	idem_bucket_line(lines, item, quantity);
	return !idem_bucket_short(stock, lines) &&
		idem_bucket_move(stock, lines, true, &waited) == IDEM_MOVED;
}

/* Answers what is known of an order. */
static void
put_rows(ReturnSetInfo *rsinfo, const IdemRow *row)
{
	IdemPart   *parts;
	int			n = idem_hold_parts(row, &parts);
	Datum		values[6];
	bool		nulls[6];

	values[2] = CStringGetTextDatum(idem_hold_status_name(idem_hold_status(row)));
	nulls[2] = false;
	for (int i = 0; i < 3; i++)
	{
		values[3 + i] = row->values[HOLD_EXPIRES_AT + i];
		nulls[3 + i] = row->nulls[HOLD_EXPIRES_AT + i];
	}
	for (int i = 0; i < Max(n, 1); i++)
	{
		CHECK_FOR_INTERRUPTS();
		nulls[0] = nulls[1] = i >= n;
		if (i < n)
		{
			values[0] = parts[i].item;
			values[1] = parts[i].quantity;
		}
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* The quantity given: not null, and as check_quantity wants it. */
static Datum
arg_quantity(FunctionCallInfo fcinfo, int argno, const char *name,
			 bool may_be_zero)
{
	idem_arg_not_null(fcinfo, argno, name);
	return check_quantity(PG_GETARG_DATUM(argno), name, may_be_zero);
}

/*
 * Refuses what is no quantity: what every later call for the item reckons with
 * must not have digits without a limit.  Zeros at the end do not count.
 */
static Datum
check_quantity(Datum value, const char *name, bool may_be_zero)
{
	Datum		limit = NumericGetDatum(int64_to_numeric(INT64CONST(1000000000000000000)));
	int			scale;

	value = NumericGetDatum(DatumGetNumeric(value));
	if (!may_be_zero)
		idem_check_quantity(value, name);
	else if (numeric_is_nan(DatumGetNumeric(value)) ||
			 numeric_is_inf(DatumGetNumeric(value)) ||
			 DatumGetBool(DirectFunctionCall2(numeric_lt, value, idem_zero())))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", name),
				 errdetail("\"%s\" is %s.", name,
						   DatumGetCString(DirectFunctionCall1(numeric_out, value))),
				 errhint("Pass 0, or a number above it, which may have a fraction.")));

	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale, value));
	if (scale <= IDEM_QUANTITY_SCALE &&
		DatumGetBool(DirectFunctionCall2(numeric_ge, value, limit)))
		limit = DirectFunctionCall3(numeric_in,
									CStringGetDatum(psprintf("1e%d", IDEM_QUANTITY_DIGITS - scale)),
									ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	if (scale > IDEM_QUANTITY_SCALE ||
		DatumGetBool(DirectFunctionCall2(numeric_ge, value, limit)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" has too many digits", name),
				 errdetail("A quantity has at most %d digits, at most %d of them behind the point.",
						   IDEM_QUANTITY_DIGITS, IDEM_QUANTITY_SCALE),
				 errhint("Round it, or count in another unit.")));
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, value)) > IDEM_QUANTITY_SCALE)
		value = DirectFunctionCall1(numeric_trim_scale, value);
	return value;
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
		part->first = part->quantity = check_quantity(quantities[i],
													  "quantities", false);
	}
	qsort(order->parts, order->n, sizeof(IdemPart), compare_parts);
	for (int i = 1; i < order->n; i++)
		if (compare_parts(&order->parts[i - 1], &order->parts[i]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"items\" must name each item once"),
					 errdetail("\"items\" names \"%s\" more than once.",
							   TextDatumGetCString(order->parts[i].item)),
					 errhint("Add up the quantities of the same item.")));
}

/* qsort and bsearch comparator: by item, bytewise. */
static int
compare_parts(const void *a, const void *b)
{
	return idem_compare_bytes(((const IdemPart *) a)->item,
							  ((const IdemPart *) b)->item);
}

static bool
same(Datum a, Datum b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_eq, a, b));
}
