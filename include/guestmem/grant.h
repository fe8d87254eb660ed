/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant.h - what one component may see of a space, with which rights.
 *
 * A grant holds a space of its own, in which the granted parts of the source's memory lie at the same
 * addresses, with no more than the granted rights. It follows the source: memory that goes there goes
 * here, memory that comes appears if its addresses are granted. A component in the process reads by
 * readers of that space; another process is sent it (gm_grant_send()). Rights change at any time.
 *
 * Only a source's memory is granted: what devices and IOMMUs answer is not there, and a ROM device
 * can be read only. GM_PERM_X is a label that nothing here enforces.
 */
#ifndef GUESTMEM_GRANT_H
#define GUESTMEM_GRANT_H

#include <stddef.h>
#include <stdint.h>

#include <guestmem/error.h>
#include <guestmem/export.h>
#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_grant;

/* gm_grant_opts.flags: forms of a grant for another process; not both. */
#define GM_GRANT_SHADOW                                                                            \
	0x1u /* memory of the grant's own, zero at first; gm_grant_copy_in(), gm_grant_copy_out() */
#define GM_GRANT_LASTING 0x2u /* may be sent as it is, and then never be taken back */

/* gm_grant_set(), gm_grant_revoke(): */
#define GM_GRANT_NOWAIT 0x1u /* do not wait for readers and pins; gm_grant_wait() does it later */

/**
 * struct gm_grant_part - rights to a range of addresses
 * @gpa:   first address, a multiple of the page size
 * @len:   bytes, a multiple of the page size
 * @perms: GM_PERM_* bits, at least one
 * @flags: 0
 *
 * There need not be memory (yet). Where there is, a border of a part must be one of its pages, too.
 */
struct gm_grant_part {
	uint64_t gpa;
	uint64_t len;
	uint32_t perms;
	uint32_t flags;
};

/**
 * struct gm_grant_opts - what a grant is to be; zero means default
 * @size:       sizeof(struct gm_grant_opts)
 * @name:       copied (31 bytes); NULL = "grant"
 * @parts:      @nr_parts parts that do not overlap, borrowed
 * @nr_parts:   their number
 * @gpa_limit:  of the window of the grant's space, as in struct gm_space_opts; 0 = as the source's
 * @timeout_ns: deadline of waits, 0 = that of the source
 * @flags:      GM_GRANT_SHADOW or GM_GRANT_LASTING
 * @reserved:   0
 */
