/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_foreign.c - our front-end with a back-end of others, qemu-storage-daemon's vhost-user-blk: directly, and
 * with "guestmem vhost-user inspect" between them; and with "guestmem blk". The command is argument 1.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spawned.h"

#define PAGE UINT64_C(4096)
#define NR 64u
#define WAIT_MS 30000
#define VERSION_1 (UINT64_C(1) << 32)
#define SECTORS 2048u
#define HEAD_AT MIB(1)
#define DATA_AT MIB(2)
#define STATUS_AT (MIB(1) + PAGE)

static const char *tool;
static struct gm_error err;
static char dir[] = "/tmp/gm-foreign-XXXXXX";
static char image[64];
static char back[64];
static char front[64];

/* ---- processes ---- */

static pid_t start_daemon(void)
{
	char blockdev[128];
	char export[192];
	char *argv[] = {"qemu-storage-daemon", "--blockdev", blockdev, "--export", export, NULL};

	snprintf(blockdev, sizeof(blockdev), "driver=file,node-name=disk,filename=%s", image);
	snprintf(export, sizeof(export),
		"type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=%s,writable=on",
		back);
	return spawn(argv);
}

/* ---- requests ---- */

struct disk {
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_vhost_frontend *fe;
	struct gm_virtq_driver *driver;
	int kick;
	int call;
};

struct head {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

static void request(struct disk *d, uint32_t type, uint64_t sector, uint32_t len)
{
	const struct head head = {htole32(type), 0, htole64(sector)};
	const struct gm_chain_elem elems[] = {{.gpa = HEAD_AT, .len = sizeof(head)},
		{.gpa = DATA_AT, .len = len, .flags = type ? 0 : GM_CHAIN_WRITE},
		{.gpa = STATUS_AT, .len = 1, .flags = GM_CHAIN_WRITE}};
	const struct gm_view *view = gm_reader_enter(d->reader);
	const uint64_t one = 1;
	uint8_t status = 0xff;
	void *token = NULL;
	uint32_t used = 0;
	uint64_t nr;
	int rc = 0;

	assert_int_equal(gm_write(view, HEAD_AT, &head, sizeof(head), NULL), 0);
	assert_int_equal(gm_write(view, STATUS_AT, &status, 1, NULL), 0);
	assert_int_equal(gm_virtq_driver_add(d->driver, view, elems, 3, 0, d), 0);
	assert_true(gm_virtq_driver_show(d->driver, view) >= 0);
	assert_int_equal(write(d->kick, &one, sizeof(one)), sizeof(one));
	while (rc == 0) {
		struct pollfd waits = {.fd = d->call, .events = POLLIN};

		assert_int_equal(poll(&waits, 1, WAIT_MS), 1);
		assert_int_equal(read(d->call, &nr, sizeof(nr)), sizeof(nr));
		rc = gm_virtq_driver_take(d->driver, view, &token, &used, &err);
	}
	assert_int_equal(rc, 1);
	assert_int_equal(gm_read(view, STATUS_AT, &status, 1, NULL), 0);
	assert_int_equal(status, 0);
	gm_reader_leave(d->reader);
}

static void open_disk(struct disk *d, const char *path)
{
	const struct gm_vhost_frontend_ring ring = {.size = sizeof(ring),
		.num = NR,
		.avail = PAGE,
		.used = 2 * PAGE,
		.kick = d->kick,
		.call = d->call,
		.error = -1};
	const struct gm_virtq_opts opts = {
		.size = sizeof(opts), .driver = PAGE, .device = 2 * PAGE, .nr = NR};
	uint64_t capacity = 0;

	assert_ok(gm_vhost_frontend_create(
		GM_OPTS(gm_vhost_frontend_opts, .path = path, .features = VERSION_1,
			.needed = VERSION_1, .timeout_ms = WAIT_MS),
		&d->fe, &err));
	assert_ok(gm_vhost_frontend_config_get(d->fe, 0, &capacity, 8, &err));
	assert_int_equal(le64toh(capacity), SECTORS);
	assert_ok(gm_vhost_frontend_attach(d->fe, d->space, &err));
	assert_ok(gm_virtq_driver_create(&opts, gm_reader_enter(d->reader), &d->driver, &err));
	gm_reader_leave(d->reader);
	assert_ok(gm_vhost_frontend_ring_start(d->fe, 0, &ring, &err));
}

static void work(struct disk *d)
{
	uint8_t bytes[8192];
	struct gm_log *log;
	uint64_t pages = 0;
	uint64_t id = 0;
	uint32_t base = 0;

	assert_ok(gm_vhost_frontend_log_start(d->fe, &err));
	for (uint8_t i = 0; i < 20; i++) {
		assert_int_equal(
			gm_fill(gm_reader_enter(d->reader), DATA_AT, i, sizeof(bytes), NULL), 0);
		gm_reader_leave(d->reader);
		request(d, 1, 16u * i, sizeof(bytes));
	}
	assert_ok(gm_vhost_frontend_log_sync(d->fe, &pages, &err));
	assert_ok(gm_log_create(d->space, GM_OPTS(gm_log_opts, .page_size = PAGE), &log, &err));
	/* The table changes under it. */
	assert_ok(gm_space_add(d->space,
		GM_OPTS(gm_region_desc, .gpa = GIB(1),
			.backing = GM_OPTS(gm_block_opts, .len = MIB(2), .flags = GM_BLOCK_SHARE)),
		&id, &err));
	for (uint8_t i = 0; i < 20; i++) {
		request(d, 0, 16u * i, sizeof(bytes));
		assert_int_equal(
			gm_read(gm_reader_enter(d->reader), DATA_AT, bytes, sizeof(bytes), NULL),
			0);
		gm_reader_leave(d->reader);
		for (size_t at = 0; at < sizeof(bytes); at++)
			assert_int_equal(bytes[at], i);
	}
	assert_ok(gm_space_remove(d->space, id, &err));
	assert_ok(gm_vhost_frontend_log_sync(d->fe, &pages, &err));
	assert_int_equal(gm_log_count(log, DATA_AT, sizeof(bytes)), sizeof(bytes) / PAGE);
	assert_ok(gm_vhost_frontend_log_stop(d->fe, &err));
	assert_ok(gm_log_destroy(log, &err));
	assert_ok(gm_vhost_frontend_ring_stop(d->fe, 0, &base, &err));
	assert_int_equal(base, 40);
}

static void use_disk(const char *path)
{
	struct disk d = {.kick = eventfd(0, EFD_CLOEXEC), .call = eventfd(0, EFD_CLOEXEC)};

	assert_ok(gm_space_build(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)),
		&(struct gm_region_desc){.size = sizeof(struct gm_region_desc),
			.backing = GM_OPTS(gm_block_opts, .len = MIB(8), .flags = GM_BLOCK_SHARE)},
		1, &d.space, &err));
	assert_ok(gm_reader_create(d.space, "driver", &d.reader, &err));
	open_disk(&d, path);
	work(&d);
	assert_ok(gm_vhost_frontend_destroy(d.fe, &err));
	gm_virtq_driver_destroy(d.driver);
	gm_reader_destroy(d.reader);
	gm_space_destroy(d.space);
	close(d.kick);
	close(d.call);
}

