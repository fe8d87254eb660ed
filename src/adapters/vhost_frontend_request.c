/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_frontend_request.c - a front-end of vhost-user asks: one request at a time, with a deadline.
 *
 * While an answer is waited for, the back-end may ask in turn, and may answer only when it has been told. Such
 * requests are done at once; translations that it misses are sent when the answer has come, as they go the same way.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>

#include "adapters/vhost_frontend.h"
#include "core/error.h"
#include "sys/sys.h"

#define MS UINT64_C(1000000)

int gm_vhost_fe_enter(struct gm_vhost_frontend *fe, struct gm_inside *inside, struct gm_error *err)
{
	if (!gm_sys_enter(inside, fe))
		return gm_error_set(err, -EDEADLK, 0, 0,
			"%s: a callback of the front-end cannot ask it for something", fe->name);
	pthread_mutex_lock(&fe->lock);
	return 0;
}

int gm_vhost_fe_leave(
	struct gm_vhost_frontend *fe, struct gm_inside *inside, int rc, struct gm_error *err)
{
	/* What they are lost by is told by the next call, unless this one went well. */
	int later = gm_vhost_fe_misses(fe, rc < 0 ? NULL : err);

	pthread_mutex_unlock(&fe->lock);
	gm_sys_leave(inside);
	return rc < 0 || later >= 0 ? rc : later;
}

/* The caller may have a duplicate, so that closing alone would leave it to be waited for. */
static void let_go(struct gm_vhost_frontend *fe, int *fd)
{
	if (*fd < 0)
		return;
	gm_sys_epoll_remove(fe->epoll, *fd);
	gm_sys_close(*fd);
	*fd = -1;
}

int gm_vhost_fe_lose(struct gm_vhost_frontend *fe, int rc, const char *what, struct gm_error *err)
{
	let_go(fe, &fe->sock);
	let_go(fe, &fe->channel);
	fe->nr_waiting = 0;
	return gm_error_set(err, rc, 0, 0, "%s: %s: %s: the connection is lost", fe->name, what,
		rc == -ECONNRESET ? "the back-end closed it"
		: rc == -EPROTO   ? "the back-end sent what is no answer to it"
				  : gm_error_word(rc));
}

bool gm_vhost_fe_has(const struct gm_vhost_frontend *fe, enum gm_vhost_protocol feature)
{
	return fe->protocol >> feature & 1;
}

uint64_t gm_vhost_fe_deadline(const struct gm_vhost_frontend *fe)
{
	return gm_sys_now_ns() + fe->opts.timeout_ms * MS;
}

/* ---- messages ---- */

static uint64_t left_ns(uint64_t deadline_ns)
{
	uint64_t now = gm_sys_now_ns();

	return now < deadline_ns ? deadline_ns - now : 0;
}

static int left_ms(uint64_t deadline_ns)
{
	uint64_t ms = (left_ns(deadline_ns) + MS - 1) / MS;

	return ms < INT_MAX ? (int)ms : INT_MAX;
}

int gm_vhost_fe_send(int sock, const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds,
	uint64_t deadline_ns)
{
	int rc = gm_vhost_send(sock, msg, fds, nr_fds, left_ns(deadline_ns), NULL);

	return rc == -EPIPE ? -ECONNRESET : rc;
}

int gm_vhost_fe_recv(
	int sock, enum gm_vhost_expect expect, struct gm_vhost_rx *rx, uint64_t deadline_ns)
{
	int rc = gm_vhost_recv(rx, sock, expect, left_ns(deadline_ns), NULL);

	if (rc < 0)
		gm_vhost_rx_clear(rx);
	return rc == -EPIPE ? -ECONNRESET : rc;
}

/* ---- waiting ---- */

/* The main socket has something, or the time is over. */
static int wait_main(struct gm_vhost_frontend *fe, uint64_t deadline_ns)
{
	int rc;

	do {
		int left = left_ms(deadline_ns);

		rc = left ? gm_sys_poll_in(fe->sock, left) : -ETIMEDOUT;
	} while (rc == 0 || rc == -EINTR);
	return rc < 0 ? rc : 0;
}

