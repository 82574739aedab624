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
 *		close CONNINFO						closes the connection that sql has kept for it
 *		way NAME CONNINFO REDIS ETCD DELAY	a way of doing something begins; a Unix socket and a port, for its steps; seconds that
 *											each message is held up on its way, there and back: a network
 *		step WHEN KIND TEXT VALUES EXPECT	… and does this next
 *		run NAME CLIENTS SECONDS RATE		that many clients do it, one after the other, or if RATE is above 0 so often in a
 *											second, whoever is free; how many times (what is under way at the end counts in
 *											part), in how many seconds, the median and 99th percentile of the seconds that
 *											each took (with a rate: from when it was due), and the processor seconds of the
 *											server's processes for each; 0 seconds: as long as the background runs
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
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define MAX_FIELDS	8
#define MAX_WAYS	8
#define N_KEPT		4

static Way	ways[MAX_WAYS];
static int	n_ways;
static PGconn *background;
static double background_began;

/* connections for SQL, one for each conninfo that was used lately */
static struct
{
	char	   *conninfo;
	PGconn	   *conn;
}			kept[N_KEPT];

static void do_sql(const char *conninfo, const char *text);
static void do_start(const char *conninfo, const char *text);
static void do_finish(void);
static void do_close(const char *conninfo);
static void do_way(char **fields);
static void do_step(char **fields);
static void do_drop(const char *name);
static void do_fsync(const char *file, int times);
static Way *find_way(const char *name);
static void print_escaped(const char *text);
static int	split(char *line, char **fields);
static char *copy(const char *text);


int
main(void)
{
	char	   *line = NULL;
	size_t		size = 0;

	client_init();
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
		else if (strcmp(fields[0], "way") == 0 && n == 6)
			do_way(fields);
		else if (strcmp(fields[0], "step") == 0 && n == 6)
			do_step(fields);
		else if (strcmp(fields[0], "run") == 0 && n == 5)
			do_run(find_way(fields[1]), atoi(fields[2]), atof(fields[3]), atof(fields[4]));
		else if (strcmp(fields[0], "close") == 0 && n == 2)
			do_close(fields[1]);
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

static void
do_sql(const char *conninfo, const char *text)
{
	static int	next;
	PGconn	   *conn = NULL;
	PGresult   *result;
	ExecStatusType status;

	for (int i = 0; i < N_KEPT && conn == NULL; i++)
		if (kept[i].conninfo != NULL && strcmp(kept[i].conninfo, conninfo) == 0)
			conn = kept[i].conn;
	if (conn == NULL)
	{
		if (kept[next].conn != NULL)
			PQfinish(kept[next].conn);
		free(kept[next].conninfo);
		kept[next].conninfo = copy(conninfo);
		conn = kept[next].conn = connect_pg(conninfo);
		next = (next + 1) % N_KEPT;
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

/* Closes the connection for SQL, if there is one. */
static void
do_close(const char *conninfo)
{
	for (int i = 0; i < N_KEPT; i++)
		if (kept[i].conninfo != NULL && strcmp(kept[i].conninfo, conninfo) == 0)
		{
			PQfinish(kept[i].conn);
			free(kept[i].conninfo);
			kept[i].conn = NULL;
			kept[i].conninfo = NULL;
		}
	ok("%s", "");
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
bool
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
	way->delay = atof(fields[5]);
	way->epoll = epoll_create1(EPOLL_CLOEXEC);
	run_init(way);
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
do_drop(const char *name)
{
	Way		   *way = find_way(name);

	for (int i = 0; i < way->n_clients; i++)
		client_end(way->clients[i]);
	for (int i = 0; i < way->n_steps; i++)
	{
		free(way->steps[i].text);
		free(way->steps[i].expect);
		for (int j = 0; j < way->steps[i].n_values; j++)
			free(way->steps[i].values[j]);
	}
	close(way->timer);
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

int
compare_doubles(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

void
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

void
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
