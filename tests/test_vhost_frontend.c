/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_frontend.c - a front-end of vhost-user with a back-end that plays along. */
#include "one_vhost.h"

static struct gm_vhost_frontend_info info(void)
{
	struct gm_vhost_frontend_info got = {.size = sizeof(got)};

	assert_int_equal(gm_vhost_frontend_info(fe, &got), 0);
	return got;
}

static void what_is_agreed_on_comes_in_order(void **state)
{
	static const uint32_t order[] = {GM_VHOST_GET_FEATURES, GM_VHOST_GET_PROTOCOL_FEATURES,
		GM_VHOST_SET_PROTOCOL_FEATURES, GM_VHOST_GET_QUEUE_NUM, GM_VHOST_GET_MAX_MEM_SLOTS,
		GM_VHOST_SET_BACKEND_REQ_FD, GM_VHOST_SET_OWNER, GM_VHOST_SET_FEATURES};
	struct gm_vhost_frontend_info got;

	(void)state;
	begin();
	fake_start(fake);
	assert_ok(
		gm_vhost_frontend_create(FRONT(.features = VERSION_1, .slots_max = 20), &fe, &err));
	assert_int_equal(fake->nr, 8);
	assert_memory_equal(fake->notes, order, sizeof(order));
	got = info();
	assert_int_equal(got.features, GM_VHOST_F_PROTOCOL_FEATURES | VERSION_1);
	assert_int_equal(got.protocol, FAKE_PROTOCOL & ~(1u << GM_VHOST_PROTOCOL_PAGEFAULT));
	assert_int_equal(got.slots, 20);
	assert_int_equal(got.queues, 8);
	assert_int_equal(got.connected, 1);
	finish();
}

static void a_back_end_that_lacks_what_is_needed_is_refused(void **state)
{
	(void)state;
	begin();
	fake->features = 1;
	fake_start(fake);
	assert_fails(gm_vhost_frontend_create(
			     FRONT(.features = VERSION_1, .needed = VERSION_1), &fe, &err),
		ENOTSUP, "lacks features 0x100000000");
	assert_fails(gm_vhost_frontend_create(FRONT(.protocol_needed = 8), &fe, &err), ENOTSUP,
		"lacks protocol features 0x8");
	assert_ok(gm_vhost_frontend_create(FRONT(.name = "old"), &fe, &err));
	assert_int_equal(info().protocol, 0);
	assert_int_equal(info().slots, 8);
	assert_fails(gm_vhost_frontend_reset(fe, &err), ENOTSUP, "RESET_DEVICE");
	finish();
}

static void wrong_options_are_refused(void **state)
{
	(void)state;
	begin();
	fake_start(fake);
	assert_fails(gm_vhost_frontend_create(FRONT(.rings = 257), &fe, &err), EINVAL, "rings");
	assert_fails(gm_vhost_frontend_create(FRONT(.needed = 1), &fe, &err), EINVAL, "needed");
	assert_fails(gm_vhost_frontend_create(FRONT(.rings = 9), &fe, &err), ENOTSUP, "8 queues");
	assert_fails(gm_vhost_frontend_create(FRONT(.path = "/nonexistent/socket"), &fe, &err),
		ENOENT, "/nonexistent/socket");
	fake_end(fake);
	stop();
}

/* ---- memory ---- */

static void the_table_follows_the_map(void **state)
{
	uint64_t id;

	(void)state;
	begin();
	add_shared(0, MIB(1));
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_int_equal(fake->nr_regions, 1);
	id = add_shared(GIB(4), MIB(2));
	assert_int_equal(fake->nr_regions, 2);
	assert_int_equal(fake->regions[1].gpa, GIB(4));
	assert_int_equal(fake->regions[1].user, GIB(4));
	assert_int_equal(fake->regions[1].len, MIB(2));
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(fake->nr_regions, 1);
	assert_int_equal(fake_count(fake, GM_VHOST_ADD_MEM_REG), 2);
	assert_int_equal(fake_count(fake, GM_VHOST_REM_MEM_REG), 1);
	assert_int_equal(fake_count(fake, GM_VHOST_SET_MEM_TABLE), 0);
	assert_fails(gm_vhost_frontend_attach(fe, space, &err), EBUSY, "has a space");
	finish();
}

