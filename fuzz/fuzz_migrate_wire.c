/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_migrate_wire.c - any bytes as the stream that an end of a migration reads: the opening or its answer, and then
 * messages. What is accepted lies within its bounds and is the same bytes when it is encoded; what is refused has
 * changed nothing.
 *
 * The first byte says which end and connection it is, the second what was agreed on. Each piece is given to the decoder
 * on the heap at its exact length.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/migrate_wire.h"

#define UNTOUCHED 0x5a

struct end {
	const uint8_t *at; /* of the stream */
	size_t left;
	bool from_source; /* what it reads */
	bool sole;
	enum gm_migrate_role role;
	uint32_t features;
	uint32_t pages_max;
	uint32_t nr;
	struct gm_migrate_region *regions;
};

static void must(int what)
{
	if (!what)
		abort();
}

/* NULL at the end of the stream, and for no bytes. */
static uint8_t *take(struct end *end, size_t len)
{
	uint8_t *copy;

	if (len == 0 || len > end->left)
		return NULL;
	copy = malloc(len);
	must(copy != NULL);
	memcpy(copy, end->at, len);
	end->at += len;
	end->left -= len;
	return copy;
}

/* True if it was accepted. By the address of @why, as arguments are evaluated in any order. */
static bool judged(int rc, const char *const *why, const void *ret, size_t len)
{
	const uint8_t *bytes = ret;

	if (rc == 0)
		return true;
	must(rc == -EPROTO && *why && **why);
	for (size_t i = 0; i < len; i++)
		must(bytes[i] == UNTOUCHED);
	return false;
}

static bool read_open(struct end *end)
{
	uint8_t again[GM_MIGRATE_OPEN];
	struct gm_migrate_open open;
	struct gm_migrate_open twice;
	const char *why = NULL;
	uint8_t *bytes = take(end, GM_MIGRATE_OPEN);
	bool ok;

	if (!bytes)
		return false;
	memset(&open, UNTOUCHED, sizeof(open));
	ok = judged(gm_migrate_get_open(bytes, &open, &why), &why, &open, sizeof(open));
	if (ok) {
		must(open.lowest && open.lowest <= open.highest);
		gm_migrate_put_open(&open, again);
		must(memcmp(again, bytes, 12) == 0);
		if (open.lowest == GM_MIGRATE_VERSION) {
			must(memcmp(again, bytes, 40) == 0 &&
				again[40] == (bytes[40] & GM_MIGRATE_FEATURES));
			must(open.role >= 1 && open.role <= 3 && open.index < 16 && open.epoch);
			must(open.bulk <= 16 && open.urgent <= 4);
		} else {
			must(!open.role && !open.epoch && !open.bulk && !open.features);
		}
		must(!gm_migrate_get_open(again, &twice, &why));
		must(!memcmp(&open, &twice, sizeof(open)));
	}
	free(bytes);
	return ok;
}

static bool read_opened(struct end *end)
{
	const struct gm_migrate_open asked = {.lowest = 1, .highest = 1, .features = end->features};
	struct gm_migrate_opened opened;
	struct gm_migrate_opened twice;
	uint8_t again[GM_MIGRATE_OPENED];
	const char *why = NULL;
	uint8_t *bytes = take(end, GM_MIGRATE_OPENED);
	bool ok;

	if (!bytes)
		return false;
	memset(&opened, UNTOUCHED, sizeof(opened));
	ok = judged(
		gm_migrate_get_opened(bytes, &asked, &opened, &why), &why, &opened, sizeof(opened));
	if (ok) {
		must(opened.version <= 1 && opened.error < 4096 && opened.pages_max <= 1024);
		must(!(opened.features & ~asked.features));
		gm_migrate_put_opened(&opened, again);
		must(!memcmp(again, bytes, opened.version ? opened.error ? 16 : 24 : 12));
		must(!gm_migrate_get_opened(again, &asked, &twice, &why));
		must(!memcmp(&opened, &twice, sizeof(opened)));
		/* Who was refused reads nothing more. */
		ok = opened.version && !opened.error;
		end->features = opened.features;
		end->pages_max = opened.pages_max;
	}
	free(bytes);
	return ok;
}

