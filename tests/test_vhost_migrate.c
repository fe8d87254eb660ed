/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_migrate.c - a guest with requests out moves to another machine by post-copy: its memory is empty there,
 * and comes when the guest, or the block device's process, touches it. Each has a userfaultfd, and a pager of its own
 * answers it. The command is argument 1.
 *
 *	old machine: ring stopped, guest goes on until all is out -> its memory and registers
 *	new machine: ADVISE, LISTEN, the table, rings -> the device faults; the guest goes on -> all is there, END
 */
#include <stdlib.h>

#include "kvm_blk.h"

#include "killed_device.h"

#include <guestmem/pager_run.h>
#include <poll.h>

#include "adapters/vhost_frontend.h"

#include "blk_image.h"

#define P(name) (UINT64_C(1) << GM_VHOST_PROTOCOL_##name)
#define PROTOCOL                                                                                   \
	(P(MQ) | P(REPLY_ACK) | P(BACKEND_REQ) | P(CONFIG) | P(INFLIGHT_SHMFD) | P(LOG_SHMFD) |    \
		P(PAGEFAULT))
#define LOST_WAY 4u /* the first of those whose buffers the old machine has lost */
#define LOST_WAYS 4u

static pid_t pid;

/* ---- what the old machine left ---- */

static uint8_t *left; /* its memory */
static struct kvm_regs regs;
static uint32_t base; /* of its ring */
static uint64_t was_done;
static bool huge;  /* the new machine's pages */
static bool loses; /* the buffers of some ways cannot be read */
static struct gm_source *source;

static bool is_lost(uint64_t offset, uint64_t len)
{
	const uint64_t first = base_at(0) + MIB(1) + LOST_WAY * BLK_WAY_LEN;
	const uint64_t end = first + LOST_WAYS * BLK_WAY_LEN;

	return loses && offset < end && offset + len > first;
}

static int read_left(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *error)
{
	(void)ctx;
	(void)error;
	if (is_lost(offset, len))
		return -EIO;
	memcpy(buf, left + offset, len);
	return 0;
}

static void run_old(bool ring, uint32_t flags)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops), .name = "left", .len = RAM, .read = read_left};
	uint64_t yields;

	packed = ring;
	fill_image(image_fd);
	start_machine(1, BLOCK(.len = RAM, .flags = GM_BLOCK_SHARE));
	pid = spawn_blk(tool, path, image, NULL);
	connect_frontend(path, 0);
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	prepare_driver(0, flags, 0);
	start_rings();
	start_driver(0);
	await_driver(0, 100);
	/* From here on all that is offered stays out. */
	assert_ok(gm_vhost_frontend_ring_stop(fe, 0, &base, &err));
	yields = __atomic_load_n(&blk_of(0)->yields, __ATOMIC_RELAXED);
	while (__atomic_load_n(&blk_of(0)->yields, __ATOMIC_RELAXED) < yields + 3) {
		check_driver(0);
		moment();
	}
	regs = freeze_driver(0);
	assert_int_equal(blk_of(0)->out, BLK_WAYS);
	was_done = done_by(0);
	left = malloc(RAM);
	assert_non_null(left);
	memcpy(left, guest.system, RAM);
	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	spawned_end(pid, SIGTERM, 0);
	stop_machine();
	assert_ok(gm_source_create(&ops, &source, &err));
}

/* ---- who brings memory ---- */

struct bringer {
	struct gm_pager *pager;
	pthread_t thread;
	uint64_t hold_at; /* atomic: after so many faults it brings nothing */
	bool held;        /* atomic */
	bool ends;        /* atomic */
	bool completes;   /* brings all at its end */
	int rc;
	unsigned int ended; /* told */
	unsigned int poisoned;
};

static struct bringer own;    /* for the guest */
static struct bringer theirs; /* for the device */
static int uffd;
static uint64_t uffd_id;

static void told(void *ctx, const struct gm_pager_event *event)
{
	struct bringer *b = ctx;

	if (event->kind == GM_PAGER_ENDED)
		__atomic_fetch_add(&b->ended, 1, __ATOMIC_RELAXED);
	if (event->kind == GM_PAGER_POISONED)
		__atomic_fetch_add(&b->poisoned, 1, __ATOMIC_RELAXED);
}

static struct gm_pager_stats stats_of(const struct bringer *b)
{
	struct gm_pager_stats stats = {.size = sizeof(stats)};

	assert_int_equal(gm_pager_stats(b->pager, &stats), 0);
	return stats;
}

