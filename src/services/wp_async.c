/* SPDX-License-Identifier: BSD-3-Clause */
/* wp_async.c - see wp_async.h. */
#include "services/wp_async.h"

#include <errno.h>
#include <linux/userfaultfd.h>

#include "sys/sys.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

int gm_wp_async_open(int *ret_why)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
			    UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
	};
	int fd = gm_uffd_open(0);
	int rc;

	*ret_why = 0;
	if (fd == -EPERM)
		fd = gm_uffd_open(UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return fd;
	rc = gm_sys_ioctl(fd, UFFDIO_API, &api);
	if (rc >= 0)
		return fd;
	gm_sys_close(fd);
	*ret_why = rc;
	return -ENOTSUP;
}
