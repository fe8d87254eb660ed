/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_run_machine.c - the machine of "guestmem run": its page tables, walked as a processor does; and a guest
 * that is stopped at any moment and goes on in another virtual machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../tool/machine.h"
#include "../tool/machine_tables.h"
#include "../tool/run_blob.h"
#include "random.h"
#include "support.h"

/* ---- page tables ---- */

#define TABLES_GPA GIB(200)
#define TABLES_LEN MIB(64)

static struct gm_space *space;
static struct gm_reader *reader;

static int make_space(void **state)
{
	struct gm_block_opts backing = {
		.size = sizeof(backing), .len = TABLES_LEN, .reserve = GM_RESERVE_NONE, .fd = -1};
	struct gm_region_desc desc = {.size = sizeof(desc), .gpa = TABLES_GPA, .backing = &backing};
	struct gm_error err;

	(void)state;
	assert_ok(gm_space_build(
		GM_OPTS(gm_space_opts, .gpa_limit = GIB(256)), &desc, 1, &space, &err));
	assert_ok(gm_reader_create(space, "test", &reader, &err));
	return 0;
}

static int destroy_space(void **state)
{
	(void)state;
	gm_reader_destroy(reader);
	gm_space_destroy(space);
	return 0;
}

/* As a processor does it. False: not mapped. */
static bool walk(const struct machine_tables *t, uint64_t addr, uint64_t *ret, uint32_t *ret_log2)
{
	uint64_t table = t->root;

	for (uint32_t level = 4; level > 0; level--) {
		uint32_t log2 = 12 + 9 * (level - 1);
		uint64_t entry;

		assert_int_equal(
			gm_read_le64(t->view, table + (addr >> log2 & 511) * 8, &entry), 0);
		if (!(entry & 1))
			return false;
		/* Writable, and for ring 3, on every level. */
		assert_int_equal(entry & 7, 7);
		if (level == 1 || (level < 4 && entry & 0x80)) {
			uint64_t mask = (UINT64_C(1) << log2) - 1;

			assert_int_equal(entry & 0x000ffffffffff000 & mask, 0);
			*ret = (entry & 0x000ffffffffff000) | (addr & mask);
			*ret_log2 = log2;
			return true;
		}
		table = entry & 0x000ffffffffff000;
	}
	return false;
}

static void check_range(const struct machine_tables *t, struct rng *rng, uint64_t first,
	uint64_t len, uint32_t leaf_log2)
{
	uint64_t mask = (UINT64_C(1) << leaf_log2) - 1;
	uint64_t low = first & ~mask;
	uint64_t high = (first + len - 1) | mask;
	uint64_t got;
	uint32_t log2;

	for (uint32_t i = 0; i < 200; i++) {
		uint64_t addr = i == 0 ? low : i == 1 ? high : low + rng_below(rng, high - low + 1);

		assert_true(walk(t, addr, &got, &log2));
		assert_int_equal(got, addr);
		assert_int_equal(log2, leaf_log2);
	}
	assert_false(low && walk(t, low - 1, &got, &log2));
	assert_false(walk(t, high + 1, &got, &log2));
}

static void every_address_is_mapped_to_itself(void **state)
{
	static const uint32_t leaves[] = {12, 21, 30};
	struct rng rng = {test_seed(1)};

	(void)state;
	for (unsigned long n = 0; n < support_scale(60); n++) {
		uint32_t leaf_log2 = leaves[n % 3];
		struct machine_tables t = {.view = gm_reader_enter(reader),
			.next = TABLES_GPA,
			.end = TABLES_GPA + TABLES_LEN};
		uint64_t first = (1 + rng_below(&rng, 1u << 20)) << 12;
		uint64_t len = 4096 * (1 + rng_below(&rng, n % 2 ? 5000 : 50));
		uint64_t bound = machine_tables_bound(first, len, leaf_log2);

		assert_int_equal(gm_fill(t.view, TABLES_GPA, 0, MIB(1), NULL), 0);
		assert_int_equal(machine_tables_map(&t, first, len, leaf_log2), 0);
		assert_int_equal(t.root, TABLES_GPA);
		assert_in_range(t.next - TABLES_GPA, 4096, 4096 + bound);
		assert_int_equal(
			t.leaves, ((first + len - 1) >> leaf_log2) - (first >> leaf_log2) + 1);
		check_range(&t, &rng, first, len, leaf_log2);
		gm_reader_leave(reader);
	}
}

