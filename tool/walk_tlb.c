/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * walk_tlb.c - how many entries the TLB has for each size of page, from cpuid.
 *
 * Of all TLBs that serve loads the largest counts: that is the second level. Sources: Intel SDM
 * volume 2, CPUID, leaves 02H and 18H; AMD APM volume 3, functions 8000_0005h, 8000_0006h,
 * 8000_0019h, and 8000_0021h, whose EAX bit 14 says that sizes of the second level are in units
 * of 32.
 */
#include <string.h>

#include "walk.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

/* What a CPU has that does not say: a second level of many servers. */
static const uint32_t assumed[GM_WALK_LEAVES] = {1536, 1536, 16};

static void at_least(struct walk_tlb *tlb, uint32_t leaf, uint32_t entries)
{
	if (entries == 0)
		return;
	if (!(tlb->told & 1u << leaf) || entries > tlb->entries[leaf])
		tlb->entries[leaf] = entries;
	tlb->told |= 1u << leaf;
}

/* ---- AMD ---- */

#define AMD_ZEN5 0x1au /* the family that counts in units of 32 */

static uint32_t family_of(uint32_t signature)
{
	uint32_t family = signature >> 8 & 15;

	return family == 15 ? family + (signature >> 20 & 255) : family;
}

/* Entries for data in one of the words of 8000_0006h and 8000_0019h; a word whose upper half is 0
 * describes a TLB of data and code in the lower one. */
static uint32_t amd_entries(uint32_t word)
{
	if (word >> 16 == 0)
		return word >> 12 & 15 ? word & 0xfff : 0;
	return word >> 28 ? word >> 16 & 0xfff : 0;
}

static void read_amd(walk_cpuid_fn *cpuid, void *ctx, uint32_t max, struct walk_tlb *tlb)
{
	struct walk_regs basic = cpuid(ctx, 1, 0);
	struct walk_regs first = cpuid(ctx, 0x80000005, 0);
	struct walk_regs second = cpuid(ctx, 0x80000006, 0);
	struct walk_regs huge = {0};
	bool hidden;
	uint32_t unit = 1;

	if (max >= 0x80000021 && cpuid(ctx, 0x80000021, 0).a >> 14 & 1)
		unit = 32;
	hidden = unit == 1 && family_of(basic.a) >= AMD_ZEN5 && basic.c >> 31;
	if (hidden)
		unit = 32;
	if (max >= 0x80000019)
		huge = cpuid(ctx, 0x80000019, 0);
	at_least(tlb, GM_WALK_4K, first.b >> 16 & 255);
	at_least(tlb, GM_WALK_2M, first.a >> 16 & 255);
	at_least(tlb, GM_WALK_1G, amd_entries(huge.a));
	at_least(tlb, GM_WALK_4K, unit * amd_entries(second.b));
	at_least(tlb, GM_WALK_2M, unit * amd_entries(second.a));
	at_least(tlb, GM_WALK_1G, unit * amd_entries(huge.b));
	snprintf(tlb->source, sizeof(tlb->source), "cpuid 80000005h, 80000006h, 80000019h%s",
		hidden ? ", in units of 32 (assumed: a hypervisor hides the bit that says so)"
		       : "");
}

/* ---- Intel ---- */

static const struct {
	uint8_t descriptor;
	uint32_t entries[GM_WALK_LEAVES];
} descriptors[] = {
	{0x03, {64, 0, 0}},
	{0x5a, {0, 32, 0}},
	{0x63, {0, 32, 4}},
	{0x64, {512, 0, 0}},
	{0x6b, {256, 0, 0}},
	{0x6c, {0, 128, 0}},
	{0x6d, {0, 0, 16}},
	{0xa0, {32, 0, 0}},
	{0xb3, {128, 0, 0}},
	{0xb4, {256, 0, 0}},
	{0xba, {64, 0, 0}},
	{0xc1, {1024, 1024, 0}},
	{0xc2, {16, 16, 0}},
	{0xc3, {1536, 1536, 16}},
	{0xc4, {0, 32, 0}},
	{0xca, {512, 0, 0}},
};