static bool read_layout(struct end *end, const uint8_t *bytes, uint32_t nr)
{
	struct gm_migrate_region *regions = malloc(nr * sizeof(*regions));
	const char *why = NULL;
	uint32_t fds = 0;

	must(regions != NULL);
	memset(regions, UNTOUCHED, nr * sizeof(*regions));
	if (!judged(gm_migrate_get_layout(bytes, nr, end->features, regions, &why), &why, regions,
		    nr * sizeof(*regions))) {
		free(regions);
		return false;
	}
	for (uint32_t i = 0; i < nr; i++) {
		const struct gm_migrate_region *r = &regions[i];
		uint8_t again[GM_MIGRATE_REGION];

		must(r->page_log2 >= 12 && r->page_log2 <= 30 && r->len);
		must(!((r->gpa | r->len | r->fd_off) & ((UINT64_C(1) << r->page_log2) - 1)));
		must(r->by_fd ? r->fd_off <= (uint64_t)INT64_MAX - r->len : !r->fd_off);
		must(r->len - 1 <= UINT64_MAX - r->gpa);
		must(i == 0 || (r->gpa > r[-1].gpa && r->gpa - r[-1].gpa >= r[-1].len));
		fds += r->by_fd;
		gm_migrate_put_region(r, again);
		must(memcmp(again, bytes + (size_t)i * sizeof(again), sizeof(again)) == 0);
	}
	must(fds <= GM_MIGRATE_FDS_MAX && (!fds || (end->features & GM_MIGRATE_FDS)));
	free(end->regions);
	end->regions = regions;
	end->nr = nr;
	return true;
}

static void check_place(const struct end *end, const struct gm_migrate_place *place)
{
	must(place->region < end->nr && place->nr);
	must(place->first < end->regions[place->region].len / 4096);
	must(place->nr <= end->regions[place->region].len / 4096 - place->first);
}

static bool read_place(const struct end *end, const uint8_t *bytes, struct gm_migrate_place *place)
{
	uint8_t again[GM_MIGRATE_PLACE];
	const char *why = NULL;

	memset(place, UNTOUCHED, sizeof(*place));
	if (!judged(gm_migrate_get_place(bytes, end->regions, end->nr, place, &why), &why, place,
		    sizeof(*place)))
		return false;
	check_place(end, place);
	gm_migrate_put_place(place, again);
	must(memcmp(again, bytes, sizeof(again)) == 0);
	return true;
}

static bool read_places(const struct end *end, const uint8_t *bytes, uint32_t len)
{
	struct gm_migrate_place place;

	for (; len; len -= GM_MIGRATE_PLACE, bytes += GM_MIGRATE_PLACE) {
		if (!read_place(end, bytes, &place))
			return false;
	}
	return true;
}

/* @bytes has no more than the head of PAGES. */
static bool read_pages(const struct end *end, const uint8_t *bytes, uint32_t len)
{
	uint8_t again[GM_MIGRATE_PAGES_HEAD];
	struct gm_migrate_pages pages;
	const char *why = NULL;

	memset(&pages, UNTOUCHED, sizeof(pages));
	if (!judged(gm_migrate_get_pages(bytes, len, end->regions, end->nr, end->pages_max,
			    end->features, &pages, &why),
		    &why, &pages, sizeof(pages)))
		return false;
	check_place(end, &pages.place);
	must(pages.place.nr <= end->pages_max && pages.stored == len - sizeof(again));
	must(pages.stored <= pages.place.nr * 4096 && pages.kind >= 1 && pages.kind <= 5);
	must((pages.kind == GM_MIGRATE_RAW) == (pages.stored == pages.place.nr * 4096));
	must((pages.kind >= GM_MIGRATE_ZEROS) == (pages.stored == 0));
	gm_migrate_put_pages(&pages, again);
	must(memcmp(again, bytes, sizeof(again)) == 0);
	return true;
}

static bool read_have(const struct end *end, const uint8_t *bytes, uint32_t len)
{
	struct gm_migrate_place place;
	const char *why = NULL;
	uint8_t *bits;
	bool ok;

	if (!read_place(end, bytes, &place))
		return false;
	len -= GM_MIGRATE_PLACE;
	bits = malloc(len);
	must(bits != NULL);
	memcpy(bits, bytes + GM_MIGRATE_PLACE, len);
	ok = judged(gm_migrate_check_bits(&place, bits, len, &why), &why, NULL, 0);
	must(!ok || len == gm_migrate_bits_len(&place));
	for (uint64_t i = place.nr; ok && i < 8 * (uint64_t)len; i++)
		must(!(bits[i / 8] >> (i % 8) & 1));
	free(bits);
	return ok;
}

static bool read_switch(const uint8_t *bytes)
{
	uint8_t again[GM_MIGRATE_SWITCH_LEN];
	const char *why = NULL;
	uint64_t len;

	memset(&len, UNTOUCHED, sizeof(len));
	if (!judged(gm_migrate_get_switch(bytes, &len, &why), &why, &len, sizeof(len)))
		return false;
	gm_migrate_put_switch(len, again);
	must(len <= INT64_MAX && memcmp(again, bytes, sizeof(again)) == 0);
	return true;
}

