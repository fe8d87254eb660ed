/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pager_add.c - areas: checked, their way chosen, their states and second mapping made, then registered.
 *
 * Areas go with the pager only: whoever has found one may use it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/pager.h"
#include "services/pager_present.h"
#include "services/source.h"
#include "sys/uapi.h"

#define VMA_SHARED 0x08u /* procmap_query.vma_flags */
#define KNOWN                                                                                      \
	(GM_PAGER_SIGBUS | GM_PAGER_EVENTS | GM_PAGER_USER_ONLY | GM_PAGER_REMOVED_ZERO |          \
		GM_PAGER_FILE | GM_PAGER_STATES | GM_PAGER_TAKEOVER | GM_PAGER_PRESENT |           \
		GM_PAGER_MAY_MAP)

int gm_pager_opts_check(const struct gm_pager_area_opts *opts, struct gm_pager_area_opts *copy,
	uint32_t known, struct gm_error *err)
{
	int rc = gm_opts_copy(copy, sizeof(*copy), opts, sizeof(*copy));

	if (rc)
		return gm_opts_error(err, rc, "an area of a pager");
	if ((copy->flags & ~known) || copy->way > GM_PAGER_PROTECT)
		return gm_error_set(err, -EINVAL, 0, 0,
			"pager: flags 0x%x, way %u are not for this memory", copy->flags,
			copy->way);
	if (copy->way == GM_PAGER_PROTECT && (copy->flags & (GM_PAGER_STATES | GM_PAGER_TAKEOVER)))
		return gm_error_set(
			err, -EINVAL, 0, 0, "pager: memory that is there needs no states");
	if (!(copy->flags & GM_PAGER_PRESENT) != !copy->present ||
		((copy->flags & GM_PAGER_PRESENT) &&
			(copy->flags & (GM_PAGER_TAKEOVER | GM_PAGER_EVENTS))))
		return gm_error_set(err, -EINVAL, 0, 0,
			"pager: a bitmap of what is present comes with GM_PAGER_PRESENT, without "
			"GM_PAGER_TAKEOVER and GM_PAGER_EVENTS");
	if ((copy->flags & GM_PAGER_TAKEOVER) && !(copy->flags & GM_PAGER_STATES))
		return gm_error_set(
			err, -EINVAL, 0, 0, "pager: whoever takes over needs the states");
	return 0;
}

uint64_t gm_pager_states_len(uint64_t pages)
{
	uint64_t page = gm_sys_page_size();
	uint64_t len = gm_pagestate_words(pages) * 8;

	return len ? ((len - 1) / page + 1) * page : page;
}

int gm_pager_states_map(struct pager_area *area, int fd, uint64_t off, struct gm_error *err)
{
	uint64_t len = gm_pager_states_len(area->nr);
	void *at;
	int rc = gm_sys_mmap(NULL, len, PROT_READ | PROT_WRITE,
		fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED, fd, off, &at);

	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"pager: states of %" PRIu64 " pages cannot be mapped: %s", area->nr,
			gm_error_word(rc));
	area->states = at;
	area->states_len = len;
	return 0;
}

void gm_pager_area_free(struct pager_area *area)
{
	if (area->states && !area->second)
		gm_sys_munmap(area->states, area->states_len);
	if (area->file && !area->borrowed)
		gm_sys_munmap(area->file, area->nr * area->page);
	if (area->raw && !area->borrowed)
		gm_sys_munmap((void *)(uintptr_t)area->raw, area->nr * area->page);
	if (area->fd >= 0 && !area->borrowed)
		gm_sys_close(area->fd);
	if (!area->borrowed)
		gm_block_put(area->block);
	gm_wset_recorder_destroy(area->record);
	gm_sys_free(area);
}

void gm_pager_area_publish(struct gm_pager *pager, struct pager_area *area)
{
	pthread_mutex_lock(&pager->lock);
	area->id = ++pager->area_ids;
	area->next = pager->areas;
	__atomic_store_n(&pager->areas, area, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&pager->lock);
}

