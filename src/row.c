/*-------------------------------------------------------------------------
 *
 * row.c
 *	  Rows of the caller's own tables: deduct, lock.
 *
 * The contract.  The row is one, found by a primary key or a unique index
 * (target.c), and everything is done as the caller, through the executor:
 * privileges, row security, triggers, constraints and rules are what they are
 * for a statement that the caller writes.
 *
 *		idem_deduct		takes an amount from a column if there is enough
 *		idem_lock_row	locks the row until the end of the transaction
 *
 * Null and NaN are not enough of anything.
 *
 * Concurrency.  Each is one statement whose row count decides who won:
 * UPDATE ... WHERE enough, SELECT ... FOR NO KEY UPDATE.  Both wait for a
 * rival on the same row.  Above read committed a row that was changed after
 * the snapshot is the server's 40001, and a statement that finds nothing has
 * found the truth of its snapshot.
 *
 * Under read committed, no row is not yet an answer: the statement began with
 * a snapshot that a rival's commit may have overtaken.  The rival may have
 * deleted the row and inserted it again, or may have put back what was missing.
 * So the reason is read with a new snapshot, and only what that snapshot shows
 * is answered:
 *
 *		deduct		no row: ID404.  Too little: false, which was true when it
 *					was read.  Enough after all: again.
 *		lock		no row: false.  A row: again.
 *
 * Another round takes a rival who commits a change back and forth just then,
 * each time.  What goes on without a rival is a row that the caller may read
 * and not write (row security); MAX_ROUNDS ends that, and each function says
 * what the answer is then.
 *
 * A refusal writes nothing: the UPDATE finds no row, the rest only reads.
 *
 * A BEFORE UPDATE trigger may make an UPDATE that takes something else or
 * nothing.  Where there is one that could (rowspec.c), the row is locked and
 * read first, so that what is stored can be compared with what it should be.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#define MAX_ROUNDS	20

static void check_positive(Numeric amount);
static void check_column(const IdemTarget *target);
static bool amount_for_column(const IdemTarget *target, Numeric amount,
							  Datum *value);
static void check_digits(const IdemTarget *target, Numeric amount,
						 int32 scale);
static bool deduct(IdemTarget *target, Datum amount);
static bool deduct_checked(IdemTarget *target, Datum amount, Datum left);
static bool is_enough(Oid type, Datum value, Datum amount);
static int	compare(Oid type, Datum a, Datum b);

PG_FUNCTION_INFO_V1(idem_deduct);
PG_FUNCTION_INFO_V1(idem_lock_row);


/* idem_deduct(target regclass, col name, amount numeric, VARIADIC key "any") -> boolean */
Datum
idem_deduct(PG_FUNCTION_ARGS)
{
	IdemTarget	target;
	const char *column;
	Numeric		amount;
	Datum		value = (Datum) 0;
	bool		taken = false;

	idem_arg_not_null(fcinfo, 0, "target");
	column = idem_arg_name(fcinfo, 1, "col", "column");
	idem_arg_not_null(fcinfo, 2, "amount");
	amount = PG_GETARG_NUMERIC(2);
	idem_check_access(IDEM_WRITE);

	idem_target_open(&target, PG_GETARG_OID(0), column, RowExclusiveLock);
	check_column(&target);
	idem_target_key(&target, fcinfo, 3);
	idem_spec_check_rules(target.rel);
	if (amount_for_column(&target, amount, &value))
		taken = deduct(&target, value);
	else if (!idem_target_execute(&target, IDEM_ROW_EXISTS, (Datum) 0, NULL, NULL))
		idem_target_no_row(&target);
	idem_target_close(&target);

	PG_RETURN_BOOL(taken);
}

/* idem_lock_row(target regclass, VARIADIC key "any") -> boolean */
Datum
idem_lock_row(PG_FUNCTION_ARGS)
{
	IdemTarget	target;
	bool		locked = false;

	idem_arg_not_null(fcinfo, 0, "target");
	idem_check_access(IDEM_WRITE);

	idem_target_open(&target, PG_GETARG_OID(0), NULL, RowShareLock);
	idem_target_key(&target, fcinfo, 1);

	/* a row that is there in each round is one that we may not lock: no row */
	for (int round = 0; round < MAX_ROUNDS && !locked; round++)
	{
		CHECK_FOR_INTERRUPTS();
		locked = idem_target_execute(&target, IDEM_ROW_LOCK, (Datum) 0,
									 NULL, NULL);
		if (!locked &&
			(IsolationUsesXactSnapshot() ||
			 !idem_target_execute(&target, IDEM_ROW_EXISTS, (Datum) 0,
								  NULL, NULL)))
			break;
	}
	idem_target_close(&target);

	PG_RETURN_BOOL(locked);
}


/* Refuses an amount that nothing can be reduced by. */
static void
check_positive(Numeric amount)
{
	if (!numeric_is_nan(amount) && !numeric_is_inf(amount) &&
		compare(NUMERICOID, NumericGetDatum(amount), idem_zero()) > 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"amount\" must be a positive number"),
			 errdetail("\"amount\" is %s.",
					   idem_value_text(NUMERICOID, NumericGetDatum(amount))),
			 errhint("Pass a number greater than 0.")));
}

