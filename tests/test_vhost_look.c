/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_look.c - what can be seen of a back-end from outside: regions, rings, their memory, the log, figures. */
#include "vhost_front.h"

#include <guestmem/guard.h>
#include <guestmem/vhost_look.h>

#include "fault.h"

#define IOVA UINT64_C(0x100000000000)

static struct gm_vhost_backend_info info_of(const struct front *f)
{
	struct gm_vhost_backend_info info = {.size = sizeof(info)};

	assert_int_equal(gm_vhost_backend_info(f->b, &info), 0);
	return info;
}

static struct gm_vhost_backend_ring ring_of(const struct front *f, uint32_t index)
{
	struct gm_vhost_backend_ring ring = {.size = sizeof(ring)};

	assert_int_equal(gm_vhost_backend_ring(f->b, index, &ring), 0);
	assert_int_equal(ring.size, sizeof(ring));
	return ring;
}

static void round_of(struct front *f, uint8_t first)
{
	offer(f, first, IN_AT, OUT_AT);
	assert_int_equal(dev_serve(&f->dev, 0), 1);
	take_back(f, first, OUT_AT);
}

static void regions_are_told_in_order(void **state)
{
	const struct gm_vhost_region high = {
		.gpa = GIB(1), .len = PAGE, .user = USER - MIB(1), .off = 2 * PAGE};
	struct gm_vhost_backend_region region = {.size = sizeof(region)};
	struct gm_region_info shown = {.size = sizeof(shown)};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	assert_int_equal(gm_vhost_backend_region(f.b, 0, &region), -ENOENT);
	negotiate(&f, 0, 0);
	share_ram(&f);
	assert_int_equal(ask_add(&f, high, f.fd), 0);
	assert_int_equal(gm_vhost_backend_region(f.b, 0, &region), 0);
	assert_int_equal(region.gpa, GIB(1));
	assert_int_equal(region.len, PAGE);
	assert_int_equal(region.user, USER - MIB(1));
	assert_int_equal(region.off, 2 * PAGE);
	assert_int_equal(gm_space_region(gm_vhost_backend_space(f.b), region.id, &shown), 0);
	assert_int_equal(shown.gpa, GIB(1));
	assert_int_equal(gm_vhost_backend_region(f.b, 1, &region), 0);
	assert_int_equal(region.user, USER);
	assert_int_equal(gm_vhost_backend_region(f.b, 2, &region), -ENOENT);
	region.size--;
	assert_int_equal(gm_vhost_backend_region(f.b, 0, &region), -EINVAL);
	close_backend(&f);
}

static void a_ring_is_told_as_it_is(void **state)
{
	struct gm_vhost_backend_ring ring = {.size = sizeof(ring)};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	assert_int_equal(ring_of(&f, 0).flags, GM_VHOST_RING_ENABLED);
	negotiate(&f, 0, 0);
	assert_int_equal(ring_of(&f, 0).flags, 0);
	share_ram(&f);
	make_driver(&f);
	start_ring(&f, 0, 0);
	ring = ring_of(&f, 0);
	assert_int_equal(ring.nr, NR);
	assert_int_equal(ring.flags, GM_VHOST_RING_STARTED | GM_VHOST_RING_ENABLED |
					     GM_VHOST_RING_RUNS | GM_VHOST_RING_PLACED);
	assert_int_equal(ring.desc, USER + DESC_AT);
	assert_int_equal(ring.avail, USER + AVAIL_AT);
	assert_int_equal(ring.used, USER + USED_AT);
	assert_int_equal(ring_of(&f, 1).flags, 0);
	for (uint8_t i = 1; i <= 3; i++)
		round_of(&f, i);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 0, 0), 0);
	ring = ring_of(&f, 0);
	assert_int_equal(ring.flags, GM_VHOST_RING_STARTED | GM_VHOST_RING_PLACED);
	assert_int_equal(ring.base, 3);
	assert_int_equal(ask_addr(&f, 0, GM_VHOST_VRING_LOG, USED_AT), 0);
	assert_true(ring_of(&f, 0).flags & GM_VHOST_RING_LOGGED);
	assert_int_equal(gm_vhost_backend_ring(f.b, QUEUES, &ring), -ENOENT);
	ring.size--;
	assert_int_equal(gm_vhost_backend_ring(f.b, 0, &ring), -EINVAL);
	close_backend(&f);
}

