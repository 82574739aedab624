/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Client of the token benchmark (bench/token): how many a second?
 *
 *		token MODE CLIENTS SECONDS REDIS-PORT
 *
 * MODE is the way, idem, table or redis, and what is done of it: issue, cycle
 * (issue and consume) or work (issue, and consume together with one row of
 * work), such as idem-work.  Each client has a connection of its own and does
 * one after the other.  PostgreSQL is found by libpq's environment, Redis on
 * 127.0.0.1.  Prints the rate.  A token that is not consumed ends the run.
 *
 * Every way is written as its users would at best: statements are prepared,
 * and consuming and the work are one statement where that is possible, so one
 * round trip and one commit.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define TOKEN_MAX	100

typedef enum Way
{
	WAY_IDEM,
	WAY_TABLE,
	WAY_REDIS
} Way;

typedef enum Deed
{
	DEED_ISSUE,
	DEED_CYCLE,
	DEED_WORK
} Deed;

typedef struct Client
{
	pthread_t	thread;
	int			number;
	PGconn	   *conn;
	int			redis;
	long		done;
} Client;

static const char *const ways[] = {"idem", "table", "redis"};
static const char *const deeds[] = {"issue", "cycle", "work"};

static Way	way;
static Deed deed;
static int	redis_port;
static atomic_bool stop;

static void *run_client(void *arg);
static void issue(Client *client, const char *subject, char *token);
static bool consume(Client *client, const char *subject, const char *token);
static PGconn *connect_postgres(void);
static PGresult *execute(Client *client, const char *name, int n,
						 const char *a, const char *b);
static int	connect_redis(void);
static bool redis_says(Client *client, const char *command, const char *good);
static void die(const char *what, const char *why);


int
main(int argc, char **argv)
{
	Client	   *clients;
	int			n;
	long		done = 0;
	bool		known = false;
	struct timespec begin;
	struct timespec end;

	if (argc != 5)
		die("usage", "token MODE CLIENTS SECONDS REDIS-PORT");
	for (int w = 0; w < 3; w++)
	{
		for (int d = 0; d < 3; d++)
		{
			char		mode[32];

			snprintf(mode, sizeof(mode), "%s-%s", ways[w], deeds[d]);
			if (strcmp(mode, argv[1]) == 0)
			{
				way = w;
				deed = d;
				known = true;
			}
		}
	}
	if (!known)
		die("unknown mode", argv[1]);
	n = atoi(argv[2]);
	redis_port = atoi(argv[4]);

	clients = calloc(n, sizeof(Client));
	for (int i = 0; i < n; i++)
	{
		clients[i].number = i;
		if (way != WAY_REDIS || deed == DEED_WORK)
			clients[i].conn = connect_postgres();
		if (way == WAY_REDIS)
			clients[i].redis = connect_redis();
	}

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < n; i++)
		if (pthread_create(&clients[i].thread, NULL, run_client, &clients[i]) != 0)
			die("pthread_create", "failed");
	usleep((useconds_t) (atof(argv[3]) * 1e6));
	atomic_store(&stop, true);
	for (int i = 0; i < n; i++)
	{
		pthread_join(clients[i].thread, NULL);
		done += clients[i].done;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);

	printf("%.1f\n", done / (end.tv_sec - begin.tv_sec +
							 (end.tv_nsec - begin.tv_nsec) / 1e9));
	return 0;
}

static void *
run_client(void *arg)
{
	Client	   *client = arg;

	while (!atomic_load(&stop))
	{
		char		subject[32];
		char		token[TOKEN_MAX + 1];

		snprintf(subject, sizeof(subject), "user %d %ld", client->number,
				 client->done);
		issue(client, subject, token);
		if (deed != DEED_ISSUE && !consume(client, subject, token))
			die("not consumed", token);
		client->done++;
	}
	return NULL;
}

