/*
 * service.c
 *		A stand-in for a service outside of the database: a payment provider, a gateway for text messages.
 *
 * A process of its own that serves TCP on the loopback interface, a thread for each connection, which carries one
 * request: "NUMBER\n" or "NUMBER KEY\n". The reply is a receipt, or "busy\n". What it has done stands in its ledger,
 * which nobody can roll back; we read it as one reads a bank statement. A key that comes again for the same number is
 * not done again: it gets its receipt once more. Without a key every request is a new one.
 *
 * Of every so many requests one meets a fault: refused, dropped before or after the work was done, done and never
 * answered, or done and answered long after the caller has left. Which request of each group it is depends on the seed;
 * the kinds take turns, so that a run of some length has met them all.
 */
#include "demo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define WORK_SECONDS	0.005
#define LATE_SECONDS	0.400

typedef enum Fault
{
	REFUSED,
	DROPPED_BEFORE,
	DROPPED_AFTER,
	SILENT,
	LATE,
	FAULTS,
	NO_FAULT = FAULTS
} Fault;

static Service *served;			/* in the service's own process */
static pthread_mutex_t ledger_lock = PTHREAD_MUTEX_INITIALIZER;

/* The fault that request n meets. */
static Fault
fault_of(long n)
{
	long		group = served->hit_one_in > 0 ? n / served->hit_one_in : 0;
	uint64_t	random = served->seed + (uint64_t) group;

	if (served->hit_one_in == 0 || n % served->hit_one_in != random_below(&random, served->hit_one_in))
		return NO_FAULT;
	return (Fault) (group % FAULTS);
}

/* The work: once for each key, and for every request without one. */
static void
enter_into_ledger(int number, const char *key)
{
	pthread_mutex_lock(&ledger_lock);
	if (key[0] != '\0' && strcmp(served->ledger[number].key, key) == 0)
		atomic_fetch_add(&served->known, 1);
	else
	{
		strcpy(served->ledger[number].key, key);
		atomic_fetch_add(&served->ledger[number].times, 1);
	}
	pthread_mutex_unlock(&ledger_lock);
}

/* What the service says when it has done it: the same for each repetition under a key. */
void
service_receipt(char *answer, int number)
{
	snprintf(answer, ANSWER_SIZE, "{\"receipt\": \"r-%d\"}", number);
}

static void
say(int fd, const char *text)
{
	/* if the caller has left, there is nobody to tell */
	(void) !send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* Reads up to the end of the line; false if the other side ends, or falls silent, before. */
static bool
read_line(int fd, char *line, size_t size)
{
	size_t		length = 0;

	while (length + 1 < size)
	{
		ssize_t		got = recv(fd, line + length, size - 1 - length, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		length += (size_t) got;
		line[length] = '\0';
		if (line[length - 1] == '\n')
			return true;
	}
	return false;
}

/* One request from its line to its reply, if it gets one. */
static void
serve_request(int fd, const char *line)
{
	Fault		fault = fault_of(atomic_fetch_add(&served->requests, 1));
	char		receipt[ANSWER_SIZE];
	char		key[KEY_SIZE] = "";
	char		nothing[2];
	int			number;

	if (sscanf(line, "%d %63s", &number, key) < 1 || number < 0 || number >= served->length)
		return;
	service_receipt(receipt, number);
	if (fault == REFUSED)
		say(fd, "busy\n");
	if (fault == REFUSED || fault == DROPPED_BEFORE)
		return;
	sleep_seconds(fault == LATE ? LATE_SECONDS : WORK_SECONDS);
	enter_into_ledger(number, key);
	if (fault == SILENT)
		read_line(fd, nothing, sizeof(nothing));	/* until the caller leaves */
	if (fault == LATE || fault == NO_FAULT)
	{
		strcat(receipt, "\n");
		say(fd, receipt);
	}
}

static void *
serve_connection(void *arg)
{
	int			fd = (int) (intptr_t) arg;
	char		line[KEY_SIZE * 2];

	if (read_line(fd, line, sizeof(line)))
		serve_request(fd, line);
	close(fd);
	atomic_fetch_sub(&served->under_way, 1);
	return NULL;
}

static _Noreturn void
serve(Service *service, int listener)
{
	served = service;
	for (;;)
	{
		int			fd = accept(listener, NULL, NULL);
		pthread_t	thread;

		if (fd < 0)
			continue;
		if (pthread_create(&thread, NULL, serve_connection, (void *) (intptr_t) fd) != 0)
			fail("the service could not start a thread");
		pthread_detach(thread);
	}
}

/* Starts the service, for the numbers below length. It ends with its parent's children. */
Service *
service_start(int length, int hit_one_in, uint64_t service_seed)
{
	Service    *service = shared_memory(sizeof(Service) + (size_t) length * sizeof(service->ledger[0]));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t	size = sizeof(address);
	int			listener = socket(AF_INET, SOCK_STREAM, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *) &address, size) < 0 || listen(listener, 128) < 0 ||
		getsockname(listener, (struct sockaddr *) &address, &size) < 0)
		fail("the service could not listen: %s", strerror(errno));
	service->port = ntohs(address.sin_port);
	service->length = length;
	service->hit_one_in = hit_one_in;
	service->seed = service_seed;
	if (fork_child() == 0)
		serve(service, listener);
	close(listener);
	return service;
}

/* Asks the service to do a number, under a key unless that is NULL; a receipt goes to answer. */
Reply
service_ask(Service *service, int number, const char *key, double patience, char *answer)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	.sin_port = htons((uint16_t) service->port)};
	struct timeval wait = {.tv_sec = (time_t) patience, .tv_usec = (suseconds_t) (patience * 1e6) % 1000000};
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	char		line[KEY_SIZE * 2];
	Reply		reply = NO_REPLY;

	/* counted by the caller: the service may not even have accepted it when somebody asks what is under way */
	atomic_fetch_add(&service->under_way, 1);
	if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
		fail("could not reach the service: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	snprintf(line, sizeof(line), "%d %s\n", number, key ? key : "");
	say(fd, line);
	if (read_line(fd, answer, ANSWER_SIZE))
	{
		answer[strcspn(answer, "\n")] = '\0';
		reply = strcmp(answer, "busy") == 0 ? BUSY : SERVED;
	}
	else
		atomic_fetch_add(&service->unanswered, 1);
	close(fd);
	return reply;
}

/* Waits until nothing is under way any more: only then the ledger tells what was done and what never will be. */
void
service_settle(Service *service)
{
	while (atomic_load(&service->under_way) > 0)
	{
		stop_if_interrupted();
		sleep_seconds(0.01);
	}
}
