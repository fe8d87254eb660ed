/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * boot-rom.s - the firmware of scripts/check-kernel: from the reset vector into 32-bit protected mode,
 * and on to ENTRY with esi and ebx as Linux and PVH want them. 64 KiB, seen below 4 GiB.
 */
	.section .text
	.code16
start:
	cli
	lgdtl %cs:gdt_pointer - start
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x10, $protected
	.code32
protected:
	movw $0x18, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movw %ax, %fs
	movw %ax, %gs
	movl $0x7000, %esi
	movl $0x6000, %ebx
	xorl %ebp, %ebp
	xorl %edi, %edi
	movl $ENTRY, %eax
	jmp *%eax
	.balign 8
gdt:
	.quad 0, 0
	.quad 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
	.word 31
	.long gdt
	.org 0xfff0
	.code16
reset:
	jmp start
	.org 0x10000
