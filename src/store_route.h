/*-------------------------------------------------------------------------
 *
 * store_route.h
 *	  The two routes to idem's own tables, for src/store*.c alone.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_STORE_ROUTE_H
#define IDEM_STORE_ROUTE_H

#include "store.h"

#include "access/skey.h"

/* store_guard.c, owner.c: what they register when the library is loaded */
extern void idem_table_init(void);
extern void idem_owner_init(void);

/* store_direct.c: the direct route */
extern bool idem_direct_find(IdemStore *store, const Datum *key,
							 Snapshot snapshot, IdemRow *row);
extern bool idem_direct_fetch(IdemStore *store, const ItemPointerData *tid,
							  IdemRow *row);
extern bool idem_direct_insert(IdemStore *store, const Datum *values,
							   const bool *nulls);
extern TM_Result idem_direct_lock(IdemStore *store, const ItemPointerData *tid,
								  IdemRowLock strength);
extern TM_Result idem_direct_update(IdemStore *store, ItemPointer tid,
									const Datum *values, const bool *nulls);
extern void idem_direct_delete(IdemStore *store, ItemPointer tid);
extern bool idem_direct_judge(const IdemStore *store, HeapTuple tuple,
							  Snapshot snapshot, IdemRow *row);
extern void idem_direct_scankey(ScanKey scankey, const IdemTable *table, int i,
								Datum value);

/* store_sql.c: the route through SQL */
extern void idem_sql_find(IdemStore *store, const Datum *key, bool read_only,
						  IdemRow *row);
extern bool idem_sql_insert(IdemStore *store, const Datum *values,
							const bool *nulls);
extern bool idem_sql_lock(IdemStore *store, const IdemRow *row,
						  IdemRowLock strength);
extern bool idem_sql_update(IdemStore *store, const IdemRow *row,
							const Datum *values, const bool *nulls);
extern void idem_sql_overwrite(IdemStore *store, const IdemRow *row);
extern void idem_sql_delete(IdemStore *store, const IdemRow *row);

#endif							/* IDEM_STORE_ROUTE_H */
