/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_backend.c - what is negotiated, what is answered, and when the device has a queue. */
#include "vhost_front.h"

static uint64_t ask_for(struct front *f, uint32_t request)
{
	assert_int_equal(say(f, request, "", 0, NULL, 0), 0);
	return said(f);
}

/* ---- features ---- */

static void only_what_is_offered_can_be_had(void **state)
{
	struct front f;
	uint64_t features;
	uint64_t protocol;

	(void)state;
	open_backend(&f, NULL);
	features = ask_for(&f, GM_VHOST_GET_FEATURES);
	assert_int_equal(
		features, ALL_FEATURES | GM_VHOST_F_PROTOCOL_FEATURES | GM_VHOST_F_LOG_ALL);
	protocol = ask_for(&f, GM_VHOST_GET_PROTOCOL_FEATURES);
	assert_int_equal(protocol & (P(PAGEFAULT) | P(XEN_MMAP) | P(CROSS_ENDIAN)), 0);
	assert_int_equal(protocol & P(CONFIGURE_MEM_SLOTS), P(CONFIGURE_MEM_SLOTS));
	assert_int_equal(ask_number(&f, GM_VHOST_SET_PROTOCOL_FEATURES, P(REPLY_ACK)), 0);
	for (int bit = 0; bit < 64; bit++) {
		const uint64_t one = UINT64_C(1) << bit;

		assert_int_equal(ask_number(&f, GM_VHOST_SET_PROTOCOL_FEATURES,
					 one | P(REPLY_ACK) | P(INFLIGHT_SHMFD)),
			protocol & one ? 0 : -EINVAL);
		assert_int_equal(
			ask_number(&f, GM_VHOST_SET_FEATURES, one), features & one ? 0 : -EINVAL);
	}
	assert_int_equal(f.dev.features, UINT64_C(1) << 34);
	f.dev.refuse = -EPERM;
	assert_int_equal(ask_number(&f, GM_VHOST_SET_FEATURES, 0), -EPERM);
	f.dev.refuse = 0;
	close_backend(&f);
}

/* R11: also before SET_FEATURES, and bit 30 is a bit, not a mask. */
static void protocol_features_come_first(void **state)
{
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_PROTOCOL_FEATURES, P(REPLY_ACK) | P(MQ)), 0);
	assert_int_equal(ask_for(&f, GM_VHOST_GET_QUEUE_NUM), QUEUES);
	/* All bits of the number 30, but not bit 30: rings are enabled by themselves. */
	assert_int_equal(ask_number(&f, GM_VHOST_SET_FEATURES, 0), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 0, 1), -EINVAL);
	share_ram(&f);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 0, NR), 0);
	assert_int_equal(ask_addr(&f, 0, 0, 0), 0);
	assert_false(f.dev.runs[0]);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), 0);
	assert_true(f.dev.runs[0]);
	close_backend(&f);
}

/* R21 */
static void post_copy_and_slots_are_not_offered_together(void **state)
{
	const struct gm_vhost_backend_opts opts = {.flags = GM_VHOST_BACKEND_POSTCOPY};
	struct front f;
	uint64_t protocol;

	(void)state;
	open_backend(&f, &opts);
	protocol = ask_for(&f, GM_VHOST_GET_PROTOCOL_FEATURES);
	assert_int_equal(protocol & (P(PAGEFAULT) | P(CONFIGURE_MEM_SLOTS)), P(PAGEFAULT));
	close_backend(&f);
}

