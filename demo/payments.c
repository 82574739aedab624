/*
 * payments.c
 *		Failure S3: the payment went through, the answer was lost, the caller pays again.
 *
 * Workers take payments from a broker that delivers again what is not acknowledged soon, and make them at a payment
 * service that refuses, drops the connection before or after it has charged, stays silent, or answers too late. Now and
 * then a worker is killed right after the service has charged. What was charged how often is read from the service's
 * own ledger, at the end.
 *
 * Nothing that runs in a database can make a service outside charge once; what it can do depends on the service:
 *
 * - It recognises a key. Then a payment whose outcome is unknown may be sent again under the same key, by whichever
 *   worker takes the attempt over, and the service answers from its ledger. idem gives the one key, lets one worker at
 *   a time use it, and keeps the answer.
 * - It does not. Then nobody may send such a payment again: under takeover => false it is reported as expired, a human
 *   looks at the service's statement, and settles it: completed if it is there, open again if it is not.
 *
 * The naive worker looks at a column, pays, and updates the column.
 */
#include "demo.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE		0.150	/* seconds a worker waits for the service */
#define VISIBILITY		0.100	/* … until the broker hands a payment to the next worker */
#define LEASE			"300 milliseconds"

/* one way to make a payment, its name the source of its keys; acknowledges the message when nobody need come back */
typedef struct PaymentWay
{
	Way			way;
	void		(*pay) (int payment, void *worker);
} PaymentWay;

/* all from the service's ledger, the database, and the processes */
typedef struct Tally
{
	long		wanted;
	long		deliveries;
	long		requests;
	long		unanswered;
	long		killed;
	long		known;
	long		expired;
	long		found_charged;
	long		found_open;
	long		once;
	long		doubles;
	long		missing;
	long		wrong_records;	/* whose record and ledger do not agree */
} Tally;

/* one way under way; shared by its processes */
typedef struct Part
{
	const PaymentWay *way;
	Queue	   *queue;
	Service    *service;
	int			kill_one_in;
	atomic_int	charged;		/* answers of the service that workers got */
	atomic_bool reported[];		/* payments that wait for a human */
} Part;

typedef struct Worker
{
	Part	   *part;
	PGconn	   *conn;
} Worker;

static const Row rows[] = {
	ROW("payments wanted", wanted),
	ROW("deliveries by the broker", deliveries),
	ROW("requests to the service", requests),
	ROW("requests without an answer in time", unanswered),
	ROW("workers killed after the charge", killed),
	ROW("answered by key, not charged again", known),
	ROW("reported as expired, for a human", expired),
	ROW("  found in the statement: completed", found_charged),
	ROW("  not found: opened again", found_open),
	BLANK_ROW,
	ROW("charged once", once),
	ROW("charged twice or more", doubles),
	ROW("not charged", missing),
	ROW("records that the ledger contradicts", wrong_records),
};

/* Asks the service; one worker in so many dies at the moment at which it has charged. */
static Reply
charge(Worker *worker, int payment, const char *key, char *answer)
{
	Part	   *part = worker->part;
	Reply		reply = service_ask(part->service, payment, key, PATIENCE, answer);

	if (reply == SERVED && atomic_fetch_add(&part->charged, 1) % part->kill_one_in == part->kill_one_in - 1)
		raise(SIGKILL);
	return reply;
}

/* Without idem: look, pay, update. */
static void
pay_naively(int payment, void *arg)
{
	Worker	   *worker = arg;
	const char *id = text_of(payment);
	PGresult   *result = query(worker->conn, "SELECT state FROM payments.payment WHERE id = $1", id, NULL);
	bool		paid = strcmp(PQgetvalue(result, 0, 0), "paid") == 0;
	char		answer[ANSWER_SIZE];

	PQclear(result);
	if (!paid && charge(worker, payment, NULL, answer) == SERVED)
	{
		execute(worker->conn, "UPDATE payments.payment SET state = 'paid' WHERE id = $1", id, NULL);
		paid = true;
	}
	if (paid)
		queue_acknowledge(worker->part->queue, payment);
}

/*
 * Records what became of the work under our fence. Another worker may have taken over while we waited (ID412); then the
 * record is its business.
 */
static bool
record(Worker *worker, const char *sql, const char *seq, const char *fence, const char *answer)
{
	PGresult   *result = query_or_error(worker->conn, "ID412", sql, worker->part->way->way.name, seq, fence, answer, NULL);

	PQclear(result);
	return result != NULL;
}

