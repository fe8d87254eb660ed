/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vcpu_kvm.c - the state of a vCPU out of KVM and into it.
 *
 * The order matters. CPUID comes first, since it says which bits of the others exist. XCRs come before
 * the XSAVE area, special registers before MSRs and before the local APIC, whose address and mode
 * they hold. Pending events and the run state come last: setting others may change them.
 */
#include "vcpu_state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_TSC 0x10u
#define MSR_TSC_DEADLINE 0x6e0u

/* What KVM takes and gives: a count, then an array. */
struct msrs {
	uint32_t nmsrs;
	uint32_t pad;
	struct kvm_msr_entry entries[VCPU_MSRS_MAX];
};

struct cpuid {
	uint32_t nent;
	uint32_t padding;
	struct kvm_cpuid_entry2 entries[VCPU_CPUID_MAX];
};

struct msr_list {
	uint32_t nmsrs;
	uint32_t indices[VCPU_MSRS_MAX];
};

static bool failed(struct vcpu_error *err, const char *what)
{
	*err = (struct vcpu_error){.what = what, .error = errno};
	return false;
}

#define CALL(fd, request, arg, err) (ioctl(fd, request, arg) < 0 ? failed(err, #request) : true)

/* Those of the list that this vCPU has: KVM stops at the first that it refuses, which is left out. */
static bool get_msrs(int kvm_fd, int vcpu_fd, struct vcpu_state *s, struct vcpu_error *err)
{
	static _Thread_local struct msr_list list;
	static _Thread_local struct msrs msrs;
	uint32_t at = 0;

	list.nmsrs = VCPU_MSRS_MAX;
	if (!CALL(kvm_fd, KVM_GET_MSR_INDEX_LIST, &list, err))
		return false;
	s->nr_msrs = 0;
	while (at < list.nmsrs) {
		int got;

		msrs.nmsrs = list.nmsrs - at;
		for (uint32_t i = 0; i < msrs.nmsrs; i++)
			msrs.entries[i] = (struct kvm_msr_entry){.index = list.indices[at + i]};
		got = ioctl(vcpu_fd, KVM_GET_MSRS, &msrs);
		if (got < 0)
			return failed(err, "KVM_GET_MSRS");
		memcpy(&s->msrs[s->nr_msrs], msrs.entries, (size_t)got * sizeof(msrs.entries[0]));
		s->nr_msrs += (uint32_t)got;
		at += (uint32_t)got + 1;
	}
	s->have |= 1u << VCPU_MSRS;
	return true;
}

/* One that KVM does not let be written may have the value already. */
static bool set_msr(int vcpu_fd, const struct kvm_msr_entry *msr, struct vcpu_error *err)
{
	static _Thread_local struct msrs one;
	int done;

	one.nmsrs = 1;
	one.entries[0] = *msr;
	done = ioctl(vcpu_fd, KVM_SET_MSRS, &one);
	if (done < 0)
		return failed(err, "KVM_SET_MSRS");
	if (done == 1)
		return true;
	if (ioctl(vcpu_fd, KVM_GET_MSRS, &one) == 1 && one.entries[0].data == msr->data)
		return true;
	*err = (struct vcpu_error){"KVM_SET_MSRS", EINVAL, msr->index};
	return false;
}

/* The deadline of the timer is compared with the counter, which has to be there before. */
static bool set_msrs(int vcpu_fd, const struct vcpu_state *s, struct vcpu_error *err)
{
	for (uint32_t late = 0; late < 2; late++) {
		for (uint32_t i = 0; i < s->nr_msrs; i++) {
			if ((s->msrs[i].index == MSR_TSC_DEADLINE) == late &&
				!set_msr(vcpu_fd, &s->msrs[i], err))
				return false;
		}
	}
	return true;
}

static bool get_cpuid(int vcpu_fd, struct vcpu_state *s)
{
	static _Thread_local struct cpuid cpuid;

	cpuid.nent = VCPU_CPUID_MAX;
	if (ioctl(vcpu_fd, KVM_GET_CPUID2, &cpuid) < 0 || cpuid.nent > VCPU_CPUID_MAX)
		return false;
	s->nr_cpuid = cpuid.nent;
	memcpy(s->cpuid, cpuid.entries, cpuid.nent * sizeof(cpuid.entries[0]));
	return true;
}

static bool set_cpuid(int vcpu_fd, const struct vcpu_state *s, struct vcpu_error *err)
{
	static _Thread_local struct cpuid cpuid;

	cpuid.nent = s->nr_cpuid;
	memcpy(cpuid.entries, s->cpuid, s->nr_cpuid * sizeof(cpuid.entries[0]));
	return CALL(vcpu_fd, KVM_SET_CPUID2, &cpuid, err);
}

