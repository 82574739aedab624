/*-------------------------------------------------------------------------
 *
 * state.c
 *	  State machines on the caller's own rows: trigger, and verb.
 *
 * The contract.  A column holds the state of its row.  The trigger idem_state
 * judges every change of it: a move that the machine knows passes; a late one
 * skips the row, so that a message which was overtaken changes nothing and
 * raises nothing, or (late=keep) keeps the state and takes the other columns; one that is ahead or illegal raises ID460.  An update that
 * leaves the column as it is is not a move, and passes whatever is in it.
 * Null is no state yet: moves from it are judged as such, and none leads back.
 * idem_advance judges and writes for a caller who has no trigger, and says what
 * became of the message: true applied, false same or late.  On a table with
 * the trigger it asks the same machine first, so the two agree.
 *
 * Why this holds under concurrency.  The server locks the row, and under read
 * committed fetches its latest version, before it calls a BEFORE ROW trigger
 * for an update; above, a row changed since the snapshot is 40001.  So what
 * is judged is what is replaced.  ON CONFLICT DO UPDATE locks the row first
 * as well.  idem_advance locks by SELECT ... FOR NO KEY UPDATE, which answers
 * the state of the version that it locked, and writes only after that; if
 * under read committed it finds no row because a rival moved the row away and
 * back, it looks again.
 *
 * A message that idem_advance finds to be stale, under read committed, is
 * answered without a lock, so that it writes nothing.  That is sound because
 * no transition ends it: whatever can be reached from a state behind which the
 * target lies has the target behind it too, and so has whatever follows on
 * the target itself if no way leads back to it.  A rival who is moving the row
 * at this moment does not change the answer.  Above read committed the row is
 * always locked, for there a row that has changed is 40001.
 *
 * A row costs the trigger a comparison of bytes and, if they differ, two
 * lookups in the compiled machine; nothing is run through SQL.  What the
 * trigger's arguments mean is worked out once for each statement, and kept in
 * the memory of that statement, which holds the lock that keeps the table as
 * it is.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "machine.h"
#include "target.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* How often idem_advance looks for a row that is there and cannot be locked. */
#define MAX_ROUNDS	20

/* How a state is kept in a column. */
typedef enum StateForm
{
	STATE_NONE,					/* the type cannot hold one */
	STATE_TEXT,
	STATE_PADDED,				/* char(n) */
	STATE_NAME,
	STATE_ENUM
} StateForm;

/* A state as bytes; value NULL is no state. */
typedef struct StateText
{
	const char *value;
	int			len;
} StateText;

/* The column that holds the states of a machine. */
typedef struct StateColumn
{
	const char *machine;
	AttrNumber	attnum;
	StateForm	form;
	const char *key;			/* of the row, if known */
} StateColumn;

/* A trigger's arguments, for one statement. */
typedef struct StateTrigger
{
	StateColumn column;
	bool		insert_initial;
	bool		late_error;
	bool		late_keep;
	bool		ahead_allow;
} StateTrigger;

static const IdemTriggerKind kind = {
	.name = "state",
	.insert = true,
	.holds = "a state",
	.call = "idem_state('machine', 'column' [, 'option' ...])"
};

static StateTrigger *trigger_arguments(TriggerData *trigdata,
									   MemoryContext context);
static void parse_option(StateTrigger *arguments,
						 const TriggerData *trigdata, const char *option);
static void resolve_column(StateColumn *column, Relation rel,
						   AttrNumber attnum);
static StateForm state_form(Oid type);
static void check_length(const StateColumn *column, Relation rel,
						 StateText to);
static void check_insert(const StateTrigger *arguments, Relation rel,
						 StateText to);
static IdemVerdict judge_update(const StateTrigger *arguments, Relation rel,
								StateText from, StateText to);
static HeapTuple keep_state(const StateColumn *column,
							const TriggerData *trigdata);
static bool is_stale(const StateColumn *column, IdemTarget *target,
					 StateText to);
