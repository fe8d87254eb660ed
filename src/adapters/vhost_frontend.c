/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_frontend.c - see guestmem/vhost_frontend.h: what is agreed on, and life. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>

#include "adapters/vhost_frontend.h"
#include "core/error.h"
#include "sys/sys.h"

#define BIT(name) (UINT64_C(1) << GM_VHOST_PROTOCOL_##name)
#define KNOWN (BIT(GET_VRING_BASE_SKIP_DRAIN) * 2 - 1)
#define USUAL                                                                                      \
	(KNOWN & ~(BIT(INBAND_NOTIFICATIONS) | BIT(CROSS_ENDIAN) | BIT(PAGEFAULT) | BIT(XEN_MMAP)))
#define TIMEOUT_MS 10000u

static int lacks(
	const struct gm_vhost_frontend *fe, const char *what, uint64_t bits, struct gm_error *err)
{
	return gm_error_set(
		err, -ENOTSUP, 0, 0, "%s: the back-end lacks %s 0x%" PRIx64, fe->name, what, bits);
}

/* ---- what is agreed on ---- */

static uint64_t wanted_protocol(const struct gm_vhost_frontend *fe)
{
	uint64_t wanted = fe->opts.protocol ? fe->opts.protocol : USUAL;

	/* Post-copy replaces whole tables. */
	if (wanted & BIT(PAGEFAULT))
		wanted &= ~BIT(CONFIGURE_MEM_SLOTS);
	return wanted;
}

/* Some are of no use without others. */
static uint64_t usable(uint64_t protocol)
{
	if (!(protocol & BIT(BACKEND_REQ)))
		protocol &= ~(BIT(BACKEND_SEND_FD) | BIT(HOST_NOTIFIER) | BIT(SHMEM) |
			      BIT(SHARED_OBJECT) | BIT(INBAND_NOTIFICATIONS));
	if (!(protocol & BIT(BACKEND_SEND_FD)))
		protocol &= ~(BIT(HOST_NOTIFIER) | BIT(SHMEM));
	if (!(protocol & BIT(REPLY_ACK)))
		protocol &= ~BIT(INBAND_NOTIFICATIONS);
	return protocol;
}

static int agree_protocol(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	uint64_t protocol = 0;
	int rc;

	fe->protocol = 0;
	if (fe->features & GM_VHOST_F_PROTOCOL_FEATURES) {
		rc = gm_vhost_fe_get(fe, GM_VHOST_GET_PROTOCOL_FEATURES, &protocol, err);
		if (rc < 0)
			return rc;
		protocol = usable(protocol & wanted_protocol(fe));
	}
	if (fe->opts.protocol_needed & ~protocol)
		return lacks(fe, "protocol features", fe->opts.protocol_needed & ~protocol, err);
	if (!(fe->features & GM_VHOST_F_PROTOCOL_FEATURES))
		return 0;
	rc = gm_vhost_fe_set(fe, GM_VHOST_SET_PROTOCOL_FEATURES, protocol, err);
	fe->protocol = protocol;
	return rc;
}

static int agree_features(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	uint64_t had = fe->features;
	int rc = gm_vhost_fe_get(fe, GM_VHOST_GET_FEATURES, &fe->offered, err);
	uint64_t had_protocol = fe->protocol;

	if (rc < 0)
		return rc;
	fe->features = fe->offered & (fe->opts.features | GM_VHOST_F_PROTOCOL_FEATURES) &
		       ~GM_VHOST_F_LOG_ALL;
	if (fe->opts.needed & ~fe->offered)
		return lacks(fe, "features", fe->opts.needed & ~fe->offered, err);
	if (fe->was_connected && fe->features != had) {
		fe->features = had;
		return lacks(fe, "or has new features; before they were", had, err);
	}
	rc = agree_protocol(fe, err);
	if (rc < 0)
		return rc;
	if (fe->was_connected && (had_protocol & ~fe->protocol))
		return lacks(fe, "protocol features", had_protocol & ~fe->protocol, err);
	if ((fe->features & GM_VHOST_F_IOMMU_PLATFORM) &&
		!(gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_BACKEND_REQ) &&
			gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_REPLY_ACK)))
		return lacks(fe, "for IOMMU_PLATFORM protocol features",
			BIT(BACKEND_REQ) | BIT(REPLY_ACK), err);
	return 0;
}

