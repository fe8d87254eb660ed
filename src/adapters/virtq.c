/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtq.c - the device's side of a virtqueue: life, order, and what both sorts of rings have in common.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <errno.h>
#include <inttypes.h>

#include "adapters/virtq.h"
#include "core/error.h"
#include "sys/sys.h"

#define LEN_MAX (UINT64_C(1) << 32)
#define FLAGS_ALL (GM_VIRTQ_PACKED | GM_VIRTQ_INDIRECT | GM_VIRTQ_EVENT | GM_VIRTQ_IN_ORDER)

static int check(const struct gm_virtq_opts *o, struct gm_error *err)
{
	const bool packed = o->flags & GM_VIRTQ_PACKED;

	if (o->flags & ~FLAGS_ALL)
		return gm_error_set(
			err, -EINVAL, 0, 0, "queue: unknown flags 0x%" PRIx32, o->flags);
	if (o->nr == 0 || o->nr > GM_VIRTQ_NR_MAX || (!packed && (o->nr & (o->nr - 1))))
		return gm_error_set(err, -EINVAL, 0, 0,
			"queue: %" PRIu32 " entries: 1 to 32768, a power of two unless packed",
			o->nr);
	if (o->desc % 16 || o->driver % (packed ? 4 : 2) || o->device % 4)
		return gm_error_set(err, -EINVAL, o->desc, 0,
			"queue: descriptors at 0x%" PRIx64 ", driver's area at 0x%" PRIx64
			", device's at 0x%" PRIx64 ": not aligned to 16, %u and 4 bytes",
			o->desc, o->driver, o->device, packed ? 4 : 2);
	if (o->max_len > LEN_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"queue: %" PRIu64 " bytes in a chain: 2^32 at most", o->max_len);
	return 0;
}

int gm_virtq_opts_take(
	const struct gm_virtq_opts *opts, struct gm_virtq_opts *ret, struct gm_error *err)
{
	int rc = gm_opts_copy(ret, sizeof(*ret), opts, sizeof(*opts));

	if (rc)
		return gm_opts_error(err, rc, "queue");
	rc = check(ret, err);
	if (!rc && !ret->max_len)
		ret->max_len = LEN_MAX;
	return rc;
}

int gm_virtq_create(
	const struct gm_virtq_opts *opts, struct gm_virtq **ret_vq, struct gm_error *err)
{
	struct gm_virtq_opts o = {0};
	struct gm_virtq *vq;
	int rc = gm_virtq_opts_take(opts, &o, err);

	if (rc)
		return rc;
	vq = gm_sys_alloc(sizeof(*vq));
	if (vq && (o.flags & GM_VIRTQ_IN_ORDER)) {
		vq->held = gm_sys_alloc_array(o.nr, sizeof(*vq->held));
		if (!vq->held) {
			gm_sys_free(vq);
			vq = NULL;
		}
	}
	if (!vq)
		return gm_error_set(err, -ENOMEM, 0, 0, "queue: no memory for it");
	vq->o = o;
	vq->ring = o.flags & GM_VIRTQ_PACKED ? &gm_virtq_packed : &gm_virtq_split;
	*ret_vq = vq;
	return 0;
}

void gm_virtq_destroy(struct gm_virtq *vq)
{
	if (!vq)
		return;
	gm_virtq_track_end(vq->track);
	gm_sys_free(vq->held);
	gm_sys_free(vq);
}

static int map(struct gm_cache *cache, const struct gm_view *view, uint64_t gpa, uint64_t len,
	uint32_t perms, const char *what, struct gm_error *err)
{
	int rc = gm_cache_init(cache, view, gpa, len, perms);

	return rc ? gm_error_set(err, rc, gpa, len,
			    "queue: its %s at 0x%" PRIx64 ", %" PRIu64 " bytes, cannot be used: %s",
			    what, gpa, len, gm_error_word(rc))
		  : 0;
}

