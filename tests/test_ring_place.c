/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_ring_place.c - where rings stand by their memory (tool/ring_place.c), against rings that a driver and a device
 * move.
 */
#include <endian.h>
#include <string.h>

#include "support.h"

#include "../tool/ring_place.h"
#include "random.h"

#define MOST 64u
#define AVAIL_FLAG 0x80u
#define USED_FLAG 0x8000u

/* A packed ring, with both sides. */
static struct {
	uint8_t entries[MOST * 16];
	uint32_t num;
	uint32_t avail;
	uint32_t used;
	bool avail_lap;
	bool used_lap;
	uint32_t out;          /* entries */
	uint32_t chains[MOST]; /* lengths of those that are out, in a ring */
	uint32_t first;
	uint32_t nr_chains;
	const char *refuse; /* what the reader says */
	unsigned int reads;
	unsigned int torn; /* so many reads see a chain that is being written */
} ring;

static void set_flags(uint32_t i, uint16_t flags)
{
	flags = htole16(flags);
	memcpy(ring.entries + i * 16 + 14, &flags, sizeof(flags));
}

static void forward(uint32_t *at, bool *lap, uint32_t nr)
{
	*at += nr;
	if (*at >= ring.num) {
		*at -= ring.num;
		*lap = !*lap;
	}
}

static uint16_t made(bool lap)
{
	return lap ? AVAIL_FLAG : USED_FLAG;
}

static void offer(uint32_t nr)
{
	ring.chains[(ring.first + ring.nr_chains++) % MOST] = nr;
	ring.out += nr;
	while (nr--) {
		set_flags(ring.avail, made(ring.avail_lap));
		forward(&ring.avail, &ring.avail_lap, 1);
	}
}

/* Any of those that are out: the device writes one entry, and skips as many as the chain has. */
static void use(struct rng *rng)
{
	const uint32_t which = (uint32_t)rng_below(rng, ring.nr_chains);
	const uint32_t at = (ring.first + which) % MOST;
	const uint32_t nr = ring.chains[at];

	ring.chains[at] = ring.chains[ring.first % MOST];
	ring.first = (ring.first + 1) % MOST;
	ring.nr_chains--;
	ring.out -= nr;
	set_flags(ring.used, ring.used_lap ? AVAIL_FLAG | USED_FLAG : 0);
	forward(&ring.used, &ring.used_lap, nr);
}

static const char *read_ring(void *ctx, uint64_t addr, void *buf, size_t len)
{
	(void)ctx;
	ring.reads++;
	if (ring.refuse)
		return ring.refuse;
	assert_int_equal(addr, 0x1000);
	assert_int_equal(len, ring.num * 16);
	memcpy(buf, ring.entries, len);
	if (ring.torn) {
		/* Two entries behind the next one, which is written last. */
		uint32_t at = ring.avail;
		bool lap = ring.avail_lap;

		ring.torn--;
		for (int i = 0; i < 2; i++) {
			uint16_t flags;

			forward(&at, &lap, 1);
			flags = htole16(made(lap));
			memcpy((uint8_t *)buf + at * 16 + 14, &flags, sizeof(flags));
		}
	}
	return NULL;
}

static struct ring_positions look(void)
{
	const struct ring_place place = {.packed = true, .num = ring.num, .desc = 0x1000};
	struct ring_positions at;

	ring.reads = 0;
	ring_look(&place, read_ring, NULL, &at);
	return at;
}

static void start_ring(uint32_t num)
{
	memset(&ring, 0, sizeof(ring));
	ring.num = num;
	ring.avail_lap = ring.used_lap = true;
}

/* Is @at in [first, last], going up around the end? */
static bool is_between(uint32_t at, int32_t first, int32_t last)
{
	const uint32_t to = ((uint32_t)last + ring.num - (uint32_t)first) % ring.num;

	return (at + ring.num - (uint32_t)first) % ring.num <= to;
}

static void check(bool single)
{
	struct ring_positions at = look();

	assert_int_equal(at.avail, ring.avail);
	assert_int_equal(at.avail_lap, ring.avail_lap);
	/* A ring of which all entries are as the driver left them says nothing. */
	if (at.used_first < 0) {
		assert_int_equal(at.used, -1);
		assert_non_null(at.unknown);
		return;
	}
	assert_int_equal(at.used_last, ring.avail);
	assert_true(is_between(ring.used, at.used_first, at.used_last));
	if (at.used >= 0) {
		assert_int_equal(at.used, ring.used);
		assert_int_equal(at.used_lap, ring.used_lap);
		assert_null(at.unknown);
	}
	/* Chains of one entry leave none open. */
	if (single) {
		assert_int_equal(at.used_first, ring.used);
		assert_int_equal(at.used >= 0, ring.out == 0);
	}
}

