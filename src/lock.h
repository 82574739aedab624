/*-------------------------------------------------------------------------
 *
 * lock.h
 *	  The table of locks.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_LOCK_H
#define IDEM_LOCK_H

#include "store.h"

extern IdemTable idem_lock_table;

#endif							/* IDEM_LOCK_H */
