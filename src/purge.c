/*-------------------------------------------------------------------------
 *
 * purge.c
 *	  Removes what is finished and old, for all primitives.
 *
 * The contract.  What of a table is finished is said by its statements; what
 * is not, or not for long enough, stays.  Claims and holds of a source with a
 * policy go by its retention, others by older_than; a row goes only when both
 * its end and the time of its key, if there is one, are further back than that.
 * Spent tokens and counts go when they have expired.
 *
 * A table is read once, in the order of its blocks, in windows of at most batch
 * rows with a commit after each, so that no lock and no snapshot is held for
 * long, and a walk that is cut short has done what it reported.  Random keys
 * are then as cheap as others: their place in the index has no say.  Where a
 * row's place means nothing (a distributed or partitioned table, another access
 * method) the windows are of keys, in the order of the primary key.
 *
 * Concurrency.  Whether a row may go is judged by the statement that deletes
 * it, on the row as committed; if somebody is changing it, the server waits
 * and judges the new version.  That is read committed, in which each window
 * runs whatever the session's default.  What comes to be finished behind the
 * walk waits for the next one, and so does what is moved while it is judged.
 *
 * Where rows are first read and judged here, and then deleted by their places,
 * a snapshot is kept for both: no place is given to another row meanwhile.  All
 * that the delete does not judge again is the key, which no update changes.
 *
 * Before a window of claims or holds the marks are raised to the cutoffs, by a
 * transaction of its own (policy.c says why).  The lock on idem.policy that is
 * then held to the end of the window keeps policies from being changed in it.
 * Cutoffs are counted from the moment at which the purge began.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"
#include "policy.h"
#include "stock.h"
#include "store_many.h"
#include "token.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* How often marks may be raised to no effect: once more for each change. */
#define MAX_TRIES			100

/*
 * Rows of a batch, however many are asked for: those that are due are held in
 * arrays meanwhile.
 */
#define BATCH_MAX			100000

/* For so many policies a range is gone over once more each. */
#define FEW_POLICIES		4

/*
 * What is purged, and by which statements.  In_range: first place, place
 * behind the last, cutoff, and the source (null: all) or the present time.
 * Of a table with sources: due has the same values and answers places, sources
 * and seqs; by_place: places, cutoff; walk: last key before, number of keys;
 * by_key: source, seqs, cutoff.  Of another table: walk answers the last key of
 * the window; by_key: key before it, last key, cutoff, present time.
 */
typedef struct Purge
{
	const char *what;			/* plural, for messages */
	IdemTable  *table;
	bool		has_source;
	IdemPlan	in_range;
	IdemPlan	due;
	IdemPlan	by_place;
	IdemPlan	walk;
	IdemPlan	by_key;
} Purge;

static const Purge purges[] = {
	{"claims", &idem_claim_table, true,
		IDEM_PLAN_CLAIM_PURGE_RANGE, IDEM_PLAN_CLAIM_DUE,
		IDEM_PLAN_CLAIM_PURGE_TIDS, IDEM_PLAN_CLAIM_WALK,
	IDEM_PLAN_CLAIM_PURGE_KEYS},
	{"holds", &idem_hold_table, true,
		IDEM_PLAN_HOLD_PURGE_RANGE, IDEM_PLAN_HOLD_DUE,
		IDEM_PLAN_HOLD_PURGE_TIDS, IDEM_PLAN_HOLD_WALK,
	IDEM_PLAN_HOLD_PURGE_KEYS},
	{"spent tokens", &idem_token_spent_table, false,
		IDEM_PLAN_TOKEN_SPENT_PURGE_RANGE, IDEM_PLANS, IDEM_PLANS,
	IDEM_PLAN_TOKEN_SPENT_WINDOW, IDEM_PLAN_TOKEN_SPENT_PURGE_KEYS},
	{"token counts", &idem_token_rate_table, false,
		IDEM_PLAN_TOKEN_RATE_PURGE_RANGE, IDEM_PLANS, IDEM_PLANS,
	IDEM_PLAN_TOKEN_RATE_WINDOW, IDEM_PLAN_TOKEN_RATE_PURGE_KEYS}
};

