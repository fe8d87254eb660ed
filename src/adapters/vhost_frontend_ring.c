/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_frontend_ring.c - rings that a front-end of vhost-user gives to its back-end. */
#define GM_NO_INLINE 1 /* accesses are in functions of their own, which are looked at */
#include <errno.h>
#include <guestmem/access.h>
#include <inttypes.h>
#include <string.h>

#include "adapters/vhost_frontend.h"
#include "core/bytes.h"
#include "core/error.h"
#include "sys/sys.h"

#define F_RING_PACKED (UINT64_C(1) << 34)
#define PARTS 3u
#define NUM_MAX 32768u

static struct gm_vhost_table table_of(const struct gm_vhost_fe_map *map)
{
	struct gm_vhost_table table = {map->slots, map->nr};

	return table;
}

/* ---- where it is ---- */

struct part {
	const char *name;
	uint64_t addr;
	uint64_t len;
};

static void parts_of(const struct gm_vhost_frontend *fe, const struct gm_vhost_frontend_ring *ring,
	struct part parts[PARTS])
{
	bool packed = fe->features & F_RING_PACKED;
	uint64_t num = ring->num;

	parts[0] = (struct part){"descriptors", ring->desc, 16 * num};
	parts[1] = (struct part){
		packed ? "driver's area" : "available ring", ring->avail, packed ? 4 : 6 + 2 * num};
	parts[2] = (struct part){
		packed ? "device's area" : "used ring", ring->used, packed ? 4 : 6 + 8 * num};
}

static bool by_iova(const struct gm_vhost_frontend *fe)
{
	return fe->features & GM_VHOST_F_IOMMU_PLATFORM;
}

static int check_ring(const struct gm_vhost_frontend *fe, uint32_t index,
	const struct gm_vhost_frontend_ring *ring, const struct gm_vhost_fe_map *map,
	struct gm_error *err)
{
	struct part parts[PARTS];

	if (by_iova(fe) || !fe->space)
		return 0;
	parts_of(fe, ring, parts);
	for (size_t i = 0; i < PARTS; i++) {
		if (!gm_vhost_plan_find(table_of(map), parts[i].addr, parts[i].len))
			return gm_error_set(err, -EFAULT, parts[i].addr, parts[i].len,
				"%s: ring %u: its %s, %" PRIu64 " bytes at 0x%" PRIx64
				", lie in no region of the back-end",
				fe->name, index, parts[i].name, parts[i].len, parts[i].addr);
	}
	return 0;
}

/* The same bytes of the same file? */
static bool stays(const struct part *part, const struct gm_vhost_fe_map *old,
	const struct gm_vhost_fe_map *new)
{
	const struct gm_vhost_slot *was = gm_vhost_plan_find(table_of(old), part->addr, part->len);
	const struct gm_vhost_slot *is = gm_vhost_plan_find(table_of(new), part->addr, part->len);

	return !was ||
	       (is && was->file[0] == is->file[0] && was->file[1] == is->file[1] &&
		       was->region.off - was->region.gpa == is->region.off - is->region.gpa);
}

int gm_vhost_fe_rings_check(const struct gm_vhost_frontend *fe, const struct gm_vhost_fe_map *old,
	const struct gm_vhost_fe_map *new, struct gm_error *err)
{
	for (uint32_t n = 0; !by_iova(fe) && n < fe->opts.rings; n++) {
		struct part parts[PARTS];

		if (!fe->rings[n].started)
			continue;
		parts_of(fe, &fe->rings[n].set, parts);
		for (size_t i = 0; i < PARTS; i++) {
			if (!stays(&parts[i], old, new))
				return gm_error_set(err, -EBUSY, parts[i].addr, parts[i].len,
					"%s: ring %u has its %s at 0x%" PRIx64
					": stop it before this memory changes",
					fe->name, n, parts[i].name, parts[i].addr);
		}
	}
	return 0;
}

/* ---- messages ---- */

static int set_state(struct gm_vhost_frontend *fe, uint32_t request, uint32_t index, uint32_t num,
	struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = request, .len = sizeof(struct gm_vhost_vring_state)}};

	call.msg.u.vring = (struct gm_vhost_vring_state){index, num};
	return gm_vhost_fe_call(fe, &call, err);
}

static int set_fd(struct gm_vhost_frontend *fe, uint32_t request, uint32_t index, const int *fd,
	struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = request, .len = sizeof(uint64_t)},
		.fds = fd,
		.nr_fds = *fd >= 0,
	};

	call.msg.u.number = index | (*fd >= 0 ? 0 : GM_VHOST_VRING_NO_FD);
	return gm_vhost_fe_call(fe, &call, err);
}

