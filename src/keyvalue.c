/*-------------------------------------------------------------------------
 *
 * keyvalue.c
 *	  A key value that the caller gave, as its column takes it.
 *
 * The contract.  A value is taken as its column takes it in an INSERT: as it
 * is, by the assignment cast, or, if it is a string, by the column type's
 * input function; then the length of varchar(n) and its kind and the checks
 * of a domain apply, all with the type's own errors.
 *
 * An INSERT accepts a value that the column changes (1.5 for an integer, a
 * time of day for a date).  A search must not: it would find another row.  So
 * a value that was cast is cast back and compared, and refused with 22023 if
 * it is no longer what was given.  Where the way back needs no function (a
 * cidr is an inet), what the cast has made is compared itself.  A cast of the
 * server's without a way back loses something always (the time of a timestamp).  A string is
 * refused if the column's type takes a part of it only (keytext.c).  A cast
 * that makes null of a value is 22004, as if null had been given.
 *
 * All this runs as the caller: a cast function only if the caller may.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "target.h"

#include "access/transam.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* Bytes of a value that a message shows. */
#define SHOWN_MAX		64

static void find_cast(Oid heap, const IdemKeyColumn *key, Oid given,
					  IdemKeyCast *cast);
static Datum cast_value(const IdemKeyColumn *key, const IdemKeyCast *cast,
						Datum value, char **literal, bool *isnull);
static bool loses(const IdemKeyColumn *key, const IdemKeyCast *cast,
				  Datum value, const char *literal, Datum result);
static Datum apply_length(const IdemKeyColumn *key, Datum value,
						  bool *isnull);
static Datum call_cast(Oid func, Datum value, int32 typmod, Oid collation,
					   bool *isnull);
static bool same_value(Oid func, Oid collation, Datum a, Datum b);
pg_noreturn static void refuse_null(Oid heap, const IdemKeyColumn *key, Oid given,
									Datum value);
pg_noreturn static void refuse_changed(Oid heap, const IdemKeyColumn *key, Oid given,
									   Datum value);


/* A value given for a column of the key, as one of the column's base type. */
Datum
idem_key_value(IdemKeyCast *kept, Oid heap, const IdemKeyColumn *key,
			   Oid given, Datum value)
{
	IdemKeyCast cast = *kept;
	Datum		result;
	char	   *literal;
	bool		isnull = false;

	if (cast.given != given)
	{
		find_cast(heap, key, given, &cast);
		*kept = cast;
	}

	result = cast_value(key, &cast, value, &literal, &isnull);
	if (isnull)
		refuse_null(heap, key, given, value);
	if (loses(key, &cast, value, literal, result))
		refuse_changed(heap, key, given, value);

	if (key->typmod >= 0)
	{
		Datum		fitted = apply_length(key, result, &isnull);

		if (isnull)
			refuse_null(heap, key, given, value);
		if (fitted != result &&
			!same_value(get_opcode(key->equals), key->collation, fitted, result))
			refuse_changed(heap, key, given, value);
		result = fitted;
	}
	if (key->type != key->basetype)
		domain_check(result, false, key->type, NULL, NULL);
	return result;
}

/* A value for a message, not too long. */
char *
idem_value_text(Oid type, Datum value)
{
	Oid			func;
	bool		isvarlena;
	char	   *result;
	int			len;

	if (type == UNKNOWNOID)
		result = pstrdup(DatumGetCString(value));
	else
	{
		getTypeOutputInfo(type, &func, &isvarlena);
		result = OidOutputFunctionCall(func, value);
	}
	len = strlen(result);
	if (len > SHOWN_MAX)
	{
		result[pg_mbcliplen(result, len, SHOWN_MAX)] = '\0';
		result = psprintf("%s...", result);
	}
	return result;
}


/* Finds how a type becomes the base type of a column of the key. */
static void
find_cast(Oid heap, const IdemKeyColumn *key, Oid given, IdemKeyCast *cast)
{
	Oid			base = getBaseType(given);
	CoercionPathType path;

	memset(cast, 0, sizeof(IdemKeyCast));
	cast->given = given;
	if (given == UNKNOWNOID)
	{
		cast->kind = IDEM_CAST_INPUT;
		return;
	}
	/* the cast from text takes no numbers, and does not give the name back */
	if (key->basetype == REGCLASSOID && TypeCategory(base) == TYPCATEGORY_STRING)
	{
		cast->kind = IDEM_CAST_OUTPUT_INPUT;
		return;
	}

	path = find_coercion_pathway(key->basetype, base, COERCION_ASSIGNMENT,
								 &cast->func);
	if (path == COERCION_PATH_RELABELTYPE)
	{
		cast->kind = IDEM_CAST_NONE;
		cast->unsign = base == INT4OID && key->basetype != INT4OID;
	}
	else if (path == COERCION_PATH_FUNC)
	{
		cast->kind = IDEM_CAST_FUNCTION;
		path = find_coercion_pathway(base, key->basetype, COERCION_EXPLICIT,
									 &cast->back);
		if (path == COERCION_PATH_FUNC || path == COERCION_PATH_RELABELTYPE)
			cast->given_equals =
				lookup_type_cache(base, TYPECACHE_EQ_OPR)->eq_opr;
		if (OidIsValid(cast->given_equals))
			cast->given_equals = get_opcode(cast->given_equals);
		cast->one_way = cast->func < FirstNormalObjectId;
	}
	else if (path != COERCION_PATH_NONE ||
			 TypeCategory(base) == TYPCATEGORY_STRING)
		cast->kind = IDEM_CAST_OUTPUT_INPUT;
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("key value is of the wrong type"),
				 errdetail("Column \"%s\" of table \"%s\" is of type %s, and the value is of type %s.",
						   get_attname(heap, key->attnum, false),
						   get_rel_name(heap),
						   format_type_be(key->type), format_type_be(given)),
				 errhint("Cast the value to %s.", format_type_be(key->type))));
}

