/* SPDX-License-Identifier: BSD-3-Clause */
/* run_state.c - see run_state.h: any bytes are judged, and none is read that was not given. */
#include "run_state.h"

#include <stdbool.h>
#include <string.h>

#include "state_bytes.h"

static bool key_is_good(const char *key, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!((key[i] >= 'a' && key[i] <= 'z') || (key[i] >= '0' && key[i] <= '9') ||
			    key[i] == '-'))
			return false;
	}
	return len && len < RUN_STATE_KEY_LEN;
}

size_t run_state_len(const struct gm_snapshot_label *parts, size_t nr)
{
	size_t len = RUN_STATE_HEADER_LEN;

	if (nr == 0 || nr > RUN_STATE_PARTS_MAX)
		return 0;
	for (size_t i = 0; i < nr; i++) {
		if (!key_is_good(parts[i].key, strlen(parts[i].key)) ||
			parts[i].len > RUN_STATE_VALUE_MAX)
			return 0;
		len += RUN_STATE_PART_LEN + padded(parts[i].len);
	}
	return len <= RUN_STATE_LEN_MAX ? len : 0;
}

void run_state_encode(const struct gm_snapshot_label *parts, size_t nr, uint8_t *buf)
{
	size_t len = run_state_len(parts, nr);
	uint8_t *at = buf + RUN_STATE_HEADER_LEN;

	memset(buf, 0, len);
	for (size_t i = 0; i < nr; i++) {
		memcpy(at, parts[i].key, strlen(parts[i].key));
		store_le(at + RUN_STATE_KEY_LEN, 8, parts[i].len);
		memcpy(at + RUN_STATE_PART_LEN, parts[i].value, parts[i].len);
		at += RUN_STATE_PART_LEN + padded(parts[i].len);
	}
	store_le(buf, 8, RUN_STATE_MAGIC);
	store_le(buf + 8, 4, RUN_STATE_VERSION);
	store_le(buf + 12, 4, nr);
	store_le(buf + 16, 8, len);
	store_le(buf + 24, 8, checksum(buf + RUN_STATE_HEADER_LEN, len - RUN_STATE_HEADER_LEN));
}

static const char *judge_header(const uint8_t *buf, size_t len)
{
	if (len < RUN_STATE_HEADER_LEN)
		return "it is shorter than its header";
	if (load_le(buf, 8) != RUN_STATE_MAGIC)
		return "it is no guest of guestmem run";
	if (load_le(buf + 8, 4) != RUN_STATE_VERSION)
		return "it is of another version";
	if (load_le(buf + 12, 4) == 0 || load_le(buf + 12, 4) > RUN_STATE_PARTS_MAX)
		return "the number of its parts cannot be";
	if (load_le(buf + 16, 8) != len || len > RUN_STATE_LEN_MAX)
		return "it has another length than it says";
	if (load_le(buf + 24, 8) !=
		checksum(buf + RUN_STATE_HEADER_LEN, len - RUN_STATE_HEADER_LEN))
		return "its checksum is wrong";
	return NULL;
}

static bool all_zero(const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (at[i])
			return false;
	}
	return true;
}

/* One part, of @left bytes at most; *ret_len: how many it takes up. */
static const char *judge_part(
	const uint8_t *at, size_t left, struct gm_snapshot_label *ret, size_t *ret_len)
{
	uint64_t len;
	size_t key;

	if (left < RUN_STATE_PART_LEN)
		return "a part is cut";
	key = strnlen((const char *)at, RUN_STATE_KEY_LEN);
	len = load_le(at + RUN_STATE_KEY_LEN, 8);
	if (!key_is_good((const char *)at, key) || !all_zero(at + key, RUN_STATE_KEY_LEN - key))
		return "the name of a part cannot be";
	if (len > RUN_STATE_VALUE_MAX || padded((size_t)len) > left - RUN_STATE_PART_LEN)
		return "a part is longer than it may be";
	*ret = (struct gm_snapshot_label){(const char *)at, at + RUN_STATE_PART_LEN, (size_t)len};
	*ret_len = RUN_STATE_PART_LEN + padded(ret->len);
	if (!all_zero(at + RUN_STATE_PART_LEN + ret->len, *ret_len - RUN_STATE_PART_LEN - ret->len))
		return "what lies between its parts is not zero";
	return NULL;
}

static bool is_there(const struct gm_snapshot_label *parts, size_t nr, const char *key)
{
	for (size_t i = 0; i < nr; i++) {
		if (strcmp(parts[i].key, key) == 0)
			return true;
	}
	return false;
}

const char *run_state_decode(
	const uint8_t *buf, size_t len, struct gm_snapshot_label *ret, size_t *ret_nr)
{
	const char *why = judge_header(buf, len);
	size_t at = RUN_STATE_HEADER_LEN;
	size_t nr = 0;

	if (why)
		return why;
	for (size_t all = (size_t)load_le(buf + 12, 4); nr < all; nr++) {
		size_t taken;

		why = judge_part(buf + at, len - at, &ret[nr], &taken);
		if (why)
			return why;
		if (is_there(ret, nr, ret[nr].key))
			return "a part is there twice";
		at += taken;
	}
	if (at != len)
		return "something lies behind its last part";
	*ret_nr = nr;
	return NULL;
}
