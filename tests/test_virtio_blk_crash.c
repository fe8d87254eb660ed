/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_virtio_blk_crash.c - the process of a block device is killed again and again, under work: the next one does what
 * it had taken, no request is lost, and what was said to be written can be read.
 */
#include "one_blk.h"

#include "killed_device.h"

#include <guestmem/virtq_inflight.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define NR 64u
#define WAYS 16u    /* requests at once, each on sectors of its own */
#define EACH KIB(8) /* of these */

static int memory_fd = -1;
static int area_fd = -1;
static int image_fd = -1;

static struct gm_space *space_of(int fd, uint64_t len)
{
	struct gm_block_opts opts = {
		.size = sizeof(opts), .backing = GM_BACKING_FD, .fd = fd, .len = len};
	struct gm_space *s;

	if (gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = MIB(64)), &s, &err) ||
		gm_space_add(s, DESC(.gpa = 0, .backing = &opts), NULL, &err))
		abort();
	return s;
}

/* ---- a device in a process of its own ---- */

static int make_device(uint32_t flags, uint32_t disk_flags, struct gm_virtio_blk_queue **ret)
{
	struct gm_virtq_opts opts = queue_opts(NR, flags);
	struct gm_disk_file_opts fopts = {
		.size = sizeof(fopts), .fd = image_fd, .flags = disk_flags};
	struct gm_virtio_blk_opts bopts = {.size = sizeof(bopts)};
	struct gm_virtio_blk_queue_opts qopts = {.size = sizeof(qopts)};
	struct gm_reader *r = NULL;
	int rc;

	qopts.space = space_of(memory_fd, MEMORY);
	rc = gm_reader_create(qopts.space, "device", &r, &err);
	rc = rc ? rc : gm_virtq_create(&opts, &qopts.vq, &err);
	rc = rc ? rc : gm_virtq_track(qopts.vq, space_of(area_fd, MIB(1)), 0, &err);
	rc = rc ? rc : gm_virtq_start(qopts.vq, gm_reader_enter(r), base_of(flags), &err);
	if (rc)
		return rc;
	gm_reader_leave(r);
	rc = gm_disk_file(&fopts, &bopts.disk, &err);
	rc = rc ? rc : gm_virtio_blk_create(&bopts, &blk, &err);
	rc = rc ? rc : gm_virtio_blk_accept(blk, gm_virtio_blk_features(blk), &err);
	return rc ? rc : gm_virtio_blk_queue_create(blk, &qopts, ret, &err);
}

/* Until it is killed. */
static _Noreturn void device(uint32_t flags, uint32_t disk_flags)
{
	int rc = make_device(flags, disk_flags, &q);

	while (rc >= 0) {
		rc = gm_virtio_blk_run(q, GM_VIRTIO_BLK_BUSY, &err);
		sched_yield();
	}
	fprintf(stderr, "device: %d: %s\n", rc, err.text);
	_exit(1);
}

static pid_t start_process(uint32_t flags, uint32_t disk_flags)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		device(flags, disk_flags);
	return pid;
}

/* ---- the driver ---- */

static uint64_t versions[WAYS]; /* of what was written last to the sectors of a line */
static bool writes[WAYS];

static void pattern(uint8_t *to, uint64_t way, uint64_t version)
{
	for (size_t i = 0; i < EACH; i += 8) {
		uint64_t word = version << 32 | way << 24 | i;

		memcpy(to + i, &word, 8);
	}
}

static void next_request(size_t way, struct rng *rng, uint32_t flags)
{
	static uint8_t bytes[EACH];
	struct line *l = &lines[way];
	enum cut cut = rng_below(rng, 4) ? WHOLE : PIECES;
	bool back = l->is_back;

	assert_false(l->is_out);
	l->nr = 0;
	l->is_back = false;
	l->at = buffers_of(l);
	/* Each write is read once. */
	writes[way] = !(back && writes[way]);
	add_head(l, writes[way] ? OUT : IN, way * (EACH / SECTOR), WHOLE, NULL);
	if (writes[way]) {
		pattern(bytes, way, ++versions[way]);
		add_bytes(l, bytes, EACH, 0, cut, rng);
	} else {
		add_room(l, EACH, cut, rng);
	}
	add_room(l, 1, WHOLE, NULL);
	while (offer(l, flags))
		fail_msg("there is no room for %zu elements", l->nr);
	show_driver();
}

static void check(const struct line *l)
{
	static uint8_t bytes[EACH];
	static uint8_t expected[EACH];
	size_t way = (size_t)(l - lines);

	assert_int_equal(status_of(l), 0);
	assert_int_equal(l->len, room_of(l));
	if (writes[way])
		return;
	get_bytes(l, bytes, EACH);
	pattern(expected, way, versions[way]);
	assert_memory_equal(bytes, expected, EACH);
}

/* Until so many are back. */
static void drive(unsigned long nr, bool offers, struct rng *rng, uint32_t flags)
{
	while (nr > 0) {
		struct line *l = take_back();

		if (!l) {
			sched_yield();
			continue;
		}
		check(l);
		nr--;
		if (offers)
			next_request((size_t)(l - lines), rng, flags);
	}
}

static void no_request_is_lost_with_a_device(void **state)
{
	static const uint32_t sorts[] = {GM_VIRTQ_INDIRECT, GM_VIRTQ_PACKED | GM_VIRTQ_INDIRECT,
		GM_VIRTQ_INDIRECT | GM_VIRTQ_IN_ORDER};
	unsigned long kills = support_scale(12);
	struct rng rng = {test_seed(811)};
	unsigned long under_way = 0;

	(void)state;
	for (size_t s = 0; s < 3; s++) {
		struct gm_virtq_opts opts = queue_opts(NR, sorts[s]);
		uint32_t disk_flags = s == 1 ? GM_DISK_NO_URING : 0;
		pid_t pid;

		memory_fd = memfd_create("memory", MFD_CLOEXEC);
		area_fd = memfd_create("area", MFD_CLOEXEC);
		image_fd = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		assert_int_equal(ftruncate(memory_fd, (off_t)MEMORY), 0);
		assert_int_equal(ftruncate(area_fd, (off_t)MIB(1)), 0);
		assert_int_equal(ftruncate(image_fd, (off_t)DISK_LEN), 0);
		space = space_of(memory_fd, MEMORY);
		assert_ok(gm_reader_create(space, "first", &reader, &err));
		assert_ok(gm_virtq_driver_create(&opts, enter(), &driver, &err));
		leave();
		memset(versions, 0, sizeof(versions));
		memset(lines, 0, sizeof(lines));
		for (size_t way = 0; way < WAYS; way++)
			next_request(way, &rng, sorts[s]);
		for (unsigned long k = 0; k < kills; k++) {
			pid = start_process(sorts[s], disk_flags);
			drive(rng_below(&rng, 60), true, &rng, sorts[s]);
			kill_device(pid);
			under_way += nr_noted(area_fd, NR, sorts[s]) > 0;
		}
		pid = start_process(sorts[s], disk_flags);
		drive(WAYS, false, &rng, sorts[s]);
		assert_null(take_back());
		kill_device(pid);
		printf("figure: blk-devices-killed %lu\n", kills);
		gm_virtq_driver_destroy(driver);
		gm_reader_destroy(reader);
		gm_space_destroy(space);
		close(memory_fd);
		close(area_fd);
		close(image_fd);
	}
	assert_true(under_way > 0);
	printf("figure: blk-devices-killed-at-work %lu\n", under_way);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_request_is_lost_with_a_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
