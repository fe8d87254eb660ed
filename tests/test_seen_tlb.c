/* SPDX-License-Identifier: BSD-3-Clause */
/* test_seen_tlb.c - translations that pass a proxy (tool/vhost_tlb.c), against an array. */
#include <string.h>

#include "support.h"

#include "../tool/vhost_user.h"
#include "random.h"

#define ADDRS 200u

static struct seen_tlb tlb;
static uint64_t model[ADDRS]; /* user address, 0: none */

static void say(uint8_t type, uint64_t iova, uint64_t len, uint64_t user)
{
	const struct gm_vhost_iotlb msg = {iova, len, user, 3, type, {0}};

	tlb_update(&tlb, &msg);
}

static void check_all(uint64_t base)
{
	for (uint64_t i = 0; i < ADDRS; i++) {
		uint64_t user = 0;
		uint64_t len = tlb_find(&tlb, base + i, &user);

		if (!model[i]) {
			assert_int_equal(len, 0);
			continue;
		}
		assert_int_equal(user, model[i]);
		assert_true(len > 0);
		for (uint64_t k = 0; k < len && i + k < ADDRS; k++)
			assert_int_equal(model[i + k], model[i] + k);
	}
	for (uint32_t i = 0; i + 1 < tlb.nr; i++)
		assert_true(tlb.list[i].iova + tlb.list[i].len <= tlb.list[i + 1].iova);
}

static void updates_and_invalidations_agree_with_an_array(void **state)
{
	static const uint64_t bases[] = {0, 0x1000, UINT64_MAX - ADDRS + 1};
	const unsigned long rounds = support_scale(3000);
	struct rng rng = {test_seed(14)};

	(void)state;
	for (size_t b = 0; b < 3; b++) {
		memset(model, 0, sizeof(model));
		for (unsigned long n = 0; n < rounds; n++) {
			const uint64_t at = rng_below(&rng, ADDRS);
			const uint64_t len = 1 + rng_below(&rng, ADDRS - at);
			const bool on = rng_below(&rng, 3);
			const uint64_t user = 1 + rng_below(&rng, 1u << 20);

			say(on ? GM_VHOST_IOTLB_UPDATE : GM_VHOST_IOTLB_INVALIDATE, bases[b] + at,
				len, user);
			for (uint64_t i = at; i < at + len; i++)
				model[i] = on ? user + (i - at) : 0;
			check_all(bases[b]);
		}
		tlb_clear(&tlb);
	}
}

static void what_cannot_be_is_left_out(void **state)
{
	uint64_t user;

	(void)state;
	say(GM_VHOST_IOTLB_UPDATE, 5, 0, 1);
	say(GM_VHOST_IOTLB_UPDATE, 0, 0, 1);
	say(GM_VHOST_IOTLB_UPDATE, UINT64_MAX, 2, 1);
	say(GM_VHOST_IOTLB_UPDATE, 0, 2, UINT64_MAX);
	say(GM_VHOST_IOTLB_MISS, 0, 2, 1);
	say(77, 0, 2, 1);
	assert_int_equal(tlb.nr, 0);
	say(GM_VHOST_IOTLB_UPDATE, 100, 10, 1000);
	say(GM_VHOST_IOTLB_INVALIDATE, 5, 0, 0);
	assert_int_equal(tlb_find(&tlb, 109, &user), 1);
	assert_int_equal(user, 1009);
	/* Longer than there are addresses. */
	say(GM_VHOST_IOTLB_INVALIDATE, 105, UINT64_MAX, 0);
	assert_int_equal(tlb_find(&tlb, 105, &user), 0);
	assert_int_equal(tlb_find(&tlb, 100, &user), 5);
	/* All of them. */
	say(GM_VHOST_IOTLB_INVALIDATE, 0, 0, 0);
	assert_int_equal(tlb.nr, 0);
	tlb_clear(&tlb);
}

static void no_more_are_kept_than_there_is_room_for(void **state)
{
	uint64_t user;

	(void)state;
	for (uint64_t i = 0; i < 20000; i++)
		say(GM_VHOST_IOTLB_UPDATE, i * 8192, 4096, i * 4096);
	assert_int_equal(tlb.nr, 16384);
	assert_true(tlb.full);
	assert_int_equal(tlb_find(&tlb, 8192, &user), 4096);
	assert_int_equal(tlb_find(&tlb, UINT64_C(19999) * 8192, &user), 0);
	/* There is room again. */
	say(GM_VHOST_IOTLB_INVALIDATE, 0, 8192, 0);
	say(GM_VHOST_IOTLB_UPDATE, UINT64_C(19999) * 8192, 4096, 77);
	assert_int_equal(tlb_find(&tlb, UINT64_C(19999) * 8192, &user), 4096);
	assert_int_equal(user, 77);
	/* A hole in one needs room for another, and has none: what is behind it counts as not seen. */
	say(GM_VHOST_IOTLB_INVALIDATE, 8192 + 16, 16, 0);
	assert_int_equal(tlb_find(&tlb, 8192, &user), 16);
	assert_int_equal(tlb_find(&tlb, 8192 + 32, &user), 0);
	tlb_clear(&tlb);
	assert_false(tlb.full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(updates_and_invalidations_agree_with_an_array),
		cmocka_unit_test(what_cannot_be_is_left_out),
		cmocka_unit_test(no_more_are_kept_than_there_is_room_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
