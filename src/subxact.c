/*-------------------------------------------------------------------------
 *
 * subxact.c
 *	  A step that can be undone: it runs in a subtransaction.
 *
 * The subtransaction stays if the step says so, and is rolled back if not.  An
 * error of the step rolls it back, too; then it is raised again, unless the
 * caller has expected it.  All that the caller has done before is left alone.
 *
 * The step runs in the caller's memory context, and may leave things there.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"


/*
 * Runs a step.  True: it answered true, and what it did stays.  Expected is
 * asked what to do with an error, after the rollback; NULL: raise it again.
 */
bool
idem_subxact(IdemStep step, void *arg, IdemExpected expected)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		done = step(arg);
		if (done)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
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

		if (expected == NULL || !expected(edata))
			ReThrowError(edata);
		FreeErrorData(edata);
		done = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = resources;
	return done;
}
