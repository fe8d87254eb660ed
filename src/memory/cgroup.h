/* SPDX-License-Identifier: BSD-3-Clause */
/* cgroup.h - the memory limits of the control group this process is in, and what they leave. */
#ifndef GM_MEMORY_CGROUP_H
#define GM_MEMORY_CGROUP_H

#include <stdint.h>

/* Bytes; UINT64_MAX where there is no limit or nothing is known. */
struct gm_cgroup {
	uint32_t version; /* of the hierarchy that has the memory controller, 0 if there is none */
	uint64_t limit;   /* the smallest from the group up to the root */
	uint64_t current; /* what is in use under it */
	uint64_t
		available; /* the least that any level leaves, pages of files not counted as used */
	char file[256];    /* which has the smallest limit */
};

void gm_cgroup_read(struct gm_cgroup *ret);

#endif
