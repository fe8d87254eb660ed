/* SPDX-License-Identifier: BSD-3-Clause */
/* pager_uffd.c - userfaultfds: made, taken over, and what memory is registered with them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/ioctl.h>

#include "core/error.h"
#include "services/pager.h"
#include "sys/uapi.h"

#define EVENTS                                                                                     \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
		UFFD_FEATURE_EVENT_UNMAP)
#define MINOR (UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_MINOR_SHMEM)

/* The device first: whoever may open it may have faults of the kernel too. */
static int open_one(uint32_t flags)
{
	int how = O_NONBLOCK | ((flags & GM_PAGER_USER_ONLY) ? UFFD_USER_MODE_ONLY : 0);
	int device = gm_sys_open("/dev/userfaultfd", O_RDWR, 0);
	int fd;

	if (device >= 0) {
		fd = gm_sys_ioctl(device, USERFAULTFD_IOC_NEW,
			(void *)(uintptr_t)(unsigned int)(how | O_CLOEXEC));
		gm_sys_close(device);
		if (fd >= 0)
			return fd;
	}
	return gm_sys_userfaultfd(how);
}

static int explain(struct gm_error *err, int rc)
{
	const char *what = "";

	if (rc == -EPERM || rc == -EACCES)
		what = ": give this user /dev/userfaultfd (setfacl -m u:NAME:rw), set "
		       "vm.unprivileged_userfaultfd to 1, or give "
		       "CAP_SYS_PTRACE; GM_PAGER_USER_ONLY does without, for faults of user code";
	else if (rc == -ENOSYS || rc == -ENOTTY)
		what = ": the kernel is built without CONFIG_USERFAULTFD, or a filter of system "
		       "calls is in force";
	return gm_error_set(err, rc == -EACCES ? -EPERM : rc, 0, 0, "pager: no userfaultfd: %s%s",
		gm_error_word(rc), what);
}

/*
 * What is asked for has to be there, the rest if the kernel has it. A refused negotiation may be repeated; one that
 * succeeded may not.
 */
static int negotiate(int fd, uint32_t flags, bool *ret_poison, struct gm_error *err)
{
	const uint64_t needs = ((flags & GM_PAGER_EVENTS) ? EVENTS : 0) |
			       ((flags & GM_PAGER_SIGBUS) ? UFFD_FEATURE_SIGBUS : 0) |
			       UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MISSING_SHMEM;
	const uint64_t likes[] = {MINOR | UFFD_FEATURE_POISON, MINOR, 0};
	int rc = 0;

	for (size_t i = 0; i < sizeof(likes) / sizeof(likes[0]); i++) {
		struct uffdio_api api = {.api = UFFD_API, .features = needs | likes[i]};

		rc = gm_sys_ioctl(fd, UFFDIO_API, &api);
		if (rc >= 0) {
			*ret_poison = likes[i] & UFFD_FEATURE_POISON;
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
	pthread_mutex_init(&u->lock, NULL);
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
	int fd = open_one(flags);
	bool poison = false;
	int rc;

	if (fd < 0)
		return explain(err, fd);
	rc = negotiate(fd, flags, &poison, err);
	if (!rc)
		rc = make(pager, fd, ret, err);
	if (rc) {
		gm_sys_close(fd);
		return rc;
	}
	(*ret)->local = true;
	(*ret)->poison = poison;
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
	pthread_mutex_destroy(&u->lock);
	gm_sys_free(u);
}

int gm_pager_uffd_register(struct pager_uffd *u, struct pager_area *area, struct gm_error *err)
{
	struct uffdio_register reg = {
		.range = {area->addr, area->nr * area->page},
		/* Never MINOR alone: holes of the file would be zeros without a message. */
		.mode = UFFDIO_REGISTER_MODE_MISSING |
			(area->way == GM_PAGER_CONTINUE ? UFFDIO_REGISTER_MODE_MINOR : 0),
	};
	uint64_t needs = UINT64_C(1)
			 << (area->way == GM_PAGER_CONTINUE ? _UFFDIO_CONTINUE : _UFFDIO_COPY);
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
	return 0;
}
