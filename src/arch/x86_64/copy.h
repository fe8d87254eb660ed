/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy.h - the copies and the fill for one vector width. Included by guard.S, once for each.
 *
 * Copies: rdi destination, rsi source, rdx length, rcx fault; rax = bytes not copied. Up to eight
 * vectors rdi, rsi, rdx are still the arguments after a fault. In the loop rdi and rsi stand at the
 * first byte that is not done, and r8 is the end of the destination. Stores go upwards: nothing
 * behind a fault was written.
 */
.macro NAME(copy) name, from, to func \name cmp $(2 * VEC), % rdx ja.Lmore_\name cmp $VEC,
	% rdx jb.Lless_\name touch \from, .Lbytes_\name, MOVU(% rsi), V0 touch \from,
	.Lbytes_\name, MOVU - VEC(% rsi, % rdx), V1 touch \to, .Lbytes_\name, MOVU V0,
	(% rdi) touch \to, .Lbytes_\name, MOVU V1, -VEC(% rdi, % rdx) xor % eax,
	% eax CLEAN ret

			.balign 16.Lless_\name :
#if VEC > 32
    cmp $32,
	% edx jb.Lless32_\name touch \from, .Lbytes_\name, MOVU(% rsi), Y0 touch \from,
	.Lbytes_\name, MOVU - 32(% rsi, % rdx), Y1 touch \to, .Lbytes_\name, MOVU Y0,
	(% rdi) touch \to, .Lbytes_\name, MOVU Y1, -32(% rdi, % rdx) xor % eax,
	% eax ret.Lless32_\name :
#endif
#if VEC > 16
    cmp $16,
	% edx jb.Lless16_\name touch \from, .Lbytes_\name, MOVX(% rsi), X0 touch \from,
	.Lbytes_\name, MOVX - 16(% rsi, % rdx), X1 touch \to, .Lbytes_\name, MOVX X0,
	(% rdi) touch \to, .Lbytes_\name, MOVX X1, -16(% rdi, % rdx) xor % eax,
	% eax ret.Lless16_\name :
#endif
    cmp $8,
	% edx jb.Lless8_\name je.Lequal8_\name touch \from, .Lbytes_\name, mov(% rsi),
	% r8 touch \from, .Lbytes_\name, mov - 8(% rsi, % rdx), % r9 touch \to,
	.Lbytes_\name, mov % r8, (% rdi) touch \to, .Lbytes_\name, mov % r9,
	-8(% rdi, % rdx) xor % eax, % eax ret.Lequal8_\name : touch \from, .Lbytes_\name,
	mov(% rsi), % r8 touch \to, .Lbytes_\name, mov % r8, (% rdi) xor % eax,
	% eax ret.Lless8_\name : cmp $4, % edx jb.Lless4_\name je.Lequal4_\name touch \from,
	.Lbytes_\name, mov(% rsi), % r8d touch \from, .Lbytes_\name, mov - 4(% rsi, % rdx),
	% r9d touch \to, .Lbytes_\name, mov % r8d, (% rdi) touch \to, .Lbytes_\name, mov % r9d,
	-4(% rdi, % rdx) xor % eax, % eax ret.Lequal4_\name : touch \from, .Lbytes_\name,
	mov(% rsi), % r8d touch \to, .Lbytes_\name, mov % r8d, (% rdi) xor % eax,
	% eax ret.Lless4_\name : cmp $2, % edx jb.Lless2_\name touch \from, .Lbytes_\name,
	movzwl(% rsi), % r8d jne.Lthree_\name touch \to, .Lbytes_\name, mov % r8w,
	(% rdi) xor % eax, % eax ret.Lthree_\name : touch \from, .Lbytes_\name, movzbl 2(% rsi),
	% r9d touch \to, .Lbytes_\name, mov % r8w, (% rdi) touch \to, .Lbytes_\name, mov % r9b,
	2(% rdi) xor % eax, % eax ret.Lless2_\name : test % edx, % edx jnz.Lnext_\name xor % eax,
	% eax ret

			.balign 16.Lmore_\name : cmp $(8 * VEC),
	% rdx ja.Llarge_\name touch \from, .Lbytes_\name, MOVU(% rsi), V0 touch \from,
	.Lbytes_\name, MOVU VEC(% rsi), V1 touch \from, .Lbytes_\name,
	MOVU(-2 * VEC)(% rsi, % rdx), V2 touch \from,
	.Lbytes_\name, MOVU - VEC(% rsi, % rdx), V3 cmp $(4 * VEC), % rdx ja.Lfour_\name touch \to,
	.Lbytes_\name, MOVU V0, (% rdi) touch \to, .Lbytes_\name, MOVU V1, VEC(% rdi) touch \to,
	.Lbytes_\name, MOVU V2, (-2 * VEC)(% rdi, % rdx) touch \to, .Lbytes_\name, MOVU V3,
	-VEC(% rdi, % rdx) xor % eax, % eax CLEAN ret.Lfour_\name : touch \from, .Lbytes_\name,
	MOVU(2 * VEC)(% rsi), V4 touch \from, .Lbytes_\name, MOVU(3 * VEC)(% rsi), V5 touch \from,
	.Lbytes_\name, MOVU(-4 * VEC)(% rsi, % rdx), V6 touch \from, .Lbytes_\name,
	MOVU(-3 * VEC)(% rsi, % rdx), V7 touch \to, .Lbytes_\name, MOVU V0, (% rdi) touch \to,
	.Lbytes_\name, MOVU V1, VEC(% rdi) touch \to, .Lbytes_\name, MOVU V4,
	(2 * VEC)(% rdi) touch \to, .Lbytes_\name, MOVU V5, (3 * VEC)(% rdi) touch \to,
	.Lbytes_\name, MOVU V6, (-4 * VEC)(% rdi, % rdx) touch \to, .Lbytes_\name, MOVU V7,
	(-3 * VEC)(% rdi, % rdx) touch \to, .Lbytes_\name, MOVU V2,
	(-2 * VEC)(% rdi, % rdx) touch \to, .Lbytes_\name, MOVU V3, -VEC(% rdi, % rdx) xor % eax,
	% eax CLEAN ret

			.balign 16.Llarge_\name :
