/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_slots.c - the table of slots, and bringing KVM to it.
 *
 * Numbers are used again, the last one given back first. KVM forgets the bitmap of a slot that it deletes, so a slot
 * that is tracked is moved to where no memory is, by which KVM keeps the bitmap and the guest loses the slot;
 * then it is read, and the slot deleted: no write falls between.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "adapters/kvm.h"
#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi_kvm.h"

#define TRIES 3 /* KVM needs memory to delete a slot */

/* ---- the table ---- */

bool gm_kvm_slots_reserve(struct gm_kvm *kvm, uint32_t more)
{
	uint32_t unused = kvm->cap - (kvm->nr + kvm->nr_stale);
	uint32_t cap = kvm->cap;
	struct slot *slots;
	uint32_t *order;

	if (more <= unused)
		return true;
	more -= unused;
	cap += more > cap ? more : cap;
	slots = gm_sys_realloc(kvm->slots, cap, sizeof(*slots));
	if (!slots)
		return false;
	kvm->slots = slots;
	order = gm_sys_realloc(kvm->order, cap, sizeof(*order));
	if (!order)
		return false;
	kvm->order = order;
	kvm->cap = cap;
	return true;
}

void gm_kvm_slots_free(struct gm_kvm *kvm)
{
	gm_sys_free(kvm->slots);
	gm_sys_free(kvm->order);
}

static uint64_t last_of(const struct slot *slot)
{
	return slot->gpa + (slot->len - 1);
}

