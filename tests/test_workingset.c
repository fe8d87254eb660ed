/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_workingset.c - estimates against sets that are known: this process is the guest. A whole sample is exact,
 * a thin one within its bounds, and no byte changes.
 */
#include "fault.h"
#include "one_discard.h"
#include "random.h"

#include <pthread.h>

#include <guestmem/part.h>
#include <guestmem/txn.h>
#include <guestmem/watch.h>
#include <guestmem/workingset.h>

#define PAGES (LEN / PAGE)

static struct gm_workingset *ws;
static struct gm_workingset_result got;

static void open_ws(uint32_t method, uint32_t parts, uint64_t seed)
{
	assert_ok(gm_workingset_create(space,
		GM_OPTS(gm_workingset_opts, .method = method, .parts = parts, .seed = seed,
			.bin = MIB(1)),
		&ws, &err));
}

static void close_ws(void)
{
	assert_ok(gm_workingset_destroy(ws, &err));
	ws = NULL;
}

static void begin_round(void)
{
	assert_ok(gm_workingset_begin(ws, &err));
}

static void end_round(void)
{
	got = (struct gm_workingset_result){.size = sizeof(got)};
	assert_ok(gm_workingset_end(ws, &got, &err));
}

static void fill_memory(void)
{
	uint64_t *words = (void *)host(AT);

	for (uint64_t i = 0; i < LEN / 8; i++)
		words[i] = i * 0x9e3779b97f4a7c15u;
}

static void assert_memory_kept(void)
{
	const uint64_t *words = (void *)host(AT);

	for (uint64_t i = 0; i < LEN / 8; i++) {
		if (words[i] != i * 0x9e3779b97f4a7c15u)
			fail_msg("byte 0x%llx has changed", (unsigned long long)(8 * i));
	}
}

/* Every @step-th page of the first @pages, read or written with what it holds. */
static uint64_t touch(uint64_t pages, uint64_t step, bool write)
{
	volatile uint64_t *words = (void *)host(AT);
	uint64_t nr = 0;

	for (uint64_t i = 0; i < pages; i += step, nr++) {
		uint64_t value = words[i * PAGE / 8];

		if (write)
			words[i * PAGE / 8] = value;
	}
	return nr * PAGE;
}

/* ---- exact ---- */

static void check_exact(enum backing_index backing, uint32_t method, bool reads)
{
	static const struct {
		uint64_t pages;
		uint64_t step;
	} sets[] = {{0, 1}, {1, 1}, {PAGES / 2, 1}, {PAGES, 64}, {PAGES, 7}, {PAGES, 1}};
	uint64_t unit = backings[backing].page;

	start_backing(&backings[backing]);
	fill_memory();
	open_ws(method, 1, 1);
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		uint64_t want;

		begin_round();
		want = touch(sets[i].pages, sets[i].step, !reads);
		end_round();
		if (unit > PAGE)
			want = (sets[i].pages * PAGE + unit - 1) / unit * unit;
		assert_int_equal(got.bytes, want);
		assert_int_equal(got.low, want);
		assert_int_equal(got.high, want);
		assert_int_equal(got.total, LEN);
		assert_int_equal(got.looked, LEN);
		assert_int_equal(got.left, 0);
		assert_int_equal(got.methods, 1u << (method ? method : GM_WORKINGSET_UNMAP));
		assert_int_equal(got.round, i + 1);
		assert_true(got.begin_ns > 0 && got.end_ns > 0);
	}
	assert_memory_kept();
	close_ws();
	stop_backing();
}

static void a_whole_sample_is_exact(void **state)
{
	(void)state;
	check_exact(MEMFD, GM_WORKINGSET_UNMAP, false);
	check_exact(MEMFD, GM_WORKINGSET_AUTO, true);
	check_exact(ANON_SHARED, GM_WORKINGSET_UNMAP, true);
	check_exact(FILE_SHARED, GM_WORKINGSET_UNMAP, true);
	check_exact(HUGETLB_MEMFD, GM_WORKINGSET_UNMAP, true);
	check_exact(HUGETLB_SHARED, GM_WORKINGSET_UNMAP, false);
	check_exact(ANON, GM_WORKINGSET_WRITES, false);
	check_exact(MEMFD, GM_WORKINGSET_WRITES, false);
	check_exact(LOCKED, GM_WORKINGSET_WRITES, false);
}

