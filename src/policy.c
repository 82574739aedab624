/*-------------------------------------------------------------------------
 *
 * policy.c
 *	  Policies: how long a source is remembered, and what becomes of a retry
 *	  that comes later than that.
 *
 * The contract.  A store that forgets runs a late retry as if it were new.  A
 * policy with a key_time says how to read from a key when it was made, and a
 * key that is not on record is refused with ID410 unless it is newer than both
 *
 *		now - retention		what is older may have been purged, and
 *		the mark			what is older may have been purged before: under a
 *							shorter retention, under a clock that was ahead,
 *							without a policy
 *
 * The mark only rises.  It outlives everything that is done to a policy, also
 * its end: the row stays in idem.policy without a retention.  Sources that
 * have none share a mark, in the row of the source "", and a new policy starts
 * from it.  The row also keeps every key_time that the source has had, for the
 * purge: a key whose time lies ahead must stay on record until that time has
 * passed, also while its policy is dropped.
 *
 * Why a key never runs twice.  Say that a key of time k was claimed, and its
 * record is gone.  A purge removed it, with a cutoff c, and
 *
 *	1. k < c, and before the purge began to remove it committed the mark c.
 *	   A policy is changed only between the batches of a purge (both lock
 *	   idem.policy, in modes that conflict), and a batch begins by raising the
 *	   marks to the cutoffs that the policies give now.
 *	2. A claim judges the time only after it has found the key absent, and reads
 *	   the mark as it is committed then, whatever the transaction's snapshot
 *	   and its isolation level.  The probe saw the removal committed, which
 *	   began after the mark was; so the mark is seen, and k < c <= mark is
 *	   refused.  Under serializable, where the probe first looks by the
 *	   transaction's snapshot, the record is either still seen, and the claim
 *	   is a duplicate, or its removal was committed before, as above.
 *	3. A claim that has judged the time may be stopped before it inserts, while
 *	   another session claims the key and ends, and is purged.  Direct claims
 *	   exclude each other from the probe to the insert (store.c).  Through SQL
 *	   they do not, so the time is judged once more when the row is inserted:
 *	   from then on the unique index holds the key, and a removal that let the
 *	   row in was committed before.  Directly that is only done if a policy was
 *	   changed since the first of the keys that are inserted together was
 *	   judged, and then for all of them: that the cache is up to date by now
 *	   does not say that they were judged by it.  Through SQL it is the only
 *	   time that it is done, for there the insert is what waits for an
 *	   uncommitted rival.
 *	   A refusal is answered only after a look that cannot miss the record
 *	   (idem_store_still).  Directly the key is only probed until then, and a
 *	   probe may miss a row that is just being changed.
 *	4. A removal that is rolled back, by a crash too, leaves the record; the mark
 *	   may stay, which only refuses more.  On a standby that is promoted both
 *	   are there in the order in which they were committed.
 *
 * The cache.  A policy is metadata, as a machine is (machine.c).  A session
 * keeps whether there is any policy with a key_time at all, and those that it
 * has used.  Whoever writes to idem.policy sends a relcache invalidation for
 * it, which the session reads before it uses what it keeps: that is one look at
 * a flag in shared memory.  Messages are queued at the commit of the mark, and
 * that is over before the purge begins to remove; so what 2. and 3. say of the
 * mark as committed holds of the mark as cached.  What is read is tagged with
 * the generation from before its snapshot, so a message that comes while it is
 * read makes it stale; so does a rollback, also to a savepoint, which
 * invalidates what it undoes, and DROP EXTENSION.  Where the extension citus
 * is installed a message does not reach the other nodes, and nothing is kept.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "policy.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* What a session keeps of policies; beyond that it starts anew. */
#define CACHED_POLICIES_MAX	1024

/* The longest key_time is "snowflake:" and a number. */
#define KEY_TIME_MAX		32

/* A key may be this much ahead of our clock. */
#define AHEAD_MAX			USECS_PER_DAY

