/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_wset.c - a recorded working set brought ahead, hot and cold; a hot file that is mapped; clones; recording.
 *
 * usage: bench_wset [--json FILE]
 *
 * The image is a file of 1 GiB in TMPDIR (/var/tmp), which should be a disk. The set is 64 MiB in 2438 runs, touched in
 * a random order.
 */
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

#define PAGE UINT64_C(4096)
#define LEN (UINT64_C(1) << 30)
#define SET_PAGES 16384u
#define RUNS 2438u
#define CHUNK (UINT64_C(2) << 20)
#define CLONE_LEN (UINT64_C(64) << 20)
#define FEW_RUNS (RUNS / 8) /* of it, that are brought by faults */

static const uint8_t name[16] = {1};
static struct gm_wset_run runs[RUNS];
/* Pages in the order of touches, and as a set. */
static struct chosen {
	uint32_t touches[SET_PAGES];
	uint32_t nr;
	struct gm_wset *set;
} all, few;

static int image = -1;
static int direct = -1;
static int sealed = -1;
static struct gm_source *file;
static uint8_t *memory;
static uint8_t *buffer;
static struct gm_pager *pager;
static struct gm_wset_recorder *recorder;
static int uffd = -1;
static void *mapped;
static uint64_t mapped_len;

static void must(bool what, const char *why)
{
	bench_need(what, why, NULL);
}

/* ---- the image, and what is touched of it ---- */

static uint64_t next_random(void)
{
	static uint64_t state = 1;
	uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	return z ^ z >> 31;
}

/* Runs of 6 or 7 pages, one in each stretch of equal length. */
static void make_runs(void)
{
	const uint64_t stretch = LEN / PAGE / RUNS;
	uint64_t pages = 0;

	for (uint64_t i = 0; i < RUNS; i++) {
		uint64_t len = SET_PAGES * (i + 1) / RUNS - pages;
		uint64_t first = i * stretch + next_random() % (stretch - len);

		runs[i] = (struct gm_wset_run){.off = first * PAGE, .len = len * PAGE};
		pages += len;
	}
}

static void choose(struct chosen *c, uint64_t nr_runs)
{
	struct gm_wset_run *order = calloc(SET_PAGES, sizeof(*order));

	must(order != NULL, "memory");
	for (uint64_t i = 0; i < nr_runs; i++) {
		for (uint64_t off = 0; off < runs[i].len; off += PAGE)
			c->touches[c->nr++] = (uint32_t)((runs[i].off + off) / PAGE);
	}
	for (uint32_t i = c->nr - 1; i > 0; i--) {
		uint32_t other = (uint32_t)(next_random() % (i + 1));
		uint32_t page = c->touches[i];

		c->touches[i] = c->touches[other];
		c->touches[other] = page;
	}
	for (uint32_t i = 0; i < c->nr; i++)
		order[i] = (struct gm_wset_run){.off = c->touches[i] * PAGE, .len = PAGE};
	must(gm_wset_create(order, c->nr, LEN, name, &c->set, NULL) == 0, "a set");
	free(order);
}

static void make_image(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];

	snprintf(path, sizeof(path), "%s/guestmem-bench-XXXXXX", dir ? dir : "/var/tmp");
	image = mkostemp(path, O_CLOEXEC);
	must(image >= 0, "a file in TMPDIR or /var/tmp");
	direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unlink(path);
	must(direct >= 0, "O_DIRECT where the image is");
	for (uint64_t off = 0; off < LEN; off += CHUNK) {
		for (uint64_t i = 0; i < CHUNK / 8; i++)
			((uint64_t *)(void *)buffer)[i] = next_random();
		must(pwrite(image, buffer, CHUNK, (off_t)off) == (ssize_t)CHUNK, "an image");
	}
	must(fsync(image) == 0 && gm_source_file(image, 0, 0, &file, NULL) == 0, "an image");
}

