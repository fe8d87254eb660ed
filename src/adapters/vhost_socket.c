/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_socket.c - see vhost_socket.h. */
#include "adapters/vhost_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/error.h"
#include "sys/fds.h"
#include "sys/sys.h"

#define MS UINT64_C(1000000)

int gm_vhost_check_socket(int sock, struct gm_error *err)
{
	int domain = 0;
	int type = 0;
	int rc = gm_sys_socket_kind(sock, &domain, &type);

	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "vhost-user: fd %d: %s", sock, gm_error_word(rc));
	if (domain != AF_UNIX || type != SOCK_STREAM)
		return gm_error_set(err, -EPROTOTYPE, 0, 0,
			"vhost-user: fd %d is no Unix stream socket (family %d, type %d)", sock,
			domain, type);
	return 0;
}

/* ---- in ---- */

void gm_vhost_rx_clear(struct gm_vhost_rx *rx)
{
	while (rx->nr_fds)
		gm_sys_close(rx->fds[--rx->nr_fds]);
	rx->got = 0;
	memset(&rx->msg, 0, offsetof(struct gm_vhost_msg, u));
}

/* Up to @len bytes. Returns them; 0: none yet. */
static ssize_t recv_some(
	struct gm_vhost_rx *rx, int sock, void *to, size_t len, struct gm_error *err)
{
	struct gm_fds fds = {.nr = 0};
	uint32_t wrong = 0;
	ssize_t nr;

	do
		nr = gm_fds_recv(sock, to, len, rx->got ? NULL : &fds, MSG_DONTWAIT, &wrong);
	while (nr == -EINTR);
	if (nr == -EAGAIN)
		return 0;
	if (nr > 0 && !wrong && fds.nr <= GM_VHOST_FDS_MAX) {
		for (uint32_t i = 0; i < fds.nr; i++)
			rx->fds[rx->nr_fds++] = fds.fd[i];
		return nr;
	}
	if (wrong || fds.nr) {
		uint32_t came = fds.nr;

		gm_fds_close(&fds);
		return gm_error_set(err, -EPROTO, 0, 0,
			"vhost-user: %u descriptors came (at most %u may, with a message's first "
			"byte), or more than this process can have",
			came, GM_VHOST_FDS_MAX);
	}
	if (nr == 0 || nr == -ECONNRESET)
		return gm_error_set(err, -EPIPE, 0, rx->got,
			"vhost-user: the peer closed the connection%s",
			rx->got ? " within a message" : "");
	return gm_error_set(
		err, (int)nr, 0, rx->got, "vhost-user: cannot receive: %s", gm_error_word((int)nr));
}

/* May the payload be read? A request that does not exist is read over. */
static int check_header(
	const struct gm_vhost_msg *msg, enum gm_vhost_expect expect, struct gm_error *err)
{
	int rc;

	if (expect == GM_VHOST_EXPECT_REPLY) {
		if ((msg->flags & GM_VHOST_VERSION_MASK) != GM_VHOST_VERSION ||
			!(msg->flags & GM_VHOST_REPLY) || msg->len > GM_VHOST_PAYLOAD_MAX)
			return gm_error_set(err, -EPROTO, 0, 0,
				"vhost-user: message %u with flags 0x%x and %u bytes is no reply",
				msg->request, msg->flags, msg->len);
		return 0;
	}
	rc = gm_vhost_msg_check_header(
		expect == GM_VHOST_EXPECT_BACKEND ? GM_VHOST_FROM_BACKEND : GM_VHOST_FROM_FRONTEND,
		msg, err);
	return rc == -ENOTSUP ? 0 : rc;
}

int gm_vhost_rx_step(
	struct gm_vhost_rx *rx, int sock, enum gm_vhost_expect expect, struct gm_error *err)
{
	for (;;) {
		const bool head = rx->got < GM_VHOST_HEADER;
		const size_t end = head ? GM_VHOST_HEADER : GM_VHOST_HEADER + rx->msg.len;
		uint8_t *to = head ? (uint8_t *)&rx->msg + rx->got
				   : rx->msg.u.bytes + (rx->got - GM_VHOST_HEADER);
		ssize_t nr;
		int rc;

		if (rx->got == end)
			return 1;
		nr = recv_some(rx, sock, to, end - rx->got, err);
		if (nr <= 0)
			return (int)nr;
		rx->got += (size_t)nr;
		if (!head || rx->got < GM_VHOST_HEADER)
			continue;
		rc = check_header(&rx->msg, expect, err);
		if (rc)
			return rc;
	}
}

