/*-------------------------------------------------------------------------
 *
 * claim.c
 *	  Claims: work that is done in the caller's own transaction, once.
 *
 * The contract.  A key is (source, seq).  The first to claim it does the work,
 * and the commit of that work is the record that it was done; whoever comes
 * later is told so, and what the answer was.  Rolling back, also to a
 * savepoint, gives the key back at once.  A key belongs to the role that
 * claimed it: another role, unless a member of that one, is refused.
 *
 * The record is one row of idem.claim, which claim_row.c describes.
 *
 * Why exactly one wins.  Two claims of one key meet in the store: the first
 * one's row is there, uncommitted, before the second one looks (store.c says
 * why under each isolation level).  The second then waits for the first
 * one's transaction and looks again, so it decides on what was committed.  An
 * update (an answer recorded, an open key claimed, a key cancelled) names the
 * row version it judged and is refused by the store if that is no longer the
 * current one; the loop then judges anew.  No decision here rests on a row
 * that may still change: done, failed and cancelled are final but for the
 * administrator's idem_forget and idem_purge, and the others are only left by
 * an update.
 *
 * Why batches do not deadlock.  A transaction waits for another one only while
 * it holds keys that sort before the one it waits for: idem_claim_batch claims
 * in bytewise order, and does what needs a wait only after it has inserted
 * everything before it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

/* One of the keys of a batch. */
typedef struct BatchKey
{
	Datum		seq;
	int			position;		/* in the input */
	bool		claimed;
} BatchKey;

/* Where idem_call has put its row. */
typedef struct OwnRow
{
	ItemPointerData tid;		/* invalid: not known */
	Oid			relfilenode;	/* in which file of the table */
} OwnRow;

static bool take_key(IdemStore *store, const Datum *key, Datum request,
					 IdemClaimStatus status, IdemRow *row);
static bool settled(const Datum *key, const IdemRow *row, Datum request);
static void in_progress_error(const Datum *key, const IdemRow *row,
							  const char *hint);
static void cancelled_error(const Datum *key);
static void record_answer(IdemStore *store, const Datum *key,
						  const OwnRow *own, Datum response);
static void find_own(IdemStore *store, const Datum *key, const OwnRow *own,
					 IdemRow *row);
static bool call_function(Oid function, bool as_jsonb, bool from_jsonb,
						  Datum request, Datum *response);
static void check_function(Oid function, bool *as_jsonb, bool *from_jsonb);
static void claim_in_order(Datum source, BatchKey *keys, int n);
static int	claim_free_run(IdemStore *store, Datum source, BatchKey *keys,
						   int n);
static int	compare_batch_keys(const void *a, const void *b);

PG_FUNCTION_INFO_V1(idem_claim);
PG_FUNCTION_INFO_V1(idem_claim_batch);
PG_FUNCTION_INFO_V1(idem_respond);
PG_FUNCTION_INFO_V1(idem_response);
PG_FUNCTION_INFO_V1(idem_lookup);
PG_FUNCTION_INFO_V1(idem_call);
PG_FUNCTION_INFO_V1(idem_cancel);
PG_FUNCTION_INFO_V1(idem_forget);


/*
 * idem_claim(source, seq, request jsonb, wait boolean) -> boolean
 *
 * True: this transaction is the first and does the work.
 */
Datum
idem_claim(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	bool		wait;
	IdemStore	store;
	IdemRow		row;
	bool		claimed;

	idem_claim_key(fcinfo, key);
	wait = idem_arg_bool(fcinfo, 3, "wait");

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, wait);
	claimed = take_key(&store, key,
					   PG_ARGISNULL(2) ? (Datum) 0 : idem_request_digest(PG_GETARG_JSONB_P(2)),
					   CLAIM_DONE, &row);
	idem_store_close(&store);

	PG_RETURN_BOOL(claimed);
}

/*
 * idem_claim_batch(source, seqs text[]) -> setof (seq, claimed)
 *
 * One row for each element, in the order of the array.
 */
