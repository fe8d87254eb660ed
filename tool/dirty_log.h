/* SPDX-License-Identifier: BSD-3-Clause */
/* dirty_log.h - how many pages are marked in a log of vhost-user, and how fast more are. */
#ifndef TOOL_DIRTY_LOG_H
#define TOOL_DIRTY_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dirty_log {
	uint8_t *was; /* as it was looked at last */
	uint64_t was_len;
	double at;       /* when */
	uint64_t marked; /* pages */
	uint64_t fresh;  /* of these, not marked at the look before */
	double rate;     /* of these, a second */
};

/* Bytes from @off on; 0 at the end, or negative. */
typedef ptrdiff_t dirty_read_fn(void *ctx, uint64_t off, void *buf, size_t len);

/* A log begins: what was seen of another one does not count. */
void dirty_begin(struct dirty_log *d);
/* Looks at a log of @len bytes, at 256 MiB of it at most. */
void dirty_look(struct dirty_log *d, uint64_t len, dirty_read_fn *read, void *ctx);
void dirty_free(struct dirty_log *d);

#endif
