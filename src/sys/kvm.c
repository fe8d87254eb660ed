/* SPDX-License-Identifier: BSD-3-Clause */
/* kvm.c - KVM's system calls on memory. */
#include "sys/sys.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "sys/uapi_kvm.h"

static int call(int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	return rc < 0 ? -errno : rc;
}

int gm_sys_kvm_check(int fd, unsigned int cap)
{
	int rc = ioctl(fd, KVM_CHECK_EXTENSION, (unsigned long)cap);

	return rc < 0 ? -errno : rc;
}

int gm_sys_kvm_enable(int vm, unsigned int cap, uint64_t arg)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {arg}};

	return call(vm, KVM_ENABLE_CAP, &enable);
}

int gm_sys_kvm_set_slot(int vm, const struct kvm_userspace_memory_region2 *slot)
{
	struct kvm_userspace_memory_region2 new = *slot;
	struct kvm_userspace_memory_region old = {
		.slot = slot->slot,
		.flags = slot->flags,
		.guest_phys_addr = slot->guest_phys_addr,
		.memory_size = slot->memory_size,
		.userspace_addr = slot->userspace_addr,
	};

	if (slot->flags & KVM_MEM_GUEST_MEMFD)
		return call(vm, KVM_SET_USER_MEMORY_REGION2, &new);
	return call(vm, KVM_SET_USER_MEMORY_REGION, &old);
}

int gm_sys_kvm_get_log(int vm, uint32_t slot, void *bits)
{
	struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bits};

	return call(vm, KVM_GET_DIRTY_LOG, &log);
}

int gm_sys_kvm_clear_log(int vm, uint32_t slot, uint64_t first, uint32_t nr, void *bits)
{
	struct kvm_clear_dirty_log log = {
		.slot = slot, .first_page = first, .num_pages = nr, .dirty_bitmap = bits};

	return call(vm, KVM_CLEAR_DIRTY_LOG, &log);
}

int gm_sys_kvm_reset_rings(int vm)
{
	return call(vm, KVM_RESET_DIRTY_RINGS, NULL);
}

int gm_sys_kvm_set_attributes(int vm, uint64_t gpa, uint64_t len, uint64_t attributes)
{
	struct kvm_memory_attributes arg = {.address = gpa, .size = len, .attributes = attributes};

	return call(vm, KVM_SET_MEMORY_ATTRIBUTES, &arg);
}

int gm_sys_kvm_prefault(int vcpu, uint64_t *gpa, uint64_t *len)
{
	struct kvm_pre_fault_memory arg = {.gpa = *gpa, .size = *len};
	int rc = call(vcpu, KVM_PRE_FAULT_MEMORY, &arg);

	*gpa = arg.gpa;
	*len = arg.size;
	return rc;
}
