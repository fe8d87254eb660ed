/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c - logs as their consumers see them: made, taken, merged, asked, destroyed.
 *
 * A log is put on the list first, then a view is published whose filter is the right one for the list;
 * after the readers of older views have left every writer marks in it. It comes off the list before such a view is
 * published, and is freed after the same wait, by whoever finds that it is over.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/dirty.h"
#include "memory/space.h"
#include "sys/probe.h"
#include "sys/sys.h"

#define VHOST_PAGE 4096u /* of logs that vhost shares, on every host */
#define NS_PER_S UINT64_C(1000000000)

/* ---- making ---- */

/* Bytes of the words and, behind them, of what is known of each chunk. */
static size_t bits_len(uint64_t nr_bits)
{
	size_t page = gm_sys_page_size();
	uint64_t chunks = ((nr_bits - 1) >> GM_CHUNK_SHIFT) + 1;

	return (gm_bits_words(nr_bits) * 8 + chunks + page - 1) & ~(page - 1);
}

static int map_bits(struct gm_log *log)
{
	void *words;
	int rc = gm_sys_mmap(NULL, bits_len(log->nr), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &words);

	if (rc)
		return rc;
	log->words = words;
	log->chunks = (uint8_t *)(log->words + gm_bits_words(log->nr));
	return 0;
}

/* The filter and the reader of a space's first log. */
static int prepare(struct gm_space *space, struct gm_error *err)
{
	struct gm_dirty *dirty = space->dirty;
	int rc;

	if (dirty->reader)
		return 0;
	rc = gm_dirty_map_filter(dirty, space, err);
	if (rc)
		return rc;
	dirty->moved_fence = gm_sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
	dirty->pins_fence |= !dirty->moved_fence;
	rc = gm_reclaim_add_reader(&space->reclaim, "log", &dirty->reader);
	if (rc)
		return gm_error_set(err, rc, 0, 0, "%s: log: out of memory", space->name);
	dirty->reader->view = &space->view;
	return 0;
}

static int check_opts(
	const struct gm_space *space, const struct gm_log_opts *opts, struct gm_error *err)
{
	if ((opts->flags & ~(GM_LOG_ALL | GM_LOG_NOWAIT)) || opts->reserved)
		return gm_error_set(err, -EINVAL, 0, 0, "%s: log: unknown flags 0x%x", space->name,
			opts->flags);
	if (!opts->storage != !opts->storage_len)
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: log: storage and its length go together", space->name);
	return 0;
}

/* What it covers: as asked, up to what the storage has bits for. */
static int set_pages(const struct gm_space *space, const struct gm_log_opts *opts,
	struct gm_log *log, struct gm_error *err)
{
	uint64_t size = opts->page_size ? opts->page_size
			: opts->storage ? VHOST_PAGE
					: gm_sys_page_size();
	struct gm_range range = {opts->first, UINT64_MAX};
	uint64_t bytes;

	if (opts->len == 0 && space->window && opts->first < space->window->limit)
		range.last = space->window->limit - 1;
	if (opts->len && !gm_range_make(opts->first, opts->len, &range))
		return gm_error_set(err, -ERANGE, opts->first, opts->len,
			"%s: log: %" PRIu64 " bytes at 0x%" PRIx64 " pass 2^64", space->name,
			opts->len, opts->first);
	if (opts->storage && opts->storage_len < UINT64_MAX / 8 &&
		!__builtin_mul_overflow(opts->storage_len * 8, size, &bytes) &&
		bytes - 1 < gm_range_extent(&range))
		range.last = range.first + (bytes - 1);
	gm_pages_init(&log->pages, &range, size);
	log->nr = gm_pages_count(&log->pages);
	return 0;
}

static void free_log(struct gm_log *log)
{
	if (log->words)
		gm_sys_munmap(log->words, bits_len(log->nr));
	else if (log->release)
		log->release(log->ctx);
	gm_sys_free(log);
}

static int make_log(struct gm_space *space, const struct gm_log_opts *opts, struct gm_log **ret,
	struct gm_error *err)
{
	struct gm_log *log = gm_sys_alloc(sizeof(*log));
	int rc;

