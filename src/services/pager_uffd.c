/* SPDX-License-Identifier: BSD-3-Clause */
/* pager_uffd.c - userfaultfds: made, taken over, and what memory is registered with them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "core/error.h"
#include "services/pager.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

#define EVENTS                                                                                     \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
		UFFD_FEATURE_EVENT_UNMAP)
#define WP (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
#define MINOR (UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_MINOR_SHMEM)

static int open_one(uint32_t flags, struct gm_error *err)
{
	bool user_only = flags & GM_PAGER_USER_ONLY;
	int fd = gm_uffd_open(O_NONBLOCK | (user_only ? UFFD_USER_MODE_ONLY : 0));

	if (fd >= 0)
		return fd;
	return gm_error_set(err, fd, 0, 0, "pager: no userfaultfd: %s%s%s", gm_error_word(fd),
		gm_uffd_hint(fd),
		fd == -EPERM && !user_only
			? "; GM_PAGER_USER_ONLY does without, for faults of user code"
			: "");
}

/*
 * What is asked for has to be there, the rest if the kernel has it. A refused negotiation may be repeated; one that
 * succeeded may not.
 */
static int negotiate(int fd, uint32_t flags, struct uffdio_api *api, struct gm_error *err)
{
	const uint64_t needs = ((flags & GM_PAGER_EVENTS) ? EVENTS : 0) |
			       ((flags & GM_PAGER_SIGBUS) ? UFFD_FEATURE_SIGBUS : 0) |
			       UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MISSING_SHMEM;
	const uint64_t exact = UFFD_FEATURE_EXACT_ADDRESS;
	const uint64_t likes[] = {MINOR | WP | UFFD_FEATURE_POISON | exact | UFFD_FEATURE_MOVE,
		MINOR | WP | UFFD_FEATURE_POISON | exact,
		MINOR | UFFD_FEATURE_POISON | exact | UFFD_FEATURE_MOVE,
		MINOR | UFFD_FEATURE_POISON | exact, MINOR | WP | exact,
		MINOR | UFFD_FEATURE_POISON, MINOR, 0};
	int rc = 0;

	for (size_t i = 0; i < sizeof(likes) / sizeof(likes[0]); i++) {
		*api = (struct uffdio_api){.api = UFFD_API, .features = needs | likes[i]};
		rc = gm_sys_ioctl(fd, UFFDIO_API, api);
		if (rc >= 0) {
			/* It tells all that it has; of these only what was asked for is in force. */
			api->features &= needs | likes[i] | UFFD_FEATURE_WP_UNPOPULATED;
			return 0;
		}
		if (rc != -EINVAL)
			break;
	}
	return gm_error_set(err, rc == -EINVAL ? -ENOTSUP : rc, 0, 0,
		"pager: the kernel's userfaultfd cannot do this: %s%s", gm_error_word(rc),
		rc == -EPERM ? " (messages of forks need CAP_SYS_PTRACE)" : "");
}

static int make(struct gm_pager *pager, int fd, struct pager_uffd **ret, struct gm_error *err)
{
	struct pager_uffd *u = gm_sys_alloc(sizeof(*u));
	pthread_rwlockattr_t prefer;
	int rc;

	if (!u)
		return gm_error_set(err, -ENOMEM, 0, 0, "pager: out of memory");
	u->kind = PAGER_UFFD;
	u->pager = pager;
	u->fd = fd;
	u->poison = true;
	rc = gm_sys_epoll_add(pager->epoll, fd, u);
	if (rc) {
		gm_sys_free(u);
		return gm_error_set(err, rc, 0, 0, "pager: a userfaultfd cannot be waited for: %s",
			gm_error_word(rc));
	}
	/* An event must not wait while others install without an end. */
	pthread_rwlockattr_init(&prefer);
	pthread_rwlockattr_setkind_np(&prefer, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&u->lock, &prefer);
	pthread_rwlockattr_destroy(&prefer);
	pthread_mutex_lock(&pager->lock);
	u->id = ++pager->ids;
	u->next = pager->uffds;
	__atomic_store_n(&pager->uffds, u, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&pager->lock);
	*ret = u;
	return 0;
}

