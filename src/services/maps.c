/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * maps.c - the mappings of a process, from /proc/PID/maps or smaps.
 *
 * smaps makes the kernel walk the page tables of each mapping; maps does not. The page size of a
 * mapping (hugetlb or not) comes from PROCMAP_QUERY where the kernel has it, else from smaps.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "core/error.h"
#include "services/residency.h"
#include "services/text.h"
#include "sys/sys.h"
#include "sys/uapi.h"

#define LINES_CAP (32u * 1024)

struct gm_mappings {
	struct gm_residency *res;
	int fd;
	bool details;
	bool query;
	bool any; /* one was returned */
	bool end;
	size_t at; /* of the next line in buf */
	size_t len;
	struct gm_mapping pending; /* smaps: the head line of the next one was read */
	bool has_pending;
	char buf[LINES_CAP];
};

int gm_mappings_open(
	struct gm_residency *res, uint32_t flags, struct gm_mappings **ret, struct gm_error *err)
{
	const char *file = flags & GM_MAPPINGS_DETAILS ? "smaps" : "maps";
	struct gm_mappings *it;

	if (flags & ~GM_MAPPINGS_DETAILS)
		return gm_error_set(err, -EINVAL, 0, 0, "flags 0x%x: 0x%x is none of GM_MAPPINGS_*",
			flags, flags & ~GM_MAPPINGS_DETAILS);
	it = gm_sys_alloc(sizeof(*it));
	if (!it)
		return gm_error_set(err, -ENOMEM, 0, 0, "no memory for a list of mappings");
	it->res = res;
	it->details = flags & GM_MAPPINGS_DETAILS;
	it->query = !it->details;
	it->fd = gm_sys_openat(res->dir, file, O_RDONLY);
	if (it->fd < 0) {
		int rc = it->fd;

		gm_sys_free(it);
		return gm_error_set(
			err, rc, 0, 0, "/proc/%d/%s: %s", (int)res->pid, file, gm_error_word(rc));
	}
	*ret = it;
	return 0;
}

void gm_mappings_close(struct gm_mappings *it)
{
	if (!it)
		return;
	gm_sys_close(it->fd);
	gm_sys_free(it);
}

/* The next line, without its newline, in *ret; 1, 0 at the end, -errno. */
static int next_line(struct gm_mappings *it, char **ret)
{
	for (;;) {
		char *from = it->buf + it->at;
		char *newline = memchr(from, '\n', it->len - it->at);
		ssize_t nr;

		if (newline) {
			*newline = '\0';
			*ret = from;
			it->at = (size_t)(newline - it->buf) + 1;
			return 1;
		}
		memmove(it->buf, from, it->len - it->at);
		it->len -= it->at;
		it->at = 0;
		if (it->len == sizeof(it->buf))
			return -EOVERFLOW;
		nr = gm_sys_read(it->fd, it->buf + it->len, sizeof(it->buf) - it->len);
		if (nr == -EINTR)
			continue;
		if (nr <= 0)
			return (int)nr;
		it->len += (size_t)nr;
	}
}

static bool parse_perms(const char *text, uint32_t *ret)
{
	if (strnlen(text, 5) < 5)
		return false;
	*ret = (text[0] == 'r' ? GM_MAPPING_R : 0) | (text[1] == 'w' ? GM_MAPPING_W : 0) |
	       (text[2] == 'x' ? GM_MAPPING_X : 0) |
	       (text[3] == 's' || text[3] == 'S' ? GM_MAPPING_SHARED : 0);
	return text[4] == ' ';
}

