/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant.c - life of a grant: the MMU, waits, pins, the source's changes, shadows, refusals.
 */
#include "one_grant.h"

#include <guestmem/access.h>
#include <guestmem/slice.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the MMU ---- */

static void assert_maps(const void *addr, const char *want)
{
	char perms[1][5];

	maps_perms(&addr, 1, perms);
	if (strcmp(perms[0], want) != 0)
		fail_msg("%p is mapped %s, not %s", addr, perms[0], want);
}

/*
 * The signal by which a raw access ends a process that has the same memory: a child made by fork() has
 * none (MADV_DONTFORK), so it is tried here, with a handler that leaves.
 */
static sigjmp_buf leave;

static void on_fault(int sig)
{
	siglongjmp(leave, sig);
}

static int raw_access(volatile uint8_t *addr, bool write)
{
	struct sigaction act = {.sa_handler = on_fault};
	struct sigaction old[2];
	volatile int sig = 0;

	sigaction(SIGSEGV, &act, &old[0]);
	sigaction(SIGBUS, &act, &old[1]);
	sig = sigsetjmp(leave, 1);
	if (sig == 0) {
		if (write)
			*addr = 0xee;
		else
			(void)*addr;
	}
	sigaction(SIGSEGV, &old[0], NULL);
	sigaction(SIGBUS, &old[1], NULL);
	return sig;
}

static uint8_t *window_of(struct gm_grant *of)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(gm_grant_space(of), 0, &info), 0);
	assert_int_equal(info.placed, 1);
	return (uint8_t *)info.hva - info.gpa;
}

static void the_mmu_knows_the_rights(void **state)
{
	uint8_t *base;

	(void)state;
	make_source();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_R, 0}, {8 * PAGE, 4 * PAGE, GM_PERM_RW, 0}), 0);
	base = window_of(grant);
	assert_maps(base, "r--s");
	assert_maps(base + 3 * PAGE, "r--s");
	assert_maps(base + 4 * PAGE, "---p");
	assert_maps(base + 8 * PAGE, "rw-s");
	assert_maps(base + 12 * PAGE, "---p");
	assert_true(support_vmflag(base, "dc"));
	assert_true(support_vmflag(base, "dd"));
	assert_int_equal(base[PAGE], 2);
	assert_int_equal(raw_access(base, true), SIGSEGV);
	assert_int_equal(raw_access(base + 4 * PAGE, false), SIGSEGV);
	assert_int_equal(raw_access(base + 8 * PAGE, true), 0);
	assert_int_equal(*host_of(source, 8 * PAGE), 0xee);
	/* Nobody makes it writable. */
	assert_int_equal(mprotect(base, 4 * PAGE, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(*host_of(source, 0), 1);

	/* Less, in the middle; the rest is as it was. */
	assert_ok(gm_grant_set(grant, PAGE, PAGE, 0, 0, &err));
	assert_ok(gm_grant_set(grant, 9 * PAGE, PAGE, GM_PERM_R, 0, &err));
	assert_maps(base, "r--s");
	assert_maps(base + PAGE, "---p");
	assert_maps(base + 2 * PAGE, "r--s");
	assert_maps(base + 8 * PAGE, "rw-s");
	assert_maps(base + 9 * PAGE, "r--s");
	assert_maps(base + 10 * PAGE, "rw-s");
	assert_int_equal(raw_access(base + PAGE, false), SIGSEGV);
	assert_int_equal(raw_access(base + 9 * PAGE, true), SIGSEGV);
	assert_int_equal(mprotect(base + 9 * PAGE, PAGE, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(grant_info().pending, 0);

	/* More again. */
	assert_ok(gm_grant_set(grant, PAGE, PAGE, GM_PERM_R, 0, &err));
	assert_ok(gm_grant_set(grant, 9 * PAGE, PAGE, GM_PERM_RW, 0, &err));
	assert_maps(base + PAGE, "r--s");
	assert_maps(base + 9 * PAGE, "rw-s");

	assert_ok(gm_grant_revoke(grant, 0, &err));
	for (size_t i = 0; i < RAM_PAGES; i++)
		assert_int_equal(raw_access(base + i * PAGE, false), SIGSEGV);
	assert_maps(base, "---p");
	assert_maps(base + 8 * PAGE, "---p");
	drop_all();
}

static void more_rights_to_what_is_read_only_are_given(void **state)
{
	uint64_t value = 0;

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_R, 0}), 0);
	assert_ok(gm_grant_set(grant, 2 * PAGE, PAGE, GM_PERM_RW, 0, &err));
	assert_int_equal(IN_SECTION(gm_write_u64(view, 2 * PAGE, 77)), 0);
	assert_int_equal(IN_SECTION(gm_write_u64(view, 3 * PAGE, 77)), -EACCES);
	assert_int_equal(IN_SECTION(gm_read_u64(view, PAGE, &value)), 0);
	memcpy(&value, host_of(source, 2 * PAGE), 8);
	assert_int_equal(value, 77);
	assert_maps(window_of(grant) + 2 * PAGE, "---p");
	/* The old way to it is gone, a new one is used. */
	assert_maps(host_of(gm_grant_space(grant), 2 * PAGE), "rw-s");
	drop_all();
}

