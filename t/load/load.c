/*
 * load.c
 *		The load of the fault tests: many clients make requests of all kinds and pursue each until it is answered.
 *
 *		load --dir DIR [--again | --seconds S | --tickets N] …
 *
 * The parent forks the clients, and proxies if asked for, and ends them in good order at SIGTERM: whatever was begun is
 * pursued to its answer. Each client draws a ticket, or takes one that another client has just drawn, and sends the
 * request, again and again under the same key, over whatever happens to the server. What it was told it writes to its
 * journal, DIR/journal.N, a line at a time as COPY reads it. DIR/state holds the counter of tickets, so that a load that
 * is started again goes on where the last one ended, and --again sends everything once more.
 *
 * Lost connections and the errors that say "try again" are part of the load; any other error is a bug, is printed and
 * makes the status 1.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS		512
#define MAX_PROXIES		16
#define MAX_DATABASES	8
#define MAX_BACKOFF		0.020	/* seconds between two tries, at most */

/* what outlives the program, and is shared by its processes */
typedef struct State
{
	atomic_long next;			/* the next ticket */
	atomic_long acknowledged;
	atomic_long lost;			/* tries that ended without a word */
	atomic_long refused;		/* tries that ended with: try again */
	atomic_int	bugs;
	Cuts		cuts;
	char		tokens[MAX_TOKENS][TOKEN_SIZE];
} State;

static const char *databases[MAX_DATABASES] = {""};
static int	ndatabases;
static const char *dir;
static const char *tolerated = "";
static const Kind *kinds[MAX_KINDS];
static int	nkinds;
static int	nclients = 16;
static int	nproxies;
static double fault_rate = 0.1;
static double twice_rate = 0.25;
static double patience = 10;
static double give_up = 900;
static double seconds;
static long from;
static long limit = LONG_MAX;
static bool again;
static bool use_prepared;
bool		two_phase;

static State *state;
static atomic_long *drawn_again;	/* the next ticket of --again */
static atomic_bool *stopping;
static pid_t starter;			/* the test that has started us */
static pid_t parent;
static pid_t children[MAX_CLIENTS + MAX_PROXIES];
static int	nchildren;
static char socket_dir[PATH_MAX];
static char server_socket[PATH_MAX];
static int	journal_file = -1;
static volatile sig_atomic_t interrupted;

