/* SPDX-License-Identifier: BSD-3-Clause */
/* machine_vcpu.c - a vCPU: its registers at the start, and its exits. */
#include "machine.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/kvm.h>

#include "../payload/ring3.h"
#include "tool.h"

#define CR0_LONG_MODE 0x80050033u /* PG AM WP NE ET MP PE */
#define CR4_BASE 0x620u           /* PAE OSFXSR OSXMMEXCPT */
#define CR4_FSGSBASE (1u << 16)
#define CR4_OSXSAVE (1u << 18)
#define EFER_LONG_MODE 0xd01u /* NXE LMA LME SCE */
#define RFLAGS_IOPL_3 0x3002u
#define XCR0_AVX 0x7u
#define MXCSR_RESET 0x1f80u
#define FCW_RESET 0x37fu

static bool say(const struct machine_vcpu *vcpu, const char *what)
{
	tool_error("run: vCPU %u: %s: %s", vcpu->index, what, strerror(errno));
	return false;
}

#define CALL(vcpu, request, arg) (ioctl((vcpu)->fd, request, arg) < 0 ? say(vcpu, #request) : true)

bool machine_vcpu_init(struct machine *m, uint32_t index)
{
	struct machine_vcpu *vcpu = &m->vcpus[index];
	int len = ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct gm_error err;
	void *run;

	*vcpu = (struct machine_vcpu){.machine = m, .index = index};
	vcpu->fd = ioctl(m->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (vcpu->fd < 0)
		return say(vcpu, "KVM_CREATE_VCPU");
	if (len < (int)sizeof(*vcpu->run))
		return say(vcpu, "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return say(vcpu, "mmap");
	vcpu->run = run;
	vcpu->run_len = (size_t)len;
	if (gm_reader_create(m->memory->space, "vcpu", &vcpu->memory, &err) < 0 ||
		gm_reader_create(m->ports, "vcpu", &vcpu->ports, &err) < 0) {
		tool_error("run: vCPU %u: %s", index, err.text);
		return false;
	}
	return true;
}

void machine_vcpu_fini(struct machine_vcpu *vcpu)
{
	gm_reader_destroy(vcpu->memory);
	gm_reader_destroy(vcpu->ports);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_len);
	if (vcpu->fd >= 0 && vcpu->machine)
		close(vcpu->fd);
	vcpu->memory = NULL;
	vcpu->ports = NULL;
	vcpu->run = NULL;
	vcpu->machine = NULL;
}

/* ---- registers ---- */

static const struct kvm_cpuid_entry2 *cpuid_of(
	const struct machine *m, uint32_t function, uint32_t index)
{
	const struct kvm_cpuid2 *cpuid = m->cpuid;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		if (cpuid->entries[i].function == function && cpuid->entries[i].index == index)
			return &cpuid->entries[i];
	}
	return NULL;
}

static bool has_xsave(const struct machine *m)
{
	const struct kvm_cpuid_entry2 *features = cpuid_of(m, 1, 0);

	return features && features->ecx >> 26 & 1 && cpuid_of(m, 0xd, 0);
}

static uint32_t cr4_of(const struct machine *m)
{
	const struct kvm_cpuid_entry2 *features = cpuid_of(m, 7, 0);
	uint32_t cr4 = CR4_BASE;

	if (has_xsave(m))
		cr4 |= CR4_OSXSAVE;
	if (features && features->ebx & 1)
		cr4 |= CR4_FSGSBASE;
	return cr4;
}

static bool set_sregs(struct machine_vcpu *vcpu)
{
	const struct machine *m = vcpu->machine;
	struct kvm_sregs s;

	if (!CALL(vcpu, KVM_GET_SREGS, &s))
		return false;
	s.cr0 = CR0_LONG_MODE;
	s.cr3 = m->root;
	s.cr4 = cr4_of(m);
	s.efer = EFER_LONG_MODE;
	ring3_segments(&s, MACHINE_CODE_3, MACHINE_DATA_3);
	s.tr = (struct kvm_segment){
		.base = MACHINE_VCPU_AREA + vcpu->index * MACHINE_VCPU_STRIDE + MACHINE_TSS,
		.limit = MACHINE_TSS_LEN - 1,
		.selector = MACHINE_TR,
		.type = 11,
		.present = 1};
	s.ldt = (struct kvm_segment){.unusable = 1};
	s.gdt.base = MACHINE_GDT;
	s.gdt.limit = 7 * 8 - 1;
	s.idt.base = MACHINE_IDT;
	s.idt.limit = 32 * 16 - 1;
	return CALL(vcpu, KVM_SET_SREGS, &s);
}

static bool set_fpu(struct machine_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *xsave = cpuid_of(vcpu->machine, 0xd, 0);
	struct kvm_fpu fpu = {.fcw = FCW_RESET, .mxcsr = MXCSR_RESET};
	struct kvm_xcrs xcrs = {.nr_xcrs = 1};

	if (!CALL(vcpu, KVM_SET_FPU, &fpu))
		return false;
	if (!has_xsave(vcpu->machine))
		return true;
	xcrs.xcrs[0].value = xsave->eax & XCR0_AVX;
	return CALL(vcpu, KVM_SET_XCRS, &xcrs);
}

