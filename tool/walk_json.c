/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_json.c - what "guestmem walk" has computed, seen and measured, as JSON. */
#include <stdlib.h>

#include "json.h"
#include "walk.h"

#define LEAF_LOG2(i) (12 + 9 * (uint32_t)(i))
#define NOTES_MAX 4

static json_t *json_leaves(const uint64_t values[GM_WALK_LEAVES])
{
	json_t *json = json_object();

	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		char page[TOOL_UNIT_CAP];

		json_object_set_new(
			json, tool_page_name(LEAF_LOG2(i), page), tool_json_number(values[i]));
	}
	return json;
}

/* Whole numbers stay such. */
static json_t *loads_json(uint64_t milliloads)
{
	if (milliloads % 1000 == 0)
		return tool_json_number(milliloads / 1000);
	return json_real((double)milliloads / 1000);
}

static json_t *json_footprint(const struct gm_walk_footprint *f)
{
	json_t *json = json_object();

	json_object_set_new(json, "guest_table_bytes", tool_json_number(f->guest_tables));
	json_object_set_new(json, "host_table_bytes", tool_json_number(f->host_tables));
	json_object_set_new(json, "second_table_bytes", tool_json_number(f->second_tables));
	json_object_set_new(json, "guest_struct_bytes", tool_json_number(f->guest_structs));
	json_object_set_new(json, "host_struct_bytes", tool_json_number(f->host_structs));
	json_object_set_new(json, "total_bytes", tool_json_number(f->total));
	return json;
}

static json_t *json_paging(const struct walk *w, const struct walk_row *row, uint32_t paging)
{
	json_t *json = json_object();

	json_object_set_new(json, "loads", loads_json(row->mean[paging].milliloads));
	json_object_set_new(json, "loads_at_least", json_integer(row->least[paging]));
	if (!w->size)
		return json;
	json_object_set_new(
		json, "by_tlb_entry_bytes", json_leaves(row->mean[paging].entries.bytes));
	json_object_set_new(json, "tlb_reach_bytes", tool_json_number(row->reach[paging]));
	json_object_set_new(json, "footprint", json_footprint(&row->footprint[paging]));
	return json;
}

static json_t *json_row(const struct walk *w, const struct walk_row *row)
{
	json_t *json = json_object();

	json_object_set_new(json, "guest", json_string(w->guests[row->guest].label));
	json_object_set_new(json, "host", json_string(w->hosts[row->host].label));
	for (uint32_t p = 0; p < WALK_PAGINGS; p++) {
		if (w->shown[p])
			json_object_set_new(json, walk_paging_names[p], json_paging(w, row, p));
	}
	return json;
}

static json_t *json_computed(const struct walk *w)
{
	json_t *json = json_object();
	json_t *rows = json_array();

	for (size_t i = 0; i < w->nr_rows; i++)
		json_array_append_new(rows, json_row(w, &w->rows[i]));
	json_object_set_new(json, "guest_levels", json_integer(w->opts.guest_levels));
	json_object_set_new(json, "host_levels", json_integer(w->opts.host_levels));
	json_object_set_new(
		json, "tables", w->tables.nr ? json_string(w->tables.label) : json_null());
	json_object_set_new(json, "size", w->size ? tool_json_number(w->size) : json_null());
	json_object_set_new(json, "pairs", rows);
	return json;
}

static json_t *json_tlb(const struct walk_tlb *tlb)
{
	uint64_t entries[GM_WALK_LEAVES];
	json_t *json = json_object();
	json_t *assumed = json_array();

	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		char page[TOOL_UNIT_CAP];

		entries[i] = tlb->entries[i];
		if (!(tlb->told & 1u << i))
			json_array_append_new(
				assumed, json_string(tool_page_name(LEAF_LOG2(i), page)));
	}
	json_object_set_new(json, "entries", json_leaves(entries));
	json_object_set_new(json, "source", json_string(tlb->source));
	json_object_set_new(json, "assumed", assumed);
	return json;
}

