/* SPDX-License-Identifier: BSD-3-Clause */
/* touch.c - touches memory at every stride, in order or not, and looks whether what was written is there. */
#include "payload.h"

static uint64_t stamp_of(const struct run_params *p, uint64_t i, uint64_t round)
{
	return payload_mix(p->seed ^ (i << 8) ^ round ^ ((uint64_t)p->vcpu << 56)) | 1;
}

/* One round; returns how many were touched before it was stopped. */
static uint64_t touch_all(
	struct run_params *p, const struct payload_order *order, uint64_t nr, uint64_t round)
{
	uint64_t stride = p->arg[RUN_ARG_STRIDE];
	bool random = p->arg[RUN_ARG_ORDER] != 0;
	bool write = p->arg[RUN_ARG_WRITE] != 0;
	uint64_t sum = 0;
	uint64_t k;

	for (k = 0; k < nr && !payload_stopped(p); k++) {
		uint64_t i = random ? payload_order_at(order, k) : k;

		if (write)
			payload_store8(p->mem + i * stride, stamp_of(p, i, round));
		else
			sum += payload_load(p->mem + i * stride);
		if ((k & 1023) == 0)
			payload_progress(p, p->ops + k);
	}
	p->checksum += sum;
	return k;
}

static void verify(struct run_params *p, uint64_t nr, uint64_t round)
{
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t addr = p->mem + i * p->arg[RUN_ARG_STRIDE];
		uint64_t found = payload_load(addr);
		uint64_t wanted = stamp_of(p, i, round);

		p->checksum += found;
		p->expected += wanted;
		payload_check(p, addr, found, wanted);
	}
}

void payload_touch(struct run_params *p)
{
	uint64_t stride = p->arg[RUN_ARG_STRIDE];
	uint64_t rounds = p->arg[RUN_ARG_ROUNDS];
	struct payload_order order;
	uint64_t begun;
	uint64_t nr;
	uint64_t round;

	if (stride < sizeof(uint64_t) || stride % sizeof(uint64_t) || p->mem_len < stride) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	nr = p->mem_len / stride;
	payload_order_init(&order, nr, p->seed);
	payload_state(p, RUN_MEASURES);
	begun = payload_ticks();
	for (round = 0; round < rounds; round++) {
		uint64_t done = touch_all(p, &order, nr, round);

		p->ops += done;
		if (done < nr)
			break;
	}
	p->ticks = payload_ticks() - begun;
	p->bytes = p->ops * sizeof(uint64_t);
	/* What was stopped in the middle of a round has two rounds in its memory. */
	if (p->arg[RUN_ARG_VERIFY] && p->arg[RUN_ARG_WRITE] && round == rounds && rounds) {
		payload_state(p, RUN_VERIFIES);
		verify(p, nr, rounds - 1);
	}
}
