/*-------------------------------------------------------------------------
 *
 * arg.c
 *	  What an argument of the API may be, and how it is refused.
 *
 * No function of the API is STRICT: a null where a value is needed is a
 * mistake of the caller, and answering it with a null would hide that a claim
 * was never made.  Every check here raises before anything is read or locked,
 * so a refused call leaves nothing behind.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"

/* Well inside of what a timestamp can be from now, before and after. */
#define MAX_INTERVAL_YEARS	1000

static bool too_long(const Interval *value, int sign);

/*
 * The types that a key may have, each with the function that makes its text;
 * what is text already needs none.  The text of each depends on the value
 * alone, on no setting.
 */
typedef struct SeqType
{
	Oid			type;
	PGFunction	out;
} SeqType;

static const SeqType seq_types[] = {
	{TEXTOID, NULL},
	{VARCHAROID, NULL},
	{INT2OID, int2out},
	{INT4OID, int4out},
	{INT8OID, int8out},
	{UUIDOID, uuid_out}
};

static const SeqType *seq_type(FunctionCallInfo fcinfo, int argno,
							   const char *name, bool array);
static Datum seq_text(const SeqType *type, Datum value, const char *name);
static char *interval_text(const Interval *value);


/* Refuses a null. */
void
idem_arg_not_null(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name),
				 errdetail("A null value was given for argument \"%s\".", name),
				 errhint("Pass a value for \"%s\".", name)));
}

/* The text given: not null, not empty, of at most maxlen bytes. */
text *
idem_arg_text(FunctionCallInfo fcinfo, int argno, const char *name, int maxlen)
{
	text	   *value;

	idem_arg_not_null(fcinfo, argno, name);
	value = PG_GETARG_TEXT_PP(argno);
	idem_check_text(PointerGetDatum(value), name, maxlen);
	return value;
}

/*
 * The key given, as text: argument "seq" of type anycompatible, not null, not
 * empty, of at most IDEM_SEQ_MAX bytes.
 */
Datum
idem_arg_seq(FunctionCallInfo fcinfo, int argno)
{
	const SeqType *type = seq_type(fcinfo, argno, "seq", false);

	idem_arg_not_null(fcinfo, argno, "seq");
	return seq_text(type, PG_GETARG_DATUM(argno), "seq");
}

/*
 * The keys given, as texts: argument "seqs" of type anycompatiblearray, of one
 * dimension, each as idem_arg_seq wants it.  Answers how many.
 */
int
idem_arg_seqs(FunctionCallInfo fcinfo, int argno, Datum **seqs)
{
	const SeqType *type;
	ArrayType  *array;
	ArrayIterator elements;
	Datum		value;
	bool		isnull;
	int			n = 0;

	type = seq_type(fcinfo, argno, "seqs", true);
	idem_arg_not_null(fcinfo, argno, "seqs");
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"seqs\" must have one dimension"),
				 errdetail("\"seqs\" has %d dimensions.", ARR_NDIM(array)),
				 errhint("Pass an array such as ARRAY['1', '2'].")));

	*seqs = palloc_extended(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) *
							sizeof(Datum), MCXT_ALLOC_HUGE);
	elements = array_create_iterator(array, 0, NULL);
	while (array_iterate(elements, &value, &isnull))
	{
		CHECK_FOR_INTERRUPTS();
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"seqs\" must not contain nulls"),
					 errdetail("Element %d of \"seqs\" is null.", n + 1),
					 errhint("Remove the nulls, for instance with array_remove(seqs, NULL).")));
		(*seqs)[n++] = seq_text(type, value, "seqs");
	}
	array_free_iterator(elements);
	return n;
}

/*
 * What is to be done with a key of the type that this call passes.  That is
 * looked up once for each call site, as the expression there has one type.
 */
static const SeqType *
seq_type(FunctionCallInfo fcinfo, int argno, const char *name, bool array)
{
	const SeqType *known = fcinfo->flinfo->fn_extra;
	Oid			given;
	Oid			type;

	if (known != NULL)
		return known;

	given = get_fn_expr_argtype(fcinfo->flinfo, argno);
	type = given;
	if (array && OidIsValid(type))
		type = get_base_element_type(type);
	if (OidIsValid(type) && type != TEXTOID)
		type = getBaseType(type);
	for (int i = 0; i < (int) lengthof(seq_types); i++)
	{
		if (seq_types[i].type != type)
			continue;
		fcinfo->flinfo->fn_extra = unconstify(SeqType *, &seq_types[i]);
		return &seq_types[i];
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("argument \"%s\" has a type that keys cannot have", name),
			 errdetail("\"%s\" is of type %s; a key is text, varchar, smallint, integer, bigint or uuid.",
					   name, format_type_be(given)),
			 errhint("Cast it: %s::%s. The text of a date or time depends on settings.",
					 name, array ? "text[]" : "text")));
}

