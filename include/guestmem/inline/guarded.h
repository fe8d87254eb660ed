/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inline/guarded.h - single loads and stores that survive a fault. Not for direct use.
 *
 * Each access is one instruction with an entry in the section gm_extable: where it is and where to
 * go on when it faults, as distances from the entry. The linker joins the entries of a program or
 * library between __start_gm_extable and __stop_gm_extable; readers and the guard hand them to the
 * library.
 *
 * The section flags: "o" ties an entry to the section of its instruction, so that both are kept or
 * dropped by
 * --gc-sections (lld would drop the entries alone), "?" puts it into the group of an inline
 * function that the linker merges.
 *
 * GM_GUARDED is 1 where these exist. gm_guarded_{load,store}_u{8,16,32,64}(pointer, value, order)
 * return 1, or 0 after a fault, with nothing loaded or stored. @order is a constant __ATOMIC_*
 * value; a relaxed access orders nothing but is still single when it is aligned.
 */
#ifndef GUESTMEM_INLINE_GUARDED_H
#define GUESTMEM_INLINE_GUARDED_H

#include <stdint.h>

#include <guestmem/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Absent, therefore NULL, in a program without guarded accesses. */
extern const char __start_gm_extable[] __attribute__((weak, visibility("hidden")));
extern const char __stop_gm_extable[] __attribute__((weak, visibility("hidden")));

/* Sanitizer builds of the library also go the way that tells the sanitizer about the caller's
 * buffers. */
#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(GM_GUARD_GENERIC) &&                 \
	!defined(GM_SANITIZED) && (defined(__clang__) || __GNUC__ >= 11) &&                        \
	(!defined(GM_NO_INLINE) || defined(GM_BUILD_INLINE))
#define GM_GUARDED 1
#else
#define GM_GUARDED 0
#endif

#if GM_GUARDED

#define GM_INLINE_ONLY static inline __attribute__((unused, always_inline))

/* Guest memory is not what the compiler thinks the bytes behind a pointer are. */
typedef uint8_t __attribute__((may_alias)) gm_guest_u8;
typedef uint16_t __attribute__((may_alias, aligned(1))) gm_guest_u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) gm_guest_u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) gm_guest_u64;

/* Around the one instruction of an asm goto; the label "fault" is in the function. */
#define GM_INSN(insn)                                                                              \
	".Lgm_insn_%=:\n\t" insn "\n\t"                                                            \
	".pushsection gm_extable, \"ao?\", @progbits, .Lgm_insn_%=\n\t"                            \
	".balign 4\n\t"                                                                            \
	".long .Lgm_insn_%= - ., %l[fault] - .\n\t"                                                \
	".popsection\n\t"

/*
 * The empty statement behind each asm goto with outputs keeps GCC 11 to 13 from storing an output
 * on the wrong edge (GCC bug 113921). Loads name what they read and stores clobber memory, so that
 * the compiler does not move accesses to the same bytes by other names across them.
 */
