/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec.h - the parts of "guestmem exec".
 *
 * exec_options.c reads the command line, exec_memory.c makes the memory, exec.c drives the rest;
 * exec_child.c starts the command and stands between it and the signals; exec_watch.c samples what
 * is mapped; exec_faults.c counts faults on guest memory; exec_report.c writes what was seen.
 */
#ifndef TOOL_EXEC_H
#define TOOL_EXEC_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <guestmem/block.h>
#include <guestmem/host.h>
#include <guestmem/residency.h>
#include <guestmem/sparse.h>

#include "heatmap.h"
#include "image.h"
#include "tool.h"

enum exec_policy { EXEC_DEFAULT, EXEC_BASE, EXEC_THP, EXEC_2M, EXEC_1G };

struct exec_opts {
	uint64_t size;
	uint64_t limit; /* or 0 */
	enum exec_policy policy;
	const char *numa_text; /* as it was given, or NULL */
	struct gm_numa numa;
	bool populate;
	const char *from[IMAGE_FILES_MAX]; /* what it begins with */
	size_t nr_from;
	bool require;
	bool quiet;
	const char *name;
	const char *json;
	const char *heatmap;
	double interval;
	char **command; /* {mem} replaced */
};

#define EXEC_CELLS 4096 /* the heat map's resolution */

/* What was mapped at one moment, by all processes of the command together. */
struct exec_sample {
	double seconds;
	uint64_t present;
	uint64_t zero;
	uint64_t allocated;
	uint64_t page_tables;
	uint64_t by_log2[GM_USAGE_LOG2_MAX + 1];
	uint32_t processes;
	uint32_t unseen;
};

struct exec_watch {
	int fd;
	uint64_t dev_major;
	uint64_t dev_minor;
	uint64_t inode;
	uint64_t size;
	uint64_t base_page;
	uint64_t thp_page;
	uint32_t base_log2;
	uint32_t thp_log2;
	uint32_t flags; /* GM_RESIDENCY_* of samples in detail */
	double next_detail;
	bool need_map;
	double started;
	struct exec_sample *samples;
	size_t nr;
	size_t cap;
	struct exec_sample last_mapped; /* processes 0: never */
	uint64_t allocated;             /* at the end */
	uint64_t peak_present;
	uint64_t peak_allocated;
	uint64_t peak_page_tables;
	struct heatmap *map; /* of last_mapped, if it is needed */
	uint8_t *pages;      /* scratch: log2 of each base page, where mappings overlap */
	bool unaligned;      /* a mapping that cannot have THP was seen */
	bool advice_known;
	pid_t advice_by;    /* whose mappings the next are of */
	uint64_t looked_at; /* bytes of them */
	uint64_t advised;   /* of these with MADV_HUGEPAGE */
	uint64_t refused;   /* of these with MADV_NOHUGEPAGE */
	bool forbidden;     /* THP is off for the process */
	bool kvm;           /* a process that maps the memory has a virtual machine of KVM */
	pid_t mapped_by;    /* one of them, 0: none */
	pid_t *survivors;   /* processes of the command that are there after its end */
	size_t nr_survivors;
	pid_t survivor_maps; /* one of these that maps the memory, 0: none */
};

/* ---- exec_options.c ---- */
/* The index of the command's first word, or -1 with a status. */
int exec_options(int argc, char **argv, struct exec_opts *ret, int *ret_status);
/* What can be said once the host is known. False after a message. */
bool exec_options_fit(const struct exec_opts *o, const struct gm_host *host, int nr_words);
/* The name of a policy, as --page-size takes it; "default" without one. */
const char *exec_policy_name(enum exec_policy policy);

/* ---- exec_memory.c: each false, or -1, after a message ---- */
bool exec_host_allows(const struct exec_opts *o, const struct gm_host *host);
bool exec_set_thp_switch(const struct exec_opts *o);
/* The memory's fd, above the standard ones and close-on-exec. */
int exec_make_memory(const struct exec_opts *o);

/* ---- exec_fill.c ---- */
/* Brings what it begins with into memory at @at; false after a message. */
bool exec_fill(const struct exec_opts *o, void *at);

/* ---- exec_watch.c ---- */
void exec_watch_init(struct exec_watch *watch, int fd, const struct gm_host *host);
void exec_watch_sample(struct exec_watch *watch, pid_t root);
/* The command has ended: what it has left allocated, and running. */
void exec_watch_end(struct exec_watch *watch, pid_t root);
void exec_watch_fini(struct exec_watch *watch);

/* ---- exec_faults.c ---- */
struct exec_faults;

struct exec_fault_counts {
	bool known;
	uint64_t guest;
	uint64_t lost;
	char reason[160]; /* why unknown, or what is missing */
};

/*
 * Opens the events for @pid, which waits before its exec(). Always returns an object; where events
 * cannot be had its counts are unknown with a reason.
 */
struct exec_faults *exec_faults_start(pid_t pid, const struct exec_watch *watch);
/* The command has ended. Frees the object. */
void exec_faults_finish(struct exec_faults *faults, struct exec_fault_counts *ret);

/* ---- exec_child.c ---- */
struct exec_child {
	pid_t pid;
	int signals; /* signalfd */
	int go;      /* write end: lets the child exec */
	int failed;  /* read end: errno of a failed exec, or end of file */
	sigset_t old_mask;
	struct sigaction old_sigchld;
	bool ended;
	int status; /* as wait4() gives it */
	struct rusage usage;
};

/* Before anything has threads. The child stops in front of its exec(). */
bool exec_child_fork(struct exec_child *child, char **command, int fd);
/* Lets it run. 0, or the errno value of exec(). */
int exec_child_go(struct exec_child *child);
/* Waits until the child ends or @deadline (tool_now()); forwards signals meanwhile. */
void exec_child_wait(struct exec_child *child, double deadline);
/* The way a shell would say it: 0-255, 128 + signal. */
int exec_child_exit_status(const struct exec_child *child);
void exec_child_fini(struct exec_child *child);

/* ---- exec_report.c ---- */
struct exec_result {
	const struct exec_opts *opts;
	const struct exec_child *child;
	struct exec_watch *watch;
	const struct gm_host *host;
	struct exec_fault_counts faults;
	double wall;
	const char *effective;
	bool achieved;
	char **warnings;
	size_t nr_warnings;
};

/* Looks at the last sample: sets effective, achieved and warnings. */
void exec_judge(struct exec_result *result);
void exec_report_text(const struct exec_result *result);
/* Both: false after a message. */
bool exec_report_json(const struct exec_result *result, struct tool_output *out);
bool exec_report_heatmap(const struct exec_result *result, struct tool_output *out);
void exec_result_fini(struct exec_result *result);

#endif