/* "start-end perms offset major:minor inode   name" */
static bool parse_head(const char *line, struct gm_mapping *ret)
{
	struct gm_mapping m = {.size = ret->size};
	uint64_t end;
	uint64_t major;
	uint64_t minor;
	size_t len;

	if (!gm_text_number(line, 16, &m.start, &line) || *line++ != '-' ||
		!gm_text_number(line, 16, &end, &line) || *line++ != ' ' || end <= m.start ||
		!parse_perms(line, &m.flags))
		return false;
	line += 5;
	if (!gm_text_number(line, 16, &m.offset, &line) || *line++ != ' ' ||
		!gm_text_number(line, 16, &major, &line) || *line++ != ':' ||
		!gm_text_number(line, 16, &minor, &line) || *line++ != ' ' ||
		!gm_text_number(line, 10, &m.inode, &line))
		return false;
	m.len = end - m.start;
	m.dev_major = (uint32_t)major;
	m.dev_minor = (uint32_t)minor;
	m.flags |= m.inode ? GM_MAPPING_FILE : 0;
	line += strspn(line, " ");
	len = strnlen(line, sizeof(m.name) - 1);
	memcpy(m.name, line, len);
	*ret = m;
	return true;
}

/* "VmFlags: rd wr sh mr mw me ms dc de dd hg ht …" */
static uint32_t parse_flags(const char *text)
{
	static const struct {
		char word[3];
		uint32_t flag;
	} known[] = {
		{"ht", GM_MAPPING_HUGETLB},
		{"hg", GM_MAPPING_THP},
		{"nh", GM_MAPPING_NOTHP},
		{"dc", GM_MAPPING_DONTFORK},
		{"dd", GM_MAPPING_DONTDUMP},
		{"mg", GM_MAPPING_MERGE},
		{"lo", GM_MAPPING_LOCKED},
		{"um", GM_MAPPING_UFFD},
		{"uw", GM_MAPPING_UFFD},
		{"ui", GM_MAPPING_UFFD},
	};
	uint32_t flags = GM_MAPPING_DETAILS;

	for (; text[0] == ' ' && text[1] && text[2]; text += 3) {
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
			if (strncmp(text + 1, known[i].word, 2) == 0)
				flags |= known[i].flag;
		}
	}
	return flags;
}

static void parse_detail(const char *line, struct gm_mapping *m)
{
	const struct {
		const char *key;
		uint64_t *sum;
	} known[] = {
		{"KernelPageSize:", &m->page_size},
		{"Rss:", &m->rss},
		{"Pss:", &m->pss},
		{"Shared_Clean:", &m->shared},
		{"Shared_Dirty:", &m->shared},
		{"KSM:", &m->ksm},
		{"AnonHugePages:", &m->anon_huge},
		{"ShmemPmdMapped:", &m->shmem_huge},
		{"FilePmdMapped:", &m->file_huge},
		{"Shared_Hugetlb:", &m->hugetlb},
		{"Private_Hugetlb:", &m->hugetlb},
		{"Swap:", &m->swap},
		{"Locked:", &m->locked},
	};

	if (strncmp(line, "VmFlags:", 8) == 0) {
		m->flags |= parse_flags(line + 8);
		return;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strncmp(line, known[i].key, strlen(known[i].key)) == 0) {
			uint64_t n = gm_text_field(line, known[i].key);

			*known[i].sum += n == GM_TEXT_UNKNOWN ? 0 : n;
		}
	}
}

static void ask_page_size(struct gm_mappings *it, struct gm_mapping *m)
{
	struct procmap_query query = {
		.size = sizeof(query),
		.query_addr = m->start,
	};

	if (!it->query)
		return;
	if (gm_sys_ioctl(it->fd, PROCMAP_QUERY, &query) < 0) {
		/* Too old a kernel, or the mapping has gone; the first must not be asked again. */
		it->query = it->any;
		return;
	}
	m->page_size = query.vma_page_size;
	if (m->page_size > UINT64_C(1) << it->res->page_shift)
		m->flags |= GM_MAPPING_HUGETLB;
}

static int next_plain(struct gm_mappings *it, struct gm_mapping *ret)
{
	char *line;
	int rc = next_line(it, &line);

	if (rc <= 0)
		return rc;
	if (!parse_head(line, ret))
		return -EPROTO;
	ask_page_size(it, ret);
	return 1;
}

