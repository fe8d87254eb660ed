/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_places.c - layouts of a migration, and what lies in them: places, pages, bitmaps. What is accepted gives
 * the same bytes again, what is refused changes nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/migrate_wire.h"
#include "random.h"
#include "support.h"

#define ALL GM_MIGRATE_FEATURES
#define REGION_PAGES(r) ((r)->len / 4096)

/* At its exact length, and back. */
static int layout_as(const struct gm_migrate_region *regions, uint32_t nr, uint32_t features)
{
	struct gm_migrate_region *got = calloc(nr + 1, sizeof(*got));
	uint8_t *bytes = malloc((size_t)nr * GM_MIGRATE_REGION + !nr);
	const char *why = NULL;
	int rc;

	assert_true(got && bytes);
	for (uint32_t i = 0; i < nr; i++)
		gm_migrate_put_region(&regions[i], bytes + (size_t)i * GM_MIGRATE_REGION);
	rc = gm_migrate_get_layout(bytes, nr, features, got, &why);
	assert_true(rc == 0 || (rc == -EPROTO && why));
	for (uint32_t i = 0; i < nr; i++) {
		assert_true(got[i].gpa == (rc ? 0 : regions[i].gpa));
		assert_true(got[i].len == (rc ? 0 : regions[i].len));
		assert_true(got[i].fd_off == (rc ? 0 : regions[i].fd_off));
		assert_int_equal(got[i].page_log2, rc ? 0 : regions[i].page_log2);
		assert_int_equal(got[i].by_fd, rc ? 0 : regions[i].by_fd);
	}
	assert_int_equal(got[nr].len, 0);
	free(bytes);
	free(got);
	return rc;
}

