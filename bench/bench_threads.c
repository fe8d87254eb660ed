/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_threads.c - two threads on disjoint pages against one: lines that they share by accident.
 *
 * usage: bench_threads [--json FILE] [--peer LIBRARY]
 *
 * Two threads, each on a processor of its own, do the same number of rounds, each on its own pages
 * and with its own reader; the sample ends when both are done. One thread does as many while the
 * other one waits. So the ratio is what a round costs a thread more because of the other. The fastest
 * sample counts, which is one in which both had their processor to themselves. The first rows have
 * nothing to share: what they show is the machine's.
 */
#include <guestmem/guestmem.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define MIB (UINT64_C(1) << 20)
#define LEN (512 * MIB)
#define WALK (32 * 1024 - 8)
#define FAR (256 * MIB) /* apart in the bits of logs as well */

/* A shared line costs twice the time or more. Without one, two threads against two differ by up to a
 * tenth (A/A) on a machine that others load. */
#define GOAL 1.15

/* ---- two threads ---- */

/* What one thread works on; in lines of its own, and neighbours of lines are fetched in pairs. */
struct side {
	struct gm_reader *reader;   /* in no section */
	const struct gm_view *view; /* of another reader, which stays in its section */
	uint64_t gpa;
	uint8_t *raw;
	uint8_t *bits; /* of the log with storage of ours: what stands for @gpa */
	struct gm_stream stream;
} __attribute__((aligned(256)));

struct pair {
	bench_fn fn;
	struct side sides[2];
};

static struct {
	unsigned int go __attribute__((aligned(256))); /* atomic: rises when there is work */
	bench_fn fn;
	void *ctx;
	uint64_t iters;
	unsigned int done __attribute__((aligned(256))); /* atomic: follows */
} helper;

static size_t cpus[2];

static void run_on(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	bench_need(sched_setaffinity(0, sizeof(set), &set) == 0, "a processor for a thread", NULL);
}

static void wait_for(const unsigned int *counter, unsigned int value)
{
	while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) != value) {
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	}
}

static void *help(void *arg)
{
	(void)arg;
	run_on(cpus[1]);
	for (unsigned int turn = 1;; turn++) {
		wait_for(&helper.go, turn);
		if (!helper.fn)
			return NULL;
		helper.fn(helper.ctx, helper.iters);
		__atomic_store_n(&helper.done, turn, __ATOMIC_RELEASE);
	}
}

static void two_threads(void *ctx, uint64_t iters)
{
	struct pair *pair = ctx;
	unsigned int turn = helper.go + 1;

	helper.fn = pair->fn;
	helper.ctx = &pair->sides[1];
	helper.iters = iters;
	__atomic_store_n(&helper.go, turn, __ATOMIC_RELEASE);
	pair->fn(&pair->sides[0], iters);
	wait_for(&helper.done, turn);
}

static void one_thread(void *ctx, uint64_t iters)
{
	struct pair *pair = ctx;

	pair->fn(&pair->sides[0], iters);
}

/* ---- what they do ---- */

static void must(bool good)
{
	if (!good)
		abort();
}

static void store_raw(void *ctx, uint64_t iters)
{
	uint8_t *mine = ((const struct side *)ctx)->raw;
	uint64_t off = 0;

	BENCH_ROUNDS(iters, *(volatile uint64_t *)(void *)(mine + off) = off;
		     off = (off + 8) & WALK;)
}

static BENCH_INLINE void write_number(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;
	const struct gm_view *view = side->view;
	uint64_t gpa = side->gpa;
	uint64_t off = 0;

	BENCH_ROUNDS(iters, must(gm_write_u64(view, gpa + off, off) == 0); off = (off + 8) & WALK;)
}

static BENCH_INLINE void read_number(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;
	const struct gm_view *view = side->view;
	uint64_t gpa = side->gpa;
	uint64_t sum = 0;
	uint64_t off = 0;

	BENCH_ROUNDS(iters, uint64_t value; must(gm_read_u64(view, gpa + off, &value) == 0);
		     sum += value; off = (off + 8) & WALK;)
	BENCH_TOUCH(sum);
}

/* The page is clean before each write: the consumer has taken it. */
static BENCH_INLINE void write_anew(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;
	const struct gm_view *view = side->view;

	for (uint64_t i = 0; i < iters; i++) {
		*(volatile uint8_t *)side->bits = 0;
		must(gm_write_u64(view, side->gpa, i) == 0);
	}
	must(*(volatile uint8_t *)side->bits != 0);
}

static void add(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(gm_atomic_fetch_add_u64(side->view, side->gpa, __ATOMIC_SEQ_CST, 1, NULL) ==
			0);
}

