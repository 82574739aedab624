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
 * Memberships are asked of the server at each call, so what was granted or
 * revoked counts at once.  Only the current user's own name is kept.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "store_route.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/*
 * The current user's name, which nearly every call asks for, until some role
 * changes.  InvalidOid: not known.
 */
static struct
{
	Oid			role;
	char		name[VARHDRSZ + NAMEDATALEN] pg_attribute_aligned(4);
}			current = {.role = InvalidOid};

static const text *current_name(void);
static void invalidate(Datum arg, int cacheid, uint32 hashvalue);
static Oid	extension_owner(void);


/* Registers the callback, before any role is looked up. */
void
idem_owner_init(void)
{
	CacheRegisterSyscacheCallback(AUTHOID, invalidate, (Datum) 0);
}

/* The owner of what the current user records now. */
Datum
idem_current_owner(void)
{
	const text *name = current_name();

	/* a copy: a function that runs as somebody else may come before its use */
	return PointerGetDatum(memcpy(palloc(VARSIZE(name)), name, VARSIZE(name)));
}

/* May the current user act as the owner of a record? */
bool
idem_may_act_as(Datum owner)
{
	Oid			user = GetUserId();
	Oid			role;

	if (idem_same_bytes(owner, PointerGetDatum(current_name())))
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


/* The current user's name, until the next call. */
static const text *
current_name(void)
{
	Oid			user = GetUserId();

	if (user != current.role)
	{
		const char *name = GetUserNameFromId(user, false);

		/* from here on nothing looks at the catalogs until it is kept */
		SET_VARSIZE(current.name, VARHDRSZ + strlen(name));
		memcpy(VARDATA(current.name), name, strlen(name));
		current.role = user;
	}
	return (const text *) current.name;
}

/* Forgets the name, after a change to some role. */
static void
invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	current.role = InvalidOid;
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
