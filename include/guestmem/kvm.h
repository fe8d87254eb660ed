/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm.h - the memory slots of a KVM virtual machine, kept as a space is; and the pages its guest wrote.
 *
 * The adapter is a listener of the space: with each commit the slots of what goes are deleted before
 * readers are waited for and memory is unmapped, and those of what comes are made before the new map
 * is published. Where memory is readable but not writable (ROM, ROM devices) the slot is read-only and
 * writes exit; what is not readable, or not mapped in this process, has no slot, and all accesses
 * exit. The monitor answers exits with gm_read() and gm_write(). ioeventfds and irqfds are the monitor's.
 *
 * A slot that is exchanged is missing for a moment. A vCPU that runs then may exit for an address that
 * has memory before and after, and an instruction that is fetched there may fail; see @pause.
 */
#ifndef GUESTMEM_KVM_H
#define GUESTMEM_KVM_H

#include <guestmem/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gm_kvm;

/*
 * Neighbours in guest and host addresses share a slot. That saves slots; but what comes or goes beside
 * memory then exchanges the slot of both.
 */
#define GM_KVM_JOIN 0x1u
/* Unplugged parts (part.h) have no slot; each run of plugged ones takes one. Else a region has one. */
#define GM_KVM_PARTS 0x2u

/**
 * struct gm_kvm_opts - how a virtual machine follows a space; zero means default
 * @size:          sizeof(struct gm_kvm_opts)
 * @vm_fd:         of the virtual machine; borrowed and dup'ed
 * @flags:         GM_KVM_* bits
 * @first_slot:    lowest slot number that is the adapter's
 * @max_slots:     how many from there on are; 0 = all that the kernel has
 * @address_space: number of KVM's address space (1 is x86's SMM)
 * @ring_entries:  dirty ring of each vCPU: entries, a power of two; 0 = no rings. KVM wants to know
 *                 before the first vCPU is made, and has no bitmaps then
 * @pause:         optional: make all vCPUs leave KVM_RUN, and wait until they have. Called in a commit
 *                 before the first slot goes; 0, or a negative errno value: the commit is refused
 * @resume:        with @pause: let them run again
 * @ctx:           passed to both
 */
struct gm_kvm_opts {
	size_t size;
	int32_t vm_fd;
	uint32_t flags;
	uint32_t first_slot;
	uint32_t max_slots;
	uint32_t address_space;
	uint32_t ring_entries;
	int (*pause)(void *ctx);
	void (*resume)(void *ctx);
	void *ctx;
};

/** enum gm_kvm_track - how what the guest writes is found */
enum gm_kvm_track {
	GM_KVM_TRACK_NONE = 0,
	GM_KVM_TRACK_BITMAP, /* a bit a page in each slot */
	GM_KVM_TRACK_RING,   /* a ring of pages in each vCPU */
};

/* What the virtual machine offers: bits of gm_kvm_info.caps. */
#define GM_KVM_CAP_READONLY 0x01u      /* read-only slots */
#define GM_KVM_CAP_MANUAL_CLEAR 0x02u  /* bitmaps are cleared by ranges, when they have been read */
#define GM_KVM_CAP_INITIALLY_SET 0x04u /* logging starts without protecting everything at once */
#define GM_KVM_CAP_RING 0x08u          /* dirty rings */
#define GM_KVM_CAP_GUEST_MEMFD 0x10u   /* slots with memory of a guest_memfd */
#define GM_KVM_CAP_PRIVATE 0x20u       /* pages may be private to the guest */
#define GM_KVM_CAP_PREFAULT 0x40u      /* gm_kvm_prefault() */

