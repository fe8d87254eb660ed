/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kvm_fault.c - each call that the adapter makes fails, once and for ever: nothing is left, the space is as it
 * was, and KVM's slots are what the adapter says, now or as soon as KVM lets it.
 */
#include <guestmem/log.h>
#include <stdio.h>
#include <unistd.h>

#include "fault.h"
#include "one_guest.h"

#define AT GIB(1)

static struct gm_log *log_;

/* KVM has what the space shows, page by page around all borders. */
static void check_slots(void)
{
	static const uint64_t places[] = {0, RAM - PAGE, RAM, AT - PAGE, AT, AT + PAGE,
		AT + 3 * PAGE, AT + 4 * PAGE, AT + 8 * PAGE, AT + 9 * PAGE};
	struct gm_kvm_info now;

	assert_int_equal(gm_kvm_harvest(kvm, NULL, NULL), 0);
	now = info();
	assert_int_equal(now.missing, 0);
	assert_int_equal(now.stale, 0);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct gm_kvm_slot slot = slot_at(places[i]);
		struct gm_region_info shows = {.size = sizeof(shows)};
		bool is = gm_space_next(space, places[i], &shows) == 0 && shows.gpa <= places[i];

		assert_int_equal(guest_has_slot(&guest, places[i]), is);
		assert_int_equal(slot.len != 0, is);
		if (is)
			assert_int_equal(
				(slot.flags & KVM_MEM_READONLY) != 0, !(shows.perms & GM_PERM_W));
	}
}

/* ---- life ---- */

static int live_and_die(void *ctx)
{
	const struct gm_kvm_opts *opts = ctx;
	int rc = gm_kvm_create(space, opts, &kvm, NULL);

	if (rc == 0)
		rc = gm_kvm_track(kvm, GM_KVM_TRACK_BITMAP, NULL);
	else
		return rc;
	if (rc == 0)
		rc = gm_kvm_harvest(kvm, NULL, NULL);
	if (rc == 0)
		rc = gm_kvm_track(kvm, GM_KVM_TRACK_NONE, NULL);
	fault_disarm();
	check_slots();
	assert_ok(gm_kvm_destroy(kvm, &err));
	assert_false(guest_has_slot(&guest, 0));
	return rc;
}

static void test_life(void **state)
{
	(void)state;
	start_apart();
	add(AT, 4 * PAGE);
	assert_ok(gm_log_create(space, NULL, &log_, &err));
	assert_true(fault_sweep(live_and_die, (void *)(uintptr_t)KVM_OPTS(.first_slot = 3)) > 50);
	assert_ok(gm_log_destroy(log_, &err));
	guest_close(&guest);
	stop();
}

/* ---- changes ---- */

/* A region goes, one changes, two come. */
static int change_map(const uint64_t *ids)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(space, &txn, NULL);

	if (rc)
		return rc;
	rc = gm_txn_remove(txn, ids[0], NULL);
	if (!rc)
		rc = gm_txn_protect(txn, ids[1], GM_PERM_R, NULL);
	for (unsigned int i = 0; !rc && i < 2; i++)
		rc = gm_txn_add(txn,
			DESC(.gpa = AT + (i ? 8 : 1) * PAGE, .backing = BLOCK(.len = PAGE)), NULL,
			NULL);
	if (!rc)
		rc = gm_txn_commit(txn, NULL);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

/* True if there was a fault. */
static bool change_with(uint32_t how, const struct fault_plan *plan)
{
	static struct fault_state before;
	uint64_t ids[2];
	int rc;

	fault_state_take(&before);
	start_guest(GM_OPTS(gm_kvm_opts, .ring_entries = how == GM_KVM_TRACK_RING ? 1024 : 0), 0);
	ids[0] = add(AT, 2 * PAGE);
	ids[1] = add(AT + 3 * PAGE, PAGE);
	assert_ok(gm_log_create(space, NULL, &log_, &err));
	assert_ok(gm_kvm_track(kvm, how, &err));
	fault_set(plan);
	rc = change_map(ids);
	fault_disarm();
	if (rc)
		assert_true(fault_hits() > 0);
	/* All of it, or nothing. */
	assert_int_equal(region(ids[1]).perms, rc ? GM_PERM_RWX : GM_PERM_R);
	check_slots();
	assert_ok(gm_log_destroy(log_, &err));
	stop_guest();
	assert_true(fault_state_same(&before));
	return fault_hits() > 0;
}

