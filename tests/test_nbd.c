/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nbd.c - pages from real servers (nbdkit, qemu-nbd): right bytes in any order over any number of connections,
 * zeros that are not asked for, servers that fail, die, come back, say nothing or nonsense.
 */
#include <guestmem/nbd.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fault.h"
#include "nbd_server.h"
#include "random.h"
#include "support.h"
#include "sys/sys.h"

#define SIZE MIB(64)
#define NR 64

static struct gm_error err;
static struct gm_source *source;

#include "source_jobs.h"

#define OPEN(...)                                                                                  \
	gm_source_nbd(                                                                             \
		&(struct gm_nbd_opts){                                                             \
			.size = sizeof(struct gm_nbd_opts), .uri = uri, __VA_ARGS__},              \
		&source, &err)

static void assert_pattern(const uint8_t *buf, uint64_t offset, uint64_t len)
{
	for (uint64_t at = 0; at < len; at += 8) {
		uint64_t word;

		memcpy(&word, buf + at, 8);
		if (be64toh(word) != offset + at)
			fail_msg("0x%llx at 0x%llx", (unsigned long long)be64toh(word),
				(unsigned long long)(offset + at));
	}
}

/* ---- many requests at once ---- */

/* What fails has to fail with @expected. */
static void end(struct job *job, int expected)
{
	assert_int_equal(job->rc, expected);
	if (!job->rc)
		assert_pattern(job->buf, job->read.offset, job->read.len);
	free(job->buf);
}

static void wait_for(unsigned int nr)
{
	uint64_t until = gm_sys_now_ns() + UINT64_C(60000000000);

	while (finished < nr && gm_sys_now_ns() < until) {
		struct pollfd wait = {.fd = gm_source_fd(source), .events = POLLIN};

		assert_true(poll(&wait, 1, 10000) > 0);
		gm_source_step(source);
	}
	assert_int_equal(finished, nr);
}

static void many(struct rng *rng, unsigned int nr)
{
	finished = 0;
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t len = (1 + rng_below(rng, 64)) * 4096;

		assert_int_equal(ask(&jobs[i], rng_below(rng, (SIZE - len) / 4096) * 4096, len), 0);
	}
	wait_for(nr);
	for (unsigned int i = 0; i < nr; i++)
		end(&jobs[i], 0);
}

static void right_bytes_come_in_any_order(void **state)
{
	static const uint32_t connections[] = {1, 0, 16};
	struct rng rng = {test_seed(61)};
	uint8_t *all = malloc(SIZE);

	(void)state;
	NBDKIT("pattern", "64M");
	for (size_t i = 0; i < 3; i++) {
		assert_ok(OPEN(.connections = connections[i]));
		assert_int_equal(gm_source_len(source), SIZE);
		for (unsigned int round = 0; round < support_scale(10); round++)
			many(&rng, NR);
		/* More than one piece, and by waiting. */
		assert_ok(gm_source_read(source, 0, all, SIZE, &err));
		assert_pattern(all, 0, SIZE);
		gm_source_destroy(source);
	}
	free(all);
	stop_server();
}

static void answers_overtake_each_other(void **state)
{
	struct rng rng = {test_seed(62)};

	(void)state;
	NBDKIT("--filter=delay", "pattern", "64M", "rdelay=20ms");
	assert_ok(OPEN(.connections = 8));
	many(&rng, NR);
	gm_source_destroy(source);
	stop_server();
}

static void there_is_an_end_to_what_is_under_way(void **state)
{
	unsigned int nr = 0;

	(void)state;
	NBDKIT("--filter=delay", "pattern", "64M", "rdelay=200ms");
	assert_ok(OPEN(.connections = 1));
	finished = 0;
	while (nr < NR && ask(&jobs[nr], nr * 4096, 4096) == 0)
		nr++;
	assert_int_equal(nr, NR);
	{
		struct job more = {0};

		assert_int_equal(ask(&more, 0, 4096), -EAGAIN);
	}
	wait_for(nr);
	for (unsigned int i = 0; i < nr; i++)
		end(&jobs[i], 0);
	gm_source_destroy(source);
	stop_server();
}

