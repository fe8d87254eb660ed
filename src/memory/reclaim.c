/* SPDX-License-Identifier: BSD-3-Clause */
/* reclaim.c - sections, deferral and waiting on ck_epoch. */
#include "memory/reclaim.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>

#include "core/error.h"
#include "memory/annotate.h"
#include "memory/lease.h"
#include "sys/inside.h"
#include "sys/probe.h"
#include "sys/sys.h"

#define POLL_MIN_NS 2000u
#define POLL_MAX_NS 1000000u

static struct gm_reader *new_reader(void)
{
	return gm_sys_alloc_aligned(CK_MD_CACHELINE, sizeof(struct gm_reader));
}

/* A record that is free, or a new one. Its name is read under the lock, so it is written there. */
static struct gm_reader *take_reader(struct gm_domain *domain, const char *name)
{
	struct gm_reader *reader;

	pthread_mutex_lock(&domain->lock);
	/* ck_epoch keeps records for ever, so one that is free is used again. */
	for (reader = domain->readers; reader && reader->in_use; reader = reader->next)
		;
	if (!reader) {
		reader = new_reader();
		if (reader) {
			ck_epoch_register(&domain->epoch, &reader->record, NULL);
			reader->domain = domain;
			reader->may_lease = domain->moved_fence;
			reader->next = domain->readers;
			domain->readers = reader;
		}
	}
	if (reader) {
		gm_copy_name(reader->name, sizeof(reader->name), name);
		reader->spot = (struct gm_lease_spot){.first = 1}; /* nothing */
		reader->in_use = true;
	}
	pthread_mutex_unlock(&domain->lock);
	return reader;
}

static void give_back(struct gm_reader *reader)
{
	struct gm_domain *domain = reader->domain;

	pthread_mutex_lock(&domain->lock);
	reader->in_use = false;
	pthread_mutex_unlock(&domain->lock);
}

static struct gm_domain *new_domain(const struct gm_section_ops *ops)
{
	struct gm_domain *domain = gm_sys_alloc(sizeof(*domain));

	if (!domain)
		return NULL;
	domain->refs = 1;
	ck_epoch_init(&domain->epoch);
	pthread_mutex_init(&domain->lock, NULL);
	if (ops) {
		domain->ops = *ops;
		domain->has_ops = true;
	} else {
		domain->moved_fence =
			gm_sys_membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
	}
	return domain;
}

