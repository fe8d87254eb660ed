/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_observer.c - a listener that only looks: it is told each difference, no more, in order, and
 * whatever it does it disturbs nobody.
 */
#include <errno.h>
#include <guestmem/dump.h>
#include <guestmem/listener.h>
#include <guestmem/txn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "one_space.h"
#include "random.h"

#define PAGE UINT64_C(4096)
#define MOST 128
#define LOG_MAX 4096
#define LIMIT GIB(16)

/* What was asked and is not done yet; the map as it follows from what was done; all of it as text. */
struct observer {
	struct gm_listener *listener;
	struct gm_change pending[MOST];
	size_t nr_pending;
	struct gm_section map[MOST];
	size_t nr;
	size_t commits;
	size_t aborts;
	uint64_t generation;
	size_t len;
	char log[LOG_MAX];
	bool meddles;
};

static void put(struct observer *o, const char *text)
{
	if (o->len + strlen(text) < LOG_MAX)
		o->len += (size_t)sprintf(o->log + o->len, "%s", text);
}

/* "+2-5 ram rw" for pages 2 to 5. */
static void put_change(struct observer *o, const struct gm_change *change)
{
	static const char what[] = {'-', '+', '~'};
	const struct gm_section *s = &change->section;
	char line[80];

	snprintf(line, sizeof(line), "%c%x-%x %s%s%s%s\n", what[change->kind],
		(unsigned int)(s->gpa / PAGE), (unsigned int)((s->gpa + (s->len - 1)) / PAGE),
		gm_region_kind_name(s->kind), s->perms & GM_PERM_R ? " r" : "",
		s->perms & GM_PERM_W ? "w" : "", s->perms & GM_PERM_X ? "x" : "");
	put(o, line);
}

static int ignore(void *ctx, const char *text, size_t len)
{
	(void)text;
	*(size_t *)ctx += len;
	return 0;
}

/* All that would disturb is refused; what is published may be looked at. */
static void meddle(void)
{
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_listener *other;
	struct gm_txn *txn;
	size_t len = 0;

	assert_int_equal(gm_txn_begin(space, &txn, NULL), -EBUSY);
	assert_int_equal(gm_space_reclaim(space), -EBUSY);
	assert_int_equal(gm_space_wait(space, 0, NULL), -EBUSY);
	assert_int_equal(
		gm_listener_create(space, GM_OPTS(gm_listener_ops, .name = "inner"), &other, NULL),
		-EBUSY);
	gm_space_next(space, 0, &info);
	assert_int_equal(gm_space_dump(space, 0, ignore, &len), 0);
	assert_true(len > 0);
}

static int on_prepare(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *error)
{
	struct observer *o = ctx;

	(void)error;
	assert_int_equal(o->nr_pending, 0);
	assert_true(nr > 0 && nr <= MOST);
	memcpy(o->pending, changes, nr * sizeof(*changes));
	o->nr_pending = nr;
	if (o->meddles)
		meddle();
	/* What is not negative is no refusal. */
	return o->meddles ? 1 : 0;
}

static size_t place_of(const struct observer *o, uint64_t gpa)
{
	size_t at = 0;

	while (at < o->nr && o->map[at].gpa != gpa)
		at++;
	return at;
}

static void apply(struct observer *o, const struct gm_change *change)
{
	size_t at = place_of(o, change->section.gpa);

	put_change(o, change);
	if (change->kind == GM_CHANGE_ADD) {
		assert_int_equal(at, o->nr);
		assert_true(o->nr < MOST);
		o->map[o->nr++] = change->section;
		return;
	}
	assert_true(at < o->nr);
	assert_int_equal(o->map[at].len, change->section.len);
	assert_int_equal(o->map[at].id, change->section.id);
	if (change->kind == GM_CHANGE_REMOVE) {
		o->map[at] = o->map[--o->nr];
		return;
	}
	assert_int_equal(o->map[at].perms, change->perms);
	o->map[at].perms = change->section.perms;
}

