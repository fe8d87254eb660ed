/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_features.c - what was negotiated; configuration, status, state, shared objects of the device. */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define BIT(name) (UINT64_C(1) << GM_VHOST_PROTOCOL_##name)
#define STATE_FAILED 0x1u  /* the answer to SET_DEVICE_STATE_FD: an error in the low byte, */
#define STATE_NO_FD 0x100u /* and that the front-end's own descriptor is used */

/* ---- features ---- */

/* Post-copy and slots are never offered together. */
void gm_vhost_offer(struct gm_vhost_backend *b)
{
	const uint32_t flags = b->o.flags;
	uint64_t p = BIT(MQ) | BIT(REPLY_ACK) | BIT(BACKEND_REQ) | BIT(BACKEND_SEND_FD) |
		     BIT(INFLIGHT_SHMFD) | BIT(RESET_DEVICE) | BIT(STATUS) | b->o.protocol;

	b->offered = b->o.features | GM_VHOST_F_PROTOCOL_FEATURES;
	if (!(flags & GM_VHOST_BACKEND_NO_LOG)) {
		b->offered |= GM_VHOST_F_LOG_ALL;
		p |= BIT(LOG_SHMFD);
	} else {
		b->offered &= ~GM_VHOST_F_LOG_ALL;
	}
	if (flags & GM_VHOST_BACKEND_POSTCOPY)
		p |= BIT(PAGEFAULT);
	else if (!(flags & GM_VHOST_BACKEND_NO_SLOTS))
		p |= BIT(CONFIGURE_MEM_SLOTS);
	p |= flags & GM_VHOST_BACKEND_INBAND ? BIT(INBAND_NOTIFICATIONS) : 0;
	p |= flags & GM_VHOST_BACKEND_GPA ? BIT(GPA_ADDRESSES) : 0;
	p |= flags & GM_VHOST_BACKEND_SUSPEND
		     ? BIT(GET_VRING_BASE_INFLIGHT) | BIT(GET_VRING_BASE_SKIP_DRAIN)
		     : 0;
	p |= b->ops.get_config ? BIT(CONFIG) : 0;
	p |= b->ops.shared_object ? BIT(SHARED_OBJECT) : 0;
	p |= b->ops.state && b->ops.check_state ? BIT(DEVICE_STATE) : 0;
	p |= b->o.nr_shmem ? BIT(SHMEM) : 0;
	b->offered_protocol = p;
}

int gm_vhost_on_get_features(struct vhost_call *call)
{
	gm_vhost_answer_number(call, call->b->offered);
	return 0;
}

int gm_vhost_on_set_features(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const uint64_t features = call->msg->u.number;
	const uint64_t was = b->features;
	int rc = 0;

	if (features & ~b->offered)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: features 0x%" PRIx64 " were not offered",
			features & ~b->offered);
	/* A log may begin and end under rings that run. */
	if (gm_vhost_rings_run(b) && ((features ^ was) & ~GM_VHOST_F_LOG_ALL))
		return gm_error_set(call->err, -EBUSY, 0, 0,
			"vhost-user: features 0x%" PRIx64 " change while rings run",
			features ^ was);
	if (b->ops.features)
		rc = gm_checked_code(b->ops.features(b->o.ctx, features));
	if (rc)
		return gm_error_set(call->err, rc, 0, 0,
			"vhost-user: the device refuses features 0x%" PRIx64, features);
	b->features = features;
	rc = gm_vhost_log_go(b, was, call->err);
	if (rc) {
		b->features = was;
		if (b->ops.features)
			b->ops.features(b->o.ctx, was);
		return rc;
	}
	/* Without the feature there is nothing that enables a ring. */
	for (uint32_t i = 0; i < b->o.queues; i++) {
		if (!(features & GM_VHOST_F_PROTOCOL_FEATURES))
			b->rings[i].enabled = true;
		else if (!(was & GM_VHOST_F_PROTOCOL_FEATURES))
			b->rings[i].enabled = false;
	}
	return 0;
}

int gm_vhost_on_get_protocol(struct vhost_call *call)
{
	gm_vhost_answer_number(call, call->b->offered_protocol);
	return 0;
}

int gm_vhost_on_set_protocol(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const uint64_t p = call->msg->u.number;

	if (p & ~b->offered_protocol)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: protocol features 0x%" PRIx64 " were not offered",
			p & ~b->offered_protocol);
	if ((p & BIT(GET_VRING_BASE_INFLIGHT) && !(p & BIT(INFLIGHT_SHMFD))) ||
		(p & BIT(GET_VRING_BASE_SKIP_DRAIN) && !(p & BIT(GET_VRING_BASE_INFLIGHT))))
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: protocol features 0x%" PRIx64 " lack one that another needs",
			p);
	if (gm_vhost_rings_run(b) && p != b->protocol)
		return gm_error_set(call->err, -EBUSY, 0, 0,
			"vhost-user: protocol features change while rings run");
	__atomic_store_n(&b->protocol, p, __ATOMIC_RELAXED);
	return 0;
}

