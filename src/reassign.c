/*-------------------------------------------------------------------------
 *
 * reassign.c
 *	  Records change their owner, all those of a role at once.
 *
 * The contract.  Owners are stored by name (owner.c), so a role that is renamed
 * leaves its records behind, and so does one that is dropped.  idem_reassign
 * moves them to another name: in the transaction of the rename, or before DROP
 * ROLE.  The old name may be missing; the new one must exist.  A superuser or
 * the extension's owner may move any; another role that was granted the
 * function must be able to act as both.
 *
 * Concurrency.  A transaction that is open may have made records under the old
 * name which nobody else sees yet.  So each table is first locked in SHARE ROW
 * EXCLUSIVE mode, which waits for all that have written to it, and keeps others
 * from writing until the reassigning transaction ends.  The rows are then those
 * of the latest snapshot, at every isolation level.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"
#include "lock.h"
#include "stock.h"

#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/* A table whose records have owners, and the statements on it. */
typedef struct Owned
{
	IdemTable  *table;
	IdemPlan	lock;
	IdemPlan	reassign;
} Owned;

static const Owned owned[] = {
	{&idem_claim_table, IDEM_PLAN_CLAIM_LOCK_TABLE, IDEM_PLAN_CLAIM_REASSIGN},
	{&idem_hold_table, IDEM_PLAN_HOLD_LOCK_TABLE, IDEM_PLAN_HOLD_REASSIGN},
	{&idem_lock_table, IDEM_PLAN_LOCK_LOCK_TABLE, IDEM_PLAN_LOCK_REASSIGN}
};

static uint64 execute(IdemTable *table, IdemPlan plan, const Datum *values);
static void check_roles(const Datum *roles);
static void check_role(Datum role);

PG_FUNCTION_INFO_V1(idem_reassign);


/*
 * idem_reassign(old_owner name, new_owner name) -> bigint
 *
 * How many records have changed their owner.
 */
Datum
idem_reassign(PG_FUNCTION_ARGS)
{
	Datum		roles[2];
	uint64		moved = 0;

	roles[0] = CStringGetTextDatum(idem_arg_name(fcinfo, 0, "old_owner", "role"));
	roles[1] = CStringGetTextDatum(idem_arg_name(fcinfo, 1, "new_owner", "role"));
	idem_check_access(IDEM_WRITE);
	check_roles(roles);
	for (int i = 0; i < (int) lengthof(owned); i++)
		(void) execute(owned[i].table, owned[i].lock, NULL);
	/* that may have been a long wait */
	check_roles(roles);
	for (int i = 0; i < (int) lengthof(owned); i++)
		moved += execute(owned[i].table, owned[i].reassign, roles);

	PG_RETURN_INT64((int64) moved);
}


/*
 * Runs a statement on one of the tables, as its owner.  The lock under which the
 * owner is read is compatible with the one that is taken next: of two calls with
 * a stronger one, each would wait for the other.
 */
static uint64
execute(IdemTable *table, IdemPlan plan, const Datum *values)
{
	Relation	index;
	Relation	heap = idem_table_open(table, AccessShareLock, false, &index);
	uint64		rows = idem_plan_execute(plan, heap->rd_rel->relowner, false,
										 values, NULL, NULL, NULL, 0);

	table_close(heap, NoLock);
	return rows;
}

/* Refuses a new owner that is not there, and roles that may not be acted for. */
static void
check_roles(const Datum *roles)
{
	if (!OidIsValid(get_role_oid(TextDatumGetCString(roles[1]), true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist",
						TextDatumGetCString(roles[1])),
				 errdetail("Records cannot be given to a role that is not there."),
				 errhint("Create the role first, or rename the old one and then reassign.")));
	check_role(roles[0]);
	check_role(roles[1]);
}

/* Refuses a role for which the current user may not act. */
static void
check_role(Datum role)
{
	if (idem_is_administrator() || idem_may_act_as(role))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to reassign records of role \"%s\"",
					TextDatumGetCString(role)),
			 errdetail("Only superusers, the extension's owner and roles that may act as both roles can move records between them."),
			 errhint("Have an administrator call the function.")));
}
