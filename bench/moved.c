/* SPDX-License-Identifier: BSD-3-Clause */
/* moved.c - see moved.h. */
#include "moved.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define PAGE UINT64_C(4096)
#define MIB UINT64_C(1048576)
#define LINES 3
#define WAIT_MS 10
#define PATIENCE_NS UINT64_C(120000000000)

/* ---- what benches of processes share ---- */

uint64_t moved_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void nap(uint64_t ns)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
			  .tv_nsec = (long)(ns % 1000000000u)},
		NULL);
}

void moved_sockets(bool tcp, int ret[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int on = 1;
	int listening;

	if (!tcp) {
		bench_need(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret), "socketpair",
			strerror(errno));
		return;
	}
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ret[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bench_need(!bind(listening, (struct sockaddr *)&addr, sizeof(addr)) &&
			   !listen(listening, 1) &&
			   !getsockname(listening, (struct sockaddr *)&addr, &len) &&
			   !connect(ret[0], (struct sockaddr *)&addr, sizeof(addr)),
		"TCP on the loop-back device", strerror(errno));
	ret[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	bench_need(ret[1] >= 0, "accept", strerror(errno));
	close(listening);
	for (int i = 0; i < 2; i++)
		setsockopt(ret[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

int moved_child(int (*fn)(void *ctx), void *ctx)
{
	int pid;

	fflush(NULL);
	pid = fork();
	bench_need(pid >= 0, "fork", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(ctx));
	}
	return pid;
}

void moved_wait(int pid)
{
	int status = 0;

	bench_need(waitpid(pid, &status, 0) == pid && status == 0, "a process failed", NULL);
}

void *moved_share(size_t len)
{
	/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	bench_need(at != MAP_FAILED, "shared memory", strerror(errno));
	return at;
}

int moved_compare(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

uint64_t moved_part(const uint64_t *sorted, uint64_t nr, uint32_t per_mille)
{
	bench_need(nr > 0, "nothing was measured", NULL);
	return sorted[(nr - 1) * per_mille / 1000];
}

/* ---- a side ---- */

struct side {
	const struct moved_plan *plan;
	struct moved *m;
	int fds[LINES]; /* of this side */
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	pthread_t guest;
	_Atomic bool runs;
	_Atomic bool pause;
	_Atomic bool quit;
	bool ended;
	uint32_t next_line;
	uint64_t x; /* of random numbers */
};

static void make_memory(struct side *s, bool fill)
{
	const struct moved_plan *p = s->plan;
	struct gm_error err = {.code = 0};
	struct gm_block_opts block = {
		.size = sizeof(block), .len = p->memory, .flags = p->shared ? GM_BLOCK_SHARE : 0};
	const struct gm_view *view;

	bench_need(
		!gm_space_create(NULL, &s->space, &err) &&
			!gm_space_add(s->space,
				GM_OPTS(gm_region_desc, .gpa = 0, .backing = &block), NULL, &err) &&
			!gm_reader_create(s->space, "guest", &s->reader, &err),
		"memory of a guest", err.text);
	if (!fill)
		return;
	view = gm_reader_enter(s->reader);
	for (uint64_t at = 0; at < p->filled; at += MIB)
		bench_need(!gm_fill(view, at, (uint8_t)(1 + at / MIB % 255), MIB, NULL), "filling",
			NULL);
	gm_reader_leave(s->reader);
}

/* All are ready, then it begins. */
static void meet(struct side *s)
{
	s->m->cpu_ns[s->in != NULL] = cpu_now();
	s->m->ready++;
	while (!s->m->go)
		nap(1000000);
}

static uint64_t random_of(struct side *s, uint64_t below)
{
	s->x ^= s->x << 13;
	s->x ^= s->x >> 7;
	s->x ^= s->x << 17;
	return s->x % below;
}

/* ---- the guest ---- */

static void note(struct side *s)
{
	uint64_t now = moved_now();
	uint64_t bin = s->m->began && now > s->m->began ? (now - s->m->began) / MOVED_BIN_NS : 0;

	if (s->in && !s->m->first_there)
		s->m->first_there = now;
	if (s->out)
		s->m->last_here = now;
	if (s->m->began && bin < MOVED_BINS)
		atomic_fetch_add_explicit(&s->m->bins[bin], 1, memory_order_relaxed);
}

/* A word, read, or written with what it was. */
static void use(struct side *s, uint64_t page, bool write)
{
	const struct gm_view *view = gm_reader_enter(s->reader);
	uint64_t value = 0;
	int rc = gm_read_u64(view, page * PAGE, &value);

	if (!rc && write)
		rc = gm_write_u64(view, page * PAGE, value);
	gm_reader_leave(s->reader);
	if (rc)
		s->m->failed++;
}

/* A piece of what it does. */
static void be(struct side *s, uint64_t *at, uint64_t *since)
{
	uint64_t pages = s->plan->filled / PAGE;

	if (s->plan->guest == MOVED_STORE) {
		use(s, random_of(s, pages), random_of(s, 4) == 0);
		note(s);
	} else if (s->plan->guest == MOVED_STEADY) {
		uint64_t now = moved_now();
		uint64_t due = (uint64_t)((unsigned __int128)(now - *since) * s->plan->write_rate /
					  1000000000u / PAGE);

		/* What it did not come to is not made up for. */
		if (now - *since > 50000000)
			*since = now;
		else if (due) {
			*since += due * PAGE * 1000000000u / s->plan->write_rate;
			for (; due; due--)
				use(s, (*at)++ % pages, true);
		}
		note(s);
		nap(500000);
	} else {
		note(s);
		nap(1000000);
	}
}

/* Pages that are not there, each once. What comes in no time was there. */
static void touch(struct side *s)
{
	struct moved *m = s->m;
	uint64_t pages = s->plan->filled / PAGE;
	uint64_t at = pages / 7;

	note(s);
	for (uint32_t i = 0; i < s->plan->touches && !s->quit; i++) {
		uint64_t began;
		uint64_t took;

		nap(s->plan->gap_us * UINT64_C(1000));
		/* A prime number of pages on. */
		at = (at + 7919) % pages;
		began = moved_now();
		use(s, at, false);
		took = moved_now() - began;
		if (took > 3000 && m->nr_lat < MOVED_TOUCHES)
			m->lat[m->nr_lat++] = took;
	}
	m->touched = true;
}

static void *guest(void *ctx)
{
	struct side *s = ctx;
	uint64_t at = 0;
	uint64_t since = moved_now();
	bool gone = false;

	prctl(PR_SET_TIMERSLACK, 1000);
	while (!s->quit) {
		if (s->out && s->pause) {
			s->pause = false;
			s->runs = false;
			gone = true;
			gm_migrate_out_paused(s->out, 0);
		}
		if (!s->runs) {
			/* Who sleeps too shortly takes the time of those that are measured. */
			nap(gone ? 5000000 : s->plan->guest == MOVED_IDLE ? 1000000 : 50000);
			since = moved_now();
		} else if (s->plan->guest == MOVED_TOUCH && s->in) {
			touch(s);
			s->runs = false;
			gone = true;
		} else {
			be(s, &at, &since);
		}
	}
	return NULL;
}

/* ---- the source ---- */

static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct side *s = ctx;

	(void)connection;
	(void)index;
	if (s->next_line == LINES)
		return -ECONNREFUSED;
	*ret_fd = s->fds[s->next_line++];
	return 0;
}

static void on_pause(void *ctx)
{
	((struct side *)ctx)->pause = true;
}

static void on_run_here(void *ctx)
{
	((struct side *)ctx)->m->failed++;
}

static void on_save(void *ctx)
{
	gm_migrate_out_state(((struct side *)ctx)->out, "state", 5);
}

static void on_told_out(void *ctx, const struct gm_migrate_event *event)
{
	struct side *s = ctx;

	if (event->tell == GM_MIGRATE_TOLD_FAILED) {
		fprintf(stderr, "source: %s\n", event->why);
		s->m->failed++;
	}
	if (event->tell == GM_MIGRATE_TOLD_ROUND && s->plan->later_at == event->round)
		gm_migrate_out_switch(s->out, GM_MIGRATE_OUT_POSTCOPY);
	s->ended |= event->tell == GM_MIGRATE_TOLD_ENDED;
}

static bool over(const struct side *s)
{
	return s->ended || s->m->failed || s->m->stop;
}

static int be_source(void *ctx)
{
	struct side *s = ctx;
	const struct gm_migrate_out_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here,
		.save = on_save,
		.told = on_told_out,
		.ctx = s};
	struct gm_migrate_stats stats = {.size = sizeof(stats)};
	struct gm_migrate_out_opts opts = s->plan->out;
	struct gm_error err = {.code = 0};
	int rc = 0;

	opts.size = sizeof(opts);
	prctl(PR_SET_NAME, "source");
	make_memory(s, true);
	bench_need(!gm_migrate_out_create(s->space, &opts, &ops, &s->out, &err),
		"a source of a migration", err.text);
	s->runs = true;
	bench_need(!pthread_create(&s->guest, NULL, guest, s), "a thread", NULL);
	meet(s);
	s->m->began = moved_now();
	rc = gm_migrate_out_start(s->out, &err);
	while (!rc && !over(s))
		rc = gm_migrate_out_step(s->out, WAIT_MS);
	s->m->cpu_ns[0] = cpu_now() - s->m->cpu_ns[0];
	gm_migrate_out_stats(s->out, &stats);
	s->m->total_ns = stats.total_ns;
	s->m->downtime_ns = stats.downtime_ns;
	s->m->rounds = stats.round;
	s->quit = true;
	pthread_join(s->guest, NULL);
	return rc != 0;
}

/* ---- the destination ---- */

static void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct side *s = ctx;

	(void)regions;
	(void)nr;
	gm_migrate_in_prepared(s->in, s->space, 0, NULL);
}

static void on_load(void *ctx, const void *data, size_t len)
{
	struct side *s = ctx;

	if (len != 5 || memcmp(data, "state", 5) != 0)
		s->m->failed++;
	gm_migrate_in_loaded(s->in, 0, NULL);
}

static void on_run_there(void *ctx)
{
	struct side *s = ctx;

	s->runs = true;
	gm_migrate_in_started(s->in, 0);
}

static void on_told_in(void *ctx, const struct gm_migrate_event *event)
{
	struct side *s = ctx;

	if (event->tell == GM_MIGRATE_TOLD_FAILED) {
		fprintf(stderr, "destination: %s\n", event->why);
		s->m->failed++;
	}
	s->ended |= event->tell == GM_MIGRATE_TOLD_ENDED;
}

static int be_destination(void *ctx)
{
	struct side *s = ctx;
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run_there,
		.told = on_told_in,
		.ctx = s};
	struct gm_migrate_in_opts opts = {.size = sizeof(opts)};
	struct gm_migrate_stats stats = {.size = sizeof(stats)};
	struct gm_error err = {.code = 0};
	uint64_t until = 0;
	int rc = 0;

	prctl(PR_SET_NAME, "destination");
	make_memory(s, s->plan->there);
	bench_need(!gm_migrate_in_create(&opts, &ops, &s->in, &err), "a destination of a migration",
		err.text);
	bench_need(!pthread_create(&s->guest, NULL, guest, s), "a thread", NULL);
	for (uint32_t i = 0; i < LINES; i++)
		bench_need(!gm_migrate_in_connection(s->in, s->fds[i]), "a connection", NULL);
	meet(s);
	/* It lingers for who may ask again: not here, but until the source has heard. */
	while (!rc && !s->m->failed && !s->m->stop && (!until || moved_now() < until)) {
		rc = gm_migrate_in_step(s->in, WAIT_MS);
		if (s->ended && !until)
			until = moved_now() + (s->plan->guest == MOVED_IDLE ? 0 : 200000000);
	}
	s->m->cpu_ns[1] = cpu_now() - s->m->cpu_ns[1];
	gm_migrate_in_stats(s->in, &stats);
	s->m->requests = stats.requests;
	s->quit = true;
	/* A guest that waits for a page would wait for ever: the process ends. */
	return rc != 0;
}

/* ---- both ---- */

void moved_run(const struct moved_plan *plan, struct moved *m)
{
	struct side s[2] = {{.plan = plan, .m = m, .x = 88172645463325252},
		{.plan = plan, .m = m, .x = 362436069362436069}};
	uint64_t until = moved_now() + PATIENCE_NS;
	int pids[2];

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; i < LINES; i++) {
		int pair[2];

		moved_sockets(plan->tcp, pair);
		s[0].fds[i] = pair[0];
		s[1].fds[i] = pair[1];
	}
	pids[0] = moved_child(be_source, &s[0]);
	pids[1] = moved_child(be_destination, &s[1]);
	for (uint32_t i = 0; i < LINES; i++) {
		close(s[0].fds[i]);
		close(s[1].fds[i]);
	}
	while (m->ready < 2 && moved_now() < until && !m->failed)
		nap(1000000);
	m->go = true;
	while ((plan->until_runs || plan->guest == MOVED_TOUCH) && !m->stop && !m->failed) {
		nap(10000000);
		if (plan->guest == MOVED_TOUCH ? m->touched : m->first_there != 0) {
			nap(100000000);
			m->stop = true;
		}
		bench_need(moved_now() < until, "a migration does not end", NULL);
	}
	for (int i = 0; i < 2; i++)
		moved_wait(pids[i]);
	bench_need(!m->failed, "a migration failed", NULL);
	qsort(m->lat, m->nr_lat, sizeof(m->lat[0]), moved_compare);
}
