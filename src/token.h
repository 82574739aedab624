/*-------------------------------------------------------------------------
 *
 * token.h
 *	  What a token looks like, and the tables of tokens.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef IDEM_TOKEN_H
#define IDEM_TOKEN_H

#include "store.h"

/* tokentext.c: what a token looks like */
#define IDEM_TOKEN_KEY_BYTES	9
#define IDEM_TOKEN_NONCE_BYTES	16
#define IDEM_TOKEN_MAC_BYTES	32
#define IDEM_TOKEN_KEY_LEN		12
#define IDEM_TOKEN_NAME_LEN		32
#define IDEM_TOKEN_HEAD_LEN		(1 + IDEM_TOKEN_KEY_LEN + IDEM_TOKEN_NAME_LEN)
#define IDEM_TOKEN_LEN			(IDEM_TOKEN_HEAD_LEN + 43)

typedef struct IdemToken
{
	char		key[IDEM_TOKEN_KEY_LEN];	/* number of its key, as text */
	char		name[IDEM_TOKEN_NAME_LEN];	/* expiry and nonce, as text */
	TimestampTz expires;
	uint8		mac[IDEM_TOKEN_MAC_BYTES];
} IdemToken;

extern void idem_token_key_text(char *out, const uint8 *number);
extern void idem_token_head(char *out, const char *key, TimestampTz expires,
							const uint8 *nonce);
extern void idem_token_seal(char *out, const uint8 *mac);
extern bool idem_token_parse(const char *in, int len, IdemToken *token);

/* token.c: its tables, for the purge */
extern IdemTable idem_token_key_table;
extern IdemTable idem_token_spent_table;
extern IdemTable idem_token_rate_table;

#endif							/* IDEM_TOKEN_H */
