/* SPDX-License-Identifier: BSD-3-Clause */
/* grant.c - life of a grant, and the rights that it is made of. */
#include "memory/dirty.h"
#include "memory/grant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

#define NAME_DEFAULT "grant"

/* ---- rights ---- */

static int check_range(const struct gm_grant *grant, uint64_t gpa, uint64_t len, uint32_t perms,
	struct gm_range *ret, struct gm_error *err)
{
	if (perms & ~GM_PERM_RWX)
		return gm_error_set(err, -EINVAL, gpa, len, "%s: permissions 0x%x are not known",
			grant->name, perms);
	if (len == 0)
		return gm_error_set(err, -EINVAL, gpa, len, "%s: the length is 0", grant->name);
	if (!gm_range_make(gpa, len, ret))
		return gm_error_set(err, -ERANGE, gpa, len,
			"%s: %" PRIu64 " bytes at gpa 0x%" PRIx64 " wrap past 2^64", grant->name,
			len, gpa);
	if (!gm_is_aligned(gpa | len, gm_sys_page_size()))
		return gm_error_set(err, -EINVAL, gpa, len,
			"%s: gpa 0x%" PRIx64 " and length 0x%" PRIx64
			" must be multiples of the page size %zu",
			grant->name, gpa, len, gm_sys_page_size());
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct gm_right *x = a;
	const struct gm_right *y = b;

	return x->range.first < y->range.first ? -1 : x->range.first > y->range.first;
}

static int copy_parts(
	struct gm_grant *grant, const struct gm_grant_opts *opts, struct gm_error *err)
{
	struct gm_rights *rights = &grant->rights;

	rights->items = gm_sys_alloc_array(opts->nr_parts + 1, sizeof(*rights->items));
	if (!rights->items)
		return gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", grant->name);
	for (size_t i = 0; i < opts->nr_parts; i++) {
		const struct gm_grant_part *part = &opts->parts[i];
		struct gm_right *right = &rights->items[rights->nr++];
		int rc = check_range(grant, part->gpa, part->len, part->perms, &right->range, err);

		if (rc)
			return rc;
		if (part->flags || !part->perms)
			return gm_error_set(err, -EINVAL, part->gpa, part->len,
				"%s: the part at gpa 0x%" PRIx64 " has %s", grant->name, part->gpa,
				part->flags ? "unknown flags" : "no permissions");
		right->perms = part->perms;
	}
	qsort(rights->items, rights->nr, sizeof(*rights->items), by_address);
	for (size_t i = 1; i < rights->nr; i++) {
		const struct gm_range *range = &rights->items[i].range;

		if (gm_range_overlaps(&rights->items[i - 1].range, range))
			return gm_error_set(err, -EINVAL, range->first, gm_range_len(range),
				"%s: two parts have gpa 0x%" PRIx64, grant->name, range->first);
	}
	return 0;
}

/* The rights with @perms in @range instead. */
static bool replace_rights(const struct gm_rights *old, const struct gm_range *range,
	uint32_t perms, struct gm_rights *ret)
{
	struct gm_right *items = gm_sys_alloc_array(old->nr + 3, sizeof(*items));
	size_t nr = 0;

	if (!items)
		return false;
	for (size_t i = 0; i < old->nr && old->items[i].range.first < range->first; i++) {
		items[nr] = old->items[i];
		if (items[nr].range.last >= range->first)
			items[nr].range.last = range->first - 1;
		nr++;
	}
	if (perms)
		items[nr++] = (struct gm_right){*range, perms};
	for (size_t i = 0; i < old->nr; i++) {
		if (old->items[i].range.last <= range->last)
			continue;
		items[nr] = old->items[i];
		if (items[nr].range.first <= range->last)
			items[nr].range.first = range->last + 1;
		nr++;
	}
	*ret = (struct gm_rights){items, nr};
	return true;
}

/* What is taken away of what was handed out for good, or NULL. */
static const struct gm_right *find_lost(
	const struct gm_rights *rights, const struct gm_range *range, uint32_t perms)
{
	for (size_t i = gm_rights_find(rights, range->first);
		i < rights->nr && rights->items[i].range.first <= range->last; i++) {
		if (rights->items[i].perms & ~perms)
			return &rights->items[i];
	}
	return NULL;
}

/* ---- changing them ---- */

/* What the source shows in @range, clipped to it. */
static bool list_sections(
	struct gm_grant *grant, const struct gm_range *range, struct gm_sections *ret)
{
	struct gm_listener_ops ops;
	size_t kept = 0;

