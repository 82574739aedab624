/*
 * orders.c
 *		Four ways to make the same order, and the account of what came of them.
 *
 * Each way is one function that tries once, on a connection that may break at any point, and says how the try ended.
 * The client loop in traffic.c repeats it until there is an answer. A new kind of traffic is another such function and
 * another row in the table at the end of the modes.
 *
 * The account trusts nobody: orders, doubles and stock are counted in the database, answers are compared as bytes with
 * each other and with what the database says about the order.
 */
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE "web"

/* Copies a one-value result into the answer, and frees it; a BUG if there is no such value. */
static Outcome
take_answer(Client *client, PGresult *result, const char *what, char *answer)
{
	Outcome		outcome = ANSWERED;

	if (PQntuples(result) != 1 || PQgetisnull(result, 0, 0) || PQgetlength(result, 0, 0) >= ANSWER_SIZE)
	{
		snprintf(client->error, sizeof(client->error), "%s gave no answer", what);
		outcome = BUG;
	}
	else
		strcpy(answer, PQgetvalue(result, 0, 0));
	PQclear(result);
	return outcome;
}

/* Sends one statement whose rows are of no interest. */
static Outcome
run(Client *client, const char *sql, int nparams, const char *const *params)
{
	PGresult   *result;
	Outcome		outcome = ask(client, sql, nparams, params, &result);

	if (outcome == ANSWERED)
		PQclear(result);
	return outcome;
}

/* The work itself, inside the caller's transaction: the order, its answer, and one product less. */
static Outcome
make_order(Client *client, const Request *request, char *answer)
{
	const char *order[] = {request->key, request->product};
	const char *stock[] = {request->product};
	PGresult   *result;
	Outcome		outcome;

	outcome = ask(client, "INSERT INTO demo.orders (client_key, product) VALUES ($1, $2) RETURNING answer",
				  2, order, &result);
	if (outcome != ANSWERED)
		return outcome;
	outcome = take_answer(client, result, "the new order", answer);
	if (outcome != ANSWERED)
		return outcome;
	return run(client, "UPDATE demo.product SET stock = stock - 1 WHERE id = $1", 1, stock);
}

/* With idem, one round trip: claim, work, answer and commit are one statement. */
static Outcome
order_by_call(Client *client, const Request *request, char *answer)
{
	const char *params[] = {SOURCE, request->key, request->json};
	PGresult   *result;
	Outcome		outcome = ask(client, "SELECT idem_call($1, $2, 'demo.create_order', $3)", 3, params, &result);

	return outcome == ANSWERED ? take_answer(client, result, "idem_call", answer) : outcome;
}

/* With idem, a transaction of the application's own. One try in four does not wait for a rival but comes again. */
static Outcome
order_by_claim(Client *client, const Request *request, char *answer)
{
	const char *claim[] = {SOURCE, request->key, request->json, random_below(&client->random, 4) ? "true" : "false"};
	const char *respond[] = {SOURCE, request->key, answer};
	PGresult   *result;
	Outcome		outcome;
	bool		first;

	outcome = run(client, "BEGIN", 0, NULL);
	if (outcome != ANSWERED)
		return outcome;
	outcome = ask(client, "SELECT idem_claim($1, $2, $3, wait => $4)", 4, claim, &result);
	if (outcome != ANSWERED)
		return outcome;
	first = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	PQclear(result);
	if (first)
	{
		outcome = make_order(client, request, answer);
		if (outcome == ANSWERED)
			outcome = run(client, "SELECT idem_respond($1, $2, $3)", 3, respond);
	}
	else
	{
		outcome = ask(client, "SELECT idem_response($1, $2)", 2, claim, &result);
		if (outcome == ANSWERED)
			outcome = take_answer(client, result, "idem_response of a key that was taken", answer);
	}
	return outcome == ANSWERED ? run(client, "COMMIT", 0, NULL) : outcome;
}

/* Without idem: the plain transaction. It is correct in itself, and knows nothing of the try before. */
static Outcome
order_plainly(Client *client, const Request *request, char *answer)
{
	Outcome		outcome = run(client, "BEGIN", 0, NULL);

	if (outcome == ANSWERED)
		outcome = make_order(client, request, answer);
	return outcome == ANSWERED ? run(client, "COMMIT", 0, NULL) : outcome;
}

/*
 * Without idem, the popular way: look whether the order is there, make it if not. It answers most repetitions well,
 * and fails whenever the other try has not committed yet at the moment of looking.
 */
static Outcome
order_by_check(Client *client, const Request *request, char *answer)
{
	const char *params[] = {request->key};
	PGresult   *result;
	Outcome		outcome;

	outcome = run(client, "BEGIN", 0, NULL);
	if (outcome != ANSWERED)
		return outcome;
	outcome = ask(client, "SELECT answer FROM demo.orders WHERE client_key = $1 ORDER BY id LIMIT 1",
				  1, params, &result);
	if (outcome != ANSWERED)
		return outcome;
	if (PQntuples(result) > 0)
		outcome = take_answer(client, result, "the order that is there", answer);
	else
	{
		PQclear(result);
		outcome = make_order(client, request, answer);
	}
	return outcome == ANSWERED ? run(client, "COMMIT", 0, NULL) : outcome;
}

const Mode	order_modes[] = {
	{{"call", "", "idem_call", true}, order_by_call},
	{{"claim", "idem_claim", "idem_respond", true}, order_by_claim},
	{{"plain", "", "plain", false}, order_plainly},
	{{"check", "select, then", "insert", false}, order_by_check},
};
const int	order_nmodes = sizeof(order_modes) / sizeof(order_modes[0]);

