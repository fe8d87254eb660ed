/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_seen.c - what the messages of a front-end say, kept. */
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "vhost_user.h"

void seen_init(struct seen *s)
{
	memset(s, 0, sizeof(*s));
	s->log_fd = -1;
}

static void forget_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void forget_regions(struct seen *s)
{
	while (s->nr_regions)
		forget_fd(&s->regions[--s->nr_regions].fd);
}

void seen_free(struct seen *s)
{
	forget_regions(s);
	forget_fd(&s->log_fd);
	dirty_free(&s->dirty);
	tlb_clear(&s->tlb);
}

/* ---- memory ---- */

static void add_region(struct seen *s, const struct gm_vhost_region *region, int *fd)
{
	if (s->nr_regions == SEEN_REGIONS)
		return;
	s->regions[s->nr_regions++] = (struct seen_region){.region = *region, .fd = *fd};
	*fd = -1;
}

static void remove_region(struct seen *s, const struct gm_vhost_region *region)
{
	for (uint32_t i = 0; i < s->nr_regions; i++) {
		struct seen_region *r = &s->regions[i];

		if (r->region.gpa != region->gpa || r->region.len != region->len ||
			r->region.user != region->user)
			continue;
		forget_fd(&r->fd);
		memmove(r, r + 1, (s->nr_regions - i - 1) * sizeof(*r));
		s->nr_regions--;
		return;
	}
}

static void set_log(struct seen *s, const struct gm_vhost_log *log, int *fd)
{
	forget_fd(&s->log_fd);
	s->log_fd = *fd;
	*fd = -1;
	s->log_off = log->off;
	s->log_len = log->len;
	dirty_begin(&s->dirty);
}

/* ---- what lies in files ---- */

static ptrdiff_t read_log(void *ctx, uint64_t off, void *buf, size_t len)
{
	const struct seen *s = ctx;

	return pread(s->log_fd, buf, len, (off_t)(s->log_off + off));
}

void seen_log(struct seen *s)
{
	if (s->log_fd >= 0)
		dirty_look(&s->dirty, s->log_len, read_log, s);
}

/* How many bytes at a user address were read, 0: none. */
static size_t read_user(const struct seen *s, uint64_t user, void *buf, size_t len)
{
	for (uint32_t i = 0; i < s->nr_regions; i++) {
		const struct gm_vhost_region *r = &s->regions[i].region;
		ssize_t nr;

		if (user < r->user || user - r->user >= r->len || s->regions[i].fd < 0)
			continue;
		if (len > r->len - (user - r->user))
			len = (size_t)(r->len - (user - r->user));
		nr = pread(s->regions[i].fd, buf, len, (off_t)(r->off + (user - r->user)));
		return nr > 0 ? (size_t)nr : 0;
	}
	return 0;
}

const char *seen_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	const struct seen *s = ctx;
	size_t done = 0;

	while (done < len) {
		uint64_t user = addr + done;
		uint64_t there = len - done;
		size_t nr;

		if (s->features & GM_VHOST_F_IOMMU_PLATFORM)
			there = tlb_find(&s->tlb, addr + done, &user);
		if (there == 0)
			return s->tlb.full ? "more translations have passed than are kept"
					   : "no translation of its addresses has passed";
		nr = read_user(s, user, (char *)buf + done,
			there < len - done ? (size_t)there : len - done);
		if (nr == 0)
			return "no memory that can be read is shared at its addresses";
		done += nr;
	}
	return NULL;
}

/* ---- messages ---- */

static struct seen_ring *ring_of(struct seen *s, uint64_t index)
{
	static struct seen_ring nobody;

	if (index >= SEEN_RINGS)
		return &nobody;
	s->rings[index].set = true;
	return &s->rings[index];
}

