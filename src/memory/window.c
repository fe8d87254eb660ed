/* SPDX-License-Identifier: BSD-3-Clause */
/* window.c - reservations of host addresses. */
#include "memory/window.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/dirty.h"
#include "sys/sys.h"

#define RESERVE_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

int gm_arena_reserve(uint64_t len, uint64_t align, uint8_t **ret_hva, uint8_t **ret_arena,
	uint64_t *ret_arena_len)
{
	uint64_t guard = gm_sys_page_size();
	uint64_t total;
	uint64_t first;
	uint8_t *all;
	void *ptr;
	int rc;

	if (__builtin_add_overflow(len, align, &total) ||
		__builtin_add_overflow(total, 2 * guard, &total))
		return -ENOMEM;
	rc = gm_sys_mmap(NULL, total, PROT_NONE, RESERVE_FLAGS, -1, 0, &ptr);
	if (rc)
		return rc;
	all = ptr;
	/* Keep [hva - guard, hva + len + guard), give the slack back; what cannot be given back
	 * stays reserved. */
	if (!gm_align_up((uintptr_t)all + guard, align, &first))
		first = (uintptr_t)all + guard;
	*ret_hva = all + (first - (uintptr_t)all);
	*ret_arena = *ret_hva - guard;
	*ret_arena_len = len + 2 * guard;
	if (*ret_arena > all && gm_sys_munmap(all, (size_t)(*ret_arena - all))) {
		*ret_arena_len += (uint64_t)(*ret_arena - all);
		*ret_arena = all;
	}
	if (*ret_arena + *ret_arena_len < all + total &&
		gm_sys_munmap(*ret_arena + *ret_arena_len,
			(size_t)(all + total - (*ret_arena + *ret_arena_len))))
		*ret_arena_len = (uint64_t)(all + total - *ret_arena);
	return 0;
}

int gm_window_create(uint64_t limit, struct gm_window **ret, struct gm_error *err)
{
	struct gm_window *window;
	int rc;

	window = gm_sys_alloc(sizeof(*window));
	if (!window)
		return gm_error_set(err, -ENOMEM, 0, 0, "window: out of memory");
	rc = gm_arena_reserve(
		limit, GM_WINDOW_ALIGN, &window->base, &window->arena, &window->arena_len);
	if (rc) {
		gm_sys_free(window);
		return gm_error_set(err, rc, 0, limit,
			"window: cannot reserve %" PRIu64 " GiB of host addresses: %s "
			"(a smaller gpa_limit, or a larger RLIMIT_AS, may help)",
			limit >> 30, gm_error_word(rc));
	}
	window->limit = limit;
	window->refs = 1;
	pthread_mutex_init(&window->lock, NULL);
	*ret = window;
	return 0;
}

struct gm_window *gm_window_get(struct gm_window *window)
{
	__atomic_fetch_add(&window->refs, 1, __ATOMIC_RELAXED);
	return window;
}

void gm_window_put(struct gm_window *window)
{
	if (__atomic_fetch_sub(&window->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	gm_sys_munmap(window->arena, window->arena_len);
	pthread_mutex_destroy(&window->lock);
	if (window->dirty)
		gm_dirty_put(window->dirty);
	gm_sys_free(window->claims.ranges);
	gm_sys_free(window);
}

/* Room for a range for each claim and one more, so that dropping a claim, which may split a range,
 * never allocates. */
static int make_room(struct gm_window *window)
{
	struct gm_rangeset *set = &window->claims;
	size_t cap = set->cap ? set->cap * 2 : 16;
	struct gm_range *ranges;

	if (window->nr_claims + 2 <= set->cap)
		return 0;
	ranges = gm_sys_realloc(set->ranges, cap, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	set->ranges = ranges;
	set->cap = cap;
	return 0;
}

int gm_window_claim(struct gm_window *window, uint64_t gpa, uint64_t len)
{
	struct gm_range range;
	int rc;

	if (!gm_range_make(gpa, len, &range) || range.last >= window->limit)
		return -ERANGE;
	pthread_mutex_lock(&window->lock);
	rc = gm_rangeset_overlaps(&window->claims, &range) ? -EEXIST : make_room(window);
	if (!rc) {
		gm_rangeset_add(&window->claims, &range);
		window->nr_claims++;
		gm_window_get(window);
	}
	pthread_mutex_unlock(&window->lock);
	return rc;
}

void gm_window_unclaim(struct gm_window *window, uint64_t gpa, uint64_t len)
{
	struct gm_range range;

	if (!gm_range_make(gpa, len, &range))
		return;
	pthread_mutex_lock(&window->lock);
	gm_rangeset_remove(&window->claims, &range);
	window->nr_claims--;
	pthread_mutex_unlock(&window->lock);
	gm_window_put(window);
}

void gm_window_release(struct gm_window *window, uint64_t gpa, uint64_t len)
{
	uint8_t *hva = window->base + gpa;
	void *ptr;

	if (gm_sys_mmap(hva, len, PROT_NONE, RESERVE_FLAGS | MAP_FIXED, -1, 0, &ptr) == 0) {
		gm_window_unclaim(window, gpa, len);
		return;
	}
	gm_sys_madvise(hva, len, MADV_DONTNEED);
	gm_sys_mprotect(hva, len, PROT_NONE);
	gm_window_put(window);
}

void gm_window_reserve_hole(struct gm_window *window, uint64_t gpa, uint64_t len)
{
	uint8_t *hva = window->base + gpa;
	void *ptr;

	if (gm_sys_mmap(hva, len, PROT_NONE, RESERVE_FLAGS | MAP_FIXED_NOREPLACE, -1, 0, &ptr) == 0)
		gm_window_unclaim(window, gpa, len);
	else
		gm_window_put(window);
}
