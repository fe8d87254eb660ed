/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_acpi.c - SRAT and HMAT.
 *
 * Structures are read back by offsets written down here from the specification. Then Intel's
 * compiler, where it is installed, takes the tables apart and puts them together again: the bytes
 * must be the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

#define TOP UINT64_MAX
#define NONE GM_MEMMAP_NO_NODE
#define NR(array) (sizeof(array) / sizeof((array)[0]))
#define HMAT(...) (&(struct gm_acpi_hmat){.size = sizeof(struct gm_acpi_hmat), __VA_ARGS__})

static struct gm_error err;

static const struct gm_acpi_ids ids = {
	.oem_id = "GUESTM",
	.oem_table_id = "TESTTABL",
	.creator_id = "TEST",
	.oem_revision = 0x01020304,
	.creator_revision = 5,
};

static uint64_t get(const uint8_t *from, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | from[bytes];
	return value;
}

static void must_have_header(const uint8_t *t, const char *signature, size_t len, uint8_t revision)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + t[i]);
	assert_int_equal(sum, 0);
	assert_memory_equal(t, signature, 4);
	assert_int_equal(get(t + 4, 4), len);
	assert_int_equal(t[8], revision);
	assert_memory_equal(t + 10, "GUESTMTESTTABL", 14);
	assert_int_equal(get(t + 24, 4), 0x01020304);
	assert_memory_equal(t + 28, "TEST", 4);
	assert_int_equal(get(t + 32, 4), 5);
}

/* ---- SRAT ---- */

static const struct gm_memmap_entry map[] = {
	{0, 0x9ffff, GM_MEMMAP_RAM, 0, 0, 0},
	{0xa0000, 0xfffff, GM_MEMMAP_RESERVED, 0, 0, 0},
	{0x100000, GIB(1) - 1, GM_MEMMAP_RAM, 0, 0, 0},
	{GIB(1), GIB(2) - 1, GM_MEMMAP_SOFT_RESERVED, 0, 0, 0},
	{GIB(4), GIB(5) - 1, GM_MEMMAP_RAM, 0x12345678, 0, 0},
	{GIB(5), GIB(6) - 1, GM_MEMMAP_RAM, 0x12345678, GM_MEMMAP_HOTPLUG | GM_MEMMAP_ABSENT, 0},
	{GIB(6), GIB(7) - 1, GM_MEMMAP_RAM, 0x12345678, GM_MEMMAP_HOTPLUG, 0},
	{GIB(7), GIB(8) - 1, GM_MEMMAP_RAM, NONE, 0, 0},
	{GIB(8), GIB(9) - 1, GM_MEMMAP_RAM, 1, GM_MEMMAP_ABSENT, 0},
	{GIB(9), GIB(10) - 1, GM_MEMMAP_PMEM, 2, GM_MEMMAP_HOTPLUG, 0},
	{TOP - 0xfff, TOP, GM_MEMMAP_RAM, 3, GM_MEMMAP_NONVOLATILE, 0},
};

/* As they are to be read back: flags are 1 enabled, 2 hot-pluggable, 4 non-volatile. */
static const struct {
	uint32_t node;
	uint64_t first;
	uint64_t len;
	uint32_t flags;
} affinities[] = {
	{0, 0, 0xa0000, 1},
	{0, 0x100000, GIB(2) - 0x100000, 1},
	{0x12345678, GIB(4), GIB(1), 1},
	{0x12345678, GIB(5), GIB(2), 3},
	{1, GIB(8), GIB(1), 0},
	{2, GIB(9), GIB(1), 7},
	{3, TOP - 0xfff, 0x1000, 5},
};

static const struct gm_acpi_cpu cpus[] = {
	{.id = 0, .node = 0},
	{.id = 254, .node = 0x00345678, .clock_domain = 9},
	{.id = 255, .node = 0x12345678, .clock_domain = 7},
	{.id = 1, .node = 2, .kind = GM_ACPI_CPU_X2APIC, .flags = GM_ACPI_CPU_DISABLED},
	{.id = 0x1234, .node = 3, .kind = GM_ACPI_CPU_GICC, .clock_domain = 1},
};

