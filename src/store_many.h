/*-------------------------------------------------------------------------
 *
 * store_many.h
 *	  Many rows of a table of ours: inserted together, looked up in order, those
 *	  that begin alike, those of some blocks.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_STORE_MANY_H
#define IDEM_STORE_MANY_H

#include "store.h"

#include "utils/snapshot.h"

/* store_direct.c: rows inserted together, on the direct route */
extern int	idem_store_insert_many(IdemStore *store, Datum **values,
								   bool **nulls, int n);

/* store_batch.c: many keys looked up, from ..._begin to ..._end */
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

/* store_range.c: the rows that have a first key column in common */
typedef struct IdemRange
{
	IdemStore  *store;
	Snapshot	snapshot;
	bool		own_snapshot;
	struct SysScanDescData *scandesc;
} IdemRange;

typedef enum IdemTryLock
{
	IDEM_ROW_LOCKED,
	IDEM_ROW_HELD,				/* another transaction has it locked */
	IDEM_ROW_CHANGED			/* since it was read */
} IdemTryLock;

extern void idem_range_begin(IdemRange *range, IdemStore *store,
							 Snapshot snapshot, Datum first, int32 from);
extern bool idem_range_next(IdemRange *range, IdemRow *row, bool *held);
extern void idem_range_end(IdemRange *range);
extern IdemTryLock idem_range_lock(IdemStore *store, const ItemPointerData *tid);

/* store_blocks.c: a table in the order of its blocks */
extern bool idem_blocks_exist(const IdemStore *store);
extern BlockNumber idem_blocks_number(const IdemStore *store);
extern int	idem_blocks_window(const IdemStore *store, BlockNumber end,
							   int max_rows, BlockNumber *block,
							   OffsetNumber *offset);

#endif							/* IDEM_STORE_MANY_H */
