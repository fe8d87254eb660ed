/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_msg.c - see guestmem/vhost_msg.h. */
#include <guestmem/vhost_msg.h>

#include <stdbool.h>

#include "core/error.h"

_Static_assert(sizeof(struct gm_vhost_memory) == 8 + 32 * GM_VHOST_REGIONS_MAX, "layout");
_Static_assert(sizeof(struct gm_vhost_one_region) == 40, "layout");
_Static_assert(sizeof(struct gm_vhost_vring_addr) == 40, "layout");
_Static_assert(sizeof(struct gm_vhost_iotlb) == 32, "layout");
_Static_assert(offsetof(struct gm_vhost_config, bytes) == GM_VHOST_CONFIG_HEAD, "layout");
_Static_assert(sizeof(struct gm_vhost_area) == 24, "layout");
_Static_assert(sizeof(struct gm_vhost_inflight) == 24, "layout");
_Static_assert(sizeof(struct gm_vhost_shmem_config) == GM_VHOST_PAYLOAD_MAX, "layout");
_Static_assert(sizeof(struct gm_vhost_shmem_map) == 40, "layout");

#define CONFIG_MAX (GM_VHOST_CONFIG_HEAD + GM_VHOST_CONFIG_MAX)
#define INFLIGHT_MIN 20 /* without the padding at its end */
#define P(name) GM_VHOST_PROTOCOL_##name
#define ANY (-1)

