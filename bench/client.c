/*
 * client.c
 *		One client of the load program: its connections, the values of one go, and the steps of its way.
 *
 * Sockets are never waited for but while connecting: a step is sent, and run.c says when something has arrived.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

static uint64_t next_key = 1000000000;
static uint64_t random_state;

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
static int	connect_unix(const char *path);
static int	connect_tcp(int port);
static void send_all(int fd, const char *data, size_t len);
static void base64(const char *in, char *out);
static uint64_t random64(void);


void
client_init(void)
{
	if (getrandom(&random_state, sizeof(random_state), 0) != sizeof(random_state))
		die("getrandom: %s", strerror(errno));
}

/* A client that is connected, has its statements prepared and its session's steps done. */
Client *
client_new(Way *way)
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
		client_send(client);
		while (!receive_step(client))
			usleep(100);
		check_step(client, &way->steps[client->step]);
		memcpy(client->session, client->last, VALUE_SIZE);
	}
	return client;
}

/* Is to do it once more, with a key that was never used: the first step is the next to be sent. */
void
client_begin(Client *client)
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
}

/* Takes what has arrived; true: the answer to the step is complete, and what it should be. */
bool
client_receive(Client *client)
{
	if (!receive_step(client))
		return false;
	check_step(client, &client->way->steps[client->step]);
	return true;
}

/* Goes on to the next step; false: that was the last one. */
bool
client_next(Client *client)
{
	client->step = next_step(client, client->step + 1, false);
	return client->step < client->way->n_steps;
}

void
client_end(Client *client)
{
	if (client->pg != NULL)
		PQfinish(client->pg);
	if (client->redis >= 0)
		close(client->redis);
	if (client->etcd >= 0)
		close(client->etcd);
	free(client);
}

PGconn *
connect_pg(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	PQsetNoticeProcessor(conn, ignore_notice, NULL);
	return conn;
}

double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Sends the step that is next. */
void
client_send(Client *client)
{
	const Step *step = &client->way->steps[client->step];

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

/* splitmix64: a UUID in a benchmark needs to be spread, not secret */
static uint64_t
random64(void)
{
	uint64_t	z = (random_state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}
