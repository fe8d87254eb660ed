/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * abi.h - what "guestmem run" and the program in the guest agree on.
 *
 * Each vCPU has one block of parameters in guest memory. Its address is the first argument of the
 * program's entry (System V calling convention: in RDI). The host writes the first half before the
 * start, and @stop at any time; the program writes the second half. All numbers are little-endian.
 * guestmem-run(1) is the documentation for those who write programs.
 */
#ifndef GM_PAYLOAD_ABI_H
#define GM_PAYLOAD_ABI_H

#include <stddef.h>
#include <stdint.h>

#define RUN_MAGIC UINT64_C(0x316e75722d6d67) /* "gm-run1" and a NUL */
#define RUN_VERSION 1u

/* Ports. */
#define RUN_PORT_STATUS 0xf4    /* 1, 2 or 4 bytes written: the vCPU ends with that status */
#define RUN_PORT_CONTROL 0xe0   /* 16 ports: as the registers of the control page */
#define RUN_PORT_EXCEPTION 0xf8 /* the machine's own: an exception was not the program's */
#define RUN_PORT_CONSOLE 0x3f8  /* a byte written goes to standard output */
#define RUN_PORT_CONSOLE_LSR 5  /* of RUN_PORT_CONSOLE on: line status, always ready */
#define RUN_CONSOLE_READY 0x60

/* Addresses of the machine. */
#define RUN_PROGRAM_GPA UINT64_C(0x100000)  /* built-in payloads, flat binaries */
#define RUN_LOW_LEN UINT64_C(0x4000000)     /* low memory; its first page is not mapped */
#define RUN_MEMORY_GPA UINT64_C(0x40000000) /* the memory that is measured */

/* Registers of the mailbox page, 8 bytes each. */
#define RUN_MAILBOX_LEN 4096u
#define RUN_MAILBOX_MAGIC 0     /* read: RUN_MAGIC */
#define RUN_MAILBOX_TIME 8      /* read: nanoseconds of the host's monotonic clock */
#define RUN_MAILBOX_DOORBELL 16 /* write: counted, the last value is reported */
#define RUN_MAILBOX_STOP 24     /* read: as run_params.stop */
#define RUN_MAILBOX_LIFTED 32 /* read: times that a vCPU met memory that the guest has protected */

/* The control page behind it, with --control: registers of guestmem/control_message.h. */
#define RUN_CONTROL_LEN 4096u

enum run_payload {
	RUN_PROGRAM = 0, /* the user's own */
	RUN_TOUCH,
	RUN_CHASE,
	RUN_STREAM,
	RUN_STORE,
	RUN_STAMP,
	RUN_REPLAY,
	RUN_CONTROL,
	RUN_NR_PAYLOADS,
};

/* run_params.flags */
#define RUN_IN_GUEST 0x1u /* not in a thread of the host */

/* run_params.status */
#define RUN_WELL 0u
#define RUN_WRONG 1u      /* memory did not hold what it must: errors and error_* say more */
#define RUN_IMPOSSIBLE 2u /* parameters that cannot be: not enough memory, no trace */

/* run_params.state */
#define RUN_NOT_BEGUN 0u
#define RUN_PREPARES 1u
#define RUN_MEASURES 2u
#define RUN_VERIFIES 3u
#define RUN_DONE 4u
#define RUN_MOVES                                                                                  \
	5u /* it has returned because of RUN_STOP_MOVE, and goes on when it is called again */

/* run_params.stop */
#define RUN_STOP_END 1u
#define RUN_STOP_MOVE 2u /* of payloads in threads: come back, to go on later, or elsewhere */

/* Places in arg[]. */
enum {
	RUN_ARG_ORDER = 0, /* 0 one after the other, 1 random */
	RUN_ARG_STRIDE,    /* bytes from one to the next */
	RUN_ARG_WRITE,  /* touch, replay: 0 reads; store: percent of writes; stream: the kernel */
	RUN_ARG_ROUNDS, /* times; of stamp 0: until it is stopped */
	RUN_ARG_VERIFY,
	RUN_ARG_COUNT, /* steps, operations, or pages of a round; 0 = all */
	RUN_ARG_SKEW,  /* of zipf keys, in hundredths */
	RUN_ARG_KEYS,  /* 0 = half of the slots */
	RUN_ARG_PAUSE, /* ticks between rounds; of replay: ticks a millisecond of the trace, 0 = none */
	RUN_NR_ARGS = 16,
};

#define RUN_NR_FIGURES 8

/**
 * struct run_params - one vCPU's parameters and results
 * @magic:     RUN_MAGIC
 * @version:   RUN_VERSION
 * @size:      sizeof(struct run_params); a later version only adds behind it
 * @vcpu:      which one it is, from 0
 * @nr_vcpus:  how many there are
 * @payload:   enum run_payload
 * @flags:     RUN_IN_GUEST
 * @mem:       first address of the memory that this vCPU works on, aligned to 4096 bytes
 * @mem_len:   bytes of it, a multiple of 4096
 * @data:      address of what was read from --data, or 0
 * @data_len:  bytes of it
 * @seed:      of all that is random
 * @mailbox:   address of the mailbox page, or 0
 * @argc:      number of words for the program, its own name first
 * @argv:      address of @argc addresses of NUL-terminated words, and a 0
 * @stop:      becomes 1 when the program is to come to an end
 * @all:       first address of the memory of all vCPUs together
 * @all_len:   bytes of it
 * @control:   address of the control page, or 0
 * @arg:       RUN_ARG_*
 * @progress:  grows while it works; what it counts is the payload's own
 * @state:     RUN_NOT_BEGUN ... RUN_DONE
 * @status:    RUN_WELL, _WRONG, _IMPOSSIBLE
 * @ops:       operations in the measured part
 * @bytes:     bytes that they moved or touched
 * @checksum:  of what it found
 * @expected:  what @checksum must be, or 0
 * @ticks:     of the time-stamp counter in the measured part
 * @errors:    words that were not what they must be
 * @error_addr, @error_found, @error_wanted: the first of them
 * @figures:   the payload's own
 * @kept:      where it was, for RUN_MOVES
 */
struct run_params {
	uint64_t magic;
	uint32_t version;
	uint32_t size;
	uint32_t vcpu;
	uint32_t nr_vcpus;
	uint32_t payload;
	uint32_t flags;
	uint64_t mem;
	uint64_t mem_len;
	uint64_t data;
	uint64_t data_len;
	uint64_t seed;
	uint64_t mailbox;
	uint64_t argc;
	uint64_t argv;
	uint64_t stop;
	uint64_t all;
	uint64_t all_len;
	uint64_t control;
	uint64_t arg[RUN_NR_ARGS];
	/* 0x100: the program's half */
	uint64_t progress;
	uint32_t state;
	uint32_t status;
	uint64_t ops;
	uint64_t bytes;
	uint64_t checksum;
	uint64_t expected;
	uint64_t ticks;
	uint64_t errors;
	uint64_t error_addr;
	uint64_t error_found;
	uint64_t error_wanted;
	uint64_t figures[RUN_NR_FIGURES];
	uint64_t kept[2];
	uint64_t reserved2[11];
};

_Static_assert(offsetof(struct run_params, progress) == 256, "the program's half is at 256");
_Static_assert(sizeof(struct run_params) == 512, "512 bytes");

#endif
