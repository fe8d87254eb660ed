/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_postcopy.c - memory that comes when it is touched: the order, what is refused, and a front-end that brings
 * pages.
 */
#include "vhost_front.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>

static const struct gm_vhost_backend_opts opts = {.flags = GM_VHOST_BACKEND_POSTCOPY};

/* ADVISE: the userfaultfd. */
static int advise(struct front *f)
{
	assert_int_equal(say(f, GM_VHOST_POSTCOPY_ADVISE, "", 0, NULL, 0), 0);
	assert_true(f->a.is);
	assert_int_equal(f->a.msg.len, 0);
	return f->a.nr_fds ? f->a.fds[0] : -1;
}

/* The table, which is answered by addresses of the back-end. */
static void send_table(
	struct front *f, const struct gm_vhost_region *regions, uint32_t nr, uint64_t *ret_at)
{
	struct gm_vhost_memory table = {.nr = nr};
	int fds[8];

	memcpy(table.region, regions, nr * sizeof(*regions));
	for (uint32_t i = 0; i < nr; i++)
		fds[i] = f->fd;
	assert_int_equal(
		say(f, GM_VHOST_SET_MEM_TABLE, &table, 8 + nr * sizeof(*regions), fds, nr), 0);
	assert_true(f->a.is);
	assert_int_equal(f->a.msg.len, 8 + nr * sizeof(*regions));
	for (uint32_t i = 0; i < nr; i++) {
		assert_int_equal(f->a.msg.u.memory.region[i].gpa, regions[i].gpa);
		ret_at[i] = f->a.msg.u.memory.region[i].user;
		assert_true(ret_at[i] != 0 && ret_at[i] % PAGE == 0);
	}
}

static int take_addresses(struct front *f, uint64_t number)
{
	struct gm_vhost_msg msg = {.request = GM_VHOST_SET_MEM_TABLE,
		.flags = GM_VHOST_VERSION,
		.len = 8,
		.u.number = number};

	return say_raw(f, &msg, NULL, 0);
}

/* ---- a front-end that brings pages ---- */

struct bringer {
	int uffd;
	int stop;
	struct front *f;
	const struct gm_vhost_region *regions;
	const uint64_t *at;
	uint32_t nr;
	uint32_t faults;
	pthread_t thread;
};

/* Writes the page into the file, which wakes nobody, then wakes who waits for it. */
static void bring(struct bringer *b, uint64_t addr)
{
	for (uint32_t i = 0; i < b->nr; i++) {
		const struct gm_vhost_region *r = &b->regions[i];
		struct uffdio_range range = {addr & ~(PAGE - 1), PAGE};
		uint64_t off;

		if (addr < b->at[i] || addr - b->at[i] >= r->len)
			continue;
		off = r->off + (range.start - b->at[i]);
		memset(b->f->ram + off, (int)(off / PAGE) & 0xff, PAGE);
		__atomic_add_fetch(&b->faults, 1, __ATOMIC_RELAXED);
		assert_int_equal(ioctl(b->uffd, UFFDIO_WAKE, &range), 0);
		return;
	}
	fail_msg("fault at 0x%llx, which is in no region", (unsigned long long)addr);
}

static void *bring_all(void *ctx)
{
	struct bringer *b = ctx;

	for (;;) {
		struct pollfd fds[2] = {{b->uffd, POLLIN, 0}, {b->stop, POLLIN, 0}};
		struct uffd_msg msg;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			return NULL;
		if (read(b->uffd, &msg, sizeof(msg)) == sizeof(msg) &&
			msg.event == UFFD_EVENT_PAGEFAULT)
			bring(b, msg.arg.pagefault.address);
	}
}

static void read_byte(struct front *f, uint64_t gpa, uint8_t *ret)
{
	struct gm_reader *reader;

	assert_int_equal(gm_reader_create(gm_vhost_backend_space(f->b), "test", &reader, &err), 0);
	assert_int_equal(gm_read(gm_reader_enter(reader), gpa, ret, 1, NULL), 0);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
}

