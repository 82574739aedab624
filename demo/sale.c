/*
 * sale.c
 *		A flash sale: everybody buys the same item at once, until nothing is left.
 *
 * Each client buys one to three pieces at a time, and goes home when it is refused a single one. Four ways: idem's stock
 * in sixteen buckets; one row and a conditional UPDATE, which is right, and as slow as one commit after the other;
 * sixteen rows of which whoever comes takes one that is not locked, which is fast, and turns buyers away whose piece
 * was in a bucket that somebody had locked; and the naive way, read, compare, write, which sells what is not there.
 *
 * What was sold, and whether a refusal was right, is read from the database (sale.sql). How many pieces are offered
 * follows from what the one row can sell in the time there is; the naive way, whose shelf hardly empties, is stopped
 * when it has sold half as much again.
 */
#include "demo.h"

#include <stdio.h>
#include <string.h>

#define BUCKETS				16
#define TRIAL_SECONDS		0.4
#define TRIAL_PIECES		1000000
#define MOST_AT_ONCE		3
#define SHARE_OF_THE_ROW	0.3		/* of the time */

typedef struct Tally
{
	long		offered;
	long		orders;
	long		sold;
	long		oversold;
	long		unsold;
	long		refused;
	long		wrongly_refused;
	long		rate;			/* orders a second */
	double		seconds;
} Tally;

/* one way under way; shared by its processes */
typedef struct Part
{
	const char *way;
	int			clients;
	long		enough;			/* no more is sold than this, and a little */
	double		seconds;		/* and nobody buys longer than this; 0: any time */
	atomic_int	ready;
	atomic_long sold;
	double		started[MAX_WORKERS];
	double		ended[MAX_WORKERS];
} Part;

static const Row rows[] = {
	ROW("pieces offered", offered),
	ROW("orders sold", orders),
	ROW("pieces sold", sold),
	ROW("pieces sold that were not there", oversold),
	ROW("pieces left over", unsold),
	ROW("buyers turned away", refused),
	ROW("  of them while enough was there", wrongly_refused),
	ROW("orders sold a second", rate),
};

static const Way sale_ways[] = {
	{"idem", "idem_stock_", "reserve", true},
	{"row", "one row,", "if enough", false},
	{"skip", "16 rows,", "skip locked", false},
	{"naive", "read, then", "write", false},
};

enum {IDEM, ROW, SKIP, NAIVE, NWAYS};

