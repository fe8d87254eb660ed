/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_frontend_state.c - see guestmem/vhost_device.h: what a front-end of vhost-user asks of the device. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "adapters/vhost_frontend.h"
#include "core/error.h"
#include "core/range.h"
#include "sys/sys.h"

#define NO_FD 0x100u /* SET_DEVICE_STATE_FD's answer: the front-end's pipe is used */

/* One message, with its turn. */
static int ask(struct gm_vhost_frontend *fe, struct gm_vhost_fe_call *call, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = gm_vhost_fe_call(fe, call, err);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

static int says_no(struct gm_vhost_frontend *fe, const char *what, struct gm_error *err)
{
	return gm_error_set(
		err, -EREMOTEIO, 0, 0, "%s: %s: refused by the back-end", fe->name, what);
}

/* ---- translations ---- */

int gm_vhost_frontend_iotlb(
	struct gm_vhost_frontend *fe, const struct gm_vhost_iotlb *iotlb, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_IOTLB_MSG, .len = sizeof(*iotlb)}};
	struct gm_range range;
	bool update = iotlb->type == GM_VHOST_IOTLB_UPDATE;

	if ((!update && iotlb->type != GM_VHOST_IOTLB_INVALIDATE) || iotlb->perm > 3 ||
		!gm_range_make(iotlb->iova, iotlb->len, &range) ||
		(update && !gm_range_make(iotlb->user, iotlb->len, &range)))
		return gm_error_set(err, -EINVAL, iotlb->iova, iotlb->len,
			"%s: no translation: type %u, permissions %u, 0x%" PRIx64 " and %" PRIu64
			" bytes",
			fe->name, iotlb->type, iotlb->perm, iotlb->iova, iotlb->len);
	call.msg.u.iotlb = *iotlb;
	return ask(fe, &call, err);
}

/* ---- configuration ---- */

static int config_call(struct gm_vhost_frontend *fe, struct gm_vhost_fe_call *call, uint32_t off,
	uint32_t len, uint32_t flags, struct gm_error *err)
{
	if (len == 0 || len > GM_VHOST_CONFIG_MAX)
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: %u bytes of configuration at once, not 1 to %u", fe->name, len,
			GM_VHOST_CONFIG_MAX);
	call->msg.len = GM_VHOST_CONFIG_HEAD + len;
	call->msg.u.config.off = off;
	call->msg.u.config.len = len;
	call->msg.u.config.flags = flags;
	return 0;
}

int gm_vhost_frontend_config_get(
	struct gm_vhost_frontend *fe, uint32_t off, void *buf, uint32_t len, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_GET_CONFIG}};
	struct gm_inside inside;
	int rc = config_call(fe, &call, off, len, 0, err);

	if (!rc)
		rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0)
		return rc;
	rc = gm_vhost_fe_call(fe, &call, err);
	/* No payload is the back-end's no. */
	if (!rc && (call.msg.len == 0 || call.msg.len == GM_VHOST_CONFIG_HEAD))
		rc = says_no(fe, "GET_CONFIG", err);
	else if (!rc && (call.msg.len != GM_VHOST_CONFIG_HEAD + len ||
				call.msg.u.config.len != len || call.msg.u.config.off != off))
		rc = gm_vhost_fe_lose(fe, -EPROTO, "GET_CONFIG", err);
	if (!rc)
		memcpy(buf, call.msg.u.config.bytes, len);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_frontend_config_set(struct gm_vhost_frontend *fe, uint32_t off, const void *buf,
	uint32_t len, bool migrated, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_SET_CONFIG}};
	int rc = config_call(fe, &call, off, len, migrated, err);

	if (rc < 0)
		return rc;
	memcpy(call.msg.u.config.bytes, buf, len);
	return ask(fe, &call, err);
}

/* ---- status ---- */

