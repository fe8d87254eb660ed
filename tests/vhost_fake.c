/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_fake.c - see vhost_fake.h. */
#include "vhost_fake.h"

void fake_send(int sock, const void *msg, size_t len, const int *fds, unsigned int nr)
{
	char room[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)msg, len};
	struct msghdr head = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nr) {
		struct cmsghdr *c;

		head.msg_control = room;
		head.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		c = CMSG_FIRSTHDR(&head);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nr * sizeof(int));
	}
	/* It may have gone. */
	(void)!sendmsg(sock, &head, MSG_NOSIGNAL);
}

size_t fake_bytes(const struct gm_vhost_msg *msg, uint8_t *bytes)
{
	memcpy(bytes, msg, GM_VHOST_HEADER);
	memcpy(bytes + GM_VHOST_HEADER, &msg->u, msg->len);
	return GM_VHOST_HEADER + msg->len;
}

static void fake_reply(struct fake *f, struct gm_vhost_msg *msg, int fd)
{
	uint8_t bytes[GM_VHOST_HEADER + 2 * GM_VHOST_PAYLOAD_MAX] = {0};
	enum fake_lie lie = msg->request == f->lie_about ? f->lie : LIE_NONE;
	int fds[9] = {fd, 0, 0, 0, 0, 0, 0, 0, 0};
	unsigned int nr = fd >= 0;
	size_t len;

	msg->flags = GM_VHOST_VERSION | GM_VHOST_REPLY;
	if (lie == LIE_NUMBER)
		memset(&msg->u, 0xff, msg->len);
	msg->request += lie == LIE_REQUEST;
	msg->flags ^= lie == LIE_VERSION    ? 3u
		      : lie == LIE_NO_REPLY ? 4u
		      : lie == LIE_FLAGS    ? 8u
					    : 0;
	len = fake_bytes(msg, bytes);
	if (lie == LIE_LONGER || lie == LIE_SHORTER || lie == LIE_HUGE) {
		uint32_t said = lie == LIE_LONGER ? msg->len + 1
				: lie == LIE_HUGE ? UINT32_MAX
						  : msg->len - 1;

		memcpy(bytes + 8, &said, sizeof(said));
		len = lie == LIE_SHORTER && msg->len ? len - 1 : len + 1;
	}
	if (lie == LIE_FD || lie == LIE_FDS) {
		nr = lie == LIE_FD ? nr + 1 : 9;
		for (unsigned int i = fd >= 0; i < nr; i++)
			fds[i] = f->sock;
	}
	len = lie == LIE_CUT_HEAD ? 7 : lie == LIE_CUT_PAYLOAD ? len - 1 : len;
	if (lie != LIE_SILENT && lie != LIE_CLOSED)
		fake_send(f->sock, bytes, len, fds, nr);
	if (lie == LIE_CLOSED || lie == LIE_CUT_HEAD || lie == LIE_CUT_PAYLOAD)
		shutdown(f->sock, SHUT_RDWR);
}

static bool fake_meets(const struct gm_vhost_region *a, const struct gm_vhost_region *b)
{
	return a->gpa < b->gpa + b->len && b->gpa < a->gpa + a->len;
}

static void fake_add(struct fake *f, const struct gm_vhost_region *region)
{
	for (uint32_t i = 0; i < f->nr_regions; i++) {
		if (fake_meets(&f->regions[i], region))
			f->wrong = true;
	}
	if (f->nr_regions == FAKE_REGIONS || f->nr_regions >= f->slots)
		f->wrong = true;
	else
		f->regions[f->nr_regions++] = *region;
}

static void fake_remove(struct fake *f, const struct gm_vhost_region *region)
{
	for (uint32_t i = 0; i < f->nr_regions; i++) {
		const struct gm_vhost_region *r = &f->regions[i];

		if (r->gpa != region->gpa || r->len != region->len || r->user != region->user)
			continue;
		f->regions[i] = f->regions[f->nr_regions - 1];
		f->nr_regions--;
		return;
	}
	f->wrong = true;
}

