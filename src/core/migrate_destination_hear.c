/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_destination_hear.c - what messages do to the destination's machine.
 *
 * Each says true, or false: it has no meaning in this state, and the line is given up.
 */
#include <errno.h>
#include <string.h>

#include "core/migrate_destination_parts.h"

/* Where a region begins in its file only the source knows. */
static bool same_region(const struct gm_migrate_destination *d,
	const struct gm_migrate_region *ours, const struct gm_migrate_region *theirs)
{
	return ours->gpa == theirs->gpa && ours->len == theirs->len &&
	       ours->page_log2 == theirs->page_log2 && ours->by_fd == theirs->by_fd &&
	       (!ours->by_fd || (d->features & GM_MIGRATE_FDS));
}

static bool on_layout(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	bool same = msg->nr == d->map.nr;

	if (d->state != GM_DESTINATION_OPEN)
		return false;
	for (uint32_t i = 0; same && i < msg->nr; i++)
		same = same_region(d, &d->map.regions[i], &msg->regions[i]);
	if (!same) {
		gm_migrate_destination_refuse(
			d, -EINVAL, "the source has other regions than the destination", now);
		return true;
	}
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_PREPARE});
	gm_migrate_destination_go(d, GM_DESTINATION_PREPARING, d->o.times.own_ns, now);
	return true;
}

static void store(struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, bool missing)
{
	d->storing |= 1u << msg->slot;
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_STORE,
					   .slot = msg->slot,
					   .epoch = msg->epoch,
					   .place = msg->place,
					   .kind = msg->kind,
					   .missing = missing});
}

/* A page of a round replaces an older one; one of post-copy comes once: what is there may have been written since. */
static bool on_pages(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	bool carries = d->line.bulk ? msg->slot && msg->slot <= GM_MIGRATE_BULK_MAX : !msg->slot;
	bool missing = !gm_migrate_broken(GM_DEFECT_OVERWRITES);
	struct gm_range bits;

	if (!gm_migrate_map_bits(&d->map, &msg->place, &bits) ||
		d->map.regions[msg->place.region].by_fd)
		return false;
	if (d->state == GM_DESTINATION_ROUNDS) {
		if (!carries || msg->number != d->round || d->discarded)
			if (!carries || !gm_migrate_broken(GM_DEFECT_NO_BARRIER))
				return false;
		d->in_round = true;
		store(d, msg, false);
		return true;
	}
	if (!d->later || d->state < GM_DESTINATION_LOADING || d->state > GM_DESTINATION_GIVEN_UP ||
		msg->number)
		return false;
	if (!carries && msg->slot <= GM_MIGRATE_BULK_MAX)
		return false;
	if (d->state > GM_DESTINATION_WHOLE || (gm_bits_all(d->have, &bits) && missing))
		return true;
	if (d->state >= GM_DESTINATION_MISSING)
		d->deadline = gm_migrate_after(now, d->o.times.work_ns);
	store(d, msg, missing);
	return true;
}

static bool on_round(struct gm_migrate_destination *d, const struct gm_migrate_msg *msg)
{
	uint32_t all = d->line.wanted & GM_MIGRATE_ROUND_SLOTS;

	if (d->state != GM_DESTINATION_ROUNDS || msg->slot > GM_MIGRATE_BULK_MAX || d->discarded ||
		d->round == UINT32_MAX)
		return false;
	if (gm_migrate_broken(GM_DEFECT_NO_BARRIER)) {
		d->round += !msg->slot;
		d->in_round = false;
		return true;
	}
	if (msg->number != d->round)
		return false;
	if (gm_migrate_broken(GM_DEFECT_CONTROL_APART))
		all &= ~1u;
	d->came |= 1u << msg->slot;
	if ((d->came & all) != all) {
		if (msg->slot || !gm_migrate_broken(GM_DEFECT_CONTROL_APART))
			d->held |= 1u << msg->slot;
		d->line.mute = d->held & 1;
		gm_migrate_push(&d->queue,
			&(struct gm_migrate_action){.what = GM_MIGRATE_DO_HOLD, .slot = msg->slot});
		return true;
	}
	d->came = 0;
	d->held = 0;
	d->line.mute = false;
	d->round++;
	d->in_round = false;
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_CONTINUE});
	return true;
}

/* Huge pages are put together from whole ones: none is there in part. */
static bool is_whole(const struct gm_migrate_region *region, const struct gm_migrate_place *place)
{
	uint64_t pages = UINT64_C(1) << (region->page_log2 - GM_MIGRATE_PAGE_LOG2);

	return gm_is_aligned(place->first, pages) && gm_is_aligned(place->nr, pages);
}

