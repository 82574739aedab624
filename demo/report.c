/*
 * report.c
 *		The table of the orders at the end, the same for machines, and the verdict.
 */
#include "traffic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const Row rows[] = {
	{"orders wanted", offsetof(Run, wanted), "orders_wanted"},
	{"requests sent", offsetof(Run, sent), "requests_sent"},
	{"answers lost", offsetof(Run, lost), "answers_lost"},
	{"told to try again", offsetof(Run, again), "told_again"},
	{"orders made", offsetof(Run, made), "orders_made"},
	{"orders missing", offsetof(Run, missing), "orders_missing"},
	{"doubles", offsetof(Run, doubles), "doubles"},
	{"  of them only by a lost answer", offsetof(Run, doubles_by_retry), "doubles_by_retry"},
	{"replays", offsetof(Run, replays), "replays"},
	{"replays with a different answer", offsetof(Run, different), "different_answers"},
	{"answers that no order gives", offsetof(Run, unfounded), "unfounded_answers"},
	{"products with a wrong stock", offsetof(Run, stock_off), "stock_off"},
	{"errors that no retry cures", offsetof(Run, bugs), "bugs"},
	BLANK_ROW,
	{"sent once more afterwards", offsetof(Run, swept), "sent_once_more"},
	{"retries: old backend still at work", offsetof(Run, met_active), "met_active"},
	{"retries: old transaction still open", offsetof(Run, met_open), "met_open"},
	{"retries: old backend idle or gone", offsetof(Run, met_idle), "met_idle"},
};

static const char *const cut_names[CUT_POINTS] = {
	"before_request", "in_request", "after_request", "before_reply", "in_reply"
};

static const char *const cut_titles[CUT_POINTS] = {
	"before the request went out",
	"in the middle of the request",
	"after the request, not waiting",
	"after the reply came, all kept back",
	"in the middle of the reply"
};

/* What was wanted, sent, made, and got; then where the connections were cut. */
void
report_table(const Run *runs, int nruns)
{
	const Way  *ways[MAX_MODES];

	for (int i = 0; i < nruns; i++)
		ways[i] = &runs[i].mode->way;
	print_table(rows, lengthof(rows), ways, runs, sizeof(Run), nruns);
	print_wrong("orders made twice or more", &(Row) {"", offsetof(Run, doubles), NULL}, ways, runs, sizeof(Run), nruns);

	printf("connections cut, on the request that commits + on an earlier one\n");
	for (int i = 0; i < CUT_POINTS; i++)
	{
		printf("%-36s", cut_titles[i]);
		for (int j = 0; j < nruns; j++)
		{
			char		text[64];

			snprintf(text, sizeof(text), "%ld + %ld", runs[j].at_commit[i], runs[j].earlier[i]);
			printf("%14s", text);
		}
		putchar('\n');
	}
	printf("%-36s", "of these silent, until a deadline");
	for (int j = 0; j < nruns; j++)
		printf("%14ld", runs[j].silent);
	printf("\n\n");
}

/* The totals as json: the rows' names, and the cuts by point. */
void
report_json(const char *path, const Options *options, const Run *runs, int nruns)
{
	FILE	   *out = fopen(path, "w");

	if (out == NULL)
		fail("could not write \"%s\": %s", path, strerror(errno));
	fprintf(out, "{\"clients\": %d, \"fault_rate\": %g, \"twice_rate\": %g, \"seed\": %llu, \"runs\": [",
			options->clients, options->fault_rate, options->twice_rate, (unsigned long long) seed);
	for (int i = 0; i < nruns; i++)
	{
		const Run  *run = &runs[i];

		fprintf(out, "%s\n  {\"mode\": \"%s\", \"with_idem\": %s, \"seconds\": %.3f", i > 0 ? "," : "",
				run->mode->way.name, run->mode->way.with_idem ? "true" : "false", run->seconds);
		for (size_t j = 0; j < (size_t) lengthof(rows); j++)
		{
			if (rows[j].name != NULL)
				fprintf(out, ", \"%s\": %ld", rows[j].name, value_of(run, &rows[j]));
		}
		fprintf(out, ",\n   \"cuts_silent\": %ld, \"cuts\": {", run->silent);
		for (int j = 0; j < CUT_POINTS; j++)
			fprintf(out, "%s\"%s\": {\"at_commit\": %ld, \"earlier\": %ld}", j > 0 ? ", " : "",
					cut_names[j], run->at_commit[j], run->earlier[j]);
		fprintf(out, "}}");
	}
	fprintf(out, "\n]}\n");
	if (fclose(out) != 0)
		fail("could not write \"%s\": %s", path, strerror(errno));
}

/*
 * Is all well? With idem nothing may be wrong. Without it something must be: a control without a double, or controls
 * whose doubles all come from orders that were asked for twice, mean that the faults did not bite, and then the rest
 * proves nothing either.
 */
bool
report_verdict(const Options *options, const Run *runs, int nruns)
{
	bool		well = true;
	bool		controlled = false;
	long		by_retry = 0;

	for (int i = 0; i < nruns; i++)
	{
		const Run  *run = &runs[i];
		long		wrong = run->doubles + run->different;

		controlled |= !run->mode->way.with_idem;
		if (!run->mode->way.with_idem)
			by_retry += run->doubles_by_retry;

		/* these hold without idem, too: they would be mistakes of the demo, or of the server */
		if (run->unfounded + run->stock_off + run->bugs + run->missing > 0 ||
			(run->mode->way.with_idem && wrong > 0))
		{
			printf("WRONG: %s: %ld doubles, %ld orders missing, %ld different answers, %ld answers without an order,"
				   " %ld products with a wrong stock, %ld errors\n", run->mode->way.name, run->doubles, run->missing,
				   run->different, run->unfounded, run->stock_off, run->bugs);
			well = false;
		}
		else if (!run->mode->way.with_idem && run->doubles == 0)
		{
			printf("PROVES NOTHING: %s, without idem, made no double\n", run->mode->way.name);
			well = false;
		}
		else if (run->mode->way.with_idem)
			verdict(true, "", "%s: each of %ld orders made once, %ld replays, all with the first answer byte for byte",
					run->mode->way.name, run->wanted, run->replays);
		else
			verdict(true, "", "%s, a control, made %ld doubles of the same load", run->mode->way.name, run->doubles);
	}
	if (controlled && by_retry == 0 && options->fault_rate > 0)
	{
		printf("PROVES NOTHING: without idem no lost answer made a double\n");
		well = false;
	}
	return well;
}
