/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_discard.c - what is discarded is really gone, for each backing, and what cannot be is said; nothing
 * beside it changes.
 */
#include "one_discard.h"

#include <guestmem/log.h>
#include <guestmem/part.h>

#include "fault.h"

/* ---- each backing ---- */

static void check_now(const struct backing *b)
{
	struct gm_discard_result *r = result();
	uint64_t before;

	start_backing(b);
	fill_bytes(AT, 1, LEN);
	if (!b->now) {
		assert_fails(gm_discard(space, AT, MIB(2), GM_DISCARD_NOW, 0, r, &err), ENOTSUP,
			"cannot discard");
		assert_bytes(AT, 1, LEN);
		stop_backing();
		return;
	}
	before = taken();
	assert_ok(gm_discard(space, AT + MIB(2), MIB(4), GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(r->done, MIB(4));
	assert_int_equal(r->skipped, 0);
	assert_int_equal(r->ranges, 1);
	assert_int_equal(r->ways, b->now);
	/* To the byte; a private file's pages stay in the cache, but not as ours. */
	assert_int_equal(before - taken(), MIB(4));
	assert_bytes(AT, 1, MIB(2));
	assert_bytes(AT + MIB(2), b->from_file ? 'f' : 0, MIB(4));
	assert_bytes(AT + MIB(6), 1, MIB(2));
	/* It can be used again. */
	fill_bytes(AT + MIB(2), 7, MIB(4));
	assert_bytes(AT + MIB(2), 7, MIB(4));
	stop_backing();
}

static void what_is_discarded_is_freed_on_each_backing(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++)
		check_now(&backings[i]);
}

static void parts_of_pages_are_left_alone_and_counted(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];
		struct gm_discard_result *r = result();
		uint64_t before;

		if (!b->now)
			continue;
		start_backing(b);
		fill_bytes(AT, 1, LEN);
		before = taken();
		/* One byte at each end too many, and too few. */
		assert_ok(
			gm_discard(space, AT + MIB(2) - 1, MIB(2) + 2, GM_DISCARD_NOW, 0, r, &err));
		assert_int_equal(r->done, MIB(2));
		assert_int_equal(r->skipped, 2);
		assert_int_equal(before - taken(), MIB(2));
		assert_bytes(AT + MIB(4), 1, MIB(4));
		assert_ok(gm_discard(
			space, AT + MIB(4) + 1, b->page * 2 - 2, GM_DISCARD_NOW, 0, r, &err));
		assert_int_equal(r->done, 0);
		assert_int_equal(r->skipped, b->page * 2 - 2);
		assert_int_equal(r->ways, 0);
		assert_bytes(AT + MIB(4), 1, MIB(4));
		/* The trap: the kernel says yes to 8 KiB of a huge page and frees nothing. */
		assert_ok(gm_discard(space, AT + MIB(6), KIB(8), GM_DISCARD_NOW, 0, r, &err));
		assert_int_equal(r->done, b->page == PAGE ? KIB(8) : 0);
		assert_int_equal(r->skipped, b->page == PAGE ? 0 : KIB(8));
		assert_bytes(AT + MIB(6), b->page > PAGE ? 1 : b->from_file ? 'f' : 0, KIB(8));
		stop_backing();
	}
}

static void zero_is_zero_to_the_byte(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];
		struct gm_discard_result *r = result();
		const uint64_t first = AT + MIB(1) + 5;
		const uint64_t len = MIB(5) + 3;

		start_backing(b);
		fill_bytes(AT, 1, LEN);
		assert_ok(gm_discard(space, first, len, GM_DISCARD_ZERO, 0, r, &err));
		assert_int_equal(r->done + r->zeroed, len);
		assert_int_equal(r->skipped, 0);
		assert_int_equal(r->ways, b->zero | BY(FILL));
		if (b->zero == BY(FILL))
			assert_int_equal(r->done, 0);
		else
			assert_true(r->done >= MIB(4) && r->done % b->page == 0);
		assert_bytes(AT, 1, first - AT);
		assert_bytes(first, 0, len);
		assert_bytes(first + len, 1, AT + LEN - first - len);
		/* Less than a page. */
		assert_ok(gm_discard(space, AT + 3, 5, GM_DISCARD_ZERO, 0, r, &err));
		assert_int_equal(r->zeroed, 5);
		assert_bytes(AT, 1, 3);
		assert_bytes(AT + 3, 0, 5);
		assert_bytes(AT + 8, 1, 100);
		stop_backing();
	}
}