/* The attempt is ours: pay, and record it. */
static bool
pay_under_fence(Worker *worker, int payment, const char *seq, const char *fence, bool keyed)
{
	char		key[KEY_SIZE];
	char		answer[ANSWER_SIZE];
	Reply		reply;

	snprintf(key, sizeof(key), "%s/%s", worker->part->way->way.name, seq);
	reply = charge(worker, payment, keyed ? key : NULL, answer);
	if (reply == SERVED)
		return record(worker, "SELECT idem_complete($1, $2, $3, $4)", seq, fence, answer);
	/* without a key, only a clear refusal opens the way for another try */
	if (reply == BUSY || keyed)
		record(worker, "SELECT idem_fail($1, $2, $3, $4)", seq, fence, reply == BUSY ? "\"busy\"" : "\"no answer\"");
	return false;
}

/* With idem: ask for the attempt, and do what its status says. */
static void
pay_by_attempt(Worker *worker, int payment, bool keyed)
{
	const char *seq = text_of(payment);
	PGresult   *result = query(worker->conn,
							   "SELECT status, fence FROM idem_begin($1, $2, ttl => '" LEASE "', takeover => $3)",
							   worker->part->way->way.name, seq, keyed ? "true" : "false", NULL);
	const char *status = PQgetvalue(result, 0, 0);
	bool		finished = strcmp(status, "done") == 0;

	if (strcmp(status, "granted") == 0)
		finished = pay_under_fence(worker, payment, seq, PQgetvalue(result, 0, 1), keyed);
	else if (strcmp(status, "expired") == 0)
	{
		atomic_store(&worker->part->reported[payment], true);
		finished = true;
	}
	PQclear(result);
	/* running, or the outcome unknown: the broker comes again */
	if (finished)
		queue_acknowledge(worker->part->queue, payment);
}

/* The service recognises our key, so whoever takes over may ask it again. */
static void
pay_with_key(int payment, void *worker)
{
	pay_by_attempt(worker, payment, true);
}

/* It recognises nothing, so nobody takes over but a human. */
static void
pay_without_key(int payment, void *worker)
{
	pay_by_attempt(worker, payment, false);
}

static const PaymentWay payment_ways[] = {
	{{"naive", "look, pay,", "update", false}, pay_naively},
	{{"key", "key passed", "to service", true}, pay_with_key},
	{{"no key", "service", "has no key", true}, pay_without_key},
};

static void
work(int number, void *arg)
{
	Part	   *part = arg;
	Worker		worker = {.part = part, .conn = connect_or_fail("payments")};

	queue_consume(part->queue, number, part->way->pay, &worker);
	PQfinish(worker.conn);
}

static void
watch(void *arg)
{
	Part	   *part = arg;

	show_progress(false, "payments, %-7s %5ld requests, %4ld without an answer, %4d payments open", part->way->way.name,
				  atomic_load(&part->service->requests), atomic_load(&part->service->unanswered),
				  atomic_load(&part->queue->left));
}

/*
 * What the human does with the payments reported as expired, once nothing is under way at the service: looks each up in
 * the statement, and settles it under the fence that is shown. Answers how many were opened again.
 */
static int
settle_by_hand(PGconn *conn, Part *part, Tally *tally)
{
	const char *source = part->way->way.name;
	int			opened = 0;

	service_settle(part->service);
	for (int payment = 0; payment < part->queue->length; payment++)
	{
		const char *seq = text_of(payment);
		char		answer[ANSWER_SIZE];
		bool		charged = atomic_load(&part->service->ledger[payment].times) > 0;

		if (!atomic_exchange(&part->reported[payment], false))
			continue;
		tally->expired++;
		service_receipt(answer, payment);
		/* its worker may have come back and recorded it after all */
		if (charged)
			execute(conn, "SELECT idem_complete($1, $2, fence, $3) FROM idem_lookup($1, $2) WHERE status = 'expired'",
					source, seq, answer, NULL);
		else
		{
			execute(conn, "SELECT idem_fail($1, $2, fence) FROM idem_lookup($1, $2) WHERE status = 'expired'",
					source, seq, NULL);
			queue_put_back(part->queue, payment);
			opened++;
		}
		tally->found_charged += charged;
		tally->found_open += !charged;
	}
	return opened;
}

