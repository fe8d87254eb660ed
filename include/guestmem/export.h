/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.h - linkage of what the headers declare.
 *
 * GM_API marks functions of the shared library. GM_INLINE marks fast paths: they are inline in the
 * caller where the compiler can do it (GCC or clang on x86-64 or arm64, no sanitizer) and are
 * ordinary functions of the library otherwise. Each exists as a symbol in either case. Define
 * GM_NO_INLINE to get only the calls.
 */
#ifndef GUESTMEM_EXPORT_H
#define GUESTMEM_EXPORT_H

/*
 * Options with their size set: gm_block_create(GM_OPTS(gm_block_opts, .len = 1 << 30), &block,
 * &err). C only; in C++ zero the struct and set its size member.
 */
#define GM_OPTS(type, ...) (&(struct type){.size = sizeof(struct type), __VA_ARGS__})

#if !defined(__LP64__)
#error "guestmem is for 64-bit programs"
#endif

#define GM_API __attribute__((visibility("default")))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define GM_SANITIZED 1
#endif
#endif

#if !defined(GM_NO_INLINE) && defined(GM_SANITIZED)
#define GM_NO_INLINE 1
#endif

#if !defined(GM_NO_INLINE) && !defined(__x86_64__) && !defined(__aarch64__)
#define GM_NO_INLINE 1
#endif

/* asm goto with outputs: GCC 11, clang 11 */
#if !defined(GM_NO_INLINE) && !defined(__clang__) && defined(__GNUC__) && __GNUC__ < 11
#define GM_NO_INLINE 1
#endif

#if defined(GM_BUILD_INLINE) /* src/inline.c: the same bodies as symbols */
#define GM_INLINE GM_API
#elif defined(GM_NO_INLINE)
#define GM_INLINE GM_API
#else
#define GM_INLINE static inline __attribute__((unused))
#endif

#endif
