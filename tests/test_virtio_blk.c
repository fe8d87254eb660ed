/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtio_blk.c - a block device on a disk in memory: what the driver is told, random work against a model in each
 * sort of queue, chains cut in all ways, disks that fail, wait, or take aligned memory only.
 */
#include "one_blk.h"

/* ---- what the driver is told ---- */

static uint64_t config(uint32_t off, uint32_t len)
{
	uint64_t value = 0;

	gm_virtio_blk_config_read(blk, off, &value, len);
	return le64toh(value);
}

static void the_configuration_is_that_of_the_disk(void **state)
{
	uint64_t all = 0;
	uint8_t one = 1;
	uint8_t zero = 0;

	(void)state;
	start_device(mem_disk(), 8, 0);
	all = gm_virtio_blk_features(blk);
	assert_true(all & GM_VIRTIO_BLK_F_DISCARD && all & GM_VIRTIO_BLK_F_FLUSH);
	assert_false(all & GM_VIRTIO_BLK_F_RO);
	assert_int_equal(config(0, 8), SECTORS);
	assert_int_equal(config(12, 4), 126);
	assert_int_equal(config(20, 4), 512);
	assert_int_equal(config(32, 1), 1);
	assert_int_equal(config(34, 2), 1);
	assert_int_equal(config(36, 4), (1u << 30) / 512);
	assert_int_equal(config(40, 4), 16);
	assert_int_equal(config(48, 4), (1u << 30) / 512);
	assert_int_equal(config(56, 1), 1);
	/* In pieces, and behind the end. */
	assert_int_equal(config(1, 3), SECTORS >> 8);
	assert_int_equal(config(58, 8), 0);
	assert_int_equal(config(UINT32_MAX, 8), 0);
	/* One field can be written. */
	assert_int_equal(gm_virtio_blk_config_write(blk, 32, &zero, 1), 0);
	assert_int_equal(config(32, 1), 0);
	assert_int_equal(gm_virtio_blk_config_write(blk, 32, "\2", 1), -EINVAL);
	assert_int_equal(gm_virtio_blk_config_write(blk, 0, &one, 1), -EINVAL);
	assert_int_equal(config(32, 1), 0);
	assert_int_equal(gm_virtio_blk_config_write(blk, 32, &one, 1), 0);
	assert_fails(gm_virtio_blk_accept(blk, GM_VIRTIO_BLK_F_RO, &err), EINVAL, "0x20");
	stop_device();
}

static void a_disk_that_grows_is_told(void **state)
{
	uint8_t bytes[SECTOR] = {0};

	(void)state;
	start_device(mem_disk(), 8, 0);
	mem.info.len = DISK_LEN / 2;
	assert_int_equal(gm_virtio_blk_resize(blk), 1);
	assert_int_equal(gm_virtio_blk_resize(blk), 0);
	assert_int_equal(config(0, 8), SECTORS / 2);
	assert_int_equal(read_sectors(SECTORS / 2, bytes, SECTOR, 0), 1);
	mem.info.len = DISK_LEN;
	assert_int_equal(gm_virtio_blk_resize(blk), 1);
	assert_int_equal(read_sectors(SECTORS / 2, bytes, SECTOR, 0), 0);
	stop_device();
}

static void a_disk_for_reading_refuses_the_rest(void **state)
{
	const struct segment segment = {0, 8, 0};
	struct gm_disk *d = mem_disk();
	uint8_t bytes[SECTOR] = {0};

	(void)state;
	gm_disk_destroy(d);
	mem.info.flags = GM_DISK_READ_ONLY;
	{
		const struct gm_disk_ops ops = {sizeof(ops), "memory", mem_look, mem_open,
			mem_close, mem_start, mem_step, mem_fd, NULL, &mem};

		assert_ok(gm_disk_create(&ops, &d, &err));
	}
	start_device(d, 8, 0);
	assert_true(gm_virtio_blk_features(blk) & GM_VIRTIO_BLK_F_RO);
	assert_false(gm_virtio_blk_features(blk) &
		     (GM_VIRTIO_BLK_F_DISCARD | GM_VIRTIO_BLK_F_WRITE_ZEROES));
	assert_int_equal(write_sectors(0, bytes, SECTOR, 0), 1);
	assert_int_equal(send_segments(DISCARD, &segment, 1, 0), 2);
	assert_int_equal(send_segments(ZEROES, &segment, 1, 0), 2);
	assert_int_equal(read_sectors(0, bytes, SECTOR, 0), 0);
	assert_int_equal(flush_device(0), 0);
	assert_int_equal(stats_of().errors, 3);
	assert_int_equal(stats_of().bad, 0);
	stop_device();
}