/**
 * struct gm_kvm_info - slots as they are
 * @size:        sizeof(struct gm_kvm_info), set by the caller
 * @slots:       slots in use
 * @limit:       how many there can be
 * @missing:     slots that KVM refused to take back after a failed change; made good at the next
 *               chance, meanwhile accesses exit
 * @stale:       slots that KVM refused to delete; tried again at the next chance
 * @track:       enum gm_kvm_track
 * @caps:        GM_KVM_CAP_* bits
 * @vcpus:       vCPUs that were added
 * @bytes:       in slots
 * @bytes_2m:    of these, in whole 2 MiB whose guest and host addresses are equal modulo 2 MiB: what
 *               KVM can map with one leaf if the host has
 * @bytes_1g:    the same for 1 GiB
 * @misaligned:  bytes in slots whose guest and host addresses differ modulo 2 MiB: base pages only
 * @misaligned_gpa: the first such slot
 * @no_slot:     bytes of the map that have no slot: not readable, or not mapped here
 * @untracked:   bytes in slots whose writes KVM cannot track (guest_memfd); harvests mark all of them
 * @harvested:   bytes that harvests have found so far
 */
struct gm_kvm_info {
	size_t size;
	uint32_t slots;
	uint32_t limit;
	uint32_t missing;
	uint32_t stale;
	uint32_t track;
	uint32_t caps;
	uint32_t vcpus;
	uint32_t reserved;
	uint64_t bytes;
	uint64_t bytes_2m;
	uint64_t bytes_1g;
	uint64_t misaligned;
	uint64_t misaligned_gpa;
	uint64_t no_slot;
	uint64_t untracked;
	uint64_t harvested;
};

/**
 * struct gm_kvm_slot - a slot
 * @size:    sizeof(struct gm_kvm_slot), set by the caller
 * @gpa:     first address
 * @len:     bytes
 * @hva:     host address
 * @number:  as KVM counts
 * @flags:   KVM_MEM_* bits
 * @missing: 1 if KVM does not have it at the moment
 */
struct gm_kvm_slot {
	size_t size;
	uint64_t gpa;
	uint64_t len;
	void *hva;
	uint32_t number;
	uint32_t flags;
	uint32_t missing;
	uint32_t reserved;
};

/**
 * gm_kvm_create() - make slots of a space's memory, and keep them in step
 * @space:   borrowed; must outlive the adapter
 * @opts:    borrowed
 * @ret_kvm: the adapter, destroyed with gm_kvm_destroy()
 * @err:     optional
 *
 * From here on a commit that would need more slots than there are, or that KVM refuses, fails and
 * leaves space and slots as they were. Slots and dirty logging of the numbers from @first_slot on are
 * the adapter's; nobody else changes them. Returns 0; -EINVAL (options; @vm_fd is /dev/kvm; rings
 * after the first vCPU); -ENOTTY (@vm_fd is no virtual machine); -E2BIG; -EBADF; -ENOTSUP (rings,
 * read-only slots, private memory that KVM does not have); -ENOSPC (slots); -EFBIG (a slot has at
 * most 2^31 - 1 pages); -EBUSY (a transaction is open); -ENOMEM; or what KVM answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_create(struct gm_space *space, const struct gm_kvm_opts *opts,
	struct gm_kvm **ret_kvm, struct gm_error *err);

/**
 * gm_kvm_destroy() - delete the slots
 * @kvm: taken on success; NULL is ignored
 * @err: optional
 *
 * If writes are tracked they are harvested. Returns 0 or -EBUSY (a transaction is open).
 * Threads: owner only. Since: 0.1.
 */
GM_API int gm_kvm_destroy(struct gm_kvm *kvm, struct gm_error *err);

