/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_source.c - see migrate_source.h. What messages do is in migrate_source_hear.c. */
#include "core/migrate_source.h"

#include <errno.h>
#include <string.h>

#include "core/migrate_source_parts.h"

/* ---- states ---- */

void gm_migrate_source_go(struct gm_migrate_source *s, uint32_t state, uint64_t wait, uint64_t now)
{
	s->state = state;
	s->deadline = wait == GM_MIGRATE_NEVER ? wait : gm_migrate_after(now, wait);
}

void gm_migrate_source_end(struct gm_migrate_source *s, uint32_t state, int rc, const char *why)
{
	bool here = state <= GM_SOURCE_FORCED;
	bool well = state == GM_SOURCE_ENDED;

	gm_migrate_queue_unsend(&s->queue);
	/* A word of farewell: he need not find out by himself. */
	if (here && state != GM_SOURCE_FORCED && (s->line.open & 1))
		gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_CANCEL, (uint64_t)-rc);
	gm_migrate_source_close(s);
	if (here && s->paused) {
		gm_migrate_push(&s->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_RUN});
		s->paused = false;
	}
	s->state = state;
	s->deadline = GM_MIGRATE_NEVER;
	s->rc = rc;
	s->why = why;
	gm_migrate_push(&s->queue,
		&(struct gm_migrate_action){
			.what = well ? GM_MIGRATE_DO_TELL_ENDED : GM_MIGRATE_DO_TELL_FAILED,
			.rc = rc,
			.why = why});
}

void gm_migrate_source_close(struct gm_migrate_source *s)
{
	if (s->line.open | s->opening)
		gm_migrate_push(
			&s->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_CLOSE_ALL,
					   .epoch = s->line.epoch});
	s->line.open = 0;
	s->line.opening = GM_MIGRATE_NEVER;
	s->to_open = 0;
	s->opening = 0;
	s->nr_asked = 0;
}

/* Before RUN the guest goes on here; after it nobody can know, so it stays where it is. */
void gm_migrate_source_lose(struct gm_migrate_source *s, int rc, const char *why, uint64_t now)
{
	if (s->state == GM_SOURCE_IDLE || s->state == GM_SOURCE_LOST || s->state >= GM_SOURCE_DOUBT)
		return;
	if (!s->phase || gm_migrate_broken(GM_DEFECT_RUNS_AFTER_RUN)) {
		gm_migrate_source_end(s, GM_SOURCE_FAILED, rc, why);
		return;
	}
	gm_migrate_queue_unsend(&s->queue);
	gm_migrate_source_close(s);
	gm_migrate_source_go(s, GM_SOURCE_LOST,
		gm_migrate_broken(GM_DEFECT_NO_DEADLINE) ? GM_MIGRATE_NEVER : s->o.times.resume_ns,
		now);
	s->rc = rc;
	s->why = why;
	gm_migrate_push(&s->queue,
		&(struct gm_migrate_action){.what = GM_MIGRATE_DO_TELL_LOST, .rc = rc, .why = why});
}

static void doubt(struct gm_migrate_source *s, int rc, const char *why)
{
	s->state = GM_SOURCE_DOUBT;
	s->deadline = GM_MIGRATE_NEVER;
	s->rc = rc;
	s->why = why;
	gm_migrate_push(
		&s->queue, &(struct gm_migrate_action){
				   .what = GM_MIGRATE_DO_TELL_FAILED, .rc = rc, .why = why});
}

void gm_migrate_source_contradict(struct gm_migrate_source *s, const char *why)
{
	gm_migrate_queue_unsend(&s->queue);
	gm_migrate_source_close(s);
	doubt(s, -EPROTO, why);
}

/* ---- the embedder ---- */

void gm_migrate_source_init(struct gm_migrate_source *s, const struct gm_migrate_source_opts *opts,
	const struct gm_migrate_map *map, uint64_t *todo)
{
	memset(s, 0, sizeof(*s));
	s->o = *opts;
	s->map = *map;
	s->todo = todo;
	s->deadline = GM_MIGRATE_NEVER;
}

