/*-------------------------------------------------------------------------
 *
 * idem.h
 *	  The one internal header: error codes, limits, and what each file offers
 *	  to the others.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_H
#define IDEM_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "access/skey.h"
#include "fmgr.h"
#include "storage/itemptr.h"
#include "storage/lock.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "compat.h"

/*
 * Our own error class.  The last three characters are the HTTP status that
 * fits, so that a gateway needs no table.
 */
#define ERRCODE_IDEM_NOT_FOUND			MAKE_SQLSTATE('I','D','4','0','4')
#define ERRCODE_IDEM_IN_PROGRESS		MAKE_SQLSTATE('I','D','4','0','9')
#define ERRCODE_IDEM_STALE				MAKE_SQLSTATE('I','D','4','1','2')
#define ERRCODE_IDEM_OTHER_REQUEST		MAKE_SQLSTATE('I','D','4','2','2')
#define ERRCODE_IDEM_TOO_MANY			MAKE_SQLSTATE('I','D','4','2','9')
#define ERRCODE_IDEM_TRANSITION			MAKE_SQLSTATE('I','D','4','6','0')

/*
 * Limits in bytes.  Together they keep every index entry of ours below a
 * third of a page (2704 bytes), whatever the text: an unbounded key would be
 * refused or not depending on how well it compresses.
 */
#define IDEM_SOURCE_MAX		255
#define IDEM_SEQ_MAX		1024
#define IDEM_ITEM_MAX		255
#define IDEM_MACHINE_MAX	255
#define IDEM_STATE_MAX		255
#define IDEM_PURPOSE_MAX	255
#define IDEM_SUBJECT_MAX	255

/* Most buckets of an item. */
#define IDEM_BUCKETS_MAX	1024

/* arg.c: what an argument of the API may be */
extern text *idem_arg_text(FunctionCallInfo fcinfo, int argno,
						   const char *name, int maxlen);
extern void idem_arg_not_null(FunctionCallInfo fcinfo, int argno,
							  const char *name);
extern void idem_check_text(Datum value, const char *name, int maxlen);
extern const char *idem_arg_column(FunctionCallInfo fcinfo, int argno,
								   const char *name);
extern bool idem_arg_bool(FunctionCallInfo fcinfo, int argno, const char *name);
extern Interval *idem_arg_interval(FunctionCallInfo fcinfo, int argno,
								   const char *name);
extern TimestampTz idem_time_after(TimestampTz time, const Interval *interval);
extern int32 idem_arg_count(FunctionCallInfo fcinfo, int argno,
							const char *name, int32 max);
extern void idem_check_nonatomic(FunctionCallInfo fcinfo,
								 const char *procedure);
extern void idem_check_quantity(Datum value, const char *name);
extern Datum idem_zero(void);
extern Datum idem_integer_datum(Oid type, int64 n);

/* plan.c: every SQL text that C runs, first those on our own tables */
typedef enum IdemPlan
{
	IDEM_PLAN_CLAIM_FIND,
	IDEM_PLAN_CLAIM_INSERT,
	IDEM_PLAN_CLAIM_LOCK,
	IDEM_PLAN_CLAIM_LOCK_AT_ONCE,
	IDEM_PLAN_CLAIM_UPDATE,
	IDEM_PLAN_CLAIM_FORGET,
	IDEM_PLAN_CLAIM_WINDOW,
	IDEM_PLAN_CLAIM_PURGE,
	IDEM_PLAN_LOCK_FIND,
	IDEM_PLAN_LOCK_INSERT,
	IDEM_PLAN_LOCK_LOCK,
	IDEM_PLAN_LOCK_LOCK_AT_ONCE,
	IDEM_PLAN_LOCK_SHARE,
	IDEM_PLAN_LOCK_UPDATE,
	IDEM_PLAN_TRANSITION_LOAD,
	IDEM_PLAN_TRANSITION_DELETE,
	IDEM_PLAN_TRANSITION_INSERT,
	IDEM_PLAN_TOKEN_KEY_FIND,
	IDEM_PLAN_TOKEN_KEY_INSERT,
	IDEM_PLAN_TOKEN_KEY_SIGNING,
	IDEM_PLAN_TOKEN_KEY_RETIRE,
	IDEM_PLAN_TOKEN_KEY_DROP,
	IDEM_PLAN_TOKEN_SPENT_FIND,
	IDEM_PLAN_TOKEN_SPENT_INSERT,
	IDEM_PLAN_TOKEN_SPENT_WINDOW,
	IDEM_PLAN_TOKEN_SPENT_PURGE,
	IDEM_PLAN_TOKEN_RATE_FIND,
	IDEM_PLAN_TOKEN_RATE_INSERT,
	IDEM_PLAN_TOKEN_RATE_LOCK,
	IDEM_PLAN_TOKEN_RATE_UPDATE,
	IDEM_PLAN_TOKEN_RATE_WINDOW,
	IDEM_PLAN_TOKEN_RATE_PURGE,
	IDEM_PLAN_STOCK_FIND,
	IDEM_PLAN_STOCK_INSERT,
	IDEM_PLAN_STOCK_LOCK,
	IDEM_PLAN_STOCK_LOCK_FREE,
	IDEM_PLAN_STOCK_UPDATE,
	IDEM_PLAN_STOCK_ADD,
	IDEM_PLAN_STOCK_READ,
	IDEM_PLAN_HOLD_FIND,
	IDEM_PLAN_HOLD_INSERT,
	IDEM_PLAN_HOLD_LOCK,
	IDEM_PLAN_HOLD_UPDATE,
	IDEM_PLAN_HOLD_REMOVE,
	IDEM_PLAN_HOLD_EXPIRE,
	IDEM_PLAN_HOLD_WINDOW,
	IDEM_PLAN_HOLD_PURGE
} IdemPlan;

