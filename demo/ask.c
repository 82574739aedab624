/*
 * ask.c
 *		A statement of a client, and its answer, in the time that the client has for it.
 *
 * What an error of the server means the program says (judge_error).
 */
#include "traffic.h"

#include <errno.h>
#include <poll.h>

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

/*
 * Sends a statement and waits for all of its reply, up to the server's word that it is ready for the next: a command
 * tag alone is no answer, since outside a block the commit comes after it. ANSWERED: *result is the caller's to free.
 * With params NULL the statement goes as a simple query.
 */
Outcome
ask(Client *client, const char *sql, int nparams, const char *const *params, PGresult **result)
{
	int			sent = params ? PQsendQueryParams(client->conn, sql, nparams, NULL, params, NULL, NULL, 0)
		: PQsendQuery(client->conn, sql);
	Outcome		outcome = ANSWERED;
	PGresult   *next;

	*result = NULL;
	if (!sent)
		return LOST;
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
