/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect_find.c - which mappings of a process are a guest's memory?
 *
 * The kernel does not say; names and flags do. Monitors name their memfds, QEMU advises huge pages
 * and merging for its RAM and for nothing else. The library names what it can, but the name of a
 * memfd is the user's and that of other memory not shown by every kernel; its memory is kept out of
 * core dumps and of forks, which hardly anything else asks for together. Where no rule fits the
 * largest writable mappings are shown, and that is said.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

#define LEAST (UINT64_C(1) << 20) /* what is smaller is no guest's main memory */
#define LARGEST_MAX 8

/* Memory that its name gives away, whoever maps it. */
static const struct {
	const char *prefix;
	const char *found_by;
} names[] = {
	{"/memfd:guestmem", "memory named by guestmem"},
	{"[anon:guestmem", "memory named by guestmem"},
	{"[anon_shmem:guestmem", "memory named by guestmem"},
	{"/memfd:crosvm_guest", "memory named by crosvm"},
	{"/memfd:ch_ram", "memory named by cloud-hypervisor"},
	{"/memfd:guest_mem", "memory named by Firecracker"},
	{"/memfd:memory-backend-memfd", "memory named by QEMU"},
};

struct list {
	struct gm_mapping *m;
	size_t nr;
	size_t cap;
};

static int read_all(struct gm_residency *res, bool quick, struct list *list)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_mappings *it;
	struct gm_error err;
	int rc = gm_mappings_open(res, quick ? 0 : GM_MAPPINGS_DETAILS, &it, &err);

	if (rc < 0)
		return rc;
	while ((rc = gm_mappings_next(it, &m)) > 0) {
		if (list->nr == list->cap) {
			list->cap = list->cap ? list->cap * 2 : 256;
			list->m = tool_realloc(list->m, list->cap, sizeof(*list->m));
		}
		list->m[list->nr++] = m;
	}
	gm_mappings_close(it);
	return rc;
}

static void keep(struct inspect_result *r, const struct gm_mapping *m)
{
	r->pieces = tool_realloc(r->pieces, r->nr + 1, sizeof(*r->pieces));
	r->pieces[r->nr++] = (struct inspect_piece){.mapping = *m, .allocated = UINT64_MAX};
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A part of the range may be in each of several mappings. */
static void find_range(const struct list *list, struct inspect_result *r)
{
	uint64_t start = r->opts->range_start;
	uint64_t end = start + r->opts->range_len;

	r->found_by = "the range that was given";
	for (size_t i = 0; i < list->nr; i++) {
		struct gm_mapping m = list->m[i];
		uint64_t m_end = m.start + m.len;

		if (m.start >= end || m_end <= start)
			continue;
		if (m.start < start) {
			m.offset += start - m.start;
			m.start = start;
		}
		m.len = (m_end < end ? m_end : end) - m.start;
		keep(r, &m);
	}
}

static void find_named(const struct list *list, struct inspect_result *r)
{
	for (size_t i = 0; i < list->nr; i++) {
		for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
			if (!starts_with(list->m[i].name, names[n].prefix))
				continue;
			r->found_by = names[n].found_by;
			keep(r, &list->m[i]);
			break;
		}
	}
}

static bool is_anonymous(const struct gm_mapping *m)
{
	return !(m->flags & GM_MAPPING_FILE) &&
	       (m->name[0] == '\0' || starts_with(m->name, "[anon"));
}

/* A memfd, a file of hugetlbfs or another file that is shared for writing. */
static bool is_shared_memory(const struct gm_mapping *m)
{
	return m->flags & GM_MAPPING_FILE && m->flags & GM_MAPPING_SHARED &&
	       m->flags & GM_MAPPING_W && !starts_with(m->name, "/dev/shm/") &&
	       !starts_with(m->name, "/dev/dri/");
}

static bool qemu_ram(const struct gm_mapping *m)
{
	if (is_shared_memory(m) || m->flags & GM_MAPPING_HUGETLB ||
		strstr(m->name, "qemu_back_mem"))
		return true;
	return is_anonymous(m) && m->flags & (GM_MAPPING_THP | GM_MAPPING_MERGE);
}

/* Firecracker and others: private memory that is kept out of core dumps, or of forks, or advised.
 */
