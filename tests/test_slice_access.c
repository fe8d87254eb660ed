/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_slice_access.c - touching slices: the same bytes on every provider that has slices, bounds, pins
 * that do not fit, lost pages. What logs are told is in test_slice_log.c.
 */
#include <errno.h>
#include <string.h>

#include "held_slice.h"
#include "one_space.h"
#include "provider.h"
#include "random.h"
#include "short_file.h"
#include "sys/guard.h"

#define PAGE UINT64_C(4096)

/* Slices of the bytes from @gpa on, one after the other, that together have @len. */
static size_t hold_all(struct gm_reader *by, uint64_t gpa, uint64_t len, struct held *ret)
{
	size_t nr = 0;

	for (; len; nr++) {
		ret[nr] = hold(by, gpa, len, GM_PERM_RW);
		gpa += ret[nr].slice.iov_len;
		len -= ret[nr].slice.iov_len;
	}
	return nr;
}

/* The slice's bytes [off, off + len) as a slice. */
static struct iovec cut(const struct iovec *slice, uint64_t off, uint64_t len)
{
	struct iovec part;
	size_t nr;

	assert_int_equal(gm_slices_sub(slice, 1, off, len, &part, 1, &nr), 0);
	assert_int_equal(nr, 1);
	return part;
}

/* ---- every provider ---- */

static const struct {
	uint32_t number;
	uint32_t size;
	bool swapped; /* in memory; the machine is little-endian */
} numbers[] = {
	{GM_U8, 1, false},
	{GM_U16, 2, false},
	{GM_U32, 4, false},
	{GM_U64, 8, false},
	{GM_LE16, 2, false},
	{GM_LE32, 4, false},
	{GM_LE64, 8, false},
	{GM_BE16, 2, true},
	{GM_BE32, 4, true},
	{GM_BE64, 8, true},
};

#define NR_NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static uint64_t low(uint64_t value, uint32_t size)
{
	return value & (UINT64_MAX >> (64 - 8 * size));
}

static void one_number(const struct iovec *slice, const struct gm_pin *pin, uint8_t *model,
	uint64_t off, struct rng *rng)
{
	const int orders[] = {__ATOMIC_RELAXED, __ATOMIC_ACQUIRE, __ATOMIC_RELEASE,
		__ATOMIC_SEQ_CST, __ATOMIC_ACQ_REL, __ATOMIC_CONSUME, 77};
	size_t i = (size_t)rng_below(rng, NR_NUMBERS);
	int order = orders[rng_below(rng, 7)];
	uint64_t value = rng_next(rng);
	uint64_t raw = value;
	uint64_t got = 0;
	uint32_t size = numbers[i].size;
	bool odd = ((uintptr_t)slice->iov_base + off) % size;
	int rc = order != __ATOMIC_RELAXED && odd ? -EINVAL : 0;

	assert_int_equal(gm_slice_store(slice, pin, off, numbers[i].number, order, value), rc);
	if (rc) {
		assert_int_equal(
			gm_slice_load(slice, pin, off, numbers[i].number, order, &got), rc);
		assert_true(got == 0);
		return;
	}
	if (numbers[i].swapped)
		raw = __builtin_bswap64(value) >> (64 - 8 * size);
	memcpy(model + off, &raw, size);
	assert_int_equal(gm_slice_load(slice, pin, off, numbers[i].number, order, &got), 0);
	assert_true(got == low(value, size));
}

static uint64_t computed(uint32_t op, uint64_t was, uint64_t value, uint64_t expected)
{
	switch (op) {
	case GM_BACKEND_EXCHANGE:
		return value;
	case GM_BACKEND_FETCH_ADD:
		return was + value;
	case GM_BACKEND_FETCH_AND:
		return was & value;
	case GM_BACKEND_FETCH_OR:
		return was | value;
	case GM_BACKEND_FETCH_XOR:
		return was ^ value;
	default:
		return was == expected ? value : was;
	}
}

