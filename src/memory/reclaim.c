/* SPDX-License-Identifier: BSD-3-Clause */
/* reclaim.c - sections, deferral and waiting on ck_epoch. */
#include "memory/reclaim.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>

#include "core/error.h"
#include "memory/annotate.h"
#include "sys/sys.h"

#define POLL_MIN_NS 2000u
#define POLL_MAX_NS 1000000u

static struct gm_reader *new_reader(void)
{
	return gm_sys_alloc_aligned(CK_MD_CACHELINE, sizeof(struct gm_reader));
}

int gm_reclaim_init(struct gm_reclaim *reclaim, const struct gm_section_ops *ops)
{
	struct gm_reader *writer = new_reader();

	if (!writer)
		return -ENOMEM;
	memset(reclaim, 0, sizeof(*reclaim));
	ck_epoch_init(&reclaim->epoch);
	ck_epoch_register(&reclaim->epoch, &writer->record, NULL);
	writer->reclaim = reclaim;
	writer->in_use = true;
	reclaim->readers = writer;
	reclaim->writer = &writer->record;
	pthread_mutex_init(&reclaim->lock, NULL);
	if (ops) {
		reclaim->ops = *ops;
		reclaim->has_ops = true;
	} else {
		reclaim->moved_fence =
			gm_sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
	}
	return 0;
}

/* ck_epoch calls this when an entry is due; it only collects, so that the work runs outside of ck.
 */
static void collect(ck_epoch_entry_t *entry)
{
	struct gm_deferred *deferred =
		(struct gm_deferred *)(void *)((char *)entry - offsetof(struct gm_deferred, entry));

	deferred->next = deferred->owner->due;
	deferred->owner->due = deferred;
}

void gm_reclaim_defer(struct gm_reclaim *reclaim, struct gm_deferred *deferred)
{
	deferred->owner = reclaim;
	reclaim->nr_deferred++;
	if (reclaim->has_ops) {
		deferred->next = reclaim->pending;
		reclaim->pending = deferred;
	} else {
		ck_epoch_call(reclaim->writer, &deferred->entry, collect);
	}
}

/*
 * What readers did in sections that are over happens before what runs now. ck_epoch's atomics are
 * assembly, which ThreadSanitizer cannot see.
 */
static void acquire_readers(struct gm_reclaim *reclaim)
{
	pthread_mutex_lock(&reclaim->lock);
	for (struct gm_reader *reader = reclaim->readers; reader; reader = reader->next)
		GM_TSAN(__tsan_acquire(reader));
	pthread_mutex_unlock(&reclaim->lock);
}

static void run_due(struct gm_reclaim *reclaim)
{
	struct gm_deferred *due = reclaim->due;

	reclaim->due = NULL;
	if (due)
		acquire_readers(reclaim);
	while (due) {
		struct gm_deferred *next = due->next;

		reclaim->nr_deferred--;
		due->run(due);
		due = next;
	}
}

/* With ops: a wait is over, so all that was deferred before it is due. */
static void run_pending(struct gm_reclaim *reclaim)
{
	reclaim->due = reclaim->pending;
	reclaim->pending = NULL;
	run_due(reclaim);
}

