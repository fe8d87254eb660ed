/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_virtio_blk.c - requests that a driver may offer to a block device, against a reader that follows the
 * specification byte by byte on copies of memory and disk.
 *
 * A byte of head: packed ring (1), a disk that takes sectors only (2), for reading only (4), large blocks (8). Then
 * requests: how many elements are readable (low four bits) and writable; a kind, or with 0xf0 and more whatever memory
 * holds; a sector; and for each element its address and its length (16 bits each).
 */
#include <errno.h>
#include <guestmem/guestmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define MEMORY 0x10000u /* then a hole, then the rings */
#define RINGS 0x20000u
#define SECTORS 64u
#define DISK_LEN (SECTORS * 512u)
#define ELEMS 30u

static struct gm_space *space;
static struct gm_reader *reader;
static uint8_t *memory;
static uint8_t disk[DISK_LEN];
static uint8_t model_disk[DISK_LEN];
static uint8_t model[MEMORY];
static struct gm_disk_info info;
static struct gm_disk_req *list[64];
static unsigned int nr_list;
static int event;

static void must(bool what)
{
	if (!what)
		abort();
}

/* ---- a disk ---- */

static int look(void *ctx, struct gm_disk_info *ret)
{
	(void)ctx;
	*ret = info;
	return 0;
}

static int open_channel(void *ctx, uint32_t depth, void **ret, struct gm_error *err)
{
	(void)depth;
	(void)err;
	*ret = ctx;
	return 0;
}

static void close_channel(void *own)
{
	(void)own;
}

static int start(void *own, struct gm_disk_req *req)
{
	(void)own;
	must(nr_list < 64);
	list[nr_list++] = req;
	return 0;
}

static void serve(const struct gm_disk_req *req)
{
	uint64_t at = req->off;

	for (uint32_t i = 0; req->op <= GM_DISK_WRITE && i < req->nr; i++) {
		const struct iovec *s = &req->slices[i];

		must(at <= DISK_LEN && s->iov_len <= DISK_LEN - at);
		if (req->op == GM_DISK_READ)
			memcpy(s->iov_base, disk + at, s->iov_len);
		else
			memcpy(disk + at, s->iov_base, s->iov_len);
		at += s->iov_len;
	}
	if (req->op == GM_DISK_ZERO)
		memset(disk + req->off, 0, req->len);
	if (req->op == GM_DISK_DISCARD)
		memset(disk + req->off, 0xdd, req->len);
}

static int step(void *own)
{
	(void)own;
	while (nr_list) {
		struct gm_disk_req *req = list[--nr_list];

		serve(req);
		req->done(req, 0);
	}
	return 0;
}

static int fd_of(void *own)
{
	(void)own;
	return event;
}

/* ---- set-up ---- */

static void set_up(void)
{
	struct gm_block_opts ram = {.size = sizeof(ram), .len = MEMORY};
	struct gm_block_opts rings = {.size = sizeof(rings), .len = MEMORY};
	const struct gm_region_desc descs[] = {
		{.size = sizeof(*descs), .backing = &ram},
		{.size = sizeof(*descs), .gpa = RINGS, .backing = &rings},
	};
	struct gm_region_info region = {.size = sizeof(region)};

	if (space)
		return;
	event = eventfd(0, 0);
	must(gm_space_build(NULL, descs, 2, &space, NULL) == 0);
	must(gm_reader_create(space, "fuzz", &reader, NULL) == 0);
	must(gm_space_next(space, 0, &region) == 0);
	memory = region.hva;
}

/* ---- the specification ---- */

struct request {
	struct gm_chain_elem elems[ELEMS];
	size_t nr;
};

/* Address of byte @at of a side; false behind its end. */
static bool byte_at(const struct request *r, uint32_t side, uint64_t at, uint64_t *ret)
{
	for (size_t i = 0; i < r->nr; i++) {
		if (r->elems[i].flags != side)
			continue;
		if (at < r->elems[i].len) {
			*ret = r->elems[i].gpa + at;
			return true;
		}
		at -= r->elems[i].len;
	}
	return false;
}

static uint64_t len_of(const struct request *r, uint32_t side)
{
	uint64_t len = 0;

	for (size_t i = 0; i < r->nr; i++)
		len += r->elems[i].flags == side ? r->elems[i].len : 0;
	return len;
}

/* False if one of the bytes has no memory. */
static bool get(const struct request *r, uint64_t from, uint64_t len, uint8_t *to)
{
	for (uint64_t i = 0; i < len; i++) {
		uint64_t gpa;

		if (!byte_at(r, 0, from + i, &gpa) || gpa >= MEMORY)
			return false;
		to[i] = model[gpa];
	}
	return true;
}

