/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acpi.c - the frame of an ACPI table: header, length, checksum.
 *
 * Source: ACPI specification 6.5, section 5.2.6.
 */
#include "core/acpi.h"

#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/memmap.h"

#define HEADER_CHECKSUM 9

void gm_acpi_put(struct gm_acpi_out *out, unsigned int bytes, uint64_t value)
{
	if (out->buf)
		gm_put_le(out->buf + out->len, bytes, value);
	out->len += bytes;
}

static void put_text(struct gm_acpi_out *out, const char *text, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		gm_acpi_put(out, 1, (uint8_t)text[i]);
}

static void put_table(struct gm_acpi_out *out, const struct gm_acpi_ids *ids,
	const struct gm_acpi_plan *plan, uint64_t len)
{
	put_text(out, plan->signature, 4);
	gm_acpi_put(out, 4, len);
	gm_acpi_put(out, 1, plan->revision);
	gm_acpi_put(out, 1, 0); /* the checksum */
	put_text(out, ids->oem_id, sizeof(ids->oem_id));
	put_text(out, ids->oem_table_id, sizeof(ids->oem_table_id));
	gm_acpi_put(out, 4, ids->oem_revision);
	put_text(out, ids->creator_id, sizeof(ids->creator_id));
	gm_acpi_put(out, 4, ids->creator_revision);
	plan->body(out, plan->what);
}

/* The byte that makes the sum of all bytes 0 modulo 256. */
static uint8_t checksum(const uint8_t *buf, uint64_t len)
{
	uint8_t sum = 0;

	for (uint64_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + buf[i]);
	return (uint8_t)(0x100 - sum);
}

int gm_acpi_table(const struct gm_acpi_ids *ids, const struct gm_acpi_plan *plan, void *buf,
	size_t cap, size_t *ret_needed, struct gm_error *err)
{
	struct gm_acpi_out count = {0};
	struct gm_acpi_out write = {.buf = buf};

	put_table(&count, ids, plan, 0);
	if (count.len > UINT32_MAX)
		return gm_error_set(err, -E2BIG, 0, 0,
			"table %s would have %llu bytes, more than its length can say",
			plan->signature, (unsigned long long)count.len);
	*ret_needed = (size_t)count.len;
	if (count.len > cap)
		return gm_error_set(err, -ENOBUFS, 0, count.len,
			"table %s has %llu bytes, there is room for %zu", plan->signature,
			(unsigned long long)count.len, cap);
	put_table(&write, ids, plan, count.len);
	write.buf[HEADER_CHECKSUM] = checksum(write.buf, write.len);
	return 0;
}
