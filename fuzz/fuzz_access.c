/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_access.c - bytes as a sequence of accesses of every sort, by guest address, by IOVA and through
 * caches, to memory of every sort, against a shadow that looks at each byte by itself.
 *
 * Work is 8 bytes: what, a byte, length (16 bits), address (32). Of what: 1 << 7 goes by IOVA, 1 << 6 aligns the
 * address to a number's width. Of the length: the upper three bits let it be more than 300. Of the
 * address: 1 << 31 counts from 2^64 downwards.
 */
#include "access_guest.h"
#include "access_numbers.h"

#define WORK_MAX 32u
#define NR_CACHES 4u

static struct cache caches[NR_CACHES];
static uint8_t buf[ROOM];
static uint8_t *at[ROOM];   /* of the shadow */
static uint8_t *from[ROOM]; /* likewise */

static uint64_t number(const struct work *w)
{
	return (w->addr * 31 + w->len + w->byte) * UINT64_C(0x9e3779b97f4a7c15);
}

static size_t width(const struct work *w)
{
	return (size_t)1 << (w->byte & 3);
}

/* The number in the shadow. */
static uint64_t get(size_t size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)*at[i] << (8 * i);
	return value;
}

static void put(size_t size, uint64_t value)
{
	for (size_t i = 0; i < size; i++)
		shadow_set(at[i], (uint8_t)(value >> (8 * i)));
}

static void fill_buf(const struct work *w, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(w->byte + i * 3);
}

/* ---- bytes ---- */

static void check_read(const struct work *w)
{
	size_t done = SIZE_MAX;
	int want;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_R, at, &want);

	must(gm_read(w->view, w->addr, buf, w->len, &done) == want && done == can);
	for (size_t i = 0; i < can; i++)
		must(buf[i] == *at[i]);
}

static void check_write(const struct work *w)
{
	size_t done = SIZE_MAX;
	int want;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_W, at, &want);

	fill_buf(w, w->len);
	must(gm_write(w->view, w->addr, buf, w->len, &done) == want && done == can);
	for (size_t i = 0; i < can; i++)
		shadow_set(at[i], buf[i]);
}

static void check_fill(const struct work *w)
{
	size_t done = SIZE_MAX;
	int want;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_W, at, &want);

	must(gm_fill(w->view, w->addr, w->byte, w->len, &done) == want && done == can);
	for (size_t i = 0; i < can; i++)
		shadow_set(at[i], w->byte);
}

/* Equal up to a byte that the input chooses. */
static void check_compare(const struct work *w)
{
	size_t done = SIZE_MAX;
	size_t differs = w->byte * 40u;
	int order = 9;
	int want;
	int rc;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_R, at, &want);

	memset(buf, 0, w->len);
	for (size_t i = 0; i < can; i++)
		buf[i] = i == differs ? (uint8_t) ~*at[i] : *at[i];
	rc = gm_compare(w->view, w->addr, buf, w->len, &order, &done);
	if (want != -ERANGE && differs < can)
		must(rc == 0 && done == differs && order == (*at[differs] < buf[differs] ? -1 : 1));
	else
		must(rc == want && done == can && (rc || order == 0));
}

static void check_zero(const struct work *w)
{
	size_t done = SIZE_MAX;
	size_t zeros = 0;
	int want;
	int rc;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_R, at, &want);

	while (zeros < can && !*at[zeros])
		zeros++;
	rc = gm_is_zero(w->view, w->addr, w->len, &done);
	must(done == zeros && rc == (zeros < can ? 0 : want ? want : 1));
}

static void check_find(const struct work *w)
{
	size_t off = SIZE_MAX;
	size_t before = 0;
	int want;
	int rc;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_R, at, &want);

	while (before < can && *at[before] != w->byte)
		before++;
	rc = gm_find_byte(w->view, w->addr, w->byte, w->len, &off);
	if (before < can)
		must(rc == 1 && off == before);
	else
		must(rc == want && off == SIZE_MAX);
}

