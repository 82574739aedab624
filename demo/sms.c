/*
 * sms.c
 *		Failure S5: a worker is slow to send a text message, so the broker hands the same message to a second worker.
 *
 * Two workers on one queue. The first one gets into trouble at chosen messages: it is stopped (SIGSTOP), as a machine
 * that swaps or a paused virtual machine is, until the other one has dealt with the message, or it is killed. Either
 * happens before it sends or between sending and recording that it did. How often each message went out is read from
 * the ledger of the service that sends them, which knows no keys.
 *
 * With idem a second worker under takeover => false never sends what a silent one may have sent: it reports the message
 * as expired. A worker that was stopped comes back, finds that nobody was granted its message, sends it if it had not,
 * and completes it. One that was killed does not: its messages stay expired, and an operator decides; that they went
 * out or not is known to the service alone.
 *
 * The naive worker looks at a column, sends, and updates the column.
 */
#include "demo.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SOURCE			"sms"
#define PATIENCE		5.0
#define VISIBILITY		0.500	/* seconds until the broker hands a message to the next worker */
#define LEASE			"1 second"
#define TROUBLE_ONE_IN	4		/* even: the broker delivers these messages to the first worker first */

typedef enum Moment
{
	BEFORE_LOOKING,
	BEFORE_SENDING,
	AFTER_SENDING
} Moment;

/* what happens to the first worker, in turns */
static const struct
{
	Moment		moment;
	int			signal;
}			troubles[] = {
	{BEFORE_LOOKING, SIGSTOP},
	{BEFORE_SENDING, SIGSTOP},
	{AFTER_SENDING, SIGSTOP},
	{BEFORE_SENDING, SIGKILL},
	{AFTER_SENDING, SIGKILL},
};

/* one way to send a message; it acknowledges the message when nobody need come back to it */
typedef struct SmsWay
{
	Way			way;
	void		(*send) (int message, void *worker);
} SmsWay;

/* all from the service's ledger, the database, and the processes */
typedef struct Tally
{
	long		wanted;
	long		deliveries;
	long		stalled;
	long		killed;
	long		reported;
	long		once;
	long		doubles;
	long		missing;
	long		expired_sent;
	long		expired_unsent;
	long		wrong_records;	/* neither expired, nor done and sent */
} Tally;

/* one way under way; shared by its processes */
typedef struct Part
{
	const SmsWay *way;
	Queue	   *queue;
	Service    *service;
	atomic_int	at[2];			/* the message at which each worker met its last trouble */
	atomic_int	reported;		/* messages reported as expired */
	atomic_bool met[];			/* messages whose trouble has happened */
} Part;

typedef struct Worker
{
	Part	   *part;
	int			number;
	PGconn	   *conn;
} Worker;

static const Row rows[] = {
	ROW("messages to send", wanted),
	ROW("deliveries by the broker", deliveries),
	ROW("the first worker was stopped", stalled),
	ROW("the first worker was killed", killed),
	ROW("reported as expired meanwhile", reported),
	BLANK_ROW,
	ROW("sent once", once),
	ROW("sent twice or more", doubles),
	ROW("not sent", missing),
	ROW("left to an operator: sent", expired_sent),
	ROW("left to an operator: not sent", expired_unsent),
	ROW("records that the ledger contradicts", wrong_records),
};

/* If this message is to bring trouble at this moment, here it is; once. */
static void
meet_trouble(Worker *worker, int message, Moment moment)
{
	Part	   *part = worker->part;
	int			kind = message / TROUBLE_ONE_IN % lengthof(troubles);

	if (message % TROUBLE_ONE_IN != 0 || troubles[kind].moment != moment)
		return;
	if (atomic_exchange(&part->met[message], true))
		return;
	atomic_store(&part->at[worker->number], message);
	raise(troubles[kind].signal);
}

static bool
send_message(Worker *worker, int message)
{
	char		answer[ANSWER_SIZE];
	bool		sent;

	meet_trouble(worker, message, BEFORE_SENDING);
	sent = service_ask(worker->part->service, message, NULL, PATIENCE, answer) == SERVED;
	meet_trouble(worker, message, AFTER_SENDING);
	return sent;
}

/* Without idem: look, send, update. */
static void
send_naively(int message, void *arg)
{
	Worker	   *worker = arg;
	const char *id = text_of(message);
	PGresult   *result;
	bool		sent;

	meet_trouble(worker, message, BEFORE_LOOKING);
	result = query(worker->conn, "SELECT state FROM sms.message WHERE id = $1", id, NULL);
	sent = strcmp(PQgetvalue(result, 0, 0), "sent") == 0;
	PQclear(result);
	if (!sent && send_message(worker, message))
	{
		execute(worker->conn, "UPDATE sms.message SET state = 'sent' WHERE id = $1", id, NULL);
		sent = true;
	}
	if (sent)
		queue_acknowledge(worker->part->queue, message);
}

/* With idem: only who is granted the attempt sends; nobody takes over. */
static void
send_by_attempt(int message, void *arg)
{
	Worker	   *worker = arg;
	const char *seq = text_of(message);
	PGresult   *result;
	const char *status;
	bool		finished;

	meet_trouble(worker, message, BEFORE_LOOKING);
	result = query(worker->conn,
				   "SELECT status, fence FROM idem_begin($1, $2, ttl => '" LEASE "', takeover => false)",
				   SOURCE, seq, NULL);
	status = PQgetvalue(result, 0, 0);
	finished = strcmp(status, "done") == 0;
	if (strcmp(status, "granted") == 0 && send_message(worker, message))
	{
		execute(worker->conn, "SELECT idem_complete($1, $2, $3)", SOURCE, seq, PQgetvalue(result, 0, 1), NULL);
		finished = true;
	}
	else if (strcmp(status, "expired") == 0)
	{
		atomic_fetch_add(&worker->part->reported, 1);
		finished = true;
	}
	PQclear(result);
	if (finished)
		queue_acknowledge(worker->part->queue, message);
}

