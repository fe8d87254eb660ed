/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vhost_shmem.c - shared memory regions of a device: our back-end maps files, and our front-end's space shows
 * them; what cannot be is refused, and each call may fail.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "fault.h"
#include "vhost_front.h"

#include <guestmem/guard.h>

#define WAIT_MS 20000
#define BAR GIB(2)
#define LEN MIB(1) /* of region 3; region 7 has a half */
#define ID 3u
#define OTHER 7u

static struct gm_space *space;
static struct gm_reader *reader;
static struct gm_vhost_shmem *shmem;
static uint64_t container;
static uint64_t other;

#define SHMEM(...) GM_OPTS(gm_vhost_shmem_opts, .space = space, __VA_ARGS__)

/* ---- a space with containers ---- */

static uint64_t add_container(uint64_t gpa, uint64_t len)
{
	uint64_t id = 0;

	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = gpa, .len = len, .kind = GM_REGION_CONTAINER), &id,
		&err));
	return id;
}

static void start(void)
{
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)), &space, &err));
	assert_ok(gm_reader_create(space, "monitor", &reader, &err));
	container = add_container(BAR, LEN);
	other = add_container(BAR + MIB(16), LEN / 2);
}

static void stop(void)
{
	gm_reader_destroy(reader);
	gm_space_destroy(space);
}

static void place_all(void)
{
	assert_ok(gm_vhost_shmem_create(SHMEM(.kind = 0), &shmem, &err));
	assert_ok(gm_vhost_shmem_place(shmem, ID, container, &err));
	assert_ok(gm_vhost_shmem_place(shmem, OTHER, other, &err));
}

static uint64_t peek(uint64_t gpa)
{
	uint64_t value = 0;

	assert_int_equal(gm_read(gm_reader_enter(reader), gpa, &value, 8, NULL), 0);
	gm_reader_leave(reader);
	return value;
}

static int poke(uint64_t gpa, uint64_t value)
{
	int rc = gm_write(gm_reader_enter(reader), gpa, &value, 8, NULL);

	gm_reader_leave(reader);
	return rc;
}

static bool is_there(uint64_t gpa)
{
	uint64_t value;
	int rc = gm_read(gm_reader_enter(reader), gpa, &value, 8, NULL);

	gm_reader_leave(reader);
	assert_true(rc == 0 || rc == -EFAULT);
	return rc == 0;
}

static struct gm_vhost_shmem_map part(uint8_t id, uint64_t off, uint64_t len)
{
	return (struct gm_vhost_shmem_map){
		.id = id, .off = off, .len = len, .flags = GM_VHOST_SHMEM_WRITE};
}

static int put(uint8_t id, uint64_t off, uint64_t len, int fd)
{
	const struct gm_vhost_shmem_map map = part(id, off, len);

	return gm_vhost_shmem_map(shmem, &map, fd, &err);
}

static int drop(uint8_t id, uint64_t off, uint64_t len)
{
	const struct gm_vhost_shmem_map map = part(id, off, len);

	return gm_vhost_shmem_unmap(shmem, &map, &err);
}

/* ---- a back-end and a front-end ---- */

static struct device dev;
static struct gm_vhost_backend *backend;
static struct gm_vhost_server *server;
static struct gm_vhost_frontend *fe;
static pthread_t thread;
static atomic_bool stopping;
static int stop_fd;
static int ends[2];

static int on_map(void *ctx, const struct gm_vhost_shmem_map *map, int fd)
{
	(void)ctx;
	return gm_vhost_shmem_map(shmem, map, fd, &err);
}

static int on_unmap(void *ctx, const struct gm_vhost_shmem_map *map)
{
	(void)ctx;
	return gm_vhost_shmem_unmap(shmem, map, &err);
}

static const struct gm_vhost_frontend_ops calls = {
	.size = sizeof(calls), .shmem_map = on_map, .shmem_unmap = on_unmap};

static void on_stop(void *ctx)
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

