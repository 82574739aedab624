/*
 * run.c
 *		Keeps the clients of a way busy for a time, and measures how long each go takes.
 *
 * One loop over epoll.  Without a rate a client begins anew as soon as it is done.  With a rate a go is due at a fixed
 * time, whoever is free takes it, and its time counts from when it was due: what waits for a slow one is slow as well.
 *
 * A network is what the way's delay makes of it: each request is kept so long before it is sent, and each answer so long
 * after it has come, as it would be under way.  A delay is the same for all, so what is held up goes on in the order in
 * which it was held up, and one queue does.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

typedef struct Run
{
	Way		   *way;
	double		start;
	double		end;
	double		rate;
	size_t		due;			/* goes that were due, with a rate */
	int			active;			/* clients that are not at their end */
	int			n_free;
	Client	   *free[MAX_CLIENTS];	/* with a rate: those that wait for a go */
	int			first_held;
	int			n_held;
	Client	   *held[MAX_CLIENTS];	/* a ring */
	size_t		done;
	size_t		room;
	double		share;
	double	   *took;
} Run;

static void begin(Run *run, Client *client);
static void begin_due(Run *run);
static void send_on(Run *run, Client *client);
static void answered(Run *run, Client *client);
static void finished(Run *run, Client *client);
static void hold_up(Run *run, Client *client, bool sending);
static void release_held(Run *run);
static void set_timer(Run *run);
static double processor_seconds(Way *way, int clients);


void
run_init(Way *way)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	way->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (way->timer < 0 || epoll_ctl(way->epoll, EPOLL_CTL_ADD, way->timer, &event) != 0)
		die("timerfd: %s", strerror(errno));
}

void
do_run(Way *way, int clients, double seconds, double rate)
{
	struct epoll_event events[MAX_CLIENTS];
	Run			run = {.way = way, .rate = rate, .active = clients, .room = 1024};
	double		processor;

	if (clients > MAX_CLIENTS)
		die("too many clients");
	while (way->n_clients < clients)
		way->clients[way->n_clients++] = client_new(way);
	run.took = malloc(run.room * sizeof(double));

	processor = processor_seconds(way, clients);
	run.start = now();
	run.end = seconds > 0 ? run.start + seconds : run.start + 600;
	for (int i = 0; i < clients; i++)
		begin(&run, way->clients[i]);
	begin_due(&run);
	while (run.active > 0)
	{
		int			ready;

		set_timer(&run);
		ready = epoll_wait(way->epoll, events, MAX_CLIENTS, 60000);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			die("%s: no answer for a minute", way->name);
		if (seconds == 0 && now() < run.end && !background_runs())
			run.end = now();
		for (int i = 0; i < ready; i++)
		{
			Client	   *client = events[i].data.ptr;
			uint64_t	times;

			if (client == NULL)
			{
				if (read(way->timer, &times, sizeof(times)) < 0 && errno != EAGAIN)
					die("timerfd: %s", strerror(errno));
			}
			else if (!client_receive(client))
				continue;
			else if (way->delay > 0)
				hold_up(&run, client, false);
			else
				answered(&run, client);
		}
		release_held(&run);
		begin_due(&run);
	}
	processor = processor_seconds(way, clients) - processor;
	if (run.done == 0)
		run.took[run.done++] = seconds;
	qsort(run.took, run.done, sizeof(double), compare_doubles);
	ok("%.3f\t%.6f\t%.9f\t%.9f\t%.9f", run.share, run.end - run.start,
	   run.took[run.done / 2], run.took[(size_t) (0.99 * (run.done - 1))], processor / run.done);
	free(run.took);
}

/* A client is free for one more. */
static void
begin(Run *run, Client *client)
{
	if (run->rate > 0)
		run->free[run->n_free++] = client;
	else
	{
		client_begin(client);
		send_on(run, client);
	}
}

/* With a rate: those that are free begin what is due, and stop when all that is due before the end was begun. */
static void
begin_due(Run *run)
{
	while (run->n_free > 0)
	{
		double		due = run->start + run->due / run->rate;
		Client	   *client;

		if (due >= run->end)
		{
			run->active -= run->n_free;
			run->n_free = 0;
			return;
		}
		if (due > now())
			return;
		client = run->free[--run->n_free];
		client_begin(client);
		client->began = due;
		run->due++;
		send_on(run, client);
	}
}

static void
send_on(Run *run, Client *client)
{
	if (run->way->delay > 0)
		hold_up(run, client, true);
	else
		client_send(client);
}

static void
answered(Run *run, Client *client)
{
	if (client_next(client))
		send_on(run, client);
	else
		finished(run, client);
}

static void
finished(Run *run, Client *client)
{
	double		time = now();

	if (run->done == run->room)
		run->took = realloc(run->took, (run->room *= 2) * sizeof(double));
	run->took[run->done++] = time - client->began;

	/*
	 * What goes on beyond the end counts by the part of its time before it:
	 * not to count it would be a loss the larger, the longer each one takes.
	 */
	if (time <= run->end || run->rate > 0)
	{
		run->share += 1;
		begin(run, client);
	}
	else
	{
		run->share += fmax(0, run->end - client->began) / (time - client->began);
		run->active--;
	}
}

static void
hold_up(Run *run, Client *client, bool sending)
{
	client->due = now() + run->way->delay;
	client->sending = sending;
	run->held[(run->first_held + run->n_held++) % MAX_CLIENTS] = client;
}

static void
release_held(Run *run)
{
	while (run->n_held > 0 && run->held[run->first_held]->due <= now())
	{
		Client	   *client = run->held[run->first_held];

		run->first_held = (run->first_held + 1) % MAX_CLIENTS;
		run->n_held--;
		if (client->sending)
			client_send(client);
		else
			answered(run, client);
	}
}

/* To the next that something is to be done by itself, if there is any. */
static void
set_timer(Run *run)
{
	double		next = INFINITY;
	struct itimerspec timer = {0};

	if (run->n_held > 0)
		next = run->held[run->first_held]->due;
	if (run->n_free > 0)
		next = fmin(next, run->start + run->due / run->rate);
	if (isinf(next))
		return;
	timer.it_value.tv_sec = (time_t) next;
	timer.it_value.tv_nsec = (long) (fmod(next, 1) * 1e9);
	if (timerfd_settime(run->way->timer, TFD_TIMER_ABSTIME, &timer, NULL) != 0)
		die("timerfd: %s", strerror(errno));
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
