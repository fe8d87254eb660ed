/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_program.c - a program for "guestmem run", as a user would write one: its first argument says
 * what it does, well or badly.
 */
#include <stdint.h>

#include "../../payload/abi.h"

uint32_t entry(struct run_params *p);

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "d"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "d"(port));
	return value;
}

static void print(const char *text)
{
	while (!(in8(RUN_PORT_CONSOLE + RUN_PORT_CONSOLE_LSR) & RUN_CONSOLE_READY))
		;
	for (; *text; text++)
		out8(RUN_PORT_CONSOLE, (uint8_t)*text);
}

static int same(const char *a, const char *b)
{
	for (; *a && *a == *b; a++, b++)
		;
	return *a == *b;
}

static uint64_t number(const char *text)
{
	uint64_t n = 0;

	for (; *text >= '0' && *text <= '9'; text++)
		n = n * 10 + (uint64_t)(*text - '0');
	return n;
}

static uint64_t load(uint64_t addr)
{
	return *(volatile uint64_t *)(uintptr_t)addr;
}

static void store(uint64_t addr, uint64_t value)
{
	*(volatile uint64_t *)(uintptr_t)addr = value;
}

static int stopped(struct run_params *p)
{
	return __atomic_load_n(&p->stop, __ATOMIC_RELAXED) != 0;
}

/* Registers that hold something for a long time, again and again until it is told to stop. */
static uint32_t keep_registers(struct run_params *p)
{
	static uint64_t in[32] __attribute__((aligned(16)));
	static uint64_t out[32] __attribute__((aligned(16)));
	uint32_t csr = 0x7f80; /* rounds towards zero */
	uint32_t csr_after = 0;

	for (uint64_t i = 0; i < 32; i++)
		in[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
	while (!stopped(p)) {
		uint64_t general = 0;

		__asm__ volatile(
			"ldmxcsr %[csr]\n\t"
			"movaps 0(%[in]), %%xmm0\n\tmovaps 112(%[in]), %%xmm7\n\t"
			"movaps 128(%[in]), %%xmm8\n\tmovaps 240(%[in]), %%xmm15\n\t"
			"fldpi\n\t"
			"mov 8(%[in]), %%r8\n\tmov 16(%[in]), %%r12\n\tmov 24(%[in]), %%r15\n\t"
			"mov $2000000, %%ecx\n\t"
			"1: dec %%ecx\n\tjnz 1b\n\t"
			"movaps %%xmm0, 0(%[out])\n\tmovaps %%xmm7, 112(%[out])\n\t"
			"movaps %%xmm8, 128(%[out])\n\tmovaps %%xmm15, 240(%[out])\n\t"
			"fldpi\n\tfsubrp\n\tfistpll %[general]\n\t"
			"mov %%r8, 8(%[out])\n\tmov %%r12, 16(%[out])\n\tmov %%r15, 24(%[out])\n\t"
			"stmxcsr %[after]\n\t"
			: [general] "=m"(general), [after] "=m"(csr_after)
			: [csr] "m"(csr), [in] "r"(in), [out] "r"(out)
			: "rcx", "r8", "r12", "r15", "xmm0", "xmm7", "xmm8", "xmm15", "memory",
			"cc");
		p->ops++;
		if (general || csr_after != csr || out[14] != in[14] || out[16] != in[16] ||
			out[31] != in[31] || out[1] != in[1] || out[2] != in[2] || out[3] != in[3])
			return 1;
	}
	return 0;
}

static uint32_t use_mailbox(struct run_params *p)
{
	uint64_t first = load(p->mailbox + RUN_MAILBOX_TIME);

	if (load(p->mailbox + RUN_MAILBOX_MAGIC) != RUN_MAGIC || p->magic != RUN_MAGIC)
		return 1;
	for (uint64_t i = 1; i <= 10; i++)
		store(p->mailbox + RUN_MAILBOX_DOORBELL, i * 11);
	if (load(p->mailbox + RUN_MAILBOX_TIME) <= first)
		return 2;
	while (!load(p->mailbox + RUN_MAILBOX_STOP))
		;
	return stopped(p) ? 0 : 3;
}

static uint32_t sum_data(struct run_params *p)
{
	const uint8_t *data = (const uint8_t *)(uintptr_t)p->data;

	for (uint64_t i = 0; i < p->data_len; i++)
		p->figures[0] += data[i];
	p->figures[1] = p->data_len;
	return 0;
}

static void misbehave(struct run_params *p, const char *how)
{
	if (same(how, "null"))
		store(0, 1);
	if (same(how, "unmapped"))
		load(UINT64_C(0x123456789000));
	if (same(how, "jump"))
		((void (*)(void))(uintptr_t)0x800)();
	/* The last leaf of the page tables reaches behind the memory. */
	if (same(how, "behind"))
		load(p->all + p->all_len);
	if (same(how, "behind-write"))
		store(p->all + p->all_len + 8, 1);
	if (same(how, "halt"))
		__asm__ volatile("hlt");
	if (same(how, "invalid"))
		__asm__ volatile("ud2");
	if (same(how, "divide"))
		__asm__ volatile("xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\tdiv %%ecx"
				 :
				 :
				 : "rax", "rcx", "rdx");
	if (same(how, "port"))
		out8(0x71, 1);
	if (same(how, "mailbox"))
		store(p->mailbox + 0x100, 1);
	if (same(how, "triple")) {
		for (uint64_t at = 0x2000; at < 0x2200; at += 8)
			store(at, 0);
		__asm__ volatile("ud2");
	}
	for (;;)
		;
}

static uint32_t run(struct run_params *p)
{
	const char *const *argv = (const char *const *)(uintptr_t)p->argv;
	const char *what = p->argc > 1 ? argv[1] : "";

	if (same(what, "hello")) {
		for (uint64_t i = 1; i < p->argc; i++) {
			print(argv[i]);
			print("\n");
		}
		return argv[p->argc] ? 1 : 0;
	}
	if (same(what, "status"))
		return (uint32_t)number(argv[2]);
	if (same(what, "which"))
		return p->nr_vcpus * 16 + p->vcpu;
	if (same(what, "registers"))
		return keep_registers(p);
	if (same(what, "mailbox-works"))
		return use_mailbox(p);
	if (same(what, "data"))
		return sum_data(p);
	misbehave(p, what);
	return 0;
}

__attribute__((section(".text.entry"), used)) uint32_t entry(struct run_params *p)
{
	uint32_t status = run(p);

	p->state = RUN_DONE;
	return status;
}