static bool put(const struct request *r, uint64_t from, uint64_t len, const uint8_t *bytes)
{
	for (uint64_t i = 0; i < len; i++) {
		uint64_t gpa;

		if (!byte_at(r, GM_CHAIN_WRITE, from + i, &gpa) || gpa >= MEMORY)
			return false;
		model[gpa] = bytes[i];
	}
	return true;
}

static uint64_t number(const uint8_t *bytes, unsigned int len)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < len; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

struct verdict {
	int status; /* -1: no room for one */
	uint32_t len;
	bool torn; /* memory was missing: what is in the rest is not said */
};

static bool is_inside(uint64_t sector, uint64_t nr)
{
	uint64_t most = info.align > 512 ? info.align / 512 : 1;

	return sector <= SECTORS && nr <= SECTORS - sector && sector % most == 0 && nr % most == 0;
}

static int move(const struct request *r, uint64_t sector, bool is_read, struct verdict *v)
{
	static uint8_t bytes[ELEMS * 65536];
	uint64_t readable = len_of(r, 0) - 16;
	uint64_t writable = len_of(r, GM_CHAIN_WRITE) - 1;
	uint64_t len = is_read ? writable : readable;

	if ((is_read ? readable : writable) || len % 512 ||
		(!is_read && (info.flags & GM_DISK_READ_ONLY)) || !is_inside(sector, len / 512))
		return 1;
	if (is_read ? put(r, 0, len, disk + sector * 512) : get(r, 16, len, bytes)) {
		if (!is_read)
			memcpy(model_disk + sector * 512, bytes, len);
		return 0;
	}
	v->torn = true;
	return 1;
}

static int segments(const struct request *r, bool is_zero)
{
	uint8_t bytes[16 * 16];
	uint64_t len = len_of(r, 0) - 16;

	if (info.flags & GM_DISK_READ_ONLY)
		return 2;
	if (len_of(r, GM_CHAIN_WRITE) != 1 || len == 0 || len % 16 || len > sizeof(bytes) ||
		!get(r, 16, len, bytes))
		return 1;
	for (uint64_t i = 0; i < len; i += 16) {
		if (number(bytes + i + 12, 4) & ~(is_zero ? UINT64_C(1) : 0))
			return 2;
		if (number(bytes + i + 8, 4) > SECTORS ||
			!is_inside(number(bytes + i, 8), number(bytes + i + 8, 4)))
			return 1;
	}
	for (uint64_t i = 0; i < len; i += 16)
		memset(model_disk + number(bytes + i, 8) * 512, is_zero ? 0 : 0xdd,
			number(bytes + i + 8, 4) * 512);
	return 0;
}

static int tell_id(const struct request *r, struct verdict *v)
{
	static const uint8_t id[20] = "fuzzed";
	uint64_t room = len_of(r, GM_CHAIN_WRITE) - 1;
	uint64_t len = room < 20 ? room : 20;

	if (room == 0)
		return 1;
	if (!put(r, 0, len, id)) {
		v->torn = true;
		return 1;
	}
	v->len = (uint32_t)len;
	return 0;
}

static void judge(const struct request *r, struct verdict *v)
{
	uint64_t room = len_of(r, GM_CHAIN_WRITE);
	uint8_t head[16];
	uint64_t type;
	uint8_t status;

	*v = (struct verdict){.status = -1};
	if (room == 0)
		return;
	v->status = 1;
	if (get(r, 0, 16, head)) {
		type = number(head, 4);
		v->status = 2;
		if (type <= 1)
			v->status = move(r, number(head + 8, 8), type == 0, v);
		else if (type == 4)
			v->status = 0;
		else if (type == 8)
			v->status = tell_id(r, v);
		else if (type == 11 || type == 13)
			v->status = segments(r, type == 13);
		if (type == 0 && v->status == 0)
			v->len = (uint32_t)room - 1;
	}
	v->len += v->len == room - 1;
	status = (uint8_t)v->status;
	if (!put(r, room - 1, 1, &status)) {
		v->status = -1;
		v->len = 0;
	}
}

/* ---- requests ---- */