struct gm_grant_opts {
	size_t size;
	const char *name;
	const struct gm_grant_part *parts;
	size_t nr_parts;
	uint64_t gpa_limit;
	uint64_t timeout_ns;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * struct gm_grant_info - a grant as it is
 * @size:       sizeof(struct gm_grant_info), set by the caller
 * @granted:    bytes of addresses with rights, whether there is memory or not
 * @mapped:     bytes of memory that show in the grant's space
 * @pending:    pieces whose mapping still has more than the rights: gm_grant_wait() ends that
 * @sent:       how often gm_grant_send() handed it out
 * @flags:      GM_GRANT_* bits as given
 * @unenforced: GM_PERM_* bits that are withheld somewhere although the host cannot keep whoever has
 *              the mapping from using them: X always; R where W is granted. Access functions do
 * @lasting:    1 if it was handed out for good
 * @reserved:   0
 */
struct gm_grant_info {
	size_t size;
	uint64_t granted;
	uint64_t mapped;
	uint64_t pending;
	uint64_t sent;
	uint32_t flags;
	uint32_t unenforced;
	uint32_t lasting;
	uint32_t reserved;
};

/**
 * gm_grant_create() - grant parts of a space
 * @space:     the source, borrowed; must outlive the grant
 * @opts:      borrowed; NULL = nothing is granted yet
 * @ret_grant: the grant, destroyed with gm_grant_destroy()
 * @err:       optional
 *
 * But for GM_GRANT_SHADOW, memory must have an fd that others can map. From now on a change of the
 * source that brings memory which cannot be granted fails at commit, as here, and one that meets the
 * grant while another thread uses it for longer than its deadline fails with -EBUSY.
 *
 * Returns 0; -EINVAL (flags, rights, parts that overlap, or that cut a page of the memory: the text
 * names its size); -ERANGE (a part wraps); -ENOTSUP (memory without an fd, or private: make it with
 * GM_BLOCK_SHARE); -EBUSY (a transaction is open); -E2BIG; -ENOMEM; or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_grant_create(struct gm_space *space, const struct gm_grant_opts *opts,
	struct gm_grant **ret_grant, struct gm_error *err);

/**
 * gm_grant_destroy() - end a grant and free it
 * @grant: taken, unless the call fails; without readers, calls in other threads, or grants of its
 *         space; NULL is ignored
 * @err:   optional
 *
 * To be called before the source is destroyed. Pinned memory stays mapped until the last pin is given
 * back. A shadow is truncated.
 * Returns 0, -EBUSY (a transaction of the source is open), -ENOMEM.
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_grant_destroy(struct gm_grant *grant, struct gm_error *err);

/**
 * gm_grant_space() - the space of a grant
 * @grant: borrowed
 *
 * For gm_reader_create(), questions, listeners, and grants of it; only the grant changes it: transactions
 * of it are refused (-EPERM).
 * Returns the space, borrowed until the grant is destroyed.
 * Threads: any. Since: 0.1.
 */
GM_API struct gm_space *gm_grant_space(struct gm_grant *grant);

/**
 * gm_grant_set() - change the rights to a range
 * @grant: borrowed
 * @gpa:   first address, a multiple of the page size
 * @len:   bytes, a multiple of the page size
 * @perms: GM_PERM_* bits; 0 takes all away
 * @flags: GM_GRANT_NOWAIT
 * @err:   optional; names the readers that hold it up
 *
 * Once it has returned 0, no access that the rights do not allow begins, those that had begun are
 * over, and the memory is unmapped or mapped read-only, also in grants of this one's space. What
 * keeps its rights is not disturbed. With GM_GRANT_NOWAIT it is for threads that serve page faults: the
 * first holds, the rest is for gm_grant_wait() to do. gm_space_defer() tells when readers have left.
 *
 * A shadow of which a part is taken away is truncated as a whole, once nobody in the process uses it;
 * what stays granted of that part becomes a new one, of zeros, which must be sent anew.
 *
 * Returns 0; -ETIMEDOUT (readers or pins are still there: the rights are changed, and gm_grant_wait()
 * or the next change has to end it); -ENOTSUP (rights are taken away that were handed out for good);
 * or as gm_grant_create(), then nothing has changed unless gm_grant_info() tells of what is pending.
 * Threads: any (-EBUSY while a transaction of the source is open). Since: 0.1.
 */
GM_API int gm_grant_set(struct gm_grant *grant, uint64_t gpa, uint64_t len, uint32_t perms,
	uint32_t flags, struct gm_error *err);

/**
 * gm_grant_revoke() - gm_grant_set() of all addresses to nothing
 * @grant: borrowed
 * @flags: as above
 * @err:   optional
 *
 * Returns as gm_grant_set().
 * Threads: as above. Since: 0.1.
 */
GM_API int gm_grant_revoke(struct gm_grant *grant, uint32_t flags, struct gm_error *err);

/**
 * gm_grant_wait() - end what changes have left
 * @grant:      borrowed
 * @timeout_ns: at most so long; 0 = the grant's default
 * @err:        optional; names the readers that hold it up
 *
 * Waits until readers of earlier maps have left and pins are given back, and unmaps what is not granted
 * any more. Must not be called in a section or by a thread that serves page faults.
 * Returns 0, -ETIMEDOUT, -EBUSY, -EDEADLK (in a device's callback), or what the kernel answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_grant_wait(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err);

/**
 * gm_grant_copy_in() - bring a shadow up to date from the guest
 * @grant: borrowed; of GM_GRANT_SHADOW
 * @gpa:   first address
 * @len:   bytes
 * @done:  optional: bytes that were copied, on success and on error
 *
 * By system calls on pinned memory, so that no page that cannot be had is a signal; not in a section
 * of the source that others wait for.
 * Returns 0; -EFAULT (not granted, or nothing there); -EACCES (the source cannot be read there);
 * -ERANGE (wraps); -EIO (the shadow was truncated, or the host has no page); -ENOTSUP (not of memory
 * that is mapped); -EINVAL (no shadow).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_grant_copy_in(struct gm_grant *grant, uint64_t gpa, size_t len, size_t *done);

/**
 * gm_grant_copy_out() - bring what was written to a shadow to the guest
 * @grant: borrowed; of GM_GRANT_SHADOW
 * @gpa:   first address
 * @len:   bytes
 * @done:  optional: bytes that were copied, on success and on error
 *
 * Returns as gm_grant_copy_in(); -EACCES where W is not granted.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_grant_copy_out(struct gm_grant *grant, uint64_t gpa, size_t len, size_t *done);

/**
 * gm_grant_send() - hand a grant to another process, as a layout
 * @grant: borrowed
 * @sock:  borrowed; as for gm_layout_send(); the peer calls gm_layout_recv()
 * @err:   optional
 *
 * An fd gives its whole file away, with all it may be opened for again. So, but for a shadow, each file
 * must be granted to its last byte and with the same rights to write everywhere; and what is read-only
 * must be sealed against writing (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE), or belong to another user than the
 * peer (SO_PEERCRED), who is not root: such a file gets mode 0600 if it has no name (a memfd), or must
 * not be writable for others. A file that grows later gives that away, too. Changes are not told: a
 * peer gets them when the grant is sent once more.
 *
 * Returns 0; -EPERM (refused: the text names the file, the byte, or the user; a grant of neither form:
 * a foreign mapping cannot be taken back; a shadow without the guard of guard.h); or as gm_layout_send().
 * Threads: any (-EBUSY while a transaction of the source is open). Since: 0.1.
 */
GM_API int gm_grant_send(struct gm_grant *grant, int sock, struct gm_error *err);

/**
 * gm_grant_info() - describe a grant
 * @grant:    borrowed
 * @ret_info: filled in
 *
 * Returns 0, -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_grant_info(struct gm_grant *grant, struct gm_grant_info *ret_info);

#ifdef __cplusplus
}
#endif

#endif
