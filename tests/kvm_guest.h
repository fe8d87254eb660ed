/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kvm_guest.h - a virtual machine with up to two vCPUs for tests of the KVM adapter: x86-64, long mode, ring 3,
 * guest virtual addresses are guest physical ones below 4 GiB.
 *
 * The test puts memory at 0 (GUEST_SYSTEM bytes at least) into a space; page tables, code and
 * parameters of the payloads lie there. A payload runs until its work is done, then it exits by a port.
 */
#ifndef GM_TESTS_KVM_GUEST_H
#define GM_TESTS_KVM_GUEST_H

#include <guestmem/kvm.h>
#include <stdint.h>

#include <linux/kvm.h>

#define GUEST_CPUS 2
#define GUEST_SYSTEM 0x100000u /* below are tables, code, parameters; above is the test's */
#define GUEST_PARAMS 0x20000u  /* a page for each vCPU */
#define GUEST_PORT 0x99u

/* What the payloads do; struct guest_params says where. */
enum guest_payload {
	GUEST_STAMP, /* stores value, value + 1, ... at offset of random pages, count times */
	GUEST_SUM,   /* adds up 8 bytes of each page in turn, count pages; the sum is in value */
	GUEST_STORE, /* one store of value at base */
	GUEST_LOAD,  /* one load from base, into value */
};

struct guest_params {
	uint64_t base;
	uint64_t mask; /* number of pages - 1, a power of two less one */
	uint64_t value;
	uint64_t count;
	uint64_t seed;   /* not 0 */
	uint64_t offset; /* in a page */
};

struct guest_cpu {
	int fd;
	struct kvm_run *run;
	uint32_t id; /* with the adapter */
};

struct guest {
	int kvm;
	int vm;
	size_t run_len;
	unsigned int nr_cpus;
	struct guest_cpu cpus[GUEST_CPUS];
	uint8_t *system; /* host address of guest address 0 */
};

/* A virtual machine without vCPUs. */
void guest_open(struct guest *guest);
void guest_close(struct guest *guest);
/* Writes tables and code to the memory at @system. */
void guest_load(struct guest *guest, void *system);
/* Makes a vCPU, known to @adapter if that is not NULL. */
void guest_add_cpu(struct guest *guest, struct gm_kvm *adapter);
/* What the vCPU does next. */
struct guest_params *guest_start(struct guest *guest, unsigned int cpu, enum guest_payload payload);
/* The vCPU begins at an address, with an argument in rdi, below the top of a stack. */
void guest_begin(
	struct guest *guest, unsigned int cpu, uint64_t entry, uint64_t arg, uint64_t stack);
/* KVM_RUN until there is an exit or an error other than EINTR. Returns the exit reason or -errno. */
int guest_run(struct guest *guest, unsigned int cpu);
/* The last exit was that of a payload that is done. */
bool guest_is_done(const struct guest *guest, unsigned int cpu);
/* Does KVM have a slot that meets this page? Asked by trying to make one more. */
bool guest_has_slot(struct guest *guest, uint64_t gpa);

#endif
