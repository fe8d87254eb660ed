/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.h - the parts of "guestmem run".
 *
 * run_options.c reads the command line, run_words.c what stands behind the payload's name;
 * run_snapshot.c saves a guest, restore.c is "guestmem restore";
 * run_memory.c makes the memory, machine.h the machine, run_thread.c threads in its place;
 * run_engine.c makes one of both; run_watch.c waits for its end; run_behind.c fills the memory meanwhile;
 * run_measure.c looks at the host;
 * run_report.c writes what was seen.
 */
#ifndef TOOL_RUN_H
#define TOOL_RUN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <guestmem/host.h>
#include <guestmem/residency.h>

#include "../payload/abi.h"
#include "machine.h"
#include "run_memory.h"
#include "tool.h"

/* Exit statuses beside those of tool.h; guestmem-run(1) lists them. */
enum { EXIT_WRONG = 3, EXIT_CRASHED = 4, EXIT_TIMEOUT = 124, EXIT_SIGNAL = 128 };

enum run_engine_kind { RUN_AUTO, RUN_KVM, RUN_THREAD };

enum run_outcome {
	RUN_OUT_DONE,
	RUN_OUT_CRASHED,
	RUN_OUT_TIMEOUT,
	RUN_OUT_INTERRUPTED,
	RUN_OUT_SAVED,
	RUN_OUT_MOVED,
};

struct run_opts {
	struct run_memory_opts memory;
	const char *backing_text;
	const char *numa_text;
	enum run_engine_kind engine;
	uint32_t vcpus;
	uint32_t guest_log2;
	double time;    /* ask it to stop then; 0: never */
	double timeout; /* 0: none */
	double restart; /* 0: never */
	bool background;
	const char
		*snapshot; /* the guest is saved there at its end, or when it is stopped for that */
	double snapshot_at; /* stop it then; 0: by a signal, or never */
	bool restored;
	bool moved;           /* restored over memory that has come, or comes by itself */
	const char *socket;   /* of control, or NULL */
	uint64_t tables_used; /* of what is restored */
	uint64_t seed;
	const char *json;
	bool quiet;
	uint64_t control;      /* GM_CONTROL_BIT()s, 0: none */
	uint64_t control_rate; /* requests a second, 0: any number */
	uint32_t payload;      /* enum run_payload */
	uint64_t args[RUN_NR_ARGS];
	double pause; /* of stamp: seconds; of replay: how much slower than the trace, 0 = no waiting */
	char **words; /* from the payload's name on */
	uint32_t nr_words;
};

/* ---- run.c ---- */
struct run_engine;
struct mover;

struct run_hooks {
	/* All is made and nothing runs: what is not there yet is brought, or will be. False after a message. */
	bool (*bring)(void *ctx, struct run_engine *e);
	/* Nothing runs any more; the memory is there until this returns. */
	void (*end)(void *ctx);
	void *ctx;
};

/* @hooks may be NULL. Returns a status to exit with. */
int run_go(const struct run_opts *o, const struct run_hooks *hooks);

/* A guest that is made, and does not run. */
struct run_guest {
	const struct run_opts *opts;
	const struct gm_host *host;
	struct run_engine *engine;
	struct run_memory *memory;
	struct mover *mover; /* or NULL */
	struct tool_output *json;
	int signals;
};

/* Starts it, waits for its end, and reports. Returns a status to exit with. */
int run_to_end(const struct run_guest *g);

/* ---- run_options.c ---- */
/* False with a status to exit with. */
bool run_options(int argc, char **argv, struct run_opts *ret, int *ret_status);

/* ---- run_words.c ---- */
/* The payload and its NAME=VALUE words, or a program. False after a message. */
bool run_words(struct run_opts *o, char **words, int nr);
const char *run_payload_name(const struct run_opts *o);
/* How one of its figures is called, or NULL. */
const char *run_figure_name(uint32_t payload, uint32_t figure);

/* ---- run_thread.c ---- */
struct run_threads {
	struct run_thread *threads;
	uint32_t nr;
	int event; /* eventfd: a thread has ended */
};

bool run_threads_init(struct run_threads *t, uint32_t nr);
/* Joins those that were started. */
void run_threads_fini(struct run_threads *t);
struct run_params *run_threads_params(struct run_threads *t, uint32_t i);
/* Starts all that have not ended: also those that were paused, here or in another process. */
bool run_threads_start(struct run_threads *t);
/* They come back with what they need to go on; waits for them. */
void run_threads_pause(struct run_threads *t);
bool run_threads_all_ended(const struct run_threads *t);
/* How a thread that has ended crashed, or NULL. */
const char *run_threads_why(const struct run_threads *t, uint32_t i);

