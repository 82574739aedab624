/*-------------------------------------------------------------------------
 *
 * target.c
 *	  A table of the caller's and the key by which one of its rows is found.
 *
 * The contract.  A target is named by an OID: of a table, then the key is its
 * primary key; or of a unique index, then the key is that index's columns, in
 * index order (rowspec.c says which indexes will do).  Nothing is ever looked
 * at or done with other rights than the caller's; the statements (plan.c) go
 * through the executor.
 *
 *		IdemTarget	target;
 *
 *		idem_target_open(&target, relid, "status", RowExclusiveLock);
 *		idem_target_key(&target, fcinfo, 3);	-- the VARIADIC "any" from 3 on
 *		found = idem_target_execute(&target, IDEM_ROW_LOCK_TEXT, 0, &value, &isnull);
 *		if (!found)
 *			idem_target_no_row(&target);		-- ID404
 *		idem_target_execute(&target, IDEM_ROW_SET_TEXT, text_datum, NULL, NULL);
 *		idem_target_close(&target);
 *
 * Open takes the lock that a statement would take, before it believes anything
 * it knows of the table, and the lock stays: what was read in the catalog then
 * stays true until the transaction ends.  (An index can still be dropped
 * CONCURRENTLY, but it goes on to keep its key unique until we end.)  Our own
 * session is not stopped by a lock, and key values run its functions: casts,
 * a domain's checks.  So the table is also kept open from open to close, and
 * DDL on it in there is the server's 55006, as in a trigger; what is not
 * refused so, as CREATE TRIGGER, is looked for when the key is known.  From open to
 * close we are connected to SPI, and what is allocated is freed by
 * close; results of idem_target_execute are copied into the memory context
 * that was current at open.  After an error nothing needs to be closed.
 *
 * Key values are converted by keyvalue.c and compared as the index itself
 * compares: by its operator, under its collation.
 *
 * What is kept.  One entry for each target and column, with the kept plans
 * for it, at most IDEM_TARGETS; the least recently used gives way and its
 * memory is freed.  Invalidation only marks an entry, and a marked one is
 * looked up anew at its next use.  A plan that the server itself has marked
 * (a renamed schema, a dropped operator) is built again from the catalog, not
 * from its old text, in which a name may by now be somebody else's.  An entry
 * in use is never freed: a trigger on the table may call us for any number of
 * other targets.  In use means that the memory context of our SPI level is
 * there, so that an error, which takes the context away, ends the use too.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Entries kept at most, and plans of idem_target_insert for each. */
#define IDEM_TARGETS	128
#define MAX_INSERTS		8

/* A kept plan for inserting rows that have the same columns given. */
typedef struct InsertPlan
{
	int			ngiven;
	AttrNumber *given;
	SPIPlanPtr	plan;
} InsertPlan;

typedef struct TargetKey
{
	Oid			relid;			/* as given: table or index */
	NameData	column;			/* empty if none */
} TargetKey;

typedef struct KeptTarget
{
	TargetKey	name;
	IdemRowSpec spec;
	bool		stale;			/* look it up anew */
	int			uses;			/* calls that are at work with it */
	IdemKeyCast *casts;			/* one for each column of the key */
	SPIPlanPtr	plans[IDEM_ROW_PLANS];	/* NULL until the first use */
	List	   *inserts;		/* of InsertPlan, the newest first */
	MemoryContext context;		/* holds all this but the plans */
	dlist_node	node;			/* in recent or in discarded */
} KeptTarget;

typedef struct TargetSlot
{
	TargetKey	name;
	KeptTarget *entry;
} TargetSlot;

static HTAB *targets = NULL;	/* of TargetSlot */
static MemoryContext targets_context = NULL;
static dlist_head recent = DLIST_STATIC_INIT(recent);
static dlist_head discarded = DLIST_STATIC_INIT(discarded);

/* What is being looked up at this moment, for the callback. */
static struct
{
	Oid			heap;
	Oid			index;
	bool		stale;
}			filling;

