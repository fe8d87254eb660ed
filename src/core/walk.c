/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk.c - the cost of translation: loads of a walk, mixes of page sizes, what maps and describes a
 * memory.
 *
 * Amounts of memory are counted in 4 KiB pages, of which there are at most 2^45, so that products
 * of two of them and of small numbers fit 128 bits.
 */
#include <errno.h>
#include <guestmem/walk.h>

#include "core/error.h"

#define BASE_LOG2 12u
#define STEP_LOG2 9u /* a table has 512 entries */
#define TOP_LOG2 38u /* what is larger would be a leaf of its own */
#define TABLE_BYTES 4096u
#define STRUCT_BYTES 64u       /* a page struct */
#define LEAN_BYTES 4096u       /* what is left of the page structs of a huge page */
#define MIX_MAX (1ull << 57)   /* bytes */
#define POINT 20u              /* bits behind the binary point of a mean */
#define QUOTIENT_BITS 45u      /* of an amount of memory */
#define MEAN_BITS (POINT + 6u) /* of at most 35 loads */

__extension__ typedef unsigned __int128 wide;

static uint32_t leaf_log2(uint32_t leaf)
{
	return BASE_LOG2 + STEP_LOG2 * leaf;
}

static uint32_t leaf_of(uint32_t log2)
{
	uint32_t leaf = (log2 - BASE_LOG2) / STEP_LOG2;

	return leaf < GM_WALK_LEAVES ? leaf : GM_WALK_1G;
}

/* Loads of table entries down to a leaf. */
static uint32_t loads_of(uint32_t levels, uint32_t leaf)
{
	return levels - leaf;
}

/* a / b for a quotient of less than 2^(bits + 1); the compiler's division would be a library's. */
static uint64_t divide(wide a, wide b, uint32_t bits)
{
	uint64_t quotient = 0;

	for (uint32_t bit = bits + 1; bit-- > 0;) {
		if (a >= b << bit) {
			a -= b << bit;
			quotient |= UINT64_C(1) << bit;
		}
	}
	return quotient;
}

/* ---- checks ---- */

static int check_levels(uint32_t *levels, const char *whose, struct gm_error *err)
{
	if (*levels == 0)
		*levels = 4;
	if (*levels == 4 || *levels == 5)
		return 0;
	return gm_error_set(err, -EINVAL, 0, 0,
		"walk: the %s's page tables have 4 or 5 levels, not %u", whose, *levels);
}

static int take_opts(
	const struct gm_walk_opts *opts, struct gm_walk_opts *ret, struct gm_error *err)
{
	int rc;

	*ret = (struct gm_walk_opts){.size = sizeof(*ret)};
	rc = opts ? gm_opts_copy(ret, sizeof(*ret), opts, sizeof(*ret)) : 0;
	if (rc)
		return gm_opts_error(err, rc, "walk");
	if (ret->paging > GM_WALK_NATIVE)
		return gm_error_set(
			err, -EINVAL, 0, 0, "walk: paging %u is not known", ret->paging);
	if (ret->flags & ~(GM_WALK_TRANSPARENT | GM_WALK_LEAN))
		return gm_error_set(err, -EINVAL, 0, 0, "walk: unknown flags 0x%x",
			ret->flags & ~(GM_WALK_TRANSPARENT | GM_WALK_LEAN));
	if (ret->flags == (GM_WALK_TRANSPARENT | GM_WALK_LEAN))
		return gm_error_set(err, -EINVAL, 0, 0,
			"walk: huge pages are transparent or of a pool, not both");
	rc = check_levels(&ret->guest_levels, "guest", err);
	return rc ? rc : check_levels(&ret->host_levels, "host", err);
}

static int check_result(size_t size, size_t known, struct gm_error *err)
{
	if (size >= known)
		return 0;
	return gm_error_set(
		err, -EINVAL, 0, 0, "walk: the result's size member is %zu, not %zu", size, known);
}