static void put_domain(struct gm_domain *domain)
{
	if (__atomic_fetch_sub(&domain->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	while (domain->readers) {
		struct gm_reader *reader = domain->readers;

		domain->readers = reader->next;
		gm_sys_free(reader);
	}
	pthread_mutex_destroy(&domain->lock);
	gm_sys_free(domain);
}

int gm_reclaim_init(struct gm_reclaim *reclaim, const struct gm_section_ops *ops,
	const struct gm_reclaim *other)
{
	memset(reclaim, 0, sizeof(*reclaim));
	if (other) {
		reclaim->domain = other->domain;
		__atomic_fetch_add(&reclaim->domain->refs, 1, __ATOMIC_RELAXED);
	} else {
		reclaim->domain = new_domain(ops);
	}
	if (!reclaim->domain)
		return -ENOMEM;
	reclaim->writer = take_reader(reclaim->domain, "writer");
	if (reclaim->writer)
		return 0;
	put_domain(reclaim->domain);
	return -ENOMEM;
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
	if (reclaim->domain->has_ops) {
		deferred->next = reclaim->pending;
		reclaim->pending = deferred;
	} else {
		ck_epoch_call(&reclaim->writer->record, &deferred->entry, collect);
	}
}

/*
 * What readers did in sections that are over happens before what runs now. ck_epoch's atomics are
 * assembly, which ThreadSanitizer cannot see.
 */
static void acquire_readers(struct gm_domain *domain)
{
	pthread_mutex_lock(&domain->lock);
	for (struct gm_reader *reader = domain->readers; reader; reader = reader->next)
		GM_TSAN(__tsan_acquire(reader));
	pthread_mutex_unlock(&domain->lock);
}

static void run_due(struct gm_reclaim *reclaim)
{
	struct gm_deferred *due = reclaim->due;

	reclaim->due = NULL;
	if (due) {
		acquire_readers(reclaim->domain);
		gm_lease_adopt(reclaim->domain);
	}
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
	const struct gm_domain *domain = reclaim->domain;

	if (reclaim->nr_deferred == 0)
		return 0;
	if (domain->has_ops) {
		if (domain->ops.wait(domain->ops.ctx, 0) == 0)
			run_pending(reclaim);
		return reclaim->nr_deferred;
	}
	/* Pairs with the compiler barrier in gm_section_enter(). Without it nothing can be said about
	 * readers. */
	if (domain->moved_fence && gm_sys_membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		return reclaim->nr_deferred;
	ck_epoch_poll(&reclaim->writer->record);
	run_due(reclaim);
	return reclaim->nr_deferred;
}

static void name_readers(struct gm_domain *domain, struct gm_error *err)
{
	const char *sep = " ";

	pthread_mutex_lock(&domain->lock);
	for (struct gm_reader *reader = domain->readers; reader; reader = reader->next) {
		if (!reader->in_use || ck_pr_load_uint(&reader->record.active) == 0)
			continue;
		gm_error_add(err, "%s%s", sep, reader->name);
		sep = ", ";
	}
	pthread_mutex_unlock(&domain->lock);
}

static int timed_out(struct gm_reclaim *reclaim, uint64_t timeout_ns, struct gm_error *err)
{
	gm_error_set(err, -ETIMEDOUT, 0, 0, "readers did not leave their sections within %llu ms:",
		(unsigned long long)(timeout_ns / 1000000));
	if (reclaim->domain->has_ops)
		gm_error_add(err, " (sections are the embedder's own)");
	else
		name_readers(reclaim->domain, err);
	return -ETIMEDOUT;
}

static int wait(
	struct gm_reclaim *reclaim, uint64_t start, uint64_t timeout_ns, struct gm_error *err)
{
	uint64_t pause = POLL_MIN_NS;

	if (reclaim->nr_deferred == 0)
		return 0;
	if (gm_sys_is_inside())
		return gm_error_set(err, -EDEADLK, 0, 0,
			"the callback of a device cannot wait for readers: it is in a section");
	if (reclaim->domain->has_ops) {
		if (reclaim->domain->ops.wait(reclaim->domain->ops.ctx, timeout_ns))
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

int gm_reclaim_wait(struct gm_reclaim *reclaim, uint64_t timeout_ns, struct gm_error *err)
{
	uint64_t start = gm_sys_now_ns();
	int rc = wait(reclaim, start, timeout_ns, err);

	GM_PROBE2(wait, gm_sys_now_ns() - start, rc);
	return rc;
}

void gm_reclaim_fini(struct gm_reclaim *reclaim)
{
	/* Readers of other spaces of the domain may be in sections, but they do not see this. */
	run_pending(reclaim);
	ck_epoch_reclaim(&reclaim->writer->record);
	run_due(reclaim);
	give_back(reclaim->writer);
	put_domain(reclaim->domain);
}

int gm_reclaim_add_reader(
	struct gm_reclaim *reclaim, const char *name, struct gm_reader **ret_reader)
{
	struct gm_reader *reader = take_reader(reclaim->domain, name ? name : "reader");

	if (!reader)
		return -ENOMEM;
	*ret_reader = reader;
	return 0;
}

void gm_reclaim_drop_reader(struct gm_reader *reader)
{
	if (__atomic_load_n(&reader->adopted, __ATOMIC_RELAXED))
		gm_lease_settle(reader);
	give_back(reader);
}

/* ---- sections ---- */

const struct gm_view *gm_reader_enter(struct gm_reader *reader)
{
	const struct gm_domain *domain = reader->domain;

	if (__builtin_expect(domain->moved_fence, 1))
		return gm_section_enter(reader);
	if (domain->has_ops)
		domain->ops.enter(domain->ops.ctx);
	else
		ck_epoch_begin(&reader->record, NULL);
	/* Pairs with the release in publish(). */
	return __atomic_load_n(reader->view, __ATOMIC_ACQUIRE);
}

void gm_reader_leave(struct gm_reader *reader)
{
	const struct gm_domain *domain = reader->domain;

	if (__builtin_expect(domain->has_ops, 0)) {
		GM_TSAN(__tsan_release(reader));
		domain->ops.leave(domain->ops.ctx);
	} else {
		gm_section_leave(reader);
	}
}
