/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost_memory.c - see vhost_memory.h.
 *
 * User addresses are numbers of the front-end. They are kept in an array in rising order, and lead to guest
 * addresses; the space knows the rest. No two regions overlap in either sort of addresses.
 */
#include "adapters/vhost_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "sys/sys.h"

int gm_vhost_memory_init(
	struct gm_vhost_table *mem, const struct gm_space_opts *opts, struct gm_error *err)
{
	mem->nr = 0;
	mem->txn = NULL;
	return gm_space_create(opts, &mem->space, err);
}

void gm_vhost_memory_fini(struct gm_vhost_table *mem)
{
	gm_vhost_memory_abort(mem);
	gm_space_destroy(mem->space);
	mem->space = NULL;
	mem->nr = 0;
}

/* ---- looking up ---- */

/* The first slot that ends at or behind @user. */
static uint32_t find(const struct gm_vhost_slot *slots, uint32_t nr, uint64_t user)
{
	uint32_t low = 0;
	uint32_t high = nr;

	while (low < high) {
		const uint32_t mid = low + (high - low) / 2;

		if (slots[mid].user.last < user)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int gm_vhost_memory_find(
	const struct gm_vhost_table *mem, uint64_t user, uint64_t *ret_gpa, uint64_t *ret_len)
{
	const uint32_t i = find(mem->slots, mem->nr, user);
	const struct gm_vhost_slot *slot = &mem->slots[i];

	if (i == mem->nr || !gm_range_has(&slot->user, user))
		return -EFAULT;
	*ret_gpa = slot->gpa.first + (user - slot->user.first);
	/* A region lies in a file, so it is shorter than 2^63. */
	*ret_len = slot->user.last - user + 1;
	return 0;
}

int gm_vhost_memory_gpa(
	const struct gm_vhost_table *mem, uint64_t user, uint64_t len, uint64_t *ret_gpa)
{
	struct gm_range range;
	uint64_t gpa;
	uint64_t there;

	if (!gm_range_make(user, len, &range))
		return -EINVAL;
	if (gm_vhost_memory_find(mem, user, &gpa, &there) || len > there)
		return -EFAULT;
	*ret_gpa = gpa;
	return 0;
}

bool gm_vhost_memory_last(const struct gm_vhost_slot *slots, uint32_t nr, uint64_t *ret_last)
{
	*ret_last = 0;
	for (uint32_t i = 0; i < nr; i++) {
		if (slots[i].gpa.last > *ret_last)
			*ret_last = slots[i].gpa.last;
	}
	return nr != 0;
}

int gm_vhost_memory_hva(
	const struct gm_vhost_table *mem, const struct gm_vhost_slot *slot, void **ret)
{
	struct gm_region_info info = {.size = sizeof(info)};
	int rc = gm_space_region(mem->space, slot->id, &info);

	if (rc)
		return rc;
	if (!info.hva)
		return -ENXIO;
	*ret = info.hva;
	return 0;
}

/* ---- planning ---- */

/* All that can be said of a region without its file. */
static int check_region(const struct gm_vhost_table *mem, const struct gm_vhost_region *region,
	bool same, struct gm_vhost_slot *ret, struct gm_error *err)
{
	const uint64_t page = gm_sys_page_size();

	memset(ret, 0, sizeof(*ret));
	if (!gm_range_make(region->gpa, region->len, &ret->gpa) ||
		!gm_range_make(region->user, region->len, &ret->user))
		return gm_error_set(err, -EINVAL, region->gpa, region->len,
			"vhost-user: a region of 0x%" PRIx64 " bytes at guest address 0x%" PRIx64
			", user address 0x%" PRIx64 " has no bytes or wraps past 2^64",
			region->len, region->gpa, region->user);
	if ((region->gpa | region->len | region->off) & (page - 1))
		return gm_error_set(err, -EINVAL, region->gpa, region->len,
			"vhost-user: the region at 0x%" PRIx64 ", 0x%" PRIx64
			" bytes from byte 0x%" PRIx64 " of its file, is not made of pages",
			region->gpa, region->len, region->off);
	if (same && region->user != region->gpa)
		return gm_error_set(err, -EINVAL, region->gpa, region->len,
			"vhost-user: with GPA_ADDRESSES the region at 0x%" PRIx64
			" has the user address 0x%" PRIx64,
			region->gpa, region->user);
	ret->off = region->off;
	for (uint32_t i = 0; i < mem->nr_next; i++) {
		const struct gm_vhost_slot *other = &mem->next[i];

		if (gm_range_overlaps(&other->gpa, &ret->gpa) ||
			gm_range_overlaps(&other->user, &ret->user))
			return gm_error_set(err, -EEXIST, region->gpa, region->len,
				"vhost-user: the region at 0x%" PRIx64 " (user 0x%" PRIx64
				") overlaps the one at 0x%" PRIx64 " (user 0x%" PRIx64 ")",
				region->gpa, region->user, other->gpa.first, other->user.first);
	}
	if (mem->nr_next == GM_VHOST_SLOTS_MAX)
		return gm_error_set(err, -ENOSPC, region->gpa, region->len,
			"vhost-user: more than %u regions", GM_VHOST_SLOTS_MAX);
	return 0;
}

static void insert(struct gm_vhost_table *mem, const struct gm_vhost_slot *slot)
{
	const uint32_t i = find(mem->next, mem->nr_next, slot->user.first);

	memmove(&mem->next[i + 1], &mem->next[i], (mem->nr_next - i) * sizeof(*mem->next));
	mem->next[i] = *slot;
	mem->nr_next++;
}

/* A block on the file, and a region in the plan. */
static int plan_region(
	struct gm_vhost_table *mem, struct gm_vhost_slot *slot, int fd, struct gm_error *err)
{
	const uint64_t len = gm_range_len(&slot->gpa);
	const struct gm_block_opts opts = {
		.size = sizeof(opts),
		.len = len,
		.backing = GM_BACKING_FD,
		.fd = fd,
		.offset = slot->off,
		.reserve = GM_RESERVE_NONE,
		.name = "vhost",
	};
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = slot->gpa.first,
		.name = "vhost",
		.label = slot->user.first};
	int rc = gm_block_create(&opts, &desc.block, err);

	if (rc)
		return rc;
	/* Mapped, it is looked at once more: what is shorter now is not taken. */
	rc = gm_vhost_file_check(fd, slot->off, len, "a region", NULL, err);
	if (!rc)
		rc = gm_txn_add(mem->txn, &desc, &slot->id, err);
	gm_block_put(desc.block);
	return rc;
}

static int begin(struct gm_vhost_table *mem, struct gm_error *err)
{
	mem->nr_gone = 0;
	mem->nr_next = 0;
	return gm_txn_begin(mem->space, &mem->txn, err);
}

void gm_vhost_memory_abort(struct gm_vhost_table *mem)
{
	gm_txn_abort(mem->txn);
	mem->txn = NULL;
}

static int planned(struct gm_vhost_table *mem, int rc)
{
	if (rc)
		gm_vhost_memory_abort(mem);
	return rc;
}

static int check_file(struct gm_vhost_slot *slot, int fd, struct gm_error *err)
{
	struct stat st;
	int rc = gm_vhost_file_check(fd, slot->off, gm_range_len(&slot->gpa), "a region", &st, err);

	if (!rc) {
		slot->dev = st.st_dev;
		slot->ino = st.st_ino;
	}
	return rc;
}

static bool is_same(const struct gm_vhost_slot *a, const struct gm_vhost_slot *b)
{
	return a->gpa.first == b->gpa.first && a->gpa.last == b->gpa.last &&
	       a->user.first == b->user.first && a->off == b->off && a->dev == b->dev &&
	       a->ino == b->ino;
}

/* A region of the table that is there already stays, with its number. */
static void keep(struct gm_vhost_table *mem, struct gm_vhost_slot *slot)
{
	const uint32_t i = find(mem->slots, mem->nr, slot->user.first);

	slot->stays = i < mem->nr && is_same(&mem->slots[i], slot);
	if (slot->stays) {
		mem->slots[i].stays = true;
		slot->id = mem->slots[i].id;
	}
}

static int remove_others(struct gm_vhost_table *mem, struct gm_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < mem->nr && !rc; i++) {
		if (mem->slots[i].stays)
			continue;
		mem->nr_gone++;
		rc = gm_txn_remove(mem->txn, mem->slots[i].id, err);
	}
	return rc;
}

