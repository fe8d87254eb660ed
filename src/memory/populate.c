/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * populate.c - filling a mapping with pages, by several threads, with progress and cancel.
 *
 * Threads take chunks from a shared counter. MADV_POPULATE_WRITE keeps bytes that are there and
 * reports a shortage as an error, where touching would be a signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/avail.h"
#include "memory/block.h"
#include "sys/guard.h"
#include "sys/probe.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define BYTES_PER_THREAD (UINT64_C(64) << 20)
#define CHUNK (UINT64_C(16) << 20)
#define THREADS_MAX 256u

struct job {
	struct gm_map *map;
	uint64_t off; /* in the mapping */
	uint64_t len;
	uint64_t chunk;
	const struct gm_populate_opts *opts;
	uint64_t next;      /* atomic: bytes handed out */
	uint64_t done;      /* atomic: bytes filled */
	uint64_t failed_at; /* offset in the mapping; valid when code is set */
	int code;           /* atomic: first failure */
	uint32_t running;   /* atomic: helpers at work */
	cpu_set_t cpus;
	bool pin;
};

static bool is_cancelled(const struct job *job)
{
	return job->opts->cancel && __atomic_load_n(job->opts->cancel, __ATOMIC_RELAXED);
}

/*
 * Kernels before 5.14 lack the advice. Reading a byte through the kernel brings the page or answers
 * EFAULT where a touch would be a signal; then an atomic "or" of nothing makes it a page of our own
 * and keeps what others write.
 */
static int touch(uint8_t *hva, uint64_t len, uint64_t page, bool write)
{
	int fd = gm_sys_open("/proc/self/mem", O_RDONLY, 0);
	int rc = fd < 0 ? fd : 0;

	for (uint64_t off = 0; off < len && !rc; off += page) {
		struct gm_guard_fault fault;
		uint64_t old;
		ssize_t nr;
		char byte;

		do {
			nr = gm_sys_pread(fd, &byte, 1, (uintptr_t)hva + off);
		} while (nr == -EINTR);
		if (nr != 1 || (write && gm_guard_rmw(GM_GUARD_OR, hva + off, 1, 0, &old, &fault)))
			rc = -EFAULT;
	}
	if (fd >= 0)
		gm_sys_close(fd);
	return rc;
}

