/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_atomic.c - atomic accesses at every edge, against a naive model (guest.h), and by several
 * threads.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "support.h"
#include "sys/guard.h"

/* ---- atomics ---- */

enum atomic_op {
	LOAD,
	STORE,
	EXCHANGE,
	ADD,
	AND,
	OR,
	XOR,
	CMPXCHG,
	NR_OPS,
};

#define ATOMIC(bits)                                                                               \
	static int atomic_##bits(                                                                  \
		enum atomic_op op, uint64_t gpa, int order, uint64_t *value, uint64_t operand)     \
	{                                                                                          \
		uint##bits##_t x = (uint##bits##_t) * value;                                       \
		uint##bits##_t y = (uint##bits##_t)operand;                                        \
		int rc = -1;                                                                       \
                                                                                                   \
		switch (op) {                                                                      \
		case LOAD:                                                                         \
			rc = gm_atomic_load_u##bits(guest_view, gpa, order, &x);                   \
			break;                                                                     \
		case STORE:                                                                        \
			rc = gm_atomic_store_u##bits(guest_view, gpa, order, y);                   \
			break;                                                                     \
		case EXCHANGE:                                                                     \
			rc = gm_atomic_exchange_u##bits(guest_view, gpa, order, y, &x);            \
			break;                                                                     \
		case ADD:                                                                          \
			rc = gm_atomic_fetch_add_u##bits(guest_view, gpa, order, y, &x);           \
			break;                                                                     \
		case AND:                                                                          \
			rc = gm_atomic_fetch_and_u##bits(guest_view, gpa, order, y, &x);           \
			break;                                                                     \
		case OR:                                                                           \
			rc = gm_atomic_fetch_or_u##bits(guest_view, gpa, order, y, &x);            \
			break;                                                                     \
		case XOR:                                                                          \
			rc = gm_atomic_fetch_xor_u##bits(guest_view, gpa, order, y, &x);           \
			break;                                                                     \
		case CMPXCHG:                                                                      \
			rc = gm_atomic_cmpxchg_u##bits(guest_view, gpa, order, &x, y);             \
			break;                                                                     \
		case NR_OPS:                                                                       \
			break;                                                                     \
		}                                                                                  \
		*value = x;                                                                        \
		return rc;                                                                         \
	}

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

static int atomic(
	enum atomic_op op, size_t size, uint64_t gpa, int order, uint64_t *value, uint64_t operand)
{
	switch (size) {
	case 1:
		return atomic_8(op, gpa, order, value, operand);
	case 2:
		return atomic_16(op, gpa, order, value, operand);
	case 4:
		return atomic_32(op, gpa, order, value, operand);
	default:
		return atomic_64(op, gpa, order, value, operand);
	}
}

static uint64_t result(enum atomic_op op, uint64_t old, uint64_t operand)
{
	switch (op) {
	case ADD:
		return old + operand;
	case AND:
		return old & operand;
	case OR:
		return old | operand;
	case XOR:
		return old ^ operand;
	case LOAD:
		return old;
	default:
		return operand;
	}
}

static void put_model(uint64_t gpa, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	memcpy(bytes, &value, sizeof(bytes));
	guest_model_write(gpa, bytes, size);
}

static void check_atomic(enum atomic_op op, size_t size, uint64_t gpa, int order)
{
	static uint64_t operand = 0x9e3779b97f4a7c15u;
	uint32_t perms = op == LOAD ? GM_PERM_R : op == STORE ? GM_PERM_W : GM_PERM_RW;
	uint64_t value = guest_cut(0x5a5a5a5a5a5a5a5au, size);
	uint64_t old = 0;
	uint64_t n;
	int rc = gpa % size ? -EINVAL : guest_expect(gpa, size, perms, &n);

	operand = operand * 6364136223846793005u + 1442695040888963407u;
	if (rc) {
		assert_int_equal(atomic(op, size, gpa, order, &value, operand), rc);
		assert_int_equal(value, guest_cut(0x5a5a5a5a5a5a5a5au, size));
		guest_check();
		return;
	}
	guest_model_read(gpa, (uint8_t *)&old, size);
	if (op == CMPXCHG) {
		/* First with what is not there. */
		value = guest_cut(~old, size);
		assert_int_equal(atomic(op, size, gpa, order, &value, operand), 0);
		assert_int_equal(value, old);
		guest_check();
	}
	assert_int_equal(atomic(op, size, gpa, order, &value, operand), op == CMPXCHG);
	assert_int_equal(value, op == STORE ? guest_cut(0x5a5a5a5a5a5a5a5au, size) : old);
	put_model(gpa, result(op, old, operand), size);
	guest_check();
}

