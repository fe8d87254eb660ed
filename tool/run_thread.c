/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_thread.c - the payloads in threads of this process, where there is no KVM or none is wanted.
 *
 * A page that the host cannot give is a SIGBUS. It ends the thread that met it, as it ends a vCPU's KVM_RUN.
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../payload/payload.h"
#include "run.h"

struct run_thread {
	struct run_params params;
	pthread_t thread;
	bool started;
	bool ended; /* __atomic */
	int event;
	sigjmp_buf out;
	uint64_t fault; /* the address, when @why says something */
	char why[MACHINE_WHY_CAP];
};

/* Whose payload runs in this thread. */
static _Thread_local struct run_thread *current;
static struct sigaction others; /* what SIGBUS was before */

static void take_fault(int signo, siginfo_t *info, void *context)
{
	bool sent = info->si_code <= 0; /* by a process, and no fault at all */

	(void)context;
	if (current && !sent) {
		current->fault = (uintptr_t)info->si_addr;
		siglongjmp(current->out, 1);
	}
	/* None of ours: the same instruction meets it again. */
	sigaction(SIGBUS, &others, NULL);
	if (sent)
		raise(signo);
}

bool run_threads_init(struct run_threads *t, uint32_t nr)
{
	*t = (struct run_threads){.nr = nr, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (t->event < 0) {
		tool_error("run: eventfd: %s", strerror(errno));
		return false;
	}
	t->threads = tool_alloc(nr, sizeof(*t->threads));
	sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = take_fault, .sa_flags = SA_SIGINFO},
		&others);
	return true;
}

static void join(struct run_threads *t)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		if (t->threads[i].started)
			pthread_join(t->threads[i].thread, NULL);
		t->threads[i].started = false;
	}
}

void run_threads_fini(struct run_threads *t)
{
	if (t->threads) {
		join(t);
		sigaction(SIGBUS, &others, NULL);
	}
	free(t->threads);
	t->threads = NULL;
	if (t->event >= 0)
		close(t->event);
	t->event = -1;
}

struct run_params *run_threads_params(struct run_threads *t, uint32_t i)
{
	return &t->threads[i].params;
}

static void say_fault(struct run_thread *t)
{
	const struct run_params *p = &t->params;
	bool inside = t->fault >= p->all && t->fault - p->all < p->all_len;

	snprintf(t->why, sizeof(t->why),
		"the host has no page for %s 0x%" PRIx64 MACHINE_NO_PAGE_ASK,
		inside ? "its memory, byte" : "address", inside ? t->fault - p->all : t->fault);
}

static void *run_thread(void *arg)
{
	static const uint64_t one = 1;
	struct run_thread *thread = arg;

	current = thread;
	if (sigsetjmp(thread->out, 1) == 0)
		payload_run(&thread->params);
	else
		say_fault(thread);
	current = NULL;
	__atomic_store_n(&thread->ended, true, __ATOMIC_RELEASE);
	/* It can only fail if 2^64 - 1 threads have ended. */
	if (write(thread->event, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

void run_threads_pause(struct run_threads *t)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		uint64_t *stop = &t->threads[i].params.stop;
		uint64_t goes_on = 0;

		__atomic_compare_exchange_n(
			stop, &goes_on, RUN_STOP_MOVE, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	}
	join(t);
}

bool run_threads_start(struct run_threads *t)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		struct run_thread *thread = &t->threads[i];
		int error;

		thread->event = t->event;
		__atomic_store_n(&thread->ended, thread->why[0] || thread->params.state == RUN_DONE,
			__ATOMIC_RELEASE);
		if (thread->ended)
			continue;
		if (thread->params.stop == RUN_STOP_MOVE)
			thread->params.stop = 0;
		error = pthread_create(&thread->thread, NULL, run_thread, thread);
		if (error) {
			for (uint32_t j = 0; j < i; j++)
				__atomic_store_n(&t->threads[j].params.stop, 1, __ATOMIC_RELAXED);
			tool_error("run: a thread: %s", strerror(error));
			return false;
		}
		thread->started = true;
	}
	return true;
}

bool run_threads_all_ended(const struct run_threads *t)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		if (!__atomic_load_n(&t->threads[i].ended, __ATOMIC_ACQUIRE))
			return false;
	}
	return true;
}

const char *run_threads_why(const struct run_threads *t, uint32_t i)
{
	const struct run_thread *thread = &t->threads[i];

	return __atomic_load_n(&thread->ended, __ATOMIC_ACQUIRE) && thread->why[0] ? thread->why
										   : NULL;
}
