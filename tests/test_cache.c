/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_cache.c - ranges that are translated once: the same bytes, edges and marks as the ordinary
 * accesses, whatever the map does between two uses.
 */
#include "one_log.h"

#include <errno.h>
#include <guestmem/cache.h>
#include <guestmem/guard.h>
#include <guestmem/iommu.h>
#include <guestmem/txn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include "provider.h"
#include "random.h"

/* ---- every provider ---- */

#define CASE(name, bits)                                                                           \
	{                                                                                          \
		uint##bits##_t v = (uint##bits##_t)value;                                          \
                                                                                                   \
		assert_int_equal(gm_cache_write_##name(c, view, off, v), 0);                       \
		memcpy(model + off, &v, sizeof(v));                                                \
		v = 0;                                                                             \
		assert_int_equal(gm_cache_read_##name(c, view, off, &v), 0);                       \
		assert_memory_equal(&v, model + off, sizeof(v));                                   \
		break;                                                                             \
	}

/* The same, stored the other way round. */
#define BE_CASE(bits)                                                                              \
	{                                                                                          \
		uint##bits##_t v = (uint##bits##_t)value;                                          \
		uint##bits##_t raw = __builtin_bswap##bits(v);                                     \
                                                                                                   \
		assert_int_equal(gm_cache_write_be##bits(c, view, off, v), 0);                     \
		memcpy(model + off, &raw, sizeof(raw));                                            \
		assert_int_equal(gm_cache_read_u##bits(c, view, off, &raw), 0);                    \
		assert_memory_equal(&raw, model + off, sizeof(raw));                               \
		raw = 0;                                                                           \
		assert_int_equal(gm_cache_read_be##bits(c, view, off, &raw), 0);                   \
		assert_true(raw == v);                                                             \
		break;                                                                             \
	}

#define ATOMIC_CASE(bits)                                                                          \
	{                                                                                          \
		uint##bits##_t v = (uint##bits##_t)value;                                          \
                                                                                                   \
		off -= off % sizeof(v);                                                            \
		assert_int_equal(gm_cache_store_u##bits(c, view, off, __ATOMIC_RELEASE, v), 0);    \
		memcpy(model + off, &v, sizeof(v));                                                \
		v = 0;                                                                             \
		assert_int_equal(gm_cache_load_u##bits(c, view, off, __ATOMIC_ACQUIRE, &v), 0);    \
		assert_memory_equal(&v, model + off, sizeof(v));                                   \
		break;                                                                             \
	}

/* One use of bytes of a cache that are those of the model. The machine is little-endian. */
static void one_use(struct gm_cache *c, const struct gm_view *view, uint8_t *model, uint64_t len,
	struct rng *rng)
{
	uint64_t off = rng_below(rng, len - 7);
	uint64_t value = rng_next(rng);
	uint8_t bytes[5000];
	size_t n = (size_t)rng_below(rng, sizeof(bytes));
	size_t done = 0;

	n = n > len - off ? (size_t)(len - off) : n;
	switch (rng_below(rng, 15)) {
	case 0:
		CASE(u8, 8)
	case 1:
		CASE(u16, 16)
	case 2:
		CASE(u32, 32)
	case 3:
		CASE(u64, 64)
	case 4:
		CASE(le16, 16)
	case 5:
		CASE(le32, 32)
	case 6:
		CASE(le64, 64)
	case 7:
		ATOMIC_CASE(8)
	case 8:
		ATOMIC_CASE(16)
	case 9:
		ATOMIC_CASE(32)
	case 10:
		ATOMIC_CASE(64)
	case 11:
		BE_CASE(16)
	case 12:
		BE_CASE(32)
	case 13:
		BE_CASE(64)
	default:
		memset(bytes, (int)value, n);
		assert_int_equal(gm_cache_write(c, view, off, bytes, n, &done), 0);
		assert_int_equal(done, n);
		memcpy(model + off, bytes, n);
		assert_int_equal(gm_cache_read(c, view, off / 2, bytes, n, &done), 0);
		assert_int_equal(done, n);
		assert_memory_equal(bytes, model + off / 2, n);
	}
}

static void every_provider_has_the_same_bytes(void **state)
{
	static uint8_t model[PROVIDED];
	static uint8_t bytes[PROVIDED];
	struct rng rng = {test_seed(11)};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		/* Wide enough to lie over all regions, with an odd end. */
		const uint64_t first = 3 * PAGE / 4;
		const uint64_t len = PROVIDED - first - 5;
		struct gm_cache cache;
		struct provided p;

		provide(i, &p);
		for (size_t j = 0; j < PROVIDED; j++)
			model[j] = (uint8_t)rng_next(&rng);
		p.set(&p, model);
		assert_int_equal(gm_cache_init(&cache, gm_reader_enter(p.reader), p.base + first,
					 len, GM_PERM_RW),
			0);
		gm_reader_leave(p.reader);
		for (unsigned long n = 0; n < support_scale(400); n++) {
			one_use(&cache, gm_reader_enter(p.reader), model + first, len, &rng);
			gm_reader_leave(p.reader);
		}
		p.get(&p, bytes);
		if (memcmp(bytes, model, PROVIDED) != 0)
			fail_msg("%s: other bytes", p.name);
		/* Kept where it may be, and only there. */
		assert_int_equal(cache.read_len, i < 2 ? len : 0);
		assert_int_equal(cache.write_len, i < 2 ? len : 0);
		unprovide(&p);
	}
}

/* ---- edges ---- */

/* A cache of [100, 200) in a page that is followed by a hole. */
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

static void an_offset_does_not_leave_the_range(void **state)
{
	uint8_t bytes[200];
	struct gm_cache cache;
	const struct gm_view *view;
	uint64_t value;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	view = gm_reader_enter(reader);
	/* The second time around the last byte is that of the memory too. */
	for (uint64_t gpa = 100; gpa <= PAGE - 100; gpa += PAGE - 200) {
		assert_int_equal(gm_cache_init(&cache, view, gpa, 100, GM_PERM_RW), 0);
		for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
			size_t done = 77;

			assert_int_equal(gm_cache_read(&cache, view, bounds[i].off, bytes,
						 bounds[i].len, &done),
				bounds[i].rc);
			assert_int_equal(done, bounds[i].rc ? 0 : bounds[i].len);
			done = 77;
			assert_int_equal(gm_cache_write(&cache, view, bounds[i].off, bytes,
						 bounds[i].len, &done),
				bounds[i].rc);
			assert_int_equal(done, bounds[i].rc ? 0 : bounds[i].len);
		}
		value = 7;
		assert_int_equal(gm_cache_read_u64(&cache, view, 93, &value), -ERANGE);
		assert_int_equal(
			gm_cache_load_u64(&cache, view, UINT64_MAX - 7, 0, &value), -ERANGE);
		assert_int_equal(gm_cache_write_le16(&cache, view, 99, 1), -ERANGE);
		assert_int_equal(gm_cache_write_be16(&cache, view, 99, 1), -ERANGE);
		assert_int_equal(gm_cache_read_be64(&cache, view, 93, &value), -ERANGE);
		assert_int_equal(gm_cache_store_u32(&cache, view, 100, 0, 1), -ERANGE);
		assert_int_equal(value, 7);
		assert_int_equal(gm_cache_read_u64(&cache, view, 92, &value), 0);
	}
	cache = (struct gm_cache){0};
	assert_int_equal(gm_cache_read_u8(&cache, view, 0, bytes), -ERANGE);
	assert_int_equal(gm_cache_write(&cache, view, 0, bytes, 1, NULL), -ERANGE);
	assert_int_equal(gm_cache_read(&cache, view, 0, bytes, 0, NULL), -ERANGE);
	assert_int_equal(gm_cache_write(&cache, view, 0, bytes, 0, NULL), -ERANGE);
	gm_reader_leave(reader);
	stop();
}

static void a_cache_is_made_of_mapped_memory_only(void **state)
{
	struct gm_cache cache = {.gpa = 5};
	const struct gm_view *view;
	uint64_t top = UINT64_MAX - PAGE + 1;
	uint8_t byte;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	add(top, PAGE);
	add(0, PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = PAGE, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)), NULL,
		&err));
	view = gm_reader_enter(reader);
	assert_int_equal(gm_cache_init(&cache, view, 0, 0, GM_PERM_R), -EINVAL);
	assert_int_equal(gm_cache_init(&cache, view, 0, 1, 0), -EINVAL);
	assert_int_equal(gm_cache_init(&cache, view, 0, 1, GM_PERM_RX), -EINVAL);
	assert_int_equal(gm_cache_init(&cache, view, top, PAGE + 1, GM_PERM_R), -ERANGE);
	assert_int_equal(gm_cache_init(&cache, view, 2 * PAGE, 1, GM_PERM_R), -EFAULT);
	assert_int_equal(gm_cache_init(&cache, view, PAGE, PAGE + 1, GM_PERM_R), -EFAULT);
	assert_int_equal(gm_cache_init(&cache, view, PAGE - 1, 2, GM_PERM_W), -EACCES);
	assert_int_equal(cache.gpa, 5);
	assert_int_equal(cache.len, 0);
	/* The end of all addresses. */
	assert_int_equal(gm_cache_init(&cache, view, top, PAGE, GM_PERM_RW), 0);
	assert_int_equal(cache.read_len, PAGE);
	assert_int_equal(gm_cache_write_u8(&cache, view, PAGE - 1, 0x5a), 0);
	assert_int_equal(gm_read_u8(view, UINT64_MAX, &byte), 0);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(gm_cache_write_u16(&cache, view, PAGE - 1, 1), -ERANGE);
	/* Over two regions that do not lie side by side. */
	assert_int_equal(gm_cache_init(&cache, view, PAGE - 4, 8, GM_PERM_R), 0);
	assert_int_equal(cache.read_len, 0);
	assert_int_equal(gm_cache_read(&cache, view, 0, &byte, 1, NULL), 0);
	gm_reader_leave(reader);
	stop();
}

static void a_cache_does_what_it_was_made_for(void **state)
{
	struct gm_cache reads;
	struct gm_cache writes;
	const struct gm_view *view;
	uint64_t value = 7;
	size_t done = 7;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, PAGE);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_cache_init(&reads, view, 4, 64, GM_PERM_R), 0);
	assert_int_equal(gm_cache_init(&writes, view, 4, 64, GM_PERM_W), 0);
	assert_int_equal(gm_cache_write_u64(&reads, view, 0, 1), -EACCES);
	assert_int_equal(gm_cache_store_u32(&reads, view, 0, __ATOMIC_RELEASE, 1), -EACCES);
	assert_int_equal(gm_cache_write(&reads, view, 0, &value, 8, &done), -EACCES);
	assert_int_equal(done, 0);
	assert_int_equal(gm_cache_write(&reads, view, 0, &value, 0, NULL), -EACCES);
	assert_int_equal(gm_cache_write(&reads, view, 60, &value, 8, NULL), -ERANGE);
	assert_int_equal(gm_cache_read_u64(&writes, view, 0, &value), -EACCES);
	assert_int_equal(gm_cache_load_u32(&writes, view, 0, 0, (uint32_t *)&value), -EACCES);
	assert_int_equal(gm_cache_read(&writes, view, 0, &value, 0, NULL), -EACCES);
	assert_int_equal(value, 7);
	/* By address, not by offset. */
	assert_int_equal(gm_cache_store_u64(&writes, view, 0, __ATOMIC_RELEASE, 1), -EINVAL);
	assert_int_equal(gm_cache_load_u64(&reads, view, 8, __ATOMIC_ACQUIRE, &value), -EINVAL);
	assert_int_equal(gm_cache_store_u64(&writes, view, 4, __ATOMIC_RELEASE, 99), 0);
	assert_int_equal(gm_cache_load_u64(&reads, view, 4, __ATOMIC_ACQUIRE, &value), 0);
	assert_int_equal(value, 99);
	gm_reader_leave(reader);
	stop();
}

