/*-------------------------------------------------------------------------
 *
 * store.c
 *	  idem's own hot tables: probe, insert and update by primary key, directly
 *	  or through SQL.
 *
 * Two routes.  When a table is exactly as our script made it (store_guard.c judges
 * that), rows are read through its index and written by the heap and btree
 * functions that the executor would end in; that costs half of what SQL does.
 * When it is not, everything goes through the kept plans of plan.c.  A
 * distributed engine puts a trigger on a table it has distributed, and a
 * direct insert would then land in the empty shell that it leaves behind.
 * idem.force_sql sends everything through SQL, so that one test suite can hold
 * both routes to the same answers.
 *
 * Concurrency, direct route.
 *
 * 1. Whoever may insert a key first reserves it: a heavyweight lock on a hash
 *	  of the key, held over probe, heap insert and index insert, and never
 *	  while waiting for a transaction.  Two sessions that would insert the same
 *	  key therefore do so one after the other, and the second one's probe sees
 *	  the first one's row, committed or not.  Other keys with the same hash
 *	  only wait for those few microseconds.  (The executor's way, speculative
 *	  insertion, takes a lock of the same kind and then writes a WAL record
 *	  more to confirm.)
 * 2. The probe uses a dirty snapshot: it sees what is committed now, whatever
 *	  the transaction's snapshot says, and rows that open transactions insert,
 *	  change or delete.  A row being inserted is answered as IDEM_BUSY: the
 *	  caller waits for that transaction and probes again, so a rolled-back
 *	  claim, also one rolled back to a savepoint, frees the key at once.  A row
 *	  being changed or deleted is answered as it was committed, which is also
 *	  what SQL would see.  A dirty scan can miss a row that is moved to another
 *	  page meanwhile; nothing is therefore only believed of a reserved key,
 *	  where the index has a last word, or after a scan that cannot miss it.
 * 3. The unique index has the last word.  It is asked not to raise
 *	  (UNIQUE_CHECK_PARTIAL); if it finds the key after all, because somebody
 *	  inserted without reserving (SQL does), our row is deleted again and the
 *	  caller probes anew.
 * 4. Under serializable the probe begins with the transaction's snapshot.
 *	  That takes the predicate locks, on the gap too when nothing is found, so
 *	  that the server's conflict detection knows what we read; and a row that
 *	  only the dirty probe sees is 40001, for the answer would depend on a
 *	  transaction that ours must not have seen.
 * 5. A lock and an update name the row version they judged.  If another
 *	  transaction has changed it since, nothing is done and the caller looks
 *	  again.  Whoever lets the clock decide, or needs the row to stay as it is,
 *	  locks it first, reads the clock, and then writes: the wait is over by
 *	  then.  An update without a lock may itself wait for one that ends by
 *	  rolling back, so its values must not depend on when it happens.
 * 6. Without wait nobody is waited for: a rival found in the way raises ID409,
 *	  or, for a caller who has an answer for that, is said in store->busy.
 *
 * Through SQL the same holds by other means: ON CONFLICT DO NOTHING waits for
 * the rival, FOR NO KEY UPDATE keeps the judged row from changing.  Row
 * versions and locks of both routes are the server's own, so sessions on
 * different routes exclude each other.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Reservations are advisory locks of a class of their own, which the SQL
 * functions for advisory locks (classes 1 and 2) can neither take nor see.
 */
#define RESERVATION_CLASS	0x1DE

/* How often what SQL writes may come to nothing for no reason to be found. */
#define MAX_REFUSED			100

static bool force_sql = false;

/* What a wait is for, for its CONTEXT. */
typedef struct WaitedFor
{
	const IdemTable *table;
	const Datum *key;
} WaitedFor;

static bool scan(IdemStore *store, const Datum *key, Snapshot snapshot,
				 IdemRow *row);
static void sql_find(IdemStore *store, const Datum *key, bool read_only,
					 IdemRow *row);
static uint64 sql_write(IdemStore *store, IdemStatement statement, const Datum *values,
						const bool *nulls);
static uint64 sql_write_at_once(IdemStore *store, IdemStatement statement,
								const Datum *values, const bool *nulls,
								int tries);
static bool sql_lock(IdemStore *store, const IdemRow *row,
					 IdemRowLock strength);