static void *bring(void *arg)
{
	struct bringer *b = arg;
	struct gm_pager_stats stats = {.size = sizeof(stats)};
	struct gm_error why;

	while (b->rc >= 0 && !__atomic_load_n(&b->ends, __ATOMIC_ACQUIRE)) {
		gm_pager_stats(b->pager, &stats);
		if (stats.faults >= __atomic_load_n(&b->hold_at, __ATOMIC_RELAXED)) {
			__atomic_store_n(&b->held, true, __ATOMIC_RELEASE);
			moment();
		} else {
			b->rc = gm_pager_step(b->pager, 5);
		}
	}
	if (b->rc >= 0 && b->completes)
		b->rc = gm_pager_stop(b->pager, GM_PAGER_COMPLETE, -1, &why);
	return NULL;
}

static void make_bringer(struct bringer *b)
{
	*b = (struct bringer){.completes = true, .hold_at = UINT64_MAX};
	assert_ok(gm_pager_create(GM_OPTS(gm_pager_opts, .told = told, .ctx = b), &b->pager, &err));
}

static void start_bringer(struct bringer *b)
{
	assert_int_equal(pthread_create(&b->thread, NULL, bring, b), 0);
}

static void end_bringer(struct bringer *b)
{
	__atomic_store_n(&b->ends, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(b->thread, NULL), 0);
	if (b->rc < 0)
		fail_msg("a pager ended with %d", b->rc);
}

static struct gm_pager_area_opts area_opts(uint64_t offset)
{
	return (struct gm_pager_area_opts){.size = sizeof(struct gm_pager_area_opts),
		.source = source,
		.offset = offset,
		.way = GM_PAGER_COPY};
}

static int on_mapped(void *ctx, const struct gm_vhost_region *region, uint64_t at)
{
	struct gm_pager_area_opts opts = area_opts(region->gpa);

	(void)ctx;
	opts.page_size = huge ? MIB(2) : PAGE;
	return gm_pager_add_mapping(theirs.pager, uffd_id, at, region->len, &opts, NULL, NULL);
}

/* ---- the new machine ---- */

