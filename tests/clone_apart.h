/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * clone_apart.h - a clone in a process of its own, which can be stopped and killed. It compares what it finds in its
 * memory with that of the instant, which it shares with the source. It is forked before there are threads, and never
 * comes back to the test: what cannot be ends it.
 */
#ifndef GM_TESTS_CLONE_APART_H
#define GM_TESTS_CLONE_APART_H

#include "one_clone_run.h"

#include <fcntl.h>
#include <guestmem/guard.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Shared. */
struct apart_seen {
	_Atomic bool is_asked; /* for memory */
	_Atomic bool runs;
	_Atomic bool park; /* soon after its guest runs nothing is stepped */
	_Atomic uint64_t looked;
	_Atomic uint64_t lost; /* pages that could not be read */
	_Atomic uint64_t wrong;
};

struct apart {
	pid_t pid;
	struct place place;
	uint64_t low;
	uint64_t high;
	bool hold; /* it never has memory */
	struct apart_seen *seen;
	uint8_t *instant;
	size_t len;
	/* The process's own. */
	struct gm_migrate_in *in;
	struct gm_space *space;
	struct gm_reader *reader;
};

static inline void must_be(bool right)
{
	if (!right)
		_exit(3);
}

static inline void apart_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct apart *a = ctx;

	a->seen->is_asked = true;
	if (a->hold)
		return;
	must_be(!gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36), &a->space, NULL));
	for (size_t i = 0; i < nr; i++) {
		const struct gm_block_opts block = {.size = sizeof(block), .len = regions[i].len};

		must_be(!gm_space_add(a->space,
			GM_OPTS(gm_region_desc, .gpa = regions[i].gpa, .backing = &block), NULL,
			NULL));
	}
	must_be(!gm_reader_create(a->space, "apart", &a->reader, NULL));
	gm_migrate_in_prepared(a->in, a->space, 0, NULL);
}

static inline void apart_load(void *ctx, const void *data, size_t len)
{
	struct apart *a = ctx;

	must_be(len == sizeof(STATE_TEXT) && memcmp(data, STATE_TEXT, len) == 0);
	gm_migrate_in_loaded(a->in, 0, NULL);
}

/* Its guest: page by page, from anywhere. */
static inline void *be_apart(void *ctx)
{
	struct apart *a = ctx;
	struct rng rng = {test_seed(300)};
	uint8_t now[PAGE];

	for (;;) {
		uint64_t page = rng_below(&rng, (a->low + a->high) / PAGE);
		uint64_t gpa = page < a->low / PAGE ? LOW_AT + page * PAGE
						    : HIGH_AT + (page - a->low / PAGE) * PAGE;

		if (read_page(a->reader, gpa, now))
			a->seen->lost++;
		else if (memcmp(now, a->instant + page * PAGE, PAGE) != 0)
			a->seen->wrong = page + 1;
		a->seen->looked++;
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
	return NULL;
}

static inline void apart_run(void *ctx)
{
	struct apart *a = ctx;
	pthread_t guest;

	must_be(!pthread_create(&guest, NULL, be_apart, a));
	gm_migrate_in_started(a->in, 0);
	a->seen->runs = true;
}

static inline void run_apart(struct apart *a)
{
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = apart_prepare,
		.load = apart_load,
		.run = apart_run,
		.ctx = a};
	uint32_t steps = 0;

	must_be(!prctl(PR_SET_PDEATHSIG, SIGKILL));
	/* Pages that are lost are poisoned. */
	must_be(!gm_guard_install());
	must_be(!fcntl(a->place.listener, F_SETFL, O_NONBLOCK));
	must_be(!gm_migrate_in_create(NULL, &ops, &a->in, NULL));
	for (;;) {
		struct pollfd wait[2] = {{.fd = a->place.listener, .events = POLLIN},
			{.fd = gm_migrate_in_fd(a->in), .events = POLLIN}};
		int fd;

		poll(wait, 2, 10);
		fd = accept4(a->place.listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			gm_migrate_in_connection(a->in, fd);
		must_be(!gm_migrate_in_step(a->in, 0));
		/* It says that it runs, and takes some pages. */
		steps += a->seen->runs;
		while (steps > 2 && a->seen->park)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

static inline void begin_apart(struct apart *a, int family)
{
	const int prot = PROT_READ | PROT_WRITE;

	a->len = sizeof(*a->seen) + a->low + a->high;
	a->seen = mmap(NULL, a->len, prot, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(a->seen != MAP_FAILED);
	a->instant = (uint8_t *)(a->seen + 1);
	a->seen->park = true;
	a->place = listen_somewhere(family);
	a->pid = fork();
	assert_true(a->pid >= 0);
	if (a->pid == 0)
		run_apart(a);
}

/* Now, at whatever it is; nobody listens there any more. */
static inline void kill_apart(struct apart *a)
{
	int status;

	assert_int_equal(kill(a->pid, SIGKILL), 0);
	assert_int_equal(waitpid(a->pid, &status, 0), a->pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("the clone has ended before, with status 0x%x", (unsigned int)status);
	close(a->place.listener);
}

static inline void end_apart(struct apart *a)
{
	assert_int_equal(a->seen->wrong, 0);
	munmap(a->seen, a->len);
}

#endif
