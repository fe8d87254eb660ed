/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_sides.c - sizes of pages, mixes of them, levels and TLBs as an operator writes them. */
#include <stdlib.h>
#include <string.h>

#include "walk.h"

#define LEAF_LOG2(i) (12 + 9 * (uint32_t)(i))

static const char *const size_form =
	"is not like 4K, 64K, 2M, 1G or 4K:1,2M:3 (powers of two from 4K to 1G)";

/* ---- one size ---- */

static bool parse_page(const char *text, bool host, struct walk_part *ret)
{
	uint64_t size;

	ret->transparent = host && strcmp(text, "thp") == 0;
	ret->log2 = LEAF_LOG2(GM_WALK_2M);
	if (ret->transparent)
		return true;
	if (!tool_parse_size(text, &size) || size < 4096 || size > UINT64_C(1) << 30 ||
		(size & (size - 1)))
		return false;
	ret->log2 = tool_log2(size);
	return true;
}

/* "2M:3"; the weight may be missing if @alone. */
static const char *parse_part(char *text, bool host, bool alone, struct walk_part *ret)
{
	char *colon = strchr(text, ':');

	ret->weight = 1;
	if (colon)
		*colon++ = '\0';
	if (!parse_page(text, host, ret))
		return size_form;
	if (!colon)
		return alone ? NULL : "has a size without a share, as in 4K:1,2M:3";
	if (!tool_parse_number(colon, WALK_WEIGHT_MAX, &ret->weight))
		return "has a share that is no number from 0 to 1000";
	return NULL;
}

static const char *check_parts(const struct walk_side *side)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < side->nr; i++) {
		sum += side->parts[i].weight;
		for (size_t k = 0; k < i; k++) {
			if (side->parts[k].log2 == side->parts[i].log2)
				return "has a size twice";
		}
	}
	return sum ? NULL : "has only shares of 0";
}

const char *walk_parse_side(const char *text, bool host, struct walk_side *ret)
{
	char *copy = tool_strdup(text);
	const char *wrong = NULL;
	char *rest = copy;
	bool alone = !strchr(text, ',');

	*ret = (struct walk_side){.nr = 0};
	while (rest && !wrong) {
		char *part = strsep(&rest, ",");

		if (ret->nr == WALK_PARTS_MAX)
			wrong = "has more than eight sizes";
		else
			wrong = parse_part(part, host, alone, &ret->parts[ret->nr++]);
	}
	free(copy);
	if (!wrong)
		wrong = check_parts(ret);
	if (strlen(text) >= sizeof(ret->label))
		return wrong ? wrong : "is too long";
	memcpy(ret->label, text, strlen(text) + 1);
	return wrong;
}

bool walk_parse_levels(const char *text, uint32_t *ret_guest, uint32_t *ret_host)
{
	if ((text[0] != '4' && text[0] != '5') ||
		(text[1] && (text[1] != 'x' || (text[2] != '4' && text[2] != '5') || text[3])))
		return false;
	*ret_guest = (uint32_t)(text[0] - '0');
	*ret_host = text[1] ? (uint32_t)(text[2] - '0') : *ret_guest;
	return true;
}

void walk_all_sides(struct walk_side sides[GM_WALK_LEAVES])
{
	for (uint32_t i = 0; i < GM_WALK_LEAVES; i++) {
		sides[i] = (struct walk_side){.nr = 1, .parts = {{LEAF_LOG2(i), 1, false}}};
		tool_page_name(LEAF_LOG2(i), sides[i].label);
	}
}

/* ---- a mix ---- */

/* The whole of base pages that is nearest to bytes * weight / sum from below. */
static uint64_t proportion(uint64_t bytes, uint64_t weight, uint64_t sum)
{
	__extension__ typedef unsigned __int128 wide;

	return (uint64_t)((wide)bytes * weight / sum) & ~UINT64_C(4095);
}

struct gm_walk_mix walk_mix(const struct walk_side *side, uint64_t bytes)
{
	struct gm_walk_mix mix = {{0}};
	uint64_t sum = 0;
	uint64_t left;

	for (size_t i = 0; i < side->nr; i++)
		sum += side->parts[i].weight;
	if (bytes == 0)
		bytes = side->seen ? sum : sum << 30;
	left = bytes;
	for (size_t i = 0; i < side->nr; i++) {
		uint64_t some = proportion(bytes, side->parts[i].weight, sum);

		/* What rounding leaves. */
		if (i + 1 == side->nr)
			some = left;
		gm_walk_mix_add(&mix, side->parts[i].log2, some);
		left -= some;
	}
	return mix;
}

/* ---- TLB ---- */

static bool parse_entries(char *text, struct walk_tlb *tlb)
{
	char *colon = strchr(text, ':');
	struct walk_part page;
	uint64_t entries;
	uint32_t leaf;

	if (!colon)
		return false;
	*colon++ = '\0';
	if (!parse_page(text, false, &page) || !tool_parse_number(colon, 1u << 24, &entries))
		return false;
	leaf = (page.log2 - 12) / 9;
	if (page.log2 != LEAF_LOG2(leaf))
		return false;
	tlb->entries[leaf] = (uint32_t)entries;
	tlb->told |= 1u << leaf;
	return true;
}

const char *walk_parse_tlb(const char *text, struct walk_tlb *tlb)
{
	char *copy = tool_strdup(text);
	char *rest = copy;
	char other[sizeof(tlb->source)];
	bool well = true;

	memcpy(other, tlb->source, sizeof(other));
	while (rest && well)
		well = parse_entries(strsep(&rest, ","), tlb);
	free(copy);
	snprintf(tlb->source, sizeof(tlb->source), "--tlb; others: %.160s", other);
	return well ? NULL : "is not like 4K:1536,2M:1536,1G:16";
}
