/*
 * messages.c
 *		Failure S4: two status messages are sent, created then paid; paid arrives first, created after it.
 *
 * Each order lives one of three stories, each a way through the machine in messages.sql: created, paid, shipped,
 * delivered; created, paid, cancelled; created, cancelled. Each of its messages is sent twice, all are shuffled, and
 * several connections take them from a broker as they come. Where an order must end is where its story does.
 *
 * The upsert, with and without the trigger idem_state, is one statement, the same to the letter. idem_advance is stricter:
 * it takes no message before the one that belongs in front of it, and the broker delivers that message again later.
 */
#include "demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORY_LENGTH	4
#define VISIBILITY		0.250	/* seconds until a message that came too early is delivered again */
#define APART			50		/* messages of an order are shuffled among those of so many orders */

static const char *const stories[][STORY_LENGTH] = {
	{"created", "paid", "shipped", "delivered"},
	{"created", "paid", "cancelled"},
	{"created", "cancelled"},
};

/* a message, and where the shuffle puts it */
typedef struct Message
{
	int			order;
	const char *state;
	double		place;
} Message;

/* what became of one delivery */
typedef enum Outcome
{
	TAKEN,						/* the order has this state now */
	IGNORED,					/* it was there already, or further */
	TOO_EARLY					/* to be delivered again */
} Outcome;

typedef struct MessageWay
{
	Way			way;
	Outcome		(*take) (PGconn *conn, const Message *message);
} MessageWay;

typedef struct Tally
{
	long		orders;
	long		messages;
	long		taken;
	long		ignored;
	long		too_early;
	long		right;
	long		wrong;
} Tally;

/* one way under way; shared by its processes */
typedef struct Part
{
	const MessageWay *way;
	const Message *messages;
	Queue	   *queue;
	atomic_long outcomes[TOO_EARLY + 1];
} Part;

typedef struct Worker
{
	Part	   *part;
	PGconn	   *conn;
} Worker;

static const Row rows[] = {
	ROW("orders", orders),
	ROW("messages sent", messages),
	ROW("messages that wrote their state", taken),
	ROW("messages that changed nothing", ignored),
	ROW("put back: came before its time", too_early),
	BLANK_ROW,
	ROW("orders that end where they should", right),
	ROW("orders that end wrong", wrong),
};

/* How many messages tell the story of an order. */
static int
story_length(int order)
{
	int			length = 0;

	while (length < STORY_LENGTH && stories[order % lengthof(stories)][length] != NULL)
		length++;
	return length;
}

static const char *
story_end(int order)
{
	return stories[order % lengthof(stories)][story_length(order) - 1];
}

/* Writes the state, whatever it is; the trigger, where there is one, has its say. */
static Outcome
upsert(PGconn *conn, const char *sql, const Message *message)
{
	PGresult   *result = query(conn, sql, text_of(message->order), message->state, NULL);
	bool		written = atoi(PQcmdTuples(result)) == 1;

	PQclear(result);
	return written ? TAKEN : IGNORED;
}

#define UPSERT(table) "INSERT INTO messages." table " (id, state) VALUES ($1, $2)" \
	" ON CONFLICT (id) DO UPDATE SET state = excluded.state"

static Outcome
take_naively(PGconn *conn, const Message *message)
{
	return upsert(conn, UPSERT("naive"), message);
}

static Outcome
take_by_trigger(PGconn *conn, const Message *message)
{
	return upsert(conn, UPSERT("trigger"), message);
}

/* One state after the other: a message that is ahead (ID460), or has no order yet (ID404), comes again. */
static Outcome
take_by_advance(PGconn *conn, const Message *message)
{
	PGresult   *result;
	bool		moved;

	if (strcmp(message->state, "created") == 0)
		return upsert(conn, "INSERT INTO messages.advance (id, state) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", message);
	result = query_or_error(conn, "ID404 ID460", "SELECT idem_advance('order', 'messages.advance', 'state', $2, $1::integer)",
							text_of(message->order), message->state, NULL);
	if (result == NULL)
		return TOO_EARLY;
	moved = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	PQclear(result);
	return moved ? TAKEN : IGNORED;
}

static const MessageWay message_ways[] = {
	{{"naive", "upsert,", "as it comes", false}, take_naively},
	{{"trigger", "upsert and", "idem_state", true}, take_by_trigger},
	{{"advance", "insert, then", "idem_advance", true}, take_by_advance},
};

static void
handle(int number, void *arg)
{
	Worker	   *worker = arg;
	Part	   *part = worker->part;
	Outcome		outcome = part->way->take(worker->conn, &part->messages[number]);

	atomic_fetch_add(&part->outcomes[outcome], 1);
	if (outcome != TOO_EARLY)
		queue_acknowledge(part->queue, number);
}

static void
work(int number, void *arg)
{
	Worker		worker = {.part = arg, .conn = connect_or_fail("messages")};

	queue_consume(worker.part->queue, number, handle, &worker);
	PQfinish(worker.conn);
}

