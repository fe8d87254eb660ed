/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_ring.c - dirty rings: one a vCPU, shared with the kernel, which writes an entry at the first write
 * to a page.
 *
 * A harvest notes entries, sets them free, has the kernel reset them (it protects the pages), and marks
 * the pages then. If the reset falls short, what was noted is marked now and once more after a
 * reset that went well.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "adapters/kvm.h"
#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi_kvm.h"

#define RESETS 64 /* without progress: a signal is pending */

static size_t ring_len(const struct gm_kvm *kvm)
{
	return kvm->ring_entries * sizeof(struct kvm_dirty_gfn);
}

/* ---- harvest ---- */

/* Notes entries of a ring, as many as there is room for. */
static void note(struct gm_kvm *kvm, struct vcpu *vcpu)
{
	while (vcpu->left && kvm->nr_batch < GM_KVM_BATCH) {
		struct kvm_dirty_gfn *entry = &vcpu->ring[vcpu->next & (kvm->ring_entries - 1)];

		/* Pairs with the kernel's release of a new entry. */
		if (!(__atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_DIRTY))
			break;
		kvm->batch[kvm->nr_batch++] =
			(struct written){entry->slot, (uint32_t)entry->offset};
		/* The kernel takes it back after this, and not before the entry was read. */
		__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
		vcpu->next++;
		vcpu->left--;
		kvm->nr_unreset++;
	}
}

/* Until the kernel has reset all that was set free. */
static int reset(struct gm_kvm *kvm)
{
	for (int idle = 0; kvm->nr_unreset && idle < RESETS; idle++) {
		int nr = gm_sys_kvm_reset_rings(kvm->vm);

		if (nr < 0 && nr != -EINTR)
			return nr;
		if (nr > 0) {
			kvm->nr_unreset -=
				(uint32_t)nr < kvm->nr_unreset ? (uint32_t)nr : kvm->nr_unreset;
			idle = 0;
		}
	}
	return kvm->nr_unreset ? -EINTR : 0;
}

/* Marks what was noted, neighbours at once. */
static uint64_t mark(struct gm_kvm *kvm)
{
	uint64_t pages = 0;

	for (uint32_t i = 0, n; i < kvm->nr_batch; i += n) {
		const struct written *first = &kvm->batch[i];
		uint32_t index = first->slot - kvm->first_number;
		const struct slot *slot;

		for (n = 1; i + n < kvm->nr_batch; n++) {
			if (first[n].slot != first->slot || first[n].page != first->page + n)
				break;
		}
		if (index >= kvm->high)
			continue;
		slot = &kvm->slots[index];
		if (first->page > (slot->len - 1) >> kvm->page_shift)
			continue;
		gm_kvm_mark(kvm, slot, first->page, n);
		pages += n;
	}
	return pages;
}

/* One batch from all rings. Sets @more if there may be another. */
static int harvest_batch(struct gm_kvm *kvm, uint64_t *bytes, bool *more)
{
	int rc;

	for (uint32_t i = 0; i < kvm->nr_vcpus; i++) {
		if (kvm->vcpus[i].ring)
			note(kvm, &kvm->vcpus[i]);
	}
	rc = reset(kvm);
	*bytes += mark(kvm) << kvm->page_shift;
	*more = !rc && kvm->nr_batch == GM_KVM_BATCH;
	if (!rc)
		kvm->nr_batch = 0;
	return rc;
}

int gm_kvm_harvest_rings(struct gm_kvm *kvm, uint64_t *bytes)
{
	bool more = true;
	int rc = 0;

	/* What was there when it began: a guest may write faster than this. */
	for (uint32_t i = 0; i < kvm->nr_vcpus; i++)
		kvm->vcpus[i].left = kvm->ring_entries;
	while (more && !rc)
		rc = harvest_batch(kvm, bytes, &more);
	return rc;
}

/* ---- vCPUs ---- */

void gm_kvm_rings_free(struct gm_kvm *kvm)
{
	for (uint32_t i = 0; i < kvm->nr_vcpus; i++) {
		if (kvm->vcpus[i].ring)
			gm_sys_munmap(kvm->vcpus[i].ring, ring_len(kvm));
	}
	gm_sys_free(kvm->vcpus);
}

