/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_backend.h - what the files of the back-end share.
 *
 *   vhost_backend.c   life; a message in, a reply out: what may come, what is answered
 *   vhost_features.c  features, configuration, status, state, shared objects
 *   vhost_table.c     messages about memory; post-copy
 *   vhost_ring.c      rings: when a queue runs, and where
 *   vhost_notify.c    kicks, calls, errors
 *   vhost_log.c       the dirty log, the area of what is in flight
 *   vhost_iotlb.c     translations
 *   vhost_channel.c   the back-end's own socket
 *   vhost_look.c      where it all stands
 *
 * One thread handles messages. Others call gm_vhost_backend_call(), _error(), _request(): what these look at is under a
 * ring's lock, the log's, or the channel's; none is held in a callback.
 */
#ifndef GM_ADAPTERS_VHOST_BACKEND_H
#define GM_ADAPTERS_VHOST_BACKEND_H

#include <guestmem/log.h>
#include <guestmem/vhost_backend.h>
#include <pthread.h>

#include "adapters/vhost_memory.h"
#include "adapters/vhost_socket.h"
#include "sys/sys.h"

#define VHOST_F_INDIRECT (UINT64_C(1) << 28)
#define VHOST_F_EVENT (UINT64_C(1) << 29)
#define VHOST_F_PACKED (UINT64_C(1) << 34)
#define VHOST_F_IN_ORDER (UINT64_C(1) << 35)

#define VHOST_REQUESTS_MAX 16u
#define VHOST_LOGS_GONE 4u

struct vhost_ring {
	/* as told */
	uint32_t nr;
	uint32_t base;
	struct gm_vhost_vring_addr addr;
	bool has_addr;
	bool has_base;
	bool enabled;
	bool started;
	int kick; /* -1: none */
	/* as it is */
	struct gm_virtq *vq; /* or NULL; @at are its options */
	struct gm_virtq_opts at;
	bool running; /* the device has it */
	bool marks;   /* the used ring's writes are logged at addr.log */
	uint32_t used_len;
	pthread_mutex_t lock; /* call, err, @marks of a ring that runs */
	int call;
	int err;
	uint64_t calls;  /* that went out; atomic */
	uint64_t errors; /* atomic */
};

/* A log's bytes, for the back-end and for each gm_log. */
struct vhost_bits {
	struct gm_vhost_mapping map;
	uint32_t refs; /* atomic */
};

/* A request whose reply is awaited. */
struct vhost_pending {
	uint32_t request;
	uint64_t deadline_ns;
	void (*done)(void *ctx, int rc, const struct gm_vhost_msg *reply, int fd);
	void *ctx;
};

struct vhost_channel {
	pthread_mutex_t lock;
	int fd; /* -1: none */
	struct vhost_pending pending[VHOST_REQUESTS_MAX];
	uint32_t nr;         /* in the order in which they were sent */
	uint32_t generation; /* atomic: rises when @fd changes */
	struct gm_vhost_rx rx;
};

enum vhost_postcopy { POSTCOPY_NO, POSTCOPY_ADVISED, POSTCOPY_LISTENING };

struct gm_vhost_backend {
	struct gm_vhost_backend_opts o;
	struct gm_vhost_backend_ops ops;
	uint64_t shmem[GM_VHOST_SHMEM_MAX];
	char name[32];
	uint64_t offered;
	uint64_t offered_protocol;
	uint64_t features;
	uint64_t protocol; /* atomic: others send */
	bool connected;
	int peer; /* the front-end's connection, the server's; or -1 */
	uint8_t status;
	struct gm_vhost_table mem;
	struct gm_reader *reader;
	struct gm_space *iova; /* or NULL */
	struct gm_iommu *iommu;
	struct gm_reader *iova_reader;
	struct vhost_ring *rings;
	/* the log */
	struct vhost_bits *bits;              /* or NULL */
	struct gm_log *log;                   /* with @log_lock: or NULL */
	struct gm_log *gone[VHOST_LOGS_GONE]; /* that could not end */
	uint32_t nr_gone;
	int log_fd; /* with @log_lock; atomic: is there one? */
	/* The server's; NULL: there is nothing to signal with but write(2). */
	const struct gm_sys_signals *signals;
	pthread_mutex_t log_lock;
	/* in flight */
	struct gm_vhost_mapping area;
	struct gm_space *area_space; /* or NULL */
	uint32_t area_queues;
	uint32_t area_queue_size;
	/* post-copy */
	enum vhost_postcopy postcopy;
	int uffd;       /* or -1 */
	bool wants_ack; /* of the table that was answered by addresses */
	struct vhost_channel channel;
	uint64_t connections;
	uint64_t messages;
	uint64_t failed;
	uint64_t misses; /* atomic */
};

