/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pager_twin.c - one file mapped twice: in one mapping the threads that fault resolve, in the other they wait.
 */
#include <guestmem/discard.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "one_pager.h"
#include "random.h"

#define PAGES 512u
#define LEN (PAGES * PAGE)

static uint8_t *guest_side; /* SIGBUS */
static uint8_t *device_side;
static uint64_t first;
static uint64_t second;
static int file;
static struct sigaction before;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int rc = gm_pager_resolve(pager, info->si_addr);

	(void)sig;
	(void)context;
	if (rc && rc != -EAGAIN)
		_exit(99);
}

static uint8_t *map_again(void)
{
	void *at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	assert_true(at != MAP_FAILED);
	return at;
}

static void start(void)
{
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};

	file = memfd_create("twin", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, (off_t)LEN), 0);
	guest_side = map_again();
	device_side = map_again();
	start_pager_with(LEN, (struct gm_pager_opts){.retry_ns = 20000});
	assert_ok(gm_pager_add_range(pager, guest_side, LEN,
		AREA(.source = source, .flags = GM_PAGER_FILE | GM_PAGER_SIGBUS, .fd = file),
		&first, &err));
	assert_ok(gm_pager_add_twin(pager, first, device_side, 0, &second, &err));
	assert_int_equal(sigaction(SIGBUS, &act, &before), 0);
}

static void end(void)
{
	sigaction(SIGBUS, &before, NULL);
	munmap(guest_side, LEN);
	munmap(device_side, LEN);
	close(file);
}

static void a_page_is_brought_once_for_both(void **state)
{
	(void)state;
	start();
	start_stepping();
	assert_true(has_words(guest_side, 0, 8 * PAGE));
	assert_true(has_words(device_side, 0, 16 * PAGE));
	assert_true(has_words(guest_side + 8 * PAGE, 8 * PAGE, 8 * PAGE));
	assert_int_equal(of_source.bytes, 16 * PAGE);
	device_side[5] = 7;
	assert_int_equal(guest_side[5], 7);
	/* Its entries go, its bytes do not. */
	assert_int_equal(madvise(guest_side, 8 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(madvise(device_side, 8 * PAGE, MADV_DONTNEED), 0);
	assert_int_equal(guest_side[5], 7);
	assert_int_equal(device_side[5], 7);
	assert_int_equal(area_info(first).present, 16 * PAGE);
	assert_int_equal(area_info(second).present, 16 * PAGE);
	stop_pager();
	assert_int_equal(of_source.bytes, LEN);
	assert_true(has_words(device_side + PAGE, PAGE, LEN - PAGE));
	end();
}

/* Reads of a device into pages that a guest touches at the same time; the first word of each is the device's. */
struct party {
	pthread_t thread;
	struct rng rng;
	unsigned long ops;
	uint64_t lane; /* of a device: its pages are those of no other */
	uint64_t wrong;
};

static bool is_right(const uint8_t *page, uint64_t off)
{
	uint64_t word = __atomic_load_n((const uint64_t *)page, __ATOMIC_RELAXED);

	return (word == word_at(off) || word == ~word_at(off)) &&
	       *(const volatile uint64_t *)(page + PAGE - 8) == word_at(off + PAGE - 8);
}

static void *be_a_guest(void *arg)
{
	struct party *p = arg;

	for (unsigned long op = 0; op < p->ops; op++) {
		uint64_t off = rng_below(&p->rng, PAGES) * PAGE;

		p->wrong += !is_right(guest_side + off, off);
		if (rng_below(&p->rng, 8) == 0)
			madvise(guest_side + off, PAGE, MADV_DONTNEED);
	}
	return NULL;
}

static void *be_a_device(void *arg)
{
	struct party *p = arg;
	int fds[2];

	if (pipe(fds)) {
		p->wrong++;
		return NULL;
	}
	for (unsigned long op = 0; op < p->ops; op++) {
		uint64_t off = (rng_below(&p->rng, PAGES / 2) * 2 + p->lane) * PAGE;
		uint64_t word = ~word_at(off);
		struct iovec to = {device_side + off, sizeof(word)};

		if (write(fds[1], &word, sizeof(word)) != sizeof(word) ||
			readv(fds[0], &to, 1) != sizeof(word))
			p->wrong++;
		p->wrong += !is_right(device_side + off, off);
		if (rng_below(&p->rng, 8) == 0)
			madvise(device_side + off, PAGE, MADV_DONTNEED);
	}
	close(fds[0]);
	close(fds[1]);
	return NULL;
}

#define OPS 3000u

static void both_at_once_see_the_same_bytes(void **state)
{
	unsigned long rounds = support_scale(6);

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		struct party parties[4];

		start();
		of_source.slow_ns = round % 3 == 1 ? 20000 : 0;
		of_source.unit = round % 2 ? 4 * PAGE : 0;
		of_source.zero = 0;
		if (round % 3 == 2)
			gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0);
		start_stepping();
		for (unsigned int i = 0; i < 4; i++) {
			parties[i] = (struct party){
				.ops = OPS, .lane = i / 2, .rng = {test_seed(round * 4 + i)}};
			assert_int_equal(pthread_create(&parties[i].thread, NULL,
						 i % 2 ? be_a_device : be_a_guest, &parties[i]),
				0);
		}
		for (unsigned int i = 0; i < 4; i++) {
			pthread_join(parties[i].thread, NULL);
			assert_int_equal(parties[i].wrong, 0);
		}
		stop_pager();
		assert_int_equal(of_source.bytes, LEN);
		end();
	}
	if (getenv("GM_SOAK"))
		printf("figure: pager-twins %lu\n", rounds * 4 * OPS);
}

