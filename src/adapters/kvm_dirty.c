/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_dirty.c - tracking what the guest writes, by bitmaps; and what both ways share.
 *
 * The order that loses nothing: see which pages are written, protect them again, mark them in the logs. Who
 * takes a mark reads the page after all that.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "adapters/kvm.h"
#include "core/bits.h"
#include "core/error.h"
#include "sys/probe.h"
#include "sys/sys.h"
#include "sys/uapi_kvm.h"

/* KVM holds a lock while it clears: 1 GiB with pages of 4 KiB at a time. */
#define CHUNK_WORDS (UINT64_C(1) << 12)
/* Marks in one section. */
#define RUNS 256

/* ---- marks ---- */

void gm_kvm_mark(struct gm_kvm *kvm, const struct slot *slot, uint64_t page, uint64_t nr)
{
	gm_view_mark(gm_reader_enter(kvm->reader), slot->gpa + (page << kvm->page_shift),
		nr << kvm->page_shift);
	gm_reader_leave(kvm->reader);
}

/* Marks the pages of words [first, last] of the bitmap. Returns their number. */
static uint64_t mark_words(
	struct gm_kvm *kvm, const struct slot *slot, uint64_t first, uint64_t last)
{
	uint64_t from = first * 64;
	uint64_t end = last * 64 + 63;
	uint64_t pages = 0;
	bool more = true;

	while (more) {
		const struct gm_view *view = gm_reader_enter(kvm->reader);

		for (int i = 0; i < RUNS && more; i++) {
			struct gm_range run;

			more = from <= end && gm_bits_next(kvm->bits, from, end, &run);
			if (!more)
				break;
			gm_view_mark(view, slot->gpa + (run.first << kvm->page_shift),
				gm_range_len(&run) << kvm->page_shift);
			pages += gm_range_len(&run);
			from = run.last + 1;
		}
		gm_reader_leave(kvm->reader);
	}
	return pages;
}

/* ---- bitmaps ---- */

static uint64_t pages_of(const struct gm_kvm *kvm, const struct slot *slot)
{
	return slot->len >> kvm->page_shift;
}

bool gm_kvm_bits_reserve(struct gm_kvm *kvm, uint64_t len)
{
	uint64_t words = gm_bits_words(len >> kvm->page_shift);
	uint64_t *bits;

	if (words * 8 <= kvm->bits_len)
		return true;
	/* Nothing in it is kept, and the kernel writes all of it. */
	bits = gm_sys_alloc_array(words, 8);
	if (!bits)
		return false;
	gm_sys_free(kvm->bits);
	kvm->bits = bits;
	kvm->bits_len = words * 8;
	return true;
}

/* Clears and protects the pages of words [first, last] that are set in @bits, whose first is @first. */
static int clear_words(
	struct gm_kvm *kvm, const struct slot *slot, uint64_t first, uint64_t last, uint64_t *bits)
{
	uint64_t pages = pages_of(kvm, slot);
	uint64_t nr = (last - first + 1) * 64;

	if (nr > pages - first * 64)
		nr = pages - first * 64;
	return gm_sys_kvm_clear_log(kvm->vm, slot->number, first * 64, (uint32_t)nr, bits);
}

/* The first and the last word that are not zero; false if all are. Most are. */
static bool trim(const uint64_t *words, uint64_t *first, uint64_t *last)
{
	uint64_t from = *first;
	uint64_t to = *last;

	for (; to - from >= 8; from += 8) {
		const uint64_t *w = words + from;

		if ((w[0] | w[1] | w[2] | w[3]) | (w[4] | w[5] | w[6] | w[7]))
			break;
	}
	while (from < to && !words[from])
		from++;
	if (!words[from])
		return false;
	while (!words[to])
		to--;
	*first = from;
	*last = to;
	return true;
}