struct pager_area *gm_pager_find(struct gm_pager *pager, uint64_t id)
{
	struct pager_area *area = __atomic_load_n(&pager->areas, __ATOMIC_ACQUIRE);

	while (area && area->id != id)
		area = area->next;
	return area;
}

/* ---- sources ---- */

static int get_source(struct gm_pager *pager, struct gm_source *source, struct pager_source **ret,
	struct gm_error *err)
{
	struct pager_source *s;
	int rc = 0;

	pthread_mutex_lock(&pager->lock);
	for (s = pager->sources; s && s->source != source; s = s->next)
		;
	if (!s) {
		s = gm_sys_alloc(sizeof(*s));
		rc = s ? 0 : -ENOMEM;
		if (s) {
			s->kind = PAGER_SOURCE;
			s->source = source;
			s->fd = gm_source_fd(source);
			if (s->fd >= 0)
				rc = gm_sys_epoll_add(pager->epoll, s->fd, s);
		}
		if (!rc) {
			s->next = pager->sources;
			pager->sources = s;
		}
	}
	pthread_mutex_unlock(&pager->lock);
	if (rc) {
		gm_sys_free(s);
		return gm_error_set(err, rc, 0, 0, "pager: a source cannot be waited for: %s",
			gm_error_word(rc));
	}
	*ret = s;
	return 0;
}

/* ---- the way ---- */

static int choose(struct pager_area *area, const struct pager_place *place, uint32_t asked,
	struct gm_error *err)
{
	bool file = place->fd >= 0;

	area->way = asked;
	if (asked == GM_PAGER_AUTO)
		area->way = file ? GM_PAGER_CONTINUE : GM_PAGER_COPY;
	if (area->way == GM_PAGER_CONTINUE && !file)
		return gm_error_set(err, -ENOTSUP, place->gpa, place->len,
			"pager: this memory has no file (a shared block, GM_PAGER_FILE), so it can "
			"be copied into only");
	if (area->way == GM_PAGER_MOVE)
		return gm_pager_move_check(area, place, err);
	if (area->way == GM_PAGER_PROTECT && area->source)
		return gm_error_set(err, -EINVAL, place->gpa, place->len,
			"pager: memory that is there needs no source");
	if (!area->source && area->way != GM_PAGER_CONTINUE && area->way != GM_PAGER_PROTECT)
		return gm_error_set(err, -EINVAL, place->gpa, place->len,
			"pager: without a source the bytes have to be in the file behind the "
			"memory");
	if (area->way == GM_PAGER_COPY && area->page > area->uffd->pager->opts.request_len)
		return gm_error_set(err, -EINVAL, place->gpa, place->len,
			"pager: pages of 0x%" PRIx64
			" bytes are copied from a buffer: request_len is 0x%" PRIx64,
			area->page, area->uffd->pager->opts.request_len);
	if (place->why_not && area->way == GM_PAGER_COPY) {
		snprintf(area->why, sizeof(area->why), "bytes are copied in: %.100s",
			place->why_not->text);
		return 0;
	}
	snprintf(area->why, sizeof(area->why), "%s%s", asked == GM_PAGER_AUTO ? "" : "asked for: ",
		area->way == GM_PAGER_PROTECT ? "it is there, and can be saved while it is used"
		: area->way == GM_PAGER_COPY
			? "memory without a file of its own: bytes are copied in"
		: area->source ? "its file can be written by a second mapping: no copy, other "
				 "mappings see it"
			       : "the bytes are in its file");
	return 0;
}

static int map_file(struct pager_area *area, const struct pager_place *place, struct gm_error *err)
{
	void *at;
	int rc;

	if (place->fd < 0)
		return 0;
	area->fd = gm_sys_dup(place->fd);
	area->fd_off = place->fd_off;
	if (area->fd < 0)
		return gm_error_set(err, area->fd, 0, 0, "pager: fd %d cannot be kept: %s",
			place->fd, gm_error_word(area->fd));
	if (area->way != GM_PAGER_CONTINUE || !area->source)
		return 0;
	rc = gm_sys_mmap(NULL, place->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
		area->fd, place->fd_off, &at);
	if (rc)
		return gm_error_set(err, rc, place->gpa, place->len,
			"pager: the file behind the memory cannot be mapped: %s",
			gm_error_word(rc));
	area->file = at;
	return 0;
}

