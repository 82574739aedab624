/*
 * traffic.c
 *		Real traffic for idem: many clients make orders over a network that breaks, and retry until they have an answer.
 *
 * The parent forks proxies, which cut connections before, during and after the commit (proxy.c), and clients, which
 * send requests through them as an HTTP client would: each try has a deadline, and a try without an answer is repeated
 * on a new connection under the same key, at once or a little later, while the server may still be at work on the one
 * before. Some orders are asked for by two clients at the same time (the impatient user), some again when they were
 * answered long ago (the redelivering broker). The same load is run by each of several ways to make an order
 * (orders.c), with idem and without, and the last step is an account out of the database (report.c).
 *
 * Lost connections and the errors that say "try again" are part of the traffic; any other error is a bug, is printed,
 * and makes the program fail.
 */
#include "traffic.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROXIES			16
#define MAX_ORDERS			1000000
#define MAX_BACKOFF			0.020	/* seconds between two tries, at most */
#define MAX_DEADLINE		5.0
#define GIVE_UP_SECONDS		60.0	/* an order without an answer after this long is a bug */
#define SETTLE_SECONDS		20.0	/* so long may the last backends of cut connections take to end */
#define BUGS_PRINTED		10

/* one mode under way */
typedef struct Round
{
	const Options *options;
	const Mode *mode;
	char		name[KEY_SIZE / 2];
	char		application[KEY_SIZE];
	Shared	   *shared;
	int			nproducts;

	/* of the clients that run */
	const char *host;			/* where the proxies are; NULL: straight to the server */
	const char *doing;
	double		since;
	double		seconds;		/* after so many no more tasks are taken; 0: never */
} Round;

static char socket_dir[PATH_MAX];
static int	nsockets;
static char server_socket[PATH_MAX];

/*
 * Clients: one connection each, one order after the other.
 */

/* The errors that say: the same request may succeed if it is sent again. */
static bool
error_says_again(const char *sqlstate)
{
	return strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0 ||
		strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0 || strcmp(sqlstate, "ID409") == 0;
}

/* What an error result means for the try. */
Outcome
judge_error(Client *client, const PGresult *result, const char *sql)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (sqlstate == NULL && PQstatus(client->conn) == CONNECTION_BAD)
		return LOST;
	if (sqlstate != NULL && error_says_again(sqlstate))
		return strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0 ? LOST : AGAIN;
	snprintf(client->error, sizeof(client->error), "%s: %s in: %s", sqlstate ? sqlstate : "no SQLSTATE",
			 PQresultErrorMessage(result), sql);
	return BUG;
}

