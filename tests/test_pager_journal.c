/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_journal.c - a handler that dies between reading an event and applying it: whoever takes over applies it,
 * or pages that were given back would have the source's bytes again.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fault.h"
#include "one_pager.h"
#include "random.h"
#include "services/pager.h"

#define PAGES 256u
#define LEN (PAGES * PAGE)

static uint8_t *at;
static int uffd;
static int states;
static int journal;

static int memfd_of(uint64_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	return fd;
}

static void set_up(void)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	at = map_anon(LEN);
	reg.range = (struct uffdio_range){(uintptr_t)at, LEN};
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	assert_true(uffd >= 0);
	assert_int_equal(ioctl(uffd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	states = memfd_of(gm_pager_states_len(PAGES));
	journal = memfd_of(GM_PAGER_JOURNAL_LEN);
}

static void tear_down(void)
{
	close(uffd);
	close(states);
	close(journal);
	munmap(at, LEN);
}

static void begin(uint32_t more)
{
	uint64_t id;

	start_pager_with(
		LEN, (struct gm_pager_opts){
			     .flags = GM_PAGER_JOURNAL, .journal = journal, .retry_ns = 20000});
	assert_ok(gm_pager_add_uffd(pager, uffd, 0, &id, &err));
	assert_ok(gm_pager_add_mapping(pager, id, (uintptr_t)at, LEN,
		AREA(.source = source, .flags = GM_PAGER_STATES | more, .states = states), NULL,
		&err));
}

static void *discard(void *arg)
{
	(void)arg;
	return (void *)(intptr_t)madvise(at, 8 * PAGE, MADV_DONTNEED);
}

static void what_was_read_is_applied_by_the_next(void **state)
{
	struct pager_journal *j;
	pthread_t thread;
	void *rc;
	ssize_t got;

	(void)state;
	set_up();
	begin(0);
	assert_true(gm_pager_step(pager, 0) >= 0);
	/* As the kernel does it for a handler that is killed before it looks. */
	j = mmap(NULL, GM_PAGER_JOURNAL_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, journal, 0);
	assert_true(j != MAP_FAILED);
	assert_int_equal(pthread_create(&thread, NULL, discard, NULL), 0);
	j->uffd = 1;
	do {
		got = read(uffd, j->msgs, sizeof(j->msgs));
	} while (got < 0 && errno == EAGAIN);
	assert_int_equal(got, sizeof(j->msgs[0]));
	assert_int_equal(j->msgs[0].event, UFFD_EVENT_REMOVE);
	/* That of a fork is a number which means nothing here, and one too long goes nowhere. */
	j->msgs[1] = (struct uffd_msg){.event = UFFD_EVENT_FORK, .arg.fork.ufd = (uint32_t)uffd};
	j->msgs[2] = (struct uffd_msg){
		.event = UFFD_EVENT_REMOVE, .arg.remove = {UINT64_MAX - 4095, UINT64_MAX}};
	pthread_join(thread, &rc);
	assert_null(rc);
	assert_ok(gm_pager_stop(pager, GM_PAGER_HANDOVER, 0, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);

	begin(GM_PAGER_TAKEOVER);
	assert_true(gm_pager_step(pager, 0) >= 0);
	assert_int_equal(j->msgs[0].event, 0);
	assert_int_equal(j->msgs[2].event, 0);
	start_stepping();
	assert_true(has_zeros(at, 8 * PAGE));
	assert_true(has_words(at + 8 * PAGE, 8 * PAGE, LEN - 8 * PAGE));
	assert_true(fcntl(uffd, F_GETFD) >= 0);
	stop_pager();
	munmap(j, GM_PAGER_JOURNAL_LEN);
	tear_down();
}

/* ---- killed at any moment ---- */

static pid_t handler(uint32_t more)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	begin(more);
	gm_pager_run(pager);
	_exit(2);
}

struct guest {
	uint64_t seed;
	_Atomic uint64_t wrong;
	_Atomic bool done;
};

/* Each page as it was saved until it is given back, then zeros. Most are given back before they were touched. */
static void *work(void *arg)
{
	struct guest *g = arg;
	struct rng rng = {g->seed};
	bool gone[PAGES] = {false};

	for (uint64_t op = 0; op < 8 * PAGES; op++) {
		uint64_t page = rng_below(&rng, PAGES);
		uint8_t *to = at + page * PAGE;

		if (!gone[page] && rng_below(&rng, 4)) {
			g->wrong += madvise(to, PAGE, MADV_DONTNEED) != 0;
			gone[page] = true;
		}
		g->wrong += gone[page] ? !has_zeros(to, PAGE) : !has_words(to, page * PAGE, PAGE);
	}
	g->done = true;
	return NULL;
}

static void discards_survive_kills(void **state)
{
	unsigned long rounds = support_scale(12);
	unsigned int kills = 0;

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		struct guest g = {.seed = test_seed(round + 1)};
		pthread_t thread;
		pid_t pid;

		set_up();
		pid = handler(0);
		assert_int_equal(pthread_create(&thread, NULL, work, &g), 0);
		while (!g.done) {
			usleep((useconds_t)(1000 + kills * 331 % 2000));
			kill(pid, SIGKILL);
			assert_int_equal(waitpid(pid, NULL, 0), pid);
			kills++;
			pid = handler(GM_PAGER_TAKEOVER);
		}
		pthread_join(thread, NULL);
		assert_int_equal(g.wrong, 0);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		tear_down();
	}
	if (getenv("GM_SOAK"))
		printf("figure: takeovers-with-discards %u\n", kills);
}

static void a_journal_that_cannot_be_mapped_is_refused(void **state)
{
	struct gm_pager_opts opts = {
		.size = sizeof(opts), .flags = GM_PAGER_JOURNAL, .journal = -1};

	(void)state;
	assert_fails(gm_pager_create(&opts, &pager, &err), EBADF, "cannot be made");
	opts.flags = 0x4u;
	assert_fails(gm_pager_create(&opts, &pager, &err), EINVAL, "flag");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_read_is_applied_by_the_next),
		cmocka_unit_test(discards_survive_kills),
		cmocka_unit_test(a_journal_that_cannot_be_mapped_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
