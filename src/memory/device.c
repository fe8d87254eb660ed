/* SPDX-License-Identifier: BSD-3-Clause */
/* device.c - see device.h. */
#include "memory/device.h"

#include <errno.h>

#include "core/error.h"
#include "core/range.h"
#include "memory/block.h"
#include "sys/inside.h"
#include "sys/sys.h"

static bool is_size(uint32_t size)
{
	return size <= 8 && gm_is_pow2(size);
}

int gm_device_create(const struct gm_device_ops *ops, struct gm_device **ret, struct gm_error *err)
{
	struct gm_device *device = gm_sys_alloc(sizeof(*device));
	int rc;

	if (!device)
		return gm_error_set(err, -ENOMEM, 0, 0, "device: out of memory");
	device->refs = 1;
	rc = gm_opts_copy(&device->ops, sizeof(device->ops), ops, sizeof(*ops));
	if (rc) {
		gm_sys_free(device);
		return gm_opts_error(err, rc, "device");
	}
	if (device->ops.min_size == 0)
		device->ops.min_size = 1;
	if (device->ops.max_size == 0)
		device->ops.max_size = 8;
	if (!is_size(device->ops.min_size) || !is_size(device->ops.max_size) ||
		device->ops.min_size > device->ops.max_size ||
		(device->ops.flags & ~GM_DEVICE_UNALIGNED) || device->ops.reserved) {
		gm_sys_free(device);
		return gm_error_set(err, -EINVAL, 0, 0,
			"device: sizes of accesses are 1, 2, 4 or 8, the least first; or unknown "
			"flags");
	}
	*ret = device;
	return 0;
}

void gm_device_get(struct gm_device *device)
{
	__atomic_fetch_add(&device->refs, 1, __ATOMIC_RELAXED);
}

void gm_device_put(struct gm_device *device)
{
	if (!device || __atomic_fetch_sub(&device->refs, 1, __ATOMIC_ACQ_REL) != 1)
		return;
	if (device->ops.release)
		device->ops.release(device->ops.ctx);
	gm_sys_free(device);
}

/* ---- accesses ---- */

static struct gm_device *device_of(const struct gm_span *span, uint64_t gpa, uint64_t *ret_off)
{
	struct gm_device *device;
	struct gm_map *map;

	if (span->perms & GM_SPAN_DEVICE) {
		*ret_off = gpa + span->delta;
		return (struct gm_device *)(uintptr_t)span->owner;
	}
	map = (struct gm_map *)(uintptr_t)span->owner;
	device = map->block->device;
	*ret_off = gpa + span->delta - (uintptr_t)map->hva + map->block_off - device->block_off;
	return device;
}

/* The largest piece that may begin at @off; 0 if the device takes none there. */
static uint32_t piece_size(const struct gm_device_ops *ops, uint64_t off, size_t len)
{
	uint32_t size = ops->max_size;

	while (size > len || (!(ops->flags & GM_DEVICE_UNALIGNED) && off % size))
		size /= 2;
	return size >= ops->min_size ? size : 0;
}

static uint64_t from_bytes(const uint8_t *bytes, uint32_t size)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << (8 * i);
	return value;
}

static void to_bytes(uint8_t *bytes, uint32_t size, uint64_t value)
{
	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
}

static int negative(int rc)
{
	return rc < 0 ? rc : 0;
}

int gm_device_read(
	const struct gm_span *span, uint64_t gpa, uint8_t *buf, size_t len, size_t *ret_done)
{
	uint64_t off;
	struct gm_device *device = device_of(span, gpa, &off);
	struct gm_inside inside;
	int rc = 0;

	*ret_done = 0;
	if (!device->ops.read)
		return -EACCES;
	if (!gm_sys_enter(&inside, device))
		return -EBUSY;
	while (*ret_done < len && !rc) {
		uint32_t size = piece_size(&device->ops, off + *ret_done, len - *ret_done);
		uint64_t value = 0;

		rc = size ? negative(device->ops.read(
				    device->ops.ctx, off + *ret_done, size, &value))
			  : -EINVAL;
		if (rc)
			break;
		to_bytes(buf + *ret_done, size, value);
		*ret_done += size;
	}
	gm_sys_leave(&inside);
	return rc;
}

int gm_device_write(const struct gm_span *span, uint64_t gpa, const uint8_t *buf, uint8_t byte,
	size_t len, size_t *ret_done)
{
	uint64_t off;
	struct gm_device *device = device_of(span, gpa, &off);
	struct gm_inside inside;
	int rc = 0;

	*ret_done = 0;
	if (!device->ops.write)
		return -EACCES;
	if (!gm_sys_enter(&inside, device))
		return -EBUSY;
	while (*ret_done < len && !rc) {
		uint32_t size = piece_size(&device->ops, off + *ret_done, len - *ret_done);
		uint64_t value = byte * UINT64_C(0x0101010101010101);

		if (!size) {
			rc = -EINVAL;
			break;
		}
		if (buf)
			value = from_bytes(buf + *ret_done, size);
		else if (size < 8)
			value &= (UINT64_C(1) << (8 * size)) - 1;
		rc = negative(device->ops.write(device->ops.ctx, off + *ret_done, size, value));
		if (!rc)
			*ret_done += size;
	}
	gm_sys_leave(&inside);
	return rc;
}
