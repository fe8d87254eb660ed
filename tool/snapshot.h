/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.h - what the commands about saved memory share. */
#ifndef TOOL_SNAPSHOT_H
#define TOOL_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <guestmem/memfile.h>
#include <jansson.h>

/* ---- snapshot_show.c ---- */
/* A line on stderr that moves, if that is a terminal; ends when @done is @total. */
void saved_progress(const char *what, uint64_t done, uint64_t total);
/* SIGINT, SIGTERM and SIGHUP end the work in order: true once one came. */
void saved_catch_signals(void);
bool saved_was_stopped(void);
void saved_show(const char *path, const struct gm_snapshot_info *info);
json_t *saved_json(const char *path, const struct gm_snapshot_info *info);
json_t *saved_json_regions(const struct gm_memfile *memory);

/* ---- memory_files.c ---- */
/* "saved", "raw", "mapped-ram" to enum gm_memfile_format, and back. */
bool memory_format(const char *word, uint32_t *ret);
const char *memory_format_name(uint32_t format);
/* Names with commas between them, for a message that may be about each. Returns @buf. */
const char *memory_names(const char *const *paths, size_t nr, char *buf, size_t room);
/* Opens memory in files on each other; NULL after a message. */
struct gm_memfile *memory_open(
	const char *const *paths, size_t nr, const struct gm_memfile_opts *opts);

/* ---- snapshot_pid.c ---- */
/* An fd of the largest memfd that a process has, -1 after a message. */
int saved_memory_of(pid_t pid);
/* Stops all of a process, and lets it go on if it was not stopped before. False after a message. */
struct saved_stop {
	int pidfd;
	bool ours;
};
bool saved_stop(struct saved_stop *stop, pid_t pid);
void saved_continue(struct saved_stop *stop);

#endif
