/*-------------------------------------------------------------------------
 *
 * row_insert.c
 *	  Rows of the caller's own tables: insert once.
 *
 * The contract.  idem_insert inserts a row, or finds the row that has the same
 * key, and answers the row as it is stored.  Everything is done as the caller,
 * through the executor (target.c), as for a statement that the caller writes.
 *
 * Concurrency.  An INSERT ... ON CONFLICT DO NOTHING decides who was first, and
 * waits for a rival on the same key.  Above read committed a row that was
 * inserted after the snapshot is the server's 40001.  Under read committed a
 * statement that inserts nothing has met a row which its snapshot may not
 * show, and which may be gone: so the row is read with a new snapshot,
 * and if it is not there, the insert is tried again.  That goes on only as
 * long as a rival commits an insert and a delete each time; what goes on
 * without a rival (a row that row security hides, or that a trigger keeps out)
 * ends after MAX_ROUNDS with an error that says so.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define MAX_ROUNDS	20

static Oid	table_of_candidate(FunctionCallInfo fcinfo);
static TupleDesc lock_candidate(HeapTupleHeader candidate, Oid relid);
static bool same_layout(TupleDesc a, TupleDesc b);
static void open_candidate(IdemTarget *target, FunctionCallInfo fcinfo,
						   Oid relid, TupleDesc desc, const Datum *values,
						   const bool *nulls);
static bool insert_once(IdemTarget *target, TupleDesc desc,
						const Datum *values, const bool *nulls,
						Datum *stored);
static TupleDesc insert_result(FunctionCallInfo fcinfo);

PG_FUNCTION_INFO_V1(idem_insert);


/*
 * idem_insert(candidate anyelement, key regclass, OUT inserted boolean,
 * OUT stored anyelement)
 */
Datum
idem_insert(PG_FUNCTION_ARGS)
{
	Oid			relid = table_of_candidate(fcinfo);
	TupleDesc	result_desc = insert_result(fcinfo);
	HeapTupleHeader candidate = PG_GETARG_HEAPTUPLEHEADER(0);
	TupleDesc	desc;
	HeapTupleData tuple;
	Datum	   *values;
	bool	   *nulls;
	IdemTarget	target;
	Datum		result[2];
	bool		resultnull[2] = {false, false};

	idem_check_access(IDEM_WRITE);

	desc = lock_candidate(candidate, relid);
	values = palloc_array(Datum, desc->natts);
	nulls = palloc_array(bool, desc->natts);
	tuple.t_len = HeapTupleHeaderGetDatumLength(candidate);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = candidate;
	heap_deform_tuple(&tuple, desc, values, nulls);

	open_candidate(&target, fcinfo, relid, desc, values, nulls);
	result[0] = BoolGetDatum(insert_once(&target, desc, values, nulls,
										 &result[1]));
	idem_target_close(&target);
	ReleaseTupleDesc(desc);

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(result_desc, result,
													  resultnull)));
}

/* The table whose row the candidate is. */
static Oid
table_of_candidate(FunctionCallInfo fcinfo)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	Oid			relid = InvalidOid;
	char		relkind = '\0';

	if (OidIsValid(type) && get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		relid = get_typ_typrelid(type);
		relkind = get_rel_relkind(relid);
	}
	if (relkind == '\0' || relkind == RELKIND_COMPOSITE_TYPE)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("argument \"candidate\" must be a row of a table"),
				 errdetail("\"candidate\" is of type %s.", format_type_be(type)),
				 errhint("Cast it to the table, as in ROW(...)::orders or jsonb_populate_record(NULL::orders, ...).")));
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", get_rel_name(relid)),
				 errdetail_relkind_not_supported(relkind),
				 errhint("Cast the candidate to the table itself.")));
	idem_arg_not_null(fcinfo, 0, "candidate");
	return relid;
}

/*
 * Locks the table of a candidate; the layout that both have.
 *
 * The candidate was made before the lock was there, and what a rival has done
 * to the table since then changes the layout of its type, not the candidate:
 * read by the new layout, the bytes of a number would be taken for a pointer.
 */
