/*-------------------------------------------------------------------------
 *
 * store_guard.c
 *	  idem's own tables: found by name, and whether they are as our script
 *	  made them.
 *
 * store.c goes to a table directly only if nothing about it differs from what
 * our script made.  Triggers, row security, rules, child tables, partitions,
 * another access method, other indexes or columns, generated columns, an
 * unlogged table in recovery, and a publication under which core would refuse
 * an update are found here.  The table is then reached through SQL, which
 * honours all of that.  So is every table of ours in a database that has the
 * extension "citus": on its workers the empty shell of a distributed table has
 * nothing by which it could be recognized.
 *
 * What SQL could not be right about either is refused.  Without a unique index
 * on exactly the key a key could be claimed twice (42P10).  A column of another
 * type would be read as what it is not (42804).  An owner who cannot reach the
 * schema could run none of our statements (42501).
 *
 * Only OIDs and the verdict are kept between calls.  Any invalidation of the
 * table drops both; it comes with the lock that the next call takes, before
 * the table is used.  A change to any schema drops them too: CREATE EXTENSION
 * citus makes schemas, and a right on ours may have been taken away.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_route.h"

#include "access/genam.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "parser/parse_coerce.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* How often a table may turn out to have changed while it was opened. */
#define MAX_ROUNDS			100

/* Tables that this session has used, for the invalidation callback. */
#define MAX_TABLES			16
static IdemTable *tables_used[MAX_TABLES];
static int	ntables_used = 0;

static void invalidate(Datum arg, Oid relid);
static void invalidate_all(Datum arg, int cacheid, uint32 hashvalue);
static void use_table(IdemTable *table);
static Relation open_table(IdemTable *table, LOCKMODE lockmode);
static void check_columns(const IdemTable *table, Relation heap);
static void check_key(const IdemTable *table, Relation heap);
static bool guards_key(const IdemTable *table, Relation heap, Relation index);
static bool is_key_column(const IdemTable *table, const char *name);
static void check_table_owner(const IdemTable *table, Relation heap);
static Oid	index_as_made(const IdemTable *table, Relation heap, Oid *secondary);
static bool columns_as_made(const IdemTable *table, TupleDesc desc);
static bool may_be_updated(Relation heap);
static bool is_key_index(const IdemTable *table, Relation index);
static bool is_secondary_index(const IdemTable *table, Relation index);
static bool is_plain_index(Relation index, int ncolumns);


/* Registers the callbacks, before any table is looked up. */
void
idem_table_init(void)
{
	idem_on_relcache(invalidate);
	CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate_all, (Datum) 0);
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
				check_columns(table, heap);
				check_key(table, heap);
				check_table_owner(table, heap);
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

/* Forgets what is known of every table, after a change to some schema. */
static void
invalidate_all(Datum arg, int cacheid, uint32 hashvalue)
{
	invalidate(arg, InvalidOid);
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
 * Refuses columns that our statements cannot read.  A type that has the same
 * representation, as a domain or varchar has, will do.
 */
static void
check_columns(const IdemTable *table, Relation heap)
{
	for (int i = 0; i < table->natts; i++)
	{
		const IdemColumn *column = &table->columns[i];
		AttrNumber	attnum = get_attnum(RelationGetRelid(heap), column->name);
		Oid			type;

		if (attnum == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\" of table \"idem.%s\" does not exist",
							column->name, table->relname),
					 errdetail("The table is not as the extension's script made it."),
					 errhint("Give the table its column of type %s back.",
							 format_type_be(column->type))));

		type = get_atttype(RelationGetRelid(heap), attnum);
		if (type != column->type && !IsBinaryCoercible(type, column->type))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table \"idem.%s\" has type %s",
							column->name, table->relname, format_type_be(type)),
					 errdetail("The extension's script made it %s.",
							   format_type_be(column->type)),
					 errhint("Run ALTER TABLE idem.%s ALTER COLUMN %s TYPE %s.",
							 table->relname, column->name,
							 format_type_be(column->type))));
	}
}

/* Refuses a table that could hold a key twice. */
static void
check_key(const IdemTable *table, Relation heap)
{
	List	   *indexes = RelationGetIndexList(heap);
	bool		guarded = false;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		guarded = guarded || guards_key(table, heap, index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (!guarded)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("table \"idem.%s\" has no unique index on its key",
						table->relname),
				 errdetail("Without a valid unique index on exactly (%s) a key could be there twice.",
						   table->keyname),
				 errhint("Run ALTER TABLE idem.%s ADD PRIMARY KEY (%s).",
						 table->relname, table->keyname)));
}

