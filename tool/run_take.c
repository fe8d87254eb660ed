/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run_take.c - memory for a guest of "guestmem run" that comes from another process. What the other end says of it is
 * not trusted: regions lie where "guestmem run" would have put them, or they are refused.
 */
#include "run_memory.h"

#include <errno.h>
#include <string.h>

#include "../payload/abi.h"
#include "tool.h"

#define GIB (UINT64_C(1) << 30)
#define PAGE UINT64_C(4096)
#define SIZE_MAX_BYTES (UINT64_C(1) << 45)

static uint64_t round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

static bool lies(const struct run_memory_place *p, uint64_t gpa)
{
	return p->gpa == gpa && p->len && p->len <= SIZE_MAX_BYTES;
}

/* Which of them is what, by where they lie. */
static bool judge(struct run_memory *m, const struct run_memory_place *p, size_t nr)
{
	uint64_t next;
	size_t i = 0;

	m->has_tables = nr && p[0].gpa == 0;
	if (m->has_tables && (!lies(&p[i++], 0) || p[0].len != RUN_LOW_LEN))
		return false;
	if (i == nr || !lies(&p[i], RUN_MEMORY_GPA))
		return false;
	m->gpa = RUN_MEMORY_GPA;
	m->len = p[i++].len;
	next = m->gpa + round_up(m->len, GIB);
	if (nr - i == (m->has_tables ? 2 : 1)) {
		if (!lies(&p[i], next))
			return false;
		m->data_gpa = next;
		m->data_len = p[i++].len;
	}
	m->free_gpa = next + round_up(m->data_len, GIB);
	if (m->has_tables) {
		if (i == nr || !lies(&p[i], m->free_gpa))
			return false;
		m->tables_len = p[i++].len;
		if (m->tables_len > m->len / 256 + GIB)
			return false;
	}
	return i == nr;
}

/* The pages that the options want; without any those that it had. */
static void choose_pages(const struct run_memory_opts *o, const struct run_memory_place *place,
	struct gm_page_choice *choices)
{
	if (o->pages.text)
		memcpy(choices, o->pages.choices, sizeof(o->pages.choices));
	else if (place->page_size > PAGE)
		choices[0] = (struct gm_page_choice){GM_PAGE_HUGETLB, tool_log2(place->page_size)};
}

static int add(struct run_memory *m, const struct run_memory_opts *o,
	const struct run_memory_place *place, const char *name, struct gm_error *err)
{
	bool measured = place->gpa == m->gpa;
	struct gm_block_opts backing = {.size = sizeof(backing),
		.len = place->len,
		.reserve = measured && !o->pages.sparse ? GM_RESERVE_DEFAULT : GM_RESERVE_NONE,
		.fd = -1,
		.name = measured ? "run-memory" : name};
	struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = place->gpa, .backing = &backing, .name = name};

	if (place->fd >= 0) {
		backing.backing = GM_BACKING_FD;
		backing.fd = place->fd;
		backing.offset = place->fd_off;
	} else if (measured) {
		choose_pages(o, place, backing.pages);
		backing.backing = o->backing.backing;
		backing.path = o->backing.path;
		backing.flags =
			(o->share ? GM_BLOCK_SHARE : 0) | (o->backing.path ? GM_BLOCK_CREATE : 0);
		backing.numa = o->numa;
	} else {
		backing.pages[0].kind = GM_PAGE_BASE;
	}
	return gm_space_add(m->space, &desc, NULL, err);
}

static const char *name_of(const struct run_memory *m, uint64_t gpa)
{
	return gpa == 0             ? "run-low"
	       : gpa == m->gpa      ? "memory"
	       : gpa == m->data_gpa ? "run-data"
				    : "run-tables";
}

static int refused(char *why, size_t cap, int rc, const char *text)
{
	snprintf(why, cap, "%s", text);
	tool_error("migrate: the guest is refused: %s", why);
	return rc;
}

int run_memory_take(struct run_memory *m, const struct run_memory_opts *o,
	const struct run_memory_place *places, size_t nr, char *why, size_t cap)
{
	double begun = tool_now();
	struct gm_error err;

	*m = (struct run_memory){.taken = true};
	if (nr > RUN_MEMORY_PLACES_MAX || !judge(m, places, nr))
		return refused(
			why, cap, -EINVAL, "its memory is not that of a guest of guestmem run");
	if (!run_memory_space(m, m->len))
		return refused(why, cap, -ENOMEM, "there is no room for its addresses");
	for (size_t i = 0; i < nr; i++) {
		char text[sizeof(err.text) + 64];
		char bytes[TOOL_UNIT_CAP];
		int rc = add(m, o, &places[i], name_of(m, places[i].gpa), &err);

		if (!rc)
			continue;
		run_memory_words(err.text);
		snprintf(text, sizeof(text), "%s of memory: %s", tool_bytes(places[i].len, bytes),
			err.text);
		return refused(why, cap, rc, text);
	}
	m->seconds = tool_now() - begun;
	return run_memory_look(m) ? 0
				  : refused(why, cap, -EFAULT, "its memory cannot be looked at");
}
