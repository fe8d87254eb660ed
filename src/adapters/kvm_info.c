/* SPDX-License-Identifier: BSD-3-Clause */
/* kvm_info.c - what there is: sums over the slots, and the slots one by one. */
#include <errno.h>
#include <string.h>

#include "adapters/kvm.h"
#include "core/error.h"
#include "sys/sys.h"
#include "sys/uapi_kvm.h"

#define SIZE_2M (UINT64_C(1) << 21)
#define SIZE_1G (UINT64_C(1) << 30)

/* Bytes in whole pages of a size, if both addresses agree on where they begin. */
static uint64_t in_pages(const struct slot *slot, uint64_t size)
{
	uint64_t skip = -slot->gpa & (size - 1);

	if (((slot->gpa ^ slot->hva) & (size - 1)) || skip >= slot->len)
		return 0;
	return (slot->len - skip) & ~(size - 1);
}

static void add_slot(const struct slot *slot, struct gm_kvm_info *info)
{
	info->bytes += slot->len;
	info->bytes_2m += in_pages(slot, SIZE_2M);
	info->bytes_1g += in_pages(slot, SIZE_1G);
	if ((slot->gpa ^ slot->hva) & (SIZE_2M - 1)) {
		if (!info->misaligned)
			info->misaligned_gpa = slot->gpa;
		info->misaligned += slot->len;
	}
	if ((slot->flags & KVM_MEM_GUEST_MEMFD) && !(slot->flags & KVM_MEM_READONLY))
		info->untracked += slot->len;
}

int gm_kvm_info(struct gm_kvm *kvm, struct gm_kvm_info *ret_info)
{
	struct gm_kvm_info info = {.size = ret_info->size};

	if (ret_info->size < sizeof(*ret_info))
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	info.slots = kvm->nr;
	info.limit = kvm->limit;
	info.missing = kvm->missing;
	info.stale = kvm->nr_stale;
	info.track = kvm->track;
	info.caps = kvm->caps;
	info.no_slot = kvm->no_slot;
	info.harvested = kvm->harvested;
	for (uint32_t i = 0; i < kvm->nr_vcpus; i++)
		info.vcpus += kvm->vcpus[i].used;
	for (uint32_t i = 0; i < kvm->nr; i++)
		add_slot(&kvm->slots[kvm->order[i]], &info);
	pthread_mutex_unlock(&kvm->lock);
	memcpy(ret_info, &info, sizeof(info));
	return 0;
}

int gm_kvm_slot(struct gm_kvm *kvm, uint64_t gpa, struct gm_kvm_slot *ret_slot)
{
	const struct slot *slot;
	uint32_t i;
	int rc = 0;

	if (ret_slot->size < sizeof(*ret_slot))
		return -EINVAL;
	pthread_mutex_lock(&kvm->lock);
	i = gm_kvm_slots_find(kvm, gpa);
	if (i < kvm->nr) {
		slot = &kvm->slots[kvm->order[i]];
		ret_slot->gpa = slot->gpa;
		ret_slot->len = slot->len;
		ret_slot->hva = (void *)(uintptr_t)slot->hva;
		ret_slot->number = slot->number;
		ret_slot->flags = slot->there ? slot->got : slot->flags;
		ret_slot->missing = slot->lacks;
	} else {
		rc = -ENOENT;
	}
	pthread_mutex_unlock(&kvm->lock);
	return rc;
}

#ifdef __x86_64__
int gm_kvm_root(int vcpu_fd, uint64_t *ret_root, uint32_t *ret_levels, struct gm_error *err)
{
	const uint64_t efer_long = UINT64_C(1) << 10;
	const uint64_t cr4_five = UINT64_C(1) << 12;
	struct kvm_sregs sregs;
	int rc;

	do {
		rc = gm_sys_ioctl(vcpu_fd, KVM_GET_SREGS, &sregs);
	} while (rc == -EINTR);
	if (rc < 0)
		return gm_error_set(
			err, rc, 0, 0, "registers of a vCPU cannot be read: %s", gm_error_word(rc));
	if (!(sregs.efer & efer_long))
		return gm_error_set(err, -ENOTSUP, 0, 0,
			"the vCPU is not in long mode: it has no page tables of 4 or 5 levels");
	*ret_root = sregs.cr3 & UINT64_C(0x000ffffffffff000);
	*ret_levels = sregs.cr4 & cr4_five ? 5 : 4;
	return 0;
}
#else
int gm_kvm_root(int vcpu_fd, uint64_t *ret_root, uint32_t *ret_levels, struct gm_error *err)
{
	(void)vcpu_fd;
	(void)ret_root;
	(void)ret_levels;
	return gm_error_set(err, -ENOTSUP, 0, 0, "page tables of this sort of guest are not known");
}
#endif
