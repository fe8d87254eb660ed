/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chase.c - random loads, each of which needs what the one before has found: their latency.
 *
 * Each place in memory holds the address of the next; together they are one circle through all. It
 * is laid out from the first place to the last, since the order can be asked in both directions.
 */
#include "payload.h"

static uint64_t addr_of(const struct run_params *p, const struct payload_order *order, uint64_t k)
{
	return p->mem + payload_order_at(order, k) * p->arg[RUN_ARG_STRIDE];
}

/* False if it was stopped. */
static bool lay_out(struct run_params *p, const struct payload_order *order, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t next = payload_order_place(order, i) + 1;

		payload_store8(p->mem + i * p->arg[RUN_ARG_STRIDE],
			addr_of(p, order, next == nr ? 0 : next));
		if ((i & 0xffff) == 0 && payload_stopped(p))
			return false;
	}
	return true;
}

void payload_chase(struct run_params *p)
{
	uint64_t stride = p->arg[RUN_ARG_STRIDE];
	uint64_t steps = p->arg[RUN_ARG_COUNT];
	struct payload_order order;
	uint64_t begun;
	uint64_t nr;
	uint64_t at;

	if (stride < sizeof(uint64_t) || stride % sizeof(uint64_t) || p->mem_len / stride < 2) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	nr = p->mem_len / stride;
	payload_order_init(&order, nr, p->seed);
	begun = payload_ticks();
	if (!lay_out(p, &order, nr))
		return;
	p->figures[0] = payload_ticks() - begun;
	at = addr_of(p, &order, 0);
	payload_state(p, RUN_MEASURES);
	begun = payload_ticks();
	while (p->ops < steps && !payload_stopped(p)) {
		uint64_t some = steps - p->ops < 4096 ? steps - p->ops : 4096;

		for (uint64_t i = 0; i < some; i++)
			at = payload_load(at);
		p->ops += some;
		payload_progress(p, p->ops);
	}
	p->ticks = payload_ticks() - begun;
	p->bytes = p->ops * sizeof(uint64_t);
	/* The place, from 1, so that it is the same wherever the memory lies. */
	p->checksum = (at - p->mem) / stride + 1;
	p->expected = payload_order_at(&order, p->ops % nr) + 1;
	payload_check(p, at, p->checksum, p->expected);
}