#ifdef REP
    cmp $REP,
	% rdx jae.Lrep_\name
#endif
		touch \from,
	.Lbytes_\name, MOVU(% rsi), V0 touch \from, .Lbytes_\name,
	MOVU(-4 * VEC)(% rsi, % rdx), V4 touch \from, .Lbytes_\name,
	MOVU(-3 * VEC)(% rsi, % rdx), V5 touch \from, .Lbytes_\name,
	MOVU(-2 * VEC)(% rsi, % rdx), V6 touch \from,
	.Lbytes_\name, MOVU - VEC(% rsi, % rdx), V7 lea(% rdi, % rdx), % r8 touch \to,
	.Lbytes_\name, MOVU V0,
	(% rdi)
		/* Go on at the next multiple of VEC of the destination. */
		sub
		% rdi,
	% rsi and $ - VEC, % rdi add $VEC, % rdi add % rdi, % rsi lea(-4 * VEC)(% r8),
	% r9.balign 32.Lloop_\name : touch \from, .Lrest_\name, MOVU(% rsi), V0 touch \from,
	.Lrest_\name, MOVU VEC(% rsi), V1 touch \from, .Lrest_\name,
	MOVU(2 * VEC)(% rsi), V2 touch \from, .Lrest_\name, MOVU(3 * VEC)(% rsi), V3 touch \to,
	.Lrest_\name, MOVA V0, (% rdi) touch \to, .Lrest_\name, MOVA V1, VEC(% rdi) touch \to,
	.Lrest_\name, MOVA V2, (2 * VEC)(% rdi) touch \to, .Lrest_\name, MOVA V3,
	(3 * VEC)(% rdi) sub $(-4 * VEC), % rsi sub $(-4 * VEC), % rdi cmp % r9,
	% rdi jb.Lloop_\name touch \to, .Lrest_\name, MOVU V4, (-4 * VEC)(% r8) touch \to,
	.Lrest_\name, MOVU V5, (-3 * VEC)(% r8) touch \to, .Lrest_\name, MOVU V6,
	(-2 * VEC)(% r8) touch \to, .Lrest_\name, MOVU V7, -VEC(% r8) xor % eax,
	%
		eax CLEAN ret

#ifdef REP
			.Lrep_\name
    : mov % rcx,
	% r8 mov % rdx, % rcx touch 1, .Lrep_rest_\name, rep movsb xor % eax,
	%
		eax ret.Lrep_rest_\name :
    /* The registers stand at the byte that faulted; on which side, the byte loop finds out. */
    mov % rcx,
	% rdx mov % r8, %
				rcx jmp.Lnext_\name
