/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * e820.c - the memory map of x86, as Linux' boot protocol hands it over.
 *
 * Sources: ACPI specification 6.5, section 15.1 and table 15.4; Linux,
 * Documentation/arch/x86/zero-page.rst and arch/x86/include/uapi/asm/bootparam.h.
 */
#include <errno.h>
#include <string.h>

#include "core/error.h"
#include "core/memmap.h"

#define RECORD_ADDR 0
#define RECORD_LEN 8
#define RECORD_TYPE 16

#define PAGE_NR 0x1e8
#define PAGE_TABLE 0x2d0

_Static_assert(PAGE_TABLE + GM_E820_ZERO_PAGE_MAX * GM_E820_WIRE_SIZE == 0xcd0, "as documented");

uint64_t gm_e820_type(const struct gm_memmap_entry *entry)
{
	static const uint32_t types[] = {
		[GM_MEMMAP_RAM] = GM_E820_RAM,
		[GM_MEMMAP_RESERVED] = GM_E820_RESERVED,
		[GM_MEMMAP_ACPI_RECLAIM] = GM_E820_ACPI,
		[GM_MEMMAP_ACPI_NVS] = GM_E820_NVS,
		[GM_MEMMAP_UNUSABLE] = GM_E820_UNUSABLE,
		[GM_MEMMAP_PMEM] = GM_E820_PMEM,
		[GM_MEMMAP_SOFT_RESERVED] = GM_E820_SOFT_RESERVED,
	};

	return entry->flags & GM_MEMMAP_ABSENT ? 0 : types[entry->kind];
}

/* Counts the records and looks whether they can be written down. */
static int count_records(
	const struct gm_memmap_entry *map, size_t nr, size_t *ret_nr, struct gm_error *err)
{
	struct gm_memmap_entry run;
	size_t at = 0;
	int rc = 0;

	*ret_nr = 0;
	while (!rc && gm_memmap_run(map, nr, gm_e820_type, &at, &run)) {
		rc = gm_memmap_check_run(&run, "an e820 table", err);
		*ret_nr += 1;
	}
	return rc;
}

int gm_memmap_e820(const struct gm_memmap_entry *map, size_t nr, struct gm_e820_entry *ret,
	size_t cap, size_t *ret_needed, struct gm_error *err)
{
	struct gm_memmap_entry run;
	size_t needed = 0;
	size_t at = 0;
	int rc = gm_memmap_check(map, nr, err);

	if (!rc)
		rc = count_records(map, nr, &needed, err);
	if (rc)
		return rc;
	*ret_needed = needed;
	if (needed > cap)
		return gm_error_set(err, -ENOBUFS, 0, 0,
			"the e820 table has %zu records, there is room for %zu", needed, cap);
	for (size_t i = 0; gm_memmap_run(map, nr, gm_e820_type, &at, &run); i++)
		ret[i] = (struct gm_e820_entry){
			.addr = run.first,
			.len = run.last - run.first + 1,
			.type = (uint32_t)gm_e820_type(&run),
		};
	return 0;
}

static void put_record(uint8_t *to, const struct gm_e820_entry *entry)
{
	gm_put_le(to + RECORD_ADDR, 8, entry->addr);
	gm_put_le(to + RECORD_LEN, 8, entry->len);
	gm_put_le(to + RECORD_TYPE, 4, entry->type);
}

int gm_e820_encode(
	const struct gm_e820_entry *table, size_t nr, void *buf, size_t len, struct gm_error *err)
{
	uint8_t *to = buf;

	if (nr > len / GM_E820_WIRE_SIZE)
		return gm_error_set(err, -ENOBUFS, 0, (uint64_t)nr * GM_E820_WIRE_SIZE,
			"%zu records of %u bytes do not fit into %zu bytes", nr, GM_E820_WIRE_SIZE,
			len);
	for (size_t i = 0; i < nr; i++)
		put_record(to + i * GM_E820_WIRE_SIZE, &table[i]);
	return 0;
}

int gm_e820_zero_page(
	const struct gm_e820_entry *table, size_t nr, void *page, size_t len, struct gm_error *err)
{
	uint8_t *to = page;

	if (nr > GM_E820_ZERO_PAGE_MAX)
		return gm_error_set(err, -E2BIG, 0, 0,
			"the zero page has room for %u e820 records, not for %zu",
			GM_E820_ZERO_PAGE_MAX, nr);
	if (len < GM_E820_ZERO_PAGE_LEN)
		return gm_error_set(err, -ENOBUFS, 0, GM_E820_ZERO_PAGE_LEN,
			"a zero page has %u bytes, not %zu", GM_E820_ZERO_PAGE_LEN, len);
	to[PAGE_NR] = (uint8_t)nr;
	memset(to + PAGE_TABLE, 0, (size_t)GM_E820_ZERO_PAGE_MAX * GM_E820_WIRE_SIZE);
	for (size_t i = 0; i < nr; i++)
		put_record(to + PAGE_TABLE + i * GM_E820_WIRE_SIZE, &table[i]);
	return 0;
}
