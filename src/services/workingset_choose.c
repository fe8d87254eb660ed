/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * workingset_choose.c - which method serves a piece of memory, or why none does.
 *
 * Whether memory is shared is asked of the kernel about the mapping itself, in each round: taking page-table entries
 * of private memory away would destroy it, so nothing that anybody said before is trusted.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>

#include "core/error.h"
#include "services/workingset.h"
#include "services/wp_async.h"
#include "sys/sys.h"

#define VMA_SHARED 0x08u /* procmap_query.vma_flags */

/* ---- what the kernel says of the mapping ---- */

/* For kernels before PROCMAP_QUERY (Linux 6.11). */
static int shared_by_list(const struct gm_range *hva, bool *ret)
{
	struct gm_mapping m = {.size = sizeof(m)};
	struct gm_residency *res;
	struct gm_mappings *it;
	uint64_t at = hva->first;
	int rc = gm_residency_open(0, &res, NULL);

	if (rc)
		return rc;
	rc = gm_mappings_open(res, 0, &it, NULL);
	if (!rc) {
		*ret = true;
		while (*ret && at <= hva->last && (rc = gm_mappings_next(it, &m)) > 0) {
			if (at < m.start)
				break;
			if (at - m.start >= m.len)
				continue;
			*ret = m.flags & GM_MAPPING_SHARED;
			at = m.start + m.len;
		}
		*ret = *ret && at > hva->last;
		gm_mappings_close(it);
	}
	gm_residency_close(res);
	return rc < 0 ? rc : 0;
}

/* Is all of it mapped, shared? */
static int is_shared(struct gm_workingset *ws, const struct gm_range *hva, bool *ret)
{
	uint64_t at = hva->first;

	while (at <= hva->last) {
		struct procmap_query query = {.size = sizeof(query), .query_addr = at};
		int rc = gm_sys_ioctl(ws->maps, PROCMAP_QUERY, &query);

		if (rc == -EINTR)
			continue;
		if (rc == -ENOTTY)
			return shared_by_list(hva, ret);
		*ret = rc == 0 && (query.vma_flags & VMA_SHARED);
		if (rc && rc != -ENOENT)
			return rc;
		if (!*ret)
			return 0;
		at = query.vma_end;
	}
	return 0;
}

/* ---- userfaultfd ---- */

/*
 * Registered memory has no fault-around: a read maps the one page, and each page of a large folio is mapped by
 * a touch of its own. And nobody else's userfaultfd has it.
 */
static int register_area(struct gm_workingset *ws, struct gm_area *area)
{
	struct uffdio_register reg = {
		.range = {area->hva, gm_area_len(area)}, .mode = UFFDIO_REGISTER_MODE_WP};
	int why;
	int rc;

	if (area->registered)
		return 0;
	if (ws->uffd == -1)
		ws->uffd = gm_wp_async_open(&why);
	if (ws->uffd < 0)
		return ws->uffd;
	rc = gm_sys_ioctl(ws->uffd, UFFDIO_REGISTER, &reg);
	area->registered = rc >= 0;
	return rc;
}

static int by_unmap(struct gm_workingset *ws, struct gm_area *area)
{
	int rc = register_area(ws, area);

	if (rc == -ENOMEM)
		return rc;
	if (rc == -EBUSY)
		area->reason = GM_WORKINGSET_LEFT_UFFD;
	else if (rc < 0)
		area->notes |= GM_WORKINGSET_AROUND;
	/* Files of a file system have one page size; shared anonymous memory has no file that others map. */
	if (area->block->fd >= 0)
		area->notes |= GM_WORKINGSET_PEERS;
	return 0;
}

static int by_writes(struct gm_workingset *ws, struct gm_area *area)
{
	int rc = register_area(ws, area);

	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		area->reason = rc == -EBUSY ? GM_WORKINGSET_LEFT_UFFD : GM_WORKINGSET_LEFT_KERNEL;
		area->code = rc;
	}
	area->notes |= GM_WORKINGSET_WRITES_ONLY;
	return 0;
}

static int by_idle(struct gm_workingset *ws, struct gm_area *area)
{
	if (ws->idle == -1)
		ws->idle = gm_sys_open("/sys/kernel/mm/page_idle/bitmap", 2 /* O_RDWR */, 0);
	if (ws->idle < 0) {
		area->reason = GM_WORKINGSET_LEFT_KERNEL;
		area->code = ws->idle;
		return 0;
	}
	area->pfns = gm_sys_alloc_array(gm_area_strata(area), sizeof(*area->pfns));
	return area->pfns ? 0 : -ENOMEM;
}

/* ---- choosing ---- */