/* Looks, before a repetition is sent, what the backend of the try before is doing. */
static void
observe_backend(const Round *round, PGconn *observer, int pid)
{
	Counts	   *counts = &round->shared->counts;
	char		pid_text[16];
	const char *params[] = {pid_text, round->application};
	PGresult   *result;
	const char *state;

	snprintf(pid_text, sizeof(pid_text), "%d", pid);
	result = PQexecParams(observer,
						  "SELECT state FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND application_name = $2",
						  2, NULL, params, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
	{
		state = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "gone";
		if (strcmp(state, "active") == 0)
			atomic_fetch_add(&counts->met_active, 1);
		else if (strncmp(state, "idle in transaction", 19) == 0)
			atomic_fetch_add(&counts->met_open, 1);
		else
			atomic_fetch_add(&counts->met_idle, 1);
	}
	PQclear(result);
}

static void
report_bug(const Round *round, const Client *client, const char *key)
{
	if (atomic_fetch_add(&round->shared->counts.bugs, 1) < BUGS_PRINTED)
		fprintf(stderr, "\n%s: client %d, order %s: %s\n", program_name(), client->number, key, client->error);
}

/* Asks for one order until there is an answer. */
static void
pursue_task(const Round *round, Client *client, Task *task, const char *host, const char *port, PGconn **observer)
{
	Counts	   *counts = &round->shared->counts;
	double		started = now_seconds();
	char		key[KEY_SIZE];
	char		product[16];
	char		json[2 * KEY_SIZE];
	Request		request = {key, product, json};
	int			backend = 0;	/* of the connection that we have */
	int			old_backend = 0;	/* of the try before, if it ended without a word */

	order_key(key, round->name, task->key);
	snprintf(product, sizeof(product), "%d", task->key % round->nproducts + 1);

	for (int try = 0;; try++)
	{
		char		answer[ANSWER_SIZE];
		Outcome		outcome;

		if (now_seconds() > started + GIVE_UP_SECONDS)
		{
			snprintf(client->error, sizeof(client->error), "no answer after %d tries", try);
			report_bug(round, client, key);
			return;
		}
		if (client->conn == NULL)
			client->conn = connect_to(round->application, host, port);
		if (client->conn == NULL)
		{
			sleep_seconds(MAX_BACKOFF * random_fraction(&client->random));
			continue;
		}
		backend = PQbackendPID(client->conn);
		if (old_backend != 0 && *observer == NULL)
			*observer = connect_to("traffic observer", NULL, NULL);
		if (old_backend != 0 && *observer != NULL)
			observe_backend(round, *observer, old_backend);

		/* patience grows with the tries, so that an overloaded machine is slow, not stuck */
		client->deadline = round->options->deadline * (try + 1);
		if (client->deadline > MAX_DEADLINE)
			client->deadline = MAX_DEADLINE;
		client->deadline += now_seconds();
		order_request(json, sizeof(json), key, product, try);
		atomic_fetch_add(&counts->sent, 1);
		outcome = round->mode->order(client, &request, answer);
		if (outcome == ANSWERED)
		{
			strcpy(task->answer, answer);
			task->answered = true;
			atomic_fetch_add(&counts->answered, 1);
			return;
		}

		PQfinish(client->conn);
		client->conn = NULL;
		if (outcome == BUG)
		{
			report_bug(round, client, key);
			return;
		}
		old_backend = outcome == LOST ? backend : 0;
		atomic_fetch_add(outcome == LOST ? &counts->lost : &counts->again, 1);
		if (random_below(&client->random, 4))	/* one repetition in four comes at once */
			sleep_seconds(MAX_BACKOFF * random_fraction(&client->random));
	}
}

/* The life of a client process: takes the next task until there is none. */
static void
client_run(int number, void *arg)
{
	const Round *round = arg;
	Shared	   *shared = round->shared;
	Client		client = {.number = number, .random = seed * 1000 + (uint64_t) number};
	PGconn	   *observer = NULL;
	char		port[16];
	int			taken;

	snprintf(port, sizeof(port), "%d", number % (nsockets > 0 ? nsockets : 1) + 1);
	while ((taken = atomic_fetch_add(&shared->next, 1)) < atomic_load(&shared->limit))
	{
		shared->tasks[taken].taken = true;
		pursue_task(round, &client, &shared->tasks[taken], round->host, round->host ? port : NULL, &observer);
	}
	PQfinish(client.conn);
	PQfinish(observer);
}

/*
 * The parent: starts the others, shows progress, keeps the account.
 */

static void
remove_sockets(void)
{
	char		path[PATH_MAX + 32];

	for (int i = 1; i <= nsockets; i++)
	{
		snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", socket_dir, i);
		unlink(path);
	}
	nsockets = 0;
}

/* At exit of the parent, whatever the reason. */
static void
remove_directory(void)
{
	remove_sockets();
	if (socket_dir[0] != '\0')
		rmdir(socket_dir);
}

/* Starts the proxies of a mode. */
static void
start_proxies(const Round *round)
{
	const Options *options = round->options;
	int			listeners[MAX_PROXIES];
	char		path[PATH_MAX + 32];

	for (nsockets = 0; nsockets < options->proxies; nsockets++)
	{
		snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", socket_dir, nsockets + 1);
		listeners[nsockets] = proxy_listen(path);
		if (fork_child() == 0)
			proxy_run(listeners[nsockets], server_socket, options->fault_rate,
					  seed * 7919 + (uint64_t) nsockets, &round->shared->cuts);
	}
	for (int i = 0; i < nsockets; i++)
		close(listeners[i]);
}

static void
tell_progress(const Round *round, bool done)
{
	Counts	   *counts = &round->shared->counts;
	long		cuts = 0;

	for (int i = 0; i < CUT_POINTS; i++)
		cuts += atomic_load(&round->shared->cuts.at_commit[i]) + atomic_load(&round->shared->cuts.earlier[i]);
	show_progress(done, "%-6s %-10s %5.1f s: %6ld requests, %5ld connections cut, %5ld answers lost, %6ld answers got",
				  round->mode->way.name, round->doing, now_seconds() - round->since, atomic_load(&counts->sent), cuts,
				  atomic_load(&counts->lost), atomic_load(&counts->answered));
}

/* While the clients run: ends their work when the time is up. */
static void
watch(void *arg)
{
	const Round *round = arg;

	if (round->seconds > 0 && now_seconds() > round->since + round->seconds)
		atomic_store(&round->shared->limit, 0);
	tell_progress(round, false);
}

/* Runs the clients until the tasks from next to limit are done; after so many seconds no more of them are taken. */
static void
run_clients(Round *round, const char *host, const char *doing, double seconds)
{
	Crew		crew = {.workers = round->options->clients, .work = client_run, .watch = watch, .arg = round};

	round->host = host;
	round->doing = doing;
	round->since = now_seconds();
	round->seconds = seconds;
	run_crew(&crew);
	atomic_fetch_add(&round->shared->counts.bugs, crew.killed);
	tell_progress(round, true);
}

/* Waits until the backends of all connections that were cut have ended, so that nothing is done after the account. */
static void
await_backends(PGconn *conn, const Round *round)
{
	double		give_up = now_seconds() + SETTLE_SECONDS;
	long		left;

	while ((left = query_long(conn, "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity"
							  " WHERE application_name = $1", round->application, NULL)) > 0)
	{
		stop_if_interrupted();
		if (now_seconds() > give_up)
			fail("%ld server processes of connections that were cut do not end", left);
		sleep_seconds(0.02);
	}
}

typedef struct Arrival
{
	double		at;
	int			key;
} Arrival;

static int
compare_arrivals(const void *a, const void *b)
{
	const Arrival *x = a;
	const Arrival *y = b;

	return x->at < y->at ? -1 : x->at > y->at ? 1 : x->key - y->key;
}

/*
 * Lays out the requests of a mode, the same for every mode: each order once, and some of them twice, half of these
 * right behind each other, so that two clients take them together, the other half when the first was answered long ago.
 */
static int
plan_tasks(const Options *options, Task *tasks)
{
	uint64_t	random = seed;
	Arrival    *arrivals = calloc((size_t) options->orders * 2, sizeof(Arrival));
	int			n = 0;

	if (arrivals == NULL)
		fail("out of memory");
	for (int key = 0; key < options->orders; key++)
	{
		arrivals[n++] = (Arrival) {key, key};
		if (random_fraction(&random) < options->twice_rate)
		{
			double		later = random_below(&random, 2) ? 0.5 : 20 + 200 * random_fraction(&random);

			arrivals[n++] = (Arrival) {key + later, key};
		}
	}
	qsort(arrivals, (size_t) n, sizeof(Arrival), compare_arrivals);
	for (int i = 0; i < n; i++)
		tasks[i].key = arrivals[i].key;
	free(arrivals);
	return n;
}

/* Adds a task for each order that was asked for, to send it once more; returns how many. */
static int
plan_sweep(const Options *options, Task *tasks, int ntasks)
{
	bool	   *seen = calloc((size_t) options->orders, sizeof(bool));
	int			n = 0;

	if (seen == NULL)
		fail("out of memory");
	for (int i = 0; i < ntasks; i++)
	{
		if (!tasks[i].taken || seen[tasks[i].key])
			continue;
		seen[tasks[i].key] = true;
		tasks[ntasks + n++].key = tasks[i].key;
	}
	free(seen);
	return n;
}

/* Takes the totals out of the shared memory. */
static void
collect(const Shared *shared, Run *run)
{
	run->sent = atomic_load(&shared->counts.sent);
	run->lost = atomic_load(&shared->counts.lost);
	run->again = atomic_load(&shared->counts.again);
	run->met_active = atomic_load(&shared->counts.met_active);
	run->met_open = atomic_load(&shared->counts.met_open);
	run->met_idle = atomic_load(&shared->counts.met_idle);
	run->silent = atomic_load(&shared->cuts.silent);
	for (int i = 0; i < CUT_POINTS; i++)
	{
		run->at_commit[i] = atomic_load(&shared->cuts.at_commit[i]);
		run->earlier[i] = atomic_load(&shared->cuts.earlier[i]);
	}
}

/* One mode from start to account. At most so many tasks (0: all) are taken, for at most so many seconds (0: any). */
static void
run_mode(PGconn *conn, const Options *options, const Mode *mode, int max_tasks, double seconds, Run *run)
{
	size_t		size = sizeof(Shared) + 3 * (size_t) options->orders * sizeof(Task);
	Round		round = {.options = options, .mode = mode};
	double		started = now_seconds();
	static int	rounds;
	long	   *stock;
	int			ntasks;

	round.shared = shared_memory(size);
	snprintf(round.name, sizeof(round.name), "%08x.%d-%s",
			 (unsigned) time(NULL) ^ (unsigned) getpid() << 20, ++rounds, mode->way.name);
	snprintf(round.application, sizeof(round.application), "traffic %s", round.name);
	round.nproducts = order_products(conn);
	stock = order_stock(conn, round.nproducts);

	ntasks = plan_tasks(options, round.shared->tasks);
	if (max_tasks > 0 && max_tasks < ntasks)
		ntasks = max_tasks;
	atomic_store(&round.shared->limit, ntasks);
	if (options->proxies > 0)
		start_proxies(&round);
	run_clients(&round, options->proxies > 0 ? socket_dir : NULL, "traffic", seconds);
	if (atomic_load(&round.shared->limit) == 0)
	{
		/* the time was up; a client may have stopped just short of the last task that was taken */
		while (ntasks > 0 && !round.shared->tasks[ntasks - 1].taken)
			ntasks--;
	}
	run->mode = mode;
	run->tasks = ntasks;
	collect(round.shared, run);
	await_backends(conn, &round);
	end_children();				/* the proxies */
	remove_sockets();

	if (mode->way.with_idem)
	{
		run->swept = plan_sweep(options, round.shared->tasks, ntasks);
		atomic_store(&round.shared->next, ntasks);
		atomic_store(&round.shared->limit, ntasks + (int) run->swept);
		run_clients(&round, NULL, "once more", 0);
		await_backends(conn, &round);
	}
	order_account(conn, round.name, round.shared, ntasks, options->orders, stock, round.nproducts, run);
	run->bugs = atomic_load(&round.shared->counts.bugs);
	run->seconds = now_seconds() - started;
	free(stock);
	munmap(round.shared, size);
}

static void
add_modes(Options *options, char *list)
{
	for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ","))
	{
		const Mode *mode = NULL;

		for (int i = 0; i < order_nmodes; i++)
		{
			if (strcmp(order_modes[i].way.name, name) == 0)
				mode = &order_modes[i];
		}
		if (mode == NULL || options->nmodes == MAX_MODES)
			fail("--mode takes call, claim, plain, check, not \"%s\"", name);
		options->modes[options->nmodes++] = mode;
	}
}

