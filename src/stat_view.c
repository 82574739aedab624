/*-------------------------------------------------------------------------
 *
 * stat_view.c
 *	  The counters as rows: views idem_stat and idem_stat_run.
 *
 * The contract.  A row for each kind, source and outcome of this database that
 * was ever counted or waited for; of the TOP_SOURCES busiest sources, while
 * those of the others are summed under source null, where locks and tokens are
 * anyway.  An outcome of null has the waits of calls that came to nothing
 * that is counted.
 *
 * Each number is read at once, but not all of them at the same instant: what
 * is counted meanwhile may be in one row and not yet in another.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stat.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define TOP_SOURCES		200

/* The counters of a slot. */
typedef struct Counters
{
	uint64		count[IDEM_STAT_CELLS];
	uint64		waits[IDEM_STAT_CELLS];
	uint64		wait_usecs[IDEM_STAT_CELLS];
} Counters;

/* A source, and what was counted for it of each kind. */
typedef struct Source
{
	char	   *name;			/* not terminated */
	int			len;
	uint64		business;
	Counters   *kinds[IDEM_STAT_KINDS]; /* NULL: nothing of that kind */
} Source;

/* A slot as it was read. */
typedef struct Reading
{
	IdemStatKind kind;
	int			len;
	char		name[IDEM_SOURCE_MAX];
	Counters	counters;
} Reading;

static const char *const kind_names[IDEM_STAT_KINDS] = {
	"claim", "attempt", "lock", "token", "stock", "purge"
};

static const char *const outcome_names[IDEM_STAT_KINDS][IDEM_STAT_OUTCOMES] = {
	{"first", "duplicate", "other request", "busy", "gone"},
	{"granted", "taken over", "expired", "completed", "failed", "stale"},
	{"granted", "refused", "lost"},
	{"issued", "consumed", "refused", "limited"},
	{"reserved", "short", "confirmed", "released", "expired"},
	{"runs", "rows"}
};

static const char *const run_names[] = {"purge", "expire"};

static Reading **read_slots(int *n);
static Source *group_by_source(Reading **readings, int n, int *nsources);
static void add_counters(Source *source, IdemStatKind kind,
						 const Counters *counters);
static void put_source(ReturnSetInfo *rsinfo, const Source *source,
					   TimestampTz since);
static void say_why_empty(void);
static int	compare_names(const char *a, int alen, const char *b, int blen);
static int	compare_readings(const void *a, const void *b);
static int	compare_business(const void *a, const void *b);

PG_FUNCTION_INFO_V1(idem_stat_counters);
PG_FUNCTION_INFO_V1(idem_stat_runs);
PG_FUNCTION_INFO_V1(idem_stat_reset);


/*
 * idem_stat_counters() -> setof (kind, source, outcome, count, waits,
 *								  wait_seconds, stats_since)
 *
 * The rows of view idem_stat.
 */
Datum
idem_stat_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz since;
	Reading   **readings;
	Source	   *sources;
	Source		rest = {.name = NULL};
	int			n;
	int			nsources;

	InitMaterializedSRF(fcinfo, 0);
	if (!idem_stat_attach())
	{
		say_why_empty();
		return (Datum) 0;
	}

	since = idem_stat_since();
	readings = read_slots(&n);
	sources = group_by_source(readings, n, &nsources);
	qsort(sources, nsources, sizeof(Source), compare_business);

	for (int i = 0; i < nsources; i++)
	{
		if (i < TOP_SOURCES && sources[i].len > 0)
			put_source(rsinfo, &sources[i], since);
		else
		{
			for (int kind = 0; kind < IDEM_STAT_KINDS; kind++)
			{
				if (sources[i].kinds[kind] != NULL)
					add_counters(&rest, kind, sources[i].kinds[kind]);
			}
		}
	}
	put_source(rsinfo, &rest, since);

	return (Datum) 0;
}

/*
 * idem_stat_runs() -> setof (run, started_at, ended_at, keys_read, removed,
 *							  seconds)
 *
 * The rows of view idem_stat_run: the last purge and the last expiry.
 */