/* Does the record say of a payment what the ledger says? */
static bool
record_is_right(PGconn *conn, const Part *part, int payment)
{
	char		answer[ANSWER_SIZE];

	service_receipt(answer, payment);
	if (!part->way->way.with_idem)
		return query_long(conn, "SELECT pg_catalog.count(*) FROM payments.payment WHERE id = $1 AND state = 'paid'",
						  text_of(payment), NULL) == 1;
	return query_long(conn,
					  "SELECT (status = 'done' AND response::text = $3)::integer FROM idem_lookup($1, $2)",
					  part->way->way.name, text_of(payment), answer, NULL) == 1;
}

static void
account(PGconn *conn, const Part *part, const Crew *crew, Tally *tally)
{
	tally->wanted = part->queue->length;
	tally->deliveries = atomic_load(&part->queue->deliveries);
	tally->requests = atomic_load(&part->service->requests);
	tally->unanswered = atomic_load(&part->service->unanswered);
	tally->known = atomic_load(&part->service->known);
	tally->killed = crew->killed;
	if (!part->way->way.with_idem)
		tally->known = tally->expired = tally->found_charged = tally->found_open = NOT_APPLICABLE;
	for (int payment = 0; payment < part->queue->length; payment++)
	{
		int			times = atomic_load(&part->service->ledger[payment].times);

		tally->once += times == 1;
		tally->doubles += times > 1;
		tally->missing += times == 0;
		tally->wrong_records += times > 0 && !record_is_right(conn, part, payment);
	}
}

/* All payments in one way. */
static void
run_way(PGconn *conn, const PaymentWay *way, int payments, int workers, int hit_one_in, Tally *tally)
{
	Part	   *part = shared_memory(sizeof(Part) + (size_t) payments * sizeof(part->reported[0]));
	Crew		crew = {.workers = workers, .work = work, .watch = watch, .arg = part};

	part->way = way;
	part->queue = queue_make(payments, VISIBILITY);
	part->service = service_start(payments, hit_one_in, seed);
	part->kill_one_in = 25;
	do
		run_crew(&crew);
	while (settle_by_hand(conn, part, tally) > 0);
	service_settle(part->service);
	account(conn, part, &crew, tally);
	end_children();				/* the service */
	queue_free(part->queue);
	show_progress(true, "payments, %-7s done: %ld requests, %ld without an answer", way->way.name,
				  tally->requests, tally->unanswered);
}

int
main(int argc, char **argv)
{
	enum {NWAYS = lengthof(payment_ways)};
	int			payments = 400;
	int			workers = 8;
	int			hit_one_in = 4;
	const Option options[] = {
		{"payments", "payments to be made, each way", .whole = &payments, .least = 20, .most = 1e6},
		{"workers", "worker processes", .whole = &workers, .least = 2, .most = 64},
		{"fault-one-in", "so many requests to the service meet one fault", .whole = &hit_one_in, .least = 2, .most = 100},
	};
	const Way  *ways[NWAYS];
	Tally		tallies[NWAYS] = {{0}};
	bool		well = true;
	PGconn	   *conn;

	begin_program("payments");
	read_options(argc, argv, "Makes payments at a service that loses answers.", options, lengthof(options));
	conn = connect_or_fail("payments account");
	execute(conn, "INSERT INTO payments.payment SELECT pg_catalog.generate_series(0, $1::integer - 1)",
			text_of(payments), NULL);
	for (int i = 0; i < NWAYS; i++)
	{
		ways[i] = &payment_ways[i].way;
		run_way(conn, &payment_ways[i], payments, workers, hit_one_in, &tallies[i]);
	}
	PQfinish(conn);

	printf("\n%d workers, one request in %d meets a fault of the service, seed %llu\n\n", workers, hit_one_in,
		   (unsigned long long) seed);
	print_table(rows, lengthof(rows), ways, tallies, sizeof(Tally), NWAYS);
	print_wrong("payments charged twice or more", &(Row) ROW("", doubles), ways, tallies, sizeof(Tally), NWAYS);
	for (int i = 0; i < NWAYS; i++)
	{
		const Tally *tally = &tallies[i];

		if (!ways[i]->with_idem)
			well &= verdict(tally->doubles > 0, "PROVES NOTHING", "%s, without idem, charged %ld of %ld payments twice or"
							" more", ways[i]->name, tally->doubles, tally->wanted);
		else
			well &= verdict(tally->once == tally->wanted && tally->wrong_records == 0, "WRONG",
							"%s: the service's ledger has %ld of %ld payments exactly once; %ld were settled by a human",
							ways[i]->name, tally->once, tally->wanted, tally->expired);
	}
	return well ? 0 : 1;
}
