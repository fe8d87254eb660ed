/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watch.c - see watch.h.
 *
 * The list of stretches follows the space's listener calls. A scan with PM_SCAN_WP_MATCHING finds what was written
 * and protects it in one step, page by page under the kernel's lock, so no write falls between. Where memory
 * goes it is harvested before it does; where it comes, the commit marks it.
 */
#include <guestmem/watch.h>

#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>

#include "core/error.h"
#include "memory/listener.h"
#include "services/pagemap.h"
#include "services/wp_async.h"
#include "sys/probe.h"
#include "sys/sys.h"
#include "sys/uapi.h"
#include "sys/uffd.h"

#define REGIONS 512u      /* what the kernel itself collects at a time */
#define NEAR (256u << 10) /* bytes between written pages that are not worth a call of their own */

struct stretch {
	struct stretch *next;
	uint64_t gpa;
	uint64_t hva;
	uint64_t len;
};

struct gm_watch {
	struct gm_space *space;
	struct gm_listener *listener;
	struct gm_reader *reader;
	struct stretch *stretches;
	pthread_mutex_t lock; /* stretches, reader, seen, found */
	int uffd;
	int pagemap;
	struct page_region seen[REGIONS], found[REGIONS];
};

/* ---- the kernel ---- */

static int open_uffd(struct gm_error *err)
{
	int why;
	int fd = gm_wp_async_open(&why);

	if (why)
		return gm_error_set(err, fd, 0, 0,
			"watch: the kernel has no asynchronous write protection (Linux 6.7): %s",
			gm_error_word(why));
	if (fd < 0)
		return gm_error_set(err, fd, 0, 0, "watch: no userfaultfd: %s%s", gm_error_word(fd),
			gm_uffd_hint(fd));
	return fd;
}