static int set_addr(struct gm_vhost_frontend *fe, uint32_t index, struct gm_error *err)
{
	const struct gm_vhost_frontend_ring *ring = &fe->rings[index].set;
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_SET_VRING_ADDR,
						.len = sizeof(struct gm_vhost_vring_addr)}};
	bool log = fe->log_on && (ring->flags & GM_VHOST_FRONTEND_RING_LOG);

	call.msg.u.addr = (struct gm_vhost_vring_addr){
		.index = index,
		.flags = log ? GM_VHOST_VRING_LOG : 0,
		.desc = ring->desc,
		.used = ring->used,
		.avail = ring->avail,
		.log = ring->log,
	};
	return gm_vhost_fe_call(fe, &call, err);
}

static int enable(struct gm_vhost_frontend *fe, uint32_t index, bool on, struct gm_error *err)
{
	int rc = 0;

	/* Without the feature it is enabled by its kick. */
	if (fe->features & GM_VHOST_F_PROTOCOL_FEATURES)
		rc = set_state(fe, GM_VHOST_SET_VRING_ENABLE, index, on, err);
	return rc;
}

static int tell_ring(struct gm_vhost_frontend *fe, uint32_t index, struct gm_error *err)
{
	struct gm_vhost_fe_ring *ring = &fe->rings[index];
	int rc = set_state(fe, GM_VHOST_SET_VRING_NUM, index, ring->set.num, err);

	if (!rc)
		rc = set_state(fe, GM_VHOST_SET_VRING_BASE, index, ring->set.base, err);
	if (!rc)
		rc = set_addr(fe, index, err);
	if (!rc)
		rc = set_fd(fe, GM_VHOST_SET_VRING_CALL, index, &ring->set.call, err);
	if (!rc && ring->set.error >= 0)
		rc = set_fd(fe, GM_VHOST_SET_VRING_ERR, index, &ring->set.error, err);
	if (!rc)
		rc = set_fd(fe, GM_VHOST_SET_VRING_KICK, index, &ring->set.kick, err);
	if (!rc && ring->enabled)
		rc = enable(fe, index, true, err);
	return rc;
}

/* Of a split ring: all that was shown as used is done; what was taken beyond it is in the area, or begins anew. */
static void find_base(struct gm_vhost_frontend *fe, struct gm_vhost_fe_ring *ring)
{
	const struct gm_view *view;
	uint8_t used[2];

	if (!fe->reader || by_iova(fe) || (fe->features & F_RING_PACKED))
		return;
	view = gm_reader_enter(fe->reader);
	if (gm_read(view, ring->set.used + 2, used, sizeof(used), NULL) == 0)
		ring->set.base = (uint32_t)gm_get_le(used, sizeof(used));
	gm_reader_leave(fe->reader);
}

int gm_vhost_fe_rings_tell(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	int rc = 0;

	for (uint32_t n = 0; !rc && n < fe->opts.rings; n++) {
		if (!fe->rings[n].started)
			continue;
		find_base(fe, &fe->rings[n]);
		rc = tell_ring(fe, n, err);
	}
	return rc;
}

int gm_vhost_fe_rings_log(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	int rc = 0;

	for (uint32_t n = 0; !rc && n < fe->opts.rings; n++) {
		if (fe->rings[n].started && (fe->rings[n].set.flags & GM_VHOST_FRONTEND_RING_LOG))
			rc = set_addr(fe, n, err);
	}
	return rc;
}

/* ---- life ---- */

static void close_fds(struct gm_vhost_fe_ring *ring)
{
	int *fds[] = {&ring->set.kick, &ring->set.call, &ring->set.error};

	for (size_t i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			gm_sys_close(*fds[i]);
		*fds[i] = -1;
	}
}

static void end(struct gm_vhost_fe_ring *ring)
{
	close_fds(ring);
	ring->started = false;
	ring->enabled = false;
}

void gm_vhost_fe_rings_end(struct gm_vhost_frontend *fe)
{
	for (uint32_t n = 0; fe->rings && n < fe->opts.rings; n++) {
		if (fe->rings[n].started)
			end(&fe->rings[n]);
	}
}

void gm_vhost_fe_rings_free(struct gm_vhost_frontend *fe)
{
	gm_vhost_fe_rings_end(fe);
	gm_sys_free(fe->rings);
}

