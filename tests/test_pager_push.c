/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_push.c - pages that nobody asked for: in each sort of memory, before, while and after somebody faults,
 * beside requests of the source, and pages that are given up. What is pushed differs from what the source has.
 */
#include <signal.h>
#include <sys/eventfd.h>

#include "pushed.h"

/* ---- each sort of memory ---- */

static void check_sort(enum sort sort)
{
	uint64_t nr;

	add(sort, 0);
	/* Nobody steps: what was pushed is there. */
	assert_int_equal(push(0, 2, &nr), 0);
	assert_int_equal(nr, 2);
	assert_int_equal(push(5, 1, &nr), 0);
	assert_int_equal(nr, 1);
	assert_true(is_pushed(0, 2) && is_pushed(5, 1));
	assert_int_equal(area_info(m.area).present, 3 * m.page);
	/* What is there stays, also what was written since. */
	m.at[0] ^= 1;
	assert_int_equal(push(0, 7, &nr), 0);
	assert_int_equal(nr, 4);
	m.at[0] ^= 1;
	assert_true(is_pushed(0, 7));
	/* Zeros. */
	assert_int_equal(gm_pager_push(pager, m.area, 7 * m.page, NULL, m.page, NULL, NULL), 0);
	assert_true(has_zeros(m.at + 7 * m.page, m.page));
	assert_int_equal(of_source.reads, 0);
	assert_int_equal(stats().faults, 0);
	assert_int_equal(stats().bytes_pushed, 8 * m.page);
	/* The rest is the source's. */
	end();
}

static void pages_are_pushed_into_any_memory(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		if (pool(sort))
			check_sort(sort);
	}
}

static void what_was_faulted_or_is_faulted_later_is_the_sources(void **state)
{
	uint64_t nr;

	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		if (!pool(sort))
			continue;
		add(sort, 0);
		/* A fault moves in a block, as all of it is absent. */
		if (sort == MOVED)
			assert_int_equal(push(0, 1, &nr), 0);
		start_stepping();
		assert_true(is_of_source(3, 1));
		assert_int_equal(push(2, 3, &nr), 0);
		assert_int_equal(nr, 2);
		assert_true(is_pushed(2, 1) && is_of_source(3, 1) && is_pushed(4, 1));
		assert_true(is_of_source(6, 2));
		stop_pager();
		assert_true(is_pushed(4, 1) && is_of_source(5, 3));
		unmap_sort();
	}
}

static void it_is_bounded(void **state)
{
	uint64_t done = 99;
	uint64_t nr = 99;

	(void)state;
	add(PRIVATE, 0);
	assert_int_equal(gm_pager_push(pager, 99, 0, m.data, PAGE, &done, &nr), -ENOENT);
	assert_int_equal(done, 0);
	assert_int_equal(nr, 0);
	assert_int_equal(gm_pager_push(pager, m.area, 1, m.data, PAGE, NULL, NULL), -EINVAL);
	assert_int_equal(gm_pager_push(pager, m.area, 0, m.data, 1, NULL, NULL), -EINVAL);
	assert_int_equal(gm_pager_push(pager, m.area, m.len, m.data, PAGE, NULL, NULL), -ERANGE);
	assert_int_equal(gm_pager_push(pager, m.area, PAGE, m.data, m.len, NULL, NULL), -ERANGE);
	assert_int_equal(gm_pager_push(pager, m.area, m.len, m.data, 0, &done, NULL), 0);
	assert_int_equal(gm_pager_lose(pager, 99, 0, PAGE), -ENOENT);
	assert_int_equal(gm_pager_lose(pager, m.area, 0, 1), -EINVAL);
	assert_int_equal(gm_pager_lose(pager, m.area, PAGE, m.len), -ERANGE);
	/* Bytes that cannot be read are no bytes. */
	assert_int_equal(gm_pager_push(pager, m.area, 0, (void *)8, PAGE, &done, &nr), -EFAULT);
	assert_int_equal(done, 0);
	assert_int_equal(area_info(m.area).absent, m.len);
	end();
	add(SHARED, 0);
	assert_int_equal(gm_pager_push(pager, m.area, 0, (void *)8, PAGE, &done, &nr), -EFAULT);
	assert_int_equal(area_info(m.area).absent, m.len);
	end();
}

