/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_snapshot_live_fill.c - saving memory that a pager still fills, resolving in the thread that writes, and every
 * call that may fail.
 */
#include <sys/eventfd.h>

#include "live_save.h"

#define PAGES 256u
#define LEN (PAGES * PAGE)

/* ---- a source that waits ---- */

static struct {
	int fd;
	struct gm_source_read *reads[64];
	unsigned int nr;
} late;

static int late_start(void *ctx, struct gm_source_read *read)
{
	const uint64_t one = 1;

	(void)ctx;
	if (late.nr == 64)
		return -EAGAIN;
	late.reads[late.nr++] = read;
	assert_int_equal(write(late.fd, &one, sizeof(one)), sizeof(one));
	return 0;
}

static int late_step(void *ctx)
{
	uint64_t count;

	(void)ctx;
	(void)!read(late.fd, &count, sizeof(count));
	while (late.nr > 0) {
		struct gm_source_read *read = late.reads[--late.nr];

		fill_words(read->buf, read->offset, read->len);
		read->done(read, 0);
	}
	return 0;
}

static int late_fd(void *ctx)
{
	(void)ctx;
	return late.fd;
}

static void start_filling(const struct gm_block_opts *block, bool waits)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.len = MOST,
		.start = late_start,
		.step = late_step,
		.fd = late_fd,
	};

	start_pager(MOST);
	memset(&late, 0, sizeof(late));
	late.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (waits) {
		gm_source_destroy(source);
		assert_ok(gm_source_create(&ops, &source, &err));
	}
	make_space(block->len, block);
	assert_ok(gm_pager_add_space(pager, space, AT, len, AREA(.source = source), NULL, &err));
	make_live(KIB(64));
	fill_words(instant, 0, len);
}

static void stop_filling(void)
{
	stop_live();
	close(late.fd);
}

static void write_word(uint64_t page)
{
	*(volatile uint64_t *)(hva + page * PAGE + 16) = 7;
	*(uint64_t *)(instant + page * PAGE + 16) = 7;
}

/* ---- absent pages ---- */

/* Some are there, some were written, some given back; of the rest the source is asked when their turn comes. */
static void check_filling(const struct gm_block_opts *block, bool waits)
{
	start_filling(block, waits);
	if (!waits) {
		of_source.zero = len / 2;
		memset(instant + len / 2, 0, len / 2);
	}
	start_stepping();
	for (uint64_t page = 0; page < len / PAGE; page += 5)
		write_word(page);
	assert_ok(gm_discard(space, AT + len / 4, len / 4, GM_DISCARD_NOW, 0, NULL, &err));
	memset(instant + len / 4, 0, len / 4);
	assert_true(area_info(1).absent > 0 || block->pages[0].kind == GM_PAGE_HUGETLB);
	for (int i = 0; i < 2; i++) {
		pthread_rwlock_wrlock(&running);
		if (i == 1)
			memcpy(instant, hva, len);
		assert_ok(gm_snapshot_live_arm(live, NULL, &err));
		pthread_rwlock_unlock(&running);
		start_writers();
		assert_ok(save("a"));
		stop_writers();
		check_file("a");
	}
	assert_int_equal(stats().poisoned, 0);
	stop_filling();
}

static void absent_pages_are_the_source_s(void **state)
{
	(void)state;
	for (int waits = 0; waits < 2; waits++) {
		check_filling(GM_OPTS(gm_block_opts, .len = LEN), waits);
		check_filling(GM_OPTS(gm_block_opts, .len = LEN, .flags = GM_BLOCK_SHARE), waits);
	}
	if (!support_pool(21, 4)) {
		printf("skipped: no huge pages\n");
		skip();
	}
	check_filling(GM_OPTS(gm_block_opts, .len = MIB(8), .flags = GM_BLOCK_SHARE,
			      .pages = {{.kind = GM_PAGE_HUGETLB, .log2 = 21}}),
		false);
	check_filling(GM_OPTS(gm_block_opts, .len = MIB(8),
			      .pages = {{.kind = GM_PAGE_HUGETLB, .log2 = 21}}),
		false);
}

