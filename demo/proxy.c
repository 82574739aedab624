/*
 * proxy.c
 *		A network that breaks: a proxy between clients and server that cuts connections at chosen points.
 *
 * It listens on a unix-domain socket, opens one connection to the server's for each client, and understands just
 * enough of the protocol to know where a request ends (Query or Sync), where a reply ends (ReadyForQuery), and which
 * request is the one that commits: COMMIT itself, or whatever runs outside a transaction block. Requests are forwarded
 * whole and replies are delivered whole, so every cut is where it was meant to be.
 *
 * Whether a transaction is hit is decided at its first request, by --fault-rate; half of the hits are kept for the
 * committing request, the others take one of the first few, whichever it is. Most cuts close both sides at once, as a
 * reset does. Some are silent, as a network that swallows packets is: the client waits for its deadline, and the
 * server, which notices nothing, keeps its connection and any open transaction a while longer than that.
 *
 * Writes block. Requests and replies of the demo are far smaller than a socket's buffer, and each connection has at
 * most one of them under way.
 */
#include "traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_PAIRS			1024
#define SILENT_SHARE		0.125
#define LINGER_SECONDS		0.100	/* at most this long the server's side outlives a silent cut */
#define NOT_BEFORE_COMMIT	INT_MAX

typedef struct Buffer
{
	char	   *data;
	size_t		length;
	size_t		size;
} Buffer;

typedef enum PairState
{
	STARTING,					/* authentication: everything is passed on as it comes */
	IDLE,						/* the server waits for a request */
	ASKED,						/* the client waits for a reply */
	SILENT						/* nothing is passed on any more */
} PairState;

/* a client's connection and its counterpart at the server */
typedef struct Pair
{
	int			client;			/* -1: has left (only in SILENT) */
	int			server;
	PairState	state;
	char		transaction;	/* the server's word for it: I idle, T in a block, E failed block */
	bool		hit;			/* a cut is planned for this transaction … */
	CutPoint	point;
	bool		silent;
	int			requests_before;	/* … when so many requests have passed, or at the commit */
	bool		cut_reply;		/* the reply that is awaited is to be cut */
	bool		commits;		/* the request that was sent last is the one that commits */
	double		close_at;		/* a silent pair whose client has left ends then */
	Buffer		request;
	Buffer		reply;
} Pair;

typedef struct Proxy
{
	const char *server_path;
	double		fault_rate;
	uint64_t	random;
	Cuts	   *cuts;
	Pair	   *pairs[MAX_PAIRS];
	int			npairs;
} Proxy;

/* Fills in the address of a unix-domain socket; false if the path is too long for one. */
static bool
socket_address(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address->sun_path))
		return false;
	strcpy(address->sun_path, path);
	return true;
}

