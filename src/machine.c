/*-------------------------------------------------------------------------
 *
 * machine.c
 *	  State machines: definition, reachability, verdict.
 *
 * The contract.  A machine is a set of transitions between named states.  A
 * message asks for a move to a state, and the machine tells from what can be
 * reached from what whether the move is
 *
 *		same		we are there already
 *		apply		a transition leads there
 *		late		the target lies behind: it can reach the present state, and
 *					not the other way round; the message was overtaken
 *		ahead		it can be reached, but not in one step; a message is missing
 *		illegal		no way leads there
 *
 * From no state at all, apply is a state with no way in, and any other is
 * ahead.  Inside a cycle nothing is late, for everything there is ahead as
 * well.  A transition of a state to itself changes no verdict: it is the same
 * already, and nobody can enter the state by it.
 *
 * A definition is text, "a -> b -> c; a -> d".  It is parsed once, by
 * idem_machine, and kept as the rows of idem.transition in the order of the
 * text; a state that stands alone is a row without a target.  A session
 * compiles a machine at its first use into a table of its states and two
 * bitmaps, edges and their transitive closure, so that a verdict reads two
 * bits.
 *
 * Concurrency.  A definition is metadata: like the catalogs, and unlike
 * data, it is seen in its latest committed state under every isolation level.
 * idem_machine holds a lock that excludes other definers, so two of them run
 * one after the other, and readers do not wait.  It then sends a relcache
 * invalidation for idem.transition.  That message is transactional: here it
 * is processed at the end of the command, and again if the transaction or
 * savepoint rolls back; all other sessions get it after the commit and before
 * the client hears of it, a standby's when it replays the commit.  A call reads
 * the messages first, and the generation it notes for what it compiles is
 * the one from before its snapshot.  So a definition that commits before the
 * call is either in that snapshot, or its message makes the compiled machine
 * stale before the next call.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/*
 * A closure takes states * states / 4 bytes and states^3 / 64 steps: 4 MB and
 * some tenths of a second at the limit.  The limit of a definition keeps its
 * list of transitions below what can be allocated at once.
 */
#define STATES_MAX			4096
#define DEFINITION_MAX		(16 * 1024 * 1024)

/* What a session keeps compiled; beyond that it starts anew. */
#define CACHED_MACHINES_MAX	64
#define CACHED_BYTES_MAX	(16 * 1024 * 1024)

/* Bytes of a definition that a message quotes. */
#define QUOTE_MAX			20

/* In Transition.to: the state stands alone. */
#define NO_STATE			(-1)

typedef struct State
{
	char	   *name;
	int			len;
	uint32		hash;
	bool		entered;		/* from another state */
	bool		left;			/* for another state */
} State;

typedef struct Transition
{
	int			from;
	int			to;				/* or NO_STATE */
} Transition;

struct IdemMachine
{
	MemoryContext context;		/* holds all of it */
	uint64		generation;		/* current if that is still the cache's */
	char	   *name;
	State	   *states;			/* in order of appearance */
	int			nstates;
	int			states_size;
	int		   *slots;			/* open addressing: index in states, or -1 */
	uint32		slots_mask;
	Transition *transitions;	/* in order of the definition */
	int			ntransitions;	/* with the states that stand alone */
	int			transitions_size;
	int			row_words;		/* of a bitmap's row */
	uint64	   *edges;			/* one row for each state */
	uint64	   *reach;
};

/* A machine that this session has compiled. */
typedef struct CachedMachine
{
	char		name[IDEM_MACHINE_MAX + 1]; /* hash key */
	IdemMachine *machine;
} CachedMachine;

/* Where we are in a definition. */
typedef struct Parser
{
	const char *machine;		/* its name */
	const char *text;
	const char *at;
} Parser;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static Size cache_bytes = 0;
static Oid	transition_relid = InvalidOid;
static uint64 cache_generation = 0;

static const char *const verdict_names[] = {
	[IDEM_SAME] = "same",
	[IDEM_APPLY] = "apply",
	[IDEM_LATE] = "late",
	[IDEM_AHEAD] = "ahead",
	[IDEM_ILLEGAL] = "illegal"
};

