/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_watch.c - samples of what the command's processes have mapped of the memory.
 *
 * A mapping is known by device and inode of the memfd. Where several mappings show the same part of
 * the memory (a device process, a second view) it counts once, by the largest page that maps it.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "exec.h"

#define PROCESSES_MAX 1024
#define MAPPINGS_MAX 256

struct mapped {
	pid_t pid;
	struct gm_residency *res;
	uint64_t start;
	uint64_t len;
	uint64_t offset;
};

#define DETAIL_AFTER 0.5 /* seconds */
#define DETAIL_SMALL (UINT64_C(128) << 20)

struct round {
	struct exec_watch *watch;
	uint32_t flags; /* GM_RESIDENCY_* */
	struct exec_sample sample;
	struct mapped mapped[MAPPINGS_MAX];
	size_t nr_mapped;
	const struct mapped *now; /* the mapping whose extents come in */
	bool overlap;
	bool ended; /* one of the processes, while we looked: it was seen half torn down */
	struct heatmap *map;
};

void exec_watch_init(struct exec_watch *watch, int fd, const struct gm_host *host)
{
	struct stat st;

	if (fstat(fd, &st))
		memset(&st, 0, sizeof(st));
	*watch = (struct exec_watch){
		.fd = fd,
		.dev_major = major(st.st_dev),
		.dev_minor = minor(st.st_dev),
		.inode = st.st_ino,
		.size = (uint64_t)st.st_size,
		.base_page = host->base_page,
		.base_log2 = tool_log2(host->base_page),
		.thp_page = host->thp_page,
		.thp_log2 = tool_log2(host->thp_page),
	};
	/* Only multi-size huge pages of shared memory need a look at each page's folio. */
	for (uint32_t i = 0; i < host->nr_thp; i++) {
		const struct gm_host_thp *thp = &host->thp[i];

		if (thp->page_size < host->thp_page && thp->shmem_enabled[0] &&
			strcmp(thp->shmem_enabled, "never") != 0)
			watch->flags = GM_RESIDENCY_FOLIOS;
	}
}

static void add_piece(struct round *r, uint64_t offset, uint64_t len, uint32_t log2)
{
	struct exec_watch *w = r->watch;

	if (offset >= w->size)
		return;
	if (len > w->size - offset)
		len = w->size - offset;
	r->sample.present += len;
	r->sample.by_log2[log2] += len;
	if (r->map)
		heatmap_add(r->map, offset, len, heatmap_kind(log2, w->base_log2, w->thp_log2));
}

static int on_extent(void *arg, const struct gm_extent *e)
{
	struct round *r = arg;
	uint64_t offset = r->now->offset + (e->start - r->now->start);
	uint64_t page = r->watch->base_page;

	if (e->state == GM_EXTENT_ZERO)
		r->sample.zero += e->len;
	if (e->state != GM_EXTENT_PRESENT)
		return 0;
	if (!r->overlap) {
		add_piece(r, offset, e->len, e->page_log2);
		return 0;
	}
	for (uint64_t at = offset; at - offset < e->len && at < r->watch->size; at += page) {
		uint8_t *p = &r->watch->pages[at / page];

		if (*p < e->page_log2)
			*p = (uint8_t)e->page_log2;
	}
	return 0;
}

/* The union of overlapping mappings, run by run. */
static void add_pages(struct round *r)
{
	const uint8_t *pages = r->watch->pages;
	uint64_t page = r->watch->base_page;
	uint64_t nr = r->watch->size / page;

	for (uint64_t i = 0; i < nr;) {
		uint64_t end = i + 1;

		while (end < nr && pages[end] == pages[i])
			end++;
		if (pages[i])
			add_piece(r, i * page, (end - i) * page, pages[i]);
		i = end;
	}
}

static void find_overlap(struct round *r)
{
	struct exec_watch *w = r->watch;

	for (size_t i = 0; i < r->nr_mapped; i++) {
		for (size_t j = 0; j < i; j++) {
			const struct mapped *a = &r->mapped[i];
			const struct mapped *b = &r->mapped[j];

			if (a->offset >= b->offset ? a->offset - b->offset < b->len
						   : b->offset - a->offset < a->len)
				r->overlap = true;
		}
	}
	if (!r->overlap)
		return;
	if (!w->pages)
		w->pages = tool_alloc((size_t)(w->size / w->base_page), 1);
	else
		memset(w->pages, 0, (size_t)(w->size / w->base_page));
}

