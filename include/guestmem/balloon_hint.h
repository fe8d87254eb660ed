/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * balloon_hint.h - free pages that a guest hints at: pages that a migration need not send
 * (VIRTIO_BALLOON_F_FREE_PAGE_HINT).
 *
 * A hint frees nothing. It clears marks of pages that are to be sent, in a bitmap that was *taken* from all logs
 * before hints were asked for, never in a log itself: a page that the guest hints at and then writes is in the
 * log, for the next round, whenever the hint is looked at. What was taken before is the guest's to give up: it
 * hints at pages that it has allocated after it was asked, and keeps them until it is told that all is done.
 */
#ifndef GUESTMEM_BALLOON_HINT_H
#define GUESTMEM_BALLOON_HINT_H

#include <guestmem/balloon.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_BALLOON_CMD_STOP 0u /* to the guest: no more */
#define GM_BALLOON_CMD_DONE 1u /* to the guest: it may have its pages back */
#define GM_BALLOON_CMD_FIRST 2u

/**
 * struct gm_balloon_marks - pages that are to be sent
 * @gpa:       address of bit 0
 * @page_size: bytes a bit stands for, a power of two
 * @nr:        number of bits
 * @words:     bit i is bit i % 64 of word i / 64; hints clear it by atomic operations
 */
struct gm_balloon_marks {
	uint64_t gpa;
	uint64_t page_size;
	uint64_t nr;
	uint64_t *words;
};

/**
 * gm_balloon_hint_start() - ask for hints
 * @balloon: borrowed
 * @marks:   borrowed until gm_balloon_hint_end(); copied, but for its words
 * @ret_id:  command id for the configuration space
 *
 * KVM's pages are harvested before marks are taken. If the guest poisons free pages with another value than 0,
 * its hints are ignored: they would not read so at the other end. Returns 0, -EINVAL, -EBUSY (hints are under way).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_hint_start(
	struct gm_balloon *balloon, const struct gm_balloon_marks *marks, uint32_t *ret_id);

/**
 * gm_balloon_hint_command() - a command id came from the guest
 * @balloon: borrowed
 * @id:      only what follows the id of gm_balloon_hint_start() counts, to the next other one
 *
 * Returns 1 if hints are looked at now, else 0. Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_hint_command(struct gm_balloon *balloon, uint32_t id);

/**
 * gm_balloon_hint() - the guest says that it does not use these
 * @balloon:   borrowed
 * @gpa:       first address
 * @len:       bytes; pages that lie in it whole are not to be sent
 * @ret_bytes: optional: bytes whose marks were cleared
 *
 * Returns 0, -ERANGE (wraps) or -ESTALE (no hints are wanted, or those of another command): nothing was cleared.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_balloon_hint(
	struct gm_balloon *balloon, uint64_t gpa, uint64_t len, uint64_t *ret_bytes);

/**
 * gm_balloon_hint_end() - no more hints: marks are the caller's again
 * @balloon: borrowed
 * @done:    non-zero: the guest may have its pages back (CMD_DONE), else another round follows (CMD_STOP)
 *
 * Returns the command for the configuration space. Threads: any. Since: 0.1.
 */
GM_API uint32_t gm_balloon_hint_end(struct gm_balloon *balloon, int done);

#ifdef __cplusplus
}
#endif

#endif
