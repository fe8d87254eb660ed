/* SPDX-License-Identifier: BSD-3-Clause */
/* slowdown.c - see slowdown.h. The machine is that of "guestmem run", the payload too. */
#include "slowdown.h"

#include <guestmem/guestmem.h>
#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "../payload/abi.h"
#include "../tool/machine.h"
#include "../tool/run_blob.h"
#include "bench.h"
#include "moved.h"

#define LINES 3
#define WAIT_MS 10
#define MS UINT64_C(1000000)
#define PATIENCE_NS UINT64_C(120000000000)

struct side {
	const struct slowdown_plan *plan;
	struct slowdown *s;
	int fds[LINES]; /* of this side */
	uint32_t next_line;
	struct run_memory memory;
	struct machine machine;
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	struct gm_reader *reader; /* of who samples */
	pthread_t sampler;
	pthread_t steps;
	_Atomic bool quit;
	_Atomic bool ended;
	_Atomic bool loads;
	_Atomic bool starts;
	const void *state;
	size_t state_len;
};

static void nap(uint64_t ns)
{
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
			  .tv_nsec = (long)(ns % 1000000000u)},
		NULL);
}

/* ---- the guest's count ---- */

static uint64_t params_field(struct side *e, struct gm_reader *reader, size_t off)
{
	const struct gm_view *view = gm_reader_enter(reader);
	uint64_t value = 0;

	/* In post-copy this waits for the page, as the guest does. */
	if (gm_read_le64(view, machine_params_gpa(0) + off, &value))
		e->s->failed++;
	gm_reader_leave(reader);
	return value;
}

static void *sample(void *ctx)
{
	struct side *e = ctx;
	uint32_t end = e->in ? 1 : 0;
	struct slowdown_sample *samples = e->s->samples[end];

	while (!e->quit && e->s->nr[end] < SLOWDOWN_SAMPLES) {
		struct slowdown_sample now;

		now.ops = params_field(e, e->reader, offsetof(struct run_params, progress));
		now.ns = moved_now();
		samples[e->s->nr[end]] = now;
		e->s->nr[end]++;
		nap(SLOWDOWN_MS * MS - now.ns % (SLOWDOWN_MS * MS));
	}
	return NULL;
}

static void begin_sampling(struct side *e)
{
	struct gm_error err = {.code = 0};

	bench_need(!gm_reader_create(e->memory.space, "sampler", &e->reader, &err), "a reader",
		err.text);
	bench_need(!pthread_create(&e->sampler, NULL, sample, e), "a thread", NULL);
}

static void end_sampling(struct side *e)
{
	e->quit = true;
	pthread_join(e->sampler, NULL);
	gm_reader_destroy(e->reader);
}

/* ---- the source ---- */

static void make_guest(struct side *e)
{
	struct run_memory_opts memory = {.size = e->plan->memory};
	struct machine_opts opts = {.nr_vcpus = 1, .guest_log2 = 21, .program.fd = -1};
	struct run_params params = {.magic = RUN_MAGIC,
		.version = RUN_VERSION,
		.size = sizeof(params),
		.nr_vcpus = 1,
		.payload = RUN_STORE,
		.flags = RUN_IN_GUEST,
		.seed = 1};

	memory.pages.choices[0].kind = GM_PAGE_THP;
	opts.program.bytes = run_blob(&opts.program.len);
	bench_need(run_memory_init(&e->memory, &memory) &&
			   machine_init(&e->machine, &e->memory, &opts),
		"a guest", NULL);
	params.mailbox = e->machine.mailbox_gpa;
	params.mem = params.all = e->memory.gpa;
	params.mem_len = params.all_len = e->memory.len;
	params.arg[RUN_ARG_COUNT] = UINT64_MAX;
	params.arg[RUN_ARG_WRITE] = 10;
	params.arg[RUN_ARG_SKEW] = 150;
	bench_need(run_memory_write(&e->memory, machine_params_gpa(0), &params, sizeof(params),
			   "parameters") &&
			   machine_start(&e->machine),
		"a guest", NULL);
	while (params_field(e, e->memory.reader, offsetof(struct run_params, progress)) == 0)
		nap(5 * MS);
}

