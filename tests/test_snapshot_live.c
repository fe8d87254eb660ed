/* SPDX-License-Identifier: BSD-3-Clause */
/* test_snapshot_live.c - memory that is saved while it is written: the file has the instant, byte by byte. */
#include <sys/uio.h>

#include "live_save.h"

/* ---- writers run ---- */

static void save_many(unsigned int nr, uint64_t room)
{
	uint64_t pre = 0;
	uint64_t waits = 0;

	start_stepping();
	start_writers();
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t before = written;

		arm(NULL);
		while (written < before + 256 && live_stats().waits == 0)
			sched_yield();
		assert_ok(save("a"));
		check_file("a");
		assert_int_equal(live_stats().pre_now, 0);
		pre += live_stats().pre_images;
		waits += live_stats().waits;
	}
	stop_writers();
	stop_stepping();
	assert_true(pre + waits > nr);
	if (room == KIB(64))
		assert_true(waits > 0);
	if (getenv("GM_SOAK"))
		printf("figure: live_saves %u\nfigure: live_pre_images %ju\n", nr, (uintmax_t)pre);
}

static void save_sort(uint64_t bytes, const struct gm_block_opts *block, uint64_t room, uint64_t nr)
{
	struct rng rng = {test_seed(bytes + room)};

	start_live(bytes, block, room);
	fill_memory(&rng);
	save_many((unsigned int)support_scale(nr), room);
	stop_live();
}

static void private_memory_is_saved_as_it_was(void **state)
{
	(void)state;
	save_sort(MIB(4), GM_OPTS(gm_block_opts, .len = MIB(4)), 0, 10);
	save_sort(MIB(4), GM_OPTS(gm_block_opts, .len = MIB(4)), KIB(64), 8);
}

static void huge_pages_are_saved_as_they_were(void **state)
{
	(void)state;
	save_sort(MIB(8), GM_OPTS(gm_block_opts, .len = MIB(8), .pages = {{.kind = GM_PAGE_THP}}),
		0, 6);
	if (!support_pool(21, 4)) {
		printf("skipped: no huge pages\n");
		skip();
	}
	save_sort(MIB(8),
		GM_OPTS(gm_block_opts, .len = MIB(8), .flags = GM_BLOCK_SHARE,
			.pages = {{.kind = GM_PAGE_HUGETLB, .log2 = 21}}),
		0, 4);
	save_sort(MIB(8),
		GM_OPTS(gm_block_opts, .len = MIB(8),
			.pages = {{.kind = GM_PAGE_HUGETLB, .log2 = 21}}),
		0, 2);
}

static void a_memfd_is_saved_as_it_was(void **state)
{
	(void)state;
	save_sort(MIB(4), GM_OPTS(gm_block_opts, .len = MIB(4), .flags = GM_BLOCK_SHARE), 0, 10);
	save_sort(
		MIB(4), GM_OPTS(gm_block_opts, .len = MIB(4), .flags = GM_BLOCK_SHARE), KIB(64), 8);
}

/* ---- sorts of writes ---- */

static pthread_t saver;

static void start_save(const char *name)
{
	assert_int_equal(pthread_create(&saver, NULL, save_aside, (void *)(uintptr_t)name), 0);
}

static int end_save(void)
{
	void *rc;

	pthread_join(saver, &rc);
	return (int)(intptr_t)rc;
}

static void start_of(bool shared, uint64_t room)
{
	struct rng rng = {test_seed(7)};

	start_live(MIB(1),
		GM_OPTS(gm_block_opts, .len = MIB(1), .flags = shared ? GM_BLOCK_SHARE : 0), room);
	memset(hva, 0x11, len);
	fill_memory(&rng);
}

static void system_calls_are_caught(void **state)
{
	uint8_t bytes[3 * PAGE];

	(void)state;
	memset(bytes, 0xa5, sizeof(bytes));
	for (int shared = 0; shared < 2; shared++) {
		int fd = memfd_create("device", MFD_CLOEXEC);
		struct iovec iov[2];
		int pipes[2];

		start_of(shared, 0);
		start_stepping();
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
		arm(NULL);
		assert_int_equal(pread(fd, hva + 5 * PAGE + 100, 2 * PAGE, 0), 2 * PAGE);
		iov[0] = (struct iovec){hva + 20 * PAGE, 10};
		iov[1] = (struct iovec){hva + 200 * PAGE + 7, PAGE};
		assert_int_equal(preadv(fd, iov, 2, 0), PAGE + 10);
		assert_int_equal(pipe(pipes), 0);
		assert_int_equal(write(pipes[1], bytes, 100), 100);
		assert_int_equal(read(pipes[0], hva + 40 * PAGE, 100), 100);
		assert_int_equal(
			gm_write(gm_reader_enter(reader), AT + 60 * PAGE, bytes, PAGE, NULL), 0);
		gm_reader_leave(reader);
		assert_true(live_stats().pre_images >= 8);
		assert_ok(save("a"));
		check_file("a");
		assert_memory_equal(hva + 5 * PAGE + 100, bytes, 2 * PAGE);
		assert_memory_equal(hva + 60 * PAGE, bytes, PAGE);
		close(pipes[0]);
		close(pipes[1]);
		close(fd);
		stop_live();
	}
}

