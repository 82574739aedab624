/*-------------------------------------------------------------------------
 *
 * store_sql.c
 *	  The way to idem's own tables through SQL: the kept statements of plan.c.
 *
 * It is taken where store_guard.c cannot vouch for a table, and by
 * idem.force_sql.  Everything that the server knows to do with a table is done
 * here: triggers, policies, constraints, partitions, remote shards.
 *
 * A statement that writes to no effect is tried again a number of times: the
 * row that was in its way, or that was to be changed, may be gone by now.  A
 * trigger that suppresses what we write would have us try for ever, so at
 * some point that is an error.
 *
 * Where the server finds that a row was written by a transaction that ours must
 * not see, it says so without DETAIL and HINT.  They are added in the context
 * callback of the statement, which is called before the error leaves it: no
 * subtransaction is needed, as nothing is caught.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_route.h"

#include "utils/rel.h"

/* How often what SQL writes may come to nothing for no reason to be found. */
#define MAX_REFUSED			100

/* What a statement is about, for an error that comes out of it. */
typedef struct Subject
{
	const IdemTable *table;
	const Datum *key;
	MemoryContext memory;
	ErrorContextCallback context;
} Subject;

static bool write_nowait(IdemStore *store, IdemStatement statement,
						 const Datum *values, const bool *nulls, int tries);
static bool write_row(IdemStore *store, IdemStatement statement,
					  const Datum *values, const bool *nulls);
static void begin_explained(Subject *subject, const IdemStore *store,
							const Datum *key);
static void end_explained(const Subject *subject);
static void explain(void *arg);
static void refused(IdemStore *store, const Datum *key);


/* What SQL sees for a key. */
void
idem_sql_find(IdemStore *store, const Datum *key, bool read_only, IdemRow *row)
{
	row->presence = IDEM_ABSENT;
	if (idem_table_execute(store->table, IDEM_FIND,
						   store->heap->rd_rel->relowner, read_only, key, NULL,
						   row->values, row->nulls) > 0)
		row->presence = IDEM_PRESENT;
}

/* Inserts a row.  False: the key is there, or somebody is in the way. */
bool
idem_sql_insert(IdemStore *store, const Datum *values, const bool *nulls)
{
	bool		inserted = store->wait == IDEM_WAIT ?
		write_row(store, IDEM_INSERT, values, nulls) :
		write_nowait(store, IDEM_INSERT, values, nulls, IDEM_NOWAIT_TRIES);

	if (!inserted && !store->busy)
		refused(store, values);
	return inserted;
}

/*
 * Locks a row.  The first call for a row has the caller look again: what it
 * judged may have changed until the lock was there.
 */
bool
idem_sql_lock(IdemStore *store, const IdemRow *row, IdemRowLock strength)
{
	if (store->row_locked)
		return true;
	if (store->wait != IDEM_WAIT)
		store->row_locked = write_nowait(store, IDEM_LOCK_NOWAIT, row->values,
										 NULL, 1);
	else
		store->row_locked = write_row(store,
									  strength == IDEM_LOCK_SHARE ?
									  IDEM_LOCK_SHARED : IDEM_LOCK,
									  row->values, NULL);
	return false;
}

/* Writes a row that was found.  False: it was not locked yet; look again. */
bool
idem_sql_update(IdemStore *store, const IdemRow *row, const Datum *values,
				const bool *nulls)
{
	if (!idem_sql_lock(store, row, IDEM_LOCK_UPDATE))
		return false;
	if (write_row(store, IDEM_UPDATE, values, nulls))
		return true;
	refused(store, values);
	return false;
}

/* Writes a row that this transaction has locked. */
void
idem_sql_overwrite(IdemStore *store, const IdemRow *row)
{
	while (!write_row(store, IDEM_UPDATE, row->values, row->nulls))
		refused(store, row->values);
}

/* Deletes a row that this transaction has inserted or locked. */
void
idem_sql_delete(IdemStore *store, const IdemRow *row)
{
	while (!write_row(store, IDEM_DELETE, row->values, NULL))
		refused(store, row->values);
}

/* Runs another text of plan.c on the row of a key, as idem_plan_execute does. */
uint64
idem_store_execute(IdemStore *store, IdemPlan plan, const Datum *key,
				   Datum *result, bool *resultnull, int nresult)
{
	Subject		subject;
	uint64		processed;

	begin_explained(&subject, store, key);
	processed = idem_plan_execute(plan, idem_store_owner(store), false, key,
								  NULL, result, resultnull, nresult);
	end_explained(&subject);
	return processed;
}


/* Runs one of the table's statements where waiting is not wanted. */
static bool
write_nowait(IdemStore *store, IdemStatement statement, const Datum *values,
			 const bool *nulls, int tries)
{
	Subject		subject;
	uint64		processed = 0;

	begin_explained(&subject, store, values);
	if (!idem_nowait_execute(store->table, statement,
							 store->heap->rd_rel->relowner, values, nulls,
							 tries, &processed))
		idem_store_busy(store, values);
	end_explained(&subject);
	return processed > 0;
}

/* Runs one of the table's statements.  Was there a row? */
static bool
write_row(IdemStore *store, IdemStatement statement, const Datum *values,
		  const bool *nulls)
{
	Subject		subject;
	uint64		processed;

	begin_explained(&subject, store, values);
	idem_store_begin_wait(store, values);
	processed = idem_table_execute(store->table, statement,
								   store->heap->rd_rel->relowner, false,
								   values, nulls, NULL, NULL);
	idem_stat_wait_end();
	end_explained(&subject);
	return processed > 0;
}

/* Until end_explained what the server says of a conflict is about this key. */
static void
begin_explained(Subject *subject, const IdemStore *store, const Datum *key)
{
	subject->table = store->table;
	subject->key = key;
	subject->memory = CurrentMemoryContext;
	subject->context.callback = explain;
	subject->context.arg = subject;
	subject->context.previous = error_context_stack;
	error_context_stack = &subject->context;
}

static void
end_explained(const Subject *subject)
{
	error_context_stack = subject->context.previous;
}

/*
 * Adds to a bare 40001 what the direct route says.  One that comes out of a
 * trigger is about something else: it has the trigger's line of CONTEXT before
 * that of our statement, which is one line.
 */
static void
explain(void *arg)
{
	Subject    *subject = arg;
	MemoryContext errors;
	ErrorData  *edata;

	if (geterrcode() != ERRCODE_T_R_SERIALIZATION_FAILURE)
		return;
	errors = MemoryContextSwitchTo(subject->memory);
	edata = CopyErrorData();
	MemoryContextSwitchTo(errors);

	if (edata->elevel >= ERROR && edata->detail == NULL && edata->hint == NULL &&
		(edata->context == NULL || strchr(edata->context, '\n') == NULL))
		idem_store_say_unseen(subject->table, subject->key);
	FreeErrorData(edata);
}

/* Counts a write that came to nothing, and raises if there were too many. */
static void
refused(IdemStore *store, const Datum *key)
{
	if (++store->refused <= MAX_REFUSED)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("table \"idem.%s\" does not take a row",
					store->table->relname),
			 errdetail("Key %s was written %d times, to no effect.",
					   idem_store_key(store->table, key), store->refused),
			 errhint("Look for a trigger or rule on \"idem.%s\" that suppresses the row.",
					 store->table->relname)));
}
