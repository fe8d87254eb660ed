/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_shadow.c - random operations of every sort against a shadow of the memory: all bytes are as the shadow says,
 * and where they differ from before the page is marked in the log, under every name.
 *
 * The test is tested: for each sort of operation its marks are dropped once, which must be found.
 */
#include <errno.h>
#include <guestmem/iommu.h>
#include <guestmem/slice_access.h>
#include <stdio.h>
#include <string.h>

#include "one_log.h"
#include "random.h"

/*
 * Pages: 0 to 15 private memory, 16 to 23 shared, 24 to 27 a hole, 28 to 31 an alias of 18 to 21, 32 to 39 in a
 * file that is not mapped, 40 to 41 ROM.
 */
#define NR_PAGES 44u
#define ALIAS_AT 28u
#define ALIAS_OF 18u
#define ALIAS_PAGES 4u
#define ROM_AT 40u
#define IOVA_BASE (UINT64_C(1) << 40)
#define MOST 6000u

static struct gm_space *iova;
static struct gm_iommu *iommu;
static struct gm_reader *device;
static struct gm_log *iova_log;
static uint64_t page_of_iova[NR_PAGES]; /* page of the space that a page of IOVA leads to */

static uint8_t shadow[NR_PAGES * PAGE];

/* ---- mutants: the marks of one sort of operation get lost ---- */

enum sort {
	WRITE,
	FILL,
	COPY,
	TYPED,
	UNALIGNED,
	STORE,
	RMW,
	CMPXCHG,
	PIN,
	PIN_PART,
	SLICE,
	NR_SORTS,
};

static enum sort doing;
static int mutant = -1;
static unsigned long dropped;

void __real_gm_view_mark(const struct gm_view *view, uint64_t gpa, uint64_t len);
void __wrap_gm_view_mark(const struct gm_view *view, uint64_t gpa, uint64_t len);
struct gm_dirty;
void __real_gm_dirty_mark_later(struct gm_dirty *dirty, uint64_t gpa, uint64_t len);
void __wrap_gm_dirty_mark_later(struct gm_dirty *dirty, uint64_t gpa, uint64_t len);
void __real_gm_dirty_mark_pinned(struct gm_dirty *dirty, uint64_t gpa, uint64_t len);
void __wrap_gm_dirty_mark_pinned(struct gm_dirty *dirty, uint64_t gpa, uint64_t len);

void __wrap_gm_view_mark(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	if ((int)doing != mutant)
		__real_gm_view_mark(view, gpa, len);
	else
		dropped++;
}

void __wrap_gm_dirty_mark_later(struct gm_dirty *dirty, uint64_t gpa, uint64_t len)
{
	if ((int)doing != mutant)
		__real_gm_dirty_mark_later(dirty, gpa, len);
	else
		dropped++;
}

void __wrap_gm_dirty_mark_pinned(struct gm_dirty *dirty, uint64_t gpa, uint64_t len)
{
	if ((int)doing != mutant)
		__real_gm_dirty_mark_pinned(dirty, gpa, len);
	else
		dropped++;
}

/* ---- what lies where ---- */

/* The byte of the shadow that an address shows; false in holes. */
static bool place(uint64_t gpa, uint64_t *ret)
{
	uint64_t page = gpa / PAGE;

	if (page >= ALIAS_AT && page < ALIAS_AT + ALIAS_PAGES)
		gpa -= (ALIAS_AT - ALIAS_OF) * PAGE;
	else if (page >= 24 && page < 28)
		return false;
	else if (page >= 42)
		return false;
	*ret = gpa;
	return true;
}

static bool writable(uint64_t gpa)
{
	return gpa / PAGE < ROM_AT;
}

/* A range as a view sees it. */
struct range {
	const struct gm_view *view;
	bool translated;
	uint64_t addr;
};

