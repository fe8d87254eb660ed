/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq_inflight.c - which chains are out, in memory that outlives the device's process.
 *
 * Source of the layout and of the order of its writes: docs/interop/vhost-user.rst of QEMU, the section about I/O in
 * flight. What is done for a batch of used chains is done at the flush, as what is taken between a fill and its flush
 * would spoil what a crash has to roll back to. The list of free entries of a packed queue ends with the number of
 * entries.
 *
 * Others write to the area, so nothing that is read from it is believed: indices are checked, lists are followed no
 * further than there are entries.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "adapters/virtq.h"
#include "core/bytes.h"
#include "core/error.h"
#include "sys/sys.h"

#define VERSION 1u
/* Heads */
#define AT_VERSION 8u
#define AT_NR 10u
#define AT_LAST_BATCH 12u /* split */
#define AT_USED 14u
#define SPLIT_HEAD 16u
#define AT_FREE 12u /* packed */
#define AT_OLD_FREE 14u
#define AT_PACKED_USED 16u
#define AT_OLD_USED 18u
#define AT_LAP 20u
#define AT_OLD_LAP 21u
#define PACKED_HEAD 32u
/* Entries */
#define E_INFLIGHT 0u
#define E_SPLIT_NEXT 6u
#define E_COUNTER 8u
#define SPLIT_ENTRY 16u
#define E_NEXT 2u
#define E_LAST 4u
#define E_NUM 6u
#define E_ID 16u
#define E_FLAGS 18u
#define E_LEN 20u
#define E_ADDR 24u
#define PACKED_ENTRY 32u

static bool is_packed(const struct gm_virtq *vq)
{
	return vq->o.flags & GM_VIRTQ_PACKED;
}

uint64_t gm_virtq_inflight_len(uint32_t nr, uint32_t flags)
{
	uint64_t len = flags & GM_VIRTQ_PACKED ? PACKED_HEAD + (uint64_t)nr * PACKED_ENTRY
					       : SPLIT_HEAD + (uint64_t)nr * SPLIT_ENTRY;

	return (len + 63) & ~UINT64_C(63);
}

int gm_virtq_track(struct gm_virtq *vq, struct gm_space *area, uint64_t off, struct gm_error *err)
{
	struct virtq_track *t;
	int rc;

	if (vq->started || vq->track || off % 64)
		return gm_error_set(err, -EINVAL, off, 0,
			"queue: it is started, tracked already, or its area does not begin at a "
			"multiple of 64");
	t = gm_sys_alloc(sizeof(*t));
	if (t) {
		t->batch = gm_sys_alloc_array(vq->o.nr, sizeof(*t->batch));
		t->again = gm_sys_alloc_array(vq->o.nr, sizeof(*t->again));
	}
	if (!t || !t->batch || !t->again) {
		gm_virtq_track_end(t);
		return gm_error_set(err, -ENOMEM, 0, 0, "queue: no memory for it");
	}
	rc = gm_reader_create(area, "what is in flight", &t->reader, err);
	if (rc) {
		gm_virtq_track_end(t);
		return rc;
	}
	rc = gm_cache_init(&t->area, gm_reader_enter(t->reader), off,
		gm_virtq_inflight_len(vq->o.nr, vq->o.flags), GM_PERM_R | GM_PERM_W);
	gm_reader_leave(t->reader);
	if (rc) {
		gm_virtq_track_end(t);
		return gm_error_set(err, rc, off, gm_virtq_inflight_len(vq->o.nr, vq->o.flags),
			"queue: the area for what is in flight is too short or cannot be written");
	}
	vq->track = t;
	return 0;
}

void gm_virtq_track_end(struct virtq_track *t)
{
	if (!t)
		return;
	gm_reader_destroy(t->reader);
	gm_sys_free(t->again);
	gm_sys_free(t->batch);
	gm_sys_free(t);
}

/* ---- the area: errors add up, so that callers look once ---- */

struct area {
	struct virtq_track *t;
	const struct gm_view *view;
	int rc;
};

static struct area enter(struct virtq_track *t)
{
	return (struct area){.t = t, .view = gm_reader_enter(t->reader)};
}

static int leave(const struct area *a)
{
	gm_reader_leave(a->t->reader);
	return a->rc;
}

static uint64_t entry(const struct gm_virtq *vq, uint32_t i)
{
	return is_packed(vq) ? PACKED_HEAD + (uint64_t)i * PACKED_ENTRY
			     : SPLIT_HEAD + (uint64_t)i * SPLIT_ENTRY;
}

static uint16_t get16(struct area *a, uint64_t off)
{
	uint16_t value = 0;

	if (!a->rc)
		a->rc = gm_cache_read_u16(&a->t->area, a->view, off, &value);
	return value;
}

