/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wset.h - recorded working sets (docs/workingset-format.md): stretches of pages with a history, an order of first
 * touches, and both as bytes.
 *
 * No I/O, no memory of its own, no sums. Bytes are anybody's: each number is bounded by the image, by the file's length
 * and by those in front of it before anything uses it. A page's *rank* is how many pages of the set lie below it.
 */
#ifndef GM_CORE_WSET_H
#define GM_CORE_WSET_H

#include <guestmem/wset.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_WSET_VERSION 1u
#define GM_WSET_HEAD 80u
#define GM_WSET_SUM 8u /* the last bytes of the file */
#define GM_WSET_BITS 12u
#define GM_WSET_LEN_MAX                                                                            \
	((UINT64_C(1) << 44) - 4096) /* of an image: numbers of pages fit into 32 bits */

/* Pages in a row with the same history: bit i is the recording before i others, of @recordings. */
struct gm_wset_stretch {
	uint32_t first;
	uint32_t nr;
	uint32_t rank; /* of the first */
	uint32_t seen;
};

/* What a set is, borrowed. */
struct gm_wset_body {
	uint8_t identity[16];
	uint64_t len; /* bytes of the image */
	uint32_t recordings;
	uint32_t pages;
	size_t nr_stretches;
	size_t nr_order;
	const struct gm_wset_stretch *stretches;
	const uint32_t *order; /* ranks, the first touched first */
};

static inline uint64_t gm_wset_pages_of(uint64_t len)
{
	return len ? ((len - 1) >> GM_WSET_BITS) + 1 : 0;
}

/* ---- stretches ---- */

/* Appends pages; joined with what is in front of them if that ends there with the same history. Ranks are set. */
void gm_wset_push(struct gm_wset_stretch *stretches, size_t *nr, uint32_t first, uint32_t pages,
	uint32_t seen);
/* Both, with the history of @a made older by @recordings: @to has room for 2 * (nr_a + nr_b). Returns how many. */
size_t gm_wset_join(const struct gm_wset_stretch *a, size_t nr_a, const struct gm_wset_stretch *b,
	size_t nr_b, uint32_t recordings, struct gm_wset_stretch *to);
/* Leaves, in place, pages that were seen @least times in the last @last recordings. Returns how many stretches. */
size_t gm_wset_keep(struct gm_wset_stretch *stretches, size_t nr, uint32_t last, uint32_t least);
/* Where a page is: its stretch, or the first one behind it, @nr if there is none. */
size_t gm_wset_find(const struct gm_wset_stretch *stretches, size_t nr, uint32_t page);
/* The rank of a page; false if it is not in the set. And the page of a rank, which is in the set. */
bool gm_wset_rank(
	const struct gm_wset_stretch *stretches, size_t nr, uint32_t page, uint32_t *ret_rank);
uint32_t gm_wset_page(const struct gm_wset_stretch *stretches, size_t nr, uint32_t rank);

/* ---- bytes ---- */

/*
 * Bytes of the file, and how much of the order is in it: at most a bit for each page of the image and two bytes for
 * each page of the set, beside head and sum and, of several recordings, the histories.
 */
uint64_t gm_wset_measure(const struct gm_wset_body *body, size_t *ret_ordered);
/* All but the sum, which is the caller's. @len and @ordered are those of measure(). */
void gm_wset_encode(const struct gm_wset_body *body, size_t ordered, uint8_t *bytes, uint64_t len);

/*
 * Decoding: 0, -EPROTO, or -ENOTSUP for another version, with *ret_why a constant text. The head says how much room the
 * rest needs: no more than a small multiple of the file's length.
 */
int gm_wset_look(const uint8_t *bytes, uint64_t len, uint32_t *ret_version, const char **ret_why);
int gm_wset_get_head(
	const uint8_t *bytes, uint64_t len, struct gm_wset_body *ret_body, const char **ret_why);
int gm_wset_get_body(const uint8_t *bytes, uint64_t len, const struct gm_wset_body *head,
	struct gm_wset_stretch *stretches, uint32_t *order, const char **ret_why);
/* Of a sorted copy of the order: no page is in it twice. */
bool gm_wset_is_distinct(const uint32_t *sorted, size_t nr);

#endif
