/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_in_step.c - one step of a destination: connections, messages, what the machine wants done. */
#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/error.h"
#include "services/migrate_in.h"
#include "sys/sys.h"

#define PASSES 4u

/* ---- connections ---- */

static void lose(struct gm_migrate_in *in, struct gm_migrate_link *link, int rc, const char *why,
	uint64_t now)
{
	bool told = link->opened &&
		    gm_migrate_lines_may_tell(link, rc,
			    gm_migrate_line_has(&in->machine.line, link->slot, link->epoch));

	if (link->opened)
		gm_migrate_destination_lost(&in->machine, link->slot, link->epoch, rc,
			gm_migrate_lines_why(rc, why), now);
	else
		in->lines.strays++;
	if (!told)
		gm_migrate_lines_drop(&in->lines, link);
}

static void agree(struct gm_migrate_in *in)
{
	struct gm_migrate_terms *terms = &in->lines.terms;

	terms->features = in->machine.features;
	terms->pages_max = in->machine.o.pages_max;
	terms->sole = !in->machine.line.bulk;
}

static void refused(struct gm_migrate_in *in, int rc)
{
	static const char *const why = "a connection was refused";
	const struct gm_migrate_event event = {.tell = GM_MIGRATE_TOLD_PEER, .rc = rc, .why = why};

	in->lines.strays++;
	gm_migrate_in_tell(in, &event);
}

/* 1: it is one of ours now, or leaves; -EAGAIN; or why it is closed. */
static int on_open(
	struct gm_migrate_in *in, struct gm_migrate_link *link, const char **why, uint64_t now)
{
	struct gm_migrate_open open;
	struct gm_migrate_opened opened;
	uint8_t answer[GM_MIGRATE_OPENED];
	const uint8_t *bytes;
	uint32_t slot;
	int rc = gm_migrate_conn_hear(link->conn, GM_MIGRATE_OPEN, &bytes);

	if (rc <= 0)
		return rc == 0 ? -EAGAIN : rc;
	rc = gm_migrate_get_open(bytes, &open, why);
	if (rc)
		return rc;
	rc = gm_migrate_destination_open(&in->machine, &open, now, &opened);
	gm_migrate_put_opened(&opened, answer);
	if (rc) {
		gm_migrate_conn_put(link->conn, answer, sizeof(answer));
		gm_migrate_lines_leave(&in->lines, link, now);
		refused(in, rc);
		return 1;
	}
	if (open.role == GM_MIGRATE_CONTROL)
		agree(in);
	slot = gm_migrate_slot(open.role, open.index);
	in->stores[slot].used = false;
	rc = gm_migrate_lines_is(&in->lines, link, slot, open.epoch);
	if (rc) {
		link->slot = slot;
		link->epoch = open.epoch;
		link->opened = true;
		return rc;
	}
	gm_migrate_conn_put(link->conn, answer, sizeof(answer));
	if (!in->began)
		in->began = now;
	return 1;
}

/* ---- messages ---- */

/* The message that is with the machine: pages go to memory before another comes on this connection. */
static int store(struct gm_migrate_in *in, const struct gm_migrate_action *a,
	struct gm_migrate_link *link, uint64_t now)
{
	const struct gm_migrate_heard *heard = &link->heard;
	uint64_t bytes = (uint64_t)a->place.nr * MIGRATE_PAGE;
	struct in_store *s = &in->stores[a->slot];

	in->stats.pages += bytes;
	in->stats.zeros += a->kind == GM_MIGRATE_ZEROS ? bytes : 0;
	in->stats.packed +=
		a->kind == GM_MIGRATE_BY_ZSTD || a->kind == GM_MIGRATE_BY_LZ4 ? bytes : 0;
	if (!a->missing) {
		in->last_page = now;
		in->stats.again += heard->msg.number > 1 ? bytes : 0;
		return gm_migrate_destination_stored(&in->machine, a,
			gm_migrate_in_store(in, &a->place, a->kind, heard->memory), now);
	}
	*s = (struct in_store){.action = *a, .used = true};
	link->held = true;
	return 0;
}

/* What came in post-copy, as far as the kernel takes it. True: some went. */
static bool push(struct gm_migrate_in *in, struct gm_migrate_link *link, uint64_t now)
{
	struct in_store *s = &in->stores[link->slot];
	struct gm_range bits;
	int rc;

	if (!s->used || s->action.epoch != link->epoch)
		return false;
	rc = gm_migrate_in_push(in, s, link->heard.memory);
	if (rc == -EAGAIN) {
		in->lines.busy = true;
		return false;
	}
	/* Again, when actions were taken. */
	if (gm_migrate_destination_stored(&in->machine, &s->action, rc, now) == -EBUSY)
		return false;
	s->used = false;
	link->held = false;
	if (gm_migrate_map_bits(&in->map, &s->action.place, &bits))
		gm_migrate_in_complete(in, &bits);
	return true;
}

