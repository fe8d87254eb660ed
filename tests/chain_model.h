/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * chain_model.h - a chain as a list of single bytes, and random work on both.
 *
 * Each byte of a side is an address; what is not in memory says so. It knows nothing of elements,
 * cursors or limits.
 */
#ifndef GM_TESTS_CHAIN_MODEL_H
#define GM_TESTS_CHAIN_MODEL_H

#include <errno.h>
#include <guestmem/access.h>
#include <guestmem/chain.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "random.h"

#define CHAIN_BYTES 40000u
#define CHAIN_STEP 600u /* most bytes of one operation */

struct chain_model {
	struct gm_chain chain;
	uint8_t *memory;
	uint64_t base;
	struct {
		uint64_t at[CHAIN_BYTES];
		size_t next;
		size_t nr;
		size_t total; /* consumed and left */
	} sides[2];
	uint64_t len;  /* of memory; nothing is around it */
	bool overlaps; /* of the sides: copying is undefined */
};

/* @memory is what guest memory at @base has, 64 KiB; it is worked on as guest memory is. */
static inline void chain_model_start(struct chain_model *m, const struct gm_chain_elem *elems,
	size_t nr, uint8_t *memory, uint64_t base)
{
	m->memory = memory;
	m->base = base;
	m->len = 65536;
	m->overlaps = false;
	for (size_t side = 0; side < 2; side++) {
		m->sides[side].next = 0;
		m->sides[side].nr = 0;
		for (size_t i = 0; i < nr; i++) {
			for (uint64_t j = 0; elems[i].flags == side && j < elems[i].len; j++)
				m->sides[side].at[m->sides[side].nr++] = elems[i].gpa + j;
		}
		m->sides[side].total = m->sides[side].nr;
	}
}

/* The @i-th byte from here on, or NULL if it is in no memory. */
static inline uint8_t *chain_model_byte(struct chain_model *m, size_t side, size_t i)
{
	uint64_t off = m->sides[side].at[m->sides[side].next + i] - m->base;

	return off < m->len ? &m->memory[off] : NULL;
}

/* Bytes of @len that can be had, and what is returned. */
static inline int chain_model_can(struct chain_model *m, size_t side, size_t len, size_t *ret_can)
{
	*ret_can = 0;
	if (len > m->sides[side].nr - m->sides[side].next)
		return side ? -ENOSPC : -ENODATA;
	while (*ret_can < len && chain_model_byte(m, side, *ret_can))
		++*ret_can;
	return *ret_can < len ? -EFAULT : 0;
}

static inline const char *chain_model_read(
	struct chain_model *m, const struct gm_view *view, size_t len, bool peek)
{
	uint8_t buf[CHAIN_STEP];
	size_t done = SIZE_MAX;
	size_t can;
	int want = chain_model_can(m, GM_CHAIN_READABLE, len, &can);
	int rc = peek ? gm_chain_peek(&m->chain, view, buf, len, &done)
		      : gm_chain_read(&m->chain, view, buf, len, &done);

	if (rc != want || done != can)
		return "reading returns something else";
	for (size_t i = 0; i < can; i++) {
		if (buf[i] != *chain_model_byte(m, GM_CHAIN_READABLE, i))
			return "other bytes are read";
	}
	if (!peek)
		m->sides[GM_CHAIN_READABLE].next += can;
	return NULL;
}

/* Without @buf a fill with @byte. */
static inline const char *chain_model_write(struct chain_model *m, const struct gm_view *view,
	const uint8_t *buf, uint8_t byte, size_t len)
{
	size_t done = SIZE_MAX;
	size_t can;
	int want = chain_model_can(m, GM_CHAIN_WRITABLE, len, &can);
	int rc = buf ? gm_chain_write(&m->chain, view, buf, len, &done)
		     : gm_chain_fill(&m->chain, view, byte, len, &done);

	if (rc != want || done != can)
		return "writing returns something else";
	for (size_t i = 0; i < can; i++)
		*chain_model_byte(m, GM_CHAIN_WRITABLE, i) = buf ? buf[i] : byte;
	m->sides[GM_CHAIN_WRITABLE].next += can;
	return NULL;
}

/* From one side to the other. Ranges of the sides do not overlap. */
static inline const char *chain_model_copy(
	struct chain_model *m, const struct gm_view *view, size_t len)
{
	size_t done = SIZE_MAX;
	size_t from;
	size_t to;
	int want = chain_model_can(m, GM_CHAIN_READABLE, len, &from);
	int other = chain_model_can(m, GM_CHAIN_WRITABLE, len, &to);
	int rc;

	if (m->overlaps)
		return NULL;
	rc = gm_chain_copy(&m->chain, view, &m->chain, view, len, &done);
	if (want != -ENODATA && (other == -ENOSPC || !want))
		want = other;
	if (from > to)
		from = to;
	if (want == -ENODATA || want == -ENOSPC)
		from = 0;
	if (rc != want || done != from)
		return "copying returns something else";
	for (size_t i = 0; i < from; i++)
		*chain_model_byte(m, GM_CHAIN_WRITABLE, i) =
			*chain_model_byte(m, GM_CHAIN_READABLE, i);
	m->sides[0].next += from;
	m->sides[1].next += from;
	return NULL;
}

