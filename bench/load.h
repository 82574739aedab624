/*
 * load.h
 *		What load.c, which takes the commands, run.c, which keeps the clients busy, and client.c, which carries out the
 *		steps, share.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>

#include <libpq-fe.h>

#define MAX_STEPS	8
#define MAX_VALUES	8
#define MAX_CLIENTS	128
#define VALUE_SIZE	512
#define MESSAGE_SIZE 4096
#define OLD_KEYS	10000

typedef enum Kind
{
	KIND_PG,
	KIND_BEGIN,
	KIND_REDIS,
	KIND_ETCD
} Kind;

typedef struct Step
{
	bool		session;
	Kind		kind;
	char		name[16];		/* of the prepared statement */
	char	   *text;
	int			n_values;
	char	   *values[MAX_VALUES];
	char	   *expect;
} Step;

typedef struct Client
{
	struct Way *way;
	PGconn	   *pg;
	int			redis;
	int			etcd;
	int			step;
	double		began;
	double		due;			/* when what is held up goes on */
	bool		sending;		/* ... which is a request, else an answer */
	char		key[VALUE_SIZE];
	char		uuid[VALUE_SIZE];
	char		b64key[VALUE_SIZE];
	char		old[VALUE_SIZE];
	char		last[VALUE_SIZE];
	char		session[VALUE_SIZE];
	char		affected[32];
	char		in[MESSAGE_SIZE];	/* from Redis or etcd */
	size_t		in_len;
} Client;

typedef struct Way
{
	char	   *name;
	char	   *conninfo;
	char	   *redis_path;
	int			etcd_port;
	int			epoll;
	int			timer;
	double		delay;
	int			n_steps;
	Step		steps[MAX_STEPS];
	int			n_clients;
	Client	   *clients[MAX_CLIENTS];
} Way;

/* client.c */
extern void client_init(void);
extern Client *client_new(Way *way);
extern void client_begin(Client *client);
extern void client_send(Client *client);
extern bool client_receive(Client *client);
extern bool client_next(Client *client);
extern void client_end(Client *client);
extern PGconn *connect_pg(const char *conninfo);
extern double now(void);

/* run.c */
extern void run_init(Way *way);
extern void do_run(Way *way, int clients, double seconds, double rate);

/* load.c */
extern bool background_runs(void);
extern int	compare_doubles(const void *a, const void *b);
extern void ok(const char *format,...) __attribute__((format(printf, 1, 2)));
extern void die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

#endif							/* LOAD_H */
