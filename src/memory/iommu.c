/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iommu.c - see iommu.h.
 *
 * Readers ask the IOTLB without a lock. What they do not find they look for under the lock, and what
 * is missing there is asked for with the lock dropped. A list of what was asked for keeps others
 * from asking again; an entry ends when something is mapped there, or after a second, lest a lost
 * answer be waited for for ever.
 *
 * Where it leads is one word, the route. Who has found a translation without the lock looks whether the route
 * was exchanged meanwhile; under the lock it is not.
 */
#include "memory/iommu.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "core/error.h"
#include "core/iotlb.h"
#include "memory/space.h"
#include "sys/inside.h"
#include "sys/sys.h"
#include "sys/deadline.h"

#define CAPACITY_DEFAULT 4096u
#define SWITCH_FLAGS (GM_IOMMU_BYPASS | GM_IOMMU_FORGET)
/* In a route, beside the space. */
#define BYPASS ((uintptr_t)1)
#define PENDING_MAX 64u
#define PENDING_NS UINT64_C(1000000000)

/* A translation that was asked for. */
struct pending {
	struct gm_range range;
	uint32_t perms; /* 0: free */
	uint64_t since;
};

struct gm_iommu {
	/* What a hit reads. */
	uint64_t turns;  /* atomic: of the route; odd while it is exchanged */
	uintptr_t route; /* atomic: the space that it leads to, and BYPASS */
	struct gm_iotlb *iotlb;
	uint32_t refs; /* atomic */
	uint32_t top;  /* depth of a space that it may lead to, at most */
	struct gm_iommu_opts opts;
	void *room;
	/* In a line that a hit does not read. */
	pthread_mutex_t lock __attribute__((aligned(64))); /* the writer's side of all */
	pthread_cond_t mapped;
	struct pending pending[PENDING_MAX];
	struct gm_iommu_info info;
};

/* ---- life ---- */

static int check_opts(const struct gm_iommu_opts *opts, struct gm_error *err)
{
	if (opts->flags & ~GM_IOMMU_BYPASS)
		return gm_error_set(err, -EINVAL, 0, 0, "IOMMU: unknown flags 0x%x", opts->flags);
	if (gm_iotlb_room(opts->capacity) == 0)
		return gm_error_set(err, -EINVAL, 0, 0,
			"IOMMU: a capacity of %u translations is more than %u", opts->capacity,
			GM_IOTLB_CAPACITY_MAX);
	return 0;
}

int gm_iommu_create(struct gm_space *target, const struct gm_iommu_opts *user,
	struct gm_iommu **ret_iommu, struct gm_error *err)
{
	struct gm_iommu_opts opts = {.size = sizeof(opts)};
	struct gm_iommu *iommu;
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "IOMMU");
	if (opts.capacity == 0)
		opts.capacity = CAPACITY_DEFAULT;
	rc = check_opts(&opts, err);
	if (rc)
		return rc;
	iommu = gm_sys_alloc_aligned(64, sizeof(*iommu));
	if (iommu)
		iommu->room = gm_sys_alloc_aligned(64, gm_iotlb_room(opts.capacity));
	if (!iommu || !iommu->room) {
		gm_sys_free(iommu);
		return gm_error_set(err, -ENOMEM, 0, 0, "IOMMU: out of memory for %u translations",
			opts.capacity);
	}
	iommu->refs = 1;
	iommu->route = (uintptr_t)target | (opts.flags & GM_IOMMU_BYPASS ? BYPASS : 0);
	iommu->top = target->depth;
	iommu->opts = opts;
	iommu->info.capacity = opts.capacity;
	/* Neither address nor time is known to a peer. */
	iommu->iotlb = gm_iotlb_init(iommu->room, opts.capacity,
		(uintptr_t)iommu->room ^ gm_sys_now_ns() * UINT64_C(0x9e3779b97f4a7c15));
	pthread_mutex_init(&iommu->lock, NULL);
	gm_sys_cond_init(&iommu->mapped);
	*ret_iommu = iommu;
	return 0;
}

void gm_iommu_get(struct gm_iommu *iommu)
{
	__atomic_fetch_add(&iommu->refs, 1, __ATOMIC_RELAXED);
}

