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

#include "catalog/pg_collation.h"
#include "catalog/pg_opclass.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"


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
	[IDEM_ROW_SET_TEXT] = {SPI_OK_UPDATE, true},
	[IDEM_ROW_DEDUCT] = {SPI_OK_UPDATE, true},
	[IDEM_ROW_DEDUCT_READ] = {SPI_OK_UPDATE_RETURNING, true},
	[IDEM_ROW_LOCK_ENOUGH] = {SPI_OK_SELECT, true},
	[IDEM_ROW_INSERT] = {SPI_OK_INSERT_RETURNING, false},
};

static SPIPlanPtr row_plan(const IdemRowSpec *spec, const char *text,
						   int nargs, const Oid *types);
static void append_key(StringInfo text, const IdemRowSpec *spec);
static const char *table_name(Oid relid);
static const char *type_name(Oid type);
static const char *collation_name(Oid collation);
static const char *opclass_name(Oid opclass);


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
			appendStringInfo(&text, "SELECT t.*::%s FROM %s%s AS t", table,
							 only, table);
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
			break;

		case IDEM_ROW_DEDUCT:
		case IDEM_ROW_DEDUCT_READ:
			appendStringInfo(&text, "UPDATE %s%s SET %s ="
							 " %s OPERATOR(pg_catalog.-) $%d",
							 only, table, column, column, nargs);
			append_key(&text, spec);
			appendStringInfo(&text, " AND %s OPERATOR(pg_catalog.>=) $%d",
							 column, nargs);
			if (plan == IDEM_ROW_DEDUCT_READ)
				appendStringInfo(&text, " RETURNING %s", column);
			break;

		case IDEM_ROW_LOCK_ENOUGH:
			appendStringInfo(&text, "SELECT %s OPERATOR(pg_catalog.-) $%d"
							 " FROM %s%s", column, nargs, only, table);
			append_key(&text, spec);
			appendStringInfo(&text, " AND %s OPERATOR(pg_catalog.>=) $%d"
							 " FOR NO KEY UPDATE", column, nargs);
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
	const char *table = table_name(spec->heap);

	initStringInfo(&text);
	appendStringInfo(&text, "INSERT INTO %s AS t (", table);
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
	appendStringInfo(&text, " RETURNING t.*::%s", table);
	return row_plan(spec, text.data, ngiven, types);
}

/*
 * Runs a plan of this section as the caller: is there a row?  Its only column
 * goes to result, copied into copyto, unless result is NULL.
 */
bool
idem_plan_row_execute(SPIPlanPtr plan, IdemRowPlan which, const Datum *values,
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
		Form_pg_attribute att = TupleDescAttr(desc, 0);

		*result = SPI_getbinval(SPI_tuptable->vals[0], desc, 1, resultnull);
		if (!*resultnull)
		{
			MemoryContext spi = MemoryContextSwitchTo(copyto);

			*result = datumCopy(*result, att->attbyval, att->attlen);
			MemoryContextSwitchTo(spi);
		}
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

		appendStringInfoString(text, i > 0 ? " AND " : " WHERE ");
		if (OidIsValid(key->collation))
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
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;
	const char *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->typnamespace),
									  NameStr(form->typname));
	ReleaseSysCache(tuple);
	return name;
}

static const char *
collation_name(Oid collation)
{
	HeapTuple	tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;
	const char *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->collnamespace),
									  NameStr(form->collname));
	ReleaseSysCache(tuple);
	return name;
}

static const char *
opclass_name(Oid opclass)
{
	HeapTuple	tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass));
	Form_pg_opclass form;
	const char *name;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator class %u", opclass);
	form = (Form_pg_opclass) GETSTRUCT(tuple);
	name = quote_qualified_identifier(get_namespace_name(form->opcnamespace),
									  NameStr(form->opcname));
	ReleaseSysCache(tuple);
	return name;
}
