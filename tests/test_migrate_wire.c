/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_wire.c - messages of a migration: who may send what, where, and each field at its bounds and
 * beyond them. Their bytes are in test_migrate_golden.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/migrate_wire.h"
#include "random.h"
#include "support.h"

#define TOP UINT64_MAX
#define ALL GM_MIGRATE_FEATURES

/*
 * The table of the specification, written down once more: connections of the source, of the destination; what
 * it may not come on beside bulk connections; length from, to, in steps of; number from, to.
 */
static const struct known {
	uint16_t type;
	const char *name;
	const char *source;
	const char *destination;
	const char *alone;
	uint32_t len_min;
	uint32_t len_max;
	uint32_t step;
	uint64_t number_min;
	uint64_t number_max;
} known[] = {
	{1, "LAYOUT", "c", "", "", 32, 131072, 32, 1, 4096},
	{2, "PAGES", "bcu", "", "", 24, 4194328, 1, 0, 0},
	{2, "PAGES", "bc", "", "c", 24, 4194328, 1, 1, TOP},
	{3, "ROUND", "bc", "", "", 0, 0, 1, 1, TOP},
	{4, "DISCARD", "c", "", "", 16, 65536, 16, 0, 0},
	{5, "STATE", "c", "", "", 1, 1048576, 1, 0, INT64_MAX},
	{6, "SWITCH", "c", "", "", 8, 8, 1, 1, 2},
	{7, "RUN", "c", "", "", 0, 0, 1, 0, 0},
	{8, "RECLAIM", "c", "", "", 0, 0, 1, 0, 0},
	{9, "CANCEL", "c", "", "", 0, 0, 1, 0, 4095},
	{10, "DONE", "c", "", "", 0, 0, 1, 0, 0},
	{11, "RESUME", "c", "", "", 0, 0, 1, 1, 2},
	{12, "PING", "c", "c", "", 0, 0, 1, 0, TOP},
	{13, "PONG", "c", "c", "", 0, 0, 1, 0, TOP},
	{33, "ACCEPTED", "", "c", "", 0, 0, 1, 0, 0},
	{34, "REFUSED", "", "c", "", 0, 255, 1, 1, 4095},
	{35, "READY", "", "c", "", 0, 0, 1, 0, 0},
	{36, "RUNNING", "", "c", "", 0, 0, 1, 0, 0},
	{37, "RECLAIMED", "", "c", "", 0, 0, 1, 0, 0},
	{38, "DONE_ACK", "", "c", "", 0, 0, 1, 0, 0},
	{39, "RESUMED", "", "c", "", 0, 0, 1, 1, 4},
	{40, "HAVE", "", "c", "", 17, 65552, 1, 0, 0},
	{41, "REQUEST", "", "uc", "", 16, 16, 1, 0, TOP},
	{42, "DROPPED", "", "c", "", 16, 65536, 16, 0, 0},
	{43, "GIVEN_UP", "", "c", "", 0, 0, 1, 1, 4095},
};

#define NR_KNOWN (sizeof(known) / sizeof(known[0]))

static const char letters[] = {0, 'c', 'b', 'u'}; /* of roles */

static int head_as(
	const struct gm_migrate_head *head, bool from_source, enum gm_migrate_role role, bool sole)
{
	struct gm_migrate_head got;
	struct gm_migrate_head before;
	uint8_t *bytes = malloc(GM_MIGRATE_HEAD);
	const char *why = NULL;
	int rc;

	assert_non_null(bytes);
	memset(&got, 0xa5, sizeof(got));
	before = got;
	gm_migrate_put_head(head, bytes);
	rc = gm_migrate_get_head(bytes, from_source, role, sole, &got, &why);
	free(bytes);
	if (rc) {
		assert_int_equal(rc, -EPROTO);
		assert_non_null(why);
		assert_memory_equal(&got, &before, sizeof(got));
		return rc;
	}
	assert_int_equal(got.type, head->type);
	assert_int_equal(got.len, head->len);
	assert_true(got.number == head->number && got.sum == head->sum);
	return 0;
}

/* By the table. */
static bool may_come(
	const struct gm_migrate_head *head, bool from_source, enum gm_migrate_role role, bool sole)
{
	for (size_t i = 0; i < NR_KNOWN; i++) {
		const struct known *k = &known[i];

		if (k->type != head->type || head->number < k->number_min ||
			head->number > k->number_max)
			continue;
		return strchr(from_source ? k->source : k->destination, letters[role]) &&
		       (sole || !strchr(k->alone, letters[role])) && head->len >= k->len_min &&
		       head->len <= k->len_max && head->len % k->step == 0 &&
		       (k->type != 1 || head->len == 32 * head->number) &&
		       (k->type != 5 || head->len <= INT64_MAX - head->number);
	}
	return false;
}