static void without_slots_the_whole_table_is_sent(void **state)
{
	(void)state;
	begin();
	fake->protocol &= ~(1u << GM_VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS);
	fake->slots = 8;
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	for (uint64_t i = 0; i < 8; i++)
		add_shared(i * MIB(2), MIB(1));
	assert_int_equal(fake->nr_regions, 8);
	assert_int_equal(fake_count(fake, GM_VHOST_SET_MEM_TABLE), 8);
	assert_fails(gm_space_add(space, DESC(.gpa = GIB(1), .backing = SHARED(PAGE)), NULL, &err),
		ENOSPC, "9 regions, and the back-end takes 8");
	assert_int_equal(fake_count(fake, GM_VHOST_SET_MEM_TABLE), 8);
	finish();
}

static void a_refusal_of_the_back_end_is_one_of_the_transaction(void **state)
{
	struct gm_txn *txn;

	(void)state;
	begin();
	add_shared(0, MIB(1));
	fake->refuse = GM_VHOST_ADD_MEM_REG;
	fake->refuse_nr = 3;
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_ok(gm_txn_begin(space, &txn, &err));
	for (uint64_t i = 1; i < 4; i++)
		assert_ok(gm_txn_add(
			txn, DESC(.gpa = i * MIB(2), .backing = SHARED(MIB(1))), NULL, &err));
	assert_fails(gm_txn_commit(txn, &err), EREMOTEIO, "ADD_MEM_REG: refused by the back-end");
	assert_int_equal(fake->nr_regions, 1);
	assert_int_equal(fake->regions[0].gpa, 0);
	/* The next try comes about. */
	assert_ok(gm_txn_commit(txn, &err));
	assert_int_equal(fake->nr_regions, 4);
	assert_int_equal(info().connected, 1);
	finish();
}

static int refuse(void *ctx, const struct gm_change *changes, size_t nr, struct gm_error *why)
{
	(void)changes;
	(void)nr;
	(void)why;
	return *(int *)ctx;
}

static void what_somebody_else_refuses_is_taken_back(void **state)
{
	int code = 0;
	const struct gm_listener_ops ops = {.size = sizeof(ops),
		.name = "no",
		.priority = 100,
		.prepare = refuse,
		.ctx = &code};
	struct gm_listener *no;

	(void)state;
	begin();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_ok(gm_listener_create(space, &ops, &no, &err));
	add_shared(0, MIB(1));
	code = -EPERM;
	assert_int_equal(
		gm_space_add(space, DESC(.gpa = GIB(1), .backing = SHARED(PAGE)), NULL, &err),
		-EPERM);
	assert_int_equal(fake->nr_regions, 1);
	assert_int_equal(fake_count(fake, GM_VHOST_REM_MEM_REG), 1);
	assert_int_equal(info().regions, 1);
	code = 0;
	add_shared(GIB(1), PAGE);
	assert_int_equal(fake->nr_regions, 2);
	assert_ok(gm_listener_destroy(no, &err));
	finish();
}

static void memory_without_a_file_is_refused(void **state)
{
	(void)state;
	begin();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_fails(gm_space_add(space, DESC(.backing = BLOCK(.len = PAGE)), NULL, &err), ENOTSUP,
		"no file that can be shared");
	assert_int_equal(fake->nr_regions, 0);
	finish();
}

/* ---- rings ---- */

