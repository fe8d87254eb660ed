/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_backend.c - see vhost_backend.h: life; a message in, a reply out.
 *
 * Which messages there are, and what they carry, is known to core/vhost_msg; here stands who does them. What a handler
 * does not take of the descriptors is closed when it returns.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define TIMEOUT_NS UINT64_C(5000000000)
#define QUEUE_SIZE 1024u
#define KNOWN_FLAGS                                                                                \
	(GM_VHOST_BACKEND_POSTCOPY | GM_VHOST_BACKEND_INBAND | GM_VHOST_BACKEND_SUSPEND |          \
		GM_VHOST_BACKEND_NO_LOG | GM_VHOST_BACKEND_NO_SLOTS | GM_VHOST_BACKEND_GPA)
#define CALLER_PROTOCOL                                                                            \
	(UINT64_C(1) << GM_VHOST_PROTOCOL_RARP | UINT64_C(1) << GM_VHOST_PROTOCOL_NET_MTU |        \
		UINT64_C(1) << GM_VHOST_PROTOCOL_CRYPTO_SESSION |                                  \
		UINT64_C(1) << GM_VHOST_PROTOCOL_HOST_NOTIFIER)

static const vhost_handler handlers[] = {
	[GM_VHOST_GET_FEATURES] = gm_vhost_on_get_features,
	[GM_VHOST_SET_FEATURES] = gm_vhost_on_set_features,
	[GM_VHOST_SET_OWNER] = gm_vhost_on_owner,
	[GM_VHOST_RESET_OWNER] = gm_vhost_on_owner,
	[GM_VHOST_SET_MEM_TABLE] = gm_vhost_on_mem_table,
	[GM_VHOST_SET_LOG_BASE] = gm_vhost_on_log_base,
	[GM_VHOST_SET_LOG_FD] = gm_vhost_on_log_fd,
	[GM_VHOST_SET_VRING_NUM] = gm_vhost_on_vring_num,
	[GM_VHOST_SET_VRING_ADDR] = gm_vhost_on_vring_addr,
	[GM_VHOST_SET_VRING_BASE] = gm_vhost_on_set_base,
	[GM_VHOST_GET_VRING_BASE] = gm_vhost_on_get_base,
	[GM_VHOST_SET_VRING_KICK] = gm_vhost_on_kick,
	[GM_VHOST_SET_VRING_CALL] = gm_vhost_on_call,
	[GM_VHOST_SET_VRING_ERR] = gm_vhost_on_err,
	[GM_VHOST_GET_PROTOCOL_FEATURES] = gm_vhost_on_get_protocol,
	[GM_VHOST_SET_PROTOCOL_FEATURES] = gm_vhost_on_set_protocol,
	[GM_VHOST_GET_QUEUE_NUM] = gm_vhost_on_queue_num,
	[GM_VHOST_SET_VRING_ENABLE] = gm_vhost_on_enable,
	[GM_VHOST_SET_BACKEND_REQ_FD] = gm_vhost_on_channel,
	[GM_VHOST_IOTLB_MSG] = gm_vhost_on_iotlb,
	[GM_VHOST_SET_VRING_ENDIAN] = gm_vhost_on_endian,
	[GM_VHOST_GET_CONFIG] = gm_vhost_on_get_config,
	[GM_VHOST_SET_CONFIG] = gm_vhost_on_set_config,
	[GM_VHOST_POSTCOPY_ADVISE] = gm_vhost_on_advise,
	[GM_VHOST_POSTCOPY_LISTEN] = gm_vhost_on_listen,
	[GM_VHOST_POSTCOPY_END] = gm_vhost_on_end,
	[GM_VHOST_GET_INFLIGHT_FD] = gm_vhost_on_get_inflight,
	[GM_VHOST_SET_INFLIGHT_FD] = gm_vhost_on_set_inflight,
	[GM_VHOST_RESET_DEVICE] = gm_vhost_on_reset,
	[GM_VHOST_VRING_KICK] = gm_vhost_on_inband_kick,
	[GM_VHOST_GET_MAX_MEM_SLOTS] = gm_vhost_on_max_slots,
	[GM_VHOST_ADD_MEM_REG] = gm_vhost_on_add_region,
	[GM_VHOST_REM_MEM_REG] = gm_vhost_on_remove_region,
	[GM_VHOST_SET_STATUS] = gm_vhost_on_set_status,
	[GM_VHOST_GET_STATUS] = gm_vhost_on_get_status,
	[GM_VHOST_GET_SHARED_OBJECT] = gm_vhost_on_shared_object,
	[GM_VHOST_SET_DEVICE_STATE_FD] = gm_vhost_on_state,
	[GM_VHOST_CHECK_DEVICE_STATE] = gm_vhost_on_check_state,
	[GM_VHOST_GET_SHMEM_CONFIG] = gm_vhost_on_shmem,
	[GM_VHOST_GET_VRING_BASE_SKIP_DRAIN] = gm_vhost_on_get_base,
};