/* ---- what is given back ---- */

static void discarded_pages_are_saved_first(void **state)
{
	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_of(shared, KIB(64));
		start_stepping();
		arm(NULL);
		assert_ok(
			gm_discard(space, AT + 3 * PAGE, 8 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_true(live_stats().discarded > 0);
		assert_true(has_zeros(hva + 3 * PAGE, 8 * PAGE));
		/* More than the room, and nobody saves yet. */
		assert_fails(gm_discard(space, AT + 64 * PAGE, 100 * PAGE, GM_DISCARD_NOW, 0, NULL,
				     &err),
			EBUSY, "saved");
		assert_memory_equal(hva + 64 * PAGE, instant + 64 * PAGE, 100 * PAGE);
		start_save("a");
		while (gm_discard(space, AT + 64 * PAGE, 100 * PAGE, GM_DISCARD_NOW, 0, NULL, &err))
			assert_int_equal(err.code, -EBUSY);
		assert_true(has_zeros(hva + 64 * PAGE, 100 * PAGE));
		assert_int_equal(end_save(), 0);
		check_file("a");
		stop_live();
	}
}

/* By ways that the library does not see: never a wrong file. */
static void pages_that_go_unseen_end_the_save(void **state)
{
	(void)state;
	for (int way = 0; way < 4; way++) {
		bool shared = way >= 2;
		struct gm_region_info info = {.size = sizeof(info)};
		struct gm_block_info block = {.size = sizeof(block)};

		start_of(shared, 0);
		memset(hva + 50 * PAGE, 0x77, PAGE);
		start_stepping();
		arm(NULL);
		assert_ok(save("a"));
		check_file("a");
		arm(NULL);
		assert_int_equal(gm_space_region(space, id, &info), 0);
		if (way < 2)
			assert_int_equal(madvise(hva + 50 * PAGE, PAGE, MADV_DONTNEED), 0);
		else if (way == 2)
			assert_int_equal(madvise(hva + 50 * PAGE, PAGE, MADV_REMOVE), 0);
		else {
			assert_int_equal(gm_block_info(info.block, &block), 0);
			assert_int_equal(
				fallocate(block.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)(50 * PAGE), PAGE),
				0);
		}
		/* Somebody may write there again before it is its turn. */
		if (way & 1)
			*(volatile uint64_t *)(hva + 50 * PAGE) = 1;
		assert_int_equal(save("a"), -ESTALE);
		if (!strstr(err.text, "gm_discard"))
			fail_msg("%s", err.text);
		hva[0] = 9;
		arm(NULL);
		assert_ok(save("b"));
		check_file("b");
		stop_live();
	}
}

/* ---- ends ---- */

static int tell_once(void *ctx, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	(*(unsigned int *)ctx)++;
	return 1;
}

static void a_save_is_canceled(void **state)
{
	unsigned int told_times = 0;

	(void)state;
	start_of(false, 0);
	start_stepping();
	arm(NULL);
	assert_ok(save("a"));
	arm(NULL);
	gm_snapshot_live_cancel(live);
	hva[0]++;
	assert_fails(save("a"), ECANCELED, "canceled");
	assert_fails(save("a"), EINVAL, "not armed");
	arm(NULL);
	assert_fails(gm_snapshot_live_save(live, in_dir("a"),
			     GM_OPTS(gm_snapshot_opts, .progress = tell_once, .ctx = &told_times),
			     NULL, &err),
		ECANCELED, "canceled");
	assert_int_equal(told_times, 1);
	hva[0]++;
	arm(NULL);
	assert_fails(gm_snapshot_live_arm(live, NULL, &err), EBUSY, "armed");
	hva[0]++;
	/* What is armed is let go. */
	stop_live();
}

/* Writers wait for the file that is full; then they go on, and the old one is there. */
static void a_full_disk_ends_the_save_and_not_the_guest(void **state)
{
	uint64_t before;

	(void)state;
	start_of(true, KIB(64));
	start_stepping();
	arm(NULL);
	assert_ok(save("a"));
	memcpy(instant, hva, len);
	start_writers();
	pthread_rwlock_wrlock(&running);
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	pthread_rwlock_unlock(&running);
	while (live_stats().waits == 0)
		sched_yield();
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_pwrite, .nth = 2, .error = ENOSPC, .forever = true});
	assert_int_equal(save("a"), -ENOSPC);
	assert_true(fault_hits() > 0);
	fault_set(NULL);
	before = written;
	while (written < before + 1000)
		sched_yield();
	stop_writers();
	check_file("a");
	stop_live();
}

static int kill_self(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	(void)total;
	if (done > MIB(8))
		kill(getpid(), SIGKILL);
	return 0;
}

