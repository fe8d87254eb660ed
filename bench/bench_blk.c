/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_blk.c - requests of a driver through the block device to a file, against bare loops of io_uring and of pread on
 * the same memory and the same file, which lies in the page cache, or is read from the disk.
 *
 * usage: bench_blk [--json FILE]
 *
 * Driver and device take turns in one thread, so that what both cost is counted, and no thread is waited for.
 */
#include <endian.h>
#include <fcntl.h>
#include <guestmem/guestmem.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define FILE_LEN (UINT64_C(64) << 20)
#define MEMORY (UINT64_C(64) << 20)
#define NR 256u
#define BUFFERS (UINT64_C(8) << 20)
#define DEPTH_MAX 32u

enum { BUFFERED, DIRECT, WAYS };

struct load {
	uint32_t depth;
	uint32_t len;
	bool write;
	uint32_t flags;   /* of the queue */
	unsigned int way; /* BUFFERED or DIRECT */
	struct gm_virtq *vq;
	struct gm_virtq_driver *driver;
	struct gm_virtio_blk_queue *q;
	struct gm_virtq_opts opts;
};

static struct gm_space *space;
static struct gm_reader *reader;
static struct gm_disk *disks[WAYS];
static struct gm_virtio_blk *blks[WAYS];
static uint8_t *base;
static int files[WAYS];
static struct io_uring ring;
static uint64_t place;

static void must(bool what)
{
	if (!what)
		abort();
}

/* Each request goes to another place of the file. */
static uint64_t next_place(uint32_t len)
{
	place += 4096 * 97;
	return place % (FILE_LEN - len) & ~UINT64_C(4095);
}

/* ---- ours ---- */

struct slot {
	struct gm_chain_elem elems[3];
};

static struct slot slots[DEPTH_MAX];

static void add(const struct load *l, const struct gm_view *view, struct slot *slot)
{
	const uint64_t at = BUFFERS + (uint64_t)(slot - slots) * (1u << 20);
	const uint64_t head[2] = {htole64(l->write), htole64(next_place(l->len) / 512)};
	const uint64_t head_at = (4u << 20) + (uint64_t)(slot - slots) * 64;

	must(gm_write(view, head_at, head, 16, NULL) == 0);
	slot->elems[0] = (struct gm_chain_elem){.gpa = head_at, .len = 16};
	slot->elems[1] = (struct gm_chain_elem){
		.gpa = at, .len = l->len, .flags = l->write ? 0 : GM_CHAIN_WRITE};
	slot->elems[2] =
		(struct gm_chain_elem){.gpa = head_at + 32, .len = 1, .flags = GM_CHAIN_WRITE};
	must(gm_virtq_driver_add(l->driver, view, slot->elems, 3, 0, slot) == 0);
}

static void run_ours(void *ctx, uint64_t iters)
{
	const struct load *l = ctx;
	const struct gm_view *view;
	uint64_t made = 0;
	uint64_t back = 0;

	view = gm_reader_enter(reader);
	for (; made < l->depth && made < iters; made++)
		add(l, view, &slots[made]);
	must(gm_virtq_driver_show(l->driver, view) >= 0);
	gm_reader_leave(reader);
	while (back < iters) {
		void *token;
		uint32_t len;

		must(gm_virtio_blk_run(l->q, 0, NULL) >= 0);
		view = gm_reader_enter(reader);
		while (gm_virtq_driver_take(l->driver, view, &token, &len, NULL) > 0) {
			must(len == (l->write ? 1 : l->len + 1));
			back++;
			if (made < iters) {
				add(l, view, token);
				made++;
			}
		}
		must(gm_virtq_driver_show(l->driver, view) >= 0);
		gm_virtq_driver_calls(l->driver, view, true);
		gm_reader_leave(reader);
	}
}

/* ---- bare ---- */

static void put_bare(const struct load *l, uint64_t slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	uint8_t *at = base + BUFFERS + slot * (1u << 20);

	if (l->write)
		io_uring_prep_write(sqe, (int)l->way, at, l->len, next_place(l->len));
	else
		io_uring_prep_read(sqe, (int)l->way, at, l->len, next_place(l->len));
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data64(sqe, slot);
}

static void run_uring(void *ctx, uint64_t iters)
{
	const struct load *l = ctx;
	uint64_t made = 0;
	uint64_t back = 0;

	for (; made < l->depth && made < iters; made++)
		put_bare(l, made);
	while (back < iters) {
		struct io_uring_cqe *cqe;

		must(io_uring_submit(&ring) >= 0);
		while (io_uring_peek_cqe(&ring, &cqe) == 0) {
			uint64_t slot = io_uring_cqe_get_data64(cqe);

			must(cqe->res == (int)l->len);
			io_uring_cqe_seen(&ring, cqe);
			back++;
			if (made < iters) {
				put_bare(l, slot);
				made++;
			}
		}
	}
}

static void run_plain(void *ctx, uint64_t iters)
{
	const struct load *l = ctx;

	for (uint64_t i = 0; i < iters; i++) {
		uint8_t *at = base + BUFFERS;
		off_t off = (off_t)next_place(l->len);

		must(pread(files[l->way], at, l->len, off) == (ssize_t)l->len);
	}
}

/* ---- set-up ---- */

