/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flatten.c - a sweep from low to high addresses.
 *
 * A heap holds the inputs that have begun, highest priority on top. Between two events (an
 * input begins, the top ends) the top shows.
 */
#include "core/flatten.h"

#include <stdlib.h>

static int by_first(const void *a, const void *b)
{
	const struct gm_flat_in *x = a;
	const struct gm_flat_in *y = b;

	return (x->range.first > y->range.first) - (x->range.first < y->range.first);
}

static int by_priority(const void *a, const void *b)
{
	const struct gm_flat_in *x = a;
	const struct gm_flat_in *y = b;

	if (x->priority != y->priority)
		return x->priority > y->priority ? -1 : 1;
	return by_first(a, b);
}

static bool above(const struct gm_flat_in *in, uint32_t a, uint32_t b)
{
	return in[a].priority > in[b].priority;
}

static void heap_push(const struct gm_flat_in *in, uint32_t *heap, size_t nr, uint32_t new)
{
	size_t at = nr;

	while (at > 0 && above(in, new, heap[(at - 1) / 2])) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = new;
}

/* Removes the top of a heap of @nr. */
static void heap_pop(const struct gm_flat_in *in, uint32_t *heap, size_t nr)
{
	uint32_t moved = heap[nr - 1];
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= nr - 1)
			break;
		if (child + 1 < nr - 1 && above(in, heap[child + 1], heap[child]))
			child++;
		if (!above(in, heap[child], moved))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = moved;
}

/* Appends [first, last] of @item, merged with a piece of the same item right before it. */
static size_t emit(struct gm_flat_out *out, size_t nr, uint64_t first, uint64_t last, uint32_t item)
{
	struct gm_range piece = {.first = first, .last = last};

	if (nr > 0 && out[nr - 1].item == item && gm_range_precedes(&out[nr - 1].range, &piece)) {
		out[nr - 1].range.last = last;
		return nr;
	}
	out[nr] = (struct gm_flat_out){.range = piece, .item = item};
	return nr + 1;
}

size_t gm_flatten(struct gm_flat_in *in, size_t nr, uint32_t *heap, struct gm_flat_out *ret)
{
	size_t nr_heap = 0;
	size_t nr_out = 0;
	size_t next = 0;
	uint64_t at = 0;

	qsort(in, nr, sizeof(*in), by_first);
	while (next < nr || nr_heap > 0) {
		const struct gm_flat_in *top;
		uint64_t last;

		/* Drop what has ended, then jump to the next beginning if nothing shows here. */
		while (nr_heap > 0 && in[heap[0]].range.last < at)
			heap_pop(in, heap, nr_heap--);
		if (nr_heap == 0) {
			if (next == nr)
				break;
			if (in[next].range.first > at)
				at = in[next].range.first;
		}
		while (next < nr && in[next].range.first <= at)
			heap_push(in, heap, nr_heap++, (uint32_t)next++);

		top = &in[heap[0]];
		last = top->range.last;
		if (next < nr && in[next].range.first <= last)
			last = in[next].range.first - 1;
		nr_out = emit(ret, nr_out, at, last, top->item);
		if (last == UINT64_MAX)
			break;
		at = last + 1;
	}
	return nr_out;
}

bool gm_flatten_clash(struct gm_flat_in *in, size_t nr, uint64_t *ret_addr)
{
	bool clash = false;
	uint64_t last = 0;

	/* Among equals in rising order, the first that begins before an earlier one has ended. */
	qsort(in, nr, sizeof(*in), by_priority);
	for (size_t i = 0; i < nr; i++) {
		if (i == 0 || in[i].priority != in[i - 1].priority) {
			last = in[i].range.last;
			continue;
		}
		if (in[i].range.first <= last && (!clash || in[i].range.first < *ret_addr)) {
			clash = true;
			*ret_addr = in[i].range.first;
		}
		/* Behind a clash it does not matter: what follows among equals lies higher. */
		last = in[i].range.last;
	}
	return clash;
}
