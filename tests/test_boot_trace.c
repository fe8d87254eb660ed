/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_boot_trace.c - the trace of a real boot (payload/boot.trace): it looks like one, and what replays it, in a
 * thread and in a guest, touches its pages and no other, with the faults that the size of pages leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../payload/payload.h"
#include "../payload/trace.h"
#include "../tool/machine.h"
#include "../tool/run_blob.h"
#include "support.h"

#define TRACE GM_SOURCE_ROOT "/payload/boot.trace"
#define PAGES (MIB(512) / 4096)
/* Where the boot loader's work is done, and where Linux begins on x86. */
#define IMAGE_PAGE (MIB(1) / 4096)
#define KERNEL_PAGE (MIB(16) / 4096)

static uint8_t *bytes;
static uint64_t len;
static struct trace_header head;
/* Of each page, from the trace. */
static uint32_t *touched_at; /* number of the record that touched it first, from 1; 0: none */
static bool *written;
static uint64_t distinct;

static int read_trace(void **state)
{
	struct trace_reader reader;
	struct trace_record r;
	struct stat st;
	uint32_t nr = 0;
	int fd = open(TRACE, O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	len = (uint64_t)st.st_size;
	bytes = malloc(len);
	assert_non_null(bytes);
	assert_int_equal(read(fd, bytes, len), len);
	close(fd);
	assert_null(trace_check(bytes, len, &head));
	assert_int_equal(head.nr_pages, PAGES);
	touched_at = calloc(PAGES, sizeof(*touched_at));
	written = calloc(PAGES, sizeof(*written));
	assert_true(touched_at && written && trace_open(&reader, bytes, len));
	while (trace_next(&reader, &r) == 1) {
		nr++;
		for (uint64_t page = r.page; page < r.page + r.nr; page++) {
			distinct += !touched_at[page];
			touched_at[page] = touched_at[page] ? touched_at[page] : nr;
			written[page] |= r.write;
		}
	}
	assert_int_equal(nr, head.nr_records);
	return 0;
}

static int forget_trace(void **state)
{
	(void)state;
	free(bytes);
	free(touched_at);
	free(written);
	return 0;
}

/* ---- what a boot looks like ---- */

static void it_is_small_and_of_a_whole_boot(void **state)
{
	(void)state;
	assert_true(len < KIB(300));
	assert_int_equal(head.page_log2, 12);
	/* The guest's work fills most of its memory, and goes over it again. */
	assert_in_range(distinct, PAGES * 3 / 4, PAGES);
	assert_true(head.touched > 2 * distinct);
	assert_in_range(head.micros, 1000000, 100000000);
}

/* Are the pages touched one after the other? *ret_first, *ret_last: the records. */
static bool in_order(uint64_t from, uint64_t nr, uint32_t *ret_first, uint32_t *ret_last)
{
	for (uint64_t page = from; page < from + nr; page++) {
		if (!touched_at[page] || !written[page] ||
			(page > from && touched_at[page] < touched_at[page - 1]))
			return false;
	}
	*ret_first = touched_at[from];
	*ret_last = touched_at[from + nr - 1];
	return true;
}

/* The firmware runs, a device brings the kernel's image in one go, and that unpacks itself to 16 MiB. */
static void it_begins_as_a_boot_does(void **state)
{
	uint32_t image[2] = {0};
	uint32_t kernel[2] = {0};

	(void)state;
	assert_in_range(touched_at[0], 1, 100);
	assert_true(in_order(IMAGE_PAGE, MIB(8) / 4096, &image[0], &image[1]));
	assert_int_equal(image[0], image[1]);
	assert_true(in_order(KERNEL_PAGE, MIB(24) / 4096, &kernel[0], &kernel[1]));
	assert_true(touched_at[0] < image[0] && image[1] < kernel[0] && kernel[0] < kernel[1]);
	assert_true(kernel[1] < head.nr_records / 10);
}

/* A page is used for reading before it was ever written only where the host's zeros are meant. */
static void pages_are_written_before_they_are_read(void **state)
{
	struct trace_reader reader;
	struct trace_record r;
	uint64_t reads = 0;
	uint64_t first_reads = 0;
	uint32_t nr = 0;

	(void)state;
	assert_true(trace_open(&reader, bytes, len));
	while (trace_next(&reader, &r) == 1) {
		nr++;
		reads += r.write ? 0 : r.nr;
		for (uint64_t page = r.page; !r.write && page < r.page + r.nr; page++)
			first_reads += touched_at[page] == nr;
	}
	assert_true(reads > distinct / 2);
	assert_true(first_reads < distinct / 1000);
}

/* ---- replays ---- */

struct replay {
	struct run_memory memory;
	struct run_params params; /* as it has ended */
	uint64_t faults;
	uint64_t kvm_faults; /* 0: not known */
	struct gm_usage usage;
};

static uint64_t faults_now(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return (uint64_t)(usage.ru_minflt + usage.ru_majflt);
}

static struct run_params make_params(const struct run_memory *m, bool guest)
{
	struct run_params p = {.magic = RUN_MAGIC,
		.version = RUN_VERSION,
		.size = sizeof(p),
		.nr_vcpus = 1,
		.payload = RUN_REPLAY,
		.seed = 7,
		.data = guest ? m->data_gpa : m->data_hva,
		.data_len = m->data_len,
		.mem = guest ? m->gpa : m->hva,
		.mem_len = m->len,
		.all = guest ? m->gpa : m->hva,
		.all_len = m->len,
		.arg = {[RUN_ARG_WRITE] = 1}};

	return p;
}

static void run_thread(struct replay *r)
{
	uint64_t before;

	r->params = make_params(&r->memory, false);
	before = faults_now();
	assert_int_equal(payload_run(&r->params), RUN_WELL);
	r->faults = faults_now() - before;
}

static uint64_t kvm_faults(const struct machine *m)
{
	struct kvm_stat *stats;
	size_t nr = machine_stats(m, &stats);
	uint64_t value = 0;

	for (size_t i = 0; i < nr; i++) {
		if (strcmp(stats[i].name, "pf_fixed") == 0)
			value = stats[i].value;
	}
	free(stats);
	return value;
}

static void run_guest(struct replay *r)
{
	struct machine_opts opts = {.nr_vcpus = 1, .guest_log2 = 21, .program = {.fd = -1}};
	struct run_params p = make_params(&r->memory, true);
	struct machine m;
	uint64_t before;

	opts.program.bytes = run_blob(&opts.program.len);
	assert_true(machine_init(&m, &r->memory, &opts));
	assert_true(
		run_memory_write(&r->memory, machine_params_gpa(0), &p, sizeof(p), "parameters"));
	before = faults_now();
	assert_true(machine_start(&m));
	while (!machine_all_stopped(&m))
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	machine_stop(&m);
	r->faults = faults_now() - before;
	r->kvm_faults = kvm_faults(&m);
	assert_int_equal(m.vcpus[0].end, MACHINE_ENDED);
	assert_int_equal(m.vcpus[0].status, RUN_WELL);
	assert_true(run_memory_read(
		&r->memory, machine_params_gpa(0), &r->params, sizeof(p), "parameters"));
	machine_fini(&m);
}

static void replay(struct replay *r, struct gm_page_choice pages, bool guest)
{
	struct run_memory_opts opts = {.size = PAGES * 4096, .data = TRACE};
	struct gm_residency *res;
	struct gm_error err;

	*r = (struct replay){.usage = {.size = sizeof(r->usage)}};
	opts.pages.choices[0] = pages;
	assert_true(run_memory_init(&r->memory, &opts));
	if (guest)
		run_guest(r);
	else
		run_thread(r);
	assert_int_equal(r->params.ops, head.touched);
	assert_int_equal(r->params.figures[0], head.nr_records);
	assert_ok(gm_residency_open(0, &res, &err));
	assert_ok(gm_residency_usage(res, r->memory.hva, r->memory.len, 0, &r->usage, &err));
	gm_residency_close(res);
}

static uint64_t stamp_of(const struct replay *r, uint64_t page)
{
	return payload_mix(r->params.seed ^ page) | 1;
}

static int check_extent(void *arg, const struct gm_extent *extent)
{
	const struct replay *r = arg;

	if (extent->state != GM_EXTENT_PRESENT && extent->state != GM_EXTENT_ZERO)
		return 0;
	for (uint64_t at = extent->start; at < extent->start + extent->len; at += 4096) {
		if (!touched_at[(at - r->memory.hva) / 4096])
			fail_msg("page %llu is present, and the trace does not touch it",
				(unsigned long long)(at - r->memory.hva) / 4096);
	}
	return 0;
}

/* With base pages: present is what the trace touches, and written is what it writes. */
static void check_pages(struct replay *r)
{
	struct gm_residency *res;
	struct gm_error err;

	assert_int_equal(r->usage.present + r->usage.zero, distinct * 4096);
	assert_ok(gm_residency_open(0, &res, &err));
	assert_ok(gm_residency_extents(
		res, r->memory.hva, r->memory.len, 0, check_extent, r, NULL, &err));
	gm_residency_close(res);
	for (uint64_t page = 0; page < PAGES; page++) {
		uint64_t word = payload_load(r->memory.hva + page * 4096);

		if (word != (written[page] ? stamp_of(r, page) : 0))
			fail_msg("page %llu has %#llx in it", (unsigned long long)page,
				(unsigned long long)word);
	}
}

static void check_engine(bool guest)
{
	struct replay base;
	struct replay thp;

	replay(&base, (struct gm_page_choice){GM_PAGE_BASE, 0}, guest);
	assert_in_range(base.faults, distinct, distinct + distinct / 10);
	check_pages(&base);
	run_memory_fini(&base.memory);
	replay(&thp, (struct gm_page_choice){GM_PAGE_THP, 21}, guest);
	run_memory_fini(&thp.memory);
	assert_int_equal(thp.usage.by_log2[21], thp.usage.present);
	assert_true(thp.usage.present >= distinct * 4096);
	assert_true(base.faults >= 300 * thp.faults);
	printf("figure: boot replay faults base %llu\n", (unsigned long long)base.faults);
	printf("figure: boot replay faults thp %llu\n", (unsigned long long)thp.faults);
	if (guest && base.kvm_faults)
		assert_true(base.kvm_faults >= 300 * thp.kvm_faults && thp.kvm_faults > 0);
}

static void a_thread_touches_what_the_guest_did(void **state)
{
	(void)state;
	check_engine(false);
}

static void a_guest_touches_what_the_guest_did(void **state)
{
	char why[MACHINE_WHY_CAP];

	(void)state;
	if (!machine_available(why, sizeof(why))) {
		printf("skipped: %s\n", why);
		skip();
	}
	check_engine(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_small_and_of_a_whole_boot),
		cmocka_unit_test(it_begins_as_a_boot_does),
		cmocka_unit_test(pages_are_written_before_they_are_read),
		cmocka_unit_test(a_thread_touches_what_the_guest_did),
		cmocka_unit_test(a_guest_touches_what_the_guest_did),
	};

	return cmocka_run_group_tests(tests, read_trace, forget_trace);
}