#define SRAT_LEN (48u + 16 + 16 + 24 + 24 + 18 + 7 * 40)

static void make_srat(uint8_t *buf, size_t cap)
{
	size_t len = 0;

	assert_ok(gm_acpi_srat(&ids, map, NR(map), cpus, NR(cpus), buf, cap, &len, &err));
	assert_int_equal(len, SRAT_LEN);
}

static void must_be_memory(const uint8_t *s, size_t i)
{
	assert_int_equal(s[0], 1);
	assert_int_equal(s[1], 40);
	assert_int_equal(get(s + 2, 4), affinities[i].node);
	assert_int_equal(get(s + 6, 2), 0);
	assert_int_equal(get(s + 8, 4) | get(s + 12, 4) << 32, affinities[i].first);
	assert_int_equal(get(s + 16, 4) | get(s + 20, 4) << 32, affinities[i].len);
	assert_int_equal(get(s + 24, 4), 0);
	assert_int_equal(get(s + 28, 4), affinities[i].flags);
	assert_int_equal(get(s + 32, 8), 0);
}

static void memory_belongs_to_its_node(void **state)
{
	uint8_t t[SRAT_LEN + 1];
	const uint8_t *s = t + SRAT_LEN - NR(affinities) * 40;

	(void)state;
	memset(t, 0x5a, sizeof(t));
	make_srat(t, SRAT_LEN);
	assert_int_equal(t[SRAT_LEN], 0x5a);
	must_have_header(t, "SRAT", SRAT_LEN, 3);
	assert_int_equal(get(t + 36, 4), 1);
	assert_int_equal(get(t + 40, 8), 0);
	for (size_t i = 0; i < NR(affinities); i++, s += 40)
		must_be_memory(s, i);
}

