/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager.h - what the files of the pager share.
 *
 * Locks: the pager's (lists of areas, ranges to prefetch), then a userfaultfd's (installations share it; events and
 * where areas lie have it alone). None is held while a source is read or an embedder is called.
 */
#ifndef GM_SERVICES_PAGER_H
#define GM_SERVICES_PAGER_H

#include <guestmem/pager.h>
#include <guestmem/pager_run.h>
#include <linux/userfaultfd.h>
#include <pthread.h>

#include "core/pagestate.h"
#include "core/range.h"
#include "memory/block.h"
#include "services/wset.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define PAGER_MSGS 64u
#define PAGER_STEP_LEN                                                                             \
	(64u << 10) /* of filling ahead: the first after a fault, and by what each grows */

#define PAGER_IN(state) (1u << (state))
#define PAGER_ABSENT_STATES                                                                        \
	(PAGER_IN(GM_PAGE_ABSENT) | PAGER_IN(GM_PAGE_LOADING) | PAGER_IN(GM_PAGE_FILLED) |         \
		PAGER_IN(GM_PAGE_DROPPED))

struct pager_uffd;
struct pager_place;
struct pager_taker;

/* What is waited for begins with it. */
enum pager_kind { PAGER_KICK, PAGER_TIMER, PAGER_UFFD, PAGER_SOURCE };

/* A source, once for all areas that have it. Belongs to who steps, if it waits. */
struct pager_source {
	enum pager_kind kind;
	struct pager_source *next;
	struct gm_source *source;
	int fd; /* -1: it reads at once */
};

/* An area as it was added: pages by number. Where they lie now is for its spots to say. */
struct pager_area {
	struct pager_area *next;
	struct pager_uffd *uffd; /* NULL: GM_PAGER_MAP */
	struct gm_pager *pager;  /* of GM_PAGER_MAP */
	uint64_t id;
	struct pager_source *source; /* NULL: the bytes are in the file */
	uint64_t offset;
	uint64_t page; /* bytes, a power of two */
	uint64_t nr;   /* pages */
	uint64_t *states;
	uint64_t states_len;
	uint64_t addr;
	uint64_t gpa;
	struct gm_space *space; /* whose memory it is, or NULL */
	struct gm_block *block; /* reference, or NULL */
	uint64_t block_off;
	uint32_t way;
	uint32_t flags;
	int fd; /* the file behind the memory, or -1; of GM_PAGER_MAP what watches it */
	uint64_t fd_off;
	uint8_t *file;             /* second mapping, or NULL */
	bool huge;                 /* explicit huge pages */
	bool wp;                   /* atomic: registered for write protection too */
	struct pager_taker *taker; /* or NULL; with the userfaultfd's lock */
	uint32_t taking;           /* atomic: calls of it that are under way */
	bool shared;
	struct pager_area *twin; /* atomic: the same bytes, mapped once more; or NULL */
	bool second;             /* states are the twin's */
	bool borrowed;           /* file and fd are of the area that a fork copied */
	uint64_t cursor;         /* of filling all; who steps */
	bool gone; /* of GM_PAGER_MAP, with the pager's mapping lock: a commit took some of it */
	/* The source's file, mapped, if it is one: copied from without reading. */
	const uint8_t *raw;
	int raw_fd;
	uint64_t raw_off;                /* byte of the file at the area's first */
	struct gm_source_extent extent;  /* the last that who steps was told; len 0: none */
	struct gm_wset_recorder *record; /* atomic; set once, a reference */
	char why[128];
};

/* Where pages of an area lie: nodes of a sorted array, cut and moved by events. */
struct pager_spot {
	uint64_t start;
	uint64_t nr;    /* pages */
	uint64_t first; /* page of the area */
	struct pager_area *area;
	uint64_t dropped; /* what the last event dropped, pages of the area: to be told */
	uint64_t nr_dropped;
};

struct pager_uffd {
	enum pager_kind kind;
	struct pager_uffd *next;
	struct gm_pager *pager;
	int fd;
	int pid;
	uint64_t id;
	bool local;            /* memory of this process */
	bool sigbus;           /* no messages */
	bool poison;           /* the kernel can */
	bool wp;               /* it can write-protect */
	bool wp_continue;      /* and continue pages protected */
	uint32_t dead;         /* atomic: its process is gone */
	pthread_rwlock_t lock; /* shared: installing; alone: events, and where areas lie */
	struct pager_spot *spots;
	size_t nr_spots;
	size_t room;
	struct gm_range held; /* being discarded by our own space; no installation */
	bool is_held;
	bool rewake; /* with the pager's lock: waiters were forgotten, wake them all */
};

