/*-------------------------------------------------------------------------
 *
 * claim_batch.c
 *	  Many keys taken by one call: claimed, or granted to attempts.
 *
 * The contract.  Each key is answered as it would be alone, in the order of the
 * input; a key that is given twice is taken once.  One key does not stop the
 * others: where a call for it alone would raise that it is in progress, the
 * batch says so and goes on.
 *
 * Why batches do not deadlock.  A transaction waits for another one only while
 * it holds keys that sort before the one it waits for: a batch, of claims or of
 * attempts, takes keys in bytewise order, and does what needs a wait only after
 * it has inserted everything before it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"
#include "store_many.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

/* One of the keys of a batch. */
typedef struct BatchKey
{
	Datum		seq;
	int			position;		/* in the input */
	IdemClaimStatus status;
} BatchKey;

/* What else is known of a key, for attempts. */
typedef struct BatchDetail
{
	bool		known;
	bool		has_response;
	bool		has_lease;
	int64		fence;
	Datum		response;
	TimestampTz lease_until;	/* no Datum, which may be a pointer */
} BatchDetail;

typedef struct Batch
{
	Datum		source;
	IdemTake	take;
	int			n;				/* keys in the input */
	Datum	   *seqs;			/* as they were given */
	int		   *keys_of;		/* which of keys each one is */
	int			nkeys;			/* without those given twice */
	BatchKey   *keys;			/* in bytewise order */
	BatchDetail *details;		/* NULL: not wanted */
	MemoryContext context;		/* of the call */
} Batch;

static void get_batch(FunctionCallInfo fcinfo, Batch *batch);
static void take_in_order(Batch *batch, bool wait);
static int	take_free_run(IdemStore *store, Batch *batch, int first);
static void decide(Batch *batch, int i, IdemClaimStatus status,
				   const IdemRow *row);
static void count_answers(const Batch *batch);
static IdemClaimStatus answer(const Batch *batch, int position);
static int	compare_keys(const void *a, const void *b);

PG_FUNCTION_INFO_V1(idem_claim_batch);
PG_FUNCTION_INFO_V1(idem_begin_batch);


/*
 * idem_claim_batch(source, seqs, wait boolean)
 *		-> setof (seq, claimed, status)
 *
 * One row for each element, in the order of the array.
 */
Datum
idem_claim_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Batch		batch = {.take = {.status = CLAIM_DONE,.gone_is_answer = true}};
	bool		wait;

	get_batch(fcinfo, &batch);
	wait = idem_arg_bool(fcinfo, 2, "wait");
	take_in_order(&batch, wait);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < batch.n; i++)
	{
		IdemClaimStatus status = answer(&batch, i);
		text	   *name = cstring_to_text(idem_claim_status_name(status));
		Datum		values[3] = {batch.seqs[i],
		BoolGetDatum(status == CLAIM_TAKEN), PointerGetDatum(name)};
		bool		nulls[3] = {false, false, false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		pfree(name);
	}
	return (Datum) 0;
}

/*
 * idem_begin_batch(source, seqs, ttl interval, takeover boolean, wait boolean)
 *		-> setof (seq, status, fence, response, lease_until)
 *
 * One row for each element, in the order of the array.
 */
Datum
idem_begin_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Batch		batch = {.take = {.status = CLAIM_RUNNING,.gone_is_answer = true}};
	bool		wait;

	get_batch(fcinfo, &batch);
	batch.take.ttl = idem_arg_interval(fcinfo, 2, "ttl");
	batch.take.takeover = idem_arg_bool(fcinfo, 3, "takeover");
	wait = idem_arg_bool(fcinfo, 4, "wait");
	batch.details = palloc_extended(batch.nkeys * sizeof(BatchDetail),
									MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	take_in_order(&batch, wait);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < batch.n; i++)
	{
		IdemClaimStatus status = answer(&batch, i);
		const BatchDetail *detail = &batch.details[batch.keys_of[i]];
		text	   *name = cstring_to_text(status == CLAIM_TAKEN ? "granted" :
										   idem_claim_status_name(status));
		Datum		values[5] = {batch.seqs[i], PointerGetDatum(name),
			Int64GetDatum(detail->fence), (Datum) 0,
		TimestampTzGetDatum(detail->lease_until)};
		bool		nulls[5] = {false, false, !detail->known,
		!detail->has_response, !detail->has_lease};

		CHECK_FOR_INTERRUPTS();
		if (detail->has_response)
			values[3] = PointerGetDatum(PG_DETOAST_DATUM(detail->response));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		if (detail->has_response && values[3] != detail->response)
			pfree(DatumGetPointer(values[3]));
		pfree(name);
	}
	return (Datum) 0;
}