/* A row of idem.policy, in the order of IDEM_PLAN_POLICY_FIND. */
typedef enum PolicyColumn
{
	POLICY_SOURCE,
	POLICY_RETENTION,
	POLICY_KEY_TIME,
	POLICY_KEY_TIMES,
	POLICY_MARK,
	POLICY_COLUMNS
} PolicyColumn;

static IdemTable policy_table = {
	.relname = "policy",
	.keyname = "source",
	.nkeys = 1,
	.natts = POLICY_COLUMNS,
	.required = 1,
	.columns = {
		{"source", TEXTOID},
		{"retention", INTERVALOID},
		{"key_time", TEXTOID},
		{"key_times", TEXTOID},
		{"mark", TIMESTAMPTZOID}
	},
	.metadata = true
};

typedef struct PolicyRow
{
	Datum		values[POLICY_COLUMNS];
	bool		nulls[POLICY_COLUMNS];
} PolicyRow;

/* A source's policy, as this session has read it. */
typedef struct CachedPolicy
{
	char		source[IDEM_SOURCE_MAX + 1];	/* hash key */
	IdemKeyTime key_time;		/* IDEM_KEY_NO_TIME: keys are not judged */
	int64		retention;
	TimestampTz mark;
} CachedPolicy;

/* Why a key is refused, for a message. */
typedef struct Judgement
{
	IdemKeyTime key_time;
	TimestampTz begin;			/* of the key's time */
	TimestampTz end;
	TimestampTz limit;			/* what is not newer is gone */
	bool		ahead;			/* IDEM_KEY_INVALID: it lies ahead */
	TimestampTz now;
} Judgement;

static MemoryContext cache_context = NULL;
static HTAB *cache = NULL;
static bool cache_any = false;	/* is there a policy with a key_time? */
static Oid	policy_relid = InvalidOid;
static uint64 generation = 1;	/* grows with each invalidation */
static uint64 cache_generation = 0; /* what is kept is of this one */
static uint64 judged_generation = 0;	/* by which the first key of those
										 * that are being inserted was judged */

static void invalidate(Datum arg, Oid relid);
static bool find_policy(Datum source, Oid owner, PolicyRow *row);
static void write_policy(const PolicyRow *was, PolicyRow *row, Oid owner);
static Datum key_times_with(const PolicyRow *row);
static void changed(void);
static IdemKeyAge judge(const Datum *key, Judgement *judgement);
static void refill(void);
static CachedPolicy *cached_policy(Datum source);
static void gone_error(const IdemStore *store, const Datum *key,
					   const Judgement *judgement);
static void invalid_error(const IdemStore *store, const Datum *key,
						  const Judgement *judgement);
static void read_key_times(IdemPolicy *policy, const char *names);
static int	compare_policies(const void *a, const void *b);

PG_FUNCTION_INFO_V1(idem_policy);
PG_FUNCTION_INFO_V1(idem_policy_drop);
PG_FUNCTION_INFO_V1(idem_retention);


/* Registers the callback, before anything is kept. */
void
idem_policy_init(void)
{
	idem_on_relcache(invalidate);
}

/*
 * idem_policy(source, retention interval, key_time text,
 *			   not_before timestamptz) -> void
 *
 * Makes or changes a policy; what is null stays as it was.
 */
