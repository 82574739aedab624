/*-------------------------------------------------------------------------
 *
 * keytext.c
 *	  Does a type's input function lose something of a text?
 *
 * Most input functions take all of a text or refuse it.  Some take a part: a
 * date from the text of a timestamp, a name from its first 63 bytes, money
 * rounded to cents.  An INSERT may do so; a search by such a key would find
 * another row.  So keyvalue.c asks here, after the input function has taken
 * the text, whether the value says all that the text says.
 *
 * What the types of the server lose is known here, type by type; arrays,
 * composite types and ranges lose what their elements lose.  A type that is
 * not known here is taken to lose nothing.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include <ctype.h>
#include <locale.h>
#include <math.h>

#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* Digits that a number is compared by: more than any float8 needs. */
#define DIGITS_MAX		800

/*
 * Of utils/pg_locale.h, which includes ICU's headers; a package of the
 * server's headers does not bring those.
 */
extern struct lconv *PGLC_localeconv(void);

/* What a literal says of a date, a time of day, or both. */
typedef struct ParsedTime
{
	bool		is_number;		/* nothing but digits */
	int			dtype;
	struct pg_tm tm;
	fsec_t		fsec;
	int			zone;
} ParsedTime;

static Datum input(Oid type, const char *literal, int32 typmod);
static bool same_output(Oid type, const char *literal);
static bool whole_char(const char *literal);
static bool whole_fraction(const char *literal, int max);
static bool whole_money(const char *literal);
static bool whole_float(Oid type, const char *literal);
static bool significant_digits(const char *literal, char *digits, int *n);
static bool whole_datetime(Oid type, const char *literal);
static bool whole_date(const char *literal, bool with_time);
static bool whole_time(const char *literal, bool with_zone);
static bool decode(const char *literal, bool time_only, ParsedTime *it);
static bool whole_array(Oid element, const char *literal);
static bool whole_composite(Oid type, const char *literal);
static bool whole_range(Oid element, const char *literal);
static List *split_fields(const char **literal, const char *ends);
static bool whole_element(Oid type, int32 typmod, const char *literal);


/* Does the input function of a type, no domain, take all that a text says? */
bool
idem_text_is_whole(Oid type, const char *literal)
{
	Oid			element;

	check_stack_depth();
	switch (type)
	{
		case BOOLOID:
		case BYTEAOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
			return true;
		case NAMEOID:
		case XID8OID:
			return same_output(type, literal);
		case OIDOID:
			return strchr(literal, '-') == NULL;
		case CHAROID:
			return whole_char(literal);
		case CASHOID:
			return whole_money(literal);
		case FLOAT4OID:
		case FLOAT8OID:
			return whole_float(type, literal);
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
		case INTERVALOID:
			return whole_datetime(type, literal);
		default:
			break;
	}

	element = get_element_type(type);
	if (OidIsValid(element))
		return whole_array(element, literal);
	if (type_is_rowtype(type))
		return whole_composite(type, literal);
	if (type_is_multirange(type))
		type = get_multirange_range(type);
	element = get_range_subtype(type);
	if (OidIsValid(element))
		return whole_range(element, literal);
	return true;
}


/* The value that a text is to a type. */
static Datum
input(Oid type, const char *literal, int32 typmod)
{
	Oid			func;
	Oid			ioparam;

	getTypeInputInfo(type, &func, &ioparam);
	return OidInputFunctionCall(func, unconstify(char *, literal), ioparam,
								typmod);
}

/* For types that show a value as it was given: does the text come back? */
static bool
same_output(Oid type, const char *literal)
{
	Oid			func;
	bool		isvarlena;

	getTypeOutputInfo(type, &func, &isvarlena);
	return strcmp(OidOutputFunctionCall(func, input(type, literal, -1)),
				  literal) == 0;
}

/* "char" takes a single byte, from 16 on also written as \ooo. */
static bool
whole_char(const char *literal)
{
	unsigned char byte = (unsigned char) DatumGetChar(input(CHAROID, literal, -1));
	char		octal[8];

	if (literal[0] == '\0' || literal[1] == '\0')
		return true;
	snprintf(octal, sizeof(octal), "\\%03o", byte);
	return strcmp(literal, octal) == 0;
}

