/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_show.c - what "guestmem walk" has computed, seen and measured, as text. */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "walk.h"

#define LEAF_LOG2(i) (12 + 9 * (uint32_t)(i))
#define NOTES_MAX 4

/* "24", or "20.6" where it is a mean. */
static const char *loads_text(uint64_t milliloads, char buf[TOOL_UNIT_CAP])
{
	if (milliloads % 1000 == 0)
		snprintf(buf, TOOL_UNIT_CAP, "%llu", (unsigned long long)milliloads / 1000);
	else
		snprintf(buf, TOOL_UNIT_CAP, "%.2f", (double)milliloads / 1000);
	return buf;
}

static int width_of(const char *label, int least)
{
	int len = (int)strlen(label);

	return len > least ? len : least;
}

static int guest_width(const struct walk *w)
{
	int width = 5;

	for (size_t i = 0; i < w->nr_guests; i++)
		width = width_of(w->guests[i].label, width);
	return width;
}

static int host_width(const struct walk *w)
{
	int width = 5;

	for (size_t i = 0; i < w->nr_hosts; i++)
		width = width_of(w->hosts[i].label, width);
	return width;
}

/* ---- loads ---- */

/* A native walk has no host: one column. */
static size_t columns_of(const struct walk *w, uint32_t paging)
{
	return paging == GM_WALK_NATIVE ? 1 : w->nr_hosts;
}

static int column_width(const struct walk *w, uint32_t paging, size_t host)
{
	return width_of(paging == GM_WALK_NATIVE ? "native" : w->hosts[host].label, 6);
}

static void print_heads(const struct walk *w)
{
	printf("%-*s", guest_width(w) + 6, "");
	for (uint32_t p = 0; p < WALK_PAGINGS; p++) {
		for (size_t h = 0; w->shown[p] && h < columns_of(w, p); h++)
			printf("%s%*s", h == 0 ? "    " : "  ", column_width(w, p, h),
				h == 0 ? walk_paging_names[p] : "");
	}
	printf("\n%-*s", guest_width(w) + 6, "");
	for (uint32_t p = 0; p < WALK_PAGINGS; p++) {
		for (size_t h = 0; w->shown[p] && h < columns_of(w, p); h++)
			printf("%s%*s", h == 0 ? "    " : "  ", column_width(w, p, h),
				p == GM_WALK_NATIVE ? "-" : w->hosts[h].label);
	}
	putchar('\n');
}

static void print_loads_of(const struct walk *w, size_t guest)
{
	char buf[TOOL_UNIT_CAP];

	printf("guest %-*s", guest_width(w), w->guests[guest].label);
	for (uint32_t p = 0; p < WALK_PAGINGS; p++) {
		for (size_t h = 0; w->shown[p] && h < columns_of(w, p); h++) {
			const struct walk_row *row = &w->rows[guest * w->nr_hosts + h];

			printf("%s%*s", h == 0 ? "    " : "  ", column_width(w, p, h),
				loads_text(row->mean[p].milliloads, buf));
		}
	}
	putchar('\n');
}

static void print_loads(const struct walk *w)
{
	const char *between = "\nif caches of walks hold all but the last level:";

	printf("loads of table entries for one TLB miss, nothing cached, by the host's pages "
	       "(computed)\nlevels %u x %u",
		w->opts.guest_levels, w->opts.host_levels);
	if (w->tables.nr)
		printf(", the guest's page tables on %s", w->tables.label);
	puts("\n");
	print_heads(w);
	for (size_t g = 0; g < w->nr_guests; g++)
		print_loads_of(w, g);
	for (uint32_t p = 0; p < WALK_PAGINGS; p++) {
		if (!w->shown[p])
			continue;
		printf("%s %s %u", between, walk_paging_names[p], w->rows[0].least[p]);
		between = ",";
	}
	putchar('\n');
}

/* ---- TLB ---- */

