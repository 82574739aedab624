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
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_route.h"

#include "utils/rel.h"

/* How often what SQL writes may come to nothing for no reason to be found. */
#define MAX_REFUSED			100

static bool write_nowait(IdemStore *store, IdemStatement statement,
						 const Datum *values, const bool *nulls, int tries);
static bool write_row(IdemStore *store, IdemStatement statement,
					  const Datum *values, const bool *nulls);
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


/* Runs one of the table's statements where waiting is not wanted. */
static bool
write_nowait(IdemStore *store, IdemStatement statement, const Datum *values,
			 const bool *nulls, int tries)
{
	uint64		processed = 0;

	if (!idem_nowait_execute(store->table, statement,
							 store->heap->rd_rel->relowner, values, nulls,
							 tries, &processed))
		idem_store_busy(store, values);
	return processed > 0;
}

/* Runs one of the table's statements.  Was there a row? */
static bool
write_row(IdemStore *store, IdemStatement statement, const Datum *values,
		  const bool *nulls)
{
	uint64		processed;

	idem_store_begin_wait(store, values);
	processed = idem_table_execute(store->table, statement,
								   store->heap->rd_rel->relowner, false,
								   values, nulls, NULL, NULL);
	idem_stat_wait_end();
	return processed > 0;
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