static void sweep_changes(uint32_t how)
{
	static const struct {
		enum fault_fn fn;
		int error;
	} kinds[] = {{FAULT_ANY, ENOMEM}, {FAULT_gm_sys_kvm_set_slot, EEXIST},
		{FAULT_gm_sys_kvm_set_slot, ENOMEM}, {FAULT_ANY, EINVAL}, {FAULT_ANY, EEXIST}};
	size_t nr = support_scale(1) > 1 ? 5 : 2;
	unsigned int hits = 0;

	change_with(how, NULL);
	for (size_t i = 0; i < 2 * nr; i++) {
		struct fault_plan plan = {
			.fn = kinds[i / 2].fn, .forever = i % 2, .error = kinds[i / 2].error};

		for (plan.nth = 1; change_with(how, &plan); plan.nth++)
			hits++;
	}
	assert_true(hits > 100);
	printf("figure: kvm_faults %u\n", hits);
}

static void test_changes(void **state)
{
	(void)state;
	sweep_changes(GM_KVM_TRACK_NONE);
}

static void test_changes_while_writes_are_tracked(void **state)
{
	(void)state;
	sweep_changes(GM_KVM_TRACK_BITMAP);
	sweep_changes(GM_KVM_TRACK_RING);
}

/* ---- what cannot be refused ---- */

/* KVM will not delete it. It is no more in the map; when KVM lets go, it goes. */
static void test_a_slot_that_is_not_deleted_goes_later(void **state)
{
	uint64_t id;

	(void)state;
	start_guest(GM_OPTS(gm_kvm_opts, .flags = 0), 1);
	id = add(AT, PAGE);
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_kvm_set_slot, .nth = 1, .forever = true, .error = ENOMEM});
	assert_ok(gm_space_remove(space, id, &err));
	assert_true(fault_hits() > 0);
	assert_int_equal(info().stale, 1);
	assert_int_equal(info().slots, 1);
	assert_int_equal(slot_at(AT).len, 0);
	/* Its place is taken: others are refused, and told why. */
	assert_fails(
		gm_space_add(space, DESC(.gpa = AT, .backing = BLOCK(.len = 2 * PAGE)), NULL, &err),
		ENOMEM, "no memory for its tables");
	assert_true(guest_has_slot(&guest, AT));
	fault_set(NULL);
	add(AT, 2 * PAGE);
	assert_int_equal(info().stale, 0);
	assert_int_equal(info().slots, 2);
	assert_int_equal(guest_store_u64(AT + PAGE, 1), 0);
	stop_guest();
}

static int refuse(void *ctx, const struct gm_section *section, struct gm_error *why)
{
	const bool *refusing = ctx;

	(void)section;
	(void)why;
	return *refusing ? -EPERM : 0;
}

static void no_matter(void *ctx, const struct gm_section *section)
{
	(void)ctx;
	(void)section;
}

/*
 * Somebody else refuses, and KVM does not take its slots back. The map is as it was all the same; the
 * guest's accesses exit and are served, until KVM has the slot again.
 */
static void test_a_slot_that_is_not_taken_back_comes_later(void **state)
{
	bool refusing = false;
	struct gm_listener *other;
	uint64_t id;

	(void)state;
	start_guest(GM_OPTS(gm_kvm_opts, .flags = 0), 1);
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "other", .priority = 5, .add = refuse,
			.remove = no_matter, .ctx = &refusing),
		&other, &err));
	id = add(AT, PAGE);
	assert_int_equal(guest_store_u64(AT, 41), 0);
	refusing = true;
	/* Deleted, and the new one made and deleted; then all fails. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_kvm_set_slot, .nth = 4, .forever = true, .error = ENOMEM});
	{
		struct gm_txn *txn;

		assert_ok(gm_txn_begin(space, &txn, &err));
		assert_ok(gm_txn_remove(txn, id, &err));
		assert_ok(gm_txn_add(
			txn, DESC(.gpa = AT, .backing = BLOCK(.len = 2 * PAGE)), NULL, &err));
		assert_fails(gm_txn_commit(txn, &err), EPERM, "\"other\"");
		gm_txn_abort(txn);
	}
	assert_true(fault_hits() > 0);
	refusing = false;
	assert_int_equal(info().missing, 1);
	assert_int_equal(slot_at(AT).missing, 1);
	assert_int_equal(slot_at(AT).len, PAGE);
	assert_false(guest_has_slot(&guest, AT));
	assert_int_equal(guest_load_u64(AT), 41);
	assert_int_equal(mmio.gpa, AT);
	fault_set(NULL);
	check_slots();
	mmio.gpa = 0;
	assert_int_equal(guest_load_u64(AT), 41);
	assert_int_equal(mmio.gpa, 0);
	assert_ok(gm_listener_destroy(other, &err));
	stop_guest();
}

/* ---- tracking ---- */

