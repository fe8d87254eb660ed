/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_out_pages.c - memory to messages, the log to pages that are due, the end of a round.
 *
 * Pages are copied to a buffer before they are looked at: the guest may write to them meanwhile.
 */
#include <errno.h>
#include <string.h>

#include "core/bits.h"
#include "core/bytes.h"
#include "services/migrate_out.h"
#include "sys/sys.h"

#define ZEROS_MIN 4u /* pages: fewer between others go with them */
#define LOG_WORDS UINT64_C(512)
#define EXTENT_ASKED (64u << 10)
#define EXTENT_TAKEN (2u << 20)
#define EXTENT_HOLE (256u << 20)
#define BURST_NS UINT64_C(20000000)

/* ---- reading ---- */

static uint64_t offset_of(const struct gm_migrate_out *out, const struct gm_migrate_place *place)
{
	return out->memory.pieces[place->region].off + (place->first << GM_MIGRATE_PAGE_LOG2);
}

static int read_memory(struct gm_migrate_out *out, uint64_t off, void *buf, size_t len)
{
	return out->then ? out->then->read(out->then->ctx, off, buf, len)
			 : gm_saving_read(&out->memory, off, buf, len, NULL);
}

/*
 * What lies there, from the first of a few pages on. How long there is something is not looked for, page by page
 * through gigabytes while a guest waits: so much is read before it is asked again. A hole is found at once.
 */
static int look(const struct gm_migrate_out *out, uint64_t off, struct gm_source_extent *e)
{
	uint64_t asked = EXTENT_ASKED;
	int rc;

	do {
		*e = (struct gm_source_extent){
			.offset = off, .len = asked, .kind = GM_SOURCE_CHUNK};
		rc = gm_saving_extent(&out->memory, off, e);
		if (!rc && e->kind != GM_SOURCE_ZERO && e->len < EXTENT_TAKEN)
			e->len = EXTENT_TAKEN;
		asked = asked == EXTENT_ASKED ? EXTENT_HOLE : 0;
	} while (!rc && e->kind == GM_SOURCE_ZERO && asked);
	return rc;
}

/* Zeros that need not be read, all of them: what nobody has touched stays so. */
static bool is_hole(struct gm_migrate_out *out, uint64_t off, uint64_t len)
{
	struct gm_source_extent *e = &out->extent;

	if (out->then)
		return out->then->zeros(out->then->ctx, off, len);
	if (off < e->offset || off - e->offset >= e->len) {
		if (look(out, off, e)) {
			e->len = 0;
			return false;
		}
	}
	return e->kind == GM_SOURCE_ZERO && e->len - (off - e->offset) >= len;
}

static void judge(struct out_load *load, uint32_t page)
{
	const uint8_t *bytes = load->room + (size_t)page * MIGRATE_PAGE;

	load->kinds[page] =
		gm_bytes_are_zero(bytes, MIGRATE_PAGE) ? GM_MIGRATE_ZEROS : GM_MIGRATE_RAW;
}

/* Pages that cannot be read are lost; their neighbours are not. */
static void read_singly(struct gm_migrate_out *out, struct out_load *load, uint64_t off)
{
	for (uint32_t i = 0; i < load->place.nr; i++) {
		uint64_t at = (uint64_t)i * MIGRATE_PAGE;

		if (read_memory(out, off + at, load->room + at, MIGRATE_PAGE)) {
			load->kinds[i] = GM_MIGRATE_LOST;
			out->stats.lost += MIGRATE_PAGE;
		} else {
			judge(load, i);
		}
	}
}

/* A few zeros among other bytes cost less than a message of their own. */
static void join_zeros(struct out_load *load)
{
	uint32_t nr = load->place.nr;
	uint32_t end;

	for (uint32_t i = 0; i < nr; i = end) {
		for (end = i + 1; end < nr && load->kinds[end] == load->kinds[i];)
			end++;
		if (load->kinds[i] == GM_MIGRATE_ZEROS && i && end < nr && end - i < ZEROS_MIN &&
			load->kinds[i - 1] == GM_MIGRATE_RAW && load->kinds[end] == GM_MIGRATE_RAW)
			memset(load->kinds + i, GM_MIGRATE_RAW, end - i);
	}
}