static void what_goes_out_is_counted(void **state)
{
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(gm_vhost_backend_call(f.b, 0), 0);
	assert_int_equal(gm_vhost_backend_call(f.b, 0), 0);
	assert_int_equal(gm_vhost_backend_error(f.b, 0), 0);
	assert_int_equal(ring_of(&f, 0).calls, 2);
	assert_int_equal(ring_of(&f, 0).errors, 1);
	/* Nobody hears this one. */
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_CALL, 0, -1), 0);
	assert_int_equal(gm_vhost_backend_call(f.b, 0), 0);
	assert_int_equal(ring_of(&f, 0).calls, 2);
	assert_int_equal(ring_of(&f, 1).calls, 0);
	/* And a write that fails. */
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_CALL, 0, f.call), 0);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_write, .nth = 1, .error = EBADF});
	assert_int_equal(gm_vhost_backend_call(f.b, 0), -EBADF);
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	assert_int_equal(ring_of(&f, 0).calls, 2);
	/* They are the back-end's, not the connection's. */
	gm_vhost_backend_disconnect(f.b);
	assert_int_equal(ring_of(&f, 0).calls, 2);
	close_backend(&f);
}

static void front_ends_are_counted(void **state)
{
	struct gm_vhost_backend_info info;
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	info = info_of(&f);
	assert_int_equal(info.connections | info.connected, 0);
	assert_int_equal(info.queues, QUEUES);
	assert_int_equal(info.offered & F_PACKED, F_PACKED);
	for (uint64_t i = 1; i <= 3; i++) {
		negotiate(&f, 0, 0);
		assert_int_equal(ask_number(&f, GM_VHOST_SET_STATUS, 15), 0);
		info = info_of(&f);
		assert_int_equal(info.connections, i);
		assert_int_equal(info.connected, 1);
		assert_int_equal(info.status, 15);
		gm_vhost_backend_disconnect(f.b);
		info = info_of(&f);
		assert_int_equal(info.connections, i);
		assert_int_equal(info.connected | info.status, 0);
	}
	close_backend(&f);
}

static void memory_of_rings_is_read(void **state)
{
	const struct gm_vhost_region beside = {
		.gpa = GIB(1), .len = PAGE, .user = USER + RAM, .off = 3 * PAGE};
	uint8_t bytes[2 * PAGE];
	uint16_t index;
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	round_of(&f, 9);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER + AVAIL_AT + 2, &index, 2), 0);
	assert_int_equal(index, 1);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER + RAM - 1, bytes, 2), -EFAULT);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER - 1, bytes, 2), -EFAULT);
	assert_int_equal(gm_vhost_backend_peek(f.b, UINT64_MAX, bytes, 2), -EFAULT);
	assert_int_equal(gm_vhost_backend_peek(f.b, UINT64_MAX, bytes, 0), 0);
	/* Across a border of regions. */
	assert_int_equal(ask_add(&f, beside, f.fd), 0);
	memset(f.ram + RAM - PAGE, 0x11, PAGE);
	memset(f.ram + 3 * PAGE, 0x22, PAGE);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER + RAM - PAGE, bytes, sizeof(bytes)), 0);
	assert_int_equal(bytes[PAGE - 1], 0x11);
	assert_int_equal(bytes[PAGE], 0x22);
	gm_vhost_backend_disconnect(f.b);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER, bytes, 1), -EFAULT);
	close_backend(&f);
}

static int map(struct front *f, uint64_t iova, uint64_t len, uint64_t gpa, uint8_t perm)
{
	const struct gm_vhost_iotlb in = {iova, len, USER + gpa, perm, GM_VHOST_IOTLB_UPDATE, {0}};

	return ask(f, GM_VHOST_IOTLB_MSG, &in, sizeof(in), NULL, 0);
}

static void iovas_lead_to_memory_and_nothing_is_asked_for(void **state)
{
	struct gm_vhost_backend_info info;
	uint8_t bytes[3 * PAGE];
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, GM_VHOST_F_IOMMU_PLATFORM, 0);
	share_ram(&f);
	for (uint64_t i = 0; i < RAM / PAGE; i++)
		f.ram[i * PAGE] = (uint8_t)i;
	assert_int_equal(gm_vhost_backend_peek(f.b, IOVA, bytes, 1), -ENOENT);
	assert_int_equal(map(&f, IOVA, PAGE, 7 * PAGE, 3), 0);
	assert_int_equal(map(&f, IOVA + PAGE, PAGE, 3 * PAGE, 1), 0);
	assert_int_equal(map(&f, IOVA + 2 * PAGE, PAGE, 9 * PAGE, 3), 0);
	assert_int_equal(map(&f, IOVA + 3 * PAGE, PAGE, 0, 2), 0);
	info = info_of(&f);
	assert_int_equal(info.translations, 4);
	assert_int_equal(info.misses, 0);
	assert_int_equal(gm_vhost_backend_peek(f.b, IOVA, bytes, sizeof(bytes)), 0);
	assert_int_equal(bytes[0], 7);
	assert_int_equal(bytes[PAGE], 3);
	assert_int_equal(bytes[2 * PAGE], 9);
	assert_int_equal(gm_vhost_backend_peek(f.b, IOVA + 3 * PAGE - 1, bytes, 2), -EACCES);
	assert_int_equal(gm_vhost_backend_peek(f.b, IOVA - 1, bytes, 2), -ENOENT);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_alloc_array, .nth = 1, .error = ENOMEM});
	assert_int_equal(gm_vhost_backend_peek(f.b, IOVA, bytes, 1), -ENOMEM);
	assert_int_equal(fault_hits(), 1);
	fault_disarm();
	info = info_of(&f);
	assert_int_equal(info.misses, 0);
	gm_vhost_backend_disconnect(f.b);
	assert_int_equal(info_of(&f).translations, 0);
	close_backend(&f);
}

