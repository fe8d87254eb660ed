/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_device.c - regions that callbacks answer: how accesses are cut, what is refused, who comes
 * back in, and how long a device lives.
 */
#include <errno.h>
#include <guestmem/device.h>
#include <guestmem/txn.h>
#include <string.h>

#include "fault.h"
#include "one_space.h"

#define PAGE UINT64_C(4096)
#define MMIO (UINT64_C(1) << 32)

/* A device of 64 bytes that notes what it is asked. */
struct registers {
	uint8_t bytes[64];
	struct {
		bool write;
		uint64_t off;
		uint32_t size;
	} calls[64];
	size_t nr;
	int fail_at; /* the n-th call from here, 0 = none */
	unsigned int released;
	int (*inside)(void);
	int inside_rc;
};

static struct registers regs;

static int note(struct registers *r, bool write, uint64_t off, uint32_t size)
{
	assert_true(r->nr < 64 && off + size <= sizeof(r->bytes));
	r->calls[r->nr].write = write;
	r->calls[r->nr].off = off;
	r->calls[r->nr++].size = size;
	if (r->inside)
		r->inside_rc = r->inside();
	return r->fail_at && --r->fail_at == 0 ? -ENODEV : 0;
}

static int on_read(void *ctx, uint64_t off, uint32_t size, uint64_t *ret_value)
{
	struct registers *r = ctx;
	int rc = note(r, false, off, size);

	memcpy(ret_value, r->bytes + off, size);
	return rc;
}

static int on_write(void *ctx, uint64_t off, uint32_t size, uint64_t value)
{
	struct registers *r = ctx;
	int rc = note(r, true, off, size);

	if (!rc)
		memcpy(r->bytes + off, &value, size);
	return rc;
}

static void on_release(void *ctx)
{
	struct registers *r = ctx;

	r->released++;
}

#define DEVICE(...)                                                                                \
	GM_OPTS(gm_device_ops, .read = on_read, .write = on_write, .release = on_release,          \
		.ctx = &regs, __VA_ARGS__)

static uint64_t add_mmio(uint64_t gpa, uint64_t len, const struct gm_device_ops *ops)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space,
		DESC(.gpa = gpa, .len = len, .kind = GM_REGION_MMIO, .device = ops), &id, &err));
	return id;
}

static void begin(void)
{
	memset(&regs, 0, sizeof(regs));
	for (size_t i = 0; i < sizeof(regs.bytes); i++)
		regs.bytes[i] = (uint8_t)(i + 1);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)));
}

/* The sizes of the calls since the last time, as text. */
static const char *sizes(void)
{
	static char text[65];
	size_t i;

	for (i = 0; i < regs.nr; i++)
		text[i] = (char)('0' + regs.calls[i].size);
	text[i] = '\0';
	regs.nr = 0;
	return text;
}

static const struct gm_view *enter(void)
{
	return gm_reader_enter(reader);
}

/* ---- how accesses are cut ---- */

static void accesses_are_cut_into_aligned_pieces(void **state)
{
	uint8_t buf[64] = {0};
	size_t done = 99;
	uint32_t u32 = 0;
	uint16_t u16 = 0;

	(void)state;
	begin();
	add_mmio(MMIO, 64, DEVICE(.max_size = 4));
	assert_int_equal(gm_read_u32(enter(), MMIO + 4, &u32), 0);
	assert_int_equal(u32, 0x08070605);
	assert_string_equal(sizes(), "4");
	assert_int_equal(gm_read_be16(enter(), MMIO + 2, &u16), 0);
	assert_int_equal(u16, 0x0304);
	assert_string_equal(sizes(), "2");
	assert_int_equal(gm_read(enter(), MMIO + 1, buf, 14, &done), 0);
	assert_int_equal(done, 14);
	assert_memory_equal(buf, regs.bytes + 1, 14);
	assert_string_equal(sizes(), "124421");
	assert_int_equal(gm_write_le64(enter(), MMIO + 8, 0x1122334455667788), 0);
	assert_string_equal(sizes(), "44");
	assert_int_equal(regs.bytes[8], 0x88);
	assert_int_equal(regs.bytes[15], 0x11);
	assert_int_equal(gm_fill(enter(), MMIO + 3, 0xab, 6, &done), 0);
	assert_string_equal(sizes(), "141");
	assert_int_equal(regs.bytes[3], 0xab);
	assert_int_equal(regs.bytes[8], 0xab);
	assert_int_equal(regs.bytes[9], 0x77);
	assert_int_equal(gm_is_zero(enter(), MMIO, 4, NULL), 0);
	assert_string_equal(sizes(), "4");
	assert_int_equal(gm_read(enter(), MMIO + 60, buf, 8, &done), -EFAULT);
	assert_int_equal(done, 4);
	assert_int_equal(gm_read(enter(), MMIO + 9, buf, 0, &done), 0);
	assert_int_equal(done, 0);
	for (int i = 0; i < 8; i++)
		gm_reader_leave(reader);
	stop();
	assert_int_equal(regs.released, 1);
}