static void ring_message(struct seen *s, const struct gm_vhost_msg *msg)
{
	struct seen_ring *ring = ring_of(s, msg->request == GM_VHOST_SET_VRING_KICK
						    ? msg->u.number & GM_VHOST_VRING_INDEX
						    : msg->u.vring.index);

	switch (msg->request) {
	case GM_VHOST_SET_VRING_NUM:
		ring->num = msg->u.vring.num;
		break;
	case GM_VHOST_SET_VRING_BASE:
		ring->base = msg->u.vring.num;
		ring->told = false;
		break;
	case GM_VHOST_SET_VRING_ADDR:
		ring->addr = msg->u.addr;
		break;
	case GM_VHOST_SET_VRING_ENABLE:
		ring->enabled = msg->u.vring.num;
		break;
	case GM_VHOST_GET_VRING_BASE:
	case GM_VHOST_GET_VRING_BASE_SKIP_DRAIN:
		ring->kicked = false;
		ring->stopped = true;
		break;
	default:
		ring->kicked = true;
		ring->stopped = false;
	}
}

static void front_request(struct seen *s, const struct gm_vhost_msg *msg, int *fds, uint32_t nr)
{
	switch (msg->request) {
	case GM_VHOST_SET_FEATURES:
		s->features = msg->u.number;
		break;
	case GM_VHOST_SET_PROTOCOL_FEATURES:
		s->protocol = msg->u.number;
		break;
	case GM_VHOST_POSTCOPY_LISTEN:
	case GM_VHOST_POSTCOPY_END:
		s->listening = msg->request == GM_VHOST_POSTCOPY_LISTEN;
		break;
	case GM_VHOST_SET_MEM_TABLE:
		if (s->listening && !msg->u.memory.nr)
			break;
		forget_regions(s);
		for (uint32_t i = 0; i < msg->u.memory.nr && i < nr; i++)
			add_region(s, &msg->u.memory.region[i], &fds[i]);
		break;
	case GM_VHOST_ADD_MEM_REG:
		add_region(s, &msg->u.one.region, fds);
		break;
	case GM_VHOST_REM_MEM_REG:
		remove_region(s, &msg->u.one.region);
		break;
	case GM_VHOST_SET_LOG_BASE:
		set_log(s, &msg->u.log, fds);
		break;
	case GM_VHOST_IOTLB_MSG:
		tlb_update(&s->tlb, &msg->u.iotlb);
		break;
	case GM_VHOST_SET_VRING_NUM:
	case GM_VHOST_SET_VRING_BASE:
	case GM_VHOST_SET_VRING_ADDR:
	case GM_VHOST_SET_VRING_ENABLE:
	case GM_VHOST_GET_VRING_BASE:
	case GM_VHOST_GET_VRING_BASE_SKIP_DRAIN:
	case GM_VHOST_SET_VRING_KICK:
		ring_message(s, msg);
		break;
	default:
		break;
	}
}

/* What the back-end says of itself. */
static void back_reply(struct seen *s, const struct gm_vhost_msg *msg)
{
	const bool base = msg->request == GM_VHOST_GET_VRING_BASE ||
			  msg->request == GM_VHOST_GET_VRING_BASE_SKIP_DRAIN;

	if (msg->len != sizeof(uint64_t))
		return;
	if (msg->request == GM_VHOST_GET_FEATURES)
		s->offered = msg->u.number;
	if (base && msg->u.vring.index < SEEN_RINGS) {
		ring_of(s, msg->u.vring.index)->base = msg->u.vring.num;
		ring_of(s, msg->u.vring.index)->told = true;
	}
}

void seen_message(struct seen *s, enum gm_vhost_from from, bool reply,
	const struct gm_vhost_msg *msg, int *fds, uint32_t nr)
{
	bool front = (from == GM_VHOST_FROM_FRONTEND) != reply;

	s->messages[!front]++;
	if (reply) {
		if (from == GM_VHOST_FROM_FRONTEND)
			back_reply(s, msg);
		return;
	}
	if (gm_vhost_msg_check(from, msg, nr, NULL)) {
		s->unknown++;
		return;
	}
	if (from == GM_VHOST_FROM_FRONTEND)
		front_request(s, msg, fds, nr);
}
