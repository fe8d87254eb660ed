/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate.h - moving a running guest: what both ends have in common.
 *
 *   migrate_out.h   the source: it runs the guest, and hands it over
 *   migrate_in.h    the destination: it takes it
 *
 * Memory goes in rounds while the guest runs (pre-copy), or after it has gone over, on demand (post-copy), or both. The
 * protocol is that of docs/migration-protocol.md. One thread steps an end; it never waits for the peer. An embedder
 * brings connections, any connected stream sockets, and is asked to pause the guest, to write its device state, to read
 * it, and to run the guest: each is begun by a callback and ended by a call, from whatever thread, when it is done.
 */
#ifndef GUESTMEM_MIGRATE_H
#define GUESTMEM_MIGRATE_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a connection is for. */
enum gm_migrate_connection {
	GM_MIGRATE_TO_CONTROL = 1, /* all that has an order: one */
	GM_MIGRATE_TO_BULK,        /* pages */
	GM_MIGRATE_TO_URGENT,      /* pages that somebody waits for */
};

/**
 * struct gm_migrate_deadlines - how long what may take, in ms; 0 = default, UINT32_MAX = without end
 * @open:   for connections to open; 10 s
 * @answer: for the peer to answer what it can answer at once; 10 s
 * @work:   for the peer to do what takes time: make its memory, load the state, start the guest; 60 s
 * @own:    for the embedder: to pause the guest, to write its state; 60 s
 * @ping:   of silence until the peer is asked whether it is there; 1 s
 * @line:   of silence, or of half a message, until the line counts as lost; 5 s
 * @resume: without a line once the guest may run at the destination: then the source tells of a failure, and the
 *          destination gives up what is missing; 300 s
 * @linger: that an end which has ended goes on to answer one that does not know; 10 s
 */
struct gm_migrate_deadlines {
	uint32_t open;
	uint32_t answer;
	uint32_t work;
	uint32_t own;
	uint32_t ping;
	uint32_t line;
	uint32_t resume;
	uint32_t linger;
};

/* Where an end is. Of each migration exactly one end runs the guest, or may. */
enum gm_migrate_state {
	GM_MIGRATE_IS_IDLE = 0,
	GM_MIGRATE_IS_SETUP,   /* connections, layout, memory */
	GM_MIGRATE_IS_PRECOPY, /* pages go while the guest runs at the source */
	GM_MIGRATE_IS_SWITCH,  /* it is paused: the last pages and the state go */
	GM_MIGRATE_IS_HANDED, /* the source has said that it may run there; the destination is ready to, and waits for that */
	GM_MIGRATE_IS_POSTCOPY, /* it runs at the destination; pages are missing there */
	GM_MIGRATE_IS_FINISH,   /* it runs at the destination, nothing is missing; the last words */
	GM_MIGRATE_IS_LOST,     /* as HANDED or POSTCOPY, without a line: to be resumed */
	GM_MIGRATE_IS_DOUBT,    /* of the source: the same, and the deadline has passed */
	/* Ends. */
	GM_MIGRATE_IS_ENDED,     /* well: the guest is at the destination, and all of its memory */
	GM_MIGRATE_IS_CANCELLED, /* somebody wished it: the guest runs at the source */
	GM_MIGRATE_IS_FAILED,    /* the same; or the destination never ran it */
	GM_MIGRATE_IS_RECLAIMED, /* of the source: it runs here again, by what the destination or the embedder said */
	GM_MIGRATE_IS_GIVEN_UP, /* it runs at the destination, and some of its pages are lost */
};

/* What an embedder is told. */
enum gm_migrate_tell {
	GM_MIGRATE_TOLD_STATE = 1, /* another state */
	GM_MIGRATE_TOLD_ROUND,     /* a round has ended: look at the figures */
	GM_MIGRATE_TOLD_LOST,      /* the line is lost, and it can be resumed */
	GM_MIGRATE_TOLD_RUNS,      /* it cannot be reclaimed: it runs there */
	GM_MIGRATE_TOLD_FAILED,    /* @state is the end of it, or GM_MIGRATE_IS_DOUBT */
	GM_MIGRATE_TOLD_ENDED,     /* well */
	GM_MIGRATE_TOLD_PAGES, /* these pages are lost: who touches them gets SIGBUS, or a machine check */
	GM_MIGRATE_TOLD_PEER, /* a connection was refused: it was none of ours. Nothing else happens */
};