Datum
idem_policy(PG_FUNCTION_ARGS)
{
	Datum		source = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
													   IDEM_SOURCE_MAX));
	bool		has_retention = !PG_ARGISNULL(1);
	bool		has_key_time = !PG_ARGISNULL(2);
	text	   *key_time = NULL;
	TimestampTz not_before = PG_ARGISNULL(3) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(3);
	Interval   *retention = NULL;
	PolicyRow	was;
	PolicyRow	row;
	IdemKeyTime parsed;
	Oid			owner;

	if (has_retention)
		retention = idem_arg_interval(fcinfo, 1, "retention");
	if (has_key_time)
		key_time = idem_arg_text(fcinfo, 2, "key_time", KEY_TIME_MAX);
	if (has_key_time &&
		strcmp(text_to_cstring(key_time), "none") != 0 &&
		!idem_key_time_parse(VARDATA_ANY(key_time), VARSIZE_ANY_EXHDR(key_time), &parsed))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"key_time\" names no format"),
				 errdetail("\"key_time\" is \"%s\".", text_to_cstring(key_time)),
				 errhint("Pass one of uuidv7, ulid, unix, snowflake, snowflake:EPOCH_MS, date, none.")));
	if (!PG_ARGISNULL(3) && TIMESTAMP_NOT_FINITE(not_before))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"not_before\" must be finite"),
				 errdetail("\"not_before\" is %s.", timestamptz_to_str(not_before)),
				 errhint("Pass the time before which no key may run any more.")));
	idem_check_access(IDEM_WRITE);

	/* waits for the batch of a purge, and keeps the next one waiting */
	owner = idem_policy_lock(ShareRowExclusiveLock);
	(void) find_policy(source, owner, &was);
	row = was;
	if (row.nulls[POLICY_RETENTION])
	{
		PolicyRow	shared;

		if (!has_retention)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"retention\" must not be null for a new policy"),
					 errdetail("Source \"%s\" has no policy.",
							   TextDatumGetCString(source)),
					 errhint("Pass how long its keys are to be remembered, such as '30 days'.")));
		if (find_policy(CStringGetTextDatum(IDEM_SHARED_MARK), owner, &shared))
			not_before = Max(not_before, DatumGetTimestampTz(shared.values[POLICY_MARK]));
	}
	if (has_retention)
		row.values[POLICY_RETENTION] = IntervalPGetDatum(retention);
	row.nulls[POLICY_RETENTION] &= !has_retention;
	if (has_key_time)
	{
		row.values[POLICY_KEY_TIME] = PointerGetDatum(key_time);
		row.nulls[POLICY_KEY_TIME] = strcmp(text_to_cstring(key_time), "none") == 0;
	}
	row.values[POLICY_MARK] = TimestampTzGetDatum(Max(not_before,
													  DatumGetTimestampTz(row.values[POLICY_MARK])));
	write_policy(&was, &row, owner);

	PG_RETURN_VOID();
}

/*
 * idem_policy_drop(source) -> boolean
 *
 * Ends a policy; its mark stays.  False: there is none.
 */
Datum
idem_policy_drop(PG_FUNCTION_ARGS)
{
	Datum		source = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
													   IDEM_SOURCE_MAX));
	PolicyRow	was;
	PolicyRow	row;
	Oid			owner;
	bool		dropped;

	idem_check_access(IDEM_WRITE);
	owner = idem_policy_lock(ShareRowExclusiveLock);
	dropped = find_policy(source, owner, &was) && !was.nulls[POLICY_RETENTION];
	if (dropped)
	{
		row = was;
		row.nulls[POLICY_RETENTION] = true;
		row.nulls[POLICY_KEY_TIME] = true;
		write_policy(&was, &row, owner);
	}
	PG_RETURN_BOOL(dropped);
}

/*
 * idem_retention(source) -> interval
 *
 * For how long keys are remembered; null if nothing is promised.
 */
Datum
idem_retention(PG_FUNCTION_ARGS)
{
	Datum		source = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
													   IDEM_SOURCE_MAX));
	PolicyRow	row;

	idem_check_access(IDEM_READ);
	if (!find_policy(source, idem_policy_lock(AccessShareLock), &row) ||
		row.nulls[POLICY_RETENTION])
		PG_RETURN_NULL();
	PG_RETURN_DATUM(row.values[POLICY_RETENTION]);
}


/*
 * What the policy of a key's source says of the key, which is not on record.
 * At the moment IDEM_KEY_IS_ABSENT this is a first answer, which spares us an
 * insert; through SQL there is none, for a rival must be waited for first.
 * What is then inserted must be judged again, and this may answer otherwise.
 */
