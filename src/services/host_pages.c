/* SPDX-License-Identifier: BSD-3-Clause */
/* host_pages.c - huge pages of both kinds, and the memory nodes they lie on. */
#include <stdio.h>

#include "services/host.h"
#include "services/text.h"
#include "sys/sys.h"

#define THP_DIR "/sys/kernel/mm/transparent_hugepage"
#define POOL_DIR "/sys/kernel/mm/hugepages"
#define NODE_DIR "/sys/devices/system/node"

static void probe_thp(struct gm_host *host)
{
	gm_text_file_word(THP_DIR "/enabled", host->thp_enabled, GM_HOST_WORD_MAX);
	gm_text_file_word(THP_DIR "/defrag", host->thp_defrag, GM_HOST_WORD_MAX);
	gm_text_file_word(THP_DIR "/shmem_enabled", host->shmem_enabled, GM_HOST_WORD_MAX);
	host->thp_page = gm_text_file_number(THP_DIR "/hpage_pmd_size");
	for (uint64_t size = host->base_page * 2; size <= UINT64_C(1) << 30; size *= 2) {
		struct gm_host_thp *thp = &host->thp[host->nr_thp];
		char path[128];

		if (host->nr_thp == GM_HOST_THP_MAX)
			return;
		snprintf(path, sizeof(path), THP_DIR "/hugepages-%llukB/enabled",
			(unsigned long long)(size / 1024));
		gm_text_file_word(path, thp->enabled, GM_HOST_WORD_MAX);
		snprintf(path, sizeof(path), THP_DIR "/hugepages-%llukB/shmem_enabled",
			(unsigned long long)(size / 1024));
		gm_text_file_word(path, thp->shmem_enabled, GM_HOST_WORD_MAX);
		if (!thp->enabled[0] && !thp->shmem_enabled[0])
			continue;
		thp->page_size = size;
		host->nr_thp++;
	}
}

static uint64_t pool_number(const char *dir, uint64_t page_size, const char *file)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/hugepages-%llukB/%s", dir,
		(unsigned long long)(page_size / 1024), file);
	return gm_text_file_number(path);
}

static void probe_pools(struct gm_host *host)
{
	/* No list of directories is needed: sizes are powers of two, and few. */
	for (uint64_t size = host->base_page * 2; size <= UINT64_C(1) << 40; size *= 2) {
		struct gm_host_pool pool = {.page_size = size};

		pool.total = pool_number(POOL_DIR, size, "nr_hugepages");
		if (pool.total == GM_TEXT_UNKNOWN)
			continue;
		pool.free = pool_number(POOL_DIR, size, "free_hugepages");
		pool.reserved = pool_number(POOL_DIR, size, "resv_hugepages");
		pool.surplus = pool_number(POOL_DIR, size, "surplus_hugepages");
		pool.overcommit = pool_number(POOL_DIR, size, "nr_overcommit_hugepages");
		if (host->nr_pools < GM_HOST_POOLS_MAX)
			host->pools[host->nr_pools++] = pool;
	}
}

static void probe_hvo(struct gm_host *host)
{
	uint64_t on = gm_text_file_number("/proc/sys/vm/hugetlb_optimize_vmemmap");

	if (on != GM_TEXT_UNKNOWN)
		host->hvo = on ? GM_HOST_YES : GM_HOST_NO;
}

static void probe_node(void *arg, uint32_t number)
{
	struct gm_host *host = arg;
	struct gm_host_node *node;
	char text[4096];
	char path[64];
	char key[48];

	host->nr_nodes_online++;
	if (host->nr_nodes == GM_HOST_NODES_MAX)
		return;
	node = &host->nodes[host->nr_nodes++];
	node->node = number;
	node->total = GM_TEXT_UNKNOWN;
	node->free = GM_TEXT_UNKNOWN;
	snprintf(path, sizeof(path), NODE_DIR "/node%u/meminfo", number);
	if (gm_sys_read_text(path, text, sizeof(text)) > 0) {
		snprintf(key, sizeof(key), "Node %u MemTotal:", number);
		node->total = gm_text_field(text, key);
		snprintf(key, sizeof(key), "Node %u MemFree:", number);
		node->free = gm_text_field(text, key);
	}
	snprintf(path, sizeof(path), NODE_DIR "/node%u/hugepages", number);
	for (uint32_t i = 0; i < host->nr_pools; i++) {
		uint64_t size = host->pools[i].page_size;

		node->huge_total[i] = pool_number(path, size, "nr_hugepages");
		node->huge_free[i] = pool_number(path, size, "free_hugepages");
	}
}

void gm_host_probe_pages(struct gm_host *host)
{
	char text[4096];

	probe_thp(host);
	probe_pools(host);
	probe_hvo(host);
	/* Without NUMA in the kernel there is no such directory and the nodes stay unknown. */
	if (gm_sys_read_text(NODE_DIR "/has_memory", text, sizeof(text)) > 0)
		gm_text_list(text, probe_node, host);
}
