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

#include "portability/instr_time.h"

/* Most buckets of an item that idem_stock_add makes, and that come by themselves. */
#define IDEM_BUCKETS_MAX		1024
#define IDEM_BUCKETS_SPREAD		64

/* Digits of a quantity: in all, and behind the point. */
#define IDEM_QUANTITY_DIGITS	38
#define IDEM_QUANTITY_SCALE		18

/* stock_quantity.c: what a quantity may be, and reckoning with them */
extern Datum idem_quantity_arg(FunctionCallInfo fcinfo, int argno,
							   const char *name, bool may_be_zero);
extern Datum idem_quantity_check(Datum value, const char *name,
								 bool may_be_zero);
extern Datum idem_quantity_add(Datum a, Datum b);
extern Datum idem_quantity_subtract(Datum a, Datum b);
extern int	idem_quantity_compare(Datum a, Datum b);
extern char *idem_quantity_text(Datum quantity);

/* bucket.c: the quantity of an item, in one row or many */
typedef struct IdemLines IdemLines;

typedef enum IdemMoved
{
	IDEM_MOVED,					/* all lines have what they want */
	IDEM_SHORT,					/* there is less of some item: nothing is done */
	IDEM_TAKEN					/* others are at it: nothing is done */
} IdemMoved;

extern IdemTable idem_stock_table;
extern void idem_bucket_open(IdemStore *store, IdemAccess access);
extern Datum idem_bucket_total(IdemStore *store, Datum item);
extern IdemLines *idem_bucket_lines(Datum source, int n);
extern void idem_bucket_line(IdemLines *lines, Datum item, Datum quantity);
extern bool idem_bucket_short(IdemStore *store, IdemLines *lines,
							  Snapshot snapshot);
extern IdemMoved idem_bucket_move(IdemStore *store, IdemLines *lines, bool wait,
								  bool *waited);
extern void idem_bucket_add(IdemStore *store, Datum item, Datum quantity,
							int nbuckets);

/* bucket_wait.c: waiting for whoever of several ends first */
typedef struct IdemPatience
{
	instr_time	began;			/* zero: not yet */
	int			naps;
	double		napped;			/* milliseconds since a lock was waited for */
} IdemPatience;

extern void idem_bucket_wait(IdemPatience *patience, IdemStore *store,
							 Datum source, Datum item, int32 number);

/* stock_hold.c: the row of an order */
typedef enum IdemHoldColumn
{
	HOLD_SOURCE,
	HOLD_SEQ,
	HOLD_OWNER,
	HOLD_STATUS,
	HOLD_EXPIRES_AT,
	HOLD_RESERVED_AT,
	HOLD_DECIDED_AT,
	HOLD_ITEMS,
	HOLD_QUANTITIES,
	HOLD_FIRSTS,
	HOLD_COLUMNS
} IdemHoldColumn;

#define HOLD_KEYS		2

/* Column status, as stored. */
typedef enum IdemHoldStatus
{
	HOLD_HELD = 'h',
	HOLD_CONFIRMED = 'c',
	HOLD_RELEASED = 'r',
	HOLD_EXPIRED = 'x'
} IdemHoldStatus;

/* What an order has of one item. */
typedef struct IdemPart
{
	Datum		item;
	Datum		quantity;		/* numeric: held, or held when it was decided */
	Datum		first;			/* numeric: when the order took the item up */
} IdemPart;

extern IdemTable idem_hold_table;
extern void idem_hold_new(const Datum *key, IdemHoldStatus status, IdemRow *row);
extern IdemHoldStatus idem_hold_status(const IdemRow *row);
extern const char *idem_hold_status_name(IdemHoldStatus status);
extern void idem_hold_decide(IdemRow *row, IdemHoldStatus status);
extern void idem_hold_set_due(IdemRow *row, const Interval *ttl);
extern int	idem_hold_parts(const IdemRow *row, IdemPart **parts);
extern void idem_hold_set_parts(IdemRow *row, const IdemPart *parts, int n);
extern IdemLines *idem_hold_lines(const Datum *key, const IdemPart *parts,
								  int n, bool give);
extern bool idem_hold_short(IdemStore *holds, IdemStore *stock,
							const Datum *key, IdemLines *lines, IdemRow *row);
extern void idem_hold_write(IdemStore *holds, IdemRow *row);
extern int	idem_hold_compare(const void *a, const void *b);
extern void idem_hold_stale(const Datum *key, IdemHoldStatus status,
							const char *hint);

#endif							/* IDEM_STOCK_H */