#endif

					/* A wide access faulted: find the byte. */
					.Lrest_\name
    : mov % r8,
	% rdx sub % rdi, % rdx.Lbytes_\name : CLEAN.Lnext_\name : touch \from, .Lfault_\name,
	movzbl(% rsi), % eax touch \to, .Lfault_\name, mov % al,
	(% rdi) inc % rsi inc % rdi dec % rdx jnz.Lnext_\name xor % eax,
	% eax ret.Lfault_\name : mov % rdx, % rax test % rcx, % rcx jz 1f mov % r10,
	(% rcx) mov % r11,
	8(% rcx)1 : ret endfunc \name.endm

		    NAME(copy) NAME(gm_guard_copy_from),
	1, 0 NAME(copy) NAME(gm_guard_copy_to), 0, 1 NAME(copy) NAME(gm_guard_copy_both), 1,
	1

		/* rdi destination, esi byte, rdx length, rcx fault; rax = bytes not filled.
		   Registers as above. */
		.macro NAME(fill)
name func \name movzbl % sil, % esi movabs $0x0101010101010101, % rax imul % rax, % rsi cmp $16,
	% rdx jb.Lsmall_\name SPREAD cmp $VEC, % rdx jb.Lless_\name lea(% rdi, % rdx), % r8 touch 1,
	.Lbytes_\name, MOVU V0, (% rdi) cmp $(2 * VEC), % rdx jbe.Ltail_\name and $ - VEC,
	% rdi add $VEC, % rdi lea(-4 * VEC)(% r8), % r9 cmp % r9,
	% rdi ja.Lones_\name.balign 32.Lloop_\name : touch 1, .Lrest_\name, MOVA V0,
	(% rdi) touch 1, .Lrest_\name, MOVA V0, VEC(% rdi) touch 1, .Lrest_\name, MOVA V0,
	(2 * VEC)(% rdi) touch 1, .Lrest_\name, MOVA V0, (3 * VEC)(% rdi) sub $(-4 * VEC),
	% rdi cmp % r9, % rdi jbe.Lloop_\name.Lones_\name : lea - VEC(% r8), % r9 cmp % r9,
	% rdi ja.Ltail_\name 1 : touch 1, .Lrest_\name, MOVA V0, (% rdi) add $VEC, % rdi cmp % r9,
	% rdi jbe 1b.Ltail_\name :
    /* The last bytes of rdi to r8, and some before them once more. */
    touch 1,
	.Lrest_\name, MOVU V0, -VEC(% r8) xor % eax, % eax CLEAN ret.Lless_\name :
#if VEC > 32
    cmp $32,
	% edx jb.Lless32_\name touch 1, .Lbytes_\name, MOVU Y0, (% rdi) touch 1,
	.Lbytes_\name, MOVU Y0, -32(% rdi, % rdx) xor % eax, % eax ret.Lless32_\name :
#endif
#if VEC > 16
    touch 1,
	.Lbytes_\name, MOVX X0, (% rdi) touch 1, .Lbytes_\name, MOVX X0,
	-16(% rdi, % rdx) xor % eax, % eax CLEAN ret
#endif
						     .Lsmall_\name : cmp $8,
	% edx jb.Lless8_\name touch 1, .Lbytes_\name, mov % rsi, (% rdi) je.Ldone_\name touch 1,
	.Lbytes_\name, mov % rsi, -8(% rdi, % rdx).Ldone_\name : xor % eax,
	% eax ret.Lless8_\name : cmp $4, % edx jb.Lless4_\name touch 1, .Lbytes_\name, mov % esi,
	(% rdi) je.Ldone_\name touch 1, .Lbytes_\name, mov % esi, -4(% rdi, % rdx) xor % eax,
	% eax ret.Lless4_\name : cmp $2, % edx jb.Lless2_\name touch 1, .Lbytes_\name, mov % si,
	(% rdi) je.Ldone_\name touch 1, .Lbytes_\name, mov % sil, 2(% rdi) xor % eax,
	% eax ret.Lless2_\name : test % edx, % edx jnz.Lnext_\name xor % eax,
	%
		eax ret

			.Lrest_\name
    : mov % r8,
	% rdx sub % rdi, % rdx.Lbytes_\name : CLEAN.Lnext_\name : touch 1, .Lfault_\name, mov % sil,
	(% rdi) inc % rdi dec % rdx jnz.Lnext_\name xor % eax, % eax ret.Lfault_\name : mov % r10,
	(% rcx) mov % r11, 8(% rcx) mov % rdx, % rax ret endfunc \name.endm

						       NAME(fill) NAME(gm_guard_fill)

#undef NAME
#undef VEC
#undef MOVU
#undef MOVA
#undef V0
#undef V1
#undef V2
#undef V3
#undef V4
#undef V5
#undef V6
#undef V7
#undef X0
#undef X1
#undef Y0
#undef Y1
#undef MOVX
#undef CLEAN
#undef SPREAD
#undef REP