static void ranges_share_tables(void **state)
{
	struct machine_tables t = {.view = gm_reader_enter(reader),
		.next = TABLES_GPA,
		.end = TABLES_GPA + TABLES_LEN};
	struct rng rng = {test_seed(2)};

	(void)state;
	assert_int_equal(gm_fill(t.view, TABLES_GPA, 0, MIB(1), NULL), 0);
	assert_int_equal(machine_tables_map(&t, 4096, 8192, 12), 0);
	assert_int_equal(t.next - TABLES_GPA, 4 * 4096);
	assert_int_equal(machine_tables_map(&t, MIB(4), MIB(4), 21), 0);
	assert_int_equal(t.next - TABLES_GPA, 4 * 4096);
	assert_int_equal(machine_tables_map(&t, GIB(1), GIB(2), 30), 0);
	assert_int_equal(t.next - TABLES_GPA, 4 * 4096);
	check_range(&t, &rng, 4096, 8192, 12);
	check_range(&t, &rng, MIB(4), MIB(4), 21);
	check_range(&t, &rng, GIB(1), GIB(2), 30);
	gm_reader_leave(reader);
}

static void tables_that_do_not_fit_are_an_error(void **state)
{
	struct machine_tables t = {
		.view = gm_reader_enter(reader), .next = TABLES_GPA, .end = TABLES_GPA + 3 * 4096};

	(void)state;
	assert_int_equal(gm_fill(t.view, TABLES_GPA, 0, MIB(1), NULL), 0);
	assert_int_equal(machine_tables_map(&t, 4096, 4096, 12), -ENOSPC);
	t = (struct machine_tables){.view = t.view, .next = TABLES_GPA, .end = TABLES_GPA};
	assert_int_equal(machine_tables_map(&t, 4096, 4096, 30), -ENOSPC);
	gm_reader_leave(reader);
}

/* ---- stopping and going on ---- */

struct guest {
	struct run_memory memory;
	struct machine machine;
};

#define VCPUS 2u

static bool may_use_kvm(void)
{
	char why[MACHINE_WHY_CAP];

	if (machine_available(why, sizeof(why)))
		return true;
	printf("skipped: %s\n", why);
	return false;
}

static void make_guest(struct guest *g, uint32_t payload)
{
	struct run_memory_opts memory = {.size = MIB(12)};
	struct machine_opts opts = {.nr_vcpus = VCPUS, .guest_log2 = 12, .program = {.fd = -1}};

	memory.pages.choices[0].kind = GM_PAGE_BASE;
	opts.program.bytes = run_blob(&opts.program.len);
	assert_true(run_memory_init(&g->memory, &memory));
	assert_true(machine_init(&g->machine, &g->memory, &opts));
	for (uint32_t i = 0; i < VCPUS; i++) {
		struct run_params p = {.magic = RUN_MAGIC,
			.version = RUN_VERSION,
			.size = sizeof(p),
			.vcpu = i,
			.nr_vcpus = VCPUS,
			.payload = payload,
			.mem = RUN_MEMORY_GPA + i * MIB(6),
			.mem_len = MIB(6),
			.seed = test_seed(3),
			.arg = {[RUN_ARG_ORDER] = 1,
				[RUN_ARG_STRIDE] = 512,
				[RUN_ARG_WRITE] = payload == RUN_STORE ? 50 : 1,
				[RUN_ARG_ROUNDS] = payload == RUN_STAMP ? 0 : UINT64_MAX,
				[RUN_ARG_VERIFY] = 1,
				[RUN_ARG_COUNT] = payload == RUN_STAMP ? 300 : UINT64_MAX,
				[RUN_ARG_SKEW] = 99}};

		assert_true(run_memory_write(
			&g->memory, machine_params_gpa(i), &p, sizeof(p), "parameters"));
	}
}

static void unmake_guest(struct guest *g)
{
	machine_stop(&g->machine);
	machine_fini(&g->machine);
	run_memory_fini(&g->memory);
}

static void get_params(struct guest *g, uint32_t i, struct run_params *ret)
{
	assert_true(run_memory_read(
		&g->memory, machine_params_gpa(i), ret, sizeof(*ret), "parameters"));
}