static void atomics_follow_the_edge_rule(void **state)
{
	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		guest_fill(false);
		for (enum atomic_op op = 0; op < NR_OPS; op++) {
			for (size_t size = 1; size <= 8; size *= 2) {
				for (size_t g = 0; g < guest_nr_gpas; g++)
					check_atomic(op, size, guest_gpas[g], (int)(g % 6));
			}
		}
	}
}

static void what_was_there_is_optional(void **state)
{
	uint32_t now;

	(void)state;
	guest_lay_out(PLACED);
	assert_int_equal(gm_atomic_store_u32(guest_view, 0x1000, __ATOMIC_SEQ_CST, 5), 0);
	assert_int_equal(gm_atomic_fetch_add_u32(guest_view, 0x1000, __ATOMIC_RELAXED, 7, NULL), 0);
	assert_int_equal(gm_atomic_load_u32(guest_view, 0x1000, __ATOMIC_ACQUIRE, &now), 0);
	assert_int_equal(now, 12);
}

/* ---- several threads ---- */

struct worker {
	pthread_t thread;
	uint64_t gpa;
	size_t size;
	unsigned long rounds;
	int (*write)(uint64_t gpa, size_t size, uint64_t value);
	int (*read)(uint64_t gpa, size_t size, uint64_t *value);
};

static bool stop; /* atomic */

static int write_bytes(uint64_t gpa, size_t size, uint64_t value)
{
	return gm_write(guest_view, gpa, &value, size, NULL);
}

static int read_bytes(uint64_t gpa, size_t size, uint64_t *value)
{
	*value = 0;
	return gm_read(guest_view, gpa, value, size, NULL);
}

static int write_typed(uint64_t gpa, size_t size, uint64_t value)
{
	switch (size) {
	case 2:
		return gm_write_u16(guest_view, gpa, (uint16_t)value);
	case 4:
		return gm_write_u32(guest_view, gpa, (uint32_t)value);
	default:
		return gm_write_u64(guest_view, gpa, value);
	}
}

static int read_typed(uint64_t gpa, size_t size, uint64_t *value)
{
	uint32_t v32 = 0;
	uint16_t v16 = 0;
	int rc;

	switch (size) {
	case 2:
		rc = gm_read_u16(guest_view, gpa, &v16);
		*value = v16;
		return rc;
	case 4:
		rc = gm_read_u32(guest_view, gpa, &v32);
		*value = v32;
		return rc;
	default:
		return gm_read_u64(guest_view, gpa, value);
	}
}

static int fill_bytes(uint64_t gpa, size_t size, uint64_t value)
{
	return gm_fill(guest_view, gpa, (uint8_t)value, size, NULL);
}

static void *write_patterns(void *arg)
{
	const struct worker *w = arg;

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		w->write(w->gpa, w->size, 0);
		w->write(w->gpa, w->size, UINT64_MAX);
	}
	return NULL;
}

