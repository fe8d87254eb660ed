/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_world_io.c - see migrate_world.h: does what the machines want done. */
#include <errno.h>
#include <string.h>

#include "migrate_world.h"

static void may_run(struct world *w, bool source)
{
	world_check(w, !(source ? w->runs_at_destination : w->runs_at_source),
		"two ends run the guest");
	if (source) {
		w->runs_at_source = true;
		w->to_pause = false;
		w->to_say_paused = false;
	} else {
		world_check(w, !w->never, "the destination runs what it said it never will");
		w->runs_at_destination = true;
		w->to_start = true;
	}
}

static uint64_t mask_of(const struct world *w, const struct gm_migrate_place *place)
{
	struct gm_range bits;

	return gm_migrate_map_bits(&w->map, place, &bits)
		       ? ((UINT64_C(1) << gm_range_len(&bits)) - 1) << bits.first
		       : 0;
}

/* ---- the source ---- */

static void close_all(struct world *w, bool source, uint32_t epoch)
{
	for (uint32_t i = 0; i < W_CONNS; i++) {
		struct conn *conn = &w->conns[i];

		if (conn->used && conn->epoch == epoch &&
			(source ? conn->at_source : conn->at_destination))
			world_close(w, conn, source);
	}
}

static void open_one(struct world *w, const struct gm_migrate_action *a)
{
	const struct gm_migrate_source *s = &w->source;
	struct conn *conn = world_connect(w, a->slot, a->epoch);
	struct packet *packet;

	if (!conn)
		return;
	conn->cut = w->killed[1];
	packet = world_packet(w, conn, 0);
	packet->opens = true;
	packet->open = (struct gm_migrate_open){.lowest = 1,
		.highest = 1,
		.role = (uint16_t)gm_migrate_role_of(a->slot),
		.index = (uint16_t)(a->slot - gm_migrate_slot(gm_migrate_role_of(a->slot), 0)),
		.epoch = a->epoch,
		.bulk = (uint16_t)s->line.bulk,
		.urgent = (uint16_t)s->line.urgent,
		.features = s->o.features};
	memcpy(packet->open.session, s->o.session, sizeof(packet->open.session));
}

static void source_sends(struct world *w, const struct gm_migrate_action *a)
{
	struct conn *conn = world_conn(w, true, a->slot, w->source.line.epoch);
	struct packet *packet;

	if (a->type == GM_MIGRATE_RUN)
		world_check(w, w->kept, "RUN before the guest was kept");
	if (!conn || conn->cut)
		return;
	do {
		packet = world_packet(w, conn, 0);
		if (!packet)
			return;
		packet->msg.type = a->type;
		packet->msg.number = a->number;
		packet->msg.len = (uint32_t)a->len;
		packet->msg.bytes = a->len;
		packet->msg.regions = w->regions;
		packet->msg.nr = w->map.nr;
		packet->msg.places = packet->places;
		if (a->type == GM_MIGRATE_DISCARD) {
			packet->msg.nr = gm_migrate_source_discards(&w->source, packet->places, 3);
			if (!packet->msg.nr)
				conn->pipes[0].nr--;
		}
	} while (a->type == GM_MIGRATE_DISCARD && packet->msg.nr);
}

static void source_does(struct world *w, const struct gm_migrate_action *a)
{
	switch (a->what) {
	case GM_MIGRATE_DO_OPEN:
		open_one(w, a);
		break;
	case GM_MIGRATE_DO_CLOSE_ALL:
		close_all(w, true, a->epoch);
		break;
	case GM_MIGRATE_DO_SEND:
		source_sends(w, a);
		break;
	case GM_MIGRATE_DO_ROUND:
		w->to_choose = true;
		break;
	case GM_MIGRATE_DO_PAUSE:
		w->to_pause = true;
		break;
	case GM_MIGRATE_DO_KEEP:
		world_check(w, !w->runs_at_source, "the guest runs when it is handed over");
		w->kept = true;
		break;
	case GM_MIGRATE_DO_RUN:
		may_run(w, true);
		break;
	case GM_MIGRATE_DO_TELL_FAILED:
		world_check(w, a->rc || a->why, "a failure without a reason");
		break;
	case GM_MIGRATE_DO_TELL_ENDED:
		world_check(w, w->acked, "success without DONE_ACK");
		world_check(w, w->destination.missing == 0, "success, and pages are missing");
		break;
	default:
		break;
	}
}

