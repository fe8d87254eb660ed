/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve_guest.c - a guest: its pager, its process, its end.
 *
 * A userfaultfd is closed only when the memory behind it is gone, its pages are all there or poisoned, or the keeper
 * has it: whoever touches a missing page of a closed one reads zeros.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "serve.h"
#include "tool.h"

#define REQUEST (UINT64_C(256) << 10) /* bytes: while they are read nobody else is answered */
#define PAGE_MAX (UINT64_C(2) << 20)  /* of Firecracker; one is copied in one piece */
#define SAY_MAX 8
#define LOOK_EVERY 0.5
#define POISON_MS 30000

static void told(void *ctx, const struct gm_pager_event *event)
{
	struct serve_guest *g = ctx;
	static const char *const what[] = {
		[GM_PAGER_POISONED] = "are poisoned",
		[GM_PAGER_STUCK] =
			"cannot be installed: somebody who changes the mapping stands still",
		[GM_PAGER_STRAY] = "are in no mapping that was told, and poisoned",
	};

	if (event->kind == GM_PAGER_ENDED)
		g->ended = true;
	if (event->kind >= sizeof(what) / sizeof(what[0]) || !what[event->kind] ||
		g->said >= SAY_MAX)
		return;
	tool_error("guest %u (process %d): 0x%" PRIx64 " bytes at 0x%" PRIx64 " %s: %s%s",
		g->record.number, g->record.pid, event->len, event->addr, what[event->kind],
		strerror(-event->code),
		++g->said == SAY_MAX ? "; no more of this sort is told" : "");
}

static uint64_t largest_page(const struct record *r)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < r->nr; i++)
		most = r->areas[i].page_size > most ? r->areas[i].page_size : most;
	return most;
}

void serve_guest_refuse(struct serve *s, struct serve_guest *g, const char *why)
{
	s->refused++;
	g->refused = true;
	serve_say(s, "refused", &g->record, "%s; %s", why,
		s->opts.kill ? "the monitor is killed" : "its guest stands still");
	if (s->opts.kill && g->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, g->pidfd, SIGKILL, NULL, 0);
}

static bool make_pager(struct serve *s, struct serve_guest *g, bool takeover)
{
	struct gm_pager_opts opts = {.told = told, .ctx = g, .parked = 64, .ranges = 64};
	uint64_t page = largest_page(&g->record);
	struct gm_error err;

	if (page > PAGE_MAX) {
		serve_guest_refuse(s, g, "its pages are larger than 2 MiB");
		return false;
	}
	opts.request_len = page > REQUEST ? page : REQUEST;
	if (!record_pager(&g->record, s->opts.keeper ? g->file : -1, g->uffd, s->image.source,
		    &opts, takeover, &g->pager, &err)) {
		serve_guest_refuse(s, g, err.text);
		return false;
	}
	gm_pager_fill(g->pager, s->ending ? GM_PAGER_FILL_ALL : s->opts.fill,
		s->ending ? 0 : s->opts.rate);
	serve_wset_guest(s, g, takeover);
	g->pager_item = (struct serve_item){SERVE_PAGER, g};
	return serve_watch(s, gm_pager_fd(g->pager), EPOLLIN, &g->pager_item);
}

void serve_guest_begin(struct serve *s, struct serve_guest *g, bool takeover)
{
	char bytes[TOOL_UNIT_CAP];

	g->since = tool_now();
	g->next = s->guests;
	s->guests = g;
	g->process_item = (struct serve_item){SERVE_PROCESS, g};
	if (g->pidfd >= 0)
		serve_watch(s, g->pidfd, EPOLLIN, &g->process_item);
	else
		g->look_at = g->since + LOOK_EVERY;
	/* Before the first page is served. */
	if (!takeover)
		serve_keeper_guest(s, g);
	if (g->refused || !make_pager(s, g, takeover))
		return;
	s->nr_guests++;
	s->guests_all++;
	serve_say(s, takeover ? "taken_over" : "arrived", &g->record,
		"%s of memory in %u mappings%s", tool_bytes(record_bytes(&g->record), bytes),
		g->record.nr, takeover ? ", taken over" : "");
}

void serve_guest_step(struct serve *s, struct serve_guest *g)
{
	int rc = g->pager ? gm_pager_step(g->pager, 0) : 0;

	if (rc < 0 && g->said < SAY_MAX) {
		g->said++;
		serve_say(s, "error", &g->record, "it cannot be served: %s", strerror(-rc));
	}
}

void serve_guest_died(struct serve *s, struct serve_guest *g)
{
	if (g->pidfd >= 0)
		serve_watch(s, g->pidfd, 0, NULL);
	/* Somebody else may have the memory, or still be at it. */
	if (record_is_gone(&g->record, g->uffd))
		g->ended = true;
	else
		g->look_at = tool_now() + LOOK_EVERY;
}

