/*-------------------------------------------------------------------------
 *
 * target_cache.c
 *	  What a session keeps of the caller's tables that it works on.
 *
 * One entry for each target and column, with what the catalog says of it and
 * the kept plans, at most IDEM_TARGETS; the least recently used gives way and
 * its memory is freed.
 *
 * Invalidation only marks an entry, and a marked one is looked up again at its
 * next use.  The table is locked before an entry is believed, so that what
 * others did to it before is known.  A plan that the server itself has marked
 * (a renamed schema, a dropped operator) is built again from the catalog, not
 * from its old text, in which a name may now mean another object.
 *
 * An entry in use is never freed: a trigger on the table may call us for any
 * number of other targets.  In use means that the memory context of our SPI
 * level is there, so that an error, which takes the context away, ends the use
 * too.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
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
	IdemKeptTarget kept;		/* what target.c sees; the first */
	TargetKey	name;
	int			uses;			/* calls that are at work with it */
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


/* Registers the callbacks before anything is looked up. */
void
idem_target_init(void)
{
	idem_on_relcache(invalidate_relation);
	CacheRegisterSyscacheCallback(CASTSOURCETARGET, invalidate_all, (Datum) 0);
}

/*
 * The entry of a target, and of a column of it unless that is NULL, locked
 * until the end of the transaction; in use until the current memory context,
 * that of our SPI level, goes.
 */
IdemKeptTarget *
idem_kept_target_open(Oid relid, const char *column, LOCKMODE lockmode)
{
	MemoryContextCallback *callback;
	TargetKey	name;
	KeptTarget *entry;

	free_discarded();
	memset(&name, 0, sizeof(name));
	name.relid = relid;
	if (column != NULL)
		strlcpy(NameStr(name.column), column, NAMEDATALEN);

	callback = palloc(sizeof(MemoryContextCallback));
	entry = find_entry(&name, lockmode);

	callback->func = end_use;
	callback->arg = entry;
	entry->uses++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return &entry->kept;
}

/* The plan of a text, made if need be. */
SPIPlanPtr
idem_kept_target_plan(IdemKeptTarget *kept, IdemRowPlan plan)
{
	KeptTarget *entry = (KeptTarget *) kept;

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
		SPIPlanPtr	new = idem_plan_row(&kept->spec, plan);

		if (SPI_keepplan(new) != 0)
			elog(ERROR, "SPI_keepplan failed");
		entry->plans[plan] = new;
	}
	if (!kept->spec.partitioned && !is_planned(entry->plans[plan]))
		plan_by_index(entry->plans[plan]);
	return entry->plans[plan];
}

/*
 * The plan that inserts a row with these columns given.  While an outer call
 * is at work with this entry, none of its plans is replaced: then, as for the
 * rare plan without arbiter, what is made here goes with the call.
 */
SPIPlanPtr
idem_kept_target_insert_plan(IdemKeptTarget *kept, TupleDesc desc,
							 const AttrNumber *given, int ngiven, bool arbiter)
{
	KeptTarget *entry = (KeptTarget *) kept;
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
	plan = idem_plan_row_insert(&entry->kept.spec, given, types, ngiven, arbiter);
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

		if (relid == InvalidOid || relid == entry->kept.spec.heap ||
			relid == entry->kept.spec.index)
			entry->kept.stale = true;
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

		if (entry != NULL && entry->kept.stale)
		{
			discard_entry(entry);
			entry = NULL;
		}

		/* taking the lock shows us what others did to the table before */
		heap = entry != NULL ? entry->kept.spec.heap : idem_spec_table(name->relid);
		LockRelationOid(heap, lockmode);

		if (entry != NULL && !entry->kept.stale)
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

		/* another table has the name now, or it changed while we looked */
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
	entry->kept.column = pstrdup(NameStr(name->column));
	entry->context = context;
	idem_spec_read(&entry->kept.spec, heap, filling.index, NameStr(name->column));
	entry->kept.casts = palloc0(entry->kept.spec.nkeys * sizeof(IdemKeyCast));
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
