/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  Every SQL text that C runs on our own tables, and its kept plans: the one
 *	  page to audit.
 *
 * All names are qualified down to the operators, so that no search_path can
 * put a stranger's function in our way, and every value is a parameter.  The
 * texts run as the owner of our tables, with SET ROLE and forced row security
 * barred for that time, and touch nothing else; the caller's own role is put
 * back before we return, and by the server itself when an error ends the call.
 * The statements on tables of the caller's are in target_sql.c.
 *
 * Snapshots.  Under read committed and repeatable read a
 * text sees the latest committed state: a recorded key is a fact about the
 * world, and answering from an old snapshot that it is unknown would run the
 * work twice.  Under serializable it sees the transaction's own snapshot, so
 * that the server's conflict detection covers what we read.  Metadata is seen
 * in its latest state also there, as the catalogs are: also the keys of
 * tokens, for what a new one has signed is good at once.
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

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

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

#define CLAIM_ALL \
	"source, seq, owner, status, fence, claimed_at, completed_at," \
	" lease_until, request, response"

#define CLAIM_BY_KEY \
	" WHERE source OPERATOR(pg_catalog.=) $1" \
	" AND seq OPERATOR(pg_catalog.=) $2"

#define CLAIM_TYPES \
	{TEXTOID, TEXTOID, TEXTOID, CHAROID, INT8OID, TIMESTAMPTZOID, \
	 TIMESTAMPTZOID, TIMESTAMPTZOID, BYTEAOID, JSONOID}

#define LOCK_ALL \
	"name, owner, fence, locked_at, lease_until"

#define LOCK_BY_KEY \
	" WHERE name OPERATOR(pg_catalog.=) $1"

#define LOCK_TYPES \
	{TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}

#define TOKEN_KEY_COLUMNS	"id, secret, created_at, verify_until"
#define TOKEN_SPENT_COLUMNS	"nonce, expires_at, consumed_at"
#define TOKEN_RATE_COLUMNS	"purpose, subject, window_end, issued"

#define TOKEN_RATE_BY_KEY \
	" WHERE purpose OPERATOR(pg_catalog.=) $1" \
	" AND subject OPERATOR(pg_catalog.=) $2"

#define STOCK_BY_KEY \
	" WHERE item OPERATOR(pg_catalog.=) $1" \
	" AND bucket OPERATOR(pg_catalog.=) $2"

#define HOLD_COLUMNS \
	"source, seq, owner, status, expires_at, reserved_at, decided_at," \
	" items, buckets, quantities"

#define HOLD_TYPES \
	{TEXTOID, TEXTOID, TEXTOID, CHAROID, TIMESTAMPTZOID, TIMESTAMPTZOID, \
	 TIMESTAMPTZOID, TEXTARRAYOID, INT4ARRAYOID, NUMERICARRAYOID}

