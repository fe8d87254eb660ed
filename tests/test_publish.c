/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_publish.c - many publishes and many waits for readers; a reader that is stuck; a pager that
 * does not answer.
 *
 * An alias goes over the pages of a file, one on with each publish. Each page holds its number, so a
 * reader can tell which publish it sees, and that is one between the last that was over before its
 * section began and the last that had begun when the section ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fault.h"
#include "one_space.h"
#include "random.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define PAGE UINT64_C(4096)
#define PAGES 4096u
#define READERS 3
#define MARK UINT64_C(0x6d61726b00000000)

/* Where things lie. The alias is above the window, so that it is never mapped anew. */
#define ALIAS_AT (UINT64_C(1) << 40)
#define GUARDED_AT UINT64_C(0)
#define FLEETING_AT GIB(1)
#define SWAPPED_AT GIB(2)
#define PAGED_AT GIB(3)

/* What one view that is held back may take, and how many of them the writer lets come together. */
#define VIEW_BYTES 4096
#define HELD_MAX 512

static struct gm_block *pages;
static struct gm_block *swapped[2];
static uint64_t alias;
static uint64_t guarded;
static uint64_t fleeting;
static uint64_t swapping;

static uint64_t begun;     /* atomic: number of the last publish that has begun */
static uint64_t published; /* atomic: and of the last that is over */
static int stop_reading;   /* atomic */
static pthread_barrier_t all_read;

struct worker {
	pthread_t thread;
	unsigned int number;
	uint64_t sections;
	uint64_t reads;
	uint64_t refused; /* clean errors */
	uint64_t dwelt;
	uint64_t wrong;
	const char *why;
};

/* ---- fixtures ---- */

static struct gm_block *memory(uint64_t len)
{
	struct gm_block *block;

	assert_ok(gm_block_create(BLOCK(.len = len, .flags = GM_BLOCK_SHARE), &block, &err));
	return block;
}

static uint64_t *word(struct gm_block *block, uint64_t page)
{
	struct gm_block_info info = {.size = sizeof(info)};

	assert_int_equal(gm_block_info(block, &info), 0);
	return (uint64_t *)(void *)((char *)info.hva + page * PAGE);
}

static void set_word(struct gm_block *block, uint64_t page, uint64_t value)
{
	__atomic_store_n(word(block, page), MARK | value, __ATOMIC_RELAXED);
}

static void set_up(uint64_t timeout_ns)
{
	uint64_t ledger;

	fault_set(NULL);
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64), .timeout_ns = timeout_ns));
	pages = memory(PAGES * PAGE);
	for (uint64_t i = 0; i < PAGES; i++)
		set_word(pages, i, i);
	assert_ok(gm_space_add(
		space, DESC(.parent = GM_REGION_DETACHED, .block = pages), &ledger, &err));
	assert_ok(gm_space_add(space,
		DESC(.kind = GM_REGION_ALIAS, .gpa = ALIAS_AT, .len = PAGE, .target = ledger),
		&alias, &err));
	guarded = add(GUARDED_AT, PAGE);
	fleeting = add(FLEETING_AT, PAGE);
	for (int i = 0; i < 2; i++)
		swapped[i] = memory(PAGE);
	set_word(swapped[0], 0, 0);
	assert_ok(
		gm_space_add(space, DESC(.gpa = SWAPPED_AT, .block = swapped[0]), &swapping, &err));
	assert_ok(gm_space_wait(space, 0, &err));
	__atomic_store_n(&begun, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&published, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&stop_reading, 0, __ATOMIC_RELAXED);
}

static void tear_down(void)
{
	stop();
	gm_block_put(pages);
	gm_block_put(swapped[0]);
	gm_block_put(swapped[1]);
}

/* ---- what is held ---- */

struct balance {
	long blocks;
	long bytes;
};

static struct balance taken(void)
{
	return (struct balance){fault_blocks(), fault_bytes()};
}

/* The allocator may give a block 16 bytes more than it gave the same one before. */
static void assert_same(const struct balance *before)
{
	struct balance now = taken();

	assert_int_equal(now.blocks, before->blocks);
	assert_true(labs(now.bytes - before->bytes) <= 16 * now.blocks);
}

/* ---- readers ---- */

static void wrong(struct worker *self, bool is_wrong, const char *why)
{
	if (is_wrong && self->wrong++ == 0)
		self->why = why;
}

/* The pages of the ledger come round; everything else counts up. */
static bool is_between(uint64_t value, uint64_t first, uint64_t last, uint64_t round)
{
	if ((value & ~(uint64_t)UINT32_MAX) != MARK)
		return false;
	value &= UINT32_MAX;
	return round ? (value - first) % round <= last - first : value >= first && value <= last;
}

