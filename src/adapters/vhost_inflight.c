/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_inflight.c - the area that tells a next back-end which chains are out: made here, kept by the front-end. */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "core/error.h"
#include "sys/sys.h"

#define MIN_LEN 20u /* of the message, which some send without its padding */

static uint32_t flags_of(const struct gm_vhost_backend *b)
{
	return b->features & VHOST_F_PACKED ? GM_VIRTQ_PACKED : 0;
}

static int check(struct vhost_call *call, uint64_t *ret_len)
{
	const struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_inflight *in = &call->msg->u.inflight;

	if (in->queues == 0 || in->queues > b->o.queues || in->queue_size == 0 ||
		in->queue_size > b->o.queue_size)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: an area for %u queues of %u entries; there are %u of %u",
			in->queues, in->queue_size, b->o.queues, b->o.queue_size);
	*ret_len = in->queues * gm_virtq_inflight_len(in->queue_size, flags_of(b));
	return 0;
}

static int make_file(uint64_t len, struct gm_error *err)
{
	int fd = gm_sys_memfd("vhost-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = fd < 0 ? fd : -EINTR;

	while (rc == -EINTR)
		rc = gm_sys_ftruncate(fd, len);
	if (!rc)
		rc = gm_sys_add_seals(fd, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	if (!rc)
		return fd;
	if (fd >= 0)
		gm_sys_close(fd);
	return gm_error_set(err, rc, 0, len,
		"vhost-user: no area of %" PRIu64 " bytes for what is in flight: %s", len,
		gm_error_word(rc));
}

int gm_vhost_on_get_inflight(struct vhost_call *call)
{
	struct gm_vhost_inflight answer = call->msg->u.inflight;
	uint64_t len;
	int fd;
	int rc = check(call, &len);

	/* Whole pages, so that it can be mapped by all. */
	if (!rc && !gm_align_up(len, gm_sys_page_size(), &len))
		rc = -EINVAL;
	fd = rc ? rc : make_file(len, call->err);
	answer.len = fd < 0 ? 0 : len;
	answer.off = 0;
	gm_vhost_answer(call, &answer, call->msg->len < MIN_LEN ? MIN_LEN : call->msg->len);
	if (fd < 0)
		return fd;
	gm_vhost_answer_fd(call, fd);
	return 0;
}

/* A space of its own over the mapping: the queues' accesses to it are guarded as those to guest memory. */
static int make_space(struct gm_vhost_backend *b, struct gm_error *err)
{
	const struct gm_space_opts opts = {
		.size = sizeof(opts),
		.gpa_limit = GM_SPACE_NO_WINDOW,
		.name = "in flight",
	};
	const uint64_t len = b->area.base_len;
	const struct gm_block_opts block = {
		.size = sizeof(block),
		.len = len,
		.backing = GM_BACKING_POINTER,
		.addr = b->area.base,
	};
	const struct gm_region_desc desc = {
		.size = sizeof(desc), .len = len, .backing = &block, .name = "in flight"};

	return gm_space_build(&opts, &desc, 1, &b->area_space, err);
}

int gm_vhost_on_set_inflight(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_inflight *in = &call->msg->u.inflight;
	uint64_t len;
	int rc = check(call, &len);

	if (rc)
		return rc;
	if (gm_vhost_rings_run(b))
		return gm_error_set(call->err, -EBUSY, 0, 0,
			"vhost-user: what is in flight cannot move while rings run");
	if (in->len < len || (in->off & 63))
		return gm_error_set(call->err, -EINVAL, in->off, in->len,
			"vhost-user: %" PRIu64 " bytes at %" PRIu64
			" for what is in flight; it takes %" PRIu64,
			in->len, in->off, len);
	gm_vhost_inflight_drop(b);
	rc = gm_vhost_file_map(call->fds[0], in->off, in->len, "the area of what is in flight",
		&b->area, call->err);
	if (!rc)
		rc = make_space(b, call->err);
	if (rc) {
		gm_vhost_file_unmap(&b->area);
		return rc;
	}
	b->area_queues = in->queues;
	b->area_queue_size = in->queue_size;
	gm_vhost_rings_go(b);
	return 0;
}

/* Queues that stand still and have a part of it go on by their base. */
void gm_vhost_inflight_drop(struct gm_vhost_backend *b)
{
	for (uint32_t i = 0; i < b->o.queues; i++) {
		struct vhost_ring *r = &b->rings[i];

		if (!r->vq)
			continue;
		r->base = gm_virtq_base(r->vq);
		r->has_base = true;
		gm_virtq_destroy(r->vq);
		r->vq = NULL;
	}
	gm_space_destroy(b->area_space);
	b->area_space = NULL;
	gm_vhost_file_unmap(&b->area);
}

int gm_vhost_inflight_track(
	struct gm_vhost_backend *b, uint32_t index, struct vhost_ring *r, struct gm_error *err)
{
	const uint64_t each = gm_virtq_inflight_len(b->area_queue_size, flags_of(b));
	const uint64_t skip = (uint64_t)(b->area.at - (uint8_t *)b->area.base);

	if (!b->area_space)
		return 0;
	if (index >= b->area_queues || r->nr > b->area_queue_size)
		return gm_error_set(err, -EINVAL, 0, 0,
			"vhost-user: the area of what is in flight is for %u queues of %u entries, "
			"not for queue %u of %u",
			b->area_queues, b->area_queue_size, index, r->nr);
	return gm_virtq_track(r->vq, b->area_space, skip + index * each, err);
}
