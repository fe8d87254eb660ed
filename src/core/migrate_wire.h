/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_wire.h - the messages of a migration (docs/migration-protocol.md): bytes to structures and back.
 *
 * No I/O, no sums, no memory of its own. What is decoded is bounded by itself: by the table of what each type
 * may carry, who may send it and where it may come. What it means at that moment is the state machines' to say.
 */
#ifndef GM_CORE_MIGRATE_WIRE_H
#define GM_CORE_MIGRATE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_MIGRATE_VERSION 1u
#define GM_MIGRATE_OPEN 64u
#define GM_MIGRATE_OPENED 32u
#define GM_MIGRATE_HEAD 24u
#define GM_MIGRATE_SUMMED 16u /* bytes of the head that the sum is of */
#define GM_MIGRATE_REGION 32u
#define GM_MIGRATE_PLACE 16u
#define GM_MIGRATE_PAGES_HEAD 24u /* of PAGES, before the stored bytes */
#define GM_MIGRATE_SWITCH_LEN 8u

#define GM_MIGRATE_PAGE_LOG2 12u     /* of what places and bitmaps count */
#define GM_MIGRATE_PAGE_LOG2_MAX 30u /* of what a region may consist of */
#define GM_MIGRATE_PAGES_MAX 1024u   /* of a message */
#define GM_MIGRATE_REGIONS_MAX 4096u
#define GM_MIGRATE_FDS_MAX 253u /* regions by descriptor: what Linux takes with one message */
#define GM_MIGRATE_PLACES_MAX 4096u
#define GM_MIGRATE_STATE_PIECE (1u << 20)
#define GM_MIGRATE_STATE_MAX ((uint64_t)INT64_MAX) /* bytes in all */
#define GM_MIGRATE_TEXT_MAX 255u
#define GM_MIGRATE_BITS_MAX (64u << 10) /* bytes of a bitmap in HAVE */
#define GM_MIGRATE_BULK_MAX 16u
#define GM_MIGRATE_URGENT_MAX 4u
#define GM_MIGRATE_LEN_MAX (GM_MIGRATE_PAGES_HEAD + (GM_MIGRATE_PAGES_MAX << GM_MIGRATE_PAGE_LOG2))

enum gm_migrate_role { GM_MIGRATE_CONTROL = 1, GM_MIGRATE_BULK, GM_MIGRATE_URGENT };

/* gm_migrate_open.features */
#define GM_MIGRATE_ZSTD 0x1u
#define GM_MIGRATE_LZ4 0x2u
#define GM_MIGRATE_POSTCOPY 0x4u
#define GM_MIGRATE_FDS 0x8u
#define GM_MIGRATE_FEATURES 0xfu

enum gm_migrate_type {
	GM_MIGRATE_LAYOUT = 1,
	GM_MIGRATE_PAGES,
	GM_MIGRATE_ROUND,
	GM_MIGRATE_DISCARD,
	GM_MIGRATE_STATE,
	GM_MIGRATE_SWITCH,
	GM_MIGRATE_RUN,
	GM_MIGRATE_RECLAIM,
	GM_MIGRATE_CANCEL,
	GM_MIGRATE_DONE,
	GM_MIGRATE_RESUME,
	GM_MIGRATE_PING,
	GM_MIGRATE_PONG,
	GM_MIGRATE_ACCEPTED = 33,
	GM_MIGRATE_REFUSED,
	GM_MIGRATE_READY,
	GM_MIGRATE_RUNNING,
	GM_MIGRATE_RECLAIMED,
	GM_MIGRATE_DONE_ACK,
	GM_MIGRATE_RESUMED,
	GM_MIGRATE_HAVE,
	GM_MIGRATE_REQUEST,
	GM_MIGRATE_DROPPED,
	GM_MIGRATE_GIVEN_UP,
};

/* Numbers of RESUME, and of RESUMED. */
enum gm_migrate_from { GM_MIGRATE_HANDED_OVER = 1, GM_MIGRATE_IN_POSTCOPY };
enum gm_migrate_at {
	GM_MIGRATE_WAITING = 1,
	GM_MIGRATE_MISSING,
	GM_MIGRATE_WHOLE,
	GM_MIGRATE_ENDED
};

/* Numbers of SWITCH. */
enum gm_migrate_switch { GM_MIGRATE_ALL_SENT = 1, GM_MIGRATE_REST_LATER };

enum gm_migrate_kind {
	GM_MIGRATE_RAW = 1,
	GM_MIGRATE_BY_ZSTD,
	GM_MIGRATE_BY_LZ4,
	GM_MIGRATE_ZEROS,
	GM_MIGRATE_LOST
};

struct gm_migrate_open {
	uint16_t lowest; /* versions */
	uint16_t highest;
	uint16_t role;
	uint16_t index;
	uint8_t session[16];
	uint32_t epoch;
	uint16_t bulk; /* connections of this epoch */
	uint16_t urgent;
	uint32_t features;
};