IdemKeyAge
idem_policy_judge(const IdemStore *store, const Datum *key,
				  IdemKeyMoment moment)
{
	bool		absent = moment == IDEM_KEY_IS_ABSENT ||
		moment == IDEM_KEY_IS_ABSENT_TOO;
	bool		direct = idem_store_is_direct(store);
	Judgement	judgement;
	IdemKeyAge	age = IDEM_KEY_NEW;

	if (absent && !direct)
		return IDEM_KEY_NEW;
	AcceptInvalidationMessages();
	if (moment == IDEM_KEY_IS_INSERTED && direct &&
		judged_generation == generation)
		return IDEM_KEY_NEW;
	if (cache_generation != generation || cache_any)
		age = judge(key, &judgement);
	if (moment == IDEM_KEY_IS_ABSENT)
		judged_generation = cache_generation;
	return age;
}

/*
 * The same where a key that must not run is an error.  False: it is on record by
 * now; look again.
 */
bool
idem_policy_admit(IdemStore *store, const Datum *key, IdemKeyMoment moment)
{
	if (idem_policy_judge(store, key, moment) == IDEM_KEY_NEW)
		return true;
	if (moment != IDEM_KEY_IS_INSERTED &&
		!idem_store_still(store, key, &idem_no_row))
		return false;
	idem_policy_refuse(store, key);
	return true;
}

/*
 * The error for a key that was just judged not to run.  It judges once more, for
 * what the error says, and returns if the key may run by now, as after the
 * clock was set back.
 */
void
idem_policy_refuse(const IdemStore *store, const Datum *key)
{
	Judgement	judgement;

	switch (judge(key, &judgement))
	{
		case IDEM_KEY_NEW:
			break;
		case IDEM_KEY_GONE:
			gone_error(store, key, &judgement);
			break;
		case IDEM_KEY_INVALID:
			invalid_error(store, key, &judgement);
			break;
	}
}

/*
 * For a call that needs a record, and has found none.  Returns if the key is not
 * gone, or is on record by now: that there was none is true all the same.
 */
void
idem_policy_check_gone(IdemStore *store, const Datum *key)
{
	Judgement	judgement;

	if (idem_policy_judge(store, key, IDEM_KEY_IS_READ) == IDEM_KEY_GONE &&
		idem_store_still(store, key, &idem_no_row) &&
		judge(key, &judgement) == IDEM_KEY_GONE)
		gone_error(store, key, &judgement);
}

/* Locks idem.policy to the end of the transaction; answers its owner. */
Oid
idem_policy_lock(LOCKMODE lockmode)
{
	Relation	index;
	Relation	rel = idem_table_open(&policy_table, lockmode, false, &index);
	Oid			owner = rel->rd_rel->relowner;

	/* the callback knows the table from before it is read */
	policy_relid = RelationGetRelid(rel);
	table_close(rel, NoLock);
	return owner;
}

/* Are these the policies as they are now?  The table must be locked. */
bool
idem_policies_current(const IdemPolicies *policies)
{
	return policies != NULL && policies->generation == generation &&
		!OidIsValid(get_extension_oid("citus", true));
}

