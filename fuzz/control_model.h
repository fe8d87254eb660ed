/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control_model.h - what each page of a guest must be after its requests, page by page and without a map.
 *
 * Pages from MODEL_BASE on: private memory, a memfd, a region with parts of four pages, ROM, and nothing behind.
 */
#ifndef GM_FUZZ_CONTROL_MODEL_H
#define GM_FUZZ_CONTROL_MODEL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <guestmem/control.h>

#define MODEL_PAGE UINT64_C(4096)
#define MODEL_BASE UINT64_C(0x100000)
#define MODEL_ANON 24u
#define MODEL_MEMFD 24u
#define MODEL_PARTS 16u
#define MODEL_ROM 4u
#define MODEL_RAM (MODEL_ANON + MODEL_MEMFD + MODEL_PARTS)
#define MODEL_PAGES (MODEL_RAM + MODEL_ROM)
#define MODEL_GRANULE 4u /* pages */
#define MODEL_MAX_PIECES 12u
#define MODEL_MAX_LOCKED (10 * MODEL_PAGE)
#define MODEL_MAX_LEN (40 * MODEL_PAGE)
#define MODEL_ANY 1 /* an answer that the kernel decides; nothing may change if it is no success */

/* No padding. */
struct model_attr {
	uint8_t prot; /* 0 normal, else the code */
	uint8_t locked;
	uint8_t merge;
	uint8_t nodump;
	uint8_t huge;
	uint8_t numa;
	uint8_t reserved[2];
	uint64_t name;
};

struct model_page {
	uint8_t byte;
	bool lazy; /* it may be zero by now */
	bool unplugged;
	struct model_attr attr;
};

struct model {
	struct model_page pages[MODEL_PAGES];
};

static inline unsigned int model_block(unsigned int page)
{
	return page < MODEL_ANON                 ? 0
	       : page < MODEL_ANON + MODEL_MEMFD ? 1
	       : page < MODEL_RAM                ? 2
						 : 3;
}

static inline bool model_is_ram(const struct model *m, unsigned int page)
{
	return page < MODEL_RAM && !m->pages[page].unplugged;
}

/* Stretches that differ, and bytes that are locked. */
static inline unsigned int model_pieces(const struct model *m)
{
	static const struct model_attr normal;
	unsigned int nr = 0;

	for (unsigned int i = 0; i < MODEL_RAM; i++) {
		const struct model_attr *a = &m->pages[i].attr;

		if (memcmp(a, &normal, sizeof(normal)) == 0)
			continue;
		nr += i == 0 || model_block(i) != model_block(i - 1) ||
		      memcmp(a, &m->pages[i - 1].attr, sizeof(*a)) != 0;
	}
	return nr;
}

static inline uint64_t model_locked(const struct model *m)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < MODEL_RAM; i++)
		bytes += m->pages[i].attr.locked ? MODEL_PAGE : 0;
	return bytes;
}

/* Is it one of (A)? Then *attr has it. */
static inline bool model_apply(const struct gm_control_request *r, struct model_attr *attr)
{
	switch (r->code) {
	case GM_CONTROL_DONTDUMP:
		attr->nodump = 1;
		return true;
	case GM_CONTROL_SET_NAME:
		attr->name = r->arg;
		return true;
	case GM_CONTROL_MLOCK:
	case GM_CONTROL_MUNLOCK:
		attr->locked = r->code == GM_CONTROL_MLOCK;
		return true;
	case GM_CONTROL_PROTECT_NONE:
	case GM_CONTROL_PROTECT_R:
	case GM_CONTROL_PROTECT_W:
		attr->prot = (uint8_t)r->code;
		return true;
	case GM_CONTROL_PROTECT_RW:
		attr->prot = 0;
		return true;
	case GM_CONTROL_MERGEABLE:
	case GM_CONTROL_UNMERGEABLE:
		attr->merge = (uint8_t)r->code;
		return true;
	case GM_CONTROL_HUGE:
	case GM_CONTROL_NOHUGE:
		attr->huge = r->code == GM_CONTROL_HUGE ? 1 : 2;
		return true;
	case GM_CONTROL_NUMA_BIND:
	case GM_CONTROL_NUMA_PREFER:
		attr->numa = r->code == GM_CONTROL_NUMA_BIND ? 1 : 2;
		return true;
	default:
		return false;
	}
}

