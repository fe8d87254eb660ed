/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sys.h - the only door to the kernel, the clock, threads and the heap.
 *
 * Every wrapper returns 0 or a count, or a negative errno value; outputs are written on success
 * only. Nothing outside src/sys reads errno. The tests wrap each name at link time to inject faults
 * (tests/fault.c lists them), therefore no wrapper calls another one that is listed.
 * EINTR is returned as it is; callers that wait use the gm_sys_*_full forms or repeat.
 */
#ifndef GM_SYS_H
#define GM_SYS_H

#include <signal.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "sys/uffd.h"

/* ---- mem.c: address space ---- */
int gm_sys_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t off, void **ret);
int gm_sys_munmap(void *addr, size_t len);
/* Moves [from, from+len) to @to, which is replaced. */
int gm_sys_mremap_to(void *from, size_t len, void *to);
int gm_sys_mprotect(void *addr, size_t len, int prot);
int gm_sys_madvise(void *addr, size_t len, int advice);
/* The same for several stretches of a process (of this one from Linux 6.13 on, if it discards): bytes done. */
ssize_t gm_sys_madvise_many(int pidfd, const struct iovec *iov, size_t nr, int advice);
int gm_sys_mlock(void *addr, size_t len, bool onfault);
int gm_sys_munlock(void *addr, size_t len);
/* @nodes: bit mask of @nr_words words; the kernel's off-by-one in maxnode is hidden here. */
int gm_sys_mbind(void *addr, size_t len, int mode, const uint64_t *nodes, unsigned int nr_words);
int gm_sys_home_node(void *addr, size_t len, unsigned int node);
int gm_sys_name_vma(void *addr, size_t len, const char *name);
int gm_sys_membarrier(int cmd);
size_t gm_sys_page_size(void);

/* ---- file.c ---- */
int gm_sys_memfd(const char *name, unsigned int flags);
int gm_sys_open(const char *path, int flags, unsigned int mode);
int gm_sys_openat(int dir, const char *path, int flags);
int gm_sys_close(int fd);
int gm_sys_dup(int fd); /* close-on-exec */
int gm_sys_fstat(int fd, struct stat *ret);
int gm_sys_fchmod(int fd, unsigned int mode);
int gm_sys_open_flags(int fd); /* fcntl(F_GETFL) */
/* Both: -EFBIG where a file would grow past RLIMIT_FSIZE, and no SIGXFSZ. */
int gm_sys_ftruncate(int fd, uint64_t len);
int gm_sys_fallocate(int fd, int mode, uint64_t off, uint64_t len);
int gm_sys_add_seals(int fd, int seals);
int gm_sys_get_seals(int fd);
ssize_t gm_sys_read(int fd, void *buf, size_t len);
ssize_t gm_sys_pread(int fd, void *buf, size_t len, uint64_t off);
ssize_t gm_sys_pwrite(int fd, const void *buf, size_t len, uint64_t off);
ssize_t gm_sys_write(int fd, const void *buf, size_t len);
ssize_t gm_sys_readv(int fd, const struct iovec *iov, size_t nr);
ssize_t gm_sys_writev(int fd, const struct iovec *iov, size_t nr);
ssize_t gm_sys_preadv(int fd, const struct iovec *iov, size_t nr, uint64_t off);
ssize_t gm_sys_pwritev(int fd, const struct iovec *iov, size_t nr, uint64_t off);
int gm_sys_sync(int fd, bool data_only);
/* Begins to write a part of a file to its disk, and does not wait. */
int gm_sys_write_behind(int fd, uint64_t off, uint64_t len);
/* Begins to read a part of a file from its disk, and does not wait for it. */
int gm_sys_will_need(int fd, uint64_t off, uint64_t len);
/* lseek(), which moves the position of all duplicates: where, or -ENXIO behind the last data (SEEK_DATA) or the end. */
int64_t gm_sys_seek(int fd, uint64_t off, int whence);
/* Waits until it is readable, or has an error or a hang-up: 1; 0 after @timeout_ms, -1: never. */
int gm_sys_poll_in(int fd, int timeout_ms);
int gm_sys_poll_out(int fd, int timeout_ms); /* the same for writing */
int gm_sys_poll_gone(int fd);                /* 1: nobody has the other end of a socket any more */
/* What O_DIRECT wants of addresses and of positions; 0 if it is refused; -ENOTSUP if nobody knows. */
int gm_sys_direct_align(int fd, uint32_t *ret_mem, uint32_t *ret_off);
int gm_sys_set_direct(int fd, bool on); /* O_DIRECT */
int gm_sys_unlink(const char *path);
/* Names in the directory @dir. A new file for reading and writing, -EEXIST if there is any; links are not followed. */
int gm_sys_create_at(int dir, const char *name, unsigned int mode);
int gm_sys_stat_at(int dir, const char *name, struct stat *ret);
int gm_sys_rename_at(int dir, const char *from, const char *to);
int gm_sys_unlink_at(int dir, const char *name);
int gm_sys_stat(const char *path, struct stat *ret); /* follows links */
/* Until it is closed: -EWOULDBLOCK if another open file has it. */
int gm_sys_lock(int fd);
/* Page size of the hugetlbfs file behind @fd, 0 if it is none. */
int64_t gm_sys_huge_page_size(int fd);
/* Whole small text file (sysfs, procfs) into @buf, always terminated; the length or -errno. */
ssize_t gm_sys_read_text(const char *path, char *buf, size_t cap);
ssize_t gm_sys_readlink(const char *path, char *buf, size_t cap); /* terminated */
int gm_sys_ioctl(int fd, unsigned long request, void *arg);