static void check_mode(uint32_t mode, uint32_t by)
{
	struct gm_discard_result *r = result();

	fill_bytes(AT, 1, LEN);
	if (!by) {
		assert_fails(
			gm_discard(space, AT, LEN, mode, 0, r, &err), ENOTSUP, "cannot discard");
		assert_int_equal(r->done, 0);
		assert_bytes(AT, 1, LEN);
		return;
	}
	assert_ok(gm_discard(space, AT, LEN, mode, 0, r, &err));
	assert_int_equal(r->done, LEN);
	assert_int_equal(r->ways, by);
}

static void other_modes_do_it_or_say_why_not(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];
		uint64_t before;

		start_backing(b);
		check_mode(GM_DISCARD_COLD, b->cold);
		assert_bytes(AT, 1, LEN);
		check_mode(GM_DISCARD_PAGEOUT, b->cold ? BY(PAGEOUT) : 0);
		assert_bytes(AT, 1, LEN);
		check_mode(GM_DISCARD_LAZY, b->lazy);
		/* Written again, it stays. */
		fill_bytes(AT, 2, LEN);
		assert_bytes(AT, 2, LEN);
		check_mode(GM_DISCARD_UNMAP, b->unmap);
		if (b->unmap) {
			before = taken();
			if (resident_at(host(AT), LEN))
				fail_msg("%s is still mapped", b->name);
			assert_bytes(AT, 1, LEN);
			assert_int_equal(resident_at(host(AT), LEN), LEN);
			/* Only an fd shows what is in no page table. */
			if (i != ANON_SHARED && i != HUGETLB_SHARED)
				assert_int_equal(taken(), before);
		}
		stop_backing();
	}
}

/* ---- what is refused ---- */

static void kinds_and_permissions(void **state)
{
	struct gm_discard_result *r = result();
	static const struct {
		uint32_t kind;
		uint32_t perms;
	} regions[] = {{GM_REGION_ROM, 0}, {GM_REGION_PMEM, 0}, {GM_REGION_ACPI, 0},
		{GM_REGION_RAM, GM_PERM_R}};

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	for (size_t i = 0; i < sizeof(regions) / sizeof(*regions); i++) {
		uint64_t gpa = MIB(16) * (i + 1);

		assert_ok(gm_space_add(space,
			DESC(.gpa = gpa, .kind = regions[i].kind, .perms = regions[i].perms,
				.backing = BLOCK(.len = MIB(2))),
			NULL, &err));
		host(gpa)[5] = 1;
		assert_fails(gm_discard(space, gpa, MIB(1), GM_DISCARD_NOW, 0, r, &err), EACCES,
			"not writable RAM");
		assert_int_equal(host(gpa)[5], 1);
		/* What keeps the bytes is nobody's business. */
		assert_ok(gm_discard(space, gpa, MIB(1), GM_DISCARD_COLD, 0, r, &err));
		assert_ok(gm_discard(
			space, gpa, MIB(1), GM_DISCARD_NOW, GM_DISCARD_ANY_KIND, r, &err));
		assert_int_equal(host(gpa)[5], 0);
	}
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(256), .kind = GM_REGION_DEVMEM, .backing = BLOCK(.len = MIB(2))),
		NULL, &err));
	assert_fails(
		gm_discard(space, MIB(256), PAGE, GM_DISCARD_NOW, GM_DISCARD_ANY_KIND, r, &err),
		ENOTSUP, "device");
	assert_ok(gm_space_add(
		space, DESC(.gpa = MIB(300), .len = PAGE, .kind = GM_REGION_RESERVED), NULL, &err));
	assert_fails(
		gm_discard(space, MIB(300), PAGE, GM_DISCARD_NOW, 0, r, &err), EFAULT, "no memory");
	assert_fails(
		gm_discard(space, MIB(400), PAGE, GM_DISCARD_NOW, 0, r, &err), EFAULT, "no memory");
	assert_int_equal(err.gpa, MIB(400));
	stop();
}

