/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_out_step.c - one step of a source: connections, messages, what the machine wants done. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "services/migrate_out.h"
#include "sys/sys.h"

#define PASSES 4u

/* ---- connections ---- */

static void lose(struct gm_migrate_out *out, struct gm_migrate_link *link, int rc, const char *why,
	uint64_t now)
{
	bool told = gm_migrate_lines_may_tell(
		link, rc, gm_migrate_line_has(&out->machine.line, link->slot, link->epoch));

	gm_migrate_source_lost(
		&out->machine, link->slot, link->epoch, rc, gm_migrate_lines_why(rc, why), now);
	if (!told)
		gm_migrate_lines_drop(&out->lines, link);
}

static void put_open(const struct gm_migrate_out *out, struct gm_migrate_link *link)
{
	uint32_t role = gm_migrate_role_of(link->slot);
	struct gm_migrate_open open = {
		.lowest = GM_MIGRATE_VERSION,
		.highest = GM_MIGRATE_VERSION,
		.role = (uint16_t)role,
		.index = (uint16_t)(link->slot - gm_migrate_slot(role, 0)),
		.epoch = link->epoch,
		.bulk = (uint16_t)out->machine.line.bulk,
		.urgent = (uint16_t)out->machine.line.urgent,
		.features = out->machine.o.features,
	};
	uint8_t bytes[GM_MIGRATE_OPEN];

	memcpy(open.session, out->machine.o.session, sizeof(open.session));
	gm_migrate_put_open(&open, bytes);
	gm_migrate_conn_put(link->conn, bytes, sizeof(bytes));
}

static void do_open(struct gm_migrate_out *out, const struct gm_migrate_action *a, uint64_t now)
{
	uint32_t role = gm_migrate_role_of(a->slot);
	struct gm_migrate_link *link;
	struct gm_error err = {.code = 0};
	int fd = -1;
	int rc;

	pthread_mutex_unlock(&out->lines.lock);
	rc = out->ops.connect(out->ops.ctx, role, a->slot - gm_migrate_slot(role, 0), &fd);
	pthread_mutex_lock(&out->lines.lock);
	if (!rc)
		rc = gm_migrate_lines_add(&out->lines, fd,
			gm_migrate_after(now, out->machine.o.times.open_ns), &link, &err);
	if (rc) {
		gm_migrate_source_lost(&out->machine, a->slot, a->epoch, rc,
			rc == -EPROTOTYPE ? "a connection is no stream socket"
					  : "the embedder has no connection",
			now);
		return;
	}
	link->slot = a->slot;
	link->epoch = a->epoch;
	put_open(out, link);
}

/* What control has agreed on is so for all. */
static void agree(struct gm_migrate_out *out)
{
	struct gm_migrate_terms *terms = &out->lines.terms;

	terms->features = out->machine.features;
	terms->pages_max = out->machine.pages_max;
	terms->sole = !out->machine.line.bulk;
	if ((terms->codec == GM_MIGRATE_BY_ZSTD && !(terms->features & GM_MIGRATE_ZSTD)) ||
		(terms->codec == GM_MIGRATE_BY_LZ4 && !(terms->features & GM_MIGRATE_LZ4)))
		terms->codec = GM_MIGRATE_RAW;
}

static int on_opened(
	struct gm_migrate_out *out, struct gm_migrate_link *link, const char **why, uint64_t now)
{
	struct gm_migrate_open asked = {.features = out->machine.o.features,
		.lowest = GM_MIGRATE_VERSION,
		.highest = GM_MIGRATE_VERSION};
	struct gm_migrate_opened opened;
	const uint8_t *bytes;
	int rc = gm_migrate_conn_hear(link->conn, GM_MIGRATE_OPENED, &bytes);

