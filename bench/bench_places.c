/* SPDX-License-Identifier: BSD-3-Clause */
/* bench_places.c - see bench_places.h. */
#include "bench_places.h"

#include <string.h>

#define REGION (UINT64_C(2) << 30)
#define REGIONS 8

struct place places_512[PLACES];
struct place places_96[PLACES];
struct place places_8[PLACES];
struct gm_reader *places_reader;
const struct gm_view *places_view;

static void make_places(struct place *places, uint8_t *base, size_t len)
{
	const uint64_t gpas[PLACES] = {0, REGION - len / 2, 7 * REGION - len / 2, 7 * REGION};

	for (size_t i = 0; i < PLACES; i++) {
		places[i] = (struct place){gpas[i], len, base + gpas[i]};
		memset(places[i].raw, 1, len);
	}
}

void places_make(void)
{
	struct gm_block_opts backing = {
		.size = sizeof(backing), .len = REGION, .reserve = GM_RESERVE_NONE};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_region_desc descs[REGIONS];
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_error err;

	for (uint64_t i = 0; i < REGIONS; i++)
		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = i * REGION, .backing = &backing};
	bench_need(
		gm_space_build(NULL, descs, REGIONS, &space, &err) == 0, "eight regions", err.text);
	bench_need(gm_reader_create(space, "section", &reader, &err) == 0, "reader", err.text);
	bench_need(
		gm_reader_create(space, "streams", &places_reader, &err) == 0, "reader", err.text);
	bench_need(
		gm_space_next(space, 0, &info) == 0 && info.placed, "regions in the window", NULL);
	make_places(places_512, info.hva, 512);
	make_places(places_96, info.hva, 96);
	make_places(places_8, info.hva, 8);
	bench_need(gm_guard_install() == 0, "guard", NULL);
	places_view = gm_reader_enter(reader);
}
