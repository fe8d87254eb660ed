/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_rings.c - one perf event and one ring buffer for each CPU.
 *
 * An event that children inherit can only have a ring if it is bound to a CPU. The event counts
 * page faults, with a record of each; records of mappings (of data too), forks and execs come
 * along.
 */
#include "exec_rings.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

#define RINGS_TOTAL ((size_t)64 << 20)
#define RING_MAX ((size_t)8 << 20)
#define RING_MIN ((size_t)32 << 10)

struct exec_ring {
	int fd;
	struct perf_event_mmap_page *page; /* NULL: none */
	size_t len;                        /* of the data behind it */
};

/* What sample_id_all puts at the end of each record that is no sample. */
struct sample_id {
	uint32_t pid;
	uint32_t tid;
	uint64_t time;
};

struct record {
	struct perf_event_header header;
	union {
		struct {
			uint32_t pid;
			uint32_t tid;
			uint64_t time;
			uint64_t addr;
		} fault;
		struct {
			uint32_t pid;
			uint32_t tid;
			uint64_t addr;
			uint64_t len;
			uint64_t pgoff;
			uint32_t major;
			uint32_t minor;
			uint64_t inode;
		} map;
		struct {
			uint32_t pid;
			uint32_t parent;
		} fork;
		struct {
			uint32_t pid;
		} comm;
		char bytes[8192];
	};
};

/* False for a record of no interest. */
static bool event_of(const struct record *r, struct exec_event *e)
{
	struct sample_id id;

	memcpy(&id, (const char *)r + r->header.size - sizeof(id), sizeof(id));
	*e = (struct exec_event){.time = id.time};
	switch (r->header.type) {
	case PERF_RECORD_SAMPLE:
		e->kind = EXEC_EVENT_FAULT;
		e->pid = r->fault.pid;
		e->time = r->fault.time;
		e->addr = r->fault.addr;
		return true;
	case PERF_RECORD_MMAP2:
		e->kind = EXEC_EVENT_MAP;
		e->pid = r->map.pid;
		e->addr = r->map.addr;
		e->len = r->map.len;
		e->inode = r->map.inode;
		e->dev_major = r->map.major;
		e->dev_minor = r->map.minor;
		return true;
	case PERF_RECORD_FORK:
		e->kind = EXEC_EVENT_FORK;
		e->pid = r->fork.pid;
		e->parent = r->fork.parent;
		return e->pid != e->parent; /* else it is a thread */
	case PERF_RECORD_COMM:
		e->kind = EXEC_EVENT_EXEC;
		e->pid = r->comm.pid;
		return r->header.misc & PERF_RECORD_MISC_COMM_EXEC;
	default:
		return false;
	}
}

static void drain_ring(
	struct exec_ring *ring, void (*fn)(void *arg, const struct exec_event *event), void *arg)
{
	const char *data = (const char *)ring->page + sysconf(_SC_PAGESIZE);
	/* Pairs with the kernel's store of data_head behind the records. */
	uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
	uint64_t tail = ring->page->data_tail;

	while (tail < head) {
		struct exec_event e;
		struct record r;
		size_t at = (size_t)(tail % ring->len);
		size_t first;

		/* A header never wraps: records are multiples of 8 bytes, as is the ring. */
		memcpy(&r.header, data + at, sizeof(r.header));
		if (r.header.size < sizeof(r.header) + sizeof(struct sample_id) ||
			r.header.size > sizeof(r))
			break;
		first = ring->len - at < r.header.size ? ring->len - at : r.header.size;
		memcpy(&r, data + at, first);
		memcpy((char *)&r + first, data, r.header.size - first);
		if (event_of(&r, &e))
			fn(arg, &e);
		tail += r.header.size;
	}
	/* Pairs with the kernel's load of data_tail: what we have read may be overwritten. */
	__atomic_store_n(&ring->page->data_tail, tail, __ATOMIC_RELEASE);
}