static void rest(long ns)
{
	const struct timespec pause = {.tv_nsec = ns};

	nanosleep(&pause, NULL);
}

static void one_section(struct worker *self, struct gm_reader *own)
{
	uint64_t before = __atomic_load_n(&published, __ATOMIC_ACQUIRE);
	const struct gm_view *view = gm_reader_enter(own);
	uint64_t first = 0;
	uint64_t again = 0;
	uint64_t value = 0;
	uint64_t after;
	int rc;

	wrong(self, gm_read_u64(view, ALIAS_AT, &first), "the alias does not show");
	rc = gm_read_u64(view, GUARDED_AT, &value);
	wrong(self, rc ? rc != -EACCES : value != 0, "protected memory");
	self->refused += rc != 0;
	rc = gm_read_u64(view, FLEETING_AT, &value);
	wrong(self, rc ? rc != -EFAULT : value != 0, "memory that comes and goes");
	self->refused += rc != 0;
	/* Now and then for long, so that views are held back. */
	if (++self->sections % 512 == self->number) {
		rest(500000);
		self->dwelt++;
	}
	wrong(self, gm_read_u64(view, ALIAS_AT, &again) || again != first, "not one map");
	gm_reader_leave(own);
	after = __atomic_load_n(&begun, __ATOMIC_ACQUIRE);
	wrong(self, !is_between(first, before, after, PAGES), "neither old nor new");
	self->reads += 4;
}

static void *read_the_ledger(void *arg)
{
	struct worker *self = arg;
	struct gm_reader *own;
	int rc = gm_reader_create(space, "reads the ledger", &own, NULL);

	pthread_barrier_wait(&all_read);
	wrong(self, rc != 0, "no reader");
	while (!self->wrong && !__atomic_load_n(&stop_reading, __ATOMIC_RELAXED)) {
		one_section(self, own);
		if (self->sections % 16 == 0)
			rest(50000);
	}
	if (!rc)
		gm_reader_destroy(own);
	return NULL;
}

/* What is there now, or, in between, nothing; but for as long as the section lasts the same. */
static void one_swapped_section(struct worker *self, struct gm_reader *own)
{
	uint64_t before = __atomic_load_n(&published, __ATOMIC_ACQUIRE);
	const struct gm_view *view = gm_reader_enter(own);
	uint64_t first = 0;
	uint64_t again = 0;
	uint64_t after;
	int rc = gm_read_u64(view, SWAPPED_AT, &first);

	if (++self->sections % 32 == self->number) {
		rest(200000);
		self->dwelt++;
	}
	wrong(self, gm_read_u64(view, SWAPPED_AT, &again) != rc || again != first, "not one map");
	gm_reader_leave(own);
	after = __atomic_load_n(&begun, __ATOMIC_ACQUIRE);
	wrong(self, rc ? rc != -EFAULT : !is_between(first, before, after, 0),
		"neither old nor new");
	self->reads += 2;
	self->refused += rc != 0;
}

static void *read_the_swapped(void *arg)
{
	struct worker *self = arg;
	struct gm_reader *own;
	int rc = gm_reader_create(space, "reads the swapped", &own, NULL);

	pthread_barrier_wait(&all_read);
	wrong(self, rc != 0, "no reader");
	while (!self->wrong && !__atomic_load_n(&stop_reading, __ATOMIC_RELAXED)) {
		one_swapped_section(self, own);
		if (self->sections % 16 == 0)
			rest(50000);
	}
	if (!rc)
		gm_reader_destroy(own);
	return NULL;
}

static void start_readers(struct worker workers[READERS], void *(*run)(void *))
{
	pthread_barrier_init(&all_read, NULL, READERS + 1);
	for (unsigned int i = 0; i < READERS; i++) {
		workers[i] = (struct worker){.number = i};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
	}
	pthread_barrier_wait(&all_read);
}

/* Their sum; each has read, and nothing wrong. */
static struct worker stop_readers(struct worker workers[READERS])
{
	struct worker sum = {.wrong = 0};

	__atomic_store_n(&stop_reading, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++)
		pthread_join(workers[i].thread, NULL);
	pthread_barrier_destroy(&all_read);
	for (int i = 0; i < READERS; i++) {
		if (workers[i].wrong)
			fail_msg("reader %d: %s", i, workers[i].why);
		assert_true(workers[i].sections > 0);
		sum.reads += workers[i].reads;
		sum.refused += workers[i].refused;
		sum.dwelt += workers[i].dwelt;
	}
	return sum;
}

