/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault_state.c - is everything given back? And the sweep that asks it after each fault.
 *
 * Mappings are looked at twice: in a ledger of what went through gm_sys_mmap(), which is exact also
 * under sanitizers and with threads, and in /proc/self/maps, which knows the truth but also what
 * the C library did.
 */
#include "fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/rangeset.h"
#include "fault_ledger.h"

#define LEDGER_MAX 65536

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gm_range ranges[LEDGER_MAX];
static struct gm_rangeset ledger = {.ranges = ranges, .cap = LEDGER_MAX};
static long blocks;
static long bytes; /* atomic */

/* ---- the ledger ---- */

static void ledger_must(bool ok)
{
	if (!ok) {
		fprintf(stderr, "fault: the ledger of mappings is full\n");
		abort();
	}
}

static uint64_t whole_pages(uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (len + page - 1) / page * page;
}

void fault_ledger_map(uint64_t addr, uint64_t len)
{
	struct gm_range r;

	if (!gm_range_make(addr, whole_pages(len), &r))
		return;
	pthread_mutex_lock(&lock);
	ledger_must(gm_rangeset_add(&ledger, &r));
	pthread_mutex_unlock(&lock);
}

void fault_ledger_unmap(uint64_t addr, uint64_t len)
{
	struct gm_range r;

	if (!gm_range_make(addr, whole_pages(len), &r))
		return;
	pthread_mutex_lock(&lock);
	ledger_must(gm_rangeset_remove(&ledger, &r));
	pthread_mutex_unlock(&lock);
}

void fault_ledger_blocks(long nr, long len)
{
	__atomic_add_fetch(&blocks, nr, __ATOMIC_RELAXED);
	__atomic_add_fetch(&bytes, len, __ATOMIC_RELAXED);
}

long fault_bytes(void)
{
	return __atomic_load_n(&bytes, __ATOMIC_RELAXED);
}

long fault_blocks(void)
{
	return __atomic_load_n(&blocks, __ATOMIC_RELAXED);
}

uint64_t fault_mapped(void)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < ledger.nr; i++)
		sum += gm_range_len(&ledger.ranges[i]);
	pthread_mutex_unlock(&lock);
	return sum;
}

/* ---- /proc ---- */

/* Writes "number target" lines of the open fds, but for the one it looks with, into @buf. */
static size_t list_fds(char *buf, size_t cap)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	size_t nr = 0;
	size_t len = 0;

	assert_non_null(dir);
	buf[0] = '\0';
	while ((entry = readdir(dir))) {
		char target[80];
		ssize_t got;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(dir))
			continue;
		nr++;
		got = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		target[got > 0 ? got : 0] = '\0';
		if (len < cap)
			len += (size_t)snprintf(
				buf + len, cap - len, "%s %s\n", entry->d_name, target);
	}
	closedir(dir);
	return nr;
}

size_t fault_open_fds(void)
{
	static char buf[4096];

	return list_fds(buf, sizeof(buf));
}

#ifndef SANITIZED

/* Lines that the C library and the kernel change by themselves. */
static bool is_foreign(const char *line)
{
	return strstr(line, "[heap]") || strstr(line, "[stack]") || strstr(line, "[vdso]") ||
	       strstr(line, "[vvar");
}

static size_t read_maps(char *buf, size_t cap)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t nr;

	assert_true(fd >= 0);
	while ((nr = read(fd, buf + len, cap - 1 - len)) > 0)
		len += (size_t)nr;
	close(fd);
	/* A file that does not fit would be compared in part only. */
	assert_true(len < cap - 1);
	buf[len] = '\0';
	return len;
}

