/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_world_net.c - see migrate_world.h: connections, and what becomes of them. */
#include <errno.h>
#include <string.h>

#include "migrate_world.h"

struct conn *world_connect(struct world *w, uint32_t slot, uint32_t epoch)
{
	for (uint32_t i = 0; i < W_CONNS; i++) {
		struct conn *conn = &w->conns[i];

		if (conn->used && (conn->at_source || conn->at_destination || conn->pipes[0].nr))
			continue;
		conn->used = true;
		conn->at_source = true;
		conn->at_destination = false;
		conn->answered = false;
		conn->cut = false;
		conn->slot = slot;
		conn->epoch = epoch;
		conn->stalled = 0;
		conn->pipes[0].nr = 0;
		conn->pipes[1].nr = 0;
		if (!w->calm && world_chance(w, 6))
			conn->stalled = w->now + rng_below(&w->rng, 6000);
		return conn;
	}
	world_check(w, false, "the simulation has too few connections");
	return NULL;
}

struct conn *world_conn(struct world *w, bool source, uint32_t slot, uint32_t epoch)
{
	for (uint32_t i = 0; i < W_CONNS; i++) {
		struct conn *conn = &w->conns[i];

		if (conn->used && conn->slot == slot && conn->epoch == epoch &&
			(source ? conn->at_source : conn->at_destination))
			return conn;
	}
	return NULL;
}

struct packet *world_packet(struct world *w, struct conn *conn, int way)
{
	struct pipe *pipe = &conn->pipes[way];
	struct packet *packet = &pipe->at[(pipe->first + pipe->nr) % W_PIPE];

	world_check(w, pipe->nr < W_PIPE, "more than a pipe holds was sent");
	if (pipe->nr == W_PIPE)
		return NULL;
	pipe->nr++;
	memset(&packet->msg, 0, sizeof(packet->msg));
	packet->opens = false;
	packet->moved = 0;
	packet->size = 1 + (uint32_t)rng_below(&w->rng, 4);
	packet->msg.slot = conn->slot;
	packet->msg.epoch = conn->epoch;
	return packet;
}

/* A suffix of what is on its way does not arrive. */
static void shorten(struct world *w, struct pipe *pipe)
{
	pipe->nr = (uint32_t)rng_below(&w->rng, pipe->nr + 1);
}

void world_close(struct world *w, struct conn *conn, bool source)
{
	if (source)
		conn->at_source = false;
	else
		conn->at_destination = false;
	if (!w->calm && world_chance(w, 3))
		shorten(w, &conn->pipes[source ? 0 : 1]);
	conn->pipes[source ? 1 : 0].nr = 0;
}

static void cut(struct world *w, struct conn *conn)
{
	conn->cut = true;
	shorten(w, &conn->pipes[0]);
	shorten(w, &conn->pipes[1]);
}

void world_kill(struct world *w, bool source)
{
	w->killed[source ? 0 : 1] = true;
	if (source)
		w->runs_at_source = false;
	else
		w->runs_at_destination = false;
	for (uint32_t i = 0; i < W_CONNS; i++) {
		struct conn *conn = &w->conns[i];

		if (!conn->used)
			continue;
		world_close(w, conn, source);
		conn->cut = true;
	}
}

static struct conn *any(struct world *w)
{
	uint32_t from = (uint32_t)rng_below(&w->rng, W_CONNS);

	for (uint32_t i = 0; i < W_CONNS; i++) {
		struct conn *conn = &w->conns[(from + i) % W_CONNS];

		if (conn->used && !conn->cut && conn->at_source)
			return conn;
	}
	return NULL;
}

void world_trouble(struct world *w)
{
	struct conn *conn = any(w);

	if (!conn || !w->troubles)
		return;
	w->troubles--;
	switch (rng_below(&w->rng, 8)) {
	case 0:
	case 1:
	case 2:
		cut(w, conn);
		break;
	case 3:
		for (uint32_t i = 0; i < W_CONNS; i++) {
			if (w->conns[i].used)
				cut(w, &w->conns[i]);
		}
		break;
	case 4:
		if (world_chance(w, 3))
			world_kill(w, world_chance(w, 2));
		break;
	default:
		conn->stalled = w->now + rng_below(&w->rng, 9000);
	}
}

/* ---- delivery ---- */