static void one_atomic(const struct iovec *slice, const struct gm_pin *pin, uint8_t *model,
	uint64_t off, struct rng *rng)
{
	uint32_t size = 1u << rng_below(rng, 4);
	uint32_t op = (uint32_t)rng_below(rng, 6);
	uint64_t value = rng_next(rng);
	uint64_t was = 0;
	uint64_t seen;
	uint64_t now;

	off -= ((uintptr_t)slice->iov_base + off) % size % (off + 1);
	if (((uintptr_t)slice->iov_base + off) % size)
		return;
	memcpy(&was, model + off, size);
	seen = rng_below(rng, 2) ? was : low(value + 1, size);
	now = computed(op, was, value, seen);
	assert_int_equal(gm_slice_atomic(slice, pin, off, op, size, value, &seen), 0);
	assert_true(seen == was);
	memcpy(model + off, &now, size);
}

static void one_block(const struct iovec *slice, const struct gm_pin *pin, uint8_t *model,
	uint64_t off, size_t len, struct rng *rng)
{
	static uint8_t bytes[PROVIDED];
	uint8_t byte = (uint8_t)rng_next(rng);
	size_t done = 77;

	if (rng_below(rng, 2)) {
		memset(bytes, byte, len);
		bytes[len / 2] = 1;
		assert_int_equal(gm_slice_write(slice, pin, off, bytes, len, &done), 0);
		memcpy(model + off, bytes, len);
	} else {
		assert_int_equal(gm_slice_fill(slice, pin, off, byte, len, &done), 0);
		memset(model + off, byte, len);
	}
	assert_int_equal(done, len);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(gm_slice_read(slice, pin, off / 2, bytes, len, &done), 0);
	assert_int_equal(done, len);
	assert_memory_equal(bytes, model + off / 2, len);
}

/* Within one slice, where it may overlap, or from one to another. */
static void one_copy(const struct held *h, uint8_t *const *models, size_t nr, struct rng *rng)
{
	size_t to = (size_t)rng_below(rng, nr);
	size_t from = rng_below(rng, 2) ? to : (size_t)rng_below(rng, nr);
	uint64_t off = rng_below(rng, h[to].slice.iov_len);
	uint64_t src = rng_below(rng, h[from].slice.iov_len);
	size_t len = (size_t)rng_below(rng, 3000);
	size_t done = 77;

	if (from == to && rng_below(rng, 2))
		src = off - off % 16 + rng_below(rng, 16);
	if (src >= h[from].slice.iov_len)
		src = 0;
	if (len > h[to].slice.iov_len - off)
		len = h[to].slice.iov_len - off;
	if (len > h[from].slice.iov_len - src)
		len = h[from].slice.iov_len - src;
	assert_int_equal(gm_slice_copy(&h[to].slice, &h[to].pin, off, &h[from].slice, &h[from].pin,
				 src, len, &done),
		0);
	assert_int_equal(done, len);
	memmove(models[to] + off, models[from] + src, len);
}

static void one_use(const struct held *h, uint8_t *const *models, size_t nr, struct rng *rng)
{
	size_t i = (size_t)rng_below(rng, nr);
	uint64_t begin = rng_below(rng, h[i].slice.iov_len / 2);
	struct iovec part = cut(&h[i].slice, begin, h[i].slice.iov_len - begin);
	uint64_t off = rng_below(rng, part.iov_len - 7);
	size_t len = (size_t)rng_below(rng, 3000);
	uint8_t *model = models[i] + begin;

	switch (rng_below(rng, 4)) {
	case 0:
		one_number(&part, &h[i].pin, model, off, rng);
		break;
	case 1:
		one_atomic(&part, &h[i].pin, model, off, rng);
		break;
	case 2:
		one_block(&part, &h[i].pin, model, off,
			len > part.iov_len - off ? part.iov_len - off : len, rng);
		break;
	default:
		one_copy(h, models, nr, rng);
	}
}

/* By address and by messages there is nothing to pin. */
static bool has_slices(const struct provided *p)
{
	return !strstr(p->name, "translate") && !strstr(p->name, "message");
}

