/* SPDX-License-Identifier: BSD-3-Clause */
/* test_object.c - structures and arrays: whole elements, on every provider and at every edge. */
#include "one_log.h"

#include <errno.h>
#include <guestmem/object.h>

#include "provider.h"
#include "random.h"
#include "short_file.h"

struct entry {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
GM_PLAIN_DATA(struct entry, addr, len, flags, next);

struct odd {
	uint8_t bytes[3];
	uint8_t more[4];
};
GM_PLAIN_DATA(struct odd, bytes, more);

static void every_provider_has_the_same_objects(void **state)
{
	static uint8_t model[PROVIDED];
	static uint8_t bytes[PROVIDED];
	struct rng rng = {test_seed(12)};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct provided p;

		provide(i, &p);
		memset(model, 0, sizeof(model));
		p.set(&p, model);
		for (unsigned long n = 0; n < support_scale(100); n++) {
			const struct gm_view *view = gm_reader_enter(p.reader);
			size_t nr = (size_t)rng_below(&rng, 600);
			size_t off = (size_t)rng_below(&rng, PROVIDED - 600 * sizeof(struct odd));
			struct odd in[600];
			struct odd out[600];
			struct entry entry = {rng_next(&rng), 1, 2, 3};
			struct entry again;
			size_t done = 77;

			memset(in, (int)n, sizeof(in));
			in[0].more[1] = 55;
			assert_int_equal(gm_write_objects(view, p.base + off, in, nr, &done), 0);
			assert_int_equal(done, nr);
			memcpy(model + off, in, nr * sizeof(*in));
			assert_int_equal(gm_read_objects(view, p.base + off, out, nr, &done), 0);
			assert_int_equal(done, nr);
			assert_memory_equal(in, out, nr * sizeof(*in));
			assert_int_equal(gm_write_object(view, p.base + off, &entry), 0);
			memcpy(model + off, &entry, sizeof(entry));
			assert_int_equal(gm_read_object(view, p.base + off, &again), 0);
			assert_memory_equal(&entry, &again, sizeof(entry));
			gm_reader_leave(p.reader);
		}
		p.get(&p, bytes);
		if (memcmp(bytes, model, PROVIDED) != 0)
			fail_msg("%s: other bytes", p.name);
		unprovide(&p);
	}
}

/* RAM [0, 4K) and [4K, 8K), ROM [8K, 12K), a hole. */
static const struct {
	uint64_t gpa;
	size_t size;
	size_t nr;
	int rc_read;
	size_t read;
	int rc_write;
	size_t written;
} edges[] = {
	{0, 7, 0, 0, 0, 0, 0},
	{KIB(12), 7, 0, -EFAULT, 0, -EFAULT, 0},
	{KIB(8), 7, 0, 0, 0, -EACCES, 0},
	{0, 0, 1, -EINVAL, 0, -EINVAL, 0},
	{0, 0, 0, -EINVAL, 0, -EINVAL, 0},
	{0, SIZE_MAX / 2, 3, -ERANGE, 0, -ERANGE, 0},
	{0, 16, SIZE_MAX / 16 + 1, -ERANGE, 0, -ERANGE, 0},
	{UINT64_MAX - 14, 16, 1, -ERANGE, 0, -ERANGE, 0},
	{UINT64_MAX - 15, 16, 1, -EFAULT, 0, -EFAULT, 0},
	{KIB(4) - 3, 7, 3, 0, 3, 0, 3},
	{KIB(8) - 7, 7, 2, 0, 2, -EACCES, 1},
	{KIB(8) - 13, 7, 2, 0, 2, -EACCES, 1},
	{KIB(8) - 3, 7, 1, 0, 1, -EACCES, 0},
	{KIB(12) - 14, 7, 2, 0, 2, -EACCES, 0},
	{KIB(12) - 13, 7, 2, -EFAULT, 1, -EACCES, 0},
	{KIB(12) - 6, 7, 1, -EFAULT, 0, -EACCES, 0},
	{KIB(12), 7, 1, -EFAULT, 0, -EFAULT, 0},
};

