/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect_waste.c - "guestmem inspect --waste", "--duplicates", "--working-set": what is in the memory, and what
 * an outsider can know of its use.
 */
#include <errno.h>
#include <string.h>

#include "inspect.h"
#include "json.h"

#define NR(array) (sizeof(array) / sizeof((array)[0]))

/* Why units are no huge pages, by enum gm_waste_reason. */
static const struct {
	const char *key;
	const char *text;
} reasons[] = {
	[GM_WASTE_HUGE] = {"huge", "huge"},
	[GM_WASTE_EMPTY] = {"empty", "empty"},
	[GM_WASTE_SMALL] = {"small", "full of small pages (could be collapsed)"},
	[GM_WASTE_PARTLY] = {"partly", "there in part"},
	[GM_WASTE_SPLIT] = {"split", "huge, mapped small"},
	[GM_WASTE_FORBIDDEN] = {"forbidden", "not to be huge (advice)"},
	[GM_WASTE_EDGE] = {"edge", "at an edge or askew"},
	[GM_WASTE_SWAPPED] = {"swapped", "swapped in part"},
	[GM_WASTE_MERGED] = {"merged", "merged in part"},
};

_Static_assert(NR(reasons) == GM_WASTE_REASONS, "a word for each");

/* What sees a guest's accesses takes page-table entries, or needs a userfaultfd: both in the process itself. */
#define NO_WORKING_SET                                                                             \
	"only the kernel's idle-page bitmap sees a guest's accesses from outside, and "            \
	"this command does not use it; in the process gm_workingset(3) does without"

int inspect_waste(struct gm_residency *res, const struct inspect_opts *o, struct inspect_piece *p)
{
	struct gm_waste_opts opts = {
		.size = sizeof(opts),
		.flags = o->duplicates ? GM_WASTE_DUPLICATES : GM_WASTE_ZERO,
		.residency = o->quick ? 0 : GM_RESIDENCY_FOLIOS,
		.parts = (uint32_t)o->duplicates,
	};
	struct gm_error err = {0};
	int rc;

	if (!o->waste && !o->duplicates)
		return 0;
	p->waste.size = sizeof(p->waste);
	rc = gm_waste_scan(
		res, p->mapping.start, p->mapping.len, &opts, NULL, NULL, &p->waste, &err);
	p->has_waste = rc == 0;
	/* It may be that its memory can be counted, but not read. */
	if (rc && rc != -ESRCH)
		tool_error("process %d: %s", (int)o->pid, err.text);
	return rc;
}

/* Hundredths: present to what is not zeros. */
static uint64_t bloat(const struct gm_waste *w)
{
	uint64_t used = w->present > w->zero ? w->present - w->zero : 0;

	return used ? w->present * 100 / used : 0;
}

void inspect_print_waste(const struct inspect_result *r, const struct inspect_piece *p)
{
	const struct gm_waste *w = &p->waste;
	const char *between = "  units: ";
	char a[TOOL_UNIT_CAP];
	char b[TOOL_UNIT_CAP];
	char c[TOOL_UNIT_CAP];

	if (!p->has_waste)
		return;
	for (size_t i = 0; i < NR(reasons); i++) {
		if (!w->units[i])
			continue;
		printf("%s%llu %s", between, (unsigned long long)w->units[i], reasons[i].text);
		between = ", ";
	}
	printf("\n  zeros %s, in huge pages %s; could be huge at no cost %s",
		tool_bytes(w->zero, a), tool_bytes(w->waste, b), tool_bytes(w->could, c));
	if (bloat(w))
		printf("; bloat %llu.%02llu", (unsigned long long)(bloat(w) / 100),
			(unsigned long long)(bloat(w) % 100));
	putchar('\n');
	if (r->opts->duplicates)
		printf("  duplicates %s (95 %%: %s to %s), from %llu pages\n",
			tool_bytes(w->duplicates, a), tool_bytes(w->low, b), tool_bytes(w->high, c),
			(unsigned long long)w->followed);
	if (w->unread)
		printf("  not read: %s\n", tool_bytes(w->unread, a));
	if (w->disturbed)
		printf("  came while it was looked at: %s\n", tool_bytes(w->disturbed, a));
}

