/* SPDX-License-Identifier: BSD-3-Clause */
/* provider.c - see provider.h. */
#include "provider.h"

#include <errno.h>
#include <guestmem/backend.h>
#include <guestmem/iommu.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)
#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)

static struct gm_error err;

/* ---- by address ---- */

static int at(void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	struct provided *p = ctx;
	uint64_t room = PAGE - off % PAGE;

	*ret = (struct gm_backend_piece){
		.hva = p->bytes + off, .len = len < room ? len : room, .perms = perms};
	return 0;
}

static void no_more(void *ctx, const struct gm_backend_piece *piece)
{
	(void)ctx;
	(void)piece;
}

/* ---- by message: the bytes are in another process ---- */

enum {
	MSG_READ = 100,
	MSG_WRITE,
};

struct message {
	uint32_t op; /* or an enum gm_backend_atomic */
	uint32_t size;
	uint64_t off;
	uint64_t value;
	uint64_t expected;
};

static void need(bool well)
{
	if (!well)
		_exit(1);
}

static void serve_atomic(uint8_t *bytes, struct message *m)
{
	uint64_t was = 0;
	uint64_t value = m->value;

	memcpy(&was, bytes + m->off, m->size);
	switch (m->op) {
	case GM_BACKEND_FETCH_ADD:
		value = was + m->value;
		break;
	case GM_BACKEND_FETCH_AND:
		value = was & m->value;
		break;
	case GM_BACKEND_FETCH_OR:
		value = was | m->value;
		break;
	case GM_BACKEND_FETCH_XOR:
		value = was ^ m->value;
		break;
	case GM_BACKEND_CMPXCHG:
		value = was == m->expected ? m->value : was;
		break;
	default:
		break;
	}
	memcpy(bytes + m->off, &value, m->size);
	m->expected = was;
}

static void serve(int sock)
{
	static uint8_t bytes[PROVIDED];
	struct message m;

	while (recv(sock, &m, sizeof(m), MSG_WAITALL) == sizeof(m)) {
		need(m.off <= PROVIDED && m.size <= PROVIDED - m.off);
		if (m.op == MSG_READ) {
			need(send(sock, bytes + m.off, m.size, 0) == (ssize_t)m.size);
		} else if (m.op == MSG_WRITE) {
			need(recv(sock, bytes + m.off, m.size, MSG_WAITALL) == (ssize_t)m.size);
			need(send(sock, "", 1, 0) == 1);
		} else {
			need(m.size <= 8);
			serve_atomic(bytes, &m);
			need(send(sock, &m.expected, 8, 0) == 8);
		}
	}
	_exit(0);
}

static int message_read(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	struct provided *p = ctx;
	struct message m = {.op = MSG_READ, .size = (uint32_t)(len < 500 ? len : 500), .off = off};

	if (send(p->sock, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m) ||
		recv(p->sock, buf, m.size, MSG_WAITALL) != (ssize_t)m.size)
		return -EPIPE;
	*ret_done = m.size;
	return 0;
}

static int message_write(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	struct provided *p = ctx;
	struct message m = {.op = MSG_WRITE, .size = (uint32_t)(len < 500 ? len : 500), .off = off};
	char done;

	if (send(p->sock, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m) ||
		send(p->sock, buf, m.size, MSG_NOSIGNAL) != (ssize_t)m.size ||
		recv(p->sock, &done, 1, 0) != 1)
		return -EPIPE;
	*ret_done = m.size;
	return 0;
}

static int message_atomic(
	void *ctx, uint32_t op, uint64_t off, uint32_t size, uint64_t value, uint64_t *seen)
{
	struct provided *p = ctx;
	struct message m = {op, size, off, value, *seen};

	if (send(p->sock, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m) ||
		recv(p->sock, seen, 8, MSG_WAITALL) != 8)
		return -EPIPE;
	return 0;
}

/* ---- setting and getting all bytes ---- */

static void set_by_view(struct provided *p, const uint8_t *bytes)
{
	assert_int_equal(gm_write(gm_reader_enter(p->reader), p->base, bytes, PROVIDED, NULL), 0);
	gm_reader_leave(p->reader);
}

static void get_by_view(struct provided *p, uint8_t *bytes)
{
	assert_int_equal(gm_read(gm_reader_enter(p->reader), p->base, bytes, PROVIDED, NULL), 0);
	gm_reader_leave(p->reader);
}

static void set_bytes(struct provided *p, const uint8_t *bytes)
{
	memcpy(p->bytes, bytes, PROVIDED);
}

static void get_bytes(struct provided *p, uint8_t *bytes)
{
	memcpy(bytes, p->bytes, PROVIDED);
}

/* ---- the ways ---- */

static void add(struct gm_space *space, uint64_t gpa, const struct gm_block_opts *opts)
{
	assert_ok(gm_space_add(space, DESC(.gpa = gpa, .backing = opts), NULL, &err));
}