static int plan_table(struct gm_vhost_table *mem, const struct gm_vhost_region *regions,
	const int *fds, uint32_t nr, bool same, struct gm_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < mem->nr; i++)
		mem->slots[i].stays = false;
	for (uint32_t i = 0; i < nr && !rc; i++) {
		struct gm_vhost_slot slot;

		rc = check_region(mem, &regions[i], same, &slot, err);
		if (!rc)
			rc = check_file(&slot, fds[i], err);
		if (rc)
			break;
		keep(mem, &slot);
		insert(mem, &slot);
	}
	if (!rc)
		rc = remove_others(mem, err);
	for (uint32_t i = 0; i < nr && !rc; i++) {
		struct gm_vhost_slot *slot =
			&mem->next[find(mem->next, mem->nr_next, regions[i].user)];

		if (!slot->stays)
			rc = plan_region(mem, slot, fds[i], err);
	}
	return rc;
}

int gm_vhost_memory_plan_table(struct gm_vhost_table *mem, const struct gm_vhost_region *regions,
	const int *fds, uint32_t nr, bool same, struct gm_error *err)
{
	int rc = begin(mem, err);

	return rc ? rc : planned(mem, plan_table(mem, regions, fds, nr, same, err));
}

static void copy_slots(struct gm_vhost_table *mem)
{
	memcpy(mem->next, mem->slots, mem->nr * sizeof(*mem->slots));
	mem->nr_next = mem->nr;
}