/* What the command line asks for. */
static void
set_options(int argc, char **argv, Options *options)
{
	static char all[] = "call,claim,plain,check";
	const char *modes = NULL;
	double		deadline = 150;
	const Option known[] = {
		{"mode", "list of call, claim (with idem), plain, check (without), in this order (default: all)", .text = &modes},
		{"clients", "client processes", .whole = &options->clients, .least = 1, .most = MAX_WORKERS},
		{"orders", "orders wanted, in each mode (1000; with --seconds, as many as fit)",
		.whole = &options->orders, .least = 1, .most = MAX_ORDERS},
		{"keys", "the same", .whole = &options->orders, .least = 1, .most = MAX_ORDERS},
		{"seconds", "time for all modes together, more or less; the first one sets the load",
		.real = &options->seconds, .least = 1, .most = 86400},
		{"proxy", "processes that cut connections; 0: no proxy, no faults",
		.whole = &options->proxies, .least = 0, .most = MAX_PROXIES},
		{"fault-rate", "share of transactions that are cut", .real = &options->fault_rate, .least = 0, .most = 0.9},
		{"twice-rate", "share of orders that are asked for twice", .real = &options->twice_rate, .least = 0, .most = 1},
		{"deadline", "patience of the first try of each request, ms", .real = &deadline,
		.least = 1, .most = 1000 * MAX_DEADLINE},
		{"json", "write the totals to this file, too", .text = &options->json},
	};

	*options = (Options) {.clients = 16, .proxies = 2, .fault_rate = 0.25, .twice_rate = 0.15};
	read_options(argc, argv,
				 "Makes orders in a database with demo/orders.sql and the extension idem, over connections that break.\n"
				 "The database must be reached by a unix-domain socket.", known, lengthof(known));
	options->deadline = deadline / 1000;
	add_modes(options, modes ? strdup(modes) : all);
	if (options->orders == 0)
		options->orders = options->seconds > 0 ? MAX_ORDERS / 10 : 1000;
}

