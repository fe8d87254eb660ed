/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_frontend.h - a front-end of vhost-user: what its files share.
 *
 * Everything is under the lock, which is held while an answer is waited for and while callbacks run; who is in one
 * already is refused (gm_sys_enter()). What was set is kept, so that a new connection can be told.
 */
#ifndef GM_ADAPTERS_VHOST_FRONTEND_H
#define GM_ADAPTERS_VHOST_FRONTEND_H

#include <guestmem/listener.h>
#include <guestmem/vhost_device.h>
#include <guestmem/view.h>
#include <pthread.h>

#include "adapters/vhost_socket.h"
#include "core/vhost_plan.h"
#include "sys/inside.h"

#define GM_VHOST_FE_MISSES 256u /* that may wait while something is asked */
#define GM_VHOST_FE_LOGS 4u     /* that the back-end may still write to */

/* What is shared: as sections say it, and as regions of the back-end. */
struct gm_vhost_fe_map {
	struct gm_vhost_slot *raw;
	size_t nr_raw;
	struct gm_vhost_slot *slots;
	uint64_t *bases; /* of slots, in the back-end's addresses; post-copy only */
	size_t nr;
};

struct gm_vhost_fe_ring {
	struct gm_vhost_frontend_ring set; /* with descriptors of our own */
	bool started;
	bool enabled;
};

struct gm_vhost_fe_log {
	uint64_t *words; /* NULL: none */
	uint64_t len;    /* bytes */
	int fd;
};

struct gm_vhost_fe_miss {
	struct gm_vhost_iotlb iotlb;
	bool answer;
};

enum gm_vhost_fe_postcopy { GM_VHOST_FE_PRECOPY, GM_VHOST_FE_ADVISED, GM_VHOST_FE_LISTENING };

struct gm_vhost_frontend {
	struct gm_vhost_frontend_opts opts; /* path and name: see below; fd: none */
	struct gm_vhost_frontend_ops ops;
	char name[32];
	char *path;
	pthread_mutex_t lock;
	int sock;    /* -1: not connected */
	int channel; /* our end of the back-end's own requests, or -1 */
	int epoll;
	uint64_t offered;
	uint64_t features; /* without those of the log */
	uint64_t protocol;
	uint64_t messages;
	uint64_t nr_misses;
	uint32_t slots;
	uint32_t queues;
	bool was_connected;

	struct gm_space *space;
	struct gm_listener *listener;
	struct gm_reader *reader;
	struct gm_vhost_fe_map now;
	struct gm_vhost_fe_map before; /* between being asked and the commit's end */
	bool asked;

	struct gm_vhost_fe_ring *rings; /* opts.rings */
	struct gm_vhost_fe_log log;
	struct gm_vhost_fe_log old_logs[GM_VHOST_FE_LOGS];
	bool log_on;
	bool status_set;
	uint8_t status;
	struct gm_vhost_inflight inflight;
	int inflight_fd; /* or -1 */
	uint32_t postcopy;
	int (*mapped)(void *ctx, const struct gm_vhost_region *region, uint64_t base);
	void *mapped_ctx;
	pthread_mutex_t bases_lock; /* of now.bases and its slots, inside of lock */

	struct gm_vhost_fe_miss misses[GM_VHOST_FE_MISSES];
	uint32_t nr_waiting;
};

/* ---- vhost_frontend_request.c ---- */

/* Takes a turn: 0 or -EDEADLK. gm_vhost_fe_leave() answers the misses that came meanwhile. */
int gm_vhost_fe_enter(struct gm_vhost_frontend *fe, struct gm_inside *inside, struct gm_error *err);
int gm_vhost_fe_leave(
	struct gm_vhost_frontend *fe, struct gm_inside *inside, int rc, struct gm_error *err);
/* The connection is of no more use. Returns @rc, with a text about @what. */
int gm_vhost_fe_lose(struct gm_vhost_frontend *fe, int rc, const char *what, struct gm_error *err);
bool gm_vhost_fe_has(const struct gm_vhost_frontend *fe, enum gm_vhost_protocol feature);