int gm_vhost_fe_wait(struct gm_vhost_frontend *fe, uint64_t deadline_ns, struct gm_error *err)
{
	for (;;) {
		struct epoll_event events[2];
		int left = left_ms(deadline_ns);
		int nr = left ? gm_sys_epoll_wait(fe->epoll, events, 2, left) : -ETIMEDOUT;
		bool main = false;
		bool channel = false;
		int rc;

		if (nr < 0 && nr != -EINTR)
			return nr;
		for (int i = 0; i < nr; i++) {
			main = main || events[i].data.ptr == &fe->sock;
			channel = channel || events[i].data.ptr == &fe->channel;
		}
		/* An answer goes first: what the back-end asked in front of it is done afterwards. */
		if (main)
			return 0;
		if (!channel)
			continue;
		rc = gm_vhost_fe_channel(fe, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return wait_main(fe, deadline_ns);
	}
}

/* Is a number asked for as the answer? */
static bool wants_ack(const struct gm_vhost_frontend *fe, const struct gm_vhost_fe_call *call,
	const struct gm_vhost_kind *kind)
{
	if (call->silent || kind->answer == GM_VHOST_ANSWER_OWN)
		return false;
	return kind->answer == GM_VHOST_ANSWER_DONE ||
	       call->msg.request == GM_VHOST_POSTCOPY_LISTEN ||
	       gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_REPLY_ACK);
}

/* A reply, with no more than one descriptor. */
static int take_reply(struct gm_vhost_frontend *fe, const struct gm_vhost_msg *asked,
	struct gm_vhost_fe_call *call, uint64_t deadline_ns, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, asked->request);
	struct gm_vhost_rx rx = {.got = 0};
	struct gm_error why;
	int rc = gm_vhost_fe_wait(fe, deadline_ns, err);

	if (rc < 0 && fe->sock < 0)
		return rc;
	if (!rc)
		rc = gm_vhost_fe_recv(fe->sock, GM_VHOST_EXPECT_REPLY, &rx, deadline_ns);
	if (rc < 0)
		return gm_vhost_fe_lose(fe, rc, kind->name, err);
	rc = gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, asked, &rx.msg, rx.nr_fds, &why);
	if (rc < 0) {
		gm_vhost_rx_clear(&rx);
		gm_vhost_fe_lose(fe, rc, kind->name, NULL);
		return gm_error_set(
			err, rc, 0, 0, "%s: %s: the connection is lost", fe->name, why.text);
	}
	call->msg = rx.msg;
	call->fd = rx.nr_fds ? rx.fds[0] : -1;
	return 0;
}

static int check_call(
	struct gm_vhost_frontend *fe, const struct gm_vhost_kind *kind, struct gm_error *err)
{
	if (fe->sock < 0)
		return gm_error_set(err, -ENOTCONN, 0, 0, "%s: %s: there is no connection",
			fe->name, kind->name);
	if (kind->needs >= 0 && !gm_vhost_fe_has(fe, (enum gm_vhost_protocol)kind->needs))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: %s needs protocol feature %d, which the back-end lacks", fe->name,
			kind->name, kind->needs);
	return 0;
}

int gm_vhost_fe_call(
	struct gm_vhost_frontend *fe, struct gm_vhost_fe_call *call, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, call->msg.request);
	uint64_t deadline_ns = gm_vhost_fe_deadline(fe);
	bool ack = wants_ack(fe, call, kind);
	struct gm_vhost_msg asked;
	int rc = check_call(fe, kind, err);

	call->fd = -1;
	if (rc < 0)
		return rc;
	call->msg.flags = GM_VHOST_VERSION | (ack ? GM_VHOST_NEED_REPLY : 0);
	rc = gm_vhost_fe_send(fe->sock, &call->msg, call->fds, call->nr_fds, deadline_ns);
	if (rc < 0)
		return gm_vhost_fe_lose(fe, rc, kind->name, err);
	fe->messages++;
	if (!ack && (kind->answer != GM_VHOST_ANSWER_OWN || call->silent))
		return 0;
	asked = call->msg;
	rc = take_reply(fe, &asked, call, deadline_ns, err);
	if (rc < 0 || !ack)
		return rc;
	if (call->msg.u.number)
		return gm_error_set(err, -EREMOTEIO, 0, 0,
			"%s: %s: refused by the back-end (it answered %" PRIu64 ")", fe->name,
			kind->name, call->msg.u.number);
	return 0;
}

int gm_vhost_fe_set(
	struct gm_vhost_frontend *fe, uint32_t request, uint64_t number, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, request);
	struct gm_vhost_fe_call call = {.msg = {.request = request, .len = kind->len_min}};

	call.msg.u.number = number;
	return gm_vhost_fe_call(fe, &call, err);
}

int gm_vhost_fe_get(
	struct gm_vhost_frontend *fe, uint32_t request, uint64_t *ret, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = request}};
	int rc = gm_vhost_fe_call(fe, &call, err);

	*ret = call.msg.u.number;
	return rc;
}