static int count_queues(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	uint64_t queues;
	int rc;

	if (!gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_MQ))
		return 0;
	rc = gm_vhost_fe_get(fe, GM_VHOST_GET_QUEUE_NUM, &queues, err);
	if (rc < 0)
		return rc;
	fe->queues = queues < UINT32_MAX ? (uint32_t)queues : UINT32_MAX;
	if (fe->queues < fe->opts.rings)
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: the back-end has %u queues, and %u are wanted", fe->name, fe->queues,
			fe->opts.rings);
	return 0;
}

static int count_slots(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	uint64_t slots = GM_VHOST_REGIONS_MAX;
	int rc = 0;

	if (gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS))
		rc = gm_vhost_fe_get(fe, GM_VHOST_GET_MAX_MEM_SLOTS, &slots, err);
	if (rc < 0)
		return rc;
	if (slots > fe->opts.slots_max)
		slots = fe->opts.slots_max;
	if (fe->was_connected && slots < fe->slots)
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"%s: GET_MAX_MEM_SLOTS: the back-end takes %" PRIu64
			" regions, and took %u before",
			fe->name, slots, fe->slots);
	fe->slots = (uint32_t)slots;
	return 0;
}

static int open_channel(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_fe_call call = {.msg = {.request = GM_VHOST_SET_BACKEND_REQ_FD}};
	int fds[2];
	int rc;

	if (!gm_vhost_fe_has(fe, GM_VHOST_PROTOCOL_BACKEND_REQ))
		return 0;
	rc = gm_sys_socketpair(fds);
	if (rc < 0)
		return gm_error_set(err, rc, 0, 0, "%s: socket for the back-end's requests: %s",
			fe->name, gm_error_word(rc));
	fe->channel = fds[0];
	rc = gm_sys_epoll_add(fe->epoll, fe->channel, &fe->channel);
	if (rc < 0) {
		gm_error_set(err, rc, 0, 0, "%s: waiting for the back-end's requests: %s", fe->name,
			gm_error_word(rc));
	} else {
		call.fds = &fds[1];
		call.nr_fds = 1;
		rc = gm_vhost_fe_call(fe, &call, err);
	}
	gm_sys_close(fds[1]);
	return rc;
}

/* ---- connections ---- */

static int connect_to(struct gm_vhost_frontend *fe, int fd, struct gm_error *err)
{
	int rc = fd >= 0 ? gm_vhost_check_socket(fd, err) : 0;

	if (rc < 0)
		return rc;
	do
		rc = fd >= 0 ? gm_sys_dup(fd) : gm_sys_unix_connect(fe->path);
	while (rc == -EINTR);
	if (rc < 0)
		return gm_error_set(err, rc, 0, 0, "%s: cannot connect to %s: %s", fe->name,
			fd >= 0 ? "the back-end" : fe->path, gm_error_word(rc));
	fe->sock = rc;
	fe->messages = 0;
	rc = gm_sys_epoll_add(fe->epoll, fe->sock, &fe->sock);
	if (rc < 0)
		return gm_error_set(err, rc, 0, 0, "%s: waiting for the back-end: %s", fe->name,
			gm_error_word(rc));
	rc = agree_features(fe, err);
	if (!rc)
		rc = count_queues(fe, err);
	if (!rc)
		rc = count_slots(fe, err);
	if (!rc)
		rc = open_channel(fe, err);
	if (!rc)
		rc = gm_vhost_fe_set(fe, GM_VHOST_SET_OWNER, 0, err);
	if (!rc && !fe->log_on)
		rc = gm_vhost_fe_features(fe, err);
	return rc;
}

static int tell_all(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	static const struct gm_vhost_fe_map nothing;
	int rc = fe->log_on ? gm_vhost_fe_log_tell(fe, err) : 0;

	if (!rc)
		rc = gm_vhost_fe_tell(fe, &nothing, &fe->now, err);
	if (!rc)
		rc = gm_vhost_fe_state_tell(fe, err);
	if (!rc)
		rc = gm_vhost_fe_rings_tell(fe, err);
	return rc;
}

