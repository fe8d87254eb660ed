/* SPDX-License-Identifier: BSD-3-Clause */
/* fault_wrap.h - a wrapper around a function of sys, for fault.c and fault_plain.c. */
#ifndef GM_TESTS_FAULT_WRAP_H
#define GM_TESTS_FAULT_WRAP_H

#include "fault.h"
#include "sys/sys.h"

/*
 * The fault for this call: a negative errno value or 0. With *short_len (where the function can
 * fall short; it is the length asked for) the fault may be a smaller length instead.
 */
int fault_before(struct fault_event *ev, size_t *short_len);
/* What the call returned, into the log. */
void fault_after(struct fault_event *ev, long rc);

#define EVENT(name, ...)                                                                           \
	{                                                                                          \
		.fn = FAULT_##name, .caller = __builtin_return_address(0), __VA_ARGS__             \
	}

/* A function that returns a number and fails without having done anything. */
#define WRAP(type, name, params, args, ...)                                                        \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		struct fault_event ev = EVENT(name, __VA_ARGS__);                                  \
		type rc = (type)fault_before(&ev, NULL);                                           \
                                                                                                   \
		if (!ev.injected)                                                                  \
			rc = __real_##name args;                                                   \
		fault_after(&ev, (long)rc);                                                        \
		return rc;                                                                         \
	}

#define ADDR(ptr) .addr = (uint64_t)(uintptr_t)(ptr)

#endif