/* Details follow their head line, up to the next head line or the end. */
static int next_detailed(struct gm_mappings *it, struct gm_mapping *ret)
{
	struct gm_mapping m = {.size = ret->size};
	bool has = it->has_pending;
	char *line;
	int rc;

	if (has)
		m = it->pending;
	it->has_pending = false;
	for (;;) {
		rc = next_line(it, &line);
		if (rc < 0)
			return rc;
		if (rc == 0)
			break;
		if (line[0] >= 'A' && line[0] <= 'Z') {
			parse_detail(line, &m);
			continue;
		}
		it->pending.size = ret->size;
		if (!parse_head(line, &it->pending))
			return -EPROTO;
		if (has) {
			it->has_pending = true;
			break;
		}
		m = it->pending;
		has = true;
	}
	if (has)
		*ret = m;
	return has;
}

int gm_mappings_next(struct gm_mappings *it, struct gm_mapping *ret)
{
	int rc;

	if (ret->size < sizeof(*ret))
		return -EINVAL;
	if (it->end)
		return 0;
	rc = it->details ? next_detailed(it, ret) : next_plain(it, ret);
	if (rc > 0)
		it->any = true;
	if (rc == 0) {
		it->end = true;
		/* A process that ends in between makes the list end early. */
		rc = gm_residency_alive(it->res);
	}
	return rc;
}

int gm_walk_read_list(struct gm_walk *walk)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_mappings *it;
	size_t cap = 0;
	int rc;

	if (walk->list_read)
		return 0;
	rc = gm_mappings_open(walk->res, GM_MAPPINGS_DETAILS, &it, NULL);
	if (rc < 0)
		return rc;
	while ((rc = gm_mappings_next(it, &m)) > 0) {
		if (walk->nr_list == cap) {
			size_t more = cap ? cap * 2 : 64;
			void *list = gm_sys_realloc(walk->list, more, sizeof(*walk->list));

			if (!list) {
				rc = -ENOMEM;
				break;
			}
			walk->list = list;
			cap = more;
		}
		walk->list[walk->nr_list++] = (struct gm_walk_mapping){
			.start = m.start,
			.end = m.start + m.len,
			.page_size = m.page_size,
			.present = m.rss,
			.pmd_mapped = m.anon_huge + m.shmem_huge + m.file_huge,
		};
	}
	gm_mappings_close(it);
	walk->sum.sources |= GM_SOURCE_SMAPS;
	walk->list_read = rc == 0;
	return rc;
}

static int mapping_from_list(struct gm_walk *walk, uint64_t addr)
{
	int rc = gm_walk_read_list(walk);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < walk->nr_list; i++) {
		if (addr >= walk->list[i].start && addr < walk->list[i].end) {
			walk->here = walk->list[i];
			return 1;
		}
	}
	return 0;
}

int gm_walk_mapping_at(struct gm_walk *walk, uint64_t addr)
{
	struct procmap_query query = {.size = sizeof(query), .query_addr = addr};
	int rc;

	if (addr >= walk->here.start && addr < walk->here.end)
		return 1;
	if (walk->flags & GM_RESIDENCY_NO_SCAN)
		return mapping_from_list(walk, addr);
	if (walk->maps == -1)
		walk->maps = gm_sys_openat(walk->res->dir, "maps", O_RDONLY);
	if (walk->maps < 0)
		return mapping_from_list(walk, addr);
	rc = gm_sys_ioctl(walk->maps, PROCMAP_QUERY, &query);
	if (rc == -ENOENT || rc == -ESRCH)
		return 0;
	if (rc < 0) {
		gm_sys_close(walk->maps);
		walk->maps = -2;
		return mapping_from_list(walk, addr);
	}
	walk->sum.sources |= GM_SOURCE_QUERY;
	walk->here = (struct gm_walk_mapping){
		.start = query.vma_start,
		.end = query.vma_end,
		.page_size = query.vma_page_size,
	};
	return 1;
}
