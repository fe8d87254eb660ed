/* SPDX-License-Identifier: BSD-3-Clause */
/* live_guest.c - see live_guest.h. Long mode, ring 3, pages of 2 MiB, addresses as they are. */
#include "live_guest.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <linux/kvm.h>

#include "../payload/ring3.h"

#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define CODE 0x10000u

/* 1: movb $1,(%rbx); add $4096,%rbx; dec %rcx; jnz 1b; 2: mov $0x99,%dx; out %al,%dx; jmp 2b */
static const uint8_t code[] = {0xc6, 0x03, 0x01, 0x48, 0x81, 0xc3, 0x00, 0x10, 0x00, 0x00, 0x48,
	0xff, 0xc9, 0x75, 0xf1, 0x66, 0xba, 0x99, 0x00, 0xee, 0xeb, 0xf9};

static void must(bool what)
{
	if (!what)
		abort();
}

static void put(uint8_t *system, uint32_t at, uint64_t value)
{
	memcpy(system + at, &value, sizeof(value));
}

static void set_cpuid(int kvm, int cpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	must(cpuid);
	cpuid->nent = 256;
	must(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0);
	must(ioctl(cpu, KVM_SET_CPUID2, cpuid) == 0);
	free(cpuid);
}

static void set_mode(int cpu)
{
	struct kvm_sregs sregs;

	must(ioctl(cpu, KVM_GET_SREGS, &sregs) == 0);
	ring3_mode(&sregs, PML4);
	must(ioctl(cpu, KVM_SET_SREGS, &sregs) == 0);
}

bool live_guest_open(struct live_guest *guest, uint8_t *system)
{
	guest->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (guest->kvm < 0)
		return false;
	guest->vm = ioctl(guest->kvm, KVM_CREATE_VM, 0UL);
	if (guest->vm < 0)
		return false;
	live_guest_slot(guest, 0, 0, system, LIVE_SYSTEM);
	put(system, PML4, PDPT | 0x27);
	put(system, PDPT, PD | 0x27);
	for (uint32_t i = 0; i < 512; i++)
		put(system, PD + 8 * i, ((uint64_t)i << 21) | 0xe7);
	memcpy(system + CODE, code, sizeof(code));
	guest->cpu = ioctl(guest->vm, KVM_CREATE_VCPU, 0UL);
	must(guest->cpu >= 0);
	guest->run = mmap(NULL, (size_t)ioctl(guest->kvm, KVM_GET_VCPU_MMAP_SIZE, 0UL),
		PROT_READ | PROT_WRITE, MAP_SHARED, guest->cpu, 0);
	must(guest->run != MAP_FAILED);
	set_cpuid(guest->kvm, guest->cpu);
	set_mode(guest->cpu);
	return true;
}

void live_guest_slot(struct live_guest *guest, uint32_t slot, uint64_t gpa, void *hva, uint64_t len)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)hva,
	};

	must(ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

void live_guest_touch(struct live_guest *guest, uint64_t gpa, uint64_t len)
{
	struct kvm_regs regs = {.rip = CODE, .rbx = gpa, .rcx = len / 4096, .rflags = 0x3002};
	const struct kvm_run *run = guest->run;

	must(ioctl(guest->cpu, KVM_SET_REGS, &regs) == 0);
	must(ioctl(guest->cpu, KVM_RUN, 0UL) == 0);
	must(run->exit_reason == KVM_EXIT_IO && run->io.port == 0x99);
}
