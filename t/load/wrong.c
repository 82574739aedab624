/*
 * wrong.c
 *		What people write instead of idem, each with one mistake: the oracle must find it, or it proves nothing.
 *
 * They are asked for by --kinds, and leave the same effects in load.effect as the right ones. The pauses make sure that
 * what can go wrong does.
 */
#include "load.h"

#include <stdio.h>
#include <string.h>

/* Looks whether it was done, and does it if not: two who look at the same moment both do it. */
Outcome
try_check(Client *client, Job *job)
{
	const char *params[] = {job->kind->name, job->key, job->client};
	char		there[8];
	Outcome		outcome = run(client, "BEGIN", 0, NULL);

	if (outcome == ANSWERED)
		outcome = ask_value(client, "SELECT EXISTS (SELECT FROM load.effect WHERE kind = $1 AND key = $2)", 2, params,
							there, sizeof(there));
	if (outcome == ANSWERED && there[0] == 'f')
	{
		sleep_seconds(0.010);
		outcome = run(client, "INSERT INTO load.effect (kind, key, client) VALUES ($1, $2, $3)", 3, params);
	}
	return outcome == ANSWERED ? run(client, "COMMIT", 0, NULL) : outcome;
}

/* A lock outside of the transaction: the key is taken in one, the work is done in the next, which may never come. */
Outcome
try_apart(Client *client, Job *job)
{
	const char *params[] = {job->kind->name, job->key, job->client};
	char		taken[8];
	Outcome		outcome;

	outcome = ask_value(client, "WITH taken AS (INSERT INTO load.bare (kind, key) VALUES ($1, $2) ON CONFLICT DO NOTHING"
						" RETURNING 1) SELECT count(*) FROM taken", 2, params, taken, sizeof(taken));
	if (outcome == ANSWERED && taken[0] == '1')
	{
		sleep_seconds(0.010);
		/* long, so that a full disk is full for this one first */
		outcome = run(client, "INSERT INTO load.effect (kind, key, client, body) VALUES ($1, $2, $3, repeat('x', 1000))", 3, params);
	}
	return outcome;
}

/* A batch in the order in which it came: two of them wait for each other. */
Outcome
try_unsorted(Client *client, Job *job)
{
	char		keys[512];
	const char *params[] = {job->kind->name, keys, job->client};

	shuffled_keys(client, job, keys, sizeof(keys));
	return run(client, "WITH taken AS (INSERT INTO load.bare (kind, key)"
			   " SELECT $1, key FROM unnest($2::text[]) AS key WHERE pg_sleep(0.002) IS NOT NULL ON CONFLICT DO NOTHING RETURNING key)"
			   " INSERT INTO load.effect (kind, key, client) SELECT $1, key, $3 FROM taken", 3, params);
}
