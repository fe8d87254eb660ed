/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_conn_parts.h - what migrate_conn.c (the object, what goes) and migrate_conn_recv.c (what comes) share. */
#ifndef GM_SERVICES_MIGRATE_CONN_PARTS_H
#define GM_SERVICES_MIGRATE_CONN_PARTS_H

#include "services/checksum.h"
#include "services/migrate_conn.h"

/*
 * Pages begin at multiples of 4096, behind their head of PAGES or unpacked. The heap brings more for that, rather than
 * memory that is aligned: that would be written to, though most of it may never be used.
 */
#define GM_CONN_ALIGN 4096u

static inline uint8_t *gm_conn_align(uint8_t *room)
{
	return room + (-(uintptr_t)room & (GM_CONN_ALIGN - 1));
}

/* Urgent connections: a request or a page and its head are read in one go. */
#define GM_CONN_AHEAD 8192u

struct gm_migrate_conn_in {
	struct gm_checksum_run sum;
	uint8_t bytes[GM_MIGRATE_OPEN]; /* a head, or an opening */
	size_t got;                     /* of these; 0: between two messages */
	struct gm_migrate_head head;    /* once it is whole */
	size_t done;                    /* bytes of what follows */
	size_t summed;                  /* of these */
	bool placed;                    /* @pages is known */
	struct gm_migrate_pages pages;
	uint8_t *room;     /* for what follows; NULL if nothing can */
	size_t most;       /* bytes that may follow */
	uint8_t *unpacked; /* for pages; NULL if none can come packed */
	uint8_t *ahead; /* what has come behind what was asked for; NULL if nothing is read ahead */
	size_t ahead_at;
	size_t ahead_nr;
	bool drained;  /* the socket had less than was asked for, a message ago at most */
	void *decoder; /* of zstd */
	struct gm_fds fds;
	char text[GM_MIGRATE_TEXT_MAX + 1];
	int rc; /* why nothing more comes */
	const char *why;
};

struct gm_migrate_conn_out {
	struct gm_checksum_run sum;
	uint8_t bytes
		[GM_MIGRATE_OPEN]; /* a head and what follows it, if that is short; an opening */
	size_t nr_bytes;
	const uint8_t *body; /* behind it */
	size_t len;
	size_t done; /* of both */
	const int *fds;
	uint32_t nr_fds;
	uint8_t *room; /* for what is copied, or packed */
	size_t cap;
	uint32_t codec; /* GM_MIGRATE_RAW: nothing is packed */
	void *encoder;
};

struct gm_migrate_conn {
	struct gm_migrate_conn_in in;
	struct gm_migrate_conn_out out;
	const struct gm_migrate_terms *terms;
	int fd;
	bool local; /* not of a network */
	uint32_t slot;
	uint32_t epoch;
	uint64_t came;
	uint64_t went;
};

#endif
