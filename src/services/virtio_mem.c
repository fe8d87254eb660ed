/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_mem.c - see guestmem/virtio_mem.h.
 *
 * A bit for each block says that it is plugged; the region's parts say it to everybody else, and change first.
 *
 *   unplug: part → readers have left → discarded (guarded) → bit      if that fails: part back
 *   plug:   discarded again → unguarded → part → bit
 *
 * The second discard takes what a reader of an older view may have written behind the first.
 */
#include <guestmem/virtio_mem.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>

#include <guestmem/discard.h>

#include "core/bits.h"
#include "core/error.h"
#include "memory/space.h"
#include "sys/sys.h"

#define EXTRA_DEFAULT (UINT64_C(128) << 20)
#define BLOCK_DEFAULT (UINT64_C(2) << 20)

struct gm_virtio_mem {
	struct gm_space *space;
	uint64_t region;
	uint64_t extra;
	uint64_t nr; /* blocks */
	uint32_t flags;
	pthread_mutex_t lock;
	struct gm_virtio_mem_info sum;
	uint64_t *bits;
};

/* ---- life ---- */

static uint64_t usable_for(const struct gm_virtio_mem *m, uint64_t bytes)
{
	uint64_t room = m->sum.region_size;

	if (bytes > room || m->extra > room - bytes)
		return room;
	return gm_align_down(bytes + m->extra, m->sum.block_size);
}

static int refuse(const struct gm_virtio_mem *m, int rc, const char *why, struct gm_error *err)
{
	return gm_error_set(err, rc, m->sum.addr, m->sum.region_size,
		"%s: virtio-mem at gpa 0x%" PRIx64 ": %s", m->space->name, m->sum.addr, why);
}

static int take_region(
	struct gm_virtio_mem *m, const struct gm_virtio_mem_opts *opts, struct gm_error *err)
{
	struct gm_region_info r = {.size = sizeof(r)};
	struct gm_block_info b = {.size = sizeof(b)};
	uint64_t size = opts->block_size;

	if (gm_space_region(m->space, m->region, &r))
		return gm_error_set(err, -ENOENT, 0, 0, "%s: virtio-mem: there is no such region",
			m->space->name);
	m->sum.addr = r.gpa;
	m->sum.region_size = r.len;
	if (r.kind != GM_REGION_RAM || !r.granule || r.parent || r.private_block)
		return refuse(m, -EINVAL, "it takes a region of RAM with parts, in no other", err);
	gm_block_info(r.block, &b);
	if (!size)
		size = r.granule > BLOCK_DEFAULT ? r.granule : BLOCK_DEFAULT;
	m->sum.block_size = size;
	if (!gm_is_pow2(size) || size % r.granule || size % b.page_size || r.gpa % size ||
		r.len % size)
		return refuse(m, -EINVAL,
			"the size of blocks is no power of two, or does not fit to parts, pages, "
			"address or length",
			err);
	if (opts->requested % size || opts->requested > r.len)
		return refuse(m, -EINVAL, "what is requested is not whole blocks of it", err);
	m->nr = r.len / size;
	m->extra = opts->extra ? opts->extra : EXTRA_DEFAULT;
	m->sum.requested = opts->requested;
	return 0;
}

/* What is plugged, by the region's parts. */
static int take_states(struct gm_virtio_mem *m, struct gm_error *err)
{
	uint64_t size = m->sum.block_size;
	uint64_t end = 0;

	for (uint64_t off = 0; off < m->sum.region_size;) {
		uint32_t state;
		uint64_t len;
		int rc = gm_space_part(m->space, m->region, off, &state, &len);

		if (rc)
			return rc;
		if (off % size || len % size || state == GM_PART_PRIVATE)
			return refuse(m, -EINVAL, "a block is plugged in part", err);
		if (state == GM_PART_SHARED) {
			gm_bits_set(
				m->bits, &(struct gm_range){off / size, (off + (len - 1)) / size});
			m->sum.plugged += len;
			end = off + len;
		}
		off += len;
	}
	m->sum.usable = usable_for(m, m->sum.requested > end ? m->sum.requested : end);
	return 0;
}

/* The runs of blocks that are, or are not, plugged; until @fn returns other than 0. */
static int each_run(struct gm_virtio_mem *m, bool plugged,
	int (*fn)(struct gm_virtio_mem *m, const struct gm_range *blocks, struct gm_error *err),
	struct gm_error *err)
{
	uint64_t next = 0;
	int rc = 0;

	while (next < m->nr && !rc) {
		struct gm_range run;
		bool found = gm_bits_next(m->bits, next, m->nr - 1, &run);
		struct gm_range hole = {next, found ? run.first - 1 : m->nr - 1};

		if (!plugged && (!found || run.first > next))
			rc = fn(m, &hole, err);
		if (!found)
			break;
		if (plugged && !rc)
			rc = fn(m, &run, err);
		next = run.last + 1;
	}
	return rc;
}

