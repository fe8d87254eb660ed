/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.S - copies, fills and atomic accesses that survive a fault (x86-64).
 *
 * The bodies are in copy.inc, included once for each vector width; gm_guard_copy_* and gm_guard_fill choose
 * among them when the library is loaded (ifunc), so that there is neither a constructor nor a variable of ours.
 * After a fault in a wide access the copy goes on byte by byte, which gives the exact count. The handler hands
 * over the address in r10 and the kind in r11.
 */
#include <features.h>

	.section .note.GNU-stack, "", @progbits
	.section .note.gnu.property, "a"
	/* Indirect branches land on endbr64; shadow stacks are undisturbed. */
	.balign 8
	.long 4, 16, 5
	.asciz "GNU"
	.long 0xc0000002, 4, 3, 0

/*
 * The instruction at \insn may fault; then go to \fixup. "o" keeps the entries as long as the code, which lld's
 * --gc-sections would not.
 */
.macro extable insn, fixup
	.pushsection gm_extable_asm, "ao", @progbits, .Ltext
	.balign 4
	.long \insn - ., \fixup - .
	.popsection
.endm

/* An instruction that touches guest memory if \guest is 1. */
.macro touch guest, fixup, insn:vararg
	.if \guest
.Ltouch\@:
	\insn
	extable .Ltouch\@, \fixup
	.else
	\insn
	.endif
.endm

.macro func name
	.globl \name
	.hidden \name
	.type \name, @function
	.balign 64
\name:
	.cfi_startproc
	endbr64
.endm

.macro endfunc name
	.cfi_endproc
	.size \name, . - \name
.endm

	.text
.Ltext:

#define NAME(x) x##_sse2
#define VEC 16
#define MOVU movups
#define MOVA movaps
#define V0 %xmm0
#define V1 %xmm1
#define V2 %xmm2
#define V3 %xmm3
#define V4 %xmm4
#define V5 %xmm5
#define V6 %xmm6
#define V7 %xmm7
#define X0 %xmm0
#define X1 %xmm1
#define MOVX movups
#define CLEAN
#define SPREAD movq %rsi, %xmm0; punpcklqdq %xmm0, %xmm0
#include "copy.inc"

#define NAME(x) x##_avx2
#define VEC 32
#define MOVU vmovdqu
#define MOVA vmovdqa
#define V0 %ymm0
#define V1 %ymm1
#define V2 %ymm2
#define V3 %ymm3
#define V4 %ymm4
#define V5 %ymm5
#define V6 %ymm6
#define V7 %ymm7
#define X0 %xmm0
#define X1 %xmm1
#define MOVX vmovdqu
#define CLEAN vzeroupper
#define SPREAD vmovq %rsi, %xmm0; vpbroadcastq %xmm0, %ymm0
#include "copy.inc"

/* Registers 16 to 23 leave the upper halves of 0 to 15 clean: no vzeroupper. */
#define NAME(x) x##_avx512
#define VEC 64
#define MOVU vmovdqu64
#define MOVA vmovdqa64
#define V0 %zmm16
#define V1 %zmm17
#define V2 %zmm18
#define V3 %zmm19
#define V4 %zmm20
#define V5 %zmm21
#define V6 %zmm22
#define V7 %zmm23
#define X0 %xmm16
#define X1 %xmm17
#define Y0 %ymm16
#define Y1 %ymm17
#define MOVX vmovdqu64
#define CLEAN
#define SPREAD vpbroadcastq %rsi, %zmm16
/*
 * From here the machine's own copy is quicker: both sides together fill the first cache. All that have AVX-512
 * have it.
 */
#define REP 32768
#include "copy.inc"

#ifdef __GLIBC__
/*
 * eax = 0, 1 or 2: SSE2, AVX2, AVX-512 (F, BW, VL), as CPU and kernel allow. The last is for AMD only: elsewhere
 * the widest vectors may cost clock, and the C library keeps off them too. Resolvers run before anything is set
 * up, so they are written without C.
 */
	.type cpu_level, @function
cpu_level:
	.cfi_startproc
	push	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	xor	%esi, %esi
	xor	%eax, %eax
	cpuid
	cmp	$7, %eax
	jb	1f
	mov	%ebx, %r8d			/* "Auth" for AMD */
	mov	$1, %eax
	xor	%ecx, %ecx
	cpuid
	and	$0x18000000, %ecx		/* OSXSAVE, AVX */
	cmp	$0x18000000, %ecx
	jne	1f
	xor	%ecx, %ecx
	xgetbv
	mov	%eax, %edi
	and	$6, %eax			/* SSE and AVX state */
	cmp	$6, %eax
	jne	1f
	mov	$7, %eax
	xor	%ecx, %ecx
	cpuid
	test	$0x20, %ebx			/* AVX2 */
	jz	1f
	mov	$1, %esi
	cmp	$0x68747541, %r8d
	jne	1f
	and	$0xe6, %edi			/* opmask and the upper registers */
	cmp	$0xe6, %edi
	jne	1f
	and	$0xc0010000, %ebx		/* AVX512VL, BW, F */
	cmp	$0xc0010000, %ebx
	jne	1f
	mov	$2, %esi
