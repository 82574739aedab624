/*
 * clock.c
 *		For the loops of script/bench: processor seconds that this backend has used, user and system.
 *
 * A loop in one transaction waits for next to nothing, so on an idle machine this is the time that passes; on a busy one
 * it is still the time that the loop needs.
 */
#include "postgres.h"

#include <time.h>

#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bench_seconds);

Datum
bench_seconds(PG_FUNCTION_ARGS)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	PG_RETURN_FLOAT8(time.tv_sec + time.tv_nsec / 1e9);
}