struct gm_migrate_opened {
	uint32_t version; /* 0: none in common, and nothing else counts */
	uint32_t error;   /* errno value */
	uint32_t features;
	uint32_t pages_max;
};

struct gm_migrate_head {
	uint16_t type;
	uint32_t len; /* bytes that follow */
	uint64_t number;
	uint64_t sum;
};

struct gm_migrate_region {
	uint64_t gpa;
	uint64_t len;
	uint64_t fd_off; /* of its first byte, in the descriptor's file; 0 without @by_fd */
	uint32_t page_log2;
	bool by_fd;
};

struct gm_migrate_place {
	uint32_t region;
	uint32_t nr; /* pages, not 0 */
	uint64_t first;
};

struct gm_migrate_pages {
	struct gm_migrate_place place;
	uint32_t kind;
	uint32_t stored; /* bytes behind the first GM_MIGRATE_PAGES_HEAD */
};

/*
 * gm_migrate_get_*(), _check_*(): 0 or -EPROTO, with *ret_why a constant text; then nothing else was written.
 * gm_migrate_put_*(): what they are given is right. All bytes of what is put are written, and no others.
 */

void gm_migrate_put_open(const struct gm_migrate_open *open, uint8_t *bytes);
void gm_migrate_put_opened(const struct gm_migrate_opened *opened, uint8_t *bytes);
void gm_migrate_put_head(const struct gm_migrate_head *head, uint8_t *bytes);
void gm_migrate_put_region(const struct gm_migrate_region *region, uint8_t *bytes);
void gm_migrate_put_place(const struct gm_migrate_place *place, uint8_t *bytes);
void gm_migrate_put_pages(const struct gm_migrate_pages *pages, uint8_t *bytes);
/* What follows SWITCH: bytes of the state in all. */
void gm_migrate_put_switch(uint64_t state_len, uint8_t *bytes);
/* What follows REFUSED: at most GM_MIGRATE_TEXT_MAX bytes, which are counted; see gm_migrate_get_text(). */
uint32_t gm_migrate_put_text(const char *text, uint8_t *bytes);

/*
 * If version 1 is not among those it speaks, they are all that is decoded, and the rest is 0. Features that
 * are not known are left out. Whether session, epoch and index fit what was opened before is the caller's to
 * say.
 */
int gm_migrate_get_open(const uint8_t *bytes, struct gm_migrate_open *ret, const char **ret_why);
/* The answer to @asked. What does not count, with version 0 or an error, is 0. */
int gm_migrate_get_opened(const uint8_t *bytes, const struct gm_migrate_open *asked,
	struct gm_migrate_opened *ret, const char **ret_why);
/*
 * Judges a head by the table: a type that there is, that this end sends on a connection of this role, its length, its
 * number. @sole: there are no bulk connections, so that rounds go by control. Pages of post-copy always may.
 */
int gm_migrate_get_head(const uint8_t *bytes, bool from_source, enum gm_migrate_role role,
	bool sole, struct gm_migrate_head *ret, const char **ret_why);
/*
 * Of a whole layout: ascending, aligned, without overlaps. @nr is the head's number; @bytes has nr * GM_MIGRATE_REGION.
 * @features were agreed on: without GM_MIGRATE_FDS no region comes as a descriptor.
 */
int gm_migrate_get_layout(const uint8_t *bytes, uint32_t nr, uint32_t features,
	struct gm_migrate_region *ret, const char **ret_why);
/* Within the layout's regions. */
int gm_migrate_get_place(const uint8_t *bytes, const struct gm_migrate_region *regions, uint32_t nr,
	struct gm_migrate_place *ret, const char **ret_why);
/* @len is the head's; @pages_max what was agreed on, @features too. */
int gm_migrate_get_pages(const uint8_t *bytes, uint32_t len,
	const struct gm_migrate_region *regions, uint32_t nr, uint32_t pages_max, uint32_t features,
	struct gm_migrate_pages *ret, const char **ret_why);
int gm_migrate_get_switch(const uint8_t *bytes, uint64_t *ret_state_len, const char **ret_why);
/* A bitmap of @len bytes behind a place: its length and what lies behind the last page. */
int gm_migrate_check_bits(const struct gm_migrate_place *place, const uint8_t *bits, uint32_t len,
	const char **ret_why);
/* As a string of at most GM_MIGRATE_TEXT_MAX bytes: '?' stands for each byte that is not of a printable character. */
void gm_migrate_get_text(const uint8_t *bytes, uint32_t len, char *ret);

/* "PAGES", for messages to people; NULL if there is no such type. */
const char *gm_migrate_name(uint32_t type);
/* Bytes of the bitmap for a place. */
uint32_t gm_migrate_bits_len(const struct gm_migrate_place *place);

#endif
