/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_source_parts.h - what the two files of the source's machine share. */
#ifndef GM_CORE_MIGRATE_SOURCE_PARTS_H
#define GM_CORE_MIGRATE_SOURCE_PARTS_H

#include "core/migrate_source.h"

enum gm_source_dropping {
	DROP_DUE,   /* DISCARD, or the pause */
	DROP_NAMED, /* DISCARD was sent: PING is due */
	DROP_ASKED, /* PONG is awaited */
};

/* A state, and how long it may last. */
void gm_migrate_source_go(struct gm_migrate_source *s, uint32_t state, uint64_t wait, uint64_t now);
/* An end; the guest runs if it is one of those in which it is here. */
void gm_migrate_source_end(struct gm_migrate_source *s, uint32_t state, int rc, const char *why);
/* The connections of this epoch. */
void gm_migrate_source_close(struct gm_migrate_source *s);
/* The line is of no use any more: an end before RUN, after it a pause. */
void gm_migrate_source_lose(struct gm_migrate_source *s, int rc, const char *why, uint64_t now);
/* The two ends cannot both be right: another epoch would not help. */
void gm_migrate_source_contradict(struct gm_migrate_source *s, const char *why);
/* All that has to be sent is not known before HAVE has told of all pages. */
void gm_migrate_source_expect_have(struct gm_migrate_source *s);
void gm_migrate_source_say_done(struct gm_migrate_source *s, uint64_t now);

#endif