	if (rc <= 0)
		return rc == 0 ? -EAGAIN : rc;
	rc = gm_migrate_get_opened(bytes, &asked, &opened, why);
	if (rc)
		return rc;
	/* Whoever he says he is: descriptors go through sockets of this host only. */
	if (!gm_migrate_conn_local(link->conn))
		opened.features &= ~(uint32_t)GM_MIGRATE_FDS;
	rc = gm_migrate_source_opened(&out->machine, link->slot, link->epoch, &opened, now);
	if (rc)
		return rc;
	/* It was refused: the machine has lost the line. */
	if (!(out->machine.line.open >> link->slot & 1) || out->machine.line.epoch != link->epoch) {
		gm_migrate_lines_leave(&out->lines, link, now);
		return 1;
	}
	agree(out);
	rc = gm_migrate_lines_is(&out->lines, link, link->slot, link->epoch);
	return rc ? rc : 1;
}

/* ---- messages ---- */

/* 1: the machine has it; 0: it has to be given again. */
static int give(struct gm_migrate_out *out, struct gm_migrate_link *link, uint64_t now)
{
	struct gm_migrate_msg *msg = &link->heard.msg;

	msg->slot = link->slot;
	msg->epoch = link->epoch;
	if (msg->type == GM_MIGRATE_REFUSED && link->heard.text)
		gm_copy_name(out->refusal, sizeof(out->refusal), link->heard.text);
	if (msg->type == GM_MIGRATE_REQUEST && !link->again)
		out->stats.requests += msg->place.nr;
	if (out->then && !link->again)
		out->then->heard(out->then->ctx, msg);
	if (msg->type == GM_MIGRATE_DROPPED && !link->again) {
		for (uint32_t i = 0; i < msg->nr; i++)
			out->stats.dropped += (uint64_t)msg->places[i].nr * MIGRATE_PAGE;
	}
	link->again = gm_migrate_source_message(&out->machine, msg, now) == -EBUSY;
	return !link->again;
}

/* True: something came. */
static bool hear(struct gm_migrate_out *out, struct gm_migrate_link *link, uint64_t now)
{
	const char *why = NULL;
	int rc;

	if (!link->opened) {
		rc = on_opened(out, link, &why, now);
	} else if (link->again) {
		return give(out, link, now);
	} else {
		rc = gm_migrate_conn_recv(link->conn, &link->heard, &why);
		if (rc >= 0 || (rc == -EAGAIN && gm_migrate_conn_hears(link->conn)))
			gm_migrate_source_moved(&out->machine, link->slot, link->epoch, true,
				gm_migrate_conn_hears(link->conn), now);
		if (rc == 1) {
			gm_migrate_lines_heard(link);
			(void)give(out, link, now);
		}
	}
	if (rc == -EAGAIN)
		link->readable = false;
	else if (rc < 0 && rc != -EBUSY)
		lose(out, link, rc, why, now);
	return rc >= 0;
}

/* ---- what the machine wants ---- */

static int say_discard(struct gm_migrate_out *out, struct gm_migrate_link *link)
{
	struct gm_migrate_place places[512];
	uint8_t bytes[512 * GM_MIGRATE_PLACE];
	uint32_t nr = gm_migrate_source_discards(&out->machine, places, 512);

	out->discarding = nr != 0;
	for (uint32_t i = 0; i < nr; i++)
		gm_migrate_put_place(&places[i], bytes + (size_t)i * GM_MIGRATE_PLACE);
	return nr ? gm_migrate_conn_say(
			    link->conn, GM_MIGRATE_DISCARD, 0, bytes, (size_t)nr * GM_MIGRATE_PLACE)
		  : 0;
}

static int say(
	struct gm_migrate_out *out, struct gm_migrate_link *link, const struct gm_migrate_action *a)
{
	uint8_t len[GM_MIGRATE_SWITCH_LEN];

