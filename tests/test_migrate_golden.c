/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_golden.c - the bytes of each message of a migration, written down once, so that the format does
 * not change unnoticed; and what becomes of them when a bit is another.
 *
 * A decoder gets bytes on the heap at their exact length: the address sanitizer sees a look behind them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/migrate_wire.h"
#include "support.h"

#define MESSAGE_MAX 256
#define SUM UINT64_C(0x8877665544332211)
#define SESSION                                                                                    \
	{                                                                                          \
		0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac,      \
			0xad, 0xae, 0xaf                                                           \
	}

static const char open_hex[] = "474d4d4947520d0a0100020002000300a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
			       "0700000004000200050000000000000000000000000000000000000000000000";
static const char opened_hex[] = "474d4d4947520d0a010000000000000005000000000100000000000000000000";
static const char busy_hex[] = "474d4d4947520d0a010000001000000000000000000000000000000000000000";

static const struct gm_migrate_open opening = {.lowest = 1,
	.highest = 2,
	.role = GM_MIGRATE_BULK,
	.index = 3,
	.session = SESSION,
	.epoch = 7,
	.bulk = 4,
	.urgent = 2,
	.features = GM_MIGRATE_ZSTD | GM_MIGRATE_POSTCOPY};
static const struct gm_migrate_opened answer = {
	.version = 1, .features = GM_MIGRATE_ZSTD | GM_MIGRATE_POSTCOPY, .pages_max = 256};
static const struct gm_migrate_opened busy = {.version = 1, .error = EBUSY};

static const struct gm_migrate_region regions[] = {
	{.gpa = 0, .len = 0xa0000, .page_log2 = 12},
	{.gpa = GIB(4), .len = GIB(1), .fd_off = GIB(0x102), .page_log2 = 30, .by_fd = true},
};

static const struct golden {
	uint16_t type;
	bool from_source;
	enum gm_migrate_role role;
	uint64_t number;
	const char *hex;
} messages[] = {
	{GM_MIGRATE_LAYOUT, true, GM_MIGRATE_CONTROL, 2,
		"0100000040000000020000000000000011223344556677880000000000000000"
		"00000a00000000000c0000000000000000000000000000000000000001000000"
		"00000040000000001e000000010000000000008040000000"},
	{GM_MIGRATE_PAGES, true, GM_MIGRATE_BULK, 0x102030405060708,
		"020000001c000000080706050403020111223344556677880100000002000000"
		"030201000000000002000000040000007a737464"},
	{GM_MIGRATE_ROUND, true, GM_MIGRATE_BULK, 3,
		"030000000000000003000000000000001122334455667788"},
	{GM_MIGRATE_DISCARD, true, GM_MIGRATE_CONTROL, 0,
		"04000000200000000000000000000000112233445566778800000000a0000000"
		"00000000000000000100000001000000ffff030000000000"},
	{GM_MIGRATE_STATE, true, GM_MIGRATE_CONTROL, 0x100000,
		"0500000005000000000010000000000011223344556677887374617465"},
	{GM_MIGRATE_SWITCH, true, GM_MIGRATE_CONTROL, 2,
		"0600000008000000020000000000000011223344556677880500100000000000"},
	{GM_MIGRATE_RUN, true, GM_MIGRATE_CONTROL, 0,
		"070000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_RECLAIM, true, GM_MIGRATE_CONTROL, 0,
		"080000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_CANCEL, true, GM_MIGRATE_CONTROL, 0x7d,
		"09000000000000007d000000000000001122334455667788"},
	{GM_MIGRATE_DONE, true, GM_MIGRATE_CONTROL, 0,
		"0a0000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_RESUME, true, GM_MIGRATE_CONTROL, 1,
		"0b0000000000000001000000000000001122334455667788"},
	{GM_MIGRATE_PING, true, GM_MIGRATE_CONTROL, 0x807060504030201,
		"0c0000000000000001020304050607081122334455667788"},
	{GM_MIGRATE_PONG, false, GM_MIGRATE_CONTROL, 0x807060504030201,
		"0d0000000000000001020304050607081122334455667788"},
	{GM_MIGRATE_ACCEPTED, false, GM_MIGRATE_CONTROL, 0,
		"210000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_REFUSED, false, GM_MIGRATE_CONTROL, 0x16,
		"220000000f0000001600000000000000112233445566778832204d694220e289"
		"a02034204b6942"},
	{GM_MIGRATE_READY, false, GM_MIGRATE_CONTROL, 0,
		"230000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_RUNNING, false, GM_MIGRATE_CONTROL, 0,
		"240000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_RECLAIMED, false, GM_MIGRATE_CONTROL, 0,
		"250000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_DONE_ACK, false, GM_MIGRATE_CONTROL, 0,
		"260000000000000000000000000000001122334455667788"},
	{GM_MIGRATE_RESUMED, false, GM_MIGRATE_CONTROL, 3,
		"270000000000000003000000000000001122334455667788"},
	{GM_MIGRATE_HAVE, false, GM_MIGRATE_CONTROL, 0,
		"280000001200000000000000000000001122334455667788010000000d000000"
		"0000020000000000811f"},
	{GM_MIGRATE_REQUEST, false, GM_MIGRATE_URGENT, 0x102,
		"2900000010000000020100000000000011223344556677880100000001000000"
		"4523010000000000"},
	{GM_MIGRATE_DROPPED, false, GM_MIGRATE_CONTROL, 0,
		"2a00000010000000000000000000000011223344556677880000000001000000"
		"9f00000000000000"},
	{GM_MIGRATE_GIVEN_UP, false, GM_MIGRATE_CONTROL, 0x6e,
		"2b000000000000006e000000000000001122334455667788"},
};

