/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_faults.c - page faults on guest memory alone.
 *
 * The software event PAGE_FAULTS needs no performance counter in hardware. Each fault of the
 * command and its descendants gives a record with its address; records of their mappings (MMAP2,
 * with device and inode), forks and execs come through the same rings, so that each address is
 * judged by the mappings of its moment. Records of several CPUs are put in order by their time. The
 * kernel counts every fault, also where a full ring loses its record; the difference is what was
 * lost.
 *
 * Faults that KVM resolves for a guest are no such events: it fetches the pages by itself.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "exec.h"
#include "tool.h"

#define RINGS_TOTAL (UINT64_C(64) << 20)
#define RING_MAX (UINT64_C(8) << 20)
#define RING_MIN (UINT64_C(32) << 10)
#define DRAIN_NS 2000000 /* between two looks at the rings */

enum event_kind { EVENT_FAULT, EVENT_MAP, EVENT_FORK, EVENT_EXEC };

struct event {
	uint64_t time;
	uint64_t addr; /* fault: address; map: start */
	uint64_t end;  /* map: end; it is of guest memory if @ours */
	uint32_t kind;
	uint32_t pid;
	uint32_t parent; /* fork */
	bool ours;
};

/* Addresses of guest memory in a process. */
struct place {
	uint32_t pid;
	uint64_t start;
	uint64_t end;
};

struct ring {
	int fd;
	struct perf_event_mmap_page *page; /* NULL: none */
	size_t len;                        /* of the data behind it */
};

struct exec_faults {
	char reason[160];
	bool user_only;
	bool started;
	uint64_t dev_major;
	uint64_t dev_minor;
	uint64_t inode;
	struct ring *rings;
	size_t nr_rings;
	pthread_t thread;
	atomic_bool stop; /* set by exec_faults_finish(), read by the thread */
	struct event *events;
	size_t nr_events;
	size_t cap_events;
	struct place *places;
	size_t nr_places;
	size_t cap_places;
	uint64_t guest;
	uint64_t seen; /* fault records */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* ---- reading the rings (in the thread) ---- */

static void push_event(struct exec_faults *f, const struct event *e)
{
	if (f->nr_events == f->cap_events) {
		f->cap_events = f->cap_events ? f->cap_events * 2 : 4096;
		f->events = tool_realloc(f->events, f->cap_events, sizeof(*f->events));
	}
	f->events[f->nr_events++] = *e;
}

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

static void take_record(struct exec_faults *f, const struct record *r)
{
	struct event e = {0};
	struct sample_id id;

	memcpy(&id, (const char *)r + r->header.size - sizeof(id), sizeof(id));
	e.time = id.time;
	if (r->header.type == PERF_RECORD_SAMPLE) {
		e.kind = EVENT_FAULT;
		e.pid = r->fault.pid;
		e.time = r->fault.time;
		e.addr = r->fault.addr;
		f->seen++;
	} else if (r->header.type == PERF_RECORD_MMAP2) {
		e.kind = EVENT_MAP;
		e.pid = r->map.pid;
		e.addr = r->map.addr;
		e.end = r->map.addr + r->map.len;
		e.ours = !(r->header.misc & PERF_RECORD_MISC_MMAP_BUILD_ID) &&
			 r->map.inode == f->inode && r->map.major == f->dev_major &&
			 r->map.minor == f->dev_minor;
	} else if (r->header.type == PERF_RECORD_FORK) {
		e.kind = EVENT_FORK;
		e.pid = r->fork.pid;
		e.parent = r->fork.parent;
		if (e.pid == e.parent)
			return; /* a thread */
	} else if (r->header.type == PERF_RECORD_COMM &&
		   r->header.misc & PERF_RECORD_MISC_COMM_EXEC) {
		e.kind = EVENT_EXEC;
		e.pid = r->comm.pid;
	} else {
		return;
	}
	push_event(f, &e);
}

static void drain_ring(struct exec_faults *f, struct ring *ring)
{
	const char *data = (const char *)ring->page + sysconf(_SC_PAGESIZE);
	/* Pairs with the kernel's store of data_head behind the records. */
	uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE);
	uint64_t tail = ring->page->data_tail;

