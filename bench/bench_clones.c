/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_clones.c - live clones in processes of their own: how soon they run, how long the source is paused, and what
 * its writes cost while they are filled.
 *
 * usage: bench_clones [--json FILE] [--pairs N]
 *
 * Of writes: each page is written once, in an order of no pattern, by one thread; first while nobody watches, then from
 * the instant on, while clones are filled so slowly that nearly each page has to be kept for them. Beside that stands
 * the same by a loop of nothing but userfaultfd: protect, read the fault, copy the page, lift. They run in turn, and
 * the best of each counts.
 */
#include "moved.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <guestmem/migrate_clone.h>
#include <guestmem/pager_run.h>

#include "bench.h"

#define MIB(n) ((uint64_t)(n) << 20)
#define PAGE UINT64_C(4096)
#define MOST 4u
#define WAIT_MS 10
#define PATIENCE_NS UINT64_C(120000000000)

/* In memory that all processes share. */
struct shared {
	_Atomic uint32_t ready;
	_Atomic bool stop;
	_Atomic uint32_t failed;
	_Atomic uint64_t ran[MOST]; /* when its guest could run */
	uint64_t began;
	uint64_t pause_ns;
	uint64_t protect_ns; /* of the bare loop */
	uint64_t unwatched_ns;
	uint64_t watched_ns;
	uint64_t copies;
};

static bool quick;
static struct shared *m;

static uint64_t memory_len(void)
{
	return quick ? MIB(64) : MIB(256);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
}

/* ---- a pass of writes ---- */

static uint64_t write_each(uint8_t *memory)
{
	uint64_t pages = memory_len() / PAGE;
	uint64_t began = moved_now();

	/* An odd number of pages on: each comes once. */
	for (uint64_t i = 0, page = 0; i < pages; i++) {
		*(volatile uint64_t *)(memory + page * PAGE + page % 512 * 8) = i;
		page = (page + 40503) % pages;
	}
	return moved_now() - began;
}

static uint64_t write_unwatched(uint8_t *memory)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		uint64_t took = write_each(memory);

		best = took < best ? took : best;
	}
	return best;
}

/* ---- a clone ---- */

struct clone {
	struct gm_migrate_in *in;
	struct gm_space *space;
	uint32_t number;
	int fd;
};

static struct gm_space *make_space(uint8_t **ret_memory)
{
	const struct gm_block_opts block = {
		.size = sizeof(block), .len = memory_len(), .pages = {{.kind = GM_PAGE_BASE}}};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_error err = {.code = 0};
	struct gm_space *space;
	uint64_t id;

	bench_need(!gm_space_create(NULL, &space, &err) &&
			   !gm_space_add(
				   space, GM_OPTS(gm_region_desc, .backing = &block), &id, &err) &&
			   !gm_space_region(space, id, &info),
		"memory of a guest", err.text);
	*ret_memory = info.hva;
	return space;
}

static void there_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct clone *c = ctx;

	(void)regions;
	(void)nr;
	gm_migrate_in_prepared(c->in, c->space, 0, NULL);
}

static void there_load(void *ctx, const void *data, size_t len)
{
	(void)data;
	gm_migrate_in_loaded(((struct clone *)ctx)->in, len == 5 ? 0 : -EINVAL, "a state");
}

static void there_run(void *ctx)
{
	struct clone *c = ctx;

	m->ran[c->number] = moved_now();
	gm_migrate_in_started(c->in, 0);
}

static void there_told(void *ctx, const struct gm_migrate_event *event)
{
	(void)ctx;
	m->failed += event->tell == GM_MIGRATE_TOLD_FAILED;
}

static int be_clone(void *ctx)
{
	struct clone *c = ctx;
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = there_prepare,
		.load = there_load,
		.run = there_run,
		.told = there_told,
		.ctx = c};
	struct gm_error err = {.code = 0};
	uint8_t *memory;
	int rc = 0;

	c->space = make_space(&memory);
	bench_need(!gm_migrate_in_create(NULL, &ops, &c->in, &err) &&
			   !gm_migrate_in_connection(c->in, c->fd),
		"a clone", err.text);
	m->ready++;
	while (!rc && !m->stop && !m->failed)
		rc = gm_migrate_in_step(c->in, WAIT_MS);
	return rc && !m->stop;
}

/* ---- the source ---- */

struct source {
	uint32_t nr;
	int fds[MOST];
	struct gm_migrate_clone *clone;
	struct gm_pager *pager;
	uint8_t *memory;
	_Atomic bool pause;
	_Atomic bool runs;
	_Atomic bool written;
};

static int on_connect(void *ctx, uint32_t clone, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct source *s = ctx;

	(void)connection;
	(void)index;
	*ret_fd = s->fds[clone];
	s->fds[clone] = -1;
	return *ret_fd < 0 ? -ECONNREFUSED : 0;
}