int gm_pager_uffd_open(
	struct gm_pager *pager, uint32_t flags, struct pager_uffd **ret, struct gm_error *err)
{
	int fd = open_one(flags, err);
	struct uffdio_api api = {0};
	int rc;

	if (fd < 0)
		return fd;
	rc = negotiate(fd, flags, &api, err);
	if (!rc)
		rc = make(pager, fd, ret, err);
	if (rc) {
		gm_sys_close(fd);
		return rc;
	}
	(*ret)->local = true;
	(*ret)->poison = api.features & UFFD_FEATURE_POISON;
	(*ret)->wp = (api.features & WP) == WP;
	/* Of the same kernel. */
	(*ret)->wp_continue = (*ret)->wp && (api.features & UFFD_FEATURE_WP_UNPOPULATED);
	(*ret)->sigbus = flags & GM_PAGER_SIGBUS;
	return 0;
}

int gm_pager_uffd_adopt(
	struct gm_pager *pager, int fd, struct pager_uffd **ret, struct gm_error *err)
{
	/* Its owner may have it either way; poll on one that blocks is an error at once. */
	int rc = gm_sys_set_nonblock(fd);

	if (rc)
		return gm_error_set(err, rc, 0, 0, "pager: fd %d cannot be made non-blocking: %s",
			fd, gm_error_word(rc));
	return make(pager, fd, ret, err);
}

void gm_pager_uffd_free(struct pager_uffd *u)
{
	gm_sys_close(u->fd);
	gm_sys_free(u->spots);
	pthread_rwlock_destroy(&u->lock);
	gm_sys_free(u);
}

int gm_pager_uffd_register(struct pager_uffd *u, struct pager_area *area, struct gm_error *err)
{
	struct uffdio_register reg = {
		.range = {area->addr, area->nr * area->page},
		/* Never MINOR alone: holes of the file would be zeros without a message. */
		.mode = area->way == GM_PAGER_PROTECT
				? UFFDIO_REGISTER_MODE_WP
				: UFFDIO_REGISTER_MODE_MISSING |
					  (area->way == GM_PAGER_CONTINUE
							  ? UFFDIO_REGISTER_MODE_MINOR
							  : 0),
	};
	uint64_t needs = UINT64_C(1) << (area->way == GM_PAGER_CONTINUE  ? _UFFDIO_CONTINUE
					 : area->way == GM_PAGER_PROTECT ? _UFFDIO_WRITEPROTECT
					 : area->way == GM_PAGER_MOVE    ? GM_UFFDIO_MOVE_NR
									 : _UFFDIO_COPY);
	int rc = gm_sys_ioctl(u->fd, UFFDIO_REGISTER, &reg);

	if (rc < 0)
		return gm_error_set(err, rc, area->gpa, reg.range.len,
			"pager: memory at 0x%" PRIx64 " cannot be registered: %s%s", area->addr,
			gm_error_word(rc),
			rc == -EBUSY    ? " (another userfaultfd has it: a watch, or a pager)"
			: rc == -EINVAL ? " (not mapped whole, or of a sort that has no "
					  "userfaultfd: a file's)"
					: "");
	if (!(reg.ioctls & needs)) {
		gm_sys_ioctl(u->fd, UFFDIO_UNREGISTER, &reg.range);
		return gm_error_set(err, -ENOTSUP, area->gpa, reg.range.len,
			"pager: memory at 0x%" PRIx64 " cannot be filled this way", area->addr);
	}
	if (!(reg.ioctls & UINT64_C(1) << _UFFDIO_ZEROPAGE))
		area->huge = true;
	area->wp = area->way == GM_PAGER_PROTECT;
	return 0;
}