int gm_virtq_start(
	struct gm_virtq *vq, const struct gm_view *view, uint32_t base, struct gm_error *err)
{
	const bool packed = vq->o.flags & GM_VIRTQ_PACKED;
	const uint64_t event = vq->o.flags & GM_VIRTQ_EVENT ? 2 : 0;
	const uint64_t nr = vq->o.nr;
	const uint32_t both = GM_PERM_R | GM_PERM_W;
	int rc;

	vq->started = false;
	rc = map(&vq->desc, view, vq->o.desc, nr * VIRTQ_DESC_SIZE, packed ? both : GM_PERM_R,
		"descriptors", err);
	if (!rc)
		rc = map(&vq->driver, view, vq->o.driver, packed ? 4 : 4 + 2 * nr + event,
			GM_PERM_R, "driver's area", err);
	if (!rc)
		rc = map(&vq->device, view, vq->o.device, packed ? 4 : 4 + 8 * nr + event, both,
			"device's area", err);
	if (!rc)
		rc = vq->ring->start(vq, view, base, err);
	if (!rc && vq->track)
		rc = gm_virtq_track_start(vq, view, err);
	if (rc)
		return rc;
	vq->nr_filled = 0;
	vq->nr_shown = 0;
	vq->nr_told = 0;
	vq->seq = 0;
	vq->first = 0;
	vq->out = 0;
	vq->out_slots = 0;
	for (uint32_t i = 0; vq->held && i < vq->o.nr; i++)
		vq->held[i].is = false;
	vq->started = true;
	return 0;
}

uint32_t gm_virtq_base(const struct gm_virtq *vq)
{
	return vq->ring->base(vq);
}

uint32_t gm_virtq_out(const struct gm_virtq *vq)
{
	return vq->out;
}

/* ---- taking ---- */

/* Chains are numbered by turns of nr, as no more can be out. */
static uint16_t after(const struct gm_virtq *vq, uint16_t seq)
{
	return (uint16_t)(seq + 1u == vq->o.nr ? 0 : seq + 1);
}

/* What another process had taken has left the ring already. */
static void take_again(struct gm_virtq *vq, const struct gm_virtq_item *item)
{
	if (vq->track)
		vq->track->at_again++;
	vq->out_slots += vq->o.flags & GM_VIRTQ_PACKED ? item->slots : 0;
}

int gm_virtq_pop(struct gm_virtq *vq, const struct gm_view *view, struct gm_chain_elem *elems,
	size_t max, struct gm_virtq_item *ret_item, struct gm_error *err)
{
	struct gm_chain_opts limits = {
		.size = sizeof(limits), .max_len = vq->o.max_len, .max_nr = GM_VIRTQ_NR_MAX};
	struct virtq_walk walk = {.vq = vq, .view = view, .elems = elems, .max = max, .err = err};
	struct gm_virtq_item item = {.seq = vq->seq};
	const uint32_t at = vq->next;
	bool is_again;
	int rc;

	if (!vq->started)
		return gm_error_set(err, -EINVAL, 0, 0, "queue: it is not started");
	rc = gm_virtq_track_again(&walk, &item);
	is_again = rc > 0;
	if (rc == 0)
		rc = vq->ring->pop(&walk, &item);
	if (rc <= 0)
		return rc;
	if (vq->out == vq->o.nr)
		rc = gm_virtq_refuse(&walk, "descriptor %u is available again: all %u are taken",
			item.id, vq->o.nr);
	else if (gm_chain_init(&item.chain, elems, walk.nr, &limits, err))
		rc = -EPROTO;
	else if (vq->track && !is_again)
		rc = gm_virtq_track_take(vq, view, at, &item);
	if (rc < 0) {
		if (!is_again)
			vq->ring->unpop(vq, &item);
		if (err)
			err->code = rc;
		return rc;
	}
	if (is_again)
		take_again(vq, &item);
	vq->seq = after(vq, vq->seq);
	vq->out++;
	*ret_item = item;
	return 1;
}