static void changed(const IdemStore *store, const Datum *key);
static void busy(IdemStore *store, const Datum *key);
static bool add_index_entries(IdemStore *store, const Datum *values,
							  const bool *nulls, ItemPointer tid,
							  IndexUniqueCheck check);
static bool add_index_entry(IdemStore *store, Relation index,
							const Datum *values, ItemPointer tid,
							IndexUniqueCheck check);
static void key_tag(const IdemStore *store, const Datum *key, LOCKTAG *tag);
static int	compare_tags(const void *a, const void *b);
static void begin_wait(const IdemStore *store, const Datum *key);
static void describe_wait(void *arg);
static void serialization_error(const IdemTable *table, const Datum *key);


/* Registers the setting. */
void
idem_store_init(void)
{
	DefineCustomBoolVariable("idem.force_sql",
							 "Reaches idem's tables through SQL only.",
							 "By default idem reads and writes its own tables directly as long "
							 "as they are as its script made them. The answers are the same.",
							 &force_sql,
							 false,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);
}

/*
 * Opens a table and chooses the route.  For IDEM_WRITE the lock is kept to the
 * end of the transaction, as by any writing statement.  With wait off, a call
 * that would have to wait for another transaction raises ID409 instead.
 */
void
idem_store_open(IdemStore *store, IdemTable *table, IdemAccess access,
				bool wait)
{
	LOCKMODE	lockmode = access == IDEM_READ ? AccessShareLock : RowExclusiveLock;

	idem_check_access(access);

	store->table = table;
	store->wait = wait;
	store->busy_is_answer = false;
	store->nreserved = 0;
	idem_store_next_key(store);

	store->heap = idem_table_open(table, lockmode, !force_sql, &store->index);
	store->secondary = table->secondary_index;
}

/* Closes what idem_store_open opened; the locks stay. */
void
idem_store_close(IdemStore *store)
{
	idem_store_release(store);
	if (store->index != NULL)
		index_close(store->index, NoLock);
	table_close(store->heap, NoLock);
}

/* Forgets what was done for one key, before the next one is taken up. */
void
idem_store_next_key(IdemStore *store)
{
	store->busy = false;
	store->row_locked = false;
	ItemPointerSetInvalid(&store->locked);
	ItemPointerSetInvalid(&store->inserted);
	store->refused = 0;
}

/* Is the table reached directly? */
bool
idem_store_is_direct(const IdemStore *store)
{
	return store->index != NULL;
}

/*
 * What is committed, or our own, for a key: a pure read, which waits for
 * nobody and works on a standby.  Answers IDEM_ABSENT or IDEM_PRESENT.
 */
void
idem_store_read(IdemStore *store, const Datum *key, IdemRow *row)
{
	Snapshot	snapshot;

	row->presence = IDEM_ABSENT;
	if (store->index == NULL)
	{
		sql_find(store, key, true, row);
		return;
	}

	snapshot = RegisterSnapshot(IsolationIsSerializable() &&
								!store->table->metadata ?
								GetTransactionSnapshot() : GetLatestSnapshot());
	scan(store, key, snapshot, row);
	UnregisterSnapshot(snapshot);
}

/*
 * Reserves n keys, at most IDEM_RESERVE_MAX, until idem_store_release: what
 * idem_store_find finds absent then stays absent for everybody who reserves.
 * The locks are taken in the order of their tags, so reservations of several
 * keys never wait for each other in a circle.
 */
void
idem_store_reserve(IdemStore *store, const Datum *keys, int n)
{
	Assert(store->nreserved == 0 && n <= IDEM_RESERVE_MAX);

	if (store->index == NULL)
		return;

	for (int i = 0; i < n; i++)
		key_tag(store, keys + i * store->table->nkeys, &store->reserved[i]);
	if (n > 1)
		qsort(store->reserved, n, sizeof(LOCKTAG), compare_tags);

	for (int i = 0; i < n; i++)
	{
		(void) LockAcquire(&store->reserved[i], ExclusiveLock, false, false);
		store->nreserved = i + 1;
	}
}

/*
 * Reserves one key if nobody else has it reserved at this moment.  False: not
 * so, and whoever has it is about to insert it, or to find that it is there.
 */
