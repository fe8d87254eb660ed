/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * count_queue.c - what scripts/count has valgrind count: the instructions of a device for a request and for an address.
 *
 * usage: count_queue CASE NUMBER
 *
 * Counted is what served() and those of its sort do; the driver's part is not in them. With libdpdk's headers
 * (WITH_DPDK) the look-up that its devices make is counted beside ours, on as many regions.
 */
#include <guestmem/guestmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WITH_DPDK
#include <rte_vhost.h>
#endif

#define REGION (UINT64_C(1) << 21)
#define REGIONS_MAX 509u
#define RING_AT UINT64_C(0x10000)
#define BUFFERS_AT UINT64_C(0x100000)
#define NR 256u
#define COUNTED __attribute__((noinline, noclone))

static struct gm_space *space;
static struct gm_reader *reader;
static struct gm_virtq *vq;
static struct gm_virtq_driver *driver;
static volatile uintptr_t sink;

static void must(bool what)
{
	if (!what)
		abort();
}

/* With a gap behind each, as the regions of a guest with devices between them. */
static uint64_t region_at(uint32_t i)
{
	return i * 2 * REGION;
}

static void make_space(uint32_t nr)
{
	const struct gm_space_opts opts = {.size = sizeof(opts), .gpa_limit = UINT64_C(4) << 30};
	struct gm_region_desc *descs = calloc(nr, sizeof(*descs));

	must(descs != NULL);
	for (uint32_t i = 0; i < nr; i++) {
		const struct gm_block_opts block = {.size = sizeof(block), .len = REGION};

		descs[i] = (struct gm_region_desc){
			.size = sizeof(*descs), .gpa = region_at(i), .len = REGION};
		must(gm_block_create(&block, &descs[i].block, NULL) == 0);
	}
	must(gm_space_build(&opts, descs, nr, &space, NULL) == 0);
	for (uint32_t i = 0; i < nr; i++)
		gm_block_put(descs[i].block);
	free(descs);
	must(gm_reader_create(space, "count", &reader, NULL) == 0);
}

/* ---- an address ---- */

COUNTED static void translated(const struct gm_view *view, uint64_t gpa)
{
	void *hva;

	must(gm_view_find(view, gpa, 64, GM_PERM_RW, &hva) == 1);
	sink = (uintptr_t)hva;
}

COUNTED static void pinned(const struct gm_view *view, uint64_t gpa)
{
	struct iovec slice;
	struct gm_pin pin;

	must(gm_pin_slice(view, gpa, 64, GM_PERM_RW | GM_PIN_EXACT, &slice, &pin) == 0);
	sink = (uintptr_t)slice.iov_base;
	gm_pin_put(&pin);
}

static uint64_t some_address(uint64_t i, uint32_t nr)
{
	return region_at((uint32_t)(i * 211 % nr)) + i * 4096 % REGION;
}

static void count_addresses(
	uint32_t nr, uint64_t number, void (*counted)(const struct gm_view *view, uint64_t gpa))
{
	const struct gm_view *view;

	make_space(nr);
	view = gm_reader_enter(reader);
	for (uint64_t i = 0; i < number; i++)
		counted(view, some_address(i, nr));
	gm_reader_leave(reader);
}

#ifdef WITH_DPDK
COUNTED static void translated_by_dpdk(struct rte_vhost_memory *mem, uint64_t gpa)
{
	uint64_t len = 64;

	sink = rte_vhost_va_from_guest_pa(mem, gpa, &len);
	must(sink && len == 64);
}

static void count_dpdk(uint32_t nr, uint64_t number)
{
	struct rte_vhost_memory *mem = calloc(1, sizeof(*mem) + nr * sizeof(mem->regions[0]));

	must(mem != NULL);
	mem->nregions = nr;
	for (uint32_t i = 0; i < nr; i++) {
		mem->regions[i].guest_phys_addr = region_at(i);
		mem->regions[i].size = REGION;
		mem->regions[i].host_user_addr = UINT64_C(0x7f0000000000) + i * REGION;
	}
	for (uint64_t i = 0; i < number; i++)
		translated_by_dpdk(mem, some_address(i, nr));
	free(mem);
}
#endif

/* ---- a request ---- */