static bool gpa_of(const struct range *range, uint64_t off, uint64_t *ret)
{
	uint64_t addr = range->addr + off;
	uint64_t page;

	if (!range->translated) {
		*ret = addr;
		return addr < NR_PAGES * PAGE;
	}
	page = (addr - IOVA_BASE) / PAGE;
	if (addr < IOVA_BASE || page >= NR_PAGES)
		return false;
	*ret = page_of_iova[page] * PAGE + addr % PAGE;
	return true;
}

/* Bytes from the begin that can be read, or written. */
static size_t reach(const struct range *range, size_t len, bool write)
{
	uint64_t gpa;
	uint64_t at;
	size_t n = 0;

	while (n < len && gpa_of(range, n, &gpa) && place(gpa, &at) && (!write || writable(gpa)))
		n++;
	return n;
}

static uint8_t *shadow_at(const struct range *range, uint64_t off)
{
	uint64_t gpa = 0;
	uint64_t at = 0;

	assert_true(gpa_of(range, off, &gpa) && place(gpa, &at));
	return &shadow[at];
}

/* ---- the logs ---- */

static bool lost; /* something changed and was not marked */

static void expect_marked(struct gm_log *log, uint64_t addr)
{
	if (gm_log_count(log, addr, 1) != 1)
		lost = true;
}

/* The byte at @off was changed. */
static void changed(const struct range *range, uint64_t off)
{
	uint64_t gpa = 0;
	uint64_t page;

	assert_true(gpa_of(range, off, &gpa));
	if (range->translated)
		expect_marked(iova_log, range->addr + off);
	expect_marked(log_, gpa);
	page = gpa / PAGE;
	if (page >= ALIAS_AT && page < ALIAS_AT + ALIAS_PAGES)
		expect_marked(log_, gpa - (ALIAS_AT - ALIAS_OF) * PAGE);
	if (page >= ALIAS_OF && page < ALIAS_OF + ALIAS_PAGES)
		expect_marked(log_, gpa + (ALIAS_AT - ALIAS_OF) * PAGE);
}

/* The shadow gets @len new bytes, of which those that differ are marked. */
static void update(const struct range *range, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t *byte = shadow_at(range, i);

		if (*byte == bytes[i])
			continue;
		*byte = bytes[i];
		changed(range, i);
	}
}

/* ---- operations ---- */

static struct rng rng;
static uint8_t bytes[MOST];

static struct range pick(size_t *ret_len)
{
	struct range range = {.translated = rng_below(&rng, 3) == 0};
	uint64_t at = rng_below(&rng, NR_PAGES * PAGE);

	*ret_len = 1 + rng_below(&rng, rng_below(&rng, 4) ? 40 : MOST - 1);
	if (rng_below(&rng, 4) == 0)
		at = at / PAGE * PAGE + PAGE - 1 - rng_below(&rng, 9);
	range.view = gm_reader_enter(range.translated ? device : reader);
	range.addr = range.translated ? IOVA_BASE + at : at;
	return range;
}

static void random_bytes(size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)rng_next(&rng);
}

static void do_write(const struct range *r, size_t len)
{
	size_t done = 0;
	size_t can = reach(r, len, true);

	random_bytes(len);
	assert_int_equal(gm_write(r->view, r->addr, bytes, len, &done) == 0, can == len);
	assert_int_equal(done, can);
	update(r, bytes, can);
}

static void do_fill(const struct range *r, size_t len)
{
	size_t done = 0;
	size_t can = reach(r, len, true);

	memset(bytes, (int)rng_below(&rng, 256), len);
	assert_int_equal(gm_fill(r->view, r->addr, bytes[0], len, &done) == 0, can == len);
	assert_int_equal(done, can);
	update(r, bytes, can);
}

