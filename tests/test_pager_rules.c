/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_rules.c - what the kernel can answer, each once: injected where it cannot be brought about, and real;
 * memory of other processes, and handlers that are killed.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fault.h"
#include "one_pager.h"
#include "sys/uffd.h"

#define LEN MIB(1)

/* ---- injected ---- */

/* A touch meets this answer to its first installation, and has its bytes all the same. */
static void touch_through(int error, int64_t field)
{
	uint8_t *at = map_anon(LEN);

	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .error = error, .field = field});
	start_stepping();
	assert_true(has_words(at + 3 * PAGE, 3 * PAGE, PAGE));
	stop_stepping();
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	if (error == EAGAIN) {
		assert_int_equal(stats().parked, 1);
		assert_int_equal(stats().again, 1);
	}
	assert_int_equal(stats().poisoned, 0);
	stop_pager();
	munmap(at, LEN);
}

/* R8, and fcvm's and userfaultfd-rs's: both mean that nothing was done. */
static void an_unread_event_is_waited_for_in_both_encodings(void **state)
{
	(void)state;
	touch_through(EAGAIN, -EAGAIN);
	touch_through(EAGAIN, 0);
	touch_through(ENOMEM, 0);
	touch_through(EINTR, 0);
}

static void a_partial_copy_goes_on_behind(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint64_t area;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), &area, &err));
	assert_int_equal(gm_pager_prefetch(pager, area, 0, 16 * PAGE), 0);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .short_len = 4 * PAGE});
	while (area_info(area).present < 16 * PAGE)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(of_source.reads, 1);
	assert_true(has_words(at, 0, 16 * PAGE));
	stop_pager();
	munmap(at, LEN);
}

/* It is tried on, and the embedder hears of it. */
static void a_refusal_that_lasts_is_told(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint64_t area;

	(void)state;
	start_pager_with(LEN, (struct gm_pager_opts){.stuck_after = 3, .retry_ns = 10000});
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), &area, &err));
	assert_int_equal(gm_pager_prefetch(pager, area, 0, PAGE), 0);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_uffd_fill,
		.nth = 1,
		.forever = true,
		.error = EAGAIN,
		.field = -EAGAIN});
	while (nr_told == 0)
		assert_true(gm_pager_step(pager, 100) >= 0);
	assert_int_equal(told[0].kind, GM_PAGER_STUCK);
	assert_int_equal(told[0].code, -EAGAIN);
	assert_true(fault_hits() >= 3);
	fault_set(NULL);
	while (area_info(area).present == 0)
		assert_true(gm_pager_step(pager, 100) >= 0);
	assert_true(has_words(at, 0, PAGE));
	stop_pager();
	munmap(at, LEN);
}

static int make_and_fill(void *ctx)
{
	struct gm_source *bytes;
	struct gm_pager *mine;
	uint64_t *data = ctx;
	uint8_t *at = map_anon(16 * PAGE);
	int rc = gm_source_memory(data, 16 * PAGE, &bytes, NULL);

	if (rc) {
		munmap(at, 16 * PAGE);
		return rc;
	}
	rc = gm_pager_create(NULL, &mine, NULL);
	if (!rc) {
		rc = gm_pager_add_range(mine, at, 16 * PAGE, AREA(.source = bytes), NULL, NULL);
		fault_disarm();
		assert_int_equal(
			gm_pager_stop(mine, rc ? GM_PAGER_POISON : GM_PAGER_COMPLETE, 60000, NULL),
			0);
		if (!rc)
			assert_memory_equal(at, data, 16 * PAGE);
		assert_int_equal(gm_pager_destroy(mine, NULL), 0);
	}
	gm_source_destroy(bytes);
	munmap(at, 16 * PAGE);
	return rc;
}

static void every_failure_on_the_way_is_undone(void **state)
{
	static uint64_t data[16 * 512];

	(void)state;
	fill_words(data, 0, sizeof(data));
	assert_true(fault_sweep(make_and_fill, data) > 20);
}

/* ---- real ---- */

struct toucher {
	pthread_t thread;
	uint8_t *at;
	_Atomic uint64_t value;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;

	t->value = *(volatile uint64_t *)t->at;
	return NULL;
}

