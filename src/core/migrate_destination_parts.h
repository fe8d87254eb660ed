/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_destination_parts.h - what the two files of the destination's machine share. */
#ifndef GM_CORE_MIGRATE_DESTINATION_PARTS_H
#define GM_CORE_MIGRATE_DESTINATION_PARTS_H

#include "core/migrate_destination.h"

void gm_migrate_destination_go(
	struct gm_migrate_destination *d, uint32_t state, uint64_t wait, uint64_t now);
void gm_migrate_destination_tell(
	struct gm_migrate_destination *d, enum gm_migrate_what what, int rc, const char *why);
void gm_migrate_destination_close(struct gm_migrate_destination *d);
/* What was said cannot be, or the line is of no use: before READY an end, then a pause. */
void gm_migrate_destination_lose(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now);
/* An end before READY, which the source is told. */
void gm_migrate_destination_refuse(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now);
/* The guest never runs here; said, or told to the embedder, by the caller. */
void gm_migrate_destination_never(
	struct gm_migrate_destination *d, int rc, const char *why, uint64_t now);
/* Pages count as here. */
void gm_migrate_destination_settle(
	struct gm_migrate_destination *d, const struct gm_range *bits, bool lost, uint64_t now);
/* RUN was read: the guest runs. */
void gm_migrate_destination_run(struct gm_migrate_destination *d, uint64_t now);
void gm_migrate_destination_done(struct gm_migrate_destination *d, uint64_t now);

static inline bool gm_migrate_destination_up(const struct gm_migrate_destination *d)
{
	return (d->line.open & 1) && d->resumed;
}

/* States that answer RESUME. */
static inline bool gm_migrate_destination_resumable(const struct gm_migrate_destination *d)
{
	return d->state >= GM_DESTINATION_READY && d->state <= GM_DESTINATION_GIVEN_UP;
}

#endif
