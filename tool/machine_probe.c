/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine_probe.c - does KVM take leaves of 1 GiB in the guest's page tables? CPUID does not tell: a KVM
 * that shadows the guest's tables in software may refuse what the processor has. So a guest tries it.
 */
#include "machine.h"
#include "tool.h"

bool machine_takes_1g(void)
{
	/* mov 0x20(%rdi), %rax: the memory's address; movb $1, (%rax); mov (%rax), %al; xor %eax, %eax; ret */
	static const uint8_t code[] = {
		0x48, 0x8b, 0x47, 0x20, 0xc6, 0x00, 0x01, 0x8a, 0x00, 0x31, 0xc0, 0xc3};
	const struct run_memory_opts memory_opts = {.size = UINT64_C(1) << 30,
		.pages = {.sparse = true, .choices = {{GM_PAGE_BASE, 0}}}};
	const struct machine_opts opts = {.nr_vcpus = 1,
		.guest_log2 = 30,
		.program = {.bytes = code, .len = sizeof(code), .fd = -1}};
	struct run_params params = {.magic = RUN_MAGIC};
	struct run_memory memory = {0};
	struct machine m;
	bool takes = false;

	if (run_memory_init(&memory, &memory_opts)) {
		params.mem = memory.gpa;
		if (machine_init(&m, &memory, &opts) &&
			run_memory_write(&memory, machine_params_gpa(0), &params, sizeof(params),
				"parameters")) {
			machine_vcpu_run(&m.vcpus[0]);
			takes = m.vcpus[0].end == MACHINE_ENDED && m.vcpus[0].status == 0;
		}
		machine_fini(&m);
	}
	run_memory_fini(&memory);
	return takes;
}
