/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dump.c - a space as text, much as the monitor of QEMU shows it ("info mtree").
 *
 * Names have no control characters from the day they were given (gm_copy_name()), and at most 31
 * bytes; so a line has its bound, but for the blanks before it.
 */
#include <guestmem/part.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memory/listing.h"

#define LINE_CAP 512
#define INDENT_MAX 32u /* levels; what lies deeper is not moved further in */

struct dump {
	int (*write)(void *ctx, const char *text, size_t len);
	void *ctx;
	uint32_t flags;
	bool detached; /* the heading of what is in no tree was written */
};

static int put(const struct dump *d, const char *text)
{
	return d->write(d->ctx, text, strlen(text));
}

/* "0000000000001000-0000000000001fff" */
#define RANGE_CAP 34

static const char *range_text(uint64_t first, uint64_t len, char buf[RANGE_CAP])
{
	snprintf(buf, RANGE_CAP, "%016" PRIx64 "-%016" PRIx64, first, first + (len - 1));
	return buf;
}

static const char *perms_text(uint32_t perms, char buf[4])
{
	buf[0] = perms & GM_PERM_R ? 'r' : '-';
	buf[1] = perms & GM_PERM_W ? 'w' : '-';
	buf[2] = perms & GM_PERM_X ? 'x' : '-';
	buf[3] = '\0';
	return buf;
}

/* ---- the tree ---- */

/* What more there is to say of a region, each in brackets. */
static int put_notes(const struct dump *d, const struct gm_region_info *info)
{
	char line[LINE_CAP];
	int rc = 0;

	if (info->granule) {
		snprintf(line, sizeof(line),
			" [parts of 0x%" PRIx64 ": 0x%" PRIx64 " plugged, 0x%" PRIx64
			" of it private]",
			info->granule, info->len - info->unplugged, info->private_len);
		rc = put(d, line);
	}
	if (!rc && info->numa_plus) {
		snprintf(line, sizeof(line), " [node %" PRIu32 "]", info->numa_plus - 1);
		rc = put(d, line);
	}
	if (!rc && info->flags & GM_REGION_HOTPLUGGABLE)
		rc = put(d, " [hotpluggable]");
	if (!rc && info->flags & GM_REGION_DISABLED)
		rc = put(d, " [disabled]");
	return rc ? rc : put(d, "\n");
}

static int put_step(void *ctx, const struct gm_walk_step *step)
{
	const struct gm_region_info *info = step->info;
	struct dump *d = ctx;
	char line[LINE_CAP];
	char range[RANGE_CAP];
	char target[RANGE_CAP];
	char perms[4];
	uint32_t indent = 2 * (1 + (step->depth < INDENT_MAX ? step->depth : INDENT_MAX));
	int rc = 0;

	if (step->flags & GM_WALK_DETACHED && !d->detached) {
		d->detached = true;
		rc = put(d, "in no tree:\n");
	}
	if (rc)
		return rc;
	snprintf(line, sizeof(line), "%*s%s (prio %" PRId32 ", %s %s): %s%s%s%s%s", (int)indent, "",
		range_text(step->addr, info->len, range), info->priority,
		gm_region_kind_name(info->kind), perms_text(info->perms, perms), info->name,
		step->target_name ? " -> " : "", step->target_name ? step->target_name : "",
		step->target_name ? " @" : "",
		step->target_name ? range_text(info->block_off, info->len, target) : "");
	rc = put(d, line);
	return rc ? rc : put_notes(d, info);
}

/* ---- what shows ---- */

static int put_host(const struct dump *d, const struct gm_region_info *info)
{
	struct gm_block_info block = {.size = sizeof(block)};
	char line[LINE_CAP];

	if (!info->block)
		return 0;
	gm_block_info(info->block, &block);
	snprintf(line, sizeof(line), ", block %s @%016" PRIx64 "%s", block.name, info->block_off,
		info->placed ? ", window" : "");
	return put(d, line);
}

