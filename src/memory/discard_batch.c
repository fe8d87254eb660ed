/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard_batch.c - scattered stretches of private anonymous memory, many in one process_madvise(2).
 *
 * Whether that is faster than call by call depends on who else has the memory mapped: a guest's second
 * page table costs as much for each stretch either way. So both ways are measured in turn, now and then,
 * and the cheaper one is taken. What a batch did not do is done singly, which also says what is wrong.
 */
#include <errno.h>
#include <sys/mman.h>

#include "memory/dirty.h"
#include "memory/discard.h"
#include "sys/probe.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define SMALL 8u  /* fewer are not worth a look */
#define ROUND 64u /* flushes from one measurement to the next */

/* ---- which way ---- */

struct turn {
	bool batch;
	bool measured;
};

static uint32_t load(const uint32_t *value)
{
	return __atomic_load_n(value, __ATOMIC_RELAXED);
}

static struct turn take_turn(struct gm_scatter *scatter, size_t nr)
{
	struct turn turn = {.batch = true};
	uint32_t at;

	if (nr < SMALL || load(&scatter->refused))
		return (struct turn){0};
	at = __atomic_fetch_add(&scatter->turns, 1, __ATOMIC_RELAXED) % ROUND;
	turn.measured = at < 4;
	if (turn.measured)
		turn.batch = at % 2 == 0;
	else
		turn.batch = load(&scatter->batch_ns) <= load(&scatter->single_ns);
	return turn;
}

static void note(uint32_t *cost, uint64_t ns, size_t nr)
{
	uint64_t each = ns / nr;

	__atomic_store_n(cost, each < UINT32_MAX ? (uint32_t)each : UINT32_MAX, __ATOMIC_RELAXED);
}

/* ---- doing ---- */

static struct gm_target target_of(const struct gm_batch *batch, size_t i)
{
	return (struct gm_target){
		.range = batch->gpas[i],
		.block = batch->map->block,
		.hva = batch->iov[i].iov_base,
	};
}

/* From the first stretch of which less than all is done. */
static int do_singly(struct gm_discarding *d, uint64_t done)
{
	const struct gm_batch *batch = d->batch;

	for (size_t i = 0; i < batch->nr; i++) {
		uint32_t by = GM_DISCARD_BY_DONTNEED;
		struct gm_target t = target_of(batch, i);
		int rc;

		if (done >= batch->iov[i].iov_len) {
			done -= batch->iov[i].iov_len;
			d->sum.ranges++;
			continue;
		}
		done = 0;
		rc = gm_way_go(&t, &by, d->err);
		if (rc)
			return rc;
		d->sum.done += batch->iov[i].iov_len;
		d->sum.ranges++;
		d->sum.ways |= by;
	}
	return 0;
}

static int do_batch(struct gm_discarding *d)
{
	const struct gm_batch *batch = d->batch;
	struct gm_scatter *scatter = &d->space->gate.scatter;
	ssize_t done = gm_sys_madvise_many(PIDFD_SELF, batch->iov, batch->nr, MADV_DONTNEED);
	uint64_t whole = 0;
	int rc;

	if (done == (ssize_t)batch->bytes) {
		d->sum.ways |= GM_DISCARD_BY_BATCH;
		d->sum.done += batch->bytes;
		d->sum.ranges += batch->nr;
		return 0;
	}
	/* A stretch that was done in part is done again. */
	for (size_t i = 0; done > 0 && whole + batch->iov[i].iov_len <= (uint64_t)done; i++)
		whole += batch->iov[i].iov_len;
	d->sum.done += whole;
	d->sum.ways |= whole ? GM_DISCARD_BY_BATCH : 0;
	rc = do_singly(d, whole);
	/* An older kernel lets nobody discard in this way. */
	if (!rc && done < 0)
		__atomic_store_n(&scatter->refused, 1, __ATOMIC_RELAXED);
	return rc;
}

static void mark_all(const struct gm_discarding *d)
{
	const struct gm_batch *batch = d->batch;

	for (size_t i = 0; i < batch->nr; i++)
		gm_dirty_mark_later(d->space->dirty, batch->gpas[i].first, batch->iov[i].iov_len);
}

int gm_batch_flush(struct gm_discarding *d)
{
	struct gm_scatter *scatter = &d->space->gate.scatter;
	struct gm_batch *batch = d->batch;
	struct turn turn;
	uint64_t start;
	uint64_t ns;
	int rc;

	if (batch->nr == 0)
		return 0;
	turn = take_turn(scatter, batch->nr);
	start = gm_sys_now_ns();
	rc = turn.batch ? do_batch(d) : do_singly(d, 0);
	ns = gm_sys_now_ns() - start;
	if (turn.measured && !rc)
		note(turn.batch ? &scatter->batch_ns : &scatter->single_ns, ns, batch->nr);
	gm_discard_counted(d, batch->map->block, batch->bytes, ns, rc);
	GM_PROBE5(discard, batch->gpas[0].first, batch->bytes, d->mode, ns, rc);
	mark_all(d);
	gm_map_unpin(batch->map);
	batch->map = NULL;
	batch->nr = 0;
	batch->bytes = 0;
	return rc;
}

int gm_batch_add(struct gm_discarding *d, const struct gm_target *t)
{
	struct gm_batch *batch = d->batch;
	int rc = 0;

	if (batch->nr == GM_BATCH_MAX || (batch->nr && batch->map != t->reach->map))
		rc = gm_batch_flush(d);
	if (rc)
		return rc;
	if (batch->nr == 0) {
		batch->map = t->reach->map;
		gm_map_pin(batch->map);
	}
	batch->gpas[batch->nr] = t->range;
	batch->iov[batch->nr++] = (struct iovec){t->hva, (size_t)gm_range_len(&t->range)};
	batch->bytes += gm_range_len(&t->range);
	return 0;
}
