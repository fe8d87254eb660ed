/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_migrate_net.c - a guest that is moved over a network that has a rate: two network namespaces with a link between
 * them, which is set down in post-copy and up again.
 *
 * Both namespaces have no name but descriptors of this process, so they and the link are gone with it, whatever
 * ends it. As root; others skip.
 */
#include "one_migration.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define ADDRESS 0x0a630002u /* 10.99.0.2 */

static int home = -1;
static int nets[2] = {-1, -1};

static bool run(const char *command)
{
	int rc = system(command);

	if (rc)
		print_message("%s: %d\n", command, rc);
	return rc == 0;
}

/* In the namespace of an end; the namespace is a thread's. */
static bool run_at(int side, const char *command)
{
	bool done;

	assert_int_equal(setns(nets[side], CLONE_NEWNET), 0);
	done = run(command);
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	return done;
}

static int socket_in(int side)
{
	int fd;

	if (setns(nets[side], CLONE_NEWNET))
		return -1;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (setns(home, CLONE_NEWNET))
		return -1;
	return fd;
}

static int new_net(void)
{
	if (unshare(CLONE_NEWNET))
		return -1;
	return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

/* A process in a namespace, by which ip(8) can name it. */
static pid_t stand_in(int side)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) || setns(nets[side], CLONE_NEWNET))
			_exit(1);
		for (;;)
			pause();
	}
	return pid;
}

static bool make_link(void)
{
	char command[128];
	pid_t pid = stand_in(1);
	bool made = false;

	assert_true(pid > 0);
	snprintf(command, sizeof(command), "ip link add gm0 type veth peer name gm1 netns %d",
		(int)pid);
	/* It may not be there yet: then the link comes to be here, and is gone with the namespace. */
	for (int i = 0; i < 200 && !made; i++) {
		char here[64];
		char there[64];
		char path[64];
		ssize_t a = readlink("/proc/self/ns/net", here, sizeof(here));
		ssize_t b;

		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
		b = readlink(path, there, sizeof(there));
		made = a > 0 && b > 0 && (a != b || memcmp(here, there, (size_t)a) != 0);
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	made = made && run_at(0, command);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return made && run_at(0, "ip addr add 10.99.0.1/24 dev gm0 && ip link set gm0 up") &&
	       run_at(1, "ip addr add 10.99.0.2/24 dev gm1 && ip link set gm1 up");
}

static void set_rate(uint32_t mbit)
{
	char command[128];

	snprintf(command, sizeof(command),
		"tc qdisc replace dev gm0 root tbf rate %umbit burst 128kb latency 50ms", mbit);
	assert_true(run_at(0, command));
}

static struct move_opts over(uint32_t mbit, uint32_t way)
{
	struct move_opts o = {.low = MIB(2), .high = MIB(4), .tcp = true, .socket_at = socket_in};

	set_rate(mbit);
	o.address = ADDRESS;
	o.out.way = way;
	o.out.rounds = 2;
	o.out.downtime_ms = 20;
	return o;
}

static bool has_net(void)
{
	if (nets[1] >= 0)
		return true;
	print_message("skipped: no network namespaces, or no ip(8) and tc(8)\n");
	return false;
}

static void in_each_way(void **ctx)
{
	static const uint32_t ways[] = {
		GM_MIGRATE_OUT_STOP, GM_MIGRATE_OUT_POSTCOPY, GM_MIGRATE_OUT_AUTO};

	(void)ctx;
	if (!has_net())
		skip();
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t mbit = i / 3 ? 400 : 100;
		struct gm_migrate_stats out;
		struct gm_migrate_stats in;

		move_well(over(mbit, ways[i % 3]), &out, &in);
		assert_int_equal(out.epoch, 1);
		/* What is sent is not less than memory that has bytes. */
		assert_true(out.wire > MIB(6) * 40 / 64);
		if (getenv("GM_SOAK"))
			print_message("%u Mbit/s, way %u: %u ms, %u ms down, %u KiB\n", mbit,
				ways[i % 3], (unsigned int)(out.total_ns / 1000000),
				(unsigned int)(out.downtime_ns / 1000000),
				(unsigned int)(out.wire / 1024));
	}
}

/* In post-copy nothing goes for longer than the line may be silent; then it is resumed. */
static void the_link_goes_down_and_up(void **ctx)
{
	struct gm_migrate_stats in = {.size = sizeof(in)};
	struct gm_migrate_deadlines deadlines = {.ping = 100, .line = 500, .answer = 5000};
	struct move_opts o;
	struct move *m;
	uint64_t until = seconds_now() + SECONDS;

	(void)ctx;
	if (!has_net())
		skip();
	o = over(100, GM_MIGRATE_OUT_POSTCOPY);
	o.slow = true;
	o.out.rate = MIB(4);
	o.out.deadlines = deadlines;
	o.in.deadlines = deadlines;
	m = begin(o);
	go(m);
	while (m->writes[1] < 20 && !m->wrong && seconds_now() < until)
		sched_yield();
	assert_true(m->writes[1] >= 20);
	assert_true(run_at(0, "ip link set gm0 down"));
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_LOST, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_LOST, 1));
	assert_true(run_at(0, "ip link set gm0 up"));
	assert_int_equal(gm_migrate_out_resume(m->out), 0);
	assert_true(until_told(m, 0, GM_MIGRATE_TOLD_ENDED, 1));
	assert_true(until_told(m, 1, GM_MIGRATE_TOLD_ENDED, 1));
	assert_int_equal(gm_migrate_in_stats(m->in, &in), 0);
	assert_true(in.epoch >= 2);
	assert_int_equal(in.lost, 0);
	assert_int_equal(m->runs_here, 0);
	check_memory(m, 1);
	end(m);
}

static int make_nets(void **ctx)
{
	(void)ctx;
	home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	nets[0] = home < 0 ? -1 : new_net();
	nets[1] = nets[0] < 0 ? -1 : new_net();
	if (home >= 0)
		assert_int_equal(setns(home, CLONE_NEWNET), 0);
	if (nets[1] >= 0 && !make_link()) {
		close(nets[1]);
		nets[1] = -1;
	}
	return 0;
}

static int end_nets(void **ctx)
{
	(void)ctx;
	for (int i = 0; i < 2; i++) {
		if (nets[i] >= 0)
			close(nets[i]);
	}
	if (home >= 0)
		close(home);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_each_way),
		cmocka_unit_test(the_link_goes_down_and_up),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, make_nets, end_nets);
}