static void a_ring_is_told_and_stays_where_it_is(void **state)
{
	struct gm_vhost_frontend_ring ring = ring_at(MIB(1));
	uint64_t id;
	uint32_t base = 0;
	unsigned int num;

	(void)state;
	begin();
	add_shared(0, PAGE);
	id = add_shared(MIB(1), MIB(1));
	ring.kick = eventfd(0, EFD_CLOEXEC);
	ring.base = 5;
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_fails(gm_vhost_frontend_ring_stop(fe, 1, NULL, &err), ENOENT, "not started");
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_ok(gm_vhost_frontend_ring_start(fe, 1, &ring, &err));
	assert_fails(gm_vhost_frontend_ring_start(fe, 1, &ring, &err), EBUSY, "is started");
	num = fake_first(fake, GM_VHOST_SET_VRING_NUM);
	assert_true(num < fake_first(fake, GM_VHOST_SET_VRING_BASE));
	assert_true(fake_first(fake, GM_VHOST_SET_VRING_BASE) <
		    fake_first(fake, GM_VHOST_SET_VRING_ADDR));
	assert_true(fake_first(fake, GM_VHOST_SET_VRING_ADDR) <
		    fake_first(fake, GM_VHOST_SET_VRING_KICK));
	assert_true(fake_first(fake, GM_VHOST_SET_VRING_KICK) <
		    fake_first(fake, GM_VHOST_SET_VRING_ENABLE));
	assert_int_equal(fake->addr.desc, MIB(1));
	assert_int_equal(fake->addr.flags, 0);
	assert_int_equal(fake->base.num, 5);
	assert_fails(gm_space_remove(space, id, &err), EBUSY, "ring 1 has its descriptors");
	assert_int_equal(fake->nr_regions, 2);
	assert_ok(gm_vhost_frontend_ring_enable(fe, 1, false, &err));
	assert_ok(gm_vhost_frontend_ring_stop(fe, 1, &base, &err));
	assert_int_equal(base, 7);
	assert_ok(gm_space_remove(space, id, &err));
	ring.kick = -1;
	assert_fails(gm_vhost_frontend_ring_start(fe, 1, &ring, &err), EFAULT, "in no region");
	ring.num = 0;
	assert_fails(gm_vhost_frontend_ring_start(fe, 1, &ring, &err), EINVAL, "0 entries");
	finish();
}

/* ---- the log ---- */

static void what_the_back_end_wrote_is_marked(void **state)
{
	struct gm_vhost_frontend_ring ring = ring_at(MIB(1));
	struct gm_log *log;
	uint64_t pages = 0;
	uint64_t id;
	unsigned int grown;

	(void)state;
	begin();
	add_shared(0, MIB(4));
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_fails(gm_vhost_frontend_log_start(fe, &err), EINVAL, "no memory");
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_ok(gm_vhost_frontend_ring_start(fe, 0, &ring, &err));
	assert_ok(gm_log_create(space, GM_OPTS(gm_log_opts, .page_size = PAGE), &log, &err));
	assert_fails(gm_vhost_frontend_log_sync(fe, &pages, &err), EINVAL, "no log");
	assert_ok(gm_vhost_frontend_log_start(fe, &err));
	assert_fails(gm_vhost_frontend_log_start(fe, &err), EALREADY, "there is a log");
	assert_int_equal(fake->addr.flags, GM_VHOST_VRING_LOG);
	fake->log[0] |= 1 << 3;
	fake->log[MIB(4) / PAGE / 8 - 1] |= 1 << 7;
	assert_ok(gm_vhost_frontend_log_sync(fe, &pages, &err));
	assert_int_equal(pages, 2);
	assert_int_equal(gm_log_count(log, 0, 0), 2);
	assert_int_equal(gm_log_count(log, 3 * PAGE, PAGE), 1);
	assert_int_equal(gm_log_count(log, MIB(4) - PAGE, PAGE), 1);
	/* A longer one, ahead of the table; a shorter one behind it. */
	id = add_shared(GIB(8), MIB(1));
	grown = fake->nr - 2;
	assert_int_equal(fake->notes[grown], GM_VHOST_SET_LOG_BASE);
	assert_int_equal(fake->notes[grown + 1], GM_VHOST_ADD_MEM_REG);
	assert_true(fake->log_len * 8 * PAGE >= GIB(8) + MIB(1));
	fake->log[GIB(8) / PAGE / 8] |= 1;
	assert_ok(gm_space_remove(space, id, &err));
	assert_int_equal(fake->notes[grown + 2], GM_VHOST_REM_MEM_REG);
	assert_int_equal(fake->notes[grown + 3], GM_VHOST_SET_LOG_BASE);
	assert_ok(gm_vhost_frontend_log_sync(fe, &pages, &err));
	assert_int_equal(pages, 1);
	fake->log[1] = 1;
	assert_ok(gm_vhost_frontend_log_stop(fe, &err));
	assert_int_equal(gm_log_count(log, 8 * PAGE, PAGE), 1);
	assert_int_equal(fake->addr.flags, 0);
	assert_int_equal(info().log_len, 0);
	assert_ok(gm_log_destroy(log, &err));
	finish();
}

