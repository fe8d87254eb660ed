/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_iotlb.c - rings and buffers behind the guest's IOMMU; the back-end's own socket. */
#include "vhost_front.h"

#define IOVA UINT64_C(0x100000000000) /* of guest address 0 */

static int channel[2]; /* [0] is the front-end's */

static void open_iommu(struct front *f)
{
	open_backend(f, NULL);
	negotiate(f, GM_VHOST_F_IOMMU_PLATFORM, 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel), 0);
	assert_int_equal(ask(f, GM_VHOST_SET_BACKEND_REQ_FD, "", 0, &channel[1], 1), 0);
	close(channel[1]);
	share_ram(f);
	make_driver(f);
}

static void close_iommu(struct front *f)
{
	close_backend(f);
	close(channel[0]);
}

static int ask_iotlb(
	struct front *f, uint8_t type, uint64_t iova, uint64_t len, uint64_t user, uint8_t perm)
{
	const struct gm_vhost_iotlb in = {iova, len, user, perm, type, {0}};

	return ask(f, GM_VHOST_IOTLB_MSG, &in, sizeof(in), NULL, 0);
}

static int map(struct front *f, uint64_t gpa, uint64_t len)
{
	return ask_iotlb(f, GM_VHOST_IOTLB_UPDATE, IOVA + gpa, len, USER + gpa, 3);
}

static int unmap(struct front *f, uint64_t gpa, uint64_t len)
{
	return ask_iotlb(f, GM_VHOST_IOTLB_INVALIDATE, IOVA + gpa, len, 0, 0);
}

/* The next request of the back-end, or false. */
static bool next_miss(struct gm_vhost_iotlb *ret)
{
	uint8_t bytes[GM_VHOST_HEADER + sizeof(*ret)];
	uint32_t head[3];

	if (recv(channel[0], bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return false;
	memcpy(head, bytes, sizeof(head));
	memcpy(ret, bytes + sizeof(head), sizeof(*ret));
	assert_int_equal(head[0], GM_VHOST_BACKEND_IOTLB_MSG);
	assert_int_equal(head[1], GM_VHOST_VERSION);
	assert_int_equal(ret->type, GM_VHOST_IOTLB_MISS);
	return true;
}

static void start_iommu_ring(struct front *f)
{
	const struct gm_vhost_vring_addr addr = {
		.desc = IOVA + DESC_AT, .avail = IOVA + AVAIL_AT, .used = IOVA + USED_AT};

	assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_NUM, 0, NR), 0);
	assert_int_equal(ask(f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), 0);
	assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_CALL, 0, f->call), 0);
	assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_KICK, 0, f->kick), 0);
	assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_ENABLE, 0, 1), 0);
}

/* A chain whose buffers are IOVAs. */
static void offer_iova(struct front *f, uint8_t first)
{
	const struct gm_chain_elem elems[] = {{.gpa = IOVA + IN_AT, .len = 16},
		{.gpa = IOVA + OUT_AT, .len = 16, .flags = GM_CHAIN_WRITE}};
	const struct gm_view *view = gm_reader_enter(f->reader);

	memset(f->ram + IN_AT, first, 16);
	assert_int_equal(gm_virtq_driver_add(f->driver, view, elems, 2, 0, f), 0);
	assert_true(gm_virtq_driver_show(f->driver, view) >= 0);
	gm_reader_leave(f->reader);
}

/* R8, R24: a ring waits for its translations, which are asked for; then buffers do. */
static void what_is_missing_is_asked_for_and_waited_for(void **state)
{
	struct gm_vhost_iotlb in;
	struct front f;
	int rounds = 0;

	(void)state;
	open_iommu(&f);
	start_iommu_ring(&f);
	assert_false(f.dev.runs[0]);
	while (!f.dev.runs[0] && rounds++ < 10) {
		assert_true(next_miss(&in));
		assert_int_equal(map(&f, (in.iova - IOVA) & ~(PAGE - 1), PAGE), 0);
	}
	assert_true(f.dev.runs[0]);
	assert_int_equal(rounds, 3);
	offer_iova(&f, 0x21);
	assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
	assert_true(next_miss(&in));
	assert_int_equal(in.iova & ~(PAGE - 1), IOVA + IN_AT);
	assert_int_equal(in.perm, 1);
	assert_int_equal(map(&f, IN_AT, PAGE), 0);
	assert_true(f.dev.translated > 0);
	assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
	/* R25: asked for once. */
	assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
	assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
	assert_true(next_miss(&in));
	assert_int_equal(in.perm, 2);
	assert_false(next_miss(&in));
	assert_int_equal(map(&f, OUT_AT, PAGE), 0);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 0x21, OUT_AT);
	close_iommu(&f);
}

static void all_translated(struct front *f)
{
	open_iommu(f);
	assert_int_equal(map(f, 0, RAM), 0);
	start_iommu_ring(f);
	assert_true(f->dev.runs[0]);
	offer_iova(f, 1);
	assert_int_equal(dev_serve(&f->dev, 0), 1);
	take_back(f, 1, OUT_AT);
}

