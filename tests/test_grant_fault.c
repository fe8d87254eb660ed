/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_grant_fault.c - every system call and allocation behind a grant made to fail: source and grant are
 * as they were or as they were to be, what is left can be ended, and nothing is leaked.
 */
#include "one_grant.h"

#include <guestmem/access.h>
#include <guestmem/guard.h>
#include <guestmem/layout.h>
#include <guestmem/slice.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fault.h"

#define PAGES 16u

/* The permissions of each page, and which one of two files it is of. */
struct map {
	uint8_t perms[PAGES];
	uint8_t bytes[PAGES];
};

struct scenario {
	uint32_t flags;
	int (*before)(void); /* without faults, or NULL */
	int (*act)(void);
	unsigned long at_least; /* faults */
	bool undone;            /* a failure leaves nothing changed */
};

static struct gm_reader *source_reader;
static uint64_t extra;

static void take_map(struct map *ret)
{
	const struct gm_view *view = gm_reader_enter(reader);

	memset(ret, 0, sizeof(*ret));
	for (unsigned int i = 0; i < PAGES; i++) {
		for (unsigned int bit = 1; bit < 8; bit *= 2) {
			if (gm_view_check(view, i * PAGE, PAGE, bit) == 0)
				ret->perms[i] |= (uint8_t)bit;
		}
		if (ret->perms[i] & GM_PERM_R)
			assert_int_equal(gm_read_u8(view, i * PAGE, &ret->bytes[i]), 0);
	}
	gm_reader_leave(reader);
}

/* ---- what is tried ---- */

static int lower(void)
{
	return gm_grant_set(grant, 2 * PAGE, 4 * PAGE, GM_PERM_R, 0, &err);
}

static int take_away(void)
{
	return gm_grant_set(grant, 2 * PAGE, 4 * PAGE, 0, 0, &err);
}

static int revoke_all(void)
{
	return gm_grant_revoke(grant, 0, &err);
}

static int give_back(void)
{
	return gm_grant_set(grant, 2 * PAGE, 4 * PAGE, GM_PERM_RW, 0, &err);
}

static int raise_rights(void)
{
	return gm_grant_set(grant, 7 * PAGE, 4 * PAGE, GM_PERM_RW, 0, &err);
}

static int add_memory(void)
{
	return gm_space_add(source,
		DESC(.gpa = 3 * PAGE, .priority = 1,
			.backing = BLOCK(.len = 2 * PAGE, .flags = GM_BLOCK_SHARE)),
		NULL, &err);
}

static int remove_memory(void)
{
	return gm_space_remove(source, extra, &err);
}

static int move_memory(void)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(source, &txn, &err);

	if (rc)
		return rc;
	rc = gm_txn_move(txn, ram, PAGE, &err);
	if (!rc)
		rc = gm_txn_commit(txn, &err);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

/* ---- the sweep ---- */

static void build(const struct scenario *s)
{
	make_source();
	assert_ok(gm_reader_create(source, "source", &source_reader, &err));
	assert_ok(gm_space_add(source,
		DESC(.gpa = 12 * PAGE, .priority = 1, .name = "extra",
			.backing = BLOCK(.len = 2 * PAGE, .flags = GM_BLOCK_SHARE)),
		&extra, &err));
	make_grant(PARTS({0, 6 * PAGE, GM_PERM_RW, 0}, {6 * PAGE, 3 * PAGE, GM_PERM_R, 0},
			   {10 * PAGE, 6 * PAGE, GM_PERM_RW, 0}),
		s->flags);
	if (s->flags & GM_GRANT_SHADOW)
		assert_int_equal(gm_grant_copy_in(grant, 0, 9 * PAGE, NULL), 0);
	if (s->before)
		assert_ok(s->before());
}

/* What the MMU lets through is what shows, when nothing is pending. */
static void check_mmu(const struct map *map)
{
	struct gm_region_info info = {.size = sizeof(info)};
	const uint8_t *window = NULL;
	const void *addrs[2 * PAGES] = {NULL}; /* of what is granted; in the window */
	char prots[2 * PAGES][5];

	for (unsigned int i = 0; i < PAGES; i++) {
		if (!map->perms[i])
			continue;
		assert_int_equal(gm_space_next(gm_grant_space(grant), i * PAGE, &info), 0);
		if (info.placed)
			window = (uint8_t *)info.hva - info.gpa;
		addrs[i] = host_of(gm_grant_space(grant), i * PAGE);
	}
	for (unsigned int i = 0; i < PAGES && window; i++)
		addrs[PAGES + i] = window + i * PAGE;
	maps_perms(addrs, 2 * PAGES, prots);
	for (unsigned int i = 0; i < PAGES; i++) {
		if (map->perms[i])
			assert_string_equal(prots[i], map->perms[i] & GM_PERM_W ? "rw-s" : "r--s");
		else if (window)
			assert_string_equal(prots[PAGES + i], "---p");
	}
}

