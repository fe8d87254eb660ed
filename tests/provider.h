/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * provider.h - the same bytes behind one view, provided in every way that there is: mapped, cut into
 * regions, behind an IOMMU, by a backend's host addresses, by messages to another process, and in
 * a file that is not mapped.
 */
#ifndef GM_TESTS_PROVIDER_H
#define GM_TESTS_PROVIDER_H

#include "support.h"

#define PROVIDED KIB(64)
#define NR_PROVIDERS 8

struct provided {
	const char *name;
	struct gm_space *space; /* that of @reader */
	struct gm_space *below; /* or NULL */
	struct gm_reader *reader;
	uint64_t base; /* first address of the bytes */
	struct gm_iommu *iommu;
	uint8_t *bytes; /* of a backend, or NULL */
	int sock;
	int child;
	void (*set)(struct provided *p, const uint8_t *bytes);
	void (*get)(struct provided *p, uint8_t *bytes);
};

/* The @i-th way. Fails the test if it cannot be had. */
void provide(size_t i, struct provided *p);
void unprovide(struct provided *p);

#endif