static void open_epoch(
	struct gm_migrate_source *s, uint32_t state, uint32_t bulk, uint32_t urgent, uint64_t now)
{
	gm_migrate_line_begin(&s->line, s->line.epoch + 1, bulk, urgent, now);
	s->line.opening = gm_migrate_after(now, s->o.times.open_ns);
	s->to_open = 1;
	memset(s->number, 0, sizeof(s->number));
	gm_migrate_source_go(s, state, GM_MIGRATE_NEVER, now);
}

int gm_migrate_source_start(struct gm_migrate_source *s, uint64_t now)
{
	if (s->state != GM_SOURCE_IDLE)
		return -EINVAL;
	open_epoch(s, GM_SOURCE_OPENING, s->o.bulk, s->o.urgent, now);
	return 0;
}

/* How many pages are set in @todo. What comes as a descriptor is not sent, whoever set it. */
static uint64_t count_todo(struct gm_migrate_source *s)
{
	for (uint32_t i = 0; i < s->map.nr; i++) {
		struct gm_range bits;

		if (s->map.regions[i].by_fd &&
			gm_range_make(s->map.starts[i],
				s->map.regions[i].len >> GM_MIGRATE_PAGE_LOG2, &bits))
			gm_bits_clear(s->todo, &bits);
	}
	return gm_bits_count(s->todo, &(struct gm_range){0, s->map.pages - 1});
}

/* All pages that are set in @todo, of this round. */
static void begin_round(struct gm_migrate_source *s)
{
	s->round++;
	s->round_open = true;
	s->cursor = 0;
	s->left = count_todo(s);
}

int gm_migrate_source_round(struct gm_migrate_source *s, uint64_t now)
{
	if (s->state != GM_SOURCE_BETWEEN)
		return -EINVAL;
	if (s->round >= s->o.rounds_max)
		return -ERANGE;
	begin_round(s);
	gm_migrate_source_go(s, GM_SOURCE_ROUND, GM_MIGRATE_NEVER, now);
	return 0;
}

static uint32_t end_slots(const struct gm_migrate_source *s)
{
	return s->line.wanted & GM_MIGRATE_ROUND_SLOTS;
}

static void pause_guest(struct gm_migrate_source *s, uint64_t now)
{
	s->paused = true;
	gm_migrate_push(&s->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_PAUSE});
	gm_migrate_source_go(s, GM_SOURCE_PAUSING, s->o.times.own_ns, now);
}

int gm_migrate_source_switch(struct gm_migrate_source *s, enum gm_migrate_switch how, uint64_t now)
{
	bool later = how == GM_MIGRATE_REST_LATER;

	if (s->state != GM_SOURCE_BETWEEN && s->state != GM_SOURCE_ROUND)
		return -EINVAL;
	if (later && !(s->features & GM_MIGRATE_POSTCOPY))
		return -EINVAL;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	/* What of this round was not sent stays in @todo: it belongs to the next. */
	if (s->state == GM_SOURCE_ROUND && s->round_open) {
		s->to_end = end_slots(s);
		s->round_open = false;
	}
	s->later = later;
	/* Of the first round nothing is there that could be out of date. */
	if (later && (s->state == GM_SOURCE_BETWEEN || s->round > 1)) {
		s->left = count_todo(s);
		s->discard = 0;
		s->dropping = DROP_DUE;
		gm_migrate_source_go(s, GM_SOURCE_DROPPING, s->o.times.answer_ns, now);
	} else {
		pause_guest(s, now);
	}
	return 0;
}

/* The destination takes no part of a huge page for out of date. */
static bool todo_is_whole(const struct gm_migrate_source *s)
{
	for (uint32_t i = 0; i < s->map.nr; i++) {
		const struct gm_migrate_region *region = &s->map.regions[i];
		uint64_t pages = UINT64_C(1) << (region->page_log2 - GM_MIGRATE_PAGE_LOG2);
		uint64_t first = s->map.starts[i];
		uint64_t last = first + ((region->len >> GM_MIGRATE_PAGE_LOG2) - 1);
		struct gm_range bits;

		if (pages == 1 || region->by_fd)
			continue;
		for (uint64_t at = first;
			gm_migrate_map_next(&s->map, s->todo, at, last, UINT64_MAX, &bits);
			at = bits.last + 1) {
			if (!gm_is_aligned(bits.first - first, pages) ||
				!gm_is_aligned(gm_range_len(&bits), pages))
				return false;
		}
	}
	return true;
}

