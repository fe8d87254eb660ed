/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * one_clone.h - a guest that is cloned within a process: its space, a pager that steps, a thread that is the guest, and
 * destinations with a thread each that steps, and one that is their guest. What the memory was at the pause is kept
 * aside: each page of each clone is compared with it when it is first touched, and diverges from there.
 */
#ifndef GM_TESTS_ONE_CLONE_H
#define GM_TESTS_ONE_CLONE_H

#include "clone_place.h"
#include "one_migration.h"

#include <guestmem/discard.h>
#include <guestmem/migrate_clone.h>
#include <guestmem/pager_run.h>

#define MOST GM_MIGRATE_CLONES_MAX
#define MORE_AT GIB(8)

struct clones;

struct clone_opts {
	enum kind kind;
	uint64_t low;
	uint64_t high;
	uint32_t nr;
	bool idle;       /* the guest writes nothing at the source */
	bool idle_there; /* nor at the destinations */
	bool no_pager;   /* nobody steps it */
	bool discards;   /* the guest at the source gives memory back */
	bool may_lose;   /* a guest at a destination meets pages that are lost */
	uint64_t more;   /* bytes that a test adds to the source's space, at MORE_AT */
	uint32_t tcp;    /* bits of destinations that are reached so; others by a pair of sockets */
	uint32_t local;  /* and those by a socket that is listened at */
	/* This destination is another process, which shares the memory that the instant is kept in. */
	const struct place *apart;
	uint32_t apart_at;
	uint8_t *instant;
	struct gm_migrate_clone_opts clone;
};

/* A destination. */
struct there {
	struct clones *c;
	uint32_t number;
	struct place place; /* listener -1: none */
	bool apart;
	struct gm_migrate_in *in;
	struct gm_space *space;
	struct gm_reader *reader;
	uint8_t *own; /* what its memory has to be */
	pthread_t step;
	pthread_t guest;
	_Atomic bool runs;
	_Atomic bool quit;
	_Atomic bool quit_step;
	_Atomic bool stall;   /* nothing is stepped */
	_Atomic bool parked;  /* and who steps knows it */
	bool stall_when_runs; /* as soon as its guest may run */
	_Atomic bool state_right;
	_Atomic uint64_t wrong; /* 1 + page */
	_Atomic uint64_t writes;
	_Atomic uint32_t told[16];
	_Atomic uint32_t told_source[16];
	_Atomic uint32_t is;
	_Atomic uint32_t source_is;
	_Atomic int source_rc;
	_Atomic uint64_t pages_lost;
	_Atomic int step_rc;
	int prepare_rc;
	int load_rc;
	int start_rc;
	_Atomic bool refuse;
	int pairs[64]; /* the source's ends, to be cut; and the destination's, -1 if it is apart */
	int peers[64];
	_Atomic uint32_t nr_pairs;
};

struct clones {
	struct clone_opts o;
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_pager *pager;
	struct gm_migrate_clone *clone;
	uint64_t pages;
	uint64_t *truth;  /* words of the source's pages */
	uint8_t *instant; /* all of it at the pause */
	pthread_t pager_thread;
	pthread_t step;
	pthread_t guest;
	_Atomic bool idle;  /* the guest writes nothing */
	_Atomic bool stall; /* nothing is stepped */
	bool stall_at_once; /* as soon as the guest goes on: no page has gone */
	_Atomic bool pause;
	_Atomic bool runs;
	_Atomic bool quit;
	_Atomic bool quit_step;
	_Atomic uint64_t wrong;
	_Atomic uint64_t writes;
	_Atomic uint32_t told[16]; /* of all */
	_Atomic int code;
	_Atomic int step_rc;
	_Atomic uint32_t paused; /* times */
	_Atomic uint32_t resumed;
	int pause_rc;
	bool state_fails;
	char why[128];
	struct there there[MOST];
};

static inline uint64_t at_page(const struct clones *c, uint64_t page)
{
	return page < c->o.low / PAGE ? LOW_AT + page * PAGE
				      : HIGH_AT + (page - c->o.low / PAGE) * PAGE;
}