	if (!log)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: log: out of memory", space->name);
	gm_copy_name(log->name, sizeof(log->name), opts->name ? opts->name : "log");
	log->dirty = space->dirty;
	rc = set_pages(space, opts, log, err);
	if (!rc && !opts->storage) {
		rc = map_bits(log);
		if (rc)
			gm_error_set(err, rc, log->pages.range.first, 0,
				"%s: log: no addresses for %" PRIu64 " bits: %s (a range of less "
				"is given by first and len)",
				space->name, log->nr, gm_error_word(rc));
	}
	if (rc) {
		gm_sys_free(log);
		return rc;
	}
	log->storage = opts->storage;
	log->release = opts->release;
	log->ctx = opts->ctx;
	log->rate_since = gm_sys_now_ns();
	if (opts->flags & GM_LOG_ALL)
		gm_log_mark_range(log, &log->pages.range);
	*ret = log;
	return 0;
}

/* ---- on and off the list; with the space held ---- */

static void link_log(struct gm_dirty *dirty, struct gm_log *log)
{
	struct gm_range everything = {0, UINT64_MAX};

	pthread_mutex_lock(&dirty->lock);
	log->next = dirty->logs;
	__atomic_store_n(&dirty->logs, log, __ATOMIC_RELEASE);
	gm_dirty_forget(dirty, &everything);
	gm_dirty_tell(dirty);
	pthread_mutex_unlock(&dirty->lock);
}

static void unlink_log(struct gm_dirty *dirty, struct gm_log *log)
{
	struct gm_log **at = &dirty->logs;

	pthread_mutex_lock(&dirty->lock);
	while (*at != log)
		at = &(*at)->next;
	__atomic_store_n(at, log->next, __ATOMIC_RELEASE);
	gm_dirty_tell(dirty);
	pthread_mutex_unlock(&dirty->lock);
}

static void free_deferred(struct gm_deferred *deferred)
{
	free_log((struct gm_log *)(void *)((char *)deferred - offsetof(struct gm_log, deferred)));
}

/* All readers know it. One of an older view may have set a bit of the filter without it. */
static void settle(struct gm_log *log)
{
	struct gm_range everything = {0, UINT64_MAX};

	gm_dirty_forget(log->dirty, &everything);
	gm_dirty_barrier(log->dirty);
	__atomic_store_n(&log->ready, true, __ATOMIC_RELEASE);
}

static void settle_deferred(struct gm_deferred *deferred)
{
	settle((struct gm_log *)(void *)((char *)deferred - offsetof(struct gm_log, settled)));
}

static struct gm_view_full *copy_view(const struct gm_space *space)
{
	return gm_view_copy((const struct gm_view_full *)(const void *)space->view);
}

static void drop(struct gm_space *space, struct gm_log *log, struct gm_view_full *copy)
{
	unlink_log(space->dirty, log);
	gm_space_uncount(space, &space->nr_logs);
	gm_space_republish(space, copy);
	log->deferred.run = free_deferred;
	gm_reclaim_defer(&space->reclaim, &log->deferred);
	gm_reclaim_poll(&space->reclaim);
}

/* @there and @back: copies of the view, taken; the second is for the case that readers do not leave. */
static int attach(struct gm_space *space, struct gm_log *log, struct gm_view_full *there,
	struct gm_view_full *back, struct gm_error *err)
{
	int rc;

	link_log(space->dirty, log);
	gm_space_republish(space, there);
	if (!back) {
		log->settled.run = settle_deferred;
		gm_reclaim_defer(&space->reclaim, &log->settled);
		return 0;
	}
	rc = gm_reclaim_wait(&space->reclaim, space->timeout_ns, err);
	if (rc) {
		drop(space, log, back);
		return rc;
	}
	gm_view_discard(back);
	settle(log);
	return 0;
}

/* With the space held. */
static int create(struct gm_space *space, const struct gm_log_opts *opts, struct gm_log **ret_log,
	struct gm_error *err)
{
	bool wait = !(opts->flags & GM_LOG_NOWAIT);
	struct gm_view_full *there;
	struct gm_view_full *back;
	struct gm_log *log = NULL;
	int rc = prepare(space, err);