static void check_string(const struct work *w)
{
	size_t cap = w->len % 600u;
	size_t len = SIZE_MAX;
	size_t before = 0;
	int want;
	int rc;
	size_t can;

	/* No length passes 2^64 here: a string ends before, or fails there. */
	can = reach(w->iova, w->addr,
		cap && cap - 1 > UINT64_MAX - w->addr ? UINT64_MAX - w->addr + 1 : cap, GM_PERM_R,
		at, &want);
	while (before < can && *at[before])
		before++;
	rc = gm_read_string(w->view, w->addr, (char *)buf, cap, &len);
	if (before < can) {
		must(rc == 0 && len == before && buf[len] == 0);
		for (size_t i = 0; i < before; i++)
			must(buf[i] == *at[i]);
	} else {
		must(rc == (!cap ? -EINVAL : want ? want : can < cap ? -ERANGE : -EMSGSIZE));
	}
}

struct chunks {
	size_t nr;
	size_t stop;
};

static int on_chunk(void *ctx, const void *data, size_t n)
{
	struct chunks *chunks = ctx;

	must(n && n <= 1024);
	for (size_t i = 0; i < n; i++)
		must(((const uint8_t *)data)[i] == *at[chunks->nr + i]);
	chunks->nr += n;
	return chunks->nr > chunks->stop ? 77 : 0;
}

static void check_chunks(const struct work *w)
{
	struct chunks chunks = {0, w->byte * 40u};
	size_t done = SIZE_MAX;
	int want;
	int rc;
	size_t can = reach(w->iova, w->addr, w->len, GM_PERM_R, at, &want);

	rc = gm_for_each_chunk(w->view, w->addr, w->len, on_chunk, &chunks, &done);
	must(done == chunks.nr && done <= can);
	must(chunks.nr > chunks.stop ? rc == 77 : rc == want && done == can);
	gm_prefetch(w->view, w->addr, w->len);
}

static void check_array(const struct work *w, bool write)
{
	size_t size = w->byte % 24u;
	size_t nr = size ? w->len / size : w->len;
	size_t done = SIZE_MAX;
	int want;
	int rc;
	size_t can = reach(w->iova, w->addr, size * nr, write ? GM_PERM_W : GM_PERM_R, at, &want);

	fill_buf(w, size * nr);
	rc = write ? gm_write_array(w->view, w->addr, buf, size, nr, &done)
		   : gm_read_array(w->view, w->addr, buf, size, nr, &done);
	if (!size) {
		must(rc == -EINVAL && done == 0);
		return;
	}
	must(rc == want && done == can / size);
	for (size_t i = 0; i < done * size; i++) {
		if (write)
			shadow_set(at[i], buf[i]);
		else
			must(buf[i] == *at[i]);
	}
}

/* Does copying give what it says, whatever is the same memory? In a straight line it does. */
static bool is_clear(size_t n, uint64_t dst, uint64_t src)
{
	static uint32_t seen[NR_PAGES * PAGE];
	static uint32_t round;
	bool straight = true;
	bool overlaps = false;

	round++;
	for (size_t i = 0; i < n; i++) {
		seen[from[i] - guest.shadow] = round;
		straight = straight && from[i] == from[0] + i && at[i] == at[0] + i;
	}
	for (size_t i = 0; i < n; i++)
		overlaps = overlaps || seen[at[i] - guest.shadow] == round;
	return !overlaps || (straight && (uint64_t)(at[0] - from[0]) == dst - src);
}

static void check_copy(const struct work *w)
{
	uint64_t src = w->addr + (uint64_t)(int64_t)(int8_t)w->byte * 24;
	size_t done = SIZE_MAX;
	int can_not;
	int want;
	size_t can;
	size_t n = reach(w->iova, src, w->len, GM_PERM_R, from, &can_not);

	can = reach(w->iova, w->addr, w->len, GM_PERM_W, at, &want);
	if (can_not == -ERANGE || want == -ERANGE)
		n = 0, want = -ERANGE;
	else if (n <= can && can_not)
		want = can_not;
	else if (n > can)
		n = can;
	if (!is_clear(n, w->addr, src))
		return;
	for (size_t i = 0; i < n; i++)
		buf[i] = *from[i];
	must(gm_copy(w->view, w->addr, src, w->len, &done) == want && done == n);
	for (size_t i = 0; i < n; i++)
		shadow_set(at[i], buf[i]);
}