/* ---- translations ---- */

static void send_on_channel(struct gm_vhost_msg *msg, const int *fds, unsigned int nr)
{
	uint8_t bytes[64];

	fake_send(fake->channel, bytes, fake_bytes(msg, bytes), fds, nr);
}

static uint64_t answer_on_channel(uint32_t request, int *ret_fd)
{
	struct gm_vhost_msg reply;
	char room[CMSG_SPACE(sizeof(int))];
	struct iovec iov[2] = {{&reply, GM_VHOST_HEADER}, {&reply.u, 8}};
	struct msghdr head = {.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = room,
		.msg_controllen = sizeof(room)};
	struct cmsghdr *c;

	assert_int_equal(recvmsg(fake->channel, &head, MSG_CMSG_CLOEXEC), 20);
	assert_int_equal(reply.request, request);
	assert_int_equal(reply.flags, GM_VHOST_VERSION | GM_VHOST_REPLY);
	c = CMSG_FIRSTHDR(&head);
	if (c && ret_fd)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return reply.u.number;
}

static void misses_are_answered_by_translations(void **state)
{
	const struct gm_vhost_iotlb gone = {
		.iova = MIB(100), .len = PAGE, .type = GM_VHOST_IOTLB_INVALIDATE};
	struct gm_vhost_iotlb bad = gone;

	(void)state;
	begin();
	add_shared(0, MIB(4));
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(
		FRONT(.features = GM_VHOST_F_IOMMU_PLATFORM | VERSION_1), &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	fake->miss_iova = MIB(100);
	fake_miss(fake, true);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(answer_on_channel(GM_VHOST_BACKEND_IOTLB_MSG, NULL), 0);
	assert_int_equal(fake->iotlb.iova, MIB(100));
	assert_int_equal(fake->iotlb.user, 0);
	assert_int_equal(fake->iotlb.len, PAGE);
	assert_int_equal(fake->iotlb.type, GM_VHOST_IOTLB_UPDATE);
	assert_ok(gm_vhost_frontend_iotlb(fe, &gone, &err));
	assert_int_equal(fake->iotlb.type, GM_VHOST_IOTLB_INVALIDATE);
	bad.type = GM_VHOST_IOTLB_MISS;
	assert_fails(gm_vhost_frontend_iotlb(fe, &bad, &err), EINVAL, "no translation");
	/* There is none. */
	fake->miss_iova = MIB(9);
	fake_miss(fake, true);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(answer_on_channel(GM_VHOST_BACKEND_IOTLB_MSG, NULL), 1);
	assert_int_equal(fake_count(fake, GM_VHOST_IOTLB_MSG), 2);
	/* While something else is asked: it goes out behind the answer. */
	fake->miss_iova = MIB(101);
	fake->miss_in = GM_VHOST_GET_STATUS;
	assert_ok(gm_vhost_frontend_status_get(fe, &fake->status, &err));
	while (seen.misses < 3)
		assert_true(gm_vhost_frontend_step(fe, 20000, &err) >= 0);
	assert_int_equal(fake->iotlb.iova, MIB(101));
	assert_int_equal(info().misses, 2);
	finish();
}

/* ---- what the back-end asks ---- */

static void requests_of_the_back_end_are_done(void **state)
{
	struct gm_vhost_msg msg = {.flags = GM_VHOST_VERSION};
	int fd = -1;

	(void)state;
	begin();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_int_equal(gm_vhost_frontend_step(fe, 0, &err), 0);
	msg.request = GM_VHOST_BACKEND_CONFIG_CHANGE;
	send_on_channel(&msg, NULL, 0);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(seen.config, 1);
	/* It cannot be asked for something from there. */
	assert_int_equal(seen.nested, -EDEADLK);
	msg.request = GM_VHOST_BACKEND_SHMEM_MAP;
	msg.flags |= GM_VHOST_NEED_REPLY;
	msg.len = sizeof(msg.u.map);
	msg.u.map = (struct gm_vhost_shmem_map){.id = 3, .len = PAGE};
	send_on_channel(&msg, &fake->sock, 1);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(answer_on_channel(msg.request, NULL), 0);
	msg.u.map.id = 4;
	send_on_channel(&msg, &fake->sock, 1);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(answer_on_channel(msg.request, NULL), 1);
	msg.request = GM_VHOST_BACKEND_SHMEM_UNMAP;
	send_on_channel(&msg, NULL, 0);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(answer_on_channel(msg.request, NULL), 0);
	msg.request = GM_VHOST_BACKEND_SHARED_OBJECT_LOOKUP;
	msg.len = 16;
	msg.flags = GM_VHOST_VERSION;
	msg.u.uuid[0] = 77;
	send_on_channel(&msg, NULL, 0);
	assert_int_equal(gm_vhost_frontend_step(fe, 20000, &err), 1);
	assert_int_equal(answer_on_channel(msg.request, &fd), 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), 77);
	close(fd);
	assert_int_equal(seen.maps, 2);
	assert_int_equal(seen.unmaps, 1);
	finish();
}