/* A call of idem_purge. */
typedef struct Run
{
	TimestampTz now;			/* when it began */
	TimestampTz cutoff;			/* by older_than; DT_NOBEGIN: not given */
	text	   *source;			/* NULL: all */
	int32		batch;
	MemoryContext lasting;		/* outlives the commits */
	MemoryContext window;		/* is reset with each of them */
	IdemPolicies *policies;

	/* of the table that is walked */
	const Purge *purge;
	IdemStore	store;
	BlockNumber block;			/* where the next window begins */
	OffsetNumber offset;
	BlockNumber end;			/* the walk ends before this block */
	Datum		from[IDEM_MAX_KEYS];	/* … or behind which key */
	uint64		purged;

	IdemStatRunState stat;		/* of all tables, as far as committed */
	uint64		removed;		/* … and in this window */
} Run;

static void purge_table(Run *run, const Purge *purge);
static void report(Run *run);
static void begin_window(Run *run);
static void begin_transaction(Run *run);
static void use_policies(Run *run, Oid owner);
static bool raise_marks(Run *run, Oid owner);
static bool is_wanted(const Run *run, const IdemPolicy *policy);
static TimestampTz latest_cutoff(const Run *run);
static bool same_cutoff_for_all(const Run *run);
static bool few_cutoffs(const Run *run);
static bool purge_blocks(Run *run, uint64 *removed);
static uint64 remove_by_source(Run *run, const Datum *range);
static uint64 remove_due(Run *run, Datum *range, bool *nulls);
static bool purge_keys(Run *run, uint64 *removed);
static bool purge_sourced_keys(Run *run, uint64 *removed);
static int	compare_keys(const Run *run, Datum source_a, Datum seq_a,
						 Datum source_b, Datum seq_b);
static IdemPolicy *policy_of(const Run *run, Datum source);
static bool has_younger_key(const IdemPolicy *policy, Datum seq);
static void add_due(IdemPolicy *policy, Datum which);
static uint64 execute(const Run *run, IdemPlan plan, const Datum *values,
					  const bool *nulls, Datum *result, bool *resultnull,
					  int nresult);
static Datum make_array(Datum *values, int n, Oid type);
static int	read_array(Datum array, Oid type, Datum **values, bool **nulls);

PG_FUNCTION_INFO_V1(idem_purge);


/*
 * CALL idem_purge(older_than interval, batch integer, source text)
 *
 * Removes what was finished longer ago than its source's policy says, or
 * without a policy longer than older_than ago.
 */
Datum
idem_purge(PG_FUNCTION_ARGS)
{
	Run			run = {.cutoff = DT_NOBEGIN};

	run.now = run.stat.started = GetCurrentTimestamp();
	if (!PG_ARGISNULL(0))
		run.cutoff = run.now -
			idem_interval_usecs(idem_arg_interval(fcinfo, 0, "older_than"));
	run.batch = Min(idem_arg_count(fcinfo, 1, "batch", PG_INT32_MAX), BATCH_MAX);
	if (!PG_ARGISNULL(2))
		run.source = DatumGetTextPCopy(PointerGetDatum(idem_arg_text(fcinfo, 2, "source",
																	 IDEM_SOURCE_MAX)));

	idem_check_nonatomic(fcinfo, "idem_purge");
	idem_check_access(IDEM_WRITE);

	run.lasting = CurrentMemoryContext;
	run.window = AllocSetContextCreate(run.lasting, "idem purge",
									   ALLOCSET_DEFAULT_SIZES);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect_ext failed");
	for (int i = 0; i < (int) lengthof(purges); i++)
		if (purges[i].has_source || run.source == NULL)
			purge_table(&run, &purges[i]);
	idem_stat_count(IDEM_STAT_PURGE_RUNS, PointerGetDatum(run.source), 1);
	SPI_commit();
	run.stat.ended = GetCurrentTimestamp();
	report(&run);
	SPI_finish();

	PG_RETURN_VOID();
}


