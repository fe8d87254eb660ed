/* SPDX-License-Identifier: BSD-3-Clause */
/* balloon_hint.c - see guestmem/balloon_hint.h. */
#include "services/balloon.h"

#include <errno.h>

int gm_balloon_hint_start(
	struct gm_balloon *balloon, const struct gm_balloon_marks *marks, uint32_t *ret_id)
{
	struct gm_range range;
	uint64_t len;
	int rc = 0;

	if (!marks->words || marks->nr == 0 || !gm_is_pow2(marks->page_size) ||
		__builtin_mul_overflow(marks->nr, marks->page_size, &len) ||
		!gm_range_make(marks->gpa, len, &range))
		return -EINVAL;
	pthread_mutex_lock(&balloon->lock);
	if (balloon->marks.words) {
		rc = -EBUSY;
	} else {
		balloon->marks = *marks;
		gm_pages_init(&balloon->pages, &range, marks->page_size);
		balloon->listening = false;
		if (++balloon->sum.command < GM_BALLOON_CMD_FIRST)
			balloon->sum.command = GM_BALLOON_CMD_FIRST;
		*ret_id = balloon->sum.command;
	}
	pthread_mutex_unlock(&balloon->lock);
	return rc;
}

int gm_balloon_hint_command(struct gm_balloon *balloon, uint32_t id)
{
	int listening;

	pthread_mutex_lock(&balloon->lock);
	balloon->listening = balloon->marks.words && id == balloon->sum.command;
	listening = balloon->listening;
	pthread_mutex_unlock(&balloon->lock);
	return listening;
}

/* With the lock: bits that were set and are not. */
static uint64_t clear_bits(const struct gm_balloon *b, const struct gm_range *bits)
{
	uint64_t cleared = 0;

	for (uint64_t word = bits->first / 64; word <= bits->last / 64; word++) {
		uint64_t mask = UINT64_MAX;

		if (word == bits->first / 64)
			mask &= UINT64_MAX << bits->first % 64;
		if (word == bits->last / 64)
			mask &= UINT64_MAX >> (63 - bits->last % 64);
		cleared += (uint64_t)__builtin_popcountll(
			gm_bits_take_some(&b->marks.words[word], mask));
	}
	return cleared;
}

int gm_balloon_hint(struct gm_balloon *balloon, uint64_t gpa, uint64_t len, uint64_t *ret_bytes)
{
	struct gm_range range;
	struct gm_range bits;
	uint64_t bytes = 0;
	int rc = 0;

	if (len && !gm_range_make(gpa, len, &range))
		return -ERANGE;
	pthread_mutex_lock(&balloon->lock);
	if (!balloon->listening) {
		balloon->sum.stale += len;
		rc = -ESTALE;
	} else if (len && !gm_balloon_is_poisoned(balloon) &&
		   gm_pages_inside(&balloon->pages, &range, &bits)) {
		bytes = clear_bits(balloon, &bits) * balloon->marks.page_size;
		balloon->sum.hinted += bytes;
	}
	pthread_mutex_unlock(&balloon->lock);
	if (ret_bytes)
		*ret_bytes = bytes;
	return rc;
}

uint32_t gm_balloon_hint_end(struct gm_balloon *balloon, int done)
{
	pthread_mutex_lock(&balloon->lock);
	balloon->marks.words = NULL;
	balloon->listening = false;
	pthread_mutex_unlock(&balloon->lock);
	return done ? GM_BALLOON_CMD_DONE : GM_BALLOON_CMD_STOP;
}