static int track(void *ctx)
{
	uint32_t how = *(const uint32_t *)ctx;
	int rc = gm_kvm_track(kvm, how, NULL);

	if (rc) {
		fault_disarm();
		assert_int_equal(info().track, GM_KVM_TRACK_NONE);
		return rc;
	}
	gm_log_reset(log_, 0, GIB(4));
	fault_disarm();
	assert_int_equal(guest_store_u64(AT, 1), 0);
	assert_ok(gm_kvm_harvest(kvm, NULL, &err));
	assert_int_equal(gm_log_count(log_, AT, PAGE), 1);
	assert_ok(gm_kvm_track(kvm, GM_KVM_TRACK_NONE, &err));
	return 0;
}

/* What was written is found by this harvest or by the next. True if there was a fault. */
static bool harvest_and_end(uint32_t how, const struct fault_plan *plan)
{
	int rc;

	assert_ok(gm_kvm_track(kvm, how, &err));
	gm_log_reset(log_, 0, GIB(4));
	assert_int_equal(guest_store_u64(AT, 1), 0);
	assert_int_equal(guest_store_u64(AT + 3 * PAGE, 1), 0);
	fault_set(plan);
	gm_kvm_harvest(kvm, NULL, NULL);
	rc = gm_kvm_track(kvm, GM_KVM_TRACK_NONE, NULL);
	fault_disarm();
	assert_int_equal(info().track, rc ? how : GM_KVM_TRACK_NONE);
	assert_ok(gm_kvm_track(kvm, GM_KVM_TRACK_NONE, &err));
	assert_int_equal(gm_log_count(log_, AT, PAGE), 1);
	assert_int_equal(gm_log_count(log_, AT + 3 * PAGE, PAGE), 1);
	return fault_hits() > 0;
}

static void sweep_tracking(uint32_t how)
{
	static const enum fault_fn fns[] = {FAULT_gm_sys_kvm_get_log, FAULT_gm_sys_kvm_clear_log,
		FAULT_gm_sys_kvm_reset_rings, FAULT_gm_sys_kvm_set_slot};
	unsigned int hits = 0;

	start_guest(GM_OPTS(gm_kvm_opts, .ring_entries = how == GM_KVM_TRACK_RING ? 1024 : 0), 1);
	add(AT, 4 * PAGE);
	add(AT + 8 * PAGE, PAGE);
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .len = GIB(2)), &log_, &err));
	assert_int_equal(guest_store_u64(AT, 1), 0);
	assert_true(fault_sweep(track, &how) >= 6);
	for (size_t i = 0; i < 2 * sizeof(fns) / sizeof(fns[0]); i++) {
		struct fault_plan plan = {.fn = fns[i / 2], .error = EINVAL, .forever = i % 2};
		bool hit = true;

		for (plan.nth = 1; hit; plan.nth++) {
			hit = harvest_and_end(how, &plan);
			hits += hit;
		}
	}
	assert_true(hits >= 4);
	assert_ok(gm_log_destroy(log_, &err));
	stop_guest();
}

static void test_tracking(void **state)
{
	(void)state;
	sweep_tracking(GM_KVM_TRACK_BITMAP);
	sweep_tracking(GM_KVM_TRACK_RING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_changes_while_writes_are_tracked),
		cmocka_unit_test(test_a_slot_that_is_not_deleted_goes_later),
		cmocka_unit_test(test_a_slot_that_is_not_taken_back_comes_later),
		cmocka_unit_test(test_tracking),
	};

	/* Nobody else runs: waits need no time. */
	fault_clock_virtual(true);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
