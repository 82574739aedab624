/*-------------------------------------------------------------------------
 *
 * owner.c
 *	  Whose a record is: what one role recorded, another cannot read or use.
 *
 * The owner of a record is the current user at the call that made it: after
 * SET ROLE that role, in a SECURITY DEFINER function its owner.  It is stored
 * by name.  An OID would mean another role after a dump and restore, in a binary
 * subscription, and on another node of a cluster, and that role would then
 * read answers that are not its own.
 *
 * A role may act as an owner whose privileges it has, or to which it can SET
 * ROLE.  A name that no role has, as DROP ROLE and ALTER ROLE RENAME leave it,
 * is open only to superusers and the extension's owner.  Whoever makes a role
 * of that name later owns its records, as with the grants in a dump.
 *
 * Roles are looked up in the catalog at each call, so what was granted or
 * revoked counts at once.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static Oid	extension_owner(void);


/* The owner of what the current user records now. */
Datum
idem_current_owner(void)
{
	return CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
}

/* May the current user act as the owner of a record? */
bool
idem_may_act_as(Datum owner)
{
	Oid			user = GetUserId();
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(user));
	bool		own;
	Oid			role;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for role %u", user);
	own = strcmp(NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname),
				 TextDatumGetCString(owner)) == 0;
	ReleaseSysCache(tuple);
	if (own)
		return true;

	role = get_role_oid(TextDatumGetCString(owner), true);
	if (!OidIsValid(role))
		return idem_is_administrator();
	return has_privs_of_role(user, role) || member_can_set_role(user, role);
}

/* Is the current user a superuser, or may act as the extension's owner? */
bool
idem_is_administrator(void)
{
	return superuser() || has_privs_of_role(GetUserId(), extension_owner());
}

/* Refuses the record of a role that the current user may not act as. */
void
idem_check_owner(const IdemTable *table, const Datum *key, Datum owner)
{
	if (idem_may_act_as(owner))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for %s", table->relname),
			 errdetail("Key %s belongs to a role that \"%s\" may not act as.",
					   idem_store_key(table, key),
					   GetUserNameFromId(GetUserId(), false)),
			 errhint("Use a key of your own, or have the role that owns this one granted to you.")));
}


/* The role that owns the extension. */
static Oid
extension_owner(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = BOOTSTRAP_SUPERUSERID;

	ScanKeyInit(&scankey, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("idem"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1,
							  &scankey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}