/* Does an index keep every key from being there twice, at each insert? */
static bool
guards_key(const IdemTable *table, Relation heap, Relation index)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		form->indnkeyatts != table->nkeys ||
		RelationGetIndexExpressions(index) != NIL ||
		RelationGetIndexPredicate(index) != NIL)
		return false;

	for (int i = 0; i < table->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(heap),
											  form->indkey.values[i] - 1);
		Oid			collation = index->rd_indcollation[i];

		for (int j = 0; j < i; j++)
			if (form->indkey.values[j] == form->indkey.values[i])
				return false;

		/* what another collation takes for equal are two keys to us */
		if (!is_key_column(table, NameStr(att->attname)) ||
			(OidIsValid(collation) && !get_collation_isdeterministic(collation)))
			return false;
	}
	return true;
}

/* Is a column part of the key? */
static bool
is_key_column(const IdemTable *table, const char *name)
{
	for (int i = 0; i < table->nkeys; i++)
		if (strcmp(table->columns[i].name, name) == 0)
			return true;
	return false;
}

/* Refuses an owner as whom no statement of ours could run. */
static void
check_table_owner(const IdemTable *table, Relation heap)
{
	Oid			owner = heap->rd_rel->relowner;
	const char *name;

	if (idem_namespace_aclcheck(heap->rd_rel->relnamespace, owner,
								ACL_USAGE) == ACLCHECK_OK)
		return;
	name = GetUserNameFromId(owner, false);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("owner of table \"idem.%s\" may not use schema \"idem\"",
					table->relname),
			 errdetail("The table belongs to \"%s\", as whom its statements run.",
					   name),
			 errhint("Run GRANT USAGE ON SCHEMA idem TO %s.",
					 quote_identifier(name))));
}

/*
 * The index for the direct route, if the table is as our script made it, and
 * the secondary one if it has one.  Whatever is not known here is a no.
 */
static Oid
index_as_made(const IdemTable *table, Relation heap, Oid *secondary)
{
	List	   *indexes;
	Oid			result = InvalidOid;

	*secondary = InvalidOid;
	if (heap->rd_rel->relkind != RELKIND_RELATION ||
		heap->rd_rel->relam != HEAP_TABLE_AM_OID ||
		heap->rd_rel->relpersistence == RELPERSISTENCE_TEMP ||
		(heap->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED &&
		 RecoveryInProgress()) ||
		heap->rd_rel->relhassubclass || heap->rd_rel->relispartition ||
		heap->rd_rel->relhasrules || heap->rd_rel->relrowsecurity ||
		heap->trigdesc != NULL || heap->rd_rel->relchecks > 0 ||
		!columns_as_made(table, RelationGetDescr(heap)) ||
		!may_be_updated(heap) ||
		OidIsValid(get_extension_oid("citus", true)))
		return InvalidOid;

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

/* Are the columns those that our script made, and no others? */
static bool
columns_as_made(const IdemTable *table, TupleDesc desc)
{
	if (desc->natts != table->natts)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->atttypid != table->columns[i].type ||
			strcmp(NameStr(att->attname), table->columns[i].name) != 0 ||
			att->attnotnull != (i < table->required) ||
			att->attgenerated != '\0' || att->attidentity != '\0')
			return false;
	}
	return true;
}

/*
 * Would core let a row be changed?  It refuses where a publication of updates
 * or deletes could not tell the subscriber which row it was.
 */
static bool
may_be_updated(Relation heap)
{
	PublicationDesc desc;

	RelationBuildPublicationDesc(heap, &desc);
	if (!desc.pubactions.pubupdate && !desc.pubactions.pubdelete)
		return true;
	return desc.rf_valid_for_update && desc.rf_valid_for_delete &&
		desc.cols_valid_for_update && desc.cols_valid_for_delete &&
		(heap->rd_rel->relreplident == REPLICA_IDENTITY_FULL ||
		 OidIsValid(RelationGetReplicaIndex(heap)));
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
	{
		int			column = table->reversed ? table->nkeys - 1 - i : i;

		if (form->indkey.values[i] != column + 1 ||
			index->rd_opcintype[i] != table->columns[column].type ||
			(table->columns[column].type == TEXTOID &&
			 index->rd_indcollation[i] != C_COLLATION_OID))
			return false;
	}
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
