/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_destination.c - see migrate_destination.h. What messages do is in migrate_destination_hear.c. */
#include "core/migrate_destination.h"

#include <errno.h>
#include <string.h>

#include "core/migrate_destination_parts.h"

/* ---- states ---- */

void gm_migrate_destination_go(
	struct gm_migrate_destination *d, uint32_t state, uint64_t wait, uint64_t now)
{
	d->state = state;
	d->deadline = gm_migrate_after(now, wait);
}

void gm_migrate_destination_tell(
	struct gm_migrate_destination *d, enum gm_migrate_what what, int rc, const char *why)
{
	d->rc = rc;
	d->why = why;
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = what, .rc = rc, .why = why});
}

/* Requests that were under way have to be made again. */
static void want_again(struct gm_migrate_destination *d)
{
	for (uint32_t i = 0; i < d->nr_asked && !gm_migrate_broken(GM_DEFECT_FORGETS_REQUESTS); i++)
		gm_bits_set(d->wanted, &d->asked[i]);
	d->nr_asked = 0;
	d->nr_wanted = gm_bits_count(d->wanted, &(struct gm_range){0, d->map.pages - 1});
	d->ask_from = 0;
}

void gm_migrate_destination_close(struct gm_migrate_destination *d)
{
	if (d->line.open)
		gm_migrate_push(
			&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_CLOSE_ALL,
					   .epoch = d->line.epoch});
	d->line.open = 0;
	d->line.opening = GM_MIGRATE_NEVER;
	d->came = 0;
	d->held = 0;
	d->storing = 0;
	d->resumed = false;
	d->telling = false;
	d->done_due = false;
	want_again(d);
}

static void end(struct gm_migrate_destination *d, uint32_t state, int rc, const char *why)
{
	gm_migrate_queue_unsend(&d->queue);
	if ((d->line.open & 1) && state == GM_DESTINATION_FAILED)
		gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_SEND,
						   .type = GM_MIGRATE_REFUSED,
						   .number = (uint64_t)-rc,
						   .why = why});
	gm_migrate_destination_close(d);
	gm_migrate_destination_go(d, state, GM_MIGRATE_NEVER, 0);
	gm_migrate_destination_tell(d, GM_MIGRATE_DO_TELL_FAILED, rc, why);
}

void gm_migrate_destination_refuse(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	(void)now;
	end(d, GM_DESTINATION_FAILED, rc, why);
}

void gm_migrate_destination_lose(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	if (d->state == GM_DESTINATION_IDLE || d->state >= GM_DESTINATION_FAILED || !d->line.open)
		return;
	if (d->state < GM_DESTINATION_READY) {
		end(d, GM_DESTINATION_FAILED, rc, why);
		return;
	}
	gm_migrate_queue_unsend(&d->queue);
	gm_migrate_destination_close(d);
	/* Those that only answer do it until their time is over, however often they are asked. */
	if (d->state > GM_DESTINATION_WHOLE)
		return;
	gm_migrate_destination_go(d, d->state, d->o.times.resume_ns, now);
	gm_migrate_destination_tell(d, GM_MIGRATE_DO_TELL_LOST, rc, why);
}

void gm_migrate_destination_never(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	gm_migrate_destination_go(d, GM_DESTINATION_NEVER, d->o.times.linger_ns, now);
	gm_migrate_destination_tell(d, GM_MIGRATE_DO_TELL_FAILED, rc, why);
}

void gm_migrate_destination_done(struct gm_migrate_destination *d, uint64_t now)
{
	bool told = d->state == GM_DESTINATION_DONE;

	d->done_due = false;
	gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_DONE_ACK, 0);
	if (told)
		return;
	gm_migrate_destination_go(d, GM_DESTINATION_DONE, d->o.times.linger_ns, now);
	gm_migrate_destination_tell(d, GM_MIGRATE_DO_TELL_ENDED, 0, NULL);
}

/* ---- pages ---- */

static void forget_asked(struct gm_migrate_destination *d)
{
	uint32_t nr = 0;

	for (uint32_t i = 0; i < d->nr_asked; i++) {
		if (!gm_bits_all(d->have, &d->asked[i]))
			d->asked[nr++] = d->asked[i];
	}
	d->nr_asked = nr;
}