static void packed_rings_of_all_sizes_stand_where_they_are(void **state)
{
	const unsigned long rounds = support_scale(3000);
	struct rng rng = {test_seed(11)};

	(void)state;
	for (uint32_t num = 1; num <= MOST; num = num < 10 ? num + 1 : num * 2 - 3) {
		for (uint32_t most = 1; most <= (num < 5 ? num : 5); most += 2) {
			start_ring(num);
			check(most == 1);
			for (unsigned long i = 0; i < rounds / num; i++) {
				const uint32_t nr = 1 + (uint32_t)rng_below(&rng, most);

				if (nr <= num - ring.out && rng_below(&rng, 2))
					offer(nr);
				else if (ring.nr_chains)
					use(&rng);
				check(most == 1);
			}
		}
	}
}

static void a_chain_that_is_being_written_is_waited_for(void **state)
{
	struct rng rng = {test_seed(12)};

	(void)state;
	start_ring(16);
	for (int i = 0; i < 100; i++) {
		struct ring_positions at;

		ring.torn = 3;
		at = look();
		assert_int_equal(at.avail, ring.avail);
		assert_int_equal(ring.reads, 4);
		offer(1);
		use(&rng);
	}
	/* Not for ever. */
	ring.torn = 1000;
	assert_int_equal(look().avail, -1);
	assert_non_null(look().unknown);
	assert_int_equal(look().used_first, -1);
}

static void what_cannot_be_read_is_said(void **state)
{
	struct ring_positions at;

	(void)state;
	start_ring(16);
	ring.refuse = "no reason";
	at = look();
	assert_string_equal(at.unknown, "no reason");
	assert_int_equal(at.avail & at.used & at.avail_lap & at.used_lap, -1);
	assert_int_equal(ring.reads, 1);
	ring.num = 0;
	assert_non_null(look().unknown);
	assert_int_equal(ring.reads, 0);
	ring.num = RING_ENTRIES_MAX + 1;
	assert_non_null(look().unknown);
	assert_int_equal(ring.reads, 0);
}

static void what_the_device_says_is_better(void **state)
{
	struct rng rng = {test_seed(13)};
	struct ring_positions at;

	(void)state;
	start_ring(16);
	offer(3);
	use(&rng);
	at = look();
	assert_int_equal(at.used, -1);
	assert_int_equal(at.used_first, 1);
	ring_used_is(&at, 3u << 16 | 1u << 31 | 3 | 1u << 15);
	assert_int_equal(at.used, 3);
	assert_int_equal(at.used_lap, 1);
	assert_int_equal(at.used_first, 3);
	assert_int_equal(at.used_last, 3);
	assert_null(at.unknown);
}

/* ---- split ---- */

static uint16_t indexes[2];

static const char *read_split(void *ctx, uint64_t addr, void *buf, size_t len)
{
	const unsigned int which = addr == 0x2002;

	assert_int_equal(len, 2);
	assert_true(which || addr == 0x1002);
	if (ctx && which)
		return "the used ring is away";
	memcpy(buf, &indexes[which], len);
	return NULL;
}

static void split_rings_have_their_indexes(void **state)
{
	struct ring_place place = {.num = 8, .avail = 0x1000, .used = 0x2000};
	struct ring_positions at;

	(void)state;
	indexes[0] = htole16(0xfffe);
	indexes[1] = htole16(7);
	ring_look(&place, read_split, NULL, &at);
	assert_int_equal(at.avail, 0xfffe);
	assert_int_equal(at.used, 7);
	assert_int_equal(at.avail_lap & at.used_lap & at.used_first & at.used_last, -1);
	assert_null(at.unknown);
	ring_look(&place, read_split, &place, &at);
	assert_int_equal(at.avail, 0xfffe);
	assert_int_equal(at.used, -1);
	assert_string_equal(at.unknown, "the used ring is away");
	place.avail = UINT64_MAX - 2;
	ring_look(&place, read_split, NULL, &at);
	assert_int_equal(at.avail, -1);
	assert_int_equal(at.used, 7);
	assert_non_null(at.unknown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_rings_of_all_sizes_stand_where_they_are),
		cmocka_unit_test(a_chain_that_is_being_written_is_waited_for),
		cmocka_unit_test(what_cannot_be_read_is_said),
		cmocka_unit_test(what_the_device_says_is_better),
		cmocka_unit_test(split_rings_have_their_indexes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
