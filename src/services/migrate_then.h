/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_then.h - a source of a migration whose pages are those of an instant, not those of now (migrate_clone.h). */
#ifndef GM_SERVICES_MIGRATE_THEN_H
#define GM_SERVICES_MIGRATE_THEN_H

#include "core/migrate_plan.h"

struct gm_migrate_out;

/* All are called by who steps the source, with its lock. Offsets are those of its memory. */
struct gm_migrate_then {
	/* Bytes as they were; -EIO: they are lost. */
	int (*read)(void *ctx, uint64_t off, void *buf, size_t len);
	/* Was there nothing? */
	bool (*zeros)(void *ctx, uint64_t off, uint64_t len);
	/* May pages that nobody has asked for go? */
	bool (*may)(void *ctx);
	/* These were said on a connection. */
	void (*sent)(void *ctx, uint32_t slot, const struct gm_migrate_place *place);
	/* A message, before the machine has it. */
	void (*heard)(void *ctx, const struct gm_migrate_msg *msg);
	/* What was said and not answered may not have come. */
	void (*closed)(void *ctx);
	void *ctx;
};

/* Before it begins. @then is borrowed. No log is kept. */
void gm_migrate_out_set_then(struct gm_migrate_out *out, const struct gm_migrate_then *then);
/* A PING of this number on control, behind what was said there. False: not now. */
bool gm_migrate_out_ping(struct gm_migrate_out *out, uint64_t number);
/* Bits of a place, and of the machine's memory: bit 0 is offset 0. */
bool gm_migrate_out_bits(const struct gm_migrate_out *out, const struct gm_migrate_place *place,
	struct gm_range *ret);

#endif
