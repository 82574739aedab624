/*-------------------------------------------------------------------------
 *
 * stock_order.c
 *	  An order that is there: amended, renewed, confirmed, released, shown.
 *
 * The row of the order comes first (stock.c has the argument).  Amend and renew
 * lock it first and write it last: amend, because there may not be enough in the
 * buckets; renew, because its time counts from the end of the wait for the lock.
 * Confirm and release change it first.  The store refuses an update of a version
 * that is not the current one, so of two calls that decide an order one wins,
 * and that one gives the stock back, in the same transaction.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"
#include "claim.h"
#include "policy.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

static void find_held(IdemStore *holds, const Datum *key, IdemRow *row,
					  const char *hint);
pg_noreturn static void unknown(IdemStore *holds, const Datum *key,
								const IdemRow *row);
static IdemPart *find_part(IdemPart *parts, int n, Datum item);
static bool has_part(const IdemRow *row, Datum item, Datum quantity);
static void put_rows(ReturnSetInfo *rsinfo, const IdemRow *row);

PG_FUNCTION_INFO_V1(idem_stock_amend);
PG_FUNCTION_INFO_V1(idem_stock_renew);
PG_FUNCTION_INFO_V1(idem_stock_confirm);
PG_FUNCTION_INFO_V1(idem_stock_release);
PG_FUNCTION_INFO_V1(idem_stock_lookup);


/*
 * idem_stock_amend(source, seq, item, quantity numeric, was numeric) -> boolean
 *
 * Has a held order hold exactly this quantity of an item.  False: there is not
 * enough, and nothing has changed.
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
	quantity = idem_quantity_arg(fcinfo, 3, "quantity", true);
	if (!PG_ARGISNULL(4))
		was = idem_quantity_arg(fcinfo, 4, "was", true);

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
		amended = idem_quantity_compare(part->quantity, quantity) == 0;
		if (amended)
			break;
		if (was != (Datum) 0 && idem_quantity_compare(part->quantity, was) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_STALE),
					 errmsg("hold has another quantity"),
					 errdetail("Key %s has %s of item \"%s\", neither %s nor %s.",
							   idem_store_key(&idem_hold_table, key),
							   idem_quantity_text(part->quantity),
							   TextDatumGetCString(item),
							   idem_quantity_text(was),
							   idem_quantity_text(quantity)),
					 errhint("Read it again with idem_stock_lookup, and decide anew.")));

		/* a refusal writes nothing, so look before locking */
		more = idem_quantity_subtract(quantity, part->quantity);
		lines = idem_bucket_lines(key[HOLD_SOURCE], 1);
		idem_bucket_line(lines, item, more);
		if (idem_hold_short(&holds, &stock, key, lines, &row))
		{
			/* the same call in another session may have taken it: look again */
			if (row.presence == IDEM_PRESENT)
				idem_check_owner(&idem_hold_table, key, row.values[HOLD_OWNER]);
			if (!has_part(&row, item, part->quantity))
				continue;
			break;
		}
		if (!idem_store_lock(&holds, &row, IDEM_LOCK_UPDATE))
			continue;
		if (idem_bucket_move(&stock, lines, true, &waited) == IDEM_MOVED)
		{
			part->quantity = quantity;
			idem_sort(parts, n, sizeof(IdemPart), idem_hold_compare);
			idem_hold_set_parts(&row, parts, n);
			idem_hold_write(&holds, &row);
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
	idem_hold_write(&holds, &row);
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
	Datum		key[HOLD_KEYS];
	IdemStore	holds;
	IdemStore	stock;
	IdemRow		row;
	bool		released = false;

	idem_claim_key(fcinfo, key);
	idem_store_open(&holds, &idem_hold_table, IDEM_WRITE, IDEM_WAIT);
	while (!released)
	{
		IdemHoldStatus status;

		idem_store_seek(&holds, key, &row);
		if (row.presence == IDEM_ABSENT)
		{
			/* leave a mark; false: the order was made meanwhile */
			if (!idem_policy_admit(&holds, key, IDEM_KEY_IS_ABSENT))
			{
				idem_store_release(&holds);
				continue;
			}
			idem_hold_new(key, HOLD_RELEASED, &row);
			released = idem_store_insert(&holds, row.values, row.nulls);
			if (released)
				(void) idem_policy_admit(&holds, key, IDEM_KEY_IS_INSERTED);
			continue;
		}
		idem_check_owner(&idem_hold_table, key, row.values[HOLD_OWNER]);

		status = idem_hold_status(&row);
		if (status == HOLD_RELEASED || status == HOLD_EXPIRED)
			break;
		if (status == HOLD_CONFIRMED)
			idem_hold_stale(key, status,
							"What was sold comes back by idem_stock_add.");

		idem_hold_decide(&row, HOLD_RELEASED);
		released = idem_store_update(&holds, &row, row.values, row.nulls);
		if (released)
		{
			IdemPart   *parts;
			int			n;
			bool		waited;

			n = idem_hold_parts(&row, &parts);
			idem_bucket_open(&stock, IDEM_WRITE);
			(void) idem_bucket_move(&stock, idem_hold_lines(key, parts, n, true),
									true, &waited);
			idem_store_close(&stock);
		}
	}
	idem_store_close(&holds);

	if (released)
		idem_stat_count(IDEM_STAT_STOCK_RELEASED, key[HOLD_SOURCE], 1);
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

/* Nothing is known of an order, or no longer. */
static void
unknown(IdemStore *holds, const Datum *key, const IdemRow *row)
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

	return bsearch(&wanted, parts, n, sizeof(IdemPart), idem_hold_compare);
}

/* Does a held order have just so much of an item? */
static bool
has_part(const IdemRow *row, Datum item, Datum quantity)
{
	IdemPart   *parts;
	IdemPart   *part;
	int			n;

	if (row->presence != IDEM_PRESENT || idem_hold_status(row) != HOLD_HELD)
		return false;
	n = idem_hold_parts(row, &parts);
	part = find_part(parts, n, item);
	return idem_quantity_compare(part == NULL ? idem_zero() : part->quantity,
								 quantity) == 0;
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