Datum
idem_claim_batch(PG_FUNCTION_ARGS)
{
	Datum		source = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
													   IDEM_SOURCE_MAX));
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum	   *seqs;
	BatchKey   *keys;
	bool	   *claimed;
	int			n;

	n = idem_arg_seqs(fcinfo, 1, &seqs);
	keys = palloc_array(BatchKey, n);
	for (int i = 0; i < n; i++)
	{
		keys[i].seq = seqs[i];
		keys[i].position = i;
		keys[i].claimed = false;
	}

	claim_in_order(source, keys, n);

	claimed = palloc_array(bool, n);
	for (int i = 0; i < n; i++)
		claimed[keys[i].position] = keys[i].claimed;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {seqs[i], BoolGetDatum(claimed[i])};
		bool		isnull[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * idem_respond(source, seq, response json) -> boolean
 *
 * Records the answer of a claim, once.
 */
Datum
idem_respond(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	Datum		response;
	IdemStore	store;
	IdemRow		row;
	bool		recorded = false;

	idem_claim_key(fcinfo, key);
	idem_arg_not_null(fcinfo, 2, "response");
	response = PointerGetDatum(PG_GETARG_TEXT_PP(2));

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, true);
	do
	{
		IdemClaimStatus status;

		idem_store_find(&store, key, &row);
		if (row.presence == IDEM_PRESENT)
			idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
		status = row.presence == IDEM_PRESENT ? idem_claim_status(&row) : CLAIM_OPEN;

		if (status == CLAIM_OPEN)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_NOT_FOUND),
					 errmsg("there is no such claim"),
					 errdetail("Key %s is not claimed.",
							   idem_store_key(&idem_claim_table, key)),
					 errhint("Call idem_claim first, in the transaction that does the work.")));
		if (status == CLAIM_RUNNING || status == CLAIM_EXPIRED)
			in_progress_error(key, &row, row.nulls[CLAIM_LEASE_UNTIL] ?
							  "The answer is what the function that idem_call runs returns." :
							  "Only the holder of the attempt can complete it.");
		if (status == CLAIM_CANCELLED)
			cancelled_error(key);

		if (status == CLAIM_DONE && !row.nulls[CLAIM_RESPONSE] &&
			idem_same_bytes(row.values[CLAIM_RESPONSE], response))
			break;
		if (status != CLAIM_DONE || !row.nulls[CLAIM_RESPONSE] ||
			DatumGetInt64(row.values[CLAIM_FENCE]) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_STALE),
					 errmsg("another answer is recorded"),
					 errdetail("Key %s is %s, and its answer is not the one given.",
							   idem_store_key(&idem_claim_table, key),
							   idem_claim_status_name(status)),
					 errhint("Read the recorded answer with idem_response.")));

		row.values[CLAIM_RESPONSE] = response;
		row.nulls[CLAIM_RESPONSE] = false;
		row.values[CLAIM_COMPLETED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
		row.nulls[CLAIM_COMPLETED_AT] = false;
		recorded = idem_store_update(&store, &row, row.values, row.nulls);
	} while (!recorded);
	idem_store_close(&store);

	PG_RETURN_BOOL(recorded);
}

/*
 * idem_response(source, seq) -> json
 *
 * The recorded answer; null if there is none.
 */
Datum
idem_response(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	IdemStore	store;
	IdemRow		row;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_claim_table, IDEM_READ, false);
	idem_store_read(&store, key, &row);
	idem_store_close(&store);

	if (row.presence == IDEM_ABSENT)
		PG_RETURN_NULL();
	idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
	/* the failure of an attempt that may be tried again is no answer */
	if (row.nulls[CLAIM_RESPONSE] ||
		(idem_claim_status(&row) != CLAIM_DONE &&
		 idem_claim_status(&row) != CLAIM_FAILED))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PointerGetDatum(PG_DETOAST_DATUM(row.values[CLAIM_RESPONSE])));
}

/*
 * idem_lookup(source, seq) -> (status, fence, response, claimed_at,
 *							   completed_at, lease_until)
 *
 * All that is known of a key; all null if nothing is.
 */