/* Holes are asked for where the guest has not written since the log began, or writes no more. */
static void read_load(struct gm_migrate_out *out, struct out_load *load, bool urgent)
{
	bool sparse = load->number <= 1 && !urgent;
	uint64_t off = offset_of(out, &load->place);
	uint64_t len = (uint64_t)load->place.nr * MIGRATE_PAGE;

	if (sparse && is_hole(out, off, len)) {
		memset(load->kinds, GM_MIGRATE_ZEROS, load->place.nr);
	} else if (read_memory(out, off, load->room, len)) {
		read_singly(out, load, off);
	} else {
		for (uint32_t i = 0; i < load->place.nr; i++)
			judge(load, i);
		join_zeros(load);
	}
	load->read = true;
}

/* ---- sending ---- */

/* The next message of what was taken. */
static void say_next(
	struct gm_migrate_out *out, struct gm_migrate_link *link, struct out_load *load)
{
	uint32_t kind = load->kinds[load->done];
	struct gm_migrate_place place = {
		.region = load->place.region, .nr = 1, .first = load->place.first + load->done};
	const uint8_t *memory = load->room + (size_t)load->done * MIGRATE_PAGE;
	uint64_t bytes;
	uint32_t became;

	while (load->done + place.nr < load->place.nr && load->kinds[load->done + place.nr] == kind)
		place.nr++;
	became = gm_migrate_conn_say_pages(
		link->conn, load->number, &place, kind, kind == GM_MIGRATE_RAW ? memory : NULL);
	load->done += place.nr;
	bytes = (uint64_t)place.nr * MIGRATE_PAGE;
	out->stats.pages += bytes;
	out->round_sent += bytes;
	out->stats.zeros += kind == GM_MIGRATE_ZEROS ? bytes : 0;
	out->stats.packed +=
		became == GM_MIGRATE_BY_ZSTD || became == GM_MIGRATE_BY_LZ4 ? bytes : 0;
	out->stats.again += load->number > 1 ? bytes : 0;
}

/* Bytes that may go now: what is asked for always may. */
static bool may_send(struct gm_migrate_out *out, uint32_t slot)
{
	uint64_t rate = out->opts.rate;
	uint64_t now;
	uint64_t ns;

	if (!rate || slot > GM_MIGRATE_BULK_MAX || out->tokens)
		return true;
	now = gm_sys_now_ns();
	ns = now - out->tokens_at;
	if (now < out->rate_due) {
		out->held_up = true;
		return false;
	}
	if (ns > BURST_NS)
		ns = BURST_NS;
	out->tokens = (uint64_t)((unsigned __int128)rate * ns / 1000000000u) + 1;
	out->tokens_at = now;
	return true;
}

static void spend(struct gm_migrate_out *out, uint32_t slot, uint64_t bytes)
{
	uint64_t now = gm_sys_now_ns();
	uint64_t owed;

	if (!out->opts.rate || slot > GM_MIGRATE_BULK_MAX)
		return;
	if (bytes <= out->tokens) {
		out->tokens -= bytes;
		return;
	}
	owed = bytes - out->tokens;
	out->tokens = 0;
	/* What was owed before is. */
	out->rate_due = gm_migrate_after(out->rate_due > now ? out->rate_due : now,
		(uint64_t)((unsigned __int128)owed * 1000000000u / out->opts.rate));
	/* From then on it counts anew. */
	out->tokens_at = out->rate_due;
}

static bool take(struct gm_migrate_out *out, uint32_t slot, struct out_load *load)
{
	if (out->then && !out->machine.nr_asked && !out->then->may(out->then->ctx))
		return false;
	if (!gm_migrate_source_take(&out->machine, slot, &load->place, &load->number))
		return false;
	load->done = 0;
	load->read = false;
	return true;
}

static bool make_room(struct gm_migrate_out *out, struct out_load *load)
{
	if (!load->room)
		load->room = gm_sys_alloc_array(out->machine.o.pages_max, MIGRATE_PAGE);
	return load->room != NULL;
}

