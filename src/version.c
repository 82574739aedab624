/*-------------------------------------------------------------------------
 *
 * version.c
 *	  The trigger that keeps a row's version number: optimistic locking.
 *
 * The contract.  CREATE TRIGGER ... BEFORE UPDATE ON t FOR EACH ROW EXECUTE
 * FUNCTION idem_version('version').  Every UPDATE of a row makes the version
 * one larger, whatever the statement says of it: it may leave the version
 * alone, or set it to the old one + 1, as the classic statement
 *
 *		UPDATE t SET ..., version = version + 1 WHERE id = $1 AND version = $2
 *
 * does.  Any other version is that of a writer who has not seen the row as it
 * is, and raises ID412 with the present version.  A null in the old row, as
 * ALTER TABLE ... ADD COLUMN leaves it, counts as 0.
 *
 * Concurrency.  The server calls the trigger with the row version that it has
 * locked and is about to replace, under every isolation level: under read
 * committed after it has waited for the writer before and evaluated the
 * statement anew on what that one left; above read committed such a row is
 * 40001 before we are called.  So between the comparison here and the write
 * nobody can change the row, and of two writers who have read the same
 * version, the second one fails.
 *
 * No SQL is run here, and nothing is kept but the number of the column, for
 * the statement at work.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/* What the trigger needs of its column, kept for the statement at work. */
typedef struct VersionColumn
{
	int			attnum;
	Oid			type;			/* as declared, perhaps a domain */
	Oid			basetype;
	int64		max;
} VersionColumn;

static void check_call(FunctionCallInfo fcinfo);
pg_noreturn static void refuse_call(const char *detail);
static VersionColumn *find_column(FunctionCallInfo fcinfo,
								  TriggerData *trigger);
static int64 version_of(const VersionColumn *column, Datum value);
pg_noreturn static void refuse_stale(TriggerData *trigger, const VersionColumn *column,
									 int64 current, bool null, int64 given);
pg_noreturn static void refuse_wraparound(TriggerData *trigger,
										  const VersionColumn *column);

PG_FUNCTION_INFO_V1(idem_version);


/* BEFORE UPDATE trigger: the row's version is the old one + 1. */
Datum
idem_version(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;
	VersionColumn *column;
	TupleDesc	desc;
	Datum		value;
	bool		null;
	int64		current = 0;
	int64		given = 0;

	check_call(fcinfo);
	trigger = (TriggerData *) fcinfo->context;
	desc = RelationGetDescr(trigger->tg_relation);
	column = fcinfo->flinfo->fn_extra;
	if (column == NULL)
		column = find_column(fcinfo, trigger);

	value = heap_getattr(trigger->tg_trigtuple, column->attnum, desc, &null);
	if (!null)
		current = version_of(column, value);
	value = heap_getattr(trigger->tg_newtuple, column->attnum, desc, &null);
	if (!null)
		given = version_of(column, value);

	if (current == column->max)
		refuse_wraparound(trigger, column);
	if (!null && given == current + 1)
		return PointerGetDatum(trigger->tg_newtuple);
	if (given != current ||
		(null && !heap_attisnull(trigger->tg_trigtuple, column->attnum, desc)))
		refuse_stale(trigger, column, current, null, given);

	value = idem_integer_datum(column->basetype, current + 1);
	null = false;
	if (column->type != column->basetype)
		domain_check(value, false, column->type, NULL, NULL);
	return PointerGetDatum(heap_modify_tuple_by_cols(trigger->tg_newtuple,
													 desc, 1,
													 &column->attnum,
													 &value, &null));
}


/* Refuses to be called as anything but the trigger that we are. */
static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		refuse_call("It was not called by a trigger.");
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		refuse_call("The trigger is FOR EACH STATEMENT.");
	if (!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		refuse_call("The trigger is not a BEFORE trigger.");
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		refuse_call("The trigger is not for UPDATE alone.");
}