void exec_rings_drain(
	struct exec_rings *rings, void (*fn)(void *arg, const struct exec_event *event), void *arg)
{
	for (size_t i = 0; i < rings->nr; i++) {
		if (rings->rings[i].page)
			drain_ring(&rings->rings[i], fn, arg);
	}
}

static int open_event(pid_t pid, int cpu, bool user_only)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_PAGE_FAULTS,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR,
		.disabled = 1,
		.enable_on_exec = 1,
		.inherit = 1,
		.exclude_kernel = user_only,
		.exclude_hv = 1,
		.mmap = 1,
		.mmap_data = 1,
		.mmap2 = 1,
		.comm = 1,
		.comm_exec = 1,
		.task = 1,
		.sample_id_all = 1,
		.use_clockid = 1,
		.clockid = CLOCK_MONOTONIC,
	};

	return (int)syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static bool map_ring(struct exec_ring *ring, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	/* What a process may lock for this is limited (kernel.perf_event_mlock_kb). */
	for (; len >= RING_MIN; len /= 2) {
		void *ptr = mmap(NULL, len + page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);

		if (ptr != MAP_FAILED) {
			ring->page = ptr;
			ring->len = len;
			return true;
		}
	}
	return false;
}

static bool open_ring(struct exec_rings *rings, pid_t pid, int cpu, size_t len)
{
	struct exec_ring *ring = &rings->rings[rings->nr];
	bool refused;

	ring->fd = open_event(pid, cpu, rings->user_only);
	refused = ring->fd < 0 && (errno == EACCES || errno == EPERM);
	if (refused && rings->nr == 0 && !rings->user_only) {
		/* kernel.perf_event_paranoid may allow the half of it. */
		rings->user_only = true;
		ring->fd = open_event(pid, cpu, true);
		refused = ring->fd < 0 && (errno == EACCES || errno == EPERM);
	}
	if (ring->fd < 0) {
		if (errno == ENODEV)
			return true; /* the CPU is offline */
		snprintf(rings->reason, sizeof(rings->reason), "perf_event_open: %s%s",
			strerror(errno), refused ? " (see sysctl kernel.perf_event_paranoid)" : "");
		return false;
	}
	rings->nr++;
	if (map_ring(ring, len))
		return true;
	snprintf(rings->reason, sizeof(rings->reason), "no ring buffer for faults: %s%s",
		strerror(errno), errno == EPERM ? " (see sysctl kernel.perf_event_mlock_kb)" : "");
	return false;
}

bool exec_rings_open(struct exec_rings *rings, pid_t pid)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	size_t len = RING_MAX;

	*rings = (struct exec_rings){0};
	if (cpus < 1)
		cpus = 1;
	while (len > RING_MIN && len * (size_t)cpus > RINGS_TOTAL)
		len /= 2;
	rings->rings = tool_alloc((size_t)cpus, sizeof(*rings->rings));
	for (int cpu = 0; cpu < cpus; cpu++) {
		if (!open_ring(rings, pid, cpu, len))
			return false;
	}
	return true;
}

void exec_rings_stop(struct exec_rings *rings)
{
	for (size_t i = 0; i < rings->nr; i++)
		ioctl(rings->rings[i].fd, PERF_EVENT_IOC_DISABLE, 0);
}

uint64_t exec_rings_count(const struct exec_rings *rings)
{
	uint64_t total = 0;

	for (size_t i = 0; i < rings->nr; i++) {
		uint64_t count = 0;

		if (read(rings->rings[i].fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
			total += count;
	}
	return total;
}

void exec_rings_close(struct exec_rings *rings)
{
	for (size_t i = 0; i < rings->nr; i++) {
		struct exec_ring *ring = &rings->rings[i];

		if (ring->page)
			munmap(ring->page, ring->len + (size_t)sysconf(_SC_PAGESIZE));
		close(ring->fd);
	}
	free(rings->rings);
	rings->rings = NULL;
	rings->nr = 0;
}
