/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guard.S - copies, fills and atomic accesses that survive a fault (arm64).
 *
 * Copies: x0 destination, x1 source, x2 length, x3 fault; x0 = bytes not copied. Up to 128 bytes x0, x1, x2
 * are still the arguments after a fault. In the loop x0 and x1 stand at the first byte that is not done, and x5
 * is the end of the destination. Stores go upwards: nothing behind a fault was written. After a fault in a wide
 * access the copy goes on byte by byte, which gives the exact count. The handler hands over the address in
 * x16 and the kind in x17. gm_guard_copy_from and gm_guard_copy_to are called by inline functions, so they are
 * exported.
 */
	.section .note.GNU-stack, "", %progbits
	.section .note.gnu.property, "a"
	/* Indirect branches land on bti; no return address is kept. */
	.balign 8
	.long 4, 16, 5
	.asciz "GNU"
	.long 0xc0000000, 4, 3, 0

/*
 * The instruction at \insn may fault; then go to \fixup. "o" keeps the entries as long as the code, which lld's
 * --gc-sections would not.
 */
.macro extable insn, fixup
	.pushsection gm_extable_asm, "ao", %progbits, .Ltext
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

.macro func name, visibility=hidden
	.globl \name
	.\visibility \name
	.type \name, %function
	.balign 64
\name:
	.cfi_startproc
	hint	#34				/* bti c */
.endm

.macro endfunc name
	.cfi_endproc
	.size \name, . - \name
.endm

	.text
.Ltext:

