/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  A state machine in memory: parsed from a definition, or put together
 *	  from its rows; then compiled into what can be reached from what.
 *
 * A machine lives in a memory context of its own, below the one that was
 * current when it was made, so an error leaves nothing behind, and whoever
 * wants to keep it gives the context another parent.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "machine.h"

#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/*
 * A closure takes states * states / 4 bytes and states^3 / 64 steps: 4 MB and
 * some tenths of a second at the limit.
 */
#define STATES_MAX			4096

/* Bytes of a definition that a message quotes. */
#define QUOTE_MAX			20

/* Where we are in a definition. */
typedef struct Parser
{
	const char *machine;		/* its name */
	const char *text;
	const char *at;
} Parser;

static int	parse_state(Parser *parser, IdemMachine *machine);
static bool parse_arrow(Parser *parser);
static void skip_space(Parser *parser);
pg_noreturn static void syntax_error(Parser *parser, const char *expected);
static int	find_state(const IdemMachine *machine, const char *name, int len,
					   uint32 hash);
static void enlarge_slots(IdemMachine *machine);


/*
 * Definition = chain { ";" chain } [ ";" ]; chain = state { "->" state }.
 *
 * A state is any text on one line without ";", "<", ">", and without "-" at
 * its ends, less the space around it: so arrows of another kind ("-->", "=>",
 * "<-") and a forgotten ";" are mistakes, not odd names.
 */
IdemMachine *
idem_machine_parse(const char *name, const char *definition)
{
	IdemMachine *machine = idem_machine_new(name);
	Parser		parser = {name, definition, definition};

	do
	{
		int			seen = machine->nstates;
		int			from = parse_state(&parser, machine);

		if (!parse_arrow(&parser))
		{
			if (from == seen)
				idem_machine_add_transition(machine, from, IDEM_NO_STATE);
		}
		else
		{
			do
			{
				int			to = parse_state(&parser, machine);

				idem_machine_add_transition(machine, from, to);
				from = to;
				CHECK_FOR_INTERRUPTS();
			} while (parse_arrow(&parser));
		}

		if (*parser.at == ';')
		{
			parser.at++;
			skip_space(&parser);
		}
		else if (*parser.at != '\0')
			syntax_error(&parser, "\"->\" or \";\"");
	} while (*parser.at != '\0');

	idem_machine_compile(machine);
	return machine;
}

/* Takes a state, with the space around it. */
static int
parse_state(Parser *parser, IdemMachine *machine)
{
	const char *start;
	const char *end;

	skip_space(parser);
	start = parser->at;
	if (*start == '-')
		syntax_error(parser, "a state");
	while ((unsigned char) *parser->at >= ' ' && *parser->at != 0x7f &&
		   strchr(";<>", *parser->at) == NULL &&
		   strncmp(parser->at, "->", 2) != 0)
		parser->at++;
	if (parser->at == start)
		syntax_error(parser, "a state");

	end = parser->at;
	while (end > start && end[-1] == ' ')
		end--;
	if (end[-1] == '-')
	{
		parser->at = end - 1;
		syntax_error(parser, "\"->\" or \";\"");
	}
	if (end - start > IDEM_STATE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("state in the definition of machine \"%s\" is too long",
						parser->machine),
				 errdetail("The state at character %d has %d bytes; the limit is %d bytes.",
						   pg_mbstrlen_with_len(parser->text,
												start - parser->text) + 1,
						   (int) (end - start), IDEM_STATE_MAX),
				 errhint("Use a shorter name.")));
	skip_space(parser);
	return idem_machine_add_state(machine, start, end - start);
}

/* Takes an arrow, if there is one. */
static bool
parse_arrow(Parser *parser)
{
	if (strncmp(parser->at, "->", 2) != 0)
		return false;
	parser->at += 2;
	return true;
}

static void
skip_space(Parser *parser)
{
	while (*parser->at != '\0' && strchr(" \t\n\r\f\v", *parser->at) != NULL)
		parser->at++;
}

/* Refuses a definition, with the place and what was expected there. */
static void
syntax_error(Parser *parser, const char *expected)
{
	int			position = pg_mbstrlen_with_len(parser->text,
												parser->at - parser->text) + 1;
	int			len = pg_mbcliplen(parser->at, strlen(parser->at), QUOTE_MAX);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("definition of machine \"%s\" is not valid", parser->machine),
			 *parser->at == '\0' ?
			 errdetail("Expected %s at character %d, where the definition ends.",
					   expected, position) :
			 errdetail("Expected %s at character %d, found \"%.*s\".",
					   expected, position, len, parser->at),
			 errhint("Write transitions as in 'created -> paid -> shipped; created -> cancelled'.")));
}


/* A machine without states, in a context below the caller's. */
IdemMachine *
idem_machine_new(const char *name)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "idem machine",
												  ALLOCSET_SMALL_SIZES);
	IdemMachine *machine = MemoryContextAllocZero(context, sizeof(IdemMachine));

	machine->context = context;
	machine->name = MemoryContextStrdup(context, name);
	machine->states_size = 16;
	machine->states = MemoryContextAlloc(context, machine->states_size *
										 sizeof(IdemState));
	machine->transitions_size = 16;
	machine->transitions = MemoryContextAlloc(context,
											  machine->transitions_size *
											  sizeof(IdemTransition));
	enlarge_slots(machine);
	return machine;
}