static void reads_are_no_writes(void **state)
{
	(void)state;
	start_backing(&backings[ANON]);
	fill_memory();
	open_ws(GM_WORKINGSET_AUTO, 1, 1);
	begin_round();
	touch(PAGES, 1, false);
	end_round();
	assert_int_equal(got.bytes, 0);
	assert_int_equal(got.notes, GM_WORKINGSET_WRITES_ONLY);
	assert_int_equal(got.methods, 1u << GM_WORKINGSET_WRITES);
	close_ws();
	stop_backing();
}

/* Memory that was never there is touched too. */
static void pages_that_come_count(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		start_backing(&backings[i ? ANON : MEMFD]);
		open_ws(GM_WORKINGSET_AUTO, 1, 1);
		begin_round();
		touch(100, 1, true);
		end_round();
		assert_int_equal(got.bytes, 100 * PAGE);
		assert_int_equal(got.backed, 0);
		begin_round();
		end_round();
		assert_int_equal(got.bytes, 0);
		assert_int_equal(got.backed, 100 * PAGE);
		close_ws();
		stop_backing();
	}
}

/* A huge page is unmapped and counted as one; it comes back as one. */
static void huge_pages_stay_huge(void **state)
{
	struct gm_policy_result r = {.size = sizeof(r)};
	struct gm_usage use = {.size = sizeof(use)};

	(void)state;
	start_backing(&backings[MEMFD]);
	fill_memory();
	assert_ok(gm_policy_collapse(space, AT, LEN, 0, &r, &err));
	assert_int_equal(r.huge, LEN / MIB(2));
	open_ws(GM_WORKINGSET_AUTO, 64, 3);
	begin_round();
	touch(1, 1, false);
	end_round();
	assert_int_equal(got.bytes, MIB(2));
	begin_round();
	touch(PAGES, 1, false);
	end_round();
	assert_int_equal(got.bytes, LEN);
	assert_ok(gm_space_extents(space, AT, LEN, 0, NULL, NULL, &use, &err));
	assert_int_equal(use.by_log2[21], LEN);
	assert_memory_kept();
	close_ws();
	stop_backing();
}

/* ---- a thin sample ---- */

/* Within the bounds that it gives, in at least 93 of 100 samples. */
static void check_coverage(uint64_t pages, uint64_t step)
{
	uint64_t seeds = support_scale(100);
	uint64_t within = 0;
	double error = 0;

	for (uint64_t seed = 0; seed < seeds; seed++) {
		uint64_t want;

		open_ws(GM_WORKINGSET_UNMAP, 64, test_seed(seed));
		begin_round();
		want = touch(pages, step, true);
		end_round();
		assert_int_equal(got.samples, PAGES / 64);
		within += got.low <= want && want <= got.high;
		error += (double)got.bytes - (double)want;
		touch(PAGES, 1, false);
		close_ws();
	}
	if (within * 100 < seeds * 93)
		fail_msg("%llu of %llu within the bounds, %llu pages by %llu",
			(unsigned long long)within, (unsigned long long)seeds,
			(unsigned long long)pages, (unsigned long long)step);
	/* No bias: the mean is near. */
	error /= (double)seeds * (double)LEN;
	assert_true(error < 0.03 && error > -0.03);
}

static void a_thin_sample_is_within_its_bounds(void **state)
{
	(void)state;
	start_backing(&backings[MEMFD]);
	fill_memory();
	check_coverage(0, 1);
	check_coverage(1, 1);
	check_coverage(PAGES / 8, 1);
	check_coverage(PAGES / 2, 1);
	check_coverage(PAGES, 3);
	check_coverage(PAGES, 64);
	check_coverage(PAGES, 1);
	assert_memory_kept();
	stop_backing();
}

static int add_samples(void *arg, const struct gm_workingset_bin *bin)
{
	uint64_t *sums = arg;

	assert_int_equal(bin->len, MIB(1));
	sums[0] += bin->samples;
	sums[1] += bin->touched;
	if (bin->touched == 0)
		assert_true(bin->rounds == UINT64_MAX);
	else
		assert_int_equal(bin->rounds, 0);
	return 0;
}