void gm_migrate_destination_settle(
	struct gm_migrate_destination *d, const struct gm_range *bits, bool lost, uint64_t now)
{
	uint64_t there = gm_bits_count(d->have, bits);

	if (lost)
		gm_bits_set(d->lost, bits);
	else if (!d->later)
		gm_bits_clear(d->lost, bits);
	gm_bits_set(d->have, bits);
	d->missing -= gm_range_len(bits) - there;
	if (!d->later)
		return;
	if (d->nr_wanted) {
		d->nr_wanted -= gm_bits_count(d->wanted, bits);
		gm_bits_clear(d->wanted, bits);
	}
	forget_asked(d);
	if (d->state == GM_DESTINATION_MISSING && !d->missing)
		gm_migrate_destination_go(d, GM_DESTINATION_WHOLE,
			d->line.open ? d->o.times.work_ns : d->o.times.resume_ns, now);
	if (d->done_due && !d->missing && gm_migrate_destination_up(d))
		gm_migrate_destination_done(d, now);
}

void gm_migrate_destination_run(struct gm_migrate_destination *d, uint64_t now)
{
	gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_RUN});
	gm_migrate_destination_go(d, d->missing ? GM_DESTINATION_MISSING : GM_DESTINATION_WHOLE,
		d->o.times.work_ns, now);
}

static bool is_postcopy(const struct gm_migrate_destination *d)
{
	return d->later && d->state >= GM_DESTINATION_LOADING && d->state <= GM_DESTINATION_WHOLE;
}

/* ---- life and connections ---- */

int gm_migrate_destination_map(struct gm_migrate_destination *d, const struct gm_migrate_map *map,
	uint64_t *have, uint64_t *lost, uint64_t *wanted)
{
	size_t bytes = gm_bits_words(map->pages) * sizeof(*have);

	if (d->state > GM_DESTINATION_OPEN)
		return -EINVAL;
	d->map = *map;
	d->have = have;
	d->lost = lost;
	d->wanted = wanted;
	memset(lost, 0, bytes);
	memset(wanted, 0, bytes);
	/* What comes as descriptors is there. */
	d->missing = gm_migrate_map_fill(map, have);
	for (size_t i = 0; i < bytes / sizeof(*have); i++)
		have[i] = ~have[i];
	return 0;
}

void gm_migrate_destination_init(struct gm_migrate_destination *d,
	const struct gm_migrate_destination_opts *opts, const struct gm_migrate_map *map,
	uint64_t *have, uint64_t *lost, uint64_t *wanted)
{
	memset(d, 0, sizeof(*d));
	d->o = *opts;
	d->deadline = GM_MIGRATE_NEVER;
	(void)gm_migrate_destination_map(d, map, have, lost, wanted);
}

/* Of control: 0 if it begins a session or an epoch. */
static int judge_control(const struct gm_migrate_destination *d, const struct gm_migrate_open *open)
{
	bool same = memcmp(open->session, d->session, sizeof(d->session)) == 0;

	if (d->state == GM_DESTINATION_IDLE)
		return open->epoch == 1 ? 0 : -ESTALE;
	if (!same)
		return -EBUSY;
	if (open->epoch == d->line.epoch)
		return d->line.open ? -EEXIST : -ESTALE;
	if (gm_migrate_broken(GM_DEFECT_STALE_EPOCH))
		return 0;
	if (open->epoch < d->line.epoch || !gm_migrate_destination_resumable(d))
		return -ESTALE;
	return (open->features & d->o.features) == d->features ? 0 : -EINVAL;
}

static int judge_other(const struct gm_migrate_destination *d, const struct gm_migrate_open *open)
{
	uint32_t slot = gm_migrate_slot(open->role, open->index);

	if (d->state == GM_DESTINATION_IDLE)
		return -ESTALE;
	if (memcmp(open->session, d->session, sizeof(d->session)) != 0)
		return -EBUSY;
	if (!(d->line.open & 1))
		return -ESTALE;
	if (open->epoch != d->line.epoch && !gm_migrate_broken(GM_DEFECT_STALE_EPOCH))
		return -ESTALE;
	if (open->bulk != d->line.bulk || open->urgent != d->line.urgent ||
		!(d->line.wanted >> slot & 1))
		return -EINVAL;
	return d->line.open >> slot & 1 ? -EEXIST : 0;
}