/* ---- what handlers use ---- */

int gm_vhost_take_fd(struct vhost_call *call)
{
	return call->nr_fds ? call->fds[--call->nr_fds] : -1;
}

void gm_vhost_answer(struct vhost_call *call, const void *payload, uint32_t len)
{
	struct gm_vhost_answered *a = call->answered;

	a->is = true;
	a->msg.request = call->msg->request;
	a->msg.flags = GM_VHOST_VERSION | GM_VHOST_REPLY;
	a->msg.len = len;
	if (len)
		memcpy(a->msg.u.bytes, payload, len);
}

void gm_vhost_answer_number(struct vhost_call *call, uint64_t number)
{
	gm_vhost_answer(call, &number, sizeof(number));
}

void gm_vhost_answer_fd(struct vhost_call *call, int fd)
{
	call->answered->fds[call->answered->nr_fds++] = fd;
}

bool gm_vhost_wants_reply(const struct vhost_call *call)
{
	return (call->msg->flags & GM_VHOST_NEED_REPLY) &&
	       vhost_has(call->b, GM_VHOST_PROTOCOL_REPLY_ACK);
}

/* ---- messages ---- */

static int do_other(struct vhost_call *call, const struct gm_vhost_kind *kind)
{
	struct gm_vhost_backend *b = call->b;
	struct gm_vhost_msg *reply = &call->answered->msg;
	int rc = -ENOTSUP;

	reply->len = 0;
	if (b->ops.other)
		rc = gm_checked_code(
			b->ops.other(b->o.ctx, call->msg, call->fds, call->nr_fds, reply));
	if (rc)
		return gm_error_set(call->err, rc, 0, 0, "vhost-user: message %u (%s): %s",
			call->msg->request, kind ? kind->name : "unknown", gm_error_word(rc));
	if (!kind || kind->answer != GM_VHOST_ANSWER_OWN)
		return 0;
	/* The payload is there already. */
	call->answered->is = true;
	reply->request = call->msg->request;
	reply->flags = GM_VHOST_VERSION | GM_VHOST_REPLY;
	return reply->len <= GM_VHOST_PAYLOAD_MAX ? 0 : -EPROTO;
}

/* An area that is mapped, or a page fault that is served: nothing else may come in between. */
static int check_order(struct vhost_call *call, const struct gm_vhost_kind *kind)
{
	const struct gm_vhost_backend *b = call->b;

	if (b->wants_ack && (call->msg->request != GM_VHOST_SET_MEM_TABLE || call->msg->len != 8))
		return gm_error_set(call->err, -EPROTO, 0, 0,
			"vhost-user: %s where the answer to the table's addresses belongs",
			kind->name);
	if (kind->needs >= 0 && !vhost_has(b, (enum gm_vhost_protocol)kind->needs))
		return gm_error_set(call->err, -ENOTSUP, 0, 0,
			"vhost-user: %s needs protocol feature %d, which was not negotiated",
			kind->name, kind->needs);
	return 0;
}

