/* SPDX-License-Identifier: BSD-3-Clause */
/* peer_wire.c - see peer_wire.h. */
#include "core/peer_wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/bytes.h"
#include "core/range.h"

static const uint8_t magic[8] = {'G', 'M', 'P', 'A', 'G', 'E', 'S', '\n'};

static int no(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

void gm_peer_put_hello(const struct gm_peer_hello *hello, uint8_t *bytes)
{
	memset(bytes, 0, GM_PEER_HELLO);
	memcpy(bytes, magic, sizeof(magic));
	gm_put_le(bytes + 8, 2, hello->lowest);
	gm_put_le(bytes + 10, 2, hello->highest);
	gm_put_le(bytes + 12, 4, hello->codecs);
}

/* A later version may use what is reserved, and more codecs. */
int gm_peer_get_hello(const uint8_t *bytes, struct gm_peer_hello *ret, const char **ret_why)
{
	if (memcmp(bytes, magic, sizeof(magic)) != 0)
		return no(ret_why, "it does not speak this protocol");
	ret->lowest = (uint32_t)gm_get_le(bytes + 8, 2);
	ret->highest = (uint32_t)gm_get_le(bytes + 10, 2);
	ret->codecs = gm_get_le32(bytes + 12);
	if (ret->lowest == 0 || ret->lowest > ret->highest)
		return no(ret_why, "it speaks no version");
	return 0;
}

void gm_peer_put_welcome(const struct gm_peer_welcome *welcome, uint8_t *bytes)
{
	memset(bytes, 0, GM_PEER_WELCOME);
	memcpy(bytes, magic, sizeof(magic));
	gm_put_le(bytes + 8, 4, welcome->version);
	gm_put_le(bytes + 12, 4, welcome->max);
	gm_put_le(bytes + 16, 8, welcome->len);
	memcpy(bytes + 24, welcome->identity, 16);
}

int gm_peer_get_welcome(const uint8_t *bytes, struct gm_peer_welcome *ret, const char **ret_why)
{
	if (memcmp(bytes, magic, sizeof(magic)) != 0)
		return no(ret_why, "it does not speak this protocol");
	ret->version = gm_get_le32(bytes + 8);
	ret->max = gm_get_le32(bytes + 12);
	ret->len = gm_get_le(bytes + 16, 8);
	memcpy(ret->identity, bytes + 24, 16);
	if (ret->version == 0)
		return 0;
	if (ret->version != GM_PEER_VERSION || !gm_bytes_are_zero(bytes + 40, 8))
		return no(ret_why, "it chose a version that was not offered");
	if (!gm_is_pow2(ret->max) || ret->max < 4096 || ret->max > GM_PEER_LEN_MAX)
		return no(ret_why, "its requests have no length that can be");
	if (ret->len > INT64_MAX)
		return no(ret_why, "it has more memory than can be");
	return 0;
}

void gm_peer_put_request(const struct gm_peer_request *request, uint8_t *bytes)
{
	memset(bytes, 0, GM_PEER_REQUEST);
	gm_put_le(bytes, 4, request->number);
	gm_put_le(bytes + 4, 4, request->len);
	gm_put_le(bytes + 8, 8, request->off);
}

int gm_peer_get_request(const uint8_t *bytes, struct gm_peer_request *ret, const char **ret_why)
{
	ret->number = gm_get_le32(bytes);
	ret->len = gm_get_le32(bytes + 4);
	ret->off = gm_get_le(bytes + 8, 8);
	if (!gm_bytes_are_zero(bytes + 16, 8))
		return no(ret_why, "reserved bytes of a request are not 0");
	if (ret->len == 0 || ret->len > GM_PEER_LEN_MAX)
		return no(ret_why, "a request has no length that can be");
	return 0;
}

void gm_peer_put_answer(const struct gm_peer_answer *answer, uint8_t *bytes)
{
	memset(bytes, 0, GM_PEER_ANSWER);
	gm_put_le(bytes, 4, answer->number);
	gm_put_le(bytes + 4, 4, answer->kind);
	gm_put_le(bytes + 8, 4, answer->len);
	gm_put_le(bytes + 12, 4, answer->stored);
	gm_put_le(bytes + 16, 8, answer->sum);
	gm_put_le(bytes + 24, 4, answer->error);
}

static bool is_whole(const struct gm_peer_answer *answer)
{
	bool none = answer->stored == 0 && answer->sum == 0;

	switch (answer->kind) {
	case GM_PEER_BY_NONE:
		return answer->stored == answer->len && !answer->error;
	case GM_PEER_BY_ZSTD:
	case GM_PEER_BY_LZ4:
		return answer->stored && answer->stored < answer->len && !answer->error;
	case GM_PEER_ZERO:
		return none && !answer->error;
	case GM_PEER_ERROR:
		return none && answer->error && answer->error < 4096;
	default:
		return false;
	}
}

int gm_peer_get_answer(const uint8_t *bytes, struct gm_peer_answer *ret, const char **ret_why)
{
	ret->number = gm_get_le32(bytes);
	ret->kind = gm_get_le32(bytes + 4);
	ret->len = gm_get_le32(bytes + 8);
	ret->stored = gm_get_le32(bytes + 12);
	ret->sum = gm_get_le(bytes + 16, 8);
	ret->error = gm_get_le32(bytes + 24);
	if (gm_get_le32(bytes + 28))
		return no(ret_why, "reserved bytes of an answer are not 0");
	if (ret->len == 0 || ret->len > GM_PEER_LEN_MAX)
		return no(ret_why, "an answer has no length that can be");
	return is_whole(ret) ? 0
			     : no(ret_why, "an answer is of no kind, or not as its kind has to be");
}