int gm_vhost_on_queue_num(struct vhost_call *call)
{
	gm_vhost_answer_number(call, call->b->o.queues);
	return 0;
}

/* One connection is one owner. Of giving it up is left that all rings stop. */
int gm_vhost_on_owner(struct vhost_call *call)
{
	if (call->msg->request == GM_VHOST_RESET_OWNER)
		gm_vhost_rings_reset(call->b);
	return 0;
}

int gm_vhost_on_reset(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;

	gm_vhost_rings_reset(b);
	b->status = 0;
	if (b->ops.reset)
		b->ops.reset(b->o.ctx);
	return 0;
}

/* ---- the device ---- */

/* An empty reply says that it failed. */
int gm_vhost_on_get_config(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	struct gm_vhost_config config = call->msg->u.config;
	int rc;

	memset(config.bytes, 0, sizeof(config.bytes));
	rc = gm_checked_code(b->ops.get_config(b->o.ctx, config.off, config.bytes, config.len));
	if (rc) {
		gm_vhost_answer(call, NULL, 0);
		return gm_error_set(call->err, rc, config.off, config.len,
			"vhost-user: %u bytes of configuration at %u cannot be read", config.len,
			config.off);
	}
	gm_vhost_answer(call, &config, GM_VHOST_CONFIG_HEAD + config.len);
	return 0;
}

int gm_vhost_on_set_config(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_config *config = &call->msg->u.config;
	int rc = -ENOTSUP;

	if (b->ops.set_config)
		rc = gm_checked_code(b->ops.set_config(
			b->o.ctx, config->off, config->bytes, config->len, config->flags));
	return rc ? gm_error_set(call->err, rc, config->off, config->len,
			    "vhost-user: %u bytes of configuration at %u cannot be written",
			    config->len, config->off)
		  : 0;
}

int gm_vhost_on_set_status(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;

	if (call->msg->u.number > UINT8_MAX)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: status 0x%" PRIx64 " is no byte", call->msg->u.number);
	b->status = (uint8_t)call->msg->u.number;
	if (b->ops.status)
		b->ops.status(b->o.ctx, b->status);
	return 0;
}

int gm_vhost_on_get_status(struct vhost_call *call)
{
	gm_vhost_answer_number(call, call->b->status);
	return 0;
}

int gm_vhost_on_state(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_device_state *state = &call->msg->u.state;
	int rc = -EINVAL;

	if (state->direction <= 1 && state->phase == 0 && !gm_vhost_rings_run(b))
		rc = gm_checked_code(b->ops.state(b->o.ctx, state->direction, call->fds[0]));
	if (rc) {
		gm_vhost_answer_number(call, STATE_FAILED | STATE_NO_FD);
		return gm_error_set(call->err, rc, 0, 0,
			"vhost-user: state cannot be moved (direction %u, phase %u%s): %s",
			state->direction, state->phase, gm_vhost_rings_run(b) ? ", rings run" : "",
			gm_error_word(rc));
	}
	gm_vhost_take_fd(call);
	gm_vhost_answer_number(call, STATE_NO_FD);
	return 0;
}

int gm_vhost_on_check_state(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int rc = gm_checked_code(b->ops.check_state(b->o.ctx));

	gm_vhost_answer_number(call, rc ? 1 : 0);
	return rc ? gm_error_set(call->err, rc, 0, 0,
			    "vhost-user: the state was not moved whole: %s", gm_error_word(rc))
		  : 0;
}

int gm_vhost_on_shared_object(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int fd = b->ops.shared_object(b->o.ctx, call->msg->u.uuid);

	gm_vhost_answer(call, NULL, 0);
	if (fd < 0)
		return gm_error_set(call->err, gm_checked_code(fd), 0, 0,
			"vhost-user: there is no such shared object");
	gm_vhost_answer_fd(call, fd);
	return 0;
}

int gm_vhost_on_shmem(struct vhost_call *call)
{
	struct gm_vhost_shmem_config config = {.nr = 0};

	memcpy(config.len, call->b->shmem, sizeof(config.len));
	/* Those that are there; the index of one is its number. */
	for (uint32_t i = 0; i < GM_VHOST_SHMEM_MAX; i++)
		config.nr += config.len[i] != 0;
	gm_vhost_answer(call, &config, sizeof(config));
	return 0;
}
