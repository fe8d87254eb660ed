/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kvm_dirty.c - what a guest writes is marked: nothing is missed while it writes, while others harvest and
 * while slots are exchanged, and nothing is marked that it did not write.
 *
 * A guest stamps random pages with numbers that never come twice. Whoever copies what logs name has all of
 * memory when it has stopped.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include <guestmem/log.h>
#include <guestmem/watch.h>

#include <sys/ioctl.h>

#include "adapters/kvm.h"
#include "fault.h"
#include "one_guest.h"
#include "random.h"
#include "sys/uapi_kvm.h"

#define DATA MIB(2) /* of vCPU 0; that of vCPU 1 is behind it */
#define DATA_LEN MIB(2)
#define HIGH GIB(1) /* memory whose slots are exchanged */
#define HIGH_LEN MIB(16)
#define RING 256u

static struct gm_log *log_;
static uint8_t *copy;
static uint64_t full_exits;

/* What is copied and compared. */
static struct {
	uint64_t gpa;
	uint64_t len;
	const uint8_t *hva;
} area;

struct stamper {
	pthread_t thread;
	unsigned int cpu;
	struct gm_reader *reader;
	bool done; /* atomic */
	uint64_t exits;
	const char *failed;
};

static struct stamper stampers[GUEST_CPUS];
static struct rng rng;

/* ---- the guest's side ---- */