/* ---- waiting ---- */

static void a_reader_holds_a_revocation_up_and_is_named(void **state)
{
	uint64_t value;
	const struct gm_view *held;
	uint8_t *base;

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}), 0);
	base = window_of(grant);
	held = gm_reader_enter(reader);
	assert_fails(gm_grant_set(grant, 0, PAGE, 0, 0, &err), ETIMEDOUT, "component");
	assert_int_equal(grant_info().pending, 1);
	/* It may go on, nobody else may begin. */
	assert_int_equal(gm_write_u64(held, 0, 5), 0);
	assert_int_equal(IN_SECTION(gm_read_u64(view, 0, &value)), -EFAULT);
	assert_int_equal(IN_SECTION(gm_read_u64(view, PAGE, &value)), 0);
	assert_fails(gm_grant_wait(grant, 1000000, &err), ETIMEDOUT, "component");
	gm_reader_leave(reader);
	assert_ok(gm_grant_wait(grant, 0, &err));
	assert_int_equal(grant_info().pending, 0);
	assert_int_equal(raw_access(base, false), SIGSEGV);
	assert_int_equal(raw_access(base + PAGE, false), 0);
	drop_all();
}

static void nothing_waits_that_must_not(void **state)
{
	const struct gm_view *held;
	uint8_t *base;

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}), 0);
	base = window_of(grant);
	held = gm_reader_enter(reader);
	assert_ok(gm_grant_set(grant, 0, PAGE, 0, GM_GRANT_NOWAIT, &err));
	assert_ok(gm_grant_set(grant, PAGE, PAGE, GM_PERM_R, GM_GRANT_NOWAIT, &err));
	assert_true(grant_info().pending >= 2);
	assert_int_equal(gm_write_u64(held, 0, 5), 0);
	assert_int_equal(gm_write_u64(held, PAGE, 5), 0);
	/* Given back before it was unmapped. */
	assert_ok(gm_grant_set(grant, 0, PAGE, GM_PERM_RW, GM_GRANT_NOWAIT, &err));
	assert_int_equal(gm_write_u64(held, 0, 6), 0);
	/* Taken away and given back for reading, under somebody who may write still. */
	assert_ok(gm_grant_set(grant, 2 * PAGE, PAGE, 0, GM_GRANT_NOWAIT, &err));
	assert_ok(gm_grant_set(grant, 2 * PAGE, PAGE, GM_PERM_R, GM_GRANT_NOWAIT, &err));
	assert_int_equal(raw_access(base + 2 * PAGE, true), 0);
	gm_reader_leave(reader);
	/* The next change finds that they have left. */
	assert_ok(gm_grant_set(grant, 7 * PAGE, PAGE, 0, GM_GRANT_NOWAIT, &err));
	assert_int_equal(grant_info().pending, 0);
	assert_maps(base, "rw-s");
	assert_maps(base + PAGE, "r--s");
	assert_maps(base + 2 * PAGE, "r--s");
	assert_maps(base + 7 * PAGE, "---p");
	drop_all();
}

