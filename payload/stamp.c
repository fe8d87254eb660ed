/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stamp.c - writes pages in rounds, each page with the number of the round and of the page.
 *
 * Who follows it from outside knows from the seed which pages a round has written: round r (from 1)
 * writes page (mix(seed ^ r << 32 ^ i) mod pages) for each i below the count, or the next @count pages
 * in a circle. @progress is the last round that is complete.
 */
#include "payload.h"

#define STAMP UINT64_C(0x7374616d70000000)

static uint64_t page_of(
	const struct run_params *p, uint64_t round, uint64_t i, uint64_t nr, uint64_t count)
{
	if (p->arg[RUN_ARG_ORDER])
		return payload_mix(p->seed ^ round << 32 ^ i) % nr;
	return ((round - 1) * count + i) % nr;
}

/* From place @i on. False if it was stopped before the end. */
static bool one_round(struct run_params *p, uint64_t round, uint64_t i, uint64_t nr, uint64_t count)
{
	for (; i < count; i++) {
		uint64_t page = page_of(p, round, i, nr, count);

		if ((i & 255) == 0 && payload_stopped(p)) {
			p->kept[1] = i;
			return false;
		}
		payload_store8(p->mem + page * PAYLOAD_PAGE, round);
		payload_store8(p->mem + page * PAYLOAD_PAGE + 8, STAMP ^ page);
		p->ops++;
	}
	return true;
}

static void verify(struct run_params *p, uint64_t round, uint64_t nr, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t page = page_of(p, round, i, nr, count);
		uint64_t addr = p->mem + page * PAYLOAD_PAGE;
		uint64_t found = payload_load(addr);

		/* A round that was stopped has written over some. */
		if (found != round + 1)
			payload_check(p, addr, found, round);
		payload_check(p, addr + 8, payload_load(addr + 8), STAMP ^ page);
		p->checksum += payload_load(addr + 8);
		p->expected += STAMP ^ page;
	}
}

void payload_stamp(struct run_params *p)
{
	uint64_t nr = p->mem_len / PAYLOAD_PAGE;
	uint64_t count = p->arg[RUN_ARG_COUNT] ? p->arg[RUN_ARG_COUNT] : nr;
	uint64_t rounds = p->arg[RUN_ARG_ROUNDS];
	bool again = p->state == RUN_MOVES;
	uint64_t round = again ? p->kept[0] : 0;
	uint64_t place = again ? p->kept[1] : 0;
	uint64_t begun;

	if (nr == 0) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	payload_state(p, RUN_MEASURES);
	begun = payload_ticks();
	while (rounds == 0 || round < rounds) {
		p->kept[1] = place;
		if (payload_stopped(p) || !one_round(p, round + 1, place, nr, count))
			break;
		place = 0;
		payload_progress(p, ++round);
		if (p->arg[RUN_ARG_PAUSE])
			payload_pause(p, p->arg[RUN_ARG_PAUSE]);
	}
	p->kept[0] = round;
	p->ticks += payload_ticks() - begun;
	p->bytes = p->ops * 2 * sizeof(uint64_t);
	p->figures[0] = round;
	if (payload_moves(p) && (rounds == 0 || round < rounds)) {
		payload_state(p, RUN_MOVES);
		return;
	}
	if (p->arg[RUN_ARG_VERIFY] && round) {
		payload_state(p, RUN_VERIFIES);
		verify(p, round, nr, count);
	}
}
