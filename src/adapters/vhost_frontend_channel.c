/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_frontend_channel.c - what a back-end of vhost-user asks its front-end for. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "adapters/vhost_frontend.h"
#include "core/error.h"
#include "sys/sys.h"

#define ROUNDS_MAX 4u /* of misses that come while misses are answered */

/* ---- answers ---- */

static int answer(
	struct gm_vhost_frontend *fe, uint32_t request, uint64_t code, int fd, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_BACKEND, request);
	struct gm_vhost_msg reply = {
		.request = request,
		.flags = GM_VHOST_VERSION | GM_VHOST_REPLY,
		.len = sizeof(uint64_t),
		.u.number = code,
	};
	int rc;

	if (fe->channel < 0)
		return 0;
	rc = gm_vhost_fe_send(fe->channel, &reply, &fd, fd >= 0 ? 1 : 0, gm_vhost_fe_deadline(fe));
	return rc < 0 ? gm_vhost_fe_lose(fe, rc, kind->name, err) : 0;
}

/* ---- misses ---- */

static bool is_waiting(const struct gm_vhost_frontend *fe, const struct gm_vhost_iotlb *iotlb)
{
	for (uint32_t i = 0; i < fe->nr_waiting; i++) {
		if (fe->misses[i].iotlb.iova == iotlb->iova &&
			fe->misses[i].iotlb.perm == iotlb->perm && !fe->misses[i].answer)
			return true;
	}
	return false;
}

static void note_miss(struct gm_vhost_frontend *fe, const struct gm_vhost_msg *msg)
{
	bool wants = msg->flags & GM_VHOST_NEED_REPLY;

	if (!wants && is_waiting(fe, &msg->u.iotlb))
		return;
	fe->misses[fe->nr_waiting++] =
		(struct gm_vhost_fe_miss){.iotlb = msg->u.iotlb, .answer = wants};
}

static int answer_miss(
	struct gm_vhost_frontend *fe, struct gm_vhost_fe_miss *miss, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_IOTLB_MSG, .len = sizeof(struct gm_vhost_iotlb)}};
	int code =
		fe->ops.miss ? gm_checked_code(fe->ops.miss(fe->opts.ctx, &miss->iotlb)) : -ENOTSUP;
	int rc = 0;

	if (!code) {
		miss->iotlb.type = GM_VHOST_IOTLB_UPDATE;
		call.msg.u.iotlb = miss->iotlb;
		rc = gm_vhost_fe_call(fe, &call, err);
		fe->nr_misses += rc == 0;
	}
	/* What it refuses is its own loss. */
	if (rc == -EREMOTEIO || rc == -ENOTSUP)
		rc = 0;
	if (!rc && miss->answer)
		rc = answer(fe, GM_VHOST_BACKEND_IOTLB_MSG, code ? 1 : 0, -1, err);
	return rc;
}

