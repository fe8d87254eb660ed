/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iommu.c - see iommu.h.
 *
 * Readers ask the IOTLB without a lock. What they do not find they look for under the lock, and what
 * is missing there is asked for with the lock dropped. A list of what was asked for keeps others
 * from asking again; an entry ends when something is mapped there, or after a second, lest a lost
 * answer be waited for for ever.
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
#define PENDING_MAX 64u
#define PENDING_NS UINT64_C(1000000000)

/* A translation that was asked for. */
struct pending {
	struct gm_range range;
	uint32_t perms; /* 0: free */
	uint64_t since;
};

struct gm_iommu {
	uint32_t refs; /* atomic */
	struct gm_space *target;
	struct gm_iommu_opts opts;
	void *room;
	struct gm_iotlb *iotlb;
	pthread_mutex_t lock; /* the writer's side of the IOTLB, and all below */
	pthread_cond_t mapped;
	struct pending pending[PENDING_MAX];
	struct gm_iommu_info info;
};

/* ---- life ---- */

static int check_opts(const struct gm_iommu_opts *opts, struct gm_error *err)
{
	if (opts->reserved || gm_iotlb_room(opts->capacity) == 0)
		return gm_error_set(err, -EINVAL, 0, 0,
			"IOMMU: a capacity of %u translations is more than %u, or reserved is not "
			"0",
			opts->capacity, GM_IOTLB_CAPACITY_MAX);
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
	iommu = gm_sys_alloc(sizeof(*iommu));
	if (iommu)
		iommu->room = gm_sys_alloc_aligned(64, gm_iotlb_room(opts.capacity));
	if (!iommu || !iommu->room) {
		gm_sys_free(iommu);
		return gm_error_set(err, -ENOMEM, 0, 0, "IOMMU: out of memory for %u translations",
			opts.capacity);
	}
	iommu->refs = 1;
	iommu->target = target;
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

struct gm_space *gm_iommu_target(const struct gm_iommu *iommu)
{
	return iommu->target;
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

int gm_iommu_hop(const struct gm_span *span, uint64_t gpa, uint64_t extent, uint32_t perms,
	struct gm_hop *ret)
{
	struct gm_iommu *iommu = (struct gm_iommu *)(uintptr_t)span->owner;
	uint64_t iova = gpa + span->delta;
	/* All 2^64 bytes at once are more than can be asked for; what is left comes next. */
	uint64_t len = extent < UINT64_MAX ? extent + 1 : UINT64_MAX;
	struct gm_iotlb_piece piece = {0};
	int rc = gm_iotlb_find(iommu->iotlb, iova, len, perms, &piece);

	if (__builtin_expect(rc != 0, 0)) {
		pthread_mutex_lock(&iommu->lock);
		rc = resolve(iommu, iova, len, perms, &piece);
		pthread_mutex_unlock(&iommu->lock);
		if (rc)
			return rc;
	}
	/* Pairs with the release in gm_space_publish(). */
	ret->view = __atomic_load_n(&iommu->target->view, __ATOMIC_ACQUIRE);
	ret->gpa = piece.target;
	ret->extent = piece.len ? piece.len - 1 : 0;
	return 0;
}

/* ---- translations ---- */

int gm_iommu_map(struct gm_iommu *iommu, uint64_t first, uint64_t last, uint64_t target,
	uint32_t perms, struct gm_error *err)
{
	struct gm_range range = {first, last};
	int rc = perms ? 0 : -EINVAL;

	pthread_mutex_lock(&iommu->lock);
	if (!rc)
		rc = gm_iotlb_map(iommu->iotlb, 0, &range, target, perms);
	if (!rc) {
		end_pending(iommu, &range);
		gm_sys_cond_wake(&iommu->mapped);
	}
	pthread_mutex_unlock(&iommu->lock);
	if (rc)
		return gm_error_set(err, rc, first, gm_range_len(&range),
			"IOMMU: [0x%" PRIx64 ", 0x%" PRIx64 "] cannot lead to 0x%" PRIx64
			" with permissions 0x%x: %s",
			first, last, target, perms,
			rc == -ERANGE ? "that passes 2^64" : "first above last, or permissions");
	return 0;
}

int gm_iommu_unmap(struct gm_iommu *iommu, uint64_t first, uint64_t last)
{
	struct gm_range range = {first, last};
	int rc = 0;

	pthread_mutex_lock(&iommu->lock);
	if (first == 0 && last == UINT64_MAX)
		gm_iotlb_unmap_all(iommu->iotlb);
	else
		rc = gm_iotlb_unmap(iommu->iotlb, &range);
	pthread_mutex_unlock(&iommu->lock);
	return rc;
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
	rc = gm_iotlb_lookup(iommu->iotlb, iova, len, perms, &answer);
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
	pthread_mutex_unlock(&iommu->lock);
	ret_info->size = size;
	return 0;
}
