/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_front.h - what the tests of the vhost-user back-end share: a back-end with its device, and a front-end that
 * speaks to it without a socket.
 */
#ifndef GM_TESTS_VHOST_FRONT_H
#define GM_TESTS_VHOST_FRONT_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost_device.h"

#define PAGE UINT64_C(4096)
#define USER UINT64_C(0x7f1200000000) /* user address of guest address 0 */
#define RAM MIB(8)
#define DESC_AT MIB(1)
#define AVAIL_AT MIB(2)
#define USED_AT (MIB(2) + KIB(256))
#define IN_AT MIB(3)
#define OUT_AT MIB(4)
#define NR 64u
#define P(name) (UINT64_C(1) << GM_VHOST_PROTOCOL_##name)
#define F_PACKED (UINT64_C(1) << 34)
#define F_INDIRECT (UINT64_C(1) << 28)
#define F_EVENT (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define ALL_FEATURES (F_PACKED | F_INDIRECT | F_EVENT | F_VERSION_1 | GM_VHOST_F_IOMMU_PLATFORM)

struct front {
	struct gm_vhost_backend *b;
	struct device dev;
	int fd; /* of its memory */
	uint8_t *ram;
	int kick;
	int call;
	int err;
	struct gm_space *space; /* its own view of the memory */
	struct gm_reader *reader;
	struct gm_virtq_driver *driver;
	uint64_t features;
	struct gm_vhost_answered a;
};