int gm_kvm_harvest_bits(struct gm_kvm *kvm, const struct slot *slot, bool clear, uint64_t *bytes)
{
	uint64_t words = gm_bits_words(pages_of(kvm, slot));
	int rc = gm_sys_kvm_get_log(kvm->vm, slot->number, kvm->bits);

	if (rc < 0)
		return rc;
	rc = 0;
	for (uint64_t at = 0; at < words; at += CHUNK_WORDS) {
		uint64_t first = at;
		uint64_t last = (words - at < CHUNK_WORDS ? words - at : CHUNK_WORDS) + at - 1;
		int cleared = 0;

		if (!trim(kvm->bits, &first, &last))
			continue;
		if (clear && (kvm->caps & GM_KVM_CAP_MANUAL_CLEAR))
			cleared = clear_words(kvm, slot, first, last, kvm->bits + first);
		/* If they could not be cleared they are found once more. */
		*bytes += mark_words(kvm, slot, first, last) << kvm->page_shift;
		if (cleared < 0 && !rc)
			rc = cleared;
	}
	return rc;
}

/* KVM has set all bits and protected nothing: from here on bits mean something. */
static int clear_all(struct gm_kvm *kvm, const struct slot *slot, struct gm_error *err)
{
	uint64_t words = gm_bits_words(pages_of(kvm, slot));
	int rc = 0;

	if (!kvm->all_set)
		return 0;
	memset(kvm->bits, 0xff, (words < CHUNK_WORDS ? words : CHUNK_WORDS) * 8);
	for (uint64_t at = 0; at < words && rc >= 0; at += CHUNK_WORDS) {
		uint64_t last = (words - at < CHUNK_WORDS ? words - at : CHUNK_WORDS) + at - 1;

		rc = clear_words(kvm, slot, at, last, kvm->bits);
	}
	if (rc < 0)
		return gm_error_set(err, rc, slot->gpa, slot->len,
			"kvm: slot %u at gpa 0x%" PRIx64 " cannot be protected: %s",
			slot->number & 0xffff, slot->gpa, gm_error_word(rc));
	return 0;
}

/* ---- all slots ---- */

static int harvest(struct gm_kvm *kvm, uint64_t *bytes, struct gm_error *err)
{
	int rc = 0;

	if (kvm->track == GM_KVM_TRACK_RING) {
		rc = gm_kvm_harvest_rings(kvm, bytes);
		if (rc)
			gm_error_set(err, rc, 0, 0, "kvm: dirty rings cannot be reset: %s",
				gm_error_word(rc));
	}
	for (uint32_t i = 0; kvm->track != GM_KVM_TRACK_NONE && i < kvm->nr; i++) {
		const struct slot *slot = &kvm->slots[kvm->order[i]];
		int mine;

		if (slot->there && (slot->flags & KVM_MEM_GUEST_MEMFD)) {
			gm_kvm_mark(kvm, slot, 0, pages_of(kvm, slot));
			*bytes += slot->len;
		}
		if (!slot->there || !(slot->got & KVM_MEM_LOG_DIRTY_PAGES) ||
			kvm->track != GM_KVM_TRACK_BITMAP)
			continue;
		mine = gm_kvm_harvest_bits(kvm, slot, true, bytes);
		if (mine && !rc)
			rc = gm_error_set(err, mine, slot->gpa, slot->len,
				"kvm: the bitmap of slot %u at gpa 0x%" PRIx64
				" cannot be harvested: %s",
				slot->number & 0xffff, slot->gpa, gm_error_word(mine));
	}
	kvm->harvested += *bytes;
	return rc;
}

int gm_kvm_harvest(struct gm_kvm *kvm, uint64_t *ret_bytes, struct gm_error *err)
{
	uint64_t bytes = 0;
	int rc;

	pthread_mutex_lock(&kvm->lock);
	gm_kvm_slots_mend(kvm);
	rc = harvest(kvm, &bytes, err);
	pthread_mutex_unlock(&kvm->lock);
	GM_PROBE2(kvm_harvest, bytes, rc);
	if (ret_bytes)
		*ret_bytes = bytes;
	return rc;
}

