/* SPDX-License-Identifier: BSD-3-Clause */
/* kvm_guest.c - see kvm_guest.h. */
#include "kvm_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../payload/ring3.h"
#include "support.h"

#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define CODE 0x10000u
#define STACK 0x30000u
#define CODE_EACH 256u
#define PROBE_SLOT 32763u

/* ---- payloads: position-independent, parameters at rdi ---- */

__asm__(".pushsection .rodata\n"
	".balign 16\n"
	"payload_stamp:\n"
	"	movq	(%rdi), %rbx\n"
	"	movq	8(%rdi), %r8\n"
	"	movq	16(%rdi), %rdx\n"
	"	movq	24(%rdi), %rcx\n"
	"	movq	32(%rdi), %rax\n"
	"1:	movq	%rax, %r9\n"
	"	shlq	$13, %r9\n"
	"	xorq	%r9, %rax\n"
	"	movq	%rax, %r9\n"
	"	shrq	$7, %r9\n"
	"	xorq	%r9, %rax\n"
	"	movq	%rax, %r9\n"
	"	shlq	$17, %r9\n"
	"	xorq	%r9, %rax\n"
	"	movq	%rax, %r9\n"
	"	shrq	$20, %r9\n"
	"	andq	%r8, %r9\n"
	"	shlq	$12, %r9\n"
	"	addq	%rbx, %r9\n"
	"	addq	40(%rdi), %r9\n"
	"	movq	%rdx, (%r9)\n"
	"	incq	%rdx\n"
	"	decq	%rcx\n"
	"	jnz	1b\n"
	"	movq	%rax, 32(%rdi)\n"
	"	movq	%rdx, 16(%rdi)\n"
	"2:	movw	$0x99, %dx\n"
	"	outb	%al, %dx\n"
	"	jmp	2b\n"
	"payload_sum:\n"
	"	movq	(%rdi), %rbx\n"
	"	movq	24(%rdi), %rcx\n"
	"	xorl	%eax, %eax\n"
	"1:	movq	(%rbx), %r9\n"
	"	addq	%r9, %rax\n"
	"	addq	$4096, %rbx\n"
	"	decq	%rcx\n"
	"	jnz	1b\n"
	"	movq	%rax, 16(%rdi)\n"
	"2:	movw	$0x99, %dx\n"
	"	outb	%al, %dx\n"
	"	jmp	2b\n"
	"payload_store:\n"
	"	movq	(%rdi), %rbx\n"
	"	movq	16(%rdi), %rax\n"
	"	movq	%rax, (%rbx)\n"
	"2:	movw	$0x99, %dx\n"
	"	outb	%al, %dx\n"
	"	jmp	2b\n"
	"payload_load:\n"
	"	movq	(%rdi), %rbx\n"
	"	movq	(%rbx), %rax\n"
	"	movq	%rax, 16(%rdi)\n"
	"2:	movw	$0x99, %dx\n"
	"	outb	%al, %dx\n"
	"	jmp	2b\n"
	"payload_end:\n"
	".popsection\n");

extern const uint8_t payload_stamp[];
extern const uint8_t payload_sum[];
extern const uint8_t payload_store[];
extern const uint8_t payload_load[];
extern const uint8_t payload_end[];

static const uint8_t *const payloads[] = {
	payload_stamp, payload_sum, payload_store, payload_load, payload_end};

/* ---- the machine ---- */

static void must(bool ok, const char *what)
{
	if (!ok)
		fail_msg("guest: %s: %s", what, strerror(errno));
}

