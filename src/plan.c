/*-------------------------------------------------------------------------
 *
 * plan.c
 *	  Every SQL text that C runs on our own tables: the one page to audit.
 *
 * All names are qualified down to the operators, so that no search_path can
 * put a stranger's function in our way, and every value is a parameter.
 * plan_run.c says how the texts are run.  sql/plans.sql prints them all.  The
 * statements on tables of the caller's are in target_sql.c.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "plan.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/guc.h"
#include "utils/memutils.h"

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

	/*
	 * one row always: the workers that have rows, or do not answer, or are
	 * not asked because they are disabled
	 */
	[IDEM_PLAN_CITUS_ROWS] = {
		.text = "SELECT pg_catalog.string_agg(pg_catalog.format('%s:%s',"
		" nodename, nodeport), ', ' ORDER BY nodename, nodeport) FROM ("
		"SELECT nodename, nodeport"
		" FROM pg_catalog.run_command_on_workers(pg_catalog.format("
		"'SELECT EXISTS (SELECT FROM idem.%I)', $1))"
		" WHERE NOT success OR result OPERATOR(pg_catalog.<>) 'f'"
		" UNION ALL SELECT nodename, nodeport FROM pg_catalog.pg_dist_node"
		" WHERE NOT isactive AND noderole OPERATOR(pg_catalog.=) 'primary'"
		" AND groupid OPERATOR(pg_catalog.<>) 0) AS unfit",
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

static char *statement_text(const IdemTable *table, IdemStatement statement);
static void append_columns(StringInfo text, const IdemTable *table,
						   int from, int to, ColumnForm form);


/* One of the statements above. */
IdemKeptPlan *
idem_plan_kept(IdemPlan plan)
{
	return &kept_plans[plan];
}

/* One of the statements that follow from a table's columns and key. */
IdemKeptPlan *
idem_plan_of_table(IdemTable *table, IdemStatement statement)
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
	return kept;
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
