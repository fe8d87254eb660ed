/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access_guest.h - for fuzz_access.c: a small guest with memory of every sort, and bytes that say what
 * must be in it.
 *
 * It stays between inputs; what one has changed is put back before the next. The model looks at each byte by
 * itself: which byte of the shadow an address leads to, or why it leads to none.
 */
#ifndef GM_FUZZ_ACCESS_GUEST_H
#define GM_FUZZ_ACCESS_GUEST_H

#include <errno.h>
#include <guestmem/guestmem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is to be covered is the library. */
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#endif

#define PAGE 4096u
#define NR_PAGES 13u
#define TOP_PAGE (UINT64_MAX - (PAGE - 1))
#define UNIT 256u /* of IOVAs */
#define NR_UNITS 256u
#define ROOM 4500u /* most bytes of one access */

enum sort {
	PLAIN,
	DEVMEM,
	BY_ADDRESS, /* of a backend */
	BY_MESSAGE,
	IN_FILE,
};

static const struct part {
	uint64_t gpa;
	unsigned int pages;
	uint32_t perms;
	enum sort sort;
	unsigned int page; /* of the shadow */
} parts[] = {
	{0x0000, 4, GM_PERM_RW, PLAIN, 0},
	{0x4000, 1, GM_PERM_R, PLAIN, 4},
	{0x5000, 1, GM_PERM_W, PLAIN, 5},
	/* 0x6000: nothing */
	{0x7000, 2, GM_PERM_RW, PLAIN, 1}, /* once more */
	{0x9000, 2, GM_PERM_RW, BY_ADDRESS, 6},
	{0xb000, 1, GM_PERM_RW, BY_MESSAGE, 8},
	{0xc000, 1, GM_PERM_RW, DEVMEM, 9},
	{0xd000, 1, GM_PERM_RW, IN_FILE, 10},
	{0xe000, 1, GM_PERM_RW, PLAIN, 11},
	{TOP_PAGE, 1, GM_PERM_RW, PLAIN, 12},
};
#define NR_PARTS (sizeof(parts) / sizeof(parts[0]))

/* Where a unit of IOVAs leads to; no permissions: nowhere. */
struct unit {
	uint64_t gpa;
	uint32_t perms;
};

static struct {
	struct gm_space *space;
	struct gm_space *iova;
	struct gm_iommu *iommu;
	struct gm_reader *readers[2];
	const struct gm_view *views[2]; /* by guest address, by IOVA */
	int file;
	uint8_t *host[NR_PAGES];         /* NULL: in the file */
	uint8_t first[NR_PAGES * PAGE];  /* what each input finds */
	uint8_t shadow[NR_PAGES * PAGE]; /* what must be there */
	bool written[NR_PAGES];
	struct unit units[NR_UNITS];
	bool remapped;
} guest;

static void must(bool what)
{
	if (!what)
		abort();
}

/* ---- the model ---- */

static const struct part *part_at(uint64_t gpa)
{
	for (size_t i = 0; i < NR_PARTS; i++) {
		if (gpa - parts[i].gpa < parts[i].pages * PAGE)
			return &parts[i];
	}
	return NULL;
}

/*
 * A byte of the shadow, or NULL and the reason. *ret_run is how many bytes go on from it, at most @len;
 * *ret_part may be NULL.
 */
static uint8_t *run_at(bool iova, uint64_t addr, uint64_t len, uint32_t perms, int *rc,
	const struct part **ret_part, uint64_t *ret_run)
{
	const struct part *part;

	*rc = -EFAULT;
	if (iova) {
		const struct unit *unit = &guest.units[addr / UNIT % NR_UNITS];

		if (addr / UNIT >= NR_UNITS || !unit->perms)
			return NULL;
		*rc = perms & ~unit->perms ? -EACCES : -EFAULT;
		if (*rc == -EACCES)
			return NULL;
		if (len > UNIT - addr % UNIT)
			len = UNIT - addr % UNIT;
		addr = unit->gpa + addr % UNIT;
	}
	part = part_at(addr);
	if (!part)
		return NULL;
	*rc = perms & ~part->perms ? -EACCES : 0;
	*ret_part = part;
	if (len > part->pages * PAGE - (addr - part->gpa))
		len = part->pages * PAGE - (addr - part->gpa);
	*ret_run = len;
	return *rc ? NULL : &guest.shadow[part->page * PAGE + (addr - part->gpa)];
}

static uint8_t *byte_at(
	bool iova, uint64_t addr, uint32_t perms, int *rc, const struct part **ret_part)
{
	const struct part *part;
	uint64_t run;

	return run_at(iova, addr, 1, perms, rc, ret_part ? ret_part : &part, &run);
}