static int check_page(uint32_t log2, const char *whose, struct gm_error *err)
{
	if (log2 >= BASE_LOG2 && log2 <= TOP_LOG2)
		return 0;
	return gm_error_set(
		err, -EINVAL, 0, 0, "walk: %s are of 2^12 to 2^38 bytes, not 2^%u", whose, log2);
}

/* What the sum passes, in bytes of all leaves; *ret is in 4 KiB pages. */
static int check_mix(const struct gm_walk_mix *mix, const char *whose, uint64_t max, uint64_t *ret,
	struct gm_error *err)
{
	uint64_t sum = 0;

	if (!mix)
		return gm_error_set(err, -EINVAL, 0, 0, "walk: no sizes for the %s", whose);
	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		if (mix->bytes[i] & ((UINT64_C(1) << leaf_log2(i)) - 1))
			return gm_error_set(err, -EINVAL, 0, mix->bytes[i],
				"walk: 0x%llx bytes of the %s are no whole pages of 2^%u bytes",
				(unsigned long long)mix->bytes[i], whose, leaf_log2(i));
		if (mix->bytes[i] > max - sum)
			return gm_error_set(err, -ERANGE, 0, max,
				"walk: the %s has more than the 0x%llx bytes that its tables map",
				whose, (unsigned long long)max);
		sum += mix->bytes[i];
	}
	if (sum == 0)
		return gm_error_set(err, -EINVAL, 0, 0, "walk: the %s has no bytes", whose);
	*ret = sum >> BASE_LOG2;
	return 0;
}

static uint64_t mapped_by(uint32_t levels)
{
	return UINT64_C(1) << (BASE_LOG2 + STEP_LOG2 * levels);
}

/* ---- one walk ---- */

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

int gm_walk_cost(const struct gm_walk_opts *opts, uint32_t guest_log2, uint32_t host_log2,
	uint32_t table_log2, struct gm_walk_cost *ret, struct gm_error *err)
{
	struct gm_walk_opts o;
	int rc = take_opts(opts, &o, err);
	uint32_t guest;
	uint32_t host;
	uint32_t least = 1;

	if (!rc)
		rc = check_result(ret->size, sizeof(*ret), err);
	if (!rc)
		rc = check_page(guest_log2, "the guest's pages", err);
	if (!rc && o.paging != GM_WALK_NATIVE)
		rc = check_page(host_log2, "the host's pages", err);
	if (!rc && o.paging == GM_WALK_NESTED && table_log2)
		rc = check_page(table_log2, "the host's pages under page tables", err);
	if (rc)
		return rc;

	if (o.paging == GM_WALK_NATIVE)
		host_log2 = guest_log2;
	guest = leaf_of(guest_log2);
	host = leaf_of(host_log2);
	ret->guest_loads = loads_of(o.guest_levels, guest);
	ret->loads = ret->guest_loads;
	if (o.paging == GM_WALK_NESTED) {
		uint32_t table = table_log2 ? leaf_of(table_log2) : host;

		ret->loads = ret->guest_loads * (loads_of(o.host_levels, table) + 1) +
			     loads_of(o.host_levels, host);
		least = 2;
	} else if (o.paging == GM_WALK_SHADOW) {
		ret->loads = loads_of(o.guest_levels, smaller(guest, host));
		ret->guest_loads = 0;
	}
	ret->least = least;
	ret->entry_log2 = leaf_log2(smaller(guest, host));
	ret->joined_log2 = smaller(guest_log2, host_log2);
	ret->reserved = 0;
	return 0;
}

/* ---- mixes ---- */

int gm_walk_mix_add(struct gm_walk_mix *mix, uint32_t log2, uint64_t bytes)
{
	uint64_t rest = bytes;
	uint64_t sum = 0;

	if (log2 < BASE_LOG2 || log2 > TOP_LOG2 || bytes % (UINT64_C(1) << BASE_LOG2))
		return -EINVAL;
	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		if (mix->bytes[i] > MIX_MAX - sum)
			return -ERANGE;
		sum += mix->bytes[i];
	}
	if (bytes > MIX_MAX - sum)
		return -ERANGE;
	for (uint32_t i = leaf_of(log2) + 1; i-- > 0;) {
		uint64_t whole = rest >> leaf_log2(i) << leaf_log2(i);

		mix->bytes[i] += whole;
		rest -= whole;
	}
	return 0;
}