/* How many products there are; they are numbered from 1. */
int
order_products(PGconn *conn)
{
	int			products = (int) query_long(conn, "SELECT pg_catalog.count(*) FROM demo.product", NULL);

	if (products == 0)
		fail("demo.product is empty");
	return products;
}

/* The key under which a client asks for its order: the same in all its tries, and never used by another run. */
void
order_key(char *key, const char *run_name, int number)
{
	snprintf(key, KEY_SIZE, "%s-%06d", run_name, number);
}

/* The request as json. Every other try writes its fields in the other order, as a client library may. */
void
order_request(char *json, size_t size, const char *key, const char *product, int try)
{
	if (try % 2 == 0)
		snprintf(json, size, "{\"key\": \"%s\", \"product\": %s}", key, product);
	else
		snprintf(json, size, "{\"product\": %s, \"key\": \"%s\"}", product, key);
}

/* The stock of each product, by number. */
long *
order_stock(PGconn *conn, int nproducts)
{
	PGresult   *result = query(conn, "SELECT stock FROM demo.product ORDER BY id", NULL);
	long	   *stock = calloc((size_t) nproducts, sizeof(long));

	if (PQntuples(result) != nproducts || stock == NULL)
		fail("could not read the stock");
	for (int i = 0; i < nproducts; i++)
		stock[i] = atol(PQgetvalue(result, i, 0));
	PQclear(result);
	return stock;
}

/* How many requests asked for each order. */
static int *
count_tasks(const Shared *shared, int ntasks, int nkeys)
{
	int		   *asked = calloc((size_t) nkeys, sizeof(int));

	if (asked == NULL)
		fail("out of memory");
	for (int i = 0; i < ntasks; i++)
	{
		if (shared->tasks[i].taken)
			asked[shared->tasks[i].key]++;
	}
	return asked;
}

/* Counts the orders of this run, and what its products lost. *first_row: where the orders of each key begin, or -1. */
static void
account_orders(PGresult *orders, const char *run_name, const int *asked, int nkeys,
			   int *first_row, long *sold, Run *run)
{
	size_t		prefix = strlen(run_name) + 1;

	for (int i = 0; i < nkeys; i++)
		first_row[i] = -1;
	for (int row = 0; row < PQntuples(orders); row++)
	{
		int			key = atoi(PQgetvalue(orders, row, 0) + prefix);

		if (key < 0 || key >= nkeys || asked[key] == 0)
			fail("order \"%s\" was made and never asked for", PQgetvalue(orders, row, 0));
		sold[atoi(PQgetvalue(orders, row, 1)) - 1]++;
		run->made++;
		if (first_row[key] < 0)
			first_row[key] = row;
		else
		{
			run->doubles++;
			run->doubles_by_retry += asked[key] == 1;
		}
	}
	for (int i = 0; i < nkeys; i++)
	{
		run->wanted += asked[i] > 0;
		run->missing += asked[i] > 0 && first_row[i] < 0;
	}
}

/* Does any order of this key, from this row on, give this answer? */
static bool
answer_is_founded(PGresult *orders, int row, const char *answer)
{
	for (int i = row; i >= 0 && i < PQntuples(orders); i++)
	{
		if (strcmp(PQgetvalue(orders, i, 0), PQgetvalue(orders, row, 0)) != 0)
			break;
		if (strcmp(PQgetvalue(orders, i, 2), answer) == 0)
			return true;
	}
	return false;
}

/* Compares the answers: with the first one of the same order, and with the orders in the database. */
static void
account_answers(PGresult *orders, const Shared *shared, int ntasks, int nkeys, const int *first_row, Run *run)
{
	const char **first = calloc((size_t) nkeys, sizeof(char *));

	if (first == NULL)
		fail("out of memory");
	for (int i = 0; i < ntasks; i++)
	{
		const Task *task = &shared->tasks[i];

		if (!task->answered)
			continue;
		run->unfounded += !answer_is_founded(orders, first_row[task->key], task->answer);
		if (first[task->key] == NULL)
			first[task->key] = task->answer;
		else
		{
			run->replays++;
			run->different += strcmp(first[task->key], task->answer) != 0;
		}
	}
	free(first);
}

/*
 * The account of a run, when all its clients and all their backends have finished. The first ntasks tasks are its
 * load, the run->swept ones behind them sent each order once more.
 */
void
order_account(PGconn *conn, const char *run_name, const Shared *shared, int ntasks, int nkeys,
			  const long *stock_before, int nproducts, Run *run)
{
	PGresult   *orders;
	int		   *asked = count_tasks(shared, ntasks, nkeys);
	int		   *first_row = calloc((size_t) nkeys, sizeof(int));
	long	   *sold = calloc((size_t) nproducts, sizeof(long));
	long	   *stock = order_stock(conn, nproducts);

	if (first_row == NULL || sold == NULL)
		fail("out of memory");
	orders = query(conn,
				   "SELECT client_key, product, answer FROM demo.orders"
				   " WHERE pg_catalog.starts_with(client_key, $1 || '-') ORDER BY client_key, id", run_name, NULL);

	account_orders(orders, run_name, asked, nkeys, first_row, sold, run);
	account_answers(orders, shared, ntasks + (int) run->swept, nkeys, first_row, run);
	for (int i = 0; i < nproducts; i++)
		run->stock_off += stock[i] + sold[i] != stock_before[i];

	PQclear(orders);
	free(asked);
	free(first_row);
	free(sold);
	free(stock);
}
