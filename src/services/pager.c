/* SPDX-License-Identifier: BSD-3-Clause */
/* pager.c - a pager's life, and what is told of it. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/pager.h"

static int set_default(uint32_t *value, uint32_t usual, uint32_t least, uint32_t most)
{
	if (*value == 0)
		*value = usual;
	return *value < least || *value > most ? -EINVAL : 0;
}

static int check(struct gm_pager_opts *opts, struct gm_error *err)
{
	if (opts->request_len == 0)
		opts->request_len = 2u << 20;
	if ((opts->flags & ~(GM_PAGER_JOURNAL | GM_PAGER_TELL_DROPPED)) || opts->reserved ||
		set_default(&opts->requests, 16, 1, 4096) ||
		set_default(&opts->parked, 256, 16, 65536) ||
		set_default(&opts->ranges, 1024, 1, 1u << 20) ||
		set_default(&opts->retry_ns, 250000, 1000, 1000000000) ||
		set_default(&opts->stuck_after, 8, 1, UINT32_MAX) ||
		set_default(&opts->spin_ns, 50000, 100, 1000000000) ||
		opts->wait > GM_PAGER_WAIT_BUSY || !gm_is_pow2(opts->request_len) ||
		opts->request_len < (64u << 10) || opts->request_len > (1u << 30))
		return gm_error_set(err, -EINVAL, 0, 0,
			"pager: an option is out of bounds, or a flag is unknown");
	return 0;
}

/* Buffers cost memory when they are used. */
static int map_buffers(struct gm_pager *pager)
{
	const int prot = PROT_READ | PROT_WRITE;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *at;
	int rc;

	pager->bufs_len =
		(2 + (uint64_t)pager->opts.requests) * pager->opts.request_len + PAGER_BLOCK;
	rc = gm_sys_mmap(NULL, pager->bufs_len, prot, flags, -1, 0, &at);
	if (rc)
		return rc;
	pager->bufs_map = at;
	pager->bufs = (uint8_t *)at + (-(uintptr_t)at & (PAGER_BLOCK - 1));
	rc = gm_sys_mmap(NULL, pager->opts.request_len, PROT_READ, flags, -1, 0, &at);
	if (rc)
		return rc;
	pager->zeros = at;
	return 0;
}

/* A message must not be lost because the page under it has to be brought back: if it may be locked, it is. */
static int map_journal(struct gm_pager *pager)
{
	void *at;
	int rc;

	pager->journal = &pager->own;
	if (!(pager->opts.flags & GM_PAGER_JOURNAL))
		return 0;
	_Static_assert(sizeof(struct pager_journal) <= GM_PAGER_JOURNAL_LEN, "it has room");
	rc = gm_sys_mmap(NULL, GM_PAGER_JOURNAL_LEN, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_POPULATE, pager->opts.journal, pager->opts.journal_off, &at);
	if (rc)
		return rc;
	pager->journal = at;
	gm_sys_mlock(at, GM_PAGER_JOURNAL_LEN, false);
	return 0;
}

static int make_lists(struct gm_pager *pager)
{
	const struct gm_pager_opts *opts = &pager->opts;

	pager->loads = gm_sys_alloc_array(opts->requests, sizeof(*pager->loads));
	pager->parked = gm_sys_alloc_array(opts->parked, sizeof(*pager->parked));
	pager->ahead = gm_sys_alloc_array(opts->ranges, sizeof(*pager->ahead));
	if (!pager->loads || !pager->parked || !pager->ahead)
		return -ENOMEM;
	for (uint32_t i = 0; i < opts->requests; i++) {
		struct pager_load *load = &pager->loads[i];

		load->pager = pager;
		load->buf = pager->bufs + (2 + (uint64_t)i) * opts->request_len;
		load->next = pager->free;
		pager->free = load;
	}
	return 0;
}

static int open_fds(struct gm_pager *pager)
{
	int rc;

	pager->epoll = gm_sys_epoll_create();
	if (pager->epoll < 0)
		return pager->epoll;
	pager->kick = gm_sys_eventfd();
	if (pager->kick < 0)
		return pager->kick;
	pager->timer = gm_sys_timerfd();
	if (pager->timer < 0)
		return pager->timer;
	pager->kick_kind = PAGER_KICK;
	pager->timer_kind = PAGER_TIMER;
	rc = gm_sys_epoll_add(pager->epoll, pager->kick, &pager->kick_kind);
	return rc ? rc : gm_sys_epoll_add(pager->epoll, pager->timer, &pager->timer_kind);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		gm_sys_close(fd);
}

static void free_pager(struct gm_pager *pager)
{
	gm_pager_plans_end(pager);
	while (pager->areas) {
		struct pager_area *area = pager->areas;

		pager->areas = area->next;
		gm_pager_area_free(area);
	}
	while (pager->uffds) {
		struct pager_uffd *u = pager->uffds;

		pager->uffds = u->next;
		gm_pager_uffd_free(u);
	}
	while (pager->sources) {
		struct pager_source *source = pager->sources;

		pager->sources = source->next;
		gm_sys_free(source);
	}
	close_fd(pager->epoll);
	close_fd(pager->kick);
	close_fd(pager->timer);
	if (pager->journal && pager->journal != &pager->own)
		gm_sys_munmap(pager->journal, GM_PAGER_JOURNAL_LEN);
	if (pager->bufs_map)
		gm_sys_munmap(pager->bufs_map, pager->bufs_len);
	if (pager->zeros)
		gm_sys_munmap((void *)(uintptr_t)pager->zeros, pager->opts.request_len);
	gm_sys_free(pager->loads);
	gm_sys_free(pager->parked);
	gm_sys_free(pager->ahead);
	pthread_mutex_destroy(&pager->mapping);
	pthread_mutex_destroy(&pager->resolving);
	pthread_mutex_destroy(&pager->lock);
	gm_sys_free(pager);
}