static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct side *e = ctx;

	(void)connection;
	(void)index;
	if (e->next_line == LINES)
		return -ECONNREFUSED;
	*ret_fd = e->fds[e->next_line++];
	return 0;
}

static void on_pause(void *ctx)
{
	struct side *e = ctx;

	machine_stop(&e->machine);
	gm_migrate_out_paused(e->out, 0);
}

static void on_run_here(void *ctx)
{
	((struct side *)ctx)->s->failed++;
}

static void on_save(void *ctx)
{
	struct side *e = ctx;
	struct machine_saved saved = {.bytes = NULL};

	if (!machine_save(&e->machine, 0, &saved) || saved.end != MACHINE_STOPPED ||
		gm_migrate_out_state(e->out, saved.bytes, saved.len))
		e->s->failed++;
	free(saved.bytes);
}

static int on_harvest(void *ctx)
{
	return gm_kvm_harvest(((struct side *)ctx)->machine.slots, NULL, NULL);
}

static void on_told(void *ctx, const struct gm_migrate_event *event)
{
	struct side *e = ctx;

	if (event->tell == GM_MIGRATE_TOLD_FAILED) {
		fprintf(stderr, "%s: %s\n", e->out ? "source" : "destination", event->why);
		e->s->failed++;
	}
	if (e->out && e->plan->way == SLOWDOWN_BOTH && event->tell == GM_MIGRATE_TOLD_ROUND)
		gm_migrate_out_switch(e->out, GM_MIGRATE_OUT_POSTCOPY);
	if (event->tell == GM_MIGRATE_TOLD_ENDED)
		e->ended = true;
}

static void create_out(struct side *e)
{
	const struct gm_migrate_out_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here,
		.save = on_save,
		.harvest = on_harvest,
		.told = on_told,
		.ctx = e};
	struct gm_migrate_out_opts opts = {.size = sizeof(opts), .rate = e->plan->rate};
	struct gm_error err = {.code = 0};

	opts.way =
		e->plan->way == SLOWDOWN_POSTCOPY ? GM_MIGRATE_OUT_POSTCOPY : GM_MIGRATE_OUT_STOP;
	bench_need(!gm_migrate_out_create(e->memory.space, &opts, &ops, &e->out, &err),
		"a source of a migration", err.text);
	bench_need(
		!gm_kvm_track(e->machine.slots, GM_KVM_TRACK_BITMAP, &err), "tracking", err.text);
}

static int be_source(void *ctx)
{
	struct side *e = ctx;
	struct gm_migrate_stats stats = {.size = sizeof(stats)};
	struct gm_error err = {.code = 0};
	int rc;

	prctl(PR_SET_NAME, "source");
	make_guest(e);
	e->s->ready++;
	while (!e->s->go)
		nap(MS);
	begin_sampling(e);
	nap(SLOWDOWN_BEFORE_MS * MS + SLOWDOWN_MS * MS);
	e->s->began = moved_now();
	if (e->plan->way == SLOWDOWN_STOP)
		machine_stop(&e->machine);
	create_out(e);
	rc = gm_migrate_out_start(e->out, &err);
	while (!rc && !e->ended && !e->s->failed)
		rc = gm_migrate_out_step(e->out, WAIT_MS);
	gm_migrate_out_stats(e->out, &stats);
	end_sampling(e);
	e->s->downtime_ns = e->plan->way == SLOWDOWN_STOP ? stats.total_ns : stats.downtime_ns;
	e->s->total_ns = stats.total_ns;
	e->s->rounds = stats.round;
	return rc != 0 || e->s->failed;
}

/* ---- the destination ---- */