static uint64_t gpa_of(const struct gm_virtio_mem *m, const struct gm_range *blocks)
{
	return m->sum.addr + blocks->first * m->sum.block_size;
}

static uint64_t len_of(const struct gm_virtio_mem *m, const struct gm_range *blocks)
{
	return gm_range_len(blocks) * m->sum.block_size;
}

/* Gives memory that is unplugged back to the host. */
static int release(struct gm_virtio_mem *m, const struct gm_range *blocks, struct gm_error *err)
{
	struct gm_discard_result r = {.size = sizeof(r)};
	uint64_t gpa = gpa_of(m, blocks);
	uint64_t len = len_of(m, blocks);
	int rc = m->flags & GM_VIRTIO_MEM_GUARD
			 ? gm_range_guard(m->space, gpa, len, 0, &r, err)
			 : gm_discard(m->space, gpa, len, GM_DISCARD_ZERO, 0, &r, err);

	m->sum.freed += r.done;
	return rc;
}

int gm_virtio_mem_create(struct gm_space *space, uint64_t region,
	const struct gm_virtio_mem_opts *user, struct gm_virtio_mem **ret, struct gm_error *err)
{
	struct gm_virtio_mem_opts opts = {.size = sizeof(opts)};
	struct gm_virtio_mem *m;
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "virtio-mem");
	if ((opts.flags & ~GM_VIRTIO_MEM_GUARD) || opts.reserved)
		return gm_error_set(err, -EINVAL, 0, 0, "virtio-mem: unknown flags");
	m = gm_sys_alloc(sizeof(*m));
	if (!m)
		return gm_error_set(err, -ENOMEM, 0, 0, "virtio-mem: out of memory");
	m->space = space;
	m->region = region;
	m->flags = opts.flags;
	pthread_mutex_init(&m->lock, NULL);
	rc = take_region(m, &opts, err);
	if (!rc) {
		m->bits = gm_sys_alloc_array((size_t)gm_bits_words(m->nr), sizeof(*m->bits));
		rc = m->bits ? take_states(m, err) : refuse(m, -ENOMEM, "out of memory", err);
	}
	if (!rc)
		rc = each_run(m, false, release, err);
	if (rc) {
		gm_virtio_mem_destroy(m);
		return rc;
	}
	m->sum.freed = 0;
	*ret = m;
	return 0;
}

void gm_virtio_mem_destroy(struct gm_virtio_mem *mem)
{
	if (!mem)
		return;
	pthread_mutex_destroy(&mem->lock);
	gm_sys_free(mem->bits);
	gm_sys_free(mem);
}

/* ---- requests, with the lock ---- */

static bool blocks_of(
	const struct gm_virtio_mem *m, uint64_t addr, uint16_t nr, struct gm_range *ret)
{
	uint64_t usable = m->sum.usable / m->sum.block_size;

	if (nr == 0 || addr < m->sum.addr || (addr - m->sum.addr) % m->sum.block_size)
		return false;
	ret->first = (addr - m->sum.addr) / m->sum.block_size;
	if (ret->first >= usable || nr > usable - ret->first)
		return false;
	ret->last = ret->first + nr - 1;
	return true;
}

static uint32_t state_of(const struct gm_virtio_mem *m, const struct gm_range *blocks)
{
	uint64_t set = gm_bits_count(m->bits, blocks);

	if (set == 0)
		return GM_VIRTIO_MEM_UNPLUGGED;
	return set == gm_range_len(blocks) ? GM_VIRTIO_MEM_PLUGGED : GM_VIRTIO_MEM_MIXED;
}

static int set_parts(
	struct gm_virtio_mem *m, const struct gm_range *blocks, uint32_t part, struct gm_error *err)
{
	return gm_space_set_part(m->space, m->region, blocks->first * m->sum.block_size,
		len_of(m, blocks), part, err);
}

static int response(int rc)
{
	if (rc == 0)
		return GM_VIRTIO_MEM_ACK;
	return rc == -ENOENT || rc == -EINVAL || rc == -ERANGE ? GM_VIRTIO_MEM_ERROR
							       : GM_VIRTIO_MEM_BUSY;
}

