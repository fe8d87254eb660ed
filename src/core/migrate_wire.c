/* SPDX-License-Identifier: BSD-3-Clause */
/* migrate_wire.c - see migrate_wire.h. Functions that return a text say what is wrong, or NULL. */
#include "core/migrate_wire.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"
#include "core/range.h"

#define ERRNO_MAX 4095u
#define BY_FD 0x1u /* flag of a region */

static const uint8_t magic[8] = {'G', 'M', 'M', 'I', 'G', 'R', '\r', '\n'};

static const char strange[] = "it does not speak this protocol";

/* Who sends a type, and on which connections. */
#define S 0x1u
#define D 0x2u
#define C (1u << GM_MIGRATE_CONTROL)
#define B (1u << GM_MIGRATE_BULK)
#define U (1u << GM_MIGRATE_URGENT)

struct type {
	const char *name;
	uint8_t from;
	uint8_t on;
	uint32_t len_min; /* of what follows the head, in steps of @unit */
	uint32_t len_max;
	uint32_t unit;
	uint64_t number_min;
	uint64_t number_max;
};

/* Sender, connections; length from, to, in steps of; number from, to. */
#define TYPE(name, ...) [GM_MIGRATE_##name] = {#name, __VA_ARGS__}
#define ITEMS(max, each) (each), (max) * (each), (each)
#define PLACES ITEMS(GM_MIGRATE_PLACES_MAX, GM_MIGRATE_PLACE)

static const struct type types[] = {
	TYPE(LAYOUT, S, C, ITEMS(GM_MIGRATE_REGIONS_MAX, GM_MIGRATE_REGION), 1,
		GM_MIGRATE_REGIONS_MAX),
	TYPE(PAGES, S, B | C | U, GM_MIGRATE_PAGES_HEAD, GM_MIGRATE_LEN_MAX, 1, 0, UINT64_MAX),
	TYPE(ROUND, S, B | C, 0, 0, 1, 1, UINT64_MAX),
	TYPE(DISCARD, S, C, PLACES, 0, 0),
	TYPE(STATE, S, C, 1, GM_MIGRATE_STATE_PIECE, 1, 0, GM_MIGRATE_STATE_MAX),
	TYPE(SWITCH, S, C, GM_MIGRATE_SWITCH_LEN, GM_MIGRATE_SWITCH_LEN, 1, GM_MIGRATE_ALL_SENT,
		GM_MIGRATE_REST_LATER),
	TYPE(RUN, S, C, 0, 0, 1, 0, 0),
	TYPE(RECLAIM, S, C, 0, 0, 1, 0, 0),
	TYPE(CANCEL, S, C, 0, 0, 1, 0, ERRNO_MAX),
	TYPE(DONE, S, C, 0, 0, 1, 0, 0),
	TYPE(RESUME, S, C, 0, 0, 1, GM_MIGRATE_HANDED_OVER, GM_MIGRATE_IN_POSTCOPY),
	TYPE(PING, S | D, C, 0, 0, 1, 0, UINT64_MAX),
	TYPE(PONG, S | D, C, 0, 0, 1, 0, UINT64_MAX),
	TYPE(ACCEPTED, D, C, 0, 0, 1, 0, 0),
	TYPE(REFUSED, D, C, 0, GM_MIGRATE_TEXT_MAX, 1, 1, ERRNO_MAX),
	TYPE(READY, D, C, 0, 0, 1, 0, 0),
	TYPE(RUNNING, D, C, 0, 0, 1, 0, 0),
	TYPE(RECLAIMED, D, C, 0, 0, 1, 0, 0),
	TYPE(DONE_ACK, D, C, 0, 0, 1, 0, 0),
	TYPE(RESUMED, D, C, 0, 0, 1, GM_MIGRATE_WAITING, GM_MIGRATE_ENDED),
	TYPE(HAVE, D, C, GM_MIGRATE_PLACE + 1, GM_MIGRATE_PLACE + GM_MIGRATE_BITS_MAX, 1, 0, 0),
	TYPE(REQUEST, D, U | C, GM_MIGRATE_PLACE, GM_MIGRATE_PLACE, 1, 0, UINT64_MAX),
	TYPE(DROPPED, D, C, PLACES, 0, 0),
	TYPE(GIVEN_UP, D, C, 0, 0, 1, 1, ERRNO_MAX),
};