bool gm_migrate_out_pages(struct gm_migrate_out *out, struct gm_migrate_link *link, int *ret_rc)
{
	struct out_load *load = &out->loads[link->slot];
	uint64_t before = gm_migrate_conn_went(link->conn);
	bool moved;

	*ret_rc = 0;
	if (gm_migrate_conn_sends(link->conn) || !link->writable)
		return false;
	if (load->done == load->place.nr) {
		load->place.nr = 0;
		load->done = 0;
		if (!may_send(out, link->slot))
			return false;
		if (!make_room(out, load)) {
			*ret_rc = -ENOMEM;
			return false;
		}
		if (!take(out, link->slot, load))
			return false;
	}
	if (!load->read)
		read_load(out, load, link->slot > GM_MIGRATE_BULK_MAX);
	say_next(out, link, load);
	if (out->then && load->done == load->place.nr)
		out->then->sent(out->then->ctx, link->slot, &load->place);
	*ret_rc = gm_migrate_lines_flush(&out->lines, link, &moved);
	/* What does not go at once goes before anything else. */
	spend(out, link->slot,
		gm_migrate_conn_went(link->conn) - before + gm_migrate_conn_left(link->conn));
	return true;
}

void gm_migrate_out_forget(struct gm_migrate_out *out)
{
	if (out->then)
		out->then->closed(out->then->ctx);
	for (uint32_t i = 0; i < GM_MIGRATE_SLOTS; i++) {
		out->loads[i].place.nr = 0;
		out->loads[i].done = 0;
	}
}

/* ---- what was written ---- */

/* Pages from @first on, by address; those of regions by descriptor are nobody's. Returns how many were not set. */
static uint64_t set_pages(struct gm_migrate_out *out, uint32_t from, const struct gm_range *gpas)
{
	uint64_t nr = 0;

	for (uint32_t i = from; i < out->map.nr; i++) {
		const struct gm_migrate_region *region = &out->regions[i];
		struct gm_range range;
		struct gm_range both;
		struct gm_range bits;

		if (region->gpa > gpas->last)
			break;
		if (!gm_range_make(region->gpa, region->len, &range) ||
			!gm_range_intersect(gpas, &range, &both) || region->by_fd)
			continue;
		bits.first = out->starts[i] + ((both.first - region->gpa) >> GM_MIGRATE_PAGE_LOG2);
		bits.last = out->starts[i] + ((both.last - region->gpa) >> GM_MIGRATE_PAGE_LOG2);
		nr += gm_range_len(&bits) - gm_bits_count(out->todo, &bits);
		gm_bits_set(out->todo, &bits);
	}
	return nr;
}

static uint64_t set_words(struct gm_migrate_out *out, uint32_t region, uint64_t page,
	const uint64_t *words, uint64_t nr)
{
	uint64_t pages = 0;
	struct gm_range run;

	for (uint64_t at = 0; gm_bits_next(words, at, nr - 1, &run); at = run.last + 1) {
		struct gm_range gpas = {
			out->log_first + ((page + run.first) << GM_MIGRATE_PAGE_LOG2),
			out->log_first + ((page + run.last + 1) << GM_MIGRATE_PAGE_LOG2) - 1};

		/* The word before may reach into the region before. */
		pages += set_pages(out, region ? region - 1 : 0, &gpas);
		if (run.last == nr - 1)
			break;
	}
	return pages;
}

/* The log is taken in words, where there are regions. */
static int take_log(struct gm_migrate_out *out, uint64_t *ret_pages)
{
	uint64_t words[LOG_WORDS];
	uint64_t next = 0;

	*ret_pages = 0;
	for (uint32_t i = 0; i < out->map.nr; i++) {
		const struct gm_migrate_region *region = &out->regions[i];
		uint64_t first = (region->gpa - out->log_first) >> GM_MIGRATE_PAGE_LOG2;
		uint64_t end = first + (region->len >> GM_MIGRATE_PAGE_LOG2);
		uint64_t page = gm_align_down(first, 64);

		for (page = page < next ? next : page; page < end;) {
			uint64_t nr = end - page < LOG_WORDS * 64 ? end - page : LOG_WORDS * 64;
			uint64_t whole = (nr + 63) / 64 * 64;
			uint64_t count;
			int rc = gm_log_take(out->log, page, whole, words, &count);

			if (rc)
				return rc;
			if (count)
				*ret_pages += set_words(out, i, page, words, whole);
			page += whole;
			next = page;
		}
	}
	return 0;
}

