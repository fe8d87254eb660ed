/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmocka.h - as much of cmocka as some tests use, for a machine that has no cmocka.
 *
 * scripts/check-arm64 builds tests with this in the place of the real one. A failed assertion ends
 * the program.
 */
#ifndef GM_TESTS_ARM64_CMOCKA_H
#define GM_TESTS_ARM64_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * qemu 7.2 on x86-64 lets a load that acquires pass a store that releases, in programs of C11 alone as well: what arm64
 * promises of the two is read in the machine code only.
 */
#define GM_TEST_EMULATED 1

struct CMUnitTest {
	const char *name;
	void (*run)(void **state);
};

#define cmocka_unit_test(f)                                                                        \
	{                                                                                          \
#f, f                                                                              \
	}
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
	run_tests(tests, sizeof(tests) / sizeof((tests)[0]))

#define print_message(...) printf(__VA_ARGS__)
#define print_error(...) fprintf(stderr, __VA_ARGS__)
#define fail_msg(...)                                                                              \
	do {                                                                                       \
		fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                    \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		exit(1);                                                                           \
	} while (0)
#define assert_true(x)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			fail_msg("%s", #x);                                                        \
	} while (0)
#define assert_int_equal(a, b)                                                                     \
	do {                                                                                       \
		long long a_ = (long long)(a);                                                     \
		long long b_ = (long long)(b);                                                     \
		if (a_ != b_)                                                                      \
			fail_msg("%s is %lld, not %lld", #a, a_, b_);                              \
	} while (0)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_memory_equal(a, b, len) assert_true(memcmp(a, b, len) == 0)

static inline int run_tests(const struct CMUnitTest *tests, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		void *state = NULL;

		tests[i].run(&state);
		printf("ok %s\n", tests[i].name);
		fflush(stdout);
	}
	return 0;
}

#endif
