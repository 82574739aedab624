/*-------------------------------------------------------------------------
 *
 * key_time.c
 *	  The time at which a key was made, read from the key itself.
 *
 * The contract.  A policy's key_time names a format:
 *
 *		uuidv7		a UUID with hyphens, in any case, whose version is 7: its
 *					first 48 bits are milliseconds.  The variant is not looked
 *					at, nor the random part.
 *		ulid		26 characters of Crockford's alphabet (no I, L, O, U), in any
 *					case: the first ten are milliseconds, in 48 bits
 *		unix		10 digits: seconds; or 13 digits: milliseconds
 *		snowflake	a positive bigint, as the server writes it: the bits from
 *					22 on are milliseconds since 1288834974657, or since the
 *					number in snowflake:EPOCH_MS
 *		date		YYYYMMDD or YYYY-MM-DD, a day in UTC
 *
 * A key of unix and date may go on after that, with a character that is
 * neither letter nor digit.  What is not ASCII counts as a letter, whatever
 * the encoding and the locale: a key is read alike in every database.
 *
 * A time is a span, from begin to end: of a date it is the day, and otherwise
 * begin and end are the same.
 *
 * Nothing here depends on settings, and a key is read once, from left to
 * right.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "policy.h"

#include <ctype.h>

#include "utils/datetime.h"
#include "utils/timestamp.h"

/* Where Twitter's time begins, and so that of most. */
#define SNOWFLAKE_EPOCH_MS	INT64CONST(1288834974657)

/* The last millisecond of the year 9999, the last beginning of time. */
#define EPOCH_MS_MAX		INT64CONST(253402300799999)

#define SNOWFLAKE_SHIFT		22
#define UUID_LEN			36
#define ULID_LEN			26

static bool read_uuidv7(const char *key, int len, int64 *ms);
static int	hex_digit(char c);
static bool read_ulid(const char *key, int len, int64 *ms);
static bool read_unix(const char *key, int len, int64 *ms);
static bool read_snowflake(const char *key, int len, int64 epoch_ms, int64 *ms);
static bool read_date(const char *key, int len, TimestampTz *begin);
static bool read_number(const char *text, int len, int64 max, int64 *number);
static int	count_digits(const char *key, int len);
static bool ends(const char *key, int len, int at);
static TimestampTz time_of_ms(int64 ms);


/* The format that a name names.  False: none. */
bool
idem_key_time_parse(const char *name, int len, IdemKeyTime *key_time)
{
	static const struct
	{
		const char *name;
		IdemKeyFormat format;
	}			formats[] = {
		{"uuidv7", IDEM_KEY_UUIDV7},
		{"ulid", IDEM_KEY_ULID},
		{"unix", IDEM_KEY_UNIX},
		{"snowflake", IDEM_KEY_SNOWFLAKE},
		{"date", IDEM_KEY_DATE}
	};
	const char	with_epoch[] = "snowflake:";
	int			prefix = sizeof(with_epoch) - 1;

	key_time->epoch_ms = SNOWFLAKE_EPOCH_MS;
	for (size_t i = 0; i < lengthof(formats); i++)
	{
		if (len == (int) strlen(formats[i].name) &&
			memcmp(name, formats[i].name, len) == 0)
		{
			key_time->format = formats[i].format;
			return true;
		}
	}

	key_time->format = IDEM_KEY_SNOWFLAKE;
	return len > prefix && memcmp(name, with_epoch, prefix) == 0 &&
		read_number(name + prefix, len - prefix, EPOCH_MS_MAX,
					&key_time->epoch_ms);
}

/* The time of a key.  False: it has none of this format. */
bool
idem_key_time_read(const IdemKeyTime *key_time, Datum seq, TimestampTz *begin,
				   TimestampTz *end)
{
	text	   *packed = DatumGetTextPP(seq);
	const char *key = VARDATA_ANY(packed);
	int			len = VARSIZE_ANY_EXHDR(packed);
	int64		ms = 0;
	bool		found = false;

	switch (key_time->format)
	{
		case IDEM_KEY_NO_TIME:
			break;
		case IDEM_KEY_UUIDV7:
			found = read_uuidv7(key, len, &ms);
			break;
		case IDEM_KEY_ULID:
			found = read_ulid(key, len, &ms);
			break;
		case IDEM_KEY_UNIX:
			found = read_unix(key, len, &ms);
			break;
		case IDEM_KEY_SNOWFLAKE:
			found = read_snowflake(key, len, key_time->epoch_ms, &ms);
			break;
		case IDEM_KEY_DATE:
			if (!read_date(key, len, begin))
				return false;
			*end = *begin + USECS_PER_DAY;
			return true;
	}
	if (found)
		*begin = *end = time_of_ms(ms);
	return found;
}

