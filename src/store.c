/*-------------------------------------------------------------------------
 *
 * store.c
 *	  idem's own hot tables: probe, insert and update by primary key, directly
 *	  or through SQL.
 *
 * Two routes.  When a table is exactly as our script made it (store_guard.c
 * judges that), store_direct.c reads rows through its index and writes them by
 * the heap and btree functions that the executor would end in; that costs half
 * of what SQL does.  When it is not, store_sql.c runs the kept statements of
 * plan.c.  idem.force_sql sends everything through SQL, so that one test suite
 * can hold both routes to the same answers.
 *
 * idem_store_seek is the one way to a key that may have to be inserted:
 *
 *		for (;;)
 *		{
 *			idem_store_seek(&store, key, &row);
 *			if (row.presence == IDEM_ABSENT)
 *				make the row, and be done if idem_store_insert(...)
 *			else
 *				judge the row, and be done if idem_store_update(...)
 *		}
 *
 * Whatever is answered may be refused by the write that follows, and then the
 * caller looks again.
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
 *	  more to confirm.  It is taken on top where rows are decoded logically,
 *	  and for stock, locks and counts of tokens.)
 * 2. The probe of a reserved key uses a dirty snapshot: it sees what is
 *	  committed now, whatever the transaction's snapshot says, and rows that
 *	  open transactions insert, change or delete.  For a row that is being
 *	  inserted, the call waits for that transaction and probes again, so a
 *	  rolled-back claim, also one rolled back to a savepoint, frees the key at
 *	  once.  A row that is being changed or deleted is answered as it was
 *	  committed, which is also what SQL would see.  A dirty scan can miss a row
 *	  that is moved to another page meanwhile.  An empty result is trusted only
 *	  for a reserved key, because there the unique index has the last word.
 *	  Who refuses such a key has not asked the index, and looks once more
 *	  (idem_store_still).
 * 3. The unique index has the last word.  It is asked not to raise
 *	  (UNIQUE_CHECK_PARTIAL); if it finds the key after all, because somebody
 *	  inserted without reserving (SQL does), our row is deleted again and the
 *	  caller probes anew.
 * 4. The probe of a key that is not reserved (idem_store_find) uses the latest
 *	  MVCC snapshot, which cannot miss a committed row.
 * 5. Under serializable a probe begins with the transaction's snapshot.
 *	  That takes the predicate locks, on the gap too when nothing is found, so
 *	  that the server's conflict detection knows what we read; and a row that
 *	  only the other probe sees is 40001, for the answer would depend on a
 *	  transaction that ours must not have seen.
 * 6. A lock and an update name the row version they judged.  If another
 *	  transaction has changed it since, nothing is done and the caller looks
 *	  again.  Whoever lets the clock decide, or needs the row to stay as it is,
 *	  locks it first, reads the clock, and then writes: the wait is over by
 *	  then.  An update without a lock may itself wait for one that ends by
 *	  rolling back, so its values must not depend on when it happens.
 * 7. Without IDEM_WAIT nobody is waited for: not for a transaction, nor for a
 *	  reservation, whose holder may have been stopped in the middle of its
 *	  insert.  A rival found in the way raises ID409, or, for a caller that has
 *	  an answer for it, is told as IDEM_BUSY.
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
#include "store_route.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Reservations are advisory locks of a class of their own, which the SQL
 * functions for advisory locks (classes 1 and 2) can neither take nor see.
 */
#define RESERVATION_CLASS	0x1DE

const IdemRow idem_no_row = {.presence = IDEM_ABSENT};

static bool force_sql = false;

/* What a wait is for, for its CONTEXT. */
typedef struct WaitedFor
{
	const IdemTable *table;
	const Datum *key;
} WaitedFor;

static void probe(IdemStore *store, const Datum *key, Snapshot snapshot,
				  IdemRow *row);
static bool same_values(const IdemTable *table, const IdemRow *a,
						const IdemRow *b);
static bool try_reserve(IdemStore *store, const Datum *key);
static void wait_for_rival(IdemStore *store, const Datum *key, IdemRow *row);
static void changed(const IdemStore *store, const Datum *key);
static void key_tag(const IdemStore *store, const Datum *key, LOCKTAG *tag);
static int	compare_tags(const void *a, const void *b);
static void describe_wait(void *arg);
static void serialization_error(const IdemTable *table, const Datum *key);