Datum
idem_lookup(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	IdemStore	store;
	IdemRow		row;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {true, true, true, true, true, true};

	idem_claim_key(fcinfo, key);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	idem_store_open(&store, &idem_claim_table, IDEM_READ, false);
	idem_store_read(&store, key, &row);
	idem_store_close(&store);

	if (row.presence == IDEM_PRESENT)
	{
		IdemClaimStatus status;
		const IdemClaimColumn columns[6] = {CLAIM_STATUS, CLAIM_FENCE, CLAIM_RESPONSE,
		CLAIM_CLAIMED_AT, CLAIM_COMPLETED_AT, CLAIM_LEASE_UNTIL};

		idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
		status = idem_claim_status(&row);
		for (int i = 0; i < 6; i++)
		{
			values[i] = row.values[columns[i]];
			nulls[i] = row.nulls[columns[i]];
		}
		values[0] = CStringGetTextDatum(idem_claim_status_name(status));
		if (!nulls[2])
			values[2] = PointerGetDatum(PG_DETOAST_DATUM(values[2]));

		/* a claim without an answer was complete when it was made */
		if (status == CLAIM_DONE && nulls[4])
		{
			values[4] = values[3];
			nulls[4] = nulls[3];
		}
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/*
 * idem_call(source, seq, function regproc, request json) -> json
 *
 * Claims, runs the function as the caller, records and returns its answer; for
 * a duplicate returns the recorded answer.
 */
Datum
idem_call(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	Oid			function;
	Datum		request;
	Datum		normalised;
	Datum		response = (Datum) 0;
	bool		as_jsonb;
	bool		from_jsonb;
	bool		answered;
	IdemStore	store;
	IdemRow		row;
	OwnRow		own;

	idem_claim_key(fcinfo, key);
	idem_arg_not_null(fcinfo, 2, "function");
	idem_arg_not_null(fcinfo, 3, "request");
	function = PG_GETARG_OID(2);
	request = PG_GETARG_DATUM(3);
	check_function(function, &as_jsonb, &from_jsonb);
	normalised = DirectFunctionCall1(jsonb_in,
									 CStringGetDatum(TextDatumGetCString(request)));

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, true);
	if (take_key(&store, key, idem_request_digest(DatumGetJsonbP(normalised)),
				 CLAIM_RUNNING, &row))
	{
		own.tid = store.inserted;
		own.relfilenode = store.heap->rd_rel->relfilenode;

		/* the function may do to our table what calls for the other route */
		idem_store_close(&store);
		answered = call_function(function, as_jsonb, from_jsonb,
								 as_jsonb ? normalised : request, &response);
		idem_store_open(&store, &idem_claim_table, IDEM_WRITE, true);
		record_answer(&store, key, &own, answered ? response : (Datum) 0);
	}
	else
	{
		switch (idem_claim_status(&row))
		{
			case CLAIM_CANCELLED:
				cancelled_error(key);
				break;
			case CLAIM_RUNNING:
				ereport(ERROR,
						(errcode(ERRCODE_IDEM_IN_PROGRESS),
						 errmsg("claim is in progress"),
						 errdetail("Key %s is claimed by the call that is running in this transaction.",
								   idem_store_key(&idem_claim_table, key)),
						 errhint("A function that idem_call runs must not call itself by the same key.")));
				break;
			default:
				break;
		}
		answered = !row.nulls[CLAIM_RESPONSE];
		if (answered)
			response = PointerGetDatum(PG_DETOAST_DATUM(row.values[CLAIM_RESPONSE]));
	}
	idem_store_close(&store);

	if (!answered)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(response);
}

/*
 * idem_cancel(source, seq) -> text
 *
 * Makes sure that a key will never run; answers its status after.
 */
Datum
idem_cancel(PG_FUNCTION_ARGS)
{
	Datum		key[CLAIM_KEYS];
	IdemStore	store;
	IdemRow		row;
	IdemClaimStatus status = CLAIM_CANCELLED;
	bool		decided = false;

	idem_claim_key(fcinfo, key);
	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, true);
	while (!decided)
	{
		idem_store_reserve(&store, key, 1);
		idem_store_find(&store, key, &row);
		if (row.presence == IDEM_ABSENT)
		{
			idem_claim_new_row(key, CLAIM_CANCELLED, (Datum) 0, row.values,
							   row.nulls);
			decided = idem_store_insert(&store, row.values, row.nulls);
		}
		idem_store_release(&store);

		if (row.presence == IDEM_BUSY)
			idem_store_wait(&store, key, &row);
		if (row.presence != IDEM_PRESENT)
			continue;

		idem_check_owner(&idem_claim_table, key, row.values[CLAIM_OWNER]);
		status = idem_claim_status(&row);
		if (status == CLAIM_RUNNING)
			in_progress_error(key, &row, NULL);

		decided = true;
		if (status == CLAIM_OPEN || status == CLAIM_EXPIRED)
		{
			status = CLAIM_CANCELLED;
			row.values[CLAIM_STATUS] = CharGetDatum(status);
			row.values[CLAIM_COMPLETED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
			row.nulls[CLAIM_COMPLETED_AT] = false;
			row.nulls[CLAIM_LEASE_UNTIL] = true;
			decided = idem_store_update(&store, &row, row.values, row.nulls);
		}
	}
	idem_store_close(&store);

	PG_RETURN_TEXT_P(cstring_to_text(idem_claim_status_name(status)));
}

/*
 * idem_forget(source, seq) -> boolean
 *
 * Removes what is known of a key, whoever owns it: for administrators.
 */
Datum
idem_forget(PG_FUNCTION_ARGS)
{
	Datum		values[CLAIM_KEYS + 1];
	IdemStore	store;
	IdemRow		row;
	bool		forgotten;

	idem_claim_key(fcinfo, values);
	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, true);
	do
	{
		values[CLAIM_KEYS] = TimestampTzGetDatum(GetCurrentTimestamp());
		forgotten = idem_plan_execute(IDEM_PLAN_CLAIM_FORGET,
									  store.heap->rd_rel->relowner, false,
									  values, NULL, NULL, NULL, 0) > 0;
		if (forgotten)
			break;
		idem_store_read(&store, values, &row);
		if (row.presence == IDEM_ABSENT)
			break;
		if (idem_claim_status(&row) == CLAIM_RUNNING)
			in_progress_error(values, &row, NULL);

		/* it has expired, or was made, since the clock was read */
		idem_store_refused(&store, values);
	} while (true);
	idem_store_close(&store);

	PG_RETURN_BOOL(forgotten);
}