/* In each direction, on each connection; the number of those that are accepted. */
static unsigned int try_everywhere(const struct gm_migrate_head *head)
{
	unsigned int accepted = 0;

	for (unsigned int way = 0; way < 2 * 3 * 2; way++) {
		bool from_source = way & 1;
		bool sole = way & 2;
		enum gm_migrate_role role = (enum gm_migrate_role)(1 + way / 4);
		bool may = may_come(head, from_source, role, sole);

		if ((head_as(head, from_source, role, sole) == 0) != may)
			fail_msg("type %u, %u bytes, number %llu by %s on %c%s: %s", head->type,
				head->len, (unsigned long long)head->number,
				from_source ? "source" : "destination", letters[role],
				sole ? " alone" : "", may ? "refused" : "accepted");
		accepted += may;
	}
	return accepted;
}

static struct gm_migrate_head fitting(const struct known *k)
{
	return (struct gm_migrate_head){.type = k->type,
		.len = k->len_min,
		.number = k->number_min,
		.sum = 0x0102030405060708};
}

static void types_come_where_the_specification_says(void **state)
{
	static const unsigned int ways[NR_KNOWN] = {
		2, 6, 3, 4, 2, 2, 2, 2, 2, 2, 2, 2, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 4, 2, 2};

	(void)state;
	for (size_t i = 0; i < NR_KNOWN; i++) {
		struct gm_migrate_head head = fitting(&known[i]);

		assert_string_equal(gm_migrate_name(known[i].type), known[i].name);
		assert_int_equal(try_everywhere(&head), ways[i]);
	}
	for (uint32_t type = 0; type <= UINT16_MAX; type++) {
		struct gm_migrate_head head = {.type = (uint16_t)type};
		bool is_known = (type >= 1 && type <= 13) || (type >= 33 && type <= 43);

		assert_int_equal(gm_migrate_name(type) != NULL, is_known);
		if (!is_known)
			assert_int_equal(try_everywhere(&head), 0);
	}
	assert_null(gm_migrate_name(0x10001));
}

static void lengths_and_numbers_have_bounds(void **state)
{
	(void)state;
	for (size_t i = 0; i < NR_KNOWN; i++) {
		const struct known *k = &known[i];
		const uint32_t lens[] = {0, 1, k->len_min - 1, k->len_min, k->len_min + 1,
			k->len_min + k->step, k->len_max - k->step, k->len_max - 1, k->len_max,
			k->len_max + 1, k->len_max + k->step, 1u << 31, UINT32_MAX};
		const uint64_t numbers[] = {0, 1, 2, k->number_min - 1, k->number_min,
			k->number_min + 1, k->number_max - 1, k->number_max, k->number_max + 1,
			1ull << 32, (1ull << 32) + 1, 1ull << 63, TOP};
		struct gm_migrate_head head = fitting(k);

		for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
			head.number = numbers[n];
			head.len = k->len_min;
			try_everywhere(&head);
			for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
				head.len = lens[l];
				try_everywhere(&head);
			}
		}
	}
}

static void a_layout_is_as_long_as_its_regions(void **state)
{
	struct gm_migrate_head head = {.type = GM_MIGRATE_LAYOUT};

	(void)state;
	for (uint32_t nr = 0; nr <= 4097; nr++) {
		head.number = nr;
		head.len = 32 * nr;
		assert_int_equal(try_everywhere(&head), nr && nr <= 4096 ? 2 : 0);
		head.len += 32;
		assert_int_equal(try_everywhere(&head), 0);
	}
}

static void the_state_ends_within_what_files_can_be(void **state)
{
	struct gm_migrate_head head = {.type = GM_MIGRATE_STATE, .len = 100};

	(void)state;
	head.number = (uint64_t)INT64_MAX - 100;
	assert_int_equal(head_as(&head, true, GM_MIGRATE_CONTROL, true), 0);
	head.number++;
	assert_int_equal(head_as(&head, true, GM_MIGRATE_CONTROL, true), -EPROTO);
}

