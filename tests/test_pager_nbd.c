/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_nbd.c - memory that a server brings: what prefetch hides of its delay, and a server that dies on the way.
 */
#include <guestmem/guestmem.h>

#include <endian.h>

#include "nbd_server.h"
#include "one_pager.h"
#include "random.h"
#include "sys/sys.h"

#define SIZE MIB(64)
#define TOUCHED 96u
#define DELAY_MS 15

static uint8_t *memory;
static uint64_t area;
static uint64_t order[TOUCHED];

/* Pages all over it, none twice. */
static void choose_pages(struct rng *rng)
{
	uint64_t stride = SIZE / PAGE / TOUCHED;

	for (size_t i = 0; i < TOUCHED; i++)
		order[i] = (i * stride + rng_below(rng, stride)) * PAGE;
	for (size_t i = TOUCHED - 1; i > 0; i--) {
		size_t other = rng_below(rng, i + 1);
		uint64_t was = order[i];

		order[i] = order[other];
		order[other] = was;
	}
}

static void begin(uint32_t retry_ms)
{
	const struct gm_nbd_opts opts = {
		.size = sizeof(opts), .uri = uri, .connections = 8, .retry_ms = retry_ms};

	nr_begun = 0;
	nr_told = 0;
	assert_ok(gm_source_nbd(&opts, &source, &err));
	assert_ok(gm_pager_create(
		&(struct gm_pager_opts){.size = sizeof(struct gm_pager_opts), .told = on_told},
		&pager, &err));
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	assert_ok(gm_pager_add_range(pager, memory, SIZE, AREA(.source = source), &area, &err));
	start_stepping();
}

static void end(void)
{
	stop_stepping();
	munmap(memory, SIZE);
	assert_ok(gm_pager_stop(pager, GM_PAGER_POISON, 60000, &err));
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
}

/* The bytes of nbdkit's pattern are their offsets, in words. */
static void touch(size_t i)
{
	uint64_t word;

	memcpy(&word, memory + order[i], 8);
	if (be64toh(word) != order[i])
		fail_msg("0x%llx at 0x%llx", (unsigned long long)be64toh(word),
			(unsigned long long)order[i]);
}

/* How long all touches take, ahead of which a recorded set is brought or not, in ns. */
static uint64_t touch_all(bool ahead)
{
	struct gm_pager_stats now;
	uint64_t remote = 0;
	uint64_t since;

	begin(0);
	since = gm_sys_now_ns();
	if (ahead) {
		for (size_t i = 0; i < TOUCHED; i++)
			assert_int_equal(gm_pager_prefetch(pager, area, order[i], PAGE), 0);
		assert_int_equal(gm_pager_fill(pager, GM_PAGER_FILL_RANGES, 0), 0);
	}
	for (size_t i = 0; i < TOUCHED; i++)
		touch(i);
	since = gm_sys_now_ns() - since;
	stop_stepping();
	now = stats();
	for (size_t i = 0; i < GM_PAGER_BUCKETS; i++)
		remote += now.class_latency[GM_PAGER_CLASS_REMOTE][i];
	assert_int_equal(remote, now.loaded);
	end();
	return since;
}

static void prefetch_hides_most_of_the_delay(void **state)
{
	struct rng rng = {test_seed(91)};
	uint64_t near = UINT64_MAX;
	uint64_t demand;
	uint64_t ahead = UINT64_MAX;
	uint64_t hidden;

	(void)state;
	choose_pages(&rng);
	NBDKIT("pattern", "64M");
	for (int i = 0; i < 3; i++) {
		uint64_t ns = touch_all(false);

		near = ns < near ? ns : near;
	}
	stop_server();
	NBDKIT("--filter=delay", "pattern", "64M", "rdelay=15ms");
	demand = touch_all(false);
	/* Each touch waited. */
	assert_true(demand >= UINT64_C(1000000) * TOUCHED * DELAY_MS);
	/* On a busy machine one try may be unlucky. */
	for (int i = 0; i < 5; i++) {
		uint64_t ns = touch_all(true);

		ahead = ns < ahead ? ns : ahead;
		hidden = ahead < near ? 100 : 100 - (ahead - near) * 100 / (demand - near);
		if (hidden >= 90)
			break;
	}
	stop_server();
	print_message("no delay %.1f ms, on demand %.1f ms, ahead %.1f ms: %d %% hidden\n",
		(double)near / 1e6, (double)demand / 1e6, (double)ahead / 1e6, (int)hidden);
	assert_true(hidden >= 80);
}

static void *touch_rest(void *arg)
{
	(void)arg;
	for (size_t i = TOUCHED / 2; i < TOUCHED; i++)
		touch(i);
	return NULL;
}

static void a_server_that_dies_and_comes_back_is_no_wrong_page(void **state)
{
	struct rng rng = {test_seed(92)};
	pthread_t thread;

	(void)state;
	choose_pages(&rng);
	NBDKIT("--filter=delay", "pattern", "64M", "rdelay=2ms");
	begin(60000);
	for (size_t i = 0; i < TOUCHED / 2; i++)
		touch(i);
	assert_int_equal(pthread_create(&thread, NULL, touch_rest, NULL), 0);
	stop_server();
	NBDKIT("pattern", "64M");
	pthread_join(thread, NULL);
	for (size_t i = 0; i < TOUCHED; i++)
		touch(i);
	assert_int_equal(nr_told, 0);
	end();
	stop_server();
}

static void one_that_stays_away_poisons_and_is_told(void **state)
{
	struct gm_pager_area_info info = {.size = sizeof(info)};
	struct rng rng = {test_seed(93)};

	(void)state;
	choose_pages(&rng);
	NBDKIT("pattern", "64M");
	begin(100);
	for (size_t i = 0; i < 10; i++)
		touch(i);
	stop_server();
	/* As a fault would, in a thread that is not killed by it. */
	for (size_t i = 10; i < 13; i++)
		assert_int_equal(gm_pager_resolve(pager, memory + order[i]), -EIO);
	assert_int_equal(gm_pager_area(pager, area, &info), 0);
	assert_int_equal(info.poisoned, 3 * PAGE);
	wait_told(3);
	assert_int_equal(told[0].kind, GM_PAGER_POISONED);
	for (size_t i = 0; i < 10; i++)
		touch(i);
	end();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(prefetch_hides_most_of_the_delay),
		TEST(a_server_that_dies_and_comes_back_is_no_wrong_page),
		TEST(one_that_stays_away_poisons_and_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
