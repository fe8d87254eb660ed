/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kvm_threads.c - slots change while vCPUs run: what stays is never disturbed, what comes and goes is there
 * with its bytes or exits.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

#include "fault.h"
#include "one_guest.h"
#include "random.h"

#define DATA MIB(2)
#define PAGES UINT64_C(512)
#define HIGH GIB(1)
#define HOT_PAGES UINT64_C(64)

static bool stop_running; /* atomic */

struct runner {
	pthread_t thread;
	unsigned int cpu;
	enum guest_payload payload;
	struct gm_reader *reader;
	uint64_t runs;
	uint64_t exits;
	uint64_t wrong;
	int failed;
};

/* A sum of ones, and of all-ones where nothing was. */
static bool is_right(uint64_t sum)
{
	int64_t value = (int64_t)sum;

	return value >= -(int64_t)HOT_PAGES && value <= (int64_t)HOT_PAGES && value % 2 == 0;
}

static void *run(void *arg)
{
	struct runner *r = arg;
	struct guest_params *params = NULL;

	while (!__atomic_load_n(&stop_running, __ATOMIC_RELAXED)) {
		int rc;

		params = guest_start(&guest, r->cpu, r->payload);
		do {
			rc = guest_run(&guest, r->cpu);
			if (rc == KVM_EXIT_MMIO) {
				serve_mmio_by(r->cpu, r->reader);
				r->exits++;
			}
		} while (rc == KVM_EXIT_MMIO);
		if (rc != KVM_EXIT_IO || !guest_is_done(&guest, r->cpu)) {
			r->failed = rc;
			return NULL;
		}
		__atomic_add_fetch(&r->runs, 1, __ATOMIC_RELAXED);
		if (r->payload == GUEST_SUM)
			r->wrong += !is_right(params->value);
	}
	return NULL;
}

static void begin(struct runner *r)
{
	__atomic_store_n(&stop_running, false, __ATOMIC_RELAXED);
	assert_ok(gm_reader_create(space, "vcpu", &r->reader, &err));
	assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
}

static void end(struct runner *r)
{
	__atomic_store_n(&stop_running, true, __ATOMIC_RELAXED);
	pthread_join(r->thread, NULL);
	gm_reader_destroy(r->reader);
	assert_int_equal(r->failed, 0);
	assert_true(r->runs > 0);
}

/* The guest's own memory is not touched by what happens beside it: it never exits. */
static void test_slots_change_while_a_vcpu_runs(void **state)
{
	struct runner r = {.payload = GUEST_STAMP};
	struct guest_params *params;
	unsigned long changes = support_scale(200);
	unsigned long done = 0;
	uint64_t ids[4] = {0};
	struct rng rng = {test_seed(5)};

	(void)state;
	start_guest(GM_OPTS(gm_kvm_opts, .max_slots = 16), 1);
	params = guest_start(&guest, 0, GUEST_STAMP);
	*params = (struct guest_params){
		.base = DATA, .mask = PAGES - 1, .value = 1, .count = 1000, .seed = 7};
	begin(&r);
	fault_set(NULL);
	while (done < changes) {
		size_t i = rng_below(&rng, 4);

		if (!ids[i])
			ids[i] = add(HIGH + MIB(2) * i, PAGE * (1 + rng_below(&rng, 16)));
		else if (rng_below(&rng, 2))
			assert_ok(protect(ids[i], rng_below(&rng, 2) ? GM_PERM_R : GM_PERM_RWX));
		else {
			assert_ok(gm_space_remove(space, ids[i], &err));
			ids[i] = 0;
		}
		done = fault_calls(FAULT_gm_sys_kvm_set_slot);
	}
	end(&r);
	assert_int_equal(r.exits, 0);
	/* Every number that was stored last in a page is one of those that were stored. */
	assert_int_equal(params->value, 1 + 1000 * r.runs);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_true(*(uint64_t *)(void *)(guest.system + DATA + i * PAGE) < params->value);
	printf("figure: kvm_changes %lu\n", done);
	stop_guest();
}

static struct gm_block *make_ones(void)
{
	struct gm_block *block;
	struct gm_block_info made = {.size = sizeof(made)};

	assert_ok(gm_block_create(
		BLOCK(.len = HOT_PAGES * PAGE, .backing = GM_BACKING_MEMFD), &block, &err));
	assert_int_equal(gm_block_info(block, &made), 0);
	for (uint64_t i = 0; i < HOT_PAGES; i++)
		*(uint64_t *)(void *)((uint8_t *)made.hva + i * PAGE) = 1;
	return block;
}

