/*
 * screen.c
 *		What a program is told on its command line, and what it tells: progress, tables, bars, verdicts.
 */
#include "demo.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_OPTIONS		24
#define TITLE_WIDTH		36
#define COLUMN_WIDTH	14
#define BAR_WIDTH		40

/* every program has these two options */
const char *conninfo = "";
uint64_t	seed;

static void
print_usage(FILE *out, const char *purpose, const Option *options, int noptions)
{
	fprintf(out, "usage: %s [option …]\n%s\n\n", program_name(), purpose);
	for (int i = 0; i < noptions; i++)
	{
		const Option *option = &options[i];

		fprintf(out, "  --%-18s %s", option->name, option->help);
		if (option->whole != NULL && *option->whole != 0)
			fprintf(out, " (default %d)", *option->whole);
		if (option->real != NULL && *option->real != 0)
			fprintf(out, " (default %g)", *option->real);
		fputc('\n', out);
	}
	fprintf(out,
			"  --conninfo           the database (default: libpq's)\n"
			"  --seed               of all that is left to chance (default: from the clock, and shown)\n"
			"\n"
			"Status: 0 all is well; 1 idem was wrong, or what it is compared with shows no fault; 2 it could not run.\n");
}

/* A number from the command line, between two bounds. */
static double
read_number(const char *name, const char *text, double least, double most)
{
	char	   *end;
	double		number = strtod(text, &end);

	if (end == text || *end != '\0' || !(number >= least && number <= most))
		fail("--%s must be a number from %g to %g, not \"%s\"", name, least, most, text);
	return number;
}

static void
set_option(const Option *option, const char *text)
{
	if (option->text != NULL)
		*option->text = text;
	else if (option->whole != NULL)
		*option->whole = (int) read_number(option->name, text, option->least, option->most);
	else
		*option->real = read_number(option->name, text, option->least, option->most);
}