/* Are all digits behind a point, after the first max of them, zero? */
static bool
whole_fraction(const char *literal, int max)
{
	for (const char *point = literal; (point = strchr(point, '.')) != NULL;)
	{
		const char *end = ++point;

		while (isdigit((unsigned char) *end))
			end++;
		for (const char *p = point + max; p < end; p++)
			if (*p != '0')
				return false;
	}
	return true;
}

/* money is rounded to the digits of the locale. */
static bool
whole_money(const char *literal)
{
	struct lconv *locale = PGLC_localeconv();
	int			digits = locale->frac_digits;
	char		point = '.';
	const char *at;

	/* as cash_in() has it */
	if (digits < 0 || digits > 10)
		digits = 2;
	if (locale->mon_decimal_point[0] != '\0' &&
		locale->mon_decimal_point[1] == '\0')
		point = locale->mon_decimal_point[0];

	at = strrchr(literal, point);
	if (at == NULL)
		return true;
	for (at++; isdigit((unsigned char) *at); at++)
		if (digits-- <= 0 && *at != '0')
			return false;
	return true;
}

/*
 * Is a floating point number, rounded to as many digits as were given, what
 * was given?  So 0.1 is whole, although no such number is, and 0.1000000001
 * is not where it becomes 0.1.
 */
static bool
whole_float(Oid type, const char *literal)
{
	Datum		value = input(type, literal, -1);
	double		number = type == FLOAT4OID ? (double) DatumGetFloat4(value) :
		DatumGetFloat8(value);
	char		given[DIGITS_MAX + 1];
	char		taken[DIGITS_MAX + 1];
	char		printed[DIGITS_MAX + 32];
	int			ngiven;
	int			ntaken;

	if (isnan(number) || isinf(number) || strpbrk(literal, "xX") != NULL)
		return true;
	if (!significant_digits(literal, given, &ngiven))
		return false;
	if (ngiven == 0)
		return number == 0;
	snprintf(printed, sizeof(printed), "%.*e", Min(ngiven, 300) - 1, number);
	return significant_digits(printed, taken, &ntaken) &&
		ngiven == ntaken && memcmp(given, taken, ngiven) == 0;
}

/* The digits of a number without zeros at its ends; false: too many. */
static bool
significant_digits(const char *literal, char *digits, int *n)
{
	int			end = 0;

	*n = 0;
	for (; *literal != '\0' && *literal != 'e' && *literal != 'E'; literal++)
	{
		if (!isdigit((unsigned char) *literal) || (*literal == '0' && *n == 0))
			continue;
		if (*n == DIGITS_MAX)
			return false;
		digits[(*n)++] = *literal;
		if (*literal != '0')
			end = *n;
	}
	*n = end;
	return true;
}

/* All have microseconds; some have no time, no date or no zone. */
static bool
whole_datetime(Oid type, const char *literal)
{
	if (!whole_fraction(literal, 6))
		return false;
	switch (type)
	{
		case DATEOID:
			return whole_date(literal, false);
		case TIMESTAMPOID:
			return whole_date(literal, true);
		case TIMEOID:
			return whole_time(literal, false);
		case TIMETZOID:
			return whole_time(literal, true);
		default:
			return true;
	}
}

/*
 * A date has no time, and neither a date nor a timestamp has a zone: one that
 * is given must be the session's, as it would be for a timestamptz.
 */
static bool
whole_date(const char *literal, bool with_time)
{
	ParsedTime	it;

	if (!decode(literal, false, &it))
		return false;
	if (it.dtype != DTK_DATE)
		return true;			/* infinity, epoch */
	if (!with_time &&
		(it.tm.tm_hour != 0 || it.tm.tm_min != 0 || it.tm.tm_sec != 0 ||
		 it.fsec != 0))
		return false;
	return it.zone == DetermineTimeZoneOffset(&it.tm, session_timezone);
}

/* A time of day has no date, and without a zone one that is the session's. */
static bool
whole_time(const char *literal, bool with_zone)
{
	ParsedTime	it;
	ParsedTime	as_date;
	struct pg_tm local;

	if (!decode(literal, true, &it))
		return false;
	GetCurrentDateTime(&local);
	local.tm_hour = it.tm.tm_hour;
	local.tm_min = it.tm.tm_min;
	local.tm_sec = it.tm.tm_sec;
	if (!with_zone &&
		it.zone != DetermineTimeZoneOffset(&local, session_timezone))
		return false;

	/* a time alone is not a date as well, but a bare number such as 101112 */
	return it.is_number || !decode(literal, false, &as_date);
}