/* ---- numbers, by address or through a cache ---- */

/* A write across two places that can be had in part changes nothing. */
static void check_plain(const struct work *w, struct cache *cache, uint64_t off, bool write)
{
	size_t size = width(w);
	uint64_t value = number(w);
	uint64_t seen = 0;
	int want;
	int rc;

	reach(w->iova, w->addr, size, write ? GM_PERM_W : GM_PERM_R, at, &want);
	rc = write ? write_number(w, size, cache, off, value)
		   : read_number(w, size, cache, off, &seen);
	must(rc == want);
	if (!rc && write)
		put(size, value);
	must(rc || write || seen == get(size));
}

/*
 * What an atomic access must return: 1 for "an error, whichever". Behind an IOMMU what is aligned may lead to what is
 * not.
 */
static int atomic_want(const struct work *w, size_t size, uint32_t perms)
{
	const struct part *part = NULL;
	const uint8_t *last;
	int want;
	int rc;

	if (w->addr % size)
		return -EINVAL;
	at[0] = byte_at(w->iova, w->addr, perms, &want, &part);
	if (want)
		return want;
	last = byte_at(w->iova, w->addr + (size - 1), perms, &rc, NULL);
	if (last != at[0] + (size - 1) || (size_t)(at[0] - guest.shadow) % size)
		return 1;
	for (size_t i = 1; i < size; i++)
		at[i] = at[0] + i;
	return part->sort == DEVMEM && perms == GM_PERM_RW ? -ENOTSUP : 0;
}

static bool is_wanted(int rc, int want)
{
	return want == 1 ? rc == -EINVAL || rc == -EFAULT || rc == -EACCES || rc == -ENOTSUP
			 : rc == want;
}

static void check_atomic(const struct work *w, struct cache *cache, uint64_t off, bool write)
{
	size_t size = width(w);
	int want = atomic_want(w, size, write ? GM_PERM_W : GM_PERM_R);
	uint64_t value = number(w);
	uint64_t seen = 0;
	int rc = write ? store(w, size, cache, off, value) : load(w, size, cache, off, &seen);

	must(is_wanted(rc, want));
	if (!rc && write)
		put(size, value);
	must(rc || write || seen == get(size));
}

static void check_rmw(const struct work *w)
{
	size_t size = width(w);
	uint32_t op = (w->byte >> 2) % 6u;
	int want = atomic_want(w, size, GM_PERM_RW);
	uint64_t was = want ? 0 : get(size);
	/* Every second guess is right. */
	uint64_t expected = cut(w->byte & 32 ? was : number(w) >> 7, size);
	uint64_t seen = expected;
	int rc = rmw(w, size, op, number(w), &seen);

	if (want) {
		must(is_wanted(rc, want) && seen == expected);
		return;
	}
	must(seen == was && rc == (op == GM_BACKEND_CMPXCHG && was == expected));
	put(size, combine(op, was, cut(number(w), size), expected));
}

static void check_cmpxchg_16(const struct work *w)
{
	uint64_t desired[2] = {number(w), ~number(w)};
	uint64_t expected[2] = {number(w), 1};
	uint64_t was[2] = {0, 0};
	int want = atomic_want(w, 16, GM_PERM_RW);
	int rc;

	for (size_t i = 0; !want && i < 16; i++)
		was[i / 8] |= (uint64_t)*at[i] << (8 * (i % 8));
	if (w->byte & 1)
		memcpy(expected, was, sizeof(was));
	rc = gm_atomic_cmpxchg_u128(w->view, w->addr, __ATOMIC_SEQ_CST, expected, desired);
	if (want || rc == -ENOTSUP) { /* messages, or not this machine */
		must(rc == -ENOTSUP || is_wanted(rc, want));
		return;
	}
	must(memcmp(expected, was, sizeof(was)) == 0 &&
		rc == (w->byte & 1 || (was[0] == number(w) && was[1] == 1)));
	for (size_t i = 0; rc && i < 16; i++)
		shadow_set(at[i], (uint8_t)(desired[i / 8] >> (8 * (i % 8))));
}