/* All policies, in a memory context of their own. */
IdemPolicies *
idem_policies_load(MemoryContext parent, Oid owner)
{
	MemoryContext context = AllocSetContextCreate(parent, "idem policies",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	IdemPolicies *policies = palloc0_object(IdemPolicies);
	Datum		arrays[POLICY_COLUMNS - 1];
	bool		isnull[POLICY_COLUMNS - 1];
	Datum	   *values[POLICY_COLUMNS - 1];
	bool	   *nulls[POLICY_COLUMNS - 1];
	static const Oid types[] = {TEXTOID, INTERVALOID, TEXTOID, TIMESTAMPTZOID};

	policies->context = context;
	policies->generation = generation;
	(void) idem_plan_execute(IDEM_PLAN_POLICY_LOAD, owner, true, NULL, NULL,
							 arrays, isnull, lengthof(arrays));
	for (size_t i = 0; i < lengthof(arrays) && !isnull[0]; i++)
	{
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(types[i], &len, &byval, &align);
		deconstruct_array(DatumGetArrayTypeP(arrays[i]), types[i], len, byval,
						  align, &values[i], &nulls[i], &policies->n);
	}

	/* the shared mark has no row before it is first raised */
	policies->policies = palloc0_array(IdemPolicy, policies->n + 1);
	for (int i = 0; i < policies->n; i++)
	{
		IdemPolicy *policy = &policies->policies[i];

		policy->source = TextDatumGetCString(values[0][i]);
		policy->in_force = !nulls[1][i];
		if (policy->in_force)
			policy->retention = idem_interval_usecs(DatumGetIntervalP(values[1][i]));
		read_key_times(policy, TextDatumGetCString(values[2][i]));
		policy->mark = DatumGetTimestampTz(values[3][i]);
	}
	qsort(policies->policies, policies->n, sizeof(IdemPolicy), compare_policies);
	if (idem_policies_find(policies, IDEM_SHARED_MARK, 0) == NULL)
	{
		IdemPolicy *shared = &policies->policies[policies->n++];

		shared->source = pstrdup(IDEM_SHARED_MARK);
		shared->mark = DT_NOBEGIN;
		qsort(policies->policies, policies->n, sizeof(IdemPolicy),
			  compare_policies);
	}
	MemoryContextSwitchTo(caller);
	return policies;
}

/* The policy of a source, in force or not; NULL: it never had one. */
IdemPolicy *
idem_policies_find(const IdemPolicies *policies, const char *source, int len)
{
	char		name[IDEM_SOURCE_MAX + 1];
	IdemPolicy	wanted = {.source = name};

	if (len > IDEM_SOURCE_MAX)
		return NULL;
	memcpy(name, source, len);
	name[len] = '\0';
	return bsearch(&wanted, policies->policies, policies->n, sizeof(IdemPolicy),
				   compare_policies);
}

/*
 * Raises the marks of some policies to the cutoffs, for which the caller holds
 * a lock that keeps policies from being changed.
 */
void
idem_policies_raise(const IdemPolicies *policies, Oid owner, const bool *raise)
{
	Datum	   *sources = palloc_array(Datum, policies->n + 1);
	Datum	   *marks = palloc_array(Datum, policies->n + 1);
	Datum		values[2];
	int			n = 0;
	int16		len;
	bool		byval;
	char		align;

	for (int i = 0; i < policies->n; i++)
	{
		if (!raise[i])
			continue;
		sources[n] = CStringGetTextDatum(policies->policies[i].source);
		marks[n++] = TimestampTzGetDatum(policies->policies[i].cutoff);
	}
	values[0] = PointerGetDatum(construct_array(sources, n, TEXTOID, -1, false,
												TYPALIGN_INT));
	get_typlenbyvalalign(TIMESTAMPTZOID, &len, &byval, &align);
	values[1] = PointerGetDatum(construct_array(marks, n, TIMESTAMPTZOID, len,
												byval, align));
	(void) idem_plan_execute(IDEM_PLAN_POLICY_RAISE, owner, false, values, NULL,
							 NULL, NULL, 0);
	changed();
}


/* Makes what is kept stale; it is freed when a policy is next asked for. */
static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == policy_relid)
		generation++;
}

/* The row of a source; what there is none of is as for a source never seen. */
static bool
find_policy(Datum source, Oid owner, PolicyRow *row)
{
	if (idem_plan_execute(IDEM_PLAN_POLICY_FIND, owner, true, &source, NULL,
						  row->values, row->nulls, POLICY_COLUMNS) > 0)
		return true;

	memset(row->nulls, true, sizeof(row->nulls));
	row->values[POLICY_SOURCE] = source;
	row->nulls[POLICY_SOURCE] = false;
	row->values[POLICY_KEY_TIMES] = CStringGetTextDatum("");
	row->nulls[POLICY_KEY_TIMES] = false;
	row->values[POLICY_MARK] = TimestampTzGetDatum(DT_NOBEGIN);
	row->nulls[POLICY_MARK] = false;
	return false;
}