/* ---- single requests ---- */

static void the_serial_number_is_told_in_any_room(void **state)
{
	static const size_t rooms[] = {1, 5, 19, 20, 21, 100};
	struct rng rng = {test_seed(5)};

	(void)state;
	start_device(mem_disk(), 128, 0);
	for (size_t i = 0; i < sizeof(rooms) / sizeof(*rooms); i++) {
		struct line *l = new_line();
		char bytes[100];
		size_t len = rooms[i] < 20 ? rooms[i] : 20;

		add_head(l, GET_ID, 0, PIECES, &rng);
		add_room(l, rooms[i] + 1, PIECES, &rng);
		assert_int_equal(serve(l, 0), 0);
		get_bytes(l, bytes, rooms[i]);
		assert_memory_equal(bytes, "a serial number\0\0\0\0\0", len);
		assert_int_equal(l->len, rooms[i] <= 20 ? rooms[i] + 1 : 20);
		for (size_t k = len; k < rooms[i]; k++)
			assert_int_equal((uint8_t)bytes[k], 0xee);
	}
	stop_device();
}

static void a_write_is_durable_if_the_driver_cannot_flush(void **state)
{
	const struct segment segment = {8, 8, 0};
	uint8_t bytes[SECTOR] = {1, 2, 3};
	uint8_t off = 0;

	(void)state;
	start_device(mem_disk(), 8, 0);
	assert_int_equal(write_sectors(3, bytes, SECTOR, 0), 0);
	assert_int_equal(mem.durable, 0);
	assert_int_equal(flush_device(0), 0);
	assert_int_equal(mem.flushes, 1);
	/* It switches the cache off. */
	assert_int_equal(gm_virtio_blk_config_write(blk, 32, &off, 1), 0);
	assert_int_equal(write_sectors(3, bytes, SECTOR, 0), 0);
	assert_int_equal(mem.durable, 1);
	assert_int_equal(send_segments(ZEROES, &segment, 1, 0), 0);
	assert_int_equal(mem.flushes, 2);
	/* It knows nothing of flushes. */
	assert_ok(gm_virtio_blk_accept(blk, 0, &err));
	assert_int_equal(write_sectors(3, bytes, SECTOR, 0), 0);
	assert_int_equal(mem.durable, 2);
	assert_ok(gm_virtio_blk_accept(blk, GM_VIRTIO_BLK_F_FLUSH, &err));
	assert_int_equal(write_sectors(3, bytes, SECTOR, 0), 0);
	assert_int_equal(mem.durable, 2);
	stop_device();
}

static void segments_are_discarded_and_zeroed(void **state)
{
	const struct segment two[] = {{10, 3, 0}, {0, 0, 0}, {SECTORS - 1, 1, 0}};
	const struct segment unmap[] = {{20, 2, 1}};
	const struct segment unknown[] = {{20, 2, 2}};

	(void)state;
	start_device(mem_disk(), 8, 0);
	memset(mem.bytes, 7, DISK_LEN);
	assert_int_equal(send_segments(DISCARD, two, 3, 0), 0);
	assert_int_equal(mem.bytes[10 * 512 - 1], 7);
	assert_int_equal(mem.bytes[10 * 512], 0xdd);
	assert_int_equal(mem.bytes[13 * 512 - 1], 0xdd);
	assert_int_equal(mem.bytes[13 * 512], 7);
	assert_int_equal(mem.bytes[DISK_LEN - 1], 0xdd);
	assert_int_equal(send_segments(ZEROES, two, 3, 0), 0);
	assert_int_equal(mem.bytes[10 * 512], 0);
	assert_int_equal(mem.bytes[13 * 512], 7);
	assert_int_equal(mem.bytes[DISK_LEN - 1], 0);
	assert_int_equal(send_segments(ZEROES, unmap, 1, 0), 0);
	assert_int_equal(mem.bytes[20 * 512], 0);
	assert_int_equal(send_segments(DISCARD, unmap, 1, 0), 2);
	assert_int_equal(send_segments(ZEROES, unknown, 1, 0), 2);
	assert_int_equal(stats_of().requests[3], 2);
	assert_int_equal(stats_of().requests[4], 3);
	stop_device();
}