/* ---- the map changes ---- */

/* One read of four bytes with the view of the moment; both ways must say the same. */
static int look(struct gm_cache *cache, uint64_t off, uint32_t *ret)
{
	const struct gm_view *view = gm_reader_enter(reader);
	uint32_t ordinary = 0;
	uint32_t bulk = 0;
	int rc = gm_cache_read_u32(cache, view, off, ret);

	assert_int_equal(gm_cache_read(cache, view, off, &bulk, 4, NULL), rc);
	assert_int_equal(gm_read_u32(view, cache->gpa + off, &ordinary), rc);
	if (!rc) {
		assert_int_equal(ordinary, *ret);
		assert_int_equal(bulk, *ret);
	}
	gm_reader_leave(reader);
	return rc;
}

static void fill(uint64_t gpa, uint8_t byte, uint64_t len)
{
	assert_int_equal(gm_fill(gm_reader_enter(reader), gpa, byte, len, NULL), 0);
	gm_reader_leave(reader);
}

static void a_change_of_the_map_is_seen_at_the_next_use(void **state)
{
	struct gm_cache cache;
	uint32_t value = 0;
	uint64_t id;

	(void)state;
	for (int window = 0; window < 2; window++) {
		start(GM_OPTS(gm_space_opts, .gpa_limit = window ? GIB(1) : GM_SPACE_NO_WINDOW));
		id = add(MIB(1), 4 * PAGE);
		fill(MIB(1), 1, 4 * PAGE);
		assert_int_equal(gm_cache_init(&cache, gm_reader_enter(reader), MIB(1) + 8,
					 2 * PAGE, GM_PERM_RW),
			0);
		gm_reader_leave(reader);
		assert_int_equal(look(&cache, 0, &value), 0);
		assert_int_equal(value, 0x01010101);
		assert_int_equal(cache.read_len, 2 * PAGE);
		/* Gone. */
		assert_ok(gm_space_remove(space, id, &err));
		assert_int_equal(look(&cache, 0, &value), -EFAULT);
		assert_int_equal(value, 0x01010101);
		/* Other memory, then memory that may be read only, then half of it. */
		id = add(MIB(1), 4 * PAGE);
		fill(MIB(1), 2, 4 * PAGE);
		assert_int_equal(look(&cache, PAGE, &value), 0);
		assert_int_equal(value, 0x02020202);
		assert_int_equal(cache.read_len, 2 * PAGE);
		assert_ok(gm_space_remove(space, id, &err));
		assert_ok(gm_space_add(space,
			DESC(.gpa = MIB(1), .kind = GM_REGION_ROM,
				.backing = BLOCK(.len = 4 * PAGE)),
			&id, &err));
		assert_int_equal(look(&cache, PAGE, &value), 0);
		assert_int_equal(value, 0);
		assert_int_equal(gm_cache_write_u8(&cache, gm_reader_enter(reader), 0, 1), -EACCES);
		gm_reader_leave(reader);
		assert_ok(gm_space_remove(space, id, &err));
		id = add(MIB(1), PAGE);
		assert_int_equal(look(&cache, PAGE - 12, &value), 0);
		assert_int_equal(look(&cache, PAGE - 8, &value), -EFAULT);
		assert_int_equal(cache.read_len, 0);
		stop();
	}
}