json_t *inspect_json_waste(const struct inspect_result *r, const struct inspect_piece *p)
{
	const struct gm_waste *w = &p->waste;
	json_t *units = json_object();
	json_t *json = json_object();

	for (size_t i = 0; i < NR(reasons); i++)
		json_object_set_new(units, reasons[i].key, tool_json_number(w->units[i]));
	json_object_set_new(json, "units", units);
	json_object_set_new(json, "huge_bytes", tool_json_number(w->huge));
	json_object_set_new(json, "could_be_huge_bytes", tool_json_number(w->could));
	json_object_set_new(json, "read_bytes", tool_json_number(w->read));
	json_object_set_new(json, "unread_bytes", tool_json_number(w->unread));
	json_object_set_new(json, "zero_bytes", tool_json_number(w->zero));
	json_object_set_new(json, "zero_in_huge_bytes", tool_json_number(w->waste));
	json_object_set_new(json, "disturbed_bytes", tool_json_number(w->disturbed));
	json_object_set_new(
		json, "bloat", bloat(w) ? json_real((double)bloat(w) / 100) : json_null());
	if (!r->opts->duplicates)
		return json;
	json_object_set_new(json, "duplicate_bytes", tool_json_number(w->duplicates));
	json_object_set_new(json, "duplicate_bytes_low", tool_json_number(w->low));
	json_object_set_new(json, "duplicate_bytes_high", tool_json_number(w->high));
	json_object_set_new(json, "followed_pages", tool_json_number(w->followed));
	return json;
}

/* ---- from look to look ---- */

static uint64_t since(uint64_t now, uint64_t before)
{
	return now == UINT64_MAX || before == UINT64_MAX || now < before ? UINT64_MAX
									 : now - before;
}

void inspect_print_counters(const struct inspect_result *r)
{
	const struct inspect_before *b = r->before;
	char a[TOOL_UNIT_CAP];

	if (r->process.minor_faults != UINT64_MAX)
		printf("page faults: %llu minor, %llu major",
			(unsigned long long)r->process.minor_faults,
			(unsigned long long)r->process.major_faults);
	if (b && since(r->process.minor_faults, b->minor_faults) != UINT64_MAX)
		printf("; since the last look %llu and %llu",
			(unsigned long long)since(r->process.minor_faults, b->minor_faults),
			(unsigned long long)since(r->process.major_faults, b->major_faults));
	if (b && r->total.present >= b->present)
		printf(", present +%s", tool_bytes(r->total.present - b->present, a));
	else if (b)
		printf(", present -%s", tool_bytes(b->present - r->total.present, a));
	putchar('\n');
	if (r->opts->working_set)
		printf("working set: not known: %s\n", NO_WORKING_SET);
}

void inspect_json_counters(const struct inspect_result *r, json_t *json)
{
	const struct inspect_before *b = r->before;

	json_object_set_new(json, "minor_faults", tool_json_number(r->process.minor_faults));
	json_object_set_new(json, "major_faults", tool_json_number(r->process.major_faults));
	if (b) {
		json_object_set_new(json, "minor_faults_since",
			tool_json_number(since(r->process.minor_faults, b->minor_faults)));
		json_object_set_new(json, "major_faults_since",
			tool_json_number(since(r->process.major_faults, b->major_faults)));
		json_object_set_new(json, "present_bytes_since",
			json_integer((json_int_t)(r->total.present - b->present)));
	}
	if (r->opts->working_set) {
		json_object_set_new(json, "working_set_bytes", json_null());
		json_object_set_new(json, "working_set_why", json_string(NO_WORKING_SET));
	}
}
