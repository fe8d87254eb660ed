/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * order.c - a one-to-one function of [0, nr) that looks random and can be turned round.
 *
 * It is made of steps that each can be undone, on the next power of two; what falls outside of
 * [0, nr) goes round again until it is inside.
 */
#include "payload.h"

/* x with mul * x == 1 modulo 2^64, of an odd @mul. */
static uint64_t invert(uint64_t mul)
{
	uint64_t x = mul;

	for (int i = 0; i < 6; i++)
		x *= 2 - mul * x;
	return x;
}

void payload_order_init(struct payload_order *order, uint64_t nr, uint64_t seed)
{
	uint32_t bits = 1;

	while (bits < 63 && UINT64_C(1) << bits < nr)
		bits++;
	order->nr = nr;
	order->mask = (UINT64_C(1) << bits) - 1;
	/* Half of the bits at least, so that the step undoes itself. */
	order->shift = (bits + 1) / 2;
	order->add = payload_mix(seed);
	for (uint64_t i = 0; i < 2; i++) {
		order->mul[i] = payload_mix(seed + i + 1) | 1;
		order->inverse[i] = invert(order->mul[i]);
	}
}

uint64_t payload_order_at(const struct payload_order *order, uint64_t place)
{
	uint64_t x = place;

	do {
		x = (x * order->mul[0] + order->add) & order->mask;
		x ^= x >> order->shift;
		x = x * order->mul[1] & order->mask;
		x ^= x >> order->shift;
	} while (x >= order->nr);
	return x;
}

uint64_t payload_order_place(const struct payload_order *order, uint64_t thing)
{
	uint64_t x = thing;

	do {
		x ^= x >> order->shift;
		x = x * order->inverse[1] & order->mask;
		x ^= x >> order->shift;
		x = (x - order->add) * order->inverse[0] & order->mask;
	} while (x >= order->nr);
	return x;
}