static void arguments(void **state)
{
	struct gm_discard_result *r = result();
	struct gm_discard_result unset = {0};

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MIB(2));
	assert_fails(gm_discard(space, 0, PAGE, 17, 0, r, &err), EINVAL, "no such way");
	assert_fails(gm_discard(space, 0, PAGE, 0, 0x1000, r, &err), EINVAL, "unknown flags");
	assert_fails(gm_discard(space, 0, PAGE, 0, 0, &unset, &err), EINVAL, "size");
	assert_fails(gm_discard(space, 0, PAGE, 0, GM_DISCARD_PRIVATE, r, &err), ENOTSUP,
		"no private block");
	assert_fails(gm_discard(space, UINT64_MAX, 2, 0, 0, r, &err), ERANGE, "wrap");
	assert_ok(gm_discard(space, UINT64_MAX, 0, 0, 0, r, &err));
	assert_ok(gm_discard(space, 0, PAGE, 0, 0, NULL, NULL));
	stop();
}

static void the_top_of_the_addresses(void **state)
{
	struct gm_discard_result *r = result();
	uint64_t top = UINT64_MAX - MIB(2) + 1;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(top, MIB(2));
	fill_bytes(top, 1, MIB(2));
	assert_ok(gm_discard(space, top + MIB(1) + 1, MIB(1) - 1, GM_DISCARD_ZERO, 0, r, &err));
	assert_int_equal(r->done, MIB(1) - PAGE);
	assert_bytes(top + MIB(1) + 1, 0, MIB(1) - 1);
	assert_bytes(top, 1, MIB(1) + 1);
	assert_ok(gm_discard(space, top + MIB(1) + 1, MIB(1) - 1, GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(r->skipped, PAGE - 1);
	stop();
}

static void seals_are_named(void **state)
{
	static const int seals[] = {F_SEAL_FUTURE_WRITE, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL};

	(void)state;
	for (int i = 0; i < 2; i++) {
		int fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
		struct gm_discard_result *r = result();

		assert_int_equal(ftruncate(fd, (off_t)MIB(2)), 0);
		start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
		assert_ok(gm_space_add(space,
			DESC(.backing = BLOCK(.len = MIB(2), .backing = GM_BACKING_FD, .fd = fd)),
			NULL, &err));
		fill_bytes(0, 1, MIB(2));
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
		if (i == 0) {
			assert_fails(gm_discard(space, 0, MIB(1), GM_DISCARD_NOW, 0, r, &err),
				EPERM, "F_SEAL_FUTURE_WRITE");
			assert_int_equal(file_bytes(fd), MIB(2));
		} else {
			assert_ok(gm_discard(space, 0, MIB(1), GM_DISCARD_NOW, 0, r, &err));
			assert_int_equal(file_bytes(fd), MIB(1));
		}
		stop();
		close(fd);
	}
}

static void nothing_is_done_if_part_of_it_is_refused(void **state)
{
	struct gm_discard_result *r = result();

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, MIB(2));
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(2), .kind = GM_REGION_ROM, .backing = BLOCK(.len = MIB(2))), NULL,
		&err));
	fill_bytes(0, 1, MIB(2));
	assert_fails(gm_discard(space, 0, MIB(4), GM_DISCARD_NOW, 0, r, &err), EACCES, "0x200000");
	assert_fails(gm_discard(space, 0, MIB(5), GM_DISCARD_NOW, GM_DISCARD_ANY_KIND, r, &err),
		EFAULT, "0x400000");
	assert_int_equal(r->done, 0);
	assert_bytes(0, 1, MIB(2));
	assert_ok(gm_discard(space, 0, MIB(4), GM_DISCARD_NOW, GM_DISCARD_ANY_KIND, r, &err));
	assert_int_equal(r->done, MIB(4));
	assert_int_equal(r->ranges, 2);
	stop();
}