/* Two vCPUs read memory that is plugged and unplugged as a whole and in parts. */
static void test_memory_comes_and_goes_under_the_guest(void **state)
{
	static struct fault_state before;
	struct runner r[2] = {{.payload = GUEST_SUM}, {.payload = GUEST_SUM, .cpu = 1}};
	unsigned long rounds = support_scale(50);
	struct gm_block *ones;
	uint64_t exits = 0;

	(void)state;
	fault_state_take(&before);
	start_guest(GM_OPTS(gm_kvm_opts, .flags = GM_KVM_PARTS), 2);
	ones = make_ones();
	for (unsigned int i = 0; i < 2; i++) {
		struct guest_params *params = guest_start(&guest, i, GUEST_SUM);

		params->base = HIGH;
		params->count = HOT_PAGES;
		begin(&r[i]);
	}
	/* Until both were seen: memory that is there, and memory that is not. */
	for (unsigned long n = 0; n < rounds; n++) {
		uint64_t id;

		assert_ok(gm_space_add(
			space, DESC(.gpa = HIGH, .block = ones, .granule = PAGE * 8), &id, &err));
		assert_ok(gm_space_set_part(
			space, id, n % 8 * 8 * PAGE, 8 * PAGE, GM_PART_UNPLUGGED, &err));
		assert_ok(gm_space_set_part(
			space, id, n % 8 * 8 * PAGE, 8 * PAGE, GM_PART_SHARED, &err));
		assert_ok(gm_space_remove(space, id, &err));
		assert_ok(gm_space_synchronize(space, 0, &err));
	}
	for (unsigned int i = 0; i < 2; i++) {
		end(&r[i]);
		assert_int_equal(r[i].wrong, 0);
		exits += r[i].exits;
	}
	assert_true(exits > 0);
	assert_int_equal(info().slots, 1);
	gm_block_put(ones);
	stop_guest();
	assert_true(fault_state_same(&before));
	printf("figure: kvm_plugs %lu\n", 4 * rounds);
}

/* ---- a monitor that pauses ---- */

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

static int pause_cpus(void *ctx)
{
	(void)ctx;
	pthread_mutex_lock(&running);
	return 0;
}

static void resume_cpus(void *ctx)
{
	(void)ctx;
	pthread_mutex_unlock(&running);
}

static bool has_yet_to_run(const struct runner *r)
{
	return __atomic_load_n(&r->runs, __ATOMIC_RELAXED) == 0 &&
	       __atomic_load_n(&r->failed, __ATOMIC_RELAXED) == 0;
}

static void *run_unless_paused(void *arg)
{
	struct runner *r = arg;

	while (!__atomic_load_n(&stop_running, __ATOMIC_RELAXED)) {
		int rc;

		guest_start(&guest, 0, GUEST_STAMP);
		pthread_mutex_lock(&running);
		rc = guest_run(&guest, 0);
		pthread_mutex_unlock(&running);
		/* So that others get the lock. */
		sched_yield();
		if (rc != KVM_EXIT_IO) {
			__atomic_store_n(&r->failed, rc, __ATOMIC_RELAXED);
			return NULL;
		}
		__atomic_add_fetch(&r->runs, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Even the slot that the guest's code lies in can be exchanged, and no access exits. */
static void test_a_monitor_that_pauses_sees_no_exits(void **state)
{
	unsigned long rounds = support_scale(30);
	struct guest_params *params;
	struct runner r = {.cpu = 0};

	(void)state;
	start_guest(GM_OPTS(gm_kvm_opts, .pause = pause_cpus, .resume = resume_cpus), 1);
	params = guest_start(&guest, 0, GUEST_STAMP);
	*params = (struct guest_params){
		.base = DATA, .mask = PAGES - 1, .value = 1, .count = 100, .seed = 7};
	stop_running = false;
	assert_int_equal(pthread_create(&r.thread, NULL, run_unless_paused, &r), 0);
	/* And on, until the guest has had a turn: the lock is not fair. */
	for (unsigned long n = 0; n < rounds || has_yet_to_run(&r); n++) {
		uint64_t id;

		sched_yield();
		assert_ok(gm_space_add(space,
			DESC(.gpa = RAM - PAGE, .len = PAGE, .kind = GM_REGION_RESERVED,
				.priority = 1),
			&id, &err));
		assert_int_equal(slot_at(0).len, RAM - PAGE);
		assert_ok(gm_space_remove(space, id, &err));
	}
	__atomic_store_n(&stop_running, true, __ATOMIC_RELAXED);
	pthread_join(r.thread, NULL);
	assert_int_equal(r.failed, 0);
	assert_true(r.runs > 0);
	stop_guest();
}

static void *meet(void *arg)
{
	pthread_barrier_wait(arg);
	return NULL;
}

/* The C library keeps stacks of threads that have ended: as many as will run at once are kept from now on. */
static int keep_stacks(void **state)
{
	pthread_barrier_t barrier;
	pthread_t threads[2];

	(void)state;
	pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, meet, &barrier), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots_change_while_a_vcpu_runs),
		cmocka_unit_test(test_memory_comes_and_goes_under_the_guest),
		cmocka_unit_test(test_a_monitor_that_pauses_sees_no_exits),
	};

	return cmocka_run_group_tests(tests, keep_stacks, NULL);
}