/* Places of DISCARD of which something is there: most were named before the guest was paused. */
static void mark_drops(struct gm_migrate_in *in, const struct gm_migrate_msg *msg)
{
	memset(in->stale, 0, sizeof(in->stale));
	for (uint32_t i = 0; i < msg->nr; i++) {
		struct gm_range bits;
		struct gm_range run;

		if (gm_migrate_map_bits(&in->map, &msg->places[i], &bits) &&
			gm_bits_next(in->machine.have, bits.first, bits.last, &run))
			in->stale[i / 64] |= UINT64_C(1) << i % 64;
	}
}

/* What the machine need not see: 1: go on; 0: it was refused. */
static int look(struct gm_migrate_in *in, struct gm_migrate_link *link, uint64_t now)
{
	struct gm_migrate_msg *msg = &link->heard.msg;
	const char *why = NULL;
	uint32_t there = 0;
	int rc = 0;

	if (msg->type == GM_MIGRATE_LAYOUT)
		rc = gm_migrate_in_layout(in, &link->heard, &why);
	if (rc) {
		(void)gm_migrate_destination_give_up(&in->machine, rc, why, now);
		return 0;
	}
	if (msg->type == GM_MIGRATE_DISCARD && in->machine.have)
		mark_drops(in, msg);
	if (msg->type == GM_MIGRATE_PAGES && in->machine.later) {
		struct gm_range bits;

		if (gm_migrate_map_bits(&in->map, &msg->place, &bits))
			there = (uint32_t)gm_bits_count(in->machine.have, &bits);
		in->stats.twice += (uint64_t)there * MIGRATE_PAGE;
	}
	return 1;
}

static void give(struct gm_migrate_in *in, struct gm_migrate_link *link, uint64_t now)
{
	struct gm_migrate_msg *msg = &link->heard.msg;

	msg->slot = link->slot;
	msg->epoch = link->epoch;
	if (!link->again && !look(in, link, now))
		return;
	link->again = gm_migrate_destination_message(&in->machine, msg, now) == -EBUSY;
}

/* True: something came. */
static bool hear(struct gm_migrate_in *in, struct gm_migrate_link *link, uint64_t now)
{
	const char *why = NULL;
	int rc;

	if (!link->opened) {
		rc = on_open(in, link, &why, now);
	} else if (link->again) {
		give(in, link, now);
		return !link->again;
	} else {
		rc = gm_migrate_conn_recv(link->conn, &link->heard, &why);
		if (rc >= 0 || (rc == -EAGAIN && gm_migrate_conn_hears(link->conn)))
			gm_migrate_destination_moved(&in->machine, link->slot, link->epoch, true,
				gm_migrate_conn_hears(link->conn), now);
		if (rc == 1) {
			gm_migrate_lines_heard(link);
			give(in, link, now);
		}
	}
	if (rc == -EAGAIN)
		link->readable = false;
	else if (rc < 0)
		lose(in, link, rc, why, now);
	return rc >= 0;
}

/* ---- what the machine wants ---- */

static int say_have(struct gm_migrate_in *in, struct gm_migrate_link *link,
	const struct gm_migrate_place *place)
{
	uint32_t len = GM_MIGRATE_PLACE + gm_migrate_bits_len(place);
	uint64_t words = gm_bits_words(place->nr);
	uint8_t *bytes = gm_sys_alloc(GM_MIGRATE_PLACE + words * 8);
	uint64_t *have = gm_sys_alloc_array(words, sizeof(*have));
	struct gm_range bits;
	int rc = -ENOMEM;

	if (bytes && have && gm_migrate_map_bits(&in->map, place, &bits)) {
		gm_migrate_in_here(in, &bits, have);
		gm_migrate_put_place(place, bytes);
		for (uint64_t i = 0; i < words; i++)
			gm_put_le(bytes + GM_MIGRATE_PLACE + 8 * i, 8, have[i]);
		rc = gm_migrate_conn_say(link->conn, GM_MIGRATE_HAVE, 0, bytes, len);
	}
	gm_sys_free(bytes);
	gm_sys_free(have);
	return rc;
}

static int say(
	struct gm_migrate_in *in, struct gm_migrate_link *link, const struct gm_migrate_action *a)
{
	uint8_t bytes[GM_MIGRATE_TEXT_MAX + 1];