static void on_commit(void *ctx, uint64_t generation)
{
	struct observer *o = ctx;

	assert_true(o->nr_pending > 0);
	for (size_t i = 0; i < o->nr_pending; i++)
		apply(o, &o->pending[i]);
	put(o, "done\n");
	o->nr_pending = 0;
	o->commits++;
	/* The first may be told of a map that was there before. */
	assert_true(o->commits == 1 || generation > o->generation);
	o->generation = generation;
	if (o->meddles)
		meddle();
}

static void on_abort(void *ctx)
{
	struct observer *o = ctx;

	assert_true(o->nr_pending > 0);
	o->nr_pending = 0;
	o->aborts++;
	put(o, "dropped\n");
	if (o->meddles)
		meddle();
}

static void observe(struct observer *o)
{
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "observer", .priority = INT32_MIN,
			.kinds = GM_KINDS_ALL, .prepare = on_prepare, .commit = on_commit,
			.abort = on_abort, .ctx = o),
		&o->listener, &err));
}

/* ---- what it sees ---- */

static uint64_t reserve(uint64_t page, uint64_t pages, int32_t priority)
{
	uint64_t id;

	assert_ok(gm_space_add(space,
		DESC(.gpa = page * PAGE, .len = pages * PAGE, .kind = GM_REGION_RESERVED,
			.priority = priority),
		&id, &err));
	return id;
}

static int refuse(void *ctx, const struct gm_section *section, struct gm_error *error)
{
	(void)ctx;
	(void)section;
	(void)error;
	return -ENOSPC;
}

static void seen(struct observer *o, const char *want)
{
	assert_string_equal(o->log, want);
	o->len = 0;
	o->log[0] = '\0';
}

static void each_difference_is_told_once_and_in_order(void **state)
{
	static struct observer o;
	struct gm_listener *stubborn;
	struct gm_txn *txn;
	uint64_t ram;
	uint64_t top;

	(void)state;
	o = (struct observer){.meddles = false};
	start(GM_OPTS(gm_space_opts, .gpa_limit = LIMIT));
	ram = add(0, 8 * PAGE);
	observe(&o);
	seen(&o, "+0-7 ram rwx\ndone\n");
	/* The middle of it is covered. */
	top = reserve(2, 2, 1);
	seen(&o, "-0-7 ram rwx\n+0-1 ram rwx\n+2-3 reserved\n+4-7 ram rwx\ndone\n");
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_protect(txn, ram, GM_PERM_RW, &err));
	assert_ok(gm_txn_commit(txn, &err));
	seen(&o, "~0-1 ram rw\n~4-7 ram rw\ndone\n");
	/* What is not committed is not told, what changes nothing neither. */
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_remove(txn, top, &err));
	gm_txn_abort(txn);
	reserve(3, 1, -1);
	seen(&o, "");
	/* What another one refuses has been asked, and is dropped. */
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "stubborn", .kinds = GM_KIND_BIT(GM_REGION_ROM),
			.add = refuse),
		&stubborn, &err));
	assert_int_equal(
		gm_space_add(space,
			DESC(.gpa = 9 * PAGE, .kind = GM_REGION_ROM, .backing = BLOCK(.len = PAGE)),
			NULL, &err),
		-ENOSPC);
	seen(&o, "dropped\n");
	assert_int_equal(gm_listener_destroy(stubborn, &err), 0);
	assert_ok(gm_space_remove(space, top, &err));
	seen(&o, "-4-7 ram rw\n-2-3 reserved\n-0-1 ram rw\n+0-7 ram rw\ndone\n");
	assert_int_equal(gm_listener_destroy(o.listener, &err), 0);
	seen(&o, "");
	stop();
}

/* ---- random changes ---- */