	switch (a->type) {
	case GM_MIGRATE_LAYOUT:
		return gm_migrate_conn_say_layout(link->conn, out->fds, out->nr_fds);
	case GM_MIGRATE_DISCARD:
		return say_discard(out, link);
	case GM_MIGRATE_STATE:
		return gm_migrate_conn_say(
			link->conn, a->type, a->number, out->state + a->number, a->len);
	case GM_MIGRATE_SWITCH:
		gm_migrate_put_switch(a->len, len);
		return gm_migrate_conn_say(link->conn, a->type, a->number, len, sizeof(len));
	default:
		return gm_migrate_conn_say(link->conn, a->type, a->number, NULL, 0);
	}
}

/* False: its connection is not ready for it. */
static bool do_send(struct gm_migrate_out *out, const struct gm_migrate_action *a, uint64_t now)
{
	struct gm_migrate_link *link = out->lines.slots[a->slot];
	bool moved;
	int rc;

	if (!link)
		return true;
	if (a->type == GM_MIGRATE_CANCEL) {
		gm_migrate_lines_farewell(link, a->type, a->number, NULL);
		return true;
	}
	/* The line is lost: so is what was to be said. */
	if (!(out->machine.line.open >> a->slot & 1))
		return true;
	if (gm_migrate_conn_sends(link->conn) ||
		out->loads[a->slot].done < out->loads[a->slot].place.nr)
		return false;
	rc = say(out, link, a);
	if (!rc)
		rc = gm_migrate_lines_flush(&out->lines, link, &moved);
	if (rc) {
		lose(out, link, rc, NULL, now);
		return true;
	}
	return !out->discarding;
}

static void call(struct gm_migrate_out *out, void (*fn)(void *ctx))
{
	pthread_mutex_unlock(&out->lines.lock);
	fn(out->ops.ctx);
	pthread_mutex_lock(&out->lines.lock);
}

static void do_pause(struct gm_migrate_out *out)
{
	out->asked_pause = true;
	out->paused_at = gm_sys_now_ns();
	out->extent.len = 0;
	call(out, out->ops.pause);
}

static void do_run(struct gm_migrate_out *out)
{
	if (out->throttle && out->ops.throttle) {
		out->throttle = 0;
		pthread_mutex_unlock(&out->lines.lock);
		out->ops.throttle(out->ops.ctx, 0);
		pthread_mutex_lock(&out->lines.lock);
	}
	call(out, out->ops.run);
}

static bool act(struct gm_migrate_out *out, const struct gm_migrate_action *a, uint64_t now)
{
	switch (a->what) {
	case GM_MIGRATE_DO_OPEN:
		do_open(out, a, now);
		break;
	case GM_MIGRATE_DO_CLOSE_ALL:
		gm_migrate_lines_leave_all(&out->lines, a->epoch, now);
		gm_migrate_out_forget(out);
		break;
	case GM_MIGRATE_DO_SEND:
		return do_send(out, a, now);
	case GM_MIGRATE_DO_ROUND:
		(void)gm_migrate_out_round(out, now);
		break;
	case GM_MIGRATE_DO_PAUSE:
		do_pause(out);
		break;
	case GM_MIGRATE_DO_RUN:
		do_run(out);
		break;
	case GM_MIGRATE_DO_TELL_LOST:
		gm_migrate_out_tell(out, GM_MIGRATE_TOLD_LOST, a->rc, a->why);
		break;
	case GM_MIGRATE_DO_TELL_RUNS:
		gm_migrate_out_tell(out, GM_MIGRATE_TOLD_RUNS, 0, NULL);
		break;
	case GM_MIGRATE_DO_TELL_FAILED:
		gm_migrate_out_tell(out, GM_MIGRATE_TOLD_FAILED, a->rc, a->why);
		break;
	case GM_MIGRATE_DO_TELL_ENDED:
		gm_migrate_out_tell(out, GM_MIGRATE_TOLD_ENDED, 0, NULL);
		break;
	default:
		break;
	}
	return true;
}

