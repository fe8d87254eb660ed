/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_notify.c - kicks of the driver, calls to it, errors to the front-end.
 *
 * A front-end changes where calls go while a queue runs (it masks interrupts), so these are under the ring's lock. All
 * are eventfds: a counter that is full says what one more call would.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

void gm_vhost_close(int *fd)
{
	if (*fd >= 0)
		gm_sys_close(*fd);
	*fd = -1;
}

int gm_vhost_check_eventfd(int fd, const char *what, struct gm_error *err)
{
	char path[48];
	char name[64];
	ssize_t nr;
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	nr = gm_sys_readlink(path, name, sizeof(name));
	if (nr < 0)
		return gm_error_set(err, (int)nr, 0, 0, "vhost-user: what %s is: %s: %s", what,
			path, gm_error_word((int)nr));
	if (strcmp(name, "anon_inode:[eventfd]") != 0)
		return gm_error_set(
			err, -EINVAL, 0, 0, "vhost-user: %s is no eventfd but %s", what, name);
	rc = gm_sys_set_nonblock(fd);
	return rc ? gm_error_set(err, rc, 0, 0, "vhost-user: %s: %s", what, gm_error_word(rc)) : 0;
}

/* The ring, and its new descriptor or -1; -EINVAL or another error. */
static int new_fd(struct vhost_call *call, const char *what, struct vhost_ring **ret, int *ret_fd)
{
	int rc;

	*ret = gm_vhost_ring_of(call, call->msg->u.number & GM_VHOST_VRING_INDEX);
	if (!*ret)
		return -EINVAL;
	rc = call->nr_fds ? gm_vhost_check_eventfd(call->fds[0], what, call->err) : 0;
	if (!rc)
		*ret_fd = gm_vhost_take_fd(call);
	return rc;
}

/* Starts the ring. */
int gm_vhost_on_kick(struct vhost_call *call)
{
	struct vhost_ring *r;
	int fd;
	int rc = new_fd(call, "the kick", &r, &fd);

	if (rc)
		return rc;
	gm_vhost_ring_pause(call->b, r, false);
	gm_vhost_close(&r->kick);
	r->kick = fd;
	/* In-band, the first kick does. */
	r->started = r->started || fd >= 0 ||
		     !vhost_has(call->b, GM_VHOST_PROTOCOL_INBAND_NOTIFICATIONS);
	return gm_vhost_ring_go(call->b, r, call->err);
}

int gm_vhost_on_inband_kick(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	struct vhost_ring *r = gm_vhost_ring_of(call, call->msg->u.vring.index);
	int rc;

	if (!r)
		return -EINVAL;
	r->started = true;
	rc = gm_vhost_ring_go(b, r, call->err);
	if (!rc && r->running && b->ops.queue_kick)
		b->ops.queue_kick(b->o.ctx, call->msg->u.vring.index);
	return rc;
}

static int replace(struct vhost_call *call, const char *what, bool is_call)
{
	struct vhost_ring *r;
	int fd;
	int rc = new_fd(call, what, &r, &fd);
	int *at;
	int old;

	if (rc)
		return rc;
	at = is_call ? &r->call : &r->err;
	pthread_mutex_lock(&r->lock);
	old = *at;
	*at = fd;
	pthread_mutex_unlock(&r->lock);
	gm_vhost_close(&old);
	return 0;
}

int gm_vhost_on_call(struct vhost_call *call)
{
	return replace(call, "the call", true);
}

int gm_vhost_on_err(struct vhost_call *call)
{
	return replace(call, "the error's descriptor", false);
}

/* ---- by any thread ---- */

/* With a server's signals it never waits, though a front-end can make the eventfd blocking, and full. */
int gm_vhost_signal(const struct gm_vhost_backend *b, int fd)
{
	const uint64_t one = 1;
	ssize_t nr;

	if (b->signals)
		return gm_sys_signals_add(b->signals, fd);
	do
		nr = gm_sys_write(fd, &one, sizeof(one));
	while (nr == -EINTR);
	return nr < 0 && nr != -EAGAIN ? (int)nr : 0;
}

static int notify(struct gm_vhost_backend *b, uint32_t index, bool is_call)
{
	struct gm_vhost_msg msg = {
		.request = GM_VHOST_BACKEND_VRING_CALL, .len = sizeof(msg.u.vring)};
	struct vhost_ring *r;
	int rc = -ENOENT;
	int fd;

	if (index >= b->o.queues)
		return -EINVAL;
	r = &b->rings[index];
	pthread_mutex_lock(&r->lock);
	fd = is_call ? r->call : r->err;
	if (is_call && r->marks)
		gm_vhost_log_used(b, r);
	if (fd >= 0)
		rc = gm_vhost_signal(b, fd);
	if (!rc)
		__atomic_add_fetch(is_call ? &r->calls : &r->errors, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&r->lock);
	if (fd >= 0)
		return rc;
	if (!vhost_has(b, GM_VHOST_PROTOCOL_INBAND_NOTIFICATIONS))
		return 0;
	msg.request = is_call ? GM_VHOST_BACKEND_VRING_CALL : GM_VHOST_BACKEND_VRING_ERR;
	msg.u.vring.index = index;
	rc = gm_vhost_backend_request(b, &msg, NULL, 0, NULL, NULL, NULL);
	if (!rc)
		__atomic_add_fetch(is_call ? &r->calls : &r->errors, 1, __ATOMIC_RELAXED);
	return rc;
}

int gm_vhost_backend_call(struct gm_vhost_backend *b, uint32_t index)
{
	gm_vhost_log_tell(b);
	return notify(b, index, true);
}

int gm_vhost_backend_error(struct gm_vhost_backend *b, uint32_t index)
{
	return notify(b, index, false);
}
