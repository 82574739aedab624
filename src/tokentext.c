/*-------------------------------------------------------------------------
 *
 * tokentext.c
 *	  What a token looks like.
 *
 * 88 characters, all of them letters, digits, '-' and '_', so that a token may
 * stand in a URL, a form field or a header as it is:
 *
 *		 1	version of this format: '1'
 *		12	number of the key that signed it
 *		32	name: expiry in microseconds (8 bytes, high byte first), nonce (16)
 *		43	signature over the 45 characters before, the purpose and the
 *			subject (32 bytes)
 *
 * Everything after the version is base64url (RFC 4648), without padding.
 * Number and name are multiples of three bytes, so they are cut out of the
 * text as they are; the last character has two bits to spare, which must be
 * zero.  So no two texts are the same token, and a token that was changed
 * anywhere is not one any more, or has another signature.
 *
 * The expiry comes before the nonce because the name is the key of
 * idem.token_spent: tokens that are consumed at about the same time are then
 * neighbours in its index, and after a checkpoint they share the images of a
 * few pages instead of writing one each.
 *
 * Nothing here allocates, raises or needs a server, so that fuzz/token.c can
 * run it alone.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "token.h"

#include "port/pg_bswap.h"

#define VERSION			'1'
#define NAME_BYTES		(sizeof(uint64) + IDEM_TOKEN_NONCE_BYTES)

/* characters that so many bytes need */
#define BASE64_LEN(bytes)	(((bytes) * 4 + 2) / 3)

StaticAssertDecl(BASE64_LEN(IDEM_TOKEN_KEY_BYTES) == IDEM_TOKEN_KEY_LEN &&
				 BASE64_LEN(NAME_BYTES) == IDEM_TOKEN_NAME_LEN &&
				 BASE64_LEN(IDEM_TOKEN_MAC_BYTES) ==
				 IDEM_TOKEN_LEN - IDEM_TOKEN_HEAD_LEN,
				 "lengths of the parts of a token");

static const char digits[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(char *out, const uint8 *bytes, int nbytes);
static bool decode(const char *in, int len, uint8 *bytes);
static int	digit_value(char c);


/* The number of a key as text, IDEM_TOKEN_KEY_LEN characters. */
void
idem_token_key_text(char *out, const uint8 *number)
{
	encode(out, number, IDEM_TOKEN_KEY_BYTES);
}

/* Writes the part of a token that is signed, IDEM_TOKEN_HEAD_LEN characters. */
void
idem_token_head(char *out, const char *key, TimestampTz expires,
				const uint8 *nonce)
{
	uint8		name[NAME_BYTES];
	uint64		be = pg_hton64((uint64) expires);

	memcpy(name, &be, sizeof(be));
	memcpy(name + sizeof(be), nonce, IDEM_TOKEN_NONCE_BYTES);

	out[0] = VERSION;
	memcpy(out + 1, key, IDEM_TOKEN_KEY_LEN);
	encode(out + 1 + IDEM_TOKEN_KEY_LEN, name, NAME_BYTES);
}

/* Adds the signature, which makes it IDEM_TOKEN_LEN characters. */
void
idem_token_seal(char *out, const uint8 *mac)
{
	encode(out + IDEM_TOKEN_HEAD_LEN, mac, IDEM_TOKEN_MAC_BYTES);
}

/* Takes a token apart.  False: no key of any installation can have made it. */
bool
idem_token_parse(const char *in, int len, IdemToken *token)
{
	const char *key = in + 1;
	const char *name = key + IDEM_TOKEN_KEY_LEN;
	uint8		number[IDEM_TOKEN_KEY_BYTES];
	uint8		bytes[NAME_BYTES];
	uint64		be;

	if (len != IDEM_TOKEN_LEN || in[0] != VERSION ||
		!decode(key, IDEM_TOKEN_KEY_LEN, number) ||
		!decode(name, IDEM_TOKEN_NAME_LEN, bytes) ||
		!decode(in + IDEM_TOKEN_HEAD_LEN,
				IDEM_TOKEN_LEN - IDEM_TOKEN_HEAD_LEN, token->mac))
		return false;

	memcpy(token->key, key, IDEM_TOKEN_KEY_LEN);
	memcpy(token->name, name, IDEM_TOKEN_NAME_LEN);
	memcpy(&be, bytes, sizeof(be));
	token->expires = (TimestampTz) pg_ntoh64(be);
	return true;
}


/* base64url without padding; writes no terminating zero. */
static void
encode(char *out, const uint8 *bytes, int nbytes)
{
	uint32		pending = 0;
	int			nbits = 0;

	for (int i = 0; i < nbytes; i++)
	{
		pending = (pending << 8 | bytes[i]) & 0xFFFF;
		nbits += 8;
		while (nbits >= 6)
		{
			nbits -= 6;
			*out++ = digits[pending >> nbits & 0x3F];
		}
	}
	if (nbits > 0)
		*out = digits[pending << (6 - nbits) & 0x3F];
}

/* The reverse; false if encode() would not have written this. */
static bool
decode(const char *in, int len, uint8 *bytes)
{
	uint32		pending = 0;
	int			nbits = 0;

	for (int i = 0; i < len; i++)
	{
		int			value = digit_value(in[i]);

		if (value < 0)
			return false;
		pending = (pending << 6 | value) & 0xFFFF;
		nbits += 6;
		if (nbits >= 8)
		{
			nbits -= 8;
			*bytes++ = (uint8) (pending >> nbits);
		}
	}
	return nbits < 6 && (pending & ((1 << nbits) - 1)) == 0;
}

/* What a character stands for; -1 for none. */
static int
digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	if (c == '_')
		return 63;
	return -1;
}
