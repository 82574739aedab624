/*
 * kinds.c
 *		The requests of the load, one function for each primitive of idem.
 *
 * Each function tries once, from the beginning, as an application would: it does not know what became of the try
 * before. What happens is done with an effect, a row of load.effect, which nothing keeps from being there twice.
 * load.sql has the tables, judge.sql what must be true of them.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TTL				"300 milliseconds"
#define PAUSE			0.010	/* before asking again for what another holds */
#define BATCH			10
#define LEASE			0.300

/* Says what must not be, for the report. */
static Outcome
bug(Client *client, const char *what)
{
	snprintf(client->error, sizeof(client->error), "%s", what);
	return BUG;
}

/* Another holds it: comes again a little later. */
static Outcome
again_later(Client *client)
{
	sleep_seconds(PAUSE * (0.5 + random_fraction(&client->random)));
	return AGAIN;
}

/* What the server reports of a deadlock are statements: these say on which route they are (load.c), for Oracle.pm's log_complaints. */
static const char *
routed(Client *client, const char *directly, const char *through_sql)
{
	return client->number % 2 ? through_sql : directly;
}

#define ROUTED(client, sql) routed(client, sql " -- directly", sql " -- through SQL")

/* An answer that nobody else would compute, and whose white space matters. */
static void
make_answer(Client *client, Job *job)
{
	snprintf(job->answer, sizeof(job->answer), "{\"by\": %s,  \"n\":\"%016llx\"}", job->client,
			 (unsigned long long) random_bits(&client->random));
}

static Outcome
begin(Client *client)
{
	static const char *const levels[] = {"BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"};
	int			level = random_below(&client->random, 16);

	return run(client, level < 2 ? levels[level] : "BEGIN", 0, NULL);
}

/* Commits, directly or in two phases. In the second case the client is the coordinator, see finish_prepared. */
static Outcome
commit(Client *client, const Job *job)
{
	char		sql[128];
	Outcome		outcome;

	if (!two_phase)
		return run(client, "COMMIT", 0, NULL);
	snprintf(sql, sizeof(sql), "PREPARE TRANSACTION '%s-%s-%s'", job->kind->name, job->key, job->client);
	outcome = run(client, sql, 0, NULL);
	if (outcome != ANSWERED)
		return outcome;
	sleep_seconds(0.005);		/* the other participants prepare */
	snprintf(sql, sizeof(sql), "COMMIT PREPARED '%s-%s-%s'", job->kind->name, job->key, job->client);
	return run(client, sql, 0, NULL);
}

/* What a try before may have left prepared is committed: a coordinator must, for it may have promised to. */
Outcome
finish_prepared(Client *client, const Job *job)
{
	char		sql[128];
	char		there[8];
	Outcome		outcome;

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM pg_prepared_xacts WHERE gid = '%s-%s-%s'",
			 job->kind->name, job->key, job->client);
	outcome = ask_value(client, sql, 0, NULL, there, sizeof(there));
	if (outcome != ANSWERED || strcmp(there, "0") == 0)
		return outcome;
	snprintf(sql, sizeof(sql), "COMMIT PREPARED '%s-%s-%s'", job->kind->name, job->key, job->client);
	return run(client, sql, 0, NULL);
}

/* Claims the key; job->first says whether this transaction has it. */
static Outcome
claim(Client *client, Job *job)
{
	char		request[80];
	char		claimed[8];
	const char *params[] = {job->kind->name, job->key, request, random_below(&client->random, 4) ? "true" : "false"};
	Outcome		outcome;

	snprintf(request, sizeof(request), "{\"key\": \"%s\", \"number\": %ld}", job->key, job->number);
	outcome = ask_value(client, ROUTED(client, "SELECT idem_claim($1, $2, $3, wait => $4)"), 4, params, claimed, sizeof(claimed));
	job->first = outcome == ANSWERED && claimed[0] == 't';
	return outcome;
}