/* Buys so many pieces; false: turned away. */
static bool
buy(PGconn *conn, const char *way, int client, long number, int pieces)
{
	char		seq[KEY_SIZE];
	const char *values[] = {way, seq, text_of(pieces)};
	PGresult   *result;
	bool		bought;

	snprintf(seq, sizeof(seq), "%d-%ld", client, number);
	result = PQexecPrepared(conn, "buy", 3, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail("%s", PQerrorMessage(conn));
	bought = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	PQclear(result);
	return bought;
}

/* The life of a client: connects, waits for the doors to open, buys until it is refused one piece. */
static void
work(int number, void *arg)
{
	Part	   *part = arg;
	PGconn	   *conn = connect_or_fail("sale");
	uint64_t	random = seed * 1000 + (uint64_t) number;
	bool		open = true;

	PQclear(PQprepare(conn, "buy", "SELECT sale.buy($1, $2, $3::integer)", 0, NULL));
	atomic_fetch_add(&part->ready, 1);
	while (atomic_load(&part->ready) < part->clients)
		sleep_seconds(0.001);
	part->started[number] = now_seconds();
	for (long order = 0; open && atomic_load(&part->sold) < part->enough; order++)
	{
		int			pieces = 1 + random_below(&random, MOST_AT_ONCE);

		if (buy(conn, part->way, number, order, pieces))
			atomic_fetch_add(&part->sold, pieces);
		else
			open = pieces > 1;
		if (part->seconds > 0 && now_seconds() > part->started[number] + part->seconds)
			open = false;
	}
	part->ended[number] = now_seconds();
	PQfinish(conn);
}

static void
watch(void *arg)
{
	Part	   *part = arg;

	show_progress(false, "sale, %-5s %8ld pieces sold", part->way, atomic_load(&part->sold));
}

/* Lets the clients buy; answers how long it took from the first purchase to the last. */
static double
run_clients(Part *part)
{
	Crew		crew = {.workers = part->clients, .work = work, .watch = watch, .arg = part};
	double		first;
	double		last;

	run_crew(&crew);
	first = part->started[0];
	last = part->ended[0];
	for (int i = 1; i < part->clients; i++)
	{
		first = part->started[i] < first ? part->started[i] : first;
		last = part->ended[i] > last ? part->ended[i] : last;
	}
	return last - first;
}

/* Puts pieces on the shelf of a way that is not idem's, in so many buckets. */
static void
fill_shelf(PGconn *conn, const char *way, long pieces, int buckets)
{
	execute(conn,
			"INSERT INTO sale.shelf SELECT $1, b, $2::integer / $3::integer + (b <= $2::integer % $3::integer)::integer"
			" FROM pg_catalog.generate_series(1, $3::integer) AS b", way, text_of(pieces), text_of(buckets), NULL);
}

/* How many pieces the one row sells in so many seconds, by a trial. */
static long
pieces_for(PGconn *conn, int clients, double seconds)
{
	Part	   *part = shared_memory(sizeof(Part));
	double		took;

	part->way = "row";
	part->clients = clients;
	part->enough = TRIAL_PIECES;
	part->seconds = TRIAL_SECONDS;
	fill_shelf(conn, "row", TRIAL_PIECES, 1);
	took = run_clients(part);
	execute(conn, "TRUNCATE sale.shelf, sale.sold, sale.refused", NULL);
	return (long) ((double) atomic_load(&part->sold) / took * seconds) + BUCKETS * MOST_AT_ONCE;
}

/* The sale in one way, and its account. */
static void
run_way(PGconn *conn, const Way *way, int clients, long pieces, Tally *tally)
{
	Part	   *part = shared_memory(sizeof(Part));
	const char *offered = text_of(pieces);

	part->way = way->name;
	part->clients = clients;
	part->enough = pieces + pieces / 2;
	if (way->with_idem)
		execute(conn, "SELECT idem_stock_add('hot', $1, $2)", offered, text_of(BUCKETS), NULL);
	else
		fill_shelf(conn, way->name, pieces, strcmp(way->name, "skip") == 0 ? BUCKETS : 1);
	tally->seconds = run_clients(part);

	tally->offered = pieces;
	tally->orders = query_long(conn, "SELECT pg_catalog.count(*) FROM sale.sales WHERE way = $1", way->name, NULL);
	tally->sold = query_long(conn, "SELECT pg_catalog.sum(pieces) FROM sale.sales WHERE way = $1", way->name, NULL);
	tally->refused = query_long(conn, "SELECT pg_catalog.count(*) FROM sale.refused WHERE way = $1", way->name, NULL);
	tally->wrongly_refused = query_long(conn, "SELECT sale.wrongly_refused($1, $2)", way->name, text_of(pieces), NULL);
	tally->oversold = tally->sold > pieces ? tally->sold - pieces : 0;
	tally->unsold = tally->sold < pieces ? pieces - tally->sold : 0;
	tally->rate = (long) ((double) tally->orders / tally->seconds + 0.5);
	show_progress(true, "sale, %-5s done in %.1f s: %ld pieces sold", way->name, tally->seconds, tally->sold);
}

static void
print_bars(const Tally *tallies)
{
	double		most = 0;

	for (int i = 0; i < NWAYS; i++)
		most = (double) tallies[i].rate > most ? (double) tallies[i].rate : most;
	printf("\norders sold a second\n");
	for (int i = 0; i < NWAYS; i++)
	{
		char		title[KEY_SIZE];

		snprintf(title, sizeof(title), "%s%s%s", sale_ways[i].title, i == IDEM ? "" : " ", sale_ways[i].title2);
		print_bar(title, (double) tallies[i].rate, most, tallies[i].oversold > 0 ? " (oversold)" : "");
	}
}

/* Was each way as right, or as wrong, as it is made to be? */
static bool
judge(const Tally *tallies)
{
	const Tally *idem = &tallies[IDEM];
	const Tally *row = &tallies[ROW];
	const Tally *naive = &tallies[NAIVE];
	bool		well;

	well = verdict(idem->sold == idem->offered && idem->wrongly_refused == 0, "WRONG",
				   "with idem %ld of %ld pieces were sold, %ld of %ld refusals came while enough was there",
				   idem->sold, idem->offered, idem->wrongly_refused, idem->refused);
	well &= verdict(row->sold == row->offered && row->wrongly_refused == 0, "WRONG",
					"one row with a conditional UPDATE sells as exactly; idem sold %.1f times as many orders a second",
					(double) idem->rate / (double) row->rate);
	printf("also: 16 rows with SKIP LOCKED alone turned away %ld buyers while enough was there, and kept %ld pieces\n",
		   tallies[SKIP].wrongly_refused, tallies[SKIP].unsold);
	well &= verdict(naive->oversold > 0, "PROVES NOTHING", "read, then write, sold %ld pieces that were not there,"
					" and was stopped", naive->oversold);
	return well;
}

int
main(int argc, char **argv)
{
	const Way  *ways[NWAYS];
	Tally		tallies[NWAYS] = {{0}};
	int			clients = 16;
	int			pieces = 0;
	double		time = 8;
	const Option options[] = {
		{"clients", "clients, a process and a connection each", .whole = &clients, .least = 2, .most = 64},
		{"pieces", "pieces of the one item, each way", .whole = &pieces, .least = 100, .most = 1e6},
		{"seconds", "without --pieces: time for all ways together", .real = &time, .least = 1, .most = 3600},
	};
	PGconn	   *conn;

	begin_program("sale");
	read_options(argc, argv, "Sells one hot item to everybody at once.", options, lengthof(options));
	conn = connect_or_fail("sale account");
	if (pieces == 0)
		pieces = (int) pieces_for(conn, clients, time * SHARE_OF_THE_ROW);
	for (int i = 0; i < NWAYS; i++)
	{
		ways[i] = &sale_ways[i];
		run_way(conn, &sale_ways[i], clients, pieces, &tallies[i]);
	}
	PQfinish(conn);

	printf("\n%d clients buy one to three pieces at a time until they are refused one; seed %llu\n\n", clients,
		   (unsigned long long) seed);
	print_table(rows, lengthof(rows), ways, tallies, sizeof(Tally), NWAYS);
	print_bars(tallies);
	print_wrong("pieces sold that were not there", &(Row) ROW("", oversold), ways, tallies, sizeof(Tally), NWAYS);
	return judge(tallies) ? 0 : 1;
}