/* One writes all zeros and all ones, the other must never see a mix. */
static void check_tearing(struct worker w)
{
	uint64_t all = guest_cut(UINT64_MAX, w.size);
	unsigned long mixes = 0;

	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	assert_int_equal(w.write(w.gpa, w.size, 0), 0);
	assert_int_equal(pthread_create(&w.thread, NULL, write_patterns, &w), 0);
	for (unsigned long i = 0; i < w.rounds; i++) {
		uint64_t value;

		if (w.read(w.gpa, w.size, &value) || (value != 0 && value != all))
			mixes++;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(w.thread, NULL);
	assert_int_equal(mixes, 0);
}

static void aligned_accesses_are_never_torn(void **state)
{
	(void)state;
	for (enum layout layout = MERGED; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		for (size_t size = 2; size <= 8; size *= 2) {
			struct worker w = {
				.gpa = 0x1040, .size = size, .rounds = support_scale(100000)};

			w.read = read_typed;
			w.write = write_typed;
			check_tearing(w);
			w.read = read_bytes;
			w.write = write_bytes;
			check_tearing(w);
			w.write = fill_bytes;
			check_tearing(w);
		}
	}
}

#define ADDERS 3

static void *add_many(void *arg)
{
	struct worker *w = arg;

	for (unsigned long i = 0; i < w->rounds; i++) {
		uint64_t old;
		uint64_t seen = 0;

		gm_atomic_fetch_add_u64(guest_view, w->gpa, __ATOMIC_RELAXED, 1, &old);
		gm_atomic_fetch_xor_u16(guest_view, w->gpa + 8, __ATOMIC_RELAXED,
			(uint16_t)(1u << (w->size % 16)), NULL);
		while (gm_atomic_cmpxchg_u64(
			       guest_view, w->gpa + 16, __ATOMIC_SEQ_CST, &seen, seen + 2) == 0)
			;
	}
	return NULL;
}

static void read_modify_write_loses_nothing(void **state)
{
	struct worker workers[ADDERS];
	unsigned long rounds = 20001;
	uint64_t sum;
	uint16_t bits;

	(void)state;
	for (enum layout layout = PLACED; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		guest_fill(true);
		for (size_t i = 0; i < ADDERS; i++) {
			workers[i] = (struct worker){.gpa = 0x2000, .size = i, .rounds = rounds};
			assert_int_equal(
				pthread_create(&workers[i].thread, NULL, add_many, &workers[i]), 0);
		}
		for (size_t i = 0; i < ADDERS; i++)
			pthread_join(workers[i].thread, NULL);
		assert_int_equal(gm_read_u64(guest_view, 0x2000, &sum), 0);
		assert_int_equal(sum, ADDERS * rounds);
		assert_int_equal(gm_read_u16(guest_view, 0x2008, &bits), 0);
		assert_int_equal(bits, (1u << ADDERS) - 1);
		assert_int_equal(gm_read_u64(guest_view, 0x2010, &sum), 0);
		assert_int_equal(sum, 2 * ADDERS * rounds);
	}
}

/* ---- orders ---- */

#define CELLS 16 /* for each side, in lines of their own */

/* One of two threads, which go through all rounds together. */
struct side {
	pthread_t thread;
	uint32_t number; /* 0 or 1 */
	uint32_t rounds;
	int order;
	uint8_t *saw; /* for each cell of each round: did it see what the other one wrote in it? */
};

static uint64_t cell_of(uint32_t side, size_t cell)
{
	return 0x1000 + cell * 128 + side * 64;
}

/* Waits until the other side is there too: by guest memory, so each store is seen by the other thread at last. */
static void meet(const struct side *s, uint32_t when)
{
	uint32_t other = 0;

	gm_atomic_store_u32(guest_view, cell_of(s->number, CELLS), __ATOMIC_SEQ_CST, when);
	for (unsigned int i = 1; other < when; i++) {
		gm_atomic_load_u32(
			guest_view, cell_of(!s->number, CELLS), __ATOMIC_SEQ_CST, &other);
		if (i % 2000 == 0)
			sched_yield();
	}
}

/* Dekker: each stores, then loads what the other one stores. */
static void *cross(void *arg)
{
	const struct side *s = arg;

	for (uint32_t round = 1; round <= s->rounds; round++) {
		meet(s, round);
		for (size_t i = 0; i < CELLS; i++) {
			uint32_t other = 0;

			gm_atomic_store_u32(guest_view, cell_of(s->number, i), s->order, round);
			gm_atomic_load_u32(guest_view, cell_of(!s->number, i), s->order, &other);
			s->saw[(round - 1) * CELLS + i] = other == round;
		}
	}
	return NULL;
}

struct crossed {
	size_t none; /* cells in which neither saw the other */
	size_t first;
	size_t second; /* in which this one did not */
};

static struct crossed cross_all(int order, uint32_t rounds)
{
	struct side sides[2];
	struct crossed sum = {0};

	assert_int_equal(gm_fill(guest_view, 0x1000, 0, cell_of(0, CELLS + 1) - 0x1000, NULL), 0);
	for (uint32_t i = 0; i < 2; i++) {
		sides[i] = (struct side){.number = i, .rounds = rounds, .order = order};
		sides[i].saw = calloc(rounds, CELLS);
		assert_true(sides[i].saw);
	}
	assert_int_equal(pthread_create(&sides[0].thread, NULL, cross, &sides[0]), 0);
	cross(&sides[1]);
	pthread_join(sides[0].thread, NULL);
	for (size_t i = 0; i < (size_t)rounds * CELLS; i++) {
		sum.none += !sides[0].saw[i] && !sides[1].saw[i];
		sum.first += !sides[0].saw[i];
		sum.second += !sides[1].saw[i];
	}
	free(sides[0].saw);
	free(sides[1].saw);
	return sum;
}

/* With sequentially consistent stores and loads one of both sees the other, in each cell. */
static void sequential_consistency_is_kept(void **state)
{
	uint32_t rounds = (uint32_t)support_scale(4000);
	struct crossed strong;

	(void)state;
	guest_lay_out(PLACED);
	strong = cross_all(__ATOMIC_SEQ_CST, rounds);
#ifndef GM_TEST_EMULATED
	assert_int_equal(strong.none, 0);
#endif
	/* They did meet: neither was always the first. */
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		assert_true(strong.first && strong.second);
	/* What the stores and loads would do without: nothing that could be demanded. */
	printf("figure: relaxed crossings that neither saw %zu\n",
		cross_all(__ATOMIC_RELAXED, rounds).none);
}

/* ---- 16 bytes ---- */

#define PAIR UINT64_C(0x2000)

static bool has_16(void)
{
	static uint64_t pair[2] __attribute__((aligned(16)));
	struct gm_guard_fault fault;
	uint64_t was[2] = {pair[0], pair[1]};
	const uint64_t desired[2] = {1, 2};

	return gm_guard_cmpxchg_16(pair, was, desired, &fault) != -2;
}

static void sixteen_bytes_follow_the_edge_rule(void **state)
{
	const bool has = has_16();

	(void)state;
	for (enum layout layout = 0; layout < NR_LAYOUTS; layout++) {
		guest_lay_out(layout);
		guest_fill(false);
		for (size_t g = 0; g < guest_nr_gpas; g++) {
			uint64_t gpa = guest_gpas[g];
			const uint64_t desired[2] = {g, ~gpa};
			uint64_t was[2] = {7, 8};
			uint64_t there[2];
			uint64_t done;
			int rc = gpa % 16 ? -EINVAL : guest_expect(gpa, 16, GM_PERM_RW, &done);

			if (!rc && !has)
				rc = -ENOTSUP;
			if (!rc)
				guest_model_read(gpa, (uint8_t *)there, 16);
			assert_int_equal(gm_atomic_cmpxchg_u128(
						 guest_view, gpa, __ATOMIC_SEQ_CST, was, desired),
				rc);
			assert_int_equal(was[0], rc ? 7 : there[0]);
			assert_int_equal(was[1], rc ? 8 : there[1]);
			if (rc)
				continue;
			/* Half of it is not enough. */
			was[1]++;
			assert_int_equal(gm_atomic_cmpxchg_u128(
						 guest_view, gpa, __ATOMIC_RELAXED, was, desired),
				0);
			assert_memory_equal(was, there, 16);
			was[0]++;
			assert_int_equal(gm_atomic_cmpxchg_u128(
						 guest_view, gpa, __ATOMIC_RELAXED, was, desired),
				0);
			guest_check();
			assert_int_equal(gm_atomic_cmpxchg_u128(
						 guest_view, gpa, __ATOMIC_ACQ_REL, was, desired),
				1);
			assert_memory_equal(was, there, 16);
			guest_model_write(gpa, (const uint8_t *)desired, 16);
			guest_check();
		}
	}
}

static void *add_pairs(void *arg)
{
	struct worker *w = arg;

	for (unsigned long i = 0; i < w->rounds; i++) {
		uint64_t seen[2] = {0, 0};
		uint64_t next[2];

		do {
			next[0] = seen[0] + 1;
			next[1] = seen[1] - 3;
		} while (gm_atomic_cmpxchg_u128(guest_view, w->gpa, __ATOMIC_SEQ_CST, seen, next) ==
			 0);
		/* Never one half of another thread's. */
		w->size += seen[1] + 3 * seen[0] != 0;
	}
	return NULL;
}

static void sixteen_bytes_are_one(void **state)
{
	struct worker workers[ADDERS];
	const uint64_t rounds = 20000;
	uint64_t sum[2];

	(void)state;
	/* That it is refused there is what the case before says. */
	if (!has_16())
		return;
	guest_lay_out(PLACED);
	guest_fill(true);
	for (size_t i = 0; i < ADDERS; i++) {
		workers[i] = (struct worker){.gpa = PAIR, .rounds = rounds};
		assert_int_equal(
			pthread_create(&workers[i].thread, NULL, add_pairs, &workers[i]), 0);
	}
	for (size_t i = 0; i < ADDERS; i++) {
		pthread_join(workers[i].thread, NULL);
		assert_int_equal(workers[i].size, 0);
	}
	assert_int_equal(gm_read(guest_view, PAIR, sum, 16, NULL), 0);
	assert_int_equal(sum[0], ADDERS * rounds);
	assert_int_equal(sum[1] + 3 * ADDERS * rounds, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(atomics_follow_the_edge_rule),
		cmocka_unit_test(what_was_there_is_optional),
		cmocka_unit_test(aligned_accesses_are_never_torn),
		cmocka_unit_test(read_modify_write_loses_nothing),
		cmocka_unit_test(sequential_consistency_is_kept),
		cmocka_unit_test(sixteen_bytes_follow_the_edge_rule),
		cmocka_unit_test(sixteen_bytes_are_one),
	};

	return guest_init() ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
