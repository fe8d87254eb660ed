/* SPDX-License-Identifier: BSD-3-Clause */
/* test_peer_wire.c - messages about pages: what is accepted is bounded, and gives the same bytes again. */
#include <string.h>

#include "core/peer_wire.h"
#include "random.h"
#include "support.h"

static void messages_are_what_they_were(void **state)
{
	struct rng rng = {test_seed(89)};
	const char *why;

	(void)state;
	for (unsigned long i = 0; i < support_scale(20000); i++) {
		uint8_t bytes[GM_PEER_WELCOME];
		uint8_t again[GM_PEER_WELCOME];
		struct gm_peer_hello hello;
		struct gm_peer_welcome welcome;
		struct gm_peer_request request;
		struct gm_peer_answer answer;

		for (size_t b = 0; b < sizeof(bytes); b++)
			bytes[b] = rng_below(&rng, 3) ? 0 : (uint8_t)rng_below(&rng, 7);
		if (i % 2)
			memcpy(bytes, "GMPAGES\n", 8);
		if (!gm_peer_get_hello(bytes, &hello, &why)) {
			gm_peer_put_hello(&hello, again);
			assert_memory_equal(bytes, again, 16);
		}
		if (!gm_peer_get_welcome(bytes, &welcome, &why) && welcome.version) {
			gm_peer_put_welcome(&welcome, again);
			assert_memory_equal(bytes, again, GM_PEER_WELCOME);
		}
		if (!gm_peer_get_request(bytes, &request, &why)) {
			gm_peer_put_request(&request, again);
			assert_memory_equal(bytes, again, GM_PEER_REQUEST);
		}
		if (gm_peer_get_answer(bytes, &answer, &why))
			continue;
		assert_true(
			answer.len && answer.len <= GM_PEER_LEN_MAX && answer.stored <= answer.len);
		gm_peer_put_answer(&answer, again);
		assert_memory_equal(bytes, again, GM_PEER_ANSWER);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_what_they_were),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