/* R23 */
static void updates_lie_in_regions(void **state)
{
	const struct gm_vhost_region halves[] = {
		region_of(0, MIB(4), 0), {GIB(1), MIB(4), USER + MIB(4), MIB(4)}};
	struct front f;
	int fds[2];

	(void)state;
	open_iommu(&f);
	assert_int_equal(map(&f, 0, 0), -EINVAL);
	assert_int_equal(map(&f, 0, RAM + 1), -EINVAL);
	assert_int_equal(map(&f, RAM - 1, 2), -EINVAL);
	assert_int_equal(map(&f, RAM - 1, 1), 0);
	assert_int_equal(map(&f, 0, UINT64_MAX), -EINVAL);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_UPDATE, UINT64_MAX, 2, USER, 3), -EINVAL);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_UPDATE, 0, 1, UINT64_MAX, 3), -EINVAL);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_UPDATE, 0, PAGE, USER, 0), -EINVAL);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_UPDATE, 0, PAGE, USER, 4), -EINVAL);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_MISS, 0, PAGE, USER, 3), -EINVAL);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_ACCESS_FAIL, 0, PAGE, USER, 3), -EINVAL);
	assert_int_equal(ask_iotlb(&f, 0, 0, PAGE, USER, 3), -EINVAL);
	/* Side by side in user addresses, apart in guest addresses: each byte leads to its own. */
	fds[0] = fds[1] = f.fd;
	assert_int_equal(ask_table(&f, halves, fds, 2), 0);
	assert_int_equal(map(&f, 0, RAM), 0);
	start_iommu_ring(&f);
	offer_iova(&f, 0x42);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 0x42, OUT_AT);
	close_iommu(&f);
}

static void invalidations_of_every_length(void **state)
{
	struct gm_vhost_iotlb in;
	struct front f;

	(void)state;
	all_translated(&f);
	/* More than was there, to the last address, all of it in two ways. */
	for (int i = 0; i < 4; i++) {
		const uint64_t iova = i == 0 ? IOVA - PAGE : i == 1 ? IOVA : 0;
		const uint64_t len = i == 0   ? 4 * RAM
				     : i == 1 ? UINT64_MAX
				     : i == 2 ? UINT64_MAX
					      : 0;

		offer_iova(&f, (uint8_t)i);
		assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_INVALIDATE, iova, len, 0, 0), 0);
		assert_int_equal(f.dev.drains, i + 1);
		assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
		assert_int_equal(map(&f, 0, RAM), 0);
		assert_int_equal(dev_serve(&f.dev, 0), 1);
		take_back(&f, (uint8_t)i, OUT_AT);
		while (next_miss(&in))
			;
	}
	assert_int_equal(unmap(&f, 0, 0), -EINVAL);
	/* One page less. */
	assert_int_equal(unmap(&f, OUT_AT, PAGE), 0);
	offer_iova(&f, 9);
	assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
	assert_true(next_miss(&in));
	assert_int_equal(in.iova & ~(PAGE - 1), IOVA + OUT_AT);
	close_iommu(&f);
}

/* R26 */
static void translations_into_a_region_that_goes_are_forgotten(void **state)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	struct gm_vhost_region other = all;
	struct gm_vhost_iotlb in;
	struct front f;

	(void)state;
	all_translated(&f);
	assert_int_equal(ask_remove(&f, all), 0);
	/* The same guest addresses by other user addresses: the old translations do not lead there. */
	other.user += GIB(1);
	assert_int_equal(ask_add(&f, other, f.fd), 0);
	offer_iova(&f, 3);
	while (next_miss(&in))
		;
	assert_int_equal(map(&f, 0, RAM), -EINVAL);
	if (f.dev.runs[0])
		assert_int_equal(dev_serve(&f.dev, 0), -EAGAIN);
	assert_int_equal(ask_iotlb(&f, GM_VHOST_IOTLB_UPDATE, IOVA, RAM, USER + GIB(1), 3), 0);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 3, OUT_AT);
	close_iommu(&f);
}

/* What is written behind an IOMMU is logged by guest address, to the last byte of a region. */
static void the_log_has_guest_addresses(void **state)
{
	const struct gm_chain_elem elems[] = {{.gpa = IOVA + IN_AT, .len = 16},
		{.gpa = IOVA + RAM - 16, .len = 16, .flags = GM_CHAIN_WRITE}};
	struct gm_vhost_log log = {.len = PAGE};
	int fd = make_ram(PAGE, F_SEAL_SHRINK);
	uint8_t *bits = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	struct front f;

	(void)state;
	all_translated(&f);
	assert_int_equal(ask(&f, GM_VHOST_SET_LOG_BASE, &log, sizeof(log), &fd, 1), 0);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_FEATURES, f.features | GM_VHOST_F_LOG_ALL), 0);
	assert_int_equal(
		gm_virtq_driver_add(f.driver, gm_reader_enter(f.reader), elems, 2, 0, &f), 0);
	assert_true(gm_virtq_driver_show(f.driver, gm_reader_enter(f.reader)) >= 0);
	gm_reader_leave(f.reader);
	gm_reader_leave(f.reader);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	assert_int_equal(bits[(RAM - 1) / PAGE / 8], 0x80);
	assert_int_equal(bits[USED_AT / PAGE / 8], 1);
	close_iommu(&f);
	munmap(bits, PAGE);
	close(fd);
}

