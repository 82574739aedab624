/*-------------------------------------------------------------------------
 *
 * machine_reach.c
 *	  What can be reached from what in a state machine: two bitmaps.
 *
 * The transitive closure is made in one walk over the transitions.  States
 * that reach each other form a component and reach the same states, so the
 * walk finds components (Tarjan's algorithm, with a stack of its own, for a
 * chain may be long), and finds each one after all that it leads to.  So the
 * rows that a component needs are there when it is found.  The cost is one
 * row of a bitmap for each transition at most: a few milliseconds for the
 * largest machine.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "machine.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#define TRANSITIONS_MAX		65536

/* What the walk knows of a state. */
typedef struct Visit
{
	int			number;			/* from 1, in order of discovery; 0: not yet */
	int			low;			/* smallest number known to be reachable */
	int			component;		/* from 1; 0: not yet */
	int			first;			/* its transitions in targets */
	int			next;			/* the first of them not yet followed */
} Visit;

typedef struct Walk
{
	IdemMachine *machine;
	Visit	   *visits;			/* one for each state, and one more */
	int		   *targets;		/* of the transitions, by state */
	int		   *path;			/* states being visited, the first at the
								 * bottom */
	int			npath;
	int		   *pending;		/* states without a component yet */
	int			npending;
	int			nnumbers;
	int			ncomponents;
} Walk;

static void make_edges(IdemMachine *machine);
static void sort_targets(Walk *walk);
static void enter(Walk *walk, int state);
static void walk_from(Walk *walk, int start);
static void close_component(Walk *walk, int root);
static void add_targets(Walk *walk, uint64 *row, int state);


/* Makes the bitmaps, and drops transitions that are there already. */
void
idem_machine_compile(IdemMachine *machine)
{
	Walk		walk = {0};
	int			n = machine->nstates;

	walk.machine = machine;
	machine->row_words = (n + 63) / 64;
	make_edges(machine);
	machine->reach =
		MemoryContextAllocZero(machine->context, (Size) n *
							   machine->row_words * sizeof(uint64));

	walk.visits = palloc0_array(Visit, n + 1);
	walk.targets = palloc_array(int, machine->ntransitions);
	walk.path = palloc_array(int, n);
	walk.pending = palloc_array(int, n);
	sort_targets(&walk);
	for (int i = 0; i < n; i++)
		if (walk.visits[i].number == 0)
			walk_from(&walk, i);

	pfree(walk.visits);
	pfree(walk.targets);
	pfree(walk.path);
	pfree(walk.pending);
}


/* Makes the bitmap of the transitions, and keeps the first of equal ones. */
static void
make_edges(IdemMachine *machine)
{
	Size		words = machine->row_words;
	int			kept = 0;
	int			transitions = 0;

	machine->edges =
		MemoryContextAllocZero(machine->context, machine->nstates * words *
							   sizeof(uint64));
	for (int i = 0; i < machine->ntransitions; i++)
	{
		IdemTransition transition = machine->transitions[i];

		CHECK_FOR_INTERRUPTS();
		if (transition.to != IDEM_NO_STATE)
		{
			uint64	   *word = &machine->edges[transition.from * words +
											   transition.to / 64];
			uint64		bit = UINT64CONST(1) << (transition.to % 64);

			if (*word & bit)
				continue;
			*word |= bit;
			transitions++;
			if (transition.from != transition.to)
			{
				machine->states[transition.from].left = true;
				machine->states[transition.to].entered = true;
			}
		}
		machine->transitions[kept++] = transition;
	}
	machine->ntransitions = kept;

	if (transitions > TRANSITIONS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("machine \"%s\" has too many transitions", machine->name),
				 errdetail("It has %d transitions; the limit is %d.",
						   transitions, TRANSITIONS_MAX),
				 errhint("Split the machine.")));
}

/* Puts the targets of each state side by side. */
static void
sort_targets(Walk *walk)
{
	const IdemMachine *machine = walk->machine;
	int			first = 0;

	for (int i = 0; i < machine->ntransitions; i++)
		if (machine->transitions[i].to != IDEM_NO_STATE)
			walk->visits[machine->transitions[i].from].next++;
	for (int i = 0; i <= machine->nstates; i++)
	{
		int			count = walk->visits[i].next;

		walk->visits[i].first = first;
		walk->visits[i].next = first;
		first += count;
	}
	for (int i = 0; i < machine->ntransitions; i++)
		if (machine->transitions[i].to != IDEM_NO_STATE)
			walk->targets[walk->visits[machine->transitions[i].from].next++] =
				machine->transitions[i].to;
	for (int i = 0; i < machine->nstates; i++)
		walk->visits[i].next = walk->visits[i].first;
}

/* Visits a state for the first time. */
static void
enter(Walk *walk, int state)
{
	Visit	   *visit = &walk->visits[state];

	CHECK_FOR_INTERRUPTS();
	visit->number = visit->low = ++walk->nnumbers;
	walk->path[walk->npath++] = state;
	walk->pending[walk->npending++] = state;
}

/* Visits a state and all that it reaches. */
static void
walk_from(Walk *walk, int start)
{
	enter(walk, start);
	while (walk->npath > 0)
	{
		int			state = walk->path[walk->npath - 1];
		Visit	   *visit = &walk->visits[state];

		if (visit->next < visit[1].first)
		{
			int			to = walk->targets[visit->next++];
			Visit	   *target = &walk->visits[to];

			if (target->number == 0)
				enter(walk, to);
			else if (target->component == 0)
				visit->low = Min(visit->low, target->number);
			continue;
		}

		walk->npath--;
		if (walk->npath > 0)
		{
			Visit	   *before = &walk->visits[walk->path[walk->npath - 1]];

			before->low = Min(before->low, visit->low);
		}
		if (visit->low == visit->number)
			close_component(walk, state);
	}
}

/* Fills the rows of a component: root is the state that was visited first. */
static void
close_component(Walk *walk, int root)
{
	Size		words = walk->machine->row_words;
	uint64	   *row = &walk->machine->reach[root * words];
	int			end = walk->npending;
	int			begin = end;

	walk->ncomponents++;
	do
		walk->visits[walk->pending[--begin]].component = walk->ncomponents;
	while (walk->pending[begin] != root);

	for (int i = begin; i < end; i++)
		add_targets(walk, row, walk->pending[i]);
	for (int i = begin + 1; i < end; i++)
		memcpy(&walk->machine->reach[walk->pending[i] * words], row,
			   words * sizeof(uint64));
	walk->npending = begin;
}

/* Adds to a row what the transitions of a state lead to. */
static void
add_targets(Walk *walk, uint64 *row, int state)
{
	Size		words = walk->machine->row_words;
	const Visit *visit = &walk->visits[state];

	CHECK_FOR_INTERRUPTS();
	for (int i = visit->first; i < visit[1].first; i++)
	{
		int			to = walk->targets[i];
		uint64		bit = UINT64CONST(1) << (to % 64);

		/* what is in the row already has brought what it reaches */
		if (row[to / 64] & bit)
			continue;
		row[to / 64] |= bit;
		if (walk->visits[to].component != visit->component)
			for (Size w = 0; w < words; w++)
				row[w] |= walk->machine->reach[to * words + w];
	}
}
