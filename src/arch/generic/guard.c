/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.c - the guarded accesses in C, left by siglongjmp when they fault.
 *
 * For CPUs without assembly, and for -Dguard=generic. Each access first says which host addresses
 * it is about to touch; the handler of sys/guard.c asks gm_guard_generic_fault() whether a fault
 * lies there. The accesses are volatile and in rising order, word by word where both sides are
 * aligned alike, so that their progress is known to the byte; a number in one.
 *
 * The variable is thread-local in the static block (initial-exec), because the handler reads it and
 * must not make the loader allocate it.
 */
#include "sys/guard.h"

#include <setjmp.h>
#include <stdatomic.h>

#include "sys/guard_arch.h"

/* One guarded access of this thread; @outer is one that a signal handler interrupted. */
struct frame {
	sigjmp_buf env;
	struct frame *outer;
	uintptr_t start[2]; /* guest memory that it touches; the second with length 0 for most */
	size_t len[2];
	volatile size_t done;
	struct gm_guard_fault fault;
};

static __thread struct frame *volatile current __attribute__((tls_model("initial-exec")));

typedef volatile uint8_t __attribute__((may_alias)) raw8;
typedef volatile uint16_t __attribute__((may_alias)) raw16;
typedef volatile uint32_t __attribute__((may_alias)) raw32;
typedef volatile uint64_t __attribute__((may_alias)) raw64;

static bool is_inside(const struct frame *frame, uintptr_t addr)
{
	return addr - frame->start[0] < frame->len[0] || addr - frame->start[1] < frame->len[1];
}

void gm_guard_generic_fault(const siginfo_t *info, const ucontext_t *uc, _Atomic uint64_t *count)
{
	struct frame *frame = current;

	if (!frame || !is_inside(frame, (uintptr_t)info->si_addr))
		return;
	frame->fault = (struct gm_guard_fault){
		.addr = (uintptr_t)info->si_addr,
		.signo = info->si_signo,
		.code = info->si_code,
	};
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	/* siglongjmp() would restore the mask only if sigsetjmp() had saved it, by a system call.
	 */
	pthread_sigmask(SIG_SETMASK, &uc->uc_sigmask, NULL);
	siglongjmp(frame->env, 1);
}

static void resume(struct frame *frame)
{
	frame->done = 0;
	frame->outer = current;
	current = frame;
	/* The handler runs in this thread: order for the compiler is enough. */
	atomic_signal_fence(memory_order_seq_cst);
}

static void enter(struct frame *frame, const void *guest, size_t len)
{
	frame->start[0] = (uintptr_t)guest;
	frame->len[0] = len;
	frame->start[1] = 0;
	frame->len[1] = 0;
	resume(frame);
}

static void leave(struct frame *frame)
{
	atomic_signal_fence(memory_order_seq_cst);
	current = frame->outer;
}

/* Runs the statement as the guarded access of @frame; true if it came to its end. */
#define GUARDED(frame, statement)                                                                  \
	(sigsetjmp((frame)->env, 0) ? (leave(frame), false) : ({                                   \
		statement;                                                                         \
		leave(frame);                                                                      \
		true;                                                                              \
	}))

/*
 * Guest memory changes under our hands by design; TSan would say so. And a fault inside its
 * run-time, where it would make atomic accesses, would leave that locked.
 */
#ifdef __clang__
#define RACY __attribute__((noinline, disable_sanitizer_instrumentation))
#else
#define RACY __attribute__((noinline, no_sanitize("thread")))
#endif

static bool is_single(size_t len)
{
	return len && len <= 8 && (len & (len - 1)) == 0;
}

/* One access where the address allows it. */
RACY static uint64_t load_one(const void *src, size_t len)
{
	uint64_t value = 0;

	if ((uintptr_t)src % len) {
		for (size_t i = 0; i < len; i++)
			((uint8_t *)&value)[i] = ((const raw8 *)src)[i];
		return value;
	}
	switch (len) {
	case 1:
		*(raw8 *)&value = *(const raw8 *)src;
		break;
	case 2:
		*(raw16 *)&value = *(const raw16 *)src;
		break;
	case 4:
		*(raw32 *)&value = *(const raw32 *)src;
		break;
	default:
		value = *(const raw64 *)src;
		break;
	}
	return value;
}

RACY static void store_one(void *dst, uint64_t value, size_t len)
{
	if ((uintptr_t)dst % len) {
		for (size_t i = 0; i < len; i++)
			((raw8 *)dst)[i] = ((const uint8_t *)&value)[i];
		return;
	}
	switch (len) {
	case 1:
		*(raw8 *)dst = *(const raw8 *)&value;
		break;
	case 2:
		*(raw16 *)dst = *(const raw16 *)&value;
		break;
	case 4:
		*(raw32 *)dst = *(const raw32 *)&value;
		break;
	default:
		*(raw64 *)dst = value;
		break;
	}
}

RACY static void copy(uint8_t *dst, const uint8_t *src, size_t len, volatile size_t *done)
{
	size_t at = 0;

	while (at < len) {
		if (((uintptr_t)(dst + at) | (uintptr_t)(src + at)) % 8 == 0 && len - at >= 8) {
			*(raw64 *)(void *)(dst + at) = *(const raw64 *)(const void *)(src + at);
			at += 8;
		} else {
			*(raw8 *)(dst + at) = *(const raw8 *)(src + at);
			at++;
		}
		*done = at;
	}
}

/*
 * A number is one access on each side where it is aligned, whatever the other one is. If that faults
 * the bytes are counted, as by the assembly.
 */
