/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grant_map.c - memory of a grant, and what the MMU lets through.
 *
 * A base is mapped in pieces, by one of two fds of its file: one that is open for reading only, so that
 * mprotect() cannot make such a mapping writable, and one for both. What is not granted is a reservation.
 * Each exchange is one mmap() over what was there, so readers of the rest are not disturbed.
 */
#include "memory/grant.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "core/error.h"
#include "memory/annotate.h"
#include "sys/sys.h"
#include "sys/whole.h"

/* ---- bases ---- */

static int open_read_only(int fd)
{
	char path[40];
	int rc;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	do {
		rc = gm_sys_open(path, O_RDONLY, 0);
	} while (rc == -EINTR);
	return rc;
}

static int cannot_narrow(const struct gm_grant *grant, const struct gm_section *section, int rc,
	struct gm_error *err)
{
	return gm_error_set(err, rc, section->gpa, section->len,
		"%s: cannot open the file of block \"%s\" for reading only (by /proc/self/fd): %s",
		grant->name, section->block->name, gm_error_word(rc));
}

/* An fd for the memory of a section; *ret_own if it is to be closed. */
static int find_fd(const struct gm_grant *grant, const struct gm_section *section, bool writable,
	int *ret_fd, bool *ret_own, struct gm_error *err)
{
	const struct gm_block *block = section->block;
	int flags;

	*ret_own = false;
	if (!gm_block_is_shareable(block))
		return gm_error_set(err, -ENOTSUP, section->gpa, section->len,
			"%s: the memory at gpa 0x%" PRIx64 " (block \"%s\") has no fd that can be "
			"mapped again: %s",
			grant->name, section->gpa, block->name,
			block->opts.backing == GM_BACKING_OPS
				? "callbacks provide it"
				: "make it with GM_BLOCK_SHARE, or grant a shadow");
	*ret_fd = block->fd;
	if (writable)
		return 0;
	flags = gm_sys_open_flags(block->fd);
	if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY)
		return 0;
	*ret_fd = flags < 0 ? flags : open_read_only(block->fd);
	*ret_own = *ret_fd >= 0;
	return *ret_own ? 0 : cannot_narrow(grant, section, *ret_fd, err);
}

/*
 * A file of the grant's own. The peer may have it for writing: it can shrink the file but not make it grow
 * again, nor seal it so that it could not be truncated.
 */
static int make_shadow(struct gm_grant *grant, uint64_t len, int *ret_fd, struct gm_error *err)
{
	int fd = gm_sys_memfd(grant->name, MFD_ALLOW_SEALING);
	int rc;

	if (fd < 0)
		return gm_error_set(err, fd, 0, len, "%s: cannot make a shadow: %s", grant->name,
			gm_error_word(fd));
	rc = gm_set_length(fd, len);
	if (!rc)
		rc = gm_sys_add_seals(fd, F_SEAL_GROW | F_SEAL_SEAL);
	if (rc) {
		gm_sys_close(fd);
		return gm_error_set(err, rc, 0, len,
			"%s: cannot size and seal a shadow of %" PRIu64 " bytes: %s", grant->name,
			len, gm_error_word(rc));
	}
	*ret_fd = fd;
	return 0;
}

static int make_block(
	struct gm_grant *grant, struct gm_base *base, uint64_t offset, int fd, struct gm_error *err)
{
	const struct gm_block_opts opts = {
		.size = sizeof(opts),
		.len = gm_range_len(&base->range),
		.backing = GM_BACKING_FD,
		.flags = base->writable ? 0 : GM_BLOCK_READONLY,
		.fd = fd,
		.offset = offset,
		.name = base->source->name,
	};
	struct gm_error why = {0};
	int rc = -EEXIST;

	if (grant->space->window)
		rc = gm_block_create_dark(
			&opts, grant->space->window, base->range.first, &base->block, &why);
	/* Held by what was there before, or above the limit. */
	if (rc == -EEXIST || rc == -ERANGE)
		rc = gm_block_create_dark(&opts, NULL, 0, &base->block, &why);
	if (rc)
		return gm_error_pass(err, &why, rc);
	gm_map_get(&base->block->home);
	return 0;
}

/* The block by an fd, and the fd for reading beside it. */
static int fill(struct gm_grant *grant, struct gm_base *base, const struct gm_section *section,
	struct gm_error *err)
{
	bool shadow = grant->flags & GM_GRANT_SHADOW;
	uint64_t offset = shadow ? 0 : section->block->offset + base->source_off;
	bool own = true;
	int fd = -1;
	int rc;

