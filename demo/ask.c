/*
 * ask.c
 *		A statement of a client, and its answer, in the time that the client has for it.
 *
 * What an error of the server means the program says (judge_error).
 */
#include "traffic.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Waits until the server says something. False: the deadline has passed, or the connection is gone. */
static bool
await_input(Client *client)
{
	struct pollfd fd = {.fd = PQsocket(client->conn), .events = POLLIN};
	double		left = client->deadline - now_seconds();

	if (left <= 0)
		return false;
	if (poll(&fd, 1, (int) (left * 1000) + 1) < 0 && errno != EINTR)
		return false;
	return fd.revents == 0 || PQconsumeInput(client->conn);
}

/* Waits for all of a reply. ANSWERED: *result is the caller's to free. */
static Outcome
await_reply(Client *client, const char *sql, PGresult **result)
{
	Outcome		outcome = ANSWERED;
	PGresult   *next;

	*result = NULL;
	for (;;)
	{
		while (PQisBusy(client->conn))
		{
			if (!await_input(client))
			{
				PQclear(*result);
				return LOST;
			}
		}
		next = PQgetResult(client->conn);
		if (next == NULL)
			break;
		PQclear(*result);
		*result = next;
		if (outcome == ANSWERED &&
			PQresultStatus(next) != PGRES_TUPLES_OK && PQresultStatus(next) != PGRES_COMMAND_OK)
			outcome = judge_error(client, next, sql);
	}
	if (outcome == ANSWERED && *result == NULL)
		outcome = LOST;
	if (outcome != ANSWERED)
		PQclear(*result);
	return outcome;
}

/* Prepares a statement unless this connection has, and sends it by its name; *sent is false if the connection is gone. */
static Outcome
send_prepared(Client *client, const char *sql, int nparams, const char *const *params, int *sent)
{
	Prepared   *prepared = client->prepared;
	char		name[16];
	int			n = 0;

	while (n < prepared->count && strcmp(prepared->text[n], sql) != 0)
		n++;
	snprintf(name, sizeof(name), "s%d", n);
	if (n == prepared->count)
	{
		PGresult   *result;
		Outcome		outcome;

		*sent = PQsendPrepare(client->conn, name, sql, nparams, NULL);
		if (!*sent)
			return ANSWERED;
		outcome = await_reply(client, sql, &result);
		if (outcome != ANSWERED)
			return outcome;
		PQclear(result);
		prepared->text[n] = strdup(sql);
		prepared->count++;
	}
	*sent = PQsendQueryPrepared(client->conn, name, nparams, params, NULL, NULL, 0);
	return ANSWERED;
}

/* The connection is gone, and with it what it had prepared. */
void
forget_prepared(Client *client)
{
	while (client->prepared && client->prepared->count > 0)
		free(client->prepared->text[--client->prepared->count]);
}

/*
 * Sends a statement and waits for all of its reply, up to the server's word that it is ready for the next: a command
 * tag alone is no answer, since outside a block the commit comes after it. ANSWERED: *result is the caller's to free.
 * With params NULL the statement goes as a simple query.
 */
Outcome
ask(Client *client, const char *sql, int nparams, const char *const *params, PGresult **result)
{
	int			sent;

	if (params && client->prepared && client->prepared->count < MAX_PREPARED)
	{
		Outcome		outcome = send_prepared(client, sql, nparams, params, &sent);

		if (outcome != ANSWERED)
			return outcome;
	}
	else
		sent = params ? PQsendQueryParams(client->conn, sql, nparams, NULL, params, NULL, NULL, 0)
			: PQsendQuery(client->conn, sql);
	if (!sent)
		return LOST;
	return await_reply(client, sql, result);
}
