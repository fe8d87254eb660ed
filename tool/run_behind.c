/* SPDX-License-Identifier: BSD-3-Clause */
/* run_behind.c - fills the memory with pages while the payload runs: "--populate --background". */
#include <errno.h>
#include <string.h>

#include "run.h"

static void *populate(void *arg)
{
	struct run_behind *b = arg;
	struct gm_populate_opts opts = {.size = sizeof(opts), .threads = 1, .cancel = &b->cancel};
	double begun = tool_now();

	b->code =
		gm_space_populate(b->memory->space, b->memory->gpa, b->memory->len, &opts, &b->err);
	b->seconds = tool_now() - begun;
	return NULL;
}

bool run_behind_start(struct run_behind *b, struct run_memory *memory)
{
	double begun = tool_now();
	int rc;

	*b = (struct run_behind){.memory = memory};
	rc = pthread_create(&b->thread, NULL, populate, b);
	if (rc)
		tool_error("run: no thread for --background: %s", strerror(rc));
	b->started = rc == 0;
	b->start_seconds = tool_now() - begun;
	return b->started;
}

bool run_behind_end(struct run_behind *b)
{
	if (!b->started)
		return true;
	__atomic_store_n(&b->cancel, 1, __ATOMIC_RELAXED);
	pthread_join(b->thread, NULL);
	b->started = false;
	if (b->code == 0 || b->code == -ECANCELED)
		return true;
	tool_error("run: --background: %s", b->err.text);
	return false;
}