static void do_copy(const struct range *r, size_t len)
{
	struct range src = *r;
	size_t done = 0;
	size_t can;

	/* Often overlapping. */
	src.addr = rng_below(&rng, 2) ? r->addr + rng_below(&rng, 64) - 32
				      : r->addr / PAGE * PAGE + rng_below(&rng, 9 * PAGE);
	if (src.addr > UINT64_MAX / 2)
		src.addr = r->addr;
	can = reach(r, len, true);
	can = can < reach(&src, len, false) ? can : reach(&src, len, false);
	/* Two names of the same bytes: what comes of an overlap of these is not promised. */
	for (size_t i = 0; i < can; i++)
		bytes[i] = *shadow_at(&src, i);
	if (can && shadow_at(&src, 0) != shadow_at(r, 0) + (src.addr - r->addr))
		return;
	for (size_t i = 1; i < can; i++) {
		if (shadow_at(r, i) != shadow_at(r, 0) + i ||
			shadow_at(&src, i) != shadow_at(&src, 0) + i)
			return;
	}
	assert_int_equal(gm_copy(r->view, r->addr, src.addr, len, &done) == 0, can == len);
	assert_int_equal(done, can);
	update(r, bytes, can);
}

static void do_typed(const struct range *at, bool aligned)
{
	struct range range = *at;
	const struct range *r = &range;
	uint64_t value = rng_next(&rng);
	size_t size = (size_t)1 << rng_below(&rng, 4);
	size_t can;
	int rc;

	if (aligned)
		range.addr -= range.addr % size;
	can = reach(r, size, true);
	memcpy(bytes, &value, 8);
	rc = size == 1   ? gm_write_u8(r->view, r->addr, (uint8_t)value)
	     : size == 2 ? gm_write_u16(r->view, r->addr, (uint16_t)value)
	     : size == 4 ? gm_write_u32(r->view, r->addr, (uint32_t)value)
			 : gm_write_u64(r->view, r->addr, value);
	assert_int_equal(rc == 0, can == size);
	/* All or nothing. */
	update(r, bytes, can == size ? size : 0);
}

static void do_atomic(const struct range *at, enum sort sort)
{
	struct range range = *at;
	const struct range *r = &range;
	uint64_t value = rng_next(&rng);
	uint64_t was = 0;
	uint64_t now = value;
	bool can;
	int rc;

	range.addr -= range.addr % 8;
	can = reach(r, 8, true) == 8;
	for (size_t i = 0; can && i < 8; i++)
		((uint8_t *)&was)[i] = *shadow_at(r, i);
	if (sort == STORE) {
		rc = gm_atomic_store_u64(r->view, r->addr, __ATOMIC_SEQ_CST, value);
	} else if (sort == RMW) {
		now = was + value;
		rc = gm_atomic_fetch_add_u64(r->view, r->addr, __ATOMIC_SEQ_CST, value, NULL);
	} else {
		uint64_t expected = rng_below(&rng, 2) ? was : value;

		rc = gm_atomic_cmpxchg_u64(r->view, r->addr, __ATOMIC_SEQ_CST, &expected, now);
		if (rc == 0)
			now = was;
		rc = rc > 0 ? 0 : rc;
	}
	assert_int_equal(rc == 0, can);
	memcpy(bytes, &now, 8);
	update(r, bytes, can ? 8 : 0);
}

static void do_pin(const struct range *r, size_t len, bool part)
{
	struct iovec slice;
	struct gm_pin pin = {0};
	size_t can = reach(r, len, true);
	int rc = gm_pin_slice(r->view, r->addr, len, GM_PERM_RW, &slice, &pin);

	assert_int_equal(rc == 0, can > 0);
	if (rc)
		return;
	assert_true(slice.iov_len <= can);
	/* A take between, so that the mark of the hand-out is not what is seen. */
	gm_log_reset(log_, 0, NR_PAGES * PAGE);
	gm_log_reset(iova_log, IOVA_BASE, NR_PAGES * PAGE);
	random_bytes(slice.iov_len);
	len = part ? rng_below(&rng, slice.iov_len + 1) : slice.iov_len;
	memcpy(slice.iov_base, bytes, len);
	if (part)
		gm_pin_put_written(&pin, len);
	else
		gm_pin_put(&pin);
	update(r, bytes, len);
}