/* ---- the device ---- */

static void a_device_is_asked(void **state)
{
	struct gm_vhost_shmem_config shmem;
	uint8_t bytes[16] = {0};
	uint8_t status = 0;
	int fd = -1;

	(void)state;
	begin();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_config_get(fe, 4, bytes, sizeof(bytes), &err));
	assert_int_equal(bytes[15], 0x5a);
	assert_fails(gm_vhost_frontend_config_get(fe, 0, bytes, 0, &err), EINVAL, "0 bytes");
	assert_fails(
		gm_vhost_frontend_config_set(fe, 0, bytes, 257, false, &err), EINVAL, "257 bytes");
	assert_ok(gm_vhost_frontend_config_set(fe, 0, bytes, 4, true, &err));
	assert_ok(gm_vhost_frontend_status_set(fe, 0x0f, &err));
	assert_ok(gm_vhost_frontend_status_get(fe, &status, &err));
	assert_int_equal(status, 0x0f);
	assert_ok(gm_vhost_frontend_shmem(fe, &shmem, &err));
	assert_int_equal(shmem.len[3], MIB(1));
	assert_ok(gm_vhost_frontend_state(fe, false, fake->theirs, &fd, &err));
	assert_int_equal(fd, -1);
	assert_ok(gm_vhost_frontend_state_check(fe, &err));
	assert_fails(gm_vhost_frontend_postcopy_advise(fe, &fd, &err), ENOTSUP, "POSTCOPY_ADVISE");
	assert_ok(gm_vhost_frontend_reset(fe, &err));
	finish();
}

/* ---- post-copy ---- */

static int on_mapped(void *ctx, const struct gm_vhost_region *region, uint64_t base)
{
	/* The back-end waits. */
	assert_true(fake_count(fake, GM_VHOST_SET_MEM_TABLE) <= 1);
	assert_true(base >= FAKE_BASE && region->len);
	++*(unsigned int *)ctx;
	return 0;
}

