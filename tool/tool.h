/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tool.h - what the sub-commands share: errors, options, numbers, names.
 *
 * Output goes to stdout line by line; errors are one line on stderr, "guestmem: what: why".
 * Exit status: 0 well, 1 it failed, 2 wrong usage.
 */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* ---- util.c ---- */
/* Prints "guestmem: " and a line on stderr, control characters made visible. */
__attribute__((format(printf, 1, 2))) void tool_error(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void tool_note(const char *fmt, ...);
/* malloc and relatives that end the command when there is no memory. */
void *tool_alloc(size_t nr, size_t len);
void *tool_realloc(void *ptr, size_t nr, size_t len);
char *tool_strdup(const char *text);
__attribute__((format(printf, 1, 2))) char *tool_printf(const char *fmt, ...);
double tool_now(void); /* seconds, monotonic */
/* Flushes stdout; false (and a message) if not everything could be written. */
bool tool_flush(void);
/* Says that stdout could not be written, once. */
void tool_stdout_failed(int error);

/*
 * Takes the numbers 0, 1 and 2 where they are closed, or a file that is opened later would get what
 * is printed. Reading and writing them fails as before, and a command that we start has them
 * closed as before. False if there are no descriptors.
 */
bool tool_open_standard_fds(void);
/* A closed pipe and a limit on the size of files are errors like any other, not a death; a command
 * that we start gets back what was before. */
void tool_ignore_signals(void);
void tool_restore_signals(void);

/* ---- output.c ---- */
/*
 * A file for a result that comes later. The name is tried at once, so that a bad one is known
 * before the work. What has the name now stays until the new content is whole. "-" is standard
 * output.
 */
struct tool_output {
	const char *path; /* NULL: none */
	FILE *file;
	char *beside; /* what it is written to until it is whole, or NULL */
	bool fresh;   /* written in place, and did not exist before */
	bool begun;
	bool failed;
};
/* @stream: something that grows as long as we run is written in place. False after a message. */
bool tool_output_open(struct tool_output *out, const char *path, bool stream);
/* NULL after a message. */
FILE *tool_output_begin(struct tool_output *out);
/* Says that it could not be written, and that what was must go; returns false. */
bool tool_output_failed(struct tool_output *out, int error);
/* Puts the result in its place if it was begun and all is well. False after a message. */
bool tool_output_close(struct tool_output *out);
/* Would one of them overwrite the other? */
bool tool_outputs_clash(const char *a, const char *b);

/* ---- format.c ---- */
/* "512M", "2MiB", "4096", "0x1000"; false if it is no number, negative, or too large. */
bool tool_parse_size(const char *text, uint64_t *ret);
bool tool_parse_number(const char *text, uint64_t max, uint64_t *ret);
/* Seconds, finite, in [min, max]. */
bool tool_parse_seconds(const char *text, double min, double max, double *ret);
#define TOOL_UNIT_CAP 24
/* "1.5 GiB"; exact sizes of pages: "4K", "2M", "1G". Both fill and return @buf. */
const char *tool_bytes(uint64_t bytes, char buf[TOOL_UNIT_CAP]);
const char *tool_page_name(uint32_t log2, char buf[TOOL_UNIT_CAP]);
uint32_t tool_log2(uint64_t power_of_two);
/* A name from a foreign process or file with everything that could move the cursor made visible. */
const char *tool_escape(const char *name, char *buf, size_t cap);

/* ---- options.c ---- */
struct tool_option {
	const char *name; /* without "--"; NULL ends the table */
	char letter;      /* or 0 */
	const char *arg;  /* what stands for the value, NULL if it has none; "[X]" is optional */
	const char *help;
};

struct tool_usage {
	const char *command; /* "exec" */
	const char *operands;
	const char *about; /* one or more lines */
	const struct tool_option *options;
	bool stop_at_operand; /* what follows the first operand is not ours */
	/* Is this word an operand, and not the value of an option before it that may have none?
	 * NULL if the options have values or have none. */
	bool (*is_operand)(const char *word);
};

/* Called for each option, with its place in the table. False: the value is wrong and was complained
 * about. */
typedef bool tool_option_fn(void *ctx, size_t option, const char *value);

/*
 * Returns the index of the first operand, or -1 with the status to exit with in *ret_status
 * (help was printed, or the usage is wrong).
 */
int tool_options(const struct tool_usage *usage, int argc, char **argv, tool_option_fn *fn,
	void *ctx, int *ret_status);
/* Complains about a value; returns false. */
bool tool_bad_value(const char *option, const char *value, const char *why);

/* ---- sub-commands ---- */
int cmd_blk(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_keep(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_tables(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_vhost_user(int argc, char **argv);
int cmd_walk(int argc, char **argv);
int cmd_wset(int argc, char **argv);

#endif