static void begin(
	struct gm_migrate_destination *d, const struct gm_migrate_open *open, uint64_t now)
{
	bool first = d->state == GM_DESTINATION_IDLE;

	/* Nothing of the last epoch is read any more: what lies in it has not been said. */
	if (!first) {
		gm_migrate_queue_unsend(&d->queue);
		if (d->line.open && !gm_migrate_broken(GM_DEFECT_OLD_LINE_LIVES))
			gm_migrate_destination_close(d);
	}
	gm_migrate_line_begin(&d->line, open->epoch, open->bulk, open->urgent, now);
	d->line.opening = gm_migrate_after(now, d->o.times.open_ns);
	d->resumed = first;
	if (first) {
		memcpy(d->session, open->session, sizeof(d->session));
		d->features = open->features & d->o.features;
		d->round = 1;
	}
	if (first || d->state <= GM_DESTINATION_WHOLE)
		gm_migrate_destination_go(
			d, first ? GM_DESTINATION_OPEN : d->state, d->o.times.answer_ns, now);
}

int gm_migrate_destination_open(struct gm_migrate_destination *d,
	const struct gm_migrate_open *open, uint64_t now, struct gm_migrate_opened *ret)
{
	int rc = 0;

	*ret = (struct gm_migrate_opened){.pages_max = d->o.pages_max};
	if (open->lowest > GM_MIGRATE_VERSION || open->highest < GM_MIGRATE_VERSION)
		return -EPROTONOSUPPORT;
	ret->version = GM_MIGRATE_VERSION;
	if (open->bulk > GM_MIGRATE_BULK_MAX || open->urgent > GM_MIGRATE_URGENT_MAX ||
		(open->role == GM_MIGRATE_CONTROL && open->index) || !open->epoch ||
		(open->role == GM_MIGRATE_BULK && open->index >= open->bulk) ||
		(open->role == GM_MIGRATE_URGENT && open->index >= open->urgent))
		rc = -EINVAL;
	if (!rc)
		rc = open->role == GM_MIGRATE_CONTROL ? judge_control(d, open)
						      : judge_other(d, open);
	if (!rc && open->role == GM_MIGRATE_CONTROL && !gm_migrate_queue_room(&d->queue))
		rc = -EBUSY;
	ret->error = (uint32_t)-rc;
	if (rc)
		return rc;
	if (open->role == GM_MIGRATE_CONTROL)
		begin(d, open, now);
	gm_migrate_line_open(&d->line, gm_migrate_slot(open->role, open->index), now);
	ret->features = d->features;
	return 0;
}

void gm_migrate_destination_lost(struct gm_migrate_destination *d, uint32_t slot, uint32_t epoch,
	int rc, const char *why, uint64_t now)
{
	if (gm_migrate_line_has(&d->line, slot, epoch))
		gm_migrate_destination_lose(d, rc, why, now);
}

void gm_migrate_destination_moved(struct gm_migrate_destination *d, uint32_t slot, uint32_t epoch,
	bool in, bool busy, uint64_t now)
{
	if (gm_migrate_line_has(&d->line, slot, epoch))
		gm_migrate_line_moved(&d->line, slot, in, busy, now);
}

/* ---- time ---- */

static void give_up_now(struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	gm_migrate_destination_go(d, GM_DESTINATION_GIVING_UP, GM_MIGRATE_NEVER, now);
	d->telling = false;
	d->done_due = false;
	d->tell = 0;
	d->rc = rc;
	d->why = why;
}