/* ---- given back by the space whose memory the first mapping is ---- */

static struct gm_space *space;
static _Atomic uint8_t given[PAGES]; /* 1: it is being given back, 2: it was */

static void start_space(void)
{
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct gm_region_info info = {.size = sizeof(info)};
	uint64_t id;

	file = memfd_create("twin", MFD_CLOEXEC);
	assert_int_equal(ftruncate(file, (off_t)LEN), 0);
	start_pager_with(LEN, (struct gm_pager_opts){.retry_ns = 20000});
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(1)), &space, &err));
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = LEN,
						.backing = GM_BACKING_FD, .fd = file)),
		&id, &err));
	assert_int_equal(gm_space_region(space, id, &info), 0);
	guest_side = info.hva;
	device_side = map_again();
	assert_ok(gm_pager_add_space(pager, space, 0, LEN,
		AREA(.source = source, .flags = GM_PAGER_SIGBUS), &first, &err));
	assert_ok(gm_pager_add_twin(pager, first, device_side, 0, &second, &err));
	assert_int_equal(sigaction(SIGBUS, &act, &before), 0);
}

static void end_space(void)
{
	stop_pager();
	sigaction(SIGBUS, &before, NULL);
	gm_space_destroy(space);
	munmap(device_side, LEN);
	close(file);
}

static void give_back(uint64_t from, uint64_t nr)
{
	assert_ok(gm_discard(space, from * PAGE, nr * PAGE, GM_DISCARD_NOW, 0, NULL, &err));
}

static void what_is_given_back_is_zeros_in_both(void **state)
{
	(void)state;
	start_space();
	start_stepping();
	/* 0 to 7 are mapped in both, 8 to 15 in one, the others were never brought. */
	assert_true(has_words(guest_side, 0, 8 * PAGE));
	assert_true(has_words(device_side, 0, 16 * PAGE));
	give_back(4, 20);
	for (int i = 0; i < 2; i++) {
		const uint8_t *side = i ? device_side : guest_side;

		assert_true(has_words(side, 0, 4 * PAGE));
		assert_true(has_zeros(side + 4 * PAGE, 20 * PAGE));
		assert_true(has_words(side + 24 * PAGE, 24 * PAGE, 4 * PAGE));
	}
	assert_int_equal(of_source.bytes, (16 + 4) * PAGE);
	/* What is written there then is seen in both. */
	device_side[5 * PAGE] = 7;
	assert_int_equal(guest_side[5 * PAGE], 7);
	end_space();
}

/* A page's words until it is given back, zeros afterwards; in between the one or the other. */
static uint64_t wrong_in(const uint8_t *side, uint64_t page)
{
	uint8_t was = given[page];
	uint64_t word = __atomic_load_n((const uint64_t *)(side + page * PAGE), __ATOMIC_RELAXED);
	uint8_t is = given[page];

	if (word == 0)
		return is == 0;
	return word != word_at(page * PAGE) || was == 2;
}

static void *look_around(void *arg)
{
	struct party *p = arg;

	for (unsigned long op = 0; op < p->ops; op++)
		p->wrong += wrong_in(p->lane ? device_side : guest_side, rng_below(&p->rng, PAGES));
	return NULL;
}

