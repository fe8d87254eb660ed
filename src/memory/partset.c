/* SPDX-License-Identifier: BSD-3-Clause */
/* partset.c - see partset.h. */
#include "memory/partset.h"

#include <string.h>

#include "core/partbits.h"
#include "memory/block.h"
#include "sys/sys.h"

#define CHUNK_WORDS 512u
#define CHUNK ((uint64_t)CHUNK_WORDS * GM_PARTBITS_WORD) /* granules */

struct chunk {
	uint32_t refs;
	uint64_t words[CHUNK_WORDS];
};

/* ---- slots ---- */

static bool is_uniform(uintptr_t slot)
{
	return slot & 1;
}

static uintptr_t uniform(uint32_t state)
{
	return 2 * (uintptr_t)state + 1;
}

static uint32_t state_of(uintptr_t slot)
{
	return (uint32_t)(slot / 2);
}

static struct chunk *chunk_of(uintptr_t slot)
{
	return (struct chunk *)slot;
}

static void get_slot(uintptr_t slot)
{
	if (!is_uniform(slot))
		chunk_of(slot)->refs++;
}

static void put_slot(uintptr_t slot)
{
	if (!is_uniform(slot) && --chunk_of(slot)->refs == 0)
		gm_sys_free(chunk_of(slot));
}

static uint64_t nr_slots(uint64_t nr)
{
	return (nr + CHUNK - 1) / CHUNK;
}

/* Granules of a set in a slot. */
static uint64_t in_slot(const struct gm_partset *set, uint64_t i)
{
	return set->nr - i * CHUNK < CHUNK ? set->nr - i * CHUNK : CHUNK;
}

/* ---- sets ---- */

static struct gm_partset *alloc_set(uint64_t nr)
{
	struct gm_partset *set = gm_sys_alloc(sizeof(*set) + nr_slots(nr) * sizeof(*set->slots));

	if (set) {
		set->refs = 1;
		set->nr = nr;
	}
	return set;
}

struct gm_partset *gm_partset_make(uint64_t len, uint64_t granule, uint32_t state,
	struct gm_block *private_block, uint64_t private_off)
{
	uint32_t shift = (uint32_t)__builtin_ctzll(granule);
	struct gm_partset *set = alloc_set(len >> shift);

	if (!set)
		return NULL;
	set->shift = shift;
	set->initial = state;
	set->counts[state] = set->nr;
	set->private_block = private_block ? gm_block_get(private_block) : NULL;
	set->private_off = private_off;
	for (uint64_t i = 0; i < nr_slots(set->nr); i++)
		set->slots[i] = uniform(state);
	return set;
}

void gm_partset_put(struct gm_partset *set)
{
	if (!set || --set->refs > 0)
		return;
	for (uint64_t i = 0; i < nr_slots(set->nr); i++)
		put_slot(set->slots[i]);
	gm_block_put(set->private_block);
	gm_sys_free(set);
}

static uint64_t count(
	const struct gm_partset *set, uint64_t i, uint64_t from, uint64_t nr, uint32_t state)
{
	if (is_uniform(set->slots[i]))
		return state_of(set->slots[i]) == state ? nr : 0;
	return gm_partbits_count(chunk_of(set->slots[i])->words, from, nr, state);
}

/* A chunk of the set's own in a slot, with the states that are there. */
static bool own_chunk(struct gm_partset *set, uint64_t i)
{
	uintptr_t slot = set->slots[i];
	struct chunk *chunk;

	if (!is_uniform(slot) && chunk_of(slot)->refs == 1)
		return true;
	chunk = gm_sys_alloc(sizeof(*chunk));
	if (!chunk)
		return false;
	if (is_uniform(slot))
		gm_partbits_set(chunk->words, 0, CHUNK, state_of(slot));
	else
		memcpy(chunk->words, chunk_of(slot)->words, sizeof(chunk->words));
	chunk->refs = 1;
	put_slot(slot);
	set->slots[i] = (uintptr_t)chunk;
	return true;
}

/* The part of granules [at, end) that lies in the slot of @at. */
struct stretch {
	uint64_t slot;
	uint64_t from; /* in the slot */
	uint64_t nr;
};

