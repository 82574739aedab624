/*
 * load.c
 *		The clients of script/bench: many connections, one thread, and the answers checked.
 *
 * It does what it is told on standard input, a command a line, its fields separated by tabs (with \n, \t and \\ for what they
 * cannot hold), and answers each with a line: ok and the results, or error and why; after an error it ends.
 *
 *		sql CONNINFO TEXT					runs SQL to its end; the rows, columns separated by |
 *		start CONNINFO TEXT					begins to run SQL in the background
 *		finish								waits for that; seconds it took
 *		way NAME CONNINFO REDIS ETCD		a way of doing something begins; a Unix socket and a port, for its steps
 *		step WHEN KIND TEXT VALUES EXPECT	… and does this next
 *		run NAME CLIENTS SECONDS			that many clients do it one after the other; how many times (what is under way at the
 *											end counts in part), in how many seconds, the median and 99th percentile of the
 *											seconds that each took, and the processor seconds of the server's processes for
 *											each; 0 seconds: as long as the background runs
 *		drop NAME							closes its connections
 *		fsync FILE TIMES					the median time of writing 8 kB to the file and flushing it, in microseconds
 *
 * WHEN is session (once after connecting) or each. KIND is pg (a prepared statement), begin (the same, with BEGIN in the same
 * message, so in the same round trip), redis (an inline command), or etcd (a path, a space and a JSON body). VALUES names the
 * values of the parameters $1, $2 … in SQL; the others have {NAME} in their text:
 *
 *		key		a key that was never used; the same in all steps of one go
 *		uuid	the same at random, as a UUID
 *		b64key	key in base64
 *		old		one of the OLD_KEYS first keys
 *		last	what the step before answered: the first column, "key" of etcd
 *		session	what the last step of the session answered
 *
 * EXPECT is what that answer has to be, or #N, so many rows affected, or empty. One thread with epoll because the machine
 * should work for the server: a wake-up serves all sockets that are ready, and no lock is between the clients.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define MAX_FIELDS	8
#define MAX_WAYS	8
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
	char		key[VALUE_SIZE];
	char		uuid[VALUE_SIZE];
	char		b64key[VALUE_SIZE];
	char		old[VALUE_SIZE];
	char		last[VALUE_SIZE];
	char		session[VALUE_SIZE];
	char		affected[32];
	bool		answered;		/* the result that counts has been read */
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
	int			n_steps;
	Step		steps[MAX_STEPS];
	int			n_clients;
	Client	   *clients[MAX_CLIENTS];
} Way;

static Way	ways[MAX_WAYS];
static int	n_ways;
static PGconn *background;
static double background_began;
static uint64_t next_key = 1000000000;
static uint64_t random_state;

static void do_sql(const char *conninfo, const char *text);
static void do_start(const char *conninfo, const char *text);
static void do_finish(void);
static bool background_runs(void);
static void do_way(char **fields);
static void do_step(char **fields);
static void do_run(const char *name, int clients, double seconds);
static double processor_seconds(Way *way, int clients);
static void do_drop(const char *name);
static void do_fsync(const char *file, int times);
static Way *find_way(const char *name);
static Client *new_client(Way *way);
static void begin(Client *client);
static void send_step(Client *client);
static bool receive_step(Client *client);
static bool receive_pg(Client *client, const Step *step);
static bool receive_redis(Client *client);
static bool receive_etcd(Client *client);
static bool more_input(Client *client, int fd);
static void check_step(Client *client, const Step *step);
static int	next_step(Client *client, int from, bool session);
static const char *value_of(Client *client, const char *name);
static void fill_in(Client *client, const Step *step, char *out, size_t size);
static void ignore_notice(void *arg, const char *message);
static PGconn *connect_pg(const char *conninfo);
static int	connect_unix(const char *path);
static int	connect_tcp(int port);
static void send_all(int fd, const char *data, size_t len);
static void base64(const char *in, char *out);
static int	compare_doubles(const void *a, const void *b);
static double now(void);
static uint64_t random64(void);
static void ok(const char *format,...) __attribute__((format(printf, 1, 2)));
static void die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
static void print_escaped(const char *text);
static int	split(char *line, char **fields);
static char *copy(const char *text);


