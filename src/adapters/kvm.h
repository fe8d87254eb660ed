/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm.h - a space as memory slots of KVM: what its files share.
 *
 * A slot here is a section of the map that the guest may read, or something that KVM would not give up. It knows both
 * what it is to be and what KVM has, which differ only after KVM has refused something that could not be
 * refused in turn: giving back after a failed commit, and deleting. What differs is tried again
 * (gm_kvm_slots_mend()).
 *
 * Everything is under the lock, which is never held while readers are waited for.
 */
#ifndef GM_ADAPTERS_KVM_H
#define GM_ADAPTERS_KVM_H

#include <guestmem/kvm.h>
#include <guestmem/listener.h>
#include <pthread.h>
#include <stdbool.h>

struct kvm_dirty_gfn;

struct slot {
	uint64_t gpa;
	uint64_t len;
	uint64_t hva;
	uint64_t memfd_off;
	int32_t memfd;   /* borrowed from the block while it is in the map, or -1 */
	uint32_t number; /* as KVM counts */
	uint32_t flags;  /* KVM_MEM_*, without dirty logging */
	uint32_t got;    /* KVM_MEM_* as KVM has it */
	uint64_t at;     /* where KVM has it: at @gpa, or parked */
	bool there;      /* KVM has it */
	bool shown;      /* it is in the map; else KVM would not delete it */
	bool lacks;      /* it is shown and KVM has it not, or otherwise */
	uint32_t next;   /* of the free ones, or of the stale ones; 1 + index, or 0 */
};

/* What a commit is to bring, by address: only this may be refused. */
struct coming {
	uint64_t gpa;
	uint64_t len;
	uint64_t id;
	const void *hva;
	const struct gm_block *block;
	uint64_t block_off;
	uint32_t perms;
};

struct vcpu {
	struct kvm_dirty_gfn *ring; /* NULL without rings, or if it is no vCPU any more */
	uint32_t next;              /* entry to be read */
	uint32_t left;              /* entries that this harvest may still read */
	bool used;
};

/* An entry of a ring. */
struct written {
	uint32_t slot;
	uint32_t page;
};

#define GM_KVM_BATCH 4096u /* entries between two resets of the rings */

struct gm_kvm {
	struct gm_space *space;
	struct gm_listener *listener;
	struct gm_listener *privates; /* which pages are private; or NULL */
	struct gm_reader *reader;     /* for marks */
	pthread_mutex_t lock;
	int vm;
	uint32_t flags;
	uint32_t caps;
	uint32_t page_shift;
	uint32_t first_number; /* with the address space */
	uint32_t limit;
	int (*pause)(void *ctx);
	void (*resume)(void *ctx);
	void *ctx;
	bool paused;

	struct slot *slots; /* by number */
	uint32_t *order;    /* those that are shown, by address */
	uint32_t cap;       /* of both */
	uint32_t high;      /* numbers that were ever used */
	uint32_t nr;        /* shown */
	uint32_t missing;   /* of these, KVM lacks so many */
	uint32_t nr_stale;
	uint32_t free;  /* 1 + index, or 0 */
	uint32_t stale; /* 1 + index, or 0 */
	uint32_t park;  /* which parking place is tried first */
	uint64_t no_slot;

	struct coming *coming;
	size_t nr_coming;
	bool backing_out; /* something was refused: from here on nothing may be */

	uint32_t track; /* enum gm_kvm_track */
	bool all_set;   /* KVM makes bitmaps with all bits set */
	uint64_t *bits;
	uint64_t bits_len; /* bytes */
	uint64_t harvested;
	struct vcpu *vcpus;
	uint32_t nr_vcpus;
	uint32_t ring_entries;
	uint32_t ring_cap;     /* KVM_CAP_* */
	struct written *batch; /* GM_KVM_BATCH */
	uint32_t nr_batch;     /* set free in the rings and perhaps not reset */
	uint32_t nr_unreset;
};

/* ---- kvm_slots.c ---- */

/* Room for so many more slots, so that adding takes no memory. */
bool gm_kvm_slots_reserve(struct gm_kvm *kvm, uint32_t more);
/* Index in order of the first that is shown and ends at or behind @gpa; nr if there is none. */
uint32_t gm_kvm_slots_find(const struct gm_kvm *kvm, uint64_t gpa);
/* With @must it is kept, however KVM answers. */
int gm_kvm_slots_add(struct gm_kvm *kvm, const struct slot *want, bool must, struct gm_error *err);
/* It is not shown any more. What the guest wrote to it is marked. */
void gm_kvm_slots_remove(struct gm_kvm *kvm, uint64_t gpa);
/* Its flags are others; on failure it is as it was, as far as KVM lets it. */
int gm_kvm_slots_change(
	struct gm_kvm *kvm, uint64_t gpa, uint32_t flags, bool must, struct gm_error *err);
/* Brings KVM to what is shown, where it is not. */
void gm_kvm_slots_mend(struct gm_kvm *kvm);
/* Makes KVM's flags those of tracking. */
int gm_kvm_slots_log(struct gm_kvm *kvm, struct slot *slot, struct gm_error *err);
bool gm_kvm_slots_is_logged(const struct gm_kvm *kvm, const struct slot *slot);
void gm_kvm_slots_free(struct gm_kvm *kvm);

/* ---- kvm_dirty.c ---- */

/* Marks pages of a slot, in a section of its own. */
void gm_kvm_mark(struct gm_kvm *kvm, const struct slot *slot, uint64_t page, uint64_t nr);
/* Room for the bitmap of so many bytes of memory. */
bool gm_kvm_bits_reserve(struct gm_kvm *kvm, uint64_t len);
/* Marks what a slot's bitmap has; with @clear it is cleared and the pages are protected again. */
int gm_kvm_harvest_bits(struct gm_kvm *kvm, const struct slot *slot, bool clear, uint64_t *bytes);

/* ---- kvm_ring.c ---- */

/* Marks what the rings have. */
int gm_kvm_harvest_rings(struct gm_kvm *kvm, uint64_t *bytes);
void gm_kvm_rings_free(struct gm_kvm *kvm);

#endif
