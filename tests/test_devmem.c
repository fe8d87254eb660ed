/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_devmem.c - memory of a device: each access is one aligned load or store, which is seen by
 * stepping through it, and nothing else reaches it.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#include "one_space.h"

#define PAGE UINT64_C(4096)
#define TRAP_FLAG 0x100

/* A page that is opened for one instruction at a time. */
static uint8_t *bar;
static volatile size_t nr_touches;
static volatile size_t touches[64];

#if defined(__x86_64__)
static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uintptr_t at = (uintptr_t)info->si_addr - (uintptr_t)bar;

	(void)sig;
	if (at >= PAGE)
		_Exit(99);
	if (nr_touches < 64)
		touches[nr_touches] = at;
	nr_touches++;
	mprotect(bar, PAGE, PROT_READ | PROT_WRITE);
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	mprotect(bar, PAGE, PROT_NONE);
}
#endif

static void start_bar(void)
{
	bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(bar != MAP_FAILED);
	start(NULL);
	assert_ok(gm_space_add(space,
		DESC(.gpa = GIB(4), .kind = GM_REGION_DEVMEM,
			.backing = BLOCK(.len = PAGE, .backing = GM_BACKING_POINTER, .addr = bar)),
		NULL, &err));
	assert_ok(gm_space_add(
		space, DESC(.gpa = GIB(4) + PAGE, .backing = BLOCK(.len = PAGE)), NULL, &err));
}

static void stop_bar(void)
{
	stop();
	munmap(bar, PAGE);
}

#if defined(__x86_64__)
struct span_of {
	uint64_t off;
	size_t len;
	const char *want; /* offsets from @off, one digit or letter each */
};

static void assert_touches(const struct span_of *t)
{
	size_t nr = strlen(t->want);

	mprotect(bar, PAGE, PROT_READ | PROT_WRITE);
	assert_int_equal(nr_touches, nr);
	for (size_t i = 0; i < nr; i++) {
		size_t want =
			(size_t)(t->want[i] <= '9' ? t->want[i] - '0' : t->want[i] - 'a' + 10);

		assert_int_equal(touches[i], t->off + want);
	}
	nr_touches = 0;
	mprotect(bar, PAGE, PROT_NONE);
}

static void test_bytes_go_by_single_aligned_accesses(void **state)
{
	static const struct span_of table[] = {
		{0, 1, "0"}, {1, 3, "01"}, /* 1 + 2 */
		{0, 8, "0"}, {4, 8, "04"}, /* 4 + 4 */
		{1, 15, "0137"},           /* 1 + 2 + 4 + 8 */
		{0, 32, "08go"},           /* four times 8: never a wide one */
		{6, 13, "02ac"},           /* 2 + 8 + 2 + 1 */
	};
	struct sigaction segv = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct sigaction trap = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
	struct sigaction old_segv;
	struct sigaction old_trap;
	uint8_t buf[32] = {0};

	(void)state;
	start_bar();
	sigaction(SIGSEGV, &segv, &old_segv);
	sigaction(SIGTRAP, &trap, &old_trap);
	mprotect(bar, PAGE, PROT_NONE);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct span_of *t = &table[i];
		const struct gm_view *view = gm_reader_enter(reader);

		assert_int_equal(gm_read(view, GIB(4) + t->off, buf, t->len, NULL), 0);
		assert_touches(t);
		assert_int_equal(gm_write(view, GIB(4) + t->off, buf, t->len, NULL), 0);
		assert_touches(t);
		assert_int_equal(gm_fill(view, GIB(4) + t->off, 1, t->len, NULL), 0);
		assert_touches(t);
		assert_int_equal(gm_copy(view, GIB(4) + t->off, GIB(4) + PAGE, t->len, NULL), 0);
		assert_touches(t);
		assert_int_equal(gm_copy(view, GIB(4) + PAGE, GIB(4) + t->off, t->len, NULL), 0);
		assert_touches(t);
		gm_reader_leave(reader);
	}
	sigaction(SIGSEGV, &old_segv, NULL);
	sigaction(SIGTRAP, &old_trap, NULL);
	stop_bar();
}
#endif

static void test_values_and_refusals(void **state)
{
	const struct gm_view *view;
	struct gm_region_info info = {.size = sizeof(info)};
	struct iovec slice;
	struct gm_pin pin;
	uint64_t value = 0;
	uint8_t byte;

	(void)state;
	start_bar();
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write_le32(view, GIB(4) + 4, 0x01020304), 0);
	assert_int_equal(gm_atomic_store_u8(view, GIB(4) + 8, __ATOMIC_RELEASE, 9), 0);
	assert_int_equal(gm_read_le64(view, GIB(4) + 4, &value), 0);
	assert_int_equal(value, 0x0901020304);
	/* Across its end into plain memory. */
	assert_int_equal(gm_write_be64(view, GIB(4) + PAGE - 4, 0x1122334455667788), 0);
	assert_int_equal(gm_read_u8(view, GIB(4) + PAGE + 3, &byte), 0);
	assert_int_equal(byte, 0x88);
	assert_int_equal(bar[PAGE - 1], 0x44);
	/* What a bus does not promise, and what would touch it behind the library's back. */
	assert_int_equal(
		gm_atomic_fetch_add_u32(view, GIB(4), __ATOMIC_SEQ_CST, 1, NULL), -ENOTSUP);
	assert_int_equal(gm_pin_slice(view, GIB(4), 8, GM_PERM_R, &slice, &pin), -ENOTSUP);
	gm_reader_leave(reader);
	assert_int_equal(gm_space_next(space, GIB(4), &info), 0);
	assert_int_equal(info.kind, GM_REGION_DEVMEM);
	assert_ptr_equal(info.hva, bar);
	stop_bar();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
		cmocka_unit_test(test_bytes_go_by_single_aligned_accesses),
#endif
		cmocka_unit_test(test_values_and_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