/* Pages that are wanted, or under way. */
struct pager_run {
	struct pager_area *area;
	uint64_t first;
	uint64_t nr;
	uint64_t since; /* ns, when the fault was read; 0: nobody waits */
	bool raw;       /* all of it lies in the mapped file */
	bool write;     /* its write protection is in somebody's way */
	uint8_t sort;   /* enum gm_pager_class, when it is brought */
};

struct pager_load {
	struct gm_source_read read;
	struct gm_pager *pager;
	struct pager_load *next; /* free */
	struct pager_run run;
	uint8_t *buf;
};

struct pager_parked {
	struct pager_run run;
	uint32_t tries;
	bool single; /* page by page, as all of it failed */
};

struct pager_ahead {
	struct pager_area *area;
	uint64_t first;
	uint64_t nr;
};

/*
 * What was last read. An event of it that has been applied is cleared, so whoever takes over a journal in a file knows
 * what is still to be done: the kernel tells an event once.
 */
struct pager_journal {
	uint64_t uffd; /* number */
	uint64_t reserved;
	struct uffd_msg msgs[PAGER_MSGS];
};

struct gm_pager {
	struct gm_pager_opts opts;
	pthread_mutex_t lock;
	pthread_mutex_t resolving; /* the buffer of who resolves */
	pthread_mutex_t
		mapping; /* what is done to a mapping of GM_PAGER_MAP, so that it stays meanwhile */
	struct pager_uffd *uffds; /* atomic; only grows */
	struct pager_area *areas; /* atomic; only grows */
	struct pager_source *sources;
	struct gm_pager_space *spaces;
	uint64_t ids;
	uint64_t area_ids;
	int epoll;
	int kick;
	int timer;
	enum pager_kind kick_kind;
	enum pager_kind timer_kind;
	uint32_t stepping; /* atomic */
	uint32_t quit;     /* atomic */
	bool stopped;
	/* Of who steps: */
	void *bufs_map; /* with what aligns them */
	uint8_t *bufs;  /* of step, resolve, then of each load */
	uint64_t bufs_len;
	const uint8_t *zeros;
	struct pager_load *loads;
	struct pager_load *free;
	uint32_t under_way;
	uint64_t step_len;
	uint64_t tokens; /* bytes that may be filled ahead */
	uint64_t tokens_at;
	uint64_t begun;
	uint64_t now;             /* when faults were last read */
	uint64_t look_at;         /* when the rest is counted again */
	bool look_armed;          /* the timer strikes then, or before */
	bool filling;             /* the last step did some */
	struct pager_uffd *burst; /* had the last fault; NULL: there was none in this turn */
	uint32_t in_a_row;
	uint32_t spin_skip; /* faults after which it is not looked for the next */
	uint32_t spin_lost; /* how many it was when it was in vain last; 0: it was not */
	uint32_t spin_credit;
	struct pager_journal *journal; /* its own, or mapped */
	struct pager_journal own;
	/* With the lock: */
	uint64_t timer_at; /* when it strikes, 0: never */
	struct pager_parked *parked;
	uint32_t nr_parked;
	struct pager_ahead *ahead;
	uint32_t ahead_first;
	uint32_t nr_ahead;
	struct gm_pager_plan *plans; /* who steps has the first */
	uint32_t fill;
	uint64_t rate;
	struct gm_pager_stats stats; /* relaxed */
};

static inline void pager_count(uint64_t *what, uint64_t n)
{
	__atomic_fetch_add(what, n, __ATOMIC_RELAXED);
}

/* The byte of the image, of which working sets are, at an area's first. */
static inline uint64_t gm_pager_image_off(const struct pager_area *area)
{
	return area->source || area->way == GM_PAGER_MAP ? area->offset : area->fd_off;
}

/* Somebody wants the page of @run, at @addr. What was given back is no more the image's. */
static inline void gm_pager_note(const struct pager_run *run, uint64_t addr)
{
	const struct pager_area *area = run->area;
	struct gm_wset_recorder *record = __atomic_load_n(&area->record, __ATOMIC_ACQUIRE);

	if (record && gm_pagestate_get(area->states, run->first) != GM_PAGE_REMOVED)
		gm_wset_note(record, gm_pager_image_off(area) + run->first * area->page +
					     (addr & (area->page - 1)));
}

