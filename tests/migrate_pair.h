/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate_pair.h - two ends of a connection of a migration, and one message of each type, for test_migrate_conn*.c.
 *
 * END 0 is the source, 1 the destination. An end may be a connection of the library or a bare socket.
 */
#ifndef GM_TESTS_MIGRATE_PAIR_H
#define GM_TESTS_MIGRATE_PAIR_H

#include "services/migrate_conn.h"
#include "support.h"

#define SOURCE 0
#define DESTINATION 1

#define P_REGIONS 3u
#define P_PAGES 64u /* pages_max, if a test does not say otherwise */

/* Pages of 4 KiB, of 2 MiB, and one that comes as a descriptor. */
extern const struct gm_migrate_region p_regions[P_REGIONS];

struct pair {
	int fd[2];
	struct gm_migrate_terms terms[2];
	struct gm_migrate_conn *c[2];   /* NULL: a bare socket */
	struct gm_migrate_region *room; /* of all pairs */
};

enum pair_kind { OVER_UNIX, OVER_TCP };

/* Connected stream sockets that wait. */
void pair_sockets(enum pair_kind kind, int ret[2]);
/* Terms of both ends, as after the layout; there are no connections yet. */
void pair_init(struct pair *p, enum pair_kind kind);
/* Makes a connection of an end; it takes the socket. */
void pair_conn(struct pair *p, int end, uint32_t slot);
/* Both ends, over @kind, on @slot. */
void pair_open(struct pair *p, enum pair_kind kind, uint32_t slot);
/* Closes what is there, of whatever kind. */
void pair_close(struct pair *p);

/* ---- messages ---- */

struct sample {
	uint32_t type;
	uint32_t kind; /* of PAGES */
	int from;      /* end */
	uint32_t slot;
	uint64_t number;
	uint32_t nr; /* pages, places, regions, bytes of the state */
	bool packs;  /* the pages are of few values */
};

extern const struct sample samples[];
extern const size_t nr_samples;

/* False: this build does not pack so. */
bool sample_can(const struct sample *s);
/* Memory of the samples: the same each time. Up to P_PAGES pages. */
const uint8_t *sample_memory(bool packs);
/* Says it on a connection of its end. */
void sample_say(struct gm_migrate_conn *c, const struct sample *s);
/* Fails if it is not what was said. */
void sample_check(const struct gm_migrate_heard *heard, const struct sample *s);
/* Its bytes on a stream, with pages_max of P_PAGES; for free(). */
uint8_t *sample_bytes(const struct sample *s, size_t *ret_len);
/* Both ends are made so that it can be said: pair_open() on its slot. */
void sample_open(struct pair *p, enum pair_kind kind, const struct sample *s);

/*
 * Sends all of it, @most bytes at a time, and receives until there is a message at the other end. Returns what
 * gm_migrate_conn_recv() did at last.
 */
int pair_move(struct pair *p, int from, size_t most, struct gm_migrate_heard *ret);
/* All bytes into a bare socket; it does not wait for ever, as they fit. */
void raw_send(int fd, const uint8_t *bytes, size_t len);
/* The same with descriptors, which come with the first byte. */
void raw_send_fds(int fd, const uint8_t *bytes, size_t len, const int *fds, uint32_t nr);

#endif
