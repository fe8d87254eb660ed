/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_shmem.c - see guestmem/vhost_shmem.h.
 *
 * Each mapping is a region of its own in its container. The list is written behind the commit that it tells of, so it
 * is never ahead of the map; who asks for the map's lock gets -EBUSY and does not wait, so callbacks of a front-end,
 * which hold that one, may come while a commit of the same space waits for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>

#include <guestmem/guard.h>
#include <guestmem/txn.h>
#include <guestmem/view.h>
#include <guestmem/vhost_shmem.h>

#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define MAPS 256u

struct mapped {
	struct gm_range at; /* of the shared memory region */
	uint64_t region;
	uint8_t id;
	bool goes; /* in the transaction that is open */
};

struct gm_vhost_shmem {
	struct gm_vhost_shmem_opts opts;
	pthread_mutex_t lock;
	struct mapped *maps; /* opts.maps */
	uint32_t nr;
	uint64_t containers[GM_VHOST_SHMEM_MAX]; /* 0: not placed */
};

/* ---- life ---- */

int gm_vhost_shmem_create(const struct gm_vhost_shmem_opts *opts, struct gm_vhost_shmem **ret_shmem,
	struct gm_error *err)
{
	struct gm_vhost_shmem_opts own;
	struct gm_vhost_shmem *s;
	int rc = gm_opts_copy(&own, sizeof(own), opts, sizeof(own));

	if (rc)
		return gm_opts_error(err, rc, "struct gm_vhost_shmem_opts");
	if (!own.space || own.maps > UINT16_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"shared memory regions: no space, or %u mappings", own.maps);
	own.kind = own.kind ? own.kind : GM_REGION_DEVMEM;
	own.maps = own.maps ? own.maps : MAPS;
	s = gm_sys_alloc(sizeof(*s));
	if (s)
		s->maps = gm_sys_alloc_array(own.maps, sizeof(*s->maps));
	if (!s || !s->maps) {
		gm_sys_free(s);
		return gm_error_set(
			err, -ENOMEM, 0, 0, "shared memory regions: %s", gm_error_word(-ENOMEM));
	}
	s->opts = own;
	pthread_mutex_init(&s->lock, NULL);
	*ret_shmem = s;
	return 0;
}

int gm_vhost_shmem_destroy(struct gm_vhost_shmem *s, struct gm_error *err)
{
	int rc = s ? gm_vhost_shmem_clear(s, err) : 0;

	if (!s || rc)
		return rc;
	pthread_mutex_destroy(&s->lock);
	gm_sys_free(s->maps);
	gm_sys_free(s);
	return 0;
}

static int look_at_container(
	struct gm_vhost_shmem *s, uint64_t region, struct gm_region_info *ret, struct gm_error *err)
{
	int rc;

	*ret = (struct gm_region_info){.size = sizeof(*ret)};
	rc = region ? gm_space_region(s->opts.space, region, ret) : -ENOENT;
	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"shared memory regions: region %" PRIu64 " does not exist", region);
	if (ret->kind != GM_REGION_CONTAINER)
		return gm_error_set(err, -EINVAL, ret->gpa, ret->len,
			"shared memory regions: region %" PRIu64 " is no container", region);
	return 0;
}

int gm_vhost_shmem_place(
	struct gm_vhost_shmem *s, uint8_t id, uint64_t region, struct gm_error *err)
{
	struct gm_region_info info;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = look_at_container(s, region, &info, err);
	if (!rc && s->containers[id])
		rc = gm_error_set(err, -EBUSY, 0, 0, "shared memory region %u has a container", id);
	if (!rc)
		s->containers[id] = region;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- mapping ---- */

static int check_place(
	struct gm_vhost_shmem *s, const struct gm_vhost_shmem_map *map, struct gm_error *err)
{
	struct gm_region_info info;
	int rc;

