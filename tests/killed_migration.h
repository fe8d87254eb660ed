/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * killed_migration.h - a migration between two processes, and what all of them see of it.
 *
 * The test forks a process that drives one point; that forks the two ends and is the line between them. Who runs the
 * guest, and what it wrote last, is in memory that all of them share: after any death it can be said what has to be.
 */
#ifndef GM_TESTS_KILLED_MIGRATION_H
#define GM_TESTS_KILLED_MIGRATION_H

#include <guestmem/migrate_in.h>
#include <guestmem/migrate_out.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "random.h"

#define PAGE UINT64_C(4096)
#define PAGES_MAX 1024u
#define MSEC UINT64_C(1000000)

enum side { AT_SOURCE, AT_DESTINATION, SIDES };
enum trouble {
	NO_TROUBLE,
	KILL_SOURCE,
	KILL_DESTINATION,
	CUT,
	STALL,
	DRIP,
	SHUFFLE,
	FLIP,
	TROUBLES,
};
enum phase {
	OPENING,
	ROUNDS,
	PAUSE,
	STATE,
	SWITCH,
	RUN,
	POSTCOPY,
	DONE,
	PHASES,
};
/* What the embedders do when the line is lost. */
enum then { RESUME, RECLAIM, GIVE_UP, WAIT, THENS };
enum memory { PRIVATE, MEMFD, HUGE, HUGE_PRIVATE };
/* When trouble begins. */
enum trigger { AT_MESSAGE, AT_BYTE, AT_PAUSE };
enum where { BEFORE, WITHIN, BEHIND };

/* Types of messages, besides those of the protocol. */
#define TYPE_OPEN 1000u
#define TYPE_OPENED 1001u

struct plan {
	uint64_t seed;
	enum trouble trouble;
	enum phase phase;
	enum then then;
	enum memory memory;
	enum trigger trigger;
	enum where where;
	uint32_t type; /* of the message, and the how manieth */
	uint32_t nth;
	uint64_t bytes;
	uint32_t way;
	uint32_t bulk;
	uint32_t urgent;
	uint32_t rounds;
	uint64_t rate;
	uint32_t state_len;
	bool tcp;
	bool all; /* connections, or one */
};

/* What an end has become. */
struct ended {
	_Atomic uint32_t state;
	_Atomic uint32_t told[16];
	_Atomic uint32_t handed; /* it was in GM_MIGRATE_IS_HANDED or later */
	_Atomic uint32_t runs;   /* times the guest was to run here */
	_Atomic uint32_t writes;
	_Atomic uint32_t lost; /* pages that were named */
	_Atomic uint32_t poisoned;
	_Atomic uint32_t no; /* commands that were refused */
	_Atomic uint32_t stray;
	_Atomic int rc;
	char why[128];
};

struct killed {
	struct plan plan;
	_Atomic int runner; /* 1 + side; 0: nobody */
	_Atomic bool pausing;
	_Atomic bool struck;
	_Atomic bool forced;
	_Atomic uint32_t resumes;
	struct ended ends[SIDES];
	bool dead[SIDES]; /* by SIGKILL */
	uint64_t pages;
	uint64_t truth[PAGES_MAX];
	uint64_t handed[PAGES_MAX]; /* when the source was paused last */
	_Atomic uint32_t at[SIDES]; /* the page that it touched last */
	_Atomic uint32_t wrong;
	char what[256];
};

/* Says what is wrong; the first counts. */
void killed_wrong(struct killed *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An address that somebody listens at. */
struct door {
	int fd;
	struct sockaddr_storage at;
	socklen_t len;
};

/* ---- migrate_end.c: the processes. They read commands, a byte each, and do not return ---- */
#define DO_RESUME 'r'
#define DO_RECLAIM 'c'
#define DO_FORCE 'f'
#define DO_GIVE_UP 'g'
#define DO_QUIT 'q'
void be_source(struct killed *k, int commands, const struct door *door) __attribute__((noreturn));
void be_destination(struct killed *k, int commands, int listener) __attribute__((noreturn));

/* ---- migrate_proxy.c: the line ---- */
struct proxy;
struct proxy *proxy_create(struct killed *k, const struct door *ours, const struct door *theirs);
/* Moves bytes for some milliseconds at most. True: it is time for trouble with a process: kill it. */
bool proxy_step(struct proxy *p, int timeout_ms);
void proxy_destroy(struct proxy *p);

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void nap_us(uint32_t us)
{
	nanosleep(
		&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L}, NULL);
}

#endif