/* ---- run_engine.c ---- */
struct run_engine {
	const struct run_opts *opts;
	struct run_memory *memory;
	bool kvm;
	char reason[MACHINE_WHY_CAP]; /* why it is not what was hoped for, or empty */
	uint32_t guest_log2;          /* as it is */
	double ticks_per_second;
	struct machine machine;
	struct run_threads threads;
};

/* All false after a message. run_engine_fini() is called in any case. */
bool run_engine_choose(struct run_engine *e, const struct run_opts *o);
bool run_engine_init(struct run_engine *e, struct run_memory *memory);
void run_engine_fini(struct run_engine *e);
bool run_engine_start(struct run_engine *e);
int run_engine_event(const struct run_engine *e);
bool run_engine_all_ended(const struct run_engine *e);
/* How a worker crashed, or NULL. */
const char *run_engine_why(const struct run_engine *e, uint32_t i);
/* Has any? */
bool run_engine_crashed(const struct run_engine *e);
/* Stops it where it is; it goes on here, or its state does elsewhere. */
void run_engine_pause(struct run_engine *e);
bool run_engine_go_on(struct run_engine *e);
/* NULL, or why it cannot be moved. */
const char *run_engine_stays(const struct run_engine *e);
/* Tells the payload to come to an end. */
void run_engine_ask(struct run_engine *e);
/* Waits until nothing runs: a machine is stopped, threads must have been asked. */
void run_engine_stop(struct run_engine *e);
bool run_engine_params(struct run_engine *e, uint32_t i, struct run_params *ret);

/* ---- run_behind.c ---- */
struct run_behind {
	struct run_memory *memory;
	pthread_t thread;
	bool started;
	int cancel; /* __atomic */
	int code;
	double start_seconds; /* that the payload had to wait for it */
	double seconds;       /* until all was there, or it was told to end */
	struct gm_error err;
};

/* Both false after a message. */
bool run_behind_start(struct run_behind *b, struct run_memory *memory);
/* Ends it, if it was started, and waits for its thread. */
bool run_behind_end(struct run_behind *b);

/* ---- run_watch.c ---- */
struct run_result {
	enum run_outcome outcome;
	int signal;     /* RUN_OUT_INTERRUPTED */
	double seconds; /* from the start to the last end */
	bool asked;     /* to stop, by --time */
	uint32_t restarts;
	double restart_seconds;
	bool lost; /* RUN_OUT_MOVED: and some of its memory was lost */
};

/* Blocks the signals that it looks at; before anything has threads. */
bool run_watch_signals(int *ret_fd);
/* Starts the engine and waits for the end. False after a message: it could not be started. */
bool run_watch(struct run_engine *e, int signals, struct mover *mover, struct run_result *ret);

/* ---- run_snapshot.c ---- */
/* Saves memory, vCPUs and what run needs to know of a guest that has stopped. False after a message. */
bool run_snapshot_save(struct run_engine *e, const char *path);

/* ---- run_measure.c ---- */
struct run_measure {
	uint64_t minor;
	uint64_t major;
	uint64_t page_tables;     /* of this process */
	uint64_t sec_page_tables; /* of the machine, UINT64_MAX: not known */
};

void run_measure(struct run_measure *ret);

struct run_seen {
	bool control_known;
	struct gm_control_info control;
	uint64_t lifted;
	struct run_measure before;
	struct run_measure after;
	bool usage_known;
	struct gm_usage usage;
	struct kvm_stat *stats;
	size_t nr_stats;
};

/* What there is now, before anything is taken down. */
void run_seen(struct run_seen *seen, const struct run_engine *e);
void run_seen_fini(struct run_seen *seen);

/* ---- run_report.c ---- */
struct run_report {
	const struct run_opts *opts;
	const struct gm_host *host;
	const struct run_engine *engine;
	const struct run_memory *memory;
	const struct run_result *result;
	const struct run_seen *seen;
	const struct run_behind *behind;
	const struct run_params *params; /* one for each worker */
	int status;
	/* Sums over all, by run_report_sum(). */
	uint64_t ops;
	uint64_t bytes;
	uint64_t errors;
	double ops_per_second;
	double bytes_per_second;
	double ns_per_op;        /* this and the next 0: nothing was measured */
	double measured_seconds; /* of the slowest */
};

/* Sums, and the status to exit with. */
void run_report_sum(struct run_report *r);
void run_report_text(const struct run_report *r);
/* False after a message. */
bool run_report_json(const struct run_report *r, struct tool_output *out);

#endif
