/* SPDX-License-Identifier: BSD-3-Clause */
/* avail.h - what the host can give right now, for checks and for texts that say what to do. */
#ifndef GM_MEMORY_AVAIL_H
#define GM_MEMORY_AVAIL_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that can be allocated without swapping others out: machine and cgroup; UINT64_MAX if
 * unknown. */
uint64_t gm_avail_bytes(void);

struct gm_pool {
	uint64_t page_size; /* bytes */
	uint64_t total;     /* pages, as the rest */
	uint64_t free;
	uint64_t reserved; /* of the free ones: promised already */
	uint64_t surplus_max;
};

/* The pool of huge pages of 1 << log2 bytes; -ENOTSUP if the host has no such size. */
int gm_pool_read(uint32_t log2, struct gm_pool *ret);

/* log2 of the host's default huge page size, or 0. */
uint32_t gm_pool_default(void);

/*
 * Does the host give transparent huge pages of 1 << log2 bytes to memory that asks by madvise?
 * @shmem: for shared memory and memfds. If not, @knob (of @cap bytes) names the file and what to
 * write.
 */
bool gm_thp_allowed(uint32_t log2, bool shmem, char *knob, int cap);

/* log2 of the PMD-sized page, 21 on x86-64. */
uint32_t gm_thp_pmd_log2(void);

#endif
