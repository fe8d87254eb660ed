/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_part_listener.c - what listeners are told of regions with parts: those who ask for parts the
 * exact difference, all others one section for each region, whatever becomes of its parts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define AT GIB(1)
#define MANY 10000u

enum { SHARED = GM_PART_SHARED, UNPLUGGED = GM_PART_UNPLUGGED, PRIVATE = GM_PART_PRIVATE };

static struct gm_block *memory;
static struct gm_block *guests_own;

/* Keeps what it was told, and writes each call down: "+" and "-" with address and state. */
struct keeper {
	struct gm_listener *listener;
	struct gm_section has[MANY];
	size_t nr;
	unsigned int prepares;
	unsigned int commits;
	char calls[512];
	uint32_t join;
	uint32_t flags;
};

static struct keeper whole, joined, parts;

static int set_up(void **state)
{
	(void)state;
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)));
	assert_ok(gm_block_create(
		BLOCK(.len = 2 * MANY * PAGE, .flags = GM_BLOCK_SHARE, .reserve = GM_RESERVE_NONE),
		&memory, &err));
	assert_ok(gm_block_create(
		BLOCK(.len = 2 * MANY * PAGE, .flags = GM_BLOCK_SHARE, .reserve = GM_RESERVE_NONE),
		&guests_own, &err));
	memset(&whole, 0, sizeof(whole));
	memset(&joined, 0, sizeof(joined));
	memset(&parts, 0, sizeof(parts));
	joined.join = GM_JOIN_HOST;
	parts.flags = GM_LISTENER_PARTS;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	stop();
	gm_block_put(memory);
	gm_block_put(guests_own);
	return 0;
}

static void note(struct keeper *k, char sign, const struct gm_section *s)
{
	size_t used = strlen(k->calls);

	snprintf(k->calls + used, sizeof(k->calls) - used, "%c%lu:%lu%c ", sign,
		(unsigned long)((s->gpa - AT) / PAGE), (unsigned long)(s->len / PAGE),
		"s?p"[s->part]);
}

static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *why)
{
	struct keeper *k = ctx;

	(void)changes;
	(void)why;
	assert_true(nr > 0);
	k->prepares++;
	return 0;
}

static size_t find(const struct keeper *k, uint64_t gpa)
{
	size_t i = 0;

	while (i < k->nr && k->has[i].gpa != gpa)
		i++;
	return i;
}

static void on_remove(void *ctx, const struct gm_section *section)
{
	struct keeper *k = ctx;
	size_t at = find(k, section->gpa);

	assert_true(at < k->nr);
	assert_memory_equal(&k->has[at], section, sizeof(*section));
	note(k, '-', section);
	k->has[at] = k->has[--k->nr];
}

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *why)
{
	struct keeper *k = ctx;

	(void)why;
	if (k->nr == MANY)
		return -ENOSPC;
	note(k, '+', section);
	k->has[k->nr++] = *section;
	return 0;
}

static void on_commit(void *ctx, uint64_t generation)
{
	struct keeper *k = ctx;

	(void)generation;
	k->commits++;
}

static int attach(struct keeper *k, uint64_t most)
{
	return gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .prepare = on_prepare, .remove = on_remove, .add = on_add,
			.commit = on_commit, .join = k->join, .flags = k->flags,
			.max_sections = most, .ctx = k),
		&k->listener, &err);
}

static void forget_calls(struct keeper *k)
{
	k->calls[0] = '\0';
	k->prepares = k->commits = 0;
}

#define PARTED(...)                                                                                \
	DESC(.block = memory, .granule = PAGE, .private_block = guests_own, .private_off = PAGE,   \
		__VA_ARGS__)

static uint64_t put(const struct gm_region_desc *desc)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space, desc, &id, &err));
	return id;
}

static void set(uint64_t id, uint64_t page, uint64_t pages, uint32_t state)
{
	assert_ok(gm_space_set_part(space, id, page * PAGE, pages * PAGE, state, &err));
}

/* ---- one region ---- */