static bool on_discard(struct gm_migrate_destination *d, const struct gm_migrate_msg *msg)
{
	struct gm_range bits;

	if (d->state != GM_DESTINATION_ROUNDS || d->round < 2 || d->in_round ||
		!(d->features & GM_MIGRATE_POSTCOPY))
		return false;
	for (uint32_t i = 0; i < msg->nr; i++) {
		const struct gm_migrate_place *place = &msg->places[i];

		if (!gm_migrate_map_bits(&d->map, place, &bits) ||
			d->map.regions[place->region].by_fd ||
			!is_whole(&d->map.regions[place->region], place))
			return false;
	}
	d->discarded = true;
	if (gm_migrate_broken(GM_DEFECT_DISCARD_IGNORED))
		return true;
	for (uint32_t i = 0; i < msg->nr; i++) {
		(void)gm_migrate_map_bits(&d->map, &msg->places[i], &bits);
		d->missing += gm_bits_count(d->have, &bits);
		gm_bits_clear(d->have, &bits);
		gm_bits_clear(d->lost, &bits);
	}
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_DISCARD});
	return true;
}

static bool on_state(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	if (d->state != GM_DESTINATION_ROUNDS || msg->number != d->state_len || !msg->len)
		return false;
	if (msg->len > d->o.state_max - d->state_len) {
		gm_migrate_destination_refuse(
			d, -E2BIG, "the state has more bytes than the destination takes", now);
		return true;
	}
	gm_migrate_push(&d->queue,
		&(struct gm_migrate_action){
			.what = GM_MIGRATE_DO_STATE, .number = msg->number, .len = msg->len});
	d->state_len += msg->len;
	return true;
}

static bool on_switch(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	bool later = msg->number == GM_MIGRATE_REST_LATER;

	if (d->state != GM_DESTINATION_ROUNDS || d->round < 2 || d->in_round || d->came ||
		msg->bytes != d->state_len || (msg->number != GM_MIGRATE_ALL_SENT && !later) ||
		(later && !(d->features & GM_MIGRATE_POSTCOPY)) || (!later && d->discarded))
		if (!gm_migrate_broken_by(GM_DEFECT_NO_BARRIER, GM_DEFECT_CONTROL_APART))
			return false;
	if (!later && d->missing &&
		!gm_migrate_broken_by(GM_DEFECT_NO_BARRIER, GM_DEFECT_CONTROL_APART)) {
		gm_migrate_destination_refuse(d, -ENODATA, "pages were not sent", now);
		return true;
	}
	d->later = later;
	gm_migrate_push(&d->queue,
		&(struct gm_migrate_action){
			.what = GM_MIGRATE_DO_LOAD, .len = d->state_len, .missing = later});
	gm_migrate_destination_go(d, GM_DESTINATION_LOADING, d->o.times.own_ns, now);
	return true;
}

static bool on_run(struct gm_migrate_destination *d, uint64_t now)
{
	if (d->state == GM_DESTINATION_READY ||
		(d->state == GM_DESTINATION_NEVER && gm_migrate_broken(GM_DEFECT_RECLAIMED_RUNS))) {
		gm_migrate_destination_run(d, now);
		return true;
	}
	if (d->state != GM_DESTINATION_NEVER)
		return gm_migrate_broken(GM_DEFECT_RUNS_AT_READY);
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_SEND,
					   .type = GM_MIGRATE_REFUSED,
					   .number = ECANCELED,
					   .why = "the guest never runs here"});
	return true;
}

static bool on_reclaim(struct gm_migrate_destination *d, uint64_t now)
{
	if ((d->state != GM_DESTINATION_READY && d->state != GM_DESTINATION_NEVER) ||
		d->asked_epoch != d->line.epoch)
		return false;
	d->telling = false;
	gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_RECLAIMED, 0);
	if (d->state == GM_DESTINATION_READY)
		gm_migrate_destination_never(
			d, -ECANCELED, "the source has taken the guest back", now);
	return true;
}

static bool on_cancel(struct gm_migrate_destination *d, uint64_t number, uint64_t now)
{
	int rc = number && number <= 4095 ? -(int)number : -ECANCELED;
	bool told = d->state == GM_DESTINATION_NEVER;

	if (d->state > GM_DESTINATION_READY && !told)
		return false;
	gm_migrate_queue_unsend(&d->queue);
	gm_migrate_destination_close(d);
	gm_migrate_destination_go(
		d, told ? GM_DESTINATION_FAILED : GM_DESTINATION_CANCELLED, GM_MIGRATE_NEVER, now);
	if (!told)
		gm_migrate_destination_tell(
			d, GM_MIGRATE_DO_TELL_FAILED, rc, "the source has cancelled");
	return true;
}