	if (rc)
		return rc;
	if (!gm_space_count(space, &space->nr_logs))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: a space that has an IOMMU and is under another has no log: make it in "
			"the one above or below",
			space->name);
	there = copy_view(space);
	back = wait ? copy_view(space) : NULL;
	if (there && (back || !wait))
		rc = make_log(space, opts, &log, err);
	else
		rc = gm_error_set(err, -ENOMEM, 0, 0, "%s: log: out of memory", space->name);
	if (rc) {
		gm_space_uncount(space, &space->nr_logs);
		gm_view_discard(there);
		gm_view_discard(back);
		return rc;
	}
	rc = attach(space, log, there, back, err);
	if (!rc)
		*ret_log = log;
	return rc;
}

int gm_log_create(struct gm_space *space, const struct gm_log_opts *user, struct gm_log **ret_log,
	struct gm_error *err)
{
	struct gm_log_opts opts = {.size = sizeof(opts)};
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "log");
	rc = check_opts(space, &opts, err);
	if (!rc)
		rc = gm_space_hold(space, err);
	if (rc)
		return rc;
	rc = create(space, &opts, ret_log, err);
	gm_space_release(space);
	return rc;
}

int gm_log_destroy(struct gm_log *log, struct gm_error *err)
{
	struct gm_view_full *copy;
	struct gm_space *space;
	int rc;

	if (!log)
		return 0;
	space = log->dirty->space;
	rc = gm_space_hold(space, err);
	if (rc)
		return rc;
	copy = copy_view(space);
	if (copy)
		drop(space, log, copy);
	else
		rc = gm_error_set(err, -ENOMEM, 0, 0, "%s: log \"%s\": out of memory", space->name,
			log->name);
	gm_space_release(space);
	return rc;
}

/* ---- taking ---- */

/* Which words hold @nr pages from @page on, up to the end. */
static int check_words(
	const struct gm_log *log, uint64_t page, uint64_t nr, struct gm_range *ret_bits)
{
	if (page % 64 || nr == 0)
		return -EINVAL;
	if (page >= log->nr)
		return -ERANGE;
	if (nr > log->nr - page)
		nr = log->nr - page;
	*ret_bits = (struct gm_range){page, page + (nr - 1)};
	return 0;
}

/* What was asked for behind the end. */
static void clear_rest(const struct gm_range *bits, uint64_t nr, uint64_t *words)
{
	for (uint64_t i = (bits->last - bits->first) / 64 + 1; i < gm_bits_words(nr); i++)
		words[i] = 0;
}

int gm_log_take(
	struct gm_log *log, uint64_t page, uint64_t nr, uint64_t *words, uint64_t *ret_count)
{
	struct gm_range range;
	struct gm_range bits;
	uint64_t sum = 0;
	size_t whole;
	int rc = check_words(log, page, nr, &bits);

	if (rc)
		return rc;
	if (!log->words)
		return -ENOTSUP;
	range = gm_pages_range(&log->pages, &bits);
	whole = (size_t)((bits.last + 1) / 64 - page / 64);
	pthread_mutex_lock(&log->dirty->lock);
	sum = gm_bits_take(log->words + page / 64, whole, words);
	if ((bits.last + 1) % 64) {
		words[whole] = gm_bits_take_some(
			log->words + page / 64 + whole, UINT64_MAX >> (63 - bits.last % 64));
		sum += (uint64_t)__builtin_popcountll(words[whole]);
	}
	/* The logs first, then the filter. */
	gm_dirty_forget(log->dirty, &range);
	pthread_mutex_unlock(&log->dirty->lock);
	/* For whoever reads the pages; of none nobody does. */
	if (sum)
		gm_dirty_barrier(log->dirty);
	__atomic_fetch_add(&log->taken, sum, __ATOMIC_RELAXED);
	GM_PROBE3(log_take, page, nr, sum);
	clear_rest(&bits, nr, words);
	if (ret_count)
		*ret_count = sum;
	return 0;
}

int gm_log_copy(
	const struct gm_log *log, uint64_t page, uint64_t nr, uint64_t *words, uint64_t *ret_count)
{
	struct gm_range bits;
	uint64_t sum;
	int rc = check_words(log, page, nr, &bits);

	if (rc)
		return rc;
	if (!log->words)
		return -ENOTSUP;
	sum = gm_bits_copy(log->words, &bits, words);
	clear_rest(&bits, nr, words);
	if (ret_count)
		*ret_count = sum;
	return 0;
}