/* The effect, and the answer that is recorded for it. */
static Outcome
effect(Client *client, Job *job, const char *amount)
{
	const char *params[] = {job->kind->name, job->key, job->client, amount, job->answer};

	return run(client, "INSERT INTO load.effect (kind, key, client, amount, body) VALUES ($1, $2, $3, $4, $5)", 5, params);
}

static Outcome
respond(Client *client, Job *job)
{
	const char *params[] = {job->kind->name, job->key, job->answer};

	return run(client, ROUTED(client, "SELECT idem_respond($1, $2, $3)"), 3, params);
}

static Outcome
recorded_answer(Client *client, Job *job)
{
	const char *params[] = {job->kind->name, job->key};

	return ask_value(client, "SELECT idem_response($1, $2)", 2, params, job->answer, sizeof(job->answer));
}

/* A transaction of the application's own: claim, work, answer. */
static Outcome
try_claim(Client *client, Job *job)
{
	Outcome		outcome = begin(client);

	if (outcome == ANSWERED)
		outcome = claim(client, job);
	if (outcome == ANSWERED && job->first)
	{
		make_answer(client, job);
		outcome = effect(client, job, NULL);
		if (outcome == ANSWERED)
			outcome = respond(client, job);
	}
	else if (outcome == ANSWERED)
		outcome = recorded_answer(client, job);
	return outcome == ANSWERED ? commit(client, job) : outcome;
}

/* The keys of a batch, which overlaps with those of its neighbours, in any order, as an array. */
void
shuffled_keys(Client *client, const Job *job, char *keys, size_t size)
{
	long		numbers[BATCH];
	int			length = 1;

	for (int i = 0; i < BATCH; i++)
	{
		int			other = random_below(&client->random, i + 1);

		numbers[i] = numbers[other];
		numbers[other] = job->number + i;
	}
	strcpy(keys, "{");
	for (int i = 0; i < BATCH; i++)
		length += snprintf(keys + length, size - (size_t) length, "%s%ld", i ? "," : "", numbers[i]);
	strcat(keys, "}");
}

/* A consumer of messages, in batches. */
static Outcome
try_batch(Client *client, Job *job)
{
	char		keys[32 * BATCH];
	const char *params[] = {job->kind->name, keys, job->client};

	shuffled_keys(client, job, keys, sizeof(keys));
	return run(client, "INSERT INTO load.effect (kind, key, client)"
			   " SELECT $1, seq, $3 FROM idem_claim_batch($1, $2) WHERE claimed", 3, params);
}

/* One round trip. */
static Outcome
try_call(Client *client, Job *job)
{
	char		request[80];
	const char *params[] = {job->kind->name, job->key, request};

	snprintf(request, sizeof(request), "{\"key\": \"%s\", \"number\": %ld}", job->key, job->number);
	return ask_value(client, ROUTED(client, "SELECT idem_call($1, $2, 'load.work', $3)"), 3, params, job->answer, sizeof(job->answer));
}

/* What is done under a lease takes some time; some are stopped until theirs has ended, and go on without knowing it. */
static void
work_under_lease(Client *client, double at_most_late)
{
	bool		stalls = random_below(&client->random, 16) == 0;

	sleep_seconds(random_fraction(&client->random) * (stalls ? at_most_late : 0.020) + (stalls ? LEASE : 0));
}

