/* SPDX-License-Identifier: BSD-3-Clause */
/* vhost_plan.c - see vhost_plan.h. */
#include "core/vhost_plan.h"

#include <inttypes.h>

#include "core/error.h"
#include "core/range.h"

#define LOG_PAGE 4096u  /* bytes of guest memory for a bit */
#define LOG_WHOLE 4096u /* bytes of log: it is given in pages */

static struct gm_range range_of(const struct gm_vhost_region *region)
{
	struct gm_range range = {.first = region->gpa, .last = region->gpa + (region->len - 1)};

	return range;
}

/* ---- joining ---- */

static int widen(struct gm_vhost_slot *slot, struct gm_error *err)
{
	struct gm_vhost_region *region = &slot->region;
	uint64_t head = region->off & (slot->page - 1);
	struct gm_range file;
	struct gm_range all;

	if (!gm_range_make(region->off, region->len, &file) || head > region->gpa ||
		head > region->user)
		goto passes;
	gm_range_align_out(&file, slot->page, &file);
	region->gpa -= head;
	region->user -= head;
	region->off = file.first;
	region->len = gm_range_len(&file);
	if (gm_range_make(region->gpa, region->len, &all) &&
		gm_range_make(region->user, region->len, &all))
		return 0;
passes:
	return gm_error_set(err, -ERANGE, region->gpa, region->len,
		"vhost-user: memory at 0x%" PRIx64 " (user address 0x%" PRIx64
		") is no whole pages of %" PRIu64 " bytes within all addresses",
		region->gpa, region->user, slot->page);
}

/* Are they one stretch of one file, with @b not in front of @a? */
static bool continues(const struct gm_vhost_slot *a, const struct gm_vhost_slot *b)
{
	return a->file[0] == b->file[0] && a->file[1] == b->file[1] && a->page == b->page &&
	       b->region.gpa - a->region.gpa == b->region.user - a->region.user &&
	       b->region.gpa - a->region.gpa == b->region.off - a->region.off &&
	       b->region.gpa - a->region.gpa <= a->region.len;
}

/* Pages that two have in common are in both; what is behind them goes to the first, unless one wants to be alone. */
static bool join(struct gm_vhost_slot *a, const struct gm_vhost_slot *b)
{
	bool alone = (a->flags | b->flags) & GM_VHOST_SLOT_ALONE;
	uint64_t ahead = b->region.gpa - a->region.gpa;

	if (!continues(a, b) || (alone && ahead == a->region.len))
		return false;
	if (b->region.len > a->region.len - ahead)
		a->region.len = ahead + b->region.len;
	a->flags |= b->flags;
	return true;
}

int gm_vhost_plan_join(struct gm_vhost_slot *slots, size_t *nr, struct gm_error *err)
{
	size_t kept = 0;

	for (size_t i = 0; i < *nr; i++) {
		struct gm_vhost_slot next = slots[i];
		int rc = widen(&next, err);

		if (rc < 0)
			return rc;
		if (kept) {
			struct gm_vhost_slot *last = &slots[kept - 1];
			struct gm_range a = range_of(&last->region);
			struct gm_range b = range_of(&next.region);

			if (b.first >= a.first && join(last, &next))
				continue;
			if (b.first < a.first || gm_range_overlaps(&a, &b))
				return gm_error_set(err, -EINVAL, b.first, next.region.len,
					"vhost-user: whole pages of the memory at 0x%" PRIx64
					" overlap those of the memory at 0x%" PRIx64,
					b.first, a.first);
		}
		slots[kept++] = next;
	}
	*nr = kept;
	return 0;
}

/* ---- the way ---- */

bool gm_vhost_slot_same(const struct gm_vhost_slot *a, const struct gm_vhost_slot *b)
{
	return a->region.gpa == b->region.gpa && a->region.len == b->region.len &&
	       a->region.user == b->region.user && a->region.off == b->region.off &&
	       a->file[0] == b->file[0] && a->file[1] == b->file[1];
}

const struct gm_vhost_slot *gm_vhost_plan_find(
	struct gm_vhost_table table, uint64_t gpa, uint64_t len)
{
	const struct gm_vhost_slot *slots = table.slots;
	struct gm_range wanted;
	size_t low = 0;
	size_t high = table.nr;