#define NR_MESSAGES (sizeof(messages) / sizeof(messages[0]))

static size_t from_hex(const char *hex, uint8_t *bytes)
{
	size_t len = strlen(hex) / 2;

	assert_true(len <= MESSAGE_MAX);
	for (size_t i = 0; i < len; i++) {
		unsigned int byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		bytes[i] = (uint8_t)byte;
	}
	return len;
}

static uint8_t *exact(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

static uint32_t put_places(const struct gm_migrate_place *places, uint32_t nr, uint8_t *bytes)
{
	for (uint32_t i = 0; i < nr; i++)
		gm_migrate_put_place(&places[i], bytes + (size_t)i * GM_MIGRATE_PLACE);
	return nr * GM_MIGRATE_PLACE;
}

static uint32_t put_pages(uint8_t *bytes)
{
	const struct gm_migrate_pages pages = {.place = {.region = 1, .nr = 2, .first = 0x10203},
		.kind = GM_MIGRATE_BY_ZSTD,
		.stored = 4};

	gm_migrate_put_pages(&pages, bytes);
	memcpy(bytes + GM_MIGRATE_PAGES_HEAD, "zstd", 4);
	return GM_MIGRATE_PAGES_HEAD + 4;
}

/* What follows the head of the golden message. */
static uint32_t put_body(uint16_t type, uint8_t *bytes)
{
	static const struct gm_migrate_place discarded[] = {
		{.region = 0, .nr = 0xa0}, {.region = 1, .nr = 1, .first = 0x3ffff}};
	static const struct gm_migrate_place had = {.region = 1, .nr = 13, .first = 0x20000};
	static const struct gm_migrate_place asked = {.region = 1, .nr = 1, .first = 0x12345};
	static const struct gm_migrate_place dropped = {.region = 0, .nr = 1, .first = 0x9f};

	switch (type) {
	case GM_MIGRATE_LAYOUT:
		gm_migrate_put_region(&regions[0], bytes);
		gm_migrate_put_region(&regions[1], bytes + GM_MIGRATE_REGION);
		return 2 * GM_MIGRATE_REGION;
	case GM_MIGRATE_PAGES:
		return put_pages(bytes);
	case GM_MIGRATE_DISCARD:
		return put_places(discarded, 2, bytes);
	case GM_MIGRATE_STATE:
		memcpy(bytes, "state", 5);
		return 5;
	case GM_MIGRATE_SWITCH:
		gm_migrate_put_switch(0x100005, bytes);
		return GM_MIGRATE_SWITCH_LEN;
	case GM_MIGRATE_REFUSED:
		return gm_migrate_put_text("2 MiB \u2260 4 KiB", bytes);
	case GM_MIGRATE_HAVE:
		memcpy(bytes + put_places(&had, 1, bytes), "\x81\x1f", 2);
		return GM_MIGRATE_PLACE + 2;
	case GM_MIGRATE_REQUEST:
		return put_places(&asked, 1, bytes);
	case GM_MIGRATE_DROPPED:
		return put_places(&dropped, 1, bytes);
	default:
		return 0;
	}
}

static void each_message_has_the_bytes_that_it_had(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_MESSAGES; i++) {
		const struct golden *golden = &messages[i];
		uint8_t bytes[MESSAGE_MAX];
		uint8_t known[MESSAGE_MAX];
		size_t len = from_hex(golden->hex, known);
		struct gm_migrate_head head = {
			.type = golden->type, .number = golden->number, .sum = SUM};

		/* Not one of them is left as it was. */
		memset(bytes, 0xee, sizeof(bytes));
		head.len = put_body(golden->type, bytes + GM_MIGRATE_HEAD);
		gm_migrate_put_head(&head, bytes);
		assert_int_equal(GM_MIGRATE_HEAD + head.len, len);
		assert_memory_equal(bytes, known, len);
		assert_int_equal(bytes[len], 0xee);
	}
}