int gm_virtq_unpop(struct gm_virtq *vq, const struct gm_virtq_item *item)
{
	if (!vq->started || vq->out == 0 || after(vq, item->seq) != vq->seq)
		return -EINVAL;
	if (vq->track)
		return -ENOTSUP;
	vq->ring->unpop(vq, item);
	vq->seq = item->seq;
	vq->out--;
	return 0;
}

/* ---- giving back ---- */

static int show(struct gm_virtq *vq, const struct gm_view *view)
{
	int rc = vq->track ? gm_virtq_track_before(vq) : 0;

	if (!rc)
		rc = vq->ring->flush(vq, view);
	if (rc)
		return rc;
	vq->nr_shown = vq->nr_filled;
	return vq->track ? gm_virtq_track_after(vq) : 0;
}

static int emit(struct gm_virtq *vq, const struct gm_view *view, const struct virtq_held *used)
{
	int rc = 0;

	/* A driver that offers again what was not shown as used. */
	if (vq->track && vq->track->nr_batch == vq->o.nr)
		rc = show(vq, view);
	if (!rc)
		rc = vq->ring->emit(vq, view, used);
	if (rc)
		return rc;
	vq->nr_filled += used->slots;
	vq->out--;
	if (vq->track)
		gm_virtq_track_fill(vq, used->track);
	return 0;
}

/* In order: what has nothing in front of it any more. */
static int emit_held(struct gm_virtq *vq, const struct gm_view *view)
{
	struct virtq_held *held;
	int rc = 0;

	while (vq->held && (held = &vq->held[vq->first])->is) {
		rc = emit(vq, view, held);
		if (rc)
			break;
		held->is = false;
		vq->first = after(vq, vq->first);
	}
	return rc;
}

int gm_virtq_fill(struct gm_virtq *vq, const struct gm_view *view, const struct gm_virtq_item *item,
	uint32_t len)
{
	const struct virtq_held used = {len, item->id, item->slots, item->track, true};
	struct virtq_held *held;
	int rc;

	if (!vq->started || vq->out == 0 || (vq->track && item->track >= vq->o.nr))
		return -EINVAL;
	if (!vq->held)
		return emit(vq, view, &used);
	if (item->seq >= vq->o.nr || (item->seq + vq->o.nr - vq->first) % vq->o.nr >= vq->out ||
		vq->held[item->seq].is)
		return -EINVAL;
	held = &vq->held[item->seq];
	*held = used;
	rc = item->seq == vq->first ? emit_held(vq, view) : 0;
	/* Those behind it wait for the next call; this one is the caller's as long as it is not written. */
	if (rc && held->is && item->seq == vq->first) {
		held->is = false;
		return rc;
	}
	return 0;
}

int gm_virtq_flush(struct gm_virtq *vq, const struct gm_view *view)
{
	int rc;

	if (!vq->started)
		return -EINVAL;
	rc = emit_held(vq, view);
	if (vq->nr_filled != vq->nr_shown) {
		int shown = show(vq, view);

		if (shown)
			return shown;
	}
	return rc;
}

int gm_virtq_push(struct gm_virtq *vq, const struct gm_view *view, const struct gm_virtq_item *item,
	uint32_t len)
{
	int rc = gm_virtq_fill(vq, view, item, len);

	return rc ? rc : gm_virtq_flush(vq, view);
}

/* ---- calls and kicks ---- */

int gm_virtq_wants_call(struct gm_virtq *vq, const struct gm_view *view)
{
	int rc;

	if (!vq->started)
		return -EINVAL;
	if (vq->nr_shown == vq->nr_told)
		return 0;
	/* What was shown is seen by the driver before its wish is looked at, or the wish is the newer one. */
	virtq_fence();
	rc = vq->ring->wants_call(vq, view);
	if (rc >= 0)
		vq->nr_told = vq->nr_shown;
	return rc;
}

int gm_virtq_kicks(struct gm_virtq *vq, const struct gm_view *view, bool on)
{
	return vq->started ? vq->ring->kicks(vq, view, on) : -EINVAL;
}