/* A raw file of whole pages is copied from where the page cache has it. Without the mapping it is read. */
static void map_raw(struct pager_area *area)
{
	uint64_t mask = gm_sys_page_size() - 1;
	struct gm_source_extent extent;
	void *at;

	if (area->way != GM_PAGER_COPY || !area->source || area->source->fd >= 0 ||
		gm_source_extent_within(area->source->source, area->offset, 1, &extent) ||
		extent.kind != GM_SOURCE_RAW || (extent.fd_off & mask) ||
		gm_sys_mmap(NULL, area->nr * area->page, PROT_READ, MAP_SHARED | MAP_NORESERVE,
			extent.fd, extent.fd_off, &at))
		return;
	area->raw = at;
	area->raw_fd = extent.fd;
	area->raw_off = extent.fd_off;
}

/* ---- one area ---- */

static int check_place(const struct gm_pager *pager, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, struct gm_error *err)
{
	struct gm_range range;
	uint64_t len;

	if (pager->stopped)
		return gm_error_set(err, -EBUSY, 0, 0, "pager: it was stopped");
	if (!gm_is_pow2(place->page) || place->page < gm_sys_page_size() || place->len == 0 ||
		((place->addr | place->len) & (place->page - 1)) ||
		!gm_range_make(place->addr, place->len, &range))
		return gm_error_set(err, -EINVAL, place->gpa, place->len,
			"pager: 0x%" PRIx64 " bytes at 0x%" PRIx64
			" are not whole pages of 0x%" PRIx64,
			place->len, place->addr, place->page);
	len = opts->source ? gm_source_len(opts->source) : UINT64_MAX;
	if (opts->source && (opts->offset > len || place->offset > len - opts->offset ||
				    place->len > len - opts->offset - place->offset))
		return gm_error_set(err, -ERANGE, place->gpa, place->len,
			"pager: byte 0x%" PRIx64 " and 0x%" PRIx64
			" more are wanted of a source of 0x%" PRIx64,
			opts->offset, place->offset + place->len, len);
	return gm_pager_present_check(place, opts, err);
}

/* Of a file. With @go_on half-done pages are loaded again, and what is whole in the memory's file stays. */
static void begin_states(struct pager_area *area, bool go_on)
{
	const uint32_t all = (1u << GM_PAGE_STATES) - 1;

	gm_pagestate_turn(area->states, 0, area->nr,
		go_on ? PAGER_IN(GM_PAGE_LOADING) : all & ~PAGER_IN(GM_PAGE_ABSENT),
		GM_PAGE_ABSENT);
	gm_pagestate_turn(area->states, 0, area->nr, PAGER_IN(GM_PAGE_DROPPED), GM_PAGE_REMOVED);
}

/* With the userfaultfd's lock: faults are told from now on. */
static int arm(struct pager_area *area, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, struct gm_error *err)
{
	struct pager_spot spot = {.start = place->addr, .nr = area->nr, .area = area};
	struct uffdio_range range = {place->addr, place->len};
	struct pager_uffd *u = area->uffd;
	int rc = gm_pager_spot_add(u, &spot);

	if (rc)
		return gm_error_set(err, rc, place->gpa, place->len,
			"pager: memory at 0x%" PRIx64 ": %s", place->addr,
			rc == -EEXIST ? "an area is there already" : gm_error_word(rc));
	rc = u->local ? gm_pager_uffd_register(u, area, err) : 0;
	if (!rc && (opts->flags & GM_PAGER_PRESENT)) {
		rc = gm_pager_present_clear(area, place, opts, err);
		if (rc)
			gm_sys_ioctl(u->fd, UFFDIO_UNREGISTER, &range);
	}
	if (rc)
		gm_pager_spot_cut(u, place->addr, place->len);
	return rc;
}