static inline const char *chain_model_number(
	struct chain_model *m, const struct gm_view *view, uint64_t value)
{
	uint32_t seen = 0;
	size_t can;
	int want = chain_model_can(m, GM_CHAIN_READABLE, 4, &can);
	int rc = gm_chain_read_be32(&m->chain, view, &seen);

	if (rc != want)
		return "a number's reading returns something else";
	for (size_t i = 0; !rc && i < 4; i++) {
		if ((uint8_t)(seen >> (24 - 8 * i)) != *chain_model_byte(m, 0, i))
			return "another number is read";
	}
	if (!rc)
		m->sides[0].next += 4;
	want = chain_model_can(m, GM_CHAIN_WRITABLE, 8, &can);
	rc = gm_chain_write_le64(&m->chain, view, value);
	if (rc != want)
		return "a number's writing returns something else";
	/* A part of it may be there; it is not consumed. */
	for (size_t i = 0; i < can && want != -ENOSPC; i++)
		*chain_model_byte(m, GM_CHAIN_WRITABLE, i) = (uint8_t)(value >> (8 * i));
	if (!rc)
		m->sides[1].next += 8;
	return NULL;
}

/* Goes on with one of the two parts. */
static inline const char *chain_model_split(
	struct chain_model *m, enum gm_chain_side side, size_t len, bool rest)
{
	struct gm_chain behind;
	size_t left = m->sides[side].nr - m->sides[side].next;
	int rc = gm_chain_split(&m->chain, side, len, &behind);

	if (rc != (len <= left ? 0 : side ? -ENOSPC : -ENODATA))
		return "splitting returns something else";
	if (rc)
		return NULL;
	if (rest) {
		m->chain = behind;
		m->sides[side].next += len;
		m->sides[side].total = m->sides[side].nr - m->sides[side].next;
		m->sides[!side].nr = m->sides[!side].next;
		m->sides[!side].total = 0;
	} else {
		m->sides[side].nr = m->sides[side].next + len;
		m->sides[side].total -= left - len;
	}
	return NULL;
}

static inline const char *chain_model_state(const struct chain_model *m)
{
	for (unsigned int side = 0; side < 2; side++) {
		enum gm_chain_side which = side ? GM_CHAIN_WRITABLE : GM_CHAIN_READABLE;
		size_t left = m->sides[side].nr - m->sides[side].next;
		uint64_t gpa = 0;
		uint64_t n = gm_chain_range(&m->chain, which, &gpa);

		if (gm_chain_left(&m->chain, which) != left)
			return "something else is left";
		if (gm_chain_total(&m->chain, which) != m->sides[side].total ||
			gm_chain_done(&m->chain, which) != m->sides[side].total - left)
			return "something else is done";
		if (n > left || !n != !left)
			return "a range is longer than what is left, or empty";
		/* Some of it, its first and last byte among them. */
		for (uint64_t i = n ? n - 1 : 0; n; i = i > 64 ? i / 2 : i - 1) {
			if (m->sides[side].at[m->sides[side].next + i] != gpa + i)
				return "a range lies elsewhere";
			if (i == 0)
				break;
		}
	}
	return NULL;
}

static inline const char *chain_model_step(
	struct chain_model *m, const struct gm_view *view, struct rng *rng)
{
	uint8_t buf[CHAIN_STEP];
	size_t len = rng_below(rng, 4) ? rng_below(rng, 20) : rng_below(rng, CHAIN_STEP);
	unsigned int side = (unsigned int)rng_below(rng, 2);
	enum gm_chain_side which = side ? GM_CHAIN_WRITABLE : GM_CHAIN_READABLE;
	size_t left = m->sides[side].nr - m->sides[side].next;
	int rc;

	switch (rng_below(rng, 16)) {
	case 0:
	case 1:
	case 2:
		return chain_model_read(m, view, len, false);
	case 3:
		return chain_model_read(m, view, len, true);
	case 4:
	case 5:
	case 6:
		for (size_t i = 0; i < len; i++)
			buf[i] = (uint8_t)rng_next(rng);
		return chain_model_write(m, view, buf, 0, len);
	case 7:
		return chain_model_write(m, view, NULL, (uint8_t)rng_next(rng), len);
	case 8:
	case 9:
		return chain_model_copy(m, view, len);
	case 10:
	case 11:
		return chain_model_number(m, view, rng_next(rng));
	case 12:
		if (rng_below(rng, 4))
			return NULL;
		return chain_model_split(m, which, 10 * len, rng_below(rng, 2));
	case 13:
		if (rng_below(rng, 4))
			return NULL;
		gm_chain_limit(&m->chain, which, 10 * len);
		if (10 * len < left) {
			m->sides[side].total -= left - 10 * len;
			m->sides[side].nr = m->sides[side].next + 10 * len;
		}
		return NULL;
	default:
		rc = gm_chain_skip(&m->chain, which, len);
		if (rc != (len <= left ? 0 : side ? -ENOSPC : -ENODATA))
			return "skipping returns something else";
		if (!rc)
			m->sides[side].next += len;
		return NULL;
	}
}

/* NULL, or what is wrong. */
static inline const char *chain_model_run(
	struct chain_model *m, const struct gm_view *view, unsigned int steps, struct rng *rng)
{
	const char *wrong = chain_model_state(m);

	for (unsigned int i = 0; i < steps && !wrong; i++) {
		wrong = chain_model_step(m, view, rng);
		if (!wrong)
			wrong = chain_model_state(m);
	}
	return wrong;
}

#endif
