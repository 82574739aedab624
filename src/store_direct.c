/*-------------------------------------------------------------------------
 *
 * store_direct.c
 *	  The direct route to idem's own tables: index scans, and the heap and
 *	  btree functions that the executor would end in.
 *
 * Only tables that store_guard.c vouches for come here, so there is nothing
 * that the executor would do and this does not: no triggers, policies, rules or
 * constraints, and no other indexes.  Access rights are not asked for, as the
 * functions of idem are the only way in.  store.c has the concurrency argument.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_route.h"
#include "store_many.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

static bool is_speculative(const IdemStore *store);
static void add_secondary(IdemStore *store, const Datum *values,
						  const bool *nulls, ItemPointer tid);
static bool add_index_entry(IdemStore *store, Relation index,
							const Datum *values, ItemPointer tid,
							IndexUniqueCheck check);


/*
 * Looks a key up through the index.  True: there is something, said in row.
 * A row that is being inserted is only the answer if there is no committed
 * one: an update that found no room on the page leaves both to be found.
 */
bool
idem_direct_find(IdemStore *store, const Datum *key, Snapshot snapshot,
				 IdemRow *row)
{
	int			nkeys = store->table->nkeys;
	ScanKeyData scankeys[IDEM_MAX_KEYS];
	IndexScanDesc scan;
	TupleTableSlot *slot = NULL;

	for (int i = 0; i < nkeys; i++)
	{
		int			column = store->index->rd_index->indkey.values[i] - 1;

		idem_direct_scankey(&scankeys[i], store->table, column, key[column]);
		scankeys[i].sk_attno = i + 1;	/* of the index, not of the table */
	}

	row->presence = IDEM_ABSENT;
	scan = idem_index_beginscan(store->heap, store->index, snapshot, nkeys);
	index_rescan(scan, scankeys, nkeys, NULL, 0);
	while (index_getnext_tid(scan, ForwardScanDirection) != NULL)
	{
		/* most keys are new, and need no slot */
		if (slot == NULL)
			slot = table_slot_create(store->heap, NULL);
		if (index_fetch_heap(scan, slot) &&
			idem_direct_judge(store, ExecFetchSlotHeapTuple(slot, false, NULL),
							  snapshot, row))
			break;
	}
	if (slot != NULL)
		ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);

	return row->presence != IDEM_ABSENT;
}

/* Reads the row version at tid.  True: it is committed, or our own. */
bool
idem_direct_fetch(IdemStore *store, const ItemPointerData *tid, IdemRow *row)
{
	HeapTupleData tuple;
	Buffer		buffer;

	tuple.t_self = *tid;
	if (!heap_fetch(store->heap, SnapshotSelf, &tuple, &buffer, false))
		return false;
	(void) idem_direct_judge(store, &tuple, SnapshotSelf, row);
	ReleaseBuffer(buffer);
	return true;
}

/*
 * Inserts a row.  False: the unique index knows the key already, and the row
 * is deleted again.
 *
 * Logical decoding must not see a row that was not to be: a subscriber would
 * insert it behind the one of the same key that was committed first, and fail
 * for ever.  Where rows are decoded the insertion is therefore speculative,
 * which takes a WAL record more, and can be taken back without a trace.  So it
 * is for a table that asks for it: a row that is only deleted keeps whoever
 * writes the other one through SQL waiting until our transaction ends.
 */
bool
idem_direct_insert(IdemStore *store, const Datum *values, const bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(store->heap),
										unconstify(Datum *, values),
										unconstify(bool *, nulls));
	bool		speculative = is_speculative(store);
	bool		unique;

	if (speculative)
	{
		/* the macro up to 15 reads its argument twice */
		uint32		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());

		HeapTupleHeaderSetSpeculativeToken(tuple->t_data, token);
	}
	heap_insert(store->heap, tuple, GetCurrentCommandId(true),
				speculative ? HEAP_INSERT_SPECULATIVE : 0, NULL);
	unique = add_index_entry(store, store->index, values, &tuple->t_self,
							 UNIQUE_CHECK_PARTIAL);
	if (speculative)
	{
		if (unique)
			heap_finish_speculative(store->heap, &tuple->t_self);
		else
			heap_abort_speculative(store->heap, &tuple->t_self);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
	}
	if (unique)
	{
		/* opens an index, so not while others may wait for the insertion */
		add_secondary(store, values, nulls, &tuple->t_self);
		store->inserted = tuple->t_self;
	}
	CommandCounterIncrement();
	if (!unique && !speculative)
		idem_direct_delete(store, &tuple->t_self);
	heap_freetuple(tuple);
	return unique;
}

/*
 * Inserts rows whose keys were found absent while reserved, in the order given,
 * up to the first key that somebody else has after all; answers how many.  No
 * row behind that one is left: the caller would hold keys unknowingly, ahead of
 * one that it has to wait for.  Direct route only.
 */
int
idem_store_insert_many(IdemStore *store, Datum **values, bool **nulls, int n)
{
	TupleTableSlot *slots[IDEM_RESERVE_MAX];
	int			inserted = 0;

	Assert(store->index != NULL && n <= IDEM_RESERVE_MAX);

	/* speculative insertion knows one row at a time */
	if (is_speculative(store))
	{
		while (inserted < n &&
			   idem_direct_insert(store, values[inserted], nulls[inserted]))
			inserted++;
		return inserted;
	}

	for (int i = 0; i < n; i++)
	{
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(store->heap),
											&TTSOpsHeapTuple);
		ExecStoreHeapTuple(heap_form_tuple(RelationGetDescr(store->heap),
										   values[i], nulls[i]),
						   slots[i], true);
	}
	heap_multi_insert(store->heap, slots, n, GetCurrentCommandId(true), 0,
					  NULL);
	while (inserted < n &&
		   add_index_entry(store, store->index, values[inserted],
						   &slots[inserted]->tts_tid, UNIQUE_CHECK_PARTIAL))
	{
		add_secondary(store, values[inserted], nulls[inserted],
					  &slots[inserted]->tts_tid);
		inserted++;
	}
	CommandCounterIncrement();

	for (int i = inserted; i < n; i++)
		simple_heap_delete(store->heap, &slots[i]->tts_tid);
	if (inserted < n)
		CommandCounterIncrement();
	for (int i = 0; i < n; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	return inserted;
}

