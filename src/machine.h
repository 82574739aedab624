/*-------------------------------------------------------------------------
 *
 * machine.h
 *	  State machines.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_MACHINE_H
#define IDEM_MACHINE_H

#include "idem.h"

/* definition.c: a state machine in memory */
#define IDEM_DEFINITION_MAX	(16 * 1024 * 1024)
#define IDEM_NO_STATE		(-1)

typedef struct IdemState
{
	char	   *name;
	int			len;
	bool		entered;		/* from another state */
	bool		left;			/* for another state */
} IdemState;

typedef struct IdemTransition
{
	int			from;
	int			to;				/* IDEM_NO_STATE: from stands alone */
} IdemTransition;

struct states_hash;

typedef struct IdemMachine
{
	MemoryContext context;		/* holds all of it */
	uint64		generation;		/* current if that is still the cache's */
	char	   *name;
	IdemState  *states;			/* in order of appearance */
	int			nstates;
	int			states_size;
	struct states_hash *by_name;	/* indexes in states */
	IdemTransition *transitions;	/* in order of the definition */
	int			ntransitions;	/* with the states that stand alone */
	int			transitions_size;
	int			row_words;		/* of a bitmap's row */
	uint64	   *edges;			/* one row for each state */
	uint64	   *reach;			/* the closure of edges */
} IdemMachine;

/* A bit of edges or reach. */
static inline bool
idem_machine_bit(const IdemMachine *machine, const uint64 *bitmap,
				 int from, int to)
{
	return (bitmap[(Size) from * machine->row_words + to / 64] >>
			(to % 64)) & 1;
}

extern IdemMachine *idem_machine_parse(const char *name,
									   const char *definition);
extern IdemMachine *idem_machine_new(const char *name);
extern int	idem_machine_add_state(IdemMachine *machine, const char *name,
								   int len);
extern int	idem_machine_find_state(const IdemMachine *machine,
									const char *name, int len);
extern void idem_machine_add_transition(IdemMachine *machine, int from,
										int to);

/* machine_reach.c: what can be reached from what */
extern void idem_machine_compile(IdemMachine *machine);

/* machine.c: state machines */
typedef enum IdemVerdict
{
	IDEM_SAME,
	IDEM_APPLY,
	IDEM_LATE,
	IDEM_AHEAD,
	IDEM_ILLEGAL
} IdemVerdict;

extern void idem_machine_init(void);
extern const IdemMachine *idem_machine_get(const char *name);
extern IdemMachine *idem_machine_load(const char *name);
extern IdemVerdict idem_machine_judge(const IdemMachine *machine,
									  const char *from, int from_len,
									  const char *to, int to_len);
extern bool idem_machine_returns(const IdemMachine *machine,
								 const char *state, int len);

#endif							/* IDEM_MACHINE_H */
