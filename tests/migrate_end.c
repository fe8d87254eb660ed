/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_end.c - the two ends of a migration as processes: see killed_migration.h.
 *
 * Each has a thread that is the guest, when it runs there, and one that steps by poll. Nothing here is an assertion of
 * cmocka: these processes were forked from a test, and must not go on with the next.
 */
#include <dirent.h>
#include <errno.h>
#include <guestmem/guard.h>
#include <guestmem/guestmem.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "killed_migration.h"

#define HIGH_AT (UINT64_C(4) << 30)
#define DEADLINES                                                                                  \
	{                                                                                          \
		.open = 1000, .answer = 500, .work = 1000, .own = 1000, .ping = 100, .line = 300,  \
		.resume = 1000, .linger = 1000                                                     \
	}

struct node {
	struct killed *k;
	enum side side;
	int commands;
	int listener;
	const struct door *door;
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	pthread_t guest;
	bool has_guest;
	pthread_mutex_t lock; /* of @pause and of who becomes the runner */
	bool pause;
	_Atomic bool quit;
	uint32_t fds;
};

void killed_wrong(struct killed *k, const char *format, ...)
{
	va_list args;

	if (atomic_exchange(&k->wrong, 1))
		return;
	va_start(args, format);
	vsnprintf(k->what, sizeof(k->what), format, args);
	va_end(args);
}

static void die(struct node *n, const char *what, int rc)
{
	killed_wrong(n->k, "%s: %s: %d", n->side ? "destination" : "source", what, rc);
	_exit(3);
}

static uint32_t open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

/* ---- memory ---- */

static uint64_t low_pages(const struct killed *k)
{
	return k->pages / 2;
}

static uint64_t gpa_of(const struct killed *k, uint64_t page)
{
	return page < low_pages(k) ? page * PAGE : HIGH_AT + (page - low_pages(k)) * PAGE;
}

static uint64_t word_of(uint64_t page, uint64_t version)
{
	return version ? (page + 1) << 24 | version : 0;
}

static int make_space(struct node *n)
{
	enum memory memory = n->k->plan.memory;
	struct gm_error err = {.code = 0};
	/* Which the thread sanitizer can reserve. */
	int rc = gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36), &n->space, &err);

	for (uint32_t i = 0; !rc && i < 2; i++) {
		struct gm_block_opts block = {.size = sizeof(block), .len = low_pages(n->k) * PAGE};

		if (memory == MEMFD || memory == HUGE)
			block.flags = GM_BLOCK_SHARE;
		if (memory == HUGE || memory == HUGE_PRIVATE)
			block.pages[0] =
				(struct gm_page_choice){.kind = GM_PAGE_HUGETLB, .log2 = 21};
		rc = gm_space_add(n->space,
			GM_OPTS(gm_region_desc, .gpa = i ? HIGH_AT : 0, .backing = &block), NULL,
			&err);
	}
	return rc ? rc : gm_reader_create(n->space, "guest", &n->reader, &err);
}

/* 0; -EILSEQ: another word; or what the access failed with. */
static int touch(struct node *n, uint64_t page, bool write)
{
	const struct gm_view *view = gm_reader_enter(n->reader);
	uint64_t gpa = gpa_of(n->k, page) + page % 500 * 8;
	uint64_t *truth = &n->k->truth[page];
	uint64_t value = 0;
	int rc = gm_read_u64(view, gpa, &value);

	if (!rc && value != word_of(page, *truth))
		rc = -EILSEQ;
	if (!rc && write)
		rc = gm_write_u64(view, gpa, word_of(page, *truth + 1));
	gm_reader_leave(n->reader);
	if (!rc)
		*truth += write;
	return rc;
}

static bool is_named(struct node *n, uint64_t page)
{
	uint64_t gpa = gpa_of(n->k, page);
	uint64_t first;
	uint64_t last;

	return n->in && !gm_migrate_in_lost(n->in, gpa, &first, &last) && first <= gpa &&
	       last >= gpa + PAGE - 1;
}

/* ---- the guest ---- */

static void write_one(struct node *n, struct rng *rng)
{
	uint64_t page = rng_below(rng, n->k->pages);
	int rc;

	/* Half of what it writes goes to a few pages. */
	if (rng_next(rng) & 1)
		page %= 16;
	n->k->at[n->side] = (uint32_t)page;
	rc = touch(n, page, true);
	if (n->k->runner != 1 + (int)n->side)
		killed_wrong(n->k, "the guest ran at the %s, and %d is to run it",
			n->side ? "destination" : "source", n->k->runner);
	if (rc && (rc == -EILSEQ || !is_named(n, page)))
		killed_wrong(n->k, "page %u: %d, at the %s", (unsigned int)page, rc,
			n->side ? "destination" : "source");
	n->k->ends[n->side].writes++;
}