int gm_vhost_frontend_reconnect(struct gm_vhost_frontend *fe, int fd, struct gm_error *err)
{
	struct gm_inside inside;
	int rc;

	if (fd < 0 && !fe->path)
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: there is neither a path nor a socket to connect again", fe->name);
	rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0)
		return rc;
	gm_vhost_fe_lose(fe, 0, "", NULL);
	fe->postcopy = GM_VHOST_FE_PRECOPY;
	rc = connect_to(fe, fd, err);
	if (!rc)
		rc = tell_all(fe, err);
	if (rc < 0)
		gm_vhost_fe_lose(fe, rc, "", NULL);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}

/* ---- life ---- */

static int take_opts(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct gm_vhost_frontend_opts *opts = &fe->opts;
	int rc = 0;

	if (!opts->rings)
		opts->rings = 1;
	if (!opts->timeout_ms)
		opts->timeout_ms = TIMEOUT_MS;
	if (!opts->slots_max)
		opts->slots_max = GM_VHOST_SLOTS_MAX;
	if (!opts->kinds)
		opts->kinds = GM_KIND_BIT(GM_REGION_RAM) | GM_KIND_BIT(GM_REGION_PMEM);
	gm_copy_name(fe->name, sizeof(fe->name), opts->name ? opts->name : "vhost-user");
	if (opts->ops)
		rc = gm_opts_copy(&fe->ops, sizeof(fe->ops), opts->ops, sizeof(fe->ops));
	if (rc)
		return gm_opts_error(err, rc, "struct gm_vhost_frontend_ops");
	if (opts->rings > GM_VHOST_FRONTEND_RINGS_MAX || opts->protocol & ~KNOWN ||
		opts->protocol & BIT(XEN_MMAP) || opts->protocol & BIT(CROSS_ENDIAN) ||
		opts->slots_max > INT32_MAX || opts->needed & ~opts->features ||
		(opts->protocol && opts->protocol_needed & ~opts->protocol))
		return gm_error_set(err, -EINVAL, 0, 0,
			"%s: too many rings or slots, unknown protocol features, or needed ones "
			"that are not wanted",
			fe->name);
	return 0;
}

static int make(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	size_t len = fe->opts.path ? strlen(fe->opts.path) + 1 : 0;
	int rc;

	fe->rings = gm_sys_alloc_array(fe->opts.rings, sizeof(*fe->rings));
	if (len)
		fe->path = gm_sys_alloc(len);
	if (!fe->rings || (len && !fe->path))
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: no memory", fe->name);
	if (len)
		memcpy(fe->path, fe->opts.path, len);
	rc = gm_sys_epoll_create();
	if (rc < 0)
		return gm_error_set(err, rc, 0, 0, "%s: epoll: %s", fe->name, gm_error_word(rc));
	fe->epoll = rc;
	rc = connect_to(fe, len ? -1 : fe->opts.fd, err);
	fe->was_connected = rc == 0;
	return rc;
}

static void free_all(struct gm_vhost_frontend *fe)
{
	gm_vhost_fe_lose(fe, 0, "", NULL);
	gm_vhost_fe_log_free(fe);
	gm_vhost_fe_rings_free(fe);
	gm_vhost_fe_map_free(&fe->now);
	gm_vhost_fe_map_free(&fe->before);
	gm_reader_destroy(fe->reader);
	if (fe->inflight_fd >= 0)
		gm_sys_close(fe->inflight_fd);
	if (fe->epoll >= 0)
		gm_sys_close(fe->epoll);
	pthread_mutex_destroy(&fe->lock);
	pthread_mutex_destroy(&fe->bases_lock);
	gm_sys_free(fe->path);
	gm_sys_free(fe);
}

int gm_vhost_frontend_create(const struct gm_vhost_frontend_opts *opts,
	struct gm_vhost_frontend **ret, struct gm_error *err)
{
	struct gm_vhost_frontend *fe = gm_sys_alloc(sizeof(*fe));
	struct gm_inside inside;
	int rc;

