/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_look.c - where a back-end stands, for the thread that handles messages. Nothing here changes it, asks its
 * front-end for something, or waits for one.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>

#include <guestmem/access.h>
#include <guestmem/vhost_look.h>

#include "sys/sys.h"

int gm_vhost_backend_info(struct gm_vhost_backend *b, struct gm_vhost_backend_info *ret)
{
	struct gm_iommu_info iommu = {.size = sizeof(iommu)};
	const size_t size = ret->size;

	if (size < sizeof(*ret))
		return -EINVAL;
	if (b->iommu)
		gm_iommu_info(b->iommu, &iommu);
	*ret = (struct gm_vhost_backend_info){
		.size = size,
		.features = b->features,
		.protocol = b->protocol,
		.regions = b->mem.nr,
		.messages = b->messages,
		.failed = b->failed,
		.misses = __atomic_load_n(&b->misses, __ATOMIC_RELAXED),
		.log_len = b->bits ? b->bits->map.len : 0,
		.postcopy = (uint32_t)b->postcopy,
		.status = b->status,
		.offered = b->offered,
		.offered_protocol = b->offered_protocol,
		.connections = b->connections,
		.translations = iommu.entries,
		.inflight_len = b->area_space ? b->area.len : 0,
		.inflight_queues = b->area_space ? b->area_queues : 0,
		.inflight_queue_size = b->area_space ? b->area_queue_size : 0,
		.queues = b->o.queues,
		.connected = b->connected,
		.logging = b->log != NULL,
	};
	for (uint32_t i = 0; i < b->o.queues; i++)
		ret->running += b->rings[i].running;
	return 0;
}

int gm_vhost_backend_region(
	struct gm_vhost_backend *b, uint32_t index, struct gm_vhost_backend_region *ret)
{
	const size_t size = ret->size;
	const struct gm_vhost_slot *slot;

	if (size < sizeof(*ret))
		return -EINVAL;
	if (index >= b->mem.nr)
		return -ENOENT;
	slot = &b->mem.slots[index];
	*ret = (struct gm_vhost_backend_region){
		.size = size,
		.gpa = slot->gpa.first,
		.len = gm_range_len(&slot->gpa),
		.user = slot->user.first,
		.off = slot->off,
		.id = slot->id,
	};
	return 0;
}

int gm_vhost_backend_ring(
	struct gm_vhost_backend *b, uint32_t index, struct gm_vhost_backend_ring *ret)
{
	const size_t size = ret->size;
	const struct vhost_ring *r;

	if (size < sizeof(*ret))
		return -EINVAL;
	if (index >= b->o.queues)
		return -ENOENT;
	r = &b->rings[index];
	*ret = (struct gm_vhost_backend_ring){
		.size = size,
		.nr = r->nr,
		/* The device's thread moves a queue that runs. */
		.base = r->vq && !r->running ? gm_virtq_base(r->vq) : r->base,
		.flags = (r->started ? GM_VHOST_RING_STARTED : 0) |
			 (r->enabled ? GM_VHOST_RING_ENABLED : 0) |
			 (r->running ? GM_VHOST_RING_RUNS : 0) |
			 (r->has_addr ? GM_VHOST_RING_PLACED : 0) |
			 (r->addr.flags & GM_VHOST_VRING_LOG ? GM_VHOST_RING_LOGGED : 0),
		.desc = r->addr.desc,
		.avail = r->addr.avail,
		.used = r->addr.used,
		.calls = __atomic_load_n(&r->calls, __ATOMIC_RELAXED),
		.errors = __atomic_load_n(&r->errors, __ATOMIC_RELAXED),
	};
	return 0;
}

/* ---- memory ---- */

/* The guest address of the first byte, and how many bytes lie behind it together. */
static int lead(const struct gm_vhost_backend *b, uint64_t addr, uint64_t len, uint64_t *ret_gpa,
	uint64_t *ret_len)
{
	struct gm_iommu_part part;
	size_t needed;
	int rc;

	if (!vhost_has_iommu(b))
		return gm_vhost_memory_find(&b->mem, addr, ret_gpa, ret_len);
	rc = gm_iommu_translate(b->iommu, addr, len, GM_PERM_R, &part, 1, &needed);
	if (rc == -ENOMEM || rc == -ERANGE)
		return rc == -ENOMEM ? rc : -EFAULT;
	if (part.state != GM_IOMMU_GOOD)
		return part.state == GM_IOMMU_MISSING ? -ENOENT : -EACCES;
	*ret_gpa = part.target;
	*ret_len = part.len;
	return 0;
}

static int peek(struct gm_vhost_backend *b, const struct gm_view *view, uint64_t addr, char *buf,
	size_t len)
{
	size_t done = 0;

	while (done < len) {
		uint64_t gpa;
		uint64_t there;
		int rc = lead(b, addr + done, len - done, &gpa, &there);

		if (rc)
			return rc;
		if (there > len - done)
			there = len - done;
		if (gm_read(view, gpa, buf + done, (size_t)there, NULL))
			return -EFAULT;
		done += (size_t)there;
	}
	return 0;
}

int gm_vhost_backend_peek(struct gm_vhost_backend *b, uint64_t addr, void *buf, size_t len)
{
	struct gm_range range;
	int rc;

	if (b->postcopy == POSTCOPY_LISTENING)
		return -EAGAIN;
	if (len == 0 || !gm_range_make(addr, len, &range))
		return len == 0 ? 0 : -EFAULT;
	rc = peek(b, gm_reader_enter(b->reader), addr, buf, len);
	gm_reader_leave(b->reader);
	return rc;
}

int gm_vhost_backend_log(struct gm_vhost_backend *b, uint64_t off, void *buf, size_t len)
{
	if (!b->bits)
		return -ENOENT;
	if (off > b->bits->map.len || len > b->bits->map.len - off)
		return -EINVAL;
	return len && gm_guard_copy_from(buf, b->bits->map.at + off, len, NULL) ? -EFAULT : 0;
}
