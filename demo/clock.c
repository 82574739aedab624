/*
 * clock.c
 *		The clock that durations are measured by, which nobody sets.
 */
#include "demo.h"

#include <time.h>

double
now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

void
sleep_seconds(double seconds)
{
	struct timespec pause;

	pause.tv_sec = (time_t) seconds;
	pause.tv_nsec = (long) ((seconds - (double) pause.tv_sec) * 1e9);
	nanosleep(&pause, NULL);
}