int
main(void)
{
	char	   *line = NULL;
	size_t		size = 0;

	if (getrandom(&random_state, sizeof(random_state), 0) != sizeof(random_state))
		die("getrandom: %s", strerror(errno));
	while (getline(&line, &size, stdin) > 0)
	{
		char	   *fields[MAX_FIELDS];
		int			n = split(line, fields);

		if (strcmp(fields[0], "sql") == 0 && n == 3)
			do_sql(fields[1], fields[2]);
		else if (strcmp(fields[0], "start") == 0 && n == 3)
			do_start(fields[1], fields[2]);
		else if (strcmp(fields[0], "finish") == 0)
			do_finish();
		else if (strcmp(fields[0], "way") == 0 && n == 5)
			do_way(fields);
		else if (strcmp(fields[0], "step") == 0 && n == 6)
			do_step(fields);
		else if (strcmp(fields[0], "run") == 0 && n == 4)
			do_run(fields[1], atoi(fields[2]), atof(fields[3]));
		else if (strcmp(fields[0], "drop") == 0 && n == 2)
			do_drop(fields[1]);
		else if (strcmp(fields[0], "fsync") == 0 && n == 3)
			do_fsync(fields[1], atoi(fields[2]));
		else
			die("no such command: %s with %d fields", fields[0], n);
	}
	free(line);
	return 0;
}

/* Connections for SQL are kept, one for each conninfo that was used lately. */
static void
do_sql(const char *conninfo, const char *text)
{
	static struct
	{
		char	   *conninfo;
		PGconn	   *conn;
	}			kept[4];
	static int	next;
	PGconn	   *conn = NULL;
	PGresult   *result;
	ExecStatusType status;

	for (int i = 0; i < 4 && conn == NULL; i++)
		if (kept[i].conninfo != NULL && strcmp(kept[i].conninfo, conninfo) == 0)
			conn = kept[i].conn;
	if (conn == NULL)
	{
		if (kept[next].conn != NULL)
			PQfinish(kept[next].conn);
		free(kept[next].conninfo);
		kept[next].conninfo = copy(conninfo);
		conn = kept[next].conn = connect_pg(conninfo);
		next = (next + 1) % 4;
	}

	result = PQexec(conn, text);
	status = PQresultStatus(result);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		die("%.300s: %s", text, PQerrorMessage(conn));
	printf("ok\t");
	for (int row = 0; row < PQntuples(result); row++)
		for (int column = 0; column < PQnfields(result); column++)
		{
			if (column > 0 || row > 0)
				print_escaped(column > 0 ? "|" : "\n");
			print_escaped(PQgetvalue(result, row, column));
		}
	printf("\n");
	fflush(stdout);
	PQclear(result);
}

static void
do_start(const char *conninfo, const char *text)
{
	background = connect_pg(conninfo);
	background_began = now();
	if (!PQsendQuery(background, text))
		die("%s: %s", text, PQerrorMessage(background));
	ok("%s", "");
}

static void
do_finish(void)
{
	PGresult   *result;

	while ((result = PQgetResult(background)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_FATAL_ERROR)
			die("in the background: %s", PQerrorMessage(background));
		PQclear(result);
	}
	PQfinish(background);
	background = NULL;
	ok("%.6f", now() - background_began);
}

/* Is the statement in the background still running? */
static bool
background_runs(void)
{
	if (!PQconsumeInput(background))
		die("in the background: %s", PQerrorMessage(background));
	while (!PQisBusy(background))
	{
		PGresult   *result = PQgetResult(background);

		if (result == NULL)
			return false;
		if (PQresultStatus(result) == PGRES_FATAL_ERROR)
			die("in the background: %s", PQerrorMessage(background));
		PQclear(result);
	}
	return true;
}

static void
do_way(char **fields)
{
	Way		   *way;

	if (n_ways == MAX_WAYS)
		die("too many ways");
	way = &ways[n_ways++];
	memset(way, 0, sizeof(*way));
	way->name = copy(fields[1]);
	way->conninfo = copy(fields[2]);
	way->redis_path = copy(fields[3]);
	way->etcd_port = atoi(fields[4]);
	way->epoll = epoll_create1(EPOLL_CLOEXEC);
	ok("%s", "");
}