static bool set_state(const StateColumn *column, IdemTarget *target,
					  Datum to_state);
static StateText lock_state(IdemTarget *target);
static IdemVerdict judge(const StateColumn *column, StateText from,
						 StateText to);
static StateText state_of(const StateColumn *column, Datum value, bool isnull);
static StateText text_state(Datum value);
static StateText tuple_state(const StateColumn *column, HeapTuple tuple,
							 Relation rel);
static bool same_state(StateText a, StateText b);
pg_noreturn static void transition_error(const StateColumn *column, Relation rel,
										 StateText from, StateText to,
										 IdemVerdict verdict);
static char *quote_state(StateText state);

PG_FUNCTION_INFO_V1(idem_state);
PG_FUNCTION_INFO_V1(idem_advance);


/*
 * idem_state('machine', 'column' [, option ...])
 *
 * Trigger BEFORE INSERT OR UPDATE FOR EACH ROW: judges a change of state.
 */
Datum
idem_state(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = idem_trigger_data(fcinfo, &kind);
	StateTrigger *arguments = fcinfo->flinfo->fn_extra;
	Relation	rel;
	StateText	current;

	if (arguments == NULL)
	{
		arguments = trigger_arguments(trigdata, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = arguments;
	}

	rel = trigdata->tg_relation;
	current = tuple_state(&arguments->column, trigdata->tg_trigtuple, rel);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
	{
		check_insert(arguments, rel, current);
		return PointerGetDatum(trigdata->tg_trigtuple);
	}

	switch (judge_update(arguments, rel, current,
						 tuple_state(&arguments->column,
									 trigdata->tg_newtuple, rel)))
	{
		case IDEM_LATE:
			return PointerGetDatum(arguments->late_keep ?
								   keep_state(&arguments->column, trigdata) :
								   NULL);
		default:
			return PointerGetDatum(trigdata->tg_newtuple);
	}
}

/*
 * idem_advance(machine text, target regclass, col name, to_state text,
 * VARIADIC key "any") -> boolean
 *
 * Moves a row to a state.  True: applied; false: same or late.
 */
Datum
idem_advance(PG_FUNCTION_ARGS)
{
	static const StateText none = {NULL, 0};
	StateColumn column = {0};
	const char *name;
	IdemTarget	target;
	Datum		to_state;
	StateText	from = none;
	StateText	to;
	IdemVerdict verdict;
	bool		applied = false;

	column.machine = text_to_cstring(idem_arg_text(fcinfo, 0, "machine",
												   IDEM_MACHINE_MAX));
	idem_arg_not_null(fcinfo, 1, "target");
	name = idem_arg_name(fcinfo, 2, "col", "column");
	to_state = PointerGetDatum(idem_arg_text(fcinfo, 3, "to_state",
											 IDEM_STATE_MAX));
	to = text_state(to_state);
	idem_check_access(IDEM_WRITE);

	/* a state that is not there is refused before anything is locked */
	(void) judge(&column, none, to);

	idem_target_open(&target, PG_GETARG_OID(1), name, RowExclusiveLock);
	idem_check_not_generated(target.rel, target.spec->column, kind.holds);
	resolve_column(&column, target.rel, target.spec->column);
	check_length(&column, target.rel, to);
	idem_target_key(&target, fcinfo, 4);
	idem_spec_check_rules(target.rel);

	if (is_stale(&column, &target, to))
		verdict = IDEM_LATE;
	else
	{
		from = lock_state(&target);
		verdict = judge(&column, from, to);
	}
	if (verdict == IDEM_AHEAD || verdict == IDEM_ILLEGAL)
	{
		column.key = idem_target_key_text(&target);
		transition_error(&column, target.rel, from, to, verdict);
	}

	/* a trigger may suppress the row: then nothing was applied */
	if (verdict == IDEM_APPLY)
		applied = set_state(&column, &target, to_state);
	idem_target_close(&target);

	PG_RETURN_BOOL(applied);
}


/* What the arguments of CREATE TRIGGER mean for this table. */
static StateTrigger *
trigger_arguments(TriggerData *trigdata, MemoryContext context)
{
	const Trigger *trigger = trigdata->tg_trigger;
	StateTrigger *arguments = MemoryContextAllocZero(context,
													 sizeof(StateTrigger));
	Size		len;

	if (trigger->tgnargs < 2)
		idem_trigger_refuse_arguments(trigdata, &kind, psprintf("Trigger \"%s\" has %d arguments; it needs a machine and a column.",
																trigger->tgname, trigger->tgnargs));
	len = strlen(trigger->tgargs[0]);
	if (len == 0 || len > IDEM_MACHINE_MAX)
		idem_trigger_refuse_arguments(trigdata, &kind, psprintf("The first argument of trigger \"%s\", the machine, has %zu bytes; it needs 1 to %d bytes.",
																trigger->tgname, len, IDEM_MACHINE_MAX));
	for (int i = 2; i < trigger->tgnargs; i++)
		parse_option(arguments, trigdata, trigger->tgargs[i]);

	arguments->column.machine = MemoryContextStrdup(context, trigger->tgargs[0]);
	resolve_column(&arguments->column, trigdata->tg_relation,
				   idem_trigger_column(trigdata, &kind, trigger->tgargs[1]));
	return arguments;
}

static void
parse_option(StateTrigger *arguments, const TriggerData *trigdata,
			 const char *option)
{
	if (strcmp(option, "insert=initial") == 0)
		arguments->insert_initial = true;
	else if (strcmp(option, "late=error") == 0)
		arguments->late_error = true;
	else if (strcmp(option, "late=keep") == 0)
		arguments->late_keep = true;
	else if (strcmp(option, "ahead=allow") == 0)
		arguments->ahead_allow = true;
	else
		idem_trigger_refuse_arguments(trigdata, &kind, psprintf("Trigger \"%s\" has the option \"%s\"; there are \"insert=initial\", \"late=error\", \"late=keep\" and \"ahead=allow\".",
																trigdata->tg_trigger->tgname, option));
	if (arguments->late_error && arguments->late_keep)
		idem_trigger_refuse_arguments(trigdata, &kind, psprintf("Trigger \"%s\" has the options \"late=error\" and \"late=keep\", of which only one can be.",
																trigdata->tg_trigger->tgname));
}

/* Takes a column of a table, which must be able to hold a state. */
static void
resolve_column(StateColumn *column, Relation rel, AttrNumber attnum)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

	column->attnum = attnum;
	column->form = state_form(getBaseType(att->atttypid));
	if (column->form == STATE_NONE)
		idem_refuse_column_type(rel, attnum, kind.holds,
								"Use a column of type text, varchar, char, name, an enum, or a domain over one of them.");
}