static void nobody_waits_for_a_page_of_post_copy(void **state)
{
	const struct gm_vhost_backend_opts opts = {.flags = GM_VHOST_BACKEND_POSTCOPY};
	uint8_t byte;
	struct front f;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER, &byte, 1), -EFAULT);
	assert_int_equal(say(&f, GM_VHOST_POSTCOPY_ADVISE, "", 0, NULL, 0), 0);
	assert_int_equal(f.a.nr_fds, 1);
	close(f.a.fds[0]);
	assert_int_equal(ask(&f, GM_VHOST_POSTCOPY_LISTEN, "", 0, NULL, 0), 0);
	assert_int_equal(info_of(&f).postcopy, 2);
	assert_int_equal(gm_vhost_backend_peek(f.b, USER, &byte, 1), -EAGAIN);
	close_backend(&f);
}

static void the_log_is_read(void **state)
{
	const struct gm_vhost_log log = {.len = PAGE};
	const size_t at = OUT_AT / PAGE / 8;
	uint8_t bytes[PAGE];
	struct front f;
	int fd = make_ram(PAGE, 0);

	(void)state;
	assert_int_equal(gm_guard_install(), 0);
	open_front(&f, 0, 0, NULL);
	assert_int_equal(gm_vhost_backend_log(f.b, 0, bytes, 1), -ENOENT);
	assert_int_equal(ask(&f, GM_VHOST_SET_LOG_BASE, &log, sizeof(log), &fd, 1), 0);
	assert_int_equal(info_of(&f).logging, 0);
	f.features |= GM_VHOST_F_LOG_ALL;
	assert_int_equal(ask_number(&f, GM_VHOST_SET_FEATURES, f.features), 0);
	assert_int_equal(info_of(&f).logging, 1);
	round_of(&f, 5);
	assert_int_equal(gm_vhost_backend_log(f.b, 0, bytes, PAGE), 0);
	assert_true(bytes[at] >> (OUT_AT / PAGE % 8) & 1);
	assert_int_equal(gm_vhost_backend_log(f.b, at, bytes, 1), 0);
	assert_true(bytes[0] >> (OUT_AT / PAGE % 8) & 1);
	assert_int_equal(gm_vhost_backend_log(f.b, PAGE, bytes, 0), 0);
	assert_int_equal(gm_vhost_backend_log(f.b, PAGE, bytes, 1), -EINVAL);
	assert_int_equal(gm_vhost_backend_log(f.b, 1, bytes, PAGE), -EINVAL);
	assert_int_equal(gm_vhost_backend_log(f.b, UINT64_MAX, bytes, 2), -EINVAL);
	/* Its owner cuts it. */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(gm_vhost_backend_log(f.b, 0, bytes, 1), -EFAULT);
	close_backend(&f);
	close(fd);
	assert_int_equal(gm_guard_remove(), 0);
}

static void the_area_of_what_is_in_flight_is_told(void **state)
{
	struct gm_vhost_inflight area = {.queues = QUEUES, .queue_size = NR};
	struct gm_vhost_backend_info info;
	struct front f;
	int fd;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	assert_int_equal(say(&f, GM_VHOST_GET_INFLIGHT_FD, &area, sizeof(area), NULL, 0), 0);
	fd = f.a.fds[0];
	area = f.a.msg.u.inflight;
	assert_int_equal(info_of(&f).inflight_len, 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_INFLIGHT_FD, &area, sizeof(area), &fd, 1), 0);
	info = info_of(&f);
	assert_int_equal(info.inflight_len, area.len);
	assert_int_equal(info.inflight_queues, QUEUES);
	assert_int_equal(info.inflight_queue_size, NR);
	gm_vhost_backend_disconnect(f.b);
	assert_int_equal(info_of(&f).inflight_len | info_of(&f).inflight_queues, 0);
	close(fd);
	close_backend(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_are_told_in_order),
		cmocka_unit_test(a_ring_is_told_as_it_is),
		cmocka_unit_test(what_goes_out_is_counted),
		cmocka_unit_test(front_ends_are_counted),
		cmocka_unit_test(memory_of_rings_is_read),
		cmocka_unit_test(iovas_lead_to_memory_and_nothing_is_asked_for),
		cmocka_unit_test(nobody_waits_for_a_page_of_post_copy),
		cmocka_unit_test(the_log_is_read),
		cmocka_unit_test(the_area_of_what_is_in_flight_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