static void layouts_ascend_without_overlaps(void **state)
{
	const uint64_t half = UINT64_C(1) << 63;
	const uint64_t top = UINT64_MAX - 4095;
	const struct {
		struct gm_migrate_region regions[3];
		uint32_t nr;
		bool may;
	} cases[] = {
		{{{0, 4096, 0, 12, false}}, 1, true},
		{{{top, 4096, 0, 12, false}}, 1, true}, /* ends at 2^64 */
		{{{half, half, 0, 30, false}}, 1, true},
		{{{0, half, 0, 12, false}, {half, half, 0, 30, false}}, 2, true},
		{{{0, 0, 0, 12, false}}, 1, false},
		{{{half, 0, 0, 12, false}}, 1, false},
		{{{top, 8192, 0, 12, false}}, 1, false}, /* wraps */
		{{{half, half + 4096, 0, 12, false}}, 1, false},
		{{{4096, top, 0, 12, false}}, 1, true},
		{{{8192, top, 0, 12, false}}, 1, false},
		{{{0, 4096, 0, 12, false}, {4096, 4096, 0, 12, false}}, 2, true}, /* side by side */
		{{{0, 8192, 0, 12, false}, {4096, 4096, 0, 12, false}}, 2, false},
		{{{0, 4096, 0, 12, false}, {0, 4096, 0, 12, false}}, 2, false},
		{{{4096, 4096, 0, 12, false}, {0, 8192, 0, 12, false}}, 2, false},
		{{{4096, 4096, 0, 12, false}, {0, 4096, 0, 12, false}}, 2, false}, /* descends */
		{{{0, 4096, 0, 12, false}, {8192, 4096, 0, 12, false}, {4096, 4096, 0, 12, false}},
			3, false},
		{{{top, 4096, 0, 12, false}, {0, 4096, 0, 12, false}}, 2, false},
		{{{top, 4096, 0, 12, false}, {top, 4096, 0, 12, false}}, 2, false},
		{{{0, 4096, 0, 12, true}, {4096, 4096, 0, 12, false}, {8192, 4096, 0, 12, true}}, 3,
			true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc = layout_as(cases[i].regions, cases[i].nr, ALL);

		if (rc != (cases[i].may ? 0 : -EPROTO))
			fail_msg("layout %zu is %d", i, rc);
	}
	assert_int_equal(layout_as(NULL, 0, ALL), -EPROTO);
}

static void regions_are_of_whole_pages(void **state)
{
	static const uint32_t wrong[] = {0, 1, 11, 31, 32, 63, 64, 76, 1u << 31, UINT32_MAX};

	(void)state;
	for (uint32_t log2 = 12; log2 <= 30; log2++) {
		const uint64_t size = UINT64_C(1) << log2;
		const struct gm_migrate_region good = {.gpa = size, .len = size, .page_log2 = log2};

		assert_int_equal(layout_as(&good, 1, ALL), 0);
		for (uint64_t off = 1; off < size; off *= 2) {
			struct gm_migrate_region bad = good;

			bad.gpa += off;
			assert_int_equal(layout_as(&bad, 1, ALL), -EPROTO);
			bad = good;
			bad.len += off;
			assert_int_equal(layout_as(&bad, 1, ALL), -EPROTO);
			bad.len = off;
			assert_int_equal(layout_as(&bad, 1, ALL), -EPROTO);
		}
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const struct gm_migrate_region bad = {.len = GIB(4), .page_log2 = wrong[i]};

		assert_int_equal(layout_as(&bad, 1, ALL), -EPROTO);
	}
}

static struct gm_migrate_region *many(uint32_t nr)
{
	struct gm_migrate_region *regions = calloc(nr, sizeof(*regions));

	assert_non_null(regions);
	for (uint32_t i = 0; i < nr; i++)
		regions[i] = (struct gm_migrate_region){
			.gpa = (uint64_t)i << 21, .len = 1u << 21, .page_log2 = i % 2 ? 21 : 12};
	return regions;
}

static void a_layout_has_at_most_4096_regions(void **state)
{
	struct gm_migrate_region *regions = many(4097);

	(void)state;
	assert_int_equal(layout_as(regions, 4096, 0), 0);
	assert_int_equal(layout_as(regions, 4097, 0), -EPROTO);
	/* Each is compared with the one before it. */
	for (uint32_t i = 1; i < 4096; i += 273) {
		regions[i].gpa -= 1u << 21;
		assert_int_equal(layout_as(regions, 4096, 0), -EPROTO);
		regions[i].gpa += 1u << 21;
	}
	free(regions);
}

static void at_most_253_regions_come_as_descriptors(void **state)
{
	struct gm_migrate_region *regions = many(300);

	(void)state;
	for (uint32_t i = 0; i < 253; i++)
		regions[i].by_fd = true;
	assert_int_equal(layout_as(regions, 300, ALL), 0);
	assert_int_equal(layout_as(regions, 300, GM_MIGRATE_FDS), 0);
	regions[299].by_fd = true;
	assert_int_equal(layout_as(regions, 300, ALL), -EPROTO);
	assert_int_equal(layout_as(regions, 299, ALL), 0);
	/* None without the feature. */
	assert_int_equal(layout_as(regions, 1, ALL & ~GM_MIGRATE_FDS), -EPROTO);
	regions[0].by_fd = false;
	assert_int_equal(layout_as(regions, 1, 0), 0);
	free(regions);
}

static void a_region_begins_at_whole_pages_of_its_file(void **state)
{
	const uint64_t top = (uint64_t)INT64_MAX + 1;

	(void)state;
	for (uint32_t log2 = 12; log2 <= 30; log2++) {
		const uint64_t size = UINT64_C(1) << log2;
		struct gm_migrate_region region = {
			.len = 3 * size, .page_log2 = log2, .by_fd = true};

		for (uint64_t off = 1; off && off <= UINT64_C(1) << 63; off *= 2) {
			region.fd_off = off;
			assert_int_equal(
				layout_as(&region, 1, ALL), off >= size && off < top ? 0 : -EPROTO);
		}
		/* The last page of a file ends one page below 2^63. */
		region.fd_off = top - 4 * size;
		assert_int_equal(layout_as(&region, 1, ALL), 0);
		region.fd_off += size;
		assert_int_equal(layout_as(&region, 1, ALL), -EPROTO);
		region.fd_off = 0 - 3 * size;
		assert_int_equal(layout_as(&region, 1, ALL), -EPROTO);
		region.fd_off = 0 - size;
		assert_int_equal(layout_as(&region, 1, ALL), -EPROTO);
		region.fd_off = 0;
		assert_int_equal(layout_as(&region, 1, ALL), 0);
		region.len = top;
		assert_int_equal(layout_as(&region, 1, ALL), -EPROTO);
		region.len -= size;
		assert_int_equal(layout_as(&region, 1, ALL), 0);
	}
}

static void without_a_descriptor_there_is_no_offset(void **state)
{
	struct gm_migrate_region region = {.len = 4096, .page_log2 = 12};

	(void)state;
	assert_int_equal(layout_as(&region, 1, ALL), 0);
	for (uint64_t off = 1; off; off *= 2) {
		region.fd_off = off;
		assert_int_equal(layout_as(&region, 1, ALL), -EPROTO);
	}
}

static void what_is_reserved_in_a_region_is_zero(void **state)
{
	const struct gm_migrate_region region = {.len = 4096, .page_log2 = 12, .by_fd = true};
	uint8_t bytes[GM_MIGRATE_REGION];
	struct gm_migrate_region got;
	const char *why;

	(void)state;
	for (unsigned int bit = 8 * 20 + 1; bit < 8 * 24; bit++) {
		gm_migrate_put_region(&region, bytes);
		assert_int_equal(gm_migrate_get_layout(bytes, 1, ALL, &got, &why), 0);
		bytes[bit / 8] |= (uint8_t)(1u << (bit % 8));
		assert_int_equal(gm_migrate_get_layout(bytes, 1, ALL, &got, &why), -EPROTO);
	}
}

/* A small one, one of huge pages, the largest, and one at the top. */
static const struct gm_migrate_region regions[] = {
	{.gpa = 0, .len = 0xa0000, .page_log2 = 12},
	{.gpa = GIB(1), .len = GIB(2), .page_log2 = 30},
	{.gpa = GIB(4), .len = UINT64_C(1) << 63, .page_log2 = 30},
	{.gpa = UINT64_MAX - 4095, .len = 4096, .page_log2 = 12},
};

static int place_as(const struct gm_migrate_place *place, uint32_t nr)
{
	struct gm_migrate_place got = {.region = 99};
	uint8_t *bytes = malloc(GM_MIGRATE_PLACE);
	uint8_t again[GM_MIGRATE_PLACE];
	const char *why = NULL;
	int rc;

	assert_non_null(bytes);
	gm_migrate_put_place(place, bytes);
	rc = gm_migrate_get_place(bytes, regions, nr, &got, &why);
	assert_true(
		rc ? rc == -EPROTO && why && got.region == 99 : !memcmp(&got, place, sizeof(got)));
	gm_migrate_put_place(rc ? place : &got, again);
	assert_memory_equal(again, bytes, sizeof(again));
	free(bytes);
	return rc;
}

static void places_lie_in_their_regions(void **state)
{
	(void)state;
	for (uint32_t r = 0; r < 4; r++) {
		const uint64_t pages = REGION_PAGES(&regions[r]);
		const uint64_t firsts[] = {0, 1, pages - 2, pages - 1, pages, pages + 1,
			pages + (UINT64_C(1) << 32), UINT64_C(1) << 63, UINT64_MAX - 1, UINT64_MAX};
		const uint32_t nrs[] = {0, 1, 2, 3, (uint32_t)pages - 1, (uint32_t)pages,
			(uint32_t)pages + 1, 1u << 31, UINT32_MAX};

		for (size_t f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++) {
			for (size_t n = 0; n < sizeof(nrs) / sizeof(nrs[0]); n++) {
				const struct gm_migrate_place place = {
					.region = r, .nr = nrs[n], .first = firsts[f]};
				unsigned __int128 end = (unsigned __int128)firsts[f] + nrs[n];

				assert_int_equal(
					place_as(&place, 4), nrs[n] && end <= pages ? 0 : -EPROTO);
				assert_int_equal(place_as(&place, r), -EPROTO);
			}
		}
	}
	for (uint32_t r = 4; r; r *= 2)
		assert_int_equal(
			place_as(&(struct gm_migrate_place){.region = r, .nr = 1}, 4), -EPROTO);
	assert_int_equal(place_as(&(struct gm_migrate_place){.nr = 1}, 0), -EPROTO);
}

static int pages_as(
	const struct gm_migrate_pages *pages, uint32_t len, uint32_t pages_max, uint32_t features)
{
	struct gm_migrate_pages got = {.kind = 99};
	uint8_t *bytes = malloc(GM_MIGRATE_PAGES_HEAD);
	const char *why = NULL;
	int rc;

	assert_non_null(bytes);
	gm_migrate_put_pages(pages, bytes);
	rc = gm_migrate_get_pages(bytes, len, regions, 4, pages_max, features, &got, &why);
	assert_true(
		rc ? rc == -EPROTO && why && got.kind == 99 : !memcmp(&got, pages, sizeof(got)));
	free(bytes);
	return rc;
}

/* What may be stored for so many pages, by the specification. */
static bool may_store(uint32_t kind, uint32_t stored, uint32_t nr, uint32_t features)
{
	if (kind == 1)
		return stored == 4096 * nr;
	if (kind == 2 || kind == 3)
		return (features & (kind - 1)) && stored >= 1 && stored < 4096 * nr;
	return (kind == 4 || kind == 5) && stored == 0;
}

static void pages_are_as_their_kind_has_to_be(void **state)
{
	static const uint32_t nrs[] = {1, 2, 17, 1023, 1024};

	(void)state;
	for (unsigned int i = 0; i < 5 * 9 * 4; i++) {
		uint32_t nr = nrs[i % 5];
		uint32_t kind = i / 5 % 9 == 8 ? UINT32_MAX : i / 5 % 9;
		uint32_t features = i / 45;
		const uint32_t stored[] = {
			0, 1, 2, 4095, 4096, 4096 * nr - 1, 4096 * nr, 4096 * nr + 1, 4096 * 1024};

		for (size_t s = 0; s < sizeof(stored) / sizeof(stored[0]); s++) {
			const struct gm_migrate_pages pages = {.place = {.region = 1, .nr = nr},
				.kind = kind,
				.stored = stored[s]};
			int right = may_store(kind, stored[s], nr, features) ? 0 : -EPROTO;

			assert_int_equal(pages_as(&pages, 24 + stored[s], 1024, features), right);
			/* The head has to say the same. */
			assert_int_equal(pages_as(&pages, 25 + stored[s], 1024, features), -EPROTO);
			assert_int_equal(pages_as(&pages, 23 + stored[s], 1024, features), -EPROTO);
		}
	}
}

static void pages_are_no_more_than_agreed_on(void **state)
{
	static const uint32_t most[] = {1, 2, 64, 1023, 1024};
	struct gm_migrate_pages zeros = {.place = {.region = 1}, .kind = GM_MIGRATE_ZEROS};

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		for (uint32_t nr = most[i] - 1; nr <= most[i] + 1; nr++) {
			zeros.place.nr = nr;
			assert_int_equal(pages_as(&zeros, 24, most[i], ALL),
				nr && nr <= most[i] ? 0 : -EPROTO);
		}
	}
	/* Whatever was agreed on. */
	zeros.place.nr = 1025;
	assert_int_equal(pages_as(&zeros, 24, UINT32_MAX, ALL), -EPROTO);
	zeros.place = (struct gm_migrate_place){.region = 3, .nr = 2};
	assert_int_equal(pages_as(&zeros, 24, 1024, ALL), -EPROTO);
	zeros.place.nr = 1;
	assert_int_equal(pages_as(&zeros, 24, 1024, ALL), 0);
	/* Shorter than their own head: no wrap. */
	for (uint32_t len = 0; len < 24; len++) {
		zeros.stored = len - 24;
		assert_int_equal(pages_as(&zeros, len, 1024, ALL), -EPROTO);
	}
}