static json_t *json_host(const struct walk_host *host)
{
	char *notes[NOTES_MAX];
	size_t nr = walk_host_notes(host, notes, NOTES_MAX);
	json_t *list = json_array();
	json_t *json = json_object();

	for (size_t i = 0; i < nr; i++) {
		json_array_append_new(list, json_string(notes[i]));
		free(notes[i]);
	}
	json_object_set_new(json, "hypervisor",
		host->hypervisor[0] ? json_string(host->hypervisor) : json_null());
	json_object_set_new(json, "kvm", host->kvm[0] ? json_string(host->kvm) : json_null());
	json_object_set_new(json, "kvm_paging",
		host->kvm_known ? json_string(walk_paging_names[host->kvm_paging]) : json_null());
	json_object_set_new(json, "notes", list);
	return json;
}

static json_t *json_live(const struct walk_live *live)
{
	json_t *json = json_object();

	json_object_set_new(json, "pid", json_integer(live->pid));
	json_object_set_new(json, "name", tool_json_text(live->name));
	json_object_set_new(json, "found_by", json_string(live->found_by));
	json_object_set_new(json, "present_bytes", tool_json_number(live->present));
	json_object_set_new(json, "present_by_page_size", tool_json_sizes(live->by_log2, 12, 21));
	json_object_set_new(json, "page_table_bytes", tool_json_number(live->page_tables));
	json_object_set_new(json, "not_seen", tool_json_unseen(live->unseen));
	return json;
}

static json_t *json_series(const struct walk_series *s)
{
	json_t *json = json_object();

	json_object_set_new(json, "pages", json_string(s->label));
	json_object_set_new(json, "page_size", tool_json_number(UINT64_C(1) << s->log2));
	json_object_set_new(json, "skipped", s->skipped ? tool_json_text(s->skipped) : json_null());
	if (s->skipped)
		return json;
	json_object_set_new(json, "share", s->share < 0 ? json_null() : json_real(s->share));
	json_object_set_new(json, "ns", json_real(s->ns));
	json_object_set_new(json, "ratio", json_real(s->ratio));
	json_object_set_new(json, "ratio_quartiles", json_pack("[f, f]", s->low, s->high));
	json_object_set_new(json, "computed_loads", json_integer(s->loads));
	json_object_set_new(json, "computed_tlb_reach_bytes", tool_json_number(s->reach));
	return json;
}

static json_t *json_pairs(const struct walk_measured *m)
{
	json_t *list = json_array();

	for (size_t i = 0; i < m->nr_pairs; i++) {
		const struct walk_pair *p = &m->pairs[i];
		const struct walk_series *s = &p->series;
		json_t *json = json_object();

		json_object_set_new(
			json, "guest_page_size", tool_json_number(UINT64_C(1) << p->guest_log2));
		json_object_set_new(
			json, "host_page_size", tool_json_number(UINT64_C(1) << s->log2));
		json_object_set_new(json, "computed_loads_nested", json_integer(p->nested));
		json_object_set_new(json, "computed_loads_shadow", json_integer(p->shadow));
		json_object_set_new(
			json, "skipped", s->skipped ? tool_json_text(s->skipped) : json_null());
		if (!s->skipped) {
			json_object_set_new(json, "ns", json_real(s->ns));
			json_object_set_new(json, "ratio", json_real(s->ratio));
			json_object_set_new(
				json, "ratio_quartiles", json_pack("[f, f]", s->low, s->high));
		}
		json_array_append_new(list, json);
	}
	return list;
}

static json_t *json_measured(const struct walk_measured *m)
{
	json_t *json = json_object();
	json_t *list = json_array();

	for (size_t i = 0; i < m->nr; i++)
		json_array_append_new(list, json_series(&m->series[i]));
	json_object_set_new(json, "size", tool_json_number(m->size));
	json_object_set_new(json, "rounds", tool_json_number(m->rounds));
	json_object_set_new(json, "process", list);
	json_object_set_new(json, "noise", json_series(&m->again));
	json_object_set_new(json, "guest", m->guest_skipped ? json_null() : json_pairs(m));
	json_object_set_new(json, "guest_skipped",
		m->guest_skipped ? json_string(m->guest_skipped) : json_null());
	return json;
}

bool walk_json(const struct walk *w, struct tool_output *out)
{
	json_t *json = json_object();

	json_object_set_new(json, "computed", json_computed(w));
	json_object_set_new(json, "tlb", json_tlb(&w->tlb));
	json_object_set_new(json, "this_host", json_host(&w->host));
	json_object_set_new(json, "seen", w->has_live ? json_live(&w->live) : json_null());
	json_object_set_new(
		json, "measured", w->has_measured ? json_measured(&w->measured) : json_null());
	return tool_json_write(json, out, false);
}
