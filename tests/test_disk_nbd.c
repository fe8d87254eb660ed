/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_disk_nbd.c - guests on network block devices: nbdkit in several moods, a qcow2 image behind qemu-nbd, servers
 * that fail and servers that die.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "fault.h"
#include "one_blk.h"

#include "nbd_server.h"

#define LEN MIB(1)

static struct gm_disk *nbd_disk(uint32_t flags)
{
	struct gm_disk *ret = NULL;

	assert_ok(gm_disk_nbd(
		&(struct gm_disk_nbd_opts){
			.size = sizeof(struct gm_disk_nbd_opts), .uri = uri, .flags = flags},
		&ret, &err));
	return ret;
}

static uint8_t model[LEN];

/* Several at once, on parts of the disk of their own. */
static void random_work(unsigned long requests, struct rng *rng)
{
	static uint8_t bytes[KIB(16)];

	while (requests) {
		struct line *l[8];
		uint32_t ops[8];
		uint64_t sectors[8];
		uint64_t at[8];

		for (int i = 0; i < 8; i++) {
			static const uint32_t types[] = {IN, IN, OUT, OUT, ZEROES, DISCARD, FLUSH};
			struct segment segment;

			ops[i] = types[rng_below(rng, 7)];
			sectors[i] = 1 + rng_below(rng, 32);
			at[i] = (uint64_t)i * (LEN / 512 / 8) + rng_below(rng, LEN / 512 / 8 - 32);
			l[i] = new_line();
			l[i]->is_out = true;
			add_head(l[i], ops[i], at[i], WHOLE, NULL);
			for (size_t k = 0; k < sectors[i] * 512; k++)
				bytes[k] = (uint8_t)(rng_next(rng) >> 9);
			segment = (struct segment){at[i], (uint32_t)sectors[i], 0};
			if (ops[i] == OUT) {
				memcpy(model + at[i] * 512, bytes, sectors[i] * 512);
				add_bytes(l[i], bytes, sectors[i] * 512, 0, PIECES, rng);
			} else if (ops[i] == ZEROES || ops[i] == DISCARD) {
				add_bytes(l[i], &segment, sizeof(segment), 0, WHOLE, NULL);
			} else if (ops[i] == IN) {
				add_room(l[i], sectors[i] * 512, PIECES, rng);
			}
			if (ops[i] == ZEROES)
				memset(model + at[i] * 512, 0, sectors[i] * 512);
			add_room(l[i], 1, WHOLE, NULL);
			assert_int_equal(offer(l[i], 0), 0);
		}
		show_driver();
		for (int i = 0; i < 8; i++) {
			await(l[i]);
			assert_int_equal(status_of(l[i]), 0);
			if (ops[i] == IN) {
				get_bytes(l[i], bytes, sectors[i] * 512);
				assert_memory_equal(bytes, model + at[i] * 512, sectors[i] * 512);
			}
			/* What is there now is the server's choice. */
			if (ops[i] == DISCARD) {
				assert_int_equal(
					read_sectors(at[i], bytes, sectors[i] * 512, 0), 0);
				memcpy(model + at[i] * 512, bytes, sectors[i] * 512);
			}
		}
		requests -= requests < 8 ? requests : 8;
	}
}

static void check_all(void)
{
	static uint8_t bytes[KIB(32)];

	for (uint64_t at = 0; at < LEN; at += sizeof(bytes)) {
		assert_int_equal(read_sectors(at / 512, bytes, sizeof(bytes), 0), 0);
		assert_memory_equal(bytes, model + at, sizeof(bytes));
	}
}

