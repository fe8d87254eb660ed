/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_checksum.c - sums of guest memory: those that xxHash gives for the same bytes in one piece, on every
 * provider, and what becomes of holes and lost pages.
 */
#include <errno.h>
#include <guestmem/checksum.h>
#include <string.h>

#include "one_space.h"
#include "provider.h"
#include "random.h"
#include "services/checksum.h"
#include "short_file.h"

#define XXH_INLINE_ALL 1
#include <xxhash.h>

#define PAGE UINT64_C(4096)
#define SEED UINT64_C(0x9e3779b97f4a7c15)

/* Of bytes i * 7 + i / 251, from xxHash 0.8.1's shared library. */
static const struct {
	size_t len;
	uint64_t seed;
	uint64_t sum;
	uint64_t sum_128[2];
} known[] = {
	{0, 0, 0x2d06800538d394c2, {0x6001c324468d497f, 0x99aa06d3014798d8}},
	{0, SEED, 0x602b0e2cd6662c8b, {0x4ca5176998171787, 0xd142977a2cca554b}},
	{1, 0, 0xc44bdff4074eecdb, {0xc44bdff4074eecdb, 0xa6cd5e9392000f6a}},
	{1, SEED, 0x062b185e4e01441a, {0x062b185e4e01441a, 0xe366b8c99a31df50}},
	{3, 0, 0xc3489259e968ad9e, {0xc3489259e968ad9e, 0x656e81c56e41fe02}},
	{3, SEED, 0x71a5f088b9bf6b14, {0x71a5f088b9bf6b14, 0x193b724faa894163}},
	{8, 0, 0xb88dee77f6bf6980, {0xebabbd0695002ff6, 0xe4b9dd0b66ff3c50}},
	{8, SEED, 0x3f5da5b7ad256de3, {0xafaac201b17de522, 0xbf56c6640e9a9197}},
	{16, 0, 0x9da23836adf2be1e, {0x94eaa17b20756f46, 0xddf6c1254d70f767}},
	{16, SEED, 0x6c542998420ca675, {0xd18214bb29f42e22, 0x4a137456ae19bca0}},
	{17, 0, 0xf34c3c9cf5a112d1, {0x735fe434ded90c3c, 0x263f67af63088041}},
	{17, SEED, 0x215d8e2b47eb92db, {0x365e7d433a161892, 0x23338edfb58ee008}},
	{128, 0, 0x65f3c2c00fa93185, {0xc6bd21ecc865f29f, 0xdd9e5aa9bd51cc9c}},
	{128, SEED, 0x65c2e94ea7b79257, {0x438e5b999ee88b05, 0x45e311da6869fa07}},
	{129, 0, 0x28065c6ec25f5b25, {0x7f4accb76587485b, 0x00433635cf8d872e}},
	{129, SEED, 0x17f705a26996f1c9, {0xf708a9ed675cd916, 0x787d1a402a69ed5a}},
	{240, 0, 0x4917a75c0ef8eed7, {0xd10beb4e0599e4b3, 0x89e3a0a2ee355d25}},
	{240, SEED, 0xf906157a86b7eac3, {0x90fe0de03c6f6cd0, 0x0fa12ffa59febd06}},
	{241, 0, 0x541b19226f0052e8, {0x541b19226f0052e8, 0x75f4da43f23cce5a}},
	{241, SEED, 0x6ec6d69819587a84, {0x6ec6d69819587a84, 0x3dee3a45c8bb9d70}},
	{1024, 0, 0xba464919c6bb3ccd, {0xba464919c6bb3ccd, 0x03de0c29e9f0bc7f}},
	{1024, SEED, 0xf3f4521d752307df, {0xf3f4521d752307df, 0xa5293ad81aca5c50}},
	{1025, 0, 0x2aa0034e7827ee42, {0x2aa0034e7827ee42, 0x7584e04fe3414e5a}},
	{1025, SEED, 0x4e7227cbfef4a99a, {0x4e7227cbfef4a99a, 0x16b90df8523f1109}},
	{4096, 0, 0x5a73a95c9a8b3549, {0x5a73a95c9a8b3549, 0xcde3f47d2ed204cd}},
	{4096, SEED, 0xde422b9f91583c5e, {0xde422b9f91583c5e, 0x220ae8997e92f9a9}},
	{5000, 0, 0xe69c7c10fe601e8d, {0xe69c7c10fe601e8d, 0xa831ba0ab04f5544}},
	{5000, SEED, 0xe7cda562a2776ba1, {0xe7cda562a2776ba1, 0x822b10fd6c638584}},
};

static void sums_are_those_of_others(void **state)
{
	uint8_t bytes[5000];
	const struct gm_view *view;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	/* Cut in the middle of a chunk. */
	add(0, PAGE);
	add(PAGE, PAGE);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_write(view, 100, bytes, sizeof(bytes), NULL), 0);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint64_t sum[2] = {0};
		size_t done = 77;

		assert_int_equal(
			gm_checksum(view, 100, known[i].len, known[i].seed, sum, &done), 0);
		assert_int_equal(done, known[i].len);
		assert_true(sum[0] == known[i].sum);
		done = 77;
		assert_int_equal(
			gm_checksum_128(view, 100, known[i].len, known[i].seed, sum, &done), 0);
		assert_int_equal(done, known[i].len);
		assert_true(sum[0] == known[i].sum_128[0] && sum[1] == known[i].sum_128[1]);
	}
	gm_reader_leave(reader);
	stop();
}