static size_t copy_guarded(
	void *dst, const void *src, size_t len, struct frame *frame, struct gm_guard_fault *fault)
{
	if (is_single(len)) {
		if (GUARDED(frame, store_one(dst, load_one(src, len), len)))
			return 0;
		resume(frame);
	}
	if (GUARDED(frame, copy(dst, src, len, &frame->done)))
		return 0;
	if (fault)
		*fault = frame->fault;
	return len - frame->done;
}

size_t gm_guard_copy_from(
	void *dst, const void *guest_src, size_t len, struct gm_guard_fault *fault)
{
	struct frame frame;

	enter(&frame, guest_src, len);
	return copy_guarded(dst, guest_src, len, &frame, fault);
}

size_t gm_guard_copy_to(void *guest_dst, const void *src, size_t len, struct gm_guard_fault *fault)
{
	struct frame frame;

	enter(&frame, guest_dst, len);
	return copy_guarded(guest_dst, src, len, &frame, fault);
}

size_t gm_guard_copy_both(
	void *guest_dst, const void *guest_src, size_t len, struct gm_guard_fault *fault)
{
	struct frame frame;

	enter(&frame, guest_dst, len);
	frame.start[1] = (uintptr_t)guest_src;
	frame.len[1] = len;
	return copy_guarded(guest_dst, guest_src, len, &frame, fault);
}

RACY static void fill(uint8_t *dst, uint8_t byte, size_t len, volatile size_t *done)
{
	uint64_t word = byte * UINT64_C(0x0101010101010101);
	size_t at = 0;

	if (is_single(len) && (uintptr_t)dst % len == 0) {
		store_one(dst, word, len);
		return;
	}
	while (at < len) {
		if ((uintptr_t)(dst + at) % 8 == 0 && len - at >= 8) {
			*(raw64 *)(void *)(dst + at) = word;
			at += 8;
		} else {
			*(raw8 *)(dst + at) = byte;
			at++;
		}
		*done = at;
	}
}

size_t gm_guard_fill(void *guest_dst, int byte, size_t len, struct gm_guard_fault *fault)
{
	struct frame frame;

	enter(&frame, guest_dst, len);
	if (GUARDED(&frame, fill(guest_dst, (uint8_t)byte, len, &frame.done)))
		return 0;
	*fault = frame.fault;
	return len - frame.done;
}

/* ---- atomic read-modify-write, by the compiler's builtins ---- */

#define RMW_BITS(bits)                                                                             \
	RACY static uint64_t rmw_u##bits(enum gm_guard_op op, raw##bits *p, uint64_t value)        \
	{                                                                                          \
		uint##bits##_t v = (uint##bits##_t)value;                                          \
                                                                                                   \
		switch (op) {                                                                      \
		case GM_GUARD_ADD:                                                                 \
			return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                         \
		case GM_GUARD_AND:                                                                 \
			return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST);                         \
		case GM_GUARD_OR:                                                                  \
			return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST);                          \
		case GM_GUARD_XOR:                                                                 \
			return __atomic_fetch_xor(p, v, __ATOMIC_SEQ_CST);                         \
		case GM_GUARD_XCHG:                                                                \
			break;                                                                     \
		}                                                                                  \
		return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                \
	}                                                                                          \
	RACY static bool cmpxchg_u##bits(raw##bits *p, uint64_t *expected, uint64_t desired)       \
	{                                                                                          \
		uint##bits##_t want = (uint##bits##_t) * expected;                                 \
		bool ok = __atomic_compare_exchange_n(p, &want, (uint##bits##_t)desired, false,    \
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                       \
                                                                                                   \
		*expected = want;                                                                  \
		return ok;                                                                         \
	}

RMW_BITS(8)
RMW_BITS(16)
RMW_BITS(32)
RMW_BITS(64)

static uint64_t rmw(enum gm_guard_op op, void *guest, size_t size, uint64_t value)
{
	switch (size) {
	case 1:
		return rmw_u8(op, guest, value);
	case 2:
		return rmw_u16(op, guest, value);
	case 4:
		return rmw_u32(op, guest, value);
	default:
		return rmw_u64(op, guest, value);
	}
}

static bool cmpxchg(void *guest, size_t size, uint64_t *expected, uint64_t desired)
{
	switch (size) {
	case 1:
		return cmpxchg_u8(guest, expected, desired);
	case 2:
		return cmpxchg_u16(guest, expected, desired);
	case 4:
		return cmpxchg_u32(guest, expected, desired);
	default:
		return cmpxchg_u64(guest, expected, desired);
	}
}

int gm_guard_rmw(enum gm_guard_op op, void *guest, size_t size, uint64_t value, uint64_t *ret_old,
	struct gm_guard_fault *fault)
{
	struct frame frame;

	enter(&frame, guest, size);
	if (GUARDED(&frame, *ret_old = rmw(op, guest, size, value)))
		return 0;
	*fault = frame.fault;
	return -1;
}

int gm_guard_cmpxchg(void *guest, size_t size, uint64_t *expected, uint64_t desired,
	struct gm_guard_fault *fault)
{
	struct frame frame;
	volatile bool exchanged = false;

	enter(&frame, guest, size);
	if (GUARDED(&frame, exchanged = cmpxchg(guest, size, expected, desired)))
		return exchanged;
	*fault = frame.fault;
	return -1;
}

/* The compiler's builtin may take a lock that the guest does not. */
int gm_guard_cmpxchg_16(
	void *guest, uint64_t expected[2], const uint64_t desired[2], struct gm_guard_fault *fault)
{
	(void)guest;
	(void)expected;
	(void)desired;
	(void)fault;
	return -2;
}
