/*-------------------------------------------------------------------------
 *
 * machine.c
 *	  State machines: what is kept of them, and the verdict of a move.
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
#include "machine.h"
#include "plan.h"
#include "store.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* What a session keeps compiled; beyond that it starts again. */
#define CACHED_MACHINES_MAX	64
#define CACHED_BYTES_MAX	(16 * 1024 * 1024)

/* A machine that this session has compiled. */
typedef struct CachedMachine
{
	char		name[IDEM_MACHINE_MAX + 1]; /* hash key */
	IdemMachine *machine;
} CachedMachine;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static Size cache_bytes = 0;
static Oid	transition_relid = InvalidOid;
static uint64 cache_generation = 0;

static IdemTable transition_table = {
	.relname = "transition",
	.keyname = "machine, position",
	.nkeys = 2,
	.natts = 4,
	.required = 3,
	.columns = {
		{"machine", TEXTOID},
		{"position", INT8OID},
		{"from_state", TEXTOID},
		{"to_state", TEXTOID}
	},
	.metadata = true
};

static const char *const verdict_names[] = {
	[IDEM_SAME] = "same",
	[IDEM_APPLY] = "apply",
	[IDEM_LATE] = "late",
	[IDEM_AHEAD] = "ahead",
	[IDEM_ILLEGAL] = "illegal"
};

static void invalidate(Datum arg, Oid relid);
static int	count_transitions(const IdemMachine *machine);
static bool same_definition(const IdemMachine *a, const IdemMachine *b);
static IdemMachine *load_machine(const char *name, Oid owner);
static void save_machine(const IdemMachine *machine, Oid owner);
static Oid	table_owner(LOCKMODE lockmode);
static void keep_machine(IdemMachine *machine);
static int	state_index(const IdemMachine *machine, const char *name, int len);

PG_FUNCTION_INFO_V1(idem_machine);
PG_FUNCTION_INFO_V1(idem_verdict);


/* Registers the callback, before anything is compiled. */
void
idem_machine_init(void)
{
	idem_on_relcache(invalidate);
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
														   IDEM_DEFINITION_MAX));
	IdemMachine *machine = idem_machine_parse(name, definition);
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

	machine = idem_machine_load(name);
	keep_machine(machine);

	/* of what is defined on another node no message comes here */
	if (OidIsValid(get_extension_oid("citus", true)))
		cache_generation++;
	return machine;
}

/*
 * A machine as it is now, read and compiled for this call.  One that does not
 * exist is an error.
 */
IdemMachine *
idem_machine_load(const char *name)
{
	IdemMachine *machine = load_machine(name, table_owner(AccessShareLock));

	if (machine == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("machine \"%s\" does not exist", name),
				 errdetail("No definition of a machine \"%s\" is known in this database.",
						   name),
				 errhint("Define it with idem_machine, or correct the name.")));
	idem_machine_compile(machine);
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
	if (idem_machine_bit(machine, machine->edges, from_state, to_state))
		return IDEM_APPLY;
	if (idem_machine_bit(machine, machine->reach, from_state, to_state))
		return IDEM_AHEAD;
	if (idem_machine_bit(machine, machine->reach, to_state, from_state))
		return IDEM_LATE;
	return IDEM_ILLEGAL;
}

/* Does a way lead from a state back to it? */
bool
idem_machine_returns(const IdemMachine *machine, const char *state, int len)
{
	int			index = state_index(machine, state, len);

	return idem_machine_bit(machine, machine->reach, index, index);
}

/* Makes what is compiled stale; it is freed when it is next asked for. */
static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == transition_relid)
		cache_generation++;
}


static int
count_transitions(const IdemMachine *machine)
{
	int			n = 0;

	for (int i = 0; i < machine->ntransitions; i++)
		if (machine->transitions[i].to != IDEM_NO_STATE)
			n++;
	return n;
}

/* Do two machines have the same transitions, in the same order? */
static bool
same_definition(const IdemMachine *a, const IdemMachine *b)
{
	if (a->nstates != b->nstates || a->ntransitions != b->ntransitions ||
		memcmp(a->transitions, b->transitions,
			   a->ntransitions * sizeof(IdemTransition)) != 0)
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
	IdemMachine *machine = idem_machine_new(name);
	Datum		arrays[2];
	bool		nulls[2];
	Datum	   *states[2];
	bool	   *missing[2];
	int			n;

	machine->generation = cache_generation;
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
		int			indexes[2] = {IDEM_NO_STATE, IDEM_NO_STATE};

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < 2; j++)
		{
			text	   *state = (text *) DatumGetPointer(states[j][i]);

			if (!missing[j][i])
				indexes[j] = idem_machine_add_state(machine,
													VARDATA_ANY(state),
													VARSIZE_ANY_EXHDR(state));
		}
		idem_machine_add_transition(machine, indexes[0], indexes[1]);
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
		const IdemTransition *transition = &machine->transitions[i];

		alone[i] = transition->to == IDEM_NO_STATE;
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
	Relation	index;
	Relation	rel = idem_table_open(&transition_table, lockmode, false,
									  &index);
	Oid			owner = rel->rd_rel->relowner;

	transition_relid = RelationGetRelid(rel);
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

/* The state of a name that must be in the machine. */
static int
state_index(const IdemMachine *machine, const char *name, int len)
{
	int			found = idem_machine_find_state(machine, name, len);

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