bool machine_vcpu_reset(struct machine_vcpu *vcpu)
{
	uint64_t area = MACHINE_VCPU_AREA + vcpu->index * MACHINE_VCPU_STRIDE;
	struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
	/* As a call leaves it: the return address on the stack, which is 16 bytes aligned above it. */
	struct kvm_regs regs = {.rip = vcpu->machine->entry,
		.rdi = machine_params_gpa(vcpu->index),
		.rsp = area + MACHINE_STACK_END - 16 - 8,
		.rflags = RFLAGS_IOPL_3};

	return CALL(vcpu, KVM_SET_CPUID2, vcpu->machine->cpuid) && set_sregs(vcpu) &&
	       set_fpu(vcpu) && CALL(vcpu, KVM_SET_REGS, &regs) &&
	       CALL(vcpu, KVM_SET_MP_STATE, &runnable);
}

/* ---- exits ---- */

static bool running(const struct machine_vcpu *vcpu)
{
	return __atomic_load_n(&vcpu->end, __ATOMIC_RELAXED) == MACHINE_RUNS;
}

/* Each access of a repeated one is one of the device. */
static void answer_io(struct machine_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;
	const struct gm_view *view = gm_reader_enter(vcpu->ports);

	vcpu->exits_io++;
	for (uint32_t i = 0; i < run->io.count && running(vcpu); i++, data += run->io.size) {
		int rc = out ? gm_write(view, run->io.port, data, run->io.size, NULL)
			     : gm_read(view, run->io.port, data, run->io.size, NULL);

		if (rc < 0)
			machine_crash(vcpu, "%u bytes %s port 0x%x: %s", run->io.size,
				out ? "written to" : "read from", run->io.port,
				rc == -EFAULT ? "there is no device" : strerror(-rc));
	}
	gm_reader_leave(vcpu->ports);
}

static void answer_mmio(struct machine_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	const struct gm_view *view = gm_reader_enter(vcpu->memory);
	uint32_t len = run->mmio.len;
	int rc;

	vcpu->exits_mmio++;
	rc = run->mmio.is_write ? gm_write(view, run->mmio.phys_addr, run->mmio.data, len, NULL)
				: gm_read(view, run->mmio.phys_addr, run->mmio.data, len, NULL);
	if (rc < 0)
		machine_crash(vcpu, "%u bytes %s address 0x%llx: %s", len,
			run->mmio.is_write ? "written to" : "read from",
			(unsigned long long)run->mmio.phys_addr,
			rc == -EFAULT ? "there is neither memory nor a device" : strerror(-rc));
	gm_reader_leave(vcpu->memory);
}

static void answer(struct machine_vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		answer_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		answer_mmio(vcpu);
		break;
	case KVM_EXIT_INTR:
		break;
	default:
		machine_crash_exit(vcpu);
		break;
	}
}

/* ---- a page that the host has lost ---- */

/* Whose KVM_RUN runs in this thread. Volatile: the compiler believes that ioctl() calls nothing of ours. */
static _Thread_local struct machine_vcpu *volatile in_kvm;
static struct sigaction others; /* what SIGBUS was before */
static unsigned int machines;

/* KVM sends it for a page that is poisoned, and lets KVM_RUN return. */
static void take_lost(int signo, siginfo_t *info, void *context)
{
	if (in_kvm && info->si_code > 0) {
		in_kvm->lost = 1;
		return;
	}
	if ((others.sa_flags & SA_SIGINFO) && others.sa_sigaction) {
		others.sa_sigaction(signo, info, context);
		return;
	}
	/* None of ours: the same instruction meets it again. */
	sigaction(SIGBUS, &others, NULL);
	if (info->si_code <= 0)
		raise(signo);
}

void machine_lost_begin(void)
{
	const struct sigaction lost = {
		.sa_sigaction = take_lost, .sa_flags = SA_SIGINFO | SA_NODEFER};

	if (machines++ == 0)
		sigaction(SIGBUS, &lost, &others);
}

void machine_lost_end(void)
{
	if (--machines == 0)
		sigaction(SIGBUS, &others, NULL);
}

static int run_once(struct machine_vcpu *vcpu)
{
	int rc;

	in_kvm = vcpu;
	rc = ioctl(vcpu->fd, KVM_RUN, 0);
	in_kvm = NULL;
	return rc;
}

/* After a kick: if it is to be kept from running, for as long as it has run that much. */
static void rest(struct machine_vcpu *vcpu)
{
	const struct timespec slice = {0, 1000000};
	double percent = __atomic_load_n(&vcpu->machine->throttle, __ATOMIC_RELAXED);
	double until = tool_now() + (double)MACHINE_AWAKE_NS / 1e9 * percent / (100 - percent);

	if (percent <= 0)
		return;
	while (tool_now() < until && !__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE))
		nanosleep(&slice, NULL);
	__atomic_store_n(&vcpu->awake, (uint64_t)(tool_now() * 1e9), __ATOMIC_RELAXED);
}

/*
 * What an exit has left to be done is done by the next KVM_RUN, so a vCPU stops in one that returns
 * EINTR only: then its state is whole.
 */
void machine_vcpu_run(struct machine_vcpu *vcpu)
{
	machine_devices_current(vcpu);
	while (running(vcpu)) {
		uint64_t lifted = machine_control_lifted(vcpu->machine);

		int rc = run_once(vcpu);

		if (vcpu->lost)
			machine_crash_error(vcpu, EHWPOISON);
		else if (rc == 0)
			answer(vcpu);
		else if (errno == EINTR &&
			 __atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE))
			__atomic_store_n(&vcpu->end, MACHINE_STOPPED, __ATOMIC_RELEASE);
		else if (errno == EFAULT && machine_control_lift(vcpu->machine, lifted))
			continue;
		else if (errno == EINTR)
			rest(vcpu);
		else if (errno != EAGAIN)
			machine_crash_error(vcpu, errno);
	}
	machine_devices_current(NULL);
}
