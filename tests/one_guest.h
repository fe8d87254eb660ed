/* SPDX-License-Identifier: BSD-3-Clause */
/* one_guest.h - what the tests of the KVM adapter share: one space, one virtual machine, its memory at 0. */
#ifndef GM_TESTS_ONE_GUEST_H
#define GM_TESTS_ONE_GUEST_H

#include <errno.h>
#include <guestmem/kvm.h>
#include <guestmem/part.h>
#include <guestmem/txn.h>
#include <string.h>

#include "kvm_guest.h"
#include "one_space.h"

#define PAGE UINT64_C(4096)
#define RAM MIB(16)

static struct guest guest;
static struct gm_kvm *kvm;
static uint64_t ram;

#define KVM_OPTS(...) GM_OPTS(gm_kvm_opts, .vm_fd = guest.vm, __VA_ARGS__)

/* Space and machine, not yet brought together. */
static inline void start_apart(void)
{
	start(GM_OPTS(gm_space_opts, .gpa_limit = GIB(4)));
	ram = add(0, RAM);
	guest_open(&guest);
	guest_load(&guest, region(ram).hva);
}

/* With the machine's fd in @opts. */
static inline void start_guest(const struct gm_kvm_opts *opts, unsigned int cpus)
{
	struct gm_kvm_opts mine = *opts;

	start_apart();
	mine.vm_fd = guest.vm;
	assert_ok(gm_kvm_create(space, &mine, &kvm, &err));
	while (cpus-- > 0)
		guest_add_cpu(&guest, kvm);
}

static inline void stop_guest(void)
{
	for (unsigned int i = 0; i < guest.nr_cpus; i++)
		assert_ok(gm_kvm_remove_vcpu(kvm, guest.cpus[i].id, &err));
	assert_ok(gm_kvm_destroy(kvm, &err));
	guest_close(&guest);
	stop();
}

static inline struct gm_kvm_info info(void)
{
	struct gm_kvm_info now = {.size = sizeof(now)};

	assert_int_equal(gm_kvm_info(kvm, &now), 0);
	return now;
}

/* The slot that holds an address; its length is 0 if there is none. */
static inline struct gm_kvm_slot slot_at(uint64_t gpa)
{
	struct gm_kvm_slot slot = {.size = sizeof(slot)};

	if (gm_kvm_slot(kvm, gpa, &slot) || slot.gpa > gpa)
		slot.len = 0;
	return slot;
}

/* The last access that exited. */
static struct {
	uint64_t gpa;
	uint64_t value;
	uint32_t len;
	bool is_write;
} mmio;

/* Answers an exit as a monitor does: from the space, and where there is nothing with ones. */
static inline void serve_mmio_by(unsigned int cpu, struct gm_reader *with)
{
	struct kvm_run *run = guest.cpus[cpu].run;
	const struct gm_view *view = gm_reader_enter(with);

	if (run->mmio.is_write)
		gm_write(view, run->mmio.phys_addr, run->mmio.data, run->mmio.len, NULL);
	else if (gm_read(view, run->mmio.phys_addr, run->mmio.data, run->mmio.len, NULL))
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
	gm_reader_leave(with);
}

/* The same on vCPU 0, and notes it. */
static inline void serve_mmio(void)
{
	const struct kvm_run *run = guest.cpus[0].run;

	mmio.gpa = run->mmio.phys_addr;
	mmio.len = run->mmio.len;
	mmio.is_write = run->mmio.is_write;
	memcpy(&mmio.value, run->mmio.data, sizeof(mmio.value));
	serve_mmio_by(0, reader);
}

/* Runs what was started on vCPU 0 to its end, and counts the accesses that exit on the way. */
static inline uint64_t run_through(void)
{
	uint64_t exits = 0;

	for (;;) {
		int rc = guest_run(&guest, 0);

		if (rc == KVM_EXIT_IO && guest_is_done(&guest, 0))
			return exits;
		if (rc != KVM_EXIT_MMIO)
			fail_msg("the guest exits: %d, suberror %u", rc,
				guest.cpus[0].run->internal.suberror);
		serve_mmio();
		exits++;
	}
}

static inline uint64_t guest_load_u64(uint64_t gpa)
{
	struct guest_params *params = guest_start(&guest, 0, GUEST_LOAD);

	params->base = gpa;
	run_through();
	return params->value;
}

/* Returns the number of exits. */
static inline uint64_t guest_store_u64(uint64_t gpa, uint64_t value)
{
	struct guest_params *params = guest_start(&guest, 0, GUEST_STORE);

	params->base = gpa;
	params->value = value;
	return run_through();
}

static inline int protect(uint64_t id, uint32_t perms)
{
	struct gm_txn *txn;
	int rc;

	assert_ok(gm_txn_begin(space, &txn, &err));
	assert_ok(gm_txn_protect(txn, id, perms, &err));
	rc = gm_txn_commit(txn, &err);
	if (rc)
		gm_txn_abort(txn);
	return rc;
}

#endif
