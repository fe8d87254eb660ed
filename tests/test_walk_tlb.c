/* SPDX-License-Identifier: BSD-3-Clause */
/* test_walk_tlb.c - TLB sizes that the command reads from cpuid, of CPUs that this machine is not.
 */
#include <string.h>

#include "../tool/walk.h"
#include "random.h"
#include "support.h"

struct cpu {
	struct {
		uint32_t leaf;
		uint32_t sub;
		struct walk_regs regs;
	} leaves[16];
	unsigned int asked; /* for leaves above the highest */
};

static struct walk_regs ask(void *ctx, uint32_t leaf, uint32_t sub)
{
	struct cpu *cpu = ctx;

	for (size_t i = 0; i < 16; i++) {
		if (cpu->leaves[i].leaf == leaf && cpu->leaves[i].sub == sub)
			return cpu->leaves[i].regs;
	}
	cpu->asked++;
	return (struct walk_regs){0};
}

#define AMD 0x68747541, 0x444d4163, 0x69746e65
#define INTEL 0x756e6547, 0x6c65746e, 0x49656e69

static struct walk_tlb read_tlb(struct cpu *cpu)
{
	struct walk_tlb tlb;

	memset(&tlb, 0xff, sizeof(tlb));
	walk_tlb_read(ask, cpu, &tlb);
	return tlb;
}

static void assert_tlb(
	const struct walk_tlb *tlb, uint32_t small, uint32_t mid, uint32_t large, uint32_t told)
{
	assert_int_equal(tlb->entries[GM_WALK_4K], small);
	assert_int_equal(tlb->entries[GM_WALK_2M], mid);
	assert_int_equal(tlb->entries[GM_WALK_1G], large);
	assert_int_equal(tlb->told, told);
}

/* Zen 3: 64 entries in the first level, 2048 in the second, 64 of 1G in the first alone. */
static struct cpu zen3(void)
{
	return (struct cpu){.leaves = {
				    {0, 0, {16, AMD}},
				    {1, 0, {0x00a20f10, 0, 0, 0}},
				    {0x80000000, 0, {0x80000023, AMD}},
				    {0x80000005, 0, {0xff40ff40, 0xff40ff40, 0, 0}},
				    {0x80000006, 0, {0x58006200, 0x68006200, 0, 0}},
				    {0x80000019, 0, {0xf040f040, 0, 0, 0}},
				    {0x80000021, 0, {0, 0, 0, 0}},
			    }};
}

static void amd_tells_two_levels(void **state)
{
	struct cpu cpu = zen3();
	struct walk_tlb tlb = read_tlb(&cpu);

	(void)state;
	assert_tlb(&tlb, 2048, 2048, 64, 7);
	assert_non_null(strstr(tlb.source, "80000006h"));
	assert_null(strstr(tlb.source, "assumed"));
	assert_int_equal(cpu.asked, 0);
	memcpy(&cpu.leaves[0].regs, &(struct walk_regs){1, 0x6f677948, 0x656e6975, 0x6e65476e}, 16);
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 2048, 2048, 64, 7);
}

static void a_disabled_second_level_does_not_count(void **state)
{
	struct cpu cpu = zen3();
	struct walk_tlb tlb;

	(void)state;
	/* No second level: its associativity is 0. */
	cpu.leaves[4].regs = (struct walk_regs){0x08000000, 0x00000000, 0, 0};
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 64, 64, 64, 7);
	/* One TLB for data and code is in the lower half. */
	cpu.leaves[4].regs = (struct walk_regs){0x00006400, 0x00006200, 0, 0};
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 512, 1024, 64, 7);
}

static void zen5_counts_in_units_of_32(void **state)
{
	struct cpu cpu = zen3();
	struct walk_tlb tlb;

	(void)state;
	cpu.leaves[1].regs.a = 0x00b00f21;
	cpu.leaves[3].regs = (struct walk_regs){0xff60ff40, 0xff60ff40, 0, 0};
	cpu.leaves[4].regs = (struct walk_regs){0x40802040, 0x60804080, 0, 0};
	cpu.leaves[5].regs = (struct walk_regs){0xf060f040, 0xf0200000, 0, 0};
	cpu.leaves[6].regs.a = 1u << 14;
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 4096, 4096, 1024, 7);
	assert_null(strstr(tlb.source, "assumed"));
	/* Under a hypervisor that hides the bit it is assumed, and said. */
	cpu.leaves[6].regs.a = 0;
	cpu.leaves[1].regs.c = 1u << 31;
	cpu.leaves[5].regs = (struct walk_regs){0};
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 4096, 4096, 16, 3);
	assert_non_null(strstr(tlb.source, "assumed"));
	/* Without a hypervisor it is what is told, as it is on older CPUs under one. */
	cpu.leaves[1].regs.c = 0;
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 128, 128, 16, 3);
	cpu = zen3();
	cpu.leaves[1].regs.c = 1u << 31;
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 2048, 2048, 64, 7);
}

