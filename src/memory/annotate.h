/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * annotate.h - telling sanitizers what the assembly does.
 *
 * Sanitizers do not see the guarded accesses. For guest memory that is right: it is shared with a
 * guest that follows no rules. The caller's buffer is ordinary memory, so builds with a sanitizer
 * announce what happens to it, and atomic accesses announce the order that they give to other
 * memory. Elsewhere these are empty.
 */
#ifndef GM_MEMORY_ANNOTATE_H
#define GM_MEMORY_ANNOTATE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__has_feature)
#define GM_SANITIZER(name) __has_feature(name)
#else
#define GM_SANITIZER(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || GM_SANITIZER(address_sanitizer)
void *__asan_region_is_poisoned(void *addr, size_t len);

/* An ordinary access to the first bad byte brings the usual report. */
static inline void gm_annotate_access(const void *buf, size_t len)
{
	volatile char *bad = __asan_region_is_poisoned((void *)(uintptr_t)buf, len);

	if (bad)
		(void)*bad;
}
#else
static inline void gm_annotate_access(const void *buf, size_t len)
{
	(void)buf;
	(void)len;
}
#endif

#if defined(__SANITIZE_THREAD__) || GM_SANITIZER(thread_sanitizer)
void __tsan_read_range(void *addr, long len); /* gcc knows them with this type */
void __tsan_write_range(void *addr, long len);
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define GM_TSAN(call) call
#else
#define GM_TSAN(call) ((void)0)
#endif

#if GM_SANITIZER(memory_sanitizer)
void __msan_unpoison(const volatile void *addr, size_t len);
#define GM_MSAN(call) call
#else
#define GM_MSAN(call) ((void)0)
#endif

/* The library is about to write @len bytes of the caller. */
static inline void gm_annotate_write(void *buf, size_t len)
{
	gm_annotate_access(buf, len);
	GM_TSAN(__tsan_write_range(buf, (long)len));
	GM_MSAN(__msan_unpoison(buf, len));
}

/* The library is about to read @len bytes of the caller. */
static inline void gm_annotate_read(const void *buf, size_t len)
{
	gm_annotate_access(buf, len);
	GM_TSAN(__tsan_read_range((void *)(uintptr_t)buf, (long)len));
}

/* After a load that acquires, and before a store that releases. */
static inline void gm_annotate_acquire(void *guest)
{
	(void)guest;
	GM_TSAN(__tsan_acquire(guest));
}

static inline void gm_annotate_release(void *guest)
{
	(void)guest;
	GM_TSAN(__tsan_release(guest));
}

#endif