static void section(void *ctx, uint64_t iters)
{
	struct gm_reader *mine = ((const struct side *)ctx)->reader;

	BENCH_ROUNDS(iters, const struct gm_view *view = gm_reader_enter(mine); BENCH_TOUCH(view);
		     gm_reader_leave(mine);)
}

static BENCH_INLINE void section_and_write(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;
	struct gm_reader *mine = side->reader;
	uint64_t gpa = side->gpa;

	BENCH_ROUNDS(iters, must(gm_write_u64(gm_reader_enter(mine), gpa, gpa) == 0);
		     gm_reader_leave(mine);)
}

static void pin(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		struct iovec slice;
		struct gm_pin held;
		int rc = gm_pin_slice(
			gm_reader_enter(side->reader), side->gpa, 512, GM_PERM_R, &slice, &held);

		gm_reader_leave(side->reader);
		must(rc == 0);
		gm_pin_put(&held);
	}
}

static void read_file(void *ctx, uint64_t iters)
{
	struct side *side = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		gm_stream_seek(&side->stream, 0);
		must(gm_stream_read(&side->stream, side->reader, side->gpa, 512, GM_STREAM_EXACT,
			     NULL) == 0);
	}
}

static void read_bare(void *ctx, uint64_t iters)
{
	const struct side *side = ctx;

	for (uint64_t i = 0; i < iters; i++)
		must(pread(side->stream.fd, side->raw, 512, 0) == 512);
}

/* ---- what they do it on ---- */

struct guest {
	struct gm_space *space;
	uint8_t *raw;
	uint8_t *storage;
};

static struct guest plain;
static struct guest logged;
static struct guest stored; /* its log's bits are ours */
static struct guest iovas;  /* over plain */

static struct gm_reader *make_reader(struct gm_space *space)
{
	struct gm_reader *reader;
	struct gm_error err;

	bench_need(gm_reader_create(space, "bench", &reader, &err) == 0, "reader", err.text);
	return reader;
}

static void make_guest(struct guest *g)
{
	struct gm_block_opts ram = {.size = sizeof(ram), .len = LEN, .reserve = GM_RESERVE_NONE};
	const struct gm_region_desc desc = {.size = sizeof(desc), .backing = &ram};
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = LEN};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_error err;

	bench_need(gm_space_build(&opts, &desc, 1, &g->space, &err) == 0, "space", err.text);
	bench_need(gm_space_next(g->space, 0, &info) == 0, "region", NULL);
	g->raw = info.hva;
}

static void make_log(struct guest *g, bool own_storage)
{
	struct gm_log_opts opts = {.size = sizeof(opts)};
	struct gm_log *log;
	struct gm_error err;

	if (own_storage) {
		g->storage = aligned_alloc(4096, LEN / 4096 / 8);
		bench_need(g->storage, "bits", NULL);
		memset(g->storage, 0, LEN / 4096 / 8);
		opts.storage = g->storage;
		opts.storage_len = LEN / 4096 / 8;
	}
	bench_need(gm_log_create(g->space, &opts, &log, &err) == 0, "log", err.text);
}

static void make_iovas(void)
{
	const struct gm_space_opts opts = {
		.size = sizeof(opts), .gpa_limit = GM_SPACE_NO_WINDOW, .over = plain.space};
	struct gm_region_desc desc = {.size = sizeof(desc), .kind = GM_REGION_IOMMU};
	struct gm_iommu *iommu;
	struct gm_error err;

	bench_need(gm_iommu_create(plain.space, NULL, &iommu, &err) == 0, "IOMMU", err.text);
	desc.iommu = iommu;
	bench_need(gm_space_build(&opts, &desc, 1, &iovas.space, &err) == 0, "IOVAs", err.text);
	for (uint64_t gpa = 0; gpa < LEN; gpa += 2 * MIB)
		bench_need(gm_iommu_map(iommu, 2 * gpa, 2 * MIB, gpa, GM_PERM_RW, &err) == 0, "map",
			err.text);
	iovas.raw = plain.raw;
}

/* The second side works @gap bytes above the first. */
static void make_pair(struct pair *pair, const struct guest *g, uint64_t gap)
{
	static const uint8_t bytes[512] = {1};
	struct gm_error err;

	for (uint64_t i = 0; i < 2; i++) {
		struct side *side = &pair->sides[i];
		int file = memfd_create("bench", MFD_CLOEXEC);

		must(write(file, bytes, sizeof(bytes)) == sizeof(bytes));
		side->gpa = MIB + i * gap;
		side->raw = g->raw + side->gpa;
		side->bits = g->storage + side->gpa / 4096 / 8;
		side->view = gm_reader_enter(make_reader(g->space));
		side->reader = make_reader(g->space);
		must(gm_fill(side->view, side->gpa, 1, WALK + 8, NULL) == 0);
		bench_need(
			gm_stream_init_file(&side->stream, file, 0, &err) == 0, "file", err.text);
	}
}