	while (tail < head) {
		struct record r;
		size_t at = (size_t)(tail % ring->len);
		size_t first;

		/* A header never wraps: records are multiples of 8 bytes, as is the ring. */
		memcpy(&r.header, data + at, sizeof(r.header));
		if (r.header.size < sizeof(r.header) || r.header.size > sizeof(r))
			break;
		first = ring->len - at < r.header.size ? ring->len - at : r.header.size;
		memcpy(&r, data + at, first);
		memcpy((char *)&r + first, data, r.header.size - first);
		if (r.header.size >= sizeof(r.header) + sizeof(struct sample_id))
			take_record(f, &r);
		tail += r.header.size;
	}
	/* Pairs with the kernel's load of data_tail: what we have read may be overwritten. */
	__atomic_store_n(&ring->page->data_tail, tail, __ATOMIC_RELEASE);
}

/* ---- judging events in the order of time ---- */

static void add_place(struct exec_faults *f, uint32_t pid, uint64_t start, uint64_t end)
{
	if (f->nr_places == f->cap_places) {
		f->cap_places = f->cap_places ? f->cap_places * 2 : 64;
		f->places = tool_realloc(f->places, f->cap_places, sizeof(*f->places));
	}
	f->places[f->nr_places++] = (struct place){pid, start, end};
}

/* A new mapping takes the place of what lay there. */
static void cut_places(struct exec_faults *f, uint32_t pid, uint64_t start, uint64_t end)
{
	size_t nr = f->nr_places;

	for (size_t i = 0; i < nr; i++) {
		struct place p = f->places[i];

		if (p.pid != pid || p.end <= start || p.start >= end)
			continue;
		f->places[i].end = p.start < start ? start : p.start;
		if (p.end > end)
			add_place(f, pid, end, p.end);
	}
	for (size_t i = 0; i < f->nr_places;) {
		if (f->places[i].start < f->places[i].end)
			i++;
		else
			f->places[i] = f->places[--f->nr_places];
	}
}

static void judge_event(struct exec_faults *f, const struct event *e)
{
	size_t nr = f->nr_places;

	if (e->kind == EVENT_MAP) {
		cut_places(f, e->pid, e->addr, e->end);
		if (e->ours)
			add_place(f, e->pid, e->addr, e->end);
		return;
	}
	if (e->kind == EVENT_EXEC) {
		cut_places(f, e->pid, 0, UINT64_MAX);
		return;
	}
	for (size_t i = 0; i < nr; i++) {
		struct place p = f->places[i];

		if (e->kind == EVENT_FORK && p.pid == e->parent)
			add_place(f, e->pid, p.start, p.end);
		if (e->kind == EVENT_FAULT && p.pid == e->pid && e->addr >= p.start &&
			e->addr < p.end) {
			f->guest++;
			return;
		}
	}
}

static int by_time(const void *a, const void *b)
{
	const struct event *x = a;
	const struct event *y = b;

	return (x->time > y->time) - (x->time < y->time);
}

/* Judges what happened before @until; later records of other CPUs may still be on their way. */
static void judge(struct exec_faults *f, uint64_t until)
{
	size_t done = 0;

	qsort(f->events, f->nr_events, sizeof(*f->events), by_time);
	while (done < f->nr_events && f->events[done].time < until)
		judge_event(f, &f->events[done++]);
	memmove(f->events, f->events + done, (f->nr_events - done) * sizeof(*f->events));
	f->nr_events -= done;
}

static void *drain_thread(void *arg)
{
	struct exec_faults *f = arg;
	struct timespec pause = {.tv_nsec = DRAIN_NS};
	uint64_t last = now_ns();
	bool stop;

	do {
		uint64_t begun = now_ns();

		/* Looked at first, so that the last round reads everything. Pairs with
		 * exec_faults_finish(). */
		stop = atomic_load_explicit(&f->stop, memory_order_acquire);
		for (size_t i = 0; i < f->nr_rings; i++) {
			if (f->rings[i].page)
				drain_ring(f, &f->rings[i]);
		}
		judge(f, stop ? UINT64_MAX : last);
		last = begun;
		if (!stop)
			nanosleep(&pause, NULL);
	} while (!stop);
	return NULL;
}

