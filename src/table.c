/*-------------------------------------------------------------------------
 *
 * table.c
 *	  idem's own tables: found by name, and whether they are as our script
 *	  made them.
 *
 * store.c goes to a table directly only if nothing about it differs from what
 * our script made.  A trigger, row security, a rule, a child table, a
 * partition, another access method, a secondary index or another column is
 * found here, and then the table is reached through SQL, which honours all of
 * that.  So the guard is about being right: what it cannot vouch for is slow,
 * never wrong.
 *
 * Only OIDs and the verdict are kept between calls.  Any invalidation of the
 * table drops both; it comes with the lock that the next call takes, before
 * the table is used.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* How often a table may turn out to have changed while it was opened. */
#define MAX_ROUNDS			100

/* Tables that this session has used, for the invalidation callback. */
#define MAX_TABLES			8
static IdemTable *tables_used[MAX_TABLES];
static int	ntables_used = 0;

static void invalidate(Datum arg, Oid relid);
static void use_table(IdemTable *table);
static Relation open_table(IdemTable *table, LOCKMODE lockmode);
static Oid	index_as_made(const IdemTable *table, Relation heap, Oid *secondary);
static bool is_key_index(const IdemTable *table, Relation index);
static bool is_secondary_index(const IdemTable *table, Relation index);
static bool is_plain_index(Relation index, int ncolumns);


/* Registers the callback, before any table is looked up. */
void
idem_table_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/*
 * Opens a table, and its index too if it is to be reached directly and is as
 * our script made it; index is NULL otherwise.
 */
Relation
idem_table_open(IdemTable *table, LOCKMODE lockmode, bool direct,
				Relation *index)
{
	use_table(table);
	for (int round = 0;; round++)
	{
		Relation	heap;

		CHECK_FOR_INTERRUPTS();

		if (!OidIsValid(table->relid))
		{
			table->route = IDEM_ROUTE_UNKNOWN;
			table->relid = idem_find_table(table->relname);
		}
		heap = open_table(table, lockmode);
		*index = NULL;

		/*
		 * Every lock that is taken here shows us what others did to the table
		 * before; if that was anything, what we know of it is of no use, not
		 * even that the name is its own.
		 */
		if (heap != NULL)
		{
			if (table->route == IDEM_ROUTE_UNKNOWN && OidIsValid(table->relid))
			{
				table->route = IDEM_ROUTE_FILLING;
				table->index = index_as_made(table, heap,
											 &table->secondary_index);
				if (table->route == IDEM_ROUTE_FILLING)
					table->route = IDEM_ROUTE_KNOWN;
			}
			if (table->route == IDEM_ROUTE_KNOWN &&
				OidIsValid(table->index) && direct)
				*index = index_open(table->index, lockmode);

			/* where caches are dropped all the time, SQL needs none of ours */
			if (round > MAX_ROUNDS && *index != NULL)
			{
				index_close(*index, NoLock);
				*index = NULL;
			}
			if (table->route == IDEM_ROUTE_KNOWN || round > MAX_ROUNDS)
				return heap;

			if (*index != NULL)
				index_close(*index, NoLock);
			table_close(heap, NoLock);
		}
		table->relid = InvalidOid;
	}
}

/* Looks a table of ours up by its name. */
Oid
idem_find_table(const char *relname)
{
	Oid			schema = get_namespace_oid("idem", true);
	Oid			relid = InvalidOid;

	if (OidIsValid(schema))
		relid = get_relname_relid(relname, schema);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"idem.%s\" does not exist", relname),
				 errdetail("The tables of the extension \"idem\" are not in this database."),
				 errhint("Run CREATE EXTENSION idem.")));
	return relid;
}


/*
 * Forgets what is known of a table.  This may run at any moment that takes a
 * lock, also while idem_table_open is at work, so it only tags.
 */
static void
invalidate(Datum arg, Oid relid)
{
	for (int i = 0; i < ntables_used; i++)
	{
		IdemTable  *table = tables_used[i];

		if (relid == InvalidOid || relid == table->relid)
		{
			table->relid = InvalidOid;
			table->route = IDEM_ROUTE_UNKNOWN;
		}
	}
}