/* ---- the map ---- */

static void regions_and_aliases_are_crossed_and_all_names_marked(void **state)
{
	uint64_t words[4];
	struct gm_discard_result *r = result();
	struct gm_log *log;
	uint64_t id;
	uint64_t count;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space,
		DESC(.backing = BLOCK(.len = 32 * PAGE, .flags = GM_BLOCK_SHARE)), &id, &err));
	add(32 * PAGE, 32 * PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = 64 * PAGE, .len = 16 * PAGE, .kind = GM_REGION_ALIAS, .target = id,
			.block_off = 8 * PAGE),
		NULL, &err));
	fill_bytes(0, 1, 80 * PAGE);
	assert_ok(gm_log_create(space, NULL, &log, &err));
	/* 24 pages of the region's, all of the second, 4 of the alias: these are pages 8 to 11 */
	assert_ok(gm_discard(space, 24 * PAGE, 44 * PAGE, GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(r->done, 44 * PAGE);
	assert_int_equal(r->ranges, 3);
	assert_bytes(0, 1, 8 * PAGE);
	assert_bytes(8 * PAGE, 0, 4 * PAGE);
	assert_bytes(12 * PAGE, 1, 12 * PAGE);
	assert_bytes(24 * PAGE, 0, 44 * PAGE);
	assert_bytes(68 * PAGE, 1, 12 * PAGE);
	assert_int_equal(gm_log_take(log, 0, 128, words, &count), 0);
	assert_int_equal(count, 48);
	assert_true(words[0] == (UINT64_C(0xf00) | UINT64_MAX << 24));
	assert_true(words[1] == 0xf);
	/* What keeps the bytes marks nothing, nor what was refused. */
	assert_ok(gm_discard(space, 0, 64 * PAGE, GM_DISCARD_COLD, 0, r, &err));
	assert_fails(
		gm_discard(space, 0, 128 * PAGE, GM_DISCARD_NOW, 0, r, &err), EFAULT, "no memory");
	assert_int_equal(gm_log_count(log, 0, 0), 0);
	/* Zeros that are written are marked as well. */
	assert_ok(gm_discard(space, 33 * PAGE + 1, 2, GM_DISCARD_ZERO, 0, r, &err));
	assert_int_equal(gm_log_count(log, 0, 0), 1);
	assert_int_equal(gm_log_count(log, 33 * PAGE, 1), 1);
	assert_ok(gm_log_destroy(log, &err));
	stop();
}

static void pinned_slices_stay_valid(void **state)
{
	struct gm_discard_result *r = result();
	struct iovec slice;
	struct gm_pin pin;
	uint64_t id;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	id = add(0, MIB(2));
	fill_bytes(0, 1, MIB(2));
	assert_int_equal(
		gm_pin_slice(gm_reader_enter(reader), PAGE, PAGE, GM_PERM_RW, &slice, &pin), 0);
	gm_reader_leave(reader);
	assert_ok(gm_discard(space, 0, MIB(2), GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(*(volatile uint8_t *)slice.iov_base, 0);
	*(volatile uint8_t *)slice.iov_base = 3;
	assert_bytes(PAGE, 3, 1);
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(*(volatile uint8_t *)slice.iov_base, 3);
	assert_fails(gm_discard(space, 0, PAGE, GM_DISCARD_NOW, 0, r, &err), EFAULT, "no memory");
	gm_pin_put(&pin);
	stop();
}

static void unplugged_parts_are_given_back_and_guarded(void **state)
{
	struct gm_discard_result *r = result();
	uint64_t id;
	uint8_t byte;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	assert_ok(gm_space_add(space,
		DESC(.gpa = AT, .granule = MIB(2), .backing = BLOCK(.len = MIB(8))), &id, &err));
	fill_bytes(AT, 1, MIB(8));
	assert_ok(gm_discard_inhibit(space, 0, 0, GM_INHIBIT_UNCOORDINATED, &err));
	assert_fails(gm_discard(space, AT + MIB(2), MIB(2), 0, 0, r, &err), EBUSY, "inhibited");
	assert_ok(gm_space_set_part(space, id, MIB(2), MIB(2), GM_PART_UNPLUGGED, &err));
	assert_int_equal(gm_read(gm_reader_enter(reader), AT + MIB(2), &byte, 1, NULL), -EFAULT);
	gm_reader_leave(reader);
	/* Coordinated: whoever listens for parts was told. */
	assert_ok(gm_discard(space, AT + MIB(2), MIB(2), 0, 0, r, &err));
	assert_int_equal(r->done, MIB(2));
	assert_int_equal(resident_at(host(AT), MIB(8)), MIB(6));
	assert_ok(gm_range_guard(space, AT + MIB(2), MIB(2), 0, r, &err));
	assert_int_equal(r->ways, BY(GUARD));
	assert_int_equal(madvise(host(AT + MIB(2)), PAGE, MADV_POPULATE_WRITE), -1);
	assert_ok(gm_range_unguard(space, AT + MIB(2), MIB(2), &err));
	assert_int_equal(madvise(host(AT + MIB(2)), PAGE, MADV_POPULATE_WRITE), 0);
	assert_ok(gm_space_set_part(space, id, MIB(2), MIB(2), GM_PART_SHARED, &err));
	assert_bytes(AT, 1, MIB(2));
	assert_bytes(AT + MIB(2), 0, MIB(2));
	assert_bytes(AT + MIB(4), 1, MIB(4));
	assert_int_equal(gm_discard_allow(space, 0, 0, GM_INHIBIT_UNCOORDINATED), 0);
	stop();
}

static size_t count_mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "r");
	size_t lines = 0;
	int c;

	assert_non_null(file);
	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	fclose(file);
	return lines;
}

static void guard_pages_cut_no_mapping(void **state)
{
	static const int guarded[] = {ANON, THP, MEMFD, ANON_SHARED};

	(void)state;
	for (size_t i = 0; i < sizeof(guarded) / sizeof(*guarded); i++) {
		struct gm_discard_result *r = result();
		size_t before;
		uint8_t byte;

		start_backing(&backings[guarded[i]]);
		fill_bytes(AT, 1, LEN);
		before = count_mappings();
		for (uint64_t at = 0; at < LEN; at += MIB(2))
			assert_ok(gm_range_guard(space, AT + at, MIB(1), 0, r, &err));
		assert_int_equal(count_mappings(), before);
		assert_int_equal(taken(), LEN / 2);
		assert_ok(gm_guard_install());
		assert_int_equal(gm_read(gm_reader_enter(reader), AT, &byte, 1, NULL), -EIO);
		gm_reader_leave(reader);
		gm_guard_remove();
		assert_bytes(AT + MIB(1), 1, MIB(1));
		assert_ok(gm_range_unguard(space, AT, LEN, &err));
		assert_bytes(AT, 0, MIB(1));
		assert_bytes(AT + MIB(1), 1, MIB(1));
		stop_backing();
	}
	start_backing(&backings[HUGETLB]);
	assert_fails(gm_range_guard(space, AT, MIB(2), 0, NULL, &err), ENOTSUP, "huge");
	assert_fails(gm_range_unguard(space, AT, MIB(2), &err), ENOTSUP, "huge");
	stop_backing();
	start_backing(&backings[LOCKED]);
	fill_bytes(AT, 1, LEN);
	assert_fails(gm_range_guard(space, AT, MIB(2), 0, NULL, &err), ENOTSUP, "locked");
	assert_bytes(AT, 1, LEN);
	stop_backing();
	start_backing(&backings[POINTER]);
	assert_fails(gm_range_guard(space, AT, MIB(2), 0, NULL, &err), ENOTSUP, "");
	stop_backing();
}

/* ---- faults ---- */

static void a_call_that_fails_is_reported(void **state)
{
	(void)state;
	for (int i = 0; i < BACKINGS; i++) {
		const struct backing *b = &backings[i];
		enum fault_fn fn =
			b->now == BY(PUNCH) ? FAULT_gm_sys_fallocate : FAULT_gm_sys_madvise;
		uint32_t mode = GM_DISCARD_NOW;

		if (!b->now)
			continue;
		start_backing(b);
		fill_bytes(AT, 1, LEN);
		fault_set(
			&(struct fault_plan){.fn = fn, .nth = 1, .forever = true, .error = ENOMEM});
		assert_fails(gm_discard(space, AT, LEN, mode, 0, result(), &err), ENOMEM,
			"cannot discard");
		assert_true(fault_hits() > 0);
		fault_disarm();
		assert_bytes(AT, 1, LEN);
		/* Interrupted, it goes on. */
		fault_set(&(struct fault_plan){.fn = fn, .nth = 1, .error = EINTR});
		assert_ok(gm_discard(space, AT, LEN, mode, 0, result(), &err));
		assert_int_equal(fault_hits(), 1);
		fault_disarm();
		assert_bytes(AT, b->from_file ? 'f' : 0, LEN);
		stop_backing();
	}
}

static void memory_may_be_short(void **state)
{
	(void)state;
	start_backing(&backings[UNMAPPED]);
	fill_bytes(AT, 1, LEN);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_alloc, .nth = 1, .error = ENOMEM});
	assert_fails(gm_discard_inhibit(space, AT, LEN, GM_INHIBIT_ALL, &err), ENOMEM, "memory");
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	assert_int_equal(gm_discard_allow(space, AT, LEN, GM_INHIBIT_ALL), -ENOENT);
	/* Zeros in part of a page go by a reader of their own. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_alloc_aligned, .nth = 1, .forever = true, .error = ENOMEM});
	assert_fails(gm_discard(space, AT + 1, 5, GM_DISCARD_ZERO, 0, NULL, &err), ENOMEM, "zeros");
	assert_true(fault_hits() > 0);
	fault_disarm();
	assert_bytes(AT, 1, PAGE);
	assert_ok(gm_discard(space, AT + 1, 5, GM_DISCARD_ZERO, 0, NULL, &err));
	assert_bytes(AT + 1, 0, 5);
	stop_backing();
}

static void who_locks_all_memory_can_discard(void **state)
{
	struct gm_discard_result *r = result();

	(void)state;
	start_backing(&backings[ANON]);
	fill_bytes(AT, 1, LEN);
	/* As after mlockall(); the C library's does nothing under the address sanitizer. */
	assert_int_equal(syscall(SYS_mlock, host(AT), LEN), 0);
	assert_ok(gm_discard(space, AT, LEN, GM_DISCARD_NOW, 0, r, &err));
	assert_int_equal(r->ways, BY(DONTNEED_LOCKED));
	assert_bytes(AT, 0, LEN);
	stop_backing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_discarded_is_freed_on_each_backing),
		cmocka_unit_test(parts_of_pages_are_left_alone_and_counted),
		cmocka_unit_test(zero_is_zero_to_the_byte),
		cmocka_unit_test(other_modes_do_it_or_say_why_not),
		cmocka_unit_test(kinds_and_permissions),
		cmocka_unit_test(arguments),
		cmocka_unit_test(the_top_of_the_addresses),
		cmocka_unit_test(seals_are_named),
		cmocka_unit_test(nothing_is_done_if_part_of_it_is_refused),
		cmocka_unit_test(regions_and_aliases_are_crossed_and_all_names_marked),
		cmocka_unit_test(pinned_slices_stay_valid),
		cmocka_unit_test(unplugged_parts_are_given_back_and_guarded),
		cmocka_unit_test(guard_pages_cut_no_mapping),
		cmocka_unit_test(a_call_that_fails_is_reported),
		cmocka_unit_test(memory_may_be_short),
		cmocka_unit_test(who_locks_all_memory_can_discard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
