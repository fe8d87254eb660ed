/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * payload.h - what payloads share. They are compiled twice, for the guest and for a thread of the
 * host, and know nothing but the block of parameters: no libc, no system calls.
 */
#ifndef GM_PAYLOAD_H
#define GM_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

#define PAYLOAD_PAGE 4096u

/* Runs what @p asks for; returns its status. */
uint32_t payload_run(struct run_params *p);

void payload_touch(struct run_params *p);
void payload_chase(struct run_params *p);
void payload_stream(struct run_params *p);
void payload_store(struct run_params *p);
void payload_stamp(struct run_params *p);
void payload_replay(struct run_params *p);
void payload_control(struct run_params *p);

/* What the machine's clock counts. */
static inline uint64_t payload_ticks(void)
{
#if defined(__x86_64__)
	uint32_t low;
	uint32_t high;

	__asm__ volatile("lfence\n\trdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
	uint64_t ticks;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
	return ticks;
#else
	return 0;
#endif
}

static inline uint64_t payload_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static inline bool payload_stopped(const struct run_params *p)
{
	return __atomic_load_n(&p->stop, __ATOMIC_RELAXED) != 0;
}

/* Before it has something to keep it is stopped by its end only. */
static inline bool payload_ends(const struct run_params *p)
{
	return __atomic_load_n(&p->stop, __ATOMIC_RELAXED) == RUN_STOP_END;
}

/* Of one that was stopped. */
static inline bool payload_moves(const struct run_params *p)
{
	return __atomic_load_n(&p->stop, __ATOMIC_RELAXED) == RUN_STOP_MOVE;
}

static inline void payload_progress(struct run_params *p, uint64_t progress)
{
	__atomic_store_n(&p->progress, progress, __ATOMIC_RELEASE);
}

static inline void payload_state(struct run_params *p, uint32_t state)
{
	__atomic_store_n(&p->state, state, __ATOMIC_RELEASE);
}

/* Memory that others look at meanwhile: one access each, and none is left out. */
static inline uint64_t payload_load(uint64_t addr)
{
	return __atomic_load_n((const uint64_t *)(uintptr_t)addr, __ATOMIC_RELAXED);
}

static inline void payload_store8(uint64_t addr, uint64_t value)
{
	__atomic_store_n((uint64_t *)(uintptr_t)addr, value, __ATOMIC_RELAXED);
}

/* A word that is not what it must be; the first is kept. */
static inline void payload_wrong(
	struct run_params *p, uint64_t addr, uint64_t found, uint64_t wanted)
{
	p->status = RUN_WRONG;
	if (p->errors++ == 0) {
		p->error_addr = addr;
		p->error_found = found;
		p->error_wanted = wanted;
	}
}

static inline void payload_check(
	struct run_params *p, uint64_t addr, uint64_t found, uint64_t wanted)
{
	if (found != wanted)
		payload_wrong(p, addr, found, wanted);
}

/* Lets @ticks pass, or less if it is stopped. */
static inline void payload_pause(const struct run_params *p, uint64_t ticks)
{
	uint64_t begun = payload_ticks();

	while (payload_ticks() - begun < ticks && !payload_stopped(p))
		;
}

/* ---- order.c: an order of [0, nr) that looks random, in both directions ---- */
struct payload_order {
	uint64_t nr;
	uint64_t mask;
	uint64_t mul[2];
	uint64_t inverse[2];
	uint64_t add;
	uint32_t shift;
};

void payload_order_init(struct payload_order *order, uint64_t nr, uint64_t seed);
/* What stands at @place, and where @thing stands. Both below nr. */
uint64_t payload_order_at(const struct payload_order *order, uint64_t place);
uint64_t payload_order_place(const struct payload_order *order, uint64_t thing);

#endif