static void sizes_that_a_device_does_not_take_are_refused(void **state)
{
	uint8_t buf[64];
	size_t done = 99;
	uint32_t u32;
	uint8_t u8;

	(void)state;
	begin();
	add_mmio(MMIO, 64, DEVICE(.min_size = 4, .max_size = 4));
	assert_int_equal(gm_read_u8(enter(), MMIO, &u8), -EINVAL);
	assert_int_equal(gm_read_u32(enter(), MMIO + 2, &u32), -EINVAL);
	assert_int_equal(gm_read(enter(), MMIO, buf, 10, &done), -EINVAL);
	assert_int_equal(done, 8);
	assert_string_equal(sizes(), "44");
	assert_int_equal(gm_fill(enter(), MMIO + 4, 0, 7, &done), -EINVAL);
	assert_int_equal(done, 4);
	add_mmio(MMIO + PAGE, 64,
		DEVICE(.min_size = 2, .max_size = 8, .flags = GM_DEVICE_UNALIGNED));
	regs.nr = 0;
	assert_int_equal(gm_read(enter(), MMIO + PAGE + 3, buf, 14, &done), 0);
	assert_string_equal(sizes(), "842");
	for (int i = 0; i < 5; i++)
		gm_reader_leave(reader);
	stop();
	assert_int_equal(regs.released, 2);
}

static void a_device_refuses_with_its_own_error(void **state)
{
	uint8_t buf[16];
	size_t done = 99;
	uint32_t u32 = 7;

	(void)state;
	begin();
	add_mmio(MMIO, 64, DEVICE(.max_size = 4));
	regs.fail_at = 3;
	assert_int_equal(gm_read(enter(), MMIO, buf, 16, &done), -ENODEV);
	assert_int_equal(done, 8);
	regs.fail_at = 1;
	assert_int_equal(gm_read_u32(enter(), MMIO, &u32), -ENODEV);
	assert_int_equal(u32, 7);
	add_mmio(MMIO + PAGE, 64, GM_OPTS(gm_device_ops, .read = on_read, .ctx = &regs));
	assert_int_equal(gm_write_u32(enter(), MMIO + PAGE, 1), -EACCES);
	assert_int_equal(gm_read_u32(enter(), MMIO + PAGE, &u32), 0);
	for (int i = 0; i < 4; i++)
		gm_reader_leave(reader);
	stop();
}

static void what_needs_memory_is_refused(void **state)
{
	struct gm_pin pin = {0};
	struct iovec slice;
	uint64_t gpa;
	uint32_t old;

	(void)state;
	begin();
	add_mmio(MMIO, 64, DEVICE(.max_size = 4));
	add(0, PAGE);
	assert_int_equal(gm_atomic_load_u32(enter(), MMIO, __ATOMIC_ACQUIRE, &old), -ENOTSUP);
	assert_int_equal(
		gm_atomic_fetch_add_u32(enter(), MMIO, __ATOMIC_ACQUIRE, 1, &old), -ENOTSUP);
	assert_int_equal(gm_copy(enter(), 0, MMIO, 16, NULL), -ENOTSUP);
	assert_int_equal(gm_copy(enter(), MMIO, 0, 16, NULL), -ENOTSUP);
	assert_int_equal(gm_pin_slice(enter(), MMIO, 16, GM_PERM_R, &slice, &pin), -ENOTSUP);
	assert_int_equal(gm_view_check(enter(), MMIO, 64, GM_PERM_RW), 0);
	assert_int_equal(gm_view_gpa(enter(), &regs, &gpa), -EFAULT);
	assert_int_equal(regs.nr, 0);
	for (int i = 0; i < 7; i++)
		gm_reader_leave(reader);
	stop();
}