static void a_message_needs_its_feature(void **state)
{
	static const uint32_t all[] = {GM_VHOST_GET_QUEUE_NUM, GM_VHOST_SET_LOG_BASE,
		GM_VHOST_SEND_RARP, GM_VHOST_NET_SET_MTU, GM_VHOST_SET_BACKEND_REQ_FD,
		GM_VHOST_IOTLB_MSG, GM_VHOST_SET_VRING_ENDIAN, GM_VHOST_GET_CONFIG,
		GM_VHOST_SET_CONFIG, GM_VHOST_POSTCOPY_ADVISE, GM_VHOST_POSTCOPY_LISTEN,
		GM_VHOST_POSTCOPY_END, GM_VHOST_GET_INFLIGHT_FD, GM_VHOST_SET_INFLIGHT_FD,
		GM_VHOST_RESET_DEVICE, GM_VHOST_VRING_KICK, GM_VHOST_GET_MAX_MEM_SLOTS,
		GM_VHOST_ADD_MEM_REG, GM_VHOST_REM_MEM_REG, GM_VHOST_SET_STATUS,
		GM_VHOST_GET_STATUS, GM_VHOST_GET_SHARED_OBJECT, GM_VHOST_SET_DEVICE_STATE_FD,
		GM_VHOST_CHECK_DEVICE_STATE, GM_VHOST_GET_SHMEM_CONFIG,
		GM_VHOST_GET_VRING_BASE_SKIP_DRAIN};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, P(REPLY_ACK));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const struct gm_vhost_kind *kind = gm_vhost_kind(GM_VHOST_FROM_FRONTEND, all[i]);
		struct gm_vhost_msg msg = {
			.request = all[i], .flags = GM_VHOST_VERSION, .len = kind->len_min};

		/* Whoever does not ask for an answer is cut off, or is told by an answer of its own. */
		assert_int_equal(say_raw(&f, &msg, &f.fd, kind->fds_min),
			kind->answer == GM_VHOST_ANSWER_DONE ? 0 : -ENOTSUP);
		msg.flags |= GM_VHOST_NEED_REPLY;
		if (kind->answer == GM_VHOST_ANSWER_OWN)
			continue;
		assert_int_equal(say_raw(&f, &msg, &f.fd, kind->fds_min), 0);
		assert_int_equal(said(&f), ENOTSUP);
	}
	close_backend(&f);
}

/* R4 */
static void an_answer_is_the_truth(void **state)
{
	struct gm_vhost_msg msg = {.request = GM_VHOST_SET_VRING_NUM,
		.flags = GM_VHOST_VERSION,
		.len = sizeof(msg.u.vring),
		.u.vring = {0, 64}};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	/* Without the feature nobody is answered, whatever the flag says. */
	msg.flags |= GM_VHOST_NEED_REPLY;
	assert_int_equal(say_raw(&f, &msg, NULL, 0), 0);
	assert_false(f.a.is);
	msg.u.vring.num = 65;
	assert_int_equal(say_raw(&f, &msg, NULL, 0), -EINVAL);
	assert_false(f.a.is);
	negotiate(&f, 0, P(REPLY_ACK));
	assert_int_equal(say_raw(&f, &msg, NULL, 0), 0);
	assert_int_equal(said(&f), EINVAL);
	assert_non_null(strstr(err.text, "65 entries"));
	msg.u.vring.num = 128;
	assert_int_equal(say_raw(&f, &msg, NULL, 0), 0);
	assert_int_equal(said(&f), 0);
	msg.flags = GM_VHOST_VERSION;
	assert_int_equal(say_raw(&f, &msg, NULL, 0), 0);
	assert_false(f.a.is);
	close_backend(&f);
}

static void what_nobody_knows_is_refused(void **state)
{
	struct gm_vhost_msg msg = {.request = 99, .flags = GM_VHOST_VERSION};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, P(REPLY_ACK));
	assert_int_equal(say_raw(&f, &msg, &f.fd, 1), -ENOTSUP);
	msg.flags |= GM_VHOST_NEED_REPLY;
	assert_int_equal(say_raw(&f, &msg, &f.fd, 1), 0);
	assert_int_equal(said(&f), ENOTSUP);
	msg.request = GM_VHOST_GPU_SET_SOCKET;
	assert_int_equal(say_raw(&f, &msg, &f.fd, 1), 0);
	assert_int_equal(said(&f), ENOTSUP);
	/* R1 */
	msg.flags = 2;
	assert_int_equal(say_raw(&f, &msg, NULL, 0), -EPROTO);
	close_backend(&f);
}

/* ---- the device ---- */

static void configuration_is_the_devices(void **state)
{
	struct gm_vhost_config config = {.off = 8, .len = 4, .bytes = {1, 2, 3, 4}};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_CONFIG, &config, 16, NULL, 0), 0);
	assert_int_equal(f.dev.config[9], 2);
	memset(config.bytes, 0xff, sizeof(config.bytes));
	assert_int_equal(say(&f, GM_VHOST_GET_CONFIG, &config, 16, NULL, 0), 0);
	assert_int_equal(f.a.msg.len, 16);
	assert_int_equal(f.a.msg.u.config.bytes[3], 4);
	/* Past its end: an empty answer; and a failure. */
	config.off = 62;
	assert_int_equal(say(&f, GM_VHOST_GET_CONFIG, &config, 16, NULL, 0), 0);
	assert_true(f.a.is);
	assert_int_equal(f.a.msg.len, 0);
	assert_int_equal(ask(&f, GM_VHOST_SET_CONFIG, &config, 16, NULL, 0), -EINVAL);
	config.off = UINT32_MAX;
	assert_int_equal(ask(&f, GM_VHOST_SET_CONFIG, &config, 16, NULL, 0), -EINVAL);
	close_backend(&f);
}

