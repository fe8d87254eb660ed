/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migration_parts.h - a guest that is moved within a process: two spaces, both ends, a thread that steps each, and one
 * that is the guest. It counts in words of random pages, wherever it runs, and says no if one is not what it wrote
 * last.
 */
#ifndef GM_TESTS_MIGRATION_PARTS_H
#define GM_TESTS_MIGRATION_PARTS_H

#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

#define PAGE UINT64_C(4096)
#define REGIONS 2u
#define LOW_AT UINT64_C(0)
#define HIGH_AT GIB(4)
#define STATE_TEXT "device state, opaque to whoever carries it"
#define SECONDS 20u

static struct gm_error err;

enum kind { KIND_ANON, KIND_THP, KIND_MEMFD, KIND_HUGE, KIND_HUGE_ANON, KINDS };

/* Where the guest runs. */
enum where { AT_SOURCE, NOWHERE, AT_DESTINATION };

struct move_opts {
	enum kind kind;
	enum kind to; /* KIND_ANON too: as @kind */
	uint64_t low; /* bytes of the two regions */
	uint64_t high;
	bool tcp;
	bool idle;  /* the guest writes nothing */
	bool slow;  /* it waits between writes, at the destination */
	bool still; /* it does nothing at all there */
	uint64_t state_len;
	int (*socket_at)(int side); /* of TCP; NULL: wherever we are */
	uint32_t address;           /* of the destination; 0: loopback */
	struct gm_migrate_out_opts out;
	struct gm_migrate_in_opts in;
};

struct move {
	struct move_opts o;
	struct gm_space *spaces[2];
	struct gm_reader *readers[2];
	uint64_t *truth; /* a word for each page */
	uint64_t pages;
	struct gm_migrate_out *out;
	struct gm_migrate_in *in;
	pthread_t guest;
	pthread_t steps[2];
	_Atomic int where;
	_Atomic bool pause;
	_Atomic bool quit;
	_Atomic bool quit_steps;
	_Atomic uint64_t wrong; /* 1 + page */
	_Atomic uint64_t writes[2];
	_Atomic uint32_t told[2][16]; /* how often */
	_Atomic uint32_t states[2];
	_Atomic int codes[2];
	_Atomic uint32_t runs_here; /* times the source was told to go on */
	_Atomic int step_rc[2];
	uint8_t *state;
	_Atomic bool state_right;
	int listener;
	uint16_t port;
	int pairs[64]; /* the source's ends, to be cut; the destination's */
	int peers[64];
	void (*at_handed)(struct move *m); /* in the thread that steps the destination */
	void (*at_load)(struct move *m);
	_Atomic uint32_t nr_pairs;
	uint64_t pages_lost;
	int prepare_rc;
	int load_rc;
	int start_rc;
	_Atomic bool refuse; /* connections */
	bool by_fd;          /* memory came by descriptors */
	uint64_t page_size;  /* that the destination was told */
};

/* ---- memory ---- */

static inline struct gm_block_opts block_of(enum kind kind, uint64_t len)
{
	struct gm_block_opts o = {.size = sizeof(o), .len = len};

	if (kind == KIND_MEMFD || kind == KIND_HUGE)
		o.flags = GM_BLOCK_SHARE;
	if (kind == KIND_HUGE || kind == KIND_HUGE_ANON)
		o.pages[0] = (struct gm_page_choice){.kind = GM_PAGE_HUGETLB, .log2 = 21};
	if (kind == KIND_THP)
		o.pages[0] = (struct gm_page_choice){.kind = GM_PAGE_THP};
	return o;
}

static inline struct gm_space *make_space(enum kind kind, uint64_t low, uint64_t high)
{
	struct gm_space *space;
	const uint64_t at[REGIONS] = {LOW_AT, HIGH_AT};
	const uint64_t len[REGIONS] = {low, high};

	/* Which the thread sanitizer can reserve. */
	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36), &space, &err));
	for (uint32_t i = 0; i < REGIONS; i++) {
		struct gm_block_opts block = block_of(kind, len[i]);

		if (len[i])
			assert_ok(gm_space_add(space,
				GM_OPTS(gm_region_desc, .gpa = at[i], .backing = &block), NULL,
				&err));
	}
	return space;
}

