/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_ring.c - rings: what the front-end says of them, and when the device has them.
 *
 * A ring runs when it was started by a kick and enabled, and its addresses lead to memory. What is missing is looked
 * for again when memory or translations come. Where a queue stands outlives its pauses in the struct gm_virtq, which
 * is made anew only if its addresses changed.
 */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define PACKED_BEGIN 0x80008000u /* base of a fresh packed queue */

/* ---- life ---- */

int gm_vhost_rings_init(struct gm_vhost_backend *b)
{
	b->rings = gm_sys_alloc_array(b->o.queues, sizeof(*b->rings));
	if (!b->rings)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->o.queues; i++) {
		struct vhost_ring *r = &b->rings[i];

		pthread_mutex_init(&r->lock, NULL);
		r->enabled = true;
		r->kick = r->call = r->err = -1;
	}
	return 0;
}

void gm_vhost_rings_fini(struct gm_vhost_backend *b)
{
	for (uint32_t i = 0; b->rings && i < b->o.queues; i++)
		pthread_mutex_destroy(&b->rings[i].lock);
	gm_sys_free(b->rings);
	b->rings = NULL;
}

static uint32_t index_of(const struct gm_vhost_backend *b, const struct vhost_ring *r)
{
	return (uint32_t)(r - b->rings);
}

void gm_vhost_ring_pause(struct gm_vhost_backend *b, struct vhost_ring *r, bool suspend)
{
	if (!r->running)
		return;
	b->ops.queue_stop(b->o.ctx, index_of(b, r), suspend);
	r->running = false;
}

void gm_vhost_rings_pause(struct gm_vhost_backend *b)
{
	for (uint32_t i = 0; i < b->o.queues; i++)
		gm_vhost_ring_pause(b, &b->rings[i], false);
}

void gm_vhost_rings_go(struct gm_vhost_backend *b)
{
	for (uint32_t i = 0; i < b->o.queues; i++)
		gm_vhost_ring_go(b, &b->rings[i], NULL);
}

bool gm_vhost_rings_run(const struct gm_vhost_backend *b)
{
	for (uint32_t i = 0; i < b->o.queues; i++) {
		if (b->rings[i].running)
			return true;
	}
	return false;
}

/* Where it stands is kept as its base. */
static void forget_queue(struct vhost_ring *r)
{
	if (!r->vq)
		return;
	r->base = gm_virtq_base(r->vq);
	r->has_base = true;
	gm_virtq_destroy(r->vq);
	r->vq = NULL;
}

void gm_vhost_rings_reset(struct gm_vhost_backend *b)
{
	for (uint32_t i = 0; i < b->o.queues; i++) {
		struct vhost_ring *r = &b->rings[i];

		gm_vhost_ring_pause(b, r, false);
		forget_queue(r);
		r->nr = 0;
		r->base = 0;
		r->has_base = false;
		r->has_addr = false;
		r->started = false;
		r->enabled = !(b->features & GM_VHOST_F_PROTOCOL_FEATURES);
		gm_vhost_close(&r->kick);
		pthread_mutex_lock(&r->lock);
		gm_vhost_close(&r->call);
		gm_vhost_close(&r->err);
		r->marks = false;
		pthread_mutex_unlock(&r->lock);
	}
}

/* ---- running ---- */

static uint32_t virtq_flags(uint64_t features)
{
	return (features & VHOST_F_PACKED ? GM_VIRTQ_PACKED : 0) |
	       (features & VHOST_F_INDIRECT ? GM_VIRTQ_INDIRECT : 0) |
	       (features & VHOST_F_EVENT ? GM_VIRTQ_EVENT : 0) |
	       (features & VHOST_F_IN_ORDER ? GM_VIRTQ_IN_ORDER : 0);
}

/* A part of a ring lies in one region, whole; behind an IOMMU its address is an IOVA. */
static int place_part(const struct gm_vhost_backend *b, uint64_t user, uint64_t len,
	const char *what, uint64_t *ret, struct gm_error *err)
{
	int rc;

	if (vhost_has_iommu(b)) {
		*ret = user;
		return 0;
	}
	rc = gm_vhost_memory_gpa(&b->mem, user, len, ret);
	return rc ? gm_error_set(err, -EFAULT, user, len,
			    "vhost-user: a ring's %s, 0x%" PRIx64
			    " bytes at user address 0x%" PRIx64 ", do not lie in one region",
			    what, len, user)
		  : 0;
}

static int place(const struct gm_vhost_backend *b, struct vhost_ring *r, struct gm_virtq_opts *ret,
	struct gm_error *err)
{
	const uint32_t flags = virtq_flags(b->features);
	const bool packed = flags & GM_VIRTQ_PACKED;
	const uint64_t event = flags & GM_VIRTQ_EVENT ? 2 : 0;
	const uint64_t nr = r->nr;
	const uint64_t used_len = packed ? 4 : 4 + 8 * nr + event;
	int rc;