/* ---- begin and end ---- */

/* Gives the first @nr slots the flags of tracking as it is. */
static int log_slots(struct gm_kvm *kvm, uint32_t nr, uint32_t *ret_done, struct gm_error *err)
{
	int rc = 0;

	*ret_done = 0;
	while (*ret_done < nr && !rc) {
		struct slot *slot = &kvm->slots[kvm->order[*ret_done]];

		rc = gm_kvm_slots_log(kvm, slot, err);
		if (!rc && kvm->track == GM_KVM_TRACK_BITMAP &&
			(slot->got & KVM_MEM_LOG_DIRTY_PAGES))
			rc = clear_all(kvm, slot, err);
		++*ret_done;
	}
	return rc;
}

/*
 * While logging begins, bitmaps are set as they are made, and KVM does not protect a slot in one go. Slots that
 * come later begin with nothing set: KVM maps nothing of them yet.
 */
static void initially_set(struct gm_kvm *kvm, bool on)
{
	uint64_t how = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	if (kvm->track != GM_KVM_TRACK_BITMAP || !(kvm->caps & GM_KVM_CAP_INITIALLY_SET))
		return;
	if (on)
		how |= KVM_DIRTY_LOG_INITIALLY_SET;
	/* If it cannot be said, what is set stays so, or nothing is; both are followed. */
	if (gm_sys_kvm_enable(kvm->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, how) >= 0)
		kvm->all_set = on;
}

static int begin(struct gm_kvm *kvm, uint32_t how, struct gm_error *err)
{
	uint32_t done;
	int rc;

	kvm->track = how;
	initially_set(kvm, true);
	rc = log_slots(kvm, kvm->nr, &done, err);
	initially_set(kvm, false);
	if (rc) {
		kvm->track = GM_KVM_TRACK_NONE;
		/* A slot that stays logged is no harm: it has no bits that anybody asks for. */
		log_slots(kvm, done, &done, NULL);
	}
	return rc;
}

static int end(struct gm_kvm *kvm, struct gm_error *err)
{
	uint32_t was = kvm->track;
	uint64_t bytes = 0;
	uint32_t done;
	int rc = harvest(kvm, &bytes, err);

	if (rc)
		return rc;
	kvm->track = GM_KVM_TRACK_NONE;
	rc = log_slots(kvm, kvm->nr, &done, err);
	/* What was written meanwhile is in the rings. */
	if (!rc && was == GM_KVM_TRACK_RING)
		rc = gm_kvm_harvest_rings(kvm, &kvm->harvested);
	if (!rc)
		return 0;
	/* Those that were not logged for a moment are found as a whole. */
	kvm->track = was;
	for (uint32_t i = 0; i < done; i++) {
		struct slot *slot = &kvm->slots[kvm->order[i]];

		gm_kvm_slots_log(kvm, slot, NULL);
		gm_kvm_mark(kvm, slot, 0, pages_of(kvm, slot));
	}
	return rc;
}

static int check_how(const struct gm_kvm *kvm, uint32_t how, struct gm_error *err)
{
	if (how > GM_KVM_TRACK_RING)
		return gm_error_set(err, -EINVAL, 0, 0, "kvm: there is no such way to track");
	if (how == GM_KVM_TRACK_RING && !kvm->ring_entries)
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"kvm: dirty rings were not asked for (gm_kvm_opts.ring_entries)");
	if (how == GM_KVM_TRACK_BITMAP && kvm->ring_entries)
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"kvm: a virtual machine with dirty rings has no bitmaps");
	return 0;
}

int gm_kvm_track(struct gm_kvm *kvm, uint32_t how, struct gm_error *err)
{
	int rc = check_how(kvm, how, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&kvm->lock);
	gm_kvm_slots_mend(kvm);
	if (how != kvm->track)
		rc = how == GM_KVM_TRACK_NONE ? end(kvm, err) : begin(kvm, how, err);
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}
