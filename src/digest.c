/*-------------------------------------------------------------------------
 *
 * digest.c
 *	  What is kept of a request, and whether another one is the same.
 *
 * Two things are kept, of eight bytes each: the beginning of the request's
 * SHA-256, and a plain hash of its jsonb as it lies in memory.  A retry is
 * nearly always the same bytes, and their hash says so at a tenth of the cost:
 * setting OpenSSL up takes longer than all else that a duplicate does with its
 * request.  Only where the hash differs the SHA-256 decides, so equal values
 * are equal however they are written, and the hash may change with the server's
 * version or its byte order: it then only costs more.
 *
 * Keys are compared one with one, so sixty-four bits do not err by accident.  Whoever makes
 * up a request with the hash of another one is given the answer of that one,
 * which has the same key and owner, and which sending that request again would
 * give as well.
 *
 * The SHA-256 is of the value, and equal for equal jsonb values.
 * jsonb has sorted the keys of objects already.  A number is taken by its sign,
 * its significant digits and its exponent, so 1, 1.0 and 1e0 are one number, and
 * 1e131071 is as short as it is written.  Every piece is preceded by its kind,
 * and where it may have any length by that, so no two values read alike.
 *
 * The format is idem's own, for digests outlive the server's version.  It
 * depends on no number that a header of the server chooses, as those of tokens
 * and types.  numeric_send, from which digits are taken, is the wire format of
 * numbers: digits to the base 10000.
 *
 * The hash is fed while the value is walked, so that time is in proportion to
 * the request, and memory to its depth; a cancel is looked for at each piece.
 *
 * Portions Copyright (c) 2026, the idem authors
 *
 *-------------------------------------------------------------------------
 */
#include "claim.h"

#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* Bytes that are kept of the SHA-256, and of the hash. */
#define DIGEST_LEN		8
#define HASH_LEN		8
#define KEPT_LEN		(DIGEST_LEN + HASH_LEN)

/* Small pieces are gathered before they are hashed. */
#define GATHER_BYTES	1024

/* Large ones are hashed in parts, between which a cancel is looked for. */
#define PART_BYTES		(1024 * 1024)

/* The kinds of pieces. */
#define PIECE_OBJECT		'{'
#define PIECE_OBJECT_END	'}'
#define PIECE_ARRAY			'['
#define PIECE_ARRAY_END		']'
#define PIECE_KEY			'k'
#define PIECE_STRING		's'
#define PIECE_POSITIVE		'+'
#define PIECE_NEGATIVE		'-'
#define PIECE_TRUE			't'
#define PIECE_FALSE			'f'
#define PIECE_NULL			'n'

typedef struct Digest
{
	pg_cryptohash_ctx *sha256;
	int			gathered;
	uint8		buffer[GATHER_BYTES];
} Digest;

static uint64 hash_jsonb(const Jsonb *request);
static void digest_jsonb(Jsonb *request, uint8 *kept);
static void feed_scalar(Digest *digest, const JsonbValue *value);
static void feed_number(Digest *digest, Numeric number);
static void feed_text(Digest *digest, char kind, const JsonbValue *value);
static void feed_kind(Digest *digest, char kind);
static void feed(Digest *digest, const void *bytes, Size len);
static void hash(Digest *digest, const uint8 *bytes, Size len);
static void hash_failed(Digest *digest);


/* A request that is an argument; NULL if that is null. */
Jsonb *
idem_arg_request(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : PG_GETARG_JSONB_P(argno);
}

/* What is kept of a request, as a bytea. */
Datum
idem_digest(Jsonb *request)
{
	bytea	   *kept = palloc(VARHDRSZ + KEPT_LEN);
	uint64		same_bytes = hash_jsonb(request);

	SET_VARSIZE(kept, VARHDRSZ + KEPT_LEN);
	digest_jsonb(request, (uint8 *) VARDATA(kept));
	memcpy(VARDATA(kept) + DIGEST_LEN, &same_bytes, HASH_LEN);
	return PointerGetDatum(kept);
}

/* Is it the request of which this was kept? */
bool
idem_digest_is_of(Datum kept, Jsonb *request)
{
	bytea	   *bytes = DatumGetByteaPP(kept);
	uint64		same_bytes = hash_jsonb(request);
	uint8		digest[DIGEST_LEN];

	if (VARSIZE_ANY_EXHDR(bytes) != KEPT_LEN)
		return false;
	if (memcmp(VARDATA_ANY(bytes) + DIGEST_LEN, &same_bytes, HASH_LEN) == 0)
		return true;
	digest_jsonb(request, digest);
	return memcmp(VARDATA_ANY(bytes), digest, DIGEST_LEN) == 0;
}


/* The hash of a request's bytes. */
static uint64
hash_jsonb(const Jsonb *request)
{
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(request);
	Size		len = VARSIZE_ANY_EXHDR(request);
	uint64		result = 0;

	do
	{
		Size		part = Min(len, PART_BYTES);

		CHECK_FOR_INTERRUPTS();
		result = hash_bytes_extended(bytes, (int) part, result);
		bytes += part;
		len -= part;
	} while (len > 0);
	return result;
}

