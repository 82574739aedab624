/*-------------------------------------------------------------------------
 *
 * result.c
 *	  The rows that functions of the API answer with.
 *
 * A function with OUT arguments could ask the catalog for its row type at each
 * call, which costs a seventh of idem_begin.  The types are those that our
 * script declares, so they stand here in C beside the function, and become a
 * row type of the session at the first call.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/memutils.h"


/* A row of the given type. */
Datum
idem_result_row(IdemResultType *type, const Datum *values, const bool *nulls)
{
	if (type->desc == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		TupleDesc	desc = CreateTemplateTupleDesc(type->ncolumns);

		for (int i = 0; i < type->ncolumns; i++)
			TupleDescInitEntry(desc, i + 1, type->columns[i].name,
							   type->columns[i].type, -1, 0);
		TupleDescFinalize(desc);
		type->desc = BlessTupleDesc(desc);
		MemoryContextSwitchTo(old);
	}
	return HeapTupleGetDatum(heap_form_tuple(type->desc,
											 unconstify(Datum *, values),
											 unconstify(bool *, nulls)));
}