static size_t walk(struct gm_section *ret)
{
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t gpa = 0;
	size_t nr = 0;

	while (gm_space_next(space, gpa, &info) == 0) {
		assert_true(nr < MOST);
		ret[nr++] = (struct gm_section){
			.gpa = info.gpa,
			.len = info.len,
			.kind = info.kind,
			.perms = info.perms,
			.hva = info.hva,
			.block = info.block,
			.block_off = info.block ? info.block_off : 0,
			.id = info.id,
			.off = info.off,
			.label = info.label,
		};
		if (__builtin_add_overflow(info.gpa, info.len, &gpa))
			break;
	}
	return nr;
}

static const struct gm_section *same_place(
	const struct gm_section *list, size_t nr, const struct gm_section *s)
{
	for (size_t i = 0; i < nr; i++) {
		if (list[i].gpa == s->gpa)
			return &list[i];
	}
	return NULL;
}

/* Steps that lead from one map to the other: one for each section that is in one of them only. */
static size_t difference(
	const struct gm_section *from, size_t nr_from, const struct gm_section *to, size_t nr_to)
{
	size_t steps = 0;

	for (size_t i = 0; i < nr_from; i++) {
		const struct gm_section *other = same_place(to, nr_to, &from[i]);
		struct gm_section same = from[i];

		if (other)
			same.perms = other->perms;
		if (!other || memcmp(other, &same, sizeof(same)) != 0)
			steps++;
		else
			steps += other->perms != from[i].perms;
	}
	for (size_t i = 0; i < nr_to; i++) {
		const struct gm_section *other = same_place(from, nr_from, &to[i]);
		struct gm_section same = to[i];

		if (other)
			same.perms = other->perms;
		steps += !other || memcmp(other, &same, sizeof(same)) != 0;
	}
	return steps;
}

static uint64_t ids[12];

/* Nothing here moves memory in the window, which would be told as going and coming. */
static void some_operation(struct rng *rng, struct gm_txn *txn)
{
	static const uint32_t perms[] = {GM_PERM_R, GM_PERM_RW, GM_PERM_RWX};
	uint64_t *id = &ids[rng_below(rng, 12)];
	const struct gm_region_desc desc = {
		.size = sizeof(desc),
		.gpa = rng_below(rng, 32) * PAGE,
		.len = (1 + rng_below(rng, 8)) * PAGE,
		.kind = rng_below(rng, 2) ? GM_REGION_RESERVED : GM_REGION_CONTAINER,
		.priority = (int32_t)rng_below(rng, 6),
	};

	if (!*id) {
		gm_txn_add(txn, &desc, id, NULL);
		return;
	}
	switch (rng_below(rng, 6)) {
	case 0:
		if (gm_txn_remove(txn, *id, NULL) == 0)
			*id = 0;
		break;
	case 1:
		gm_txn_protect(txn, *id, perms[rng_below(rng, 3)], NULL);
		break;
	case 2:
		gm_txn_enable(txn, *id, rng_below(rng, 2), NULL);
		break;
	case 3:
		gm_txn_prioritize(txn, *id, desc.priority, NULL);
		break;
	case 4:
		gm_txn_move(txn, *id, desc.gpa, NULL);
		break;
	default:
		gm_txn_resize(txn, *id, desc.len, NULL);
	}
}

/* In the log of one commit: what goes from the last on, then what comes from the first. */
static void check_order(const struct observer *o)
{
	uint64_t last = UINT64_MAX;
	bool comes = false;

	for (size_t i = 0; i < o->nr_pending; i++) {
		uint64_t gpa = o->pending[i].section.gpa;

		if (o->pending[i].kind == GM_CHANGE_REMOVE) {
			assert_true(!comes && gpa < last);
		} else {
			assert_true(!comes || gpa > last);
			comes = true;
		}
		last = gpa;
	}
}

static int prepare_and_check(
	void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *error)
{
	int rc = on_prepare(ctx, changes, nr, error);

	check_order(ctx);
	return rc;
}