/* ---- slices, questions, translations ---- */

/* Bytes of a slice by the functions that check them: reading, filling, and a number. */
static void check_slice(
	const struct work *w, const struct iovec *slice, const struct gm_pin *pin, uint32_t perms)
{
	uint64_t off = w->byte % (slice->iov_len + 4);
	bool in = off <= slice->iov_len && width(w) <= slice->iov_len - off;
	uint64_t seen = 0;
	size_t done = SIZE_MAX;
	int rc;

	must(gm_slice_read(slice, pin, 0, buf, slice->iov_len, &done) == 0 &&
		done == slice->iov_len);
	must(memcmp(buf, at[0], done) == 0);
	rc = gm_slice_load(slice, pin, off, (uint32_t)width(w), __ATOMIC_RELAXED, &seen);
	must(rc == (in ? 0 : -ERANGE));
	for (size_t i = 0; in && i < width(w); i++)
		must((uint8_t)(seen >> (8 * i)) == *at[off + i]);
	rc = gm_slice_store(slice, pin, off, (uint32_t)width(w), __ATOMIC_RELAXED, number(w));
	must(rc == (!in ? -ERANGE : perms == GM_PERM_RW ? 0 : -EACCES));
	for (size_t i = 0; !rc && i < width(w); i++)
		shadow_set(at[off + i], (uint8_t)(number(w) >> (8 * i)));
	rc = gm_slice_fill(slice, pin, off, w->byte, width(w), &done);
	must(rc == (!in ? -ERANGE : perms == GM_PERM_RW ? 0 : -EACCES));
	for (size_t i = 0; !rc && i < width(w); i++)
		shadow_set(at[off + i], w->byte);
	must(memcmp(slice->iov_base, at[0], slice->iov_len) == 0);
}

static void check_pin(const struct work *w)
{
	uint32_t perms = w->byte & 1 ? GM_PERM_RW : GM_PERM_R;
	const struct part *part = NULL;
	struct iovec slice;
	struct gm_pin pin;
	int want;
	int rc;
	size_t can = reach(w->iova, w->addr, w->len, perms, at, &want);

	if (can)
		byte_at(w->iova, w->addr, perms, &rc, &part);
	rc = gm_pin_slice(w->view, w->addr, w->len, perms, &slice, &pin);
	if (w->len == 0 || !can) {
		must(rc == (w->len == 0 ? -EINVAL : want));
		return;
	}
	if (rc) { /* not where there are no addresses that stay */
		must(rc == -ENOTSUP && part->sort != PLAIN);
		return;
	}
	must(part->sort == PLAIN || part->sort == IN_FILE);
	must(slice.iov_len && slice.iov_len <= can);
	must(memcmp(slice.iov_base, at[0], slice.iov_len) == 0);
	check_slice(w, &slice, &pin, perms);
	if (perms == GM_PERM_RW) {
		memset(slice.iov_base, w->byte, slice.iov_len);
		for (size_t i = 0; i < slice.iov_len; i++)
			shadow_set(at[i], w->byte);
	}
	gm_pin_put_written(&pin, slice.iov_len);
}

static void check_question(const struct work *w)
{
	uint32_t perms = w->byte & 3;
	int want;

	reach(w->iova, w->addr, w->len, perms, at, &want);
	must(gm_view_check(w->view, w->addr, w->len, perms) == want);
}

static void translate(const struct work *w)
{
	uint64_t first = w->len % NR_UNITS;
	uint64_t nr = 1 + w->byte / 4u;

	if (nr > NR_UNITS - first)
		nr = NR_UNITS - first;
	/* A target may not pass 2^64. */
	if (w->addr > UINT64_MAX - nr * UNIT)
		return;
	map_units(first, nr, w->addr, w->byte & 3);
	guest.remapped = true;
}

/* ---- caches ---- */