static StateForm
state_form(Oid type)
{
	switch (type)
	{
		case TEXTOID:
		case VARCHAROID:
			return STATE_TEXT;
		case BPCHAROID:
			return STATE_PADDED;
		case NAMEOID:
			return STATE_NAME;
		default:
			return type_is_enum(type) ? STATE_ENUM : STATE_NONE;
	}
}

/*
 * Refuses a state that the column would cut off.  Only name does that without
 * a word; what is too long for the other types is their own error.
 */
static void
check_length(const StateColumn *column, Relation rel, StateText to)
{
	if (column->form != STATE_NAME || to.len < NAMEDATALEN)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
			 errmsg("value too long for type name"),
			 errdetail("State %s has %d bytes, and column \"%s\" of relation \"%s\" holds %d at most.",
					   quote_state(to), to.len,
					   NameStr(TupleDescAttr(RelationGetDescr(rel),
											 column->attnum - 1)->attname),
					   RelationGetRelationName(rel), NAMEDATALEN - 1),
			 errhint("Use a column of type text, or a shorter state."),
			 errtablecol(rel, column->attnum)));
}

/* Refuses a row that may not be inserted. */
static void
check_insert(const StateTrigger *arguments, Relation rel, StateText to)
{
	static const StateText none = {NULL, 0};
	IdemVerdict verdict = IDEM_ILLEGAL;

	if (to.value != NULL)
		verdict = judge(&arguments->column, none, to);
	if (arguments->insert_initial && verdict != IDEM_APPLY)
		transition_error(&arguments->column, rel, none, to, verdict);
}