/* What is large on both sides, if they are independent, as entries for as much memory as @guest. */
static void join(const struct gm_walk_mix *guest, const struct gm_walk_mix *host,
	uint64_t host_pages, struct gm_walk_mix *ret)
{
	struct gm_walk_mix out = {{0}};
	uint64_t sum_guest = 0;
	uint64_t sum_host = 0;
	uint64_t used = 0;

	for (uint32_t i = GM_WALK_LEAVES; i-- > 0;) {
		uint64_t both;

		sum_guest += guest->bytes[i] >> BASE_LOG2;
		sum_host += host->bytes[i] >> BASE_LOG2;
		both = divide((wide)sum_guest * sum_host, host_pages, QUOTIENT_BITS);
		out.bytes[i] = ((both << BASE_LOG2) - used) >> leaf_log2(i) << leaf_log2(i);
		used += out.bytes[i];
	}
	*ret = out;
}

uint64_t gm_walk_reach(
	const struct gm_walk_mix *entries, const uint32_t tlb_entries[GM_WALK_LEAVES])
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		uint64_t reach = (uint64_t)tlb_entries[i] << leaf_log2(i);

		sum += reach < entries->bytes[i] ? reach : entries->bytes[i];
	}
	return sum;
}

/* Sum over all pages of the loads down to them. */
static uint64_t sum_loads(const struct gm_walk_mix *mix, uint32_t levels)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++)
		sum += (mix->bytes[i] >> BASE_LOG2) * loads_of(levels, i);
	return sum;
}

/* a / b with POINT bits behind the point. */
static uint64_t fraction(wide a, wide b)
{
	return divide(a << POINT, b, MEAN_BITS);
}

static uint64_t to_thousandths(uint64_t fixed)
{
	return (fixed * 1000 + (UINT64_C(1) << (POINT - 1))) >> POINT;
}

static uint64_t mean_shadow(
	const struct gm_walk_mix *guest, const struct gm_walk_mix *host, uint32_t levels, wide all)
{
	wide sum = 0;

	for (uint32_t g = 0; g < GM_WALK_LEAVES; g++) {
		for (uint32_t h = 0; h < GM_WALK_LEAVES; h++)
			sum += (wide)(guest->bytes[g] >> BASE_LOG2) *
			       (host->bytes[h] >> BASE_LOG2) * loads_of(levels, smaller(g, h));
	}
	return fraction(sum, all);
}

int gm_walk_mean(const struct gm_walk_opts *opts, const struct gm_walk_mix *guest,
	const struct gm_walk_mix *host, const struct gm_walk_mix *tables, struct gm_walk_mean *ret,
	struct gm_error *err)
{
	struct gm_walk_opts o;
	uint64_t guest_pages = 0;
	uint64_t host_pages = 0;
	uint64_t table_pages = 0;
	uint64_t fixed;
	int rc = take_opts(opts, &o, err);

	if (!rc)
		rc = check_result(ret->size, sizeof(*ret), err);
	if (!rc)
		rc = check_mix(guest, "guest", mapped_by(o.guest_levels), &guest_pages, err);
	if (o.paging == GM_WALK_NATIVE && !rc) {
		ret->milliloads =
			to_thousandths(fraction(sum_loads(guest, o.guest_levels), guest_pages));
		ret->entries = *guest;
		return 0;
	}
	if (!tables)
		tables = host;
	if (!rc)
		rc = check_mix(host, "host", MIX_MAX, &host_pages, err);
	if (!rc)
		rc = check_mix(tables, "host under page tables", MIX_MAX, &table_pages, err);
	if (rc)
		return rc;

