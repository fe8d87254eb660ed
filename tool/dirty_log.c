/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_log.c - see dirty_log.h. Bit i % 8 of byte i / 8 stands for page i; who reads the log clears them. */
#include "dirty_log.h"

#include <stdlib.h>
#include <string.h>

#include "tool.h"

#define LOOK 65536u                 /* bytes that are read at once */
#define LOG_MAX (UINT64_C(1) << 28) /* bytes that are looked at */

void dirty_begin(struct dirty_log *d)
{
	dirty_free(d);
	d->at = tool_now();
}

void dirty_free(struct dirty_log *d)
{
	free(d->was);
	*d = (struct dirty_log){0};
}

static void count(struct dirty_log *d, uint64_t at, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint8_t was = d->was[at + i];

		if (!(bytes[i] | was))
			continue;
		d->marked += (uint64_t)__builtin_popcount(bytes[i]);
		d->fresh += (uint64_t)__builtin_popcount(bytes[i] & ~was & 0xff);
		d->was[at + i] = bytes[i];
	}
}

void dirty_look(struct dirty_log *d, uint64_t len, dirty_read_fn *read, void *ctx)
{
	static uint8_t bytes[LOOK];
	double now = tool_now();

	len = len < LOG_MAX ? len : LOG_MAX;
	d->marked = 0;
	d->fresh = 0;
	if (d->was_len < len) {
		d->was = tool_realloc(d->was, len, 1);
		memset(d->was + d->was_len, 0, len - d->was_len);
		d->was_len = len;
	}
	for (uint64_t at = 0; at < len;) {
		size_t most = len - at < LOOK ? (size_t)(len - at) : LOOK;
		ptrdiff_t nr = read(ctx, at, bytes, most);

		if (nr <= 0)
			break;
		count(d, at, bytes, (size_t)nr);
		at += (uint64_t)nr;
	}
	d->rate = now > d->at ? (double)d->fresh / (now - d->at) : 0;
	d->at = now;
}
