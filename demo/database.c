/*
 * database.c
 *		Statements whose failure ends the program, for all that does not lose its connection on purpose.
 *
 * Values follow the SQL as texts, closed by NULL.
 */
#include "demo.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_VALUES	8

/* Tries to connect to the host, or where conninfo says if host is NULL. */
static PGconn *
try_to_connect(const char *application, const char *host, const char *port)
{
	/* the later ones override what conninfo says */
	const char *keywords[] = {"dbname", "application_name", "connect_timeout",
		host ? "host" : NULL, "hostaddr", "port", NULL};
	const char *values[] = {conninfo, application, "10", host, "", port, NULL};

	return PQconnectdbParams(keywords, values, 1);
}

/* A connection to the host; NULL if there is none to be had. */
PGconn *
connect_to(const char *application, const char *host, const char *port)
{
	PGconn	   *conn = try_to_connect(application, host, port);

	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	PQfinish(conn);
	return NULL;
}

/* A connection where conninfo says, for those who cannot do without. */
PGconn *
connect_or_fail(const char *application)
{
	PGconn	   *conn = try_to_connect(application, NULL, NULL);

	if (PQstatus(conn) != CONNECTION_OK)
		fail("%s", PQerrorMessage(conn));
	return conn;
}

/* The result; NULL for an error that is expected, a list of SQLSTATEs; any other ends the process. */
static PGresult *
run_query(PGconn *conn, const char *expected, const char *sql, va_list args)
{
	const char *values[MAX_VALUES];
	const char *value;
	int			n = 0;
	PGresult   *result;
	const char *sqlstate;

	while ((value = va_arg(args, const char *)) != NULL)
	{
		if (n == MAX_VALUES)
			fail("too many values for: %s", sql);
		values[n++] = value;
	}
	result = PQexecParams(conn, sql, n, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK)
		return result;
	sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	if (expected == NULL || sqlstate == NULL || strstr(expected, sqlstate) == NULL)
		fail("%sin: %s", PQerrorMessage(conn), sql);
	PQclear(result);
	return NULL;
}

PGresult *
query(PGconn *conn, const char *sql,...)
{
	PGresult   *result;
	va_list		args;

	va_start(args, sql);
	result = run_query(conn, NULL, sql, args);
	va_end(args);
	return result;
}

/* The same; NULL if it fails with one of these SQLSTATEs. */
PGresult *
query_or_error(PGconn *conn, const char *sqlstates, const char *sql,...)
{
	PGresult   *result;
	va_list		args;

	va_start(args, sql);
	result = run_query(conn, sqlstates, sql, args);
	va_end(args);
	return result;
}

/* Its rows are of no interest. */
void
execute(PGconn *conn, const char *sql,...)
{
	va_list		args;

	va_start(args, sql);
	PQclear(run_query(conn, NULL, sql, args));
	va_end(args);
}

/* It answers one number. */
long
query_long(PGconn *conn, const char *sql,...)
{
	PGresult   *result;
	va_list		args;
	long		number;

	va_start(args, sql);
	result = run_query(conn, NULL, sql, args);
	va_end(args);
	number = atol(PQgetvalue(result, 0, 0));
	PQclear(result);
	return number;
}

/* A number as a value; the text lasts for MAX_VALUES more calls. */
const char *
text_of(long number)
{
	static char texts[MAX_VALUES][24];
	static int	next;
	char	   *text = texts[next++ % MAX_VALUES];

	snprintf(text, sizeof(texts[0]), "%ld", number);
	return text;
}

/*
 * What idem has counted of the part until now, for the progress; empty if that is not to be had. By a connection of
 * its own each time: the parent, who shows progress, goes on forking workers.
 */
const char *
counted_by_idem(void)
{
	static char text[96];
	PGconn	   *conn = connect_to("counters", NULL, NULL);
	PGresult   *result;

	text[0] = '\0';
	if (conn == NULL)
		return text;
	result = PQexec(conn,
					"SELECT sum(count), sum(count) FILTER (WHERE outcome = 'duplicate'),"
					" sum(count) FILTER (WHERE outcome IN ('other request', 'busy', 'gone', 'expired', 'stale', 'refused', 'lost', 'limited', 'short'))"
					" FROM idem_stat WHERE kind <> 'purge' AND outcome NOT IN ('completed', 'failed', 'confirmed', 'released')");
	if (PQresultStatus(result) == PGRES_TUPLES_OK && !PQgetisnull(result, 0, 0))
		snprintf(text, sizeof(text), "; idem: %s came in, %ld duplicates, %ld refused", PQgetvalue(result, 0, 0),
				 atol(PQgetvalue(result, 0, 1)), atol(PQgetvalue(result, 0, 2)));
	PQclear(result);
	PQfinish(conn);
	return text;
}
