/*-------------------------------------------------------------------------
 *
 * idem.c
 *	  The front door: what is where, and the start of the module.
 *
 * idem gives SQL the classic idempotency mechanisms, inside the caller's own
 * transaction: the proof that a thing was done commits or rolls back with the
 * thing itself.
 *
 *		src/claim.c		claims: work in this transaction, done once
 *		src/claim_take.c	a key is taken: claimed, granted, or cancelled
 *		src/claim_call.c	claim, work and answer in one call
 *		src/claim_batch.c	many keys taken by one call
 *		src/attempt.c	attempts: work that leaves the database
 *		src/unsettled.c	keys whose attempts have not settled them
 *		src/lock.c		locks: one holder of a name, with a fencing number
 *		src/claim_row.c	a row of idem.claim, for claims and attempts alike
 *		src/token.c		tokens: issued at will, consumed once
 *		src/tokentext.c	what a token looks like
 *		src/machine.c	state machines: what is kept of them, verdict
 *		src/machine_graph.c	a state machine as a picture
 *		src/machine_reach.c	what can be reached from what
 *		src/definition.c	a state machine in memory
 *		src/state.c		state machines: the caller's rows
 *		src/row.c		rows of the caller's: deduct, lock
 *		src/row_insert.c	rows of the caller's: insert once
 *		src/version.c	the version trigger
 *		src/newer.c		the trigger that skips stale updates
 *		src/trigger.c	what our row triggers have in common
 *		src/target.c	a table of the caller's and the key of one row
 *		src/target_cache.c	what a session keeps of such tables
 *		src/rowspec.c	what the catalog says of that table and key
 *		src/keyvalue.c	a key value, as its column takes it
 *		src/keytext.c	does a type take all that a text says?
 *		src/stock.c		stock: what there is, and holding it for an order
 *		src/stock_order.c	an order: amend, renew, confirm, give back
 *		src/stock_hold.c	the row of an order
 *		src/stock_quantity.c	what a quantity may be
 *		src/expire.c	stock: overdue orders give back
 *		src/bucket.c	the quantity of an item, in one row or many
 *		src/bucket_wait.c	waiting for whoever of several ends first
 *		src/policy.c	policies: how long a source is remembered
 *		src/key_time.c	the time at which a key was made
 *		src/purge.c		the removal of what is finished
 *		src/stat.c		counters in shared memory
 *		src/stat_count.c	what is counted when
 *		src/stat_view.c	the counters as rows
 *		src/distribute.c	our tables on a Citus cluster
 *		src/store.c		our own hot tables, directly or through SQL
 *		src/store_direct.c	the direct route: indexes, heap and btree functions
 *		src/store_sql.c	the route through SQL
 *		src/store_guard.c	is a table of ours as our script made it?
 *		src/store_batch.c	many keys looked up at once
 *		src/store_range.c	the rows that begin alike, locked without waiting
 *		src/store_blocks.c	a table in the order of its blocks
 *		src/reassign.c	records change their owner
 *		src/plan.c		every SQL text that C runs on our tables
 *		src/plan_run.c	these are run, and their plans kept
 *		src/statements.c	these as rows, for the tests
 *		src/owner.c		whose a record is
 *		src/nowait.c	a statement that must not wait
 *		src/target_sql.c	every SQL text that C runs on the caller's tables
 *		src/subxact.c	a step that can be undone
 *		src/invalidate.c	one relcache callback for all of idem
 *		src/arg.c		what an argument may be
 *		src/digest.c	the digest of a request
 *		src/sort.c		what a caller gave, in order
 *		src/result.c	the rows that functions answer with
 *		src/compat.h	every difference between server versions
 *		src/NAME.h		a header for each family, store_many.h and store_route.h for parts of one
 *
 * Dependencies point one way: a primitive uses the store and the plans, they
 * use the server.  Each primitive's file begins with its contract and the
 * argument why it holds under concurrency.
 *
 * A verb is SECURITY INVOKER: C takes the caller's role as the owner of what
 * is recorded, and only plan_run.c, for the time of one statement on our own
 * tables, becomes their owner.
 *
 * Nothing is needed in shared_preload_libraries, but before PostgreSQL 17 for
 * counters; and nothing survives in a session between calls but kept plans,
 * OIDs, policies and compiled state machines, which
 * the server's own messages make stale; so any connection pooler is fine.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "src/machine.h"
#include "src/policy.h"
#include "src/stat.h"
#include "src/store.h"
#include "src/target.h"

#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

/* Runs when the library is loaded. */
void
_PG_init(void)
{
	idem_stat_init();
	idem_stat_count_init();
	idem_store_init();
	idem_machine_init();
	idem_policy_init();
	idem_target_init();
	MarkGUCPrefixReserved("idem");
}