static void an_element_is_whole_or_untouched(void **state)
{
	static uint8_t before[KIB(12)];
	static uint8_t after[KIB(12)];
	const struct gm_view *view;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, KIB(4));
	add(KIB(4), KIB(4));
	assert_ok(gm_space_add(space,
		DESC(.gpa = KIB(8), .kind = GM_REGION_ROM, .backing = BLOCK(.len = KIB(4))), NULL,
		&err));
	view = gm_reader_enter(reader);
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		uint8_t in[32];
		uint8_t out[32];
		size_t done = 77;

		memset(in, (int)i + 1, sizeof(in));
		memset(out, 0xee, sizeof(out));
		assert_int_equal(gm_read(view, 0, before, KIB(12), NULL), 0);
		assert_int_equal(
			gm_read_array(view, edges[i].gpa, out, edges[i].size, edges[i].nr, &done),
			edges[i].rc_read);
		assert_int_equal(done, edges[i].read);
		for (size_t j = done * edges[i].size; j < sizeof(out); j++)
			assert_int_equal(out[j], 0xee);
		done = 77;
		assert_int_equal(
			gm_write_array(view, edges[i].gpa, in, edges[i].size, edges[i].nr, &done),
			edges[i].rc_write);
		assert_int_equal(done, edges[i].written);
		assert_int_equal(gm_read(view, 0, after, KIB(12), NULL), 0);
		if (done)
			memcpy(before + edges[i].gpa, in, done * edges[i].size);
		assert_memory_equal(before, after, KIB(12));
	}
	gm_reader_leave(reader);
	stop();
}

static void what_is_written_is_marked(void **state)
{
	struct entry entries[3] = {{.addr = 1}};
	const struct gm_view *view;
	size_t done;

	(void)state;
	start_log();
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write_object(view, 3 * PAGE, entries), 0);
	gm_reader_leave(reader);
	assert_taken(log_, 3, 1);
	/* The element that is left out lies in no page that was written. */
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write_objects(view, LEN - 32, entries, 3, &done), -EFAULT);
	assert_int_equal(done, 2);
	assert_int_equal(gm_write_object(view, LEN - 15, entries), -EFAULT);
	assert_int_equal(gm_read_objects(view, 0, entries, 3, &done), 0);
	gm_reader_leave(reader);
	assert_taken(log_, LEN / PAGE - 1, 1);
	stop_log();
}

/* A page is gone from the middle of the second element on. */
static void elements_before_a_fault_are_counted(void **state)
{
	struct entry in[3] = {{.addr = 1}, {.addr = 2}, {.addr = 3}};
	struct entry out[3] = {{.addr = 7}, {.addr = 7}, {.addr = 7}};
	const struct gm_view *view;
	size_t done = 77;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add_short(0, 2 * PAGE);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write_objects(view, PAGE - 24, in, 3, &done), 0);
	assert_int_equal(done, 3);
	cut_short(PAGE);
	assert_int_equal(gm_read_objects(view, PAGE - 24, out, 3, &done), -EIO);
	assert_int_equal(done, 1);
	assert_memory_equal(out, in, sizeof(*in));
	in[0].addr = 9;
	assert_int_equal(gm_write_objects(view, PAGE - 24, in, 3, &done), -EIO);
	assert_int_equal(done, 1);
	assert_int_equal(gm_read_object(view, PAGE - 24, out), 0);
	assert_int_equal(out[0].addr, 9);
	assert_int_equal(gm_read_object(view, PAGE, out), -EIO);
	assert_int_equal(gm_write_object(view, PAGE, in), -EIO);
	gm_reader_leave(reader);
	stop();
	end_short();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_provider_has_the_same_objects),
		cmocka_unit_test(an_element_is_whole_or_untouched),
		cmocka_unit_test(what_is_written_is_marked),
		cmocka_unit_test(elements_before_a_fault_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
