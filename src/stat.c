/*-------------------------------------------------------------------------
 *
 * stat.c
 *	  Counters in shared memory: one slot for each database, kind and source.
 *
 * The contract.  What stat_count.c reports is added to a slot of its own for
 * each (database, kind, source); source may be none.  The table has a fixed
 * size, IDEM_STAT_SLOTS slots, 1.8 MB.  When the slots that a source could have
 * are all taken, the least busy of them is added to the slot without a source
 * of its database and kind, and the new source has its place; so a sum over
 * all sources is right, whatever their number.  The slots without a source
 * are never given up; should there be no room for one either, which takes some
 * hundreds of databases that use idem, its counts are lost.  Nothing here
 * raises.  A restart, also one after a crash, empties the table.
 *
 * Where it is.  From PostgreSQL 17 on in a named segment that the first call
 * makes; before that in memory that the server must be asked for at its start,
 * so idem must be in shared_preload_libraries, or nothing is counted.  If a
 * session cannot have the segment, it counts nothing and warns once: nobody's
 * claim fails for a counter.  (PostgreSQL 17 and 18 do not try again for a
 * segment that could once not be made, until they are started again.)
 *
 * Locking rules.  A tag is the hash of a slot's (database, kind, source), or
 * says that the slot is free.
 *
 *		tags[]			read without a lock; written with the spinlock held
 *		pins			atomic.  Who has pinned a slot, and found its tag as it
 *						was, may rely on it until the pin is given up
 *		database, kind, sourcelen, source
 *						written with the spinlock held, while the tag says that
 *						the slot is free and nobody has it pinned; read by who
 *						has pinned it
 *		cells			atomic; changed and read by who has pinned the slot, or
 *						holds the spinlock
 *		started			written once, before anybody else sees the segment
 *
 * To pin is to announce oneself and then to look at the tag again; to give a
 * slot to another source is to change the tag and then to look for pins.  Both
 * are full barriers, so one of the two sees the other: who counts looks again,
 * or the slot is left alone.  A pin is held for some additions, during which
 * nothing can fail or be interrupted.  The spinlock is taken for a source that
 * has no slot yet, and by idem_stat_reset slot by slot: never by a call whose
 * source is known.
 *
 * Finding a slot.  A source may be in the WINDOW slots that follow its hash.
 * A slot that was never used ends the search: such slots are taken from the
 * front.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define IDEM_STAT_SLOTS		4096	/* a power of 2 */
#define WINDOW				64

/* Tags that are no hash. */
#define TAG_NEVER_USED		UINT64CONST(0)
#define TAG_FREE			UINT64CONST(1)
#define TAGS_END			UINT64CONST(2)

typedef struct IdemStatShared
{
	slock_t		mutex;
	TimestampTz started;
	pg_atomic_uint64 tags[IDEM_STAT_SLOTS];
	IdemStatSlot slots[IDEM_STAT_SLOTS];
} IdemStatShared;

/*
 * The name of the segment.  It changes with its layout: after an update of the
 * library old and new sessions run side by side.
 */
#define SEGMENT_NAME		"idem_stat_1"

static IdemStatShared *shared = NULL;

#if !IDEM_SEGMENT_ON_DEMAND
static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void request_shared(void);
static void startup_shared(void);
#else
static bool make_segment(void *arg);
static bool warn_without_segment(const ErrorData *edata);
#endif
static void init_shared(IDEM_SEGMENT_INIT_ARGS);
static uint64 tag_of(uint64 hash);
static uint64 hash_in(Oid database, IdemStatKind kind, const char *source,
					  int len);
static bool still_has(const IdemStatSlot *slot, int i, uint64 tag);
static IdemStatSlot *find(Oid database, IdemStatKind kind, const char *source,
						  int len, uint64 tag);
static IdemStatSlot *enter(IdemStatKind kind, const char *source, int len,
						   uint64 tag);
static int	choose(uint64 tag);
static bool set_free(int i);
static void sum_up(IdemStatSlot *from);
static uint64 business(IdemStatSlot *slot);
static void zero(IdemStatSlot *slot);


/* Asks for shared memory if that must be done at the server's start. */
void
idem_stat_init(void)
{
#if !IDEM_SEGMENT_ON_DEMAND
	if (!process_shared_preload_libraries_in_progress)
		return;

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shared;
#endif
}