/* Bytes of a range, and in @at where they are, up to the first that cannot be had; *rc says why. */
static size_t reach(bool iova, uint64_t addr, uint64_t len, uint32_t perms, uint8_t **at, int *rc)
{
	const struct part *part;
	uint64_t run;
	size_t n = 0;

	*rc = 0;
	if (len && len - 1 > UINT64_MAX - addr) {
		*rc = -ERANGE;
		return 0;
	}
	if (len == 0)
		byte_at(iova, addr, perms, rc, NULL);
	while (n < len) {
		uint8_t *first = run_at(iova, addr + n, len - n, perms, rc, &part, &run);

		if (!first)
			break;
		for (uint64_t i = 0; i < run; i++)
			at[n + i] = first + i;
		n += run;
	}
	return n;
}

static void shadow_set(uint8_t *at, uint8_t byte)
{
	*at = byte;
	guest.written[(size_t)(at - guest.shadow) / PAGE] = true;
}

/* ---- backends ---- */

static uint8_t by_address[2 * PAGE] __attribute__((aligned(PAGE)));
static uint8_t by_message[PAGE] __attribute__((aligned(PAGE)));
static uint8_t bar[PAGE] __attribute__((aligned(PAGE)));

/* A page at most. */
static int on_translate(
	void *ctx, uint64_t off, uint64_t len, uint32_t perms, struct gm_backend_piece *ret)
{
	uint64_t room = PAGE - off % PAGE;

	(void)ctx;
	must(off < sizeof(by_address) && len <= sizeof(by_address) - off);
	*ret = (struct gm_backend_piece){
		.hva = by_address + off, .len = len < room ? len : room, .perms = perms};
	return 0;
}

/* 100 bytes at most. */
static int on_read(void *ctx, uint64_t off, void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	must(off < PAGE && len <= PAGE - off);
	*ret_done = len < 100 ? len : 100;
	memcpy(buf, by_message + off, *ret_done);
	return 0;
}

static int on_write(void *ctx, uint64_t off, const void *buf, size_t len, size_t *ret_done)
{
	(void)ctx;
	must(off < PAGE && len <= PAGE - off);
	*ret_done = len < 100 ? len : 100;
	memcpy(by_message + off, buf, *ret_done);
	return 0;
}

static uint64_t combine(uint32_t op, uint64_t was, uint64_t value, uint64_t expected)
{
	switch (op) {
	case GM_BACKEND_FETCH_ADD:
		return was + value;
	case GM_BACKEND_FETCH_AND:
		return was & value;
	case GM_BACKEND_FETCH_OR:
		return was | value;
	case GM_BACKEND_FETCH_XOR:
		return was ^ value;
	case GM_BACKEND_CMPXCHG:
		return was == expected ? value : was;
	default:
		return value;
	}
}

static int on_atomic(
	void *ctx, uint32_t op, uint64_t off, uint32_t size, uint64_t value, uint64_t *seen)
{
	uint64_t was = 0;

	(void)ctx;
	must(off < PAGE && off % size == 0);
	memcpy(&was, by_message + off, size);
	value = combine(op, was, value, *seen);
	memcpy(by_message + off, &value, size);
	*seen = was;
	return 0;
}

/* ---- setting up ---- */

static void add(uint64_t gpa, uint32_t kind, uint32_t perms, const struct gm_block_opts *opts)
{
	struct gm_region_desc desc = {
		.size = sizeof(desc), .gpa = gpa, .kind = kind, .perms = perms, .backing = opts};

	must(gm_space_add(guest.space, &desc, NULL, NULL) == 0);
}

static void add_alias(uint64_t gpa, uint64_t of)
{
	struct gm_region_info info = {.size = sizeof(info)};
	struct gm_region_desc desc = {.size = sizeof(desc),
		.gpa = gpa,
		.len = 2 * PAGE,
		.kind = GM_REGION_ALIAS,
		.block_off = of};

	must(gm_space_next(guest.space, 0, &info) == 0);
	desc.target = info.id;
	must(gm_space_add(guest.space, &desc, NULL, NULL) == 0);
}

static void add_backends(void)
{
	const struct gm_backend_ops translate = {
		.size = sizeof(translate), .translate = on_translate};
	const struct gm_backend_ops message = {
		.size = sizeof(message), .read = on_read, .write = on_write, .atomic = on_atomic};
	struct gm_block_opts opts = {.size = sizeof(opts),
		.len = 2 * PAGE,
		.backing = GM_BACKING_OPS,
		.ops = &translate};

	add(0x9000, GM_REGION_RAM, GM_PERM_RW, &opts);
	opts.len = PAGE;
	opts.ops = &message;
	add(0xb000, GM_REGION_RAM, GM_PERM_RW, &opts);
}

