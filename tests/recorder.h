/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * recorder.h - a listener that keeps a map of its own from what it is told, and checks each call
 * against it: nothing is given twice, nothing goes that it does not have.
 */
#ifndef GM_TESTS_RECORDER_H
#define GM_TESTS_RECORDER_H

#include <errno.h>
#include <guestmem/listener.h>
#include <guestmem/txn.h>
#include <string.h>

#include "fault.h"
#include "support.h"

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define MOST 256
#define PAGE UINT64_C(4096)

static struct gm_error err;
static struct gm_space *space;
static struct gm_block *shared;

struct recorder {
	struct gm_listener *listener;
	struct gm_section has[MOST];
	size_t nr;
	uint32_t join;
	uint32_t kinds;
	int number;
	int refuse_prepare; /* countdowns; 1 = the next one */
	int refuse_add;
	int refuse_change;
	bool only_text; /* leaves the code of its refusal to the library */
	unsigned int prepares;
	unsigned int commits;
	unsigned int aborts;
	unsigned int calls;
	uint64_t last; /* address of the last call, for the order */
	bool adding;
	bool reenter;
};

/* Who was called, in this order. */
static char order[64];
static size_t nr_order;

static void note(const struct recorder *r, char what)
{
	if (nr_order + 2 < sizeof(order)) {
		order[nr_order++] = what;
		order[nr_order++] = (char)('0' + r->number);
		order[nr_order] = '\0';
	}
}

static bool counts_down(int *count)
{
	return *count > 0 && --*count == 0;
}

static size_t find(const struct recorder *r, const struct gm_section *s)
{
	for (size_t i = 0; i < r->nr; i++) {
		if (r->has[i].gpa == s->gpa)
			return i;
	}
	return r->nr;
}

/* Nothing of the library that changes the space works in a callback. */
static void try_to_enter(const struct recorder *r)
{
	struct gm_listener_info info = {.size = sizeof(info)};
	struct gm_region_info region = {.size = sizeof(region)};
	struct gm_listener *other;
	struct gm_txn *txn;

	if (!r->reenter)
		return;
	assert_int_equal(gm_txn_begin(space, &txn, NULL), -EBUSY);
	assert_int_equal(gm_space_remove(space, 1, NULL), -EBUSY);
	assert_int_equal(gm_space_wait(space, 0, NULL), -EBUSY);
	assert_int_equal(gm_space_reclaim(space), -EBUSY);
	assert_int_equal(
		gm_listener_create(space, GM_OPTS(gm_listener_ops, .name = "inner"), &other, NULL),
		-EBUSY);
	if (r->listener) {
		assert_int_equal(gm_listener_destroy(r->listener, NULL), -EBUSY);
		assert_int_equal(gm_listener_info(r->listener, &info), -EBUSY);
	}
	/* No lock is held: what is published can be asked for. */
	gm_space_next(space, 0, &region);
}

static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *why)
{
	struct recorder *r = ctx;

	note(r, 'p');
	try_to_enter(r);
	assert_true(nr > 0);
	for (size_t i = 0; i < nr; i++) {
		size_t at = find(r, &changes[i].section);

		if (changes[i].kind != GM_CHANGE_ADD)
			assert_true(at < r->nr);
		if (changes[i].kind == GM_CHANGE_PERMS)
			assert_int_equal(r->has[at].perms, changes[i].perms);
	}
	if (counts_down(&r->refuse_prepare)) {
		why->code = -EPERM;
		strcpy(why->text, "recorder: not this one");
		if (r->only_text)
			why->code = 0;
		return -EPERM;
	}
	r->prepares++;
	r->last = UINT64_MAX;
	r->adding = false;
	return 0;
}

static void on_remove(void *ctx, const struct gm_section *section)
{
	struct recorder *r = ctx;
	size_t at = find(r, section);

	note(r, 'r');
	try_to_enter(r);
	r->calls++;
	assert_true(at < r->nr);
	assert_int_equal(r->has[at].len, section->len);
	assert_ptr_equal(r->has[at].block, section->block);
	/* Its memory is still there. */
	if (section->hva && (section->perms & GM_PERM_R))
		(void)*(volatile uint8_t *)section->hva;
	r->has[at] = r->has[--r->nr];
}

static void check_no_overlap(const struct recorder *r, const struct gm_section *s)
{
	for (size_t i = 0; i < r->nr; i++) {
		const struct gm_section *has = &r->has[i];

		assert_true(has->gpa > s->gpa + (s->len - 1) || s->gpa > has->gpa + (has->len - 1));
	}
}

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *why)
{
	struct recorder *r = ctx;

	(void)why;
	note(r, 'a');
	try_to_enter(r);
	r->calls++;
	assert_true(r->nr < MOST);
	assert_true(r->kinds & GM_KIND_BIT(section->kind));
	check_no_overlap(r, section);
	if (counts_down(&r->refuse_add))
		return -ENOSPC;
	if (section->hva && (section->perms & GM_PERM_R))
		(void)*(volatile uint8_t *)section->hva;
	r->has[r->nr++] = *section;
	return 0;
}