/* A range may lie half in memory and half in a device. */
static void ranges_cross_into_devices(void **state)
{
	uint8_t buf[32];
	uint8_t back[32] = {0};
	size_t done;

	(void)state;
	begin();
	add(MMIO - PAGE, PAGE);
	add_mmio(MMIO, 64, DEVICE(.max_size = 8));
	memset(buf, 0x5c, sizeof(buf));
	assert_int_equal(gm_write(enter(), MMIO - 16, buf, 32, &done), 0);
	assert_int_equal(done, 32);
	assert_string_equal(sizes(), "88");
	assert_int_equal(gm_read(enter(), MMIO - 16, back, 32, &done), 0);
	assert_memory_equal(buf, back, 32);
	/* An alias of part of it begins in its middle. */
	assert_ok(gm_space_add(space,
		DESC(.gpa = 2 * MMIO, .len = 8, .kind = GM_REGION_ALIAS,
			.target = add_mmio(3 * MMIO, 64, DEVICE(.max_size = 4)), .block_off = 20),
		NULL, &err));
	regs.nr = 0;
	assert_int_equal(gm_read(enter(), 2 * MMIO + 4, buf, 4, &done), 0);
	assert_int_equal(regs.calls[0].off, 24);
	for (int i = 0; i < 3; i++)
		gm_reader_leave(reader);
	stop();
}

/* ---- ROM devices ---- */

static void a_rom_device_is_read_as_memory_and_written_by_calls(void **state)
{
	static const uint32_t flags[] = {0, GM_BLOCK_SHARE};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct gm_region_info info = {.size = sizeof(info)};
		struct gm_pin pin = {0};
		struct iovec slice;
		uint64_t value = 9;
		uint64_t id;

		begin();
		assert_ok(gm_space_add(space,
			DESC(.gpa = MMIO, .len = PAGE, .kind = GM_REGION_ROMD,
				.device = DEVICE(.max_size = 8),
				.backing = BLOCK(.flags = flags[i])),
			&id, &err));
		info = region(id);
		assert_int_equal(info.placed, 1);
		*(volatile uint64_t *)info.hva = 0x1234;
		assert_int_equal(gm_read_u64(enter(), MMIO, &value), 0);
		assert_int_equal(value, 0x1234);
		assert_int_equal(regs.nr, 0);
		assert_int_equal(gm_write_u64(enter(), MMIO + 8, 0x77), 0);
		assert_string_equal(sizes(), "8");
		assert_int_equal(regs.bytes[8], 0x77);
		assert_int_equal(((uint64_t *)info.hva)[1], 0);
		assert_int_equal(gm_pin_slice(enter(), MMIO, 16, GM_PERM_R, &slice, &pin), 0);
		gm_pin_put(&pin);
		assert_int_equal(
			gm_pin_slice(enter(), MMIO, 16, GM_PERM_W, &slice, &pin), -ENOTSUP);
		assert_int_equal(gm_atomic_store_u32(enter(), MMIO, __ATOMIC_RELEASE, 1), -ENOTSUP);
		for (int j = 0; j < 5; j++)
			gm_reader_leave(reader);
		/* Moved, the device still counts from the region's begin. */
		assert_ok(gm_space_add(space,
			DESC(.gpa = 3 * MMIO, .len = 16, .kind = GM_REGION_ALIAS, .target = id,
				.block_off = 16),
			NULL, &err));
		regs.nr = 0;
		assert_int_equal(gm_write_u64(enter(), 3 * MMIO + 8, 0x99), 0);
		assert_int_equal(regs.calls[0].off, 24);
		gm_reader_leave(reader);
		/* Its memory is nobody else's. */
		if (flags[i])
			assert_fails(gm_space_add(space,
					     DESC(.gpa = 0, .len = PAGE, .block = info.block), NULL,
					     &err),
				EBUSY, "ROM device");
		stop();
		assert_int_equal(regs.released, 1);
	}
}

/* ---- coming back in ---- */

static int inner_access(void)
{
	uint32_t value;
	int rc = gm_read_u32(enter(), MMIO + 4, &value);

	gm_reader_leave(reader);
	return rc;
}

static int inner_memory(void)
{
	int rc = gm_write_u32(enter(), 0, 77);

	gm_reader_leave(reader);
	return rc;
}

static uint64_t inner_id;

/* Turns a region off and on, as a device that switches what shows does. */
static int inner_change(void)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(space, &txn, &err);

	if (!rc)
		rc = gm_txn_enable(txn, inner_id, false, &err);
	if (!rc)
		rc = gm_txn_commit(txn, &err);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

static int inner_wait(void)
{
	return gm_space_wait(space, 1, &err);
}

