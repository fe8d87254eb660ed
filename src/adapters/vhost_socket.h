/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_socket.h - messages of vhost-user on a stream socket.
 *
 * A receiver owns each descriptor from the moment it arrives; they may come with the first byte of a header only.
 * Each step does what can be done without waiting. The blocking forms below wait, never longer than they are told.
 */
#ifndef GM_ADAPTERS_VHOST_SOCKET_H
#define GM_ADAPTERS_VHOST_SOCKET_H

#include <guestmem/vhost_msg.h>

/* What is expected. */
enum gm_vhost_expect {
	GM_VHOST_EXPECT_FRONTEND, /* requests of a front-end */
	GM_VHOST_EXPECT_BACKEND,  /* requests of a back-end, on its own socket */
	GM_VHOST_EXPECT_REPLY,    /* replies to either */
};

/* A message on its way in. All zero is an empty one. */
struct gm_vhost_rx {
	struct gm_vhost_msg msg;
	size_t got; /* bytes, those of the header included */
	uint32_t nr_fds;
	int fds[GM_VHOST_FDS_MAX];
};

/* A message on its way out. */
struct gm_vhost_tx {
	struct gm_vhost_msg msg;
	size_t sent;
	uint32_t nr_fds;
	int fds[GM_VHOST_FDS_MAX];
};

/* 0, or -EPROTOTYPE: it is no Unix stream socket; or what the kernel answered. */
int gm_vhost_check_socket(int sock, struct gm_error *err);

/*
 * 1: @rx is whole and its header is that of what is expected (the rest: gm_vhost_msg_check()); 0: more is to come.
 * -EPIPE: the peer closed, err->len is 0 if that was between two messages, else the bytes that came. -EPROTO: what
 * came is no such message. Or what recvmsg(2) failed with. After a failure @rx still owns what came.
 */
int gm_vhost_rx_step(
	struct gm_vhost_rx *rx, int sock, enum gm_vhost_expect expect, struct gm_error *err);
/* Closes the descriptors that are still in it; for the next message. */
void gm_vhost_rx_clear(struct gm_vhost_rx *rx);

/* 1: it is sent; 0: the socket is full; -EPIPE; or what sendmsg(2) failed with. Descriptors are borrowed. */
int gm_vhost_tx_step(struct gm_vhost_tx *tx, int sock, struct gm_error *err);

/* The same to the end, waiting at most @timeout_ns for all of it: 0; -ETIMEDOUT, or as the steps. */
int gm_vhost_recv(struct gm_vhost_rx *rx, int sock, enum gm_vhost_expect expect,
	uint64_t timeout_ns, struct gm_error *err);
int gm_vhost_send(int sock, const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds,
	uint64_t timeout_ns, struct gm_error *err);

#endif