static int on_change(
	void *ctx, const struct gm_section *section, uint32_t old_perms, struct gm_error *why)
{
	struct recorder *r = ctx;
	size_t at = find(r, section);

	(void)why;
	note(r, 'c');
	try_to_enter(r);
	r->calls++;
	assert_true(at < r->nr);
	assert_int_equal(r->has[at].perms, old_perms);
	assert_int_equal(r->has[at].len, section->len);
	assert_ptr_equal(r->has[at].hva, section->hva);
	if (counts_down(&r->refuse_change))
		return -EIO;
	r->has[at].perms = section->perms;
	return 0;
}

static void on_commit(void *ctx, uint64_t generation)
{
	struct recorder *r = ctx;

	note(r, 'C');
	try_to_enter(r);
	assert_true(generation > 0);
	r->commits++;
}

static void on_abort(void *ctx)
{
	struct recorder *r = ctx;

	note(r, 'A');
	try_to_enter(r);
	r->aborts++;
}

static struct gm_listener_ops ops_of(struct recorder *r, int32_t priority, bool change)
{
	if (r->kinds == 0)
		r->kinds = GM_KINDS_MEMORY;
	return (struct gm_listener_ops){
		.size = sizeof(struct gm_listener_ops),
		.name = "recorder",
		.priority = priority,
		.kinds = r->kinds,
		.join = r->join,
		.prepare = on_prepare,
		.remove = on_remove,
		.add = on_add,
		.change = change ? on_change : NULL,
		.commit = on_commit,
		.abort = on_abort,
		.ctx = r,
	};
}

static void attach(struct recorder *r, int32_t priority, bool change)
{
	struct gm_listener_ops ops = ops_of(r, priority, change);

	assert_ok(gm_listener_create(space, &ops, &r->listener, &err));
}

/* ---- what the space shows, by the policy of a recorder ---- */

static bool joins(const struct recorder *r, const struct gm_section *a, const struct gm_section *b)
{
	return r->join && a->hva && b->hva && a->kind == b->kind && a->perms == b->perms &&
	       a->gpa + a->len == b->gpa && (char *)a->hva + a->len == b->hva &&
	       (r->join == GM_JOIN_HOST ||
		       (a->block == b->block && a->block_off + a->len == b->block_off));
}

static size_t expect(const struct recorder *r, struct gm_section *ret)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t gpa = 0;
	size_t nr = 0;

	while (gm_space_next(space, gpa, &info) == 0) {
		struct gm_section s = {
			.gpa = info.gpa,
			.len = info.len,
			.kind = info.kind,
			.perms = info.perms,
			.hva = info.hva,
			.block = info.block,
			.block_off = info.block ? info.block_off : 0,
			.id = info.id,
			.off = info.off,
		};

		if (!(r->kinds & GM_KIND_BIT(info.kind)))
			;
		else if (nr && joins(r, &ret[nr - 1], &s))
			ret[nr - 1].len += s.len;
		else
			ret[nr++] = s;
		if (__builtin_add_overflow(info.gpa, info.len, &gpa))
			break;
	}
	return nr;
}

static void check_same(struct recorder *r)
{
	struct gm_listener_info info = {.size = sizeof(info)};
	static struct gm_section want[MOST];
	size_t nr = expect(r, want);

	assert_int_equal(r->nr, nr);
	for (size_t i = 0; i < nr; i++) {
		size_t at = find(r, &want[i]);

		assert_true(at < r->nr);
		assert_memory_equal(&r->has[at], &want[i], sizeof(want[i]));
	}
	if (gm_listener_info(r->listener, &info) == 0) {
		assert_int_equal(info.sections, nr);
		assert_int_equal(info.lost, 0);
	}
}

/* ---- fixtures ---- */

static int set_up(void **state)
{
	(void)state;
	fault_set(NULL);
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)), &space, &err));
	assert_ok(gm_block_create(
		BLOCK(.len = 64 * PAGE, .flags = GM_BLOCK_SHARE, .name = "shared"), &shared, &err));
	nr_order = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	gm_space_destroy(space);
	gm_block_put(shared);
	return 0;
}

static uint64_t add(uint64_t page, uint64_t pages, uint64_t off, uint32_t perms)
{
	uint64_t id;

	assert_ok(gm_space_add(space,
		DESC(.gpa = page * PAGE, .len = pages * PAGE, .block = shared,
			.block_off = off * PAGE, .perms = perms),
		&id, &err));
	return id;
}

static int protect(uint64_t id, uint32_t perms)
{
	struct gm_txn *txn;
	int rc = gm_txn_begin(space, &txn, &err);

	if (!rc)
		rc = gm_txn_protect(txn, id, perms, &err);
	if (!rc)
		rc = gm_txn_commit(txn, &err);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

#endif
