/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_snapshot.c - a guest of "guestmem run" in a file of saved memory: its memory, a label for each vCPU ("vcpu-N",
 * docs/vcpu-state.md), and one with what run has to know ("guestmem-run", JSON). Of threads, which can be moved but
 * not saved, it is "thread-N": the block of parameters.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <guestmem/snapshot.h>

#include "json.h"
#include "run.h"
#include "run_snapshot.h"
#include "snapshot.h"

static json_t *words_of(const struct run_opts *o)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < o->nr_words; i++)
		json_array_append_new(list, tool_json_text(o->words[i]));
	return list;
}

/* Numbers of 64 bits as text: JSON's integers have a sign. */
static json_t *number(uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return json_string(text);
}

static char *about(const struct run_engine *e, const struct machine_saved *vcpus)
{
	const struct run_opts *o = e->opts;
	const struct machine *m = &e->machine;
	json_t *args = json_array();
	json_t *ends = json_array();
	json_t *json;
	char *text;

	for (size_t i = 0; i < RUN_NR_ARGS; i++)
		json_array_append_new(args, number(o->args[i]));
	for (uint32_t i = 0; i < o->vcpus; i++)
		json_array_append_new(
			ends, json_pack("[i, o]", (int)vcpus[i].end, number(vcpus[i].status)));
	json = json_pack(
		"{s:i, s:s, s:o, s:i, s:i, s:i, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		"version", RUN_SNAPSHOT_VERSION, "engine", e->kvm ? "kvm" : "thread", "size",
		number(e->memory->len), "vcpus", (int)o->vcpus, "guest_log2", (int)e->guest_log2,
		"payload", (int)o->payload, "seed", number(o->seed), "args", args, "pause",
		o->pause, "data", number(e->memory->data_len), "words", words_of(o), "ends", ends,
		"tables", number(m->tables_used), "doorbells", number(m->devices.doorbells),
		"doorbell", number(m->devices.doorbell), "stop", number(m->devices.stop));
	text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
	json_decref(json);
	return text;
}

static bool save_worker(struct run_engine *e, uint32_t i, struct machine_saved *ret)
{
	if (e->kvm)
		return machine_save(&e->machine, i, ret);
	*ret = (struct machine_saved){
		tool_alloc(1, RUN_THREAD_LEN), RUN_THREAD_LEN, MACHINE_STOPPED, 0};
	memcpy(ret->bytes, run_threads_params(&e->threads, i), RUN_THREAD_LEN);
	return true;
}

bool run_labels_make(struct run_engine *e, struct run_labels *l)
{
	*l = (struct run_labels){.nr = 0};
	for (uint32_t i = 0; i < e->opts->vcpus; i++) {
		if (!save_worker(e, i, &l->workers[i]))
			return false;
		snprintf(l->names[i], sizeof(l->names[i]), e->kvm ? "vcpu-%u" : "thread-%u", i);
		l->list[l->nr++] = (struct gm_snapshot_label){
			l->names[i], l->workers[i].bytes, l->workers[i].len};
	}
	l->about = about(e, l->workers);
	if (!l->about) {
		tool_error("run: what the guest is cannot be written down");
		return false;
	}
	l->list[l->nr++] =
		(struct gm_snapshot_label){RUN_SNAPSHOT_LABEL, l->about, strlen(l->about)};
	return true;
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	saved_progress("guestmem: saving", done, total);
	return 0;
}

void run_labels_fini(struct run_labels *l)
{
	for (size_t i = 0; i < MACHINE_VCPUS_MAX; i++)
		free(l->workers[i].bytes);
	free(l->about);
	*l = (struct run_labels){.nr = 0};
}

bool run_snapshot_save(struct run_engine *e, const char *path)
{
	struct gm_snapshot_opts opts = {.size = sizeof(opts), .progress = on_progress};
	struct gm_snapshot_info info = {.size = sizeof(info)};
	struct run_labels *l = tool_alloc(1, sizeof(*l));
	char bytes[TOOL_UNIT_CAP];
	struct gm_error err;
	bool well = run_labels_make(e, l);

	opts.labels = l->list;
	opts.nr_labels = l->nr;
	if (well && gm_snapshot_save(e->memory->space, NULL, path, &opts, &info, &err)) {
		tool_error("%s: %s", path, err.text);
		well = false;
	}
	if (well && !e->opts->quiet)
		tool_note("%s: saved, %s", path, tool_bytes(info.file_len, bytes));
	run_labels_fini(l);
	free(l);
	return well;
}