/*
 * A tmpfs that is mounted nowhere and holds at most @limit bytes, whose files get huge pages where they are advised:
 * an fd of it. The next makes a file without a name in it, which keeps it alive; the last changes the size, -EBUSY
 * if more is in use.
 */
int gm_sys_tmpfs(uint64_t limit);
int gm_sys_tmpfs_file(int tmpfs);
int gm_sys_tmpfs_resize(int tmpfs, uint64_t limit);
int gm_sys_uring_register(int ring_fd, unsigned int op, const void *arg, unsigned int nr);

/* ---- socket.c ---- */
ssize_t gm_sys_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t gm_sys_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t gm_sys_send(int fd, const void *buf, size_t len, int flags);
ssize_t gm_sys_recv(int fd, void *buf, size_t len, int flags);
int gm_sys_socket_kind(int fd, int *ret_domain, int *ret_type); /* AF_*, SOCK_* */
int gm_sys_socket_listens(int fd);                              /* 1, 0, or negative */
/* MSG_PEEK begins with the first byte that was not received, and goes on behind what was seen. */
int gm_sys_peek_from_start(int fd);
int gm_sys_peer_uid(int fd, uid_t *ret);   /* who connected a Unix socket, as of then */
int gm_sys_unix_connect(const char *path); /* a stream socket; -ENAMETOOLONG */
int gm_sys_socketpair(int ret_fds[2]);     /* stream sockets */
int gm_sys_send_at_once(int fd);           /* TCP_NODELAY */
int gm_sys_send_room(
	int fd, int bytes); /* SO_SNDBUF, as far as the host allows; never less than it was */
int gm_sys_accept(int fd);  /* a connection that does not block */

/* ---- proc.c: clock, threads, signals, limits ---- */
uint64_t gm_sys_now_ns(void); /* monotonic */
void gm_sys_sleep_ns(uint64_t ns);
int gm_sys_cpu_count(void); /* CPUs this process may run on, at least 1 */
int gm_sys_thread_create(pthread_t *ret, void *(*run)(void *), void *arg);
int gm_sys_thread_join(pthread_t thread);
/* Lets the calling thread run on @cpus only. */
int gm_sys_set_affinity(const void *cpus, size_t len);
int gm_sys_sigaction(int sig, const struct sigaction *act, struct sigaction *ret_old);
int gm_sys_getrlimit(int resource, struct rlimit *ret);
int gm_sys_kernel_release(char *buf, size_t cap); /* terminated */
/* Capability @cap is in the effective set of this thread: 1, 0. */
int gm_sys_has_cap(unsigned int cap);
int gm_sys_userfaultfd(int flags);
/* Bytes of another process, or of this one (0), up to a page that cannot be read; -EFAULT if that is the first. */
ssize_t gm_sys_process_read(pid_t pid, uint64_t addr, void *to, size_t len);

/* ---- poll.c ---- */
struct epoll_event;
int gm_sys_epoll_create(void);
int gm_sys_epoll_add(int epoll, int fd, void *data); /* to be read from */
/* For EPOLL* bits, whether it is there already or not. */
int gm_sys_epoll_set(int epoll, int fd, uint32_t events, void *data);
int gm_sys_epoll_remove(int epoll, int fd);
int gm_sys_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout_ms);
int gm_sys_eventfd(void);                  /* does not block */
int gm_sys_timerfd(void);                  /* monotonic, does not block */
int gm_sys_timer_set(int fd, uint64_t ns); /* from now; 0 = never */
int gm_sys_set_nonblock(int fd);

/* ---- signals.c: adding to eventfds without waiting, whatever who has them too makes of them ---- */
struct gm_sys_signals {
	unsigned long context;
	int empty; /* a file */
};
int gm_sys_signals_open(struct gm_sys_signals *ret);
int gm_sys_signals_close(struct gm_sys_signals *signals);
int gm_sys_signals_add(const struct gm_sys_signals *signals, int eventfd); /* 1, by any thread */

/* ---- uffd.c ---- */
/*
 * Fills [@at, @at + @len) of the process of a userfaultfd, and wakes who waits there. *ret_done is always written: what
 * the kernel left in its field, which is the bytes done, a negative errno value, or 0 where it was not touched.
 */
int gm_sys_uffd_fill(
	int fd, enum gm_uffd_fill how, uint64_t at, uint64_t from, uint64_t len, int64_t *ret_done);

/* ---- kvm.c: @vm, @vcpu are fds ---- */
struct kvm_userspace_memory_region2;
int gm_sys_kvm_check(int fd, unsigned int cap);
int gm_sys_kvm_enable(int vm, unsigned int cap, uint64_t arg);
/* Makes, moves, changes or deletes a slot; by the older call if it has no guest_memfd. */
int gm_sys_kvm_set_slot(int vm, const struct kvm_userspace_memory_region2 *slot);
int gm_sys_kvm_get_log(int vm, uint32_t slot, void *bits);
int gm_sys_kvm_clear_log(int vm, uint32_t slot, uint64_t first, uint32_t nr, void *bits);
int gm_sys_kvm_reset_rings(int vm); /* number of entries that were reset */
int gm_sys_kvm_set_attributes(int vm, uint64_t gpa, uint64_t len, uint64_t attributes);
/* Both are what is left, on failure too. */
int gm_sys_kvm_prefault(int vcpu, uint64_t *gpa, uint64_t *len);

/* ---- alloc.c ---- */
void *gm_sys_alloc(size_t len);                         /* zeroed, or NULL */
void *gm_sys_alloc_array(size_t nr, size_t len);        /* zeroed, overflow checked */
void *gm_sys_realloc(void *ptr, size_t nr, size_t len); /* overflow checked */
void *gm_sys_alloc_aligned(size_t align, size_t len);   /* zeroed; len is rounded up to align */
void gm_sys_free(void *ptr);

#endif
