/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * backend.h - far memory: bytes that are reached by calls, and the checks on what those answer.
 *
 * A backend belongs to its block. Spans of far memory (GM_SPAN_FAR) are owned by the block's home
 * mapping, which has no address: @delta + GPA is the byte of the block.
 */
#ifndef GM_MEMORY_BACKEND_H
#define GM_MEMORY_BACKEND_H

#include <guestmem/backend.h>
#include <stdbool.h>

#include "core/table.h"

struct gm_block;

struct gm_backend {
	struct gm_backend_ops ops;
};

/* 0, -EINVAL with what is missing, -E2BIG, -ENOMEM. */
int gm_backend_create(
	const struct gm_backend_ops *ops, struct gm_backend **ret, struct gm_error *err);
void gm_backend_destroy(struct gm_backend *backend);

/* The backend of a block that has a file and is not mapped (unmapped.c). */
int gm_unmapped_create(struct gm_block *block, struct gm_backend **ret, struct gm_error *err);

/* The backend of a far span, and the byte of its block at @gpa. */
struct gm_backend *gm_span_backend(const struct gm_span *span, uint64_t gpa, uint64_t *ret_off);

/* @len bytes of one span. Return 0 or an error; *ret_done bytes were done. */
int gm_far_read(
	const struct gm_span *span, uint64_t gpa, uint8_t *buf, size_t len, size_t *ret_done);
/* Without @buf all bytes are @byte. */
int gm_far_write(const struct gm_span *span, uint64_t gpa, const uint8_t *buf, uint8_t byte,
	size_t len, size_t *ret_done);

/* A place in far memory for one atomic access, with a host address or without. */
struct gm_far_place {
	struct gm_backend *backend;
	uint64_t off;
	void *hva; /* NULL: by message */
	bool mapped;
	struct gm_backend_piece piece;
};

/* @len bytes at @gpa, all of them at once. 0 or an error. */
int gm_far_open(const struct gm_span *span, uint64_t gpa, size_t len, uint32_t perms,
	struct gm_far_place *ret);
void gm_far_close(struct gm_far_place *place);
/* By message. */
int gm_far_load(const struct gm_far_place *place, uint64_t *raw, size_t size);
int gm_far_store(const struct gm_far_place *place, uint64_t raw, size_t size);
int gm_far_atomic(const struct gm_far_place *place, enum gm_backend_atomic op, size_t size,
	uint64_t value, uint64_t *seen);

/* A slice of up to @len bytes, which stays until gm_far_unpin(). */
int gm_far_pin(const struct gm_span *span, uint64_t gpa, uint64_t len, uint32_t perms,
	struct gm_backend_piece *ret);
void gm_far_unpin(struct gm_block *block, const struct gm_backend_piece *piece);

#endif
