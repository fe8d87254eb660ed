/* SPDX-License-Identifier: BSD-3-Clause */
/* balloon.c - see balloon.h: pages given and taken back, reports, statistics. */
#include "services/balloon.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <guestmem/piece.h>

#include "core/bytes.h"
#include "core/error.h"
#include "core/sort.h"
#include "memory/space.h"
#include "sys/sys.h"

#define PAGE ((uint64_t)GM_BALLOON_PAGE)
#define BITS_LEN ((size_t)1 << 29) /* 2^32 bits */
#define UNIT_DEFAULT (UINT64_C(2) << 20)
#define PARTIAL_DEFAULT 4096u
#define RANGES 128u
#define STATS_MAX 64u

/* ---- life ---- */

static void free_balloon(struct gm_balloon *b)
{
	if (b->bits)
		gm_sys_munmap(b->bits, BITS_LEN);
	gm_defer_destroy(b->defer);
	gm_reader_destroy(b->reader);
	pthread_mutex_destroy(&b->lock);
	gm_sys_free(b);
}

static int open_balloon(
	struct gm_balloon *b, const struct gm_balloon_opts *opts, struct gm_error *err)
{
	void *bits;
	int rc = gm_reader_create(b->space, "balloon", &b->reader, err);

	if (!rc && (opts->flags & GM_BALLOON_MUST_TELL_HOST))
		rc = gm_defer_create(opts->unit ? opts->unit : UNIT_DEFAULT,
			opts->partial ? opts->partial : PARTIAL_DEFAULT, &b->defer, err);
	if (rc)
		return rc;
	rc = gm_sys_mmap(NULL, BITS_LEN, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &bits);
	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "balloon: no addresses for its bits: %s", gm_error_word(rc));
	b->bits = bits;
	return 0;
}

int gm_balloon_create(struct gm_space *space, const struct gm_balloon_opts *user,
	struct gm_balloon **ret, struct gm_error *err)
{
	struct gm_balloon_opts opts = {.size = sizeof(opts)};
	struct gm_balloon *b;
	int rc = user ? gm_opts_copy(&opts, sizeof(opts), user, sizeof(opts)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "balloon");
	if ((opts.flags & ~GM_BALLOON_MUST_TELL_HOST) || opts.reserved ||
		(!opts.flags && (opts.unit || opts.partial)))
		return gm_error_set(err, -EINVAL, 0, 0,
			"balloon: unknown flags, or parts of huge pages without "
			"GM_BALLOON_MUST_TELL_HOST");
	if (space->granted)
		return gm_error_set(err, -EPERM, 0, 0,
			"%s: it belongs to a grant: the space that grants discards", space->name);
	b = gm_sys_alloc(sizeof(*b));
	if (!b)
		return gm_error_set(err, -ENOMEM, 0, 0, "balloon: out of memory");
	b->space = space;
	b->sum.command = GM_BALLOON_CMD_DONE;
	pthread_mutex_init(&b->lock, NULL);
	rc = open_balloon(b, &opts, err);
	if (rc) {
		free_balloon(b);
		return rc;
	}
	*ret = b;
	return 0;
}

void gm_balloon_destroy(struct gm_balloon *balloon)
{
	if (balloon)
		free_balloon(balloon);
}

/* ---- pages ---- */

static bool has(const struct gm_balloon *b, uint32_t pfn)
{
	return b->bits[pfn / 64] >> pfn % 64 & 1;
}

/* Numbers of pages that follow one another, from *at on; repeated ones are counted. */
static struct gm_range next_run(
	const uint32_t *pfns, size_t nr, size_t *at, struct gm_balloon_result *sum)
{
	struct gm_range run = {pfns[*at], pfns[*at]};

	for ((*at)++; *at < nr; (*at)++) {
		if (pfns[*at] == run.last)
			sum->duplicate++;
		else if (pfns[*at] == run.last + 1)
			run.last++;
		else
			break;
	}
	return run;
}

/* How far the pages of a run are RAM from its first on, or are not. */
static bool is_ram(const struct gm_view *view, const struct gm_range *run, uint64_t *ret_last)
{
	struct gm_piece_info piece = {.size = sizeof(piece)};
	uint64_t gpa = run->first * PAGE;
	uint64_t last;
	int rc = gm_view_next(view, gpa, &piece);
	bool ram;

	*ret_last = run->last;
	if (rc)
		return false;
	if (piece.gpa > gpa) {
		/* A page of which the end is memory is none. */
		last = piece.gpa / PAGE - (piece.gpa % PAGE == 0);
		*ret_last = last < run->last ? last : run->last;
		return false;
	}
	ram = piece.kind == GM_REGION_RAM && (piece.perms & GM_PERM_W) &&
	      piece.part == GM_PART_SHARED;
	last = (piece.gpa + (piece.len - 1)) / PAGE;
	/* The last page is in it whole. */
	if ((piece.gpa + (piece.len - 1)) % PAGE != PAGE - 1) {
		if (last == run->first) {
			*ret_last = last;
			return false;
		}
		last--;
	}
	*ret_last = last < run->last ? last : run->last;
	return ram;
}