static void invalidate(Datum arg, Oid relid);
static IdemMachine *parse_definition(const char *name, const char *definition);
static int	parse_state(Parser *parser, IdemMachine *machine);
static bool parse_arrow(Parser *parser);
static void skip_space(Parser *parser);
static void syntax_error(Parser *parser, const char *expected)
			pg_attribute_noreturn();
static IdemMachine *new_machine(const char *name);
static int	add_state(IdemMachine *machine, const char *name, int len);
static int	find_state(const IdemMachine *machine, const char *name, int len,
					   uint32 hash);
static void enlarge_slots(IdemMachine *machine);
static void add_transition(IdemMachine *machine, int from, int to);
static void compile(IdemMachine *machine);
static bool test_bit(const IdemMachine *machine, const uint64 *bitmap,
					 int from, int to);
static int	count_transitions(const IdemMachine *machine);
static bool same_definition(const IdemMachine *a, const IdemMachine *b);
static IdemMachine *load_machine(const char *name, Oid owner);
static void save_machine(const IdemMachine *machine, Oid owner);
static Oid	table_owner(LOCKMODE lockmode);
static void keep_machine(IdemMachine *machine);
static IdemMachine *loaded_machine(const char *name);
static int	state_index(const IdemMachine *machine, const char *name, int len);
static void append_node(StringInfo buf, const IdemMachine *machine, int state);
static bool needs_alias(const State *state);

PG_FUNCTION_INFO_V1(idem_machine);
PG_FUNCTION_INFO_V1(idem_machine_graph);
PG_FUNCTION_INFO_V1(idem_verdict);


/* Registers the callback, before anything is compiled. */
void
idem_machine_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/*
 * idem_machine(machine, definition) -> integer
 *
 * Defines a machine, or replaces it; answers its number of transitions.
 */
Datum
idem_machine(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(idem_arg_text(fcinfo, 0, "machine",
													 IDEM_MACHINE_MAX));
	char	   *definition = text_to_cstring(idem_arg_text(fcinfo, 1, "definition",
														   DEFINITION_MAX));
	IdemMachine *machine = parse_definition(name, definition);
	IdemMachine *present;
	Oid			owner;

	idem_check_access(IDEM_WRITE);

	/* readers take a lesser lock, and do not wait for it */
	owner = table_owner(ShareRowExclusiveLock);

	/* a deployment that defines the same again disturbs nobody */
	present = load_machine(name, owner);
	if (present == NULL || !same_definition(present, machine))
	{
		save_machine(machine, owner);
		CacheInvalidateRelcacheByRelid(transition_relid);
		CommandCounterIncrement();
	}

	PG_RETURN_INT32(count_transitions(machine));
}

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
	machine = loaded_machine(name);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "stateDiagram-v2");
	for (int i = 0; i < machine->nstates; i++)
	{
		const State *state = &machine->states[i];

		if (!needs_alias(state))
			continue;

		/* entities, for what Mermaid would read as its own */
		appendStringInfoString(&buf, "\n    state \"");
		for (const char *p = state->name; *p != '\0'; p++)
		{
			if (IS_HIGHBIT_SET(*p) || isalnum((unsigned char) *p) || *p == ' ')
				appendStringInfoChar(&buf, *p);
			else
				appendStringInfo(&buf, "#%d;", *p);
		}
		appendStringInfo(&buf, "\" as s%d", i + 1);
	}
	for (int i = 0; i < machine->nstates; i++)
	{
		if (machine->states[i].entered)
			continue;
		appendStringInfoString(&buf, "\n    [*] --> ");
		append_node(&buf, machine, i);
	}
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const Transition *transition = &machine->transitions[i];

		if (transition->to == NO_STATE)
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

/*
 * idem_verdict(machine, from_state, to_state) -> text
 *
 * What the machine says of a move; from_state may be null.
 */