/* ---- the writer ---- */

/* One transaction: the alias goes on by a page, and sometimes something else changes with it. */
static void publish(uint64_t number, uint64_t random)
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_retarget(txn, alias, number % PAGES * PAGE, &err));
	if (random % 4 == 0)
		assert_ok(
			gm_txn_protect(txn, guarded, random & 16 ? GM_PERM_W : GM_PERM_RWX, &err));
	else if (random % 4 == 1)
		assert_ok(gm_txn_enable(txn, fleeting, random & 16, &err));
	__atomic_store_n(&begun, number, __ATOMIC_RELEASE);
	assert_ok(gm_txn_commit(txn, &err));
	__atomic_store_n(&published, number, __ATOMIC_RELEASE);
}

/* As the map was when it was set up, but for the page that the alias shows. */
static void set_right(void)
{
	struct gm_txn *txn;

	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_protect(txn, guarded, GM_PERM_RWX, &err));
	assert_ok(gm_txn_enable(txn, fleeting, true, &err));
	assert_ok(gm_txn_commit(txn, &err));
	assert_ok(gm_space_wait(space, 0, &err));
}

struct held {
	int most;
	long most_bytes;
	unsigned long waits;
};

/* What a batch has left behind takes no more than so much a view; if they are many the writer waits. */
static void look_at_held(struct held *held, const struct balance *before)
{
	int nr = gm_space_reclaim(space);
	long bytes = fault_bytes() - before->bytes;

	assert_true(nr >= 0);
	if (bytes > (long)(nr + 2) * VIEW_BYTES)
		fail_msg("%d views hold %ld bytes", nr, bytes);
	if (nr > held->most)
		held->most = nr;
	if (bytes > held->most_bytes)
		held->most_bytes = bytes;
	if (nr > HELD_MAX) {
		assert_ok(gm_space_wait(space, UINT64_C(20000000000), &err));
		held->waits++;
	}
}

static void publishes_are_seen_in_their_order_and_little_is_held_back(void **state)
{
	unsigned long nr = support_scale(100000);
	struct rng rng = {test_seed(41)};
	struct worker workers[READERS];
	struct held held = {0};
	struct balance before;
	struct worker sum;

	(void)state;
	set_up(0);
	start_readers(workers, read_the_ledger);
	before = taken();
	for (unsigned long i = 1; i <= nr; i++) {
		publish(i, rng_next(&rng));
		if (i % 64 == 0)
			look_at_held(&held, &before);
	}
	sum = stop_readers(workers);
	/* In a batch the writer did not look. */
	assert_true(held.most > 0 && held.most <= HELD_MAX + 64 + 2);
	assert_true(sum.refused > 0 && sum.dwelt > 0);
	set_right();
	assert_same(&before);
	printf("figure: publishes %lu\nfigure: publish-reads %llu\n"
	       "  at most %d views with %ld bytes were held back, %lu waits\n",
		nr, (unsigned long long)sum.reads, held.most, held.most_bytes, held.waits);
	tear_down();
}

static void exchange(uint64_t number)
{
	struct gm_block *block = swapped[number % 2];
	struct gm_txn *txn;

	/* Nobody sees it since the last exchange is over. */
	set_word(block, 0, number);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_replace(txn, swapping, DESC(.gpa = SWAPPED_AT, .block = block), &err));
	__atomic_store_n(&begun, number, __ATOMIC_RELEASE);
	assert_ok(gm_txn_commit(txn, &err));
	__atomic_store_n(&published, number, __ATOMIC_RELEASE);
}

static void memory_is_exchanged_after_its_readers_have_left(void **state)
{
	unsigned long nr = support_scale(1000);
	struct worker workers[READERS];
	struct worker sum;
	unsigned long slept = 0;
	uint64_t exchanges = 0;
	long base;

	(void)state;
	set_up(UINT64_C(20000000000));
	start_readers(workers, read_the_swapped);
	base = fault_bytes();
	for (unsigned long i = 1; i <= nr; i++) {
		unsigned long sleeps = fault_calls(FAULT_gm_sys_sleep_ns);

		if (i % 4 == 0)
			assert_ok(gm_space_synchronize(space, 0, &err));
		else
			exchange(++exchanges);
		slept += fault_calls(FAULT_gm_sys_sleep_ns) > sleeps;
		assert_true(fault_bytes() - base <= 4 * VIEW_BYTES);
	}
	sum = stop_readers(workers);
	/* Else nobody was ever waited for. */
	assert_true(slept > nr / 100 && sum.dwelt > 0);
	printf("figure: grace-periods %lu\nfigure: grace-periods-slept %lu\n"
	       "figure: exchange-reads %llu\n",
		nr, slept, (unsigned long long)sum.reads);
	tear_down();
}