	*ret = (struct gm_virtq_opts){.size = sizeof(*ret), .nr = r->nr, .flags = flags};
	rc = place_part(b, r->addr.desc, 16 * nr, "descriptors", &ret->desc, err);
	if (!rc)
		rc = place_part(b, r->addr.avail, packed ? 4 : 4 + 2 * nr + event,
			"available entries", &ret->driver, err);
	if (!rc)
		rc = place_part(b, r->addr.used, used_len, "used entries", &ret->device, err);
	r->used_len = (uint32_t)used_len;
	return rc;
}

static bool is_same(const struct gm_virtq_opts *a, const struct gm_virtq_opts *b)
{
	return a->desc == b->desc && a->driver == b->driver && a->device == b->device &&
	       a->nr == b->nr && a->flags == b->flags;
}

/*
 * Where a ring begins. DPDK's virtio-user begins all split rings at 0, also one that another back-end has left. Then
 * the used index is believed: a ring that was given back stands there, and what is behind it was never used.
 */
static uint32_t begin_of(
	const struct gm_vhost_backend *b, const struct vhost_ring *r, const struct gm_view *view)
{
	uint16_t used = 0;

	if (r->at.flags & GM_VIRTQ_PACKED)
		return r->has_base ? r->base : PACKED_BEGIN;
	/* What cannot be read is said when the ring is started. */
	if (r->base || b->area_space || gm_read_le16(view, r->at.device + 2, &used))
		return r->base;
	return used;
}

static int start_queue(struct gm_vhost_backend *b, struct vhost_ring *r, struct gm_error *err)
{
	struct gm_reader *reader = vhost_has_iommu(b) ? b->iova_reader : b->reader;
	const struct gm_view *view;
	int rc = gm_vhost_inflight_track(b, index_of(b, r), r, err);

	if (rc)
		return rc;
	view = gm_reader_enter(reader);
	rc = gm_virtq_start(r->vq, view, begin_of(b, r, view), err);
	gm_reader_leave(reader);
	return rc;
}

/* A queue at these addresses, where the one before stood. */
static int make_queue(struct gm_vhost_backend *b, struct vhost_ring *r,
	const struct gm_virtq_opts *at, struct gm_error *err)
{
	int rc;

	forget_queue(r);
	rc = gm_virtq_create(at, &r->vq, err);
	if (rc)
		return rc;
	r->at = *at;
	rc = start_queue(b, r, err);
	if (!rc)
		return 0;
	gm_virtq_destroy(r->vq);
	r->vq = NULL;
	/* The translations were asked for. */
	if (vhost_has_iommu(b) && rc != -EPROTO && rc != -ENOMEM && rc != -EINVAL)
		return -EAGAIN;
	/* What guest memory says is no message that breaks the protocol. */
	return rc == -EPROTO ? -EINVAL : rc;
}

int gm_vhost_ring_go(struct gm_vhost_backend *b, struct vhost_ring *r, struct gm_error *err)
{
	struct gm_vhost_queue queue = {.size = sizeof(queue), .index = index_of(b, r)};
	struct gm_virtq_opts at;
	int rc;

	if (r->running || !r->started || !r->enabled || !r->nr || !r->has_addr || b->wants_ack ||
		(b->mem.nr == 0 && !vhost_has_iommu(b)))
		return 0;
	rc = place(b, r, &at, err);
	if (rc)
		return rc;
	if (!r->vq || !is_same(&r->at, &at))
		rc = make_queue(b, r, &at, err);
	if (rc)
		return rc == -EAGAIN ? 0 : rc;
	pthread_mutex_lock(&r->lock);
	r->marks = (r->addr.flags & GM_VHOST_VRING_LOG) &&
		   (vhost_has_iommu(b) || r->addr.log != at.device);
	pthread_mutex_unlock(&r->lock);
	queue.nr = r->nr;
	queue.flags = at.flags;
	queue.kick = r->kick;
	queue.vq = r->vq;
	queue.space = vhost_has_iommu(b) ? b->iova : b->mem.space;
	queue.features = b->features;
	rc = gm_checked_code(b->ops.queue_start(b->o.ctx, &queue));
	if (rc)
		return gm_error_set(err, rc, 0, 0, "vhost-user: the device refuses queue %u: %s",
			queue.index, gm_error_word(rc));
	r->running = true;
	return 0;
}

/* ---- messages ---- */

struct vhost_ring *gm_vhost_ring_of(struct vhost_call *call, uint64_t index)
{
	if (index < call->b->o.queues)
		return &call->b->rings[index];
	gm_error_set(call->err, -EINVAL, 0, 0, "vhost-user: ring %" PRIu64 " of %u does not exist",
		index, call->b->o.queues);
	return NULL;
}

int gm_vhost_on_vring_num(struct vhost_call *call)
{
	const struct gm_vhost_vring_state *state = &call->msg->u.vring;
	struct vhost_ring *r = gm_vhost_ring_of(call, state->index);
	const bool packed = call->b->features & VHOST_F_PACKED;

	if (!r)
		return -EINVAL;
	if (state->num == 0 || state->num > call->b->o.queue_size ||
		(!packed && !gm_is_pow2(state->num)))
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: ring %u cannot have %u entries (at most %u)", state->index,
			state->num, call->b->o.queue_size);
	if (r->running && state->num != r->nr)
		return gm_error_set(call->err, -EBUSY, 0, 0,
			"vhost-user: ring %u runs and cannot get another size", state->index);
	r->nr = state->num;
	return 0;
}