/*
 * Takes a key for the caller if it is free.  False: it is taken, and row says
 * by what; raises where that is a mistake or somebody else's business.
 */
static bool
take_key(IdemStore *store, const Datum *key, Datum request,
		 IdemClaimStatus status, IdemRow *row)
{
	idem_store_next_key(store);
	for (;;)
	{
		Datum		kept;
		Datum		owner;

		/*
		 * Whoever finds others at this very key most likely has a duplicate,
		 * which is a read and stands in no line.
		 */
		if (!idem_store_try_reserve(store, key))
		{
			idem_store_read(store, key, row);
			if (row->presence == IDEM_PRESENT && settled(key, row, request))
				return false;
			idem_store_reserve(store, key, 1);
		}
		idem_store_find(store, key, row);
		if (row->presence == IDEM_ABSENT)
		{
			bool		inserted;

			idem_claim_new_row(key, status, request, row->values, row->nulls);
			inserted = idem_store_insert(store, row->values, row->nulls);
			idem_store_release(store);
			if (inserted)
				return true;
			continue;
		}
		idem_store_release(store);

		if (row->presence == IDEM_BUSY)
		{
			idem_store_wait(store, key, row);
			continue;
		}

		if (settled(key, row, request))
			return false;

		/*
		 * Given back by an attempt: ours now, with a fence no attempt has.  A
		 * member of the role that it belongs to must not take it from that.
		 */
		kept = row->nulls[CLAIM_REQUEST] ? request : row->values[CLAIM_REQUEST];
		owner = row->values[CLAIM_OWNER];
		idem_claim_new_row(key, status, kept, row->values, row->nulls);
		row->values[CLAIM_OWNER] = owner;
		if (idem_store_update(store, row, row->values, row->nulls))
			return true;
	}
}

/*
 * Judges a row that is there.  True: the key is taken for good, or by this
 * very transaction.  False: it is open.  Raises for another role's key,
 * another request, and an attempt that is not over.
 */
static bool
settled(const Datum *key, const IdemRow *row, Datum request)
{
	IdemClaimStatus status;

	idem_check_owner(&idem_claim_table, key, row->values[CLAIM_OWNER]);
	idem_check_request(key, row, request);

	status = idem_claim_status(row);
	if (status == CLAIM_OPEN)
		return false;

	/* no lease: idem_call is at work further up in our own transaction */
	if ((status == CLAIM_RUNNING || status == CLAIM_EXPIRED) &&
		!row->nulls[CLAIM_LEASE_UNTIL])
		in_progress_error(key, row, NULL);
	return true;
}