static bool vmm_ram(const struct gm_mapping *m)
{
	if (is_shared_memory(m) || m->flags & GM_MAPPING_HUGETLB)
		return true;
	return is_anonymous(m) &&
	       m->flags & (GM_MAPPING_THP | GM_MAPPING_DONTDUMP | GM_MAPPING_DONTFORK);
}

/* Process names are cut to 15 bytes. */
static const struct {
	const char *prefix;
	bool (*is_ram)(const struct gm_mapping *m);
	const char *found_by;
} monitors[] = {
	{"qemu-", qemu_ram, "RAM of QEMU"},
	{"kvm", qemu_ram, "RAM of QEMU"},
	{"firecracker", vmm_ram, "RAM of Firecracker"},
	{"cloud-hyperviso", vmm_ram, "RAM of cloud-hypervisor"},
	{"crosvm", vmm_ram, "RAM of crosvm"},
};

static void find_by_monitor(const struct list *list, struct inspect_result *r)
{
	for (size_t n = 0; n < sizeof(monitors) / sizeof(monitors[0]); n++) {
		if (!starts_with(r->process.name, monitors[n].prefix))
			continue;
		for (size_t i = 0; i < list->nr; i++) {
			const struct gm_mapping *m = &list->m[i];

			if (m->len >= LEAST && m->flags & GM_MAPPING_W && monitors[n].is_ram(m))
				keep(r, m);
		}
		r->found_by = monitors[n].found_by;
		return;
	}
}

static void find_by_flags(const struct list *list, struct inspect_result *r)
{
	const uint32_t both = GM_MAPPING_DONTDUMP | GM_MAPPING_DONTFORK;

	for (size_t i = 0; i < list->nr; i++) {
		const struct gm_mapping *m = &list->m[i];

		if (m->len >= LEAST && m->flags & GM_MAPPING_W && (m->flags & both) == both &&
			!starts_with(m->name, "/dev/"))
			keep(r, m);
	}
	r->found_by = "memory that looks like guestmem: kept out of core dumps and of forks";
}

static int by_length(const void *a, const void *b)
{
	const struct inspect_piece *x = a;
	const struct inspect_piece *y = b;

	return (x->mapping.len < y->mapping.len) - (x->mapping.len > y->mapping.len);
}

static int by_address(const void *a, const void *b)
{
	const struct inspect_piece *x = a;
	const struct inspect_piece *y = b;

	return (x->mapping.start > y->mapping.start) - (x->mapping.start < y->mapping.start);
}

static void find_largest(const struct list *list, struct inspect_result *r)
{
	r->found_by = "the largest writable mappings; no guest memory was recognised";
	for (size_t i = 0; i < list->nr; i++) {
		if (list->m[i].flags & GM_MAPPING_W)
			keep(r, &list->m[i]);
	}
	if (r->nr == 0)
		return;
	qsort(r->pieces, r->nr, sizeof(*r->pieces), by_length);
	for (size_t i = 1; i < r->nr; i++) {
		if (i == LARGEST_MAX || r->pieces[i].mapping.len < r->pieces[0].mapping.len / 16)
			r->nr = i;
	}
	qsort(r->pieces, r->nr, sizeof(*r->pieces), by_address);
}

static void find_all(const struct list *list, struct inspect_result *r)
{
	r->found_by = "all mappings";
	for (size_t i = 0; i < list->nr; i++)
		keep(r, &list->m[i]);
}

int inspect_find(struct gm_residency *res, struct inspect_result *r)
{
	struct list list = {0};
	int rc = read_all(res, r->opts->quick, &list);

	if (rc == 0) {
		if (r->opts->has_range)
			find_range(&list, r);
		else if (r->opts->all)
			find_all(&list, r);
		else
			find_named(&list, r);
		if (r->nr == 0 && !r->opts->has_range)
			find_by_monitor(&list, r);
		if (r->nr == 0 && !r->opts->has_range)
			find_by_flags(&list, r);
		if (r->nr == 0 && !r->opts->has_range)
			find_largest(&list, r);
		if (r->nr == 0)
			rc = r->opts->has_range ? -EFAULT : -ESRCH;
	}
	free(list.m);
	return rc;
}