int gm_migrate_source_paused(struct gm_migrate_source *s, uint64_t now)
{
	if (s->state != GM_SOURCE_PAUSING || s->to_end)
		return s->state == GM_SOURCE_PAUSING ? -EBUSY : -EINVAL;
	if (s->later && !todo_is_whole(s))
		return -EINVAL;
	s->left = count_todo(s);
	if (!s->later)
		begin_round(s);
	s->discarding = s->later && s->left;
	s->discard = 0;
	s->window = UINT32_MAX;
	gm_migrate_source_go(s, GM_SOURCE_LAST, s->o.times.own_ns, now);
	return 0;
}

int gm_migrate_source_wrote(struct gm_migrate_source *s, uint64_t len, uint64_t now)
{
	if (s->state != GM_SOURCE_LAST || s->has_state)
		return -EINVAL;
	s->state_len = len;
	s->has_state = true;
	gm_migrate_source_go(s, GM_SOURCE_LAST, GM_MIGRATE_NEVER, now);
	return 0;
}

int gm_migrate_source_cancel(struct gm_migrate_source *s, int rc, uint64_t now)
{
	(void)now;
	if (s->state == GM_SOURCE_IDLE || s->phase || s->state >= GM_SOURCE_HANDED)
		return -EINVAL;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	gm_migrate_source_end(s, GM_SOURCE_CANCELLED, rc, "it was cancelled");
	return 0;
}

int gm_migrate_source_resume(
	struct gm_migrate_source *s, uint32_t bulk, uint32_t urgent, uint64_t now)
{
	if ((s->state != GM_SOURCE_LOST && s->state != GM_SOURCE_DOUBT) ||
		s->line.epoch == UINT32_MAX || bulk > GM_MIGRATE_BULK_MAX ||
		urgent > GM_MIGRATE_URGENT_MAX)
		return -EINVAL;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	open_epoch(s, GM_SOURCE_RESUMING, bulk, urgent, now);
	return 0;
}

int gm_migrate_source_reclaim(struct gm_migrate_source *s, uint64_t now)
{
	if (s->phase != GM_MIGRATE_HANDED_OVER || s->state < GM_SOURCE_HANDED ||
		s->state > GM_SOURCE_DOUBT)
		return -EINVAL;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	s->reclaiming = true;
	/* A RUN that is on its way is overtaken by the next epoch; in this one nobody can tell. */
	if (s->state == GM_SOURCE_HANDED) {
		gm_migrate_queue_unsend(&s->queue);
		gm_migrate_source_close(s);
		gm_migrate_source_go(s, GM_SOURCE_LOST, s->o.times.resume_ns, now);
	}
	if (s->state == GM_SOURCE_LOST || s->state == GM_SOURCE_DOUBT)
		return gm_migrate_source_resume(s, s->line.bulk, s->line.urgent, now);
	return 0;
}

int gm_migrate_source_force(struct gm_migrate_source *s, uint64_t now)
{
	(void)now;
	if (s->state < GM_SOURCE_HANDED || s->state > GM_SOURCE_DOUBT)
		return -EINVAL;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	gm_migrate_source_end(s, GM_SOURCE_FORCED, 0, "the embedder has it run here again");
	return 0;
}

/* ---- connections and time ---- */

static const char *judge_opened(
	const struct gm_migrate_source *s, const struct gm_migrate_opened *o, int *ret_rc)
{
	*ret_rc = -EPROTO;
	if (!o->version) {
		*ret_rc = -EPROTONOSUPPORT;
		return "the destination speaks no version that the source does";
	}
	if (o->error) {
		*ret_rc = -(int)o->error;
		return "the destination refuses the connection";
	}
	if (o->version != GM_MIGRATE_VERSION || !o->pages_max ||
		o->pages_max > GM_MIGRATE_PAGES_MAX || (o->features & ~s->o.features))
		return "the destination's answer to a connection cannot be";
	if (s->round && o->features != s->features)
		return "the destination has other features than before";
	return NULL;
}