#define IDEM_PLANS			(IDEM_PLAN_HOLD_PURGE + 1)

extern uint64 idem_plan_execute(IdemPlan plan, Oid owner, bool read_only,
								const Datum *values, const bool *nulls,
								Datum *result, bool *resultnull,
								int nresult);

/* moment.c: the same, for a caller who is not to wait */
#define IDEM_MOMENT_TRIES	8	/* of an insert: 1, 2, 4 to 128 ms */

extern bool idem_moment_execute(IdemPlan plan, Oid owner,
								const Datum *values, const bool *nulls,
								int tries, uint64 *processed);

/* store.c: idem's own hot tables, directly or through SQL */
#define IDEM_MAX_KEYS		2
#define IDEM_MAX_ATTS		10
#define IDEM_RESERVE_MAX	128

/*
 * A table of ours, as the script makes it.  Its primary key is its first
 * nkeys columns, each text COLLATE "C" or int4; only keys all of text can be
 * reserved.  The last four members belong to
 * table.c, which fills them anew after an invalidation.
 */
typedef struct IdemTable
{
	const char *relname;		/* in schema idem */
	const char *keyname;		/* of the key's columns, for messages */
	int			nkeys;
	int			natts;
	int			required;		/* so many columns are NOT NULL, the first */
	Oid			atttypes[IDEM_MAX_ATTS];
	bool		metadata;		/* idem_store_read sees its latest state,
								 * whatever the isolation level */
	int			further;		/* number of a column with an index of its own
								 * over its values but nulls; 0: none */
	IdemPlan	find;			/* key -> all columns */
	IdemPlan	insert;			/* all columns, ON CONFLICT DO NOTHING */
	IdemPlan	lock;			/* key -> FOR NO KEY UPDATE */
	IdemPlan	lock_at_once;	/* the same, NOWAIT */
	IdemPlan	share;			/* key -> FOR SHARE; if such locks are taken */
	IdemPlan	update;			/* all columns, by key */
	IdemPlan	remove;			/* by key; if rows that were inserted are */

	Oid			relid;			/* InvalidOid: look it up */
	enum
	{
		IDEM_ROUTE_UNKNOWN,
		IDEM_ROUTE_FILLING,
		IDEM_ROUTE_KNOWN
	}			route;
	Oid			index;			/* InvalidOid: not as made, go through SQL */
	Oid			further_index;
} IdemTable;

extern void idem_table_init(void);
extern Oid	idem_find_table(const char *relname);
extern Relation idem_table_open(IdemTable *table, LOCKMODE lockmode,
								bool direct, Relation *index);

/* A table in use, from idem_store_open to idem_store_close. */
typedef struct IdemStore
{
	IdemTable  *table;
	Relation	heap;
	Relation	index;			/* NULL: through SQL */
	Oid			further;		/* the index on column further */
	bool		wait;			/* may wait for another transaction */
	bool		busy_is_answer; /* without wait: busy in place of ID409 */
	bool		busy;			/* another transaction was in the way */
	bool		row_locked;		/* through SQL: the row found is locked */
	ItemPointerData locked;		/* directly: this row version is locked */
	ItemPointerData inserted;	/* directly: the row inserted last */
	int			refused;		/* through SQL: writes that came to nothing */
	int			nreserved;
	LOCKTAG		reserved[IDEM_RESERVE_MAX];
} IdemStore;

