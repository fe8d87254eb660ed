/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_source_hear.c - what messages do to the source's machine.
 *
 * Each says true, or false: it has no meaning in this state, and the line is given up.
 */
#include <errno.h>
#include <string.h>

#include "core/migrate_source_parts.h"

void gm_migrate_source_expect_have(struct gm_migrate_source *s)
{
	s->have_due = true;
	s->have = 0;
	s->cursor = 0;
	if (!gm_migrate_broken(GM_DEFECT_SENT_IS_THERE))
		s->left = gm_migrate_map_fill(&s->map, s->todo);
}

static bool on_refused(struct gm_migrate_source *s, const struct gm_migrate_msg *msg)
{
	int rc = -(int)msg->number;

	if (s->state >= GM_SOURCE_OFFERED && s->state <= GM_SOURCE_SWITCHED) {
		gm_migrate_source_end(s, GM_SOURCE_FAILED, rc, "the destination refuses");
		return true;
	}
	/* It has not run the guest, and never will: as good as RECLAIMED. */
	if (s->phase != GM_MIGRATE_HANDED_OVER ||
		(s->state != GM_SOURCE_HANDED && s->state != GM_SOURCE_RECLAIM &&
			s->state != GM_SOURCE_ASKING))
		return false;
	gm_migrate_source_end(
		s, GM_SOURCE_RECLAIMED, rc, "the destination refuses to run the guest");
	return true;
}

static bool on_ready(struct gm_migrate_source *s, uint64_t now)
{
	if (s->state != GM_SOURCE_SWITCHED)
		return false;
	s->phase = GM_MIGRATE_HANDED_OVER;
	gm_migrate_push(&s->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_KEEP});
	gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_RUN, 0);
	gm_migrate_source_go(s, GM_SOURCE_HANDED, s->o.times.answer_ns, now);
	return true;
}

/* The guest runs there. */
static void runs_there(struct gm_migrate_source *s, uint64_t now)
{
	s->phase = GM_MIGRATE_IN_POSTCOPY;
	if (s->reclaiming)
		gm_migrate_push(
			&s->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_TELL_RUNS});
	s->reclaiming = false;
	if (!s->later)
		s->left = 0;
	gm_migrate_source_go(
		s, GM_SOURCE_POSTCOPY, s->have_due ? s->o.times.answer_ns : GM_MIGRATE_NEVER, now);
}

static bool on_running(struct gm_migrate_source *s, uint64_t now)
{
	if (s->state != GM_SOURCE_HANDED)
		return false;
	runs_there(s, now);
	return true;
}

static void resumed_waiting(struct gm_migrate_source *s, uint64_t now)
{
	bool back = s->reclaiming || s->reclaimed;

	s->reclaimed = back;
	gm_migrate_push_send(&s->queue, 0, back ? GM_MIGRATE_RECLAIM : GM_MIGRATE_RUN, 0);
	gm_migrate_source_go(
		s, back ? GM_SOURCE_RECLAIM : GM_SOURCE_HANDED, s->o.times.answer_ns, now);
}

/* The table of docs/migration-protocol.md, "Recovery". */
static bool on_resumed(struct gm_migrate_source *s, uint64_t at, uint64_t now)
{
	bool later = s->later;

	if (s->state != GM_SOURCE_ASKING)
		return false;
	if (at == GM_MIGRATE_ENDED) {
		gm_migrate_source_end(
			s, GM_SOURCE_GIVEN_UP, -EIO, "the destination has given up pages");
		return true;
	}
	if (at == GM_MIGRATE_WAITING && s->phase == GM_MIGRATE_HANDED_OVER) {
		resumed_waiting(s, now);
		return true;
	}
	if (at == GM_MIGRATE_WAITING || s->reclaimed || (at == GM_MIGRATE_MISSING && !later)) {
		gm_migrate_source_contradict(s, "the destination is where it cannot be");
		return true;
	}
	if (at == GM_MIGRATE_WHOLE) {
		s->have_due = false;
		s->left = 0;
		memset(s->todo, 0, gm_bits_words(s->map.pages) * sizeof(*s->todo));
	}
	runs_there(s, now);
	return true;
}

static bool on_reclaimed(struct gm_migrate_source *s)
{
	if (s->state != GM_SOURCE_RECLAIM)
		return false;
	gm_migrate_source_end(
		s, GM_SOURCE_RECLAIMED, 0, "the destination has given the guest back");
	return true;
}

static bool on_done_ack(struct gm_migrate_source *s)
{
	if (s->state != GM_SOURCE_DONE)
		return false;
	gm_migrate_source_end(s, GM_SOURCE_ENDED, 0, NULL);
	return true;
}

static bool on_given_up(struct gm_migrate_source *s, uint64_t number)
{
	if (!s->phase || s->state > GM_SOURCE_RECLAIM || s->state == GM_SOURCE_RECLAIM)
		return false;
	gm_migrate_source_end(s, GM_SOURCE_GIVEN_UP, number <= 4095 ? -(int)number : -EIO,
		"the destination has given up pages");
	return true;
}

static bool has_bit(const struct gm_migrate_msg *have, uint32_t i)
{
	return i < have->place.nr && (have->bits[i / 8] >> i % 8 & 1);
}

