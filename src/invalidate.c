/*-------------------------------------------------------------------------
 *
 * invalidate.c
 *	  One relcache callback for all of idem.
 *
 * The server has ten places for such callbacks in a process, of which it takes
 * three itself, and whoever comes too late ends the session with FATAL.  Citus
 * alone takes five.  So we take one, however many files of ours keep something
 * that a relation's change makes stale.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "utils/inval.h"

#define MAX_CALLBACKS	8

static void (*callbacks[MAX_CALLBACKS]) (Datum arg, Oid relid);
static int	ncallbacks = 0;

static void invalidate(Datum arg, Oid relid);


/*
 * Has the callback run at every relcache invalidation, with the relation's OID,
 * or InvalidOid for all.  It may run at any moment that takes a lock: so it
 * only tags.  For _PG_init.
 */
void
idem_on_relcache(void (*callback) (Datum arg, Oid relid))
{
	if (ncallbacks == 0)
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	if (ncallbacks == MAX_CALLBACKS)
		elog(ERROR, "too many callbacks");
	callbacks[ncallbacks++] = callback;
}


static void
invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < ncallbacks; i++)
		callbacks[i] (arg, relid);
}