static TupleDesc
lock_candidate(HeapTupleHeader candidate, Oid relid)
{
	Oid			type = HeapTupleHeaderGetTypeId(candidate);
	int32		typmod = HeapTupleHeaderGetTypMod(candidate);
	TupleDesc	before = lookup_rowtype_tupdesc(type, typmod);
	TupleDesc	desc;
	bool		altered;

	LockRelationOid(relid, RowExclusiveLock);
	(void) idem_spec_table(relid);

	desc = lookup_rowtype_tupdesc(type, typmod);
	altered = !same_layout(before, desc) ||
		HeapTupleHeaderGetNatts(candidate) > desc->natts;
	ReleaseTupleDesc(before);
	if (altered)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("table \"%s\" was altered after the candidate was made",
						get_rel_name(relid)),
				 errdetail("The candidate has the columns that the table had before."),
				 errhint("Run the transaction again.")));
	return desc;
}

/* Are rows of one layout rows of the other?  Defaults may differ, and names. */
static bool
same_layout(TupleDesc a, TupleDesc b)
{
	if (a->natts != b->natts)
		return false;
	for (int i = 0; i < a->natts; i++)
	{
		Form_pg_attribute first = TupleDescAttr(a, i);
		Form_pg_attribute second = TupleDescAttr(b, i);

		if (first->attisdropped != second->attisdropped ||
			first->atttypid != second->atttypid)
			return false;
	}
	return true;
}

/* Finds the key of a candidate and opens its table. */
static void
open_candidate(IdemTarget *target, FunctionCallInfo fcinfo, Oid relid,
			   TupleDesc desc, const Datum *values, const bool *nulls)
{
	const IdemRowSpec *spec;

	idem_target_open(target, PG_ARGISNULL(1) ?
					 idem_spec_choose(relid, nulls) : PG_GETARG_OID(1),
					 NULL, RowExclusiveLock);
	spec = target->spec;
	if (spec->heap != relid)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("argument \"key\" is not an index of the candidate's table"),
				 errdetail("\"%s\" belongs to table \"%s\", and the candidate is a row of table \"%s\".",
						   get_rel_name(PG_GETARG_OID(1)),
						   get_rel_name(spec->heap), get_rel_name(relid)),
				 errhint("Pass a unique index of table \"%s\".",
						 get_rel_name(relid))));

	for (int i = 0; i < spec->nkeys; i++)
	{
		AttrNumber	attnum = spec->key[i].attnum;

		if (nulls[attnum - 1])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("key field of the candidate must not be null"),
					 errdetail("Field \"%s\" belongs to key (%s) and is null.",
							   NameStr(TupleDescAttr(desc, attnum - 1)->attname),
							   idem_target_columns(target)),
					 errhint("Give the field a value, or pass a unique index whose fields are all given.")));
		target->key[i] = values[attnum - 1];
	}
}

/* Inserts the row, or finds the one with the same key: was it inserted? */
static bool
insert_once(IdemTarget *target, TupleDesc desc, const Datum *values,
			const bool *nulls, Datum *stored)
{
	bool		null;

	/*
	 * To look first costs a statement when the row is new, and saves its
	 * defaults, sequences among them, when it is not.
	 */
	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		CHECK_FOR_INTERRUPTS();
		if (idem_target_execute(target, IDEM_ROW_READ_ALL, (Datum) 0,
								stored, &null))
			return false;
		if (idem_target_insert(target, desc, values, nulls, true, stored))
			return true;
	}

	/*
	 * Something is in the way that we cannot see.  A row that row security
	 * hides, or whose key a trigger has made of ours, is now the server's
	 * 23505.
	 */
	if (idem_target_insert(target, desc, values, nulls, false, stored))
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("table \"%s\" does not take the row",
					get_rel_name(target->spec->heap)),
			 errdetail("Key %s was inserted %d times without a conflict, and is not there.",
					   idem_target_key_text(target), MAX_ROUNDS),
			 errhint("Look for a BEFORE INSERT trigger that suppresses the row.")));
}

/* What idem_insert returns, kept for the statement at work. */
static TupleDesc
insert_result(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		TupleDesc	desc;
		MemoryContext old;

		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = BlessTupleDesc(CreateTupleDescCopy(desc));
		MemoryContextSwitchTo(old);
	}
	return fcinfo->flinfo->fn_extra;
}
