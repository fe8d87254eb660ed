/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waste.h - what the parts of a look at waste share.
 *
 *   waste.c       extents to units, reasons, sums
 *   waste_read.c  contents: zeros, and what is there twice
 */
#ifndef GM_SERVICES_WASTE_H
#define GM_SERVICES_WASTE_H

#include <guestmem/waste.h>

#include "core/range.h"
#include "core/sort.h"
#include "services/residency.h"

#define GM_UNIT_EXTENTS 512u
#define GM_WASTE_CHUNK UINT64_C(65536)

/* A mapping as far as reasons need it. */
struct gm_waste_mapping {
	uint64_t start;
	uint64_t end;
	uint32_t flags; /* GM_MAPPING_* */
	bool askew;     /* huge pages of its file are none of its addresses */
};

/* Contents that are followed: sum and address. */
struct gm_contents {
	struct gm_sort_pair *list;
	size_t nr;
	size_t cap;
};

struct gm_wasting {
	struct gm_residency *res;
	pid_t pid; /* 0: this one */
	struct gm_waste_opts opts;
	int (*fn)(void *arg, const struct gm_waste_unit *unit);
	void *arg;
	int stopped;
	int code; /* what ended it */
	uint64_t unit_size;
	uint64_t page;
	uint64_t start; /* of the range */
	uint64_t end;
	uint64_t gpa; /* at start, of a space */
	bool in_space;
	struct gm_waste_mapping *maps;
	size_t nr_maps;
	size_t cap_maps;
	struct gm_waste sum;
	struct gm_contents contents;
	/* the unit that is being collected: */
	struct gm_waste_unit unit;
	bool open;
	bool split;
	bool merged;
	size_t nr;
	struct gm_range present[GM_UNIT_EXTENTS];
	uint8_t bytes[GM_WASTE_CHUNK];
};

/* ---- waste_read.c ---- */
/* Reads what is present of the unit. 0 or what ends it all. */
int gm_waste_read(struct gm_wasting *w);
/* Compares what seems to be the same. */
int gm_waste_compare(struct gm_wasting *w);

#endif