static void print_tlb(const struct walk *w)
{
	char page[TOOL_UNIT_CAP];
	char bytes[TOOL_UNIT_CAP];

	puts("\nTLB: an entry maps the smaller of both pages (native: the guest's)");
	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		uint64_t reach = (uint64_t)w->tlb.entries[i] << LEAF_LOG2(i);

		printf("  %-3s %6u entries reach %s%s\n", tool_page_name(LEAF_LOG2(i), page),
			w->tlb.entries[i], tool_bytes(reach, bytes),
			w->tlb.told & 1u << i ? "" : " (assumed: it is not told)");
	}
	printf("  told by: %s\n", w->tlb.source);
}

/* Sizes between the leaves. */
static void print_joined(const struct walk *w)
{
	const struct walk_side *sides[WALK_SIDES_MAX * 2];
	size_t nr = 0;

	for (size_t i = 0; i < w->nr_guests; i++)
		sides[nr++] = &w->guests[i];
	for (size_t i = 0; i < w->nr_hosts; i++)
		sides[nr++] = &w->hosts[i];
	for (size_t i = 0; i < nr; i++) {
		for (size_t k = 0; k < sides[i]->nr; k++) {
			if (sides[i]->parts[k].log2 % 9 == 3)
				continue;
			puts("  pages of other sizes are walked as the leaf below, and have its "
			     "entries; a CPU that joins\n"
			     "  neighbouring entries reaches further");
			return;
		}
	}
}

/* ---- memory ---- */

static void print_cells(const struct walk *w, const char *const cells[9])
{
	size_t nr = 9;

	while (nr > 2 && !cells[nr - 1][0])
		nr--;
	printf("%-*s  %-*s", guest_width(w), cells[0], host_width(w), cells[1]);
	for (size_t i = 2; i < nr; i++)
		printf("  %9s", cells[i]);
	putchar('\n');
}

static void print_memory_row(const struct walk *w, const struct walk_row *row)
{
	const struct gm_walk_footprint *f = &row->footprint[w->paging];
	bool native = w->paging == GM_WALK_NATIVE;
	char b[7][TOOL_UNIT_CAP];
	const char *const cells[] = {w->guests[row->guest].label,
		native ? "-" : w->hosts[row->host].label, tool_bytes(row->reach[w->paging], b[0]),
		tool_bytes(f->guest_tables, b[1]), tool_bytes(f->host_tables, b[2]),
		tool_bytes(f->second_tables, b[3]), tool_bytes(f->guest_structs, b[4]),
		tool_bytes(f->host_structs, b[5]), tool_bytes(f->total, b[6])};

	if (!native || row->host == 0)
		print_cells(w, cells);
}

static void print_memory(const struct walk *w)
{
	bool shadow = w->paging == GM_WALK_SHADOW;
	const char *const above[] = {
		"", "", "", "tables:", "", shadow ? "" : "second", "structs:", "", ""};
	const char *const heads[] = {"guest", "host", "TLB holds", "guest", "host",
		shadow ? "shadow" : "level", "guest", "host", "all"};
	char bytes[TOOL_UNIT_CAP];

	printf("\nmemory of %s, %s (computed; page tables of dense and aligned memory: the least "
	       "there can be)\n\n",
		tool_bytes(w->size, bytes), walk_paging_names[w->paging]);
	print_cells(w, above);
	print_cells(w, heads);
	for (size_t i = 0; i < w->nr_rows; i++)
		print_memory_row(w, &w->rows[i]);
}

/* ---- a process ---- */

static void print_live(const struct walk *w)
{
	const struct walk_live *live = &w->live;
	json_t *unseen = tool_json_unseen(live->unseen);
	char name[128];
	char bytes[TOOL_UNIT_CAP];
	json_t *text;
	size_t i;

	printf("%s, process %d: %s; present %s (seen)\n",
		tool_escape(live->name, name, sizeof(name)), (int)live->pid, live->found_by,
		tool_bytes(live->present, bytes));
	for (i = 12; i < sizeof(live->by_log2) / sizeof(live->by_log2[0]); i++) {
		char page[TOOL_UNIT_CAP];

		if (live->by_log2[i])
			printf("  %-4s %5.1f %%  %s\n", tool_page_name((uint32_t)i, page),
				100 * (double)live->by_log2[i] / (double)live->present,
				tool_bytes(live->by_log2[i], bytes));
	}
	if (live->page_tables != UINT64_MAX)
		printf("  page tables of all of the process: %s\n",
			tool_bytes(live->page_tables, bytes));
	json_array_foreach(unseen, i, text) printf("  not seen: %s\n", json_string_value(text));
	json_decref(unseen);
	puts("  not seen: the guest's own sizes of pages, and whether guest and host addresses are "
	     "aligned alike\n");
}