static bool on_done(struct gm_migrate_destination *d, uint64_t now)
{
	bool early = gm_migrate_broken(GM_DEFECT_ACK_TOO_EARLY);

	switch (d->state) {
	case GM_DESTINATION_MISSING:
		if (!early) {
			d->done_due = true;
			d->telling = false;
			return true;
		}
		/* fall through */
	case GM_DESTINATION_WHOLE:
	case GM_DESTINATION_DONE:
		gm_migrate_destination_done(d, now);
		return true;
	default:
		/* What was given up crosses it. */
		return d->state == GM_DESTINATION_GIVING_UP || d->state == GM_DESTINATION_GIVEN_UP;
	}
}

static bool on_resume(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	uint64_t at;

	if (d->resumed || !gm_migrate_destination_resumable(d) ||
		(msg->number != GM_MIGRATE_HANDED_OVER && msg->number != GM_MIGRATE_IN_POSTCOPY))
		return false;
	d->resumed = true;
	d->asked_epoch = d->line.epoch;
	switch (d->state) {
	case GM_DESTINATION_READY:
	case GM_DESTINATION_NEVER:
		at = GM_MIGRATE_WAITING;
		break;
	case GM_DESTINATION_MISSING:
		at = GM_MIGRATE_MISSING;
		break;
	case GM_DESTINATION_WHOLE:
	case GM_DESTINATION_DONE:
		at = GM_MIGRATE_WHOLE;
		break;
	default:
		at = GM_MIGRATE_ENDED;
	}
	d->ran = d->ran || at > GM_MIGRATE_WAITING;
	gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_RESUMED, at);
	if (d->state <= GM_DESTINATION_WHOLE)
		gm_migrate_destination_go(d, d->state, d->o.times.work_ns, now);
	d->telling = d->later &&
		     (d->state == GM_DESTINATION_READY || d->state == GM_DESTINATION_MISSING);
	d->tell = 0;
	return true;
}

/* Time runs anew with each message that is more than a sign of life. */
static void worked(struct gm_migrate_destination *d, uint32_t type, uint64_t now)
{
	bool waits = d->state == GM_DESTINATION_ROUNDS || d->state == GM_DESTINATION_READY ||
		     d->state == GM_DESTINATION_MISSING || d->state == GM_DESTINATION_WHOLE;

	if (waits && d->resumed && type != GM_MIGRATE_PING && type != GM_MIGRATE_PONG)
		d->deadline = gm_migrate_after(now, d->o.times.work_ns);
}

static bool hear(struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	if (msg->slot && msg->type != GM_MIGRATE_PAGES && msg->type != GM_MIGRATE_ROUND)
		return false;
	if (msg->type == GM_MIGRATE_PING) {
		gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_PONG, msg->number);
		return true;
	}
	if (msg->type == GM_MIGRATE_PONG)
		return true;
	/* The first word of a new epoch. */
	if (!d->resumed && msg->type != GM_MIGRATE_RESUME)
		return false;
	worked(d, msg->type, now);
	switch (msg->type) {
	case GM_MIGRATE_LAYOUT:
		return on_layout(d, msg, now);
	case GM_MIGRATE_PAGES:
		return on_pages(d, msg, now);
	case GM_MIGRATE_ROUND:
		return on_round(d, msg);
	case GM_MIGRATE_DISCARD:
		return on_discard(d, msg);
	case GM_MIGRATE_STATE:
		return on_state(d, msg, now);
	case GM_MIGRATE_SWITCH:
		return on_switch(d, msg, now);
	case GM_MIGRATE_RUN:
		return on_run(d, now);
	case GM_MIGRATE_RECLAIM:
		return on_reclaim(d, now);
	case GM_MIGRATE_CANCEL:
		return on_cancel(d, msg->number, now);
	case GM_MIGRATE_DONE:
		return on_done(d, now);
	case GM_MIGRATE_RESUME:
		return on_resume(d, msg, now);
	default:
		return false;
	}
}

int gm_migrate_destination_message(
	struct gm_migrate_destination *d, const struct gm_migrate_msg *msg, uint64_t now)
{
	bool old = gm_migrate_broken(GM_DEFECT_OLD_LINE_LIVES) ||
		   gm_migrate_broken(GM_DEFECT_STALE_EPOCH);

	if (!gm_migrate_line_has(&d->line, msg->slot, old ? d->line.epoch : msg->epoch))
		return 0;
	if (!gm_migrate_queue_room(&d->queue) || (d->held | d->storing) >> msg->slot & 1)
		return -EBUSY;
	d->line.heard = now;
	if (!hear(d, msg, now))
		gm_migrate_destination_lose(
			d, -EPROTO, "the source says what it cannot say now", now);
	return 0;
}
