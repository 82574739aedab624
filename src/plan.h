/*-------------------------------------------------------------------------
 *
 * plan.h
 *	  The statements that C runs on our own tables.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_PLAN_H
#define IDEM_PLAN_H

#include "stat.h"

/* Most columns of a table of ours, and values of a statement. */
#define IDEM_MAX_ATTS		10

/* plan.c: every SQL text that C runs, first those on our own tables */
typedef enum IdemPlan
{
	IDEM_PLAN_CLAIM_FIND,
	IDEM_PLAN_CLAIM_INSERT,
	IDEM_PLAN_CLAIM_LOCK,
	IDEM_PLAN_CLAIM_LOCK_AT_ONCE,
	IDEM_PLAN_CLAIM_UPDATE,
	IDEM_PLAN_CLAIM_FORGET,
	IDEM_PLAN_CLAIM_WINDOW,
	IDEM_PLAN_CLAIM_PURGE,
	IDEM_PLAN_LOCK_FIND,
	IDEM_PLAN_LOCK_INSERT,
	IDEM_PLAN_LOCK_LOCK,
	IDEM_PLAN_LOCK_LOCK_AT_ONCE,
	IDEM_PLAN_LOCK_SHARE,
	IDEM_PLAN_LOCK_UPDATE,
	IDEM_PLAN_TRANSITION_LOAD,
	IDEM_PLAN_TRANSITION_DELETE,
	IDEM_PLAN_TRANSITION_INSERT,
	IDEM_PLAN_TOKEN_KEY_FIND,
	IDEM_PLAN_TOKEN_KEY_INSERT,
	IDEM_PLAN_TOKEN_KEY_SIGNING,
	IDEM_PLAN_TOKEN_KEY_RETIRE,
	IDEM_PLAN_TOKEN_KEY_DROP,
	IDEM_PLAN_TOKEN_SPENT_FIND,
	IDEM_PLAN_TOKEN_SPENT_INSERT,
	IDEM_PLAN_TOKEN_SPENT_WINDOW,
	IDEM_PLAN_TOKEN_SPENT_PURGE,
	IDEM_PLAN_TOKEN_RATE_FIND,
	IDEM_PLAN_TOKEN_RATE_INSERT,
	IDEM_PLAN_TOKEN_RATE_LOCK,
	IDEM_PLAN_TOKEN_RATE_UPDATE,
	IDEM_PLAN_TOKEN_RATE_WINDOW,
	IDEM_PLAN_TOKEN_RATE_PURGE,
	IDEM_PLAN_STOCK_FIND,
	IDEM_PLAN_STOCK_INSERT,
	IDEM_PLAN_STOCK_LOCK,
	IDEM_PLAN_STOCK_LOCK_FREE,
	IDEM_PLAN_STOCK_UPDATE,
	IDEM_PLAN_STOCK_ADD,
	IDEM_PLAN_STOCK_READ,
	IDEM_PLAN_HOLD_FIND,
	IDEM_PLAN_HOLD_INSERT,
	IDEM_PLAN_HOLD_LOCK,
	IDEM_PLAN_HOLD_UPDATE,
	IDEM_PLAN_HOLD_REMOVE,
	IDEM_PLAN_HOLD_EXPIRE,
	IDEM_PLAN_HOLD_WINDOW,
	IDEM_PLAN_HOLD_PURGE
} IdemPlan;

#define IDEM_PLANS			(IDEM_PLAN_HOLD_PURGE + 1)

extern uint64 idem_plan_execute(IdemPlan plan, Oid owner, bool read_only,
								const Datum *values, const bool *nulls,
								Datum *result, bool *resultnull,
								int nresult);

/* nowait.c: the same, for a caller who is not to wait */
#define IDEM_NOWAIT_TRIES	8	/* of an insert: 1, 2, 4 to 128 ms */

extern bool idem_nowait_execute(IdemPlan plan, Oid owner,
								const Datum *values, const bool *nulls,
								int tries, uint64 *processed);

#endif							/* IDEM_PLAN_H */
