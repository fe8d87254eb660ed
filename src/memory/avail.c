/* SPDX-License-Identifier: BSD-3-Clause */
/* avail.c - reads /proc and /sys for what the host can give. */
#include "memory/avail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/cgroup.h"
#include "sys/sys.h"

#define THP_DIR "/sys/kernel/mm/transparent_hugepage/"

static bool read_number(const char *path, uint64_t *ret)
{
	char text[64];
	char *end;

	if (gm_sys_read_text(path, text, sizeof(text)) <= 0)
		return false;
	*ret = strtoull(text, &end, 10);
	return end != text;
}

/* Value in bytes of a line "Key:   123 kB". */
static bool find_kb(const char *text, const char *key, uint64_t *ret)
{
	const char *line = strstr(text, key);

	if (!line)
		return false;
	*ret = strtoull(line + strlen(key), NULL, 10) * 1024;
	return true;
}

uint64_t gm_avail_bytes(void)
{
	struct gm_cgroup group;
	uint64_t avail;
	char text[4096];

	gm_cgroup_read(&group);
	if (gm_sys_read_text("/proc/meminfo", text, sizeof(text)) <= 0 ||
		!find_kb(text, "MemAvailable:", &avail))
		return group.available;
	return avail < group.available ? avail : group.available;
}

int gm_pool_read(uint32_t log2, struct gm_pool *ret)
{
	static const char *const names[] = {
		"nr_hugepages", "free_hugepages", "resv_hugepages", "nr_overcommit_hugepages"};
	struct gm_pool pool = {.page_size = UINT64_C(1) << log2};
	uint64_t *const fields[] = {&pool.total, &pool.free, &pool.reserved, &pool.surplus_max};
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/%s",
			pool.page_size >> 10, names[i]);
		if (!read_number(path, fields[i]))
			return -ENOTSUP;
	}
	*ret = pool;
	return 0;
}

static uint32_t log2_of(uint64_t n)
{
	return n ? 63 - (uint32_t)__builtin_clzll(n) : 0;
}

uint32_t gm_pool_default(void)
{
	char text[4096];
	uint64_t size;

	if (gm_sys_read_text("/proc/meminfo", text, sizeof(text)) <= 0 ||
		!find_kb(text, "Hugepagesize:", &size))
		return 0;
	return log2_of(size);
}

uint32_t gm_thp_pmd_log2(void)
{
	uint64_t size;

	return read_number(THP_DIR "hpage_pmd_size", &size) ? log2_of(size) : 21;
}

/* The word in brackets of "always [madvise] never". */
static bool knob_value(const char *path, char *ret, size_t cap)
{
	char text[256];
	char *open;
	char *close;

	if (gm_sys_read_text(path, text, sizeof(text)) <= 0)
		return false;
	open = strchr(text, '[');
	close = open ? strchr(open, ']') : NULL;
	if (!close)
		return false;
	*close = '\0';
	return (size_t)snprintf(ret, cap, "%s", open + 1) < cap;
}

bool gm_thp_allowed(uint32_t log2, bool shmem, char *knob, int cap)
{
	const char *word = shmem ? "advise" : "madvise";
	char global[96];
	char sized[128];
	char value[32];

	snprintf(global, sizeof(global), THP_DIR "%s", shmem ? "shmem_enabled" : "enabled");
	snprintf(sized, sizeof(sized), THP_DIR "hugepages-%" PRIu64 "kB/%s",
		(UINT64_C(1) << log2) >> 10, shmem ? "shmem_enabled" : "enabled");
	snprintf(knob, (size_t)cap, "echo %s > %s", word, global);

	/* Kernels since 6.8 have a knob a size; it may refer to the global one. */
	if (knob_value(sized, value, sizeof(value))) {
		if (strcmp(value, "never") == 0 || strcmp(value, "deny") == 0) {
			snprintf(knob, (size_t)cap, "echo %s > %s", word, sized);
			return false;
		}
		if (strcmp(value, "inherit") != 0)
			return true;
	} else if (log2 != gm_thp_pmd_log2()) {
		snprintf(knob, (size_t)cap, "this kernel has no %s", sized);
		return false;
	}
	if (!knob_value(global, value, sizeof(value))) {
		snprintf(knob, (size_t)cap, "this kernel has no transparent huge pages");
		return false;
	}
	return strcmp(value, "never") != 0 && strcmp(value, "deny") != 0;
}