	if (shadow)
		rc = make_shadow(grant, gm_range_len(&base->range), &fd, err);
	else
		rc = find_fd(grant, section, base->writable, &fd, &own, err);
	if (rc)
		return rc;
	rc = make_block(grant, base, offset, fd, err);
	if (own)
		gm_sys_close(fd);
	if (rc)
		return rc;
	base->ro_fd = base->block->fd;
	if (!base->writable)
		return 0;
	base->ro_fd = open_read_only(base->block->fd);
	return base->ro_fd < 0 ? cannot_narrow(grant, section, base->ro_fd, err) : 0;
}

int gm_grant_check_pages(const struct gm_grant *grant, const struct gm_block *block,
	const struct gm_range *range, struct gm_error *err)
{
	if (gm_is_aligned(range->first | (range->last + 1), block->page_size))
		return 0;
	return gm_error_set(err, -EINVAL, range->first, gm_range_len(range),
		"%s: [0x%" PRIx64 ", 0x%" PRIx64
		"] is not made of whole pages of block \"%s\", which have %" PRIu64 " bytes",
		grant->name, range->first, range->last, block->name, block->page_size);
}

int gm_base_create(struct gm_grant *grant, const struct gm_section *section,
	const struct gm_range *range, uint32_t perms, struct gm_base **ret, struct gm_error *err)
{
	struct gm_base *base;
	int rc = 0;

	if (!(grant->flags & GM_GRANT_SHADOW))
		rc = gm_grant_check_pages(grant, section->block, range, err);
	if (rc)
		return rc;
	base = gm_sys_alloc(sizeof(*base));
	if (!base)
		return gm_error_set(
			err, -ENOMEM, range->first, 0, "%s: out of memory", grant->name);
	base->range = *range;
	base->source = gm_block_get(section->block);
	base->source_off = section->block_off + (range->first - section->gpa);
	base->kind = section->kind == GM_REGION_ROMD ? GM_REGION_ROM : section->kind;
	/* The host writes its own shadow by the fd, whatever the peer may. */
	base->writable = (perms & GM_PERM_W) || (grant->flags & GM_GRANT_SHADOW);
	base->ro_fd = -1;
	rc = fill(grant, base, section, err);
	if (rc)
		gm_base_free(base, false);
	else
		*ret = base;
	return rc;
}

void gm_base_free(struct gm_base *base, bool shadow)
{
	struct gm_block *block = base->block;

	if (base->writable && base->ro_fd >= 0)
		gm_sys_close(base->ro_fd);
	if (block && shadow)
		(void)gm_set_length(block->fd, 0);
	if (block) {
		/* The mapping's reference keeps the block; with no other it goes where it is. */
		struct gm_map *home = &block->home;

		gm_block_put(block);
		gm_map_put(home);
	}
	gm_block_put(base->source);
	gm_sys_free(base);
}

bool gm_base_serves(
	const struct gm_base *base, const struct gm_section *section, uint64_t addr, uint32_t perms)
{
	uint32_t kind = section->kind == GM_REGION_ROMD ? GM_REGION_ROM : section->kind;

	return !base->gone && base->source == section->block && base->kind == kind &&
	       gm_range_has(&base->range, addr) && (base->writable || !(perms & GM_PERM_W)) &&
	       base->source_off + (addr - base->range.first) ==
		       section->block_off + (addr - section->gpa);
}

/* ---- the MMU ---- */

static int prot_of(uint32_t perms)
{
	if (perms & GM_PERM_W)
		return PROT_READ | PROT_WRITE;
	return perms ? PROT_READ : PROT_NONE;
}

static int map_part(
	const struct gm_base *base, const struct gm_range *range, int prot, struct gm_error *err)
{
	const struct gm_block *block = base->block;
	uint64_t off = range->first - base->range.first;
	uint8_t *hva = block->home.hva + off;
	uint64_t len = gm_range_len(range);
	void *ptr;
	int rc;

	/* The same bytes once more are no write to the sanitizer's memory. */
	if (prot != PROT_NONE)
		GM_TSAN(AnnotateIgnoreWritesBegin(__FILE__, __LINE__));
	if (prot == PROT_NONE)
		rc = gm_sys_mmap(hva, len, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0, &ptr);
	else
		rc = gm_sys_mmap(hva, len, prot, MAP_SHARED | MAP_FIXED,
			prot & PROT_WRITE ? block->fd : base->ro_fd, block->offset + off, &ptr);
	if (prot != PROT_NONE)
		GM_TSAN(AnnotateIgnoreWritesEnd(__FILE__, __LINE__));
	if (!rc && prot != PROT_NONE) {
		rc = gm_sys_madvise(hva, len, MADV_DONTDUMP);
		if (!rc)
			rc = gm_sys_madvise(hva, len, MADV_DONTFORK);
	}
	if (rc)
		return gm_error_set(err, rc, range->first, len,
			"%s: cannot map %" PRIu64 " bytes of a grant%s: %s (see vm.max_map_count)",
			block->name, len,
			prot == PROT_NONE   ? " away"
			: prot & PROT_WRITE ? " for writing"
					    : " for reading",
			gm_error_word(rc));
	return 0;
}

