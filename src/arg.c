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
#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* Well inside of what a timestamp can be from now, before and after. */
#define MAX_INTERVAL_YEARS	1000

static bool too_long(const Interval *value, int sign);
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

/* The name of a column given: not null, not empty. */
const char *
idem_arg_column(FunctionCallInfo fcinfo, int argno, const char *name)
{
	const char *value;

	idem_arg_not_null(fcinfo, argno, name);
	value = NameStr(*PG_GETARG_NAME(argno));
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", name),
				 errdetail("\"%s\" has 0 bytes.", name),
				 errhint("Pass the name of a column.")));
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

/* Refuses to run where a procedure cannot commit. */
void
idem_check_nonatomic(FunctionCallInfo fcinfo, const char *procedure)
{
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block", procedure),
				 errdetail("It commits after each batch."),
				 errhint("Run CALL %s outside of BEGIN and of functions.",
						 procedure)));
}

/* The numeric 0, for good. */
Datum
idem_zero(void)
{
	static Numeric zero = NULL;

	if (zero == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		zero = int64_to_numeric(0);
		MemoryContextSwitchTo(old);
	}
	return NumericGetDatum(zero);
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
