/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_channel.c - the back-end's own socket: requests of ours, replies of the front-end.
 *
 * Nothing here waits: a front-end may be waiting for us on the main socket. Requests go out whole or not at all;
 * replies come in their order and are taken when they are there, each by a deadline. What goes wrong closes this
 * socket only.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

void gm_vhost_channel_init(struct vhost_channel *c)
{
	pthread_mutex_init(&c->lock, NULL);
	c->fd = -1;
}

void gm_vhost_channel_fini(struct vhost_channel *c)
{
	gm_vhost_close(&c->fd);
	pthread_mutex_destroy(&c->lock);
}

/* With the lock: closes it, and takes out what waits. */
static uint32_t take_all(struct vhost_channel *c, struct vhost_pending *ret)
{
	const uint32_t nr = c->nr;

	gm_vhost_rx_clear(&c->rx);
	gm_vhost_close(&c->fd);
	__atomic_add_fetch(&c->generation, 1, __ATOMIC_RELAXED);
	memcpy(ret, c->pending, nr * sizeof(*ret));
	c->nr = 0;
	return nr;
}

static void give_up(const struct vhost_pending *pending, uint32_t nr, int rc)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (pending[i].done)
			pending[i].done(pending[i].ctx, rc, NULL, -1);
	}
}

void gm_vhost_channel_close(struct gm_vhost_backend *b)
{
	struct vhost_pending pending[VHOST_REQUESTS_MAX];
	uint32_t nr;

	pthread_mutex_lock(&b->channel.lock);
	nr = take_all(&b->channel, pending);
	pthread_mutex_unlock(&b->channel.lock);
	give_up(pending, nr, -EPIPE);
}

int gm_vhost_on_channel(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int rc = gm_vhost_check_socket(call->fds[0], call->err);

	if (rc)
		return rc;
	gm_vhost_channel_close(b);
	pthread_mutex_lock(&b->channel.lock);
	b->channel.fd = gm_vhost_take_fd(call);
	__atomic_add_fetch(&b->channel.generation, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&b->channel.lock);
	return 0;
}

int gm_vhost_backend_channel(struct gm_vhost_backend *b)
{
	int fd;

	pthread_mutex_lock(&b->channel.lock);
	fd = b->channel.fd;
	pthread_mutex_unlock(&b->channel.lock);
	return fd;
}

/* ---- out ---- */

static int send_request(struct vhost_channel *c, const struct gm_vhost_msg *msg, bool reply,
	const int *fds, uint32_t nr_fds, struct gm_error *err)
{
	struct gm_vhost_tx tx = {.nr_fds = nr_fds};
	int rc;

	if (c->fd < 0)
		return gm_error_set(err, -ENOTCONN, 0, 0,
			"vhost-user: the front-end has given no socket for our requests");
	if (reply && c->nr == VHOST_REQUESTS_MAX)
		return gm_error_set(
			err, -EAGAIN, 0, 0, "vhost-user: %u requests wait for replies", c->nr);
	memcpy(&tx.msg, msg, offsetof(struct gm_vhost_msg, u) + msg->len);
	tx.msg.flags = GM_VHOST_VERSION | (reply ? GM_VHOST_NEED_REPLY : 0);
	for (uint32_t i = 0; i < nr_fds; i++)
		tx.fds[i] = fds[i];
	rc = gm_vhost_tx_step(&tx, c->fd, err);
	if (rc > 0)
		return 0;
	/* A part of a message cannot be taken back. */
	if (tx.sent) {
		gm_vhost_close(&c->fd);
		__atomic_add_fetch(&c->generation, 1, __ATOMIC_RELAXED);
	}
	if (rc < 0)
		return rc;
	return gm_error_set(err, tx.sent ? -EPIPE : -EAGAIN, 0, 0,
		"vhost-user: the front-end does not read our requests");
}