static bool has_by_fd(const struct gm_migrate_source *s)
{
	for (uint32_t i = 0; i < s->map.nr; i++) {
		if (s->map.regions[i].by_fd)
			return true;
	}
	return false;
}

int gm_migrate_source_opened(struct gm_migrate_source *s, uint32_t slot, uint32_t epoch,
	const struct gm_migrate_opened *opened, uint64_t now)
{
	const char *why;
	int rc;

	if (epoch != s->line.epoch || slot >= GM_MIGRATE_SLOTS || !(s->opening >> slot & 1))
		return 0;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	why = judge_opened(s, opened, &rc);
	if (why) {
		gm_migrate_source_lose(s, rc, why, now);
		return 0;
	}
	s->opening &= ~(1u << slot);
	gm_migrate_line_open(&s->line, slot, now);
	if (slot)
		return 0;
	s->features = opened->features;
	s->pages_max = opened->pages_max < s->o.pages_max ? opened->pages_max : s->o.pages_max;
	s->to_open = s->line.wanted & ~1u;
	if (s->state == GM_SOURCE_OPENING && !(s->features & GM_MIGRATE_FDS) && has_by_fd(s)) {
		gm_migrate_source_end(s, GM_SOURCE_FAILED, -ENOTSUP,
			"the destination takes no memory by descriptors");
		return 0;
	}
	if (s->state == GM_SOURCE_OPENING) {
		gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_LAYOUT, s->map.nr);
		gm_migrate_source_go(s, GM_SOURCE_OFFERED, s->o.times.answer_ns, now);
		return 0;
	}
	if (s->later)
		gm_migrate_source_expect_have(s);
	gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_RESUME, s->phase);
	gm_migrate_source_go(s, GM_SOURCE_ASKING, s->o.times.answer_ns, now);
	return 0;
}

void gm_migrate_source_lost(struct gm_migrate_source *s, uint32_t slot, uint32_t epoch, int rc,
	const char *why, uint64_t now)
{
	uint32_t known = s->line.open | s->opening;

	if (epoch == s->line.epoch && slot < GM_MIGRATE_SLOTS && (known >> slot & 1))
		gm_migrate_source_lose(s, rc, why, now);
}

void gm_migrate_source_moved(struct gm_migrate_source *s, uint32_t slot, uint32_t epoch, bool in,
	bool busy, uint64_t now)
{
	if (gm_migrate_line_has(&s->line, slot, epoch))
		gm_migrate_line_moved(&s->line, slot, in, busy, now);
}

void gm_migrate_source_tick(struct gm_migrate_source *s, uint64_t now)
{
	const char *why = gm_migrate_line_fault(&s->line, &s->o.times, now);

	if (s->state == GM_SOURCE_LOST && now >= s->deadline) {
		doubt(s, -ETIMEDOUT, "the destination was not reached again in time");
		return;
	}
	if (!why && now >= s->deadline)
		why = s->state == GM_SOURCE_BETWEEN || s->state == GM_SOURCE_PAUSING ||
				      s->state == GM_SOURCE_LAST
			      ? "the embedder did not go on in time"
			      : "the destination did not answer in time";
	if (why) {
		gm_migrate_source_lose(s, -ETIMEDOUT, why, now);
		return;
	}
	if (gm_migrate_queue_room(&s->queue) && gm_migrate_line_ping(&s->line, &s->o.times, now))
		gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_PING, 0);
}

uint64_t gm_migrate_source_due(const struct gm_migrate_source *s)
{
	uint64_t line = gm_migrate_line_due(&s->line, &s->o.times);

	return line < s->deadline ? line : s->deadline;
}

/* ---- pages ---- */

static void take_bits(struct gm_migrate_source *s, const struct gm_range *bits,
	struct gm_migrate_place *ret_place)
{
	gm_bits_clear(s->todo, bits);
	s->left -= gm_range_len(bits);
	/* What lies behind a page that was asked for may be asked for next. */
	s->cursor = bits->last + 1;
	*ret_place = gm_migrate_map_place(&s->map, bits);
}