/* ---- what was measured ---- */

static void print_series(const struct walk_series *s, const char *label)
{
	char page[TOOL_UNIT_CAP];
	char bytes[TOOL_UNIT_CAP];
	char share[16] = "?";

	if (s->skipped) {
		printf("%-16s left out: %s\n", label, s->skipped);
		return;
	}
	if (s->share >= 0)
		snprintf(share, sizeof(share), "%.0f %%", 100 * s->share);
	printf("%-16s %8.1f  %6.3f  %6.3f-%-6.3f  %8s  %6u  %5s  %9s\n", label, s->ns, s->ratio,
		s->low, s->high, share, s->loads, tool_page_name(s->entry_log2, page),
		tool_bytes(s->reach, bytes));
}

static void print_pair(const struct walk_pair *p)
{
	const struct walk_series *s = &p->series;
	char page[TOOL_UNIT_CAP];

	if (s->skipped)
		printf("%-18s left out: %s\n", s->label, s->skipped);
	else
		printf("%-18s %8.1f  %6.3f  %6.3f-%-6.3f  %6u  %6u  %5s\n", s->label, s->ns,
			s->ratio, s->low, s->high, p->nested, p->shadow,
			tool_page_name(s->entry_log2, page));
}

static void print_guest(const struct walk *w, const struct walk_measured *m)
{
	char bytes[TOOL_UNIT_CAP];

	printf("\nmeasured in KVM guests: the same over %s, %llu rounds\n\n",
		tool_bytes(m->size, bytes), (unsigned long long)m->guest_rounds);
	printf("%-18s %8s  %6s  %-13s  computed loads:\n", "", "", "", "");
	printf("%-18s %8s  %6s  %-13s  %6s  %6s  %5s\n", "pages", "ns", "to 4K", "quartiles",
		"nested", "shadow", "entry");
	for (size_t i = 0; i < m->nr_pairs; i++)
		print_pair(&m->pairs[i]);
	if (w->host.kvm_known && w->host.kvm_paging == GM_WALK_SHADOW)
		puts("This KVM has shadow page tables: what was measured goes with that column; "
		     "the nested one "
		     "is of other hosts.");
}

static void print_measured(const struct walk *w, const struct walk_measured *m)
{
	char bytes[TOOL_UNIT_CAP];

	printf("\nmeasured in this process: dependent loads over %s, one line of each 4K page in a "
	       "random cycle,\n%llu rounds; medians, ratios within a round\n\n",
		tool_bytes(m->size, bytes), (unsigned long long)m->rounds);
	printf("%-16s %8s  %6s  %-13s  %8s  computed, without a host below:\n", "", "", "", "", "");
	printf("%-16s %8s  %6s  %-13s  %8s  %6s  %5s  %9s\n", "pages", "ns", "to 4K", "quartiles",
		"got", "loads", "entry", "TLB holds");
	for (size_t i = 0; i < m->nr; i++)
		print_series(&m->series[i], m->series[i].label);
	print_series(&m->again, "4K again (noise)");
	if (m->guest_skipped)
		printf("in a KVM guest:  not measured: %s\n", m->guest_skipped);
	else
		print_guest(w, m);
}

void walk_print(const struct walk *w)
{
	char *notes[NOTES_MAX];
	size_t nr = 0;

	if (w->has_live)
		print_live(w);
	print_loads(w);
	print_tlb(w);
	print_joined(w);
	if (w->size)
		print_memory(w);
	if (w->has_measured)
		print_measured(w, &w->measured);
	if (w->has_live || w->has_measured)
		nr = walk_host_notes(&w->host, notes, NOTES_MAX);
	if (nr)
		putchar('\n');
	for (size_t i = 0; i < nr; i++) {
		printf("note: %s\n", notes[i]);
		free(notes[i]);
	}
}
