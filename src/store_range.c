/*-------------------------------------------------------------------------
 *
 * store_range.c
 *	  The rows of a table of ours that have the first column of the key in
 *	  common: read together, and locked one by one without waiting.
 *
 * The key's first column is text and its second one int4, as those of
 * idem.stock are.  Direct route only.
 *
 * Concurrency.  A range is read by one MVCC snapshot, so what is answered of
 * its rows was true at one moment.  With each row comes a hint whether another
 * transaction holds it.  The hint costs no lock and may be wrong either way; the
 * caller uses it to choose a row, and idem_range_lock has the last word.  It
 * locks the very version that was read: if that is no longer the current one,
 * the caller reads again.
 *
 * Under serializable the snapshot is the transaction's own, and the scan takes
 * the predicate locks of what it reads.
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
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static bool is_held(HeapTupleHeader tuple, Snapshot snapshot);


/*
 * Begins to read the rows of a first column, from a second column on, by a
 * snapshot of the caller's; InvalidSnapshot: by one of its own.
 */
void
idem_range_begin(IdemRange *range, IdemStore *store, Snapshot snapshot,
				 Datum first, int32 from)
{
	ScanKeyData scankeys[2];
	int			n = 0;

	Assert(idem_store_is_direct(store) && store->table->nkeys == 2);

	idem_direct_scankey(&scankeys[n++], store->table, 0, first);
	if (from > 0)
		ScanKeyEntryInitialize(&scankeys[n++], 0, 2,
							   BTGreaterEqualStrategyNumber, INT4OID,
							   InvalidOid, F_INT4GE, Int32GetDatum(from));
	range->store = store;
	range->own_snapshot = snapshot == InvalidSnapshot;
	range->snapshot = range->own_snapshot ? idem_store_snapshot() : snapshot;
	range->scandesc = systable_beginscan_ordered(store->heap, store->index,
												 range->snapshot, n, scankeys);
}

/*
 * The next row, in the order of the second column; its values are good until
 * the one behind it is asked for.  Held: another transaction is at it, as far
 * as that is seen.  False: there are no more.
 */
bool
idem_range_next(IdemRange *range, IdemRow *row, bool *held)
{
	HeapTuple	tuple;

	CHECK_FOR_INTERRUPTS();
	tuple = systable_getnext_ordered(range->scandesc, ForwardScanDirection);
	if (tuple == NULL)
		return false;

	row->presence = IDEM_PRESENT;
	row->tid = tuple->t_self;
	heap_deform_tuple(tuple, RelationGetDescr(range->store->heap), row->values,
					  row->nulls);
	*held = is_held(tuple->t_data, range->snapshot);
	return true;
}

/* Ends the reading, wherever it is. */
void
idem_range_end(IdemRange *range)
{
	systable_endscan_ordered(range->scandesc);
	if (range->own_snapshot)
		UnregisterSnapshot(range->snapshot);
}

/*
 * Locks a row in the version that was read, to the end of the subtransaction,
 * unless that would have to wait.
 */
IdemTryLock
idem_range_lock(IdemStore *store, const ItemPointerData *tid)
{
	Assert(store->wait != IDEM_WAIT);

	switch (idem_direct_lock(store, tid, IDEM_LOCK_UPDATE))
	{
		case TM_Ok:
			return IDEM_ROW_LOCKED;
		case TM_WouldBlock:
			return IDEM_ROW_HELD;
		case TM_Updated:
		case TM_Deleted:
			return IDEM_ROW_CHANGED;
		default:
			elog(ERROR, "row of \"idem.%s\" could not be locked",
				 store->table->relname);
			return IDEM_ROW_CHANGED;	/* keep the compiler quiet */
	}
}


/*
 * Is another transaction at a row that a scan has just found, as far as that is
 * seen without a lock?  (Locking the row to find out would cost ten times as
 * much.)  Of what looks free this says nothing.
 *
 * The snapshot is asked first, as it is at hand.  But it may be as old as a
 * serializable transaction; and if its transaction has very many
 * subtransactions, it takes one that was rolled back for one that runs.  So the
 * server's list of running transactions is asked, too.
 *
 * The row is read without its buffer's lock.  If xmax is being written at this
 * moment, what is read names nobody who runs, or at worst somebody else, and
 * then the row is passed by this once.
 */
static bool
is_held(HeapTupleHeader tuple, Snapshot snapshot)
{
	uint16		infomask = tuple->t_infomask;
	TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple);

	return (infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) == 0 &&
		!HEAP_XMAX_IS_KEYSHR_LOCKED(infomask) &&
		TransactionIdIsNormal(xmax) &&
		XidInMVCCSnapshot(xmax, snapshot) &&
		!TransactionIdIsCurrentTransactionId(xmax) &&
		TransactionIdIsInProgress(xmax);
}
