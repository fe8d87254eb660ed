/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control.h - figures of a command that runs, for whoever connects to its socket.
 *
 * A client sends a line ("json", "metrics", "text"), or a request of HTTP (GET /json ...), and gets one answer. One
 * descriptor stands for the socket and all clients: the command waits for it beside its own, and calls control_turn().
 * What a turn does is bounded, and no client is waited for.
 *
 * A command that can be asked to do something takes other lines too, by @tell: an answer, and then, if it says so, what
 * control_say() says until the end.
 */
#ifndef TOOL_CONTROL_H
#define TOOL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

struct control;

/* What there is to be said; @text and @tell are optional. */
struct control_ops {
	json_t *(*json)(void *ctx);
	void (*metrics)(void *ctx, FILE *out);
	void (*text)(void *ctx, FILE *out);
	/* A line of no other meaning. The answer is freed; true: the client is one that listens from here on. */
	bool (*tell)(void *ctx, const char *line, char **ret_answer);
};

/*
 * The socket that a service manager has opened by the name "control"; else @path, which only its owner may connect to;
 * with neither *ret is NULL. False after a message.
 */
bool control_open(const char *path, const struct control_ops *ops, void *ctx, struct control **ret);
/* Becomes readable when there is something to do. */
int control_fd(const struct control *c);
void control_turn(struct control *c);
/* A line to all that listen; who does not read what it is told is let go. */
void control_say(struct control *c, const char *line);
/* Those that listen have read all, or a second has passed. */
void control_drain(struct control *c);
/* Removes the name that it has made. NULL is ignored. */
void control_close(struct control *c);

/* ---- control_ask.c ---- */
/* Asks a socket for a word. The answer, for free(), or NULL after a message. */
char *control_ask(const char *path, const char *word);
/* Asks it and stays: a descriptor to read answer and lines from; -1 after a message. */
int control_follow(const char *path, const char *line);

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
