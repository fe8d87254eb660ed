/* SPDX-License-Identifier: BSD-3-Clause */
/* test_balloon.c - pages given and taken back, reports, hints, statistics: what they do to memory and to marks. */
#include "one_discard.h"

#include <guestmem/balloon_hint.h>
#include <guestmem/log.h>
#include <guestmem/part.h>

#include "random.h"

#define PFN(gpa) ((uint32_t)((gpa) / PAGE))

static struct gm_balloon *balloon;
static struct gm_balloon_result got;

static struct gm_balloon_result *fresh(void)
{
	got = (struct gm_balloon_result){.size = sizeof(got)};
	return &got;
}

static struct gm_balloon_info told(void)
{
	struct gm_balloon_info info = {.size = sizeof(info)};

	assert_int_equal(gm_balloon_info(balloon, &info), 0);
	return info;
}

static void start_balloon(int backing, const struct gm_balloon_opts *opts)
{
	start_backing(&backings[backing]);
	assert_ok(gm_balloon_create(space, opts, &balloon, &err));
	fill_bytes(AT, 1, LEN);
}

static void stop_balloon(void)
{
	gm_balloon_destroy(balloon);
	stop_backing();
}

static void what_is_given_is_freed_and_comes_back(void **state)
{
	static const int tried[] = {ANON, THP, MEMFD, ANON_SHARED, FILE_SHARED, FILE_PRIVATE};
	uint32_t pfns[512];

	(void)state;
	for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		uint64_t before;

		start_balloon(tried[i], NULL);
		before = taken();
		/* Out of order. */
		for (uint32_t k = 0; k < 512; k++)
			pfns[k] = PFN(AT + MIB(2)) + (k * 77) % 512;
		assert_ok(gm_balloon_inflate(balloon, pfns, 512, fresh(), &err));
		assert_int_equal(got.pages, 512);
		assert_int_equal(got.freed, MIB(2));
		assert_int_equal(got.duplicate + got.refused + got.kept, 0);
		assert_int_equal(before - taken(), MIB(2));
		assert_int_equal(told().pages, 512);
		assert_bytes(AT, 1, MIB(2));
		assert_bytes(AT + MIB(4), 1, MIB(4));
		assert_int_equal(gm_balloon_deflate(balloon, pfns, 512, fresh()), 0);
		assert_int_equal(got.pages, 512);
		assert_int_equal(told().pages, 0);
		fill_bytes(AT + MIB(2), 3, MIB(2));
		assert_bytes(AT + MIB(2), 3, MIB(2));
		stop_balloon();
	}
}

static void what_is_given_twice_counts_once(void **state)
{
	uint32_t pfns[] = {PFN(AT) + 1, PFN(AT), PFN(AT) + 1, PFN(AT) + 1};
	uint32_t again[] = {PFN(AT) + 1, PFN(AT) + 2};

	(void)state;
	start_balloon(ANON, NULL);
	assert_ok(gm_balloon_inflate(balloon, pfns, 4, fresh(), &err));
	assert_int_equal(got.pages, 2);
	assert_int_equal(got.duplicate, 2);
	assert_int_equal(got.freed, 2 * PAGE);
	/* It has come back without a word, which is the guest's right: it is not taken again. */
	fill_bytes(AT, 9, 2 * PAGE);
	assert_ok(gm_balloon_inflate(balloon, again, 2, fresh(), &err));
	assert_int_equal(got.pages, 1);
	assert_int_equal(got.duplicate, 1);
	assert_bytes(AT, 9, 2 * PAGE);
	assert_bytes(AT + 2 * PAGE, 0, PAGE);
	assert_int_equal(gm_balloon_has(balloon, PFN(AT)), 1);
	/* Taken back without having been given; twice. */
	pfns[0] = pfns[1] = PFN(AT) + 100;
	pfns[2] = pfns[3] = PFN(AT);
	assert_int_equal(gm_balloon_deflate(balloon, pfns, 4, fresh()), 0);
	assert_int_equal(got.pages, 1);
	assert_int_equal(got.duplicate, 3);
	assert_int_equal(told().pages, 2);
	assert_int_equal(gm_balloon_has(balloon, PFN(AT)), 0);
	gm_balloon_reset(balloon);
	assert_int_equal(told().pages, 0);
	assert_int_equal(gm_balloon_has(balloon, PFN(AT) + 1), 0);
	stop_balloon();
}

