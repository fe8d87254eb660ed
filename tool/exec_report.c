/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exec_report.c - what "guestmem exec" has seen, as text and as JSON.
 *
 * The page size that is reported is the one that was observed in the page tables, whatever was
 * asked for.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "exec.h"
#include "json.h"

/* A size stands for the whole if this share of what is present has it. */
#define MOST(part, whole) ((part) >= (whole) - (whole) / 20)

#define SHARE_CAP 80

static void warn(struct exec_result *r, char *text)
{
	r->warnings = tool_realloc(r->warnings, r->nr_warnings + 1, sizeof(*r->warnings));
	r->warnings[r->nr_warnings++] = text;
}

/* The name of what was observed: base, thp, 2M, 1G, another size, mixed, none. */
static const char *observed(const struct exec_result *r)
{
	static char name[TOOL_UNIT_CAP];
	const struct exec_sample *s = &r->watch->last_mapped;
	bool hugetlb = r->opts->policy == EXEC_2M || r->opts->policy == EXEC_1G;
	uint32_t pmd = r->watch->thp_log2;

	if (s->present == 0)
		return "none";
	for (uint32_t log2 = 0; log2 <= GM_USAGE_LOG2_MAX; log2++) {
		if (!MOST(s->by_log2[log2], s->present))
			continue;
		if (log2 == r->watch->base_log2)
			return "base";
		if (log2 == pmd && !hugetlb)
			return "thp";
		return tool_page_name(log2, name);
	}
	return "mixed";
}

/* "4 MiB of the 16 MiB that it maps", or "the memory" if that is all. */
static const char *share_of(uint64_t part, uint64_t whole, char buf[SHARE_CAP])
{
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];

	if (part == whole)
		snprintf(buf, SHARE_CAP, "the memory");
	else
		snprintf(buf, SHARE_CAP, "%s of the %s that it maps", tool_bytes(part, a),
			tool_bytes(whole, b));
	return buf;
}

static void why_no_thp(struct exec_result *r)
{
	const struct exec_watch *w = r->watch;
	uint64_t lacking = w->looked_at - w->advised;
	char share[SHARE_CAP];

	if (w->unaligned)
		warn(r, tool_printf(
				"process %d maps the memory at an address that is not a multiple "
				"of 2 MiB (QEMU: align=2M on its memory-backend-file)",
				(int)w->mapped_by));
	else if (w->forbidden)
		warn(r, tool_printf("process %d forbids huge pages altogether (PR_SET_THP_DISABLE)",
				(int)w->advice_by));
	else if (w->refused)
		warn(r, tool_printf("process %d forbids huge pages for %s (MADV_NOHUGEPAGE)",
				(int)w->advice_by, share_of(w->refused, w->looked_at, share)));
	else if (w->advice_known && lacking && strcmp(r->host->shmem_enabled, "advise") == 0)
		warn(r, tool_printf("process %d does not advise huge pages (MADV_HUGEPAGE) for %s, "
				    "and the host gives them on advice only: echo always > "
				    "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
				(int)w->advice_by, share_of(lacking, w->looked_at, share)));
	else
		warn(r, tool_strdup("the host may have had no free huge pages (memory is "
				    "fragmented or short), "
				    "or somebody changed its settings meanwhile"));
}

static void name_survivors(struct exec_result *r)
{
	const struct exec_watch *w = r->watch;
	bool one = w->nr_survivors == 1;
	const char *word = one ? "process" : "processes";

	if (w->nr_survivors == 0)
		return;
	if (w->survivor_maps)
		warn(r, tool_printf("%zu %s of the command outlived it, with the memory, and %s "
				    "watched no longer: guestmem inspect %d",
				w->nr_survivors, word, one ? "was" : "were",
				(int)w->survivor_maps));
	else
		warn(r, tool_printf("%zu %s of the command outlived it; none maps the memory",
				w->nr_survivors, word));
}