static void init_cache(const struct work *w, struct cache *cache)
{
	uint32_t perms = (w->byte >> 2) & 3;
	struct cache made = {.iova = w->iova, .addr = w->addr, .len = w->len, .perms = perms};
	int want;
	int rc;

	reach(w->iova, w->addr, w->len, perms, at, &want);
	if (w->len == 0 || !perms)
		want = -EINVAL;
	rc = gm_cache_init(&made.it, w->view, w->addr, w->len, perms);
	must(rc == want);
	if (!rc)
		*cache = made;
}

/* The offset is the low part of the address. */
static void use_cache(struct work *w, struct cache *cache)
{
	bool write = w->byte & 4;
	bool bytes = w->byte & 8;
	bool atomic = w->byte & 16;
	uint64_t off = w->addr % (cache->len + 16);
	uint64_t len = bytes ? w->len : width(w);
	size_t done = SIZE_MAX;
	int want;
	int rc;
	size_t can;

	w->iova = cache->iova;
	w->view = guest.views[cache->iova];
	w->addr = cache->addr + off;
	if (cache->len == 0 || len > cache->len || off > cache->len - len)
		want = -ERANGE;
	else
		want = cache->perms & (write ? GM_PERM_W : GM_PERM_R) ? 0 : -EACCES;
	if (!want && !bytes) {
		(atomic ? check_atomic : check_plain)(w, cache, off, write);
		return;
	}
	can = 0;
	if (!want && len)
		can = reach(w->iova, w->addr, len, write ? GM_PERM_W : GM_PERM_R, at, &want);
	fill_buf(w, len);
	rc = write ? gm_cache_write(&cache->it, w->view, off, buf, len, &done)
		   : gm_cache_read(&cache->it, w->view, off, buf, len, &done);
	must(rc == want && done == can);
	for (size_t i = 0; i < can; i++) {
		if (write)
			shadow_set(at[i], buf[i]);
		else
			must(buf[i] == *at[i]);
	}
}

/* ---- all of it ---- */

static void check_work(struct work *w)
{
	struct cache *cache = &caches[w->byte >> 6];

	switch (w->what & 31) {
	case 0:
		check_read(w);
		break;
	case 1:
		check_write(w);
		break;
	case 2:
		check_fill(w);
		break;
	case 3:
		check_compare(w);
		break;
	case 4:
		check_zero(w);
		break;
	case 5:
		check_find(w);
		break;
	case 6:
		check_string(w);
		break;
	case 7:
		check_chunks(w);
		break;
	case 8:
	case 9:
		check_array(w, w->what & 1);
		break;
	case 10:
		check_copy(w);
		break;
	case 11:
	case 12:
		check_plain(w, NULL, 0, w->what & 1);
		break;
	case 13:
	case 14:
		check_atomic(w, NULL, 0, w->what & 1);
		break;
	case 15:
		check_rmw(w);
		break;
	case 16:
		check_cmpxchg_16(w);
		break;
	case 17:
		check_pin(w);
		break;
	case 18:
		check_question(w);
		break;
	case 19:
		translate(w);
		break;
	case 20:
		init_cache(w, cache);
		break;
	default:
		use_cache(w, cache);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!guest.space)
		guest_start();
	guest_reset();
	memset(caches, 0, sizeof(caches));
	for (unsigned int i = 0; i < 2; i++)
		guest.views[i] = gm_reader_enter(guest.readers[i]);
	for (unsigned int i = 0; i < WORK_MAX && size >= 8; i++, data += 8, size -= 8) {
		struct work w = {.what = data[0], .byte = data[1], .iova = data[0] >> 7};
		uint32_t addr;

		memcpy(&w.len, data + 2, sizeof(w.len));
		memcpy(&addr, data + 4, sizeof(addr));
		w.len = (uint16_t)(w.len % ((w.len & 0xe000) == 0xe000 ? ROOM : 300));
		w.addr = addr >> 31 ? 0 - (uint64_t)(addr & 0x1fff) : addr & 0xffff;
		if (w.what & 64)
			w.addr -= w.addr % width(&w);
		w.view = guest.views[w.iova];
		check_work(&w);
	}
	for (unsigned int i = 0; i < 2; i++)
		gm_reader_leave(guest.readers[i]);
	guest_check();
	return 0;
}

#ifdef __clang__
#pragma clang attribute pop
#endif