void serve_guests_tick(struct serve *s, double now)
{
	for (struct serve_guest *g = s->guests; g; g = g->next) {
		if (g->look_at <= 0 || g->ended || now < g->look_at)
			continue;
		g->look_at = now + LOOK_EVERY;
		g->ended = record_is_gone(&g->record, g->uffd);
	}
}

/* ---- figures ---- */

void serve_add_stats(struct gm_pager_stats *sum, const struct gm_pager_stats *more)
{
	sum->faults += more->faults;
	sum->loaded += more->loaded;
	sum->zeros += more->zeros;
	sum->mapped += more->mapped;
	sum->duplicates += more->duplicates;
	sum->poisoned += more->poisoned;
	sum->parked += more->parked;
	sum->again += more->again;
	sum->events += more->events;
	sum->stray += more->stray;
	sum->bytes_demand += more->bytes_demand;
	sum->bytes_ahead += more->bytes_ahead;
	sum->bytes_zero += more->bytes_zero;
	for (size_t i = 0; i < GM_PAGER_BUCKETS; i++)
		sum->latency[i] += more->latency[i];
	for (size_t k = 0; k < GM_PAGER_CLASSES; k++) {
		sum->class_ns[k] += more->class_ns[k];
		for (size_t i = 0; i < GM_PAGER_BUCKETS; i++)
			sum->class_latency[k][i] += more->class_latency[k][i];
	}
}

void serve_guest_pages(const struct serve_guest *g, struct gm_pager_area_info *ret)
{
	struct gm_pager_area_info info = {.size = sizeof(info)};

	*ret = info;
	for (uint64_t id = 1; g->pager && gm_pager_area(g->pager, id, &info) == 0; id++) {
		ret->len += info.len;
		ret->absent += info.absent;
		ret->present += info.present;
		ret->removed += info.removed;
		ret->poisoned += info.poisoned;
	}
}

/* ---- the end ---- */

static void count(struct serve *s, struct serve_guest *g)
{
	struct gm_pager_stats stats = {.size = sizeof(stats)};

	if (g->counted || gm_pager_stats(g->pager, &stats))
		return;
	g->counted = true;
	serve_wset_save(s, g);
	serve_add_stats(&s->past, &stats);
	serve_say(s, "ended", &g->record,
		"it has ended after %.1f s: %" PRIu64 " faults, %" PRIu64 " KiB on demand, %" PRIu64
		" KiB ahead",
		tool_now() - g->since, stats.faults, stats.bytes_demand >> 10,
		stats.bytes_ahead >> 10);
}

static void free_guest(struct serve *s, struct serve_guest *g)
{
	close(g->uffd);
	if (g->pidfd >= 0)
		serve_watch(s, g->pidfd, 0, NULL);
	if (g->file >= 0)
		close(g->file);
	if (g->pidfd >= 0)
		close(g->pidfd);
	free(g);
}

/* False: requests are under way yet. */
static bool drop_pager(struct serve *s, struct serve_guest *g)
{
	if (!g->pager)
		return true;
	count(s, g);
	gm_pager_stop(g->pager, GM_PAGER_HANDOVER, 0, NULL);
	if (gm_pager_destroy(g->pager, NULL))
		return false;
	g->pager = NULL;
	s->nr_guests--;
	return true;
}

void serve_guests_sweep(struct serve *s)
{
	struct serve_guest **at = &s->guests;

	while (*at) {
		struct serve_guest *g = *at;

		if (!g->ended || !drop_pager(s, g)) {
			at = &g->next;
			continue;
		}
		serve_keeper_drop(s, g->id);
		*at = g->next;
		free_guest(s, g);
	}
}

/* A guest that all pages are there of, or poisoned, needs nobody any more. */
static bool end_one(struct serve *s, struct serve_guest *g)
{
	bool poison = s->opts.at_end == SERVE_POISON || s->ending > 1;
	struct gm_error err;
	int rc;

	if (!g->pager)
		return true;
	gm_pager_fill(g->pager, GM_PAGER_FILL_ALL, 0);
	rc = gm_pager_stop(g->pager, poison ? GM_PAGER_POISON : GM_PAGER_COMPLETE,
		poison ? POISON_MS : 0, &err);
	if (rc == -ETIMEDOUT && !poison)
		return false;
	if (rc) {
		if (g->said++ < SAY_MAX)
			tool_error("guest %u (process %d): %s", g->record.number, g->record.pid,
				err.text);
		return false;
	}
	/* Its memory is ordinary memory now. */
	g->ended = true;
	return true;
}

bool serve_guests_end(struct serve *s)
{
	bool all = true;

	if (s->opts.at_end == SERVE_HANDOVER && s->ending == 1)
		return true;
	for (struct serve_guest *g = s->guests; g; g = g->next)
		all = (g->ended || end_one(s, g)) && all;
	return all;
}

void serve_guests_free(struct serve *s)
{
	while (s->guests) {
		struct serve_guest *g = s->guests;

		s->guests = g->next;
		while (!drop_pager(s, g))
			gm_pager_step(g->pager, 10);
		free_guest(s, g);
	}
}