/* ---- against a model ---- */

static uint8_t model[DISK_LEN];
static bool in_use[SECTORS];
static bool doubtful[SECTORS]; /* a write of them failed: anything may be there */

static bool claim(uint64_t sector, uint64_t nr, bool on)
{
	for (uint64_t i = sector; on && i < sector + nr; i++) {
		if (in_use[i])
			return false;
	}
	for (uint64_t i = sector; i < sector + nr; i++)
		in_use[i] = on;
	return true;
}

static void make(struct line *l, struct rng *rng, uint32_t nr, uint32_t flags)
{
	static const uint32_t types[] = {IN, IN, IN, OUT, OUT, OUT, FLUSH, GET_ID, DISCARD, ZEROES};
	enum cut cut = rng_below(rng, 8) || nr < 128 ? WHOLE : PIECES;
	uint8_t bytes[KIB(32)];
	struct segment segment;

	cut = nr >= 128 && rng_below(rng, 3) == 0 ? PIECES : cut;
	cut = (flags & GM_VIRTQ_INDIRECT) && rng_below(rng, 30) == 0 ? BYTES : cut;
	l->type = types[rng_below(rng, 10)];
	l->sectors = cut == BYTES ? 1 : 1 + rng_below(rng, rng_below(rng, 4) ? 8 : 64);
	l->sector = rng_below(rng, SECTORS - l->sectors);
	if ((l->type == FLUSH || l->type == GET_ID) || !claim(l->sector, l->sectors, true))
		l->sectors = 0;
	if (!l->sectors && l->type != FLUSH)
		l->type = GET_ID;
	add_head(l, l->type, l->sector, cut, rng);
	for (size_t i = 0; i < l->sectors * SECTOR; i++)
		bytes[i] = (uint8_t)(rng_next(rng) >> 13);
	switch (l->type) {
	case OUT:
		memcpy(l->bytes, bytes, l->sectors * SECTOR);
		add_bytes(l, bytes, l->sectors * SECTOR, 0, cut, rng);
		break;
	case DISCARD:
	case ZEROES:
		segment = (struct segment){l->sector, (uint32_t)l->sectors, 0};
		add_bytes(l, &segment, sizeof(segment), 0, cut, rng);
		break;
	case IN:
		add_room(l, l->sectors * SECTOR, cut, rng);
		break;
	case GET_ID:
		add_room(l, 20, cut, rng);
		break;
	default:
		break;
	}
	add_room(l, 1, cut, rng);
}

static void check_read(const struct line *l)
{
	uint8_t bytes[KIB(32)];

	get_bytes(l, bytes, l->sectors * SECTOR);
	for (uint64_t s = 0; s < l->sectors; s++) {
		if (!doubtful[l->sector + s])
			assert_memory_equal(
				bytes + s * SECTOR, model + (l->sector + s) * SECTOR, SECTOR);
	}
}

static void judge(const struct line *l)
{
	const uint64_t at = l->sector * SECTOR;
	const uint64_t len = l->sectors * SECTOR;
	uint8_t status = status_of(l);

	assert_true(status <= 1 && (status == 0 || mem.fail_every));
	claim(l->sector, l->sectors, false);
	for (uint64_t s = 0; s < l->sectors && l->type != IN; s++)
		doubtful[l->sector + s] = status;
	if (status) {
		assert_int_equal(l->len, room_of(l) == 1);
		return;
	}
	assert_int_equal(l->len, room_of(l));
	if (l->type == IN)
		check_read(l);
	else if (l->type == OUT)
		memcpy(model + at, l->bytes, len);
	else if (l->type == ZEROES)
		memset(model + at, 0, len);
	else if (l->type == DISCARD)
		memset(model + at, 0xdd, len);
}