static void mapped(struct provided *p)
{
	add(p->space, 0, BLOCK(.len = PROVIDED));
}

static void in_regions(struct provided *p)
{
	p->base = GIB(3) - PAGE;
	add(p->space, p->base, BLOCK(.len = PAGE));
	add(p->space, GIB(3), BLOCK(.len = 3 * PAGE, .flags = GM_BLOCK_SHARE));
	add(p->space, GIB(3) + 3 * PAGE, BLOCK(.len = PROVIDED - 4 * PAGE));
}

static void set_backend(struct provided *p)
{
	p->bytes = mmap(NULL, PROVIDED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(p->bytes != MAP_FAILED);
	p->set = set_bytes;
	p->get = get_bytes;
}

static void by_translate(struct provided *p)
{
	set_backend(p);
	p->base = MIB(16);
	add(p->space, p->base,
		BLOCK(.len = PROVIDED, .backing = GM_BACKING_OPS,
			.ops = GM_OPTS(gm_backend_ops, .translate = at, .ctx = p)));
}

static void by_map(struct provided *p)
{
	set_backend(p);
	add(p->space, 0,
		BLOCK(.len = PROVIDED, .backing = GM_BACKING_OPS,
			.ops = GM_OPTS(gm_backend_ops, .map = at, .unmap = no_more, .ctx = p)));
}

static void by_message(struct provided *p)
{
	int socks[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
	p->child = fork();
	assert_true(p->child >= 0);
	if (p->child == 0) {
		close(socks[0]);
		serve(socks[1]);
	}
	close(socks[1]);
	p->sock = socks[0];
	add(p->space, 0,
		BLOCK(.len = PROVIDED, .backing = GM_BACKING_OPS,
			.ops = GM_OPTS(gm_backend_ops, .read = message_read, .write = message_write,
				.atomic = message_atomic, .ctx = p)));
}

static void unmapped(struct provided *p)
{
	add(p->space, 0,
		BLOCK(.len = PROVIDED, .backing = GM_BACKING_MEMFD, .flags = GM_BLOCK_UNMAPPED));
}

/* Pages of the space below in falling order. */
static void behind_iommu(struct provided *p)
{
	struct gm_space_opts opts = {
		.size = sizeof(opts), .over = p->space, .gpa_limit = GM_SPACE_NO_WINDOW};

	p->below = p->space;
	add(p->below, GIB(1), BLOCK(.len = PROVIDED));
	assert_ok(gm_space_create(&opts, &p->space, &err));
	assert_ok(gm_iommu_create(p->below, NULL, &p->iommu, &err));
	assert_ok(gm_space_add(
		p->space, DESC(.kind = GM_REGION_IOMMU, .iommu = p->iommu), NULL, &err));
	p->base = UINT64_C(0xffff000000000000);
	for (uint64_t off = 0; off < PROVIDED; off += PAGE)
		assert_ok(gm_iommu_map(p->iommu, p->base + off, PAGE,
			GIB(1) + PROVIDED - PAGE - off, GM_PERM_RW, &err));
}

static void message_behind_iommu(struct provided *p)
{
	struct gm_space_opts opts = {
		.size = sizeof(opts), .over = p->space, .gpa_limit = GM_SPACE_NO_WINDOW};

	by_message(p);
	p->below = p->space;
	assert_ok(gm_space_create(&opts, &p->space, &err));
	assert_ok(gm_iommu_create(p->below, NULL, &p->iommu, &err));
	assert_ok(gm_space_add(
		p->space, DESC(.kind = GM_REGION_IOMMU, .iommu = p->iommu), NULL, &err));
	assert_ok(gm_iommu_map(p->iommu, 0, PROVIDED, 0, GM_PERM_RW, &err));
}

static const struct {
	const char *name;
	void (*make)(struct provided *p);
} ways[NR_PROVIDERS] = {
	{"mapped", mapped},
	{"in regions", in_regions},
	{"by translate", by_translate},
	{"by map", by_map},
	{"by message", by_message},
	{"unmapped", unmapped},
	{"behind an IOMMU", behind_iommu},
	{"by message behind an IOMMU", message_behind_iommu},
};

void provide(size_t i, struct provided *p)
{
	*p = (struct provided){
		.name = ways[i].name, .sock = -1, .set = set_by_view, .get = get_by_view};
	/* The thread sanitizer has no room for more. */
	assert_ok(gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = GIB(16)), &p->space, &err));
	ways[i].make(p);
	assert_ok(gm_reader_create(p->space, "device", &p->reader, &err));
}

void unprovide(struct provided *p)
{
	int status = 0;

	gm_reader_destroy(p->reader);
	gm_space_destroy(p->space);
	gm_iommu_put(p->iommu);
	gm_space_destroy(p->below);
	if (p->bytes)
		munmap(p->bytes, PROVIDED);
	if (p->sock >= 0) {
		close(p->sock);
		assert_int_equal(waitpid(p->child, &status, 0), p->child);
		assert_int_equal(status, 0);
	}
}