static void reserved_bytes_of_a_head_are_zero(void **state)
{
	const struct gm_migrate_head head = {.type = GM_MIGRATE_RUN};
	uint8_t bytes[GM_MIGRATE_HEAD];
	struct gm_migrate_head got;
	const char *why;

	(void)state;
	for (unsigned int bit = 0; bit < 16; bit++) {
		gm_migrate_put_head(&head, bytes);
		bytes[2 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
		assert_int_equal(
			gm_migrate_get_head(bytes, true, GM_MIGRATE_CONTROL, true, &got, &why),
			-EPROTO);
	}
}

static int open_as(const struct gm_migrate_open *open, struct gm_migrate_open *ret)
{
	uint8_t *bytes = malloc(GM_MIGRATE_OPEN);
	const char *why = NULL;
	int rc;

	assert_non_null(bytes);
	gm_migrate_put_open(open, bytes);
	memset(ret, 0xa5, sizeof(*ret));
	rc = gm_migrate_get_open(bytes, ret, &why);
	assert_true(rc == 0 || (rc == -EPROTO && why && ret->epoch == 0xa5a5a5a5));
	free(bytes);
	return rc;
}

/* The field is @value in what @good else is; it must be accepted, or not. */
#define try_open(field, value, may)                                                                \
	do {                                                                                       \
		struct gm_migrate_open open_ = good;                                               \
		struct gm_migrate_open got_;                                                       \
		open_.field = (value);                                                             \
		assert_int_equal(open_as(&open_, &got_), (may) ? 0 : -EPROTO);                     \
		if (may)                                                                           \
			assert_memory_equal(&open_, &got_, sizeof(open_));                         \
	} while (0)

static void fields_of_an_opening_have_bounds(void **state)
{
	static const uint16_t most[] = {0, 1, 16, 4};
	struct gm_migrate_open good = {.lowest = 1,
		.highest = 1,
		.role = 1,
		.session = {[15] = 1},
		.epoch = 1,
		.features = ALL};

	(void)state;
	for (uint32_t i = 0; i <= UINT16_MAX; i += i < 300 ? 1 : 257) {
		try_open(highest, (uint16_t)i, i >= 1);
		good.role = 1;
		try_open(role, (uint16_t)i, i >= 1 && i <= 3);
		try_open(bulk, (uint16_t)i, i <= 16);
		try_open(urgent, (uint16_t)i, i <= 4);
		for (good.role = 1; good.role <= 3; good.role++)
			try_open(index, (uint16_t)i, i < most[good.role]);
		good.role = 1;
	}
	try_open(epoch, 0, false);
	try_open(epoch, UINT32_MAX, true);
	try_open(session[15], 0, false);
	try_open(session[0], 0x80, true);
	try_open(features, 0, true);
	try_open(lowest, 0, false);
	good.highest = UINT16_MAX;
	try_open(lowest, 1, true);
}

static void an_opening_of_another_version_is_only_its_versions(void **state)
{
	const struct gm_migrate_open later = {.lowest = 2,
		.highest = 3,
		.role = 77,
		.index = 99,
		.bulk = 1000,
		.urgent = 1000,
		.features = UINT32_MAX};
	const struct gm_migrate_open versions = {.lowest = 2, .highest = 3};
	struct gm_migrate_open both = {.lowest = 1,
		.highest = 2,
		.role = 1,
		.session = {1},
		.epoch = 1,
		.features = UINT32_MAX};
	struct gm_migrate_open got;

	(void)state;
	assert_int_equal(open_as(&later, &got), 0);
	assert_memory_equal(&got, &versions, sizeof(got));
	/* Later features are left out. */
	assert_int_equal(open_as(&both, &got), 0);
	both.features = ALL;
	assert_memory_equal(&got, &both, sizeof(got));
	both.lowest = 3;
	assert_int_equal(open_as(&both, &got), -EPROTO);
}

static void what_is_reserved_in_openings_is_not_looked_at(void **state)
{
	const struct gm_migrate_open open = {
		.lowest = 1, .highest = 1, .role = 2, .index = 15, .session = {9}, .epoch = 5};
	const struct gm_migrate_opened opened = {.version = 1, .pages_max = 1};
	struct gm_migrate_open got;
	struct gm_migrate_opened answered;
	uint8_t bytes[GM_MIGRATE_OPEN];
	const char *why;

	(void)state;
	gm_migrate_put_open(&open, bytes);
	memset(bytes + 44, 0xff, 20);
	assert_int_equal(gm_migrate_get_open(bytes, &got, &why), 0);
	assert_memory_equal(&got, &open, sizeof(got));
	gm_migrate_put_opened(&opened, bytes);
	memset(bytes + 24, 0xff, 8);
	assert_int_equal(gm_migrate_get_opened(bytes, &open, &answered, &why), 0);
	assert_memory_equal(&answered, &opened, sizeof(answered));
	for (size_t i = 0; i < 8; i++) {
		bytes[i] ^= 0x20;
		assert_int_equal(gm_migrate_get_open(bytes, &got, &why), -EPROTO);
		assert_int_equal(gm_migrate_get_opened(bytes, &open, &answered, &why), -EPROTO);
		bytes[i] ^= 0x20;
	}
}

static int opened_as(struct gm_migrate_opened opened, struct gm_migrate_opened *ret)
{
	const struct gm_migrate_open asked = {
		.lowest = 1, .highest = 1, .features = GM_MIGRATE_LZ4 | GM_MIGRATE_FDS};
	uint8_t *bytes = malloc(GM_MIGRATE_OPENED);
	const char *why = NULL;
	int rc;

	assert_non_null(bytes);
	gm_migrate_put_opened(&opened, bytes);
	memset(ret, 0xa5, sizeof(*ret));
	rc = gm_migrate_get_opened(bytes, &asked, ret, &why);
	assert_true(rc == 0 || (rc == -EPROTO && why && ret->version == 0xa5a5a5a5));
	free(bytes);
	return rc;
}

static void fields_of_an_answer_have_bounds(void **state)
{
	static const struct {
		struct gm_migrate_opened opened;
		bool may;
	} cases[] = {
		{{.version = 1, .pages_max = 1}, true},
		{{.version = 1, .pages_max = 1024}, true},
		{{.version = 1, .pages_max = 0}, false},
		{{.version = 1, .pages_max = 1025}, false},
		{{.version = 1, .pages_max = UINT32_MAX}, false},
		{{.version = 2, .pages_max = 1}, false},
		{{.version = 0x10001, .pages_max = 1}, false},
		{{.version = 1, .features = GM_MIGRATE_LZ4, .pages_max = 1}, true},
		{{.version = 1, .features = GM_MIGRATE_LZ4 | GM_MIGRATE_FDS, .pages_max = 1}, true},
		{{.version = 1, .features = GM_MIGRATE_ZSTD, .pages_max = 1}, false},
		{{.version = 1, .features = GM_MIGRATE_POSTCOPY, .pages_max = 1}, false},
		{{.version = 1, .features = 0x10, .pages_max = 1}, false},
		{{.version = 1, .features = 0x80000002, .pages_max = 1}, false},
		{{.version = 1, .error = 1}, true},
		{{.version = 1, .error = 4095}, true},
		{{.version = 1, .error = 4096, .pages_max = 1}, false},
		{{.version = 1, .error = UINT32_MAX, .pages_max = 1}, false},
		{{.version = 2, .error = EBUSY}, false},
		{{.version = 0}, true},
	};
	struct gm_migrate_opened got;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc = opened_as(cases[i].opened, &got);

		if (rc != (cases[i].may ? 0 : -EPROTO))
			fail_msg("answer %zu is %d", i, rc);
		if (!rc)
			assert_memory_equal(&got, &cases[i].opened, sizeof(got));
	}
}