/* One write by way of a slice, which @now has the bytes of. */
static void touch_slice(
	const struct iovec *slice, const struct gm_pin *pin, uint8_t *now, uint64_t off)
{
	size_t room = slice->iov_len - off;
	size_t len = 1 + rng_below(&rng, room < 50 ? room : 50);
	uint64_t value = rng_next(&rng);
	uint64_t from = rng_below(&rng, slice->iov_len - len + 1);

	switch (rng_below(&rng, 4)) {
	case 0:
		assert_int_equal(gm_slice_fill(slice, pin, off, (uint8_t)value, len, NULL), 0);
		memset(now + off, (int)value, len);
		break;
	case 1:
		assert_int_equal(gm_slice_copy(slice, pin, off, slice, pin, from, len, NULL), 0);
		memmove(now + off, now + from, len);
		break;
	case 2:
		len = len < 8 ? len : 8;
		assert_int_equal(gm_slice_write(slice, pin, off, &value, len, NULL), 0);
		memcpy(now + off, &value, len);
		break;
	default:
		if (room >= 4) {
			assert_int_equal(gm_slice_store(slice, pin, off, GM_U32, 0, value), 0);
			memcpy(now + off, &value, 4);
		}
	}
}

static void do_slice(const struct range *r, size_t len)
{
	struct iovec slice;
	struct gm_pin pin = {0};
	size_t can = reach(r, len, true);
	int rc = gm_pin_slice(r->view, r->addr, len, GM_PERM_RW | GM_PIN_EXACT, &slice, &pin);

	assert_int_equal(rc == 0, can > 0);
	if (rc)
		return;
	for (size_t i = 0; i < slice.iov_len; i++)
		bytes[i] = *shadow_at(r, i);
	for (int i = 0; i < 3; i++)
		touch_slice(&slice, &pin, bytes, rng_below(&rng, slice.iov_len));
	gm_pin_put(&pin);
	update(r, bytes, slice.iov_len);
}

static void operate(void)
{
	size_t len;
	struct range r = pick(&len);

	doing = (enum sort)rng_below(&rng, NR_SORTS);
	switch (doing) {
	case WRITE:
		do_write(&r, len);
		break;
	case FILL:
		do_fill(&r, len);
		break;
	case COPY:
		do_copy(&r, len);
		break;
	case TYPED:
	case UNALIGNED:
		do_typed(&r, doing == TYPED);
		break;
	case STORE:
	case RMW:
	case CMPXCHG:
		do_atomic(&r, doing);
		break;
	case SLICE:
		do_slice(&r, len);
		break;
	case PIN:
	case PIN_PART:
	default:
		do_pin(&r, len, doing == PIN_PART);
		break;
	}
	doing = NR_SORTS;
	gm_reader_leave(r.translated ? device : reader);
}

/* ---- a world ---- */

static void add_region(uint32_t page, const struct gm_region_desc *desc, uint64_t *ret_id)
{
	struct gm_region_desc copy = *desc;

	copy.gpa = page * PAGE;
	assert_ok(gm_space_add(space, &copy, ret_id, &err));
}