static inline struct gm_space *space_of_fds(const struct gm_migrate_in_region *regions, size_t nr)
{
	struct gm_space *space;

	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = UINT64_C(1) << 36), &space, &err));
	for (size_t i = 0; i < nr; i++) {
		struct gm_block_opts block = {.size = sizeof(block),
			.len = regions[i].len,
			.backing = GM_BACKING_FD,
			.fd = regions[i].fd_plus - 1,
			.offset = regions[i].fd_off};

		assert_true(regions[i].fd_plus > 0);
		assert_ok(gm_space_add(space,
			GM_OPTS(gm_region_desc, .gpa = regions[i].gpa, .backing = &block), NULL,
			&err));
	}
	return space;
}

static inline uint64_t gpa_of(const struct move *m, uint64_t page)
{
	return page < m->o.low / PAGE ? LOW_AT + page * PAGE
				      : HIGH_AT + (page - m->o.low / PAGE) * PAGE;
}

/* ---- the guest ---- */

/* A word that says which page it is, and the how manieth it is. */
static inline uint64_t word_of(uint64_t page, uint64_t version)
{
	return version ? (page + 1) << 24 | version : 0;
}

static inline bool touch(struct move *m, int side, uint64_t page, bool write)
{
	const struct gm_view *view = gm_reader_enter(m->readers[side]);
	uint64_t gpa = gpa_of(m, page) + page % 500 * 8;
	uint64_t value = 0;
	int rc = gm_read_u64(view, gpa, &value);

	if (!rc && value == word_of(page, m->truth[page]) && write)
		rc = gm_write_u64(view, gpa, word_of(page, m->truth[page] + 1));
	else if (!rc && value != word_of(page, m->truth[page]))
		rc = -EILSEQ;
	gm_reader_leave(m->readers[side]);
	if (rc)
		return false;
	m->truth[page] += write;
	m->writes[side] += write;
	return true;
}