static int keep_fds(
	struct gm_vhost_frontend *fe, struct gm_vhost_fe_ring *ring, struct gm_error *err)
{
	int *fds[] = {&ring->set.kick, &ring->set.call, &ring->set.error};
	int rc = 0;

	for (size_t i = 0; i < 3; i++) {
		int fd = *fds[i];

		*fds[i] = -1;
		if (rc || fd < 0)
			continue;
		*fds[i] = gm_sys_dup(fd);
		if (*fds[i] < 0) {
			rc = *fds[i];
			*fds[i] = -1;
		}
	}
	if (!rc)
		return 0;
	close_fds(ring);
	return gm_error_set(
		err, rc, 0, 0, "%s: eventfd of a ring: %s", fe->name, gm_error_word(rc));
}

static int start(struct gm_vhost_frontend *fe, uint32_t index,
	const struct gm_vhost_frontend_ring *set, struct gm_error *err)
{
	struct gm_vhost_fe_ring *ring = &fe->rings[index];
	int rc;

	if (ring->started)
		return gm_error_set(err, -EBUSY, 0, 0, "%s: ring %u is started", fe->name, index);
	rc = check_ring(fe, index, set, &fe->now, err);
	if (rc < 0)
		return rc;
	ring->set = *set;
	rc = keep_fds(fe, ring, err);
	if (rc < 0)
		return rc;
	ring->enabled = !(set->flags & GM_VHOST_FRONTEND_RING_OFF);
	rc = tell_ring(fe, index, err);
	ring->started = rc == 0;
	if (!rc)
		return 0;
	/* It has some of it, and perhaps the kick. */
	if (fe->sock >= 0 && set_state(fe, GM_VHOST_GET_VRING_BASE, index, 0, NULL) < 0)
		gm_vhost_fe_lose(fe, rc, "", NULL);
	end(ring);
	return rc;
}

int gm_vhost_frontend_ring_start(struct gm_vhost_frontend *fe, uint32_t index,
	const struct gm_vhost_frontend_ring *ring, struct gm_error *err)
{
	struct gm_vhost_frontend_ring set;
	struct gm_inside inside;
	int rc = gm_opts_copy(&set, sizeof(set), ring, sizeof(set));

	if (rc)
		return gm_opts_error(err, rc, "struct gm_vhost_frontend_ring");
	if (index >= fe->opts.rings || set.num == 0 || set.num > NUM_MAX ||
		set.flags & ~(GM_VHOST_FRONTEND_RING_LOG | GM_VHOST_FRONTEND_RING_OFF))
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: ring %u of %u with %u entries and flags 0x%x", fe->name, index,
			fe->opts.rings, set.num, set.flags);
	rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0)
		return rc;
	rc = start(fe, index, &set, err);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

static int stop(
	struct gm_vhost_frontend *fe, uint32_t index, uint32_t *ret_base, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_GET_VRING_BASE,
						.len = sizeof(struct gm_vhost_vring_state)}};
	int rc;

	if (!fe->rings[index].started)
		return gm_error_set(
			err, -ENOENT, 0, 0, "%s: ring %u is not started", fe->name, index);
	call.msg.u.vring.index = index;
	rc = gm_vhost_fe_call(fe, &call, err);
	if (!rc && call.msg.u.vring.index != index)
		rc = gm_vhost_fe_lose(fe, -EPROTO, "GET_VRING_BASE", err);
	end(&fe->rings[index]);
	if (!rc && ret_base)
		*ret_base = call.msg.u.vring.num;
	return rc;
}

int gm_vhost_frontend_ring_stop(
	struct gm_vhost_frontend *fe, uint32_t index, uint32_t *ret_base, struct gm_error *err)
{
	struct gm_inside inside;
	int rc;

	if (index >= fe->opts.rings)
		return gm_error_set(err, -EINVAL, 0, 0, "%s: there is no ring %u", fe->name, index);
	rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0)
		return rc;
	rc = stop(fe, index, ret_base, err);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_frontend_ring_enable(
	struct gm_vhost_frontend *fe, uint32_t index, bool on, struct gm_error *err)
{
	struct gm_inside inside;
	int rc;

	if (index >= fe->opts.rings)
		return gm_error_set(err, -EINVAL, 0, 0, "%s: there is no ring %u", fe->name, index);
	rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0)
		return rc;
	if (fe->rings[index].started)
		rc = enable(fe, index, on, err);
	else
		rc = gm_error_set(
			err, -ENOENT, 0, 0, "%s: ring %u is not started", fe->name, index);
	if (!rc)
		fe->rings[index].enabled = on;
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}