static void on_pause(void *ctx)
{
	((struct source *)ctx)->pause = true;
}

static void on_save(void *ctx)
{
	gm_migrate_clone_state(((struct source *)ctx)->clone, "state", 5);
}

static void on_run(void *ctx)
{
	((struct source *)ctx)->runs = true;
}

static void on_told(void *ctx, uint32_t clone, const struct gm_migrate_event *event)
{
	(void)ctx;
	(void)clone;
	if (event->tell != GM_MIGRATE_TOLD_FAILED)
		return;
	fprintf(stderr, "source: %s\n", event->why);
	m->failed++;
}

/* It writes until it is paused; and when it goes on. */
static void *guest(void *ctx)
{
	struct source *s = ctx;

	for (uint64_t i = 0; !s->pause; i++)
		*(volatile uint64_t *)(s->memory + i * PAGE % memory_len()) = i;
	gm_migrate_clone_paused(s->clone, 0);
	while (!s->runs)
		sched_yield();
	m->watched_ns = write_each(s->memory);
	s->written = true;
	return NULL;
}

static void *step_pager(void *ctx)
{
	return (void *)(intptr_t)gm_pager_run(ctx);
}

static void make_source(struct source *s)
{
	const struct gm_migrate_clone_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.save = on_save,
		.run = on_run,
		.told = on_told,
		.ctx = s};
	/* Ten seconds for all; room for all. */
	const struct gm_migrate_clone_opts opts = {
		.size = sizeof(opts), .room = memory_len(), .out.rate = memory_len() / 10};
	struct gm_error err = {.code = 0};
	struct gm_space *space = make_space(&s->memory);

	memset(s->memory, 1, memory_len());
	bench_need(
		!gm_pager_create(NULL, &s->pager, &err) &&
			!gm_pager_add_space(s->pager, space, 0, memory_len(),
				GM_OPTS(gm_pager_area_opts, .way = GM_PAGER_PROTECT), NULL, &err) &&
			!gm_migrate_clone_create(
				space, s->pager, s->nr, &opts, &ops, &s->clone, &err),
		"a source of clones", err.text);
}

static bool all_run(const struct source *s)
{
	bool all = true;

	for (uint32_t i = 0; i < s->nr; i++)
		all &= m->ran[i] != 0;
	return all;
}

/* All end with the process. */
static int be_source(void *ctx)
{
	struct source *s = ctx;
	struct gm_migrate_clone_stats stats = {.size = sizeof(stats)};
	struct gm_error err = {.code = 0};
	pthread_t threads[2];
	int rc;

	make_source(s);
	while (m->ready < s->nr)
		nap();
	m->unwatched_ns = write_unwatched(s->memory);
	bench_need(!pthread_create(&threads[0], NULL, step_pager, s->pager) &&
			   !pthread_create(&threads[1], NULL, guest, s),
		"threads", NULL);
	m->began = moved_now();
	rc = gm_migrate_clone_start(s->clone, &err);
	while (!rc && !m->failed && !(s->written && all_run(s)))
		rc = gm_migrate_clone_step(s->clone, WAIT_MS);
	bench_need(!rc, "clones", NULL);
	gm_migrate_clone_stats(s->clone, &stats);
	m->pause_ns = stats.pause_ns;
	m->copies = stats.pre_images;
	m->stop = true;
	return 0;
}

static void clone_run(uint32_t nr)
{
	struct clone clones[MOST];
	struct source s = {.nr = nr};
	int pids[MOST + 1];

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < nr; i++) {
		int pair[2];

		moved_sockets(false, pair);
		s.fds[i] = pair[0];
		clones[i] = (struct clone){.number = i, .fd = pair[1]};
	}
	for (uint32_t i = 0; i < nr; i++)
		pids[i] = moved_child(be_clone, &clones[i]);
	pids[nr] = moved_child(be_source, &s);
	for (uint32_t i = 0; i < nr; i++) {
		close(s.fds[i]);
		close(clones[i].fd);
	}
	for (uint32_t i = 0; i <= nr; i++)
		moved_wait(pids[i]);
	bench_need(!m->failed, "a clone failed", NULL);
}

/* ---- the bare loop ---- */

struct bare {
	int uffd;
	uint8_t *memory;
	uint8_t *copies;
};

static void protect(const struct bare *b, uint64_t at, uint64_t len, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = {(uintptr_t)at, len}, .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0};

	bench_need(!ioctl(b->uffd, UFFDIO_WRITEPROTECT, &wp), "write protection", strerror(errno));
}

static void *lift(void *ctx)
{
	struct bare *b = ctx;

	for (uint64_t i = 0; i < memory_len() / PAGE; i++) {
		struct uffd_msg msg;
		uint64_t at;

		bench_need(read(b->uffd, &msg, sizeof(msg)) == sizeof(msg), "a fault",
			strerror(errno));
		at = msg.arg.pagefault.address & ~(PAGE - 1);
		memcpy(b->copies + i * PAGE, (const void *)(uintptr_t)at, PAGE);
		protect(b, at, PAGE, false);
	}
	return NULL;
}