/* ---- setting up ---- */

static int open_event(struct exec_faults *f, pid_t pid, int cpu)
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
		.exclude_kernel = f->user_only,
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

static bool map_ring(struct ring *ring, size_t len)
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

static bool open_ring(struct exec_faults *f, pid_t pid, int cpu, size_t len)
{
	struct ring *ring = &f->rings[f->nr_rings];

	ring->fd = open_event(f, pid, cpu);
	if (ring->fd < 0 && (errno == EACCES || errno == EPERM) && !f->user_only &&
		f->nr_rings == 0) {
		/* kernel.perf_event_paranoid: then faults in system calls are not seen. */
		f->user_only = true;
		ring->fd = open_event(f, pid, cpu);
	}
	if (ring->fd < 0) {
		if (errno == ENODEV)
			return true; /* the CPU is offline */
		snprintf(f->reason, sizeof(f->reason), "perf_event_open: %s%s", strerror(errno),
			errno == EACCES || errno == EPERM
				? " (see sysctl kernel.perf_event_paranoid)"
				: "");
		return false;
	}
	f->nr_rings++;
	if (map_ring(ring, len))
		return true;
	snprintf(f->reason, sizeof(f->reason), "no ring buffer for faults: %s%s", strerror(errno),
		errno == EPERM ? " (see sysctl kernel.perf_event_mlock_kb)" : "");
	return false;
}

static bool open_rings(struct exec_faults *f, pid_t pid)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	size_t len = RING_MAX;

	if (cpus < 1)
		cpus = 1;
	while (len > RING_MIN && len * (size_t)cpus > RINGS_TOTAL)
		len /= 2;
	f->rings = tool_alloc((size_t)cpus, sizeof(*f->rings));
	for (int cpu = 0; cpu < cpus; cpu++) {
		if (!open_ring(f, pid, cpu, len))
			return false;
	}
	return true;
}

struct exec_faults *exec_faults_start(pid_t pid, const struct exec_watch *watch)
{
	struct exec_faults *f = tool_alloc(1, sizeof(*f));
	int rc;

	f->dev_major = watch->dev_major;
	f->dev_minor = watch->dev_minor;
	f->inode = watch->inode;
	if (!open_rings(f, pid))
		return f;
	rc = pthread_create(&f->thread, NULL, drain_thread, f);
	if (rc)
		snprintf(f->reason, sizeof(f->reason), "no thread to count faults: %s",
			strerror(rc));
	f->started = rc == 0;
	return f;
}

/* Faults as the kernel counted them, inherited events included. */
static uint64_t total_count(const struct exec_faults *f)
{
	uint64_t total = 0;

	for (size_t i = 0; i < f->nr_rings; i++) {
		uint64_t count = 0;

		if (read(f->rings[i].fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
			total += count;
	}
	return total;
}

void exec_faults_finish(struct exec_faults *f, struct exec_fault_counts *ret)
{
	uint64_t total;

	*ret = (struct exec_fault_counts){.user_only = f->user_only};
	if (f->started) {
		for (size_t i = 0; i < f->nr_rings; i++)
			ioctl(f->rings[i].fd, PERF_EVENT_IOC_DISABLE, 0);
		/* Pairs with the load in drain_thread(). */
		atomic_store_explicit(&f->stop, true, memory_order_release);
		pthread_join(f->thread, NULL);
		total = total_count(f);
		ret->known = true;
		ret->guest = f->guest;
		ret->lost = total > f->seen ? total - f->seen : 0;
		if (f->user_only)
			snprintf(ret->reason, sizeof(ret->reason),
				"faults inside system calls are not counted "
				"(kernel.perf_event_paranoid)");
	} else {
		snprintf(ret->reason, sizeof(ret->reason), "%s", f->reason);
	}
	for (size_t i = 0; i < f->nr_rings; i++) {
		if (f->rings[i].page)
			munmap(f->rings[i].page, f->rings[i].len + (size_t)sysconf(_SC_PAGESIZE));
		close(f->rings[i].fd);
	}
	free(f->rings);
	free(f->events);
	free(f->places);
	free(f);
}
