/*-------------------------------------------------------------------------
 *
 * rowspec.c
 *	  What the catalog says of a table of the caller's and of a key to its rows.
 *
 * The contract.  A key is the columns of an index that allows a single row at
 * every moment, for every row: unique, a btree, not partial, not on an
 * expression, not deferrable, valid.  Anything else is 42P10, with what is
 * wrong and what to do about it; anything but a table is 42809.
 *
 * The caller holds a lock on the table, or choosing takes one, so that what
 * is read here stays true.  Nothing is read but the catalog.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/pg_list.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteDefine.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static void check_kind(Relation heap);
static void read_key(IdemRowSpec *spec, Relation heap, Oid index);
pg_noreturn static void refuse_dropped(Oid relid);
static bool all_given(Form_pg_index form, const bool *nulls);
static const char *index_fault(HeapTuple tuple, const char **hint);
static bool is_btree(Oid index);
static void read_column(IdemRowSpec *spec, Relation heap, const char *column);
static bool may_change_row(Relation heap, const char *column);
static bool is_version_trigger(const Trigger *trigger, const char *column);


/* The table that is meant by the OID of a table or an index. */
Oid
idem_spec_table(Oid relid)
{
	char		relkind = get_rel_relkind(relid);

	if (relkind == RELKIND_INDEX || relkind == RELKIND_PARTITIONED_INDEX)
	{
		Oid			heap = IndexGetRelation(relid, true);

		if (OidIsValid(heap))
			return heap;
	}
	else if (relkind != '\0')
		return relid;
	refuse_dropped(relid);
}

/* The primary key of a table. */
Oid
idem_spec_primary_key(Relation heap)
{
	List	   *indexes = RelationGetIndexList(heap);
	Oid			result = InvalidOid;
	ListCell   *lc;

	check_kind(heap);
	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		if (((Form_pg_index) GETSTRUCT(tuple))->indisprimary)
			result = lfirst_oid(lc);
		ReleaseSysCache(tuple);
	}
	list_free(indexes);

	if (!OidIsValid(result))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("table \"%s\" has no primary key",
						RelationGetRelationName(heap)),
				 errdetail("A row is found by the primary key of its table, or by a unique index."),
				 errhint("Pass a unique index of the table, or run ALTER TABLE %s ADD PRIMARY KEY (...).",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(heap)),
													RelationGetRelationName(heap)))));
	return result;
}

/*
 * The index to find a row by of which these columns are null: the primary key
 * if it can be, else the only unique index that can.  Locks the table.
 */
Oid
idem_spec_choose(Oid relid, const bool *nulls)
{
	Relation	heap = table_open(relid, RowExclusiveLock);
	List	   *indexes = RelationGetIndexList(heap);
	Oid			primary = InvalidOid;
	Oid			chosen = InvalidOid;
	int			nchosen = 0;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID,
											ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index form;
		const char *hint;

		if (!HeapTupleIsValid(tuple))
			continue;
		form = (Form_pg_index) GETSTRUCT(tuple);
		if (index_fault(tuple, &hint) == NULL && all_given(form, nulls))
		{
			if (form->indisprimary)
				primary = lfirst_oid(lc);
			chosen = lfirst_oid(lc);
			nchosen++;
		}
		ReleaseSysCache(tuple);
	}
	list_free(indexes);

	if (OidIsValid(primary))
		chosen = primary;
	else if (nchosen != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg(nchosen == 0 ?
						"no unique index of table \"%s\" has all its fields given" :
						"several unique indexes of table \"%s\" have all their fields given",
						RelationGetRelationName(heap)),
				 nchosen == 0 ?
				 errdetail("A row that is there already can only be found by a primary key or unique index.") :
				 errdetail("%d unique indexes could tell whether the row is there already.", nchosen),
				 nchosen == 0 ?
				 errhint("Give the fields of the primary key or of a unique index a value.") :
				 errhint("Pass the one that is meant as argument \"key\".")));
	table_close(heap, NoLock);
	return chosen;
}

/*
 * Reads what is needed to find a row of a table by an index, and to work on a
 * column unless its name is empty; allocates in the current memory context.
 */
void
idem_spec_read(IdemRowSpec *spec, Relation heap, Oid index, const char *column)
{
	check_kind(heap);
	read_key(spec, heap, index);
	if (column[0] != '\0')
		read_column(spec, heap, column);
	spec->guarded = may_change_row(heap, column);
}

/* Refuses a table that a rule keeps from being updated. */
void
idem_spec_check_rules(Relation heap)
{
	RuleLock   *rules = heap->rd_rules;
	char		off = SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ?
		RULE_FIRES_ON_ORIGIN : RULE_FIRES_ON_REPLICA;

	for (int i = 0; rules != NULL && i < rules->numLocks; i++)
	{
		RewriteRule *rule = rules->rules[i];

		if (rule->event == CMD_UPDATE && rule->isInstead &&
			rule->enabled != RULE_DISABLED && rule->enabled != off)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("table has a rule that replaces the statement"),
					 errdetail("A rule replaces the UPDATE, so its result does not say what became of the row."),
					 errhint("Use a trigger instead of the rule.")));
	}
}


/* Refuses what is no longer there. */
static void
refuse_dropped(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_TABLE),
			 errmsg("relation with OID %u does not exist", relid),
			 errdetail("The table or index was dropped."),
			 errhint("Pass the name of a table or of a unique index.")));
}

/* Refuses what is not a table. */
static void
check_kind(Relation heap)
{
	if (heap->rd_rel->relkind == RELKIND_RELATION ||
		heap->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" is not a table", RelationGetRelationName(heap)),
			 errdetail_relkind_not_supported(heap->rd_rel->relkind),
			 errhint("Pass the table itself, or a unique index of it.")));
}

