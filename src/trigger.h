/*-------------------------------------------------------------------------
 *
 * trigger.h
 *	  Triggers on rows of the caller's own tables.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_TRIGGER_H
#define IDEM_TRIGGER_H

#include "idem.h"

#include "utils/relcache.h"

/* trigger.c: what our row triggers have in common */
typedef struct IdemTriggerKind
{
	const char *name;
	bool		insert;			/* fires for INSERT as well */
	const char *holds;			/* what its column holds */
	const char *call;			/* how CREATE TRIGGER names it */
} IdemTriggerKind;

struct TriggerData;
extern struct TriggerData *idem_trigger_data(FunctionCallInfo fcinfo,
											 const IdemTriggerKind *kind);
extern AttrNumber idem_trigger_column(const struct TriggerData *trigger,
									  const IdemTriggerKind *kind,
									  const char *name);
extern void idem_check_not_generated(Relation rel, AttrNumber attnum,
									 const char *holds);
pg_noreturn extern void idem_refuse_column_type(Relation rel, AttrNumber attnum,
												const char *holds,
												const char *hint);
pg_noreturn extern void idem_trigger_refuse_arguments(const struct TriggerData *trigger,
													  const IdemTriggerKind *kind,
													  const char *detail);

/* version.c: known to rowspec.c, because it changes no column but its own */
extern PGDLLEXPORT Datum idem_version(PG_FUNCTION_ARGS);

#endif							/* IDEM_TRIGGER_H */
