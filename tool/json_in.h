/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * json_in.h - a reader of JSON that knows on which line it is.
 *
 * The text is read from front to back by whoever knows what should come next; nothing is built from
 * it. So memory does not grow with what a hostile file contains, and each complaint has the line of
 * what it is about. The first failure ends it: after that every function returns false.
 */
#ifndef TOOL_JSON_IN_H
#define TOOL_JSON_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_IN_WHY_MAX 400

struct json_in {
	const char *at;
	const char *end;
	uint32_t line; /* of *at */
	uint32_t seen; /* line of what was read last */
	bool failed;
	uint32_t fault_line;
	char why[JSON_IN_WHY_MAX]; /* without control characters */
};

enum json_in_kind {
	JSON_IN_NOTHING, /* the end of the text, or no value */
	JSON_IN_OBJECT,
	JSON_IN_ARRAY,
	JSON_IN_STRING,
	JSON_IN_NUMBER,
	JSON_IN_WORD, /* true, false, null */
};

/* @text is borrowed. */
void json_in_start(struct json_in *in, const char *text, size_t len);
/* Keeps the first reason; returns false. Line 0 is that of what was read last. */
__attribute__((format(printf, 3, 4))) bool json_in_fail(
	struct json_in *in, uint32_t line, const char *fmt, ...);

/* What comes next, and in->line is its line. */
enum json_in_kind json_in_peek(struct json_in *in);

/*
 * Reads the bracket that opens an object or array. Then, with *first true before the first call,
 * json_in_more() tells whether another member follows, and reads the bracket that closes it.
 */
bool json_in_open(struct json_in *in, char bracket);
bool json_in_more(struct json_in *in, char closing, bool *first);

/* A member's name and the colon behind it. */
bool json_in_key(struct json_in *in, char *buf, size_t cap);
/* A string without zero bytes, as UTF-8; NULL: it is only read. @what is for complaints. */
bool json_in_string(struct json_in *in, char *buf, size_t cap, const char *what);
/* A number as it stands there. */
bool json_in_number(struct json_in *in, char *buf, size_t cap, const char *what);
/* true or false. */
bool json_in_bool(struct json_in *in, bool *ret, const char *what);
/* Nothing may follow. */
bool json_in_finish(struct json_in *in);

#endif
