/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sparse-leaves.s - the payload of scripts/check-sparse: maps 512 GiB of guest addresses by leaves of 1 GiB in long mode, writes
 * a word to each STRIDE bytes of [FIRST, LAST), reads them back, says so on the serial port and waits. Multiboot, flat,
 * loaded at 1 MiB.
 */
	.set BASE, 0x100000
	.set PML4, 0x110000
	.set PDPT, 0x111000
	.section .text
	.code32
header:
	.long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
	.long BASE, BASE, 0, 0, BASE + start - header
start:
	cli
	movl $0x120000, %esp
	movl $0x80000001, %eax
	cpuid
	btl $26, %edx
	jc large
	movl $BASE + no_leaves - header, %esi
	jmp say32
large:
	movl $PML4, %edi
	xorl %eax, %eax
	movl $2048, %ecx
	rep stosl
	movl $PDPT + 3, PML4
	xorl %ecx, %ecx
fill:
	movl %ecx, %eax
	shll $30, %eax
	orl $0x83, %eax
	movl %eax, PDPT(,%ecx,8)
	movl %ecx, %eax
	shrl $2, %eax
	movl %eax, PDPT + 4(,%ecx,8)
	incl %ecx
	cmpl $512, %ecx
	jne fill
	movl $PML4, %eax
	movl %eax, %cr3
	movl %cr4, %eax
	orl $0x20, %eax
	movl %eax, %cr4
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl %cr0, %eax
	orl $0x80000001, %eax
	movl %eax, %cr0
	lgdt BASE + gdt_pointer - header
	ljmp $0x08, $BASE + long_mode - header
say32:
	movw $0x3f8, %dx
1:	lodsb
	testb %al, %al
	jz 2f
	outb %al, %dx
	jmp 1b
2:	hlt
	jmp 2b
	.code64
long_mode:
	movabsq $FIRST, %rbx
	movabsq $LAST, %rcx
	movabsq $STRIDE, %rdx
1:	movq %rbx, (%rbx)
	addq %rdx, %rbx
	cmpq %rcx, %rbx
	jb 1b
	movabsq $FIRST, %rbx
	movl $BASE + good - header, %esi
1:	cmpq %rbx, (%rbx)
	jne 2f
	addq %rdx, %rbx
	cmpq %rcx, %rbx
	jb 1b
	jmp 3f
2:	movl $BASE + wrong - header, %esi
3:	movw $0x3f8, %dx
4:	lodsb
	testb %al, %al
	jz 5f
	outb %al, %dx
	jmp 4b
5:	hlt
	jmp 5b
good:
	.asciz "\nGUEST DONE\n"
wrong:
	.asciz "\nGUEST WRONG\n"
no_leaves:
	.asciz "\nGUEST HAS NO PDPE1GB\n"
	.balign 8
gdt:
	.quad 0, 0x00af9a000000ffff
gdt_pointer:
	.word 15
	.long BASE + gdt - header
