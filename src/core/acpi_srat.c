/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acpi_srat.c - the System Resource Affinity Table.
 *
 * Source: ACPI specification 6.5, section 5.2.16: 5.2.16.1 (APIC), .2 (memory), .3 (x2APIC), .4
 * (GICC).
 */
#include <errno.h>

#include "core/acpi.h"
#include "core/error.h"
#include "core/memmap.h"

#define SRAT_REVISION 3
#define APIC_ID_MAX 254u /* 255 is the broadcast id */

enum srat_type {
	SRAT_APIC = 0,
	SRAT_MEMORY = 1,
	SRAT_X2APIC = 2,
	SRAT_GICC = 3,
};

#define MEMORY_ENABLED 1u
#define MEMORY_HOTPLUG 2u
#define MEMORY_NONVOLATILE 4u
#define CPU_ENABLED 1u

struct srat {
	const struct gm_memmap_entry *map;
	size_t nr;
	const struct gm_acpi_cpu *cpus;
	size_t nr_cpus;
};

/* ---- memory ---- */

static uint32_t memory_flags(const struct gm_memmap_entry *entry)
{
	uint32_t flags = gm_memmap_flags(entry);
	uint32_t ret = 0;

	if (!(flags & GM_MEMMAP_ABSENT) || (flags & GM_MEMMAP_HOTPLUG))
		ret |= MEMORY_ENABLED;
	if (flags & GM_MEMMAP_HOTPLUG)
		ret |= MEMORY_HOTPLUG;
	if (flags & GM_MEMMAP_NONVOLATILE)
		ret |= MEMORY_NONVOLATILE;
	return ret;
}

static bool has_affinity(const struct gm_memmap_entry *entry)
{
	return entry->node != GM_MEMMAP_NO_NODE &&
	       (entry->kind == GM_MEMMAP_RAM || entry->kind == GM_MEMMAP_PMEM ||
		       entry->kind == GM_MEMMAP_SOFT_RESERVED);
}

static uint64_t class_of(const struct gm_memmap_entry *entry)
{
	if (!has_affinity(entry))
		return 0;
	return UINT64_C(1) << 63 | (uint64_t)memory_flags(entry) << 32 | entry->node;
}

static void put_memory(struct gm_acpi_out *out, const struct gm_memmap_entry *run)
{
	gm_acpi_put(out, 1, SRAT_MEMORY);
	gm_acpi_put(out, 1, 40);
	gm_acpi_put(out, 4, run->node);
	gm_acpi_put(out, 2, 0);
	gm_acpi_put(out, 8, run->first);
	gm_acpi_put(out, 8, run->last - run->first + 1);
	gm_acpi_put(out, 4, 0);
	gm_acpi_put(out, 4, memory_flags(run));
	gm_acpi_put(out, 8, 0);
}

/* ---- processors ---- */

static void put_apic(struct gm_acpi_out *out, const struct gm_acpi_cpu *cpu, uint32_t flags)
{
	gm_acpi_put(out, 1, SRAT_APIC);
	gm_acpi_put(out, 1, 16);
	gm_acpi_put(out, 1, cpu->node & 0xff);
	gm_acpi_put(out, 1, cpu->id);
	gm_acpi_put(out, 4, flags);
	gm_acpi_put(out, 1, 0); /* local SAPIC EID */
	gm_acpi_put(out, 3, cpu->node >> 8);
	gm_acpi_put(out, 4, cpu->clock_domain);
}

static void put_x2apic(struct gm_acpi_out *out, const struct gm_acpi_cpu *cpu, uint32_t flags)
{
	gm_acpi_put(out, 1, SRAT_X2APIC);
	gm_acpi_put(out, 1, 24);
	gm_acpi_put(out, 2, 0);
	gm_acpi_put(out, 4, cpu->node);
	gm_acpi_put(out, 4, cpu->id);
	gm_acpi_put(out, 4, flags);
	gm_acpi_put(out, 4, cpu->clock_domain);
	gm_acpi_put(out, 4, 0);
}

static void put_gicc(struct gm_acpi_out *out, const struct gm_acpi_cpu *cpu, uint32_t flags)
{
	gm_acpi_put(out, 1, SRAT_GICC);
	gm_acpi_put(out, 1, 18);
	gm_acpi_put(out, 4, cpu->node);
	gm_acpi_put(out, 4, cpu->id);
	gm_acpi_put(out, 4, flags);
	gm_acpi_put(out, 4, cpu->clock_domain);
}

static void put_cpu(struct gm_acpi_out *out, const struct gm_acpi_cpu *cpu)
{
	uint32_t flags = cpu->flags & GM_ACPI_CPU_DISABLED ? 0 : CPU_ENABLED;

	if (cpu->kind == GM_ACPI_CPU_GICC)
		put_gicc(out, cpu, flags);
	else if (cpu->kind == GM_ACPI_CPU_X2APIC || cpu->id > APIC_ID_MAX)
		put_x2apic(out, cpu, flags);
	else
		put_apic(out, cpu, flags);
}

/* ---- the table ---- */

static void put_body(struct gm_acpi_out *out, const void *what)
{
	const struct srat *srat = what;
	struct gm_memmap_entry run;
	size_t at = 0;

	gm_acpi_put(out, 4, 1); /* reserved, 1 for old systems */
	gm_acpi_put(out, 8, 0);
	for (size_t i = 0; i < srat->nr_cpus; i++)
		put_cpu(out, &srat->cpus[i]);
	while (gm_memmap_run(srat->map, srat->nr, class_of, &at, &run))
		put_memory(out, &run);
}

static int check_cpus(const struct gm_acpi_cpu *cpus, size_t nr, struct gm_error *err)
{
	for (size_t i = 0; i < nr; i++) {
		if (cpus[i].kind > GM_ACPI_CPU_GICC || (cpus[i].flags & ~GM_ACPI_CPU_DISABLED) ||
			cpus[i].reserved)
			return gm_error_set(err, -EINVAL, 0, 0,
				"processor %zu (id %u): unknown kind %u or flags 0x%x, or "
				"reserved is not 0",
				i, cpus[i].id, cpus[i].kind, cpus[i].flags);
	}
	return 0;
}

static int check_runs(const struct gm_memmap_entry *map, size_t nr, struct gm_error *err)
{
	struct gm_memmap_entry run;
	size_t at = 0;
	int rc = 0;

	while (!rc && gm_memmap_run(map, nr, class_of, &at, &run))
		rc = gm_memmap_check_run(&run, "a SRAT", err);
	return rc;
}

int gm_acpi_srat(const struct gm_acpi_ids *ids, const struct gm_memmap_entry *map, size_t nr,
	const struct gm_acpi_cpu *cpus, size_t nr_cpus, void *buf, size_t cap, size_t *ret_needed,
	struct gm_error *err)
{
	const struct srat srat = {.map = map, .nr = nr, .cpus = cpus, .nr_cpus = nr_cpus};
	const struct gm_acpi_plan plan = {
		.signature = "SRAT", .revision = SRAT_REVISION, .body = put_body, .what = &srat};
	int rc = gm_memmap_check(map, nr, err);

	if (!rc)
		rc = check_runs(map, nr, err);
	if (!rc)
		rc = check_cpus(cpus, nr_cpus, err);
	return rc ? rc : gm_acpi_table(ids, &plan, buf, cap, ret_needed, err);
}