static void look_again(IdemTarget *target);
static void invalidate_relation(Datum arg, Oid relid);
static void invalidate_all(Datum arg, int cacheid, uint32 hashvalue);
static KeptTarget *find_entry(const TargetKey *name, LOCKMODE lockmode);
static KeptTarget *kept_entry(const TargetKey *name);
static KeptTarget *make_entry(const TargetKey *name, Oid heap);
static void keep_entry(KeptTarget *entry);
static void discard_entry(KeptTarget *entry);
static void free_discarded(void);
static void end_use(void *arg);
static bool is_planned(SPIPlanPtr plan);
static void plan_by_index(SPIPlanPtr plan);
static SPIPlanPtr insert_plan(KeptTarget *entry, TupleDesc desc,
							  const AttrNumber *given, int ngiven,
							  bool arbiter);


/* Registers the callbacks before anything is looked up. */
void
idem_target_init(void)
{
	idem_on_relcache(invalidate_relation);
	CacheRegisterSyscacheCallback(CASTSOURCETARGET, invalidate_all, (Datum) 0);
}

/*
 * Finds a target, and a column of it unless that is NULL, and locks the table
 * until the end of the transaction.  Connects to SPI.
 */
void
idem_target_open(IdemTarget *target, Oid relid, const char *column,
				 LOCKMODE lockmode)
{
	MemoryContextCallback *callback;
	TargetKey	name;
	int			code;

	target->caller = CurrentMemoryContext;
	if ((code = SPI_connect()) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed: %s", SPI_result_code_string(code));

	free_discarded();
	memset(&name, 0, sizeof(name));
	name.relid = relid;
	if (column != NULL)
		strlcpy(NameStr(name.column), column, NAMEDATALEN);

	callback = palloc(sizeof(MemoryContextCallback));
	target->entry = find_entry(&name, lockmode);
	target->spec = &target->entry->spec;

	callback->func = end_use;
	callback->arg = target->entry;
	target->entry->uses++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	target->rel = table_open(target->spec->heap, NoLock);
	target->guarded = target->spec->guarded;
}

/* Takes the key from the arguments of a VARIADIC "any" that begin at argno. */
void
idem_target_key(IdemTarget *target, FunctionCallInfo fcinfo, int argno)
{
	const IdemRowSpec *spec = target->spec;
	Datum	   *values;
	Oid		   *types;
	bool	   *nulls;
	int			n;

	n = extract_variadic_args(fcinfo, argno, false, &values, &types, &nulls);
	if (n < 0)
		idem_arg_not_null(fcinfo, argno, "key");
	if (n != spec->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("wrong number of key values for table \"%s\"",
						get_rel_name(spec->heap)),
				 errdetail("Index \"%s\" has %d key columns, and %d values were given.",
						   get_rel_name(spec->index), spec->nkeys, n),
				 errhint("Pass a value for each of (%s), in this order.",
						 idem_target_columns(target))));

	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key value must not be null"),
					 errdetail("The value for column \"%s\" of table \"%s\" is null.",
							   get_attname(spec->heap, spec->key[i].attnum, false),
							   get_rel_name(spec->heap)),
					 errhint("Pass a value for each of (%s).",
							 idem_target_columns(target))));
		target->key[i] = idem_key_value(&target->entry->casts[i], spec->heap,
										&spec->key[i], types[i], values[i]);
	}
	look_again(target);
}

/*
 * Runs a text on the row with the key: is there such a row?  The value is for
 * texts that take one; result may be NULL.
 */
bool
idem_target_execute(IdemTarget *target, IdemRowPlan plan, Datum value,
					Datum *result, bool *resultnull)
{
	KeptTarget *entry = target->entry;
	Datum		values[INDEX_MAX_KEYS + 1];

	/* an outer call may be at work with this very plan: then it stays */
	if (entry->plans[plan] != NULL && entry->uses == 1 &&
		!SPI_plan_is_valid(entry->plans[plan]))
	{
		SPIPlanPtr	old = entry->plans[plan];

		entry->plans[plan] = NULL;
		SPI_freeplan(old);
	}
	if (entry->plans[plan] == NULL)
	{
		SPIPlanPtr	new = idem_plan_row(&entry->spec, plan);

		if (SPI_keepplan(new) != 0)
			elog(ERROR, "SPI_keepplan failed");
		entry->plans[plan] = new;
	}
	if (!entry->spec.partitioned && !is_planned(entry->plans[plan]))
		plan_by_index(entry->plans[plan]);

	memcpy(values, target->key, entry->spec.nkeys * sizeof(Datum));
	values[entry->spec.nkeys] = value;
	return idem_plan_row_execute(&entry->spec, entry->plans[plan], plan,
								 values, target->caller, result, resultnull);
}

