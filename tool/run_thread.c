/* SPDX-License-Identifier: BSD-3-Clause */
/* run_thread.c - the payloads in threads of this process, where there is no KVM or none is wanted. */
#include <errno.h>
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
};

bool run_threads_init(struct run_threads *t, uint32_t nr)
{
	*t = (struct run_threads){.nr = nr, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (t->event < 0) {
		tool_error("run: eventfd: %s", strerror(errno));
		return false;
	}
	t->threads = tool_alloc(nr, sizeof(*t->threads));
	return true;
}

void run_threads_fini(struct run_threads *t)
{
	for (uint32_t i = 0; t->threads && i < t->nr; i++) {
		if (t->threads[i].started)
			pthread_join(t->threads[i].thread, NULL);
		t->threads[i].started = false;
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

static void *run_thread(void *arg)
{
	static const uint64_t one = 1;
	struct run_thread *thread = arg;

	payload_run(&thread->params);
	__atomic_store_n(&thread->ended, true, __ATOMIC_RELEASE);
	/* It can only fail if 2^64 - 1 threads have ended. */
	if (write(thread->event, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

bool run_threads_start(struct run_threads *t)
{
	for (uint32_t i = 0; i < t->nr; i++) {
		int error;

		t->threads[i].event = t->event;
		error = pthread_create(&t->threads[i].thread, NULL, run_thread, &t->threads[i]);
		if (error) {
			for (uint32_t j = 0; j < i; j++)
				__atomic_store_n(&t->threads[j].params.stop, 1, __ATOMIC_RELAXED);
			tool_error("run: a thread: %s", strerror(error));
			return false;
		}
		t->threads[i].started = true;
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
