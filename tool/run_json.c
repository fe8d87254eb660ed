/* SPDX-License-Identifier: BSD-3-Clause */
/* run_json.c - the report of "guestmem run" as JSON. */
#include <stdlib.h>

#include "json.h"
#include "run.h"

static const char *const outcomes[] = {
	[RUN_OUT_DONE] = "done",
	[RUN_OUT_CRASHED] = "crashed",
	[RUN_OUT_TIMEOUT] = "timeout",
	[RUN_OUT_INTERRUPTED] = "interrupted",
	[RUN_OUT_SAVED] = "saved",
	[RUN_OUT_MOVED] = "moved",
};

static void set(json_t *json, const char *name, json_t *value)
{
	json_object_set_new(json, name, value);
}

static void set_number(json_t *json, const char *name, uint64_t n)
{
	set(json, name, tool_json_number(n));
}

static json_t *text_or_null(const char *text)
{
	return text && text[0] ? tool_json_text(text) : json_null();
}

static json_t *json_page(uint32_t log2)
{
	char name[TOOL_UNIT_CAP];

	return json_string(tool_page_name(log2, name));
}

static void set_request(const struct run_report *r, json_t *json)
{
	const struct run_opts *o = r->opts;
	json_t *words = json_array();

	for (uint32_t i = 0; i < o->nr_words; i++)
		json_array_append_new(words, tool_json_text(o->words[i]));
	set(json, "payload", tool_json_text(run_payload_name(o)));
	set(json, "words", words);
	set(json, "engine", json_string(r->engine->kvm ? "kvm" : "thread"));
	set(json, "engine_reason", text_or_null(r->engine->reason));
	set(json, "vcpus", json_integer(o->vcpus));
	set_number(json, "seed", o->seed);
	set_number(json, "size", o->memory.size);
	set(json, "backing", json_string(o->backing_text ? o->backing_text : "anon"));
	set(json, "share", json_boolean(o->memory.share));
	set(json, "populate", json_boolean(o->memory.populate));
	set(json, "background", json_boolean(o->background));
	set(json, "numa", text_or_null(o->numa_text));
	set(json, "pages_requested",
		json_string(o->memory.pages.text ? o->memory.pages.text : "default"));
}

static void set_memory(const struct run_report *r, json_t *json)
{
	static const char *const kinds[] = {
		[GM_PAGE_NONE] = "default",
		[GM_PAGE_BASE] = "base",
		[GM_PAGE_THP] = "thp",
		[GM_PAGE_HUGETLB] = "hugetlb",
	};
	const struct gm_usage *u = &r->seen->usage;
	const struct gm_block_info *info = &r->memory->info;

	set(json, "pages_kind", json_string(kinds[info->got.kind]));
	set(json, "page_size", json_page(tool_log2(info->page_size)));
	set(json, "pages_refused", text_or_null(info->why));
	set(json, "memory_seconds", json_real(r->memory->seconds));
	set(json, "background_start_seconds",
		r->opts->background ? json_real(r->behind->start_seconds) : json_null());
	set(json, "background_seconds",
		r->opts->background ? json_real(r->behind->seconds) : json_null());
	set(json, "guest_page_size_requested",
		r->engine->kvm ? json_page(r->opts->guest_log2) : json_null());
	set(json, "guest_page_size",
		r->engine->kvm ? json_page(r->engine->guest_log2) : json_null());
	set_number(json, "present_bytes", r->seen->usage_known ? u->present : UINT64_MAX);
	set(json, "present_by_page_size",
		r->seen->usage_known ? tool_json_sizes(u->by_log2, tool_log2(r->host->base_page),
					       tool_log2(r->host->thp_page))
				     : json_null());
	set(json, "not_seen",
		r->seen->usage_known ? tool_json_unseen(u->unseen & ~GM_UNSEEN_SHARED)
				     : json_null());
	set_number(json, "page_table_bytes", r->seen->after.page_tables);
	set_number(json, "kvm_page_table_bytes", r->seen->after.sec_page_tables);
	set_number(json, "guest_page_table_bytes",
		r->engine->kvm ? r->engine->machine.tables_used : UINT64_MAX);
}

/* What KVM could map with large leaves, by addresses alone. */
static json_t *json_slots(const struct run_engine *e)
{
	struct gm_kvm_info info = {.size = sizeof(info)};
	json_t *json;

	if (!e->kvm || gm_kvm_info(e->machine.slots, &info) < 0)
		return json_null();
	json = json_object();
	set_number(json, "slots", info.slots);
	set_number(json, "bytes", info.bytes);
	set_number(json, "bytes_2m", info.bytes_2m);
	set_number(json, "bytes_1g", info.bytes_1g);
	set_number(json, "misaligned_bytes", info.misaligned);
	return json;
}

static void set_faults(const struct run_report *r, json_t *json)
{
	const struct run_seen *seen = r->seen;
	json_t *stats = seen->nr_stats ? json_object() : json_null();

	for (size_t i = 0; i < seen->nr_stats; i++)
		set_number(stats, seen->stats[i].name, seen->stats[i].value);
	set_number(json, "faults_minor", seen->after.minor - seen->before.minor);
	set_number(json, "faults_major", seen->after.major - seen->before.major);
	set(json, "kvm_stats", stats);
	set(json, "kvm_slots", json_slots(r->engine));
}

