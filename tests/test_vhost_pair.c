/* SPDX-License-Identifier: BSD-3-Clause */
/* test_vhost_pair.c - our front-end and our back-end over a socket, with a device that answers each chain inverted. */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vhost_front.h"

#define WAIT_MS 20000

static struct front f;
static struct gm_vhost_frontend *fe;
static struct gm_vhost_server *server;
static pthread_t thread;
static int stop_fd;
static atomic_bool stopping;
static uint64_t iova_of; /* IOVA of guest address 0 */
static atomic_uint misses;

/* ---- the back-end's thread ---- */

static void on_kick(void *ctx)
{
	struct device *d = ctx;
	uint64_t nr;

	/* It may have been read when it was looked at. */
	(void)!read(d->queue[0].kick, &nr, sizeof(nr));
	if (d->runs[0])
		dev_serve(d, 0);
}

static int on_start(void *ctx, const struct gm_vhost_queue *queue)
{
	struct device *d = ctx;
	int rc = dev_start(ctx, queue);

	if (rc == 0 && queue->index == 0) {
		gm_vhost_server_watch(server, queue->kick, on_kick, d);
		dev_serve(d, 0);
	}
	return rc;
}

static void on_stop(void *ctx, uint32_t index, bool suspend)
{
	struct device *d = ctx;

	if (index == 0)
		gm_vhost_server_unwatch(server, d->queue[0].kick);
	dev_stop(ctx, index, suspend);
}

static void on_translated(void *ctx)
{
	struct device *d = ctx;

	if (d->runs[0])
		dev_serve(d, 0);
}

static void on_stop_fd(void *ctx)
{
	(void)ctx;
	stopping = true;
}

static void *serve(void *ctx)
{
	struct gm_error why;

	(void)ctx;
	while (!stopping)
		gm_vhost_server_turn(server, -1, &why);
	return NULL;
}