/* Sleeps and wakes as the queue says, so that a call or a kick that is missing ends in silence. */
static void work(uint32_t nr, uint32_t flags, unsigned long requests, struct rng *rng)
{
	static uint8_t bytes[LINES][KIB(32)];
	unsigned long made = 0;
	unsigned long back = 0;
	bool driver_awake = true;
	bool device_awake = true;
	unsigned int idle = 0;

	while (back < requests) {
		struct line *l = made < requests && rng_below(rng, 2) ? new_line() : NULL;

		if (l) {
			l->bytes = bytes[l - lines];
			make(l, rng, nr, flags);
			if (offer(l, flags))
				claim(l->sector, l->sectors, false);
			else
				made++;
		}
		if (rng_below(rng, 3) == 0 || made == requests)
			device_awake |= show_driver() > 0;
		if (device_awake && rng_below(rng, 2)) {
			int rc = gm_virtio_blk_run(
				q, rng_below(rng, 8) ? 0 : GM_VIRTIO_BLK_BUSY, &err);

			if (rc < 0)
				fail_msg("%d: %s", rc, err.text);
			driver_awake |= rc & GM_VIRTIO_BLK_CALL;
		}
		/* Runs that are not asked for are a busy device's; else there is the fd. */
		if (rng_below(rng, 16) == 0)
			device_awake = true;
		idle++;
		while (driver_awake && (l = take_back())) {
			judge(l);
			back++;
			idle = 0;
		}
		if (driver_awake) {
			int rc = gm_virtq_driver_calls(driver, enter(), true);

			leave();
			assert_true(rc >= 0);
			driver_awake = rc;
		}
		if (idle > 5000)
			fail_msg("%lu of %lu requests are back, and nobody is called", back, made);
	}
}

static unsigned long random_work(uint32_t nr, uint32_t flags, unsigned long requests, uint64_t seed,
	void (*prepare)(struct rng *rng))
{
	struct rng rng = {seed};
	struct gm_disk *d = mem_disk();

	for (size_t i = 0; i < DISK_LEN; i++)
		mem.bytes[i] = model[i] = (uint8_t)(i * 7 + i / 512);
	memset(in_use, 0, sizeof(in_use));
	memset(doubtful, 0, sizeof(doubtful));
	mem.random = true;
	prepare(&rng);
	start_device(d, nr, flags);
	work(nr, flags, requests, &rng);
	assert_int_equal(gm_virtio_blk_out(q), 0);
	for (size_t s = 0; s < SECTORS; s++) {
		if (!doubtful[s])
			assert_memory_equal(mem.bytes + s * SECTOR, model + s * SECTOR, SECTOR);
	}
	stop_device();
	return mem.nr_failed;
}

static void as_it_is(struct rng *rng)
{
	(void)rng;
}

static void random_requests_agree_with_a_model(void **state)
{
	unsigned long requests = support_scale(250);

	(void)state;
	for (uint32_t flags = 0; flags < 16; flags++) {
		static const uint32_t sizes[] = {4, 128, 2048};
		uint32_t nr = sizes[flags % 3];

		random_work(nr, flags, requests, test_seed(flags), as_it_is);
	}
	printf("figure: blk-requests %lu\n", requests * 16);
}

static void a_little_room(struct rng *rng)
{
	mem.room = 1 + (unsigned int)rng_below(rng, 3);
}

static void fails_at_times(struct rng *rng)
{
	mem.fail_every = 3 + (unsigned int)rng_below(rng, 9);
}

static void a_disk_may_have_little_room(void **state)
{
	(void)state;
	random_work(64, GM_VIRTQ_EVENT, support_scale(300), test_seed(40), a_little_room);
	random_work(64, GM_VIRTQ_PACKED, support_scale(300), test_seed(41), a_little_room);
}

static void what_the_disk_fails_with_is_told(void **state)
{
	(void)state;
	assert_true(random_work(64, 0, support_scale(300), test_seed(42), fails_at_times) > 10);
	assert_true(random_work(2048, GM_VIRTQ_PACKED | GM_VIRTQ_IN_ORDER, support_scale(300),
			    test_seed(43), fails_at_times) > 10);
}

static void aligned_only(struct rng *rng)
{
	mem.info.align = 512;
	mem.info.mem_align = rng_below(rng, 2) ? 512 : 4;
}

static void a_disk_that_wants_alignment_gets_it(void **state)
{
	(void)state;
	random_work(64, 0, support_scale(300), test_seed(44), aligned_only);
	random_work(2048, GM_VIRTQ_INDIRECT, support_scale(300), test_seed(45), aligned_only);
}

/* ---- more than one part, and memory of all sorts ---- */

