/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_vhost_reply.c - any bytes as what a back-end of vhost-user sends: its answers, and after a mark what it asks for
 * by itself.
 *
 * Everything is there before it is asked for, so no wait is longer than the deadline of one millisecond at the end.
 */
#include <guestmem/guestmem.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MARK 0xa5
#define MARKS 4u

static struct gm_space *space;

static int on_miss(void *ctx, struct gm_vhost_iotlb *iotlb)
{
	(void)ctx;
	iotlb->len = 4096;
	iotlb->user = 0;
	return iotlb->iova & 4096 ? -ENOENT : 0;
}

static int on_map(void *ctx, const struct gm_vhost_shmem_map *map, int fd)
{
	(void)ctx;
	(void)map;
	return fd >= 0 ? -EINVAL : 0;
}

static const struct gm_vhost_frontend_ops ops = {
	.size = sizeof(ops), .miss = on_miss, .shmem_map = on_map};

static void begin(void)
{
	struct gm_error err;

	if (gm_space_create(GM_OPTS(gm_space_opts, .gpa_limit = 1 << 30), &space, &err) ||
		gm_space_add(space,
			GM_OPTS(gm_region_desc, .backing = GM_OPTS(gm_block_opts, .len = 1 << 20,
							.flags = GM_BLOCK_SHARE)),
			NULL, &err))
		abort();
}

/* Where answers end. */
static size_t marked(const uint8_t *data, size_t size)
{
	static const uint8_t mark[MARKS] = {MARK, MARK, MARK, MARK};

	for (size_t i = 0; i + MARKS <= size; i++) {
		if (memcmp(data + i, mark, MARKS) == 0)
			return i;
	}
	return size;
}

static void say(int sock, const uint8_t *data, size_t size)
{
	if (size && send(sock, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		abort();
}

/* All descriptors that the front-end has sent; the last socket is the one for requests. */
static int take_channel(int sock)
{
	int channel = -1;

	for (;;) {
		char bytes[4096];
		char room[CMSG_SPACE(253 * sizeof(int))];
		struct iovec iov = {bytes, sizeof(bytes)};
		struct msghdr head = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = room,
			.msg_controllen = sizeof(room)};
		struct cmsghdr *c;

		if (recvmsg(sock, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
			return channel;
		for (c = CMSG_FIRSTHDR(&head); c; c = CMSG_NXTHDR(&head, c)) {
			for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
				if (channel >= 0)
					close(channel);
				memcpy(&channel, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			}
		}
	}
}

static void ask(struct gm_vhost_frontend *fe, struct gm_error *err)
{
	const struct gm_vhost_frontend_ring ring = {.size = sizeof(ring),
		.num = 16,
		.avail = 4096,
		.used = 8192,
		.kick = -1,
		.call = -1,
		.error = -1};
	struct gm_vhost_shmem_config shmem;
	uint8_t bytes[8];
	uint32_t base;
	int fd = -1;

	if (gm_vhost_frontend_config_get(fe, 0, bytes, 8, err))
		return;
	gm_vhost_frontend_status_get(fe, bytes, err);
	gm_vhost_frontend_inflight(fe, 16, err);
	if (gm_vhost_frontend_attach(fe, space, err))
		return;
	gm_vhost_frontend_log_start(fe, err);
	gm_vhost_frontend_ring_start(fe, 0, &ring, err);
	gm_vhost_frontend_ring_stop(fe, 0, &base, err);
	gm_vhost_frontend_shmem(fe, &shmem, err);
	if (gm_vhost_frontend_state(fe, true, 0, &fd, err) == 0 && fd >= 0)
		close(fd);
	gm_vhost_frontend_state_check(fe, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gm_vhost_frontend *fe = NULL;
	size_t answers = marked(data, size);
	struct gm_error err = {.code = 0};
	int channel;
	int fds[2];

	if (!space)
		begin();
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		abort();
	say(fds[1], data, answers);
	if (gm_vhost_frontend_create(
		    GM_OPTS(gm_vhost_frontend_opts, .fd = fds[0], .timeout_ms = 1,
			    .features = UINT64_MAX & ~GM_VHOST_F_IOMMU_PLATFORM, .ops = &ops),
		    &fe, &err)) {
		if (!err.text[0])
			abort();
	} else {
		channel = take_channel(fds[1]);
		if (channel >= 0 && size > answers + MARKS)
			say(channel, data + answers + MARKS, size - answers - MARKS);
		ask(fe, &err);
		for (int i = 0; i < 4 && gm_vhost_frontend_step(fe, 0, &err) > 0; i++)
			;
		if (channel >= 0)
			close(channel);
		if (gm_vhost_frontend_destroy(fe, &err))
			abort();
	}
	close(fds[0]);
	close(fds[1]);
	return 0;
}
