/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * text.h - numbers and words out of sysfs and procfs files.
 *
 * What cannot be read becomes UINT64_MAX or an empty string, never a guess.
 */
#ifndef GM_SERVICES_TEXT_H
#define GM_SERVICES_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GM_TEXT_UNKNOWN UINT64_MAX

/* Unsigned number at the start of @text in @base (10 or 16); false if there is none or it is too
 * large. */
bool gm_text_number(const char *text, unsigned int base, uint64_t *ret, const char **ret_end);

/* The number in a file; UNKNOWN if there is none. */
uint64_t gm_text_file_number(const char *path);

/* The word in [brackets] in a file, or its only word; empty if there is none or it does not fit. */
void gm_text_file_word(const char *path, char *ret, size_t cap);

/* The number behind "@key" at the start of a line, times 1024 if "kB" follows; UNKNOWN if there is
 * none. */
uint64_t gm_text_field(const char *text, const char *key);

/*
 * Calls @fn for each number of a kernel list such as "0-3,8"; false if it is malformed.
 */
bool gm_text_list(const char *text, void (*fn)(void *arg, uint32_t number), void *arg);

#endif
