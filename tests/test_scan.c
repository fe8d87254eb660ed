/* SPDX-License-Identifier: BSD-3-Clause */
/* test_scan.c - looking for bytes and strings, and chunks, on every provider and at holes. */
#include <errno.h>
#include <guestmem/scan.h>
#include <string.h>

#include "one_space.h"
#include "provider.h"
#include "random.h"

struct seen {
	uint8_t *bytes;
	size_t len;
	size_t stop_at;
};

static int keep(void *ctx, const void *data, size_t n)
{
	struct seen *seen = ctx;

	assert_true(n > 0 && n <= 1024);
	memcpy(seen->bytes + seen->len, data, n);
	seen->len += n;
	return seen->len >= seen->stop_at ? -ECANCELED : 0;
}

static void scans_of(struct provided *p, const uint8_t *model, struct rng *rng)
{
	static uint8_t bytes[PROVIDED];
	const struct gm_view *view = gm_reader_enter(p->reader);
	size_t off = (size_t)rng_below(rng, PROVIDED);
	size_t len = (size_t)rng_below(rng, PROVIDED - off + 1);
	size_t cap = (size_t)rng_below(rng, 2000) + 1;
	struct seen seen = {bytes, 0, SIZE_MAX};
	uint8_t byte = (uint8_t)rng_below(rng, 3);
	const uint8_t *at = memchr(model + off, byte, len);
	static char text[2001];
	size_t found = 77;
	size_t done = 77;
	int rc;

	assert_int_equal(gm_find_byte(view, p->base + off, byte, len, &found), at != NULL);
	assert_int_equal(found, at ? (size_t)(at - model) - off : 77);
	assert_int_equal(gm_for_each_chunk(view, p->base + off, len, keep, &seen, &done), 0);
	assert_int_equal(done, len);
	assert_int_equal(seen.len, len);
	assert_memory_equal(bytes, model + off, len);

	cap = cap > PROVIDED - off ? PROVIDED - off : cap;
	at = memchr(model + off, 0, cap);
	found = 77;
	text[cap] = 'x';
	rc = gm_read_string(view, p->base + off, text, cap, &found);
	assert_int_equal(text[cap], 'x');
	assert_int_equal(rc, at ? 0 : -EMSGSIZE);
	assert_int_equal(found, at ? (size_t)(at - model) - off : 77);
	if (at)
		assert_memory_equal(text, model + off, found + 1);
	else
		assert_int_equal(text[0], 0);
	gm_prefetch(view, p->base + off, len);
	gm_reader_leave(p->reader);
}

static void every_provider_is_scanned_alike(void **state)
{
	static uint8_t model[PROVIDED];
	struct rng rng = {test_seed(13)};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct provided p;

		provide(i, &p);
		/* 0, 1 and 2 are rare, so that scans cross chunks, pages and regions. */
		for (size_t j = 0; j < PROVIDED; j++)
			model[j] = (uint8_t)(rng_below(&rng, 700) ? 3 + rng_below(&rng, 253)
								  : rng_below(&rng, 3));
		p.set(&p, model);
		for (unsigned long n = 0; n < support_scale(60); n++)
			scans_of(&p, model, &rng);
		unprovide(&p);
	}
}

/* A page of 'a', a hole, and the last page of all, of 'z'. */
static const struct gm_view *start_pages(void)
{
	const struct gm_view *view;

	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	add(0, KIB(4));
	add(UINT64_MAX - KIB(4) + 1, KIB(4));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_fill(view, 0, 'a', KIB(4), NULL), 0);
	assert_int_equal(gm_fill(view, UINT64_MAX - KIB(4) + 1, 'z', KIB(4), NULL), 0);
	return view;
}

static void stop_pages(void)
{
	gm_reader_leave(reader);
	stop();
}

