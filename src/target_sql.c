/*-------------------------------------------------------------------------
 *
 * target_sql.c
 *	  Every SQL text that C runs on tables of the caller's.
 *
 * Each statement is about one row, found by its key.  It runs as the caller,
 * through the executor, so that privileges, row security, triggers and
 * constraints are the server's business.  Names come from the catalog, by OID,
 * and are quoted.
 *
 * ONLY, because a unique index says nothing about the rows of child tables.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"


/* What each text has to answer, and whether it takes a value after the key. */
static const struct
{
	int			expected;
	bool		takes_value;
}			row_plans[IDEM_ROW_PLANS] = {
	[IDEM_ROW_LOCK] = {SPI_OK_SELECT, false},
	[IDEM_ROW_EXISTS] = {SPI_OK_SELECT, false},
	[IDEM_ROW_READ] = {SPI_OK_SELECT, false},
	[IDEM_ROW_READ_ALL] = {SPI_OK_SELECT, false},
	[IDEM_ROW_LOCK_TEXT] = {SPI_OK_SELECT, false},
	[IDEM_ROW_SET_TEXT] = {SPI_OK_UPDATE_RETURNING, true},
	[IDEM_ROW_DEDUCT] = {SPI_OK_UPDATE, true},
	[IDEM_ROW_DEDUCT_READ] = {SPI_OK_UPDATE_RETURNING, true},
	[IDEM_ROW_LOCK_ENOUGH] = {SPI_OK_SELECT, true},
	[IDEM_ROW_INSERT] = {SPI_OK_INSERT_RETURNING, false},
};

static SPIPlanPtr row_plan(const IdemRowSpec *spec, const char *text,
						   int nargs, const Oid *types);
static void append_columns(StringInfo text, const IdemRowSpec *spec);
static Datum make_row(Oid heap, HeapTuple tuple, TupleDesc columns);
static void append_enough(StringInfo text, const IdemRowSpec *spec,
						  const char *column, int param);
static void append_key(StringInfo text, const IdemRowSpec *spec);
static const char *table_name(Oid relid);
static const char *type_name(Oid type);
static const char *collation_name(Oid collation);
static const char *opclass_name(Oid opclass);
static const char *object_name(int cache, Oid oid, AttrNumber schema_column,
							   AttrNumber name_column);


/* A plan; it goes with the SPI level unless the caller keeps it. */
SPIPlanPtr
idem_plan_row(const IdemRowSpec *spec, IdemRowPlan plan)
{
	StringInfoData text;
	Oid			types[INDEX_MAX_KEYS + 1];
	int			nargs = spec->nkeys;
	const char *table = table_name(spec->heap);
	const char *only = spec->partitioned ? "" : "ONLY ";
	const char *column = NULL;

	for (int i = 0; i < spec->nkeys; i++)
		types[i] = spec->key[i].basetype;
	if (row_plans[plan].takes_value)
		types[nargs++] = plan == IDEM_ROW_SET_TEXT ? TEXTOID : spec->columnbase;
	if (spec->column != InvalidAttrNumber)
		column = quote_identifier(get_attname(spec->heap, spec->column, false));

	initStringInfo(&text);
	switch (plan)
	{
		case IDEM_ROW_LOCK:
			appendStringInfo(&text, "SELECT FROM %s%s", only, table);
			append_key(&text, spec);
			appendStringInfoString(&text, " FOR NO KEY UPDATE");
			break;

		case IDEM_ROW_EXISTS:
			appendStringInfo(&text, "SELECT FROM %s%s", only, table);
			append_key(&text, spec);
			break;

		case IDEM_ROW_READ:
			appendStringInfo(&text, "SELECT %s FROM %s%s", column, only, table);
			append_key(&text, spec);
			break;

		case IDEM_ROW_READ_ALL:
			appendStringInfoString(&text, "SELECT ");
			append_columns(&text, spec);
			appendStringInfo(&text, " FROM %s%s", only, table);
			append_key(&text, spec);
			break;

		case IDEM_ROW_LOCK_TEXT:
			appendStringInfo(&text, "SELECT CAST(%s AS pg_catalog.text)"
							 " FROM %s%s", column, only, table);
			append_key(&text, spec);
			appendStringInfoString(&text, " FOR NO KEY UPDATE");
			break;

		case IDEM_ROW_SET_TEXT:
			/* to a domain over varchar(n), the cast would cut it off */
			appendStringInfo(&text, "UPDATE %s%s SET %s = CAST($%d AS %s)",
							 only, table, column, nargs,
							 type_name(spec->columnbase));
			append_key(&text, spec);
			appendStringInfo(&text, " RETURNING CAST(%s AS pg_catalog.text)",
							 column);
			break;

		case IDEM_ROW_DEDUCT:
		case IDEM_ROW_DEDUCT_READ:
			appendStringInfo(&text, "UPDATE %s%s SET %s ="
							 " %s OPERATOR(pg_catalog.-) $%d",
							 only, table, column, column, nargs);
			append_key(&text, spec);
			append_enough(&text, spec, column, nargs);
			if (plan == IDEM_ROW_DEDUCT_READ)
				appendStringInfo(&text, " RETURNING %s", column);
			break;

		case IDEM_ROW_LOCK_ENOUGH:
			appendStringInfo(&text, "SELECT %s OPERATOR(pg_catalog.-) $%d"
							 " FROM %s%s", column, nargs, only, table);
			append_key(&text, spec);
			append_enough(&text, spec, column, nargs);
			appendStringInfoString(&text, " FOR NO KEY UPDATE");
			break;

		case IDEM_ROW_INSERT:
			elog(ERROR, "an insert is built by idem_plan_row_insert");
	}
	return row_plan(spec, text.data, nargs, types);
}