/* It waits, and the pager is not stepped. */
static void start_touching(struct toucher *t, uint8_t *at, int uffd)
{
	struct pollfd in = {.fd = uffd, .events = POLLIN};

	t->at = at;
	t->value = 0;
	assert_int_equal(pthread_create(&t->thread, NULL, touch, t), 0);
	assert_int_equal(poll(&in, 1, 60000), 1);
	assert_int_equal(t->value, 0);
}

/* R9: nobody is woken by the kernel. */
static void a_page_that_is_there_already_is_woken(void **state)
{
	uint8_t *at = map_anon(LEN);
	struct toucher t;
	uint64_t words[512];
	struct uffdio_copy copy = {.len = PAGE, .mode = UFFDIO_COPY_MODE_DONTWAKE};
	uint64_t area;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), &area, &err));
	start_touching(&t, at, area_info(area).uffd);
	fill_words(words, 0, PAGE);
	copy.dst = (uintptr_t)at;
	copy.src = (uintptr_t)words;
	assert_int_equal(ioctl(area_info(area).uffd, UFFDIO_COPY, &copy), 0);
	while (stats().faults == 0)
		assert_true(gm_pager_step(pager, 1000) >= 0);
	pthread_join(t.thread, NULL);
	assert_true(t.value == word_at(0));
	stop_pager();
	munmap(at, LEN);
}

/* A range over a border of mappings is -ENOENT as a whole. */
static void ranges_are_cut_where_mappings_end(void **state)
{
	uint8_t *at = map_anon(LEN);
	uint64_t area;

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), &area, &err));
	assert_int_equal(mprotect(at + 3 * PAGE, 2 * PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(at + 9 * PAGE, PAGE, PROT_NONE), 0);
	/* Nobody says that this is gone. */
	assert_int_equal(munmap(at + 11 * PAGE, PAGE), 0);
	assert_int_equal(gm_pager_prefetch(pager, area, 0, 16 * PAGE), 0);
	while (area_info(area).present < 15 * PAGE)
		assert_true(gm_pager_step(pager, 0) >= 0);
	assert_int_equal(area_info(area).removed, PAGE);
	assert_int_equal(mprotect(at + 9 * PAGE, PAGE, PROT_READ), 0);
	assert_true(has_words(at, 0, 11 * PAGE));
	assert_true(has_words(at + 12 * PAGE, 12 * PAGE, 4 * PAGE));
	stop_pager();
	munmap(at, LEN);
}

/* R5: MADV_FREE says nothing, and what a guest wrote does not become what it was before. */
static void what_was_there_and_is_gone_is_zeros(void **state)
{
	uint8_t *at = map_anon(LEN);

	(void)state;
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	start_stepping();
	memset(at, 1, PAGE);
	assert_int_equal(madvise(at, PAGE, MADV_DONTNEED), 0);
	assert_true(has_zeros(at, PAGE));
	stop_stepping();
	assert_int_equal(stats().zeros, 1);
	stop_pager();
	munmap(at, LEN);
}

static void the_end_poisons_if_it_is_told_to(void **state)
{
	uint8_t *at = map_anon(LEN);
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	start_stepping();
	assert_true(has_words(at, 0, PAGE));
	stop_stepping();
	assert_ok(gm_pager_stop(pager, GM_PAGER_POISON, -1, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
	assert_true(has_words(at, 0, PAGE));
	assert_int_equal(write(fds[1], at + PAGE, 8), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(write(fds[1], at + LEN - 8, 8), -1);
	close(fds[0]);
	close(fds[1]);
	munmap(at, LEN);
}

/* ---- in the thread that faults ---- */

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int rc = gm_pager_resolve(pager, info->si_addr);

	(void)sig;
	(void)context;
	if (rc && rc != -EAGAIN)
		_exit(99);
}

static void the_thread_that_faults_resolves(void **state)
{
	struct sigaction old;
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	int fd = memfd_create("sigbus", MFD_CLOEXEC);
	uint8_t *at;

	(void)state;
	assert_int_equal(ftruncate(fd, (off_t)LEN), 0);
	at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	start_pager(LEN);
	assert_ok(gm_pager_add_range(pager, at, LEN / 2,
		AREA(.source = source, .flags = GM_PAGER_FILE | GM_PAGER_SIGBUS, .fd = fd), NULL,
		&err));
	assert_ok(gm_pager_add_range(pager, at + LEN / 2, LEN / 2,
		AREA(.source = source, .offset = LEN / 2, .flags = GM_PAGER_SIGBUS,
			.way = GM_PAGER_COPY),
		NULL, &err));
	assert_int_equal(gm_pager_resolve(pager, &old), -ENOENT);
	sigaction(SIGBUS, &act, &old);
	assert_true(has_words(at, 0, LEN));
	at[0] = 5;
	assert_int_equal(madvise(at, LEN / 2, MADV_DONTNEED), 0);
	assert_int_equal(at[0], 5);
	sigaction(SIGBUS, &old, NULL);
	assert_int_equal(stats().loaded, LEN / PAGE);
	stop_pager();
	munmap(at, LEN);
	close(fd);
}

/* ---- other processes ---- */

static int raw_uffd(uint8_t *at, uint64_t len, bool shared)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = shared ? UFFD_FEATURE_MINOR_SHMEM : 0};
	struct uffdio_register reg = {.range = {(uintptr_t)at, len},
		.mode = UFFDIO_REGISTER_MODE_MISSING | (shared ? UFFDIO_REGISTER_MODE_MINOR : 0)};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	return fd;
}