	if (!fe)
		return gm_error_set(err, -ENOMEM, 0, 0, "vhost-user: no memory");
	rc = gm_opts_copy(&fe->opts, sizeof(fe->opts), opts, sizeof(fe->opts));
	if (rc) {
		gm_sys_free(fe);
		return gm_opts_error(err, rc, "struct gm_vhost_frontend_opts");
	}
	fe->sock = fe->channel = fe->epoll = fe->inflight_fd = fe->log.fd = -1;
	pthread_mutex_init(&fe->lock, NULL);
	pthread_mutex_init(&fe->bases_lock, NULL);
	rc = take_opts(fe, err);
	if (!rc)
		rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0) {
		free_all(fe);
		return rc;
	}
	rc = make(fe, err);
	rc = gm_vhost_fe_leave(fe, &inside, rc, err);
	if (rc < 0) {
		free_all(fe);
		return rc;
	}
	*ret = fe;
	return 0;
}

int gm_vhost_frontend_destroy(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	int rc = fe && fe->listener ? gm_listener_destroy(fe->listener, err) : 0;

	if (rc < 0 || !fe)
		return rc;
	free_all(fe);
	return 0;
}

/* ---- asking ---- */

int gm_vhost_frontend_fd(const struct gm_vhost_frontend *fe)
{
	return fe->epoll;
}

int gm_vhost_frontend_info(struct gm_vhost_frontend *fe, struct gm_vhost_frontend_info *ret_info)
{
	struct gm_inside inside;
	int rc;

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	rc = gm_vhost_fe_enter(fe, &inside, NULL);
	if (rc < 0)
		return rc;
	*ret_info = (struct gm_vhost_frontend_info){
		.size = ret_info->size,
		.features = fe->features | (fe->log_on ? GM_VHOST_F_LOG_ALL : 0),
		.protocol = fe->protocol,
		.offered = fe->offered,
		.messages = fe->messages,
		.misses = fe->nr_misses,
		.log_len = fe->log.len,
		.slots = fe->slots,
		.regions = (uint32_t)fe->now.nr,
		.queues = fe->queues,
		.connected = fe->sock >= 0,
	};
	return gm_vhost_fe_leave(fe, &inside, 0, NULL);
}

/* Something on the main socket that nobody has asked for: its end, or nonsense. */
static int main_spoke(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	uint8_t byte;
	ssize_t nr = gm_sys_recv(fe->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (nr == -EAGAIN || nr == -EINTR)
		return 0;
	return gm_vhost_fe_lose(fe,
		nr > 0   ? -EPROTO
		: nr < 0 ? (int)nr
			 : -ECONNRESET,
		"between requests", err);
}

static int step(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	struct epoll_event events[2];
	bool channel = false;
	int nr;
	int rc;

	if (fe->sock < 0)
		return gm_error_set(err, -ENOTCONN, 0, 0, "%s: there is no connection", fe->name);
	nr = gm_sys_epoll_wait(fe->epoll, events, 2, 0);
	if (nr == -EINTR)
		return 0;
	if (nr < 0)
		return gm_error_set(err, nr, 0, 0, "%s: waiting for the back-end: %s", fe->name,
			gm_error_word(nr));
	for (int i = 0; i < nr; i++) {
		channel = channel || events[i].data.ptr == &fe->channel;
		if (events[i].data.ptr != &fe->sock)
			continue;
		rc = main_spoke(fe, err);
		if (rc < 0)
			return rc;
	}
	return channel ? gm_vhost_fe_channel(fe, err) : 0;
}

int gm_vhost_frontend_step(struct gm_vhost_frontend *fe, uint32_t wait_ms, struct gm_error *err)
{
	struct gm_inside inside;
	int rc = 0;

	/* Others may go on meanwhile. */
	if (wait_ms)
		rc = gm_sys_poll_in(fe->epoll, wait_ms < INT32_MAX ? (int)wait_ms : INT32_MAX);
	if (rc < 0 && rc != -EINTR)
		return gm_error_set(err, rc, 0, 0, "%s: waiting for the back-end: %s", fe->name,
			gm_error_word(rc));
	rc = gm_vhost_fe_enter(fe, &inside, err);
	if (rc < 0)
		return rc;
	rc = step(fe, err);
	return gm_vhost_fe_leave(fe, &inside, rc, err);
}
