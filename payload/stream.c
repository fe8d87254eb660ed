/* SPDX-License-Identifier: BSD-3-Clause */
/* stream.c - copies an array, or adds two into a third, over and over: bytes a second. */
#include "payload.h"

#define SCALE 3.0

enum { STREAM_COPY, STREAM_TRIAD };

struct arrays {
	double *a;
	double *b;
	double *c;
	uint64_t nr;
};

static double first_of(uint64_t i)
{
	return (double)(uint32_t)(i & 1023);
}

static double second_of(uint64_t i)
{
	return (double)(uint32_t)(i >> 10 & 1023);
}

static bool fill(struct run_params *p, const struct arrays *s)
{
	for (uint64_t i = 0; i < s->nr; i++) {
		s->a[i] = 0;
		s->b[i] = first_of(i);
		s->c[i] = second_of(i);
		if ((i & 0xffff) == 0 && payload_stopped(p))
			return false;
	}
	return true;
}

/* In pieces, so that it can be stopped. Numbers, not bytes. */
static uint64_t one_round(struct run_params *p, const struct arrays *s)
{
	const uint64_t piece = 1 << 15;
	uint64_t i = 0;

	while (i < s->nr && !payload_stopped(p)) {
		uint64_t end = s->nr - i < piece ? s->nr : i + piece;

		if (p->arg[RUN_ARG_WRITE] == STREAM_TRIAD) {
			for (; i < end; i++)
				s->a[i] = s->b[i] + SCALE * s->c[i];
		} else {
			for (; i < end; i++)
				s->a[i] = s->b[i];
		}
		/* Each round is to be carried out. */
		__asm__ volatile("" : : : "memory");
	}
	return i;
}

static void verify(struct run_params *p, const struct arrays *s)
{
	bool triad = p->arg[RUN_ARG_WRITE] == STREAM_TRIAD;

	for (uint64_t i = 0; i < s->nr; i++) {
		double wanted = first_of(i) + (triad ? SCALE * second_of(i) : 0.0);

		p->checksum += (uint64_t)s->a[i];
		p->expected += (uint64_t)wanted;
		payload_check(p, (uintptr_t)&s->a[i], (uint64_t)s->a[i], (uint64_t)wanted);
	}
}

void payload_stream(struct run_params *p)
{
	/* Whole pages each. */
	uint64_t len = p->mem_len / 3 / PAYLOAD_PAGE * PAYLOAD_PAGE;
	const struct arrays s = {
		.a = (double *)(uintptr_t)p->mem,
		.b = (double *)(uintptr_t)(p->mem + len),
		.c = (double *)(uintptr_t)(p->mem + 2 * len),
		.nr = len / sizeof(double),
	};
	uint64_t arrays = p->arg[RUN_ARG_WRITE] == STREAM_TRIAD ? 3 : 2;
	uint64_t begun;
	uint64_t round = 0;

	if (s.nr == 0) {
		p->status = RUN_IMPOSSIBLE;
		return;
	}
	if (!fill(p, &s))
		return;
	payload_state(p, RUN_MEASURES);
	begun = payload_ticks();
	while (round < p->arg[RUN_ARG_ROUNDS] && !payload_stopped(p)) {
		p->ops += one_round(p, &s);
		payload_progress(p, ++round);
	}
	p->ticks = payload_ticks() - begun;
	p->bytes = p->ops * arrays * sizeof(double);
	/* The first round has written all if it was not cut short. */
	if (p->arg[RUN_ARG_VERIFY] && p->ops >= s.nr) {
		payload_state(p, RUN_VERIFIES);
		verify(p, &s);
	}
}