static int put_flat(const struct dump *d, const struct gm_region_info *info)
{
	char line[LINE_CAP];
	char range[RANGE_CAP];
	char perms[4];
	int rc;

	snprintf(line, sizeof(line), "  %s (%s %s): %s @%016" PRIx64,
		range_text(info->gpa, info->len, range), gm_region_kind_name(info->kind),
		perms_text(info->perms, perms), info->name, info->off);
	rc = put(d, line);
	if (!rc && info->part != GM_PART_SHARED)
		rc = put(d, info->part == GM_PART_PRIVATE ? " [private]" : " [unplugged]");
	if (!rc && d->flags & GM_DUMP_HOST)
		rc = put_host(d, info);
	return rc ? rc : put(d, "\n");
}

/* ---- who is told ---- */

static int put_unenforced(const struct dump *d, const struct gm_listener_line *listener)
{
	char line[LINE_CAP];
	int rc = 0;

	for (unsigned int bit = 0; bit < 3 && !rc; bit++) {
		if (listener->unenforced[bit].sections == 0)
			continue;
		snprintf(line, sizeof(line),
			"    %c not enforced for %" PRIu64 " section%s, the first at %016" PRIx64
			"\n",
			"rwx"[bit], listener -> unenforced[bit].sections,
			listener->unenforced[bit].sections == 1 ? "" : "s",
			listener->unenforced[bit].first);
		rc = put(d, line);
	}
	return rc;
}

static int put_listener(const struct dump *d, const struct gm_listener_line *listener)
{
	char line[LINE_CAP];
	char most[32] = "";
	char lost[48] = "";
	int rc;

	if (listener->max_sections)
		snprintf(most, sizeof(most), " of %" PRIu64, listener->max_sections);
	if (listener->lost)
		snprintf(lost, sizeof(lost), ", %" PRIu64 " lost", listener->lost);
	snprintf(line, sizeof(line), "  %s (prio %" PRId32 "): %" PRIu64 "%s section%s%s\n",
		listener->name, listener->priority, listener->sections, most,
		listener->sections == 1 && !listener->max_sections ? "" : "s", lost);
	rc = put(d, line);
	return rc ? rc : put_unenforced(d, listener);
}

static int put_listeners(const struct dump *d, const struct gm_listing *listing)
{
	char line[LINE_CAP];
	int rc;

	if (listing->nr_listeners == 0)
		return 0;
	snprintf(line, sizeof(line), "listeners of \"%s\":\n", listing->name);
	rc = put(d, line);
	for (size_t i = 0; i < listing->nr_listeners && !rc; i++)
		rc = put_listener(d, &listing->listeners[i]);
	return rc;
}

static int put_tree(struct dump *d, struct gm_listing *listing)
{
	char line[LINE_CAP];
	int rc;

	snprintf(line, sizeof(line), "tree of \"%s\":\n", listing->name);
	rc = put(d, line);
	return rc ? rc : gm_listing_walk(listing, put_step, d);
}

static int put_map(const struct dump *d, const struct gm_listing *listing)
{
	char line[LINE_CAP];
	int rc;

	snprintf(line, sizeof(line), "flat map of \"%s\":\n", listing->name);
	rc = put(d, line);
	for (size_t i = 0; i < listing->nr_flat && !rc; i++)
		rc = put_flat(d, &listing->flat[i]);
	return rc;
}

static int put_all(struct dump *d, struct gm_listing *listing)
{
	int rc = 0;

	if (d->flags & GM_DUMP_TREE)
		rc = put_tree(d, listing);
	if (!rc && d->flags & GM_DUMP_FLAT)
		rc = put_map(d, listing);
	if (!rc && d->flags & GM_DUMP_LISTENERS)
		rc = put_listeners(d, listing);
	return rc;
}

int gm_space_dump(struct gm_space *space, uint32_t flags,
	int (*write)(void *ctx, const char *text, size_t len), void *ctx)
{
	const uint32_t all = GM_DUMP_TREE | GM_DUMP_FLAT | GM_DUMP_HOST | GM_DUMP_LISTENERS;
	struct dump d = {.write = write, .ctx = ctx, .flags = flags ? flags : all};
	struct gm_listing listing;
	int rc;

	if (flags & ~all)
		return -EINVAL;
	rc = gm_listing_take(space, d.flags, &listing);
	if (rc)
		return rc;
	rc = put_all(&d, &listing);
	gm_listing_drop(&listing);
	return rc;
}
