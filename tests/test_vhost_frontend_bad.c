/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_frontend_bad.c - back-ends that answer wrongly, late or not at all, that ask for what cannot be, and
 * system calls that fail: each is an error that names the message, and nothing is left of it.
 */
#include <stdio.h>

#include "fault.h"
#include "one_vhost.h"

struct job {
	bool postcopy;
	uint32_t lie_about;
	enum fake_lie lie;
	uint32_t timeout_ms;
};

#define TRY(call)                                                                                  \
	do {                                                                                       \
		rc = rc ? rc : (call);                                                             \
	} while (0)

static struct gm_block *spare;
static uint64_t added; /* a region of it that is still there */

/* What needs a table with rings in it. */
static int with_memory(void)
{
	struct gm_vhost_frontend_ring ring = ring_at(MIB(1));
	struct gm_region_desc more = {.size = sizeof(more), .gpa = GIB(8), .block = spare};
	int rc = gm_vhost_frontend_attach(fe, space, &err);

	ring.call = fake->theirs;
	TRY(gm_vhost_frontend_log_start(fe, &err));
	TRY(gm_space_add(space, &more, &added, &err));
	TRY(gm_vhost_frontend_ring_start(fe, 1, &ring, &err));
	TRY(gm_space_remove(space, added, &err));
	added = rc ? added : 0;
	TRY(gm_vhost_frontend_log_sync(fe, NULL, &err));
	TRY(gm_vhost_frontend_log_stop(fe, &err));
	TRY(gm_vhost_frontend_ring_enable(fe, 1, false, &err));
	TRY(gm_vhost_frontend_ring_stop(fe, 1, NULL, &err));
	return rc;
}

static int all_of_it(const struct job *job)
{
	const struct gm_vhost_iotlb iotlb = {.len = PAGE, .perm = 3, .type = GM_VHOST_IOTLB_UPDATE};
	struct gm_vhost_shmem_config shmem;
	uint8_t bytes[8] = {0};
	int fd = -1;
	int rc = gm_vhost_frontend_create(
		FRONT(.rings = 2, .features = VERSION_1, .timeout_ms = job->timeout_ms,
			.protocol = FAKE_PROTOCOL &
				    ~(job->postcopy ? 0u : 1u << GM_VHOST_PROTOCOL_PAGEFAULT)),
		&fe, &err);

	if (job->postcopy) {
		TRY(gm_vhost_frontend_postcopy_advise(fe, &fd, &err));
		if (fd >= 0)
			close(fd);
		TRY(gm_vhost_frontend_postcopy_listen(fe, NULL, NULL, &err));
	}
	TRY(gm_vhost_frontend_inflight(fe, 16, &err));
	TRY(with_memory());
	TRY(gm_vhost_frontend_iotlb(fe, &iotlb, &err));
	TRY(gm_vhost_frontend_config_get(fe, 0, bytes, 8, &err));
	TRY(gm_vhost_frontend_config_set(fe, 0, bytes, 8, false, &err));
	TRY(gm_vhost_frontend_status_set(fe, 15, &err));
	TRY(gm_vhost_frontend_status_get(fe, bytes, &err));
	TRY(gm_vhost_frontend_shmem(fe, &shmem, &err));
	TRY(gm_vhost_frontend_state(fe, false, fake->theirs, &fd, &err));
	TRY(gm_vhost_frontend_state_check(fe, &err));
	TRY(gm_vhost_frontend_reset(fe, &err));
	if (job->postcopy)
		TRY(gm_vhost_frontend_postcopy_end(fe, &err));
	return rc;
}

/* With a space of its own, so that each begins alike. */
static int scenario(void *ctx)
{
	const struct job *job = ctx;
	int rc;

	memset(&err, 0, sizeof(err));
	fe = NULL;
	fake->lie_about = job->lie_about;
	fake->lie = job->lie;
	fake_start(fake);
	rc = all_of_it(job);
	fault_disarm();
	if (rc)
		assert_int_equal(err.code, rc);
	assert_int_equal(gm_vhost_frontend_destroy(fe, NULL), 0);
	if (added)
		assert_int_equal(gm_space_remove(space, added, NULL), 0);
	added = 0;
	assert_int_equal(gm_space_reclaim(space), 0);
	return rc;
}