static void status_state_and_objects_are_passed_on(void **state)
{
	const uint64_t shmem[] = {MIB(1), 0, GIB(4)};
	const struct gm_vhost_backend_opts opts = {.shmem = shmem, .nr_shmem = 3};
	struct gm_vhost_device_state move = {0};
	uint8_t uuid[16] = {7};
	struct front f;
	char path[] = "/tmp/gm-vhost-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_STATUS, 15), 0);
	assert_int_equal(f.dev.status, 15);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_STATUS, 256), -EINVAL);
	assert_int_equal(ask_for(&f, GM_VHOST_GET_STATUS), 15);
	assert_int_equal(say(&f, GM_VHOST_GET_SHARED_OBJECT, uuid, 16, NULL, 0), 0);
	assert_int_equal(f.a.nr_fds, 1);
	close(f.a.fds[0]);
	uuid[0] = 8;
	assert_int_equal(say(&f, GM_VHOST_GET_SHARED_OBJECT, uuid, 16, NULL, 0), 0);
	assert_int_equal(f.a.nr_fds, 0);
	assert_int_equal(say(&f, GM_VHOST_GET_SHMEM_CONFIG, "", 0, NULL, 0), 0);
	assert_int_equal(f.a.msg.u.shmem.nr, 2);
	assert_int_equal(f.a.msg.u.shmem.len[2], GIB(4));
	memcpy(f.dev.config, "8 bytes!", 8);
	assert_int_equal(say(&f, GM_VHOST_SET_DEVICE_STATE_FD, &move, 8, &fd, 1), 0);
	assert_int_equal(said(&f), 0x100);
	assert_int_equal(say(&f, GM_VHOST_CHECK_DEVICE_STATE, "", 0, NULL, 0), 0);
	assert_int_equal(said(&f), 0);
	memset(f.dev.config, 0, 8);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	move.direction = 1;
	assert_int_equal(say(&f, GM_VHOST_SET_DEVICE_STATE_FD, &move, 8, &fd, 1), 0);
	assert_int_equal(said(&f), 0x100);
	assert_memory_equal(f.dev.config, "8 bytes!", 8);
	move.direction = 2;
	assert_int_equal(say(&f, GM_VHOST_SET_DEVICE_STATE_FD, &move, 8, &fd, 1), 0);
	assert_int_equal(said(&f), 0x101);
	f.dev.refuse = -EIO;
	assert_int_equal(say(&f, GM_VHOST_CHECK_DEVICE_STATE, "", 0, NULL, 0), 0);
	assert_int_equal(said(&f), 1);
	close_backend(&f);
	close(fd);
	unlink(path);
}

static void a_reset_stops_all_and_keeps_memory(void **state)
{
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	round_trip(&f, 9);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_STATUS, 15), 0);
	assert_int_equal(ask(&f, GM_VHOST_RESET_DEVICE, "", 0, NULL, 0), 0);
	assert_int_equal(f.dev.resets, 1);
	assert_false(f.dev.runs[0]);
	assert_int_equal(ask_for(&f, GM_VHOST_GET_STATUS), 0);
	make_driver(&f);
	start_ring(&f, 0, 0);
	round_trip(&f, 10);
	assert_int_equal(ask(&f, GM_VHOST_RESET_OWNER, "", 0, NULL, 0), 0);
	assert_false(f.dev.runs[0]);
	close_backend(&f);
}

/* ---- rings ---- */

static void chains_go_round_in_every_sort_of_ring(void **state)
{
	const uint64_t kinds[] = {0, F_EVENT, F_PACKED, F_PACKED | F_EVENT | F_INDIRECT};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct front f;

		open_front(&f, kinds[i], 0, NULL);
		for (unsigned int k = 0; k < 3 * NR; k++) {
			round_trip(&f, (uint8_t)k);
			assert_true(was_called(f.call) || kinds[i] & F_EVENT);
		}
		close_backend(&f);
	}
}

