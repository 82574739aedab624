/*-------------------------------------------------------------------------
 *
 * definition.c
 *	  A state machine in memory: parsed from a definition, or put together
 *	  from its rows.
 *
 * A machine lives in a memory context of its own, below the one that was
 * current when it was made.  So an error leaves nothing behind, and a caller
 * that wants to keep the machine gives the context another parent.
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

/* Two bitmaps of a machine take states * states / 4 bytes: 4 MB at most. */
#define STATES_MAX			4096

/* Bytes of a definition that a message quotes. */
#define QUOTE_MAX			20

/* A state's name, which need not end with a zero byte. */
typedef struct StateName
{
	const char *bytes;
	int			len;
} StateName;

typedef struct StateEntry
{
	StateName	name;
	uint32		hash;
	char		status;
	int			index;			/* in the machine's states */
} StateEntry;

#define SH_PREFIX			states
#define SH_ELEMENT_TYPE		StateEntry
#define SH_KEY_TYPE			StateName
#define SH_KEY				name
#define SH_HASH_KEY(tb, key) \
	hash_bytes((const unsigned char *) (key).bytes, (key).len)
#define SH_EQUAL(tb, a, b) \
	((a).len == (b).len && memcmp((a).bytes, (b).bytes, (a).len) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, entry)	(entry)->hash
#define SH_SCOPE			static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Where the parser is in a definition. */
typedef struct Parser
{
	const char *machine;		/* its name */
	const char *text;
	const char *at;
} Parser;

static int	parse_state(Parser *parser, IdemMachine *machine);
static bool ends_name(const char *start, const char *at);
static bool parse_arrow(Parser *parser);
static void end_chain(Parser *parser);
static void skip_blanks(Parser *parser);
static void skip_space(Parser *parser);
pg_noreturn static void syntax_error(Parser *parser, const char *expected);


/*
 * Definition = chain { end chain } [ end ]; chain = state { arrow state }.
 * An arrow is "->" or "-->"; ";" and the end of a line end a chain, and lines
 * may be empty.
 *
 * A state is any text without the characters ";", ",", "<", ">" and "→",
 * without "--", without a "-" between spaces or at its ends, less the space
 * around it.  So an arrow of another kind ("=>", "<-", "--"), a list ("b, c")
 * and a forgotten end are mistakes, and never states of strange names.
 */
IdemMachine *
idem_machine_parse(const char *name, const char *definition)
{
	IdemMachine *machine = idem_machine_new(name);
	Parser		parser = {name, definition, definition};

	skip_space(&parser);
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
		end_chain(&parser);
		CHECK_FOR_INTERRUPTS();
	} while (*parser.at != '\0');

	idem_machine_compile(machine);
	return machine;
}

/* Takes a state, with the blanks around it. */
static int
parse_state(Parser *parser, IdemMachine *machine)
{
	const char *start;
	const char *end;

	skip_blanks(parser);
	start = parser->at;
	if (*start == '-')
		syntax_error(parser, "a state");
	while (!ends_name(start, parser->at))
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
	skip_blanks(parser);
	return idem_machine_add_state(machine, start, end - start);
}

/* Does a name that begins at start end before this byte? */
static bool
ends_name(const char *start, const char *at)
{
	/* an arrow of another kind, in UTF-8; other encodings have no such bytes */
	static const char arrow[] = "\xe2\x86\x92";

	if ((unsigned char) *at < ' ' || *at == 0x7f ||
		strchr(";,<>", *at) != NULL)
		return true;
	if (*at == '-')
		return at[1] == '-' || at[1] == '>' ||
			(at > start && at[-1] == ' ' && at[1] == ' ');
	if (*at == '=')
		return at[1] == '>';
	return strncmp(at, arrow, strlen(arrow)) == 0 &&
		GetDatabaseEncoding() == PG_UTF8;
}

/* Takes an arrow, if there is one. */
static bool
parse_arrow(Parser *parser)
{
	if (strncmp(parser->at, "->", 2) == 0)
		parser->at += 2;
	else if (strncmp(parser->at, "-->", 3) == 0)
		parser->at += 3;
	else
		return false;
	return true;
}

/* Takes what ends a chain, and the space up to the next one. */
static void
end_chain(Parser *parser)
{
	if (*parser->at == ';')
		parser->at++;
	else if (*parser->at != '\0' && *parser->at != '\n' && *parser->at != '\r')
		syntax_error(parser, "\"->\" or \";\"");
	skip_space(parser);
}

/* Skips the space within a line. */
static void
skip_blanks(Parser *parser)
{
	while (*parser->at != '\0' && strchr(" \t\f\v", *parser->at) != NULL)
		parser->at++;
}

/* Skips the space between chains, ends of lines too. */
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
	int			len = pg_mbcliplen(parser->at, strcspn(parser->at, "\r\n"),
								   QUOTE_MAX);

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("definition of machine \"%s\" is not valid", parser->machine),
			 *parser->at == '\0' ?
			 errdetail("Expected %s at character %d, where the definition ends.",
					   expected, position) :
			 len == 0 ?
			 errdetail("Expected %s at character %d, where the line ends.",
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
	machine->by_name = states_create(context, machine->states_size, NULL);
	return machine;
}

/* The state of a name, new if it is not there. */
int
idem_machine_add_state(IdemMachine *machine, const char *name, int len)
{
	int			found = idem_machine_find_state(machine, name, len);
	StateName	key;
	IdemState  *state;
	bool		there;

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

	state = &machine->states[machine->nstates];
	state->name = MemoryContextAlloc(machine->context, len + 1);
	memcpy(state->name, name, len);
	state->name[len] = '\0';
	state->len = len;
	state->entered = false;
	state->left = false;

	key.bytes = state->name;
	key.len = len;
	states_insert(machine->by_name, key, &there)->index = machine->nstates;
	return machine->nstates++;
}

/* The state of a name, or IDEM_NO_STATE. */
int
idem_machine_find_state(const IdemMachine *machine, const char *name, int len)
{
	StateName	key = {name, len};
	StateEntry *entry = states_lookup(machine->by_name, key);

	return entry != NULL ? entry->index : IDEM_NO_STATE;
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