/* ---- tests ---- */

static void a_disk_of_others_is_read_and_written(void **state)
{
	pid_t pid = start_daemon();

	(void)state;
	if (pid < 0) {
		puts("skipped: there is no qemu-storage-daemon");
		skip();
	}
	assert_true(spawned_listens(back, pid));
	use_disk(back);
	use_disk(back);
	spawned_end(pid, SIGTERM, -1);
	unlink(back);
}

static void our_own_is_used_alike(void **state)
{
	pid_t pid = spawn_blk(tool, back, image, NULL);

	(void)state;
	use_disk(back);
	use_disk(back);
	spawned_end(pid, SIGTERM, 0);
	assert_int_equal(access(back, F_OK), -1);
}

static void what_stands_between_them_changes_nothing(void **state)
{
	char *argv[] = {
		(char *)(uintptr_t)tool, "vhost-user", "inspect", "--json", front, back, NULL};
	pid_t between;
	pid_t pid = start_daemon();

	(void)state;
	if (pid < 0) {
		puts("skipped: there is no qemu-storage-daemon");
		skip();
	}
	assert_true(spawned_listens(back, pid));
	between = spawn(argv);
	assert_true(spawned_listens(front, between));
	use_disk(front);
	use_disk(front);
	spawned_end(between, SIGINT, 0);
	assert_int_equal(access(front, F_OK), -1);
	spawned_end(pid, SIGTERM, -1);
	unlink(back);
}

static int set_up(void **state)
{
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(back, sizeof(back), "%s/back", dir);
	snprintf(front, sizeof(front), "%s/front", dir);
	fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, SECTORS * 512), 0);
	return close(fd);
}

static int tear_down(void **state)
{
	(void)state;
	unlink(image);
	unlink(back);
	unlink(front);
	return rmdir(dir);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_of_others_is_read_and_written),
		cmocka_unit_test(our_own_is_used_alike),
		cmocka_unit_test(what_stands_between_them_changes_nothing),
	};

	if (argc != 2)
		return 2;
	tool = argv[1];
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