static void opened_at_destination(struct world *w, struct conn *conn, struct packet *packet)
{
	struct gm_migrate_opened answer;
	struct packet *reply;
	int rc = gm_migrate_destination_open(&w->destination, &packet->open, w->now, &answer);

	conn->answered = true;
	conn->at_destination = rc == 0;
	if (rc == 0) {
		world_check(w, conn->epoch >= w->newest, "a connection of an old epoch was taken");
		if (conn->epoch > w->newest)
			w->asked = 0;
		w->newest = conn->epoch;
		world_drain(w);
		for (uint32_t i = 0; i < W_CONNS; i++)
			world_check(w,
				!w->conns[i].used || !w->conns[i].at_destination ||
					w->conns[i].epoch == w->newest,
				"a connection of the last epoch is still read");
	}
	reply = world_packet(w, conn, 1);
	if (reply) {
		reply->opens = true;
		reply->opened = answer;
	}
}

static bool deliver(struct world *w, struct conn *conn, int way)
{
	struct pipe *pipe = &conn->pipes[way];
	struct packet *packet = &pipe->at[pipe->first];
	int rc = 0;

	if (way == 0 && packet->opens) {
		if (!w->killed[1])
			opened_at_destination(w, conn, packet);
	} else if (way == 0 && conn->at_destination) {
		rc = gm_migrate_destination_message(&w->destination, &packet->msg, w->now);
		if (rc == 0)
			world_drain(w);
	} else if (way == 1 && conn->at_source && packet->opens) {
		rc = gm_migrate_source_opened(
			&w->source, conn->slot, conn->epoch, &packet->opened, w->now);
	} else if (way == 1 && conn->at_source) {
		rc = gm_migrate_source_message(&w->source, &packet->msg, w->now);
	}
	if (rc == -EBUSY)
		return false;
	/* What was done may have closed it. */
	if (pipe->nr) {
		pipe->first = (pipe->first + 1) % W_PIPE;
		pipe->nr--;
	}
	return true;
}

static void moved(struct world *w, struct conn *conn, int way, bool busy)
{
	if (way == 0 && conn->at_destination)
		gm_migrate_destination_moved(
			&w->destination, conn->slot, conn->epoch, true, busy, w->now);
	if (way == 1 && conn->at_source)
		gm_migrate_source_moved(&w->source, conn->slot, conn->epoch, true, busy, w->now);
}

/* The reader has come to the end. */
static bool found_cut(struct world *w, struct conn *conn, int way)
{
	bool source = way == 1;

	if (!(source ? conn->at_source : conn->at_destination))
		return false;
	if (!conn->cut && (source ? conn->at_destination || !conn->answered : conn->at_source))
		return false;
	if (source) {
		conn->at_source = false;
		gm_migrate_source_lost(&w->source, conn->slot, conn->epoch, -ECONNRESET,
			"the connection is lost", w->now);
	} else {
		if (w->destination.held >> conn->slot & 1 &&
			conn->epoch == w->destination.line.epoch && !conn->cut)
			return false;
		conn->at_destination = false;
		gm_migrate_destination_lost(&w->destination, conn->slot, conn->epoch, -ECONNRESET,
			"the connection is lost", w->now);
	}
	return true;
}

static bool move_one(struct world *w, struct conn *conn, int way)
{
	struct pipe *pipe = &conn->pipes[way];
	struct packet *packet = &pipe->at[pipe->first];

	if (!pipe->nr)
		return found_cut(w, conn, way);
	if (packet->moved < packet->size && world_chance(w, 2)) {
		packet->moved += 1 + (uint32_t)rng_below(&w->rng, 3);
		moved(w, conn, way, packet->moved < packet->size);
		return true;
	}
	if (packet->moved < packet->size) {
		packet->moved = packet->size;
		moved(w, conn, way, false);
	}
	return deliver(w, conn, way);
}

bool world_move(struct world *w)
{
	uint32_t from = (uint32_t)rng_below(&w->rng, 2 * W_CONNS);

	for (uint32_t i = 0; i < 2 * W_CONNS; i++) {
		struct conn *conn = &w->conns[(from + i) / 2 % W_CONNS];

		if (conn->used && conn->stalled <= w->now &&
			move_one(w, conn, (int)((from + i) % 2)))
			return true;
	}
	return false;
}