static void a_translation_may_change_without_a_view(void **state)
{
	struct gm_space *below;
	struct gm_iommu *iommu;
	struct gm_cache cache;
	uint64_t generation;
	uint32_t value;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add(0, LEN);
	fill(PAGE, 1, PAGE);
	fill(2 * PAGE, 2, PAGE);
	gm_reader_destroy(reader);
	below = space;
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW, .over = below), &space,
		&err));
	assert_ok(gm_iommu_create(below, NULL, &iommu, &err));
	assert_ok(gm_space_add(space, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	assert_ok(gm_reader_create(space, "device", &reader, &err));
	assert_ok(gm_iommu_map(iommu, 0, PAGE, PAGE, GM_PERM_RW, &err));
	assert_int_equal(gm_cache_init(&cache, gm_reader_enter(reader), 16, 64, GM_PERM_RW), 0);
	generation = gm_view_generation(gm_reader_enter(reader));
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	assert_int_equal(look(&cache, 0, &value), 0);
	assert_int_equal(value, 0x01010101);
	assert_int_equal(gm_iommu_unmap(iommu, 0, PAGE), 0);
	assert_int_equal(look(&cache, 0, &value), -EFAULT);
	assert_ok(gm_iommu_map(iommu, 0, PAGE, 2 * PAGE, GM_PERM_RW, &err));
	assert_int_equal(look(&cache, 0, &value), 0);
	assert_int_equal(value, 0x02020202);
	assert_int_equal(gm_view_generation(gm_reader_enter(reader)), generation);
	gm_reader_leave(reader);
	stop();
	gm_iommu_put(iommu);
	gm_space_destroy(below);
}

/* ---- faults and marks ---- */

static void a_page_that_the_host_has_not_is_an_error(void **state)
{
	const struct gm_view *view;
	struct gm_cache cache;
	uint8_t bytes[64];
	uint64_t value = 7;
	size_t done = 0;
	void *hva;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	hva = (uint8_t *)region(add(0, 2 * PAGE)).hva + PAGE;
	assert_int_equal(mprotect(hva, PAGE, PROT_NONE), 0);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_cache_init(&cache, view, PAGE - 24, 48, GM_PERM_RW), 0);
	assert_int_equal(cache.read_len, 48);
	assert_int_equal(gm_cache_read_u64(&cache, view, 16, &value), 0);
	value = 7;
	assert_int_equal(gm_cache_read_u64(&cache, view, 24, &value), -EACCES);
	assert_int_equal(gm_cache_load_u64(&cache, view, 24, __ATOMIC_ACQUIRE, &value), -EACCES);
	assert_int_equal(value, 7);
	assert_int_equal(gm_cache_write_u64(&cache, view, 32, 1), -EACCES);
	assert_int_equal(gm_cache_store_u64(&cache, view, 32, __ATOMIC_RELEASE, 1), -EACCES);
	assert_int_equal(gm_cache_read(&cache, view, 4, bytes, 40, &done), -EACCES);
	assert_int_equal(done, 20);
	assert_int_equal(gm_cache_write(&cache, view, 3, bytes, 40, &done), -EACCES);
	assert_int_equal(done, 21);
	assert_int_equal(mprotect(hva, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(gm_cache_read_u64(&cache, view, 24, &value), 0);
	assert_int_equal(value, 0);
	gm_reader_leave(reader);
	stop();
	assert_int_equal(gm_guard_remove(), 0);
}

static void write_each_way(struct gm_cache *cache, int way)
{
	const struct gm_view *view = gm_reader_enter(reader);
	uint8_t bytes[24] = {0};

	/* Two pages on from the cache's first byte, which is the last of its page. */
	switch (way) {
	case 0:
		assert_int_equal(gm_cache_write_le32(cache, view, PAGE + 1, 1), 0);
		break;
	case 1:
		assert_int_equal(gm_cache_store_u16(cache, view, PAGE + 1, __ATOMIC_RELEASE, 1), 0);
		break;
	default:
		assert_int_equal(gm_cache_write(cache, view, PAGE + 1, bytes, 24, NULL), 0);
		assert_int_equal(gm_cache_write(cache, view, PAGE + 9, bytes, 0, NULL), 0);
		break;
	}
	gm_reader_leave(reader);
}

static void a_write_marks_its_pages(void **state)
{
	static uint8_t bytes[PAGE + 2];
	struct gm_cache before;
	struct gm_cache cache;
	const struct gm_view *view;
	uint64_t value;

	(void)state;
	for (int window = 0; window < 2; window++) {
		start(GM_OPTS(gm_space_opts, .gpa_limit = window ? GIB(1) : GM_SPACE_NO_WINDOW));
		add(0, LEN);
		assert_int_equal(gm_cache_init(&before, gm_reader_enter(reader), PAGE - 1, 4 * PAGE,
					 GM_PERM_RW),
			0);
		gm_reader_leave(reader);
		write_each_way(&before, 0);
		log_ = make_log(window ? NULL : LOG(.len = LEN));
		assert_int_equal(gm_cache_init(&cache, gm_reader_enter(reader), PAGE - 1, 4 * PAGE,
					 GM_PERM_RW),
			0);
		gm_reader_leave(reader);
		for (int way = 0; way < 6; way++) {
			/* Twice, so that the filter has its bits. */
			write_each_way(way < 3 ? &before : &cache, way % 3);
			write_each_way(way < 3 ? &before : &cache, way % 3);
			assert_taken(log_, 2, 1);
		}
		/* The filter says nothing of memory outside of the window. */
		assert_int_equal(cache.read_len, 4 * PAGE);
		assert_int_equal(cache.write_len, window ? 4 * PAGE : 0);
		view = gm_reader_enter(reader);
		assert_int_equal(gm_cache_read_u64(&cache, view, 0, &value), 0);
		assert_int_equal(gm_cache_write_u64(&cache, view, 4 * PAGE, 0), -ERANGE);
		assert_clean(log_);
		assert_int_equal(gm_cache_write_u64(&cache, view, 0, 0), 0);
		assert_int_equal(gm_cache_write(&cache, view, 0, bytes, sizeof(bytes), NULL), 0);
		gm_reader_leave(reader);
		assert_taken(log_, 0, 3);
		stop_log();
	}
}

/* ---- threads ---- */

static bool stop_using;
static uint64_t nr_found;
static uint64_t nr_holes;

/* Reads by a cache and by address in one section: one view, so one answer. */
static void *use(void *arg)
{
	struct gm_cache cache = {.gpa = MIB(1) + 16, .len = PAGE, .perms = GM_PERM_RW};
	struct gm_reader *mine;
	uint64_t found = 0;
	uint64_t holes = 0;
	uintptr_t bad = 0;

	if (gm_reader_create(space, "device", &mine, NULL))
		return (void *)1;
	while (!bad && !__atomic_load_n(&stop_using, __ATOMIC_RELAXED)) {
		const struct gm_view *view = gm_reader_enter(mine);
		uint64_t by_cache[2] = {0};
		uint64_t by_address[2] = {0};
		int rc = gm_cache_read_u64(&cache, view, 0, &by_cache[0]);

		bad |= gm_read_u64(view, MIB(1) + 16, &by_address[0]) != rc;
		bad |= gm_cache_read(&cache, view, 8, &by_cache[1], 8, NULL) != rc;
		bad |= gm_read(view, MIB(1) + 24, &by_address[1], 8, NULL) != rc;
		bad |= gm_cache_store_u64(&cache, view, 64, __ATOMIC_RELEASE, (uintptr_t)arg) != rc;
		bad |= memcmp(by_cache, by_address, 16) != 0 || by_cache[0] != by_cache[1];
		bad |= rc != 0 && rc != -EFAULT;
		found += !rc;
		holes += rc == -EFAULT;
		gm_reader_leave(mine);
	}
	gm_reader_destroy(mine);
	__atomic_fetch_add(&nr_found, found, __ATOMIC_RELAXED);
	__atomic_fetch_add(&nr_holes, holes, __ATOMIC_RELAXED);
	return (void *)bad;
}

static void changes_of_the_map_meet_uses(void **state)
{
	pthread_t threads[2];
	void *rc;

	(void)state;
	stop_using = false;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1), .timeout_ns = UINT64_C(20000000000)));
	for (uintptr_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use, (void *)i), 0);
	for (unsigned long n = 1; n <= support_scale(400); n++) {
		struct gm_block_opts opts = {.size = sizeof(opts), .len = 2 * PAGE};
		struct gm_block *block;
		struct gm_block_info info = {.size = sizeof(info)};
		uint64_t id;

		/* Filled before it shows. */
		assert_ok(gm_block_create(&opts, &block, &err));
		gm_block_info(block, &info);
		memset(info.hva, (int)(n % 255 + 1), 2 * PAGE);
		assert_ok(gm_space_add(space, DESC(.gpa = MIB(1), .block = block), &id, &err));
		gm_block_put(block);
		for (int i = 0; i < 3; i++)
			sched_yield();
		assert_ok(gm_space_remove(space, id, &err));
	}
	__atomic_store_n(&stop_using, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < 2; i++) {
		pthread_join(threads[i], &rc);
		assert_null(rc);
	}
	assert_true(nr_found > 0 && nr_holes > 0);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_provider_has_the_same_bytes),
		cmocka_unit_test(an_offset_does_not_leave_the_range),
		cmocka_unit_test(a_cache_is_made_of_mapped_memory_only),
		cmocka_unit_test(a_cache_does_what_it_was_made_for),
		cmocka_unit_test(a_change_of_the_map_is_seen_at_the_next_use),
		cmocka_unit_test(a_translation_may_change_without_a_view),
		cmocka_unit_test(a_page_that_the_host_has_not_is_an_error),
		cmocka_unit_test(a_write_marks_its_pages),
		cmocka_unit_test(changes_of_the_map_meet_uses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