static void processors_belong_to_their_nodes(void **state)
{
	static const uint8_t want[] = {/* APIC 0 and 254; the node's bytes are apart */
		0, 16, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,            /* */
		0, 16, 0x78, 254, 1, 0, 0, 0, 0, 0x56, 0x34, 0, 9, 0, 0, 0, /* */
		/* x2APIC 255, and 1, which is disabled */
		2, 24, 0, 0, 0x78, 0x56, 0x34, 0x12, 255, 0, 0, 0, /* */
		1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,                /* */
		2, 24, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0,               /* */
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                /* */
		/* GICC */
		3, 18, 3, 0, 0, 0, 0x34, 0x12, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
	uint8_t t[SRAT_LEN];

	(void)state;
	make_srat(t, sizeof(t));
	assert_memory_equal(t + 48, want, sizeof(want));
}

static void a_wrong_srat_is_refused(void **state)
{
	const struct gm_memmap_entry all = {0, TOP, GM_MEMMAP_RAM, 0, 0, 0};
	const struct gm_memmap_entry bad = {2, 1, GM_MEMMAP_RAM, 0, 0, 0};
	struct gm_acpi_cpu cpu = {.kind = 3};
	uint8_t t[SRAT_LEN] = {7};
	size_t len = 7;

	(void)state;
	assert_fails(
		gm_acpi_srat(&ids, &all, 1, NULL, 0, t, sizeof(t), &len, &err), ERANGE, "SRAT");
	assert_fails(
		gm_acpi_srat(&ids, &bad, 1, NULL, 0, t, sizeof(t), &len, &err), EINVAL, "entry 0");
	assert_fails(
		gm_acpi_srat(&ids, map, 1, &cpu, 1, t, sizeof(t), &len, &err), EINVAL, "kind 3");
	cpu = (struct gm_acpi_cpu){.flags = 2};
	assert_fails(
		gm_acpi_srat(&ids, map, 1, &cpu, 1, t, sizeof(t), &len, &err), EINVAL, "flags 0x2");
	cpu = (struct gm_acpi_cpu){.reserved = 1};
	assert_fails(
		gm_acpi_srat(&ids, map, 1, &cpu, 1, t, sizeof(t), &len, &err), EINVAL, "reserved");
	assert_int_equal(len, 7);
	assert_fails(gm_acpi_srat(&ids, map, NR(map), cpus, NR(cpus), t, SRAT_LEN - 1, &len, &err),
		ENOBUFS, "bytes");
	assert_int_equal(len, SRAT_LEN);
	assert_int_equal(err.len, SRAT_LEN);
	assert_int_equal(t[0], 7);
	assert_fails(
		gm_acpi_srat(&ids, NULL, 0, NULL, 0, NULL, 0, &len, &err), ENOBUFS, "48 bytes");
	assert_int_equal(len, 48);
}

/* ---- HMAT ---- */

static const struct gm_acpi_domain domains[] = {
	{.memory = 0, .initiator = 0}, {.memory = 0x12345678, .initiator = GM_ACPI_NO_INITIATOR}};
static const uint32_t initiators[] = {0, 1};
static const uint32_t targets[] = {0, 1, 2};
static const uint64_t latencies[] = {
	100000, 250000, GM_ACPI_VALUE_UNREACHABLE, 250000, 100000, GM_ACPI_VALUE_UNKNOWN};
static const uint64_t bandwidths[] = {1, 2, 3, 4, 5, 0xfffe};

static const struct gm_acpi_matrix matrices[] = {
	{GM_ACPI_READ_LATENCY, 0, initiators, targets, 2, 3, latencies},
	{GM_ACPI_BANDWIDTH, 3, initiators, targets, 2, 3, bandwidths},
};

#define MATRIX_LEN (32u + 2 * 4 + 3 * 4 + 2 * 3 * 2)
#define HMAT_LEN (40u + 2 * 40 + 2 * MATRIX_LEN)

static void make_hmat(uint8_t *buf, size_t cap)
{
	size_t len = 0;

	assert_ok(gm_acpi_hmat(&ids,
		HMAT(.domains = domains, .nr_domains = 2, .matrices = matrices, .nr_matrices = 2),
		buf, cap, &len, &err));
	assert_int_equal(len, HMAT_LEN);
}

static void domains_name_their_initiators(void **state)
{
	uint8_t t[HMAT_LEN + 1];
	const uint8_t *s = t + 40;

	(void)state;
	memset(t, 0x5a, sizeof(t));
	make_hmat(t, HMAT_LEN);
	assert_int_equal(t[HMAT_LEN], 0x5a);
	must_have_header(t, "HMAT", HMAT_LEN, 2);
	assert_int_equal(get(t + 36, 4), 0);
	for (size_t i = 0; i < 2; i++, s += 40) {
		assert_int_equal(get(s, 4), 0);
		assert_int_equal(get(s + 4, 4), 40);
		assert_int_equal(get(s + 8, 4), i == 0);
		assert_int_equal(get(s + 12, 4), 0);
		assert_int_equal(get(s + 16, 4), domains[i].memory);
		assert_int_equal(get(s + 20, 4), 0);
		assert_int_equal(get(s + 24, 8) | get(s + 32, 8), 0);
	}
}

static void must_be_matrix(const uint8_t *s, uint8_t level, uint8_t type, uint64_t unit)
{
	assert_int_equal(get(s, 4), 1);
	assert_int_equal(get(s + 4, 4), MATRIX_LEN);
	assert_int_equal(s[8], level);
	assert_int_equal(s[9], type);
	assert_int_equal(get(s + 10, 2), 0);
	assert_int_equal(get(s + 12, 4), 2);
	assert_int_equal(get(s + 16, 4), 3);
	assert_int_equal(get(s + 20, 4), 0);
	assert_int_equal(get(s + 24, 8), unit);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(get(s + 32 + 4 * i, 4), i);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(get(s + 40 + 4 * i, 4), i);
}

static void matrices_say_values_in_units(void **state)
{
	static const uint16_t latency[] = {2, 5, 0xffff, 5, 2, 0};
	uint8_t t[HMAT_LEN];
	const uint8_t *s = t + 40 + 80;

	(void)state;
	make_hmat(t, sizeof(t));
	must_be_matrix(s, 0, 1, 50000);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(get(s + 52 + 2 * i, 2), latency[i]);
	s += MATRIX_LEN;
	must_be_matrix(s, 3, 3, 1);
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(get(s + 52 + 2 * i, 2), bandwidths[i]);
}

/* Two values and how they are written. */
static const struct {
	uint64_t values[2];
	uint64_t unit;
	uint16_t entries[2];
} units[] = {
	{{0, 0}, 1, {0, 0}},
	{{TOP, 0}, 1, {0xffff, 0}},
	{{TOP, TOP}, 1, {0xffff, 0xffff}},
	{{7, 7}, 7, {1, 1}},
	{{0xfffe, 1}, 1, {0xfffe, 1}},
	/* One more than fits: rounded to the nearest, but a small one does not become "not known". */
	{{0xffff, 1}, 2, {0x8000, 1}},
	{{2 * UINT64_C(0xfffe), 1}, 2, {0xfffe, 1}},
	{{3 * UINT64_C(0xfffe) - 1, 4}, 3, {0xfffe, 1}},
	{{3 * UINT64_C(0xfffe) - 1, 5}, 3, {0xfffe, 2}},
	{{UINT64_C(1) << 40, 1}, 16777729, {65534, 1}},
	{{TOP - 1, 1}, 281483566907401, {0xfffe, 1}},
};

static void what_does_not_fit_is_rounded(void **state)
{
	uint8_t t[40 + 32 + 4 + 8 + 4];

	(void)state;
	for (size_t i = 0; i < NR(units); i++) {
		const struct gm_acpi_matrix matrix = {
			0, 0, initiators, targets, 1, 2, units[i].values};
		size_t len;

		assert_ok(gm_acpi_hmat(&ids, HMAT(.matrices = &matrix, .nr_matrices = 1), t,
			sizeof(t), &len, &err));
		assert_int_equal(len, sizeof(t));
		if (get(t + 64, 8) != units[i].unit || get(t + 84, 2) != units[i].entries[0] ||
			get(t + 86, 2) != units[i].entries[1])
			fail_msg("values %zu: unit %lu, entries %lu, %lu", i, get(t + 64, 8),
				get(t + 84, 2), get(t + 86, 2));
	}
}

static void a_wrong_hmat_is_refused(void **state)
{
	static const struct gm_acpi_matrix wrong[] = {
		{6, 0, initiators, targets, 1, 1, latencies},
		{0, 4, initiators, targets, 1, 1, latencies},
		{0, 0, initiators, targets, 0, 1, latencies},
		{0, 0, initiators, targets, 1, 0, latencies},
		{0, 0, initiators, targets, GM_ACPI_DOMAINS_MAX + 1, 1, latencies},
		{0, 0, initiators, targets, 1, UINT32_MAX, latencies},
	};
	struct gm_acpi_hmat old = {.size = 8};
	uint8_t t[HMAT_LEN] = {7};
	size_t len = 7;

	(void)state;
	for (size_t i = 0; i < NR(wrong); i++)
		assert_fails(gm_acpi_hmat(&ids, HMAT(.matrices = &wrong[i], .nr_matrices = 1), t,
				     sizeof(t), &len, &err),
			EINVAL, "matrix 0");
	assert_fails(gm_acpi_hmat(&ids, &old, t, sizeof(t), &len, &err), EINVAL, "version");
	assert_int_equal(len, 7);
	assert_fails(
		gm_acpi_hmat(&ids, HMAT(.domains = domains, .nr_domains = 2), t, 119, &len, &err),
		ENOBUFS, "120 bytes");
	assert_int_equal(len, 120);
	assert_int_equal(t[0], 7);
}

static void a_table_of_4_gib_is_refused(void **state)
{
	static struct gm_acpi_matrix many[129];
	size_t len = 7;

	(void)state;
	/* The lists and values are not looked at: only the length is counted. */
	for (size_t i = 0; i < NR(many); i++)
		many[i] = (struct gm_acpi_matrix){
			0, 0, NULL, NULL, GM_ACPI_DOMAINS_MAX, GM_ACPI_DOMAINS_MAX, NULL};
	assert_fails(gm_acpi_hmat(&ids, HMAT(.matrices = many, .nr_matrices = NR(many)), NULL, 0,
			     &len, &err),
		E2BIG, "HMAT");
	assert_int_equal(len, 7);
	assert_fails(
		gm_acpi_hmat(&ids, HMAT(.matrices = many, .nr_matrices = 2), NULL, 0, &len, &err),
		ENOBUFS, "HMAT");
	assert_int_equal(len, 40 + 2 * (32 + 2 * 4 * 4096 + 2 * 4096 * 4096));
}

/* ---- Intel's compiler ---- */

static void write_file(const char *dir, const char *name, const void *bytes, size_t len)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static size_t read_file(const char *dir, const char *name, char *to, size_t cap)
{
	char path[128];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "rb");
	assert_non_null(file);
	len = fread(to, 1, cap - 1, file);
	to[len] = '\0';
	fclose(file);
	return len;
}