static bool same(const struct map *a, const struct map *b)
{
	return memcmp(a->perms, b->perms, sizeof(a->perms)) == 0 &&
	       memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static int run(const struct scenario *s, const struct fault_plan *plan, const struct map *wanted)
{
	struct map before;
	struct map after;
	int rc;

	build(s);
	take_map(&before);
	memset(&err, 0, sizeof(err));
	fault_set(plan);
	rc = s->act();
	fault_disarm();
	take_map(&after);
	if (rc) {
		assert_int_equal(err.code, rc);
		assert_true(strlen(err.text) > 0);
		if (!same(&after, &before) && (s->undone || !same(&after, wanted)))
			fail_msg("neither as it was nor as it was to be: %s", err.text);
		/* What is left ends, and the change can be made. */
		assert_ok(gm_grant_wait(grant, 0, &err));
		assert_int_equal(grant_info().pending, 0);
		check_mmu(&after);
		if (s->undone || same(&after, &before))
			assert_int_equal(s->act(), 0);
		take_map(&after);
	}
	if (wanted)
		assert_true(same(&after, wanted));
	assert_ok(gm_grant_wait(grant, 0, &err));
	assert_int_equal(grant_info().pending, 0);
	check_mmu(&after);
	gm_reader_destroy(source_reader);
	drop_all();
	return rc;
}

static void sweep(const struct scenario *s)
{
	static const int errnos[] = {ENOMEM, EPERM};
	static struct fault_state before;
	unsigned long injected = 0;
	struct map wanted;

	/* What it is to be. */
	fault_set(NULL);
	build(s);
	assert_ok(s->act());
	take_map(&wanted);
	gm_reader_destroy(source_reader);
	drop_all();
	for (int mode = 0; mode < 2; mode++) {
		for (size_t e = 0; e < 2; e++) {
			for (unsigned long nth = 1;; nth++) {
				const struct fault_plan plan = {.fn = FAULT_ANY,
					.nth = nth,
					.forever = mode == 1,
					.error = errnos[e]};
				unsigned long hits;

				fault_set(NULL);
				fault_state_take(&before);
				run(s, &plan, &wanted);
				hits = fault_hits();
				fault_set(NULL);
				assert_true(fault_state_same(&before));
				if (hits == 0)
					break;
				injected++;
			}
		}
	}
	printf("figure: injected-faults %lu\n", injected);
	if (injected < s->at_least)
		fail_msg("only %lu faults", injected);
}

static void lowering_survives_every_fault(void **state)
{
	(void)state;
	sweep(&(struct scenario){.act = lower, .at_least = 60});
}

static void taking_away_survives_every_fault(void **state)
{
	(void)state;
	sweep(&(struct scenario){.act = take_away, .at_least = 60});
	sweep(&(struct scenario){.act = take_away, .flags = GM_GRANT_SHADOW, .at_least = 100});
}

static void revoking_survives_every_fault(void **state)
{
	(void)state;
	sweep(&(struct scenario){.act = revoke_all, .at_least = 40});
	sweep(&(struct scenario){.act = revoke_all, .flags = GM_GRANT_SHADOW, .at_least = 40});
}

static void raising_survives_every_fault(void **state)
{
	(void)state;
	sweep(&(struct scenario){.act = raise_rights, .at_least = 100});
	sweep(&(struct scenario){.before = take_away, .act = give_back, .at_least = 40});
	sweep(&(struct scenario){.before = lower, .act = give_back, .at_least = 40});
}

static void following_survives_every_fault(void **state)
{
	(void)state;
	sweep(&(struct scenario){.act = add_memory, .at_least = 150, .undone = true});
	sweep(&(struct scenario){.act = remove_memory, .at_least = 80, .undone = true});
	sweep(&(struct scenario){.act = move_memory, .at_least = 150, .undone = true});
	sweep(&(struct scenario){
		.act = add_memory, .flags = GM_GRANT_SHADOW, .at_least = 150, .undone = true});
}

/* ---- scenarios without a grant before ---- */

static int create(void *ctx)
{
	const uint32_t *flags = ctx;
	int rc;

	memset(&err, 0, sizeof(err));
	rc = gm_grant_create(source,
		GM_OPTS(gm_grant_opts, .flags = *flags, .nr_parts = 1,
			.parts = &(struct gm_grant_part){0, 8 * PAGE, GM_PERM_RW, 0}),
		&grant, &err);
	fault_disarm();
	assert_int_equal(err.code, rc);
	if (!rc)
		assert_ok(gm_grant_destroy(grant, &err));
	return rc;
}

static void creating_survives_every_fault(void **state)
{
	uint32_t flags[] = {0, GM_GRANT_SHADOW, GM_GRANT_LASTING};
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 2};

	(void)state;
	fault_set(NULL);
	make_source();
	for (size_t i = 0; i < 3; i++) {
		assert_true(fault_sweep(create, &flags[i]) >= 100);
		assert_true(fault_sweep_opts(create, &flags[i], &storm) >= 50);
	}
	gm_space_destroy(source);
}