/* An attempt has the key; hint is the next step, if not that of its status. */
static void
in_progress_error(const Datum *key, const IdemRow *row, const char *hint)
{
	IdemClaimStatus status = idem_claim_status(row);

	if (hint == NULL)
		hint = status == CLAIM_EXPIRED ?
			"Find out what became of it, then take it over with idem_begin or cancel it." :
			row->nulls[CLAIM_LEASE_UNTIL] ?
			"The function that idem_call runs in this transaction must end first." :
			"Try again when its lease has run out.";
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_IN_PROGRESS),
			 errmsg("claim is in progress elsewhere"),
			 errdetail("Key %s is %s, with fence %lld.",
					   idem_store_key(&idem_claim_table, key),
					   idem_claim_status_name(status),
					   (long long) DatumGetInt64(row->values[CLAIM_FENCE])),
			 errhint("%s", hint)));
}

/* What was cancelled is neither run nor answered. */
static void
cancelled_error(const Datum *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_IDEM_STALE),
			 errmsg("claim is cancelled"),
			 errdetail("Key %s was cancelled and will never run.",
					   idem_store_key(&idem_claim_table, key)),
			 errhint("Use another key if the work is wanted after all.")));
}

/* Ends what idem_call began: the key is done, with its answer if there is one. */
static void
record_answer(IdemStore *store, const Datum *key, const OwnRow *own,
			  Datum response)
{
	IdemRow		row;

	do
	{
		find_own(store, key, own, &row);
		if (row.presence != IDEM_PRESENT || idem_claim_status(&row) != CLAIM_RUNNING)
			ereport(ERROR,
					(errcode(ERRCODE_IDEM_NOT_FOUND),
					 errmsg("the claim is gone"),
					 errdetail("Key %s was removed or changed by the function that idem_call ran.",
							   idem_store_key(&idem_claim_table, key)),
					 errhint("Leave idem's tables to idem's functions.")));

		row.values[CLAIM_STATUS] = CharGetDatum(CLAIM_DONE);
		row.values[CLAIM_COMPLETED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
		row.nulls[CLAIM_COMPLETED_AT] = false;
		row.values[CLAIM_RESPONSE] = response;
		row.nulls[CLAIM_RESPONSE] = response == (Datum) 0;
	} while (!idem_store_update(store, &row, row.values, row.nulls));
}

/*
 * Finds the row that idem_call has inserted, where it was put if it is still
 * there.  Only an administrator can have moved or changed it meanwhile, but
 * then it must be looked for as any other.
 */
static void
find_own(IdemStore *store, const Datum *key, const OwnRow *own, IdemRow *row)
{
	row->presence = IDEM_ABSENT;
	if (idem_store_is_direct(store) && ItemPointerIsValid(&own->tid) &&
		own->relfilenode == store->heap->rd_rel->relfilenode)
	{
		TupleTableSlot *slot = table_slot_create(store->heap, NULL);
		ItemPointerData tid = own->tid;

		if (table_tuple_fetch_row_version(store->heap, &tid, SnapshotSelf, slot))
			(void) idem_store_judge(store,
									ExecFetchSlotHeapTuple(slot, false, NULL),
									SnapshotSelf, row);
		ExecDropSingleTupleTableSlot(slot);
	}
	if (row->presence == IDEM_ABSENT ||
		!idem_same_bytes(row->values[CLAIM_SOURCE], key[CLAIM_SOURCE]) ||
		!idem_same_bytes(row->values[CLAIM_SEQ], key[CLAIM_SEQ]))
		idem_store_find(store, key, row);
}

/* Runs the function of idem_call.  False: its answer is null. */
static bool
call_function(Oid function, bool as_jsonb, bool from_jsonb, Datum request,
			  Datum *response)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	finfo;
	PgStat_FunctionCallUsage usage;
	Datum		result;

	fmgr_info(function, &finfo);
	InitFunctionCallInfoData(*fcinfo, &finfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = request;
	fcinfo->args[0].isnull = false;

	InvokeFunctionExecuteHook(function);
	pgstat_init_function_usage(fcinfo, &usage);
	result = FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);

	if (fcinfo->isnull)
		return false;
	if (from_jsonb)
		result = CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(jsonb_out,
																		 result)));
	*response = result;
	return true;
}