static void post_copy_learns_the_back_ends_addresses(void **state)
{
	unsigned int mapped = 0;
	uint64_t gpa = 0;
	int fd = -1;

	(void)state;
	begin();
	add_shared(0, MIB(1));
	add_shared(GIB(4), MIB(2));
	fake->slots = 8;
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(FRONT(.protocol = FAKE_PROTOCOL), &fe, &err));
	assert_false(info().protocol >> GM_VHOST_PROTOCOL_CONFIGURE_MEM_SLOTS & 1);
	assert_fails(gm_vhost_frontend_postcopy_listen(fe, NULL, NULL, &err), EINVAL, "advised");
	assert_ok(gm_vhost_frontend_postcopy_advise(fe, &fd, &err));
	close(fd);
	assert_ok(gm_vhost_frontend_postcopy_listen(fe, on_mapped, &mapped, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	/* The table, and that it may go on. */
	assert_ok(gm_vhost_frontend_config_set(fe, 0, &mapped, 4, false, &err));
	assert_int_equal(fake_count(fake, GM_VHOST_SET_MEM_TABLE), 2);
	assert_int_equal(mapped, 2);
	assert_int_equal(gm_vhost_frontend_postcopy_gpa(fe, FAKE_BASE + 5, &gpa), 0);
	assert_int_equal(gpa, 5);
	assert_int_equal(
		gm_vhost_frontend_postcopy_gpa(fe, FAKE_BASE + GIB(64) + MIB(2) - 1, &gpa), 0);
	assert_int_equal(gpa, GIB(4) + MIB(2) - 1);
	assert_int_equal(
		gm_vhost_frontend_postcopy_gpa(fe, FAKE_BASE + GIB(64) + MIB(2), &gpa), -ENOENT);
	assert_ok(gm_vhost_frontend_postcopy_end(fe, &err));
	assert_fails(gm_vhost_frontend_postcopy_end(fe, &err), EINVAL, "advised");
	finish();
}

/* ---- a back-end that goes ---- */

static void all_is_told_again_after_a_loss(void **state)
{
	struct gm_vhost_frontend_ring ring = ring_at(MIB(1));
	const uint16_t used = 9;
	struct fake *old;

	(void)state;
	begin();
	add_shared(0, MIB(4));
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_ok(gm_vhost_frontend_inflight(fe, 16, &err));
	assert_ok(gm_vhost_frontend_ring_start(fe, 0, &ring, &err));
	assert_fails(gm_vhost_frontend_inflight(fe, 16, &err), EBUSY, "ring 0 is started");
	assert_ok(gm_vhost_frontend_log_start(fe, &err));
	assert_ok(gm_vhost_frontend_status_set(fe, 4, &err));
	shutdown(fake->sock, SHUT_RDWR);
	assert_fails(gm_vhost_frontend_step(fe, 20000, &err), ECONNRESET, "closed it");
	assert_fails(gm_vhost_frontend_status_set(fe, 5, &err), ENOTCONN, "no connection");
	/* The map goes on without it. */
	add_shared(GIB(1), MIB(1));
	assert_int_equal(
		gm_write(gm_reader_enter(reader), ring.used + 2, &used, sizeof(used), NULL), 0);
	gm_reader_leave(reader);
	old = fake;
	fake = fake_new();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_reconnect(fe, fake->theirs, &err));
	assert_int_equal(fake->nr_regions, 2);
	assert_int_equal(fake->status, 4);
	assert_int_equal(fake->base.num, 9);
	assert_int_equal(fake->addr.flags, GM_VHOST_VRING_LOG);
	assert_true(fake_first(fake, GM_VHOST_SET_OWNER) < fake_first(fake, GM_VHOST_SET_LOG_BASE));
	assert_true(
		fake_first(fake, GM_VHOST_SET_LOG_BASE) < fake_first(fake, GM_VHOST_ADD_MEM_REG));
	assert_true(fake_first(fake, GM_VHOST_ADD_MEM_REG) <
		    fake_first(fake, GM_VHOST_SET_INFLIGHT_FD));
	assert_true(fake_first(fake, GM_VHOST_SET_INFLIGHT_FD) <
		    fake_first(fake, GM_VHOST_SET_VRING_NUM));
	fake_end(old);
	/* One that can less is not taken. */
	old = fake;
	fake = fake_new();
	fake->slots = 31;
	fake_start(fake);
	assert_fails(
		gm_vhost_frontend_reconnect(fe, fake->theirs, &err), ENOTSUP, "GET_MAX_MEM_SLOTS");
	assert_int_equal(info().connected, 0);
	fake_end(old);
	assert_fails(gm_vhost_frontend_reconnect(fe, -1, &err), EINVAL, "neither");
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_agreed_on_comes_in_order),
		cmocka_unit_test(a_back_end_that_lacks_what_is_needed_is_refused),
		cmocka_unit_test(wrong_options_are_refused),
		cmocka_unit_test(the_table_follows_the_map),
		cmocka_unit_test(without_slots_the_whole_table_is_sent),
		cmocka_unit_test(a_refusal_of_the_back_end_is_one_of_the_transaction),
		cmocka_unit_test(what_somebody_else_refuses_is_taken_back),
		cmocka_unit_test(memory_without_a_file_is_refused),
		cmocka_unit_test(a_ring_is_told_and_stays_where_it_is),
		cmocka_unit_test(what_the_back_end_wrote_is_marked),
		cmocka_unit_test(misses_are_answered_by_translations),
		cmocka_unit_test(requests_of_the_back_end_are_done),
		cmocka_unit_test(a_device_is_asked),
		cmocka_unit_test(post_copy_learns_the_back_ends_addresses),
		cmocka_unit_test(all_is_told_again_after_a_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
