/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_disk.c - files as disks, by io_uring and by plain calls: the right bytes, holes where there were discards, files
 * that fail, are interrupted, end too early, want alignment; and guests on them.
 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <guestmem/log.h>

#include "fault.h"
#include "one_blk.h"

#define LEN MIB(4)
#define NR 64u

static int fd = -1;
static struct gm_disk *file;
static struct gm_disk_channel *channel;

static int new_file(const char *dir, int flags, uint64_t len)
{
	char path[64];
	int made;

	snprintf(path, sizeof(path), "%s/gm_disk_XXXXXX", dir);
	made = mkstemp(path);
	assert_true(made >= 0);
	assert_int_equal(ftruncate(made, (off_t)len), 0);
	if (flags) {
		close(made);
		made = open(path, flags);
	}
	unlink(path);
	return made;
}

static void open_disk(uint32_t flags)
{
	assert_ok(gm_disk_file(
		&(struct gm_disk_file_opts){
			.size = sizeof(struct gm_disk_file_opts), .fd = fd, .flags = flags},
		&file, &err));
	assert_ok(gm_disk_open(file, NR, &channel, &err));
}

static void close_disk(void)
{
	gm_disk_close(channel);
	gm_disk_destroy(file);
	close(fd);
	fd = -1;
}

static bool is_uring(void)
{
	struct gm_disk_info info = {.size = sizeof(info)};
	char path[64];
	char name[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", gm_disk_fd(channel));
	assert_true(readlink(path, name, sizeof(name) - 1) > 0);
	assert_int_equal(gm_disk_look(file, &info), 0);
	assert_int_equal(!strstr(name, "io_uring"), !(info.flags & GM_DISK_BY_URING));
	return strstr(name, "io_uring");
}

/* ---- requests ---- */

struct work {
	struct gm_disk_req req;
	struct iovec slices[8];
	uint8_t *buf;
	bool is_out;
	bool is_done;
	int rc;
};

static struct work works[NR];

static void on_done(struct gm_disk_req *req, int rc)
{
	struct work *w = req->ctx;

	assert_true(w->is_out && !w->is_done);
	w->is_done = true;
	w->rc = rc;
}

static int begin(struct work *w, uint32_t op, uint64_t off, uint64_t len)
{
	w->req.op = op;
	w->req.off = off;
	w->req.len = len;
	w->req.done = on_done;
	w->req.ctx = w;
	w->is_done = false;
	w->is_out = true;
	return gm_disk_start(channel, &w->req);
}

static int begin_move(struct work *w, uint32_t op, uint64_t off, void *buf, size_t len)
{
	w->req = (struct gm_disk_req){.slices = w->slices, .nr = 1};
	w->slices[0] = (struct iovec){buf, len};
	return begin(w, op, off, len);
}

static int finish(struct work *w)
{
	while (!w->is_done) {
		struct pollfd wait = {.fd = gm_disk_fd(channel), .events = POLLIN};
		int more = gm_disk_step(channel);

		assert_true(more >= 0);
		if (!w->is_done && !more)
			assert_true(poll(&wait, 1, 20000) > 0);
	}
	w->is_out = false;
	return w->rc;
}

static int move(uint32_t op, uint64_t off, void *buf, size_t len)
{
	int rc = begin_move(&works[0], op, off, buf, len);

	return rc ? rc : finish(&works[0]);
}

static int act(uint32_t op, uint32_t flags, uint64_t off, uint64_t len)
{
	int rc;

	works[0].req = (struct gm_disk_req){.flags = flags};
	rc = begin(&works[0], op, off, len);
	return rc ? rc : finish(&works[0]);
}

static uint64_t blocks(void)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

/* ---- against a model ---- */

static uint8_t bytes_of[LEN];

static void start_random(struct work *w, uint64_t piece, struct rng *rng)
{
	static const uint32_t ops[] = {GM_DISK_READ, GM_DISK_READ, GM_DISK_READ, GM_DISK_WRITE,
		GM_DISK_WRITE, GM_DISK_WRITE, GM_DISK_DISCARD, GM_DISK_ZERO, GM_DISK_FLUSH};
	uint64_t base = (uint64_t)(w - works) * piece;
	uint64_t off = base + rng_below(rng, piece);
	uint64_t len = 1 + rng_below(rng, piece - (off - base));
	uint32_t op = ops[rng_below(rng, 9)];
	uint64_t at = 0;

	w->req = (struct gm_disk_req){.slices = w->slices};
	if (op == GM_DISK_WRITE) {
		w->req.flags = rng_below(rng, 16) ? 0 : GM_DISK_DURABLE;
		for (uint64_t i = 0; i < len; i++)
			w->buf[i] = bytes_of[off + i] = (uint8_t)(rng_next(rng) >> 20);
	}
	if (op == GM_DISK_ZERO) {
		w->req.flags = rng_below(rng, 2) ? GM_DISK_FREE : 0;
		memset(bytes_of + off, 0, len);
	}
	/* A hole, here. */
	if (op == GM_DISK_DISCARD)
		memset(bytes_of + off, 0, len);
	while (op <= GM_DISK_WRITE && at < len) {
		uint64_t n = w->req.nr == 7 ? len - at : 1 + rng_below(rng, len - at);

		w->slices[w->req.nr++] = (struct iovec){w->buf + at, n};
		at += n;
	}
	assert_int_equal(begin(w, op, off, len), 0);
}

static void check_random(struct work *w)
{
	assert_int_equal(w->rc, 0);
	if (w->req.op == GM_DISK_READ)
		assert_memory_equal(w->buf, bytes_of + w->req.off, w->req.len);
	w->is_out = false;
}

static void random_requests(unsigned long rounds, uint64_t seed)
{
	struct rng rng = {seed};
	uint64_t piece = LEN / NR;
	unsigned long done = 0;

	memset(bytes_of, 0, LEN);
	for (unsigned int i = 0; i < NR; i++)
		works[i].buf = malloc(piece);
	while (done < rounds) {
		struct work *w = &works[rng_below(&rng, NR)];

		if (!w->is_out)
			start_random(w, piece, &rng);
		if (rng_below(&rng, 4) == 0)
			assert_true(gm_disk_step(channel) >= 0);
		for (unsigned int i = 0; i < NR; i++) {
			if (works[i].is_out && works[i].is_done) {
				check_random(&works[i]);
				done++;
			}
		}
	}
	for (unsigned int i = 0; i < NR; i++) {
		if (works[i].is_out) {
			finish(&works[i]);
			check_random(&works[i]);
		}
		free(works[i].buf);
	}
	for (uint64_t at = 0; at < LEN; at += piece) {
		static uint8_t back[LEN / NR];

		assert_int_equal(pread(fd, back, piece, (off_t)at), piece);
		assert_memory_equal(back, bytes_of + at, piece);
	}
}

static const uint32_t ways[] = {0, GM_DISK_NO_URING};

static void random_requests_agree_with_a_model(void **state)
{
	static const char *const dirs[] = {"/var/tmp", "/dev/shm"};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		fd = new_file(dirs[i / 2], 0, LEN);
		open_disk(ways[i % 2]);
		assert_int_equal(is_uring(), i % 2 == 0);
		random_requests(support_scale(400), test_seed(300 + i));
		close_disk();
	}
}