/* The beginning of the SHA-256 of a request's value. */
static void
digest_jsonb(Jsonb *request, uint8 *kept)
{
	JsonbIterator *it = JsonbIteratorInit(&request->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	Digest		digest;
	uint8		result[PG_SHA256_DIGEST_LENGTH];

	digest.gathered = 0;
	digest.sha256 = pg_cryptohash_create(PG_SHA256);
	if (pg_cryptohash_init(digest.sha256) < 0)
		hash_failed(&digest);

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		switch (token)
		{
			case WJB_KEY:
				feed_text(&digest, PIECE_KEY, &value);
				break;
			case WJB_VALUE:
			case WJB_ELEM:
				feed_scalar(&digest, &value);
				break;
			case WJB_BEGIN_OBJECT:
				feed_kind(&digest, PIECE_OBJECT);
				break;
			case WJB_END_OBJECT:
				feed_kind(&digest, PIECE_OBJECT_END);
				break;
			case WJB_BEGIN_ARRAY:
				/* what is no array at all is kept in one, too */
				if (!value.val.array.rawScalar)
					feed_kind(&digest, PIECE_ARRAY);
				break;
			default:
				if (!JB_ROOT_IS_SCALAR(request))
					feed_kind(&digest, PIECE_ARRAY_END);
				break;
		}
	}
	hash(&digest, digest.buffer, digest.gathered);
	if (pg_cryptohash_final(digest.sha256, result, sizeof(result)) < 0)
		hash_failed(&digest);
	pg_cryptohash_free(digest.sha256);

	memcpy(kept, result, DIGEST_LEN);
}

/* A value that holds no others. */
static void
feed_scalar(Digest *digest, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			feed_text(digest, PIECE_STRING, value);
			break;
		case jbvNumeric:
			feed_number(digest, value->val.numeric);
			break;
		case jbvBool:
			feed_kind(digest, value->val.boolean ? PIECE_TRUE : PIECE_FALSE);
			break;
		case jbvNull:
			feed_kind(digest, PIECE_NULL);
			break;
		default:
			elog(ERROR, "unexpected jsonb value of type %d", (int) value->type);
	}
}

/*
 * A number: sign, exponent of the first digit, number of digits, digits.  The
 * wire format is: number of digits, exponent, sign, digits behind the point as
 * they were written, and the digits, each as two bytes.
 */
static void
feed_number(Digest *digest, Numeric number)
{
	bytea	   *wire = DatumGetByteaPP(DirectFunctionCall1(numeric_send,
														   NumericGetDatum(number)));
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(wire);
	const uint8 *digits = bytes + 4 * sizeof(uint16);
	uint16		header[4];
	uint16		piece[2];
	uint16		ndigits;
	int16		exponent;

	memcpy(header, bytes, sizeof(header));
	ndigits = pg_ntoh16(header[0]);
	exponent = (int16) pg_ntoh16(header[1]);

	/* the server keeps no digits 0 at the ends; one number, one form */
	while (ndigits > 0 && digits[0] == 0 && digits[1] == 0)
	{
		digits += sizeof(uint16);
		ndigits--;
		exponent--;
	}
	while (ndigits > 0 && digits[2 * ndigits - 2] == 0 &&
		   digits[2 * ndigits - 1] == 0)
		ndigits--;
	if (ndigits == 0)
		exponent = 0;

	feed_kind(digest, header[2] == 0 || ndigits == 0 ?
			  PIECE_POSITIVE : PIECE_NEGATIVE);
	piece[0] = pg_hton16((uint16) exponent);
	piece[1] = pg_hton16(ndigits);
	feed(digest, piece, sizeof(piece));
	feed(digest, digits, ndigits * sizeof(uint16));
	pfree(wire);
}

/* A text: kind, length, bytes. */
static void
feed_text(Digest *digest, char kind, const JsonbValue *value)
{
	uint32		len = pg_hton32((uint32) value->val.string.len);

	feed_kind(digest, kind);
	feed(digest, &len, sizeof(len));
	feed(digest, value->val.string.val, value->val.string.len);
}

static void
feed_kind(Digest *digest, char kind)
{
	feed(digest, &kind, 1);
}

/* Adds bytes to what is hashed. */
static void
feed(Digest *digest, const void *bytes, Size len)
{
	if (digest->gathered + len > GATHER_BYTES)
	{
		hash(digest, digest->buffer, digest->gathered);
		digest->gathered = 0;
	}
	if (len > GATHER_BYTES)
		hash(digest, bytes, len);
	else
	{
		memcpy(digest->buffer + digest->gathered, bytes, len);
		digest->gathered += len;
	}
}

static void
hash(Digest *digest, const uint8 *bytes, Size len)
{
	while (len > 0)
	{
		Size		part = Min(len, PART_BYTES);

		CHECK_FOR_INTERRUPTS();
		if (pg_cryptohash_update(digest->sha256, bytes, part) < 0)
			hash_failed(digest);
		bytes += part;
		len -= part;
	}
}

static void
hash_failed(Digest *digest)
{
	elog(ERROR, "could not compute SHA-256: %s",
		 pg_cryptohash_error(digest->sha256));
}