static void every_provider_with_slices_has_the_same_bytes(void **state)
{
	static uint8_t model[PROVIDED];
	static uint8_t bytes[PROVIDED];
	struct rng rng = {test_seed(21)};
	size_t with = 0;

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		/* From an odd address on; a slice has at least a page, but for the first and last. */
		struct held h[PROVIDED / PAGE + 1];
		uint8_t *models[PROVIDED / PAGE + 1];
		uint64_t at = PAGE / 2 + 3;
		struct provided p;
		size_t nr;

		provide(i, &p);
		for (size_t j = 0; j < PROVIDED; j++)
			model[j] = (uint8_t)rng_next(&rng);
		p.set(&p, model);
		if (!has_slices(&p)) {
			assert_int_equal(gm_pin_slice(gm_reader_enter(p.reader), p.base, 1,
						 GM_PERM_R, &h[0].slice, &h[0].pin),
				-ENOTSUP);
			gm_reader_leave(p.reader);
			unprovide(&p);
			continue;
		}
		with++;
		nr = hold_all(p.reader, p.base + at, PROVIDED - at, h);
		for (size_t j = 0; j < nr; j++) {
			models[j] = model + at;
			at += h[j].slice.iov_len;
		}
		for (unsigned long n = 0; n < support_scale(800); n++)
			one_use(h, models, nr, &rng);
		for (size_t j = 0; j < nr; j++)
			gm_pin_put(&h[j].pin);
		p.get(&p, bytes);
		if (memcmp(bytes, model, PROVIDED) != 0)
			fail_msg("%s: other bytes", p.name);
		unprovide(&p);
	}
	assert_int_equal(with, 5);
}

static void objects_are_plain_data(void **state)
{
	struct {
		uint64_t addr;
		uint16_t more[4];
	} out = {5, {6, 7, 8, 9}}, in = {0};
	struct held h;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	h = hold(reader, 0, PAGE, GM_PERM_RW);
	assert_int_equal(gm_slice_write_object(&h.slice, &h.pin, PAGE - 16, &out), 0);
	assert_int_equal(gm_slice_read_object(&h.slice, &h.pin, PAGE - 16, &in), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	assert_int_equal(gm_slice_write_object(&h.slice, &h.pin, PAGE - 15, &out), -ERANGE);
	in.addr = 0;
	assert_int_equal(gm_slice_read_object(&h.slice, &h.pin, PAGE - 15, &in), -ERANGE);
	assert_true(in.addr == 0);
	gm_pin_put(&h.pin);
	stop();
}

/* ---- bounds ---- */

/* A slice of 100 bytes, with more of its pin's on both sides. */
static const struct {
	uint64_t off;
	size_t len;
	int rc;
} bounds[] = {
	{0, 0, 0},
	{0, 100, 0},
	{0, 101, -ERANGE},
	{1, 100, -ERANGE},
	{99, 1, 0},
	{99, 2, -ERANGE},
	{100, 0, 0},
	{100, 1, -ERANGE},
	{101, 0, -ERANGE},
	{UINT64_MAX, 1, -ERANGE},
	{UINT64_MAX, 0, -ERANGE},
	{UINT64_MAX - 99, 100, -ERANGE},
	{1, SIZE_MAX, -ERANGE},
};

/* Each way to touch @len bytes at @off returns @rc, and @done counts all or nothing. */
static void try_all(const struct iovec *slice, const struct gm_pin *pin, uint64_t off, size_t len,
	int rc_read, int rc_write)
{
	uint8_t bytes[200] = {0};
	size_t all_read = rc_read ? 0 : len;
	size_t all_written = rc_write ? 0 : len;
	int rc_copy = rc_read ? rc_read : rc_write;
	size_t done = 77;

	assert_int_equal(gm_slice_read(slice, pin, off, bytes, len, &done), rc_read);
	assert_int_equal(done, all_read);
	done = 77;
	assert_int_equal(gm_slice_write(slice, pin, off, bytes, len, &done), rc_write);
	assert_int_equal(done, all_written);
	done = 77;
	assert_int_equal(gm_slice_fill(slice, pin, off, 0x5a, len, &done), rc_write);
	assert_int_equal(done, all_written);
	done = 77;
	assert_int_equal(gm_slice_copy(slice, pin, off, slice, pin, off, len, &done), rc_copy);
	assert_int_equal(done, rc_copy ? 0 : len);
}

static void try_numbers(const struct iovec *slice, const struct gm_pin *pin, uint64_t off,
	int rc_load, int rc_store)
{
	const int orders[] = {__ATOMIC_RELAXED, __ATOMIC_SEQ_CST};
	uint64_t value = 7;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			gm_slice_load(slice, pin, off, GM_U32, orders[i], &value), rc_load);
		assert_int_equal(gm_slice_store(slice, pin, off, GM_U32, orders[i], 5), rc_store);
	}
	if (rc_load)
		assert_true(value == 7);
	value = 7;
	assert_int_equal(gm_slice_atomic(slice, pin, off, GM_BACKEND_FETCH_OR, 4, 1, &value),
		rc_load ? rc_load : rc_store);
	if (rc_load || rc_store)
		assert_true(value == 7);
}