static const SmsWay sms_ways[] = {
	{{"naive", "look, send,", "update", false}, send_naively},
	{{"attempt", "takeover", "=> false", true}, send_by_attempt},
};

static void
work(int number, void *arg)
{
	Part	   *part = arg;
	Worker		worker = {.part = part, .number = number, .conn = connect_or_fail("sms")};

	queue_consume(part->queue, number, part->way->send, &worker);
	PQfinish(worker.conn);
}

/* A stopped worker goes on when the other one has dealt with its message. */
static bool
wakes(int number, void *arg)
{
	Part	   *part = arg;

	return queue_is_done(part->queue, atomic_load(&part->at[number]));
}

static void
watch(void *arg)
{
	Part	   *part = arg;

	show_progress(false, "sms, %-7s %4ld requests to send, %4d messages open", part->way->way.name,
				  atomic_load(&part->service->requests), atomic_load(&part->queue->left));
}

/* Enters one message into the account: what the ledger and its record say of it. */
static void
account(PGconn *conn, const Part *part, int message, Tally *tally)
{
	int			times = atomic_load(&part->service->ledger[message].times);
	const char *sql = part->way->way.with_idem ? "SELECT status FROM idem_lookup('" SOURCE "', $1)"
		: "SELECT state FROM sms.message WHERE id = $1";
	PGresult   *result = query(conn, sql, text_of(message), NULL);
	const char *status = PQgetvalue(result, 0, 0);
	bool		expired = strcmp(status, "expired") == 0;
	bool		says_sent = strcmp(status, part->way->way.with_idem ? "done" : "sent") == 0;

	tally->once += times == 1;
	tally->doubles += times > 1;
	tally->missing += times == 0;
	tally->expired_sent += expired && times > 0;
	tally->expired_unsent += expired && times == 0;
	tally->wrong_records += !expired && !(says_sent && times > 0);
	PQclear(result);
}

/* All messages in one way. */
static void
run_way(PGconn *conn, const SmsWay *way, int messages, Tally *tally)
{
	Part	   *part = shared_memory(sizeof(Part) + (size_t) messages * sizeof(part->met[0]));
	Crew		crew = {.workers = 2, .work = work, .watch = watch, .wakes = wakes, .arg = part};

	part->way = way;
	part->queue = queue_make(messages, VISIBILITY);
	part->queue->first_to = 2;
	part->service = service_start(messages, 0, seed);
	run_crew(&crew);
	service_settle(part->service);

	tally->wanted = messages;
	tally->deliveries = atomic_load(&part->queue->deliveries);
	tally->stalled = crew.stalled;
	tally->killed = crew.killed;
	tally->reported = atomic_load(&part->reported);
	for (int message = 0; message < messages; message++)
		account(conn, part, message, tally);
	if (!way->way.with_idem)
		tally->reported = tally->expired_sent = tally->expired_unsent = NOT_APPLICABLE;
	show_progress(true, "sms, %-7s done: %ld requests to send", way->way.name,
				  atomic_load(&part->service->requests));
	end_children();				/* the service */
	queue_free(part->queue);
}

int
main(int argc, char **argv)
{
	enum {NWAYS = lengthof(sms_ways)};
	int			messages = 80;
	const Option options[] = {
		{"messages", "messages to be sent, each way", .whole = &messages, .least = 20, .most = 1e6},
	};
	const Way  *ways[NWAYS];
	Tally		tallies[NWAYS] = {{0}};
	const Tally *naive = &tallies[0];
	const Tally *attempt = &tallies[1];
	bool		well;
	PGconn	   *conn;

	begin_program("sms");
	read_options(argc, argv, "Sends text messages with two workers, of which one stalls.", options, lengthof(options));
	conn = connect_or_fail("sms account");
	execute(conn, "INSERT INTO sms.message SELECT pg_catalog.generate_series(0, $1::integer - 1)",
			text_of(messages), NULL);
	for (int i = 0; i < NWAYS; i++)
	{
		ways[i] = &sms_ways[i].way;
		run_way(conn, &sms_ways[i], messages, &tallies[i]);
	}
	PQfinish(conn);

	printf("\n2 workers; one message in %d gets the first one into trouble\n\n", TROUBLE_ONE_IN);
	print_table(rows, lengthof(rows), ways, tallies, sizeof(Tally), NWAYS);
	print_wrong("messages sent twice or more", &(Row) ROW("", doubles), ways, tallies, sizeof(Tally), NWAYS);
	well = verdict(naive->doubles > 0, "PROVES NOTHING", "without idem %ld of %ld messages were sent twice",
				   naive->doubles, naive->wanted);
	well &= verdict(attempt->doubles == 0 && attempt->wrong_records == 0 &&
					attempt->missing == attempt->expired_unsent, "WRONG",
					"with idem %ld of %ld messages were sent once, and none twice; %ld, whose worker was killed, are expired:"
					" %ld of these sent, %ld not", attempt->once, attempt->wanted,
					attempt->expired_sent + attempt->expired_unsent, attempt->expired_sent, attempt->expired_unsent);
	return well ? 0 : 1;
}
