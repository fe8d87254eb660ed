/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_blk.h - inside of the block device: what it is (virtio_blk.c), what a chain asks for (virtio_blk_request.c),
 * a request on its way (virtio_blk_work.c), turns of a queue (virtio_blk_queue.c), figures (virtio_blk_stats.c).
 */
#ifndef GM_ADAPTERS_VIRTIO_BLK_H
#define GM_ADAPTERS_VIRTIO_BLK_H

#include <guestmem/slice.h>
#include <guestmem/virtio_blk_stats.h>

#include "adapters/disk.h"

#define BLK_SECTOR 512u
#define BLK_ID_LEN 20u
#define BLK_HEADER_LEN 16u
#define BLK_SEG_LEN 16u
#define BLK_SEGS 16u /* of a discard, or of zeros */

#define BLK_SLICES 128u /* of a part of a request */
#define BLK_SMALL 40u   /* elements; chains with more take one of the large arrays */
#define BLK_LARGE 4u    /* of these */
#define BLK_LARGE_MIN 1024u
#define BLK_BOUNCE (256u << 10)

/* Answers, as the driver reads them. */
#define BLK_OK 0
#define BLK_IOERR 1
#define BLK_UNSUPP 2

#define BLK_WORK 256 /* no answer yet: there is something to do */

enum blk_kind {
	BLK_READ = 0,
	BLK_WRITE,
	BLK_FLUSH,
	BLK_DISCARD,
	BLK_ZERO,
	BLK_ID,
	BLK_OTHER,
};
_Static_assert(BLK_ZERO == (enum blk_kind)GM_VIRTIO_BLK_ZEROES &&
		       BLK_OTHER == (enum blk_kind)GM_VIRTIO_BLK_OTHERS,
	"kinds are counted by their numbers");

struct gm_virtio_blk {
	struct gm_disk *disk;
	struct gm_disk_info info; /* as of creation */
	uint64_t offered;
	uint64_t accepted; /* atomic, as the next two */
	uint64_t sectors;
	uint32_t writeback;
	uint32_t nr_queues;
	uint32_t seg_max;
	uint32_t discard_sectors;
	char serial[BLK_ID_LEN];
};

struct blk_seg {
	uint64_t off;
	uint64_t len;
	bool unmap;
};

/* What a chain asks for. */
struct blk_request {
	enum blk_kind kind;
	bool bad;     /* it breaks a rule */
	uint64_t off; /* of reads and writes */
	uint64_t len;
	uint64_t room; /* writable bytes in front of the status */
	uint64_t told; /* of these, from the first, the ones that were written by looking at it */
	struct gm_chain data;
	struct gm_chain status;
	uint32_t nr_segs;
	struct blk_seg segs[BLK_SEGS];
};

enum blk_state {
	BLK_FREE = 0,
	BLK_TAKEN,    /* to be looked at */
	BLK_NEXT,     /* a part is to be sent */
	BLK_SENT,     /* to the disk */
	BLK_DONE,     /* by the disk */
	BLK_ANSWERED, /* its status is to be written, and it is to be given back */
};

struct blk_slot {
	struct gm_disk_req req;
	struct gm_virtio_blk_queue *q;
	struct blk_slot *next;
	struct gm_virtq_item item;
	struct blk_request r;
	enum blk_state state;
	int rc; /* of the disk */
	uint8_t status;
	bool bounced;
	bool lost;      /* its status could not be written */
	bool flushing;  /* the last part: what was zeroed is made durable */
	uint32_t seg;   /* the next */
	uint64_t since; /* the turn in which it was taken */
	uint64_t done;  /* bytes of reads and writes */
	uint64_t part;  /* bytes that are sent */
	uint32_t nr_pins;
	struct gm_chain_elem *large; /* or NULL: they are in small */
	struct gm_chain_elem small[BLK_SMALL];
	struct iovec slices[BLK_SLICES];
	struct gm_pin pins[BLK_SLICES];
};

struct blk_list {
	struct blk_slot *first;
	struct blk_slot *last;
};

struct gm_virtio_blk_queue {
	struct gm_virtio_blk *blk;
	struct gm_virtq *vq;
	struct gm_reader *reader;
	struct gm_disk_channel *channel;
	bool own_channel;
	bool running; /* in a step */
	bool paused;
	bool kicks; /* were asked for; what a ring says as it begins is another device's */
	uint32_t depth;
	uint32_t batch;
	uint32_t out;    /* atomic, as @stats and @latency: others look at them, one writes */
	uint64_t now_ns; /* of this turn, 0: not looked at */
	uint32_t sent;   /* to the disk, and not stepped */
	uint32_t filled; /* and not shown */
	int rc;          /* of a ring, in this run */
	struct blk_slot *slots;
	struct blk_slot *free;
	struct blk_list done;
	struct blk_list waiting;
	uint8_t *bounce;
	const struct blk_slot *bouncing;
	uint32_t large_len;
	uint32_t nr_large;
	struct gm_chain_elem *large[BLK_LARGE]; /* those that are free */
	struct gm_chain_elem *large_all;
	struct gm_virtio_blk_stats stats;
	struct gm_virtio_blk_latency latency;
};

/* Only the thread that runs the queue counts, so nothing is locked for it. */
static inline void blk_count(uint64_t *what, uint64_t n)
{
	__atomic_store_n(what, *what + n, __ATOMIC_RELAXED);
}

static inline void blk_put(struct blk_list *list, struct blk_slot *slot)
{
	slot->next = NULL;
	if (list->first)
		list->last->next = slot;
	else
		list->first = slot;
	list->last = slot;
}

static inline struct blk_slot *blk_take(struct blk_list *list)
{
	struct blk_slot *slot = list->first;

	if (slot)
		list->first = slot->next;
	return slot;
}

/* virtio_blk.c: is each write to be durable before it is answered? */
bool gm_blk_is_through(const struct gm_virtio_blk *blk);

/*
 * virtio_blk_request.c: BLK_WORK, or the answer; -ENOSPC: there is no room for one; -EAGAIN: memory that cannot be
 * reached yet.
 */
int gm_blk_look(struct gm_virtio_blk *blk, const struct gm_chain *chain, const struct gm_view *view,
	struct blk_request *ret);

/* virtio_blk_stats.c: */
void gm_blk_note_taken(struct gm_virtio_blk_queue *q, struct blk_slot *slot);
void gm_blk_note_answer(struct gm_virtio_blk_queue *q, const struct blk_slot *slot);

/* virtio_blk_work.c: goes on with a slot from its state, as far as it goes. */
void gm_blk_go_on(struct gm_virtio_blk_queue *q, const struct gm_view *view, struct blk_slot *slot);

/* Gives its pins back; false: the disk still works on them. */
bool gm_blk_let_go(struct blk_slot *slot);

#endif