Datum
idem_verdict(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(idem_arg_text(fcinfo, 0, "machine",
													 IDEM_MACHINE_MAX));
	text	   *from = PG_ARGISNULL(1) ? NULL :
		idem_arg_text(fcinfo, 1, "from_state", IDEM_STATE_MAX);
	text	   *to = idem_arg_text(fcinfo, 2, "to_state", IDEM_STATE_MAX);
	IdemVerdict verdict;

	idem_check_access(IDEM_READ);
	verdict = idem_machine_judge(idem_machine_get(name),
								 from ? VARDATA_ANY(from) : NULL,
								 from ? VARSIZE_ANY_EXHDR(from) : 0,
								 VARDATA_ANY(to), VARSIZE_ANY_EXHDR(to));
	PG_RETURN_TEXT_P(cstring_to_text(verdict_names[verdict]));
}


/*
 * A machine, as it is now; valid until the next call of this function.  One
 * that does not exist is an error.
 */
const IdemMachine *
idem_machine_get(const char *name)
{
	IdemMachine *machine;

	/* a lock taken before, and kept, would not read the messages again */
	AcceptInvalidationMessages();

	if (cache != NULL)
	{
		CachedMachine *cached = hash_search(cache, name, HASH_FIND, NULL);

		if (cached != NULL && cached->machine->generation == cache_generation)
			return cached->machine;
	}

	machine = loaded_machine(name);
	keep_machine(machine);
	return machine;
}

/* What a machine says of a move; from is NULL for no state. */
IdemVerdict
idem_machine_judge(const IdemMachine *machine, const char *from, int from_len,
				   const char *to, int to_len)
{
	int			to_state = state_index(machine, to, to_len);
	int			from_state;

	if (from == NULL)
		return machine->states[to_state].entered ? IDEM_AHEAD : IDEM_APPLY;

	from_state = state_index(machine, from, from_len);
	if (from_state == to_state)
		return IDEM_SAME;
	if (test_bit(machine, machine->edges, from_state, to_state))
		return IDEM_APPLY;
	if (test_bit(machine, machine->reach, from_state, to_state))
		return IDEM_AHEAD;
	if (test_bit(machine, machine->reach, to_state, from_state))
		return IDEM_LATE;
	return IDEM_ILLEGAL;
}

/* Does a way lead from a state back to it? */
bool
idem_machine_returns(const IdemMachine *machine, const char *state, int len)
{
	int			index = state_index(machine, state, len);

	return test_bit(machine, machine->reach, index, index);
}

/* Makes what is compiled stale; it is freed when it is next asked for. */
static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == transition_relid)
		cache_generation++;
}


/*
 * Definition = chain { ";" chain } [ ";" ]; chain = state { "->" state }.
 *
 * A state is any text on one line without ";", "<", ">", and without "-" at
 * its ends, less the space around it: so arrows of another kind ("-->", "=>",
 * "<-") and a forgotten ";" are mistakes, not odd names.
 */
