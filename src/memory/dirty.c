/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty.c - see dirty.h.
 *
 * A mark: the bit of each log, for each name of the memory, then the filter's. Between a look at the
 * logs and the filter's bit somebody may have taken; so the logs are looked at once more, and if one
 * lacks a bit the filter's goes and all is marked again. Who takes clears logs first, then the filter.
 */
#include "memory/dirty.h"

#include <sys/mman.h>

#include "core/error.h"
#include "core/table.h"
#include "memory/access.h"
#include "memory/block.h"
#include "memory/space.h"
#include "sys/guard.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#include <linux/membarrier.h>

/* The thread sanitizer knows no fences, and compilers say so. A locked addition is one, and quicker than mfence. */
static void full_fence(void)
{
#if defined(__x86_64__)
	__asm__ volatile("lock addl $0, -4(%%rsp)" ::: "memory", "cc");
#elif defined(__aarch64__)
	__asm__ volatile("dmb ish" ::: "memory");
#else
	__sync_synchronize();
#endif
}

/* ---- life ---- */

struct gm_dirty *gm_dirty_create(struct gm_space *space)
{
	struct gm_dirty *dirty = gm_sys_alloc(sizeof(*dirty));

	if (!dirty)
		return NULL;
	dirty->refs = 1;
	dirty->space = space;
	pthread_mutex_init(&dirty->lock, NULL);
	return dirty;
}

void gm_dirty_tell(struct gm_dirty *dirty)
{
	uint32_t told = dirty->pins_fence ? GM_TOLD_FENCE : 0;

	if (dirty->logs || dirty->forward)
		told |= GM_TOLD_LOGS;
	/* Who sees it sees what the mark needs. */
	__atomic_store_n(&dirty->told, told, __ATOMIC_RELEASE);
}

void gm_dirty_set_barrier(struct gm_dirty *dirty, bool can)
{
	dirty->pins_fence = !can;
	gm_dirty_tell(dirty);
}

void gm_dirty_get(struct gm_dirty *dirty)
{
	__atomic_fetch_add(&dirty->refs, 1, __ATOMIC_RELAXED);
}

static size_t filter_len(const struct gm_dirty *dirty)
{
	uint64_t bits = dirty->has_filtered ? (dirty->filtered.last >> GM_FILTER_SHIFT) + 1 : 1;
	size_t page = gm_sys_page_size();

	return (gm_bits_words(bits) * 8 + page - 1) & ~(page - 1);
}

