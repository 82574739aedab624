/*-------------------------------------------------------------------------
 *
 * store_blocks.c
 *	  A table of ours in the order of its blocks, for the purge.
 *
 * A window is a range of places that has at most so many rows.  Rows are only
 * counted here, dead ones too, by the line pointers of the pages; what becomes
 * of them is decided by the statement that is then run on the range.  So a row
 * that comes or goes after its page was counted makes the window a little
 * larger or smaller, and nothing else.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_many.h"

#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"


/* Can the rows of a table be read in the order of its blocks? */
bool
idem_blocks_exist(const IdemStore *store)
{
	Form_pg_class form = store->heap->rd_rel;

	return form->relkind == RELKIND_RELATION &&
		form->relam == HEAP_TABLE_AM_OID &&
		!form->relhassubclass &&
		!OidIsValid(get_extension_oid("citus", true));
}

/* How many blocks there are. */
BlockNumber
idem_blocks_number(const IdemStore *store)
{
	return RelationGetNumberOfBlocks(store->heap);
}

/*
 * Moves block and offset from the place at which a window begins to the place
 * behind it, and answers how many rows it has.  It is made of whole blocks
 * before end, or lies within one block, and has at most max_rows.
 */
int
idem_blocks_window(const IdemStore *store, BlockNumber end, int max_rows,
				   BlockNumber *block, OffsetNumber *offset)
{
	BlockNumber first = *block;
	int			rows = 0;

	while (*block < end)
	{
		Buffer		buffer = ReadBuffer(store->heap, *block);
		Page		page;
		OffsetNumber i;
		int			before = rows;

		CHECK_FOR_INTERRUPTS();
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		page = BufferGetPage(buffer);
		for (i = *offset; i <= PageGetMaxOffsetNumber(page); i++)
		{
			if (!ItemIdIsNormal(PageGetItemId(page, i)))
				continue;
			if (rows == max_rows)
				break;
			rows++;
		}
		if (i <= PageGetMaxOffsetNumber(page))
		{
			UnlockReleaseBuffer(buffer);
			if (*block == first)
				*offset = i;
			else
				rows = before;	/* this block is the next window's */
			break;
		}
		UnlockReleaseBuffer(buffer);
		(*block)++;
		*offset = FirstOffsetNumber;
	}
	return rows;
}