/* What was never there goes into the file too before it is given back. */
static void absent_pages_are_saved_before_they_are_given_back(void **state)
{
	pthread_t thread;
	void *rc;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_filling(
			GM_OPTS(gm_block_opts, .len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0),
			false);
		start_stepping();
		assert_ok(gm_snapshot_live_arm(live, NULL, &err));
		assert_fails(
			gm_discard(space, AT + 30 * PAGE, 5 * PAGE, GM_DISCARD_NOW, 0, NULL, &err),
			EBUSY, "saved");
		assert_int_equal(pthread_create(&thread, NULL, save_aside, (void *)"a"), 0);
		while (gm_discard(space, AT + 30 * PAGE, 5 * PAGE, GM_DISCARD_NOW, 0, NULL, &err))
			assert_int_equal(err.code, -EBUSY);
		assert_true(has_zeros(hva + 30 * PAGE, 5 * PAGE));
		pthread_join(thread, &rc);
		assert_int_equal((intptr_t)rc, 0);
		check_file("a");
		stop_filling();
	}
}

/* Of memory that a pager fills private pages that go are zeros by him, and no longer what they were. */
static void pages_that_go_unseen_end_the_save(void **state)
{
	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_filling(
			GM_OPTS(gm_block_opts, .len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0),
			false);
		start_stepping();
		write_word(200);
		assert_ok(gm_snapshot_live_arm(live, NULL, &err));
		assert_int_equal(
			madvise(hva + 200 * PAGE, PAGE, shared ? MADV_REMOVE : MADV_DONTNEED), 0);
		assert_true(has_zeros(hva + 200 * PAGE, PAGE));
		write_word(200);
		assert_int_equal(save("a"), -ESTALE);
		stop_filling();
	}
}

static void a_page_that_is_lost_is_recorded(void **state)
{
	struct gm_snapshot_info info = {.size = sizeof(info)};

	(void)state;
	start_filling(GM_OPTS(gm_block_opts, .len = LEN), false);
	start_stepping();
	of_source.bad = 9 * PAGE + 8;
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	assert_ok(gm_snapshot_live_save(live, in_dir("a"), NULL, &info, &err));
	assert_int_equal(info.lost, PAGE);
	assert_int_equal(area_info(1).poisoned, PAGE);
	of_source.bad = 0;
	stop_filling();
}

static void a_page_that_nobody_brings_ends_the_save(void **state)
{
	(void)state;
	start_filling(GM_OPTS(gm_block_opts, .len = LEN), true);
	gm_snapshot_live_destroy(live);
	assert_ok(gm_snapshot_live_create(
		space, pager, GM_OPTS(gm_snapshot_live_opts, .wait_ms = 10), &live, &err));
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	/* Nobody steps. */
	assert_fails(save("a"), ETIMEDOUT, "who brings them");
	stop_filling();
}

/* ---- in the thread that writes ---- */

static _Atomic unsigned int resolved;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	resolved++;
	while (gm_pager_resolve(pager, info->si_addr) == -EAGAIN)
		;
}

static void a_writer_resolves_its_own_faults(void **state)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction old;
	struct rng rng = {test_seed(3)};

	(void)state;
	assert_int_equal(sigaction(SIGBUS, &action, &old), 0);
	for (int shared = 0; shared < 2; shared++) {
		start_pager(MIB(1));
		make_space(LEN,
			GM_OPTS(gm_block_opts, .len = LEN, .flags = shared ? GM_BLOCK_SHARE : 0));
		fill_memory(&rng);
		assert_ok(gm_pager_add_space(pager, space, AT, len,
			AREA(.way = GM_PAGER_PROTECT, .flags = GM_PAGER_SIGBUS), NULL, &err));
		make_live(KIB(64));
		resolved = 0;
		for (int i = 0; i < 5; i++) {
			start_writers();
			arm(NULL);
			assert_ok(save("a"));
			check_file("a");
			stop_writers();
			/* Nobody else is there. A page that is there is protected; one that is not needs no fault. */
			*(volatile uint64_t *)(hva + 3 * PAGE) += 1;
			arm(NULL);
			*(volatile uint64_t *)(hva + 3 * PAGE) += 1;
			assert_ok(save("a"));
			check_file("a");
		}
		assert_true(resolved >= 5);
		stop_live();
	}
	assert_int_equal(sigaction(SIGBUS, &old, NULL), 0);
}

