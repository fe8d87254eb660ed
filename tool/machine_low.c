/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine_low.c - what stands in the machine's low memory: descriptor tables, handlers that report
 * exceptions, the program and its arguments.
 *
 * Ring 0 has nothing but the handlers: each writes its vector to a port, which ends the vCPU.
 */
#include "machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

#define VECTORS 32u
#define STUB_LEN 16u
#define RING0_GATE 0x8e

static void put_le(uint8_t *at, uint32_t bytes, uint64_t value)
{
	for (uint32_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static bool write_gdt(struct run_memory *memory)
{
	static const uint64_t gdt[] = {
		0,
		UINT64_C(0x00af9b000000ffff), /* code, ring 0, 64 bits */
		UINT64_C(0x00cf93000000ffff), /* data, ring 0 */
		UINT64_C(0x00cff3000000ffff), /* data, ring 3 */
		UINT64_C(0x00affb000000ffff), /* code, ring 3, 64 bits */
		0,                            /* TR is loaded from outside */
		0,
	};

	return run_memory_write(memory, MACHINE_GDT, gdt, sizeof(gdt), "descriptor table");
}

static bool write_idt(struct run_memory *memory)
{
	uint8_t idt[VECTORS * 16] = {0};
	uint8_t stubs[VECTORS * STUB_LEN] = {0};

	for (size_t i = 0; i < VECTORS; i++) {
		uint8_t *gate = &idt[i * 16];
		uint32_t to = MACHINE_STUBS + (uint32_t)i * STUB_LEN;

		put_le(gate, 2, to);
		put_le(gate + 2, 2, MACHINE_CODE_0);
		gate[5] = RING0_GATE;
		put_le(gate + 6, 2, to >> 16);
		/* mov $vector, %al; out %al, $port; hlt */
		memcpy(&stubs[i * STUB_LEN],
			(const uint8_t[]){0xb0, (uint8_t)i, 0xe6, RUN_PORT_EXCEPTION, 0xf4}, 5);
	}
	return run_memory_write(memory, MACHINE_IDT, idt, sizeof(idt), "interrupt table") &&
	       run_memory_write(memory, MACHINE_STUBS, stubs, sizeof(stubs), "handlers");
}

/* Where the program's entry returns to: out %eax, $port; and if that is survived, once more. */
static bool write_return(struct run_memory *memory)
{
	static const uint8_t code[] = {0xe7, RUN_PORT_STATUS, 0xeb, 0xfc};

	return run_memory_write(memory, MACHINE_RETURN, code, sizeof(code), "return");
}

/* Every port is allowed, if IOPL 3 should not do. */
static bool write_vcpu_area(struct run_memory *memory, uint32_t vcpu)
{
	uint64_t area = MACHINE_VCPU_AREA + vcpu * MACHINE_VCPU_STRIDE;
	uint8_t *tss = tool_alloc(1, MACHINE_TSS_LEN);
	uint64_t back = MACHINE_RETURN;
	bool well;

	put_le(tss + 4, 8, area + MACHINE_KERNEL_STACK_END);
	put_le(tss + 102, 2, 104);
	tss[MACHINE_TSS_LEN - 1] = 0xff;
	well = run_memory_write(memory, area + MACHINE_TSS, tss, MACHINE_TSS_LEN, "task state") &&
	       run_memory_write(memory, area + MACHINE_STACK_END - 16 - sizeof(back), &back,
		       sizeof(back), "stack");
	free(tss);
	return well;
}

/* The array of addresses, then the words. */
static bool write_words(struct machine *m)
{
	const struct machine_program *program = &m->opts.program;
	size_t at = ((size_t)program->nr_words + 1) * 8;
	uint8_t *area = tool_alloc(1, MACHINE_WORDS_LEN);
	bool well = at <= MACHINE_WORDS_LEN;

	for (uint32_t i = 0; well && i < program->nr_words; i++) {
		size_t len = strlen(program->words[i]) + 1;

		well = len <= MACHINE_WORDS_LEN - at;
		if (!well)
			break;
		put_le(area + (size_t)i * 8, 8, MACHINE_WORDS + at);
		memcpy(area + at, program->words[i], len);
		at += len;
	}
	if (!well)
		tool_error("run: the program's arguments are too long, %u bytes at most",
			MACHINE_WORDS_LEN);
	else
		well = run_memory_write(m->memory, MACHINE_WORDS, area, at, "arguments");
	free(area);
	return well;
}

bool machine_low_fill(struct machine *m)
{
	bool well = run_memory_add(m->memory, 0, RUN_LOW_LEN, "run-low") && write_gdt(m->memory) &&
		    write_idt(m->memory) && write_return(m->memory) && write_words(m);

	for (uint32_t i = 0; well && i < m->opts.nr_vcpus; i++)
		well = write_vcpu_area(m->memory, i);
	return well;
}

static bool load_failed(const struct machine_program *program, const struct gm_error *err)
{
	tool_error("%s: %s", program->path, err->text);
	return false;
}

static bool load_elf(struct machine *m)
{
	const struct machine_program *program = &m->opts.program;
	struct gm_load_opts opts = {
		.size = sizeof(opts), .formats = GM_KERNEL_ELF, .machines = GM_MACHINE_X86_64};
	struct gm_kernel kernel = {.size = sizeof(kernel)};
	struct gm_error err;

	if (gm_load_kernel(m->memory->reader, program->fd, &opts, &kernel, &err) < 0)
		return load_failed(program, &err);
	if (kernel.first < MACHINE_VCPU_AREA + m->opts.nr_vcpus * MACHINE_VCPU_STRIDE &&
		kernel.last >= MACHINE_VCPU_AREA) {
		tool_error(
			"%s: takes up 0x%llx to 0x%llx, where the machine has its stacks (0x%llx "
			"to 0x%llx)",
			program->path, (unsigned long long)kernel.first,
			(unsigned long long)kernel.last, (unsigned long long)MACHINE_VCPU_AREA,
			(unsigned long long)(RUN_LOW_LEN - 1));
		return false;
	}
	if (kernel.first < RUN_PROGRAM_GPA) {
		tool_error("%s: takes up 0x%llx, below 0x%llx are the machine's own tables",
			program->path, (unsigned long long)kernel.first,
			(unsigned long long)RUN_PROGRAM_GPA);
		return false;
	}
	m->entry = kernel.entry64;
	return true;
}

static bool load_flat(struct machine *m)
{
	const struct machine_program *program = &m->opts.program;
	struct gm_load_place place = {.size = sizeof(place),
		.flags = GM_LOAD_AT,
		.first = RUN_PROGRAM_GPA,
		.last = MACHINE_VCPU_AREA - 1};
	struct gm_loaded loaded;
	struct gm_error err;

	if (gm_load_file(m->memory->reader, program->fd, &place, &loaded, &err) < 0)
		return load_failed(program, &err);
	return true;
}

bool machine_program_load(struct machine *m)
{
	const struct machine_program *program = &m->opts.program;
	char magic[4] = {0};

	m->entry = RUN_PROGRAM_GPA;
	if (program->bytes)
		return run_memory_write(
			m->memory, RUN_PROGRAM_GPA, program->bytes, program->len, "payload");
	if (pread(program->fd, magic, sizeof(magic), 0) < 0) {
		tool_error("%s: %s", program->path, strerror(errno));
		return false;
	}
	return memcmp(magic, "\177ELF", 4) == 0 ? load_elf(m) : load_flat(m);
}
