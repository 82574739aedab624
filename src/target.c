/*-------------------------------------------------------------------------
 *
 * target.c
 *	  A table of the caller's and the key by which one of its rows is found.
 *
 * The contract.  A target is named by an OID: of a table, then the key is its
 * primary key; or of a unique index, then the key is that index's columns, in
 * index order (rowspec.c says which indexes will do).  Nothing is ever looked
 * at or done with other rights than the caller's; the statements (target_sql.c) go
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
 * What the catalog says, and the plans, are kept from call to call
 * (target_cache.c).
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/table.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void look_again(IdemTarget *target);


/*
 * Finds a target, and a column of it unless that is NULL, and locks the table
 * until the end of the transaction.  Connects to SPI.
 */
void
idem_target_open(IdemTarget *target, Oid relid, const char *column,
				 LOCKMODE lockmode)
{
	int			code;

	target->caller = CurrentMemoryContext;
	if ((code = SPI_connect()) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed: %s", SPI_result_code_string(code));

	target->kept = idem_kept_target_open(relid, column, lockmode);
	target->spec = &target->kept->spec;
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
		target->key[i] = idem_key_value(&target->kept->casts[i], spec->heap,
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
	int			nkeys = target->spec->nkeys;
	Datum		values[INDEX_MAX_KEYS + 1];

	memcpy(values, target->key, nkeys * sizeof(Datum));
	values[nkeys] = value;
	return idem_plan_row_execute(target->spec,
								 idem_kept_target_plan(target->kept, plan),
								 plan, values, target->caller,
								 result, resultnull);
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
								 idem_kept_target_insert_plan(target->kept,
															  desc, given,
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
	const char *column = target->kept->column;
	IdemRowSpec now = {0};

	if (!target->kept->stale)
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
