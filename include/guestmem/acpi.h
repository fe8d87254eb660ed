/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acpi.h - the ACPI tables that tell a guest which memory belongs to which NUMA node.
 *
 * Complete tables with header and checksum, as bytes; the caller puts them where the guest's
 * firmware or the monitor's root table expects them. SRAT and HMAT of the ACPI specification 6.5.
 */
#ifndef GUESTMEM_ACPI_H
#define GUESTMEM_ACPI_H

#include <guestmem/memmap.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct gm_acpi_ids - who made the tables, for their headers
 * @oem_id:           filled up with zeros or blanks, not terminated
 * @oem_table_id:     the same
 * @creator_id:       the same
 * @oem_revision:     any number
 * @creator_revision: any number
 */
struct gm_acpi_ids {
	char oem_id[6];
	char oem_table_id[8];
	char creator_id[4];
	uint32_t oem_revision;
	uint32_t creator_revision;
};

/* What kind of number names a processor. */
enum gm_acpi_cpu_kind {
	GM_ACPI_CPU_APIC = 0, /* APIC id of x86; 255 and above are written as x2APIC */
	GM_ACPI_CPU_X2APIC = 1,
	GM_ACPI_CPU_GICC = 2 /* ACPI processor UID of arm64 */
};

#define GM_ACPI_CPU_DISABLED 1u /* the guest ignores the entry */

/**
 * struct gm_acpi_cpu - to which node a processor belongs
 * @id:           APIC id or processor UID
 * @node:         proximity domain
 * @kind:         enum gm_acpi_cpu_kind
 * @clock_domain: processors of one clock, 0 for all if in doubt
 * @flags:        GM_ACPI_CPU_DISABLED
 * @reserved:     zero
 */
struct gm_acpi_cpu {
	uint32_t id;
	uint32_t node;
	uint32_t kind;
	uint32_t clock_domain;
	uint32_t flags;
	uint32_t reserved;
};

/**
 * gm_acpi_srat() - the System Resource Affinity Table of a map
 * @ids:        borrowed
 * @map:        borrowed
 * @nr:         number of entries
 * @cpus:       borrowed; processors in the order in which they are written
 * @nr_cpus:    number of processors
 * @buf:        room for @cap bytes; NULL if @cap is 0
 * @cap:        bytes
 * @ret_needed: bytes of the table, also with -ENOBUFS
 * @err:        optional
 *
 * RAM, soft-reserved and persistent memory that belongs to a node is written; neighbours of one node
 * and the same flags are one. Memory that is absent is enabled if it is GM_MEMMAP_HOTPLUG: so the
 * guest knows what may come.
 *
 * Returns 0; -ENOBUFS; -EINVAL (a processor: unknown kind or flags, @reserved not 0); -E2BIG (the
 * table would pass 2^32 bytes); -ERANGE (2^64 bytes of memory); or as gm_memmap_check(). On failure
 * @buf is unchanged.
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_acpi_srat(const struct gm_acpi_ids *ids, const struct gm_memmap_entry *map, size_t nr,
	const struct gm_acpi_cpu *cpus, size_t nr_cpus, void *buf, size_t cap, size_t *ret_needed,
	struct gm_error *err);

#define GM_ACPI_NO_INITIATOR UINT32_MAX

/**
 * struct gm_acpi_domain - a proximity domain with memory
 * @memory:    the domain
 * @initiator: domain of the processors that are attached to it best, or GM_ACPI_NO_INITIATOR
 */
struct gm_acpi_domain {
	uint32_t memory;
	uint32_t initiator;
};

/* What a matrix says, gm_acpi_matrix.type. Latencies are in picoseconds, bandwidths in MB/s. */
enum gm_acpi_matrix_type {
	GM_ACPI_LATENCY = 0,
	GM_ACPI_READ_LATENCY = 1,
	GM_ACPI_WRITE_LATENCY = 2,
	GM_ACPI_BANDWIDTH = 3,
	GM_ACPI_READ_BANDWIDTH = 4,
	GM_ACPI_WRITE_BANDWIDTH = 5
};

#define GM_ACPI_VALUE_UNKNOWN UINT64_C(0)
#define GM_ACPI_VALUE_UNREACHABLE UINT64_MAX
#define GM_ACPI_DOMAINS_MAX 4096u /* initiators, and targets, of one matrix */

/**
 * struct gm_acpi_matrix - latencies or bandwidths between domains
 * @type:          enum gm_acpi_matrix_type
 * @level:         0 = memory, 1 to 3 = the memory-side cache of that level
 * @initiators:    borrowed; domains that access
 * @targets:       borrowed; domains with memory
 * @nr_initiators: 1 to GM_ACPI_DOMAINS_MAX
 * @nr_targets:    1 to GM_ACPI_DOMAINS_MAX
 * @values:        borrowed; @nr_initiators rows of @nr_targets values, or GM_ACPI_VALUE_*
 *
 * The table has 16 bits for a value. What they cannot say exactly is rounded to the nearest multiple
 * of the smallest unit with which the greatest value still fits, and never to 0.
 */
struct gm_acpi_matrix {
	uint32_t type;
	uint32_t level;
	const uint32_t *initiators;
	const uint32_t *targets;
	uint32_t nr_initiators;
	uint32_t nr_targets;
	const uint64_t *values;
};

/**
 * struct gm_acpi_hmat - what a Heterogeneous Memory Attribute Table is to say
 * @size:        sizeof(struct gm_acpi_hmat)
 * @domains:     borrowed
 * @nr_domains:  number of domains
 * @matrices:    borrowed
 * @nr_matrices: number of matrices
 */
struct gm_acpi_hmat {
	size_t size;
	const struct gm_acpi_domain *domains;
	size_t nr_domains;
	const struct gm_acpi_matrix *matrices;
	size_t nr_matrices;
};

/**
 * gm_acpi_hmat() - the Heterogeneous Memory Attribute Table
 * @ids:        borrowed
 * @hmat:       borrowed; what it says
 * @buf:        room for @cap bytes; NULL if @cap is 0
 * @cap:        bytes
 * @ret_needed: bytes of the table, also with -ENOBUFS
 * @err:        optional
 *
 * Returns 0; -ENOBUFS; -EINVAL (a matrix: unknown type or level, no or too many domains); -E2BIG
 * (the table would pass 2^32 bytes; options of a newer version). On failure @buf is unchanged.
 * Threads: any.
 * Since: 0.1.
 */
GM_API int gm_acpi_hmat(const struct gm_acpi_ids *ids, const struct gm_acpi_hmat *hmat, void *buf,
	size_t cap, size_t *ret_needed, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