static IdemMachine *
parse_definition(const char *name, const char *definition)
{
	IdemMachine *machine = new_machine(name);
	Parser		parser = {name, definition, definition};

	do
	{
		int			seen = machine->nstates;
		int			from = parse_state(&parser, machine);

		if (!parse_arrow(&parser))
		{
			if (from == seen)
				add_transition(machine, from, NO_STATE);
		}
		else
		{
			do
			{
				int			to = parse_state(&parser, machine);

				add_transition(machine, from, to);
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

	compile(machine);
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
	return add_state(machine, start, end - start);
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
static IdemMachine *
new_machine(const char *name)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "idem machine",
												  ALLOCSET_SMALL_SIZES);
	IdemMachine *machine = MemoryContextAllocZero(context, sizeof(IdemMachine));

	machine->context = context;
	machine->generation = cache_generation;
	machine->name = MemoryContextStrdup(context, name);
	machine->states_size = 16;
	machine->states = MemoryContextAlloc(context, machine->states_size *
										 sizeof(State));
	machine->transitions_size = 16;
	machine->transitions = MemoryContextAlloc(context,
											  machine->transitions_size *
											  sizeof(Transition));
	enlarge_slots(machine);
	return machine;
}

/* The state of a name, new if it is not there. */
static int
add_state(IdemMachine *machine, const char *name, int len)
{
	uint32		hash = hash_bytes((const unsigned char *) name, len);
	int			found = find_state(machine, name, len, hash);
	State	   *state;
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
								   machine->states_size * sizeof(State));
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

/* The state of a name, or -1. */
static int
find_state(const IdemMachine *machine, const char *name, int len, uint32 hash)
{
	for (uint32 slot = hash & machine->slots_mask; machine->slots[slot] >= 0;
		 slot = (slot + 1) & machine->slots_mask)
	{
		const State *state = &machine->states[machine->slots[slot]];

		if (state->hash == hash && state->len == len &&
			memcmp(state->name, name, len) == 0)
			return machine->slots[slot];
	}
	return -1;
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

static void
add_transition(IdemMachine *machine, int from, int to)
{
	if (machine->ntransitions == machine->transitions_size)
	{
		machine->transitions_size *= 2;
		machine->transitions = repalloc(machine->transitions,
										machine->transitions_size *
										sizeof(Transition));
	}
	machine->transitions[machine->ntransitions].from = from;
	machine->transitions[machine->ntransitions].to = to;
	machine->ntransitions++;
}

/*
 * Makes the bitmaps, and drops transitions that are there already.  Warshall:
 * whatever reaches k also reaches what k reaches.
 */
static void
compile(IdemMachine *machine)
{
	int			words = (machine->nstates + 63) / 64;
	Size		size = (Size) machine->nstates * words * sizeof(uint64);
	int			kept = 0;

	machine->row_words = words;
	machine->edges = MemoryContextAllocZero(machine->context, size);
	for (int i = 0; i < machine->ntransitions; i++)
	{
		Transition	transition = machine->transitions[i];

		if (transition.to != NO_STATE)
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

			if (i == k || !test_bit(machine, machine->reach, i, k))
				continue;
			for (int w = 0; w < words; w++)
				row[w] |= via[w];
		}
	}
}

static bool
test_bit(const IdemMachine *machine, const uint64 *bitmap, int from, int to)
{
	return (bitmap[(Size) from * machine->row_words + to / 64] >>
			(to % 64)) & 1;
}

static int
count_transitions(const IdemMachine *machine)
{
	int			n = 0;

	for (int i = 0; i < machine->ntransitions; i++)
		if (machine->transitions[i].to != NO_STATE)
			n++;
	return n;
}

/* Do two machines have the same transitions, in the same order? */
static bool
same_definition(const IdemMachine *a, const IdemMachine *b)
{
	if (a->nstates != b->nstates || a->ntransitions != b->ntransitions ||
		memcmp(a->transitions, b->transitions,
			   a->ntransitions * sizeof(Transition)) != 0)
		return false;
	for (int i = 0; i < a->nstates; i++)
		if (strcmp(a->states[i].name, b->states[i].name) != 0)
			return false;
	return true;
}


/* The rows of a machine, as a machine not yet compiled; NULL: none. */
static IdemMachine *
load_machine(const char *name, Oid owner)
{
	Datum		key = CStringGetTextDatum(name);
	IdemMachine *machine = new_machine(name);
	Datum		arrays[2];
	bool		nulls[2];
	Datum	   *states[2];
	bool	   *missing[2];
	int			n;

	(void) idem_plan_execute(IDEM_PLAN_TRANSITION_LOAD, owner, true, &key, NULL,
							 arrays, nulls, 2);
	if (nulls[0])
	{
		MemoryContextDelete(machine->context);
		return NULL;
	}

	for (int i = 0; i < 2; i++)
		deconstruct_array(DatumGetArrayTypeP(arrays[i]), TEXTOID, -1, false,
						  TYPALIGN_INT, &states[i], &missing[i], &n);
	for (int i = 0; i < n; i++)
	{
		int			indexes[2] = {NO_STATE, NO_STATE};

		for (int j = 0; j < 2; j++)
			if (!missing[j][i])
				indexes[j] = add_state(machine,
									   VARDATA_ANY(DatumGetPointer(states[j][i])),
									   VARSIZE_ANY_EXHDR(DatumGetPointer(states[j][i])));
		add_transition(machine, indexes[0], indexes[1]);
	}
	return machine;
}

/* Writes the rows of a machine in the place of those that are there. */
static void
save_machine(const IdemMachine *machine, Oid owner)
{
	int			n = machine->ntransitions;
	Datum	   *names = palloc_array(Datum, machine->nstates);
	Datum	   *from = palloc_array(Datum, n);
	Datum	   *to = palloc_array(Datum, n);
	bool	   *alone = palloc_array(bool, n);
	int			lower = 1;
	Datum		values[3];

	for (int i = 0; i < machine->nstates; i++)
		names[i] = CStringGetTextDatum(machine->states[i].name);
	for (int i = 0; i < n; i++)
	{
		const Transition *transition = &machine->transitions[i];

		alone[i] = transition->to == NO_STATE;
		from[i] = names[transition->from];
		to[i] = alone[i] ? (Datum) 0 : names[transition->to];
	}

	values[0] = CStringGetTextDatum(machine->name);
	values[1] = PointerGetDatum(construct_md_array(from, NULL, 1, &n, &lower,
												   TEXTOID, -1, false,
												   TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_md_array(to, alone, 1, &n, &lower,
												   TEXTOID, -1, false,
												   TYPALIGN_INT));
	(void) idem_plan_execute(IDEM_PLAN_TRANSITION_DELETE, owner, false, values,
							 NULL, NULL, NULL, 0);
	(void) idem_plan_execute(IDEM_PLAN_TRANSITION_INSERT, owner, false, values,
							 NULL, NULL, NULL, 0);
}

/*
 * Locks idem.transition to the end of the transaction and answers its owner.
 * The callback knows the table from before it is read.
 */
static Oid
table_owner(LOCKMODE lockmode)
{
	Relation	rel;
	Oid			owner;

	transition_relid = idem_find_table("transition");
	rel = table_open(transition_relid, lockmode);
	owner = rel->rd_rel->relowner;
	table_close(rel, NoLock);
	return owner;
}

/* Keeps a compiled machine, in a bounded amount of memory. */
static void
keep_machine(IdemMachine *machine)
{
	Size		bytes = MemoryContextMemAllocated(machine->context, false);
	CachedMachine *cached;
	bool		found;

	if (cache != NULL && (cache_bytes + bytes > CACHED_BYTES_MAX ||
						  hash_get_num_entries(cache) >= CACHED_MACHINES_MAX))
	{
		cache = NULL;
		MemoryContextDelete(cache_context);
	}
	if (cache == NULL)
	{
		HASHCTL		ctl = {0};

		cache_context = AllocSetContextCreate(CacheMemoryContext,
											  "idem machines",
											  ALLOCSET_SMALL_SIZES);
		cache_bytes = 0;
		ctl.keysize = sizeof(((CachedMachine *) NULL)->name);
		ctl.entrysize = sizeof(CachedMachine);
		ctl.hcxt = cache_context;
		cache = hash_create("idem machines", CACHED_MACHINES_MAX, &ctl,
							HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}

	cached = hash_search(cache, machine->name, HASH_ENTER, &found);
	if (found)
	{
		cache_bytes -= MemoryContextMemAllocated(cached->machine->context, false);
		MemoryContextDelete(cached->machine->context);
	}
	MemoryContextSetParent(machine->context, cache_context);
	cached->machine = machine;
	cache_bytes += bytes;
}

/* A machine that must exist, read now and compiled. */
static IdemMachine *
loaded_machine(const char *name)
{
	IdemMachine *machine = load_machine(name, table_owner(AccessShareLock));

	if (machine == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("machine \"%s\" does not exist", name),
				 errdetail("No definition of a machine \"%s\" is known in this database.",
						   name),
				 errhint("Define it with idem_machine, or correct the name.")));
	compile(machine);
	return machine;
}

/* The state of a name that must be in the machine. */
static int
state_index(const IdemMachine *machine, const char *name, int len)
{
	int			found = find_state(machine, name, len,
								   hash_bytes((const unsigned char *) name, len));

	if (found < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("state \"%.*s\" is not in machine \"%s\"",
						pg_mbcliplen(name, len, IDEM_STATE_MAX), name,
						machine->name),
				 errdetail("Machine \"%s\" has %d states, and \"%.*s\" is none of them.",
						   machine->name, machine->nstates,
						   pg_mbcliplen(name, len, IDEM_STATE_MAX), name),
				 errhint("Correct the state, or define the machine again with idem_machine.")));
	return found;
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
needs_alias(const State *state)
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