static bool take_asked(struct gm_migrate_source *s, struct gm_migrate_place *ret_place)
{
	while (s->nr_asked) {
		struct gm_range bits;

		if (gm_migrate_map_next(&s->map, s->todo, s->asked[0].first, s->asked[0].last,
			    s->pages_max, &bits)) {
			take_bits(s, &bits, ret_place);
			return true;
		}
		s->nr_asked--;
		memmove(s->asked, s->asked + 1, s->nr_asked * sizeof(s->asked[0]));
	}
	return false;
}

/* Whoever waits for a page waits for what is being sent, and for what is being put away there, too. */
#define BESIDE 16u

static bool take_any(struct gm_migrate_source *s, struct gm_migrate_place *ret_place)
{
	uint64_t last = s->map.pages - 1;
	uint32_t most = s->pages_max;
	struct gm_range bits;

	if (!s->left)
		return false;
	if (!s->round_open && s->line.urgent && most > BESIDE)
		most = BESIDE;
	if (!gm_migrate_map_next(&s->map, s->todo, s->cursor, last, most, &bits) &&
		!gm_migrate_map_next(&s->map, s->todo, 0, last, most, &bits))
		return false;
	take_bits(s, &bits, ret_place);
	return true;
}

bool gm_migrate_source_take(struct gm_migrate_source *s, uint32_t slot,
	struct gm_migrate_place *ret_place, uint64_t *ret_number)
{
	bool carries = s->line.bulk ? slot && slot <= GM_MIGRATE_BULK_MAX : slot == 0;
	bool urgent = slot > GM_MIGRATE_BULK_MAX;

	if (slot >= GM_MIGRATE_SLOTS || !(s->line.open >> slot & 1))
		return false;
	*ret_number = s->round_open ? s->round : 0;
	if (s->round_open)
		return carries && take_any(s, ret_place);
	if (!s->later || s->have_due || s->state < GM_SOURCE_SWITCHED ||
		s->state > GM_SOURCE_POSTCOPY)
		return false;
	if ((urgent || (carries && !s->line.urgent)) && take_asked(s, ret_place))
		return true;
	return carries && s->state >= GM_SOURCE_HANDED && take_any(s, ret_place);
}

/* What a place can count, cut between two of the largest pages. */
#define DISCARD_MAX                                                                                \
	(UINT32_MAX - UINT32_MAX % (1u << (GM_MIGRATE_PAGE_LOG2_MAX - GM_MIGRATE_PAGE_LOG2)))

uint32_t gm_migrate_source_discards(
	struct gm_migrate_source *s, struct gm_migrate_place *places, uint32_t room)
{
	uint64_t last = s->map.pages - 1;
	struct gm_range bits;
	uint32_t nr = 0;

	while (nr < room && s->window &&
		gm_migrate_map_next(&s->map, s->todo, s->discard, last, DISCARD_MAX, &bits)) {
		places[nr++] = gm_migrate_map_place(&s->map, &bits);
		s->window -= s->window != UINT32_MAX;
		s->discard = bits.last + 1;
	}
	return nr;
}

/* ---- what is due ---- */

static bool end_round(struct gm_migrate_source *s)
{
	uint32_t slot = (uint32_t)__builtin_ctz(s->to_end);

	s->to_end &= s->to_end - 1;
	gm_migrate_push_send(&s->queue, slot, GM_MIGRATE_ROUND, s->round);
	return true;
}

static bool open_next(struct gm_migrate_source *s)
{
	uint32_t slot = (uint32_t)__builtin_ctz(s->to_open);

	s->to_open &= s->to_open - 1;
	s->opening |= 1u << slot;
	gm_migrate_push(&s->queue,
		&(struct gm_migrate_action){
			.what = GM_MIGRATE_DO_OPEN, .slot = slot, .epoch = s->line.epoch});
	return true;
}

/* Pages of a round are all taken: it ends on each connection, behind them. */
static bool round_due(struct gm_migrate_source *s, uint64_t now)
{
	if (s->round_open && !s->left) {
		s->round_open = false;
		s->to_end = end_slots(s);
		return end_round(s);
	}
	if (s->state != GM_SOURCE_ROUND || s->round_open)
		return false;
	gm_migrate_push(&s->queue,
		&(struct gm_migrate_action){.what = GM_MIGRATE_DO_ROUND, .number = s->round});
	gm_migrate_source_go(s, GM_SOURCE_BETWEEN, s->o.times.own_ns, now);
	return true;
}

