/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.h - figures of a command that runs, for whoever connects to its socket.
 *
 * A client sends a line ("json", "metrics", "text"), or a request of HTTP (GET /json ...), and gets one answer. One
 * descriptor stands for the socket and all clients: the command waits for it beside its own, and calls control_turn().
 * What a turn does is bounded, and no client is waited for.
 */
#ifndef TOOL_CONTROL_H
#define TOOL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

struct control;

/* What there is to be said; @text is optional. */
struct control_ops {
	json_t *(*json)(void *ctx);
	void (*metrics)(void *ctx, FILE *out);
	void (*text)(void *ctx, FILE *out);
};

/*
 * The socket that a service manager has opened by the name "control"; else @path, which only its owner may connect to;
 * with neither *ret is NULL. False after a message.
 */
bool control_open(const char *path, const struct control_ops *ops, void *ctx, struct control **ret);
/* Becomes readable when there is something to do. */
int control_fd(const struct control *c);
void control_turn(struct control *c);
/* Removes the name that it has made. NULL is ignored. */
void control_close(struct control *c);

/* ---- control_ask.c ---- */
/* Asks a socket for a word. The answer, for free(), or NULL after a message. */
char *control_ask(const char *path, const char *word);

/* ---- control_metrics.c: text as Prometheus reads it, names behind "guestmem_" ---- */
void metrics_head(FILE *out, const char *name, const char *type, const char *help);
/* Head and value of one without labels. */
void metrics_one(FILE *out, const char *name, const char *type, const char *help, uint64_t value);
/* A value with labels: a="b",c="d". */
void metrics_value(FILE *out, const char *name, const char *labels, uint64_t value);
/* Bucket i counts what took less than 2^i us, the last all others. */
struct metrics_times {
	const uint64_t *buckets;
	uint32_t nr;
	uint64_t ns; /* sum of the times */
};
/* The lines of a histogram below its head. */
void metrics_times(
	FILE *out, const char *name, const char *labels, const struct metrics_times *times);
/* {"count": ..., "sum_seconds": ..., "below": [...]} */
json_t *json_times(const struct metrics_times *times);
/* The buckets alone, and their sum. */
json_t *json_buckets(const uint64_t *buckets, uint32_t nr, uint64_t *ret_count);

#endif