static void what_does_not_count_in_an_answer_is_zero(void **state)
{
	const struct gm_migrate_opened none = {0};
	const struct gm_migrate_opened busy = {.version = 1, .error = EBUSY};
	struct gm_migrate_opened got;

	(void)state;
	assert_int_equal(opened_as((struct gm_migrate_opened){.error = UINT32_MAX,
					   .features = UINT32_MAX,
					   .pages_max = UINT32_MAX},
				 &got),
		0);
	assert_memory_equal(&got, &none, sizeof(got));
	assert_int_equal(opened_as((struct gm_migrate_opened){.version = 1,
					   .error = EBUSY,
					   .features = UINT32_MAX,
					   .pages_max = UINT32_MAX},
				 &got),
		0);
	assert_memory_equal(&got, &busy, sizeof(got));
}

static void the_length_of_the_state_has_a_bound(void **state)
{
	static const uint64_t lens[] = {0, 1, INT64_MAX, (uint64_t)INT64_MAX + 1, TOP};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		uint8_t *bytes = malloc(GM_MIGRATE_SWITCH_LEN);
		uint64_t got = 7;
		const char *why;

		assert_non_null(bytes);
		gm_migrate_put_switch(lens[i], bytes);
		assert_int_equal(gm_migrate_get_switch(bytes, &got, &why), i < 3 ? 0 : -EPROTO);
		assert_true(got == (i < 3 ? lens[i] : 7));
		free(bytes);
	}
}