/* R20 */
static void pages_are_brought_when_they_are_touched(void **state)
{
	const struct gm_vhost_region regions[] = {
		region_of(MIB(512), MIB(3), MIB(5)), region_of(0, MIB(5), 0)};
	const uint64_t one = 1;
	struct bringer b = {.regions = regions, .nr = 2};
	struct front f;
	uint64_t at[2];
	uint8_t byte;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	b.uffd = advise(&f);
	assert_true(b.uffd >= 0);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	send_table(&f, regions, 2, at);
	b.f = &f;
	b.at = at;
	b.stop = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(take_addresses(&f, 0), 0);
	assert_int_equal(pthread_create(&b.thread, NULL, bring_all, &b), 0);
	for (uint64_t page = 0; page < 64; page++) {
		read_byte(&f, MIB(512) + page * PAGE + 7, &byte);
		assert_int_equal(byte, (MIB(5) / PAGE + page) & 0xff);
	}
	assert_int_equal(__atomic_load_n(&b.faults, __ATOMIC_RELAXED), 64);
	/* Once there, it stays. */
	read_byte(&f, MIB(512) + 9, &byte);
	assert_int_equal(__atomic_load_n(&b.faults, __ATOMIC_RELAXED), 64);
	/* The rest of a ring's pages is brought by its driver, so a queue runs. */
	make_driver(&f);
	start_ring(&f, 0, 0);
	round_trip(&f, 5);
	assert_int_equal(say(&f, GM_VHOST_POSTCOPY_END, "", 0, NULL, 0), 0);
	assert_int_equal(said(&f), 0);
	/* From now on what is missing is zeros. */
	read_byte(&f, MIB(512) + MIB(2), &byte);
	assert_int_equal(byte, 0);
	assert_int_equal(write(b.stop, &one, 8), 8);
	pthread_join(b.thread, NULL);
	close(b.stop);
	close(b.uffd);
	close_backend(&f);
}

static void *touch(void *ctx)
{
	uint8_t byte;

	read_byte(ctx, MIB(1), &byte);
	return NULL;
}

/* Who waits for a page of a front-end that is gone is let go. */
static void a_front_end_that_leaves_lets_everybody_go(void **state)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	struct uffd_msg msg;
	struct pollfd wait;
	struct front f;
	pthread_t thread;
	uint64_t at;
	int uffd;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	uffd = advise(&f);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	send_table(&f, &all, 1, &at);
	assert_int_equal(take_addresses(&f, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, touch, &f), 0);
	wait = (struct pollfd){uffd, POLLIN, 0};
	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_int_equal(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.arg.pagefault.address & ~(PAGE - 1), at + MIB(1));
	gm_vhost_backend_disconnect(f.b);
	pthread_join(thread, NULL);
	close(uffd);
	close_backend(&f);
}

static void *try_to_read(void *ctx)
{
	struct front *f = ctx;
	struct gm_reader *reader;
	uint8_t byte;
	intptr_t rc;

	assert_int_equal(gm_reader_create(gm_vhost_backend_space(f->b), "test", &reader, &err), 0);
	rc = gm_read(gm_reader_enter(reader), MIB(1), &byte, 1, NULL);
	gm_reader_leave(reader);
	gm_reader_destroy(reader);
	return (void *)rc;
}

/* As a disk does: the kernel reads what the guest wants to have written. */
static void *try_to_write_out(void *ctx)
{
	const uint64_t *at = ctx;
	int fd = memfd_create("out", MFD_CLOEXEC);
	intptr_t rc = pwrite(fd, (const void *)(uintptr_t)(*at + MIB(2)), PAGE, 0);

	rc = rc < 0 ? -errno : rc;
	close(fd);
	return (void *)rc;
}