static void a_region_cut_into_thousands_is_one_section(void **state)
{
	uint64_t id = put(PARTED(.gpa = AT, .len = (2 * MANY - 2) * PAGE));
	struct gm_section first;
	struct gm_txn *txn;

	(void)state;
	assert_ok(attach(&whole, 1));
	assert_ok(attach(&joined, 1));
	first = whole.has[0];
	assert_int_equal(whole.nr, 1);
	assert_int_equal(first.len, (2 * MANY - 2) * PAGE);
	assert_ptr_equal(first.private_block, guests_own);
	assert_int_equal(first.private_off, PAGE);
	forget_calls(&whole);
	forget_calls(&joined);
	assert_ok(gm_txn_begin(space, &txn, &err));
	for (uint64_t i = 0; i < MANY - 1; i++)
		assert_ok(gm_txn_set_part(
			txn, id, 2 * i * PAGE, PAGE, i % 2 ? PRIVATE : UNPLUGGED, &err));
	assert_ok(gm_txn_commit(txn, &err));
	for (uint64_t i = 0; i < 50; i++)
		set(id, i * 300, 3, (uint32_t)i % 3);
	assert_int_equal(whole.prepares + whole.commits + joined.prepares + joined.commits, 0);
	assert_int_equal(whole.nr, 1);
	assert_memory_equal(&whole.has[0], &first, sizeof(first));
	/* Whoever comes later is told the same, and loses it. */
	assert_ok(gm_listener_destroy(whole.listener, &err));
	assert_int_equal(whole.nr, 0);
	assert_ok(attach(&whole, 1));
	assert_int_equal(whole.nr, 1);
	assert_memory_equal(&whole.has[0], &first, sizeof(first));
	/* Whoever wants parts has one for each run that is there. */
	assert_int_equal(attach(&parts, 3), -ENOSPC);
	assert_int_equal(parts.nr, 0);
	forget_calls(&whole);
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(whole.nr + joined.nr, 0);
	assert_string_equal(whole.calls, "-0:19998s ");
}

static void all_of_a_region_may_be_unplugged_or_private(void **state)
{
	uint64_t id;

	(void)state;
	assert_ok(attach(&whole, 1));
	assert_ok(attach(&parts, 1));
	id = put(PARTED(.gpa = AT, .len = 8 * PAGE, .part = UNPLUGGED));
	assert_string_equal(whole.calls, "+0:8s ");
	assert_non_null(whole.has[0].hva);
	assert_string_equal(parts.calls, "");
	set(id, 0, 8, PRIVATE);
	assert_string_equal(parts.calls, "+0:8p ");
	assert_ptr_equal(parts.has[0].block, guests_own);
	assert_int_equal(parts.has[0].block_off, PAGE);
	assert_null(parts.has[0].hva);
	set(id, 0, 8, SHARED);
	assert_string_equal(parts.calls, "+0:8p -0:8p +0:8s ");
	assert_string_equal(whole.calls, "+0:8s ");
	assert_ptr_equal(parts.has[0].hva, whole.has[0].hva);
}

static void whoever_wants_parts_is_told_the_difference(void **state)
{
	uint64_t id = put(PARTED(.gpa = AT, .len = 16 * PAGE));

	(void)state;
	assert_ok(attach(&parts, 5));
	forget_calls(&parts);
	set(id, 4, 4, UNPLUGGED);
	assert_string_equal(parts.calls, "-0:16s +0:4s +8:8s ");
	forget_calls(&parts);
	set(id, 6, 2, PRIVATE);
	assert_string_equal(parts.calls, "+6:2p ");
	assert_int_equal(parts.has[find(&parts, AT + 6 * PAGE)].block_off, 7 * PAGE);
	forget_calls(&parts);
	set(id, 8, 1, PRIVATE);
	assert_string_equal(parts.calls, "-8:8s -6:2p +6:3p +9:7s ");
	forget_calls(&parts);
	set(id, 4, 2, SHARED);
	assert_string_equal(parts.calls, "-0:4s +0:6s ");
	/* Too many: nothing changes. */
	set(id, 12, 1, PRIVATE);
	assert_int_equal(parts.nr, 5);
	forget_calls(&parts);
	assert_fails(gm_space_set_part(space, id, 0, PAGE, PRIVATE, &err), ENOSPC, "sections");
	assert_string_equal(parts.calls, "");
	set(id, 0, 16, UNPLUGGED);
	assert_int_equal(parts.nr, 0);
}

static void unknown_flags_of_a_listener_are_refused(void **state)
{
	(void)state;
	parts.flags = 2;
	assert_fails(attach(&parts, 0), EINVAL, "flags");
}

/* ---- several, at random ---- */

static bool host_joins(
	const struct keeper *k, const struct gm_section *a, const struct gm_section *b)
{
	if (a->gpa + a->len != b->gpa || a->perms != b->perms || a->part != b->part || !a->hva ||
		!b->hva || (char *)a->hva + a->len != b->hva)
		return false;
	if (a->private_block != b->private_block ||
		(a->private_block && a->private_off + a->len != b->private_off))
		return false;
	return k->join == GM_JOIN_HOST || (a->id == b->id && a->off + a->len == b->off);
}

/* What a keeper should have, from what shows. */
static size_t expect(const struct keeper *k, struct gm_section *ret)
{
	struct gm_region_info info = {.size = sizeof(info)};
	bool by_parts = k->flags & GM_LISTENER_PARTS;
	size_t nr = 0;

	for (uint64_t gpa = 0; gm_space_next(space, gpa, &info) == 0; gpa = info.gpa + info.len) {
		bool hidden = by_parts && info.part == PRIVATE;
		struct gm_section s = {
			.gpa = info.gpa,
			.len = info.len,
			.kind = info.kind,
			.perms = info.perms,
			.hva = hidden ? NULL : info.hva,
			.block = hidden ? info.private_block : info.block,
			.block_off = hidden ? info.private_off : info.block_off,
			.id = info.id,
			.off = info.off,
			.private_block = info.private_block,
			.private_off = info.private_off,
			.part = by_parts ? info.part : 0,
		};

		if (!info.block || s.part == UNPLUGGED)
			continue;
		if (nr && host_joins(k, &ret[nr - 1], &s))
			ret[nr - 1].len += s.len;
		else
			ret[nr++] = s;
	}
	return nr;
}