static void the_same_device_is_not_entered_twice(void **state)
{
	uint32_t value;

	(void)state;
	begin();
	inner_id = add(0, PAGE);
	add_mmio(MMIO, 64, DEVICE(.max_size = 4));
	regs.inside = inner_access;
	assert_int_equal(gm_read_u32(enter(), MMIO, &value), 0);
	assert_int_equal(regs.inside_rc, -EBUSY);
	assert_int_equal(regs.nr, 1);
	regs.inside = inner_memory;
	assert_int_equal(gm_write_u32(enter(), MMIO, 1), 0);
	assert_int_equal(regs.inside_rc, 0);
	assert_int_equal(gm_read_u32(enter(), 0, &value), 0);
	assert_int_equal(value, 77);
	/* The map may be changed from within, but not waited for. */
	regs.inside = inner_change;
	assert_int_equal(gm_write_u32(enter(), MMIO, 1), 0);
	assert_int_equal(regs.inside_rc, 0);
	assert_int_equal(gm_read_u32(enter(), 0, &value), -EFAULT);
	regs.inside = inner_wait;
	assert_int_equal(gm_write_u32(enter(), MMIO, 1), 0);
	assert_int_equal(regs.inside_rc, -EDEADLK);
	regs.inside = NULL;
	assert_int_equal(gm_read_u32(enter(), MMIO, &value), 0);
	for (int i = 0; i < 7; i++)
		gm_reader_leave(reader);
	stop();
}

/* ---- life ---- */

static void a_device_lives_until_its_readers_have_left(void **state)
{
	const struct gm_view *view;
	uint32_t value;
	uint64_t id;

	(void)state;
	begin();
	id = add_mmio(MMIO, 64, DEVICE(.max_size = 4));
	view = enter();
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(gm_read_u32(view, MMIO, &value), 0);
	assert_int_equal(regs.released, 0);
	gm_reader_leave(reader);
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(regs.released, 1);
	stop();
	assert_int_equal(regs.released, 1);
}

static void bad_descriptions_are_refused(void **state)
{
	const struct {
		struct gm_region_desc desc;
		int code;
		const char *word;
	} cases[] = {
#define D(...) {.size = sizeof(struct gm_region_desc), .len = 64, __VA_ARGS__}
		{D(.kind = GM_REGION_MMIO), EINVAL, "have a device"},
		{D(.kind = GM_REGION_RESERVED,
			 .device = &(struct gm_device_ops){sizeof(struct gm_device_ops)}),
			EINVAL, "no other region"},
		{D(.kind = GM_REGION_MMIO,
			 .device = &(struct gm_device_ops){sizeof(struct gm_device_ops), 3}),
			EINVAL, "1, 2, 4 or 8"},
		{D(.kind = GM_REGION_MMIO,
			 .device = &(struct gm_device_ops){sizeof(struct gm_device_ops), 8, 4}),
			EINVAL, "1, 2, 4 or 8"},
		{D(.kind = GM_REGION_MMIO,
			 .device =
				 &(struct gm_device_ops){sizeof(struct gm_device_ops), .flags = 8}),
			EINVAL, "unknown flags"},
		{D(.kind = GM_REGION_MMIO, .device = &(struct gm_device_ops){3}), EINVAL,
			"version"},
		{D(.kind = GM_REGION_MMIO, .gpa = UINT64_MAX,
			 .device = &(struct gm_device_ops){sizeof(struct gm_device_ops)}),
			ERANGE, "wrap"},
		{D(.kind = GM_REGION_ROMD,
			 .device = &(struct gm_device_ops){sizeof(struct gm_device_ops)}),
			EINVAL, "needs either a block"},
	};

	(void)state;
	begin();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_fails(gm_space_add(space, &cases[i].desc, NULL, &err), cases[i].code,
			cases[i].word);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accesses_are_cut_into_aligned_pieces),
		cmocka_unit_test(sizes_that_a_device_does_not_take_are_refused),
		cmocka_unit_test(a_device_refuses_with_its_own_error),
		cmocka_unit_test(what_needs_memory_is_refused),
		cmocka_unit_test(ranges_cross_into_devices),
		cmocka_unit_test(a_rom_device_is_read_as_memory_and_written_by_calls),
		cmocka_unit_test(the_same_device_is_not_entered_twice),
		cmocka_unit_test(a_device_lives_until_its_readers_have_left),
		cmocka_unit_test(bad_descriptions_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
