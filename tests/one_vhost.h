/* SPDX-License-Identifier: BSD-3-Clause */
/* one_vhost.h - what the tests of a front-end share: a space, a back-end that plays along, a front-end between them. */
#ifndef GM_TESTS_ONE_VHOST_H
#define GM_TESTS_ONE_VHOST_H

#include "one_space.h"
#include "vhost_fake.h"

#define PAGE 4096u
#define SHARED(n) BLOCK(.len = (n), .flags = GM_BLOCK_SHARE)

static struct gm_vhost_frontend *fe;
static struct fake *fake;

/* Calls of a front-end's own, noted. */
static struct {
	unsigned int misses;
	unsigned int config;
	unsigned int failed;
	unsigned int events;
	unsigned int maps;
	unsigned int unmaps;
	unsigned int notifiers;
	unsigned int objects;
	int nested;
} seen;

static inline int on_miss(void *ctx, struct gm_vhost_iotlb *iotlb)
{
	(void)ctx;
	seen.misses++;
	if (iotlb->iova == MIB(9))
		return -ENOENT;
	iotlb->len = PAGE;
	iotlb->user = iotlb->iova - MIB(100);
	iotlb->perm = 3;
	return 0;
}

static inline void on_fail(void *ctx, const struct gm_vhost_iotlb *iotlb)
{
	(void)ctx;
	(void)iotlb;
	seen.failed++;
}

static inline void on_config(void *ctx)
{
	uint8_t status;

	(void)ctx;
	seen.config++;
	seen.nested = gm_vhost_frontend_status_get(fe, &status, NULL);
}

static inline void on_event(void *ctx, uint32_t index, bool error)
{
	(void)ctx;
	seen.events += index + 10 * error;
}

static inline int on_map(void *ctx, const struct gm_vhost_shmem_map *map, int fd)
{
	(void)ctx;
	seen.maps++;
	return fd >= 0 && map->id == 3 ? 0 : -EINVAL;
}

static inline int on_unmap(void *ctx, const struct gm_vhost_shmem_map *map)
{
	(void)ctx;
	(void)map;
	seen.unmaps++;
	return 0;
}

static inline int on_object(void *ctx, uint32_t what, const uint8_t uuid[16], int *ret_fd)
{
	(void)ctx;
	seen.objects++;
	if (what == GM_VHOST_BACKEND_SHARED_OBJECT_LOOKUP)
		*ret_fd = fake_memfd(uuid[0]);
	return 0;
}

static const struct gm_vhost_frontend_ops calls = {
	.size = sizeof(calls),
	.miss = on_miss,
	.access_fail = on_fail,
	.config_changed = on_config,
	.ring_event = on_event,
	.shmem_map = on_map,
	.shmem_unmap = on_unmap,
	.shared_object = on_object,
};

#define FRONT(...) GM_OPTS(gm_vhost_frontend_opts, .fd = fake->theirs, .ops = &calls, __VA_ARGS__)
#define VERSION_1 (UINT64_C(1) << 32)
#define PLAIN FRONT(.rings = 2, .features = VERSION_1)

static const struct gm_space_opts small = {.size = sizeof(small), .gpa_limit = GIB(64)};

static inline void begin(void)
{
	memset(&seen, 0, sizeof(seen));
	fe = NULL;
	start(&small);
	fake = fake_new();
}

static inline void finish(void)
{
	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	fe = NULL;
	assert_false(fake->wrong);
	fake_end(fake);
	stop();
}

static inline uint64_t add_shared(uint64_t gpa, uint64_t len)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, DESC(.gpa = gpa, .backing = SHARED(len)), &id, &err));
	return id;
}

static inline struct gm_vhost_frontend_ring ring_at(uint64_t gpa)
{
	return (struct gm_vhost_frontend_ring){
		.size = sizeof(struct gm_vhost_frontend_ring),
		.num = 16,
		.desc = gpa,
		.avail = gpa + PAGE,
		.used = gpa + 2 * PAGE,
		.kick = -1,
		.call = -1,
		.error = -1,
		.flags = GM_VHOST_FRONTEND_RING_LOG,
		.log = gpa + 2 * PAGE,
	};
}

#endif
