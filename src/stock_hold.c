/*-------------------------------------------------------------------------
 *
 * stock_hold.c
 *	  The row of an order: what it has of which item, and how it stands.
 *
 * The record of an order, (source, seq), is one row of idem.hold.  Its status is
 *
 *		held		may still go either way
 *		confirmed	final
 *		released	given back, or never to be made
 *		expired		given back because its time had passed
 *
 * Only an order that is held changes its status.  Time only decides whether
 * idem_stock_expire may end an order: as long as it has not, the stock is still
 * held, and the order can be confirmed, amended and renewed.
 *
 * Items are sorted bytewise, and each is there once.  Beside each stands how much
 * the order has of it (quantities), and how much it had at first (firsts), by
 * which a retry is judged.  The array firsts is null as long as both are the
 * same.
 *
 * An order that was made in vain, because a session on the SQL route made it in
 * the same microseconds, must leave no trace: whoever writes the order through
 * SQL would wait for the row that lost, and single calls could deadlock.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

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
		{"quantities", NUMERICARRAYOID},
		{"firsts", NUMERICARRAYOID}
	},
	.required = HOLD_STATUS + 1,
	.secondary = HOLD_EXPIRES_AT + 1,
	.speculative = true,
	.stat = IDEM_STAT_STOCK,
	.has_source = true
};

static void set_array(IdemRow *row, int column, Datum *values, int n);


/* The row of an order that has nothing yet, or never will. */
void
idem_hold_new(const Datum *key, IdemHoldStatus status, IdemRow *row)
{
	for (int i = 0; i < HOLD_COLUMNS; i++)
		row->nulls[i] = i > HOLD_STATUS;
	row->values[HOLD_SOURCE] = key[HOLD_SOURCE];
	row->values[HOLD_SEQ] = key[HOLD_SEQ];
	row->values[HOLD_OWNER] = idem_current_owner();
	row->values[HOLD_STATUS] = CharGetDatum(HOLD_HELD);
	if (status != HOLD_HELD)
		idem_hold_decide(row, status);
	else
	{
		row->values[HOLD_RESERVED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
		row->nulls[HOLD_RESERVED_AT] = false;
	}
}

IdemHoldStatus
idem_hold_status(const IdemRow *row)
{
	return (IdemHoldStatus) DatumGetChar(row->values[HOLD_STATUS]);
}

const char *
idem_hold_status_name(IdemHoldStatus status)
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

/* Gives a row its final status. */
void
idem_hold_decide(IdemRow *row, IdemHoldStatus status)
{
	row->values[HOLD_STATUS] = CharGetDatum(status);
	row->values[HOLD_DECIDED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	row->nulls[HOLD_DECIDED_AT] = false;
	row->nulls[HOLD_EXPIRES_AT] = true;
}

/* Says when it may be given back, counted from now; NULL: never. */
void
idem_hold_set_due(IdemRow *row, const Interval *ttl)
{
	row->nulls[HOLD_EXPIRES_AT] = ttl == NULL;
	if (ttl != NULL)
		row->values[HOLD_EXPIRES_AT] =
			TimestampTzGetDatum(idem_time_after(GetCurrentTimestamp(), ttl));
}

/* What an order has, in an array with room for one more; answers how many. */
int
idem_hold_parts(const IdemRow *row, IdemPart **parts)
{
	Datum	   *items;
	Datum	   *quantities;
	Datum	   *firsts;
	int			n = 0;
	int			nquantities = 0;
	int			nfirsts = 0;

	if (!row->nulls[HOLD_ITEMS])
	{
		deconstruct_array(DatumGetArrayTypeP(row->values[HOLD_ITEMS]), TEXTOID,
						  -1, false, TYPALIGN_INT, &items, NULL, &n);
		deconstruct_array(DatumGetArrayTypeP(row->values[HOLD_QUANTITIES]),
						  NUMERICOID, -1, false, TYPALIGN_INT, &quantities,
						  NULL, &nquantities);
		firsts = quantities;
		nfirsts = nquantities;
		if (!row->nulls[HOLD_FIRSTS])
			deconstruct_array(DatumGetArrayTypeP(row->values[HOLD_FIRSTS]),
							  NUMERICOID, -1, false, TYPALIGN_INT, &firsts,
							  NULL, &nfirsts);
	}
	if (n != nquantities || n != nfirsts)
		elog(ERROR, "a row of \"idem.hold\" is damaged");

	*parts = MemoryContextAllocHuge(CurrentMemoryContext,
									((Size) n + 1) * sizeof(IdemPart));
	for (int i = 0; i < n; i++)
	{
		(*parts)[i].item = items[i];
		(*parts)[i].quantity = quantities[i];
		(*parts)[i].first = firsts[i];
	}
	return n;
}

/* Enters what an order has into its row. */
void
idem_hold_set_parts(IdemRow *row, const IdemPart *parts, int n)
{
	Datum	   *values = palloc_array(Datum, n);
	bool		same = true;

	for (int i = 0; i < n; i++)
		values[i] = parts[i].item;
	row->values[HOLD_ITEMS] =
		PointerGetDatum(construct_array(values, n, TEXTOID, -1, false,
										TYPALIGN_INT));
	row->nulls[HOLD_ITEMS] = false;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		values[i] = parts[i].quantity;
		same = same && idem_same_bytes(parts[i].quantity, parts[i].first);
	}
	set_array(row, HOLD_QUANTITIES, values, n);

	row->nulls[HOLD_FIRSTS] = true;
	if (same)
		return;
	for (int i = 0; i < n; i++)
		values[i] = parts[i].first;
	set_array(row, HOLD_FIRSTS, values, n);
}

/* The lines that take parts for an order, or give them back; none for a 0. */
IdemLines *
idem_hold_lines(const Datum *key, const IdemPart *parts, int n, bool give)
{
	IdemLines  *lines = idem_bucket_lines(key[HOLD_SOURCE], n);

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (idem_quantity_compare(parts[i].quantity, idem_zero()) == 0)
			continue;
		idem_bucket_line(lines, parts[i].item, give ?
						 idem_quantity_subtract(idem_zero(), parts[i].quantity) :
						 parts[i].quantity);
	}
	return lines;
}

