/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw.h - system calls without the C library between, for those that move small amounts of data.
 *
 * Behind a system call the processor does not know where functions return to, and the C library is
 * one function more: 10 ns of a read of 512 bytes. Sanitizers look at its functions, so their builds
 * call them, as do machines for which there is nothing here. These are no cancellation points.
 */
#ifndef GM_SYS_RAW_H
#define GM_SYS_RAW_H

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sys/sys.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer) ||                          \
	__has_feature(address_sanitizer)
#define GM_RAW_BY_LIBC 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define GM_RAW_BY_LIBC 1
#endif

/* Negative errno values come as they are. */
#if defined(__x86_64__) && defined(__LP64__) && !defined(GM_RAW_BY_LIBC)

static inline __attribute__((always_inline)) long gm_raw_call(
	long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__) && defined(__LP64__) && !defined(GM_RAW_BY_LIBC)

static inline __attribute__((always_inline)) long gm_raw_call(
	long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
}

#endif

/* False when somebody stands before the functions of sys.h, as tests do: then these are called. */
extern bool gm_sys_direct;

/*
 * GM_RAW(by_libc, nr, a, ...): the result of the call, or a negative errno value. @by_libc is the same
 * call by the C library. Missing arguments are 0.
 */
#if (defined(__x86_64__) || defined(__aarch64__)) && defined(__LP64__) && !defined(GM_RAW_BY_LIBC)
#define GM_RAW_6(nr, a, b, c, d, e, f, ...)                                                        \
	gm_raw_call((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define GM_RAW(by_libc, nr, ...) GM_RAW_6(nr, __VA_ARGS__, 0, 0, 0, 0, 0)
#else
static inline ssize_t gm_raw_result(ssize_t rc)
{
	return rc < 0 ? -errno : rc;
}
#define GM_RAW(by_libc, nr, ...) gm_raw_result(by_libc)
#endif

/*
 * GM_INLINE_CALL(fn, nr, a, ...): gm_sys_fn(a, ...), which is the system call and nothing more, without the
 * function. The arguments are looked at twice.
 */
#ifdef GM_RAW_6
#define GM_INLINE_CALL(fn, nr, ...)                                                                \
	(__builtin_expect(gm_sys_direct, 1) ? GM_RAW(0, nr, __VA_ARGS__) : gm_sys_##fn(__VA_ARGS__))
#else
#define GM_INLINE_CALL(fn, nr, ...) gm_sys_##fn(__VA_ARGS__)
#endif

#endif