static void what_is_no_ram_is_refused(void **state)
{
	uint32_t pfns[] = {0, PFN(AT) - 1, PFN(AT), PFN(AT + LEN) - 1, PFN(AT + LEN), UINT32_MAX,
		PFN(MIB(64)), PFN(MIB(65)), PFN(MIB(66))};
	uint64_t id;

	(void)state;
	start_balloon(ANON, NULL);
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(64), .kind = GM_REGION_ROM, .backing = BLOCK(.len = MIB(1))), NULL,
		&err));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(65), .backing = BLOCK(.len = MIB(1)), .granule = MIB(1),
			.part = GM_PART_UNPLUGGED),
		&id, &err));
	assert_ok(gm_balloon_inflate(balloon, pfns, 9, fresh(), &err));
	assert_int_equal(got.pages, 2);
	assert_int_equal(got.refused, 7);
	assert_int_equal(got.freed, 2 * PAGE);
	assert_bytes(AT + PAGE, 1, LEN - 2 * PAGE);
	assert_int_equal(gm_balloon_has(balloon, UINT32_MAX), 0);
	/* A run that begins outside, and all there is. */
	for (uint32_t k = 0; k < 4; k++)
		pfns[k] = PFN(AT) - 2 + k;
	assert_ok(gm_balloon_inflate(balloon, pfns, 4, fresh(), &err));
	assert_int_equal(got.refused, 2);
	assert_int_equal(got.duplicate, 1);
	assert_int_equal(got.pages, 1);
	assert_ok(gm_balloon_inflate(balloon, NULL, 0, fresh(), &err));
	stop_balloon();
}

static void parts_of_huge_pages_wait_for_the_rest(void **state)
{
	uint32_t pfns[512];

	(void)state;
	start_balloon(THP, GM_OPTS(gm_balloon_opts, .flags = GM_BALLOON_MUST_TELL_HOST));
	for (uint32_t k = 0; k < 512; k++)
		pfns[k] = PFN(AT) + k;
	assert_ok(gm_balloon_inflate(balloon, pfns, 511, fresh(), &err));
	assert_int_equal(got.pages, 511);
	assert_int_equal(got.freed, 0);
	assert_int_equal(got.kept, 511 * PAGE);
	assert_bytes(AT, 1, MIB(2));
	/* One comes back: the rest is not freed by the last. */
	assert_int_equal(gm_balloon_deflate(balloon, pfns, 1, fresh()), 0);
	pfns[511] = PFN(AT) + 511;
	assert_ok(gm_balloon_inflate(balloon, pfns + 511, 1, fresh(), &err));
	assert_int_equal(got.freed, 0);
	assert_bytes(AT, 1, MIB(2));
	assert_ok(gm_balloon_inflate(balloon, pfns, 1, fresh(), &err));
	assert_int_equal(got.freed, MIB(2));
	assert_bytes(AT, 0, MIB(2));
	stop_balloon();
}

static void inhibited_pages_stay(void **state)
{
	uint32_t pfn = PFN(AT);

	(void)state;
	start_balloon(ANON, NULL);
	assert_ok(gm_discard_inhibit(space, 0, 0, GM_INHIBIT_ALL, &err));
	assert_ok(gm_balloon_inflate(balloon, &pfn, 1, fresh(), &err));
	assert_int_equal(got.kept, PAGE);
	assert_int_equal(got.freed, 0);
	assert_bytes(AT, 1, PAGE);
	assert_int_equal(gm_discard_allow(space, 0, 0, GM_INHIBIT_ALL), 0);
	stop_balloon();
}

static void reports_free_unless_pages_are_poisoned(void **state)
{
	struct gm_discard_range ranges[] = {
		{AT + MIB(4), MIB(2)}, {AT, MIB(2)}, {AT + LEN, MIB(1)}, {5, UINT64_MAX}};
	struct gm_discard_range same[4];

	(void)state;
	start_balloon(ANON, NULL);
	memcpy(same, ranges, sizeof(same));
	gm_balloon_set_poison(balloon, 0xaa, 1);
	assert_ok(gm_balloon_report(balloon, same, 2, fresh(), &err));
	assert_int_equal(got.kept, MIB(4));
	assert_int_equal(got.freed, 0);
	assert_bytes(AT, 1, LEN);
	/* Poison without the feature, and zero, are none. */
	gm_balloon_set_poison(balloon, 0xaa, 0);
	assert_ok(gm_balloon_report(balloon, ranges, 3, fresh(), &err));
	assert_int_equal(got.freed, MIB(4));
	assert_int_equal(got.pages, 1024);
	assert_int_equal(got.refused, 256);
	assert_bytes(AT, 0, MIB(2));
	assert_bytes(AT + MIB(2), 1, MIB(2));
	assert_bytes(AT + MIB(4), 0, MIB(2));
	gm_balloon_set_poison(balloon, 0, 1);
	ranges[0] = (struct gm_discard_range){AT + MIB(2), PAGE};
	assert_ok(gm_balloon_report(balloon, ranges, 1, fresh(), &err));
	assert_int_equal(got.freed, PAGE);
	assert_int_equal(told().pages, 0);
	stop_balloon();
}