int gm_vhost_frontend_status_get(
	struct gm_vhost_frontend *fe, uint8_t *ret_status, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_GET_STATUS}};
	int rc = ask(fe, &call, err);

	if (!rc && call.msg.u.number > UINT8_MAX)
		return gm_error_set(err, -EPROTO, 0, 0,
			"%s: GET_STATUS: 0x%" PRIx64 " is no status", fe->name, call.msg.u.number);
	if (!rc)
		*ret_status = (uint8_t)call.msg.u.number;
	return rc;
}

int gm_vhost_frontend_status_set(struct gm_vhost_frontend *fe, uint8_t status, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = gm_vhost_fe_set(fe, GM_VHOST_SET_STATUS, status, err);
	if (!rc) {
		fe->status = status;
		fe->status_set = true;
	}
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_frontend_reset(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = gm_vhost_fe_set(fe, GM_VHOST_RESET_DEVICE, 0, err);
	if (!rc) {
		gm_vhost_fe_rings_end(fe);
		fe->status_set = false;
	}
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

/* ---- in flight ---- */

static int give_inflight(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_SET_INFLIGHT_FD, .len = sizeof(fe->inflight)},
		.fds = &fe->inflight_fd,
		.nr_fds = 1,
	};

	call.msg.u.inflight = fe->inflight;
	return gm_vhost_fe_call(fe, &call, err);
}

/* It is memory of the back-end's making, kept for it and not read here. */
static int take_inflight(struct gm_vhost_frontend *fe, uint16_t queue_size, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_GET_INFLIGHT_FD,
						.len = sizeof(struct gm_vhost_inflight)}};
	struct gm_vhost_inflight *got = &call.msg.u.inflight;
	uint16_t queues = (uint16_t)fe->opts.rings;
	struct gm_range area;
	int rc;

	got->queues = queues;
	got->queue_size = queue_size;
	rc = gm_vhost_fe_call(fe, &call, err);
	if (rc < 0)
		return rc;
	if (call.fd < 0 || !gm_range_make(got->off, got->len, &area) || got->queues != queues ||
		got->queue_size != queue_size) {
		if (call.fd >= 0)
			gm_sys_close(call.fd);
		/* An answer without an area is the back-end's no. */
		if (call.fd < 0 && got->len == 0)
			return says_no(fe, "GET_INFLIGHT_FD", err);
		return gm_vhost_fe_lose(fe, -EPROTO, "GET_INFLIGHT_FD", err);
	}
	if (fe->inflight_fd >= 0)
		gm_sys_close(fe->inflight_fd);
	fe->inflight_fd = call.fd;
	fe->inflight = *got;
	return 0;
}

