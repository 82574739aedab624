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

#include "store.h"

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

#endif							/* IDEM_CLAIM_H */