/* A message that is being handled. What is left of @fds is closed. */
struct vhost_call {
	struct gm_vhost_backend *b;
	const struct gm_vhost_msg *msg;
	int fds[GM_VHOST_FDS_MAX];
	uint32_t nr_fds;
	struct gm_vhost_answered *answered;
	struct gm_error *err;
};

typedef int (*vhost_handler)(struct vhost_call *call);

static inline bool vhost_has(const struct gm_vhost_backend *b, enum gm_vhost_protocol feature)
{
	return __atomic_load_n(&b->protocol, __ATOMIC_RELAXED) >> feature & 1;
}

static inline bool vhost_has_iommu(const struct gm_vhost_backend *b)
{
	return b->features & GM_VHOST_F_IOMMU_PLATFORM;
}

/* ---- vhost_backend.c ---- */
/* The only descriptor of a message, the caller's from now on. */
int gm_vhost_take_fd(struct vhost_call *call);
/* A reply with a payload of its own, @len bytes at @payload; and one with a number. */
void gm_vhost_answer(struct vhost_call *call, const void *payload, uint32_t len);
void gm_vhost_answer_number(struct vhost_call *call, uint64_t number);
void gm_vhost_answer_fd(struct vhost_call *call, int fd);
bool gm_vhost_wants_reply(const struct vhost_call *call);

/* ---- vhost_features.c ---- */
void gm_vhost_offer(struct gm_vhost_backend *b);
int gm_vhost_on_get_features(struct vhost_call *call);
int gm_vhost_on_set_features(struct vhost_call *call);
int gm_vhost_on_get_protocol(struct vhost_call *call);
int gm_vhost_on_set_protocol(struct vhost_call *call);
int gm_vhost_on_queue_num(struct vhost_call *call);
int gm_vhost_on_owner(struct vhost_call *call);
int gm_vhost_on_get_config(struct vhost_call *call);
int gm_vhost_on_set_config(struct vhost_call *call);
int gm_vhost_on_set_status(struct vhost_call *call);
int gm_vhost_on_get_status(struct vhost_call *call);
int gm_vhost_on_state(struct vhost_call *call);
int gm_vhost_on_check_state(struct vhost_call *call);
int gm_vhost_on_shared_object(struct vhost_call *call);
int gm_vhost_on_shmem(struct vhost_call *call);
int gm_vhost_on_reset(struct vhost_call *call);

/* ---- vhost_table.c ---- */
int gm_vhost_on_mem_table(struct vhost_call *call);
int gm_vhost_on_max_slots(struct vhost_call *call);
int gm_vhost_on_add_region(struct vhost_call *call);
int gm_vhost_on_remove_region(struct vhost_call *call);
/* ---- vhost_postcopy.c ---- */
int gm_vhost_on_advise(struct vhost_call *call);
int gm_vhost_on_listen(struct vhost_call *call);
int gm_vhost_on_end(struct vhost_call *call);
/* The table's addresses here, and the end of waiting for the answer to them. */
int gm_vhost_postcopy_answer(struct vhost_call *call);
int gm_vhost_postcopy_begin(struct vhost_call *call);
/* Wakes whoever waits for a page, for good. */
void gm_vhost_postcopy_stop(struct gm_vhost_backend *b);
/* Regions go: all of them, when the front-end is gone. */
void gm_vhost_table_drop(struct gm_vhost_backend *b);