static void make_sealed(void)
{
	struct gm_source *part;

	must(gm_source_file(image, 0, CLONE_LEN, &part, NULL) == 0 &&
			gm_clone_image(part, NULL, &sealed, NULL) == 0,
		"an image for clones");
	gm_source_destroy(part);
}

static void *map_at(void *to, uint64_t len, int flags, int fd)
{
	/* cppcheck-suppress invalidFunctionArg ; anonymous memory has no file */
	void *at = mmap(to, len, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);

	must(at != MAP_FAILED, "a mapping");
	return at;
}

static void *map(uint64_t len, int flags, int fd)
{
	return map_at(NULL, len, flags, fd);
}

/* ---- between samples ---- */

static void end_pager(void)
{
	if (!pager)
		return;
	must(gm_pager_stop(pager, GM_PAGER_HANDOVER, 0, NULL) == 0 &&
			gm_pager_destroy(pager, NULL) == 0,
		"the end of a pager");
	pager = NULL;
}

static void clear(void *ctx)
{
	(void)ctx;
	end_pager();
	if (uffd >= 0)
		close(uffd);
	uffd = -1;
	if (mapped)
		munmap(mapped, mapped_len);
	mapped = NULL;
	/* What was mapped there goes. */
	memory = map_at(memory, LEN, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
	must(madvise(memory, LEN, MADV_NOHUGEPAGE) == 0, "memory");
}

static void clear_cold(void *ctx)
{
	clear(ctx);
	must(posix_fadvise(image, 0, 0, POSIX_FADV_DONTNEED) == 0, "an empty page cache");
}

/* ---- a set ---- */

static void touch(const uint8_t *at, const struct chosen *c)
{
	for (uint32_t i = 0; i < c->nr; i++)
		bench_sink += at[c->touches[i] * PAGE];
}

static void begin(struct gm_source *source, uint32_t flags)
{
	struct gm_pager_area_opts opts = {.size = sizeof(opts), .source = source, .flags = flags};

	must(gm_pager_create(NULL, &pager, NULL) == 0 &&
			gm_pager_add_range(pager, memory, LEN, &opts, NULL, NULL) == 0,
		"a pager");
}

static void bring(const struct chosen *c)
{
	struct gm_pager_stats stats = {.size = sizeof(stats)};

	must(gm_pager_prefetch_set(pager, 0, c->set, 0, NULL) == 0, "a set");
	while (stats.bytes_ahead < c->nr * PAGE)
		must(gm_pager_step(pager, 0) >= 0 && gm_pager_stats(pager, &stats) == 0, "a step");
}

static void set_ours(void *ctx, uint64_t iters)
{
	(void)iters;
	begin(file, 0);
	bring(ctx);
	touch(memory, ctx);
}

static int bare_uffd(void *at, uint64_t len, uint64_t mode, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	struct uffdio_register reg = {.range = {(uintptr_t)at, len}, .mode = mode};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	must(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &reg) == 0,
		"a userfaultfd");
	return fd;
}

static void set_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	uffd = bare_uffd(memory, LEN, UFFDIO_REGISTER_MODE_MISSING, 0);
	for (uint32_t i = 0; i < RUNS; i++) {
		struct uffdio_copy copy = {.dst = (uintptr_t)memory + runs[i].off,
			.src = (uintptr_t)buffer,
			.len = runs[i].len};

		must(pread(image, buffer, runs[i].len, (off_t)runs[i].off) ==
					(ssize_t)runs[i].len &&
				ioctl(uffd, UFFDIO_COPY, &copy) == 0,
			"a copy");
	}
	touch(memory, &all);
}

/* As many bytes as the set has, in one piece from the disk. */
static void read_disk(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	for (uint64_t off = 0; off < SET_PAGES * PAGE; off += CHUNK)
		must(pread(direct, buffer, CHUNK, (off_t)off) == (ssize_t)CHUNK, "a read");
}

/* ---- the guest does not wait for it ---- */

static void *run_pager(void *arg)
{
	must(gm_pager_run(arg) == 0, "a pager");
	return NULL;
}