/* ---- holes ---- */

static void what_is_discarded_is_a_hole(void **state)
{
	uint8_t *buf = malloc(LEN);

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		uint64_t full;

		fd = new_file("/var/tmp", 0, LEN);
		open_disk(ways[i]);
		memset(buf, 0x77, LEN);
		assert_int_equal(move(GM_DISK_WRITE, 0, buf, LEN), 0);
		assert_int_equal(act(GM_DISK_FLUSH, 0, 0, 0), 0);
		full = blocks();
		assert_int_equal(act(GM_DISK_DISCARD, 0, MIB(1), MIB(1)), 0);
		assert_int_equal(blocks(), full - MIB(1) / 512);
		assert_int_equal(lseek(fd, 0, SEEK_HOLE), MIB(1));
		assert_int_equal(lseek(fd, (off_t)MIB(1), SEEK_DATA), MIB(2));
		assert_int_equal(act(GM_DISK_ZERO, GM_DISK_FREE, MIB(3), KIB(512)), 0);
		assert_int_equal(blocks(), full - (MIB(1) + KIB(512)) / 512);
		/* These stay allocated. */
		assert_int_equal(act(GM_DISK_ZERO, 0, 0, KIB(64) + 100), 0);
		assert_int_equal(blocks(), full - (MIB(1) + KIB(512)) / 512);
		assert_int_equal(move(GM_DISK_READ, 0, buf, LEN), 0);
		assert_int_equal(
			buf[KIB(64) + 99] | buf[MIB(1)] | buf[MIB(2) - 1] | buf[MIB(3)], 0);
		assert_int_equal(buf[KIB(64) + 100], 0x77);
		assert_int_equal(buf[MIB(2)], 0x77);
		close_disk();
	}
	free(buf);
}