/* A list under way. */
struct filling {
	struct gm_balloon *b;
	struct gm_discard_range ranges[RANGES];
	size_t nr;
	struct gm_balloon_result sum;
	struct gm_error *err;
};

static int flush(struct filling *f)
{
	const struct gm_discard_opts opts = {
		.size = sizeof(opts),
		.huge = f->b->defer ? GM_HUGE_DEFER : GM_HUGE_SPLIT,
		.defer = f->b->defer,
	};
	struct gm_discard_result r = {.size = sizeof(r)};
	int rc;

	if (f->nr == 0)
		return 0;
	rc = gm_discard_ranges(f->b->space, f->ranges, f->nr, &opts, &r, f->err);
	f->nr = 0;
	f->sum.freed += r.done;
	f->sum.kept += r.skipped + r.deferred + r.refused;
	return rc;
}

/* Pages that are RAM: those that are new go to the host. */
static int give(struct filling *f, const struct gm_range *run)
{
	struct gm_balloon *b = f->b;
	int rc = 0;

	for (uint64_t pfn = run->first; pfn <= run->last && !rc; pfn++) {
		struct gm_discard_range *last = f->nr ? &f->ranges[f->nr - 1] : NULL;

		if (has(b, (uint32_t)pfn)) {
			f->sum.duplicate++;
			continue;
		}
		if (last && last->gpa + last->len == pfn * PAGE) {
			last->len += PAGE;
		} else {
			if (f->nr == RANGES)
				rc = flush(f);
			f->ranges[f->nr++] = (struct gm_discard_range){pfn * PAGE, PAGE};
		}
		b->bits[pfn / 64] |= UINT64_C(1) << pfn % 64;
		b->sum.pages++;
		f->sum.pages++;
	}
	return rc;
}

static int give_all(struct filling *f, const uint32_t *pfns, size_t nr)
{
	const struct gm_view *view;
	int rc = 0;

	for (size_t at = 0; at < nr && !rc;) {
		struct gm_range run = next_run(pfns, nr, &at, &f->sum);

		for (;;) {
			struct gm_range part = {run.first, run.last};
			bool ram;

			view = gm_reader_enter(f->b->reader);
			ram = is_ram(view, &run, &part.last);
			gm_reader_leave(f->b->reader);
			if (ram)
				rc = give(f, &part);
			else
				f->sum.refused += gm_range_len(&part);
			if (rc || part.last == run.last)
				break;
			run.first = part.last + 1;
		}
	}
	return rc;
}

static int end(struct gm_balloon_result *ret, const struct gm_balloon_result *sum, int rc)
{
	size_t size = ret ? ret->size : 0;

	if (ret) {
		*ret = *sum;
		ret->size = size;
	}
	return rc;
}

static bool is_short(const struct gm_balloon_result *ret)
{
	return ret && ret->size < sizeof(*ret);
}

int gm_balloon_inflate(struct gm_balloon *balloon, uint32_t *pfns, size_t nr,
	struct gm_balloon_result *ret, struct gm_error *err)
{
	struct filling f = {.b = balloon, .err = err};
	int rc;
	int flushed;

	if (is_short(ret))
		return gm_error_set(err, -EINVAL, 0, 0, "balloon: the result's size is not set");
	gm_sort_u32(pfns, nr);
	pthread_mutex_lock(&balloon->lock);
	rc = give_all(&f, pfns, nr);
	flushed = flush(&f);
	pthread_mutex_unlock(&balloon->lock);
	return end(ret, &f.sum, rc ? rc : flushed);
}

int gm_balloon_deflate(
	struct gm_balloon *balloon, uint32_t *pfns, size_t nr, struct gm_balloon_result *ret)
{
	struct gm_balloon_result sum = {0};

	if (is_short(ret))
		return -EINVAL;
	gm_sort_u32(pfns, nr);
	pthread_mutex_lock(&balloon->lock);
	for (size_t at = 0; at < nr;) {
		struct gm_range run = next_run(pfns, nr, &at, &sum);

		if (balloon->defer)
			gm_defer_forget(
				balloon->defer, run.first * PAGE, gm_range_len(&run) * PAGE);
		for (uint64_t pfn = run.first; pfn <= run.last; pfn++) {
			if (!has(balloon, (uint32_t)pfn)) {
				sum.duplicate++;
				continue;
			}
			balloon->bits[pfn / 64] &= ~(UINT64_C(1) << pfn % 64);
			balloon->sum.pages--;
			sum.pages++;
		}
	}
	pthread_mutex_unlock(&balloon->lock);
	return end(ret, &sum, 0);
}