.macro copy name, from, to, visibility
	func \name, \visibility
	add	x4, x1, x2
	add	x5, x0, x2
	cmp	x2, #16
	b.lo	.Lless16_\name
	cmp	x2, #32
	b.hi	.Lmore32_\name
	touch \from, .Lnext_\name, ldr q0, [x1]
	touch \from, .Lnext_\name, ldur q1, [x4, #-16]
	touch \to, .Lnext_\name, str q0, [x0]
	touch \to, .Lnext_\name, stur q1, [x5, #-16]
	mov	x0, #0
	ret

.Lless16_\name:
	cmp	x2, #8
	b.lo	.Lless8_\name
	touch \from, .Lnext_\name, ldr x6, [x1]
	b.eq	.Lequal8_\name
	touch \from, .Lnext_\name, ldur x7, [x4, #-8]
	touch \to, .Lnext_\name, str x6, [x0]
	touch \to, .Lnext_\name, stur x7, [x5, #-8]
	mov	x0, #0
	ret
.Lequal8_\name:
	touch \to, .Lnext_\name, str x6, [x0]
	mov	x0, #0
	ret
.Lless8_\name:
	cmp	x2, #4
	b.lo	.Lless4_\name
	touch \from, .Lnext_\name, ldr w6, [x1]
	b.eq	.Lequal4_\name
	touch \from, .Lnext_\name, ldur w7, [x4, #-4]
	touch \to, .Lnext_\name, str w6, [x0]
	touch \to, .Lnext_\name, stur w7, [x5, #-4]
	mov	x0, #0
	ret
.Lequal4_\name:
	touch \to, .Lnext_\name, str w6, [x0]
	mov	x0, #0
	ret
.Lless4_\name:
	cmp	x2, #2
	b.lo	.Lless2_\name
	touch \from, .Lnext_\name, ldrh w6, [x1]
	b.eq	.Lequal2_\name
	touch \from, .Lnext_\name, ldrb w7, [x1, #2]
	touch \to, .Lnext_\name, strh w6, [x0]
	touch \to, .Lnext_\name, strb w7, [x0, #2]
	mov	x0, #0
	ret
.Lequal2_\name:
	touch \to, .Lnext_\name, strh w6, [x0]
	mov	x0, #0
	ret
.Lless2_\name:
	cbnz	x2, .Lnext_\name
	mov	x0, #0
	ret

.Lmore32_\name:
	cmp	x2, #128
	b.hi	.Llarge_\name
	touch \from, .Lnext_\name, ldp q0, q1, [x1]
	touch \from, .Lnext_\name, ldp q2, q3, [x4, #-32]
	cmp	x2, #64
	b.hi	.Lmore64_\name
	touch \to, .Lnext_\name, stp q0, q1, [x0]
	touch \to, .Lnext_\name, stp q2, q3, [x5, #-32]
	mov	x0, #0
	ret
.Lmore64_\name:
	touch \from, .Lnext_\name, ldp q4, q5, [x1, #32]
	touch \from, .Lnext_\name, ldp q6, q7, [x4, #-64]
	touch \to, .Lnext_\name, stp q0, q1, [x0]
	touch \to, .Lnext_\name, stp q4, q5, [x0, #32]
	touch \to, .Lnext_\name, stp q6, q7, [x5, #-64]
	touch \to, .Lnext_\name, stp q2, q3, [x5, #-32]
	mov	x0, #0
	ret

	.balign 16
.Llarge_\name:
	touch \from, .Lnext_\name, ldr q0, [x1]
	touch \from, .Lnext_\name, ldp q4, q5, [x4, #-64]
	touch \from, .Lnext_\name, ldp q6, q7, [x4, #-32]
	touch \to, .Lnext_\name, str q0, [x0]
	/* Go on at the next multiple of 16 of the destination. */
	sub	x1, x1, x0
	and	x0, x0, #~15
	add	x0, x0, #16
	add	x1, x1, x0
	sub	x7, x5, #64
	.balign 16
.Lloop_\name:
	touch \from, .Lrest_\name, ldp q0, q1, [x1]
	touch \from, .Lrest_\name, ldp q2, q3, [x1, #32]
	touch \to, .Lrest_\name, stp q0, q1, [x0]
	touch \to, .Lrest_\name, stp q2, q3, [x0, #32]
	add	x1, x1, #64
	add	x0, x0, #64
	cmp	x0, x7
	b.lo	.Lloop_\name
	touch \to, .Lrest_\name, stp q4, q5, [x5, #-64]
	touch \to, .Lrest_\name, stp q6, q7, [x5, #-32]
	mov	x0, #0
	ret

	/* A wide access faulted: find the byte. */
.Lrest_\name:
	sub	x2, x5, x0
.Lnext_\name:
	touch \from, .Lfault_\name, ldrb w6, [x1]
	touch \to, .Lfault_\name, strb w6, [x0]
	add	x1, x1, #1
	add	x0, x0, #1
	subs	x2, x2, #1
	b.ne	.Lnext_\name
	mov	x0, #0
	ret
.Lfault_\name:
	mov	x0, x2
	cbz	x3, 1f
	stp	x16, x17, [x3]
1:	ret
	endfunc \name
.endm

	copy gm_guard_copy_from, 1, 0, protected
	copy gm_guard_copy_to, 0, 1, protected
	copy gm_guard_copy_both, 1, 1, hidden

/* x0 destination, w1 byte, x2 length, x3 fault; x0 = bytes not filled. */
	func gm_guard_fill
	and	x1, x1, #255
	mov	x4, #0x0101010101010101
	mul	x1, x1, x4
	add	x5, x0, x2
	cmp	x2, #16
	b.lo	.Lfill_less16
	dup	v0.2d, x1
	touch 1, .Lfill_next, str q0, [x0]
	cmp	x2, #32
	b.ls	.Lfill_tail
	and	x0, x0, #~15
	add	x0, x0, #16
	sub	x7, x5, #32
	cmp	x0, x7
	b.hi	.Lfill_one
	.balign 16
.Lfill_loop:
	touch 1, .Lfill_rest, stp q0, q0, [x0]
	add	x0, x0, #32
	cmp	x0, x7
	b.ls	.Lfill_loop
.Lfill_one:
	sub	x7, x5, #16
	cmp	x0, x7
	b.hi	.Lfill_tail
	touch 1, .Lfill_rest, str q0, [x0]
	add	x0, x0, #16
.Lfill_tail:
	/* The last bytes, and some before them once more. */
	touch 1, .Lfill_rest, stur q0, [x5, #-16]
	mov	x0, #0
	ret
.Lfill_less16:
	cmp	x2, #8
	b.lo	.Lfill_less8
	touch 1, .Lfill_next, str x1, [x0]
	b.eq	.Lfill_done
	touch 1, .Lfill_next, stur x1, [x5, #-8]
.Lfill_done:
	mov	x0, #0
	ret
.Lfill_less8:
	cmp	x2, #4
	b.lo	.Lfill_less4
	touch 1, .Lfill_next, str w1, [x0]
	b.eq	.Lfill_done
	touch 1, .Lfill_next, stur w1, [x5, #-4]
	mov	x0, #0
	ret
.Lfill_less4:
	cmp	x2, #2
	b.lo	.Lfill_less2
	touch 1, .Lfill_next, strh w1, [x0]
	b.eq	.Lfill_done
	touch 1, .Lfill_next, strb w1, [x0, #2]
	mov	x0, #0
	ret
.Lfill_less2:
	cbz	x2, .Lfill_done
	b	.Lfill_next

.Lfill_rest:
	sub	x2, x5, x0
.Lfill_next:
	touch 1, .Lfill_fault, strb w1, [x0]
	add	x0, x0, #1
	subs	x2, x2, #1
	b.ne	.Lfill_next
	mov	x0, #0
	ret
.Lfill_fault:
	stp	x16, x17, [x3]
	mov	x0, x2
	ret
	endfunc gm_guard_fill

/*
 * int gm_guard_{xchg,xadd}_N(void *guest, uint64_t value, uint64_t *ret_old, struct gm_guard_fault *fault)
 * int gm_guard_cmpxchg_N(void *guest, uint64_t *expected, uint64_t desired, struct gm_guard_fault *fault)
 *
 * A store that begins with acquire and ends with release on the same address is sequentially consistent enough
 * for C11, as compilers do it.
 */
	.balign 16
	.type rmw_fault, %function
rmw_fault:
	.cfi_startproc
	stp	x16, x17, [x3]
	mov	w0, #-1
	ret
	.cfi_endproc
	.size rmw_fault, . - rmw_fault

.macro rmw size, suffix, r, mask:vararg
	func gm_guard_xchg_\size
1:	touch 1, rmw_fault, ldaxr\suffix \r\()4, [x0]
	touch 1, rmw_fault, stlxr\suffix w5, \r\()1, [x0]
	cbnz	w5, 1b
	str	x4, [x2]
	mov	w0, #0
	ret
	endfunc gm_guard_xchg_\size

	func gm_guard_xadd_\size
1:	touch 1, rmw_fault, ldaxr\suffix \r\()4, [x0]
	add	x6, x4, x1
	touch 1, rmw_fault, stlxr\suffix w5, \r\()6, [x0]
	cbnz	w5, 1b
	str	x4, [x2]
	mov	w0, #0
	ret
	endfunc gm_guard_xadd_\size

	func gm_guard_cmpxchg_\size
	ldr	x6, [x1]
	\mask
1:	touch 1, rmw_fault, ldaxr\suffix \r\()4, [x0]
	cmp	x4, x6
	b.ne	2f
	touch 1, rmw_fault, stlxr\suffix w5, \r\()2, [x0]
	cbnz	w5, 1b
	mov	w0, #1
	ret
2:	clrex
	dmb	ish
	str	x4, [x1]
	mov	w0, #0
	ret
	endfunc gm_guard_cmpxchg_\size
.endm

	rmw 1, b, w, and x6, x6, #0xff
	rmw 2, h, w, and x6, x6, #0xffff
	rmw 4, , w, mov w6, w6
	rmw 8, , x

/*
 * int gm_guard_cmpxchg_16(void *guest, uint64_t expected[2], const uint64_t desired[2], struct gm_guard_fault *fault)
 *
 * That both halves were loaded at once is sure only when a store has succeeded, so what was there is stored again
 * if it is not what was expected.
 */
	func gm_guard_cmpxchg_16
	ldp	x6, x7, [x1]
	ldp	x8, x9, [x2]
1:	touch 1, rmw_fault, ldaxp x4, x10, [x0]
	cmp	x4, x6
	ccmp	x10, x7, #0, eq
	csel	x11, x8, x4, eq
	csel	x12, x9, x10, eq
	touch 1, rmw_fault, stlxp w5, x11, x12, [x0]
	cbnz	w5, 1b
	stp	x4, x10, [x1]
	cset	w0, eq
	ret
	endfunc gm_guard_cmpxchg_16