void
fail(const char *format,...)
{
	va_list		args;

	fprintf(stderr, "load: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (getpid() != parent)
		_exit(2);
	exit(2);
}

/*
 * The journal
 */

/* Copies text as COPY wants it; answers the end. */
static char *
escape(char *to, const char *text)
{
	for (; *text; text++)
	{
		if (*text == '\\' || *text == '\t' || *text == '\n')
			*to++ = '\\';
		*to++ = *text;
	}
	*to = '\0';
	return to;
}

/* One line, in one write: it is there whatever happens next. */
void
journal(const char *event, const Job *job, const char *name, long fence, double asked, const char *text)
{
	char		line[2048];
	char	   *end = line;

	end += sprintf(end, "%s\t%ld\t%s\t%ld\t%s\t%s\t", job->client, job->ticket, job->kind->name, job->number, job->key, event);
	end = escape(end, name);
	end += sprintf(end, "\t%ld\t%.6f\t%.6f\t", fence, asked, now_seconds());
	end = escape(end, text);
	*end++ = '\n';
	if (write(journal_file, line, (size_t) (end - line)) != end - line)
		fail("could not write the journal: %s", strerror(errno));
}

/*
 * Talking to the server
 */

/* The log has them. */
static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

/* NULL if there is no connection to be had. Every other client sends all through SQL; databases are taken in turn. */
static PGconn *
connect_client(int number)
{
	char		port[16];
	const char *keywords[] = {"dbname", "application_name", "connect_timeout", "options",
		nproxies > 0 ? "host" : NULL, "port", NULL};
	const char *database = databases[ndatabases > 0 ? number % ndatabases : 0];
	const char *values[] = {database, "load", "10", number % 2 ? "-c idem.force_sql=on" : "", socket_dir, port, NULL};
	PGconn	   *conn;

	snprintf(port, sizeof(port), "%d", nproxies > 0 ? number % nproxies + 1 : 0);
	conn = PQconnectdbParams(keywords, values, 1);
	PQsetNoticeProcessor(conn, ignore_notice, NULL);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	PQfinish(conn);
	return NULL;
}

/* What an error means for the try. */
Outcome
judge_error(Client *client, const PGresult *result, const char *sql)
{
	static const char *const lost[] = {"08", "57P", NULL};
	static const char *const again_later[] = {"40001", "40P01", "55P03", "57014", "53", "25006", "ID409", "ID412", NULL};
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (sqlstate == NULL && PQstatus(client->conn) == CONNECTION_BAD)
		return LOST;
	for (int i = 0; sqlstate && lost[i]; i++)
	{
		if (strncmp(sqlstate, lost[i], strlen(lost[i])) == 0)
			return LOST;
	}
	for (int i = 0; sqlstate && again_later[i]; i++)
	{
		if (strncmp(sqlstate, again_later[i], strlen(again_later[i])) == 0)
			return AGAIN;
	}
	if (sqlstate && strstr(tolerated, sqlstate))
		return AGAIN;
	snprintf(client->error, sizeof(client->error), "%s: %sin: %s", sqlstate ? sqlstate : "no SQLSTATE",
			 PQresultErrorMessage(result), sql);
	return BUG;
}

/* Sends a statement whose rows are of no interest. */
Outcome
run(Client *client, const char *sql, int nparams, const char *const *params)
{
	PGresult   *result;
	Outcome		outcome = ask(client, sql, nparams, params, &result);

	if (outcome != ANSWERED)
		return outcome;
	/* COMMIT of a transaction that has failed says ROLLBACK, and is no error */
	if (strcmp(sql, "COMMIT") == 0 && strcmp(PQcmdStatus(result), "COMMIT") != 0)
	{
		snprintf(client->error, sizeof(client->error), "COMMIT said %s", PQcmdStatus(result));
		outcome = BUG;
	}
	PQclear(result);
	return outcome;
}

/* Sends a statement that answers with one value. */
Outcome
ask_value(Client *client, const char *sql, int nparams, const char *const *params, char *value, size_t size)
{
	PGresult   *result;
	Outcome		outcome = ask(client, sql, nparams, params, &result);

	if (outcome != ANSWERED)
		return outcome;
	if (PQntuples(result) != 1 || PQgetisnull(result, 0, 0))
	{
		snprintf(client->error, sizeof(client->error), "no value of: %s", sql);
		outcome = BUG;
	}
	else
		snprintf(value, size, "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	return outcome;
}

/* The token of the request: issued once, by whoever comes first; who comes second may have to come again. */
Outcome
take_token(Client *client, Job *job)
{
	const char *params[] = {job->key};
	char	   *kept = state->tokens[job->number % MAX_TOKENS];
	Outcome		outcome = ANSWERED;

	if (kept[0] == '\0')
	{
		outcome = ask_value(client, "SELECT idem_token_issue('form', $1, '1 day')", 1, params, job->token, sizeof(job->token));
		/* the last byte is the lock of the slot */
		if (outcome == ANSWERED && !__sync_lock_test_and_set(&kept[TOKEN_SIZE - 1], 1))
		{
			memcpy(kept + 1, job->token + 1, strlen(job->token));
			__sync_synchronize();
			kept[0] = job->token[0];
		}
	}
	if (outcome == ANSWERED && kept[0] == '\0')
		return AGAIN;
	__sync_synchronize();
	snprintf(job->token, sizeof(job->token), "%s", kept);
	return outcome;
}

/*
 * Clients
 */

static bool
parent_has_gone(void)
{
	return getppid() != parent;
}

/* All about a request but the client follows from its ticket. */
static void
describe(Job *job, long ticket, int client)
{
	memset(job, 0, sizeof(*job));
	job->kind = kinds[ticket % nkinds];
	job->ticket = ticket;
	job->number = ticket / nkinds;
	snprintf(job->number_text, sizeof(job->number_text), "%ld", job->number);
	snprintf(job->key, sizeof(job->key), "%ld", job->number);
	snprintf(job->client, sizeof(job->client), "%d", client);
}

/* One try on a connection of ours. */
static Outcome
try_once(Client *client, Job *job, int number, int tries)
{
	Outcome		outcome = ANSWERED;

	if (client->conn == NULL)
		client->conn = connect_client(number);
	if (client->conn == NULL)
		return LOST;
	client->deadline = now_seconds() + patience;
	job->first = false;
	job->answer[0] = '\0';
	if (two_phase && tries > 0)
		outcome = finish_prepared(client, job);
	if (outcome == ANSWERED)
		outcome = job->kind->attempt(client, job);
	if (outcome != LOST && outcome != ANSWERED && PQtransactionStatus(client->conn) != PQTRANS_IDLE &&
		run(client, "ROLLBACK", 0, NULL) != ANSWERED)
		outcome = outcome == BUG ? BUG : LOST;
	if (outcome == LOST)
	{
		PQfinish(client->conn);
		client->conn = NULL;
		forget_prepared(client);
	}
	return outcome;
}

/* Sends a request until it is answered. */
static void
pursue(Client *client, Job *job, int number)
{
	double		started = now_seconds();

	for (int tries = 0; !parent_has_gone(); tries++)
	{
		Outcome		outcome = try_once(client, job, number, tries);

		if (outcome == ANSWERED)
		{
			journal(again ? "again" : "done", job, job->first ? "first" : "", NO_FENCE, started, job->answer);
			atomic_fetch_add(&state->acknowledged, 1);
			return;
		}
		if (outcome != BUG && now_seconds() > started + give_up)
		{
			snprintf(client->error, sizeof(client->error), "no answer after %d tries", tries + 1);
			outcome = BUG;
		}
		if (outcome == BUG)
		{
			journal("bug", job, "", NO_FENCE, started, client->error);
			if (atomic_fetch_add(&state->bugs, 1) < 10)
				fprintf(stderr, "load: client %s, %s %s: %s\n", job->client, job->kind->name, job->key, client->error);
			return;
		}
		atomic_fetch_add(outcome == LOST ? &state->lost : &state->refused, 1);
		if (random_below(&client->random, 4))	/* one repetition in four comes at once */
			sleep_seconds(MAX_BACKOFF * random_fraction(&client->random));
	}
}

/* The next ticket, or one that another client has just drawn; -1: no more. */
static long
draw(Client *client)
{
	long		ticket;

	if (atomic_load(stopping))
		return -1;
	if (again)
	{
		ticket = atomic_fetch_add(drawn_again, 1);
		return ticket < limit && ticket < atomic_load(&state->next) ? ticket : -1;
	}
	if (random_fraction(&client->random) < twice_rate)
	{
		ticket = atomic_load(&state->next) - 1 - random_below(&client->random, 8);
		if (ticket >= 0)
			return ticket;
	}
	if (atomic_load(&state->next) >= limit)
		return -1;
	return atomic_fetch_add(&state->next, 1);
}

static _Noreturn void
client_run(int number)
{
	Prepared	prepared = {0};
	Client		client = {.number = number, .prepared = use_prepared ? &prepared : NULL};
	char		path[PATH_MAX];
	long		ticket;
	Job			job;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);	/* the parent says when to stop */
	signal(SIGTERM, SIG_IGN);
	client.random = (uint64_t) time(NULL) * 1000003 + (uint64_t) getpid();
	snprintf(path, sizeof(path), "%s/journal.%d", dir, number);
	journal_file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (journal_file < 0)
		fail("could not open \"%s\": %s", path, strerror(errno));
	while (!parent_has_gone() && (ticket = draw(&client)) >= 0)
	{
		describe(&job, ticket, number);
		pursue(&client, &job, number);
	}
	PQfinish(client.conn);
	_exit(0);
}

/*
 * The parent
 */

static void
on_signal(int signo)
{
	interrupted = signo;
}

static void *
map_memory(size_t size, int fd)
{
	void	   *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	if (memory == MAP_FAILED)
		fail("could not map memory: %s", strerror(errno));
	return memory;
}

static void
open_state(void)
{
	char		path[PATH_MAX];
	int			fd;

	snprintf(path, sizeof(path), "%s/state", dir);
	fd = open(path, O_RDWR | O_CREAT, 0644);
	if (fd < 0 || ftruncate(fd, sizeof(State)) < 0)
		fail("could not open \"%s\": %s", path, strerror(errno));
	state = map_memory(sizeof(State), fd);
	close(fd);
	drawn_again = map_memory(sizeof(*drawn_again), -1);
	stopping = map_memory(sizeof(*stopping), -1);
	atomic_store(drawn_again, from);
}

/* At exit of the parent: nothing of ours stays. */
static void
clean_up(void)
{
	char		path[PATH_MAX + 32];

	if (getpid() != parent)
		return;
	for (int i = 0; i < nchildren; i++)
		kill(children[i], SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (socket_dir[0] == '\0')
		return;
	for (int i = 1; i <= nproxies; i++)
	{
		snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", socket_dir, i);
		unlink(path);
	}
	rmdir(socket_dir);
}

static pid_t
start_child(void)
{
	pid_t		child = fork();

	if (child < 0)
		fail("could not fork: %s", strerror(errno));
	if (child > 0)
		children[nchildren++] = child;
	return child;
}

static void
start_proxies(void)
{
	const char *tmp = getenv("TMPDIR");
	PGconn	   *conn = PQconnectdb(databases[0]);
	char		path[PATH_MAX + 32];
	int			listeners[MAX_PROXIES];

	if (PQstatus(conn) != CONNECTION_OK)
		fail("%s", PQerrorMessage(conn));
	snprintf(server_socket, sizeof(server_socket), "%s/.s.PGSQL.%s", PQhost(conn), PQport(conn));
	PQfinish(conn);
	snprintf(socket_dir, sizeof(socket_dir), "%s/load.XXXXXX", tmp ? tmp : "/tmp");
	if (mkdtemp(socket_dir) == NULL)
	{
		socket_dir[0] = '\0';
		fail("could not make a directory for sockets: %s", strerror(errno));
	}
	for (int i = 0; i < nproxies; i++)
	{
		snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", socket_dir, i + 1);
		listeners[i] = proxy_listen(path);
		if (start_child() == 0)
		{
			signal(SIGINT, SIG_IGN);
			signal(SIGTERM, SIG_IGN);
			proxy_run(listeners[i], server_socket, fault_rate, (uint64_t) time(NULL) * 7919 + (uint64_t) i, &state->cuts);
		}
		close(listeners[i]);
	}
}

/* Waits for the clients; true if all ended well. */
static bool
await_clients(int first)
{
	double		end = seconds > 0 ? now_seconds() + seconds : 1e300;
	int			running = nchildren - first;
	bool		well = true;

	while (running > 0)
	{
		int			status;
		pid_t		pid;

		/* the clients go with us, in the middle of what they do */
		if (interrupted == SIGHUP || getppid() != starter)
			exit(3);
		if (interrupted || now_seconds() > end)
			atomic_store(stopping, true);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		{
			for (int i = 0; i < nchildren; i++)
			{
				if (children[i] != pid)
					continue;
				if (i < first)
					fail("a proxy has died");
				children[i] = children[--nchildren];
				running--;
				well = well && status == 0;
			}
		}
		sleep_seconds(0.005);
	}
	return well;
}

static double
number_option(const char *name, const char *text, double least, double most)
{
	char	   *end;
	double		number = strtod(text, &end);

	if (end == text || *end != '\0' || !(number >= least && number <= most))
		fail("--%s must be a number from %g to %g, not \"%s\"", name, least, most, text);
	return number;
}

/* The kinds of the list; all right ones if it is NULL. */
static void
choose_kinds(char *list)
{
	for (int i = 0; list == NULL && load_kinds[i].name; i++)
	{
		if (!load_kinds[i].wrong)
			kinds[nkinds++] = &load_kinds[i];
	}
	for (char *name = list ? strtok(list, ",") : NULL; name; name = strtok(NULL, ","))
	{
		const Kind *kind = load_kinds;

		while (kind->name && strcmp(kind->name, name) != 0)
			kind++;
		if (kind->name == NULL || nkinds == MAX_KINDS)
			fail("no kind \"%s\"", name);
		kinds[nkinds++] = kind;
	}
}

static void
read_command_line(int argc, char **argv)
{
	static const struct option known[] = {
		{"conninfo", required_argument, NULL, 'd'},	/* the database; may name several hosts; several: the clients' in turn */
		{"dir", required_argument, NULL, 'D'},	/* of state and journals */
		{"kinds", required_argument, NULL, 'k'},	/* list; the same whenever DIR is used again */
		{"clients", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},	/* end after so long, or at SIGTERM */
		{"tickets", required_argument, NULL, 'n'},	/* no ticket beyond this one */
		{"again", no_argument, NULL, 'a'},	/* everything once more, */
		{"from", required_argument, NULL, 'f'}, /* from this ticket on */
		{"twice", required_argument, NULL, 't'},	/* share of requests that another client sends, too */
		{"two-phase", no_argument, NULL, '2'},	/* commit by PREPARE and COMMIT PREPARED */
		{"prepared", no_argument, NULL, 'P'},	/* by statements with a name */
		{"proxy", required_argument, NULL, 'p'},	/* so many processes that cut connections, */
		{"fault-rate", required_argument, NULL, 'r'},	/* in this share of the transactions */
		{"deadline", required_argument, NULL, 'w'}, /* milliseconds to wait for a try */
		{"give-up", required_argument, NULL, 'g'},	/* seconds to pursue a request */
		{"tolerate", required_argument, NULL, 'e'}, /* list of further SQLSTATEs that mean: try again */
		{NULL, 0, NULL, 0}
	};
	char	   *list = NULL;
	int			option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		switch (option)
		{
			case 'd':
				if (ndatabases == MAX_DATABASES)
					fail("too many --conninfo");
				databases[ndatabases++] = optarg;
				break;
			case 'D':
				dir = optarg;
				break;
			case 'k':
				list = optarg;
				break;
			case 'c':
				nclients = (int) number_option("clients", optarg, 1, MAX_CLIENTS);
				break;
			case 's':
				seconds = number_option("seconds", optarg, 0, 86400);
				break;
			case 'n':
				limit = (long) number_option("tickets", optarg, 0, 1e9);
				break;
			case 'a':
				again = true;
				break;
			case 'f':
				from = (long) number_option("from", optarg, 0, 1e9);
				break;
			case 't':
				twice_rate = number_option("twice", optarg, 0, 1);
				break;
			case '2':
				two_phase = true;
				break;
			case 'P':
				use_prepared = true;
				break;
			case 'p':
				nproxies = (int) number_option("proxy", optarg, 0, MAX_PROXIES);
				break;
			case 'r':
				fault_rate = number_option("fault-rate", optarg, 0, 0.9);
				break;
			case 'w':
				patience = number_option("deadline", optarg, 1, 1e6) / 1000;
				break;
			case 'g':
				give_up = number_option("give-up", optarg, 1, 86400);
				break;
			case 'e':
				tolerated = optarg;
				break;
			default:
				fail("see the options in t/load/load.c");
		}
	}
	if (optind < argc || dir == NULL)
		fail(dir ? "unexpected argument \"%s\"" : "no --dir", argv[optind]);
	choose_kinds(list);
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	int			first;
	bool		well;

	starter = getppid();
	parent = getpid();
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	read_command_line(argc, argv);
	open_state();
	atexit(clean_up);
	if (nproxies > 0)
		start_proxies();
	first = nchildren;
	for (int i = 0; i < nclients; i++)
	{
		if (start_child() == 0)
			client_run(i);
	}
	well = await_clients(first);
	printf("tickets %ld acknowledged %ld lost %ld refused %ld bugs %d\n", atomic_load(&state->next),
		   atomic_load(&state->acknowledged), atomic_load(&state->lost), atomic_load(&state->refused),
		   atomic_load(&state->bugs));
	printf("cuts");
	for (int i = 0; i < CUT_POINTS; i++)
		printf(" %ld", atomic_load(&state->cuts.at_commit[i]) + atomic_load(&state->cuts.earlier[i]));
	printf(" commits");
	for (int i = 0; i < CUT_POINTS; i++)
		printf(" %ld", atomic_load(&state->cuts.at_commit[i]));
	printf(" silent %ld\n", atomic_load(&state->cuts.silent));
	return well && atomic_load(&state->bugs) == 0 ? 0 : 1;
}