void gm_dirty_put(struct gm_dirty *dirty)
{
	if (__atomic_fetch_sub(&dirty->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	if (dirty->filter)
		gm_sys_munmap(dirty->filter, filter_len(dirty));
	if (dirty->forward)
		gm_dirty_put(dirty->forward);
	pthread_mutex_destroy(&dirty->lock);
	gm_sys_free(dirty);
}

void gm_dirty_close(struct gm_dirty *dirty)
{
	pthread_mutex_lock(&dirty->lock);
	if (dirty->reader)
		gm_reclaim_drop_reader(dirty->reader);
	dirty->reader = NULL;
	dirty->space = NULL;
	pthread_mutex_unlock(&dirty->lock);
}

/* ---- the filter ---- */

int gm_dirty_map_filter(struct gm_dirty *dirty, const struct gm_space *space, struct gm_error *err)
{
	void *filter;
	int rc;

	if (dirty->filter)
		return 0;
	dirty->has_filtered = space->window;
	if (space->window)
		dirty->filtered = (struct gm_range){0, space->window->limit - 1};
	rc = gm_sys_mmap(NULL, filter_len(dirty), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &filter);
	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"%s: no addresses for the filter of its logs: %s", space->name,
			gm_error_word(rc));
	dirty->filter = filter;
	return 0;
}

int gm_dirty_follow(struct gm_space *space, struct gm_space *source, struct gm_error *err)
{
	int rc = gm_dirty_map_filter(space->dirty, space, err);

	if (rc)
		return rc;
	gm_dirty_get(source->dirty);
	space->dirty->forward = source->dirty;
	gm_dirty_tell(space->dirty);
	return 0;
}

static bool is_filter(const struct gm_dirty *dirty, const struct gm_log *log)
{
	return dirty->moved_fence && !dirty->forward && !log->next && log->words &&
	       log->pages.size == 4096 && log->pages.range.first == 0 && dirty->has_filtered &&
	       log->pages.range.last >= dirty->filtered.last;
}

/* The only log is its own filter, if it is made alike. */
const uint64_t *gm_dirty_filter(const struct gm_dirty *dirty, bool aliased)
{
	const struct gm_log *log = __atomic_load_n(&dirty->logs, __ATOMIC_ACQUIRE);

	if (!log)
		return dirty->forward ? dirty->filter : NULL;
	return !aliased && is_filter(dirty, log) ? log->words : dirty->filter;
}

/* The filter's bits of a range; false if it knows nothing of it. */
static bool filter_bits(
	const struct gm_dirty *dirty, const struct gm_range *range, struct gm_range *ret)
{
	struct gm_range known;

	if (!dirty->has_filtered || !gm_range_intersect(range, &dirty->filtered, &known))
		return false;
	*ret = (struct gm_range){known.first >> GM_FILTER_SHIFT, known.last >> GM_FILTER_SHIFT};
	return true;
}

void gm_dirty_forget(struct gm_dirty *dirty, const struct gm_range *range)
{
	struct gm_range bits;

	/* The logs were cleared before the filter is looked at: refill() does these two the other way round. */
	full_fence();
	if (__atomic_load_n(&dirty->refilled, __ATOMIC_ACQUIRE) && filter_bits(dirty, range, &bits))
		gm_bits_clear(dirty->filter, &bits);
}

void gm_dirty_barrier(const struct gm_dirty *dirty)
{
	full_fence();
	/* If the kernel refuses it now, nothing that it promised before holds; it does not. */
	if (dirty->moved_fence)
		gm_sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

/* ---- one log ---- */

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* In the consumer's bytes, which a peer may be clearing: never a look first. */
static void mark_bytes(struct gm_log *log, const struct gm_range *bits)
{
	for (uint64_t i = bits->first / 8; i <= bits->last / 8; i++) {
		struct gm_guard_fault fault;
		uint64_t mask = 0xff;
		uint64_t old;

		if (i == bits->first / 8)
			mask &= 0xffu << (bits->first % 8);
		if (i == bits->last / 8)
			mask &= 0xffu >> (7 - bits->last % 8);
		if (gm_guard_rmw(GM_GUARD_OR, log->storage + i, 1, mask, &old, &fault))
			count(&log->faults);
	}
}

void gm_log_mark_range(struct gm_log *log, const struct gm_range *range)
{
	struct gm_range bits;

	if (range->first < log->pages.range.first || range->last > log->pages.range.last)
		count(&log->outside);
	if (!gm_pages_touched(&log->pages, range, &bits))
		return;
	if (log->words) {
		gm_log_note(log, &bits);
		gm_bits_set(log->words, &bits);
	} else {
		mark_bytes(log, &bits);
	}
}

/* ---- all logs ---- */

static struct gm_log *first_log(const struct gm_dirty *dirty)
{
	return __atomic_load_n(&dirty->logs, __ATOMIC_ACQUIRE);
}

static struct gm_log *next_log(const struct gm_log *log)
{
	return __atomic_load_n(&log->next, __ATOMIC_ACQUIRE);
}

static void mark_range(const struct gm_dirty *dirty, const struct gm_range *range)
{
	for (struct gm_log *log = first_log(dirty); log; log = next_log(log))
		gm_log_mark_range(log, range);
}

/* Has every log all pages that meet the range? What a log does not cover it has. */
static bool all_have(const struct gm_dirty *dirty, const struct gm_range *range)
{
	for (struct gm_log *log = first_log(dirty); log; log = next_log(log)) {
		struct gm_range bits;

		if (!gm_pages_touched(&log->pages, range, &bits))
			continue;
		if (!log->words || !gm_bits_all(log->words, &bits))
			return false;
	}
	return true;
}

static void refill(struct gm_dirty *dirty, const struct gm_range *range)
{
	struct gm_range bits;
	struct gm_range pages;

	if (!dirty->moved_fence || dirty->forward || !filter_bits(dirty, range, &bits))
		return;
	pages.first = bits.first << GM_FILTER_SHIFT;
	pages.last = (bits.last << GM_FILTER_SHIFT) | ((1u << GM_FILTER_SHIFT) - 1);
	for (int tries = 0; tries < 4 && all_have(dirty, &pages); tries++) {
		__atomic_store_n(&dirty->refilled, true, __ATOMIC_RELEASE);
		gm_bits_set(dirty->filter, &bits);
		full_fence();
		if (all_have(dirty, &pages))
			return;
		gm_bits_clear(dirty->filter, &bits);
		mark_range(dirty, range);
	}
}

/* ---- names ---- */

/* Bytes of a block, or of nothing. */
struct bytes {
	const struct gm_block *block;
	struct gm_range range;
};

static struct bytes bytes_of(const struct gm_span *span, const struct gm_range *gpas)
{
	const struct gm_map *map = span->owner;
	uint64_t off;

	if (!map || (span->perms & (GM_SPAN_DEVICE | GM_SPAN_IOMMU | GM_SPAN_HOLE)))
		return (struct bytes){0};
	off = span->delta + gpas->first - (uintptr_t)map->hva + map->block_off;
	return (struct bytes){map->block, {off, off + (gpas->last - gpas->first)}};
}

/* Marks the other names of the memory that @span shows at @gpas; false if there are none. */
static bool mark_names(const struct gm_view *view, const struct gm_dirty *dirty,
	const struct gm_span *span, const struct gm_range *gpas)
{
	struct bytes written = bytes_of(span, gpas);
	uint64_t off;
	bool any = false;

	if (!written.block)
		return false;
	for (const struct gm_span *other = gm_table_next(view, 0, &off); other;
		other = gm_table_after(view, other, &off)) {
		struct gm_range all = {other->first, other->last};
		struct bytes theirs = bytes_of(other, &all);
		struct gm_range common;

		if (theirs.block != written.block ||
			!gm_range_intersect(&theirs.range, &written.range, &common))
			continue;
		common.first = other->first + (common.first - theirs.range.first);
		common.last = other->first + (common.last - theirs.range.first);
		if (common.first == gpas->first)
			continue;
		mark_range(dirty, &common);
		any = true;
	}
	return any;
}

static bool mark_all_names(
	const struct gm_view *view, const struct gm_dirty *dirty, const struct gm_range *range)
{
	struct gm_range part = *range;
	bool any = false;

	for (;;) {
		const struct gm_span *span = gm_table_find(view, part.first);

		part.last = range->last;
		if (span && span->last < part.last)
			part.last = span->last;
		if (span)
			any |= mark_names(view, dirty, span, &part);
		if (!span || part.last == range->last)
			return any;
		part.first = part.last + 1;
	}
}

/* ---- marks ---- */

void gm_view_mark(const struct gm_view *view, uint64_t gpa, uint64_t len)
{
	const struct gm_view_full *full = (const struct gm_view_full *)(const void *)view;
	struct gm_dirty *dirty = full->dirty;
	struct gm_range range;
	struct gm_range bits;
	bool named = false;

	if (!gm_view_is_logged(view) || len == 0)
		return;
	if (len - 1 > UINT64_MAX - gpa)
		len = UINT64_MAX - gpa + 1;
	range = (struct gm_range){gpa, gpa + (len - 1)};
	/* Whether it came from inline code or not: data first. */
	if (!dirty->moved_fence)
		full_fence();
	else if (filter_bits(dirty, &range, &bits) && range.last <= dirty->filtered.last &&
		 gm_bits_all(view->filter, &bits))
		return;
	if (dirty->forward)
		gm_dirty_mark_later(dirty->forward, gpa, len);
	if (!first_log(dirty))
		return;
	mark_range(dirty, &range);
	if (full->aliased)
		named = mark_all_names(view, dirty, &range);
	if (!named && view->filter == dirty->filter)
		refill(dirty, &range);
}

void gm_dirty_mark_later(struct gm_dirty *dirty, uint64_t gpa, uint64_t len)
{
	if (first_log(dirty)) {
		pthread_mutex_lock(&dirty->lock);
		if (dirty->reader) {
			gm_view_mark(gm_reader_enter(dirty->reader), gpa, len);
			gm_reader_leave(dirty->reader);
		}
		pthread_mutex_unlock(&dirty->lock);
	} else if (dirty->forward) {
		gm_dirty_mark_later(dirty->forward, gpa, len);
	}
}

/* All logs have it: then the filter says so. It knows nothing outside of the window. */
static bool is_filtered(const struct gm_dirty *dirty, const struct gm_range *range)
{
	struct gm_range bits;

	return filter_bits(dirty, range, &bits) && range->last <= dirty->filtered.last &&
	       gm_bits_all(dirty->filter, &bits);
}

/*
 * A log that is its view's filter may go while the pin's holder looks, who is in no section; so the
 * space's own filter is asked, and therefore filled in whichever the view has.
 */
static void mark_and_fill(struct gm_dirty *dirty, const struct gm_range *range)
{
	const struct gm_view *view;

	pthread_mutex_lock(&dirty->lock);
	if (dirty->reader) {
		view = gm_reader_enter(dirty->reader);
		gm_view_mark(view, range->first, gm_range_len(range));
		if (view->filter != dirty->filter &&
			!((const struct gm_view_full *)(const void *)view)->aliased)
			refill(dirty, range);
		gm_reader_leave(dirty->reader);
	}
	pthread_mutex_unlock(&dirty->lock);
}

void gm_dirty_mark_pinned(struct gm_dirty *dirty, uint64_t gpa, uint64_t len)
{
	uint32_t told = __atomic_load_n(&dirty->told, __ATOMIC_ACQUIRE);
	struct gm_range range = {gpa, gpa + (len - 1)};

	if (told & GM_TOLD_FENCE)
		full_fence();
	if (!first_log(dirty)) {
		if (dirty->forward)
			gm_dirty_mark_pinned(dirty->forward, gpa, len);
		return;
	}
	if ((told & GM_TOLD_FENCE) || !is_filtered(dirty, &range))
		mark_and_fill(dirty, &range);
}

void gm_dirty_settle(
	struct gm_dirty *dirty, const struct gm_rangeset *changed, bool all, bool aliased)
{
	struct gm_range everything = {0, UINT64_MAX};

	if (!__atomic_load_n(&dirty->logs, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&dirty->lock);
	for (struct gm_log *log = first_log(dirty); log; log = next_log(log)) {
		if (all)
			gm_log_mark_range(log, &log->pages.range);
		for (size_t i = 0; !all && i < changed->nr; i++) {
			struct gm_range bits;

			/* Outside of it nothing was written: this is no write. */
			if (gm_range_intersect(&changed->ranges[i], &log->pages.range, &bits))
				gm_log_mark_range(log, &bits);
		}
	}
	/* Pages of which the bit is set may have another name now. */
	if (aliased)
		gm_dirty_forget(dirty, &everything);
	pthread_mutex_unlock(&dirty->lock);
}