/* The verdict of an update that passes, or is late and not an error. */
static IdemVerdict
judge_update(const StateTrigger *arguments, Relation rel, StateText from,
			 StateText to)
{
	IdemVerdict verdict;

	if (same_state(from, to))
		return IDEM_SAME;

	verdict = to.value == NULL ? IDEM_ILLEGAL :
		judge(&arguments->column, from, to);
	if (verdict == IDEM_ILLEGAL ||
		(verdict == IDEM_AHEAD && !arguments->ahead_allow) ||
		(verdict == IDEM_LATE && arguments->late_error))
		transition_error(&arguments->column, rel, from, to, verdict);
	return verdict;
}

/* The new row, with the state of the old one. */
static HeapTuple
keep_state(const StateColumn *column, const TriggerData *trigdata)
{
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	int			attnum = column->attnum;
	bool		null;
	Datum		value = heap_getattr(trigdata->tg_trigtuple, attnum, desc,
									 &null);

	return heap_modify_tuple_by_cols(trigdata->tg_newtuple, desc, 1, &attnum,
									 &value, &null);
}

/*
 * Is the message same or late, whatever others are doing to the row?  Not if the
 * machine was defined anew since the row was read: the two may never have been
 * there together.
 */
static bool
is_stale(const StateColumn *column, IdemTarget *target, StateText to)
{
	const IdemMachine *machine;
	uint64		generation;
	StateText	from;
	Datum		value;
	bool		null;

	if (IsolationUsesXactSnapshot())
		return false;
	generation = idem_machine_get(column->machine)->generation;
	if (!idem_target_execute(target, IDEM_ROW_READ, (Datum) 0, &value, &null))
		return false;

	from = state_of(column, value, null);
	machine = idem_machine_get(column->machine);
	if (machine->generation != generation)
		return false;
	switch (idem_machine_judge(machine, from.value, from.len, to.value, to.len))
	{
		case IDEM_LATE:
			return true;
		case IDEM_SAME:
			return !idem_machine_returns(machine, to.value, to.len);
		default:
			return false;
	}
}

/* Locks the row and answers its state; raises if there is no row. */
static StateText
lock_state(IdemTarget *target)
{
	static const StateText none = {NULL, 0};

	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		Datum		value;
		bool		null;

		CHECK_FOR_INTERRUPTS();
		if (idem_target_execute(target, IDEM_ROW_LOCK_TEXT, (Datum) 0,
								&value, &null))
			return null ? none : text_state(value);
		if (IsolationUsesXactSnapshot() ||
			!idem_target_execute(target, IDEM_ROW_EXISTS, (Datum) 0, NULL, NULL))
			break;
	}

	/* no row, or one that row security lets the caller read only */
	idem_target_no_row(target);
}

/* Writes a state: true unless a trigger suppressed the row. */
static bool
set_state(const StateColumn *column, IdemTarget *target, Datum to_state)
{
	Datum		value;
	bool		null;

	if (!idem_target_execute(target, IDEM_ROW_SET_TEXT, to_state,
							 &value, &null))
		return false;
	if (null || !same_state(text_state(value), text_state(to_state)))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("a trigger changed the state of a row of table \"%s\"",
						RelationGetRelationName(target->rel)),
				 errdetail("Column \"%s\" of key %s should be %s, and was made %s.",
						   NameStr(TupleDescAttr(RelationGetDescr(target->rel),
												 column->attnum - 1)->attname),
						   idem_target_key_text(target),
						   quote_state(text_state(to_state)),
						   null ? "null" : quote_state(text_state(value))),
				 errhint("Let the BEFORE UPDATE triggers of the table leave the column alone.")));
	return true;
}