static void a_pin_is_an_access_that_had_begun(void **state)
{
	struct gm_pin pin = {0};
	struct iovec slice;
	uint8_t *base;

	(void)state;
	make_source();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_RW, 0}, {4 * PAGE, 4 * PAGE, GM_PERM_RW, 0}), 0);
	base = window_of(grant);
	assert_int_equal(IN_SECTION(gm_pin_slice(view, PAGE, 64, GM_PERM_RW, &slice, &pin)), 0);
	/* Another part is not held up. */
	assert_ok(gm_grant_set(grant, 4 * PAGE, PAGE, 0, 0, &err));
	assert_fails(gm_grant_set(grant, PAGE, PAGE, 0, 0, &err), ETIMEDOUT, "1 pins");
	assert_int_equal(IN_SECTION(gm_view_check(view, PAGE, 1, GM_PERM_R)), -EFAULT);
	*(volatile uint8_t *)slice.iov_base = 9;
	assert_fails(gm_grant_revoke(grant, 0, &err), ETIMEDOUT, "pins");
	*(volatile uint8_t *)slice.iov_base = 10;
	gm_pin_put(&pin);
	assert_ok(gm_grant_wait(grant, 0, &err));
	assert_int_equal(raw_access(base + PAGE, false), SIGSEGV);
	assert_int_equal(*host_of(source, PAGE), 10);
	drop_all();
}

/* ---- the source's changes ---- */

static int check(uint64_t gpa, uint32_t perms)
{
	return IN_SECTION(gm_view_check(view, gpa, 1, perms));
}

static void memory_comes_and_goes_with_the_source(void **state)
{
	uint8_t byte = 0;
	uint64_t id;

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}, {MIB(2), MIB(1), GM_PERM_R, 0},
			   {ROM_AT, ROM_PAGES * PAGE, GM_PERM_RW, 0}),
		0);
	assert_int_equal(check(MIB(2), GM_PERM_R), -EFAULT);
	assert_int_equal(check(ROM_AT, GM_PERM_R), 0);
	assert_int_equal(check(ROM_AT, GM_PERM_W), -EACCES);
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(2) - 4 * PAGE,
			.backing = BLOCK(.len = 8 * PAGE, .flags = GM_BLOCK_SHARE)),
		&id, &err));
	memset(host_of(source, MIB(2)), 0x77, PAGE);
	assert_int_equal(check(MIB(2) - 1, GM_PERM_R), -EFAULT);
	assert_int_equal(IN_SECTION(gm_read_u8(view, MIB(2), &byte)), 0);
	assert_int_equal(byte, 0x77);
	assert_int_equal(check(MIB(2), GM_PERM_W), -EACCES);
	assert_int_equal(check(MIB(2) + 4 * PAGE, GM_PERM_R), -EFAULT);
	assert_int_equal(grant_info().mapped, (8 + ROM_PAGES + 4) * PAGE);
	assert_int_equal(grant_info().granted, (8 + ROM_PAGES) * PAGE + MIB(1));
	assert_int_equal(grant_info().unenforced, GM_PERM_X);
	assert_ok(gm_space_remove(source, id, &err));
	assert_int_equal(check(MIB(2), GM_PERM_R), -EFAULT);
	assert_ok(gm_space_remove(source, ram, &err));
	assert_int_equal(check(0, GM_PERM_R), -EFAULT);
	assert_int_equal(grant_info().mapped, ROM_PAGES * PAGE);
	assert_int_equal(grant_info().pending, 0);
	drop_all();
}

static void a_refused_change_leaves_the_grant_as_it_was(void **state)
{
	struct gm_grant *late;
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	make_source();
	make_grant(PARTS({0, MIB(16), GM_PERM_RW, 0}), 0);
	/* Private memory cannot be granted: the whole change is refused. */
	assert_ok(gm_txn_begin(source, &txn, &err));
	assert_ok(gm_txn_remove(txn, ram, &err));
	assert_ok(gm_txn_add(txn,
		DESC(.gpa = MIB(4), .name = "private", .backing = BLOCK(.len = PAGE)), &id, &err));
	assert_fails(gm_txn_commit(txn, &err), ENOTSUP, "GM_BLOCK_SHARE");
	assert_int_equal(err.gpa, MIB(4));
	assert_int_equal(check(0, GM_PERM_RW), 0);
	gm_txn_abort(txn);
	assert_int_equal(check(0, GM_PERM_RW), 0);

	/* Another listener refuses after this one has agreed: a grant behind it. */
	assert_ok(gm_grant_create(source,
		GM_OPTS(gm_grant_opts, .nr_parts = 1,
			.parts = &(struct gm_grant_part){GIB(2), MIB(1), GM_PERM_R, 0}),
		&late, &err));
	assert_ok(gm_txn_begin(source, &txn, &err));
	assert_ok(gm_txn_remove(txn, ram, &err));
	assert_ok(gm_txn_add(txn, DESC(.gpa = GIB(2), .backing = BLOCK(.len = PAGE)), &id, &err));
	assert_fails(gm_txn_commit(txn, &err), ENOTSUP, "GM_BLOCK_SHARE");
	assert_int_equal(check(0, GM_PERM_RW), 0);
	gm_txn_abort(txn);
	assert_int_equal(check(0, GM_PERM_RW), 0);
	assert_int_equal(grant_info().pending, 0);
	assert_maps(window_of(grant), "rw-s");
	assert_ok(gm_grant_destroy(late, &err));
	assert_ok(gm_space_remove(source, ram, &err));
	assert_int_equal(check(0, GM_PERM_R), -EFAULT);
	drop_all();
}

