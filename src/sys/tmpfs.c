/* SPDX-License-Identifier: BSD-3-Clause */
/* tmpfs.c - a file system in memory of a size that the kernel keeps; mounted nowhere. */
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) ? -errno : 0;
}

static int set_size(int fs, uint64_t limit)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
	return set(fs, "size", text);
}

int gm_sys_tmpfs(uint64_t limit)
{
	int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd = -1;
	int rc;

	if (fs < 0)
		return -errno;
	rc = set_size(fs, limit);
	/* Without transparent huge pages in the kernel there is no such option. */
	if (!rc)
		set(fs, "huge", "advise");
	if (!rc && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		rc = -errno;
	if (!rc)
		fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	if (!rc && fd < 0)
		rc = -errno;
	close(fs);
	return fd < 0 ? rc : fd;
}

int gm_sys_tmpfs_file(int tmpfs)
{
	long fd = syscall(SYS_openat, tmpfs, ".", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : (int)fd;
}

int gm_sys_tmpfs_resize(int tmpfs, uint64_t limit)
{
	int fs = fspick(tmpfs, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	int rc;

	if (fs < 0)
		return -errno;
	rc = set_size(fs, limit);
	/* The size is the only thing that is changed, so what is not valid is the size. */
	if (!rc && fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0))
		rc = errno == EINVAL ? -EBUSY : -errno;
	close(fs);
	return rc;
}