COUNTED static void served(const struct gm_view *view, uint32_t nr)
{
	struct gm_virtq_item items[32];
	struct gm_chain_elem elems[4];

	for (uint32_t i = 0; i < nr; i++)
		must(gm_virtq_pop(vq, view, elems, 4, &items[i], NULL) == 1);
	for (uint32_t i = 0; i < nr; i++)
		must(gm_virtq_fill(vq, view, &items[i], 1) == 0);
	must(gm_virtq_flush(vq, view) == 0);
	must(gm_virtq_wants_call(vq, view) >= 0);
}

static void offer(const struct gm_view *view, uint64_t i, bool table)
{
	const uint64_t at = BUFFERS_AT + i % 128 * 8192;
	const struct gm_chain_elem elems[3] = {
		{.gpa = at, .len = 16},
		{.gpa = at + 4096, .len = 4096, .flags = GM_CHAIN_WRITE},
		{.gpa = at + 16, .len = 1, .flags = GM_CHAIN_WRITE},
	};

	must(gm_virtq_driver_add(driver, view, elems, 3, table ? at + 64 : 0, &space) == 0);
}

static void count_requests(uint32_t flags, uint32_t batch, uint64_t number)
{
	const struct gm_virtq_opts opts = {
		.size = sizeof(opts),
		.desc = RING_AT,
		.driver = RING_AT + 0x4000,
		.device = RING_AT + 0x8000,
		.nr = NR,
		.flags = flags,
	};
	const struct gm_view *view;
	void *token;
	uint32_t len;

	make_space(1);
	view = gm_reader_enter(reader);
	must(gm_virtq_create(&opts, &vq, NULL) == 0);
	must(gm_virtq_driver_create(&opts, view, &driver, NULL) == 0);
	must(gm_virtq_start(vq, view, flags & GM_VIRTQ_PACKED ? 0x80008000u : 0, NULL) == 0);
	for (uint64_t i = 0; i < number; i += batch) {
		for (uint32_t j = 0; j < batch; j++)
			offer(view, i + j, flags & GM_VIRTQ_INDIRECT);
		must(gm_virtq_driver_show(driver, view) >= 0);
		served(view, batch);
		for (uint32_t j = 0; j < batch; j++)
			must(gm_virtq_driver_take(driver, view, &token, &len, NULL) == 1);
	}
	gm_reader_leave(reader);
	gm_virtq_destroy(vq);
	gm_virtq_driver_destroy(driver);
}

static int run(const char *name, uint64_t number)
{
	const struct {
		const char *name;
		uint32_t flags;
	} rings[] = {
		{"split", GM_VIRTQ_EVENT},
		{"packed", GM_VIRTQ_EVENT | GM_VIRTQ_PACKED},
		{"split-indirect", GM_VIRTQ_EVENT | GM_VIRTQ_INDIRECT},
		{"packed-indirect", GM_VIRTQ_EVENT | GM_VIRTQ_PACKED | GM_VIRTQ_INDIRECT},
	};
	uint32_t nr;
	char word[32];

	if (sscanf(name, "address-%u", &nr) == 1 && nr && nr <= REGIONS_MAX) {
		count_addresses(nr, number, translated);
		return 0;
	}
	if (sscanf(name, "pin-%u", &nr) == 1 && nr && nr <= REGIONS_MAX) {
		count_addresses(nr, number, pinned);
		return 0;
	}
#ifdef WITH_DPDK
	if (sscanf(name, "dpdk-%u", &nr) == 1 && nr && nr <= REGIONS_MAX) {
		count_dpdk(nr, number);
		return 0;
	}
#endif
	for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
		if (sscanf(name, "%31[^:]:%u", word, &nr) == 2 && nr && nr <= 32 &&
			strcmp(word, rings[i].name) == 0) {
			count_requests(rings[i].flags, nr, number);
			return 0;
		}
	}
	return 2;
}

int main(int argc, char **argv)
{
	int status = argc == 3 ? run(argv[1], strtoull(argv[2], NULL, 10)) : 2;

	if (status == 2)
		fprintf(stderr, "usage: count_queue {address-REGIONS | pin-REGIONS | dpdk-REGIONS "
				"| RING:BATCH} NUMBER\n");
	return status;
}
