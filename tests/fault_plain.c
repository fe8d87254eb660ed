/* SPDX-License-Identifier: BSD-3-Clause */
/* fault_plain.c - wrappers of functions that do all or nothing. */
#include "fault_wrap.h"

#include <sys/uio.h>

#include "sys/raw.h"
#include "sys/uapi_kvm.h"
WRAP(int, gm_sys_mprotect, (void *addr, size_t len, int prot), (addr, len, prot), ADDR(addr),
	.len = len, .prot = prot)
WRAP(int, gm_sys_madvise, (void *addr, size_t len, int advice), (addr, len, advice), ADDR(addr),
	.len = len, .flags = (uint64_t)advice)
WRAP(ssize_t, gm_sys_madvise_many, (int pidfd, const struct iovec *iov, size_t nr, int advice),
	(pidfd, iov, nr, advice), ADDR(iov->iov_base), .len = nr, .flags = (uint64_t)advice)
WRAP(int, gm_sys_mlock, (void *addr, size_t len, bool onfault), (addr, len, onfault), ADDR(addr),
	.len = len, .flags = onfault)
WRAP(int, gm_sys_munlock, (void *addr, size_t len), (addr, len), ADDR(addr), .len = len)
WRAP(int, gm_sys_mbind,
	(void *addr, size_t len, int mode, const uint64_t *nodes, unsigned int nr_words),
	(addr, len, mode, nodes, nr_words), ADDR(addr), .len = len, .flags = (uint64_t)mode)
WRAP(int, gm_sys_home_node, (void *addr, size_t len, unsigned int node), (addr, len, node),
	ADDR(addr), .len = len, .flags = node)
WRAP(int, gm_sys_name_vma, (void *addr, size_t len, const char *name), (addr, len, name),
	ADDR(addr), .len = len)
WRAP(int, gm_sys_membarrier, (int cmd), (cmd), .flags = (uint64_t)cmd)

WRAP(int, gm_sys_memfd, (const char *name, unsigned int flags), (name, flags), .flags = flags)
WRAP(int, gm_sys_open, (const char *path, int flags, unsigned int mode), (path, flags, mode),
	.flags = (uint64_t)flags)
WRAP(int, gm_sys_openat, (int dir, const char *path, int flags), (dir, path, flags), .fd = dir,
	.flags = (uint64_t)flags)
WRAP(int, gm_sys_dup, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_fstat, (int fd, struct stat *ret), (fd, ret), .fd = fd)
WRAP(int, gm_sys_fchmod, (int fd, unsigned int mode), (fd, mode), .fd = fd)
WRAP(int, gm_sys_open_flags, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_ftruncate, (int fd, uint64_t len), (fd, len), .fd = fd, .len = len)
WRAP(int, gm_sys_fallocate, (int fd, int mode, uint64_t off, uint64_t len), (fd, mode, off, len),
	.fd = fd, .off = off, .len = len, .flags = (uint64_t)mode)
WRAP(int, gm_sys_add_seals, (int fd, int seals), (fd, seals), .fd = fd, .flags = (uint64_t)seals)
WRAP(int, gm_sys_get_seals, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_create_at, (int dir, const char *name, unsigned int mode), (dir, name, mode),
	.fd = dir, .flags = mode)
WRAP(int, gm_sys_stat_at, (int dir, const char *name, struct stat *ret), (dir, name, ret),
	.fd = dir)
WRAP(int, gm_sys_rename_at, (int dir, const char *from, const char *to), (dir, from, to), .fd = dir)
WRAP(int, gm_sys_unlink_at, (int dir, const char *name), (dir, name), .fd = dir)
WRAP(int, gm_sys_stat, (const char *path, struct stat *ret), (path, ret), .fd = -1)
WRAP(int, gm_sys_lock, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_write_behind, (int fd, uint64_t off, uint64_t len), (fd, off, len), .fd = fd,
	.off = off, .len = len)
WRAP(int, gm_sys_will_need, (int fd, uint64_t off, uint64_t len), (fd, off, len), .fd = fd,
	.off = off, .len = len)
WRAP(int64_t, gm_sys_seek, (int fd, uint64_t off, int whence), (fd, off, whence), .fd = fd,
	.off = off, .flags = (uint64_t)whence)
WRAP(int, gm_sys_poll_in, (int fd, int timeout_ms), (fd, timeout_ms), .fd = fd)
WRAP(int, gm_sys_poll_gone, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_poll_out, (int fd, int timeout_ms), (fd, timeout_ms), .fd = fd)
WRAP(int, gm_sys_sync, (int fd, bool data_only), (fd, data_only), .fd = fd, .flags = data_only)
WRAP(int, gm_sys_direct_align, (int fd, uint32_t *ret_mem, uint32_t *ret_off),
	(fd, ret_mem, ret_off), .fd = fd)
WRAP(int, gm_sys_uring_register, (int ring_fd, unsigned int op, const void *arg, unsigned int nr),
	(ring_fd, op, arg, nr), .fd = ring_fd, .len = nr, .flags = op)
WRAP(int, gm_sys_tmpfs, (uint64_t limit), (limit), .len = limit)
WRAP(int, gm_sys_tmpfs_file, (int tmpfs), (tmpfs), .fd = tmpfs)
WRAP(int, gm_sys_tmpfs_resize, (int tmpfs, uint64_t limit), (tmpfs, limit), .fd = tmpfs,
	.len = limit)