static int protect(struct gm_watch *watch, const struct stretch *s, struct gm_error *err)
{
	struct uffdio_register reg = {.range = {s->hva, s->len}, .mode = UFFDIO_REGISTER_MODE_WP};
	struct uffdio_writeprotect wp = {
		.range = {s->hva, s->len}, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
	int rc = gm_sys_ioctl(watch->uffd, UFFDIO_REGISTER, &reg);

	if (rc < 0)
		return gm_error_set(err, rc, s->gpa, s->len,
			"watch: memory at gpa 0x%" PRIx64 " cannot be watched: %s%s", s->gpa,
			gm_error_word(rc), rc == -EBUSY ? " (another userfaultfd has it)" : "");
	do {
		rc = gm_sys_ioctl(watch->uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (rc == -EAGAIN || rc == -EINTR);
	if (rc < 0) {
		gm_sys_ioctl(watch->uffd, UFFDIO_UNREGISTER, &reg.range);
		return gm_error_set(err, rc, s->gpa, s->len,
			"watch: memory at gpa 0x%" PRIx64 " cannot be protected: %s", s->gpa,
			gm_error_word(rc));
	}
	return 0;
}

/* Unless it is reached by another name in the same place. */
static void unprotect(struct gm_watch *watch, const struct stretch *s)
{
	struct uffdio_range range = {s->hva, s->len};

	for (const struct stretch *other = watch->stretches; other; other = other->next) {
		if (other->hva - s->hva < s->len || s->hva - other->hva < other->len)
			return;
	}
	gm_sys_ioctl(watch->uffd, UFFDIO_UNREGISTER, &range);
}

/* A scan of [@start, @end) for written pages into @room. */
static struct pm_scan_arg scan_written(
	uint64_t start, uint64_t end, const struct page_region *room, uint64_t flags)
{
	return (struct pm_scan_arg){
		.size = sizeof(struct pm_scan_arg),
		.flags = flags | PM_SCAN_CHECK_WPASYNC,
		.start = start,
		.end = end,
		.vec = (uintptr_t)room,
		.vec_len = REGIONS,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
}

/* What was written in [@start, @end) of @s is marked, and protected again. */
static int take(struct gm_watch *watch, const struct stretch *s, uint64_t start, uint64_t end,
	uint64_t *bytes)
{
	struct pm_scan_arg arg = scan_written(start, end, watch->found, PM_SCAN_WP_MATCHING);
	bool more;
	int nr;

	do {
		nr = gm_pagemap_scan(watch->pagemap, &arg, &more);
		for (int i = 0; i < nr; i++) {
			const struct page_region *region = &watch->found[i];
			uint64_t len = region->end - region->start;

			gm_view_mark(gm_reader_enter(watch->reader),
				s->gpa + (region->start - s->hva), len);
			gm_reader_leave(watch->reader);
			*bytes += len;
		}
	} while (more);
	return nr < 0 ? nr : 0;
}

/* How many of @nr extents from @i on are protected by one call. */
static int joined(const struct page_region *seen, int i, int nr)
{
	int first = i;

	while (i + 1 < nr && seen[i + 1].start - seen[i].end <= NEAR)
		i++;
	return i + 1 - first;
}

/*
 * With the lock. Before the kernel protects it takes the whole range asked for from KVM's tables, also when nothing in
 * it was written: so a harvest looks first, and asks for what is around written pages.
 */
static int harvest(struct gm_watch *watch, const struct stretch *s, uint64_t *bytes)
{
	struct pm_scan_arg look = scan_written(s->hva, s->hva + s->len, watch->seen, 0);
	bool more;
	int nr;

	do {
		nr = gm_pagemap_scan(watch->pagemap, &look, &more);
		for (int i = 0; i < nr;) {
			const struct page_region *first = &watch->seen[i];
			int rc;

			i += joined(watch->seen, i, nr);
			rc = take(watch, s, first->start, watch->seen[i - 1].end, bytes);
			if (rc)
				return rc;
		}
	} while (more);
	return nr < 0 ? nr : 0;
}

/* ---- as a listener ---- */

static int on_add(void *ctx, const struct gm_section *section, struct gm_error *err)
{
	struct gm_watch *watch = ctx;
	struct stretch *s;
	int rc;

	if (!section->hva)
		return 0;
	s = gm_sys_alloc(sizeof(*s));
	if (!s)
		return gm_error_set(
			err, -ENOMEM, section->gpa, section->len, "watch: out of memory");
	s->gpa = section->gpa;
	s->hva = (uintptr_t)section->hva;
	s->len = section->len;
	rc = protect(watch, s, err);
	if (rc) {
		gm_sys_free(s);
		return rc;
	}
	pthread_mutex_lock(&watch->lock);
	s->next = watch->stretches;
	watch->stretches = s;
	pthread_mutex_unlock(&watch->lock);
	return 0;
}

static void on_remove(void *ctx, const struct gm_section *section)
{
	struct gm_watch *watch = ctx;
	struct stretch **at;
	struct stretch *s;
	uint64_t bytes = 0;

	pthread_mutex_lock(&watch->lock);
	for (at = &watch->stretches; *at && (*at)->gpa != section->gpa; at = &(*at)->next)
		;
	s = *at;
	if (s) {
		*at = s->next;
		harvest(watch, s, &bytes);
		unprotect(watch, s);
		gm_sys_free(s);
	}
	pthread_mutex_unlock(&watch->lock);
}

/* ---- life ---- */

static void free_watch(struct gm_watch *watch)
{
	while (watch->stretches) {
		struct stretch *s = watch->stretches;

		watch->stretches = s->next;
		unprotect(watch, s);
		gm_sys_free(s);
	}
	gm_reader_destroy(watch->reader);
	if (watch->pagemap >= 0)
		gm_sys_close(watch->pagemap);
	if (watch->uffd >= 0)
		gm_sys_close(watch->uffd);
	pthread_mutex_destroy(&watch->lock);
	gm_sys_free(watch);
}

static int open_all(struct gm_watch *watch, struct gm_error *err)
{
	struct gm_listener_ops ops = {
		.size = sizeof(ops),
		.name = "watch",
		.kinds = GM_KINDS_MEMORY &
			 ~(GM_KIND_BIT(GM_REGION_ROM) | GM_KIND_BIT(GM_REGION_DEVMEM)),
		.join = GM_JOIN_NONE,
		.remove = on_remove,
		.add = on_add,
		.ctx = watch,
	};
	int rc;

	watch->uffd = open_uffd(err);
	if (watch->uffd < 0)
		return watch->uffd;
	watch->pagemap = gm_sys_open("/proc/self/pagemap", 0, 0);
	if (watch->pagemap < 0)
		return gm_error_set(err, watch->pagemap, 0, 0, "watch: /proc/self/pagemap: %s",
			gm_error_word(watch->pagemap));
	rc = gm_reader_create(watch->space, "watch", &watch->reader, err);
	if (rc)
		return rc;
	return gm_listener_create(watch->space, &ops, &watch->listener, err);
}

int gm_watch_create(struct gm_space *space, struct gm_watch **ret_watch, struct gm_error *err)
{
	struct gm_watch *watch = gm_sys_alloc(sizeof(*watch));
	int rc;

	if (!watch)
		return gm_error_set(err, -ENOMEM, 0, 0, "watch: out of memory");
	watch->space = space;
	watch->uffd = -1;
	watch->pagemap = -1;
	pthread_mutex_init(&watch->lock, NULL);
	rc = open_all(watch, err);
	if (rc) {
		free_watch(watch);
		return rc;
	}
	*ret_watch = watch;
	return 0;
}

int gm_watch_harvest(struct gm_watch *watch, uint64_t *ret_bytes, struct gm_error *err)
{
	uint64_t bytes = 0;
	int rc = 0;

	pthread_mutex_lock(&watch->lock);
	for (const struct stretch *s = watch->stretches; s && !rc; s = s->next) {
		rc = harvest(watch, s, &bytes);
		if (rc)
			gm_error_set(err, rc, s->gpa, s->len,
				"watch: memory at gpa 0x%" PRIx64 " cannot be scanned: %s", s->gpa,
				gm_error_word(rc));
	}
	pthread_mutex_unlock(&watch->lock);
	GM_PROBE2(watch_harvest, bytes, rc);
	if (ret_bytes)
		*ret_bytes = bytes;
	return rc;
}

int gm_watch_destroy(struct gm_watch *watch, struct gm_error *err)
{
	int rc;

	if (!watch)
		return 0;
	rc = gm_listener_destroy(watch->listener, err);
	if (rc)
		return rc;
	free_watch(watch);
	return 0;
}