	switch (a->type) {
	case GM_MIGRATE_HAVE:
		return say_have(in, link, &a->place);
	case GM_MIGRATE_REQUEST:
	case GM_MIGRATE_DROPPED:
		gm_migrate_put_place(&a->place, bytes);
		return gm_migrate_conn_say(link->conn, a->type, a->number, bytes, GM_MIGRATE_PLACE);
	case GM_MIGRATE_REFUSED:
		return gm_migrate_conn_say(link->conn, a->type, a->number, bytes,
			gm_migrate_put_text(a->why ? a->why : "", bytes));
	default:
		return gm_migrate_conn_say(link->conn, a->type, a->number, NULL, 0);
	}
}

/* False: its connection is not ready for it. */
static bool do_send(struct gm_migrate_in *in, const struct gm_migrate_action *a, uint64_t now)
{
	struct gm_migrate_link *link = in->lines.slots[a->slot];
	bool up = in->machine.line.open >> a->slot & 1;
	bool moved;
	int rc;

	if (!link)
		return true;
	if (!up && a->type == GM_MIGRATE_REFUSED) {
		gm_migrate_lines_farewell(link, a->type, a->number, a->why);
		return true;
	}
	if (!up)
		return true;
	if (gm_migrate_conn_sends(link->conn))
		return false;
	rc = say(in, link, a);
	/* At once: the next may be for the same connection. */
	if (!rc)
		rc = gm_migrate_lines_flush(&in->lines, link, &moved);
	/* Where both ends share a processor the answer is there before anybody waits for it. */
	if (a->type == GM_MIGRATE_REQUEST)
		link->readable = true;
	if (rc)
		lose(in, link, rc, NULL, now);
	return true;
}

/* ROUND has come of all: what is held may be read. */
static void go_on(struct gm_migrate_in *in)
{
	for (uint32_t i = 0; i < GM_MIGRATE_SLOTS; i++) {
		if (in->lines.slots[i])
			in->lines.slots[i]->held = false;
	}
	in->lines.busy = true;
}

static void do_load(struct gm_migrate_in *in, uint64_t now)
{
	const char *why = NULL;
	int rc = gm_migrate_in_arm(in, &why);

	if (rc) {
		(void)gm_migrate_destination_loaded(&in->machine, rc, why, now);
		return;
	}
	in->asked |= IN_LOADED;
	pthread_mutex_unlock(&in->lines.lock);
	in->ops.load(in->ops.ctx, in->state, in->state_len);
	pthread_mutex_lock(&in->lines.lock);
}

static void do_run(struct gm_migrate_in *in)
{
	in->asked |= IN_STARTED;
	pthread_mutex_unlock(&in->lines.lock);
	in->ops.run(in->ops.ctx);
	pthread_mutex_lock(&in->lines.lock);
}

static void do_tell(struct gm_migrate_in *in, uint32_t tell, const struct gm_migrate_action *a)
{
	const struct gm_migrate_event event = {
		.tell = tell, .rc = a->rc, .why = a->why ? a->why : ""};

	gm_migrate_in_tell(in, &event);
}

/* Actions about the message that was just given to the machine. */
static void do_message(struct gm_migrate_in *in, const struct gm_migrate_action *a, uint64_t now)
{
	struct gm_migrate_link *link =
		in->lines.slots[a->what == GM_MIGRATE_DO_STORE ? a->slot : 0];

	if (!link)
		return;
	if (a->what == GM_MIGRATE_DO_STORE) {
		if (link->epoch == a->epoch && store(in, a, link, now) == -EBUSY) {
			/* It is in memory; the machine is told later. */
			in->stores[a->slot] = (struct in_store){.action = *a, .used = true};
			in->stores[a->slot].done = a->place.nr;
			link->held = true;
		}
	} else if (a->what == GM_MIGRATE_DO_DISCARD) {
		for (uint32_t i = 0; i < link->heard.msg.nr; i++) {
			if (in->stale[i / 64] >> i % 64 & 1)
				gm_migrate_in_drop(in, &link->heard.msg.places[i]);
		}
	} else if (gm_migrate_in_keep_state(in, link->heard.memory, a->len)) {
		(void)gm_migrate_destination_give_up(
			&in->machine, -ENOMEM, "the destination has no memory for the state", now);
	}
}