/* What a key should be, for a message. */
char *
idem_key_time_expected(const IdemKeyTime *key_time)
{
	switch (key_time->format)
	{
		case IDEM_KEY_NO_TIME:
			break;
		case IDEM_KEY_UUIDV7:
			return pstrdup("a UUID of version 7, with hyphens");
		case IDEM_KEY_ULID:
			return pstrdup("a ULID: 26 characters of Crockford's alphabet");
		case IDEM_KEY_UNIX:
			return pstrdup("a time in 10 digits (seconds) or 13 digits (milliseconds), then nothing, or something that begins with neither letter nor digit");
		case IDEM_KEY_SNOWFLAKE:
			return psprintf("a positive bigint with the milliseconds since %lld above bit 22",
							(long long) key_time->epoch_ms);
		case IDEM_KEY_DATE:
			return pstrdup("a day as YYYYMMDD or YYYY-MM-DD, then nothing, or something that begins with neither letter nor digit");
	}
	elog(ERROR, "key has no time");
	return NULL;				/* keep the compiler quiet */
}


static bool
read_uuidv7(const char *key, int len, int64 *ms)
{
	if (len != UUID_LEN || key[14] != '7')
		return false;

	*ms = 0;
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			digit;

		if (i == 8 || i == 13 || i == 18 || i == 23)
		{
			if (key[i] != '-')
				return false;
			continue;
		}
		digit = hex_digit(key[i]);
		if (digit < 0)
			return false;
		if (i < 13)
			*ms = *ms * 16 + digit;
	}
	return true;
}

/* The value of a hexadecimal digit, -1 if it is none; in any locale. */
static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
read_ulid(const char *key, int len, int64 *ms)
{
	static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

	/* 26 characters have 130 bits, of which a ULID has 128 */
	if (len != ULID_LEN || key[0] > '7')
		return false;

	*ms = 0;
	for (int i = 0; i < ULID_LEN; i++)
	{
		const char *found = key[i] == '\0' ? NULL :
			strchr(alphabet, pg_ascii_toupper((unsigned char) key[i]));

		if (found == NULL)
			return false;
		if (i < 10)
			*ms = *ms * 32 + (found - alphabet);
	}
	return true;
}

static bool
read_unix(const char *key, int len, int64 *ms)
{
	int			digits = count_digits(key, len);

	if ((digits != 10 && digits != 13) || !ends(key, len, digits) ||
		!read_number(key, digits, PG_INT64_MAX, ms))
		return false;
	if (digits == 10)
		*ms *= 1000;
	return true;
}

static bool
read_snowflake(const char *key, int len, int64 epoch_ms, int64 *ms)
{
	int64		number;

	if (key[0] == '0' || !read_number(key, len, PG_INT64_MAX, &number))
		return false;
	*ms = (number >> SNOWFLAKE_SHIFT) + epoch_ms;
	return true;
}

static bool
read_date(const char *key, int len, TimestampTz *begin)
{
	bool		hyphens = len > 4 && key[4] == '-';
	const char *month = key + (hyphens ? 5 : 4);
	const char *day = key + (hyphens ? 8 : 6);
	int			length = hyphens ? 10 : 8;
	int64		y;
	int64		m;
	int64		d;

	if (len < length || !ends(key, len, length) ||
		(hyphens && key[7] != '-') ||
		!read_number(key, 4, 9999, &y) || !read_number(month, 2, 12, &m) ||
		!read_number(day, 2, 31, &d) || y < 1 || m < 1 || d < 1 ||
		d > day_tab[isleap((int) y)][m - 1])
		return false;
	*begin = (TimestampTz) (date2j((int) y, (int) m, (int) d) -
							POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
	return true;
}

/* A number that is digits only, and at most max. */
static bool
read_number(const char *text, int len, int64 max, int64 *number)
{
	*number = 0;
	if (len == 0)
		return false;
	for (int i = 0; i < len; i++)
	{
		int			digit = (unsigned char) text[i] - '0';

		if (digit < 0 || digit > 9 || *number > (max - digit) / 10)
			return false;
		*number = *number * 10 + digit;
	}
	return true;
}

/* How many digits does a key begin with?  More than 13 are all the same. */
static int
count_digits(const char *key, int len)
{
	int			n = 0;

	while (n < len && n <= 13 && isdigit((unsigned char) key[n]))
		n++;
	return n;
}

/* Does the time of a key end here? */
static bool
ends(const char *key, int len, int at)
{
	unsigned char c;

	if (len == at)
		return true;
	c = key[at];
	return !IS_HIGHBIT_SET(c) && !isalnum(c);
}

static TimestampTz
time_of_ms(int64 ms)
{
	return (ms - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
			SECS_PER_DAY * 1000) * 1000;
}