static int fill_part(const struct job *job, uint64_t off, uint64_t len)
{
	const struct gm_block *block = job->map->block;
	bool write = !(block->opts.flags & GM_BLOCK_READONLY);
	uint8_t *hva = job->map->hva + off;
	int rc;

	do {
		rc = gm_sys_madvise(hva, len, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	} while (rc == -EINTR || rc == -EAGAIN);
	if (rc == -EINVAL)
		rc = touch(hva, len, block->page_size, write);
	return rc;
}

/* After a failure *off is the page that failed. */
static int fill_chunk(const struct job *job, uint64_t *off, uint64_t len)
{
	uint64_t page = job->map->block->page_size;
	uint64_t end = *off + len;
	int rc = fill_part(job, *off, len);

	if (!rc || len == page)
		return rc;
	for (uint64_t at = *off; at < end; at += page) {
		rc = fill_part(job, at, page);
		*off = at;
		if (rc)
			break;
	}
	return rc;
}

static void work(struct job *job, bool report)
{
	const struct gm_populate_opts *opts = job->opts;

	while (!__atomic_load_n(&job->code, __ATOMIC_RELAXED)) {
		uint64_t at = __atomic_fetch_add(&job->next, job->chunk, __ATOMIC_RELAXED);
		uint64_t off = job->off + at;
		uint64_t len;
		int expected = 0;
		int rc;

		if (at >= job->len)
			break;
		len = job->len - at < job->chunk ? job->len - at : job->chunk;
		rc = is_cancelled(job) ? -ECANCELED : fill_chunk(job, &off, len);
		if (rc && __atomic_compare_exchange_n(&job->code, &expected, rc, false,
				  __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			__atomic_store_n(&job->failed_at, off, __ATOMIC_RELAXED);
		if (rc)
			break;
		__atomic_fetch_add(&job->done, len, __ATOMIC_RELAXED);
		if (report && opts->progress)
			opts->progress(opts->progress_arg,
				__atomic_load_n(&job->done, __ATOMIC_RELAXED), job->len);
	}
}

static void *helper(void *arg)
{
	struct job *job = arg;

	/* Near the memory if we can; it is filled all the same if not. */
	if (job->pin)
		gm_sys_set_affinity(&job->cpus, sizeof(job->cpus));
	work(job, false);
	__atomic_fetch_sub(&job->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* Adds the CPUs of "0-3,8" to the set. */
static void add_cpu_list(const char *list, cpu_set_t *set)
{
	while (*list >= '0' && *list <= '9') {
		char *end;
		unsigned long first = strtoul(list, &end, 10);
		unsigned long last = *end == '-' ? strtoul(end + 1, &end, 10) : first;

		for (unsigned long cpu = first; cpu <= last && cpu < CPU_SETSIZE; cpu++)
			CPU_SET(cpu, set);
		list = *end == ',' ? end + 1 : end;
	}
}

/* CPUs of the nodes that the memory is bound to. */
static bool near_cpus(const struct gm_numa *numa, cpu_set_t *ret)
{
	CPU_ZERO(ret);
	if (numa->mode != GM_NUMA_BIND && numa->mode != GM_NUMA_PREFERRED)
		return false;
	for (unsigned int node = 0; node < GM_NUMA_WORDS * 64; node++) {
		char path[64];
		char text[1024];

		if (!(numa->nodes[node / 64] >> (node % 64) & 1))
			continue;
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpulist", node);
		if (gm_sys_read_text(path, text, sizeof(text)) > 0)
			add_cpu_list(text, ret);
	}
	return CPU_COUNT(ret) > 0;
}

static uint32_t thread_count(const struct job *job)
{
	uint64_t chunks = (job->len + job->chunk - 1) / job->chunk;
	uint64_t want = job->opts->threads;

	if (want == 0) {
		want = job->len / BYTES_PER_THREAD;
		if (want > (uint64_t)gm_sys_cpu_count())
			want = (uint64_t)gm_sys_cpu_count();
	}
	if (want > chunks)
		want = chunks;
	if (want > THREADS_MAX)
		want = THREADS_MAX;
	return want ? (uint32_t)want : 1;
}

static int explain(const struct job *job, struct gm_error *err)
{
	const struct gm_block *block = job->map->block;
	uint64_t at = job->map->block_off + job->failed_at;
	struct gm_pool pool;
	int rc = job->code;

	if (rc == -ECANCELED)
		return gm_error_set(
			err, rc, at, job->len, "%s: population was cancelled", block->name);
	if (rc == -EFAULT && block->hugetlb &&
		gm_pool_read((uint32_t)__builtin_ctzll(block->page_size), &pool) == 0) {
		return gm_error_set(err, -ENOMEM, at, job->len,
			"%s: the pool of %" PRIu64 " kB pages ran out at offset 0x%" PRIx64
			" (%" PRIu64 " free): raise "
			"/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/nr_hugepages",
			block->name, pool.page_size >> 10, at, pool.free, pool.page_size >> 10);
	}
	return gm_error_set(err, rc, at, job->len,
		"%s: cannot populate at offset 0x%" PRIx64 ": %s", block->name, at,
		rc == -EFAULT && block->fd >= 0 ? "the file system is full, or the file shorter"
						: gm_error_word(rc));
}

/* Runs @nr_threads - 1 helpers and works along. A helper that cannot be started is an error, not a
 * half set. */
static void run(struct job *job, uint32_t nr_threads)
{
	pthread_t threads[THREADS_MAX];
	uint32_t started = 0;
	int rc = 0;

	while (started + 1 < nr_threads) {
		__atomic_fetch_add(&job->running, 1, __ATOMIC_RELAXED);
		rc = gm_sys_thread_create(&threads[started], helper, job);
		if (rc) {
			__atomic_fetch_sub(&job->running, 1, __ATOMIC_RELAXED);
			__atomic_store_n(&job->code, rc, __ATOMIC_RELAXED);
			break;
		}
		started++;
	}
	work(job, true);
	while (job->opts->progress && __atomic_load_n(&job->running, __ATOMIC_ACQUIRE) > 0) {
		gm_sys_sleep_ns(1000000);
		job->opts->progress(job->opts->progress_arg,
			__atomic_load_n(&job->done, __ATOMIC_RELAXED), job->len);
	}
	for (uint32_t i = 0; i < started; i++)
		gm_sys_thread_join(threads[i]);
}

int gm_map_populate(struct gm_map *map, const struct gm_populate_opts *user, struct gm_error *err)
{
	struct gm_populate_opts opts = {.size = sizeof(opts)};
	struct job job = {.map = map, .opts = &opts};
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;
	uint64_t start;
	uint64_t ns;

	if (rc)
		return gm_opts_error(err, rc, "populate");
	if (opts.reserved)
		return gm_error_set(err, -EINVAL, 0, 0, "populate: reserved must be 0");
	if (opts.off > map->len || opts.len > map->len - opts.off ||
		!gm_is_aligned(opts.off | opts.len, map->block->page_size))
		return gm_error_set(err, -EINVAL, opts.off, opts.len,
			"%s: cannot populate offset 0x%" PRIx64 ", %" PRIu64
			" bytes: outside the block or not whole pages",
			map->block->name, opts.off, opts.len);
	job.off = opts.off;
	job.len = opts.len ? opts.len : map->len - opts.off;
	job.chunk = map->block->page_size > CHUNK ? map->block->page_size : CHUNK;
	job.pin = near_cpus(&map->block->opts.numa, &job.cpus);
	start = gm_sys_now_ns();
	run(&job, thread_count(&job));
	ns = gm_sys_now_ns() - start;
	gm_tally(&map->block->tallies, GM_COUNT_POPULATE, job.done, ns, job.code);
	GM_PROBE5(populate, map->block->name, (uintptr_t)map->hva + job.off, job.len, ns, job.code);
	return job.code ? explain(&job, err) : 0;
}

int gm_block_populate(
	struct gm_block *block, const struct gm_populate_opts *opts, struct gm_error *err)
{
	struct gm_map *map;
	int rc;

	if (gm_block_is_far(block))
		return gm_error_set(
			err, -ENOTSUP, 0, block->len, "%s: it is not mapped", block->name);
	/* Pinned, so that it stays where it is meanwhile. */
	map = gm_map_pin_home(block);
	rc = gm_map_populate(map, opts, err);
	gm_map_unpin(map);
	return rc;
}

int gm_map_count_huge(const struct gm_map *map, uint64_t *ret)
{
	struct page_region found[64];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)map->hva,
		.end = (uintptr_t)map->hva + map->len,
		.vec = (uintptr_t)found,
		.vec_len = sizeof(found) / sizeof(*found),
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
	};
	uint64_t sum = 0;
	int nr;
	int fd = gm_sys_open("/proc/self/pagemap", 0, 0);

	if (fd < 0)
		return fd;
	do {
		nr = gm_sys_ioctl(fd, PAGEMAP_SCAN, &arg);
		for (int i = 0; i < nr; i++)
			sum += found[i].end - found[i].start;
		/* Go on behind the last extent: walk_end can be stale. */
		if (nr > 0)
			arg.start = found[nr - 1].end;
	} while (nr == (int)arg.vec_len || nr == -EINTR);
	gm_sys_close(fd);
	if (nr < 0)
		return -ENOTSUP;
	*ret = sum;
	return 0;
}