/* Walks one table. */
static void
purge_table(Run *run, const Purge *purge)
{
	bool		more = true;

	run->purge = purge;
	run->block = 0;
	run->offset = FirstOffsetNumber;
	run->end = MaxBlockNumber;
	run->purged = 0;
	MemoryContextSwitchTo(run->lasting);
	for (int i = 0; i < IDEM_MAX_KEYS; i++)
		run->from[i] = CStringGetTextDatum("");

	while (more)
	{
		uint64		removed = 0;

		begin_window(run);
		if (purge->has_source && latest_cutoff(run) == DT_NOBEGIN)
			break;

		idem_store_open(&run->store, purge->table, IDEM_WRITE, IDEM_WAIT);
		if (idem_blocks_exist(&run->store))
			more = purge_blocks(run, &removed);
		else
			more = purge_keys(run, &removed);
		idem_store_close(&run->store);

		run->purged += removed;
		run->removed += removed;
		if (removed == 0)
			continue;
		idem_stat_count(IDEM_STAT_PURGE_ROWS, PointerGetDatum(run->source),
						removed);
		ereport(NOTICE,
				(errmsg("purged %llu %s, %llu so far",
						(unsigned long long) removed, purge->what,
						(unsigned long long) run->purged)));
	}
}

/*
 * Each window has a transaction of its own, the first one too.  It begins when
 * the marks are where the cutoffs want them, in a transaction before.
 */
static void
begin_window(Run *run)
{
	Oid			owner;

	begin_transaction(run);
	for (int tries = 0; run->purge->has_source; tries++)
	{
		/* whoever changes a policy waits for this batch, and it for them */
		owner = idem_policy_lock(RowExclusiveLock);
		use_policies(run, owner);
		if (!raise_marks(run, owner))
			break;
		if (tries == MAX_TRIES)
			ereport(ERROR,
					(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					 errmsg("table \"idem.policy\" does not take a mark"),
					 errdetail("Marks were raised %d times, to no effect.", tries),
					 errhint("Look for a trigger or rule on \"idem.policy\" that suppresses the row.")));
		begin_transaction(run);
	}
}

/*
 * Commits, and goes on in read committed: above that a row that somebody
 * changed meanwhile would be 40001, and the walk would end there every night.
 */
