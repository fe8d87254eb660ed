/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_msg.c - what each message of vhost-user may carry. */
#include <errno.h>
#include <string.h>

#include "support.h"

static struct gm_vhost_msg msg_of(uint32_t request, uint32_t len)
{
	return (struct gm_vhost_msg){.request = request, .flags = GM_VHOST_VERSION, .len = len};
}

/* Numbers and lengths as the specification has them, written down once more. */
static void test_kinds_are_those_of_the_specification(void **state)
{
	static const struct {
		uint32_t request;
		uint32_t len_max;
		uint32_t fds_max;
		int needs;
		enum gm_vhost_answer answer;
		const char *name;
	} known[] = {
		{1, 0, 0, -1, GM_VHOST_ANSWER_OWN, "GET_FEATURES"},
		{5, 264, 8, -1, GM_VHOST_ANSWER_ACK, "SET_MEM_TABLE"},
		{6, 16, 1, 1, GM_VHOST_ANSWER_OWN, "SET_LOG_BASE"},
		{9, 40, 0, -1, GM_VHOST_ANSWER_ACK, "SET_VRING_ADDR"},
		{11, 8, 0, -1, GM_VHOST_ANSWER_OWN, "GET_VRING_BASE"},
		{21, 0, 1, 5, GM_VHOST_ANSWER_ACK, "SET_BACKEND_REQ_FD"},
		{22, 32, 0, 5, GM_VHOST_ANSWER_DONE, "IOTLB_MSG"},
		{24, 268, 0, 9, GM_VHOST_ANSWER_OWN, "GET_CONFIG"},
		{28, 0, 0, 8, GM_VHOST_ANSWER_OWN, "POSTCOPY_ADVISE"},
		{30, 0, 0, 8, GM_VHOST_ANSWER_DONE, "POSTCOPY_END"},
		{31, 24, 0, 12, GM_VHOST_ANSWER_OWN, "GET_INFLIGHT_FD"},
		{37, 40, 1, 15, GM_VHOST_ANSWER_ACK, "ADD_MEM_REG"},
		{38, 40, 1, 15, GM_VHOST_ANSWER_ACK, "REM_MEM_REG"},
		{42, 8, 1, 19, GM_VHOST_ANSWER_OWN, "SET_DEVICE_STATE_FD"},
		{44, 0, 0, 22, GM_VHOST_ANSWER_OWN, "GET_SHMEM_CONFIG"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		const struct gm_vhost_kind *kind =
			gm_vhost_kind(GM_VHOST_FROM_FRONTEND, known[i].request);

		assert_non_null(kind);
		assert_string_equal(kind->name, known[i].name);
		assert_int_equal(kind->len_max, known[i].len_max);
		assert_int_equal(kind->fds_max, known[i].fds_max);
		assert_int_equal(kind->needs, known[i].needs);
		assert_int_equal(kind->answer, known[i].answer);
	}
	for (i = 1; i <= 45; i++)
		assert_non_null(gm_vhost_kind(GM_VHOST_FROM_FRONTEND, (uint32_t)i));
	for (i = 1; i <= 10; i++)
		assert_non_null(gm_vhost_kind(GM_VHOST_FROM_BACKEND, (uint32_t)i));
	assert_null(gm_vhost_kind(GM_VHOST_FROM_FRONTEND, 0));
	assert_null(gm_vhost_kind(GM_VHOST_FROM_FRONTEND, 46));
	assert_null(gm_vhost_kind(GM_VHOST_FROM_FRONTEND, UINT32_MAX));
	assert_null(gm_vhost_kind(GM_VHOST_FROM_BACKEND, 0));
	assert_null(gm_vhost_kind(GM_VHOST_FROM_BACKEND, 11));
}

/* Every request of either side by every length and number of descriptors: good only inside of its bounds. */
static void test_lengths_and_descriptors_are_bounded(void **state)
{
	uint32_t good = 0, request, len, fds;
	int from;

	(void)state;
	for (from = GM_VHOST_FROM_FRONTEND; from <= GM_VHOST_FROM_BACKEND; from++)
		for (request = 0; request < 50; request++)
			for (len = 0; len <= GM_VHOST_PAYLOAD_MAX + 2; len++)
				for (fds = 0; fds <= 9; fds++) {
					const struct gm_vhost_kind *kind =
						gm_vhost_kind((enum gm_vhost_from)from, request);
					struct gm_vhost_msg msg = msg_of(request, len);

					if (gm_vhost_msg_check(
						    (enum gm_vhost_from)from, &msg, fds, NULL))
						continue;
					good++;
					assert_non_null(kind);
					assert_in_range(len, kind->len_min, kind->len_max);
					assert_in_range(fds, kind->fds_min, kind->fds_max);
				}
	assert_true(good > 54);
}

static void test_headers_are_checked(void **state)
{
	struct gm_vhost_msg msg = msg_of(GM_VHOST_SET_OWNER, 0);
	struct gm_error err;

	(void)state;
	assert_int_equal(gm_vhost_msg_check_header(GM_VHOST_FROM_FRONTEND, &msg, &err), 0);
	msg.flags |= GM_VHOST_NEED_REPLY;
	assert_int_equal(gm_vhost_msg_check_header(GM_VHOST_FROM_FRONTEND, &msg, &err), 0);
	msg.flags |= GM_VHOST_REPLY;
	assert_int_equal(gm_vhost_msg_check_header(GM_VHOST_FROM_FRONTEND, &msg, &err), -EPROTO);
	msg.flags = 2;
	assert_int_equal(gm_vhost_msg_check_header(GM_VHOST_FROM_FRONTEND, &msg, &err), -EPROTO);
	assert_non_null(strstr(err.text, "version 2"));
	msg = msg_of(99, 8);
	assert_int_equal(gm_vhost_msg_check_header(GM_VHOST_FROM_FRONTEND, &msg, &err), -ENOTSUP);
	msg = msg_of(99, GM_VHOST_PAYLOAD_MAX + 1);
	assert_int_equal(gm_vhost_msg_check_header(GM_VHOST_FROM_FRONTEND, &msg, &err), -EPROTO);
}

static void test_tables_have_a_descriptor_for_each_region(void **state)
{
	struct gm_vhost_msg msg;
	struct gm_error err;
	uint32_t nr, fds;

	(void)state;
	for (nr = 0; nr <= 9; nr++)
		for (fds = 0; fds <= 9; fds++) {
			msg = msg_of(GM_VHOST_SET_MEM_TABLE, 8 + 32 * nr);
			msg.u.memory.nr = nr;
			assert_int_equal(
				gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, fds, NULL),
				nr <= 8 && fds == nr ? 0 : -EPROTO);
			msg.u.memory.nr = nr + 1;
			assert_int_equal(
				gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, fds, NULL),
				-EPROTO);
		}
	msg = msg_of(GM_VHOST_SET_MEM_TABLE, 264);
	msg.u.memory.nr = UINT32_MAX;
	assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 8, &err), -EPROTO);
	assert_non_null(strstr(err.text, "4294967295"));
}