/* Reads a literal as a time of day, or as a date with or without a time. */
static bool
decode(const char *literal, bool time_only, ParsedTime *it)
{
	char		buffer[MAXDATELEN + MAXDATEFIELDS];
	char	   *field[MAXDATEFIELDS];
	int			ftype[MAXDATEFIELDS];
	int			nfields;

	if (ParseDateTime(literal, buffer, sizeof(buffer), field, ftype,
					  MAXDATEFIELDS, &nfields) != 0)
		return false;
	it->is_number = nfields == 1 && ftype[0] == DTK_NUMBER;
	if (time_only)
		return idem_decode_time_only(field, ftype, nfields, &it->dtype,
									 &it->tm, &it->fsec, &it->zone) == 0;
	return idem_decode_date_time(field, ftype, nfields, &it->dtype, &it->tm,
								 &it->fsec, &it->zone) == 0;
}

/* An array: every element. */
static bool
whole_array(Oid element, const char *literal)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	/* as an array of texts it is divided by the same rules */
	deconstruct_array(DatumGetArrayTypeP(input(TEXTARRAYOID, literal, -1)),
					  TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!nulls[i] &&
			!whole_element(element, -1, TextDatumGetCString(elements[i])))
			return false;
	}
	return true;
}

/* A row: every field. */
static bool
whole_composite(Oid type, const char *literal)
{
	TupleDesc	desc = lookup_rowtype_tupdesc_domain(type, -1, true);
	List	   *fields = split_fields(&literal, ")");
	ListCell   *lc = list_head(fields);
	bool		whole = true;

	for (int i = 0; desc != NULL && i < desc->natts && lc != NULL; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		if (lfirst(lc) != NULL &&
			!whole_element(att->atttypid, att->atttypmod, lfirst(lc)))
			whole = false;
		lc = lnext(fields, lc);
	}
	if (desc != NULL)
		ReleaseTupleDesc(desc);
	return whole;
}

/* A range: both bounds; a multirange: those of each.  "empty" has none. */
static bool
whole_range(Oid element, const char *literal)
{
	ListCell   *lc;

	while ((literal = strpbrk(literal, "[(")) != NULL)
		foreach(lc, split_fields(&literal, ")]"))
			if (lfirst(lc) != NULL && !whole_element(element, -1, lfirst(lc)))
			return false;
	return true;
}

/*
 * The fields of a row or range, which the input function has accepted, between
 * its brackets and without their quotes; NULL for one that is empty.  The
 * literal goes on behind them.
 */
static List *
split_fields(const char **literal, const char *ends)
{
	List	   *fields = NIL;
	const char *at = strpbrk(*literal, "[(");
	bool		quoted = false;
	bool		empty = true;
	StringInfoData field;

	initStringInfo(&field);
	while (at != NULL && *++at != '\0')
	{
		CHECK_FOR_INTERRUPTS();
		if (!quoted && (*at == ',' || strchr(ends, *at) != NULL))
		{
			fields = lappend(fields, empty ? NULL : pstrdup(field.data));
			resetStringInfo(&field);
			empty = true;
			if (*at != ',')
				break;
			continue;
		}
		empty = false;
		if (*at == '\\' && at[1] != '\0')
			appendStringInfoChar(&field, *++at);
		else if (*at == '"' && quoted && at[1] == '"')
			appendStringInfoChar(&field, *++at);
		else if (*at == '"')
			quoted = !quoted;
		else
			appendStringInfoChar(&field, *at);
	}
	if (at != NULL)
		*literal = at;
	return fields;
}

/* A part of a text for a part of a value, with its length or precision. */
static bool
whole_element(Oid type, int32 typmod, const char *literal)
{
	Oid			base = getBaseTypeAndTypmod(type, &typmod);
	Oid			equals;

	if (!idem_text_is_whole(base, literal))
		return false;
	if (typmod < 0)
		return true;
	equals = lookup_type_cache(base, TYPECACHE_EQ_OPR)->eq_opr;
	return !OidIsValid(equals) ||
		DatumGetBool(OidFunctionCall2Coll(get_opcode(equals),
										  get_typcollation(base),
										  input(base, literal, -1),
										  input(base, literal, typmod)));
}