static void
do_step(char **fields)
{
	static const char *const kinds[] = {"pg", "begin", "redis", "etcd"};
	Way		   *way = &ways[n_ways - 1];
	Step	   *step;
	char	   *rest;
	char	   *value;

	if (way->n_steps == MAX_STEPS)
		die("too many steps");
	step = &way->steps[way->n_steps];
	snprintf(step->name, sizeof(step->name), "s%d", way->n_steps++);
	step->session = strcmp(fields[1], "session") == 0;
	for (step->kind = 0; strcmp(kinds[step->kind], fields[2]) != 0;)
		if (++step->kind > KIND_ETCD)
			die("no such kind of step: %s", fields[2]);
	step->text = copy(fields[3]);
	rest = fields[4];
	while ((value = strsep(&rest, " ")) != NULL)
		if (*value != '\0' && step->n_values < MAX_VALUES)
			step->values[step->n_values++] = copy(value);
	step->expect = copy(fields[5]);
	ok("%s", "");
}

static void
do_run(const char *name, int clients, double seconds)
{
	Way		   *way = find_way(name);
	struct epoll_event events[MAX_CLIENTS];
	int			active = clients;
	size_t		done = 0;
	size_t		room = 1024;
	double		share = 0;
	double		processor;
	double	   *took = malloc(room * sizeof(double));
	double		start;
	double		end;

	if (clients > MAX_CLIENTS)
		die("too many clients");
	while (way->n_clients < clients)
		way->clients[way->n_clients++] = new_client(way);

	processor = processor_seconds(way, clients);
	start = now();
	end = seconds > 0 ? start + seconds : start + 600;
	for (int i = 0; i < clients; i++)
		begin(way->clients[i]);
	while (active > 0)
	{
		int			ready = epoll_wait(way->epoll, events, MAX_CLIENTS, 60000);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			die("%s: no answer for a minute", name);
		if (seconds == 0 && now() < end && !background_runs())
			end = now();
		for (int i = 0; i < ready; i++)
		{
			Client	   *client = events[i].data.ptr;
			double		time;

			if (!receive_step(client))
				continue;
			check_step(client, &way->steps[client->step]);
			client->step = next_step(client, client->step + 1, false);
			if (client->step < way->n_steps)
			{
				send_step(client);
				continue;
			}

			/*
			 * What goes on beyond the end counts by the part of its time before
			 * it: not to count it would be a loss the larger, the longer each
			 * one takes.
			 */
			time = now();
			if (done == room)
				took = realloc(took, (room *= 2) * sizeof(double));
			took[done++] = time - client->began;
			if (time <= end)
			{
				share += 1;
				begin(client);
			}
			else
			{
				share += fmax(0, end - client->began) / (time - client->began);
				active--;
			}
		}
	}
	processor = processor_seconds(way, clients) - processor;
	qsort(took, done, sizeof(double), compare_doubles);
	ok("%.3f\t%.6f\t%.9f\t%.9f\t%.9f", share, end - start,
	   took[done / 2], took[(size_t) (0.99 * (done - 1))], processor / done);
	free(took);
}

/* What the backends of the way's clients have used of the processor. */
static double
processor_seconds(Way *way, int clients)
{
	double		sum = 0;

	for (int i = 0; i < clients; i++)
	{
		clockid_t	clock;
		struct timespec time;

		if (way->clients[i]->pg != NULL &&
			clock_getcpuclockid(PQbackendPID(way->clients[i]->pg), &clock) == 0 &&
			clock_gettime(clock, &time) == 0)
			sum += time.tv_sec + time.tv_nsec / 1e9;
	}
	return sum;
}

static void
do_drop(const char *name)
{
	Way		   *way = find_way(name);

	for (int i = 0; i < way->n_clients; i++)
	{
		Client	   *client = way->clients[i];

		if (client->pg != NULL)
			PQfinish(client->pg);
		if (client->redis >= 0)
			close(client->redis);
		if (client->etcd >= 0)
			close(client->etcd);
		free(client);
	}
	for (int i = 0; i < way->n_steps; i++)
	{
		free(way->steps[i].text);
		free(way->steps[i].expect);
		for (int j = 0; j < way->steps[i].n_values; j++)
			free(way->steps[i].values[j]);
	}
	close(way->epoll);
	free(way->name);
	free(way->conninfo);
	free(way->redis_path);
	memmove(way, way + 1, (ways + n_ways - way - 1) * sizeof(Way));
	n_ways--;
	/* clients point to their way */
	for (int w = 0; w < n_ways; w++)
		for (int i = 0; i < ways[w].n_clients; i++)
			ways[w].clients[i]->way = &ways[w];
	ok("%s", "");
}

