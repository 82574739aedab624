/*-------------------------------------------------------------------------
 *
 * stock_quantity.c
 *	  Quantities: what they may be, and how they are reckoned with.
 *
 * A quantity is a finite number of at most IDEM_QUANTITY_DIGITS digits, at most
 * IDEM_QUANTITY_SCALE of them behind the point.  Without a limit one call could
 * slow down all later ones for the same item: a sum keeps all the digits that
 * were ever added to it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "stock.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"


/* The quantity given: not null, and as idem_quantity_check wants it. */
Datum
idem_quantity_arg(FunctionCallInfo fcinfo, int argno, const char *name,
				  bool may_be_zero)
{
	idem_arg_not_null(fcinfo, argno, name);
	return idem_quantity_check(PG_GETARG_DATUM(argno), name, may_be_zero);
}

/*
 * Refuses what is no quantity.  Zeros at the end that exceed the limit of digits
 * are no reason for that; the answer is the value without them.
 */
Datum
idem_quantity_check(Datum value, const char *name, bool may_be_zero)
{
	static Datum always_fits = (Datum) 0;
	int			scale;
	bool		fits;

	value = NumericGetDatum(DatumGetNumeric(value));
	if (!may_be_zero)
		idem_check_quantity(value, name);
	else if (numeric_is_nan(DatumGetNumeric(value)) ||
			 numeric_is_inf(DatumGetNumeric(value)) ||
			 DatumGetBool(DirectFunctionCall2(numeric_lt, value, idem_zero())))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be negative", name),
				 errdetail("\"%s\" is %s.", name,
						   DatumGetCString(DirectFunctionCall1(numeric_out, value))),
				 errhint("Pass 0, or a number above it, which may have a fraction.")));

	/* below 1e18 every scale that is allowed fits */
	scale = DatumGetInt32(DirectFunctionCall1(numeric_min_scale, value));
	fits = scale <= IDEM_QUANTITY_SCALE;
	if (fits && idem_quantity_compare(value, idem_kept_numeric(&always_fits, INT64CONST(1000000000000000000))) >= 0)
	{
		Datum		limit = DirectFunctionCall3(numeric_in,
												CStringGetDatum(psprintf("1e%d", IDEM_QUANTITY_DIGITS - scale)),
												ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

		fits = idem_quantity_compare(value, limit) < 0;
	}
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" has too many digits", name),
				 errdetail("A quantity has at most %d digits, at most %d of them behind the point.",
						   IDEM_QUANTITY_DIGITS, IDEM_QUANTITY_SCALE),
				 errhint("Round it, or count in another unit.")));
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, value)) > IDEM_QUANTITY_SCALE)
		value = DirectFunctionCall1(numeric_trim_scale, value);
	return value;
}

Datum
idem_quantity_add(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_add, a, b);
}

Datum
idem_quantity_subtract(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_sub, a, b);
}

int
idem_quantity_compare(Datum a, Datum b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
}

/* For a message. */
char *
idem_quantity_text(Datum quantity)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, quantity));
}