/*
 * A plan that inserts a row of the given columns and answers it as it was
 * stored.  With arbiter, a row with the same key makes it do nothing.
 */
SPIPlanPtr
idem_plan_row_insert(const IdemRowSpec *spec, const AttrNumber *given,
					 const Oid *types, int ngiven, bool arbiter)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "INSERT INTO %s (", table_name(spec->heap));
	for (int i = 0; i < ngiven; i++)
		appendStringInfo(&text, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(get_attname(spec->heap, given[i],
													  false)));
	appendStringInfoString(&text, ") VALUES (");
	for (int i = 0; i < ngiven; i++)
		appendStringInfo(&text, "%s$%d", i > 0 ? ", " : "", i + 1);
	appendStringInfoChar(&text, ')');

	if (arbiter)
	{
		appendStringInfoString(&text, " ON CONFLICT (");
		for (int i = 0; i < spec->nkeys; i++)
		{
			IdemKeyColumn *key = &spec->key[i];

			appendStringInfo(&text, "%s%s", i > 0 ? ", " : "",
							 quote_identifier(get_attname(spec->heap,
														  key->attnum, false)));
			if (OidIsValid(key->collation))
				appendStringInfo(&text, " COLLATE %s",
								 collation_name(key->collation));
			appendStringInfo(&text, " %s", opclass_name(key->opclass));
		}
		appendStringInfoString(&text, ") DO NOTHING");
	}
	appendStringInfoString(&text, " RETURNING ");
	append_columns(&text, spec);
	return row_plan(spec, text.data, ngiven, types);
}

/*
 * Runs a plan of this section as the caller: is there a row?  What it answers
 * goes to result, copied into copyto, unless result is NULL.
 */
bool
idem_plan_row_execute(const IdemRowSpec *spec, SPIPlanPtr plan,
					  IdemRowPlan which, const Datum *values,
					  MemoryContext copyto, Datum *result, bool *resultnull)
{
	int			code = SPI_execute_plan(plan, (Datum *) values, NULL, false, 0);

	if (code != row_plans[which].expected)
		elog(ERROR, "SPI_execute_plan answered %s",
			 SPI_result_code_string(code));

	if (SPI_processed == 0)
		return false;
	if (result != NULL)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		HeapTuple	tuple = SPI_tuptable->vals[0];
		MemoryContext spi = MemoryContextSwitchTo(copyto);

		if (which == IDEM_ROW_READ_ALL || which == IDEM_ROW_INSERT)
		{
			*result = make_row(spec->heap, tuple, desc);
			*resultnull = false;
		}
		else
		{
			Form_pg_attribute att = TupleDescAttr(desc, 0);

			*result = SPI_getbinval(tuple, desc, 1, resultnull);
			if (!*resultnull)
				*result = datumCopy(*result, att->attbyval, att->attlen);
		}
		MemoryContextSwitchTo(spi);
	}
	return true;
}

/* Prepares a text. */
static SPIPlanPtr
row_plan(const IdemRowSpec *spec, const char *text, int nargs,
		 const Oid *types)
{
	/*
	 * A unique key needs no plan for each value; that saves planning the
	 * first calls.  Only partitions are better picked by value.
	 */
	SPIPlanPtr	plan = SPI_prepare_cursor(text, nargs, (Oid *) types,
										  spec->partitioned ? 0 :
										  CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare_cursor failed for \"%s\": %s",
			 text, SPI_result_code_string(SPI_result));
	return plan;
}