/*
 * Locks a row version.  TM_WouldBlock: somebody else has it locked, and this
 * call must not wait.
 */
TM_Result
idem_direct_lock(IdemStore *store, const ItemPointerData *tid,
				 IdemRowLock strength)
{
	HeapTupleData tuple;
	TM_FailureData tmfd;
	Buffer		buffer;
	TM_Result	result;

	tuple.t_self = *tid;
	result = heap_lock_tuple(store->heap, &tuple, GetCurrentCommandId(false),
							 strength == IDEM_LOCK_SHARE ?
							 LockTupleShare : LockTupleNoKeyExclusive,
							 store->wait == IDEM_WAIT ?
							 LockWaitBlock : LockWaitSkip,
							 false, &buffer, &tmfd);
	ReleaseBuffer(buffer);
	return result;
}

/*
 * Writes a new version of a row in the place of the one at tid.  The key stays,
 * and the version before has kept it unique, so nothing is checked: the check
 * would wait for whoever has tried to insert the key and not ended yet, though
 * the row of that try is deleted.
 */
TM_Result
idem_direct_update(IdemStore *store, ItemPointer tid, const Datum *values,
				   const bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(store->heap),
										unconstify(Datum *, values),
										unconstify(bool *, nulls));
	TM_FailureData tmfd;
	bool		needs_index;
	TM_Result	result;

	result = idem_heap_update(store->heap, tid, tuple,
							  GetCurrentCommandId(true), &tmfd, &needs_index);
	if (result == TM_Ok)
	{
		if (needs_index)
		{
			(void) add_index_entry(store, store->index, values,
								   &tuple->t_self, UNIQUE_CHECK_NO);
			add_secondary(store, values, nulls, &tuple->t_self);
		}
		CommandCounterIncrement();
	}
	heap_freetuple(tuple);
	return result;
}

/* Deletes a row that this transaction has inserted or locked. */
void
idem_direct_delete(IdemStore *store, ItemPointer tid)
{
	simple_heap_delete(store->heap, tid);
	CommandCounterIncrement();
}

/*
 * Says in row what a scan has just found.  True: it is committed, or our own,
 * and thereby the answer; its copy in row outlives the buffer.
 */
bool
idem_direct_judge(const IdemStore *store, HeapTuple tuple, Snapshot snapshot,
				  IdemRow *row)
{
	if (snapshot->snapshot_type == SNAPSHOT_DIRTY &&
		TransactionIdIsValid(snapshot->xmin))
	{
		row->presence = IDEM_BUSY;
		row->rival = snapshot->xmin;
		row->token = snapshot->speculativeToken;
		return false;
	}

	row->presence = IDEM_PRESENT;
	tuple = heap_copytuple(tuple);
	row->tid = tuple->t_self;
	heap_deform_tuple(tuple, RelationGetDescr(store->heap), row->values,
					  row->nulls);
	return true;
}

/* The condition that column i of the key has this value. */
void
idem_direct_scankey(ScanKey scankey, const IdemTable *table, int i, Datum value)
{
	if (table->columns[i].type == INT4OID)
		ScanKeyEntryInitialize(scankey, 0, i + 1, BTEqualStrategyNumber,
							   INT4OID, InvalidOid, F_INT4EQ, value);
	else
		ScanKeyEntryInitialize(scankey, 0, i + 1, BTEqualStrategyNumber,
							   TEXTOID, C_COLLATION_OID, F_TEXTEQ, value);
}


/* Is what is inserted to leave no trace if it was in vain? */
static bool
is_speculative(const IdemStore *store)
{
	return store->table->speculative || RelationIsLogicallyLogged(store->heap);
}

/* Enters a row into the table's other index, if it belongs there. */
static void
add_secondary(IdemStore *store, const Datum *values, const bool *nulls,
			  ItemPointer tid)
{
	int			secondary = store->table->secondary - 1;

	if (secondary >= 0 && !nulls[secondary])
	{
		Relation	index = index_open(store->secondary, RowExclusiveLock);

		(void) add_index_entry(store, index, values, tid, UNIQUE_CHECK_NO);
		index_close(index, NoLock);
	}
}

/*
 * Enters a row, whose columns in the index are not null, into one index.  With
 * UNIQUE_CHECK_PARTIAL false says that the key may be there already; of a key
 * that is not checked the answer says nothing.
 */
static bool
add_index_entry(IdemStore *store, Relation index, const Datum *values,
				ItemPointer tid, IndexUniqueCheck check)
{
	Datum		key[IDEM_MAX_KEYS];
	bool		nulls[IDEM_MAX_KEYS] = {false};

	/* a btree without expressions asks nothing of it but that it is one */
	IndexInfo	info = {.type = T_IndexInfo};

	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		key[i] = values[index->rd_index->indkey.values[i] - 1];
	/* of a unique index unchecked says: the key is that of the version before */
	return index_insert(index, key, nulls, tid, store->heap, check,
						check == UNIQUE_CHECK_NO && index == store->index,
						&info);
}
