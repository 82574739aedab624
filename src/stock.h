/*-------------------------------------------------------------------------
 *
 * stock.h
 *	  Stock and the orders that hold it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_STOCK_H
#define IDEM_STOCK_H

#include "store.h"

#include "nodes/pg_list.h"

/* Most buckets of an item. */
#define IDEM_BUCKETS_MAX	1024

/* bucket.c: the quantity of an item, in one row or many */
typedef struct IdemBucket
{
	int32		number;
	Datum		quantity;		/* numeric */
	bool		empty;			/* seen at a glance; false says nothing */
	TransactionId holder;		/* who was at it, or InvalidTransactionId;
								 * direct route, where it is seen at a glance */
	ItemPointerData tid;		/* direct route */
} IdemBucket;

/* What is wanted of an item, and where it is taken from. */
typedef struct IdemLine
{
	Datum		item;
	Datum		quantity;		/* numeric */
	bool		wanted;			/* false: nothing is to be taken */

	/* bucket.c's, all zero at first */
	int			nbuckets;
	IdemBucket *buckets;		/* as they were read last */
	int			first;			/* where looking begins among them */
	int32		chosen;			/* bucket that it was thought to come from */
	bool		glimpsed;		/* only some were read, of which the last has
								 * enough, and was free */
	bool		ready;			/* takes are locked, and enough */
	bool		in_order;		/* buckets are locked in order, from the first */
	bool		waits;			/* for what follows */
	IdemBucket	busy;			/* the one to wait for */
	TransactionId holder;		/* wait for this one, or InvalidTransactionId */
	int			ntakes;
	IdemBucket *takes;			/* buckets, as they were */
	Datum	   *parts;			/* numeric, of each */
} IdemLine;

typedef enum IdemPlanned
{
	IDEM_PLANNED,				/* all lines have what they want */
	IDEM_SHORT,					/* there is less of some item */
	IDEM_MUST_WAIT				/* for the bucket that a line names */
} IdemPlanned;

extern IdemTable idem_stock_table;
extern Datum idem_bucket_total(IdemStore *store, Datum item);
extern int	idem_bucket_read(IdemStore *store, Datum item,
							 IdemBucket **buckets);
extern bool idem_bucket_short(IdemStore *store, IdemLine *lines, int n);
extern IdemPlanned idem_bucket_choose(IdemLine *lines, int n);
extern IdemPlanned idem_bucket_plan(IdemStore *store, IdemLine *lines, int n);
extern void idem_bucket_wait(IdemStore *store, IdemLine *lines, int n);
extern void idem_bucket_take(IdemStore *store, IdemLine *lines, int n);
extern void idem_bucket_give(IdemStore *store, Datum item, int32 number,
							 Datum quantity);
extern void idem_bucket_give_many(IdemStore *store, Datum item,
								  const int32 *numbers,
								  const Datum *quantities, int n);
extern void idem_bucket_add(IdemStore *store, Datum item, Datum quantity,
							int nbuckets);

/* stock.c: orders, for those who end them */
extern IdemTable idem_hold_table;
extern List *idem_stock_collect(List *parts, Datum items, Datum buckets,
								Datum quantities);
extern void idem_stock_give_back(List *parts);

#endif							/* IDEM_STOCK_H */