/* Are there counters?  To be called before anything else here. */
bool
idem_stat_attach(void)
{
#if IDEM_SEGMENT_ON_DEMAND
	static bool tried = false;

	/* where a subtransaction may not begin, a later call tries */
	if (!tried && !IsInParallelMode())
	{
		(void) idem_subxact(make_segment, NULL, warn_without_segment);
		tried = true;
	}
#endif
	return shared != NULL;
}

/* The hash of what has a slot of its own. */
uint64
idem_stat_hash(IdemStatKind kind, const char *source, int len)
{
	return hash_in(MyDatabaseId, kind, source, len);
}

/*
 * The slot of a source of this database, pinned; if there is no room for it the
 * one without a source, and NULL if there is none for that either.
 */
IdemStatSlot *
idem_stat_pin(IdemStatKind kind, const char *source, int len, uint64 hash)
{
	uint64		tag = tag_of(hash);
	IdemStatSlot *slot = find(MyDatabaseId, kind, source, len, tag);

	if (slot == NULL)
		slot = enter(kind, source, len, tag);
	if (slot == NULL && len > 0)
		slot = idem_stat_pin(kind, "", 0, idem_stat_hash(kind, "", 0));
	return slot;
}

/* Gives up a pin. */
void
idem_stat_unpin(IdemStatSlot *slot)
{
	pg_atomic_fetch_sub_u32(&slot->pins, 1);
}

/*
 * The next slot of this database, pinned, beginning at *position, which moves
 * behind it; NULL: there is none.
 */
IdemStatSlot *
idem_stat_next(int *position)
{
	while (*position < IDEM_STAT_SLOTS)
	{
		int			i = (*position)++;
		IdemStatSlot *slot = &shared->slots[i];
		uint64		tag = pg_atomic_read_u64(&shared->tags[i]);

		if (tag < TAGS_END)
			continue;
		pg_atomic_fetch_add_u32(&slot->pins, 1);
		if (still_has(slot, i, tag) && slot->database == MyDatabaseId)
			return slot;
		idem_stat_unpin(slot);
	}
	return NULL;
}

/*
 * Sets all counters of this database to 0, from now on, and frees the slots of
 * databases that are no more.
 */
void
idem_stat_clear(void)
{
	IdemStatSlot *since;

	for (int i = 0; i < IDEM_STAT_SLOTS; i++)
	{
		IdemStatSlot *slot = &shared->slots[i];
		Oid			database = slot->database;
		bool		ours = database == MyDatabaseId;

		if (pg_atomic_read_u64(&shared->tags[i]) < TAGS_END ||
			(!ours &&
			 SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database))))
			continue;

		SpinLockAcquire(&shared->mutex);
		if (pg_atomic_read_u64(&shared->tags[i]) >= TAGS_END &&
			slot->database == database)
		{
			zero(slot);
			/* a source's place is free again; what was added just now stays */
			if ((!ours || slot->sourcelen > 0) && set_free(i) && ours)
				sum_up(slot);
		}
		SpinLockRelease(&shared->mutex);
	}

	since = idem_stat_pin(IDEM_STAT_SINCE, "", 0,
						  idem_stat_hash(IDEM_STAT_SINCE, "", 0));
	if (since != NULL)
	{
		pg_atomic_write_u64(&since->cells[0].count,
							(uint64) GetCurrentTimestamp());
		idem_stat_unpin(since);
	}
}

/* Since when this database's counters count. */
TimestampTz
idem_stat_since(void)
{
	IdemStatSlot *slot = find(MyDatabaseId, IDEM_STAT_SINCE, "", 0,
							  tag_of(idem_stat_hash(IDEM_STAT_SINCE, "", 0)));
	TimestampTz since = 0;

	if (slot != NULL)
	{
		since = (TimestampTz) pg_atomic_read_u64(&slot->cells[0].count);
		idem_stat_unpin(slot);
	}
	return since != 0 ? since : shared->started;
}

