/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_in_later.c - pages that come on demand.
 *
 * A pager has the memory; its source is the migration. What it is to bring becomes a fault of the machine, so a
 * request; what comes goes to whoever waits for it, and is pushed into the pager, which leaves alone what it is
 * bringing itself. All of it is done by the thread that steps, but what it is told of discards.
 */
#include <errno.h>
#include <string.h>

#include <guestmem/pager_run.h>
#include <guestmem/source.h>
#include <guestmem/wset.h>

#include "core/error.h"
#include "services/migrate_in.h"
#include "sys/sys.h"

#define REQUESTS 128u
#define REQUEST_LEN (64u << 10)

/* ---- reads of the pager ---- */

/* Of pages that are there, for another mapping of them. Touching ours could wait for this very thread. */
int gm_migrate_in_read_there(
	const struct gm_migrate_in *in, const struct gm_range *bits, uint8_t *to)
{
	for (uint64_t bit = bits->first; bit <= bits->last; bit++) {
		const struct in_piece *piece = gm_migrate_in_piece(in, bit);
		uint8_t *at = to + (bit - bits->first) * MIGRATE_PAGE;
		ssize_t nr;

		if (piece->fd < 0)
			return -EIO;
		nr = gm_sys_pread(piece->fd, at, MIGRATE_PAGE,
			piece->fd_off + (bit - piece->first) * MIGRATE_PAGE);
		if (nr < 0)
			return (int)nr;
		memset(at + nr, 0, MIGRATE_PAGE - (size_t)nr);
	}
	return 0;
}

static struct in_part *part_at(struct gm_migrate_in *in, uint64_t bit)
{
	for (struct in_part *part = in->parts; part; part = part->next) {
		if (bit >= part->first && bit - part->first < part->nr)
			return part;
	}
	return NULL;
}

/*
 * Of a large page some are there already; also some that the machine has not been told of yet. What has not come is
 * zeros there, and is written over when it comes.
 */
static void read_parts(struct gm_migrate_in *in, const struct gm_range *bits, uint8_t *to)
{
	for (const struct in_part *part = in->parts; part; part = part->next) {
		struct gm_range whole = {part->first, part->first + part->nr - 1};
		struct gm_range both;

		if (gm_range_intersect(&whole, bits, &both))
			memcpy(to + (both.first - bits->first) * MIGRATE_PAGE,
				part->bytes + (both.first - part->first) * MIGRATE_PAGE,
				gm_range_len(&both) * MIGRATE_PAGE);
	}
}

/* Again: what was brought the kernel did not take. */
static int read_kept(struct gm_migrate_in *in, const struct gm_range *bits, uint8_t *to)
{
	struct gm_range run = *bits;

	if (!part_at(in, bits->first))
		return gm_migrate_in_read_there(in, bits, to);
	for (; run.first <= bits->last; run.first++) {
		const struct in_part *part = part_at(in, run.first);

		if (!part)
			return -EIO;
		memcpy(to + (run.first - bits->first) * MIGRATE_PAGE,
			part->bytes + (run.first - part->first) * MIGRATE_PAGE, MIGRATE_PAGE);
	}
	return 0;
}

int gm_migrate_in_extent(void *ctx, uint64_t offset, struct gm_source_extent *extent)
{
	const struct gm_migrate_in *in = ctx;

	extent->len = (in->map.pages << GM_MIGRATE_PAGE_LOG2) - offset;
	extent->kind = GM_SOURCE_REMOTE;
	return 0;
}

/* What it cannot be asked for has been given up: poisoned by who did that. */
void gm_migrate_in_want(struct gm_migrate_in *in, struct gm_range *bits)
{
	struct gm_migrate_place place;
	uint64_t now = gm_sys_now_ns();
	bool more;

	do {
		more = gm_migrate_map_cut(&in->map, bits, UINT32_MAX, &place);
		(void)gm_migrate_destination_fault(&in->machine, &place, now);
	} while (more);
	in->lines.busy = true;
}

static int source_start(void *ctx, struct gm_source_read *read)
{
	struct gm_migrate_in *in = ctx;
	struct gm_range bits = gm_migrate_in_wants(read);
	struct gm_range rest = bits;
	struct gm_range run;
	int rc;

	if (gm_bits_next(in->machine.lost, bits.first, bits.last, &run))
		return -EIO;
	if (gm_bits_all(in->machine.have, &bits)) {
		rc = read_kept(in, &bits, read->buf);
		if (!rc)
			read->done(read, 0);
		return rc;
	}
	read_parts(in, &bits, read->buf);
	read->own[0] = (uintptr_t)in->reads;
	read->own[1] = gm_sys_now_ns();
	in->reads = read;
	gm_migrate_in_want(in, &rest);
	return 0;
}

