/* SPDX-License-Identifier: BSD-3-Clause */
/* run.c - "guestmem run": a payload in a small virtual machine, or in a thread, on chosen memory. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../payload/trace.h"
#include "mover.h"

/* What the payload will be asked to replay is looked at before it is given to it. */
static bool check_trace(const struct run_opts *o, const struct run_memory *memory)
{
	struct trace_header h;
	const char *why;

	if (o->payload != RUN_REPLAY || o->restored)
		return true;
	why = trace_check((const void *)(uintptr_t)memory->data_hva, memory->data_len, &h);
	if (why) {
		tool_error("%s: %s", o->memory.data, why);
		return false;
	}
	if (h.nr_pages <= memory->len >> h.page_log2)
		return true;
	tool_error("%s: is of a guest with %llu pages of %llu bytes: --size must be as much",
		o->memory.data, (unsigned long long)h.nr_pages, 1ull << h.page_log2);
	return false;
}

static bool sizes_fit(const struct run_opts *o, const struct gm_host *host)
{
	return memory_size_fits(o->memory.size, memory_largest_page(&o->memory.pages, host));
}

static int report(struct run_report *r, struct run_engine *e, struct tool_output *json)
{
	struct run_params *params = tool_alloc(r->opts->vcpus, sizeof(*params));
	bool well = true;

	for (uint32_t i = 0; i < r->opts->vcpus; i++)
		well = run_engine_params(e, i, &params[i]) && well;
	r->params = params;
	run_report_sum(r);
	run_report_text(r);
	if (json->path)
		well = run_report_json(r, json) && well;
	well = tool_output_close(json) && well;
	free(params);
	return r->status == EXIT_OK && !well ? EXIT_FAILED : r->status;
}

int run_to_end(const struct run_guest *g)
{
	const struct run_opts *o = g->opts;
	struct run_seen seen = {0};
	struct run_behind behind = {0};
	struct run_result result;
	struct run_report r = {.opts = o,
		.host = g->host,
		.engine = g->engine,
		.memory = g->memory,
		.result = &result,
		.seen = &seen,
		.behind = &behind};
	int status = EXIT_FAILED;

	run_measure(&seen.before);
	if ((!o->background || run_behind_start(&behind, g->memory)) &&
		run_watch(g->engine, g->signals, g->mover, &result) && run_behind_end(&behind)) {
		run_measure(&seen.after);
		run_seen(&seen, g->engine);
		status = report(&r, g->engine, g->json);
		if (o->snapshot && result.outcome != RUN_OUT_CRASHED &&
			result.outcome != RUN_OUT_MOVED &&
			!run_snapshot_save(g->engine, o->snapshot))
			status = EXIT_FAILED;
	}
	run_behind_end(&behind);
	run_seen_fini(&seen);
	return status;
}

/* With --control-socket it can be moved. */
static int run_movable(const struct run_guest *g)
{
	struct mover mover;
	struct run_guest with = *g;
	int status = EXIT_FAILED;

	with.mover = &mover;
	if (mover_init(&mover, g->opts->socket)) {
		mover.engine = g->engine;
		mover.quiet = g->opts->quiet;
		if (mover_start(&mover))
			status = run_to_end(&with);
		mover_finish(&mover);
	}
	mover_fini(&mover);
	return status;
}

static int run_in(const struct run_opts *o, const struct gm_host *host, struct run_engine *e,
	int signals, struct tool_output *json, const struct run_hooks *hooks)
{
	struct run_memory memory = {0};
	const struct run_guest guest = {.opts = o,
		.host = host,
		.engine = e,
		.memory = &memory,
		.json = json,
		.signals = signals};
	int status = EXIT_FAILED;

	if (run_memory_init(&memory, &o->memory) && check_trace(o, &memory) &&
		run_engine_init(e, &memory) && (!hooks || hooks->bring(hooks->ctx, e)))
		status = o->socket ? run_movable(&guest) : run_to_end(&guest);
	run_engine_fini(e);
	if (hooks)
		hooks->end(hooks->ctx);
	run_memory_fini(&memory);
	return status;
}

int run_go(const struct run_opts *o, const struct run_hooks *hooks)
{
	struct tool_output json = {0};
	struct gm_host host = {.size = sizeof(host)};
	struct run_engine engine;
	int status = EXIT_FAILED;
	int signals = -1;

	gm_host_probe(&host, NULL);
	if (!sizes_fit(o, &host))
		return EXIT_USAGE;
	if (run_watch_signals(&signals) && (!o->json || tool_output_open(&json, o->json, false)) &&
		run_engine_choose(&engine, o))
		status = run_in(o, &host, &engine, signals, &json, hooks);
	tool_output_close(&json);
	if (signals >= 0)
		close(signals);
	return status;
}

int cmd_run(int argc, char **argv)
{
	struct run_opts o;
	int status;

	if (!run_options(argc, argv, &o, &status))
		return status;
	return run_go(&o, NULL);
}
