/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_move.c - whole migrations from a process to another: bytes a second, the pause, a page that is waited for.
 *
 * usage: bench_move [--json FILE] [--pairs N]
 *
 * Migrations and what they are compared with run in turn, and the best of each counts: of fewer with --pairs, with less
 * memory. Of latencies a round has hundreds, and the best round's middle counts. Rows of one side are limits.
 */
#include "moved.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define PAGE ((size_t)4096)
#define PIECE KIB(256) /* 64 pages: a message */
#define ASKED 40       /* bytes of a request, and of its answer */
#define ANSWERED 4160
#define ROUNDS 5u

static bool quick;
static struct moved *m;

static uint32_t rounds(void)
{
	return quick ? 2 : ROUNDS;
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* ---- 1: bytes a second ---- */

/* What is compared with: both ends have memory of the same sort, and move it in pieces of the same length. */
struct bare {
	int fd;
	bool sends;
	bool shared;
	uint64_t len;
	struct bare_times {
		_Atomic uint32_t ready;
		_Atomic bool go;
		uint64_t began;
		uint64_t ended;
	} * times;
};

static int be_bare(void *ctx)
{
	struct bare *b = ctx;
	int fd = b->shared ? memfd_create("bare", MFD_CLOEXEC) : -1;
	uint8_t *memory;

	bench_need(!b->shared || !ftruncate(fd, (off_t)b->len), "memory of a file", NULL);
	memory = mmap(NULL, b->len, PROT_READ | PROT_WRITE,
		b->shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	bench_need(memory != MAP_FAILED, "memory", strerror(errno));
	memset(memory, 1, b->len);
	b->times->ready++;
	while (!b->times->go)
		poll(NULL, 0, 1);
	if (b->sends)
		b->times->began = moved_now();
	for (uint64_t at = 0; at < b->len;) {
		size_t left = b->len - at < PIECE ? b->len - at : PIECE;
		ssize_t nr = b->sends ? send(b->fd, memory + at, left, MSG_NOSIGNAL)
				      : recv(b->fd, memory + at, left, 0);

		bench_need(nr > 0, "send and recv", strerror(errno));
		at += (uint64_t)nr;
	}
	if (!b->sends)
		b->times->ended = moved_now();
	return 0;
}

static double bare_ns(bool tcp, bool shared, uint64_t len, struct bare_times *times)
{
	struct bare ends[2];
	int fds[2];
	int pids[2];

	*times = (struct bare_times){.ready = 0};
	moved_sockets(tcp, fds);
	for (int i = 0; i < 2; i++) {
		ends[i] = (struct bare){.fd = fds[i],
			.sends = i == 0,
			.shared = shared,
			.len = len,
			.times = times};
		pids[i] = moved_child(be_bare, &ends[i]);
	}
	while (times->ready < 2)
		poll(NULL, 0, 1);
	times->go = true;
	for (int i = 0; i < 2; i++) {
		moved_wait(pids[i]);
		close(fds[i]);
	}
	return (double)(times->ended - times->began);
}

static void bulk(const struct bench_row *row, bool tcp, bool shared)
{
	struct bare_times *times = moved_share(sizeof(*times));
	uint64_t len = quick ? MIB(256) : GIB(1);
	const struct moved_plan plan = {.tcp = tcp,
		.shared = shared,
		.memory = len,
		.filled = len,
		.there = true,
		.out.way = GM_MIGRATE_OUT_STOP};
	double ours = 1e18;
	double bare = 1e18;
	double cpu[2] = {1e18, 1e18};

	for (uint32_t i = 0; i < rounds() + 1; i++) {
		bare = least(bare, bare_ns(tcp, shared, len, times));
		moved_run(&plan, m);
		ours = least(ours, (double)m->total_ns);
		for (int end = 0; end < 2; end++)
			cpu[end] = least(cpu[end], (double)m->cpu_ns[end]);
	}
	printf("# %s: %.3f GB/s, bare %.3f GB/s; CPU time of the source %.3f s/GB, of the "
	       "destination "
	       "%.3f\n",
		row->name, (double)len / ours, (double)len / bare, cpu[0] / (double)len,
		cpu[1] / (double)len);
	bench_fact(row, ours / bare);
	munmap(times, sizeof(*times));
}

/* ---- 2: the pause of post-copy ---- */

static void pause_of(
	const struct bench_row rows[2], uint64_t memory, uint64_t filled, uint32_t later_at)
{
	struct moved_plan plan = {.shared = true,
		.memory = memory,
		.filled = filled,
		.until_runs = true,
		.later_at = later_at,
		.guest = MOVED_STORE,
		.out.way = later_at ? GM_MIGRATE_OUT_AUTO : GM_MIGRATE_OUT_POSTCOPY,
		.out.rate = later_at ? GIB(1) : 0,
		.out.downtime_ms = later_at ? 1 : 0};
	double told = 1e18;
	double seen = 1e18;

	for (uint32_t i = 0; i < (quick ? 1 : 3); i++) {
		moved_run(&plan, m);
		told = least(told, (double)m->downtime_ns / 1e6);
		seen = least(seen, (double)(m->first_there - m->last_here) / 1e6);
	}
	bench_fact(&rows[0], told);
	bench_fact(&rows[1], seen);
}

/* ---- 3: a page that is waited for ---- */

struct pong {
	int fd;
	bool asks;
	uint64_t *lat;
	uint64_t nr;
};

static void whole(int fd, uint8_t *bytes, size_t len, bool out)
{
	for (size_t at = 0; at < len;) {
		ssize_t nr = out ? send(fd, bytes + at, len - at, MSG_NOSIGNAL)
				 : recv(fd, bytes + at, len - at, 0);

		bench_need(nr > 0, "ping-pong", strerror(errno));
		at += (size_t)nr;
	}
}

static int be_pong(void *ctx)
{
	struct pong *p = ctx;
	uint8_t bytes[ANSWERED] = {0};

	prctl(PR_SET_TIMERSLACK, 1000);
	for (uint64_t i = 0; i < p->nr; i++) {
		uint64_t began;

		if (p->asks)
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
		began = moved_now();
		whole(p->fd, bytes, ASKED, p->asks);
		whole(p->fd, bytes, ANSWERED, !p->asks);
		if (p->asks)
			p->lat[i] = moved_now() - began;
	}
	return 0;
}

static void ping_pong(bool tcp, uint64_t *lat, uint64_t nr)
{
	struct pong ends[2];
	int fds[2];
	int pids[2];

	moved_sockets(tcp, fds);
	for (int i = 0; i < 2; i++) {
		ends[i] = (struct pong){.fd = fds[i], .asks = i == 0, .lat = lat, .nr = nr};
		pids[i] = moved_child(be_pong, &ends[i]);
	}
	for (int i = 0; i < 2; i++) {
		moved_wait(pids[i]);
		close(fds[i]);
	}
	qsort(lat, nr, sizeof(*lat), moved_compare);
}

struct bare_fault {
	int uffd;
	uint8_t *memory;
	uint8_t page[4096];
	uint64_t nr;
	uint64_t *lat;
};

static void *resolve(void *ctx)
{
	struct bare_fault *f = ctx;

	for (uint64_t i = 0; i < f->nr; i++) {
		struct uffd_msg msg;
		struct uffdio_copy copy = {.len = PAGE, .src = (uint64_t)(uintptr_t)f->page};

		bench_need(read(f->uffd, &msg, sizeof(msg)) == sizeof(msg), "a fault",
			strerror(errno));
		copy.dst = msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1);
		bench_need(!ioctl(f->uffd, UFFDIO_COPY, &copy), "UFFDIO_COPY", strerror(errno));
	}
	return NULL;
}

static int be_bare_fault(void *ctx)
{
	struct bare_fault *f = ctx;
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {
		.range.len = f->nr * PAGE, .mode = UFFDIO_REGISTER_MODE_MISSING};
	pthread_t thread;

	prctl(PR_SET_TIMERSLACK, 1000);
	f->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	f->memory = mmap(
		/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
		NULL, f->nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uint64_t)(uintptr_t)f->memory;
	bench_need(f->uffd >= 0 && f->memory != MAP_FAILED && !ioctl(f->uffd, UFFDIO_API, &api) &&
			   !ioctl(f->uffd, UFFDIO_REGISTER, &reg) &&
			   !pthread_create(&thread, NULL, resolve, f),
		"userfaultfd", strerror(errno));
	for (uint64_t i = 0; i < f->nr; i++) {
		uint64_t began;

		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
		began = moved_now();
		bench_sink = *(volatile uint8_t *)(f->memory + i * PAGE);
		f->lat[i] = moved_now() - began;
	}
	pthread_join(thread, NULL);
	return 0;
}

static void bare_fault(uint64_t *lat, uint64_t nr)
{
	struct bare_fault f = {.nr = nr, .lat = lat};

	moved_wait(moved_child(be_bare_fault, &f));
	qsort(lat, nr, sizeof(*lat), moved_compare);
}

struct asked {
	double idle[2]; /* p50, p99: us */
	double busy[2];
	double bare[2];
};

static void best_of(double to[2], const uint64_t *lat, uint64_t nr)
{
	to[0] = least(to[0], (double)moved_part(lat, nr, 500) / 1e3);
	to[1] = least(to[1], (double)moved_part(lat, nr, 990) / 1e3);
}

static void asked_for(bool tcp, struct asked *a)
{
	uint64_t nr = quick ? 500 : 1000;
	uint64_t *lat = moved_share(nr * sizeof(*lat));
	struct moved_plan plan = {.tcp = tcp,
		.memory = MIB(512),
		.filled = MIB(512),
		.guest = MOVED_TOUCH,
		.touches = (uint32_t)nr,
		.gap_us = 200,
		.out.way = GM_MIGRATE_OUT_POSTCOPY};

	*a = (struct asked){{1e9, 1e9}, {1e9, 1e9}, {1e9, 1e9}};
	for (uint32_t i = 0; i < rounds(); i++) {
		double pong[2] = {1e9, 1e9};
		double fault[2] = {1e9, 1e9};

		ping_pong(tcp, lat, nr);
		best_of(pong, lat, nr);
		bare_fault(lat, nr);
		best_of(fault, lat, nr);
		for (int j = 0; j < 2; j++)
			a->bare[j] = least(a->bare[j], pong[j] + fault[j]);
		/* Nothing but what is asked for: the rest takes for ever. */
		plan.out.rate = 1;
		plan.gap_us = 200;
		moved_run(&plan, m);
		best_of(a->idle, m->lat, m->nr_lat);
		plan.out.rate = MIB(128);
		plan.gap_us = 1000;
		moved_run(&plan, m);
		best_of(a->busy, m->lat, m->nr_lat);
	}
	munmap(lat, nr * sizeof(*lat));
}

static void urgent(const struct bench_row rows[3], bool tcp)
{
	struct asked a;

	asked_for(tcp, &a);
	printf("# %s: p50 %.1f us, p99 %.1f; bare %.1f, %.1f; beside bulk %.1f, %.1f\n",
		rows[0].name, a.idle[0], a.idle[1], a.bare[0], a.bare[1], a.busy[0], a.busy[1]);
	bench_fact(&rows[0], a.idle[0] / a.bare[0]);
	bench_fact(&rows[1], a.busy[0] / a.idle[0]);
	bench_fact(&rows[2], a.busy[1] / a.idle[1]);
}

/* ---- 4: the pause of pre-copy ---- */

/* How far it is off the target, per cent; of several the one in the middle. */
static void target(const struct bench_row *row, uint32_t ms)
{
	uint64_t rate = MIB(100);
	const struct moved_plan plan = {.shared = true,
		.memory = quick ? MIB(64) : MIB(128),
		.filled = quick ? MIB(64) : MIB(128),
		.there = true,
		.guest = MOVED_STEADY,
		.write_rate = rate * 80 / 100,
		.until_runs = true,
		.out.way = GM_MIGRATE_OUT_STOP,
		.out.rate = rate,
		.out.downtime_ms = ms};
	uint64_t off[3] = {0};
	uint32_t nr = quick ? 1 : 3;

	for (uint32_t i = 0; i < nr; i++) {
		double took;

		moved_run(&plan, m);
		took = (double)m->downtime_ns / 1e6 / ms;
		printf("# %s: %.1f ms after %lu rounds\n", row->name, took * ms,
			(unsigned long)m->rounds);
		off[i] = (uint64_t)(1e6 * (took > 1 ? took - 1 : 1 - took));
	}
	qsort(off, nr, sizeof(off[0]), moved_compare);
	bench_fact(row, (double)off[nr / 2] / 1e4);
}

#define FACT(words, what, limit)                                                                   \
	{                                                                                          \
		.name = (words), .against = (what), .limit_ns = (limit)                            \
	}

static const struct bench_row bulk_rows[] = {
	FACT("a guest moves, memfd, Unix", "x send and recv", 1 / 0.9),
	FACT("a guest moves, anonymous, TCP", "x send and recv", 1 / 0.9),
	FACT("a guest moves, anonymous, Unix", "x send and recv", 1 / 0.9),
	FACT("a guest moves, memfd, TCP", "x send and recv", 1 / 0.9),
};
static const struct bench_row pause_rows[] = {
	FACT("post-copy, 1 GiB, pause", "ms", 50),
	FACT("post-copy, 1 GiB, pause as the guest has it", "ms", 50),
	FACT("post-copy, 8 GiB, 2 filled, pause", "ms", 50),
	FACT("post-copy, 8 GiB, 2 filled, as the guest has it", "ms", 50),
	FACT("post-copy after a round, 1 GiB, pause", "ms", 50),
	FACT("post-copy after a round, as the guest has it", "ms", 50),
};
static const struct bench_row urgent_rows[] = {
	FACT("page asked for, Unix, p50", "x ping-pong and bare fault", 1.25),
	FACT("page asked for, Unix, beside 128 MiB/s, p50", "x idle", 2),
	FACT("page asked for, Unix, beside 128 MiB/s, p99", "x idle", 2),
	FACT("page asked for, TCP, p50", "x ping-pong and bare fault", 1.25),
	FACT("page asked for, TCP, beside 128 MiB/s, p50", "x idle", 2),
	FACT("page asked for, TCP, beside 128 MiB/s, p99", "x idle", 2),
};
static const struct bench_row target_rows[] = {
	FACT("pre-copy, pause of 50 ms wanted", "% off", 25),
	FACT("pre-copy, pause of 100 ms wanted", "% off", 25),
	FACT("pre-copy, pause of 300 ms wanted", "% off", 25),
};

/* Some of it, for who works on it: GM_MOVE=bulk,urgent. */
static bool wanted(const char *part)
{
	const char *parts = getenv("GM_MOVE");

	return !parts || strstr(parts, part);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		quick |= !strcmp(argv[i], "--pairs");
	bench_begin(argc, argv);
	bench_need(!gm_guard_install(), "the guard", NULL);
	m = moved_share(sizeof(*m));
	for (uint32_t i = 0; i < (quick ? 2 : 4) && wanted("bulk"); i++)
		bulk(&bulk_rows[i], i & 1, i == 0 || i == 3);
	if (wanted("pause")) {
		pause_of(pause_rows, GIB(1), GIB(1), 0);
		pause_of(pause_rows + 2, GIB(8), GIB(2), 0);
		pause_of(pause_rows + 4, GIB(1), GIB(1), 1);
	}
	if (wanted("urgent")) {
		urgent(urgent_rows, false);
		if (!quick)
			urgent(urgent_rows + 3, true);
	}
	if (wanted("target")) {
		target(&target_rows[0], 50);
		target(&target_rows[1], 100);
		target(&target_rows[2], 300);
	}
	return bench_end();
}