/* Reads the arguments source and seqs, and puts the keys in order. */
static void
get_batch(FunctionCallInfo fcinfo, Batch *batch)
{
	BatchKey   *keys;

	batch->context = CurrentMemoryContext;
	batch->source = PointerGetDatum(idem_arg_text(fcinfo, 0, "source",
												  IDEM_SOURCE_MAX));
	batch->n = idem_arg_seqs(fcinfo, 1, &batch->seqs);
	batch->keys_of = palloc_extended(batch->n * sizeof(int), MCXT_ALLOC_HUGE);
	batch->keys = keys = palloc_extended(batch->n * sizeof(BatchKey),
										 MCXT_ALLOC_HUGE);
	for (int i = 0; i < batch->n; i++)
	{
		keys[i].seq = batch->seqs[i];
		keys[i].position = i;
	}

	/* the first of equals stands before the others, and stands for them */
	idem_sort(keys, batch->n, sizeof(BatchKey), compare_keys);
	for (int i = 0; i < batch->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (batch->nkeys == 0 ||
			!idem_same_bytes(keys[batch->nkeys - 1].seq, keys[i].seq))
		{
			batch->keys_of[keys[i].position] = batch->nkeys;
			keys[batch->nkeys++] = keys[i];
		}
		else
			batch->keys_of[keys[i].position] = batch->nkeys - 1;
	}
}

/* Takes the keys of a batch. */
static void
take_in_order(Batch *batch, bool wait)
{
	MemoryContext work = AllocSetContextCreate(batch->context, "idem batch",
											   ALLOCSET_DEFAULT_SIZES);
	IdemStore	store;
	int			done = 0;

	MemoryContextSwitchTo(work);

	idem_store_open(&store, &idem_claim_table, IDEM_WRITE,
					wait ? IDEM_WAIT : IDEM_NO_WAIT_ANSWER);
	while (done < batch->nkeys)
	{
		CHECK_FOR_INTERRUPTS();

		/* a run is reserved as a whole, which may have to wait */
		if (idem_store_is_direct(&store) && wait)
			done += take_free_run(&store, batch, done);
		if (done < batch->nkeys)
		{
			Datum		key[CLAIM_KEYS] = {batch->source, batch->keys[done].seq};
			IdemRow		row;
			IdemClaimStatus status = idem_claim_take(&store, key, &batch->take,
													 &row);

			decide(batch, done++, status, &row);
		}
		MemoryContextReset(work);
	}
	idem_store_close(&store);

	MemoryContextSwitchTo(batch->context);
	MemoryContextDelete(work);
	count_answers(batch);
}

/*
 * Takes as many keys, from this one on, as can be decided at once without
 * waiting for anybody; answers how many.
 */