/* Writes a row, unless it is as it was: then nobody is disturbed. */
static void
write_policy(const PolicyRow *was, PolicyRow *row, Oid owner)
{
	bool		same = true;

	row->values[POLICY_KEY_TIMES] = key_times_with(row);
	for (int i = 0; i < POLICY_COLUMNS; i++)
		same &= was->nulls[i] == row->nulls[i] &&
			(row->nulls[i] ||
			 (i == POLICY_RETENTION ?
			  memcmp(DatumGetIntervalP(was->values[i]),
					 DatumGetIntervalP(row->values[i]), sizeof(Interval)) == 0 :
			  i == POLICY_MARK ?
			  DatumGetTimestampTz(was->values[i]) ==
			  DatumGetTimestampTz(row->values[i]) :
			  idem_same_bytes(was->values[i], row->values[i])));
	if (same)
		return;

	(void) idem_plan_execute(IDEM_PLAN_POLICY_SET, owner, false, row->values,
							 row->nulls, NULL, NULL, 0);
	changed();
}

/* All that the source has had, with the present one. */
static Datum
key_times_with(const PolicyRow *row)
{
	char	   *had = TextDatumGetCString(row->values[POLICY_KEY_TIMES]);
	char	   *present;

	if (row->nulls[POLICY_KEY_TIME])
		return row->values[POLICY_KEY_TIMES];
	present = psprintf("%s ", TextDatumGetCString(row->values[POLICY_KEY_TIME]));
	for (char *found = strstr(had, present); found != NULL;
		 found = strstr(found + 1, present))
		if (found == had || found[-1] == ' ')
			return row->values[POLICY_KEY_TIMES];
	return CStringGetTextDatum(psprintf("%s%s", had, present));
}

/* Tells every session, when this is committed, and ours now. */
static void
changed(void)
{
	CacheInvalidateRelcacheByRelid(policy_relid);
	CommandCounterIncrement();
}

/* Judges a key by the policy of its source. */
static IdemKeyAge
judge(const Datum *key, Judgement *judgement)
{
	const CachedPolicy *policy;

	if (cache_generation != generation)
		refill();
	if (!cache_any)
		return IDEM_KEY_NEW;
	policy = cached_policy(key[0]);
	if (policy->key_time.format == IDEM_KEY_NO_TIME)
		return IDEM_KEY_NEW;

	judgement->key_time = policy->key_time;
	judgement->ahead = false;
	judgement->now = GetCurrentTimestamp();
	judgement->limit = Max(policy->mark, judgement->now - policy->retention);
	if (!idem_key_time_read(&policy->key_time, key[1], &judgement->begin,
							&judgement->end))
		return IDEM_KEY_INVALID;
	if (judgement->begin > judgement->now + AHEAD_MAX)
	{
		judgement->ahead = true;
		return IDEM_KEY_INVALID;
	}
	return judgement->end <= judgement->limit ? IDEM_KEY_GONE : IDEM_KEY_NEW;
}

/* Forgets what is kept, and looks whether there is any policy to follow. */
static void
refill(void)
{
	uint64		noted;
	Oid			owner;

	cache = NULL;
	if (cache_context != NULL)
		MemoryContextReset(cache_context);

	owner = idem_policy_lock(AccessShareLock);
	noted = generation;
	cache_any = idem_plan_execute(IDEM_PLAN_POLICY_ANY, owner, true, NULL, NULL,
								  NULL, NULL, 0) > 0;
	/* on another node of a cluster our message is not heard */
	cache_generation = OidIsValid(get_extension_oid("citus", true)) ? 0 : noted;
}

