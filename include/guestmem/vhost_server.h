/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_server.h - the sockets of vhost-user back-ends, and one loop for any number of them.
 *
 * A device has one connection at a time; when it ends, its memory and rings are dropped and the next one is taken. A
 * front-end that breaks the protocol, or stops in the middle of a message, loses its connection and nothing else.
 *
 *	gm_vhost_server_create(&server, &err);
 *	gm_vhost_server_add(server, &(struct gm_vhost_door){ .size = ..., .backend = backend, .listener = fd }, &id, &err);
 *	while (!stop)
 *		gm_vhost_server_turn(server, -1, &err);
 */
#ifndef GUESTMEM_VHOST_SERVER_H
#define GUESTMEM_VHOST_SERVER_H

#include <guestmem/vhost_backend.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_vhost_server;

/**
 * struct gm_vhost_door - how front-ends come to a device; one of @socket, @listener and @connect
 * @size:       sizeof(struct gm_vhost_door)
 * @backend:    borrowed until gm_vhost_server_remove() or gm_vhost_server_destroy()
 * @socket_plus: 1 + a connected Unix stream socket, taken on success; there is no other when it ends
 * @listener_plus: 1 + a listening Unix stream socket, borrowed
 * @connect:    makes a connection: a socket, the library's, or negative: it is tried again after @retry_ns
 * @ended:      optional: a connection has ended, @rc says why: -EPIPE if the front-end closed it between two
 *              messages, else
 *              @err has a text. Called by gm_vhost_server_turn()
 * @ctx:        passed to both
 * @timeout_ns: for half of a message, and for a peer that does not read replies; 0 = 5 seconds
 * @retry_ns:   0 = 1 second
 */
struct gm_vhost_door {
	size_t size;
	struct gm_vhost_backend *backend;
	int32_t socket_plus;
	int32_t listener_plus;
	int (*connect)(void *ctx);
	void (*ended)(void *ctx, int rc, const struct gm_error *err);
	void *ctx;
	uint64_t timeout_ns;
	uint64_t retry_ns;
};

/**
 * gm_vhost_server_create() - a loop with nothing in it
 * @ret_server: for gm_vhost_server_destroy()
 * @err:        optional
 *
 * Returns 0, -ENOMEM, or what the kernel answered. Threads: any. Since: 0.1.
 */
GM_API int gm_vhost_server_create(struct gm_vhost_server **ret_server, struct gm_error *err);

/**
 * gm_vhost_server_destroy() - end all connections, and the loop
 * @server: taken; NULL is ignored
 *
 * Threads: owner only, as all below. Since: 0.1.
 */
GM_API void gm_vhost_server_destroy(struct gm_vhost_server *server);

/**
 * gm_vhost_server_add() - serve a device
 * @server: borrowed
 * @door:   borrowed, copied
 * @ret_id: optional: names it
 * @err:    optional
 *
 * Returns 0, -EINVAL, -E2BIG, -EPROTOTYPE (no Unix stream socket), -ENOMEM, or what the kernel answered. Since: 0.1.
 */
GM_API int gm_vhost_server_add(struct gm_vhost_server *server, const struct gm_vhost_door *door,
	uint64_t *ret_id, struct gm_error *err);

/**
 * gm_vhost_server_remove() - end the connection of a device, and serve it no more
 * @server: borrowed
 * @id:     of gm_vhost_server_add()
 *
 * Not from a callback of the same device. Returns 0, -ENOENT. Since: 0.1.
 */
GM_API int gm_vhost_server_remove(struct gm_vhost_server *server, uint64_t id);

/**
 * gm_vhost_server_watch() - be called when a descriptor can be read: a kick, a timer
 * @server: borrowed
 * @fd:     borrowed until gm_vhost_server_unwatch()
 * @fn:     called by gm_vhost_server_turn(), as long as it can be read
 * @ctx:    passed to it
 *
 * Returns 0, -EEXIST, -ENOMEM, or what epoll_ctl(2) failed with. Since: 0.1.
 */
GM_API int gm_vhost_server_watch(
	struct gm_vhost_server *server, int fd, void (*fn)(void *ctx), void *ctx);

/**
 * gm_vhost_server_unwatch() - no more calls
 * @server: borrowed
 * @fd:     as given; before it is closed
 *
 * Also from a callback. Returns 0, -ENOENT. Since: 0.1.
 */
GM_API int gm_vhost_server_unwatch(struct gm_vhost_server *server, int fd);

/**
 * gm_vhost_server_fd() - a descriptor that can be read when there is something to do
 * @server: borrowed
 *
 * For loops of others; deadlines are kept by gm_vhost_server_turn() only, so call that from time to time. Since: 0.1.
 */
GM_API int gm_vhost_server_fd(const struct gm_vhost_server *server);

/**
 * gm_vhost_server_turn() - wait, and do what there is to do
 * @server:     borrowed
 * @timeout_ms: at most so long; -1: until there is something
 * @err:        optional
 *
 * Returns the number of things that were done, or what epoll_wait(2) failed with (-EINTR). Since: 0.1.
 */
GM_API int gm_vhost_server_turn(
	struct gm_vhost_server *server, int timeout_ms, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
