/*-------------------------------------------------------------------------
 *
 * policy.h
 *	  Policies: how long a source is remembered, and the time of a key.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_POLICY_H
#define IDEM_POLICY_H

#include "store.h"

/* key_time.c: the time at which a key was made, read from the key */
typedef enum IdemKeyFormat
{
	IDEM_KEY_NO_TIME,
	IDEM_KEY_UUIDV7,
	IDEM_KEY_ULID,
	IDEM_KEY_UNIX,
	IDEM_KEY_SNOWFLAKE,
	IDEM_KEY_DATE
} IdemKeyFormat;

typedef struct IdemKeyTime
{
	IdemKeyFormat format;
	int64		epoch_ms;		/* IDEM_KEY_SNOWFLAKE: where its time begins */
} IdemKeyTime;

extern bool idem_key_time_parse(const char *text, int len,
								IdemKeyTime *key_time);
extern bool idem_key_time_read(const IdemKeyTime *key_time, Datum seq,
							   TimestampTz *begin, TimestampTz *end);
extern char *idem_key_time_expected(const IdemKeyTime *key_time);

/* policy.c: what a policy says of a key that is not on record */
#define IDEM_POLICY_KEYS	2	/* source and seq, of claims and of holds */

typedef enum IdemKeyAge
{
	IDEM_KEY_NEW,				/* may be done: it never was */
	IDEM_KEY_GONE,				/* older than what is remembered */
	IDEM_KEY_INVALID			/* its time cannot be read, or lies ahead */
} IdemKeyAge;

typedef enum IdemKeyMoment
{
	IDEM_KEY_IS_ABSENT,			/* found absent, and reserved */
	IDEM_KEY_IS_ABSENT_TOO,		/* ... to be inserted together with others */
	IDEM_KEY_IS_INSERTED,		/* our own row is there */
	IDEM_KEY_IS_READ			/* found absent by a call that inserts nothing */
} IdemKeyMoment;

extern void idem_policy_init(void);
extern IdemKeyAge idem_policy_judge(const IdemStore *store, const Datum *key,
									IdemKeyMoment moment);
extern bool idem_policy_admit(IdemStore *store, const Datum *key,
							  IdemKeyMoment moment);
extern void idem_policy_refuse(const IdemStore *store, const Datum *key);
extern void idem_policy_check_gone(IdemStore *store, const Datum *key);

/* policy.c: all policies, for the purge */
typedef struct IdemPolicy
{
	char	   *source;			/* hash key */
	bool		in_force;		/* false: dropped, or the shared mark */
	int64		retention;		/* microseconds; if in force */
	TimestampTz mark;
	int			nkey_times;
	IdemKeyTime *key_times;		/* all that it has ever had */
	TimestampTz cutoff;			/* the purge's, as are the following ones */
	int			ndue;			/* rows of the window that may go */
	int			due_size;
	Datum	   *due;			/* which ones */
} IdemPolicy;

typedef struct IdemPolicies
{
	MemoryContext context;		/* holds all of it */
	uint64		generation;
	int			n;
	IdemPolicy *policies;		/* sorted by source; "" is the shared mark */
} IdemPolicies;

#define IDEM_SHARED_MARK	""	/* source of the row that has it */

extern Oid	idem_policy_lock(LOCKMODE lockmode);
extern bool idem_policies_current(const IdemPolicies *policies);
extern IdemPolicies *idem_policies_load(MemoryContext parent, Oid owner);
extern IdemPolicy *idem_policies_find(const IdemPolicies *policies,
									  const char *source, int len);
extern void idem_policies_raise(const IdemPolicies *policies, Oid owner,
								const bool *raise);

#endif							/* IDEM_POLICY_H */