static bool paused(struct node *n)
{
	bool asked;

	pthread_mutex_lock(&n->lock);
	asked = n->pause;
	n->pause = false;
	if (asked) {
		memcpy(n->k->handed, n->k->truth, sizeof(n->k->truth));
		n->k->runner = 0;
	}
	pthread_mutex_unlock(&n->lock);
	return asked;
}

static void *be_guest(void *ctx)
{
	struct node *n = ctx;
	struct rng rng = {n->k->plan.seed + n->side};

	while (!n->quit && !n->k->wrong) {
		if (n->side == AT_SOURCE && n->k->pausing && n->k->plan.trigger == AT_PAUSE)
			nap_us(20000);
		if (n->side == AT_SOURCE && paused(n)) {
			gm_migrate_out_paused(n->out, 0);
			continue;
		}
		if (n->k->runner == 1 + (int)n->side)
			write_one(n, &rng);
		nap_us(200);
	}
	return NULL;
}

/* It is to run here: nobody else may. */
static void run_here(struct node *n)
{
	int nobody = 0;

	pthread_mutex_lock(&n->lock);
	n->pause = false;
	n->k->ends[n->side].runs++;
	if (n->k->runner != 1 + (int)n->side &&
		!atomic_compare_exchange_strong(&n->k->runner, &nobody, 1 + (int)n->side))
		killed_wrong(n->k, "two runners: the %s, and %d",
			n->side ? "destination" : "source", nobody);
	pthread_mutex_unlock(&n->lock);
}

/* ---- what both are told ---- */

static void on_told(void *ctx, const struct gm_migrate_event *event)
{
	struct node *n = ctx;
	struct ended *e = &n->k->ends[n->side];

	if (event->rc && event->tell != GM_MIGRATE_TOLD_PEER) {
		e->rc = event->rc;
		snprintf(e->why, sizeof(e->why), "%s", event->why);
	}
	if (event->tell == GM_MIGRATE_TOLD_PAGES)
		e->lost += (uint32_t)(event->len / PAGE);
	if (event->state >= GM_MIGRATE_IS_HANDED && event->state <= GM_MIGRATE_IS_DOUBT)
		e->handed = 1;
	e->state = event->state;
	e->told[event->tell]++;
}

/* ---- the source ---- */

static int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct node *n = ctx;
	int type = SOCK_STREAM | SOCK_CLOEXEC | (n->k->plan.tcp ? SOCK_NONBLOCK : 0);
	int fd = socket(n->door->at.ss_family, type, 0);

	(void)connection;
	(void)index;
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&n->door->at, n->door->len) &&
		errno != EINPROGRESS) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

static void on_pause(void *ctx)
{
	struct node *n = ctx;

	pthread_mutex_lock(&n->lock);
	n->pause = true;
	pthread_mutex_unlock(&n->lock);
	n->k->pausing = true;
}

static void on_run_here(void *ctx)
{
	struct node *n = ctx;

	/* What it wrote elsewhere is gone with the process that it ran in. */
	if (n->k->forced)
		memcpy(n->k->truth, n->k->handed, sizeof(n->k->truth));
	run_here(n);
}

static uint8_t state_byte(uint32_t i)
{
	return (uint8_t)(i * 7 + i / 1000);
}

static void on_save(void *ctx)
{
	struct node *n = ctx;
	uint32_t len = n->k->plan.state_len;
	uint8_t *state = malloc(len);

	for (uint32_t i = 0; i < len; i++)
		state[i] = state_byte(i);
	if (gm_migrate_out_state(n->out, state, len))
		die(n, "gm_migrate_out_state()", 0);
	free(state);
}