static struct vcpu *free_vcpu(struct gm_kvm *kvm)
{
	struct vcpu *vcpus;

	for (uint32_t i = 0; i < kvm->nr_vcpus; i++) {
		if (!kvm->vcpus[i].used)
			return &kvm->vcpus[i];
	}
	vcpus = gm_sys_realloc(kvm->vcpus, kvm->nr_vcpus + 1, sizeof(*vcpus));
	if (!vcpus)
		return NULL;
	kvm->vcpus = vcpus;
	vcpus[kvm->nr_vcpus] = (struct vcpu){.used = false};
	return &vcpus[kvm->nr_vcpus++];
}

static int add_vcpu(struct gm_kvm *kvm, int vcpu_fd, uint32_t *ret_id, struct gm_error *err)
{
	struct vcpu *vcpu = free_vcpu(kvm);
	void *ring = NULL;
	int rc = 0;

	if (!vcpu)
		return gm_error_set(err, -ENOMEM, 0, 0, "kvm: out of memory");
	if (kvm->ring_entries)
		rc = gm_sys_mmap(NULL, ring_len(kvm), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd,
			(uint64_t)KVM_DIRTY_LOG_PAGE_OFFSET << kvm->page_shift, &ring);
	if (rc)
		return gm_error_set(err, rc, 0, 0,
			"kvm: the dirty ring of vCPU fd %d cannot be mapped: %s", vcpu_fd,
			gm_error_word(rc));
	*vcpu = (struct vcpu){.ring = ring, .used = true};
	*ret_id = (uint32_t)(vcpu - kvm->vcpus);
	return 0;
}

int gm_kvm_add_vcpu(struct gm_kvm *kvm, int vcpu_fd, uint32_t *ret_id, struct gm_error *err)
{
	int rc;

	pthread_mutex_lock(&kvm->lock);
	rc = add_vcpu(kvm, vcpu_fd, ret_id, err);
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}

static int remove_vcpu(struct gm_kvm *kvm, uint32_t id, struct gm_error *err)
{
	uint64_t bytes = 0;
	int rc = 0;

	if (id >= kvm->nr_vcpus || !kvm->vcpus[id].used)
		return gm_error_set(err, -ENOENT, 0, 0, "kvm: there is no vCPU %u", id);
	if (kvm->vcpus[id].ring)
		rc = gm_kvm_harvest_rings(kvm, &bytes);
	kvm->harvested += bytes;
	if (rc)
		return gm_error_set(
			err, rc, 0, 0, "kvm: the dirty ring of vCPU %u: %s", id, gm_error_word(rc));
	if (kvm->vcpus[id].ring)
		gm_sys_munmap(kvm->vcpus[id].ring, ring_len(kvm));
	kvm->vcpus[id] = (struct vcpu){.used = false};
	return 0;
}

int gm_kvm_remove_vcpu(struct gm_kvm *kvm, uint32_t id, struct gm_error *err)
{
	int rc;

	pthread_mutex_lock(&kvm->lock);
	rc = remove_vcpu(kvm, id, err);
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}

int gm_kvm_prefault(struct gm_kvm *kvm, int vcpu_fd, uint64_t gpa, uint64_t len, uint64_t *ret_done,
	struct gm_error *err)
{
	uint64_t at = gpa;
	uint64_t left = len;
	int rc = 0;

	if (ret_done)
		*ret_done = 0;
	if (!(kvm->caps & GM_KVM_CAP_PREFAULT))
		return gm_error_set(err, -ENOTSUP, gpa, len,
			"kvm: it cannot map memory ahead (KVM_PRE_FAULT_MEMORY, Linux 6.11)");
	do {
		if (left)
			rc = gm_sys_kvm_prefault(vcpu_fd, &at, &left);
	} while (left && (rc == -EAGAIN || rc == 0));
	if (ret_done)
		*ret_done = len - left;
	if (rc < 0)
		return gm_error_set(err, rc, at, left,
			"kvm: gpa 0x%" PRIx64 ", %" PRIu64 " bytes cannot be mapped ahead: %s", at,
			left, gm_error_word(rc));
	return 0;
}