bool
idem_store_try_reserve(IdemStore *store, const Datum *key)
{
	Assert(store->nreserved == 0);

	if (store->index == NULL)
		return true;
	key_tag(store, key, &store->reserved[0]);
	if (LockAcquire(&store->reserved[0], ExclusiveLock, false, true) ==
		LOCKACQUIRE_NOT_AVAIL)
		return false;
	store->nreserved = 1;
	return true;
}

/* Gives up the reservation; after an error the server does so itself. */
void
idem_store_release(IdemStore *store)
{
	while (store->nreserved > 0)
		LockRelease(&store->reserved[--store->nreserved], ExclusiveLock, false);
}

/*
 * What is known of a key, other transactions included.  To insert after
 * IDEM_ABSENT the key must have been reserved before.
 */
void
idem_store_find(IdemStore *store, const Datum *key, IdemRow *row)
{
	SnapshotData dirty;

	CHECK_FOR_INTERRUPTS();		/* every caller's loop comes by here */
	row->presence = IDEM_ABSENT;
	if (store->index == NULL)
	{
		sql_find(store, key, false, row);
		return;
	}

	if (IsolationIsSerializable())
	{
		Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
		bool		found = scan(store, key, snapshot, row);

		UnregisterSnapshot(snapshot);
		if (found)
			return;
	}

	InitDirtySnapshot(dirty);
	scan(store, key, &dirty, row);
	if (row->presence != IDEM_PRESENT && store->nreserved == 0)
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		IdemRow		committed;

		if (scan(store, key, snapshot, &committed))
			*row = committed;
		UnregisterSnapshot(snapshot);
	}
	if (row->presence == IDEM_PRESENT && IsolationIsSerializable())
		serialization_error(store->table, key);
}

/*
 * Waits until the transaction that idem_store_find saw inserting the key has
 * ended, or raises ID409 when waiting was not wanted.  Any reservation is
 * given up first: it must never be held while waiting for a transaction.
 */
void
idem_store_wait(IdemStore *store, const Datum *key, IdemRow *row)
{
	WaitedFor	waited_for = {store->table, key};
	ErrorContextCallback context;

	Assert(row->presence == IDEM_BUSY && !store->busy_is_answer);

	idem_store_release(store);
	if (!store->wait)
		busy(store, key);

	context.callback = describe_wait;
	context.arg = &waited_for;
	context.previous = error_context_stack;
	error_context_stack = &context;

	begin_wait(store, key);
	if (row->token != 0)
		SpeculativeInsertionWait(row->rival, row->token);
	else
		XactLockTableWait(row->rival, NULL, NULL, XLTW_None);
	idem_stat_wait_end();

	error_context_stack = context.previous;
}

/*
 * Inserts a row whose key was found absent.  False: somebody else has the key
 * after all; look again.
 */
bool
idem_store_insert(IdemStore *store, const Datum *values, const bool *nulls)
{
	HeapTuple	tuple;
	bool		unique;

	if (store->index == NULL)
	{
		uint64		inserted;

		if (store->wait)
			inserted = sql_write(store, IDEM_INSERT, values, nulls);
		else
			inserted = sql_write_at_once(store, IDEM_INSERT, values,
										 nulls, IDEM_NOWAIT_TRIES);
		if (inserted > 0)
			return true;
		idem_store_refused(store, values);
		return false;
	}

	tuple = heap_form_tuple(RelationGetDescr(store->heap),
							unconstify(Datum *, values),
							unconstify(bool *, nulls));
	heap_insert(store->heap, tuple, GetCurrentCommandId(true), 0, NULL);
	unique = add_index_entries(store, values, nulls, &tuple->t_self,
							   UNIQUE_CHECK_PARTIAL);
	CommandCounterIncrement();
	if (unique)
		store->inserted = tuple->t_self;
	else
	{
		simple_heap_delete(store->heap, &tuple->t_self);
		CommandCounterIncrement();
	}
	heap_freetuple(tuple);
	return unique;
}

/*
 * Inserts rows whose keys were found absent while reserved, in the order given,
 * up to the first key that somebody else has after all; answers how many.  No
 * row behind that one is left: the caller would hold keys of which he does not
 * know, ahead of one that he has to wait for.  Direct route only.
 */