static void test_a_ring_has_its_descriptor_or_says_that_it_has_none(void **state)
{
	static const uint32_t requests[] = {
		GM_VHOST_SET_VRING_KICK, GM_VHOST_SET_VRING_CALL, GM_VHOST_SET_VRING_ERR};
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		struct gm_vhost_msg msg = msg_of(requests[i], 8);

		msg.u.number = 7;
		assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 1, NULL), 0);
		assert_int_equal(
			gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), -EPROTO);
		msg.u.number = 7 | GM_VHOST_VRING_NO_FD;
		assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), 0);
		assert_int_equal(
			gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 1, NULL), -EPROTO);
		msg.u.number = 7 | 0x200;
		assert_int_equal(
			gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 1, NULL), -EPROTO);
	}
}

static void test_configuration_has_the_bytes_that_it_says(void **state)
{
	struct gm_vhost_msg msg = msg_of(GM_VHOST_SET_CONFIG, 12 + 60);

	(void)state;
	msg.u.config.len = 60;
	assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), 0);
	msg.u.config.len = 61;
	assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), -EPROTO);
	msg.u.config.len = UINT32_MAX;
	assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), -EPROTO);
	msg = msg_of(GM_VHOST_GET_CONFIG, 12);
	msg.u.config.len = 60;
	assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), 0);
	msg.u.config.len = 257;
	assert_int_equal(gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, 0, NULL), -EPROTO);
}

static void test_replies_are_those_to_the_request(void **state)
{
	struct gm_vhost_msg request = msg_of(GM_VHOST_POSTCOPY_ADVISE, 0), reply = request;
	struct gm_error err;

	(void)state;
	reply.flags |= GM_VHOST_REPLY;
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 1, &err), 0);
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 2, &err),
		-EPROTO);
	reply.len = 8;
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 1, &err),
		-EPROTO);
	request = msg_of(GM_VHOST_SET_OWNER, 0);
	reply = msg_of(GM_VHOST_SET_OWNER, 8);
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 0, &err),
		-EPROTO);
	reply.flags |= GM_VHOST_REPLY;
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 0, &err), 0);
	reply.request = GM_VHOST_RESET_OWNER;
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 0, &err),
		-EPROTO);
	request = msg_of(GM_VHOST_SET_LOG_BASE, 16);
	reply = msg_of(GM_VHOST_SET_LOG_BASE, 0);
	reply.flags |= GM_VHOST_REPLY;
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 0, &err), 0);
	request.request = 99;
	assert_int_equal(
		gm_vhost_msg_check_reply(GM_VHOST_FROM_FRONTEND, &request, &reply, 0, &err),
		-EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds_are_those_of_the_specification),
		cmocka_unit_test(test_lengths_and_descriptors_are_bounded),
		cmocka_unit_test(test_headers_are_checked),
		cmocka_unit_test(test_tables_have_a_descriptor_for_each_region),
		cmocka_unit_test(test_a_ring_has_its_descriptor_or_says_that_it_has_none),
		cmocka_unit_test(test_configuration_has_the_bytes_that_it_says),
		cmocka_unit_test(test_replies_are_those_to_the_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