uint32_t gm_kvm_slots_find(const struct gm_kvm *kvm, uint64_t gpa)
{
	uint32_t low = 0;
	uint32_t high = kvm->nr;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (last_of(&kvm->slots[kvm->order[mid]]) < gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct slot *slot_at(struct gm_kvm *kvm, uint64_t gpa)
{
	uint32_t i = gm_kvm_slots_find(kvm, gpa);

	if (i == kvm->nr || kvm->slots[kvm->order[i]].gpa != gpa)
		return NULL;
	return &kvm->slots[kvm->order[i]];
}

/* Does KVM lack what is shown, or have it otherwise than the guest may? */
static void account(struct gm_kvm *kvm, struct slot *slot)
{
	bool lacks = slot->shown && !(slot->there && slot->at == slot->gpa &&
					    !((slot->got ^ slot->flags) & KVM_MEM_READONLY));

	if (lacks != slot->lacks)
		kvm->missing += lacks ? 1 : UINT32_MAX;
	slot->lacks = lacks;
}

static void show(struct gm_kvm *kvm, struct slot *slot)
{
	uint32_t i = gm_kvm_slots_find(kvm, slot->gpa);

	memmove(kvm->order + i + 1, kvm->order + i, (kvm->nr - i) * sizeof(*kvm->order));
	kvm->order[i] = (uint32_t)(slot - kvm->slots);
	kvm->nr++;
	slot->shown = true;
	account(kvm, slot);
}

static void hide(struct gm_kvm *kvm, struct slot *slot)
{
	uint32_t i = gm_kvm_slots_find(kvm, slot->gpa);

	kvm->nr--;
	memmove(kvm->order + i, kvm->order + i + 1, (kvm->nr - i) * sizeof(*kvm->order));
	slot->shown = false;
	account(kvm, slot);
}

static struct slot *take_free(struct gm_kvm *kvm)
{
	struct slot *slot;

	if (kvm->free) {
		slot = &kvm->slots[kvm->free - 1];
		kvm->free = slot->next;
		return slot;
	}
	if (kvm->high == kvm->limit || !gm_kvm_slots_reserve(kvm, 1))
		return NULL;
	slot = &kvm->slots[kvm->high];
	*slot = (struct slot){.number = kvm->first_number + kvm->high++};
	return slot;
}

/* Not shown any more: free, or stale if KVM still has it. */
static void let_go(struct gm_kvm *kvm, struct slot *slot)
{
	uint32_t *list = slot->there ? &kvm->stale : &kvm->free;

	slot->next = *list;
	*list = (uint32_t)(slot - kvm->slots) + 1;
	kvm->nr_stale += slot->there;
}

/* ---- KVM ---- */

bool gm_kvm_slots_is_logged(const struct gm_kvm *kvm, const struct slot *slot)
{
	return kvm->track != GM_KVM_TRACK_NONE &&
	       !(slot->flags & (KVM_MEM_READONLY | KVM_MEM_GUEST_MEMFD));
}

static uint32_t flags_of(const struct gm_kvm *kvm, const struct slot *slot)
{
	uint32_t log = gm_kvm_slots_is_logged(kvm, slot) ? KVM_MEM_LOG_DIRTY_PAGES : 0;

	return slot->flags | log;
}

static int set_slot(struct gm_kvm *kvm, struct slot *slot, uint64_t gpa, uint32_t flags)
{
	struct kvm_userspace_memory_region2 arg = {
		.slot = slot->number,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = slot->len,
		.userspace_addr = slot->hva,
		.guest_memfd_offset = slot->memfd_off,
		.guest_memfd = (uint32_t)slot->memfd,
	};
	int rc = gm_sys_kvm_set_slot(kvm->vm, &arg);

	if (rc < 0)
		return rc;
	slot->there = true;
	slot->at = gpa;
	slot->got = flags;
	account(kvm, slot);
	return 0;
}

static int delete_slot(struct gm_kvm *kvm, struct slot *slot)
{
	struct kvm_userspace_memory_region2 arg = {
		.slot = slot->number, .guest_phys_addr = slot->at};
	int rc = 0;

	for (int tries = 0; tries < TRIES; tries++) {
		rc = gm_sys_kvm_set_slot(kvm->vm, &arg);
		if (rc >= 0) {
			slot->there = false;
			account(kvm, slot);
			return 0;
		}
	}
	return rc;
}

static int refused(const struct gm_kvm *kvm, const struct slot *slot, int rc, struct gm_error *err)
{
	const char *why = "";

	if (rc == -EEXIST)
		why = kvm->nr_stale ? ": KVM would not delete the slot that was there"
				    : ": another slot has some of these addresses";
	else if (rc == -EINVAL)
		why = ": misaligned, too long, not the guest's addresses, or the number is in use";
	else if (rc == -ENOMEM)
		why = ": the kernel has no memory for its tables";
	return gm_error_set(err, rc, slot->gpa, slot->len,
		"kvm: slot %u, gpa 0x%" PRIx64 ", %" PRIu64 " bytes at 0x%" PRIx64
		", flags 0x%x: %s%s",
		slot->number & 0xffff, slot->gpa, slot->len, slot->hva, slot->flags,
		gm_error_word(rc), why);
}

/* ---- taking out ---- */

/* Where a slot is moved to be read: the end of what KVM may know as guest addresses. */
static bool park(struct gm_kvm *kvm, struct slot *slot)
{
	static const uint8_t tops[] = {52, 48, 47, 46, 45, 44, 42, 40, 39, 36};

	for (; kvm->park < sizeof(tops); kvm->park++) {
		uint64_t top = UINT64_C(1) << tops[kvm->park];

		/* Not over itself. */
		if (slot->len >= top || top - slot->len <= last_of(slot))
			continue;
		if (set_slot(kvm, slot, top - slot->len, slot->got) == 0)
			return true;
	}
	kvm->park = 0;
	return false;
}

static int take_out(struct gm_kvm *kvm, struct slot *slot)
{
	bool logged = slot->got & KVM_MEM_LOG_DIRTY_PAGES;
	uint64_t pages = slot->len >> kvm->page_shift;
	uint64_t bytes = 0;
	bool exact;
	int rc;

	if (!logged || kvm->track != GM_KVM_TRACK_BITMAP) {
		rc = delete_slot(kvm, slot);
		/* What it wrote is still in the rings, under its number. */
		if (logged && gm_kvm_harvest_rings(kvm, &bytes))
			gm_kvm_mark(kvm, slot, 0, pages);
		kvm->harvested += bytes;
		return rc;
	}
	exact = kvm->paused || park(kvm, slot);
	if (gm_kvm_harvest_bits(kvm, slot, false, &bytes))
		exact = false;
	rc = delete_slot(kvm, slot);
	/* Else something may have been written in between. */
	if (!exact)
		gm_kvm_mark(kvm, slot, 0, pages);
	kvm->harvested += exact ? bytes : slot->len;
	return rc;
}

/* Makes KVM have it as it is to be. A bitmap needs room to be read. */
static int put_in(struct gm_kvm *kvm, struct slot *slot, struct gm_error *err)
{
	uint32_t flags = flags_of(kvm, slot);
	int rc = 0;

	if (slot->there && slot->at == slot->gpa && slot->got == flags)
		return 0;
	if (kvm->track == GM_KVM_TRACK_BITMAP && !gm_kvm_bits_reserve(kvm, slot->len))
		rc = -ENOMEM;
	/* Of what there is only logging can be changed. */
	if (!rc && slot->there && ((slot->got ^ flags) & KVM_MEM_READONLY))
		rc = take_out(kvm, slot);
	if (!rc)
		rc = set_slot(kvm, slot, slot->gpa, flags);
	return rc ? refused(kvm, slot, rc, err) : 0;
}

void gm_kvm_slots_remove(struct gm_kvm *kvm, uint64_t gpa)
{
	struct slot *slot = slot_at(kvm, gpa);

	if (!slot)
		return;
	if (slot->there)
		take_out(kvm, slot);
	hide(kvm, slot);
	let_go(kvm, slot);
}

/* ---- mending ---- */

/* Deletes what KVM would not delete before. */
static void delete_stale(struct gm_kvm *kvm)
{
	uint32_t *link = &kvm->stale;

	while (*link) {
		struct slot *slot = &kvm->slots[*link - 1];

		if (delete_slot(kvm, slot)) {
			link = &slot->next;
			continue;
		}
		*link = slot->next;
		kvm->nr_stale--;
		let_go(kvm, slot);
	}
}

void gm_kvm_slots_mend(struct gm_kvm *kvm)
{
	if (kvm->stale)
		delete_stale(kvm);
	for (uint32_t i = 0; kvm->missing && i < kvm->nr; i++) {
		struct slot *slot = &kvm->slots[kvm->order[i]];

		if (slot->lacks)
			put_in(kvm, slot, NULL);
	}
}

/* What is to come is still there. */
static struct slot *revive(struct gm_kvm *kvm, const struct slot *want)
{
	for (uint32_t *link = &kvm->stale; *link; link = &kvm->slots[*link - 1].next) {
		struct slot *slot = &kvm->slots[*link - 1];

		if (slot->gpa == want->gpa && slot->len == want->len && slot->hva == want->hva &&
			slot->flags == want->flags && !(slot->flags & KVM_MEM_GUEST_MEMFD)) {
			*link = slot->next;
			kvm->nr_stale--;
			return slot;
		}
	}
	return NULL;
}

/* ---- coming and changing ---- */

int gm_kvm_slots_add(struct gm_kvm *kvm, const struct slot *want, bool must, struct gm_error *err)
{
	struct slot *slot = revive(kvm, want);
	int rc;

	if (!slot) {
		if (kvm->stale)
			delete_stale(kvm);
		slot = take_free(kvm);
		if (!slot)
			return gm_error_set(err, -ENOSPC, want->gpa, want->len,
				"kvm: no slot is left for gpa 0x%" PRIx64 ", %" PRIu64 " bytes",
				want->gpa, want->len);
		slot->gpa = want->gpa;
		slot->len = want->len;
		slot->hva = want->hva;
		slot->flags = want->flags;
		slot->memfd = want->memfd;
		slot->memfd_off = want->memfd_off;
	}
	rc = put_in(kvm, slot, err);
	if (rc && !must)
		let_go(kvm, slot);
	else
		show(kvm, slot);
	return must ? 0 : rc;
}

int gm_kvm_slots_change(
	struct gm_kvm *kvm, uint64_t gpa, uint32_t flags, bool must, struct gm_error *err)
{
	struct slot *slot = slot_at(kvm, gpa);
	uint32_t old = slot->flags;
	int rc;

	slot->flags = flags;
	account(kvm, slot);
	rc = put_in(kvm, slot, err);
	if (rc && !must) {
		slot->flags = old;
		account(kvm, slot);
		put_in(kvm, slot, NULL);
	}
	return must ? 0 : rc;
}

int gm_kvm_slots_log(struct gm_kvm *kvm, struct slot *slot, struct gm_error *err)
{
	return slot->there ? put_in(kvm, slot, err) : 0;
}