int
idem_store_insert_many(IdemStore *store, Datum **values, bool **nulls, int n)
{
	TupleTableSlot *slots[IDEM_RESERVE_MAX];
	int			inserted = 0;

	Assert(store->index != NULL && n <= IDEM_RESERVE_MAX);

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
		   add_index_entries(store, values[inserted], nulls[inserted],
							 &slots[inserted]->tts_tid,
							 UNIQUE_CHECK_PARTIAL))
		inserted++;
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
 * Locks a row that was found, as it was found, to the end of the transaction.
 * False: it has changed, or (through SQL) may have; look again.
 */
bool
idem_store_lock(IdemStore *store, const IdemRow *row, IdemRowLock strength)
{
	WaitedFor	waited_for = {store->table, row->values};
	ErrorContextCallback context;
	HeapTupleData tuple;
	TM_FailureData tmfd;
	Buffer		buffer;
	TM_Result	result;

	Assert(store->nreserved == 0 && row->presence == IDEM_PRESENT);

	if (store->index == NULL)
		return sql_lock(store, row, strength);

	context.callback = describe_wait;
	context.arg = &waited_for;
	context.previous = error_context_stack;
	error_context_stack = &context;

	tuple.t_self = row->tid;
	begin_wait(store, row->values);
	result = heap_lock_tuple(store->heap, &tuple, GetCurrentCommandId(false),
							 strength == IDEM_LOCK_SHARE ?
							 LockTupleShare : LockTupleNoKeyExclusive,
							 store->wait ? LockWaitBlock : LockWaitSkip,
							 false, &buffer, &tmfd);
	idem_stat_wait_end();
	ReleaseBuffer(buffer);

	error_context_stack = context.previous;

	switch (result)
	{
		case TM_Ok:
			store->locked = row->tid;
			return true;
		case TM_WouldBlock:
			busy(store, row->values);
			return false;
		case TM_Updated:
		case TM_Deleted:
			changed(store, row->values);
			return false;
		default:
			elog(ERROR, "row of \"idem.%s\" could not be locked",
				 store->table->relname);
			return false;		/* keep the compiler quiet */
	}
}

/*
 * Writes a new version of a row that was found.  False: it has changed, or
 * (through SQL, if it was not locked) may have; look again.
 */
bool
idem_store_update(IdemStore *store, IdemRow *row, const Datum *values,
				  const bool *nulls)
{
	HeapTuple	tuple;
	TM_Result	result;
	TM_FailureData tmfd;
	bool		needs_index;

	Assert(store->nreserved == 0);

	if (store->index == NULL)
	{
		if (!sql_lock(store, row, IDEM_LOCK_UPDATE))
			return false;
		if (sql_write(store, IDEM_UPDATE, values, nulls) > 0)
			return true;
		idem_store_refused(store, values);
		return false;
	}

	if (!store->wait &&
		!(ItemPointerIsValid(&store->locked) &&
		  ItemPointerEquals(&store->locked, &row->tid)) &&
		!idem_store_lock(store, row, IDEM_LOCK_UPDATE))
		return false;

	tuple = heap_form_tuple(RelationGetDescr(store->heap),
							unconstify(Datum *, values),
							unconstify(bool *, nulls));

	begin_wait(store, values);
	result = idem_heap_update(store->heap, &row->tid, tuple,
							  GetCurrentCommandId(true), &tmfd, &needs_index);
	idem_stat_wait_end();

	switch (result)
	{
		case TM_Ok:
			if (needs_index)
				(void) add_index_entries(store, values, nulls,
										 &tuple->t_self, UNIQUE_CHECK_YES);
			CommandCounterIncrement();
			heap_freetuple(tuple);
			return true;
		case TM_Updated:
		case TM_Deleted:
			changed(store, values);
			return false;
		default:
			elog(ERROR, "row of \"idem.%s\" could not be updated",
				 store->table->relname);
			return false;		/* keep the compiler quiet */
	}
}

/* Deletes a row that this call has inserted, or locked. */
void
idem_store_remove(IdemStore *store, IdemRow *row)
{
	if (store->index == NULL)
	{
		while (sql_write(store, IDEM_DELETE, row->values, NULL) == 0)
			idem_store_refused(store, row->values);
	}
	else
	{
		simple_heap_delete(store->heap, &row->tid);
		CommandCounterIncrement();
	}
}