/* Finds the server's socket for the proxies, and sees that the server has room for all of us. */
static void
look_at_server(PGconn *conn, const Options *options)
{
	int			room = (int) query_long(conn, "SHOW max_connections", NULL) - 8;

	/* a client's connection, the backend of the one before, and the observer's */
	if (3 * options->clients > room)
		fail("%d clients need max_connections = %d", options->clients, 3 * options->clients + 8);
	if (PQhost(conn)[0] != '/')
		fail("the server must be reached by a unix-domain socket, not by \"%s\"", PQhost(conn));
	snprintf(server_socket, sizeof(server_socket), "%s/.s.PGSQL.%s", PQhost(conn), PQport(conn));
}

int
main(int argc, char **argv)
{
	static Run	runs[MAX_MODES];
	Options		options;
	PGconn	   *conn;
	const char *tmp = getenv("TMPDIR");

	begin_program("traffic");
	atexit(remove_directory);
	set_options(argc, argv, &options);

	conn = connect_or_fail("traffic account");
	look_at_server(conn, &options);
	snprintf(socket_dir, sizeof(socket_dir), "%s/traffic.XXXXXX", tmp ? tmp : "/tmp");
	if (mkdtemp(socket_dir) == NULL)
	{
		socket_dir[0] = '\0';
		fail("could not make a directory for sockets: %s", strerror(errno));
	}

	for (int i = 0; i < options.nmodes; i++)
		run_mode(conn, &options, options.modes[i], i > 0 ? runs[0].tasks : 0,
				 i == 0 ? options.seconds / options.nmodes : 0, &runs[i]);

	printf("\n%d clients, %ld orders in each mode, %.0f %% of the transactions cut, "
		   "%.0f %% of the orders asked for twice, seed %llu\n\n",
		   options.clients, runs[0].wanted, 100 * options.fault_rate, 100 * options.twice_rate,
		   (unsigned long long) seed);
	report_table(runs, options.nmodes);
	if (options.json != NULL)
		report_json(options.json, &options, runs, options.nmodes);
	PQfinish(conn);
	return report_verdict(&options, runs, options.nmodes) ? 0 : 1;
}
