/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * migrate.h - the parts of "guestmem migrate".
 *
 * migrate.c reads the command line; migrate_ask.c asks a process that has a control socket, and shows what it says;
 * migrate_listen.c waits for a guest and runs it, migrate_check.c looks before whether it could. The process that is
 * asked has mover.h.
 */
#ifndef TOOL_MIGRATE_H
#define TOOL_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "mover.h"
#include "run.h"
#include "tool.h"

/* Exit statuses beside those of tool.h; guestmem-migrate(1) lists them. */
enum { EXIT_STAYED = 3, EXIT_LINE = 4, EXIT_PAGES = 5 };

struct migrate_opts {
	const char *command; /* "send" */
	const char *address;
	const char *control;
	/* Of send; what is not given is the library's to choose. */
	uint32_t way;
	bool fds;
	uint32_t bulk_plus;
	uint32_t urgent_plus;
	uint32_t codec_plus;
	int32_t level;
	uint64_t rate;
	uint64_t downtime_ms;
	uint64_t rounds;
	uint64_t throttle;
	double limit;
	/* Of listen. */
	struct run_opts run;
	uint32_t in_flags;
	uint64_t memory_max;
	const char *events;
	const char *json;
	bool quiet;
};

/* ---- migrate_ask.c: all return a status to exit with ---- */
int migrate_send(const struct migrate_opts *o);
/* "resume", "reclaim": asks, and stays until it has come to something. */
int migrate_follow(const struct migrate_opts *o);
/* "cancel" and the like. */
int migrate_tell(const struct migrate_opts *o);
int migrate_status(const struct migrate_opts *o);

/* ---- migrate_check.c ---- */
/* Can memory be made as it is wished? What takes no post-copy says so in @in_flags. False after a message. */
bool migrate_check_memory(struct migrate_opts *o, const struct gm_host *host);

/* ---- migrate_listen.c ---- */
int migrate_listen(struct migrate_opts *o);

#endif
