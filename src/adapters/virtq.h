/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq.h - inside of a virtqueue: what virtq.c (life, order), virtq_split.c and virtq_packed.c (rings) and
 * virtq_desc.c (chains of descriptors) share.
 */
#ifndef GM_ADAPTERS_VIRTQ_H
#define GM_ADAPTERS_VIRTQ_H

#include <guestmem/cache.h>
#include <guestmem/virtq_inflight.h>

#include "core/sort.h"
#include "memory/annotate.h"

#define VIRTQ_DESC_SIZE 16u
#define VIRTQ_DESC_NEXT 0x1u
#define VIRTQ_DESC_WRITE 0x2u
#define VIRTQ_DESC_INDIRECT 0x4u
#define VIRTQ_DESC_AVAIL 0x80u
#define VIRTQ_DESC_USED 0x8000u

/* Packed: a place in the ring, and the bit that tells laps apart. */
#define VIRTQ_PLACE 0x7fffu
#define VIRTQ_LAP 0x8000u

/* A descriptor as it was read; a split one has its next in @id. */
struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};

/* What is filled before those in front of it. */
struct virtq_held {
	uint32_t len;
	uint16_t id;
	uint16_t slots;
	uint16_t track;
	bool is;
};

/* What is in flight. */
struct virtq_track {
	struct gm_reader *reader;
	struct gm_cache area;
	uint64_t counter;
	uint16_t *batch; /* entries that are filled and not shown */
	uint32_t nr_batch;
	uint16_t free; /* packed: the first free entry; behind the batch */
	uint16_t next_free;
	struct gm_sort_pair *again; /* by age: entries that another process had taken */
	uint32_t nr_again;
	uint32_t at_again;
};

/* A chain that is being read. */
struct virtq_walk {
	struct gm_virtq *vq;
	const struct gm_view *view;
	struct gm_chain_elem *elems;
	size_t max;
	size_t nr;
	struct gm_error *err;
};

struct virtq_ring {
	uint64_t driver_len; /* of areas, without what the event index adds */
	uint64_t device_len;
	int (*start)(struct gm_virtq *vq, const struct gm_view *view, uint32_t base,
		struct gm_error *err);
	uint32_t (*base)(const struct gm_virtq *vq);
	/* 1: *item's id and slots are set, elements are in @walk, and the place has moved; 0; or an error. */
	int (*pop)(struct virtq_walk *walk, struct gm_virtq_item *item);
	void (*unpop)(struct gm_virtq *vq, const struct gm_virtq_item *item);
	int (*emit)(struct gm_virtq *vq, const struct gm_view *view, const struct virtq_held *used);
	int (*flush)(struct gm_virtq *vq, const struct gm_view *view);
	int (*wants_call)(struct gm_virtq *vq, const struct gm_view *view);
	int (*kicks)(struct gm_virtq *vq, const struct gm_view *view, bool on);
};

struct gm_virtq {
	struct gm_virtq_opts o;
	const struct virtq_ring *ring;
	struct gm_cache desc;
	struct gm_cache driver;
	struct gm_cache device;
	bool started;

	/* Where chains are taken: index (split), entry and lap (packed). */
	uint16_t next;
	bool next_wrap;
	uint16_t seen; /* split: the driver's index, as it was read last */

	/* Where used ones are written, with what is filled; and without. */
	uint16_t used;
	bool used_wrap;
	uint16_t shown;
	bool shown_wrap;
	uint16_t first_flags; /* packed: of the first that is filled, which flush writes */

	uint64_t nr_filled; /* entries since the start: filled, */
	uint64_t nr_shown;  /* flushed, */
	uint64_t nr_told;   /* flushed when gm_virtq_wants_call() was asked */

	uint16_t seq;            /* of the next that is taken */
	uint16_t first;          /* in order: of the first that is not filled */
	uint32_t out;            /* taken and not written as used */
	uint32_t out_slots;      /* packed: entries of these */
	struct virtq_held *held; /* in order: by seq */
	struct virtq_track *track;
};

extern const struct virtq_ring gm_virtq_split;
extern const struct virtq_ring gm_virtq_packed;

/* What was written is seen by others before what is read behind it was read. */
static inline void virtq_fence(void)
{
#if defined(__SANITIZE_THREAD__) || GM_SANITIZER(thread_sanitizer)
	static int any; /* the sanitizer knows no fences */

	__atomic_fetch_add(&any, 0, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Adds what a descriptor of the ring says, with the table it may refer to. */
int gm_virtq_walk_desc(struct virtq_walk *walk, const struct virtq_desc *desc, uint32_t index);
/* "-EPROTO": the driver broke a rule. */
__attribute__((format(printf, 2, 3))) int gm_virtq_refuse(
	struct virtq_walk *walk, const char *fmt, ...);
/* Reads descriptor @index of the ring. */
int gm_virtq_read_desc(struct virtq_walk *walk, uint32_t index, struct virtq_desc *ret);
/* What reading or writing memory failed with, with where. */
int gm_virtq_unreachable(struct virtq_walk *walk, int rc, const char *what, uint64_t gpa);

/* Checks what a caller asks for, and completes it. */
int gm_virtq_opts_take(
	const struct gm_virtq_opts *opts, struct gm_virtq_opts *ret, struct gm_error *err);

/* Is the entry of @back entries ago, at which an event was asked for, one of the @news last ones? */
static inline bool gm_virtq_is_due(uint64_t back, uint64_t news)
{
	return back > 0 && back <= news;
}

/* virtq_packed.c: from a place to one @slots entries behind it. */
void gm_virtq_forward(const struct gm_virtq_opts *o, uint16_t *at, bool *lap, uint32_t slots);
/* Asks the other side for events, from a place on, or for none. */
int gm_virtq_ask(struct gm_cache *area, const struct gm_view *view, const struct gm_virtq_opts *o,
	uint16_t at, bool lap, bool on);
/* 1 if the other side, by its area, wants to hear of the @news entries in front of a place. */
int gm_virtq_is_asked(struct gm_cache *area, const struct gm_view *view,
	const struct gm_virtq_opts *o, uint16_t at, bool lap, uint64_t news);

/* virtq_split.c: the chain that begins at a descriptor. */
int gm_virtq_split_chain(struct virtq_walk *walk, uint16_t head);

/* virtq_inflight.c, for a queue that is tracked; all but fill can fail because of the area. */
void gm_virtq_track_end(struct virtq_track *track);
int gm_virtq_track_start(struct gm_virtq *vq, const struct gm_view *view, struct gm_error *err);
/* 1: an item that another process had taken; 0: there is none. */
int gm_virtq_track_again(struct virtq_walk *walk, struct gm_virtq_item *item);
/* It was taken; of a packed queue from entry @at on. */
int gm_virtq_track_take(
	struct gm_virtq *vq, const struct gm_view *view, uint32_t at, struct gm_virtq_item *item);
void gm_virtq_track_fill(struct gm_virtq *vq, uint16_t track);
int gm_virtq_track_before(struct gm_virtq *vq);
int gm_virtq_track_after(struct gm_virtq *vq);

#endif