static inline int make_ram(uint64_t len, int seals)
{
	int fd = memfd_create("front", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static inline size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* A message; descriptors are duplicated, as a socket does. */
static inline int say_raw(
	struct front *f, const struct gm_vhost_msg *msg, const int *fds, uint32_t nr_fds)
{
	int copies[GM_VHOST_FDS_MAX + 2] = {0};

	for (uint32_t i = 0; i < nr_fds; i++)
		copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
	memset(&err, 0, sizeof(err));
	return gm_vhost_backend_handle(f->b, msg, copies, nr_fds, &f->a, &err);
}

static inline int say(struct front *f, uint32_t request, const void *payload, size_t len,
	const int *fds, uint32_t nr_fds)
{
	struct gm_vhost_msg msg = {.request = request,
		.flags = GM_VHOST_VERSION | GM_VHOST_NEED_REPLY,
		.len = (uint32_t)len};

	memcpy(msg.u.bytes, payload, len);
	return say_raw(f, &msg, fds, nr_fds);
}

static inline uint64_t said(const struct front *f)
{
	assert_true(f->a.is);
	assert_int_equal(f->a.msg.flags, GM_VHOST_VERSION | GM_VHOST_REPLY);
	assert_int_equal(f->a.msg.len, 8);
	return f->a.msg.u.number;
}

/* Sends it with need_reply; returns the number of the reply: 0, or the errno value. */
static inline int ask(struct front *f, uint32_t request, const void *payload, size_t len,
	const int *fds, uint32_t nr_fds)
{
	int rc = say(f, request, payload, len, fds, nr_fds);

	if (rc || !f->a.is)
		return rc ? rc : -ENOMSG;
	return -(int)said(f);
}

static inline int ask_number(struct front *f, uint32_t request, uint64_t number)
{
	return ask(f, request, &number, sizeof(number), NULL, 0);
}

static inline int ask_ring(struct front *f, uint32_t request, uint32_t index, uint32_t num)
{
	const struct gm_vhost_vring_state state = {index, num};

	return ask(f, request, &state, sizeof(state), NULL, 0);
}

static inline int ask_ring_fd(struct front *f, uint32_t request, uint64_t index, int fd)
{
	const uint64_t number = fd < 0 ? index | GM_VHOST_VRING_NO_FD : index;

	return ask(f, request, &number, sizeof(number), &fd, fd >= 0);
}

static inline struct gm_vhost_region region_of(uint64_t gpa, uint64_t len, uint64_t off)
{
	return (struct gm_vhost_region){.gpa = gpa, .len = len, .user = USER + gpa, .off = off};
}

static inline int ask_add(struct front *f, struct gm_vhost_region region, int fd)
{
	const struct gm_vhost_one_region one = {.region = region};

	return ask(f, GM_VHOST_ADD_MEM_REG, &one, sizeof(one), &fd, 1);
}

static inline int ask_remove(struct front *f, struct gm_vhost_region region)
{
	const struct gm_vhost_one_region one = {.region = region};

	return ask(f, GM_VHOST_REM_MEM_REG, &one, sizeof(one), NULL, 0);
}

static inline int ask_table(
	struct front *f, const struct gm_vhost_region *regions, const int *fds, uint32_t nr)
{
	struct gm_vhost_memory table = {.nr = nr};

	if (nr)
		memcpy(table.region, regions, nr * sizeof(*regions));
	return ask(f, GM_VHOST_SET_MEM_TABLE, &table, 8 + nr * sizeof(*regions), fds, nr);
}

static inline int ask_addr(struct front *f, uint32_t index, uint32_t flags, uint64_t log)
{
	const struct gm_vhost_vring_addr addr = {.index = index,
		.flags = flags,
		.desc = USER + DESC_AT + index * MIB(1) / 4,
		.avail = USER + AVAIL_AT + index * KIB(16),
		.used = USER + USED_AT + index * KIB(16),
		.log = log};

	return ask(f, GM_VHOST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

static inline void open_backend(struct front *f, const struct gm_vhost_backend_opts *more)
{
	struct gm_vhost_backend_opts opts = {.features = ALL_FEATURES, .queues = QUEUES};
	int rc;

	memset(f, 0, sizeof(*f));
	if (more)
		opts = *more;
	opts.size = sizeof(opts);
	opts.ops = opts.ops ? opts.ops : &dev_ops;
	opts.ctx = &f->dev;
	opts.gpa_limit = opts.gpa_limit ? opts.gpa_limit : GIB(64);
	opts.features = opts.features ? opts.features : ALL_FEATURES;
	opts.queues = opts.queues ? opts.queues : QUEUES;
	rc = gm_vhost_backend_create(&opts, &f->b, &err);
	assert_int_equal(rc, 0);
	f->dev.b = f->b;
	f->fd = make_ram(RAM, F_SEAL_SHRINK);
	f->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	assert_true(f->ram != MAP_FAILED);
	f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = gm_space_build(GM_OPTS(gm_space_opts, .gpa_limit = GIB(64)),
		&(struct gm_region_desc){.size = sizeof(struct gm_region_desc),
			.backing = GM_OPTS(
				gm_block_opts, .len = RAM, .backing = GM_BACKING_FD, .fd = f->fd)},
		1, &f->space, &err);
	assert_int_equal(rc, 0);
	assert_int_equal(gm_reader_create(f->space, "driver", &f->reader, &err), 0);
}

static inline void close_backend(struct front *f)
{
	gm_virtq_driver_destroy(f->driver);
	gm_vhost_backend_destroy(f->b);
	gm_reader_destroy(f->reader);
	gm_space_destroy(f->space);
	munmap(f->ram, RAM);
	close(f->fd);
	close(f->kick);
	close(f->call);
	close(f->err);
}

/* Without an acknowledgement: protocol features come first, and REPLY_ACK with them. */
static inline void negotiate(struct front *f, uint64_t features, uint64_t protocol)
{
	uint64_t offered;

	assert_int_equal(say(f, GM_VHOST_GET_PROTOCOL_FEATURES, "", 0, NULL, 0), 0);
	offered = said(f);
	protocol = protocol ? protocol : offered;
	assert_int_equal(protocol & ~offered, 0);
	assert_int_equal(ask_number(f, GM_VHOST_SET_PROTOCOL_FEATURES, protocol | P(REPLY_ACK)), 0);
	assert_int_equal(say(f, GM_VHOST_SET_OWNER, "", 0, NULL, 0), 0);
	features |= GM_VHOST_F_PROTOCOL_FEATURES | F_VERSION_1;
	assert_int_equal(ask_number(f, GM_VHOST_SET_FEATURES, features), 0);
	f->features = features;
}

static inline uint32_t queue_flags(const struct front *f)
{
	return (f->features & F_PACKED ? GM_VIRTQ_PACKED : 0) |
	       (f->features & F_INDIRECT ? GM_VIRTQ_INDIRECT : 0) |
	       (f->features & F_EVENT ? GM_VIRTQ_EVENT : 0);
}

static inline void share_ram(struct front *f)
{
	const struct gm_vhost_region all = region_of(0, RAM, 0);
	int rc = ask_table(f, &all, &f->fd, 1);

	if (rc)
		fail_msg("SET_MEM_TABLE: %d: %s", rc, err.text);
}

/* All that a ring needs but its memory; it runs if that is there. */
static inline void start_ring(struct front *f, uint32_t index, uint32_t base)
{
	assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_NUM, index, NR), 0);
	assert_int_equal(ask_addr(f, index, 0, 0), 0);
	assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_BASE, index, base), 0);
	assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_CALL, index, f->call), 0);
	assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_ERR, index, f->err), 0);
	assert_int_equal(ask_ring_fd(f, GM_VHOST_SET_VRING_KICK, index, f->kick), 0);
	assert_int_equal(ask_ring(f, GM_VHOST_SET_VRING_ENABLE, index, 1), 0);
}

