/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c - error texts and option structs: what every function of the control plane needs. */
#include "core/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A path may have anything in it: the text stays one line that no terminal obeys. */
static char cleaned(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
}

static void clean(char *text)
{
	for (; *text; text++)
		*text = cleaned(*text);
}

int(gm_error_set)(struct gm_error *err, int code, uint64_t gpa, uint64_t len, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	err->code = code;
	err->reserved = 0;
	err->gpa = gpa;
	err->len = len;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	clean(err->text);
	return code;
}

int gm_error_pass(struct gm_error *err, const struct gm_error *why, int code)
{
	if (err)
		*err = *why;
	return code;
}

void gm_error_add(struct gm_error *err, const char *fmt, ...)
{
	va_list args;
	size_t used;

	if (!err)
		return;
	used = strnlen(err->text, sizeof(err->text) - 1);
	va_start(args, fmt);
	vsnprintf(err->text + used, sizeof(err->text) - used, fmt, args);
	va_end(args);
	clean(err->text + used);
}

const char *gm_error_word(int code)
{
	const char *word = strerrordesc_np(-code);

	return word ? word : "unknown error";
}

void gm_copy_name(char *to, size_t cap, const char *from)
{
	size_t i;

	for (i = 0; i + 1 < cap && from[i]; i++)
		to[i] = cleaned(from[i]);
	to[i] = '\0';
}

int gm_opts_copy(void *to, size_t known, const void *from, size_t min)
{
	const unsigned char *bytes = from;
	size_t size;

	memcpy(&size, from, sizeof(size));
	if (size < min)
		return -EINVAL;
	for (size_t i = known; i < size; i++) {
		if (bytes[i])
			return -E2BIG;
	}
	memset(to, 0, known);
	memcpy(to, from, size < known ? size : known);
	return 0;
}

int gm_opts_error(struct gm_error *err, int code, const char *what)
{
	return gm_error_set(err, code, 0, 0, "%s: options of another version: %s", what,
		code == -E2BIG ? "they use members that this library does not know"
			       : "their size member is not set (GM_OPTS() sets it)");
}
