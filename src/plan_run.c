/*-------------------------------------------------------------------------
 *
 * plan_run.c
 *	  The statements of plan.c are run, and their plans kept.
 *
 * They run as the owner of our tables, with SET ROLE and forced row security
 * barred for that time, and touch nothing else.  The caller's own role is put
 * back before we return, and by the server itself when an error ends the call.
 *
 * Snapshots.  Under read committed and repeatable read a statement sees the
 * latest committed state: a recorded key is a fact about the world, and
 * answering from an old snapshot that it is unknown would run the work twice.
 * Under serializable it sees the transaction's own snapshot, so that the
 * server's conflict detection covers what we read.  Metadata is seen in its
 * latest state also there, as the catalogs are.  The keys of tokens are
 * metadata, too, for what a new one has signed is good at once.
 *
 * A plan is made at its first use and kept for the life of the session; the
 * server plans it again by itself when a table changes or the extension is
 * dropped and made anew.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "plan.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Rows that idem_plan_read has in memory at once. */
#define FETCH_ROWS	100

static uint64 execute(IdemKeptPlan *kept, Oid owner, bool read_only,
					  const Datum *values, const bool *nulls,
					  Datum *result, bool *resultnull, int nresult);
static SPIPlanPtr prepared(IdemKeptPlan *kept);


/*
 * Runs a statement as owner and answers the number of rows.  The first row,
 * if nresult says how many columns to take from it, goes to result, copied
 * into the caller's memory.
 */
uint64
idem_plan_execute(IdemPlan plan, Oid owner, bool read_only,
				  const Datum *values, const bool *nulls,
				  Datum *result, bool *resultnull, int nresult)
{
	return execute(idem_plan_kept(plan), owner, read_only, values, nulls,
				   result, resultnull, nresult);
}

/*
 * Runs one of the statements that follow from a table's columns and key, in
 * the same way; the row that IDEM_FIND finds goes to result.
 */
uint64
idem_table_execute(IdemTable *table, IdemStatement statement, Oid owner,
				   bool read_only, const Datum *values, const bool *nulls,
				   Datum *result, bool *resultnull)
{
	return execute(idem_plan_of_table(table, statement), owner, read_only,
				   values, nulls, result, resultnull,
				   statement == IDEM_FIND ? table->natts : 0);
}

/*
 * Runs a kept text without parameters as owner, and gives its rows to a
 * function, which runs as the caller, until that wants no more.  The text is one
 * that an index answers in order, and the planner must not read the whole table
 * instead, whatever statistics it has, or has not.
 */
void
idem_plan_read(IdemPlan plan, Oid owner, IdemPlanRow take_row, void *context)
{
	IdemKeptPlan *kept = idem_plan_kept(plan);
	Portal		portal;
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel;
	bool		more = true;
	MemoryContext spi;
	MemoryContext rows;

	Assert(kept->nargs == 0 && kept->expected == SPI_OK_SELECT);

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	SetUserIdAndSecContext(owner, save_sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
	nestlevel = NewGUCNestLevel();
	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(IsolationIsSerializable() && !kept->metadata ?
					   GetTransactionSnapshot() : GetLatestSnapshot());
	portal = SPI_cursor_open(NULL, prepared(kept), NULL, NULL, true);
	PopActiveSnapshot();
	AtEOXact_GUC(true, nestlevel);
	SetUserIdAndSecContext(save_userid, save_sec_context);

	rows = AllocSetContextCreate(CurrentMemoryContext, "idem rows",
								 ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		SetUserIdAndSecContext(owner, save_sec_context |
							   SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_NOFORCE_RLS);
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		SetUserIdAndSecContext(save_userid, save_sec_context);

		spi = MemoryContextSwitchTo(rows);
		for (uint64 i = 0; i < SPI_processed && more; i++)
		{
			Datum		values[IDEM_MAX_ATTS];
			bool		nulls[IDEM_MAX_ATTS];

			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
							  values, nulls);
			more = take_row(values, nulls, context);
		}
		MemoryContextSwitchTo(spi);
		MemoryContextReset(rows);
		more = more && SPI_processed == FETCH_ROWS;
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
}


/*
 * Runs a statement.  The plan of one by key is kept while its table grows: it
 * must not read the whole table, however small that was when it was made.
 */
static uint64
execute(IdemKeptPlan *kept, Oid owner, bool read_only, const Datum *values,
		const bool *nulls, Datum *result, bool *resultnull, int nresult)
{
	SPIPlanPtr	spiplan;
	MemoryContext caller = CurrentMemoryContext;
	Snapshot	snapshot;
	char		spinulls[IDEM_MAX_ATTS];
	Oid			save_userid;
	int			save_sec_context;
	int			nestlevel = 0;
	int			code;
	uint64		processed;

	for (int i = 0; i < kept->nargs; i++)
		spinulls[i] = (nulls != NULL && nulls[i]) ? 'n' : ' ';

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(owner, save_sec_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);

	if ((code = SPI_connect()) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed: %s", SPI_result_code_string(code));

	if (kept->by_key)
	{
		nestlevel = NewGUCNestLevel();
		(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	spiplan = prepared(kept);
	snapshot = IsolationIsSerializable() && !kept->metadata ?
		GetTransactionSnapshot() : GetLatestSnapshot();
	code = SPI_execute_snapshot(spiplan, (Datum *) values, spinulls,
								snapshot, InvalidSnapshot, read_only, true, 0);
	if (code != kept->expected)
		elog(ERROR, "SPI_execute_snapshot answered %s to \"%s\"",
			 SPI_result_code_string(code), kept->text);

	if (kept->by_key)
		AtEOXact_GUC(true, nestlevel);

	processed = SPI_processed;
	if (processed > 0 && nresult > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext spi = MemoryContextSwitchTo(caller);

		for (int i = 0; i < nresult; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			/* whole values: what a toast pointer means may be gone tomorrow */
			result[i] = SPI_getbinval(tuple, desc, i + 1, &resultnull[i]);
			if (!resultnull[i] && att->attlen == -1)
				result[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(result[i]));
			else if (!resultnull[i])
				result[i] = datumCopy(result[i], att->attbyval, att->attlen);
		}
		MemoryContextSwitchTo(spi);
	}

	SPI_finish();
	SetUserIdAndSecContext(save_userid, save_sec_context);
	return processed;
}

/* The plan of a statement, made if this is its first use. */
static SPIPlanPtr
prepared(IdemKeptPlan *kept)
{
	if (kept->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(kept->text, kept->nargs, kept->argtypes);

		if (plan == NULL)
			elog(ERROR, "SPI_prepare failed for \"%s\": %s",
				 kept->text, SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_keepplan failed for \"%s\"", kept->text);
		kept->plan = plan;
	}
	return kept->plan;
}
