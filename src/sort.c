/*-------------------------------------------------------------------------
 *
 * sort.c
 *	  What a caller gave, in order.
 *
 * The caller chooses the order of the input, and the server's qsort can be led
 * into quadratic time: 40 thousand items in the worst order take it seconds,
 * in which no cancel is looked for.  So we merge, which takes O(n log n)
 * whatever the order.  What is in order already is only compared once.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "idem.h"

#include "miscadmin.h"
#include "utils/memutils.h"

static void merge_sort(char *elements, char *spare, Size n, Size size,
					   int (*compare) (const void *, const void *));


/* As qsort, but equal elements stay as they were given, and it is cancelled. */
void
idem_sort(void *elements, Size n, Size size,
		  int (*compare) (const void *, const void *))
{
	char	   *spare;

	if (n < 2)
		return;
	spare = palloc_extended(n / 2 * size, MCXT_ALLOC_HUGE);
	merge_sort(elements, spare, n, size, compare);
	pfree(spare);
}


static void
merge_sort(char *elements, char *spare, Size n, Size size,
		   int (*compare) (const void *, const void *))
{
	Size		half = n / 2;
	char	   *right = elements + half * size;
	char	   *end = elements + n * size;
	char	   *next = elements;
	char	   *left = spare;
	char	   *left_end = spare + half * size;

	if (n < 2)
		return;
	CHECK_FOR_INTERRUPTS();
	merge_sort(elements, spare, half, size, compare);
	merge_sort(right, spare, n - half, size, compare);
	if (compare(right - size, right) <= 0)
		return;

	/* the left half makes room, and what is left of the right half stays */
	memcpy(spare, elements, half * size);
	while (left < left_end)
	{
		char	  **from;

		CHECK_FOR_INTERRUPTS();
		from = right < end && compare(right, left) < 0 ? &right : &left;

		memcpy(next, *from, size);
		next += size;
		*from += size;
	}
}