static void a_request_of_many_elements_goes_in_parts(void **state)
{
	struct line *l;
	uint8_t bytes[KIB(15)];

	(void)state;
	start_device(mem_disk(), 2048, GM_VIRTQ_INDIRECT);
	for (size_t i = 0; i < DISK_LEN; i++)
		mem.bytes[i] = (uint8_t)(i % 251);
	l = new_line();
	add_head(l, IN, 5, BYTES, NULL);
	/* Pieces that do not lie side by side: more than a part has room for. */
	for (size_t at = 0; at < KIB(15); at += 16) {
		add_room(l, 16, WHOLE, NULL);
		l->at += 16;
	}
	add_room(l, 1, WHOLE, NULL);
	assert_true(l->nr > 900);
	assert_int_equal(serve(l, GM_VIRTQ_INDIRECT), 0);
	assert_int_equal(l->len, KIB(15) + 1);
	get_bytes(l, bytes, sizeof(bytes));
	assert_memory_equal(bytes, mem.bytes + 5 * 512, sizeof(bytes));
	assert_true(mem.nr_done >= 8);
	stop_device();
}

static void more_long_chains_than_there_is_room_for_take_turns(void **state)
{
	struct line *l[12];
	uint8_t bytes[512];

	(void)state;
	start_device(mem_disk(), 2048, GM_VIRTQ_INDIRECT);
	memset(mem.bytes, 0x5a, DISK_LEN);
	mem.held = 1;
	for (int i = 0; i < 12; i++) {
		l[i] = new_line();
		add_head(l[i], IN, 0, WHOLE, NULL);
		for (int k = 0; k < 64; k++)
			add_room(l[i], 8, WHOLE, NULL);
		add_room(l[i], 1, WHOLE, NULL);
		assert_int_equal(offer(l[i], GM_VIRTQ_INDIRECT), 0);
	}
	show_driver();
	for (int i = 0; i < 5; i++)
		assert_true(gm_virtio_blk_run(q, 0, &err) >= 0);
	assert_int_equal(gm_virtio_blk_out(q), 4);
	mem.held = 0;
	for (int i = 0; i < 12; i++) {
		await(l[i]);
		assert_int_equal(status_of(l[i]), 0);
		get_bytes(l[i], bytes, 512);
		assert_memory_equal(bytes, mem.bytes, 512);
	}
	stop_device();
}

/* ---- life ---- */

static void it_stops_when_all_is_answered(void **state)
{
	struct line *l;
	uint32_t base = 0;

	(void)state;
	start_device(mem_disk(), 8, 0);
	mem.held = 1;
	l = new_line();
	add_head(l, IN, 0, WHOLE, NULL);
	add_room(l, 513, WHOLE, NULL);
	assert_int_equal(offer(l, 0), 0);
	show_driver();
	assert_int_equal(gm_virtio_blk_run(q, 0, &err), 0);
	assert_int_equal(gm_virtio_blk_out(q), 1);
	assert_fails(gm_virtio_blk_stop(q, 30, &base, &err), ETIMEDOUT, "1 requests");
	mem.held = 0;
	/* Paused: what comes is left in the ring. */
	{
		struct line *next = new_line();

		add_head(next, IN, 0, WHOLE, NULL);
		add_room(next, 513, WHOLE, NULL);
		assert_int_equal(offer(next, 0), 0);
		show_driver();
		assert_int_equal(gm_virtio_blk_stop(q, 20000, &base, &err), GM_VIRTIO_BLK_CALL);
		assert_int_equal(base, 1);
		assert_ptr_equal(take_back(), l);
		assert_null(take_back());
		gm_virtio_blk_pause(q, false);
		await(next);
		assert_int_equal(status_of(next), 0);
	}
	stop_device();
}

/* A device that is stopped, or killed, leaves a ring that wants no kicks. */
static void the_next_device_is_kicked(void **state)
{
	static const uint32_t sorts[] = {0, GM_VIRTQ_EVENT, GM_VIRTQ_PACKED};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		uint32_t flags = sorts[i];
		uint32_t base = 0;
		struct line *l;

		start_device(mem_disk(), 8, flags);
		assert_int_equal(flush_device(flags), 0);
		assert_true(gm_virtio_blk_stop(q, 20000, &base, &err) >= 0);
		gm_virtio_blk_queue_destroy(q);
		assert_ok(gm_virtq_start(vq, enter(), base, &err));
		leave();
		assert_ok(gm_virtio_blk_queue_create(blk,
			&(struct gm_virtio_blk_queue_opts){
				.size = sizeof(struct gm_virtio_blk_queue_opts),
				.vq = vq,
				.space = space},
			&q, &err));
		assert_int_equal(gm_virtio_blk_run(q, 0, &err), 0);
		l = new_line();
		add_head(l, FLUSH, 0, WHOLE, NULL);
		add_room(l, 1, WHOLE, NULL);
		assert_int_equal(offer(l, flags), 0);
		assert_int_equal(show_driver(), 1);
		await(l);
		stop_device();
	}
}