static void hints_clear_marks_and_nothing_else(void **state)
{
	uint64_t words[32];
	struct gm_balloon_marks marks = {AT, PAGE, LEN / PAGE, words};
	uint64_t bytes;
	uint32_t id;
	uint32_t next;
	struct gm_log *log;
	uint64_t count;

	(void)state;
	start_balloon(ANON, NULL);
	assert_ok(gm_log_create(space,
		GM_OPTS(gm_log_opts, .first = AT, .len = LEN, .flags = GM_LOG_ALL), &log, &err));
	assert_int_equal(gm_balloon_hint(balloon, AT, PAGE, &bytes), -ESTALE);
	/* A round: taken, hints, and the guest writes to one that it has hinted at. */
	assert_int_equal(gm_log_take(log, 0, LEN / PAGE, words, &count), 0);
	assert_int_equal(count, LEN / PAGE);
	assert_int_equal(gm_balloon_hint_start(balloon, &marks, &id), 0);
	assert_int_equal(gm_balloon_hint_start(balloon, &marks, &next), -EBUSY);
	assert_int_equal(gm_balloon_hint(balloon, AT, PAGE, &bytes), -ESTALE);
	assert_int_equal(gm_balloon_hint_command(balloon, id + 1), 0);
	assert_int_equal(gm_balloon_hint_command(balloon, id), 1);
	fill_bytes(AT + MIB(1), 7, PAGE);
	assert_int_equal(gm_balloon_hint(balloon, AT + MIB(1), MIB(1), &bytes), 0);
	assert_int_equal(bytes, MIB(1));
	assert_int_equal(gm_balloon_hint(balloon, AT + MIB(1), MIB(1), &bytes), 0);
	assert_int_equal(bytes, 0);
	/* Whole pages only; what lies beside is cut. */
	assert_int_equal(gm_balloon_hint(balloon, AT + 1, 2 * PAGE, &bytes), 0);
	assert_int_equal(bytes, PAGE);
	assert_int_equal(gm_balloon_hint(balloon, AT + LEN - PAGE, GIB(1), &bytes), 0);
	assert_int_equal(bytes, PAGE);
	assert_int_equal(gm_balloon_hint(balloon, 0, AT, &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(gm_balloon_hint(balloon, 1, UINT64_MAX, &bytes), 0);
	assert_int_equal(gm_balloon_hint(balloon, 2, UINT64_MAX, &bytes), -ERANGE);
	assert_int_equal(gm_balloon_hint_end(balloon, 0), GM_BALLOON_CMD_STOP);
	assert_int_equal(gm_balloon_hint(balloon, AT, PAGE, &bytes), -ESTALE);
	for (int i = 0; i < 32; i++)
		assert_int_equal(words[i], 0);
	/* Nothing was freed, and what was written after the hint is sent in the next round. */
	assert_bytes(AT, 1, MIB(1));
	assert_bytes(AT + MIB(1), 7, PAGE);
	assert_int_equal(gm_log_count(log, AT + MIB(1), PAGE), 1);
	assert_int_equal(gm_log_take(log, 0, LEN / PAGE, words, &count), 0);
	assert_int_equal(count, 1);
	/* Another round has another id; poison makes hints void. */
	assert_int_equal(gm_balloon_hint_start(balloon, &marks, &next), 0);
	assert_int_not_equal(next, id);
	assert_int_equal(gm_balloon_hint_command(balloon, id), 0);
	assert_int_equal(gm_balloon_hint_command(balloon, next), 1);
	gm_balloon_set_poison(balloon, 1, 1);
	assert_int_equal(gm_balloon_hint(balloon, AT, LEN, &bytes), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(gm_balloon_hint_end(balloon, 1), GM_BALLOON_CMD_DONE);
	marks.page_size = 3;
	assert_int_equal(gm_balloon_hint_start(balloon, &marks, &next), -EINVAL);
	marks.page_size = PAGE;
	marks.nr = UINT64_MAX;
	assert_int_equal(gm_balloon_hint_start(balloon, &marks, &next), -EINVAL);
	assert_ok(gm_log_destroy(log, &err));
	stop_balloon();
}

static void put_stat(uint8_t *at, uint16_t tag, uint64_t value)
{
	at[0] = (uint8_t)tag;
	at[1] = (uint8_t)(tag >> 8);
	for (int i = 0; i < 8; i++)
		at[2 + i] = (uint8_t)(value >> 8 * i);
}

static void statistics_are_what_the_guest_says(void **state)
{
	struct gm_balloon_stats s = {.size = sizeof(s)};
	uint8_t bytes[10 * 80];

	(void)state;
	start_balloon(ANON, NULL);
	for (uint16_t tag = 0; tag < 16; tag++)
		put_stat(bytes + 10 * tag, tag, UINT64_C(0x0102030405060708) * (tag + 1u));
	gm_balloon_update_stats(balloon, bytes, 160);
	assert_int_equal(gm_balloon_stats(balloon, &s), 0);
	assert_int_equal(s.valid, 0xffff);
	for (uint16_t tag = 0; tag < 16; tag++)
		assert_int_equal(s.values[tag], UINT64_C(0x0102030405060708) * (tag + 1u));
	/* Cut, unknown, too many. */
	put_stat(bytes, 99, 1);
	put_stat(bytes + 10, GM_BALLOON_MEMFREE, 7);
	gm_balloon_update_stats(balloon, bytes, 29);
	assert_int_equal(gm_balloon_stats(balloon, &s), 0);
	assert_int_equal(s.valid, 1u << GM_BALLOON_MEMFREE);
	assert_int_equal(s.unknown, 1);
	assert_int_equal(s.values[GM_BALLOON_MEMFREE], 7);
	assert_int_equal(s.updates, 2);
	memset(bytes, 0xff, sizeof(bytes));
	gm_balloon_update_stats(balloon, bytes, sizeof(bytes));
	assert_int_equal(gm_balloon_stats(balloon, &s), 0);
	assert_int_equal(s.unknown, 64);
	gm_balloon_update_stats(balloon, bytes, 0);
	gm_balloon_set_target(balloon, 77);
	gm_balloon_set_actual(balloon, UINT32_MAX);
	assert_int_equal(told().target, 77);
	assert_int_equal(told().actual, UINT32_MAX);
	s.size = 8;
	assert_int_equal(gm_balloon_stats(balloon, &s), -EINVAL);
	stop_balloon();
}

/* Random lists against a bit for each page. */
static void random_lists_agree_with_a_set(void **state)
{
	static uint8_t in[LEN / PAGE];
	static uint8_t bytes[LEN / PAGE];
	struct rng rng = {test_seed(3)};
	unsigned long rounds = support_scale(300);

	(void)state;
	start_balloon(MEMFD, NULL);
	memset(in, 0, sizeof(in));
	memset(bytes, 1, sizeof(bytes));
	for (unsigned long r = 0; r < rounds; r++) {
		uint32_t pfns[64];
		size_t nr = rng_below(&rng, 65);
		bool take = rng_below(&rng, 3) == 0;
		uint64_t changed = 0;

		for (size_t i = 0; i < nr; i++)
			pfns[i] = PFN(AT) - 20 + (uint32_t)rng_below(&rng, LEN / PAGE + 40);
		for (size_t i = 0; i < nr; i++) {
			uint32_t page = pfns[i] - PFN(AT);

			if (page >= LEN / PAGE || in[page] != take)
				continue;
			in[page] = !take;
			changed++;
			if (!take)
				bytes[page] = 0;
		}
		if (take)
			assert_int_equal(gm_balloon_deflate(balloon, pfns, nr, fresh()), 0);
		else
			assert_ok(gm_balloon_inflate(balloon, pfns, nr, fresh(), &err));
		assert_int_equal(got.pages, changed);
		assert_int_equal(got.pages + got.duplicate + got.refused, nr);
	}
	for (uint32_t i = 0; i < LEN / PAGE; i++) {
		assert_int_equal(gm_balloon_has(balloon, PFN(AT) + i), in[i]);
		assert_bytes(AT + i * PAGE, bytes[i], PAGE);
	}
	stop_balloon();
}

static void arguments(void **state)
{
	uint32_t pfn = 0;

	(void)state;
	start_backing(&backings[ANON]);
	assert_fails(gm_balloon_create(space, GM_OPTS(gm_balloon_opts, .flags = 2), &balloon, &err),
		EINVAL, "flags");
	assert_fails(gm_balloon_create(space, GM_OPTS(gm_balloon_opts, .unit = 2), &balloon, &err),
		EINVAL, "MUST_TELL_HOST");
	assert_ok(gm_balloon_create(space, NULL, &balloon, &err));
	fresh()->size = 3;
	assert_fails(gm_balloon_inflate(balloon, &pfn, 1, &got, &err), EINVAL, "size");
	assert_int_equal(gm_balloon_deflate(balloon, &pfn, 1, &got), -EINVAL);
	gm_balloon_destroy(NULL);
	stop_balloon();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_given_is_freed_and_comes_back),
		cmocka_unit_test(what_is_given_twice_counts_once),
		cmocka_unit_test(what_is_no_ram_is_refused),
		cmocka_unit_test(parts_of_huge_pages_wait_for_the_rest),
		cmocka_unit_test(inhibited_pages_stay),
		cmocka_unit_test(reports_free_unless_pages_are_poisoned),
		cmocka_unit_test(hints_clear_marks_and_nothing_else),
		cmocka_unit_test(statistics_are_what_the_guest_says),
		cmocka_unit_test(random_lists_agree_with_a_set),
		cmocka_unit_test(arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
