/*-------------------------------------------------------------------------
 *
 * trigger.c
 *	  What our row triggers have in common: how they must be set up.
 *
 * idem_version, idem_newer and idem_state are BEFORE ROW triggers whose first
 * arguments name a column.  Each refuses to be called as anything else, and a
 * column that is not there or has no value yet when the trigger runs.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "trigger.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

pg_noreturn static void refuse_call(const IdemTriggerKind *kind,
									const char *detail);


/* The trigger that calls us, which must be set up as its kind needs it. */
struct TriggerData *
idem_trigger_data(FunctionCallInfo fcinfo, const IdemTriggerKind *kind)
{
	TriggerEvent event;

	if (!CALLED_AS_TRIGGER(fcinfo))
		refuse_call(kind, "It was not called by a trigger.");

	event = ((TriggerData *) fcinfo->context)->tg_event;
	if (!TRIGGER_FIRED_FOR_ROW(event))
		refuse_call(kind, "The trigger is FOR EACH STATEMENT.");
	if (!TRIGGER_FIRED_BEFORE(event))
		refuse_call(kind, "The trigger is not a BEFORE trigger.");
	if (!TRIGGER_FIRED_BY_UPDATE(event) &&
		!(kind->insert && TRIGGER_FIRED_BY_INSERT(event)))
		refuse_call(kind, kind->insert ?
					"The trigger is not for INSERT and UPDATE alone." :
					"The trigger is not for UPDATE alone.");
	return (TriggerData *) fcinfo->context;
}

/* Finds the column that an argument of the trigger names. */
AttrNumber
idem_trigger_column(const struct TriggerData *trigger,
					const IdemTriggerKind *kind, const char *name)
{
	Relation	rel = trigger->tg_relation;
	int			attnum = SPI_fnumber(RelationGetDescr(rel), name);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						name, RelationGetRelationName(rel)),
				 errdetail("Trigger \"%s\" of table \"%s\" names the column.",
						   trigger->tg_trigger->tgname,
						   RelationGetRelationName(rel)),
				 errhint("Drop the trigger and create it again with the column's present name."),
				 errtable(rel)));
	idem_check_not_generated(rel, attnum, kind->holds);
	return attnum;
}

/* Refuses a column that the server computes after the triggers have run. */
void
idem_check_not_generated(Relation rel, AttrNumber attnum, const char *holds)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

	if (att->attgenerated == '\0')
		return;
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("column \"%s\" of table \"%s\" cannot hold %s",
					NameStr(att->attname), RelationGetRelationName(rel), holds),
			 errdetail("It is generated: the server computes it after triggers have run."),
			 errhint("Use a column that is not generated."),
			 errtablecol(rel, attnum)));
}

/* Refuses a column of a type that will not do. */
void
idem_refuse_column_type(Relation rel, AttrNumber attnum, const char *holds,
						const char *hint)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("column \"%s\" of table \"%s\" cannot hold %s",
					NameStr(att->attname), RelationGetRelationName(rel), holds),
			 errdetail("It is of type %s.", format_type_be(att->atttypid)),
			 errhint("%s", hint),
			 errtablecol(rel, attnum)));
}

/* Refuses the arguments that the trigger was created with. */
void
idem_trigger_refuse_arguments(const struct TriggerData *trigger,
							  const IdemTriggerKind *kind, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("arguments of trigger \"%s\" are not valid",
					trigger->tg_trigger->tgname),
			 errdetail_internal("%s", detail),
			 errhint("Create the trigger again with EXECUTE FUNCTION %s.",
					 kind->call)));
}


/* Refuses to be called as anything but the trigger that we are. */
static void
refuse_call(const IdemTriggerKind *kind, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("%s trigger is not set up as it needs to be", kind->name),
			 errdetail_internal("%s", detail),
			 errhint("Use CREATE TRIGGER ... BEFORE %s ON ... FOR EACH ROW EXECUTE FUNCTION %s.",
					 kind->insert ? "INSERT OR UPDATE" : "UPDATE",
					 kind->call)));
}