static void guests_work_on_servers_of_all_sorts(void **state)
{
	char *const moods[][10] = {
		{"nbdkit", "-f", "-U", path, "memory", "1M", NULL},
		{"nbdkit", "-f", "-U", path, "--filter=fua", "memory", "1M", NULL},
		{"nbdkit", "-f", "-U", path, "--filter=nozero", "memory", "1M", NULL},
		{"nbdkit", "-f", "-U", path, "--filter=delay", "memory", "1M", NULL},
	};
	struct rng rng = {test_seed(510)};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		start_server(moods[i]);
		memset(model, 0, LEN);
		start_device(nbd_disk(0), 512, i % 2 ? GM_VIRTQ_PACKED : 0);
		/* Every second one writes through. */
		if (i % 2)
			assert_ok(gm_virtio_blk_accept(blk, 0, &err));
		random_work(support_scale(200), &rng);
		assert_int_equal(flush_device(0), 0);
		check_all();
		stop_device();
		stop_server();
	}
}

static void a_guest_works_on_a_qcow2_image(void **state)
{
	char image[96];
	char command[512];
	struct rng rng = {test_seed(511)};
	struct gm_disk_channel *second = NULL;
	const struct segment all = {0, LEN / 512, 1};

	(void)state;
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 1M >/dev/null 2>&1",
		image);
	assert_int_equal(system(command), 0);
	memset(model, 0, LEN);
	start_server((char *const[]){"qemu-nbd", "-t", "-e", "4", "-f", "qcow2", "--discard=unmap",
		"-k", path, image, NULL});
	start_device(nbd_disk(0), 512, GM_VIRTQ_EVENT);
	assert_true(gm_virtio_blk_features(blk) & GM_VIRTIO_BLK_F_DISCARD);
	random_work(support_scale(300), &rng);
	check_all();
	assert_int_equal(flush_device(0), 0);
	/* More queues than one. */
	assert_ok(gm_disk_open(disk, 8, &second, &err));
	gm_disk_close(second);
	stop_device();
	/* Another one finds it. */
	start_device(nbd_disk(0), 512, 0);
	check_all();
	assert_int_equal(send_segments(ZEROES, &all, 1, 0), 0);
	memset(model, 0, LEN);
	check_all();
	stop_device();
	stop_server();
	snprintf(command, sizeof(command), "qemu-img check -q %s >/dev/null 2>&1", image);
	assert_int_equal(system(command), 0);
	unlink(image);
}

/* Its blocks are larger than sectors, its requests are short, and there may be one connection. */
static void what_the_server_asks_for_is_kept(void **state)
{
	static uint8_t bytes[KIB(48)];
	static uint8_t back[KIB(48)];
	struct gm_disk_channel *second = NULL;
	struct rng rng = {test_seed(512)};
	struct line *l;

	(void)state;
	start_server((char *const[]){"nbdkit", "-f", "-U", path, "--filter=blocksize-policy",
		"--filter=multi-conn", "memory", "1M", "blocksize-minimum=4096",
		"blocksize-preferred=4096", "blocksize-maximum=16K", "blocksize-error-policy=error",
		"multi-conn-mode=disable", NULL});
	start_device(nbd_disk(0), 512, 0);
	assert_fails(gm_disk_open(disk, 8, &second, &err), EBUSY, "one channel");
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 11 + i / 256);
	l = new_line();
	add_head(l, OUT, 8, PIECES, &rng);
	add_bytes(l, bytes, sizeof(bytes), 0, PIECES, &rng);
	add_room(l, 1, WHOLE, NULL);
	assert_int_equal(serve(l, 0), 0);
	assert_int_equal(stats_of().bounced, 1);
	assert_int_equal(read_sectors(8, back, sizeof(back), 0), 0);
	assert_memory_equal(bytes, back, sizeof(bytes));
	assert_int_equal(read_sectors(9, back, KIB(4), 0), 1);
	assert_int_equal(read_sectors(8, back, 512, 0), 1);
	stop_device();
	stop_server();
}