/* Says what a run has done until now. */
void
idem_stat_run(IdemStatRun run, const IdemStatRunState *state)
{
	IdemStatKind kind = IDEM_STAT_RUN + run;
	IdemStatSlot *slot;

	if (!idem_stat_attach())
		return;
	slot = idem_stat_pin(kind, "", 0, idem_stat_hash(kind, "", 0));
	if (slot == NULL)
		return;
	pg_atomic_write_u64(&slot->cells[0].count, (uint64) state->started);
	pg_atomic_write_u64(&slot->cells[1].count, (uint64) state->ended);
	pg_atomic_write_u64(&slot->cells[2].count, state->keys_read);
	pg_atomic_write_u64(&slot->cells[3].count, state->removed);
	pg_atomic_write_u64(&slot->cells[4].count, state->usecs);
	idem_stat_unpin(slot);
}


#if IDEM_SEGMENT_ON_DEMAND
/* Makes the segment, or finds it: an IdemStep. */
static bool
make_segment(void *arg)
{
	bool		found;

	shared = idem_segment(SEGMENT_NAME, sizeof(IdemStatShared), init_shared,
						  &found);
	return true;
}

/* There are no counters in this session: an IdemExpected. */
static bool
warn_without_segment(const ErrorData *edata)
{
	if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return false;
	ereport(WARNING,
			(errcode(edata->sqlerrcode),
			 errmsg("idem counts nothing in this session"),
			 errdetail("The shared memory for its counters: %s.",
					   edata->message),
			 errhint("Make room for %zu bytes of dynamic shared memory (in /dev/shm), and start the server again.",
					 sizeof(IdemStatShared))));
	return true;
}

#else
/* Hook: memory that must be asked for at the server's start. */
static void
request_shared(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(sizeof(IdemStatShared));
}

/* Hook: the memory is there. */
static void
startup_shared(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(SEGMENT_NAME, sizeof(IdemStatShared), &found);
	if (!found)
		init_shared(shared);
	LWLockRelease(AddinShmemInitLock);
}
#endif

/* Makes an empty table. */
static void
init_shared(IDEM_SEGMENT_INIT_ARGS)
{
	IdemStatShared *new = ptr;

	SpinLockInit(&new->mutex);
	new->started = GetCurrentTimestamp();
	for (int i = 0; i < IDEM_STAT_SLOTS; i++)
	{
		IdemStatSlot *slot = &new->slots[i];

		pg_atomic_init_u64(&new->tags[i], TAG_NEVER_USED);
		pg_atomic_init_u32(&slot->pins, 0);
		slot->database = InvalidOid;
		for (int cell = 0; cell < IDEM_STAT_CELLS; cell++)
		{
			pg_atomic_init_u64(&slot->cells[cell].count, 0);
			pg_atomic_init_u64(&slot->cells[cell].waits, 0);
			pg_atomic_init_u64(&slot->cells[cell].wait_usecs, 0);
		}
	}
}

/* A slot's tag, which is none of the others. */
static uint64
tag_of(uint64 hash)
{
	return hash < TAGS_END ? hash + TAGS_END : hash;
}

/* The hash of what has a slot of its own in some database. */
static uint64
hash_in(Oid database, IdemStatKind kind, const char *source, int len)
{
	return hash_bytes_extended((const unsigned char *) source, len,
							   (uint64) database * IDEM_STAT_RUN_END + kind);
}

/* Has a slot, now that it is pinned, the tag that it had before? */
static bool
still_has(const IdemStatSlot *slot, int i, uint64 tag)
{
	if (pg_atomic_read_u64(&shared->tags[i]) != tag)
		return false;
	pg_read_barrier();			/* pairs with that of enter() */
	return true;
}

/* The slot of a source, pinned; NULL: it has none. */
static IdemStatSlot *
find(Oid database, IdemStatKind kind, const char *source, int len, uint64 tag)
{
	for (int n = 0; n < WINDOW; n++)
	{
		int			i = (tag + n) % IDEM_STAT_SLOTS;
		IdemStatSlot *slot = &shared->slots[i];
		uint64		present = pg_atomic_read_u64(&shared->tags[i]);

		if (present == TAG_NEVER_USED)
			return NULL;
		if (present != tag)
			continue;

		pg_atomic_fetch_add_u32(&slot->pins, 1);
		if (still_has(slot, i, tag) && slot->database == database &&
			slot->kind == kind && slot->sourcelen == len &&
			memcmp(slot->source, source, len) == 0)
			return slot;
		idem_stat_unpin(slot);
	}
	return NULL;
}

