/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_layout_fault.c - every call of sending and of receiving a layout fails in turn, falls short,
 * is interrupted.
 */
#include "layout_peer.h"

#include <errno.h>

#include "fault.h"

#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

static struct gm_space *make_space(void)
{
	const struct gm_region_desc descs[] = {
		{.size = sizeof(descs[0]),
			.gpa = 0,
			.name = "ram",
			.backing = BLOCK(.len = 4 * PAGE, .flags = GM_BLOCK_SHARE)},
		{.size = sizeof(descs[0]),
			.gpa = MIB(1),
			.kind = GM_REGION_ROM,
			.backing = BLOCK(.len = PAGE, .flags = GM_BLOCK_SHARE)},
		{.size = sizeof(descs[0]), .gpa = MIB(2), .len = PAGE, .kind = GM_REGION_RESERVED},
	};
	struct gm_space *space;

	assert_ok(gm_space_build(&small, descs, 3, &space, &err));
	return space;
}

static int send_scenario(void *ctx)
{
	int rc;

	memset(&err, 0, sizeof(err));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	rc = gm_layout_send(ctx, sock[0], 0, &err);
	fault_disarm();
	assert_int_equal(err.code, rc);
	if (rc == 0)
		assert_int_equal(receive(), 0);
	close(sock[0]);
	close(sock[1]);
	return rc;
}

static int recv_scenario(void *ctx)
{
	const int *fd = ctx;
	uint8_t buf[LEN];
	int rc;

	make_layout(buf);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
	send_raw(buf, LEN, fd, 1);
	rc = receive();
	close(sock[0]);
	close(sock[1]);
	return rc;
}

static void each_call_of_sending_may_fail(void **state)
{
	struct gm_space *space = make_space();
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 3};
	unsigned long nr = fault_sweep(send_scenario, space);

	(void)state;
	print_message("%lu injections\n", nr);
	assert_true(nr >= 2 * 3 * 8);
	assert_true(fault_sweep_opts(send_scenario, space, &storm) >= nr);
	gm_space_destroy(space);
}

static void each_call_of_receiving_may_fail(void **state)
{
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);
	const struct fault_sweep_opts storm = {.fn = FAULT_ANY, .eintr = 3};
	unsigned long nr = fault_sweep(recv_scenario, &fd);

	(void)state;
	print_message("%lu injections\n", nr);
	assert_true(nr >= 2 * 3 * 20);
	assert_true(fault_sweep_opts(recv_scenario, &fd, &storm) >= nr);
	close(fd);
}

static void both_go_on_after_short_counts(void **state)
{
	static struct fault_state before;
	struct gm_space *space = make_space();
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);

	(void)state;
	fault_set(NULL);
	fault_state_take(&before);
	for (size_t len = 1; len < 80; len += len < 20 ? 1 : 13) {
		/* Smaller messages would fill the socket by their number. */
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_sendmsg,
			.nth = 1,
			.forever = true,
			.short_len = len + 3,
			.eintr = 1});
		assert_int_equal(send_scenario(space), 0);
		assert_true(fault_hits() > GM_WIRE_HEAD_SIZE / (len + 3));
		fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_recvmsg,
			.nth = 1,
			.forever = true,
			.short_len = len,
			.eintr = 1});
		assert_int_equal(recv_scenario(&fd), 0);
		assert_true(fault_hits() > GM_WIRE_HEAD_SIZE / len);
		fault_set(NULL);
		assert_true(fault_state_same(&before));
	}
	close(fd);
	gm_space_destroy(space);
}

static void what_the_kernel_says_is_returned(void **state)
{
	static const struct {
		int error;
		int code;
	} answers[] = {
		{EPIPE, EPIPE},
		{ECONNRESET, EPIPE},
		{EAGAIN, EAGAIN},
		{ENOBUFS, ENOBUFS},
		{ETOOMANYREFS, ETOOMANYREFS},
		{EBADF, EBADF},
	};
	struct gm_space *space = make_space();
	int fd = make_memfd(4 * PAGE, F_SEAL_SHRINK);

	(void)state;
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		for (unsigned long nth = 1; nth <= 2; nth++) {
			fault_set(&(struct fault_plan){
				.fn = FAULT_gm_sys_sendmsg, .nth = nth, .error = answers[i].error});
			assert_int_equal(send_scenario(space), -answers[i].code);
			assert_int_equal(fault_hits(), 1);
			fault_set(&(struct fault_plan){
				.fn = FAULT_gm_sys_recvmsg, .nth = nth, .error = answers[i].error});
			assert_int_equal(recv_scenario(&fd), -answers[i].code);
			assert_int_equal(fault_hits(), 1);
		}
	}
	close(fd);
	gm_space_destroy(space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_of_sending_may_fail),
		cmocka_unit_test(each_call_of_receiving_may_fail),
		cmocka_unit_test(both_go_on_after_short_counts),
		cmocka_unit_test(what_the_kernel_says_is_returned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