/* It is in no file, and comes no more: for when the kernel does not take it now, it is kept. */
static void answer(struct gm_migrate_in *in, struct gm_source_read *read)
{
	struct gm_range bits = gm_migrate_in_wants(read);
	const struct in_area *area = gm_migrate_in_area(in, bits.first);
	uint8_t *bytes = read->buf;

	read->done(read, 0);
	if (gm_migrate_in_piece(in, bits.first)->fd < 0 && !part_at(in, bits.first) &&
		gm_migrate_in_refused(in, area, &bits))
		gm_migrate_in_keep(in, area, &bits, bytes);
}

static void count_latency(struct gm_migrate_in *in, uint64_t ns)
{
	uint64_t us = ns / 1000;
	uint32_t bucket = us ? 64 - (uint32_t)__builtin_clzll(us) : 0;

	in->stats.requests++;
	in->stats.request_ns += ns;
	in->stats.request_latency[bucket < GM_MIGRATE_BUCKETS ? bucket : GM_MIGRATE_BUCKETS - 1]++;
}

/* Reads whose pages are there, or lost. */
static int source_step(void *ctx)
{
	struct gm_migrate_in *in = ctx;
	struct gm_source_read *ready = NULL;
	struct gm_source_read *rest = NULL;
	struct gm_source_read *next;

	for (struct gm_source_read *read = in->reads; read; read = next) {
		struct gm_range bits = gm_migrate_in_wants(read);
		bool there = gm_bits_all(in->machine.have, &bits);

		next = gm_migrate_in_next(read);
		read->own[0] = (uintptr_t)(there ? ready : rest);
		if (there)
			ready = read;
		else
			rest = read;
	}
	in->reads = rest;
	for (; ready; ready = next) {
		struct gm_range bits = gm_migrate_in_wants(ready);
		struct gm_range run;
		bool lost = gm_bits_next(in->machine.lost, bits.first, bits.last, &run);

		next = gm_migrate_in_next(ready);
		if (!lost)
			count_latency(in, gm_sys_now_ns() - ready->own[1]);
		if (lost)
			ready->done(ready, -EIO);
		else
			answer(in, ready);
	}
	return 0;
}

static int source_fd(void *ctx)
{
	return ((struct gm_migrate_in *)ctx)->source_fd;
}

void gm_migrate_in_complete(struct gm_migrate_in *in, const struct gm_range *bits)
{
	for (struct gm_source_read *read = in->reads; read; read = gm_migrate_in_next(read)) {
		struct gm_range wants = gm_migrate_in_wants(read);

		if (gm_range_overlaps(&wants, bits)) {
			(void)gm_source_step(in->source);
			return;
		}
	}
}

/* ---- pages that come ---- */

struct in_area *gm_migrate_in_area(struct gm_migrate_in *in, uint64_t bit)
{
	size_t low = 0;
	size_t high = in->nr_areas;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (in->areas[mid].first <= bit)
			low = mid;
		else
			high = mid;
	}
	return &in->areas[low];
}

static void give_to_reads(
	struct gm_migrate_in *in, const struct gm_range *bits, const uint8_t *from)
{
	for (struct gm_source_read *read = in->reads; read; read = gm_migrate_in_next(read)) {
		struct gm_range wants = gm_migrate_in_wants(read);
		struct gm_range both;
		uint8_t *to = read->buf;

		if (!gm_range_intersect(&wants, bits, &both))
			continue;
		to += (both.first - wants.first) * MIGRATE_PAGE;
		if (from)
			memcpy(to, from + (both.first - bits->first) * MIGRATE_PAGE,
				gm_range_len(&both) * MIGRATE_PAGE);
		else
			memset(to, 0, gm_range_len(&both) * MIGRATE_PAGE);
	}
}

static struct in_part *make_part(struct gm_migrate_in *in, const struct in_area *area, uint64_t bit)
{
	uint64_t pages = area->page >> GM_MIGRATE_PAGE_LOG2;
	struct in_part *part = part_at(in, bit);

	if (part)
		return part;
	part = gm_sys_alloc(sizeof(*part));
	if (!part)
		return NULL;
	part->bytes = gm_sys_alloc_array(pages, MIGRATE_PAGE);
	if (!part->bytes) {
		gm_sys_free(part);
		return NULL;
	}
	part->area = area;
	part->first = area->first + gm_align_down(bit - area->first, pages);
	part->nr = (uint32_t)pages;
	part->next = in->parts;
	in->parts = part;
	return part;
}