static inline int read_page(struct gm_reader *reader, uint64_t gpa, uint8_t *to)
{
	int rc = gm_read(gm_reader_enter(reader), gpa, to, PAGE, NULL);

	gm_reader_leave(reader);
	return rc;
}

/* ---- the guest at the source ---- */

static inline bool touch_source(struct clones *c, uint64_t page, bool write)
{
	const struct gm_view *view = gm_reader_enter(c->reader);
	uint64_t gpa = at_page(c, page) + page % 500 * 8;
	uint64_t value = 0;
	int rc = gm_read_u64(view, gpa, &value);

	if (!rc && value != word_of(page, c->truth[page]))
		rc = -EILSEQ;
	if (!rc && write)
		rc = gm_write_u64(view, gpa, word_of(page, c->truth[page] + 1));
	gm_reader_leave(c->reader);
	if (rc)
		return false;
	c->truth[page] += write;
	c->writes += write;
	return true;
}

static inline void keep_instant(struct clones *c)
{
	for (uint64_t page = 0; page < c->pages; page++)
		if (read_page(c->reader, at_page(c, page), c->instant + page * PAGE))
			c->wrong = page + 1;
	for (uint32_t i = 0; i < c->o.nr; i++)
		memcpy(c->there[i].own, c->instant, c->pages * PAGE);
}

/* Pages of a region, of huge ones whole ones, become zeros, unless there is no room for copies. */
static inline bool discard_some(struct clones *c, struct rng *rng)
{
	uint64_t unit = c->o.kind >= KIND_HUGE ? 512 : 1;
	uint64_t low = c->o.low / PAGE;
	bool high = rng_below(rng, 2);
	uint64_t pages = high ? c->pages - low : low;
	uint64_t first = rng_below(rng, pages) / unit * unit;
	uint64_t nr = unit > 1 ? unit : 1 + rng_below(rng, 32);
	int rc;

	nr = nr < pages - first ? nr : pages - first;
	rc = gm_discard(c->space, (high ? HIGH_AT : LOW_AT) + first * PAGE, nr * PAGE,
		GM_DISCARD_NOW, 0, NULL, NULL);
	if (!rc)
		memset(c->truth + (high ? low : 0) + first, 0, nr * sizeof(*c->truth));
	return !rc || rc == -EBUSY;
}

static inline void add_more(struct gm_space *space, uint64_t len)
{
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = MORE_AT,
			.backing = GM_OPTS(gm_block_opts, .len = len)),
		NULL, &err));
}

static inline void *be_source(void *ctx)
{
	struct clones *c = ctx;
	struct rng rng = {test_seed(43)};

	while (!c->quit && !c->wrong) {
		uint64_t page = rng_below(&rng, c->pages);

		if (c->pause) {
			c->runs = false;
			c->pause = false;
			keep_instant(c);
			gm_migrate_clone_paused(c->clone, c->pause_rc);
			continue;
		}
		if (!c->runs || c->idle) {
			sched_yield();
			continue;
		}
		if (!touch_source(c, page, true))
			c->wrong = page + 1;
		if (c->o.discards && rng_below(&rng, 32) == 0 && !discard_some(c, &rng))
			c->wrong = page + 1;
		if (rng_below(&rng, 16) == 0)
			sched_yield();
	}
	return NULL;
}

/* ---- a guest at a destination ---- */

static inline bool touch_there(struct there *t, uint64_t page, bool write)
{
	uint64_t gpa = at_page(t->c, page);
	uint8_t *own = t->own + page * PAGE;
	uint64_t word = (t->number + 1) * UINT64_C(0x0101010101010101) + page;
	uint8_t now[PAGE];
	int rc = read_page(t->reader, gpa, now);

	if (rc)
		return t->c->o.may_lose;
	if (memcmp(now, own, PAGE) != 0)
		return false;
	if (!write)
		return true;
	memcpy(own + page % 512 * 8, &word, 8);
	rc = gm_write_u64(gm_reader_enter(t->reader), gpa + page % 512 * 8, word);
	gm_reader_leave(t->reader);
	t->writes++;
	return !rc;
}

