/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_push_race.c - pages that are pushed when the kernel refuses, when there is no room, while memory is given
 * back or unmapped, and beside threads that fault, push and discard at once.
 */
#include <fcntl.h>
#include <guestmem/discard.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "fault.h"
#include "pushed.h"
#include "random.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

#define INJECT(...) fault_set(&(struct fault_plan){__VA_ARGS__})

/* ---- what the kernel answers ---- */

static void what_is_not_taken_now_is_absent_again(void **state)
{
	uint64_t done;
	uint64_t nr;

	(void)state;
	add(PRIVATE, 0);
	assert_int_equal(push(4, 1, &nr), 0);
	INJECT(.fn = FAULT_gm_sys_uffd_fill, .nth = 2, .error = EAGAIN, .field = -EAGAIN);
	assert_int_equal(gm_pager_push(pager, m.area, 0, m.data, 8 * PAGE, &done, &nr), -EAGAIN);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	/* Four, and the one that was there. */
	assert_int_equal(done, 5 * PAGE);
	assert_int_equal(nr, 4 * PAGE);
	assert_int_equal(area_info(m.area).absent, m.len - 5 * PAGE);
	/* In pieces. */
	INJECT(.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .short_len = 2 * PAGE);
	assert_int_equal(push(0, 16, &nr), 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(nr, 11);
	assert_true(is_pushed(0, 16));
	INJECT(.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .error = EINVAL);
	assert_int_equal(push(20, 2, &nr), -EINVAL);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(area_info(m.area).absent, m.len - 16 * PAGE);
	assert_int_equal(stats().parked, 0);
	end();
}

/* Bytes that cannot be read at once: whoever does waits until they are poisoned. */
static int hold_back(uint8_t *at)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_POISON};
	struct uffdio_register reg = {
		.range = {(uintptr_t)at, PAGE}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = gm_uffd_open(O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	return fd;
}

static void *push_held(void *arg)
{
	uint64_t done = 99;
	int rc = gm_pager_push(pager, m.area, 8 * PAGE, arg, PAGE, &done, NULL);

	return (void *)(intptr_t)(done ? 1 : rc);
}

/* A page that is left to a push, which fails then. */
static void check_left(enum sort sort, bool sigbus)
{
	uint8_t *held = map_anon(PAGE);
	int fd = hold_back(held);
	struct reader reader;
	struct uffd_msg msg;
	pthread_t pusher;
	int64_t filled;
	void *rc;

	add(sort, sigbus ? GM_PAGER_SIGBUS : 0);
	start_stepping();
	assert_int_equal(pthread_create(&pusher, NULL, push_held, held), 0);
	assert_int_equal(read(fd, &msg, sizeof(msg)), sizeof(msg));
	start_reader(&reader, 8, false);
	WAIT_UNTIL(stats().duplicates >= 1);
	assert_int_equal(
		gm_sys_uffd_fill(fd, GM_UFFD_POISON, (uintptr_t)held, 0, PAGE, &filled), 0);
	pthread_join(pusher, &rc);
	assert_int_equal((intptr_t)rc, -EFAULT);
	assert_true(end_reader(&reader) == word_at(8 * PAGE));
	close(fd);
	munmap(held, PAGE);
	end();
}

static void who_left_a_page_to_a_push_that_fails_is_served(void **state)
{
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct sigaction before;

	(void)state;
	check_left(PRIVATE, false);
	check_left(SHARED, false);
	assert_int_equal(sigaction(SIGBUS, &act, &before), 0);
	check_left(PRIVATE, true);
	check_left(SHARED, true);
	sigaction(SIGBUS, &before, NULL);
}

/* What is in the file stays there, and who steps maps it. */
static void what_was_written_is_mapped_later(void **state)
{
	uint64_t nr;

	(void)state;
	add(SHARED, 0);
	INJECT(.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .error = EAGAIN, .field = -EAGAIN);
	assert_int_equal(push(0, 8, &nr), 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(nr, 8);
	assert_int_equal(stats().parked, 1);
	assert_int_equal(area_info(m.area).present, 0);
	while (area_info(m.area).present < 8 * PAGE)
		assert_true(gm_pager_step(pager, 100) >= 0);
	assert_true(is_pushed(0, 8));
	assert_int_equal(of_source.reads, 0);
	end();
}

static void files_are_written_in_either_way(void **state)
{
	uint64_t done;
	uint64_t nr;

	(void)state;
	add(SHARED, 0);
	INJECT(.fn = FAULT_gm_sys_pwrite, .nth = 1, .error = EPERM);
	assert_int_equal(push(0, 4, &nr), 0);
	assert_int_equal(fault_hits(), 1);
	INJECT(.fn = FAULT_gm_sys_pwrite, .nth = 1, .short_len = 5000);
	assert_int_equal(push(4, 4, &nr), 0);
	assert_int_equal(fault_hits(), 1);
	INJECT(.fn = FAULT_gm_sys_pwrite, .nth = 1, .error = EINTR);
	assert_int_equal(push(8, 4, &nr), 0);
	assert_int_equal(fault_hits(), 1);
	/* There is no room: neither for the one nor for the other. */
	INJECT(.fn = FAULT_ANY, .nth = 1, .forever = true, .error = ENOSPC);
	assert_int_equal(
		gm_pager_push(pager, m.area, 12 * PAGE, m.data, 4 * PAGE, &done, &nr), -ENOSPC);
	assert_true(fault_hits() >= 2);
	fault_set(NULL);
	assert_int_equal(done, 0);
	assert_int_equal(area_info(m.area).present, 12 * PAGE);
	assert_true(is_pushed(0, 12));
	/* A part of it got there. */
	INJECT(.fn = FAULT_gm_sys_pwrite, .nth = 1, .short_len = 5000);
	assert_int_equal(push(12, 2, &nr), 0);
	fault_set(NULL);
	assert_true(is_pushed(12, 2));
	start_stepping();
	assert_true(is_of_source(16, 4));
	end();
}

/* A page that the kernel will not take in any way is poisoned, as one that somebody waits for would be. */
static void a_refusal_behind_the_write_is_told(void **state)
{
	uint64_t nr;

	(void)state;
	add(SHARED, 0);
	INJECT(.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .forever = true, .error = EINVAL);
	assert_int_equal(push(0, 2, &nr), 0);
	while (nr_told < 2)
		assert_true(gm_pager_step(pager, 100) >= 0);
	assert_true(fault_hits() >= 3);
	fault_set(NULL);
	assert_int_equal(told[0].kind, GM_PAGER_POISONED);
	assert_int_equal(area_info(m.area).poisoned, 2 * PAGE);
	end();
}

/* ---- given back, unmapped ---- */

static void *give_back(void *arg)
{
	return (void *)(intptr_t)madvise(arg, 4 * PAGE, MADV_DONTNEED);
}

static void what_was_given_back_is_not_pushed(void **state)
{
	pthread_t giver;
	uint64_t nr;

	(void)state;
	add(PRIVATE, GM_PAGER_EVENTS);
	assert_int_equal(push(0, 2, &nr), 0);
	assert_int_equal(pthread_create(&giver, NULL, give_back, m.at), 0);
	/* Until it is read nothing is taken. */
	WAIT_UNTIL(gm_sys_poll_in(area_info(m.area).uffd, 0) > 0);
	assert_int_equal(push(9, 1, &nr), -EAGAIN);
	assert_int_equal(nr, 0);
	while (area_info(m.area).removed < 4 * PAGE)
		assert_true(gm_pager_step(pager, 100) >= 0);
	pthread_join(giver, NULL);
	assert_int_equal(push(0, 10, &nr), 0);
	assert_int_equal(nr, 6);
	start_stepping();
	assert_true(has_zeros(m.at, 4 * PAGE) && is_pushed(4, 6));
	/* Nothing is there any more. */
	assert_int_equal(munmap(m.at + 20 * PAGE, 4 * PAGE), 0);
	assert_int_equal(push(18, 8, &nr), 0);
	assert_int_equal(nr, 4);
	assert_true(is_pushed(18, 2) && is_pushed(24, 2));
	end();
}

static void nothing_is_pushed_through_a_discard(void **state)
{
	struct gm_space *space;
	uint64_t nr;

	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		struct gm_region_info info = {.size = sizeof(info)};
		uint64_t id;

		m.len = MIB(2);
		m.page = PAGE;
		m.data = map_anon(m.len);
		fill_words(m.data, PUSHED, m.len);
		start_pager(m.len);
		assert_ok(
			gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
		assert_ok(gm_space_add(space,
			GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = m.len,
							.flags = shared ? GM_BLOCK_SHARE : 0)),
			&id, &err));
		assert_int_equal(gm_space_region(space, id, &info), 0);
		m.at = info.hva;
		assert_ok(gm_pager_add_space(
			pager, space, 0, m.len, AREA(.source = source), &m.area, &err));
		assert_int_equal(push(0, 8, &nr), 0);
		assert_ok(gm_discard(space, 4 * PAGE, 8 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_int_equal(push(0, 16, &nr), 0);
		assert_int_equal(nr, 4);
		start_stepping();
		assert_true(is_pushed(0, 4) && has_zeros(m.at + 4 * PAGE, 8 * PAGE));
		assert_true(is_pushed(12, 4));
		stop_pager();
		gm_space_destroy(space);
		munmap(m.data, m.len);
	}
}

/* ---- told what need not be brought ---- */

static void check_dropped(unsigned int nr, uint64_t first, uint64_t pages)
{
	assert_int_equal(nr_told, nr);
	assert_int_equal(told[nr - 1].kind, GM_PAGER_DROPPED);
	assert_int_equal(told[nr - 1].code, 0);
	assert_int_equal(told[nr - 1].area, m.area);
	assert_int_equal(told[nr - 1].off, first * PAGE);
	assert_int_equal(told[nr - 1].len, pages * PAGE);
}

static void what_is_given_back_unseen_is_told(void **state)
{
	uint64_t nr;

	(void)state;
	for (uint32_t tell = 0; tell < 2; tell++) {
		map_sort(PRIVATE);
		start_pager_with(
			m.len, (struct gm_pager_opts){.flags = tell * GM_PAGER_TELL_DROPPED});
		assert_ok(gm_pager_add_range(pager, m.at, m.len,
			AREA(.source = source, .flags = GM_PAGER_EVENTS), &m.area, &err));
		assert_int_equal(push(0, 8, &nr), 0);
		start_stepping();
		/* All of it was there; half of it; a part of it has moved. */
		assert_int_equal(madvise(m.at, 4 * PAGE, MADV_DONTNEED), 0);
		assert_true(has_zeros(m.at, PAGE));
		assert_int_equal(nr_told, 0);
		assert_int_equal(madvise(m.at + 6 * PAGE, 4 * PAGE, MADV_DONTNEED), 0);
		assert_true(has_zeros(m.at + 6 * PAGE, PAGE));
		if (tell) {
			wait_told(1);
			check_dropped(1, 6, 4);
		}
		/* Once. */
		assert_int_equal(madvise(m.at + 6 * PAGE, 4 * PAGE, MADV_DONTNEED), 0);
		assert_int_equal(munmap(m.at + 20 * PAGE, 4 * PAGE), 0);
		assert_ptr_equal(mmap(m.at + 20 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			m.at + 20 * PAGE);
		assert_int_equal(madvise(m.at + 16 * PAGE, 12 * PAGE, MADV_DONTNEED), 0);
		assert_true(is_of_source(28, 1));
		if (tell) {
			wait_told(3);
			assert_int_equal(told[1].off, 16 * PAGE);
			assert_int_equal(told[1].len, 4 * PAGE);
			check_dropped(3, 24, 4);
		}
		stop_stepping();
		assert_int_equal(nr_told, tell ? 3 : 0);
		end();
	}
}

static void discards_of_a_space_are_told(void **state)
{
	(void)state;
	for (int shared = 0; shared < 2; shared++) {
		struct gm_region_info info = {.size = sizeof(info)};
		struct gm_space *space;
		uint64_t id;
		uint64_t nr;

		m.len = MIB(2);
		m.page = PAGE;
		m.data = map_anon(m.len);
		start_pager_with(m.len, (struct gm_pager_opts){.flags = GM_PAGER_TELL_DROPPED});
		assert_ok(
			gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
		assert_ok(gm_space_add(space,
			GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = m.len,
							.flags = shared ? GM_BLOCK_SHARE : 0)),
			&id, &err));
		assert_int_equal(gm_space_region(space, id, &info), 0);
		m.at = info.hva;
		assert_ok(gm_pager_add_space(
			pager, space, 0, m.len, AREA(.source = source), &m.area, &err));
		assert_int_equal(push(0, 8, &nr), 0);
		assert_ok(gm_discard(space, 0, 4 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		assert_int_equal(nr_told, 0);
		assert_ok(gm_discard(space, 6 * PAGE, 8 * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
		check_dropped(1, 6, 8);
		if (!shared) {
			assert_ok(
				gm_discard(space, 14 * PAGE, PAGE, GM_DISCARD_LAZY, 0, NULL, &err));
			check_dropped(2, 14, 1);
		}
		stop_pager();
		gm_space_destroy(space);
		munmap(m.data, m.len);
	}
}

/* Poison that is refused comes later. */
static void poison_is_parked_too(void **state)
{
	struct reader reader;

	(void)state;
	add(PRIVATE, 0);
	INJECT(.fn = FAULT_gm_sys_uffd_fill, .nth = 1, .error = EAGAIN, .field = -EAGAIN);
	assert_int_equal(gm_pager_lose(pager, m.area, 0, 2 * PAGE), 0);
	assert_int_equal(fault_hits(), 1);
	fault_set(NULL);
	assert_int_equal(stats().parked, 1);
	start_stepping();
	start_reader(&reader, 1, true);
	assert_int_equal(end_reader(&reader), 0);
	assert_int_equal(nr_told, 1);
	end();
}

/* ---- at once ---- */

#define PIECE 64u

struct party {
	pthread_t thread;
	struct rng rng;
	struct gm_space *space; /* gives back, or NULL: reads and pushes */
	bool pushes;
	uint64_t installed;
	uint64_t wrong;
};

static uint64_t word_of(uint64_t off)
{
	return __atomic_load_n((uint64_t *)(m.at + off), __ATOMIC_RELAXED);
}

/* A page is the source's or pushed, whole, or zeros; what it is it stays, but for zeros. */
static void look(struct party *p, uint64_t page)
{
	uint64_t off = page * PAGE;
	uint64_t first = word_of(off);
	uint64_t last = word_of(off + PAGE - 8);
	bool theirs = first == word_at(off) && last == word_at(off + PAGE - 8);
	bool pushed = first == word_at(PUSHED + off) && last == word_at(PUSHED + off + PAGE - 8);

	p->wrong += !theirs && !pushed && first && last;
	if (!p->space)
		return;
	p->wrong += word_of(off) && first == 0;
}

static void *take_part(void *arg)
{
	struct party *p = arg;
	uint64_t pages = m.len / PAGE;

	for (unsigned int op = 0; op < 1500; op++) {
		uint64_t page = rng_below(&p->rng, pages);
		uint64_t most = pages - page < PIECE ? pages - page : PIECE;
		uint64_t nr = 1 + rng_below(&p->rng, most);
		uint64_t installed = 0;
		int rc = 0;

		if (p->pushes)
			rc = gm_pager_push(pager, m.area, page * PAGE, m.data + page * PAGE,
				nr * PAGE, NULL, &installed);
		p->wrong += rc && rc != -EAGAIN;
		p->installed += installed;
		if (p->space && op % 8 == 0)
			p->wrong += gm_discard(p->space, page * PAGE, PAGE, GM_DISCARD_NOW, 0, NULL,
					    NULL) != 0;
		else if (!p->pushes || op % 4 == 0)
			look(p, page);
	}
	return NULL;
}

static void race_once(bool shared, unsigned long round)
{
	struct gm_region_info info = {.size = sizeof(info)};
	struct party parties[4];
	struct gm_space *space;
	uint64_t installed = 0;
	uint64_t id;

	start_pager_with(m.len, (struct gm_pager_opts){.retry_ns = 20000});
	of_source.slow_ns = round % 2 ? 20000 : 0;
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = m.len,
						.flags = shared ? GM_BLOCK_SHARE : 0)),
		&id, &err));
	assert_int_equal(gm_space_region(space, id, &info), 0);
	m.at = info.hva;
	assert_ok(
		gm_pager_add_space(pager, space, 0, m.len, AREA(.source = source), &m.area, &err));
	start_stepping();
	for (unsigned int i = 0; i < 4; i++) {
		parties[i] = (struct party){.rng = {test_seed(round * 4 + i)},
			.pushes = i < 2,
			.space = i == 3 && round % 3 ? space : NULL};
		assert_int_equal(
			pthread_create(&parties[i].thread, NULL, take_part, &parties[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(parties[i].thread, NULL);
		assert_int_equal(parties[i].wrong, 0);
		installed += parties[i].installed;
	}
	stop_stepping();
	assert_int_equal(installed, stats().bytes_pushed);
	assert_int_equal(stats().poisoned, 0);
	/* Each byte came once, but for zeros. */
	assert_true(installed + of_source.bytes <= m.len || round % 3);
	stop_pager();
	gm_space_destroy(space);
}

static void pushes_race_with_faults_and_discards(void **state)
{
	unsigned long rounds = support_scale(6);

	(void)state;
	m.len = MIB(4);
	m.page = PAGE;
	m.data = map_anon(m.len);
	fill_words(m.data, PUSHED, m.len);
	for (unsigned long round = 0; round < rounds; round++)
		race_once(round % 2, round);
	munmap(m.data, m.len);
	if (getenv("GM_SOAK"))
		printf("figure: pager-push %lu\n", rounds * 4 * 1500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_not_taken_now_is_absent_again),
		cmocka_unit_test(who_left_a_page_to_a_push_that_fails_is_served),
		cmocka_unit_test(what_was_written_is_mapped_later),
		cmocka_unit_test(files_are_written_in_either_way),
		cmocka_unit_test(a_refusal_behind_the_write_is_told),
		cmocka_unit_test(what_was_given_back_is_not_pushed),
		cmocka_unit_test(nothing_is_pushed_through_a_discard),
		cmocka_unit_test(what_is_given_back_unseen_is_told),
		cmocka_unit_test(discards_of_a_space_are_told),
		cmocka_unit_test(poison_is_parked_too),
		cmocka_unit_test(pushes_race_with_faults_and_discards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
