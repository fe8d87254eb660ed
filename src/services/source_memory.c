/* SPDX-License-Identifier: BSD-3-Clause */
/* source_memory.c - bytes of this process as a source. They may be a mapping that loses its file: reads are guarded. */
#include <guestmem/source.h>

#include <errno.h>
#include <inttypes.h>

#include "core/error.h"
#include "sys/guard.h"
#include "sys/sys.h"

struct memory {
	const uint8_t *data;
};

static int memory_read(void *ctx, uint64_t offset, void *buf, size_t len, struct gm_error *err)
{
	const struct memory *memory = ctx;
	struct gm_guard_fault fault;
	size_t left = gm_guard_copy_from(buf, memory->data + offset, len, &fault);
	int rc;

	if (!left)
		return 0;
	rc = gm_guard_errno(&fault);
	return gm_error_set(err, rc, 0, 0, "memory: byte 0x%" PRIx64 " cannot be read: %s",
		offset + (len - left), gm_error_word(rc));
}

int gm_source_memory(
	const void *data, uint64_t len, struct gm_source **ret_source, struct gm_error *err)
{
	struct gm_source_ops ops = {
		.size = sizeof(ops),
		.name = "memory",
		.len = len,
		.read = memory_read,
		.destroy = gm_sys_free,
	};
	struct memory *memory;
	int rc;

	if ((!data && len) || len > UINT64_MAX - (uintptr_t)data)
		return gm_error_set(
			err, -EINVAL, 0, 0, "memory: no 0x%" PRIx64 " bytes at %p", len, data);
	memory = gm_sys_alloc(sizeof(*memory));
	if (!memory)
		return gm_error_set(err, -ENOMEM, 0, 0, "memory: no memory for a source");
	memory->data = data;
	ops.ctx = memory;
	rc = gm_source_create(&ops, ret_source, err);
	if (rc)
		gm_sys_free(memory);
	return rc;
}