uint32_t gm_reclaim_poll(struct gm_reclaim *reclaim)
{
	if (reclaim->nr_deferred == 0)
		return 0;
	if (reclaim->has_ops) {
		if (reclaim->ops.wait(reclaim->ops.ctx, 0) == 0)
			run_pending(reclaim);
		return reclaim->nr_deferred;
	}
	/* Pairs with the compiler barrier in enter_section(). Without it nothing can be said about
	 * readers. */
	if (reclaim->moved_fence && gm_sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		return reclaim->nr_deferred;
	ck_epoch_poll(reclaim->writer);
	run_due(reclaim);
	return reclaim->nr_deferred;
}

static void name_readers(struct gm_reclaim *reclaim, struct gm_error *err)
{
	const char *sep = " ";

	pthread_mutex_lock(&reclaim->lock);
	for (struct gm_reader *reader = reclaim->readers; reader; reader = reader->next) {
		if (!reader->in_use || ck_pr_load_uint(&reader->record.active) == 0)
			continue;
		gm_error_add(err, "%s%s", sep, reader->name);
		sep = ", ";
	}
	pthread_mutex_unlock(&reclaim->lock);
}

static int timed_out(struct gm_reclaim *reclaim, uint64_t timeout_ns, struct gm_error *err)
{
	gm_error_set(err, -ETIMEDOUT, 0, 0, "readers did not leave their sections within %llu ms:",
		(unsigned long long)(timeout_ns / 1000000));
	if (reclaim->has_ops)
		gm_error_add(err, " (sections are the embedder's own)");
	else
		name_readers(reclaim, err);
	return -ETIMEDOUT;
}

int gm_reclaim_wait(struct gm_reclaim *reclaim, uint64_t timeout_ns, struct gm_error *err)
{
	uint64_t start = gm_sys_now_ns();
	uint64_t pause = POLL_MIN_NS;

	if (reclaim->nr_deferred == 0)
		return 0;
	if (gm_sys_is_inside())
		return gm_error_set(err, -EDEADLK, 0, 0,
			"the callback of a device cannot wait for readers: it is in a section");
	if (reclaim->has_ops) {
		if (reclaim->ops.wait(reclaim->ops.ctx, timeout_ns))
			return timed_out(reclaim, timeout_ns, err);
		run_pending(reclaim);
		return 0;
	}
	while (gm_reclaim_poll(reclaim) > 0) {
		if (gm_sys_now_ns() - start >= timeout_ns)
			return timed_out(reclaim, timeout_ns, err);
		gm_sys_sleep_ns(pause);
		pause = pause * 2 < POLL_MAX_NS ? pause * 2 : POLL_MAX_NS;
	}
	return 0;
}

void gm_reclaim_fini(struct gm_reclaim *reclaim)
{
	/* No reader is left, so nothing holds the epochs up and no fence is needed. */
	run_pending(reclaim);
	while (reclaim->nr_deferred > 0) {
		ck_epoch_poll(reclaim->writer);
		run_due(reclaim);
	}
	while (reclaim->readers) {
		struct gm_reader *reader = reclaim->readers;

		reclaim->readers = reader->next;
		gm_sys_free(reader);
	}
	pthread_mutex_destroy(&reclaim->lock);
}

int gm_reclaim_add_reader(
	struct gm_reclaim *reclaim, const char *name, struct gm_reader **ret_reader)
{
	struct gm_reader *reader;

	pthread_mutex_lock(&reclaim->lock);
	/* ck_epoch keeps records for ever, so one that is free is used again. */
	for (reader = reclaim->readers; reader && reader->in_use; reader = reader->next)
		;
	if (!reader) {
		reader = new_reader();
		if (!reader) {
			pthread_mutex_unlock(&reclaim->lock);
			return -ENOMEM;
		}
		ck_epoch_register(&reclaim->epoch, &reader->record, NULL);
		reader->reclaim = reclaim;
		reader->next = reclaim->readers;
		reclaim->readers = reader;
	}
	reader->in_use = true;
	gm_copy_name(reader->name, sizeof(reader->name), name ? name : "reader");
	reclaim->nr_readers++;
	pthread_mutex_unlock(&reclaim->lock);
	*ret_reader = reader;
	return 0;
}

void gm_reclaim_drop_reader(struct gm_reader *reader)
{
	struct gm_reclaim *reclaim = reader->reclaim;

	pthread_mutex_lock(&reclaim->lock);
	reader->in_use = false;
	reclaim->nr_readers--;
	pthread_mutex_unlock(&reclaim->lock);
}

/* ---- sections ---- */

/*
 * ck_epoch_begin() without its fence: the compiler keeps the order, gm_reclaim_poll() makes the
 * CPUs keep it. The acquire pairs with the epoch's advance by ck_epoch_poll(): whoever sees the new
 * epoch sees the new view.
 */
static inline void enter_section(ck_epoch_record_t *record)
{
	uint32_t active = ck_pr_load_uint(&record->active);

	ck_pr_store_uint(&record->active, active + 1);
	if (active == 0) {
		ck_pr_barrier();
		ck_pr_store_uint(
			&record->epoch, __atomic_load_n(&record->global->epoch, __ATOMIC_ACQUIRE));
		ck_pr_barrier();
	}
}

const struct gm_view *gm_reader_enter(struct gm_reader *reader)
{
	struct gm_reclaim *reclaim = reader->reclaim;

	if (__builtin_expect(reclaim->moved_fence, 1))
		enter_section(&reader->record);
	else if (reclaim->has_ops)
		reclaim->ops.enter(reclaim->ops.ctx);
	else
		ck_epoch_begin(&reader->record, NULL);
	/* Pairs with the release in publish(). */
	return __atomic_load_n(reader->view, __ATOMIC_ACQUIRE);
}

void gm_reader_leave(struct gm_reader *reader)
{
	struct gm_reclaim *reclaim = reader->reclaim;

	GM_TSAN(__tsan_release(reader));
	if (__builtin_expect(reclaim->has_ops, 0))
		reclaim->ops.leave(reclaim->ops.ctx);
	else
		ck_epoch_end(&reader->record, NULL);
}