void exec_judge(struct exec_result *r)
{
	const struct exec_sample *s = &r->watch->last_mapped;
	const char *asked = exec_policy_name(r->opts->policy);

	r->effective = observed(r);
	r->achieved = r->opts->policy == EXEC_DEFAULT || strcmp(asked, r->effective) == 0;
	if (s->processes == 0)
		warn(r, tool_strdup(
				r->faults.known && r->faults.guest
					? "the memory was mapped for less than the time between "
					  "two samples (--interval)"
					: "no process was seen to map the memory"));
	else if (s->present == 0)
		warn(r, tool_strdup("nothing of the memory was seen in use"));
	if (!r->achieved && s->present > 0) {
		warn(r, tool_printf("page size %s was asked for, %s was got", asked, r->effective));
		if (r->opts->policy == EXEC_THP)
			why_no_thp(r);
	}
	if (r->watch->kvm && r->faults.known) {
		size_t len = strlen(r->faults.reason);

		snprintf(r->faults.reason + len, sizeof(r->faults.reason) - len,
			"%sa guest under KVM: faults that KVM resolves are not counted",
			len ? "; " : "");
	}
	if (r->opts->limit && r->watch->peak_allocated >= r->opts->limit)
		warn(r, tool_printf(
				"all that --limit allows was backed: what touched more of it met "
				"SIGBUS, what wrote to the file ENOSPC"));
	name_survivors(r);
	if (r->faults.lost)
		warn(r, tool_printf("%llu fault records were lost: guest faults are a lower bound",
				(unsigned long long)r->faults.lost));
}

static void print_sizes(const struct exec_sample *s)
{
	char bytes[TOOL_UNIT_CAP];
	char page[TOOL_UNIT_CAP];
	const char *between = " (";

	for (uint32_t log2 = 0; log2 <= GM_USAGE_LOG2_MAX; log2++) {
		if (!s->by_log2[log2])
			continue;
		fprintf(stderr, "%s%s in %s pages", between, tool_bytes(s->by_log2[log2], bytes),
			tool_page_name(log2, page));
		between = ", ";
	}
	fputs(s->present ? ")\n" : "\n", stderr);
}

void exec_report_text(const struct exec_result *r)
{
	const struct exec_sample *s = &r->watch->last_mapped;
	const struct rusage *u = &r->child->usage;
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];

	fprintf(stderr, "guestmem: %s, page size %s asked, %s got; %.3f s, exit status %d\n",
		tool_bytes(r->opts->size, a), exec_policy_name(r->opts->policy), r->effective,
		r->wall, exec_child_exit_status(r->child));
	fprintf(stderr, "guestmem: present %s", tool_bytes(s->present, a));
	print_sizes(s);
	fprintf(stderr, "guestmem: allocated %s, peak %s present, page tables %s\n",
		tool_bytes(r->watch->allocated, a), tool_bytes(r->watch->peak_present, b),
		tool_bytes(r->watch->peak_page_tables, (char[TOOL_UNIT_CAP]){0}));
	fprintf(stderr, "guestmem: faults %ld minor, %ld major; on guest memory ", u->ru_minflt,
		u->ru_majflt);
	if (r->faults.known)
		fprintf(stderr, "%llu%s%s\n", (unsigned long long)r->faults.guest,
			r->faults.reason[0] ? ": " : "", r->faults.reason);
	else
		fprintf(stderr, "not known: %s\n", r->faults.reason);
	for (size_t i = 0; i < r->nr_warnings; i++)
		tool_note("%s", r->warnings[i]);
}

static json_t *json_sample(const struct exec_result *r, const struct exec_sample *s)
{
	return json_pack("{s:f, s:o, s:o, s:o, s:o, s:i}", "seconds", s->seconds, "present_bytes",
		tool_json_number(s->present), "allocated_bytes", tool_json_number(s->allocated),
		"page_table_bytes", tool_json_number(s->page_tables), "present_by_page_size",
		tool_json_sizes(s->by_log2, r->watch->base_log2, r->watch->thp_log2), "processes",
		(int)s->processes);
}

static json_t *json_samples(const struct exec_result *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->watch->nr; i++)
		json_array_append_new(list, json_sample(r, &r->watch->samples[i]));
	return list;
}

static json_t *json_command(const struct exec_result *r)
{
	json_t *list = json_array();

	for (char **word = r->opts->command; *word; word++)
		json_array_append_new(list, tool_json_text(*word));
	return list;
}

static json_t *json_warnings(const struct exec_result *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->nr_warnings; i++)
		json_array_append_new(list, tool_json_text(r->warnings[i]));
	return list;
}

static json_t *json_survivors(const struct exec_result *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->watch->nr_survivors; i++)
		json_array_append_new(list, json_integer(r->watch->survivors[i]));
	return list;
}