/* ---- out ---- */

int gm_vhost_tx_step(struct gm_vhost_tx *tx, int sock, struct gm_error *err)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(GM_VHOST_FDS_MAX * sizeof(int))];
	} control = {.bytes = {0}};
	const size_t len = GM_VHOST_HEADER + tx->msg.len;

	while (tx->sent < len) {
		const size_t head = tx->sent < GM_VHOST_HEADER ? GM_VHOST_HEADER - tx->sent : 0;
		const size_t body = tx->sent < GM_VHOST_HEADER ? 0 : tx->sent - GM_VHOST_HEADER;
		struct iovec iov[2] = {
			{(uint8_t *)&tx->msg + (GM_VHOST_HEADER - head), head},
			{tx->msg.u.bytes + body, tx->msg.len - body},
		};
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
		ssize_t nr;

		if (tx->sent == 0 && tx->nr_fds) {
			struct cmsghdr *c = &control.align;

			msg.msg_control = &control;
			msg.msg_controllen = CMSG_SPACE(tx->nr_fds * sizeof(int));
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(tx->nr_fds * sizeof(int));
			memcpy(CMSG_DATA(c), tx->fds, tx->nr_fds * sizeof(int));
		}
		nr = gm_sys_sendmsg(sock, &msg, MSG_DONTWAIT);
		if (nr == -EINTR)
			continue;
		if (nr == -EAGAIN)
			return 0;
		if (nr < 0)
			return gm_error_set(err, nr == -ECONNRESET ? -EPIPE : (int)nr, 0, tx->sent,
				"vhost-user: cannot send: %s", gm_error_word((int)nr));
		tx->sent += (size_t)nr;
	}
	return 1;
}

/* ---- to the end ---- */

/* Until the socket may be ready: 0, -ETIMEDOUT, or what poll(2) failed with. */
static int wait_for(int sock, bool out, uint64_t deadline_ns, struct gm_error *err)
{
	for (;;) {
		const uint64_t now = gm_sys_now_ns();
		const uint64_t left = deadline_ns > now ? (deadline_ns - now) / MS + 1 : 0;
		const int ms = left > 1000000 ? 1000000 : (int)left;
		int rc;

		if (left == 0)
			return gm_error_set(err, -ETIMEDOUT, 0, 0,
				"vhost-user: the peer did not %s in time", out ? "read" : "answer");
		rc = out ? gm_sys_poll_out(sock, ms) : gm_sys_poll_in(sock, ms);
		if (rc > 0)
			return 0;
		if (rc < 0 && rc != -EINTR)
			return gm_error_set(
				err, rc, 0, 0, "vhost-user: cannot wait: %s", gm_error_word(rc));
	}
}

static uint64_t deadline_of(uint64_t timeout_ns)
{
	uint64_t ret;

	return __builtin_add_overflow(gm_sys_now_ns(), timeout_ns, &ret) ? UINT64_MAX : ret;
}

int gm_vhost_recv(struct gm_vhost_rx *rx, int sock, enum gm_vhost_expect expect,
	uint64_t timeout_ns, struct gm_error *err)
{
	const uint64_t deadline = deadline_of(timeout_ns);
	int rc;

	while ((rc = gm_vhost_rx_step(rx, sock, expect, err)) == 0) {
		rc = wait_for(sock, false, deadline, err);
		if (rc)
			return rc;
	}
	return rc < 0 ? rc : 0;
}

int gm_vhost_send(int sock, const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds,
	uint64_t timeout_ns, struct gm_error *err)
{
	const uint64_t deadline = deadline_of(timeout_ns);
	struct gm_vhost_tx tx = {.nr_fds = nr_fds};
	int rc;

	if (nr_fds > GM_VHOST_FDS_MAX || msg->len > GM_VHOST_PAYLOAD_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"vhost-user: a message with %u bytes and %u descriptors", msg->len, nr_fds);
	memcpy(&tx.msg, msg, offsetof(struct gm_vhost_msg, u) + msg->len);
	for (uint32_t i = 0; i < nr_fds; i++)
		tx.fds[i] = fds[i];
	while ((rc = gm_vhost_tx_step(&tx, sock, err)) == 0) {
		rc = wait_for(sock, true, deadline, err);
		if (rc)
			return rc;
	}
	return rc < 0 ? rc : 0;
}
