/* SPDX-License-Identifier: BSD-3-Clause */
/* error.h - filling in a caller's struct gm_error. */
#ifndef GM_CORE_ERROR_H
#define GM_CORE_ERROR_H

#include <errno.h>
#include <guestmem/error.h>
#include <stddef.h>

/* Fills @err, if there is one, and returns @code. Control characters in the text become '?'. */
__attribute__((format(printf, 5, 6))) int gm_error_set(
	struct gm_error *err, int code, uint64_t gpa, uint64_t len, const char *fmt, ...);
#ifdef __clang_analyzer__ /* so that it knows that a failure does not return 0 */
#define gm_error_set(err, code, ...) ((void)(gm_error_set)((err), (code), __VA_ARGS__), (code))
#endif

/* Appends to the text of @err, if there is one, as far as there is room; cleaned as above. */
__attribute__((format(printf, 2, 3))) void gm_error_add(struct gm_error *err, const char *fmt, ...);

/* What was said by a way that failed, when there is no other. Returns @code. */
int gm_error_pass(struct gm_error *err, const struct gm_error *why, int code);

/* "ENOMEM (Cannot allocate memory)"-like words for a negative errno value; a constant string. */
const char *gm_error_word(int code);

/* What a function of the caller, or a peer, returned: a positive code, or one that is no errno value, is -EPROTO. */
static inline int gm_checked_code(int rc)
{
	return rc > 0 || rc < -4095 ? -EPROTO : rc;
}

/* Copies a name of at most cap - 1 bytes; control characters become '?'. */
void gm_copy_name(char *to, size_t cap, const char *from);

/*
 * Looks at an options struct that begins with its size: 0 if the library knows all of it or the
 * unknown tail is zero, -EINVAL if it is shorter than @min, -E2BIG for a newer one that is used.
 * Then copies it to @to, zero-extended to @known.
 */
int gm_opts_copy(void *to, size_t known, const void *from, size_t min);

/* What a failure of gm_opts_copy() means, for the options of @what. */
int gm_opts_error(struct gm_error *err, int code, const char *what);

#endif
