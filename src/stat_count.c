/*-------------------------------------------------------------------------
 *
 * stat_count.c
 *	  What is counted when: at once, or when the transaction commits.
 *
 * The contract.  What a call answers counts if its transaction commits, at that
 * moment, or when it is prepared; what is rolled back, also to a savepoint,
 * was not answered and does not count.  What raises is rolled back for sure and
 * counts at once, and so do waits, which took their time whatever came of
 * them.  A wait counts with the outcome of the call that waited; if that has
 * none of those that are counted, for instance because lock_timeout ended it,
 * with no outcome.
 *
 * Why it is exact.  The server calls back after the commit and before it gives
 * up the transaction's locks or answers the client, with interrupts held.  So
 * who was told of a commit finds it counted, and who has got the lock on our
 * tables that DROP EXTENSION takes finds everything counted.  A process that
 * is killed in between makes the server restart, which empties the table.
 *
 * Pending counts are private to the session: a stack of entries, one for each
 * (nesting level, kind, source), in the order in which they came, so that
 * those of a subtransaction are on top.  When it ends they go, or are handed to
 * the level below.  An index finds an entry by its hash; what goes is always
 * what came last, so that the index, which probes linearly, needs no marks for
 * what was removed.  At most MAX_SOURCES entries name a source, in 330 kB;
 * those of more count without a source, as if they were the least busy.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

/* Entries with a source that a transaction may have pending. */
#define MAX_SOURCES		1000

/* Entries to begin with, and to go back to at the end of a transaction. */
#define FEW_ENTRIES		16

typedef struct Pending
{
	uint64		hash;			/* of kind and source */
	int			level;			/* nesting level of the transaction */
	uint8		kind;
	uint8		sourcelen;
	char		source[IDEM_SOURCE_MAX];
	uint64		counts[IDEM_STAT_OUTCOMES];
} Pending;

/* The stack, and the index of twice its size: 0, or number + 1 of an entry. */
static Pending *pending = NULL;
static uint32 *pending_index = NULL;
static int	npending = 0;
static int	nsources = 0;		/* of these with a source */
static int	room = 0;			/* a power of 2 */
static int	last = 0;			/* the entry counted for last, if still there */

/* Waits whose outcome is not known yet. */
static struct
{
	bool		open;			/* the call is at something that may wait */
	instr_time	began;
	TimestampTz before;			/* when the wait before that began */
	int			level;			/* nesting level of the transaction */
	uint8		kind;
	uint8		sourcelen;
	char		source[IDEM_SOURCE_MAX];
	uint64		waits;
	uint64		usecs;
}			waited;

static Pending *pending_entry(int level, IdemStatKind kind, const char *source,
							  int len, uint64 hash);
static inline bool is_entry_of(const Pending *entry, int level,
							   IdemStatKind kind, const char *source, int len);
static uint32 *find_entry(int level, IdemStatKind kind, const char *source,
						  int len, uint64 hash);
static uint32 first_place(int level, uint64 hash);
static void make_room(void);
static void drop_level(int level);
static void hand_down(int level);
static void publish(void);
static void forget(void);
static void add_now(IdemStatKind kind, const char *source, int len, int cell,
					uint64 count);
static void set_waiter(IdemStatKind kind, Datum source);
static void end_of_wait(void);
static const char *source_of(IdemStatKind kind, Datum source, int *len);
static void at_transaction_end(XactEvent event, void *arg);
static void at_subtransaction_end(SubXactEvent event, SubTransactionId subid,
								  SubTransactionId parent, void *arg);


/* Registers what is to be done at the end of transactions. */
void
idem_stat_count_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/* Counts n of an outcome when the transaction commits; waits for it, at once. */
void
idem_stat_count(IdemStatOutcome outcome, Datum source, uint64 n)
{
	IdemStatKind kind = IDEM_STAT_KIND_OF(outcome);
	int			cell = IDEM_STAT_CELL_OF(outcome);
	int			level;
	int			len;
	const char *bytes;

	if (!idem_stat_attach())
		return;

	bytes = source_of(kind, source, &len);
	if (waited.waits > 0)
		add_now(kind, bytes, len, cell, 0);

	/* most calls are for the source of the call before */
	level = GetCurrentTransactionNestLevel();
	if (last >= npending ||
		!is_entry_of(&pending[last], level, kind, bytes, len))
		last = pending_entry(level, kind, bytes, len,
							 idem_stat_hash(kind, bytes, len)) - pending;
	pending[last].counts[cell] += n;
}