/* Refuses what idem_call cannot run, and says how it passes its values. */
static void
check_function(Oid function, bool *as_jsonb, bool *from_jsonb)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
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
	if (proc->pronargs != 1 ||
		(proc->proargtypes.values[0] != JSONOID &&
		 proc->proargtypes.values[0] != JSONBOID) ||
		(proc->prorettype != JSONOID && proc->prorettype != JSONBOID))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("%s has the wrong signature",
						format_procedure(function)),
				 errdetail("It takes %d arguments and returns %s.",
						   proc->pronargs, format_type_be(proc->prorettype)),
				 errhint("Pass a function that takes one json or jsonb and returns json or jsonb.")));
	if (object_aclcheck(ProcedureRelationId, function, GetUserId(),
						ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s",
						format_procedure(function)),
				 errdetail("Role \"%s\" may not execute it.",
						   GetUserNameFromId(GetUserId(), false)),
				 errhint("Run GRANT EXECUTE ON FUNCTION %s TO \"%s\".",
						 format_procedure(function),
						 GetUserNameFromId(GetUserId(), false))));

	*as_jsonb = proc->proargtypes.values[0] == JSONBOID;
	*from_jsonb = proc->prorettype == JSONBOID;
	ReleaseSysCache(tuple);
}

/* Claims the keys of a batch; leaves them sorted. */
static void
claim_in_order(Datum source, BatchKey *keys, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work;
	IdemStore	store;
	int			unique = 0;
	int			done = 0;

	/* the first of equals stands before the others, and is claimed for them */
	qsort(keys, n, sizeof(BatchKey), compare_batch_keys);
	for (int i = 0; i < n; i++)
	{
		if (unique == 0 || !idem_same_bytes(keys[unique - 1].seq, keys[i].seq))
		{
			BatchKey	first = keys[i];

			keys[i] = keys[unique];
			keys[unique++] = first;
		}
	}

	work = AllocSetContextCreate(caller, "idem batch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE, true);
	while (done < unique)
	{
		CHECK_FOR_INTERRUPTS();
		if (idem_store_is_direct(&store))
			done += claim_free_run(&store, source, keys + done, unique - done);
		if (done < unique)
		{
			Datum		key[CLAIM_KEYS] = {source, keys[done].seq};
			IdemRow		row;

			keys[done].claimed = take_key(&store, key, (Datum) 0, CLAIM_DONE,
										  &row);
			done++;
		}
		MemoryContextReset(work);
	}
	idem_store_close(&store);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}

/*
 * Claims as many keys, from the first on, as can be decided at once without
 * waiting for anybody; answers how many.
 */
static int
claim_free_run(IdemStore *store, Datum source, BatchKey *keys, int n)
{
	Datum		reserve[IDEM_RESERVE_MAX * CLAIM_KEYS];
	Datum	   *values[IDEM_RESERVE_MAX];
	bool	   *nulls[IDEM_RESERVE_MAX];
	int			absent[IDEM_RESERVE_MAX];
	int			nabsent = 0;
	int			ninserted = 0;
	int			run;
	IdemBatchScan	walk;

	n = Min(n, IDEM_RESERVE_MAX);
	for (int i = 0; i < n; i++)
	{
		reserve[i * CLAIM_KEYS] = source;
		reserve[i * CLAIM_KEYS + 1] = keys[i].seq;
	}

	idem_store_reserve(store, reserve, n);
	idem_batch_scan_begin(&walk, store, reserve, n);
	for (run = 0; run < n; run++)
	{
		Datum	   *key = &reserve[run * CLAIM_KEYS];
		IdemRow		row;

		idem_batch_scan_find(&walk, key, &row);
		if (row.presence == IDEM_ABSENT)
		{
			values[nabsent] = palloc_array(Datum, CLAIM_COLUMNS);
			nulls[nabsent] = palloc_array(bool, CLAIM_COLUMNS);
			idem_claim_new_row(key, CLAIM_DONE, (Datum) 0, values[nabsent],
							   nulls[nabsent]);
			absent[nabsent++] = run;
		}
		else if (row.presence == IDEM_BUSY || !settled(key, &row, (Datum) 0))
			break;
	}
	idem_batch_scan_end(&walk);
	if (nabsent > 0)
		ninserted = idem_store_insert_many(store, values, nulls, nabsent);
	idem_store_release(store);
	Assert(ninserted <= nabsent);

	for (int i = 0; i < ninserted; i++)
		keys[absent[i]].claimed = true;

	/* somebody inserted without reserving: that key needs another look */
	return ninserted < nabsent ? absent[ninserted] : run;
}

/* qsort comparator: bytewise, then as they were given. */
static int
compare_batch_keys(const void *a, const void *b)
{
	const BatchKey *ka = a;
	const BatchKey *kb = b;
	int			result = idem_compare_bytes(ka->seq, kb->seq);

	if (result == 0)
		result = ka->position - kb->position;
	return result;
}