/*
 * Is some item short of what lines want for an order?  If so, row says what is
 * known of the order as of the same moment: if the item is short because the
 * same call in another session has taken it, the row has it.  (Through SQL the
 * row is read after that moment.  What was taken is in it then, too, unless it
 * was given back in between.)
 */
bool
idem_hold_short(IdemStore *holds, IdemStore *stock, const Datum *key,
				IdemLines *lines, IdemRow *row)
{
	Snapshot	snapshot = idem_store_is_direct(stock) ?
		idem_store_snapshot() : InvalidSnapshot;
	bool		is_short = idem_bucket_short(stock, lines, snapshot);

	if (is_short)
		idem_store_read_by(holds, snapshot, key, row);
	if (snapshot != InvalidSnapshot)
		UnregisterSnapshot(snapshot);
	return is_short;
}

/* Writes a row that we have locked. */
void
idem_hold_write(IdemStore *holds, IdemRow *row)
{
	/* a locked row is only refused by a trigger, and then the store raises */
	while (!idem_store_update(holds, row, row->values, row->nulls))
		CHECK_FOR_INTERRUPTS();
}

/* sort and bsearch comparator: by item, bytewise. */
int
idem_hold_compare(const void *a, const void *b)
{
	return idem_compare_bytes(((const IdemPart *) a)->item,
							  ((const IdemPart *) b)->item);
}

void
idem_hold_stale(const Datum *key, IdemHoldStatus status, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 errmsg("hold is %s", idem_hold_status_name(status)),
			 errdetail("Key %s is %s.", idem_store_key(&idem_hold_table, key),
					   idem_hold_status_name(status)),
			 errhint("%s", hint)));
}


static void
set_array(IdemRow *row, int column, Datum *values, int n)
{
	row->values[column] =
		PointerGetDatum(construct_array(values, n, NUMERICOID, -1, false,
										TYPALIGN_INT));
	row->nulls[column] = false;
}