static void what_is_found_before_a_hole_is_found(void **state)
{
	const struct gm_view *view = start_pages();
	size_t off = 77;
	char text[64];

	(void)state;
	assert_int_equal(gm_find_byte(view, KIB(4) - 10, 'b', 11, &off), -EFAULT);
	assert_int_equal(gm_find_byte(view, KIB(4) - 10, 'b', 10, &off), 0);
	assert_int_equal(gm_find_byte(view, KIB(4) - 10, 'b', 0, &off), 0);
	assert_int_equal(gm_find_byte(view, KIB(4), 'b', 0, &off), -EFAULT);
	assert_int_equal(gm_find_byte(view, UINT64_MAX, 'a', 1, &off), 0);
	assert_int_equal(gm_find_byte(view, UINT64_MAX, 'z', 2, &off), -ERANGE);
	assert_int_equal(off, 77);
	assert_int_equal(gm_write_u8(view, KIB(4) - 1, 'b'), 0);
	assert_int_equal(gm_find_byte(view, KIB(4) - 10, 'b', 5000, &off), 1);
	assert_int_equal(off, 9);

	off = 77;
	assert_int_equal(gm_read_string(view, KIB(4) - 3, text, 4, &off), -EFAULT);
	assert_int_equal(text[0], 0);
	assert_int_equal(gm_read_string(view, KIB(4) - 3, text, 3, &off), -EMSGSIZE);
	assert_int_equal(gm_read_string(view, KIB(4), text, 3, &off), -EFAULT);
	assert_int_equal(gm_read_string(view, 0, text, 0, &off), -EINVAL);
	assert_int_equal(gm_read_string(view, UINT64_MAX - 1, text, 3, &off), -ERANGE);
	assert_int_equal(gm_read_string(view, UINT64_MAX - 1, text, 2, &off), -EMSGSIZE);
	assert_int_equal(off, 77);
	assert_int_equal(gm_write_u8(view, KIB(4) - 1, 0), 0);
	assert_int_equal(gm_write_u8(view, UINT64_MAX, 0), 0);
	assert_int_equal(gm_read_string(view, KIB(4) - 3, text, sizeof(text), &off), 0);
	assert_string_equal(text, "aa");
	assert_int_equal(off, 2);
	assert_int_equal(gm_read_string(view, UINT64_MAX - 3, text, sizeof(text), NULL), 0);
	assert_string_equal(text, "zzz");
	stop_pages();
}

static void chunks_end_where_they_are_told_or_memory_ends(void **state)
{
	static uint8_t bytes[KIB(8)];
	const struct gm_view *view = start_pages();
	struct seen seen = {bytes, 0, SIZE_MAX};
	size_t done = 77;

	(void)state;
	assert_int_equal(gm_for_each_chunk(view, 100, KIB(4), keep, &seen, &done), -EFAULT);
	assert_int_equal(done, KIB(4) - 100);
	assert_int_equal(seen.len, done);
	seen = (struct seen){bytes, 0, 2000};
	assert_int_equal(gm_for_each_chunk(view, 0, KIB(4), keep, &seen, &done), -ECANCELED);
	assert_true(done >= 2000 && done < 2000 + 1024);
	assert_int_equal(seen.len, done);
	seen = (struct seen){bytes, 0, 0};
	assert_int_equal(gm_for_each_chunk(view, 0, 0, keep, &seen, &done), 0);
	assert_int_equal(gm_for_each_chunk(view, KIB(4), 0, keep, &seen, &done), -EFAULT);
	assert_int_equal(gm_for_each_chunk(view, UINT64_MAX, 2, keep, &seen, &done), -ERANGE);
	assert_int_equal(seen.len, 0);
	assert_int_equal(done, 0);
	stop_pages();
}

/* A hint asks nobody: a device is not called and a hole is no fault. */
static uint64_t nr_calls;

static int count(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	(void)ctx;
	(void)off;
	(void)size;
	*ret_value = 0;
	nr_calls++;
	return 0;
}

static void a_hint_disturbs_nobody(void **state)
{
	const uint64_t addresses[] = {0, 100, KIB(4) - 1, KIB(4), MIB(1), UINT64_MAX};
	const struct gm_view *view;
	uint8_t byte;

	(void)state;
	start_pages();
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(1), .len = KIB(4), .kind = GM_REGION_MMIO,
			.device = GM_OPTS(gm_device_ops, .read = count)),
		NULL, &err));
	gm_reader_leave(reader);
	view = gm_reader_enter(reader);
	nr_calls = 0;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		gm_prefetch(view, addresses[i], 0);
		gm_prefetch(view, addresses[i], 1);
		gm_prefetch(view, addresses[i], KIB(64));
		gm_prefetch(view, addresses[i], SIZE_MAX);
	}
	assert_int_equal(nr_calls, 0);
	assert_int_equal(gm_read_u8(view, MIB(1), &byte), 0);
	assert_int_equal(nr_calls, 1);
	stop_pages();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_provider_is_scanned_alike),
		cmocka_unit_test(what_is_found_before_a_hole_is_found),
		cmocka_unit_test(chunks_end_where_they_are_told_or_memory_ends),
		cmocka_unit_test(a_hint_disturbs_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
