/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table.h - look-up of an address among spans: slots, leaves, buckets.
 *
 * A view's addresses are cut into equal slots, few enough to be copied with each change. A slot
 * leads to a leaf: the spans that lie in it, and a table of buckets that names for each the first
 * span that ends in or after it. So a look-up is three loads and, mostly, one comparison, for 8
 * spans as for 10 000. A slot with too many spans for a leaf is cut again.
 *
 * Spans are not cut at the borders of slots: one that crosses them stands in several leaves.
 */
#ifndef GM_CORE_TABLE_H
#define GM_CORE_TABLE_H

#include <guestmem/view.h>
#include <stddef.h>

#include "core/range.h"

/* Bits of gm_span.perms above GM_PERM_*. */
#define GM_SPAN_HOLE 0x100u   /* nothing is there: an access is -EFAULT */
#define GM_SPAN_DEVICE 0x200u /* @owner is a struct gm_device, @delta leads to its offset */
#define GM_SPAN_ROMD 0x800u   /* writes go to the device of the mapping's block */
#define GM_SPAN_IOMMU 0x1000u /* @owner is a struct gm_iommu, @delta leads to its IOVA */
#define GM_SPAN_FAR 0x2000u   /* memory without a host address: @delta leads to its block's byte */
#define GM_SPAN_PRIVATE 0x4000u /* a part that is private: an access is -EACCES */
#define GM_SPAN_DEVMEM 0x8000u  /* memory of a device: single accesses of 1 to 8 bytes */
#define GM_SPAN_PLANNED 0x400u  /* being built: @owner is a struct gm_piece */

#define GM_LEAF_MAX 64u /* spans in a leaf */

/* The leaf of slots in which nothing is. */
uintptr_t gm_slot_empty(void);

static inline bool gm_slot_is_dir(uintptr_t slot)
{
	return slot & 1;
}

static inline struct gm_dir *gm_slot_dir(uintptr_t slot)
{
	return (struct gm_dir *)(slot - 1);
}

static inline struct gm_leaf *gm_slot_leaf(uintptr_t slot)
{
	return (struct gm_leaf *)slot;
}

static inline uintptr_t *gm_dir_slots(struct gm_dir *dir)
{
	return (uintptr_t *)(dir + 1);
}

static inline struct gm_span *gm_leaf_spans(struct gm_leaf *leaf)
{
	return (struct gm_span *)(uintptr_t)leaf->spans;
}

/* What shows by a span. */
struct gm_origin {
	uint64_t off;  /* where in its region it begins */
	uint32_t use;  /* upper half of the region's number; the lower one is gm_span.node + 1 */
	uint32_t kind; /* enum gm_region_kind */
};

/*
 * gm_leaf.kept: which of these a leaf keeps, each in an array behind its spans. What it does not keep is 0 for all:
 * most spans begin where their region does, and it is RAM.
 */
#define GM_KEPT_OFF 1u
#define GM_KEPT_USE 2u
#define GM_KEPT_KIND 4u

static inline uint32_t gm_origin_kept(const struct gm_origin *origin)
{
	return (origin->off ? GM_KEPT_OFF : 0) | (origin->use ? GM_KEPT_USE : 0) |
	       (origin->kind ? GM_KEPT_KIND : 0);
}

struct gm_origin gm_leaf_origin(const struct gm_leaf *leaf, uint32_t i);
/* Nothing is to be set that the leaf does not keep. */
void gm_leaf_set_origin(struct gm_leaf *leaf, uint32_t i, const struct gm_origin *origin);

/* Bytes of a leaf with @nr spans. */
size_t gm_leaf_size(uint32_t nr, uint32_t kept);

/* Sets up a leaf of gm_leaf_size() zeroed bytes; its spans and origins are to be filled in. */
void gm_leaf_init(struct gm_leaf *leaf, uint32_t nr, uint32_t kept);

/* The spans have their addresses: makes the buckets for a slot over @range, a power of two. */
void gm_leaf_index(struct gm_leaf *leaf, const struct gm_range *range);

/* How many slots (a power of two) a stretch with so many spans is cut into. */
uint32_t gm_table_slots(size_t nr_spans);

/* The span that holds @gpa, or NULL. */
const struct gm_span *gm_table_find(const struct gm_view *view, uint64_t gpa);

/*
 * The span that holds @gpa or else the first one above, a hole's too; NULL if there is none.
 * *ret_off is where in its region it begins.
 */
const struct gm_span *gm_table_next(const struct gm_view *view, uint64_t gpa, uint64_t *ret_off);

/* The same, with all that is known of it. */
const struct gm_span *gm_table_next_origin(
	const struct gm_view *view, uint64_t gpa, struct gm_origin *ret);

/* The one behind a span of the view, or NULL. */
const struct gm_span *gm_table_after(
	const struct gm_view *view, const struct gm_span *span, uint64_t *ret_off);
const struct gm_span *gm_table_after_origin(
	const struct gm_view *view, const struct gm_span *span, struct gm_origin *ret);

#endif