static void *stamp(void *arg)
{
	struct stamper *s = arg;

	for (;;) {
		int rc = guest_run(&guest, s->cpu);

		if (rc == KVM_EXIT_IO && guest_is_done(&guest, s->cpu))
			break;
		if (rc == KVM_EXIT_MMIO) {
			serve_mmio_by(s->cpu, s->reader);
			s->exits++;
		} else if (rc == KVM_EXIT_DIRTY_RING_FULL) {
			__atomic_fetch_add(&full_exits, 1, __ATOMIC_RELAXED);
			if (gm_kvm_harvest(kvm, NULL, NULL)) {
				s->failed = "harvest";
				break;
			}
		} else {
			s->failed = "exit";
			break;
		}
	}
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void start_stamping(unsigned int cpu, uint64_t base, uint64_t pages, uint64_t count)
{
	struct stamper *s = &stampers[cpu];
	struct guest_params *params = guest_start(&guest, cpu, GUEST_STAMP);
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", cpu);
	if (!s->reader)
		assert_ok(gm_reader_create(space, name, &s->reader, &err));
	params->base = base;
	params->mask = pages - 1;
	params->count = count;
	params->seed = rng_next(&rng) | 1;
	params->offset = rng_below(&rng, 512) * 8;
	s->cpu = cpu;
	s->done = false;
	assert_int_equal(pthread_create(&s->thread, NULL, stamp, s), 0);
}

static bool all_done(void)
{
	for (unsigned int i = 0; i < guest.nr_cpus; i++) {
		if (!__atomic_load_n(&stampers[i].done, __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

static void join_all(void)
{
	for (unsigned int i = 0; i < guest.nr_cpus; i++) {
		pthread_join(stampers[i].thread, NULL);
		if (stampers[i].failed)
			fail_msg("vCPU %u: %s", i, stampers[i].failed);
	}
}

/* ---- the host's side ---- */

static struct gm_watch *watch;

static uint64_t harvest(void)
{
	uint64_t bytes = 0;

	if (watch)
		assert_ok(gm_watch_harvest(watch, &bytes, &err));
	else
		assert_ok(gm_kvm_harvest(kvm, &bytes, &err));
	return bytes;
}

/* Copies the pages of the area that the log names. Returns their number. */
static uint64_t copy_marked(void)
{
	static uint64_t words[RAM / PAGE / 64];
	uint64_t count = 0;

	assert_int_equal(gm_log_take(log_, area.gpa / PAGE, area.len / PAGE, words, &count), 0);
	for (uint64_t i = 0; count && i < area.len / PAGE; i++) {
		if (!(words[i / 64] >> (i % 64) & 1))
			continue;
		/* Unless something else lies there at the moment. */
		gm_read(gm_reader_enter(reader), area.gpa + i * PAGE, copy + i * PAGE, PAGE, NULL);
		gm_reader_leave(reader);
	}
	return count;
}

static uint64_t missed(void)
{
	uint64_t nr = 0;

	for (uint64_t at = 0; at < area.len; at += PAGE)
		nr += memcmp(copy + at, area.hva + at, PAGE) != 0;
	return nr;
}

static void start_dirty(uint32_t entries, unsigned int cpus)
{
	start_guest(GM_OPTS(gm_kvm_opts, .ring_entries = entries), cpus);
	area.gpa = DATA;
	area.len = GUEST_CPUS * DATA_LEN;
	area.hva = guest.system + DATA;
	copy = calloc(1, RAM);
	assert_non_null(copy);
	memset(stampers, 0, sizeof(stampers));
	watch = NULL;
	full_exits = 0;
	rng.state = test_seed(77);
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .len = GIB(2)), &log_, &err));
	/* KVM maps code and parameters: the first access to a page counts as a write. */
	guest_store_u64(GUEST_SYSTEM, 0);
}

static void begin(uint32_t how)
{
	if (how == UINT32_MAX)
		assert_ok(gm_watch_create(space, &watch, &err));
	else
		assert_ok(gm_kvm_track(kvm, how, &err));
	memcpy(copy, area.hva, area.len);
	assert_int_equal(harvest(), 0);
	assert_int_equal(gm_log_count(log_, 0, 0), 0);
}

static void stop_dirty(void)
{
	for (unsigned int i = 0; i < guest.nr_cpus; i++)
		gm_reader_destroy(stampers[i].reader);
	assert_ok(gm_watch_destroy(watch, &err));
	assert_ok(gm_log_destroy(log_, &err));
	stop_guest();
	free(copy);
}

/* ---- rounds ---- */

static uint64_t full_now(void)
{
	return __atomic_load_n(&full_exits, __ATOMIC_RELAXED);
}

/* @until_full: nobody reads a ring before it is full. */
static void one_round(uint64_t writes, bool until_full)
{
	uint64_t full = full_now();

	for (unsigned int i = 0; i < guest.nr_cpus; i++)
		start_stamping(i, DATA + i * DATA_LEN, DATA_LEN / PAGE, writes);
	while (until_full && full_now() == full && !all_done())
		sched_yield();
	while (!all_done()) {
		harvest();
		copy_marked();
	}
	join_all();
	harvest();
	copy_marked();
	if (missed())
		fail_msg("%llu pages were missed", (unsigned long long)missed());
	/* And then there is nothing. */
	assert_int_equal(harvest(), 0);
	assert_int_equal(gm_log_count(log_, area.gpa, area.len), 0);
}

static void rounds(uint32_t how, uint32_t entries, unsigned int cpus)
{
	uint64_t nr = support_scale(200);

	start_dirty(entries, cpus);
	begin(how);
	for (uint64_t round = 0; round < nr; round++) {
		if (round % 50)
			one_round(1 + rng_below(&rng, 20), false);
		else
			one_round(3000, entries == RING);
	}
	/* Bitmaps do not exit; rings of 256 entries are full again and again. */
	assert_int_equal(full_exits != 0, entries == RING);
	printf("figure: kvm_rounds %llu\n", (unsigned long long)nr);
	stop_dirty();
}

static void test_bitmap(void **state)
{
	(void)state;
	rounds(GM_KVM_TRACK_BITMAP, 0, 1);
	rounds(GM_KVM_TRACK_BITMAP, 0, 2);
}

/* Bitmaps that are cleared when they are read, as before Linux 5.0. */
static void test_a_kvm_that_clears_at_once(void **state)
{
	struct kvm_enable_cap at_once = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2};

	(void)state;
	start_dirty(0, 2);
	assert_int_equal(ioctl(guest.vm, KVM_ENABLE_CAP, &at_once), 0);
	kvm->caps &= ~(GM_KVM_CAP_MANUAL_CLEAR | GM_KVM_CAP_INITIALLY_SET);
	begin(GM_KVM_TRACK_BITMAP);
	fault_set(NULL);
	for (uint64_t round = 0; round < support_scale(50); round++)
		one_round(1 + rng_below(&rng, 100), false);
	assert_int_equal(fault_calls(FAULT_gm_sys_kvm_clear_log), 0);
	stop_dirty();
}

static void test_ring(void **state)
{
	(void)state;
	rounds(GM_KVM_TRACK_RING, RING, 1);
	rounds(GM_KVM_TRACK_RING, 65536, 2);
	rounds(GM_KVM_TRACK_RING, RING, 2);
}

static void test_watch(void **state)
{
	(void)state;
	rounds(UINT32_MAX, 0, 2);
}

/* Exactly the pages that were written, and their bytes. */
static void exact(uint32_t how, uint32_t entries)
{
	start_dirty(entries, 1);
	/* Before it begins nothing is found. */
	assert_int_equal(guest_store_u64(DATA, 1), 0);
	assert_int_equal(harvest(), 0);
	begin(how);
	assert_int_equal(guest_store_u64(DATA + 5 * PAGE, 2), 0);
	assert_int_equal(guest_store_u64(DATA + 69 * PAGE + 4088, 3), 0);
	assert_int_equal(harvest(), 2 * PAGE);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	assert_int_equal(gm_log_count(log_, DATA + 5 * PAGE, PAGE), 1);
	assert_int_equal(gm_log_count(log_, DATA + 69 * PAGE, PAGE), 1);
	assert_int_equal(harvest(), 0);
	copy_marked();
	/* The same page once more. */
	assert_int_equal(guest_store_u64(DATA + 5 * PAGE, 4), 0);
	assert_int_equal(harvest(), PAGE);
	/* Another name of it. */
	assert_int_equal(info().harvested, 3 * PAGE);
	copy_marked();
	/* The end harvests; after it nothing is found, and it can begin again. */
	assert_int_equal(guest_store_u64(DATA + 6 * PAGE, 5), 0);
	assert_ok(gm_kvm_track(kvm, GM_KVM_TRACK_NONE, &err));
	assert_int_equal(gm_log_count(log_, 0, 0), 1);
	assert_int_equal(copy_marked(), 1);
	assert_int_equal(missed(), 0);
	assert_int_equal(slot_at(0).flags, 0);
	assert_int_equal(guest_store_u64(DATA + 7 * PAGE, 6), 0);
	assert_int_equal(harvest(), 0);
	begin(how);
	assert_int_equal(info().track, how);
	assert_int_equal(guest_store_u64(DATA + 7 * PAGE, 7), 0);
	assert_int_equal(harvest(), PAGE);
	stop_dirty();
}

static void test_exactly_what_was_written(void **state)
{
	(void)state;
	exact(GM_KVM_TRACK_BITMAP, 0);
	exact(GM_KVM_TRACK_RING, 1024);
}

/* ---- slots that are exchanged ---- */

/* Cuts the slot behind the area. */
static uint64_t cut(void)
{
	uint64_t id;

	assert_ok(gm_space_add(space,
		DESC(.gpa = HIGH + HIGH_LEN + rng_below(&rng, 100) * PAGE, .len = PAGE,
			.kind = GM_REGION_RESERVED, .priority = 1),
		&id, &err));
	return id;
}

/* The guest's code is not there, so it runs on while the slot is missing. */
static void start_high(uint32_t entries)
{
	start_dirty(entries, 1);
	area.hva = region(add(HIGH, HIGH_LEN + MIB(1))).hva;
	area.gpa = HIGH;
	area.len = HIGH_LEN;
	guest_store_u64(HIGH, 0);
	gm_log_reset(log_, 0, GIB(2));
}

static void exchange(uint32_t how, uint32_t entries)
{
	uint64_t nr = support_scale(10);
	uint64_t marked = 0;
	uint64_t takes = 0;

	start_high(entries);
	begin(how);
	for (uint64_t round = 0; round < nr; round++) {
		/* Most pages are written once, so that what is lost stays lost. */
		start_stamping(0, HIGH, HIGH_LEN / PAGE, 1000);
		while (!all_done()) {
			uint64_t id = cut();

			marked += copy_marked();
			assert_ok(gm_space_remove(space, id, &err));
			marked += copy_marked();
			takes += 2;
		}
		join_all();
		harvest();
		marked += copy_marked();
		if (missed())
			fail_msg("%llu pages were missed in round %llu",
				(unsigned long long)missed(), (unsigned long long)round);
	}
	/* It is no mark of everything. */
	assert_true(takes > nr);
	assert_true(marked < takes * HIGH_LEN / PAGE / 2);
	printf("figure: kvm_swaps %llu\n", (unsigned long long)takes);
	stop_dirty();
}

static void test_nothing_is_lost_while_slots_are_exchanged(void **state)
{
	(void)state;
	exchange(GM_KVM_TRACK_BITMAP, 0);
	exchange(GM_KVM_TRACK_RING, 1024);
}

/* The guest loses the slot before it is read, and it is read before KVM forgets what was written. */
static void check_order(uint32_t how)
{
	size_t set = fault_log_find(FAULT_gm_sys_kvm_set_slot, 0);
	size_t read = fault_log_find(
		how == GM_KVM_TRACK_RING ? FAULT_gm_sys_kvm_reset_rings : FAULT_gm_sys_kvm_get_log,
		0);
	size_t nr;
	const struct fault_event *events = fault_log(&nr);

	assert_true(set < read && read < nr);
	if (how == GM_KVM_TRACK_RING) {
		assert_int_equal(events[set].len, 0);
		return;
	}
	assert_true(events[set].addr > HIGH + HIGH_LEN + MIB(1));
	assert_int_equal(events[set].len, HIGH_LEN + MIB(1));
	assert_int_equal(events[read].off, events[set].off);
	set = fault_log_find(FAULT_gm_sys_kvm_set_slot, read);
	assert_int_equal(events[set].len, 0);
	assert_int_equal(events[set].off, events[read].off);
}

/* One store, and the slot goes before anybody harvests. */
static void test_a_slot_that_goes_is_harvested(void **state)
{
	uint64_t id;

	(void)state;
	for (uint32_t how = GM_KVM_TRACK_BITMAP; how <= GM_KVM_TRACK_RING; how++) {
		start_high(how == GM_KVM_TRACK_RING ? 1024 : 0);
		begin(how);
		assert_int_equal(guest_store_u64(HIGH + 3 * PAGE, 1), 0);
		fault_log_start();
		id = cut();
		fault_log_stop();
		check_order(how);
		assert_int_equal(gm_log_count(log_, 0, HIGH + HIGH_LEN), 1);
		assert_int_equal(gm_log_count(log_, HIGH + 3 * PAGE, 1), 1);
		copy_marked();
		/* What came is tracked, and begins with nothing. */
		assert_int_equal(harvest(), 0);
		assert_int_equal(guest_store_u64(HIGH + 4 * PAGE, 1), 0);
		harvest();
		assert_int_equal(gm_log_count(log_, HIGH, HIGH_LEN), 1);
		assert_int_equal(gm_log_count(log_, HIGH + 4 * PAGE, 1), 1);
		assert_ok(gm_space_remove(space, id, &err));
		stop_dirty();
	}
}

/* Nobody can say what was written: then all of it is marked. */
static void test_a_slot_that_cannot_be_read_is_marked(void **state)
{
	(void)state;
	start_high(0);
	begin(GM_KVM_TRACK_BITMAP);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_kvm_get_log, .nth = 1, .error = EFAULT});
	cut();
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(gm_log_count(log_, HIGH, HIGH_LEN), HIGH_LEN / PAGE);
	stop_dirty();
}