static int build(struct pager_area *area, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, struct gm_error *err)
{
	struct pager_uffd *u = area->uffd;
	int rc = choose(area, place, opts->way, err);

	if (!rc && (opts->flags & GM_PAGER_PRESENT))
		rc = gm_pager_present_way(area, place, err);
	if (!rc)
		rc = map_file(area, place, err);
	if (!rc)
		rc = gm_pager_states_map(area, (opts->flags & GM_PAGER_STATES) ? opts->states : -1,
			opts->states_off, err);
	if (rc)
		return rc;
	if (area->way == GM_PAGER_PROTECT)
		gm_pagestate_turn(
			area->states, 0, area->nr, PAGER_IN(GM_PAGE_ABSENT), GM_PAGE_PRESENT);
	map_raw(area);
	if (opts->flags & GM_PAGER_STATES)
		begin_states(area, opts->flags & GM_PAGER_TAKEOVER);
	if (opts->flags & GM_PAGER_PRESENT)
		gm_pager_present_note(area, place, opts);
	pthread_rwlock_wrlock(&u->lock);
	rc = arm(area, place, opts, err);
	pthread_rwlock_unlock(&u->lock);
	return rc;
}

int gm_pager_add(struct gm_pager *pager, struct pager_uffd *u, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err)
{
	struct pager_area *area;
	int rc = check_place(pager, place, opts, err);

	if (rc)
		return rc;
	area = gm_sys_alloc(sizeof(*area));
	if (!area)
		return gm_error_set(err, -ENOMEM, place->gpa, place->len, "pager: out of memory");
	area->uffd = u;
	area->offset = opts->offset + place->offset;
	area->page = place->page;
	area->nr = place->len / place->page;
	area->addr = place->addr;
	area->gpa = place->gpa;
	area->flags = opts->flags;
	area->fd = -1;
	area->huge = place->huge;
	area->shared = place->shared;
	area->space = place->space;
	area->block_off = place->block_off;
	if (place->block)
		area->block = gm_block_get(place->block);
	if (opts->source)
		rc = get_source(pager, opts->source, &area->source, err);
	if (!rc)
		rc = build(area, place, opts, err);
	if (rc) {
		gm_pager_area_free(area);
		return rc;
	}
	gm_pager_area_publish(pager, area);
	/* All who wait are reported again. */
	if (opts->flags & GM_PAGER_TAKEOVER)
		gm_pager_uffd_wake(u, area->addr, place->len);
	gm_pager_kick(pager);
	if (ret_area)
		*ret_area = area->id;
	return 0;
}

/* ---- memory of this process ---- */

/* Page size of the mapping, and whether it is shared. Mappings of other sorts are refused when they are registered. */
static int ask(const void *addr, struct pager_place *place)
{
	struct procmap_query query = {.size = sizeof(query), .query_addr = (uintptr_t)addr};
	int fd = gm_sys_open("/proc/self/maps", 0, 0);
	int rc;

	if (fd < 0)
		return fd;
	do {
		rc = gm_sys_ioctl(fd, PROCMAP_QUERY, &query);
	} while (rc == -EINTR);
	gm_sys_close(fd);
	if (rc < 0)
		return rc;
	place->shared = query.vma_flags & VMA_SHARED;
	place->page = query.vma_page_size;
	return 0;
}

static int add_own(struct gm_pager *pager, const struct pager_place *place,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err)
{
	struct pager_uffd *u;
	int rc = check_place(pager, place, opts, err);

	if (!rc)
		rc = gm_pager_uffd_open(pager, opts->flags, &u, err);
	if (rc)
		return rc;
	/* Without an area it is idle until the pager goes. */
	return gm_pager_add(pager, u, place, opts, ret_area, err);
}

