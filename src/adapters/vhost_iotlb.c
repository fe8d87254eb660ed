/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_iotlb.c - IOVAs of the guest's IOMMU.
 *
 * Queues use a space of IOVAs over the space of guest addresses. An update comes with user addresses, which are led to
 * guest addresses when it comes. What is missing is asked for on the back-end's own socket, without waiting: the access
 * is -EAGAIN, and is tried again when translations came. That it is asked for once is the IOMMU's work.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"

#define PERM_R 1u
#define PERM_W 2u

/* By any thread that accesses memory, in its section. */
static int miss(void *ctx, uint64_t iova, uint64_t len, uint32_t perms)
{
	struct gm_vhost_backend *b = ctx;
	const struct gm_vhost_msg msg = {
		.request = GM_VHOST_BACKEND_IOTLB_MSG,
		.len = sizeof(msg.u.iotlb),
		.u.iotlb = {.iova = iova,
			.len = len,
			.perm = (uint8_t)((perms & GM_PERM_R ? PERM_R : 0) |
					  (perms & GM_PERM_W ? PERM_W : 0)),
			.type = GM_VHOST_IOTLB_MISS},
	};

	__atomic_add_fetch(&b->misses, 1, __ATOMIC_RELAXED);
	return gm_vhost_backend_request(b, &msg, NULL, 0, NULL, NULL, NULL);
}

int gm_vhost_iotlb_init(struct gm_vhost_backend *b, struct gm_error *err)
{
	const struct gm_iommu_opts iommu = {
		.size = sizeof(iommu), .capacity = b->o.iotlb, .miss = miss, .ctx = b};
	const struct gm_space_opts opts = {
		.size = sizeof(opts),
		.gpa_limit = GM_SPACE_NO_WINDOW,
		.timeout_ns = b->o.timeout_ns,
		.name = "iova",
		.over = b->mem.space,
	};
	struct gm_region_desc desc = {
		.size = sizeof(desc), .kind = GM_REGION_IOMMU, .name = "iova"};
	int rc = gm_iommu_create(b->mem.space, &iommu, &b->iommu, err);

	desc.iommu = b->iommu;
	if (!rc)
		rc = gm_space_build(&opts, &desc, 1, &b->iova, err);
	if (!rc)
		rc = gm_reader_create(b->iova, "vhost-user", &b->iova_reader, err);
	return rc;
}

void gm_vhost_iotlb_fini(struct gm_vhost_backend *b)
{
	gm_reader_destroy(b->iova_reader);
	gm_space_destroy(b->iova);
	gm_iommu_put(b->iommu);
}

void gm_vhost_iotlb_forget(struct gm_vhost_backend *b)
{
	if (b->iommu)
		gm_iommu_unmap_all(b->iommu);
}

/* All of it lies in regions, which need not lie side by side here. */
static int update(struct vhost_call *call, const struct gm_vhost_iotlb *in, bool check)
{
	struct gm_vhost_backend *b = call->b;
	const uint32_t perms =
		(in->perm & PERM_R ? GM_PERM_R : 0) | (in->perm & PERM_W ? GM_PERM_W : 0);
	uint64_t done = 0;

	while (done < in->len) {
		uint64_t gpa;
		uint64_t len;
		int rc = gm_vhost_memory_find(&b->mem, in->user + done, &gpa, &len);

		if (rc)
			return gm_error_set(call->err, -EINVAL, in->iova + done, in->len - done,
				"vhost-user: the translation of 0x%" PRIx64
				" leads to user address 0x%" PRIx64 ", where there is no region",
				in->iova + done, in->user + done);
		len = len < in->len - done ? len : in->len - done;
		if (!check)
			rc = gm_iommu_map(b->iommu, in->iova + done, len, gpa, perms, call->err);
		if (rc)
			return rc;
		done += len;
	}
	return 0;
}

static int on_update(struct vhost_call *call, const struct gm_vhost_iotlb *in)
{
	struct gm_vhost_backend *b = call->b;
	struct gm_range range;
	int rc;

	if (!gm_range_make(in->iova, in->len, &range) ||
		!gm_range_make(in->user, in->len, &range) || in->perm == 0 ||
		(in->perm & ~(PERM_R | PERM_W)))
		return gm_error_set(call->err, -EINVAL, in->iova, in->len,
			"vhost-user: a translation of 0x%" PRIx64 " bytes at 0x%" PRIx64
			" to 0x%" PRIx64 " with permissions %u",
			in->len, in->iova, in->user, in->perm);
	rc = update(call, in, true);
	if (!rc)
		rc = update(call, in, false);
	if (rc)
		return rc;
	if (b->ops.translated)
		b->ops.translated(b->o.ctx);
	gm_vhost_rings_go(b);
	return 0;
}

/* It may cover more than there is; 0 bytes at 0 are all 2^64. When it is answered nobody uses what went. */
static int on_invalidate(struct vhost_call *call, const struct gm_vhost_iotlb *in)
{
	struct gm_vhost_backend *b = call->b;
	const uint64_t most = UINT64_MAX - in->iova; /* bytes, less one */
	int rc = 0;

	if (in->len == 0 && in->iova != 0)
		return gm_error_set(call->err, -EINVAL, in->iova, 0,
			"vhost-user: an invalidation of no bytes at 0x%" PRIx64, in->iova);
	if (in->iova == 0 && (in->len == 0 || in->len == UINT64_MAX))
		gm_iommu_unmap_all(b->iommu);
	else
		rc = gm_iommu_unmap(b->iommu, in->iova, in->len - 1 > most ? most + 1 : in->len);
	if (!rc)
		rc = gm_space_synchronize(b->iova, 0, call->err);
	if (!rc && b->ops.drain)
		rc = gm_checked_code(b->ops.drain(b->o.ctx));
	return rc;
}

int gm_vhost_on_iotlb(struct vhost_call *call)
{
	const struct gm_vhost_iotlb *in = &call->msg->u.iotlb;

	if (!vhost_has_iommu(call->b))
		return gm_error_set(
			call->err, -ENOTSUP, 0, 0, "vhost-user: IOTLB_MSG without IOMMU_PLATFORM");
	switch (in->type) {
	case GM_VHOST_IOTLB_UPDATE:
		return on_update(call, in);
	case GM_VHOST_IOTLB_INVALIDATE:
		return on_invalidate(call, in);
	default:
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: IOTLB_MSG of type %u from a front-end", in->type);
	}
}