/* Does the process hold a virtual machine of KVM? */
static bool has_kvm(pid_t pid)
{
	char path[64];
	char link[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && !found && (entry = readdir(dir))) {
		ssize_t nr = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

		if (nr < 0)
			continue;
		link[nr] = '\0';
		found = strcmp(link, "anon_inode:kvm-vm") == 0;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* prctl(PR_SET_THP_DISABLE) by the process or a parent. */
static bool forbids_thp(pid_t pid)
{
	char path[64];
	char line[128];
	bool off = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, "THP_enabled:", 12) == 0)
			off = strtol(line + 12, NULL, 10) == 0;
	}
	if (file)
		fclose(file);
	return off;
}

/* What has a say in whether a mapping gets transparent huge pages. */
static void look_at_advice(struct exec_watch *w, const struct mapped *mapped)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_mappings *it;

	w->advice_by = mapped->pid;
	w->forbidden = forbids_thp(mapped->pid);
	if (gm_mappings_open(mapped->res, GM_MAPPINGS_DETAILS, &it, NULL))
		return;
	while (gm_mappings_next(it, &m) > 0) {
		if (m.inode != w->inode || m.dev_major != w->dev_major ||
			m.dev_minor != w->dev_minor)
			continue;
		w->advice_known = true;
		w->looked_at += m.len;
		if (m.flags & GM_MAPPING_THP)
			w->advised += m.len;
		if (m.flags & GM_MAPPING_NOTHP)
			w->refused += m.len;
	}
	gm_mappings_close(it);
}

static void found_mapping(
	struct round *r, struct gm_residency *res, pid_t pid, const struct gm_mapping *m)
{
	struct exec_watch *w = r->watch;

	if (r->nr_mapped == MAPPINGS_MAX)
		return;
	r->mapped[r->nr_mapped++] = (struct mapped){
		.pid = pid, .res = res, .start = m->start, .len = m->len, .offset = m->offset};
	w->mapped_by = pid;
	if (m->len >= w->thp_page && ((m->start - m->offset) & (w->thp_page - 1)) != 0)
		w->unaligned = true;
}

/* The handle if the process maps the memory, else NULL. */
static struct gm_residency *look_at_process(struct round *r, pid_t pid)
{
	struct exec_watch *w = r->watch;
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_process_memory memory = {.size = sizeof(memory)};
	struct gm_residency *res;
	struct gm_mappings *it;
	size_t before = r->nr_mapped;

	if (gm_residency_open(pid, &res, NULL))
		return NULL;
	if (gm_mappings_open(res, 0, &it, NULL) == 0) {
		while (gm_mappings_next(it, &m) > 0) {
			if (m.inode == w->inode && m.dev_major == w->dev_major &&
				m.dev_minor == w->dev_minor)
				found_mapping(r, res, pid, &m);
		}
		gm_mappings_close(it);
	}
	if (r->nr_mapped == before) {
		gm_residency_close(res);
		return NULL;
	}
	r->sample.processes++;
	if (gm_residency_process(res, &memory, NULL) == 0 && memory.page_tables != UINT64_MAX)
		r->sample.page_tables += memory.page_tables;
	if (!w->kvm && w->nr < 50)
		w->kvm = has_kvm(pid);
	return res;
}

/* Appends the children of a process's threads. */
static void add_children(pid_t pid, pid_t *pids, size_t *nr)
{
	char path[64];
	struct dirent *task;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (task = readdir(dir))) {
		FILE *file;
		char word[16];

		if (task->d_name[0] == '.')
			continue;
		snprintf(
			path, sizeof(path), "/proc/%d/task/%.16s/children", (int)pid, task->d_name);
		file = fopen(path, "re");
		while (file && *nr < PROCESSES_MAX && fscanf(file, "%15s", word) == 1)
			pids[(*nr)++] = (pid_t)strtol(word, NULL, 10);
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
}

static void measure(struct round *r)
{
	find_overlap(r);
	for (size_t i = 0; i < r->nr_mapped; i++) {
		struct gm_usage usage = {.size = sizeof(usage)};

		r->now = &r->mapped[i];
		if (gm_residency_extents(r->now->res, r->now->start, r->now->len, r->flags,
			    on_extent, r, &usage, NULL) < 0)
			r->ended = true;
		r->sample.unseen |= usage.unseen;
	}
	if (r->overlap)
		add_pages(r);
}

/* The last sample in detail says the same of as many bytes, and more. */
static bool knows_less(const struct exec_watch *w, const struct exec_sample *s)
{
	const struct exec_sample *last = &w->last_mapped;

	return last->processes > 0 && last->present == s->present &&
	       (s->unseen & ~last->unseen & GM_UNSEEN_FOLIOS);
}