/* One message of pages: those that cannot be read are sent as lost, by themselves. */
static void send_run(
	struct world *w, struct conn *conn, struct gm_migrate_place place, uint64_t number)
{
	while (place.nr) {
		struct packet *packet = world_packet(w, conn, 0);
		uint32_t bit = (uint32_t)(w->starts[place.region] + place.first);
		bool bad = w->bad >> bit & 1;
		uint32_t nr = 0;

		if (!packet)
			return;
		while (nr < place.nr && (w->bad >> (bit + nr) & 1) == bad) {
			packet->versions[nr] = w->memory[0][bit + nr];
			nr++;
		}
		packet->msg.type = GM_MIGRATE_PAGES;
		packet->msg.number = number;
		packet->msg.kind = bad ? GM_MIGRATE_LOST : GM_MIGRATE_RAW;
		packet->msg.place = place;
		packet->msg.place.nr = nr;
		packet->size += nr;
		place.first += nr;
		place.nr -= nr;
	}
}

bool world_send_pages(struct world *w)
{
	uint32_t from = (uint32_t)rng_below(&w->rng, W_CONNS);

	for (uint32_t i = 0; i < W_CONNS && !w->killed[0]; i++) {
		struct conn *conn = &w->conns[(from + i) % W_CONNS];
		struct gm_migrate_place place;
		uint64_t number;

		if (!conn->used || !conn->at_source || conn->cut || conn->pipes[0].nr > 5 ||
			conn->epoch != w->source.line.epoch ||
			!gm_migrate_source_take(&w->source, conn->slot, &place, &number))
			continue;
		send_run(w, conn, place, number);
		return true;
	}
	return false;
}

/* ---- the destination ---- */

static void destination_sends(struct world *w, const struct gm_migrate_action *a)
{
	struct conn *conn = world_conn(w, false, a->slot, w->destination.line.epoch);
	struct packet *packet;

	if (a->type == GM_MIGRATE_DONE_ACK)
		w->acked = true;
	if (a->type == GM_MIGRATE_RECLAIMED || a->type == GM_MIGRATE_REFUSED)
		w->never = true;
	if (!conn)
		return;
	if (a->type == GM_MIGRATE_REQUEST)
		w->asked |= mask_of(w, &a->place);
	if (conn->cut)
		return;
	packet = world_packet(w, conn, 1);
	if (!packet)
		return;
	packet->msg.type = a->type;
	packet->msg.number = a->number;
	packet->msg.place = a->place;
	packet->msg.places = packet->places;
	packet->msg.nr = 1;
	packet->places[0] = a->place;
	packet->msg.bits = packet->bits;
	memset(packet->bits, 0, sizeof(packet->bits));
	for (uint32_t i = 0; a->type == GM_MIGRATE_HAVE && i < a->place.nr; i++) {
		uint64_t bit = w->starts[a->place.region] + a->place.first + i;

		packet->bits[i / 8] |= (uint8_t)((w->have[0] >> bit & 1) << i % 8);
	}
}

/* The packet whose message was just given to the destination, on this slot. */
static const struct packet *given(struct world *w, uint32_t type)
{
	for (uint32_t i = 0; i < W_CONNS; i++) {
		struct conn *conn = &w->conns[i];
		const struct packet *packet = &conn->pipes[0].at[conn->pipes[0].first];

		if (conn->used && conn->at_destination && conn->slot == 0 && conn->pipes[0].nr &&
			packet->msg.type == type)
			return packet;
	}
	return NULL;
}