static void *discard_some(void *arg)
{
	struct party *p = arg;
	struct gm_error why;

	for (unsigned long op = 0; op < p->ops; op++) {
		uint64_t page = rng_below(&p->rng, PAGES);
		uint64_t nr = 1 + rng_below(&p->rng, PAGES - page < 4 ? PAGES - page : 4);

		for (uint64_t i = page; i < page + nr; i++)
			given[i] = given[i] ? given[i] : 1;
		p->wrong += gm_discard(space, page * PAGE, nr * PAGE, GM_DISCARD_NOW, 0, NULL,
				    &why) != 0;
		for (uint64_t i = page; i < page + nr; i++)
			given[i] = 2;
	}
	return NULL;
}

static void both_are_looked_at_while_it_is_given_back(void **state)
{
	unsigned long rounds = support_scale(4);
	uint64_t gone = 0;

	(void)state;
	for (unsigned long round = 0; round < rounds; round++) {
		struct party parties[5];

		memset((void *)given, 0, sizeof(given));
		start_space();
		of_source.slow_ns = round % 2 ? 20000 : 0;
		if (round % 4 >= 2)
			gm_pager_fill(pager, GM_PAGER_FILL_ALL, 0);
		start_stepping();
		for (unsigned int i = 0; i < 5; i++) {
			parties[i] = (struct party){.ops = i == 4 ? PAGES / 4 : OPS,
				.lane = i % 2,
				.rng = {test_seed(100 + round * 5 + i)}};
			assert_int_equal(pthread_create(&parties[i].thread, NULL,
						 i == 4 ? discard_some : look_around, &parties[i]),
				0);
		}
		for (unsigned int i = 0; i < 5; i++) {
			pthread_join(parties[i].thread, NULL);
			assert_int_equal(parties[i].wrong, 0);
		}
		for (uint64_t i = 0; i < PAGES; i++) {
			gone += given[i] == 2;
			assert_int_equal(wrong_in(guest_side, i) + wrong_in(device_side, i), 0);
		}
		end_space();
	}
	assert_true(gone > rounds * PAGES / 16);
	if (getenv("GM_SOAK"))
		printf("figure: pager-twin-discards %llu\n", (unsigned long long)gone);
}

static void what_cannot_be_read_is_poisoned_in_both(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	start();
	of_source.bad = 3 * PAGE + 8;
	start_stepping();
	assert_int_equal(gm_pager_resolve(pager, guest_side + 3 * PAGE), -EIO);
	stop_stepping();
	/* In the other mapping it is already: nobody steps. */
	assert_int_equal(write(fds[1], device_side + 3 * PAGE, 8), -1);
	assert_int_equal(errno, EFAULT);
	of_source.bad = 0;
	assert_ok(gm_pager_stop(pager, GM_PAGER_POISON, -1, &err));
	assert_int_equal(write(fds[1], device_side + 9 * PAGE, 8), -1);
	assert_int_equal(write(fds[1], guest_side + 9 * PAGE, 8), -1);
	assert_int_equal(area_info(second).poisoned, LEN);
	assert_ok(gm_pager_destroy(pager, &err));
	gm_source_destroy(source);
	end();
	close(fds[0]);
	close(fds[1]);
}

static void refusals_say_why(void **state)
{
	uint8_t *own = map_anon(LEN);
	uint8_t *third;
	uint64_t area;

	(void)state;
	start();
	third = map_again();
	assert_fails(gm_pager_add_twin(pager, first, third, 0, NULL, &err), EBUSY, "already");
	assert_fails(gm_pager_add_twin(pager, 99, third, 0, NULL, &err), ENOENT, "no such");
	assert_fails(gm_pager_add_twin(pager, first, third, GM_PAGER_EVENTS, NULL, &err), EINVAL,
		"flags");
	assert_ok(gm_pager_add_range(pager, own, LEN, AREA(.source = source), &area, &err));
	assert_fails(gm_pager_add_twin(pager, area, third, 0, NULL, &err), ENOTSUP, "continued");
	stop_pager();
	munmap(own, LEN);
	munmap(third, LEN);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_is_brought_once_for_both),
		cmocka_unit_test(both_at_once_see_the_same_bytes),
		cmocka_unit_test(what_is_given_back_is_zeros_in_both),
		cmocka_unit_test(both_are_looked_at_while_it_is_given_back),
		cmocka_unit_test(what_cannot_be_read_is_poisoned_in_both),
		cmocka_unit_test(refusals_say_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
