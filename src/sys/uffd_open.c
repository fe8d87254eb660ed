/* SPDX-License-Identifier: BSD-3-Clause */
/* uffd_open.c - userfaultfds, opened in one place. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "sys/sys.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

/* Whoever may open the device may have faults of the kernel too. */
int gm_uffd_open(int flags)
{
	int device = gm_sys_open("/dev/userfaultfd", O_RDWR, 0);
	int fd;

	if (device >= 0) {
		fd = gm_sys_ioctl(device, USERFAULTFD_IOC_NEW,
			(void *)(uintptr_t)(unsigned int)(flags | O_CLOEXEC));
		gm_sys_close(device);
		if (fd >= 0)
			return fd;
	}
	fd = gm_sys_userfaultfd(flags);
	return fd == -EACCES ? -EPERM : fd;
}

const char *gm_uffd_hint(int rc)
{
	if (rc == -EPERM)
		return ": give this user /dev/userfaultfd (setfacl -m u:NAME:rw), set "
		       "vm.unprivileged_userfaultfd to 1, or give CAP_SYS_PTRACE";
	if (rc == -ENOSYS || rc == -ENOTTY)
		return ": the kernel is built without CONFIG_USERFAULTFD, or a filter of system "
		       "calls is in force";
	return "";
}