/**
 * gm_kvm_info() - describe the slots
 * @kvm:      borrowed
 * @ret_info: filled in
 *
 * Returns 0 or -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_info(struct gm_kvm *kvm, struct gm_kvm_info *ret_info);

/**
 * gm_kvm_slot() - walk over the slots, in rising order
 * @kvm:      borrowed
 * @gpa:      an address
 * @ret_slot: the slot that holds @gpa, or else the first above
 *
 * Returns 0, -ENOENT (no more), -EINVAL (size).
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_slot(struct gm_kvm *kvm, uint64_t gpa, struct gm_kvm_slot *ret_slot);

/**
 * gm_kvm_track() - begin, end or change the tracking of what the guest writes
 * @kvm: borrowed
 * @how: enum gm_kvm_track
 * @err: optional
 *
 * What is written after it returned is found by a later harvest; ending harvests first. With rings
 * (gm_kvm_opts.ring_entries) it is GM_KVM_TRACK_RING, without them GM_KVM_TRACK_BITMAP. After a failure
 * it is as it was. Returns 0, -EINVAL, -ENOTSUP (the other one), -ENOMEM, or what KVM answered.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_track(struct gm_kvm *kvm, uint32_t how, struct gm_error *err);

/**
 * gm_kvm_harvest() - mark what the guest has written in all logs of the space
 * @kvm:       borrowed
 * @ret_bytes: optional: bytes of the pages that were found
 * @err:       optional
 *
 * Pages are protected again before they are marked: who takes a mark and reads the page misses nothing.
 * What the host writes through the library marks by itself. A slot that goes is harvested, whenever
 * that is. KVM counts the first access to a page as a write. When KVM_RUN returns
 * KVM_EXIT_DIRTY_RING_FULL, harvest and run again. Without tracking it finds nothing. Returns 0, or
 * what KVM answered; pages that were found until then are marked.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_harvest(struct gm_kvm *kvm, uint64_t *ret_bytes, struct gm_error *err);

/**
 * gm_kvm_add_vcpu() - make a vCPU known: its dirty ring is mapped
 * @kvm:     borrowed
 * @vcpu_fd: borrowed
 * @ret_id:  number of the vCPU here
 * @err:     optional
 *
 * Before its first KVM_RUN. Without rings nothing but the number is needed. Returns 0, -ENOMEM, or what
 * the kernel answered to the mapping.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_add_vcpu(struct gm_kvm *kvm, int vcpu_fd, uint32_t *ret_id, struct gm_error *err);

/**
 * gm_kvm_remove_vcpu() - forget a vCPU, which runs no more
 * @kvm: borrowed
 * @id:  of the vCPU
 * @err: optional
 *
 * Its ring is harvested first. Close its fd afterwards. Returns 0, -ENOENT, or what KVM answered: then
 * it stays.
 * Threads: any. Since: 0.1.
 */
GM_API int gm_kvm_remove_vcpu(struct gm_kvm *kvm, uint32_t id, struct gm_error *err);

/**
 * gm_kvm_prefault() - have KVM map a range for the guest before it is touched
 * @kvm:      borrowed
 * @vcpu_fd:  borrowed; a vCPU that does not run
 * @gpa:      first address, a multiple of the page size
 * @len:      bytes, a multiple of the page size
 * @ret_done: optional: bytes that were mapped, on failure too
 * @err:      optional
 *
 * Returns 0; -ENOTSUP (KVM cannot, here or for this sort of guest); -EINVAL; -ENOENT (no slot at
 * @gpa + done); -EINTR (a signal is pending); or what KVM answered.
 * Threads: the vCPU's. Since: 0.1.
 */
GM_API int gm_kvm_prefault(struct gm_kvm *kvm, int vcpu_fd, uint64_t gpa, uint64_t len,
	uint64_t *ret_done, struct gm_error *err);

/**
 * gm_kvm_root() - where the page tables of a vCPU begin, for guest_tables.h
 * @vcpu_fd:    borrowed; a vCPU that does not run
 * @ret_root:   guest physical address of the uppermost table
 * @ret_levels: 4 or 5
 * @err:        optional
 *
 * Returns 0; -ENOTSUP (it has no tables of 4 or 5 levels now, or this is no x86-64); or what KVM answered.
 * Threads: the vCPU's. Since: 0.1.
 */
GM_API int gm_kvm_root(int vcpu_fd, uint64_t *ret_root, uint32_t *ret_levels, struct gm_error *err);

#ifdef __cplusplus
}
#endif

#endif