/* A source's policy, read now unless this session has it. */
static CachedPolicy *
cached_policy(Datum source)
{
	char		name[IDEM_SOURCE_MAX + 1];
	CachedPolicy *policy;
	PolicyRow	row;
	IdemKeyTime key_time = {IDEM_KEY_NO_TIME, 0};
	bool		found;

	text_to_cstring_buffer(DatumGetTextPP(source), name, sizeof(name));
	if (cache != NULL)
	{
		policy = hash_search(cache, name, HASH_FIND, NULL);
		if (policy != NULL)
			return policy;
	}

	if (find_policy(source, idem_policy_lock(AccessShareLock), &row) &&
		!row.nulls[POLICY_RETENTION] && !row.nulls[POLICY_KEY_TIME])
	{
		text	   *format = DatumGetTextPP(row.values[POLICY_KEY_TIME]);

		if (!idem_key_time_parse(VARDATA_ANY(format), VARSIZE_ANY_EXHDR(format),
								 &key_time))
			elog(ERROR, "unknown key_time \"%s\"", text_to_cstring(format));
	}

	if (cache != NULL && hash_get_num_entries(cache) >= CACHED_POLICIES_MAX)
	{
		cache = NULL;
		MemoryContextReset(cache_context);
	}
	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(CacheMemoryContext,
											  "idem policy cache",
											  ALLOCSET_SMALL_SIZES);
	if (cache == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(((CachedPolicy *) NULL)->source);
		ctl.entrysize = sizeof(CachedPolicy);
		ctl.hcxt = cache_context;
		cache = hash_create("idem policy cache", 16, &ctl,
							HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	policy = hash_search(cache, name, HASH_ENTER, &found);
	policy->key_time = key_time;
	policy->retention = row.nulls[POLICY_RETENTION] ? 0 :
		idem_interval_usecs(DatumGetIntervalP(row.values[POLICY_RETENTION]));
	policy->mark = DatumGetTimestampTz(row.values[POLICY_MARK]);
	return policy;
}

/* Whether it was done is no longer known. */
static void
gone_error(const IdemStore *store, const Datum *key, const Judgement *judgement)
{
	char	   *end = pstrdup(timestamptz_to_str(judgement->end));

	idem_stat_count_now(IDEM_STAT_CLAIM_GONE, key[0]);
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_GONE),
			 errmsg("key is older than what is remembered"),
			 errdetail("Key %s is of %s; what is not newer than %s may have been forgotten.",
					   idem_store_key(store->table, key), end,
					   timestamptz_to_str(judgement->limit)),
			 errhint("Find out whether the work was done; if it was not, and is still wanted, use a new key.")));
}

/* The time of a key cannot be read, or cannot be true. */
static void
invalid_error(const IdemStore *store, const Datum *key,
			  const Judgement *judgement)
{
	if (judgement->ahead)
	{
		char	   *begin = pstrdup(timestamptz_to_str(judgement->begin));

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key lies in the future"),
				 errdetail("Key %s is of %s, and it is %s now; up to 24 hours ahead are accepted.",
						   idem_store_key(store->table, key), begin,
						   timestamptz_to_str(judgement->now)),
				 errhint("Correct the clock that the key was made by, or the form of the key.")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("time of the key cannot be read"),
			 errdetail("Key %s is not %s.", idem_store_key(store->table, key),
					   idem_key_time_expected(&judgement->key_time)),
			 errhint("Make keys of this source in that form, or change its key_time with idem_policy.")));
}

/* Reads the list of formats that a source has had, each followed by a space. */
static void
read_key_times(IdemPolicy *policy, const char *names)
{
	policy->key_times = palloc_array(IdemKeyTime, strlen(names) / 2 + 1);
	while (*names != '\0')
	{
		int			len = strcspn(names, " ");

		if (!idem_key_time_parse(names, len,
								 &policy->key_times[policy->nkey_times++]))
			elog(ERROR, "unknown key_time \"%s\"", names);
		names += len + strspn(names + len, " ");
	}
}

/* qsort and bsearch comparator: by source. */
static int
compare_policies(const void *a, const void *b)
{
	return strcmp(((const IdemPolicy *) a)->source,
				  ((const IdemPolicy *) b)->source);
}