int gm_vhost_frontend_inflight(
	struct gm_vhost_frontend *fe, uint16_t queue_size, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	for (uint32_t n = 0; !rc && n < fe->opts.rings; n++) {
		if (fe->rings[n].started)
			rc = gm_error_set(err, -EBUSY, 0, 0, "%s: ring %u is started", fe->name, n);
	}
	if (!rc && queue_size == 0)
		rc = gm_error_set(err, -EINVAL, 0, 0, "%s: rings without entries", fe->name);
	if (!rc)
		rc = take_inflight(fe, queue_size, err);
	if (!rc)
		rc = give_inflight(fe, err);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_fe_state_tell(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	int rc = fe->inflight_fd >= 0 ? give_inflight(fe, err) : 0;

	if (!rc && fe->status_set)
		rc = gm_vhost_fe_set(fe, GM_VHOST_SET_STATUS, fe->status, err);
	return rc;
}

/* ---- post-copy ---- */

int gm_vhost_frontend_postcopy_advise(
	struct gm_vhost_frontend *fe, int *ret_fd, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_POSTCOPY_ADVISE}};
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = gm_vhost_fe_call(fe, &call, err);
	if (!rc && call.fd < 0)
		rc = says_no(fe, "POSTCOPY_ADVISE", err);
	if (!rc) {
		fe->postcopy = GM_VHOST_FE_ADVISED;
		*ret_fd = call.fd;
	}
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_frontend_postcopy_listen(struct gm_vhost_frontend *fe,
	int (*mapped)(void *ctx, const struct gm_vhost_region *region, uint64_t base), void *ctx,
	struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	if (fe->space)
		rc = gm_error_set(err, -EBUSY, 0, 0, "%s: it has memory already", fe->name);
	else if (fe->postcopy != GM_VHOST_FE_ADVISED)
		rc = gm_error_set(err, -EINVAL, 0, 0, "%s: nothing was advised", fe->name);
	else
		rc = gm_vhost_fe_set(fe, GM_VHOST_POSTCOPY_LISTEN, 0, err);
	if (!rc) {
		fe->postcopy = GM_VHOST_FE_LISTENING;
		fe->mapped = mapped;
		fe->mapped_ctx = ctx;
	}
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

int gm_vhost_frontend_postcopy_gpa(
	struct gm_vhost_frontend *fe, uint64_t address, uint64_t *ret_gpa)
{
	int rc = -ENOENT;

	pthread_mutex_lock(&fe->bases_lock);
	for (size_t i = 0; i < fe->now.nr; i++) {
		uint64_t base = fe->now.bases[i];

		if (base && address >= base && address - base < fe->now.slots[i].region.len) {
			*ret_gpa = fe->now.slots[i].region.gpa + (address - base);
			rc = 0;
		}
	}
	pthread_mutex_unlock(&fe->bases_lock);
	return rc;
}

int gm_vhost_frontend_postcopy_end(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	if (fe->postcopy == GM_VHOST_FE_PRECOPY)
		rc = gm_error_set(err, -EINVAL, 0, 0, "%s: nothing was advised", fe->name);
	else
		rc = gm_vhost_fe_set(fe, GM_VHOST_POSTCOPY_END, 0, err);
	if (!rc)
		fe->postcopy = GM_VHOST_FE_PRECOPY;
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

/* ---- state ---- */

int gm_vhost_frontend_state(
	struct gm_vhost_frontend *fe, bool load, int fd, int *ret_fd, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {
		.msg = {.request = GM_VHOST_SET_DEVICE_STATE_FD,
			.len = sizeof(struct gm_vhost_device_state)},
		.fds = &fd,
		.nr_fds = 1,
	};
	bool given;
	int rc;

	call.msg.u.state.direction = load;
	rc = ask(fe, &call, err);
	if (rc < 0)
		return rc;
	given = call.fd >= 0;
	if ((call.msg.u.number & 0xff) == 0 && given == !(call.msg.u.number & NO_FD)) {
		*ret_fd = call.fd;
		return 0;
	}
	if (given)
		gm_sys_close(call.fd);
	return says_no(fe, "SET_DEVICE_STATE_FD", err);
}

int gm_vhost_frontend_state_check(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_CHECK_DEVICE_STATE}};
	int rc = ask(fe, &call, err);

	return !rc && call.msg.u.number ? says_no(fe, "CHECK_DEVICE_STATE", err) : rc;
}

int gm_vhost_frontend_shmem(struct gm_vhost_frontend *fe, struct gm_vhost_shmem_config *ret_config,
	struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_GET_SHMEM_CONFIG}};
	struct gm_vhost_shmem_config *got = &call.msg.u.shmem;
	struct gm_inside inside;
	uint32_t used = 0;
	int rc = gm_vhost_fe_enter(fe, &inside, err);

	if (rc < 0)
		return rc;
	rc = gm_vhost_fe_call(fe, &call, err);
	for (size_t i = 0; !rc && i < GM_VHOST_SHMEM_MAX; i++)
		used += got->len[i] != 0;
	if (!rc &&
		(call.msg.len != sizeof(*got) || got->nr > GM_VHOST_SHMEM_MAX || used != got->nr))
		rc = gm_vhost_fe_lose(fe, -EPROTO, "GET_SHMEM_CONFIG", err);
	if (!rc)
		*ret_config = *got;
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}