/* Refuses a column that one cannot deduct from. */
static void
check_column(const IdemTarget *target)
{
	const IdemRowSpec *spec = target->spec;

	if (spec->columnbase == INT2OID || spec->columnbase == INT4OID ||
		spec->columnbase == INT8OID || spec->columnbase == NUMERICOID)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("cannot deduct from column \"%s\" of table \"%s\"",
					get_attname(spec->heap, spec->column, false),
					get_rel_name(spec->heap)),
			 errdetail("It is of type %s.", format_type_be(spec->columntype)),
			 errhint("Name a column of an integer type or of type numeric.")));
}

/*
 * The amount in the type of the column.  False: it is larger than the column
 * can be.  Raises for an amount that the column would round.
 */
static bool
amount_for_column(const IdemTarget *target, Numeric amount, Datum *value)
{
	static Datum most = (Datum) 0;
	const IdemRowSpec *spec = target->spec;
	Datum		given = NumericGetDatum(amount);
	int64		max = PG_INT64_MAX;
	int64		n = PG_INT64_MAX;
	int			beyond;

	check_positive(amount);
	if (spec->columnbase == NUMERICOID)
	{
		*value = given;
		/* as numeric_typmod_scale() of the server has it: 11 bits, signed */
		if (spec->columntypmod >= (int32) VARHDRSZ)
			check_digits(target, amount,
						 (((spec->columntypmod - VARHDRSZ) & 0x7ff) ^ 1024) - 1024);
		return true;
	}

	if (spec->columnbase == INT2OID)
		max = PG_INT16_MAX;
	else if (spec->columnbase == INT4OID)
		max = PG_INT32_MAX;
	beyond = compare(NUMERICOID, given, idem_kept_numeric(&most, PG_INT64_MAX));
	if (beyond < 0)
		n = DatumGetInt64(DirectFunctionCall1(numeric_int8, given));
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, given)) > 0)
		check_digits(target, amount, 0);
	if (beyond > 0 || n > max)
		return false;
	*value = idem_integer_datum(spec->columnbase, n);
	return true;
}

/* Refuses an amount with more than scale digits after the point. */
static void
check_digits(const IdemTarget *target, Numeric amount, int32 scale)
{
	const IdemRowSpec *spec = target->spec;
	Datum		given = NumericGetDatum(amount);

	if (compare(NUMERICOID, given,
				DirectFunctionCall2(numeric_trunc, given,
									Int32GetDatum(scale))) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"amount\" does not fit the column"),
			 errdetail("\"amount\" is %s; column \"%s\" of table \"%s\" is of type %s.",
					   idem_value_text(NUMERICOID, given),
					   get_attname(spec->heap, spec->column, false),
					   get_rel_name(spec->heap),
					   format_type_with_typemod(spec->columnbase,
												spec->columntypmod)),
			 errhint("Pass an amount that the column can hold without rounding.")));
}

/* Takes the amount if there is enough; raises if there is no row. */
static bool
deduct(IdemTarget *target, Datum amount)
{
	bool		checked = target->guarded;

	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		Datum		value;
		bool		null;

		CHECK_FOR_INTERRUPTS();
		if (!checked)
		{
			if (idem_target_execute(target, IDEM_ROW_DEDUCT, amount,
									NULL, NULL))
				return true;
		}
		else if (idem_target_execute(target, IDEM_ROW_LOCK_ENOUGH, amount,
									 &value, &null))
			return deduct_checked(target, amount, value);

		if (!idem_target_execute(target, IDEM_ROW_READ, (Datum) 0,
								 &value, &null))
			break;
		if (null || !is_enough(target->spec->columnbase, value, amount))
			return false;

		/* enough after all: make sure of the row before the next try */
		checked = true;
	}

	/* no row, or one that row security lets the caller read only */
	idem_target_no_row(target);
}

/*
 * Takes the amount from a row that we have locked and that has enough, where a
 * trigger may have its own mind.  False: it suppressed the row.
 */
static bool
deduct_checked(IdemTarget *target, Datum amount, Datum left)
{
	const IdemRowSpec *spec = target->spec;
	Datum		stored;
	bool		null;

	if (!idem_target_execute(target, IDEM_ROW_DEDUCT_READ, amount,
							 &stored, &null))
		return false;
	if (null || compare(spec->columnbase, stored, left) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("a trigger changed the deduction from table \"%s\"",
						get_rel_name(spec->heap)),
				 errdetail("Column \"%s\" of key %s should be %s after the deduction, and was made %s.",
						   get_attname(spec->heap, spec->column, false),
						   idem_target_key_text(target),
						   idem_value_text(spec->columnbase, left),
						   null ? "null" : idem_value_text(spec->columnbase, stored)),
				 errhint("Let the BEFORE UPDATE triggers of the table leave the column alone.")));
	return true;
}

/* Is a value that much?  NaN is not, although it compares above all numbers. */
static bool
is_enough(Oid type, Datum value, Datum amount)
{
	if (type == NUMERICOID && numeric_is_nan(DatumGetNumeric(value)))
		return false;
	return compare(type, value, amount) >= 0;
}

/* Compares two values of a type that one can deduct from. */
static int
compare(Oid type, Datum a, Datum b)
{
	int64		first;
	int64		second;

	switch (type)
	{
		case INT2OID:
			first = DatumGetInt16(a);
			second = DatumGetInt16(b);
			break;
		case INT4OID:
			first = DatumGetInt32(a);
			second = DatumGetInt32(b);
			break;
		case INT8OID:
			first = DatumGetInt64(a);
			second = DatumGetInt64(b);
			break;
		default:
			return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
	}
	return (first > second) - (first < second);
}