static void make_source(struct node *n)
{
	const struct plan *p = &n->k->plan;
	const struct gm_migrate_out_ops ops = {.size = sizeof(ops),
		.connect = on_connect,
		.pause = on_pause,
		.run = on_run_here,
		.save = on_save,
		.told = on_told,
		.ctx = n};
	const struct gm_migrate_out_opts opts = {.size = sizeof(opts),
		.way = p->way,
		.bulk_plus = 1 + p->bulk,
		.urgent_plus = 1 + p->urgent,
		.rate = p->rate,
		.rounds = p->rounds,
		.downtime_ms = 1,
		.deadlines = DEADLINES};
	struct gm_error err = {.code = 0};
	int rc = make_space(n);

	for (uint64_t page = 0; !rc && page < n->k->pages; page++) {
		if (page % 64 < 40)
			rc = touch(n, page, true);
	}
	n->fds = open_fds();
	if (!rc)
		rc = gm_migrate_out_create(n->space, &opts, &ops, &n->out, &err);
	if (rc)
		die(n, err.text, rc);
	n->k->runner = 1 + AT_SOURCE;
	rc = pthread_create(&n->guest, NULL, be_guest, n);
	n->has_guest = true;
	if (!rc)
		rc = gm_migrate_out_start(n->out, &err);
	if (rc)
		die(n, err.text, rc);
}

/* ---- the destination ---- */

static void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct node *n = ctx;
	int rc = make_space(n);

	if (nr != 2 || regions[1].gpa != HIGH_AT || regions[0].len != low_pages(n->k) * PAGE)
		die(n, "another layout", (int)nr);
	if (rc)
		die(n, "it has no memory", rc);
	gm_migrate_in_prepared(n->in, n->space, 0, NULL);
}

static void on_load(void *ctx, const void *data, size_t len)
{
	struct node *n = ctx;
	const uint8_t *state = data;

	if (len != n->k->plan.state_len)
		killed_wrong(n->k, "the state has %zu bytes", len);
	for (uint32_t i = 0; i < len; i++) {
		if (state[i] != state_byte(i))
			killed_wrong(n->k, "byte %u of the state is wrong", i);
	}
	gm_migrate_in_loaded(n->in, 0, NULL);
}

static void on_run_there(void *ctx)
{
	struct node *n = ctx;
	int rc;

	run_here(n);
	rc = pthread_create(&n->guest, NULL, be_guest, n);
	if (rc)
		die(n, "there is no thread for the guest", rc);
	n->has_guest = true;
	gm_migrate_in_started(n->in, 0);
}

static void make_destination(struct node *n)
{
	const struct gm_migrate_in_ops ops = {.size = sizeof(ops),
		.prepare = on_prepare,
		.load = on_load,
		.run = on_run_there,
		.told = on_told,
		.ctx = n};
	const struct gm_migrate_in_opts opts = {.size = sizeof(opts), .deadlines = DEADLINES};
	struct gm_error err = {.code = 0};
	int rc = gm_guard_install();

	n->fds = open_fds();
	if (!rc)
		rc = gm_migrate_in_create(&opts, &ops, &n->in, &err);
	if (rc)
		die(n, err.text, rc);
}

/* ---- to the end ---- */

static void command(struct node *n, char what)
{
	int rc = 0;

	if (what == DO_RESUME)
		rc = gm_migrate_out_resume(n->out);
	if (what == DO_RECLAIM)
		rc = gm_migrate_out_reclaim(n->out);
	if (what == DO_FORCE)
		rc = gm_migrate_out_force(n->out);
	if (what == DO_GIVE_UP)
		rc = gm_migrate_in_give_up(n->in, -EIO);
	if (rc)
		n->k->ends[n->side].no++;
}

static int step(struct node *n, int timeout_ms)
{
	return n->out ? gm_migrate_out_step(n->out, timeout_ms)
		      : gm_migrate_in_step(n->in, timeout_ms);
}

static void step_until_quit(struct node *n)
{
	struct pollfd fds[3] = {{.fd = n->commands, .events = POLLIN},
		{.fd = n->out ? gm_migrate_out_fd(n->out) : gm_migrate_in_fd(n->in),
			.events = POLLIN},
		{.fd = n->listener, .events = POLLIN}};
	char what = 0;

	while (what != DO_QUIT) {
		int rc;

		(void)poll(fds, 3, -1);
		if (fds[0].revents && read(n->commands, &what, 1) != 1)
			_exit(4);
		if (fds[0].revents)
			command(n, what);
		if (fds[2].revents) {
			int fd = accept(n->listener, NULL, NULL);

			if (fd >= 0)
				(void)gm_migrate_in_connection(n->in, fd);
		}
		rc = step(n, 0);
		if (rc)
			die(n, "a step", rc);
	}
}