/*
 * Gives a source a slot, and answers it pinned; NULL: there is no room.
 * Somebody else may have done so since it was not found.
 */
static IdemStatSlot *
enter(IdemStatKind kind, const char *source, int len, uint64 tag)
{
	IdemStatSlot *slot;
	int			i;

	/* what the source will be added to when it is the least busy one */
	if (len > 0)
	{
		slot = idem_stat_pin(kind, "", 0, idem_stat_hash(kind, "", 0));
		if (slot == NULL)
			return NULL;
		idem_stat_unpin(slot);
	}

	SpinLockAcquire(&shared->mutex);
	slot = find(MyDatabaseId, kind, source, len, tag);
	if (slot == NULL && (i = choose(tag)) >= 0)
	{
		slot = &shared->slots[i];
		slot->database = MyDatabaseId;
		slot->kind = kind;
		slot->sourcelen = len;
		memcpy(slot->source, source, len);
		zero(slot);
		pg_atomic_fetch_add_u32(&slot->pins, 1);
		pg_write_barrier();
		pg_atomic_write_u64(&shared->tags[i], tag);
	}
	SpinLockRelease(&shared->mutex);
	return slot;
}

/*
 * Makes one of the slots free that a source with this tag could have, and
 * answers its number; -1: there is none.  The spinlock is held.
 */
static int
choose(uint64 tag)
{
	int			least = -1;
	uint64		least_business = 0;

	for (int n = 0; n < WINDOW; n++)
	{
		int			i = (tag + n) % IDEM_STAT_SLOTS;
		IdemStatSlot *slot = &shared->slots[i];
		uint64		count;

		/* who looked for what was here may have it pinned for an instant */
		if (pg_atomic_read_u32(&slot->pins) > 0)
			continue;
		if (pg_atomic_read_u64(&shared->tags[i]) < TAGS_END)
			return i;
		if (slot->sourcelen == 0)
			continue;
		count = business(slot);
		if (least < 0 || count < least_business)
		{
			least = i;
			least_business = count;
		}
	}
	if (least < 0 || !set_free(least))
		return -1;
	sum_up(&shared->slots[least]);
	return least;
}

/* Frees a slot unless somebody has it pinned.  The spinlock is held. */
static bool
set_free(int i)
{
	uint64		tag = pg_atomic_exchange_u64(&shared->tags[i], TAG_FREE);

	if (pg_atomic_read_u32(&shared->slots[i].pins) == 0)
		return true;
	pg_atomic_write_u64(&shared->tags[i], tag);
	return false;
}

/*
 * Adds what a slot has counted to that without a source.  The spinlock is held,
 * the slot is free.
 */
static void
sum_up(IdemStatSlot *from)
{
	IdemStatSlot *rest;

	if (business(from) == 0)
		return;
	rest = find(from->database, from->kind, "", 0,
				tag_of(hash_in(from->database, from->kind, "", 0)));
	if (rest == NULL)
		return;
	for (int i = 0; i < IDEM_STAT_CELLS; i++)
	{
		IdemStatCell *cell = &from->cells[i];

		pg_atomic_fetch_add_u64(&rest->cells[i].count,
								pg_atomic_read_u64(&cell->count));
		pg_atomic_fetch_add_u64(&rest->cells[i].waits,
								pg_atomic_read_u64(&cell->waits));
		pg_atomic_fetch_add_u64(&rest->cells[i].wait_usecs,
								pg_atomic_read_u64(&cell->wait_usecs));
	}
	idem_stat_unpin(rest);
}

/* How much a slot has counted. */
static uint64
business(IdemStatSlot *slot)
{
	uint64		sum = 0;

	for (int i = 0; i < IDEM_STAT_CELLS; i++)
		sum += pg_atomic_read_u64(&slot->cells[i].count) +
			pg_atomic_read_u64(&slot->cells[i].waits);
	return sum;
}

/* Sets a slot's counters to 0. */
static void
zero(IdemStatSlot *slot)
{
	for (int i = 0; i < IDEM_STAT_CELLS; i++)
	{
		pg_atomic_write_u64(&slot->cells[i].count, 0);
		pg_atomic_write_u64(&slot->cells[i].waits, 0);
		pg_atomic_write_u64(&slot->cells[i].wait_usecs, 0);
	}
}
