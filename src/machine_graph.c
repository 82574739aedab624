/*-------------------------------------------------------------------------
 *
 * machine_graph.c
 *	  A state machine as a picture: a Mermaid state diagram.
 *
 * The text draws the transitions in the order of the definition.  A state
 * whose name Mermaid would take for something else gets an alias, and the
 * name stands in quotes beside it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "machine.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

static void append_alias(StringInfo buf, const IdemMachine *machine, int state);
static void append_node(StringInfo buf, const IdemMachine *machine, int state);
static bool needs_alias(const IdemState *state);

PG_FUNCTION_INFO_V1(idem_machine_graph);


/*
 * idem_machine_graph(machine) -> text
 *
 * The machine as a Mermaid state diagram.
 */
Datum
idem_machine_graph(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(idem_arg_text(fcinfo, 0, "machine",
													 IDEM_MACHINE_MAX));
	const IdemMachine *machine;
	StringInfoData buf;

	idem_check_access(IDEM_READ);
	machine = idem_machine_load(name);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "stateDiagram-v2");
	for (int i = 0; i < machine->nstates; i++)
		if (needs_alias(&machine->states[i]))
			append_alias(&buf, machine, i);
	for (int i = 0; i < machine->nstates; i++)
	{
		if (machine->states[i].entered)
			continue;
		appendStringInfoString(&buf, "\n    [*] --> ");
		append_node(&buf, machine, i);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const IdemTransition *transition = &machine->transitions[i];

		CHECK_FOR_INTERRUPTS();
		if (transition->to == IDEM_NO_STATE)
			continue;
		appendStringInfoString(&buf, "\n    ");
		append_node(&buf, machine, transition->from);
		appendStringInfoString(&buf, " --> ");
		append_node(&buf, machine, transition->to);
	}
	for (int i = 0; i < machine->nstates; i++)
	{
		if (machine->states[i].left)
			continue;
		appendStringInfoString(&buf, "\n    ");
		append_node(&buf, machine, i);
		appendStringInfoString(&buf, " --> [*]");
	}

	PG_RETURN_TEXT_P(cstring_to_text_with_len(buf.data, buf.len));
}


/* Says what an alias stands for. */
static void
append_alias(StringInfo buf, const IdemMachine *machine, int state)
{
	/* entities, for what Mermaid would read as its own */
	appendStringInfoString(buf, "\n    state \"");
	for (const char *p = machine->states[state].name; *p != '\0'; p++)
	{
		if (IS_HIGHBIT_SET(*p) || isalnum((unsigned char) *p) || *p == ' ')
			appendStringInfoChar(buf, *p);
		else
			appendStringInfo(buf, "#%d;", *p);
	}
	appendStringInfo(buf, "\" as s%d", state + 1);
}

/* How a state is called in the diagram. */
static void
append_node(StringInfo buf, const IdemMachine *machine, int state)
{
	if (needs_alias(&machine->states[state]))
		appendStringInfo(buf, "s%d", state + 1);
	else
		appendStringInfoString(buf, machine->states[state].name);
}

/*
 * Must a state go by another name in the diagram?  All but plain words must,
 * the words of Mermaid's own (in whatever case), and what looks like an alias.
 */
static bool
needs_alias(const IdemState *state)
{
	static const char *const reserved[] = {
		"accdescr", "acctitle", "as", "choice", "class", "classdef", "click",
		"default", "direction", "end", "fork", "hide", "href", "join", "note",
		"root_end", "root_start", "scale", "state", "statediagram", "style"
	};
	const char *name = state->name;

	if (!(*name >= 'a' && *name <= 'z') && !(*name >= 'A' && *name <= 'Z'))
		return true;
	for (const char *p = name; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p) || (!isalnum((unsigned char) *p) && *p != '_'))
			return true;
	if (*name == 's' && strspn(name + 1, "0123456789") == (size_t) state->len - 1)
		return true;
	for (size_t i = 0; i < lengthof(reserved); i++)
		if (pg_strcasecmp(name, reserved[i]) == 0)
			return true;
	return false;
}