static KeptPlan kept_plans[IDEM_PLANS] = {
	[IDEM_PLAN_CLAIM_FIND] = {
		.text = "SELECT " CLAIM_ALL " FROM idem.claim" CLAIM_BY_KEY,
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_CLAIM_INSERT] = {
		.text = "INSERT INTO idem.claim (" CLAIM_ALL ")"
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
	[IDEM_PLAN_CLAIM_LOCK_AT_ONCE] = {
		.text = "SELECT FROM idem.claim" CLAIM_BY_KEY
		" FOR NO KEY UPDATE NOWAIT",
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

	[IDEM_PLAN_LOCK_FIND] = {
		.text = "SELECT " LOCK_ALL " FROM idem.lock" LOCK_BY_KEY,
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},
	[IDEM_PLAN_LOCK_INSERT] = {
		.text = "INSERT INTO idem.lock (" LOCK_ALL ")"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 5,
		.argtypes = LOCK_TYPES
	},
	[IDEM_PLAN_LOCK_LOCK] = {
		.text = "SELECT FROM idem.lock" LOCK_BY_KEY " FOR NO KEY UPDATE",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},
	[IDEM_PLAN_LOCK_LOCK_AT_ONCE] = {
		.text = "SELECT FROM idem.lock" LOCK_BY_KEY
		" FOR NO KEY UPDATE NOWAIT",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},
	[IDEM_PLAN_LOCK_SHARE] = {
		.text = "SELECT FROM idem.lock" LOCK_BY_KEY " FOR SHARE",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},
	[IDEM_PLAN_LOCK_UPDATE] = {
		.text = "UPDATE idem.lock SET owner = $2, fence = $3, locked_at = $4,"
		" lease_until = $5" LOCK_BY_KEY,
		.expected = SPI_OK_UPDATE,
		.nargs = 5,
		.argtypes = LOCK_TYPES
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

	[IDEM_PLAN_TOKEN_KEY_FIND] = {
		.text = "SELECT " TOKEN_KEY_COLUMNS " FROM idem.token_key"
		" WHERE id OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID},
		.metadata = true
	},
	[IDEM_PLAN_TOKEN_KEY_INSERT] = {
		.text = "INSERT INTO idem.token_key (" TOKEN_KEY_COLUMNS ")"
		" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 4,
		.argtypes = {TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},

	/* after a restore there are several that may sign: all agree on one */
	[IDEM_PLAN_TOKEN_KEY_SIGNING] = {
		.text = "SELECT " TOKEN_KEY_COLUMNS " FROM idem.token_key"
		" WHERE verify_until IS NULL"
		" ORDER BY created_at DESC, id DESC LIMIT 1",
		.expected = SPI_OK_SELECT,
		.metadata = true
	},
	[IDEM_PLAN_TOKEN_KEY_RETIRE] = {
		.text = "UPDATE idem.token_key SET verify_until = $1"
		" WHERE verify_until IS NULL",
		.expected = SPI_OK_UPDATE,
		.nargs = 1,
		.argtypes = {TIMESTAMPTZOID}
	},
	[IDEM_PLAN_TOKEN_KEY_DROP] = {
		.text = "DELETE FROM idem.token_key"
		" WHERE verify_until OPERATOR(pg_catalog.<=) $1",
		.expected = SPI_OK_DELETE,
		.nargs = 1,
		.argtypes = {TIMESTAMPTZOID}
	},

	[IDEM_PLAN_TOKEN_SPENT_FIND] = {
		.text = "SELECT " TOKEN_SPENT_COLUMNS " FROM idem.token_spent"
		" WHERE nonce OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},
	[IDEM_PLAN_TOKEN_SPENT_INSERT] = {
		.text = "INSERT INTO idem.token_spent (" TOKEN_SPENT_COLUMNS ")"
		" VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 3,
		.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[IDEM_PLAN_TOKEN_SPENT_WINDOW] = {
		.text = "SELECT nonce FROM ("
		"SELECT nonce FROM idem.token_spent"
		" WHERE nonce OPERATOR(pg_catalog.>) $1"
		" ORDER BY nonce LIMIT $2) AS keys"
		" ORDER BY nonce DESC LIMIT 1",
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, INT4OID}
	},

	/* never before it has expired: it would be live again */
	[IDEM_PLAN_TOKEN_SPENT_PURGE] = {
		.text = "DELETE FROM idem.token_spent"
		" WHERE nonce OPERATOR(pg_catalog.>) $1"
		" AND nonce OPERATOR(pg_catalog.<=) $2"
		" AND consumed_at OPERATOR(pg_catalog.<) $3"
		" AND expires_at OPERATOR(pg_catalog.<=) $4",
		.expected = SPI_OK_DELETE,
		.nargs = 4,
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},

	[IDEM_PLAN_TOKEN_RATE_FIND] = {
		.text = "SELECT " TOKEN_RATE_COLUMNS " FROM idem.token_rate"
		TOKEN_RATE_BY_KEY,
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_TOKEN_RATE_INSERT] = {
		.text = "INSERT INTO idem.token_rate (" TOKEN_RATE_COLUMNS ")"
		" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 4,
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID}
	},
	[IDEM_PLAN_TOKEN_RATE_LOCK] = {
		.text = "SELECT FROM idem.token_rate" TOKEN_RATE_BY_KEY
		" FOR NO KEY UPDATE",
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_TOKEN_RATE_UPDATE] = {
		.text = "UPDATE idem.token_rate SET window_end = $3, issued = $4"
		TOKEN_RATE_BY_KEY,
		.expected = SPI_OK_UPDATE,
		.nargs = 4,
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, INT4OID}
	},
	[IDEM_PLAN_TOKEN_RATE_WINDOW] = {
		.text = "SELECT purpose, subject FROM ("
		"SELECT purpose, subject FROM idem.token_rate"
		" WHERE ROW(purpose, subject) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" ORDER BY purpose, subject LIMIT $3) AS keys"
		" ORDER BY purpose DESC, subject DESC LIMIT 1",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, INT4OID}
	},
	[IDEM_PLAN_TOKEN_RATE_PURGE] = {
		.text = "DELETE FROM idem.token_rate"
		" WHERE ROW(purpose, subject) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" AND ROW(purpose, subject) OPERATOR(pg_catalog.<=) ROW($3, $4)"
		" AND window_end OPERATOR(pg_catalog.<) $5",
		.expected = SPI_OK_DELETE,
		.nargs = 5,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
	},

	[IDEM_PLAN_STOCK_FIND] = {
		.text = "SELECT item, bucket, quantity FROM idem.stock" STOCK_BY_KEY,
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, INT4OID}
	},
	[IDEM_PLAN_STOCK_INSERT] = {
		.text = "INSERT INTO idem.stock (item, bucket, quantity)"
		" VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 3,
		.argtypes = {TEXTOID, INT4OID, NUMERICOID}
	},
	[IDEM_PLAN_STOCK_LOCK] = {
		.text = "SELECT quantity FROM idem.stock" STOCK_BY_KEY
		" FOR NO KEY UPDATE",
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, INT4OID}
	},
	[IDEM_PLAN_STOCK_LOCK_FREE] = {
		.text = "SELECT quantity FROM idem.stock" STOCK_BY_KEY
		" FOR NO KEY UPDATE SKIP LOCKED",
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, INT4OID}
	},
	[IDEM_PLAN_STOCK_UPDATE] = {
		.text = "UPDATE idem.stock SET quantity = $3" STOCK_BY_KEY,
		.expected = SPI_OK_UPDATE,
		.nargs = 3,
		.argtypes = {TEXTOID, INT4OID, NUMERICOID}
	},
	[IDEM_PLAN_STOCK_ADD] = {
		.text = "INSERT INTO idem.stock AS s (item, bucket, quantity)"
		" VALUES ($1, $2, $3) ON CONFLICT (item, bucket) DO UPDATE"
		" SET quantity = s.quantity OPERATOR(pg_catalog.+) excluded.quantity",
		.expected = SPI_OK_INSERT,
		.nargs = 3,
		.argtypes = {TEXTOID, INT4OID, NUMERICOID}
	},

	/* one snapshot for all buckets, so that the sum was true at one moment */
	[IDEM_PLAN_STOCK_READ] = {
		.text = "SELECT pg_catalog.array_agg(bucket ORDER BY bucket),"
		" pg_catalog.array_agg(quantity ORDER BY bucket)"
		" FROM idem.stock WHERE item OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},

	[IDEM_PLAN_HOLD_FIND] = {
		.text = "SELECT " HOLD_COLUMNS " FROM idem.hold" CLAIM_BY_KEY,
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_HOLD_INSERT] = {
		.text = "INSERT INTO idem.hold (" HOLD_COLUMNS ")"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
		" ON CONFLICT DO NOTHING",
		.expected = SPI_OK_INSERT,
		.nargs = 10,
		.argtypes = HOLD_TYPES
	},
	[IDEM_PLAN_HOLD_LOCK] = {
		.text = "SELECT FROM idem.hold" CLAIM_BY_KEY " FOR NO KEY UPDATE",
		.expected = SPI_OK_SELECT,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_HOLD_UPDATE] = {
		.text = "UPDATE idem.hold SET owner = $3, status = $4,"
		" expires_at = $5, reserved_at = $6, decided_at = $7, items = $8,"
		" buckets = $9, quantities = $10" CLAIM_BY_KEY,
		.expected = SPI_OK_UPDATE,
		.nargs = 10,
		.argtypes = HOLD_TYPES
	},
	[IDEM_PLAN_HOLD_REMOVE] = {
		.text = "DELETE FROM idem.hold" CLAIM_BY_KEY,
		.expected = SPI_OK_DELETE,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},

	/*
	 * Ends $3 of the holds that were due at $1, and answers what has to go
	 * back to which bucket, in the order in which buckets are locked.  It
	 * begins at $2, where the batch before it ended, or it would walk over
	 * what that one left dead in the index.
	 */
	[IDEM_PLAN_HOLD_EXPIRE] = {
		.text = "WITH due AS ("
		"SELECT source, seq, expires_at FROM idem.hold"
		" WHERE expires_at OPERATOR(pg_catalog.<=) $1"
		" AND expires_at OPERATOR(pg_catalog.>=) $2"
		" ORDER BY expires_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED"
		"), ended AS ("
		"UPDATE idem.hold AS h SET status = 'x', expires_at = NULL,"
		" decided_at = $1 FROM due"
		" WHERE h.source OPERATOR(pg_catalog.=) due.source"
		" AND h.seq OPERATOR(pg_catalog.=) due.seq"
		" RETURNING due.expires_at, h.items, h.buckets, h.quantities"
		") SELECT (SELECT pg_catalog.count(*) FROM ended),"
		" (SELECT pg_catalog.max(expires_at) FROM ended),"
		" pg_catalog.array_agg(t.item), pg_catalog.array_agg(t.bucket),"
		" pg_catalog.array_agg(t.quantity) FROM ended,"
		" ROWS FROM (pg_catalog.unnest(ended.items),"
		"  pg_catalog.unnest(ended.buckets),"
		"  pg_catalog.unnest(ended.quantities)) AS t (item, bucket, quantity)",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID}
	},

	/* as for claims; a hold that is held has no time of decision, and stays */
	[IDEM_PLAN_HOLD_WINDOW] = {
		.text = "SELECT source, seq FROM ("
		"SELECT source, seq FROM idem.hold"
		" WHERE ROW(source, seq) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" ORDER BY source, seq LIMIT $3) AS keys"
		" ORDER BY source DESC, seq DESC LIMIT 1",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, INT4OID}
	},
	[IDEM_PLAN_HOLD_PURGE] = {
		.text = "DELETE FROM idem.hold"
		" WHERE ROW(source, seq) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" AND ROW(source, seq) OPERATOR(pg_catalog.<=) ROW($3, $4)"
		" AND status OPERATOR(pg_catalog.<>) 'h'"
		" AND decided_at OPERATOR(pg_catalog.<) $5",
		.expected = SPI_OK_DELETE,
		.nargs = 5,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
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