static int dispatch(struct vhost_call *call)
{
	const uint32_t request = call->msg->request;
	const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, request);
	const uint32_t known = sizeof(handlers) / sizeof(handlers[0]);
	int rc = gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, call->msg, call->nr_fds, call->err);

	if (!kind && rc == -ENOTSUP && !call->b->wants_ack)
		return do_other(call, NULL);
	if (rc || !kind)
		return -EPROTO;
	rc = check_order(call, kind);
	if (rc)
		return rc;
	return request < known && handlers[request] ? handlers[request](call)
						    : do_other(call, kind);
}

/* Says how it went, if there is a way to: 0, or @rc. */
static int conclude(struct vhost_call *call, int rc)
{
	const struct gm_vhost_kind *kind =
		gm_vhost_kind(GM_VHOST_FROM_FRONTEND, call->msg->request);
	const bool number = !kind || kind->answer != GM_VHOST_ANSWER_OWN;

	if (rc == -EPROTO || (call->answered->is && rc == 0))
		return rc;
	if ((kind && kind->answer == GM_VHOST_ANSWER_DONE) ||
		(number && gm_vhost_wants_reply(call)))
		gm_vhost_answer_number(call, (uint64_t)-rc);
	return call->answered->is ? 0 : rc;
}

int gm_vhost_backend_handle(struct gm_vhost_backend *b, const struct gm_vhost_msg *msg,
	const int *fds, uint32_t nr_fds, struct gm_vhost_answered *ret, struct gm_error *err)
{
	struct gm_error own = {0};
	struct vhost_call call = {.b = b, .msg = msg, .answered = ret, .err = err ? err : &own};
	uint32_t i;
	int rc;

	ret->is = false;
	ret->nr_fds = 0;
	b->messages++;
	if (!b->connected) {
		b->connected = true;
		b->connections++;
		/* What there was no memory to drop. */
		gm_vhost_table_drop(b);
		if (b->ops.connected)
			b->ops.connected(b->o.ctx, true);
	}
	for (i = 0; i < nr_fds; i++) {
		if (i < GM_VHOST_FDS_MAX)
			call.fds[call.nr_fds++] = fds[i];
		else
			gm_sys_close(fds[i]);
	}
	rc = nr_fds > GM_VHOST_FDS_MAX
		     ? gm_error_set(call.err, -EPROTO, 0, 0,
			       "vhost-user: message %u has %u descriptors", msg->request, nr_fds)
		     : dispatch(&call);
	b->failed += rc != 0;
	while (call.nr_fds)
		gm_sys_close(call.fds[--call.nr_fds]);
	return conclude(&call, rc);
}

/* ---- life ---- */

static int copy_opts(
	struct gm_vhost_backend *b, const struct gm_vhost_backend_opts *user, struct gm_error *err)
{
	int rc = gm_opts_copy(&b->o, sizeof(b->o), user, sizeof(b->o));

	if (rc)
		return gm_opts_error(err, rc, "vhost-user");
	if (!b->o.ops)
		return gm_error_set(err, -EINVAL, 0, 0, "vhost-user: a back-end has callbacks");
	rc = gm_opts_copy(&b->ops, sizeof(b->ops), b->o.ops, sizeof(b->ops));
	if (rc)
		return gm_opts_error(err, rc, "vhost-user, callbacks");
	b->o.queues = b->o.queues ? b->o.queues : 1;
	b->o.queue_size = b->o.queue_size ? b->o.queue_size : QUEUE_SIZE;
	b->o.timeout_ns = b->o.timeout_ns ? b->o.timeout_ns : TIMEOUT_NS;
	if (!b->ops.queue_start || !b->ops.queue_stop || b->o.queues > GM_VHOST_QUEUES_MAX ||
		b->o.queue_size > GM_VIRTQ_NR_MAX || b->o.nr_shmem > GM_VHOST_SHMEM_MAX ||
		(b->o.flags & ~KNOWN_FLAGS) || (b->o.protocol & ~CALLER_PROTOCOL) ||
		b->o.reserved || (b->o.nr_shmem && !b->o.shmem))
		return gm_error_set(err, -EINVAL, 0, 0,
			"vhost-user: %u queues of %u entries, %u shared regions, flags 0x%x, "
			"protocol features 0x%llx, or no queue_start and queue_stop",
			b->o.queues, b->o.queue_size, b->o.nr_shmem, b->o.flags,
			(unsigned long long)b->o.protocol);
	for (uint32_t i = 0; i < b->o.nr_shmem; i++)
		b->shmem[i] = b->o.shmem[i];
	gm_copy_name(b->name, sizeof(b->name), b->o.name ? b->o.name : "vhost");
	b->o.ops = NULL;
	b->o.shmem = NULL;
	b->o.name = NULL;
	return 0;
}