	if (!s->containers[map->id])
		return gm_error_set(
			err, -ENOENT, 0, 0, "shared memory region %u does not exist", map->id);
	rc = look_at_container(s, s->containers[map->id], &info, err);
	if (rc)
		return rc;
	if (map->len == 0 || map->off > info.len || map->len > info.len - map->off)
		return gm_error_set(err, -ERANGE, map->off, map->len,
			"shared memory region %u has %" PRIu64 " bytes, and not %" PRIu64
			" at %" PRIu64,
			map->id, info.len, map->len, map->off);
	if (map->flags & ~GM_VHOST_SHMEM_WRITE)
		return gm_error_set(err, -EINVAL, 0, 0,
			"shared memory region %u: unknown flags 0x%" PRIx64, map->id, map->flags);
	if (s->nr == s->opts.maps)
		return gm_error_set(
			err, -ENOSPC, 0, 0, "shared memory regions: %u mappings at most", s->nr);
	return 0;
}

static int check_file(const struct gm_vhost_shmem_map *map, int fd, struct gm_error *err)
{
	struct stat st;
	uint64_t size;
	int seals;
	int rc = gm_sys_fstat(fd, &st);

	if (rc)
		return gm_error_set(err, rc, 0, 0, "shared memory region %u: fstat: %s", map->id,
			gm_error_word(rc));
	size = st.st_size > 0 ? (uint64_t)st.st_size : 0;
	if (!S_ISREG(st.st_mode) || map->fd_off > size || map->len > size - map->fd_off)
		return gm_error_set(err, -EINVAL, map->fd_off, map->len,
			"shared memory region %u: no file (mode 0%o, %" PRIu64
			" bytes) that has %" PRIu64 " bytes at %" PRIu64,
			map->id, (unsigned int)st.st_mode, size, map->len, map->fd_off);
	seals = gm_sys_get_seals(fd);
	if ((seals < 0 || !(seals & F_SEAL_SHRINK)) && gm_guard_check())
		return gm_error_set(err, -EPERM, 0, 0,
			"shared memory region %u: the back-end can shrink the file under us: have "
			"it "
			"sealed with F_SEAL_SHRINK, or install the fault guard",
			map->id);
	return 0;
}

static int add(struct gm_vhost_shmem *s, const struct gm_vhost_shmem_map *map, int fd,
	uint64_t *ret_region, struct gm_error *err)
{
	const bool writes = map->flags & GM_VHOST_SHMEM_WRITE;
	const struct gm_block_opts backing = {
		.size = sizeof(backing),
		.len = map->len,
		.backing = GM_BACKING_FD,
		.fd = fd,
		.offset = map->fd_off,
		.flags = writes ? 0 : GM_BLOCK_READONLY,
		.name = "vhost-shmem",
	};
	const struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = map->off,
		.kind = s->opts.kind,
		.perms = writes ? GM_PERM_RW : GM_PERM_R,
		.backing = &backing,
		.parent = s->containers[map->id],
	};

	return gm_space_add(s->opts.space, &desc, ret_region, err);
}

int gm_vhost_shmem_map(struct gm_vhost_shmem *s, const struct gm_vhost_shmem_map *map, int fd,
	struct gm_error *err)
{
	struct mapped m = {.id = map->id};
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = check_place(s, map, err);
	if (!rc)
		rc = check_file(map, fd, err);
	if (!rc)
		rc = add(s, map, fd, &m.region, err);
	/* It lies in the region, so it wraps nowhere. */
	if (!rc && gm_range_make(map->off, map->len, &m.at))
		s->maps[s->nr++] = m;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- unmapping ---- */

static int remove_chosen(struct gm_vhost_shmem *s, struct gm_error *err)
{
	struct gm_txn *txn;
	uint32_t kept = 0;
	int rc = gm_txn_begin(s->opts.space, &txn, err);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < s->nr && !rc; i++) {
		if (s->maps[i].goes)
			rc = gm_txn_remove(txn, s->maps[i].region, err);
	}
	if (!rc)
		rc = gm_txn_commit(txn, err);
	if (rc) {
		gm_txn_abort(txn);
		return rc;
	}
	for (uint32_t i = 0; i < s->nr; i++) {
		if (!s->maps[i].goes)
			s->maps[kept++] = s->maps[i];
	}
	s->nr = kept;
	return 0;
}

/* Marks what lies in the range: their number, or -EINVAL if something lies in it in part. */
static int choose(
	struct gm_vhost_shmem *s, const struct gm_vhost_shmem_map *map, struct gm_error *err)
{
	struct gm_range range;
	int nr = 0;

	if (!gm_range_make(map->off, map->len, &range))
		return gm_error_set(err, -EINVAL, map->off, map->len,
			"shared memory region %u: no bytes, or they wrap past 2^64", map->id);
	for (uint32_t i = 0; i < s->nr; i++) {
		struct mapped *m = &s->maps[i];

		m->goes = m->id == map->id && gm_range_contains(&range, &m->at);
		nr += m->goes;
		if (m->id == map->id && !m->goes && gm_range_overlaps(&range, &m->at))
			return gm_error_set(err, -EINVAL, m->at.first, gm_range_len(&m->at),
				"shared memory region %u: %" PRIu64 " bytes at %" PRIu64
				" would not go whole",
				map->id, gm_range_len(&m->at), m->at.first);
	}
	return nr;
}

int gm_vhost_shmem_unmap(
	struct gm_vhost_shmem *s, const struct gm_vhost_shmem_map *map, struct gm_error *err)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = choose(s, map, err);
	if (rc > 0)
		rc = remove_chosen(s, err);
	else if (rc == 0)
		rc = gm_error_set(err, -ENOENT, map->off, map->len,
			"shared memory region %u: nothing is mapped there", map->id);
	pthread_mutex_unlock(&s->lock);
	/* At once, if nobody is in the old map; else with a later change. */
	if (!rc)
		gm_space_reclaim(s->opts.space);
	return rc;
}

int gm_vhost_shmem_clear(struct gm_vhost_shmem *s, struct gm_error *err)
{
	int rc = 0;

	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < s->nr; i++)
		s->maps[i].goes = true;
	if (s->nr)
		rc = remove_chosen(s, err);
	pthread_mutex_unlock(&s->lock);
	if (!rc)
		gm_space_reclaim(s->opts.space);
	return rc;
}