static void
begin_transaction(Run *run)
{
	SPI_commit();
	report(run);
	CHECK_FOR_INTERRUPTS();
	(void) set_config_option("transaction_isolation", "read committed",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
	MemoryContextReset(run->window);
	MemoryContextSwitchTo(run->window);
}

/* Says in idem_stat_run what is committed of the run. */
static void
report(Run *run)
{
	run->stat.removed += run->removed;
	run->removed = 0;
	/* the clock may have been set back */
	run->stat.usecs = Max(0, GetCurrentTimestamp() - run->stat.started);
	idem_stat_run(IDEM_STAT_RUN_PURGE, &run->stat);
}

/* Reads the policies, if they are not those that were read before. */
static void
use_policies(Run *run, Oid owner)
{
	if (idem_policies_current(run->policies))
		return;

	if (run->policies != NULL)
		MemoryContextDelete(run->policies->context);
	run->policies = NULL;
	run->policies = idem_policies_load(run->lasting, owner);
	for (int i = 0; i < run->policies->n; i++)
	{
		IdemPolicy *policy = &run->policies->policies[i];

		policy->cutoff = policy->in_force ? run->now - policy->retention :
			run->cutoff;
	}
}

/* Raises the marks that are not where the cutoffs are.  False: all are. */
static bool
raise_marks(Run *run, Oid owner)
{
	bool	   *raise = palloc_array(bool, run->policies->n);
	bool		any = false;

	for (int i = 0; i < run->policies->n; i++)
	{
		IdemPolicy *policy = &run->policies->policies[i];

		raise[i] = is_wanted(run, policy) && policy->cutoff > policy->mark;
		any |= raise[i];
	}
	if (any)
		idem_policies_raise(run->policies, owner, raise);
	return any;
}

/* Has this mark, or the shared one, a part in what is purged? */
static bool
is_wanted(const Run *run, const IdemPolicy *policy)
{
	if (!policy->in_force && *policy->source != '\0')
		return false;
	if (run->source == NULL)
		return true;
	return policy == policy_of(run, PointerGetDatum(run->source)) ||
		(*policy->source == '\0' &&
		 !policy_of(run, PointerGetDatum(run->source))->in_force);
}

/* What ended after this is certainly not due; DT_NOBEGIN: nothing is due. */
static TimestampTz
latest_cutoff(const Run *run)
{
	TimestampTz latest = DT_NOBEGIN;

	for (int i = 0; i < run->policies->n; i++)
		if (is_wanted(run, &run->policies->policies[i]))
			latest = Max(latest, run->policies->policies[i].cutoff);
	return latest;
}

/* Does one cutoff decide for all rows, with no look at their keys? */
static bool
same_cutoff_for_all(const Run *run)
{
	if (!run->purge->has_source)
		return true;
	if (run->source != NULL)
		return policy_of(run, PointerGetDatum(run->source))->nkey_times == 0;
	return run->policies->n == 1;	/* the shared mark */
}

/*
 * Are there only a few policies, and none that looks at keys?  Then it is
 * cheaper to go over a range once for each of them.
 */
static bool
few_cutoffs(const Run *run)
{
	if (run->source != NULL || run->policies->n > 1 + FEW_POLICIES)
		return false;
	for (int i = 0; i < run->policies->n; i++)
		if (run->policies->policies[i].nkey_times > 0)
			return false;
	return true;
}

/* Purges a window of blocks.  False: it was the last one. */
static bool
purge_blocks(Run *run, uint64 *removed)
{
	BlockNumber nblocks = idem_blocks_number(&run->store);
	ItemPointerData first;
	ItemPointerData behind;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	/* what is put behind the end while we walk is not old */
	if (run->end == MaxBlockNumber)
		run->end = nblocks;
	ItemPointerSet(&first, run->block, run->offset);
	run->stat.keys_read += idem_blocks_window(&run->store,
											  Min(run->end, nblocks),
											  run->batch, &run->block,
											  &run->offset);
	ItemPointerSet(&behind, run->block, run->offset);

	values[0] = PointerGetDatum(&first);
	values[1] = PointerGetDatum(&behind);
	if (run->purge->has_source)
	{
		values[2] = TimestampTzGetDatum(latest_cutoff(run));
		values[3] = PointerGetDatum(run->source);
		nulls[3] = run->source == NULL;
	}
	else
	{
		values[2] = TimestampTzGetDatum(run->cutoff == DT_NOBEGIN ?
										DT_NOEND : run->cutoff);
		values[3] = TimestampTzGetDatum(run->now);
	}

	if (same_cutoff_for_all(run))
		*removed = execute(run, run->purge->in_range, values, nulls, NULL, NULL, 0);
	else if (!few_cutoffs(run))
		*removed = remove_due(run, values, nulls);
	else
	{
		*removed = remove_by_source(run, values);
		if (run->cutoff != DT_NOBEGIN)
			*removed += remove_due(run, values, nulls);
	}
	return run->block < Min(run->end, nblocks);
}

/* Removes what is due in a range of each source with a policy. */
static uint64
remove_by_source(Run *run, const Datum *range)
{
	uint64		removed = 0;

	for (int i = 0; i < run->policies->n; i++)
	{
		const IdemPolicy *policy = &run->policies->policies[i];
		Datum		values[4] = {range[0], range[1],
			TimestampTzGetDatum(policy->cutoff),
		CStringGetTextDatum(policy->source)};

		if (policy->in_force)
			removed += execute(run, run->purge->in_range, values, NULL, NULL, NULL, 0);
	}
	return removed;
}

/* Removes what is due in a range, judged row by row; answers how many. */
static uint64
remove_due(Run *run, Datum *range, bool *nulls)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Datum		arrays[3];
	bool		isnull[3];
	Datum	   *places;
	Datum	   *sources;
	Datum	   *seqs;
	uint64		removed = 0;
	int			n;

	(void) execute(run, run->purge->due, range, nulls, arrays, isnull, 3);
	n = isnull[0] ? 0 : read_array(arrays[0], TIDOID, &places, NULL);
	if (n > 0)
	{
		(void) read_array(arrays[1], TEXTOID, &sources, NULL);
		(void) read_array(arrays[2], TEXTOID, &seqs, NULL);
	}
	for (int i = 0; i < run->policies->n; i++)
		run->policies->policies[i].ndue = run->policies->policies[i].due_size = 0;
	for (int i = 0; i < n; i++)
	{
		IdemPolicy *policy = policy_of(run, sources[i]);

		CHECK_FOR_INTERRUPTS();
		if (policy->cutoff != DT_NOBEGIN && !has_younger_key(policy, seqs[i]))
			add_due(policy, places[i]);
	}

	for (int i = 0; i < run->policies->n; i++)
	{
		IdemPolicy *policy = &run->policies->policies[i];
		Datum		values[2];

		if (policy->ndue == 0)
			continue;
		values[0] = make_array(policy->due, policy->ndue, TIDOID);
		values[1] = TimestampTzGetDatum(policy->cutoff);
		removed += execute(run, run->purge->by_place, values, NULL, NULL, NULL, 0);
	}
	UnregisterSnapshot(snapshot);
	return removed;
}