/* What lies there, whatever the method. */
static uint32_t reason_of(const struct gm_workingset *ws, const struct gm_pass *pass,
	const struct gm_reach *reach, const struct gm_area *area)
{
	const struct gm_block *block = reach->block;

	if (reach->part != GM_PART_SHARED)
		return GM_WORKINGSET_LEFT_PART;
	if (!reach->hva || block->dark || reach->kind == GM_REGION_DEVMEM)
		return GM_WORKINGSET_LEFT_UNMAPPED;
	if (block->backing == GM_BACKING_POINTER)
		return GM_WORKINGSET_LEFT_CALLER;
	/* The one is ours. */
	if (gm_map_pins(reach->map) > 1)
		return GM_WORKINGSET_LEFT_PINNED;
	if (gm_gate_check(ws->space, pass, &area->range, false, NULL))
		return GM_WORKINGSET_LEFT_INHIBITED;
	return 0;
}

static bool is_huge(const struct gm_block *block)
{
	return block->opts.pages[0].kind == GM_PAGE_THP || block->got.kind == GM_PAGE_THP;
}

/* IDLE, or WRITES where that cuts no huge pages. */
static int choose_private(struct gm_workingset *ws, struct gm_area *area)
{
	int rc;

	area->method = GM_WORKINGSET_IDLE;
	rc = by_idle(ws, area);
	if (rc || !area->reason)
		return rc;
	area->method = GM_WORKINGSET_WRITES;
	area->reason = is_huge(area->block) ? GM_WORKINGSET_LEFT_HUGE : 0;
	return area->reason ? 0 : by_writes(ws, area);
}

static int choose(struct gm_workingset *ws, struct gm_area *area)
{
	bool locked = area->block->opts.flags & (GM_BLOCK_LOCK | GM_BLOCK_LOCK_ONFAULT);

	area->method = ws->opts.method;
	if (area->method == GM_WORKINGSET_AUTO && (!area->shared || locked))
		return choose_private(ws, area);
	if (area->method == GM_WORKINGSET_AUTO)
		area->method = GM_WORKINGSET_UNMAP;
	if (area->method == GM_WORKINGSET_IDLE)
		return by_idle(ws, area);
	if (area->method == GM_WORKINGSET_WRITES)
		return by_writes(ws, area);
	if (!area->shared)
		area->reason = GM_WORKINGSET_LEFT_PRIVATE;
	else if (locked)
		area->reason = GM_WORKINGSET_LEFT_LOCKED;
	return area->reason ? 0 : by_unmap(ws, area);
}

int gm_workingset_choose(struct gm_workingset *ws, const struct gm_pass *pass,
	const struct gm_reach *reach, struct gm_area *area, struct gm_error *err)
{
	struct gm_range hva = {area->hva, area->hva + gm_range_extent(&area->range)};
	int rc;

	area->reason = reason_of(ws, pass, reach, area);
	if (area->reason)
		return 0;
	rc = is_shared(ws, &hva, &area->shared);
	if (!rc)
		rc = choose(ws, area);
	return rc ? gm_error_set(err, rc, area->range.first, gm_area_len(area),
			    "%s: working set: the mapping of gpa 0x%" PRIx64 ": %s",
			    ws->space->name, area->range.first, gm_error_word(rc))
		  : 0;
}

/* ---- words ---- */

static const char *why_left(uint32_t reason)
{
	switch (reason) {
	case GM_WORKINGSET_LEFT_PRIVATE:
		return "left: private memory, which unmapping would destroy (WRITES sees what is "
		       "written)";
	case GM_WORKINGSET_LEFT_LOCKED:
		return "left: locked memory is not unmapped (WRITES sees what is written)";
	case GM_WORKINGSET_LEFT_UFFD:
		return "left: another userfaultfd has it, a watch or a pager";
	case GM_WORKINGSET_LEFT_PINNED:
		return "left: a slice of it is pinned, so that it may be used unseen";
	case GM_WORKINGSET_LEFT_INHIBITED:
		return "left: discards are inhibited, a device uses it unseen";
	case GM_WORKINGSET_LEFT_PART:
		return "left: unplugged, or private to the guest";
	case GM_WORKINGSET_LEFT_UNMAPPED:
		return "left: it is not mapped here, or a device's";
	case GM_WORKINGSET_LEFT_CALLER:
		return "left: memory of the caller";
	case GM_WORKINGSET_LEFT_HUGE:
		return "left: private memory whose huge pages write protection would split (ask "
		       "for WRITES)";
	default:
		return "left: the kernel has no way, or refused";
	}
}

const char *gm_workingset_why(const struct gm_area *area)
{
	if (area->reason)
		return why_left(area->reason);
	switch (area->method) {
	case GM_WORKINGSET_UNMAP:
		return "UNMAP: shared memory keeps its bytes without page-table entries";
	case GM_WORKINGSET_WRITES:
		return area->shared ? "WRITES: as asked"
				    : "WRITES: private memory, and no idle-page bitmap";
	default:
		return "IDLE: the kernel has an idle-page bitmap";
	}
}
