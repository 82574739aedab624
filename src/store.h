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

#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* store_guard.c: a table of ours, and whether it is as our script made it */
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

/*
 * A table in use, from idem_store_open to idem_store_close.  All but table is for
 * store*.c alone.
 */
typedef struct IdemStore
{
	IdemTable  *table;
	Relation	heap;
	Relation	index;			/* NULL: through SQL */
	Oid			secondary;		/* the index on column secondary */
	IdemWait	wait;

	/* how the call stands with one key */
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

/* What was found of a key that is not on record. */
extern const IdemRow idem_no_row;

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
extern Oid	idem_store_owner(const IdemStore *store);
extern Snapshot idem_store_snapshot(void);
extern void idem_store_read(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_read_by(IdemStore *store, Snapshot snapshot,
							   const Datum *key, IdemRow *row);
extern bool idem_store_still(IdemStore *store, const Datum *key,
							 const IdemRow *row);
extern void idem_store_find(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_find_inserted(IdemStore *store,
									 const ItemPointerData *tid,
									 const Datum *key, IdemRow *row);
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
extern void idem_store_overwrite(IdemStore *store, IdemRow *row);
extern void idem_store_remove(IdemStore *store, IdemRow *row);
extern ItemPointerData idem_store_inserted(const IdemStore *store);
extern void idem_store_remove_new(IdemStore *store, IdemRow *row);
extern void idem_store_busy(IdemStore *store, const Datum *key);
extern void idem_store_begin_wait(const IdemStore *store, const Datum *key);
extern char *idem_store_key(const IdemTable *table, const Datum *key);
extern int	idem_store_say_unseen(const IdemTable *table, const Datum *key);

/* store_sql.c: a statement on one row that only SQL needs */
extern uint64 idem_store_execute(IdemStore *store, IdemPlan plan,
								 const Datum *key, Datum *result,
								 bool *resultnull, int nresult);

/* owner.c: whose a record is */
extern Datum idem_current_owner(void);
extern bool idem_may_act_as(Datum owner);
extern bool idem_is_administrator(void);
extern void idem_check_owner(const IdemTable *table, const Datum *key,
							 Datum owner);

#endif							/* IDEM_STORE_H */