/* The time of a state is over. */
static void expire(struct gm_migrate_destination *d, uint64_t now)
{
	bool line = d->line.open;

	switch (d->state) {
	case GM_DESTINATION_DONE:
	case GM_DESTINATION_NEVER:
	case GM_DESTINATION_GIVEN_UP:
		gm_migrate_queue_unsend(&d->queue);
		gm_migrate_destination_close(d);
		gm_migrate_destination_go(d,
			d->state == GM_DESTINATION_DONE ? GM_DESTINATION_ENDED
							: GM_DESTINATION_FAILED,
			GM_MIGRATE_NEVER, now);
		break;
	case GM_DESTINATION_READY:
		if (line)
			gm_migrate_destination_lose(
				d, -ETIMEDOUT, "the source did not go on in time", now);
		else
			gm_migrate_destination_never(
				d, -ETIMEDOUT, "the source did not come back in time", now);
		break;
	case GM_DESTINATION_MISSING:
		if (line && d->done_due) {
			/* All that was on its way has come: it says what has not. */
			d->telling = true;
			d->tell = 0;
			d->done_due = false;
			gm_migrate_destination_go(d, d->state, d->o.times.work_ns, now);
		} else if (line) {
			gm_migrate_destination_lose(
				d, -ETIMEDOUT, "the source sent nothing in time", now);
		} else {
			give_up_now(d, -ETIMEDOUT, "the source did not come back in time", now);
		}
		break;
	case GM_DESTINATION_WHOLE:
		/* Without its word: but there is nothing left that it could give. */
		if (line) {
			gm_migrate_destination_lose(
				d, -ETIMEDOUT, "the source did not go on in time", now);
		} else {
			gm_migrate_destination_go(
				d, GM_DESTINATION_DONE, d->o.times.linger_ns, now);
			gm_migrate_destination_tell(d, GM_MIGRATE_DO_TELL_ENDED, 0, NULL);
		}
		break;
	default:
		gm_migrate_destination_refuse(d, -ETIMEDOUT,
			d->state == GM_DESTINATION_OPEN || d->state == GM_DESTINATION_ROUNDS
				? "the source did not go on in time"
				: "the embedder did not go on in time",
			now);
	}
}

void gm_migrate_destination_tick(struct gm_migrate_destination *d, uint64_t now)
{
	const char *why = gm_migrate_line_fault(&d->line, &d->o.times, now);

	/* Ends of states add few actions, and never to a full queue: sends make room. */
	if (!gm_migrate_queue_room(&d->queue) && !why)
		return;
	if (why && d->line.open) {
		gm_migrate_destination_lose(d, -ETIMEDOUT, why, now);
		return;
	}
	if (now >= d->deadline) {
		expire(d, now);
		return;
	}
	if (gm_migrate_line_ping(&d->line, &d->o.times, now))
		gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_PING, 0);
}

uint64_t gm_migrate_destination_due(const struct gm_migrate_destination *d)
{
	uint64_t line =
		d->line.open ? gm_migrate_line_due(&d->line, &d->o.times) : GM_MIGRATE_NEVER;

	return line < d->deadline ? line : d->deadline;
}

/* ---- the embedder ---- */

/* What it was asked in @state is done, which @type tells the source, or @rc says why it cannot be. */
static int answer(struct gm_migrate_destination *d, enum gm_migrate_destination_state state, int rc,
	const char *why, enum gm_migrate_type type, enum gm_migrate_destination_state next,
	uint64_t now)
{
	if (d->state != state)
		return -EINVAL;
	if (!gm_migrate_queue_room(&d->queue))
		return -EBUSY;
	if (rc) {
		gm_migrate_destination_refuse(d, rc, why, now);
		return 0;
	}
	gm_migrate_push_send(&d->queue, 0, type, 0);
	gm_migrate_destination_go(d, next, d->o.times.work_ns, now);
	return 0;
}

int gm_migrate_destination_prepared(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	return answer(d, GM_DESTINATION_PREPARING, rc, why, GM_MIGRATE_ACCEPTED,
		GM_DESTINATION_ROUNDS, now);
}

int gm_migrate_destination_loaded(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	int ret = answer(
		d, GM_DESTINATION_LOADING, rc, why, GM_MIGRATE_READY, GM_DESTINATION_READY, now);

	if (ret == 0 && rc == 0 && gm_migrate_broken(GM_DEFECT_RUNS_AT_READY))
		gm_migrate_destination_run(d, now);
	return ret;
}

