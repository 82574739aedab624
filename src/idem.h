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
#define ERRCODE_IDEM_TRANSITION			MAKE_SQLSTATE('I','D','4','6','0')

/*
 * Limits in bytes.  Together they keep every index entry of ours below a
 * third of a page (2704 bytes), whatever the text: an unbounded key would be
 * refused or not depending on how well it compresses.
 */
#define IDEM_SOURCE_MAX		255
#define IDEM_SEQ_MAX		1024
#define IDEM_MACHINE_MAX	255
#define IDEM_STATE_MAX		255

/* arg.c: what an argument of the API may be */
extern text *idem_arg_text(FunctionCallInfo fcinfo, int argno,
						   const char *name, int maxlen);
extern void idem_arg_not_null(FunctionCallInfo fcinfo, int argno,
							  const char *name);
extern void idem_check_text(Datum value, const char *name, int maxlen);
extern bool idem_arg_bool(FunctionCallInfo fcinfo, int argno, const char *name);
extern Interval *idem_arg_interval(FunctionCallInfo fcinfo, int argno,
								   const char *name);

/* plan.c: every SQL text that C runs */
typedef enum IdemPlan
{
	IDEM_PLAN_CLAIM_FIND,
	IDEM_PLAN_CLAIM_INSERT,
	IDEM_PLAN_CLAIM_LOCK,
	IDEM_PLAN_CLAIM_UPDATE,
	IDEM_PLAN_CLAIM_FORGET,
	IDEM_PLAN_CLAIM_WINDOW,
	IDEM_PLAN_CLAIM_PURGE,
	IDEM_PLAN_TRANSITION_LOAD,
	IDEM_PLAN_TRANSITION_DELETE,
	IDEM_PLAN_TRANSITION_INSERT
} IdemPlan;

#define IDEM_PLANS			(IDEM_PLAN_TRANSITION_INSERT + 1)

extern uint64 idem_plan_execute(IdemPlan plan, Oid owner, bool read_only,
								const Datum *values, const bool *nulls,
								Datum *result, bool *resultnull,
								int nresult);

/* store.c: idem's own hot tables, directly or through SQL */
#define IDEM_MAX_KEYS		2
#define IDEM_MAX_ATTS		10
#define IDEM_RESERVE_MAX	128

/*
 * A table of ours, as the script makes it.  Its primary key is its first
 * nkeys columns, all text COLLATE "C".  The last three members belong to
 * table.c, which fills them anew after an invalidation.
 */
typedef struct IdemTable
{
	const char *relname;		/* in schema idem */
	const char *keyname;		/* of the key's columns, for messages */
	int			nkeys;
	int			natts;
	Oid			atttypes[IDEM_MAX_ATTS];
	IdemPlan	find;			/* key -> all columns */
	IdemPlan	insert;			/* all columns, ON CONFLICT DO NOTHING */
	IdemPlan	lock;			/* key -> FOR NO KEY UPDATE */
	IdemPlan	update;			/* all columns, by key */

	Oid			relid;			/* InvalidOid: look it up */
	enum
	{
		IDEM_ROUTE_UNKNOWN,
		IDEM_ROUTE_FILLING,
		IDEM_ROUTE_KNOWN
	}			route;
	Oid			index;			/* InvalidOid: not as made, go through SQL */
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
	bool		wait;			/* may wait for another transaction */
	bool		row_locked;		/* through SQL: the row found is locked */
	int			refused;		/* inserts that did nothing, in a row */
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

extern void idem_check_writable(void);
extern void idem_store_init(void);
extern void idem_store_open(IdemStore *store, IdemTable *table,
							IdemAccess access, bool wait);
extern void idem_store_close(IdemStore *store);
extern void idem_store_next_key(IdemStore *store);
extern bool idem_store_is_direct(const IdemStore *store);
extern void idem_store_read(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_reserve(IdemStore *store, const Datum *keys, int n);
extern void idem_store_release(IdemStore *store);
extern void idem_store_find(IdemStore *store, const Datum *key, IdemRow *row);
extern void idem_store_wait(IdemStore *store, const Datum *key, IdemRow *row);
extern bool idem_store_insert(IdemStore *store, const Datum *values,
							  const bool *nulls);
extern void idem_store_insert_many(IdemStore *store, Datum **values,
								   bool **nulls, int n, bool *inserted);
extern bool idem_store_update(IdemStore *store, IdemRow *row,
							  const Datum *values, const bool *nulls);
extern char *idem_store_key(const IdemTable *table, const Datum *key);
extern void idem_check_owner(const IdemTable *table, const Datum *key,
							 Datum owner);

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

/* machine.c: state machines */
typedef struct IdemMachine IdemMachine;

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

#endif							/* IDEM_H */
