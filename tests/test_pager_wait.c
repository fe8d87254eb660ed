/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_wait.c - how the thread that steps waits: it finds a burst without sleeping, gives up where that is in
 * vain, and sleeps when nothing happens.
 */
#include <time.h>

#include "fault.h"
#include "one_pager.h"

#define PAGES 256u
#define LEN (PAGES * PAGE)

static uint8_t *at;

static void start(uint32_t wait, uint32_t spin_ns)
{
	at = map_anon(LEN);
	start_pager_with(LEN, (struct gm_pager_opts){.wait = wait, .spin_ns = spin_ns});
	assert_ok(gm_pager_add_range(pager, at, LEN, AREA(.source = source), NULL, &err));
	/* A new area is looked at for what is to be filled: that is over. */
	assert_int_equal(gm_pager_step(pager, 0), 0);
}

static void end(void)
{
	stop_pager();
	munmap(at, LEN);
}

static unsigned long sleeps_of_a_burst(uint32_t wait)
{
	unsigned long sleeps;

	/* Longer than any thread here is kept from a CPU. */
	start(wait, 1000000000);
	fault_set(NULL);
	start_stepping();
	assert_true(has_words(at, 0, LEN));
	sleeps = fault_calls(FAULT_gm_sys_epoll_wait);
	stop_stepping();
	end();
	return sleeps;
}

static void a_burst_is_found_without_sleeping(void **state)
{
	unsigned long least = PAGES;

	(void)state;
	/* On a busy machine both threads may share a CPU for a while: then looking does not pay, and it sleeps. */
	for (int i = 0; i < 100 && least >= PAGES / 4; i++) {
		unsigned long sleeps = sleeps_of_a_burst(GM_PAGER_WAIT_AUTO);

		least = sleeps < least ? sleeps : least;
	}
	assert_true(least < PAGES / 4);
	assert_true(sleeps_of_a_burst(GM_PAGER_WAIT_BLOCK) >= PAGES / 2);
}

static void *touch(void *arg)
{
	return *(volatile uint8_t *)arg ? arg : NULL;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* CPU time that one fault at a time costs who steps, with pauses that are longer than it looks. */
static uint64_t cpu_of_lone_faults(uint32_t spin_ns, unsigned int nr)
{
	uint64_t before;

	start(GM_PAGER_WAIT_AUTO, spin_ns);
	before = cpu_ns();
	for (unsigned int i = 0; i < nr; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, touch, at + i * PAGE), 0);
		while (stats().faults <= i)
			assert_true(gm_pager_step(pager, 1000) >= 0);
		pthread_join(thread, NULL);
		/* Here it would look for the next. */
		assert_int_equal(gm_pager_step(pager, 1), 0);
	}
	before = cpu_ns() - before;
	end();
	return before;
}

/* Two looks at most: after the first fault, and 31 later. */
static void looking_in_vain_is_given_up(void **state)
{
	const uint32_t spin = 20000000;

	(void)state;
	assert_true(cpu_of_lone_faults(spin, 60) < 20 * (uint64_t)spin);
}

static void options_are_checked(void **state)
{
	struct gm_pager *none;

	(void)state;
	assert_fails(
		gm_pager_create(GM_OPTS(gm_pager_opts, .wait = 3), &none, &err), EINVAL, "bounds");
	assert_fails(gm_pager_create(GM_OPTS(gm_pager_opts, .spin_ns = 99), &none, &err), EINVAL,
		"bounds");
}

/* It never sleeps, and ends when it is told to. */
static void busy_waiting_serves_and_ends(void **state)
{
	(void)state;
	start(GM_PAGER_WAIT_BUSY, 0);
	start_stepping();
	assert_true(has_words(at, 0, LEN));
	stop_stepping();
	assert_int_equal(stats().loaded, PAGES);
	end();
}

/* ---- figures ---- */

/* All is wanted at once and nothing happens afterwards: who sleeps then has to look once more. */
static void it_is_known_when_all_was_there(void **state)
{
	struct gm_pager_stats now;

	(void)state;
	start(GM_PAGER_WAIT_AUTO, 0);
	start_stepping();
	assert_true(has_words(at, 0, LEN));
	for (int i = 0; i < 30000; i++) {
		now = stats();
		if (now.all_ns)
			break;
		usleep(1000);
	}
	assert_true(now.half_ns && now.most_ns && now.all_ns);
	assert_true(now.half_ns <= now.most_ns && now.most_ns <= now.all_ns);
	end();
}

static uint64_t counted(const struct gm_pager_stats *now, unsigned int k)
{
	uint64_t nr = 0;

	for (size_t i = 0; i < GM_PAGER_BUCKETS; i++)
		nr += now->class_latency[k][i];
	assert_int_equal(now->class_ns[k] > 0, nr > 0);
	return nr;
}

static void faults_are_counted_by_class(void **state)
{
	struct gm_source *raw;
	struct gm_pager_stats now;
	uint8_t *of_file = map_anon(2 * PAGE);
	uint8_t *there;
	uint64_t sum = 0;
	int fd = memfd_create("raw", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
	assert_int_equal(pwrite(fd, "raw", 3, 0), 3);
	assert_ok(gm_source_file(fd, 0, 0, &raw, &err));
	start(GM_PAGER_WAIT_AUTO, 0);
	of_source.zero = 8 * PAGE;
	assert_ok(gm_pager_add_range(pager, of_file, 2 * PAGE, AREA(.source = raw), NULL, &err));
	there = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ok(gm_pager_add_range(pager, there, 2 * PAGE,
		AREA(.way = GM_PAGER_CONTINUE, .flags = GM_PAGER_FILE, .fd = fd), NULL, &err));
	start_stepping();
	assert_true(has_words(at, 0, 8 * PAGE) && has_zeros(at + 8 * PAGE, 4 * PAGE));
	assert_true(of_file[0] == 'r' && of_file[PAGE] == 0 && there[0] == 'r');
	stop_stepping();
	now = stats();
	assert_int_equal(counted(&now, GM_PAGER_CLASS_PACKED), 8);
	assert_int_equal(counted(&now, GM_PAGER_CLASS_ZERO), 4 + 1);
	assert_int_equal(counted(&now, GM_PAGER_CLASS_RAW), 1);
	assert_int_equal(counted(&now, GM_PAGER_CLASS_REMOTE), 0);
	assert_int_equal(counted(&now, GM_PAGER_CLASS_THERE), 1);
	for (size_t i = 0; i < GM_PAGER_BUCKETS; i++)
		sum += now.latency[i];
	assert_int_equal(sum, now.loaded);
	end();
	gm_source_destroy(raw);
	munmap(of_file, 2 * PAGE);
	munmap(there, 2 * PAGE);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_burst_is_found_without_sleeping),
		cmocka_unit_test(looking_in_vain_is_given_up),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(busy_waiting_serves_and_ends),
		cmocka_unit_test(faults_are_counted_by_class),
		cmocka_unit_test(it_is_known_when_all_was_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