/* A fresh token for subject. */
static void
issue(Client *client, const char *subject, char *token)
{
	if (way == WAY_REDIS)
	{
		unsigned char random[16];
		char		command[256];

		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			die("getrandom", "failed");
		for (int i = 0; i < 16; i++)
			sprintf(token + 2 * i, "%02x", random[i]);
		snprintf(command, sizeof(command), "SET form:%s:%s 1 EX 900\r\n",
				 strrchr(subject, ' ') + 1, token);
		if (!redis_says(client, command, "+OK"))
			die("redis", "SET failed");
	}
	else
	{
		PGresult   *result = execute(client, "issue", 1, subject, NULL);

		snprintf(token, TOKEN_MAX + 1, "%s", PQgetvalue(result, 0, 0));
		PQclear(result);
	}
}

/* Consumes it, with the work if that is wanted. */
static bool
consume(Client *client, const char *subject, const char *token)
{
	PGresult   *result;
	bool		consumed;

	if (way == WAY_REDIS)
	{
		char		command[256];

		snprintf(command, sizeof(command), "DEL form:%s:%s\r\n",
				 strrchr(subject, ' ') + 1, token);
		if (!redis_says(client, command, ":1"))
			return false;
		if (deed == DEED_CYCLE)
			return true;
		PQclear(execute(client, "work", 1, subject, NULL));
		return true;
	}
	result = execute(client, deed == DEED_WORK ? "consume_work" : "consume", 2,
					 token, subject);
	consumed = PQntuples(result) == 1;
	PQclear(result);
	return consumed;
}

static PGconn *
connect_postgres(void)
{
	static const char *const statements[][4] = {
		{
			"issue",
			"SELECT idem_token_issue('form', $1)",
			"INSERT INTO form_token (purpose, subject, expires_at)"
			" VALUES ('form', $1, clock_timestamp() + '15 minutes') RETURNING token",
			NULL
		},
		{
			"consume",
			"SELECT WHERE idem_token_consume($1, 'form', $2)",
			"DELETE FROM form_token WHERE token = $1::uuid AND purpose = 'form'"
			" AND subject = $2 AND expires_at > clock_timestamp() RETURNING 1",
			NULL
		},
		{
			"consume_work",
			"INSERT INTO work (subject) SELECT $2::text"
			" WHERE idem_token_consume($1, 'form', $2) RETURNING 1",
			"WITH gone AS (DELETE FROM form_token WHERE token = $1::uuid"
			" AND purpose = 'form' AND subject = $2"
			" AND expires_at > clock_timestamp() RETURNING 1)"
			" INSERT INTO work (subject) SELECT $2 FROM gone RETURNING 1",
			NULL
		},
		{
			"work",
			NULL,
			NULL,
			"INSERT INTO work (subject) VALUES ($1) RETURNING 1"
		}
	};
	PGconn	   *conn = PQconnectdb("");

	if (PQstatus(conn) != CONNECTION_OK)
		die("PostgreSQL", PQerrorMessage(conn));
	for (int i = 0; i < 4; i++)
	{
		const char *sql = statements[i][1 + way];
		PGresult   *result;

		if (sql == NULL)
			continue;
		result = PQprepare(conn, statements[i][0], sql, 0, NULL);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die(sql, PQerrorMessage(conn));
		PQclear(result);
	}
	return conn;
}

static PGresult *
execute(Client *client, const char *name, int n, const char *a, const char *b)
{
	const char *values[2] = {a, b};
	PGresult   *result = PQexecPrepared(client->conn, name, n, values, NULL,
										NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die(name, PQerrorMessage(client->conn));
	return result;
}

static int
connect_redis(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	int			one = 1;

	address.sin_port = htons(redis_port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("Redis", "cannot connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* Sends an inline command; is the one line of the answer as expected? */
static bool
redis_says(Client *client, const char *command, const char *good)
{
	char		answer[256];
	size_t		len = 0;

	if (write(client->redis, command, strlen(command)) != (ssize_t) strlen(command))
		die("Redis", "cannot send");
	while (len == 0 || answer[len - 1] != '\n')
	{
		ssize_t		got = read(client->redis, answer + len,
							   sizeof(answer) - 1 - len);

		if (got <= 0)
			die("Redis", "closed the connection");
		len += got;
	}
	answer[len] = '\0';
	return strncmp(answer, good, strlen(good)) == 0;
}

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "token: %s: %s\n", what, why);
	exit(1);
}