void gm_migrate_in_keep(struct gm_migrate_in *in, const struct in_area *area,
	const struct gm_range *bits, const uint8_t *bytes)
{
	struct in_part *part = gm_sys_alloc(sizeof(*part));
	uint64_t nr = gm_range_len(bits);

	if (!part)
		return;
	part->bytes = gm_sys_alloc_array(nr, MIGRATE_PAGE);
	if (!part->bytes) {
		gm_sys_free(part);
		return;
	}
	memcpy(part->bytes, bytes, nr * MIGRATE_PAGE);
	part->area = area;
	part->first = bits->first;
	part->nr = (uint32_t)nr;
	part->next = in->parts;
	in->parts = part;
}

void gm_migrate_in_free_part(struct gm_migrate_in *in, struct in_part *part)
{
	struct in_part **at = &in->parts;

	while (*at && *at != part)
		at = &(*at)->next;
	if (*at)
		*at = part->next;
	gm_sys_free(part->bytes);
	gm_sys_free(part);
}

/* As gm_pager_push(); -EEXIST cannot be: what is there stays. */
static int push_all(struct gm_migrate_in *in, const struct in_area *area, uint64_t first,
	uint64_t len, const uint8_t *from, uint64_t *ret_done)
{
	uint64_t installed;
	int rc = gm_pager_push(in->pager, area->id, (first - area->first) << GM_MIGRATE_PAGE_LOG2,
		from, len, ret_done, &installed);

	/* The guest has unmapped it. */
	return rc == -ENOENT ? 0 : rc;
}

/* Are all of @whole there, or of this message, whose pages up to @last have been dealt with? */
static bool is_whole(const struct gm_migrate_in *in, const struct gm_range *whole,
	const struct gm_range *message, uint64_t last)
{
	struct gm_range came = {message->first, last};

	if (!gm_range_intersect(&came, whole, &came))
		return false;
	return (came.first == whole->first ||
		       gm_bits_all(in->machine.have,
			       &(struct gm_range){whole->first, came.first - 1})) &&
	       (came.last == whole->last ||
		       gm_bits_all(
			       in->machine.have, &(struct gm_range){came.last + 1, whole->last}));
}

/* One run of a message within a large page: it is installed when it is whole. *ret_nr: pages dealt with. */
static int push_part(struct gm_migrate_in *in, const struct in_area *area,
	const struct gm_range *message, const struct gm_range *run, const uint8_t *from,
	uint64_t *ret_nr)
{
	struct in_part *part = make_part(in, area, run->first);
	struct gm_range whole;
	uint64_t nr;
	uint64_t done;
	int rc;

	*ret_nr = 0;
	if (!part)
		return -ENOMEM;
	whole = (struct gm_range){part->first, part->first + part->nr - 1};
	nr = (run->last < whole.last ? run->last : whole.last) - run->first + 1;
	if (from)
		memcpy(part->bytes + (run->first - part->first) * MIGRATE_PAGE, from,
			nr * MIGRATE_PAGE);
	else
		memset(part->bytes + (run->first - part->first) * MIGRATE_PAGE, 0,
			nr * MIGRATE_PAGE);
	/* Those of the message are not in @have yet. Of one that is lost others are poisoned: it never becomes whole. */
	if (gm_migrate_in_spoiled(in, &whole, run->first, nr) ||
		!is_whole(in, &whole, message, run->first + nr - 1)) {
		*ret_nr = nr;
		return 0;
	}
	rc = push_all(in, area, part->first, area->page, part->bytes, &done);
	if (rc)
		return rc;
	gm_migrate_in_free_part(in, part);
	*ret_nr = nr;
	return 0;
}

static int push_run(struct gm_migrate_in *in, struct in_store *store,
	const struct gm_range *message, const struct gm_range *run, const uint8_t *from)
{
	const struct in_area *area = gm_migrate_in_area(in, run->first);
	uint64_t nr = gm_range_len(run);
	uint64_t done = 0;
	int rc;

	if (area->page > MIGRATE_PAGE) {
		rc = push_part(in, area, message, run, from, &nr);
		store->done += (uint32_t)nr;
		return rc;
	}
	if (nr > area->nr - (run->first - area->first))
		nr = area->nr - (run->first - area->first);
	rc = push_all(in, area, run->first, nr * MIGRATE_PAGE, from, &done);
	store->done += (uint32_t)(rc ? done / MIGRATE_PAGE : nr);
	return rc;
}