	gm_grant_listener_ops(grant, &ops);
	if (!gm_sections_of_view(grant->source, &ops, ret))
		return false;
	for (size_t i = 0; i < ret->nr; i++) {
		struct gm_section section = ret->items[i];
		struct gm_range common = {section.gpa, section.gpa + (section.len - 1)};

		if (!gm_range_intersect(&common, range, &common))
			continue;
		section.block_off += common.first - section.gpa;
		section.gpa = common.first;
		section.len = gm_range_len(&common);
		ret->items[kept++] = section;
	}
	ret->nr = kept;
	return true;
}

/* With the source held. */
static int change_held(struct gm_grant *grant, const struct gm_range *range, uint32_t perms,
	bool wait, struct gm_error *err)
{
	struct gm_range clear = *range;
	const struct gm_rangeset cleared = {.ranges = &clear, .nr = 1, .cap = 1};
	struct gm_grant_plan *plan = NULL;
	struct gm_sections sections = {0};
	struct gm_rights rights = {0};
	const struct gm_right *lost = find_lost(&grant->rights, range, perms);
	struct gm_right *old;
	int rc;

	if (grant->lasting && lost)
		return gm_error_set(err, -ENOTSUP, lost->range.first, gm_range_len(&lost->range),
			"%s: gpa 0x%" PRIx64 " was handed out for good (GM_GRANT_LASTING), which "
			"cannot be taken back",
			grant->name, lost->range.first);
	if (!replace_rights(&grant->rights, range, perms, &rights) ||
		!list_sections(grant, range, &sections))
		rc = gm_error_set(err, -ENOMEM, 0, 0, "%s: out of memory", grant->name);
	else
		rc = gm_grant_plan(grant, &rights, &cleared, &sections, wait, &plan, err);
	gm_sections_free(&sections);
	if (rc) {
		gm_sys_free(rights.items);
		return rc;
	}
	if (plan)
		gm_grant_plan_finish(grant, plan);
	pthread_mutex_lock(&grant->lock);
	old = grant->rights.items;
	grant->rights = rights;
	pthread_mutex_unlock(&grant->lock);
	gm_sys_free(old);
	if (wait)
		return gm_grant_finish(grant, grant->timeout_ns, err);
	gm_grant_poll(grant);
	return 0;
}

static int change(struct gm_grant *grant, const struct gm_range *range, uint32_t perms,
	uint32_t flags, struct gm_error *err)
{
	int rc;

	if (flags & ~GM_GRANT_NOWAIT)
		return gm_error_set(
			err, -EINVAL, 0, 0, "%s: unknown flags 0x%x", grant->name, flags);
	rc = gm_space_hold(grant->source, err);
	if (rc)
		return rc;
	rc = change_held(grant, range, perms, !(flags & GM_GRANT_NOWAIT), err);
	gm_space_release(grant->source);
	return rc;
}

int gm_grant_set(struct gm_grant *grant, uint64_t gpa, uint64_t len, uint32_t perms, uint32_t flags,
	struct gm_error *err)
{
	struct gm_range range;
	int rc = check_range(grant, gpa, len, perms, &range, err);

	return rc ? rc : change(grant, &range, perms, flags, err);
}

int gm_grant_revoke(struct gm_grant *grant, uint32_t flags, struct gm_error *err)
{
	const struct gm_range everything = {0, UINT64_MAX};

	return change(grant, &everything, 0, flags, err);
}

int gm_grant_wait(struct gm_grant *grant, uint64_t timeout_ns, struct gm_error *err)
{
	int rc = gm_space_hold(grant->source, err);

	if (rc)
		return rc;
	rc = gm_grant_finish(grant, timeout_ns ? timeout_ns : grant->timeout_ns, err);
	gm_space_release(grant->source);
	return rc;
}

/* ---- life ---- */

static int check_opts(
	struct gm_grant_opts *opts, const struct gm_grant_opts *user, struct gm_error *err)
{
	const uint32_t forms = GM_GRANT_SHADOW | GM_GRANT_LASTING;
	int rc;

	*opts = (struct gm_grant_opts){.size = sizeof(*opts)};
	rc = user ? gm_opts_copy(opts, sizeof(*opts), user, sizeof(*opts)) : 0;
	if (rc)
		return gm_opts_error(err, rc, "grant");
	if ((opts->flags & ~forms) || opts->reserved)
		return gm_error_set(err, -EINVAL, 0, 0,
			"grant: unknown flags 0x%x, or reserved is not 0", opts->flags);
	if ((opts->flags & forms) == forms)
		return gm_error_set(err, -EINVAL, 0, 0,
			"grant: GM_GRANT_SHADOW and GM_GRANT_LASTING exclude each other");
	if (opts->nr_parts && !opts->parts)
		return gm_error_set(err, -EINVAL, 0, 0, "grant: parts is missing");
	return 0;
}