static void sum_some(struct provided *p, const uint8_t *model, struct rng *rng)
{
	const struct gm_view *view = gm_reader_enter(p->reader);
	size_t off = (size_t)rng_below(rng, PROVIDED);
	size_t len = (size_t)rng_below(rng, rng_below(rng, 2) ? 300 : PROVIDED);
	uint64_t seed = rng_below(rng, 2) ? rng_next(rng) : 0;
	XXH128_hash_t want;
	uint64_t sum[2] = {0};

	len = len > PROVIDED - off ? PROVIDED - off : len;
	want = XXH3_128bits_withSeed(model + off, len, seed);
	assert_int_equal(gm_checksum(view, p->base + off, len, seed, sum, NULL), 0);
	assert_true(sum[0] == XXH3_64bits_withSeed(model + off, len, seed));
	assert_int_equal(gm_checksum_128(view, p->base + off, len, seed, sum, NULL), 0);
	assert_true(sum[0] == want.low64 && sum[1] == want.high64);
	gm_reader_leave(p->reader);
}

static void every_provider_has_the_same_sums(void **state)
{
	static uint8_t model[PROVIDED];
	struct rng rng = {test_seed(31)};

	(void)state;
	for (size_t i = 0; i < NR_PROVIDERS; i++) {
		struct provided p;

		provide(i, &p);
		for (size_t j = 0; j < PROVIDED; j++)
			model[j] = (uint8_t)rng_next(&rng);
		p.set(&p, model);
		for (unsigned long n = 0; n < support_scale(40); n++)
			sum_some(&p, model, &rng);
		unprovide(&p);
	}
}

/* Memory, a hole, memory that can be read only, and the last page of all. */
static const struct {
	uint64_t gpa;
	size_t len;
	int rc;
	size_t done;
} edges[] = {
	{0, 0, 0, 0},
	{PAGE, 0, -EFAULT, 0},
	{PAGE - 5, 5, 0, 5},
	{PAGE - 5, 6, -EFAULT, 5},
	{0, PAGE + 1, -EFAULT, PAGE},
	{PAGE, 1, -EFAULT, 0},
	{2 * PAGE, PAGE, 0, PAGE},
	{UINT64_MAX - 99, 100, 0, 100},
	{UINT64_MAX - 99, 101, -ERANGE, 0},
	{UINT64_MAX, SIZE_MAX, -ERANGE, 0},
	{UINT64_MAX, 0, 0, 0},
};

static void a_sum_follows_the_edge_rule(void **state)
{
	const struct gm_view *view;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GM_SPACE_NO_WINDOW));
	add(0, PAGE);
	assert_ok(gm_space_add(space,
		DESC(.gpa = 2 * PAGE, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)), NULL,
		&err));
	add(UINT64_MAX - PAGE + 1, PAGE);
	view = gm_reader_enter(reader);
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		uint64_t sum[2] = {7, 8};
		size_t done = 77;

		assert_int_equal(
			gm_checksum(view, edges[i].gpa, edges[i].len, 0, sum, &done), edges[i].rc);
		assert_int_equal(done, edges[i].done);
		assert_true((sum[0] == 7) == (edges[i].rc != 0));
		sum[0] = 7;
		done = 77;
		assert_int_equal(gm_checksum_128(view, edges[i].gpa, edges[i].len, 0, sum, &done),
			edges[i].rc);
		assert_int_equal(done, edges[i].done);
		assert_true((sum[0] == 7 && sum[1] == 8) == (edges[i].rc != 0));
	}
	gm_reader_leave(reader);
	stop();
}

static void a_lost_page_is_an_error(void **state)
{
	const struct gm_view *view;
	uint64_t sum[2] = {7, 8};
	size_t done = 77;

	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)));
	add_short(0, 4 * PAGE);
	view = gm_reader_enter(reader);
	assert_int_equal(gm_checksum(view, 0, 4 * PAGE, 0, sum, NULL), 0);
	sum[0] = 7;
	cut_short(2 * PAGE);
	assert_int_equal(gm_checksum(view, 10, 3 * PAGE, 0, sum, &done), -EIO);
	assert_int_equal(done, 2 * PAGE - 10);
	assert_int_equal(gm_checksum_128(view, 3 * PAGE, 8, 0, sum, &done), -EIO);
	assert_int_equal(done, 0);
	assert_true(sum[0] == 7 && sum[1] == 8);
	gm_reader_leave(reader);
	stop();
	end_short();
}

/* Long and short pieces go different ways where the processor has AVX2: the state is the same. */
static void a_sum_of_pieces_is_that_of_all(void **state)
{
	static uint8_t bytes[20000];
	struct rng rng = {test_seed(17)};
	struct gm_checksum_run run;
	uint64_t whole;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rng_next(&rng);
	for (unsigned long turn = 0; turn < support_scale(2000); turn++) {
		size_t len = 1 + rng_below(&rng, sizeof(bytes));
		size_t most = turn % 3 == 0 ? 1500 : turn % 3 == 1 ? 900 : len;

		memset(&run, 0xa5, sizeof(run));
		assert_true(gm_checksum_begin(&run));
		for (size_t at = 0; at < len;) {
			size_t piece = 1 + rng_below(&rng, most);

			piece = piece < len - at ? piece : len - at;
			gm_checksum_add(&run, bytes + at, piece);
			at += piece;
			/* It may be asked for in between. */
			assert_true(gm_checksum_bytes(bytes, at, &whole));
			assert_true(gm_checksum_end(&run) == whole);
		}
		assert_true(whole == XXH3_64bits(bytes, len));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_are_those_of_others),
		cmocka_unit_test(every_provider_has_the_same_sums),
		cmocka_unit_test(a_sum_follows_the_edge_rule),
		cmocka_unit_test(a_lost_page_is_an_error),
		cmocka_unit_test(a_sum_of_pieces_is_that_of_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