/*
 * SQL wrote nothing.  The row that was in the way, or that was to be changed,
 * may be gone by now, which is rare; a trigger that suppresses what we write
 * would have us look again for ever.
 */
void
idem_store_refused(IdemStore *store, const Datum *key)
{
	if (++store->refused <= MAX_REFUSED)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("table \"idem.%s\" does not take a row",
					store->table->relname),
			 errdetail("Key %s was written %d times, to no effect.",
					   idem_store_key(store->table, key), store->refused),
			 errhint("Look for a trigger or rule on \"idem.%s\" that suppresses the row.",
					 store->table->relname)));
}

/*
 * Says in row what a scan has just found.  True: it is committed, or our own,
 * and thereby the answer; its copy in row outlives the buffer.
 */
bool
idem_store_judge(const IdemStore *store, HeapTuple tuple, Snapshot snapshot,
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
idem_store_scankey(ScanKey scankey, const IdemTable *table, int i, Datum value)
{
	if (table->columns[i].type == INT4OID)
		ScanKeyEntryInitialize(scankey, 0, i + 1, BTEqualStrategyNumber,
							   INT4OID, InvalidOid, F_INT4EQ, value);
	else
		ScanKeyEntryInitialize(scankey, 0, i + 1, BTEqualStrategyNumber,
							   TEXTOID, C_COLLATION_OID, F_TEXTEQ, value);
}

/* A key for a message, as core writes keys: "(source, seq)=(web, 42)". */
char *
idem_store_key(const IdemTable *table, const Datum *key)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "(%s)=(", table->keyname);
	for (int i = 0; i < table->nkeys; i++)
	{
		if (i > 0)
			appendStringInfoString(&buf, ", ");
		if (table->columns[i].type == INT4OID)
			appendStringInfo(&buf, "%d", DatumGetInt32(key[i]));
		else
			appendStringInfoString(&buf, TextDatumGetCString(key[i]));
	}
	appendStringInfoChar(&buf, ')');
	return buf.data;
}


/*
 * Looks a key up through the index.  True: there is something, said in row.
 * A row that is being inserted is only the answer if there is no committed
 * one: an update that found no room on the page leaves both to be found.
 */
static bool
scan(IdemStore *store, const Datum *key, Snapshot snapshot, IdemRow *row)
{
	ScanKeyData scankeys[IDEM_MAX_KEYS];
	SysScanDesc scandesc;
	HeapTuple	tuple;

	for (int i = 0; i < store->table->nkeys; i++)
	{
		int			column = store->index->rd_index->indkey.values[i] - 1;

		idem_store_scankey(&scankeys[i], store->table, column, key[column]);
	}

	row->presence = IDEM_ABSENT;
	scandesc = systable_beginscan_ordered(store->heap, store->index, snapshot,
										  store->table->nkeys, scankeys);
	while ((tuple = systable_getnext_ordered(scandesc,
											 ForwardScanDirection)) != NULL)
	{
		if (idem_store_judge(store, tuple, snapshot, row))
			break;
	}
	systable_endscan_ordered(scandesc);

	return row->presence != IDEM_ABSENT;
}

/* What SQL sees for a key. */
static void
sql_find(IdemStore *store, const Datum *key, bool read_only, IdemRow *row)
{
	if (idem_table_execute(store->table, IDEM_FIND,
						   store->heap->rd_rel->relowner, read_only, key, NULL,
						   row->values, row->nulls) > 0)
		row->presence = IDEM_PRESENT;
}

/* Runs one of the table's writing plans. */
static uint64
sql_write(IdemStore *store, IdemStatement statement, const Datum *values,
		  const bool *nulls)
{
	uint64		processed;

	begin_wait(store, values);
	processed = idem_table_execute(store->table, statement,
								   store->heap->rd_rel->relowner, false,
								   values, nulls, NULL, NULL);
	idem_stat_wait_end();
	return processed;
}

/* The same where waiting is not wanted, for which nowait.c has the tries. */
static uint64
sql_write_at_once(IdemStore *store, IdemStatement statement, const Datum *values,
				  const bool *nulls, int tries)
{
	uint64		processed = 0;

	if (!idem_nowait_execute(store->table, statement, store->heap->rd_rel->relowner, values,
							 nulls, tries, &processed))
		busy(store, values);
	return processed;
}

