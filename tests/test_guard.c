/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_guard.c - faults on guest memory become errors with an exact count; all other signals go
 * their way.
 *
 * What needs its own signal handlers, or dies, runs in a forked child. Every test of a fault looks
 * at the handler's count, so that one in which nothing faulted fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <guestmem/guestmem.h>

#include "handmade.h"
#include "random.h"
#include "support.h"
#include "sys/guard.h"

#define PAGE ((size_t)4096)
#define GOOD                                                                                       \
	(12 * PAGE) /* bytes in front of the bad page; more than the limit of the widest loops */
#define HUGE_PAGE ((size_t)2 << 20)

#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFDIO_POISON
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* ---- memory of GOOD bytes and a bad page (or more) behind ---- */

struct bad {
	uint8_t *base;
	size_t len;
	int fd;
};

struct backing {
	const char *name;
	bool (*make)(struct bad *bad); /* false: this host cannot */
	int signo;
};

static uint8_t *map(size_t len, int prot, int flags, int fd)
{
	uint8_t *at = mmap(NULL, len, prot, flags, fd, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static void unmake(struct bad *bad)
{
	munmap(bad->base, bad->len);
	if (bad->fd >= 0)
		close(bad->fd);
}

static bool make_truncated(struct bad *bad)
{
	bad->fd = memfd_create("truncated", MFD_CLOEXEC);
	assert_true(bad->fd >= 0);
	assert_int_equal(ftruncate(bad->fd, GOOD + 4 * PAGE), 0);
	bad->len = GOOD + 4 * PAGE;
	bad->base = map(bad->len, PROT_READ | PROT_WRITE, MAP_SHARED, bad->fd);
	memset(bad->base, 1, bad->len);
	assert_int_equal(ftruncate(bad->fd, GOOD), 0);
	return true;
}

static bool make_protected(struct bad *bad)
{
	bad->len = GOOD + 4 * PAGE;
	bad->base = map(bad->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	assert_int_equal(mprotect(bad->base + GOOD, 4 * PAGE, PROT_NONE), 0);
	return true;
}

/* A file of a hugetlbfs that may hold nothing: as an empty pool, whatever the host's pools have.
 * Nothing is attached anywhere. */
static int open_empty_pool(void)
{
	int fs = fsopen("hugetlbfs", FSOPEN_CLOEXEC);
	int mnt = -1;
	int fd = -1;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "pagesize", "2M", 0) == 0 &&
		fsconfig(fs, FSCONFIG_SET_STRING, "size", "0", 0) == 0 &&
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mnt >= 0)
		fd = openat(mnt, "pool", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	close(mnt);
	close(fs);
	return fd;
}

/* A huge page that the pool does not have, behind base pages. */
static bool make_hugetlb(struct bad *bad)
{
	uint8_t *area = map(4 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	uint8_t *huge = (uint8_t *)(((uintptr_t)area + 2 * HUGE_PAGE - 1) & -HUGE_PAGE);
	uint8_t *base = huge - GOOD;

	munmap(area, 4 * HUGE_PAGE);
	bad->fd = open_empty_pool();
	if (bad->fd < 0)
		return false;
	assert_int_equal(ftruncate(bad->fd, (off_t)HUGE_PAGE), 0);
	bad->len = GOOD + HUGE_PAGE;
	bad->base = mmap(base, GOOD, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_ptr_equal(bad->base, base);
	assert_ptr_equal(mmap(huge, HUGE_PAGE, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, bad->fd, 0),
		huge);
	return true;
}

static int open_uffd(struct bad *bad, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return -1;
	bad->len = GOOD + 4 * PAGE;
	bad->base = map(bad->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	bad->fd = fd;
	reg.range.start = (uintptr_t)bad->base + GOOD;
	reg.range.len = 4 * PAGE;
	if (ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &reg) == 0)
		return fd;
	unmake(bad);
	return -1;
}

static bool make_poisoned(struct bad *bad)
{
	struct uffdio_poison poison = {0};
	int fd = open_uffd(bad, UFFD_FEATURE_POISON);

	if (fd < 0)
		return false;
	poison.range.start = (uintptr_t)bad->base + GOOD;
	poison.range.len = 4 * PAGE;
	assert_int_equal(ioctl(fd, UFFDIO_POISON, &poison), 0);
	return true;
}

static bool make_missing(struct bad *bad)
{
	return open_uffd(bad, UFFD_FEATURE_SIGBUS) >= 0;
}

static const struct backing backings[] = {
	{"truncated file", make_truncated, SIGBUS},
	{"no access", make_protected, SIGSEGV},
	{"empty huge-page pool", make_hugetlb, SIGBUS},
	{"poisoned by userfaultfd", make_poisoned, SIGBUS},
	{"missing with UFFD_FEATURE_SIGBUS", make_missing, SIGBUS},
};

#define NR_BACKINGS (sizeof(backings) / sizeof(backings[0]))

static bool make(const struct backing *backing, struct bad *bad)
{
	*bad = (struct bad){.fd = -1};
	if (!backing->make(bad)) {
		print_message("not on this host: %s\n", backing->name);
		return false;
	}
	for (size_t i = 0; i < GOOD; i++)
		bad->base[i] = (uint8_t)(i * 11 + i / 251 + 1);
	return true;
}

/* ---- the copies, each version of them ---- */

struct routines {
	const char *name;
	size_t (*from)(void *dst, const void *src, size_t len, struct gm_guard_fault *fault);
	size_t (*to)(void *dst, const void *src, size_t len, struct gm_guard_fault *fault);
	size_t (*both)(void *dst, const void *src, size_t len, struct gm_guard_fault *fault);
	size_t (*fill)(void *dst, int byte, size_t len, struct gm_guard_fault *fault);
	bool (*works)(void);
};

static bool always(void)
{
	return true;
}

#if defined(__x86_64__) && !defined(GM_GUARD_GENERIC)
#define DECLARE(isa)                                                                               \
	size_t gm_guard_copy_from_##isa(void *, const void *, size_t, struct gm_guard_fault *);    \
	size_t gm_guard_copy_to_##isa(void *, const void *, size_t, struct gm_guard_fault *);      \
	size_t gm_guard_copy_both_##isa(void *, const void *, size_t, struct gm_guard_fault *);    \
	size_t gm_guard_fill_##isa(void *, int, size_t, struct gm_guard_fault *);
DECLARE(sse2)
DECLARE(avx2)
DECLARE(avx512)

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512bw");
}

#define ROUTINES(isa, works)                                                                       \
	{                                                                                          \
#isa, gm_guard_copy_from_##isa, gm_guard_copy_to_##isa, gm_guard_copy_both_##isa,  \
			gm_guard_fill_##isa, works                                                 \
	}
#endif

static const struct routines routines[] = {
	{"chosen", gm_guard_copy_from, gm_guard_copy_to, gm_guard_copy_both, gm_guard_fill, always},
#ifdef ROUTINES
	ROUTINES(sse2, always),
	ROUTINES(avx2, has_avx2),
	ROUTINES(avx512, has_avx512),
#endif
};

#define NR_ROUTINES (sizeof(routines) / sizeof(routines[0]))
#define BUF (GOOD + 8 * PAGE)

static uint8_t *buf;
static uint8_t *want;
static uint64_t faults_before;

static void expect_fault(const struct gm_guard_fault *fault, uintptr_t first_bad, int signo)
{
	assert_true(gm_guard_fault_count() > faults_before);
	faults_before = gm_guard_fault_count();
	assert_int_equal(fault->addr, first_bad);
	assert_int_equal(fault->signo, signo);
}

/* @len bytes from @dist bytes before the bad page: all routines stop exactly there. */
static void check_crossing(const struct routines *r, const struct bad *bad, int signo, size_t dist,
	size_t len, size_t shift)
{
	struct gm_guard_fault fault = {0};
	uint8_t *guest = bad->base + GOOD - dist;
	uintptr_t end = (uintptr_t)bad->base + GOOD;
	uint8_t *own = buf + shift;
	uint8_t fill = (uint8_t)(len + 1);

	memset(buf, 0xaa, len + 128);
	assert_int_equal(r->from(own, guest, len, &fault), len - dist);
	expect_fault(&fault, end, signo);
	assert_memory_equal(own, guest, dist);
	for (size_t i = 0; i < len - dist; i++)
		assert_int_equal(own[dist + i], 0xaa);
	assert_int_equal(r->both(own, guest, len, &fault), len - dist);
	expect_fault(&fault, end, signo);
	assert_memory_equal(own, guest, dist);

	memset(own, (int)(dist ^ 0x55), len);
	assert_int_equal(r->to(guest, own, len, &fault), len - dist);
	expect_fault(&fault, end, signo);
	assert_memory_equal(guest, own, dist);
	memset(own, (int)(dist ^ 0x66), len);
	assert_int_equal(r->both(guest, own, len, &fault), len - dist);
	expect_fault(&fault, end, signo);
	assert_memory_equal(guest, own, dist);

	assert_int_equal(r->fill(guest, fill, len, &fault), len - dist);
	expect_fault(&fault, end, signo);
	for (size_t i = 0; i < dist; i++)
		assert_int_equal(guest[i], fill);
}

static void copies_stop_at_the_byte_that_faults(void **state)
{
	struct rng rng = {test_seed(11)};
	struct bad bad;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	for (size_t b = 0; b < NR_BACKINGS; b++) {
		if (!make(&backings[b], &bad))
			continue;
		faults_before = gm_guard_fault_count();
		for (size_t k = 0; k < NR_ROUTINES; k++) {
			const struct routines *r = &routines[k];

			if (!r->works())
				continue;
			/* Everything around the shortest forms. */
			for (size_t dist = 0; dist <= 24; dist++) {
				for (size_t len = dist + 1; len <= dist + 40; len++)
					check_crossing(
						r, &bad, backings[b].signo, dist, len, len % 3);
			}
			/* Every form, at every alignment. */
			for (unsigned long i = 0; i < support_scale(1500); i++) {
				size_t max = i % 50 == 0 ? GOOD : i % 5 == 0 ? 2000 : 600;
				size_t dist = rng_next(&rng) % (max + 1);
				size_t len =
					dist + 1 + rng_next(&rng) % (i % 2 ? 300 : 4 * PAGE - 1);

				check_crossing(
					r, &bad, backings[b].signo, dist, len, rng_next(&rng) % 64);
			}
		}
		unmake(&bad);
	}
	assert_int_equal(gm_guard_remove(), 0);
}

static void copies_copy(void **state)
{
	struct rng rng = {test_seed(12)};
	uint8_t *other = map(BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	(void)state;
	for (size_t i = 0; i < BUF; i++)
		other[i] = (uint8_t)(i * 13 + i / 256);
	for (size_t k = 0; k < NR_ROUTINES; k++) {
		const struct routines *r = &routines[k];

		if (!r->works())
			continue;
		for (unsigned long i = 0; i < support_scale(6000); i++) {
			size_t len = i < 1200 ? i : rng_next(&rng) % (i % 10 ? 1200 : BUF - 256);
			size_t from = rng_next(&rng) % 128;
			size_t to = rng_next(&rng) % 128;

			memset(want, 0xaa, len + 256);
			memset(buf, 0xaa, len + 256);
			memcpy(want + to, other + from, len);
			assert_int_equal(
				(i % 3 == 0          ? r->from
					: i % 3 == 1 ? r->to
						     : r->both)(buf + to, other + from, len, NULL),
				0);
			assert_memory_equal(buf, want, len + 256);
			memset(want + to, (int)i & 0xff, len);
			assert_int_equal(r->fill(buf + to, (int)i, len, NULL), 0);
			assert_memory_equal(buf, want, len + 256);
		}
	}
	munmap(other, BUF);
}

/* Nothing behind a fault is written: the page behind the bad one keeps its bytes. */
static void nothing_behind_a_fault_is_written(void **state)
{
	uint8_t *area = map(3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct gm_guard_fault fault;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	memset(buf, 1, 3 * PAGE);
	assert_int_equal(mprotect(area + PAGE, PAGE, PROT_NONE), 0);
	for (size_t k = 0; k < NR_ROUTINES; k++) {
		if (!routines[k].works())
			continue;
		for (size_t start = 1; start < 300; start++) {
			size_t len = PAGE + start + 200;

			assert_int_equal(
				routines[k].to(area + PAGE - start, buf, len, &fault), len - start);
			assert_int_equal(
				routines[k].fill(area + PAGE - start, 1, len, &fault), len - start);
			assert_int_equal(area[2 * PAGE], 0);
			assert_memory_equal(area + 2 * PAGE, area + 2 * PAGE + 1, PAGE - 1);
		}
	}
	assert_int_equal(gm_guard_remove(), 0);
	munmap(area, 3 * PAGE);
}

/* ---- through the access functions ---- */

static struct handmade hand;

/* Like memory in the window, or reached by the general look-up. */
static const struct gm_view *view_of(const struct bad *bad, bool direct)
{
	const struct gm_view *view = handmade_one(&hand, bad->base, bad->len, GM_PERM_RW);

	if (!direct)
		hand.spans[0].direct = 0;
	return view;
}

static void check_ranges(const struct gm_view *view, size_t dist, size_t len)
{
	uint64_t gpa = GOOD - dist;
	size_t done = 999;
	int order = 5;

	memset(buf, 0xaa, len);
	assert_int_equal(gm_read(view, gpa, buf, len, &done), -EIO);
	assert_int_equal(done, dist);
	if (len > dist)
		assert_int_equal(buf[dist], 0xaa);
	assert_int_equal(gm_read(view, gpa, buf, len, NULL), -EIO);
	assert_int_equal(gm_compare(view, gpa, buf, len, &order, &done), -EIO);
	assert_int_equal(done, dist);
	assert_int_equal(order, 5);
	assert_int_equal(gm_write(view, gpa, buf, len, &done), -EIO);
	assert_int_equal(done, dist);
	assert_int_equal(gm_copy(view, gpa, 0, len, &done), -EIO);
	assert_int_equal(done, dist);
	assert_int_equal(gm_copy(view, 0, gpa, len, &done), -EIO);
	assert_int_equal(done, dist);
	assert_int_equal(gm_fill(view, gpa, 0, len, &done), -EIO);
	assert_int_equal(done, dist);
	assert_int_equal(gm_is_zero(view, gpa, len, &done), -EIO);
	assert_int_equal(done, dist);
}

static void check_numbers(const struct gm_view *view, uint64_t gpa)
{
	uint64_t v64 = 7;
	uint32_t v32 = 7;
	uint16_t v16 = 7;
	uint8_t v8 = 7;

	assert_int_equal(gm_read_u64(view, gpa, &v64), -EIO);
	assert_int_equal(gm_read_be64(view, gpa, &v64), -EIO);
	assert_int_equal(gm_read_u32(view, gpa + 4, &v32), -EIO);
	assert_int_equal(gm_read_u16(view, gpa + 6, &v16), -EIO);
	assert_int_equal(gm_read_u8(view, gpa + 8, &v8), -EIO);
	assert_int_equal(gm_write_u64(view, gpa, 1), -EIO);
	assert_int_equal(gm_write_le32(view, gpa + 5, 1), -EIO);
	assert_int_equal(gm_write_u16(view, gpa + 7, 1), -EIO);
	assert_int_equal(gm_write_u8(view, gpa + 8, 1), -EIO);
	assert_int_equal(v64 + v32 + v16 + v8, 28);
}

#define CHECK_ATOMICS(bits)                                                                        \
	do {                                                                                       \
		uint##bits##_t x = 7;                                                              \
		assert_int_equal(gm_atomic_load_u##bits(view, GOOD, __ATOMIC_ACQUIRE, &x), -EIO);  \
		assert_int_equal(gm_atomic_load_u##bits(view, GOOD, __ATOMIC_RELAXED, &x), -EIO);  \
		assert_int_equal(gm_atomic_store_u##bits(view, GOOD, __ATOMIC_RELAXED, 1), -EIO);  \
		assert_int_equal(gm_atomic_store_u##bits(view, GOOD, __ATOMIC_RELEASE, 1), -EIO);  \
		assert_int_equal(gm_atomic_store_u##bits(view, GOOD, __ATOMIC_SEQ_CST, 1), -EIO);  \
		assert_int_equal(gm_atomic_exchange_u##bits(view, GOOD, 5, 1, &x), -EIO);          \
		assert_int_equal(gm_atomic_fetch_add_u##bits(view, GOOD, 5, 1, &x), -EIO);         \
		assert_int_equal(gm_atomic_fetch_and_u##bits(view, GOOD, 5, 1, &x), -EIO);         \
		assert_int_equal(gm_atomic_fetch_or_u##bits(view, GOOD, 5, 1, &x), -EIO);          \
		assert_int_equal(gm_atomic_fetch_xor_u##bits(view, GOOD, 5, 1, &x), -EIO);         \
		assert_int_equal(gm_atomic_cmpxchg_u##bits(view, GOOD, 5, &x, 1), -EIO);           \
		assert_int_equal(x, 7);                                                            \
	} while (0)

static void accesses_report_the_fault(void **state)
{
	struct bad bad;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	for (size_t b = 0; b < NR_BACKINGS; b++) {
		if (!make(&backings[b], &bad))
			continue;
		for (int direct = 0; direct < 2; direct++) {
			const struct gm_view *view = view_of(&bad, direct);
			uint64_t before = gm_guard_fault_count();

			for (size_t dist = 0; dist < 70; dist++) {
				for (size_t len = dist + 1; len < dist + 140; len += 3)
					check_ranges(view, dist, len);
			}
			check_ranges(view, 2500, 5000);
			for (uint64_t back = 1; back < 8; back++)
				check_numbers(view, GOOD - back);
			CHECK_ATOMICS(8);
			CHECK_ATOMICS(16);
			CHECK_ATOMICS(32);
			CHECK_ATOMICS(64);
			assert_true(gm_guard_fault_count() > before + 1000);
			/* What is good stays good. */
			assert_int_equal(gm_read(view, 0, buf, GOOD, NULL), 0);
		}
		unmake(&bad);
	}
	assert_int_equal(gm_guard_remove(), 0);
}

static void a_downward_copy_that_fails_says_nothing_is_done(void **state)
{
	struct bad bad;
	size_t done = 9;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	assert_true(make(&backings[0], &bad));
	assert_int_equal(gm_copy(view_of(&bad, true), GOOD - 100, GOOD - 150, 200, &done), -EIO);
	assert_int_equal(done, 0);
	unmake(&bad);
	assert_int_equal(gm_guard_remove(), 0);
}

static void a_punched_hole_reads_as_zeros(void **state)
{
	struct bad bad;
	const struct gm_view *view;
	uint64_t before;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	assert_true(make(&backings[0], &bad));
	assert_int_equal(ftruncate(bad.fd, (off_t)bad.len), 0);
	assert_int_equal(
		fallocate(bad.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PAGE, PAGE), 0);
	view = view_of(&bad, true);
	before = gm_guard_fault_count();
	assert_int_equal(gm_is_zero(view, 2 * PAGE, PAGE, NULL), 1);
	assert_int_equal(gm_is_zero(view, PAGE, PAGE, NULL), 0);
	assert_int_equal(gm_read(view, PAGE, buf, 3 * PAGE, NULL), 0);
	assert_int_equal(gm_guard_fault_count(), before);
	unmake(&bad);
	assert_int_equal(gm_guard_remove(), 0);
}

static void failed_memory_is_told_apart(void **state)
{
	struct gm_guard_fault fault = {.signo = SIGBUS, .code = BUS_MCEERR_AR};

	(void)state;
	assert_int_equal(gm_guard_errno(&fault), -EHWPOISON);
	fault.code = BUS_ADRERR;
	assert_int_equal(gm_guard_errno(&fault), -EIO);
	fault = (struct gm_guard_fault){.signo = SIGSEGV, .code = BUS_MCEERR_AR};
	assert_int_equal(gm_guard_errno(&fault), -EIO);
}

/* ---- in children ---- */

/* In a child: a failed check ends it with a line number. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                    \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

/* Both signals as the child is to find them: sanitizers bring handlers of their own. */
static void set_both(void (*handler)(int))
{
	signal(SIGBUS, handler);
	signal(SIGSEGV, handler);
}

static int in_child(void (*run)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		set_both(SIG_DFL);
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define assert_survives(run) assert_int_equal(in_child(run), 0)
#define assert_dies(run, sig)                                                                      \
	do {                                                                                       \
		int status_ = in_child(run);                                                       \
		assert_true(WIFSIGNALED(status_));                                                 \
		assert_int_equal(WTERMSIG(status_), sig);                                          \
	} while (0)

static volatile uint8_t *wild; /* a page without access */

static void make_wild(void)
{
	wild = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(wild != MAP_FAILED);
}

/* A truncated file, for children (no assertions of cmocka). */
static const struct gm_view *truncated_view(void)
{
	int fd = memfd_create("t", MFD_CLOEXEC);
	void *at;

	CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
	at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(at != MAP_FAILED);
	return handmade_one(&hand, at, 2 * PAGE, GM_PERM_RW);
}

static void check_guarded(const struct gm_view *view)
{
	size_t done = 77;
	uint64_t value;

	CHECK(gm_read(view, PAGE - 10, buf, 100, &done) == -EIO && done == 10);
	CHECK(gm_read_u64(view, PAGE, &value) == -EIO);
}

static void touch_wild(void)
{
	CHECK(gm_guard_install() == 0);
	check_guarded(truncated_view());
	make_wild();
	(void)*wild;
	_exit(1);
}

static void touch_truncated_unguarded(void)
{
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0);
	check_guarded(view);
	(void)*(volatile char *)(uintptr_t)(view->window_base + PAGE);
	_exit(1);
}

static void send_bus(void)
{
	CHECK(gm_guard_install() == 0);
	raise(SIGBUS);
	_exit(1);
}

static void send_segv_blocked(void)
{
	sigset_t set;

	CHECK(gm_guard_install() == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGSEGV);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGSEGV);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(1);
}

static void send_memory_failure(int code)
{
	siginfo_t info = {.si_signo = SIGBUS, .si_code = code, .si_addr = buf};

	CHECK(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info) == 0);
}

static void send_action_optional(void)
{
	CHECK(gm_guard_install() == 0);
	send_memory_failure(BUS_MCEERR_AO);
	_exit(1);
}

static void without_install(void)
{
	const struct gm_view *view = truncated_view();

	gm_read(view, PAGE, buf, 1, NULL);
	_exit(1);
}

static void after_remove(void)
{
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0 && gm_guard_install() == 0);
	CHECK(gm_guard_remove() == 0);
	check_guarded(view);
	CHECK(gm_guard_check() == 0);
	CHECK(gm_guard_remove() == 0);
	CHECK(gm_guard_check() == -ENOENT);
	CHECK(gm_guard_remove() == -ENOENT);
	gm_read(view, PAGE, buf, 1, NULL);
	_exit(1);
}

static void the_default_action_still_kills(void **state)
{
	(void)state;
	assert_dies(touch_wild, SIGSEGV);
	assert_dies(touch_truncated_unguarded, SIGBUS);
	assert_dies(send_bus, SIGBUS);
	assert_dies(send_segv_blocked, SIGSEGV);
	assert_dies(send_action_optional, SIGBUS);
	assert_dies(without_install, SIGBUS);
	assert_dies(after_remove, SIGBUS);
}

static void ignore_sent(void)
{
	const struct gm_view *view = truncated_view();

	set_both(SIG_IGN);
	CHECK(gm_guard_install() == 0);
	raise(SIGBUS);
	kill(getpid(), SIGSEGV);
	send_memory_failure(BUS_MCEERR_AO);
	check_guarded(view);
	CHECK(gm_guard_remove() == 0);
	raise(SIGBUS);
}

static void ignore_fault(void)
{
	set_both(SIG_IGN);
	CHECK(gm_guard_install() == 0);
	make_wild();
	(void)*wild;
	_exit(1);
}

static void ignored_signals_stay_ignored_and_faults_kill(void **state)
{
	(void)state;
	assert_survives(ignore_sent);
	assert_dies(ignore_fault, SIGSEGV);
}

/* ---- a previous handler ---- */

static volatile sig_atomic_t seen;
static siginfo_t seen_info;
static sigset_t seen_mask;
static void *seen_context;
static sigjmp_buf escape;

static void mend(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	seen++;
	seen_info = *info;
	seen_context = context;
	sigprocmask(SIG_SETMASK, NULL, &seen_mask);
	errno = 12345;
	mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE);
}

static void leap(int sig)
{
	(void)sig;
	seen++;
	siglongjmp(escape, 1);
}

static void count(int sig)
{
	(void)sig;
	seen++;
}

static void set_previous(struct sigaction act)
{
	CHECK(sigaction(SIGBUS, &act, NULL) == 0 && sigaction(SIGSEGV, &act, NULL) == 0);
}

static void previous_gets_foreign_faults(void)
{
	struct sigaction act = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
	struct sigaction now;
	const struct gm_view *view = truncated_view();

	sigaddset(&act.sa_mask, SIGUSR1);
	set_previous(act);
	CHECK(gm_guard_install() == 0);
	check_guarded(view);
	CHECK(seen == 0);
	make_wild();
	errno = 7;
	wild[5] = 1;
	CHECK(errno == 7);
	CHECK(seen == 1 && seen_info.si_signo == SIGSEGV && seen_info.si_code == SEGV_ACCERR);
	CHECK(seen_info.si_addr == (void *)(uintptr_t)(wild + 5) && seen_context);
	CHECK(sigismember(&seen_mask, SIGSEGV) == 1 && sigismember(&seen_mask, SIGUSR1) == 1);
	CHECK(sigismember(&seen_mask, SIGUSR2) == 0 && sigismember(&seen_mask, SIGBUS) == 0);
	CHECK(gm_guard_check() == 0);
	CHECK(gm_guard_remove() == 0);
	CHECK(sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_sigaction == mend);
	CHECK(now.sa_flags & SA_SIGINFO && sigismember(&now.sa_mask, SIGUSR1) == 1);
}

static void previous_may_leap(void)
{
	const struct gm_view *view = truncated_view();

	set_previous((struct sigaction){.sa_handler = leap});
	CHECK(gm_guard_install() == 0);
	make_wild();
	for (int i = 0; i < 3; i++) {
		if (sigsetjmp(escape, 1) == 0) {
			(void)*wild;
			_exit(1);
		}
	}
	CHECK(seen == 3);
	check_guarded(view);
}

static void previous_runs_once_with_resethand(void)
{
	set_previous(
		(struct sigaction){.sa_handler = leap, .sa_flags = (int)SA_RESETHAND | SA_NODEFER});
	CHECK(gm_guard_install() == 0);
	make_wild();
	if (sigsetjmp(escape, 1) == 0) {
		(void)*wild;
		_exit(1);
	}
	CHECK(seen == 1);
	(void)*wild;
	_exit(1);
}

static void previous_gets_what_is_sent(void)
{
	set_previous((struct sigaction){.sa_handler = count});
	CHECK(gm_guard_install() == 0);
	raise(SIGBUS);
	kill(getpid(), SIGSEGV);
	send_memory_failure(BUS_MCEERR_AO);
	CHECK(seen == 3);
}

static void other_signals_go_to_the_previous_handler(void **state)
{
	(void)state;
	assert_survives(previous_gets_foreign_faults);
	assert_survives(previous_may_leap);
	assert_dies(previous_runs_once_with_resethand, SIGSEGV);
	assert_survives(previous_gets_what_is_sent);
}

/* ---- signals sent in the middle of guarded accesses are not taken for faults ---- */

static bool stop; /* atomic */
static unsigned int sent;

static void *send_many(void *arg)
{
	pthread_t to = *(pthread_t *)arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (pthread_kill(to, SIGBUS) == 0)
			sent++;
		for (int i = 0; i < 200; i++)
			sched_yield();
	}
	return NULL;
}

static void copies_under_fire(void)
{
	pthread_t self = pthread_self();
	pthread_t thread;
	const struct gm_view *view = truncated_view();
	uint64_t before = gm_guard_fault_count();

	set_previous((struct sigaction){.sa_handler = count});
	CHECK(gm_guard_install() == 0);
	CHECK(pthread_create(&thread, NULL, send_many, &self) == 0);
	for (int i = 0; i < 200000; i++)
		CHECK(gm_read(view, 0, buf, PAGE, NULL) == 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	CHECK(sent > 0 && seen > 0 && gm_guard_fault_count() == before);
}

static void a_sent_signal_is_no_fault(void **state)
{
	(void)state;
	assert_survives(copies_under_fire);
}

/* ---- the caller's own bad buffer ---- */

static void read_into_wild(void)
{
	CHECK(gm_guard_install() == 0);
	make_wild();
	gm_read(truncated_view(), 0, (void *)(uintptr_t)wild, 100, NULL);
	_exit(1);
}

static void write_from_wild(void)
{
	CHECK(gm_guard_install() == 0);
	make_wild();
	gm_write(truncated_view(), 0, (void *)(uintptr_t)wild, 8, NULL);
	_exit(1);
}

static void compare_with_wild(void)
{
	int order;

	CHECK(gm_guard_install() == 0);
	make_wild();
	gm_compare(truncated_view(), 0, (void *)(uintptr_t)wild, 64, &order, NULL);
	_exit(1);
}

/* Somebody who maps the caller's pages on demand is served, and the copy goes on. */
static void mended_buffer_is_filled(void)
{
	struct sigaction act = {.sa_sigaction = mend, .sa_flags = SA_SIGINFO};
	const struct gm_view *view = truncated_view();
	static const size_t lens[] = {1, 8, 30, 64, 100, 200, 500, 1000, 4000, PAGE};
	size_t done;

	CHECK(gm_fill(view, 0, 0x77, PAGE, NULL) == 0);
	set_previous(act);
	CHECK(gm_guard_install() == 0);
	make_wild();
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		CHECK(mprotect((void *)(uintptr_t)wild, PAGE, PROT_NONE) == 0);
		seen = 0;
		CHECK(gm_read(view, 0, (void *)(uintptr_t)wild, lens[i], &done) == 0);
		CHECK(done == lens[i] && wild[0] == 0x77 && wild[lens[i] - 1] == 0x77);
		CHECK(seen > 0);
		CHECK(mprotect((void *)(uintptr_t)wild, PAGE, PROT_NONE) == 0);
		seen = 0;
		CHECK(gm_write(view, 0, (void *)(uintptr_t)wild, lens[i], &done) == 0 &&
			done == lens[i]);
		CHECK(seen > 0);
	}
}

static void a_bad_buffer_of_the_caller_is_no_guest_error(void **state)
{
	(void)state;
	assert_dies(read_into_wild, SIGSEGV);
	assert_dies(write_from_wild, SIGSEGV);
	assert_dies(compare_with_wild, SIGSEGV);
	assert_survives(mended_buffer_is_filled);
}

/* ---- somebody else's handler over ours ---- */

static struct sigaction under;

static void call_under(int sig, siginfo_t *info, void *context)
{
	seen++;
	if (under.sa_flags & SA_SIGINFO)
		under.sa_sigaction(sig, info, context);
	else if (under.sa_handler != SIG_DFL && under.sa_handler != SIG_IGN)
		under.sa_handler(sig);
	else
		_exit(55);
}

static void replaced_is_noticed(void)
{
	struct sigaction act = {.sa_handler = count};

	CHECK(gm_guard_install() == 0);
	CHECK(gm_guard_check() == 0);
	CHECK(sigaction(SIGSEGV, &act, NULL) == 0);
	CHECK(gm_guard_check() == -ESTALE);
	CHECK(gm_guard_install() == -ESTALE);
	CHECK(gm_guard_remove() == -ESTALE);
	CHECK(gm_guard_remove() == -ENOENT);
	/* Theirs stays. */
	raise(SIGSEGV);
	CHECK(seen == 1);
	/* Under a handler that may call ours we do not go over it; over none we do. */
	CHECK(gm_guard_install() == -ESTALE);
	CHECK(gm_guard_check() == -ENOENT);
	signal(SIGSEGV, SIG_DFL);
	CHECK(gm_guard_install() == 0);
	check_guarded(truncated_view());
	CHECK(gm_guard_remove() == 0);
}

static void a_handler_over_ours_may_call_it(void)
{
	struct sigaction act = {.sa_sigaction = call_under, .sa_flags = SA_SIGINFO};
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0);
	CHECK(sigaction(SIGBUS, &act, &under) == 0);
	check_guarded(view);
	CHECK(seen > 0);
	CHECK(gm_guard_remove() == -ESTALE);
	/* Ours passes everything on now: the default action. */
	(void)*(volatile char *)(uintptr_t)(view->window_base + PAGE);
	_exit(1);
}

static void buried_and_back(void)
{
	struct sigaction act = {.sa_sigaction = call_under, .sa_flags = SA_SIGINFO};
	const struct gm_view *view = truncated_view();

	CHECK(gm_guard_install() == 0);
	CHECK(sigaction(SIGBUS, &act, &under) == 0);
	CHECK(gm_guard_remove() == -ESTALE);
	CHECK(sigaction(SIGBUS, &under, NULL) == 0);
	CHECK(gm_guard_install() == 0);
	check_guarded(view);
	CHECK(gm_guard_remove() == 0);
	gm_read(view, PAGE, buf, 1, NULL);
	_exit(1);
}

static void a_replaced_handler_is_noticed(void **state)
{
	(void)state;
	assert_survives(replaced_is_noticed);
	assert_dies(a_handler_over_ours_may_call_it, SIGBUS);
	assert_dies(buried_and_back, SIGBUS);
}

/* ---- threads ---- */

static void *fault_many(void *arg)
{
	const struct gm_view *view = arg;
	uint8_t own[200];
	size_t done;

	for (int i = 0; i < 3000; i++) {
		size_t dist = (size_t)i % 150;

		if (gm_read(view, PAGE - dist, own, 200, &done) != -EIO || done != dist)
			return arg;
	}
	return NULL;
}

static void *add_and_drop(void *arg)
{
	static const struct gm_extable_entry tables[8][2];

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		for (int i = 0; i < 8; i++)
			gm_guard_add_table(tables[i], tables[i] + 2);
		for (int i = 0; i < 8; i++)
			gm_guard_drop_table(tables[i], tables[i] + 2);
		if (gm_guard_install() || gm_guard_remove())
			return arg;
	}
	return NULL;
}

static void threads_fault_at_once(void)
{
	const struct gm_view *view = truncated_view();
	pthread_t threads[4];
	pthread_t other;
	uint64_t before = gm_guard_fault_count();
	void *bad;

	CHECK(gm_guard_install() == 0);
	CHECK(pthread_create(&other, NULL, add_and_drop, buf) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], NULL, fault_many, (void *)(uintptr_t)view) == 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &bad);
		CHECK(!bad);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(other, &bad);
	CHECK(!bad && gm_guard_fault_count() >= before + 4 * 3000);
	CHECK(gm_guard_remove() == 0);
}

static void many_threads_may_fault_at_once(void **state)
{
	(void)state;
	assert_survives(threads_fault_at_once);
}

/* ---- the registry ---- */

static void tables_are_counted(void **state)
{
	static const struct gm_extable_entry tables[GM_GUARD_TABLES_MAX + 1][2];
	const char *odd = (const char *)tables[0];

	(void)state;
#ifdef GM_GUARD_GENERIC
	assert_int_equal(gm_guard_add_table(tables[0], tables[1]), -ENOTSUP);
	assert_int_equal(gm_guard_add_table(tables[0], tables[0]), 0);
	(void)odd;
#else
	assert_int_equal(gm_guard_add_table(NULL, NULL), 0);
	assert_int_equal(gm_guard_add_table(odd, odd), 0);
	assert_int_equal(gm_guard_add_table(odd, odd + 5), -EINVAL);
	assert_int_equal(gm_guard_add_table(odd + 8, odd), -EINVAL);
	for (int i = 0; i < GM_GUARD_TABLES_MAX; i++)
		assert_int_equal(gm_guard_add_table(tables[i], tables[i + 1]), 0);
	assert_int_equal(gm_guard_add_table(tables[3], tables[4]), 0);
	assert_int_equal(
		gm_guard_add_table(tables[GM_GUARD_TABLES_MAX], tables[GM_GUARD_TABLES_MAX] + 1),
		-ENOSPC);
	gm_guard_drop_table(tables[3], tables[4]);
	assert_int_equal(
		gm_guard_add_table(tables[GM_GUARD_TABLES_MAX], tables[GM_GUARD_TABLES_MAX] + 1),
		-ENOSPC);
	gm_guard_drop_table(tables[3], tables[4]);
	assert_int_equal(
		gm_guard_add_table(tables[GM_GUARD_TABLES_MAX], tables[GM_GUARD_TABLES_MAX] + 1),
		0);
	gm_guard_drop_table(tables[GM_GUARD_TABLES_MAX], tables[GM_GUARD_TABLES_MAX] + 1);
	for (int i = 0; i < GM_GUARD_TABLES_MAX; i++)
		gm_guard_drop_table(tables[i], tables[i + 1]);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_copy),
		cmocka_unit_test(copies_stop_at_the_byte_that_faults),
		cmocka_unit_test(nothing_behind_a_fault_is_written),
		cmocka_unit_test(failed_memory_is_told_apart),
		cmocka_unit_test(accesses_report_the_fault),
		cmocka_unit_test(a_downward_copy_that_fails_says_nothing_is_done),
		cmocka_unit_test(a_punched_hole_reads_as_zeros),
		cmocka_unit_test(the_default_action_still_kills),
		cmocka_unit_test(ignored_signals_stay_ignored_and_faults_kill),
		cmocka_unit_test(other_signals_go_to_the_previous_handler),
		cmocka_unit_test(a_sent_signal_is_no_fault),
		cmocka_unit_test(a_bad_buffer_of_the_caller_is_no_guest_error),
		cmocka_unit_test(a_replaced_handler_is_noticed),
		cmocka_unit_test(many_threads_may_fault_at_once),
		cmocka_unit_test(tables_are_counted),
	};

	buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	want = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED || want == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