/* Counts one of an outcome, and the waits for it, at once: it raises. */
void
idem_stat_count_now(IdemStatOutcome outcome, Datum source)
{
	IdemStatKind kind = IDEM_STAT_KIND_OF(outcome);
	int			len;
	const char *bytes;

	if (!idem_stat_attach())
		return;
	bytes = source_of(kind, source, &len);
	add_now(kind, bytes, len, IDEM_STAT_CELL_OF(outcome), 1);
}

/* What was waited for came to nothing that is counted. */
void
idem_stat_no_outcome(void)
{
	if (waited.waits > 0)
		add_now(waited.kind, waited.source, waited.sourcelen,
				IDEM_STAT_OUTCOMES, 0);
}

/*
 * From now on a wait for a lock is one for a rival, until idem_stat_wait_end or
 * the end of the transaction or subtransaction.
 */
void
idem_stat_wait_begin(IdemStatKind kind, Datum source)
{
	if (!idem_stat_attach())
		return;
	set_waiter(kind, source);
	waited.before = get_timeout_start_time(DEADLOCK_TIMEOUT);
	INSTR_TIME_SET_CURRENT(waited.began);
	waited.open = true;
}

/* What may have waited is over. */
void
idem_stat_wait_end(void)
{
	if (waited.open)
		end_of_wait();
}

/* A wait that the caller has taken the time of is over, or goes on (usecs). */
void
idem_stat_waited(IdemStatKind kind, Datum source, uint64 waits, uint64 usecs)
{
	if (!idem_stat_attach())
		return;
	set_waiter(kind, source);
	waited.waits += waits;
	waited.usecs += usecs;
}


/* The entry for a source at a level; there is one. */
static Pending *
pending_entry(int level, IdemStatKind kind, const char *source, int len,
			  uint64 hash)
{
	uint32	   *place;
	Pending    *entry;

	if (npending == room)
		make_room();

	place = find_entry(level, kind, source, len, hash);
	if (*place != 0)
		return &pending[*place - 1];
	if (len > 0 && nsources == MAX_SOURCES)
		return pending_entry(level, kind, "", 0, idem_stat_hash(kind, "", 0));

	entry = &pending[npending++];
	*place = npending;
	if (len > 0)
		nsources++;
	entry->hash = hash;
	entry->level = level;
	entry->kind = kind;
	entry->sourcelen = len;
	memcpy(entry->source, source, len);
	memset(entry->counts, 0, sizeof(entry->counts));
	return entry;
}

/* Is this the entry for a source at a level? */
static inline bool
is_entry_of(const Pending *entry, int level, IdemStatKind kind,
			const char *source, int len)
{
	return entry->level == level && entry->kind == kind &&
		entry->sourcelen == len && memcmp(entry->source, source, len) == 0;
}

/* The place of an entry in the index, or the one where it will be. */
static uint32 *
find_entry(int level, IdemStatKind kind, const char *source, int len,
		   uint64 hash)
{
	uint32		mask = 2 * room - 1;

	for (uint32 i = first_place(level, hash);; i = (i + 1) & mask)
	{
		const Pending *entry;

		if (pending_index[i] == 0)
			return &pending_index[i];
		entry = &pending[pending_index[i] - 1];
		if (entry->hash == hash &&
			is_entry_of(entry, level, kind, source, len))
			return &pending_index[i];
	}
}

/* Where the search for an entry begins. */
static uint32
first_place(int level, uint64 hash)
{
	return (uint32) (hash ^ (uint32) level * 0x9E3779B9) & (2 * room - 1);
}

/* Doubles the stack, and makes its index anew. */
static void
make_room(void)
{
	int			more = room == 0 ? FEW_ENTRIES : 2 * room;
	Pending    *entries;
	uint32	   *places;

	places = MemoryContextAllocZero(TopMemoryContext,
									2 * more * sizeof(uint32));
	if (pending == NULL)
		entries = MemoryContextAlloc(TopMemoryContext, more * sizeof(Pending));
	else
		entries = repalloc_huge(pending, more * sizeof(Pending));
	pending = entries;
	if (pending_index != NULL)
		pfree(pending_index);
	pending_index = places;
	room = more;

	for (int i = 0; i < npending; i++)
	{
		const Pending *entry = &pending[i];

		*find_entry(entry->level, entry->kind, entry->source, entry->sourcelen,
					entry->hash) = i + 1;
	}
}