/* What the caller says of a place goes before what was found out. */
static void apply(struct pager_place *place, const struct gm_pager_area_opts *opts)
{
	if (opts->page_size)
		place->page = opts->page_size;
	place->huge = place->page > gm_sys_page_size();
	if (opts->flags & GM_PAGER_FILE) {
		place->fd = opts->fd;
		place->fd_off = opts->fd_off;
	}
}

/* With messages, a file behind the memory or states it is to be served by hand. */
static bool may_map(const struct gm_pager_area_opts *opts)
{
	const uint32_t by_hand = GM_PAGER_SIGBUS | GM_PAGER_EVENTS | GM_PAGER_FILE |
				 GM_PAGER_STATES | GM_PAGER_PRESENT;

	return (opts->flags & GM_PAGER_MAY_MAP) && opts->way == GM_PAGER_AUTO &&
	       !(opts->flags & by_hand);
}

int gm_pager_add_range(struct gm_pager *pager, void *addr, uint64_t len,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err)
{
	struct gm_pager_area_opts copy;
	struct pager_place place = {.addr = (uintptr_t)addr, .len = len, .fd = -1};
	struct gm_error why_not;
	int rc = gm_pager_opts_check(opts, &copy, KNOWN, err);

	if (rc)
		return rc;
	rc = ask(addr, &place);
	if (rc && (!copy.page_size || (copy.flags & GM_PAGER_PRESENT)))
		return gm_error_set(err, rc, 0, len,
			"pager: what is mapped at %p is not known, nor its page size: %s", addr,
			gm_error_word(rc));
	apply(&place, &copy);
	if (copy.way == GM_PAGER_MAP && !(copy.flags & GM_PAGER_PRESENT))
		return gm_pager_map(pager, &place, &copy, ret_area, err);
	/* What cannot be mapped is copied; nothing was done yet. */
	if (may_map(&copy)) {
		if (!gm_pager_map(pager, &place, &copy, ret_area, &why_not))
			return 0;
		place.why_not = &why_not;
	}
	return add_own(pager, &place, &copy, ret_area, err);
}

/* ---- memory of others ---- */

int gm_pager_add_uffd(
	struct gm_pager *pager, int uffd, int32_t pid, uint64_t *ret_uffd, struct gm_error *err)
{
	struct pager_uffd *u;
	int fd = gm_sys_dup(uffd);
	int rc;

	if (fd < 0)
		return gm_error_set(
			err, fd, 0, 0, "pager: fd %d cannot be kept: %s", uffd, gm_error_word(fd));
	rc = gm_pager_uffd_adopt(pager, fd, &u, err);
	if (rc) {
		gm_sys_close(fd);
		return rc;
	}
	u->pid = pid;
	*ret_uffd = u->id;
	return 0;
}

int gm_pager_add_mapping(struct gm_pager *pager, uint64_t uffd, uint64_t addr, uint64_t len,
	const struct gm_pager_area_opts *opts, uint64_t *ret_area, struct gm_error *err)
{
	struct pager_uffd *u = __atomic_load_n(&pager->uffds, __ATOMIC_ACQUIRE);
	struct pager_place place = {.addr = addr, .len = len, .fd = -1, .page = 4096};
	struct gm_pager_area_opts copy;
	int rc = gm_pager_opts_check(opts, &copy,
		KNOWN & ~(GM_PAGER_SIGBUS | GM_PAGER_EVENTS | GM_PAGER_USER_ONLY |
				GM_PAGER_PRESENT | GM_PAGER_MAY_MAP),
		err);

	while (u && u->id != uffd)
		u = u->next;
	if (!rc && (!u || copy.way >= GM_PAGER_MAP))
		return gm_error_set(err, -EINVAL, 0, len,
			"pager: no userfaultfd %" PRIu64 ", or not this way", uffd);
	if (rc)
		return rc;
	apply(&place, &copy);
	place.shared = copy.flags & GM_PAGER_FILE;
	return gm_pager_add(pager, u, &place, &copy, ret_area, err);
}