/* Purges a window of keys.  False: there was none. */
static bool
purge_keys(Run *run, uint64 *removed)
{
	int			nkeys = run->purge->table->nkeys;
	Datum		values[2 * IDEM_MAX_KEYS + 2];
	Datum		last[IDEM_MAX_KEYS];
	bool		nulls[IDEM_MAX_KEYS];

	if (run->purge->has_source)
		return purge_sourced_keys(run, removed);

	memcpy(values, run->from, nkeys * sizeof(Datum));
	values[nkeys] = Int32GetDatum(run->batch);
	MemoryContextSwitchTo(run->lasting);
	if (execute(run, run->purge->walk, values, NULL, last, nulls, nkeys) == 0)
		return false;
	MemoryContextSwitchTo(run->window);

	for (int i = 0; i < nkeys; i++)
		run->from[i] = values[nkeys + i] = last[i];
	values[2 * nkeys] = TimestampTzGetDatum(run->cutoff == DT_NOBEGIN ?
											DT_NOEND : run->cutoff);
	values[2 * nkeys + 1] = TimestampTzGetDatum(run->now);
	*removed = execute(run, run->purge->by_key, values, NULL, NULL, NULL, 0);
	run->stat.keys_read += *removed;	/* the others were not counted */
	return true;
}

/* The same of claims and holds: by source, for each has a cutoff. */
static bool
purge_sourced_keys(Run *run, uint64 *removed)
{
	Datum		values[3] = {run->from[0], run->from[1],
	Int32GetDatum(run->batch)};
	Datum		arrays[3];
	bool		isnull[3];
	Datum	   *sources;
	Datum	   *seqs;
	Datum	   *ended;
	bool	   *not_ended;
	int			n;
	int			i = 0;
	int			last = 0;

	(void) execute(run, run->purge->walk, values, NULL, arrays, isnull, 3);
	if (isnull[0])
		return false;
	n = read_array(arrays[0], TEXTOID, &sources, NULL);
	(void) read_array(arrays[1], TEXTOID, &seqs, NULL);
	(void) read_array(arrays[2], TIMESTAMPTZOID, &ended, &not_ended);
	run->stat.keys_read += n;

	while (i < n)
	{
		Datum		source = sources[i];
		IdemPolicy *policy = policy_of(run, source);
		bool		wanted = run->source == NULL ||
			idem_same_bytes(source, PointerGetDatum(run->source));

		policy->ndue = policy->due_size = 0;
		for (; i < n && idem_same_bytes(source, sources[i]); i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (compare_keys(run, sources[i], seqs[i], sources[last], seqs[last]) > 0)
				last = i;
			if (wanted && !not_ended[i] &&
				DatumGetTimestampTz(ended[i]) < policy->cutoff &&
				!has_younger_key(policy, seqs[i]))
				add_due(policy, seqs[i]);
		}
		if (policy->ndue == 0)
			continue;
		values[0] = source;
		values[1] = make_array(policy->due, policy->ndue, TEXTOID);
		values[2] = TimestampTzGetDatum(policy->cutoff);
		*removed += execute(run, run->purge->by_key, values, NULL, NULL, NULL, 0);
	}

	MemoryContextSwitchTo(run->lasting);
	run->from[0] = PointerGetDatum(DatumGetTextPCopy(sources[last]));
	run->from[1] = PointerGetDatum(DatumGetTextPCopy(seqs[last]));
	MemoryContextSwitchTo(run->window);
	return true;
}