static void ways_that_are_not_filled_refuse(void **state)
{
	uint8_t *at = map_anon(MIB(1));
	uint64_t id;

	(void)state;
	map_sort(SHARED);
	start_pager(m.len);
	/* Its bytes are in its file. */
	assert_ok(gm_pager_add_range(
		pager, m.at, m.len, AREA(.flags = GM_PAGER_FILE, .fd = m.fd), &m.area, &err));
	assert_int_equal(gm_pager_push(pager, m.area, 0, m.data, PAGE, NULL, NULL), -ENOTSUP);
	assert_ok(gm_pager_add_range(pager, at, MIB(1), AREA(.way = GM_PAGER_PROTECT), &id, &err));
	assert_int_equal(gm_pager_push(pager, id, 0, m.data, PAGE, NULL, NULL), -ENOTSUP);
	assert_int_equal(gm_pager_lose(pager, id, 0, PAGE), -ENOTSUP);
	end();
	munmap(at, MIB(1));
}

/* ---- who waits ---- */

/* A source whose requests are answered when the test says so. */
static struct {
	struct gm_source_read *reads[64];
	_Atomic unsigned int nr;
	_Atomic bool full; /* takes none */
	_Atomic unsigned int refused;
	_Atomic bool answer;
	int event;
} later;

static void wake_later(void)
{
	const uint64_t one = 1;

	assert_int_equal(write(later.event, &one, sizeof(one)), sizeof(one));
}

static int later_start(void *ctx, struct gm_source_read *read)
{
	(void)ctx;
	if (later.full) {
		later.refused++;
		return -EAGAIN;
	}
	later.reads[later.nr++] = read;
	if (later.answer)
		wake_later();
	return 0;
}

static int later_step(void *ctx)
{
	uint64_t count;

	(void)ctx;
	(void)!read(later.event, &count, sizeof(count));
	if (!later.answer)
		return 0;
	for (unsigned int i = 0; i < later.nr; i++) {
		struct gm_source_read *read = later.reads[i];

		fill_words(read->buf, read->offset, read->len);
		read->done(read, 0);
	}
	later.nr = 0;
	return 0;
}

static int later_fd(void *ctx)
{
	(void)ctx;
	return later.event;
}

static void answer_later(void)
{
	later.answer = true;
	wake_later();
}

static void add_later(enum sort sort, uint32_t flags)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops), .start = later_start, .step = later_step, .fd = later_fd};

	flags |= (uint32_t)map_sort(sort);
	memset(&later, 0, sizeof(later));
	later.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ops.len = m.len;
	start_pager_with(m.len, (struct gm_pager_opts){.retry_ns = 20000});
	gm_source_destroy(source);
	assert_ok(gm_source_create(&ops, &source, &err));
	assert_ok(gm_pager_add_range(pager, m.at, m.len,
		AREA(.source = source, .flags = flags, .fd = m.fd), &m.area, &err));
}

static void end_later(void)
{
	later.full = false;
	answer_later();
	end();
	close(later.event);
}

/* A page that the source is just refusing is left to it: pushed again until all are there. */
static void push_refused(uint64_t page, uint64_t want)
{
	uint64_t there = 0;
	uint64_t nr;

	for (unsigned int i = 0; i < 100000 && there < want; i++) {
		assert_int_equal(push(page, want, &nr), 0);
		there += nr;
	}
	assert_int_equal(there, want);
}

/* The source takes no request, so the page is absent while somebody waits for it. */
static void who_waits_is_woken_by_a_push(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		struct reader readers[4];

		if (!pool(sort) || sort == MOVED)
			continue;
		add_later(sort, 0);
		later.full = true;
		start_stepping();
		for (unsigned int i = 0; i < 4; i++)
			start_reader(&readers[i], i / 2, i % 2);
		WAIT_UNTIL(later.refused >= 2);
		push_refused(0, 2);
		for (unsigned int i = 0; i < 4; i++)
			assert_true(end_reader(&readers[i]) == word_at(PUSHED + i / 2 * m.page));
		end_later();
	}
}

static void a_request_that_is_under_way_has_its_pages(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		struct reader reader;
		uint64_t nr;

		if (!pool(sort) || sort == MOVED)
			continue;
		add_later(sort, 0);
		start_stepping();
		start_reader(&reader, 1, false);
		WAIT_UNTIL(later.nr == 1);
		assert_int_equal(push(0, 4, &nr), 0);
		assert_int_equal(nr, 3);
		assert_int_equal(gm_pager_lose(pager, m.area, m.page, m.page), 0);
		assert_int_equal(area_info(m.area).absent, m.len - 3 * m.page);
		answer_later();
		assert_true(end_reader(&reader) == word_at(m.page));
		assert_true(is_pushed(0, 1) && is_of_source(1, 1) && is_pushed(2, 2));
		end_later();
	}
}