/* ---- marking what words say ---- */

/* Where the bits of words are, page by page. */
struct source {
	struct gm_pages pages;
	uint64_t nr;
	const uint64_t *words;
};

static int set_source(
	struct source *source, uint64_t gpa, uint64_t page_size, uint64_t nr, const uint64_t *words)
{
	struct gm_range all;
	uint64_t len;

	if (page_size == 0 || nr == 0)
		return -EINVAL;
	if (__builtin_mul_overflow(nr, page_size, &len) || !gm_range_make(gpa, len, &all))
		return -ERANGE;
	gm_pages_init(&source->pages, &all, page_size);
	source->nr = nr;
	source->words = words;
	return 0;
}

/* The addresses of the next run of set bits from bit *@from on, which moves behind it. */
static bool next_run(const struct source *source, uint64_t *from, struct gm_range *ret)
{
	struct gm_range run;

	if (!gm_bits_next(source->words, *from, source->nr - 1, &run))
		return false;
	*ret = gm_pages_range(&source->pages, &run);
	*from = run.last + 1;
	return true;
}

/* The source's pages are all pages of the log? Then their bits are only shifted. */
static bool fits(const struct gm_log *log, const struct source *source, struct gm_range *ret_bits)
{
	const struct gm_range *from = &source->pages.range;

	if (!log->words || source->pages.size != log->pages.size ||
		!gm_range_contains(&log->pages.range, from) ||
		(from->first - log->pages.range.first) % log->pages.size)
		return false;
	return gm_pages_touched(&log->pages, from, ret_bits);
}

static void merge(struct gm_log *log, const struct source *source)
{
	struct gm_range range;
	uint64_t from = 0;

	if (fits(log, source, &range)) {
		gm_log_note(log, &range);
		gm_bits_merge(log->words, &range, source->words);
		return;
	}
	while (next_run(source, &from, &range))
		gm_log_mark_range(log, &range);
}

int gm_log_put_back(struct gm_log *log, uint64_t page, uint64_t nr, const uint64_t *words)
{
	struct source source = {.words = words};
	struct gm_range bits;
	int rc = check_words(log, page, nr, &bits);

	if (rc)
		return rc;
	source.nr = bits.last - page + 1;
	source.pages = log->pages;
	source.pages.range = gm_pages_range(&log->pages, &bits);
	merge(log, &source);
	return 0;
}

int gm_log_merge(
	struct gm_log *log, uint64_t gpa, uint64_t page_size, uint64_t nr, const uint64_t *words)
{
	struct source source;
	int rc = set_source(&source, gpa, page_size, nr, words);

	if (!rc)
		merge(log, &source);
	return rc;
}

int gm_view_merge(const struct gm_view *view, uint64_t gpa, uint64_t page_size, uint64_t nr,
	const uint64_t *words)
{
	struct source source;
	struct gm_range range;
	uint64_t from = 0;
	int rc = set_source(&source, gpa, page_size, nr, words);

	while (!rc && next_run(&source, &from, &range))
		gm_view_mark(view, range.first, gm_range_len(&range));
	return rc;
}

/* ---- single ranges ---- */

/* A range that is cut at 2^64. */
static struct gm_range cut(uint64_t gpa, uint64_t len)
{
	uint64_t extent = len - 1;

	return (struct gm_range){gpa, extent > UINT64_MAX - gpa ? UINT64_MAX : gpa + extent};
}

/* Bits from @from on, up to @last, of the next chunk in which one was ever set; false if there is none. */
static bool next_chunk(
	const struct gm_log *log, uint64_t from, uint64_t last, struct gm_range *ret_bits)
{
	const uint64_t size = UINT64_C(1) << GM_CHUNK_SHIFT;

	for (; from <= last; from = (from | (size - 1)) + 1) {
		if (!__atomic_load_n(&log->chunks[from >> GM_CHUNK_SHIFT], __ATOMIC_ACQUIRE))
			continue;
		ret_bits->first = from;
		ret_bits->last = from | (size - 1);
		if (ret_bits->last > last)
			ret_bits->last = last;
		return true;
	}
	return false;
}