static void make_queue(struct load *l, uint64_t at)
{
	struct gm_error err = {0};
	struct gm_virtio_blk_queue_opts opts = {.size = sizeof(opts), .space = space};
	const struct gm_view *view;

	l->opts = (struct gm_virtq_opts){.size = sizeof(l->opts),
		.desc = at,
		.driver = at + (64u << 10),
		.device = at + (128u << 10),
		.nr = NR,
		.flags = l->flags};
	view = gm_reader_enter(reader);
	bench_need(gm_virtq_create(&l->opts, &l->vq, &err) == 0, "queue", err.text);
	bench_need(
		gm_virtq_driver_create(&l->opts, view, &l->driver, &err) == 0, "driver", err.text);
	bench_need(gm_virtq_start(
			   l->vq, view, l->flags & GM_VIRTQ_PACKED ? 0x80008000u : 0, &err) == 0,
		"queue", err.text);
	gm_reader_leave(reader);
	opts.vq = l->vq;
	bench_need(gm_virtio_blk_queue_create(blks[l->way], &opts, &l->q, &err) == 0, "device",
		err.text);
}

static void make_disk(unsigned int way)
{
	struct gm_disk_file_opts fopts = {.size = sizeof(fopts), .fd = files[way]};
	struct gm_virtio_blk_opts bopts = {.size = sizeof(bopts)};
	struct gm_error err = {0};

	bench_need(gm_disk_file(&fopts, &disks[way], &err) == 0, "disk", err.text);
	bopts.disk = disks[way];
	bench_need(gm_virtio_blk_create(&bopts, &blks[way], &err) == 0, "device", err.text);
	must(gm_virtio_blk_accept(blks[way], gm_virtio_blk_features(blks[way]), &err) == 0);
}

static void make_files(const char *dir)
{
	static uint8_t bytes[1u << 20];
	char path[64];

	files[BUFFERED] = open(dir, O_TMPFILE | O_RDWR, 0600);
	bench_need(files[BUFFERED] >= 0, "a file in", dir);
	memset(bytes, 0x5a, sizeof(bytes));
	for (uint64_t at = 0; at < FILE_LEN; at += sizeof(bytes))
		must(pwrite(files[BUFFERED], bytes, sizeof(bytes), (off_t)at) == sizeof(bytes));
	must(fsync(files[BUFFERED]) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", files[BUFFERED]);
	files[DIRECT] = open(path, O_RDWR | O_DIRECT);
	bench_need(files[DIRECT] >= 0, "direct access in", dir);
}

static void set_up(const char *dir)
{
	struct gm_block_opts backing = {.size = sizeof(backing), .len = MEMORY};
	struct gm_region_desc desc = {.size = sizeof(desc), .backing = &backing};
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_error err = {0};

	make_files(dir);
	bench_need(gm_space_build(NULL, &desc, 1, &space, &err) == 0, "memory", err.text);
	bench_need(gm_reader_create(space, "driver", &reader, &err) == 0, "reader", err.text);
	bench_need(gm_space_next(space, 0, &info) == 0, "memory", NULL);
	base = info.hva;
	memset(base, 1, MEMORY);
	make_disk(BUFFERED);
	make_disk(DIRECT);
	bench_need(io_uring_queue_init(
			   64, &ring, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG) == 0,
		"io_uring", NULL);
	must(io_uring_register_files(&ring, files, WAYS) == 0);
}

int main(int argc, char **argv)
{
	static struct load loads[] = {
		{.depth = 1, .len = 4096},
		{.depth = 32, .len = 4096},
		{.depth = 32, .len = 4096, .flags = GM_VIRTQ_PACKED},
		{.depth = 32, .len = 4096, .write = true},
		{.depth = 4, .len = 1u << 20},
		{.depth = 1, .len = 4096, .way = DIRECT},
		{.depth = 32, .len = 4096, .way = DIRECT},
		{.depth = 4, .len = 1u << 20, .way = DIRECT},
	};
	/* What is in the page cache takes little beside what driver and device do: their cost is told. */
	const struct bench_row rows[] = {
		{"blk: 4 KiB, depth 1", run_ours, &loads[0], "io_uring", run_uring, &loads[0],
			.more_ns = 1500, .iters = 200},
		{"blk: 4 KiB, depth 1, by pread", run_ours, &loads[0], "pread", run_plain,
			&loads[0], .iters = 200},
		{"blk: 4 KiB, depth 32", run_ours, &loads[1], "io_uring", run_uring, &loads[1],
			.more_ns = 500, .iters = 640},
		{"blk: 4 KiB, depth 32, packed", run_ours, &loads[2], "io_uring", run_uring,
			&loads[2], .more_ns = 500, .iters = 640},
		{"blk: write 4 KiB, depth 32", run_ours, &loads[3], "io_uring", run_uring,
			&loads[3], .goal = 1.05, .iters = 320},
		{"blk: 1 MiB, depth 4", run_ours, &loads[4], "io_uring", run_uring, &loads[4],
			.goal = 1.05, .iters = 16},
		{"blk: direct 4 KiB, depth 1", run_ours, &loads[5], "io_uring", run_uring,
			&loads[5], .goal = 1.05, .iters = 20},
		{"blk: direct 4 KiB, depth 32", run_ours, &loads[6], "io_uring", run_uring,
			&loads[6], .goal = 1.05, .iters = 128},
		{"blk: direct 1 MiB, depth 4", run_ours, &loads[7], "io_uring", run_uring,
			&loads[7], .goal = 1.05, .iters = 8},
	};

	bench_begin(argc, argv);
	set_up("/var/tmp");
	for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		loads[i].flags |= GM_VIRTQ_EVENT;
		make_queue(&loads[i], i * (256u << 10));
	}
	bench_rows(rows, sizeof(rows) / sizeof(rows[0]));
	return bench_end();
}