int gm_migrate_out_harvest(struct gm_migrate_out *out, uint64_t *ret_bytes)
{
	uint64_t pages = 0;
	int rc = 0;

	*ret_bytes = 0;
	if (!out->log)
		return 0;
	if (out->ops.harvest) {
		pthread_mutex_unlock(&out->lines.lock);
		rc = out->ops.harvest(out->ops.ctx);
		pthread_mutex_lock(&out->lines.lock);
	}
	if (!rc)
		rc = take_log(out, &pages);
	*ret_bytes = pages << GM_MIGRATE_PAGE_LOG2;
	return rc;
}

void gm_migrate_out_widen(struct gm_migrate_out *out)
{
	for (uint32_t i = 0; i < out->map.nr; i++) {
		uint64_t page = (UINT64_C(1) << out->regions[i].page_log2) >> GM_MIGRATE_PAGE_LOG2;
		uint64_t start = out->starts[i];
		uint64_t last = start + (out->regions[i].len >> GM_MIGRATE_PAGE_LOG2) - 1;
		struct gm_range run;

		if (page == 1)
			continue;
		for (uint64_t at = start; at <= last && gm_bits_next(out->todo, at, last, &run);) {
			run.first = start + gm_align_down(run.first - start, page);
			run.last = start + gm_align_down(run.last - start, page) + (page - 1);
			gm_bits_set(out->todo, &run);
			at = run.last + 1;
		}
	}
}

int gm_migrate_out_later(struct gm_migrate_out *out, uint64_t now)
{
	int rc = gm_migrate_source_switch(&out->machine, GM_MIGRATE_REST_LATER, now);

	if (!rc)
		gm_migrate_out_widen(out);
	return rc;
}

/* ---- rounds ---- */

static void set_throttle(struct gm_migrate_out *out, uint32_t percent)
{
	if (percent == out->throttle || !out->ops.throttle)
		return;
	out->throttle = percent;
	out->stats.throttle = percent;
	pthread_mutex_unlock(&out->lines.lock);
	out->ops.throttle(out->ops.ctx, percent);
	pthread_mutex_lock(&out->lines.lock);
}

int gm_migrate_out_round(struct gm_migrate_out *out, uint64_t now)
{
	struct gm_migrate_rate_round round = {
		.ns = now - out->round_began, .sent = out->round_sent};
	struct gm_migrate_rate_verdict verdict;
	uint64_t dirty_rate = 0;
	int rc = gm_migrate_out_harvest(out, &round.dirtied);

	if (rc)
		return gm_migrate_source_cancel(&out->machine, rc, now);
	round.left = round.dirtied;
	verdict = gm_migrate_rate_round(&out->rate, &round);
	if (round.ns)
		dirty_rate = (uint64_t)((unsigned __int128)round.dirtied * 1000000000u / round.ns);
	out->stats.round = out->machine.round;
	out->stats.rate = gm_migrate_rate_sent(&out->rate);
	/* Of this round: the guest may be another from now on, with less time. */
	out->stats.dirty_rate = dirty_rate;
	out->stats.expected_downtime_ns = verdict.downtime_ns;
	out->stats.expected_end_ns = verdict.end_ns;
	out->stats.left = round.left;
	gm_migrate_out_tell(out, GM_MIGRATE_TOLD_ROUND, 0, NULL);
	/* Somebody may have wished something else while he was told. */
	if (out->machine.state != GM_SOURCE_BETWEEN)
		return 0;
	set_throttle(out, verdict.throttle);
	out->round_began = gm_sys_now_ns();
	out->round_sent = 0;
	out->extent.len = 0;
	switch (verdict.action) {
	case GM_MIGRATE_RATE_ROUND:
		return gm_migrate_source_round(&out->machine, now);
	case GM_MIGRATE_RATE_HAND_OVER:
		return gm_migrate_source_switch(&out->machine, GM_MIGRATE_ALL_SENT, now);
	case GM_MIGRATE_RATE_POSTCOPY:
		if (out->machine.features & GM_MIGRATE_POSTCOPY)
			return gm_migrate_out_later(out, now);
		break;
	default:
		break;
	}
	return gm_migrate_source_cancel(&out->machine, -ETIME, now);
}
