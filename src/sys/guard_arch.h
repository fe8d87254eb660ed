/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard_arch.h - the machine part of the handler: where a thread was, and how it goes on.
 *
 * In machine code the address and the kind of the fault travel to the fix-up in two registers that
 * the assembly keeps free (x86-64: r10, r11; arm64: x16, x17). Fix-ups of inline accesses expect
 * nothing. The generic form has no program counter to look up; it leaves the faulting access by
 * siglongjmp.
 */
#ifndef GM_SYS_GUARD_ARCH_H
#define GM_SYS_GUARD_ARCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#if defined(GM_GUARD_GENERIC) || (!defined(__x86_64__) && !defined(__aarch64__))
#define GM_GUARD_ASM 0

/* Does not return if the fault belongs to a guarded access of this thread. @count is raised before.
 */
void gm_guard_generic_fault(const siginfo_t *info, const ucontext_t *uc, _Atomic uint64_t *count);

#elif defined(__x86_64__)
#define GM_GUARD_ASM 1

static inline uintptr_t gm_arch_pc(const ucontext_t *uc)
{
	return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
}

static inline void gm_arch_resume(ucontext_t *uc, uintptr_t pc)
{
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
}

static inline void gm_arch_tell(ucontext_t *uc, uint64_t addr, uint64_t kind)
{
	uc->uc_mcontext.gregs[REG_R10] = (greg_t)addr;
	uc->uc_mcontext.gregs[REG_R11] = (greg_t)kind;
}

#else
#define GM_GUARD_ASM 1

static inline uintptr_t gm_arch_pc(const ucontext_t *uc)
{
	return uc->uc_mcontext.pc;
}

static inline void gm_arch_resume(ucontext_t *uc, uintptr_t pc)
{
	uc->uc_mcontext.pc = pc;
}

static inline void gm_arch_tell(ucontext_t *uc, uint64_t addr, uint64_t kind)
{
	uc->uc_mcontext.regs[16] = addr;
	uc->uc_mcontext.regs[17] = kind;
}

#endif

#endif