static void
refuse_call(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("version trigger is not set up as it needs to be"),
			 errdetail("%s", detail),
			 errhint("Use CREATE TRIGGER ... BEFORE UPDATE ON ... FOR EACH ROW EXECUTE FUNCTION idem_version('version').")));
}

/* Finds the column that the trigger's argument names. */
static VersionColumn *
find_column(FunctionCallInfo fcinfo, TriggerData *trigger)
{
	Relation	rel = trigger->tg_relation;
	const char *table = RelationGetRelationName(rel);
	VersionColumn *column;
	const char *name;
	int			attnum;
	int32		typmod = -1;

	if (trigger->tg_trigger->tgnargs != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" needs the name of the version column",
						trigger->tg_trigger->tgname),
				 errdetail("It has %d arguments instead of 1.",
						   trigger->tg_trigger->tgnargs),
				 errhint("Use EXECUTE FUNCTION idem_version('version').")));

	name = trigger->tg_trigger->tgargs[0];
	attnum = SPI_fnumber(RelationGetDescr(rel), name);
	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						name, table),
				 errdetail("Trigger \"%s\" of table \"%s\" names the column.",
						   trigger->tg_trigger->tgname, table),
				 errhint("Drop the trigger and create it again with the column's present name.")));

	if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attgenerated != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("column \"%s\" of table \"%s\" cannot be a version",
						name, table),
				 errdetail("It is generated, so the server computes it after the trigger has set it."),
				 errhint("Use a column that is not generated.")));

	column = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(VersionColumn));
	column->attnum = attnum;
	column->type = SPI_gettypeid(RelationGetDescr(rel), attnum);
	column->basetype = getBaseTypeAndTypmod(column->type, &typmod);
	switch (column->basetype)
	{
		case INT2OID:
			column->max = PG_INT16_MAX;
			break;
		case INT4OID:
			column->max = PG_INT32_MAX;
			break;
		case INT8OID:
			column->max = PG_INT64_MAX;
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\" of table \"%s\" cannot be a version",
							name, table),
					 errdetail("It is of type %s.",
							   format_type_be(column->type)),
					 errhint("Use a column of type bigint, integer or smallint.")));
	}
	fcinfo->flinfo->fn_extra = column;
	return column;
}

/* A version as a number. */
static int64
version_of(const VersionColumn *column, Datum value)
{
	switch (column->basetype)
	{
		case INT2OID:
			return DatumGetInt16(value);
		case INT4OID:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

/* The writer has not seen the row as it is. */
static void
refuse_stale(TriggerData *trigger, const VersionColumn *column,
			 int64 current, bool null, int64 given)
{
	const char *name = trigger->tg_trigger->tgargs[0];

	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 errmsg("row of table \"%s\" has another version by now",
					RelationGetRelationName(trigger->tg_relation)),
			 null ?
			 errdetail("Column \"%s\" is %lld, and the update sets it to null.",
					   name, (long long) current) :
			 errdetail("Column \"%s\" is %lld, and the update sets it to %lld.",
					   name, (long long) current, (long long) given),
			 errhint("Read the row again, and set the column to the version read or leave it alone.")));
}

/* The type has no version after this one. */
static void
refuse_wraparound(TriggerData *trigger, const VersionColumn *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("version of a row of table \"%s\" is out of range",
					RelationGetRelationName(trigger->tg_relation)),
			 errdetail("Column \"%s\" is %lld, the largest %s.",
					   trigger->tg_trigger->tgargs[0],
					   (long long) column->max,
					   format_type_be(column->basetype)),
			 errhint("Run ALTER TABLE %s ALTER COLUMN %s TYPE bigint, or set the versions back with the trigger disabled.",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(trigger->tg_relation)),
												RelationGetRelationName(trigger->tg_relation)),
					 quote_identifier(trigger->tg_trigger->tgargs[0]))));
}