/* The socket that a proxy will accept on; made before the fork, so no client can come too early. */
int
proxy_listen(const char *path)
{
	struct sockaddr_un address;
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (!socket_address(&address, path))
		fail("path of the proxy's socket is too long: %s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(fd, 128) < 0)
		fail("could not listen on \"%s\": %s", path, strerror(errno));
	return fd;
}

static int
connect_server(const char *path)
{
	struct sockaddr_un address;
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	if (!socket_address(&address, path) || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
	{
		close(fd);
		return -1;
	}
	return fd;
}

/* Appends what can be read now; false at the end of the file. */
static bool
receive(int fd, Buffer *buffer)
{
	ssize_t		got;

	if (buffer->size - buffer->length < 8192)
	{
		buffer->size = buffer->size * 2 + 16384;
		buffer->data = realloc(buffer->data, buffer->size);
		if (buffer->data == NULL)
			fail("out of memory");
	}
	do
		got = read(fd, buffer->data + buffer->length, buffer->size - buffer->length);
	while (got < 0 && errno == EINTR);
	if (got <= 0)
		return false;
	buffer->length += (size_t) got;
	return true;
}

/* Takes the first bytes out of a buffer; writes them to fd, unless that is -1. */
static void
forward(int fd, Buffer *buffer, size_t length)
{
	size_t		done = 0;

	while (fd >= 0 && done < length)
	{
		ssize_t		put = write(fd, buffer->data + done, length - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			break;				/* the other side has gone; its end of file comes next */
		done += (size_t) put;
	}
	memmove(buffer->data, buffer->data + length, buffer->length - length);
	buffer->length -= length;
}

/* Length of the protocol message at an offset, type byte included; 0 if not all of it is there yet. */
static size_t
message_length(const Buffer *buffer, size_t at)
{
	uint32_t	length;

	if (buffer->length - at < 5)
		return 0;
	length = (uint32_t) (unsigned char) buffer->data[at + 1] << 24
		| (uint32_t) (unsigned char) buffer->data[at + 2] << 16
		| (uint32_t) (unsigned char) buffer->data[at + 3] << 8
		| (uint32_t) (unsigned char) buffer->data[at + 4];
	return buffer->length - at >= (size_t) length + 1 ? (size_t) length + 1 : 0;
}

/*
 * Length of everything up to and with the first message that has one of the wanted types, 0 if there is none.
 * *last is where that message begins.
 */
static size_t
length_through(const Buffer *buffer, const char *wanted, size_t *last)
{
	size_t		at = 0;
	size_t		length;

	while ((length = message_length(buffer, at)) > 0)
	{
		*last = at;
		at += length;
		if (strchr(wanted, buffer->data[*last]) != NULL)
			return at;
	}
	return 0;
}

/* Does the request's SQL begin with this word? In Parse a statement name comes first. */
static bool
request_says(const Buffer *request, size_t length, const char *word)
{
	const char *text = request->data + 5;
	const char *end = request->data + length;

	if (request->data[0] == 'P')
	{
		text = memchr(text, '\0', (size_t) (end - text));
		if (text++ == NULL)
			return false;
	}
	else if (request->data[0] != 'Q')
		return false;
	return (size_t) (end - text) > strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

static void
close_pair(Proxy *proxy, int index)
{
	Pair	   *pair = proxy->pairs[index];

	if (pair->client >= 0)
		close(pair->client);
	close(pair->server);
	free(pair->request.data);
	free(pair->reply.data);
	free(pair);
	proxy->pairs[index] = proxy->pairs[--proxy->npairs];
}

/* Cuts a pair, and counts it. False: the pair is to be closed; true: it lives on in silence. */
static bool
cut(Proxy *proxy, Pair *pair)
{
	atomic_fetch_add(pair->commits ? &proxy->cuts->at_commit[pair->point] : &proxy->cuts->earlier[pair->point], 1);
	if (!pair->silent)
		return false;
	atomic_fetch_add(&proxy->cuts->silent, 1);
	pair->state = SILENT;
	return true;
}

/* Decides at the first request of a transaction whether it is hit, where, and how. */
static void
plan_cut(Proxy *proxy, Pair *pair)
{
	pair->hit = random_fraction(&proxy->random) < proxy->fault_rate;
	pair->point = random_below(&proxy->random, CUT_POINTS);
	pair->silent = random_fraction(&proxy->random) < SILENT_SHARE;
	pair->requests_before = random_below(&proxy->random, 2) ? NOT_BEFORE_COMMIT : random_below(&proxy->random, 4);
}

/* Sends a complete request on, or cuts there. False: the pair is to be closed. */
static bool
pass_request(Proxy *proxy, Pair *pair, size_t length)
{
	if (pair->transaction == 'I')
	{
		plan_cut(proxy, pair);
		pair->commits = !request_says(&pair->request, length, "BEGIN");
	}
	else
		pair->commits = request_says(&pair->request, length, "COMMIT");

	pair->cut_reply = false;
	if (pair->hit && (pair->commits || pair->requests_before-- == 0))
	{
		switch (pair->point)
		{
			case CUT_BEFORE_REQUEST:
				return cut(proxy, pair);
			case CUT_IN_REQUEST:
				forward(pair->server, &pair->request, 1 + (size_t) random_below(&proxy->random, (int) length - 1));
				return cut(proxy, pair);
			case CUT_AFTER_REQUEST:
				forward(pair->server, &pair->request, length);
				return cut(proxy, pair);
			case CUT_BEFORE_REPLY:
			case CUT_IN_REPLY:
			case CUT_POINTS:
				pair->cut_reply = true;
				break;
		}
	}
	forward(pair->server, &pair->request, length);
	pair->state = ASKED;
	return true;
}

/* Delivers a complete reply, or cuts there. False: the pair is to be closed. */
static bool
pass_reply(Proxy *proxy, Pair *pair, size_t length)
{
	if (pair->cut_reply)
	{
		if (pair->point == CUT_IN_REPLY)
			forward(pair->client, &pair->reply, 1 + (size_t) random_below(&proxy->random, (int) length - 1));
		return cut(proxy, pair);
	}
	forward(pair->client, &pair->reply, length);
	pair->state = IDLE;
	return true;
}

/* The client's side can be read. False: the pair is to be closed. */
static bool
client_ready(Proxy *proxy, Pair *pair)
{
	size_t		length;
	size_t		last;

	if (!receive(pair->client, &pair->request))
	{
		if (pair->state != SILENT)
			return false;
		close(pair->client);
		pair->client = -1;
		pair->close_at = now_seconds() + LINGER_SECONDS * random_fraction(&proxy->random);
		return true;
	}
	if (pair->state == STARTING)
		forward(pair->server, &pair->request, pair->request.length);
	else if (pair->state == IDLE && (length = length_through(&pair->request, "QSX", &last)) > 0)
	{
		if (pair->request.data[last] != 'X')
			return pass_request(proxy, pair, length);
		forward(pair->server, &pair->request, length);
		return false;
	}
	return true;
}

/* The server's side can be read. False: the pair is to be closed. */
static bool
server_ready(Proxy *proxy, Pair *pair)
{
	bool		open = receive(pair->server, &pair->reply);
	size_t		length;
	size_t		last;

	while (open && (length = length_through(&pair->reply, "Z", &last)) > 0)
	{
		pair->transaction = pair->reply.data[last + 5];
		if (!pass_reply(proxy, pair, length))
			return false;
		if (pair->state == SILENT)
			return true;
	}
	/* authentication, and what belongs to no reply, such as a shutdown's FATAL: message by message, as it comes */
	while (pair->state != ASKED && (length = message_length(&pair->reply, 0)) > 0)
		forward(pair->client, &pair->reply, length);
	if (!open)
		forward(pair->client, &pair->reply, pair->reply.length);
	return open;
}

static void
accept_client(Proxy *proxy, int listener)
{
	int			client = accept(listener, NULL, NULL);
	int			server;
	Pair	   *pair;

	if (client < 0)
		return;
	server = proxy->npairs < MAX_PAIRS ? connect_server(proxy->server_path) : -1;
	pair = server >= 0 ? calloc(1, sizeof(Pair)) : NULL;
	if (pair == NULL)
	{
		/* the client sees a lost connection, and comes again */
		if (server >= 0)
			close(server);
		close(client);
		return;
	}
	pair->client = client;
	pair->server = server;
	pair->state = STARTING;
	pair->transaction = 'I';
	proxy->pairs[proxy->npairs++] = pair;
}

/* Serves a pair after poll. False: it is to be closed. */
static bool
serve(Proxy *proxy, Pair *pair, short client_events, short server_events)
{
	if (pair->client < 0)
		return now_seconds() < pair->close_at;
	/* the reply first: whatever the client says next comes after it */
	if (server_events != 0 && !server_ready(proxy, pair))
		return false;
	return client_events == 0 || client_ready(proxy, pair);
}

/* The life of a proxy process; it ends with its parent's children. */
void
proxy_run(int listener, const char *server_path, double fault_rate, uint64_t chance, Cuts *cuts)
{
	static Proxy proxy;
	static struct pollfd fds[1 + 2 * MAX_PAIRS];

	proxy.server_path = server_path;
	proxy.fault_rate = fault_rate;
	proxy.random = chance;
	proxy.cuts = cuts;

	for (;;)
	{
		fds[0] = (struct pollfd) {.fd = listener, .events = POLLIN};
		for (int i = 0; i < proxy.npairs; i++)
		{
			Pair	   *pair = proxy.pairs[i];

			/* poll passes over a negative descriptor */
			fds[1 + 2 * i] = (struct pollfd) {.fd = pair->client, .events = POLLIN};
			fds[2 + 2 * i] = (struct pollfd) {.fd = pair->state == SILENT ? -1 : pair->server, .events = POLLIN};
		}
		if (poll(fds, 1 + 2 * (nfds_t) proxy.npairs, 20) < 0)
			continue;

		/* downwards, because closing a pair puts the last one, already served, in its place */
		for (int i = proxy.npairs - 1; i >= 0; i--)
		{
			if (!serve(&proxy, proxy.pairs[i], fds[1 + 2 * i].revents, fds[2 + 2 * i].revents))
				close_pair(&proxy, i);
		}
		if (fds[0].revents != 0)
			accept_client(&proxy, listener);
	}
}