static void an_end_waits_for_the_disk(void **state)
{
	struct line *l;

	(void)state;
	start_device(mem_disk(), 8, 0);
	mem.held = 1;
	l = new_line();
	add_head(l, IN, 0, WHOLE, NULL);
	add_room(l, 513, WHOLE, NULL);
	assert_int_equal(offer(l, 0), 0);
	show_driver();
	assert_int_equal(gm_virtio_blk_run(q, 0, &err), 0);
	assert_int_equal(mem.nr, 1);
	mem.held = 0;
	stop_device();
	assert_int_equal(mem.nr, 0);
	l->is_out = false;
}

static void a_batch_is_one_step_and_one_publication(void **state)
{
	struct line *l[32];
	unsigned int steps;
	uint64_t shown;

	(void)state;
	start_device(mem_disk(), 128, 0);
	for (int i = 0; i < 32; i++) {
		l[i] = new_line();
		add_head(l[i], IN, (uint64_t)i, WHOLE, NULL);
		add_room(l[i], 513, WHOLE, NULL);
		assert_int_equal(offer(l[i], 0), 0);
	}
	show_driver();
	steps = mem.steps;
	shown = stats_of().shown;
	assert_true(gm_virtio_blk_run(q, 0, &err) & GM_VIRTIO_BLK_CALL);
	assert_int_equal(mem.steps - steps, 2);
	assert_int_equal(stats_of().shown - shown, 1);
	for (int i = 0; i < 32; i++)
		assert_ptr_equal(take_back(), l[i]);
	stop_device();
}

static void what_cannot_be_is_refused(void **state)
{
	struct gm_virtio_blk_opts opts = {.size = sizeof(opts)};
	struct gm_virtio_blk *other;
	struct gm_virtio_blk_queue_opts qopts = {.size = sizeof(qopts)};
	struct gm_virtio_blk_queue *second;

	(void)state;
	start_device(mem_disk(), 8, 0);
	assert_fails(gm_virtio_blk_create(&opts, &other, &err), EINVAL, "a disk");
	opts.disk = disk;
	opts.flags = 0x80;
	assert_fails(gm_virtio_blk_create(&opts, &other, &err), EINVAL, "0x80");
	assert_fails(gm_virtio_blk_queue_create(blk, &qopts, &second, &err), EINVAL, "virtqueue");
	assert_fails(gm_virtio_blk_run(q, 8, &err), EINVAL, "0x8");
	mem.info.block = 300;
	assert_int_equal(gm_virtio_blk_resize(blk), -EPROTO);
	stop_device();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_configuration_is_that_of_the_disk),
		cmocka_unit_test(a_disk_that_grows_is_told),
		cmocka_unit_test(a_disk_for_reading_refuses_the_rest),
		cmocka_unit_test(the_serial_number_is_told_in_any_room),
		cmocka_unit_test(a_write_is_durable_if_the_driver_cannot_flush),
		cmocka_unit_test(segments_are_discarded_and_zeroed),
		cmocka_unit_test(random_requests_agree_with_a_model),
		cmocka_unit_test(a_disk_may_have_little_room),
		cmocka_unit_test(what_the_disk_fails_with_is_told),
		cmocka_unit_test(a_disk_that_wants_alignment_gets_it),
		cmocka_unit_test(a_request_of_many_elements_goes_in_parts),
		cmocka_unit_test(more_long_chains_than_there_is_room_for_take_turns),
		cmocka_unit_test(it_stops_when_all_is_answered),
		cmocka_unit_test(the_next_device_is_kicked),
		cmocka_unit_test(an_end_waits_for_the_disk),
		cmocka_unit_test(a_batch_is_one_step_and_one_publication),
		cmocka_unit_test(what_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