/* A guest that touches its pages from the first moment on; @flags: how they are brought, NULL: by its faults. */
static void beside(const struct chosen *c, const uint32_t *flags)
{
	pthread_t thread;

	begin(file, 0);
	if (flags)
		must(gm_pager_prefetch_set(pager, 0, c->set, *flags, NULL) == 0, "a set");
	must(pthread_create(&thread, NULL, run_pager, pager) == 0, "a thread");
	touch(memory, c);
	gm_pager_quit(pager);
	pthread_join(thread, NULL);
}

static void guest_all(void *ctx, uint64_t iters)
{
	(void)iters;
	beside(&all, ctx);
}

static void guest_few(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	beside(&few, NULL);
}

/* ---- a hot file that may be mapped ---- */

static void file_ours(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	begin(file, GM_PAGER_MAY_MAP);
	touch(memory, &all);
}

static void file_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	mapped_len = LEN;
	mapped = map(LEN, MAP_PRIVATE, image);
	touch(mapped, &all);
}

/* ---- clones ---- */

static void clone_map(void)
{
	mapped_len = CLONE_LEN;
	mapped = map(CLONE_LEN, MAP_PRIVATE, sealed);
}

static void clone_ours(void *ctx, uint64_t iters)
{
	struct gm_pager_area_opts opts = {
		.size = sizeof(opts), .flags = GM_PAGER_FILE, .fd = sealed};
	struct gm_pager_stats stats = {.size = sizeof(stats)};
	uint64_t area;

	(void)ctx;
	(void)iters;
	clone_map();
	must(gm_pager_create(NULL, &pager, NULL) == 0 &&
			gm_pager_add_range(pager, mapped, CLONE_LEN, &opts, &area, NULL) == 0 &&
			gm_pager_prefetch(pager, area, 0, CLONE_LEN) == 0,
		"a pager");
	while (stats.bytes_ahead < CLONE_LEN)
		must(gm_pager_step(pager, 0) >= 0 && gm_pager_stats(pager, &stats) == 0, "a step");
}

static void clone_bare(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	clone_map();
	uffd = bare_uffd(mapped, CLONE_LEN,
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR,
		UFFD_FEATURE_MINOR_SHMEM);
	for (uint64_t off = 0; off < CLONE_LEN; off += CHUNK) {
		struct uffdio_continue go = {.range = {(uintptr_t)mapped + off, CHUNK}};

		must(ioctl(uffd, UFFDIO_CONTINUE, &go) == 0, "a continuation");
	}
}

/* No userfaultfd. */
static void clone_kernel(void *ctx, uint64_t iters)
{
	(void)ctx;
	(void)iters;
	clone_map();
	for (uint64_t off = 0; off < CLONE_LEN; off += PAGE)
		bench_sink += *(const uint8_t *)((const uint8_t *)mapped + off * 77 % CLONE_LEN);
}

/* All pages of a clone, read: how many bytes of it are its own? */
static double clone_own(void)
{
	char line[256];
	uint64_t own = 0;
	bool here = false;
	FILE *smaps;

	clear(NULL);
	clone_ours(NULL, 1);
	for (uint64_t off = 0; off < CLONE_LEN; off += PAGE)
		bench_sink += *(const uint8_t *)((const uint8_t *)mapped + off);
	smaps = fopen("/proc/self/smaps", "re");
	must(smaps != NULL, "smaps");
	while (fgets(line, sizeof(line), smaps)) {
		unsigned long long value;
		char end;

		if (sscanf(line, "%llx%c", &value, &end) == 2 && end == '-')
			here = value == (uintptr_t)mapped;
		else if (here && sscanf(line, "Anonymous: %llu", &value) == 1)
			own = value * 1024;
	}
	fclose(smaps);
	return (double)own / (double)CLONE_LEN;
}

/* ---- recording ---- */