static void as_many_rounds_as_parts_see_each_page_once(void **state)
{
	uint64_t sums[2] = {0};
	uint64_t seen = 0;

	(void)state;
	start_backing(&backings[MEMFD]);
	fill_memory();
	open_ws(GM_WORKINGSET_UNMAP, 24, 5);
	for (int i = 0; i < 24; i++) {
		begin_round();
		touch(PAGES / 2, 1, false);
		end_round();
		seen += got.touched;
	}
	/* The last stratum is short, and gone through more than once. */
	assert_int_equal(seen, PAGES / 2);
	assert_int_equal(gm_workingset_bins(ws, add_samples, sums), 0);
	assert_true(sums[0] >= PAGES && sums[0] < PAGES + 24);
	assert_int_equal(sums[1], PAGES / 2);
	close_ws();
	stop_backing();
}

/* ---- refusals ---- */

static int first_why(void *arg, const struct gm_workingset_result *piece, const char *why)
{
	(void)piece;
	*(const char **)arg = why;
	return 1;
}

static void check_refused(uint32_t method, const char *word)
{
	open_ws(method, 1, 1);
	assert_fails(gm_workingset_begin(ws, &err), ENOTSUP, word);
	got.size = sizeof(got);
	assert_fails(gm_workingset_end(ws, &got, &err), EINVAL, "no round");
	close_ws();
}

static void what_unmapping_would_harm_is_refused(void **state)
{
	struct gm_watch *watch;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start_backing(&backings[i ? FILE_PRIVATE : ANON]);
		fill_memory();
		check_refused(GM_WORKINGSET_UNMAP, "private memory");
		assert_memory_kept();
		stop_backing();
	}
	start_backing(&backings[MEMFD_LOCKED]);
	check_refused(GM_WORKINGSET_UNMAP, "locked");
	stop_backing();
	start_backing(&backings[POINTER]);
	check_refused(GM_WORKINGSET_AUTO, "memory of the caller");
	stop_backing();
	start_backing(&backings[UNMAPPED]);
	check_refused(GM_WORKINGSET_AUTO, "not mapped");
	stop_backing();
	start_backing(&backings[MEMFD]);
	assert_ok(gm_discard_inhibit(space, AT + PAGE, PAGE, GM_INHIBIT_UNCOORDINATED, &err));
	check_refused(GM_WORKINGSET_UNMAP, "inhibited");
	assert_int_equal(gm_discard_allow(space, AT + PAGE, PAGE, GM_INHIBIT_UNCOORDINATED), 0);
	assert_ok(gm_watch_create(space, &watch, &err));
	check_refused(GM_WORKINGSET_UNMAP, "another userfaultfd");
	check_refused(GM_WORKINGSET_WRITES, "another userfaultfd");
	assert_ok(gm_watch_destroy(watch, &err));
	open_ws(GM_WORKINGSET_UNMAP, 1, 1);
	begin_round();
	/* And the other way round. */
	assert_fails(gm_watch_create(space, &watch, &err), EBUSY, "another userfaultfd");
	close_ws();
	assert_ok(gm_watch_create(space, &watch, &err));
	assert_ok(gm_watch_destroy(watch, &err));
	stop_backing();
}

/* Locked behind the library's back: the kernel says so, and nothing is lost. */
static void memory_that_somebody_else_locked_is_left(void **state)
{
	const char *why = NULL;

	(void)state;
	start_backing(&backings[MEMFD]);
	fill_memory();
	/* The sanitizers leave mlock() out. */
	assert_int_equal(syscall(SYS_mlock, host(AT), LEN), 0);
	check_refused(GM_WORKINGSET_UNMAP, "locked");
	assert_int_equal(syscall(SYS_munlock, host(AT), LEN), 0);
	open_ws(GM_WORKINGSET_UNMAP, 1, 1);
	begin_round();
	end_round();
	gm_workingset_pieces(ws, first_why, &why);
	assert_non_null(why);
	assert_non_null(strstr(why, "UNMAP"));
	assert_memory_kept();
	close_ws();
	stop_backing();
}