/* True: some were taken. */
static bool actions(struct gm_migrate_out *out, uint64_t now)
{
	bool some = false;

	for (;;) {
		if (!out->has_action)
			out->has_action = gm_migrate_source_next(&out->machine, now, &out->action);
		if (!out->has_action || !act(out, &out->action, now))
			return some;
		out->has_action = false;
		out->discarding = false;
		some = true;
	}
}

/* ---- what the embedder wishes ---- */

/* The state is written: nothing dirties memory any more, so these are the last pages. */
static int last_pages(struct gm_migrate_out *out, uint64_t now)
{
	uint64_t bytes;
	int rc;

	/* ROUND has to be said before; then the bitmap is the next round's. */
	if (out->machine.to_end)
		return -EBUSY;
	rc = gm_migrate_out_harvest(out, &bytes);
	if (rc)
		return gm_migrate_source_cancel(&out->machine, rc, now);
	if (out->machine.state != GM_SOURCE_PAUSING)
		return 0;
	if (out->machine.later)
		gm_migrate_out_widen(out);
	out->round_sent = 0;
	out->round_began = gm_sys_now_ns();
	rc = gm_migrate_source_paused(&out->machine, now);
	return rc ? rc : gm_migrate_source_wrote(&out->machine, out->state_len, now);
}

static int on_paused(struct gm_migrate_out *out, uint64_t now)
{
	if (out->machine.state != GM_SOURCE_PAUSING)
		return 0;
	if (out->wish_rc)
		return gm_migrate_source_cancel(&out->machine, out->wish_rc, now);
	if (!out->saving) {
		out->saving = true;
		call(out, out->ops.save);
	}
	return 0;
}

static int grant(struct gm_migrate_out *out, enum out_wish wish, uint64_t now)
{
	struct gm_migrate_source *s = &out->machine;

	switch (wish) {
	case OUT_PAUSED:
		return on_paused(out, now);
	case OUT_STATE:
		return s->state == GM_SOURCE_PAUSING ? last_pages(out, now) : 0;
	case OUT_STOP:
		return gm_migrate_source_switch(s, GM_MIGRATE_ALL_SENT, now);
	case OUT_LATER:
		return gm_migrate_out_later(out, now);
	case OUT_CANCEL:
		return gm_migrate_source_cancel(s, out->wish_rc, now);
	case OUT_RESUME:
		return gm_migrate_source_resume(s, s->line.bulk, s->line.urgent, now);
	case OUT_RECLAIM:
		return gm_migrate_source_reclaim(s, now);
	case OUT_FORCE:
		return gm_migrate_source_force(s, now);
	}
	return 0;
}

static void wishes(struct gm_migrate_out *out, uint64_t now)
{
	for (uint32_t wish = 1; wish <= OUT_FORCE; wish <<= 1) {
		if (!(out->wishes & wish))
			continue;
		out->wishes &= ~wish;
		if (grant(out, wish, now) == -EBUSY)
			out->wishes |= wish;
	}
	/* Before the first page. */
	if (out->opts.way == GM_MIGRATE_OUT_POSTCOPY && out->machine.state == GM_SOURCE_ROUND) {
		if (out->machine.features & GM_MIGRATE_POSTCOPY)
			(void)gm_migrate_out_later(out, now);
		else
			(void)gm_migrate_source_cancel(&out->machine, -ENOTSUP, now);
	}
}

/* ---- a step ---- */

static bool send_on(struct gm_migrate_out *out, struct gm_migrate_link *link, uint64_t now)
{
	bool moved;
	int rc = gm_migrate_lines_flush(&out->lines, link, &moved);

	/* One message of bulk, then others are looked at; urgent ones as long as there are. */
	if (!rc && link->opened && !gm_migrate_conn_sends(link->conn) &&
		gm_migrate_out_pages(out, link, &rc))
		moved = true;
	if (moved && link->opened)
		gm_migrate_source_moved(&out->machine, link->slot, link->epoch, false,
			gm_migrate_conn_sends(link->conn), now);
	if (rc)
		lose(out, link, rc, NULL, now);
	return moved;
}