/* What is known of a key. */
typedef enum IdemPresence
{
	IDEM_ABSENT,				/* nobody has it */
	IDEM_PRESENT,				/* the row is in IdemRow */
	IDEM_BUSY					/* an open transaction is inserting it */
} IdemPresence;

typedef struct IdemRow
{
	IdemPresence presence;
	TransactionId rival;		/* IDEM_BUSY: whom to wait for */
	uint32		token;			/* IDEM_BUSY: its speculative insertion, or 0 */
	ItemPointerData tid;
	Datum		values[IDEM_MAX_ATTS];
	bool		nulls[IDEM_MAX_ATTS];
} IdemRow;

typedef enum IdemAccess
{
	IDEM_READ,					/* reads only: allowed on a standby */
	IDEM_WRITE
} IdemAccess;

/* How firmly a row is locked: nobody else may write it, either way. */
typedef enum IdemRowLock
{
	IDEM_LOCK_UPDATE,			/* to write it */
	IDEM_LOCK_SHARE				/* others may hold such a lock, too */
} IdemRowLock;

extern void idem_check_access(IdemAccess access);
extern void idem_store_init(void);
extern void idem_store_open(IdemStore *store, IdemTable *table,
							IdemAccess access, bool wait);
extern void idem_store_close(IdemStore *store);
extern void idem_store_next_key(IdemStore *store);
extern bool idem_store_is_direct(const IdemStore *store);
extern void idem_store_read(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_reserve(IdemStore *store, const Datum *keys, int n);
extern bool idem_store_try_reserve(IdemStore *store, const Datum *key);
extern void idem_store_release(IdemStore *store);
extern void idem_store_find(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_wait(IdemStore *store, const Datum *key, IdemRow *row);
extern bool idem_store_insert(IdemStore *store, const Datum *values,
							  const bool *nulls);
extern int	idem_store_insert_many(IdemStore *store, Datum **values,
								   bool **nulls, int n);
extern bool idem_store_lock(IdemStore *store, const IdemRow *row,
							IdemRowLock strength);
extern bool idem_store_update(IdemStore *store, IdemRow *row,
							  const Datum *values, const bool *nulls);
extern void idem_store_remove(IdemStore *store, IdemRow *row);
extern void idem_store_refused(IdemStore *store, const Datum *key);
extern bool idem_store_judge(const IdemStore *store, HeapTuple tuple,
							 Snapshot snapshot, IdemRow *row);
extern void idem_store_scankey(ScanKey scankey, const IdemTable *table, int i,
							   Datum value);
extern char *idem_store_key(const IdemTable *table, const Datum *key);
extern void idem_check_owner(const IdemTable *table, const Datum *key,
							 Datum owner);

/* walk.c: many keys at once, from idem_walk_begin to idem_walk_end */
typedef struct IdemWalk
{
	IdemStore  *store;
	const Datum *last;			/* the last key */
	SnapshotData snapshot;
	struct SysScanDescData *scandesc;	/* NULL: begin at the next key */
	HeapTuple	ahead;			/* the row it stands at; NULL: behind the last */
	int			patience;		/* rows to step over; 0: walk no more */
} IdemWalk;

extern void idem_walk_begin(IdemWalk *walk, IdemStore *store,
							const Datum *keys, int n);
extern void idem_walk_find(IdemWalk *walk, const Datum *key, IdemRow *row);
extern void idem_walk_end(IdemWalk *walk);

/* claim_row.c: a row of idem.claim, for claims and attempts alike */
typedef enum IdemClaimColumn
{
	CLAIM_SOURCE,
	CLAIM_SEQ,
	CLAIM_OWNER,
	CLAIM_STATUS,
	CLAIM_FENCE,
	CLAIM_CLAIMED_AT,
	CLAIM_COMPLETED_AT,
	CLAIM_LEASE_UNTIL,
	CLAIM_REQUEST,
	CLAIM_RESPONSE,
	CLAIM_COLUMNS
} IdemClaimColumn;

#define CLAIM_KEYS			2

/* Column status, as stored; CLAIM_EXPIRED is what running becomes with time. */
typedef enum IdemClaimStatus
{
	CLAIM_DONE = 'd',
	CLAIM_RUNNING = 'r',
	CLAIM_EXPIRED = 'x',
	CLAIM_OPEN = 'o',
	CLAIM_FAILED = 'f',
	CLAIM_CANCELLED = 'c'
} IdemClaimStatus;

extern IdemTable idem_claim_table;

extern void idem_claim_key(FunctionCallInfo fcinfo, Datum *key);
extern void idem_claim_new_row(const Datum *key, IdemClaimStatus status,
							   Datum request, Datum *values, bool *nulls);
extern IdemClaimStatus idem_claim_status(const IdemRow *row);
extern const char *idem_claim_status_name(IdemClaimStatus status);
extern void idem_check_request(const Datum *key, const IdemRow *row,
							   Datum request);
extern Datum idem_request_digest(Jsonb *request);
extern bool idem_same_bytes(Datum a, Datum b);

/* definition.c: a state machine in memory */
#define IDEM_DEFINITION_MAX	(16 * 1024 * 1024)
#define IDEM_NO_STATE		(-1)

typedef struct IdemState
{
	char	   *name;
	int			len;
	uint32		hash;
	bool		entered;		/* from another state */
	bool		left;			/* for another state */
} IdemState;

typedef struct IdemTransition
{
	int			from;
	int			to;				/* IDEM_NO_STATE: from stands alone */
} IdemTransition;

typedef struct IdemMachine
{
	MemoryContext context;		/* holds all of it */
	uint64		generation;		/* current if that is still the cache's */
	char	   *name;
	IdemState  *states;			/* in order of appearance */
	int			nstates;
	int			states_size;
	int		   *slots;			/* open addressing: index in states, or -1 */
	uint32		slots_mask;
	IdemTransition *transitions;	/* in order of the definition */
	int			ntransitions;	/* with the states that stand alone */
	int			transitions_size;
	int			row_words;		/* of a bitmap's row */
	uint64	   *edges;			/* one row for each state */
	uint64	   *reach;			/* the closure of edges */
} IdemMachine;

/* A bit of edges or reach. */
static inline bool
idem_machine_bit(const IdemMachine *machine, const uint64 *bitmap,
				 int from, int to)
{
	return (bitmap[(Size) from * machine->row_words + to / 64] >>
			(to % 64)) & 1;
}

extern IdemMachine *idem_machine_parse(const char *name,
									   const char *definition);
extern IdemMachine *idem_machine_new(const char *name);
extern int	idem_machine_add_state(IdemMachine *machine, const char *name,
								   int len);
extern int	idem_machine_find_state(const IdemMachine *machine,
									const char *name, int len);
extern void idem_machine_add_transition(IdemMachine *machine, int from,
										int to);
extern void idem_machine_compile(IdemMachine *machine);

/* machine.c: state machines */
typedef enum IdemVerdict
{
	IDEM_SAME,
	IDEM_APPLY,
	IDEM_LATE,
	IDEM_AHEAD,
	IDEM_ILLEGAL
} IdemVerdict;

extern void idem_machine_init(void);
extern const IdemMachine *idem_machine_get(const char *name);
extern IdemVerdict idem_machine_judge(const IdemMachine *machine,
									  const char *from, int from_len,
									  const char *to, int to_len);
extern bool idem_machine_returns(const IdemMachine *machine,
								 const char *state, int len);

/* plan.c: texts on one row of a caller's table, found by its key */

/* A column of a key, and how a value is compared with it. */
typedef struct IdemKeyColumn
{
	AttrNumber	attnum;
	Oid			type;			/* as declared, perhaps a domain */
	Oid			basetype;		/* of the parameter that it is compared with */
	int32		typmod;
	Oid			collation;		/* of the index */
	Oid			opclass;		/* of the index */
	Oid			equals;			/* the operator of that class */
} IdemKeyColumn;

/* What a text is built from: nothing but what the catalog says. */
typedef struct IdemRowSpec
{
	Oid			heap;			/* the table */
	Oid			index;			/* whose columns are the key */
	bool		partitioned;
	bool		guarded;		/* a BEFORE UPDATE trigger may change the
								 * column, or suppress the row */
	AttrNumber	column;			/* the column to work on, 0 if none */
	Oid			columntype;		/* as declared, perhaps a domain */
	Oid			columnbase;		/* the type below the domain */
	int32		columntypmod;
	int			nkeys;
	IdemKeyColumn *key;
} IdemRowSpec;

/* The key is $1 to $n; where a text takes a value, that is $n+1. */
typedef enum IdemRowPlan
{
	IDEM_ROW_LOCK,				/* locks the row */
	IDEM_ROW_EXISTS,			/* is it there? */
	IDEM_ROW_READ,				/* the column */
	IDEM_ROW_READ_ALL,			/* the row, as one composite value */
	IDEM_ROW_LOCK_TEXT,			/* locks the row; the column as text */
	IDEM_ROW_SET_TEXT,			/* sets the column from a text */
	IDEM_ROW_DEDUCT,			/* takes the value from the column, if enough */
	IDEM_ROW_DEDUCT_READ,		/* the same; the column as it is stored then */
	IDEM_ROW_LOCK_ENOUGH,		/* locks the row if enough; what would be left */
	IDEM_ROW_INSERT				/* see idem_plan_row_insert */
} IdemRowPlan;

#define IDEM_ROW_PLANS		(IDEM_ROW_INSERT + 1)

struct _SPI_plan;
extern struct _SPI_plan *idem_plan_row(const IdemRowSpec *spec,
									   IdemRowPlan plan);
extern struct _SPI_plan *idem_plan_row_insert(const IdemRowSpec *spec,
											  const AttrNumber *given,
											  const Oid *types, int ngiven,
											  bool arbiter);
extern bool idem_plan_row_execute(struct _SPI_plan *plan, IdemRowPlan which,
								  const Datum *values, MemoryContext copyto,
								  Datum *result, bool *resultnull);

/* rowspec.c: what the catalog says of a table and of a key to its rows */
extern Oid	idem_spec_table(Oid relid);
extern Oid	idem_spec_primary_key(Relation heap);
extern Oid	idem_spec_choose(Oid relid, const bool *nulls);
extern void idem_spec_read(IdemRowSpec *spec, Relation heap, Oid index,
						   const char *column);
extern void idem_spec_check_rules(Relation heap);

/* keyvalue.c: a key value that the caller gave, as its column takes it */

/* How a value of a given type becomes one of the column's base type. */
typedef enum IdemCastKind
{
	IDEM_CAST_NONE,				/* it is one already */
	IDEM_CAST_FUNCTION,
	IDEM_CAST_INPUT,			/* from a literal without a type */
	IDEM_CAST_OUTPUT_INPUT		/* through its text */
} IdemCastKind;

/*
 * The cast from the type given last.  Nothing but OIDs, looked up at each use:
 * a cast function may call us again, with another type for the same column.
 */
typedef struct IdemKeyCast
{
	Oid			given;			/* InvalidOid: not yet known */
	IdemCastKind kind;
	Oid			func;			/* IDEM_CAST_FUNCTION */
	Oid			back;			/* its reverse, InvalidOid if none is needed */
	Oid			given_equals;	/* function that compares values given, to see
								 * what was lost; InvalidOid: no way back */
} IdemKeyCast;

extern Datum idem_key_value(IdemKeyCast *kept, Oid heap,
							const IdemKeyColumn *key, Oid given, Datum value);
extern char *idem_value_text(Oid type, Datum value);

/*
 * target.c: a table of the caller's and the key by which one of its rows is
 * found.  In use from idem_target_open to idem_target_close, which must not be
 * interleaved with other SPI_connect and SPI_finish calls.
 */
struct KeptTarget;

typedef struct IdemTarget
{
	const IdemRowSpec *spec;
	Datum		key[INDEX_MAX_KEYS];	/* of spec->key[i].basetype each */
	Relation	rel;			/* the table, open */
	struct KeptTarget *entry;	/* target.c's own */
	MemoryContext caller;		/* where results go */
} IdemTarget;

extern void idem_target_init(void);
extern void idem_target_open(IdemTarget *target, Oid relid, const char *column,
							 LOCKMODE lockmode);
extern void idem_target_key(IdemTarget *target, FunctionCallInfo fcinfo,
							int argno);
extern bool idem_target_execute(IdemTarget *target, IdemRowPlan plan,
								Datum value, Datum *result, bool *resultnull);
extern bool idem_target_insert(IdemTarget *target, TupleDesc desc,
							   const Datum *values, const bool *nulls,
							   bool arbiter, Datum *result);
extern char *idem_target_columns(const IdemTarget *target);
extern char *idem_target_key_text(const IdemTarget *target);
pg_noreturn extern void idem_target_no_row(const IdemTarget *target);
extern void idem_target_close(IdemTarget *target);

/* version.c: known to rowspec.c, because it changes no column but its own */
extern PGDLLEXPORT Datum idem_version(PG_FUNCTION_ARGS);

/* tokentext.c: what a token looks like */
#define IDEM_TOKEN_KEY_BYTES	9
#define IDEM_TOKEN_NONCE_BYTES	16
#define IDEM_TOKEN_MAC_BYTES	32
#define IDEM_TOKEN_KEY_LEN		12
#define IDEM_TOKEN_NAME_LEN		32
#define IDEM_TOKEN_HEAD_LEN		(1 + IDEM_TOKEN_KEY_LEN + IDEM_TOKEN_NAME_LEN)
#define IDEM_TOKEN_LEN			(IDEM_TOKEN_HEAD_LEN + 43)

typedef struct IdemToken
{
	char		key[IDEM_TOKEN_KEY_LEN];	/* number of its key, as text */
	char		name[IDEM_TOKEN_NAME_LEN];	/* expiry and nonce, as text */
	TimestampTz expires;
	uint8		mac[IDEM_TOKEN_MAC_BYTES];
} IdemToken;

extern void idem_token_key_text(char *out, const uint8 *number);
extern void idem_token_head(char *out, const char *key, TimestampTz expires,
							const uint8 *nonce);
extern void idem_token_seal(char *out, const uint8 *mac);
extern bool idem_token_parse(const char *in, int len, IdemToken *token);

/* token.c: its tables, for the purge */
extern IdemTable idem_token_spent_table;
extern IdemTable idem_token_rate_table;

/* bucket.c: the quantity of an item, in one row or many */
typedef struct IdemBucket
{
	int32		number;
	Datum		quantity;		/* numeric */
	bool		empty;			/* seen at a glance; false says nothing */
	TransactionId holder;		/* who was at it, or InvalidTransactionId;
								 * direct route, where it is seen at a glance */
	ItemPointerData tid;		/* direct route */
} IdemBucket;

/* What is wanted of an item, and where it is taken from. */
typedef struct IdemLine
{
	Datum		item;
	Datum		quantity;		/* numeric */
	bool		wanted;			/* false: nothing is to be taken */

	/* bucket.c's, all zero at first */
	int			nbuckets;
	IdemBucket *buckets;		/* as they were read last */
	int			first;			/* where looking begins among them */
	int32		chosen;			/* bucket that it was thought to come from */
	bool		glimpsed;		/* only some were read, of which the last has
								 * enough, and was free */
	bool		ready;			/* takes are locked, and enough */
	bool		in_order;		/* buckets are locked in order, from the first */
	bool		waits;			/* for what follows */
	IdemBucket	busy;			/* the one to wait for */
	TransactionId holder;		/* wait for this one, or InvalidTransactionId */
	int			ntakes;
	IdemBucket *takes;			/* buckets, as they were */
	Datum	   *parts;			/* numeric, of each */
} IdemLine;

typedef enum IdemPlanned
{
	IDEM_PLANNED,				/* all lines have what they want */
	IDEM_SHORT,					/* there is less of some item */
	IDEM_MUST_WAIT				/* for the bucket that a line names */
} IdemPlanned;

extern IdemTable idem_stock_table;
extern Datum idem_bucket_total(IdemStore *store, Datum item);
extern int	idem_bucket_read(IdemStore *store, Datum item,
							 IdemBucket **buckets);
extern bool idem_bucket_short(IdemStore *store, IdemLine *lines, int n);
extern IdemPlanned idem_bucket_choose(IdemLine *lines, int n);
extern IdemPlanned idem_bucket_plan(IdemStore *store, IdemLine *lines, int n);
extern void idem_bucket_wait(IdemStore *store, IdemLine *lines, int n);
extern void idem_bucket_take(IdemStore *store, IdemLine *lines, int n);
extern void idem_bucket_give(IdemStore *store, Datum item, int32 number,
							 Datum quantity);
extern void idem_bucket_give_many(IdemStore *store, Datum item,
								  const int32 *numbers,
								  const Datum *quantities, int n);
extern void idem_bucket_add(IdemStore *store, Datum item, Datum quantity,
							int nbuckets);

/* stock.c: orders, for those who end them */
extern IdemTable idem_hold_table;
extern List *idem_stock_collect(List *parts, Datum items, Datum buckets,
								Datum quantities);
extern void idem_stock_give_back(List *parts);

#endif							/* IDEM_H */
