/*-------------------------------------------------------------------------
 *
 * unsettled.c
 *	  Keys whose attempts run, have expired or gave them back: for whoever looks
 *	  after them.
 *
 * Read through SQL by the index on unsettled_since, in which settled keys are
 * not (claim_row.c says why that is a column of its own).  Which keys the caller
 * may see is decided here, by the roles that own them.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

/* The columns that IDEM_PLAN_CLAIM_UNSETTLED reads. */
enum
{
	READ_SOURCE,
	READ_SEQ,
	READ_OWNER,
	READ_STATUS,
	READ_FENCE,
	READ_CLAIMED_AT,
	READ_LEASE_UNTIL
};

typedef struct Listing
{
	ReturnSetInfo *rsinfo;
	Datum		source;			/* 0: of every source */
	int64		left;			/* rows that are still wanted */
	TimestampTz now;			/* before they were read */
} Listing;

static bool list_row(const Datum *values, const bool *nulls, void *context);

PG_FUNCTION_INFO_V1(idem_unsettled);


/*
 * idem_unsettled(source, max_rows integer) -> setof (source, seq, status,
 *		fence, claimed_at, lease_until, owner)
 *
 * What is not settled, the oldest first; source null: of every source,
 * max_rows null: all of it.
 */
Datum
idem_unsettled(PG_FUNCTION_ARGS)
{
	Listing		listing = {.left = PG_INT64_MAX};
	IdemStore	store;

	if (!PG_ARGISNULL(0))
		listing.source = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
													   IDEM_SOURCE_MAX));
	if (!PG_ARGISNULL(1))
		listing.left = idem_arg_count(fcinfo, 1, "max_rows", PG_INT32_MAX);

	InitMaterializedSRF(fcinfo, 0);
	listing.rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	idem_store_open(&store, &idem_claim_table, IDEM_READ, IDEM_NO_WAIT);
	listing.now = GetCurrentTimestamp();
	idem_plan_read(IDEM_PLAN_CLAIM_UNSETTLED, idem_store_owner(&store),
				   list_row, &listing);
	idem_store_close(&store);
	return (Datum) 0;
}


/* Lists a row if it is wanted.  False: there are enough. */
static bool
list_row(const Datum *values, const bool *nulls, void *context)
{
	Listing    *listing = context;
	IdemRow		row;
	Datum		result[7];
	bool		isnull[7] = {false};

	if ((listing->source != (Datum) 0 &&
		 !idem_same_bytes(listing->source, values[READ_SOURCE])) ||
		!idem_may_act_as(values[READ_OWNER]))
		return true;

	idem_claim_set(&row, CLAIM_STATUS, false, values[READ_STATUS]);
	idem_claim_set(&row, CLAIM_LEASE_UNTIL, nulls[READ_LEASE_UNTIL],
				   values[READ_LEASE_UNTIL]);
	result[0] = values[READ_SOURCE];
	result[1] = values[READ_SEQ];
	result[2] = CStringGetTextDatum(idem_claim_status_name(idem_claim_status_at(&row, listing->now)));
	result[3] = values[READ_FENCE];
	result[4] = values[READ_CLAIMED_AT];
	isnull[4] = nulls[READ_CLAIMED_AT];
	result[5] = values[READ_LEASE_UNTIL];
	isnull[5] = nulls[READ_LEASE_UNTIL];
	result[6] = DirectFunctionCall1(text_name, values[READ_OWNER]);
	tuplestore_putvalues(listing->rsinfo->setResult, listing->rsinfo->setDesc,
						 result, isnull);
	return --listing->left > 0;
}