/* The mapping decides, not what was said when it was made. */
static void a_mapping_that_is_private_after_all_is_left(void **state)
{
	void *hva;

	(void)state;
	start_backing(&backings[MEMFD]);
	hva = host(AT);
	assert_ptr_equal(mmap(hva, LEN / 2, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
		hva);
	fill_memory();
	check_refused(GM_WORKINGSET_UNMAP, "private memory");
	assert_memory_kept();
	stop_backing();
}

static void a_pinned_piece_is_left(void **state)
{
	struct gm_pin pin;
	struct iovec iov;

	(void)state;
	start_backing(&backings[MEMFD]);
	assert_int_equal(gm_pin_slice(gm_reader_enter(reader), AT, PAGE, GM_PERM_R, &iov, &pin), 0);
	gm_reader_leave(reader);
	check_refused(GM_WORKINGSET_AUTO, "pinned");
	gm_pin_put(&pin);
	open_ws(GM_WORKINGSET_AUTO, 1, 1);
	begin_round();
	end_round();
	assert_int_equal(got.looked, LEN);
	close_ws();
	stop_backing();
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	start_backing(&backings[MEMFD]);
	assert_fails(
		gm_workingset_create(space, GM_OPTS(gm_workingset_opts, .method = 5), &ws, &err),
		EINVAL, "no such method");
	assert_fails(
		gm_workingset_create(space, GM_OPTS(gm_workingset_opts, .parts = 65537), &ws, &err),
		EINVAL, "parts");
	assert_fails(
		gm_workingset_create(space, GM_OPTS(gm_workingset_opts, .bin = 5000), &ws, &err),
		EINVAL, "bins");
	assert_fails(gm_workingset_create(space,
			     GM_OPTS(gm_workingset_opts, .gpa = UINT64_MAX, .len = 2), &ws, &err),
		ERANGE, "wrap");
	assert_int_equal(
		gm_workingset_create(space, &(struct gm_workingset_opts){.size = 3}, &ws, &err),
		-EINVAL);
	assert_ok(gm_workingset_create(
		space, GM_OPTS(gm_workingset_opts, .gpa = GIB(1), .len = PAGE), &ws, &err));
	assert_fails(gm_workingset_begin(ws, &err), ENOTSUP, "no memory");
	assert_int_equal(gm_workingset_report(ws, 5), -EINVAL);
	close_ws();
	assert_ok(gm_workingset_destroy(NULL, &err));
	stop_backing();
}

static void what_the_guest_says_is_bounded_by_its_memory(void **state)
{
	(void)state;
	start_backing(&backings[MEMFD]);
	open_ws(GM_WORKINGSET_REPORTED, 0, 0);
	begin_round();
	assert_int_equal(gm_workingset_report(ws, MIB(3)), 0);
	end_round();
	assert_int_equal(got.bytes, MIB(3));
	assert_int_equal(got.low, 0);
	assert_int_equal(got.high, LEN);
	assert_int_equal(got.notes, GM_WORKINGSET_UNTRUSTED);
	begin_round();
	assert_int_equal(gm_workingset_report(ws, UINT64_MAX), 0);
	end_round();
	assert_int_equal(got.bytes, LEN);
	close_ws();
	stop_backing();
}

/* ---- the map changes ---- */

static void what_a_commit_takes_is_dropped(void **state)
{
	struct gm_txn *txn;
	uint64_t id;

	(void)state;
	start_backing(&backings[MEMFD]);
	fill_memory();
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(64), .backing = BLOCK(.len = LEN, .flags = GM_BLOCK_SHARE)), &id,
		&err));
	open_ws(GM_WORKINGSET_UNMAP, 1, 1);
	begin_round();
	touch(10, 1, false);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_move(txn, id, MIB(128), &err));
	assert_ok(gm_txn_commit(txn, &err));
	end_round();
	assert_int_equal(got.dropped, LEN);
	assert_int_equal(got.looked, LEN);
	assert_int_equal(got.bytes, 10 * PAGE);
	/* There and back is a change too. */
	begin_round();
	for (int i = 0; i < 2; i++) {
		assert_ok(gm_txn_begin(space, &txn, &err));
		assert_ok(gm_txn_move(txn, id, MIB(i ? 128 : 64), &err));
		assert_ok(gm_txn_commit(txn, &err));
	}
	end_round();
	assert_int_equal(got.dropped, LEN);
	begin_round();
	assert_ok(gm_space_remove(space, id, &err));
	end_round();
	assert_int_equal(got.dropped, LEN);
	begin_round();
	end_round();
	assert_int_equal(got.dropped, 0);
	assert_int_equal(got.total, LEN);
	assert_memory_kept();
	close_ws();
	stop_backing();
}