static inline void make_driver(struct front *f)
{
	const struct gm_virtq_opts opts = {.size = sizeof(opts),
		.desc = DESC_AT,
		.driver = AVAIL_AT,
		.device = USED_AT,
		.nr = NR,
		.flags = queue_flags(f)};

	gm_virtq_driver_destroy(f->driver);
	assert_int_equal(
		gm_virtq_driver_create(&opts, gm_reader_enter(f->reader), &f->driver, &err), 0);
	gm_reader_leave(f->reader);
}

static inline uint32_t first_base(const struct front *f)
{
	return f->features & F_PACKED ? 0x80008000u : 0;
}

/* A front-end with one ring that runs. */
static inline void open_front(struct front *f, uint64_t features, uint64_t protocol,
	const struct gm_vhost_backend_opts *more)
{
	open_backend(f, more);
	negotiate(f, features, protocol);
	share_ram(f);
	make_driver(f);
	start_ring(f, 0, first_base(f));
	assert_true(f->dev.runs[0]);
}

/* Offers one chain of 16 bytes with this first byte. */
static inline void offer(struct front *f, uint8_t first, uint64_t in, uint64_t out)
{
	const struct gm_chain_elem elems[] = {
		{.gpa = in, .len = 16}, {.gpa = out, .len = 16, .flags = GM_CHAIN_WRITE}};
	const struct gm_view *view = gm_reader_enter(f->reader);

	memset(f->ram + in, first, 16);
	memset(f->ram + out, 0, 16);
	assert_int_equal(gm_virtq_driver_add(f->driver, view, elems, 2, 0, f), 0);
	assert_true(gm_virtq_driver_show(f->driver, view) >= 0);
	gm_reader_leave(f->reader);
}

/* Takes one chain back and looks at what it brought. */
static inline void take_back(struct front *f, uint8_t first, uint64_t out)
{
	void *token = NULL;
	uint32_t len = 0;

	assert_int_equal(
		gm_virtq_driver_take(f->driver, gm_reader_enter(f->reader), &token, &len, &err), 1);
	gm_reader_leave(f->reader);
	assert_int_equal(len, 16);
	for (int i = 0; i < 16; i++)
		assert_int_equal(f->ram[out + (uint64_t)i], (uint8_t)~first);
}

static inline bool was_called(int fd)
{
	uint64_t nr;

	return read(fd, &nr, sizeof(nr)) == sizeof(nr);
}

static inline void round_trip(struct front *f, uint8_t first)
{
	offer(f, first, IN_AT, OUT_AT);
	assert_int_equal(dev_serve(&f->dev, 0), 1);
	take_back(f, first, OUT_AT);
}

#endif