static void begin_store(struct world *w, const struct gm_migrate_action *a)
{
	struct conn *conn = world_conn(w, false, a->slot, a->epoch);

	for (uint32_t i = 0; i < 64; i++) {
		struct storing *storing = &w->storing[i];

		if (storing->used || !conn)
			continue;
		storing->used = true;
		storing->action = *a;
		memcpy(storing->versions, conn->pipes[0].at[conn->pipes[0].first].versions,
			sizeof(storing->versions));
		return;
	}
	world_check(w, false, "too many pages are being stored");
}

static void discard(struct world *w)
{
	const struct packet *packet = given(w, GM_MIGRATE_DISCARD);

	for (uint32_t i = 0; packet && i < packet->msg.nr; i++) {
		uint64_t bits = mask_of(w, &packet->places[i]);

		w->named &= ~bits;

		for (uint32_t bit = 0; bit < W_PAGES; bit++) {
			if (bits >> bit & 1)
				w->memory[1][bit] = W_GARBAGE;
		}
	}
}

static void destination_does(struct world *w, const struct gm_migrate_action *a)
{
	switch (a->what) {
	case GM_MIGRATE_DO_CLOSE_ALL:
		close_all(w, false, a->epoch);
		break;
	case GM_MIGRATE_DO_SEND:
		destination_sends(w, a);
		break;
	case GM_MIGRATE_DO_PREPARE:
		w->to_prepare = true;
		break;
	case GM_MIGRATE_DO_STORE:
		begin_store(w, a);
		break;
	case GM_MIGRATE_DO_STATE:
		world_check(w, a->number == w->state_came, "the state came in another order");
		w->state_came += a->len;
		break;
	case GM_MIGRATE_DO_LOAD:
		world_check(w, a->len == w->state_came && a->len == w->state_len,
			"the state is not whole");
		w->to_load = true;
		break;
	case GM_MIGRATE_DO_DISCARD:
		discard(w);
		break;
	case GM_MIGRATE_DO_RUN:
		may_run(w, false);
		break;
	case GM_MIGRATE_DO_POISON:
		w->named |= mask_of(w, &a->place);
		break;
	case GM_MIGRATE_DO_TELL_FAILED:
		world_check(w, a->rc && a->why, "a failure without a reason");
		w->never = w->never || !w->runs_at_destination;
		break;
	default:
		break;
	}
}

/* Each page that is not there yet, or all in a round. */
bool world_store(struct world *w)
{
	uint32_t from = (uint32_t)rng_below(&w->rng, 64);

	for (uint32_t i = 0; i < 64 && !w->killed[1]; i++) {
		struct storing *storing = &w->storing[(from + i) % 64];
		const struct gm_migrate_action *a = &storing->action;
		uint64_t first;

		if (!storing->used)
			continue;
		storing->used = false;
		first = w->starts[a->place.region] + a->place.first;
		if (!w->calm && world_chance(w, 400)) {
			(void)gm_migrate_destination_stored(&w->destination, a, -ENOMEM, w->now);
			return true;
		}
		for (uint64_t p = first; p < first + a->place.nr; p++) {
			if (w->destination.state > GM_DESTINATION_WHOLE ||
				(a->missing && (w->have[0] >> p & 1)))
				continue;
			w->memory[1][p] = storing->versions[p - first];
			w->named &= ~(UINT64_C(1) << p);
			if (a->kind == GM_MIGRATE_LOST)
				w->named |= UINT64_C(1) << p;
		}
		world_check(w, gm_migrate_destination_stored(&w->destination, a, 0, w->now) == 0,
			"pages were stored, and nobody wants to know");
		return true;
	}
	return false;
}

void world_drain(struct world *w)
{
	struct gm_migrate_action action;

	while (!w->killed[0] && !w->fault && gm_migrate_source_next(&w->source, w->now, &action))
		source_does(w, &action);
	while (!w->killed[1] && !w->fault &&
		gm_migrate_destination_next(&w->destination, w->now, &action))
		destination_does(w, &action);
}