static void check(struct keeper *k)
{
	struct gm_listener_info info = {.size = sizeof(info)};
	struct gm_section want[200];
	size_t nr = expect(k, want);

	assert_int_equal(k->nr, nr);
	for (size_t i = 0; i < nr; i++) {
		size_t at = find(k, want[i].gpa);

		assert_true(at < k->nr);
		assert_memory_equal(&k->has[at], &want[i], sizeof(want[i]));
	}
	assert_int_equal(gm_listener_info(k->listener, &info), 0);
	assert_int_equal(info.sections, nr);
}

#define SLOTS 4

/* One change of the plan, most often of a state. */
static void one_change(struct gm_txn *txn, struct rng *rng, const uint64_t ids[SLOTS + 1])
{
	uint64_t id = ids[rng_below(rng, SLOTS)];
	uint64_t page = rng_below(rng, 16);

	switch (rng_below(rng, 10)) {
	case 0:
		/* A cover of one page moves over all of them. */
		gm_txn_move(txn, ids[SLOTS], AT + rng_below(rng, SLOTS * 16) * PAGE, NULL);
		break;
	case 1:
		gm_txn_enable(txn, id, rng_below(rng, 3), NULL);
		break;
	case 2:
		gm_txn_protect(txn, id, rng_below(rng, 2) ? GM_PERM_RWX : GM_PERM_R, NULL);
		break;
	case 3:
		gm_txn_resize(txn, id, (8 + rng_below(rng, 9)) * PAGE, NULL);
		break;
	default:
		gm_txn_set_part(txn, id, page * PAGE, (1 + rng_below(rng, 16 - page)) * PAGE,
			(uint32_t)rng_below(rng, 3), NULL);
	}
}

/* Four regions side by side; the private memory of the last one is not that behind the third's. */
static void build_row(uint64_t ids[SLOTS + 1])
{
	for (uint64_t i = 0; i < SLOTS; i++)
		ids[i] = put(DESC(.gpa = AT + 16 * i * PAGE, .len = 16 * PAGE, .block = memory,
			.block_off = 16 * i * PAGE, .granule = PAGE, .part = (uint32_t)i % 3,
			.private_block = guests_own, .private_off = (i == 3 ? 0 : 16 * i) * PAGE));
	put(DESC(.gpa = GIB(3), .len = 8 * PAGE, .kind = GM_REGION_ALIAS, .target = ids[1],
		.block_off = 0, .flags = GM_REGION_DISABLED, .perms = GM_PERM_R));
	put(DESC(.gpa = GIB(4), .len = 8 * PAGE, .kind = GM_REGION_ALIAS, .target = ids[2],
		.block_off = 0));
	ids[SLOTS] = put(DESC(.gpa = AT, .len = PAGE, .kind = GM_REGION_RESERVED, .priority = 1));
}

static void what_is_told_is_what_shows(void **state)
{
	uint64_t ids[SLOTS + 1];
	struct rng rng = {test_seed(3)};
	struct gm_txn *txn;

	(void)state;
	build_row(ids);
	assert_ok(attach(&whole, 0));
	assert_ok(attach(&joined, 0));
	assert_ok(attach(&parts, 0));
	for (unsigned long i = 0; i < support_scale(3000); i++) {
		assert_ok(gm_txn_begin(space, &txn, &err));
		for (uint64_t nr = 1 + rng_below(&rng, 3); nr > 0; nr--)
			one_change(txn, &rng, ids);
		if (rng_below(&rng, 8) == 0)
			gm_txn_abort(txn);
		else
			assert_ok(gm_txn_commit(txn, &err));
		check(&whole);
		check(&joined);
		check(&parts);
		forget_calls(&whole);
		forget_calls(&joined);
		forget_calls(&parts);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_region_cut_into_thousands_is_one_section),
		cmocka_unit_test(all_of_a_region_may_be_unplugged_or_private),
		cmocka_unit_test(whoever_wants_parts_is_told_the_difference),
		cmocka_unit_test(unknown_flags_of_a_listener_are_refused),
		cmocka_unit_test(what_is_told_is_what_shows),
	};
	struct CMUnitTest with_fixture[sizeof(tests) / sizeof(tests[0])];

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		with_fixture[i] = tests[i];
		with_fixture[i].setup_func = set_up;
		with_fixture[i].teardown_func = tear_down;
	}
	return cmocka_run_group_tests(with_fixture, NULL, NULL);
}