/* ---- memory that comes ---- */

static void test_memory_that_comes_is_tracked(void **state)
{
	uint64_t id;

	(void)state;
	start_dirty(0, 1);
	begin(GM_KVM_TRACK_BITMAP);
	id = add(HIGH, MIB(2));
	assert_int_equal(info().slots, 2);
	/* The change marks what it brings. */
	assert_int_equal(gm_log_count(log_, HIGH, MIB(2)), 512);
	gm_log_reset(log_, HIGH, MIB(2));
	assert_int_equal(guest_store_u64(HIGH + PAGE, 1), 0);
	assert_int_equal(harvest(), PAGE);
	assert_int_equal(gm_log_count(log_, HIGH + PAGE, 1), 1);
	/* What the host writes through the library marks by itself, and is none of KVM's. */
	gm_log_reset(log_, HIGH, MIB(2));
	assert_int_equal(gm_write(gm_reader_enter(reader), HIGH + 7 * PAGE, &id, 8, NULL), 0);
	gm_reader_leave(reader);
	assert_int_equal(harvest(), 0);
	assert_int_equal(gm_log_count(log_, HIGH, MIB(2)), 1);
	assert_ok(gm_space_remove(space, id, &err));
	/* ROM is not tracked; written by nobody. */
	assert_ok(gm_space_add(space,
		DESC(.gpa = HIGH, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)), &id,
		&err));
	assert_int_equal(slot_at(HIGH).flags, KVM_MEM_READONLY);
	assert_int_equal(harvest(), 0);
	stop_dirty();
}