/* ---- extents ---- */

static void zeros_are_known_before(void **state)
{
	struct gm_source_extent extent;
	uint64_t zeros = 0;
	uint8_t page[4096];

	(void)state;
	/* 64 MiB with bytes at 1 MiB and 32 MiB. */
	NBDKIT("--filter=truncate", "data", "data=@0x100000 1*8192 @0x2000000 2*4096",
		"truncate=64M");
	assert_ok(OPEN(.connections = 2));
	for (uint64_t at = 0; at < SIZE; at += extent.len) {
		assert_int_equal(gm_source_extent(source, at, &extent), 0);
		zeros += extent.kind == GM_SOURCE_ZERO ? extent.len : 0;
		assert_true(extent.kind == GM_SOURCE_ZERO || extent.kind == GM_SOURCE_REMOTE);
	}
	assert_in_range(zeros, SIZE - MIB(1), SIZE - 3 * 4096);
	assert_int_equal(gm_source_extent(source, MIB(1), &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_REMOTE);
	assert_ok(gm_source_read(source, MIB(32), page, sizeof(page), &err));
	assert_int_equal(page[0], 2);
	assert_int_equal(page[4095], 2);
	gm_source_destroy(source);
	assert_ok(OPEN(.flags = GM_NBD_NO_EXTENTS));
	assert_int_equal(gm_source_extent(source, 0, &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_REMOTE);
	assert_int_equal(extent.len, SIZE);
	gm_source_destroy(source);
	stop_server();
}

static void a_qcow2_image_is_served(void **state)
{
	char image[64];
	char command[512];
	struct gm_source_extent extent;
	uint8_t *buf = malloc(MIB(1));

	(void)state;
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(command, sizeof(command),
		"qemu-img create -q -f qcow2 %s 64M >/dev/null 2>&1 && "
		"qemu-io -f qcow2 -c 'write -P 7 8M 1M' %s >/dev/null 2>&1",
		image, image);
	assert_int_equal(system(command), 0);
	start_server((char *const[]){
		"qemu-nbd", "-r", "-t", "-e", "8", "-f", "qcow2", "-k", path, image, NULL});
	assert_ok(OPEN());
	assert_int_equal(gm_source_extent(source, 0, &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_ZERO);
	assert_int_equal(extent.len, MIB(8));
	assert_int_equal(gm_source_extent(source, MIB(8), &extent), 0);
	assert_int_equal(extent.kind, GM_SOURCE_REMOTE);
	assert_int_equal(extent.len, MIB(1));
	assert_ok(gm_source_read(source, MIB(8), buf, MIB(1), &err));
	for (size_t i = 0; i < MIB(1); i++)
		assert_int_equal(buf[i], 7);
	gm_source_destroy(source);
	stop_server();
	unlink(image);
	free(buf);
}

/* ---- servers that fail ---- */

static void an_error_of_the_server_is_one(void **state)
{
	uint8_t page[4096];

	(void)state;
	NBDKIT("--filter=error", "pattern", "64M", "error-pread=EIO", "error-pread-rate=100%");
	assert_ok(OPEN(.retry_ms = 300));
	assert_int_equal(gm_source_read(source, 0, page, sizeof(page), &err), -EIO);
	gm_source_destroy(source);
	stop_server();
}

static void a_server_that_comes_back_is_used_again(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < support_scale(2); round++) {
		NBDKIT("--filter=delay", "pattern", "64M", "rdelay=5000ms");
		assert_ok(OPEN(.connections = 4));
		finished = 0;
		for (unsigned int i = 0; i < NR; i++)
			assert_int_equal(ask(&jobs[i], i * MIB(1), 65536), 0);
		assert_int_equal(gm_source_step(source), 0);
		assert_true(finished < NR);
		stop_server();
		NBDKIT("pattern", "64M");
		wait_for(NR);
		for (unsigned int i = 0; i < NR; i++)
			end(&jobs[i], 0);
		gm_source_destroy(source);
		stop_server();
	}
}

/* Nothing has been heard of its end when the next request is sent: sending says it. */
static void a_death_that_nobody_saw_is_seen_by_the_next_request(void **state)
{
	struct rng rng = {test_seed(64)};

	(void)state;
	NBDKIT("pattern", "64M");
	assert_ok(OPEN(.connections = 4, .request_ms = UINT32_MAX));
	many(&rng, NR);
	stop_server();
	NBDKIT("pattern", "64M");
	many(&rng, 1);
	gm_source_destroy(source);
	stop_server();
}

static void one_that_does_not_is_an_error(void **state)
{
	struct rng rng = {test_seed(63)};

	(void)state;
	NBDKIT("--filter=delay", "pattern", "64M", "rdelay=5000ms");
	assert_ok(OPEN(.connections = 2, .retry_ms = 300));
	finished = 0;
	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(ask(&jobs[i], i * 4096, 4096), 0);
	stop_server();
	wait_for(10);
	for (unsigned int i = 0; i < 10; i++)
		end(&jobs[i], -ETIMEDOUT);
	/* And used again when it does after all. */
	NBDKIT("pattern", "64M");
	many(&rng, 10);
	gm_source_destroy(source);
	stop_server();
}

static void another_export_in_its_place_is_refused(void **state)
{
	(void)state;
	NBDKIT("--filter=delay", "pattern", "64M", "rdelay=5000ms");
	assert_ok(OPEN(.connections = 2));
	finished = 0;
	assert_int_equal(ask(&jobs[0], 0, 4096), 0);
	stop_server();
	NBDKIT("pattern", "32M");
	wait_for(1);
	end(&jobs[0], -ESTALE);
	assert_int_equal(ask(&jobs[0], 0, 4096), -ESTALE);
	gm_source_destroy(source);
	stop_server();
}

/* Stopped: its connections stay and nothing comes. */
static void a_server_that_says_nothing_is_lost(void **state)
{
	(void)state;
	NBDKIT("pattern", "64M");
	assert_ok(OPEN(.connections = 2, .request_ms = 200, .retry_ms = 300));
	assert_int_equal(kill(server, SIGSTOP), 0);
	/* Each of its threads. */
	assert_int_equal(waitpid(server, NULL, WUNTRACED), server);
	finished = 0;
	assert_int_equal(ask(&jobs[0], 0, 4096), 0);
	wait_for(1);
	end(&jobs[0], -ETIMEDOUT);
	assert_fails(gm_source_nbd(&(struct gm_nbd_opts){.size = sizeof(struct gm_nbd_opts),
					   .uri = uri,
					   .connect_ms = 200},
			     &(struct gm_source *){NULL}, &err),
		ETIMEDOUT, "does not answer");
	assert_int_equal(kill(server, SIGCONT), 0);
	gm_source_destroy(source);
	stop_server();
}

static const char *nonsense;
static size_t nonsense_len;

static void *talk(void *arg)
{
	int sock = accept(*(int *)arg, NULL, NULL);

	if (sock >= 0) {
		send(sock, nonsense, nonsense_len, MSG_NOSIGNAL);
		close(sock);
	}
	return NULL;
}

static void nonsense_is_an_error(void **state)
{
	static const char old_style[152] =
		"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\xff\xff\xff\xff\xff\xff\xff\xff";
	static const struct {
		const char *text;
		size_t len;
	} said[] = {{"", 0}, {"NBDMAGIC", 8}, {"NBDMAGICIHAVEOPT", 16},
		{"NBDMAGICIHAVEOPT\xff\xff", 18}, {"NBDMAGICNBDMAGIC", 16},
		{old_style, sizeof(old_style)}};

	(void)state;
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
		struct sockaddr_un addr = {.sun_family = AF_UNIX};
		int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		size_t fds = fault_open_fds();
		pthread_t thread;

		strcpy(addr.sun_path, path);
		assert_int_equal(bind(sock, (const struct sockaddr *)&addr, sizeof(addr)), 0);
		assert_int_equal(listen(sock, 1), 0);
		nonsense = said[i].text;
		nonsense_len = said[i].len;
		assert_int_equal(pthread_create(&thread, NULL, talk, &sock), 0);
		source = NULL;
		assert_true(OPEN(.connect_ms = 2000) < 0);
		assert_non_null(strstr(err.text, path));
		assert_null(source);
		pthread_join(thread, NULL);
		assert_int_equal(fault_open_fds(), fds);
		close(sock);
		unlink(path);
	}
}

static void what_cannot_be_is_refused(void **state)
{
	uint8_t byte;

	(void)state;
	assert_fails(OPEN(), ENOENT, path);
	assert_fails(OPEN(.connections = 17), EINVAL, "17 connections");
	assert_fails(OPEN(.flags = 4), EINVAL, "flags 0x4");
	assert_fails(gm_source_nbd(&(struct gm_nbd_opts){.size = sizeof(struct gm_nbd_opts)},
			     &source, &err),
		EINVAL, "no URI");
	assert_true(gm_source_nbd(&(struct gm_nbd_opts){.size = sizeof(struct gm_nbd_opts),
					  .uri = "ftp://nowhere"},
			    &source, &err) < 0);
	NBDKIT("--filter=blocksize-policy", "pattern", "64M", "blocksize-minimum=4096",
		"blocksize-preferred=65536", "blocksize-maximum=1M",
		"blocksize-error-policy=error");
	assert_ok(OPEN());
	assert_int_equal(gm_source_read(source, 1, &byte, 1, &err), -EINVAL);
	{
		struct gm_source_extent extent;
		uint8_t *buf = malloc(MIB(3) + 4096);

		assert_int_equal(gm_source_extent(source, 0, &extent), 0);
		assert_int_equal(extent.unit, 65536);
		assert_ok(gm_source_read(source, 4096, buf, MIB(3) + 4096, &err));
		assert_pattern(buf, 4096, MIB(3) + 4096);
		free(buf);
	}
	gm_source_destroy(source);
	stop_server();
}

static int attempt(void)
{
	uint8_t page[4096];
	int rc;

	source = NULL;
	rc = OPEN(.connections = 2, .retry_ms = 100);
	if (rc)
		return rc;
	rc = gm_source_read(source, 8192, page, sizeof(page), &err);
	if (!rc)
		assert_pattern(page, 8192, sizeof(page));
	gm_source_destroy(source);
	return rc;
}

static int scenario(void *ctx)
{
	int rc = attempt();

	(void)ctx;
	/* nbdkit 1.32 may die of connections that end while they are made: then another one is asked. */
	for (int i = 0; i < 20 && rc && !fault_hits(); i++) {
		usleep(10000);
		if (waitpid(server, NULL, WNOHANG) == server) {
			unlink(path);
			NBDKIT("pattern", "64M");
		}
		rc = attempt();
	}
	fault_disarm();
	return rc;
}

static void every_failing_call_leaves_nothing(void **state)
{
	(void)state;
	NBDKIT("pattern", "64M");
	assert_int_equal(scenario(NULL), 0);
	assert_true(fault_sweep(scenario, NULL) > 5);
	stop_server();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		TEST(right_bytes_come_in_any_order),
		TEST(answers_overtake_each_other),
		TEST(there_is_an_end_to_what_is_under_way),
		TEST(zeros_are_known_before),
		TEST(a_qcow2_image_is_served),
		TEST(an_error_of_the_server_is_one),
		TEST(a_server_that_comes_back_is_used_again),
		TEST(a_death_that_nobody_saw_is_seen_by_the_next_request),
		TEST(one_that_does_not_is_an_error),
		TEST(another_export_in_its_place_is_refused),
		TEST(a_server_that_says_nothing_is_lost),
		TEST(nonsense_is_an_error),
		TEST(what_cannot_be_is_refused),
		TEST(every_failing_call_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