static void
do_fsync(const char *file, int times)
{
	char		page[8192] = {1};
	double	   *took = calloc(times, sizeof(double));
	int			fd = open(file, O_RDWR | O_CREAT, 0600);

	/* as the WAL is written: into a file that has its size */
	for (int i = 0; i < 16; i++)
		if (fd < 0 || pwrite(fd, page, sizeof(page), i * sizeof(page)) != sizeof(page))
			die("%s: %s", file, strerror(errno));
	fsync(fd);
	for (int i = 0; i < times; i++)
	{
		double		start = now();

		if (pwrite(fd, page, sizeof(page), i % 16 * sizeof(page)) != sizeof(page) || fdatasync(fd) != 0)
			die("%s: %s", file, strerror(errno));
		took[i] = now() - start;
	}
	close(fd);
	unlink(file);
	qsort(took, times, sizeof(double), compare_doubles);
	ok("%.1f", took[times / 2] * 1e6);
	free(took);
}

static Way *
find_way(const char *name)
{
	for (int i = 0; i < n_ways; i++)
		if (strcmp(ways[i].name, name) == 0)
			return &ways[i];
	die("no such way: %s", name);
}

/* A client that is connected, has its statements prepared and its session's steps done. */
static Client *
new_client(Way *way)
{
	Client	   *client = calloc(1, sizeof(Client));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};

	client->way = way;
	client->redis = client->etcd = -1;
	for (int i = 0; i < way->n_steps; i++)
	{
		const Step *step = &way->steps[i];
		int			fd;

		if (step->kind == KIND_REDIS && client->redis < 0)
			fd = client->redis = connect_unix(way->redis_path);
		else if (step->kind == KIND_ETCD && client->etcd < 0)
			fd = client->etcd = connect_tcp(way->etcd_port);
		else if (step->kind <= KIND_BEGIN && client->pg == NULL)
		{
			client->pg = connect_pg(way->conninfo);
			PQclear(PQprepare(client->pg, "begin", "BEGIN", 0, NULL));
			fd = PQsocket(client->pg);
		}
		else
			fd = -1;
		if (fd >= 0 && epoll_ctl(way->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
			die("epoll_ctl: %s", strerror(errno));
		if (step->kind <= KIND_BEGIN)
		{
			PGresult   *result = PQprepare(client->pg, step->name, step->text, 0, NULL);

			if (PQresultStatus(result) != PGRES_COMMAND_OK)
				die("%s: %s", step->text, PQerrorMessage(client->pg));
			PQclear(result);
		}
	}

	for (client->step = next_step(client, 0, true); client->step < way->n_steps;
		 client->step = next_step(client, client->step + 1, true))
	{
		send_step(client);
		while (!receive_step(client))
			usleep(100);
		check_step(client, &way->steps[client->step]);
		memcpy(client->session, client->last, VALUE_SIZE);
	}
	return client;
}

/* Begins to do it once more, with a key that was never used. */
static void
begin(Client *client)
{
	uint64_t	high = random64();
	uint64_t	low = random64();

	snprintf(client->key, VALUE_SIZE, "%012ju", (uintmax_t) next_key++);
	snprintf(client->old, VALUE_SIZE, "%012ju", (uintmax_t) (low % OLD_KEYS + 1));
	snprintf(client->uuid, VALUE_SIZE, "%08x-%04x-4%03x-a%03x-%012jx", (unsigned) (high >> 32),
			 (unsigned) (high >> 16) & 0xffff, (unsigned) high & 0xfff, (unsigned) (low >> 52),
			 (uintmax_t) (low & 0xffffffffffff));
	client->began = now();
	client->step = next_step(client, 0, false);
	send_step(client);
}

static void
send_step(Client *client)
{
	const Step *step = &client->way->steps[client->step];

	client->answered = false;
	client->in_len = 0;
	if (step->kind == KIND_PG || step->kind == KIND_BEGIN)
	{
		const char *values[MAX_VALUES];
		bool		sent;

		for (int i = 0; i < step->n_values; i++)
			values[i] = value_of(client, step->values[i]);
		if (step->kind == KIND_BEGIN)
			sent = PQenterPipelineMode(client->pg) &&
				PQsendQueryPrepared(client->pg, "begin", 0, NULL, NULL, NULL, 0) &&
				PQsendQueryPrepared(client->pg, step->name, step->n_values, values, NULL, NULL, 0) &&
				PQpipelineSync(client->pg);
		else
			sent = PQsendQueryPrepared(client->pg, step->name, step->n_values, values, NULL, NULL, 0);
		if (!sent)
			die("%s: %s", step->text, PQerrorMessage(client->pg));
	}
	else
	{
		char		text[MESSAGE_SIZE];
		char		message[2 * MESSAGE_SIZE + 256];

		fill_in(client, step, text, sizeof(text));
		if (step->kind == KIND_REDIS)
		{
			snprintf(message, sizeof(message), "%s\r\n", text);
			send_all(client->redis, message, strlen(message));
		}
		else
		{
			char	   *body = strchr(text, ' ');

			*body++ = '\0';
			snprintf(message, sizeof(message), "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
					 "Content-Length: %zu\r\n\r\n%s", text, strlen(body), body);
			send_all(client->etcd, message, strlen(message));
		}
	}
}

/* Takes what has arrived; is the answer complete? */
static bool
receive_step(Client *client)
{
	const Step *step = &client->way->steps[client->step];

	switch (step->kind)
	{
		case KIND_REDIS:
			return receive_redis(client);
		case KIND_ETCD:
			return receive_etcd(client);
		default:
			return receive_pg(client, step);
	}
}

static bool
receive_pg(Client *client, const Step *step)
{
	if (!PQconsumeInput(client->pg))
		die("%s: %s", step->text, PQerrorMessage(client->pg));
	while (!PQisBusy(client->pg))
	{
		PGresult   *result = PQgetResult(client->pg);
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL)
		{
			/* in a pipeline only the end of one statement */
			if (step->kind == KIND_PG)
				return true;
			continue;
		}
		if (status == PGRES_PIPELINE_SYNC)
		{
			PQclear(result);
			if (!PQexitPipelineMode(client->pg))
				die("%s: %s", step->text, PQerrorMessage(client->pg));
			return true;
		}
		if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			die("%s: %s", step->text, PQresultErrorMessage(result));
		snprintf(client->affected, sizeof(client->affected), "#%s", PQcmdTuples(result));
		if (PQntuples(result) > 0)
			snprintf(client->last, VALUE_SIZE, "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
	}
	return false;
}

/* One line. */
static bool
receive_redis(Client *client)
{
	if (!more_input(client, client->redis) || client->in_len < 2 || client->in[client->in_len - 1] != '\n')
		return false;
	snprintf(client->last, VALUE_SIZE, "%.*s", (int) client->in_len - 2, client->in);
	return true;
}

/* An HTTP response of known length; of the JSON in it only the value of "key", or of "ID", is of interest. */
static bool
receive_etcd(Client *client)
{
	char	   *body;
	char	   *length;
	char	   *value;

	if (!more_input(client, client->etcd))
		return false;
	client->in[client->in_len] = '\0';
	body = strstr(client->in, "\r\n\r\n");
	length = strcasestr(client->in, "\r\nContent-Length: ");
	if (body == NULL || length == NULL)
		return false;
	body += 4;
	if (client->in_len < (size_t) (body - client->in) + atoi(length + 18))
		return false;
	if (strncmp(client->in, "HTTP/1.1 200", 12) != 0)
		die("etcd: %s", client->in);
	if ((value = strstr(body, "\"key\":\"")) != NULL)
		snprintf(client->last, VALUE_SIZE, "%.*s", (int) strcspn(value + 7, "\""), value + 7);
	else if ((value = strstr(body, "\"ID\":\"")) != NULL)
		snprintf(client->last, VALUE_SIZE, "%.*s", (int) strcspn(value + 6, "\""), value + 6);
	return true;
}

static bool
more_input(Client *client, int fd)
{
	ssize_t		got = recv(fd, client->in + client->in_len, sizeof(client->in) - 1 - client->in_len, MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got <= 0)
		die("%s: connection lost, or too long an answer", client->way->steps[client->step].text);
	client->in_len += got;
	return true;
}

/* A way that does not do what it is there for must not be measured. */
static void
check_step(Client *client, const Step *step)
{
	const char *answer = step->expect[0] == '#' ? client->affected : client->last;

	if (step->expect[0] != '\0' && strcmp(step->expect, answer) != 0)
		die("%s: answered %s, expected %s", step->text, answer, step->expect);
}

static int
next_step(Client *client, int from, bool session)
{
	while (from < client->way->n_steps && client->way->steps[from].session != session)
		from++;
	return from;
}

static const char *
value_of(Client *client, const char *name)
{
	if (strcmp(name, "key") == 0)
		return client->key;
	if (strcmp(name, "uuid") == 0)
		return client->uuid;
	if (strcmp(name, "old") == 0)
		return client->old;
	if (strcmp(name, "last") == 0)
		return client->last;
	if (strcmp(name, "session") == 0)
		return client->session;
	if (strcmp(name, "b64key") == 0)
	{
		base64(client->key, client->b64key);
		return client->b64key;
	}
	die("no such value: %s", name);
}

/* The text of a step with its values in place of {NAME}; a brace before anything but a letter is one of JSON. */
static void
fill_in(Client *client, const Step *step, char *out, size_t size)
{
	const char *in = step->text;
	size_t		len = 0;

	while (*in != '\0' && len + VALUE_SIZE < size)
	{
		char		name[16];
		int			read;

		if (sscanf(in, "{%15[a-z0-9]}%n", name, &read) == 1)
		{
			len += snprintf(out + len, size - len, "%s", value_of(client, name));
			in += read;
		}
		else
			out[len++] = *in++;
	}
	out[len] = '\0';
}

static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static PGconn *
connect_pg(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	PQsetNoticeProcessor(conn, ignore_notice, NULL);
	return conn;
}

static int
connect_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int			fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static int
connect_tcp(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int			one = 1;

	address.sin_port = htons(port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("port %d: %s", port, strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void
send_all(int fd, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t		sent = send(fd, data, len, MSG_NOSIGNAL);

		if (sent < 0)
			die("send: %s", strerror(errno));
		data += sent;
		len -= sent;
	}
}

static void
base64(const char *in, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t		len = strlen(in);

	for (size_t i = 0; i < len; i += 3)
	{
		unsigned	bits = (unsigned char) in[i] << 16;

		if (i + 1 < len)
			bits |= (unsigned char) in[i + 1] << 8;
		if (i + 2 < len)
			bits |= (unsigned char) in[i + 2];
		*out++ = digits[bits >> 18];
		*out++ = digits[bits >> 12 & 63];
		*out++ = i + 1 < len ? digits[bits >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[bits & 63] : '=';
	}
	*out = '\0';
}

static int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* splitmix64: a UUID in a benchmark needs to be spread, not secret */
static uint64_t
random64(void)
{
	uint64_t	z = (random_state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static void
ok(const char *format,...)
{
	va_list		args;

	printf("ok\t");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static void
die(const char *format,...)
{
	char		text[MESSAGE_SIZE];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	printf("error\t");
	print_escaped(text);
	printf("\n");
	fflush(stdout);
	exit(1);
}

static void
print_escaped(const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text == '\n')
			printf("\\n");
		else if (*text == '\t')
			printf("\\t");
		else if (*text == '\\')
			printf("\\\\");
		else
			putchar(*text);
	}
}

/* Cuts a line into its fields, in place; how many. */
static int
split(char *line, char **fields)
{
	int			n = 0;
	char	   *out = line;

	fields[n++] = out;
	for (char *in = line; *in != '\0' && *in != '\n'; in++)
	{
		if (*in == '\t' && n < MAX_FIELDS)
		{
			*out++ = '\0';
			fields[n++] = out;
		}
		else if (*in == '\\' && in[1] != '\0')
		{
			in++;
			*out++ = *in == 'n' ? '\n' : *in == 't' ? '\t' : *in;
		}
		else
			*out++ = *in;
	}
	*out = '\0';
	return n;
}

static char *
copy(const char *text)
{
	char	   *result = strdup(text);

	if (result == NULL)
		die("out of memory");
	return result;
}