/* A key of such a type as text, not empty and not too long. */
static Datum
seq_text(const SeqType *type, Datum value, const char *name)
{
	if (type->out == NULL)
		value = PointerGetDatum(PG_DETOAST_DATUM_PACKED(value));
	else
		value = CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(type->out,
																		value)));
	idem_check_text(value, name, IDEM_SEQ_MAX);
	return value;
}

/* Refuses a text that is empty or has more than maxlen bytes. */
void
idem_check_text(Datum value, const char *name, int maxlen)
{
	int			len = VARSIZE_ANY_EXHDR(DatumGetPointer(value));

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", name),
				 errdetail("\"%s\" has 0 bytes; it needs 1 to %d bytes.",
						   name, maxlen),
				 errhint("Pass a value for \"%s\".", name)));
	if (len > maxlen)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is too long", name),
				 errdetail("\"%s\" has %d bytes; the limit is %d bytes.",
						   name, len, maxlen),
				 errhint("Use a shorter value, for instance a digest of it.")));
}

/* The name given of some kind of object: not null, not empty. */
const char *
idem_arg_name(FunctionCallInfo fcinfo, int argno, const char *name,
			  const char *kind)
{
	const char *value;

	idem_arg_not_null(fcinfo, argno, name);
	value = NameStr(*PG_GETARG_NAME(argno));
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", name),
				 errdetail("\"%s\" has 0 bytes.", name),
				 errhint("Pass the name of a %s.", kind)));
	return value;
}

/* The boolean given: not null. */
bool
idem_arg_bool(FunctionCallInfo fcinfo, int argno, const char *name)
{
	idem_arg_not_null(fcinfo, argno, name);
	return PG_GETARG_BOOL(argno);
}

/*
 * The interval given: not null, longer than nothing, and short enough to be
 * counted from now in both directions.
 */
Interval *
idem_arg_interval(FunctionCallInfo fcinfo, int argno, const char *name)
{
	Interval   *value;

	idem_arg_not_null(fcinfo, argno, name);
	value = PG_GETARG_INTERVAL_P(argno);
	if (too_long(value, 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is too long an interval", name),
				 errdetail("\"%s\" is %s; the limit is %d years.", name,
						   interval_text(value), MAX_INTERVAL_YEARS),
				 errhint("Pass an interval such as '30 seconds'.")));
	if (too_long(value, -1) || idem_interval_usecs(value) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a positive interval", name),
				 errdetail("\"%s\" is %s.", name, interval_text(value)),
				 errhint("Pass an interval such as '30 seconds'.")));
	return value;
}

/*
 * An interval that idem_arg_interval has accepted, in microseconds, as
 * extract(epoch) counts it: a day has 24 hours, a month 30 days, twelve months
 * 365.25 days.  The session's TimeZone has no say: a lease must not be an hour
 * shorter on the night when clocks change.
 */
int64
idem_interval_usecs(const Interval *value)
{
	int64		years = value->month / MONTHS_PER_YEAR;
	int64		months = value->month % MONTHS_PER_YEAR;

	return years * (USECS_PER_DAY / 4) * 1461 +
		(months * DAYS_PER_MONTH + value->day) * USECS_PER_DAY +
		value->time;
}

/* The time that comes an interval after another. */
TimestampTz
idem_time_after(TimestampTz time, const Interval *interval)
{
	return time + idem_interval_usecs(interval);
}

/* Is a part of an interval, in the direction of sign, beyond the limit? */
static bool
too_long(const Interval *value, int sign)
{
	const int64 days = MAX_INTERVAL_YEARS * 1461 / 4;

	return (int64) value->month * sign > MAX_INTERVAL_YEARS * MONTHS_PER_YEAR ||
		(int64) value->day * sign > days ||
		(sign > 0 ? value->time > days * USECS_PER_DAY :
		 value->time < -days * USECS_PER_DAY);
}

/* An interval for a message. */
static char *
interval_text(const Interval *value)
{
	return DatumGetCString(DirectFunctionCall1(interval_out,
											   IntervalPGetDatum(value)));
}