static void begin_space(void)
{
	start(&small);
	add_shared(0, MIB(4));
	assert_ok(gm_block_create(SHARED(MIB(1)), &spare, &err));
}

static void end_space(void)
{
	gm_block_put(spare);
	stop();
}

static int run(struct job *job)
{
	size_t fds = fault_open_fds();
	int rc;

	begin_space();
	fake = fake_new();
	if (job->postcopy)
		fake->slots = 8;
	rc = scenario(job);
	/* A table that was refused may be left in part. */
	if (!job->lie)
		assert_false(fake->wrong);
	fake_end(fake);
	end_space();
	assert_int_equal(fault_open_fds(), fds);
	return rc;
}

/* Answers that are strange and not wrong. */
static bool harmless(uint32_t request, enum fake_lie lie)
{
	if (request == GM_VHOST_SET_LOG_BASE)
		return lie == LIE_LONGER || lie == LIE_SHORTER || lie == LIE_NUMBER;
	if (request == GM_VHOST_GET_INFLIGHT_FD)
		return lie == LIE_SHORTER;
	return lie == LIE_NUMBER &&
	       (request == GM_VHOST_GET_FEATURES || request == GM_VHOST_GET_PROTOCOL_FEATURES ||
		       request == GM_VHOST_GET_QUEUE_NUM || request == GM_VHOST_GET_MAX_MEM_SLOTS ||
		       request == GM_VHOST_POSTCOPY_ADVISE);
}

static bool is_closed(enum fake_lie lie)
{
	return lie == LIE_CLOSED || lie == LIE_CUT_HEAD || lie == LIE_CUT_PAYLOAD;
}

static unsigned int lies_about(uint32_t request, bool postcopy)
{
	unsigned int nr = 0;

	for (enum fake_lie lie = LIE_REQUEST; lie < LIE_NR; lie++) {
		struct job job = {postcopy, request, lie, 20000};
		int rc;

		if (lie == LIE_SILENT)
			continue;
		rc = run(&job);
		if (harmless(request, lie)) {
			if (rc)
				fail_msg("message %u, lie %u: %s", request, lie, err.text);
			continue;
		}
		if (rc != (is_closed(lie) ? -ECONNRESET : -EPROTO) && rc != -EREMOTEIO)
			fail_msg("message %u, lie %u: %d: %s", request, lie, rc, err.text);
		if (!strstr(err.text, gm_vhost_kind(GM_VHOST_FROM_FRONTEND, request)->name))
			fail_msg("message %u, lie %u: \"%s\" does not name it", request, lie,
				err.text);
		nr++;
	}
	return nr;
}