/* Who waits for one of them is told: nothing comes any more that would have him woken. */
static void do_poison(struct gm_migrate_in *in, const struct gm_migrate_action *a)
{
	struct gm_range bits;

	gm_migrate_in_lose(in, &a->place);
	if (in->source && gm_migrate_map_bits(&in->map, &a->place, &bits))
		gm_migrate_in_complete(in, &bits);
}

static bool act(struct gm_migrate_in *in, const struct gm_migrate_action *a, uint64_t now)
{
	switch (a->what) {
	case GM_MIGRATE_DO_CLOSE_ALL:
		gm_migrate_lines_leave_all(&in->lines, a->epoch, now);
		break;
	case GM_MIGRATE_DO_SEND:
		return do_send(in, a, now);
	case GM_MIGRATE_DO_HOLD:
		if (in->lines.slots[a->slot])
			in->lines.slots[a->slot]->held = true;
		break;
	case GM_MIGRATE_DO_CONTINUE:
		go_on(in);
		break;
	case GM_MIGRATE_DO_PREPARE:
		gm_migrate_in_prepare(in);
		break;
	case GM_MIGRATE_DO_STORE:
	case GM_MIGRATE_DO_STATE:
	case GM_MIGRATE_DO_DISCARD:
		do_message(in, a, now);
		break;
	case GM_MIGRATE_DO_LOAD:
		do_load(in, now);
		break;
	case GM_MIGRATE_DO_RUN:
		do_run(in);
		break;
	case GM_MIGRATE_DO_POISON:
		do_poison(in, a);
		break;
	case GM_MIGRATE_DO_TELL_LOST:
		do_tell(in, GM_MIGRATE_TOLD_LOST, a);
		break;
	case GM_MIGRATE_DO_TELL_FAILED:
	case GM_MIGRATE_DO_TELL_ENDED:
		/* Who is told steps no more: memory is ordinary memory by then. */
		if (gm_migrate_in_is_held(in))
			return false;
		do_tell(in,
			a->what == GM_MIGRATE_DO_TELL_ENDED ? GM_MIGRATE_TOLD_ENDED
							    : GM_MIGRATE_TOLD_FAILED,
			a);
		break;
	default:
		break;
	}
	return true;
}

static bool actions(struct gm_migrate_in *in, uint64_t now)
{
	bool some = false;

	for (;;) {
		if (!in->has_action)
			in->has_action =
				gm_migrate_destination_next(&in->machine, now, &in->action);
		if (!in->has_action || !act(in, &in->action, now))
			return some;
		in->has_action = false;
		some = true;
	}
}

/* ---- what the embedder has done ---- */

static int grant(struct gm_migrate_in *in, uint32_t i, uint64_t now)
{
	struct gm_migrate_destination *d = &in->machine;
	int rc = in->wish_rc[i];
	const char *why = in->wish_why[i];

	switch (1u << i) {
	case IN_PREPARED:
		return gm_migrate_destination_prepared(d, rc, why, now);
	case IN_LOADED:
		return gm_migrate_destination_loaded(d, rc, why, now);
	case IN_STARTED:
		if (!rc && in->last_page)
			in->stats.downtime_ns = now - in->last_page;
		return gm_migrate_destination_started(d, rc, now);
	default:
		return gm_migrate_destination_give_up(d, rc, why, now);
	}
}

static void wishes(struct gm_migrate_in *in, uint64_t now)
{
	for (uint32_t i = 0; in->wishes && i < 4; i++) {
		if (in->wishes >> i & 1 && grant(in, i, now) != -EBUSY)
			in->wishes &= ~(1u << i);
	}
}

/* ---- a step ---- */

static bool send_on(struct gm_migrate_in *in, struct gm_migrate_link *link, uint64_t now)
{
	bool moved;
	int rc = gm_migrate_lines_flush(&in->lines, link, &moved);

	if (moved && link->opened)
		gm_migrate_destination_moved(&in->machine, link->slot, link->epoch, false,
			gm_migrate_conn_sends(link->conn), now);
	if (rc)
		lose(in, link, rc, NULL, now);
	return moved;
}

/* Bulk is in nobody's way. */
static uint32_t turns_of(const struct gm_migrate_in *in, const struct gm_migrate_link *link)
{
	bool bulk = link->opened && link->slot && link->slot <= GM_MIGRATE_BULK_MAX;

	return in->machine.later && bulk ? 1 : MIGRATE_TURNS;
}