/* A request and its descriptors out, its answer in. */
struct gm_vhost_fe_call {
	struct gm_vhost_msg msg; /* request, len and payload; then the reply, if there is one */
	const int *fds;
	uint32_t nr_fds;
	int fd;      /* of the reply: the caller's; -1 if none */
	bool silent; /* no answer is asked for, whatever is agreed on */
};
/* 0, -EREMOTEIO (the back-end answered a failure), -ENOTCONN, -ENOTSUP, or what the connection was lost by. */
int gm_vhost_fe_call(
	struct gm_vhost_frontend *fe, struct gm_vhost_fe_call *call, struct gm_error *err);
/* A request whose payload is a number, or none. */
int gm_vhost_fe_set(
	struct gm_vhost_frontend *fe, uint32_t request, uint64_t number, struct gm_error *err);
int gm_vhost_fe_get(
	struct gm_vhost_frontend *fe, uint32_t request, uint64_t *ret, struct gm_error *err);
/* Waits until a message can be received on the main socket; the back-end's requests are done meanwhile. */
int gm_vhost_fe_wait(struct gm_vhost_frontend *fe, uint64_t deadline_ns, struct gm_error *err);
uint64_t gm_vhost_fe_deadline(const struct gm_vhost_frontend *fe);
/* A message out; one in, to an empty @rx, which is empty after a failure too. -ECONNRESET: the peer closed. */
int gm_vhost_fe_send(int sock, const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds,
	uint64_t deadline_ns);
int gm_vhost_fe_recv(
	int sock, enum gm_vhost_expect expect, struct gm_vhost_rx *rx, uint64_t deadline_ns);

/* ---- vhost_frontend_channel.c ---- */

/* Takes one request of the back-end's. Returns 1; 0: it is a miss, and no room is left; or an error. */
int gm_vhost_fe_channel(struct gm_vhost_frontend *fe, struct gm_error *err);
/* Answers misses that wait. */
int gm_vhost_fe_misses(struct gm_vhost_frontend *fe, struct gm_error *err);

/* ---- vhost_frontend_table.c ---- */

/* From one map to another, as the back-end is told; on failure back again. */
int gm_vhost_fe_tell(struct gm_vhost_frontend *fe, const struct gm_vhost_fe_map *from,
	const struct gm_vhost_fe_map *to, struct gm_error *err);
void gm_vhost_fe_map_free(struct gm_vhost_fe_map *map);

/* ---- vhost_frontend_ring.c ---- */

/* Are rings where they were, in this map? */
int gm_vhost_fe_rings_check(const struct gm_vhost_frontend *fe, const struct gm_vhost_fe_map *old,
	const struct gm_vhost_fe_map *new, struct gm_error *err);
/* Tells all rings that are started once more, from where the device may have come. */
int gm_vhost_fe_rings_tell(struct gm_vhost_frontend *fe, struct gm_error *err);
/* The addresses once more, as the log's flag is another. */
int gm_vhost_fe_rings_log(struct gm_vhost_frontend *fe, struct gm_error *err);
/* The device has none any more. */
void gm_vhost_fe_rings_end(struct gm_vhost_frontend *fe);
void gm_vhost_fe_rings_free(struct gm_vhost_frontend *fe);

/* ---- vhost_frontend_log.c ---- */

int gm_vhost_fe_log_resize(struct gm_vhost_frontend *fe, uint64_t len, struct gm_error *err);
/* Tells the log that there is, and that writes are logged. */
int gm_vhost_fe_log_tell(struct gm_vhost_frontend *fe, struct gm_error *err);
void gm_vhost_fe_log_free(struct gm_vhost_frontend *fe);
int gm_vhost_fe_features(struct gm_vhost_frontend *fe, struct gm_error *err);

/* ---- vhost_frontend_state.c ---- */

/* Gives the area of what is in flight, and the status, once more. */
int gm_vhost_fe_state_tell(struct gm_vhost_frontend *fe, struct gm_error *err);

#endif