static uint8_t get8(struct area *a, uint64_t off)
{
	uint8_t value = 0;

	if (!a->rc)
		a->rc = gm_cache_read_u8(&a->t->area, a->view, off, &value);
	return value;
}

static void put8(struct area *a, uint64_t off, uint8_t value)
{
	if (!a->rc)
		a->rc = gm_cache_write_u8(&a->t->area, a->view, off, value);
}

static void put16(struct area *a, uint64_t off, uint16_t value)
{
	if (!a->rc)
		a->rc = gm_cache_write_u16(&a->t->area, a->view, off, value);
}

static void put64(struct area *a, uint64_t off, uint64_t value)
{
	if (!a->rc)
		a->rc = gm_cache_write_u64(&a->t->area, a->view, off, value);
}

/* ---- taking ---- */

static void take_split(struct gm_virtq *vq, struct area *a, struct gm_virtq_item *item)
{
	put64(a, entry(vq, item->id) + E_COUNTER, vq->track->counter);
	put8(a, entry(vq, item->id) + E_INFLIGHT, 1);
	item->track = item->id;
}

/* Descriptors are read a second time: what stands in the area is checked anew when it is used. */
static void take_packed(struct gm_virtq *vq, struct area *a, const struct gm_view *view,
	uint32_t at, struct gm_virtq_item *item)
{
	struct virtq_walk walk = {.vq = vq, .view = view};
	const uint16_t head = vq->track->free;
	uint16_t free = head;
	uint16_t last = head;

	if (head >= vq->o.nr) {
		a->rc = -EPROTO;
		return;
	}
	put16(a, entry(vq, head) + E_NUM, 0);
	put64(a, entry(vq, head) + E_COUNTER, vq->track->counter);
	put8(a, entry(vq, head) + E_INFLIGHT, 1);
	for (uint32_t i = 0; i < item->slots && !a->rc; i++) {
		struct virtq_desc desc;

		if (free >= vq->o.nr) {
			a->rc = -EPROTO;
			break;
		}
		a->rc = gm_virtq_read_desc(&walk, (at + i) % vq->o.nr, &desc);
		put64(a, entry(vq, free) + E_ADDR, desc.addr);
		put64(a, entry(vq, free) + E_ID,
			desc.id | (uint64_t)desc.flags << 16 | (uint64_t)desc.len << 32);
		last = free;
		free = get16(a, entry(vq, free) + E_NEXT);
	}
	put16(a, entry(vq, head) + E_LAST, last);
	put16(a, entry(vq, head) + E_NUM, item->slots);
	put16(a, AT_FREE, free);
	put16(a, AT_OLD_FREE, free);
	item->track = head;
	if (!a->rc)
		vq->track->free = free;
}

int gm_virtq_track_take(
	struct gm_virtq *vq, const struct gm_view *view, uint32_t at, struct gm_virtq_item *item)
{
	struct area a = enter(vq->track);

	if (is_packed(vq))
		take_packed(vq, &a, view, at, item);
	else
		take_split(vq, &a, item);
	if (!a.rc)
		vq->track->counter++;
	return leave(&a);
}

/* ---- giving back ---- */

void gm_virtq_track_fill(struct gm_virtq *vq, uint16_t track)
{
	vq->track->batch[vq->track->nr_batch++] = track;
}

static void before_split(struct gm_virtq *vq, struct area *a)
{
	const struct virtq_track *t = vq->track;
	uint16_t last = get16(a, AT_LAST_BATCH);

	for (uint32_t i = 0; i < t->nr_batch; i++) {
		put16(a, entry(vq, t->batch[i]) + E_SPLIT_NEXT, last);
		last = t->batch[i];
		put16(a, AT_LAST_BATCH, last);
	}
}

static void before_packed(struct gm_virtq *vq, struct area *a)
{
	struct virtq_track *t = vq->track;

	t->next_free = t->free;
	for (uint32_t i = 0; i < t->nr_batch; i++) {
		uint16_t last = get16(a, entry(vq, t->batch[i]) + E_LAST);

		if (last >= vq->o.nr)
			a->rc = -EPROTO;
		put16(a, entry(vq, last) + E_NEXT, t->next_free);
		t->next_free = t->batch[i];
		put16(a, AT_FREE, t->next_free);
	}
	put16(a, AT_PACKED_USED, vq->used);
	put8(a, AT_LAP, vq->used_wrap);
}

/* Before the driver sees the batch. */
int gm_virtq_track_before(struct gm_virtq *vq)
{
	struct area a = enter(vq->track);

	if (is_packed(vq))
		before_packed(vq, &a);
	else
		before_split(vq, &a);
	return leave(&a);
}