#define NR_TYPES (sizeof(types) / sizeof(types[0]))

static const struct type *type_of(uint32_t number)
{
	return number < NR_TYPES && types[number].from ? &types[number] : NULL;
}

const char *gm_migrate_name(uint32_t type)
{
	const struct type *found = type_of(type);

	return found ? found->name : NULL;
}

static int no(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

void gm_migrate_put_open(const struct gm_migrate_open *open, uint8_t *bytes)
{
	memset(bytes, 0, GM_MIGRATE_OPEN);
	memcpy(bytes, magic, sizeof(magic));
	gm_put_le(bytes + 8, 2, open->lowest);
	gm_put_le(bytes + 10, 2, open->highest);
	gm_put_le(bytes + 12, 2, open->role);
	gm_put_le(bytes + 14, 2, open->index);
	memcpy(bytes + 16, open->session, sizeof(open->session));
	gm_put_le(bytes + 32, 4, open->epoch);
	gm_put_le(bytes + 36, 2, open->bulk);
	gm_put_le(bytes + 38, 2, open->urgent);
	gm_put_le(bytes + 40, 4, open->features);
}

static const char *judge_open(const struct gm_migrate_open *open)
{
	/* Of each role: how many there may be. */
	static const uint16_t most[] = {[GM_MIGRATE_CONTROL] = 1,
		[GM_MIGRATE_BULK] = GM_MIGRATE_BULK_MAX,
		[GM_MIGRATE_URGENT] = GM_MIGRATE_URGENT_MAX};

	if (open->role < GM_MIGRATE_CONTROL || open->role > GM_MIGRATE_URGENT)
		return "a connection is opened in no role that there is";
	if (open->index >= most[open->role])
		return "a connection is opened that cannot be among those of its role";
	if (gm_bytes_are_zero(open->session, sizeof(open->session)))
		return "a session has no identity";
	if (open->epoch == 0)
		return "epochs begin with 1";
	if (open->bulk > GM_MIGRATE_BULK_MAX || open->urgent > GM_MIGRATE_URGENT_MAX)
		return "more connections are announced than can be";
	return NULL;
}

int gm_migrate_get_open(const uint8_t *bytes, struct gm_migrate_open *ret, const char **ret_why)
{
	struct gm_migrate_open open = {0};
	const char *why;

	if (memcmp(bytes, magic, sizeof(magic)) != 0)
		return no(ret_why, strange);
	open.lowest = (uint16_t)gm_get_le(bytes + 8, 2);
	open.highest = (uint16_t)gm_get_le(bytes + 10, 2);
	if (open.lowest == 0 || open.lowest > open.highest)
		return no(ret_why, "it speaks no version");
	if (open.lowest <= GM_MIGRATE_VERSION) {
		open.role = (uint16_t)gm_get_le(bytes + 12, 2);
		open.index = (uint16_t)gm_get_le(bytes + 14, 2);
		memcpy(open.session, bytes + 16, sizeof(open.session));
		open.epoch = gm_get_le32(bytes + 32);
		open.bulk = (uint16_t)gm_get_le(bytes + 36, 2);
		open.urgent = (uint16_t)gm_get_le(bytes + 38, 2);
		open.features = gm_get_le32(bytes + 40) & GM_MIGRATE_FEATURES;
		why = judge_open(&open);
		if (why)
			return no(ret_why, why);
	}
	*ret = open;
	return 0;
}

void gm_migrate_put_opened(const struct gm_migrate_opened *opened, uint8_t *bytes)
{
	memset(bytes, 0, GM_MIGRATE_OPENED);
	memcpy(bytes, magic, sizeof(magic));
	gm_put_le(bytes + 8, 4, opened->version);
	gm_put_le(bytes + 12, 4, opened->error);
	gm_put_le(bytes + 16, 4, opened->features);
	gm_put_le(bytes + 20, 4, opened->pages_max);
}

int gm_migrate_get_opened(const uint8_t *bytes, const struct gm_migrate_open *asked,
	struct gm_migrate_opened *ret, const char **ret_why)
{
	struct gm_migrate_opened opened = {0};

	if (memcmp(bytes, magic, sizeof(magic)) != 0)
		return no(ret_why, strange);
	opened.version = gm_get_le32(bytes + 8);
	if (opened.version) {
		if (opened.version < asked->lowest || opened.version > asked->highest)
			return no(ret_why, "it chose a version that was not offered");
		opened.error = gm_get_le32(bytes + 12);
		if (opened.error > ERRNO_MAX)
			return no(ret_why, "it refuses with an error that there is not");
	}
	if (opened.version && !opened.error) {
		opened.features = gm_get_le32(bytes + 16);
		opened.pages_max = gm_get_le32(bytes + 20);
		if (opened.features & ~asked->features)
			return no(ret_why, "it chose features that were not offered");
		if (opened.pages_max == 0 || opened.pages_max > GM_MIGRATE_PAGES_MAX)
			return no(ret_why, "its messages have no number of pages that can be");
	}
	*ret = opened;
	return 0;
}

void gm_migrate_put_head(const struct gm_migrate_head *head, uint8_t *bytes)
{
	gm_put_le(bytes, 2, head->type);
	gm_put_le(bytes + 2, 2, 0);
	gm_put_le(bytes + 4, 4, head->len);
	gm_put_le(bytes + 8, 8, head->number);
	gm_put_le(bytes + 16, 8, head->sum);
}

/* What the table has no columns for. */
static const char *judge_own(
	const struct gm_migrate_head *head, enum gm_migrate_role role, bool sole)
{
	bool of_round = head->type == GM_MIGRATE_PAGES && head->number != 0;

	if (of_round && role == GM_MIGRATE_URGENT)
		return "pages of a round came on an urgent connection";
	if (of_round && role == GM_MIGRATE_CONTROL && !sole)
		return "pages of a round came on control, though there are bulk connections";
	if (head->type == GM_MIGRATE_LAYOUT && head->len / GM_MIGRATE_REGION != head->number)
		return "a layout has not as many regions as it says";
	if (head->type == GM_MIGRATE_STATE && head->len > GM_MIGRATE_STATE_MAX - head->number)
		return "a piece of the state ends behind what can be";
	return NULL;
}

static const char *judge_head(
	const struct gm_migrate_head *head, bool from_source, enum gm_migrate_role role, bool sole)
{
	const struct type *type = type_of(head->type);

	if (!type)
		return "a message is of no type that there is";
	if (!(type->from & (from_source ? S : D)))
		return "a message is of a type that only the other end sends";
	if (!(type->on & (1u << role)))
		return "a message came on a connection that does not carry its type";
	if (head->len < type->len_min || head->len > type->len_max || head->len % type->unit)
		return "a message has no length that its type can have";
	if (head->number < type->number_min || head->number > type->number_max)
		return "a message has no number that its type can have";
	return judge_own(head, role, sole);
}

int gm_migrate_get_head(const uint8_t *bytes, bool from_source, enum gm_migrate_role role,
	bool sole, struct gm_migrate_head *ret, const char **ret_why)
{
	struct gm_migrate_head head = {.type = (uint16_t)gm_get_le(bytes, 2),
		.len = gm_get_le32(bytes + 4),
		.number = gm_get_le(bytes + 8, 8),
		.sum = gm_get_le(bytes + 16, 8)};
	const char *why = judge_head(&head, from_source, role, sole);

	if (why)
		return no(ret_why, why);
	if (gm_get_le(bytes + 2, 2))
		return no(ret_why, "reserved bytes of a message are not 0");
	*ret = head;
	return 0;
}

void gm_migrate_put_region(const struct gm_migrate_region *region, uint8_t *bytes)
{
	gm_put_le(bytes, 8, region->gpa);
	gm_put_le(bytes + 8, 8, region->len);
	gm_put_le(bytes + 16, 4, region->page_log2);
	gm_put_le(bytes + 20, 4, region->by_fd ? BY_FD : 0);
	gm_put_le(bytes + 24, 8, region->fd_off);
}

static void get_region(const uint8_t *bytes, struct gm_migrate_region *ret)
{
	*ret = (struct gm_migrate_region){.gpa = gm_get_le(bytes, 8),
		.len = gm_get_le(bytes + 8, 8),
		.fd_off = gm_get_le(bytes + 24, 8),
		.page_log2 = gm_get_le32(bytes + 16),
		.by_fd = gm_get_le32(bytes + 20) & BY_FD};
}

/* Whole pages of the descriptor's file, within what files can be. */
static const char *judge_off(const struct gm_migrate_region *region, uint64_t align)
{
	if (!region->by_fd)
		return region->fd_off ? "a region has an offset, but no descriptor" : NULL;
	if (!gm_is_aligned(region->fd_off, align))
		return "a region is not of whole pages of its file";
	if (region->fd_off > INT64_MAX || region->len > (uint64_t)INT64_MAX - region->fd_off)
		return "a region ends behind what files can be";
	return NULL;
}

/* One region and its addresses. */
static const char *judge_region(const struct gm_migrate_region *region, struct gm_range *ret)
{
	uint64_t align;

	if (region->page_log2 < GM_MIGRATE_PAGE_LOG2 ||
		region->page_log2 > GM_MIGRATE_PAGE_LOG2_MAX)
		return "a region is of pages of a size that cannot be";
	align = UINT64_C(1) << region->page_log2;
	if (!gm_is_aligned(region->gpa, align) || !gm_is_aligned(region->len, align))
		return "a region is not of whole pages";
	if (!gm_range_make(region->gpa, region->len, ret))
		return "a region is empty, or ends behind the last address";
	return judge_off(region, align);
}

static const char *judge_layout(const uint8_t *bytes, uint32_t nr, uint32_t features)
{
	uint32_t fds_max = features & GM_MIGRATE_FDS ? GM_MIGRATE_FDS_MAX : 0;
	struct gm_range last = {0};
	uint32_t nr_fds = 0;

	if (nr == 0 || nr > GM_MIGRATE_REGIONS_MAX)
		return "a layout has no number of regions that can be";
	for (uint32_t i = 0; i < nr; i++, bytes += GM_MIGRATE_REGION) {
		struct gm_migrate_region region;
		struct gm_range range;
		const char *why;

		get_region(bytes, &region);
		if (gm_get_le32(bytes + 20) & ~BY_FD)
			return "a region has flags that there are not";
		why = judge_region(&region, &range);
		if (why)
			return why;
		if (i && range.first <= last.last)
			return "regions overlap, or do not ascend";
		nr_fds += region.by_fd;
		last = range;
	}
	return nr_fds > fds_max ? "more regions come as descriptors than may" : NULL;
}

int gm_migrate_get_layout(const uint8_t *bytes, uint32_t nr, uint32_t features,
	struct gm_migrate_region *ret, const char **ret_why)
{
	const char *why = judge_layout(bytes, nr, features);

	if (why)
		return no(ret_why, why);
	for (uint32_t i = 0; i < nr; i++)
		get_region(bytes + (size_t)i * GM_MIGRATE_REGION, &ret[i]);
	return 0;
}

void gm_migrate_put_place(const struct gm_migrate_place *place, uint8_t *bytes)
{
	gm_put_le(bytes, 4, place->region);
	gm_put_le(bytes + 4, 4, place->nr);
	gm_put_le(bytes + 8, 8, place->first);
}

int gm_migrate_get_place(const uint8_t *bytes, const struct gm_migrate_region *regions, uint32_t nr,
	struct gm_migrate_place *ret, const char **ret_why)
{
	struct gm_migrate_place place = {.region = gm_get_le32(bytes),
		.nr = gm_get_le32(bytes + 4),
		.first = gm_get_le(bytes + 8, 8)};
	uint64_t pages;

	if (place.region >= nr)
		return no(ret_why, "a place is in no region");
	pages = regions[place.region].len >> GM_MIGRATE_PAGE_LOG2;
	if (place.nr == 0 || place.first >= pages || place.nr > pages - place.first)
		return no(ret_why, "a place has no pages, or ends behind its region");
	*ret = place;
	return 0;
}

void gm_migrate_put_pages(const struct gm_migrate_pages *pages, uint8_t *bytes)
{
	gm_migrate_put_place(&pages->place, bytes);
	gm_put_le(bytes + 16, 4, pages->kind);
	gm_put_le(bytes + 20, 4, pages->stored);
}

/* Whether so much is stored for @len bytes of memory. */
static bool is_whole(const struct gm_migrate_pages *pages, uint32_t len, uint32_t features)
{
	bool is_packed = pages->stored && pages->stored < len;

	switch (pages->kind) {
	case GM_MIGRATE_RAW:
		return pages->stored == len;
	case GM_MIGRATE_BY_ZSTD:
		return is_packed && (features & GM_MIGRATE_ZSTD);
	case GM_MIGRATE_BY_LZ4:
		return is_packed && (features & GM_MIGRATE_LZ4);
	case GM_MIGRATE_ZEROS:
	case GM_MIGRATE_LOST:
		return pages->stored == 0;
	default:
		return false;
	}
}

int gm_migrate_get_pages(const uint8_t *bytes, uint32_t len,
	const struct gm_migrate_region *regions, uint32_t nr, uint32_t pages_max, uint32_t features,
	struct gm_migrate_pages *ret, const char **ret_why)
{
	struct gm_migrate_pages pages = {
		.kind = gm_get_le32(bytes + 16), .stored = gm_get_le32(bytes + 20)};

	if (gm_migrate_get_place(bytes, regions, nr, &pages.place, ret_why))
		return -EPROTO;
	if (pages.place.nr > pages_max || pages.place.nr > GM_MIGRATE_PAGES_MAX)
		return no(ret_why, "a message has more pages than were agreed on");
	if (len < GM_MIGRATE_PAGES_HEAD || pages.stored != len - GM_MIGRATE_PAGES_HEAD)
		return no(ret_why, "pages are not as long as their message");
	if (!is_whole(&pages, pages.place.nr << GM_MIGRATE_PAGE_LOG2, features))
		return no(ret_why, "pages are of no kind, or not as their kind has to be");
	*ret = pages;
	return 0;
}

void gm_migrate_put_switch(uint64_t state_len, uint8_t *bytes)
{
	gm_put_le(bytes, 8, state_len);
}

int gm_migrate_get_switch(const uint8_t *bytes, uint64_t *ret_state_len, const char **ret_why)
{
	uint64_t state_len = gm_get_le(bytes, 8);

	if (state_len > GM_MIGRATE_STATE_MAX)
		return no(ret_why, "the state is longer than can be");
	*ret_state_len = state_len;
	return 0;
}

uint32_t gm_migrate_bits_len(const struct gm_migrate_place *place)
{
	return place->nr / 8 + (place->nr % 8 != 0);
}

int gm_migrate_check_bits(const struct gm_migrate_place *place, const uint8_t *bits, uint32_t len,
	const char **ret_why)
{
	if (len == 0 || len > GM_MIGRATE_BITS_MAX || len != gm_migrate_bits_len(place))
		return no(ret_why, "a bitmap is not as long as its place");
	if (place->nr % 8 && bits[len - 1] >> (place->nr % 8))
		return no(ret_why, "a bitmap has bits behind its last page");
	return 0;
}

/* Bytes of the printable character of UTF-8 that so many bytes begin with, 0 if they do not. */
static size_t character(const uint8_t *bytes, size_t len)
{
	/* Each form: its first byte from, to; its second from, to. Others are 0x80 to 0xbf. */
	static const struct {
		uint8_t first;
		uint8_t last;
		uint8_t second;
		uint8_t second_last;
		uint8_t len;
	} forms[] = {
		{0xc2, 0xc2, 0xa0, 0xbf, 2}, /* below are control characters */
		{0xc3, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, /* above are surrogates */
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	if (bytes[0] < 0x80)
		return bytes[0] >= 0x20 && bytes[0] != 0x7f;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (bytes[0] < forms[i].first || bytes[0] > forms[i].last)
			continue;
		if (len < forms[i].len || bytes[1] < forms[i].second ||
			bytes[1] > forms[i].second_last)
			return 0;
		for (size_t j = 2; j < forms[i].len; j++) {
			if (bytes[j] < 0x80 || bytes[j] > 0xbf)
				return 0;
		}
		return forms[i].len;
	}
	return 0;
}

/* Whole characters, as far as there is room for them. Returns their bytes. */
static uint32_t clean(const uint8_t *from, size_t len, uint8_t *to)
{
	uint32_t done = 0;

	while (len) {
		size_t taken = character(from, len);
		size_t width = taken ? taken : 1;

		if (width > GM_MIGRATE_TEXT_MAX - done)
			break;
		if (taken)
			memcpy(to + done, from, taken);
		else
			to[done] = '?';
		done += (uint32_t)width;
		from += width;
		len -= width;
	}
	return done;
}

uint32_t gm_migrate_put_text(const char *text, uint8_t *bytes)
{
	return clean((const uint8_t *)text, strlen(text), bytes);
}

void gm_migrate_get_text(const uint8_t *bytes, uint32_t len, char *ret)
{
	ret[clean(bytes, len, (uint8_t *)ret)] = '\0';
}