/* The attempt was granted: records that it was done, with the effect; or gives it back; or goes away. */
static Outcome
finish_attempt(Client *client, Job *job, const char *fence)
{
	const char *params[] = {job->kind->name, job->key, fence, job->answer};
	char		done[8];
	Outcome		outcome;

	switch (random_below(&client->random, 16))
	{
		case 0:
			return AGAIN;
		case 1:
			outcome = run(client, "SELECT idem_fail($1, $2, $3)", 3, params);
			return outcome == ANSWERED ? AGAIN : outcome;
	}
	make_answer(client, job);
	work_under_lease(client, 0.050);
	outcome = run(client, "BEGIN", 0, NULL);
	if (outcome == ANSWERED)
		outcome = ask_value(client, "SELECT idem_complete($1, $2, $3, $4)", 4, params, done, sizeof(done));
	if (outcome == ANSWERED && done[0] != 't')
		return bug(client, "completed by somebody else with my fence");
	if (outcome == ANSWERED)
		outcome = effect(client, job, fence);
	if (outcome == ANSWERED)
		outcome = commit(client, job);
	job->first = outcome == ANSWERED;
	return outcome;
}

/* Work outside of the database: an attempt is granted, done, completed. */
static Outcome
try_attempt(Client *client, Job *job)
{
	const char *params[] = {job->kind->name, job->key, TTL};
	double		asked = now_seconds();
	char		status[16];
	char		fence[24];
	PGresult   *result;
	Outcome		outcome = ask(client, "SELECT status, fence, response FROM idem_begin($1, $2, $3)", 3, params, &result);

	if (outcome != ANSWERED)
		return outcome;
	snprintf(status, sizeof(status), "%s", PQgetvalue(result, 0, 0));
	snprintf(fence, sizeof(fence), "%s", PQgetvalue(result, 0, 1));
	snprintf(job->answer, sizeof(job->answer), "%s", PQgetvalue(result, 0, 2));
	PQclear(result);
	if (strcmp(status, "done") == 0)
		return ANSWERED;
	if (strcmp(status, "running") == 0)
		return again_later(client);
	if (strcmp(status, "granted") != 0)
		return bug(client, "an attempt that nobody failed or cancelled is");
	journal("grant", job, job->key, atol(fence), asked, "");
	return finish_attempt(client, job, fence);
}

/* The lock is held: what it protects is written under its fence, once for each key. */
static Outcome
write_guarded(Client *client, Job *job, const char *name, const char *fence)
{
	const char *params[] = {name, fence, job->key, job->client};
	Outcome		outcome = run(client, "BEGIN", 0, NULL);

	if (outcome == ANSWERED)
		outcome = run(client, "SELECT idem_lock_check($1, $2)", 2, params);
	if (outcome == ANSWERED)
		outcome = claim(client, job);
	if (outcome == ANSWERED && job->first)
	{
		work_under_lease(client, 0.200);
		outcome = effect(client, job, NULL);
	}
	if (outcome == ANSWERED && job->first)
		outcome = run(client, "INSERT INTO load.guarded (name, fence, key, client) VALUES ($1, $2, $3, $4)", 4, params);
	return outcome == ANSWERED ? commit(client, job) : outcome;
}

/* A lock for a flow, checked where the data are; one holder in 32 forgets to give it back. */
static Outcome
try_lock(Client *client, Job *job)
{
	char		name[16];
	char		fence[24];
	const char *params[] = {name, TTL};
	const char *held[] = {name, fence};
	double		asked = now_seconds();
	Outcome		outcome;

	snprintf(name, sizeof(name), "lock %ld", job->number % 8);
	outcome = ask_value(client, "SELECT coalesce(idem_lock($1, $2), 0)", 2, params, fence, sizeof(fence));
	if (outcome != ANSWERED)
		return outcome;
	if (strcmp(fence, "0") == 0)
		return again_later(client);
	journal("grant", job, name, atol(fence), asked, "");
	outcome = write_guarded(client, job, name, fence);
	if (outcome == ANSWERED && random_below(&client->random, 32) > 0)
		outcome = run(client, "SELECT idem_unlock($1, $2)", 2, held);
	return outcome;
}