/* tmpfs cannot make zeros by itself. */
static void zeros_are_written_where_nothing_else_makes_them(void **state)
{
	uint8_t *buf = malloc(LEN);

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		fd = new_file("/dev/shm", 0, LEN);
		open_disk(ways[i]);
		memset(buf, 0x77, LEN);
		assert_int_equal(move(GM_DISK_WRITE, 0, buf, LEN), 0);
		assert_int_equal(act(GM_DISK_ZERO, 0, 1000, MIB(3)), 0);
		assert_int_equal(blocks(), LEN / 512);
		assert_int_equal(move(GM_DISK_READ, 0, buf, LEN), 0);
		assert_int_equal(buf[999], 0x77);
		for (uint64_t at = 1000; at < 1000 + MIB(3); at++)
			assert_int_equal(buf[at], 0);
		assert_int_equal(buf[1000 + MIB(3)], 0x77);
		close_disk();
	}
	free(buf);
}

/* ---- what fails ---- */

static void a_file_that_ends_too_early_is_an_error(void **state)
{
	static uint8_t buf[KIB(64)];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		fd = new_file("/var/tmp", 0, KIB(64));
		open_disk(ways[i]);
		assert_int_equal(ftruncate(fd, KIB(20)), 0);
		assert_int_equal(move(GM_DISK_READ, 0, buf, KIB(64)), -EIO);
		assert_int_equal(move(GM_DISK_READ, KIB(20), buf, KIB(4)), -EIO);
		assert_int_equal(move(GM_DISK_READ, 0, buf, KIB(20)), 0);
		close_disk();
	}
}