int gm_migrate_destination_started(struct gm_migrate_destination *d, int rc, uint64_t now)
{
	if ((d->state != GM_DESTINATION_MISSING && d->state != GM_DESTINATION_WHOLE) || d->started)
		return -EINVAL;
	if (!gm_migrate_queue_room(&d->queue))
		return -EBUSY;
	d->started = !rc;
	if (rc && !d->ran) {
		/* It has not run: as before RUN, and the source may have it back. */
		if (gm_migrate_destination_up(d))
			gm_migrate_push(
				&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_SEND,
						   .type = GM_MIGRATE_REFUSED,
						   .number = (uint64_t)-rc,
						   .why = "the guest did not start"});
		d->telling = false;
		gm_migrate_destination_never(d, rc, "the guest did not start", now);
	} else if (rc) {
		give_up_now(d, rc, "the guest did not start", now);
	} else if (gm_migrate_destination_up(d)) {
		d->ran = true;
		gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_RUNNING, 0);
	}
	return 0;
}

int gm_migrate_destination_stored(struct gm_migrate_destination *d,
	const struct gm_migrate_action *store, int rc, uint64_t now)
{
	bool running = d->state == GM_DESTINATION_MISSING || d->state == GM_DESTINATION_WHOLE;
	struct gm_range bits;

	if (d->state < GM_DESTINATION_ROUNDS || d->state > GM_DESTINATION_WHOLE)
		return 0;
	if (!gm_migrate_map_bits(&d->map, &store->place, &bits))
		return -EINVAL;
	if (!gm_migrate_queue_room(&d->queue))
		return -EBUSY;
	if (store->epoch == d->line.epoch)
		d->storing &= ~(1u << store->slot);
	if (rc) {
		gm_migrate_destination_lose(d, rc, "pages could not be stored", now);
		return 0;
	}
	if (running && d->line.open)
		d->deadline = gm_migrate_after(now, d->o.times.work_ns);
	gm_migrate_destination_settle(d, &bits, store->kind == GM_MIGRATE_LOST, now);
	return 0;
}

int gm_migrate_destination_fault(
	struct gm_migrate_destination *d, const struct gm_migrate_place *place, uint64_t now)
{
	struct gm_range bits;
	struct gm_range run;
	uint64_t from;

	(void)now;
	if (!is_postcopy(d))
		return -EINVAL;
	if (!gm_migrate_map_bits(&d->map, place, &bits))
		return -ERANGE;
	for (uint32_t i = 0; i < d->nr_asked; i++) {
		if (bits.first >= d->asked[i].first && bits.last <= d->asked[i].last)
			return 0;
	}
	/* Runs of it that are not here. */
	for (from = bits.first; from <= bits.last; from = run.last + 1) {
		struct gm_range one = {from, from};

		run = one;
		if (gm_bits_all(d->have, &one) || gm_bits_all(d->wanted, &one))
			continue;
		gm_bits_set(d->wanted, &one);
		d->nr_wanted++;
	}
	d->ask_from = bits.first;
	return 0;
}

void gm_migrate_destination_spoil(struct gm_migrate_destination *d, const struct gm_range *bits)
{
	gm_bits_set(d->lost, bits);
}

int gm_migrate_destination_dropped(
	struct gm_migrate_destination *d, const struct gm_migrate_place *place, uint64_t now)
{
	struct gm_range bits;

	if (!d->later || (d->state != GM_DESTINATION_MISSING && d->state != GM_DESTINATION_WHOLE))
		return -EINVAL;
	if (!gm_migrate_map_bits(&d->map, place, &bits))
		return -ERANGE;
	if (!gm_migrate_queue_room(&d->queue))
		return -EBUSY;
	if (gm_bits_all(d->have, &bits))
		return 0;
	/* While HAVE is not due: there these pages count as here. */
	if (gm_migrate_destination_up(d) && d->ran)
		gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_SEND,
						   .type = GM_MIGRATE_DROPPED,
						   .place = *place});
	gm_migrate_destination_settle(d, &bits, false, now);
	return 0;
}

int gm_migrate_destination_give_up(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now)
{
	if (d->state == GM_DESTINATION_IDLE || d->state > GM_DESTINATION_MISSING)
		return -EINVAL;
	if (!gm_migrate_queue_room(&d->queue))
		return -EBUSY;
	if (d->state == GM_DESTINATION_MISSING) {
		give_up_now(d, rc, why, now);
		return 0;
	}
	if (d->state < GM_DESTINATION_READY) {
		gm_migrate_destination_refuse(d, rc, why, now);
		return 0;
	}
	d->telling = false;
	if (gm_migrate_destination_up(d))
		gm_migrate_push(&d->queue, &(struct gm_migrate_action){.what = GM_MIGRATE_DO_SEND,
						   .type = GM_MIGRATE_REFUSED,
						   .number = (uint64_t)-rc,
						   .why = why});
	gm_migrate_destination_never(d, rc, why, now);
	return 0;
}

