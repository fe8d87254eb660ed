/* SPDX-License-Identifier: BSD-3-Clause */
/* wset.c - see wset.h. */
#include "core/wset.h"

#include <errno.h>
#include <string.h>

#include "core/bytes.h"

static const uint8_t magic[8] = {0x89, 'G', 'M', 'W', 'S', 'E', 'T', '\n'};

/* ---- stretches ---- */

void gm_wset_push(struct gm_wset_stretch *stretches, size_t *nr, uint32_t first, uint32_t pages,
	uint32_t seen)
{
	struct gm_wset_stretch *before = *nr ? &stretches[*nr - 1] : NULL;

	if (before && before->seen == seen && first - before->first == before->nr) {
		before->nr += pages;
		return;
	}
	stretches[(*nr)++] = (struct gm_wset_stretch){
		.first = first,
		.nr = pages,
		.rank = before ? before->rank + before->nr : 0,
		.seen = seen,
	};
}

/* What is left of a list of stretches. */
struct rest {
	const struct gm_wset_stretch *at;
	const struct gm_wset_stretch *end;
	uint32_t first; /* of *at that is left */
};

static struct rest rest_of(const struct gm_wset_stretch *stretches, size_t nr)
{
	return (struct rest){stretches, stretches + nr, nr ? stretches->first : 0};
}

static uint32_t left_of(const struct rest *r)
{
	return r->at->nr - (r->first - r->at->first);
}

/* Is page @at in it; and for how many pages from there on is that so, of *nr? */
static bool is_in(const struct rest *r, uint32_t at, uint32_t *nr)
{
	bool in = r->at < r->end && r->first == at;
	uint32_t same = r->at == r->end ? UINT32_MAX : in ? left_of(r) : r->first - at;

	if (*nr > same)
		*nr = same;
	return in;
}

static void advance(struct rest *r, uint32_t nr)
{
	r->first += nr;
	if (r->first - r->at->first == r->at->nr && ++r->at < r->end)
		r->first = r->at->first;
}

size_t gm_wset_join(const struct gm_wset_stretch *a, size_t nr_a, const struct gm_wset_stretch *b,
	size_t nr_b, uint32_t recordings, struct gm_wset_stretch *to)
{
	struct rest ra = rest_of(a, nr_a);
	struct rest rb = rest_of(b, nr_b);
	size_t nr = 0;

	while (ra.at < ra.end || rb.at < rb.end) {
		bool a_first = rb.at == rb.end || (ra.at < ra.end && ra.first < rb.first);
		uint32_t at = a_first ? ra.first : rb.first;
		uint32_t same = UINT32_MAX;
		bool in_a = is_in(&ra, at, &same);
		bool in_b = is_in(&rb, at, &same);
		uint32_t seen = in_b ? rb.at->seen : 0;

		if (in_a && recordings < GM_WSET_RECORDINGS)
			seen |= ra.at->seen << recordings;
		if (seen)
			gm_wset_push(to, &nr, at, same, seen);
		if (in_a)
			advance(&ra, same);
		if (in_b)
			advance(&rb, same);
	}
	return nr;
}

size_t gm_wset_keep(struct gm_wset_stretch *stretches, size_t nr, uint32_t last, uint32_t least)
{
	uint32_t mask = last < GM_WSET_RECORDINGS ? (UINT32_C(1) << last) - 1 : UINT32_MAX;
	size_t kept = 0;

	for (size_t i = 0; i < nr; i++) {
		struct gm_wset_stretch s = stretches[i];

		if (s.seen & mask && (uint32_t)__builtin_popcount(s.seen & mask) >= least)
			gm_wset_push(stretches, &kept, s.first, s.nr, s.seen & mask);
	}
	return kept;
}