static int bits_as(uint32_t nr, const uint8_t *bits, uint32_t len)
{
	const struct gm_migrate_place place = {.nr = nr};
	uint8_t *copy = malloc(len ? len : 1);
	const char *why = NULL;
	int rc;

	assert_non_null(copy);
	memcpy(copy, bits, len);
	rc = gm_migrate_check_bits(&place, copy, len, &why);
	assert_true(rc == 0 || (rc == -EPROTO && why));
	free(copy);
	return rc;
}

static void bitmaps_have_no_bits_behind_their_pages(void **state)
{
	uint8_t bits[16];

	(void)state;
	for (uint32_t nr = 1; nr <= 100; nr++) {
		uint32_t len = (nr + 7) / 8;

		assert_int_equal(gm_migrate_bits_len(&(struct gm_migrate_place){.nr = nr}), len);
		memset(bits, 0, sizeof(bits));
		assert_int_equal(bits_as(nr, bits, len), 0);
		assert_int_equal(bits_as(nr, bits, len - 1), -EPROTO);
		assert_int_equal(bits_as(nr, bits, len + 1), -EPROTO);
		for (uint32_t bit = 0; bit < 8 * len; bit++) {
			bits[bit / 8] ^= (uint8_t)(1u << (bit % 8));
			assert_int_equal(bits_as(nr, bits, len), bit < nr ? 0 : -EPROTO);
			bits[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		}
		for (uint32_t bit = 0; bit < nr; bit++)
			bits[bit / 8] |= (uint8_t)(1u << (bit % 8));
		assert_int_equal(bits_as(nr, bits, len), 0);
	}
	assert_int_equal(bits_as(0, bits, 0), -EPROTO);
	assert_int_equal(bits_as(0, bits, 1), -EPROTO);
}

static void a_bitmap_has_at_most_64_kib(void **state)
{
	const uint32_t most = 64u << 10;
	uint8_t *bits = malloc(most + 1);

	(void)state;
	assert_non_null(bits);
	memset(bits, 0xff, most + 1);
	assert_int_equal(bits_as(8 * most, bits, most), 0);
	assert_int_equal(bits_as(8 * most - 1, bits, most), -EPROTO);
	bits[most] = 0;
	assert_int_equal(bits_as(8 * most + 1, bits, most + 1), -EPROTO);
	assert_int_equal(bits_as(8 * most + 1, bits, most), -EPROTO);
	assert_int_equal(bits_as(UINT32_MAX, bits, most), -EPROTO);
	assert_int_equal(
		gm_migrate_bits_len(&(struct gm_migrate_place){.nr = UINT32_MAX}), 1u << 29);
	free(bits);
}

/* Any regions that ascend are a layout; any place in them is one; and the next page behind is not. */
static void random_layouts_and_places_come_back(void **state)
{
	struct rng rng = {test_seed(101)};

	(void)state;
	for (unsigned long i = 0; i < support_scale(2000); i++) {
		struct gm_migrate_region layout[20];
		uint32_t nr = 1 + (uint32_t)rng_below(&rng, 20);
		uint64_t at = 0;

		for (uint32_t r = 0; r < nr; r++) {
			uint32_t log2 = 12 + (uint32_t)rng_below(&rng, 19);
			uint64_t size = UINT64_C(1) << log2;

			at = (at + size - 1) / size * size + rng_below(&rng, 3) * size;
			layout[r] = (struct gm_migrate_region){.gpa = at,
				.len = (1 + (rng_below(&rng, 1000))) * size,
				.page_log2 = log2,
				.by_fd = rng_below(&rng, 2)};
			if (layout[r].by_fd)
				layout[r].fd_off = rng_below(&rng, 1000) * size;
			at += layout[r].len;
		}
		assert_int_equal(layout_as(layout, nr, ALL), 0);
		for (uint32_t r = 0; r < nr; r++) {
			uint64_t pages = REGION_PAGES(&layout[r]);
			uint64_t first = rng_below(&rng, pages);
			uint64_t left = pages - first < 1u << 31 ? pages - first : 1u << 31;
			struct gm_migrate_place place = {.region = r,
				.nr = 1 + (uint32_t)rng_below(&rng, left),
				.first = first};
			uint8_t bytes[GM_MIGRATE_PLACE];
			struct gm_migrate_place got;
			const char *why;

			gm_migrate_put_place(&place, bytes);
			assert_int_equal(gm_migrate_get_place(bytes, layout, nr, &got, &why), 0);
			assert_memory_equal(&got, &place, sizeof(got));
			place.first = pages - place.nr + 1;
			gm_migrate_put_place(&place, bytes);
			assert_int_equal(
				gm_migrate_get_place(bytes, layout, nr, &got, &why), -EPROTO);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layouts_ascend_without_overlaps),
		cmocka_unit_test(regions_are_of_whole_pages),
		cmocka_unit_test(a_layout_has_at_most_4096_regions),
		cmocka_unit_test(at_most_253_regions_come_as_descriptors),
		cmocka_unit_test(a_region_begins_at_whole_pages_of_its_file),
		cmocka_unit_test(without_a_descriptor_there_is_no_offset),
		cmocka_unit_test(what_is_reserved_in_a_region_is_zero),
		cmocka_unit_test(places_lie_in_their_regions),
		cmocka_unit_test(pages_are_as_their_kind_has_to_be),
		cmocka_unit_test(pages_are_no_more_than_agreed_on),
		cmocka_unit_test(bitmaps_have_no_bits_behind_their_pages),
		cmocka_unit_test(a_bitmap_has_at_most_64_kib),
		cmocka_unit_test(random_layouts_and_places_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