struct mover {
	uint64_t id;
	bool stop; /* atomic */
	uint64_t moves;
};

static void *move_about(void *arg)
{
	struct mover *m = arg;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		struct gm_txn *txn;

		/* A round that begins may hold the space. */
		if (gm_txn_begin(space, &txn, NULL))
			continue;
		if (gm_txn_move(txn, m->id, MIB(m->moves % 2 ? 64 : 128), NULL) ||
			gm_txn_commit(txn, NULL))
			gm_txn_abort(txn);
		else
			m->moves++;
	}
	return NULL;
}

static void rounds_go_on_beside_commits(void **state)
{
	struct mover mover = {0};
	pthread_t thread;

	(void)state;
	start_backing(&backings[MEMFD]);
	fill_memory();
	assert_ok(gm_space_add(space,
		DESC(.gpa = MIB(64), .backing = BLOCK(.len = LEN, .flags = GM_BLOCK_SHARE)),
		&mover.id, &err));
	open_ws(GM_WORKINGSET_UNMAP, 8, 1);
	assert_int_equal(pthread_create(&thread, NULL, move_about, &mover), 0);
	for (unsigned long i = 0; i < support_scale(60); i++) {
		begin_round();
		touch(PAGES, 1, i % 2);
		end_round();
		assert_int_equal(got.looked + got.dropped + got.left, got.total);
		/* What does not move is either right, or was not looked at. */
		assert_true(got.bytes == (got.looked ? LEN : 0) || got.dropped == 0);
	}
	__atomic_store_n(&mover.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	assert_true(mover.moves > 0);
	assert_memory_kept();
	close_ws();
	stop_backing();
}

/* ---- failures ---- */

static uint32_t swept;

static int scenario(void *ctx)
{
	struct gm_workingset_result r = {.size = sizeof(r)};
	struct gm_workingset *w = NULL;
	int rc = gm_workingset_create(space,
		GM_OPTS(gm_workingset_opts, .method = swept, .parts = 512, .bin = MIB(1)), &w,
		NULL);

	(void)ctx;
	if (rc)
		return rc;
	rc = gm_workingset_begin(w, NULL);
	if (!rc) {
		touch(PAGES, 1, true);
		rc = gm_workingset_end(w, &r, NULL);
	}
	fault_disarm();
	/* What could not be looked at is left, and the rest right. */
	if (!rc) {
		assert_int_equal(r.looked + r.left, r.total);
		assert_int_equal(r.bytes, r.looked);
	}
	assert_memory_kept();
	assert_ok(gm_workingset_destroy(w, &err));
	return rc;
}

static void every_failing_call_leaves_nothing(void **state)
{
	static const enum backing_index sorts[] = {MEMFD, ANON};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		swept = i ? GM_WORKINGSET_WRITES : GM_WORKINGSET_UNMAP;
		start_backing(&backings[sorts[i]]);
		fill_memory();
		assert_int_equal(scenario(NULL), 0);
		assert_true(fault_sweep(scenario, NULL) > 10);
		stop_backing();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_sample_is_exact),
		cmocka_unit_test(reads_are_no_writes),
		cmocka_unit_test(pages_that_come_count),
		cmocka_unit_test(huge_pages_stay_huge),
		cmocka_unit_test(a_thin_sample_is_within_its_bounds),
		cmocka_unit_test(as_many_rounds_as_parts_see_each_page_once),
		cmocka_unit_test(what_unmapping_would_harm_is_refused),
		cmocka_unit_test(memory_that_somebody_else_locked_is_left),
		cmocka_unit_test(a_mapping_that_is_private_after_all_is_left),
		cmocka_unit_test(a_pinned_piece_is_left),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(what_the_guest_says_is_bounded_by_its_memory),
		cmocka_unit_test(what_a_commit_takes_is_dropped),
		cmocka_unit_test(rounds_go_on_beside_commits),
		cmocka_unit_test(every_failing_call_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