static void a_ring_goes_on_where_it_was_stopped(void **state)
{
	const uint64_t kinds[] = {0, F_PACKED};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct gm_vhost_vring_state get = {.index = 0};
		struct front f;

		open_front(&f, kinds[i], 0, NULL);
		for (unsigned int k = 0; k < 2 * NR; k++) {
			uint32_t base;

			round_trip(&f, (uint8_t)k);
			assert_int_equal(
				say(&f, GM_VHOST_GET_VRING_BASE, &get, sizeof(get), NULL, 0), 0);
			assert_false(f.dev.runs[0]);
			base = f.a.msg.u.vring.num;
			if (!kinds[i])
				assert_int_equal(base, k + 1);
			start_ring(&f, 0, base);
			assert_true(f.dev.runs[0]);
		}
		close_backend(&f);
	}
}

static void a_ring_runs_when_all_of_it_is_there(void **state)
{
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 1, f.kick), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 1, 1), 0);
	assert_int_equal(ask_addr(&f, 1, 0, 0), 0);
	share_ram(&f);
	assert_false(f.dev.runs[1]);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 1, NR), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 1, 1), 0);
	assert_true(f.dev.runs[1]);
	assert_int_equal(f.dev.queue[1].nr, NR);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 1, 0), 0);
	assert_false(f.dev.runs[1]);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 1, 2), -EINVAL);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 1, 1), 0);
	assert_true(f.dev.runs[1]);
	/* What cannot change under it. */
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 1, 2 * NR), -EBUSY);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_BASE, 1, 1), -EBUSY);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_FEATURES, 0), -EBUSY);
	assert_int_equal(ask_number(&f, GM_VHOST_SET_PROTOCOL_FEATURES, P(REPLY_ACK)), -EBUSY);
	close_backend(&f);
}

/* Each message with an index, by each index that there is not, and each size that cannot be. */
static void rings_that_do_not_exist_are_refused(void **state)
{
	const uint32_t wrong[] = {QUEUES, QUEUES + 1, 255, 256, 0x10000, UINT32_MAX};
	const uint32_t sizes[] = {0, 3, 65, 2048, 32769, 65536, UINT32_MAX};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	for (size_t i = 0; i < 6; i++) {
		const struct gm_vhost_vring_addr addr = {.index = wrong[i]};
		const struct gm_vhost_vring_state get = {.index = wrong[i]};
		const uint64_t number = wrong[i] & 0xff;

		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, wrong[i], 64), -EINVAL);
		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_BASE, wrong[i], 0), -EINVAL);
		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, wrong[i], 1), -EINVAL);
		assert_int_equal(
			ask(&f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), -EINVAL);
		assert_int_equal(
			say(&f, GM_VHOST_GET_VRING_BASE, &get, sizeof(get), NULL, 0), -EINVAL);
		if (number < QUEUES)
			continue;
		assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, number, f.kick), -EINVAL);
		assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_CALL, number, f.call), -EINVAL);
		assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_ERR, number, -1), -EINVAL);
	}
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 0, sizes[i]), -EINVAL);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_BASE, 0, 65536), -EINVAL);
	close_backend(&f);
}

/* DPDK's virtio-user tells no second place; also in the middle of a ring, and in its second lap. */
static void a_packed_ring_may_be_told_one_place(void **state)
{
	const int rounds[] = {0, 5, (int)NR - 1, 3 * (int)NR / 2};
	struct front f;

	(void)state;
	for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
		struct gm_vhost_vring_state get = {0};

		open_front(&f, F_PACKED, 0, NULL);
		for (int n = 0; n < rounds[i]; n++)
			round_trip(&f, (uint8_t)n);
		assert_int_equal(say(&f, GM_VHOST_GET_VRING_BASE, &get, sizeof(get), NULL, 0), 0);
		get = f.a.msg.u.vring;
		assert_int_equal(get.num >> 16, get.num & UINT16_MAX);
		start_ring(&f, 0, get.num & UINT16_MAX);
		assert_true(f.dev.runs[0]);
		for (int n = 0; n < 2 * (int)NR; n++)
			round_trip(&f, (uint8_t)n);
		close_backend(&f);
	}
}

