/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acpi_hmat.c - the Heterogeneous Memory Attribute Table.
 *
 * Source: ACPI specification 6.5, section 5.2.28: 5.2.28.3 (memory proximity domain attributes),
 * .4 (system locality latency and bandwidth).
 */
#include <errno.h>

#include "core/acpi.h"
#include "core/error.h"

#define HMAT_REVISION 2
#define HMAT_DOMAIN 0
#define HMAT_MATRIX 1
#define DOMAIN_LEN 40u
#define MATRIX_LEN 32u

#define INITIATOR_VALID 1u
#define LEVEL_MAX 3u

/* Entries of a matrix: 0 is "not known", 0xffff "not reachable". */
#define ENTRY_MAX 0xfffeu
#define ENTRY_UNREACHABLE 0xffffu

static void put_domain(struct gm_acpi_out *out, const struct gm_acpi_domain *domain)
{
	bool valid = domain->initiator != GM_ACPI_NO_INITIATOR;

	gm_acpi_put(out, 2, HMAT_DOMAIN);
	gm_acpi_put(out, 2, 0);
	gm_acpi_put(out, 4, DOMAIN_LEN);
	gm_acpi_put(out, 2, valid ? INITIATOR_VALID : 0);
	gm_acpi_put(out, 2, 0);
	gm_acpi_put(out, 4, valid ? domain->initiator : 0);
	gm_acpi_put(out, 4, domain->memory);
	gm_acpi_put(out, 4, 0);
	gm_acpi_put(out, 8, 0);
	gm_acpi_put(out, 8, 0);
}

/* ---- matrices ---- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static size_t nr_values(const struct gm_acpi_matrix *matrix)
{
	return (size_t)matrix->nr_initiators * matrix->nr_targets;
}

/* The unit in which all values can be said exactly, or else the smallest that is large enough. */
static uint64_t unit_of(const struct gm_acpi_matrix *matrix)
{
	uint64_t greatest = 0;
	uint64_t unit = 0;

	for (size_t i = 0; i < nr_values(matrix); i++) {
		uint64_t value = matrix->values[i];

		if (value == GM_ACPI_VALUE_UNREACHABLE)
			continue;
		unit = gcd(unit, value);
		if (value > greatest)
			greatest = value;
	}
	if (unit == 0)
		return 1;
	return greatest / unit <= ENTRY_MAX ? unit : (greatest - 1) / ENTRY_MAX + 1;
}

static uint64_t entry_of(uint64_t value, uint64_t unit)
{
	uint64_t entry;

	if (value == GM_ACPI_VALUE_UNREACHABLE)
		return ENTRY_UNREACHABLE;
	if (value == GM_ACPI_VALUE_UNKNOWN)
		return 0;
	entry = value / unit + (value % unit >= unit - value % unit);
	return entry ? entry : 1;
}

static uint64_t matrix_len(const struct gm_acpi_matrix *matrix)
{
	return MATRIX_LEN + 4u * ((uint64_t)matrix->nr_initiators + matrix->nr_targets) +
	       2u * (uint64_t)nr_values(matrix);
}

static void put_matrix(struct gm_acpi_out *out, const struct gm_acpi_matrix *matrix)
{
	uint64_t unit;

	/* Counting must not take the time of millions of values. */
	if (!out->buf) {
		out->len += matrix_len(matrix);
		return;
	}
	unit = unit_of(matrix);
	gm_acpi_put(out, 2, HMAT_MATRIX);
	gm_acpi_put(out, 2, 0);
	gm_acpi_put(out, 4, matrix_len(matrix));
	gm_acpi_put(out, 1, matrix->level);
	gm_acpi_put(out, 1, matrix->type);
	gm_acpi_put(out, 2, 0); /* smallest transfer, reserved */
	gm_acpi_put(out, 4, matrix->nr_initiators);
	gm_acpi_put(out, 4, matrix->nr_targets);
	gm_acpi_put(out, 4, 0);
	gm_acpi_put(out, 8, unit);
	for (uint32_t i = 0; i < matrix->nr_initiators; i++)
		gm_acpi_put(out, 4, matrix->initiators[i]);
	for (uint32_t i = 0; i < matrix->nr_targets; i++)
		gm_acpi_put(out, 4, matrix->targets[i]);
	for (size_t i = 0; i < nr_values(matrix); i++)
		gm_acpi_put(out, 2, entry_of(matrix->values[i], unit));
}

/* ---- the table ---- */

static void put_body(struct gm_acpi_out *out, const void *what)
{
	const struct gm_acpi_hmat *hmat = what;

	gm_acpi_put(out, 4, 0);
	for (size_t i = 0; i < hmat->nr_domains; i++)
		put_domain(out, &hmat->domains[i]);
	for (size_t i = 0; i < hmat->nr_matrices; i++)
		put_matrix(out, &hmat->matrices[i]);
}

static bool nr_is_wrong(uint32_t nr)
{
	return nr == 0 || nr > GM_ACPI_DOMAINS_MAX;
}

static int check_matrices(const struct gm_acpi_hmat *hmat, struct gm_error *err)
{
	for (size_t i = 0; i < hmat->nr_matrices; i++) {
		const struct gm_acpi_matrix *matrix = &hmat->matrices[i];

		if (matrix->type > GM_ACPI_WRITE_BANDWIDTH || matrix->level > LEVEL_MAX)
			return gm_error_set(err, -EINVAL, 0, 0,
				"matrix %zu: unknown type %u or level %u", i, matrix->type,
				matrix->level);
		if (nr_is_wrong(matrix->nr_initiators) || nr_is_wrong(matrix->nr_targets))
			return gm_error_set(err, -EINVAL, 0, 0,
				"matrix %zu: %u initiators and %u targets, not 1 to %u of each", i,
				matrix->nr_initiators, matrix->nr_targets, GM_ACPI_DOMAINS_MAX);
	}
	return 0;
}

int gm_acpi_hmat(const struct gm_acpi_ids *ids, const struct gm_acpi_hmat *user, void *buf,
	size_t cap, size_t *ret_needed, struct gm_error *err)
{
	struct gm_acpi_hmat hmat;
	const struct gm_acpi_plan plan = {
		.signature = "HMAT", .revision = HMAT_REVISION, .body = put_body, .what = &hmat};
	int rc = gm_opts_copy(&hmat, sizeof(hmat), user, sizeof(hmat));

	if (rc)
		return gm_opts_error(err, rc, "HMAT");
	rc = check_matrices(&hmat, err);
	return rc ? rc : gm_acpi_table(ids, &plan, buf, cap, ret_needed, err);
}