static int plug(struct gm_virtio_mem *m, const struct gm_range *blocks, struct gm_error *err)
{
	bool guarded = m->flags & GM_VIRTIO_MEM_GUARD;
	int rc;

	if (state_of(m, blocks) != GM_VIRTIO_MEM_UNPLUGGED)
		return GM_VIRTIO_MEM_ERROR;
	if (m->sum.plugged > m->sum.requested ||
		len_of(m, blocks) > m->sum.requested - m->sum.plugged)
		return GM_VIRTIO_MEM_NACK;
	rc = guarded ? gm_range_unguard(m->space, gpa_of(m, blocks), len_of(m, blocks), err)
		     : release(m, blocks, err);
	if (!rc)
		rc = set_parts(m, blocks, GM_PART_SHARED, err);
	if (rc) {
		if (guarded)
			release(m, blocks, NULL);
		/* The region is gone: there is no memory, which is not for the guest to wait for. */
		return rc == -EFAULT ? GM_VIRTIO_MEM_ERROR : response(rc);
	}
	gm_bits_set(m->bits, blocks);
	m->sum.plugged += len_of(m, blocks);
	return GM_VIRTIO_MEM_ACK;
}

static int unplug(struct gm_virtio_mem *m, const struct gm_range *blocks, struct gm_error *err)
{
	int rc = set_parts(m, blocks, GM_PART_UNPLUGGED, err);

	if (rc)
		return response(rc);
	/* A reader that stays is no reason to keep the memory: see plug(). */
	gm_space_synchronize(m->space, m->space->timeout_ns, NULL);
	rc = release(m, blocks, err);
	if (rc) {
		if (m->flags & GM_VIRTIO_MEM_GUARD)
			gm_range_unguard(m->space, gpa_of(m, blocks), len_of(m, blocks), NULL);
		if (set_parts(m, blocks, GM_PART_SHARED, NULL) == 0)
			return GM_VIRTIO_MEM_BUSY;
	}
	gm_bits_clear(m->bits, blocks);
	m->sum.plugged -= len_of(m, blocks);
	return GM_VIRTIO_MEM_ACK;
}

static int count(struct gm_virtio_mem *m, int answer)
{
	uint64_t *const counts[] = {&m->sum.acks, &m->sum.nacks, &m->sum.busy, &m->sum.errors};

	(*counts[answer])++;
	pthread_mutex_unlock(&m->lock);
	return answer;
}

int gm_virtio_mem_plug(struct gm_virtio_mem *mem, uint64_t addr, uint16_t nr, struct gm_error *err)
{
	struct gm_range blocks;
	int rc = GM_VIRTIO_MEM_ERROR;

	pthread_mutex_lock(&mem->lock);
	if (blocks_of(mem, addr, nr, &blocks))
		rc = plug(mem, &blocks, err);
	return count(mem, rc);
}

int gm_virtio_mem_unplug(
	struct gm_virtio_mem *mem, uint64_t addr, uint16_t nr, struct gm_error *err)
{
	struct gm_range blocks;
	int rc = GM_VIRTIO_MEM_ERROR;

	pthread_mutex_lock(&mem->lock);
	if (blocks_of(mem, addr, nr, &blocks) && state_of(mem, &blocks) == GM_VIRTIO_MEM_PLUGGED)
		rc = unplug(mem, &blocks, err);
	return count(mem, rc);
}

int gm_virtio_mem_unplug_all(struct gm_virtio_mem *mem, struct gm_error *err)
{
	int rc;

	pthread_mutex_lock(&mem->lock);
	rc = each_run(mem, true, unplug, err);
	if (mem->sum.plugged == 0)
		mem->sum.usable = usable_for(mem, mem->sum.requested);
	return count(mem, rc);
}

int gm_virtio_mem_state(struct gm_virtio_mem *mem, uint64_t addr, uint16_t nr, uint32_t *ret_state)
{
	struct gm_range blocks;
	int rc = GM_VIRTIO_MEM_ERROR;

	pthread_mutex_lock(&mem->lock);
	if (blocks_of(mem, addr, nr, &blocks)) {
		*ret_state = state_of(mem, &blocks);
		rc = GM_VIRTIO_MEM_ACK;
	}
	return count(mem, rc);
}

int gm_virtio_mem_set_requested(struct gm_virtio_mem *mem, uint64_t bytes)
{
	uint64_t usable;
	int rc = 0;

	pthread_mutex_lock(&mem->lock);
	if (bytes % mem->sum.block_size || bytes > mem->sum.region_size) {
		rc = -EINVAL;
	} else {
		mem->sum.requested = bytes;
		usable = usable_for(mem, bytes);
		if (usable > mem->sum.usable)
			mem->sum.usable = usable;
	}
	pthread_mutex_unlock(&mem->lock);
	return rc;
}

int gm_virtio_mem_info(struct gm_virtio_mem *mem, struct gm_virtio_mem_info *ret)
{
	size_t size = ret->size;

	if (size < sizeof(*ret))
		return -EINVAL;
	pthread_mutex_lock(&mem->lock);
	*ret = mem->sum;
	pthread_mutex_unlock(&mem->lock);
	ret->size = size;
	return 0;
}
