/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.h - pages from another process or machine over a connected stream socket, and both ends of that.
 *
 * One end serves any source; the other one is a source that asks it. The protocol is small, and written down byte by
 * byte in docs/page-protocol.md. It has checksums against accidents; who the peer is, and that nobody listens, is for
 * who connects the socket.
 */
#ifndef GUESTMEM_PEER_H
#define GUESTMEM_PEER_H

#include <guestmem/source.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_PEER_REQUESTS_MAX 64u /* that can be under way; more are -EAGAIN */

/**
 * struct gm_peer_opts - a peer that is asked; zero means default
 * @size:       sizeof(struct gm_peer_opts)
 * @connect:    a new connection to the same memory: an fd, which is taken, or a negative errno value. Called to begin,
 *              and when a connection was lost, in the thread that opens or steps
 * @ctx:        passed to it
 * @connect_ms: how long the first greeting may take; 0 = 10 s
 * @retry_ms:   how long after a loss there may be no answer, until what is under way fails; 0 = 10 s
 * @request_ms: how long a peer may leave requests without a byte of an answer before its connection counts as lost;
 *              0 = 30 s
 * @reserved:   zero
 */
struct gm_peer_opts {
	size_t size;
	int (*connect)(void *ctx);
	void *ctx;
	uint32_t connect_ms;
	uint32_t retry_ms;
	uint32_t request_ms;
	uint32_t reserved;
};

/**
 * gm_source_peer() - the memory that a peer serves
 * @opts:       borrowed for the call
 * @ret_source: the caller's. It waits: requests, a step and an fd (source.h)
 * @err:        optional
 *
 * Each answer's checksum is verified before its bytes are handed on. What was under way on a lost connection is asked
 * again on a new one. A request fails with what the peer says, with -EBADMSG (the sum is wrong), -ETIMEDOUT or what
 * the connection was lost by if it does not come back in time; nonsense (-EPROTO) and other memory than before
 * (-ESTALE) end the source. Return: 0, -EINVAL, -EPROTO, -ETIMEDOUT, -ENOTSUP (no version in common, or a build
 * without xxHash), -ENOMEM, or what the connection failed with. Threads: any. Since: 0.1.
 */
GM_API int gm_source_peer(
	const struct gm_peer_opts *opts, struct gm_source **ret_source, struct gm_error *err);

/* gm_peer_serve_opts.flags: answers are not compressed */
#define GM_PEER_RAW 0x1u

/**
 * struct gm_peer_serve_opts - how a source is served; zero means default
 * @size:       sizeof(struct gm_peer_serve_opts)
 * @identity:   of the memory: who connects again gets the same or nothing. Zeros: it has none
 * @flags:      GM_PEER_RAW
 * @message_ms: how long a message that was begun may take, to come or to go; 0 = 30 s
 */
struct gm_peer_serve_opts {
	size_t size;
	uint8_t identity[16];
	uint32_t flags;
	uint32_t message_ms;
};

/**
 * gm_peer_serve() - answers one peer until it closes the connection
 * @fd:     a connected stream socket, borrowed; shutdown(2) of it ends this
 * @source: borrowed. If it waits, it is nobody else's meanwhile
 * @opts:   borrowed; NULL = defaults
 * @err:    optional
 *
 * Requests are answered one after the other. What the source fails with is told to the peer, and no end. Return: 0 (the
 * peer is gone), -EINVAL, -EPROTO (nonsense), -ETIMEDOUT, -ENOTSUP, -ENOMEM, or what the socket failed with.
 * Threads: any; one for a connection, and as the source allows. Since: 0.1.
 */
GM_API int gm_peer_serve(int fd, struct gm_source *source, const struct gm_peer_serve_opts *opts,
	struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