/*
 * While the guest runs, since a hole costs microseconds. So many, and a PING, whose answer says that these are dropped:
 * the destination does not look dead, however many there are.
 */
static bool drop_due(struct gm_migrate_source *s, uint64_t now)
{
	struct gm_range bits;

	switch (s->dropping) {
	case DROP_DUE:
		if (!gm_migrate_map_next(
			    &s->map, s->todo, s->discard, s->map.pages - 1, 1, &bits) ||
			!todo_is_whole(s)) {
			pause_guest(s, now);
			return true;
		}
		s->window = s->o.drops_max;
		s->dropping = DROP_NAMED;
		gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_DISCARD, 0);
		return true;
	case DROP_NAMED:
		s->dropping = DROP_ASKED;
		gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_PING, ++s->drops);
		gm_migrate_source_go(s, GM_SOURCE_DROPPING, s->o.times.answer_ns, now);
		return true;
	default:
		return false;
	}
}

static bool last_due(struct gm_migrate_source *s, uint64_t now)
{
	struct gm_migrate_action action = {.what = GM_MIGRATE_DO_SEND};

	if (s->discarding) {
		s->discarding = false;
		action.type = GM_MIGRATE_DISCARD;
	} else if (s->state_sent < s->state_len) {
		action.type = GM_MIGRATE_STATE;
		action.number = s->state_sent;
		action.len = s->state_len - s->state_sent;
		if (action.len > GM_MIGRATE_STATE_PIECE)
			action.len = GM_MIGRATE_STATE_PIECE;
		s->state_sent += action.len;
	} else if (!s->has_state || s->round_open) {
		return false;
	} else {
		action.type = GM_MIGRATE_SWITCH;
		action.number = s->later ? GM_MIGRATE_REST_LATER : GM_MIGRATE_ALL_SENT;
		action.len = s->state_len;
		gm_migrate_source_go(s, GM_SOURCE_SWITCHED, s->o.times.answer_ns, now);
	}
	gm_migrate_push(&s->queue, &action);
	return true;
}

void gm_migrate_source_say_done(struct gm_migrate_source *s, uint64_t now)
{
	const struct gm_migrate_times *times = &s->o.times;

	/* He waits himself for what is on its way, before he says what he lacks. */
	gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_DONE, 0);
	gm_migrate_source_go(
		s, GM_SOURCE_DONE, gm_migrate_after(times->work_ns, times->answer_ns), now);
	if (gm_migrate_broken(GM_DEFECT_ENDS_AT_DONE))
		gm_migrate_source_end(s, GM_SOURCE_ENDED, 0, NULL);
}

/* One more action, or false. */
static bool advance(struct gm_migrate_source *s, uint64_t now)
{
	if (s->to_open)
		return open_next(s);
	if (s->line.open != s->line.wanted)
		return false;
	if (s->to_end)
		return end_round(s);
	if (s->state == GM_SOURCE_OFFERED && s->accepted) {
		(void)gm_migrate_map_fill(&s->map, s->todo);
		begin_round(s);
		gm_migrate_source_go(s, GM_SOURCE_ROUND, GM_MIGRATE_NEVER, now);
	}
	if (s->state == GM_SOURCE_ROUND || s->state == GM_SOURCE_LAST) {
		if (round_due(s, now))
			return true;
	}
	if (s->state == GM_SOURCE_DROPPING)
		return drop_due(s, now);
	if (s->state == GM_SOURCE_LAST)
		return last_due(s, now);
	if (s->state != GM_SOURCE_POSTCOPY || s->have_due || s->left)
		return false;
	gm_migrate_source_say_done(s, now);
	return true;
}

bool gm_migrate_source_next(
	struct gm_migrate_source *s, uint64_t now, struct gm_migrate_action *ret)
{
	return gm_migrate_pop(&s->queue, ret) ||
	       (advance(s, now) && gm_migrate_pop(&s->queue, ret));
}