static void a_server_for_reading_refuses_writes(void **state)
{
	uint8_t bytes[512] = {0};

	(void)state;
	NBDKIT("pattern", "1M");
	start_device(nbd_disk(0), 64, 0);
	assert_true(gm_virtio_blk_features(blk) & GM_VIRTIO_BLK_F_RO);
	assert_int_equal(write_sectors(0, bytes, 512, 0), 1);
	assert_int_equal(read_sectors(3, bytes, 512, 0), 0);
	assert_int_equal(bytes[7], 0);
	assert_int_equal(bytes[6], 3 * 512 / 256);
	stop_device();
	stop_server();
}

static void errors_of_the_server_are_told(void **state)
{
	uint8_t bytes[512] = {0};
	unsigned int failed = 0;

	(void)state;
	start_server((char *const[]){"nbdkit", "-f", "-U", path, "--filter=error", "memory", "1M",
		"error=ENOSPC", "error-pwrite-rate=100%", NULL});
	start_device(nbd_disk(0), 64, 0);
	for (int i = 0; i < 10; i++)
		failed += write_sectors(0, bytes, 512, 0);
	assert_int_equal(failed, 10);
	assert_int_equal(read_sectors(0, bytes, 512, 0), 0);
	stop_device();
	stop_server();
}

/* Whatever is under way, and all that comes after it, is answered with an error. */
static void a_server_that_dies_is_an_error(void **state)
{
	struct line *l;
	uint8_t bytes[512];

	(void)state;
	start_server((char *const[]){"nbdkit", "-f", "-U", path, "--filter=delay", "memory", "1M",
		"delay-read=3600", NULL});
	start_device(nbd_disk(0), 64, 0);
	l = new_line();
	add_head(l, IN, 0, WHOLE, NULL);
	add_room(l, 513, WHOLE, NULL);
	assert_int_equal(offer(l, 0), 0);
	show_driver();
	assert_true(gm_virtio_blk_run(q, 0, &err) >= 0);
	assert_int_equal(gm_virtio_blk_out(q), 1);
	stop_server();
	await(l);
	assert_int_equal(status_of(l), 1);
	assert_int_equal(read_sectors(0, bytes, 512, 0), 1);
	assert_int_equal(flush_device(0), 1);
	stop_device();
}

static void nobody_there_is_an_error(void **state)
{
	struct gm_disk_nbd_opts opts = {.size = sizeof(opts), .uri = uri, .connect_ms = 500};
	struct gm_disk *ret;

	(void)state;
	assert_int_not_equal(gm_disk_nbd(&opts, &ret, &err), 0);
	assert_non_null(strstr(err.text, "nbd"));
	opts.uri = NULL;
	assert_fails(gm_disk_nbd(&opts, &ret, &err), EINVAL, "URI");
	opts.uri = uri;
	opts.flags = 0x40;
	assert_fails(gm_disk_nbd(&opts, &ret, &err), EINVAL, "0x40");
}

static int make_and_end(void *ctx)
{
	struct gm_disk_nbd_opts opts = {.size = sizeof(opts), .uri = uri};
	struct gm_disk_channel *ch = NULL;
	struct gm_disk *d = NULL;
	int rc = gm_disk_nbd(&opts, &d, &err);

	(void)ctx;
	if (rc)
		return rc;
	rc = gm_disk_open(d, 4, &ch, &err);
	fault_disarm();
	if (!rc)
		gm_disk_close(ch);
	gm_disk_destroy(d);
	return rc;
}

static void nothing_is_left_of_what_failed(void **state)
{
	(void)state;
	start_server((char *const[]){"nbdkit", "-f", "-U", path, "memory", "1M", NULL});
	assert_int_equal(make_and_end(NULL), 0);
	assert_true(fault_sweep(make_and_end, NULL) > 10);
	stop_server();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(guests_work_on_servers_of_all_sorts),
		TEST(a_guest_works_on_a_qcow2_image),
		TEST(what_the_server_asks_for_is_kept),
		TEST(a_server_for_reading_refuses_writes),
		TEST(errors_of_the_server_are_told),
		TEST(a_server_that_dies_is_an_error),
		TEST(nobody_there_is_an_error),
		TEST(nothing_is_left_of_what_failed),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
