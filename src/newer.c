/*-------------------------------------------------------------------------
 *
 * newer.c
 *	  The trigger that skips stale updates: the newest message wins.
 *
 * The contract.  CREATE TRIGGER ... BEFORE UPDATE ON t FOR EACH ROW EXECUTE
 * FUNCTION idem_newer('updated_at').  The column says how new a row is: a time,
 * a sequence number, anything of a type with a btree order.  An UPDATE that
 * sets the column to a smaller value than the one stored is stale and skips
 * the row: nothing is written and no row is counted.  An UPDATE to an equal
 * value passes, so updates that leave the column alone pass; with the option
 * 'equal=skip' it skips the row too, which is for a trigger BEFORE UPDATE OF
 * the column.
 *
 * Null is older than anything.  NaN and infinity as a new value raise 22023:
 * they compare above all others, so no later message could pass.
 *
 * Concurrency.  The server calls the trigger with the row version that it has
 * locked and is about to replace, under every isolation level: under read
 * committed after it has waited for the writer before, and evaluated the
 * statement again on what that writer left; above read committed a row that was
 * changed after the snapshot is 40001 before we are called.  So of two messages
 * for one row, in whatever order they come, the newer one stays.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* What the trigger needs of its column, kept for the statement at work. */
typedef struct NewerColumn
{
	AttrNumber	attnum;
	Oid			basetype;
	Oid			collation;
	FmgrInfo   *compare;
	bool		equal_skip;
} NewerColumn;

static const IdemTriggerKind kind = {
	.name = "newer",
	.holds = "what tells which row is newer",
	.call = "idem_newer('column' [, 'equal=skip'])"
};

static NewerColumn *find_column(FunctionCallInfo fcinfo,
								const TriggerData *trigger);
static int	compare(const NewerColumn *column, const TriggerData *trigger);
static void check_end(const NewerColumn *column, const TriggerData *trigger,
					  Datum value);
static bool is_end(Oid type, Datum value);

PG_FUNCTION_INFO_V1(idem_newer);


/* BEFORE UPDATE trigger: skips a row that would become older. */
Datum
idem_newer(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = idem_trigger_data(fcinfo, &kind);
	NewerColumn *column = fcinfo->flinfo->fn_extra;
	int			order;

	if (column == NULL)
		column = find_column(fcinfo, trigger);

	order = compare(column, trigger);
	if (order < 0 || (order == 0 && column->equal_skip))
		return PointerGetDatum(NULL);
	return PointerGetDatum(trigger->tg_newtuple);
}


/* Finds the column that the trigger's argument names. */
static NewerColumn *
find_column(FunctionCallInfo fcinfo, const TriggerData *trigger)
{
	const Trigger *arguments = trigger->tg_trigger;
	Form_pg_attribute att;
	TypeCacheEntry *type;
	NewerColumn *column;

	if (arguments->tgnargs < 1 || arguments->tgnargs > 2)
		idem_trigger_refuse_arguments(trigger, &kind,
									  psprintf("Trigger \"%s\" has %d arguments; it needs a column, and may have an option.",
											   arguments->tgname,
											   arguments->tgnargs));
	if (arguments->tgnargs == 2 &&
		strcmp(arguments->tgargs[1], "equal=skip") != 0)
		idem_trigger_refuse_arguments(trigger, &kind,
									  psprintf("Trigger \"%s\" has the option \"%s\"; there is \"equal=skip\".",
											   arguments->tgname,
											   arguments->tgargs[1]));

	column = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
									sizeof(NewerColumn));
	column->attnum = idem_trigger_column(trigger, &kind, arguments->tgargs[0]);
	column->equal_skip = arguments->tgnargs == 2;

	att = TupleDescAttr(RelationGetDescr(trigger->tg_relation),
						column->attnum - 1);
	column->basetype = getBaseType(att->atttypid);
	column->collation = att->attcollation;
	type = lookup_type_cache(column->basetype, TYPECACHE_CMP_PROC_FINFO);
	if (!OidIsValid(type->cmp_proc_finfo.fn_oid))
		idem_refuse_column_type(trigger->tg_relation, column->attnum,
								kind.holds,
								"Use a column of a type that has an order, such as timestamptz or bigint.");
	column->compare = &type->cmp_proc_finfo;
	fcinfo->flinfo->fn_extra = column;
	return column;
}

/* Is the row newer (above 0), as new (0) or older after the update? */
static int
compare(const NewerColumn *column, const TriggerData *trigger)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		nulls[2];
	Datum		before = heap_getattr(trigger->tg_trigtuple, column->attnum,
									  desc, &nulls[0]);
	Datum		after = heap_getattr(trigger->tg_newtuple, column->attnum,
									 desc, &nulls[1]);
	int			order;

	if (nulls[0] || nulls[1])
		order = (int) nulls[0] - (int) nulls[1];
	else
		order = DatumGetInt32(FunctionCall2Coll(column->compare,
												column->collation,
												after, before));
	if (order != 0 && !nulls[1])
		check_end(column, trigger, after);
	return order;
}

/* Refuses a new value that nothing could follow. */
static void
check_end(const NewerColumn *column, const TriggerData *trigger, Datum value)
{
	Relation	rel = trigger->tg_relation;

	if (!is_end(column->basetype, value))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("column \"%s\" of table \"%s\" must not become %s",
					trigger->tg_trigger->tgargs[0],
					RelationGetRelationName(rel),
					idem_value_text(column->basetype, value)),
			 errdetail("No value is newer, so every later update of the row would be skipped."),
			 errhint("Set the column to a finite value."),
			 errtablecol(rel, column->attnum)));
}

/* Is a value above all others of its type? */
static bool
is_end(Oid type, Datum value)
{
	switch (type)
	{
		case FLOAT4OID:
			return isnan(DatumGetFloat4(value)) ||
				(isinf(DatumGetFloat4(value)) && DatumGetFloat4(value) > 0);
		case FLOAT8OID:
			return isnan(DatumGetFloat8(value)) ||
				(isinf(DatumGetFloat8(value)) && DatumGetFloat8(value) > 0);
		case NUMERICOID:
			return numeric_is_nan(DatumGetNumeric(value)) ||
				(numeric_is_inf(DatumGetNumeric(value)) &&
				 DatumGetBool(DirectFunctionCall2(numeric_gt, value,
												  idem_zero())));
		case DATEOID:
			return DATE_IS_NOEND(DatumGetDateADT(value));
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return TIMESTAMP_IS_NOEND(DatumGetTimestamp(value));
		case INTERVALOID:
			return INTERVAL_IS_NOEND(DatumGetIntervalP(value));
		default:
			return false;
	}
}