static void the_source_does_not_wait_for_readers_of_the_grant(void **state)
{
	const struct gm_view *held;
	uint64_t id;

	(void)state;
	make_source();
	make_grant(PARTS({0, MIB(1), GM_PERM_RW, 0}), 0);
	held = gm_reader_enter(reader);
	assert_ok(gm_space_remove(source, ram, &err));
	assert_int_equal(gm_write_u64(held, 0, 3), 0);
	/* Other memory in the same place, while somebody still uses the first. */
	assert_ok(gm_space_add(source,
		DESC(.gpa = 0, .backing = BLOCK(.len = 4 * PAGE, .flags = GM_BLOCK_SHARE)), &id,
		&err));
	assert_int_equal(gm_write_u64(held, 0, 4), 0);
	assert_int_equal(IN_SECTION(gm_write_u64(view, 0, 5)), 0);
	gm_reader_leave(reader);
	assert_int_equal(*host_of(source, 0), 5);
	assert_ok(gm_grant_wait(grant, 0, &err));
	assert_int_equal(IN_SECTION(gm_write_u64(view, 0, 6)), 0);
	assert_int_equal(*host_of(source, 0), 6);
	drop_all();
}

/* A listener of the grant's space, which is held meanwhile. */
static int change_inside(
	void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *error)
{
	(void)ctx;
	(void)changes;
	(void)nr;
	(void)error;
	assert_fails(gm_grant_set(grant, 0, PAGE, 0, GM_GRANT_NOWAIT, &err), EBUSY, "change");
	assert_fails(gm_space_remove(source, ram, &err), EBUSY, "change");
	return 0;
}

static void a_transaction_keeps_changes_of_rights_out(void **state)
{
	struct gm_listener *listener;
	struct gm_txn *txn;

	(void)state;
	make_source();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_R, 0}), 0);
	assert_ok(gm_txn_begin(source, &txn, &err));
	assert_fails(gm_grant_set(grant, 0, PAGE, 0, 0, &err), EBUSY, "change");
	assert_fails(gm_grant_revoke(grant, 0, &err), EBUSY, "change");
	assert_fails(gm_grant_wait(grant, 0, &err), EBUSY, "change");
	assert_fails(gm_grant_destroy(grant, &err), EBUSY, "change");
	gm_txn_abort(txn);
	assert_int_equal(check(0, GM_PERM_R), 0);
	/* Somebody has the grant's own space. */
	assert_ok(gm_listener_create(gm_grant_space(grant),
		GM_OPTS(gm_listener_ops, .prepare = change_inside), &listener, &err));
	assert_int_equal(check(0, GM_PERM_R), 0);
	assert_ok(gm_listener_destroy(listener, &err));
	assert_ok(gm_space_remove(source, ram, &err));
	assert_int_equal(check(0, GM_PERM_R), -EFAULT);
	drop_all();
}