static size_t read_request(const uint8_t *data, size_t size, struct request *r)
{
	static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 2, 0x80000000u};
	size_t nr_readable = data[0] & 15;
	uint8_t head[16] = {0};
	uint64_t gpa;
	size_t at = 3;

	r->nr = nr_readable + (data[0] >> 4);
	if (r->nr == 0 || size < 3 + r->nr * 4)
		return 0;
	for (size_t i = 0; i < r->nr; i++, at += 4)
		r->elems[i] = (struct gm_chain_elem){.gpa = number(data + at, 2),
			.len = number(data + at + 2, 2) % 2048,
			.flags = i < nr_readable ? 0 : GM_CHAIN_WRITE};
	if (data[1] >= 0xf0)
		return at;
	memcpy(head, &types[data[1] % 8], 4);
	head[8] = data[2];
	for (uint64_t i = 0; i < 16; i++) {
		if (byte_at(r, 0, i, &gpa) && gpa < MEMORY)
			memory[gpa] = head[i];
	}
	return at;
}

static void one_request(
	struct gm_virtio_blk_queue *q, struct gm_virtq_driver *driver, const struct request *r)
{
	const struct gm_view *view = gm_reader_enter(reader);
	struct verdict v;
	uint32_t len = 77;
	void *token = NULL;
	int rc;

	memcpy(model, memory, MEMORY);
	memcpy(model_disk, disk, DISK_LEN);
	must(gm_virtq_driver_add(driver, view, r->elems, r->nr, 0, &len) == 0);
	must(gm_virtq_driver_show(driver, view) >= 0);
	gm_reader_leave(reader);
	judge(r, &v);
	do {
		rc = gm_virtio_blk_run(q, 0, NULL);
		must(rc >= 0);
	} while (rc & GM_VIRTIO_BLK_MORE);
	must(gm_virtio_blk_out(q) == 0);
	view = gm_reader_enter(reader);
	must(gm_virtq_driver_take(driver, view, &token, &len, NULL) == 1);
	gm_reader_leave(reader);
	must(len == v.len);
	if (v.torn)
		return;
	must(memcmp(memory, model, MEMORY) == 0);
	must(memcmp(disk, model_disk, DISK_LEN) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_virtq_opts opts = {.size = sizeof(opts),
		.desc = RINGS,
		.driver = RINGS + 0x4000,
		.device = RINGS + 0x8000,
		.nr = 64};
	const struct gm_disk_ops ops = {.size = sizeof(ops),
		.look = look,
		.open = open_channel,
		.close = close_channel,
		.start = start,
		.step = step,
		.fd = fd_of,
		.ctx = disk};
	struct gm_virtio_blk_opts bopts = {.size = sizeof(bopts), .serial = "fuzzed"};
	struct gm_virtio_blk_queue_opts qopts = {.size = sizeof(qopts), .depth = 2};
	struct gm_virtq_driver *driver;
	struct gm_virtio_blk_queue *q;
	struct gm_virtio_blk *blk;
	struct request r;
	size_t n;

	if (size < 4)
		return 0;
	set_up();
	for (size_t i = 0; i < DISK_LEN; i++)
		disk[i] = (uint8_t)(i * 3 + i / 512);
	for (size_t i = 0; i < MEMORY; i++)
		memory[i] = (uint8_t)(i * 7);
	opts.flags = data[0] & 1 ? GM_VIRTQ_PACKED : 0;
	info = (struct gm_disk_info){.len = DISK_LEN,
		.flags = data[0] & 4 ? GM_DISK_READ_ONLY : GM_DISK_CAN_DISCARD,
		.align = data[0] & 2 ? (data[0] & 8 ? 4096 : 512) : 1};
	info.block = info.align > 512 ? info.align : 512;
	info.mem_align = info.align;
	qopts.space = space;
	bopts.discard_max = DISK_LEN;
	must(gm_virtq_create(&opts, &qopts.vq, NULL) == 0);
	must(gm_virtq_driver_create(&opts, gm_reader_enter(reader), &driver, NULL) == 0);
	must(gm_virtq_start(
		     qopts.vq, gm_reader_enter(reader), opts.flags ? 0x80008000u : 0, NULL) == 0);
	gm_reader_leave(reader);
	gm_reader_leave(reader);
	must(gm_disk_create(&ops, &bopts.disk, NULL) == 0);
	must(gm_virtio_blk_create(&bopts, &blk, NULL) == 0);
	must(gm_virtio_blk_queue_create(blk, &qopts, &q, NULL) == 0);
	for (data++, size--; size > 3 && (n = read_request(data, size, &r)); data += n, size -= n)
		one_request(q, driver, &r);
	gm_virtio_blk_queue_destroy(q);
	gm_virtio_blk_destroy(blk);
	gm_disk_destroy(bopts.disk);
	gm_virtq_driver_destroy(driver);
	gm_virtq_destroy(qopts.vq);
	return 0;
}