static inline void *be_guest(void *ctx)
{
	struct move *m = ctx;
	struct rng rng = {test_seed(42)};

	while (!m->quit && !m->wrong) {
		int where = m->where;
		uint64_t page = rng_below(&rng, m->pages);

		if (m->pause && where == AT_SOURCE) {
			m->where = NOWHERE;
			m->pause = false;
			gm_migrate_out_paused(m->out, 0);
			continue;
		}
		if (where == NOWHERE || (m->o.idle && where == AT_SOURCE) ||
			(m->o.still && where == AT_DESTINATION)) {
			sched_yield();
			continue;
		}
		/* Half of what it writes goes to a few pages. */
		if (rng_next(&rng) & 1)
			page %= 16;
		if (!touch(m, where == AT_DESTINATION, page, true))
			m->wrong = page + 1;
		if (where == AT_DESTINATION && m->o.slow)
			nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
		if (where == AT_SOURCE && rng_below(&rng, 64) == 0)
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	return NULL;
}

/* ---- the embedders ---- */

static inline int socket_at(const struct move *m, int side)
{
	return m->o.socket_at ? m->o.socket_at(side)
			      : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline struct sockaddr_in address_of(const struct move *m)
{
	uint32_t address = m->o.address ? m->o.address : INADDR_LOOPBACK;

	return (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons(m->port),
		.sin_addr.s_addr = htonl(address)};
}

static inline int connect_tcp(struct move *m, int fds[2])
{
	struct sockaddr_in at = address_of(m);

	fds[0] = socket_at(m, 0);
	if (fds[0] < 0 || connect(fds[0], (struct sockaddr *)&at, sizeof(at)))
		return -errno;
	fds[1] = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC);
	return fds[1] < 0 ? -errno : 0;
}

static inline int on_connect(void *ctx, uint32_t connection, uint32_t index, int *ret_fd)
{
	struct move *m = ctx;
	int fds[2];
	int rc = 0;

	(void)connection;
	(void)index;
	if (m->refuse)
		return -ECONNREFUSED;
	if (m->o.tcp)
		rc = connect_tcp(m, fds);
	else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		rc = -errno;
	if (rc)
		return rc;
	m->pairs[m->nr_pairs] = dup(fds[0]);
	m->peers[m->nr_pairs] = dup(fds[1]);
	m->nr_pairs++;
	rc = gm_migrate_in_connection(m->in, fds[1]);
	if (rc)
		close(fds[0]);
	*ret_fd = fds[0];
	return rc;
}

static inline void on_pause(void *ctx)
{
	((struct move *)ctx)->pause = true;
}

static inline void on_run_here(void *ctx)
{
	struct move *m = ctx;

	m->pause = false;
	m->runs_here++;
	m->where = AT_SOURCE;
}

static inline void on_save(void *ctx)
{
	struct move *m = ctx;

	gm_migrate_out_state(m->out, m->state, m->o.state_len);
}

static inline void note(struct move *m, int side, const struct gm_migrate_event *event)
{
	m->told[side][event->tell]++;
	m->states[side] = event->state;
	if (event->rc)
		m->codes[side] = event->rc;
}

static inline void on_told_out(void *ctx, const struct gm_migrate_event *event)
{
	note(ctx, 0, event);
}

static inline void on_told_in(void *ctx, const struct gm_migrate_event *event)
{
	struct move *m = ctx;

	if (event->tell == GM_MIGRATE_TOLD_PAGES)
		m->pages_lost += event->len / PAGE;
	note(m, 1, event);
	if (event->tell == GM_MIGRATE_TOLD_STATE && event->state == GM_MIGRATE_IS_HANDED &&
		m->at_handed) {
		void (*then)(struct move *) = m->at_handed;

		m->at_handed = NULL;
		then(m);
	}
}

static inline void on_prepare(void *ctx, const struct gm_migrate_in_region *regions, size_t nr)
{
	struct move *m = ctx;
	enum kind kind = m->o.to ? m->o.to : m->o.kind;

	if (m->prepare_rc) {
		gm_migrate_in_prepared(m->in, NULL, m->prepare_rc, "the test has no memory");
		return;
	}
	m->by_fd = regions[0].fd_plus != 0;
	m->page_size = regions[0].page_size;
	m->spaces[1] = m->by_fd ? space_of_fds(regions, nr) : make_space(kind, m->o.low, m->o.high);
	assert_ok(gm_reader_create(m->spaces[1], "there", &m->readers[1], &err));
	gm_migrate_in_prepared(m->in, m->spaces[1], 0, NULL);
}

static inline void on_load(void *ctx, const void *data, size_t len)
{
	struct move *m = ctx;

	m->state_right = len == m->o.state_len && memcmp(data, m->state, len) == 0;
	if (m->at_load)
		m->at_load(m);
	gm_migrate_in_loaded(m->in, m->load_rc, m->load_rc ? "the test does not load it" : NULL);
}

static inline void on_run_there(void *ctx)
{
	struct move *m = ctx;

	if (!m->start_rc)
		m->where = AT_DESTINATION;
	gm_migrate_in_started(m->in, m->start_rc);
}

static inline void *step_out(void *ctx)
{
	struct move *m = ctx;

	while (!m->quit_steps && !m->step_rc[0])
		m->step_rc[0] = gm_migrate_out_step(m->out, 20);
	return NULL;
}

static inline void *step_in(void *ctx)
{
	struct move *m = ctx;

	while (!m->quit_steps && !m->step_rc[1])
		m->step_rc[1] = gm_migrate_in_step(m->in, 20);
	return NULL;
}

#endif