/* ---- pager.c ---- */
void gm_pager_tell(struct gm_pager *pager, uint32_t kind, int code, const struct pager_run *run,
	uint64_t addr);
void gm_pager_kick(struct gm_pager *pager);
uint64_t gm_pager_absent(const struct gm_pager *pager, uint64_t *ret_all);

/* ---- pager_uffd.c ---- */
/* A userfaultfd of ours with these GM_PAGER_* flags. */
int gm_pager_uffd_open(
	struct gm_pager *pager, uint32_t flags, struct pager_uffd **ret, struct gm_error *err);
/* One that is there: taken on success. */
int gm_pager_uffd_adopt(
	struct gm_pager *pager, int fd, struct pager_uffd **ret, struct gm_error *err);
void gm_pager_uffd_free(struct pager_uffd *u);
int gm_pager_uffd_register(struct pager_uffd *u, struct pager_area *area, struct gm_error *err);
void gm_pager_uffd_wake(struct pager_uffd *u, uint64_t at, uint64_t len);

/* ---- pager_spot.c: with the userfaultfd's lock ---- */
/* The spot that holds an address, or NULL. */
struct pager_spot *gm_pager_spot_at(struct pager_uffd *u, uint64_t addr);
/* Where a page of an area lies now, and how many follow it there; false: nowhere. */
bool gm_pager_spot_of(struct pager_uffd *u, const struct pager_area *area, uint64_t page,
	uint64_t *ret_addr, uint64_t *ret_nr);
int gm_pager_spot_add(struct pager_uffd *u, const struct pager_spot *spot);
/* What lies there is nobody's any more. */
int gm_pager_spot_cut(struct pager_uffd *u, uint64_t start, uint64_t len);
int gm_pager_spot_move(struct pager_uffd *u, uint64_t from, uint64_t to, uint64_t len);

/* ---- pager_install.c ---- */
enum pager_how {
	PAGER_DATA,  /* from a buffer: pages that are loading */
	PAGER_FILE,  /* from the file: pages that are filled, or present */
	PAGER_BLANK, /* zeros: pages that are loading */
	PAGER_ZERO,  /* zeros: pages that are removed, or present and gone */
	PAGER_TOXIC  /* poisoned pages */
};
/*
 * Installs a run, and settles what became of its pages in the meantime. *ret_done: pages settled, on failure too.
 * 0; -EAGAIN (an event is unread, or the range is held), -ESRCH; -ENODATA (PAGER_FILE: the file has nothing there);
 * or what the kernel refuses the first page behind them with.
 */
int gm_pager_install(
	const struct pager_run *run, enum pager_how how, const uint8_t *buf, uint64_t *ret_done);
/* The same; *ret_put: pages, of those settled, that got bytes by this call. */
int gm_pager_put(const struct pager_run *run, enum pager_how how, const uint8_t *buf,
	uint64_t *ret_done, uint64_t *ret_put);
/*
 * Pages that are loading are in the file by now (returns how many: none that were given back meanwhile); or are put
 * back, so that they are loaded again; or get no bytes.
 */
uint64_t gm_pager_filled(const struct pager_run *run);
void gm_pager_unload(const struct pager_run *run);
void gm_pager_poison(const struct pager_run *run, int code);

/* ---- pager_load.c ---- */
/*
 * Serves the first page of a run, which somebody wants; @buf has room for a request. 0, -EAGAIN (it is left as it was),
 * -EINPROGRESS (it is being brought), -EIO, -ESRCH.
 */
int gm_pager_serve(const struct pager_run *want, uint8_t *buf, bool steps, bool single);
/* Brings absent pages ahead: of @nr at most, those of one sort. Returns pages passed, or as above. */
int64_t gm_pager_bring(const struct pager_run *want, uint8_t *buf);
/* Where the bytes of a run are read to. With a second mapping its pages are made first: there may be no room. */
int gm_pager_target(const struct pager_run *run, uint8_t *buf, uint8_t **ret);
/* Pages that are in the file are mapped; where it has a hole they are zeros. */
int gm_pager_go_on(const struct pager_run *run);

/* ---- pager_event.c ---- */
/* Reads what a userfaultfd has: events are applied, faults served or parked. Number of faults, or an error. */
int gm_pager_drain(struct pager_uffd *u);
/* Events that were read by a pager that is gone, and not applied. */
void gm_pager_replay(struct gm_pager *pager);
/* With the userfaultfd's lock: pages that are zeros from now on. Returns how many were absent. */
uint64_t gm_pager_removed(struct pager_area *area, uint64_t first, uint64_t nr);
/* Without it: some of these were, and the embedder wants to know. */
void gm_pager_tell_dropped(struct pager_area *area, uint64_t first, uint64_t nr);
/* The page at an address; false: it is in no area. */
bool gm_pager_want(struct pager_uffd *u, uint64_t addr, struct pager_run *ret);

