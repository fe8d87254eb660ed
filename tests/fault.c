/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault.c - wrappers around the functions of sys.h that count, log and inject faults.
 *
 * The linker's --wrap sends undefined references to gm_sys_x to __wrap_gm_sys_x, and
 * __real_gm_sys_x to the true one. It acts between objects only, therefore nothing here calls a
 * wrapped name. One mutex guards all state: threads of a scenario meet here.
 */
#include "fault.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/rangeset.h"
#include "fault_ledger.h"
#include "fault_wrap.h"
#include "sys/raw.h"
#include "sys/sys.h"
#include "sys/uapi_kvm.h"

#define LOG_MAX 65536
#define IOV_MAX_SHORT 64
/* A loop that goes on in spite of a fault that never ends is a bug; better to say so than to hang.
 */
#define FAILURES_MAX 100000

static const struct {
	const char *name;
	unsigned int flags;
} functions[FAULT_NR] = {
#define GM_FAULT(name, flags) [FAULT_##name] = {#name, flags},
#include "fault_list.h"
#undef GM_FAULT
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault_plan plan;
static bool armed;

/* Inline calls would go by. */
static __attribute__((constructor)) void stand_between(void)
{
	gm_sys_direct = false;
}
static unsigned long calls[FAULT_NR];
static unsigned long calls_any;
static unsigned long hits;
static unsigned long failures;
static enum fault_fn hit_fn = FAULT_NR;
static unsigned int interrupted[FAULT_NR];
static bool logging;
static struct fault_event events[LOG_MAX];
static size_t nr_events;
static atomic_bool clock_virtual;
static atomic_size_t page_size;
static _Atomic uint64_t clock_skew;

const char *fault_name(enum fault_fn fn)
{
	return fn < FAULT_NR ? functions[fn].name : "any function";
}

unsigned int fault_flags(enum fault_fn fn)
{
	return fn < FAULT_NR ? functions[fn].flags : 0;
}

void fault_set(const struct fault_plan *new)
{
	pthread_mutex_lock(&lock);
	armed = new != NULL;
	plan = new ? *new : (struct fault_plan){0};
	memset(calls, 0, sizeof(calls));
	memset(interrupted, 0, sizeof(interrupted));
	calls_any = 0;
	hits = 0;
	failures = 0;
	hit_fn = FAULT_NR;
	pthread_mutex_unlock(&lock);
}

void fault_disarm(void)
{
	pthread_mutex_lock(&lock);
	armed = false;
	pthread_mutex_unlock(&lock);
}

unsigned long fault_calls(enum fault_fn fn)
{
	unsigned long nr;

	pthread_mutex_lock(&lock);
	nr = fn < FAULT_NR ? calls[fn] : calls_any;
	pthread_mutex_unlock(&lock);
	return nr;
}

unsigned long fault_hits(void)
{
	unsigned long nr;

	pthread_mutex_lock(&lock);
	nr = hits;
	pthread_mutex_unlock(&lock);
	return nr;
}

enum fault_fn fault_hit_fn(void)
{
	return hit_fn;
}

void fault_page_size(size_t bytes)
{
	atomic_store(&page_size, bytes);
}

void fault_clock_virtual(bool on)
{
	atomic_store(&clock_virtual, on);
}

void fault_clock_jump(uint64_t ns)
{
	atomic_fetch_add(&clock_skew, ns);
}

void fault_log_start(void)
{
	pthread_mutex_lock(&lock);
	nr_events = 0;
	logging = true;
	pthread_mutex_unlock(&lock);
}

void fault_log_stop(void)
{
	pthread_mutex_lock(&lock);
	logging = false;
	pthread_mutex_unlock(&lock);
}

const struct fault_event *fault_log(size_t *ret_nr)
{
	*ret_nr = nr_events;
	return events;
}

size_t fault_log_find(enum fault_fn fn, size_t from)
{
	for (size_t i = from; i < nr_events; i++) {
		if (events[i].fn == fn)
			return i;
	}
	return SIZE_MAX;
}

size_t fault_log_find_flags(enum fault_fn fn, uint64_t flags, size_t from)
{
	for (size_t i = from; i < nr_events; i++) {
		if (events[i].fn == fn && events[i].flags == flags)
			return i;
	}
	return SIZE_MAX;
}

void fault_log_print(void)
{
	for (size_t i = 0; i < nr_events; i++) {
		const struct fault_event *ev = &events[i];

		fprintf(stderr,
			"%5zu %-20s fd %d addr %#llx -> %#llx len %#llx off %#llx prot %#x flags "
			"%#llx = %ld%s\n",
			i, fault_name(ev->fn), ev->fd, (unsigned long long)ev->addr,
			(unsigned long long)ev->addr2, (unsigned long long)ev->len,
			(unsigned long long)ev->off, (unsigned int)ev->prot,
			(unsigned long long)ev->flags, ev->rc, ev->injected ? " (injected)" : "");
	}
}

/* ---- deciding ---- */

/* Is this call the planned one? Counts it. */
static bool planned(enum fault_fn fn)
{
	bool any = functions[fn].flags & FAULT_CAN_FAIL;
	unsigned long nr;

	calls[fn]++;
	if (any)
		calls_any++;
	if (!armed || plan.nth == 0)
		return false;
	if (plan.fn == FAULT_ANY ? !any : plan.fn != fn)
		return false;
	nr = plan.fn == FAULT_ANY ? calls_any : calls[fn];
	return plan.forever ? nr >= plan.nth : nr == plan.nth;
}

static void hit(struct fault_event *ev)
{
	ev->injected = true;
	if (hits++ == 0)
		hit_fn = ev->fn;
}

static void hit_failure(struct fault_event *ev)
{
	hit(ev);
	if (plan.error == FAULT_KILL)
		kill(getpid(), SIGKILL);
	if (++failures > FAILURES_MAX) {
		fprintf(stderr, "fault: %s was called %d times although it always fails\n",
			fault_name(ev->fn), FAILURES_MAX);
		abort();
	}
}

int fault_before(struct fault_event *ev, size_t *short_len)
{
	enum fault_fn fn = ev->fn;
	int rc = 0;

	pthread_mutex_lock(&lock);
	if (armed && (functions[fn].flags & FAULT_INTERRUPTED) && interrupted[fn] < plan.eintr) {
		interrupted[fn]++;
		hit(ev);
		rc = -EINTR;
	} else {
		interrupted[fn] = 0;
		if (planned(fn)) {
			if (plan.short_len == 0) {
				hit_failure(ev);
				rc = -plan.error;
			} else if (short_len && *short_len > plan.short_len) {
				hit(ev);
				*short_len = plan.short_len;
			}
		}
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

void fault_after(struct fault_event *ev, long rc)
{
	ev->rc = rc;
	pthread_mutex_lock(&lock);
	if (logging) {
		if (nr_events == LOG_MAX) {
			fprintf(stderr, "fault: more than %d events in the log\n", LOG_MAX);
			abort();
		}
		events[nr_events++] = *ev;
	}
	pthread_mutex_unlock(&lock);
}

/* ---- wrappers ---- */

size_t __real_gm_sys_page_size(void);
size_t __wrap_gm_sys_page_size(void);
size_t __wrap_gm_sys_page_size(void)
{
	struct fault_event ev = EVENT(gm_sys_page_size, .len = 0);
	size_t bytes = atomic_load(&page_size);

	fault_before(&ev, NULL);
	if (bytes == 0)
		bytes = __real_gm_sys_page_size();
	fault_after(&ev, (long)bytes);
	return bytes;
}

/* It has closed whatever it says, so a fault comes behind the work. */
int __real_gm_sys_close(int);
int __wrap_gm_sys_close(int);

int __wrap_gm_sys_close(int fd)
{
	struct fault_event ev = EVENT(gm_sys_close, .flags = 0);
	int fault = fault_before(&ev, NULL);
	int rc = __real_gm_sys_close(fd);

	ev.fd = fd;
	if (ev.injected)
		rc = fault;
	fault_after(&ev, rc);
	return rc;
}

/* ---- those that the ledger of mappings follows ---- */

int __real_gm_sys_mmap(void *, size_t, int, int, int, uint64_t, void **);
int __wrap_gm_sys_mmap(void *, size_t, int, int, int, uint64_t, void **);
int __real_gm_sys_munmap(void *, size_t);
int __wrap_gm_sys_munmap(void *, size_t);
int __real_gm_sys_mremap_to(void *, size_t, void *);
int __wrap_gm_sys_mremap_to(void *, size_t, void *);

int __wrap_gm_sys_mmap(
	void *addr, size_t len, int prot, int flags, int fd, uint64_t off, void **ret)
{
	struct fault_event ev = EVENT(gm_sys_mmap, ADDR(addr), .len = len, .off = off, .prot = prot,
		.flags = (uint64_t)flags);
	int rc = fault_before(&ev, NULL);

	ev.fd = fd;
	if (!ev.injected)
		rc = __real_gm_sys_mmap(addr, len, prot, flags, fd, off, ret);
	if (rc == 0) {
		ev.addr2 = (uint64_t)(uintptr_t)*ret;
		fault_ledger_map(ev.addr2, len);
	}
	fault_after(&ev, rc);
	return rc;
}

int __wrap_gm_sys_munmap(void *addr, size_t len)
{
	struct fault_event ev = EVENT(gm_sys_munmap, ADDR(addr), .len = len);
	int rc = fault_before(&ev, NULL);

	if (!ev.injected) {
		/* First the ledger: once it is unmapped another thread may get these addresses. */
		fault_ledger_unmap(ev.addr, len);
		rc = __real_gm_sys_munmap(addr, len);
		if (rc)
			fault_ledger_map(ev.addr, len);
	}
	fault_after(&ev, rc);
	return rc;
}

int __wrap_gm_sys_mremap_to(void *from, size_t len, void *to)
{
	struct fault_event ev = EVENT(gm_sys_mremap_to, ADDR(from), .len = len);
	int rc = fault_before(&ev, NULL);

	ev.addr2 = (uint64_t)(uintptr_t)to;
	if (!ev.injected)
		rc = __real_gm_sys_mremap_to(from, len, to);
	if (rc == 0) {
		fault_ledger_unmap(ev.addr, len);
		fault_ledger_map(ev.addr2, len);
	}
	fault_after(&ev, rc);
	return rc;
}

/* ---- those that can fall short ---- */

/* Plain bytes. */
#define WRAP_SHORT(name, params, args, ...)                                                        \
	ssize_t __real_##name params;                                                              \
	ssize_t __wrap_##name params;                                                              \
	ssize_t __wrap_##name params                                                               \
	{                                                                                          \
		struct fault_event ev = EVENT(name, ADDR(buf), .len = len, __VA_ARGS__);           \
		ssize_t rc = fault_before(&ev, &len);                                              \
                                                                                                   \
		ev.fd = fd;                                                                        \
		if (rc == 0)                                                                       \
			rc = __real_##name args;                                                   \
		fault_after(&ev, rc);                                                              \
		return rc;                                                                         \
	}

WRAP_SHORT(gm_sys_read, (int fd, void *buf, size_t len), (fd, buf, len), .off = 0)
WRAP_SHORT(gm_sys_write, (int fd, const void *buf, size_t len), (fd, buf, len), .off = 0)
WRAP_SHORT(gm_sys_pread, (int fd, void *buf, size_t len, uint64_t off), (fd, buf, len, off),
	.off = off)
WRAP_SHORT(gm_sys_pwrite, (int fd, const void *buf, size_t len, uint64_t off), (fd, buf, len, off),
	.off = off)
WRAP_SHORT(gm_sys_send, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags),
	.flags = (uint64_t)flags)
WRAP_SHORT(gm_sys_recv, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags),
	.flags = (uint64_t)flags)

static size_t iov_len(const struct iovec *iov, size_t nr)
{
	size_t len = 0;

	for (size_t i = 0; i < nr; i++)
		len += iov[i].iov_len;
	return len;
}

/* A copy of a vector that holds @len bytes. Returns its slices. */
static size_t iov_cut(struct iovec *to, const struct iovec *from, size_t nr_from, size_t len)
{
	size_t nr = 0;

	while (nr < nr_from && nr < IOV_MAX_SHORT && len > 0) {
		to[nr] = from[nr];
		if (to[nr].iov_len > len)
			to[nr].iov_len = len;
		len -= to[nr++].iov_len;
	}
	return nr;
}

/* The same for vectors. */
#define WRAP_VECTOR(name, params, args, ...)                                                       \
	ssize_t __real_##name params;                                                              \
	ssize_t __wrap_##name params;                                                              \
	ssize_t __wrap_##name params                                                               \
	{                                                                                          \
		struct fault_event ev = EVENT(name, ADDR(iov), __VA_ARGS__);                       \
		struct iovec shorter[IOV_MAX_SHORT];                                               \
		size_t len = iov_len(iov, nr);                                                     \
		ssize_t rc;                                                                        \
                                                                                                   \
		ev.fd = fd;                                                                        \
		ev.len = len;                                                                      \
		rc = fault_before(&ev, &len);                                                      \
		if (rc == 0 && ev.injected) {                                                      \
			nr = iov_cut(shorter, iov, nr, len);                                       \
			iov = shorter;                                                             \
		}                                                                                  \
		if (rc == 0)                                                                       \
			rc = __real_##name args;                                                   \
		fault_after(&ev, rc);                                                              \
		return rc;                                                                         \
	}

WRAP_VECTOR(gm_sys_readv, (int fd, const struct iovec *iov, size_t nr), (fd, iov, nr), .off = 0)
WRAP_VECTOR(gm_sys_writev, (int fd, const struct iovec *iov, size_t nr), (fd, iov, nr), .off = 0)
WRAP_VECTOR(gm_sys_preadv, (int fd, const struct iovec *iov, size_t nr, uint64_t off),
	(fd, iov, nr, off), .off = off)
WRAP_VECTOR(gm_sys_pwritev, (int fd, const struct iovec *iov, size_t nr, uint64_t off),
	(fd, iov, nr, off), .off = off)

ssize_t __real_gm_sys_sendmsg(int, const struct msghdr *, int);
ssize_t __wrap_gm_sys_sendmsg(int, const struct msghdr *, int);
ssize_t __real_gm_sys_recvmsg(int, struct msghdr *, int);
ssize_t __wrap_gm_sys_recvmsg(int, struct msghdr *, int);

ssize_t __wrap_gm_sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct fault_event ev = EVENT(gm_sys_sendmsg, .flags = (uint64_t)flags);
	struct iovec iov[IOV_MAX_SHORT];
	struct msghdr copy = *msg;
	size_t len = iov_len(msg->msg_iov, msg->msg_iovlen);
	ssize_t rc;

	ev.fd = fd;
	ev.len = len;
	rc = fault_before(&ev, &len);
	if (rc == 0) {
		if (ev.injected) {
			copy.msg_iovlen = iov_cut(iov, msg->msg_iov, msg->msg_iovlen, len);
			copy.msg_iov = iov;
		}
		rc = __real_gm_sys_sendmsg(fd, &copy, flags);
	}
	fault_after(&ev, rc);
	return rc;
}