/* Bits tell of pages in their order, without gaps, until the last. */
static bool on_have(struct gm_migrate_source *s, const struct gm_migrate_msg *msg, uint64_t now)
{
	struct gm_range bits;

	/* It cannot know that the guest is to come back. */
	if (s->state == GM_SOURCE_RECLAIM)
		return true;
	if (!s->later || s->state < GM_SOURCE_HANDED || s->state > GM_SOURCE_DONE)
		return false;
	if (s->state == GM_SOURCE_DONE) {
		gm_migrate_source_expect_have(s);
		s->state = GM_SOURCE_POSTCOPY;
	}
	if (!s->have_due || !gm_migrate_map_bits(&s->map, &msg->place, &bits) ||
		bits.first != s->have)
		return false;
	for (uint32_t i = 0; i < msg->place.nr; i++) {
		struct gm_range run = {bits.first + i, bits.first + i};

		if (!has_bit(msg, i))
			continue;
		for (; has_bit(msg, i + 1); i++)
			run.last++;
		s->left -= gm_bits_count(s->todo, &run);
		gm_bits_clear(s->todo, &run);
	}
	s->have = bits.last + 1;
	s->have_due = s->have < s->map.pages;
	gm_migrate_source_go(s, s->state,
		s->have_due || s->state == GM_SOURCE_HANDED ? s->o.times.answer_ns
							    : GM_MIGRATE_NEVER,
		now);
	return true;
}

static bool on_request(struct gm_migrate_source *s, const struct gm_migrate_msg *msg)
{
	struct gm_range bits;

	if (s->state == GM_SOURCE_RECLAIM)
		return true;
	if (!s->later || s->state < GM_SOURCE_SWITCHED || s->state > GM_SOURCE_ASKING)
		return false;
	if (msg->slot && msg->slot <= GM_MIGRATE_BULK_MAX)
		return false;
	if (!gm_migrate_map_bits(&s->map, &msg->place, &bits) ||
		msg->number <= s->number[msg->slot])
		return false;
	s->number[msg->slot] = msg->number;
	/* One that was answered does not count: it may be on its way. */
	for (uint32_t i = 0; i < s->nr_asked;) {
		struct gm_range left;

		if (!s->have_due &&
			!gm_bits_next(s->todo, s->asked[i].first, s->asked[i].last, &left)) {
			s->nr_asked--;
			memmove(&s->asked[i], &s->asked[i + 1],
				(s->nr_asked - i) * sizeof(s->asked[0]));
		} else {
			i++;
		}
		if (s->nr_asked < GM_MIGRATE_REQUESTS_MAX)
			break;
	}
	if (s->nr_asked == GM_MIGRATE_REQUESTS_MAX)
		return false;
	s->asked[s->nr_asked++] = bits;
	return true;
}

static bool on_dropped(struct gm_migrate_source *s, const struct gm_migrate_msg *msg)
{
	if (!s->later || (s->state != GM_SOURCE_POSTCOPY && s->state != GM_SOURCE_DONE))
		return false;
	for (uint32_t i = 0; i < msg->nr; i++) {
		struct gm_range bits;

		if (!gm_migrate_map_bits(&s->map, &msg->places[i], &bits))
			return false;
		s->left -= gm_bits_count(s->todo, &bits);
		gm_bits_clear(s->todo, &bits);
	}
	return true;
}

static bool hear(struct gm_migrate_source *s, const struct gm_migrate_msg *msg, uint64_t now)
{
	if (msg->slot && msg->type != GM_MIGRATE_REQUEST)
		return false;
	switch (msg->type) {
	case GM_MIGRATE_PING:
		gm_migrate_push_send(&s->queue, 0, GM_MIGRATE_PONG, msg->number);
		return true;
	case GM_MIGRATE_PONG:
		if (s->dropping == DROP_ASKED && msg->number == s->drops)
			s->dropping = DROP_DUE;
		return true;
	case GM_MIGRATE_ACCEPTED:
		if (s->state != GM_SOURCE_OFFERED || s->accepted)
			return false;
		s->accepted = true;
		s->deadline = GM_MIGRATE_NEVER;
		return true;
	case GM_MIGRATE_REFUSED:
		return on_refused(s, msg);
	case GM_MIGRATE_READY:
		return on_ready(s, now);
	case GM_MIGRATE_RUNNING:
		return on_running(s, now);
	case GM_MIGRATE_RECLAIMED:
		return on_reclaimed(s);
	case GM_MIGRATE_DONE_ACK:
		return on_done_ack(s);
	case GM_MIGRATE_RESUMED:
		return on_resumed(s, msg->number, now);
	case GM_MIGRATE_HAVE:
		return on_have(s, msg, now);
	case GM_MIGRATE_REQUEST:
		return on_request(s, msg);
	case GM_MIGRATE_DROPPED:
		return on_dropped(s, msg);
	case GM_MIGRATE_GIVEN_UP:
		return on_given_up(s, msg->number);
	default:
		return false;
	}
}

int gm_migrate_source_message(
	struct gm_migrate_source *s, const struct gm_migrate_msg *msg, uint64_t now)
{
	if (!gm_migrate_line_has(&s->line, msg->slot, msg->epoch))
		return 0;
	if (!gm_migrate_queue_room(&s->queue))
		return -EBUSY;
	s->line.heard = now;
	if (!hear(s, msg, now))
		gm_migrate_source_lose(
			s, -EPROTO, "the destination says what it cannot say now", now);
	return 0;
}
