/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * guest.h - a small guest for tests: memory with every kind of edge, and a naive model of it.
 *
 * Neighbours, a read-only and a write-only page, a hole and a page that ends at 2^64, laid out in
 * several ways; the answers of the library must be the same in each.
 */
#ifndef GM_TESTS_GUEST_H
#define GM_TESTS_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <guestmem/guestmem.h>

#define PAGE ((size_t)4096)
#define TOP_PAGE (UINT64_MAX - (PAGE - 1))

enum layout {
	HOT,       /* neighbours merged; the low memory is asked before the table */
	HOT_TOP,   /* the page that ends at 2^64 is */
	MERGED,    /* neighbours merged, no hot span */
	PLACED,    /* a span for each page */
	WATCHED,   /* placed, but every access has to go through the library */
	SCATTERED, /* each page somewhere else: the general look-up */
	NR_LAYOUTS,
};

/* The view of the present layout, over memory that starts as zeros. */
extern const struct gm_view *guest_view;

bool guest_init(void);
void guest_lay_out(enum layout layout);

/* Fresh contents, the same in memory and in the model: zeros or a pattern. */
void guest_fill(bool zero);
/* Memory and model are the same; a cmocka assertion. */
void guest_check(void);

/* What an access to a range must return, and how many bytes it does. */
int guest_expect(uint64_t gpa, uint64_t len, uint32_t perms, uint64_t *ret_done);
/* The model's bytes; all of them are mapped. */
void guest_model_read(uint64_t gpa, uint8_t *buf, uint64_t len);
void guest_model_write(uint64_t gpa, const uint8_t *buf, uint64_t len);

/* Addresses around every edge, and lengths up to every other one. */
#define GUEST_NR_LENS 37
extern uint64_t guest_gpas[];
extern size_t guest_nr_gpas;
extern const uint64_t guest_lens[GUEST_NR_LENS];

/*
 * Calls the check for each address with each length: those of the list, and those that end at 2^64
 * or one before or behind.
 */
void guest_for_each_case(void (*check)(uint64_t gpa, uint64_t len));

/* A number of @size bytes in @value, the rest of it cleared. */
uint64_t guest_cut(uint64_t value, size_t size);

#endif