ssize_t __wrap_gm_sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct fault_event ev = EVENT(gm_sys_recvmsg, .flags = (uint64_t)flags);
	struct iovec iov[IOV_MAX_SHORT];
	struct msghdr copy = *msg;
	size_t len = iov_len(msg->msg_iov, msg->msg_iovlen);
	ssize_t rc;

	ev.fd = fd;
	ev.len = len;
	rc = fault_before(&ev, &len);
	if (rc == 0) {
		if (ev.injected) {
			copy.msg_iovlen = iov_cut(iov, msg->msg_iov, msg->msg_iovlen, len);
			copy.msg_iov = iov;
		}
		rc = __real_gm_sys_recvmsg(fd, &copy, flags);
		msg->msg_namelen = copy.msg_namelen;
		msg->msg_controllen = copy.msg_controllen;
		msg->msg_flags = copy.msg_flags;
	}
	fault_after(&ev, rc);
	return rc;
}

/* An error leaves in the kernel's field what the plan says. What falls short is counted, with -EAGAIN. */
int __real_gm_sys_uffd_fill(int, enum gm_uffd_fill, uint64_t, uint64_t, uint64_t, int64_t *);
int __wrap_gm_sys_uffd_fill(int, enum gm_uffd_fill, uint64_t, uint64_t, uint64_t, int64_t *);

