/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vcpu_state.h - all that a vCPU of KVM on x86 is: taken out of it, put into another one, and written
 * down as bytes. docs/vcpu-state.md has the format, and what becomes of the time-stamp counter.
 */
#ifndef TOOL_VCPU_STATE_H
#define TOOL_VCPU_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

#define VCPU_STATE_MAGIC UINT64_C(0x317570637672676d) /* "mgrvcpu1" */
#define VCPU_STATE_VERSION 1u
#define VCPU_STATE_HEADER_LEN 32u
#define VCPU_STATE_LEN_MAX (1u << 20)
#define VCPU_XSAVE_MAX 32768u
#define VCPU_MSRS_MAX 2048u

/* Records, and bits of vcpu_state.have. */
enum vcpu_record {
	VCPU_REGS = 1,
	VCPU_SREGS,
	VCPU_FPU, /* without XSAVE only */
	VCPU_XSAVE,
	VCPU_XCRS,
	VCPU_MSRS,
	VCPU_DEBUGREGS,
	VCPU_MP_STATE,
	VCPU_EVENTS,
	VCPU_LAPIC, /* with the kernel's interrupt controller only */
	VCPU_TSC_KHZ,
	VCPU_CPUID,
	VCPU_NR_RECORDS,
};

#define VCPU_CPUID_MAX 256u

struct vcpu_state {
	uint32_t have; /* 1 << enum vcpu_record */
	uint32_t nr_msrs;
	uint32_t nr_cpuid;
	uint32_t xsave_len;
	uint64_t tsc_khz;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_mp_state mp_state;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	uint8_t xsave[VCPU_XSAVE_MAX];
	struct kvm_msr_entry msrs[VCPU_MSRS_MAX];
	struct kvm_cpuid_entry2 cpuid[VCPU_CPUID_MAX];
};

/* ---- vcpu_state.c: no I/O ---- */
/* Bytes that vcpu_state_encode() writes. */
size_t vcpu_state_len(const struct vcpu_state *state);
/* @buf has room for vcpu_state_len() bytes. */
void vcpu_state_encode(const struct vcpu_state *state, uint8_t *buf);
/* Any bytes. NULL, or what is wrong with them; then *ret holds nothing that is good. */
const char *vcpu_state_decode(const uint8_t *buf, size_t len, struct vcpu_state *ret);

/* ---- vcpu_kvm.c ---- */
struct vcpu_error {
	const char *what; /* "KVM_GET_SREGS" */
	int error;        /* errno value */
	uint64_t detail;  /* of MSRs: the number that was refused */
};

/* The vCPU does not run, and has completed its last exit (KVM_RUN with immediate_exit). False: why is in @err. */
bool vcpu_state_save(
	int kvm_fd, int vm_fd, int vcpu_fd, struct vcpu_state *ret, struct vcpu_error *err);
/* Into a vCPU that has not run. */
bool vcpu_state_restore(int vcpu_fd, const struct vcpu_state *state, struct vcpu_error *err);

#endif
