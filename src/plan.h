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

/* plan.c: every SQL text that C runs on our own tables */

/* Most columns of a table of ours, and values of a statement. */
#define IDEM_MAX_ATTS		11
#define IDEM_MAX_KEYS		2

/* The statements that follow from a table's columns and key. */
typedef enum IdemStatement
{
	IDEM_FIND,					/* key -> all columns */
	IDEM_INSERT,				/* all columns, ON CONFLICT DO NOTHING */
	IDEM_LOCK,					/* key -> FOR NO KEY UPDATE */
	IDEM_LOCK_NOWAIT,			/* the same, NOWAIT */
	IDEM_LOCK_SHARED,			/* key -> FOR SHARE */
	IDEM_UPDATE,				/* all columns, by key */
	IDEM_DELETE					/* by key */
} IdemStatement;

#define IDEM_STATEMENTS		(IDEM_DELETE + 1)

/* The other statements on our own tables. */
typedef enum IdemPlan
{
	IDEM_PLAN_CLAIM_XMIN,
	IDEM_PLAN_CLAIM_UNSETTLED,
	IDEM_PLAN_CLAIM_LOCK_TABLE,
	IDEM_PLAN_CLAIM_REASSIGN,
	IDEM_PLAN_HOLD_LOCK_TABLE,
	IDEM_PLAN_HOLD_REASSIGN,
	IDEM_PLAN_LOCK_LOCK_TABLE,
	IDEM_PLAN_LOCK_REASSIGN,
	IDEM_PLAN_TRANSITION_LOAD,
	IDEM_PLAN_TRANSITION_DELETE,
	IDEM_PLAN_TRANSITION_INSERT,
	IDEM_PLAN_TOKEN_KEY_SIGNING,
	IDEM_PLAN_TOKEN_KEY_RETIRE,
	IDEM_PLAN_TOKEN_KEY_DROP,
	IDEM_PLAN_STOCK_LOCK,
	IDEM_PLAN_STOCK_LOCK_FREE,
	IDEM_PLAN_STOCK_READ,
	IDEM_PLAN_HOLD_OVERDUE,
	IDEM_PLAN_POLICY_FIND,
	IDEM_PLAN_POLICY_ANY,
	IDEM_PLAN_POLICY_LOAD,
	IDEM_PLAN_POLICY_SET,
	IDEM_PLAN_POLICY_RAISE,
	IDEM_PLAN_CLAIM_PURGE_RANGE,
	IDEM_PLAN_CLAIM_DUE,
	IDEM_PLAN_CLAIM_PURGE_TIDS,
	IDEM_PLAN_CLAIM_WALK,
	IDEM_PLAN_CLAIM_PURGE_KEYS,
	IDEM_PLAN_HOLD_PURGE_RANGE,
	IDEM_PLAN_HOLD_DUE,
	IDEM_PLAN_HOLD_PURGE_TIDS,
	IDEM_PLAN_HOLD_WALK,
	IDEM_PLAN_HOLD_PURGE_KEYS,
	IDEM_PLAN_TOKEN_SPENT_PURGE_RANGE,
	IDEM_PLAN_TOKEN_SPENT_WINDOW,
	IDEM_PLAN_TOKEN_SPENT_PURGE_KEYS,
	IDEM_PLAN_TOKEN_RATE_PURGE_RANGE,
	IDEM_PLAN_TOKEN_RATE_WINDOW,
	IDEM_PLAN_TOKEN_RATE_PURGE_KEYS,
	IDEM_PLAN_CITUS_FIND,
	IDEM_PLAN_CITUS_ROWS,
	IDEM_PLAN_CITUS_DISTRIBUTE,
	IDEM_PLAN_CITUS_REFERENCE,
	IDEM_PLAN_CITUS_TRUNCATE
} IdemPlan;

#define IDEM_PLANS			(IDEM_PLAN_CITUS_TRUNCATE + 1)

struct _SPI_plan;

typedef struct IdemKeptPlan
{
	const char *text;
	int			expected;		/* code that SPI must answer with */
	int			nargs;
	Oid			argtypes[IDEM_MAX_ATTS];
	bool		metadata;		/* latest state, whatever the isolation level */
	bool		by_key;			/* an index finds its rows, at any size */
	struct _SPI_plan *plan;		/* NULL until the first use */
} IdemKeptPlan;

/*
 * A table of ours, as the script makes it.  Its primary key is its first nkeys
 * columns, each text COLLATE "C" or int4; only keys all of text can be
 * reserved.  The statements and what stands behind them are filled in later,
 * the latter by store_guard.c, anew after each invalidation.
 */
typedef struct IdemTable
{
	const char *relname;		/* in schema idem */
	const char *keyname;		/* of the key's columns, for messages */
	int			nkeys;
	bool		reversed;		/* the primary key has them in reverse order */
	int			natts;
	int			required;		/* so many columns are NOT NULL, the first */
	IdemColumn	columns[IDEM_MAX_ATTS];
	bool		metadata;		/* idem_store_read sees its latest state,
								 * whatever the isolation level */
	int			secondary;		/* number of a column with an index of its own
								 * over its values but nulls; 0: none */
	bool		speculative;	/* what is inserted in vain leaves no trace,
								 * at the price of a WAL record for each row */

	IdemStatKind stat;			/* what waits and ID409 count as */
	bool		has_source;		/* the first column is a source */

	IdemKeptPlan statements[IDEM_STATEMENTS];

	Oid			relid;			/* InvalidOid: look it up */
	enum
	{
		IDEM_ROUTE_UNKNOWN,
		IDEM_ROUTE_FILLING,
		IDEM_ROUTE_KNOWN
	}			route;
	Oid			index;			/* InvalidOid: not as made, go through SQL */
	Oid			secondary_index;
} IdemTable;

extern IdemKeptPlan *idem_plan_kept(IdemPlan plan);
extern IdemKeptPlan *idem_plan_of_table(IdemTable *table,
										IdemStatement statement);
extern void idem_plan_lock_timeout(int ms);

/* plan_run.c: the statements are run */
extern uint64 idem_plan_execute(IdemPlan plan, Oid owner, bool read_only,
								const Datum *values, const bool *nulls,
								Datum *result, bool *resultnull,
								int nresult);
extern uint64 idem_table_execute(IdemTable *table, IdemStatement statement,
								 Oid owner, bool read_only,
								 const Datum *values, const bool *nulls,
								 Datum *result, bool *resultnull);

/* one row, with a context; false: no more are wanted */
typedef bool (*IdemPlanRow) (const Datum *values, const bool *nulls,
							 void *context);

extern void idem_plan_read(IdemPlan plan, Oid owner, IdemPlanRow take_row,
						   void *context);

/* nowait.c: a statement that must not wait */
#define IDEM_NOWAIT_TRIES	8	/* of an insert: 1, 2, 4 to 128 ms */

extern bool idem_nowait_execute(IdemTable *table,
								IdemStatement statement, Oid owner,
								const Datum *values, const bool *nulls,
								int tries, uint64 *processed);

#endif							/* IDEM_PLAN_H */