/* An alias of what is granted would hold up taking it back, and the source's changes, for ever. */
static void only_the_grant_changes_its_space(void **state)
{
	struct gm_region_info shown = {.size = sizeof(shown)};
	struct gm_space *space;
	struct gm_txn *txn;

	(void)state;
	make_source();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_R, 0}), 0);
	space = gm_grant_space(grant);
	assert_int_equal(gm_space_next(space, 0, &shown), 0);
	assert_fails(gm_txn_begin(space, &txn, &err), EPERM, "grant");
	assert_fails(gm_space_add(space,
			     GM_OPTS(gm_region_desc, .kind = GM_REGION_ALIAS, .target = shown.id,
				     .gpa = MIB(8), .len = PAGE),
			     NULL, &err),
		EPERM, "grant");
	assert_fails(gm_space_remove(space, shown.id, &err), EPERM, "grant");
	assert_fails(gm_space_set_part(space, shown.id, 0, PAGE, GM_PART_UNPLUGGED, &err), EPERM,
		"grant");
	assert_ok(gm_grant_revoke(grant, 0, &err));
	assert_ok(gm_space_remove(source, ram, &err));
	drop_all();
}

static int count_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	(void)off;
	(void)size;
	(void)value;
	++*(int *)ctx;
	return 0;
}

static void what_a_device_answers_is_not_granted(void **state)
{
	int writes = 0;
	const struct gm_device_ops device = {
		.size = sizeof(device), .write = count_write, .ctx = &writes};

	(void)state;
	make_source();
	make_grant(PARTS({MIB(2), MIB(2), GM_PERM_RW, 0}), 0);
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(2), .kind = GM_REGION_ROMD, .device = &device,
			.backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)),
		NULL, &err));
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(3), .len = PAGE, .kind = GM_REGION_MMIO, .device = &device), NULL,
		&err));
	assert_int_equal(check(MIB(2), GM_PERM_R), 0);
	assert_int_equal(IN_SECTION(gm_write_u8(view, MIB(2), 1)), -EACCES);
	assert_maps(host_of(gm_grant_space(grant), MIB(2)), "r--s");
	assert_int_equal(IN_SECTION(gm_write_u8(view, MIB(3), 1)), -EFAULT);
	assert_int_equal(writes, 0);
	drop_all();
}

/* ---- grants of grants ---- */

static void a_grant_of_a_grant_has_no_more(void **state)
{
	struct gm_grant *inner;
	struct gm_reader *own;
	const struct gm_view *held;
	uint8_t *base;

	(void)state;
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}, {8 * PAGE, 8 * PAGE, GM_PERM_R, 0}), 0);
	assert_ok(gm_grant_create(gm_grant_space(grant),
		GM_OPTS(gm_grant_opts, .name = "inner", .nr_parts = 1,
			.parts = &(struct gm_grant_part){4 * PAGE, 8 * PAGE, GM_PERM_RW, 0}),
		&inner, &err));
	assert_ok(gm_reader_create(gm_grant_space(inner), "inner reader", &own, &err));
	held = gm_reader_enter(own);
	assert_int_equal(gm_view_check(held, 0, 1, GM_PERM_R), -EFAULT);
	assert_int_equal(gm_view_check(held, 4 * PAGE, 4 * PAGE, GM_PERM_RW), 0);
	assert_int_equal(gm_view_check(held, 8 * PAGE, 4 * PAGE, GM_PERM_R), 0);
	assert_int_equal(gm_view_check(held, 8 * PAGE, 1, GM_PERM_W), -EACCES);
	assert_int_equal(gm_view_check(held, 12 * PAGE, 1, GM_PERM_R), -EFAULT);
	assert_int_equal(gm_write_u64(held, 4 * PAGE, 99), 0);
	assert_int_equal(*host_of(source, 4 * PAGE), 99);
	/* Readers of the inner one hold up what the outer one takes away. */
	assert_fails(gm_grant_set(grant, 4 * PAGE, PAGE, 0, 0, &err), ETIMEDOUT, "inner reader");
	gm_reader_leave(own);
	assert_ok(gm_grant_wait(grant, 0, &err));
	base = window_of(inner);
	assert_int_equal(raw_access(base + 4 * PAGE, false), SIGSEGV);
	assert_int_equal(raw_access(base + 5 * PAGE, false), 0);
	held = gm_reader_enter(own);
	assert_int_equal(gm_view_check(held, 4 * PAGE, 1, GM_PERM_R), -EFAULT);
	gm_reader_leave(own);
	/* The source reaches both. */
	assert_ok(gm_space_remove(source, ram, &err));
	held = gm_reader_enter(own);
	assert_int_equal(gm_view_check(held, 5 * PAGE, 1, GM_PERM_R), -EFAULT);
	gm_reader_leave(own);
	assert_int_equal(raw_access(base + 5 * PAGE, false), SIGSEGV);
	gm_reader_destroy(own);
	assert_ok(gm_grant_destroy(inner, &err));
	drop_all();
}