static void texts_are_what_people_can_read(void **state)
{
	static const struct {
		const char *sent;
		const char *read;
	} cases[] = {
		{"", ""},
		{"region 3: 2 MiB, not 4 KiB", "region 3: 2 MiB, not 4 KiB"},
		{"\xc2\xa0\xc3\x9f\xe2\x89\xa0\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf",
			"\xc2\xa0\xc3\x9f\xe2\x89\xa0\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xed\x9f\xbf"},
		{"\x1b[2J\t\r\n\x7f", "?[2J????"},
		{"\xc2\x85\xc2\x9f", "????"},                /* control characters of ISO 6429 */
		{"\xc0\x80\xc1\xbf\xe0\x9f\xbf", "???????"}, /* longer than need be */
		{"\xf0\x8f\xbf\xbf", "????"},                /* likewise */
		{"\xed\xa0\x80\xed\xbf\xbf", "??????"},      /* surrogates */
		{"\xf4\x90\x80\x80\xf5\x80\x80\x80", "????????"}, /* above the last */
		{"\x80\xbf\xfe\xff", "????"},
		{"a\xc3", "a?"}, /* cut */
		{"a\xe2\x89", "a??"},
		{"a\xf0\x9f\x98", "a???"},
		{"\xe2\x89z\xf0\x9f\x98z", "??z???z"},
	};
	uint8_t bytes[GM_MIGRATE_TEXT_MAX];
	char text[GM_MIGRATE_TEXT_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t len = (uint32_t)strlen(cases[i].sent);
		uint8_t *sent = malloc(len ? len : 1);

		assert_non_null(sent);
		memcpy(sent, cases[i].sent, len);
		gm_migrate_get_text(sent, len, text);
		assert_string_equal(text, cases[i].read);
		free(sent);
		assert_int_equal(gm_migrate_put_text(cases[i].sent, bytes), len);
		assert_memory_equal(bytes, cases[i].read, len);
	}
	/* Zero bytes do not end it. */
	gm_migrate_get_text((const uint8_t *)"a\0b", 3, text);
	assert_string_equal(text, "a?b");
}

static void a_long_text_ends_with_a_whole_character(void **state)
{
	char text[400];
	uint8_t *bytes = malloc(GM_MIGRATE_TEXT_MAX);

	(void)state;
	assert_non_null(bytes);
	for (size_t at = 240; at < 260; at++) {
		uint32_t len;

		memset(text, 'x', 300);
		memcpy(text + at, "\xe2\x89\xa0", 3);
		text[300] = '\0';
		len = gm_migrate_put_text(text, bytes);
		assert_int_equal(len, at + 3 <= 255 || at >= 255 ? 255 : at);
		assert_memory_equal(bytes, text, len);
	}
	free(bytes);
}

static void random_heads_are_what_the_table_says(void **state)
{
	struct rng rng = {test_seed(97)};
	unsigned long accepted = 0;

	(void)state;
	for (unsigned long i = 0; i < support_scale(20000); i++) {
		const struct known *k = &known[rng_below(&rng, NR_KNOWN)];
		struct gm_migrate_head head = fitting(k);

		if (rng_below(&rng, 2))
			head.number = rng_edge(&rng);
		if (rng_below(&rng, 2))
			head.len = (uint32_t)rng_edge(&rng);
		head.sum = rng_next(&rng);
		accepted += try_everywhere(&head) != 0;
	}
	assert_true(accepted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(types_come_where_the_specification_says),
		cmocka_unit_test(lengths_and_numbers_have_bounds),
		cmocka_unit_test(a_layout_is_as_long_as_its_regions),
		cmocka_unit_test(the_state_ends_within_what_files_can_be),
		cmocka_unit_test(reserved_bytes_of_a_head_are_zero),
		cmocka_unit_test(fields_of_an_opening_have_bounds),
		cmocka_unit_test(an_opening_of_another_version_is_only_its_versions),
		cmocka_unit_test(what_is_reserved_in_openings_is_not_looked_at),
		cmocka_unit_test(fields_of_an_answer_have_bounds),
		cmocka_unit_test(what_does_not_count_in_an_answer_is_zero),
		cmocka_unit_test(the_length_of_the_state_has_a_bound),
		cmocka_unit_test(texts_are_what_people_can_read),
		cmocka_unit_test(a_long_text_ends_with_a_whole_character),
		cmocka_unit_test(random_heads_are_what_the_table_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
