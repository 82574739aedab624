/*
 * demo.h
 *		What the programs of the demo share.
 *
 * Each part of the demo is a program: a parent, and worker processes forked from it that share memory with it. The
 * parent starts them, shows progress, and gives the verdict, for which it asks the database and the ledgers of the
 * services outside, never the workers what they believe they have done.
 */
#ifndef DEMO_H
#define DEMO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <libpq-fe.h>

#define MAX_WORKERS		512
#define KEY_SIZE		64
#define ANSWER_SIZE		256

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* one way to do the work of a part, with idem or without */
typedef struct Way
{
	const char *name;			/* for options and progress */
	const char *title;			/* for the table, two lines */
	const char *title2;
	bool		with_idem;
} Way;

/* what is told about each way: a long in its tally; a row without a title is a blank line */
typedef struct Row
{
	const char *title;
	size_t		offset;
	const char *name;			/* for machines, or NULL */
} Row;

#define ROW(title, member)	{title, offsetof(Tally, member), NULL}
#define BLANK_ROW			{NULL, 0, NULL}
#define NOT_APPLICABLE	(-1)	/* in a tally: shown as a dash */

/* an option of the command line; its value stands where the one pointer that is set points to, the default too */
typedef struct Option
{
	const char *name;
	const char *help;
	int		   *whole;
	double	   *real;
	const char **text;
	double		least;			/* bounds of a number */
	double		most;
} Option;

/* workers that run together */
typedef struct Crew
{
	int			workers;
	void		(*work) (int number, void *arg);
	void		(*watch) (void *arg);	/* called by the parent again and again, or NULL */
	bool		(*wakes) (int number, void *arg);	/* may a worker that stopped itself go on? */
	void	   *arg;
	int			stalled;		/* workers that stopped themselves */
	int			killed;			/* workers that died by SIGKILL, and were replaced; another death is fatal */
} Crew;

/* a broker that delivers each message until it is acknowledged (queue.c) */
typedef struct Queue
{
	int			length;
	int			first_to;		/* message m goes first to worker m % first_to; 0: to any */
	int64_t		visibility;		/* microseconds until a message without acknowledgement is delivered again */
	atomic_int	left;			/* messages that are not acknowledged */
	atomic_uint cursor;
	atomic_long deliveries;
	_Atomic int64_t due[];		/* when each is to be delivered next */
} Queue;

/* how a request to a service outside ended */
typedef enum Reply
{
	SERVED,
	BUSY,						/* refused, surely nothing was done */
	NO_REPLY					/* whether it was done is unknown */
} Reply;

/* a service outside of the database, which has a ledger and no transactions (service.c) */
typedef struct Service
{
	int			port;
	int			hit_one_in;		/* so many requests meet one fault; 0: none does */
	uint64_t	seed;
	atomic_long requests;
	atomic_long unanswered;
	atomic_long known;			/* requests that it recognised by their key, and answered from the ledger */
	atomic_int	under_way;
	int			length;
	struct
	{
		atomic_int	times;		/* how often it was really done */
		char		key[KEY_SIZE];	/* under which key, if one was given */
	}			ledger[];
} Service;

/* clock.c */
extern double now_seconds(void);
extern void sleep_seconds(double seconds);

/* process.c */
extern void begin_program(const char *name);
extern const char *program_name(void);
extern _Noreturn void fail(const char *format,...) __attribute__((format(printf, 1, 2)));
extern void stop_if_interrupted(void);
extern void *shared_memory(size_t size);
extern pid_t fork_child(void);
extern void end_children(void);
extern void run_crew(Crew *crew);

/* database.c */
extern PGconn *connect_to(const char *application, const char *host, const char *port);
extern PGconn *connect_or_fail(const char *application);
extern PGresult *query(PGconn *conn, const char *sql,...) __attribute__((sentinel));
extern PGresult *query_or_error(PGconn *conn, const char *sqlstates, const char *sql,...) __attribute__((sentinel));
extern void execute(PGconn *conn, const char *sql,...) __attribute__((sentinel));
extern long query_long(PGconn *conn, const char *sql,...) __attribute__((sentinel));
extern const char *text_of(long number);
extern const char *counted_by_idem(void);

/* queue.c */
extern Queue *queue_make(int length, double visibility);
extern void queue_free(Queue *queue);
extern void queue_consume(Queue *queue, int worker, void (*handle) (int message, void *arg), void *arg);
extern void queue_acknowledge(Queue *queue, int message);
extern void queue_put_back(Queue *queue, int message);
extern bool queue_is_done(const Queue *queue, int message);

/* service.c */
extern Service *service_start(int length, int hit_one_in, uint64_t seed);
extern Reply service_ask(Service *service, int number, const char *key, double patience, char *answer);
extern void service_receipt(char *answer, int number);
extern void service_settle(Service *service);

/* screen.c */
extern const char *conninfo;
extern uint64_t seed;
extern void read_options(int argc, char **argv, const char *purpose, const Option *options, int noptions);
extern void show_progress(bool done, const char *format,...) __attribute__((format(printf, 2, 3)));
extern long value_of(const void *tally, const Row *row);
extern void print_heads(const Way *const *ways, int nways);
extern void print_table(const Row *rows, int nrows, const Way *const *ways, const void *tallies, size_t size, int nways);
extern void print_bar(const char *title, double value, double most, const char *note);
extern void print_wrong(const char *what, const Row *row, const Way *const *ways, const void *tallies, size_t size, int nways);
extern bool verdict(bool well, const char *otherwise, const char *format,...) __attribute__((format(printf, 3, 4)));

/* splitmix64: small, seedable, and good enough to choose faults by */
static inline uint64_t
random_bits(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* a number in [0, 1) */
static inline double
random_fraction(uint64_t *state)
{
	return (double) (random_bits(state) >> 11) / (double) (UINT64_C(1) << 53);
}

/* a number in [0, n) */
static inline int
random_below(uint64_t *state, int n)
{
	return (int) (random_fraction(state) * n);
}

#endif							/* DEMO_H */
