/* SPDX-License-Identifier: BSD-3-Clause */
/* run_snapshot.h - what saving a guest and restoring it have to agree on. */
#ifndef TOOL_RUN_SNAPSHOT_H
#define TOOL_RUN_SNAPSHOT_H

#define RUN_SNAPSHOT_LABEL "guestmem-run"
#define RUN_SNAPSHOT_VERSION 1

#endif