/* ---- shadows ---- */

static void a_shadow_is_brought_in_and_out(void **state)
{
	uint8_t bytes[64];
	size_t done = 99;

	(void)state;
	make_source();
	/* Also of memory without an fd. */
	assert_ok(gm_space_add(
		source, DESC(.gpa = RAM_PAGES * PAGE, .backing = BLOCK(.len = PAGE)), NULL, &err));
	memset(host_of(source, RAM_PAGES * PAGE), 0xab, PAGE);
	make_grant(PARTS({60 * PAGE, 2 * PAGE, GM_PERM_R, 0}, {62 * PAGE, 3 * PAGE, GM_PERM_RW, 0}),
		GM_GRANT_SHADOW);
	assert_int_equal(IN_SECTION(gm_is_zero(view, 60 * PAGE, 5 * PAGE, NULL)), 1);
	assert_int_equal(gm_grant_copy_in(grant, 60 * PAGE + 5, 5 * PAGE - 5, &done), 0);
	assert_int_equal(done, 5 * PAGE - 5);
	assert_int_equal(IN_SECTION(gm_read(view, 60 * PAGE, bytes, 8, NULL)), 0);
	assert_memory_equal(bytes, "\0\0\0\0\0\x3d\x3d\x3d", 8);
	assert_int_equal(IN_SECTION(gm_read(view, RAM_PAGES * PAGE, bytes, 8, NULL)), 0);
	assert_int_equal(bytes[0], 0xab);

	assert_int_equal(IN_SECTION(gm_fill(view, 63 * PAGE, 0x11, 2 * PAGE, NULL)), 0);
	assert_int_equal(*host_of(source, 63 * PAGE), 64);
	assert_int_equal(gm_grant_copy_out(grant, 63 * PAGE + 1, PAGE, &done), 0);
	assert_int_equal(done, PAGE);
	assert_int_equal(host_of(source, 63 * PAGE)[0], 64);
	assert_int_equal(host_of(source, 63 * PAGE)[1], 0x11);
	assert_int_equal(host_of(source, RAM_PAGES * PAGE)[0], 0x11);
	assert_int_equal(host_of(source, RAM_PAGES * PAGE)[1], 0xab);

	/* Edges. */
	assert_int_equal(gm_grant_copy_out(grant, 61 * PAGE, 2 * PAGE, &done), -EACCES);
	assert_int_equal(done, 0);
	assert_int_equal(gm_grant_copy_in(grant, 60 * PAGE - 1, 2, &done), -EFAULT);
	assert_int_equal(done, 0);
	assert_int_equal(gm_grant_copy_in(grant, 64 * PAGE, 2 * PAGE, &done), -EFAULT);
	assert_int_equal(done, PAGE);
	assert_int_equal(gm_grant_copy_in(grant, UINT64_MAX, 2, &done), -ERANGE);
	assert_int_equal(gm_grant_copy_in(grant, 60 * PAGE, 0, &done), 0);
	assert_int_equal(gm_grant_copy_in(grant, 0, 0, &done), -EFAULT);
	assert_int_equal(gm_grant_copy_out(grant, 60 * PAGE, 0, NULL), -EACCES);
	assert_int_equal(done, 0);
	drop_all();
	make_source();
	make_grant(PARTS({0, PAGE, GM_PERM_R, 0}), 0);
	assert_int_equal(gm_grant_copy_in(grant, 0, 1, &done), -EINVAL);
	drop_all();
}

/* The fd behind an address of a space, as a peer has it. */
static int fd_of(struct gm_space *space, uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_block_info block = {.size = sizeof(block)};
	int fd;

	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	assert_int_equal(gm_block_info(info.block, &block), 0);
	fd = dup(block.fd);
	assert_true(fd >= 0);
	return fd;
}

