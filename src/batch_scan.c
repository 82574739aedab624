/*-------------------------------------------------------------------------
 *
 * batch_scan.c
 *	  Many keys looked up at once: one descent into the index for all that
 *	  lie close together.
 *
 * Of what a claim costs, nearly half is the way from the index's root to the
 * place where the key would be.  The keys of a batch are often neighbours:
 * numbered messages, which are all new, or all there.  So the first key is
 * looked up from the root, and from there the walk goes on along the index: a
 * key is absent if the next row lies behind it.
 *
 * When the keys lie far apart, the rows between them cost more than another
 * descent.  The walk therefore has patience for a few, and for half as many
 * each time that was in vain; at the end it only descends.
 *
 * Concurrency.  The answers are those of idem_store_find for a reserved key,
 * for the same reason: all keys are reserved before the walk begins, so what
 * others who reserve have inserted is in the index by then, and nothing is
 * added while the walk is under way.  That the walk reads a row a little
 * before its key's turn makes no difference to a snapshot that is as old as
 * the answer anyhow.  What SQL inserts without reserving is found by the unique
 * index.  Under serializable each key is looked up for itself: a walk would
 * depend on all that lies between, and fail for others' keys.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* So many rows cost about as much to step over as a descent. */
#define PATIENCE		8

static void begin_at(IdemBatchScan *walk, const Datum *key);
static void step(IdemBatchScan *walk);
static int	compare_ahead(const IdemBatchScan *walk, const Datum *key);


/*
 * Begins to look up n keys, which are reserved, differ in their last column
 * alone, and come in the index's order.  Direct route only.
 */
void
idem_batch_scan_begin(IdemBatchScan *walk, IdemStore *store, const Datum *keys, int n)
{
	Assert(idem_store_is_direct(store) && store->nreserved == n);

	walk->store = store;
	walk->last = keys + (n - 1) * store->table->nkeys;
	walk->scandesc = NULL;
	InitDirtySnapshot(walk->snapshot);
	walk->patience = IsolationIsSerializable() ? 0 : PATIENCE;
}

/* What is known of the next key. */
void
idem_batch_scan_find(IdemBatchScan *walk, const Datum *key, IdemRow *row)
{
	int			in_vain = 0;
	int			compared;

	if (walk->patience == 0)
	{
		idem_store_find(walk->store, key, row);
		return;
	}

	CHECK_FOR_INTERRUPTS();
	row->presence = IDEM_ABSENT;
	if (walk->scandesc == NULL)
		begin_at(walk, key);
	while (walk->ahead != NULL && (compared = compare_ahead(walk, key)) <= 0)
	{
		if (compared < 0 && ++in_vain > walk->patience)
		{
			idem_batch_scan_end(walk);
			walk->patience /= 2;
			idem_store_find(walk->store, key, row);
			return;
		}
		/* as in a scan for one key, what is committed is the answer */
		if (compared == 0 && row->presence != IDEM_PRESENT)
			(void) idem_store_judge(walk->store, walk->ahead, &walk->snapshot,
									row);
		step(walk);
	}
}

/* Ends a walk, wherever it is. */
void
idem_batch_scan_end(IdemBatchScan *walk)
{
	if (walk->scandesc != NULL)
		systable_endscan_ordered(walk->scandesc);
	walk->scandesc = NULL;
}


/* Begins the scan at a key; it ends at the last one. */
static void
begin_at(IdemBatchScan *walk, const Datum *key)
{
	const IdemStore *store = walk->store;
	int			last = store->table->nkeys - 1;
	ScanKeyData scankeys[IDEM_MAX_KEYS + 1];

	Assert(store->table->atttypes[last] == TEXTOID);

	for (int i = 0; i < last; i++)
		idem_store_scankey(&scankeys[i], store->table, i, key[i]);
	ScanKeyEntryInitialize(&scankeys[last], 0, last + 1,
						   BTGreaterEqualStrategyNumber, TEXTOID,
						   C_COLLATION_OID, F_TEXT_GE, key[last]);
	ScanKeyEntryInitialize(&scankeys[last + 1], 0, last + 1,
						   BTLessEqualStrategyNumber, TEXTOID,
						   C_COLLATION_OID, F_TEXT_LE, walk->last[last]);

	walk->scandesc = systable_beginscan_ordered(store->heap, store->index,
												&walk->snapshot, last + 2,
												scankeys);
	step(walk);
}

/* Goes on to the next row. */
static void
step(IdemBatchScan *walk)
{
	walk->ahead = systable_getnext_ordered(walk->scandesc,
										   ForwardScanDirection);
}

/* Where the row ahead lies: before the key (< 0), at it, or behind it. */
static int
compare_ahead(const IdemBatchScan *walk, const Datum *key)
{
	int			last = walk->store->table->nkeys - 1;
	bool		isnull;
	Datum		ahead = heap_getattr(walk->ahead, last + 1,
									 RelationGetDescr(walk->store->heap),
									 &isnull);

	return DatumGetInt32(DirectFunctionCall2Coll(bttextcmp, C_COLLATION_OID,
												 ahead, key[last]));
}
