/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acpi.h - bytes of an ACPI table, counted first and written then.
 *
 * A table is made twice by the same function: without a buffer its length is counted, with one it is
 * written. So a buffer that is too small is known before its first byte is touched.
 */
#ifndef GM_CORE_ACPI_H
#define GM_CORE_ACPI_H

#include <guestmem/acpi.h>
#include <stdbool.h>

struct gm_acpi_out {
	uint8_t *buf; /* NULL = only count */
	uint64_t len;
};

#define GM_ACPI_HEADER_LEN 36u

/* Appends the @bytes low bytes of @value. */
void gm_acpi_put(struct gm_acpi_out *out, unsigned int bytes, uint64_t value);

/* Writes the body of a table, behind its header. */
typedef void gm_acpi_body(struct gm_acpi_out *out, const void *what);

/* What gm_acpi_table() makes. */
struct gm_acpi_plan {
	const char *signature; /* 4 letters */
	uint8_t revision;
	gm_acpi_body *body;
	const void *what;
};

/* A whole table. 0, -ENOBUFS, -E2BIG. */
int gm_acpi_table(const struct gm_acpi_ids *ids, const struct gm_acpi_plan *plan, void *buf,
	size_t cap, size_t *ret_needed, struct gm_error *err);

#endif