static void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct side *e = ctx;
	struct run_memory_place places[RUN_MEMORY_PLACES_MAX];
	struct run_memory_opts opts = {.size = e->plan->memory};
	char why[256] = "";
	bool well = nr <= RUN_MEMORY_PLACES_MAX;

	opts.pages.choices[0].kind = GM_PAGE_THP;
	opts.pages.text = "thp";
	for (size_t i = 0; well && i < nr; i++)
		places[i] = (struct run_memory_place){.gpa = regions[i].gpa,
			.len = regions[i].len,
			.page_size = regions[i].page_size,
			.fd = -1};
	well = well && run_memory_take(&e->memory, &opts, places, nr, why, sizeof(why));
	gm_migrate_in_prepared(e->in, e->memory.space, well ? 0 : -ENOMEM, NULL);
}

static void on_load(void *ctx, const void *data, size_t len)
{
	struct side *e = ctx;

	e->state = data;
	e->state_len = len;
	e->loads = true;
}

static void on_run_there(void *ctx)
{
	((struct side *)ctx)->starts = true;
}

/* It lingers for who may ask again: until the program is through. */
static void *step_in(void *ctx)
{
	struct side *e = ctx;

	while (!e->quit && !e->s->failed) {
		if (gm_migrate_in_step(e->in, WAIT_MS))
			e->s->failed++;
	}
	return NULL;
}

/* Not by the thread that brings the pages that this may wait for. */
static void load(struct side *e)
{
	struct machine_opts opts = {
		.nr_vcpus = 1, .guest_log2 = 21, .program.fd = -1, .restored = true};
	struct machine_saved saved = {.len = e->state_len, .end = MACHINE_STOPPED};
	bool well;

	saved.bytes = malloc(e->state_len);
	bench_need(saved.bytes, "memory", NULL);
	memcpy(saved.bytes, e->state, e->state_len);
	well = machine_init(&e->machine, &e->memory, &opts) &&
	       machine_restore(&e->machine, 0, &saved);
	free(saved.bytes);
	gm_migrate_in_loaded(e->in, well ? 0 : -EINVAL, NULL);
}

static void until(struct side *e, const _Atomic bool *what)
{
	uint64_t end = moved_now() + PATIENCE_NS;

	while (!*what && !e->s->failed) {
		bench_need(moved_now() < end, "a migration does not end", NULL);
		nap(MS / 5);
	}
}

/* The guest looks at all of its values, and says what it found. */
static void finish(struct side *e)
{
	const uint64_t stop = RUN_STOP_END;
	struct run_params p;

	bench_need(run_memory_write(&e->memory,
			   machine_params_gpa(0) + offsetof(struct run_params, stop), &stop,
			   sizeof(stop), "the word that stops it"),
		"the guest's end", NULL);
	while (!machine_all_stopped(&e->machine))
		nap(5 * MS);
	bench_need(run_memory_read(&e->memory, machine_params_gpa(0), &p, sizeof(p), "parameters"),
		"the guest's report", NULL);
	bench_need(p.state == RUN_DONE && p.errors == 0 && p.checksum == p.expected,
		"the guest's values are wrong", NULL);
	e->s->writes = p.figures[1];
	e->s->keys = p.figures[2];
}

/*
 * A virtual machine's memory that was free for long may have been taken back by its host, and is slow when it is
 * touched first: so is whatever copies into it, and what is measured would be that. What was used a moment ago is
 * there.
 */
static void warm_memory(uint64_t len)
{
	/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	bench_need(at != MAP_FAILED, "memory", strerror(errno));
	madvise(at, len, MADV_HUGEPAGE);
	memset(at, 1, len);
	munmap(at, len);
}

static int be_destination(void *ctx)
{
	struct side *e = ctx;
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run_there,
		.told = on_told,
		.ctx = e};
	const struct gm_migrate_in_opts opts = {.size = sizeof(opts)};
	struct gm_error err = {.code = 0};

	prctl(PR_SET_NAME, "destination");
	bench_need(!gm_migrate_in_create(&opts, &ops, &e->in, &err), "a destination of a migration",
		err.text);
	for (uint32_t i = 0; i < LINES; i++)
		bench_need(!gm_migrate_in_connection(e->in, e->fds[i]), "a connection", NULL);
	bench_need(!pthread_create(&e->steps, NULL, step_in, e), "a thread", NULL);
	/* When the source has all that it needs. */
	while (e->s->ready == 0 && !e->s->failed)
		nap(MS);
	warm_memory(e->plan->memory);
	e->s->ready++;
	until(e, &e->loads);
	load(e);
	until(e, &e->starts);
	bench_need(!e->s->failed && machine_start(&e->machine), "the guest does not start", NULL);
	gm_migrate_in_started(e->in, 0);
	begin_sampling(e);
	until(e, &e->ended);
	e->s->ended = moved_now();
	nap(SLOWDOWN_AFTER_MS * MS);
	end_sampling(e);
	pthread_join(e->steps, NULL);
	bench_need(!e->s->failed, "a migration failed", NULL);
	finish(e);
	return 0;
}