static int be_bare(void *ctx)
{
	struct bare *b = ctx;
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_WP};
	pthread_t thread;
	uint64_t began;

	b->memory = aligned_alloc(MIB(2), memory_len());
	b->copies = aligned_alloc(MIB(2), memory_len());
	bench_need(b->memory && b->copies, "memory", NULL);
	madvise(b->memory, memory_len(), MADV_NOHUGEPAGE);
	memset(b->memory, 1, memory_len());
	memset(b->copies, 1, memory_len());
	m->unwatched_ns = write_unwatched(b->memory);
	b->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range = (struct uffdio_range){(uintptr_t)b->memory, memory_len()};
	bench_need(b->uffd >= 0 && !ioctl(b->uffd, UFFDIO_API, &api) &&
			   !ioctl(b->uffd, UFFDIO_REGISTER, &reg),
		"userfaultfd", strerror(errno));
	bench_need(!pthread_create(&thread, NULL, lift, b), "a thread", NULL);
	began = moved_now();
	protect(b, (uintptr_t)b->memory, memory_len(), true);
	m->protect_ns = moved_now() - began;
	m->watched_ns = write_each(b->memory);
	pthread_join(thread, NULL);
	return 0;
}

static void bare_run(void)
{
	struct bare b = {.uffd = -1};

	memset(m, 0, sizeof(*m));
	moved_wait(moved_child(be_bare, &b));
}

/* ---- rows ---- */

static double least(double a, double b)
{
	return a < b ? a : b;
}

struct best {
	double started_ms;
	double pause_ms;
	double slower; /* than unwatched */
	double write_us;
};

static void take_best(struct best *best, uint32_t nr)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < nr; i++)
		last = m->ran[i] > last ? m->ran[i] : last;
	best->started_ms = least(best->started_ms, (double)(last - m->began) / 1e6);
	best->pause_ms = least(best->pause_ms, (double)(nr ? m->pause_ns : m->protect_ns) / 1e6);
	best->slower = least(best->slower, (double)m->watched_ns / (double)m->unwatched_ns);
	best->write_us = least(best->write_us,
		(double)m->watched_ns / 1e3 / ((double)memory_len() / (double)PAGE));
}

#define ROW(words, what, limit)                                                                    \
	{                                                                                          \
		.name = (words), .against = (what), .limit_ns = (limit)                            \
	}

static struct bench_row rows[][3] = {
	{ROW("1 clone runs after", "ms", 50), ROW("pause of the source, 1 clone", "ms", 50),
		ROW("writes beside 1 clone that is filled", "x unwatched", 0)},
	{ROW("2 clones run after", "ms", 50), ROW("pause of the source, 2 clones", "ms", 50),
		ROW("writes beside 2 clones that are filled", "x unwatched", 0)},
	{ROW("4 clones run after", "ms", 50), ROW("pause of the source, 4 clones", "ms", 50),
		ROW("writes beside 4 clones that are filled", "x unwatched", 0)},
};

static void clones(void)
{
	static const uint32_t nr[] = {0, 1, 2, 4}; /* 0: the bare loop */
	struct best best[4];
	uint64_t copies[4] = {0};

	for (uint32_t i = 0; i < 4; i++)
		best[i] = (struct best){1e9, 1e9, 1e9, 1e9};
	for (uint32_t round = 0; round < (quick ? 2 : 5); round++) {
		for (uint32_t i = 0; i < 4; i++) {
			if (i)
				clone_run(nr[i]);
			else
				bare_run();
			take_best(&best[i], nr[i]);
			copies[i] = m->copies;
		}
	}
	printf("# bare loop: protects in %.2f ms, a write takes %.2f us, %.0f x unwatched\n",
		best[0].pause_ms, best[0].write_us, best[0].slower);
	for (uint32_t i = 1; i < 4; i++) {
		struct bench_row *row = rows[i - 1];

		printf("# %u: a write takes %.2f us, %.2f of the bare loop's; %.0f %% of pages "
		       "copied\n",
			nr[i], best[i].write_us, best[i].write_us / best[0].write_us,
			100.0 * (double)copies[i] * (double)PAGE / (double)memory_len());
		bench_fact(&row[0], best[i].started_ms);
		bench_fact(&row[1], best[i].pause_ms);
		row[2].limit_ns = 2 * best[0].slower;
		bench_fact(&row[2], best[i].slower);
	}
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		quick |= !strcmp(argv[i], "--pairs");
	bench_begin(argc, argv);
	bench_need(!gm_guard_install(), "the guard", NULL);
	m = moved_share(sizeof(*m));
	clones();
	return bench_end();
}
