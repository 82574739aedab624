/*-------------------------------------------------------------------------
 *
 * target.h
 *	  Rows of the caller's own tables, found by key.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_TARGET_H
#define IDEM_TARGET_H

#include "trigger.h"

#include "utils/relcache.h"

/* target_sql.c: texts on one row of a caller's table, found by its key */

/* A column of a key, and how a value is compared with it. */
typedef struct IdemKeyColumn
{
	AttrNumber	attnum;
	Oid			type;			/* as declared, perhaps a domain */
	Oid			basetype;		/* of the parameter that it is compared with */
	int32		typmod;
	Oid			collation;		/* of the index */
	Oid			opclass;		/* of the index */
	Oid			equals;			/* the operator of that class */
} IdemKeyColumn;

/* What a text is built from: nothing but what the catalog says. */
typedef struct IdemRowSpec
{
	Oid			heap;			/* the table */
	Oid			index;			/* whose columns are the key */
	bool		partitioned;
	bool		guarded;		/* a BEFORE UPDATE trigger may change the
								 * column, or suppress the row */
	AttrNumber	column;			/* the column to work on, 0 if none */
	Oid			columntype;		/* as declared, perhaps a domain */
	Oid			columnbase;		/* the type below the domain */
	int32		columntypmod;
	int			nkeys;
	IdemKeyColumn *key;
} IdemRowSpec;

/* The key is $1 to $n; where a text takes a value, that is $n+1. */
typedef enum IdemRowPlan
{
	IDEM_ROW_LOCK,				/* locks the row */
	IDEM_ROW_EXISTS,			/* is there a row? */
	IDEM_ROW_READ,				/* the column */
	IDEM_ROW_READ_ALL,			/* the row, as one composite value */
	IDEM_ROW_LOCK_TEXT,			/* locks the row; the column as text */
	IDEM_ROW_SET_TEXT,			/* sets the column from a text; as it is
								 * stored then, as text */
	IDEM_ROW_DEDUCT,			/* takes the value from the column, if enough */
	IDEM_ROW_DEDUCT_READ,		/* the same; the column as it is stored then */
	IDEM_ROW_LOCK_ENOUGH,		/* locks the row if enough; what would be left */
	IDEM_ROW_INSERT				/* see idem_plan_row_insert */
} IdemRowPlan;

#define IDEM_ROW_PLANS		(IDEM_ROW_INSERT + 1)

struct _SPI_plan;
extern struct _SPI_plan *idem_plan_row(const IdemRowSpec *spec,
									   IdemRowPlan plan);
extern struct _SPI_plan *idem_plan_row_insert(const IdemRowSpec *spec,
											  const AttrNumber *given,
											  const Oid *types, int ngiven,
											  bool arbiter);
extern bool idem_plan_row_execute(const IdemRowSpec *spec,
								  struct _SPI_plan *plan, IdemRowPlan which,
								  const Datum *values, MemoryContext copyto,
								  Datum *result, bool *resultnull);

/* rowspec.c: what the catalog says of a table and of a key to its rows */
extern Oid	idem_spec_table(Oid relid);
extern Oid	idem_spec_primary_key(Relation heap);
extern Oid	idem_spec_choose(Oid relid, const bool *nulls);
extern void idem_spec_read(IdemRowSpec *spec, Relation heap, Oid index,
						   const char *column);
extern void idem_spec_check_rules(Relation heap);

/* keyvalue.c: a key value that the caller gave, as its column takes it */

/* How a value of a given type becomes one of the column's base type. */
typedef enum IdemCastKind
{
	IDEM_CAST_NONE,				/* it is one already */
	IDEM_CAST_FUNCTION,
	IDEM_CAST_INPUT,			/* from a literal without a type */
	IDEM_CAST_OUTPUT_INPUT		/* through its text */
} IdemCastKind;

/*
 * The cast from the type given last.  Nothing but OIDs, looked up at each use:
 * a cast function may call us again, with another type for the same column.
 */
typedef struct IdemKeyCast
{
	Oid			given;			/* InvalidOid: not yet known */
	IdemCastKind kind;
	Oid			func;			/* IDEM_CAST_FUNCTION */
	Oid			back;			/* its reverse, InvalidOid if none is needed */
	Oid			given_equals;	/* function that compares values given, to see
								 * what was lost; InvalidOid: no way back */
	bool		one_way;		/* without a way back, something is lost */
	bool		unsign;			/* an integer taken as an oid */
} IdemKeyCast;

extern Datum idem_key_value(IdemKeyCast *kept, Oid heap,
							const IdemKeyColumn *key, Oid given, Datum value);
extern char *idem_value_text(Oid type, Datum value);

/* keytext.c: does a type's input function take all that a text says? */
extern bool idem_text_is_whole(Oid type, const char *text);

/* target_cache.c: what a session keeps of the tables it works on */
typedef struct IdemKeptTarget
{
	IdemRowSpec spec;
	const char *column;			/* as given, empty if none */
	IdemKeyCast *casts;			/* one for each column of the key */
	bool		stale;			/* the table has changed since */
} IdemKeptTarget;

extern void idem_target_init(void);
extern IdemKeptTarget *idem_kept_target_open(Oid relid, const char *column,
											 LOCKMODE lockmode);
extern struct _SPI_plan *idem_kept_target_plan(IdemKeptTarget *kept,
											   IdemRowPlan plan);
extern struct _SPI_plan *idem_kept_target_insert_plan(IdemKeptTarget *kept,
													  TupleDesc desc,
													  const AttrNumber *given,
													  int ngiven, bool arbiter);

/*
 * target.c: a table of the caller's and the key by which one of its rows is
 * found.  In use from idem_target_open to idem_target_close, which must not be
 * interleaved with other SPI_connect and SPI_finish calls.
 */
typedef struct IdemTarget
{
	const IdemRowSpec *spec;
	Datum		key[INDEX_MAX_KEYS];	/* of spec->key[i].basetype each */
	Relation	rel;			/* the table, open */
	bool		guarded;		/* spec->guarded, as it is now */
	IdemKeptTarget *kept;
	MemoryContext caller;		/* where results go */
} IdemTarget;

extern void idem_target_open(IdemTarget *target, Oid relid, const char *column,
							 LOCKMODE lockmode);
extern void idem_target_key(IdemTarget *target, FunctionCallInfo fcinfo,
							int argno);
extern bool idem_target_execute(IdemTarget *target, IdemRowPlan plan,
								Datum value, Datum *result, bool *resultnull);
extern bool idem_target_insert(IdemTarget *target, TupleDesc desc,
							   const Datum *values, const bool *nulls,
							   bool arbiter, Datum *result);
extern char *idem_target_columns(const IdemTarget *target);
extern char *idem_target_key_text(const IdemTarget *target);
pg_noreturn extern void idem_target_no_row(const IdemTarget *target);
extern void idem_target_close(IdemTarget *target);

#endif							/* IDEM_TARGET_H */
