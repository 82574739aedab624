/*-------------------------------------------------------------------------
 *
 * statements.c
 *	  All statements that idem runs on its own tables, for sql/plans.sql.
 *
 * Many of them are put together from the columns of a table, so that no file has
 * their texts.  The function here answers them.  The extension's script does not
 * declare it: a superuser who wants to see them can.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"
#include "lock.h"
#include "stock.h"
#include "token.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

static IdemTable *const tables[] = {
	&idem_claim_table, &idem_lock_table, &idem_token_key_table,
	&idem_token_spent_table, &idem_token_rate_table, &idem_stock_table,
	&idem_hold_table
};

PG_FUNCTION_INFO_V1(idem_statements);

static void put(ReturnSetInfo *rsinfo, const IdemKeptPlan *kept);


/* idem_statements() -> setof text */
Datum
idem_statements(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int plan = 0; plan < IDEM_PLANS; plan++)
		put(rsinfo, idem_plan_kept(plan));
	for (int i = 0; i < (int) lengthof(tables); i++)
		for (int statement = 0; statement < IDEM_STATEMENTS; statement++)
			put(rsinfo, idem_plan_of_table(tables[i], statement));
	return (Datum) 0;
}


static void
put(ReturnSetInfo *rsinfo, const IdemKeptPlan *kept)
{
	Datum		value = CStringGetTextDatum(kept->text);
	bool		isnull = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
}
