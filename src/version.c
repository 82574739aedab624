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
 * statement again on what that writer left; above read committed such a row is
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

static const IdemTriggerKind kind = {
	.name = "version",
	.holds = "a version",
	.call = "idem_version('version')"
};

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

	trigger = idem_trigger_data(fcinfo, &kind);
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


/* Finds the column that the trigger's argument names. */
static VersionColumn *
find_column(FunctionCallInfo fcinfo, TriggerData *trigger)
{
	Relation	rel = trigger->tg_relation;
	VersionColumn *column;
	AttrNumber	attnum;
	int32		typmod = -1;

	if (trigger->tg_trigger->tgnargs != 1)
		idem_trigger_refuse_arguments(trigger, &kind,
									  psprintf("Trigger \"%s\" has %d arguments; it needs the name of the version column.",
											   trigger->tg_trigger->tgname,
											   trigger->tg_trigger->tgnargs));
	attnum = idem_trigger_column(trigger, &kind, trigger->tg_trigger->tgargs[0]);

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
			idem_refuse_column_type(rel, attnum, kind.holds,
									"Use a column of type bigint, integer or smallint.");
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
			 errmsg("row of table \"%s\" has another version",
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