	if (o.paging == GM_WALK_SHADOW)
		fixed = mean_shadow(guest, host, o.guest_levels, (wide)guest_pages * host_pages);
	else
		fixed = fraction((wide)sum_loads(guest, o.guest_levels) *
					 (sum_loads(tables, o.host_levels) + table_pages),
				(wide)guest_pages * table_pages) +
			fraction(sum_loads(host, o.host_levels), host_pages);
	ret->milliloads = to_thousandths(fixed);
	join(guest, host, host_pages, &ret->entries);
	return 0;
}

/* ---- footprint ---- */

static uint64_t round_up(uint64_t n, uint32_t log2)
{
	return (n >> log2) + (n >> log2 << log2 != n);
}

/* Tables that map a dense, aligned memory, largest pages first: so each level's tables are one
 * stretch. */
static uint64_t table_bytes(const struct gm_walk_mix *mix, uint32_t levels)
{
	uint64_t below = 0; /* bytes that tables of this level lead to */
	uint64_t nr = 0;

	for (uint32_t level = 0; level < levels; level++) {
		if (level < GM_WALK_LEAVES)
			below += mix->bytes[level];
		nr += round_up(below, BASE_LOG2 + STEP_LOG2 * (level + 1));
	}
	return nr * TABLE_BYTES;
}

static uint64_t struct_bytes(const struct gm_walk_mix *mix, uint32_t flags)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		if (i > 0 && flags & GM_WALK_LEAN)
			bytes += (mix->bytes[i] >> leaf_log2(i)) * LEAN_BYTES;
		else
			bytes += (mix->bytes[i] >> BASE_LOG2) * STRUCT_BYTES;
	}
	return bytes;
}

/* The host's side. */
static void add_host(const struct gm_walk_opts *o, const struct gm_walk_mix *guest,
	const struct gm_walk_mix *host, uint64_t host_pages, struct gm_walk_footprint *f)
{
	struct gm_walk_mix both;

	f->host_tables = table_bytes(host, o->host_levels);
	if (o->flags & GM_WALK_TRANSPARENT)
		f->host_tables += (host->bytes[GM_WALK_2M] >> leaf_log2(GM_WALK_2M)) * TABLE_BYTES;
	f->host_structs = struct_bytes(host, o->flags);
	if (o->paging == GM_WALK_SHADOW) {
		join(guest, host, host_pages, &both);
		f->second_tables = table_bytes(&both, o->guest_levels);
	} else {
		f->second_tables = table_bytes(host, o->host_levels);
	}
}

int gm_walk_footprint(const struct gm_walk_opts *opts, const struct gm_walk_mix *guest,
	const struct gm_walk_mix *host, struct gm_walk_footprint *ret, struct gm_error *err)
{
	struct gm_walk_footprint f = {0};
	struct gm_walk_opts o;
	uint64_t guest_pages = 0;
	uint64_t host_pages = 0;
	int rc = take_opts(opts, &o, err);

	if (!rc)
		rc = check_result(ret->size, sizeof(*ret), err);
	if (!rc)
		rc = check_mix(guest, "guest", mapped_by(o.guest_levels), &guest_pages, err);
	if (!rc && o.paging != GM_WALK_NATIVE)
		rc = check_mix(host, "host", mapped_by(o.host_levels), &host_pages, err);
	if (!rc && o.paging != GM_WALK_NATIVE && guest_pages != host_pages)
		rc = gm_error_set(err, -EINVAL, 0, 0,
			"walk: the guest has 0x%llx bytes, the host 0x%llx for it",
			(unsigned long long)guest_pages << BASE_LOG2,
			(unsigned long long)host_pages << BASE_LOG2);
	if (rc)
		return rc;

	f.size = ret->size;
	f.guest_tables = table_bytes(guest, o.guest_levels);
	f.guest_structs = struct_bytes(guest, 0);
	if (o.paging != GM_WALK_NATIVE)
		add_host(&o, guest, host, host_pages, &f);
	f.total =
		f.guest_tables + f.host_tables + f.second_tables + f.guest_structs + f.host_structs;
	*ret = f;
	return 0;
}