static int listen_here(char path[64])
{
	struct {
		sa_family_t family;
		char path[108];
	} addr = {.family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(path, 64, "/tmp/gm-pair-%d", getpid());
	unlink(path);
	memcpy(addr.path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/* ---- the front-end ---- */

static int on_miss(void *ctx, struct gm_vhost_iotlb *iotlb)
{
	(void)ctx;
	misses++;
	if (iotlb->iova < iova_of || iotlb->iova - iova_of >= RAM)
		return -ENOENT;
	iotlb->iova &= ~(PAGE - 1);
	iotlb->user = iotlb->iova - iova_of;
	iotlb->len = PAGE;
	iotlb->perm = 3;
	return 0;
}

static const struct gm_vhost_frontend_ops calls = {.size = sizeof(calls), .miss = on_miss};
static int listener;
static char path[64];

static void begin(uint64_t features, uint32_t flags)
{
	struct gm_vhost_backend_ops ops = dev_ops;
	const struct gm_vhost_backend_opts opts = {
		.features = ALL_FEATURES, .queues = QUEUES, .ops = &ops, .flags = flags};
	struct gm_vhost_door door = {.size = sizeof(door)};

	ops.queue_start = on_start;
	ops.queue_stop = on_stop;
	ops.translated = on_translated;
	iova_of = features & GM_VHOST_F_IOMMU_PLATFORM ? GIB(32) : 0;
	misses = 0;
	stopping = false;
	open_backend(&f, &opts);
	listener = listen_here(path);
	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	door.backend = f.b;
	door.listener_plus = listener + 1;
	assert_ok(gm_vhost_server_create(&server, &err));
	assert_ok(gm_vhost_server_add(server, &door, NULL, &err));
	assert_int_equal(gm_vhost_server_watch(server, stop_fd, on_stop_fd, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
	features |= F_VERSION_1;
	assert_ok(gm_vhost_frontend_create(
		GM_OPTS(gm_vhost_frontend_opts, .path = path, .rings = 2, .features = features,
			.needed = features, .timeout_ms = WAIT_MS, .ops = &calls),
		&fe, &err));
	f.features = features;
	assert_ok(gm_vhost_frontend_attach(fe, f.space, &err));
	make_driver(&f);
}

static void finish(void)
{
	const uint64_t one = 1;

	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	assert_int_equal(write(stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(thread, NULL), 0);
	gm_vhost_server_destroy(server);
	close(stop_fd);
	close(listener);
	unlink(path);
	close_backend(&f);
}

static void start_queue(void)
{
	const struct gm_vhost_frontend_ring ring = {.size = sizeof(ring),
		.num = NR,
		.desc = iova_of + DESC_AT,
		.avail = iova_of + AVAIL_AT,
		.used = iova_of + USED_AT,
		.base = first_base(&f),
		.flags = GM_VHOST_FRONTEND_RING_LOG,
		.log = USED_AT,
		.kick = f.kick,
		.call = f.call,
		.error = f.err};

	assert_ok(gm_vhost_frontend_ring_start(fe, 0, &ring, &err));
}

/* One chain there and back; meanwhile the back-end may ask for translations. */
static void trip(uint8_t first, uint64_t in, uint64_t out)
{
	const struct gm_chain_elem elems[] = {{.gpa = iova_of + in, .len = 16},
		{.gpa = iova_of + out, .len = 16, .flags = GM_CHAIN_WRITE}};
	const struct gm_view *view = gm_reader_enter(f.reader);
	const uint64_t one = 1;

	assert_int_equal(gm_fill(view, in, first, 16, NULL), 0);
	assert_int_equal(gm_virtq_driver_add(f.driver, view, elems, 2, 0, &f), 0);
	assert_true(gm_virtq_driver_show(f.driver, view) >= 0);
	gm_reader_leave(f.reader);
	assert_int_equal(write(f.kick, &one, sizeof(one)), sizeof(one));
	for (;;) {
		struct pollfd waits[] = {{.fd = f.call, .events = POLLIN},
			{.fd = gm_vhost_frontend_fd(fe), .events = POLLIN}};

		assert_true(poll(waits, 2, WAIT_MS) > 0);
		if (waits[1].revents)
			assert_true(gm_vhost_frontend_step(fe, 0, &err) >= 0);
		if (waits[0].revents && was_called(f.call))
			break;
	}
	take_back(&f, first, out);
}

/* ---- tests ---- */

static void trips(uint64_t features, uint32_t flags)
{
	uint64_t id = 0;

	begin(features, flags);
	start_queue();
	for (int i = 0; i < 100; i++)
		trip((uint8_t)i, IN_AT, OUT_AT);
	/* Memory comes and goes while the ring runs. */
	for (int i = 0; i < 10; i++) {
		assert_ok(gm_space_add(f.space,
			GM_OPTS(gm_region_desc, .gpa = GIB(1),
				.backing = GM_OPTS(
					gm_block_opts, .len = MIB(1), .flags = GM_BLOCK_SHARE)),
			&id, &err));
		if (!iova_of)
			trip(9, GIB(1), OUT_AT);
		assert_ok(gm_space_remove(f.space, id, &err));
		trip((uint8_t)i, IN_AT, OUT_AT);
	}
	assert_ok(gm_vhost_frontend_ring_stop(fe, 0, NULL, &err));
	finish();
}

static void chains_go_there_and_back_in_split_rings(void **state)
{
	(void)state;
	trips(0, 0);
}

static void chains_go_there_and_back_in_packed_rings(void **state)
{
	(void)state;
	trips(F_PACKED | F_EVENT, 0);
}

static void chains_go_there_and_back_by_whole_tables(void **state)
{
	(void)state;
	trips(F_INDIRECT, GM_VHOST_BACKEND_NO_SLOTS);
}

static void chains_go_there_and_back_by_translations(void **state)
{
	(void)state;
	trips(GM_VHOST_F_IOMMU_PLATFORM, 0);
	assert_true(misses >= 4);
}

static void what_the_device_writes_is_logged(void **state)
{
	struct gm_log *log;
	uint64_t pages = 0;

	(void)state;
	begin(0, 0);
	start_queue();
	assert_ok(gm_vhost_frontend_log_start(fe, &err));
	trip(1, IN_AT, OUT_AT);
	assert_ok(gm_vhost_frontend_log_sync(fe, &pages, &err));
	assert_ok(gm_log_create(f.space, GM_OPTS(gm_log_opts, .page_size = PAGE), &log, &err));
	trip(2, IN_AT, OUT_AT + PAGE);
	assert_ok(gm_vhost_frontend_log_sync(fe, &pages, &err));
	/* The buffer and the used ring, by the device alone. */
	assert_int_equal(pages, 2);
	assert_int_equal(gm_log_count(log, OUT_AT + PAGE, PAGE), 1);
	assert_int_equal(gm_log_count(log, OUT_AT, PAGE), 0);
	assert_int_equal(gm_log_count(log, USED_AT, PAGE), 1);
	assert_ok(gm_vhost_frontend_log_stop(fe, &err));
	assert_ok(gm_log_destroy(log, &err));
	finish();
}

static void a_new_connection_goes_on_where_the_last_was(void **state)
{
	uint8_t config[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	uint8_t got[8] = {0};

	(void)state;
	begin(0, 0);
	assert_ok(gm_vhost_frontend_inflight(fe, NR, &err));
	start_queue();
	for (int i = 0; i < 5; i++)
		trip((uint8_t)i, IN_AT, OUT_AT);
	assert_ok(gm_vhost_frontend_reconnect(fe, -1, &err));
	for (int i = 0; i < 5; i++)
		trip((uint8_t)i, IN_AT, OUT_AT);
	assert_ok(gm_vhost_frontend_config_set(fe, 8, config, 8, false, &err));
	assert_ok(gm_vhost_frontend_config_get(fe, 8, got, 8, &err));
	assert_memory_equal(config, got, 8);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_go_there_and_back_in_split_rings),
		cmocka_unit_test(chains_go_there_and_back_in_packed_rings),
		cmocka_unit_test(chains_go_there_and_back_by_whole_tables),
		cmocka_unit_test(chains_go_there_and_back_by_translations),
		cmocka_unit_test(what_the_device_writes_is_logged),
		cmocka_unit_test(a_new_connection_goes_on_where_the_last_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