/* ---- somebody is stuck ---- */

#define SHORT_NS UINT64_C(50000000)

struct blocked {
	pthread_t thread;
	sem_t inside;
	sem_t go_on;
	uint64_t gpa;
	uint64_t value;
	pid_t tid; /* atomic */
	int rc;
	int left; /* atomic */
};

static void *stay_inside(void *arg)
{
	struct blocked *self = arg;
	struct gm_reader *own;
	const struct gm_view *view;

	self->rc = gm_reader_create(space, "stuck", &own, NULL);
	if (!self->rc) {
		view = gm_reader_enter(own);
		sem_post(&self->inside);
		sem_wait(&self->go_on);
		/* Its map is the one that it came with. */
		self->rc = gm_read_u64(view, self->gpa, &self->value);
		gm_reader_leave(own);
		gm_reader_destroy(own);
	}
	__atomic_store_n(&self->left, 1, __ATOMIC_RELEASE);
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Two seconds more, as the machine may be busy. */
static void check_deadline(uint64_t since, int rc, const char *name)
{
	uint64_t took = now_ns() - since;

	assert_int_equal(rc, -ETIMEDOUT);
	assert_true(took >= SHORT_NS && took < SHORT_NS + UINT64_C(2000000000));
	if (!strstr(err.text, name) || strstr(err.text, "first") || strstr(err.text, "reads"))
		fail_msg("\"%s\" does not name %s alone", err.text, name);
}

/* Who must wait for the reader called @name gives up at the deadline; the map is as it was. */
static void waits_end_at_their_deadline(const char *name)
{
	struct gm_txn *txn;
	uint64_t value = 0;
	uint64_t since = now_ns();

	check_deadline(since, gm_space_wait(space, SHORT_NS, &err), name);
	since = now_ns();
	check_deadline(since, gm_space_synchronize(space, SHORT_NS, &err), name);
	set_word(swapped[1], 0, 1);
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(
		gm_txn_replace(txn, swapping, DESC(.gpa = SWAPPED_AT, .block = swapped[1]), &err));
	since = now_ns();
	check_deadline(since, gm_txn_commit(txn, &err), name);
	gm_txn_abort(txn);
	assert_int_equal(gm_read_u64(gm_reader_enter(reader), SWAPPED_AT, &value), 0);
	gm_reader_leave(reader);
	assert_int_equal(value, MARK);
}

/* Everybody else goes on: changes that need not wait, readers, reclaim. Returns what is held back. */
static int others_go_on(uint64_t from, unsigned int nr)
{
	uint64_t since = now_ns();
	uint64_t value = 0;
	int held = 0;

	for (uint64_t i = from; i < from + nr; i++) {
		publish(i, i);
		assert_int_equal(gm_read_u64(gm_reader_enter(reader), ALIAS_AT, &value), 0);
		gm_reader_leave(reader);
		assert_int_equal(value, MARK | (i % PAGES));
		held = gm_space_reclaim(space);
		assert_true(held > 0);
	}
	assert_true(now_ns() - since < UINT64_C(20000000000));
	return held;
}

static void all_is_well_again(const struct balance *before)
{
	assert_ok(gm_space_wait(space, UINT64_C(20000000000), &err));
	set_right();
	assert_int_equal(gm_space_reclaim(space), 0);
	assert_same(before);
	exchange(1);
	assert_int_equal(__atomic_load_n(word(swapped[1], 0), __ATOMIC_RELAXED), MARK | 1);
}

static void a_stuck_reader_holds_nobody_up_for_longer_than_the_deadline(void **state)
{
	struct blocked stuck = {.gpa = ALIAS_AT};
	unsigned int nr = 500;
	struct balance before;
	int held;

	(void)state;
	set_up(SHORT_NS);
	sem_init(&stuck.inside, 0, 0);
	sem_init(&stuck.go_on, 0, 0);
	assert_int_equal(pthread_create(&stuck.thread, NULL, stay_inside, &stuck), 0);
	sem_wait(&stuck.inside);
	before = taken();
	publish(1, 2);
	waits_end_at_their_deadline("stuck");
	held = others_go_on(2, nr);
	/* It holds back every view since it came: so many, and no more. */
	assert_true(held >= (int)nr && held < (int)nr + 16);
	assert_true(fault_bytes() - before.bytes <= (long)(held + 2) * VIEW_BYTES);
	waits_end_at_their_deadline("stuck");
	assert_false(__atomic_load_n(&stuck.left, __ATOMIC_ACQUIRE));
	sem_post(&stuck.go_on);
	pthread_join(stuck.thread, NULL);
	assert_int_equal(stuck.rc, 0);
	assert_int_equal(stuck.value, MARK);
	all_is_well_again(&before);
	sem_destroy(&stuck.inside);
	sem_destroy(&stuck.go_on);
	tear_down();
}

/* ---- a pager that does not answer ---- */

static int open_pager(void *hva, uint64_t len)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID};
	struct uffdio_register reg = {
		.range = {.start = (uintptr_t)hva, .len = len},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return -1;
	assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	assert_int_equal(ioctl(fd, UFFDIO_REGISTER, &reg), 0);
	return fd;
}