WRAP(int, gm_sys_unlink, (const char *path), (path), .addr = 0)
WRAP(int64_t, gm_sys_huge_page_size, (int fd), (fd), .fd = fd)
WRAP(ssize_t, gm_sys_read_text, (const char *path, char *buf, size_t cap), (path, buf, cap),
	.len = cap)
WRAP(ssize_t, gm_sys_readlink, (const char *path, char *buf, size_t cap), (path, buf, cap),
	.len = cap)
WRAP(int, gm_sys_ioctl, (int fd, unsigned long request, void *arg), (fd, request, arg), .fd = fd,
	.flags = request)

WRAP(int, gm_sys_cpu_count, (void), ())
WRAP(int, gm_sys_thread_create, (pthread_t * ret, void *(*run)(void *), void *arg), (ret, run, arg),
	.addr = 0)
WRAP(int, gm_sys_thread_join, (pthread_t thread), (thread), .addr = 0)
WRAP(int, gm_sys_set_affinity, (const void *cpus, size_t len), (cpus, len), .len = len)
WRAP(int, gm_sys_peek_from_start, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_peer_uid, (int fd, uid_t *ret), (fd, ret), .fd = fd)
WRAP(int, gm_sys_unix_connect, (const char *path), (path), .fd = -1)
WRAP(int, gm_sys_socketpair, (int ret_fds[2]), (ret_fds), .fd = -1)
WRAP(int, gm_sys_send_at_once, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_send_room, (int fd, int bytes), (fd, bytes), .fd = fd, .len = (size_t)bytes)
WRAP(int, gm_sys_accept, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_socket_kind, (int fd, int *ret_domain, int *ret_type), (fd, ret_domain, ret_type),
	.fd = fd)
WRAP(int, gm_sys_socket_listens, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_sigaction, (int sig, const struct sigaction *act, struct sigaction *ret_old),
	(sig, act, ret_old), .flags = (uint64_t)sig)
WRAP(int, gm_sys_getrlimit, (int resource, struct rlimit *ret), (resource, ret),
	.flags = (uint64_t)resource)

WRAP(int, gm_sys_kernel_release, (char *buf, size_t cap), (buf, cap), .len = cap)
WRAP(int, gm_sys_has_cap, (unsigned int cap), (cap), .flags = cap)
WRAP(int, gm_sys_userfaultfd, (int flags), (flags), .flags = (uint64_t)flags)
WRAP(ssize_t, gm_sys_process_read, (pid_t pid, uint64_t addr, void *to, size_t len),
	(pid, addr, to, len), .addr = addr, .len = len)

WRAP(int, gm_sys_epoll_create, (void), ())
WRAP(int, gm_sys_epoll_add, (int epoll, int fd, void *data), (epoll, fd, data), .fd = fd)
WRAP(int, gm_sys_epoll_set, (int epoll, int fd, uint32_t wanted, void *data),
	(epoll, fd, wanted, data), .fd = fd)
WRAP(int, gm_sys_epoll_remove, (int epoll, int fd), (epoll, fd), .fd = fd)
WRAP(int, gm_sys_epoll_wait, (int epoll, struct epoll_event *found, int max, int timeout_ms),
	(epoll, found, max, timeout_ms), .fd = epoll)
WRAP(int, gm_sys_eventfd, (void), ())
WRAP(int, gm_sys_signals_open, (struct gm_sys_signals * ret), (ret))
WRAP(int, gm_sys_signals_close, (struct gm_sys_signals * signals), (signals))
WRAP(int, gm_sys_signals_add, (const struct gm_sys_signals *signals, int eventfd),
	(signals, eventfd), .fd = eventfd)
WRAP(int, gm_sys_timerfd, (void), ())
WRAP(int, gm_sys_timer_set, (int fd, uint64_t ns), (fd, ns), .fd = fd, .len = ns)
WRAP(int, gm_sys_set_nonblock, (int fd), (fd), .fd = fd)
WRAP(int, gm_sys_set_direct, (int fd, bool on), (fd, on), .fd = fd, .flags = on)
WRAP(int, gm_sys_kvm_check, (int fd, unsigned int cap), (fd, cap), .fd = fd, .flags = cap)
WRAP(int, gm_sys_kvm_enable, (int vm, unsigned int cap, uint64_t arg), (vm, cap, arg), .fd = vm,
	.flags = cap, .len = arg)
WRAP(int, gm_sys_kvm_set_slot, (int vm, const struct kvm_userspace_memory_region2 *slot),
	(vm, slot), .fd = vm, .addr = slot->guest_phys_addr, .addr2 = slot->userspace_addr,
	.len = slot->memory_size, .off = slot->slot, .flags = slot->flags)
WRAP(int, gm_sys_kvm_get_log, (int vm, uint32_t slot, void *bits), (vm, slot, bits), .fd = vm,
	.off = slot)
WRAP(int, gm_sys_kvm_clear_log, (int vm, uint32_t slot, uint64_t first, uint32_t nr, void *bits),
	(vm, slot, first, nr, bits), .fd = vm, .off = slot, .addr = first, .len = nr)
WRAP(int, gm_sys_kvm_reset_rings, (int vm), (vm), .fd = vm)
WRAP(int, gm_sys_kvm_set_attributes, (int vm, uint64_t gpa, uint64_t len, uint64_t attributes),
	(vm, gpa, len, attributes), .fd = vm, .addr = gpa, .len = len, .flags = attributes)
WRAP(int, gm_sys_kvm_prefault, (int vcpu, uint64_t *gpa, uint64_t *len), (vcpu, gpa, len),
	.fd = vcpu, .addr = *gpa, .len = *len)
