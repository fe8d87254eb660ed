/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_kill.c - "guestmem blk" is killed again and again under a driver that knows nothing of it, in a guest of
 * KVM or in a thread; the front-end connects to the next one. Each request comes back once, and no byte is wrong. The
 * command is argument 1.
 */
#include <stdlib.h>

#include "thread_blk.h"

#include "killed_device.h"

#include "adapters/vhost_frontend.h"

#include "blk_image.h"

static pid_t pid;
static struct rng rng;
static bool in_thread; /* the driver */

static struct {
	unsigned long kills;
	unsigned long at_work;  /* with requests that are noted as out */
	unsigned long greeting; /* while a front-end connected */
} seen;

/* ---- the driver ---- */

static uint64_t done(void)
{
	return in_thread ? tb.done : done_by(0);
}

static void look(void)
{
	if (in_thread)
		thread_blk_look();
	else
		check_driver(0);
}

static void await_done(uint64_t wanted)
{
	while (done() < wanted) {
		look();
		moment();
	}
}

/* ---- killing ---- */

static void reap(void)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("the device ended with status 0x%x", (unsigned int)status);
	seen.kills++;
	seen.at_work += nr_noted(fe->inflight_fd, blk_of(0)->nr, packed ? GM_VIRTQ_PACKED : 0) > 0;
}

static void *kill_soon(void *arg)
{
	const struct timespec *wait = arg;

	nanosleep(wait, NULL);
	kill(pid, SIGKILL);
	return NULL;
}

/* A device that is killed at any moment of what the front-end says to it, or behind it. */
static void meet_and_lose(void)
{
	struct timespec wait = {.tv_nsec = (long)rng_below(&rng, 6000000)};
	pthread_t killer;
	int rc;

	pid = spawn_blk(tool, path, image, NULL);
	assert_int_equal(pthread_create(&killer, NULL, kill_soon, &wait), 0);
	rc = gm_vhost_frontend_reconnect(fe, -1, &err);
	assert_int_equal(pthread_join(killer, NULL), 0);
	reap();
	if (rc == 0)
		return;
	/* It was gone in the middle; nothing else may have been wrong. */
	if (rc != -ECONNRESET && rc != -EPIPE && rc != -ECONNREFUSED)
		fail_msg("%d: %s", rc, err.text);
	seen.greeting++;
}

static void next_device(void)
{
	pid = spawn_blk(tool, path, image, NULL);
	assert_ok(gm_vhost_frontend_reconnect(fe, -1, &err));
}

static void kill_and_replace(unsigned long times)
{
	const unsigned long until = seen.kills + times;

	while (seen.kills < until) {
		await_done(done() + rng_below(&rng, 100));
		kill(pid, SIGKILL);
		reap();
		while (rng_below(&rng, 3) == 0)
			meet_and_lose();
		next_device();
	}
}

/* ---- tests ---- */

static void begin(bool ring)
{
	packed = ring;
	fill_image(image_fd);
	start_machine(1, BLOCK(.len = RAM, .flags = GM_BLOCK_SHARE));
	pid = spawn_blk(tool, path, image, NULL);
	connect_frontend(path, 0);
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
	assert_ok(gm_vhost_frontend_inflight(fe, 256, &err));
	prepare_driver(0, 0, 0);
	if (in_thread)
		thread_blk_begin();
	start_rings();
	if (in_thread)
		thread_blk_go();
	else
		start_driver(0);
}

static void finish(void)
{
	uint64_t all = done();

	await_done(all + BLK_WAYS);
	if (in_thread)
		thread_blk_end();
	else
		stop_driver(0);
	check_image(image_fd, 1);
	assert_ok(gm_vhost_frontend_ring_stop(fe, 0, NULL, &err));
	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	spawned_end(pid, SIGTERM, 0);
	stop_machine();
}

static void lose_devices(bool ring, bool thread)
{
	unsigned long times = support_scale(4);

	if (getenv("GM_SOAK") && times < 60)
		times = 60;
	memset(&seen, 0, sizeof(seen));
	rng.state = test_seed(1000u + ring * 2u + thread);
	in_thread = thread;
	begin(ring);
	kill_and_replace(times);
	finish();
	assert_true(seen.kills >= times);
	assert_true(seen.at_work > 0);
	if (getenv("GM_SOAK"))
		printf("figure: vhost-devices-killed %lu\n"
		       "figure: vhost-devices-killed-at-work %lu\n"
		       "figure: vhost-devices-killed-as-they-were-told %lu\n",
			seen.kills, seen.at_work, seen.greeting);
}

static void a_guest_loses_nothing_in_split_rings(void **state)
{
	(void)state;
	lose_devices(false, false);
}

static void a_guest_loses_nothing_in_packed_rings(void **state)
{
	(void)state;
	lose_devices(true, false);
}

static void a_thread_loses_nothing_in_split_rings(void **state)
{
	(void)state;
	lose_devices(false, true);
}

static void a_thread_loses_nothing_in_packed_rings(void **state)
{
	(void)state;
	lose_devices(true, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_loses_nothing_in_split_rings),
		cmocka_unit_test(a_guest_loses_nothing_in_packed_rings),
		cmocka_unit_test(a_thread_loses_nothing_in_split_rings),
		cmocka_unit_test(a_thread_loses_nothing_in_packed_rings),
	};

	if (argc != 2)
		return 2;
	tool = argv[1];
	return cmocka_run_group_tests(tests, make_image, remove_image);
}
