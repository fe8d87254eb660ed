/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * advise.c - advice for another process, in batches.
 *
 * process_madvise(2) tells how many bytes it did when it stops on the way, and the reason only if the first stretch
 * of a call fails: so what is left is asked for again.
 */
#include <guestmem/advise.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define BATCH 64u

static const int madvise_of[] = {
	[GM_ADVICE_COLD] = MADV_COLD,
	[GM_ADVICE_PAGEOUT] = MADV_PAGEOUT,
	[GM_ADVICE_WILLNEED] = MADV_WILLNEED,
	[GM_ADVICE_COLLAPSE] = MADV_COLLAPSE,
};

/* Where in the list it stands: the range, and bytes of it that are done. */
struct place {
	const struct iovec *ranges;
	size_t nr;
	size_t at;
	size_t off;
};

static size_t next_batch(const struct place *p, struct iovec *batch)
{
	size_t nr = 0;

	for (size_t i = p->at; i < p->nr && nr < BATCH; i++) {
		size_t off = i == p->at ? p->off : 0;

		batch[nr++] = (struct iovec){
			(char *)p->ranges[i].iov_base + off, p->ranges[i].iov_len - off};
	}
	return nr;
}

/* Lengths count as the caller gave them. Returns whether it went on. */
static bool step(struct place *p, uint64_t done)
{
	struct place was = *p;

	while (p->at < p->nr && done >= p->ranges[p->at].iov_len - p->off) {
		done -= p->ranges[p->at].iov_len - p->off;
		p->at++;
		p->off = 0;
	}
	p->off += done;
	return p->at > was.at || p->off > was.off;
}

static int fail(const struct place *p, int pidfd, int rc, struct gm_error *err)
{
	const struct iovec *range = &p->ranges[p->at];
	uint64_t at = (uintptr_t)range->iov_base + p->off;

	return gm_error_set(err, rc, at, range->iov_len - p->off,
		"advice for 0x%" PRIx64 " and 0x%zx bytes of the process of pidfd %d: %s%s", at,
		range->iov_len - p->off, pidfd, gm_error_word(rc),
		rc == -EPERM || rc == -EACCES ? " (needs leave to trace it, and CAP_SYS_NICE)"
					      : "");
}

int gm_process_advise(int pidfd, const struct iovec *ranges, size_t nr, enum gm_advice advice,
	uint64_t *ret_done, struct gm_error *err)
{
	struct place p = {.ranges = ranges, .nr = nr};
	struct iovec batch[BATCH];
	uint64_t sum = 0;
	int rc = 0;

	if ((unsigned int)advice >= sizeof(madvise_of) / sizeof(madvise_of[0]))
		rc = gm_error_set(err, -EINVAL, 0, 0, "advice %d is none", (int)advice);
	while (!rc && p.at < nr) {
		size_t nr_batch = next_batch(&p, batch);
		ssize_t done = gm_sys_madvise_many(pidfd, batch, nr_batch, madvise_of[advice]);

		if (done == -EINTR)
			continue;
		if (done > 0)
			sum += (uint64_t)done;
		if (done < 0 || !step(&p, (uint64_t)done))
			rc = fail(&p, pidfd, done < 0 ? (int)done : -EIO, err);
	}
	if (ret_done)
		*ret_done = sum;
	return rc;
}