static IdemVerdict
judge(const StateColumn *column, StateText from, StateText to)
{
	return idem_machine_judge(idem_machine_get(column->machine),
							  from.value, from.len, to.value, to.len);
}

/* The state in a value of the column's type. */
static StateText
state_of(const StateColumn *column, Datum value, bool isnull)
{
	StateText	state = {NULL, 0};

	if (isnull)
		return state;

	if (column->form == STATE_TEXT || column->form == STATE_PADDED)
	{
		state = text_state(value);
		if (column->form == STATE_PADDED)
			state.len = bpchartruelen(unconstify(char *, state.value), state.len);
		return state;
	}

	if (column->form == STATE_NAME)
		state.value = NameStr(*DatumGetName(value));
	else
		state.value = DatumGetCString(DirectFunctionCall1(enum_out, value));
	state.len = strlen(state.value);
	return state;
}

static StateText
text_state(Datum value)
{
	struct varlena *text = PG_DETOAST_DATUM_PACKED(value);
	StateText	state = {VARDATA_ANY(text), VARSIZE_ANY_EXHDR(text)};

	return state;
}

static StateText
tuple_state(const StateColumn *column, HeapTuple tuple, Relation rel)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column->attnum,
									 RelationGetDescr(rel), &isnull);

	return state_of(column, value, isnull);
}

static bool
same_state(StateText a, StateText b)
{
	if (a.value == NULL || b.value == NULL)
		return a.value == b.value;
	return a.len == b.len && memcmp(a.value, b.value, a.len) == 0;
}

/* Refuses a move. */
static void
transition_error(const StateColumn *column, Relation rel, StateText from,
				 StateText to, IdemVerdict verdict)
{
	char	   *source = quote_state(from);
	char	   *target = quote_state(to);
	char	   *reason;
	char	   *hint;

	if (from.value == NULL)
	{
		reason = psprintf("a row begins with a state that no transition leads to, not with %s",
						  target);
		hint = psprintf("Look at the machine with SELECT idem_machine_graph(%s).",
						quote_literal_cstr(column->machine));
	}
	else if (to.value == NULL)
	{
		reason = psprintf("a row in %s does not leave the machine", source);
		hint = pstrdup("Leave the column as it is, or set it to a state of the machine.");
	}
	else if (verdict == IDEM_AHEAD)
	{
		reason = psprintf("%s can be reached from %s, but not in one step",
						  target, source);
		hint = pstrdup("Send the message again when those before it have been applied.");
	}
	else if (verdict == IDEM_LATE)
	{
		reason = psprintf("%s lies behind %s", target, source);
		hint = pstrdup("Drop the message: a later one has been applied.");
	}
	else
	{
		reason = psprintf("no way leads from %s to %s", source, target);
		hint = psprintf("Look at the machine with SELECT idem_machine_graph(%s).",
						quote_literal_cstr(column->machine));
	}

	ereport(ERROR,
			(errcode(ERRCODE_IDEM_TRANSITION),
			 errmsg("transition from %s to %s is not allowed", source, target),
			 errdetail("Machine \"%s\", column \"%s\" of relation \"%s\"%s%s: %s.",
					   column->machine,
					   NameStr(TupleDescAttr(RelationGetDescr(rel),
											 column->attnum - 1)->attname),
					   RelationGetRelationName(rel),
					   column->key != NULL ? ", key " : "",
					   column->key != NULL ? column->key : "", reason),
			 errhint("%s", hint),
			 errtablecol(rel, column->attnum)));
}

/* A state for a message. */
static char *
quote_state(StateText state)
{
	if (state.value == NULL)
		return pstrdup("no state");
	return psprintf("\"%.*s\"",
					pg_mbcliplen(state.value, state.len, IDEM_STATE_MAX),
					state.value);
}