static void an_offset_does_not_leave_the_slice(void **state)
{
	uint8_t page[PAGE];
	struct iovec part;
	struct held h;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	h = hold(reader, 0, PAGE, GM_PERM_RW);
	/* The second time around the last byte is that of the pin too. */
	for (uint64_t at = 100; at <= PAGE - 100; at += PAGE - 200) {
		part = cut(&h.slice, at, 100);
		memset(h.slice.iov_base, 1, PAGE);
		for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
			try_all(&part, &h.pin, bounds[i].off, bounds[i].len, bounds[i].rc,
				bounds[i].rc);
		try_numbers(&part, &h.pin, 96, 0, 0);
		try_numbers(&part, &h.pin, 97, -ERANGE, -ERANGE);
		try_numbers(&part, &h.pin, 100, -ERANGE, -ERANGE);
		try_numbers(&part, &h.pin, UINT64_MAX - 3, -ERANGE, -ERANGE);
		memcpy(page, h.slice.iov_base, PAGE);
		for (uint64_t i = 0; i < PAGE; i++)
			assert_true(i - at < 100 || page[i] == 1);
	}
	gm_pin_put(&h.pin);
	stop();
}

static void a_slice_belongs_to_its_pin(void **state)
{
	static uint8_t mine[PAGE];
	struct iovec wide;
	struct held a;
	struct held b;
	uint64_t value = 3;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, 3 * PAGE);
	a = hold(reader, 0, PAGE, GM_PERM_RW);
	b = hold(reader, PAGE, PAGE, GM_PERM_RW);
	try_all(&b.slice, &a.pin, 0, 8, -EINVAL, -EINVAL);
	try_numbers(&b.slice, &a.pin, 8, -EINVAL, -EINVAL);
	try_all(&a.slice, &b.pin, PAGE - 8, 8, -EINVAL, -EINVAL);
	try_all(&(struct iovec){mine, PAGE}, &a.pin, 0, 8, -EINVAL, -EINVAL);
	try_all(&(struct iovec){NULL, PAGE}, &a.pin, 0, 8, -EINVAL, -EINVAL);
	/* A slice that somebody made longer: only what is not the pin's is refused. */
	wide = (struct iovec){a.slice.iov_base, 2 * PAGE};
	try_all(&wide, &a.pin, PAGE - 8, 8, 0, 0);
	try_all(&wide, &a.pin, PAGE - 8, 9, -EINVAL, -EINVAL);
	wide = (struct iovec){(uint8_t *)b.slice.iov_base - 8, PAGE};
	try_all(&wide, &b.pin, 7, 8, -EINVAL, -EINVAL);
	try_all(&wide, &b.pin, 8, 8, 0, 0);
	/* Of no bytes: the offset alone. */
	try_all(&(struct iovec){NULL, 0}, &a.pin, 0, 0, 0, 0);
	try_all(&(struct iovec){NULL, 0}, &a.pin, 0, 1, -ERANGE, -ERANGE);
	/* Given back. */
	gm_pin_put(&a.pin);
	try_all(&a.slice, &a.pin, 0, 8, -EINVAL, -EINVAL);
	try_all(&a.slice, &a.pin, 0, 0, -EINVAL, -EINVAL);
	try_numbers(&a.slice, &a.pin, 0, -EINVAL, -EINVAL);
	gm_slice_mark(&a.slice, &a.pin, 0, 8);
	/* Numbers that are none. */
	assert_int_equal(gm_slice_load(&b.slice, &b.pin, 0, 3, 0, &value), -EINVAL);
	assert_int_equal(gm_slice_load(&b.slice, &b.pin, 0, 0, 0, &value), -EINVAL);
	assert_int_equal(gm_slice_store(&b.slice, &b.pin, 0, GM_U64 | 0x100, 0, 1), -EINVAL);
	assert_int_equal(gm_slice_store(&b.slice, &b.pin, 0, 16, 0, 1), -EINVAL);
	assert_int_equal(gm_slice_atomic(&b.slice, &b.pin, 0, 6, 8, 1, &value), -EINVAL);
	assert_int_equal(gm_slice_atomic(&b.slice, &b.pin, 0, 0, 16, 1, &value), -EINVAL);
	assert_int_equal(gm_slice_atomic(&b.slice, &b.pin, 4, 0, 8, 1, &value), -EINVAL);
	assert_true(value == 3);
	gm_pin_put(&b.pin);
	stop();
}

