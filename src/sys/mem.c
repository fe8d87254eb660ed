/* SPDX-License-Identifier: BSD-3-Clause */
/* mem.c - system calls on the address space. */
#include "sys/sys.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/uapi.h"

int gm_sys_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t off, void **ret)
{
	void *ptr;

	if (off > (uint64_t)INT64_MAX)
		return -EOVERFLOW;
	ptr = mmap(addr, len, prot, flags, fd, (off_t)off);
	if (ptr == MAP_FAILED)
		return -errno;
	*ret = ptr;
	return 0;
}

int gm_sys_munmap(void *addr, size_t len)
{
	return munmap(addr, len) ? -errno : 0;
}

int gm_sys_mremap_to(void *from, size_t len, void *to)
{
	void *ptr = mremap(from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	return ptr == MAP_FAILED ? -errno : 0;
}

int gm_sys_mprotect(void *addr, size_t len, int prot)
{
	return mprotect(addr, len, prot) ? -errno : 0;
}

int gm_sys_madvise(void *addr, size_t len, int advice)
{
	return madvise(addr, len, advice) ? -errno : 0;
}

ssize_t gm_sys_madvise_many(int pidfd, const struct iovec *iov, size_t nr, int advice)
{
	long rc = syscall(SYS_process_madvise, pidfd, iov, nr, advice, 0);

	return rc < 0 ? -errno : rc;
}

int gm_sys_mlock(void *addr, size_t len, bool onfault)
{
	return mlock2(addr, len, onfault ? MLOCK_ONFAULT : 0) ? -errno : 0;
}

int gm_sys_munlock(void *addr, size_t len)
{
	/* Not munlock(): the address sanitizer makes that do nothing. */
	return syscall(SYS_munlock, addr, len) ? -errno : 0;
}

int gm_sys_mbind(void *addr, size_t len, int mode, const uint64_t *nodes, unsigned int nr_words)
{
	/* The kernel looks at maxnode - 1 bits. */
	unsigned long maxnode = (unsigned long)nr_words * 64 + 1;

	return syscall(SYS_mbind, addr, len, mode, nodes, maxnode, 0) ? -errno : 0;
}

int gm_sys_home_node(void *addr, size_t len, unsigned int node)
{
#ifdef SYS_set_mempolicy_home_node
	return syscall(SYS_set_mempolicy_home_node, addr, len, (unsigned long)node, 0UL) ? -errno
											 : 0;
#else
	return syscall(450, addr, len, (unsigned long)node, 0UL) ? -errno : 0;
#endif
}

int gm_sys_name_vma(void *addr, size_t len, const char *name)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, len, name) ? -errno : 0;
}

int gm_sys_membarrier(int cmd)
{
	long rc = syscall(SYS_membarrier, cmd, 0, 0);

	return rc < 0 ? -errno : (int)rc;
}

size_t gm_sys_page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}
