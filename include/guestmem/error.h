/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * error.h - what went wrong, as data and as a sentence.
 *
 * Functions that build or change something take an optional struct gm_error that the caller
 * owns. It is written on failure only. The code and the addresses are stable; the text is for
 * people and may change.
 */
#ifndef GUESTMEM_ERROR_H
#define GUESTMEM_ERROR_H

#include <stdint.h>

#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GM_ERROR_TEXT_MAX 488

/**
 * struct gm_error - why a call failed
 * @code:     negative errno value, the same as the call returned
 * @reserved: zero
 * @gpa:      guest physical address that the failure is about, or 0
 * @len:      length in bytes from @gpa, or 0
 * @text:     one line without a newline or other control characters, always terminated
 *
 * The layout is frozen (512 bytes). There is no need to initialise it.
 */
struct gm_error {
	int32_t code;
	uint32_t reserved;
	uint64_t gpa;
	uint64_t len;
	char text[GM_ERROR_TEXT_MAX];
};

/**
 * gm_version() - version of the library that is loaded
 *
 * Returns a constant string such as "0.1.0"; borrowed, valid for ever.
 * Threads: any. Since: 0.1.
 */
GM_API const char *gm_version(void);

#ifdef __cplusplus
}
#endif

#endif