static void a_pin_is_for_what_it_was_taken_for(void **state)
{
	struct held reads;
	struct held writes;
	size_t done = 77;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	reads = hold(reader, 0, PAGE, GM_PERM_R);
	writes = hold(reader, 0, PAGE, GM_PERM_W);
	for (size_t len = 0; len <= 8; len += 8) {
		try_all(&reads.slice, &reads.pin, 8, len, 0, -EACCES);
		try_all(&writes.slice, &writes.pin, 8, len, -EACCES, 0);
	}
	try_numbers(&reads.slice, &reads.pin, 8, 0, -EACCES);
	try_numbers(&writes.slice, &writes.pin, 8, -EACCES, 0);
	assert_int_equal(gm_slice_copy(&writes.slice, &writes.pin, 0, &reads.slice, &reads.pin, 1,
				 100, &done),
		0);
	assert_int_equal(done, 100);
	gm_pin_put(&reads.pin);
	gm_pin_put(&writes.pin);
	stop();
}

/* ---- life ---- */

static void a_slice_is_touched_when_region_reader_and_space_are_gone(void **state)
{
	uint64_t value = 0;
	struct held h;
	uint64_t id;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	id = add(MIB(1), PAGE);
	h = hold(reader, MIB(1), PAGE, GM_PERM_RW);
	assert_int_equal(gm_slice_store(&h.slice, &h.pin, 0, GM_U64, 0, 1), 0);
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	assert_int_equal(
		gm_slice_atomic(&h.slice, &h.pin, 0, GM_BACKEND_FETCH_ADD, 8, 2, &value), 0);
	assert_true(value == 1);
	stop();
	assert_int_equal(gm_slice_store(&h.slice, &h.pin, 8, GM_U64, 0, 4), 0);
	assert_int_equal(gm_slice_load(&h.slice, &h.pin, 0, GM_U64, 0, &value), 0);
	assert_true(value == 3);
	gm_pin_put(&h.pin);
	assert_int_equal(gm_guard_remove(), 0);
}

/* ---- pages that the host has no more ---- */