static void keep(struct exec_watch *w, struct round *r)
{
	const struct exec_sample *s = &r->sample;

	/* In detail it takes the place of the quick one before it. */
	if (r->flags && w->nr > 0)
		w->nr--;

	if (w->nr == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 256;
		w->samples = tool_realloc(w->samples, w->cap, sizeof(*w->samples));
	}
	w->samples[w->nr++] = *s;
	if (s->allocated > w->peak_allocated)
		w->peak_allocated = s->allocated;
	if (s->page_tables > w->peak_page_tables)
		w->peak_page_tables = s->page_tables;
	if (s->present > w->peak_present)
		w->peak_present = s->present;
	/* At its end a process may give up mappings first: that is not what it ran with. */
	if (s->processes > 0 && (s->present > 0 || w->last_mapped.processes == 0) &&
		!knows_less(w, s)) {
		w->last_mapped = *s;
		heatmap_free(w->map);
		w->map = r->map;
		r->map = NULL;
	}
}

static void take(struct exec_watch *watch, pid_t root, uint32_t flags)
{
	static struct round r;
	static pid_t pids[PROCESSES_MAX];
	static struct gm_residency *handles[PROCESSES_MAX];
	size_t nr = 0;
	struct stat st;

	r = (struct round){.watch = watch, .flags = flags};
	r.sample.seconds = tool_now() - watch->started;
	if (watch->need_map)
		r.map = heatmap_new(0, watch->size, watch->base_page, EXEC_CELLS);
	/* Below ourselves: the command, its children, and what was left to us. */
	add_children(root, pids, &nr);
	for (size_t i = 0; i < nr; i++) {
		handles[i] = look_at_process(&r, pids[i]);
		add_children(pids[i], pids, &nr);
	}
	measure(&r);
	if (r.sample.present >= watch->thp_page && !watch->advice_known)
		look_at_advice(watch, &r.mapped[0]);
	for (size_t i = 0; i < nr; i++)
		gm_residency_close(handles[i]);
	if (fstat(watch->fd, &st) == 0)
		r.sample.allocated = (uint64_t)st.st_blocks * 512;
	if (!r.ended)
		keep(watch, &r);
	heatmap_free(r.map);
}

/*
 * Each sample is quick. The folio behind each small page, where it matters, costs up to 0.15 s for
 * each GiB: of much memory that is looked at for a fifth of the time at most, and not at once. What
 * the command's end overtakes is dropped.
 */
void exec_watch_sample(struct exec_watch *watch, pid_t root)
{
	double begin;
	bool small;

	take(watch, root, 0);
	begin = tool_now();
	small = watch->nr > 0 && watch->samples[watch->nr - 1].present <= DETAIL_SMALL;
	if (!watch->flags || begin < watch->next_detail ||
		(!small && begin < watch->started + DETAIL_AFTER))
		return;
	take(watch, root, watch->flags);
	watch->next_detail = tool_now() + 4 * (tool_now() - begin);
}

/* Has it not ended? A zombie has, though nobody waited for it yet. */
static bool lives(pid_t pid)
{
	char path[64];
	char line[256] = "";
	const char *name_end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	name_end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	fclose(file);
	return name_end && strlen(name_end) > 2 && !strchr("ZX", name_end[2]);
}

/* What the command has left running came to us, the subreaper. */
static void find_survivors(struct exec_watch *watch, pid_t root)
{
	static pid_t pids[PROCESSES_MAX];
	size_t nr = 0;

	add_children(root, pids, &nr);
	for (size_t i = 0; i < nr; i++) {
		if (lives(pids[i])) {
			watch->survivors = tool_realloc(watch->survivors, watch->nr_survivors + 1,
				sizeof(*watch->survivors));
			watch->survivors[watch->nr_survivors++] = pids[i];
		}
		add_children(pids[i], pids, &nr);
	}
	if (watch->nr_survivors == 0)
		return;
	watch->mapped_by = 0;
	take(watch, root, 0);
	watch->survivor_maps = watch->mapped_by;
}

void exec_watch_end(struct exec_watch *watch, pid_t root)
{
	struct stat st;

	find_survivors(watch, root);
	if (fstat(watch->fd, &st) == 0)
		watch->allocated = (uint64_t)st.st_blocks * 512;
	if (watch->allocated > watch->peak_allocated)
		watch->peak_allocated = watch->allocated;
}

void exec_watch_fini(struct exec_watch *watch)
{
	free(watch->samples);
	free(watch->survivors);
	heatmap_free(watch->map);
	free(watch->pages);
}