int gm_vhost_memory_plan_add(struct gm_vhost_table *mem, const struct gm_vhost_region *region,
	int fd, bool same, struct gm_error *err)
{
	struct gm_vhost_slot slot;
	int rc = begin(mem, err);

	if (rc)
		return rc;
	copy_slots(mem);
	rc = check_region(mem, region, same, &slot, err);
	if (!rc)
		rc = check_file(&slot, fd, err);
	if (!rc)
		rc = plan_region(mem, &slot, fd, err);
	if (!rc)
		insert(mem, &slot);
	return planned(mem, rc);
}

int gm_vhost_memory_plan_remove(
	struct gm_vhost_table *mem, const struct gm_vhost_region *region, struct gm_error *err)
{
	struct gm_vhost_slot *slot;
	uint32_t i;
	int rc = begin(mem, err);

	if (rc)
		return rc;
	copy_slots(mem);
	i = find(mem->next, mem->nr_next, region->user);
	slot = &mem->next[i];
	/* The offset does not name it: front-ends send 0. */
	if (i == mem->nr_next || slot->user.first != region->user ||
		slot->gpa.first != region->gpa || gm_range_len(&slot->gpa) != region->len)
		return planned(mem,
			gm_error_set(err, -ENOENT, region->gpa, region->len,
				"vhost-user: there is no region of 0x%" PRIx64
				" bytes at guest address 0x%" PRIx64 ", user address 0x%" PRIx64,
				region->len, region->gpa, region->user));
	rc = gm_txn_remove(mem->txn, slot->id, err);
	mem->nr_gone = 1;
	mem->nr_next--;
	memmove(slot, slot + 1, (mem->nr_next - i) * sizeof(*slot));
	return planned(mem, rc);
}

/* ---- carrying out ---- */

int gm_vhost_memory_commit(struct gm_vhost_table *mem, struct gm_error *err)
{
	int rc = gm_txn_commit(mem->txn, err);

	if (rc)
		return planned(mem, rc);
	mem->txn = NULL;
	memcpy(mem->slots, mem->next, mem->nr_next * sizeof(*mem->slots));
	mem->nr = mem->nr_next;
	return mem->nr_gone ? gm_space_wait(mem->space, 0, err) : 0;
}