static void lost_bytes(const struct held *h)
{
	static uint8_t bytes[2 * PAGE];
	uint64_t faults = gm_guard_fault_count();
	size_t done = 77;

	memset(bytes, 7, sizeof(bytes));
	assert_int_equal(gm_slice_read(&h->slice, &h->pin, PAGE - 9, bytes, 100, &done), -EIO);
	assert_int_equal(done, 9);
	for (size_t i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], i < 9 ? 0 : 7);
	assert_int_equal(
		gm_slice_write(&h->slice, &h->pin, PAGE - 9, bytes + 10, 100, &done), -EIO);
	assert_int_equal(done, 9);
	assert_int_equal(gm_slice_fill(&h->slice, &h->pin, PAGE - 5, 0, 2000, &done), -EIO);
	assert_int_equal(done, 5);
	assert_int_equal(gm_slice_read(&h->slice, &h->pin, PAGE - 10, bytes, 10, &done), 0);
	assert_memory_equal(bytes, "\0\7\7\7\7\0\0\0\0\0", 10);
	assert_true(gm_guard_fault_count() >= faults + 3);
}

static void lost_copies(const struct held *h)
{
	size_t done = 77;

	/* To where nothing is, from there, and over it in both directions. */
	assert_int_equal(
		gm_slice_copy(&h->slice, &h->pin, PAGE - 3, &h->slice, &h->pin, 0, 100, &done),
		-EIO);
	assert_int_equal(done, 3);
	assert_int_equal(
		gm_slice_copy(&h->slice, &h->pin, 0, &h->slice, &h->pin, PAGE - 4, 100, &done),
		-EIO);
	assert_int_equal(done, 4);
	assert_int_equal(gm_slice_copy(&h->slice, &h->pin, PAGE - 60, &h->slice, &h->pin, PAGE - 50,
				 100, &done),
		-EIO);
	assert_int_equal(done, 50);
	assert_int_equal(gm_slice_copy(&h->slice, &h->pin, PAGE - 50, &h->slice, &h->pin, PAGE - 60,
				 100, &done),
		-EIO);
	assert_int_equal(done, 0);
}

static void lost_numbers(const struct held *h)
{
	uint64_t value = 7;

	for (size_t i = 0; i < NR_NUMBERS; i++) {
		const uint32_t number = numbers[i].number;

		assert_int_equal(
			gm_slice_load(&h->slice, &h->pin, PAGE, number, __ATOMIC_RELAXED, &value),
			-EIO);
		assert_int_equal(
			gm_slice_load(&h->slice, &h->pin, PAGE, number, __ATOMIC_ACQUIRE, &value),
			-EIO);
		assert_int_equal(
			gm_slice_store(&h->slice, &h->pin, PAGE, number, __ATOMIC_RELEASE, 1),
			-EIO);
		assert_int_equal(
			gm_slice_store(&h->slice, &h->pin, PAGE + 1, number, __ATOMIC_RELAXED, 1),
			-EIO);
	}
	for (uint32_t op = GM_BACKEND_EXCHANGE; op <= GM_BACKEND_CMPXCHG; op++)
		assert_int_equal(
			gm_slice_atomic(&h->slice, &h->pin, PAGE + 8, op, 8, 1, &value), -EIO);
	assert_true(value == 7);
}

static void a_lost_page_is_an_error(void **state)
{
	struct held h;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add_short(0, 2 * PAGE);
	h = hold(reader, 0, 2 * PAGE, GM_PERM_RW);
	cut_short(PAGE);
	lost_bytes(&h);
	lost_copies(&h);
	lost_numbers(&h);
	gm_pin_put(&h.pin);
	stop();
	end_short();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_provider_with_slices_has_the_same_bytes),
		cmocka_unit_test(objects_are_plain_data),
		cmocka_unit_test(an_offset_does_not_leave_the_slice),
		cmocka_unit_test(a_slice_belongs_to_its_pin),
		cmocka_unit_test(a_pin_is_for_what_it_was_taken_for),
		cmocka_unit_test(a_slice_is_touched_when_region_reader_and_space_are_gone),
		cmocka_unit_test(a_lost_page_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
