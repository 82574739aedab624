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

#include "commands/extension.h"
#include "storage/lockdefs.h"
#include "storage/proc.h"
#include "utils/guc.h"

/* What an insert may wait on a cluster, at first: a node needs longer. */
#define CLUSTER_MS		16
#define CLUSTER_TRIES	2

/* An attempt that may wait for so many milliseconds. */
typedef struct Attempt
{
	IdemTable  *table;
	IdemStatement statement;
	Oid			owner;
	const Datum *values;
	const bool *nulls;
	bool		cluster;
	int			ms;
	uint64		processed;
} Attempt;

static bool execute_within(void *arg);
static bool is_lock_timeout(const ErrorData *edata);


/*
 * Runs a kept text that writes, as owner, and says how many rows it was.
 * False: it would have had to wait, and nothing is done.
 */
bool
idem_nowait_execute(IdemTable *table, IdemStatement statement, Oid owner, const Datum *values,
					const bool *nulls, int tries, uint64 *processed)
{
	Attempt		attempt = {
		.table = table,
		.statement = statement,
		.owner = owner,
		.values = values,
		.nulls = nulls,
		.cluster = OidIsValid(get_extension_oid("citus", true))
	};

	if (attempt.cluster)
		tries = Min(tries, CLUSTER_TRIES);
	for (int i = 0; i < tries; i++)
	{
		attempt.ms = attempt.cluster ? CLUSTER_MS << i : 1 << i;
		if (idem_subxact(execute_within, &attempt, is_lock_timeout))
		{
			*processed = attempt.processed;
			return true;
		}
		if (MyProc->waitLockMode == ShareLock)
			break;
	}
	return false;
}


/* The same once: an IdemStep.  No lock is waited for longer than attempt->ms. */
static bool
execute_within(void *arg)
{
	Attempt    *attempt = arg;
	int			nestlevel = NewGUCNestLevel();
	int			before = LockTimeout;
	char		timeout[12];

	if (attempt->cluster)
		idem_plan_lock_timeout(attempt->ms);
	snprintf(timeout, sizeof(timeout), "%d", attempt->ms);
	(void) set_config_option("lock_timeout", timeout, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	attempt->processed = idem_table_execute(attempt->table, attempt->statement,
											attempt->owner, false,
											attempt->values, attempt->nulls,
											NULL, NULL);
	AtEOXact_GUC(true, nestlevel);
	if (attempt->cluster)
		idem_plan_lock_timeout(before);
	return true;
}

/* The time was up: an IdemExpected. */
static bool
is_lock_timeout(const ErrorData *edata)
{
	return edata->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}
