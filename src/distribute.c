/*-------------------------------------------------------------------------
 *
 * distribute.c
 *	  Our tables over the nodes of a Citus cluster.
 *
 * The contract.  After idem_distribute every function works on every node, as
 * any role, with the same answers.  It does what is not done yet and may be
 * called again at any time: after an update that has brought a new table, after
 * a restore.
 *
 * Hot tables are distributed by the first column of their key, which every one
 * of their statements names: each goes to one shard, whose unique index has the
 * last word on a key, as on one server.  Small tables that every node reads are
 * reference tables.  No table of the application is to be co-located with ours
 * by default: rows of ours are written as their owner, and Citus refuses a
 * transaction that writes to co-located shards as two roles (25001).  Whoever
 * wants that says so with colocate_with, and does claim and work in a function
 * that Citus delegates.  To ask for a group of our own is not enough.  By
 * default Citus puts a new table into the oldest group of the same type and
 * number of shards, and counts as one type what has another collation, to
 * refuse it then.  So ours have one shard more than citus.shard_count.
 *
 * None of our functions is delegated.  A delegated call goes to another node
 * over a connection of the caller's role, outside of the caller's session: a
 * role that may not log in would be refused, and a session that is read only
 * would write.  The answers would not be the same.
 *
 * Concurrency.  Calls exclude each other by a lock on the extension.  Citus
 * locks each table against writers, and copies what is committed then.  What a
 * worker has in its own copy of a table would be lost from sight, and its keys
 * would be claimed again; so nothing is done if there is any, or if a worker
 * cannot be asked.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"

/* How a table is to be distributed. */
typedef struct Distribution
{
	const char *relname;		/* in schema idem */
	const char *column;			/* NULL: a reference table */
	const char *colocate_with;
	bool		made_anew;		/* every node has rows of its own from the
								 * start, which nobody will miss */
} Distribution;

static const Distribution distributions[] = {
	{"claim", "source", "none", false},
	{"hold", "source", "idem.claim", false},
	{"lock", "name", "none", false},
	{"stock", "item", "none", false},
	{"token_spent", "nonce", "none", false},
	{"token_rate", "purpose", "none", false},
	{"policy", NULL, NULL, false},
	{"token_key", NULL, NULL, true},
	{"transition", NULL, NULL, false}
};

static bool is_distributed(const Distribution *wanted, Oid relid, Oid owner);
static void check_workers(const Distribution *wanted, Oid owner);
static void distribute(const Distribution *wanted, Oid relid, Oid owner);
static Oid	table_owner(Oid relid);

PG_FUNCTION_INFO_V1(idem_distribute);


/*
 * idem_distribute() -> boolean
 *
 * Distributes our tables.  False: they are already.
 */
Datum
idem_distribute(PG_FUNCTION_ARGS)
{
	Oid			relids[lengthof(distributions)];
	Oid			owners[lengthof(distributions)];
	bool		missing[lengthof(distributions)];
	bool		any = false;
	int			nestlevel;

	idem_check_access(IDEM_WRITE);
	if (!OidIsValid(get_extension_oid("citus", true)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("extension \"citus\" is not installed in this database"),
				 errdetail("The tables of idem are distributed by Citus."),
				 errhint("Run CREATE EXTENSION citus on the coordinator and add the other nodes; on a single server nothing needs to be distributed.")));

	LockDatabaseObject(ExtensionRelationId, get_extension_oid("idem", false), 0,
					   ShareUpdateExclusiveLock);
	for (int i = 0; i < (int) lengthof(distributions); i++)
	{
		relids[i] = idem_find_table(distributions[i].relname);
		owners[i] = table_owner(relids[i]);
		missing[i] = !is_distributed(&distributions[i], relids[i], owners[i]);
		any = any || missing[i];
	}

	/*
	 * all are judged before the first is touched: Citus asks nodes apart from
	 * us
	 */
	for (int i = 0; i < (int) lengthof(distributions); i++)
		if (missing[i] && !distributions[i].made_anew)
			check_workers(&distributions[i], owners[i]);

	/* Citus tells which rows it copies, and how to do what we do then */
	nestlevel = NewGUCNestLevel();
	if (client_min_messages < WARNING)
		(void) set_config_option("client_min_messages", "warning",
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	for (int i = 0; i < (int) lengthof(distributions); i++)
		if (missing[i])
			distribute(&distributions[i], relids[i], owners[i]);
	AtEOXact_GUC(true, nestlevel);

	PG_RETURN_BOOL(any);
}


/* Is a table as it is to be?  False: not yet. */
static bool
is_distributed(const Distribution *wanted, Oid relid, Oid owner)
{
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	Datum		result[2];
	bool		nulls[2];

	if (idem_plan_execute(IDEM_PLAN_CITUS_FIND, owner, true, values, NULL,
						  result, nulls, lengthof(result)) == 0)
		return false;
	if (DatumGetBool(result[0]) == (wanted->column == NULL) &&
		nulls[1] == (wanted->column == NULL) &&
		(nulls[1] ||
		 strcmp(TextDatumGetCString(result[1]), wanted->column) == 0))
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"idem.%s\" is distributed in another way",
					wanted->relname),
			 wanted->column == NULL ?
			 errdetail("It is to be a reference table.") :
			 errdetail("It is to be distributed by column \"%s\".",
					   wanted->column),
			 errhint("Restore the data into a new database and call idem_distribute there.")));
	return false;				/* keep the compiler quiet */
}

/* Has a worker rows of its own in a table that is not distributed yet? */
static void
check_workers(const Distribution *wanted, Oid owner)
{
	Datum		values[1] = {CStringGetTextDatum(wanted->relname)};
	Datum		nodes;
	bool		none;

	(void) idem_plan_execute(IDEM_PLAN_CITUS_ROWS, owner, false, values, NULL,
							 &nodes, &none, 1);
	if (!none)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"idem.%s\" cannot be distributed",
						wanted->relname),
				 errdetail("It has rows of its own, or cannot be read, on %s; they would no longer be seen, and their keys would be used again.",
						   TextDatumGetCString(nodes)),
				 errhint("Move these rows to the coordinator, or delete them, before you call idem_distribute again.")));
}

/* Distributes a table. */
static void
distribute(const Distribution *wanted, Oid relid, Oid owner)
{
	Datum		values[3] = {ObjectIdGetDatum(relid)};

	if (wanted->column != NULL)
	{
		values[1] = CStringGetTextDatum(wanted->column);
		values[2] = CStringGetTextDatum(wanted->colocate_with);
		(void) idem_plan_execute(IDEM_PLAN_CITUS_DISTRIBUTE, owner, false,
								 values, NULL, NULL, NULL, 0);
	}
	else
		(void) idem_plan_execute(IDEM_PLAN_CITUS_REFERENCE, owner, false,
								 values, NULL, NULL, NULL, 0);

	/* the rows have been copied: secrets are not to lie about */
	(void) idem_plan_execute(IDEM_PLAN_CITUS_TRUNCATE, owner, false, values,
							 NULL, NULL, NULL, 0);
}

/* Whom a table belongs to. */
static Oid
table_owner(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	Oid			owner = rel->rd_rel->relowner;

	relation_close(rel, AccessShareLock);
	return owner;
}
