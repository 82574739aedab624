/*
 * load.h
 *		What the parts of the fault tests' load program share.
 *
 * A request is a ticket, a number that the clients draw from one counter; all about it follows from the number, so
 * whoever has the number can send the request again: a client after a fault, another client at the same moment, or
 * everybody when all is over. Clock, statements, outcomes, proxy and random numbers
 * are those of the demo.
 */
#ifndef LOAD_H
#define LOAD_H

#include "traffic.h"

#define MAX_KINDS		32
#define MAX_TOKENS		(1 << 20)
#define TOKEN_SIZE		104
#define NO_FENCE		0

struct Kind;

typedef struct Job
{
	const struct Kind *kind;
	long		ticket;
	long		number;			/* counts the tickets of the kind */
	char		number_text[24];
	char		key[32];
	char		client[16];		/* who asks */
	char		token[TOKEN_SIZE];
	char		answer[ANSWER_SIZE];	/* of an ANSWERED try */
	bool		first;			/* an ANSWERED try was the one that did it, as far as the client knows */
} Job;

/* one kind of request: try once, from the beginning, and say how it ended */
typedef struct Kind
{
	const char *name;			/* also the source of its keys */
	bool		wrong;			/* a mistake that people make: only by --kinds */
	Outcome		(*attempt) (Client *client, Job *job);
} Kind;

/* load.c */
extern Outcome run(Client *client, const char *sql, int nparams, const char *const *params);
extern Outcome ask_value(Client *client, const char *sql, int nparams, const char *const *params,
						 char *value, size_t size);
extern void journal(const char *event, const Job *job, const char *name, long fence, double asked, const char *text);
extern Outcome take_token(Client *client, Job *job);
extern bool two_phase;

/* kinds.c, wrong.c */
extern const Kind load_kinds[];
extern Outcome finish_prepared(Client *client, const Job *job);
extern Outcome try_check(Client *client, Job *job);
extern Outcome try_apart(Client *client, Job *job);
extern Outcome try_unsorted(Client *client, Job *job);
extern void shuffled_keys(Client *client, const Job *job, char *keys, size_t size);

#endif							/* LOAD_H */
