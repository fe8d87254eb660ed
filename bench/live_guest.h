/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * live_guest.h - a vCPU that has touched memory, so that the kernel keeps a second page table of it and tells that of
 * each stretch that goes.
 */
#ifndef GM_BENCH_LIVE_GUEST_H
#define GM_BENCH_LIVE_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#define LIVE_SYSTEM (1u << 20) /* bytes at guest address 0 that it needs for itself */

struct live_guest {
	int kvm;
	int vm;
	int cpu;
	void *run;
};

/* False if there is no KVM. @system is the memory at guest address 0. */
bool live_guest_open(struct live_guest *guest, uint8_t *system);
/* Memory of the guest; slot 0 is the system's. */
void live_guest_slot(
	struct live_guest *guest, uint32_t slot, uint64_t gpa, void *hva, uint64_t len);
/* The vCPU writes to each page of 4096 bytes. */
void live_guest_touch(struct live_guest *guest, uint64_t gpa, uint64_t len);

#endif