/* ---- vhost_ring.c ---- */
int gm_vhost_rings_init(struct gm_vhost_backend *b);
void gm_vhost_rings_fini(struct gm_vhost_backend *b);
/* The device has none of them when it returns; they are as they were otherwise. */
void gm_vhost_rings_pause(struct gm_vhost_backend *b);
/* Queues that can run do; those that cannot wait, and that is no failure. */
void gm_vhost_rings_go(struct gm_vhost_backend *b);
/* To the state of the beginning. */
void gm_vhost_rings_reset(struct gm_vhost_backend *b);
bool gm_vhost_rings_run(const struct gm_vhost_backend *b);
/* The ring that a message names, or NULL with -EINVAL in @call's error. */
struct vhost_ring *gm_vhost_ring_of(struct vhost_call *call, uint64_t index);
/* Lets it run if all is there: 0 also if it is not; a ring outside of memory is -EFAULT. */
int gm_vhost_ring_go(struct gm_vhost_backend *b, struct vhost_ring *ring, struct gm_error *err);
void gm_vhost_ring_pause(struct gm_vhost_backend *b, struct vhost_ring *ring, bool suspend);
int gm_vhost_on_vring_num(struct vhost_call *call);
int gm_vhost_on_vring_addr(struct vhost_call *call);
int gm_vhost_on_set_base(struct vhost_call *call);
int gm_vhost_on_get_base(struct vhost_call *call);
int gm_vhost_on_enable(struct vhost_call *call);
int gm_vhost_on_endian(struct vhost_call *call);

/* ---- vhost_notify.c ---- */
int gm_vhost_on_kick(struct vhost_call *call);
int gm_vhost_on_call(struct vhost_call *call);
int gm_vhost_on_err(struct vhost_call *call);
int gm_vhost_on_inband_kick(struct vhost_call *call);
void gm_vhost_close(int *fd);
/* An eventfd, which from now on does not block. */
int gm_vhost_check_eventfd(int fd, const char *what, struct gm_error *err);
int gm_vhost_signal(const struct gm_vhost_backend *b, int eventfd);

/* ---- vhost_log.c ---- */
int gm_vhost_on_log_base(struct vhost_call *call);
int gm_vhost_on_log_fd(struct vhost_call *call);
/* Begins or ends logging as the features say, which were @was. */
int gm_vhost_log_go(struct gm_vhost_backend *b, uint64_t was, struct gm_error *err);
void gm_vhost_log_drop(struct gm_vhost_backend *b);
/* Does the log reach to the end of these regions, if there is one? */
int gm_vhost_log_covers(struct gm_vhost_backend *b, const struct gm_vhost_slot *slots, uint32_t nr,
	struct gm_error *err);
/* The used ring of a queue was written. */
void gm_vhost_log_used(struct gm_vhost_backend *b, const struct vhost_ring *ring);
void gm_vhost_log_tell(
	struct gm_vhost_backend *b); /* who asked for it that there is something in it */
/* ---- vhost_inflight.c ---- */
int gm_vhost_on_get_inflight(struct vhost_call *call);
int gm_vhost_on_set_inflight(struct vhost_call *call);
void gm_vhost_inflight_drop(struct gm_vhost_backend *b);
int gm_vhost_inflight_track(
	struct gm_vhost_backend *b, uint32_t index, struct vhost_ring *ring, struct gm_error *err);

/* ---- vhost_iotlb.c ---- */
int gm_vhost_iotlb_init(struct gm_vhost_backend *b, struct gm_error *err);
void gm_vhost_iotlb_fini(struct gm_vhost_backend *b);
void gm_vhost_iotlb_forget(struct gm_vhost_backend *b);
int gm_vhost_on_iotlb(struct vhost_call *call);

/* ---- vhost_channel.c ---- */
void gm_vhost_channel_init(struct vhost_channel *channel);
void gm_vhost_channel_close(struct gm_vhost_backend *b);
void gm_vhost_channel_fini(struct vhost_channel *channel);
int gm_vhost_on_channel(struct vhost_call *call);

#endif