static void set_request(const struct exec_result *r, json_t *json)
{
	const struct exec_opts *o = r->opts;
	int status = r->child->status;

	json_object_set_new(json, "command", json_command(r));
	json_object_set_new(json, "exit_status", json_integer(exec_child_exit_status(r->child)));
	json_object_set_new(json, "exit_signal",
		WIFSIGNALED(status) ? json_integer(WTERMSIG(status)) : json_null());
	json_object_set_new(json, "wall_seconds", json_real(r->wall));
	json_object_set_new(json, "size", tool_json_number(o->size));
	json_object_set_new(json, "limit", o->limit ? tool_json_number(o->limit) : json_null());
	json_object_set_new(json, "name", tool_json_text(o->name));
	json_object_set_new(
		json, "numa", o->numa_text ? tool_json_text(o->numa_text) : json_null());
	json_object_set_new(json, "populate", json_boolean(o->populate));
	json_object_set_new(json, "page_size_requested", json_string(exec_policy_name(o->policy)));
	json_object_set_new(json, "page_size_effective", json_string(r->effective));
	/* Without a policy there was nothing to achieve. */
	json_object_set_new(json, "page_size_achieved",
		o->policy == EXEC_DEFAULT ? json_null() : json_boolean(r->achieved));
}

static void set_faults(const struct exec_result *r, json_t *json)
{
	const struct exec_fault_counts *f = &r->faults;

	json_object_set_new(json, "faults_minor", json_integer(r->child->usage.ru_minflt));
	json_object_set_new(json, "faults_major", json_integer(r->child->usage.ru_majflt));
	json_object_set_new(
		json, "guest_faults", f->known ? tool_json_number(f->guest) : json_null());
	json_object_set_new(
		json, "guest_faults_lost", f->known ? tool_json_number(f->lost) : json_null());
	json_object_set_new(
		json, "guest_faults_reason", f->reason[0] ? json_string(f->reason) : json_null());
}

static void set_memory(const struct exec_result *r, json_t *json)
{
	const struct exec_watch *w = r->watch;
	const struct exec_sample *s = &w->last_mapped;

	json_object_set_new(json, "allocated_bytes", tool_json_number(r->watch->allocated));
	json_object_set_new(json, "peak_allocated_bytes", tool_json_number(w->peak_allocated));
	json_object_set_new(json, "present_bytes", tool_json_number(s->present));
	json_object_set_new(json, "present_by_page_size",
		tool_json_sizes(s->by_log2, w->base_log2, w->thp_log2));
	json_object_set_new(json, "peak_present_bytes", tool_json_number(w->peak_present));
	json_object_set_new(json, "page_table_bytes", tool_json_number(s->page_tables));
	json_object_set_new(json, "peak_page_table_bytes", tool_json_number(w->peak_page_tables));
	/* Multi-size pages were looked for where the host can make any. */
	json_object_set_new(json, "not_seen",
		tool_json_unseen(
			s->unseen &
			~(GM_UNSEEN_SHARED |
				(w->flags & GM_RESIDENCY_FOLIOS ? 0u
								: (uint32_t)GM_UNSEEN_FOLIOS))));
}

bool exec_report_json(const struct exec_result *r, struct tool_output *out)
{
	json_t *json = json_object();

	set_request(r, json);
	set_faults(r, json);
	set_memory(r, json);
	json_object_set_new(json, "surviving_pids", json_survivors(r));
	json_object_set_new(json, "warnings", json_warnings(r));
	json_object_set_new(json, "interval_seconds", json_real(r->opts->interval));
	json_object_set_new(json, "samples", json_samples(r));
	return tool_json_write(json, out, false);
}

bool exec_report_heatmap(const struct exec_result *r, struct tool_output *out)
{
	struct heatmap *map = r->watch->map;
	char bytes[TOOL_UNIT_CAP];
	char *title = tool_printf("%s: %s, page size %s asked, %s got", r->opts->name,
		tool_bytes(r->opts->size, bytes), exec_policy_name(r->opts->policy), r->effective);
	bool well;

	/* The memory was never seen mapped: then the picture is empty. */
	if (!map)
		map = heatmap_new(0, r->opts->size, r->watch->base_page, EXEC_CELLS);
	well = heatmap_draw(map, title, out);
	if (map != r->watch->map)
		heatmap_free(map);
	free(title);
	return well;
}

void exec_result_fini(struct exec_result *r)
{
	for (size_t i = 0; i < r->nr_warnings; i++)
		free(r->warnings[i]);
	free(r->warnings);
}
