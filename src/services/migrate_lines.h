/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_lines.h - the connections of one end of a migration, and what wakes the thread that steps it.
 *
 * Links are those of the present epoch, by slot; those that have not said yet what they are; and those that leave: they
 * say the last, and are closed when the peer has closed, or after a while. All of it belongs to who steps, but the kick
 * and the lock.
 */
#ifndef GM_SERVICES_MIGRATE_LINES_H
#define GM_SERVICES_MIGRATE_LINES_H

#include <guestmem/migrate.h>
#include <pthread.h>

#include "services/migrate_conn.h"

#define MIGRATE_STRANGERS 64u /* that may be there before they have said what they are */
#define MIGRATE_LINKS (2 * GM_MIGRATE_SLOTS + MIGRATE_STRANGERS)
#define MIGRATE_PIECE (256u << 10) /* bytes that are read, or sent, before others are looked at */
#define MIGRATE_TURNS 32u          /* messages of one connection, likewise */
#define MIGRATE_PAGE (1u << GM_MIGRATE_PAGE_LOG2)

struct gm_migrate_link {
	struct gm_migrate_conn *conn; /* NULL: there is none */
	uint64_t until;               /* of opening, or of leaving */
	uint32_t slot;
	uint32_t epoch;
	bool opened;   /* messages come; before it the opening */
	bool leaving;  /* what comes is not looked at */
	bool readable; /* there may be something */
	bool ending;   /* the peer says no more: what there is is read to the end */
	bool writable; /* there may be room */
	bool full;     /* room is waited for */
	bool held;     /* nothing is read */
	bool again;    /* @heard is to be given to the machine again */
	struct gm_migrate_heard heard;
	/* The last word, when it leaves; 0: none. */
	uint32_t last_type;
	uint64_t last_number;
	const char *last_text; /* constant, of REFUSED */
};

struct gm_migrate_lines {
	pthread_mutex_t lock; /* of the machine, and all that functions for any thread touch */
	uint32_t stepping;    /* atomic */
	int epoll;
	int timer;
	int kick;
	int other; /* not ours, or -1: readable */
	bool other_ready;
	bool busy;         /* there is something to do at once */
	uint64_t timer_at; /* when it strikes; GM_MIGRATE_NEVER: it is not set */
	uint64_t wire;     /* bytes of connections that are gone */
	uint32_t strays;   /* that were refused */
	uint64_t paced_at; /* when bytes of pages were counted last, and how many there were */
	uint64_t paced;
	uint64_t pace; /* of them a second, in between */
	struct gm_migrate_terms terms;
	struct gm_migrate_link *slots[GM_MIGRATE_SLOTS];
	uint32_t nr_links; /* the last of these that there is, and one */
	struct gm_migrate_link links[MIGRATE_LINKS];
};

/* 0, or what a system call failed with; then there is nothing to be freed. */
int gm_migrate_lines_init(struct gm_migrate_lines *lines, struct gm_error *err);
void gm_migrate_lines_free(struct gm_migrate_lines *lines);

/* A link without a slot: its opening is due by @until. Takes @fd in any case. -EMFILE: there are too many. */
int gm_migrate_lines_add(struct gm_migrate_lines *lines, int fd, uint64_t until,
	struct gm_migrate_link **ret, struct gm_error *err);
/* It has become this; messages follow. */
int gm_migrate_lines_is(struct gm_migrate_lines *lines, struct gm_migrate_link *link, uint32_t slot,
	uint32_t epoch);
/* Closes it now, or when it has said what it has to say. */
void gm_migrate_lines_drop(struct gm_migrate_lines *lines, struct gm_migrate_link *link);
void gm_migrate_lines_leave(
	struct gm_migrate_lines *lines, struct gm_migrate_link *link, uint64_t now);
/*
 * What came on it is no message, so nothing is read any more; if that can still be said to the peer: true, and it
 * leaves with the others (@has: the machine has it, and closes all).
 */
bool gm_migrate_lines_may_tell(struct gm_migrate_link *link, int rc, bool has);
/* CANCEL or REFUSED: said at once, or behind what is being said. It leaves next. */
void gm_migrate_lines_farewell(
	struct gm_migrate_link *link, uint32_t type, uint64_t number, const char *text);
/* All of an epoch, and whatever has opened for it. */
void gm_migrate_lines_leave_all(struct gm_migrate_lines *lines, uint32_t epoch, uint64_t now);

/* Another descriptor that wakes it: other_ready; -1: none. It is there until it is set again. */
int gm_migrate_lines_watch(struct gm_migrate_lines *lines, int fd);
/*
 * Has the epoll instance become readable at @due, or before: for who waits for it by himself. 0, or what the timer
 * failed with.
 */
int gm_migrate_lines_arm(struct gm_migrate_lines *lines, uint64_t due);
/* With the lock, which it lets go: waits, at most until @due or for @timeout_ms. 0, or what epoll failed with. */
int gm_migrate_lines_wait(struct gm_migrate_lines *lines, int timeout_ms, uint64_t due);
/* Links that leave, and openings that are late. */
void gm_migrate_lines_tidy(struct gm_migrate_lines *lines, uint64_t now);
/* When that is due next. */
uint64_t gm_migrate_lines_due(const struct gm_migrate_lines *lines);
/* Sends what is to be sent, a piece at most. 0, or why it is lost; *ret_moved: bytes went. */
int gm_migrate_lines_flush(
	struct gm_migrate_lines *lines, struct gm_migrate_link *link, bool *ret_moved);
/* By any thread. */
void gm_migrate_lines_kick(const struct gm_migrate_lines *lines);
uint64_t gm_migrate_lines_wire(const struct gm_migrate_lines *lines);
/* So many bytes of pages by now. */
void gm_migrate_lines_pace(struct gm_migrate_lines *lines, uint64_t bytes, uint64_t now);
/* How fast that goes, and what takes how long at that pace: in @stats, where nothing better is known. */
void gm_migrate_lines_stats(const struct gm_migrate_lines *lines, struct gm_migrate_stats *stats);

/* Is there a link in this slot that could say something at once? */
static inline bool gm_migrate_lines_idle(const struct gm_migrate_lines *lines, uint32_t slot)
{
	const struct gm_migrate_link *link = slot < GM_MIGRATE_SLOTS ? lines->slots[slot] : NULL;

	return link && !gm_migrate_conn_sends(link->conn);
}

/* A message has come: is there another to be read? It would be told, if it came now. */
static inline void gm_migrate_lines_heard(struct gm_migrate_link *link)
{
	if (!link->ending && gm_migrate_conn_drained(link->conn))
		link->readable = false;
}

/* The order in which connections are looked at: urgent ones, control, bulk. */
static inline uint32_t gm_migrate_lines_order(uint32_t i)
{
	return i < GM_MIGRATE_URGENT_MAX ? 1 + GM_MIGRATE_BULK_MAX + i : i - GM_MIGRATE_URGENT_MAX;
}

/* How a lost line reads in words. */
const char *gm_migrate_lines_why(int rc, const char *why);
/* From deadlines in ms, with the defaults. */
struct gm_migrate_times gm_migrate_lines_times(const struct gm_migrate_deadlines *d);

#endif
