/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * machine.h - a small machine for KVM on x86: vCPUs in long mode and ring 3, page tables that map
 * addresses to themselves, a few devices. guestmem-run(1) says what a program finds in it.
 *
 * machine.c makes it, starts and stops it; machine_low.c fills its low memory; machine_tables.c makes
 * page tables; machine_vcpu.c runs a vCPU and answers its exits by the devices of machine_devices.c;
 * machine_control.c has the registers for requests about the memory's backing;
 * machine_crash.c says what went wrong. On other processors there is machine_none.c.
 */
#ifndef TOOL_MACHINE_H
#define TOOL_MACHINE_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <guestmem/control.h>
#include <guestmem/kvm.h>

#include "../payload/abi.h"
#include "run_memory.h"

#define MACHINE_VCPUS_MAX 64u
#define MACHINE_WHY_CAP 320
#define MACHINE_AWAKE_NS UINT64_C(10000000) /* that a vCPU runs between two rests */
#define MACHINE_NO_PAGE_ASK                                                                        \
	": is the pool of huge pages empty, the file system full, or the file shorter?"

enum machine_end {
	MACHINE_RUNS = 0,
	MACHINE_ENDED,   /* by the status port */
	MACHINE_STOPPED, /* by machine_stop(): it can go on */
	MACHINE_CRASHED, /* its why says how */
};

struct machine;
struct kvm_run;

struct machine_vcpu {
	struct machine *machine;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	size_t run_len;
	struct gm_reader *memory; /* readers of its thread */
	struct gm_reader *ports;
	pthread_t thread;
	bool started;
	uint64_t awake;             /* __atomic: ns of the clock when it has rested last */
	volatile sig_atomic_t lost; /* SIGBUS came in KVM_RUN: the host has lost a page */
	enum machine_end end;       /* __atomic: written by its thread */
	uint32_t status;
	uint64_t exits_io;
	uint64_t exits_mmio;
	char why[MACHINE_WHY_CAP];
};

/* What runs in the guest. */
struct machine_program {
	const void *bytes; /* a flat binary, or NULL */
	size_t len;
	int fd; /* a file: flat or ELF */
	const char *path;
	char **words; /* arguments, the name first */
	uint32_t nr_words;
};

struct machine_opts {
	uint32_t nr_vcpus;
	uint32_t guest_log2; /* leaves of the page tables for what is measured: 12, 21, 30 */
	struct machine_program program;
	uint64_t control; /* GM_CONTROL_BIT()s that the guest may ask for; 0: no such registers */
	uint64_t control_rate; /* requests a second, 0: any number */
	bool restored; /* its memory is brought by others: low memory and tables are left empty */
};

/* The devices' registers and the console's line. */
struct machine_devices {
	struct machine *machine;
	pthread_mutex_t lock;
	bool made;
	uint64_t doorbells;
	uint64_t doorbell;
	uint64_t stop; /* __atomic */
};

/* The guest's requests about its memory. */
struct gm_control_door;

struct machine_control {
	struct gm_control *control; /* or NULL */
	struct gm_control_door *door;
	bool guarded;
	uint64_t lifted; /* __atomic: times that protected memory was met */
};

struct machine {
	struct run_memory *memory;
	struct gm_space *ports;
	struct machine_devices devices;
	struct machine_control control;
	struct machine_opts opts;
	int kvm_fd;
	int vm_fd;
	void *cpuid; /* struct kvm_cpuid2 */
	struct gm_kvm *slots;
	struct machine_vcpu *vcpus;
	uint32_t phys_bits;
	uint64_t entry;
	uint64_t tables_gpa;
	uint64_t tables_room;
	uint64_t tables_used;
	uint64_t root;
	uint64_t mailbox_gpa;
	int event; /* eventfd: a vCPU has stopped */
	bool low_made;
	uint32_t throttle; /* __atomic: per cent of its time that it rests */
	struct sigaction old_kick;
	bool kick_installed;
};

/* Can KVM be had? If not @why says it. */
bool machine_available(char *why, size_t cap);
/* Does KVM take leaves of 1 GiB in the guest's page tables? By a guest that tries it. */
bool machine_takes_1g(void);