/* The part of @range from its first address on for which one piece of @base, or none, shows. */
static uint32_t next_run(const struct gm_shown_list *shown, const struct gm_base *base,
	const struct gm_range *range, struct gm_range *ret)
{
	*ret = *range;
	for (size_t i = gm_shown_find(shown, range->first);
		i < shown->nr && shown->items[i].range.first <= range->last; i++) {
		const struct gm_shown *piece = &shown->items[i];

		if (piece->base != base)
			continue;
		if (piece->range.first > range->first) {
			ret->last = piece->range.first - 1;
			return 0;
		}
		if (piece->range.last < range->last)
			ret->last = piece->range.last;
		return piece->perms;
	}
	return 0;
}

/*
 * Maps @range of @base as pieces show, or with @perms if that is more. What shows is mapped with that much
 * at least: it is touched to get more, and with @less where it may have more.
 */
static int map_as_shown(struct gm_grant *grant, const struct gm_base *base, struct gm_range range,
	uint32_t perms, bool less, struct gm_error *err)
{
	for (;;) {
		struct gm_range run;
		int has = prot_of(next_run(&grant->shown, base, &range, &run));
		int want = prot_of(perms);
		int rc = 0;

		if ((want & ~has) || (less && !(has & PROT_WRITE)))
			rc = map_part(base, &run, want | has, err);
		if (rc || run.last == range.last)
			return rc;
		range.first = run.last + 1;
	}
}

static bool is_pending(const struct gm_grant *grant, const struct gm_shown *piece)
{
	for (size_t i = 0; i < grant->pending.nr; i++) {
		const struct gm_shown *other = &grant->pending.items[i];

		if (other->base == piece->base && gm_range_overlaps(&other->range, &piece->range))
			return true;
	}
	return false;
}

int gm_grant_open(struct gm_grant *grant, const struct gm_shown *piece, struct gm_error *err)
{
	uint32_t perms = piece->perms;

	/* Somebody may still use what is pending: nothing less than that. */
	if (is_pending(grant, piece) && piece->base->writable)
		perms |= GM_PERM_W;
	return map_as_shown(grant, piece->base, piece->range, perms, false, err);
}

void gm_grant_reopen(struct gm_grant *grant, const struct gm_shown *piece)
{
	/* Where something was pending somebody may still use it. */
	if (is_pending(grant, piece) ||
		map_as_shown(grant, piece->base, piece->range, 0, true, NULL))
		/* There is room. */
		grant->pending.items[grant->pending.nr++] = *piece;
}

static bool is_pinned(const struct gm_base *base)
{
	return gm_map_pins(&base->block->home) > 0;
}

static bool has_pending(const struct gm_grant *grant, const struct gm_base *base)
{
	for (size_t i = 0; i < grant->pending.nr; i++) {
		if (grant->pending.items[i].base == base)
			return true;
	}
	return false;
}

/* With the grant's lock. */
static void drop_gone(struct gm_grant *grant)
{
	struct gm_base **link = &grant->bases;

	while (*link) {
		struct gm_base *base = *link;

		if (!base->gone || has_pending(grant, base)) {
			link = &base->next;
			continue;
		}
		*link = base->next;
		gm_base_free(base, grant->flags & GM_GRANT_SHADOW);
	}
}

int gm_grant_close(struct gm_grant *grant, struct gm_error *err)
{
	size_t kept = 0;
	int rc = 0;

	pthread_mutex_lock(&grant->lock);
	for (size_t i = 0; i < grant->pending.nr; i++) {
		const struct gm_shown *piece = &grant->pending.items[i];
		int failed = 0;

		if (is_pinned(piece->base))
			failed = -EAGAIN;
		else
			failed = map_as_shown(grant, piece->base, piece->range, 0, true, err);
		if (failed)
			grant->pending.items[kept++] = *piece;
		if (failed && failed != -EAGAIN)
			rc = failed;
	}
	grant->pending.nr = kept;
	drop_gone(grant);
	pthread_mutex_unlock(&grant->lock);
	return rc;
}