static void
watch(void *arg)
{
	Part	   *part = arg;

	show_progress(false, "messages, %-7s %6ld deliveries, %6d messages open", part->way->way.name,
				  atomic_load(&part->queue->deliveries), atomic_load(&part->queue->left));
}

static int
compare_places(const void *a, const void *b)
{
	const Message *x = a;
	const Message *y = b;

	return (x->place > y->place) - (x->place < y->place);
}

/* All messages of so many orders, each twice, in the order in which they arrive. */
static Message *
make_messages(int orders, int *nmessages)
{
	Message    *messages = calloc((size_t) orders * 2 * STORY_LENGTH, sizeof(Message));
	uint64_t	random = seed;
	int			n = 0;

	if (messages == NULL)
		fail("out of memory");
	for (int order = 0; order < orders; order++)
	{
		for (int i = 0; i < 2 * story_length(order); i++)
			messages[n++] = (Message) {order, stories[order % lengthof(stories)][i / 2],
			order + APART * random_fraction(&random)};
	}
	qsort(messages, (size_t) n, sizeof(Message), compare_places);
	*nmessages = n;
	return messages;
}

/* How many orders of a table are in the state that their story ends with. */
static long
count_right(PGconn *conn, const char *table, int orders)
{
	char		sql[KEY_SIZE * 2];
	PGresult   *result;
	long		right = 0;

	snprintf(sql, sizeof(sql), "SELECT id, state FROM messages.%s", table);
	result = query(conn, sql, NULL);
	for (int row = 0; row < PQntuples(result); row++)
	{
		int			order = atoi(PQgetvalue(result, row, 0));

		right += order < orders && strcmp(PQgetvalue(result, row, 1), story_end(order)) == 0;
	}
	PQclear(result);
	return right;
}

/* All messages in one way. */
static void
run_way(PGconn *conn, const MessageWay *way, int workers, int orders, const Message *messages, int nmessages,
		Tally *tally)
{
	Part	   *part = shared_memory(sizeof(Part));
	Crew		crew = {.workers = workers, .work = work, .watch = watch, .arg = part};
	double		started = now_seconds();

	part->way = way;
	part->messages = messages;
	part->queue = queue_make(nmessages, VISIBILITY);
	run_crew(&crew);
	tally->orders = orders;
	tally->messages = nmessages;
	tally->taken = atomic_load(&part->outcomes[TAKEN]);
	tally->ignored = atomic_load(&part->outcomes[IGNORED]);
	tally->too_early = way->way.with_idem ? atomic_load(&part->outcomes[TOO_EARLY]) : NOT_APPLICABLE;
	tally->right = count_right(conn, way->way.name, orders);
	tally->wrong = orders - tally->right;
	show_progress(true, "messages, %-7s done in %.1f s: %ld deliveries", way->way.name,
				  now_seconds() - started, atomic_load(&part->queue->deliveries));
	queue_free(part->queue);
}

int
main(int argc, char **argv)
{
	enum {NWAYS = lengthof(message_ways)};
	int			orders = 3000;
	int			workers = 8;
	const Option options[] = {
		{"orders", "orders, each way", .whole = &orders, .least = 30, .most = 1e6},
		{"workers", "worker processes, a connection each", .whole = &workers, .least = 2, .most = 64},
	};
	const Way  *ways[NWAYS];
	Tally		tallies[NWAYS] = {{0}};
	bool		well = true;
	Message    *messages;
	int			nmessages;
	PGconn	   *conn;

	begin_program("messages");
	read_options(argc, argv, "Moves orders by messages that arrive shuffled and doubled.", options, lengthof(options));
	conn = connect_or_fail("messages account");
	messages = make_messages(orders, &nmessages);
	for (int i = 0; i < NWAYS; i++)
	{
		ways[i] = &message_ways[i].way;
		run_way(conn, &message_ways[i], workers, orders, messages, nmessages, &tallies[i]);
	}
	free(messages);
	PQfinish(conn);

	printf("\n%d connections; each message is sent twice and shuffled among those of %d orders; seed %llu\n\n", workers,
		   APART, (unsigned long long) seed);
	print_table(rows, lengthof(rows), ways, tallies, sizeof(Tally), NWAYS);
	print_wrong("orders that end wrong", &(Row) ROW("", wrong), ways, tallies, sizeof(Tally), NWAYS);
	for (int i = 0; i < NWAYS; i++)
	{
		const Tally *tally = &tallies[i];

		if (!ways[i]->with_idem)
			well &= verdict(tally->wrong > 0, "PROVES NOTHING", "without idem %ld of %ld orders end wrong", tally->wrong,
							tally->orders);
		else
			well &= verdict(tally->wrong == 0, "WRONG", "with %s %ld of %ld orders end where their story does",
							ways[i]->title2, tally->right, tally->orders);
	}
	return well ? 0 : 1;
}