/* ---- both ---- */

/* Samples of both in one row: the source's until the destination has one. */
static uint32_t join(const struct slowdown *s, struct slowdown_sample *to)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < s->nr[0] && s->samples[0][i].ns < s->samples[1][0].ns; i++)
		to[nr++] = s->samples[0][i];
	for (uint32_t i = 0; i < s->nr[1]; i++)
		to[nr++] = s->samples[1][i];
	return nr;
}

/* The count at a time, between two samples in proportion. @at is where to look from. */
static double count_at(const struct slowdown_sample *row, uint32_t nr, uint64_t ns, uint32_t *at)
{
	const struct slowdown_sample *a;
	const struct slowdown_sample *b;

	while (*at + 2 < nr && row[*at + 1].ns <= ns)
		(*at)++;
	a = &row[*at];
	b = &row[*at + 1];
	if (ns <= a->ns || b->ns == a->ns)
		return (double)a->ops;
	if (ns >= b->ns)
		return (double)b->ops;
	return (double)a->ops +
	       (double)(b->ops - a->ops) * (double)(ns - a->ns) / (double)(b->ns - a->ns);
}

static void fill_bins(struct slowdown *s)
{
	static struct slowdown_sample row[2 * SLOWDOWN_SAMPLES];
	uint32_t nr = join(s, row);
	uint64_t each = SLOWDOWN_MS * MS;
	uint64_t first;
	uint32_t at = 0;
	double last;

	s->before = SLOWDOWN_BEFORE_MS / SLOWDOWN_MS;
	first = s->began - s->before * each;
	bench_need(s->nr[1] > 1 && row[0].ns <= first, "there are too few samples", NULL);
	s->nr_bins = (uint32_t)((row[nr - 1].ns - first) / each);
	bench_need(s->nr_bins <= SLOWDOWN_BINS, "it took too long", NULL);
	last = count_at(row, nr, first, &at);
	for (uint32_t i = 0; i < s->nr_bins; i++) {
		double count = count_at(row, nr, first + (i + 1) * each, &at);

		s->bins[i] = (count - last) * 1000 / SLOWDOWN_MS;
		last = count;
	}
}

const char *slowdown_name(enum slowdown_way way)
{
	static const char *const names[SLOWDOWN_WAYS] = {
		"stop-and-copy", "pre-copy", "post-copy", "a round, then post-copy"};

	return names[way];
}

void slowdown_run(const struct slowdown_plan *plan, struct slowdown *s)
{
	struct side e[2] = {{.plan = plan, .s = s}, {.plan = plan, .s = s}};
	uint64_t end = moved_now() + PATIENCE_NS;
	int pids[2];

	memset(s, 0, sizeof(*s));
	for (uint32_t i = 0; i < LINES; i++) {
		int pair[2];

		moved_sockets(false, pair);
		e[0].fds[i] = pair[0];
		e[1].fds[i] = pair[1];
	}
	pids[0] = moved_child(be_source, &e[0]);
	pids[1] = moved_child(be_destination, &e[1]);
	for (uint32_t i = 0; i < LINES; i++) {
		close(e[0].fds[i]);
		close(e[1].fds[i]);
	}
	while (s->ready < 2 && !s->failed) {
		bench_need(moved_now() < end, "a guest does not begin", NULL);
		nap(MS);
	}
	s->go = true;
	for (int i = 0; i < 2; i++)
		moved_wait(pids[i]);
	bench_need(!s->failed, "a migration failed", NULL);
	fill_bins(s);
}
