/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bench_iommu.c - accesses through an IOMMU, against the same ones by guest address.
 *
 * usage: bench_iommu [--json FILE]
 *
 * N translations of 4 KiB at random IOVAs lead to as many pages, in random order; accesses go to one
 * after the other. What of it is the look-up shows in bench_iotlb.c. vm-memory has this from 0.15 on: the
 * figures that are quoted.
 */
#include <guestmem/guestmem.h>
#include <stdlib.h>

#include "bench.h"

#define PAGE UINT64_C(4096)
#define PAGES_MAX (UINT64_C(1) << 16)

struct device {
	struct gm_space *space;
	const struct gm_view *view;
	uint64_t *iovas; /* in the order of use */
	uint64_t *gpas;
	uint64_t nr;
	uint64_t cursor;
};

static struct gm_space *guest;
static const struct gm_view *guest_view;
static struct device one;
static struct device some;
static struct device many;
static struct device lots;

static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 2685821657736338717u;
}

static void make_guest(void)
{
	struct gm_block_opts ram = {.size = sizeof(ram),
		.len = PAGES_MAX * PAGE,
		.flags = GM_BLOCK_POPULATE,
		.pages = {{.kind = GM_PAGE_THP}, {.kind = GM_PAGE_BASE}}};
	const struct gm_region_desc desc = {.size = sizeof(desc), .backing = &ram};
	struct gm_reader *reader;
	struct gm_error err;

	bench_need(gm_space_build(NULL, &desc, 1, &guest, &err) == 0, "guest", err.text);
	bench_need(gm_reader_create(guest, "bench", &reader, &err) == 0, "reader", err.text);
	bench_need(gm_guard_install() == 0, "guard", NULL);
	guest_view = gm_reader_enter(reader);
}

/* One translation at a random place in each GiB, so that none joins its neighbour. */
static void make_device(struct device *device, uint64_t nr)
{
	const struct gm_space_opts over = {
		.size = sizeof(over), .gpa_limit = GM_SPACE_NO_WINDOW, .over = guest};
	const struct gm_iommu_opts opts = {.size = sizeof(opts), .capacity = (uint32_t)nr};
	struct gm_region_desc desc = {.size = sizeof(desc), .kind = GM_REGION_IOMMU};
	struct gm_reader *reader;
	struct gm_iommu *iommu;
	struct gm_error err;

	bench_need(gm_iommu_create(guest, &opts, &iommu, &err) == 0, "IOMMU", err.text);
	desc.iommu = iommu;
	bench_need(gm_space_build(&over, &desc, 1, &device->space, &err) == 0, "IOVAs", err.text);
	bench_need(
		gm_reader_create(device->space, "device", &reader, &err) == 0, "reader", err.text);
	device->view = gm_reader_enter(reader);
	device->nr = nr;
	device->iovas = calloc(nr, sizeof(uint64_t));
	device->gpas = calloc(nr, sizeof(uint64_t));
	bench_need(device->iovas && device->gpas, "lists", NULL);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t iova = (i << 30) + (next_random() >> 46) * PAGE;
		uint64_t gpa = (next_random() >> 48) % PAGES_MAX * PAGE;

		bench_need(gm_iommu_map(iommu, iova, PAGE, gpa, GM_PERM_RW, &err) == 0, "map",
			err.text);
		device->iovas[i] = iova + 64;
		device->gpas[i] = gpa + 64;
	}
	for (uint64_t i = nr - 1; i > 0; i--) {
		uint64_t j = next_random() % (i + 1);
		uint64_t iova = device->iovas[i];
		uint64_t gpa = device->gpas[i];

		device->iovas[i] = device->iovas[j];
		device->gpas[i] = device->gpas[j];
		device->iovas[j] = iova;
		device->gpas[j] = gpa;
	}
}

/* ---- accesses ---- */

static BENCH_INLINE void load(struct device *device, const struct gm_view *view,
	const uint64_t *addresses, uint64_t iters)
{
	uint64_t mask = device->nr - 1;
	uint64_t sum = 0;

	BENCH_ROUNDS(iters, uint16_t value;
		     if (gm_atomic_load_u16(view, addresses[device->cursor++ & mask],
				 __ATOMIC_RELAXED, &value)) abort();
		     sum += value;)
	bench_sink = sum;
}

static void load_by_iova(void *ctx, uint64_t iters)
{
	struct device *device = ctx;

	load(device, device->view, device->iovas, iters);
}

static void load_by_gpa(void *ctx, uint64_t iters)
{
	struct device *device = ctx;

	load(device, guest_view, device->gpas, iters);
}

static void copy(struct device *device, const struct gm_view *view, const uint64_t *addresses,
	uint64_t iters)
{
	static uint8_t buffer[512] __attribute__((aligned(64)));
	uint64_t mask = device->nr - 1;

	for (uint64_t i = 0; i < iters; i++) {
		if (gm_read(view, addresses[device->cursor++ & mask], buffer, sizeof(buffer), NULL))
			abort();
		__asm__ volatile("" ::: "memory");
	}
}

static void read_by_iova(void *ctx, uint64_t iters)
{
	struct device *device = ctx;

	copy(device, device->view, device->iovas, iters);
}

static void read_by_gpa(void *ctx, uint64_t iters)
{
	struct device *device = ctx;

	copy(device, guest_view, device->gpas, iters);
}

/* The look-up may take as long as the goal of the IOTLB says. */
#define LOAD(text, device, v18)                                                                    \
	{                                                                                          \
		.name = text, .ours = load_by_iova, .ours_ctx = device,                            \
		.against = "by guest address", .other = load_by_gpa, .other_ctx = device,          \
		.quoted = v18                                                                      \
	}
#define READ(text, device, v18)                                                                    \
	{                                                                                          \
		.name = text, .ours = read_by_iova, .ours_ctx = device,                            \
		.against = "by guest address", .other = read_by_gpa, .other_ctx = device,          \
		.quoted = v18                                                                      \
	}

static const struct bench_row rows[] = {
	LOAD("load of 2 bytes by IOVA, 1 translation", &one, 74),
	LOAD("load of 2 bytes by IOVA, 64 translations", &some, 109),
	LOAD("load of 2 bytes by IOVA, 1024 translations", &many, 259),
	LOAD("load of 2 bytes by IOVA, 65 536 translations", &lots, 669),
	READ("read 512 bytes by IOVA, 1 translation", &one, 103),
	READ("read 512 bytes by IOVA, 64 translations", &some, 157),
	READ("read 512 bytes by IOVA, 1024 translations", &many, 288),
	READ("read 512 bytes by IOVA, 65 536 translations", &lots, 676),
};

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	make_guest();
	make_device(&one, 1);
	make_device(&some, 64);
	make_device(&many, 1024);
	make_device(&lots, PAGES_MAX);
	bench_rows(rows, sizeof(rows) / sizeof(*rows));
	return bench_end();
}
