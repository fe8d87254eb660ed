/* SPDX-License-Identifier: BSD-3-Clause */
/* guest.c - see guest.h. */
#include "guest.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "handmade.h"

/* ---- the map ---- */

static const struct {
	uint64_t gpa;
	uint32_t perms;
} pages[] = {
	{0x1000, GM_PERM_RW},
	{0x2000, GM_PERM_RW},
	{0x3000, GM_PERM_R},
	/* 0x4000: a hole */
	{0x5000, GM_PERM_W},
	{0x6000, GM_PERM_RWX},
	{TOP_PAGE, GM_PERM_RW},
};

#define NR_PAGES (sizeof(pages) / sizeof(pages[0]))

static uint8_t model[NR_PAGES][PAGE];

/* host[i] is where page i of the current layout is. */
static uint8_t *host[NR_PAGES];
static uint8_t *arena;
static struct handmade hand;
const struct gm_view *guest_view;

static bool is_direct(enum layout layout)
{
	return layout != WATCHED && layout != SCATTERED;
}

static bool is_merged(enum layout layout)
{
	return layout == HOT || layout == HOT_TOP || layout == MERGED;
}

static uint8_t *place(enum layout layout, uint64_t base, uint32_t page)
{
	if (layout == SCATTERED)
		return arena + PAGE * (2 * ((page * 5 + 3) % NR_PAGES) + 1);
	return (uint8_t *)(uintptr_t)(base + pages[page].gpa);
}

/* As the library chooses it, which takes the largest span. */
static void set_hot(uint64_t first, uint64_t len)
{
	hand.view.hot_first = first;
	hand.view.hot_starts = len - 7;
}

void guest_lay_out(enum layout layout)
{
	/* The window's base is such that the page that ends at 2^64 lies right below it. */
	uint64_t base = (uintptr_t)arena + PAGE;
	struct gm_span spans[NR_PAGES];
	uint32_t nr = 0;

	for (uint32_t i = 0; i < NR_PAGES; i++) {
		struct gm_span span = {
			.first = pages[i].gpa,
			.last = pages[i].gpa + (PAGE - 1),
			.perms = (uint16_t)(pages[i].perms),
			.direct = (uint16_t)(is_direct(layout) ? pages[i].perms : 0),
		};

		host[i] = place(layout, base, i);
		span.delta = (uintptr_t)host[i] - pages[i].gpa;
		if (is_merged(layout) && nr > 0 && spans[nr - 1].last + 1 == span.first &&
			spans[nr - 1].perms == span.perms)
			spans[nr - 1].last = span.last;
		else
			spans[nr++] = span;
	}
	guest_view = handmade_init(&hand, layout == SCATTERED ? 0 : base, spans, nr);
	if (layout == HOT)
		set_hot(0x1000, 2 * PAGE);
	else if (layout == HOT_TOP)
		set_hot(TOP_PAGE, PAGE);
}

void guest_fill(bool zero)
{
	for (size_t i = 0; i < NR_PAGES; i++) {
		for (size_t j = 0; j < PAGE; j++)
			model[i][j] = zero ? 0 : (uint8_t)(i * 37 + j * 11 + j / 256 + 1);
		memcpy(host[i], model[i], PAGE);
	}
}

void guest_check(void)
{
	for (size_t i = 0; i < NR_PAGES; i++)
		assert_memory_equal(host[i], model[i], PAGE);
}

/* ---- the model ---- */

static uint8_t *byte_at(uint64_t gpa, uint32_t perms, int *rc)
{
	for (size_t i = 0; i < NR_PAGES; i++) {
		if (gpa < pages[i].gpa || gpa - pages[i].gpa >= PAGE)
			continue;
		*rc = (pages[i].perms & perms) == perms ? 0 : -EACCES;
		return &model[i][gpa - pages[i].gpa];
	}
	*rc = -EFAULT;
	return NULL;
}

int guest_expect(uint64_t gpa, uint64_t len, uint32_t perms, uint64_t *ret_done)
{
	int rc;

	*ret_done = 0;
	if (len && len - 1 > UINT64_MAX - gpa)
		return -ERANGE;
	if (len == 0) {
		byte_at(gpa, perms, &rc);
		return rc;
	}
	for (uint64_t i = 0; i < len; i++) {
		byte_at(gpa + i, perms, &rc);
		if (rc) {
			*ret_done = i;
			return rc;
		}
	}
	*ret_done = len;
	return 0;
}

void guest_model_read(uint64_t gpa, uint8_t *buf, uint64_t len)
{
	int rc;

	for (uint64_t i = 0; i < len; i++)
		buf[i] = *byte_at(gpa + i, 0, &rc);
}

void guest_model_write(uint64_t gpa, const uint8_t *buf, uint64_t len)
{
	int rc;

	for (uint64_t i = 0; i < len; i++)
		*byte_at(gpa + i, 0, &rc) = buf[i];
}

/* ---- the cases: addresses around every edge, lengths up to every other one ---- */

uint64_t guest_gpas[256];
size_t guest_nr_gpas;
static const int64_t near[] = {-65, -33, -16, -9, -8, -7, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8, 31};
const uint64_t guest_lens[GUEST_NR_LENS] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63,
	64, 65, 100, 127, 128, 129, 255, 257, 511, 513, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE,
	2 * PAGE + 1, 3 * PAGE, 3 * PAGE + 1, 8 * PAGE, UINT64_MAX - 0xfff, UINT64_MAX - 1,
	UINT64_MAX};

static void make_gpas(void)
{
	static const uint64_t edges[] = {
		0, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000, 0x100000, TOP_PAGE};

	guest_nr_gpas = 0;
	for (size_t e = 0; e < sizeof(edges) / sizeof(edges[0]); e++) {
		for (size_t n = 0; n < sizeof(near) / sizeof(near[0]); n++)
			guest_gpas[guest_nr_gpas++] = edges[e] + (uint64_t)near[n];
	}
}

void guest_for_each_case(void (*check)(uint64_t gpa, uint64_t len))
{
	for (size_t g = 0; g < guest_nr_gpas; g++) {
		for (size_t l = 0; l < GUEST_NR_LENS; l++)
			check(guest_gpas[g], guest_lens[l]);
		for (uint64_t d = 0; d < 3; d++)
			check(guest_gpas[g], 1 - guest_gpas[g] - d);
	}
}

bool guest_init(void)
{
	arena = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	make_gpas();
	return arena != MAP_FAILED;
}

uint64_t guest_cut(uint64_t value, size_t size)
{
	return size == 8 ? value : value & ((UINT64_C(1) << 8 * size) - 1);
}
