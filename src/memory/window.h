/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * window.h - one stretch of reserved host addresses in which a space's memory lies at base + GPA.
 *
 * Addresses are PROT_NONE until a mapping claims them. A claim is made and dropped with the
 * window's lock held, so that pins may be given back from any thread. The window lives until its
 * space and the last mapping in it are gone.
 */
#ifndef GM_MEMORY_WINDOW_H
#define GM_MEMORY_WINDOW_H

#include <guestmem/error.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/rangeset.h"

#define GM_WINDOW_LIMIT_MAX (UINT64_C(1) << 46)
#define GM_WINDOW_ALIGN (UINT64_C(1) << 30)

struct gm_dirty;

struct gm_window {
	uint8_t *base;
	uint64_t limit;
	uint8_t *arena; /* base and its guards */
	uint64_t arena_len;
	uint32_t refs; /* atomic: the space and each claim */
	pthread_mutex_t lock;
	struct gm_rangeset claims;
	size_t nr_claims;       /* may be more than claims.nr: neighbours are merged there */
	struct gm_dirty *dirty; /* of its space: stays for pins as long as the window; reference */
};

int gm_window_create(uint64_t limit, struct gm_window **ret, struct gm_error *err);
struct gm_window *gm_window_get(struct gm_window *window);
void gm_window_put(struct gm_window *window);

/* Claims [gpa, gpa + len): 0, -EEXIST (part is claimed), -ERANGE (outside), -ENOMEM. Takes a
 * reference. */
int gm_window_claim(struct gm_window *window, uint64_t gpa, uint64_t len);

/* Drops a claim and its reference. Its addresses must be reserved and unmapped. */
void gm_window_unclaim(struct gm_window *window, uint64_t gpa, uint64_t len);

/*
 * Unmaps what lies at a claim and drops the claim and its reference. The reservation is back in the
 * same system call, so that nobody else's mmap can land there. If the kernel refuses even that, the
 * memory is made inaccessible and the addresses stay out of use until the window goes.
 */
void gm_window_release(struct gm_window *window, uint64_t gpa, uint64_t len);

/*
 * Drops a claim whose mapping was moved away, so that its addresses are a hole. If another mapping
 * got there first the addresses stay out of use.
 */
void gm_window_reserve_hole(struct gm_window *window, uint64_t gpa, uint64_t len);

/*
 * A reservation of its own, for blocks that are not in a window: @len bytes aligned to @align with
 * a guard of one page at each end. *ret_arena and *ret_arena_len are what to unmap.
 */
int gm_arena_reserve(uint64_t len, uint64_t align, uint8_t **ret_hva, uint8_t **ret_arena,
	uint64_t *ret_arena_len);

#endif