/* Registers the setting, and the callbacks of the store's files. */
void
idem_store_init(void)
{
	idem_table_init();
	idem_owner_init();
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
 * end of the transaction, as by any writing statement.  wait says what becomes
 * of a call that would have to wait for another transaction.
 */
void
idem_store_open(IdemStore *store, IdemTable *table, IdemAccess access,
				IdemWait wait)
{
	LOCKMODE	lockmode = access == IDEM_READ ? AccessShareLock : RowExclusiveLock;

	idem_check_access(access);

	store->table = table;
	store->wait = wait;
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

/* The role that the statements on the table run as. */
Oid
idem_store_owner(const IdemStore *store)
{
	return store->heap->rd_rel->relowner;
}

/*
 * What a read sees, for callers who read several rows as of one moment.  They
 * give it to UnregisterSnapshot in the end.
 */
Snapshot
idem_store_snapshot(void)
{
	return RegisterSnapshot(IsolationIsSerializable() ?
							GetTransactionSnapshot() : GetLatestSnapshot());
}

/*
 * What is committed, or our own, for a key: a pure read, which waits for
 * nobody and works on a standby.  Answers IDEM_ABSENT or IDEM_PRESENT.
 */
void
idem_store_read(IdemStore *store, const Datum *key, IdemRow *row)
{
	if (store->index == NULL)
		idem_sql_find(store, key, true, row);
	else
		probe(store, key,
			  IsolationIsSerializable() && !store->table->metadata ?
			  GetTransactionSnapshot() : GetLatestSnapshot(), row);
}

/*
 * The same as of the snapshot's moment; InvalidSnapshot: as of now.  Through
 * SQL it is always as of now.
 */
void
idem_store_read_by(IdemStore *store, Snapshot snapshot, const Datum *key,
				   IdemRow *row)
{
	if (store->index == NULL || snapshot == InvalidSnapshot)
		idem_store_read(store, key, row);
	else
		(void) idem_direct_find(store, key, snapshot, row);
}

/*
 * Is a row, or that there is none, still what is committed?  Who refuses because
 * of a row and of something that was read after it (a policy, the clock) asks
 * this last: else what is answered may have been true at no moment.  False:
 * look again.
 */
bool
idem_store_still(IdemStore *store, const Datum *key, const IdemRow *row)
{
	IdemRow		now;
	bool		same;

	/* a dirty probe has seen what the statement around the call has written */
	if (!IsolationIsSerializable())
		CommandCounterIncrement();
	else if (store->index == NULL)
		return true;			/* SQL would read the same snapshot again */

	if (store->index == NULL)
		idem_sql_find(store, key, true, &now);
	else
		probe(store, key, GetLatestSnapshot(), &now);

	same = (now.presence == IDEM_PRESENT) == (row->presence == IDEM_PRESENT);
	if (same && now.presence == IDEM_PRESENT)
		same = store->index == NULL ? same_values(store->table, &now, row) :
			memcmp(&now.tid, &row->tid, sizeof(ItemPointerData)) == 0;
	if (!same)
		changed(store, key);
	return same;
}

/*
 * The same for a row that is to be changed.  To find out that a key is free,
 * use idem_store_seek.
 */
void
idem_store_find(IdemStore *store, const Datum *key, IdemRow *row)
{
	CHECK_FOR_INTERRUPTS();		/* every caller's loop comes by here */
	Assert(store->nreserved == 0);

	if (store->index == NULL)
	{
		idem_sql_find(store, key, false, row);
		return;
	}

	if (IsolationIsSerializable())
	{
		probe(store, key, GetTransactionSnapshot(), row);
		if (row->presence == IDEM_PRESENT)
			return;
	}
	probe(store, key, GetLatestSnapshot(), row);
	if (row->presence == IDEM_PRESENT && IsolationIsSerializable())
		serialization_error(store->table, key);
}

/*
 * The same for a row that this transaction has inserted, at tid: as long as it
 * is there, the index is not asked.  Nobody else can change a row that is not
 * committed, and if we have, the version at tid is no longer visible.  But in a
 * file that this transaction has made another row may be at tid, or none.
 */
void
idem_store_find_inserted(IdemStore *store, const ItemPointerData *tid,
						 const Datum *key, IdemRow *row)
{
	int			last PG_USED_FOR_ASSERTS_ONLY = store->table->nkeys - 1;

	if (store->index != NULL && ItemPointerIsValid(tid) &&
		store->heap->rd_createSubid == InvalidSubTransactionId &&
		store->heap->rd_firstRelfilelocatorSubid == InvalidSubTransactionId &&
		idem_direct_fetch(store, tid, row))
	{
		Assert(idem_same_bytes(row->values[last], key[last]));
		return;
	}
	idem_store_find(store, key, row);
}

/*
 * Finds a key, or reserves it so that it can be inserted.  Answers
 *
 *		IDEM_PRESENT	the row is in row
 *		IDEM_ABSENT		the key is free, and reserved until idem_store_insert
 *		IDEM_BUSY		with IDEM_NO_WAIT_ANSWER alone: somebody is at it
 */
void
idem_store_seek(IdemStore *store, const Datum *key, IdemRow *row)
{
	do
	{
		CHECK_FOR_INTERRUPTS();

		row->presence = IDEM_BUSY;
		if (store->busy)
			return;

		/*
		 * If another call has this very key reserved, ours is most likely a
		 * duplicate, which is a read and need not wait for the reservation.
		 */
		if (!try_reserve(store, key))
		{
			idem_store_read(store, key, row);
			if (row->presence == IDEM_PRESENT)
				return;
			if (store->wait != IDEM_WAIT)
			{
				row->presence = IDEM_BUSY;
				idem_store_busy(store, key);
				return;
			}
			(void) idem_store_reserve(store, key, 1);
		}

		idem_store_look(store, key, row);
		if (row->presence == IDEM_ABSENT)
			return;
		idem_store_release(store);
		if (row->presence == IDEM_BUSY)
			wait_for_rival(store, key, row);
	} while (row->presence == IDEM_BUSY);
}

/*
 * What is known of a key that is reserved, other transactions included.
 */
void
idem_store_look(IdemStore *store, const Datum *key, IdemRow *row)
{
	SnapshotData dirty;

	if (store->index == NULL)
	{
		idem_sql_find(store, key, false, row);
		return;
	}

	Assert(store->nreserved > 0);
	if (IsolationIsSerializable())
	{
		probe(store, key, GetTransactionSnapshot(), row);
		if (row->presence == IDEM_PRESENT)
			return;
	}
	InitDirtySnapshot(dirty);
	(void) idem_direct_find(store, key, &dirty, row);
	if (row->presence == IDEM_PRESENT && IsolationIsSerializable())
		serialization_error(store->table, key);
}

/*
 * Reserves n keys, at most IDEM_RESERVE_MAX, until idem_store_release: what
 * idem_store_look finds absent then stays absent for everybody who reserves.
 * The locks are taken in the order of their tags, so reservations of several
 * keys never wait for each other in a circle.  False, if waiting is not
 * wanted: somebody else has one of them, and none is reserved.
 */
bool
idem_store_reserve(IdemStore *store, const Datum *keys, int n)
{
	bool		wait = store->wait == IDEM_WAIT;

	Assert(store->nreserved == 0 && n <= IDEM_RESERVE_MAX);

	if (store->index == NULL)
		return true;

	for (int i = 0; i < n; i++)
		key_tag(store, keys + i * store->table->nkeys, &store->reserved[i]);
	if (n > 1)
		qsort(store->reserved, n, sizeof(LOCKTAG), compare_tags);

	for (int i = 0; i < n; i++)
	{
		if (LockAcquire(&store->reserved[i], ExclusiveLock, false, !wait) ==
			LOCKACQUIRE_NOT_AVAIL)
		{
			idem_store_release(store);
			return false;
		}
		store->nreserved = i + 1;
	}
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
 * Inserts a row whose key idem_store_seek found absent, and gives up the
 * reservation.  False: somebody else has the key after all; look again.
 */
bool
idem_store_insert(IdemStore *store, const Datum *values, const bool *nulls)
{
	bool		inserted;

	if (store->index == NULL)
		return idem_sql_insert(store, values, nulls);

	inserted = idem_direct_insert(store, values, nulls);
	idem_store_release(store);
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
	TM_Result	result;

	Assert(store->nreserved == 0 && row->presence == IDEM_PRESENT);

	if (store->index == NULL)
		return idem_sql_lock(store, row, strength);

	context.callback = describe_wait;
	context.arg = &waited_for;
	context.previous = error_context_stack;
	error_context_stack = &context;
	idem_store_begin_wait(store, row->values);
	result = idem_direct_lock(store, &row->tid, strength);
	idem_stat_wait_end();
	error_context_stack = context.previous;

	switch (result)
	{
		case TM_Ok:
			store->locked = row->tid;
			return true;
		case TM_WouldBlock:
			idem_store_busy(store, row->values);
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
	TM_Result	result;

	Assert(store->nreserved == 0);

	if (store->index == NULL)
		return idem_sql_update(store, row, values, nulls);

	if (store->wait != IDEM_WAIT &&
		!(ItemPointerIsValid(&store->locked) &&
		  ItemPointerEquals(&store->locked, &row->tid)) &&
		!idem_store_lock(store, row, IDEM_LOCK_UPDATE))
		return false;

	idem_store_begin_wait(store, values);
	result = idem_direct_update(store, &row->tid, values, nulls);
	idem_stat_wait_end();

	switch (result)
	{
		case TM_Ok:
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

/* Writes a new version, whose values are in row, of a row that is locked. */
void
idem_store_overwrite(IdemStore *store, IdemRow *row)
{
	if (store->index == NULL)
		idem_sql_overwrite(store, row);
	else if (idem_direct_update(store, &row->tid, row->values,
								row->nulls) != TM_Ok)
		elog(ERROR, "row of \"idem.%s\" could not be updated",
			 store->table->relname);
}

/* Deletes a row that was found, and that this transaction has inserted or locked. */
void
idem_store_remove(IdemStore *store, IdemRow *row)
{
	if (store->index == NULL)
		idem_sql_delete(store, row);
	else
		idem_direct_delete(store, &row->tid);
}

/* Where idem_store_insert has inserted a row directly; invalid: nowhere. */
ItemPointerData
idem_store_inserted(const IdemStore *store)
{
	return store->inserted;
}

/* Deletes the row that idem_store_insert has just inserted. */
void
idem_store_remove_new(IdemStore *store, IdemRow *row)
{
	row->tid = store->inserted;
	idem_store_remove(store, row);
}

/* Another transaction is in the way, and this call must not wait. */
void
idem_store_busy(IdemStore *store, const Datum *key)
{
	store->busy = true;
	if (store->wait == IDEM_NO_WAIT_ANSWER)
		return;
	if (store->table->stat == IDEM_STAT_CLAIM)
		idem_stat_count_now(IDEM_STAT_CLAIM_BUSY, key[0]);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_IN_PROGRESS),
			 errmsg("%s is in progress elsewhere", store->table->relname),
			 errdetail("Key %s is held by another open transaction.",
					   idem_store_key(store->table, key)),
			 errhint("Try again later, or let the call wait.")));
}

/* From here to idem_stat_wait_end a wait is counted: for the table's kind. */
void
idem_store_begin_wait(const IdemStore *store, const Datum *key)
{
	idem_stat_wait_begin(store->table->stat, store->table->has_source ?
						 key[0] : IDEM_STAT_NO_SOURCE);
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

/* What is said with 40001, on either route. */
int
idem_store_say_unseen(const IdemTable *table, const Datum *key)
{
	errdetail("Key %s was written by a transaction that this one must not see.",
			  idem_store_key(table, key));
	return errhint("Run the transaction again.");
}


/* Looks a key up by a snapshot, directly. */
static void
probe(IdemStore *store, const Datum *key, Snapshot snapshot, IdemRow *row)
{
	snapshot = RegisterSnapshot(snapshot);
	(void) idem_direct_find(store, key, snapshot, row);
	UnregisterSnapshot(snapshot);
}

/* Are two rows the same in all columns? */
static bool
same_values(const IdemTable *table, const IdemRow *a, const IdemRow *b)
{
	for (int i = 0; i < table->natts; i++)
	{
		int16		len;
		bool		byval;

		get_typlenbyval(table->columns[i].type, &len, &byval);
		if (a->nulls[i] != b->nulls[i] ||
			(!a->nulls[i] &&
			 !datumIsEqual(a->values[i], b->values[i], byval, len)))
			return false;
	}
	return true;
}

/*
 * Reserves one key if nobody else has it reserved at this moment.  False: another
 * call has it reserved, and is about to insert the key or to find it.
 */
static bool
try_reserve(IdemStore *store, const Datum *key)
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

/*
 * Waits until the transaction that was seen inserting the key has ended, unless
 * waiting is not wanted: then the row may be there, for what was seen may have
 * been an update that has committed since.  Only the direct route sees such a
 * transaction.
 */
static void
wait_for_rival(IdemStore *store, const Datum *key, IdemRow *row)
{
	WaitedFor	waited_for = {store->table, key};
	ErrorContextCallback context;

	Assert(store->nreserved == 0);
	if (store->wait != IDEM_WAIT)
	{
		idem_store_find(store, key, row);
		if (row->presence == IDEM_PRESENT)
			return;
		row->presence = IDEM_BUSY;
		idem_store_busy(store, key);
		return;
	}

	context.callback = describe_wait;
	context.arg = &waited_for;
	context.previous = error_context_stack;
	error_context_stack = &context;

	idem_store_begin_wait(store, key);
	if (row->token != 0)
		SpeculativeInsertionWait(row->rival, row->token);
	else
		XactLockTableWait(row->rival, NULL, NULL, XLTW_None);
	idem_stat_wait_end();

	error_context_stack = context.previous;
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

/* CONTEXT of an error that ends a wait: a timeout, a deadlock. */
static void
describe_wait(void *arg)
{
	WaitedFor  *waited_for = arg;

	errcontext("while waiting for the transaction that holds key %s",
			   idem_store_key(waited_for->table, waited_for->key));
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
			 idem_store_say_unseen(table, key)));
}