static void *read_what_is_missing(void *arg)
{
	struct blocked *self = arg;
	struct gm_reader *own;

	__atomic_store_n(&self->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	self->rc = gm_reader_create(space, "in a fault", &own, NULL);
	if (!self->rc) {
		self->rc = gm_read_u64(gm_reader_enter(own), self->gpa, &self->value);
		gm_reader_leave(own);
		gm_reader_destroy(own);
	}
	__atomic_store_n(&self->left, 1, __ATOMIC_RELEASE);
	return NULL;
}

/* The pager is asked for the page, by the reader's thread. */
static void wait_for_fault(int fd, const struct blocked *faulting, const char *hva)
{
	struct pollfd wanted = {.fd = fd, .events = POLLIN};
	struct uffd_msg msg;

	assert_int_equal(poll(&wanted, 1, 20000), 1);
	assert_int_equal(read(fd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.event, UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address & ~(PAGE - 1), (uintptr_t)hva);
	assert_int_equal(
		msg.arg.pagefault.feat.ptid, __atomic_load_n(&faulting->tid, __ATOMIC_ACQUIRE));
}

static void give_page(int fd, char *hva, uint64_t value)
{
	static uint64_t page[PAGE / 8];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)hva, .src = (uintptr_t)page, .len = sizeof(page)};

	page[0] = value;
	assert_int_equal(ioctl(fd, UFFDIO_COPY, &copy), 0);
	assert_int_equal(copy.copy, sizeof(page));
}

static void a_stalled_pager_holds_nobody_up_for_longer_than_the_deadline(void **state)
{
	struct blocked faulting = {.gpa = PAGED_AT + PAGE};
	char *hva;
	uint64_t paged;
	struct balance before;
	int fd;

	(void)state;
	set_up(SHORT_NS);
	paged = add(PAGED_AT, 4 * PAGE);
	hva = region(paged).hva;
	assert_non_null(hva);
	fd = open_pager(hva, 4 * PAGE);
	if (fd < 0) {
		tear_down();
		printf("skipped: no userfaultfd\n");
		skip();
	}
	assert_int_equal(
		pthread_create(&faulting.thread, NULL, read_what_is_missing, &faulting), 0);
	wait_for_fault(fd, &faulting, hva + PAGE);
	before = taken();
	publish(1, 2);
	waits_end_at_their_deadline("in a fault");
	others_go_on(2, 100);
	/* Its region may go; its memory stays for as long as the fault lasts. */
	assert_ok(gm_space_remove(space, paged, &err));
	assert_int_equal(gm_view_check(gm_reader_enter(reader), PAGED_AT, 1, GM_PERM_R), -EFAULT);
	gm_reader_leave(reader);
	waits_end_at_their_deadline("in a fault");
	assert_false(__atomic_load_n(&faulting.left, __ATOMIC_ACQUIRE));
	give_page(fd, hva + PAGE, 4711);
	pthread_join(faulting.thread, NULL);
	assert_int_equal(faulting.rc, 0);
	assert_int_equal(faulting.value, 4711);
	close(fd);
	assert_ok(gm_space_wait(space, UINT64_C(20000000000), &err));
	assert_true(fault_bytes() < before.bytes);
	set_right();
	before = taken();
	all_is_well_again(&before);
	tear_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(publishes_are_seen_in_their_order_and_little_is_held_back),
		cmocka_unit_test(memory_is_exchanged_after_its_readers_have_left),
		cmocka_unit_test(a_stuck_reader_holds_nobody_up_for_longer_than_the_deadline),
		cmocka_unit_test(a_stalled_pager_holds_nobody_up_for_longer_than_the_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