static void what_was_told_makes_the_map_and_is_the_least(void **state)
{
	static struct observer o;
	static struct gm_section was[MOST];
	static struct gm_section is[MOST];
	struct rng rng = {test_seed(77)};
	size_t told = 0;
	uint64_t ram[2];

	(void)state;
	o = (struct observer){.meddles = true};
	memset(ids, 0, sizeof(ids));
	start(GM_OPTS(gm_space_opts, .gpa_limit = LIMIT));
	ram[0] = add(0, 20 * PAGE);
	ram[1] = add(20 * PAGE, 20 * PAGE);
	assert_ok(gm_listener_create(space,
		GM_OPTS(gm_listener_ops, .name = "observer", .kinds = GM_KINDS_ALL,
			.prepare = prepare_and_check, .commit = on_commit, .abort = on_abort,
			.ctx = &o),
		&o.listener, &err));
	for (unsigned long i = 0; i < support_scale(2000); i++) {
		size_t nr_was = walk(was);
		size_t commits = o.commits;
		struct gm_txn *txn;
		size_t least;
		size_t nr;

		assert_ok(gm_txn_begin(space, &txn, &err));
		for (uint64_t j = rng_below(&rng, 4) + 1; j > 0; j--)
			some_operation(&rng, txn);
		if (rng_below(&rng, 4) == 0)
			gm_txn_protect(txn, ram[rng_below(&rng, 2)],
				rng_below(&rng, 2) ? GM_PERM_R : GM_PERM_RW, NULL);
		o.len = 0;
		o.log[0] = '\0';
		assert_ok(gm_txn_commit(txn, &err));
		nr = walk(is);
		least = difference(was, nr_was, is, nr);
		assert_int_equal(o.commits, commits + (least > 0));
		for (const char *line = o.log; *line; line = strchr(line, '\n') + 1)
			told += *line != 'd';
		assert_int_equal(o.nr, nr);
		assert_int_equal(difference(o.map, o.nr, is, nr), 0);
		for (const char *line = o.log; *line; line = strchr(line, '\n') + 1)
			least -= *line != 'd';
		assert_int_equal(least, 0);
	}
	printf("figure: observed-changes %zu\n", told);
	assert_true(told > 1000);
	assert_int_equal(gm_listener_destroy(o.listener, &err), 0);
	stop();
}

/* ---- beside others ---- */

static int over;
static unsigned long dumps;

static void *dump_often(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		size_t len = 0;

		if (gm_space_dump(space, GM_DUMP_LISTENERS | GM_DUMP_FLAT, ignore, &len) || !len)
			break;
		__atomic_fetch_add(&dumps, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void observers_come_and_go_while_they_are_written_down(void **state)
{
	static struct observer o[3];
	pthread_t thread;
	uint64_t ram;

	(void)state;
	memset(o, 0, sizeof(o));
	start(GM_OPTS(gm_space_opts, .gpa_limit = LIMIT));
	ram = add(0, 8 * PAGE);
	dumps = 0;
	__atomic_store_n(&over, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&thread, NULL, dump_often, NULL), 0);
	for (unsigned long i = 0;
		i < support_scale(1000) || __atomic_load_n(&dumps, __ATOMIC_RELAXED) < 100; i++) {
		struct observer *one = &o[i % 3];
		struct gm_txn *txn;

		if (one->listener) {
			assert_int_equal(gm_listener_destroy(one->listener, &err), 0);
			*one = (struct observer){.listener = NULL};
		} else {
			observe(one);
		}
		assert_ok(gm_txn_begin(space, &txn, &err));
		assert_ok(gm_txn_protect(txn, ram, i % 2 ? GM_PERM_R : GM_PERM_RWX, &err));
		assert_ok(gm_txn_commit(txn, &err));
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	for (int i = 0; i < 3; i++)
		assert_int_equal(gm_listener_destroy(o[i].listener, &err), 0);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_difference_is_told_once_and_in_order),
		cmocka_unit_test(what_was_told_makes_the_map_and_is_the_least),
		cmocka_unit_test(observers_come_and_go_while_they_are_written_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
