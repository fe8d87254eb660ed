/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_wset.c - any bytes as a file of a recorded working set, as they are and once more with length and room for the
 * sum made right. What is accepted holds together, and is the same bytes when it is written.
 *
 * An input is the file without its sum, which is no affair of the decoder.
 */
#include <stdlib.h>
#include <string.h>

#include "core/sort.h"
#include "core/wset.h"

static void must(int what)
{
	if (!what)
		abort();
}

static void check_stretches(const struct gm_wset_body *body)
{
	uint64_t pages = 0;
	uint64_t behind = 0;

	for (size_t i = 0; i < body->nr_stretches; i++) {
		const struct gm_wset_stretch *s = &body->stretches[i];
		uint32_t rank;

		must(s->nr > 0 && s->first >= behind && s->rank == pages && s->seen != 0);
		must(i == 0 || s->first > behind || s->seen != body->stretches[i - 1].seen);
		must(gm_wset_rank(body->stretches, body->nr_stretches, s->first, &rank) &&
			rank == s->rank);
		must(gm_wset_page(body->stretches, body->nr_stretches, s->rank) == s->first);
		pages += s->nr;
		behind = (uint64_t)s->first + s->nr;
	}
	must(pages == body->pages && behind <= gm_wset_pages_of(body->len));
}

/* A set with itself: each page was seen twice as often, and none is more or less. */
static void check_join(const struct gm_wset_body *body)
{
	struct gm_wset_stretch *both = malloc((4 * body->nr_stretches + 1) * sizeof(*both));
	size_t nr;

	must(both != NULL);
	nr = gm_wset_join(body->stretches, body->nr_stretches, body->stretches, body->nr_stretches,
		body->recordings, both);
	must(nr == body->nr_stretches);
	for (size_t i = 0; i < nr; i++) {
		uint32_t seen = body->stretches[i].seen;

		if (body->recordings < 32)
			seen |= seen << body->recordings;
		must(both[i].first == body->stretches[i].first &&
			both[i].nr == body->stretches[i].nr && both[i].seen == seen);
	}
	must(gm_wset_keep(both, nr, 32, 33) == 0);
	free(both);
}

static void check_bytes(const struct gm_wset_body *body, const uint8_t *bytes, uint64_t len)
{
	size_t ordered;
	uint64_t again = gm_wset_measure(body, &ordered);
	uint8_t *copy = malloc(again);

	must(copy != NULL && ordered <= body->nr_order);
	gm_wset_encode(body, ordered, copy, again);
	if (ordered == body->nr_order)
		must(again == len && memcmp(copy, bytes, len - GM_WSET_SUM) == 0);
	free(copy);
}

static void look_at(const uint8_t *bytes, uint64_t len)
{
	struct gm_wset_stretch *stretches;
	struct gm_wset_body body;
	const char *why = NULL;
	uint32_t version;
	uint32_t *order;

	if (gm_wset_look(bytes, len, &version, &why) || gm_wset_get_head(bytes, len, &body, &why)) {
		must(why != NULL);
		return;
	}
	must(body.nr_stretches <= len && body.nr_order <= len);
	stretches = malloc((body.nr_stretches + 1) * sizeof(*stretches));
	order = malloc((body.nr_order + 1) * sizeof(*order));
	must(stretches != NULL && order != NULL);
	if (gm_wset_get_body(bytes, len, &body, stretches, order, &why)) {
		must(why != NULL);
	} else {
		body.stretches = stretches;
		body.order = order;
		check_stretches(&body);
		check_join(&body);
		check_bytes(&body, bytes, len);
		gm_sort_u32(order, body.nr_order);
		must(body.nr_order == 0 || order[body.nr_order - 1] < body.pages);
		gm_wset_is_distinct(order, body.nr_order);
	}
	free(stretches);
	free(order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t len = size + GM_WSET_SUM;
	uint8_t *bytes = calloc(1, len);

	must(bytes != NULL);
	if (size)
		memcpy(bytes, data, size);
	look_at(bytes, len);
	if (size >= GM_WSET_HEAD) {
		memcpy(bytes + 72, &len, sizeof(len));
		look_at(bytes, len);
	}
	free(bytes);
	return 0;
}