/* Lets the callback know a table. */
static void
use_table(IdemTable *table)
{
	for (int i = 0; i < ntables_used; i++)
		if (tables_used[i] == table)
			return;
	if (ntables_used == MAX_TABLES)
		elog(ERROR, "too many tables");
	tables_used[ntables_used++] = table;
}

/*
 * Opens a table by its OID; NULL if it is gone, or may be.  What is still known
 * of it once it is locked is known to be there: nobody needs to look.
 */
static Relation
open_table(IdemTable *table, LOCKMODE lockmode)
{
	Oid			relid = table->relid;

	if (table->route != IDEM_ROUTE_KNOWN)
		return try_table_open(relid, lockmode);

	LockRelationOid(relid, lockmode);
	if (table->route == IDEM_ROUTE_KNOWN)
		return table_open(relid, NoLock);
	UnlockRelationOid(relid, lockmode);
	return NULL;
}

/*
 * The index for the direct route, if the table is as our script made it, and
 * the secondary one if it has one.  Whatever is not known here is a no.
 */
static Oid
index_as_made(const IdemTable *table, Relation heap, Oid *secondary)
{
	TupleDesc	desc = RelationGetDescr(heap);
	List	   *indexes;
	Oid			result = InvalidOid;

	*secondary = InvalidOid;
	if (heap->rd_rel->relkind != RELKIND_RELATION ||
		heap->rd_rel->relam != HEAP_TABLE_AM_OID ||
		heap->rd_rel->relpersistence == RELPERSISTENCE_TEMP ||
		heap->rd_rel->relhassubclass || heap->rd_rel->relispartition ||
		heap->rd_rel->relhasrules || heap->rd_rel->relrowsecurity ||
		heap->trigdesc != NULL || heap->rd_rel->relchecks > 0 ||
		desc->natts != table->natts)
		return InvalidOid;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->atttypid != table->atttypes[i] ||
			att->attnotnull != (i < table->required))
			return InvalidOid;
	}

	/* REINDEX CONCURRENTLY adds an index, which must be kept as well */
	indexes = RelationGetIndexList(heap);
	if (list_length(indexes) == (table->secondary == 0 ? 1 : 2))
	{
		ListCell   *cell;

		foreach(cell, indexes)
		{
			Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

			if (is_key_index(table, index))
				result = RelationGetRelid(index);
			else if (is_secondary_index(table, index))
				*secondary = RelationGetRelid(index);
			index_close(index, AccessShareLock);
		}
		if (table->secondary != 0 && !OidIsValid(*secondary))
			result = InvalidOid;
	}
	list_free(indexes);
	return result;
}

/* Is this the primary key that our script made? */
static bool
is_key_index(const IdemTable *table, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!is_plain_index(index, table->nkeys) || !form->indisprimary ||
		!form->indisunique || !form->indimmediate ||
		RelationGetIndexPredicate(index) != NIL)
		return false;

	for (int i = 0; i < table->nkeys; i++)
		if (form->indkey.values[i] != i + 1 ||
			index->rd_opcintype[i] != table->atttypes[i] ||
			(table->atttypes[i] == TEXTOID &&
			 index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	return true;
}

/* Is this the secondary index that our script made, a column's values but nulls? */
static bool
is_secondary_index(const IdemTable *table, Relation index)
{
	Form_pg_index form = index->rd_index;
	List	   *predicate = RelationGetIndexPredicate(index);
	NullTest   *test;

	if (!is_plain_index(index, 1) || form->indisunique ||
		form->indisexclusion || form->indkey.values[0] != table->secondary ||
		list_length(predicate) != 1 || !IsA(linitial(predicate), NullTest))
		return false;

	test = linitial_node(NullTest, predicate);
	return test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
		castNode(Var, test->arg)->varattno == table->secondary;
}

/* Is this a btree in use, over so many columns and no expressions? */
static bool
is_plain_index(Relation index, int ncolumns)
{
	Form_pg_index form = index->rd_index;

	return index->rd_rel->relam == BTREE_AM_OID && form->indisvalid &&
		form->indisready && form->indislive &&
		form->indnatts == ncolumns && form->indnkeyatts == ncolumns &&
		RelationGetIndexExpressions(index) == NIL;
}