static void without_the_feature_there_is_no_iotlb(void **state)
{
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	assert_int_equal(map(&f, 0, RAM), -ENOTSUP);
	close_backend(&f);
}

/* ---- the channel ---- */

static int done_rc;
static int done_nr;
static int done_fd;

static void done(void *ctx, int rc, const struct gm_vhost_msg *reply, int fd)
{
	(void)ctx;
	(void)reply;
	done_rc = rc;
	done_fd = fd;
	done_nr++;
}

/* R24: nothing waits; replies come when they come. */
static void requests_of_the_device_are_answered_later(void **state)
{
	const struct gm_vhost_msg msg = {.request = GM_VHOST_BACKEND_CONFIG_CHANGE};
	const struct gm_vhost_msg bad = {.request = GM_VHOST_BACKEND_SHMEM_UNMAP, .len = 40};
	struct front f;
	uint8_t bytes[20] = {0};
	const uint32_t head[3] = {
		GM_VHOST_BACKEND_CONFIG_CHANGE, GM_VHOST_VERSION | GM_VHOST_REPLY, 8};

	(void)state;
	open_iommu(&f);
	done_nr = 0;
	assert_int_equal(gm_vhost_backend_request(f.b, &bad, NULL, 0, NULL, NULL, &err), -ENOTSUP);
	assert_int_equal(gm_vhost_backend_request(f.b, &msg, NULL, 0, done, NULL, &err), 0);
	assert_true(gm_vhost_backend_channel_event(f.b) > 0);
	assert_int_equal(done_nr, 0);
	assert_int_equal(recv(channel[0], bytes, 20, 0), 12);
	memcpy(bytes, head, 12);
	memset(bytes + 12, 0, 8);
	/* In two pieces. */
	assert_int_equal(send(channel[0], bytes, 7, 0), 7);
	gm_vhost_backend_channel_event(f.b);
	assert_int_equal(done_nr, 0);
	assert_int_equal(send(channel[0], bytes + 7, 13, 0), 13);
	assert_int_equal(gm_vhost_backend_channel_event(f.b), 0);
	assert_int_equal(done_nr, 1);
	assert_int_equal(done_rc, 0);
	/* A failure; and no more than 16 at once. */
	for (int i = 0; i < 16; i++)
		assert_int_equal(gm_vhost_backend_request(f.b, &msg, NULL, 0, done, NULL, &err), 0);
	assert_int_equal(gm_vhost_backend_request(f.b, &msg, NULL, 0, done, NULL, &err), -EAGAIN);
	bytes[12] = 1;
	assert_int_equal(send(channel[0], bytes, 20, 0), 20);
	gm_vhost_backend_channel_event(f.b);
	assert_int_equal(done_nr, 2);
	assert_int_equal(done_rc, -EREMOTEIO);
	/* What is no reply ends this socket, and all that waits at it. */
	bytes[0] = 99;
	assert_int_equal(send(channel[0], bytes, 20, 0), 20);
	gm_vhost_backend_channel_event(f.b);
	assert_int_equal(done_nr, 17);
	assert_int_equal(done_rc, -EPROTO);
	assert_int_equal(gm_vhost_backend_channel(f.b), -1);
	assert_int_equal(gm_vhost_backend_request(f.b, &msg, NULL, 0, NULL, NULL, &err), -ENOTCONN);
	close_iommu(&f);
}

static void a_front_end_that_never_reads_is_not_waited_for(void **state)
{
	const struct gm_vhost_msg msg = {.request = GM_VHOST_BACKEND_CONFIG_CHANGE};
	struct front f;
	int rc = 0;

	(void)state;
	open_iommu(&f);
	for (int i = 0; i < 1000000 && !rc; i++)
		rc = gm_vhost_backend_request(f.b, &msg, NULL, 0, NULL, NULL, &err);
	assert_int_equal(rc, -EAGAIN);
	/* The main socket is well. */
	assert_int_equal(map(&f, 0, RAM), 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_BACKEND_REQ_FD, "", 0, &f.kick, 1), -ENOTSOCK);
	close_iommu(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_missing_is_asked_for_and_waited_for),
		cmocka_unit_test(updates_lie_in_regions),
		cmocka_unit_test(invalidations_of_every_length),
		cmocka_unit_test(translations_into_a_region_that_goes_are_forgotten),
		cmocka_unit_test(the_log_has_guest_addresses),
		cmocka_unit_test(without_the_feature_there_is_no_iotlb),
		cmocka_unit_test(requests_of_the_device_are_answered_later),
		cmocka_unit_test(a_front_end_that_never_reads_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