static void memory_that_is_gone_is_an_error(void **state)
{
	uint8_t *at =
		mmap(NULL, KIB(64), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(at != MAP_FAILED);
	assert_int_equal(mprotect(at + KIB(32), KIB(32), PROT_NONE), 0);
	for (size_t i = 0; i < 2; i++) {
		fd = new_file("/var/tmp", 0, KIB(64));
		open_disk(ways[i]);
		assert_int_equal(move(GM_DISK_READ, 0, at, KIB(64)), -EFAULT);
		assert_int_equal(move(GM_DISK_WRITE, 0, at + KIB(32), KIB(4)), -EFAULT);
		assert_int_equal(move(GM_DISK_WRITE, 0, at, KIB(32)), 0);
		close_disk();
	}
	munmap(at, KIB(64));
}

static void what_cannot_be_is_refused(void **state)
{
	struct gm_disk_file_opts opts = {.size = sizeof(opts), .fd = -1};
	struct gm_disk_info info = {.size = sizeof(info)};
	static uint8_t buf[512];

	(void)state;
	assert_fails(gm_disk_file(&opts, &file, &err), EBADF, "fd -1");
	opts.fd = open("/dev/null", O_RDWR);
	assert_fails(gm_disk_file(&opts, &file, &err), EINVAL, "no file or block device");
	close(opts.fd);
	fd = opts.fd = new_file("/var/tmp", 0, KIB(64));
	opts.block = 1000;
	assert_fails(gm_disk_file(&opts, &file, &err), EINVAL, "1000");
	opts.block = 0;
	opts.flags = 0x10;
	assert_fails(gm_disk_file(&opts, &file, &err), EINVAL, "0x10");
	open_disk(0);
	assert_int_equal(gm_disk_look(file, &info), 0);
	assert_int_equal(info.len, KIB(64));
	assert_int_equal(info.align, 1);
	assert_int_equal(move(GM_DISK_READ, KIB(64), buf, 1), -ERANGE);
	assert_int_equal(move(GM_DISK_READ, UINT64_MAX, buf, 1), -ERANGE);
	assert_int_equal(move(GM_DISK_READ, KIB(64) - 1, buf, 2), -ERANGE);
	assert_int_equal(move(7, 0, buf, 1), -EINVAL);
	assert_int_equal(act(GM_DISK_READ, 0, 0, 1), -EINVAL);
	assert_int_equal(act(GM_DISK_DISCARD, 1, 0, 1), -EINVAL);
	assert_int_equal(act(GM_DISK_DISCARD, 0, 0, KIB(64) + 1), -ERANGE);
	/* It grows, which a look finds out. */
	assert_int_equal(ftruncate(fd, KIB(128)), 0);
	assert_int_equal(gm_disk_look(file, &info), 0);
	assert_int_equal(info.len, KIB(128));
	assert_int_equal(move(GM_DISK_READ, KIB(64), buf, 1), 0);
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(begin_move(&works[i], GM_DISK_READ, 0, buf, 512), 0);
	{
		struct work more = {0};

		assert_int_equal(begin_move(&more, GM_DISK_READ, 0, buf, 512), -EAGAIN);
	}
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(finish(&works[i]), 0);
	close_disk();
	fd = new_file("/var/tmp", O_RDONLY | O_NOATIME, KIB(64));
	open_disk(0);
	assert_int_equal(move(GM_DISK_WRITE, 0, buf, 512), -EROFS);
	assert_int_equal(move(GM_DISK_READ, 0, buf, 512), 0);
	close_disk();
}

static void plain_calls_go_on_where_they_were_cut(void **state)
{
	static uint8_t buf[KIB(64)];
	static uint8_t back[KIB(64)];
	static const enum fault_fn fns[] = {FAULT_gm_sys_pwritev, FAULT_gm_sys_preadv,
		FAULT_gm_sys_sync, FAULT_gm_sys_fallocate};

	(void)state;
	fd = new_file("/var/tmp", 0, KIB(64));
	open_disk(GM_DISK_NO_URING);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 13 + i / 256);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_pwritev,
		.nth = 1,
		.forever = true,
		.short_len = 1000,
		.eintr = 2});
	assert_int_equal(move(GM_DISK_WRITE, 0, buf, sizeof(buf)), 0);
	assert_true(fault_hits() >= 64);
	fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_preadv,
		.nth = 1,
		.forever = true,
		.short_len = 777,
		.eintr = 1});
	assert_int_equal(move(GM_DISK_READ, 0, back, sizeof(back)), 0);
	assert_true(fault_hits() >= 64);
	fault_set(NULL);
	assert_memory_equal(buf, back, sizeof(buf));
	for (size_t i = 0; i < 4; i++) {
		int rc;

		fault_set(&(struct fault_plan){.fn = fns[i], .nth = 1, .error = ENOSPC});
		if (fns[i] == FAULT_gm_sys_sync)
			rc = act(GM_DISK_FLUSH, 0, 0, 0);
		else if (fns[i] == FAULT_gm_sys_fallocate)
			rc = act(GM_DISK_ZERO, 0, 0, KIB(4));
		else
			rc = move(i ? GM_DISK_READ : GM_DISK_WRITE, 0, back, 512);
		assert_int_equal(rc, -ENOSPC);
		assert_int_equal(fault_hits(), 1);
		fault_set(NULL);
	}
	/* No way but to write them. */
	fault_set(&(struct fault_plan){
		.fn = FAULT_gm_sys_fallocate, .nth = 1, .forever = true, .error = EOPNOTSUPP});
	assert_int_equal(act(GM_DISK_DISCARD, 0, 0, KIB(4)), 0);
	assert_int_equal(act(GM_DISK_ZERO, GM_DISK_FREE, 0, KIB(60)), 0);
	assert_int_equal(fault_hits(), 2);
	assert_int_equal(fault_calls(FAULT_gm_sys_pwritev), 1);
	fault_set(NULL);
	assert_int_equal(move(GM_DISK_READ, 0, back, sizeof(back)), 0);
	assert_int_equal(back[0] | back[KIB(60) - 1], 0);
	assert_int_equal(back[KIB(60)], buf[KIB(60)]);
	close_disk();
}

