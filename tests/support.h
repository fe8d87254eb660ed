/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * support.h - what tests of the memory floor share: checks with the error's text, huge-page pools
 * that are put back, lines of smaps.
 */
#ifndef GM_TESTS_SUPPORT_H
#define GM_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <guestmem/guestmem.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* The call must return 0; otherwise the error's text is shown. Uses the variable err. */
#define assert_ok(call)                                                                            \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_)                                                                           \
			fail_msg("%s = %d: %s", #call, rc_, err.text);                             \
	} while (0)

/* The call must fail with -code and a text that has @word in it. Uses the variable err. */
#define assert_fails(call, errno_value, word)                                                      \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		assert_int_equal(rc_, -(errno_value));                                             \
		assert_int_equal(err.code, -(errno_value));                                        \
		if (!strstr(err.text, (word)))                                                     \
			fail_msg("\"%s\" does not say \"%s\"", err.text, (word));                  \
	} while (0)

/*
 * Makes at least @pages huge pages of 1 << log2 bytes free; the old number is put back at exit,
 * also after a failure. False if the machine cannot.
 */
bool support_pool(unsigned int log2, unsigned long pages);

/* Writes a word to a file under /sys; what was there is put back at exit. False if that cannot be
 * done. */
bool support_knob(const char *path, const char *word);

/* The value in bytes of a line such as "AnonHugePages:" of the mapping that holds @addr; -1 if
 * there is none. */
long long support_smaps(const void *addr, const char *key);

/* True if the VmFlags of the mapping that holds @addr have the two-letter word. */
bool support_vmflag(const void *addr, const char *flag);

/* A number scaled by GM_TEST_SCALE in the environment, at least 1 if it was. */
unsigned long support_scale(unsigned long n);

#endif