/* The state of a name, new if it is not there. */
int
idem_machine_add_state(IdemMachine *machine, const char *name, int len)
{
	uint32		hash = hash_bytes((const unsigned char *) name, len);
	int			found = find_state(machine, name, len, hash);
	IdemState  *state;
	uint32		slot;

	if (found >= 0)
		return found;

	if (machine->nstates == STATES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("machine \"%s\" has too many states", machine->name),
				 errdetail("The limit is %d states.", STATES_MAX),
				 errhint("Split the machine.")));
	if (machine->nstates == machine->states_size)
	{
		machine->states_size *= 2;
		machine->states = repalloc(machine->states,
								   machine->states_size * sizeof(IdemState));
	}
	if ((uint32) machine->nstates * 2 > machine->slots_mask)
		enlarge_slots(machine);

	state = &machine->states[machine->nstates];
	state->name = MemoryContextAlloc(machine->context, len + 1);
	memcpy(state->name, name, len);
	state->name[len] = '\0';
	state->len = len;
	state->hash = hash;
	state->entered = false;
	state->left = false;

	for (slot = hash & machine->slots_mask; machine->slots[slot] >= 0;)
		slot = (slot + 1) & machine->slots_mask;
	machine->slots[slot] = machine->nstates;
	return machine->nstates++;
}

/* The state of a name, or IDEM_NO_STATE. */
int
idem_machine_find_state(const IdemMachine *machine, const char *name, int len)
{
	return find_state(machine, name, len,
					  hash_bytes((const unsigned char *) name, len));
}

/* The same, for a name whose hash is known. */
static int
find_state(const IdemMachine *machine, const char *name, int len, uint32 hash)
{
	for (uint32 slot = hash & machine->slots_mask; machine->slots[slot] >= 0;
		 slot = (slot + 1) & machine->slots_mask)
	{
		const IdemState *state = &machine->states[machine->slots[slot]];

		if (state->hash == hash && state->len == len &&
			memcmp(state->name, name, len) == 0)
			return machine->slots[slot];
	}
	return IDEM_NO_STATE;
}

/* Doubles the slots, of which never more than half are taken. */
static void
enlarge_slots(IdemMachine *machine)
{
	uint32		size = machine->slots == NULL ? 32 : (machine->slots_mask + 1) * 2;

	if (machine->slots != NULL)
		pfree(machine->slots);
	machine->slots = MemoryContextAlloc(machine->context, size * sizeof(int));
	machine->slots_mask = size - 1;
	memset(machine->slots, 0xff, size * sizeof(int));
	for (int i = 0; i < machine->nstates; i++)
	{
		uint32		slot = machine->states[i].hash & machine->slots_mask;

		while (machine->slots[slot] >= 0)
			slot = (slot + 1) & machine->slots_mask;
		machine->slots[slot] = i;
	}
}

void
idem_machine_add_transition(IdemMachine *machine, int from, int to)
{
	if (machine->ntransitions == machine->transitions_size)
	{
		machine->transitions_size *= 2;
		machine->transitions = repalloc(machine->transitions,
										machine->transitions_size *
										sizeof(IdemTransition));
	}
	machine->transitions[machine->ntransitions].from = from;
	machine->transitions[machine->ntransitions].to = to;
	machine->ntransitions++;
}

/*
 * Makes the bitmaps, and drops transitions that are there already.  Warshall:
 * whatever reaches k also reaches what k reaches.
 */
void
idem_machine_compile(IdemMachine *machine)
{
	int			words = (machine->nstates + 63) / 64;
	Size		size = (Size) machine->nstates * words * sizeof(uint64);
	int			kept = 0;

	machine->row_words = words;
	machine->edges = MemoryContextAllocZero(machine->context, size);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		IdemTransition transition = machine->transitions[i];

		if (transition.to != IDEM_NO_STATE)
		{
			uint64	   *word = &machine->edges[(Size) transition.from * words +
											   transition.to / 64];
			uint64		bit = UINT64CONST(1) << (transition.to % 64);

			if (*word & bit)
				continue;
			*word |= bit;
			if (transition.from != transition.to)
			{
				machine->states[transition.from].left = true;
				machine->states[transition.to].entered = true;
			}
		}
		machine->transitions[kept++] = transition;
	}
	machine->ntransitions = kept;

	machine->reach = MemoryContextAlloc(machine->context, size);
	memcpy(machine->reach, machine->edges, size);
	for (int k = 0; k < machine->nstates; k++)
	{
		const uint64 *via = &machine->reach[(Size) k * words];

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < machine->nstates; i++)
		{
			uint64	   *row = &machine->reach[(Size) i * words];

			if (i == k || !idem_machine_bit(machine, machine->reach, i, k))
				continue;
			for (int w = 0; w < words; w++)
				row[w] |= via[w];
		}
	}
}