static bool hear_all(struct gm_migrate_out *out, uint64_t now)
{
	bool some = false;

	for (uint32_t i = 0; i < out->lines.nr_links; i++) {
		struct gm_migrate_link *link = &out->lines.links[i];
		uint32_t turns = 0;

		while (link->conn && !link->leaving && (link->readable || link->again) &&
			hear(out, link, now)) {
			some = true;
			actions(out, now);
			if (++turns == MIGRATE_TURNS) {
				out->lines.busy = true;
				break;
			}
		}
	}
	return some;
}

static bool send_all(struct gm_migrate_out *out, uint64_t now)
{
	bool some = false;

	for (uint32_t i = 0; i < GM_MIGRATE_SLOTS; i++) {
		uint32_t slot = gm_migrate_lines_order(i);
		struct gm_migrate_link *link = out->lines.slots[slot];
		bool moved = false;

		if (link)
			moved = send_on(out, link, now);
		some |= moved;
		/* More may be there for it. Others are looked at again in this very step. */
		out->lines.busy |= moved && slot && slot <= GM_MIGRATE_BULK_MAX;
	}
	for (uint32_t i = 0; i < out->lines.nr_links; i++) {
		struct gm_migrate_link *link = &out->lines.links[i];

		if (link->conn && !link->opened && !link->leaving)
			some |= send_on(out, link, now);
	}
	return some;
}

static void look_at_state(struct gm_migrate_out *out)
{
	uint32_t state = gm_migrate_out_is(out);

	out->stats.left = out->machine.left << GM_MIGRATE_PAGE_LOG2;
	if (state == out->told_state)
		return;
	out->told_state = state;
	if (state >= GM_MIGRATE_IS_ENDED) {
		out->stats.total_ns = gm_sys_now_ns() - out->began;
		if (out->log && !gm_log_destroy(out->log, NULL))
			out->log = NULL;
	}
	gm_migrate_out_tell(out, GM_MIGRATE_TOLD_STATE, out->machine.rc, out->machine.why);
}

static void pass(struct gm_migrate_out *out)
{
	uint64_t now = gm_sys_now_ns();

	out->held_up = false;
	if (now >= gm_migrate_source_due(&out->machine))
		gm_migrate_source_tick(&out->machine, now);
	bool some = true;

	for (uint32_t i = 0; some && i < PASSES && !(i && out->lines.busy); i++) {
		wishes(out, now);
		some = actions(out, now);
		some |= hear_all(out, now);
		wishes(out, now);
		some |= actions(out, now);
		some |= send_all(out, now);
	}
	out->lines.busy |= some;
	out->lines.busy |= out->has_action && gm_migrate_lines_idle(&out->lines, out->action.slot);
	gm_migrate_lines_tidy(&out->lines, now);
	gm_migrate_lines_pace(&out->lines, out->stats.pages, now);
	look_at_state(out);
}

static uint64_t due(const struct gm_migrate_out *out)
{
	uint64_t machine = gm_migrate_source_due(&out->machine);
	uint64_t lines = gm_migrate_lines_due(&out->lines);
	uint64_t at = machine < lines ? machine : lines;

	/* Until bytes may go again. */
	return out->held_up && out->rate_due < at ? out->rate_due : at;
}

int gm_migrate_out_step(struct gm_migrate_out *out, int timeout_ms)
{
	int rc;

	if (__atomic_exchange_n(&out->lines.stepping, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	pthread_mutex_lock(&out->lines.lock);
	rc = gm_migrate_lines_wait(&out->lines, timeout_ms, due(out));
	if (!rc)
		pass(out);
	if (out->lines.busy)
		gm_migrate_lines_kick(&out->lines);
	if (!rc)
		rc = gm_migrate_lines_arm(&out->lines, due(out));
	pthread_mutex_unlock(&out->lines.lock);
	__atomic_store_n(&out->lines.stepping, 0, __ATOMIC_RELEASE);
	return rc;
}
