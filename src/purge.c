/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  Removes what is finished and old, for all primitives.
 *
 * The contract.  What of a table is finished is said by its plan; what is not,
 * or not for long enough, stays.  A primary key is walked once, in windows of
 * so many keys with a commit after each, so that no lock and no snapshot is
 * held for long, and a walk that is cut short has done what it reported.
 *
 * Concurrency.  Whether a row may go is judged by the statement that deletes
 * it, on the row as committed; if somebody is changing it, the server waits
 * and judges the new version.  That is read committed, in which each window
 * runs whatever the session's default.  What comes to be finished behind the
 * walk waits for the next one.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"
#include "stock.h"
#include "token.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/*
 * What is purged.  The first plan answers the key at the end of a window: key
 * before it, number of keys; the second one removes what is finished in it:
 * key before it, last key, cutoff, present time.
 */
typedef struct Purge
{
	const char *what;			/* plural, for messages */
	IdemTable  *table;
	IdemPlan	window;
	IdemPlan	remove;
} Purge;

static const Purge purges[] = {
	{"claims", &idem_claim_table,
	IDEM_PLAN_CLAIM_WINDOW, IDEM_PLAN_CLAIM_PURGE},
	{"holds", &idem_hold_table,
	IDEM_PLAN_HOLD_WINDOW, IDEM_PLAN_HOLD_PURGE},
	{"spent tokens", &idem_token_spent_table,
	IDEM_PLAN_TOKEN_SPENT_WINDOW, IDEM_PLAN_TOKEN_SPENT_PURGE},
	{"token counts", &idem_token_rate_table,
	IDEM_PLAN_TOKEN_RATE_WINDOW, IDEM_PLAN_TOKEN_RATE_PURGE}
};

static void purge_table(const Purge *purge, TimestampTz cutoff, int32 batch);
static bool purge_window(const Purge *purge, TimestampTz cutoff,
						 int32 batch, Datum *from, uint64 *purged);

PG_FUNCTION_INFO_V1(idem_purge);


/*
 * CALL idem_purge(older_than interval, batch integer)
 *
 * Removes what was finished longer than older_than ago.
 */
Datum
idem_purge(PG_FUNCTION_ARGS)
{
	Interval   *older_than = idem_arg_interval(fcinfo, 0, "older_than");
	int32		batch = idem_arg_count(fcinfo, 1, "batch", PG_INT32_MAX);
	TimestampTz cutoff;

	idem_check_nonatomic(fcinfo, "idem_purge");

	cutoff = GetCurrentTimestamp() - idem_interval_usecs(older_than);

	for (int i = 0; i < (int) lengthof(purges); i++)
		purge_table(&purges[i], cutoff, batch);

	PG_RETURN_VOID();
}


/* Walks one table. */
static void
purge_table(const Purge *purge, TimestampTz cutoff, int32 batch)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		from[IDEM_MAX_KEYS];
	uint64		purged = 0;
	bool		more = true;

	for (int i = 0; i < IDEM_MAX_KEYS; i++)
		from[i] = CStringGetTextDatum("");

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	while (more)
	{
		/*
		 * Each window has a transaction of its own, the first one too, and it
		 * is read committed: above that a row that somebody changed meanwhile
		 * would be 40001, and the walk would end there every night.
		 */
		SPI_commit();
		CHECK_FOR_INTERRUPTS();
		(void) set_config_option("transaction_isolation", "read committed",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
								 true, 0, false);

		MemoryContextSwitchTo(caller);	/* which outlives the commit */
		more = purge_window(purge, cutoff, batch, from, &purged);
	}
	SPI_commit();
	SPI_finish();
}

/*
 * Purges the window that follows from, which moves to its end.  False: there
 * is nothing that follows.
 */
static bool
purge_window(const Purge *purge, TimestampTz cutoff, int32 batch,
			 Datum *from, uint64 *purged)
{
	int			nkeys = purge->table->nkeys;
	Datum		values[2 * IDEM_MAX_KEYS + 2];
	Datum		last[IDEM_MAX_KEYS];
	bool		nulls[IDEM_MAX_KEYS];
	IdemStore	store;
	Oid			owner;
	bool		more;

	idem_store_open(&store, purge->table, IDEM_WRITE, true);
	owner = store.heap->rd_rel->relowner;

	memcpy(values, from, nkeys * sizeof(Datum));
	values[nkeys] = Int32GetDatum(batch);
	more = idem_plan_execute(purge->window, owner, false, values, NULL, last,
							 nulls, nkeys) > 0;
	if (more)
	{
		uint64		removed;

		for (int i = 0; i < nkeys; i++)
			from[i] = values[nkeys + i] = last[i];
		values[2 * nkeys] = TimestampTzGetDatum(cutoff);
		values[2 * nkeys + 1] = TimestampTzGetDatum(GetCurrentTimestamp());
		removed = idem_plan_execute(purge->remove, owner, false, values, NULL,
									NULL, NULL, 0);
		*purged += removed;
		if (removed > 0)
			ereport(NOTICE,
					(errmsg("purged %llu %s, %llu so far",
							(unsigned long long) removed, purge->what,
							(unsigned long long) *purged)));
	}
	idem_store_close(&store);
	return more;
}