void gm_iommu_put(struct gm_iommu *iommu)
{
	if (!iommu || __atomic_fetch_sub(&iommu->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	gm_sys_cond_destroy(&iommu->mapped);
	pthread_mutex_destroy(&iommu->lock);
	gm_sys_free(iommu->room);
	gm_sys_free(iommu);
}

/* ---- routes ---- */

static struct gm_space *space_of(uintptr_t route)
{
	return (struct gm_space *)(route & ~BYPASS);
}

static uintptr_t route_of(const struct gm_iommu *iommu)
{
	/* Pairs with the release in set_route(). */
	return __atomic_load_n(&iommu->route, __ATOMIC_ACQUIRE);
}

struct gm_space *gm_iommu_target(const struct gm_iommu *iommu)
{
	return space_of(route_of(iommu));
}

bool gm_iommu_is_below(const struct gm_iommu *iommu, const struct gm_space *space)
{
	return gm_iommu_target(iommu)->reclaim.domain == space->reclaim.domain &&
	       iommu->top < space->depth;
}

/* With the lock. Each store is a release: who sees what comes after a turn sees the turn. */
static void set_route(struct gm_iommu *iommu, uintptr_t route, bool forget)
{
	__atomic_store_n(&iommu->turns, iommu->turns + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&iommu->route, route, __ATOMIC_RELEASE);
	if (forget)
		gm_iotlb_unmap_all(iommu->iotlb);
	__atomic_store_n(&iommu->turns, iommu->turns + 1, __ATOMIC_RELEASE);
}

int gm_iommu_switch(
	struct gm_iommu *iommu, struct gm_space *target, uint32_t flags, struct gm_error *err)
{
	struct gm_space *now;
	bool good;

	if (flags & ~SWITCH_FLAGS)
		return gm_error_set(err, -EINVAL, 0, 0, "IOMMU: switch: unknown flags 0x%x", flags);
	pthread_mutex_lock(&iommu->lock);
	now = gm_iommu_target(iommu);
	if (!target)
		target = now;
	good = target->reclaim.domain == now->reclaim.domain && target->depth <= iommu->top;
	if (good) {
		set_route(iommu, (uintptr_t)target | (flags & GM_IOMMU_BYPASS ? BYPASS : 0),
			flags & GM_IOMMU_FORGET);
		/* What was asked for was asked of another. */
		memset(iommu->pending, 0, sizeof(iommu->pending));
		gm_sys_cond_wake(&iommu->mapped);
	}
	pthread_mutex_unlock(&iommu->lock);
	if (!good)
		return gm_error_set(err, -EINVAL, 0, 0,
			"IOMMU: it cannot be led to space \"%s\", which lies higher than the one "
			"that it was made for, or has other readers",
			target->name);
	return 0;
}

/* ---- what was asked for; with the lock ---- */

static void end_pending(struct gm_iommu *iommu, const struct gm_range *range)
{
	for (size_t i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &iommu->pending[i];

		if (p->perms && gm_range_overlaps(&p->range, range))
			p->perms = 0;
	}
}

/* Was this asked for already? Else it is noted, if there is room. */
static bool is_pending(struct gm_iommu *iommu, const struct gm_range *range, uint32_t perms)
{
	uint64_t now = gm_sys_now_ns();
	struct pending *unused = NULL;

	for (size_t i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &iommu->pending[i];

		if (p->perms && now - p->since > PENDING_NS)
			p->perms = 0;
		if (!p->perms)
			unused = p;
		else if (gm_range_contains(&p->range, range) && !(perms & ~p->perms))
			return true;
	}
	if (unused)
		*unused = (struct pending){*range, perms, now};
	return false;
}

/* ---- misses ---- */

static struct gm_iotlb_piece untranslated(uint64_t iova, uint64_t len)
{
	return (struct gm_iotlb_piece){
		.iova = iova, .target = iova, .len = len, .perms = GM_PERM_RW};
}

/* Looks under the lock: 0 with a piece, or -EFAULT or -EACCES with what is to be asked for. */
static int look(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_piece *piece, struct gm_range *ret_miss)
{
	struct gm_iotlb_piece bad = {0};
	struct gm_iotlb_piece refused = {0};
	struct gm_iotlb_answer answer = {
		.good = {.pieces = piece, .room = 1},
		.missing = {.pieces = &bad, .room = 1},
		.refused = {.pieces = &refused, .room = 1},
	};

	if (route_of(iommu) & BYPASS) {
		*piece = untranslated(iova, len);
		return 0;
	}
	gm_iotlb_lookup(iommu->iotlb, iova, len, perms, &answer);
	if (answer.good.nr && piece->iova == iova)
		return 0;
	if (answer.refused.nr && (answer.missing.nr == 0 || refused.iova < bad.iova))
		bad = refused;
	ret_miss->first = bad.iova;
	ret_miss->last = bad.iova + (bad.len ? bad.len - 1 : 0);
	return answer.refused.nr && refused.iova == iova ? -EACCES : -EFAULT;
}

/* Calls back with the lock dropped. */
static int ask(struct gm_iommu *iommu, const struct gm_range *miss, uint32_t perms)
{
	int rc;

	iommu->info.asked++;
	pthread_mutex_unlock(&iommu->lock);
	rc = iommu->opts.miss(iommu->opts.ctx, miss->first, gm_range_len(miss), perms);
	pthread_mutex_lock(&iommu->lock);
	if (rc < 0)
		end_pending(iommu, miss);
	return rc < 0 ? rc : 0;
}

/* Asks for what is missing, unless that was done, and waits for it. With the lock. */
static int await(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_range miss, struct gm_iotlb_piece *piece)
{
	uint64_t deadline = gm_sys_now_ns() + iommu->opts.timeout_ns;
	int rc;

	do {
		if (!is_pending(iommu, &miss, perms)) {
			rc = ask(iommu, &miss, perms);
			if (rc)
				return rc;
			if (look(iommu, iova, len, perms, piece, &miss) == 0)
				return 0;
		}
		if (iommu->opts.timeout_ns == 0)
			return -EAGAIN;
		rc = gm_sys_cond_wait(&iommu->mapped, &iommu->lock, deadline);
		if (look(iommu, iova, len, perms, piece, &miss) == 0)
			return 0;
	} while (!rc);
	iommu->info.late++;
	return -ETIMEDOUT;
}

/* With the lock. */
static int resolve(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_piece *piece)
{
	struct gm_inside inside;
	struct gm_range miss;
	int rc = look(iommu, iova, len, perms, piece, &miss);

	if (!rc || !iommu->opts.miss)
		return rc;
	/* Who is in the callback cannot wait for what that is to bring. */
	if (!gm_sys_enter(&inside, iommu))
		return -EBUSY;
	iommu->info.misses++;
	rc = await(iommu, iova, len, perms, miss, piece);
	gm_sys_leave(&inside);
	return rc;
}

/* Without the lock: a piece, and the route that it goes with, or false. */
static inline bool find(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_piece *piece, uintptr_t *ret_route)
{
	uint64_t turn = __atomic_load_n(&iommu->turns, __ATOMIC_ACQUIRE);

	*ret_route = route_of(iommu);
	if (__builtin_expect(*ret_route & BYPASS, 0)) {
		*piece = untranslated(iova, len);
		return true;
	}
	if (__builtin_expect(gm_iotlb_find(iommu->iotlb, iova, len, perms, piece) != 0, 0))
		return false;
	/* All that was loaded since was loaded with acquire, so it is no older than the turn. */
	return !(turn & 1) && __atomic_load_n(&iommu->turns, __ATOMIC_RELAXED) == turn;
}

int gm_iommu_hop(const struct gm_span *span, uint64_t gpa, uint64_t extent, uint32_t perms,
	struct gm_hop *ret)
{
	struct gm_iommu *iommu = (struct gm_iommu *)(uintptr_t)span->owner;
	uint64_t iova = gpa + span->delta;
	/* All 2^64 bytes at once are more than can be asked for; what is left comes next. */
	uint64_t len = extent < UINT64_MAX ? extent + 1 : UINT64_MAX;
	struct gm_iotlb_piece piece = {0};
	uintptr_t route;
	int rc;

	if (__builtin_expect(!find(iommu, iova, len, perms, &piece, &route), 0)) {
		pthread_mutex_lock(&iommu->lock);
		rc = resolve(iommu, iova, len, perms, &piece);
		route = route_of(iommu);
		pthread_mutex_unlock(&iommu->lock);
		if (rc)
			return rc;
	}
	/* Pairs with the release in gm_space_publish(). */
	ret->view = __atomic_load_n(&space_of(route)->view, __ATOMIC_ACQUIRE);
	ret->gpa = piece.target;
	ret->extent = piece.len ? piece.len - 1 : 0;
	return 0;
}

/* ---- translations ---- */

int gm_iommu_map(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint64_t target,
	uint32_t perms, struct gm_error *err)
{
	struct gm_range range;
	int rc = len == 0 || perms == 0 || (perms & ~GM_PERM_RW) ? -EINVAL : 0;

	if (!rc && !gm_range_make(iova, len, &range))
		rc = -ERANGE;
	if (!rc) {
		pthread_mutex_lock(&iommu->lock);
		rc = gm_iotlb_map(iommu->iotlb, 0, &range, target, perms);
		if (!rc) {
			end_pending(iommu, &range);
			gm_sys_cond_wake(&iommu->mapped);
		}
		pthread_mutex_unlock(&iommu->lock);
	}
	if (rc)
		return gm_error_set(err, rc, iova, len,
			"IOMMU: %" PRIu64 " bytes at 0x%" PRIx64 " cannot lead to 0x%" PRIx64
			" with permissions 0x%x: %s",
			len, iova, target, perms,
			rc == -ERANGE ? "that passes 2^64" : "no bytes, or permissions");
	return 0;
}

int gm_iommu_unmap(struct gm_iommu *iommu, uint64_t iova, uint64_t len)
{
	struct gm_range range;
	int rc;

	if (len == 0)
		return -EINVAL;
	if (!gm_range_make(iova, len, &range))
		return -ERANGE;
	pthread_mutex_lock(&iommu->lock);
	rc = gm_iotlb_unmap(iommu->iotlb, &range);
	pthread_mutex_unlock(&iommu->lock);
	return rc;
}

void gm_iommu_unmap_all(struct gm_iommu *iommu)
{
	pthread_mutex_lock(&iommu->lock);
	gm_iotlb_unmap_all(iommu->iotlb);
	pthread_mutex_unlock(&iommu->lock);
}

/* Which of the three lists goes on first from where they are; they are in order, each byte is in one. */
static size_t first_list(struct gm_iotlb_list *const *lists, const size_t *at)
{
	uint64_t lowest = UINT64_MAX;
	size_t first = 0;

	for (size_t i = 0; i < 3; i++) {
		if (at[i] < lists[i]->nr && lists[i]->pieces[at[i]].iova <= lowest) {
			lowest = lists[i]->pieces[at[i]].iova;
			first = i;
		}
	}
	return first;
}

/* With the lock. */
static int look_all(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iotlb_answer *answer)
{
	if (!(route_of(iommu) & BYPASS))
		return gm_iotlb_lookup(iommu->iotlb, iova, len, perms, answer);
	answer->missing.nr = 0;
	answer->refused.nr = 0;
	answer->good.nr = 0;
	if (len && len - 1 > UINT64_MAX - iova)
		return -ERANGE;
	if (answer->good.room)
		answer->good.pieces[0] = untranslated(iova, len);
	answer->good.nr = 1;
	return 0;
}

int gm_iommu_translate(struct gm_iommu *iommu, uint64_t iova, uint64_t len, uint32_t perms,
	struct gm_iommu_part *parts, size_t nr, size_t *ret_needed)
{
	struct gm_iotlb_piece *pieces = gm_sys_alloc_array(3 * nr + 3, sizeof(*pieces));
	struct gm_iotlb_answer answer;
	struct gm_iotlb_list *lists[] = {&answer.good, &answer.missing, &answer.refused};
	size_t at[3] = {0};
	int rc;

	if (!pieces)
		return -ENOMEM;
	for (size_t i = 0; i < 3; i++)
		*lists[i] = (struct gm_iotlb_list){.pieces = pieces + i * (nr + 1), .room = nr};
	pthread_mutex_lock(&iommu->lock);
	rc = look_all(iommu, iova, len, perms, &answer);
	pthread_mutex_unlock(&iommu->lock);
	*ret_needed = answer.good.nr + answer.missing.nr + answer.refused.nr;
	for (size_t n = 0; n < nr && n < *ret_needed; n++) {
		size_t from = first_list(lists, at);
		const struct gm_iotlb_piece *piece = &lists[from]->pieces[at[from]++];

		parts[n] = (struct gm_iommu_part){
			.iova = piece->iova,
			.len = piece->len,
			.target = piece->target,
			.perms = piece->perms,
			.state = (uint32_t)from,
		};
	}
	gm_sys_free(pieces);
	if ((rc == 0 || rc == -EFAULT || rc == -EACCES) && *ret_needed > nr)
		return -ENOBUFS;
	return rc;
}

int gm_iommu_info(struct gm_iommu *iommu, struct gm_iommu_info *ret_info)
{
	size_t size = ret_info->size;

	if (size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&iommu->lock);
	*ret_info = iommu->info;
	ret_info->evicted = iommu->iotlb->nr_evicted;
	ret_info->entries = iommu->iotlb->tree.nr;
	ret_info->target = gm_iommu_target(iommu);
	ret_info->flags = route_of(iommu) & BYPASS ? GM_IOMMU_BYPASS : 0;
	pthread_mutex_unlock(&iommu->lock);
	ret_info->size = size;
	return 0;
}