/* False after a message. machine_fini() is called in any case. */
bool machine_init(struct machine *m, struct run_memory *memory, const struct machine_opts *opts);
void machine_fini(struct machine *m);
/* Of a vCPU's block of parameters. */
uint64_t machine_params_gpa(uint32_t vcpu);
/* Runs all vCPUs in threads of their own. @event of the machine counts those that have stopped. */
bool machine_start(struct machine *m);
/* Makes all vCPUs leave the guest, and waits for their threads. */
void machine_stop(struct machine *m);
/* After machine_stop(): those that it has stopped run on. False after a message. */
bool machine_go_on(struct machine *m);
/* Its vCPUs rest for so many per cent of their time, 0 to 99, if machine_throttle_tick() is called all the while. */
void machine_throttle(struct machine *m, uint32_t percent);
/* Returns ms until it is to be called again, -1: never. By the thread that starts and stops. */
int machine_throttle_tick(struct machine *m);
bool machine_all_stopped(const struct machine *m);
/*
 * A stopped machine goes on as another one over the same memory: the state of its vCPUs is saved, as
 * bytes, and put into those of a new virtual machine. False after a message.
 */
bool machine_move(struct machine *m);
/* A vCPU of a stopped machine as bytes, and into one that has not run. */
struct machine_saved {
	uint8_t *bytes; /* freed by the caller */
	size_t len;
	enum machine_end end;
	uint32_t status;
};
bool machine_save(const struct machine *m, uint32_t vcpu, struct machine_saved *ret);
bool machine_restore(struct machine *m, uint32_t vcpu, const struct machine_saved *saved);
/* Ticks of the guest's counter in a second; 0: not known. */
double machine_ticks_per_second(const struct machine *m);

/* ---- machine_low.c: both false after a message ---- */
bool machine_low_fill(struct machine *m);
bool machine_program_load(struct machine *m);

/* ---- machine_devices.c ---- */
bool machine_devices_init(struct machine *m);
void machine_devices_fini(struct machine *m);
/* Whose exit the devices are asked for, in the calling thread. */
void machine_devices_current(struct machine_vcpu *vcpu);

/* ---- machine_control.c ---- */
bool machine_control_init(struct machine *m);
void machine_control_fini(struct machine *m);
/* Of its registers, or 0. */
uint64_t machine_control_gpa(const struct machine *m);
/* How often protection was lifted because a vCPU met it. */
uint64_t machine_control_lifted(const struct machine *m);
/* A vCPU met memory that cannot be accessed: can it run again? @seen: how often it was before it ran. */
bool machine_control_lift(struct machine *m, uint64_t seen);

/* ---- machine_vcpu.c ---- */
bool machine_vcpu_init(struct machine *m, uint32_t index);
void machine_vcpu_fini(struct machine_vcpu *vcpu);
/* Registers for the start of the program. */
bool machine_vcpu_reset(struct machine_vcpu *vcpu);
/* Until it ends, or is stopped. In the thread that calls. */
void machine_vcpu_run(struct machine_vcpu *vcpu);
/* While a machine is there SIGBUS in KVM_RUN ends the vCPU; all other goes to whoever had it before. */
void machine_lost_begin(void);
void machine_lost_end(void);

/* ---- machine_crash.c: fill in @why and the end ---- */
__attribute__((format(printf, 2, 3))) void machine_crash(
	struct machine_vcpu *vcpu, const char *fmt, ...);
/* By the exit's reason. */
void machine_crash_exit(struct machine_vcpu *vcpu);
/* KVM_RUN failed with an errno value. */
void machine_crash_error(struct machine_vcpu *vcpu, int error);
/* The handler of exception @vector wrote to its port. */
void machine_crash_exception(struct machine_vcpu *vcpu, uint32_t vector);

/* ---- machine_slots.c ---- */
bool machine_slots_init(struct machine *m);
void machine_slots_fini(struct machine *m);

/* ---- kvm_stats.c ---- */
struct kvm_stat {
	char name[48];
	uint64_t value; /* of vCPUs: the sum */
};
/* Returns how many there are in *ret, which the caller frees; 0: there are none. */
size_t machine_stats(const struct machine *m, struct kvm_stat **ret);

/* ---- places in low memory ---- */
#define MACHINE_GDT 0x1000u
#define MACHINE_IDT 0x2000u
#define MACHINE_STUBS 0x3000u
#define MACHINE_RETURN 0x4000u
#define MACHINE_WORDS 0x10000u
#define MACHINE_WORDS_LEN 0x40000u
#define MACHINE_VCPU_AREA UINT64_C(0x3000000)
#define MACHINE_VCPU_STRIDE UINT64_C(0x40000)
/* In a vCPU's area. */
#define MACHINE_TSS 0x1000u
#define MACHINE_TSS_LEN (104u + 8192u + 1u)
#define MACHINE_KERNEL_STACK_END 0x8000u
#define MACHINE_STACK_END 0x40000u

#define MACHINE_CODE_0 0x08u
#define MACHINE_DATA_3 0x1bu
#define MACHINE_CODE_3 0x23u
#define MACHINE_TR 0x28u

#endif