/* Reads the command line; --help and mistakes end the program. */
void
read_options(int argc, char **argv, const char *purpose, const Option *options, int noptions)
{
	struct option known[MAX_OPTIONS + 4] = {{.name = NULL}};
	int			chosen;

	seed = ((uint64_t) time(NULL) ^ (uint64_t) getpid()) % 1000000;
	for (int i = 0; i < noptions; i++)
		known[i] = (struct option) {options[i].name, required_argument, NULL, i};
	known[noptions] = (struct option) {"conninfo", required_argument, NULL, MAX_OPTIONS};
	known[noptions + 1] = (struct option) {"seed", required_argument, NULL, MAX_OPTIONS + 1};
	known[noptions + 2] = (struct option) {"help", no_argument, NULL, MAX_OPTIONS + 2};

	while ((chosen = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		if (chosen < noptions)
			set_option(&options[chosen], optarg);
		else if (chosen == MAX_OPTIONS)
			conninfo = optarg;
		else if (chosen == MAX_OPTIONS + 1)
			seed = (uint64_t) read_number("seed", optarg, 0, 1e15);
		else
		{
			bool		asked = chosen == MAX_OPTIONS + 2;

			print_usage(asked ? stdout : stderr, purpose, options, noptions);
			exit(asked ? 0 : 2);
		}
	}
	if (optind < argc)
		fail("unexpected argument \"%s\"", argv[optind]);
}

/* One line that is written over and over on a terminal, and now and then elsewhere, with what idem has counted. done: it is the last. */
void
show_progress(bool done, const char *format,...)
{
	static double shown;
	bool		terminal = isatty(STDERR_FILENO);
	double		now = now_seconds();
	va_list		args;

	if (!done && now < shown + (terminal ? 0.2 : 2.0))
		return;
	shown = now;
	if (terminal)
		fputc('\r', stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs(counted_by_idem(), stderr);
	if (terminal)
		fputs("\033[K", stderr);	/* what a longer line before left there */
	if (!terminal || done)
		fputc('\n', stderr);
	fflush(stderr);
}

/* What begins and ends a colour, on a terminal that has not refused it (NO_COLOR); elsewhere nothing. */
static const char *
colour(const char *sequence)
{
	static int	wanted = -1;

	if (wanted < 0)
		wanted = isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL;
	return wanted ? sequence : "";
}

#define GREEN	colour("\033[32m")
#define RED		colour("\033[31m")
#define PLAIN	colour("\033[0m")

long
value_of(const void *tally, const Row *row)
{
	return *(const long *) ((const char *) tally + row->offset);
}

/* The heads of a table's columns, and a line below them. */
void
print_heads(const Way *const *ways, int nways)
{
	printf("%-*s", TITLE_WIDTH, "");
	for (int i = 0; i < nways; i++)
		printf("%*s", COLUMN_WIDTH, ways[i]->with_idem ? "with idem:" : "without:");
	printf("\n%-*s", TITLE_WIDTH, "");
	for (int i = 0; i < nways; i++)
		printf("%*s", COLUMN_WIDTH, ways[i]->title);
	printf("\n%-*s", TITLE_WIDTH, "");
	for (int i = 0; i < nways; i++)
		printf("%*s", COLUMN_WIDTH, ways[i]->title2);
	putchar('\n');
	for (int i = 0; i < TITLE_WIDTH + COLUMN_WIDTH * nways; i++)
		putchar('-');
	putchar('\n');
}

/* A table of tallies, each so many bytes long, one a column. */
void
print_table(const Row *rows, int nrows, const Way *const *ways, const void *tallies, size_t size, int nways)
{
	print_heads(ways, nways);
	for (int i = 0; i < nrows; i++)
	{
		for (int j = 0; j < nways && rows[i].title != NULL; j++)
		{
			long		value = value_of((const char *) tallies + (size_t) j * size, &rows[i]);

			if (j == 0)
				printf("%-*s", TITLE_WIDTH, rows[i].title);
			if (value == NOT_APPLICABLE)
				printf("%*s", COLUMN_WIDTH, "-");
			else
				printf("%*ld", COLUMN_WIDTH, value);
		}
		putchar('\n');
	}
}

/* A bar, as long as the value is when compared with the greatest one, and a note behind it. */
void
print_bar(const char *title, double value, double most, const char *note)
{
	int			length = most > 0 ? (int) (value / most * BAR_WIDTH + 0.5) : 0;

	printf("%-*s |", TITLE_WIDTH - 2, title);
	for (int i = 0; i < length; i++)
		putchar('#');
	printf(" %.0f%s\n", value, note);
}

/*
 * Bars of what went wrong in each way: a row of the table. For the summary of script/demo they are also added to the file
 * that DEMO_COUNTS names: a line for each, whether the way has idem, the number, and what is counted.
 */
void
print_wrong(const char *what, const Row *row, const Way *const *ways, const void *tallies, size_t size, int nways)
{
	const char *path = getenv("DEMO_COUNTS");
	FILE	   *counts = path != NULL ? fopen(path, "a") : NULL;
	long		most = 0;

	if (path != NULL && counts == NULL)
		fail("could not write \"%s\"", path);
	for (int i = 0; i < nways; i++)
	{
		long		value = value_of((const char *) tallies + (size_t) i * size, row);

		most = value > most ? value : most;
	}
	printf("\n%s\n", what);
	for (int i = 0; i < nways; i++)
	{
		long		value = value_of((const char *) tallies + (size_t) i * size, row);
		const char *first = ways[i]->title;
		char		title[128];

		snprintf(title, sizeof(title), "%s %s%s%s", ways[i]->with_idem ? "with idem:" : "without:", first,
				 *first == '\0' || first[strlen(first) - 1] == '_' ? "" : " ", ways[i]->title2);
		printf("%s", ways[i]->with_idem ? GREEN : RED);
		print_bar(title, (double) value, (double) most, "");
		printf("%s", PLAIN);
		if (counts != NULL)
			fprintf(counts, "%d\t%ld\t%s\n", ways[i]->with_idem, value, what);
	}
	putchar('\n');
	if (counts != NULL && fclose(counts) != 0)
		fail("could not write \"%s\"", path);
}

/* One line of the verdict: ok, or what else it is called. Answers whether all was well. */
bool
verdict(bool well, const char *otherwise, const char *format,...)
{
	va_list		args;

	printf("%s%s%s: ", well ? GREEN : RED, well ? "ok" : otherwise, PLAIN);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	return well;
}