/* What the guest asked for about its memory's backing. */
static json_t *json_control(const struct run_seen *seen)
{
	static const char *const names[GM_CONTROL_SLOTS] = {"info", "dontneed", "remove", "free",
		"pageout", "dontdump", "set_name", "mlock", "munlock", "protect_none", "protect_r",
		"protect_w", "protect_rw", "mergeable", "unmergeable", NULL, "features", "query",
		"willneed", "cold", "populate", "collapse", "huge", "nohuge", "numa_bind",
		"numa_prefer"};
	const struct gm_control_info *info = &seen->control;
	json_t *json;
	json_t *done;

	if (!seen->control_known)
		return json_null();
	json = json_object();
	done = json_object();
	set_number(json, "requests", info->requests);
	set_number(json, "refused", info->refused);
	set_number(json, "throttled", info->throttled);
	set_number(json, "failed", info->failed);
	set_number(json, "bytes", info->bytes);
	set_number(json, "locked_bytes", info->locked);
	set_number(json, "pieces", info->pieces);
	set_number(json, "messages", info->messages);
	set_number(json, "unanswered", info->unanswered);
	set_number(json, "lifted", seen->lifted);
	for (uint32_t i = 0; i < GM_CONTROL_SLOTS; i++) {
		if (names[i])
			set_number(done, names[i], info->counts[i]);
	}
	set(json, "done", done);
	return json;
}

/* Null without a measured part: a program tells no time, or it was ended before. */
static void set_time(const struct run_report *r, json_t *json, const char *name, double value)
{
	set(json, name, r->measured_seconds > 0 ? json_real(value) : json_null());
}

static void set_figures(const struct run_report *r, json_t *json)
{
	set_number(json, "operations", r->ops);
	set_number(json, "bytes", r->bytes);
	set_number(json, "errors", r->errors);
	set_time(r, json, "measured_seconds", r->measured_seconds);
	set_time(r, json, "operations_per_second", r->ops_per_second);
	set_time(r, json, "bytes_per_second", r->bytes_per_second);
	set_time(r, json, "ns_per_operation", r->ns_per_op);
	set(json, "ticks_per_second", json_real(r->engine->ticks_per_second));
}

/* Numbers of 64 bits are more than JSON's readers take for sure: as text. */
static json_t *json_sum(uint64_t sum)
{
	char *text = tool_printf("0x%llx", (unsigned long long)sum);
	json_t *json = json_string(text);

	free(text);
	return json;
}

static json_t *json_figures(const struct run_params *p)
{
	json_t *json = json_object();

	for (uint32_t i = 0; i < RUN_NR_FIGURES; i++) {
		char number[] = {(char)('0' + i), '\0'};
		const char *name = run_figure_name(p->payload, i);

		if (name || (p->payload == RUN_PROGRAM && p->figures[i]))
			set_number(json, name ? name : number, p->figures[i]);
	}
	return json;
}

static json_t *json_worker(const struct run_report *r, uint32_t i)
{
	static const char *const states[] = {
		"not begun", "prepares", "measures", "verifies", "done"};
	const struct run_params *p = &r->params[i];
	const struct machine_vcpu *vcpu = r->engine->kvm ? &r->engine->machine.vcpus[i] : NULL;
	json_t *json = json_object();

	set(json, "state", p->state < 5 ? json_string(states[p->state]) : json_null());
	set_number(json, "status", vcpu ? vcpu->status : p->status);
	set_number(json, "progress", p->progress);
	set_number(json, "operations", p->ops);
	set_number(json, "bytes", p->bytes);
	set_number(json, "errors", p->errors);
	set(json, "seconds", json_real((double)p->ticks / r->engine->ticks_per_second));
	set(json, "checksum", json_sum(p->checksum));
	set(json, "expected", p->expected ? json_sum(p->expected) : json_null());
	set(json, "figures", json_figures(p));
	set_number(json, "exits_io", vcpu ? vcpu->exits_io : UINT64_MAX);
	set_number(json, "exits_mmio", vcpu ? vcpu->exits_mmio : UINT64_MAX);
	set(json, "why", text_or_null(run_engine_why(r->engine, i)));
	return json;
}

bool run_report_json(const struct run_report *r, struct tool_output *out)
{
	json_t *json = json_object();
	json_t *workers = json_array();

	set_request(r, json);
	set(json, "outcome", json_string(outcomes[r->result->outcome]));
	set(json, "exit_status", json_integer(r->status));
	set(json, "signal", r->result->signal ? json_integer(r->result->signal) : json_null());
	set(json, "seconds", json_real(r->result->seconds));
	set(json, "told_to_stop", json_boolean(r->result->asked));
	set(json, "restarts", json_integer(r->result->restarts));
	set(json, "restart_seconds", json_real(r->result->restart_seconds));
	set_figures(r, json);
	set_memory(r, json);
	set_faults(r, json);
	set_number(json, "doorbells",
		r->engine->kvm ? r->engine->machine.devices.doorbells : UINT64_MAX);
	set_number(json, "doorbell",
		r->engine->kvm ? r->engine->machine.devices.doorbell : UINT64_MAX);
	set(json, "control", json_control(r->seen));
	for (uint32_t i = 0; i < r->opts->vcpus; i++)
		json_array_append_new(workers, json_worker(r, i));
	set(json, "workers", workers);
	return tool_json_write(json, out, false);
}