static struct stretch stretch_at(uint64_t at, uint64_t end)
{
	struct stretch s = {.slot = at / CHUNK, .from = at % CHUNK, .nr = CHUNK - at % CHUNK};

	if (s.nr > end - at)
		s.nr = end - at;
	return s;
}

/* All that the set has in a slot needs no chunk. */
static bool is_whole(const struct gm_partset *set, const struct stretch *s)
{
	return s->nr == in_slot(set, s->slot);
}

static void make_uniform(struct gm_partset *set, uint64_t i, uint32_t state)
{
	put_slot(set->slots[i]);
	set->slots[i] = uniform(state);
}

static void set_stretch(struct gm_partset *set, const struct stretch *s, uint32_t state)
{
	uint64_t *words;

	for (uint32_t other = 0; other < GM_PART_STATES; other++)
		set->counts[other] -= count(set, s->slot, s->from, s->nr, other);
	set->counts[state] += s->nr;
	if (is_whole(set, s)) {
		make_uniform(set, s->slot, state);
		return;
	}
	words = chunk_of(set->slots[s->slot])->words;
	gm_partbits_set(words, s->from, s->nr, state);
	if (gm_partbits_run(words, 0, in_slot(set, s->slot)) == in_slot(set, s->slot))
		make_uniform(set, s->slot, state);
}

bool gm_partset_set(struct gm_partset *set, uint64_t off, uint64_t len, uint32_t state)
{
	uint64_t from = off >> set->shift;
	uint64_t end = from + (len >> set->shift);
	struct stretch s;

	/* Memory first: at most two of them are not whole. */
	for (uint64_t at = from; at < end; at += s.nr) {
		s = stretch_at(at, end);
		if (!is_whole(set, &s) && !own_chunk(set, s.slot))
			return false;
	}
	for (uint64_t at = from; at < end; at += s.nr) {
		s = stretch_at(at, end);
		set_stretch(set, &s, state);
	}
	return true;
}

struct gm_partset *gm_partset_resized(const struct gm_partset *set, uint64_t len)
{
	uint64_t nr = len >> set->shift;
	uint64_t common = nr < set->nr ? nr : set->nr;
	struct gm_partset *ret = alloc_set(nr);

	if (!ret)
		return NULL;
	ret->shift = set->shift;
	ret->initial = set->initial;
	ret->private_off = set->private_off;
	ret->private_block = set->private_block ? gm_block_get(set->private_block) : NULL;
	for (uint64_t i = 0; i < nr_slots(nr); i++) {
		ret->slots[i] = i < nr_slots(common) ? set->slots[i] : uniform(set->initial);
		get_slot(ret->slots[i]);
		for (uint32_t state = 0; state < GM_PART_STATES; state++)
			ret->counts[state] += count(ret, i, 0, in_slot(ret, i), state);
	}
	/* What is behind the old end in its last chunk may be from a longer time. */
	if (nr > common && !gm_partset_set(ret, common << set->shift, (nr - common) << set->shift,
				   set->initial)) {
		gm_partset_put(ret);
		return NULL;
	}
	return ret;
}

uint32_t gm_partset_run(const struct gm_partset *set, uint64_t off, uint64_t len, uint64_t *ret_len)
{
	uint64_t granule = gm_partset_granule(set);
	uint64_t at = off >> set->shift;
	uint64_t end = (off + (len - 1)) / granule + 1;
	uint32_t state = GM_PART_STATES;

	while (at < end) {
		struct stretch s = stretch_at(at, end);
		uintptr_t slot = set->slots[s.slot];
		uint32_t here = is_uniform(slot) ? state_of(slot)
						 : gm_partbits_get(chunk_of(slot)->words, s.from);
		uint64_t nr = s.nr;

		if (state != GM_PART_STATES && here != state)
			break;
		state = here;
		if (!is_uniform(slot))
			nr = gm_partbits_run(chunk_of(slot)->words, s.from, s.nr);
		at += nr;
		if (nr < s.nr)
			break;
	}
	*ret_len = (at << set->shift) - off;
	if (*ret_len > len)
		*ret_len = len;
	return state;
}