static void there_are_golden_bytes_of_each_type(void **state)
{
	(void)state;
	for (uint32_t type = 0; type <= UINT16_MAX; type++) {
		size_t found = 0;

		for (size_t i = 0; i < NR_MESSAGES; i++)
			found += messages[i].type == type;
		assert_int_equal(found, gm_migrate_name(type) ? 1 : 0);
	}
}

static void openings_have_the_bytes_that_they_had(void **state)
{
	const struct {
		const char *hex;
		const struct gm_migrate_opened *opened;
	} answers[] = {{opened_hex, &answer}, {busy_hex, &busy}};
	uint8_t known[MESSAGE_MAX];
	uint8_t bytes[GM_MIGRATE_OPEN];
	struct gm_migrate_open open;
	const char *why;

	(void)state;
	assert_int_equal(from_hex(open_hex, known), GM_MIGRATE_OPEN);
	memset(bytes, 0xee, sizeof(bytes));
	gm_migrate_put_open(&opening, bytes);
	assert_memory_equal(bytes, known, GM_MIGRATE_OPEN);
	assert_int_equal(gm_migrate_get_open(known, &open, &why), 0);
	assert_memory_equal(&open, &opening, sizeof(open));
	for (size_t i = 0; i < 2; i++) {
		struct gm_migrate_opened opened;

		assert_int_equal(from_hex(answers[i].hex, known), GM_MIGRATE_OPENED);
		memset(bytes, 0xee, sizeof(bytes));
		gm_migrate_put_opened(answers[i].opened, bytes);
		assert_memory_equal(bytes, known, GM_MIGRATE_OPENED);
		assert_int_equal(bytes[GM_MIGRATE_OPENED], 0xee);
		assert_int_equal(gm_migrate_get_opened(known, &opening, &opened, &why), 0);
		assert_memory_equal(&opened, answers[i].opened, sizeof(opened));
	}
}

static bool has_place(const uint8_t *bytes)
{
	uint8_t again[GM_MIGRATE_PLACE];
	struct gm_migrate_place place;
	const char *why;

	if (gm_migrate_get_place(bytes, regions, 2, &place, &why))
		return false;
	assert_true(place.region < 2 && place.nr && place.nr <= regions[place.region].len / 4096);
	assert_true(place.first <= regions[place.region].len / 4096 - place.nr);
	gm_migrate_put_place(&place, again);
	assert_memory_equal(again, bytes, sizeof(again));
	return true;
}