/* ---- pager_end.c ---- */
/* The page is there, or an error, when this returns; as gm_pager_resolve(). */
int gm_pager_resolve_page(struct gm_pager *pager, const struct pager_run *run);

/* ---- pager_move.c ---- */
#define PAGER_BLOCK (2u << 20)
/* May this memory be filled so? Then buffers become huge pages. */
int gm_pager_move_check(
	struct pager_area *area, const struct pager_place *place, struct gm_error *err);
/* Makes a run the block that its page lies in, if all of that is absent and most of it no zeros. */
bool gm_pager_move_block(struct pager_run *run);
/* Is a run a block that is to be read as a whole, whatever pieces the source has it in? */
bool gm_pager_move_whole(const struct pager_run *run);
/* Pages to fill ahead from @first on, instead of @nr: a block if one begins there and @most suffice, or up to one. */
uint64_t gm_pager_move_step(
	const struct pager_area *area, uint64_t first, uint64_t most, uint64_t nr);
/* Is that a whole block in a buffer? */
bool gm_pager_move_fits(const struct pager_area *area, uint64_t addr, const void *buf, uint64_t nr);

/* ---- pager_twin.c ---- */
/* @nr pages of a run are not loading any more: who waits for them in the second mapping faults again. */
void gm_pager_twin_wake(const struct pager_run *run, uint64_t nr);

/* ---- pager_wait.c ---- */
/* After a fault: looks for the next for a while. As gm_pager_drain(); 0: there was none. */
int gm_pager_spin(struct gm_pager *pager);

/* ---- pager_add.c ---- */
/* Room for the states of an area, all absent; or those in a file. */
int gm_pager_states_map(struct pager_area *area, int fd, uint64_t off, struct gm_error *err);
void gm_pager_area_publish(struct gm_pager *pager, struct pager_area *area);
void gm_pager_area_free(struct pager_area *area);
/* An area of memory that is known: the rest is chosen, mapped and, if it is this process's, registered. */
struct pager_place {
	uint64_t addr;
	uint64_t len;
	uint64_t page;
	uint64_t gpa;
	uint64_t offset; /* added to that of the options */
	int fd;          /* the file behind it, or -1 */
	uint64_t fd_off;
	bool shared;
	bool huge;
	struct gm_space *space; /* or NULL */
	struct gm_block *block;
	uint64_t block_off;
	const struct gm_error *why_not; /* it could have been mapped, but for that; or NULL */
};
int gm_pager_add(struct gm_pager *pager, struct pager_uffd *u, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err);
int gm_pager_opts_check(const struct gm_pager_area_opts *opts, struct gm_pager_area_opts *copy,
	uint32_t known, struct gm_error *err);
struct pager_area *gm_pager_find(struct gm_pager *pager, uint64_t id);

/* ---- pager_map.c ---- */
/* An area whose source's file is mapped in the place of its memory. */
int gm_pager_map(struct gm_pager *pager, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err);
/* One of a space's block that is a private mapping of its file. */
int gm_pager_map_block(struct gm_pager *pager, const struct pager_place *place, uint32_t asked,
	uint64_t *ret_area, struct gm_error *err);
/* Advice about some bytes; nothing if the mapping is gone. */
int gm_pager_map_advise(const struct pager_area *area, uint64_t off, uint64_t len, int advice);

/* ---- pager_plan.c ---- */
/* Page size of what the first set is for; 0: no set is to be brought now. */
uint64_t gm_pager_plan_page(struct gm_pager *pager);
/* Brings some of it, @room bytes at most, which is a page at least. Returns bytes passed, or -EAGAIN. */
int64_t gm_pager_plan_step(struct gm_pager *pager, uint64_t room);
void gm_pager_plans_end(struct gm_pager *pager);

/* ---- pager_space.c ---- */
int gm_pager_spaces_end(struct gm_pager *pager, struct gm_error *err);

/* ---- pager_loop.c ---- */
/* Tried again after a while. */
void gm_pager_park(
	struct gm_pager *pager, const struct pager_run *run, uint32_t tries, bool single);
/* A request has ended while nobody stepped the pager. */
void gm_pager_go_on_filling(struct gm_pager *pager);

#endif
