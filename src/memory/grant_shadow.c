/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant_shadow.c - bytes between the guest and a shadow.
 *
 * The peer may have shrunk the shadow, and the host may fail: so bytes go by system calls, which answer
 * with an error, between the shadow's file and pinned memory of the guest. Both are pinned, so a
 * shadow is not truncated under a copy.
 */
#include <guestmem/slice.h>

#include <errno.h>

#include "memory/grant.h"
#include "sys/sys.h"

/* A stretch of both. */
struct stretch {
	struct iovec guest;
	struct gm_pin guest_pin;
	struct iovec shadow;
	struct gm_pin shadow_pin;
};

static int pin(struct gm_reader *reader, uint64_t gpa, uint64_t len, uint32_t perms,
	struct iovec *ret, struct gm_pin *ret_pin)
{
	int rc = gm_pin_slice(gm_reader_enter(reader), gpa, len, perms, ret, ret_pin);

	gm_reader_leave(reader);
	return rc;
}

static int pin_both(
	struct gm_grant *grant, uint64_t gpa, uint64_t len, bool out, struct stretch *ret)
{
	int rc;

	pthread_mutex_lock(&grant->copy_lock);
	rc = pin(grant->reader, gpa, len, out ? GM_PERM_W : 0, &ret->shadow, &ret->shadow_pin);
	if (!rc) {
		rc = pin(grant->source_reader, gpa, ret->shadow.iov_len,
			out ? GM_PERM_W : GM_PERM_R, &ret->guest, &ret->guest_pin);
		if (rc)
			gm_pin_put(&ret->shadow_pin);
	}
	pthread_mutex_unlock(&grant->copy_lock);
	return rc;
}

static void unpin(struct stretch *stretch)
{
	gm_pin_put(&stretch->guest_pin);
	gm_pin_put(&stretch->shadow_pin);
}

/* Moves all of a stretch; the bytes that were, also on failure. */
static int move(const struct stretch *s, bool out, size_t *ret_moved)
{
	const struct gm_map *map = s->shadow_pin.map;
	uint64_t off = map->block->offset + map->block_off +
		       (uint64_t)((uint8_t *)s->shadow.iov_base - map->hva);
	size_t len = s->guest.iov_len;
	size_t at = 0;

	while (at < len) {
		uint8_t *hva = (uint8_t *)s->guest.iov_base + at;
		ssize_t nr = out ? gm_sys_pread(map->block->fd, hva, len - at, off + at)
				 : gm_sys_pwrite(map->block->fd, hva, len - at, off + at);

		if (nr == -EINTR)
			continue;
		if (nr <= 0)
			break;
		at += (size_t)nr;
	}
	*ret_moved = at;
	return at == len ? 0 : -EIO;
}

static int copy(struct gm_grant *grant, uint64_t gpa, size_t len, bool out, size_t *done)
{
	struct stretch stretch;
	struct gm_range range;
	size_t at = 0;
	int rc = 0;

	if (!(grant->flags & GM_GRANT_SHADOW))
		rc = -EINVAL;
	else if (len > 0 && !gm_range_make(gpa, len, &range))
		rc = -ERANGE;
	else if (len == 0)
		rc = pin_both(grant, gpa, 1, out, &stretch);
	if (len == 0 && !rc)
		unpin(&stretch);
	while (at < len && !rc) {
		size_t moved;

		rc = pin_both(grant, gpa + at, len - at, out, &stretch);
		if (rc)
			break;
		rc = move(&stretch, out, &moved);
		at += moved;
		unpin(&stretch);
	}
	if (done)
		*done = at;
	return rc;
}

int gm_grant_copy_in(struct gm_grant *grant, uint64_t gpa, size_t len, size_t *done)
{
	return copy(grant, gpa, len, false, done);
}

int gm_grant_copy_out(struct gm_grant *grant, uint64_t gpa, size_t len, size_t *done)
{
	return copy(grant, gpa, len, true, done);
}