/* ---- calls that fail ---- */

static struct gm_log *of_log;

static int scenario(void *ctx)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts), .codec = GM_SNAPSHOT_RAW};
	struct gm_snapshot_live *mine = NULL;
	int rc;

	/* As if it were written: it may be protected from the last time, and nobody steps. */
	gm_view_mark(gm_reader_enter(reader), AT + 3 * PAGE, PAGE);
	gm_reader_leave(reader);
	if (ctx)
		opts.base[0] = 1;
	rc = gm_snapshot_live_create(
		space, pager, GM_OPTS(gm_snapshot_live_opts, .room = KIB(64)), &mine, &err);
	if (!rc)
		rc = gm_snapshot_live_arm(mine, ctx, &err);
	if (!rc)
		rc = gm_snapshot_live_save(mine, in_dir("a"), &opts, NULL, &err);
	fault_disarm();
	gm_snapshot_live_destroy(mine);
	unlink(in_dir("a"));
	return rc;
}

static void each_call_may_fail(void **state)
{
	static const int errnos[] = {ENOMEM, EIO};
	const struct fault_sweep_opts opts = {.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 2};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = 1, .eintr = 2};
	unsigned long nr = 0;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		struct rng rng = {test_seed(11)};

		start_pager(MIB(1));
		make_space(16 * PAGE, GM_OPTS(gm_block_opts, .len = 16 * PAGE,
					      .flags = shared ? GM_BLOCK_SHARE : 0));
		protect_all();
		fill_memory(&rng);
		memset(hva, 3, 5 * PAGE);
		live = NULL;
		assert_ok(gm_log_create(
			space, GM_OPTS(gm_log_opts, .first = AT, .len = len), &of_log, &err));
		nr += fault_sweep_opts(scenario, NULL, &opts);
		nr += fault_sweep_opts(scenario, of_log, &opts);
		nr += fault_sweep_opts(scenario, NULL, &storm);
		/* Nothing is left protected that nobody lifts. */
		start_stepping();
		memset(hva, 4, len);
		make_live(0);
		arm(NULL);
		assert_ok(save("a"));
		check_file("a");
		assert_ok(gm_log_destroy(of_log, &err));
		stop_live();
	}
	print_message("%lu injections\n", nr);
	assert_true(nr > 500);
}

/* Of those that install pages protected. */
static void installing_may_fail(void **state)
{
	static const int errnos[] = {EAGAIN, ENOMEM};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		start_filling(
			GM_OPTS(gm_block_opts, .len = LEN, .flags = i & 1 ? GM_BLOCK_SHARE : 0),
			false);
		of_source.zero = len / 2;
		memset(instant + len / 2, 0, len / 2);
		start_stepping();
		assert_ok(gm_snapshot_live_arm(live, NULL, &err));
		fault_set(&(struct fault_plan){
			.fn = FAULT_gm_sys_uffd_fill, .nth = 5, .error = errnos[i / 2]});
		/* No more than there is room for. */
		for (uint64_t page = 0; page < PAGES; page += 23)
			*(volatile uint64_t *)(hva + page * PAGE) += 1;
		assert_int_equal(fault_hits(), 1);
		fault_set(NULL);
		assert_ok(save("a"));
		check_file("a");
		stop_filling();
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(absent_pages_are_the_source_s),
		TEST(absent_pages_are_saved_before_they_are_given_back),
		TEST(pages_that_go_unseen_end_the_save),
		TEST(a_page_that_is_lost_is_recorded),
		TEST(a_page_that_nobody_brings_ends_the_save),
		TEST(a_writer_resolves_its_own_faults),
		TEST(installing_may_fail),
		TEST(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
