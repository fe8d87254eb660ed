/* SPDX-License-Identifier: BSD-3-Clause */
/* machine_crash.c - what a guest did that it cannot go on from, as a sentence. */
#include "machine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

/* Of later kernels' headers. */
#define EXIT_MEMORY_FAULT 39

#define VECTOR_PAGE_FAULT 14u

static const char *const vectors[32] = {
	[0] = "divide error",
	[1] = "debug exception",
	[2] = "NMI",
	[3] = "breakpoint",
	[4] = "overflow",
	[5] = "bound range exceeded",
	[6] = "invalid instruction",
	[7] = "no FPU",
	[8] = "double fault",
	[10] = "invalid TSS",
	[11] = "segment not present",
	[12] = "stack fault",
	[13] = "general protection fault",
	[14] = "page fault",
	[16] = "x87 floating-point error",
	[17] = "alignment check",
	[18] = "machine check",
	[19] = "SIMD floating-point exception",
	[20] = "virtualization exception",
	[21] = "control protection exception",
};

/* Those that push an error code. */
static const uint32_t with_code = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 |
				  1u << 17 | 1u << 21 | 1u << 29 | 1u << 30;

void machine_crash(struct machine_vcpu *vcpu, const char *fmt, ...)
{
	struct kvm_regs regs;
	size_t len;
	va_list args;

	va_start(args, fmt);
	vsnprintf(vcpu->why, sizeof(vcpu->why), fmt, args);
	va_end(args);
	len = strlen(vcpu->why);
	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) == 0)
		snprintf(vcpu->why + len, sizeof(vcpu->why) - len, " (rip 0x%llx, rsp 0x%llx)",
			(unsigned long long)regs.rip, (unsigned long long)regs.rsp);
	__atomic_store_n(&vcpu->end, MACHINE_CRASHED, __ATOMIC_RELEASE);
}

void machine_crash_exit(struct machine_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	struct kvm_sregs sregs = {0};

	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:
		ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
		machine_crash(vcpu, "triple fault, cr2 0x%llx", (unsigned long long)sregs.cr2);
		break;
	case KVM_EXIT_HLT:
		machine_crash(vcpu, "it halted, and nothing would wake it");
		break;
	case KVM_EXIT_FAIL_ENTRY:
		machine_crash(vcpu, "KVM could not enter the guest: hardware reason 0x%llx",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		machine_crash(vcpu, "KVM gave up: internal error %u%s", run->internal.suberror,
			run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION
				? ", an instruction that it cannot emulate"
				: "");
		break;
	case EXIT_MEMORY_FAULT:
		machine_crash(vcpu, "KVM found no memory behind an address of the guest's");
		break;
	default:
		machine_crash(vcpu, "KVM exit %u, which nobody expects", run->exit_reason);
		break;
	}
}

void machine_crash_error(struct machine_vcpu *vcpu, int error)
{
	if (error == EFAULT)
		machine_crash(vcpu,
			"the host has no page for an address of the guest's" MACHINE_NO_PAGE_ASK);
	else if (error == EHWPOISON)
		machine_crash(
			vcpu, "the host's memory behind an address of the guest's has failed");
	else
		machine_crash(vcpu, "KVM_RUN: %s", strerror(error));
}

/* The frame on the stack of ring 0: an error code or none, then RIP, CS, RFLAGS, RSP, SS. */
static bool read_frame(struct machine_vcpu *vcpu, uint32_t vector, uint64_t frame[6])
{
	bool code = vector < 32 && with_code >> vector & 1;
	const struct gm_view *view;
	struct kvm_regs regs;
	int rc;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0)
		return false;
	frame[0] = 0;
	view = gm_reader_enter(vcpu->memory);
	rc = gm_read(view, regs.rsp, &frame[!code], (size_t)(5 + code) * 8, NULL);
	gm_reader_leave(vcpu->memory);
	return rc == 0;
}

void machine_crash_exception(struct machine_vcpu *vcpu, uint32_t vector)
{
	const char *name = vector < 32 && vectors[vector] ? vectors[vector] : "exception";
	struct kvm_sregs sregs = {0};
	uint64_t frame[6];

	if (!read_frame(vcpu, vector, frame)) {
		machine_crash(vcpu, "%s (%u)", name, vector);
		return;
	}
	if (vector == VECTOR_PAGE_FAULT && ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0)
		snprintf(vcpu->why, sizeof(vcpu->why),
			"page fault at 0x%llx: %s by the instruction at 0x%llx, rsp 0x%llx",
			(unsigned long long)sregs.cr2,
			frame[0] & 0x10  ? "executed"
			: frame[0] & 0x2 ? "written"
					 : "read",
			(unsigned long long)frame[1], (unsigned long long)frame[4]);
	else
		snprintf(vcpu->why, sizeof(vcpu->why),
			"%s (exception %u, code 0x%llx) at rip 0x%llx, rsp 0x%llx", name, vector,
			(unsigned long long)frame[0], (unsigned long long)frame[1],
			(unsigned long long)frame[4]);
	__atomic_store_n(&vcpu->end, MACHINE_CRASHED, __ATOMIC_RELEASE);
}
