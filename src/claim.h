/*-------------------------------------------------------------------------
 *
 * claim.h
 *	  A row of idem.claim, for claims and attempts.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_CLAIM_H
#define IDEM_CLAIM_H

#include "policy.h"

#include "utils/jsonb.h"

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
	CLAIM_UNSETTLED_SINCE,
	CLAIM_COLUMNS
} IdemClaimColumn;

#define CLAIM_KEYS			2

/* What a key is: the first five as column status has them, the others never. */
typedef enum IdemClaimStatus
{
	CLAIM_DONE = 'd',
	CLAIM_RUNNING = 'r',
	CLAIM_OPEN = 'o',
	CLAIM_FAILED = 'f',
	CLAIM_CANCELLED = 'c',
	CLAIM_EXPIRED = 'x',		/* what running becomes with time */
	CLAIM_TAKEN = 't',			/* by this very call */
	CLAIM_BUSY = 'b',			/* in the hands of another open transaction */
	CLAIM_GONE = 'g',			/* older than what its source's policy
								 * remembers */
	CLAIM_INVALID = 'i'			/* its time cannot be read */
} IdemClaimStatus;

extern IdemTable idem_claim_table;

extern void idem_claim_key(FunctionCallInfo fcinfo, Datum *key);
extern IdemClaimStatus idem_claim_status(const IdemRow *row);
extern IdemClaimStatus idem_claim_status_at(const IdemRow *row, TimestampTz now);
extern const char *idem_claim_status_name(IdemClaimStatus status);
extern void idem_claim_set(IdemRow *row, IdemClaimColumn column, bool isnull,
						   Datum value);
extern bool idem_claim_is_own(const IdemStore *store, const Datum *key);
extern void idem_claim_in_progress(const IdemStore *store, const Datum *key,
								   const IdemRow *row, const char *hint);
extern void idem_claim_cancelled(const Datum *key);

/* claim_take.c: a key is taken, or what it is instead is said */
typedef struct IdemTake
{
	IdemClaimStatus status;		/* of the row that is made: done, running or
								 * cancelled */
	Jsonb	   *request;		/* NULL: none was given */
	const Interval *ttl;		/* of an attempt; NULL: of none */
	bool		takeover;		/* an attempt may have an expired key */
	bool		gone_is_answer; /* … and invalid too, in place of an error */
} IdemTake;

extern IdemClaimStatus idem_claim_take(IdemStore *store, const Datum *key,
									   const IdemTake *take, IdemRow *row);
extern void idem_claim_new_row(const Datum *key, const IdemTake *take,
							   IdemRow *row);
extern IdemClaimStatus idem_claim_admit(IdemStore *store,
										const Datum *key, const IdemTake *take,
										IdemKeyMoment moment);
extern bool idem_claim_is_free(const Datum *key, const IdemTake *take,
							   const IdemRow *row, IdemClaimStatus *status);
extern void idem_claim_count(const IdemTake *take, Datum source,
							 IdemClaimStatus status, uint64 n);

/* digest.c: what is kept of a request */
extern Jsonb *idem_arg_request(FunctionCallInfo fcinfo, int argno);
extern Datum idem_digest(Jsonb *request);
extern bool idem_digest_is_of(Datum kept, Jsonb *request);

#endif							/* IDEM_CLAIM_H */