void guest_open(struct guest *guest)
{
	*guest = (struct guest){.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
	must(guest->kvm >= 0, "/dev/kvm");
	guest->vm = ioctl(guest->kvm, KVM_CREATE_VM, 0UL);
	must(guest->vm >= 0, "KVM_CREATE_VM");
	guest->run_len = (size_t)ioctl(guest->kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL);
}

void guest_close(struct guest *guest)
{
	for (unsigned int i = 0; i < guest->nr_cpus; i++) {
		munmap(guest->cpus[i].run, guest->run_len);
		close(guest->cpus[i].fd);
	}
	close(guest->vm);
	close(guest->kvm);
}

static void put(uint8_t *system, uint32_t at, uint64_t value)
{
	memcpy(system + at, &value, sizeof(value));
}

/* Identity, 2 MiB a leaf, for ring 3; written and dirty, so that walks write nothing. */
void guest_load(struct guest *guest, void *system)
{
	guest->system = system;
	put(system, PML4, PDPT | 0x27);
	for (uint32_t gib = 0; gib < 4; gib++)
		put(system, PDPT + 8 * gib, (PD + 0x1000 * gib) | 0x27);
	for (uint32_t i = 0; i < 2048; i++)
		put(system, PD + 8 * i, ((uint64_t)i << 21) | 0xe7);
	for (uint32_t i = 0; i + 1 < sizeof(payloads) / sizeof(payloads[0]); i++)
		memcpy(guest->system + CODE + i * CODE_EACH, payloads[i],
			(size_t)(payloads[i + 1] - payloads[i]));
}

static void set_cpuid(struct guest *guest, int fd)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	must(ioctl(guest->kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0, "KVM_GET_SUPPORTED_CPUID");
	must(ioctl(fd, KVM_SET_CPUID2, cpuid) == 0, "KVM_SET_CPUID2");
	free(cpuid);
}

static void set_sregs(int fd)
{
	struct kvm_sregs sregs;

	must(ioctl(fd, KVM_GET_SREGS, &sregs) == 0, "KVM_GET_SREGS");
	ring3_mode(&sregs, PML4);
	must(ioctl(fd, KVM_SET_SREGS, &sregs) == 0, "KVM_SET_SREGS");
}

void guest_add_cpu(struct guest *guest, struct gm_kvm *adapter)
{
	struct guest_cpu *cpu = &guest->cpus[guest->nr_cpus];
	struct gm_error err;

	cpu->fd = ioctl(guest->vm, KVM_CREATE_VCPU, (unsigned long)guest->nr_cpus);
	must(cpu->fd >= 0, "KVM_CREATE_VCPU");
	cpu->run = mmap(NULL, guest->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	must(cpu->run != MAP_FAILED, "mmap of a vCPU");
	set_cpuid(guest, cpu->fd);
	set_sregs(cpu->fd);
	if (adapter)
		assert_ok(gm_kvm_add_vcpu(adapter, cpu->fd, &cpu->id, &err));
	guest->nr_cpus++;
}

void guest_begin(
	struct guest *guest, unsigned int cpu, uint64_t entry, uint64_t arg, uint64_t stack)
{
	struct kvm_regs regs = {
		.rip = entry, .rdi = arg, .rsp = stack, .rflags = 0x3002, /* IOPL 3 */
	};

	must(ioctl(guest->cpus[cpu].fd, KVM_SET_REGS, &regs) == 0, "KVM_SET_REGS");
}

struct guest_params *guest_start(struct guest *guest, unsigned int cpu, enum guest_payload payload)
{
	uint64_t params = GUEST_PARAMS + 0x1000u * cpu;

	guest_begin(guest, cpu, CODE + CODE_EACH * (uint32_t)payload, params, STACK);
	return (struct guest_params *)(void *)(guest->system + params);
}

int guest_run(struct guest *guest, unsigned int cpu)
{
	int rc;

	do {
		rc = ioctl(guest->cpus[cpu].fd, KVM_RUN, 0UL);
	} while (rc < 0 && (errno == EINTR || errno == EAGAIN));
	return rc < 0 ? -errno : (int)guest->cpus[cpu].run->exit_reason;
}

bool guest_is_done(const struct guest *guest, unsigned int cpu)
{
	const struct kvm_run *run = guest->cpus[cpu].run;

	return run->exit_reason == KVM_EXIT_IO && run->io.port == GUEST_PORT;
}

bool guest_has_slot(struct guest *guest, uint64_t gpa)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region probe = {.slot = PROBE_SLOT,
		.guest_phys_addr = gpa,
		.memory_size = 4096,
		.userspace_addr = (uintptr_t)page};
	int rc = ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &probe);
	int code = errno;

	if (rc == 0) {
		probe.memory_size = 0;
		must(ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &probe) == 0, "probe");
	} else if (code != EEXIST) {
		must(false, "probe");
	}
	munmap(page, 4096);
	return rc != 0;
}