static void test_another_name_is_marked_too(void **state)
{
	(void)state;
	start_dirty(0, 1);
	assert_ok(gm_space_add(space,
		DESC(.gpa = HIGH, .len = MIB(2), .kind = GM_REGION_ALIAS, .target = ram,
			.block_off = DATA),
		NULL, &err));
	gm_log_reset(log_, 0, GIB(2));
	begin(GM_KVM_TRACK_BITMAP);
	assert_int_equal(info().slots, 2);
	assert_int_equal(guest_store_u64(HIGH + 3 * PAGE, 1), 0);
	assert_int_equal(harvest(), PAGE);
	assert_int_equal(gm_log_count(log_, HIGH + 3 * PAGE, 1), 1);
	assert_int_equal(gm_log_count(log_, DATA + 3 * PAGE, 1), 1);
	assert_int_equal(gm_log_count(log_, 0, 0), 2);
	stop_dirty();
}

static void test_ways_that_there_are_not(void **state)
{
	(void)state;
	start_dirty(0, 1);
	assert_fails(gm_kvm_track(kvm, GM_KVM_TRACK_RING, &err), ENOTSUP, "ring_entries");
	assert_fails(gm_kvm_track(kvm, 7, &err), EINVAL, "no such way");
	/* KVM takes rings before the first vCPU only. */
	assert_ok(gm_kvm_remove_vcpu(kvm, 0, &err));
	assert_ok(gm_kvm_destroy(kvm, &err));
	assert_fails(gm_kvm_create(space, KVM_OPTS(.ring_entries = 1024), &kvm, &err), EINVAL,
		"there is a vCPU already");
	assert_ok(gm_kvm_create(space, KVM_OPTS(.flags = 0), &kvm, &err));
	assert_ok(gm_kvm_add_vcpu(kvm, guest.cpus[0].fd, &guest.cpus[0].id, &err));
	stop_dirty();
	start_dirty(1024, 1);
	assert_fails(gm_kvm_track(kvm, GM_KVM_TRACK_BITMAP, &err), ENOTSUP, "no bitmaps");
	stop_dirty();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exactly_what_was_written),
		cmocka_unit_test(test_bitmap),
		cmocka_unit_test(test_a_kvm_that_clears_at_once),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_nothing_is_lost_while_slots_are_exchanged),
		cmocka_unit_test(test_a_slot_that_goes_is_harvested),
		cmocka_unit_test(test_a_slot_that_cannot_be_read_is_marked),
		cmocka_unit_test(test_memory_that_comes_is_tracked),
		cmocka_unit_test(test_another_name_is_marked_too),
		cmocka_unit_test(test_ways_that_there_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