/* A form that is submitted. */
static Outcome
try_token(Client *client, Job *job)
{
	const char *params[] = {job->token, job->key};
	char		consumed[8];
	Outcome		outcome = take_token(client, job);

	if (outcome == ANSWERED)
		outcome = begin(client);
	if (outcome == ANSWERED)
		outcome = ask_value(client, "SELECT idem_token_consume($1, 'form', $2)", 2, params, consumed, sizeof(consumed));
	job->first = outcome == ANSWERED && consumed[0] == 't';
	if (outcome == ANSWERED && job->first)
		outcome = effect(client, job, NULL);
	return outcome == ANSWERED ? commit(client, job) : outcome;
}

/* A deduction, which one product of the eight soon refuses. */
static Outcome
try_deduct(Client *client, Job *job)
{
	char		product[8];
	char		amount[8];
	char		enough[8];
	const char *params[] = {amount, product};
	Outcome		outcome = begin(client);

	snprintf(product, sizeof(product), "%ld", job->number % 8 + 1);
	snprintf(amount, sizeof(amount), "%ld", job->number % 3 + 1);
	if (outcome == ANSWERED)
		outcome = claim(client, job);
	if (outcome == ANSWERED && job->first)
	{
		outcome = ask_value(client, "SELECT idem_deduct('load.product', 'stock', $1::numeric, $2::int)", 2, params,
							enough, sizeof(enough));
		snprintf(job->answer, sizeof(job->answer), "{\"product\":%s,  \"enough\":\"%s\"}", product, enough);
		if (outcome == ANSWERED)
			outcome = effect(client, job, enough[0] == 't' ? amount : "0");
		if (outcome == ANSWERED)
			outcome = respond(client, job);
	}
	else if (outcome == ANSWERED)
		outcome = recorded_answer(client, job);
	return outcome == ANSWERED ? commit(client, job) : outcome;
}

/* A row that is there once. */
static Outcome
try_insert(Client *client, Job *job)
{
	char		body[64];
	const char *params[] = {job->key, body};
	PGresult   *result;
	Outcome		outcome;

	snprintf(body, sizeof(body), "%s, %016llx", job->client, (unsigned long long) random_bits(&client->random));
	outcome = ask(client, "SELECT inserted, stored::text FROM idem_insert(ROW(NULL, $1, $2)::load.thing)", 2, params, &result);
	if (outcome != ANSWERED)
		return outcome;
	job->first = PQgetvalue(result, 0, 0)[0] == 't';
	snprintf(job->answer, sizeof(job->answer), "%s", PQgetvalue(result, 0, 1));
	PQclear(result);
	return ANSWERED;
}

/* A document is read, and later changed if nobody else has changed it: within one claim, so that it is once. */
static Outcome
try_version(Client *client, Job *job)
{
	char		doc[8];
	char		n[24];
	char		version[24];
	const char *params[] = {doc, n, version};
	PGresult   *result;
	Outcome		outcome;

	snprintf(doc, sizeof(doc), "%ld", job->number % 16 + 1);
	outcome = ask(client, "SELECT n, version FROM load.doc WHERE id = $1", 1, params, &result);
	if (outcome != ANSWERED)
		return outcome;
	snprintf(n, sizeof(n), "%s", PQgetvalue(result, 0, 0));
	snprintf(version, sizeof(version), "%s", PQgetvalue(result, 0, 1));
	PQclear(result);

	outcome = run(client, "BEGIN", 0, NULL);
	if (outcome == ANSWERED)
		outcome = claim(client, job);
	if (outcome == ANSWERED && job->first)
	{
		outcome = ask_value(client, "UPDATE load.doc SET n = $2::bigint + 1, version = $3 WHERE id = $1 RETURNING version",
							3, params, version, sizeof(version));
		snprintf(job->answer, sizeof(job->answer), "{\"doc\": %s,\"version\":  %s}", doc, version);
		if (outcome == ANSWERED)
			outcome = effect(client, job, version);
		if (outcome == ANSWERED)
			outcome = respond(client, job);
	}
	else if (outcome == ANSWERED)
		outcome = recorded_answer(client, job);
	return outcome == ANSWERED ? commit(client, job) : outcome;
}

