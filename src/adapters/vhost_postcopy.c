/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_postcopy.c - memory that a front-end brings page by page, when it is touched.
 *
 *	ADVISE (a userfaultfd goes out) → LISTEN (there is no memory yet) → SET_MEM_TABLE (addresses here go out)
 *	→ its answer (memory is registered; queues may run) → END
 *
 * Between the table and its answer no queue runs, so nothing is touched before it is registered.
 */
#include "adapters/vhost_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>

#include <guestmem/guard.h>

#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

/* Sets b->uffd. */
static int open_uffd(struct gm_vhost_backend *b, struct gm_error *err)
{
	struct uffdio_api api = {.api = UFFD_API,
		.features = UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MISSING_SHMEM};
	int fd = gm_uffd_open(O_NONBLOCK);
	int rc;

	if (fd < 0)
		return gm_error_set(err, fd, 0, 0, "vhost-user: no userfaultfd: %s%s",
			gm_error_word(fd), gm_uffd_hint(fd));
	rc = gm_sys_ioctl(fd, UFFDIO_API, &api);
	if (rc < 0) {
		gm_sys_close(fd);
		return gm_error_set(err, rc, 0, 0,
			"vhost-user: the kernel has no page faults of shared memory for us: %s",
			gm_error_word(rc));
	}
	b->uffd = fd;
	return 0;
}

/* A reply without a descriptor says that it failed. */
int gm_vhost_on_advise(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int copy;
	int rc = 0;

	gm_vhost_answer(call, NULL, 0);
	if (b->postcopy != POSTCOPY_NO)
		return gm_error_set(
			call->err, -EBUSY, 0, 0, "vhost-user: post-copy has begun already");
	rc = open_uffd(b, call->err);
	if (rc)
		return rc;
	copy = gm_sys_dup(b->uffd);
	if (copy < 0) {
		gm_vhost_close(&b->uffd);
		return gm_error_set(call->err, copy, 0, 0, "vhost-user: %s", gm_error_word(copy));
	}
	b->postcopy = POSTCOPY_ADVISED;
	gm_vhost_answer_fd(call, copy);
	return 0;
}

int gm_vhost_on_listen(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;

	if (b->postcopy != POSTCOPY_ADVISED || b->mem.nr)
		return gm_error_set(call->err, -EINVAL, 0, 0,
			"vhost-user: post-copy cannot be listened for: %s",
			b->mem.nr ? "there is memory already" : "it was not advised, or is");
	b->postcopy = POSTCOPY_LISTENING;
	return 0;
}

static int slot_range(
	struct gm_vhost_backend *b, const struct gm_vhost_slot *slot, struct uffdio_range *ret)
{
	void *hva;
	int rc = gm_vhost_memory_hva(&b->mem, slot, &hva);

	if (!rc)
		*ret = (struct uffdio_range){(uintptr_t)hva, gm_range_len(&slot->gpa)};
	return rc;
}

int gm_vhost_postcopy_answer(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	struct gm_vhost_memory table = call->msg->u.memory;
	int rc = 0;

	/* In the order in which they came. */
	for (uint32_t i = 0; i < table.nr && !rc; i++) {
		for (uint32_t k = 0; k < b->mem.nr; k++) {
			struct uffdio_range range;

			if (b->mem.slots[k].user.first != call->msg->u.memory.region[i].user)
				continue;
			rc = slot_range(b, &b->mem.slots[k], &range);
			table.region[i].user = rc ? 0 : range.start;
		}
	}
	if (rc)
		return gm_error_set(call->err, rc, 0, 0,
			"vhost-user: a region of post-copy has no address here");
	gm_vhost_answer(call, &table, call->msg->len);
	b->wants_ack = true;
	return 0;
}

static int register_slot(
	struct gm_vhost_backend *b, const struct gm_vhost_slot *slot, struct gm_error *err)
{
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int rc = slot_range(b, slot, &reg.range);
	void *at = (void *)(uintptr_t)reg.range.start;