/* The first pages from @at on that are not there. */
static bool next_missing(
	const struct gm_migrate_in *in, uint64_t at, uint64_t last, struct gm_range *ret)
{
	struct gm_range run;

	while (at <= last) {
		if (!gm_bits_next(in->machine.have, at, last, &run)) {
			*ret = (struct gm_range){at, last};
			return true;
		}
		if (run.first > at) {
			*ret = (struct gm_range){at, run.first - 1};
			return true;
		}
		at = run.last + 1;
	}
	return false;
}

int gm_migrate_in_push(struct gm_migrate_in *in, struct in_store *store, const uint8_t *memory)
{
	const struct gm_migrate_action *a = &store->action;
	struct gm_range bits;
	struct gm_range run;

	if (!gm_migrate_map_bits(&in->map, &a->place, &bits))
		return -EINVAL;
	if (a->kind == GM_MIGRATE_LOST) {
		gm_migrate_in_lose(in, &a->place);
		return 0;
	}
	while (next_missing(in, bits.first + store->done, bits.last, &run)) {
		const uint8_t *from = NULL;
		int rc;

		if (a->kind != GM_MIGRATE_ZEROS)
			from = memory + (run.first - bits.first) * MIGRATE_PAGE;
		store->done = (uint32_t)(run.first - bits.first);
		give_to_reads(in, &run, from);
		rc = push_run(in, store, &bits, &run, from);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- memory goes to the pager, and comes back ---- */

static int make_source(struct gm_migrate_in *in)
{
	const struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "migration",
		.len = in->map.pages << GM_MIGRATE_PAGE_LOG2,
		.extent = gm_migrate_in_extent,
		.start = source_start,
		.step = source_step,
		.fd = source_fd,
		.ctx = in,
	};

	in->source_fd = gm_sys_eventfd();
	if (in->source_fd < 0)
		return in->source_fd;
	return gm_source_create(&ops, &in->source, NULL);
}

static int make_pager(struct gm_migrate_in *in)
{
	struct gm_pager_opts opts = {
		.size = sizeof(opts),
		.flags = GM_PAGER_TELL_DROPPED,
		.requests = REQUESTS,
		.request_len = REQUEST_LEN,
		.wait = GM_PAGER_WAIT_BLOCK,
		.told = gm_migrate_in_event,
		.ctx = in,
	};

	for (size_t i = 0; i < in->nr_pieces; i++) {
		uint64_t page = in->pieces[i].reach.block->page_size;

		if (page > opts.request_len)
			opts.request_len = page;
	}
	return gm_pager_create(&opts, &in->pager, NULL);
}

/* Bits of a piece that are there and not lost; large pages of which some are lost are lost. */
static uint64_t *present_of(struct gm_migrate_in *in, const struct in_piece *piece)
{
	const struct gm_range bits = {piece->first, piece->first + piece->nr - 1};
	uint64_t *words = gm_sys_alloc_array(gm_bits_words(piece->nr + 64) + 1, sizeof(*words));
	uint64_t pages = piece->reach.block->page_size >> GM_MIGRATE_PAGE_LOG2;
	struct gm_range run;

	if (!words)
		return NULL;
	gm_migrate_in_here(in, &bits, words);
	for (uint64_t at = bits.first; gm_bits_next(in->machine.lost, at, bits.last, &run);) {
		run.first = gm_align_down(run.first - bits.first, pages ? pages : 1);
		run.last = gm_align_down(run.last - bits.first, pages ? pages : 1) +
			   (pages ? pages : 1) - 1;
		gm_bits_clear(words, &run);
		at = bits.first + run.last + 1;
		if (at > bits.last)
			break;
	}
	return words;
}

static int add_area(struct gm_migrate_in *in, const struct in_piece *piece)
{
	struct gm_pager_area_info info = {.size = sizeof(info)};
	struct gm_pager_area_opts opts = {
		.size = sizeof(opts),
		.source = in->source,
		.offset = piece->first << GM_MIGRATE_PAGE_LOG2,
		.flags = GM_PAGER_PRESENT,
	};
	uint64_t *present = present_of(in, piece);
	uint64_t id;
	int rc;

	if (!present)
		return -ENOMEM;
	opts.present = present;
	rc = gm_pager_add_space(in->pager, in->space, piece->reach.range.first,
		gm_range_len(&piece->reach.range), &opts, &id, NULL);
	gm_sys_free(present);
	if (!rc)
		rc = gm_pager_area(in->pager, id, &info);
	if (rc)
		return rc;
	in->areas[in->nr_areas++] = (struct in_area){
		.id = id, .first = piece->first, .nr = piece->nr, .page = info.page_size};
	return 0;
}

static void bring_ahead(struct gm_migrate_in *in)
{
	if (!in->opts.wset)
		return;
	for (size_t i = 0; i < in->nr_areas; i++)
		(void)gm_pager_prefetch_set(in->pager, in->areas[i].id, in->opts.wset, 0, NULL);
	(void)gm_pager_fill(in->pager, GM_PAGER_FILL_RANGES, 0);
}

int gm_migrate_in_arm(struct gm_migrate_in *in, const char **ret_why)
{
	struct gm_range lost;
	bool some = gm_bits_next(in->machine.lost, 0, in->map.pages - 1, &lost);
	int rc;

	if (!in->machine.later && !some)
		return 0;
	*ret_why = some ? "pages are lost, and the destination cannot poison them"
			: "the destination cannot have pages come on demand";
	if (in->opts.flags & GM_MIGRATE_IN_NO_POSTCOPY)
		return -ENOTSUP;
	in->areas = gm_sys_alloc_array(in->nr_pieces, sizeof(*in->areas));
	rc = in->areas ? make_source(in) : -ENOMEM;
	if (!rc)
		rc = gm_migrate_in_others_open(in);
	if (!rc)
		rc = make_pager(in);
	for (size_t i = 0; !rc && i < in->nr_pieces; i++) {
		struct gm_range first = {in->pieces[i].first, in->pieces[i].first};
		struct gm_migrate_place place = gm_migrate_map_place(&in->map, &first);

		if (!in->map.regions[place.region].by_fd)
			rc = add_area(in, &in->pieces[i]);
	}
	if (!rc)
		rc = gm_migrate_lines_watch(&in->lines, gm_pager_fd(in->pager));
	if (rc)
		return rc;
	gm_migrate_in_lose_all(in);
	bring_ahead(in);
	return 0;
}

/* All is there, or lost: it is ordinary memory again. */
static int stop(struct gm_migrate_in *in)
{
	bool given_up = in->machine.state == GM_DESTINATION_GIVEN_UP ||
			in->machine.state == GM_DESTINATION_FAILED;
	int rc;

	if (in->reads || in->others_reads ||
		(in->machine.state != GM_DESTINATION_WHOLE && !gm_migrate_in_is_held(in)))
		return 0;
	rc = gm_pager_stop(in->pager, given_up ? GM_PAGER_POISON : GM_PAGER_COMPLETE, 0, NULL);
	if (rc == -ETIMEDOUT) {
		in->lines.busy = true;
		return 0;
	}
	(void)gm_migrate_lines_watch(&in->lines, -1);
	in->stopped = true;
	return rc;
}

int gm_migrate_in_later(struct gm_migrate_in *in, uint64_t now)
{
	int rc = 0;

	gm_migrate_in_name_poisoned(in);
	if (!in->pager || in->stopped)
		return 0;
	if (in->lines.other_ready) {
		in->lines.other_ready = false;
		rc = gm_pager_step(in->pager, 0);
		/* As long as there is something its descriptor says so. */
		rc = rc < 0 && rc != -EBUSY ? rc : 0;
	}
	if (in->others_reads)
		gm_migrate_in_others(in, false);
	gm_migrate_in_tell_drops(in, now);
	if (!rc)
		rc = stop(in);
	gm_migrate_in_name_poisoned(in);
	return rc;
}

void gm_migrate_in_disarm(struct gm_migrate_in *in)
{
	if (in->pager && !in->stopped && in->machine.started && !in->machine.missing) {
		(void)gm_pager_stop(in->pager, GM_PAGER_COMPLETE, -1, NULL);
	} else if (in->pager && !in->stopped) {
		/* It never ran here: nobody wants any of it. */
		for (struct gm_source_read *read = in->reads, *next; read; read = next) {
			next = gm_migrate_in_next(read);
			in->reads = next;
			read->done(read, -ECANCELED);
		}
		gm_migrate_in_others(in, true);
		(void)gm_pager_stop(in->pager, GM_PAGER_POISON, -1, NULL);
	}
	(void)gm_pager_destroy(in->pager, NULL);
	gm_source_destroy(in->source);
	gm_source_destroy(in->others);
	while (in->parts)
		gm_migrate_in_free_part(in, in->parts);
	if (in->source_fd >= 0)
		gm_sys_close(in->source_fd);
	if (in->others_fd >= 0)
		gm_sys_close(in->others_fd);
	gm_sys_free(in->areas);
}