static void record_before(void *ctx)
{
	struct gm_wset_recorder_opts opts = {.size = sizeof(opts), .len = LEN};

	clear(ctx);
	gm_wset_recorder_destroy(recorder);
	must(gm_wset_recorder_create(&opts, &recorder, NULL) == 0, "a recorder");
}

static void record(void *ctx, uint64_t iters)
{
	(void)ctx;
	for (uint64_t i = 0; i < iters; i++)
		gm_wset_recorder_note(recorder, all.touches[i % SET_PAGES] * PAGE);
}

/* Bytes of the file for what is allowed: a bit for each page of the image, two bytes a fault. */
static double file_share(void)
{
	char path[] = "/tmp/guestmem-bench-XXXXXX";
	struct stat st;
	int fd = mkostemp(path, O_CLOEXEC);

	must(fd >= 0 && gm_wset_save(all.set, path, NULL) == 0 && stat(path, &st) == 0,
		"a set's file");
	close(fd);
	unlink(path);
	return (double)st.st_size / (double)(LEN / PAGE / 8 + 2 * SET_PAGES);
}

/* ---- rows ---- */

static uint32_t sorted;
static uint32_t in_order = GM_WSET_IN_ORDER;

static const struct bench_row rows[] = {
	{.name = "64 MiB of 1 GiB in 2438 runs, hot: brought, touched",
		.ours = set_ours,
		.ours_ctx = &all,
		.against = "pread, UFFDIO_COPY of the runs, touched",
		.other = set_bare,
		.goal = 1.1,
		.before = clear,
		.iters = 1},
	{.name = "an eighth of the runs, hot: brought, touched",
		.ours = set_ours,
		.ours_ctx = &few,
		.against = "faults on demand",
		.other = guest_few,
		.goal = 0.2,
		.before = clear,
		.iters = 1},
	{.name = "64 MiB in 2438 runs, cold: brought, touched",
		.ours = set_ours,
		.ours_ctx = &all,
		.against = "64 MiB from the disk in one piece",
		.other = read_disk,
		.goal = 1.3,
		.before = clear_cold,
		.iters = 1},
	{.name = "a guest beside it, set by address",
		.ours = guest_all,
		.ours_ctx = &sorted,
		.against = "set in the order of touches",
		.other = guest_all,
		.other_ctx = &in_order,
		.before = clear,
		.iters = 1},
	{.name = "a hot file, 64 MiB touched, way chosen by itself",
		.ours = file_ours,
		.against = "mmap MAP_PRIVATE, touched",
		.other = file_bare,
		.goal = 1.25,
		.before = clear,
		.iters = 1},
	{.name = "a clone of 64 MiB, continued",
		.ours = clone_ours,
		.against = "UFFDIO_CONTINUE of 2 MiB",
		.other = clone_bare,
		.goal = 1.1,
		.before = clear,
		.iters = 1},
	{.name = "a clone of 64 MiB, continued",
		.ours = clone_ours,
		.against = "read, paged by the kernel",
		.other = clone_kernel,
		.before = clear,
		.iters = 1},
	{.name = "a first touch recorded",
		.ours = record,
		.against = "50 ns",
		.limit_ns = 50,
		.goal = 1,
		.before = record_before,
		.iters = SET_PAGES},
};

int main(int argc, char **argv)
{
	static const struct bench_row own = {.name = "a clone's own bytes, all of it read",
		.against = "share",
		.limit_ns = 0.01};
	static const struct bench_row share = {.name = "a set's file",
		.against = "of a bit a page, two bytes a fault",
		.limit_ns = 1};

	bench_begin(argc, argv);
	memory = map(LEN, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	buffer = map(CHUNK, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	make_runs();
	choose(&all, RUNS);
	choose(&few, FEW_RUNS);
	make_image();
	make_sealed();
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	bench_fact(&own, clone_own());
	bench_fact(&share, file_share());
	clear(NULL);
	gm_wset_recorder_destroy(recorder);
	gm_wset_destroy(all.set);
	gm_wset_destroy(few.set);
	gm_source_destroy(file);
	return bench_end();
}