/* Compares two keys in the order of the primary key. */
static int
compare_keys(const Run *run, Datum source_a, Datum seq_a, Datum source_b,
			 Datum seq_b)
{
	int			by_source = idem_compare_bytes(source_a, source_b);
	int			by_seq = idem_compare_bytes(seq_a, seq_b);

	if (run->purge->table->reversed)
		return by_seq != 0 ? by_seq : by_source;
	return by_source != 0 ? by_source : by_seq;
}

/* The policy that a source goes by: its own, or what there is for all others. */
static IdemPolicy *
policy_of(const Run *run, Datum source)
{
	IdemPolicy *policy = idem_policies_find(run->policies,
											VARDATA_ANY(DatumGetPointer(source)),
											VARSIZE_ANY_EXHDR(DatumGetPointer(source)));

	return policy != NULL ? policy :
		idem_policies_find(run->policies, IDEM_SHARED_MARK, 0);
}

/*
 * Is a key, by any key_time that its source has ever had, from a time that has
 * not passed the cutoff?  Then it must stay, for it would not be refused.
 */
static bool
has_younger_key(const IdemPolicy *policy, Datum seq)
{
	for (int i = 0; i < policy->nkey_times; i++)
	{
		TimestampTz begin;
		TimestampTz end;

		if (idem_key_time_read(&policy->key_times[i], seq, &begin, &end) &&
			end >= policy->cutoff)
			return true;
	}
	return false;
}

/* Notes a row that may go, for one statement for all of a policy. */
static void
add_due(IdemPolicy *policy, Datum which)
{
	if (policy->ndue == policy->due_size)
	{
		policy->due_size = Max(64, policy->due_size * 2);
		policy->due = policy->ndue == 0 ?
			palloc_array(Datum, policy->due_size) :
			repalloc_array(policy->due, Datum, policy->due_size);
	}
	policy->due[policy->ndue++] = which;
}

/* Runs a statement on the table that is walked. */
static uint64
execute(const Run *run, IdemPlan plan, const Datum *values, const bool *nulls,
		Datum *result, bool *resultnull, int nresult)
{
	return idem_plan_execute(plan, idem_store_owner(&run->store), false,
							 values, nulls, result, resultnull, nresult);
}

static Datum
make_array(Datum *values, int n, Oid type)
{
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	return PointerGetDatum(construct_array(values, n, type, len, byval, align));
}

/* The elements of an array; nulls may be NULL if there are none. */
static int
read_array(Datum array, Oid type, Datum **values, bool **nulls)
{
	int16		len;
	bool		byval;
	char		align;
	int			n;

	get_typlenbyvalalign(type, &len, &byval, &align);
	deconstruct_array(DatumGetArrayTypeP(array), type, len, byval, align,
					  values, nulls, &n);
	return n;
}
