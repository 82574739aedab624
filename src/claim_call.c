/*-------------------------------------------------------------------------
 *
 * claim_call.c
 *	  Claim, work and answer in one call, for work that is a function.
 *
 * The contract.  The key is claimed, the function runs as the caller, and what
 * it returns is the recorded answer; a duplicate is given that and runs nothing.
 * An error in the function undoes all of it, so the key is free again.  While
 * the function runs, the key's row says running without a lease, which no other
 * transaction ever sees.
 *
 * The function is looked up after the key was taken, for that may have been a
 * long wait, during which the function may have been dropped or the caller have
 * lost the right to execute it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "access/htup_details.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

static bool call_or_replay(FunctionCallInfo fcinfo, Datum *response);
static Datum replay(IdemStore *store, const Datum *key, const IdemRow *row,
					IdemClaimStatus status);
static void record_answer(IdemStore *store, const Datum *key,
						  const ItemPointerData *tid, Datum response);
static Datum call_function(Oid function, Jsonb *request);
static bool evaluate(List *args, FunctionCallInfo call);
static void check_function(Oid function, HeapTuple tuple);
static FuncExpr *function_expr(Oid function, HeapTuple tuple, Jsonb *request);

PG_FUNCTION_INFO_V1(idem_call);
PG_FUNCTION_INFO_V1(idem_handle);


/*
 * idem_call(source, seq, function regproc, request jsonb, wait boolean,
 *			 compare jsonb) -> json
 *
 * The answer of the function, run now or when the key was first called.
 */
Datum
idem_call(PG_FUNCTION_ARGS)
{
	Datum		response;

	(void) call_or_replay(fcinfo, &response);
	if (response == (Datum) 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(response);
}

/*
 * idem_handle(source, seq, function regproc, request jsonb, wait boolean,
 *			   compare jsonb) -> (replayed boolean, response json)
 *
 * The same, and says which of the two it was.
 */
Datum
idem_handle(PG_FUNCTION_ARGS)
{
	static IdemResultType type = {
		.ncolumns = 2,
		.columns = {
			{"replayed", BOOLOID},
			{"response", JSONOID}
		}
	};
	Datum		values[2];
	bool		nulls[2] = {false, false};

	values[0] = BoolGetDatum(call_or_replay(fcinfo, &values[1]));
	nulls[1] = values[1] == (Datum) 0;
	PG_RETURN_DATUM(idem_result_row(&type, values, nulls));
}


/*
 * What both verbs do.  True: the response is a replay; 0 if a claim was given
 * none.
 */
static bool
call_or_replay(FunctionCallInfo fcinfo, Datum *response)
{
	Datum		key[CLAIM_KEYS];
	IdemTake	take = {.status = CLAIM_RUNNING};
	Oid			function;
	Jsonb	   *request;
	bool		wait;
	IdemStore	store;
	IdemRow		row;
	IdemClaimStatus status;

	idem_claim_key(fcinfo, key);
	idem_arg_not_null(fcinfo, 2, "function");
	idem_arg_not_null(fcinfo, 3, "request");
	wait = idem_arg_bool(fcinfo, 4, "wait");
	function = PG_GETARG_OID(2);
	request = PG_GETARG_JSONB_P(3);
	take.request = PG_ARGISNULL(5) ? request : idem_arg_request(fcinfo, 5);

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE,
					wait ? IDEM_WAIT : IDEM_NO_WAIT);
	status = idem_claim_take(&store, key, &take, &row);
	if (status == CLAIM_TAKEN)
	{
		ItemPointerData tid = idem_store_inserted(&store);

		/* the function may do to our table what calls for the other route */
		idem_store_close(&store);
		*response = call_function(function, request);
		idem_store_open(&store, &idem_claim_table, IDEM_WRITE, IDEM_WAIT);
		record_answer(&store, key, &tid, *response);
	}
	else
	{
		idem_claim_count(&take, key[CLAIM_SOURCE], CLAIM_DONE, 1);
		*response = replay(&store, key, &row, status);
	}
	idem_store_close(&store);

	return status != CLAIM_TAKEN;
}

/* What a duplicate is given: the recorded answer, 0 if there is none. */
static Datum
replay(IdemStore *store, const Datum *key, const IdemRow *row,
	   IdemClaimStatus status)
{
	if (status == CLAIM_CANCELLED)
		idem_claim_cancelled(key);
	if (status == CLAIM_RUNNING || status == CLAIM_EXPIRED)
		idem_claim_in_progress(store, key, row, NULL);
	if (!row->nulls[CLAIM_RESPONSE])
		return PointerGetDatum(PG_DETOAST_DATUM(row->values[CLAIM_RESPONSE]));

	/* nothing will run, and there is nothing to replay: a mistake */
	if (DatumGetInt64(row->values[CLAIM_FENCE]) == 0 &&
		idem_claim_is_own(store, key))
	{
		idem_stat_count_now(IDEM_STAT_CLAIM_BUSY, key[CLAIM_SOURCE]);
		ereport(ERROR,
				(errcode(ERRCODE_IDEM_IN_PROGRESS),
				 errmsg("claim is in progress in this transaction"),
				 errdetail("Key %s was claimed by this transaction, which has not answered it.",
						   idem_store_key(&idem_claim_table, key)),
				 errhint("Leave the claim to the call, or do the work here and record its answer with idem_respond.")));
	}
	return (Datum) 0;
}

/*
 * Ends what was begun: the key is done, with its answer.  If this call has
 * inserted its row, tid says where.
 */
