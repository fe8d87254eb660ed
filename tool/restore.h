/* SPDX-License-Identifier: BSD-3-Clause */
/* restore.h - a guest of "guestmem run" that was saved: what its file says of it. */
#ifndef TOOL_RESTORE_H
#define TOOL_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

#include <guestmem/snapshot.h>

#include "run.h"

/* ---- restore_about.c ---- */
struct restore_about {
	struct machine_saved vcpus[MACHINE_VCPUS_MAX]; /* bytes are the labels' */
	uint64_t doorbells;
	uint64_t doorbell;
	uint64_t stop;
	void *words; /* json_t, what run_opts.words point into */
};

/* Options for run as they were; @path is for messages. False after a message; restore_about_fini() in any case. */
bool restore_about(const struct gm_snapshot_label *labels, size_t nr, const char *path,
	struct restore_about *ret, struct run_opts *o);
void restore_about_fini(struct restore_about *about, struct run_opts *o);

#endif