	if (!rc)
		rc = gm_sys_madvise(at, (size_t)reg.range.len, MADV_DONTNEED);
	/* Huge pages would come whole where one small page was asked for; hugetlbfs knows no such advice. */
	if (!rc)
		gm_sys_madvise(at, (size_t)reg.range.len, MADV_NOHUGEPAGE);
	if (!rc)
		rc = gm_sys_ioctl(b->uffd, UFFDIO_REGISTER, &reg);
	if (rc >= 0 && !(reg.ioctls & UINT64_C(1) << _UFFDIO_COPY))
		rc = -ENOTSUP;
	return rc < 0 ? gm_error_set(err, rc, slot->gpa.first, gm_range_len(&slot->gpa),
				"vhost-user: memory at 0x%" PRIx64
				" cannot be registered for post-copy: %s",
				slot->gpa.first, gm_error_word(rc))
		      : 0;
}

/* Of its answer the number 0 is what there is. */
int gm_vhost_postcopy_begin(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;
	int rc = 0;

	if (call->msg->len != 8 || call->msg->u.number != 0)
		return gm_error_set(call->err, -EPROTO, 0, 0,
			"vhost-user: the front-end does not take the table's addresses");
	b->wants_ack = false;
	for (uint32_t i = 0; i < b->mem.nr && !rc; i++)
		rc = register_slot(b, &b->mem.slots[i], call->err);
	if (!rc)
		gm_vhost_rings_go(b);
	return rc;
}

/*
 * Nobody brings what is missing, and zeros in its place would be written to disks and networks. So the memory goes: who
 * waits, and who comes, gets an error, which takes the fault guard. Without it, or if the kernel refuses, they go on.
 */
static void take_away(
	const struct gm_vhost_backend *b, struct gm_vhost_slot *slot, struct uffdio_range *range)
{
	void *ptr;

	/* A region of the next table that looks the same is another one. */
	slot->dev = 0;
	slot->ino = 0;
	if (gm_guard_check() == 0 &&
		gm_sys_mmap((void *)(uintptr_t)range->start, (size_t)range->len, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0, &ptr) == 0)
		gm_sys_ioctl(b->uffd, UFFDIO_WAKE, range);
	else
		gm_sys_ioctl(b->uffd, UFFDIO_UNREGISTER, range);
}

/* The front-end has the same userfaultfd, so that closing ours ends nothing. */
static void stop(struct gm_vhost_backend *b, bool all_is_there)
{
	for (uint32_t i = 0; b->uffd >= 0 && i < b->mem.nr; i++) {
		struct uffdio_range range;

		if (b->postcopy != POSTCOPY_LISTENING || b->wants_ack ||
			slot_range(b, &b->mem.slots[i], &range))
			continue;
		if (all_is_there)
			gm_sys_ioctl(b->uffd, UFFDIO_UNREGISTER, &range);
		else
			take_away(b, &b->mem.slots[i], &range);
	}
	gm_vhost_close(&b->uffd);
	b->postcopy = POSTCOPY_NO;
	b->wants_ack = false;
}

void gm_vhost_postcopy_stop(struct gm_vhost_backend *b)
{
	stop(b, false);
}

int gm_vhost_backend_let_go(struct gm_vhost_backend *b, bool anyway)
{
	if (b->postcopy != POSTCOPY_LISTENING)
		return 0;
	if (!anyway && (b->peer < 0 || gm_sys_poll_gone(b->peer) <= 0))
		return 0;
	gm_vhost_postcopy_stop(b);
	/* No queue runs again, also not on what the message that is being handled brings. */
	b->wants_ack = true;
	return 1;
}

int gm_vhost_on_end(struct vhost_call *call)
{
	struct gm_vhost_backend *b = call->b;

	if (b->postcopy == POSTCOPY_NO)
		return gm_error_set(
			call->err, -EINVAL, 0, 0, "vhost-user: post-copy has not begun");
	stop(b, true);
	return 0;
}