static void each_answer_may_be_wrong_in_each_way(void **state)
{
	static const uint32_t usual[] = {GM_VHOST_GET_FEATURES, GM_VHOST_GET_PROTOCOL_FEATURES,
		GM_VHOST_GET_QUEUE_NUM, GM_VHOST_GET_MAX_MEM_SLOTS, GM_VHOST_SET_BACKEND_REQ_FD,
		GM_VHOST_SET_OWNER, GM_VHOST_SET_FEATURES, GM_VHOST_GET_INFLIGHT_FD,
		GM_VHOST_SET_INFLIGHT_FD, GM_VHOST_ADD_MEM_REG, GM_VHOST_REM_MEM_REG,
		GM_VHOST_SET_LOG_BASE, GM_VHOST_SET_VRING_NUM, GM_VHOST_SET_VRING_BASE,
		GM_VHOST_SET_VRING_ADDR, GM_VHOST_SET_VRING_CALL, GM_VHOST_SET_VRING_KICK,
		GM_VHOST_SET_VRING_ENABLE, GM_VHOST_GET_VRING_BASE, GM_VHOST_IOTLB_MSG,
		GM_VHOST_GET_CONFIG, GM_VHOST_SET_CONFIG, GM_VHOST_SET_STATUS, GM_VHOST_GET_STATUS,
		GM_VHOST_GET_SHMEM_CONFIG, GM_VHOST_SET_DEVICE_STATE_FD,
		GM_VHOST_CHECK_DEVICE_STATE, GM_VHOST_RESET_DEVICE};
	static const uint32_t later[] = {GM_VHOST_POSTCOPY_ADVISE, GM_VHOST_POSTCOPY_LISTEN,
		GM_VHOST_SET_MEM_TABLE, GM_VHOST_POSTCOPY_END};
	unsigned int nr = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		nr += lies_about(usual[i], false);
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++)
		nr += lies_about(later[i], true);
	assert_true(nr > 32 * 10);
	printf("figure: wrong answers refused %u\n", nr);
}

static void no_answer_ends_with_the_deadline(void **state)
{
	static const uint32_t asked[] = {
		GM_VHOST_GET_FEATURES, GM_VHOST_ADD_MEM_REG, GM_VHOST_GET_VRING_BASE};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct job job = {false, asked[i], LIE_SILENT, 700};

		assert_int_equal(run(&job), -ETIMEDOUT);
		assert_non_null(
			strstr(err.text, gm_vhost_kind(GM_VHOST_FROM_FRONTEND, asked[i])->name));
	}
}

/* ---- what a back-end may not ask ---- */

static int ask(uint32_t request, uint32_t flags, uint32_t len, size_t sent, unsigned int nr_fds)
{
	struct gm_vhost_msg msg = {.request = request, .flags = flags, .len = len};
	uint8_t bytes[GM_VHOST_HEADER + GM_VHOST_PAYLOAD_MAX];
	struct gm_vhost_frontend_info info = {.size = sizeof(info)};
	const int fds[9] = {0};
	int rc;

	begin();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(FRONT(.rings = 2, .features = VERSION_1,
						   .timeout_ms = sent < 12 + len ? 100 : 20000),
		&fe, &err));
	memset(&msg.u, 0, sizeof(msg.u));
	memcpy(bytes, &msg, GM_VHOST_HEADER);
	memcpy(bytes + GM_VHOST_HEADER, &msg.u, GM_VHOST_PAYLOAD_MAX);
	fake_send(fake->channel, bytes, sent, fds, nr_fds);
	rc = gm_vhost_frontend_step(fe, 20000, &err);
	assert_int_equal(gm_vhost_frontend_info(fe, &info), 0);
	assert_int_equal(info.connected, rc >= 0);
	finish();
	return rc;
}

static void requests_that_cannot_be_end_the_connection(void **state)
{
	const uint32_t version = GM_VHOST_VERSION;
	size_t fds = fault_open_fds();

	(void)state;
	assert_int_equal(ask(GM_VHOST_BACKEND_CONFIG_CHANGE, version, 0, 12, 0), 1);
	assert_int_equal(ask(GM_VHOST_BACKEND_CONFIG_CHANGE, version, 8, 20, 0), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_CONFIG_CHANGE, version, 0, 12, 1), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_CONFIG_CHANGE, version, 0, 12, 9), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_CONFIG_CHANGE, 0, 0, 12, 0), -EPROTO);
	assert_int_equal(
		ask(GM_VHOST_BACKEND_CONFIG_CHANGE, version | GM_VHOST_REPLY, 0, 12, 0), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_SHMEM_MAP, version, 40, 52, 0), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_SHMEM_MAP, version, UINT32_MAX, 52, 1), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_VRING_CALL, version, 8, 20, 0), -EPROTO);
	assert_int_equal(ask(77, version, 0, 12, 0), -EPROTO);
	assert_int_equal(ask(GM_VHOST_BACKEND_SHMEM_UNMAP, version, 40, 51, 0), -ETIMEDOUT);
	assert_int_equal(ask(GM_VHOST_BACKEND_SHMEM_UNMAP, version, 40, 5, 0), -ETIMEDOUT);
	assert_int_equal(fault_open_fds(), fds);
}