static int make_and_end(void *ctx)
{
	struct gm_disk_file_opts opts = {.size = sizeof(opts), .fd = fd, .flags = *(uint32_t *)ctx};
	struct gm_disk_channel *ch = NULL;
	struct gm_disk *d = NULL;
	int rc = gm_disk_file(&opts, &d, &err);

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
	fd = new_file("/var/tmp", 0, KIB(64));
	for (size_t i = 0; i < 2; i++) {
		uint32_t flags = ways[i];

		assert_true(fault_sweep(make_and_end, &flags) > 10);
	}
	close(fd);
	fd = -1;
}

/* ---- io_uring is forbidden ---- */

static int without_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, code};
	static uint8_t buf[512] = {1, 2, 3};
	static uint8_t back[512];

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 2;
	fd = new_file("/var/tmp", 0, KIB(64));
	open_disk(0);
	if (is_uring())
		return 3;
	if (move(GM_DISK_WRITE, 512, buf, 512) || move(GM_DISK_READ, 512, back, 512) ||
		memcmp(buf, back, 512) != 0)
		return 4;
	close_disk();
	return 0;
}

static void plain_calls_serve_where_io_uring_is_forbidden(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(without_uring());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* ---- guests on files ---- */

static struct gm_disk *file_disk(const char *dir, int open_flags, uint32_t flags)
{
	struct gm_disk *ret = NULL;

	fd = new_file(dir, open_flags, DISK_LEN);
	assert_ok(gm_disk_file(
		&(struct gm_disk_file_opts){
			.size = sizeof(struct gm_disk_file_opts), .fd = fd, .flags = flags},
		&ret, &err));
	return ret;
}

static void a_guest_reads_what_it_wrote(void **state)
{
	static uint8_t buf[KIB(32)];
	static uint8_t back[KIB(32)];
	const struct segment segment = {8, 8, 0};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		start_device(file_disk("/var/tmp", 0, ways[i]), 64, GM_VIRTQ_EVENT);
		for (size_t k = 0; k < sizeof(buf); k++)
			buf[k] = (uint8_t)(k * 5 + k / 512);
		assert_int_equal(write_sectors(3, buf, sizeof(buf), 0), 0);
		assert_int_equal(flush_device(0), 0);
		assert_int_equal(read_sectors(3, back, sizeof(back), 0), 0);
		assert_memory_equal(buf, back, sizeof(buf));
		assert_int_equal(pread(fd, back, sizeof(back), 3 * 512), sizeof(back));
		assert_memory_equal(buf, back, sizeof(buf));
		assert_int_equal(send_segments(DISCARD, &segment, 1, 0), 0);
		assert_int_equal(lseek(fd, 0, SEEK_HOLE), KIB(4));
		assert_int_equal(read_sectors(8, back, KIB(4), 0), 0);
		assert_int_equal(back[0] | back[KIB(4) - 1], 0);
		assert_int_equal(ftruncate(fd, KIB(4)), 0);
		assert_int_equal(read_sectors(8, back, KIB(4), 0), 1);
		stop_device();
		close(fd);
	}
}

static void direct_access_takes_what_is_not_aligned_through_a_buffer(void **state)
{
	static uint8_t buf[KIB(32)];
	struct gm_disk_info info = {.size = sizeof(info)};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct gm_disk *d = file_disk("/var/tmp", O_RDWR | O_DIRECT, ways[i]);
		struct line *l;
		struct rng rng = {test_seed(7)};

		assert_int_equal(gm_disk_look(d, &info), 0);
		assert_true(info.align >= 512 && info.mem_align >= 4);
		assert_true(info.flags & GM_DISK_DIRECT);
		start_device(d, 128, 0);
		/* Buffers are pages of their own. */
		l = new_line();
		add_head(l, OUT, 0, WHOLE, NULL);
		l->at = buffers_of(l) + KIB(4);
		memset(buf, 0x42, sizeof(buf));
		add_bytes(l, buf, sizeof(buf), 0, WHOLE, NULL);
		add_room(l, 1, WHOLE, NULL);
		assert_int_equal(serve(l, 0), 0);
		assert_int_equal(stats_of().bounced, 0);
		l = new_line();
		add_head(l, IN, 8, WHOLE, NULL);
		add_room(l, KIB(8) + 1, PIECES, &rng);
		assert_int_equal(serve(l, 0), 0);
		assert_int_equal(stats_of().bounced, 1);
		get_bytes(l, buf, KIB(8));
		assert_int_equal(buf[0], 0x42);
		assert_int_equal(buf[KIB(8) - 1], 0x42);
		/* Requests that are not of blocks are not served. */
		if (info.align > 512) {
			l = new_line();
			add_head(l, IN, 1, WHOLE, NULL);
			add_room(l, 513, WHOLE, NULL);
			assert_int_equal(serve(l, 0), 1);
		}
		stop_device();
		close(fd);
	}
}