/* When it has seen it. */
int gm_virtq_track_after(struct gm_virtq *vq)
{
	struct virtq_track *t = vq->track;
	struct area a = enter(t);

	for (uint32_t i = 0; i < t->nr_batch; i++)
		put8(&a, entry(vq, t->batch[i]) + E_INFLIGHT, 0);
	if (is_packed(vq)) {
		put16(&a, AT_OLD_FREE, t->next_free);
		put16(&a, AT_OLD_USED, vq->used);
		put8(&a, AT_OLD_LAP, vq->used_wrap);
		t->free = t->next_free;
	} else {
		put16(&a, AT_USED, vq->used);
	}
	t->nr_batch = 0;
	return leave(&a);
}

/* ---- again ---- */

static void make_fresh(struct gm_virtq *vq, struct area *a)
{
	for (uint32_t i = 0; i < vq->o.nr; i++) {
		put8(a, entry(vq, i) + E_INFLIGHT, 0);
		if (is_packed(vq))
			put16(a, entry(vq, i) + E_NEXT, (uint16_t)(i + 1));
	}
	put16(a, AT_NR, (uint16_t)vq->o.nr);
	if (is_packed(vq)) {
		put16(a, AT_FREE, 0);
		put16(a, AT_OLD_FREE, 0);
		put16(a, AT_PACKED_USED, vq->used);
		put16(a, AT_OLD_USED, vq->used);
		put8(a, AT_LAP, vq->used_wrap);
		put8(a, AT_OLD_LAP, vq->used_wrap);
	} else {
		put16(a, AT_LAST_BATCH, 0);
		put16(a, AT_USED, vq->used);
	}
	vq->track->free = 0;
	put16(a, AT_VERSION, VERSION);
}

static void recover_split(struct gm_virtq *vq, struct area *a)
{
	uint16_t batch = (uint16_t)(vq->used - get16(a, AT_USED));
	uint16_t i = get16(a, AT_LAST_BATCH);

	if (batch > vq->o.nr)
		a->rc = -EPROTO;
	for (; batch > 0 && !a->rc; batch--) {
		if (i >= vq->o.nr)
			a->rc = -EPROTO;
		put8(a, entry(vq, i) + E_INFLIGHT, 0);
		i = get16(a, entry(vq, i) + E_SPLIT_NEXT);
	}
	put16(a, AT_USED, vq->used);
}

/*
 * Was the batch shown that was under way? If not, its first entry is available still; if so it is used, or the driver
 * has taken it and made it available again in the next lap.
 */
static bool is_shown(
	struct gm_virtq *vq, const struct gm_view *view, struct area *a, uint16_t at, bool lap)
{
	uint16_t flags = 0;

	a->rc = gm_cache_read_le16(&vq->desc, view, (uint64_t)at * VIRTQ_DESC_SIZE + 14, &flags);
	return !(flags & VIRTQ_DESC_AVAIL) == lap || !(flags & VIRTQ_DESC_USED) != lap;
}

static void recover_packed(struct gm_virtq *vq, const struct gm_view *view, struct area *a)
{
	uint16_t free = get16(a, AT_FREE);
	uint16_t old_free = get16(a, AT_OLD_FREE);
	uint16_t used = get16(a, AT_PACKED_USED);
	uint16_t old_used = get16(a, AT_OLD_USED);
	bool lap = get8(a, AT_LAP);
	bool old_lap = get8(a, AT_OLD_LAP);

	if (!a->rc && (used >= vq->o.nr || old_used >= vq->o.nr))
		a->rc = -EPROTO;
	if (a->rc)
		return;
	if ((used != old_used || lap != old_lap) && is_shown(vq, view, a, old_used, old_lap)) {
		old_free = free;
		old_used = used;
		old_lap = lap;
	}
	put16(a, AT_FREE, old_free);
	put16(a, AT_OLD_FREE, old_free);
	put16(a, AT_PACKED_USED, old_used);
	put16(a, AT_OLD_USED, old_used);
	put8(a, AT_LAP, old_lap);
	put8(a, AT_OLD_LAP, old_lap);
	vq->track->free = old_free;
	vq->used = old_used;
	vq->used_wrap = old_lap;
	vq->shown = old_used;
	vq->shown_wrap = old_lap;
	/* What is free is not in flight, whatever a crash left there. */
	for (uint32_t i = 0; i < vq->o.nr && old_free < vq->o.nr && !a->rc; i++) {
		put8(a, entry(vq, old_free) + E_INFLIGHT, 0);
		old_free = get16(a, entry(vq, old_free) + E_NEXT);
	}
}

/*
 * Entries of a batch that was never shown look used but for the first. The driver would take them as soon as another
 * chain is used in front of them, so they are made what they were.
 */
static void hide(struct gm_virtq *vq, const struct gm_view *view, struct area *a, uint32_t slots)
{
	uint16_t at = vq->used;
	bool lap = vq->used_wrap;

	for (uint32_t i = 0; i < slots && !a->rc; i++) {
		a->rc = gm_cache_write_le16(&vq->desc, view, (uint64_t)at * VIRTQ_DESC_SIZE + 14,
			lap ? VIRTQ_DESC_AVAIL : VIRTQ_DESC_USED);
		gm_virtq_forward(&vq->o, &at, &lap, 1);
	}
}