static int
take_free_run(IdemStore *store, Batch *batch, int first)
{
	Datum		reserve[IDEM_RESERVE_MAX * CLAIM_KEYS];
	IdemRow    *rows;
	Datum	   *values[IDEM_RESERVE_MAX];
	bool	   *nulls[IDEM_RESERVE_MAX];
	int			absent[IDEM_RESERVE_MAX];
	int			nabsent = 0;
	int			ninserted = 0;
	int			ntaken = 0;
	int			n = Min(batch->nkeys - first, IDEM_RESERVE_MAX);
	int			run;
	IdemBatchScan scan;

	for (int i = 0; i < n; i++)
	{
		reserve[i * CLAIM_KEYS] = batch->source;
		reserve[i * CLAIM_KEYS + 1] = batch->keys[first + i].seq;
	}
	rows = palloc_array(IdemRow, n);

	(void) idem_store_reserve(store, reserve, n);
	idem_batch_scan_begin(&scan, store, reserve, n);
	for (run = 0; run < n; run++)
	{
		const Datum *key = &reserve[run * CLAIM_KEYS];
		IdemRow    *row = &rows[nabsent];
		IdemClaimStatus status;

		idem_batch_scan_find(&scan, key, row);
		if (row->presence == IDEM_ABSENT)
		{
			status = idem_claim_admit(store, key, &batch->take,
									  nabsent == 0 ? IDEM_KEY_IS_ABSENT :
									  IDEM_KEY_IS_ABSENT_TOO);
			if (status == CLAIM_TAKEN)
			{
				idem_claim_new_row(key, &batch->take, row);
				values[nabsent] = row->values;
				nulls[nabsent] = row->nulls;
				absent[nabsent++] = run;
				continue;
			}
			if (status == CLAIM_OPEN)
				break;
		}
		else if (row->presence == IDEM_BUSY ||
				 idem_claim_is_free(key, &batch->take, row, &status) ||
				 (status == CLAIM_EXPIRED && !idem_store_still(store, key, row)))
			break;
		decide(batch, first + run, status, row);
	}
	idem_batch_scan_end(&scan);
	if (nabsent > 0)
		ninserted = idem_store_insert_many(store, values, nulls, nabsent);
	idem_store_release(store);
	Assert(ninserted <= nabsent);

	for (int i = 0; i < ninserted; i++)
	{
		const Datum *key = &reserve[absent[i] * CLAIM_KEYS];
		IdemClaimStatus status = idem_claim_admit(store, key, &batch->take,
												  IDEM_KEY_IS_INSERTED);

		decide(batch, first + absent[i], status, &rows[i]);
		if (status == CLAIM_TAKEN)
			ntaken++;
		else
		{
			/* forgotten while it was taken: where it is put is not known */
			idem_store_find(store, key, &rows[i]);
			idem_store_remove(store, &rows[i]);
		}
	}
	if (ntaken > 0)
		idem_claim_count(&batch->take, batch->source, CLAIM_TAKEN, ntaken);

	/* somebody inserted without reserving: that key needs another look */
	return ninserted < nabsent ? absent[ninserted] : run;
}

/* Writes down what became of a key. */
static void
decide(Batch *batch, int i, IdemClaimStatus status, const IdemRow *row)
{
	BatchDetail *detail;

	batch->keys[i].status = status;
	if (batch->details == NULL)
		return;
	detail = &batch->details[i];
	detail->known = detail->has_lease = detail->has_response = false;
	if (status == CLAIM_BUSY || status == CLAIM_GONE ||
		status == CLAIM_INVALID)
		return;

	detail->known = true;
	detail->fence = DatumGetInt64(row->values[CLAIM_FENCE]);
	detail->has_lease = !row->nulls[CLAIM_LEASE_UNTIL];
	if (detail->has_lease)
		detail->lease_until =
			DatumGetTimestampTz(row->values[CLAIM_LEASE_UNTIL]);
	detail->has_response = !row->nulls[CLAIM_RESPONSE];
	if (detail->has_response)
	{
		MemoryContext old = MemoryContextSwitchTo(batch->context);

		/* as it is stored: a long one is read when it is its turn */
		detail->response = datumCopy(row->values[CLAIM_RESPONSE], false, -1);
		MemoryContextSwitchTo(old);
	}
}

/* Counts what was not taken, of each status at once. */
static void
count_answers(const Batch *batch)
{
	uint64		counts[CHAR_MAX + 1] = {0};

	for (int i = 0; i < batch->n; i++)
		counts[answer(batch, i)]++;
	for (int status = 0; status < (int) lengthof(counts); status++)
	{
		if (counts[status] > 0 && status != CLAIM_TAKEN)
			idem_claim_count(&batch->take, batch->source, status,
							 counts[status]);
	}
}

/* The status of the key that stands there in the input. */
static IdemClaimStatus
answer(const Batch *batch, int position)
{
	const BatchKey *key = &batch->keys[batch->keys_of[position]];

	/* what was taken for the first of equals is there for the others */
	if (key->status == CLAIM_TAKEN && key->position != position)
		return batch->take.status;
	return key->status;
}

/* sort comparator: bytewise. */
static int
compare_keys(const void *a, const void *b)
{
	return idem_compare_bytes(((const BatchKey *) a)->seq,
							  ((const BatchKey *) b)->seq);
}