static inline void *be_there(void *ctx)
{
	struct there *t = ctx;
	struct rng rng = {test_seed(100 + t->number)};

	while (!t->quit && !t->wrong) {
		uint64_t page = rng_below(&rng, t->c->pages);

		if (!t->runs || t->c->o.idle_there) {
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
			continue;
		}
		if (!touch_there(t, page, rng_next(&rng) & 1))
			t->wrong = page + 1;
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
	return NULL;
}

/* ---- the embedders ---- */

static inline int to_there(
	void *ctx, uint32_t clone, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct there *t = &((struct clones *)ctx)->there[clone];
	int fds[2];
	int rc;

	(void)connection;
	(void)index;
	if (t->refuse)
		return -ECONNREFUSED;
	rc = connect_to(&t->place, t->apart, fds);
	if (rc)
		return rc;
	t->pairs[t->nr_pairs] = dup(fds[0]);
	t->peers[t->nr_pairs] = t->apart ? -1 : dup(fds[1]);
	t->nr_pairs++;
	rc = t->apart ? 0 : gm_migrate_in_connection(t->in, fds[1]);
	if (rc)
		close(fds[0]);
	else
		*ret_fd = fds[0];
	return rc;
}

static inline void to_pause(void *ctx)
{
	struct clones *c = ctx;

	c->paused++;
	c->pause = true;
}

/* Without memory for the state there is nothing to be cloned. */
static inline void to_save(void *ctx)
{
	struct clones *c = ctx;
	int rc = c->state_fails ? 0
				: gm_migrate_clone_state(c->clone, STATE_TEXT, sizeof(STATE_TEXT));

	if (rc)
		assert_int_equal(gm_migrate_clone_cancel(c->clone, rc), 0);
}

static inline void to_run(void *ctx)
{
	struct clones *c = ctx;

	c->pause = false;
	c->resumed++;
	c->stall = c->stall_at_once;
	c->runs = true;
}

static inline void to_tell(void *ctx, uint32_t clone, const struct gm_migrate_event *event)
{
	struct clones *c = ctx;

	if (clone == GM_MIGRATE_CLONE_ALL) {
		c->code = event->rc;
		strncpy(c->why, event->why, sizeof(c->why) - 1);
		c->told[event->tell]++;
		return;
	}
	c->there[clone].source_is = event->state;
	if (event->rc)
		c->there[clone].source_rc = event->rc;
	c->there[clone].told_source[event->tell]++;
}

static inline void there_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct there *t = ctx;

	(void)regions;
	(void)nr;
	if (t->prepare_rc) {
		gm_migrate_in_prepared(t->in, NULL, t->prepare_rc, "the test has no memory");
		return;
	}
	t->space = make_space(t->c->o.kind, t->c->o.low, t->c->o.high);
	if (t->c->o.more)
		add_more(t->space, t->c->o.more);
	assert_ok(gm_reader_create(t->space, "there", &t->reader, &err));
	gm_migrate_in_prepared(t->in, t->space, 0, NULL);
}

static inline void there_load(void *ctx, const void *data, size_t len)
{
	struct there *t = ctx;

	t->state_right = len == sizeof(STATE_TEXT) && memcmp(data, STATE_TEXT, len) == 0;
	gm_migrate_in_loaded(t->in, t->load_rc, t->load_rc ? "the test does not load it" : NULL);
}

static inline void there_run(void *ctx)
{
	struct there *t = ctx;

	t->runs = !t->start_rc;
	gm_migrate_in_started(t->in, t->start_rc);
}

static inline void there_told(void *ctx, const struct gm_migrate_event *event)
{
	struct there *t = ctx;

	if (event->tell == GM_MIGRATE_TOLD_PAGES)
		t->pages_lost += event->len / PAGE;
	t->is = event->state;
	if (event->tell == GM_MIGRATE_TOLD_STATE && event->state == GM_MIGRATE_IS_POSTCOPY)
		t->stall |= t->stall_when_runs;
	t->told[event->tell]++;
}

#endif