static bool read_text(const uint8_t *bytes, uint32_t len)
{
	char *text = malloc(GM_MIGRATE_TEXT_MAX + 1);
	uint8_t again[GM_MIGRATE_TEXT_MAX];

	must(text != NULL && len <= GM_MIGRATE_TEXT_MAX);
	gm_migrate_get_text(bytes, len, text);
	/* One byte for each, or the same bytes. */
	must(strlen(text) == len);
	must(gm_migrate_put_text(text, again) == len && memcmp(text, again, len) == 0);
	for (uint32_t i = 0; i < len; i++) {
		must((uint8_t)text[i] >= 0x20 && text[i] != 0x7f);
		must(text[i] == '?' || (uint8_t)text[i] == bytes[i]);
	}
	free(text);
	return true;
}

static bool read_body(struct end *end, const struct gm_migrate_head *head, const uint8_t *bytes)
{
	switch (head->type) {
	case GM_MIGRATE_LAYOUT:
		must(head->len == head->number * GM_MIGRATE_REGION);
		return read_layout(end, bytes, (uint32_t)head->number);
	case GM_MIGRATE_PAGES:
		return read_pages(end, bytes, head->len);
	case GM_MIGRATE_DISCARD:
	case GM_MIGRATE_DROPPED:
	case GM_MIGRATE_REQUEST:
		must(head->len && head->len % GM_MIGRATE_PLACE == 0);
		return read_places(end, bytes, head->len);
	case GM_MIGRATE_HAVE:
		return read_have(end, bytes, head->len);
	case GM_MIGRATE_SWITCH:
		must(head->len == GM_MIGRATE_SWITCH_LEN);
		return read_switch(bytes);
	case GM_MIGRATE_REFUSED:
		return head->len == 0 || read_text(bytes, head->len);
	case GM_MIGRATE_STATE:
		must(head->len && head->len <= GM_MIGRATE_STATE_MAX - head->number);
		return true;
	default:
		must(head->len == 0);
		return true;
	}
}

static bool read_message(struct end *end)
{
	uint8_t again[GM_MIGRATE_HEAD];
	struct gm_migrate_head head;
	const char *why = NULL;
	uint8_t *bytes = take(end, GM_MIGRATE_HEAD);
	uint32_t len;
	bool ok;

	if (!bytes)
		return false;
	memset(&head, UNTOUCHED, sizeof(head));
	ok = judged(gm_migrate_get_head(bytes, end->from_source, end->role, end->sole, &head, &why),
		&why, &head, sizeof(head));
	if (ok) {
		must(gm_migrate_name(head.type) && head.len <= GM_MIGRATE_LEN_MAX);
		gm_migrate_put_head(&head, again);
		must(memcmp(again, bytes, sizeof(again)) == 0);
	}
	free(bytes);
	if (!ok)
		return false;
	/* What was stored is for a codec, and need not be there. */
	len = head.type == GM_MIGRATE_PAGES ? GM_MIGRATE_PAGES_HEAD : head.len;
	bytes = take(end, len);
	ok = (bytes || len == 0) && read_body(end, &head, bytes);
	free(bytes);
	if (ok && head.len > len) {
		size_t stored = head.len - len;

		stored = stored < end->left ? stored : end->left;
		end->at += stored;
		end->left -= stored;
	}
	return ok;
}

/* What an end has if it reads no layout: it has sent one, or read it elsewhere. */
static void own_layout(struct end *end)
{
	static const struct gm_migrate_region regions[] = {
		{.gpa = 0, .len = 0xa0000, .page_log2 = 12},
		{.gpa = 1u << 21, .len = 5u << 21, .page_log2 = 21},
		{.gpa = UINT64_C(1) << 32, .len = UINT64_C(1) << 62, .page_log2 = 30},
		{.gpa = UINT64_MAX - 4095, .len = 4096, .page_log2 = 12},
	};

	end->nr = sizeof(regions) / sizeof(regions[0]);
	end->regions = malloc(sizeof(regions));
	must(end->regions != NULL);
	memcpy(end->regions, regions, sizeof(regions));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct end end = {0};

	if (size < 2)
		return 0;
	end.at = data + 2;
	end.left = size - 2;
	end.from_source = data[0] & 1;
	end.sole = data[0] & 2;
	end.role = (enum gm_migrate_role)(1 + (data[0] >> 2) % 3);
	end.features = data[1] & GM_MIGRATE_FEATURES;
	end.pages_max = 1u + (data[1] >> 4) * 64u;
	own_layout(&end);
	if (end.from_source ? read_open(&end) : read_opened(&end)) {
		while (read_message(&end))
			;
	}
	free(end.regions);
	return 0;
}
