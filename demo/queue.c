/*
 * queue.c
 *		A message broker as brokers are: a message that is not acknowledged in time is delivered again.
 *
 * It lives in shared memory and has no process of its own. Whoever takes a message hides it from the others for a
 * while; a worker that is slower than that, or dies, or simply keeps silent, is not asked: the next one gets the
 * message, too.
 */
#include "demo.h"

#include <sys/mman.h>

#define NEVER			INT64_MAX	/* acknowledged */
#define IDLE_SECONDS	0.002

static size_t
queue_size(int length)
{
	return sizeof(Queue) + (size_t) length * sizeof(int64_t);
}

static int64_t
microseconds(void)
{
	return (int64_t) (now_seconds() * 1e6);
}

Queue *
queue_make(int length, double visibility)
{
	Queue	   *queue = shared_memory(queue_size(length));

	queue->length = length;
	queue->visibility = (int64_t) (visibility * 1e6);
	atomic_store(&queue->left, length);
	return queue;
}

void
queue_free(Queue *queue)
{
	munmap(queue, queue_size(queue->length));
}

/* A message that is due, hidden from the others from now on; -1 if there is none. */
static int
queue_take(Queue *queue, int worker)
{
	unsigned	first = atomic_fetch_add(&queue->cursor, 1);
	int64_t		now = microseconds();

	for (int i = 0; i < queue->length; i++)
	{
		int			message = (int) ((first + (unsigned) i) % (unsigned) queue->length);
		int64_t		due = atomic_load(&queue->due[message]);

		if (due > now || (due == 0 && queue->first_to > 0 && message % queue->first_to != worker))
			continue;
		if (atomic_compare_exchange_strong(&queue->due[message], &due, now + queue->visibility))
		{
			atomic_fetch_add(&queue->deliveries, 1);
			return message;
		}
	}
	return -1;
}

/* The life of a worker: handles what it is delivered until all messages are acknowledged. */
void
queue_consume(Queue *queue, int worker, void (*handle) (int message, void *arg), void *arg)
{
	while (atomic_load(&queue->left) > 0)
	{
		int			message = queue_take(queue, worker);

		if (message >= 0)
			handle(message, arg);
		else
			sleep_seconds(IDLE_SECONDS);
	}
}

void
queue_acknowledge(Queue *queue, int message)
{
	if (atomic_exchange(&queue->due[message], NEVER) != NEVER)
		atomic_fetch_sub(&queue->left, 1);
}

/* Has it delivered anew, at once, although it was acknowledged. */
void
queue_put_back(Queue *queue, int message)
{
	if (atomic_exchange(&queue->due[message], microseconds()) == NEVER)
		atomic_fetch_add(&queue->left, 1);
}

bool
queue_is_done(const Queue *queue, int message)
{
	return atomic_load(&queue->due[message]) == NEVER;
}