static bool has_regions(const uint8_t *bytes, uint32_t nr)
{
	struct gm_migrate_region *got = malloc(nr * sizeof(*got));
	const char *why;
	bool ok;

	assert_non_null(got);
	ok = !gm_migrate_get_layout(bytes, nr, GM_MIGRATE_FEATURES, got, &why);
	for (uint32_t i = 0; ok && i < nr; i++) {
		uint8_t again[GM_MIGRATE_REGION];

		assert_in_range(got[i].page_log2, 12, 30);
		assert_true(got[i].len && got[i].len - 1 <= UINT64_MAX - got[i].gpa);
		assert_true(i == 0 || got[i].gpa - got[i - 1].gpa >= got[i - 1].len);
		assert_true(got[i].by_fd ? got[i].fd_off <= (uint64_t)INT64_MAX - got[i].len
					 : got[i].fd_off == 0);
		gm_migrate_put_region(&got[i], again);
		assert_memory_equal(again, bytes + (size_t)i * sizeof(again), sizeof(again));
	}
	free(got);
	return ok;
}

static bool has_pages(const uint8_t *bytes, uint32_t len)
{
	uint8_t again[GM_MIGRATE_PAGES_HEAD];
	struct gm_migrate_pages pages;
	const char *why;

	if (gm_migrate_get_pages(bytes, len, regions, 2, 1024, GM_MIGRATE_FEATURES, &pages, &why))
		return false;
	assert_true(has_place(bytes));
	assert_int_equal(pages.stored, len - sizeof(again));
	assert_true(pages.stored <= pages.place.nr * 4096);
	assert_in_range(pages.kind, GM_MIGRATE_RAW, GM_MIGRATE_LOST);
	gm_migrate_put_pages(&pages, again);
	assert_memory_equal(again, bytes, sizeof(again));
	return true;
}

static bool has_bits(const uint8_t *bytes, uint32_t len)
{
	struct gm_migrate_place place;
	const char *why;

	if (!has_place(bytes) || gm_migrate_get_place(bytes, regions, 2, &place, &why))
		return false;
	if (gm_migrate_check_bits(&place, bytes + GM_MIGRATE_PLACE, len - GM_MIGRATE_PLACE, &why))
		return false;
	assert_int_equal((place.nr + 7) / 8, len - GM_MIGRATE_PLACE);
	return true;
}

static bool has_text(const uint8_t *bytes, uint32_t len)
{
	char text[GM_MIGRATE_TEXT_MAX + 1];

	gm_migrate_get_text(bytes, len, text);
	assert_int_equal(strlen(text), len);
	for (uint32_t i = 0; i < len; i++)
		assert_true((uint8_t)text[i] >= 0x20 && text[i] != 0x7f);
	return true;
}

static bool has_switch(const uint8_t *bytes)
{
	uint64_t len;
	const char *why;

	if (gm_migrate_get_switch(bytes, &len, &why))
		return false;
	assert_true(len <= INT64_MAX);
	return true;
}

static bool body_is_taken(const struct gm_migrate_head *head, const uint8_t *bytes)
{
	switch (head->type) {
	case GM_MIGRATE_LAYOUT:
		return has_regions(bytes, (uint32_t)head->number);
	case GM_MIGRATE_PAGES:
		return has_pages(bytes, head->len);
	case GM_MIGRATE_DISCARD:
	case GM_MIGRATE_DROPPED:
	case GM_MIGRATE_REQUEST:
		for (uint32_t at = 0; at < head->len; at += GM_MIGRATE_PLACE) {
			if (!has_place(bytes + at))
				return false;
		}
		return true;
	case GM_MIGRATE_SWITCH:
		return has_switch(bytes);
	case GM_MIGRATE_HAVE:
		return has_bits(bytes, head->len);
	case GM_MIGRATE_REFUSED:
		return has_text(bytes, head->len);
	default:
		return true;
	}
}

enum fate { REFUSED, TAKEN, WAITS };

/* As a receiver has it who was sent so many bytes, and goes by the head. */
static enum fate fate_of(const struct golden *golden, const uint8_t *bytes, size_t len)
{
	uint8_t *copy = exact(bytes, GM_MIGRATE_HEAD);
	uint8_t again[GM_MIGRATE_HEAD];
	struct gm_migrate_head head;
	const char *why = NULL;
	bool ok = !gm_migrate_get_head(copy, golden->from_source, golden->role, false, &head, &why);