/* As DPDK's virtio-user that listens, and is connected to by the next back-end: a base of 0 in a ring that was used. */
static void a_ring_that_another_left_goes_on_at_its_used_index(void **state)
{
	const struct gm_vhost_vring_state get = {0};
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	for (int n = 0; n < 2 * (int)NR + 3; n++)
		round_trip(&f, (uint8_t)n);
	/* Offered, and not taken: the next one finds it. */
	offer(&f, 77, IN_AT, OUT_AT);
	gm_vhost_backend_disconnect(f.b);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, i, 1), -EINVAL);
		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, i, 2), -EINVAL);
		/* Nothing asked for an answer that was agreed on, and nothing is wrong. */
		assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, i, 0), -ENOMSG);
		assert_int_equal(say(&f, GM_VHOST_GET_VRING_BASE, &get, sizeof(get), NULL, 0), 0);
		assert_true(f.a.is);
	}
	negotiate(&f, 0, 0);
	share_ram(&f);
	start_ring(&f, 0, 0);
	assert_true(f.dev.runs[0]);
	assert_int_equal(dev_serve(&f.dev, 0), 1);
	take_back(&f, 77, OUT_AT);
	for (int n = 0; n < 2 * (int)NR; n++)
		round_trip(&f, (uint8_t)n);
	close_backend(&f);
}

static void addresses_of_rings_are_aligned(void **state)
{
	const struct gm_vhost_vring_addr wrong[] = {
		{.desc = USER + 8, .avail = USER, .used = USER},
		{.desc = USER, .avail = USER + 1, .used = USER},
		{.desc = USER, .avail = USER, .used = USER + 2},
		{.flags = 2},
		{.flags = GM_VHOST_VRING_LOG, .log = UINT64_MAX},
	};
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(
			ask(&f, GM_VHOST_SET_VRING_ADDR, &wrong[i], sizeof(wrong[i]), NULL, 0),
			-EINVAL);
	close_backend(&f);
}

static void notifications_are_eventfds(void **state)
{
	const uint32_t all[] = {
		GM_VHOST_SET_VRING_KICK, GM_VHOST_SET_VRING_CALL, GM_VHOST_SET_VRING_ERR};
	int pair[2];
	struct front f;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	open_front(&f, 0, 0, NULL);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(ask_ring_fd(&f, all[i], 0, f.fd), -EINVAL);
		assert_int_equal(ask_ring_fd(&f, all[i], 0, pair[0]), -EINVAL);
	}
	/* What was there before is still in use. */
	round_trip(&f, 1);
	assert_true(was_called(f.call));
	close_backend(&f);
	close(pair[0]);
	close(pair[1]);
}

static void calls_go_where_they_were_sent_last(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int blocking = eventfd(0, EFD_CLOEXEC);
	struct front f;

	(void)state;
	open_front(&f, 0, 0, NULL);
	round_trip(&f, 1);
	assert_true(was_called(f.call));
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_CALL, 0, other), 0);
	assert_int_equal(f.dev.stops, 0);
	round_trip(&f, 2);
	assert_true(was_called(other));
	assert_false(was_called(f.call));
	/* A counter that is full, which would block. */
	assert_int_equal(write(blocking, &full, 8), 8);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_CALL, 0, blocking), 0);
	round_trip(&f, 3);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_CALL, 0, -1), 0);
	round_trip(&f, 4);
	assert_int_equal(gm_vhost_backend_error(f.b, 0), 0);
	assert_true(was_called(f.err));
	assert_int_equal(gm_vhost_backend_error(f.b, QUEUES), -EINVAL);
	close_backend(&f);
	close(other);
	close(blocking);
}

static void in_band_a_kick_starts_the_ring(void **state)
{
	const struct gm_vhost_backend_opts opts = {.flags = GM_VHOST_BACKEND_INBAND};
	const struct gm_vhost_vring_state kick = {.index = 0};
	struct front f;

	(void)state;
	open_backend(&f, &opts);
	negotiate(&f, 0, 0);
	share_ram(&f);
	make_driver(&f);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 0, NR), 0);
	assert_int_equal(ask_addr(&f, 0, 0, 0), 0);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, -1), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 0, 1), 0);
	assert_false(f.dev.runs[0]);
	assert_int_equal(ask(&f, GM_VHOST_VRING_KICK, &kick, sizeof(kick), NULL, 0), 0);
	assert_true(f.dev.runs[0]);
	assert_int_equal(f.dev.kicks, 1);
	assert_int_equal(f.dev.queue[0].kick, -1);
	close_backend(&f);
}