/* Reads the key from its index, or says why that will not do. */
static void
read_key(IdemRowSpec *spec, Relation heap, Oid index)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	oidvector  *collations;
	oidvector  *opclasses;
	const char *why;
	const char *hint;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		refuse_dropped(index);	/* DROP INDEX CONCURRENTLY has just ended */
	form = (Form_pg_index) GETSTRUCT(tuple);

	why = index_fault(tuple, &hint);
	if (why != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("index \"%s\" does not identify one row",
						get_rel_name(index)),
				 errdetail("Index \"%s\" of table \"%s\" cannot be used: %s.",
						   get_rel_name(index), RelationGetRelationName(heap),
						   why),
				 errhint("%s", hint)));

	collations = (oidvector *) DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple,
															   Anum_pg_index_indcollation,
															   &isnull));
	opclasses = (oidvector *) DatumGetPointer(SysCacheGetAttr(INDEXRELID, tuple,
															  Anum_pg_index_indclass,
															  &isnull));

	spec->index = index;
	spec->heap = RelationGetRelid(heap);
	spec->partitioned =
		heap->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	spec->nkeys = form->indnkeyatts;
	spec->key = palloc0(form->indnkeyatts * sizeof(IdemKeyColumn));
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		IdemKeyColumn *key = &spec->key[i];
		AttrNumber	attnum = form->indkey.values[i];
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(heap),
											  attnum - 1);
		Oid			opclass = opclasses->values[i];
		Oid			family = get_opclass_family(opclass);
		Oid			type = get_opclass_input_type(opclass);

		key->attnum = attnum;
		key->type = att->atttypid;
		key->typmod = att->atttypmod;
		key->basetype = getBaseTypeAndTypmod(key->type, &key->typmod);
		key->collation = collations->values[i];
		key->opclass = opclass;
		key->equals = get_opfamily_member(family, type, type,
										  BTEqualStrategyNumber);
		if (!OidIsValid(key->equals))
			elog(ERROR, "missing operator %d(%u,%u) in operator family %u",
				 BTEqualStrategyNumber, type, type, family);
	}
	ReleaseSysCache(tuple);
}

/* Are the fields of an index all given? */
static bool
all_given(Form_pg_index form, const bool *nulls)
{
	for (int i = 0; i < form->indnkeyatts; i++)
		if (nulls[form->indkey.values[i] - 1])
			return false;
	return true;
}

/* Why an index does not find one row, and what to do; NULL if it does. */
static const char *
index_fault(HeapTuple tuple, const char **hint)
{
	Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);

	if (!form->indisunique)
	{
		*hint = "Pass a unique index.";
		return "it is not unique";
	}
	if (!heap_attisnull(tuple, Anum_pg_index_indexprs, NULL))
	{
		*hint = "Pass a unique index on plain columns.";
		return "it is on an expression";
	}
	if (!heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
	{
		*hint = "Pass a unique index that has no WHERE clause.";
		return "it is partial, so other rows may have the same key";
	}
	if (!form->indimmediate)
	{
		*hint = "Create the constraint again as NOT DEFERRABLE, or pass another unique index.";
		return "it is deferrable, so a key may be there twice for a while";
	}
	if (!form->indisvalid || !form->indisready || !form->indislive)
	{
		*hint = "Run REINDEX INDEX on it; if it is partitioned, attach an index of each partition to it.";
		return "it is not valid, so rows may be missing in it";
	}
	if (!is_btree(form->indexrelid))
	{
		*hint = "Pass a unique btree index.";
		return "it is not a btree index";
	}
	return NULL;
}

/* Is an index a btree?  Other methods need not have an equality operator. */
static bool
is_btree(Oid index)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(index));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		refuse_dropped(index);
	result = ((Form_pg_class) GETSTRUCT(tuple))->relam == BTREE_AM_OID;
	ReleaseSysCache(tuple);
	return result;
}

/* Reads the column, if one was named. */
static void
read_column(IdemRowSpec *spec, Relation heap, const char *column)
{
	TupleDesc	desc = RelationGetDescr(heap);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || strcmp(NameStr(att->attname), column) != 0)
			continue;
		spec->column = att->attnum;
		spec->columntype = att->atttypid;
		spec->columntypmod = att->atttypmod;
		spec->columnbase =
			getBaseTypeAndTypmod(att->atttypid, &spec->columntypmod);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of relation \"%s\" does not exist",
					column, RelationGetRelationName(heap)),
			 errdetail("Table \"%s\" has no column of that name.",
					   RelationGetRelationName(heap)),
			 errhint("Names are taken as they are written, capitals too.")));
}

/*
 * May a BEFORE UPDATE trigger change the column, or suppress the row?  A
 * partition has triggers of its own, which are not looked for.
 */
static bool
may_change_row(Relation heap, const char *column)
{
	TriggerDesc *triggers = heap->trigdesc;

	if (heap->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		return true;
	if (triggers == NULL || !triggers->trig_update_before_row)
		return false;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_BEFORE(trigger->tgtype) &&
			TRIGGER_FOR_ROW(trigger->tgtype) &&
			TRIGGER_FOR_UPDATE(trigger->tgtype) &&
			trigger->tgenabled != TRIGGER_DISABLED &&
			!is_version_trigger(trigger, column))
			return true;
	}
	return false;
}

/* Our own idem_version changes its own column only, and suppresses nothing. */
static bool
is_version_trigger(const Trigger *trigger, const char *column)
{
	FmgrInfo	finfo;

	if (trigger->tgnargs != 1 || strcmp(trigger->tgargs[0], column) == 0)
		return false;
	fmgr_info(trigger->tgfoid, &finfo);
	return finfo.fn_addr == idem_version;
}
