/*-------------------------------------------------------------------------
 *
 * store.h
 *	  idem's own tables: found, read and written, directly or through SQL.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_STORE_H
#define IDEM_STORE_H

#include "plan.h"

#include "access/skey.h"
#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/relcache.h"

/* store_guard.c: a table of ours, and whether it is as our script made it */
extern void idem_table_init(void);
extern Oid	idem_find_table(const char *relname);
extern Relation idem_table_open(IdemTable *table, LOCKMODE lockmode,
								bool direct, Relation *index);

/* store.c: idem's own hot tables, directly or through SQL */
#define IDEM_RESERVE_MAX	128

/* What becomes of a call that would have to wait for another transaction. */
typedef enum IdemWait
{
	IDEM_NO_WAIT,				/* it raises ID409 */
	IDEM_WAIT,
	IDEM_NO_WAIT_ANSWER			/* its caller is told IDEM_BUSY */
} IdemWait;

/* A table in use, from idem_store_open to idem_store_close. */
typedef struct IdemStore
{
	IdemTable  *table;
	Relation	heap;
	Relation	index;			/* NULL: through SQL */
	Oid			secondary;		/* the index on column secondary */
	IdemWait	wait;

	/* how the call stands with one key: for store*.c alone */
	bool		busy;			/* another transaction was in the way */
	bool		row_locked;		/* through SQL: the row found is locked */
	ItemPointerData locked;		/* directly: this row version is locked */
	ItemPointerData inserted;	/* directly: the row inserted last */
	int			refused;		/* through SQL: writes that came to nothing */
	int			nreserved;
	LOCKTAG		reserved[IDEM_RESERVE_MAX];
} IdemStore;

/* What is known of a key. */
typedef enum IdemPresence
{
	IDEM_ABSENT,				/* nobody has it */
	IDEM_PRESENT,				/* the row is in IdemRow */
	IDEM_BUSY					/* an open transaction is inserting it */
} IdemPresence;

typedef struct IdemRow
{
	IdemPresence presence;
	TransactionId rival;		/* IDEM_BUSY: whom to wait for */
	uint32		token;			/* IDEM_BUSY: its speculative insertion, or 0 */
	ItemPointerData tid;
	Datum		values[IDEM_MAX_ATTS];
	bool		nulls[IDEM_MAX_ATTS];
} IdemRow;

/* How firmly a row is locked: nobody else may write it, either way. */
typedef enum IdemRowLock
{
	IDEM_LOCK_UPDATE,			/* to write it */
	IDEM_LOCK_SHARE				/* others may hold such a lock, too */
} IdemRowLock;

extern void idem_store_init(void);
extern void idem_store_open(IdemStore *store, IdemTable *table,
							IdemAccess access, IdemWait wait);
extern void idem_store_close(IdemStore *store);
extern void idem_store_next_key(IdemStore *store);
extern bool idem_store_is_direct(const IdemStore *store);
extern void idem_store_read(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_find(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_seek(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_look(IdemStore *store, const Datum *key, IdemRow *row);
extern bool idem_store_reserve(IdemStore *store, const Datum *keys, int n);
extern void idem_store_release(IdemStore *store);
extern bool idem_store_insert(IdemStore *store, const Datum *values,
							  const bool *nulls);
extern bool idem_store_lock(IdemStore *store, const IdemRow *row,
							IdemRowLock strength);
extern bool idem_store_update(IdemStore *store, IdemRow *row,
							  const Datum *values, const bool *nulls);
extern void idem_store_remove(IdemStore *store, IdemRow *row);
extern void idem_store_busy(IdemStore *store, const Datum *key);
extern void idem_store_begin_wait(const IdemStore *store, const Datum *key);
extern char *idem_store_key(const IdemTable *table, const Datum *key);

/* store_direct.c: the direct route, for store.c and scans of several keys */
extern bool idem_direct_find(IdemStore *store, const Datum *key,
							 Snapshot snapshot, IdemRow *row);
extern bool idem_direct_insert(IdemStore *store, const Datum *values,
							   const bool *nulls);
extern int	idem_store_insert_many(IdemStore *store, Datum **values,
								   bool **nulls, int n);
extern TM_Result idem_direct_lock(IdemStore *store, const ItemPointerData *tid,
								  IdemRowLock strength);
extern TM_Result idem_direct_update(IdemStore *store, ItemPointer tid,
									const Datum *values, const bool *nulls);
extern void idem_direct_delete(IdemStore *store, ItemPointer tid);
extern bool idem_store_judge(const IdemStore *store, HeapTuple tuple,
							 Snapshot snapshot, IdemRow *row);
extern void idem_store_scankey(ScanKey scankey, const IdemTable *table, int i,
							   Datum value);

/* store_sql.c: the route through SQL, for store.c */
extern void idem_sql_find(IdemStore *store, const Datum *key, bool read_only,
						  IdemRow *row);
extern bool idem_sql_insert(IdemStore *store, const Datum *values,
							const bool *nulls);
extern bool idem_sql_lock(IdemStore *store, const IdemRow *row,
						  IdemRowLock strength);
extern bool idem_sql_update(IdemStore *store, const IdemRow *row,
							const Datum *values, const bool *nulls);
extern void idem_sql_delete(IdemStore *store, const IdemRow *row);
extern void idem_sql_refused(IdemStore *store, const Datum *key);

/* owner.c: whose a record is */
extern Datum idem_current_owner(void);
extern bool idem_may_act_as(Datum owner);
extern bool idem_is_administrator(void);
extern void idem_check_owner(const IdemTable *table, const Datum *key,
							 Datum owner);

/* batch_scan.c: many keys looked up, from ..._begin to ..._end */
typedef struct IdemBatchScan
{
	IdemStore  *store;
	const Datum *last;			/* the last key */
	SnapshotData snapshot;
	struct SysScanDescData *scandesc;	/* NULL: begin at the next key */
	HeapTuple	ahead;			/* the row it stands at; NULL: behind the last */
	int			max_skip;		/* rows to skip for a key; 0: look each up */
} IdemBatchScan;

extern void idem_batch_scan_begin(IdemBatchScan *scan, IdemStore *store,
								  const Datum *keys, int n);
extern void idem_batch_scan_find(IdemBatchScan *scan, const Datum *key, IdemRow *row);
extern void idem_batch_scan_end(IdemBatchScan *scan);

#endif							/* IDEM_STORE_H */