static void a_part_of_a_shadow_that_is_cut_goes_as_a_whole(void **state)
{
	volatile uint8_t *peer[2];
	uint8_t byte = 1;
	int fds[2];

	(void)state;
	make_source();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_RW, 0}, {8 * PAGE, PAGE, GM_PERM_R, 0}),
		GM_GRANT_SHADOW);
	assert_int_equal(gm_grant_copy_in(grant, 0, 4 * PAGE, NULL), 0);
	assert_int_equal(gm_grant_copy_in(grant, 8 * PAGE, PAGE, NULL), 0);
	for (int i = 0; i < 2; i++) {
		fds[i] = fd_of(gm_grant_space(grant), i ? 8 * PAGE : 0);
		peer[i] = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fds[i], 0);
		assert_true(peer[i] != MAP_FAILED);
	}
	assert_int_equal(*peer[0], 1);
	assert_int_equal(*peer[1], 9);
	/* A right that goes leaves the bytes where they are. */
	assert_ok(gm_grant_set(grant, 0, PAGE, GM_PERM_R, 0, &err));
	assert_int_equal(raw_access((uint8_t *)(uintptr_t)peer[0], false), 0);
	assert_int_equal(gm_grant_copy_out(grant, 0, 1, NULL), -EACCES);
	assert_ok(gm_grant_set(grant, 3 * PAGE, PAGE, 0, 0, &err));
	assert_int_equal(raw_access((uint8_t *)(uintptr_t)peer[0], false), SIGBUS);
	assert_int_equal(raw_access((uint8_t *)(uintptr_t)peer[1], false), 0);
	/* And it cannot be brought back by whoever has the fd. */
	assert_int_equal(ftruncate(fds[0], PAGE), -1);
	assert_int_equal(errno, EPERM);
	/* The rest is another shadow. */
	assert_int_equal(IN_SECTION(gm_read_u8(view, PAGE, &byte)), 0);
	assert_int_equal(byte, 0);
	assert_int_equal(gm_grant_copy_in(grant, 0, 3 * PAGE, NULL), 0);
	assert_int_equal(IN_SECTION(gm_read_u8(view, PAGE, &byte)), 0);
	assert_int_equal(byte, 2);
	assert_int_equal(gm_grant_copy_in(grant, 3 * PAGE, 1, NULL), -EFAULT);
	/* A shadow that its peer has shrunk is an error. */
	close(fds[0]);
	fds[0] = fd_of(gm_grant_space(grant), PAGE);
	assert_int_equal(ftruncate(fds[0], 0), 0);
	assert_int_equal(gm_grant_copy_in(grant, PAGE, 1, NULL), -EIO);
	assert_int_equal(gm_grant_copy_out(grant, PAGE, 1, NULL), -EIO);
	/* All of it goes with the grant. */
	drop_all();
	assert_int_equal(raw_access((uint8_t *)(uintptr_t)peer[1], false), SIGBUS);
	for (int i = 0; i < 2; i++) {
		munmap((void *)(uintptr_t)peer[i], PAGE);
		close(fds[i]);
	}
}

/* ---- refusals ---- */