static void pause_ns(long ns)
{
	nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* Until it measures: laying out takes a while. */
static void wait_for_work(struct guest *g)
{
	struct run_params p;

	for (uint32_t i = 0; i < VCPUS; i++) {
		do {
			pause_ns(1000000);
			get_params(g, i, &p);
		} while (p.state < RUN_MEASURES);
	}
}

static void end_guest(struct guest *g)
{
	for (uint32_t i = 0; i < VCPUS; i++) {
		uint64_t one = 1;

		assert_true(run_memory_write(&g->memory,
			machine_params_gpa(i) + offsetof(struct run_params, stop), &one,
			sizeof(one), "stop"));
	}
	while (!machine_all_stopped(&g->machine))
		pause_ns(1000000);
	machine_stop(&g->machine);
}

static void a_guest_goes_on_wherever_it_was_stopped(void **state)
{
	static const uint32_t payloads[] = {RUN_STAMP, RUN_TOUCH, RUN_STREAM, RUN_STORE, RUN_CHASE};
	struct rng rng = {test_seed(4)};

	(void)state;
	if (!may_use_kvm())
		skip();
	for (size_t n = 0; n < sizeof(payloads) / sizeof(payloads[0]); n++) {
		struct guest g;
		uint64_t before = 0;

		make_guest(&g, payloads[n]);
		assert_true(machine_start(&g.machine));
		wait_for_work(&g);
		for (unsigned long moves = 0; moves < support_scale(6); moves++) {
			pause_ns((long)rng_below(&rng, 5000000));
			machine_stop(&g.machine);
			for (uint32_t i = 0; i < VCPUS; i++)
				assert_int_equal(g.machine.vcpus[i].end, MACHINE_STOPPED);
			assert_true(machine_move(&g.machine));
			assert_true(machine_start(&g.machine));
		}
		end_guest(&g);
		for (uint32_t i = 0; i < VCPUS; i++) {
			struct run_params p;

			get_params(&g, i, &p);
			assert_int_equal(g.machine.vcpus[i].end, MACHINE_ENDED);
			assert_int_equal(g.machine.vcpus[i].status, RUN_WELL);
			assert_int_equal(p.state, RUN_DONE);
			assert_int_equal(p.errors, 0);
			/* A round of touch that was stopped is not looked at. */
			if (payloads[n] != RUN_TOUCH)
				assert_int_equal(p.checksum, p.expected);
			before += p.ops;
		}
		assert_true(before > 0);
		unmake_guest(&g);
	}
}

static void a_vcpu_that_has_ended_stays_so(void **state)
{
	struct guest g;

	(void)state;
	if (!may_use_kvm())
		skip();
	make_guest(&g, RUN_STAMP);
	assert_true(machine_start(&g.machine));
	wait_for_work(&g);
	end_guest(&g);
	assert_true(machine_move(&g.machine));
	assert_true(machine_all_stopped(&g.machine));
	for (uint32_t i = 0; i < VCPUS; i++) {
		assert_int_equal(g.machine.vcpus[i].end, MACHINE_ENDED);
		assert_int_equal(g.machine.vcpus[i].exits_io, 1);
	}
	unmake_guest(&g);
}

static unsigned int open_fds(void)
{
	unsigned int nr = 0;

	for (int fd = 0; fd < 256; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

static void nothing_is_left_behind(void **state)
{
	unsigned int before = open_fds();

	(void)state;
	if (!may_use_kvm())
		skip();
	for (int n = 0; n < 3; n++) {
		struct guest g;

		make_guest(&g, RUN_STAMP);
		if (n > 0)
			assert_true(machine_start(&g.machine));
		if (n > 1) {
			machine_stop(&g.machine);
			assert_true(machine_move(&g.machine));
		}
		unmake_guest(&g);
		assert_int_equal(open_fds(), before);
	}
}

static void words_of_the_library_are_left_out(void **state)
{
	static const char *const texts[][2] = {
		{"no room", "no room"},
		{"4 MiB available (GM_RESERVE_NONE asks for no such check)", "4 MiB available"},
		{"no fd (see /proc) for it (GM_A or GM_B) here", "no fd (see /proc) for it here"},
		{"(GM_A)(GM_B (b) c", " c"},
		{"none (a smaller gpa_limit, or a larger RLIMIT_AS, may help): 12",
			"none (ulimit -v): 12"},
		{"cut (GM_", "cut"},
		{"", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[128];

		snprintf(text, sizeof(text), "%s", texts[i][0]);
		run_memory_words(text);
		assert_string_equal(text, texts[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			every_address_is_mapped_to_itself, make_space, destroy_space),
		cmocka_unit_test_setup_teardown(ranges_share_tables, make_space, destroy_space),
		cmocka_unit_test_setup_teardown(
			tables_that_do_not_fit_are_an_error, make_space, destroy_space),
		cmocka_unit_test(a_guest_goes_on_wherever_it_was_stopped),
		cmocka_unit_test(a_vcpu_that_has_ended_stays_so),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(words_of_the_library_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
