/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between the supported server versions, 15 to 19.
 *
 * The rest of the project is written once, for the newest interface that all
 * of them can be brought to; no other file may test PG_VERSION_NUM.
 *
 * Debian went from 15 to 17.  16 is checked with Ubuntu 24.04's packages, as
 * all the others are: script/matrix compiles with gcc and clang and runs the
 * whole suite.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_COMPAT_H
#define IDEM_COMPAT_H

#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/pg_proc.h"
#include "utils/acl.h"

#if PG_VERSION_NUM >= 170000
#include "storage/dsm_registry.h"
#endif

#if PG_VERSION_NUM < 150000
#error "idem needs PostgreSQL 15 or later"
#endif

/* 16 moved the varlena macros out of postgres.h */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 16 replaced the privilege test of each catalog by one for all of them */
#if PG_VERSION_NUM < 160000
#define object_aclcheck(classid, objectid, roleid, mode) \
	(AssertMacro((classid) == ProcedureRelationId), \
	 pg_proc_aclcheck(objectid, roleid, mode))
#define idem_namespace_aclcheck(schema, role, mode) \
	pg_namespace_aclcheck(schema, role, mode)
#else
#define idem_namespace_aclcheck(schema, role, mode) \
	object_aclcheck(NamespaceRelationId, schema, role, mode)
#endif

/* 16 made SET ROLE an option of each grant; before, every member could */
#if PG_VERSION_NUM < 160000
#define member_can_set_role(member, role) is_member_of_role(member, role)
#endif

/* 16 added what there is to say of an error in a date or time */
#if PG_VERSION_NUM >= 160000
#define idem_decode_date_time(field, ftype, nf, dtype, tm, fsec, tzp) \
	DecodeDateTime(field, ftype, nf, dtype, tm, fsec, tzp, \
				   &(DateTimeErrorExtra) {0})
#define idem_decode_time_only(field, ftype, nf, dtype, tm, fsec, tzp) \
	DecodeTimeOnly(field, ftype, nf, dtype, tm, fsec, tzp, \
				   &(DateTimeErrorExtra) {0})
#else
#define idem_decode_date_time	DecodeDateTime
#define idem_decode_time_only	DecodeTimeOnly
#endif

/* 17 renamed the comparison of a plan's search_path with the present one */
#if PG_VERSION_NUM < 170000
#define SearchPathMatchesCurrentEnvironment(path) \
	OverrideSearchPathMatchesCurrent(path)
#endif

/* 17 made intervals infinite */
#if PG_VERSION_NUM < 170000
#define INTERVAL_IS_NOEND(i)	false
#endif

/* 19 lays out a new row type once it has all its columns */
#if PG_VERSION_NUM < 190000
#define TupleDescFinalize(desc) ((void) (desc))
#endif

/* 18 put the word before the declaration, where C11 wants it */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/*
 * 17 has named segments of shared memory, which the first user makes; 19 gave
 * the function that fills a new one a second argument.  Before 17 memory must
 * be asked for at the server's start.
 */
#if PG_VERSION_NUM >= 190000
#define IDEM_SEGMENT_ON_DEMAND 1
#define IDEM_SEGMENT_INIT_ARGS void *ptr, void *arg
#define idem_segment(name, size, init, found) \
	GetNamedDSMSegment(name, size, init, found, NULL)
#elif PG_VERSION_NUM >= 170000
#define IDEM_SEGMENT_ON_DEMAND 1
#define IDEM_SEGMENT_INIT_ARGS void *ptr
#define idem_segment(name, size, init, found) \
	GetNamedDSMSegment(name, size, init, found)
#else
#define IDEM_SEGMENT_ON_DEMAND 0
#define IDEM_SEGMENT_INIT_ARGS void *ptr
#endif

/* 16 gave file numbers another name */
#if PG_VERSION_NUM < 160000
#define rd_firstRelfilelocatorSubid rd_firstRelfilenodeSubid
#endif

/* 18 has counters for EXPLAIN, 19 flags for the slot; neither is of use here */
static inline IndexScanDesc
idem_index_beginscan(Relation heap, Relation index, Snapshot snapshot,
					 int nkeys)
{
#if PG_VERSION_NUM >= 190000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0, 0);
#elif PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/*
 * heap_update(), answering in needs_index whether the new version needs index
 * entries of its own.  16 added the output argument; before, the tuple told.
 * 19 turned the flag for waiting into a set of options.
 */
static inline TM_Result
idem_heap_update(Relation relation, ItemPointer otid, HeapTuple newtup,
				 CommandId cid, TM_FailureData *tmfd, bool *needs_index)
{
	LockTupleMode lockmode;
	TM_Result	result;

#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes update_indexes;

#if PG_VERSION_NUM >= 190000
	result = heap_update(relation, otid, newtup, cid, 0, InvalidSnapshot,
						 true, tmfd, &lockmode, &update_indexes);
#else
	result = heap_update(relation, otid, newtup, cid, InvalidSnapshot,
						 true, tmfd, &lockmode, &update_indexes);
#endif
	*needs_index = (result == TM_Ok && update_indexes != TU_None);
#else
	result = heap_update(relation, otid, newtup, cid, InvalidSnapshot,
						 true, tmfd, &lockmode);
	*needs_index = (result == TM_Ok && !HeapTupleIsHeapOnly(newtup));
#endif

	return result;
}

#endif							/* IDEM_COMPAT_H */