/* Runs a command line in @dir; true if it ends well. */
static bool run_in(const char *dir, const char *command)
{
	char line[256];

	snprintf(line, sizeof(line), "cd %s && %s >log 2>&1", dir, command);
	return system(line) == 0;
}

/* Takes the table apart and together; the creator is the compiler's own then. */
static void must_survive_iasl(const char *dir, const uint8_t *table, size_t len)
{
	static char text[64 * 1024];

	write_file(dir, "table.dat", table, len);
	assert_true(run_in(dir, "iasl -d table.dat"));
	read_file(dir, "table.dsl", text, sizeof(text));
	for (const char *word = "Invalid\0Incorrect\0Unknown\0Error\0"; *word;
		word += strlen(word) + 1) {
		if (strstr(text, word))
			fail_msg("iasl says \"%s\": %s", word, text);
	}
	assert_true(run_in(dir, "iasl -p again table.dsl"));
	assert_int_equal(read_file(dir, "again.aml", text, sizeof(text)), len);
	assert_memory_equal(text, table, 9);
	assert_memory_equal(text + 10, table + 10, 18);
	assert_memory_equal(text + 36, table + 36, len - 36);
}

static void iasl_reads_the_same(void **state)
{
	char dir[] = "/tmp/test_acpi.XXXXXX";
	uint8_t srat[SRAT_LEN];
	uint8_t hmat[HMAT_LEN];
	char line[64];

	(void)state;
	if (system("command -v iasl >/dev/null 2>&1") != 0) {
		printf("skipped: iasl (Debian: acpica-tools) is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	make_srat(srat, sizeof(srat));
	must_survive_iasl(dir, srat, sizeof(srat));
	make_hmat(hmat, sizeof(hmat));
	must_survive_iasl(dir, hmat, sizeof(hmat));
	snprintf(line, sizeof(line), "rm -r %s", dir);
	assert_int_equal(system(line), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_belongs_to_its_node),
		cmocka_unit_test(processors_belong_to_their_nodes),
		cmocka_unit_test(a_wrong_srat_is_refused),
		cmocka_unit_test(domains_name_their_initiators),
		cmocka_unit_test(matrices_say_values_in_units),
		cmocka_unit_test(what_does_not_fit_is_rounded),
		cmocka_unit_test(a_wrong_hmat_is_refused),
		cmocka_unit_test(a_table_of_4_gib_is_refused),
		cmocka_unit_test(iasl_reads_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
