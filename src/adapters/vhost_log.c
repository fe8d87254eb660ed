/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_log.c - the front-end's log of written pages.
 *
 * It is a log of the space of guest addresses with the front-end's bytes as storage, so all that is written through the
 * library marks it, behind an IOMMU too. A new one is there before the old one goes, whose bytes stay mapped until the
 * last reader that marks it has left.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "sys/sys.h"

#define PAGE UINT64_C(4096) /* of a bit */

static void put_bits(struct vhost_bits *bits)
{
	if (!bits || __atomic_sub_fetch(&bits->refs, 1, __ATOMIC_ACQ_REL))
		return;
	gm_vhost_file_unmap(&bits->map);
	gm_sys_free(bits);
}

static void release(void *ctx)
{
	put_bits(ctx);
}

/* Addresses that a log of so many bytes has bits for: the last one. */
static uint64_t reach(uint64_t len)
{
	return len > UINT64_MAX / (8 * PAGE) ? UINT64_MAX : len * 8 * PAGE - 1;
}

int gm_vhost_log_covers(struct gm_vhost_backend *b, const struct gm_vhost_slot *slots, uint32_t nr,
	struct gm_error *err)
{
	uint64_t last;

	if (!b->bits || !gm_vhost_memory_last(slots, nr, &last) || last <= reach(b->bits->map.len))
		return 0;
	return gm_error_set(err, -EINVAL, last, 0,
		"vhost-user: the log's %" PRIu64 " bytes do not reach to guest address 0x%" PRIx64,
		b->bits->map.len, last);
}

/* A log needs memory to end. One that could not is tried again, and marks its bytes meanwhile. */
static void try_again(struct gm_vhost_backend *b)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < b->nr_gone; i++) {
		if (gm_log_destroy(b->gone[i], NULL))
			b->gone[left++] = b->gone[i];
	}
	b->nr_gone = left;
}

static int check_room(struct gm_vhost_backend *b, struct gm_error *err)
{
	try_again(b);
	return b->nr_gone < VHOST_LOGS_GONE
		       ? 0
		       : gm_error_set(err, -ENOMEM, 0, 0, "vhost-user: out of memory to end a log");
}

static void end_log(struct gm_vhost_backend *b, struct gm_log *log)
{
	if (gm_log_destroy(log, NULL))
		b->gone[b->nr_gone++] = log;
}

/* In the place of the one that there is. */
static int start(struct gm_vhost_backend *b, struct vhost_bits *bits, struct gm_error *err)
{
	struct gm_log_opts opts = {
		.size = sizeof(opts),
		.len = reach(bits->map.len) == UINT64_MAX ? 0 : reach(bits->map.len) + 1,
		.storage = bits->map.at,
		.storage_len = bits->map.len,
		.flags = GM_LOG_NOWAIT,
		.name = "vhost-user",
		.release = release,
		.ctx = bits,
	};
	struct gm_log *log;
	struct gm_log *old = b->log;
	int rc = check_room(b, err);

	if (rc)
		return rc;
	__atomic_add_fetch(&bits->refs, 1, __ATOMIC_RELAXED);
	rc = gm_log_create(b->mem.space, &opts, &log, err);
	if (rc) {
		put_bits(bits);
		return rc;
	}
	/* Without its own wait, so that a log that failed has not been released by half. */
	rc = gm_space_wait(b->mem.space, 0, err);
	if (rc) {
		end_log(b, log);
		return rc;
	}
	pthread_mutex_lock(&b->log_lock);
	b->log = log;
	pthread_mutex_unlock(&b->log_lock);
	end_log(b, old);
	return 0;
}

static int stop(struct gm_vhost_backend *b, struct gm_error *err)
{
	struct gm_log *log;
	int rc = check_room(b, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&b->log_lock);
	log = b->log;
	b->log = NULL;
	pthread_mutex_unlock(&b->log_lock);
	end_log(b, log);
	return 0;
}

int gm_vhost_log_go(struct gm_vhost_backend *b, uint64_t was, struct gm_error *err)
{
	if (!(b->features & GM_VHOST_F_LOG_ALL)) {
		int rc = b->log ? stop(b, err) : 0;

		if (rc || !b->bits || !(was & GM_VHOST_F_LOG_ALL))
			return rc;
		put_bits(b->bits);
		b->bits = NULL;
		return 0;
	}
	return b->bits && !b->log ? start(b, b->bits, err) : 0;
}

static int set_base(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	const struct gm_vhost_log *log = &call->msg->u.log;
	struct vhost_bits *bits = gm_sys_alloc(sizeof(*bits));
	struct vhost_bits *old = b->bits;
	int rc;

	if (!bits)
		return gm_error_set(call->err, -ENOMEM, 0, 0, "vhost-user: out of memory");
	bits->refs = 1;
	rc = gm_vhost_file_map(call->fds[0], log->off, log->len, "the log", &bits->map, call->err);
	if (!rc) {
		b->bits = bits;
		rc = gm_vhost_log_covers(b, b->mem.slots, b->mem.nr, call->err);
		b->bits = old;
	}
	if (!rc && (b->features & GM_VHOST_F_LOG_ALL))
		rc = start(b, bits, call->err);
	if (rc) {
		put_bits(bits);
		return rc;
	}
	b->bits = bits;
	put_bits(old);
	return 0;
}

/* The one reply that front-ends wait for without looking at what it says: so who does not ask is cut off. */
int gm_vhost_on_log_base(struct vhost_call *call)
{
	int rc = set_base(call);

	if (rc == 0 || gm_vhost_wants_reply(call))
		gm_vhost_answer_number(call, (uint64_t)-rc);
	return rc;
}

int gm_vhost_on_log_fd(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int rc = gm_vhost_check_eventfd(call->fds[0], "the log's descriptor", call->err);

	if (rc)
		return rc;
	pthread_mutex_lock(&b->log_lock);
	gm_vhost_close(&b->log_fd);
	__atomic_store_n(&b->log_fd, gm_vhost_take_fd(call), __ATOMIC_RELAXED);
	pthread_mutex_unlock(&b->log_lock);
	return 0;
}

void gm_vhost_log_used(struct gm_vhost_backend *b, const struct vhost_ring *r)
{
	pthread_mutex_lock(&b->log_lock);
	if (b->log)
		gm_log_mark(b->log, r->addr.log, r->used_len);
	pthread_mutex_unlock(&b->log_lock);
}

void gm_vhost_log_tell(struct gm_vhost_backend *b)
{
	/* Nearly always there is none, and queues need not meet here. */
	if (__atomic_load_n(&b->log_fd, __ATOMIC_RELAXED) < 0)
		return;
	pthread_mutex_lock(&b->log_lock);
	if (b->log && b->log_fd >= 0)
		gm_vhost_signal(b, b->log_fd);
	pthread_mutex_unlock(&b->log_lock);
}

void gm_vhost_log_drop(struct gm_vhost_backend *b)
{
	stop(b, NULL);
	put_bits(b->bits);
	b->bits = NULL;
	pthread_mutex_lock(&b->log_lock);
	gm_vhost_close(&b->log_fd);
	pthread_mutex_unlock(&b->log_lock);
}