static void add_parts(void)
{
	struct gm_block_opts opts = {.size = sizeof(opts), .len = 4 * PAGE};

	guest.file = memfd_create("fuzz", MFD_CLOEXEC);
	must(guest.file >= 0 && ftruncate(guest.file, PAGE) == 0);
	add(0x0000, GM_REGION_RAM, GM_PERM_RW, &opts);
	opts.len = PAGE;
	add(0x4000, GM_REGION_ROM, GM_PERM_R, &opts);
	add(0x5000, GM_REGION_RAM, GM_PERM_W, &opts);
	add_alias(0x7000, PAGE);
	add_backends();
	opts.backing = GM_BACKING_POINTER;
	opts.addr = guest.host[9] = bar;
	add(0xc000, GM_REGION_DEVMEM, GM_PERM_RW, &opts);
	opts = (struct gm_block_opts){.size = sizeof(opts),
		.len = PAGE,
		.backing = GM_BACKING_FD,
		.fd = guest.file,
		.flags = GM_BLOCK_UNMAPPED};
	add(0xd000, GM_REGION_RAM, GM_PERM_RW, &opts);
	opts = (struct gm_block_opts){.size = sizeof(opts), .len = PAGE, .flags = GM_BLOCK_SHARE};
	add(0xe000, GM_REGION_RAM, GM_PERM_RW, &opts);
	add(TOP_PAGE, GM_REGION_RAM, GM_PERM_RW, &opts);
}

static void find_hosts(void)
{
	for (size_t i = 0; i < NR_PARTS; i++) {
		struct gm_region_info info = {.size = sizeof(info)};
		const struct part *part = &parts[i];

		must(gm_space_next(guest.space, part->gpa, &info) == 0);
		for (unsigned int j = 0; part->sort == PLAIN && j < part->pages; j++)
			guest.host[part->page + j] =
				(uint8_t *)info.hva + (part->gpa - info.gpa) + j * PAGE;
	}
	guest.host[6] = by_address;
	guest.host[7] = by_address + PAGE;
	guest.host[8] = by_message;
}

static void guest_start(void)
{
	struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = GM_SPACE_NO_WINDOW};
	struct gm_region_desc desc = {.size = sizeof(desc), .kind = GM_REGION_IOMMU};

	must(gm_space_create(NULL, &guest.space, NULL) == 0);
	add_parts();
	opts.over = guest.space;
	must(gm_space_create(&opts, &guest.iova, NULL) == 0);
	must(gm_iommu_create(guest.space, NULL, &guest.iommu, NULL) == 0);
	desc.iommu = guest.iommu;
	must(gm_space_add(guest.iova, &desc, NULL, NULL) == 0);
	must(gm_reader_create(guest.space, "fuzz", &guest.readers[0], NULL) == 0);
	must(gm_reader_create(guest.iova, "fuzz", &guest.readers[1], NULL) == 0);
	find_hosts();
	for (size_t i = 0; i < sizeof(guest.first); i++)
		guest.first[i] = (uint8_t)(i * 7 + i / 256 + 1);
	memset(guest.written, 1, sizeof(guest.written));
	guest.remapped = true;
}

static void map_units(uint64_t first, uint64_t nr, uint64_t gpa, uint32_t perms)
{
	uint64_t iova = first * UNIT;

	if (perms)
		must(gm_iommu_map(guest.iommu, iova, nr * UNIT, gpa, perms, NULL) == 0);
	else
		must(gm_iommu_unmap(guest.iommu, iova, nr * UNIT) == 0);
	for (uint64_t i = 0; i < nr; i++)
		guest.units[first + i] = (struct unit){gpa + i * UNIT, perms};
}

/* What the last input has changed is as it was. */
static void guest_reset(void)
{
	if (guest.remapped) {
		map_units(0, NR_UNITS, 0, 0);
		map_units(0, 32, 0x1000, GM_PERM_RW);
		map_units(32, 16, 0x9fe0, GM_PERM_RW);
		map_units(48, 16, 0x3003, GM_PERM_RW);
		map_units(64, 16, 0x0800, GM_PERM_R);
		map_units(80, 48, 0xb000, GM_PERM_RW);
	}
	guest.remapped = false;
	for (unsigned int i = 0; i < NR_PAGES; i++) {
		const uint8_t *first = guest.first + i * PAGE;

		if (!guest.written[i])
			continue;
		memcpy(guest.shadow + i * PAGE, first, PAGE);
		if (guest.host[i])
			memcpy(guest.host[i], first, PAGE);
		else
			must(pwrite(guest.file, first, PAGE, 0) == PAGE);
		guest.written[i] = false;
	}
}

/* Everything is as the shadow says. */
static void guest_check(void)
{
	for (unsigned int i = 0; i < NR_PAGES; i++) {
		const uint8_t *is = guest.host[i];
		uint8_t back[PAGE];

		if (!is && !guest.written[i])
			continue;
		if (!is)
			must(pread(guest.file, back, PAGE, 0) == PAGE);
		must(memcmp(is ? is : back, guest.shadow + i * PAGE, PAGE) == 0);
	}
}

#endif