int gm_balloon_has(struct gm_balloon *balloon, uint32_t pfn)
{
	int yes;

	pthread_mutex_lock(&balloon->lock);
	yes = has(balloon, pfn);
	pthread_mutex_unlock(&balloon->lock);
	return yes;
}

void gm_balloon_reset(struct gm_balloon *balloon)
{
	pthread_mutex_lock(&balloon->lock);
	if (balloon->defer)
		gm_defer_forget(balloon->defer, 0, 0);
	/* If the kernel does not take the pages back they are cleared where they are. */
	if (balloon->sum.pages && gm_sys_madvise(balloon->bits, BITS_LEN, MADV_DONTNEED))
		memset(balloon->bits, 0, BITS_LEN);
	balloon->sum.pages = 0;
	balloon->sum.actual = 0;
	balloon->sum.poison = 0;
	balloon->sum.poisoned = 0;
	balloon->listening = false;
	pthread_mutex_unlock(&balloon->lock);
}

int gm_balloon_report(struct gm_balloon *balloon, struct gm_discard_range *ranges, size_t nr,
	struct gm_balloon_result *ret, struct gm_error *err)
{
	struct gm_discard_result r = {.size = sizeof(r)};
	struct gm_balloon_result sum = {0};
	bool poisoned;
	int rc = 0;

	if (is_short(ret))
		return gm_error_set(err, -EINVAL, 0, 0, "balloon: the result's size is not set");
	pthread_mutex_lock(&balloon->lock);
	poisoned = gm_balloon_is_poisoned(balloon);
	pthread_mutex_unlock(&balloon->lock);
	if (poisoned) {
		for (size_t i = 0; i < nr; i++) {
			if (__builtin_add_overflow(sum.kept, ranges[i].len, &sum.kept))
				sum.kept = UINT64_MAX;
		}
		return end(ret, &sum, 0);
	}
	rc = gm_discard_ranges(balloon->space, ranges, nr, NULL, &r, err);
	sum.freed = r.done;
	sum.pages = r.done / PAGE;
	sum.kept = r.skipped;
	sum.refused = r.refused / PAGE;
	return end(ret, &sum, rc);
}

/* ---- numbers ---- */

void gm_balloon_set_target(struct gm_balloon *balloon, uint32_t pages)
{
	pthread_mutex_lock(&balloon->lock);
	balloon->sum.target = pages;
	pthread_mutex_unlock(&balloon->lock);
}

void gm_balloon_set_actual(struct gm_balloon *balloon, uint32_t pages)
{
	pthread_mutex_lock(&balloon->lock);
	balloon->sum.actual = pages;
	pthread_mutex_unlock(&balloon->lock);
}

void gm_balloon_set_poison(struct gm_balloon *balloon, uint32_t value, int poisoned)
{
	pthread_mutex_lock(&balloon->lock);
	balloon->sum.poison = value;
	balloon->sum.poisoned = poisoned != 0;
	pthread_mutex_unlock(&balloon->lock);
}

void gm_balloon_update_stats(struct gm_balloon *balloon, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	struct gm_balloon_stats *s = &balloon->stats;
	size_t nr = len / GM_BALLOON_STAT_LEN;

	nr = nr < STATS_MAX ? nr : STATS_MAX;
	pthread_mutex_lock(&balloon->lock);
	s->updates++;
	s->time_ns = gm_sys_now_ns();
	s->valid = 0;
	s->unknown = 0;
	for (size_t i = 0; i < nr; i++, at += GM_BALLOON_STAT_LEN) {
		uint64_t tag = gm_get_le(at, 2);

		if (tag < GM_BALLOON_TAGS) {
			s->values[tag] = gm_get_le(at + 2, 8);
			s->valid |= 1u << tag;
		} else {
			s->unknown++;
		}
	}
	pthread_mutex_unlock(&balloon->lock);
}

int gm_balloon_stats(struct gm_balloon *balloon, struct gm_balloon_stats *ret)
{
	size_t size = ret->size;

	if (size < sizeof(*ret))
		return -EINVAL;
	pthread_mutex_lock(&balloon->lock);
	*ret = balloon->stats;
	pthread_mutex_unlock(&balloon->lock);
	ret->size = size;
	return 0;
}

int gm_balloon_info(struct gm_balloon *balloon, struct gm_balloon_info *ret)
{
	size_t size = ret->size;

	if (size < sizeof(*ret))
		return -EINVAL;
	pthread_mutex_lock(&balloon->lock);
	*ret = balloon->sum;
	pthread_mutex_unlock(&balloon->lock);
	ret->size = size;
	return 0;
}