	if (!gm_range_make(gpa, len, &wanted))
		return NULL;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		struct gm_range range = range_of(&slots[mid].region);

		if (gm_range_contains(&range, &wanted))
			return &slots[mid];
		if (range.last < gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

uint64_t gm_vhost_plan_log_len(struct gm_vhost_table table)
{
	uint64_t bytes;
	uint64_t ret;

	if (!table.nr)
		return 0;
	bytes = range_of(&table.slots[table.nr - 1].region).last / LOG_PAGE / 8 + 1;
	return gm_align_up(bytes, LOG_WHOLE, &ret) ? ret : 0;
}

/* In rising order of both addresses neighbours tell; else each is held against each. */
static int check_users(struct gm_vhost_table table, struct gm_error *err)
{
	bool rising = true;

	for (size_t i = 1; rising && i < table.nr; i++) {
		const struct gm_vhost_region *a = &table.slots[i - 1].region;

		rising = table.slots[i].region.user >= a->user &&
			 table.slots[i].region.user - a->user >= a->len;
	}
	for (size_t i = 0; !rising && i < table.nr; i++) {
		const struct gm_vhost_region *a = &table.slots[i].region;
		struct gm_range user_a = {a->user, a->user + (a->len - 1)};

		for (size_t j = i + 1; j < table.nr; j++) {
			const struct gm_vhost_region *b = &table.slots[j].region;
			struct gm_range user_b = {b->user, b->user + (b->len - 1)};

			if (gm_range_overlaps(&user_a, &user_b))
				return gm_error_set(err, -EINVAL, b->gpa, b->len,
					"vhost-user: memory at 0x%" PRIx64 " and at 0x%" PRIx64
					" have user addresses in common",
					a->gpa, b->gpa);
		}
	}
	return 0;
}

static bool has(struct gm_vhost_table table, const struct gm_vhost_slot *slot)
{
	const struct gm_vhost_slot *found =
		gm_vhost_plan_find(table, slot->region.gpa, slot->region.len);

	return found && gm_vhost_slot_same(found, slot);
}

static size_t by_slot(
	struct gm_vhost_table old, struct gm_vhost_table new, struct gm_vhost_step *steps)
{
	size_t nr = 0;

	for (size_t i = old.nr; i-- > 0;) {
		if (!has(new, &old.slots[i]))
			steps[nr++] = (struct gm_vhost_step){GM_VHOST_STEP_REMOVE, (uint32_t)i};
	}
	for (size_t i = 0; i < new.nr; i++) {
		if (!has(old, &new.slots[i]))
			steps[nr++] = (struct gm_vhost_step){GM_VHOST_STEP_ADD, (uint32_t)i};
	}
	return nr;
}

static bool same(struct gm_vhost_table old, struct gm_vhost_table new)
{
	bool yes = old.nr == new.nr;

	for (size_t i = 0; yes && i < old.nr; i++)
		yes = gm_vhost_slot_same(&old.slots[i], &new.slots[i]);
	return yes;
}

int gm_vhost_plan(const struct gm_vhost_way *way, struct gm_vhost_table old,
	struct gm_vhost_table new, struct gm_vhost_step *steps, size_t *ret_nr,
	struct gm_error *err)
{
	uint64_t log_len = gm_vhost_plan_log_len(new);
	size_t nr = 0;
	int rc;

	if (new.nr > way->max)
		return gm_error_set(err, -ENOSPC, new.slots[way->max].region.gpa,
			new.slots[way->max].region.len,
			"vhost-user: the map is %zu regions, and the back-end takes %u", new.nr,
			way->max);
	rc = check_users(new, err);
	if (rc < 0)
		return rc;
	if (way->log_len && log_len > way->log_len)
		steps[nr++] = (struct gm_vhost_step){GM_VHOST_STEP_GROW_LOG, 0};
	if (way->by_slot)
		nr += by_slot(old, new, steps + nr);
	else if (!same(old, new))
		steps[nr++] = (struct gm_vhost_step){GM_VHOST_STEP_TABLE, 0};
	if (way->log_len && log_len < way->log_len && log_len)
		steps[nr++] = (struct gm_vhost_step){GM_VHOST_STEP_SHRINK_LOG, 0};
	*ret_nr = nr;
	return 0;
}