/* What a memfd has not. */
static inline bool model_needs_private(uint64_t code)
{
	return code == GM_CONTROL_MERGEABLE || code == GM_CONTROL_UNMERGEABLE ||
	       code == GM_CONTROL_SET_NAME;
}

/* The first page and the number of pages of what passes the first checks; else an error. */
static inline int model_check(const struct model *m, const struct gm_control_request *r,
	unsigned int *first, unsigned int *nr)
{
	if ((r->code > 14 && r->code < GM_CONTROL_OWN) || r->code >= GM_CONTROL_TEXT_NAME)
		return -EOPNOTSUPP;
	if ((r->code == GM_CONTROL_NUMA_BIND || r->code == GM_CONTROL_NUMA_PREFER) && r->arg != 0)
		return -EPERM;
	*nr = 0;
	if (r->code == GM_CONTROL_INFO || r->code == GM_CONTROL_FEATURES)
		return 0;
	if (r->len == 0 || r->addr % MODEL_PAGE || r->len % MODEL_PAGE)
		return -EINVAL;
	if (r->len - 1 > UINT64_MAX - r->addr)
		return -ERANGE;
	if (r->len > MODEL_MAX_LEN)
		return -E2BIG;
	if (r->addr < MODEL_BASE || r->addr >= MODEL_BASE + MODEL_PAGES * MODEL_PAGE)
		return -EFAULT;
	*first = (unsigned int)((r->addr - MODEL_BASE) / MODEL_PAGE);
	*nr = (unsigned int)(r->len / MODEL_PAGE);
	for (unsigned int i = *first; i < *first + *nr; i++) {
		if (i >= MODEL_PAGES || !model_is_ram(m, i))
			return -EFAULT;
	}
	return 0;
}

static inline int model_attr_rc(const struct model *m, const struct model *next, unsigned int first,
	unsigned int nr, const struct gm_control_request *r)
{
	bool prot = false;

	if (r->code == GM_CONTROL_HUGE)
		return MODEL_ANY;
	for (unsigned int i = first; i < first + nr; i++) {
		if (model_block(i) == 1 && model_needs_private(r->code))
			return -ENOTSUP;
		prot |= m->pages[i].attr.prot != 0;
	}
	if (model_pieces(next) > MODEL_MAX_PIECES && model_pieces(next) > model_pieces(m))
		return -ENOSPC;
	if (r->code == GM_CONTROL_MLOCK && model_locked(next) > MODEL_MAX_LOCKED)
		return -ENOMEM;
	/* The kernel fills what it locks. It may have been built without names, and set not to give huge pages. */
	if ((r->code == GM_CONTROL_MLOCK && prot) || r->code == GM_CONTROL_SET_NAME)
		return MODEL_ANY;
	return 0;
}

/* What an operation on bytes is to answer, and does to them. */
static inline int model_bytes_rc(
	struct model *next, unsigned int first, unsigned int nr, uint64_t code)
{
	bool special = false;

	for (unsigned int i = first; i < first + nr; i++) {
		struct model_page *p = &next->pages[i];

		special |= p->attr.prot || p->attr.locked;
		if (code == GM_CONTROL_DONTNEED || code == GM_CONTROL_REMOVE)
			p->lazy = false;
		if (code == GM_CONTROL_DONTNEED || code == GM_CONTROL_REMOVE)
			p->byte = 0;
		if (code == GM_CONTROL_FREE)
			p->lazy = true;
	}
	switch (code) {
	case GM_CONTROL_POPULATE:
	case GM_CONTROL_PAGEOUT:
	case GM_CONTROL_COLD:
		return special ? MODEL_ANY : 0;
	case GM_CONTROL_COLLAPSE:
		return MODEL_ANY;
	default:
		return 0;
	}
}

/* What the answer must be; *next is what is there if it is a success. */
static inline int model_predict(
	const struct model *m, const struct gm_control_request *r, struct model *next)
{
	unsigned int first = 0;
	unsigned int nr = 0;
	bool is_attr = false;
	int rc = model_check(m, r, &first, &nr);

	*next = *m;
	if (rc || nr == 0)
		return rc;
	for (unsigned int i = first; i < first + nr; i++)
		is_attr = model_apply(r, &next->pages[i].attr);
	return is_attr ? model_attr_rc(m, next, first, nr, r)
		       : model_bytes_rc(next, first, nr, r->code);
}

#endif
