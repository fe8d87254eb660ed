/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * single_step.c - see single.h. Three pages are closed; an instruction that touches one of them faults,
 * finds the page open when it is repeated, and traps behind its end, where the pages are closed again. So a page that
 * an instruction reaches into beside the number's counts as a touch of its own, and each step of a
 * repeated string instruction does.
 */
#include "single.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#define TRAP_FLAG 0x100
#define FENCE (3 * SINGLE_PAGE)
#define MOST 32u

static struct {
	uint8_t *fence; /* the three pages */
	uint8_t *number;
	size_t width;
	uint8_t old[16];
	struct sigaction segv; /* whoever had the signals before */
	struct sigaction trap;
	volatile size_t nr;
	size_t seen; /* touches whose instruction is over */
	struct {
		uintptr_t addr;
		uint8_t after[16];
	} touches[MOST];
} watch;

#if defined(__x86_64__)
static void on_fault(int sig, siginfo_t *info, void *context)
{
	uintptr_t addr = (uintptr_t)info->si_addr;
	ucontext_t *uc = context;

	(void)sig;
	if (!watch.fence || addr - (uintptr_t)watch.fence >= FENCE)
		_Exit(99); /* not ours: a defect of the test */
	if (watch.nr < MOST)
		watch.touches[watch.nr].addr = addr;
	watch.nr = watch.nr + 1;
	mprotect((void *)(addr & ~(SINGLE_PAGE - 1)), SINGLE_PAGE, PROT_READ | PROT_WRITE);
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	mprotect(watch.fence, FENCE, PROT_READ | PROT_WRITE);
	/* One instruction may have touched several pages. */
	for (; watch.seen < watch.nr && watch.seen < MOST; watch.seen++)
		memcpy(watch.touches[watch.seen].after, watch.number, watch.width);
	mprotect(watch.fence, FENCE, PROT_NONE);
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

bool single_steps(void)
{
	return true;
}

static void take_signals(void)
{
	struct sigaction segv = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct sigaction trap = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

	sigaction(SIGSEGV, &segv, &watch.segv);
	sigaction(SIGTRAP, &trap, &watch.trap);
}
#else
bool single_steps(void)
{
	return false;
}

static void take_signals(void)
{
	sigaction(SIGSEGV, NULL, &watch.segv);
	sigaction(SIGTRAP, NULL, &watch.trap);
}
#endif

void single_begin(void *page, size_t off, size_t width)
{
	watch.fence = (uint8_t *)page - SINGLE_PAGE;
	watch.number = (uint8_t *)page + off;
	watch.width = width;
	watch.nr = 0;
	watch.seen = 0;
	memcpy(watch.old, watch.number, width);
	take_signals();
	mprotect(watch.fence, FENCE, PROT_NONE);
}

static const char *judge(enum single_kind kind)
{
	static const size_t most[] = {1, 1, 2, MOST};
	bool changed = false;

	if (watch.nr == 0)
		return "nothing touched it";
	if (watch.nr > most[kind])
		return "several instructions touched it, or one that reaches beyond it";
	for (size_t i = 0; i < watch.nr; i++) {
		bool is_old = memcmp(watch.touches[i].after, watch.old, watch.width) == 0;
		bool is_new = memcmp(watch.touches[i].after, watch.number, watch.width) == 0;

		if (kind != SINGLE_CHANGE && watch.touches[i].addr != (uintptr_t)watch.number)
			return "the touch begins elsewhere";
		if (changed ? !is_new : !is_old && !is_new)
			return "a number was seen that is neither the old nor the new one";
		changed = changed || (is_new && !is_old);
	}
	return NULL;
}

const char *single_end(enum single_kind kind)
{
	const char *wrong;

	mprotect(watch.fence, FENCE, PROT_READ | PROT_WRITE);
	sigaction(SIGSEGV, &watch.segv, NULL);
	sigaction(SIGTRAP, &watch.trap, NULL);
	wrong = judge(kind);
	if (kind != SINGLE_READ && !wrong && memcmp(watch.old, watch.number, watch.width) == 0)
		wrong = "the number has not changed";
	watch.fence = NULL;
	return wrong;
}