/* A handler in a process of its own: until it is killed. @file: -1, or what is behind the memory. */
static pid_t start_handler(int uffd, const uint8_t *at, int states, int file, uint32_t more)
{
	pid_t pid = fork();
	uint64_t id;

	if (pid)
		return pid;
	start_pager(LEN);
	if (gm_pager_add_uffd(pager, uffd, 0, &id, &err) ||
		gm_pager_add_mapping(pager, id, (uintptr_t)at, LEN,
			AREA(.source = source, .states = states, .fd = file,
				.flags = GM_PAGER_STATES | more | (file >= 0 ? GM_PAGER_FILE : 0)),
			NULL, &err))
		_exit(1);
	gm_pager_run(pager);
	_exit(2);
}

struct reader_of {
	pthread_t thread;
	uint8_t *at;
	uint64_t seed;
	_Atomic uint64_t wrong;
};

/* Has the source's bytes, but for the first word, which whoever has read it inverts. */
static bool is_right(uint8_t *page, uint64_t off)
{
	uint64_t first = __atomic_load_n((uint64_t *)page, __ATOMIC_RELAXED);

	return (first == word_at(off) || first == ~word_at(off)) &&
	       has_words(page + 8, off + 8, PAGE - 8);
}

static void *read_all(void *arg)
{
	struct reader_of *r = arg;

	for (uint64_t page = 0; page < LEN / PAGE; page++) {
		uint64_t off = (page * 77 + r->seed) % (LEN / PAGE) * PAGE;

		if (!is_right(r->at + off, off))
			r->wrong++;
		__atomic_store_n((uint64_t *)(r->at + off), ~word_at(off), __ATOMIC_RELAXED);
		if (page % 8 == 0)
			usleep(1);
	}
	return NULL;
}

/* Handlers are killed while two threads read and write all pages. Returns how many. */
static unsigned int kill_handlers(uint8_t *at, int file, unsigned long round)
{
	int uffd = raw_uffd(at, LEN, file >= 0);
	int states = memfd_create("states", MFD_CLOEXEC);
	struct reader_of r[2] = {{.at = at, .seed = 1}, {.at = at, .seed = 131}};
	unsigned int kills = 0;
	pid_t pid;

	assert_int_equal(ftruncate(states, (off_t)gm_pager_states_len(LEN / PAGE)), 0);
	pid = start_handler(uffd, at, states, file, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_all, &r[i]), 0);
	for (; kills < 3; kills++) {
		usleep((useconds_t)(500 + round * 700 % 3000));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		pid = start_handler(uffd, at, states, file, GM_PAGER_TAKEOVER);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(r[i].thread, NULL);
		assert_int_equal(r[i].wrong, 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* What was written is not filled again. */
	for (uint64_t off = 0; off < LEN; off += PAGE) {
		assert_true(*(uint64_t *)(at + off) == ~word_at(off));
		assert_true(has_words(at + off + 8, off + 8, PAGE - 8));
	}
	close(uffd);
	close(states);
	return kills;
}

/* R15: killed at any moment, and nobody sees a zero. */
static void a_killed_handler_is_taken_over(void **state)
{
	unsigned long rounds = support_scale(8);
	unsigned int kills = 0;

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		uint8_t *at = map_anon(LEN);
		int file = memfd_create("memory", MFD_CLOEXEC);

		kills += kill_handlers(at, -1, round);
		munmap(at, LEN);
		/* Of a file: filled pages are continued. */
		assert_int_equal(ftruncate(file, (off_t)LEN), 0);
		at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		assert_true(at != MAP_FAILED);
		kills += kill_handlers(at, file, round);
		munmap(at, LEN);
		close(file);
	}
	if (getenv("GM_SOAK"))
		printf("figure: takeovers %u\n", kills);
}

