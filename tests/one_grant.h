/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * one_grant.h - what the tests of grants share: a guest of 64 pages of RAM and 4 of ROM, each filled with
 * its number, and one grant of it with a reader.
 *
 * Included by one test program each, so the functions are static.
 */
#ifndef GM_TESTS_ONE_GRANT_H
#define GM_TESTS_ONE_GRANT_H

#include "support.h"

#include <errno.h>
#include <guestmem/grant.h>
#include <guestmem/txn.h>
#include <stdio.h>
#include <string.h>

#define DESC(...) GM_OPTS(gm_region_desc, __VA_ARGS__)
#define BLOCK(...) GM_OPTS(gm_block_opts, __VA_ARGS__)
#define PAGE UINT64_C(4096)
#define RAM_PAGES 64u
#define ROM_AT MIB(1)
#define ROM_PAGES 4u
#define LIMIT GIB(1)

static struct gm_error err;
static struct gm_space *source;
static struct gm_grant *grant;
static struct gm_reader *reader; /* of the grant */
static uint64_t ram;
static uint64_t rom;
static uint64_t deadline_ns = 200000000;

static inline uint8_t *host_of(struct gm_space *space, uint64_t gpa)
{
	struct gm_region_info info = {.size = sizeof(info)};

	assert_int_equal(gm_space_next(space, gpa, &info), 0);
	assert_true(info.gpa <= gpa && gpa - info.gpa < info.len);
	assert_non_null(info.hva);
	return (uint8_t *)info.hva + (gpa - info.gpa);
}

/* The permissions of the mappings at some addresses, as /proc/self/maps writes them; read once for all. */
static inline void maps_perms(const void *const *addrs, size_t nr, char (*ret)[5])
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[512];

	assert_non_null(file);
	setvbuf(file, NULL, _IOFBF, 1 << 16);
	for (size_t i = 0; i < nr; i++)
		strcpy(ret[i], "none");
	while (fgets(line, sizeof(line), file)) {
		unsigned long first;
		unsigned long end;
		char perms[8];

		if (sscanf(line, "%lx-%lx %7s", &first, &end, perms) != 3)
			continue;
		for (size_t i = 0; i < nr; i++) {
			if ((uintptr_t)addrs[i] >= first && (uintptr_t)addrs[i] < end)
				memcpy(ret[i], perms, 4);
		}
	}
	fclose(file);
}

static inline void make_source(void)
{
	uint8_t *hva;

	assert_ok(gm_space_create(
		GM_OPTS(gm_space_opts, .gpa_limit = LIMIT, .timeout_ns = deadline_ns), &source,
		&err));
	assert_ok(gm_space_add(source,
		DESC(.gpa = 0, .name = "ram",
			.backing = BLOCK(.len = RAM_PAGES * PAGE, .flags = GM_BLOCK_SHARE)),
		&ram, &err));
	assert_ok(gm_space_add(source,
		DESC(.gpa = ROM_AT, .kind = GM_REGION_ROM, .name = "rom",
			.backing = BLOCK(.len = ROM_PAGES * PAGE, .flags = GM_BLOCK_SHARE)),
		&rom, &err));
	hva = host_of(source, 0);
	for (size_t i = 0; i < RAM_PAGES; i++)
		memset(hva + i * PAGE, (int)i + 1, PAGE);
	hva = host_of(source, ROM_AT);
	for (size_t i = 0; i < ROM_PAGES; i++)
		memset(hva + i * PAGE, (int)i + 0x81, PAGE);
}

static inline void make_grant(const struct gm_grant_part *parts, size_t nr, uint32_t flags)
{
	assert_ok(gm_grant_create(source,
		GM_OPTS(gm_grant_opts, .parts = parts, .nr_parts = nr, .flags = flags), &grant,
		&err));
	assert_ok(gm_reader_create(gm_grant_space(grant), "component", &reader, &err));
}

#define PARTS(...)                                                                                 \
	(const struct gm_grant_part[]){__VA_ARGS__},                                               \
		sizeof((const struct gm_grant_part[]){__VA_ARGS__}) / sizeof(struct gm_grant_part)

static inline void drop_grant(void)
{
	gm_reader_destroy(reader);
	reader = NULL;
	assert_ok(gm_grant_destroy(grant, &err));
	grant = NULL;
}

static inline void drop_all(void)
{
	drop_grant();
	gm_space_destroy(source);
	source = NULL;
}

static inline struct gm_grant_info grant_info(void)
{
	struct gm_grant_info info = {.size = sizeof(info)};

	assert_int_equal(gm_grant_info(grant, &info), 0);
	return info;
}

/* What a function returns in a section of the grant's reader. */
#define IN_SECTION(call)                                                                           \
	({                                                                                         \
		const struct gm_view *view = gm_reader_enter(reader);                              \
		int in_section_ = (call);                                                          \
                                                                                                   \
		gm_reader_leave(reader);                                                           \
		in_section_;                                                                       \
	})

#endif
