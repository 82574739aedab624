/*-------------------------------------------------------------------------
 *
 * nowait.c
 *	  A text on our own tables, for a caller who is not to wait.
 *
 * A row is locked by a text that says NOWAIT.  An insert has no way to ask
 * whether it would wait, so it may do so for a millisecond, and the server's
 * word for having waited too long becomes ours.  (For a row that many want
 * this will not do: who waits twice in a row can be told by the server that
 * the user has cancelled.)
 *
 * What an insert waited for need not be a rival.  On a busy server the lock to
 * extend the table or an index may take longer, and a key that nobody has ever
 * seen must not be said to be in progress.  So an insert is tried again, each
 * time with twice the time, unless a rival was what it waited for: a transaction
 * is waited for by a share lock, room by an exclusive one.  The server leaves
 * in waitLockMode what was waited for last.  Should it ever not do so, a rival is
 * told later, and nothing else changes.
 *
 * On a Citus cluster the wait is on another node, to which a setting of ours
 * goes only as SET LOCAL, and whose waitLockMode we do not see.  There an insert
 * may wait longer, and is tried twice.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "plan.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "storage/lockdefs.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* What an insert may wait on a cluster, at first: a node needs longer. */
#define CLUSTER_MS		16
#define CLUSTER_TRIES	2

static bool execute_within(IdemTable *table, IdemStatement statement, Oid owner, const Datum *values,
						   const bool *nulls, int ms, bool cluster,
						   uint64 *processed);


/*
 * Runs a kept text that writes, as owner, and says how many rows it was.
 * False: it would have had to wait, and nothing is done.
 */
bool
idem_nowait_execute(IdemTable *table, IdemStatement statement, Oid owner, const Datum *values,
					const bool *nulls, int tries, uint64 *processed)
{
	bool		cluster = OidIsValid(get_extension_oid("citus", true));

	if (cluster)
		tries = Min(tries, CLUSTER_TRIES);
	for (int i = 0; i < tries; i++)
	{
		if (execute_within(table, statement, owner, values, nulls,
						   cluster ? CLUSTER_MS << i : 1 << i, cluster,
						   processed))
			return true;
		if (MyProc->waitLockMode == ShareLock)
			break;
	}
	return false;
}


/*
 * The same once, where no lock may be waited for longer than so many
 * milliseconds.  A subtransaction is what allows to go on after that.
 */
static bool
execute_within(IdemTable *table, IdemStatement statement, Oid owner,
			   const Datum *values, const bool *nulls, int ms, bool cluster,
			   uint64 *processed)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	volatile bool in_time = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		int			nestlevel = NewGUCNestLevel();
		int			before = LockTimeout;
		char		timeout[12];

		if (cluster)
			idem_plan_lock_timeout(ms);
		snprintf(timeout, sizeof(timeout), "%d", ms);
		(void) set_config_option("lock_timeout", timeout, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
		*processed = idem_table_execute(table, statement, owner, false,
										values, nulls, NULL, NULL);
		AtEOXact_GUC(true, nestlevel);
		if (cluster)
			idem_plan_lock_timeout(before);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = resources;

		if (edata->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(edata);
		FreeErrorData(edata);
		in_time = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = resources;
	return in_time;
}