static void fake_table(struct fake *f, struct gm_vhost_msg *msg)
{
	/* The word that it may go on. */
	if (f->listening && msg->len == 8)
		return;
	f->nr_regions = 0;
	for (uint32_t i = 0; i < msg->u.memory.nr; i++)
		fake_add(f, &msg->u.memory.region[i]);
	if (!f->listening)
		return;
	for (uint32_t i = 0; i < msg->u.memory.nr; i++)
		msg->u.memory.region[i].user = FAKE_BASE + i * GIB(64);
	fake_reply(f, msg, -1);
}

static void fake_log(struct fake *f, const struct gm_vhost_msg *msg, int fd)
{
	void *log = mmap(NULL, msg->u.log.len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (log == MAP_FAILED || msg->u.log.off)
		f->wrong = true;
	if (f->log)
		munmap(f->log, f->log_len);
	f->log = log == MAP_FAILED ? NULL : log;
	f->log_len = msg->u.log.len;
}

int fake_memfd(size_t len)
{
	int fd = memfd_create("fake", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)len))
		abort();
	return fd;
}

/* Answers that are more than a number. Returns whether it did. */
static bool fake_answer(struct fake *f, struct gm_vhost_msg *msg)
{
	int fd = -1;

	switch (msg->request) {
	case GM_VHOST_GET_FEATURES:
		msg->u.number = f->features;
		break;
	case GM_VHOST_GET_PROTOCOL_FEATURES:
		msg->u.number = f->protocol;
		break;
	case GM_VHOST_GET_QUEUE_NUM:
		msg->u.number = 8;
		break;
	case GM_VHOST_GET_MAX_MEM_SLOTS:
		msg->u.number = f->slots;
		break;
	case GM_VHOST_GET_VRING_BASE:
		msg->u.vring.num = 7;
		break;
	case GM_VHOST_GET_STATUS:
		msg->u.number = f->status;
		break;
	case GM_VHOST_CHECK_DEVICE_STATE:
		msg->u.number = 0;
		break;
	case GM_VHOST_SET_DEVICE_STATE_FD:
		msg->u.number = 0x100;
		break;
	case GM_VHOST_GET_CONFIG:
		memset(msg->u.config.bytes, 0x5a, msg->u.config.len);
		break;
	case GM_VHOST_GET_SHMEM_CONFIG:
		msg->len = sizeof(msg->u.shmem);
		memset(&msg->u.shmem, 0, sizeof(msg->u.shmem));
		msg->u.shmem.nr = 1;
		msg->u.shmem.len[3] = MIB(1);
		break;
	case GM_VHOST_GET_INFLIGHT_FD:
		msg->u.inflight.len = 4096;
		fd = fake_memfd(4096);
		break;
	case GM_VHOST_POSTCOPY_ADVISE:
		fd = eventfd(0, EFD_CLOEXEC);
		break;
	case GM_VHOST_SET_LOG_BASE:
		msg->len = 8; /* with what was in it, as some do */
		break;
	default:
		return false;
	}
	if (msg->len == 0 && msg->request != GM_VHOST_POSTCOPY_ADVISE)
		msg->len = 8;
	fake_reply(f, msg, fd);
	if (fd >= 0)
		close(fd);
	return true;
}

/* Takes note. @fds are closed by the caller, but those that are kept become -1. */
static void fake_note(struct fake *f, struct gm_vhost_msg *msg, int *fds, unsigned int nr)
{
	if (f->nr < FAKE_NOTES)
		f->notes[f->nr] = msg->request;
	switch (msg->request) {
	case GM_VHOST_ADD_MEM_REG:
		fake_add(f, &msg->u.one.region);
		break;
	case GM_VHOST_REM_MEM_REG:
		fake_remove(f, &msg->u.one.region);
		break;
	case GM_VHOST_SET_MEM_TABLE:
		fake_table(f, msg);
		break;
	case GM_VHOST_SET_LOG_BASE:
		fake_log(f, msg, nr ? fds[0] : -1);
		break;
	case GM_VHOST_SET_BACKEND_REQ_FD:
		f->channel = nr ? fds[0] : -1;
		fds[0] = -1;
		break;
	case GM_VHOST_SET_VRING_ADDR:
		f->addr = msg->u.addr;
		break;
	case GM_VHOST_SET_VRING_BASE:
		f->base = msg->u.vring;
		break;
	case GM_VHOST_IOTLB_MSG:
		f->iotlb = msg->u.iotlb;
		break;
	case GM_VHOST_SET_STATUS:
		f->status = (uint8_t)msg->u.number;
		break;
	case GM_VHOST_POSTCOPY_LISTEN:
		f->listening = true;
		break;
	default:
		break;
	}
}