/* Forgets the entries of a level and of those above it. */
static void
drop_level(int level)
{
	while (npending > 0 && pending[npending - 1].level >= level)
	{
		const Pending *entry = &pending[npending - 1];

		*find_entry(entry->level, entry->kind, entry->source, entry->sourcelen,
					entry->hash) = 0;
		if (entry->sourcelen > 0)
			nsources--;
		npending--;
	}
}

/* Hands the entries of a level to the one below it. */
static void
hand_down(int level)
{
	int			end = npending;

	/* the entries stay where they are until they are read again */
	drop_level(level);
	for (int i = npending; i < end; i++)
	{
		Pending		from = pending[i];
		Pending    *to = pending_entry(level - 1, from.kind, from.source,
									   from.sourcelen, from.hash);

		for (int cell = 0; cell < IDEM_STAT_OUTCOMES; cell++)
			to->counts[cell] += from.counts[cell];
	}
}

/* Counts what is pending. */
static void
publish(void)
{
	for (int i = 0; i < npending; i++)
	{
		const Pending *entry = &pending[i];
		IdemStatSlot *slot = idem_stat_pin(entry->kind, entry->source,
										   entry->sourcelen, entry->hash);

		if (slot == NULL)
			continue;
		for (int cell = 0; cell < IDEM_STAT_OUTCOMES; cell++)
		{
			if (entry->counts[cell] > 0)
				pg_atomic_fetch_add_u64(&slot->cells[cell].count,
										entry->counts[cell]);
		}
		idem_stat_unpin(slot);
	}
}

/* Nothing is pending any more. */
static void
forget(void)
{
	if (room > FEW_ENTRIES)
	{
		pfree(pending);
		pfree(pending_index);
		pending = NULL;
		pending_index = NULL;
		room = npending = nsources = 0;
	}
	else
		drop_level(0);
}

/* Adds to a cell, and what was waited for it. */
static void
add_now(IdemStatKind kind, const char *source, int len, int cell, uint64 count)
{
	IdemStatSlot *slot = idem_stat_pin(kind, source, len,
									   idem_stat_hash(kind, source, len));

	if (slot != NULL)
	{
		if (count > 0)
			pg_atomic_fetch_add_u64(&slot->cells[cell].count, count);
		if (waited.waits > 0)
		{
			pg_atomic_fetch_add_u64(&slot->cells[cell].waits, waited.waits);
			pg_atomic_fetch_add_u64(&slot->cells[cell].wait_usecs,
									waited.usecs);
		}
		idem_stat_unpin(slot);
	}
	waited.waits = 0;
	waited.usecs = 0;
}

/* Says who waits, and has an end with what another call has left. */
static void
set_waiter(IdemStatKind kind, Datum source)
{
	int			len;
	const char *bytes = source_of(kind, source, &len);

	if (waited.kind != kind || waited.sourcelen != len ||
		memcmp(waited.source, bytes, len) != 0)
		idem_stat_no_outcome();
	waited.kind = kind;
	waited.sourcelen = len;
	memcpy(waited.source, bytes, len);
	waited.level = GetCurrentTransactionNestLevel();
}

/*
 * Takes down a wait if there was one: whoever has to wait for a lock sets the
 * timeout after which a deadlock is looked for.
 */
static void
end_of_wait(void)
{
	waited.open = false;
	if (get_timeout_start_time(DEADLOCK_TIMEOUT) != waited.before)
	{
		instr_time	now;

		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, waited.began);
		waited.waits++;
		waited.usecs += INSTR_TIME_GET_MICROSEC(now);
	}
}

/* The bytes of a source, of the length that a slot has room for. */
static const char *
source_of(IdemStatKind kind, Datum source, int *len)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(source);

	*len = 0;
	if (source == IDEM_STAT_NO_SOURCE || kind == IDEM_STAT_LOCK ||
		kind == IDEM_STAT_TOKEN)
		return "";
	*len = Min(VARSIZE_ANY_EXHDR(value), IDEM_SOURCE_MAX);
	return VARDATA_ANY(value);
}

/* Callback: a transaction has ended. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PREPARE:
			publish();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			return;
	}
	idem_stat_wait_end();
	idem_stat_no_outcome();
	forget();
}

/* Callback: a subtransaction has begun or ended. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			hand_down(level);
			waited.level = Min(waited.level, level - 1);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			drop_level(level);
			/* a call that began before it goes on, and has its outcome yet */
			if (waited.level >= level)
			{
				idem_stat_wait_end();
				idem_stat_no_outcome();
			}
			break;
		case SUBXACT_EVENT_START_SUB:
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			break;
	}
}