size_t gm_wset_find(const struct gm_wset_stretch *stretches, size_t nr, uint32_t page)
{
	size_t low = 0;
	size_t high = nr;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (stretches[mid].first > page || page - stretches[mid].first < stretches[mid].nr)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

bool gm_wset_rank(
	const struct gm_wset_stretch *stretches, size_t nr, uint32_t page, uint32_t *ret_rank)
{
	size_t at = gm_wset_find(stretches, nr, page);

	if (at == nr || stretches[at].first > page)
		return false;
	*ret_rank = stretches[at].rank + (page - stretches[at].first);
	return true;
}

uint32_t gm_wset_page(const struct gm_wset_stretch *stretches, size_t nr, uint32_t rank)
{
	size_t low = 0;
	size_t high = nr - 1;

	while (low < high) {
		size_t mid = low + (high - low + 1) / 2;

		if (stretches[mid].rank <= rank)
			low = mid;
		else
			high = mid - 1;
	}
	return stretches[low].first + (rank - stretches[low].rank);
}

/* ---- numbers: seven bits a byte, the lowest first, the last byte below 128 ---- */

static unsigned int size_of(uint64_t value)
{
	unsigned int nr = 1;

	while (value >>= 7)
		nr++;
	return nr;
}

static uint8_t *put(uint8_t *to, uint64_t value)
{
	while (value >= 128) {
		*to++ = (uint8_t)(value | 128);
		value >>= 7;
	}
	*to++ = (uint8_t)value;
	return to;
}

struct reading {
	const uint8_t *at;
	const uint8_t *end;
};

/* The next number, of at most 33 bits, in its shortest form. */
static bool get(struct reading *r, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 35; shift += 7) {
		uint8_t byte;

		if (r->at == r->end)
			return false;
		byte = *r->at++;
		value |= (uint64_t)(byte & 127) << shift;
		if (byte < 128) {
			*ret = value;
			return byte != 0 || shift == 0;
		}
	}
	return false;
}

/* A rank by its distance from the one that would follow: 0, -1, 1, -2 ... as 0, 1, 2, 3 ... */
static uint64_t fold(uint32_t rank, uint32_t expected)
{
	return rank >= expected ? (uint64_t)(rank - expected) * 2
				: (uint64_t)(expected - rank) * 2 - 1;
}

static bool unfold(uint64_t folded, uint32_t expected, uint32_t pages, uint32_t *ret)
{
	uint64_t by = folded / 2 + folded % 2;

	if (folded % 2 ? by > expected : by >= pages - (uint64_t)expected)
		return false;
	*ret = (uint32_t)(folded % 2 ? expected - by : expected + by);
	return true;
}

/* ---- bytes ---- */

static uint64_t size_of_stretch(
	const struct gm_wset_stretch *s, uint32_t behind, uint32_t recordings)
{
	return size_of(s->first - behind) + size_of(s->nr - 1) +
	       (recordings > 1 ? size_of(s->seen) : 0);
}

uint64_t gm_wset_measure(const struct gm_wset_body *body, size_t *ret_ordered)
{
	uint64_t most = GM_WSET_HEAD + GM_WSET_SUM + gm_wset_pages_of(body->len) / 8 +
			(uint64_t)body->pages * 2;
	uint64_t len = GM_WSET_HEAD + GM_WSET_SUM;
	uint32_t expected = 0;
	uint32_t behind = 0;
	size_t i;

	for (i = 0; i < body->nr_stretches; i++) {
		const struct gm_wset_stretch *s = &body->stretches[i];

		len += size_of_stretch(s, behind, body->recordings);
		most += body->recordings > 1 ? size_of(s->seen) : 0;
		behind = s->first + s->nr;
	}
	/* What was touched late, and does not fit, comes in the order of pages. */
	for (i = 0; i < body->nr_order; i++) {
		unsigned int size = size_of(fold(body->order[i], expected));

		if (len >= most || size > most - len)
			break;
		len += size;
		expected = body->order[i] + 1;
	}
	*ret_ordered = i;
	return len;
}

void gm_wset_encode(const struct gm_wset_body *body, size_t ordered, uint8_t *bytes, uint64_t len)
{
	uint8_t *to = bytes + GM_WSET_HEAD;
	uint32_t expected = 0;
	uint32_t behind = 0;

	memset(bytes, 0, GM_WSET_HEAD);
	memcpy(bytes, magic, sizeof(magic));
	gm_put_le(bytes + 8, 4, GM_WSET_VERSION);
	gm_put_le(bytes + 12, 4, GM_WSET_HEAD);
	memcpy(bytes + 16, body->identity, 16);
	gm_put_le(bytes + 32, 8, body->len);
	gm_put_le(bytes + 40, 4, body->recordings);
	gm_put_le(bytes + 48, 8, body->pages);
	gm_put_le(bytes + 56, 8, body->nr_stretches);
	gm_put_le(bytes + 64, 8, ordered);
	gm_put_le(bytes + 72, 8, len);
	for (size_t i = 0; i < body->nr_stretches; i++) {
		const struct gm_wset_stretch *s = &body->stretches[i];

		to = put(to, s->first - behind);
		to = put(to, s->nr - 1);
		if (body->recordings > 1)
			to = put(to, s->seen);
		behind = s->first + s->nr;
	}
	for (size_t i = 0; i < ordered; i++) {
		to = put(to, fold(body->order[i], expected));
		expected = body->order[i] + 1;
	}
}

