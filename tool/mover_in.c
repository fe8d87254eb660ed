/* SPDX-License-Identifier: BSD-3-Clause */
/* mover_in.c - the destination: what comes is taken, and the guest's thread is asked to make something of it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <guestmem/policy.h>

#include "mover.h"

/* Of a turn: each call makes the kernel empty lists of all CPUs, which takes a while on busy ones. */
#define JOIN_LEN (UINT64_C(64) << 20)
#define ACCEPTS 8     /* of a turn */
#define COMPLAIN 10.0 /* seconds between two complaints about connections */
#define AGAIN 1.0     /* until accept() is tried again */

/* They are borrowed, and the guest's thread looks at them later. */
static void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct mover *m = ctx;

	for (size_t i = 0; i < RUN_MEMORY_PLACES_MAX; i++)
		m->places[i].fd = -1;
	m->nr_places = nr;
	for (size_t i = 0; i < nr && nr <= RUN_MEMORY_PLACES_MAX; i++) {
		const struct gm_migrate_in_region *r = &regions[i];

		m->places[i] = (struct run_memory_place){.gpa = r->gpa,
			.len = r->len,
			.page_size = r->page_size,
			.fd = -1,
			.fd_off = r->fd_off};
		if (!r->fd_plus)
			continue;
		m->places[i].fd = fcntl(r->fd_plus - 1, F_DUPFD_CLOEXEC, 3);
		/* Without it the region would be other memory: it is refused. */
		if (m->places[i].fd < 0)
			m->nr_places = RUN_MEMORY_PLACES_MAX + 1;
	}
	mover_wish(m, MOVER_PREPARE);
}

static void on_load(void *ctx, const void *data, size_t len)
{
	struct mover *m = ctx;

	m->data = data;
	m->data_len = len;
	mover_wish(m, MOVER_LOAD);
}

static void on_run(void *ctx)
{
	mover_wish(ctx, MOVER_START);
}

bool mover_listen(struct mover *m, const struct mover_in_opts *o)
{
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run,
		.told = mover_told,
		.ctx = m};
	const struct gm_migrate_in_opts opts = {
		.size = sizeof(opts), .flags = o->flags, .memory_max = o->memory_max};
	struct gm_error err;

	m->spare = open("/", O_PATH | O_CLOEXEC);
	if (gm_migrate_in_create(&opts, &ops, &m->in, &err) < 0) {
		tool_error("migrate: %s", err.text);
		return false;
	}
	m->tcp = o->address.tcp;
	m->listener = address_listen(&o->address, m->name);
	return m->listener >= 0;
}

void mover_started(struct mover *m, int rc)
{
	if (m && m->in)
		gm_migrate_in_started(m->in, rc);
}

/* Now and then: who connects may do so very often. */
static void turned_away(struct mover *m, const char *why, const char *hint)
{
	double now = tool_now();

	m->turned_away++;
	if (now < m->complained + COMPLAIN)
		return;
	m->complained = now;
	tool_error("migrate: a connection was refused: %s%s", why, hint);
	mover_say(m, "peer", NULL);
}

/* There is no descriptor for who waits there: he is to hear of it now, and others not to wait for ever. */
static void cannot_accept(struct mover *m, int error)
{
	bool none = error == EMFILE || error == ENFILE;

	turned_away(m, strerror(error), none ? " (ulimit -n)" : "");
	if (none && m->spare >= 0) {
		int fd;

		close(m->spare);
		fd = address_accept(m->listener, m->tcp);
		if (fd >= 0)
			close(fd);
		m->spare = open("/", O_PATH | O_CLOEXEC);
		if (fd >= 0 && m->spare >= 0)
			return;
	}
	m->accepts = tool_now() + AGAIN;
}

void mover_accept(struct mover *m)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = address_accept(m->listener, m->tcp);
		int rc = fd < 0 ? -errno : 0;

		if (rc == -EAGAIN)
			return;
		if (rc < 0) {
			cannot_accept(m, -rc);
			return;
		}
		/* What it does not take it closes. */
		rc = gm_migrate_in_connection(m->in, fd);
		if (rc == -EMFILE)
			turned_away(m, "there are too many that have not said who they are", "");
		else if (rc < 0)
			turned_away(m, strerror(-rc), "");
	}
}

/* ---- pages that came one by one ---- */

void mover_join_begin(struct mover *m)
{
	/* Pairs with the guest's thread, which has a guest that runs. */
	const struct run_engine *e = __atomic_load_n(&m->engine, __ATOMIC_ACQUIRE);
	const struct run_memory *memory = e ? e->memory : NULL;

	if (!memory || memory->info.got.kind != GM_PAGE_THP)
		return;
	m->joins = memory->space;
	m->join_at = memory->gpa;
	m->join_left = memory->len;
}

void mover_join(struct mover *m)
{
	uint64_t len = m->join_left < JOIN_LEN ? m->join_left : JOIN_LEN;
	int rc = 0;

	/* A guest that is sent on is left as it is, and so is a block that cannot be huge. */
	if (m->joins && len && !m->out)
		rc = gm_policy_collapse(m->joins, m->join_at, len, 0, NULL, NULL);
	m->join_at += len;
	m->join_left -= len;
	if (!m->join_left || m->out || rc == -ENOMEM)
		m->joins = NULL;
}
