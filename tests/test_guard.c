/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_guard.c - faults on guest memory become errors with an exact count.
 *
 * Every test of a fault looks at the handler's count, so that one in which nothing faulted fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
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

/* What accesses to it are to return. */
static int failure = -EIO;

/* Like memory in the window, or reached by the general look-up. */
static const struct gm_view *view_of(const struct bad *bad, bool direct)
{
	const struct gm_view *view = handmade_one(&hand, bad->base, bad->len, GM_PERM_RW);

	if (!direct)
		gm_leaf_spans(gm_slot_leaf(hand.slots[0]))[0].direct = 0;
	return view;
}

static void check_ranges(const struct gm_view *view, size_t dist, size_t len)
{
	uint64_t gpa = GOOD - dist;
	size_t done = 999;
	int order = 5;

	memset(buf, 0xaa, len);
	assert_int_equal(gm_read(view, gpa, buf, len, &done), failure);
	assert_int_equal(done, dist);
	if (len > dist)
		assert_int_equal(buf[dist], 0xaa);
	assert_int_equal(gm_read(view, gpa, buf, len, NULL), failure);
	assert_int_equal(gm_compare(view, gpa, buf, len, &order, &done), failure);
	assert_int_equal(done, dist);
	assert_int_equal(order, 5);
	assert_int_equal(gm_write(view, gpa, buf, len, &done), failure);
	assert_int_equal(done, dist);
	assert_int_equal(gm_copy(view, gpa, 0, len, &done), failure);
	assert_int_equal(done, dist);
	assert_int_equal(gm_copy(view, 0, gpa, len, &done), failure);
	assert_int_equal(done, dist);
	assert_int_equal(gm_fill(view, gpa, 0, len, &done), failure);
	assert_int_equal(done, dist);
	assert_int_equal(gm_is_zero(view, gpa, len, &done), failure);
	assert_int_equal(done, dist);
}

static void check_numbers(const struct gm_view *view, uint64_t gpa)
{
	uint64_t v64 = 7;
	uint32_t v32 = 7;
	uint16_t v16 = 7;
	uint8_t v8 = 7;

	assert_int_equal(gm_read_u64(view, gpa, &v64), failure);
	assert_int_equal(gm_read_be64(view, gpa, &v64), failure);
	assert_int_equal(gm_read_u32(view, gpa + 4, &v32), failure);
	assert_int_equal(gm_read_u16(view, gpa + 6, &v16), failure);
	assert_int_equal(gm_read_u8(view, gpa + 8, &v8), failure);
	assert_int_equal(gm_write_u64(view, gpa, 1), failure);
	assert_int_equal(gm_write_le32(view, gpa + 5, 1), failure);
	assert_int_equal(gm_write_u16(view, gpa + 7, 1), failure);
	assert_int_equal(gm_write_u8(view, gpa + 8, 1), failure);
	assert_int_equal(v64 + v32 + v16 + v8, 28);
}

#define CHECK_ATOMICS(bits)                                                                        \
	do {                                                                                       \
		uint##bits##_t x = 7;                                                              \
		assert_int_equal(                                                                  \
			gm_atomic_load_u##bits(view, GOOD, __ATOMIC_ACQUIRE, &x), failure);        \
		assert_int_equal(                                                                  \
			gm_atomic_load_u##bits(view, GOOD, __ATOMIC_RELAXED, &x), failure);        \
		assert_int_equal(                                                                  \
			gm_atomic_store_u##bits(view, GOOD, __ATOMIC_RELAXED, 1), failure);        \
		assert_int_equal(                                                                  \
			gm_atomic_store_u##bits(view, GOOD, __ATOMIC_RELEASE, 1), failure);        \
		assert_int_equal(                                                                  \
			gm_atomic_store_u##bits(view, GOOD, __ATOMIC_SEQ_CST, 1), failure);        \
		assert_int_equal(gm_atomic_exchange_u##bits(view, GOOD, 5, 1, &x), failure);       \
		assert_int_equal(gm_atomic_fetch_add_u##bits(view, GOOD, 5, 1, &x), failure);      \
		assert_int_equal(gm_atomic_fetch_and_u##bits(view, GOOD, 5, 1, &x), failure);      \
		assert_int_equal(gm_atomic_fetch_or_u##bits(view, GOOD, 5, 1, &x), failure);       \
		assert_int_equal(gm_atomic_fetch_xor_u##bits(view, GOOD, 5, 1, &x), failure);      \
		assert_int_equal(gm_atomic_cmpxchg_u##bits(view, GOOD, 5, &x, 1), failure);        \
		assert_int_equal(x, 7);                                                            \
	} while (0)

static void check_sixteen(const struct gm_view *view)
{
	const uint64_t desired[2] = {1, 2};
	uint64_t was[2] = {7, 7};
#ifdef GM_GUARD_GENERIC
	const int rc = -ENOTSUP;
#else
	const int rc = failure;
#endif

	assert_int_equal(gm_atomic_cmpxchg_u128(view, GOOD, __ATOMIC_SEQ_CST, was, desired), rc);
	assert_int_equal(was[0], 7);
	assert_int_equal(was[1], 7);
}

static void accesses_report_the_fault(void **state)
{
	struct bad bad;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	for (size_t b = 0; b < NR_BACKINGS; b++) {
		if (!make(&backings[b], &bad))
			continue;
		failure = backings[b].make == make_protected ? -EACCES : -EIO;
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
			check_sixteen(view);
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
		cmocka_unit_test(tables_are_counted),
	};

	buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	want = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED || want == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