static void free_grant(struct gm_grant *grant)
{
	/* Views hold mappings of bases: the space goes first. */
	gm_reader_destroy(grant->reader);
	gm_reader_destroy(grant->source_reader);
	gm_space_destroy(grant->space);
	while (grant->bases) {
		struct gm_base *base = grant->bases;

		grant->bases = base->next;
		gm_base_free(base, grant->flags & GM_GRANT_SHADOW);
	}
	pthread_mutex_destroy(&grant->lock);
	pthread_mutex_destroy(&grant->copy_lock);
	gm_sys_free(grant->rights.items);
	gm_sys_free(grant->shown.items);
	gm_sys_free(grant->pending.items);
	gm_sys_free(grant);
}

/* Space, readers and listener. */
static int start(struct gm_grant *grant, const struct gm_grant_opts *opts, struct gm_error *err)
{
	const struct gm_window *window = grant->source->window;
	const struct gm_space_opts space = {
		.size = sizeof(space),
		.name = grant->name,
		.gpa_limit = opts->gpa_limit ? opts->gpa_limit
			     : window        ? window->limit
					     : GM_SPACE_NO_WINDOW,
		.timeout_ns = grant->timeout_ns,
	};
	struct gm_listener_ops ops;
	int rc = copy_parts(grant, opts, err);

	if (!rc)
		rc = gm_space_create(&space, &grant->space, err);
	if (!rc)
		grant->space->granted = true;
	/* What is written through it is written to the source's memory; a shadow's is its own. */
	if (!rc && !(grant->flags & GM_GRANT_SHADOW))
		rc = gm_dirty_follow(grant->space, grant->source, err);
	if (!rc && (grant->flags & GM_GRANT_SHADOW))
		rc = gm_reader_create(grant->source, grant->name, &grant->source_reader, err);
	if (!rc && (grant->flags & GM_GRANT_SHADOW))
		rc = gm_reader_create(grant->space, "shadow", &grant->reader, err);
	if (rc)
		return rc;
	gm_grant_listener_ops(grant, &ops);
	return gm_listener_create(grant->source, &ops, &grant->listener, err);
}

int gm_grant_create(struct gm_space *space, const struct gm_grant_opts *user,
	struct gm_grant **ret_grant, struct gm_error *err)
{
	struct gm_grant_opts opts;
	struct gm_grant *grant;
	int rc = check_opts(&opts, user, err);

	if (rc)
		return rc;
	grant = gm_sys_alloc(sizeof(*grant));
	if (!grant)
		return gm_error_set(err, -ENOMEM, 0, 0, "grant: out of memory");
	pthread_mutex_init(&grant->lock, NULL);
	pthread_mutex_init(&grant->copy_lock, NULL);
	gm_copy_name(grant->name, sizeof(grant->name), opts.name ? opts.name : NAME_DEFAULT);
	grant->source = space;
	grant->flags = opts.flags;
	grant->timeout_ns = opts.timeout_ns ? opts.timeout_ns : space->timeout_ns;
	rc = start(grant, &opts, err);
	if (rc)
		free_grant(grant);
	else
		*ret_grant = grant;
	return rc;
}

int gm_grant_destroy(struct gm_grant *grant, struct gm_error *err)
{
	int rc;

	if (!grant)
		return 0;
	rc = gm_listener_destroy(grant->listener, err);
	if (!rc)
		free_grant(grant);
	return rc;
}

struct gm_space *gm_grant_space(struct gm_grant *grant)
{
	return grant->space;
}

int gm_grant_info(struct gm_grant *grant, struct gm_grant_info *ret_info)
{
	struct gm_grant_info info = {.size = ret_info->size, .flags = grant->flags};

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&grant->lock);
	for (size_t i = 0; i < grant->rights.nr; i++)
		info.granted += gm_range_len(&grant->rights.items[i].range);
	for (size_t i = 0; i < grant->shown.nr; i++) {
		uint32_t perms = grant->shown.items[i].perms;

		info.mapped += gm_range_len(&grant->shown.items[i].range);
		info.unenforced |= ~perms & (perms & GM_PERM_R ? GM_PERM_X : GM_PERM_X | GM_PERM_R);
	}
	info.pending = grant->pending.nr;
	info.sent = grant->sent;
	info.lasting = grant->lasting;
	pthread_mutex_unlock(&grant->lock);
	memcpy(ret_info, &info, sizeof(info));
	return 0;
}