static bool hear_link(struct gm_migrate_in *in, struct gm_migrate_link *link, uint64_t now)
{
	uint32_t turns = 0;
	bool some = false;

	/* Actions may be about the last message: while one waits no other takes its place. */
	while (link->conn && !link->leaving && !link->held && !in->has_action &&
		(link->readable || link->again) && hear(in, link, now)) {
		some = true;
		actions(in, now);
		if (link->conn && link->opened && push(in, link, now))
			actions(in, now);
		if (++turns == turns_of(in, link) ||
			(link->opened && gm_migrate_conn_hears(link->conn))) {
			in->lines.busy = true;
			break;
		}
	}
	return some;
}

static bool hear_all(struct gm_migrate_in *in, uint64_t now)
{
	bool some = false;

	for (uint32_t i = 0; i < GM_MIGRATE_SLOTS; i++) {
		struct gm_migrate_link *link = in->lines.slots[gm_migrate_lines_order(i)];

		if (link)
			some |= push(in, link, now) || hear_link(in, link, now);
	}
	for (uint32_t i = 0; i < in->lines.nr_links; i++) {
		struct gm_migrate_link *link = &in->lines.links[i];

		if (link->conn && !link->opened)
			some |= hear_link(in, link, now);
	}
	return some;
}

static bool send_all(struct gm_migrate_in *in, uint64_t now)
{
	bool some = false;

	for (uint32_t i = 0; i < in->lines.nr_links; i++) {
		struct gm_migrate_link *link = &in->lines.links[i];

		if (link->conn && !link->leaving)
			some |= send_on(in, link, now);
	}
	return some;
}

/* RESUMED says it, too. */
static void look_at_end(struct gm_migrate_in *in)
{
	const struct gm_migrate_destination *d = &in->machine;

	in->was_told |= (d->state == GM_DESTINATION_DONE || d->state == GM_DESTINATION_GIVEN_UP) &&
			(d->line.open & 1) && d->resumed;
}

static void look_at_state(struct gm_migrate_in *in)
{
	uint32_t state = gm_migrate_in_is(in);
	const struct gm_migrate_event event = {.tell = GM_MIGRATE_TOLD_STATE,
		.rc = in->machine.rc,
		.why = in->machine.why ? in->machine.why : ""};

	in->stats.left = in->machine.missing << GM_MIGRATE_PAGE_LOG2;
	in->stats.round = in->machine.round;
	if (state == in->told_state)
		return;
	in->told_state = state;
	if (state >= GM_MIGRATE_IS_ENDED && in->began)
		in->stats.total_ns = gm_sys_now_ns() - in->began;
	gm_migrate_in_tell(in, &event);
}

static int pass(struct gm_migrate_in *in)
{
	uint64_t now = gm_sys_now_ns();
	bool some = true;
	int rc = 0;

	if (now >= gm_migrate_destination_due(&in->machine))
		gm_migrate_destination_tick(&in->machine, now);
	for (uint32_t i = 0; !rc && some && i < PASSES && !(i && in->lines.busy); i++) {
		bool busy;

		wishes(in, now);
		some = actions(in, now);
		busy = in->lines.busy;
		rc = gm_migrate_in_later(in, now);
		/* What the pager wants is asked for right here. */
		some |= in->lines.busy;
		in->lines.busy = busy;
		some |= actions(in, now);
		some |= send_all(in, now);
		some |= hear_all(in, now);
		wishes(in, now);
		some |= actions(in, now);
		some |= send_all(in, now);
		look_at_end(in);
	}
	in->lines.busy |= some;
	in->lines.busy |= in->has_action && gm_migrate_lines_idle(&in->lines, in->action.slot);
	gm_migrate_lines_tidy(&in->lines, now);
	gm_migrate_lines_pace(&in->lines, in->stats.pages, now);
	look_at_state(in);
	return rc;
}

static uint64_t due(const struct gm_migrate_in *in)
{
	uint64_t machine = gm_migrate_destination_due(&in->machine);
	uint64_t lines = gm_migrate_lines_due(&in->lines);

	return machine < lines ? machine : lines;
}

int gm_migrate_in_step(struct gm_migrate_in *in, int timeout_ms)
{
	int rc;

	if (__atomic_exchange_n(&in->lines.stepping, 1, __ATOMIC_ACQUIRE))
		return -EBUSY;
	pthread_mutex_lock(&in->lines.lock);
	rc = gm_migrate_lines_wait(&in->lines, timeout_ms, due(in));
	if (!rc)
		rc = pass(in);
	if (in->lines.busy)
		gm_migrate_lines_kick(&in->lines);
	if (!rc)
		rc = gm_migrate_lines_arm(&in->lines, due(in));
	pthread_mutex_unlock(&in->lines.lock);
	__atomic_store_n(&in->lines.stepping, 0, __ATOMIC_RELEASE);
	return rc;
}
