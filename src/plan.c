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

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define CLAIM_BY_KEY \
	" WHERE source OPERATOR(pg_catalog.=) $1" \
	" AND seq OPERATOR(pg_catalog.=) $2"

#define TOKEN_KEY_COLUMNS	"id, secret, created_at, verify_until"
#define STOCK_BY_KEY \
	" WHERE item OPERATOR(pg_catalog.=) $1" \
	" AND bucket OPERATOR(pg_catalog.=) $2"

#define POLICY_COLUMNS	"source, retention, key_time, key_times, mark"

/* which rows the purge looks at, and what has ended before … */
#define IN_RANGE \
	" WHERE ctid OPERATOR(pg_catalog.>=) $1 AND ctid OPERATOR(pg_catalog.<) $2"

#define OF_SOURCE_4 \
	" AND ($4 IS NULL OR source OPERATOR(pg_catalog.=) $4)"

#define THESE_KEYS \
	" WHERE source OPERATOR(pg_catalog.=) $1" \
	" AND seq OPERATOR(pg_catalog.=) ANY ($2)"

#define CLAIM_ENDED \
	" AND (status OPERATOR(pg_catalog.=) 'd'" \
	"  OR status OPERATOR(pg_catalog.=) 'f'" \
	"  OR status OPERATOR(pg_catalog.=) 'c')" \
	" AND COALESCE(completed_at, claimed_at) OPERATOR(pg_catalog.<)"

/* a hold that is held has no time of decision, and stays */
#define HOLD_ENDED \
	" AND status OPERATOR(pg_catalog.<>) 'h'" \
	" AND decided_at OPERATOR(pg_catalog.<)"

#define DUE_ROWS \
	"SELECT pg_catalog.array_agg(ctid), pg_catalog.array_agg(source)," \
	" pg_catalog.array_agg(seq)"

/* sorted by source, though the window is one of the primary key's order */
#define KEYS_OF_WINDOW \
	"SELECT pg_catalog.array_agg(source ORDER BY source, seq)," \
	" pg_catalog.array_agg(seq ORDER BY source, seq)," \
	" pg_catalog.array_agg(CASE WHEN over THEN ended END ORDER BY source, seq)" \
	" FROM (SELECT source, seq,"

/* Rows that idem_plan_read has in memory at once. */
#define FETCH_ROWS	100