/* The columns of the table, in their order. */
static void
append_columns(StringInfo text, const IdemRowSpec *spec)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(get_rel_type_id(spec->heap), -1);
	const char *separator = "";

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		appendStringInfo(text, "%s%s", separator,
						 quote_identifier(NameStr(att->attname)));
		separator = ", ";
	}
	ReleaseTupleDesc(desc);
}

/*
 * The row of a table from what append_columns named.  The row is not asked for
 * as one value, for a distributed table has shards of other types.
 */
static Datum
make_row(Oid heap, HeapTuple tuple, TupleDesc columns)
{
	TupleDesc	desc = lookup_rowtype_tupdesc(get_rel_type_id(heap), -1);
	Datum	   *values = palloc0_array(Datum, desc->natts);
	bool	   *nulls = palloc_array(bool, desc->natts);
	int			n = 0;
	Datum		result;

	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			nulls[i] = true;
		else
			values[i] = SPI_getbinval(tuple, columns, ++n, &nulls[i]);
	}
	if (n != columns->natts)
		elog(ERROR, "%d columns answered instead of %d", columns->natts, n);
	result = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	ReleaseTupleDesc(desc);
	return result;
}

/* " AND " there is enough: null is not, and NaN, which is above all numbers. */
static void
append_enough(StringInfo text, const IdemRowSpec *spec, const char *column,
			  int param)
{
	appendStringInfo(text, " AND %s OPERATOR(pg_catalog.>=) $%d", column, param);
	if (spec->columnbase == NUMERICOID)
		appendStringInfo(text, " AND %s OPERATOR(pg_catalog.<>)"
						 " 'NaN'::pg_catalog.numeric", column);
}

/* " WHERE " and the key, compared as its index compares. */
static void
append_key(StringInfo text, const IdemRowSpec *spec)
{
	for (int i = 0; i < spec->nkeys; i++)
	{
		IdemKeyColumn *key = &spec->key[i];
		const char *name = quote_identifier(get_attname(spec->heap,
														key->attnum, false));
		char		param[16];
		Oid			left;
		Oid			right;
		Oid			type;
		int32		typmod;
		Oid			collation;

		appendStringInfoString(text, i > 0 ? " AND " : " WHERE ");

		/* Citus does not see the column that it distributes by through this */
		get_atttypetypmodcoll(spec->heap, key->attnum, &type, &typmod,
							  &collation);
		if (OidIsValid(key->collation) && key->collation != collation)
			name = psprintf("(%s COLLATE %s)", name,
							collation_name(key->collation));
		snprintf(param, sizeof(param), "$%d", i + 1);

		/*
		 * An operator on anyarray or the like has no type to cast to. Without
		 * a cast it would see a domain, and an array whose elements have a
		 * modifier the parser makes an anyarray, which equals nothing.
		 */
		op_input_types(key->equals, &left, &right);
		if (IsPolymorphicType(left))
			generate_operator_clause(text, psprintf("%s::%s", name,
													type_name(key->basetype)),
									 left, key->equals, param, right);
		else
			generate_operator_clause(text, name, key->type, key->equals,
									 param, key->basetype);
	}
}

/* The names of catalog objects, qualified and quoted. */
static const char *
table_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

static const char *
type_name(Oid type)
{
	return object_name(TYPEOID, type, Anum_pg_type_typnamespace,
					   Anum_pg_type_typname);
}

static const char *
collation_name(Oid collation)
{
	return object_name(COLLOID, collation, Anum_pg_collation_collnamespace,
					   Anum_pg_collation_collname);
}

static const char *
opclass_name(Oid opclass)
{
	return object_name(CLAOID, opclass, Anum_pg_opclass_opcnamespace,
					   Anum_pg_opclass_opcname);
}

/* What one of the server's caches by OID says the name of an object is. */
static const char *
object_name(int cache, Oid oid, AttrNumber schema_column,
			AttrNumber name_column)
{
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(oid));
	bool		isnull;
	Oid			schema;
	Name		name;
	const char *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for object %u", oid);
	schema = DatumGetObjectId(SysCacheGetAttr(cache, tuple, schema_column, &isnull));
	name = DatumGetName(SysCacheGetAttr(cache, tuple, name_column, &isnull));
	result = quote_qualified_identifier(get_namespace_name(schema), NameStr(*name));
	ReleaseSysCache(tuple);
	return result;
}