/*
 * Inserts a row of the columns that are not null: was it inserted?  Then
 * result is the row as stored.  With arbiter, false also means that a row
 * with the same key was in the way, which otherwise is the server's 23505.
 */
bool
idem_target_insert(IdemTarget *target, TupleDesc desc, const Datum *values,
				   const bool *nulls, bool arbiter, Datum *result)
{
	Datum	   *given_values = palloc_array(Datum, desc->natts);
	AttrNumber *given = palloc_array(AttrNumber, desc->natts);
	int			ngiven = 0;
	bool		isnull;

	for (int i = 0; i < desc->natts; i++)
	{
		if (nulls[i] || TupleDescAttr(desc, i)->attisdropped)
			continue;
		given_values[ngiven] = values[i];
		given[ngiven++] = i + 1;
	}
	return idem_plan_row_execute(target->spec,
								 insert_plan(target->entry, desc, given,
											 ngiven, arbiter),
								 IDEM_ROW_INSERT, given_values,
								 target->caller, result, &isnull);
}

/* The columns of the key, for messages: "a, b". */
char *
idem_target_columns(const IdemTarget *target)
{
	const IdemRowSpec *spec = target->spec;
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < spec->nkeys; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "",
						 get_attname(spec->heap, spec->key[i].attnum, false));
	return buf.data;
}

/* The key, as core writes keys: "(a, b)=(1, 2)". */
char *
idem_target_key_text(const IdemTarget *target)
{
	const IdemRowSpec *spec = target->spec;
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "(%s)=(", idem_target_columns(target));
	for (int i = 0; i < spec->nkeys; i++)
		appendStringInfo(&buf, "%s%s", i > 0 ? ", " : "",
						 idem_value_text(spec->key[i].basetype, target->key[i]));
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* Raises ID404. */
void
idem_target_no_row(const IdemTarget *target)
{
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_NOT_FOUND),
			 errmsg("no such row in table \"%s\"",
					get_rel_name(target->spec->heap)),
			 errdetail("Key %s is not there, or not visible to role \"%s\".",
					   idem_target_key_text(target),
					   GetUserNameFromId(GetUserId(), false)),
			 errhint("Check the key, or insert the row first.")));
}

/* Ends the use of a target; the lock on the table stays. */
void
idem_target_close(IdemTarget *target)
{
	table_close(target->rel, NoLock);
	SPI_finish();
}


/*
 * Key values run functions of the caller's: casts, and a domain's checks.
 * Such a function cannot alter the table, which is open; but it can make a
 * trigger, and rename things.
 */
static void
look_again(IdemTarget *target)
{
	const IdemRowSpec *spec = target->spec;
	const char *column = NameStr(target->entry->name.column);
	IdemRowSpec now = {0};

	if (!target->entry->stale)
		return;
	idem_spec_read(&now, target->rel, spec->index, column);
	if (now.column != spec->column || now.columntype != spec->columntype)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("table \"%s\" was altered while a key value was cast",
						get_rel_name(spec->heap)),
				 errdetail("Column \"%s\" is another one now.", column),
				 errhint("Let casts and the checks of domains leave the table alone.")));
	target->guarded = now.guarded;
}

/*
 * These two may run whenever a lock is taken or the catalog is read, also
 * while an entry is at work, so they only mark.
 */