static void a_device_may_refuse_a_queue(void **state)
{
	struct front f;

	(void)state;
	open_backend(&f, NULL);
	negotiate(&f, 0, 0);
	share_ram(&f);
	f.dev.refuse = -EBUSY;
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_NUM, 0, NR), 0);
	assert_int_equal(ask_addr(&f, 0, 0, 0), 0);
	assert_int_equal(ask_ring(&f, GM_VHOST_SET_VRING_ENABLE, 0, 1), 0);
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), -EBUSY);
	f.dev.refuse = 0;
	assert_int_equal(ask_ring_fd(&f, GM_VHOST_SET_VRING_KICK, 0, f.kick), 0);
	assert_true(f.dev.runs[0]);
	close_backend(&f);
}

static void a_front_end_that_leaves_leaves_nothing(void **state)
{
	const size_t open = count_fds();
	struct gm_vhost_backend_info info = {.size = sizeof(info)};
	struct front f;
	size_t idle;

	(void)state;
	open_backend(&f, NULL);
	idle = count_fds();
	for (int i = 0; i < 20; i++) {
		negotiate(&f, i & 1 ? F_PACKED : 0, 0);
		share_ram(&f);
		make_driver(&f);
		start_ring(&f, 0, first_base(&f));
		round_trip(&f, (uint8_t)i);
		gm_vhost_backend_disconnect(f.b);
		assert_false(f.dev.runs[0]);
		assert_int_equal(f.dev.goes, i + 1);
		assert_int_equal(count_fds(), idle);
		assert_int_equal(gm_vhost_backend_info(f.b, &info), 0);
		assert_int_equal(info.features | info.protocol | info.regions | info.running, 0);
	}
	close_backend(&f);
	assert_int_equal(count_fds(), open);
}

static void options_are_checked(void **state)
{
	const struct gm_vhost_backend_ops none = {.size = sizeof(none)};
	const struct gm_vhost_backend_opts good = {.size = sizeof(good), .ops = &dev_ops};
	struct gm_vhost_backend_opts bad[6] = {good, good, good, good, good, good};
	struct gm_vhost_backend *b = NULL;

	(void)state;
	bad[0].ops = NULL;
	bad[1].ops = &none;
	bad[2].queues = GM_VHOST_QUEUES_MAX + 1;
	bad[3].queue_size = GM_VIRTQ_NR_MAX + 1;
	bad[4].flags = 0x8000;
	bad[5].protocol = P(MQ);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(gm_vhost_backend_create(&bad[i], &b, &err), -EINVAL);
	assert_null(b);
	gm_vhost_backend_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_is_offered_can_be_had),
		cmocka_unit_test(protocol_features_come_first),
		cmocka_unit_test(post_copy_and_slots_are_not_offered_together),
		cmocka_unit_test(a_message_needs_its_feature),
		cmocka_unit_test(an_answer_is_the_truth),
		cmocka_unit_test(what_nobody_knows_is_refused),
		cmocka_unit_test(configuration_is_the_devices),
		cmocka_unit_test(status_state_and_objects_are_passed_on),
		cmocka_unit_test(a_reset_stops_all_and_keeps_memory),
		cmocka_unit_test(chains_go_round_in_every_sort_of_ring),
		cmocka_unit_test(a_ring_goes_on_where_it_was_stopped),
		cmocka_unit_test(a_ring_runs_when_all_of_it_is_there),
		cmocka_unit_test(rings_that_do_not_exist_are_refused),
		cmocka_unit_test(a_packed_ring_may_be_told_one_place),
		cmocka_unit_test(a_ring_that_another_left_goes_on_at_its_used_index),
		cmocka_unit_test(addresses_of_rings_are_aligned),
		cmocka_unit_test(notifications_are_eventfds),
		cmocka_unit_test(calls_go_where_they_were_sent_last),
		cmocka_unit_test(in_band_a_kick_starts_the_ring),
		cmocka_unit_test(a_device_may_refuse_a_queue),
		cmocka_unit_test(a_front_end_that_leaves_leaves_nothing),
		cmocka_unit_test(options_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
