/* SPDX-License-Identifier: BSD-3-Clause */
/* run_snapshot.h - what saving or moving a guest and restoring it have to agree on. */
#ifndef TOOL_RUN_SNAPSHOT_H
#define TOOL_RUN_SNAPSHOT_H

#include <guestmem/snapshot.h>

#include "run.h"

#define RUN_SNAPSHOT_LABEL "guestmem-run"
#define RUN_SNAPSHOT_VERSION 1
#define RUN_LABELS_MAX (1u + MACHINE_VCPUS_MAX)
#define RUN_THREAD_LEN sizeof(struct run_params)

/* A guest beside its memory. */
struct run_labels {
	struct gm_snapshot_label list[RUN_LABELS_MAX];
	char names[RUN_LABELS_MAX][16];
	struct machine_saved workers[MACHINE_VCPUS_MAX];
	char *about;
	size_t nr;
};

/* Of one that is stopped. False after a message; run_labels_fini() in any case. */
bool run_labels_make(struct run_engine *e, struct run_labels *ret);
void run_labels_fini(struct run_labels *labels);

#endif