static int no(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EPROTO;
}

int gm_wset_look(const uint8_t *bytes, uint64_t len, uint32_t *ret_version, const char **ret_why)
{
	if (len < GM_WSET_HEAD + GM_WSET_SUM || memcmp(bytes, magic, sizeof(magic)) != 0)
		return no(ret_why, "no file of a recorded working set");
	*ret_version = gm_get_le32(bytes + 8);
	if (*ret_version == GM_WSET_VERSION)
		return 0;
	*ret_why = "another version";
	return -ENOTSUP;
}

int gm_wset_get_head(
	const uint8_t *bytes, uint64_t len, struct gm_wset_body *ret_body, const char **ret_why)
{
	struct gm_wset_body body = {
		.len = gm_get_le(bytes + 32, 8),
		.recordings = gm_get_le32(bytes + 40),
	};
	uint64_t pages = gm_get_le(bytes + 48, 8);
	uint64_t stretches = gm_get_le(bytes + 56, 8);
	uint64_t ordered = gm_get_le(bytes + 64, 8);
	uint64_t room = len - GM_WSET_HEAD - GM_WSET_SUM;

	if (gm_get_le32(bytes + 12) != GM_WSET_HEAD || gm_get_le32(bytes + 44) != 0)
		return no(ret_why, "a reserved field is not 0, or its header has another length");
	if (gm_get_le(bytes + 72, 8) != len)
		return no(ret_why, "it is shorter or longer than it says");
	if (body.len == 0 || body.len > GM_WSET_LEN_MAX)
		return no(ret_why, "its image has no possible length");
	if (body.recordings == 0 || body.recordings > GM_WSET_RECORDINGS)
		return no(ret_why, "it has no possible number of recordings");
	/* A stretch takes two bytes or three, a page of the order one. */
	if (pages > gm_wset_pages_of(body.len) || stretches > pages || stretches > room / 2 ||
		ordered > pages || ordered > room - stretches * 2)
		return no(ret_why, "it says that it has more than it has room for");
	memcpy(body.identity, bytes + 16, sizeof(body.identity));
	body.pages = (uint32_t)pages;
	body.nr_stretches = stretches;
	body.nr_order = ordered;
	*ret_body = body;
	return 0;
}

/* The next stretch, behind page @behind of @all. */
static bool get_stretch(struct reading *r, uint64_t behind, uint64_t all, uint32_t recordings,
	struct gm_wset_stretch *ret)
{
	uint64_t gap;
	uint64_t more;
	uint64_t seen = 1;

	if (!get(r, &gap) || !get(r, &more) || (recordings > 1 && !get(r, &seen)))
		return false;
	if (gap >= all - behind || more >= all - behind - gap)
		return false;
	if (seen == 0 || seen >> recordings != 0)
		return false;
	ret->first = (uint32_t)(behind + gap);
	ret->nr = (uint32_t)more + 1;
	ret->seen = (uint32_t)seen;
	return true;
}

int gm_wset_get_body(const uint8_t *bytes, uint64_t len, const struct gm_wset_body *head,
	struct gm_wset_stretch *stretches, uint32_t *order, const char **ret_why)
{
	struct reading r = {bytes + GM_WSET_HEAD, bytes + len - GM_WSET_SUM};
	uint64_t all = gm_wset_pages_of(head->len);
	uint64_t behind = 0;
	uint32_t pages = 0;
	uint32_t expected = 0;

	for (size_t i = 0; i < head->nr_stretches; i++) {
		struct gm_wset_stretch *s = &stretches[i];

		if (!get_stretch(&r, behind, all, head->recordings, s))
			return no(ret_why, "a stretch of pages does not lie in the image");
		if (i > 0 && s->first == behind && s->seen == stretches[i - 1].seen)
			return no(ret_why, "two stretches are one");
		s->rank = pages;
		pages += s->nr;
		behind = (uint64_t)s->first + s->nr;
	}
	if (pages != head->pages)
		return no(ret_why, "it has more or fewer pages than it says");
	for (size_t i = 0; i < head->nr_order; i++) {
		uint64_t folded;

		if (!get(&r, &folded) || !unfold(folded, expected, pages, &order[i]))
			return no(ret_why, "a page of the order is not in the set");
		expected = order[i] + 1;
	}
	return r.at == r.end ? 0 : no(ret_why, "there are bytes behind its end");
}

bool gm_wset_is_distinct(const uint32_t *sorted, size_t nr)
{
	for (size_t i = 1; i < nr; i++) {
		if (sorted[i] == sorted[i - 1])
			return false;
	}
	return true;
}
