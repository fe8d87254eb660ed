/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * device.h - accesses that callbacks answer.
 *
 * A device is counted by its region and by the spans of views. Of MMIO it is a span's owner; of a ROM
 * device the owner is the mapping, and its block leads to the device.
 */
#ifndef GM_MEMORY_DEVICE_H
#define GM_MEMORY_DEVICE_H

#include <guestmem/device.h>
#include <guestmem/error.h>
#include <stdbool.h>

#include "core/table.h"

struct gm_device {
	uint32_t refs; /* atomic */
	struct gm_device_ops ops;
	uint64_t block_off; /* of a ROM device: byte of the block where its region begins */
};

/* 0, -EINVAL with what is wrong, -E2BIG, -ENOMEM. */
int gm_device_create(const struct gm_device_ops *ops, struct gm_device **ret, struct gm_error *err);
void gm_device_get(struct gm_device *device);
void gm_device_put(struct gm_device *device);

/* Do reads, or writes, of a span call its device? */
static inline bool gm_span_has_device(const struct gm_span *span, bool write)
{
	return span->perms & (write ? GM_SPAN_DEVICE | GM_SPAN_ROMD : GM_SPAN_DEVICE);
}

/* @len bytes of one span. Returns 0 or an error; *ret_done bytes were done. */
int gm_device_read(
	const struct gm_span *span, uint64_t gpa, uint8_t *buf, size_t len, size_t *ret_done);
/* Without @buf all bytes are @byte. */
int gm_device_write(const struct gm_span *span, uint64_t gpa, const uint8_t *buf, uint8_t byte,
	size_t len, size_t *ret_done);

#endif