/* What is in flight, by its age; and where the queue stands then. */
static void list_again(struct gm_virtq *vq, const struct gm_view *view, struct area *a)
{
	struct virtq_track *t = vq->track;
	uint64_t slots = 0;

	t->nr_again = 0;
	t->at_again = 0;
	t->counter = 0;
	for (uint32_t i = 0; i < vq->o.nr && !a->rc; i++) {
		uint64_t counter = 0;

		if (!get8(a, entry(vq, i) + E_INFLIGHT))
			continue;
		a->rc = gm_cache_read_u64(&t->area, a->view, entry(vq, i) + E_COUNTER, &counter);
		t->again[t->nr_again++] = (struct gm_sort_pair){counter, i};
		t->counter = counter >= t->counter ? counter + 1 : t->counter;
		slots += is_packed(vq) ? get16(a, entry(vq, i) + E_NUM) : 1;
	}
	if (slots > vq->o.nr && !a->rc)
		a->rc = -EPROTO;
	if (a->rc)
		return;
	gm_sort_pairs(t->again, t->nr_again);
	if (is_packed(vq)) {
		vq->next = vq->used;
		vq->next_wrap = vq->used_wrap;
		gm_virtq_forward(&vq->o, &vq->next, &vq->next_wrap, (uint32_t)slots);
		hide(vq, view, a, (uint32_t)slots);
	} else {
		vq->next = (uint16_t)(vq->used + slots);
		vq->seen = vq->next;
	}
}

int gm_virtq_track_start(struct gm_virtq *vq, const struct gm_view *view, struct gm_error *err)
{
	struct virtq_track *t = vq->track;
	struct area a = enter(t);
	uint16_t version = get16(&a, AT_VERSION);
	uint16_t nr = get16(&a, AT_NR);
	int rc;

	t->nr_batch = 0;
	t->nr_again = 0;
	t->at_again = 0;
	if (version == 0) {
		t->counter = 0;
		make_fresh(vq, &a);
	} else if (version != VERSION || nr != vq->o.nr) {
		a.rc = a.rc ? a.rc : -EPROTO;
	} else {
		if (is_packed(vq))
			recover_packed(vq, view, &a);
		else
			recover_split(vq, &a);
		list_again(vq, view, &a);
	}
	rc = leave(&a);
	return rc ? gm_error_set(err, rc, t->area.gpa, t->area.len,
			    "queue: what its area says of version %u, %u entries and what is in "
			    "flight "
			    "cannot be: %s",
			    version, nr, gm_error_word(rc))
		  : 0;
}

static int again_packed(struct virtq_walk *walk, uint16_t head, struct gm_virtq_item *item)
{
	struct gm_virtq *vq = walk->vq;
	struct area a = enter(vq->track);
	uint16_t nr = get16(&a, entry(vq, head) + E_NUM);
	uint32_t at = head;
	int rc = nr == 0 || nr > vq->o.nr ? -EPROTO : 0;

	for (uint16_t i = 0; i < nr && !rc; i++) {
		uint8_t bytes[16];
		struct virtq_desc desc;

		rc = gm_cache_read(
			&a.t->area, a.view, entry(vq, at) + E_ID, bytes, sizeof(bytes), NULL);
		if (rc)
			break;
		/* In the machine's order, as the area is. */
		memcpy(&desc.id, bytes, 2);
		memcpy(&desc.flags, bytes + 2, 2);
		memcpy(&desc.len, bytes + 4, 4);
		memcpy(&desc.addr, bytes + 8, 8);
		item->id = desc.id;
		rc = gm_virtq_walk_desc(walk, &desc, at);
		at = get16(&a, entry(vq, at) + E_NEXT);
		if (!rc && (a.rc || (at >= vq->o.nr && i + 1 < nr)))
			rc = a.rc ? a.rc : -EPROTO;
	}
	item->slots = nr;
	leave(&a);
	return rc;
}

int gm_virtq_track_again(struct virtq_walk *walk, struct gm_virtq_item *item)
{
	struct virtq_track *t = walk->vq->track;
	uint16_t head;
	int rc;

	if (!t || t->at_again == t->nr_again)
		return 0;
	head = (uint16_t)t->again[t->at_again].value;
	item->track = head;
	item->id = head;
	item->slots = 1;
	rc = is_packed(walk->vq) ? again_packed(walk, head, item)
				 : gm_virtq_split_chain(walk, head);
	if (rc == -EPROTO && walk->err && !walk->err->text[0])
		return gm_virtq_refuse(walk, "what is in flight as entry %u cannot be", head);
	return rc ? rc : 1;
}
