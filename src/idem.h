/*-------------------------------------------------------------------------
 *
 * idem.h
 *	  What every family of files uses: error codes, limits, arguments.
 *
 * Each family has one header, and includes only those of the families below
 * it: idem, then stat, plan, store, policy, and on these claim,
 * token and stock; target and
 * machine stand on idem alone.  script/lint holds the files to it.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_H
#define IDEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

#include "compat.h"

/*
 * Our own error class.  The last three characters are the HTTP status that
 * fits, so that a gateway needs no table.
 */
#define ERRCODE_IDEM_NOT_FOUND			MAKE_SQLSTATE('I','D','4','0','4')
#define ERRCODE_IDEM_IN_PROGRESS		MAKE_SQLSTATE('I','D','4','0','9')
#define ERRCODE_IDEM_GONE				MAKE_SQLSTATE('I','D','4','1','0')
#define ERRCODE_IDEM_STALE				MAKE_SQLSTATE('I','D','4','1','2')
#define ERRCODE_IDEM_OTHER_REQUEST		MAKE_SQLSTATE('I','D','4','2','2')
#define ERRCODE_IDEM_TOO_MANY			MAKE_SQLSTATE('I','D','4','2','9')
#define ERRCODE_IDEM_TRANSITION			MAKE_SQLSTATE('I','D','4','6','0')

/*
 * Limits in bytes.  Together they keep every index entry of ours below a
 * third of a page (2704 bytes), whatever the text: an unbounded key would be
 * refused or not depending on how well it compresses.
 */
#define IDEM_SOURCE_MAX		255
#define IDEM_SEQ_MAX		1024
#define IDEM_ITEM_MAX		255
#define IDEM_MACHINE_MAX	255
#define IDEM_STATE_MAX		255
#define IDEM_PURPOSE_MAX	255
#define IDEM_SUBJECT_MAX	255

/* arg.c: what an argument of the API may be */
extern text *idem_arg_text(FunctionCallInfo fcinfo, int argno,
						   const char *name, int maxlen);
extern Datum idem_arg_seq(FunctionCallInfo fcinfo, int argno);
extern int	idem_arg_seqs(FunctionCallInfo fcinfo, int argno, Datum **seqs);
extern void idem_arg_not_null(FunctionCallInfo fcinfo, int argno,
							  const char *name);
extern void idem_check_text(Datum value, const char *name, int maxlen);
extern const char *idem_arg_name(FunctionCallInfo fcinfo, int argno,
								 const char *name, const char *kind);
extern bool idem_arg_bool(FunctionCallInfo fcinfo, int argno, const char *name);
extern Interval *idem_arg_interval(FunctionCallInfo fcinfo, int argno,
								   const char *name);
extern int64 idem_interval_usecs(const Interval *value);
extern TimestampTz idem_time_after(TimestampTz time, const Interval *interval);
extern int32 idem_arg_count(FunctionCallInfo fcinfo, int argno,
							const char *name, int32 max);
extern void idem_check_execute(Oid function);
extern void idem_check_nonatomic(FunctionCallInfo fcinfo,
								 const char *procedure);
extern void idem_check_quantity(Datum value, const char *name);
extern Datum idem_kept_numeric(Datum *kept, int64 n);
extern Datum idem_zero(void);
extern Datum idem_integer_datum(Oid type, int64 n);
extern int	idem_compare_bytes(Datum a, Datum b);
extern bool idem_same_bytes(Datum a, Datum b);

/* sort.c: what a caller gave, in order */
extern void idem_sort(void *elements, Size n, Size size,
					  int (*compare) (const void *, const void *));

/* subxact.c: a step that can be undone */
typedef bool (*IdemStep) (void *arg);
typedef bool (*IdemExpected) (const ErrorData *edata);

extern bool idem_subxact(IdemStep step, void *arg, IdemExpected expected);

/* invalidate.c: one relcache callback for all of idem */
extern void idem_on_relcache(void (*callback) (Datum arg, Oid relid));

typedef enum IdemAccess
{
	IDEM_READ,					/* reads only: allowed on a standby */
	IDEM_WRITE
} IdemAccess;

extern void idem_check_access(IdemAccess access);

/* result.c: the rows that functions of the API answer with */
#define IDEM_RESULT_MAX		8

typedef struct IdemColumn
{
	const char *name;
	Oid			type;
} IdemColumn;

typedef struct IdemResultType
{
	int			ncolumns;
	IdemColumn	columns[IDEM_RESULT_MAX];
	struct TupleDescData *desc; /* NULL until the first row */
} IdemResultType;

extern Datum idem_result_row(IdemResultType *type, const Datum *values,
							 const bool *nulls);

#endif							/* IDEM_H */
