/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * layout.h - hand a space's memory to another process over a socket.
 *
 * The sender's regions travel as a table, their memory as file descriptors (SCM_RIGHTS). Only
 * memory that has an fd can travel. The format is that of docs/layout-format.md.
 */
#ifndef GUESTMEM_LAYOUT_H
#define GUESTMEM_LAYOUT_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_LAYOUT_REGIONS_MAX 4096u /* regions in one layout */
#define GM_LAYOUT_FDS_MAX 253u      /* different fds in one layout: the kernel's SCM_MAX_FD */

/**
 * gm_layout_send() - send the regions of a space with their fds
 * @space: borrowed
 * @sock:  borrowed; connected Unix stream or seqpacket socket, blocking
 * @perms: permissions that the peer is to get at most, GM_PERM_* bits, 0 = those of each region
 * @err:   optional
 *
 * Parts of regions (part.h) go as they are: what is unplugged is not sent, what is private is reserved at
 * the peer. A file of which no region may be written travels as an fd that is open for reading only. After a
 * failure the peer may have got a part: close the connection. The library sets no deadline; the
 * caller sets one on the socket (SO_SNDTIMEO, SO_RCVTIMEO) and then gets -EAGAIN when it passes.
 *
 * Returns 0; -ENOTSUP (a region's memory has no fd or is a private mapping: err->gpa says which;
 * make it with GM_BLOCK_SHARE); -E2BIG (too many regions or files); -EINVAL (@perms unknown, or
 * they leave a region none); -ERANGE (a file has shrunk); -EPROTOTYPE (another kind of socket);
 * -EPIPE; or what the kernel answered.
 * Threads: any (-EBUSY while a transaction is open). Since: 0.1.
 */
GM_API int gm_layout_send(struct gm_space *space, int sock, uint32_t perms, struct gm_error *err);

/**
 * gm_layout_recv() - build a space from what a peer sends
 * @sock:      borrowed; as above
 * @opts:      borrowed; NULL = defaults
 * @ret_space: the space; it owns the received fds
 * @err:       optional
 *
 * The peer is not trusted: lengths, overlaps, fd types, file sizes are checked before anything is
 * mapped. A file that the peer can shrink (without F_SEAL_SHRINK) is taken only while the fault
 * guard is installed (guard.h). Each region has a block of its own, and that an fd.
 *
 * Returns 0; -EPROTO (malformed; the text says how); -EPIPE (the peer closed too early); -ENOTSUP
 * (version); -EPERM (a file can shrink and there is no guard); -EPROTOTYPE (another kind of
 * socket); or as gm_space_build().
 * Threads: any. Since: 0.1.
 */
GM_API int gm_layout_recv(int sock, const struct gm_space_opts *opts, struct gm_space **ret_space,
	struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
