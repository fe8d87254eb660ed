/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_faults.c - page faults on guest memory alone.
 *
 * The software event PAGE_FAULTS needs no performance counter in hardware. Each fault of the
 * command and its descendants gives a record with its address; records of their mappings (with
 * device and inode), forks and execs come through the same rings, so that each address is judged by
 * the mappings of its moment. Records of several CPUs are put in order by their time. The kernel
 * counts every fault, also where a full ring loses its record; the difference is what was lost.
 *
 * Faults that KVM resolves for a guest are no such events: it fetches the pages by itself.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "exec.h"
#include "exec_rings.h"

#define DRAIN_NS 2000000 /* between two looks at the rings */

struct event {
	uint64_t time;
	uint64_t addr; /* fault: address; map: start */
	uint64_t end;  /* map: end; it is of guest memory if @ours */
	enum exec_event_kind kind;
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

struct exec_faults {
	struct exec_rings rings;
	bool started;
	uint64_t dev_major;
	uint64_t dev_minor;
	uint64_t inode;
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

static void keep_event(void *arg, const struct exec_event *e)
{
	struct exec_faults *f = arg;

	if (e->kind == EXEC_EVENT_FAULT)
		f->seen++;
	if (f->nr_events == f->cap_events) {
		f->cap_events = f->cap_events ? f->cap_events * 2 : 4096;
		f->events = tool_realloc(f->events, f->cap_events, sizeof(*f->events));
	}
	f->events[f->nr_events++] = (struct event){
		.time = e->time,
		.addr = e->addr,
		.end = e->addr + e->len,
		.kind = e->kind,
		.pid = e->pid,
		.parent = e->parent,
		.ours = e->kind == EXEC_EVENT_MAP && e->inode == f->inode &&
			e->dev_major == f->dev_major && e->dev_minor == f->dev_minor,
	};
}

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

	if (e->kind == EXEC_EVENT_MAP) {
		cut_places(f, e->pid, e->addr, e->end);
		if (e->ours)
			add_place(f, e->pid, e->addr, e->end);
		return;
	}
	if (e->kind == EXEC_EVENT_EXEC) {
		cut_places(f, e->pid, 0, UINT64_MAX);
		return;
	}
	for (size_t i = 0; i < nr; i++) {
		struct place p = f->places[i];

		if (e->kind == EXEC_EVENT_FORK && p.pid == e->parent)
			add_place(f, e->pid, p.start, p.end);
		if (e->kind == EXEC_EVENT_FAULT && p.pid == e->pid && e->addr >= p.start &&
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

	if (f->nr_events == 0)
		return;
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
		exec_rings_drain(&f->rings, keep_event, f);
		judge(f, stop ? UINT64_MAX : last);
		last = begun;
		if (!stop)
			nanosleep(&pause, NULL);
	} while (!stop);
	return NULL;
}

struct exec_faults *exec_faults_start(pid_t pid, const struct exec_watch *watch)
{
	struct exec_faults *f = tool_alloc(1, sizeof(*f));
	int rc;

	f->dev_major = watch->dev_major;
	f->dev_minor = watch->dev_minor;
	f->inode = watch->inode;
	if (!exec_rings_open(&f->rings, pid))
		return f;
	rc = pthread_create(&f->thread, NULL, drain_thread, f);
	if (rc)
		snprintf(f->rings.reason, sizeof(f->rings.reason), "no thread to count faults: %s",
			strerror(rc));
	f->started = rc == 0;
	return f;
}

void exec_faults_finish(struct exec_faults *f, struct exec_fault_counts *ret)
{
	*ret = (struct exec_fault_counts){.known = f->started};
	snprintf(ret->reason, sizeof(ret->reason), "%s",
		f->started && f->rings.user_only
			? "faults inside system calls are not counted (kernel.perf_event_paranoid)"
			: f->rings.reason);
	if (f->started) {
		uint64_t total;

		exec_rings_stop(&f->rings);
		/* Pairs with the load in drain_thread(). */
		atomic_store_explicit(&f->stop, true, memory_order_release);
		pthread_join(f->thread, NULL);
		total = exec_rings_count(&f->rings);
		ret->guest = f->guest;
		ret->lost = total > f->seen ? total - f->seen : 0;
	}
	exec_rings_close(&f->rings);
	free(f->events);
	free(f->places);
	free(f);
}