static int make_memory(struct gm_vhost_backend *b, struct gm_error *err)
{
	const struct gm_space_opts opts = {
		.size = sizeof(opts),
		.gpa_limit = b->o.gpa_limit,
		.timeout_ns = b->o.timeout_ns,
		.name = b->name,
	};
	int rc = gm_vhost_memory_init(&b->mem, &opts, err);

	if (!rc)
		rc = gm_reader_create(b->mem.space, "vhost-user", &b->reader, err);
	if (!rc && (b->o.features & GM_VHOST_F_IOMMU_PLATFORM))
		rc = gm_vhost_iotlb_init(b, err);
	return rc;
}

int gm_vhost_backend_create(const struct gm_vhost_backend_opts *opts,
	struct gm_vhost_backend **ret_backend, struct gm_error *err)
{
	struct gm_vhost_backend *b = gm_sys_alloc(sizeof(*b));
	int rc;

	if (!b)
		return gm_error_set(err, -ENOMEM, 0, 0, "vhost-user: out of memory");
	b->log_fd = -1;
	b->uffd = -1;
	b->peer = -1;
	pthread_mutex_init(&b->log_lock, NULL);
	gm_vhost_channel_init(&b->channel);
	rc = copy_opts(b, opts, err);
	if (!rc && gm_vhost_rings_init(b))
		rc = gm_error_set(err, -ENOMEM, 0, 0, "vhost-user: out of memory");
	if (!rc)
		rc = make_memory(b, err);
	if (rc) {
		gm_vhost_backend_destroy(b);
		return rc;
	}
	gm_vhost_offer(b);
	*ret_backend = b;
	return 0;
}

void gm_vhost_backend_disconnect(struct gm_vhost_backend *b)
{
	/* Who waits for a page of a front-end that is gone would wait for ever. */
	gm_vhost_postcopy_stop(b);
	gm_vhost_rings_reset(b);
	gm_vhost_channel_close(b);
	gm_vhost_log_drop(b);
	gm_vhost_inflight_drop(b);
	gm_vhost_iotlb_forget(b);
	gm_vhost_table_drop(b);
	b->features = 0;
	__atomic_store_n(&b->protocol, 0, __ATOMIC_RELAXED);
	b->status = 0;
	if (b->connected && b->ops.connected)
		b->ops.connected(b->o.ctx, false);
	b->connected = false;
}

void gm_vhost_backend_destroy(struct gm_vhost_backend *b)
{
	if (!b)
		return;
	if (b->rings && b->mem.space)
		gm_vhost_backend_disconnect(b);
	gm_vhost_rings_fini(b);
	gm_vhost_iotlb_fini(b);
	gm_reader_destroy(b->reader);
	gm_vhost_memory_fini(&b->mem);
	gm_vhost_channel_fini(&b->channel);
	pthread_mutex_destroy(&b->log_lock);
	gm_sys_free(b);
}

struct gm_space *gm_vhost_backend_space(struct gm_vhost_backend *b)
{
	return b->mem.space;
}