Datum
idem_stat_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	IdemStatSlot *slot;
	int			position = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (!idem_stat_attach())
	{
		say_why_empty();
		return (Datum) 0;
	}

	while ((slot = idem_stat_next(&position)) != NULL)
	{
		int			run = slot->kind - IDEM_STAT_RUN;
		uint64		read[5];
		Datum		values[6];
		bool		nulls[6] = {false};

		for (int i = 0; i < (int) lengthof(read); i++)
			read[i] = pg_atomic_read_u64(&slot->cells[i].count);
		idem_stat_unpin(slot);
		if (run < 0 || run >= (int) lengthof(run_names) || read[0] == 0)
			continue;

		values[0] = CStringGetTextDatum(run_names[run]);
		values[1] = TimestampTzGetDatum((TimestampTz) read[0]);
		values[2] = TimestampTzGetDatum((TimestampTz) read[1]);
		nulls[2] = read[1] == 0;
		values[3] = Int64GetDatum((int64) read[2]);
		values[4] = Int64GetDatum((int64) read[3]);
		values[5] = Float8GetDatum((double) read[4] / USECS_PER_SEC);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * idem_stat_reset() -> void
 *
 * All counters of this database begin again at 0: for administrators, and for
 * the script.
 */
Datum
idem_stat_reset(PG_FUNCTION_ARGS)
{
	if (idem_stat_attach())
		idem_stat_clear();
	PG_RETURN_VOID();
}


/* What this database's slots say, in the order of their sources. */
static Reading **
read_slots(int *n)
{
	int			room = 64;
	Reading   **readings = palloc_array(Reading *, room);
	IdemStatSlot *slot;
	int			position = 0;

	*n = 0;
	for (;;)
	{
		/* nothing may fail while a slot is pinned */
		Reading    *reading = palloc(sizeof(Reading));

		if (*n == room)
		{
			room *= 2;
			readings = repalloc_array(readings, Reading *, room);
		}
		slot = idem_stat_next(&position);
		if (slot == NULL)
			break;

		reading->kind = slot->kind;
		reading->len = slot->sourcelen;
		memcpy(reading->name, slot->source, slot->sourcelen);
		for (int i = 0; i < IDEM_STAT_CELLS; i++)
		{
			reading->counters.count[i] = pg_atomic_read_u64(&slot->cells[i].count);
			reading->counters.waits[i] = pg_atomic_read_u64(&slot->cells[i].waits);
			reading->counters.wait_usecs[i] =
				pg_atomic_read_u64(&slot->cells[i].wait_usecs);
		}
		idem_stat_unpin(slot);
		if (reading->kind < IDEM_STAT_KINDS)
			readings[(*n)++] = reading;
	}
	qsort(readings, *n, sizeof(Reading *), compare_readings);
	return readings;
}

/* One Source for each source that was read; none has a length of 0. */
static Source *
group_by_source(Reading **readings, int n, int *nsources)
{
	Source	   *sources = palloc0_array(Source, n + 1);

	*nsources = 0;
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || compare_readings(&readings[i - 1], &readings[i]) != 0)
		{
			sources[*nsources].name = readings[i]->name;
			sources[*nsources].len = readings[i]->len;
			(*nsources)++;
		}
		add_counters(&sources[*nsources - 1], readings[i]->kind,
					 &readings[i]->counters);
	}
	return sources;
}

/* Adds counters to those of a source. */
static void
add_counters(Source *source, IdemStatKind kind, const Counters *counters)
{
	Counters   *sum = source->kinds[kind];

	if (sum == NULL)
		sum = source->kinds[kind] = palloc0_object(Counters);
	for (int i = 0; i < IDEM_STAT_CELLS; i++)
	{
		sum->count[i] += counters->count[i];
		sum->waits[i] += counters->waits[i];
		sum->wait_usecs[i] += counters->wait_usecs[i];
		source->business += counters->count[i] + counters->waits[i];
	}
}

/* The rows of a source. */
static void
put_source(ReturnSetInfo *rsinfo, const Source *source, TimestampTz since)
{
	for (int kind = 0; kind < IDEM_STAT_KINDS; kind++)
	{
		const Counters *counters = source->kinds[kind];

		for (int i = 0; counters != NULL && i < IDEM_STAT_CELLS; i++)
		{
			Datum		values[7];
			bool		nulls[7] = {false};

			if (counters->count[i] == 0 && counters->waits[i] == 0)
				continue;
			values[0] = CStringGetTextDatum(kind_names[kind]);
			nulls[1] = source->name == NULL;
			if (!nulls[1])
				values[1] = PointerGetDatum(cstring_to_text_with_len(source->name,
																	 source->len));
			nulls[2] = i == IDEM_STAT_OUTCOMES;
			if (!nulls[2])
				values[2] = CStringGetTextDatum(outcome_names[kind][i]);
			values[3] = Int64GetDatum((int64) counters->count[i]);
			values[4] = Int64GetDatum((int64) counters->waits[i]);
			values[5] = Float8GetDatum((double) counters->wait_usecs[i] /
									   USECS_PER_SEC);
			values[6] = TimestampTzGetDatum(since);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values,
								 nulls);
		}
	}
}

/* An empty view must not be read as: nothing has happened. */
static void
say_why_empty(void)
{
#if IDEM_SEGMENT_ON_DEMAND
	ereport(NOTICE,
			(errmsg("idem counts nothing in this session"),
			 errdetail("The session could not have the shared memory for counters, as a warning has said."),
			 errhint("Make room in /dev/shm and start the server again.")));
#else
	ereport(NOTICE,
			(errmsg("idem counts nothing on this server"),
			 errdetail("Before PostgreSQL 17 counters need memory that is asked for when the server starts."),
			 errhint("Add idem to shared_preload_libraries and start the server again.")));
#endif
}

/* Bytewise. */
static int
compare_names(const char *a, int alen, const char *b, int blen)
{
	int			order = memcmp(a, b, Min(alen, blen));

	return order != 0 ? order : alen - blen;
}

/* qsort comparator: by source. */
static int
compare_readings(const void *a, const void *b)
{
	const Reading *x = *(Reading *const *) a;
	const Reading *y = *(Reading *const *) b;

	return compare_names(x->name, x->len, y->name, y->len);
}

/* qsort comparator: those without a source last, before that the busiest first. */
static int
compare_business(const void *a, const void *b)
{
	const Source *x = a;
	const Source *y = b;

	if ((x->len == 0) != (y->len == 0))
		return x->len == 0 ? 1 : -1;
	if (x->business != y->business)
		return x->business < y->business ? 1 : -1;
	/* of equals always the same ones are shown */
	return compare_names(x->name, x->len, y->name, y->len);
}