/* R4: its owner may leave it blocking, or make it so; R14: death is seen when something is installed. */
static void a_process_that_is_gone_is_told(void **state)
{
	uint8_t *at = map_anon(LEN);
	int fds[2];
	uint64_t id;
	uint64_t area;
	pid_t pid;
	int uffd;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	/* Both have the fd: the memory is the child's. */
	pid = fork();
	if (pid == 0) {
		int mine = raw_uffd(at, LEN, false);

		dup2(mine, 100);
		(void)!write(fds[1], &mine, sizeof(mine));
		pause();
		_exit(0);
	}
	assert_int_equal(read(fds[0], &uffd, sizeof(uffd)), sizeof(uffd));
	id = (uint64_t)syscall(SYS_pidfd_open, pid, 0);
	uffd = (int)syscall(SYS_pidfd_getfd, (int)id, 100, 0);
	close((int)id);
	assert_true(uffd >= 0);
	start_pager(LEN);
	assert_ok(gm_pager_add_uffd(pager, uffd, pid, &id, &err));
	assert_ok(gm_pager_add_mapping(
		pager, id, (uintptr_t)at, LEN, AREA(.source = source), &area, &err));
	assert_int_equal(gm_pager_prefetch(pager, area, 0, 4 * PAGE), 0);
	while (area_info(area).present < 4 * PAGE)
		assert_true(gm_pager_step(pager, 10) >= 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(gm_pager_prefetch(pager, area, 8 * PAGE, 4 * PAGE), 0);
	while (nr_told == 0)
		assert_true(gm_pager_step(pager, 10) >= 0);
	assert_int_equal(told[0].kind, GM_PAGER_ENDED);
	assert_int_equal(told[0].code, -ESRCH);
	stop_pager();
	close(uffd);
	close(fds[0]);
	close(fds[1]);
	munmap(at, LEN);
}

/* R19: a fault that no mapping explains is an error there, and not a thread that waits for ever. */
static void a_fault_outside_of_the_map_is_poisoned(void **state)
{
	uint8_t *at = map_anon(LEN);
	int uffd = raw_uffd(at, LEN, false);
	int fds[2];
	uint64_t id;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start_pager(LEN);
	assert_ok(gm_pager_add_uffd(pager, uffd, 0, &id, &err));
	assert_ok(gm_pager_add_mapping(
		pager, id, (uintptr_t)at, LEN / 2, AREA(.source = source), NULL, &err));
	assert_fails(gm_pager_add_mapping(pager, id, (uintptr_t)at + PAGE, PAGE,
			     AREA(.source = source), NULL, &err),
		EEXIST, "already");
	start_stepping();
	assert_true(has_words(at, 0, LEN / 2));
	assert_int_equal(write(fds[1], at + LEN / 2, 8), -1);
	assert_int_equal(errno, EFAULT);
	stop_stepping();
	assert_int_equal(told[0].kind, GM_PAGER_STRAY);
	assert_int_equal(stats().stray, 1);
	stop_pager();
	close(uffd);
	close(fds[0]);
	close(fds[1]);
	munmap(at, LEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unread_event_is_waited_for_in_both_encodings),
		cmocka_unit_test(a_partial_copy_goes_on_behind),
		cmocka_unit_test(a_refusal_that_lasts_is_told),
		cmocka_unit_test(every_failure_on_the_way_is_undone),
		cmocka_unit_test(a_page_that_is_there_already_is_woken),
		cmocka_unit_test(ranges_are_cut_where_mappings_end),
		cmocka_unit_test(what_was_there_and_is_gone_is_zeros),
		cmocka_unit_test(the_end_poisons_if_it_is_told_to),
		cmocka_unit_test(the_thread_that_faults_resolves),
		cmocka_unit_test(a_killed_handler_is_taken_over),
		cmocka_unit_test(a_process_that_is_gone_is_told),
		cmocka_unit_test(a_fault_outside_of_the_map_is_poisoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