/**
 * struct gm_migrate_event - what happened
 * @tell:  enum gm_migrate_tell
 * @state: enum gm_migrate_state
 * @rc:    0 or negative errno value
 * @round: number of the round
 * @gpa:   first address of lost pages
 * @len:   their bytes
 * @why:   in words; borrowed during the call
 */
struct gm_migrate_event {
	uint32_t tell;
	uint32_t state;
	int32_t rc;
	uint32_t round;
	uint64_t gpa;
	uint64_t len;
	const char *why;
};

#define GM_MIGRATE_BUCKETS 32u

/* Whether the guest has been run at the destination, as far as this end knows. */
enum gm_migrate_runs {
	GM_MIGRATE_RUNS_NO = 0, /* it has not run an instruction there */
	GM_MIGRATE_RUNS_MAY,    /* it was told to, or is being started */
	GM_MIGRATE_RUNS_YES,    /* it runs there, or ran until it ended */
};

/**
 * struct gm_migrate_stats - figures of an end, since it was made
 * @size:         sizeof(struct gm_migrate_stats), set by the caller
 * @state:        enum gm_migrate_state
 * @epoch:        lines that there were
 * @round:        of pre-copy
 * @throttle:     per cent of its time that the guest is to be kept from running
 * @rc, @why:     of the end, or of the line that was lost last
 * @runs:         enum gm_migrate_runs; of a source that was forced: no
 * @answers:      of a destination: it has ended, and a source may come that does not know. Until it is 0, after
 *                deadlines.linger at the latest, it is stepped, and told of connections
 * @memory:       bytes of the guest that are to go by connections
 * @left:         bytes that are still to be sent, or are missing
 * @pages:        bytes of pages that went, or came: zeros and what was packed by their length in memory
 * @zeros, @packed: of these
 * @wire:         bytes on all connections, both ways
 * @again:        bytes of pages that were sent again as they were written meanwhile
 * @lost:         bytes of pages that could not be read, or were given up
 * @rate:         bytes of memory a second: of the last quarter of a second or more, else of the last rounds
 * @dirty_rate:   bytes a second that the guest wrote anew in the last round
 * @expected_downtime_ns: if it were paused now; UINT64_MAX: nothing was measured
 * @expected_end_ns: from now until it runs there (in the first round: if nothing is written meanwhile), in post-copy
 *                until all of it is there; UINT64_MAX: it does not come to that by itself, or nothing was measured
 * @downtime_ns:  from the pause until RUNNING was read (source), or from the last page that came before the state until
 *                the guest was run (destination); 0 = not yet
 * @total_ns:     since the start
 * @requests:     pages that were asked for
 * @request_ns:   sum of the times until they were there; of the destination
 * @request_latency: requests answered in less than 2^i us: bucket i, the last has all others
 * @twice:        pages that came twice
 * @dropped:      pages that the guest gave back before they came
 * @stray:        connections that were refused
 */
struct gm_migrate_stats {
	size_t size;
	uint32_t state;
	uint32_t epoch;
	uint32_t round;
	uint32_t throttle;
	int32_t rc;
	uint32_t runs;
	uint32_t answers;
	uint32_t reserved;
	uint64_t memory;
	uint64_t left;
	uint64_t pages;
	uint64_t zeros;
	uint64_t packed;
	uint64_t wire;
	uint64_t again;
	uint64_t lost;
	uint64_t rate;
	uint64_t dirty_rate;
	uint64_t expected_downtime_ns;
	uint64_t expected_end_ns;
	uint64_t downtime_ns;
	uint64_t total_ns;
	uint64_t requests;
	uint64_t request_ns;
	uint64_t request_latency[GM_MIGRATE_BUCKETS];
	uint64_t twice;
	uint64_t dropped;
	uint64_t stray;
	char why[256];
};

/**
 * gm_migrate_state_name() - a word for people and programs: "pre-copy"
 * @state: enum gm_migrate_state
 *
 * Return: a constant; "unknown" for other numbers. Threads: any. Since: 0.1.
 */
GM_API const char *gm_migrate_state_name(uint32_t state);

#ifdef __cplusplus
}
#endif

#endif