static void what_makes_no_sense_is_refused(void **state)
{
	const struct {
		struct gm_grant_part parts[2];
		size_t nr;
		uint32_t flags;
		int code;
		const char *word;
	} cases[] = {
		{{{1, PAGE, GM_PERM_R, 0}}, 1, 0, EINVAL, "multiples of the page size"},
		{{{0, 100, GM_PERM_R, 0}}, 1, 0, EINVAL, "multiples of the page size"},
		{{{0, 0, GM_PERM_R, 0}}, 1, 0, EINVAL, "length is 0"},
		{{{0, PAGE, 0, 0}}, 1, 0, EINVAL, "no permissions"},
		{{{0, PAGE, 8, 0}}, 1, 0, EINVAL, "not known"},
		{{{0, PAGE, GM_PERM_R, 1}}, 1, 0, EINVAL, "unknown flags"},
		{{{0 - PAGE, 2 * PAGE, GM_PERM_R, 0}}, 1, 0, ERANGE, "wrap"},
		{{{0, 2 * PAGE, GM_PERM_R, 0}, {PAGE, PAGE, GM_PERM_R, 0}}, 2, 0, EINVAL,
			"two parts"},
		{{{0, PAGE, GM_PERM_R, 0}}, 1, 3, EINVAL, "exclude each other"},
		{{{0, PAGE, GM_PERM_R, 0}}, 1, 8, EINVAL, "unknown flags"},
	};
	struct gm_grant *none = (struct gm_grant *)&err;

	(void)state;
	make_source();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_fails(gm_grant_create(source,
				     GM_OPTS(gm_grant_opts, .parts = cases[i].parts,
					     .nr_parts = cases[i].nr, .flags = cases[i].flags),
				     &none, &err),
			cases[i].code, cases[i].word);
		assert_ptr_equal(none, &err);
	}
	assert_fails(gm_grant_create(source, GM_OPTS(gm_grant_opts, .nr_parts = 1), &none, &err),
		EINVAL, "parts");
	/* Private memory. */
	assert_ok(gm_space_add(
		source, DESC(.gpa = MIB(4), .backing = BLOCK(.len = PAGE)), NULL, &err));
	assert_fails(gm_grant_create(source,
			     GM_OPTS(gm_grant_opts, .nr_parts = 1,
				     .parts = &(struct gm_grant_part){0, MIB(8), GM_PERM_R, 0}),
			     &none, &err),
		ENOTSUP, "GM_BLOCK_SHARE");
	assert_int_equal(err.gpa, MIB(4));
	make_grant(NULL, 0, 0);
	assert_fails(
		gm_grant_set(grant, MIB(4), PAGE, GM_PERM_R, 0, &err), ENOTSUP, "GM_BLOCK_SHARE");
	assert_fails(gm_grant_set(grant, 5, PAGE, GM_PERM_R, 0, &err), EINVAL, "page size");
	assert_fails(gm_grant_set(grant, 0, PAGE, 16, 0, &err), EINVAL, "not known");
	assert_fails(gm_grant_set(grant, 0, PAGE, GM_PERM_R, 2, &err), EINVAL, "unknown flags");
	assert_fails(gm_grant_revoke(grant, 2, &err), EINVAL, "unknown flags");
	assert_int_equal(grant_info().granted, 0);
	assert_int_equal(gm_grant_info(grant, &(struct gm_grant_info){.size = 8}), -EINVAL);
	assert_int_equal(gm_grant_destroy(NULL, NULL), 0);
	drop_all();
}

static void a_page_of_the_memory_is_not_cut(void **state)
{
	(void)state;
	if (!support_pool(21, 2)) {
		puts("skipped: no huge pages of 2 MiB");
		skip();
	}
	make_source();
	make_grant(PARTS({MIB(4), MIB(4), GM_PERM_RW, 0}), 0);
	assert_ok(gm_space_add(source,
		DESC(.gpa = MIB(4), .backing = BLOCK(.len = MIB(4), .flags = GM_BLOCK_SHARE,
					    .pages = {{GM_PAGE_HUGETLB, 21}})),
		NULL, &err));
	assert_int_equal(IN_SECTION(gm_write_u8(view, MIB(6), 7)), 0);
	assert_int_equal(*host_of(source, MIB(6)), 7);
	assert_fails(gm_grant_set(grant, MIB(4), PAGE, 0, 0, &err), EINVAL, "2097152");
	assert_ok(gm_grant_set(grant, MIB(4), MIB(2), 0, 0, &err));
	assert_int_equal(check(MIB(4), GM_PERM_R), -EFAULT);
	assert_int_equal(check(MIB(6), GM_PERM_RW), 0);
	assert_int_equal(raw_access(window_of(grant) + MIB(4), false), SIGSEGV);
	drop_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mmu_knows_the_rights),
		cmocka_unit_test(more_rights_to_what_is_read_only_are_given),
		cmocka_unit_test(a_reader_holds_a_revocation_up_and_is_named),
		cmocka_unit_test(nothing_waits_that_must_not),
		cmocka_unit_test(a_pin_is_an_access_that_had_begun),
		cmocka_unit_test(memory_comes_and_goes_with_the_source),
		cmocka_unit_test(a_refused_change_leaves_the_grant_as_it_was),
		cmocka_unit_test(the_source_does_not_wait_for_readers_of_the_grant),
		cmocka_unit_test(a_transaction_keeps_changes_of_rights_out),
		cmocka_unit_test(only_the_grant_changes_its_space),
		cmocka_unit_test(what_a_device_answers_is_not_granted),
		cmocka_unit_test(a_grant_of_a_grant_has_no_more),
		cmocka_unit_test(a_shadow_is_brought_in_and_out),
		cmocka_unit_test(a_part_of_a_shadow_that_is_cut_goes_as_a_whole),
		cmocka_unit_test(what_makes_no_sense_is_refused),
		cmocka_unit_test(a_page_of_the_memory_is_not_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