/* What this KVM has not is left out. */
static void get_optional(
	struct vcpu_state *s, int vcpu_fd, uint32_t type, unsigned long request, void *to)
{
	if (ioctl(vcpu_fd, request, to) >= 0)
		s->have |= 1u << type;
}

static bool get_fpu(int vm_fd, int vcpu_fd, struct vcpu_state *s, struct vcpu_error *err)
{
	int need = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
	bool large = need > (int)sizeof(struct kvm_xsave);

	if (need > (int)VCPU_XSAVE_MAX) {
		errno = E2BIG;
		return failed(err, "KVM_GET_XSAVE2");
	}
	if (ioctl(vcpu_fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, s->xsave) >= 0) {
		s->xsave_len = large ? ((uint32_t)need + 63) & ~63u : sizeof(struct kvm_xsave);
		s->have |= 1u << VCPU_XSAVE;
		return true;
	}
	s->have |= 1u << VCPU_FPU;
	return CALL(vcpu_fd, KVM_GET_FPU, &s->fpu, err);
}

bool vcpu_state_save(
	int kvm_fd, int vm_fd, int vcpu_fd, struct vcpu_state *s, struct vcpu_error *err)
{
	int khz;

	memset(s, 0, sizeof(*s));
	if (!CALL(vcpu_fd, KVM_GET_REGS, &s->regs, err) ||
		!CALL(vcpu_fd, KVM_GET_SREGS, &s->sregs, err) || !get_fpu(vm_fd, vcpu_fd, s, err) ||
		!get_msrs(kvm_fd, vcpu_fd, s, err))
		return false;
	s->have |= 1u << VCPU_REGS | 1u << VCPU_SREGS;
	get_optional(s, vcpu_fd, VCPU_MP_STATE, KVM_GET_MP_STATE, &s->mp_state);
	get_optional(s, vcpu_fd, VCPU_EVENTS, KVM_GET_VCPU_EVENTS, &s->events);
	get_optional(s, vcpu_fd, VCPU_DEBUGREGS, KVM_GET_DEBUGREGS, &s->debugregs);
	get_optional(s, vcpu_fd, VCPU_XCRS, KVM_GET_XCRS, &s->xcrs);
	get_optional(s, vcpu_fd, VCPU_LAPIC, KVM_GET_LAPIC, &s->lapic);
	if (get_cpuid(vcpu_fd, s))
		s->have |= 1u << VCPU_CPUID;
	khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);
	if (khz > 0) {
		s->tsc_khz = (uint64_t)khz;
		s->have |= 1u << VCPU_TSC_KHZ;
	}
	return true;
}

/* Another frequency than the host's needs a processor that can scale; the same one needs nothing. */
static bool set_tsc_khz(int vcpu_fd, const struct vcpu_state *s, struct vcpu_error *err)
{
	int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0);

	if (khz > 0 && (uint64_t)khz == s->tsc_khz)
		return true;
	return CALL(vcpu_fd, KVM_SET_TSC_KHZ, (unsigned long)s->tsc_khz, err);
}

static bool has(const struct vcpu_state *s, uint32_t type)
{
	return s->have & 1u << type;
}

bool vcpu_state_restore(int vcpu_fd, const struct vcpu_state *s, struct vcpu_error *err)
{
	return (!has(s, VCPU_CPUID) || set_cpuid(vcpu_fd, s, err)) &&
	       (!has(s, VCPU_TSC_KHZ) || set_tsc_khz(vcpu_fd, s, err)) &&
	       CALL(vcpu_fd, KVM_SET_SREGS, &s->sregs, err) &&
	       (!has(s, VCPU_XCRS) || CALL(vcpu_fd, KVM_SET_XCRS, &s->xcrs, err)) &&
	       (!has(s, VCPU_FPU) || CALL(vcpu_fd, KVM_SET_FPU, &s->fpu, err)) &&
	       (!has(s, VCPU_XSAVE) || CALL(vcpu_fd, KVM_SET_XSAVE, s->xsave, err)) &&
	       set_msrs(vcpu_fd, s, err) &&
	       (!has(s, VCPU_LAPIC) || CALL(vcpu_fd, KVM_SET_LAPIC, &s->lapic, err)) &&
	       (!has(s, VCPU_DEBUGREGS) || CALL(vcpu_fd, KVM_SET_DEBUGREGS, &s->debugregs, err)) &&
	       CALL(vcpu_fd, KVM_SET_REGS, &s->regs, err) &&
	       (!has(s, VCPU_EVENTS) || CALL(vcpu_fd, KVM_SET_VCPU_EVENTS, &s->events, err)) &&
	       (!has(s, VCPU_MP_STATE) || CALL(vcpu_fd, KVM_SET_MP_STATE, &s->mp_state, err));
}