static void misses_without_end_do_not_pile_up(void **state)
{
	unsigned int nr = 2000;
	uint8_t status;

	(void)state;
	begin();
	add_shared(0, MIB(4));
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	for (unsigned int i = 0; i < nr; i++) {
		struct gm_vhost_msg msg = {.request = GM_VHOST_BACKEND_IOTLB_MSG,
			.flags = GM_VHOST_VERSION,
			.len = sizeof(struct gm_vhost_iotlb)};
		uint8_t bytes[64];
		struct iovec iov = {bytes, 0};
		struct msghdr head = {.msg_iov = &iov, .msg_iovlen = 1};

		msg.u.iotlb = (struct gm_vhost_iotlb){
			.iova = GIB(1) + i * PAGE, .perm = 1, .type = GM_VHOST_IOTLB_MISS};
		iov.iov_len = fake_bytes(&msg, bytes);
		if (sendmsg(fake->channel, &head, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			nr = i;
	}
	assert_true(nr > 2 * 128);
	assert_ok(gm_vhost_frontend_status_get(fe, &status, &err));
	while (seen.misses < nr)
		assert_true(gm_vhost_frontend_step(fe, 20000, &err) >= 0);
	assert_int_equal(fake_count(fake, GM_VHOST_GET_STATUS), 1);
	finish();
}

static void what_nobody_asked_for_ends_the_connection(void **state)
{
	(void)state;
	begin();
	fake_start(fake);
	assert_ok(gm_vhost_frontend_create(PLAIN, &fe, &err));
	fake_send(fake->sock, "x", 1, NULL, 0);
	assert_fails(gm_vhost_frontend_step(fe, 20000, &err), EPROTO, "between requests");
	assert_fails(gm_vhost_frontend_step(fe, 0, &err), ENOTCONN, "no connection");
	finish();
}

/* ---- system calls ---- */

/* All that is made is made and gone inside. */
static int faulty(void *ctx)
{
	int rc;

	fake = fake_new();
	if (((const struct job *)ctx)->postcopy)
		fake->slots = 8;
	rc = scenario(ctx);
	fake_end(fake);
	return rc;
}

static void sweep(bool postcopy)
{
	static const int errnos[] = {ENOMEM, EPERM, EINVAL};
	const struct fault_sweep_opts storm = {
		.fn = FAULT_ANY, .eintr = 3, .errnos = errnos, .nr_errnos = 1};
	const struct fault_sweep_opts opts = {
		.fn = FAULT_ANY, .errnos = errnos, .nr_errnos = support_scale(1) > 1 ? 3 : 1};
	struct job job = {.postcopy = postcopy, .timeout_ms = 20000};
	unsigned long nr;

	begin_space();
	nr = fault_sweep_opts(faulty, &job, &opts);
	assert_true(nr > 100);
	printf("figure: faults of a front-end %lu\n", nr);
	if (!postcopy)
		assert_true(fault_sweep_opts(faulty, &job, &storm) >= nr / 2);
	end_space();
}

static void each_call_may_fail(void **state)
{
	(void)state;
	sweep(false);
}

static void each_call_in_post_copy_may_fail(void **state)
{
	(void)state;
	sweep(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_answer_may_be_wrong_in_each_way),
		cmocka_unit_test(no_answer_ends_with_the_deadline),
		cmocka_unit_test(requests_that_cannot_be_end_the_connection),
		cmocka_unit_test(misses_without_end_do_not_pile_up),
		cmocka_unit_test(what_nobody_asked_for_ends_the_connection),
		cmocka_unit_test(each_call_may_fail),
		cmocka_unit_test(each_call_in_post_copy_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