void gm_log_mark(struct gm_log *log, uint64_t gpa, uint64_t len)
{
	struct gm_range range;

	if (len == 0)
		return;
	range = cut(gpa, len);
	gm_log_mark_range(log, &range);
}

void gm_log_reset(struct gm_log *log, uint64_t gpa, uint64_t len)
{
	struct gm_range range;
	struct gm_range bits;
	struct gm_range some;

	if (len == 0 || !log->words)
		return;
	range = cut(gpa, len);
	if (!gm_pages_inside(&log->pages, &range, &bits))
		return;
	pthread_mutex_lock(&log->dirty->lock);
	for (; next_chunk(log, bits.first, bits.last, &some); bits.first = some.last + 1)
		gm_bits_clear(log->words, &some);
	gm_dirty_forget(log->dirty, &range);
	pthread_mutex_unlock(&log->dirty->lock);
	gm_dirty_barrier(log->dirty);
}

/* The first run of marked pages of some; false if there is none. */
static bool first_run(const struct gm_log *log, struct gm_range bits, struct gm_range *ret_run)
{
	struct gm_range some;
	struct gm_range whole;

	for (; next_chunk(log, bits.first, bits.last, &some); bits.first = some.last + 1) {
		if (!gm_bits_next(log->words, some.first, some.last, ret_run))
			continue;
		/* It may go on behind the chunk; unless somebody has just cleared its begin. */
		if (ret_run->last == some.last &&
			gm_bits_next(log->words, ret_run->first, bits.last, &whole) &&
			whole.first == ret_run->first)
			*ret_run = whole;
		return true;
	}
	return false;
}

int gm_log_next(const struct gm_log *log, uint64_t gpa, uint64_t *ret_first, uint64_t *ret_last)
{
	struct gm_range from = {gpa, UINT64_MAX};
	struct gm_range bits;
	struct gm_range run;

	if (!log->words || !gm_pages_touched(&log->pages, &from, &bits) ||
		!first_run(log, bits, &run))
		return -ENOENT;
	run = gm_pages_range(&log->pages, &run);
	*ret_first = run.first;
	*ret_last = run.last;
	return 0;
}

uint64_t gm_log_count(const struct gm_log *log, uint64_t gpa, uint64_t len)
{
	struct gm_range range = {gpa, UINT64_MAX};
	struct gm_range bits;
	struct gm_range some;
	uint64_t sum = 0;

	if (len)
		range = cut(gpa, len);
	if (!log->words || !gm_pages_touched(&log->pages, &range, &bits))
		return 0;
	for (; next_chunk(log, bits.first, bits.last, &some); bits.first = some.last + 1)
		sum += gm_bits_count(log->words, &some);
	return sum;
}

uint64_t gm_log_rate(struct gm_log *log)
{
	uint64_t pages = gm_log_count(log, 0, 0);
	uint64_t now = gm_sys_now_ns();
	uint64_t since;
	uint64_t before;

	pages += __atomic_load_n(&log->taken, __ATOMIC_RELAXED);
	pthread_mutex_lock(&log->dirty->lock);
	since = log->rate_since;
	before = log->rate_pages;
	log->rate_since = now;
	log->rate_pages = pages;
	pthread_mutex_unlock(&log->dirty->lock);
	if (now <= since || pages <= before)
		return 0;
	return (uint64_t)((double)(pages - before) * (double)log->pages.size /
			  ((double)(now - since) / (double)NS_PER_S));
}

int gm_log_info(struct gm_log *log, struct gm_log_info *ret_info)
{
	struct gm_log_info info = {
		.size = ret_info->size,
		.first = log->pages.range.first,
		.last = log->pages.range.last,
		.page_size = log->pages.size,
		.pages = log->nr,
		.taken = __atomic_load_n(&log->taken, __ATOMIC_RELAXED),
		.outside = __atomic_load_n(&log->outside, __ATOMIC_RELAXED),
		.faults = __atomic_load_n(&log->faults, __ATOMIC_RELAXED),
		.ready = __atomic_load_n(&log->ready, __ATOMIC_ACQUIRE),
	};

	if (ret_info->size < sizeof(info))
		return -EINVAL;
	memcpy(info.name, log->name, sizeof(info.name));
	*ret_info = info;
	return 0;
}