static void whoever_is_killed_leaves_the_old_file(void **state)
{
	struct stat old;
	struct stat now;
	pid_t pid;
	int status;

	(void)state;
	start_of(false, 0);
	arm(NULL);
	assert_ok(save("a"));
	assert_int_equal(stat(in_dir("a"), &old), 0);
	stop_live();
	pid = fork();
	if (pid == 0) {
		struct rng rng = {1};

		start_live(MOST, GM_OPTS(gm_block_opts, .len = MOST), 0);
		fill_memory(&rng);
		memset(hva, 1, MOST);
		gm_snapshot_live_arm(live, NULL, NULL);
		gm_snapshot_live_save(live, in_dir("a"),
			GM_OPTS(gm_snapshot_opts, .codec = GM_SNAPSHOT_RAW, .progress = kill_self),
			NULL, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(stat(in_dir("a"), &now), 0);
	assert_int_equal(old.st_ino, now.st_ino);
	len = MIB(1);
	check_file("a");
}

/* ---- differences ---- */

static void a_difference_has_what_was_written_between_two_instants(void **state)
{
	static const char *const names[] = {"a", "b"};
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct gm_snapshot_opts opts = {.size = sizeof(opts), .codec = GM_SNAPSHOT_RAW};
	struct gm_log *log;
	uint64_t words[4] = {0};

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		start_of(shared, 0);
		start_stepping();
		assert_ok(gm_log_create(
			space, GM_OPTS(gm_log_opts, .first = AT, .len = len), &log, &err));
		arm(NULL);
		assert_ok(gm_snapshot_live_save(live, in_dir("a"), &opts, &info, &err));
		memcpy(opts.base, info.identity, 16);
		for (uint64_t page = 3; page < 200; page += 31) {
			gm_write(gm_reader_enter(reader), AT + page * PAGE + 8, &page, 8, NULL);
			gm_reader_leave(reader);
		}
		assert_ok(gm_discard(
			space, AT + 100 * PAGE, 4 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		arm(log);
		/* Neither in the difference nor lost. */
		memset(hva + 3 * PAGE, 5, PAGE);
		memset(hva + 4 * PAGE, 5, PAGE);
		assert_true(live_stats().armed < len);
		assert_ok(gm_snapshot_live_save(live, in_dir("b"), &opts, &info, &err));
		check_saved(names, 2);
		assert_int_equal(info.data, 7 * PAGE);
		/* What failed is in the log again. */
		gm_write(gm_reader_enter(reader), AT + 9 * PAGE, words, 8, NULL);
		gm_reader_leave(reader);
		arm(log);
		gm_snapshot_live_cancel(live);
		assert_int_equal(
			gm_snapshot_live_save(live, in_dir("b"), &opts, NULL, &err), -ECANCELED);
		assert_int_equal(gm_log_take(log, 0, 256, words, NULL), 0);
		assert_true(words[0] >> 9 & 1);
		memset(opts.base, 0, 16);
		assert_ok(gm_log_destroy(log, &err));
		stop_live();
	}
}

/* ---- refusals ---- */

static void what_cannot_be_caught_is_refused(void **state)
{
	struct gm_snapshot_live *other;
	uint64_t alias;

	(void)state;
	assert_fails(gm_snapshot_live_create(
			     space, NULL, GM_OPTS(gm_snapshot_live_opts, .room = 1), &live, &err),
		EINVAL, "room");
	start_pager(MIB(1));
	make_space(MIB(1), GM_OPTS(gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_SHARE));
	memset(hva, 1, len);
	make_live(0);
	assert_fails(gm_snapshot_live_arm(live, NULL, &err), ENOENT, "no area");
	protect_all();
	start_stepping();
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	assert_ok(gm_snapshot_live_create(space, pager, NULL, &other, &err));
	assert_fails(gm_snapshot_live_arm(other, NULL, &err), EBUSY, "saved");
	/* The other one has taken nothing away. */
	memcpy(instant, hva, len);
	hva[0] = 7;
	assert_fails(gm_space_remove(space, id, &err), EBUSY, "saved");
	assert_ok(save("a"));
	check_file("a");
	stop_stepping();
	assert_ok(gm_snapshot_live_arm(live, NULL, &err));
	assert_fails(gm_pager_stop(pager, GM_PAGER_COMPLETE, 0, &err), EBUSY, "saved");
	assert_int_equal(save("a"), 0);
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .kind = GM_REGION_ALIAS, .gpa = MIB(16), .len = MIB(1),
			.target = id),
		&alias, &err));
	assert_fails(gm_snapshot_live_arm(live, NULL, &err), ENOTSUP, "two places");
	gm_snapshot_live_destroy(other);
	stop_live();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(private_memory_is_saved_as_it_was),
		TEST(a_memfd_is_saved_as_it_was),
		TEST(huge_pages_are_saved_as_they_were),
		TEST(system_calls_are_caught),
		TEST(discarded_pages_are_saved_first),
		TEST(pages_that_go_unseen_end_the_save),
		TEST(a_save_is_canceled),
		TEST(a_full_disk_ends_the_save_and_not_the_guest),
		TEST(whoever_is_killed_leaves_the_old_file),
		TEST(a_difference_has_what_was_written_between_two_instants),
		TEST(what_cannot_be_caught_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
