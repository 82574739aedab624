/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  Every SQL text that C runs, and its kept plans: the one page to audit.
 *
 * All names are qualified down to the operators, so that no search_path can
 * put a stranger's function in our way, and every value is a parameter.  The
 * texts run as the owner of our tables, inside a restricted context, and touch
 * nothing but those tables; the caller's own role is put back before we
 * return, and by the server itself when an error ends the call.
 *
 * Snapshots.  Under read committed and repeatable read a text sees the latest
 * committed state: a recorded key is a fact about the world, and answering
 * from an old snapshot that it is unknown would run the work twice.  Under
 * serializable it sees the transaction's own snapshot, so that the server's
 * conflict detection covers what we read.  Metadata is seen in its latest state
 * also there, as the catalogs are.
 *
 * A plan is made at its first use and kept for the life of the session; the
 * server plans it again by itself when a table changes or the extension is
 * dropped and made anew.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"

#define MAX_ARGS	IDEM_MAX_ATTS

typedef struct KeptPlan
{
	const char *text;
	int			expected;		/* code that SPI must answer with */
	int			nargs;
	Oid			argtypes[MAX_ARGS];
	bool		metadata;		/* latest state, whatever the isolation level */
	SPIPlanPtr	plan;			/* NULL until the first use */
} KeptPlan;

#define CLAIM_COLUMNS \
	"source, seq, owner, status, fence, claimed_at, completed_at," \
	" lease_until, request, response"

#define CLAIM_BY_KEY \
	" WHERE source OPERATOR(pg_catalog.=) $1" \
	" AND seq OPERATOR(pg_catalog.=) $2"

#define CLAIM_TYPES \
	{TEXTOID, TEXTOID, REGROLEOID, CHAROID, INT8OID, TIMESTAMPTZOID, \
	 TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, JSONOID}

static KeptPlan kept_plans[IDEM_PLANS] = {
	[IDEM_PLAN_CLAIM_FIND] = {
		.text = "SELECT " CLAIM_COLUMNS " FROM idem.claim" CLAIM_BY_KEY,
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_CLAIM_INSERT] = {
		.text = "INSERT INTO idem.claim (" CLAIM_COLUMNS ")"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		" ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 10,
		.argtypes = CLAIM_TYPES
	},
	[IDEM_PLAN_CLAIM_LOCK] = {
		.text = "SELECT FROM idem.claim" CLAIM_BY_KEY " FOR NO KEY UPDATE",
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_CLAIM_UPDATE] = {
		.text = "UPDATE idem.claim SET owner = $3, status = $4, fence = $5,"
		" claimed_at = $6, completed_at = $7, lease_until = $8,"
		" request = $9, response = $10" CLAIM_BY_KEY,
		.expected = SPI_OK_UPDATE,
		.nargs = 10,
		.argtypes = CLAIM_TYPES
	},

	/* not while it runs: $3 is the present time, status r has a lease */
	[IDEM_PLAN_CLAIM_FORGET] = {
		.text = "DELETE FROM idem.claim" CLAIM_BY_KEY
		" AND (status OPERATOR(pg_catalog.<>) 'r'"
		"  OR lease_until OPERATOR(pg_catalog.<=) $3)",
		.expected = SPI_OK_DELETE,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID}
	},

	/*
	 * The purge walks the key space once, in windows of $3 keys: this finds
	 * the last key of the window that follows ($1, $2), the next one deletes
	 * in it.  Deleting by LIMIT instead would walk over the rows that stay
	 * again in every batch.
	 */
	[IDEM_PLAN_CLAIM_WINDOW] = {
		.text = "SELECT source, seq FROM ("
		"SELECT source, seq FROM idem.claim"
		" WHERE ROW(source, seq) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" ORDER BY source, seq LIMIT $3) AS keys"
		" ORDER BY source DESC, seq DESC LIMIT 1",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, INT4OID}
	},
	[IDEM_PLAN_CLAIM_PURGE] = {
		.text = "DELETE FROM idem.claim"
		" WHERE ROW(source, seq) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" AND ROW(source, seq) OPERATOR(pg_catalog.<=) ROW($3, $4)"
		" AND (status OPERATOR(pg_catalog.=) 'd'"
		"  OR status OPERATOR(pg_catalog.=) 'f'"
		"  OR status OPERATOR(pg_catalog.=) 'c')"
		" AND COALESCE(completed_at, claimed_at) OPERATOR(pg_catalog.<) $5",
		.expected = SPI_OK_DELETE,
		.nargs = 5,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	},

	/* one row always; both null if there is no such machine */
	[IDEM_PLAN_TRANSITION_LOAD] = {
		.text = "SELECT pg_catalog.array_agg(from_state ORDER BY position),"
		" pg_catalog.array_agg(to_state ORDER BY position)"
		" FROM idem.transition WHERE machine OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID},
		.metadata = true
	},
	[IDEM_PLAN_TRANSITION_DELETE] = {
		.text = "DELETE FROM idem.transition"
		" WHERE machine OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_DELETE,
		.nargs = 1,
		.argtypes = {TEXTOID},
		.metadata = true
	},
	[IDEM_PLAN_TRANSITION_INSERT] = {
		.text = "INSERT INTO idem.transition"
		" (machine, position, from_state, to_state)"
		" SELECT $1, t.position, t.from_state, t.to_state"
		" FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3))"
		" WITH ORDINALITY AS t (from_state, to_state, position)",
		.expected = SPI_OK_INSERT,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTARRAYOID, TEXTARRAYOID},
		.metadata = true
	},
};

static SPIPlanPtr kept_plan(KeptPlan *kept);


/*
 * Runs a kept text as owner and answers the number of rows.  The first row,
 * if nresult says how many columns to take from it, goes to result, copied
 * into the caller's memory.
 */
uint64
idem_plan_execute(IdemPlan plan, Oid owner, bool read_only,
				  const Datum *values, const bool *nulls,
				  Datum *result, bool *resultnull, int nresult)
{
	KeptPlan   *kept = &kept_plans[plan];
	SPIPlanPtr	spiplan;
	MemoryContext caller = CurrentMemoryContext;
	Snapshot	snapshot;
	char		spinulls[MAX_ARGS];
	Oid			save_userid;
	int			save_sec_context;
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

	spiplan = kept_plan(kept);
	snapshot = IsolationIsSerializable() && !kept->metadata ?
		GetTransactionSnapshot() : GetLatestSnapshot();
	code = SPI_execute_snapshot(spiplan, (Datum *) values, spinulls,
								snapshot, InvalidSnapshot, read_only, true, 0);
	if (code != kept->expected)
		elog(ERROR, "SPI_execute_snapshot answered %s to \"%s\"",
			 SPI_result_code_string(code), kept->text);

	processed = SPI_processed;
	if (processed > 0 && nresult > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext spi = MemoryContextSwitchTo(caller);

		for (int i = 0; i < nresult; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			result[i] = SPI_getbinval(tuple, desc, i + 1, &resultnull[i]);
			if (!resultnull[i])
				result[i] = datumCopy(result[i], att->attbyval, att->attlen);
		}
		MemoryContextSwitchTo(spi);
	}

	SPI_finish();
	SetUserIdAndSecContext(save_userid, save_sec_context);
	return processed;
}

/* The plan of a text, made if this is its first use. */
static SPIPlanPtr
kept_plan(KeptPlan *kept)
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