int gm_vhost_fe_misses(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	uint32_t left = ROUNDS_MAX * GM_VHOST_FE_MISSES;

	while (fe->nr_waiting && fe->sock >= 0) {
		struct gm_vhost_fe_miss miss = fe->misses[0];
		int rc;

		if (!left--)
			return gm_vhost_fe_lose(
				fe, -EOVERFLOW, "BACKEND_IOTLB_MSG without end", err);
		fe->nr_waiting--;
		memmove(fe->misses, fe->misses + 1, fe->nr_waiting * sizeof(miss));
		rc = answer_miss(fe, &miss, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- requests ---- */

static int share(struct gm_vhost_frontend *fe, const struct gm_vhost_msg *msg, int *ret_fd)
{
	int rc = fe->ops.shared_object ? gm_checked_code(fe->ops.shared_object(
						 fe->opts.ctx, msg->request, msg->u.uuid, ret_fd))
				       : -ENOTSUP;

	return rc;
}

/* Returns 0 or why not; *ret_fd goes with the answer. */
static int handle(struct gm_vhost_frontend *fe, const struct gm_vhost_msg *msg, int fd, int *ret_fd)
{
	const struct gm_vhost_frontend_ops *ops = &fe->ops;
	void *ctx = fe->opts.ctx;

	switch (msg->request) {
	case GM_VHOST_BACKEND_IOTLB_MSG:
		if (msg->u.iotlb.type != GM_VHOST_IOTLB_ACCESS_FAIL)
			return -EPROTO;
		if (ops->access_fail)
			ops->access_fail(ctx, &msg->u.iotlb);
		return 0;
	case GM_VHOST_BACKEND_CONFIG_CHANGE:
		if (ops->config_changed)
			ops->config_changed(ctx);
		return 0;
	case GM_VHOST_BACKEND_VRING_CALL:
	case GM_VHOST_BACKEND_VRING_ERR:
		if (msg->u.vring.index >= fe->opts.rings)
			return -EPROTO;
		if (ops->ring_event)
			ops->ring_event(ctx, msg->u.vring.index,
				msg->request == GM_VHOST_BACKEND_VRING_ERR);
		return 0;
	case GM_VHOST_BACKEND_SHMEM_MAP:
		return ops->shmem_map ? ops->shmem_map(ctx, &msg->u.map, fd) : -ENOTSUP;
	case GM_VHOST_BACKEND_SHMEM_UNMAP:
		return ops->shmem_unmap ? ops->shmem_unmap(ctx, &msg->u.map) : -ENOTSUP;
	case GM_VHOST_BACKEND_VRING_HOST_NOTIFIER:
		return ops->host_notifier ? ops->host_notifier(ctx, &msg->u.area, fd) : -ENOTSUP;
	default:
		return share(fe, msg, ret_fd);
	}
}

static bool is_miss(const struct gm_vhost_msg *msg)
{
	return msg->request == GM_VHOST_BACKEND_IOTLB_MSG &&
	       msg->u.iotlb.type == GM_VHOST_IOTLB_MISS;
}

/* Is the next one, which is left where it is, about translations? */
static bool peek_iotlb(const struct gm_vhost_frontend *fe)
{
	uint32_t request = 0;
	ssize_t nr = gm_sys_recv(fe->channel, &request, sizeof(request), MSG_PEEK | MSG_DONTWAIT);

	return nr == (ssize_t)sizeof(request) && request == GM_VHOST_BACKEND_IOTLB_MSG;
}

static int take(struct gm_vhost_frontend *fe, struct gm_vhost_rx *rx, struct gm_error *err)
{
	const struct gm_vhost_kind *kind;
	struct gm_error why;
	int rc = gm_vhost_fe_recv(
		fe->channel, GM_VHOST_EXPECT_BACKEND, rx, gm_vhost_fe_deadline(fe));

	/* It may close its end: then it has no more to ask. */
	if (rc == -ECONNRESET) {
		gm_sys_close(fe->channel);
		fe->channel = -1;
		return 0;
	}
	if (rc < 0)
		return gm_vhost_fe_lose(fe, rc, "a request of the back-end", err);
	rc = gm_vhost_msg_check(GM_VHOST_FROM_BACKEND, &rx->msg, rx->nr_fds, &why);
	kind = gm_vhost_kind(GM_VHOST_FROM_BACKEND, rx->msg.request);
	if (!rc && kind->needs >= 0 && !gm_vhost_fe_has(fe, (enum gm_vhost_protocol)kind->needs))
		rc = gm_error_set(&why, -EPROTO, 0, 0,
			"%s needs protocol feature %d, which was not agreed on", kind->name,
			kind->needs);
	if (rc == 0)
		return 1;
	gm_vhost_rx_clear(rx);
	gm_vhost_fe_lose(fe, rc, "", NULL);
	return gm_error_set(err, -EPROTO, 0, 0, "%s: the back-end asks: %s: the connection is lost",
		fe->name, why.text);
}

int gm_vhost_fe_channel(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_rx rx = {.got = 0};
	const struct gm_vhost_msg *msg = &rx.msg;
	uint32_t request;
	bool wants;
	int fd = -1;
	int code;
	int rc;

	if (fe->nr_waiting == GM_VHOST_FE_MISSES && peek_iotlb(fe))
		return 0;
	rc = take(fe, &rx, err);
	if (rc <= 0)
		return rc < 0 ? rc : 1;
	if (is_miss(msg)) {
		note_miss(fe, msg);
		return 1;
	}
	request = msg->request;
	wants = (msg->flags & GM_VHOST_NEED_REPLY) ||
		request == GM_VHOST_BACKEND_SHARED_OBJECT_LOOKUP;
	code = handle(fe, msg, rx.nr_fds ? rx.fds[0] : -1, &fd);
	gm_vhost_rx_clear(&rx);
	if (wants)
		rc = answer(fe, request, code ? 1 : 0, code ? -1 : fd, err);
	if (fd >= 0)
		gm_sys_close(fd);
	return rc < 0 ? rc : 1;
}
