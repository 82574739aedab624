/*-------------------------------------------------------------------------
 *
 * stat.h
 *	  Counters of what the calls came to, for those who watch the server.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_STAT_H
#define IDEM_STAT_H

#include "idem.h"

#include "port/atomics.h"

/* What counters belong to.  The last ones are no kinds of the view. */
typedef enum IdemStatKind
{
	IDEM_STAT_CLAIM,
	IDEM_STAT_ATTEMPT,
	IDEM_STAT_LOCK,
	IDEM_STAT_TOKEN,
	IDEM_STAT_STOCK,
	IDEM_STAT_PURGE,
	IDEM_STAT_KINDS,
	IDEM_STAT_SINCE = IDEM_STAT_KINDS,	/* when a database was reset */
	IDEM_STAT_RUN,				/* IDEM_STAT_RUN + IdemStatRun: its last one */
	IDEM_STAT_RUN_END = IDEM_STAT_RUN + 2
} IdemStatKind;

/* Cells of a kind: its outcomes, and behind them waits that have none. */
#define IDEM_STAT_OUTCOMES	6
#define IDEM_STAT_CELLS		(IDEM_STAT_OUTCOMES + 1)

/* An outcome names its kind, too. */
#define IDEM_STAT_OUTCOME(kind, cell)	((kind) * 8 + (cell))
#define IDEM_STAT_KIND_OF(outcome)		((IdemStatKind) ((outcome) / 8))
#define IDEM_STAT_CELL_OF(outcome)		((outcome) % 8)

typedef enum IdemStatOutcome
{
	IDEM_STAT_CLAIM_FIRST = IDEM_STAT_OUTCOME(IDEM_STAT_CLAIM, 0),
	IDEM_STAT_CLAIM_DUPLICATE,
	IDEM_STAT_CLAIM_OTHER_REQUEST,
	IDEM_STAT_CLAIM_BUSY,
	IDEM_STAT_CLAIM_GONE,
	IDEM_STAT_ATTEMPT_GRANTED = IDEM_STAT_OUTCOME(IDEM_STAT_ATTEMPT, 0),
	IDEM_STAT_ATTEMPT_TAKEN_OVER,
	IDEM_STAT_ATTEMPT_EXPIRED,
	IDEM_STAT_ATTEMPT_COMPLETED,
	IDEM_STAT_ATTEMPT_FAILED,
	IDEM_STAT_ATTEMPT_STALE,
	IDEM_STAT_LOCK_GRANTED = IDEM_STAT_OUTCOME(IDEM_STAT_LOCK, 0),
	IDEM_STAT_LOCK_REFUSED,
	IDEM_STAT_LOCK_LOST,
	IDEM_STAT_TOKEN_ISSUED = IDEM_STAT_OUTCOME(IDEM_STAT_TOKEN, 0),
	IDEM_STAT_TOKEN_CONSUMED,
	IDEM_STAT_TOKEN_REFUSED,
	IDEM_STAT_TOKEN_LIMITED,
	IDEM_STAT_STOCK_RESERVED = IDEM_STAT_OUTCOME(IDEM_STAT_STOCK, 0),
	IDEM_STAT_STOCK_SHORT,
	IDEM_STAT_STOCK_CONFIRMED,
	IDEM_STAT_STOCK_RELEASED,
	IDEM_STAT_STOCK_EXPIRED,
	IDEM_STAT_PURGE_RUNS = IDEM_STAT_OUTCOME(IDEM_STAT_PURGE, 0),
	IDEM_STAT_PURGE_ROWS
} IdemStatOutcome;

/* For locks, tokens, and whatever has no source. */
#define IDEM_STAT_NO_SOURCE		((Datum) 0)

/* What a run of a procedure did, for idem_stat_run. */
typedef enum IdemStatRun
{
	IDEM_STAT_RUN_PURGE,
	IDEM_STAT_RUN_EXPIRE
} IdemStatRun;

typedef struct IdemStatRunState
{
	TimestampTz started;
	TimestampTz ended;			/* 0: it runs, or was cut short */
	uint64		keys_read;
	uint64		removed;
	uint64		usecs;
} IdemStatRunState;

/* stat_count.c: what a call reports */
extern void idem_stat_count(IdemStatOutcome outcome, Datum source, uint64 n);
extern void idem_stat_count_now(IdemStatOutcome outcome, Datum source);
extern void idem_stat_no_outcome(void);
extern void idem_stat_wait_begin(IdemStatKind kind, Datum source);
extern void idem_stat_wait_end(void);
extern void idem_stat_waited(IdemStatKind kind, Datum source, uint64 waits,
							 uint64 usecs);
extern void idem_stat_count_init(void);

/* stat.c: the counters in shared memory */
typedef struct IdemStatCell
{
	pg_atomic_uint64 count;
	pg_atomic_uint64 waits;
	pg_atomic_uint64 wait_usecs;
} IdemStatCell;

typedef struct IdemStatSlot
{
	pg_atomic_uint32 pins;
	Oid			database;
	uint8		kind;
	uint8		sourcelen;		/* 0: no source, or the sum of several */
	char		source[IDEM_SOURCE_MAX];
	IdemStatCell cells[IDEM_STAT_CELLS];
} IdemStatSlot;

extern void idem_stat_init(void);
extern bool idem_stat_attach(void);
extern uint64 idem_stat_hash(IdemStatKind kind, const char *source, int len);
extern IdemStatSlot *idem_stat_pin(IdemStatKind kind, const char *source,
								   int len, uint64 hash);
extern void idem_stat_unpin(IdemStatSlot *slot);
extern IdemStatSlot *idem_stat_next(int *position);
extern void idem_stat_clear(void);
extern TimestampTz idem_stat_since(void);
extern void idem_stat_run(IdemStatRun run, const IdemStatRunState *state);

#endif							/* IDEM_STAT_H */