/*
 * Locks a row through SQL.  The first call for a row has the caller look
 * again: what it judged may have changed until the lock was there.
 */
static bool
sql_lock(IdemStore *store, const IdemRow *row, IdemRowLock strength)
{
	if (store->row_locked)
		return true;
	if (!store->wait)
		store->row_locked = sql_write_at_once(store, IDEM_LOCK_NOWAIT,
											  row->values, NULL, 1) > 0;
	else
		store->row_locked = sql_write(store,
									  strength == IDEM_LOCK_SHARE ?
									  IDEM_LOCK_SHARED : IDEM_LOCK,
									  row->values, NULL) > 0;
	return false;
}

/*
 * Enters a row into the indexes.  With UNIQUE_CHECK_PARTIAL false says that
 * the key may be there already.
 */
static bool
add_index_entries(IdemStore *store, const Datum *values, const bool *nulls,
				  ItemPointer tid, IndexUniqueCheck check)
{
	int			secondary = store->table->secondary - 1;
	Relation	index;

	if (!add_index_entry(store, store->index, values, tid, check))
		return false;
	if (secondary >= 0 && !nulls[secondary])
	{
		index = index_open(store->secondary, RowExclusiveLock);
		(void) add_index_entry(store, index, values, tid,
							   UNIQUE_CHECK_NO);
		index_close(index, NoLock);
	}
	return true;
}

/* Enters a row, whose columns in the index are not null, into one index. */
static bool
add_index_entry(IdemStore *store, Relation index, const Datum *values,
				ItemPointer tid, IndexUniqueCheck check)
{
	IndexInfo  *info = BuildIndexInfo(index);
	Datum		key[IDEM_MAX_KEYS];
	bool		nulls[IDEM_MAX_KEYS] = {false};
	bool		unique;

	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
		key[i] = values[info->ii_IndexAttrNumbers[i] - 1];
	unique = index_insert(index, key, nulls, tid, store->heap, check, false,
						  info);
	pfree(info);
	return unique;
}

/* The lock that stands for a key. */
static void
key_tag(const IdemStore *store, const Datum *key, LOCKTAG *tag)
{
	uint64		hash = RelationGetRelid(store->heap);

	for (int i = 0; i < store->table->nkeys; i++)
	{
		struct varlena *value = (struct varlena *) DatumGetPointer(key[i]);

		hash = hash_bytes_extended((unsigned char *) VARDATA_ANY(value),
								   VARSIZE_ANY_EXHDR(value), hash);
	}
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32),
						 (uint32) hash, RESERVATION_CLASS);
}

/* qsort comparator: any order will do, if it is the same for all. */
static int
compare_tags(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(LOCKTAG));
}

/* From here on a wait is one for a rival, and counts as what the table says. */
static void
begin_wait(const IdemStore *store, const Datum *key)
{
	idem_stat_wait_begin(store->table->stat, store->table->has_source ?
						 key[0] : IDEM_STAT_NO_SOURCE);
}

/* CONTEXT of what happens to us while we wait: a timeout, a deadlock. */
static void
describe_wait(void *arg)
{
	WaitedFor  *waited_for = arg;

	errcontext("while waiting for the transaction that holds key %s",
			   idem_store_key(waited_for->table, waited_for->key));
}

/* Another transaction is in the way of one that must not wait. */
static void
busy(IdemStore *store, const Datum *key)
{
	store->busy = true;
	if (store->busy_is_answer)
		return;
	if (store->table->stat == IDEM_STAT_CLAIM && store->table->has_source)
		idem_stat_count_now(IDEM_STAT_CLAIM_BUSY, key[0]);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_IN_PROGRESS),
			 errmsg("%s is in progress elsewhere", store->table->relname),
			 errdetail("Key %s is held by another open transaction.",
					   idem_store_key(store->table, key)),
			 errhint("Try again later, or let the call wait.")));
}

/* The row that was found is no longer the current one. */
static void
changed(const IdemStore *store, const Datum *key)
{
	if (IsolationIsSerializable())
		serialization_error(store->table, key);
}

static void
serialization_error(const IdemTable *table, const Datum *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update"),
			 errdetail("Key %s was written by a transaction that this one must not see.",
					   idem_store_key(table, key)),
			 errhint("Run the transaction again.")));
}