/* A message that says in which state a document is, from a sender that knows nothing of the others. */
static Outcome
upsert_state(Client *client, Job *job, const char *state)
{
	const char *params[] = {job->key, state};

	return run(client, "INSERT INTO load.document (key, status) VALUES ($1, $2)"
			   " ON CONFLICT (key) DO UPDATE SET status = excluded.status", 2, params);
}

static Outcome
advance_state(Client *client, Job *job, const char *state)
{
	const char *params[] = {job->key, state};
	char		moved[8];
	Outcome		outcome = ask_value(client, "SELECT idem_advance('load', 'load.document', 'status', $2, $1::text)", 2, params,
									moved, sizeof(moved));

	if (outcome == ANSWERED && moved[0] == 't')
		journal("won", job, state, NO_FENCE, 0, "");
	return outcome;
}

/* A document's life, with a message that comes late. */
static Outcome
try_state(Client *client, Job *job)
{
	Outcome		outcome = upsert_state(client, job, "created");

	if (outcome == ANSWERED && job->number % 4 == 0)
		return advance_state(client, job, "cancelled");
	if (outcome == ANSWERED)
		outcome = advance_state(client, job, "paid");
	if (outcome == ANSWERED)
		outcome = upsert_state(client, job, "created");
	if (outcome == ANSWERED)
		outcome = advance_state(client, job, "shipped");
	return outcome;
}

/* An order's decision: true once. */
static Outcome
decide(Client *client, Job *job, const char *sql)
{
	const char *params[] = {job->kind->name, job->key};
	char		now[8];
	Outcome		outcome = ask_value(client, sql, 2, params, now, sizeof(now));

	job->first = outcome == ANSWERED && now[0] == 't';
	return outcome;
}

/* An order holds one item or two, and then is confirmed, released, or left. */
static Outcome
try_stock(Client *client, Job *job)
{
	char		item[16];
	char		items[48];
	char		quantity[8];
	char		quantities[24];
	const char *one[] = {job->kind->name, job->key, item, quantity};
	const char *two[] = {job->kind->name, job->key, items, quantities};
	char		held[8];
	Outcome		outcome;

	snprintf(item, sizeof(item), "item %ld", job->number % 5);
	snprintf(items, sizeof(items), "{item %ld,item %ld}", job->number % 5, (job->number + 1) % 5);
	snprintf(quantity, sizeof(quantity), "%ld", job->number % 3 + 1);
	snprintf(quantities, sizeof(quantities), "{%s,1}", quantity);
	if (job->number % 4 < 3)
		outcome = ask_value(client, "SELECT idem_stock_reserve($1, $2, $3::text, $4::numeric)", 4, one, held, sizeof(held));
	else
		outcome = ask_value(client, "SELECT idem_stock_reserve_items($1, $2, $3::text[], $4::numeric[])", 4, two, held, sizeof(held));
	if (outcome != ANSWERED)
		return outcome;
	if (held[0] != 't' && job->number % 4 != 1)
		return bug(client, "refused, and there is enough");
	if (job->number % 4 == 0)
		return ANSWERED;
	return decide(client, job, job->number % 4 == 1 ? "SELECT idem_stock_release($1, $2)" : "SELECT idem_stock_confirm($1, $2)");
}

const Kind	load_kinds[] = {
	{"claim", false, try_claim},
	{"batch", false, try_batch},
	{"call", false, try_call},
	{"attempt", false, try_attempt},
	{"lock", false, try_lock},
	{"token", false, try_token},
	{"deduct", false, try_deduct},
	{"insert", false, try_insert},
	{"version", false, try_version},
	{"state", false, try_state},
	{"stock", false, try_stock},
	{"check", true, try_check},
	{"apart", true, try_apart},
	{"unsorted", true, try_unsorted},
	{NULL, false, NULL}
};