1:	mov	%esi, %eax
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbx
	ret
	.cfi_endproc
	.size cpu_level, . - cpu_level

/* gm_guard_copy_from and gm_guard_copy_to are called by inline functions, so they are exported. */
.macro choose name, visibility=hidden
	.globl \name
	.\visibility \name
	.type \name, @gnu_indirect_function
	.balign 16
\name:
	.cfi_startproc
	endbr64
	call	cpu_level
	lea	\name\()_sse2(%rip), %rdx
	lea	\name\()_avx2(%rip), %rcx
	lea	\name\()_avx512(%rip), %rsi
	cmp	$1, %eax
	cmove	%rcx, %rdx
	cmova	%rsi, %rdx
	mov	%rdx, %rax
	ret
	.cfi_endproc
	.size \name, . - \name
.endm
#else
/* A C library without ifunc gets the version that runs everywhere. */
.macro choose name, visibility=hidden
	.globl \name
	.\visibility \name
	.set \name, \name\()_sse2
.endm
#endif

	choose gm_guard_copy_from, protected
	choose gm_guard_copy_to, protected
	choose gm_guard_copy_both
	choose gm_guard_fill

/*
 * int gm_guard_{xchg,xadd}_N(void *guest, uint64_t value, uint64_t *ret_old, struct gm_guard_fault *fault)
 * int gm_guard_cmpxchg_N(void *guest, uint64_t *expected, uint64_t desired, struct gm_guard_fault *fault)
 */
	.balign 16
	.type rmw_fault, @function
rmw_fault:
	.cfi_startproc
	mov	%r10, (%rcx)
	mov	%r11, 8(%rcx)
	mov	$-1, %eax
	ret
	.cfi_endproc
	.size rmw_fault, . - rmw_fault

.macro rmw size, a, si, dx, widen:vararg
	func gm_guard_xchg_\size
	mov	%rsi, %rax
	touch 1, rmw_fault, xchg \a, (%rdi)
	\widen
	mov	%rax, (%rdx)
	xor	%eax, %eax
	ret
	endfunc gm_guard_xchg_\size

	func gm_guard_xadd_\size
	mov	%rsi, %rax
	touch 1, rmw_fault, lock xadd \a, (%rdi)
	\widen
	mov	%rax, (%rdx)
	xor	%eax, %eax
	ret
	endfunc gm_guard_xadd_\size

	func gm_guard_cmpxchg_\size
	mov	(%rsi), %rax
	touch 1, rmw_fault, lock cmpxchg \dx, (%rdi)
	sete	%r8b
	\widen
	mov	%rax, (%rsi)
	movzbl	%r8b, %eax
	ret
	endfunc gm_guard_cmpxchg_\size
.endm

	rmw 1, %al, %sil, %dl, movzbl %al, %eax
	rmw 2, %ax, %si, %dx, movzwl %ax, %eax
	rmw 4, %eax, %esi, %edx, mov %eax, %eax
	rmw 8, %rax, %rsi, %rdx

/*
 * int gm_guard_cmpxchg_16(void *guest, uint64_t expected[2], const uint64_t desired[2], struct gm_guard_fault *fault)
 *
 * The first processors of this architecture did not have the instruction; -2 there, and with a C library that
 * cannot choose.
 */
	func cmpxchg_16_here
	mov	%rbx, %r8
	.cfi_register rbx, r8
	mov	%rcx, %r9
	mov	(%rdx), %rbx
	mov	8(%rdx), %rcx
	mov	(%rsi), %rax
	mov	8(%rsi), %rdx
	touch 1, .Lcmpxchg_16_fault, lock cmpxchg16b (%rdi)
	mov	%rax, (%rsi)
	mov	%rdx, 8(%rsi)
	mov	%r8, %rbx
	sete	%al
	movzbl	%al, %eax
	ret
.Lcmpxchg_16_fault:
	mov	%r8, %rbx
	mov	%r9, %rcx
	jmp	rmw_fault
	endfunc cmpxchg_16_here

	func cmpxchg_16_none
	mov	$-2, %eax
	ret
	endfunc cmpxchg_16_none

	.globl gm_guard_cmpxchg_16
	.hidden gm_guard_cmpxchg_16
#ifdef __GLIBC__
	.type gm_guard_cmpxchg_16, @gnu_indirect_function
	.balign 16
gm_guard_cmpxchg_16:
	.cfi_startproc
	endbr64
	push	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset rbx, -16
	mov	$1, %eax
	cpuid
	lea	cmpxchg_16_here(%rip), %rax
	lea	cmpxchg_16_none(%rip), %rdx
	test	$0x2000, %ecx			/* CMPXCHG16B */
	cmovz	%rdx, %rax
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbx
	ret
	.cfi_endproc
	.size gm_guard_cmpxchg_16, . - gm_guard_cmpxchg_16
#else
	.set gm_guard_cmpxchg_16, cmpxchg_16_none
#endif
