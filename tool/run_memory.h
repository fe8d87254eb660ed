/* SPDX-License-Identifier: BSD-3-Clause */
/* run_memory.h - the memory that "guestmem run" runs on: a space with what is measured, and data for the program. */
#ifndef TOOL_RUN_MEMORY_H
#define TOOL_RUN_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include <guestmem/guestmem.h>

#include "memory_options.h"

struct run_memory_opts {
	uint64_t size;
	struct memory_pages pages;
	struct memory_backing backing;
	struct gm_numa numa;
	bool share;
	bool populate;
	bool behind;       /* not when it is made: later, by somebody else */
	const char *data;  /* file, or NULL */
	uint64_t data_len; /* without a file: room for so much, which others fill */
};

struct run_memory {
	struct gm_space *space;
	struct gm_reader *reader;
	struct gm_block_info info; /* of the block that is measured */
	uint64_t gpa;
	uint64_t len;
	uint64_t hva;
	uint64_t data_gpa;
	uint64_t data_len;
	uint64_t data_hva;
	uint64_t free_gpa; /* nothing lies from here on, a multiple of 1 GiB */
	bool taken;        /* from another process: its regions are there, and what they hold */
	bool has_tables;   /* of a machine: low memory too */
	uint64_t tables_len;
	double seconds; /* that making it took */
};

/* False after a message. Given back by run_memory_fini(), also then. */
bool run_memory_init(struct run_memory *memory, const struct run_memory_opts *opts);
void run_memory_fini(struct run_memory *memory);

/* A region of a guest that comes from another process. */
struct run_memory_place {
	uint64_t gpa;
	uint64_t len;
	uint64_t page_size;
	int fd; /* its memory, or -1 */
	uint64_t fd_off;
};

/* ---- run_take.c ---- */
#define RUN_MEMORY_PLACES_MAX 4u

/*
 * Makes memory for these, which are judged: low memory, what is measured, data, page tables, of which a guest in
 * threads has the second and third. Of the options pages, backing, placement and sharing count. 0, or a negative errno
 * value after a message, with its words for the other end in @why.
 */
int run_memory_take(struct run_memory *memory, const struct run_memory_opts *opts,
	const struct run_memory_place *places, size_t nr, char *why, size_t cap);

/* Parts of run_memory_init(). False after a message. */
bool run_memory_space(struct run_memory *memory, uint64_t size);
bool run_memory_look(struct run_memory *memory);

/* A text of the library's without what only its callers can do. */
void run_memory_words(char *text);

/* A region of zeroed base pages at @gpa, a multiple of the page. False after a message. */
bool run_memory_add(struct run_memory *memory, uint64_t gpa, uint64_t len, const char *name);
/* Both: false after a message that names @what. */
bool run_memory_write(
	struct run_memory *memory, uint64_t gpa, const void *from, size_t len, const char *what);
bool run_memory_read(
	struct run_memory *memory, uint64_t gpa, void *to, size_t len, const char *what);

#endif