static void wait_for_fault(int uffd, uint64_t addr)
{
	struct pollfd wait = {uffd, POLLIN, 0};
	struct uffd_msg msg;

	assert_int_equal(poll(&wait, 1, 60000), 1);
	assert_int_equal(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	assert_int_equal(msg.arg.pagefault.address & ~(PAGE - 1), addr);
}

/* With the guard a page that will not come is an error, of accesses and of system calls, and no zeros. */
static void what_a_front_end_that_left_did_not_bring_is_an_error(void **state)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	struct front f;
	pthread_t threads[2];
	void *rc[2];
	uint64_t at;
	int uffd;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	uffd = advise(&f);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	send_table(&f, &all, 1, &at);
	assert_int_equal(take_addresses(&f, 0), 0);
	assert_int_equal(pthread_create(&threads[0], NULL, try_to_read, &f), 0);
	wait_for_fault(uffd, at + MIB(1));
	assert_int_equal(pthread_create(&threads[1], NULL, try_to_write_out, &at), 0);
	wait_for_fault(uffd, at + MIB(2));
	gm_vhost_backend_disconnect(f.b);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], &rc[i]);
	assert_int_equal((intptr_t)rc[0], -EACCES);
	assert_int_equal((intptr_t)rc[1], -EFAULT);
	/* The next front-end's memory is not touched by it. */
	negotiate(&f, 0, 0);
	share_ram(&f);
	make_driver(&f);
	start_ring(&f, 0, 0);
	round_trip(&f, 5);
	close(uffd);
	close_backend(&f);
	gm_guard_remove();
}

/* A device that waits for its queue is in the way of who would see that the front-end is gone. */
static void a_device_that_waits_lets_go_itself(void **state)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	struct front f;
	pthread_t thread;
	uint64_t at;
	void *rc;
	int uffd;

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	assert_int_equal(gm_vhost_backend_let_go(f.b, true), 0);
	uffd = advise(&f);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	send_table(&f, &all, 1, &at);
	assert_int_equal(take_addresses(&f, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, try_to_read, &f), 0);
	wait_for_fault(uffd, at + MIB(1));
	/* There is no connection that could be closed. */
	assert_int_equal(gm_vhost_backend_let_go(f.b, false), 0);
	assert_int_equal(gm_vhost_backend_let_go(f.b, true), 1);
	pthread_join(thread, &rc);
	assert_int_equal((intptr_t)rc, -EACCES);
	assert_int_equal(gm_vhost_backend_let_go(f.b, true), 0);
	/* A queue does not run on what comes yet, and the connection is over. */
	assert_int_equal(ask_table(&f, &all, &f.fd, 1), -EPROTO);
	assert_int_equal(say(&f, GM_VHOST_GET_FEATURES, "", 0, NULL, 0), -EPROTO);
	gm_vhost_backend_disconnect(f.b);
	negotiate(&f, 0, 0);
	share_ram(&f);
	make_driver(&f);
	start_ring(&f, 0, 0);
	round_trip(&f, 5);
	close(uffd);
	close_backend(&f);
	gm_guard_remove();
}

/* R20, R21: the order, and nothing beside it. */
static void out_of_order_it_is_refused(void **state)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	const size_t open = count_fds();
	struct front f;
	uint64_t at;
	int uffd;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), -EINVAL);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_END, "", 0, NULL, 0), -EINVAL);
	uffd = advise(&f);
	assert_true(uffd >= 0);
	assert_int_equal(advise(&f), -1);
	share_ram(&f);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), -EINVAL);
	assert_int_equal(ask_table(&f, NULL, NULL, 0), 0);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), -EINVAL);
	/* Rings that could run wait for the answer to the addresses. */
	start_ring(&f, 0, 0);
	send_table(&f, &all, 1, &at);
	assert_false(f.dev.runs[0]);
	assert_int_equal(say(&f, GM_VHOST_GET_FEATURES, "", 0, NULL, 0), -EPROTO);
	assert_int_equal(ask_table(&f, &all, &f.fd, 1), -EPROTO);
	assert_int_equal(take_addresses(&f, 1), -EPROTO);
	gm_vhost_backend_disconnect(f.b);
	/* The next may begin anew. */
	close(uffd);
	negotiate(&f, 0, 0);
	uffd = advise(&f);
	assert_true(uffd >= 0);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_END, "", 0, NULL, 0), 0);
	close(uffd);
	close_backend(&f);
	assert_int_equal(count_fds(), open);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_brought_when_they_are_touched),
		cmocka_unit_test(a_front_end_that_leaves_lets_everybody_go),
		cmocka_unit_test(what_a_front_end_that_left_did_not_bring_is_an_error),
		cmocka_unit_test(a_device_that_waits_lets_go_itself),
		cmocka_unit_test(out_of_order_it_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
