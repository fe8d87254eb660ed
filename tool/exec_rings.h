/* SPDX-License-Identifier: BSD-3-Clause */
/* exec_rings.h - page faults, mappings, forks and execs of a process tree, as the kernel records
 * them. */
#ifndef TOOL_EXEC_RINGS_H
#define TOOL_EXEC_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum exec_event_kind { EXEC_EVENT_FAULT, EXEC_EVENT_MAP, EXEC_EVENT_FORK, EXEC_EVENT_EXEC };

struct exec_event {
	enum exec_event_kind kind;
	uint32_t pid;
	uint32_t parent; /* fork */
	uint64_t time;   /* CLOCK_MONOTONIC */
	uint64_t addr;   /* fault: address; map: start */
	uint64_t len;    /* map */
	uint64_t inode;  /* map, as all below */
	uint32_t dev_major;
	uint32_t dev_minor;
};

#define EXEC_REASON_MAX 160

struct exec_ring;

struct exec_rings {
	struct exec_ring *rings; /* one for each CPU */
	size_t nr;
	bool user_only;               /* faults inside system calls are not seen */
	char reason[EXEC_REASON_MAX]; /* why they could not be opened */
};

/* For @pid, which waits before its exec(), and what it will start. On false close them all the
 * same. */
bool exec_rings_open(struct exec_rings *rings, pid_t pid);
/* Calls @fn for each new record; those of one CPU are in order, those of several are not. */
void exec_rings_drain(
	struct exec_rings *rings, void (*fn)(void *arg, const struct exec_event *event), void *arg);
void exec_rings_stop(struct exec_rings *rings);
/* Faults as the kernel counted them, also where the record was lost. */
uint64_t exec_rings_count(const struct exec_rings *rings);
void exec_rings_close(struct exec_rings *rings);

#endif
