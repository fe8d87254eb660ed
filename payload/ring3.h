/* SPDX-License-Identifier: BSD-3-Clause */
/* ring3.h - a vCPU in ring 3 of long mode: what the host sets, for `guestmem run`, the tests and the measurements. */
#ifndef GM_PAYLOAD_RING3_H
#define GM_PAYLOAD_RING3_H

#include <stdint.h>

#include <linux/kvm.h>

/* Flat segments with the selectors of a table at @code and @data. */
static inline void ring3_segments(struct kvm_sregs *s, uint16_t code, uint16_t data)
{
	const struct kvm_segment flat = {.limit = UINT32_MAX,
		.selector = data,
		.type = 3,
		.present = 1,
		.dpl = 3,
		.db = 1,
		.s = 1,
		.g = 1};

	s->ds = s->es = s->fs = s->gs = s->ss = s->cs = flat;
	s->cs.selector = code;
	s->cs.type = 11;
	s->cs.db = 0;
	s->cs.l = 1;
}

/* The least that runs: page tables at @root, no table of segments. */
static inline void ring3_mode(struct kvm_sregs *s, uint64_t root)
{
	ring3_segments(s, 0x33, 0x2b);
	s->cr3 = root;
	s->cr4 |= 0x20;        /* PAE */
	s->cr0 |= 0x80000001u; /* PG, PE */
	s->efer |= 0x500;      /* LME, LMA */
}

#endif
