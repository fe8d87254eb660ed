/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_seen.c - what the messages of a front-end say, kept. */
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "vhost_user.h"

#define LOOK 65536u                 /* bytes of log that are read at once */
#define LOG_MAX (UINT64_C(1) << 28) /* bytes of log that are looked at */

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
	free(s->log_was);
	s->log_was = NULL;
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
	s->log_len = log->len < LOG_MAX ? log->len : LOG_MAX;
	s->log_at = tool_now();
}

/* ---- the log ---- */

static uint64_t bits_of(const uint8_t *bytes, size_t len)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < len; i++)
		bits += (uint64_t)__builtin_popcount(bytes[i]);
	return bits;
}

static void look(struct seen *s, uint64_t at, uint8_t *bytes, size_t len)
{
	s->dirty += bits_of(bytes, len);
	for (size_t i = 0; i < len; i++) {
		s->dirty_new += (uint64_t)__builtin_popcount(bytes[i] & ~s->log_was[at + i] & 0xff);
		s->log_was[at + i] = bytes[i];
	}
}

void seen_log(struct seen *s)
{
	static uint8_t bytes[LOOK];
	double now = tool_now();

	s->dirty = 0;
	s->dirty_new = 0;
	if (s->log_fd < 0)
		return;
	if (s->log_was_len < s->log_len) {
		s->log_was = tool_realloc(s->log_was, s->log_len, 1);
		memset(s->log_was + s->log_was_len, 0, s->log_len - s->log_was_len);
		s->log_was_len = s->log_len;
	}
	for (uint64_t at = 0; at < s->log_len;) {
		size_t len = s->log_len - at < LOOK ? (size_t)(s->log_len - at) : LOOK;
		ssize_t nr = pread(s->log_fd, bytes, len, (off_t)(s->log_off + at));

		if (nr <= 0)
			break;
		look(s, at, bytes, (size_t)nr);
		at += (uint64_t)nr;
	}
	s->dirty_rate = now > s->log_at ? (double)s->dirty_new / (now - s->log_at) : 0;
	s->log_at = now;
}

bool seen_word(const struct seen *s, uint64_t user, uint16_t *ret)
{
	for (uint32_t i = 0; i < s->nr_regions; i++) {
		const struct gm_vhost_region *r = &s->regions[i].region;

		if (user < r->user || user - r->user >= r->len || s->regions[i].fd < 0)
			continue;
		return pread(s->regions[i].fd, ret, sizeof(*ret),
			       (off_t)(r->off + (user - r->user))) == (ssize_t)sizeof(*ret);
	}
	return false;
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
		break;
	case GM_VHOST_SET_VRING_ADDR:
		ring->addr = msg->u.addr;
		break;
	case GM_VHOST_SET_VRING_ENABLE:
		ring->enabled = msg->u.vring.num;
		break;
	case GM_VHOST_GET_VRING_BASE:
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
	case GM_VHOST_SET_VRING_NUM:
	case GM_VHOST_SET_VRING_BASE:
	case GM_VHOST_SET_VRING_ADDR:
	case GM_VHOST_SET_VRING_ENABLE:
	case GM_VHOST_GET_VRING_BASE:
	case GM_VHOST_SET_VRING_KICK:
		ring_message(s, msg);
		break;
	default:
		break;
	}
}

void seen_message(struct seen *s, enum gm_vhost_from from, bool reply,
	const struct gm_vhost_msg *msg, int *fds, uint32_t nr)
{
	bool front = (from == GM_VHOST_FROM_FRONTEND) != reply;

	s->messages[!front]++;
	if (reply) {
		if (from == GM_VHOST_FROM_FRONTEND && msg->request == GM_VHOST_GET_FEATURES &&
			msg->len == sizeof(uint64_t))
			s->offered = msg->u.number;
		return;
	}
	if (gm_vhost_msg_check(from, msg, nr, NULL)) {
		s->unknown++;
		return;
	}
	if (from == GM_VHOST_FROM_FRONTEND)
		front_request(s, msg, fds, nr);
}