/* Prints the lines of @text that @other lacks; returns their number. */
static size_t lines_missing(const char *text, const char *other, const char *what)
{
	size_t nr = 0;

	while (*text) {
		size_t len = strcspn(text, "\n");
		char line[512];

		snprintf(line, sizeof(line), "%.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
		if (is_foreign(line) || strstr(other, line))
			continue;
		fprintf(stderr, "fault: %s %s", what, line);
		nr++;
	}
	return nr;
}

#endif

static void *nothing(void *arg)
{
	return arg;
}

/* The C library keeps arenas and a stack of threads that have ended; neither is what is looked for.
 */
static void settle_libc(void)
{
	static bool settled;
	pthread_t thread;

	if (settled)
		return;
	settled = true;
	mallopt(M_ARENA_MAX, 1);
	if (pthread_create(&thread, NULL, nothing, NULL) == 0)
		pthread_join(thread, NULL);
}

void fault_state_take(struct fault_state *ret)
{
	settle_libc();
	ret->nr_fds = list_fds(ret->fds, sizeof(ret->fds));
	ret->blocks = fault_blocks();
	pthread_mutex_lock(&lock);
	assert_true(ledger.nr <= FAULT_STATE_MAPS);
	ret->nr_mapped = ledger.nr;
	for (size_t i = 0; i < ledger.nr; i++) {
		ret->mapped[i].first = ledger.ranges[i].first;
		ret->mapped[i].last = ledger.ranges[i].last;
	}
	pthread_mutex_unlock(&lock);
	ret->maps_len = 0;
#ifndef SANITIZED
	ret->maps_len = read_maps(ret->maps, sizeof(ret->maps));
#endif
}

static bool same_ledger(const struct fault_state *before)
{
	bool same = before->nr_mapped == ledger.nr;

	for (size_t i = 0; same && i < ledger.nr; i++)
		same = before->mapped[i].first == ledger.ranges[i].first &&
		       before->mapped[i].last == ledger.ranges[i].last;
	if (same)
		return true;
	for (size_t i = 0; i < before->nr_mapped; i++)
		fprintf(stderr, "fault: mapped before: %#llx-%#llx\n",
			(unsigned long long)before->mapped[i].first,
			(unsigned long long)before->mapped[i].last);
	for (size_t i = 0; i < ledger.nr; i++)
		fprintf(stderr, "fault: mapped now:    %#llx-%#llx\n",
			(unsigned long long)ledger.ranges[i].first,
			(unsigned long long)ledger.ranges[i].last);
	return false;
}

bool fault_state_same(const struct fault_state *before)
{
	static struct fault_state now;
	bool same = true;

	fault_state_take(&now);
	if (now.blocks != before->blocks) {
		fprintf(stderr, "fault: %ld blocks of heap before, %ld now\n", before->blocks,
			now.blocks);
		same = false;
	}
	if (now.nr_fds != before->nr_fds) {
		fprintf(stderr, "fault: %zu fds before, %zu now:\n%s", before->nr_fds, now.nr_fds,
			now.fds);
		same = false;
	}
	if (!same_ledger(before))
		same = false;
#ifndef SANITIZED
	if (lines_missing(now.maps, before->maps, "new mapping") +
		lines_missing(before->maps, now.maps, "lost mapping"))
		same = false;
#endif
	return same;
}

/* ---- the sweep ---- */

/* One run; true if a fault was injected. */
static bool sweep_run(int (*scenario)(void *ctx), void *ctx, const struct fault_plan *plan,
	const struct fault_state *before)
{
	unsigned long nr;
	int rc;

	fault_set(plan);
	rc = scenario(ctx);
	fault_disarm();
	nr = fault_hits();
	if (!fault_state_same(before))
		fail_msg("leak after errno %d %s at call %lu (%s), scenario returned %d",
			plan->error, plan->forever ? "for ever" : "once", plan->nth,
			fault_name(fault_hit_fn()), rc);
	if (rc > 0)
		fail_msg("a scenario returns 0 or a negative errno value, not %d", rc);
	if (rc < 0 && nr == 0)
		fail_msg("scenario returned %d without a fault", rc);
	return nr > 0;
}

unsigned long fault_sweep_opts(
	int (*scenario)(void *ctx), void *ctx, const struct fault_sweep_opts *opts)
{
	static const int usual[] = {ENOMEM, EINVAL, EPERM};
	static struct fault_state before;
	const int *errnos = opts->errnos ? opts->errnos : usual;
	size_t nr_errnos = opts->errnos ? opts->nr_errnos : sizeof(usual) / sizeof(usual[0]);
	unsigned long injected = 0;

	/* Twice: the first run may leave what is made once in a process. */
	fault_set(NULL);
	assert_int_equal(scenario(ctx), 0);
	fault_state_take(&before);
	assert_int_equal(scenario(ctx), 0);
	assert_true(fault_state_same(&before));
	/* Interruptions alone must not make it fail. */
	fault_set(&(struct fault_plan){.eintr = opts->eintr});
	assert_int_equal(scenario(ctx), 0);
	fault_disarm();
	assert_true(fault_state_same(&before));

	for (size_t i = 0; i < nr_errnos * 2; i++) {
		struct fault_plan plan = {.fn = opts->fn,
			.error = errnos[i / 2],
			.forever = i % 2,
			.eintr = opts->eintr};

		for (plan.nth = 1;; plan.nth++) {
			bool hit = sweep_run(scenario, ctx, &plan, &before);

			injected += hit;
			/* In an EINTR storm each run has hits; then the calls tell the end. */
			if (!hit || (plan.eintr && fault_calls(plan.fn) < plan.nth))
				break;
		}
	}
	return injected;
}

unsigned long fault_sweep(int (*scenario)(void *ctx), void *ctx)
{
	return fault_sweep_opts(scenario, ctx, &(struct fault_sweep_opts){.fn = FAULT_ANY});
}