/* The number given: not null, from 1 to max. */
int32
idem_arg_count(FunctionCallInfo fcinfo, int argno, const char *name, int32 max)
{
	int32		value;

	idem_arg_not_null(fcinfo, argno, name);
	value = PG_GETARG_INT32(argno);
	if (value <= 0 || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be from 1 to %d", name, max),
				 errdetail("\"%s\" is %d.", name, value),
				 errhint("Pass a number from 1 to %d.", max)));
	return value;
}

/* Refuses a function, known to be there, that the caller may not execute. */
void
idem_check_execute(Oid function)
{
	const char *role;

	if (object_aclcheck(ProcedureRelationId, function, GetUserId(),
						ACL_EXECUTE) == ACLCHECK_OK)
		return;
	role = GetUserNameFromId(GetUserId(), false);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for function %s",
					format_procedure(function)),
			 errdetail("Role \"%s\" may not execute it.", role),
			 errhint("Run GRANT EXECUTE ON FUNCTION %s TO \"%s\".",
					 format_procedure(function), role)));
}

/* Refuses to run where a procedure cannot commit. */
void
idem_check_nonatomic(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("procedure that commits cannot run inside a transaction block"),
				 errdetail("%s commits after each batch.", procedure),
				 errhint("Run CALL %s outside of BEGIN and of functions.",
						 procedure)));
}

/* A whole number as numeric, made once: *kept is static, and 0 at first. */
Datum
idem_kept_numeric(Datum *kept, int64 n)
{
	if (*kept == (Datum) 0)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		*kept = NumericGetDatum(int64_to_numeric(n));
		MemoryContextSwitchTo(old);
	}
	return *kept;
}

/* The numeric 0, for good. */
Datum
idem_zero(void)
{
	static Datum zero = (Datum) 0;

	return idem_kept_numeric(&zero, 0);
}

/* A number as a value of an integer type. */
Datum
idem_integer_datum(Oid type, int64 n)
{
	switch (type)
	{
		case INT2OID:
			return Int16GetDatum((int16) n);
		case INT4OID:
			return Int32GetDatum((int32) n);
		default:
			return Int64GetDatum(n);
	}
}

/* Refuses a numeric that is no quantity: not finite, or not positive. */
void
idem_check_quantity(Datum value, const char *name)
{
	Numeric		quantity = DatumGetNumeric(value);

	if (numeric_is_nan(quantity) || numeric_is_inf(quantity) ||
		DatumGetBool(DirectFunctionCall2(numeric_le, NumericGetDatum(quantity),
										 idem_zero())))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be positive", name),
				 errdetail("\"%s\" is %s.", name,
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   NumericGetDatum(quantity)))),
				 errhint("Pass a number above 0, which may have a fraction.")));
}

/* Refuses to write where core would, and to read where no snapshot is taken. */
void
idem_check_access(IdemAccess access)
{
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot use idem during a parallel operation"),
				 errdetail("The query that makes the call runs in parallel."),
				 errhint("Mark functions that call idem as PARALLEL UNSAFE.")));
	if (access == IDEM_READ)
		return;
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot write during recovery"),
				 errdetail("This server is a hot standby; it only answers reading functions."),
				 errhint("Send the call to the primary server.")));
	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot write in a read-only transaction"),
				 errdetail("The transaction was set to be read only."),
				 errhint("Use a transaction that is READ WRITE.")));
}

/* Compares two varlena values byte by byte, as our columns compare. */
int
idem_compare_bytes(Datum a, Datum b)
{
	struct varlena *va = PG_DETOAST_DATUM_PACKED(a);
	struct varlena *vb = PG_DETOAST_DATUM_PACKED(b);
	Size		la = VARSIZE_ANY_EXHDR(va);
	Size		lb = VARSIZE_ANY_EXHDR(vb);
	int			result = memcmp(VARDATA_ANY(va), VARDATA_ANY(vb), Min(la, lb));

	if (result != 0)
		return result;
	return la < lb ? -1 : la > lb ? 1 : 0;
}

/* Are two varlena values the same, byte for byte? */
bool
idem_same_bytes(Datum a, Datum b)
{
	struct varlena *va = PG_DETOAST_DATUM_PACKED(a);
	struct varlena *vb = PG_DETOAST_DATUM_PACKED(b);
	Size		len = VARSIZE_ANY_EXHDR(va);

	return len == VARSIZE_ANY_EXHDR(vb) &&
		memcmp(VARDATA_ANY(va), VARDATA_ANY(vb), len) == 0;
}