static void
record_answer(IdemStore *store, const Datum *key, const ItemPointerData *tid,
			  Datum response)
{
	IdemRow		row;

	do
	{
		idem_store_find_inserted(store, tid, key, &row);
		if (row.presence != IDEM_PRESENT || idem_claim_status(&row) != CLAIM_RUNNING)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_NOT_FOUND),
					 errmsg("the claim is gone"),
					 errdetail("Key %s was removed or changed by the function that idem_call ran.",
							   idem_store_key(&idem_claim_table, key)),
					 errhint("Leave idem's tables to idem's functions.")));

		idem_claim_set(&row, CLAIM_STATUS, false, CharGetDatum(CLAIM_DONE));
		idem_claim_set(&row, CLAIM_COMPLETED_AT, false,
					   TimestampTzGetDatum(GetCurrentTimestamp()));
		idem_claim_set(&row, CLAIM_RESPONSE, false, response);
	} while (!idem_store_update(store, &row, row.values, row.nulls));
}

/*
 * Calls the function by fmgr, as an expression would, and answers what it
 * returns as json; null is JSON null.
 */
static Datum
call_function(Oid function, Jsonb *request)
{
	LOCAL_FCINFO(call, FUNC_MAX_ARGS);
	HeapTuple	tuple;
	FuncExpr   *expr;
	FmgrInfo	flinfo;
	PgStat_FunctionCallUsage usage;
	Datum		result = (Datum) 0;
	bool		is_called;

	AcceptInvalidationMessages();
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	check_function(function, tuple);
	expr = function_expr(function, tuple, request);
	ReleaseSysCache(tuple);

	InvokeFunctionExecuteHook(function);
	fmgr_info(function, &flinfo);
	fmgr_info_set_expr((Node *) expr, &flinfo);
	InitFunctionCallInfoData(*call, &flinfo, list_length(expr->args),
							 expr->inputcollid, NULL, NULL);
	is_called = evaluate(expr->args, call) || !flinfo.fn_strict;
	if (is_called)
	{
		pgstat_init_function_usage(call, &usage);
		result = FunctionCallInvoke(call);
		pgstat_end_function_usage(&usage, true);
	}

	if (!is_called || call->isnull)
		return CStringGetTextDatum("null");
	if (expr->funcresulttype == JSONBOID)
		return CStringGetTextDatum(JsonbToCString(NULL,
												  &DatumGetJsonbP(result)->root, -1));
	return PointerGetDatum(PG_DETOAST_DATUM(result));
}

/*
 * Gives the call its arguments: the request, and the defaults of those beyond
 * it.  False: some are null.  The context of the expressions is not freed here,
 * for a value may lie in it.
 */
static bool
evaluate(List *args, FunctionCallInfo call)
{
	ExprContext *econtext = NULL;
	bool		complete = true;

	for (int i = 0; i < call->nargs; i++)
	{
		Expr	   *arg = list_nth(args, i);
		NullableDatum *to = &call->args[i];

		if (IsA(arg, Const))
		{
			to->value = castNode(Const, arg)->constvalue;
			to->isnull = castNode(Const, arg)->constisnull;
		}
		else
		{
			if (econtext == NULL)
				econtext = CreateStandaloneExprContext();
			to->value = ExecEvalExpr(ExecInitExpr(arg, NULL), econtext,
									 &to->isnull);
		}
		complete = complete && !to->isnull;
	}
	return complete;
}

/* Refuses a function that idem_call cannot run, or the caller may not. */
static void
check_function(Oid function, HeapTuple tuple)
{
	Form_pg_proc proc;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function),
				 errdetail("No function has the OID %u.", function),
				 errhint("Pass the name of a function that takes and returns json or jsonb.")));
	proc = (Form_pg_proc) GETSTRUCT(tuple);

	if (proc->prokind != PROKIND_FUNCTION || proc->proretset)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a plain function",
						format_procedure(function)),
				 errdetail("Procedures, aggregates, window functions and functions that return sets cannot be called so."),
				 errhint("Pass a function that takes and returns json or jsonb.")));
	if (proc->pronargs < 1 || proc->pronargs - proc->pronargdefaults > 1 ||
		(proc->proargtypes.values[0] != JSONOID &&
		 proc->proargtypes.values[0] != JSONBOID) ||
		(proc->prorettype != JSONOID && proc->prorettype != JSONBOID))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s has the wrong signature",
						format_procedure(function)),
				 errdetail("It takes %d arguments, %d of them with a default, and returns %s.",
						   proc->pronargs, proc->pronargdefaults,
						   format_type_be(proc->prorettype)),
				 errhint("Pass a function that takes one json or jsonb, further arguments having defaults, and returns json or jsonb.")));
	idem_check_execute(function);
}

/*
 * The call as an expression.  Only the defaults are given to the planner: it
 * would run an immutable function itself.
 */
static FuncExpr *
function_expr(Oid function, HeapTuple tuple, Jsonb *request)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	Oid			type = proc->proargtypes.values[0];
	Datum		value = JsonbPGetDatum(request);
	List	   *args;

	if (type == JSONOID)
		value = CStringGetTextDatum(JsonbToCString(NULL, &request->root, -1));
	args = list_make1(makeConst(type, -1, InvalidOid, -1, value, false, false));
	if (proc->pronargs > 1)
	{
		ListCell   *cell;

		args = expand_function_arguments(args, false, proc->prorettype, tuple);
		foreach(cell, args)
			lfirst(cell) = expression_planner(lfirst(cell));
	}
	return makeFuncExpr(function, proc->prorettype, args, InvalidOid,
						DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}