int gm_pager_create(
	const struct gm_pager_opts *opts, struct gm_pager **ret_pager, struct gm_error *err)
{
	struct gm_pager_opts copy = {.size = sizeof(copy)};
	struct gm_pager *pager;
	int rc = opts ? gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy)) : 0;

	if (rc)
		return gm_opts_error(err, rc, "a pager");
	rc = check(&copy, err);
	if (rc)
		return rc;
	pager = gm_sys_alloc(sizeof(*pager));
	if (!pager)
		return gm_error_set(err, -ENOMEM, 0, 0, "pager: out of memory");
	pager->opts = copy;
	pager->epoll = -1;
	pager->kick = -1;
	pager->timer = -1;
	pager->step_len = PAGER_STEP_LEN;
	pthread_mutex_init(&pager->lock, NULL);
	pthread_mutex_init(&pager->resolving, NULL);
	pthread_mutex_init(&pager->mapping, NULL);
	rc = open_fds(pager);
	if (!rc)
		rc = map_buffers(pager);
	if (!rc)
		rc = map_journal(pager);
	if (!rc)
		rc = make_lists(pager);
	if (rc) {
		free_pager(pager);
		return gm_error_set(
			err, rc, 0, 0, "pager: it cannot be made: %s", gm_error_word(rc));
	}
	*ret_pager = pager;
	return 0;
}

uint64_t gm_pager_absent(const struct gm_pager *pager, uint64_t *ret_all)
{
	uint64_t absent = 0;
	uint64_t all = 0;

	for (const struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE); area;
		area = area->next) {
		uint64_t counts[GM_PAGE_STATES] = {0};

		if (!area->uffd || area->second ||
			__atomic_load_n(&area->uffd->dead, __ATOMIC_ACQUIRE))
			continue;
		gm_pagestate_count(area->states, 0, area->nr, counts);
		absent += (counts[GM_PAGE_ABSENT] + counts[GM_PAGE_LOADING] +
				  counts[GM_PAGE_FILLED]) *
			  area->page;
		all += area->nr * area->page;
	}
	if (ret_all)
		*ret_all = all;
	return absent;
}

int gm_pager_destroy(struct gm_pager *pager, struct gm_error *err)
{
	uint64_t absent;
	int rc;

	if (!pager)
		return 0;
	absent = pager->stopped ? 0 : gm_pager_absent(pager, NULL);
	if (absent || pager->under_way)
		return gm_error_set(err, -EBUSY, 0, absent,
			"pager: 0x%" PRIx64
			" bytes are absent, and would be zeros: gm_pager_stop() first",
			absent);
	rc = gm_pager_spaces_end(pager, err);
	if (rc)
		return rc;
	free_pager(pager);
	return 0;
}

/* ---- telling ---- */

void gm_pager_tell(
	struct gm_pager *pager, uint32_t kind, int code, const struct pager_run *run, uint64_t addr)
{
	struct gm_pager_event event = {.kind = kind, .code = code, .addr = addr};

	if (!pager->opts.told)
		return;
	if (run) {
		event.area = run->area->id;
		event.off = run->first * run->area->page;
		event.len = run->nr * run->area->page;
		event.addr = run->area->addr + event.off;
	}
	pager->opts.told(pager->opts.ctx, &event);
}

void gm_pager_kick(struct gm_pager *pager)
{
	const uint64_t one = 1;

	/* If it is full it is readable. */
	(void)!gm_sys_write(pager->kick, &one, sizeof(one));
}

int gm_pager_area(struct gm_pager *pager, uint64_t id, struct gm_pager_area_info *ret_info)
{
	const struct pager_area *area = gm_pager_find(pager, id);
	struct gm_pager_area_info info = {.size = sizeof(info), .uffd = -1};
	uint64_t counts[GM_PAGE_STATES] = {0};

	if (ret_info->size < sizeof(info))
		return -EINVAL;
	if (!area)
		return -ENOENT;
	info.size = ret_info->size;
	info.id = area->id;
	info.addr = area->addr;
	info.len = area->nr * area->page;
	info.gpa = area->gpa;
	info.page_size = area->page;
	info.way = area->way;
	memcpy(info.why, area->why, sizeof(info.why));
	if (area->uffd) {
		info.uffd = area->uffd->fd;
		gm_pagestate_count(area->states, 0, area->nr, counts);
	}
	info.absent = (counts[GM_PAGE_ABSENT] + counts[GM_PAGE_LOADING] + counts[GM_PAGE_FILLED]) *
		      area->page;
	info.present = counts[GM_PAGE_PRESENT] * area->page;
	info.removed = (counts[GM_PAGE_REMOVED] + counts[GM_PAGE_DROPPED] + counts[GM_PAGE_LOST]) *
		       area->page;
	info.poisoned = counts[GM_PAGE_POISONED] * area->page;
	*ret_info = info;
	return 0;
}

int gm_pager_stats(struct gm_pager *pager, struct gm_pager_stats *ret_stats)
{
	const uint64_t *from = (const uint64_t *)&pager->stats;
	struct gm_pager_stats stats;
	uint64_t *to = (uint64_t *)&stats;

	_Static_assert(sizeof(size_t) == sizeof(uint64_t), "all members are words");
	if (ret_stats->size < sizeof(stats))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(stats) / sizeof(uint64_t); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	stats.size = ret_stats->size;
	/* Counted by class. */
	for (size_t k = 0; k < GM_PAGER_CLASSES; k++) {
		for (size_t i = 0; i < GM_PAGER_BUCKETS; i++)
			stats.latency[i] += stats.class_latency[k][i];
	}
	*ret_stats = stats;
	return 0;
}
