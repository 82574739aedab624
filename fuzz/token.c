/*-------------------------------------------------------------------------
 *
 * token.c
 *	  Fuzzes the text of tokens (src/tokentext.c) with libFuzzer.
 *
 *		clang -w -g -O1 -fsanitize=fuzzer,address,undefined \
 *			-I"$(pg_config --includedir-server)" fuzz/token.c src/tokentext.c \
 *			-o /tmp/fuzz_token
 *		/tmp/fuzz_token -max_len=200 -max_total_time=600
 *
 * Every input is taken as a token.  What is accepted must be, byte for byte,
 * what would be written for it: so no two texts are the same token.  Every
 * input is also taken as the bytes of a token, which must survive.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "../src/idem.h"

#include <stdlib.h>

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void parse(const char *text, int len);
static void compose(const uint8 *data);
static void check(bool ok);


int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	/* the right length and version, where the input does not get there */
	char		text[IDEM_TOKEN_LEN];

	parse((const char *) data, (int) size);
	if (size >= sizeof(text))
	{
		memcpy(text, data, sizeof(text));
		text[0] = '1';
		parse(text, sizeof(text));
	}
	if (size >= IDEM_TOKEN_KEY_BYTES + sizeof(TimestampTz) +
		IDEM_TOKEN_NONCE_BYTES + IDEM_TOKEN_MAC_BYTES)
		compose(data);
	return 0;
}

/* A text is no token, or the only one that says what it says. */
static void
parse(const char *text, int len)
{
	/* on the heap, with nothing behind it, so that reading on is seen */
	char	   *copy = malloc(len > 0 ? len : 1);
	IdemToken	token;

	memcpy(copy, text, len);
	if (idem_token_parse(copy, len, &token))
	{
		char		again[IDEM_TOKEN_LEN];

		check(len == IDEM_TOKEN_LEN);
		again[0] = '1';
		memcpy(again + 1, token.key, IDEM_TOKEN_KEY_LEN);
		memcpy(again + 1 + IDEM_TOKEN_KEY_LEN, token.name, IDEM_TOKEN_NAME_LEN);
		idem_token_seal(again, token.mac);
		check(memcmp(again, copy, IDEM_TOKEN_LEN) == 0);
	}
	free(copy);
}

/* Any number, expiry, nonce and signature make a token that says the same. */
static void
compose(const uint8 *data)
{
	char	   *text = malloc(IDEM_TOKEN_LEN);
	char		key[IDEM_TOKEN_KEY_LEN];
	TimestampTz expires;
	IdemToken	token;

	idem_token_key_text(key, data);
	data += IDEM_TOKEN_KEY_BYTES;
	memcpy(&expires, data, sizeof(expires));
	data += sizeof(expires);
	idem_token_head(text, key, expires, data);
	data += IDEM_TOKEN_NONCE_BYTES;
	idem_token_seal(text, data);

	check(idem_token_parse(text, IDEM_TOKEN_LEN, &token));
	check(memcmp(token.key, key, IDEM_TOKEN_KEY_LEN) == 0);
	check(token.expires == expires);
	check(memcmp(token.mac, data, IDEM_TOKEN_MAC_BYTES) == 0);
	free(text);
}

static void
check(bool ok)
{
	if (!ok)
		abort();
}
