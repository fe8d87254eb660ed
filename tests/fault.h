/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fault.h - the fault-injecting twin of src/sys, for tests.
 *
 * A program in the list fault_test_names of tests/meson.build is linked so that each call of a
 * function of sys.h from another object lands in fault.c first. There it is counted, may be written
 * to a log, and may be made to fail as a plan says; otherwise it does its work. A test that plans a
 * fault must look at fault_hits() to know that it happened.
 *
 * Three uses:
 *   one fault       fault_set(&(struct fault_plan){.fn = FAULT_gm_sys_mmap, .nth = 2, .error =
 * ENOMEM}); all of them     fault_sweep(scenario, ctx): call 1, 2, 3, ... fails, and nothing may be
 * leaked order of calls  fault_log_start(); ...; fault_log_find(FAULT_gm_sys_mbind, 0) <
 * fault_log_find(...)
 */
#ifndef GM_TESTS_FAULT_H
#define GM_TESTS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What can happen to a function: flags in fault_list.h. */
#define FAULT_NEVER 0u       /* only counted */
#define FAULT_CAN_FAIL 1u    /* FAULT_ANY means these */
#define FAULT_INTERRUPTED 2u /* returns -EINTR in an EINTR storm */
#define FAULT_SHORT 4u       /* can move fewer bytes than asked for */
/*
 * Gives something back. Nobody can make good its failure, so FAULT_ANY leaves it alone. It can be
 * planned by name: close() then has closed all the same, as the kernel's does; the others have done
 * nothing, and something is leaked unless the caller has an answer.
 */
#define FAULT_RELEASE 8u

/* FAULT_gm_sys_mmap and so on. */
enum fault_fn {
#define GM_FAULT(name, flags) FAULT_##name,
#include "fault_list.h"
#undef GM_FAULT
	FAULT_NR,
	FAULT_ANY = FAULT_NR,
};

const char *fault_name(enum fault_fn fn);
unsigned int fault_flags(enum fault_fn fn);

/* ---- the plan ---- */

/*
 * The @nth call (from 1; 0 = none) of @fn, or of any function that can fail, returns -@error (NULL
 * if it allocates); with @forever so do all later ones. With @short_len instead of @error it moves
 * at most so many bytes. Besides, every call that can be interrupted returns -EINTR @eintr times
 * before it works.
 */
#define FAULT_KILL 4096 /* instead of an errno value: the process is killed in front of the call */

struct fault_plan {
	enum fault_fn fn;
	unsigned long nth;
	bool forever;
	int error;
	size_t short_len;
	unsigned int eintr;
	int64_t field; /* of gm_sys_uffd_fill: what the kernel leaves there beside the error */
};

/* Sets all counters to 0 and takes a copy of @plan; NULL = only count. */
void fault_set(const struct fault_plan *plan);
/* No more faults from here on; the counters stay. A scenario does it before it cleans up. */
void fault_disarm(void);
unsigned long fault_calls(
	enum fault_fn fn);        /* since fault_set(); FAULT_ANY: of those that can fail */
unsigned long fault_hits(void);   /* faults that were injected since fault_set() */
enum fault_fn fault_hit_fn(void); /* where the first of them struck; FAULT_NR if none */

/*
 * With a virtual clock gm_sys_sleep_ns() returns at once and lets gm_sys_now_ns() jump instead, so
 * that deadlines pass quickly. fault_clock_jump() adds to the clock.
 */
void fault_clock_virtual(bool on);
void fault_clock_jump(uint64_t ns);

/* What gm_sys_page_size() answers, a multiple of the host's pages; 0 = the truth. */
void fault_page_size(size_t bytes);

/* ---- the log ---- */

/* One call. What has no meaning for a function is 0. */
struct fault_event {
	enum fault_fn fn;
	int fd;
	uint64_t addr;  /* first address */
	uint64_t addr2; /* mremap: the target; mmap: the result */
	uint64_t len;
	uint64_t off;
	int prot;       /* mmap, mprotect */
	uint64_t flags; /* mmap, memfd, open: flags; madvise: advice; mbind: mode; fallocate: mode;
			   seals; ioctl: request */
	const void *caller; /* return address of the call */
	long rc;
	bool injected;
};

void fault_log_start(void);
void fault_log_stop(void);
const struct fault_event *fault_log(size_t *ret_nr);
/* Index of the first event of @fn at or after @from, or SIZE_MAX. */
size_t fault_log_find(enum fault_fn fn, size_t from);
/* The same for an event of @fn with these flags, e.g. madvise with an advice. */
size_t fault_log_find_flags(enum fault_fn fn, uint64_t flags, size_t from);
void fault_log_print(void);

/* ---- what is held: to be the same before and after ---- */

long fault_blocks(void);     /* allocations of gm_sys_alloc*() that are not freed */
long fault_bytes(void);      /* bytes of these, as the allocator rounds them */
uint64_t fault_mapped(void); /* bytes mapped through gm_sys_mmap() and not unmapped */
size_t fault_open_fds(void); /* entries of /proc/self/fd */

#define FAULT_STATE_MAPS 512
#define FAULT_STATE_TEXT (192 * 1024)

/* Large: make it static. */
struct fault_state {
	long blocks;
	size_t nr_fds;
	char fds[4096];
	size_t nr_mapped;
	struct {
		uint64_t first;
		uint64_t last;
	} mapped[FAULT_STATE_MAPS];
	size_t maps_len;
	char maps[FAULT_STATE_TEXT];
};

void fault_state_take(struct fault_state *ret);
/*
 * True if blocks, fds, mappings made through sys.h, and the lines of /proc/self/maps (those of
 * heap, stacks and sanitizers left out) are those of @before; else it says on stderr what differs.
 */
bool fault_state_same(const struct fault_state *before);

/* ---- the sweep ---- */

/*
 * Runs @scenario once without faults; it must return 0. Then, for each errno of a set, once and for
 * ever, it runs it with the fault at call 1, 2, 3, ... until a run has met no fault. A scenario
 * returns 0 or a negative errno value, checks by itself that what it works on is unchanged after a
 * failure, and leaves nothing. After each run the state must be as before. Failures are reported
 * through cmocka. Returns the number of runs in which a fault was injected.
 */
unsigned long fault_sweep(int (*scenario)(void *ctx), void *ctx);

/* The same with other errnos, a function other than FAULT_ANY, or an EINTR storm in each run, which
 * it must survive. */
struct fault_sweep_opts {
	enum fault_fn fn;
	const int *errnos; /* NULL = ENOMEM, EINVAL, EPERM */
	size_t nr_errnos;
	unsigned int eintr;
};
unsigned long fault_sweep_opts(
	int (*scenario)(void *ctx), void *ctx, const struct fault_sweep_opts *opts);

#endif