static void
invalidate_relation(Datum arg, Oid relid)
{
	dlist_iter	iter;

	if (relid == InvalidOid || relid == filling.heap || relid == filling.index)
		filling.stale = true;
	dlist_foreach(iter, &recent)
	{
		KeptTarget *entry = dlist_container(KeptTarget, node, iter.cur);

		if (relid == InvalidOid || relid == entry->spec.heap ||
			relid == entry->spec.index)
			entry->stale = true;
	}
}

static void
invalidate_all(Datum arg, int cacheid, uint32 hashvalue)
{
	invalidate_relation((Datum) 0, InvalidOid);
}

/* The entry of a target that is locked now; looked up if need be. */
static KeptTarget *
find_entry(const TargetKey *name, LOCKMODE lockmode)
{
	for (;;)
	{
		KeptTarget *entry = kept_entry(name);
		Oid			heap;

		if (entry != NULL && entry->stale)
		{
			discard_entry(entry);
			entry = NULL;
		}

		/* taking the lock shows us what others did to the table before */
		heap = entry != NULL ? entry->spec.heap : idem_spec_table(name->relid);
		LockRelationOid(heap, lockmode);

		if (entry != NULL && !entry->stale)
		{
			dlist_move_head(&recent, &entry->node);
			return entry;
		}
		if (entry == NULL && idem_spec_table(name->relid) == heap)
		{
			entry = make_entry(name, heap);

			if (entry != NULL)
			{
				keep_entry(entry);
				return entry;
			}
		}

		/* the name of another table by now, or changed while we looked */
		UnlockRelationOid(heap, lockmode);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The entry that is kept for a target, NULL if none. */
static KeptTarget *
kept_entry(const TargetKey *name)
{
	TargetSlot *slot;

	/* most often it is the one used before */
	if (!dlist_is_empty(&recent))
	{
		KeptTarget *entry = dlist_head_element(KeptTarget, node, &recent);

		if (memcmp(&entry->name, name, sizeof(TargetKey)) == 0)
			return entry;
	}
	if (targets == NULL)
		return NULL;
	slot = hash_search(targets, name, HASH_FIND, NULL);
	return slot != NULL ? slot->entry : NULL;
}

/*
 * Looks up a target in the catalog.  NULL: it changed meanwhile.  Until
 * keep_entry the entry belongs to the call, so that an error frees it.
 */
static KeptTarget *
make_entry(const TargetKey *name, Oid heapid)
{
	MemoryContext context;
	MemoryContext old;
	KeptTarget *entry;
	Relation	heap;

	filling.heap = heapid;
	filling.index = name->relid;
	filling.stale = false;

	heap = relation_open(heapid, NoLock);
	if (name->relid == heapid)
		filling.index = idem_spec_primary_key(heap);

	context = AllocSetContextCreate(CurrentMemoryContext, "idem target",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	entry = palloc0(sizeof(KeptTarget));
	entry->name = *name;
	entry->context = context;
	idem_spec_read(&entry->spec, heap, filling.index, NameStr(name->column));
	entry->casts = palloc0(entry->spec.nkeys * sizeof(IdemKeyCast));
	MemoryContextSwitchTo(old);

	relation_close(heap, NoLock);
	if (!filling.stale)
		return entry;
	MemoryContextDelete(context);
	return NULL;
}

/* Makes an entry one of those that are kept. */
static void
keep_entry(KeptTarget *entry)
{
	TargetSlot *slot;

	if (targets_context == NULL)
		targets_context = AllocSetContextCreate(CacheMemoryContext,
												"idem targets",
												ALLOCSET_SMALL_SIZES);
	if (targets == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(TargetKey);
		ctl.entrysize = sizeof(TargetSlot);
		ctl.hcxt = targets_context;
		targets = hash_create("idem targets", IDEM_TARGETS, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	while (hash_get_num_entries(targets) >= IDEM_TARGETS)
		discard_entry(dlist_tail_element(KeptTarget, node, &recent));

	slot = hash_search(targets, &entry->name, HASH_ENTER, NULL);
	slot->entry = entry;
	dlist_push_head(&recent, &entry->node);
	MemoryContextSetParent(entry->context, targets_context);
}

/* Forgets an entry; its memory goes once nobody is at work with it. */
static void
discard_entry(KeptTarget *entry)
{
	(void) hash_search(targets, &entry->name, HASH_REMOVE, NULL);
	dlist_delete(&entry->node);
	dlist_push_head(&discarded, &entry->node);
}

/* Frees what was discarded and is no longer in use. */
static void
free_discarded(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &discarded)
	{
		KeptTarget *entry = dlist_container(KeptTarget, node, iter.cur);
		ListCell   *lc;

		if (entry->uses > 0)
			continue;
		dlist_delete(&entry->node);
		for (int i = 0; i < IDEM_ROW_PLANS; i++)
			if (entry->plans[i] != NULL)
				SPI_freeplan(entry->plans[i]);
		foreach(lc, entry->inserts)
			SPI_freeplan(((InsertPlan *) lfirst(lc))->plan);
		MemoryContextDelete(entry->context);
	}
}

/* Runs when the memory of a call goes, by idem_target_close or an error. */
static void
end_use(void *arg)
{
	((KeptTarget *) arg)->uses--;
}

/* Would the server run a kept plan as it is, and not plan it again? */
static bool
is_planned(SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));

	return source->is_valid && source->gplan != NULL &&
		source->gplan->is_valid &&
		(!source->dependsOnRLS || source->rewriteRoleId == GetUserId()) &&
		SearchPathMatchesCurrentEnvironment(source->search_path);
}

/*
 * Plans a kept plan by the index of the key, whatever the size of the table.
 *
 * The first calls often meet a table of a page or two.  There a sequential
 * scan is cheaper, and the plan would stay one until the next ANALYZE, which
 * a transaction that fills the table does not see.  The cost of a scan that
 * cannot be avoided, as in a policy's subquery, must not call for JIT.
 */
static void
plan_by_index(SPIPlanPtr plan)
{
	int			level = NewGUCNestLevel();
	CachedPlan *planned;

	(void) set_config_option("enable_seqscan", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("jit", "off", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	planned = SPI_plan_get_cached_plan(plan);
	if (planned != NULL)
		ReleaseCachedPlan(planned, CurrentResourceOwner);
	AtEOXact_GUC(true, level);
}

/*
 * The plan that inserts a row with these columns given.  While an outer call
 * is at work with this entry, none of its plans is replaced: then, as for the
 * rare plan without arbiter, what is made here goes with the call.
 */
static SPIPlanPtr
insert_plan(KeptTarget *entry, TupleDesc desc, const AttrNumber *given,
			int ngiven, bool arbiter)
{
	Oid		   *types = palloc_array(Oid, ngiven);
	Size		size = ngiven * sizeof(AttrNumber);
	InsertPlan *insert = NULL;
	SPIPlanPtr	plan;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, entry->inserts)
	{
		insert = lfirst(lc);
		if (arbiter && insert->ngiven == ngiven &&
			memcmp(insert->given, given, size) == 0)
			break;
	}
	if (lc != NULL && (entry->uses > 1 || SPI_plan_is_valid(insert->plan)))
		return insert->plan;

	for (int i = 0; i < ngiven; i++)
		types[i] = TupleDescAttr(desc, given[i] - 1)->atttypid;
	plan = idem_plan_row_insert(&entry->spec, given, types, ngiven, arbiter);
	if (!arbiter || entry->uses > 1)
		return plan;

	if (lc != NULL || list_length(entry->inserts) == MAX_INSERTS)
	{
		Assert(insert != NULL);
		entry->inserts = list_delete_ptr(entry->inserts, insert);
		SPI_freeplan(insert->plan);
		pfree(insert->given);
		pfree(insert);
	}

	old = MemoryContextSwitchTo(entry->context);
	insert = palloc(sizeof(InsertPlan));
	insert->ngiven = ngiven;
	insert->given = palloc(size);
	memcpy(insert->given, given, size);
	insert->plan = plan;
	entry->inserts = lcons(insert, entry->inserts);
	MemoryContextSwitchTo(old);
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_keepplan failed");
	return plan;
}
