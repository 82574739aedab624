/*
 * traffic.h
 *		What the parts of the traffic program share, the part of the demo that makes orders.
 *
 * The program is several processes: the parent, clients, and proxies between the clients and the server. They share
 * one piece of memory, struct Shared, mapped before the first fork. A task belongs to the client that took it, which
 * alone writes it; counters are atomic; the parent reads.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "demo.h"

#define MAX_MODES		8

/* where a proxy can cut a connection, in the order in which a request passes these points */
typedef enum CutPoint
{
	CUT_BEFORE_REQUEST,			/* nothing of the request reached the server */
	CUT_IN_REQUEST,				/* part of it did */
	CUT_AFTER_REQUEST,			/* all of it did, and nobody waits for the reply */
	CUT_BEFORE_REPLY,			/* the server has replied, the client sees nothing of it */
	CUT_IN_REPLY,				/* the client sees part of the reply */
	CUT_POINTS
} CutPoint;

typedef struct Cuts
{
	atomic_long at_commit[CUT_POINTS];	/* the cut request was the one that commits */
	atomic_long earlier[CUT_POINTS];	/* it was an earlier one of the transaction */
	atomic_long silent;			/* no end of file: the client had to wait for its deadline */
} Cuts;

/* one request for an order, which its client repeats until it has an answer */
typedef struct Task
{
	int			key;			/* which order */
	bool		taken;
	bool		answered;
	char		answer[ANSWER_SIZE];
} Task;

typedef struct Counts
{
	atomic_long sent;			/* requests sent, repetitions included */
	atomic_long lost;			/* … whose answer never came: connection lost or deadline passed */
	atomic_long again;			/* … that the server refused with an error that says: try again */
	atomic_long answered;		/* tasks that have their answer */
	atomic_long met_active;		/* repetitions sent while the backend of the try before was still working */
	atomic_long met_open;		/* … or sat in its open transaction */
	atomic_long met_idle;		/* … or did nothing (the request never came, or was done), or was gone */
	atomic_long bugs;			/* what must never happen; each was printed */
} Counts;

typedef struct Shared
{
	atomic_int	next;			/* first task that nobody has taken */
	atomic_int	limit;			/* no task from here on is to be taken */
	Counts		counts;
	Cuts		cuts;
	Task		tasks[];
} Shared;

/* how one try of one request ended */
typedef enum Outcome
{
	ANSWERED,
	LOST,						/* no answer; whether the server did it is unknown */
	AGAIN,						/* refused for now, nothing was done */
	BUG							/* an error that no retry cures */
} Outcome;

#define MAX_PREPARED	64

/* the statements that a connection has prepared: the name of each is its place */
typedef struct Prepared
{
	int			count;
	char	   *text[MAX_PREPARED];
} Prepared;

typedef struct Client
{
	int			number;
	PGconn	   *conn;
	Prepared   *prepared;		/* NULL: none is to be prepared */
	double		deadline;		/* of the try that is under way */
	uint64_t	random;
	char		error[512];		/* of a BUG */
} Client;

/* what a client asks for; the key is the same in each repetition */
typedef struct Request
{
	const char *key;
	const char *product;
	const char *json;			/* both in one, fields in an order that varies from try to try */
} Request;

/* one way to make an order */
typedef struct Mode
{
	Way			way;
	Outcome		(*order) (Client *client, const Request *request, char *answer);
} Mode;

/* the totals of one mode, all from the database or from the processes */
typedef struct Run
{
	const Mode *mode;
	double		seconds;
	int			tasks;			/* tasks taken: orders wanted, doubly sent ones included */
	long		wanted;
	long		sent,
				lost,
				again;
	long		met_active,
				met_open,
				met_idle;
	long		at_commit[CUT_POINTS];
	long		earlier[CUT_POINTS];
	long		silent;
	long		made;
	long		doubles;
	long		doubles_by_retry;	/* of orders that a single client asked for */
	long		missing;
	long		replays;		/* answers got for an order beyond the first */
	long		different;		/* … that were not the first, byte for byte */
	long		unfounded;		/* answers that no order in the database gives */
	long		swept;			/* orders sent once more afterwards, without faults */
	long		stock_off;		/* products whose stock and orders do not add up */
	long		bugs;
} Run;

typedef struct Options
{
	const Mode *modes[MAX_MODES];
	int			nmodes;
	int			clients;
	int			proxies;
	int			orders;
	double		seconds;
	double		fault_rate;
	double		twice_rate;
	double		deadline;
	const char *json;
} Options;

/* traffic.c; load.c of the fault tests has its own */
extern Outcome judge_error(Client *client, const PGresult *result, const char *sql);

/* ask.c */
extern Outcome ask(Client *client, const char *sql, int nparams, const char *const *params, PGresult **result);
extern void forget_prepared(Client *client);

/* orders.c */
extern const Mode order_modes[];
extern const int order_nmodes;
extern int	order_products(PGconn *conn);
extern void order_key(char *key, const char *run_name, int number);
extern void order_request(char *json, size_t size, const char *key, const char *product, int try);
extern long *order_stock(PGconn *conn, int nproducts);
extern void order_account(PGconn *conn, const char *run_name, const Shared *shared, int ntasks, int nkeys,
						  const long *stock_before, int nproducts, Run *run);

/* proxy.c */
extern int	proxy_listen(const char *path);
extern _Noreturn void proxy_run(int listener, const char *server_path, double fault_rate, uint64_t chance, Cuts *cuts);

/* report.c */
extern void report_table(const Run *runs, int nruns);
extern void report_json(const char *path, const Options *options, const Run *runs, int nruns);
extern bool report_verdict(const Options *options, const Run *runs, int nruns);

#endif							/* TRAFFIC_H */