static int destroy(void *ctx)
{
	int rc;

	(void)ctx;
	fault_disarm();
	rc = gm_grant_destroy(grant, &err);
	return rc;
}

static void a_grant_that_could_not_be_destroyed_is_as_it_was(void **state)
{
	(void)state;
	fault_set(NULL);
	make_source();
	make_grant(PARTS({0, 8 * PAGE, GM_PERM_RW, 0}), 0);
	fault_set(
		&(struct fault_plan){.fn = FAULT_ANY, .nth = 1, .forever = true, .error = ENOMEM});
	assert_int_equal(gm_grant_destroy(grant, &err), -ENOMEM);
	assert_true(fault_hits() > 0);
	fault_disarm();
	assert_int_equal(IN_SECTION(gm_view_check(view, 0, 1, GM_PERM_RW)), 0);
	assert_ok(gm_space_remove(source, ram, &err));
	assert_int_equal(IN_SECTION(gm_view_check(view, 0, 1, GM_PERM_RW)), -EFAULT);
	gm_reader_destroy(reader);
	assert_int_equal(destroy(NULL), 0);
	gm_space_destroy(source);
	fault_set(NULL);
}

static int send_it(void *ctx)
{
	struct gm_space *peer;
	int sock[2];
	int rc;

	(void)ctx;
	memset(&err, 0, sizeof(err));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	rc = gm_grant_send(grant, sock[0], &err);
	fault_disarm();
	assert_int_equal(err.code, rc);
	if (!rc) {
		assert_ok(gm_layout_recv(
			sock[1], GM_OPTS(gm_space_opts, .gpa_limit = LIMIT), &peer, &err));
		gm_space_destroy(peer);
	}
	close(sock[0]);
	close(sock[1]);
	return rc;
}

static void sending_survives_every_fault(void **state)
{
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 2};

	(void)state;
	fault_set(NULL);
	assert_int_equal(gm_guard_install(), 0);
	make_source();
	make_grant(PARTS({0, RAM_PAGES * PAGE, GM_PERM_RW, 0}), GM_GRANT_LASTING);
	assert_true(fault_sweep(send_it, NULL) >= 60);
	drop_grant();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_RW, 0}, {8 * PAGE, PAGE, GM_PERM_R, 0}),
		GM_GRANT_SHADOW);
	assert_true(fault_sweep(send_it, NULL) >= 60);
	assert_true(fault_sweep_opts(send_it, NULL, &storm) >= 30);
	drop_all();
	assert_int_equal(gm_guard_remove(), 0);
}

static void copies_say_how_far_they_came(void **state)
{
	const enum fault_fn fns[] = {FAULT_gm_sys_pwrite, FAULT_gm_sys_pread};
	size_t done;

	(void)state;
	fault_set(NULL);
	make_source();
	make_grant(PARTS({0, 4 * PAGE, GM_PERM_RW, 0}), GM_GRANT_SHADOW);
	for (int out = 0; out < 2; out++) {
		/* Short and interrupted counts are gone on from. */
		fault_set(&(struct fault_plan){
			.fn = fns[out], .nth = 1, .forever = true, .short_len = 1000, .eintr = 1});
		assert_int_equal(
			(out ? gm_grant_copy_out : gm_grant_copy_in)(grant, 10, 3 * PAGE, &done),
			0);
		assert_int_equal(done, 3 * PAGE);
		assert_true(fault_hits() >= 12);
		fault_set(&(struct fault_plan){.fn = fns[out], .nth = 1, .error = EFAULT});
		assert_int_equal(
			(out ? gm_grant_copy_out : gm_grant_copy_in)(grant, 10, 3 * PAGE, &done),
			-EIO);
		assert_int_equal(fault_hits(), 1);
		assert_int_equal(done, 0);
	}
	fault_set(NULL);
	assert_int_equal(IN_SECTION(gm_is_zero(view, 0, 10, NULL)), 1);
	drop_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lowering_survives_every_fault),
		cmocka_unit_test(taking_away_survives_every_fault),
		cmocka_unit_test(revoking_survives_every_fault),
		cmocka_unit_test(raising_survives_every_fault),
		cmocka_unit_test(following_survives_every_fault),
		cmocka_unit_test(creating_survives_every_fault),
		cmocka_unit_test(a_grant_that_could_not_be_destroyed_is_as_it_was),
		cmocka_unit_test(sending_survives_every_fault),
		cmocka_unit_test(copies_say_how_far_they_came),
	};

	/* Waits for readers that no barrier can be had for take no time. */
	fault_clock_virtual(true);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