static void begin(void)
{
	uint64_t lens[GM_VHOST_SHMEM_MAX] = {[ID] = LEN, [OTHER] = LEN / 2};
	const struct gm_vhost_backend_opts opts = {.size = sizeof(opts),
		.ops = &dev_ops,
		.ctx = &dev,
		.features = F_VERSION_1,
		.queues = QUEUES,
		.gpa_limit = GIB(64),
		.shmem = lens,
		.nr_shmem = OTHER + 1};
	struct gm_vhost_door door = {.size = sizeof(door)};

	start();
	memset(&dev, 0, sizeof(dev));
	stopping = false;
	assert_ok(gm_vhost_backend_create(&opts, &backend, &err));
	dev.b = backend;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	door.backend = backend;
	door.socket_plus = ends[0] + 1;
	assert_ok(gm_vhost_server_create(&server, &err));
	assert_ok(gm_vhost_server_add(server, &door, NULL, &err));
	assert_int_equal(gm_vhost_server_watch(server, stop_fd, on_stop, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
	assert_ok(gm_vhost_frontend_create(
		GM_OPTS(gm_vhost_frontend_opts, .fd = ends[1], .features = F_VERSION_1,
			.protocol_needed = P(SHMEM), .timeout_ms = WAIT_MS, .ops = &calls),
		&fe, &err));
	assert_ok(gm_vhost_frontend_attach(fe, space, &err));
}

static void finish(void)
{
	const uint64_t one = 1;

	assert_ok(gm_vhost_frontend_destroy(fe, &err));
	close(ends[1]);
	assert_int_equal(write(stop_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(pthread_join(thread, NULL), 0);
	gm_vhost_server_destroy(server);
	gm_vhost_backend_destroy(backend);
	close(stop_fd);
	assert_ok(gm_vhost_shmem_destroy(shmem, &err));
	shmem = NULL;
	stop();
}

static atomic_int answer;

static void on_answer(void *ctx, int rc, const struct gm_vhost_msg *reply, int fd)
{
	(void)ctx;
	(void)reply;
	assert_int_equal(fd, -1);
	answer = rc;
}

/* What the back-end is told: 0, or a negative errno value. */
static int ask_front(uint32_t request, struct gm_vhost_shmem_map map, int fd)
{
	struct gm_vhost_msg msg = {.request = request, .len = sizeof(map)};

	msg.u.map = map;
	answer = 1;
	assert_ok(gm_vhost_backend_request(
		backend, &msg, &fd, fd >= 0 ? 1 : 0, on_answer, NULL, &err));
	while (answer == 1)
		assert_true(gm_vhost_frontend_step(fe, 1, &err) >= 0);
	return answer;
}

/* Mappings of the files in this process. */
static unsigned int nr_mapped(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned int nr = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		nr += strstr(line, "memfd:front") != NULL;
	fclose(file);
	return nr;
}

#define MAP(...) ask_front(GM_VHOST_BACKEND_SHMEM_MAP, __VA_ARGS__)
#define UNMAP(...) ask_front(GM_VHOST_BACKEND_SHMEM_UNMAP, __VA_ARGS__, -1)

static void what_a_back_end_maps_shows_in_the_space(void **state)
{
	const int fd = make_ram(MIB(1), F_SEAL_SHRINK);
	uint64_t *file = mmap(NULL, MIB(1), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct gm_vhost_shmem_config config;
	struct gm_vhost_shmem_map map = part(ID, 4 * PAGE, 2 * PAGE);
	struct gm_vhost_shmem_map fixed = part(OTHER, 0, PAGE);
	const unsigned int before = nr_mapped();
	uint64_t id = 0;

	(void)state;
	begin();
	assert_ok(gm_vhost_frontend_shmem(fe, &config, &err));
	assert_int_equal(config.len[ID], LEN);
	assert_int_equal(config.len[OTHER], LEN / 2);
	place_all();
	file[8 * PAGE / 8] = 111;
	map.fd_off = 8 * PAGE;
	assert_false(is_there(BAR + 4 * PAGE));
	assert_int_equal(MAP(map, fd), 0);
	assert_int_equal(nr_mapped(), before + 1);
	/* Both sides see the same bytes, to the last. */
	assert_int_equal(peek(BAR + 4 * PAGE), 111);
	assert_int_equal(poke(BAR + 6 * PAGE - 8, 222), 0);
	assert_int_equal(file[10 * PAGE / 8 - 1], 222);
	file[9 * PAGE / 8] = 333;
	assert_int_equal(peek(BAR + 5 * PAGE), 333);
	assert_false(is_there(BAR + 4 * PAGE - 8));
	assert_false(is_there(BAR + 6 * PAGE));
	/* What may not be written. */
	fixed.flags = 0;
	assert_int_equal(MAP(fixed, fd), 0);
	file[1] = 444;
	assert_int_equal(peek(BAR + MIB(16) + 8), 444);
	assert_int_equal(poke(BAR + MIB(16) + 8, 5), -EACCES);
	/* The map changes beside it, and the back-end's table with it. */
	assert_ok(gm_space_add(space,
		GM_OPTS(gm_region_desc, .gpa = 0,
			.backing = GM_OPTS(gm_block_opts, .len = MIB(2), .flags = GM_BLOCK_SHARE)),
		&id, &err));
	assert_int_equal(peek(BAR + 4 * PAGE), 111);
	/* It goes, and its file stays. */
	assert_int_equal(nr_mapped(), before + 2);
	assert_int_equal(UNMAP(map), 0);
	assert_int_equal(nr_mapped(), before + 1);
	assert_false(is_there(BAR + 4 * PAGE));
	assert_true(is_there(BAR + MIB(16)));
	assert_int_equal(UNMAP(map), -EREMOTEIO);
	file[8 * PAGE / 8] = 112;
	assert_int_equal(MAP(map, fd), 0);
	assert_int_equal(peek(BAR + 4 * PAGE), 112);
	assert_ok(gm_vhost_shmem_clear(shmem, &err));
	assert_false(is_there(BAR + 4 * PAGE));
	assert_false(is_there(BAR + MIB(16)));
	assert_int_equal(nr_mapped(), before);
	assert_int_equal(MAP(map, fd), 0);
	finish();
	assert_int_equal(nr_mapped(), before);
	munmap(file, MIB(1));
	close(fd);
}

static void a_back_end_that_asks_wrongly_is_told_so(void **state)
{
	const int fd = make_ram(MIB(1), F_SEAL_SHRINK);

	(void)state;
	begin();
	place_all();
	assert_int_equal(MAP(part(ID, LEN - PAGE, 2 * PAGE), fd), -EREMOTEIO);
	assert_int_equal(MAP(part(ID, UINT64_MAX - PAGE + 1, PAGE), fd), -EREMOTEIO);
	assert_int_equal(MAP(part(5, 0, PAGE), fd), -EREMOTEIO);
	assert_int_equal(MAP(part(ID, 0, PAGE), fd), 0);
	assert_int_equal(MAP(part(ID, 0, PAGE), fd), -EREMOTEIO);
	assert_int_equal(UNMAP(part(ID, PAGE, PAGE)), -EREMOTEIO);
	/* The connection is as good as before. */
	assert_int_equal(MAP(part(ID, LEN - PAGE, PAGE), fd), 0);
	assert_true(is_there(BAR + LEN - 8));
	finish();
	close(fd);
}

/* ---- alone ---- */

static void what_cannot_be_is_refused(void **state)
{
	const int fd = make_ram(16 * PAGE, F_SEAL_SHRINK);
	const int loose = make_ram(16 * PAGE, 0);
	const int reads = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct gm_vhost_shmem_map map = part(ID, 0, PAGE);
	struct gm_txn *txn;
	int pipes[2];

	(void)state;
	start();
	assert_int_equal(pipe(pipes), 0);
	assert_fails(gm_vhost_shmem_create(GM_OPTS(gm_vhost_shmem_opts, .maps = 1), &shmem, &err),
		EINVAL, "no space");
	assert_fails(gm_vhost_shmem_create(SHMEM(.maps = 65536), &shmem, &err), EINVAL, "65536");
	assert_ok(gm_vhost_shmem_create(SHMEM(.maps = 2), &shmem, &err));
	assert_fails(gm_vhost_shmem_place(shmem, ID, 0, &err), ENOENT, "does not exist");
	assert_fails(gm_vhost_shmem_place(shmem, ID, 999, &err), ENOENT, "999");
	assert_fails(put(ID, 0, PAGE, fd), ENOENT, "region 3");
	assert_ok(gm_vhost_shmem_place(shmem, ID, container, &err));
	assert_fails(gm_vhost_shmem_place(shmem, ID, other, &err), EBUSY, "has a container");
	assert_fails(put(ID, 0, 0, fd), ERANGE, "0 at 0");
	assert_fails(put(ID, LEN, PAGE, fd), ERANGE, "1048576");
	assert_fails(put(ID, PAGE, LEN, fd), ERANGE, "at 4096");
	assert_fails(put(ID, 0, 17 * PAGE, fd), EINVAL, "65536 bytes");
	assert_fails(put(ID, 0, PAGE, pipes[0]), EINVAL, "no file");
	assert_fails(put(ID, 0, PAGE, loose), EPERM, "F_SEAL_SHRINK");
	assert_int_equal(put(ID, 8, PAGE, fd), -EINVAL);
	assert_int_equal(put(ID, 0, PAGE + 8, fd), -EINVAL);
	map.fd_off = 24;
	assert_int_equal(gm_vhost_shmem_map(shmem, &map, fd, &err), -EINVAL);
	map.fd_off = 0;
	map.flags = 2;
	assert_fails(gm_vhost_shmem_map(shmem, &map, fd, &err), EINVAL, "flags 0x2");
	assert_int_equal(gm_vhost_shmem_map(shmem, &map, -1, &err), -EINVAL);
	map.flags = 0;
	assert_fails(gm_vhost_shmem_map(shmem, &map, -1, &err), EBADF, "fstat");
	/* With the guard it may be any file. */
	assert_int_equal(gm_guard_install(), 0);
	assert_int_equal(put(ID, 0, PAGE, reads), -EACCES);
	assert_ok(gm_vhost_shmem_map(shmem, &map, reads, &err));
	assert_fails(put(ID, 0, 2 * PAGE, fd), EEXIST, "");
	assert_ok(put(ID, 2 * PAGE, 2 * PAGE, fd));
	assert_fails(put(ID, 8 * PAGE, PAGE, fd), ENOSPC, "2 mappings");
	assert_fails(drop(ID, 2 * PAGE, PAGE), EINVAL, "not go whole");
	assert_fails(drop(ID, 0, 3 * PAGE), EINVAL, "not go whole");
	assert_fails(drop(ID, PAGE, PAGE), ENOENT, "nothing");
	assert_fails(drop(OTHER, 0, LEN), ENOENT, "nothing");
	assert_fails(drop(ID, 0, 0), EINVAL, "no bytes");
	assert_fails(drop(ID, PAGE, UINT64_MAX), EINVAL, "wrap");
	/* Nobody waits for who changes the map. */
	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_int_equal(drop(ID, 0, LEN), -EBUSY);
	assert_int_equal(gm_vhost_shmem_destroy(shmem, &err), -EBUSY);
	gm_txn_abort(txn);
	assert_true(is_there(BAR) && is_there(BAR + 2 * PAGE));
	assert_ok(drop(ID, 0, LEN));
	assert_false(is_there(BAR) || is_there(BAR + 2 * PAGE));
	assert_ok(gm_vhost_shmem_destroy(shmem, &err));
	assert_ok(gm_vhost_shmem_destroy(NULL, &err));
	shmem = NULL;
	assert_int_equal(gm_guard_remove(), 0);
	close(pipes[0]);
	close(pipes[1]);
	close(reads);
	close(loose);
	close(fd);
	stop();
}

/* ---- each call may fail ---- */

static int shared_fd;

static int use_all(bool *ret_mapped)
{
	const struct gm_vhost_shmem_map one = part(ID, 0, PAGE);
	const struct gm_vhost_shmem_map two = part(ID, 4 * PAGE, PAGE);
	int rc = gm_vhost_shmem_create(SHMEM(.maps = 4), &shmem, &err);

	rc = rc ? rc : gm_vhost_shmem_place(shmem, ID, container, &err);
	rc = rc ? rc : gm_vhost_shmem_map(shmem, &one, shared_fd, &err);
	rc = rc ? rc : gm_vhost_shmem_map(shmem, &two, shared_fd, &err);
	*ret_mapped = rc == 0;
	rc = rc ? rc : gm_vhost_shmem_unmap(shmem, &one, &err);
	rc = rc ? rc : gm_vhost_shmem_clear(shmem, &err);
	return rc;
}

/* In a space of its own: memory whose readers could not be waited for goes with it. */
static int a_life(void *ctx)
{
	const struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = BAR, .len = LEN, .kind = GM_REGION_CONTAINER};
	bool mapped = false;
	int rc = gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)), &space, &err);

	(void)ctx;
	if (rc)
		return rc;
	shmem = NULL;
	reader = NULL;
	rc = gm_reader_create(space, "monitor", &reader, &err);
	rc = rc ? rc : gm_space_add(space, &desc, &container, &err);
	rc = rc ? rc : use_all(&mapped);
	fault_disarm();
	/* What failed changed nothing. */
	if (reader)
		assert_int_equal(is_there(BAR + 4 * PAGE), mapped && rc);
	if (gm_vhost_shmem_destroy(shmem, &err))
		fail_msg("%s", err.text);
	if (reader)
		assert_false(is_there(BAR) || is_there(BAR + 4 * PAGE));
	stop();
	return rc;
}

static void each_call_may_fail(void **state)
{
	unsigned long nr;

	(void)state;
	shared_fd = make_ram(MIB(1), F_SEAL_SHRINK);
	nr = fault_sweep(a_life, NULL);
	assert_true(nr > 30);
	close(shared_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_back_end_maps_shows_in_the_space),
		cmocka_unit_test(a_back_end_that_asks_wrongly_is_told_so),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(each_call_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
