/*-------------------------------------------------------------------------
 *
 * store_batch.c
 *	  Many keys looked up at once: one descent into the index for all that
 *	  lie close together.
 *
 * Of what a claim costs, nearly half is the descent from the index's root to
 * the place where the key would be.  The keys of a batch are often neighbours:
 * numbered messages, which are all new, or all there.  So the first key is
 * looked up from the root, and from there the scan goes on along the index: a
 * key is absent if the next row lies behind it.
 *
 * Where the keys lie far apart, or other sources have keys between them, the
 * rows between cost more than another descent.  So the scan skips at most
 * max_skip rows for a key, and half as many after each time that this did not
 * suffice.  At 0 each key is looked up from the root.
 *
 * Concurrency.  The answers are those of idem_store_look, for the same reason: all
 * keys are reserved before the scan begins, so what others who reserve have
 * inserted is in the index by then, and nothing is added while the scan is under
 * way.  The scan reads a row a little before its key's turn.  That makes no
 * difference, for the snapshot is as old as the answer anyhow.  What SQL inserts
 * without reserving is found by the unique index.  Under serializable each key is looked up for itself: a scan would
 * depend on all that lies between, and fail for others' keys.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_route.h"
#include "store_many.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* So many rows cost about as much to step over as a descent. */
#define MAX_SKIP		8

static void begin_at(IdemBatchScan *scan, const Datum *key);
static void step(IdemBatchScan *scan);
static int	compare_ahead(const IdemBatchScan *scan, const Datum *key);


/*
 * Begins to look up n keys, which are reserved, differ in their last column
 * alone, and come in the index's order.  Direct route only.
 */
void
idem_batch_scan_begin(IdemBatchScan *scan, IdemStore *store, const Datum *keys, int n)
{
	Assert(idem_store_is_direct(store) && store->nreserved == n);

	scan->store = store;
	scan->last = keys + (n - 1) * store->table->nkeys;
	scan->scandesc = NULL;
	InitDirtySnapshot(scan->snapshot);
	scan->max_skip = IsolationIsSerializable() ? 0 : MAX_SKIP;
}

/* What is known of the next key. */
void
idem_batch_scan_find(IdemBatchScan *scan, const Datum *key, IdemRow *row)
{
	int			skipped = 0;
	int			compared;

	CHECK_FOR_INTERRUPTS();
	if (scan->max_skip == 0)
	{
		idem_store_look(scan->store, key, row);
		return;
	}

	row->presence = IDEM_ABSENT;
	if (scan->scandesc == NULL)
		begin_at(scan, key);
	while (scan->ahead != NULL && (compared = compare_ahead(scan, key)) <= 0)
	{
		if (compared < 0 && ++skipped > scan->max_skip)
		{
			idem_batch_scan_end(scan);
			scan->max_skip /= 2;
			idem_store_look(scan->store, key, row);
			return;
		}
		/* as in a scan for one key, what is committed is the answer */
		if (compared == 0 && row->presence != IDEM_PRESENT)
			(void) idem_direct_judge(scan->store, scan->ahead, &scan->snapshot,
									 row);
		step(scan);
	}
}

/* Ends a scan, wherever it is. */
void
idem_batch_scan_end(IdemBatchScan *scan)
{
	if (scan->scandesc != NULL)
		systable_endscan_ordered(scan->scandesc);
	scan->scandesc = NULL;
}


/* Begins the scan at a key; it ends at the last one. */
static void
begin_at(IdemBatchScan *scan, const Datum *key)
{
	const IdemStore *store = scan->store;
	int			last = store->table->nkeys - 1;
	ScanKeyData scankeys[2];

	/* the index has the last column of the key first, and the other behind it */
	Assert(store->table->reversed && store->table->nkeys == 2);

	ScanKeyEntryInitialize(&scankeys[0], 0, last + 1,
						   BTGreaterEqualStrategyNumber, TEXTOID,
						   C_COLLATION_OID, F_TEXT_GE, key[last]);
	ScanKeyEntryInitialize(&scankeys[1], 0, last + 1,
						   BTLessEqualStrategyNumber, TEXTOID,
						   C_COLLATION_OID, F_TEXT_LE, scan->last[last]);

	scan->scandesc = systable_beginscan_ordered(store->heap, store->index,
												&scan->snapshot, 2,
												scankeys);
	step(scan);
}

/* Goes on to the next row. */
static void
step(IdemBatchScan *scan)
{
	scan->ahead = systable_getnext_ordered(scan->scandesc,
										   ForwardScanDirection);
}

/* Where the row ahead lies: before the key (< 0), at it, or behind it. */
static int
compare_ahead(const IdemBatchScan *scan, const Datum *key)
{
	TupleDesc	desc = RelationGetDescr(scan->store->heap);
	int			result = 0;

	for (int i = scan->store->table->nkeys - 1; i >= 0 && result == 0; i--)
	{
		bool		isnull;

		result = idem_compare_bytes(heap_getattr(scan->ahead, i + 1, desc,
												 &isnull),
									key[i]);
	}
	return result;
}