#define NEAR UINT64_C(32768) /* the pages behind those of the first side */

static struct pair raw = {.fn = store_raw};
static struct pair reads = {.fn = read_number};
static struct pair writes = {.fn = write_number};
static struct pair marked = {.fn = write_number};
static struct pair marked_far = {.fn = write_number};
static struct pair anew = {.fn = write_anew};
static struct pair adds = {.fn = add};
static struct pair sections = {.fn = section};
static struct pair section_writes = {.fn = section_and_write};
static struct pair iova_reads = {.fn = read_number};
static struct pair pins = {.fn = pin};
static struct pair files = {.fn = read_file};
static struct pair bare_files = {.fn = read_bare};
static struct pair peer_guards; /* of the peer */

static void set_up(void)
{
	make_guest(&plain);
	make_guest(&logged);
	make_guest(&stored);
	make_log(&logged, false);
	make_log(&stored, true);
	make_iovas();
	make_pair(&raw, &plain, NEAR);
	make_pair(&reads, &plain, NEAR);
	make_pair(&writes, &plain, NEAR);
	make_pair(&marked, &logged, NEAR);
	make_pair(&marked_far, &logged, FAR);
	make_pair(&anew, &stored, FAR);
	make_pair(&adds, &plain, NEAR);
	make_pair(&sections, &plain, NEAR);
	make_pair(&section_writes, &logged, NEAR);
	make_pair(&iova_reads, &iovas, 4 * MIB);
	make_pair(&pins, &plain, NEAR);
	make_pair(&files, &plain, NEAR);
	make_pair(&bare_files, &plain, NEAR);
}

/* The first two processors that we may use. */
static bool find_cpus(void)
{
	cpu_set_t set;
	int nr = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return false;
	for (size_t cpu = 0; cpu < CPU_SETSIZE && nr < 2; cpu++) {
		if (CPU_ISSET(cpu, &set))
			cpus[nr++] = cpu;
	}
	return nr == 2;
}

#define TWO(text, pair, limit)                                                                     \
	{                                                                                          \
		.name = text, .ours = two_threads, .ours_ctx = pair, .against = "one thread",      \
		.other = one_thread, .other_ctx = pair, .goal = limit                              \
	}

static struct bench_row rows[] = {
	TWO("two threads: raw stores", &raw, 0),
	TWO("two threads: bare pread of 512 bytes", &bare_files, 0),
	TWO("two threads: read 8 B", &reads, GOAL),
	TWO("two threads: write 8 B", &writes, GOAL),
	TWO("two threads: write 8 B, marked, next pages", &marked, GOAL),
	TWO("two threads: write 8 B, marked, far apart", &marked_far, GOAL),
	TWO("two threads: write 8 B, marked anew", &anew, GOAL),
	TWO("two threads: fetch and add", &adds, GOAL),
	TWO("two threads: map guard, enter and leave", &sections, GOAL),
	TWO("two threads: map guard, write 8 B, marked", &section_writes, GOAL),
	TWO("two threads: read 8 B by IOVA", &iova_reads, GOAL),
	TWO("two threads: pin a slice, put it back", &pins, GOAL),
	TWO("two threads: pread of 512 bytes", &files, GOAL),
	{.name = "map guard, two threads on both sides",
		.ours = two_threads,
		.ours_ctx = &sections,
		.against = BENCH_VMM,
		.other = two_threads,
		.other_ctx = &peer_guards,
		.goal = 0.25},
};

#define NR_ROWS (sizeof(rows) / sizeof(*rows))

int main(int argc, char **argv)
{
	bool can = find_cpus();
	pthread_t thread;

	bench_begin(argc, argv);
	peer_guards.fn = bench_peer("peer_guard");
	if (!peer_guards.fn)
		rows[NR_ROWS - 1].skip = "no peer library";
	for (size_t i = 0; !can && i < NR_ROWS; i++)
		rows[i].skip = "needs two processors";
	if (can) {
		set_up();
		must(pthread_create(&thread, NULL, help, NULL) == 0);
		run_on(cpus[0]);
	}
	bench_rows(rows, NR_ROWS);
	if (can) {
		helper.fn = NULL;
		__atomic_add_fetch(&helper.go, 1, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
	}
	return bench_end();
}