	free(copy);
	if (!ok) {
		assert_non_null(why);
		return REFUSED;
	}
	assert_true(head.len <= GM_MIGRATE_LEN_MAX);
	gm_migrate_put_head(&head, again);
	assert_memory_equal(again, bytes, sizeof(again));
	if (head.len > len - GM_MIGRATE_HEAD)
		return WAITS;
	copy = exact(bytes + GM_MIGRATE_HEAD, head.len);
	ok = body_is_taken(&head, copy);
	free(copy);
	return ok ? TAKEN : REFUSED;
}

/* The sum would tell those that are taken. */
static void a_message_with_a_flipped_bit_is_refused_or_within_bounds(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_MESSAGES; i++) {
		unsigned int fates[3] = {0};
		uint8_t bytes[MESSAGE_MAX];
		size_t len = from_hex(messages[i].hex, bytes);

		assert_int_equal(fate_of(&messages[i], bytes, len), TAKEN);
		for (size_t bit = 0; bit < 8 * len; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
			fates[fate_of(&messages[i], bytes, len)]++;
			bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		}
		assert_int_equal(fates[REFUSED] + fates[TAKEN] + fates[WAITS], 8 * len);
		/* Type, reserved bytes and length by most bits; the sum's 64 are for others to look at. */
		assert_true(fates[REFUSED] >= 30 && fates[TAKEN] >= 64);
	}
}

static void an_opening_with_a_flipped_bit_is_refused_or_within_bounds(void **state)
{
	uint8_t bytes[MESSAGE_MAX];
	unsigned int taken = 0;

	(void)state;
	from_hex(open_hex, bytes);
	for (size_t bit = 0; bit < 8 * GM_MIGRATE_OPEN; bit++) {
		struct gm_migrate_open open;
		const char *why;
		uint8_t *copy;

		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		copy = exact(bytes, GM_MIGRATE_OPEN);
		if (!gm_migrate_get_open(copy, &open, &why)) {
			assert_true(bit >= 64 && open.lowest && open.lowest <= open.highest);
			assert_true(open.role <= 3 && open.index < 16);
			assert_true(open.bulk <= 16 && open.urgent <= 4);
			assert_true(open.features <= GM_MIGRATE_FEATURES);
			taken++;
		}
		free(copy);
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	/* At least those of the session and what is not looked at. */
	assert_in_range(taken, 8 * (16 + 20), 8 * (GM_MIGRATE_OPEN - 8) - 1);
}

static void an_answer_with_a_flipped_bit_is_refused_or_within_bounds(void **state)
{
	uint8_t bytes[MESSAGE_MAX];
	unsigned int taken = 0;

	(void)state;
	from_hex(opened_hex, bytes);
	for (size_t bit = 0; bit < 8 * GM_MIGRATE_OPENED; bit++) {
		struct gm_migrate_opened opened;
		const char *why;
		uint8_t *copy;

		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		copy = exact(bytes, GM_MIGRATE_OPENED);
		if (!gm_migrate_get_opened(copy, &opening, &opened, &why)) {
			assert_true(bit >= 64 && opened.version <= 2 && opened.error < 4096);
			assert_true(opened.pages_max <= 1024);
			assert_int_equal(opened.features & ~opening.features, 0);
			taken++;
		}
		free(copy);
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
	}
	assert_in_range(taken, 64, 8 * (GM_MIGRATE_OPENED - 8) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_message_has_the_bytes_that_it_had),
		cmocka_unit_test(there_are_golden_bytes_of_each_type),
		cmocka_unit_test(openings_have_the_bytes_that_they_had),
		cmocka_unit_test(a_message_with_a_flipped_bit_is_refused_or_within_bounds),
		cmocka_unit_test(an_opening_with_a_flipped_bit_is_refused_or_within_bounds),
		cmocka_unit_test(an_answer_with_a_flipped_bit_is_refused_or_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
