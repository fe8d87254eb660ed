/* SPDX-License-Identifier: BSD-3-Clause */
/* wset_record.c - recorders: first touches noted without waiting, and what they are as a set. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/error.h"
#include "services/wset.h"
#include "sys/sys.h"

#define ORDER_USUAL (UINT64_C(1) << 20)
#define WORD_BITS 64u

int gm_wset_recorder_create(const struct gm_wset_recorder_opts *opts,
	struct gm_wset_recorder **ret_recorder, struct gm_error *err)
{
	struct gm_wset_recorder_opts copy;
	struct gm_wset_recorder *r;
	uint64_t words;
	void *at;
	int rc = gm_opts_copy(&copy, sizeof(copy), opts, sizeof(copy));

	if (rc)
		return gm_opts_error(err, rc, "a recorder");
	if (copy.len == 0 || copy.len > GM_WSET_LEN_MAX || copy.order > UINT32_MAX || copy.flags ||
		copy.reserved)
		return gm_error_set(err, -EINVAL, 0, copy.len,
			"recorder: the image has no possible length, or an option is out of "
			"bounds");
	r = gm_sys_alloc(sizeof(*r));
	if (!r)
		return gm_error_set(err, -ENOMEM, 0, 0, "recorder: out of memory");
	r->refs = 1;
	r->len = copy.len;
	r->pages = gm_wset_pages_of(copy.len);
	r->room = copy.order ? copy.order : ORDER_USUAL;
	if (r->room > r->pages)
		r->room = r->pages;
	words = (r->pages - 1) / WORD_BITS + 1;
	r->memory_len = words * 8 + r->room * 4;
	/* Its pages come when they are written to. */
	rc = gm_sys_mmap(NULL, r->memory_len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, &at);
	if (rc) {
		gm_sys_free(r);
		return gm_error_set(
			err, rc, 0, 0, "recorder: no room for its pages: %s", gm_error_word(rc));
	}
	r->memory = at;
	r->seen = at;
	r->log = (uint32_t *)(r->seen + words);
	*ret_recorder = r;
	return 0;
}

struct gm_wset_recorder *gm_wset_recorder_get(struct gm_wset_recorder *recorder)
{
	__atomic_fetch_add(&recorder->refs, 1, __ATOMIC_RELAXED);
	return recorder;
}

void gm_wset_recorder_destroy(struct gm_wset_recorder *recorder)
{
	/* Pairs with those of others: what they did with it has been done. */
	if (!recorder || __atomic_sub_fetch(&recorder->refs, 1, __ATOMIC_ACQ_REL))
		return;
	gm_sys_munmap(recorder->memory, recorder->memory_len);
	gm_sys_free(recorder);
}

void gm_wset_recorder_note(struct gm_wset_recorder *recorder, uint64_t off)
{
	gm_wset_note(recorder, off);
}

void gm_wset_recorder_stop(struct gm_wset_recorder *recorder, bool stop)
{
	__atomic_store_n(&recorder->stopped, stop, __ATOMIC_RELAXED);
}

/* ---- as a set ---- */

/* The next run of ones in a copied word, from bit @from on; 0: there is none. */
static unsigned int next_ones(uint64_t word, unsigned int from, unsigned int *ret_first)
{
	uint64_t rest = word >> from;
	unsigned int nr;

	if (rest == 0)
		return 0;
	*ret_first = from + (unsigned int)__builtin_ctzll(rest);
	rest = ~(word >> *ret_first);
	nr = rest ? (unsigned int)__builtin_ctzll(rest) : WORD_BITS;
	return nr < WORD_BITS - *ret_first ? nr : WORD_BITS - *ret_first;
}

/* Stretches of the set bits, of @room at most; returns how many there are. Bits are set meanwhile. */
static size_t take_stretches(
	const struct gm_wset_recorder *r, struct gm_wset_stretch *to, size_t room, bool *ret_all)
{
	size_t nr = 0;

	*ret_all = true;
	for (uint64_t i = 0; i <= (r->pages - 1) / WORD_BITS; i++) {
		uint64_t word = __atomic_load_n(&r->seen[i], __ATOMIC_RELAXED);
		unsigned int first = 0;
		unsigned int ones;

		for (unsigned int at = 0; at < WORD_BITS; at = first + ones) {
			ones = next_ones(word, at, &first);
			if (ones == 0)
				break;
			if (nr == room) {
				*ret_all = false;
				return nr;
			}
			gm_wset_push(to, &nr, (uint32_t)(i * WORD_BITS + first), ones, 1);
		}
	}
	return nr;
}

static size_t count_stretches(const struct gm_wset_recorder *r)
{
	uint64_t before = 0;
	size_t nr = 0;

	for (uint64_t i = 0; i <= (r->pages - 1) / WORD_BITS; i++) {
		uint64_t word = __atomic_load_n(&r->seen[i], __ATOMIC_RELAXED);

		nr += (size_t)__builtin_popcountll(word & ~(word << 1 | before));
		before = word >> (WORD_BITS - 1);
	}
	return nr;
}

int gm_wset_recorder_take(struct gm_wset_recorder *recorder, const uint8_t identity[16],
	struct gm_wset **ret_set, struct gm_error *err)
{
	uint64_t logged = __atomic_load_n(&recorder->nr, __ATOMIC_RELAXED);
	size_t order = logged < recorder->room ? logged : recorder->room;
	struct gm_wset *set;
	size_t stretches;
	size_t ordered = 0;
	bool all;

	/* What is touched while they are counted needs more: a few, and then all there can be. */
	stretches = count_stretches(recorder) + 64;
	for (;;) {
		size_t nr;

		set = gm_wset_alloc(stretches, order);
		if (!set)
			return gm_error_set(err, -ENOMEM, 0, 0, "recorder: out of memory");
		nr = take_stretches(recorder, set->stretches, stretches, &all);
		if (all) {
			stretches = nr;
			break;
		}
		gm_wset_destroy(set);
		stretches = stretches * 2;
	}
	for (size_t i = 0; i < order; i++) {
		uint32_t page = __atomic_load_n(&recorder->log[i], __ATOMIC_RELAXED);

		if (page && gm_wset_rank(set->stretches, stretches, page - 1, &set->order[ordered]))
			ordered++;
	}
	memcpy(set->body.identity, identity, sizeof(set->body.identity));
	set->body.len = recorder->len;
	set->body.recordings = 1;
	gm_wset_finish(set, stretches, ordered);
	*ret_set = set;
	return 0;
}
