/* SPDX-License-Identifier: BSD-3-Clause */
/* whole.c - see whole.h. */
#include "sys/whole.h"

#include <errno.h>

#include "sys/sys.h"

int gm_pread_whole(int fd, void *buf, size_t len, uint64_t off, size_t *ret_done)
{
	size_t done = 0;
	int rc = 0;

	while (done < len && !rc) {
		ssize_t nr = gm_sys_pread(fd, (uint8_t *)buf + done, len - done, off + done);

		if (nr > 0)
			done += (size_t)nr;
		else if (nr != -EINTR)
			rc = nr ? (int)nr : -ENODATA;
	}
	*ret_done = done;
	return rc;
}

int gm_set_length(int fd, uint64_t len)
{
	int rc;

	do {
		rc = gm_sys_ftruncate(fd, len);
	} while (rc == -EINTR);
	return rc;
}