static void start_world(uint64_t seed)
{
	static const uint64_t sizes[] = {4096, 4096, 512, 5000, 8192};
	uint64_t shared;
	uint8_t rom[2 * PAGE] = {0};

	rng.state = seed;
	memset(shadow, 0, sizeof(shadow));
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add_region(0, DESC(.backing = BLOCK(.len = 16 * PAGE)), NULL);
	add_region(16, DESC(.backing = BLOCK(.len = 8 * PAGE, .flags = GM_BLOCK_SHARE)), &shared);
	add_region(ALIAS_AT,
		DESC(.kind = GM_REGION_ALIAS, .target = shared, .len = ALIAS_PAGES * PAGE,
			.block_off = (ALIAS_OF - 16) * PAGE),
		NULL);
	add_region(32,
		DESC(.backing = BLOCK(.len = 8 * PAGE, .backing = GM_BACKING_MEMFD,
			     .flags = GM_BLOCK_UNMAPPED)),
		NULL);
	add_region(ROM_AT, DESC(.kind = GM_REGION_ROM, .backing = BLOCK(.len = sizeof(rom))), NULL);
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .over = space, .gpa_limit = GM_SPACE_NO_WINDOW), &iova,
		&err));
	assert_ok(gm_iommu_create(space, NULL, &iommu, &err));
	assert_ok(gm_space_add(iova, DESC(.kind = GM_REGION_IOMMU, .iommu = iommu), NULL, &err));
	for (uint64_t i = 0; i < NR_PAGES; i++) {
		page_of_iova[i] = (i * 5 + seed) % NR_PAGES;
		assert_ok(gm_iommu_map(iommu, IOVA_BASE + i * PAGE, PAGE, page_of_iova[i] * PAGE,
			GM_PERM_RW, &err));
	}
	assert_ok(gm_reader_create(iova, "device", &device, &err));
	log_ = make_log(LOG(.page_size = sizes[rng_below(&rng, 5)]));
	assert_ok(gm_log_create(iova,
		LOG(.first = IOVA_BASE, .len = NR_PAGES * PAGE,
			.page_size = sizes[rng_below(&rng, 5)]),
		&iova_log, &err));
	lost = false;
}

static void stop_world(void)
{
	assert_ok(gm_log_destroy(iova_log, &err));
	gm_reader_destroy(device);
	gm_space_destroy(iova);
	gm_iommu_put(iommu);
	stop_log();
}

static void assert_memory(void)
{
	static uint8_t now[PAGE];

	for (uint64_t page = 0; page < NR_PAGES; page++) {
		uint64_t at;
		int rc = gm_read(gm_reader_enter(reader), page * PAGE, now, PAGE, NULL);

		gm_reader_leave(reader);
		assert_int_equal(rc == 0, place(page * PAGE, &at));
		if (rc == 0)
			assert_memory_equal(now, shadow + at, PAGE);
	}
}

static void operate_many(unsigned long nr)
{
	for (unsigned long n = 0; n < nr && !lost; n++) {
		operate();
		/* What one operation marked does not hide what the next one does not. */
		gm_log_reset(log_, 0, NR_PAGES * PAGE + PAGE);
		gm_log_reset(iova_log, IOVA_BASE, NR_PAGES * PAGE + PAGE);
		if (rng_below(&rng, 500) == 0)
			assert_memory();
	}
}

static void test_memory_and_logs_are_as_the_shadow_says(void **state)
{
	unsigned long seeds = support_scale(5);
	unsigned long nr = support_scale(100000);

	(void)state;
	/* Up to 50 seeds; from there on (scale 100: 200 000) more operations with each. */
	seeds = seeds > 50 ? 50 : seeds ? seeds : 1;
	nr /= seeds;
	for (unsigned long i = 0; i < seeds; i++) {
		start_world(test_seed(i));
		operate_many(nr);
		if (lost)
			fail_msg("seed %lu: bytes differ and their page is not marked", i);
		assert_memory();
		stop_world();
	}
	printf("figure: shadow_operations %lu\n", seeds * nr);
}

static void test_each_mark_that_is_lost_is_found(void **state)
{
	(void)state;
	for (mutant = 0; mutant < NR_SORTS; mutant++) {
		dropped = 0;
		start_world(test_seed(77));
		operate_many(2000);
		if (!lost || !dropped)
			fail_msg("nobody misses the marks of operation %d", mutant);
		stop_world();
	}
	mutant = -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_and_logs_are_as_the_shadow_says),
		cmocka_unit_test(test_each_mark_that_is_lost_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