static void open_new(uint64_t hold_at)
{
	const struct gm_pager_area_opts opts = area_opts(0);
	const struct gm_page_choice pages = {huge ? GM_PAGE_HUGETLB : GM_PAGE_BASE, huge ? 21 : 0};
	struct gm_vhost_frontend_ring ring;

	start_empty_machine(1, BLOCK(.len = RAM, .flags = GM_BLOCK_SHARE, .pages = {pages}));
	make_bringer(&own);
	make_bringer(&theirs);
	theirs.hold_at = hold_at;
	assert_ok(gm_pager_add_space(own.pager, space, 0, RAM, &opts, NULL, &err));
	start_bringer(&own);
	pid = spawn_blk(tool, path, image, "--postcopy");
	connect_frontend(path, PROTOCOL);
	assert_ok(gm_vhost_frontend_postcopy_advise(fe, &uffd, &err));
	assert_ok(gm_pager_add_uffd(theirs.pager, uffd, pid, &uffd_id, &err));
	assert_ok(gm_vhost_frontend_postcopy_listen(fe, on_mapped, NULL, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	start_bringer(&theirs);
	assert_ok(gm_vhost_frontend_inflight(fe, 256, &err));
	ring = ring_of(0);
	ring.base = base;
	assert_ok(gm_vhost_frontend_ring_start(fe, 0, &ring, &err));
}

static void resume_guest(void)
{
	assert_int_equal(ioctl(guest.cpus[0].fd, KVM_SET_REGS, &regs), 0);
	resume_vcpu(0);
}

static void close_bringer(struct bringer *b)
{
	assert_ok(gm_pager_destroy(b->pager, &err));
}

static void finish(void)
{
	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	spawned_end(pid, SIGTERM, 0);
	close(uffd);
	close_bringer(&theirs);
	close_bringer(&own);
	stop_machine();
	gm_source_destroy(source);
	free(left);
}

/* ---- tests ---- */

static void move(bool ring)
{
	struct gm_pager_stats stats;

	loses = false;
	run_old(ring, 0);
	open_new(UINT64_MAX);
	resume_guest();
	await_driver(0, was_done + 200);
	assert_int_equal(gm_pager_fill(own.pager, GM_PAGER_FILL_ALL, 0), 0);
	await_driver(0, was_done + 300);
	end_bringer(&own);
	end_bringer(&theirs);
	assert_ok(gm_vhost_frontend_postcopy_end(fe, &err));
	stats = stats_of(&theirs);
	/* Each request that was out had its header and buffers there. */
	assert_true(stats.faults > (huge ? 0 : BLK_WAYS));
	assert_true(stats.loaded > (huge ? 0 : BLK_WAYS));
	assert_int_equal(stats.poisoned, 0);
	assert_int_equal(stats.stray, 0);
	assert_true(stats_of(&own).faults > 0);
	if (getenv("GM_SOAK"))
		printf("figure: vhost-postcopy-faults %llu\n", (unsigned long long)stats.faults);
	/* Its memory is ordinary memory now. */
	await_driver(0, done_by(0) + 100);
	stop_driver(0);
	check_image(image_fd, 1);
	finish();
}

static void a_guest_moves_with_requests_in_split_rings(void **state)
{
	(void)state;
	move(false);
}

static void a_guest_moves_with_requests_in_packed_rings(void **state)
{
	(void)state;
	move(true);
}

static void a_guest_moves_to_huge_pages(void **state)
{
	(void)state;
	if (!support_pool(21, RAM / MIB(2))) {
		puts("skipped: there are no huge pages of 2 MiB to reserve");
		skip();
	}
	huge = true;
	move(false);
	huge = false;
}

/* The device waits for a page as it is killed. What it had begun the next one does, when all memory is there. */
static void a_device_that_waits_for_a_page_may_be_killed(void **state)
{
	struct pollfd waits;

	(void)state;
	loses = false;
	run_old(false, 0);
	open_new(20);
	while (!__atomic_load_n(&theirs.held, __ATOMIC_ACQUIRE))
		moment();
	waits = (struct pollfd){.fd = uffd, .events = POLLIN};
	assert_int_equal(poll(&waits, 1, 30000), 1);
	assert_true(waits.revents & POLLIN);
	kill_device(pid);
	__atomic_store_n(&theirs.hold_at, UINT64_MAX, __ATOMIC_RELAXED);
	resume_guest();
	/* Nobody waits any more; that it is gone shows when something is brought. */
	assert_int_equal(gm_pager_fill(theirs.pager, GM_PAGER_FILL_ALL, 0), 0);
	while (!__atomic_load_n(&theirs.ended, __ATOMIC_ACQUIRE))
		moment();
	theirs.completes = false;
	end_bringer(&theirs);
	assert_int_equal(gm_pager_fill(own.pager, GM_PAGER_FILL_ALL, 0), 0);
	end_bringer(&own);
	assert_true(nr_noted(fe->inflight_fd, blk_of(0)->nr, 0) > 0);
	pid = spawn_blk(tool, path, image, "--postcopy");
	assert_ok(gm_vhost_frontend_reconnect(fe, -1, &err));
	await_driver(0, was_done + 200);
	stop_driver(0);
	check_image(image_fd, 1);
	finish();
}

/* Buffers that cannot be brought: their requests fail, and no others. */
static void requests_fail_whose_pages_are_lost(void **state)
{
	const uint32_t lost = ((1u << LOST_WAYS) - 1) << LOST_WAY;

	(void)state;
	loses = true;
	run_old(false, BLK_ERRORS);
	open_new(UINT64_MAX);
	resume_guest();
	await_driver(0, was_done + 200);
	assert_int_equal(gm_pager_fill(own.pager, GM_PAGER_FILL_ALL, 0), 0);
	end_bringer(&own);
	end_bringer(&theirs);
	assert_ok(gm_vhost_frontend_postcopy_end(fe, &err));
	await_driver(0, done_by(0) + 100);
	stop_driver(0);
	assert_int_equal(blk_of(0)->failed, lost);
	assert_true(theirs.poisoned > 0);
	assert_true(stats_of(&theirs).poisoned >= LOST_WAYS);
	for (uint32_t way = 0; way < BLK_WAYS; way++) {
		if (!(lost >> way & 1))
			expect_way(image_fd, 0, way, blk_of(0)->line[way].version);
	}
	finish();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_moves_with_requests_in_split_rings),
		cmocka_unit_test(a_guest_moves_with_requests_in_packed_rings),
		cmocka_unit_test(a_guest_moves_to_huge_pages),
		cmocka_unit_test(a_device_that_waits_for_a_page_may_be_killed),
		cmocka_unit_test(requests_fail_whose_pages_are_lost),
	};

	if (argc != 2)
		return 2;
	tool = argv[1];
	return cmocka_run_group_tests(tests, make_image, remove_image);
}