static void waits_for_ever(struct node *n)
{
	struct gm_pager_stats p = {.size = sizeof(p)};
	struct gm_migrate_stats m = {.size = sizeof(m)};

	if (n->in && gm_migrate_in_pager(n->in))
		gm_pager_stats(gm_migrate_in_pager(n->in), &p);
	if (n->in)
		gm_migrate_in_stats(n->in, &m);
	killed_wrong(n->k,
		"the guest waits for ever: page %u, %u, %u left; pager: all at %u, %u faults, %u "
		"loaded, %u pushed, %u parked, %u again",
		n->k->at[n->side], m.state, (unsigned int)m.left, (unsigned int)p.all_ns,
		(unsigned int)p.faults, (unsigned int)p.loaded, (unsigned int)p.bytes_pushed,
		(unsigned int)p.parked, (unsigned int)p.again);
	_exit(7);
}

/* It may wait for a page until a step. */
static void still(struct node *n)
{
	uint64_t until = now_ns() + 10000 * MSEC;

	n->quit = true;
	while (n->has_guest && pthread_tryjoin_np(n->guest, NULL)) {
		int rc = step(n, 1);

		if (rc)
			die(n, "a step", rc);
		if (now_ns() > until)
			waits_for_ever(n);
	}
}

/* Each page is what the guest wrote last, or, at a destination that has given up, poisoned and named. */
static void check_pages(struct node *n)
{
	struct ended *e = &n->k->ends[n->side];

	for (uint64_t page = 0; page < n->k->pages; page++) {
		bool named = is_named(n, page);
		int rc = touch(n, page, false);

		e->poisoned += rc && rc != -EILSEQ;
		if (rc == -EILSEQ || !rc == named)
			killed_wrong(n->k, "page %u at the %s: %d, %s", (unsigned int)page,
				n->side ? "destination" : "source", rc,
				named ? "named" : "not named");
	}
	if (n->in && e->state == GM_MIGRATE_IS_ENDED && e->poisoned)
		killed_wrong(n->k, "it ended well without %u pages", e->poisoned);
	if (e->poisoned != e->lost)
		killed_wrong(n->k, "%u pages are poisoned, %u were told", e->poisoned, e->lost);
}

static void check_source(struct node *n)
{
	struct ended *e = &n->k->ends[AT_SOURCE];
	bool here = e->state >= GM_MIGRATE_IS_CANCELLED && e->state <= GM_MIGRATE_IS_RECLAIMED;
	uint32_t writes = e->writes;
	uint64_t until = now_ns() + 20000 * MSEC;

	while (here && e->writes < writes + 20 && !n->k->wrong && now_ns() < until)
		nap_us(1000);
	if (here && e->writes < writes + 20)
		killed_wrong(n->k, "the guest does not go on at the source");
	still(n);
	if (here)
		check_pages(n);
}

static void leave(struct node *n)
{
	struct ended *e = &n->k->ends[n->side];
	struct gm_migrate_stats stats = {.size = sizeof(stats)};
	bool doubt = e->state == GM_MIGRATE_IS_DOUBT;
	int rc;

	rc = n->out ? gm_migrate_out_stats(n->out, &stats) : gm_migrate_in_stats(n->in, &stats);
	if (rc || stats.state != e->state)
		killed_wrong(n->k, "the %s is %u, and told %u", n->side ? "destination" : "source",
			stats.state, e->state);
	e->stray = (uint32_t)stats.stray;
	rc = n->out ? gm_migrate_out_destroy(n->out) : gm_migrate_in_destroy(n->in);
	if (rc != (doubt ? -EBUSY : 0))
		killed_wrong(n->k, "destroyed: %d", rc);
	if (!doubt && open_fds() != n->fds && n->out)
		killed_wrong(n->k, "a descriptor is left at the source");
	if (!doubt) {
		gm_reader_destroy(n->reader);
		if (n->space)
			gm_space_destroy(n->space);
	}
	if (!doubt && n->in && open_fds() != n->fds)
		killed_wrong(n->k, "a descriptor is left at the destination");
	_exit(0);
}

void be_source(struct killed *k, int commands, const struct door *door)
{
	struct node n = {.k = k,
		.side = AT_SOURCE,
		.commands = commands,
		.listener = -1,
		.door = door,
		.lock = PTHREAD_MUTEX_INITIALIZER};

	make_source(&n);
	step_until_quit(&n);
	check_source(&n);
	leave(&n);
	_exit(0);
}

void be_destination(struct killed *k, int commands, int listener)
{
	struct node n = {.k = k,
		.side = AT_DESTINATION,
		.commands = commands,
		.listener = listener,
		.lock = PTHREAD_MUTEX_INITIALIZER};

	make_destination(&n);
	step_until_quit(&n);
	still(&n);
	if (k->ends[AT_DESTINATION].runs)
		check_pages(&n);
	leave(&n);
	_exit(0);
}