/*
 * Casts a value to the base type of a column of the key.  If an input function
 * does it, literal is what that function was given.
 */
static Datum
cast_value(const IdemKeyColumn *key, const IdemKeyCast *cast, Datum value,
		   char **literal, bool *isnull)
{
	Oid			func;
	Oid			ioparam;
	bool		isvarlena;

	*literal = NULL;
	switch (cast->kind)
	{
		case IDEM_CAST_NONE:
			return value;
		case IDEM_CAST_FUNCTION:
			return call_cast(cast->func, value, -1, key->collation, isnull);
		case IDEM_CAST_OUTPUT_INPUT:
			getTypeOutputInfo(cast->given, &func, &isvarlena);
			*literal = OidOutputFunctionCall(func, value);
			break;
		case IDEM_CAST_INPUT:
			*literal = DatumGetCString(value);
			break;
	}
	getTypeInputInfo(key->basetype, &func, &ioparam);
	return OidInputFunctionCall(func, *literal, ioparam, -1);
}

/* Is the result of a cast something else than the value that was given? */
static bool
loses(const IdemKeyColumn *key, const IdemKeyCast *cast, Datum value,
	  const char *literal, Datum result)
{
	Datum		back = result;
	bool		isnull = false;

	if (literal != NULL)
		return !idem_text_is_whole(key->basetype, literal);

	/* integer becomes oid as it is, and only oid has no sign */
	if (cast->kind == IDEM_CAST_NONE)
		return cast->unsign && DatumGetInt32(value) < 0;

	if (!OidIsValid(cast->given_equals))
		return cast->one_way;
	if (OidIsValid(cast->back))
		back = call_cast(cast->back, result, -1, key->collation, &isnull);
	return isnull ||
		!same_value(cast->given_equals, key->collation, value, back);
}

/* Applies what a type modifier says: the length of varchar(n), for instance. */
static Datum
apply_length(const IdemKeyColumn *key, Datum value, bool *isnull)
{
	Oid			func;

	/* arrays, the other answer, compare without their elements' modifier */
	if (find_typmod_coercion_function(key->basetype, &func) !=
		COERCION_PATH_FUNC)
		return value;
	return call_cast(func, value, key->typmod, key->collation, isnull);
}

/*
 * Calls a cast function as an expression would: as the caller, and only if the
 * caller may.
 */
static Datum
call_cast(Oid func, Datum value, int32 typmod, Oid collation, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 3);
	FmgrInfo	finfo;
	Datum		result;

	if (func >= FirstNormalObjectId)
	{
		if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(func)))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("function with OID %u does not exist", func),
					 errdetail("It was dropped while the call was at work."),
					 errhint("Do not drop what is in use, and run the statement again.")));
		idem_check_execute(func);
		InvokeFunctionExecuteHook(func);
	}

	fmgr_info(func, &finfo);
	InitFunctionCallInfoData(*fcinfo, &finfo, finfo.fn_nargs, collation,
							 NULL, NULL);
	fcinfo->args[0].value = value;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = Int32GetDatum(typmod);
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = BoolGetDatum(false);
	fcinfo->args[2].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/* Are two values the same to a comparison function? */
static bool
same_value(Oid func, Oid collation, Datum a, Datum b)
{
	return DatumGetBool(OidFunctionCall2Coll(func, OidIsValid(collation) ?
											 collation : DEFAULT_COLLATION_OID,
											 a, b));
}

/* Refuses a value of which a cast makes null. */
static void
refuse_null(Oid heap, const IdemKeyColumn *key, Oid given, Datum value)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("key value must not be null"),
			 errdetail("The cast from %s to %s makes null of value %s for column \"%s\" of table \"%s\".",
					   format_type_be(given), format_type_be(key->type),
					   idem_value_text(given, value),
					   get_attname(heap, key->attnum, false),
					   get_rel_name(heap)),
			 errhint("Pass a value that the column can hold.")));
}

/* Refuses a value that would be another one in its column. */
static void
refuse_changed(Oid heap, const IdemKeyColumn *key, Oid given, Datum value)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("key value does not fit its column"),
			 errdetail("Value %s would be another one in column \"%s\" of table \"%s\", which is of type %s.",
					   idem_value_text(given, value),
					   get_attname(heap, key->attnum, false),
					   get_rel_name(heap),
					   format_type_with_typemod(key->type, key->type == key->basetype ? key->typmod : -1)),
			 errhint("Pass a value that the column can hold.")));
}