/* Payload from, to; descriptors from, to; feature. */
#define ACK(name, min, max, fds_min, fds_max, needs)                                               \
	[GM_VHOST_##name] = {#name, min, max, fds_min, fds_max, needs, GM_VHOST_ANSWER_ACK, 8, 8, 0}
#define DONE(name, min, max, needs)                                                                \
	[GM_VHOST_##name] = {#name, min, max, 0, 0, needs, GM_VHOST_ANSWER_DONE, 8, 8, 0}
/* The same, and the reply's payload from, to; its descriptors. */
#define OWN(name, min, max, fds, needs, reply_min, reply_max, reply_fds)                           \
	[GM_VHOST_##name] = {#name, min, max, fds, fds, needs, GM_VHOST_ANSWER_OWN, reply_min,     \
		reply_max, reply_fds}

static const struct gm_vhost_kind frontend[] = {
	OWN(GET_FEATURES, 0, 0, 0, ANY, 8, 8, 0),
	ACK(SET_FEATURES, 8, 8, 0, 0, ANY),
	ACK(SET_OWNER, 0, 0, 0, 0, ANY),
	ACK(RESET_OWNER, 0, 0, 0, 0, ANY),
	ACK(SET_MEM_TABLE, 8, 264, 0, GM_VHOST_FDS_MAX, ANY),
	OWN(SET_LOG_BASE, 16, 16, 1, P(LOG_SHMFD), 0, GM_VHOST_PAYLOAD_MAX, 0),
	ACK(SET_LOG_FD, 0, 8, 1, 1, ANY),
	ACK(SET_VRING_NUM, 8, 8, 0, 0, ANY),
	ACK(SET_VRING_ADDR, 40, 40, 0, 0, ANY),
	ACK(SET_VRING_BASE, 8, 8, 0, 0, ANY),
	OWN(GET_VRING_BASE, 8, 8, 0, ANY, 8, 8, 0),
	ACK(SET_VRING_KICK, 8, 8, 0, 1, ANY),
	ACK(SET_VRING_CALL, 8, 8, 0, 1, ANY),
	ACK(SET_VRING_ERR, 8, 8, 0, 1, ANY),
	OWN(GET_PROTOCOL_FEATURES, 0, 0, 0, ANY, 8, 8, 0),
	ACK(SET_PROTOCOL_FEATURES, 8, 8, 0, 0, ANY),
	OWN(GET_QUEUE_NUM, 0, 0, 0, P(MQ), 8, 8, 0),
	ACK(SET_VRING_ENABLE, 8, 8, 0, 0, ANY),
	ACK(SEND_RARP, 8, 8, 0, 0, P(RARP)),
	ACK(NET_SET_MTU, 8, 8, 0, 0, P(NET_MTU)),
	ACK(SET_BACKEND_REQ_FD, 0, 0, 1, 1, P(BACKEND_REQ)),
	DONE(IOTLB_MSG, 32, 32, P(BACKEND_REQ)),
	ACK(SET_VRING_ENDIAN, 8, 8, 0, 0, P(CROSS_ENDIAN)),
	OWN(GET_CONFIG, GM_VHOST_CONFIG_HEAD, CONFIG_MAX, 0, P(CONFIG), 0, CONFIG_MAX, 0),
	ACK(SET_CONFIG, GM_VHOST_CONFIG_HEAD, CONFIG_MAX, 0, 0, P(CONFIG)),
	OWN(CREATE_CRYPTO_SESSION, 0, GM_VHOST_PAYLOAD_MAX, 0, P(CRYPTO_SESSION), 0,
		GM_VHOST_PAYLOAD_MAX, 0),
	ACK(CLOSE_CRYPTO_SESSION, 8, 8, 0, 0, P(CRYPTO_SESSION)),
	OWN(POSTCOPY_ADVISE, 0, 0, 0, P(PAGEFAULT), 0, 0, 1),
	ACK(POSTCOPY_LISTEN, 0, 0, 0, 0, P(PAGEFAULT)),
	DONE(POSTCOPY_END, 0, 0, P(PAGEFAULT)),
	OWN(GET_INFLIGHT_FD, INFLIGHT_MIN, 24, 0, P(INFLIGHT_SHMFD), INFLIGHT_MIN, 24, 1),
	ACK(SET_INFLIGHT_FD, INFLIGHT_MIN, 24, 1, 1, P(INFLIGHT_SHMFD)),
	ACK(GPU_SET_SOCKET, 0, 0, 1, 1, ANY),
	ACK(RESET_DEVICE, 0, 0, 0, 0, P(RESET_DEVICE)),
	ACK(VRING_KICK, 8, 8, 0, 0, P(INBAND_NOTIFICATIONS)),
	OWN(GET_MAX_MEM_SLOTS, 0, 0, 0, P(CONFIGURE_MEM_SLOTS), 8, 8, 0),
	ACK(ADD_MEM_REG, 40, 40, 1, 1, P(CONFIGURE_MEM_SLOTS)),
	ACK(REM_MEM_REG, 40, 40, 0, 1, P(CONFIGURE_MEM_SLOTS)),
	ACK(SET_STATUS, 8, 8, 0, 0, P(STATUS)),
	OWN(GET_STATUS, 0, 0, 0, P(STATUS), 8, 8, 0),
	OWN(GET_SHARED_OBJECT, 16, 16, 0, P(SHARED_OBJECT), 0, 16, 1),
	OWN(SET_DEVICE_STATE_FD, 8, 8, 1, P(DEVICE_STATE), 8, 8, 1),
	OWN(CHECK_DEVICE_STATE, 0, 0, 0, P(DEVICE_STATE), 8, 8, 0),
	OWN(GET_SHMEM_CONFIG, 0, 0, 0, P(SHMEM), 8, GM_VHOST_PAYLOAD_MAX, 0),
	OWN(GET_VRING_BASE_SKIP_DRAIN, 8, 8, 0, P(GET_VRING_BASE_SKIP_DRAIN), 8, 8, 0),
};

static const struct gm_vhost_kind backend[] = {
	ACK(BACKEND_IOTLB_MSG, 32, 32, 0, 0, P(BACKEND_REQ)),
	ACK(BACKEND_CONFIG_CHANGE, 0, 0, 0, 0, P(CONFIG)),
	ACK(BACKEND_VRING_HOST_NOTIFIER, 24, 24, 0, 1, P(HOST_NOTIFIER)),
	ACK(BACKEND_VRING_CALL, 8, 8, 0, 0, P(INBAND_NOTIFICATIONS)),
	ACK(BACKEND_VRING_ERR, 8, 8, 0, 0, P(INBAND_NOTIFICATIONS)),
	ACK(BACKEND_SHARED_OBJECT_ADD, 16, 16, 0, 0, P(SHARED_OBJECT)),
	ACK(BACKEND_SHARED_OBJECT_REMOVE, 16, 16, 0, 0, P(SHARED_OBJECT)),
	OWN(BACKEND_SHARED_OBJECT_LOOKUP, 16, 16, 0, P(SHARED_OBJECT), 0, 16, 1),
	ACK(BACKEND_SHMEM_MAP, 40, 40, 1, 1, P(SHMEM)),
	ACK(BACKEND_SHMEM_UNMAP, 40, 40, 0, 0, P(SHMEM)),
};

#define NR(array) (sizeof(array) / sizeof((array)[0]))

const struct gm_vhost_kind *gm_vhost_kind(enum gm_vhost_from from, uint32_t request)
{
	const struct gm_vhost_kind *kinds = from == GM_VHOST_FROM_BACKEND ? backend : frontend;
	size_t nr = from == GM_VHOST_FROM_BACKEND ? NR(backend) : NR(frontend);

	return request < nr && kinds[request].name ? &kinds[request] : NULL;
}

int gm_vhost_msg_check_header(
	enum gm_vhost_from from, const struct gm_vhost_msg *msg, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(from, msg->request);

	if ((msg->flags & GM_VHOST_VERSION_MASK) != GM_VHOST_VERSION)
		return gm_error_set(err, -EPROTO, 0, 0, "message %u has version %u, not 1",
			msg->request, msg->flags & GM_VHOST_VERSION_MASK);
	if (msg->flags & GM_VHOST_REPLY)
		return gm_error_set(err, -EPROTO, 0, 0,
			"message %u is a reply where a request belongs", msg->request);
	if (msg->len > GM_VHOST_PAYLOAD_MAX)
		return gm_error_set(err, -EPROTO, 0, 0,
			"message %u says that it has %u bytes; none has more than %u", msg->request,
			msg->len, GM_VHOST_PAYLOAD_MAX);
	if (!kind)
		return gm_error_set(err, -ENOTSUP, 0, 0, "there is no message %u", msg->request);
	if (msg->len < kind->len_min || msg->len > kind->len_max)
		return gm_error_set(err, -EPROTO, 0, 0, "%s has %u bytes instead of %u to %u",
			kind->name, msg->len, kind->len_min, kind->len_max);
	return 0;
}

/* A table says how many regions it has; each has a descriptor. */
static int check_memory(const struct gm_vhost_msg *msg, uint32_t fds, struct gm_error *err)
{
	uint32_t nr = msg->u.memory.nr;

	if (nr > GM_VHOST_REGIONS_MAX)
		return gm_error_set(err, -EPROTO, 0, 0,
			"SET_MEM_TABLE has %u regions, more than %u", nr, GM_VHOST_REGIONS_MAX);
	if (msg->len != 8 + nr * sizeof(struct gm_vhost_region))
		return gm_error_set(err, -EPROTO, 0, 0,
			"SET_MEM_TABLE has %u bytes, which is not %u regions", msg->len, nr);
	if (fds != nr)
		return gm_error_set(err, -EPROTO, 0, 0,
			"SET_MEM_TABLE has %u descriptors for %u regions", fds, nr);
	return 0;
}

static int check_vring_fd(
	const struct gm_vhost_msg *msg, uint32_t fds, const char *name, struct gm_error *err)
{
	uint32_t wanted = msg->u.number & GM_VHOST_VRING_NO_FD ? 0 : 1;

	if (msg->u.number & ~(uint64_t)(GM_VHOST_VRING_INDEX | GM_VHOST_VRING_NO_FD))
		return gm_error_set(err, -EPROTO, 0, 0, "%s has unknown bits 0x%llx", name,
			(unsigned long long)msg->u.number);
	if (fds != wanted)
		return gm_error_set(err, -EPROTO, 0, 0, "%s of ring %u has %u descriptors, not %u",
			name, (unsigned int)(msg->u.number & GM_VHOST_VRING_INDEX), fds, wanted);
	return 0;
}

/* A request for contents has room for them, or is the head alone. */
static int check_config(const struct gm_vhost_msg *msg, const char *name, struct gm_error *err)
{
	uint32_t room = msg->len - GM_VHOST_CONFIG_HEAD;
	bool head = msg->request == GM_VHOST_GET_CONFIG && room == 0;

	if (msg->u.config.len > GM_VHOST_CONFIG_MAX || (!head && msg->u.config.len != room))
		return gm_error_set(err, -EPROTO, 0, 0,
			"%s is of %u bytes of configuration, and has room for %u", name,
			msg->u.config.len, room);
	return 0;
}

int gm_vhost_msg_check(
	enum gm_vhost_from from, const struct gm_vhost_msg *msg, uint32_t fds, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(from, msg->request);
	int rc = gm_vhost_msg_check_header(from, msg, err);

	if (rc < 0)
		return rc;
	if (fds < kind->fds_min || fds > kind->fds_max)
		return gm_error_set(err, -EPROTO, 0, 0, "%s has %u descriptors instead of %u to %u",
			kind->name, fds, kind->fds_min, kind->fds_max);
	if (from != GM_VHOST_FROM_FRONTEND)
		return 0;
	switch (msg->request) {
	case GM_VHOST_SET_MEM_TABLE:
		return check_memory(msg, fds, err);
	case GM_VHOST_SET_VRING_KICK:
	case GM_VHOST_SET_VRING_CALL:
	case GM_VHOST_SET_VRING_ERR:
		return check_vring_fd(msg, fds, kind->name, err);
	case GM_VHOST_GET_CONFIG:
	case GM_VHOST_SET_CONFIG:
		return check_config(msg, kind->name, err);
	default:
		return 0;
	}
}

int gm_vhost_msg_check_reply(enum gm_vhost_from from, const struct gm_vhost_msg *request,
	const struct gm_vhost_msg *reply, uint32_t fds, struct gm_error *err)
{
	const struct gm_vhost_kind *kind = gm_vhost_kind(from, request->request);

	if (!kind)
		return gm_error_set(err, -EPROTO, 0, 0, "there is no message %u", request->request);
	if (reply->request != request->request ||
		reply->flags != (GM_VHOST_VERSION | GM_VHOST_REPLY))
		return gm_error_set(err, -EPROTO, 0, 0,
			"%s was answered by message %u with flags 0x%x", kind->name, reply->request,
			reply->flags);
	if (reply->len < kind->reply_min || reply->len > kind->reply_max)
		return gm_error_set(err, -EPROTO, 0, 0,
			"the reply to %s has %u bytes instead of %u to %u", kind->name, reply->len,
			kind->reply_min, kind->reply_max);
	if (fds > kind->reply_fds)
		return gm_error_set(
			err, -EPROTO, 0, 0, "the reply to %s has %u descriptors", kind->name, fds);
	return 0;
}