static void leaves_that_are_not_there_are_not_asked_for(void **state)
{
	struct cpu cpu = zen3();
	struct walk_tlb tlb;

	(void)state;
	cpu.leaves[2].regs.a = 0x80000018;
	memset(&cpu.leaves[5], 0, sizeof(cpu.leaves[0]) * 2);
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 2048, 2048, 16, 3);
	assert_int_equal(cpu.asked, 0);
	cpu.leaves[2].regs.a = 0x80000005;
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 1536, 1536, 16, 0);
	assert_int_equal(cpu.asked, 0);
}

static void intel_tells_by_leaf_18h(void **state)
{
	/* Data 64 and 32 and 4; code 128, which does not count; second level 2048 of 4K and 2M, 1024 of
	 * 4K and 1G; stores only 16. */
	struct cpu cpu = {.leaves = {
				  {0, 0, {0x20, INTEL}},
				  {0x18, 0, {6, 0, 0, 0}},
				  {0x18, 1, {0, 0x00080001, 16, 0x22}},
				  {0x18, 2, {0, 0x00040001, 16, 0x24}},
				  {0x18, 3, {0, 0x00040006, 8, 0x24}},
				  {0x18, 4, {0, 0x00080003, 256, 0x43}},
				  {0x18, 5, {0, 0x00080009, 128, 0x43}},
				  {0x18, 6, {0, 0xffff000f, 0xffff, 0x25}},
			  }};
	struct walk_tlb tlb = read_tlb(&cpu);

	(void)state;
	assert_tlb(&tlb, 2048, 2048, 1024, 7);
	assert_string_equal(tlb.source, "cpuid 18h");
	assert_int_equal(cpu.asked, 0);
}

static void intel_tells_by_descriptors(void **state)
{
	/* As Skylake servers: FFH, 63H and 64H, B5H, F0H, C3H. */
	struct cpu cpu = {.leaves = {
				  {0, 0, {0x16, INTEL}},
				  {2, 0, {0x76036301, 0x00f0b5ff, 0, 0x00c30000}},
			  }};
	struct walk_tlb tlb = read_tlb(&cpu);

	(void)state;
	assert_tlb(&tlb, 1536, 1536, 16, 7);
	assert_string_equal(tlb.source, "cpuid 02h");
	/* A word whose highest bit is set has no descriptors; the lowest byte of EAX is none. */
	cpu.leaves[1].regs = (struct walk_regs){0x766363c3, 0x80c30000, 0, 0};
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 1536, 32, 4, 6);
	/* Leaf 18H that tells nothing leaves it to them. */
	cpu.leaves[0].regs.a = 0x1b;
	cpu.leaves[2].leaf = 0x18;
	cpu.leaves[1].regs.a = 0x0000c101;
	tlb = read_tlb(&cpu);
	assert_tlb(&tlb, 1024, 1024, 16, 3);
}

static void others_are_assumed(void **state)
{
	struct cpu cpu = {.leaves = {{0, 0, {0x20, 0x746e6543, 0x736c7561, 0x48727561}}}};
	struct walk_tlb tlb = read_tlb(&cpu);

	(void)state;
	assert_tlb(&tlb, 1536, 1536, 16, 0);
	assert_non_null(strstr(tlb.source, "assumed"));
	walk_tlb_read(NULL, NULL, &tlb);
	assert_tlb(&tlb, 1536, 1536, 16, 0);
}

/* Whatever it answers: no endless loop, nothing out of bounds. */
static struct walk_regs nonsense(void *ctx, uint32_t leaf, uint32_t sub)
{
	struct rng *rng = ctx;
	uint64_t vendor = rng_next(rng);

	(void)sub;
	if (leaf == 0)
		return vendor % 2 ? (struct walk_regs){UINT32_MAX, AMD}
				  : (struct walk_regs){(uint32_t)vendor % 64, INTEL};
	return (struct walk_regs){(uint32_t)rng_edge(rng), (uint32_t)rng_edge(rng),
		(uint32_t)rng_edge(rng), (uint32_t)rng_edge(rng)};
}

static void nonsense_is_survived(void **state)
{
	struct rng rng = {test_seed(1)};
	struct walk_tlb tlb;

	(void)state;
	for (unsigned long i = 0; i < support_scale(20000); i++) {
		walk_tlb_read(nonsense, &rng, &tlb);
		assert_true(memchr(tlb.source, 0, sizeof(tlb.source)) != NULL);
		assert_true(tlb.told < 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(amd_tells_two_levels),
		cmocka_unit_test(a_disabled_second_level_does_not_count),
		cmocka_unit_test(zen5_counts_in_units_of_32),
		cmocka_unit_test(leaves_that_are_not_there_are_not_asked_for),
		cmocka_unit_test(intel_tells_by_leaf_18h),
		cmocka_unit_test(intel_tells_by_descriptors),
		cmocka_unit_test(others_are_assumed),
		cmocka_unit_test(nonsense_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