static void a_thread_that_resolves_gets_what_is_pushed(void **state)
{
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction before;

	(void)state;
	assert_int_equal(sigaction(SIGBUS, &act, &before), 0);
	for (enum sort sort = 0; sort < SORTS; sort++) {
		struct reader reader;

		if (!pool(sort) || sort == MOVED)
			continue;
		add_later(sort, GM_PAGER_SIGBUS);
		later.full = true;
		start_stepping();
		start_reader(&reader, 3, false);
		WAIT_UNTIL(later.refused >= 1);
		push_refused(3, 1);
		assert_true(end_reader(&reader) == word_at(PUSHED + 3 * m.page));
		end_later();
	}
	sigaction(SIGBUS, &before, NULL);
}

static void both_mappings_of_a_file_have_what_was_pushed(void **state)
{
	struct reader readers[2];
	uint64_t second;
	uint8_t *first;
	uint8_t *again;
	uint64_t nr;

	(void)state;
	add_later(SHARED, 0);
	again = mmap(NULL, m.len, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	assert_true(again != MAP_FAILED);
	assert_ok(gm_pager_add_twin(pager, m.area, again, 0, &second, &err));
	later.full = true;
	start_stepping();
	first = m.at;
	start_reader(&readers[0], 0, false);
	WAIT_UNTIL(later.refused >= 1);
	m.at = again;
	nr = later.refused;
	start_reader(&readers[1], 1, false);
	WAIT_UNTIL(later.refused > nr + 8);
	m.at = first;
	assert_int_equal(push(0, 4, &nr), 0);
	assert_int_equal(nr, 4);
	assert_true(end_reader(&readers[0]) == word_at(PUSHED));
	assert_true(end_reader(&readers[1]) == word_at(PUSHED + PAGE));
	assert_true(has_words(again, PUSHED, 4 * PAGE));
	/* By the second one's number. */
	m.area = second;
	assert_int_equal(push(2, 4, &nr), 0);
	assert_int_equal(nr, 2);
	assert_true(is_pushed(0, 6) && has_words(again, PUSHED, 6 * PAGE));
	end_later();
	munmap(again, MIB(2));
}

/* ---- lost ---- */

static void what_nobody_will_bring_is_poisoned(void **state)
{
	(void)state;
	for (enum sort sort = 0; sort < SORTS; sort++) {
		struct reader readers[2];
		uint64_t nr;

		if (!pool(sort) || sort == MOVED)
			continue;
		add_later(sort, 0);
		later.full = true;
		assert_int_equal(push(1, 1, &nr), 0);
		start_stepping();
		start_reader(&readers[0], 2, true);
		WAIT_UNTIL(later.refused >= 1);
		assert_int_equal(gm_pager_lose(pager, m.area, 0, 4 * m.page), 0);
		assert_int_equal(end_reader(&readers[0]), 0);
		start_reader(&readers[1], 0, true);
		assert_int_equal(end_reader(&readers[1]), 0);
		wait_told(2);
		assert_int_equal(told[0].kind, GM_PAGER_POISONED);
		assert_int_equal(told[0].code, -ENODATA);
		assert_int_equal(told[0].area, m.area);
		assert_int_equal(told[0].off, 0);
		assert_int_equal(told[0].len, m.page);
		assert_int_equal(told[1].off, 2 * m.page);
		assert_int_equal(told[1].len, 2 * m.page);
		assert_int_equal(area_info(m.area).poisoned, 3 * m.page);
		/* It stays so. */
		assert_int_equal(push(0, 4, &nr), 0);
		assert_int_equal(nr, 0);
		assert_int_equal(gm_pager_lose(pager, m.area, 0, 4 * m.page), 0);
		assert_int_equal(nr_told, 2);
		assert_true(is_pushed(1, 1));
		end_later();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_pushed_into_any_memory),
		cmocka_unit_test(what_was_faulted_or_is_faulted_later_is_the_sources),
		cmocka_unit_test(it_is_bounded),
		cmocka_unit_test(ways_that_are_not_filled_refuse),
		cmocka_unit_test(who_waits_is_woken_by_a_push),
		cmocka_unit_test(a_request_that_is_under_way_has_its_pages),
		cmocka_unit_test(a_thread_that_resolves_gets_what_is_pushed),
		cmocka_unit_test(both_mappings_of_a_file_have_what_was_pushed),
		cmocka_unit_test(what_nobody_will_bring_is_poisoned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