int __wrap_gm_sys_uffd_fill(
	int fd, enum gm_uffd_fill how, uint64_t at, uint64_t from, uint64_t len, int64_t *ret_done)
{
	struct fault_event ev = EVENT(
		gm_sys_uffd_fill, .fd = fd, .addr = at, .addr2 = from, .len = len, .flags = how);
	size_t asked = len;
	int rc = fault_before(&ev, &asked);

	*ret_done = rc ? plan.field : 0;
	if (!rc)
		rc = __real_gm_sys_uffd_fill(fd, how, at, from, asked, ret_done);
	rc = ev.injected && !rc ? -EAGAIN : rc;
	fault_after(&ev, rc);
	return rc;
}

/* ---- clock ---- */

uint64_t __real_gm_sys_now_ns(void);
uint64_t __wrap_gm_sys_now_ns(void);
void __real_gm_sys_sleep_ns(uint64_t);
void __wrap_gm_sys_sleep_ns(uint64_t);

uint64_t __wrap_gm_sys_now_ns(void)
{
	struct fault_event ev = EVENT(gm_sys_now_ns, .addr = 0);

	(void)fault_before(&ev, NULL);
	return __real_gm_sys_now_ns() + atomic_load(&clock_skew);
}

void __wrap_gm_sys_sleep_ns(uint64_t ns)
{
	struct fault_event ev = EVENT(gm_sys_sleep_ns, .len = ns);

	(void)fault_before(&ev, NULL);
	if (atomic_load(&clock_virtual))
		atomic_fetch_add(&clock_skew, ns);
	else
		__real_gm_sys_sleep_ns(ns);
	fault_after(&ev, 0);
}