#define GM_DEFINE_LOAD(name, bits, insn, constraint, ...)                                          \
	GM_INLINE_ONLY int gm_load_##name##_u##bits(const void *ptr, uint##bits##_t *ret)          \
	{                                                                                          \
		uint##bits##_t value;                                                              \
		__asm__ volatile goto(GM_INSN(insn)                                                \
				      : [value] "=r"(value)                                        \
				      : [guest] constraint(*(const gm_guest_u##bits *)ptr)         \
				      : __VA_ARGS__                                                \
				      : fault);                                                    \
		__asm__("");                                                                       \
		*ret = value;                                                                      \
		return 1;                                                                          \
	fault:                                                                                     \
		return 0;                                                                          \
	}

#define GM_DEFINE_STORE(name, bits, insn, constraint, after)                                       \
	GM_INLINE_ONLY int gm_store_##name##_u##bits(void *ptr, uint##bits##_t value)              \
	{                                                                                          \
		__asm__ volatile goto(                                                             \
			GM_INSN(insn) after                                                        \
			:                                                                          \
			: [value] "r"(value), [guest] constraint(*(gm_guest_u##bits *)ptr)         \
			: "memory", "cc"                                                           \
			: fault);                                                                  \
		return 1;                                                                          \
	fault:                                                                                     \
		return 0;                                                                          \
	}

/* gm_guarded_load_uN() and gm_guarded_store_uN(): by order. */
#define GM_DEFINE_GUARDED(bits)                                                                    \
	GM_INLINE_ONLY int gm_guarded_load_u##bits(                                                \
		const void *ptr, uint##bits##_t *ret, int order)                                   \
	{                                                                                          \
		return order == __ATOMIC_RELAXED ? gm_load_relaxed_u##bits(ptr, ret)               \
						 : gm_load_acquire_u##bits(ptr, ret);              \
	}                                                                                          \
	GM_INLINE_ONLY int gm_guarded_store_u##bits(void *ptr, uint##bits##_t value, int order)    \
	{                                                                                          \
		if (order == __ATOMIC_RELAXED)                                                     \
			return gm_store_relaxed_u##bits(ptr, value);                               \
		if (order == __ATOMIC_RELEASE)                                                     \
			return gm_store_release_u##bits(ptr, value);                               \
		return gm_store_seq_cst_u##bits(ptr, value);                                       \
	}

#if defined(__x86_64__)

/*
 * Each load is an acquire and each store a release; only a sequentially consistent store needs a
 * fence, for which a locked addition of 0 to the stack is the quickest. Narrow loads fill the
 * register, so that they do not wait for its old value.
 */
#define GM_FENCE "lock addl $0, -4(%%rsp)\n\t"
#define GM_DEFINE_WIDTH(bits, load, store)                                                         \
	GM_DEFINE_LOAD(relaxed, bits, load, "m", "cc")                                             \
	GM_DEFINE_LOAD(acquire, bits, load, "m", "memory")                                         \
	GM_DEFINE_STORE(relaxed, bits, store, "m", "")                                             \
	GM_DEFINE_STORE(release, bits, store, "m", "")                                             \
	GM_DEFINE_STORE(seq_cst, bits, store, "m", GM_FENCE)                                       \
	GM_DEFINE_GUARDED(bits)

GM_DEFINE_WIDTH(8, "movzbl %[guest], %k[value]", "movb %b[value], %[guest]")
GM_DEFINE_WIDTH(16, "movzwl %[guest], %k[value]", "movw %w[value], %[guest]")
GM_DEFINE_WIDTH(32, "movl %[guest], %k[value]", "movl %k[value], %[guest]")
GM_DEFINE_WIDTH(64, "movq %[guest], %q[value]", "movq %q[value], %[guest]")

#undef GM_FENCE

#else /* arm64 */

/* Load-acquire and store-release, which are sequentially consistent among each other, take a plain
 * address (Q). */
#define GM_DEFINE_WIDTH(bits, w, s)                                                                \
	GM_DEFINE_LOAD(relaxed, bits, "ldr" s " %" w "[value], %[guest]", "m", "cc")               \
	GM_DEFINE_LOAD(acquire, bits, "ldar" s " %" w "[value], %[guest]", "Q", "memory")          \
	GM_DEFINE_STORE(relaxed, bits, "str" s " %" w "[value], %[guest]", "m", "")                \
	GM_DEFINE_STORE(release, bits, "stlr" s " %" w "[value], %[guest]", "Q", "")               \
	GM_DEFINE_STORE(seq_cst, bits, "stlr" s " %" w "[value], %[guest]", "Q", "")               \
	GM_DEFINE_GUARDED(bits)

GM_DEFINE_WIDTH(8, "w", "b")
GM_DEFINE_WIDTH(16, "w", "h")
GM_DEFINE_WIDTH(32, "w", "")
GM_DEFINE_WIDTH(64, "x", "")

#endif

#undef GM_DEFINE_WIDTH
#undef GM_DEFINE_GUARDED
#undef GM_DEFINE_STORE
#undef GM_DEFINE_LOAD
#undef GM_INSN

#endif /* GM_GUARDED */

#ifdef __cplusplus
}
#endif

#endif