void fake_miss(struct fake *f, bool wants)
{
	struct gm_vhost_msg msg = {.request = GM_VHOST_BACKEND_IOTLB_MSG,
		.flags = GM_VHOST_VERSION | (wants ? GM_VHOST_NEED_REPLY : 0),
		.len = sizeof(struct gm_vhost_iotlb)};
	uint8_t bytes[64];

	msg.u.iotlb = (struct gm_vhost_iotlb){
		.iova = f->miss_iova, .perm = 1, .type = GM_VHOST_IOTLB_MISS};
	fake_send(f->channel, bytes, fake_bytes(&msg, bytes), NULL, 0);
}

static bool fake_read(struct fake *f, void *to, size_t len, int *fds, unsigned int *nr)
{
	size_t done = 0;

	while (done < len) {
		char room[CMSG_SPACE(16 * sizeof(int))];
		struct iovec iov = {(uint8_t *)to + done, len - done};
		struct msghdr head = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = room,
			.msg_controllen = sizeof(room)};
		ssize_t got = recvmsg(f->sock, &head, MSG_CMSG_CLOEXEC);
		struct cmsghdr *c;

		if (got <= 0)
			return false;
		c = CMSG_FIRSTHDR(&head);
		if (c && c->cmsg_type == SCM_RIGHTS && !*nr) {
			*nr = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(c), *nr * sizeof(int));
		}
		done += (size_t)got;
	}
	return true;
}

static bool fake_refuses(struct fake *f, uint32_t request)
{
	return request == f->refuse && f->refuse_nr && --f->refuse_nr == 0;
}

static void *fake_run(void *arg)
{
	struct fake *f = arg;

	for (;;) {
		struct gm_vhost_msg msg;
		int fds[16];
		unsigned int nr = 0;
		bool no;
		bool table;

		memset(&msg, 0, sizeof(msg));
		if (!fake_read(f, &msg, GM_VHOST_HEADER, fds, &nr) ||
			!fake_read(f, &msg.u, msg.len, fds, &nr))
			break;
		if (gm_vhost_msg_check(GM_VHOST_FROM_FRONTEND, &msg, nr, NULL) &&
			!(f->listening && msg.request == GM_VHOST_SET_MEM_TABLE))
			f->wrong = true;
		if (f->miss_in == msg.request)
			fake_miss(f, false);
		no = fake_refuses(f, msg.request);
		table = f->listening && msg.request == GM_VHOST_SET_MEM_TABLE;
		if (!no)
			fake_note(f, &msg, fds, nr);
		while (nr--) {
			if (fds[nr] >= 0)
				close(fds[nr]);
		}
		f->nr++;
		if (table || fake_answer(f, &msg) || !(msg.flags & GM_VHOST_NEED_REPLY))
			continue;
		msg.len = 8;
		msg.u.number = no ? 1 : 0;
		fake_reply(f, &msg, -1);
	}
	return NULL;
}

struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->features = FAKE_FEATURES;
	f->protocol = FAKE_PROTOCOL;
	f->slots = 32;
	f->channel = -1;
	return f;
}

void fake_start(struct fake *f)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->sock = fds[0];
	f->theirs = fds[1];
	assert_int_equal(pthread_create(&f->thread, NULL, fake_run, f), 0);
}

void fake_end(struct fake *f)
{
	shutdown(f->sock, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->sock);
	close(f->theirs);
	if (f->channel >= 0)
		close(f->channel);
	if (f->log)
		munmap(f->log, f->log_len);
	free(f);
}

unsigned int fake_count(const struct fake *f, uint32_t request)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < f->nr && i < FAKE_NOTES; i++)
		nr += f->notes[i] == request;
	return nr;
}

unsigned int fake_first(const struct fake *f, uint32_t request)
{
	unsigned int i = 0;

	while (i < f->nr && i < FAKE_NOTES && f->notes[i] != request)
		i++;
	return i < f->nr ? i : FAKE_NOTES;
}