/* ---- what is due ---- */

static bool tell_next(struct gm_migrate_destination *d)
{
	struct gm_range bits = {d->tell, d->map.pages - 1};
	struct gm_migrate_action action = {.what = GM_MIGRATE_DO_SEND, .type = GM_MIGRATE_HAVE};

	d->telling = gm_migrate_map_cut(
		&d->map, &bits, (uint64_t)GM_MIGRATE_BITS_MAX * 8, &action.place);
	d->tell = bits.first;
	gm_migrate_push(&d->queue, &action);
	return true;
}

/* On urgent connections in turn, else on control. */
static bool ask_next(struct gm_migrate_destination *d)
{
	uint64_t last = d->map.pages - 1;
	struct gm_migrate_action action = {.what = GM_MIGRATE_DO_SEND, .type = GM_MIGRATE_REQUEST};
	struct gm_range bits;

	if (d->nr_asked == GM_MIGRATE_REQUESTS_MAX ||
		(!gm_migrate_map_next(
			 &d->map, d->wanted, d->ask_from, last, d->o.pages_max, &bits) &&
			!gm_migrate_map_next(&d->map, d->wanted, 0, last, d->o.pages_max, &bits)))
		return false;
	gm_bits_clear(d->wanted, &bits);
	d->nr_wanted -= gm_range_len(&bits);
	d->ask_from = bits.last + 1;
	d->asked[d->nr_asked++] = bits;
	action.place = gm_migrate_map_place(&d->map, &bits);
	action.number = ++d->request;
	if (d->line.urgent)
		action.slot = gm_migrate_slot(GM_MIGRATE_URGENT, d->turn++ % d->line.urgent);
	gm_migrate_push(&d->queue, &action);
	return true;
}

static bool is_here(const struct gm_migrate_destination *d, uint64_t bit)
{
	return gm_bits_all(d->have, &(struct gm_range){bit, bit});
}

static bool poison_next(struct gm_migrate_destination *d, uint64_t now)
{
	uint64_t last = d->map.pages - 1;

	while (d->tell <= last && is_here(d, d->tell))
		d->tell++;
	if (d->tell <= last) {
		struct gm_migrate_action action = {.what = GM_MIGRATE_DO_POISON};
		struct gm_range bits = {d->tell, d->tell};
		struct gm_range rest;

		while (bits.last < last && !is_here(d, bits.last + 1))
			bits.last++;
		rest = bits;
		(void)gm_migrate_map_cut(&d->map, &rest, d->o.pages_max, &action.place);
		(void)gm_migrate_map_bits(&d->map, &action.place, &bits);
		gm_migrate_destination_settle(
			d, &bits, !gm_migrate_broken(GM_DEFECT_LOST_UNNAMED), now);
		d->tell = bits.last + 1;
		gm_migrate_push(&d->queue, &action);
		return true;
	}
	if (gm_migrate_destination_up(d))
		gm_migrate_push_send(&d->queue, 0, GM_MIGRATE_GIVEN_UP, (uint64_t)-d->rc);
	gm_migrate_destination_go(d, GM_DESTINATION_GIVEN_UP, d->o.times.linger_ns, now);
	gm_migrate_destination_tell(d, GM_MIGRATE_DO_TELL_FAILED, d->rc, d->why);
	return true;
}

static bool advance(struct gm_migrate_destination *d, uint64_t now)
{
	if (d->state == GM_DESTINATION_GIVING_UP)
		return poison_next(d, now);
	if (!gm_migrate_destination_up(d) || d->line.open != d->line.wanted)
		return false;
	if (d->telling)
		return tell_next(d);
	return is_postcopy(d) && d->nr_wanted && ask_next(d);
}

bool gm_migrate_destination_next(
	struct gm_migrate_destination *d, uint64_t now, struct gm_migrate_action *ret)
{
	return gm_migrate_pop(&d->queue, ret) ||
	       (advance(d, now) && gm_migrate_pop(&d->queue, ret));
}