/* The host's memory behind guest memory goes away: a file that its owner makes shorter. */
static void memory_of_the_guest_that_shrinks_is_an_error(void **state)
{
	static uint8_t buf[KIB(4)];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		int memory = memfd_create("shrinks", 0);
		struct line *l;

		start_device(file_disk("/var/tmp", 0, ways[i]), 64, 0);
		assert_int_equal(ftruncate(memory, MIB(2)), 0);
		assert_ok(gm_space_add(space,
			DESC(.gpa = MIB(64), .backing = BLOCK(.len = MIB(2),
						     .backing = GM_BACKING_FD, .fd = memory)),
			NULL, &err));
		assert_int_equal(ftruncate(memory, MIB(1)), 0);
		for (uint32_t side = 0; side < 2; side++) {
			l = new_line();
			add_head(l, side ? IN : OUT, 0, WHOLE, NULL);
			l->elems[l->nr++] = (struct gm_chain_elem){.gpa = MIB(65) - KIB(4),
				.len = KIB(8),
				.flags = side ? GM_CHAIN_WRITE : 0};
			l->at += 8;
			add_bytes(l, buf, 1, GM_CHAIN_WRITE, WHOLE, NULL);
			assert_int_equal(offer(l, 0), 0);
			show_driver();
			await(l);
			assert_int_equal(peek(l->elems[l->nr - 1].gpa, 1), 1);
		}
		stop_device();
		close(fd);
		close(memory);
	}
}

/* A region goes while the disk works on it: what it holds stays mapped until that is done. */
static void memory_that_is_removed_stays_until_the_disk_is_done(void **state)
{
	struct line *l;
	uint64_t id;

	(void)state;
	start_device(mem_disk(), 64, 0);
	id = add(MIB(64), MIB(2));
	memset(mem.bytes, 0x66, DISK_LEN);
	mem.held = 1;
	l = new_line();
	add_head(l, IN, 0, WHOLE, NULL);
	l->elems[l->nr++] =
		(struct gm_chain_elem){.gpa = MIB(64), .len = KIB(64), .flags = GM_CHAIN_WRITE};
	add_room(l, 1, WHOLE, NULL);
	assert_int_equal(offer(l, 0), 0);
	show_driver();
	assert_int_equal(gm_virtio_blk_run(q, 0, &err), 0);
	assert_int_equal(mem.nr, 1);
	assert_ok(gm_space_remove(space, id, &err));
	assert_ok(gm_space_wait(space, 20000, &err));
	mem.held = 0;
	await(l);
	assert_int_equal(peek(l->elems[l->nr - 1].gpa, 1), 0);
	stop_device();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_requests_agree_with_a_model),
		cmocka_unit_test(what_is_discarded_is_a_hole),
		cmocka_unit_test(zeros_are_written_where_nothing_else_makes_them),
		cmocka_unit_test(a_file_that_ends_too_early_is_an_error),
		cmocka_unit_test(memory_that_is_gone_is_an_error),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(plain_calls_go_on_where_they_were_cut),
		cmocka_unit_test(nothing_is_left_of_what_failed),
		cmocka_unit_test(plain_calls_serve_where_io_uring_is_forbidden),
		cmocka_unit_test(a_guest_reads_what_it_wrote),
		cmocka_unit_test(direct_access_takes_what_is_not_aligned_through_a_buffer),
		cmocka_unit_test(memory_of_the_guest_that_shrinks_is_an_error),
		cmocka_unit_test(memory_that_is_removed_stays_until_the_disk_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