static IdemKeptPlan kept_plans[IDEM_PLANS] = {
	[IDEM_PLAN_CLAIM_XMIN] = {
		.text = "SELECT xmin FROM idem.claim" CLAIM_BY_KEY,
		.expected = SPI_OK_SELECT,.by_key = true,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	},

	/* no condition but the index's, or another index might be chosen */
	[IDEM_PLAN_CLAIM_UNSETTLED] = {
		.text = "SELECT source, seq, owner, status, fence, claimed_at,"
		" lease_until FROM idem.claim WHERE unsettled_since IS NOT NULL"
		" ORDER BY unsettled_since, source, seq",
		.expected = SPI_OK_SELECT
	},

	[IDEM_PLAN_CLAIM_LOCK_TABLE] = {
		.text = "LOCK TABLE idem.claim IN SHARE ROW EXCLUSIVE MODE",
		.expected = SPI_OK_UTILITY
	},
	[IDEM_PLAN_CLAIM_REASSIGN] = {
		.text = "UPDATE idem.claim SET owner = $2"
		" WHERE owner OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_UPDATE,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID},
		.metadata = true
	},
	[IDEM_PLAN_HOLD_LOCK_TABLE] = {
		.text = "LOCK TABLE idem.hold IN SHARE ROW EXCLUSIVE MODE",
		.expected = SPI_OK_UTILITY
	},
	[IDEM_PLAN_HOLD_REASSIGN] = {
		.text = "UPDATE idem.hold SET owner = $2"
		" WHERE owner OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_UPDATE,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID},
		.metadata = true
	},
	[IDEM_PLAN_LOCK_LOCK_TABLE] = {
		.text = "LOCK TABLE idem.lock IN SHARE ROW EXCLUSIVE MODE",
		.expected = SPI_OK_UTILITY
	},
	[IDEM_PLAN_LOCK_REASSIGN] = {
		.text = "UPDATE idem.lock SET owner = $2"
		" WHERE owner OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_UPDATE,
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID},
		.metadata = true
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

	[IDEM_PLAN_STOCK_LOCK] = {
		.text = "SELECT quantity FROM idem.stock" STOCK_BY_KEY
		" FOR NO KEY UPDATE",
		.expected = SPI_OK_SELECT,.by_key = true,
		.nargs = 2,
		.argtypes = {TEXTOID, INT4OID}
	},
	[IDEM_PLAN_STOCK_LOCK_FREE] = {
		.text = "SELECT quantity FROM idem.stock" STOCK_BY_KEY
		" FOR NO KEY UPDATE SKIP LOCKED",
		.expected = SPI_OK_SELECT,.by_key = true,
		.nargs = 2,
		.argtypes = {TEXTOID, INT4OID}
	},

	/* one snapshot for all buckets, so that the sum was true at one moment */
	[IDEM_PLAN_STOCK_READ] = {
		.text = "SELECT pg_catalog.array_agg(bucket ORDER BY bucket),"
		" pg_catalog.array_agg(quantity ORDER BY bucket)"
		" FROM idem.stock WHERE item OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,.by_key = true,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},

	/*
	 * Which $5 holds were due at $1, behind the one that the batch before it
	 * ended with: from its time on, or it would walk over what that one left
	 * dead in the index.  One row always, all null if there are none.
	 */
	[IDEM_PLAN_HOLD_OVERDUE] = {
		.text = "SELECT"
		" pg_catalog.array_agg(expires_at ORDER BY expires_at, source, seq),"
		" pg_catalog.array_agg(source ORDER BY expires_at, source, seq),"
		" pg_catalog.array_agg(seq ORDER BY expires_at, source, seq) FROM ("
		"SELECT expires_at, source, seq FROM idem.hold"
		" WHERE expires_at OPERATOR(pg_catalog.<=) $1"
		" AND expires_at OPERATOR(pg_catalog.>=) $2"
		" AND ROW(expires_at, source, seq) OPERATOR(pg_catalog.>)"
		"  ROW($2, $3, $4)"
		" ORDER BY expires_at, source, seq LIMIT $5) AS due",
		.expected = SPI_OK_SELECT,
		.nargs = 5,
		.argtypes = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, INT4OID}
	},

	/* source, retention, key_time, key_times, mark; "" has the shared mark */
	[IDEM_PLAN_POLICY_FIND] = {
		.text = "SELECT " POLICY_COLUMNS " FROM idem.policy"
		" WHERE source OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID},
		.metadata = true
	},
	[IDEM_PLAN_POLICY_ANY] = {
		.text = "SELECT FROM idem.policy WHERE retention IS NOT NULL"
		" AND key_time IS NOT NULL LIMIT 1",
		.expected = SPI_OK_SELECT,
		.metadata = true
	},
	[IDEM_PLAN_POLICY_LOAD] = {
		.text = "SELECT pg_catalog.array_agg(source),"
		" pg_catalog.array_agg(retention), pg_catalog.array_agg(key_times),"
		" pg_catalog.array_agg(mark) FROM idem.policy",
		.expected = SPI_OK_SELECT,
		.metadata = true
	},
	[IDEM_PLAN_POLICY_SET] = {
		.text = "INSERT INTO idem.policy (" POLICY_COLUMNS ")"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT (source) DO UPDATE"
		" SET retention = excluded.retention, key_time = excluded.key_time,"
		" key_times = excluded.key_times, mark = excluded.mark",
		.expected = SPI_OK_INSERT,
		.nargs = 5,
		.argtypes = {TEXTOID, INTERVALOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
		.metadata = true
	},
	[IDEM_PLAN_POLICY_RAISE] = {
		.text = "INSERT INTO idem.policy AS p (source, key_times, mark)"
		" SELECT t.source, '', t.mark FROM ROWS FROM (pg_catalog.unnest($1),"
		" pg_catalog.unnest($2)) AS t (source, mark)"
		" ON CONFLICT (source) DO UPDATE SET mark = excluded.mark"
		" WHERE p.mark OPERATOR(pg_catalog.<) excluded.mark",
		.expected = SPI_OK_INSERT,
		.nargs = 2,
		.argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID},
		.metadata = true
	},

	/*
	 * The purge.  Of claims and holds a range of rows is removed at once
	 * where one cutoff, $3, is right for all; otherwise those that may be due
	 * are read, judged in C, and removed by their places.  Where a row has no
	 * place that means anything, a window of keys is read and they are
	 * removed by key.  Each removal judges again what was changed meanwhile.
	 */
	[IDEM_PLAN_CLAIM_PURGE_RANGE] = {
		.text = "DELETE FROM idem.claim" IN_RANGE OF_SOURCE_4 CLAIM_ENDED " $3",
		.expected = SPI_OK_DELETE,
		.nargs = 4,
		.argtypes = {TIDOID, TIDOID, TIMESTAMPTZOID, TEXTOID}
	},
	[IDEM_PLAN_CLAIM_DUE] = {
		.text = DUE_ROWS " FROM idem.claim" IN_RANGE OF_SOURCE_4 CLAIM_ENDED " $3",
		.expected = SPI_OK_SELECT,
		.nargs = 4,
		.argtypes = {TIDOID, TIDOID, TIMESTAMPTZOID, TEXTOID}
	},
	[IDEM_PLAN_CLAIM_PURGE_TIDS] = {
		.text = "DELETE FROM idem.claim"
		" WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)" CLAIM_ENDED " $2",
		.expected = SPI_OK_DELETE,
		.nargs = 2,
		.argtypes = {TIDARRAYOID, TIMESTAMPTZOID}
	},
	[IDEM_PLAN_CLAIM_WALK] = {
		.text = KEYS_OF_WINDOW " COALESCE(completed_at, claimed_at) AS ended,"
		" (status OPERATOR(pg_catalog.=) 'd' OR status OPERATOR(pg_catalog.=) 'f'"
		"  OR status OPERATOR(pg_catalog.=) 'c') AS over FROM idem.claim"
		" WHERE ROW(seq, source) OPERATOR(pg_catalog.>) ROW($2, $1)"
		" ORDER BY seq, source LIMIT $3) AS keys",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, INT4OID}
	},
	[IDEM_PLAN_CLAIM_PURGE_KEYS] = {
		.text = "DELETE FROM idem.claim" THESE_KEYS CLAIM_ENDED " $3",
		.expected = SPI_OK_DELETE,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID}
	},
	[IDEM_PLAN_HOLD_PURGE_RANGE] = {
		.text = "DELETE FROM idem.hold" IN_RANGE OF_SOURCE_4 HOLD_ENDED " $3",
		.expected = SPI_OK_DELETE,
		.nargs = 4,
		.argtypes = {TIDOID, TIDOID, TIMESTAMPTZOID, TEXTOID}
	},
	[IDEM_PLAN_HOLD_DUE] = {
		.text = DUE_ROWS " FROM idem.hold" IN_RANGE OF_SOURCE_4 HOLD_ENDED " $3",
		.expected = SPI_OK_SELECT,
		.nargs = 4,
		.argtypes = {TIDOID, TIDOID, TIMESTAMPTZOID, TEXTOID}
	},
	[IDEM_PLAN_HOLD_PURGE_TIDS] = {
		.text = "DELETE FROM idem.hold"
		" WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)" HOLD_ENDED " $2",
		.expected = SPI_OK_DELETE,
		.nargs = 2,
		.argtypes = {TIDARRAYOID, TIMESTAMPTZOID}
	},
	[IDEM_PLAN_HOLD_WALK] = {
		.text = KEYS_OF_WINDOW " decided_at AS ended,"
		" status OPERATOR(pg_catalog.<>) 'h' AS over FROM idem.hold"
		" WHERE ROW(source, seq) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" ORDER BY source, seq LIMIT $3) AS keys",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, INT4OID}
	},
	[IDEM_PLAN_HOLD_PURGE_KEYS] = {
		.text = "DELETE FROM idem.hold" THESE_KEYS HOLD_ENDED " $3",
		.expected = SPI_OK_DELETE,
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTARRAYOID, TIMESTAMPTZOID}
	},

	/* never before it has expired, at $4 or before: it would be live again */
	[IDEM_PLAN_TOKEN_SPENT_PURGE_RANGE] = {
		.text = "DELETE FROM idem.token_spent" IN_RANGE
		" AND consumed_at OPERATOR(pg_catalog.<) $3"
		" AND expires_at OPERATOR(pg_catalog.<=) $4",
		.expected = SPI_OK_DELETE,
		.nargs = 4,
		.argtypes = {TIDOID, TIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
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
	[IDEM_PLAN_TOKEN_SPENT_PURGE_KEYS] = {
		.text = "DELETE FROM idem.token_spent"
		" WHERE nonce OPERATOR(pg_catalog.>) $1"
		" AND nonce OPERATOR(pg_catalog.<=) $2"
		" AND consumed_at OPERATOR(pg_catalog.<) $3"
		" AND expires_at OPERATOR(pg_catalog.<=) $4",
		.expected = SPI_OK_DELETE,
		.nargs = 4,
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[IDEM_PLAN_TOKEN_RATE_PURGE_RANGE] = {
		.text = "DELETE FROM idem.token_rate" IN_RANGE
		" AND window_end OPERATOR(pg_catalog.<) $3"
		" AND window_end OPERATOR(pg_catalog.<=) $4",
		.expected = SPI_OK_DELETE,
		.nargs = 4,
		.argtypes = {TIDOID, TIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
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
	[IDEM_PLAN_TOKEN_RATE_PURGE_KEYS] = {
		.text = "DELETE FROM idem.token_rate"
		" WHERE ROW(purpose, subject) OPERATOR(pg_catalog.>) ROW($1, $2)"
		" AND ROW(purpose, subject) OPERATOR(pg_catalog.<=) ROW($3, $4)"
		" AND window_end OPERATOR(pg_catalog.<) $5"
		" AND window_end OPERATOR(pg_catalog.<=) $6",
		.expected = SPI_OK_DELETE,
		.nargs = 6,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID}
	},

	/* what follows is only run where the extension citus is */
	[IDEM_PLAN_CITUS_FIND] = {
		.text = "SELECT partmethod OPERATOR(pg_catalog.=) 'n'"
		" AND repmodel OPERATOR(pg_catalog.=) 't',"
		" pg_catalog.column_to_column_name(logicalrelid, partkey)"
		" FROM pg_catalog.pg_dist_partition"
		" WHERE logicalrelid OPERATOR(pg_catalog.=) $1",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {REGCLASSOID},
		.metadata = true
	},

	/* one row always: the workers that have rows, or do not answer */
	[IDEM_PLAN_CITUS_ROWS] = {
		.text = "SELECT pg_catalog.string_agg(pg_catalog.format('%s:%s',"
		" nodename, nodeport), ', ' ORDER BY nodename, nodeport)"
		" FROM pg_catalog.run_command_on_workers(pg_catalog.format("
		"'SELECT EXISTS (SELECT FROM idem.%I)', $1))"
		" WHERE NOT success OR result OPERATOR(pg_catalog.<>) 'f'",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {TEXTOID}
	},

	/* one shard more than usual: see distribute.c */
	[IDEM_PLAN_CITUS_DISTRIBUTE] = {
		.text = "SELECT FROM pg_catalog.create_distributed_table($1, $2,"
		" colocate_with => $3,"
		" shard_count => CASE WHEN $3 OPERATOR(pg_catalog.=) 'none' THEN"
		" pg_catalog.current_setting('citus.shard_count')::pg_catalog.int4"
		" OPERATOR(pg_catalog.+) 1 END)",
		.expected = SPI_OK_SELECT,
		.nargs = 3,
		.argtypes = {REGCLASSOID, TEXTOID, TEXTOID}
	},
	[IDEM_PLAN_CITUS_REFERENCE] = {
		.text = "SELECT FROM pg_catalog.create_reference_table($1)",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {REGCLASSOID}
	},
	[IDEM_PLAN_CITUS_TRUNCATE] = {
		.text = "SELECT FROM"
		" pg_catalog.truncate_local_data_after_distributing_table($1)",
		.expected = SPI_OK_SELECT,
		.nargs = 1,
		.argtypes = {REGCLASSOID}
	}
};

/* How a column stands in a statement. */
typedef enum ColumnForm
{
	COLUMN_NAME,				/* seq */
	COLUMN_PARAMETER,			/* $2 */
	COLUMN_SET,					/* seq = $2 */
	COLUMN_EQUALS				/* a condition */
} ColumnForm;

/* What the statements of every table have to answer. */
static const int statement_codes[IDEM_STATEMENTS] = {
	[IDEM_FIND] = SPI_OK_SELECT,
	[IDEM_INSERT] = SPI_OK_INSERT,
	[IDEM_LOCK] = SPI_OK_SELECT,
	[IDEM_LOCK_NOWAIT] = SPI_OK_SELECT,
	[IDEM_LOCK_SHARED] = SPI_OK_SELECT,
	[IDEM_UPDATE] = SPI_OK_UPDATE,
	[IDEM_DELETE] = SPI_OK_DELETE
};

static uint64 execute(IdemKeptPlan *kept, Oid owner, bool read_only,
					  const Datum *values, const bool *nulls,
					  Datum *result, bool *resultnull, int nresult);
static SPIPlanPtr kept_plan(IdemKeptPlan *kept);
static char *statement_text(const IdemTable *table, IdemStatement statement);
static void append_columns(StringInfo text, const IdemTable *table,
						   int from, int to, ColumnForm form);


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
	return execute(&kept_plans[plan], owner, read_only, values, nulls,
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
	IdemKeptPlan *kept = &table->statements[statement];

	if (kept->text == NULL)
	{
		kept->expected = statement_codes[statement];
		kept->nargs = statement == IDEM_INSERT || statement == IDEM_UPDATE ?
			table->natts : table->nkeys;
		for (int i = 0; i < kept->nargs; i++)
			kept->argtypes[i] = table->columns[i].type;
		kept->metadata = table->metadata && statement == IDEM_FIND;
		kept->by_key = statement != IDEM_INSERT;
		kept->text = statement_text(table, statement);
	}
	return execute(kept, owner, read_only, values, nulls, result, resultnull,
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
	IdemKeptPlan *kept = &kept_plans[plan];
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
	portal = SPI_cursor_open(NULL, kept_plan(kept), NULL, NULL, true);
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
 * Sets how long a lock may be waited for to the end of the transaction, on the
 * nodes of a Citus cluster, too, which take it as a statement only.
 */
void
idem_plan_lock_timeout(int ms)
{
	int			nestlevel = NewGUCNestLevel();
	char		command[64];

	(void) set_config_option("citus.propagate_set_commands", "local",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	snprintf(command, sizeof(command), "SET LOCAL lock_timeout = %d", ms);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "SPI_execute failed for \"%s\"", command);
	SPI_finish();
	AtEOXact_GUC(true, nestlevel);
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
	spiplan = kept_plan(kept);
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
kept_plan(IdemKeptPlan *kept)
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

/* The text of a statement, kept for good. */
static char *
statement_text(const IdemTable *table, IdemStatement statement)
{
	StringInfoData text;

	initStringInfo(&text);
	switch (statement)
	{
		case IDEM_FIND:
			appendStringInfoString(&text, "SELECT ");
			append_columns(&text, table, 0, table->natts, COLUMN_NAME);
			appendStringInfo(&text, " FROM idem.%s", table->relname);
			break;
		case IDEM_INSERT:
			appendStringInfo(&text, "INSERT INTO idem.%s (", table->relname);
			append_columns(&text, table, 0, table->natts, COLUMN_NAME);
			appendStringInfoString(&text, ") VALUES (");
			append_columns(&text, table, 0, table->natts, COLUMN_PARAMETER);
			appendStringInfoString(&text, ") ON CONFLICT DO NOTHING");
			break;
		case IDEM_LOCK:
		case IDEM_LOCK_NOWAIT:
		case IDEM_LOCK_SHARED:
			appendStringInfo(&text, "SELECT FROM idem.%s", table->relname);
			break;
		case IDEM_UPDATE:
			appendStringInfo(&text, "UPDATE idem.%s SET ", table->relname);
			append_columns(&text, table, table->nkeys, table->natts,
						   COLUMN_SET);
			break;
		case IDEM_DELETE:
			appendStringInfo(&text, "DELETE FROM idem.%s", table->relname);
			break;
	}
	if (statement != IDEM_INSERT)
	{
		appendStringInfoString(&text, " WHERE ");
		append_columns(&text, table, 0, table->nkeys, COLUMN_EQUALS);
	}
	if (statement == IDEM_LOCK)
		appendStringInfoString(&text, " FOR NO KEY UPDATE");
	else if (statement == IDEM_LOCK_NOWAIT)
		appendStringInfoString(&text, " FOR NO KEY UPDATE NOWAIT");
	else if (statement == IDEM_LOCK_SHARED)
		appendStringInfoString(&text, " FOR SHARE");

	return MemoryContextStrdup(TopMemoryContext, text.data);
}

/* Some columns of a table, in the same form each. */
static void
append_columns(StringInfo text, const IdemTable *table, int from, int to,
			   ColumnForm form)
{
	for (int i = from; i < to; i++)
	{
		const char *name = table->columns[i].name;

		if (i > from)
			appendStringInfoString(text, form == COLUMN_EQUALS ? " AND " : ", ");
		switch (form)
		{
			case COLUMN_NAME:
				appendStringInfoString(text, name);
				break;
			case COLUMN_PARAMETER:
				appendStringInfo(text, "$%d", i + 1);
				break;
			case COLUMN_SET:
				appendStringInfo(text, "%s = $%d", name, i + 1);
				break;
			case COLUMN_EQUALS:
				appendStringInfo(text, "%s OPERATOR(pg_catalog.=) $%d", name,
								 i + 1);
				break;
		}
	}
}