/* ---- heap ---- */

/* The same for each way to allocate; @ptr_old is what realloc was given. */
#define WRAP_ALLOC(name, params, args, ptr_old, ...)                                               \
	void *__real_##name params;                                                                \
	void *__wrap_##name params;                                                                \
	void *__wrap_##name params                                                                 \
	{                                                                                          \
		struct fault_event ev = EVENT(name, __VA_ARGS__);                                  \
		size_t was = malloc_usable_size(ptr_old);                                          \
		bool fresh = (ptr_old) == NULL;                                                    \
		void *new = NULL;                                                                  \
                                                                                                   \
		(void)fault_before(&ev, NULL);                                                     \
		if (!ev.injected)                                                                  \
			new = __real_##name args;                                                  \
		if (new)                                                                           \
			fault_ledger_blocks(fresh, (long)(malloc_usable_size(new) - was));         \
		fault_after(&ev, new ? 0 : -ENOMEM);                                               \
		return new;                                                                        \
	}

WRAP_ALLOC(gm_sys_alloc, (size_t len), (len), NULL, .len = len)
WRAP_ALLOC(gm_sys_alloc_array, (size_t nr, size_t len), (nr, len), NULL, .len = len, .off = nr)
WRAP_ALLOC(gm_sys_realloc, (void *ptr, size_t nr, size_t len), (ptr, nr, len), ptr, .len = len,
	.off = nr)
WRAP_ALLOC(gm_sys_alloc_aligned, (size_t align, size_t len), (align, len), NULL, .len = len,
	.off = align)

void __real_gm_sys_free(void *);
void __wrap_gm_sys_free(void *);

void __wrap_gm_sys_free(void *ptr)
{
	struct fault_event ev = EVENT(gm_sys_free, ADDR(ptr));

	(void)fault_before(&ev, NULL);
	if (ptr)
		fault_ledger_blocks(-1, -(long)malloc_usable_size(ptr));
	__real_gm_sys_free(ptr);
	fault_after(&ev, 0);
}