int gm_vhost_backend_request(struct gm_vhost_backend *b, const struct gm_vhost_msg *msg,
	const int *fds, uint32_t nr_fds,
	void (*done)(void *ctx, int rc, const struct gm_vhost_msg *reply, int fd), void *ctx,
	struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_BACKEND, msg->request);
	struct gm_vhost_msg head = {
		.request = msg->request, .flags = GM_VHOST_VERSION, .len = msg->len};
	struct vhost_channel *c = &b->channel;
	bool reply;
	uint64_t deadline;
	int rc = gm_vhost_msg_check(GM_VHOST_FROM_BACKEND, &head, nr_fds, err);

	if (rc)
		return rc == -ENOTSUP ? rc : -EINVAL;
	if (!vhost_has(b, (enum gm_vhost_protocol)kind->needs) ||
		(nr_fds && !vhost_has(b, GM_VHOST_PROTOCOL_BACKEND_SEND_FD)))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"vhost-user: %s needs a protocol feature that was not negotiated",
			kind->name);
	reply = kind->answer == GM_VHOST_ANSWER_OWN || done;
	if (reply && kind->answer != GM_VHOST_ANSWER_OWN &&
		!vhost_has(b, GM_VHOST_PROTOCOL_REPLY_ACK))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"vhost-user: a reply to %s needs REPLY_ACK", kind->name);
	if (__builtin_add_overflow(gm_sys_now_ns(), b->o.timeout_ns, &deadline))
		deadline = UINT64_MAX;
	pthread_mutex_lock(&c->lock);
	rc = send_request(c, msg, reply, fds, nr_fds, err);
	if (!rc && reply)
		c->pending[c->nr++] = (struct vhost_pending){msg->request, deadline, done, ctx};
	pthread_mutex_unlock(&c->lock);
	return rc;
}

/* ---- in ---- */

/* With the lock: takes the reply to the first request. 1, 0: nothing is there, or why the socket is of no use. */
static int take_reply(struct vhost_channel *c, struct vhost_pending *ret, struct gm_vhost_rx *rx)
{
	struct gm_vhost_msg request = {0};
	int rc;

	if (c->fd < 0)
		return 0;
	rc = gm_vhost_rx_step(&c->rx, c->fd, GM_VHOST_EXPECT_REPLY, NULL);
	if (rc <= 0)
		return rc;
	request.request = c->pending[0].request;
	if (c->nr == 0 || gm_vhost_msg_check_reply(
				  GM_VHOST_FROM_BACKEND, &request, &c->rx.msg, c->rx.nr_fds, NULL))
		return -EPROTO;
	*ret = c->pending[0];
	c->nr--;
	memmove(&c->pending[0], &c->pending[1], c->nr * sizeof(c->pending[0]));
	*rx = c->rx;
	c->rx.nr_fds = 0;
	gm_vhost_rx_clear(&c->rx);
	return 1;
}

static void deliver(const struct vhost_pending *pending, struct gm_vhost_rx *rx)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_BACKEND, pending->request);
	const bool failed = kind->answer != GM_VHOST_ANSWER_OWN && rx->msg.u.number != 0;

	if (pending->done)
		pending->done(pending->ctx, failed ? -EREMOTEIO : 0, &rx->msg,
			rx->nr_fds ? rx->fds[--rx->nr_fds] : -1);
	gm_vhost_rx_clear(rx);
}

uint64_t gm_vhost_backend_channel_event(struct gm_vhost_backend *b)
{
	struct vhost_channel *c = &b->channel;
	struct vhost_pending pending[VHOST_REQUESTS_MAX];
	struct gm_vhost_rx rx;
	uint64_t left = 0;
	uint32_t nr = 0;
	int rc;

	do {
		const uint64_t now = gm_sys_now_ns();

		pthread_mutex_lock(&c->lock);
		rc = take_reply(c, pending, &rx);
		if (rc == 0 && c->nr && c->pending[0].deadline_ns <= now)
			rc = -ETIMEDOUT;
		if (rc < 0)
			nr = take_all(c, pending);
		left = c->nr ? c->pending[0].deadline_ns - now : 0;
		pthread_mutex_unlock(&c->lock);
		if (rc > 0)
			deliver(pending, &rx);
		if (rc < 0)
			give_up(pending, nr, rc);
	} while (rc > 0);
	return left;
}