/* While a ring runs this comes for the flag of the log. */
int gm_vhost_on_vring_addr(struct vhost_call *call)
{
	const struct gm_vhost_vring_addr *addr = &call->msg->u.addr;
	struct vhost_ring *r = gm_vhost_ring_of(call, addr->index);
	struct gm_range log;

	if (!r)
		return -EINVAL;
	if ((addr->flags & ~GM_VHOST_VRING_LOG) ||
		((addr->flags & GM_VHOST_VRING_LOG) &&
			!gm_range_make(addr->log, UINT64_C(8) * GM_VIRTQ_NR_MAX + 6, &log)))
		return gm_error_set(call->err, -EINVAL, addr->log, 0,
			"vhost-user: ring %u has unknown flags 0x%x, or a log that wraps past 2^64",
			addr->index, addr->flags);
	if (((addr->desc & 15) | (addr->avail & 1) | (addr->used & 3)) != 0)
		return gm_error_set(call->err, -EINVAL, addr->desc, 0,
			"vhost-user: the addresses of ring %u are not aligned (0x%" PRIx64
			", 0x%" PRIx64 ", 0x%" PRIx64 ")",
			addr->index, addr->desc, addr->avail, addr->used);
	gm_vhost_ring_pause(call->b, r, false);
	r->addr = *addr;
	r->has_addr = true;
	return gm_vhost_ring_go(call->b, r, call->err);
}

/*
 * Of a packed ring a base is two places. Some front-ends (DPDK's virtio-user) tell the first only, the next to be
 * taken; without an area of what is in flight all that was taken is used, so the second is the same. No ring that was
 * given back stands at (0, wrap 0) while its other place is another.
 */
static uint32_t whole_base(const struct gm_vhost_backend *b, uint32_t base)
{
	const bool half = (b->features & VHOST_F_PACKED) && base <= UINT16_MAX;

	return half && !b->area_space ? base << 16 | base : base;
}

int gm_vhost_on_set_base(struct vhost_call *call)
{
	const struct gm_vhost_vring_state *state = &call->msg->u.vring;
	struct vhost_ring *r = gm_vhost_ring_of(call, state->index);

	if (!r)
		return -EINVAL;
	if (r->running)
		return gm_error_set(call->err, -EBUSY, 0, 0,
			"vhost-user: ring %u runs and cannot be moved", state->index);
	if (!(call->b->features & VHOST_F_PACKED) && state->num > UINT16_MAX)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: ring %u cannot stand at %u", state->index, state->num);
	forget_queue(r);
	r->base = whole_base(call->b, state->num);
	r->has_base = true;
	return 0;
}

/* Stops the ring. What is out is waited for, or with the features for it left as in flight. */
int gm_vhost_on_get_base(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	struct gm_vhost_vring_state state = call->msg->u.vring;
	struct vhost_ring *r = gm_vhost_ring_of(call, state.index);
	const bool suspend = call->msg->request == GM_VHOST_GET_VRING_BASE_SKIP_DRAIN ||
			     (vhost_has(b, GM_VHOST_PROTOCOL_GET_VRING_BASE_INFLIGHT) &&
				     !vhost_has(b, GM_VHOST_PROTOCOL_GET_VRING_BASE_SKIP_DRAIN));

	if (!r)
		return -EINVAL;
	gm_vhost_ring_pause(b, r, suspend && b->area_space);
	forget_queue(r);
	r->started = false;
	gm_vhost_close(&r->kick);
	state.num = !r->has_base && (b->features & VHOST_F_PACKED) ? PACKED_BEGIN : r->base;
	gm_vhost_answer(call, &state, sizeof(state));
	return 0;
}

int gm_vhost_on_enable(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_vring_state *state = &call->msg->u.vring;
	struct vhost_ring *r = gm_vhost_ring_of(call, state->index);

	if (!r)
		return -EINVAL;
	/* DPDK's virtio-user, that is connected to again, turns rings off first. They are, until there are features. */
	if (state->num == 0 && b->features == 0)
		return 0;
	if (!(b->features & GM_VHOST_F_PROTOCOL_FEATURES) || state->num > 1)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: ring %u is enabled by %u, or without PROTOCOL_FEATURES",
			state->index, state->num);
	r->enabled = state->num;
	if (!r->enabled)
		gm_vhost_ring_pause(b, r, false);
	return gm_vhost_ring_go(b, r, call->err);
}

/* Rings are little-endian here, as those of VIRTIO 1 are. */
int gm_vhost_on_endian(struct vhost_call *call)
{
	const struct gm_vhost_vring_state *state = &call->msg->u.vring;

	if (!gm_vhost_ring_of(call, state->index))
		return -EINVAL;
	return state->num == 0 ? 0
			       : gm_error_set(call->err, -ENOTSUP, 0, 0,
					 "vhost-user: ring %u is to be big-endian", state->index);
}