static void read_descriptor(uint8_t descriptor, struct walk_tlb *tlb)
{
	for (size_t i = 0; i < NR(descriptors); i++) {
		if (descriptors[i].descriptor != descriptor)
			continue;
		for (uint32_t leaf = 0; leaf < GM_WALK_LEAVES; leaf++)
			at_least(tlb, leaf, descriptors[i].entries[leaf]);
	}
}

static void read_leaf_2(walk_cpuid_fn *cpuid, void *ctx, struct walk_tlb *tlb)
{
	struct walk_regs r = cpuid(ctx, 2, 0);
	/* The lowest byte of EAX is no descriptor. */
	const uint32_t words[] = {r.a & ~255u, r.b, r.c, r.d};

	for (size_t i = 0; i < 16; i++) {
		if (!(words[i / 4] >> 31))
			read_descriptor((uint8_t)(words[i / 4] >> (8 * (i % 4))), tlb);
	}
	snprintf(tlb->source, sizeof(tlb->source), "cpuid 02h");
}

#define TLB_DATA 1u
#define TLB_UNIFIED 3u
#define TLB_LOAD 4u
#define SUBLEAVES_MAX 64u

static void read_leaf_18(walk_cpuid_fn *cpuid, void *ctx, struct walk_tlb *tlb)
{
	/* EBX has a bit for each size: 4K, 2M, 4M, 1G. */
	static const uint32_t bits[GM_WALK_LEAVES] = {1u << 0, 1u << 1, 1u << 3};
	uint32_t last = cpuid(ctx, 0x18, 0).a;

	for (uint32_t sub = 0; sub <= last && sub < SUBLEAVES_MAX; sub++) {
		struct walk_regs r = cpuid(ctx, 0x18, sub);
		uint32_t type = r.d & 31;

		if (type != TLB_DATA && type != TLB_UNIFIED && type != TLB_LOAD)
			continue;
		for (uint32_t leaf = 0; leaf < GM_WALK_LEAVES; leaf++) {
			if (r.b & bits[leaf])
				at_least(tlb, leaf, (r.b >> 16) * (r.c & 0xffff));
		}
	}
	snprintf(tlb->source, sizeof(tlb->source), "cpuid 18h");
}

/* ---- all ---- */

static bool is_vendor(const struct walk_regs *r, const char name[12])
{
	return memcmp(&r->b, name, 4) == 0 && memcmp(&r->d, name + 4, 4) == 0 &&
	       memcmp(&r->c, name + 8, 4) == 0;
}

static void read_cpu(walk_cpuid_fn *cpuid, void *ctx, struct walk_tlb *tlb)
{
	struct walk_regs r = cpuid(ctx, 0, 0);

	if (is_vendor(&r, "AuthenticAMD") || is_vendor(&r, "HygonGenuine")) {
		uint32_t max = cpuid(ctx, 0x80000000, 0).a;

		if (max >= 0x80000006)
			read_amd(cpuid, ctx, max, tlb);
	} else if (is_vendor(&r, "GenuineIntel")) {
		if (r.a >= 0x18)
			read_leaf_18(cpuid, ctx, tlb);
		if (!tlb->told && r.a >= 2)
			read_leaf_2(cpuid, ctx, tlb);
	}
}

void walk_tlb_read(walk_cpuid_fn *cpuid, void *ctx, struct walk_tlb *ret)
{
	*ret = (struct walk_tlb){.source = ""};
	if (cpuid)
		read_cpu(cpuid, ctx, ret);
	if (!ret->told)
		snprintf(ret->source, sizeof(ret->source), "assumed: the CPU does not say");
	for (uint32_t leaf = 0; leaf < GM_WALK_LEAVES; leaf++) {
		if (!(ret->told & 1u << leaf))
			ret->entries[leaf] = assumed[leaf];
	}
}
